/* What the model's `rows` says: which tables it joins, on which keys, and how well they match.

   SQLite does the joining. This reads just enough of the FROM clause to put rows in a fixed order, to index keys, and to
   tell matched from unmatched rows: tables, aliases, LEFT, USING (a, b) and ON x.a = y.b [AND ...]. What it does
   not understand (subqueries, other conditions) still runs, with row counts alone in the report. */
#include "data_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- tokens of SQL ---- */

typedef struct Token {
	int kind;   /* 'w' word, 'q' quoted name, 's' string, 0 end, else the character */
	char *text; /* of words and names */
} Token;

typedef struct Lexer {
	const char *p;
	Arena *mem;
	Token now;
} Lexer;

static void
skip_space(Lexer *x)
{
	for (;;) {
		x->p += strspn(x->p, " \t\r\n");
		if (!strncmp(x->p, "--", 2)) {
			x->p += strcspn(x->p, "\n");
		} else if (!strncmp(x->p, "/*", 2)) {
			const char *end = strstr(x->p + 2, "*/");
			x->p = end ? end + 2 : x->p + strlen(x->p);
		} else {
			return;
		}
	}
}

static void
next(Lexer *x)
{
	skip_space(x);
	const char *s = x->p;
	unsigned char c = (unsigned char)*s;
	x->now = (Token){0, ""};
	if (!c)
		return;
	if (isalpha(c) || c == '_' || c >= 0x80) {
		while (isalnum((unsigned char)*x->p) || *x->p == '_' || *x->p == '$' || (unsigned char)*x->p >= 0x80)
			x->p++;
		x->now = (Token){'w', arena_strndup(x->mem, s, (size_t)(x->p - s))};
	} else if (c == '"' || c == '`' || c == '[' || c == '\'') {
		char close = c == '[' ? ']' : (char)c;
		char *t = arena_alloc(x->mem, strlen(s)), *o = t;
		for (s++; *s && (*s != close || (s[1] == close && close != ']')); s++) {
			*o++ = *s;
			s += *s == close;
		}
		x->p = *s ? s + 1 : s;
		x->now = (Token){c == '\'' ? 's' : 'q', t};
	} else {
		x->now.kind = c;
		x->p++;
	}
}

static bool is_word(const Lexer *x, const char *w) { return x->now.kind == 'w' && !strcasecmp(x->now.text, w); }
static bool is_name(const Lexer *x) { return x->now.kind == 'w' || x->now.kind == 'q'; }

static bool
is_keyword(const Lexer *x)
{
	static const char *const words[] = {"left", "right", "full", "outer", "inner", "cross", "natural", "join", "on", "using",
	                                    "where", "group", "order", "having", "limit", "union", "window", "indexed", "not"};
	for (size_t i = 0; i < LEN(words); i++)
		if (is_word(x, words[i]))
			return true;
	return false;
}

/* ---- FROM ---- */

static int
find_table(const Source *s, const char *name)
{
	for (uint32_t i = 0; i < s->ntable; i++)
		if (!strcasecmp(s->table[i].name, name))
			return (int)i;
	return -1;
}

static int
find_alias(const From *f, const char *alias)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (f->t[i].alias && !strcasecmp(f->t[i].alias, alias))
			return (int)i;
	return -1;
}

static void
skip_parens(Lexer *x)
{
	int depth = 0;
	do {
		depth += x->now.kind == '(' ? 1 : x->now.kind == ')' ? -1 : 0;
		next(x);
	} while (depth && x->now.kind);
}

static bool
read_table(Source *s, Lexer *x, FromTable *t)
{
	t->table = -1;
	if (x->now.kind == '(') {
		skip_parens(x);
	} else if (is_name(x) && !is_keyword(x)) {
		t->name = t->alias = x->now.text;
		t->table = find_table(s, t->name);
		next(x);
	} else {
		return false;
	}
	if (is_word(x, "as"))
		next(x);
	if (x->now.kind == 'q' || (x->now.kind == 'w' && !is_keyword(x))) {
		t->alias = x->now.text;
		next(x);
	}
	return true;
}

static void
add_key(FromTable *t, int left, const char *lcol, const char *rcol)
{
	if (t->nkey < LEN(t->key)) {
		t->key[t->nkey].left = left;
		t->key[t->nkey].lcol = lcol;
		t->key[t->nkey++].rcol = rcol;
	}
}

