/* What a model file says of its data: tables, split, inputs, targets. Part of model.c's job, in a file of its own. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_AXIS "b"

/* "from" left out: the column of that name, quoted as SQL quotes names. */
static char *
quote_name(Arena *a, const char *name)
{
	return arena_printf(a, "\"%s\"", name);
}

/* ---- data ---- */

/* What the names of `path: {NAME: FILE}` are, per type of table; NULL: there are none. */
static const char *const file_names[NTABLE] = {
	[TB_LINES] = "label", [TB_IDX] = "column", [TB_NPY] = "column", [TB_RAW] = "column",
};

static bool
add_file(Reader *r, const Key *k, PlanTable *t, size_t cap, const char *name, const YNode *v)
{
	uint32_t part = !strcmp(k->name, "val") ? PART_VAL : !strcmp(k->name, "test") ? PART_TEST : PART_ANY;
	if (v->kind != Y_SCALAR || yaml_null(v) || !*v->s) {
		error_at(v->loc, "%s: expected a path, found %s", k->name, yaml_found(r->a, v));
		return false;
	}
	if (!t->file || t->nfile == cap)
		bug("more files than were counted");
	t->file[t->nfile++] = (PlanFile){arena_strdup(r->a, name), arena_strdup(r->a, v->s), part};
	return true;
}

bool
read_files(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTable *t = rec;
	const char *names = t->kind < NTABLE ? file_names[t->kind] : NULL;
	size_t n = v->kind == Y_SCALAR ? 1 : (size_t)v->n, cap = t->nfile + n;
	PlanFile *old = t->file;
	bool ok = true;
	if (v->kind != Y_SCALAR && !v->n)
		return wrong_value(r, k, v);
	if (v->kind == Y_MAP && !names) {
		error_at(v->loc, "%s: files of this type have no names of their own: give a path or a list of paths", k->name);
		return false;
	}
	if (v->kind != Y_MAP && names && !strcmp(names, "column")) {
		error_at(v->loc, "%s: expected a map of column names to paths, such as {image: FILE, label: FILE}, found %s", k->name, yaml_found(r->a, v));
		return false;
	}
	t->file = arena_alloc(r->a, cap * sizeof *t->file);
	if (t->nfile)
		memcpy(t->file, old, t->nfile * sizeof *old);
	if (v->kind == Y_SCALAR)
		return add_file(r, k, t, cap, "", v);
	for (int i = 0; i < v->n; i++)
		ok &= v->kind == Y_LIST ? add_file(r, k, t, cap, "", v->item[i])
		                        : check_name(&v->pair[i], arena_printf(r->a, "a %s", names)) && add_file(r, k, t, cap, v->pair[i].key, v->pair[i].value);
	return ok;
}

static PlanShape *
find_shape(Reader *r, PlanTable *t, const char *name)
{
	for (uint32_t i = 0; i < t->nshape; i++)
		if (!strcmp(t->shape[i].name, name))
			return &t->shape[i];
	PlanShape *s = arena_alloc(r->a, (t->nshape + 1) * sizeof *s);
	if (t->nshape)
		memcpy(s, t->shape, t->nshape * sizeof *s);
	t->shape = s;
	s[t->nshape] = (PlanShape){.name = arena_strdup(r->a, name), .dtype = DT_U8};
	return &s[t->nshape++];
}

/* The sizes of one column, as read_sizes reads them. */
static bool
shape_sizes(Reader *r, const Key *k, const YNode *v, PlanShape *s)
{
	Key sizes = *k;
	sizes.off = offsetof(PlanShape, dim);
	sizes.type = V_sizes;
	return read_sizes(r, &sizes, v, s);
}

bool
read_shapes(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTable *t = rec;
	bool ok = true;
	if (v->kind == Y_LIST && t->kind != TB_RAW)
		return shape_sizes(r, k, v, find_shape(r, t, ""));
	if (v->kind != Y_MAP || !v->n || t->kind != TB_RAW)
		return wrong_value(r, k, v);
	for (int i = 0; i < v->n; i++)
		ok &= shape_sizes(r, k, v->pair[i].value, find_shape(r, t, v->pair[i].key));
	return ok;
}

static bool
set_dtype(Reader *r, const Key *k, PlanTable *t, const char *column, const YNode *v)
{
	const Choice *c = v->kind == Y_SCALAR ? find_choice(V_dtype, v->s) : NULL;
	if (!c) {
		error_at(v->loc, "%s: expected uint8 or float32, found %s", k->name, yaml_found(r->a, v));
		return false;
	}
	find_shape(r, t, column)->dtype = c->value;
	return true;
}

