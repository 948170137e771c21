/* One product of whole matrices and what becomes of its result (tile.c): a block has the rows of a part and 64 columns, a
   warp 16 rows at a time. The right operand's columns are in shared memory; k is short enough (128) to need no loop. Results
   go through shared memory, so that rows are written in pieces of 16 bytes. Elements: see emit_tile.c, w for e % 2. */
#include <stdlib.h>

#include "emit_cuda.h"

#define COLUMNS 64
#define WARPS 4

/* Are the elements at columns c and c + 1, c even, side by side at an even place? */
static bool
pairs(const Ix *ix)
{
	bool found = false;
	if (ix->c % 2)
		return false;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		if (a->kind == AT_AXIS && a->axis == 2) {
			if (ix->t[i].k != 1)
				return false;
			found = true;
		} else if (a->kind == AT_VAL || ix->t[i].k % 2 || a->axes >> 2 & 1) {
			return false;
		}
	}
	return found;
}

/* Rows of the store are contiguous, at places divisible by 16 bytes. */
static bool
staged(const LStore *s)
{
	int64_t by = 16 / (int64_t)dtype_bytes(s->node->dt);
	if (s->column || dtype_bytes(s->node->dt) < 2 || s->ix->c % by || ix_stride(s->ix, 2) != 1)
		return false;
	for (int i = 0; i < s->ix->n; i++)
		if (s->ix->t[i].a->kind != AT_AXIS || (s->ix->t[i].a->axis != 2 && s->ix->t[i].k % by))
			return false;
	return true;
}

static bool
in_element(const LVal *v)
{
	return cu_computed(v) && v->axes;
}

/* Values, sums and stores of the two neighbours of row j in column group n. */
static void
put_pair(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_LOAD || v->guard || !pairs(v->ix) || (load_start(k, v) & 1))
			continue;
		char *from = load_text(e, v);
		emit_line(e, "%s v%d[2];", ctype(v->dt), i);
		emit_line(e, "mm_load2(v%d, &%s);", i, from);
		e->place[i] = PL_VECTOR;
		free(from);
	}
	for (int i = 0; i < k->nstore; i++)
		if (staged(&k->store[i]))
			emit_line(e, "%s s%d[2];", ctype(k->store[i].node->dt), i);
	cu_open_unrolled(e, "int w = 0; w < 2; w++");
	emit_line(e, "const int e = j * 2 + w, i2 = column + w; (void)i2;");
	for (int i = 0; i < k->nval; i++)
		if (in_element(k->val[i]) && e->place[i] != PL_VECTOR)
			cu_value(e, k->val[i], false);
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		char *v = val_ref(e, s->val), *ix = ix_text(e, s->ix);
		if (s->column)
			emit_line(e, "sum%d[n * 2 + w] += %s;", i, v);
		else if (staged(s))
			emit_line(e, "s%d[w] = %s;", i, v);
		else
			emit_line(e, "a%d[%s] = %s;", arg_index(k, s->node), ix, v);
		free(v);
		free(ix);
	}
	cu_close(e);
	for (int i = 0; i < k->nstore; i++)
		if (staged(&k->store[i]))
			emit_line(e, "mm_store2(&t%d[(g + j * 8) * %d + n * 8 + q], s%d);", i, COLUMNS + 8, i);
	for (int i = 0; i < k->nval; i++)
		if (in_element(k->val[i]))
			e->place[i] = PL_NONE;
}

static void
flush_rows(Emit *e)
{
	Kernel *k = e->k;
	bool any = false;
	for (int i = 0; i < k->nstore; i++)
		any |= staged(&k->store[i]);
	if (!any)
		return;
	emit_line(e, "__syncwarp();");
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (!staged(s))
			continue;
		char *ix = ix_text(e, s->ix);
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i1 = first, i2 = column0; (void)i1;");
		emit_line(e, "mm_tile_flush<%d>(&a%d[%s], %ld, t%d);", COLUMNS, arg_index(k, s->node), ix, (long)ix_stride(s->ix, 1), i);
		cu_close(e);
		free(ix);
	}
	emit_line(e, "__syncwarp();");
}

/* Sums over the block's rows: over the lanes of a column, then over the warps, in order. */
static void
column_sums(Emit *e, int warps)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (!s->column)
			continue;
		emit_line(e, "__syncthreads();");
		cu_open_unrolled(e, arena_printf(k->arena, "int c = 0; c < %d; c++", COLUMNS / 4));
		emit_line(e, "float x = sum%d[c];", i);
		emit_line(e, "for (int d = 16; d >= 4; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);");
		emit_line(e, "if (g == 0) part[warp][c / 2 * 8 + q + c %% 2] = x;");
		cu_close(e);
		emit_line(e, "__syncthreads();");
		emit_line(e, "if (threadIdx.x < %d) {", COLUMNS);
		e->indent++;
		emit_line(e, "const int i2 = column0 + threadIdx.x;");
		emit_line(e, "float x = part[0][threadIdx.x];");
		emit_line(e, "for (int w = 1; w < %d; w++) x += part[w][threadIdx.x];", warps);
		char *ix = ix_text(e, s->ix);
		emit_line(e, "a%d[%s] = x;", arg_index(k, s->node), ix);
		free(ix);
		cu_close(e);
	}
}