/* USING (a, b): the left side is the first earlier table that has the column. */
static void
read_using(Source *s, Lexer *x, FromTable *t, uint32_t at)
{
	for (next(x); x->now.kind && x->now.kind != ')'; next(x)) {
		if (!is_name(x))
			continue;
		for (uint32_t i = 0; i < at; i++) {
			int k = s->from.t[i].table;
			if (k >= 0 && table_column(&s->table[k], x->now.text) >= 0) {
				add_key(t, (int)i, x->now.text, x->now.text);
				break;
			}
		}
	}
	next(x);
}

/* alias.column; both NULL if it is something else. */
static bool
read_dotted(Lexer *x, const char **alias, const char **column)
{
	if (!is_name(x))
		return false;
	*alias = x->now.text;
	next(x);
	if (x->now.kind != '.')
		return false;
	next(x);
	*column = x->now.text;
	bool ok = is_name(x);
	next(x);
	return ok;
}

/* ON a.x = b.y AND ...; any other condition leaves the table without keys. Moves to the next join. */
static void
read_on(Source *s, Lexer *x, FromTable *t, uint32_t at)
{
	bool plain = true;
	do {
		const char *a, *b, *ca, *cb;
		next(x);
		plain = plain && read_dotted(x, &a, &ca) && x->now.kind == '=';
		if (!plain)
			break;
		next(x);
		plain = read_dotted(x, &b, &cb);
		if (!plain)
			break;
		int ia = find_alias(&s->from, a), ib = find_alias(&s->from, b);
		if (ib == (int)at && ia >= 0 && ia < ib)
			add_key(t, ia, ca, cb);
		else if (ia == (int)at && ib >= 0 && ib < ia)
			add_key(t, ib, cb, ca);
		else
			plain = false;
	} while (is_word(x, "and"));
	while (x->now.kind && x->now.kind != ',' && !is_keyword(x)) {
		plain = false;
		if (x->now.kind == '(')
			skip_parens(x);
		else
			next(x);
	}
	if (!plain)
		t->nkey = 0;
}

void
from_parse(Source *s)
{
	Lexer x = {.p = s->d->rows, .mem = &s->mem};
	From *f = &s->from;
	bool left = false;
	*f = (From){.plain = true};
	next(&x);
	while (f->n < LEN(f->t)) {
		FromTable *t = &f->t[f->n++];
		*t = (FromTable){.left = left, .table = -1};
		if (!read_table(s, &x, t) || t->table < 0)
			f->plain = false;
		if (is_word(&x, "on")) {
			read_on(s, &x, t, f->n - 1);
		} else if (is_word(&x, "using")) {
			next(&x);
			read_using(s, &x, t, f->n - 1);
		}
		left = is_word(&x, "left");
		if (x.now.kind == ',') {
			next(&x);
			continue;
		}
		bool join = false;
		while (is_keyword(&x) && !join) {
			join = is_word(&x, "join");
			next(&x);
		}
		if (!join)
			break;
	}
	if (x.now.kind)
		f->plain = false;
	for (uint32_t i = 0; i < f->n; i++) /* keys that name a column which is not there: SQLite will say so */
		for (uint32_t k = 0; k < f->t[i].nkey; k++) {
			const FromTable *l = &f->t[f->t[i].key[k].left];
			if (f->t[i].table < 0 || l->table < 0 || table_column(&s->table[l->table], f->t[i].key[k].lcol) < 0 ||
			    table_column(&s->table[f->t[i].table], f->t[i].key[k].rcol) < 0)
				f->t[i].nkey = 0;
		}
}

static TableColumn *
key_column(Source *s, const FromTable *t, const char *name)
{
	Table *tab = &s->table[t->table];
	return &tab->col[table_column(tab, name)];
}

void
from_unify_types(Source *s)
{
	for (uint32_t i = 0; i < s->from.n; i++) {
		FromTable *t = &s->from.t[i];
		for (uint32_t k = 0; k < t->nkey; k++) {
			TableColumn *a = key_column(s, &s->from.t[t->key[k].left], t->key[k].lcol);
			TableColumn *b = key_column(s, t, t->key[k].rcol);
			bool text = a->type <= CT_ID || b->type <= CT_ID;
			if (text && a->type > CT_ID)
				a->type = CT_TEXT;
			if (text && b->type > CT_ID)
				b->type = CT_TEXT;
		}
	}
}

