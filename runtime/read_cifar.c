/* CIFAR binary files (Krizhevsky 2009): records of one label byte (CIFAR-100: coarse, then fine) and 3072 bytes of a
   32 x 32 picture, plane by plane: red, green, blue. Given as [32, 32, 3]. */
#include "data_impl.h"

#include <string.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, PICTURE = 3 * PLANE };

static size_t labels(const Table *t) { return t->kind == TB_CIFAR100 ? 2 : 1; }

/* Calls see for each record of all files. */
static bool
each_record(const Table *t, bool (*see)(void *ctx, const TableFile *f, int64_t row, const uint8_t *record, Err *e), void *ctx, Err *e)
{
	uint8_t record[2 + PICTURE];
	size_t n = labels(t) + PICTURE, got;
	int64_t row = 0;
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++) {
		Stream s;
		if (!stream_open(&s, t->files[i].path, e))
			return false;
		while (stream_some(&s, record, n, &got, e) && got == n && see(ctx, &t->files[i], row, record, e))
			row++;
		if (!e->set && got)
			fail(e, "%s: cut off within a record: %lld bytes are not a whole number of records of %zu", s.path, (long long)s.at, n);
		stream_close(&s);
	}
	return !e->set;
}

static bool
add_record(void *ctx, const TableFile *f, int64_t row, const uint8_t *record, Err *e)
{
	Table *t = ctx;
	size_t n = labels(t);
	if (record[n - 1] > (n == 1 ? 9 : 99) || (n == 2 && record[0] > 19))
		return fail(e, "%s: record %lld has label %d: not a CIFAR-%d file", f->path, (long long)row, record[n - 1], n == 1 ? 10 : 100);
	table_add_number(t, (double)row);
	for (size_t i = 0; i < n; i++)
		table_add_number(t, record[i]);
	table_add_ref(t, 0, row);
	table_name_part(t, f->part);
	table_end_row(t, row);
	return true;
}

bool
cifar_open(Table *t, Err *e)
{
	static const int64_t dim[] = {SIDE, SIDE, 3};
	table_add_column(t, "row");
	if (t->kind == TB_CIFAR100)
		table_add_column(t, "coarse");
	table_add_column(t, "label");
	table_add_tensor(t, "image", DT_U8, 3, dim);
	if (table_has_parts(t))
		table_add_column(t, "part");
	bool ok = each_record(t, add_record, t, e);
	t->tensor[0].rows = t->rows;
	return ok;
}

typedef struct Give {
	const Table *t;
	PutRow put;
	void *ctx;
} Give;

static bool
give_picture(void *ctx, const TableFile *f, int64_t row, const uint8_t *record, Err *e)
{
	const Give *g = ctx;
	const uint8_t *p = record + labels(g->t);
	uint8_t out[PICTURE];
	(void)f;
	for (int i = 0; i < PLANE; i++)
		for (int c = 0; c < 3; c++)
			out[3 * i + c] = p[c * PLANE + i];
	return g->put(g->ctx, row, out, e);
}

bool
cifar_each(const Table *t, const TensorColumn *c, PutRow put, void *ctx, Err *e)
{
	Give g = {t, put, ctx};
	(void)c;
	return each_record(t, give_picture, &g, e);
}
