/* The one SELECT: every input, target, group, stratify and key expression over the joined rows.

   Each expression is first prepared alone, so that an SQL error names the line of the model file, and the nearest
   column, function or table where a name is wrong. Then one statement reads everything, in the order of the first
   table's rows (then of the next tables'), which makes the result the same on every run. */
#include "data_impl.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- errors ---- */

static bool
plain_name(const char *s)
{
	if (isdigit((unsigned char)*s))
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '_')
			return false;
	return true;
}

/* Adds `; did you mean X?` or the names that there are. */
static void
suggest(Text *t, const char *name, const char *const *names, size_t n, const char *kind, bool quote)
{
	const char *near = NULL;
	for (size_t i = 0; i < n && !near; i++)
		if (!strcasecmp(names[i], name))
			near = names[i];
	if (!near)
		near = nearest_name(name, names, n);
	if (near) {
		text_puts(t, "; did you mean ");
		if (quote && !plain_name(near))
			sql_ident(t, near);
		else
			text_puts(t, near);
		text_puts(t, "?");
		return;
	}
	text_printf(t, "; %s are ", kind);
	for (size_t i = 0; i < n && i < 24; i++) {
		text_puts(t, i ? ", " : "");
		if (quote && !plain_name(names[i]))
			sql_ident(t, names[i]);
		else
			text_puts(t, names[i]);
	}
	if (n > 24)
		text_puts(t, ", ...");
}

/* The error of a statement just prepared, with the nearest name where one is unknown. Returns false. */
static bool
sql_error(Source *s, const char *loc, const char *what, const char *sql, Err *e)
{
	const char *msg = sqlite3_errmsg(s->db), *name;
	Text t = {0};
	const char **names = NULL;
	size_t n = 0, cap = 0;
	text_printf(&t, "%s: %s: SQL: %s", loc, what, msg);
	if (!strncmp(msg, "no such column: ", 16)) {
		name = strrchr(msg, '.') ? strrchr(msg, '.') + 1 : msg + 16;
		for (uint32_t i = 0; i < s->ntable; i++)
			for (uint32_t k = 0; k < s->table[i].ncol; k++)
				VEC_PUSH(names, n, cap) = s->table[i].col[k].name;
		suggest(&t, name, names, n, "columns", true);
	} else if (!strncmp(msg, "no such table: ", 15)) {
		for (uint32_t i = 0; i < s->ntable; i++)
			VEC_PUSH(names, n, cap) = s->table[i].name;
		suggest(&t, msg + 15, names, n, "tables", true);
	} else if (!strncmp(msg, "no such function: ", 18)) {
		suggest(&t, msg + 18, sqlfn_names, nsqlfn, "functions", false);
	} else if (!strncmp(msg, "ambiguous column name: ", 23)) {
		text_puts(&t, "; write the table before it, as in posts.Username");
	} else if (!strcmp(what, "rows") && !strncasecmp(sql, "select ", 7)) {
		text_puts(&t, "; rows is what stands behind FROM: posts LEFT JOIN users USING (id)");
	} else if (!strncmp(msg, "near \"FROM\"", 11) && !strcasestr(sql, "from")) {
		text_puts(&t, "; the expression is not complete: is a ) missing?");
	} else if (strstr(sql, "**")) {
		text_puts(&t, "; a power is power(x, 2)");
	}
	text_printf(&t, "\n  in: %s", sql);
	fail(e, "%s", t.s);
	free(names);
	free(t.s);
	return false;
}

bool
query_int(Source *s, int64_t *out, Err *e, const char *fmt, ...)
{
	sqlite3_stmt *q = NULL;
	Text sql = {0};
	va_list ap;
	va_start(ap, fmt);
	text_vprintf(&sql, fmt, ap);
	va_end(ap);
	bool ok = !sqlite3_prepare_v2(s->db, sql.s, -1, &q, NULL) && sqlite3_step(q) == SQLITE_ROW;
	if (ok)
		*out = sqlite3_column_int64(q, 0);
	else
		fail(e, "%s: SQL: %s\n  in: %s", s->d->loc, sqlite3_errmsg(s->db), sql.s);
	sqlite3_finalize(q);
	free(sql.s);
	return ok;
}

