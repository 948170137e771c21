/* Cells to SQLite tables. Each column gets one type, for all rows:

     ID       text: named "id", "*_id" or "* id", or most values are identifiers (16 digits and more, or 7.18825E+18)
     INTEGER  every value that is not empty is a whole number ("99,600,000", "1.2M")
     REAL     every value that is not empty is a number
     TEXT     the rest

   so that arithmetic on "Plays" just works: SQLite would read the text '99,600,000' as 99. Leading zeros make a value
   text, as in postal codes. Empty fields are NULL. Serving takes the types of the training data (Fit). */
#include "data_impl.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const column_type_names[NCT] = {"text", "id", "integer", "real"};

void
sql_ident(Text *t, const char *name)
{
	text_puts(t, "\"");
	for (; *name; name++) {
		if (*name == '"')
			text_puts(t, "\"");
		text_add(t, name, 1);
	}
	text_puts(t, "\"");
}

int
table_column(const Table *t, const char *name)
{
	for (uint32_t i = 0; i < t->ncol; i++)
		if (!strcasecmp(t->col[i].name, name))
			return (int)i;
	return -1;
}

static bool
named_id(const char *s)
{
	size_t n = strlen(s);
	return n >= 2 && !strcasecmp(s + n - 2, "id") && (n == 2 || s[n - 3] == '_' || s[n - 3] == ' ');
}

static const char *
cell(const Table *t, int64_t row, uint32_t col)
{
	return t->text.s + t->cell[(size_t)row * t->ncol + col];
}

static void
decide_type(Table *t, uint32_t k)
{
	TableColumn *c = &t->col[k];
	bool whole = true, named = named_id(c->name);
	Number num;
	for (int64_t r = 0; r < t->rows; r++) {
		const char *s = cell(t, r, k);
		if (!*s) {
			c->empty++;
			continue;
		}
		if (!parse_number(s, &num) || (num.zeros && !c->fixed)) {
			issue_add(&c->other, t->line[r], s);
			continue;
		}
		c->number++;
		whole = whole && num.whole;
		c->sci = c->sci || num.sci;
		if (num.id && !named)
			issue_add(&c->long_id, t->line[r], s);
	}
	if (c->fixed)
		return;
	if (named || c->long_id.n * 2 > c->number + c->other.n)
		c->type = CT_ID;
	else /* a few identifiers among numbers: text too, since arithmetic on them means nothing */
		c->type = c->other.n || c->long_id.n || !c->number ? CT_TEXT : whole ? CT_INTEGER : CT_REAL;
}

/* A row by its content and by its identifier. */
typedef struct RowHash {
	uint64_t id, all;
	int64_t row;
} RowHash;

static int
by_hash(const void *x, const void *y)
{
	const RowHash *a = x, *b = y;
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return (a->row > b->row) - (a->row < b->row);
}

/* Counts rows that repeat an earlier one in full (k < 0), or whose identifier in column k an earlier, different row has. */
static void
count_repeats(Table *t, int k, Issue *out)
{
	RowHash *h = xmalloc((size_t)t->rows * sizeof *h);
	bool *flag = xcalloc((size_t)t->rows, 1);
	for (int64_t r = 0; r < t->rows; r++) {
		size_t from = t->cell[(size_t)r * t->ncol], to = t->cell[(size_t)(r + 1) * t->ncol];
		const char *s = k < 0 ? "" : cell(t, r, (uint32_t)k);
		uint64_t all = hash_block(0, t->text.s + from, to - from);
		h[r] = (RowHash){k < 0 ? all : hash_word(s, strlen(s)), all, r};
	}
	qsort(h, (size_t)t->rows, sizeof *h, by_hash);
	for (int64_t i = 1, first = 0; i < t->rows; i++) {
		if (h[i].id != h[first].id)
			first = i;
		else
			flag[h[i].row] = k < 0 || h[i].all != h[first].all;
	}
	for (int64_t r = 0; r < t->rows; r++)
		if (flag[r] && (k < 0 || *cell(t, r, (uint32_t)k)))
			issue_add(out, t->line[r], k < 0 ? NULL : cell(t, r, (uint32_t)k));
	free(flag);
	free(h);
}

void
table_decide_types(Table *t)
{
	for (uint32_t k = 0; k < t->ncol; k++) {
		decide_type(t, k);
		TableColumn *c = &t->col[k];
		if (c->sci && named_id(c->name))
			count_repeats(t, (int)k, &c->collision);
		if (c->collision.n * 2 > t->rows) /* names something that many rows share, not the row */
			c->collision = (Issue){0};
	}
	count_repeats(t, -1, &t->repeated);
}

