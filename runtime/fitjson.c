/* A Fit as JSON and back, exactly: numbers with 17 digits, words in the order of their ids.

   {"version": 1,
    "columns": {"posts": {"Plays": "integer", ...}},       how each table column was stored
    "inputs":  {"length": {"impute": 15, "mean": ..., "std": ..., "min": ..., "max": ...},
                "caption": {"vocabulary": ["the", ...]},   the first word has id 2
                "image": {"mean": [0.49, ...], "std": [...]}},  of each channel, where it is asked for
    "targets": {"viral": {"threshold": ..., "mean": 0.1, "positive_weight": 9, ...},
                "species": {.., "classes": ["cat", ...]}}} the first has id 0 */
#include "data_impl.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIT_VERSION 1

/* Numbers of each record: name in JSON, member. */
#define SCALE_FIELDS(X) X(mean, scale.mean) X(std, scale.std) X(min, scale.min) X(max, scale.max)
#define INPUT_FIELDS(X) X(impute, impute) SCALE_FIELDS(X)
#define TARGET_FIELDS(X)                                                                            \
	X(scale_mean, scale.mean) X(scale_std, scale.std) X(scale_min, scale.min) X(scale_max, scale.max)  \
	X(threshold, threshold) X(mean, prior) X(positive_weight, positive_weight)

static json_t *
columns_to_json(const Fit *f)
{
	json_t *tables = json_object();
	for (uint32_t i = 0; i < f->ncolumn; i++) {
		json_t *t = json_object_get(tables, f->column[i].table);
		if (!t) {
			t = json_object();
			json_object_set_new(tables, f->column[i].table, t);
		}
		json_object_set_new(t, f->column[i].name, json_string(column_type_names[f->column[i].type]));
	}
	return tables;
}

static json_t *
input_to_json(const InputFit *f)
{
	json_t *o = json_object();
	if (f->number) {
#define X(key, member) json_object_set_new(o, #key, json_real(f->member));
		INPUT_FIELDS(X)
#undef X
	} else if (f->words) {
		json_t *list = json_array();
		for (uint32_t i = 0; i < f->vocab.n; i++)
			json_array_append_new(list, json_string(f->vocab.word[i]));
		json_object_set_new(o, "vocabulary", list);
	} else if (f->nchannel) {
		json_t *mean = json_array(), *std = json_array();
		for (uint32_t i = 0; i < f->nchannel; i++) {
			json_array_append_new(mean, json_real(f->mean[i]));
			json_array_append_new(std, json_real(f->std[i]));
		}
		json_object_set_new(o, "mean", mean);
		json_object_set_new(o, "std", std);
	}
	return o;
}

static json_t *
target_to_json(const TargetFit *f)
{
	json_t *o = json_object();
#define X(key, member) json_object_set_new(o, #key, json_real(f->member));
	TARGET_FIELDS(X)
#undef X
	if (f->classes.n) {
		json_t *list = json_array();
		for (uint32_t i = 0; i < f->classes.n; i++)
			json_array_append_new(list, json_string(f->classes.word[i]));
		json_object_set_new(o, "classes", list);
	}
	return o;
}

char *
fit_to_json(const Fit *f)
{
	json_t *root = json_object(), *in = json_object(), *tg = json_object();
	json_object_set_new(root, "version", json_integer(FIT_VERSION));
	json_object_set_new(root, "columns", columns_to_json(f));
	json_object_set_new(root, "inputs", in);
	json_object_set_new(root, "targets", tg);
	for (uint32_t i = 0; i < f->ninput; i++)
		json_object_set_new(in, f->input[i].name, input_to_json(&f->input[i]));
	for (uint32_t i = 0; i < f->ntarget; i++)
		json_object_set_new(tg, f->target[i].name, target_to_json(&f->target[i]));
	char *json = json_dumps(root, JSON_COMPACT), *out = xstrdup(json ? json : "");
	free(json);
	json_decref(root);
	return out;
}

/* ---- and back ---- */

/* One number of a record; finite. */
static void
get_number(const json_t *o, const char *what, const char *name, double *out, Err *e)
{
	const json_t *v = json_object_get(o, name);
	if (!json_is_number(v))
		fail(e, "fitted values: %s has no number '%s'; they belong to another model or are damaged", what, name);
	else
		*out = json_number_value(v);
}

static void
get_vocab(const json_t *o, const PlanInput *in, Dict *d, Err *e)
{
	const json_t *list = json_object_get(o, "vocabulary");
	size_t n = json_array_size(list);
	if (!json_is_array(list) || (int64_t)n > in->size - 2) {
		fail(e, "fitted values: input %s has no vocabulary of at most %lld words; they belong to another model", in->name,
		     (long long)(in->size - 2));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *w = json_string_value(json_array_get(list, i));
		if (!w || dict_add(d, w) != i) {
			fail(e, "fitted values: input %s: word %zu is not a string or stands there twice", in->name, i);
			return;
		}
	}
}

