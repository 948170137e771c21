/* Random columns in place of a plan's tables, so that a step can be timed without its data: ids in range, texts and lists of
   random length, numbers of a normal distribution. The same on every machine. */
#include "bench.h"

#include <math.h>

static uint64_t
draw(uint32_t column, int64_t i)
{
	uint32_t c[2] = {(uint32_t)i, column};
	philox2x32(c, 0x6d6d72);
	return (uint64_t)c[0] << 32 | c[1];
}

static double
draw_normal(uint32_t column, int64_t i)
{
	uint64_t x = draw(column, i);
	return sqrt(-2 * log(((double)(x >> 32) + 0.5) * 0x1p-32)) * cos(2 * acos(-1.0) * (double)(x & UINT32_MAX) * 0x1p-32);
}

/* Ids as the reader would make them: below size, lists of random length padded with 0. */
static void
fill_ids(int32_t *out, int64_t size, int64_t width, uint32_t column, int64_t rows)
{
	int64_t least = width > 1 && size > 2 ? 2 : 0;
	for (int64_t r = 0; r < rows; r++) {
		int64_t n = width > 1 ? 1 + (int64_t)(draw(column + 0x10000, r) % (uint64_t)width) : 1;
		for (int64_t k = 0; k < width; k++) {
			int64_t i = r * width + k;
			out[i] = k < n ? (int32_t)(least + (int64_t)(draw(column, i) % (uint64_t)(size - least))) : 0;
		}
	}
}

static void
fill_bytes(uint8_t *out, uint32_t column, int64_t n, int64_t below)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (uint8_t)(draw(column, i) % (uint64_t)below);
}

static void
fill_numbers(float *out, uint32_t column, int64_t n, bool binary)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = binary ? (float)(draw(column, i) & 1) : (float)draw_normal(column, i);
}

void
bench_columns(Session *s, int64_t rows)
{
	const PlanData *d = s->schema;
	uint32_t n = d ? d->ninput + d->ntarget : 0;
	Column *c = arena_alloc(&s->arena, (n + 1) * sizeof *c);
	for (uint32_t i = 0; i < n; i++) {
		const PlanInput *in = i < d->ninput ? &d->input[i] : NULL;
		const PlanTarget *t = in ? NULL : &d->target[i - d->ninput];
		DType dt = column_dtype(d, i);
		int64_t width = column_width(d, i), n = rows * width + column_tail(d, i);
		void *data = arena_alloc(&s->arena, (size_t)n * dtype_bytes(dt));
		if (dt == DT_F32)
			fill_numbers(data, i, n, t && t->kind == TG_BINARY);
		else if (dt == DT_U8)
			fill_bytes(data, i, n, t && t->kind == TG_LABELS ? t->size : 256);
		else
			fill_ids(data, t ? t->size : in->size, width, i, rows);
		c[i] = (Column){.name = column_name(d, i), .dtype = dt, .width = width, .data = data, .tail = column_tail(d, i)};
	}
	s->synthetic = true;
	s->data = (Dataset){.rows = rows, .split = {0, rows, rows, rows}, .ncolumn = n, .column = c};
}
