/* Pages that stand alone: escaped text, and scales for figures in SVG. Also for the compiler's pictures. */
#ifndef HTML_H
#define HTML_H

#include "base.h"

/* Appends text of an element or attribute. What XML cannot hold becomes '?': most control characters, U+FFFE and U+FFFF. */
void html_text(Text *t, const char *s);

/* Values [lo, hi] onto pixels [at, at + length), negative lengths going up; logarithmic where log is set (lo > 0). */
typedef struct Axis {
	double lo, hi, at, length;
	bool log;
} Axis;
double axis_at(const Axis *s, double v);

/* The step of 1, 2 or 5 times a power of ten that cuts a length into about n parts. */
double nice_step(double length, int n);

/* A number with a unit's prefix: 1.2 k, 35 M, 4 G (of 1000), 12 µ; "0". Three digits. */
const char *html_si(char buf[32], double v);

#endif