bool
read_dtypes(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTable *t = rec;
	bool ok = true;
	if (t->kind != TB_RAW)
		return set_dtype(r, k, t, "", v);
	if (v->kind != Y_MAP)
		return wrong_value(r, k, v);
	for (int i = 0; ok && i < v->n; i++)
		ok = set_dtype(r, k, t, v->pair[i].key, v->pair[i].value);
	return ok;
}

/* What a table's type needs besides its files. */
static bool
check_table(Reader *r, PlanTable *t, const YPair *p)
{
	static const struct {
		const char *type;
		uint32_t least, most;
		const char *such;
	} shape[NTABLE] = {[TB_WAV] = {"wav", 1, 1, "[16000]"}, [TB_IMAGES] = {"images", 3, 3, "[64, 64, 3]"}, [TB_ARRAYS] = {"arrays", 1, MAX_AXES, "[64, 40]"}};
	bool ok = true;
	if (t->kind >= NTABLE)
		return false;
	if (shape[t->kind].type && (!t->nshape || t->shape[0].ndim < shape[t->kind].least || t->shape[0].ndim > shape[t->kind].most)) {
		error_at(p->loc, "table '%s' of type %s lacks a shape with %u number%s, such as shape: %s", p->key, shape[t->kind].type, shape[t->kind].least,
			shape[t->kind].most == 1 ? "" : shape[t->kind].least == 1 ? " or more" : "s", shape[t->kind].such);
		ok = false;
	}
	if (t->kind == TB_IMAGES && ok && t->shape[0].dim[2] != 1 && t->shape[0].dim[2] != 3) {
		error_at(p->loc, "table '%s': images have 1 channel (grey) or 3 (red, green, blue), not %ld", p->key, (long)t->shape[0].dim[2]);
		ok = false;
	}
	for (uint32_t i = 0; t->kind == TB_RAW && i < t->nfile; i++)
		if (!find_shape(r, t, t->file[i].name)->ndim) {
			error_at(p->loc, "table '%s' does not say what a row of column %s is: shape: {%s: [sizes]}", p->key, t->file[i].name, t->file[i].name);
			ok = false;
		}
	if (t->kind == TB_WAV && ok)
		t->shape[0].dtype = DT_F32;
	return ok;
}

/* A single file of a table whose type follows from its name. */
static uint32_t
kind_of_path(const char *path)
{
	size_t n = strlen(path);
	n -= n > 3 && !strcmp(path + n - 3, ".gz") ? 3 : 0;
	return n > 4 && !strncmp(path + n - 4, ".tsv", 4) ? TB_TSV : TB_CSV;
}

/* A table of one file without a name has its path alone. */
static void
single_file(PlanTable *t)
{
	if (t->nfile == 1 && t->file[0].part == PART_ANY && !*t->file[0].name) {
		t->path = t->file[0].path;
		t->nfile = 0;
	}
}

bool
read_tables(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	d->table = arena_alloc(r->a, (size_t)v->n * sizeof *d->table);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		PlanTable *t = &d->table[d->ntable++];
		t->name = arena_strdup(r->a, p->key);
		t->loc = loc_text(r->a, p->loc);
		t->path = "";
		ok &= check_name(p, "a table");
		if (p->value->kind == Y_MAP) {
			ok &= read_keys(r, S_table, p->value, p->loc, arena_printf(r->a, "table '%s'", p->key), t) && check_table(r, t, p);
			if (!yaml_pair(p->value, "type") && t->nfile)
				t->kind = kind_of_path(t->file[0].path);
			single_file(t);
		} else if (p->value->kind == Y_SCALAR && !yaml_null(p->value) && *p->value->s) {
			t->path = arena_strdup(r->a, p->value->s);
			t->kind = kind_of_path(t->path);
		} else {
			error_at(p->value->loc, "%s: expected a path, found %s", p->key, yaml_found(r->a, p->value));
			ok = false;
		}
	}
	return ok;
}

/* Whether some file of the tables has the rows of this part. */
static bool
has_part(const PlanData *d, FilePart part)
{
	for (uint32_t i = 0; i < d->ntable; i++)
		for (uint32_t k = 0; k < d->table[i].nfile; k++)
			if (d->table[i].file[k].part == part)
				return true;
	return false;
}

