/* Tensor columns of the dataset. An expression gives a reference for each row (TENSOR_REF); the files are read in their
   own order, each row once (of files that are rows: those wanted alone), and every element goes straight to its places: no
   file of many rows is ever in memory as a whole. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a tensor goes. */
typedef struct Place {
	int64_t tensor; /* number of the tensor column */
	int64_t from, to; /* its row; the row of the dataset */
} Place;

static int
by_source(const void *x, const void *y)
{
	const Place *a = x, *b = y;
	if (a->tensor != b->tensor)
		return a->tensor < b->tensor ? -1 : 1;
	if (a->from != b->from)
		return a->from < b->from ? -1 : 1;
	return (a->to > b->to) - (a->to < b->to);
}

/* The table and tensor column of a number; NULL: there is no such. */
static const TensorColumn *
find_tensor(const Source *s, int64_t number, const Table **table)
{
	for (uint32_t i = 0; i < s->ntable; i++) {
		const Table *t = &s->table[i];
		if (number >= t->number && number < (int64_t)t->number + t->ntensor) {
			*table = t;
			return &t->tensor[number - t->number];
		}
	}
	return NULL;
}

/* The reference of a row; false with an error where the value is none. */
static bool
read_ref(const Source *s, const Rows *r, const Expr *x, int64_t row, int64_t *number, int64_t *from, Err *e)
{
	const Table *t;
	double v = x->num[row];
	const TensorColumn *c = NULL;
	*number = v >= (double)TENSOR_ROWS && v < 0x1p53 && v == floor(v) ? (int64_t)v / TENSOR_ROWS - 1 : -1;
	*from = *number >= 0 ? (int64_t)v % TENSOR_ROWS : 0;
	c = *number >= 0 ? find_tensor(s, *number, &t) : NULL;
	return (c && *from < c->rows) ||
	       fail(e, "%s: %s: the value at %s:%lld (%.10g) is no tensor: `from` must name a column that holds one, such as image of a table of type idx\n  in: %s",
	            x->loc, x->what, r->file, (long long)r->line[row], v, x->sql);
}

/* Equal but for axes of size 1. */
static bool
same_shape(const int64_t *a, uint32_t na, const int64_t *b, uint32_t nb)
{
	uint32_t i = 0, k = 0;
	for (;; i++, k++) {
		while (i < na && a[i] == 1)
			i++;
		while (k < nb && b[k] == 1)
			k++;
		if (i >= na || k >= nb)
			return i >= na && k >= nb;
		if (a[i] != b[k])
			return false;
	}
}

static bool
check_column(const Table *t, const TensorColumn *c, const Expr *x, DType dtype, const int64_t *dim, uint32_t ndim, Err *e)
{
	Text has = {0}, want = {0};
	bool ok = true;
	dims_puts(&has, c->dim, c->ndim);
	dims_puts(&want, dim, ndim);
	if (!same_shape(c->dim, c->ndim, dim, ndim))
		ok = fail(e, "%s: %s: a row of column %s of table %s is %s, the model says shape: %s", x->loc, x->what, t->col[c->column].name, t->name, has.s, want.s);
	else if (dtype == DT_U8 && c->dtype != DT_U8)
		ok = fail(e, "%s: %s: column %s of table %s holds numbers that are no bytes: write dtype: float32", x->loc, x->what, t->col[c->column].name, t->name);
	free(has.s);
	free(want.s);
	return ok;
}

typedef struct Fill {
	const Place *p, *end;
	const TensorColumn *c;
	const Rows *r;
	const Expr *x;
	const Table *t;
	DType dtype;
	char *out;
} Fill;

/* One row of the file, to all rows of the dataset that have it. */
static bool
put_row(void *ctx, int64_t row, const void *data, Err *e)
{
	Fill *f = ctx;
	size_t n = (size_t)f->c->width;
	for (; f->p < f->end && f->p->from == row; f->p++) {
		if (f->dtype == f->c->dtype) {
			memcpy(f->out + (size_t)f->p->to * n * dtype_bytes(f->dtype), data, n * dtype_bytes(f->dtype));
			continue;
		}
		float *v = (float *)(void *)f->out + (size_t)f->p->to * n;
		for (size_t i = 0; i < n; i++)
			v[i] = ((const uint8_t *)data)[i];
	}
	for (size_t i = 0; f->c->dtype == DT_F32 && i < n; i++)
		if (!isfinite(((const float *)data)[i]))
			return fail(e, "%s: %s: element %zu of row %lld of column %s is not a finite number", f->x->loc, f->x->what, i, (long long)row,
			            f->t->col[f->c->column].name);
	return true;
}

/* Each file that some row wants, once. */
static bool
load_files(Fill *f, Err *e)
{
	void *buf = xmalloc((size_t)f->c->width * dtype_bytes(f->c->dtype));
	Err why = {0};
	while (f->p < f->end && !e->set) {
		int64_t row = f->p->from, line = f->r->line[f->r->order[f->p->to]];
		if (folder_load(f->t, f->c, row, buf, &why))
			put_row(f, row, buf, e);
		else
			fail(e, "%s: %s: %s:%lld: %s; with `damaged: missing` under table %s such a file counts as missing", f->x->loc, f->x->what, f->r->file,
			     (long long)line, why.msg, f->t->name);
	}
	free(buf);
	return !e->set;
}

