/* CSV files to cells: RFC 4180 through libcsv, gzip by content through zlib.

   Quoted newlines, CRLF and a byte order mark are fine. The text must be UTF-8. Spaces belong to a field, as RFC 4180
   says. A quote inside an unquoted field is kept as it is and counted; text after a closing quote, or a quote that
   never closes, is an error, since nobody can say where that field ends. A row with another number of fields than
   the header is left out and counted. Lines are counted as an editor counts them, so file:line finds the row. */
#include "data_impl.h"

#include <csv.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_COLUMNS 1900 /* SQLite takes 2000 */

/* Replaces gzip content (one or more members) by what it holds. */
static bool
gunzip(Table *t, Err *e)
{
	z_stream z = {0};
	Text out = {0};
	unsigned char buf[1 << 16];
	size_t left = t->nraw;
	int rc = inflateInit2(&z, 16 + MAX_WBITS);
	z.next_in = (unsigned char *)t->raw;
	while (rc == Z_OK) {
		if (!z.avail_in) {
			z.avail_in = left > 1u << 30 ? 1u << 30 : (unsigned)left;
			left -= z.avail_in;
		}
		if (!z.avail_in)
			break;
		z.next_out = buf;
		z.avail_out = sizeof buf;
		rc = inflate(&z, Z_NO_FLUSH);
		text_add(&out, buf, sizeof buf - z.avail_out);
		if (rc == Z_STREAM_END && (z.avail_in || left))
			rc = inflateReset(&z);
	}
	bool ok = rc == Z_STREAM_END;
	if (!ok)
		fail(e, "%s: gzip content is %s after %zu bytes of text; fetch or compress the file again", t->path,
		     rc == Z_OK || rc == Z_BUF_ERROR ? "cut off" : "damaged", out.n);
	inflateEnd(&z);
	free(t->raw);
	text_add(&out, "", 0);
	t->raw = out.s;
	t->nraw = out.n;
	return ok;
}

typedef struct Csv {
	Table *t;
	Err *e;
	int64_t line;      /* of the current byte, as far as callbacks tell */
	int64_t row_line;  /* where the record began */
	int64_t field_line;/* where the last field began */
	uint32_t field;    /* fields of the record so far */
	size_t ntext, ncell; /* before the record */
	bool header, cr;
} Csv;

/* The column that field k belongs to, for messages. */
static const char *
field_name(const Csv *c, uint32_t k)
{
	return c->header && k < c->t->ncol ? c->t->col[k].name : "?";
}

static void
on_field(void *s, size_t n, void *ctx)
{
	Csv *c = ctx;
	Table *t = c->t;
	uint32_t k = c->field++;
	c->cr = false;
	if (c->e->set)
		return;
	if (k == 0) {
		c->row_line = c->line;
		c->ntext = t->text.n;
		c->ncell = t->ncell;
	}
	c->field_line = c->line;
	for (const char *p = s, *end = p + n; n && (p = memchr(p, '\n', (size_t)(end - p))); p++)
		c->line++;
	size_t good = n ? utf8_prefix(s, n) : 0;
	if (good < n) {
		unsigned byte = ((unsigned char *)s)[good];
		fail(c->e, "%s:%lld: column %u (%s): %s; save the file as UTF-8", t->path, (long long)c->row_line, k + 1,
		     field_name(c, k), byte ? "not UTF-8" : "holds a NUL byte (UTF-16?)");
		return;
	}
	if (!c->header) {
		TableColumn col = {.name = xmalloc(n + 1)};
		memcpy(col.name, n ? s : "", n);
		col.name[n] = 0;
		VEC_PUSH(t->col, t->ncol, t->capcol) = col;
	} else if (k < t->ncol) {
		VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n;
		text_add(&t->text, s, n);
		text_add(&t->text, "", 1);
	}
}

static void
check_header(Csv *c)
{
	Table *t = c->t;
	c->header = true;
	if (t->ncol > MAX_COLUMNS) {
		fail(c->e, "%s:%lld: %u columns; at most %d can be read", t->path, (long long)c->row_line, t->ncol, MAX_COLUMNS);
		return;
	}
	if (t->ncol == 1 && t->kind == TB_TSV && strchr(t->col[0].name, ',')) {
		fail(c->e, "%s:%lld: the header has no tab but ','; columns must be separated by tabs, or the type is csv", t->path, (long long)c->row_line);
		return;
	}
	if (t->ncol == 1 && t->kind == TB_CSV && strpbrk(t->col[0].name, ";\t")) {
		fail(c->e, "%s:%lld: the header has no comma but '%c'; columns must be separated by commas", t->path,
		     (long long)c->row_line, *strpbrk(t->col[0].name, ";\t"));
		return;
	}
	for (uint32_t i = 0; i < t->ncol; i++) {
		const char *name = t->col[i].name;
		if (!*name) {
			fail(c->e, "%s:%lld: column %u has no name in the header; name it or delete the column", t->path,
			     (long long)c->row_line, i + 1);
			return;
		}
		uint32_t first = (uint32_t)table_column(t, name);
		if (first < i) {
			fail(c->e, "%s:%lld: columns %u (%s) and %u (%s) have the same name (SQL ignores case); rename one",
			     t->path, (long long)c->row_line, first + 1, t->col[first].name, i + 1, name);
			return;
		}
	}
}

