/* Pages that stand alone: see html.h. */
#include "html.h"

#include <math.h>
#include <string.h>

void
html_text(Text *t, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '&')
			text_puts(t, "&amp;");
		else if (c == '<')
			text_puts(t, "&lt;");
		else if (c == '>')
			text_puts(t, "&gt;");
		else if (c == '"')
			text_puts(t, "&quot;");
		else if (!strncmp(s, "\xef\xbf\xbe", 3) || !strncmp(s, "\xef\xbf\xbf", 3))
			text_puts(t, "?"), s += 2;
		else
			text_add(t, c < ' ' && c != '\n' && c != '\t' ? "?" : s, 1);
	}
}

double
axis_at(const Axis *s, double v)
{
	double part = s->log ? log(v / s->lo) / log(s->hi / s->lo) : (v - s->lo) / (s->hi - s->lo);
	return s->at + s->length * part;
}

double
nice_step(double length, int n)
{
	double raw = length / n, ten = pow(10, floor(log10(raw))), lead = raw / ten;
	return ten * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

const char *
html_si(char buf[32], double v)
{
	static const char *const prefix[] = {"p", "n", "\xc2\xb5", "m", "", "k", "M", "G", "T", "P"};
	if (!(v > 0)) {
		snprintf(buf, 32, "0 ");
		return buf;
	}
	int k = (int)floor(log10(v * 1.0005) / 3) + 4;
	k = k < 0 ? 0 : k >= (int)LEN(prefix) ? (int)LEN(prefix) - 1 : k;
	v /= pow(1000, k - 4);
	snprintf(buf, 32, "%.*f %s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, prefix[k]);
	return buf;
}