bool
from_index(Source *s, Err *e)
{
	for (uint32_t i = 0; i < s->from.n; i++) {
		FromTable *t = &s->from.t[i];
		if (!t->nkey)
			continue;
		Text sql = {0};
		text_printf(&sql, "CREATE INDEX \"mm index %u\" ON ", i);
		sql_ident(&sql, t->name);
		for (uint32_t k = 0; k < t->nkey; k++) {
			text_puts(&sql, k ? ", " : " (");
			sql_ident(&sql, t->key[k].rcol);
		}
		text_puts(&sql, ")");
		int rc = sqlite3_exec(s->db, sql.s, NULL, NULL, NULL);
		free(sql.s);
		if (rc)
			return fail(e, "%s: rows: cannot index %s: %s", s->d->loc, t->name, sqlite3_errmsg(s->db));
	}
	return true;
}

/* ---- how well the keys match ---- */

/* All keys of a join that compare with one left table: "r.k = l.k AND ..." */
static void
put_condition(Text *q, const FromTable *t, int left)
{
	bool first = true;
	for (uint32_t k = 0; k < t->nkey; k++) {
		if (t->key[k].left != left)
			continue;
		text_puts(q, first ? "r." : " AND r.");
		first = false;
		sql_ident(q, t->key[k].rcol);
		text_puts(q, " = l.");
		sql_ident(q, t->key[k].lcol);
	}
}

/* The key columns of one side, parted by commas. */
static void
put_keys(Text *q, const FromTable *t, bool right)
{
	for (uint32_t k = 0; k < t->nkey; k++) {
		text_puts(q, k ? ", " : "");
		sql_ident(q, right ? t->key[k].rcol : t->key[k].lcol);
	}
}

/* "FROM left AS l WHERE [NOT] EXISTS (SELECT 1 FROM right AS r WHERE ...)" */
static char *
exists_clause(Source *s, const FromTable *t, int left, const char *not)
{
	Text q = {0};
	text_puts(&q, "FROM ");
	sql_ident(&q, s->from.t[left].name);
	text_printf(&q, " AS l WHERE %s EXISTS (SELECT 1 FROM ", not);
	sql_ident(&q, t->name);
	text_puts(&q, " AS r WHERE ");
	put_condition(&q, t, left);
	text_puts(&q, ")");
	char *out = arena_strdup(&s->mem, q.s);
	free(q.s);
	return out;
}

/* Adds each row (rowid, text) of a query as an example; cells of table t. At most a few rows are asked for. */
static bool
add_examples(Source *s, const Table *t, Issue *out, Err *e, const char *sql)
{
	sqlite3_stmt *q;
	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL))
		return fail(e, "join check: %s", sqlite3_errmsg(s->db));
	while (sqlite3_step(q) == SQLITE_ROW) {
		int64_t row = sqlite3_column_int64(q, 0);
		const char *key = (const char *)sqlite3_column_text(q, 1);
		issue_add(out, row >= 1 && row <= (int64_t)t->nline ? t->line[row - 1] : 0, key ? key : "NULL");
	}
	sqlite3_finalize(q);
	return true;
}

static bool
key_examples(Source *s, const FromTable *t, const char *column, const char *clause, Issue *out, Err *e)
{
	Text q = {0};
	text_puts(&q, "SELECT _rowid_, ");
	sql_ident(&q, column);
	text_printf(&q, " %s ORDER BY _rowid_ LIMIT 3", clause);
	bool ok = add_examples(s, &s->table[t->table], out, e, q.s);
	free(q.s);
	return ok;
}

/* Rows of the right table whose key an earlier row has too. */
static bool
check_duplicates(Source *s, const FromTable *t, Err *e)
{
	Text q = {0}, keys = {0};
	int64_t rows, distinct;
	Issue dup = {0};
	put_keys(&keys, t, true);
	sql_ident(&q, t->name);
	bool ok = query_int(s, &rows, e, "SELECT count(*) FROM %s", q.s) &&
	          query_int(s, &distinct, e, "SELECT count(*) FROM (SELECT DISTINCT %s FROM %s)", keys.s, q.s);
	if (ok && distinct < rows) {
		Text find = {0};
		text_printf(&find, "SELECT _rowid_, ");
		sql_ident(&find, t->key[0].rcol);
		text_printf(&find, " FROM %s WHERE _rowid_ NOT IN (SELECT min(_rowid_) FROM %s GROUP BY %s) ORDER BY _rowid_ LIMIT 3",
		            q.s, q.s, keys.s);
		ok = add_examples(s, &s->table[t->table], &dup, e, find.s);
		free(find.s);
		text_printf(&s->report, "    %lld rows of %s repeat a key", (long long)(rows - distinct), t->name);
		dup.n = rows - distinct;
		issue_puts(&s->report, s->table[t->table].file, &dup);
		text_puts(&s->report, ": the join multiplies rows that match them\n");
	}
	free(q.s);
	free(keys.s);
	return ok;
}