/* Official validation and test rows leave less to share out: the shares that the file does not give follow. */
static void
split_defaults(Reader *r, const YNode *v, PlanData *d)
{
	bool val = has_part(d, PART_VAL), test = has_part(d, PART_TEST), share[3] = {yaml_pair(v, "train"), yaml_pair(v, "val"), yaml_pair(v, "test")};
	bool order = yaml_pair(v, "order");
	for (uint32_t i = 0; i < d->ntable; i++) {
		const PlanTable *t = &d->table[i];
		for (uint32_t k = 0; k < t->nfile && !*d->given; k++)
			if (t->file[k].part != PART_ANY)
				d->given = arena_printf(r->a, "\"%s\".\"part\"", t->name);
		if (sequence_bytes(t->kind) && !order)
			d->order = arena_printf(r->a, "\"%s\".\"row\"", t->name);
	}
	if (val && !share[1])
		d->val = 0;
	if ((test || d->folds) && !share[2])
		d->test = 0;
	if ((val || test || d->folds) && !share[0])
		d->train = 1 - d->val - d->test;
}

static bool
check_folds(Reader *r, const YNode *v, const PlanData *d)
{
	const YPair *fold = yaml_pair(v, "fold"), *test = yaml_pair(v, "test"), *order = yaml_pair(v, "order");
	if (fold && !d->folds) {
		error_at(fold->loc, "fold has a meaning only with folds: how many there are");
		return false;
	}
	if (!d->folds)
		return true;
	if (d->fold > d->folds)
		error_at(fold->loc, "fold: %ld of %ld folds: they count from 1", (long)d->fold, (long)d->folds);
	if (test && d->test > 0)
		error_at(test->loc, "test and folds exclude each other: one part of %ld tests, train and val share the rest", (long)d->folds);
	if (order)
		error_at(order->loc, "order and folds exclude each other");
	(void)r;
	return d->fold <= d->folds && !(test && d->test > 0) && !order;
}

bool
read_split(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = rec;
	(void)k;
	if (!read_keys(r, S_split, v, v->loc, "split", d) || !check_folds(r, v, d))
		return false;
	d->fold = d->folds ? d->fold : 0;
	split_defaults(r, v, d);
	double sum = d->train + d->val + d->test;
	if (fabs(sum - 1) > 1e-9) {
		error_at(r->split_loc, "the shares of the split sum to %.10g, not 1: train %g, val %g, test %g (a share left out has its default)",
			sum, d->train, d->val, d->test);
		return false;
	}
	return true;
}

bool
read_data(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = &((Model *)rec)->data;
	const YPair *at = yaml_pair(r->root, "data"), *split = yaml_pair(v, "split");
	(void)k;
	r->split_loc = split ? split->loc : at->loc;
	const YPair *rows = yaml_pair(v, "rows"), *where = yaml_pair(v, "where");
	d->loc = loc_text(r->a, rows ? rows->loc : at->loc);
	d->where_loc = loc_text(r->a, where ? where->loc : at->loc);
	d->split_loc = loc_text(r->a, r->split_loc);
	if (!read_keys(r, S_data, v, at->loc, "data", d))
		return false;
	if (!split) {
		YNode none = {.kind = Y_MAP, .loc = at->loc};
		read_split(r, NULL, &none, d);
	}
	if (!*d->rows && d->ntable > 1) {
		error_at(at->loc, "data lacks the key 'rows': how the %d tables are joined, such as %s LEFT JOIN %s USING (...)",
			(int)d->ntable, d->table[0].name, d->table[1].name);
		return false;
	}
	if (!*d->rows)
		d->rows = d->table[0].name;
	return true;
}

/* ---- inputs ---- */

/* Vocabulary, hash or size: exactly one of them makes the ids. */
static bool
check_ids(InputEntry *e, const YPair *entry)
{
	static const char *const way[] = {"size", "vocabulary", "hash"}; /* as PlanInput.ids counts them */
	const int64_t size[] = {e->size, e->vocabulary, e->hash};
	const YPair *given = NULL, *min_count = yaml_pair(entry->value, "min_count");
	bool ok = true;
	for (int i = 0; i < entry->value->n; i++) {
		const YPair *p = &entry->value->pair[i];
		uint32_t k = 0;
		while (k < LEN(way) && strcmp(way[k], p->key))
			k++;
		if (k == LEN(way))
			continue;
		if (given) {
			error_at(p->loc, "input '%s': '%s' and '%s' exclude each other: choose one", entry->key, given->key, p->key);
			ok = false;
			continue;
		}
		given = p;
		e->p.ids = k;
		e->p.size = size[k];
	}
	if (!given) {
		error_at(entry->loc, "input '%s' does not say how its ids are made: vocabulary: N or hash: N%s", entry->key,
			e->p.kind == IN_CATEGORY ? ", or size: N where the value is the id" : "");
		return false;
	}
	if (min_count && strcmp(given->key, "vocabulary")) {
		error_at(min_count->loc, "input '%s': min_count has a meaning only with vocabulary", entry->key);
		ok = false;
	}
	return ok;
}