static void
get_channels(const json_t *o, const PlanInput *in, InputFit *f, Err *e)
{
	size_t c = (size_t)in->dim[in->ndim - 1];
	const json_t *mean = json_object_get(o, "mean"), *std = json_object_get(o, "std");
	if (json_array_size(mean) != c || json_array_size(std) != c) {
		fail(e, "fitted values: input %s has no mean and std of %zu channels; they belong to another model", in->name, c);
		return;
	}
	f->mean = xcalloc(c, sizeof *f->mean);
	f->std = xcalloc(c, sizeof *f->std);
	for (f->nchannel = 0; f->nchannel < c; f->nchannel++) {
		f->mean[f->nchannel] = json_number_value(json_array_get(mean, f->nchannel));
		f->std[f->nchannel] = json_number_value(json_array_get(std, f->nchannel));
		if (!(f->std[f->nchannel] > 0))
			fail(e, "fitted values: input %s has a standard deviation that is not positive", in->name);
	}
}

static void
get_classes(const json_t *o, const PlanTarget *t, TargetFit *f, Err *e)
{
	const json_t *list = json_object_get(o, "classes");
	if (json_array_size(list) > (size_t)t->size)
		fail(e, "fitted values: target %s has more than %lld classes; they belong to another model", t->name, (long long)t->size);
	for (size_t i = 0; i < json_array_size(list) && !e->set; i++) {
		const char *w = json_string_value(json_array_get(list, i));
		if (!w || dict_add(&f->classes, w) != i)
			fail(e, "fitted values: target %s: class %zu is not a string or stands there twice", t->name, i);
	}
}

static void
get_input(const json_t *o, const PlanInput *in, InputFit *f, Err *e)
{
	if (!json_is_object(o)) {
		fail(e, "fitted values: none for input %s; they belong to another model", in->name);
		return;
	}
	if (f->number) {
#define X(key, member) get_number(o, in->name, #key, &f->member, e);
		INPUT_FIELDS(X)
#undef X
	} else if (f->words) {
		get_vocab(o, in, &f->vocab, e);
	} else if (f->tensor && (in->scale & SC_ZSCORE)) {
		get_channels(o, in, f, e);
	}
}

static void
get_target(const json_t *o, const PlanTarget *t, TargetFit *f, Err *e)
{
	if (!json_is_object(o)) {
		fail(e, "fitted values: none for target %s; they belong to another model", t->name);
		return;
	}
#define X(key, member) get_number(o, t->name, #key, &f->member, e);
	TARGET_FIELDS(X)
#undef X
	if (t->kind == TG_CLASS)
		get_classes(o, t, f, e);
}

static void
get_columns(json_t *tables, Fit *f, Err *e)
{
	const char *table, *name;
	json_t *cols, *type;
	json_object_foreach(tables, table, cols) {
		json_object_foreach(cols, name, type) {
			uint32_t t = 0;
			const char *s = json_is_string(type) ? json_string_value(type) : "";
			while (t < NCT && strcmp(s, column_type_names[t]))
				t++;
			if (t == NCT) {
				fail(e, "fitted values: column %s of table %s has no known type", name, table);
				return;
			}
			VEC_PUSH(f->column, f->ncolumn, f->capcolumn) = (FitColumn){xstrdup(table), xstrdup(name), (ColumnType)t};
		}
	}
}

Fit *
fit_from_json(const PlanData *d, const char *json, Err *e)
{
	json_error_t why;
	json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &why), *in, *tg;
	if (!json_is_object(root)) {
		fail(e, "fitted values: not JSON: %s at %d:%d", root ? "an object is expected" : why.text, why.line, why.column);
		json_decref(root);
		return NULL;
	}
	Fit *f = fit_new(d);
	in = json_object_get(root, "inputs");
	tg = json_object_get(root, "targets");
	if (json_integer_value(json_object_get(root, "version")) != FIT_VERSION)
		fail(e, "fitted values: not of version %d; train again with this mmrun", FIT_VERSION);
	else if (json_object_size(in) != d->ninput || json_object_size(tg) != d->ntarget)
		fail(e, "fitted values: %zu inputs and %zu targets, the model has %u and %u; they belong to another model",
		     json_object_size(in), json_object_size(tg), d->ninput, d->ntarget);
	get_columns(json_object_get(root, "columns"), f, e);
	for (uint32_t i = 0; i < d->ninput && !e->set; i++) {
		get_input(json_object_get(in, d->input[i].name), &d->input[i], &f->input[i], e);
		if (f->input[i].number && f->input[i].scale.std <= 0)
			fail(e, "fitted values: input %s has a standard deviation that is not positive", d->input[i].name);
	}
	for (uint32_t i = 0; i < d->ntarget && !e->set; i++) {
		get_target(json_object_get(tg, d->target[i].name), &d->target[i], &f->target[i], e);
		if (d->target[i].kind == TG_NUMBER && f->target[i].scale.std <= 0)
			fail(e, "fitted values: target %s has a standard deviation that is not positive", d->target[i].name);
	}
	json_decref(root);
	if (!e->set)
		return f;
	fit_free(f);
	return NULL;
}