/* The first key that compares with a given left table. */
static uint32_t
key_with(const FromTable *t, int left)
{
	uint32_t k = 0;
	while (t->key[k].left != left)
		k++;
	return k;
}

static bool
no_match(Source *s, const FromTable *t, int left, Err *e)
{
	const FromTable *l = &s->from.t[left];
	uint32_t k = key_with(t, left);
	Issue a = {0}, b = {0};
	Text from = {0}, msg = {0};
	text_puts(&from, "FROM ");
	sql_ident(&from, l->name);
	key_examples(s, l, t->key[k].lcol, from.s, &a, e);
	from.n = 0;
	text_puts(&from, "FROM ");
	sql_ident(&from, t->name);
	key_examples(s, t, t->key[k].rcol, from.s, &b, e);
	text_printf(&msg, "%s: rows: no row of %s matches a row of %s: %s.%s is", s->d->loc, l->name, t->name, l->name,
	            t->key[k].lcol);
	issue_puts(&msg, s->table[l->table].file, &a);
	text_printf(&msg, ", %s.%s is", t->name, t->key[k].rcol);
	issue_puts(&msg, s->table[t->table].file, &b);
	text_puts(&msg, "; join on columns that hold the same values, or leave the table out");
	fail(e, "%s", msg.s);
	free(msg.s);
	free(from.s);
	return false;
}

/* Rows of the right table that some row of the left one has the key of. IN probes a set: EXISTS would scan. */
static bool
count_used(Source *s, const FromTable *t, int left, int64_t *used, Err *e)
{
	Text q = {0};
	text_puts(&q, "FROM ");
	sql_ident(&q, t->name);
	text_puts(&q, " WHERE (");
	put_keys(&q, t, true);
	text_puts(&q, ") IN (SELECT ");
	put_keys(&q, t, false);
	text_puts(&q, " FROM ");
	sql_ident(&q, s->from.t[left].name);
	text_puts(&q, ")");
	bool ok = query_int(s, used, e, "SELECT count(*) %s", q.s);
	free(q.s);
	return ok;
}

static bool
check_pair(Source *s, const FromTable *t, int left, bool strict, Err *e)
{
	const FromTable *l = &s->from.t[left];
	uint32_t k = key_with(t, left);
	int64_t rows = s->table[l->table].rows, matched, used;
	bool one_left = true; /* all keys compare with the same table */
	for (uint32_t i = 0; i < t->nkey; i++)
		one_left = one_left && t->key[i].left == left;
	if (!query_int(s, &matched, e, "SELECT count(*) %s", exists_clause(s, t, left, "")))
		return false;
	if (strict && !matched && rows)
		return no_match(s, t, left, e);
	text_printf(&s->report, "    %s.%s = %s.%s: %lld of %lld rows of %s match", l->name, t->key[k].lcol, t->name, t->key[k].rcol,
	            (long long)matched, (long long)rows, l->name);
	if (one_left) {
		if (!count_used(s, t, left, &used, e))
			return false;
		text_printf(&s->report, ", %lld of %lld rows of %s are used", (long long)used, (long long)s->table[t->table].rows,
		            t->name);
	}
	text_puts(&s->report, "\n");
	if (matched < rows) {
		Issue miss = {0};
		if (!key_examples(s, l, t->key[k].lcol, exists_clause(s, t, left, "NOT"), &miss, e))
			return false;
		miss.n = rows - matched;
		text_printf(&s->report, "    %lld rows of %s have no match%s", (long long)miss.n, l->name,
		            t->left ? ": columns of the other are missing" : ": left out");
		issue_puts(&s->report, s->table[l->table].file, &miss);
		text_puts(&s->report, "\n");
	}
	return true;
}

bool
from_check(Source *s, bool strict, Err *e)
{
	for (uint32_t i = 0; i < s->from.n; i++) {
		const FromTable *t = &s->from.t[i];
		for (uint32_t k = 0; k < t->nkey; k++) {
			bool seen = false;
			for (uint32_t j = 0; j < k; j++)
				seen = seen || t->key[j].left == t->key[k].left;
			if (!seen && !check_pair(s, t, t->key[k].left, strict, e))
				return false;
		}
		if (t->nkey && !check_duplicates(s, t, e))
			return false;
	}
	return true;
}