/* ---- the expressions ---- */

/* Only reading, and a note of which columns are read. */
static int
authorize(void *ctx, int action, const char *a, const char *b, const char *c, const char *d)
{
	Source *s = ctx;
	(void)c, (void)d;
	if (action == SQLITE_READ && a && b) {
		for (uint32_t i = 0; i < s->ntable; i++) {
			int k = strcasecmp(s->table[i].name, a) ? -1 : table_column(&s->table[i], b);
			if (k >= 0)
				s->table[i].col[k].used = true;
		}
	}
	return action == SQLITE_READ || action == SQLITE_SELECT || action == SQLITE_FUNCTION || action == SQLITE_RECURSIVE
	               ? SQLITE_OK
	               : SQLITE_DENY;
}

static bool
check_sql(Source *s, const char *loc, const char *what, const char *expr, Err *e)
{
	sqlite3_stmt *q = NULL;
	Text sql = {0};
	const char *tail = NULL;
	text_printf(&sql, "SELECT (%s\n) FROM %s\n", expr, s->d->rows);
	bool ok = !sqlite3_prepare_v2(s->db, sql.s, -1, &q, &tail);
	if (!ok)
		sql_error(s, loc, what, strcmp(what, "rows") ? expr : s->d->rows, e);
	else if (!strncasecmp(expr, "select ", 7))
		ok = fail(e, "%s: %s: SQL: a value of each row is expected, not a query: write what stands behind SELECT\n  in: %s", loc, what, expr);
	else if (!q || sqlite3_column_count(q) != 1 || (tail && *tail))
		ok = fail(e, "%s: %s: SQL: one expression is expected\n  in: %s", loc, what, expr);
	sqlite3_finalize(q);
	free(sql.s);
	return ok;
}

/* A text that is a column's name as it stands, Length (seconds), means the column. */
static const char *
column_or_sql(Source *s, const char *sql)
{
	for (uint32_t i = 0; i < s->ntable; i++)
		for (uint32_t c = 0; c < s->table[i].ncol; c++)
			if (!strcmp(s->table[i].col[c].name, sql)) {
				Text t = {0};
				sql_ident(&t, sql);
				char *out = arena_strdup(&s->mem, t.s);
				free(t.s);
				return out;
			}
	return sql;
}

static Expr *
add_expr(Source *s, Rows *r, const char *what, const char *name, const char *sql, const char *loc, bool text)
{
	Expr *x = &r->expr[r->nexpr++];
	*x = (Expr){.what = *name ? arena_printf(&s->mem, "%s %s", what, name) : what, .sql = column_or_sql(s, sql), .loc = loc, .text = text};
	return x;
}

/* The first column of the first table, as SQL; NULL where the first table is a subquery. */
static const char *
key_sql(Source *s)
{
	const FromTable *t = &s->from.t[0];
	if (!s->from.n || t->table < 0)
		return NULL;
	Text sql = {0};
	sql_ident(&sql, t->alias);
	text_puts(&sql, ".");
	sql_ident(&sql, s->table[t->table].col[0].name);
	char *out = arena_strdup(&s->mem, sql.s);
	free(sql.s);
	return out;
}

