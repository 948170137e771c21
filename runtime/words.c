/* UTF-8, lower case, and words.

   A word is a run of letters, digits and '_', lower-cased. '#' or '@' before a letter or digit stays with
   the word: "#fyp", "@name". Writing without spaces (CJK ideographs, kana, bopomofo) and symbols (emoji,
   arrows, dingbats) are one word a character; after '#' or '@' ideographs and kana join the word, since a
   tag is one thing. Variation selectors, joiners and skin tones vanish. All else separates words.

   Lower case and classes are the ranges below, not the full Unicode tables: they cover Latin, Greek, Cyrillic,
   Armenian and full-width forms, and they never change, so a word has the same id for ever. */
#include "data_impl.h"

#include <jansson.h>
#include <string.h>

/* Length of the valid sequence at s (n bytes left), 0 if invalid (RFC 3629), and its code point. */
static size_t
utf8_decode(const unsigned char *s, size_t n, uint32_t *cp)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = s[0];
	size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	if (len < 2) {
		*cp = c;
		return len;
	}
	if (n < len)
		return 0;
	c &= 0x7fu >> len;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	*cp = c;
	return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
}

static void
utf8_put(Text *t, uint32_t c)
{
	char b[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
	for (size_t i = n; i-- > 1; c >>= 6)
		b[i] = (char)(0x80 | (c & 0x3f));
	b[0] = (char)(lead[n] | c);
	text_add(t, b, n);
}

size_t
utf8_prefix(const char *s, size_t n)
{
	const unsigned char *u = (const unsigned char *)s;
	uint32_t c;
	size_t i = 0, len;
	while (i < n) {
		if (u[i] - 1u < 0x7f) {
			i++;
			continue;
		}
		len = utf8_decode(u + i, n - i, &c);
		if (!len || !c)
			break;
		i += len;
	}
	return i;
}

/* Upper case in [lo, hi]: ADD adds by; EVEN, ODD: the even (odd) one of each pair is upper case, the next is lower. */
enum { ADD, EVEN, ODD };
static const struct {
	uint32_t lo, hi;
	int rule, by;
} lower_rules[] = {
	{'A', 'Z', ADD, 32},       {0xc0, 0xd6, ADD, 32},     {0xd8, 0xde, ADD, 32},     {0x100, 0x12f, EVEN, 0},
	{0x130, 0x130, ADD, 'i' - 0x130}, {0x132, 0x137, EVEN, 0}, {0x139, 0x148, ODD, 0}, {0x14a, 0x177, EVEN, 0},
	{0x178, 0x178, ADD, -0x79}, {0x179, 0x17e, ODD, 0},   {0x1cd, 0x1dc, ODD, 0},    {0x1de, 0x1ef, EVEN, 0},
	{0x1f8, 0x21f, EVEN, 0},   {0x222, 0x233, EVEN, 0},   {0x386, 0x386, ADD, 38},   {0x388, 0x38a, ADD, 37},
	{0x38c, 0x38c, ADD, 64},   {0x38e, 0x38f, ADD, 63},   {0x391, 0x3a1, ADD, 32},   {0x3a3, 0x3ab, ADD, 32},
	{0x400, 0x40f, ADD, 80},   {0x410, 0x42f, ADD, 32},   {0x460, 0x481, EVEN, 0},   {0x48a, 0x4bf, EVEN, 0},
	{0x4c0, 0x4c0, ADD, 15},   {0x4c1, 0x4ce, ODD, 0},    {0x4d0, 0x52f, EVEN, 0},   {0x531, 0x556, ADD, 48},
	{0x1e00, 0x1e95, EVEN, 0}, {0x1ea0, 0x1eff, EVEN, 0}, {0xff21, 0xff3a, ADD, 32},
};

static uint32_t
lower(uint32_t c)
{
	if (c < 0x80)
		return c - 'A' < 26u ? c + 32 : c;
	for (size_t i = 0; i < LEN(lower_rules) && c >= lower_rules[i].lo; i++) {
		if (c > lower_rules[i].hi)
			continue;
		if (lower_rules[i].rule == ADD)
			return (uint32_t)((int)c + lower_rules[i].by);
		return c + ((c & 1) == (lower_rules[i].rule == ODD));
	}
	return c;
}

enum { LETTER, SEPARATOR, SINGLE, SYMBOL, IGNORED };
/* Classes at and above 0x80, in order; what no range holds is a LETTER. */
static const struct {
	uint32_t lo, hi;
	int class;
} classes[] = {
	{0x80, 0xa9, SEPARATOR},      {0xab, 0xac, SEPARATOR},      {0xad, 0xad, IGNORED},
	{0xae, 0xb4, SEPARATOR},      {0xb6, 0xb9, SEPARATOR},      {0xbb, 0xbf, SEPARATOR},
	{0xd7, 0xd7, SEPARATOR},      {0xf7, 0xf7, SEPARATOR},      {0x37e, 0x37e, SEPARATOR},
	{0x387, 0x387, SEPARATOR},    {0x55a, 0x55f, SEPARATOR},    {0x589, 0x58a, SEPARATOR},
	{0x60c, 0x60d, SEPARATOR},    {0x61b, 0x61f, SEPARATOR},    {0x640, 0x640, IGNORED},
	{0x66a, 0x66d, SEPARATOR},    {0x6d4, 0x6d4, SEPARATOR},    {0x964, 0x965, SEPARATOR},
	{0xe3f, 0xe3f, SEPARATOR},    {0x2000, 0x200b, SEPARATOR},  {0x200c, 0x200f, IGNORED},
	{0x2010, 0x2029, SEPARATOR},  {0x202a, 0x202e, IGNORED},    {0x202f, 0x205f, SEPARATOR},
	{0x2060, 0x206f, IGNORED},    {0x2070, 0x20cf, SEPARATOR},  {0x20d0, 0x20ff, IGNORED},
	{0x2122, 0x2122, SEPARATOR},  {0x2190, 0x2bff, SYMBOL},     {0x2e00, 0x2e7f, SEPARATOR},
	{0x2e80, 0x2fdf, SINGLE},     {0x2ff0, 0x3004, SEPARATOR},  {0x3005, 0x3007, SINGLE},
	{0x3008, 0x303f, SEPARATOR},  {0x3040, 0x30fa, SINGLE},     {0x30fb, 0x30fb, SEPARATOR},
	{0x30fc, 0x312f, SINGLE},     {0x31a0, 0x31ff, SINGLE},     {0x3200, 0x33ff, SYMBOL},
	{0x3400, 0x4dbf, SINGLE},     {0x4e00, 0x9fff, SINGLE},     {0xe000, 0xf8ff, SEPARATOR},
	{0xf900, 0xfaff, SINGLE},     {0xfe00, 0xfe0f, IGNORED},    {0xfe10, 0xfe6f, SEPARATOR},
	{0xfeff, 0xfeff, IGNORED},    {0xff01, 0xff0f, SEPARATOR},  {0xff1a, 0xff20, SEPARATOR},
	{0xff3b, 0xff40, SEPARATOR},  {0xff5b, 0xff65, SEPARATOR},  {0xff66, 0xff9f, SINGLE},
	{0xffe0, 0xffff, SEPARATOR},  {0x1f000, 0x1f3fa, SYMBOL},   {0x1f3fb, 0x1f3ff, IGNORED},
	{0x1f400, 0x1faff, SYMBOL},   {0x20000, 0x3ffff, SINGLE},   {0xe0000, 0xe0fff, IGNORED},
	{0xf0000, 0x10ffff, SEPARATOR},
};

static int
classify(uint32_t c)
{
	if (c < 0x80)
		return (c | 32) - 'a' < 26u || c - '0' < 10u || c == '_' ? LETTER : SEPARATOR;
	size_t lo = 0, hi = LEN(classes);
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (classes[mid].hi < c)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < LEN(classes) && c >= classes[lo].lo ? classes[lo].class : LETTER;
}

/* Valid UTF-8 was checked when the text was read: a bad byte counts as a separator of one byte. */
static size_t
next_char(const char *s, uint32_t *c)
{
	size_t len = utf8_decode((const unsigned char *)s, strnlen(s, 4), c);
	if (!len)
		*c = ' ';
	return len ? len : 1;
}

bool
next_word(const char **s, Text *w)
{
	const char *p = *s;
	bool mark = false; /* the word began with # or @ */
	uint32_t c, after;
	w->n = 0;
	for (size_t len; *p; p += len) {
		len = next_char(p, &c);
		int class = classify(c);
		if (class == IGNORED)
			continue;
		if (class == LETTER || (class == SINGLE && mark)) {
			utf8_put(w, lower(c));
			continue;
		}
		if (w->n)
			break; /* the character that ends a word is looked at again */
		if (class == SINGLE || class == SYMBOL) {
			utf8_put(w, c);
			p += len;
			break;
		}
		if ((c == '#' || c == '@') && p[len]) {
			next_char(p + len, &after);
			class = classify(after);
			if (class == LETTER || class == SINGLE) {
				mark = true;
				utf8_put(w, c);
			}
		}
	}
	*s = p;
	return w->n > 0;
}

void
text_lower(Text *t, const char *s, size_t n)
{
	uint32_t c;
	for (const char *end = s + n; s < end;) {
		s += next_char(s, &c);
		utf8_put(t, lower(c));
	}
}

/* ---- the words of one value, by kind of input ---- */

typedef struct Tags {
	uint64_t *seen;
	int64_t n, width;
	bool more;
	Text *w;
	void (*see)(void *, const char *);
	void *ctx;
} Tags;

static void
one_tag(Tags *g, const char *s, size_t n)
{
	for (; n && (*s == '#' || *s == ' '); s++)
		n--;
	for (; n && s[n - 1] == ' ';)
		n--;
	if (!n)
		return;
	g->w->n = 0;
	text_lower(g->w, s, n);
	uint64_t h = hash_word(g->w->s, g->w->n);
	for (int64_t i = 0; i < g->n; i++)
		if (g->seen[i] == h)
			return; /* tags are a set */
	if (g->n == g->width) {
		g->more = true;
		return;
	}
	g->seen[g->n++] = h;
	g->see(g->ctx, g->w->s);
}

/* A JSON list of strings (numbers count as their text), else text parted by commas, spaces, '#', and what lists are
   written with. */
static bool
each_tag(const PlanInput *in, const char *value, Text *w, void (*see)(void *, const char *), void *ctx)
{
	uint64_t few[64];
	Tags g = {.seen = few, .width = in->width, .w = w, .see = see, .ctx = ctx};
	json_t *list = value[strspn(value, " \t\r\n")] == '[' ? json_loads(value, 0, NULL) : NULL, *item;
	if (in->width > (int64_t)LEN(few))
		g.seen = xmalloc((size_t)in->width * sizeof *g.seen);
	if (json_is_array(list)) {
		size_t i;
		json_array_foreach(list, i, item) {
			char num[32];
			if (json_is_string(item)) {
				one_tag(&g, json_string_value(item), json_string_length(item));
			} else if (json_is_integer(item)) {
				snprintf(num, sizeof num, "%lld", (long long)json_integer_value(item));
				one_tag(&g, num, strlen(num));
			}
		}
	} else {
		static const char parts[] = ", #;\t\r\n[]\"'|";
		for (const char *p = value + strspn(value, parts); *p; p += strspn(p, parts)) {
			size_t n = strcspn(p, parts);
			one_tag(&g, p, n);
			p += n;
		}
	}
	json_decref(list);
	if (g.seen != few)
		free(g.seen);
	return g.more;
}

bool
each_word(const PlanInput *in, const char *value, Text *w, void (*see)(void *ctx, const char *word), void *ctx)
{
	if (in->kind == IN_TAGS)
		return each_tag(in, value, w, see, ctx);
	if (in->kind == IN_CATEGORY) {
		see(ctx, value);
		return false;
	}
	for (int64_t n = 0; next_word(&value, w); n++) {
		if (n == in->width)
			return true;
		see(ctx, w->s);
	}
	return false;
}
