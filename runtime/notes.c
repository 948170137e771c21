/* Counts of what is wrong with rows, with the first examples; the hashes of the data layer. */
#include "data_impl.h"

#include <string.h>

/* Cuts a value for a message: at most cap - 1 bytes, whole characters, control characters as spaces. */
static void
cut_text(char *out, size_t cap, const char *s)
{
	size_t n = strlen(s);
	if (n >= cap) {
		n = cap - 4;
		while (n && ((unsigned char)s[n] & 0xc0) == 0x80)
			n--;
		memcpy(out, s, n);
		strcpy(out + n, "...");
	} else {
		strcpy(out, s);
	}
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20)
			*p = ' ';
}

void
issue_add(Issue *s, int64_t line, const char *text)
{
	if (s->n < (int64_t)LEN(s->first)) {
		s->first[s->n].line = line;
		cut_text(s->first[s->n].text, sizeof s->first[0].text, text ? text : "");
	}
	s->n++;
}

void
issue_puts(Text *t, const char *file, const Issue *s)
{
	int64_t n = s->n < (int64_t)LEN(s->first) ? s->n : (int64_t)LEN(s->first);
	bool shown = false;
	for (int64_t i = 0; i < n; i++) {
		if (!s->first[i].line && !s->first[i].text[0])
			continue;
		text_puts(t, shown ? ", " : " (");
		shown = true;
		if (s->first[i].line)
			text_printf(t, "%s:%lld%s", file, (long long)s->first[i].line, s->first[i].text[0] ? " " : "");
		if (s->first[i].text[0])
			text_printf(t, "'%s'", s->first[i].text);
	}
	if (shown)
		text_puts(t, s->n > n ? ", ...)" : ")");
}

void
dims_puts(Text *t, const int64_t *dim, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		text_printf(t, "%s%lld", i ? ", " : "[", (long long)dim[i]);
	text_puts(t, "]");
}

uint64_t
mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

uint64_t
hash_word(const char *s, size_t n)
{
	return mix64(hash_bytes(HASH_INIT, s, n));
}

/* Four lanes hide the latency of the multiplications. Each lane step is a bijection of the lane for a
   given word, and of the word for a given lane, so a change within one word always shows in its lane. */
uint64_t
hash_block(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;
	uint64_t lane[4], w;
	size_t i = 0, total = n;
	for (int k = 0; k < 4; k++)
		lane[k] = mix64(h + (uint64_t)k);
	for (; n - i >= 32; i += 32) {
		for (int k = 0; k < 4; k++) {
			memcpy(&w, s + i + 8 * k, 8);
			w = (lane[k] ^ w) * 0x9fb21c651e98df25ull;
			lane[k] = w ^ (w >> 29);
		}
	}
	for (int k = 0; i < n; i += 8, k++) {
		w = 0;
		memcpy(&w, s + i, n - i < 8 ? n - i : 8);
		w = (lane[k] ^ w) * 0x9fb21c651e98df25ull;
		lane[k] = w ^ (w >> 29);
	}
	w = total;
	for (int k = 0; k < 4; k++)
		w = mix64(w ^ lane[k]);
	return w;
}