static bool
check_axis(InputEntry *e, const YPair *entry)
{
	const YPair *axis = yaml_pair(entry->value, "axis");
	if (!e->axis || !*e->axis)
		e->axis = e->p.kind == IN_TAGS ? "k" : "t";
	if (axis && !strcmp(e->axis, BATCH_AXIS)) {
		error_at(axis->value->loc, "axis %s is the rows of the batch: choose another name", BATCH_AXIS);
		return false;
	}
	e->axes.name[0] = e->axis;
	e->axes.n = e->p.width > 1;
	return true;
}

/* Names of the axes of a shape: those given, one for each size, or the usual ones. */
static bool
check_axes(const YPair *entry, const int64_t *dim, uint32_t ndim, bool labels, AxisNames *axes)
{
	static const char *const usual[] = {"n", "y", "x", "c"};
	const YPair *at = yaml_pair(entry->value, "axes");
	(void)dim;
	if (axes->n && (uint32_t)axes->n != ndim) {
		error_at(at->loc, "'%s' has %u sizes in shape, but %d axes", entry->key, ndim, axes->n);
		return false;
	}
	if (axes->n)
		return true;
	if (ndim > 4 || (labels && ndim > 3)) {
		error_at(entry->loc, "'%s' has %u axes: name them with axes: [..]", entry->key, ndim);
		return false;
	}
	for (uint32_t i = 0; i < ndim; i++)
		axes->name[axes->n++] = labels ? usual[i + 3 - ndim] : ndim == 2 && i == 0 ? "t" : usual[i + 4 - ndim];
	return true;
}

/* The shape and element type of an image, a tensor or labels. */
static bool
check_tensor(const YPair *entry, const int64_t *dim, uint32_t ndim, uint32_t *dtype, uint32_t scale, int64_t *width, AxisNames *axes)
{
	const YPair *type = yaml_pair(entry->value, "type"), *at = yaml_pair(entry->value, "scale");
	bool image = !strcmp(type->value->s, "image"), labels = !strcmp(type->value->s, "labels"), ok = true;
	if (!ndim) {
		if (!yaml_pair(entry->value, "shape"))
			error_at(entry->loc, "'%s' does not say what a row of it is: shape: %s", entry->key, labels ? "[height, width]" : image ? "[height, width, channels]" : "[sizes]");
		return false;
	}
	*width = 1;
	for (uint32_t i = 0; i < ndim; i++)
		*width *= dim[i];
	if (image && ndim != 3) {
		error_at(entry->loc, "'%s': an image has three sizes: shape: [height, width, channels]", entry->key);
		ok = false;
	}
	if (image && !yaml_pair(entry->value, "dtype"))
		*dtype = DT_U8;
	if (scale & (SC_LOG1P | SC_MINMAX)) {
		error_at(at->loc, "scale: of an image or tensor it is unit or zscore");
		ok = false;
	} else if ((scale & SC_UNIT) && *dtype != DT_U8) {
		error_at(at->loc, "scale: unit divides bytes by 255, but '%s' is float32", entry->key);
		ok = false;
	}
	return check_axes(entry, dim, ndim, labels, axes) && ok;
}

/* How many ids a sequence has: of bytes 256, else as many as it says. */
static bool
check_ids_of(const PlanTable *t, InputEntry *e, const YPair *entry)
{
	const YPair *size = yaml_pair(entry->value, "size");
	bool bytes = sequence_bytes(t->kind) == 1;
	e->p.size = size ? e->size : 256;
	if (bytes && e->p.size != 256)
		error_at(size->loc, "size: a byte is one of 256 ids");
	else if (!bytes && !size)
		error_at(entry->loc, "input '%s' does not say how many ids there are: size: N", entry->key);
	return bytes ? e->p.size == 256 : size != NULL;
}