bool
rows_check(Source *s, bool apply, Rows *r, Err *e)
{
	const PlanData *d = s->d;
	*r = (Rows){.expr = xcalloc((size_t)d->ninput + d->ntarget + 5, sizeof(Expr))};
	for (uint32_t i = 0; i < d->ninput; i++) {
		bool text = d->input[i].kind >= IN_CATEGORY && d->input[i].kind <= IN_TAGS;
		add_expr(s, r, "input", d->input[i].name, d->input[i].from, d->input[i].loc, text);
	}
	for (uint32_t i = 0; i < d->ntarget && !apply; i++) { /* next has no value of its own */
		const PlanTarget *t = &d->target[i];
		add_expr(s, r, "target", t->name, t->kind == TG_NEXT ? "0" : t->from, t->loc, t->kind == TG_CLASS);
	}
	if (*d->group && !apply)
		r->group = add_expr(s, r, "split group", "", d->group, d->split_loc, true);
	if (*d->stratify && !apply)
		r->stratify = add_expr(s, r, "split stratify", "", d->stratify, d->split_loc, true);
	if (*d->given && !apply)
		r->given = add_expr(s, r, "split given", "", d->given, d->split_loc, true);
	if (*d->order && !apply)
		r->order_by = add_expr(s, r, "split order", "", d->order, d->split_loc, false);
	const char *key = key_sql(s);
	if (key)
		r->key = add_expr(s, r, "row key", "", key, d->loc, true);
	sqlite3_set_authorizer(s->db, authorize, s);
	if (!check_sql(s, d->loc, "rows", "1", e))
		return false;
	if (*d->where && !apply && !check_sql(s, d->where_loc, "where", d->where, e))
		return false;
	for (uint32_t i = 0; i < r->nexpr; i++)
		if (!check_sql(s, r->expr[i].loc, r->expr[i].what, r->expr[i].sql, e))
			return false;
	return true;
}

/* ---- values ---- */

static void
put_number(Expr *x, int64_t row, sqlite3_stmt *q, int col, int64_t line)
{
	int type = sqlite3_column_type(q, col);
	Number num;
	double v = NAN;
	if (type == SQLITE_INTEGER) {
		v = (double)sqlite3_column_int64(q, col);
	} else if (type == SQLITE_FLOAT) {
		v = sqlite3_column_double(q, col);
		x->fraction = true;
	} else if (type != SQLITE_NULL) {
		const char *t = (const char *)sqlite3_column_text(q, col);
		if (t && *t && parse_number(t, &num))
			v = num.v;
		else if (t && *t)
			issue_add(&x->junk, line, t);
		x->fraction = true;
	}
	if (!isnan(v) && fabs(v) > FLT_MAX) { /* columns are f32 */
		issue_add(&x->junk, line, "beyond 3.4e38");
		v = NAN;
	}
	x->missing += isnan(v);
	x->num[row] = v;
}

static bool
put_text(Expr *x, int64_t row, sqlite3_stmt *q, int col)
{
	char buf[40];
	const char *t = buf;
	int type = sqlite3_column_type(q, col);
	x->off[row] = x->pool.n;
	if (type == SQLITE_INTEGER) {
		snprintf(buf, sizeof buf, "%lld", (long long)sqlite3_column_int64(q, col));
	} else if (type == SQLITE_FLOAT) {
		double v = sqlite3_column_double(q, col);
		snprintf(buf, sizeof buf, v == floor(v) && fabs(v) < 9e15 ? "%.0f" : "%.17g", v);
	} else {
		t = type == SQLITE_NULL ? "" : (const char *)sqlite3_column_text(q, col);
		size_t n = type == SQLITE_NULL ? 0 : (size_t)sqlite3_column_bytes(q, col);
		if (!t || utf8_prefix(t, n) < n)
			return false;
	}
	if (!*t) {
		x->off[row] = NO_TEXT;
		x->missing++;
		return true;
	}
	text_add(&x->pool, t, strlen(t) + 1);
	return true;
}

static char *
select_sql(Source *s, bool apply, const Rows *r)
{
	Text sql = {0};
	const From *f = &s->from;
	text_puts(&sql, "SELECT ");
	if (f->n && f->t[0].table >= 0) {
		sql_ident(&sql, f->t[0].alias);
		text_puts(&sql, "._rowid_");
	} else {
		text_puts(&sql, "0");
	}
	for (uint32_t i = 0; i < r->nexpr; i++)
		text_printf(&sql, ",\n(%s\n)", r->expr[i].sql);
	text_printf(&sql, "\nFROM %s\n", s->d->rows);
	if (*s->d->where && !apply)
		text_printf(&sql, "WHERE (%s\n)", s->d->where);
	for (uint32_t i = 0; i < f->n && f->plain; i++) {
		text_puts(&sql, i ? ", " : " ORDER BY ");
		sql_ident(&sql, f->t[i].alias);
		text_puts(&sql, "._rowid_");
	}
	return sql.s;
}

