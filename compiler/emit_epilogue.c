/* One product of whole matrices and what becomes of its result (tile.c): a block has the rows of a part and 64 columns, a
   warp 16 rows at a time. The right operand's columns are in shared memory; k is short enough (128) to need no loop. What
   meets the product, and what comes of it, goes through shared memory, so that rows are read and written in pieces of 16
   bytes, read while the tensor cores work. Elements: see emit_tile.c, w for e % 2. */
#include <stdlib.h>

#include "emit_cuda.h"

#define COLUMNS 64
#define WARPS 4
#define HELD 4 /* blocks that the registers of a multiprocessor hold */
#define TILE (16 * (COLUMNS + 8)) /* elements of a warp's rows */

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

/* Is the index, of elements of dt, contiguous along a row, and each row a place divisible by 16 bytes? from: where its argument
   starts, which another launch of the kernel may have elsewhere. */
static bool
in_pieces(const Ix *ix, DType dt, int64_t from)
{
	int64_t by = 16 / (int64_t)dtype_bytes(dt);
	if (dtype_bytes(dt) < 2 || ix->c % by || from % by || ix_stride(ix, 2) != 1)
		return false;
	for (int i = 0; i < ix->n; i++)
		if (ix->t[i].a->kind != AT_AXIS || (ix->t[i].a->axis != 2 && ix->t[i].k % by))
			return false;
	return true;
}

static bool
staged(const LStore *s)
{
	return !s->column && in_pieces(s->ix, s->node->dt, 0);
}

static bool
staged_load(const Kernel *k, const LVal *v)
{
	return v->kind == LV_LOAD && !v->guard && v->axes >> 1 & 1 && in_pieces(v->ix, v->dt, load_start(k, v));
}

/* Values, sums and stores of the two neighbours of row j in column group n. */
static void
put_pair(Emit *e, const bool *column)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_LOAD || v->guard || column[i] || !pairs(v->ix) || (load_start(k, v) & 1))
			continue;
		char *from = staged_load(k, v) ? NULL : load_text(e, v);
		emit_line(e, "%s v%d[2];", ctype(v->dt), i);
		if (from)
			emit_line(e, "mm_load2(v%d, &%s);", i, from);
		else
			emit_line(e, "mm_load2(v%d, &u%d[(g + j * 8) * %d + n * 8 + q]);", i, i, COLUMNS + 8);
		e->place[i] = PL_VECTOR;
		free(from);
	}
	for (int i = 0; i < k->nstore; i++)
		if (staged(&k->store[i]))
			emit_line(e, "%s s%d[2];", ctype(k->store[i].node->dt), i);
	cu_open_unrolled(e, "int w = 0; w < 2; w++");
	emit_line(e, "const int e = j * 2 + w, i2 = column + w; (void)i2;");
	for (int i = 0; i < k->nval; i++)
		if (cu_computed(k->val[i]) && k->val[i]->axes && !column[i] && e->place[i] != PL_VECTOR)
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
		if (k->val[i]->axes && !column[i])
			e->place[i] = PL_NONE;
}

static void
name_tile(Emit *e, char letter, int i, DType dt, int64_t at)
{
	emit_line(e, "%s *const %c%d = (%s *)(shared + %ld) + warp * %d;", ctype(dt), letter, i, ctype(dt), (long)at, TILE);
}

/* The warps' tiles in shared memory: of what is loaded in pieces, and of what is stored so, which takes the place of a loaded
   one of its width where there is one, for a thread reads an element before it writes it. Returns where they end. */
static int64_t
name_tiles(Emit *e, int64_t at, int warps)
{
	Kernel *k = e->k;
	bool *taken = arena_alloc(k->arena, (size_t)k->nval);
	int64_t *place = arena_alloc(k->arena, (size_t)k->nval * sizeof *place);
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		if (!staged_load(k, v))
			continue;
		place[i] = at;
		name_tile(e, 'u', i, v->dt, at);
		at += warps * TILE * (int64_t)dtype_bytes(v->dt);
	}
	for (int i = 0; i < k->nstore; i++) {
		const LStore *s = &k->store[i];
		size_t bytes = dtype_bytes(s->node->dt);
		int over = 0;
		if (!staged(s))
			continue;
		while (over < k->nval && (taken[over] || !staged_load(k, k->val[over]) || dtype_bytes(k->val[over]->dt) != bytes))
			over++;
		name_tile(e, 't', i, s->node->dt, over < k->nval ? place[over] : at);
		if (over < k->nval)
			taken[over] = true;
		else
			at += warps * TILE * (int64_t)bytes;
	}
	return at;
}

static void
fetch_tiles(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!staged_load(k, v))
			continue;
		char *from = load_text(e, v);
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i1 = first, i2 = column0; (void)i1;");
		emit_line(e, "mm_tile_fetch<16, %d, 32>(u%d, &%s, %ld, lane);", COLUMNS, i, from, (long)ix_stride(v->ix, 1));
		cu_close(e);
		free(from);
	}
	emit_line(e, "mm_commit();");
}