/* The table of bytes or ids makes rows of the length that its sequence has. */
static bool
check_sequence(Reader *r, InputEntry *e, const YPair *entry)
{
	PlanData *d = &r->m->data;
	PlanTable *found = NULL;
	for (uint32_t i = 0; i < d->ntable; i++)
		if (sequence_bytes(d->table[i].kind))
			found = &d->table[i];
	if (!found)
		error_at(entry->loc, "input '%s': a sequence needs a table of type bytes, ids16 or ids32 under data, tables", entry->key);
	else if (found->window && found->window != e->p.width)
		error_at(entry->loc, "input '%s': windows of %ld, but another sequence has %ld", entry->key, (long)e->p.width, (long)found->window);
	else if (!yaml_pair(entry->value, "from"))
		e->p.from = arena_printf(r->a, "\"%s\".\"%s\"", found->name, sequence_bytes(found->kind) == 1 ? "bytes" : "ids");
	if (!found || (found->window && found->window != e->p.width))
		return false;
	found->window = e->p.width;
	return check_ids_of(found, e, entry);
}

static bool
check_number_scale(uint32_t scale, const YPair *entry)
{
	const YPair *at = yaml_pair(entry->value, "scale");
	if (!(scale & SC_UNIT))
		return true;
	error_at(at->loc, "scale: unit is for images and tensors; of a number it is log1p, zscore or minmax");
	return false;
}

/* What stands in for a tensor that a row lacks. */
static bool
check_fill(const InputEntry *e, const YPair *missing)
{
	if (e->p.missing == MISS_ZERO || e->p.missing == MISS_DROP)
		return true;
	error_at(missing->value->loc, "missing: of an image or tensor it is zero or drop");
	return false;
}

static bool
read_input(Reader *r, const YPair *p, InputEntry *e)
{
	e->p.name = arena_strdup(r->a, p->key);
	e->p.loc = loc_text(r->a, p->loc);
	if (!read_keys(r, S_input, p->value, p->loc, arena_printf(r->a, "input '%s'", p->key), e))
		return false;
	if (!*e->p.from)
		e->p.from = quote_name(r->a, p->key);
	const YPair *missing = yaml_pair(p->value, "missing");
	if (e->p.kind == IN_NUMBER && !missing)
		e->p.missing = MISS_MEAN;
	if (e->p.kind == IN_TENSOR)
		return check_tensor(p, e->p.dim, e->p.ndim, &e->p.dtype, e->p.scale, &e->p.width, &e->axes) && check_fill(e, missing);
	if (e->p.kind <= IN_CATEGORY)
		e->p.width = 1;
	e->axes.name[0] = "c";
	e->axes.n = e->p.kind == IN_NUMBER;
	if (e->p.kind == IN_NUMBER)
		return check_number_scale(e->p.scale, p);
	if (e->p.kind == IN_SEQUENCE)
		return check_axis(e, p) && check_sequence(r, e, p);
	bool ok = check_ids(e, p);
	return ((e->p.kind != IN_TEXT && e->p.kind != IN_TAGS) || check_axis(e, p)) && ok;
}

bool
read_inputs(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->data.input = arena_alloc(r->a, (size_t)v->n * sizeof *m->data.input);
	m->input_loc = arena_alloc(r->a, (size_t)v->n * sizeof *m->input_loc);
	m->axis = arena_alloc(r->a, (size_t)v->n * sizeof *m->axis);
	for (int i = 0; i < v->n; i++) {
		InputEntry e = {0};
		ok &= check_network_name(r, &v->pair[i], "an input");
		ok &= read_input(r, &v->pair[i], &e);
		m->axis[i] = e.axes;
		m->input_loc[i] = v->pair[i].loc;
		m->data.input[m->data.ninput++] = e.p;
	}
	return ok;
}

/* ---- targets ---- */

bool
read_above(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTarget *t = &((TargetEntry *)rec)->p;
	const YPair *q = yaml_pair(v, "quantile");
	bool whole;
	if (v->kind == Y_MAP && v->n == 1 && q) {
		t->above = AB_QUANTILE;
		if (yaml_number(q->value, &t->threshold, &whole) && t->threshold > 0 && t->threshold < 1)
			return true;
		error_at(q->value->loc, "quantile: expected a number greater than 0 and less than 1, found %s", yaml_found(r->a, q->value));
		return false;
	}
	t->above = AB_VALUE;
	return (yaml_number(v, &t->threshold, &whole) && isfinite(t->threshold)) || wrong_value(r, k, v);
}

static bool
check_target_name(const YPair *p)
{
	if (strcmp(p->key, "loss"))
		return check_name(p, "a target");
	error_at(p->loc, "a target cannot be named loss: val.loss is the sum of all losses");
	return false;
}