static int
bind_cell(sqlite3_stmt *q, int at, TableColumn *c, const char *s, size_t n)
{
	Number num;
	if (!n)
		return sqlite3_bind_null(q, at);
	if (c->type == CT_TEXT || c->type == CT_ID)
		return n > INT32_MAX ? SQLITE_TOOBIG : sqlite3_bind_text(q, at, s, (int)n, SQLITE_STATIC);
	if (!parse_number(s, &num))
		return sqlite3_bind_null(q, at); /* only where the type is fixed: counted in other */
	return num.whole ? sqlite3_bind_int64(q, at, num.i) : sqlite3_bind_double(q, at, num.v);
}

static sqlite3_stmt *
create_table(const Table *t, sqlite3 *db)
{
	static const char *const affinity[NCT] = {"TEXT", "TEXT", "INTEGER", "REAL"};
	Text sql = {0};
	sqlite3_stmt *q = NULL;
	text_puts(&sql, "CREATE TABLE ");
	sql_ident(&sql, t->name);
	for (uint32_t k = 0; k < t->ncol; k++) {
		text_puts(&sql, k ? ", " : " (");
		sql_ident(&sql, t->col[k].name);
		text_printf(&sql, " %s", affinity[t->col[k].type]);
	}
	text_puts(&sql, ")");
	if (!sqlite3_exec(db, sql.s, NULL, NULL, NULL)) {
		sql.n = 0;
		text_puts(&sql, "INSERT INTO ");
		sql_ident(&sql, t->name);
		text_puts(&sql, " VALUES (?");
		for (uint32_t k = 1; k < t->ncol; k++)
			text_puts(&sql, ",?");
		text_puts(&sql, ")");
		sqlite3_prepare_v2(db, sql.s, -1, &q, NULL);
	}
	free(sql.s);
	return q;
}

bool
table_load(Table *t, sqlite3 *db, Err *e)
{
	sqlite3_stmt *q = create_table(t, db);
	int rc = q ? sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) : SQLITE_ERROR;
	for (int64_t r = 0; !rc && r < t->rows; r++) {
		const size_t *at = &t->cell[(size_t)r * t->ncol];
		for (uint32_t k = 0; !rc && k < t->ncol; k++)
			rc = bind_cell(q, (int)k + 1, &t->col[k], t->text.s + at[k], at[k + 1] - at[k] - 1);
		if (!rc) {
			sqlite3_step(q);
			rc = sqlite3_reset(q);
		}
	}
	if (!rc)
		rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (rc)
		fail(e, "%s: table %s: %s", t->loc, t->name, sqlite3_errmsg(db));
	sqlite3_finalize(q);
	free(t->text.s);
	free(t->cell);
	t->text = (Text){0};
	t->cell = NULL;
	t->ncell = t->capcell = 0;
	return !rc;
}

static void
report_issue(const Table *t, Text *out, const Issue *s, const char *fmt, ...) PRINTF(4, 5);
static void
report_issue(const Table *t, Text *out, const Issue *s, const char *fmt, ...)
{
	va_list ap;
	if (!s->n)
		return;
	text_printf(out, "    %lld ", (long long)s->n);
	va_start(ap, fmt);
	text_vprintf(out, fmt, ap);
	va_end(ap);
	issue_puts(out, t->file, s);
	text_puts(out, "\n");
}

void
table_report(const Table *t, Text *out)
{
	text_printf(out, "  %-12s %8lld rows, %u columns: %s\n", t->name, (long long)t->rows, t->ncol, t->file);
	report_issue(t, out, &t->ragged, "rows left out: the header has %u fields", t->ncol);
	report_issue(t, out, &t->stray_quote, "quotes inside unquoted fields, kept as they are");
	if (t->damaged)
		text_printf(out, "    %lld files cannot be read: they count as missing\n", (long long)t->damaged);
	for (int64_t i = 0; i < t->damaged && i < (int64_t)LEN(t->damage); i++)
		text_printf(out, "      %s\n", t->damage[i]);
	report_issue(t, out, &t->repeated, "rows repeat an earlier row in full (kept)");
	for (uint32_t k = 0; k < t->ncol; k++) {
		const TableColumn *c = &t->col[k];
		report_issue(t, out, &c->collision,
		             "rows share their %s with an earlier, different row: scientific notation has lost digits (not merged)",
		             c->name);
		if (!c->used)
			continue;
		if (!c->fixed && (c->type == CT_ID || !c->other.n))
			report_issue(t, out, &c->long_id, "values of %s are identifiers of 16 or more digits: the column is text", c->name);
		if (c->fixed && (c->type == CT_INTEGER || c->type == CT_REAL))
			report_issue(t, out, &c->other, "values of %s are not numbers: taken as missing", c->name);
		else if (c->type == CT_TEXT && c->number >= c->other.n && c->number)
			report_issue(t, out, &c->other,
			             "of %lld values of %s are not numbers, so the column is text; in arithmetic use to_number(\"%s\")",
			             (long long)(c->number + c->other.n), c->name, c->name);
		if (c->empty == t->rows && !t->typed)
			text_printf(out, "    %s is empty in every row\n", c->name);
	}
}