static void
end_record(Csv *c)
{
	Table *t = c->t;
	uint32_t fields = c->field;
	c->field = 0;
	if (!fields || c->e->set)
		return; /* an empty line */
	if (!c->header) {
		check_header(c);
	} else if (fields != t->ncol) {
		char what[48];
		snprintf(what, sizeof what, "%u fields", fields);
		issue_add(&t->ragged, c->row_line, what);
		t->text.n = c->ntext;
		t->ncell = c->ncell;
	} else {
		VEC_PUSH(t->line, t->nline, t->capline) = c->row_line;
		t->rows++;
	}
}

static void
on_record(int ch, void *ctx)
{
	Csv *c = ctx;
	end_record(c);
	if (ch == '\r')
		c->line++;
	else if (ch == '\n' && !c->cr)
		c->line++;
	c->cr = ch == '\r';
}

/* No byte is a space to strip: spaces are part of a field. */
static int
no_space(unsigned char ch)
{
	(void)ch;
	return 0;
}

static void
parse(Csv *c, const char *s, size_t n)
{
	enum { OPTIONS = CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL };
	struct csv_parser p;
	size_t at = 0;
	if (csv_init(&p, OPTIONS)) {
		fail(c->e, "%s: cannot start the CSV parser", c->t->path);
		return;
	}
	if (c->t->kind == TB_TSV) {
		csv_set_delim(&p, '\t');
		csv_set_quote(&p, 0); /* no field has one: a NUL is an error */
	}
	csv_set_space_func(&p, no_space);
	csv_set_blk_size(&p, 4096);
	while (at < n && !c->e->set) {
		size_t piece = n - at < 1 << 20 ? n - at : 1 << 20; /* so that an error does not wait for the end */
		size_t done = csv_parse(&p, s + at, piece, on_field, on_record, c);
		at += done;
		if (done == piece || c->e->set)
			continue;
		if (csv_error(&p) == CSV_EPARSE && !p.quoted) {
			issue_add(&c->t->stray_quote, c->line, NULL);
			csv_set_opts(&p, OPTIONS & ~CSV_STRICT);
			at += csv_parse(&p, s + at, 1, on_field, on_record, c);
			csv_set_opts(&p, OPTIONS);
		} else if (csv_error(&p) == CSV_EPARSE) {
			fail(c->e, "%s:%lld: column %u (%s): text after the closing quote of a field; write a quote inside a "
			     "quoted field twice (\"\")", c->t->path, (long long)c->line, c->field + 1, field_name(c, c->field));
		} else {
			fail(c->e, "%s:%lld: %s", c->t->path, (long long)c->line, csv_strerror(csv_error(&p)));
		}
	}
	if (!c->e->set && csv_fini(&p, on_field, on_record, c))
		fail(c->e, "%s:%lld: column %u (%s): the quote that opens this field never closes; close it, or write a quote "
		     "inside a quoted field twice (\"\")", c->t->path, (long long)c->line, c->field + 1, field_name(c, c->field));
	csv_free(&p);
}

bool
csv_read(Table *t, Err *e)
{
	Csv c = {.t = t, .e = e, .line = 1};
	const unsigned char *b;
	if (t->nraw >= 2 && !memcmp(t->raw, "\x1f\x8b", 2) && !gunzip(t, e))
		return false;
	b = (const unsigned char *)t->raw;
	if (t->nraw >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
		return fail(e, "%s: the file is UTF-16; save it as UTF-8", t->path);
	size_t bom = t->nraw >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0;
	parse(&c, t->raw + bom, t->nraw - bom);
	if (!e->set && !c.header)
		fail(e, "%s: the file is empty; it needs a header row with the column names", t->path);
	free(t->raw);
	t->raw = NULL;
	VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n; /* the end of the last cell */
	t->ncell--;
	return !e->set;
}

void
table_free(Table *t)
{
	for (uint32_t i = 0; i < t->ncol; i++)
		free(t->col[i].name);
	free(t->col);
	free(t->raw);
	free(t->text.s);
	free(t->cell);
	free(t->line);
	for (uint32_t i = 0; i < t->nfiles; i++)
		free(t->files[i].path);
	for (uint32_t i = 0; i < t->ntensor; i++)
		array_free(&t->tensor[i]);
	free(t->files);
	free(t->row_file);
	arena_free(&t->mem);
	free(t->tensor);
	free(t->path);
	*t = (Table){0};
}
