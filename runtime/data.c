/* Tables to columns: opens and hashes the files, and calls the steps of data_impl.h in order.

   build  files -> cells -> typed SQLite tables -> one SELECT -> clean -> split -> fit -> encode -> cache
   apply  the same without where, targets, clean, split and fit, with the column types and values of a Fit */
#include "data_impl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Part of the cache key: raise it when the same files and schema give other columns. */
#define CODEC_VERSION 2

/* ---- the schema: a plan is verified, but what indexes and sizes things here is checked here ---- */

static bool
check_input(const PlanInput *in, Err *e)
{
	bool number = in->kind == IN_NUMBER;
	if (in->kind == IN_TENSOR || in->kind == IN_SEQUENCE)
		return true; /* plan_verify has seen to it */
	if (in->kind > IN_TAGS || in->missing > MISS_DROP || in->scale > 7 || in->ids > 2 || !isfinite(in->missing_value) ||
	    (in->scale & SC_ZSCORE && in->scale & SC_MINMAX))
		return fail(e, "%s: input %s: the plan has an unknown kind, scale or id rule; compile the model again", in->loc, in->name);
	if (in->width < 1 || in->width > 1 << 20 || (in->kind <= IN_CATEGORY && in->width != 1))
		return fail(e, "%s: input %s: %lld elements a row; 1 for numbers and categories, up to 1048576 for text and tags",
		            in->loc, in->name, (long long)in->width);
	if (!number && (in->size < 2 + (in->ids == 1) || in->size > INT32_MAX))
		return fail(e, "%s: input %s: %lld ids; it needs 0 for missing%s and at least one more", in->loc, in->name,
		            (long long)in->size, in->ids == 1 ? ", 1 for unknown" : "");
	if (in->kind >= IN_TEXT && in->ids == 0)
		return fail(e, "%s: input %s: words need a vocabulary or a hash to become ids", in->loc, in->name);
	return true;
}

static bool
check_schema(const PlanData *d, Err *e)
{
	double sum = d->train + d->val + d->test;
	if (!d->ntable || !*d->rows)
		return fail(e, "%s: data needs at least one table, and rows", d->loc);
	if (!(d->train >= 0 && d->val >= 0 && d->test >= 0 && fabs(sum - 1) < 1e-6))
		return fail(e, "%s: split: train, val and test are %g, %g, %g; they must be at least 0 and sum to 1", d->loc, d->train,
		            d->val, d->test);
	for (uint32_t i = 0; i < d->ninput; i++)
		if (!check_input(&d->input[i], e))
			return false;
	for (uint32_t i = 0; i < d->ntarget; i++) {
		const PlanTarget *t = &d->target[i];
		if (t->kind > TG_NEXT || t->above > AB_QUANTILE || (t->kind <= TG_BINARY && t->scale > 7) || !isfinite(t->threshold))
			return fail(e, "%s: target %s: the plan has an unknown kind, scale or threshold; compile the model again", t->loc,
			            t->name);
		if (t->kind == TG_BINARY && t->above == AB_QUANTILE && !(t->threshold > 0 && t->threshold < 1))
			return fail(e, "%s: target %s: quantile %g; it must lie between 0 and 1", t->loc, t->name, t->threshold);
	}
	return true;
}