void
emit_epilogue(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	LVal *dot = NULL;
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->kind == LV_DOT)
			dot = k->val[i];
	int64_t rows = k->size[1], blocks = k->size[2] / COLUMNS, K = dot->dot[0].width;
	int warps = rows / 16 < WARPS ? (int)(rows / 16) : WARPS;
	while ((rows / 16) % warps)
		warps--;
	for (int i = 0; i < k->nval; i++)
		e->saved[i] = false;
	e->lanes = ~0u;
	l->block = 32 * warps;
	l->grid = (int)(k->size[0] * blocks);
	cu_signature(e, name, l->block);
	const Matrix *B = &dot->dot[1];
	emit_line(e, "__shared__ __align__(16) bf16 b[%ld];", (long)(B->stride ? K * (COLUMNS + 8) : COLUMNS * (K + 8)));
	int64_t stage = 16 * (K + 8) * 2, out = 0; /* bytes a warp: its rows of the left operand, later of the results */
	for (int i = 0; i < k->nstore; i++)
		if (staged(&k->store[i]))
			out += 16 * (COLUMNS + 8) * (int64_t)dtype_bytes(k->store[i].node->dt);
	stage = out > stage ? out : stage;
	emit_line(e, "__shared__ __align__(16) char stage[%d][%ld];", warps, (long)stage);
	if (k->columns)
		emit_line(e, "__shared__ float part[%d][%d];", warps, COLUMNS);
	emit_line(e, "const int g = threadIdx.x %% 32 / 4, q = threadIdx.x %% 4 * 2, warp = threadIdx.x / 32;");
	emit_line(e, "const int i0 = blockIdx.x / %ld, column0 = blockIdx.x %% %ld * %d;", (long)blocks, (long)blocks, COLUMNS);
	out = 0;
	for (int i = 0; i < k->nstore; i++)
		if (staged(&k->store[i])) {
			const char *type = ctype(k->store[i].node->dt);
			emit_line(e, "%s *const t%d = (%s *)(stage[warp] + %ld);", type, i, type, (long)out);
			out += 16 * (COLUMNS + 8) * (int64_t)dtype_bytes(k->store[i].node->dt);
		}
	cu_uniform(e, 0);
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].column)
			emit_line(e, "float sum%d[%d] = {};", i, COLUMNS / 4);
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int i2 = column0;");
	char *ix = ix_text(e, B->ix);
	if (B->stride)
		emit_line(e, "mm_tile_load<%ld, %d, %d>(b, &a%d[%s], %ld);", (long)K, COLUMNS, l->block, arg_index(k, B->base), ix, (long)B->stride);
	else
		emit_line(e, "mm_tile_load<%d, %ld, %d>(b, &a%d[%s], %ld);", COLUMNS, (long)K, l->block, arg_index(k, B->base), ix, (long)ix_stride(B->ix, 2));
	free(ix);
	cu_close(e);
	emit_line(e, "__syncthreads();");
	emit_line(e, "for (int first = warp * 16; first < %ld; first += %d) {", (long)rows, 16 * warps);
	e->indent++;
	emit_line(e, "uint32_t f[%ld][4];", (long)K / 16);
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int i1 = first;");
	ix = ix_text(e, dot->dot[0].ix);
	emit_line(e, "mm_tile_left<%ld>(f, &a%d[%s], %ld, (bf16 *)stage[warp]);", (long)K, arg_index(k, dot->dot[0].base), ix, (long)ix_stride(dot->dot[0].ix, 1));
	free(ix);
	cu_close(e);
	emit_line(e, "float d%d[%d][4] = {};", dot->id, COLUMNS / 8);
	emit_line(e, "mm_tile_%s<%d, %ld>(d%d, f, b);", B->stride ? "product" : "dot", COLUMNS, (long)K, dot->id);
	cu_open_unrolled(e, arena_printf(k->arena, "int n = 0; n < %d; n++", COLUMNS / 8));
	cu_open_unrolled(e, "int j = 0; j < 2; j++");
	emit_line(e, "const int i1 = first + g + j * 8, column = column0 + n * 8 + q, i2 = column; (void)i1; (void)i2;");
	put_pair(e);
	cu_close(e);
	cu_close(e);
	flush_rows(e);
	cu_close(e);
	column_sums(e, warps);
	text_puts(e->t, "}\n\n");
}