static bool
read_tensors(const Table *t, const TensorColumn *c, Fill *f, Err *e)
{
	const TableReader *reader = &table_readers[t->kind];
	if (reader->file)
		return load_files(f, e);
	return reader->each(t, c, put_row, f, e) && (f->p == f->end || fail(e, "%s: %s: table %s has fewer rows than when it was opened", f->x->loc, f->x->what, t->name));
}

bool
encode_tensor(Source *s, const Rows *r, const Expr *x, DType dtype, const int64_t *dim, uint32_t ndim, void *out, Coded *c, Err *e)
{
	Place *p = xmalloc((size_t)(r->kept + 1) * sizeof *p);
	int64_t n = 0;
	for (int64_t i = 0; i < r->kept && !e->set; i++) {
		if (isnan(x->num[r->order[i]])) {
			issue_add(&c->absent, r->line[r->order[i]], NULL); /* out is zeroed */
			continue;
		}
		p[n].to = i;
		if (read_ref(s, r, x, r->order[i], &p[n].tensor, &p[n].from, e))
			n++;
	}
	qsort(p, (size_t)n, sizeof *p, by_source);
	for (int64_t i = 0, j; i < n && !e->set; i = j) {
		const Table *t = NULL;
		const TensorColumn *col = find_tensor(s, p[i].tensor, &t);
		for (j = i; j < n && p[j].tensor == p[i].tensor;)
			j++;
		Fill f = {p + i, p + j, col, r, x, t, dtype, out};
		if (!table_readers[t->kind].each && !table_readers[t->kind].file)
			fail(e, "%s: %s: column %s of table %s holds windows: make it an input of type sequence", x->loc, x->what, t->col[col->column].name, t->name);
		else if (check_column(t, col, x, dtype, dim, ndim, e))
			read_tensors(t, col, &f, e);
	}
	free(p);
	return !e->set;
}

bool
encode_sequence(Source *s, const Rows *r, const Expr *x, const PlanInput *in, void *out, Err *e)
{
	int64_t number, from, first = 0, tensor = 0;
	const Table *t = NULL;
	const TensorColumn *c;
	for (int64_t i = 0; i < r->kept; i++) {
		if (!read_ref(s, r, x, r->order[i], &number, &from, e))
			return false;
		if (!i) {
			tensor = number;
			first = from;
		}
		if (number != tensor || from != first + i)
			return fail(e, "%s: %s: the windows must be all there and in order: no join or where may leave out or repeat one (row %lld is window %lld)",
			            x->loc, x->what, (long long)i, (long long)from);
	}
	c = find_tensor(s, tensor, &t);
	if (!c || !sequence_bytes(t->kind) || c->width != in->width)
		return fail(e, "%s: %s: this is no column of a table of type bytes, ids16 or ids32 with windows of %lld", x->loc, x->what, (long long)in->width);
	return ids_read(t, first * in->width, r->kept * in->width + 1, in->size, out, e);
}

bool
check_labels(const PlanTarget *t, const Rows *r, const uint8_t *v, Err *e)
{
	for (int64_t i = 0; i < r->kept; i++)
		for (int64_t k = 0; k < t->width; k++) {
			uint8_t id = v[i * t->width + k];
			if (id >= t->size && id != t->ignore)
				return fail(e, "%s: target %s: label %d at place %lld of row %s:%lld; there are %lld classes%s", t->loc, t->name, id, (long long)k, r->file,
				            (long long)r->line[r->order[i]], (long long)t->size, t->ignore < 0 ? ", and no value is ignored (ignore: N)" : "");
		}
	return true;
}

void
fit_channels(const PlanInput *in, const Rows *r, const void *v, InputFit *f)
{
	int64_t c = in->dim[in->ndim - 1], n = r->split[1] * (in->width / c);
	f->nchannel = (uint32_t)c;
	f->mean = xcalloc((size_t)c, sizeof *f->mean);
	f->std = xcalloc((size_t)c, sizeof *f->std);
	for (int pass = 0; pass < 2; pass++) /* the deviations from the mean in a second pass */
		for (int64_t k = 0; k < c; k++) {
			double sum = 0;
			for (int64_t i = 0; i < n; i++) {
				double x = in->dtype == DT_U8 ? ((const uint8_t *)v)[i * c + k] : ((const float *)v)[i * c + k];
				sum += pass ? (x - f->mean[k]) * (x - f->mean[k]) : x;
			}
			*(pass ? &f->std[k] : &f->mean[k]) = pass ? sqrt(sum / (double)n) : sum / (double)n;
		}
	for (int64_t k = 0; k < c; k++)
		f->std[k] = f->std[k] > 0 ? f->std[k] : 1;
}