bool
read_classes(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTarget *t = &((TargetEntry *)rec)->p;
	double x;
	bool whole;
	if (yaml_number(v, &x, &whole) && whole && x >= 2 && x <= (t->kind == TG_LABELS ? 256 : 1 << 24)) {
		t->size = (int64_t)x;
		return true;
	}
	if (v->kind != Y_LIST || v->n < 2)
		return wrong_value(r, k, v);
	t->label = arena_alloc(r->a, (size_t)v->n * sizeof *t->label);
	for (int i = 0; i < v->n; i++) {
		const YNode *w = v->item[i];
		if (w->kind != Y_SCALAR || !*w->s) {
			error_at(w->loc, "%s: expected a name, found %s", k->name, yaml_found(r->a, w));
			return false;
		}
		for (uint32_t j = 0; j < t->nlabel; j++)
			if (!strcmp(t->label[j], w->s)) {
				error_at(w->loc, "%s: %s is given twice", k->name, w->s);
				return false;
			}
		t->label[t->nlabel++] = arena_strdup(r->a, w->s);
	}
	t->size = t->nlabel;
	return true;
}

/* The sequence that a target of type next follows: the one named, or the only one. */
static bool
check_next(Reader *r, TargetEntry *e, const YPair *p)
{
	const PlanData *d = &r->m->data;
	const PlanInput *found = NULL;
	const YPair *of = yaml_pair(p->value, "of");
	int n = 0;
	for (uint32_t i = 0; i < d->ninput; i++)
		if (d->input[i].kind == IN_SEQUENCE && (!of || !strcmp(d->input[i].name, e->of)) && ++n)
			found = &d->input[i];
	if (n == 1) {
		e->p.from = found->name;
		e->p.size = found->size;
		return true;
	}
	if (of)
		error_at(of->value->loc, "there is no input '%s' of type sequence", e->of);
	else
		error_at(p->loc, "target '%s' follows an input of type sequence, and there %s: of: NAME", p->key, n ? "are several" : "is none");
	return false;
}

static bool
check_classes(const TargetEntry *e, const YPair *p)
{
	const YPair *ignore = yaml_pair(p->value, "ignore");
	if (!yaml_pair(p->value, "classes")) {
		error_at(p->loc, "target '%s' does not say which classes there are: classes: N, or classes: [names]", p->key);
		return false;
	}
	if (ignore && e->ignore < e->p.size) {
		error_at(ignore->loc, "ignore: %ld is a class: classes are 0 to %ld", (long)e->ignore, (long)e->p.size - 1);
		return false;
	}
	return e->p.size;
}

static bool
read_target(Reader *r, const YPair *p, TargetEntry *e)
{
	bool ok = true;
	e->p.name = arena_strdup(r->a, p->key);
	e->p.loc = loc_text(r->a, p->loc);
	e->p.from = "";
	if (!read_keys(r, S_target, p->value, p->loc, arena_printf(r->a, "target '%s'", p->key), e))
		return false;
	e->p.ignore = yaml_pair(p->value, "ignore") ? e->ignore : -1;
	if (!*e->p.from)
		e->p.from = quote_name(r->a, p->key);
	if (e->p.kind == TG_CLASS || e->p.kind == TG_LABELS)
		ok = check_classes(e, p);
	if (e->p.kind == TG_LABELS)
		e->p.dtype = DT_U8;
	if (e->p.kind == TG_LABELS || e->p.kind == TG_TENSOR)
		return check_tensor(p, e->p.dim, e->p.ndim, &e->p.dtype, e->p.scale, &e->p.width, &e->axes) && ok;
	if (e->p.kind == TG_NUMBER)
		ok = check_number_scale(e->p.scale, p);
	return e->p.kind == TG_NEXT ? check_next(r, e, p) : ok;
}

bool
read_targets(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->data.target = arena_alloc(r->a, (size_t)v->n * sizeof *m->data.target);
	m->target_loc = arena_alloc(r->a, (size_t)v->n * sizeof *m->target_loc);
	m->target_axis = arena_alloc(r->a, (size_t)v->n * sizeof *m->target_axis);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		TargetEntry e = {0};
		m->target_loc[i] = p->loc;
		ok &= check_target_name(p);
		ok &= read_target(r, p, &e);
		m->target_axis[i] = e.axes;
		m->data.target[m->data.ntarget++] = e.p;
	}
	return ok;
}