/* Why there are fewer rows than in the join: one of the expressions is of all rows together. Returns false. */
static bool
blame_aggregate(Source *s, const Rows *r, Err *e)
{
	for (uint32_t i = 0; i < r->nexpr; i++) {
		const Expr *x = &r->expr[i];
		int64_t n;
		if (!query_int(s, &n, e, "SELECT count(*) FROM (SELECT (%s\n) FROM %s\n)", x->sql, s->d->rows))
			return false;
		if (n == 1)
			return fail(e, "%s: %s: one value for all rows, and each row needs one: write sum(x) OVER () for sum(x)\n  in: %s", x->loc, x->what, x->sql);
	}
	return fail(e, "%s: rows: SQL: rows changed while they were read", s->d->loc);
}

static bool
read_rows(Source *s, Rows *r, sqlite3_stmt *q, Err *e)
{
	const Table *first = s->from.n && s->from.t[0].table >= 0 ? &s->table[s->from.t[0].table] : NULL;
	int64_t row = 0, cap = r->n;
	int rc;
	for (; (rc = sqlite3_step(q)) == SQLITE_ROW && row < cap; row++) {
		int64_t id = sqlite3_column_int64(q, 0);
		r->line[row] = first && id >= 1 && id <= (int64_t)first->nline ? first->line[id - 1] : row + 1;
		for (uint32_t i = 0; i < r->nexpr; i++) {
			Expr *x = &r->expr[i];
			if (!x->text)
				put_number(x, row, q, (int)i + 1, r->line[row]);
			else if (!put_text(x, row, q, (int)i + 1))
				return fail(e, "%s: %s: the value at %s:%lld is not UTF-8 text\n  in: %s", x->loc, x->what, r->file,
				            (long long)r->line[row], x->sql);
		}
	}
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		return fail(e, "%s: rows: SQL: %s", s->d->loc, sqlite3_errmsg(s->db));
	return row == cap && rc == SQLITE_DONE ? true : blame_aggregate(s, r, e);
}

/* How many rows the tables, the join and `where` leave; the first few that `where` leaves out. */
static bool
count_rows(Source *s, bool apply, Rows *r, Err *e)
{
	const PlanData *d = s->d;
	int64_t joined;
	const FromTable *f = &s->from.t[0];
	if (!query_int(s, &joined, e, "SELECT count(*) FROM %s\n", d->rows))
		return false;
	r->n = joined;
	text_printf(&s->report, "    %lld rows", (long long)joined);
	if (s->from.n > 1 && f->table >= 0 && joined > s->table[f->table].rows)
		text_printf(&s->report, ": WARNING: more than the %lld of %s, some appear several times",
		            (long long)s->table[f->table].rows, f->name);
	text_puts(&s->report, "\n");
	if (!joined)
		return fail(e, apply ? "%s: rows: the join has no rows: nothing in the other tables matches what is to be predicted; "
		                       "use LEFT JOIN to predict without a match\n  in: %s"
		                     : "%s: rows: there are no rows; check the files and the join\n  in: %s", d->loc, d->rows);
	if (!*d->where || apply)
		return true;
	if (!query_int(s, &r->n, e, "SELECT count(*) FROM %s\nWHERE (%s\n)", d->rows, d->where))
		return false;
	text_printf(&s->report, "  where %s\n    %lld rows stay, %lld are left out\n", d->where, (long long)r->n,
	            (long long)(joined - r->n));
	if (!r->n)
		return fail(e, "%s: where: none of the %lld rows satisfies it\n  in: %s", d->where_loc, (long long)joined, d->where);
	return true;
}