static void
flush_tiles(Emit *e)
{
	Kernel *k = e->k;
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

/* Asks for the left operand's 16 rows from the row named. head: ends in an opening brace. */
static void
fetch_rows(Emit *e, const Matrix *A, const char *head, const char *row)
{
	char *ix = ix_text(e, A->ix);
	emit_line(e, "%s", head);
	e->indent++;
	emit_line(e, "const int i1 = %s;", row);
	emit_line(e, "mm_tile_fetch<16, %ld, 32>(rows, &a%d[%s], %ld, lane);", (long)A->width, arg_index(e->k, A->base), ix, (long)ix_stride(A->ix, 1));
	cu_close(e);
	free(ix);
}

static void
load_right(Emit *e, const Matrix *B, int threads)
{
	char *ix = ix_text(e, B->ix);
	long k = (long)B->width, rows = B->stride ? k : COLUMNS, width = B->stride ? COLUMNS : k;
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int i2 = column0;");
	emit_line(e, "mm_tile_fetch<%ld, %ld, %d>(b, &a%d[%s], %ld, threadIdx.x);", rows, width, threads, arg_index(e->k, B->base), ix,
	          (long)(B->stride ? B->stride : ix_stride(B->ix, 2)));
	cu_close(e);
	free(ix);
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

/* Blocks side by side for a column: with no sums to keep apart, as many as the multiprocessors hold at once. */
static int64_t
parts_of(const Kernel *k, int64_t blocks, int warps, int smem)
{
	int64_t held = 227 * 1024 / (smem + 1024), most = k->size[1] / (16 * warps);
	int64_t parts = 132 * (held < HELD ? held : HELD) / blocks;
	return k->columns || parts < 1 ? 1 : parts < most ? parts : most;
}

/* While a product runs, the tiles that its results meet are on their way; while they meet, the next rows. */
static void
put_rows(Emit *e, const LVal *dot, const bool *column, long step)
{
	Kernel *k = e->k;
	const Matrix *A = &dot->dot[0], *B = &dot->dot[1];
	long rows = (long)k->size[1];
	emit_line(e, "for (int first = start; first < %ld; first += %ld) {", rows, step);
	e->indent++;
	fetch_tiles(e);
	emit_line(e, "mm_wait<1>();");
	emit_line(e, "__syncwarp();");
	emit_line(e, "float d%d[%d][4] = {};", dot->id, COLUMNS / 8);
	emit_line(e, "mm_tile_product<%d, %ld, %s>(d%d, rows, b);", COLUMNS, (long)B->width, B->stride ? "true" : "false", dot->id);
	emit_line(e, "__syncwarp();");
	fetch_rows(e, A, arena_printf(k->arena, "if (first + %ld < %ld) {", step, rows), arena_printf(k->arena, "first + %ld", step));
	emit_line(e, "mm_commit();");
	emit_line(e, "mm_wait<1>();");
	emit_line(e, "__syncwarp();");
	cu_open_unrolled(e, arena_printf(k->arena, "int n = 0; n < %d; n++", COLUMNS / 8));
	cu_open_unrolled(e, "int j = 0; j < 2; j++");
	emit_line(e, "const int i1 = first + g + j * 8, column = column0 + n * 8 + q, i2 = column; (void)i1; (void)i2;");
	put_pair(e, column);
	cu_close(e);
	cu_close(e);
	flush_tiles(e);
	cu_close(e);
}

void
emit_epilogue(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	LVal *dot = NULL;
	for (int i = 0; i < k->nval; i++) {
		e->saved[i] = false;
		if (k->val[i]->kind == LV_DOT)
			dot = k->val[i];
	}
	const Matrix *A = &dot->dot[0], *B = &dot->dot[1];
	int64_t rows = k->size[1], blocks = k->size[2] / COLUMNS;
	int64_t right = 2 * (B->stride ? B->width * (COLUMNS + 8) : COLUMNS * (B->width + 8));
	int warps = rows / 16 < WARPS ? (int)(rows / 16) : WARPS;
	while ((rows / 16) % warps)
		warps--;
	e->lanes = ~0u;
	e->column = "n * 8 + q + w";
	bool *column = cu_columns(e, 1);
	l->block = 32 * warps;
	cu_signature_held(e, name, arena_printf(k->arena, "%d, 4", l->block)); /* else ptxas spills to hold more of them */
	emit_line(e, "extern __shared__ __align__(16) char shared[];");
	if (k->columns)
		emit_line(e, "__shared__ float part[%d][%d];", warps, COLUMNS);
	emit_line(e, "bf16 *const b = (bf16 *)shared;");
	emit_line(e, "const int lane = threadIdx.x %% 32, g = lane / 4, q = lane %% 4 * 2, warp = threadIdx.x / 32;");
	emit_line(e, "bf16 *const rows = (bf16 *)(shared + %ld) + warp * %ld;", (long)right, 16 * (long)(A->width + 8));
	l->smem = (int)name_tiles(e, right + warps * 16 * (A->width + 8) * 2, warps);
	int64_t parts = parts_of(k, blocks, warps, l->smem);
	l->grid = (int)(k->size[0] * parts * blocks);
	emit_line(e, "const int column0 = blockIdx.x %% %ld * %d, block = blockIdx.x / %ld;", (long)blocks, COLUMNS, (long)blocks);
	if (parts > 1)
		emit_line(e, "const int i0 = 0, start = (block * %d + warp) * 16; (void)i0;", warps);
	else
		emit_line(e, "const int i0 = block, start = warp * 16;");
	load_right(e, B, l->block);
	fetch_rows(e, A, "{", "start");
	emit_line(e, "mm_commit();");
	cu_uniform(e, 0);
	cu_put_columns(e, column, 2, "column0", COLUMNS, l->block);
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].column)
			emit_line(e, "float sum%d[%d] = {};", i, COLUMNS / 4);
	emit_line(e, "mm_wait<0>();");
	emit_line(e, "__syncthreads();");
	put_rows(e, dot, column, 16 * warps * (long)parts);
	column_sums(e, warps);
	text_puts(e->t, "}\n\n");
}
