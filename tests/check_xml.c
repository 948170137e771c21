/* Well-formed XML, as much of it as our pages use: elements, attributes in double quotes, text with four of the entities. */
#include "check_xml.h"

#include <string.h>

#include "base.h"

static bool
good_text(const char *s, const char *end)
{
	static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
	for (; s < end; s++) {
		bool ok = *s != '<' && ((unsigned char)*s >= ' ' || *s == '\n' || *s == '\t');
		for (size_t i = 0; *s == '&' && i <= LEN(entities); i++) {
			ok = i < LEN(entities) && !strncmp(s, entities[i], strlen(entities[i]));
			if (ok)
				break;
		}
		if (!ok)
			return false;
	}
	return true;
}

/* name="value" .., up to end */
static bool
good_attributes(const char *s, const char *end)
{
	while (s < end) {
		size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-:");
		const char *quote = s + n + 2;
		if (*s != ' ' && !n)
			return false;
		if (*s == ' ') {
			s++;
			continue;
		}
		if (strncmp(s + n, "=\"", 2) || !(s = memchr(quote, '"', (size_t)(end - quote))) || !good_text(quote, s))
			return false;
		s++;
	}
	return true;
}

bool
xml_element(const char *s)
{
	const char *open[64];
	size_t len[64];
	int depth = 0, roots = 0;
	while (*s) {
		const char *lt = strchr(s, '<'), *gt;
		if (!good_text(s, lt ? lt : s + strlen(s)) || (!depth && s[strspn(s, "\n")] && lt != s + strspn(s, "\n")))
			return false;
		if (!lt)
			break;
		if (!(gt = strchr(lt, '>')))
			return false;
		size_t n = strcspn(lt + 1, " />");
		if (lt[1] == '/') {
			n = (size_t)(gt - lt - 2);
			if (!depth-- || len[depth] != n || strncmp(open[depth], lt + 2, n))
				return false;
		} else {
			bool empty = gt[-1] == '/';
			if (!good_attributes(lt + 1 + n, gt - empty) || (!depth && roots++) || depth == (int)LEN(open))
				return false;
			open[depth] = lt + 1;
			len[depth] = n;
			depth += !empty;
		}
		s = gt + 1;
	}
	return !depth && roots == 1;
}

bool
xml_document(const char *s)
{
	return !strncmp(s, "<?xml ", 6) && (s = strstr(s, "?>")) && xml_element(s + 2);
}