static const char *
after_slash(const char *path)
{
	return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

bool
rows_select(Source *s, bool apply, Rows *r, Err *e)
{
	r->file = s->from.n && s->from.t[0].table >= 0 ? after_slash(s->table[s->from.t[0].table].path) : "row";
	if (!count_rows(s, apply, r, e))
		return false;
	r->line = xmalloc((size_t)r->n * sizeof *r->line);
	r->order = xmalloc((size_t)r->n * sizeof *r->order);
	for (uint32_t i = 0; i < r->nexpr; i++) {
		Expr *x = &r->expr[i];
		if (x->text)
			x->off = xmalloc((size_t)r->n * sizeof *x->off);
		else
			x->num = xmalloc((size_t)r->n * sizeof *x->num);
	}
	sqlite3_stmt *q = NULL;
	char *sql = select_sql(s, apply, r);
	bool ok = !sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) ? read_rows(s, r, q, e) : sql_error(s, s->d->loc, "rows", sql, e);
	sqlite3_finalize(q);
	free(sql);
	r->kept = r->n;
	for (int64_t i = 0; i < r->n; i++)
		r->order[i] = i;
	return ok;
}

/* ---- cleaning ---- */

/* A '/' outside of quotes. */
static bool
divides(const char *sql)
{
	for (char quote = 0; *sql; sql++) {
		if (quote)
			quote = *sql == quote ? 0 : quote;
		else if (*sql == '\'' || *sql == '"' || *sql == '`')
			quote = *sql;
		else if (*sql == '/' && sql[1] != '*')
			return true;
	}
	return false;
}

bool
rows_clean(Source *s, Rows *r, Err *e)
{
	const PlanData *d = s->d;
	Issue *gone = xcalloc(r->nexpr, sizeof *gone);
	r->kept = 0;
	for (int64_t row = 0; row < r->n; row++) {
		bool keep = true;
		for (uint32_t i = 0; i < d->ninput + d->ntarget && keep; i++) {
			const Expr *x = &r->expr[i];
			bool needed = i >= d->ninput || d->input[i].missing == MISS_DROP;
			if (!needed || !expr_missing(x, row))
				continue;
			keep = false;
			issue_add(&gone[i], r->line[row], NULL);
		}
		if (keep)
			r->order[r->kept++] = row;
	}
	for (uint32_t i = 0; i < d->ninput + d->ntarget; i++) {
		const Expr *x = &r->expr[i];
		if (gone[i].n) {
			text_printf(&s->report, "    %lld rows dropped: %s has no value", (long long)gone[i].n, x->what);
			issue_puts(&s->report, r->file, &gone[i]);
			text_puts(&s->report, "\n");
		}
		if (!x->text && !x->fraction && x->missing < r->n && divides(x->sql))
			text_printf(&s->report, "    WARNING: %s divides whole numbers, so SQL drops the fraction; write 1.0 * ... / ...: %s\n",
			            x->what, x->sql);
	}
	bool ok = r->kept > 0;
	for (uint32_t i = 0; i < d->ninput + d->ntarget && !ok; i++)
		if (gone[i].n)
			fail(e, "%s: %s: no row is left: %lld of %lld rows have no value here%s%s%s\n  in: %s", r->expr[i].loc, r->expr[i].what,
			     (long long)gone[i].n, (long long)r->n, r->expr[i].junk.n ? "; the first that is no number is '" : "",
			     r->expr[i].junk.n ? r->expr[i].junk.first[0].text : "", r->expr[i].junk.n ? "'" : "", r->expr[i].sql);
	free(gone);
	return ok;
}

void
rows_free(Rows *r)
{
	for (uint32_t i = 0; i < r->nexpr; i++) {
		free(r->expr[i].num);
		free(r->expr[i].off);
		free(r->expr[i].pool.s);
	}
	free(r->expr);
	free(r->line);
	free(r->order);
	*r = (Rows){0};
}
