/* The user's errors: a registry of source texts, and "path:line:col: error: ..." with the line and a caret.
   Columns count characters, as libyaml and editors do, not bytes. The registry and the counter are the
   process's: a diagnostic is an event of the process, like its exit status. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SHOWN 100   /* held errors that are printed; the rest are counted */
#define MAX_COLUMNS 160 /* of a source line */

typedef struct Source {
	char *path, *text;
} Source;

typedef struct Diag {
	Loc loc;
	Loc order;    /* where it sorts: a note sorts with its error */
	int seq;
	const char *kind;
	char *msg;
} Diag;

static Source *source;
static int nsource, capsource;
static Diag *held;
static int nheld, capheld, hold_depth;
static Loc last; /* of the last error or warning */
static int errors;

static const char *bug_pass;
static void (*bug_dump)(FILE *f, void *arg);
static void *bug_arg;

int
source_add(const char *path, const char *text)
{
	Source s = {xstrdup(path), xstrdup(text)};
	VEC_PUSH(source, nsource, capsource) = s;
	return nsource;
}

const char *source_path(int file) { return file > 0 && file <= nsource ? source[file - 1].path : ""; }
const char *source_text(int file) { return file > 0 && file <= nsource ? source[file - 1].text : ""; }
int error_count(void) { return errors; }

char *
loc_text(Arena *a, Loc l)
{
	return l.file ? arena_printf(a, "%s:%d", source_path(l.file), l.line) : arena_strdup(a, "");
}

/* Decodes one character of UTF-8; a byte that does not fit counts as one character. */
static int
utf8_next(const char *s, unsigned *c)
{
	const unsigned char *p = (const unsigned char *)s;
	int n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 1;
	*c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	for (int i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			*c = p[0];
			return 1;
		}
		*c = *c << 6 | (p[i] & 0x3f);
	}
	return n;
}

/* Whether a terminal draws the character in two columns (East Asian wide, Unicode annex 11, and emoji). */
static bool
is_wide(unsigned c)
{
	static const unsigned range[][2] = {
		{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
		{0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd},
	};
	for (size_t i = 0; i < LEN(range); i++)
		if (c >= range[i][0] && c <= range[i][1])
			return true;
	return false;
}

static const char *
find_line(const char *s, int line)
{
	while (s && --line > 0)
		if ((s = strchr(s, '\n')))
			s++;
	return s;
}

/* The source line and a caret under it. Control characters become '?', so that a file cannot drive the terminal;
   of a long line the part around the caret is shown. */
static void
show_line(FILE *f, Loc l)
{
	const char *s = find_line(source_text(l.file), l.line);
	Text text = {0}, caret = {0};
	unsigned c;
	int from = l.col > MAX_COLUMNS - 20 ? l.col - MAX_COLUMNS / 2 : 1;
	if (!s || !*source_text(l.file))
		return;
	text_puts(&text, from > 1 ? "..." : "");
	text_puts(&caret, from > 1 ? "   " : "");
	for (int col = 1; *s && *s != '\n' && col < from + MAX_COLUMNS; col++) {
		int n = utf8_next(s, &c);
		bool bad = (c < ' ' && c != '\t') || c == 127 || (n == 1 && c > 127) || (c >= 0x80 && c < 0xa0);
		if (col >= from && !(c == '\r' && s[1] == '\n')) {
			text_add(&text, bad ? "?" : s, bad ? 1 : (size_t)n);
			if (col < l.col)
				text_puts(&caret, c == '\t' ? "\t" : is_wide(c) ? "  " : " ");
		}
		s += n;
	}
	fprintf(f, "%5d | %s\n      | %s^\n", l.line, text.s, caret.s);
	free(text.s);
	free(caret.s);
}

static void
show(const Diag *d)
{
	if (d->loc.file)
		fprintf(stderr, "%s:%d:%d: %s: %s\n", source_path(d->loc.file), d->loc.line, d->loc.col, d->kind, d->msg);
	else
		fprintf(stderr, "mmc: %s: %s\n", d->kind, d->msg);
	show_line(stderr, d->loc);
}

static void
report(const char *kind, Loc l, Loc order, const char *fmt, va_list ap)
{
	Text t = {0};
	text_vprintf(&t, fmt, ap);
	Diag d = {l, order, nheld, kind, t.s};
	if (hold_depth) {
		VEC_PUSH(held, nheld, capheld) = d;
	} else {
		show(&d);
		free(t.s);
	}
}

void
error_at(Loc l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	last = l;
	errors++;
	report("error", l, l, fmt, ap);
	va_end(ap);
}

void
warn_at(Loc l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	last = l;
	report("warning", l, l, fmt, ap);
	va_end(ap);
}

void
note_at(Loc l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	report("note", l, last, fmt, ap);
	va_end(ap);
}

void diag_hold(void) { hold_depth++; }

static int
by_place(const void *pa, const void *pb)
{
	const Diag *a = pa, *b = pb;
	if (a->order.file != b->order.file)
		return a->order.file < b->order.file ? -1 : 1;
	if (a->order.line != b->order.line)
		return a->order.line < b->order.line ? -1 : 1;
	if (a->order.col != b->order.col)
		return a->order.col < b->order.col ? -1 : 1;
	return (a->seq > b->seq) - (a->seq < b->seq);
}

void
diag_release(void)
{
	int shown = 0, more = 0;
	if (--hold_depth > 0)
		return;
	hold_depth = 0;
	if (nheld)
		qsort(held, (size_t)nheld, sizeof *held, by_place);
	for (int i = 0; i < nheld; i++) {
		bool note = held[i].kind[0] == 'n';
		if (!note && shown++ >= MAX_SHOWN)
			more++;
		if (!more)
			show(&held[i]);
		free(held[i].msg);
	}
	if (more)
		fprintf(stderr, "mmc: %d more errors and warnings\n", more);
	free(held);
	held = NULL;
	nheld = capheld = 0;
}

void
bug_context(const char *pass, void (*dump)(FILE *f, void *arg), void *arg)
{
	bug_pass = pass;
	bug_dump = dump;
	bug_arg = arg;
}

void
bug(const char *fmt, ...)
{
	va_list ap;
	void (*dump)(FILE *f, void *arg) = bug_dump;
	bug_dump = NULL; /* a bug in the dump must not come back here */
	while (hold_depth)
		diag_release();
	fprintf(stderr, "mmc: bug in %s: ", bug_pass ? bug_pass : "mmc");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nThis is a defect of the compiler, not of the model file: please report it with the file.\n", stderr);
	if (dump)
		dump(stderr, bug_arg);
	exit(70);
}
