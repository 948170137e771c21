/* What values say: numbers and dates in the spellings that posts data comes in, and SQL functions over them.

   Numbers: "12800", "99,600,000" (groups of three), "1.2M" (K, M, B), "7.1e3". Nothing else: "1,5" is not a number.
   Dates: ISO 8601 "2020-11-07T17:02:37.000Z" (T or a space, offset or Z optional, UTC without one), "2020-11-07",
   "04/02/2021 13:42" (month first), "04/02/2021", unix seconds (milliseconds from 1e11 on). All become UTC.
   A function of NULL or '' is NULL. A value that it cannot read is NULL too, and counted. */
#include "data_impl.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Copies digits with thousands separators; *p moves past them. Groups after the first have exactly three. */
static bool
copy_digits(const char **p, char *buf, size_t cap, size_t *n, int *digits)
{
	const char *s = *p;
	int group = 0, commas = 0;
	for (;; s++) {
		if (*s >= '0' && *s <= '9') {
			if (*n + 1 >= cap)
				return false;
			buf[(*n)++] = *s;
			++*digits;
			group++;
		} else if (*s == ',') {
			if (!group || group > 3 || (commas && group != 3))
				return false;
			group = 0;
			commas++;
		} else {
			break;
		}
	}
	*p = s;
	return !commas || group == 3;
}

/* The exponent after a mantissa: "e12", or a suffix. Leaves *p after it. */
static bool
read_exponent(const char **p, int *exponent)
{
	static const struct {
		char name;
		int power;
	} suffix[] = {{'k', 3}, {'m', 6}, {'b', 9}};
	const char *s = *p;
	if (*s == 'e' || *s == 'E') {
		char *end;
		long v;
		const char *d = s + 1 + (s[1] == '+' || s[1] == '-');
		if (*d < '0' || *d > '9')
			return false;
		v = strtol(s + 1, &end, 10);
		*exponent = v > 9999 ? 9999 : v < -9999 ? -9999 : (int)v;
		*p = end;
		return true;
	}
	while (*s == ' ')
		s++;
	for (size_t i = 0; i < LEN(suffix); i++) {
		if ((*s | 32) == suffix[i].name) {
			*exponent = suffix[i].power;
			*p = s + 1;
			return true;
		}
	}
	return true;
}