/* Hash of a schema record: every field but where it stands (*loc, base). The rows of plan.h generate it. */
#define HASH_STR(r, f) h = hash_bytes(h, (r)->f, strlen((r)->f) + 1);
#define HASH_U32(r, f) h = hash_u64(h, (r)->f);
#define HASH_U64(r, f) h = hash_u64(h, (r)->f);
#define HASH_I64(r, f) h = hash_u64(h, (uint64_t)(r)->f);
#define HASH_F64(r, f) h = hash_bytes(h, &(r)->f, 8);
#define HASH_INTS(r, f) h = hash_bytes(hash_u64(h, (r)->n##f), (r)->f, (r)->n##f * sizeof *(r)->f);
#define HASH_STRS(r, f)                                                                             \
	h = hash_u64(h, (r)->n##f);                                                                 \
	for (uint32_t k = 0; k < (r)->n##f; k++)                                                    \
		h = hash_bytes(h, (r)->f[k], strlen((r)->f[k]) + 1);
#define HASH_FIELD(kind, f)                                                                         \
	if (!strstr(#f, "loc") && strcmp(#f, "base")) {                                             \
		HASH_##kind(r, f)                                                                   \
	}
#define HASH_LIST(rec, f)                                                                           \
	h = hash_u64(h, r->n##f);                                                                   \
	for (uint32_t i = 0; i < r->n##f; i++)                                                      \
		h = hash_##rec(h, &r->f[i]);
#define HASH_RECORD(rec, rows)                                                                      \
	static uint64_t hash_##rec(uint64_t h, const rec *r)                                        \
	{                                                                                           \
		rows(HASH_FIELD, HASH_LIST) return h;                                               \
	}
HASH_RECORD(PlanFile, PLAN_FILE)
HASH_RECORD(PlanShape, PLAN_SHAPE)
HASH_RECORD(PlanTable, PLAN_TABLE)
HASH_RECORD(PlanInput, PLAN_INPUT)
HASH_RECORD(PlanTarget, PLAN_TARGET)
HASH_RECORD(PlanData, PLAN_DATA)

static uint64_t
cache_key(const Source *s, uint64_t seed)
{
	uint64_t h = hash_PlanData(hash_u64(HASH_INIT, CODEC_VERSION), s->d);
	h = hash_u64(hash_u64(h, seed), (uint64_t)s->o->fold);
	for (uint32_t i = 0; i < s->ntable; i++) {
		h = hash_u64(h, s->table[i].hash);
		h = hash_bytes(h, s->table[i].file, strlen(s->table[i].file) + 1); /* the report names it */
	}
	return mix64(h);
}

/* ---- files ---- */

static const char *
replaced_path(const DataOptions *o, const char *table)
{
	for (const char *const *p = o->table; p && p[0] && p[1]; p += 2)
		if (!strcasecmp(p[0], table))
			return p[1];
	return NULL;
}

/* Every replaced table must be one of the model's. */
static bool
check_replaced(const PlanData *d, const DataOptions *o, Err *e)
{
	const char **names = xcalloc(d->ntable, sizeof *names);
	bool ok = true;
	for (uint32_t i = 0; i < d->ntable; i++)
		names[i] = d->table[i].name;
	for (const char *const *p = o->table; ok && p && p[0] && p[1]; p += 2) {
		bool known = false;
		for (uint32_t i = 0; i < d->ntable; i++)
			known = known || !strcasecmp(p[0], names[i]);
		const char *near = known ? NULL : nearest_name(p[0], names, d->ntable);
		if (!known)
			ok = fail(e, "--table %s: the model has no table of that name; %s%s", p[0], near ? "did you mean " : "its first is ",
			          near ? near : names[0]);
	}
	free(names);
	return ok;
}

static bool is_csv(const Table *t) { return t->kind == TB_CSV || t->kind == TB_TSV; }

static bool
open_table(const Source *s, const PlanTable *p, Table *t, Err *e)
{
	Err why = {0};
	t->name = p->name;
	t->loc = p->loc;
	t->plan = p;
	t->kind = p->kind;
	const char *other = replaced_path(s->o, p->name);
	if (!table_files(t, s->d->base, other, e))
		return false;
	if (is_csv(t) && t->nfiles == 1 && !table_has_parts(t)) { /* read once, for its hash and its rows */
		if (read_file(t->path, &t->raw, &t->nraw, &why))
			t->hash = hash_block(0, t->raw, t->nraw);
	} else {
		table_hash(t, s->o->cache_dir != NULL, &why); /* only the cache asks what is in it */
	}
	if (!why.set)
		return true;
	return other ? fail(e, "table %s of the command line: %s; its path counts from the current folder", p->name, why.msg)
	             : fail(e, "%s: table %s: %s; its path counts from the folder of the model file; --table %s=FILE takes another", p->loc,
	                    p->name, why.msg, p->name);
}

/* Adds the rows of one of several CSV files, which must have the columns of the first. */
static bool
append_csv(Table *t, const TableFile *f, Err *e)
{
	Table one = {.name = t->name, .loc = t->loc, .kind = t->kind, .path = xstrdup(f->path)};
	bool ok = read_file(f->path, &one.raw, &one.nraw, e) && csv_read(&one, e);
	uint32_t parts = table_has_parts(t);
	bool first = !t->ncol;
	for (uint32_t k = 0; ok && first && k < one.ncol; k++)
		table_add_column(t, one.col[k].name);
	if (ok && first && parts)
		table_add_column(t, "part");
	ok = ok && (t->ncol == one.ncol + parts || fail(e, "%s: it has %u columns, %s has %u", f->path, one.ncol, t->path, t->ncol - parts));
	for (uint32_t k = 0; ok && k < one.ncol; k++)
		ok = !strcasecmp(t->col[k].name, one.col[k].name) ||
		     fail(e, "%s: column %u is %s, in %s it is %s", f->path, k + 1, one.col[k].name, t->path, t->col[k].name);
	for (int64_t r = 0; ok && r < one.rows; r++) {
		const size_t *at = &one.cell[(size_t)r * one.ncol];
		for (uint32_t k = 0; k < one.ncol; k++)
			table_add_text(t, one.text.s + at[k], at[k + 1] - at[k] - 1);
		table_name_part(t, f->part);
		table_end_row(t, one.line[r]);
	}
	t->ragged.n += one.ragged.n;
	t->stray_quote.n += one.stray_quote.n;
	table_free(&one);
	return ok;
}

static bool
read_table(Table *t, uint32_t *tensors, Err *e)
{
	if (!is_csv(t)) {
		bool ok = table_read(t, *tensors, e);
		*tensors += t->ntensor;
		return ok;
	}
	if (t->raw)
		return csv_read(t, e);
	for (uint32_t i = 0; i < t->nfiles; i++)
		if (!append_csv(t, &t->files[i], e))
			return false;
	VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n; /* the end of the last cell */
	t->ncell--;
	return true;
}

static void
source_close(Source *s)
{
	for (uint32_t i = 0; i < s->ntable; i++)
		table_free(&s->table[i]);
	free(s->table);
	sqlite3_close(s->db);
	free(s->report.s);
	arena_free(&s->mem);
}

/* The first table of FROM, by its name in the text alone: tables are not read yet. */
static int
first_table(Source *s)
{
	from_parse(s);
	return s->from.n ? s->from.t[0].table : -1;
}

/* One row given as pairs column, value, with the columns that the table had in training. */
static bool
typed_table(const Fit *fit, const char *const *record, Table *t, Err *e)
{
	const char **names = NULL;
	size_t n = 0, cap = 0;
	for (uint32_t i = 0; i < fit->ncolumn; i++) {
		if (strcasecmp(fit->column[i].table, t->name))
			continue;
		TableColumn c = {.name = xstrdup(fit->column[i].name)};
		VEC_PUSH(t->col, t->ncol, t->capcol) = c;
		VEC_PUSH(names, n, cap) = fit->column[i].name;
	}
	const char **value = xcalloc(t->ncol, sizeof *value);
	for (const char *const *p = record; p[0] && p[1] && !e->set; p += 2) {
		int k = table_column(t, p[0]);
		const char *near = k < 0 ? nearest_name(p[0], names, n) : NULL;
		if (k < 0)
			fail(e, "table %s has no column %s%s%s%s", t->name, p[0], near ? "; did you mean " : "", near ? near : "",
			     near ? "?" : "");
		else if (utf8_prefix(p[1], strlen(p[1])) < strlen(p[1]))
			fail(e, "the value of %s is not UTF-8", p[0]);
		else
			value[k] = p[1];
	}
	for (uint32_t k = 0; k < t->ncol; k++) {
		const char *v = value[k] ? value[k] : "";
		VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n;
		text_add(&t->text, v, strlen(v) + 1);
	}
	VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n;
	VEC_PUSH(t->line, t->nline, t->capline) = 1;
	t->rows = 1;
	if (!t->ncol)
		fail(e, "the fitted values do not know table %s; they belong to another model", t->name);
	free(names);
	free(value);
	return !e->set;
}

/* Opens all tables: files are read and hashed, not parsed. */
static bool
source_open(Source *s, const PlanData *d, const DataOptions *o, const Fit *fit, const char *const *record, Err *e)
{
	*s = (Source){.d = d, .o = o};
	if (!check_schema(d, e) || !check_replaced(d, o, e))
		return false;
	s->ntable = d->ntable;
	s->table = xcalloc(d->ntable, sizeof *s->table);
	for (uint32_t i = 0; i < d->ntable; i++)
		s->table[i].name = d->table[i].name;
	int typed = record ? first_table(s) : -1;
	if (record && typed < 0)
		return fail(e, "%s: rows: a typed row needs a table first in rows, not a subquery", d->loc);
	for (uint32_t i = 0; i < d->ntable; i++) {
		Table *t = &s->table[i];
		if ((int)i != typed) {
			if (!open_table(s, &d->table[i], t, e))
				return false;
			continue;
		}
		t->loc = d->table[i].loc;
		t->path = xstrdup("typed");
		t->file = t->path;
		t->typed = true;
		if (!typed_table(fit, record, t, e))
			return false;
	}
	return true;
}

/* ---- SQLite ---- */

static void
fix_types(Table *t, const Fit *fit)
{
	for (uint32_t i = 0; i < fit->ncolumn; i++) {
		int k = strcasecmp(fit->column[i].table, t->name) ? -1 : table_column(t, fit->column[i].name);
		if (k >= 0) {
			t->col[k].type = fit->column[i].type;
			t->col[k].fixed = true;
		}
	}
}

/* Parses the files and loads them into an in-memory database, ready for the SELECT. */
static bool
source_load(Source *s, const Fit *fit, Err *e)
{
	uint32_t tensors = 0;
	for (uint32_t i = 0; i < s->ntable; i++) {
		Table *t = &s->table[i];
		if (!t->typed && !read_table(t, &tensors, e))
			return false;
		if (fit)
			fix_types(t, fit);
		table_decide_types(t);
	}
	if (sqlite3_open_v2(":memory:", &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY, NULL) ||
	    !sqlfn_register(s->db, &s->notes))
		return fail(e, "SQLite: %s", sqlite3_errmsg(s->db));
	/* A misspelt "column" is an error, not a string. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
	from_parse(s);
	from_unify_types(s);
	for (uint32_t i = 0; i < s->ntable; i++)
		if (!table_load(&s->table[i], s->db, e))
			return false;
	return from_index(s, e);
}

/* From tables to the rows of the SELECT, with the report so far. */
static bool
source_rows(Source *s, const Fit *fit, Rows *r, Err *e)
{
	bool apply = fit != NULL;
	if (!source_load(s, fit, e) || !rows_check(s, apply, r, e))
		return false;
	text_puts(&s->report, "tables\n");
	for (uint32_t i = 0; i < s->ntable; i++)
		table_report(&s->table[i], &s->report);
	text_printf(&s->report, "rows\n  %s\n", s->d->rows);
	return from_check(s, !apply, e) && rows_select(s, apply, r, e);
}

/* ---- report ---- */

static void
report_sql_notes(Source *s)
{
	const struct {
		const Issue *issue;
		const char *what;
	} notes[] = {{&s->notes.number, "not a number"}, {&s->notes.time, "not a date"}, {&s->notes.json, "not a JSON list"}};
	for (size_t i = 0; i < LEN(notes); i++) {
		if (!notes[i].issue->n)
			continue;
		text_printf(&s->report, "    %lld times a function was given what is %s: missing", (long long)notes[i].issue->n,
		            notes[i].what);
		issue_puts(&s->report, "", notes[i].issue);
		text_puts(&s->report, "\n");
	}
}

static void
report_issue(Source *s, const Rows *r, const Issue *issue, const char *what)
{
	if (!issue->n)
		return;
	text_printf(&s->report, "      %lld %s", (long long)issue->n, what);
	issue_puts(&s->report, r->file, issue);
	text_puts(&s->report, "\n");
}

static double percent(int64_t part, int64_t all) { return all ? 100.0 * (double)part / (double)all : 0; }

/* Adds one more remark to a line of the report. */
static void item(Text *t, const char *fmt, ...) PRINTF(2, 3);
static void
item(Text *t, const char *fmt, ...)
{
	va_list ap;
	text_puts(t, t->n && t->s[t->n - 1] == ' ' ? "" : ", ");
	va_start(ap, fmt);
	text_vprintf(t, fmt, ap);
	va_end(ap);
}

static void
report_number(Text *t, const Rows *r, const PlanInput *in, const InputFit *f, const Coded *c, bool apply)
{
	static const char *const how[] = {"zero", "constant", "mean", "median", "mode", "median"};
	if (c->missing == r->kept && !apply)
		item(t, "WARNING: no row has a value");
	if (c->missing)
		item(t, "%lld missing -> %s %.6g", (long long)c->missing, how[in->missing], f->impute);
	if (apply)
		return;
	item(t, "train mean %.4g std %.4g%s", f->scale.mean, f->scale.std, in->scale & SC_LOG1P ? " of log1p" : "");
	if (f->scale.min == f->scale.max)
		item(t, "constant");
}

static void
report_words(Text *t, const Rows *r, const PlanInput *in, const InputFit *f, const Coded *c)
{
	if (c->missing)
		item(t, "%lld rows without a value", (long long)c->missing);
	if (in->kind == IN_TENSOR || in->kind == IN_SEQUENCE) {
		item(t, "%lld %ss a row", (long long)in->width, in->kind == IN_TENSOR ? dtype_name((DType)in->dtype) : in->size == 256 ? "byte" : "id");
		for (uint32_t k = 0; k < f->nchannel && k < 4; k++)
			item(t, "train mean %.4g std %.4g", f->mean[k], f->std[k]);
		return;
	}
	if (in->kind >= IN_TEXT)
		item(t, "%.1f words a row", (double)c->words / (double)r->kept);
	if (c->truncated)
		item(t, "%lld rows cut at %lld", (long long)c->truncated, (long long)in->width);
	if (in->ids == 1)
		item(t, "vocabulary of %u, %.1f %% unknown", f->vocab.n, percent(c->unknown, c->words));
	else if (in->ids == 2)
		item(t, "hashed to %lld ids", (long long)in->size - 1);
}

static void
report_input(Source *s, const Rows *r, uint32_t i, const InputFit *f, const Coded *c, bool apply)
{
	static const char *const kinds[] = {"number", "category", "text", "tags", "tensor", "sequence"};
	const PlanInput *in = &s->d->input[i];
	text_printf(&s->report, "  %-12s %-8s  ", in->name, kinds[in->kind]);
	if (in->kind == IN_NUMBER)
		report_number(&s->report, r, in, f, c, apply);
	else
		report_words(&s->report, r, in, f, c);
	while (s->report.s[s->report.n - 1] == ' ')
		s->report.n--;
	text_puts(&s->report, "\n");
	report_issue(s, r, &r->expr[i].junk, "values are not numbers: missing");
	report_issue(s, r, &c->clamped, "values below 0, taken as 0 for log1p");
	report_issue(s, r, &c->range, "values are no id of this input: id 0");
	report_issue(s, r, &c->absent, "rows have none: zeros");
}

/* Shares of the classes in the training split: the largest, the smallest. */
static void
report_classes(Source *s, const Rows *r, const PlanTarget *t, const int32_t *v)
{
	int64_t *n = xcalloc((size_t)t->size, sizeof *n), most = 0, least = 0;
	for (int64_t i = 0; i < r->split[1]; i++)
		n[v[i]]++;
	for (int64_t k = 1; k < t->size; k++) {
		most = n[k] > n[most] ? k : most;
		least = n[k] < n[least] ? k : least;
	}
	item(&s->report, "%lld classes, %.1f to %.1f %% of train", (long long)t->size, percent(n[least], r->split[1]), percent(n[most], r->split[1]));
	if (!n[least])
		item(&s->report, "WARNING: class %lld is not among them", (long long)least);
	free(n);
}

static void
report_target(Source *s, const Rows *r, const PlanTarget *t, const TargetFit *f, const void *values, const Coded *c)
{
	static const char *const names[] = {"train", "validation", "test"};
	static const char *const kinds[] = {"number", "binary", "class", "labels", "tensor", "next"};
	const float *v = values;
	text_printf(&s->report, "  %-12s %-8s  ", t->name, kinds[t->kind]);
	if (t->kind == TG_CLASS)
		report_classes(s, r, t, values);
	else if (t->kind == TG_LABELS)
		item(&s->report, "%lld classes at %lld places", (long long)t->size, (long long)t->width);
	else if (t->kind == TG_TENSOR)
		item(&s->report, "%lld %ss a row", (long long)t->width, dtype_name((DType)t->dtype));
	else if (t->kind == TG_NEXT)
		item(&s->report, "of %s", t->from);
	if (t->kind == TG_NUMBER)
		item(&s->report, "train mean %.4g std %.4g min %.4g max %.4g%s", f->scale.mean, f->scale.std, f->scale.min, f->scale.max,
		     t->scale & SC_LOG1P ? " of log1p" : "");
	else if (t->kind == TG_BINARY && t->above != AB_CONDITION)
		item(&s->report, "above %.10g", f->threshold);
	for (int k = 0; k < 3 && t->kind == TG_BINARY; k++) {
		int64_t positive = 0, n = r->split[k + 1] - r->split[k];
		for (int64_t i = r->split[k]; i < r->split[k + 1]; i++)
			positive += v[i] != 0;
		if (n)
			item(&s->report, "%s%.1f %% of %s", k ? "" : "positive ", percent(positive, n), names[k]);
	}
	text_puts(&s->report, "\n");
	report_issue(s, r, &c->clamped, "values below 0, taken as 0 for log1p");
}

static void
print_report(const DataOptions *o, const Text *report)
{
	if (o->report && report->n)
		fwrite(report->s, 1, report->n, o->report);
}

/* ---- build and apply ---- */

/* One column of the dataset. Channels of a tensor are fitted here, once its elements are there. */
static bool
fill_input(Source *s, const Rows *r, uint32_t i, Fit *fit, bool apply, void *out, Coded *c, Err *e)
{
	const PlanInput *in = &s->d->input[i];
	if (in->kind == IN_SEQUENCE)
		return encode_sequence(s, r, &r->expr[i], in, out, e);
	if (in->kind != IN_TENSOR) {
		encode_input(in, &fit->input[i], r, &r->expr[i], out, c);
		return true;
	}
	if (!encode_tensor(s, r, &r->expr[i], (DType)in->dtype, in->dim, in->ndim, out, c, e))
		return false;
	if (!apply && c->absent.n == r->kept)
		return fail(e, "%s: input %s: none of %lld rows has one: look at the join, and at the folder's column name\n  in: %s", in->loc, in->name,
		            (long long)r->kept, r->expr[i].sql);
	if (!apply && (in->scale & SC_ZSCORE))
		fit_channels(in, r, out, &fit->input[i]);
	return true;
}

static bool
fill_target(Source *s, const Rows *r, uint32_t i, const Fit *fit, void *out, Coded *c, Err *e)
{
	const PlanTarget *t = &s->d->target[i];
	const Expr *x = &r->expr[s->d->ninput + i];
	if (t->kind == TG_NEXT)
		return true;
	if (t->kind == TG_LABELS)
		return encode_tensor(s, r, x, DT_U8, t->dim, t->ndim, out, c, e) && check_labels(t, r, out, e);
	if (t->kind == TG_TENSOR)
		return encode_tensor(s, r, x, (DType)t->dtype, t->dim, t->ndim, out, c, e);
	encode_target(t, &fit->target[i], r, x, out, c);
	return true;
}

static bool
encode_all(Source *s, const Rows *r, Fit *fit, bool apply, Dataset *out, Err *e)
{
	const PlanData *d = s->d;
	if (!columns_alloc(d, apply, r->kept, out, e))
		return false;
	memcpy(out->split, r->split, sizeof out->split);
	text_puts(&s->report, "inputs\n");
	report_sql_notes(s);
	for (uint32_t i = 0; i < d->ninput; i++) {
		Coded c = {0};
		if (!fill_input(s, r, i, fit, apply, (void *)(uintptr_t)out->column[i].data, &c, e))
			return false;
		report_input(s, r, i, &fit->input[i], &c, apply);
	}
	if (!apply && d->ntarget)
		text_puts(&s->report, "targets\n");
	for (uint32_t i = 0; i < d->ntarget && !apply; i++) {
		Coded c = {0};
		void *v = (void *)(uintptr_t)out->column[d->ninput + i].data;
		if (!fill_target(s, r, i, fit, v, &c, e))
			return false;
		report_target(s, r, &d->target[i], &fit->target[i], v, &c);
	}
	columns_set_keys(out, r);
	return true;
}

static bool
build_rows(Source *s, uint64_t seed, Dataset *out, Fit **fit, Err *e)
{
	Rows r = {0};
	*fit = NULL;
	bool ok = source_rows(s, NULL, &r, e) && rows_clean(s, &r, e) && rows_split(s, &r, seed, e) && fit_build(s, &r, fit, e) &&
	          encode_all(s, &r, *fit, false, out, e);
	if (!ok) {
		dataset_free(out);
		fit_free(*fit);
		*fit = NULL;
	}
	rows_free(&r);
	return ok;
}

/* A cache that cannot be written costs time, not the run: it is said, and that is all. */
static void
try_cache(const DataOptions *o, const char *path, uint64_t key, const Dataset *out, const Fit *fit, const Text *report)
{
	Err why = {0};
	char *json = fit_to_json(fit);
	if (mkdir(o->cache_dir, 0777) && errno != EEXIST)
		fail(&why, "%s: cannot create: %s", o->cache_dir, strerror(errno));
	else
		cache_write(path, key, out, json, report, &why);
	if (why.set && o->report)
		fprintf(o->report, "cache not written: %s\n", why.msg);
	free(json);
}

bool
data_build(const PlanData *d, const DataOptions *o, Dataset *out, Fit **fit, Err *e)
{
	Source s;
	char *path = NULL;
	const char *why = NULL;
	uint64_t seed = o->split_seed >= 0 ? (uint64_t)o->split_seed : d->seed, key = 0;
	bool ok = source_open(&s, d, o, NULL, NULL, e), hit = false;
	*out = (Dataset){0};
	if (ok && o->cache_dir) {
		key = cache_key(&s, seed);
		path = arena_printf(&s.mem, "%s/%016llx.columns", o->cache_dir, (unsigned long long)key);
		hit = cache_open(path, d, key, out, fit, &s.report, &why);
		if (why && o->report)
			fprintf(o->report, "cache not used: %s %s\n", path, why);
	}
	ok = ok && (hit || build_rows(&s, seed, out, fit, e));
	if (ok)
		print_report(o, &s.report);
	if (ok && path && !hit)
		try_cache(o, path, key, out, *fit, &s.report);
	source_close(&s);
	return ok;
}

bool
data_apply(const PlanData *d, const DataOptions *o, const Fit *fit, const char *const *record, Dataset *out, Err *e)
{
	Source s;
	Rows r = {0};
	*out = (Dataset){0};
	bool ok = source_open(&s, d, o, fit, record, e) && source_rows(&s, fit, &r, e);
	r.split[3] = r.kept;
	ok = ok && encode_all(&s, &r, (Fit *)(uintptr_t)fit, true, out, e); /* which does not fit anything */
	if (!ok)
		dataset_free(out);
	if (ok)
		print_report(o, &s.report);
	rows_free(&r);
	source_close(&s);
	return ok;
}