bool
parse_number(const char *s, Number *out)
{
	char buf[400]; /* digits without separators, then e and the exponent: strtod rounds once, and correctly */
	size_t n = 0;
	int digits = 0, fraction = 0, exponent = 0;
	*out = (Number){0};
	while (*s == ' ' || *s == '\t')
		s++;
	const char *start = s;
	if (*s == '+' || *s == '-')
		buf[n++] = *s++;
	out->zeros = s[0] == '0' && s[1] >= '0' && s[1] <= '9';
	if (!copy_digits(&s, buf, sizeof buf - 16, &n, &digits))
		return false;
	if (*s == '.') {
		buf[n++] = *s++;
		while (*s >= '0' && *s <= '9' && n < sizeof buf - 16) {
			buf[n++] = *s++;
			fraction++;
		}
	}
	const char *mantissa = s;
	if (!(digits + fraction) || !read_exponent(&s, &exponent))
		return false;
	bool e = s != mantissa;
	size_t left = (size_t)(s - start);
	while (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')
		s++;
	if (*s)
		return false;
	snprintf(buf + n, sizeof buf - n, "e%d", exponent);
	out->v = strtod(buf, NULL);
	if (!isfinite(out->v))
		return false;
	if (!e && !fraction && digits <= 19 && n == (size_t)digits + (n > 0 && (buf[0] == '+' || buf[0] == '-'))) {
		buf[n] = 0;
		out->i = strtoll(buf, NULL, 10);
		out->whole = digits < 19 || out->i != (buf[0] == '-' ? INT64_MIN : INT64_MAX) || !strcmp(buf, "9223372036854775807");
	} else if (fabs(out->v) < 9007199254740992.0 && out->v == floor(out->v)) {
		out->i = (int64_t)out->v;
		out->whole = true;
	}
	out->sci = e && (*mantissa | 32) == 'e' && exponent >= fraction && fabs(out->v) >= 1e15;
	out->id = out->sci || (!e && !fraction && digits >= 16 && left == n); /* left == n: no separators */
	return true;
}

/* ---- dates ---- */

/* Days since 1970-01-01 of a proleptic Gregorian date (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t
days_from_civil(int64_t y, int m, int d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void
civil_from_days(int64_t z, int64_t *y, int *m, int *d)
{
	z += 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	*d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*y = yoe + era * 400 + (*m <= 2);
}

/* Reads between lo and hi digits. */
static bool
read_digits(const char **p, int lo, int hi, int *out)
{
	int n = 0, v = 0;
	for (; n < hi && **p >= '0' && **p <= '9'; n++, ++*p)
		v = v * 10 + (**p - '0');
	*out = v;
	return n >= lo;
}

/* "HH:MM[:SS[.fraction]][Z|+HH[:]MM]" -> seconds, offset subtracted. */
static bool
read_clock(const char **p, double *out)
{
	int h, m, sec = 0, oh, om = 0;
	double fraction = 0;
	if (!read_digits(p, 1, 2, &h) || *(*p)++ != ':' || !read_digits(p, 2, 2, &m) || h > 23 || m > 59)
		return false;
	if (**p == ':') {
		++*p;
		if (!read_digits(p, 2, 2, &sec) || sec > 60)
			return false;
		if (**p == '.' || **p == ',') {
			double unit = 0.1;
			for (++*p; **p >= '0' && **p <= '9'; ++*p, unit /= 10)
				fraction += unit * (**p - '0');
		}
	}
	*out = h * 3600 + m * 60 + sec + fraction;
	if (**p == 'Z' || **p == 'z') {
		++*p;
	} else if (**p == '+' || **p == '-') {
		int sign = *(*p)++ == '-' ? -1 : 1;
		if (!read_digits(p, 2, 2, &oh))
			return false;
		if (**p == ':')
			++*p;
		if (**p >= '0' && **p <= '9' && !read_digits(p, 2, 2, &om))
			return false;
		if (oh > 15 || om > 59)
			return false;
		*out -= sign * (oh * 3600 + om * 60);
	}
	return true;
}

static bool
read_date(const char **p, int64_t *days)
{
	static const int length[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int y, m, d;
	const char *s = *p;
	if (read_digits(&s, 4, 4, &y) && (*s == '-' || *s == '/')) {
		char sep = *s++;
		if (!read_digits(&s, 1, 2, &m) || *s++ != sep || !read_digits(&s, 1, 2, &d))
			return false;
	} else {
		s = *p;
		if (!read_digits(&s, 1, 2, &m) || *s++ != '/' || !read_digits(&s, 1, 2, &d) || *s++ != '/' || !read_digits(&s, 4, 4, &y))
			return false;
	}
	if (m < 1 || m > 12 || d < 1)
		return false;
	bool leap = m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
	if (d > length[m] + leap)
		return false;
	*days = days_from_civil(y, m, d);
	*p = s;
	return true;
}

/* Unix seconds; from 1e11 (the year 5138) on they can only be milliseconds. */
static double
unix_seconds(double v)
{
	return fabs(v) >= 1e11 ? v / 1000 : v;
}

bool
parse_time(const char *s, double *out)
{
	int64_t days;
	double clock = 0;
	Number num;
	while (*s == ' ')
		s++;
	if (!strchr(s, ':') && !strchr(s, '/') && !(s[0] && strchr(s + 1, '-'))) {
		if (!parse_number(s, &num) || fabs(num.v) > 1e14)
			return false;
		*out = unix_seconds(num.v);
		return true;
	}
	if (!read_date(&s, &days))
		return false;
	if (*s == 'T' || *s == 't' || *s == ' ') {
		while (*s == ' ' || *s == 'T' || *s == 't')
			s++;
		if (*s && !read_clock(&s, &clock))
			return false;
	}
	while (*s == ' ')
		s++;
	*out = (double)days * 86400 + clock;
	return !*s;
}

/* ---- the functions ---- */

/* The value as text, or NULL for NULL and ''. */
static const char *
arg_text(sqlite3_value *v)
{
	const char *s = sqlite3_value_type(v) == SQLITE_NULL ? NULL : (const char *)sqlite3_value_text(v);
	return s && *s ? s : NULL;
}

static SqlNotes *notes_of(sqlite3_context *c) { return sqlite3_user_data(c); }

/* Reads an argument as a number; false (and counted when it is junk) where it is none. */
static bool
arg_number(sqlite3_context *c, sqlite3_value *v, Number *n)
{
	int type = sqlite3_value_type(v);
	*n = (Number){0};
	if (type == SQLITE_INTEGER) {
		n->i = sqlite3_value_int64(v);
		n->v = (double)n->i;
		n->whole = true;
		return true;
	}
	if (type == SQLITE_FLOAT) {
		n->v = sqlite3_value_double(v);
		return true;
	}
	const char *s = arg_text(v);
	if (!s)
		return false;
	if (parse_number(s, n))
		return true;
	issue_add(&notes_of(c)->number, 0, s);
	return false;
}

static bool
arg_time(sqlite3_context *c, sqlite3_value *v, double *t)
{
	int type = sqlite3_value_type(v);
	if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
		*t = unix_seconds(sqlite3_value_double(v));
		if (fabs(*t) < 1e12)
			return true;
	} else {
		const char *s = arg_text(v);
		if (!s)
			return false;
		if (parse_time(s, t))
			return true;
	}
	issue_add(&notes_of(c)->time, 0, arg_text(v));
	return false;
}

static void
fn_to_number(sqlite3_context *c, int n, sqlite3_value **v)
{
	Number x;
	(void)n;
	if (!arg_number(c, v[0], &x))
		return;
	if (x.whole)
		sqlite3_result_int64(c, x.i);
	else
		sqlite3_result_double(c, x.v);
}

static void
fn_to_time(sqlite3_context *c, int n, sqlite3_value **v)
{
	double t;
	(void)n;
	if (!arg_time(c, v[0], &t))
		return;
	if (t == floor(t))
		sqlite3_result_int64(c, (int64_t)t);
	else
		sqlite3_result_double(c, t);
}

/* Parts of a date; one row each: name, value from y, m, d, z (days since 1970), t (seconds). */
#define DATE_PARTS(X)                                                                               \
	X(hour, (int64_t)floor(t / 3600) - z * 24)                                                  \
	X(weekday, ((z % 7) + 10) % 7) /* 0 = Monday; 1970-01-01 was a Thursday */                  \
	X(month, m)                                                                                 \
	X(year, y)                                                                                  \
	X(day_of_month, d)                                                                          \
	X(day_of_year, z - days_from_civil(y, 1, 1) + 1)
#define X(name, value)                                                                              \
	static void fn_##name(sqlite3_context *c, int n, sqlite3_value **v)                         \
	{                                                                                           \
		double t;                                                                           \
		int64_t y;                                                                          \
		int m, d;                                                                           \
		(void)n;                                                                            \
		if (!arg_time(c, v[0], &t))                                                         \
			return;                                                                     \
		int64_t z = (int64_t)floor(t / 86400);                                              \
		civil_from_days(z, &y, &m, &d);                                                     \
		sqlite3_result_int64(c, value);                                                     \
	}
DATE_PARTS(X)
#undef X

static void
fn_json_count(sqlite3_context *c, int n, sqlite3_value **v)
{
	const char *s = arg_text(v[0]);
	(void)n;
	if (!s)
		return;
	json_t *list = json_loads(s, 0, NULL);
	if (json_is_array(list))
		sqlite3_result_int64(c, (int64_t)json_array_size(list));
	else
		issue_add(&notes_of(c)->json, 0, s);
	json_decref(list);
}

static void
fn_word_count(sqlite3_context *c, int n, sqlite3_value **v)
{
	const char *s = arg_text(v[0]);
	Text w = {0};
	int64_t count = 0;
	(void)n;
	if (!s)
		return;
	while (next_word(&s, &w))
		count++;
	free(w.s);
	sqlite3_result_int64(c, count);
}

/* Mathematics: NULL outside the domain. Ours even where SQLite has them, so that every build gives the same
   and so that text such as '1.2M' counts as the number that it is. */
#define MATH(X) X(ln, log(x)) X(log1p, log1p(x)) X(sqrt, sqrt(x)) X(exp, exp(x))
#define X(name, value)                                                                              \
	static void fn_##name(sqlite3_context *c, int n, sqlite3_value **v)                         \
	{                                                                                           \
		Number num;                                                                         \
		(void)n;                                                                            \
		if (!arg_number(c, v[0], &num))                                                     \
			return;                                                                     \
		double x = num.v, y = value;                                                        \
		if (isfinite(y))                                                                    \
			sqlite3_result_double(c, y);                                                \
	}
MATH(X)
#undef X

/* split_part('7_theo_12.wav', '_', 2) is 'theo': part n, from 1, of what the separators part; NULL where there are fewer. */
static void
fn_split_part(sqlite3_context *c, int n, sqlite3_value **v)
{
	const char *s = (const char *)sqlite3_value_text(v[0]), *by = (const char *)sqlite3_value_text(v[1]), *end;
	sqlite3_int64 k = sqlite3_value_int64(v[2]);
	(void)n;
	if (!s || !by || !*by)
		return;
	for (; (end = strstr(s, by)) && k > 1; k--)
		s = end + strlen(by);
	if (k == 1)
		sqlite3_result_text(c, s, end ? (int)(end - s) : -1, SQLITE_TRANSIENT);
}

static void
fn_pow(sqlite3_context *c, int n, sqlite3_value **v)
{
	Number a, b;
	(void)n;
	if (arg_number(c, v[0], &a) && arg_number(c, v[1], &b) && isfinite(pow(a.v, b.v)))
		sqlite3_result_double(c, pow(a.v, b.v));
}

#define FUNCTIONS(X)                                                                                \
	X(to_number, 1) X(to_time, 1) X(hour, 1) X(weekday, 1) X(month, 1) X(year, 1) X(day_of_month, 1) \
	X(day_of_year, 1) X(json_count, 1) X(word_count, 1) X(ln, 1) X(log1p, 1) X(sqrt, 1) X(exp, 1) X(pow, 2) X(split_part, 3)
#define X(name, nargs) #name,
const char *const sqlfn_names[] = {FUNCTIONS(X) "abs", "coalesce", "count", "ifnull", "iif", "instr", "length", "lower",
                                   "max", "min", "nullif", "replace", "round", "substr", "trim", "upper"};
#undef X
const size_t nsqlfn = LEN(sqlfn_names);

bool
sqlfn_register(sqlite3 *db, SqlNotes *notes)
{
	static const struct {
		const char *name;
		int nargs;
		void (*call)(sqlite3_context *, int, sqlite3_value **);
	} table[] = {
#define X(name, nargs) {#name, nargs, fn_##name},
		FUNCTIONS(X)
#undef X
	};
	for (size_t i = 0; i < LEN(table); i++)
		if (sqlite3_create_function(db, table[i].name, table[i].nargs, SQLITE_UTF8 | SQLITE_DETERMINISTIC, notes,
		                            table[i].call, NULL, NULL))
			return false;
	return true;
}
