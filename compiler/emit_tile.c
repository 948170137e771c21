/* Tile kernels (tile.c) on the tensor cores. A block has one batch place and 16 rows a warp; a warp's 16 x N tile lies in
   registers as mma.m16n8k16 leaves a result: thread (g, q) of 8 x 4 holds rows g and g + 8, columns 8n + 2q and the next.
   That is also how the next product takes its left operand, so nothing moves between threads but sums along a row.

     n, e    element of the tile: column 8n + 2q + e % 2, row g + 8 (e / 2)
     j       which of the thread's two rows: e / 2

   A row that fits one tile keeps its products and values in registers from level to level; a longer one is walked again
   for each level, and its products are computed again. Source of the layouts: PTX ISA, "Matrix fragments for mma.m16n8k16". */
#include <stdlib.h>

#include "emit_cuda.h"

#define COLUMNS 64  /* of a tile, at most */
#define WARPS 4     /* of a block, at most */
#define LONG 512    /* columns whose values shared memory has room for beside the tiles */

typedef struct Tile {
	int64_t rows, columns, n; /* of the whole, along the last outer axis and the row axis; columns of a tile */
	int warps;
	bool single;              /* one tile is the row */
	Matrix *shared[16];       /* in shared memory: the right operands */
	int nshared;
	bool *column;             /* by value id: one for a column, computed for all rows at once */
} Tile;

static int64_t
divisor16(int64_t n, int64_t most)
{
	int64_t d = most / 16 * 16;
	while (n % d)
		d -= 16;
	return d;
}

static int
shared_index(Tile *t, Matrix *m)
{
	for (int i = 0; i < t->nshared; i++)
		if (t->shared[i]->base == m->base && t->shared[i]->ix == m->ix)
			return i;
	t->shared[t->nshared] = m;
	return t->nshared++;
}

static bool
by_row(const Emit *e, const LVal *v)
{
	return v->axes >> (e->k->nouter - 1) & 1;
}

/* Names of the thread's row j. */
static void
row_line(Emit *e)
{
	emit_line(e, "const int i%d = row0 + j * 8; (void)i%d;", e->k->nouter - 1, e->k->nouter - 1);
}

/* Values that are one for a row, two a thread where they vary from row to row. */
static void
tile_uniform(Emit *e, int level)
{
	Kernel *k = e->k;
	bool any = false;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!cu_computed(v) || is_lane(e, v) || v->level != level)
			continue;
		if (by_row(e, v)) {
			emit_line(e, "%s v%d[2];", ctype(v->dt), i);
			any = true;
		} else {
			cu_value(e, v, false);
		}
	}
	if (!any)
		return;
	cu_open_unrolled(e, "int j = 0; j < 2; j++");
	row_line(e);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!cu_computed(v) || is_lane(e, v) || v->level != level || !by_row(e, v))
			continue;
		char *x = val_expr(e, v);
		emit_line(e, "v%d[j] = %s;", i, x);
		e->place[i] = PL_OUTER;
		free(x);
	}
	cu_close(e);
}

/* Asks for the right operands of the tile that starts at column s0; wait_shared waits until all have them. */
static void
fetch_shared(Emit *e, const Tile *t, const bool *used)
{
	Kernel *k = e->k;
	int axis = k->nouter;
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int i%d = s0;", axis);
	for (int i = 0; i < t->nshared; i++) {
		if (used && !used[i])
			continue;
		const Matrix *m = t->shared[i];
		char *ix = ix_text(e, m->ix);
		emit_line(e, "mm_tile_fetch<%ld, %ld, %d>(b%d, &a%d[%s], %ld, threadIdx.x);", (long)t->n, (long)m->width, 32 * t->warps, i,
		          arg_index(k, m->base), ix, (long)ix_stride(m->ix, axis));
		free(ix);
	}
	cu_close(e);
	emit_line(e, "mm_commit();");
}

static void
wait_shared(Emit *e)
{
	emit_line(e, "mm_wait<0>();");
	emit_line(e, "__syncthreads();");
}

static void
put_products(Emit *e, Tile *t, const bool *need)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_DOT || (need && !need[i]))
			continue;
		emit_line(e, "float d%d[%ld][4] = {};", i, (long)t->n / 8);
		emit_line(e, "mm_tile_dot<%ld, %ld>(d%d, f%d, b%d);", (long)t->n, (long)v->dot[0].width, i, i, shared_index(t, &v->dot[1]));
	}
}

/* The values of one element, its sums and stores. */
static void
put_element(Emit *e, const Tile *t, int stage, const bool *need)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (need[i] && cu_computed(v) && !t->column[i] && !(e->saved[i] && v->level < stage))
			cu_value(e, v, e->saved[i]);
	}
	cu_accumulate(e, stage);
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (!s->row || s->val->level != stage)
			continue;
		char *v = val_ref(e, s->val), *ix = s->dot ? NULL : ix_text(e, s->ix);
		if (s->dot)
			emit_line(e, "p%d[n * 4 + e] = %s;", i, v);
		else
			emit_line(e, "a%d[%s] = %s;", arg_index(k, s->node), ix, v);
		free(v);
		free(ix);
	}
}

static bool
stores_at(const Kernel *k, int i, int stage)
{
	return k->store[i].dot && k->store[i].val->level == stage;
}

static void
put_tile(Emit *e, Tile *t, int stage, const bool *need)
{
	Kernel *k = e->k;
	int axis = k->nouter;
	for (int i = 0; i < k->nstore; i++)
		if (stores_at(k, i, stage))
			emit_line(e, "bf16 p%d[%ld];", i, (long)t->n / 2);
	cu_open_unrolled(e, arena_printf(k->arena, "int n = 0; n < %ld; n++", (long)t->n / 8));
	cu_open_unrolled(e, "int e = 0; e < 4; e++");
	emit_line(e, "const int j = e / 2, i%d = s0 + n * 8 + q + e %% 2; (void)j; (void)i%d;", axis, axis);
	row_line(e);
	put_element(e, t, stage, need);
	cu_close(e);
	cu_close(e);
	for (int i = 0; i < k->nstore; i++)
		if (stores_at(k, i, stage))
			emit_line(e, "mm_tile_add<%ld, %ld>(o%d, p%d, b%d);", (long)t->n, (long)k->store[i].dot->width, i, i, shared_index(t, k->store[i].dot));
	cu_forget(e);
}

static void
reduce_lines(Emit *e, int stage, bool combine)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		if (combine) {
			const char *f = v->node->op != P_reduce_max ? "mm_sum" : "mm_maximum";
			emit_line(e, "v%d[0] = mm_combine<4, %s>(v%d[0]);", i, f, i);
			emit_line(e, "v%d[1] = mm_combine<4, %s>(v%d[1]);", i, f, i);
			continue;
		}
		const char *init = reduce_init(v);
		emit_line(e, "%s v%d[2] = {%s, %s};", ctype(v->dt), i, init ? init : "-MM_INF", init ? init : "-MM_INF");
		e->place[i] = PL_OUTER;
	}
}

static void
put_stage(Emit *e, Tile *t, int stage)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval), used[16] = {0};
	if (stage > 0)
		tile_uniform(e, stage);
	if (!stage_values(e, stage, need))
		return;
	reduce_lines(e, stage, false);
	if (t->single) {
		for (int i = 0; i < k->nval; i++)
			if (e->saved[i] && k->val[i]->level == stage)
				emit_line(e, "%s v%d[%ld];", ctype(k->val[i]->dt), i, (long)t->n / 2);
		put_tile(e, t, stage, need);
	} else {
		for (int i = 0; i < k->nval; i++)
			if (need[i] && k->val[i]->kind == LV_DOT)
				used[shared_index(t, &k->val[i]->dot[1])] = true;
		for (int i = 0; i < k->nstore; i++)
			if (stores_at(k, i, stage))
				used[shared_index(t, k->store[i].dot)] = true;
		emit_line(e, "for (int s0 = 0; s0 < %ld; s0 += %ld) {", (long)t->columns, (long)t->n);
		e->indent++;
		emit_line(e, "__syncthreads();");
		fetch_shared(e, t, used);
		wait_shared(e);
		put_products(e, t, need);
		put_tile(e, t, stage, need);
		cu_close(e);
	}
	reduce_lines(e, stage, true);
}

/* Left operands of the products: the warp's 16 rows, in registers throughout. */
static void
load_fragments(Emit *e)
{
	Kernel *k = e->k;
	int axis = k->nouter - 1;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		if (v->kind != LV_DOT)
			continue;
		const Matrix *m = &v->dot[0];
		emit_line(e, "uint32_t f%d[%ld][4];", i, (long)m->width / 16);
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i%d = row0;", axis);
		char *ix = ix_text(e, m->ix);
		emit_line(e, "mm_tile_rows<%ld>(f%d, &a%d[%s], %ld);", (long)m->width, i, arg_index(k, m->base), ix, (long)ix_stride(m->ix, axis));
		free(ix);
		cu_close(e);
	}
}

static void
store_lines(Emit *e)
{
	Kernel *k = e->k;
	cu_open_unrolled(e, "int j = 0; j < 2; j++");
	row_line(e);
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (s->row && !s->dot)
			continue;
		char *ix = ix_text(e, s->ix);
		if (s->dot) {
			char *scale = s->scale ? val_ref(e, s->scale) : NULL;
			emit_line(e, "mm_tile_store<%ld>(&a%d[%s], o%d, j, %s);", (long)s->dot->width, arg_index(k, s->node), ix, i, scale ? scale : "1.0f");
			free(scale);
		} else {
			char *v = val_ref(e, s->val);
			emit_line(e, "if (q == 0) a%d[%s] = %s;", arg_index(k, s->node), ix, v);
			free(v);
		}
		free(ix);
	}
	cu_close(e);
}

void
emit_tile(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	Tile t = {.rows = k->size[k->nouter - 1], .columns = k->size[k->nouter]};
	t.n = divisor16(t.columns, t.columns < COLUMNS ? t.columns : COLUMNS);
	t.single = t.n == t.columns;
	t.warps = (int)(t.rows / 16);
	while (t.warps > WARPS || (t.rows / 16) % t.warps)
		t.warps--;
	int blocks = (int)(t.rows / 16) / t.warps;
	l->block = 32 * t.warps;
	l->grid = (int)(k->outer / t.rows) * blocks;
	e->lane = "n * 4 + e";
	e->column = "s0 + n * 8 + q + e % 2";
	t.column = t.columns <= LONG ? cu_columns(e, k->nouter - 1) : arena_alloc(k->arena, (size_t)k->nval); /* none */
	for (int i = 0; i < k->nval; i++)
		e->saved[i] &= t.single && !t.column[i];
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->kind == LV_DOT) {
			shared_index(&t, &k->val[i]->dot[1]);
			e->saved[i] = false; /* its registers are kept as they are, or it is computed again */
		}
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].dot)
			shared_index(&t, k->store[i].dot);
	cu_signature(e, name, l->block);
	for (int i = 0; i < t.nshared; i++)
		emit_line(e, "__shared__ __align__(16) bf16 b%d[%ld];", i, (long)(t.n * (t.shared[i]->width + 8)));
	emit_line(e, "const int g = threadIdx.x %% 32 / 4, q = threadIdx.x %% 4 * 2;");
	emit_line(e, "const int o = blockIdx.x / %d, row0 = (blockIdx.x %% %d * %d + threadIdx.x / 32) * 16 + g;", blocks, blocks, t.warps);
	axis_lines(e, "o", 0, k->nouter - 1);
	if (t.single) {
		emit_line(e, "const int s0 = 0;");
		fetch_shared(e, &t, NULL);
	}
	load_fragments(e);
	tile_uniform(e, 0);
	cu_put_columns(e, t.column, k->nouter, "0", t.columns, l->block);
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].dot)
			emit_line(e, "float o%d[%ld][4] = {};", i, (long)k->store[i].dot->width / 8);
	if (t.single) {
		wait_shared(e);
		put_products(e, &t, NULL);
	}
	for (int st = 0; st < k->nlevel; st++)
		put_stage(e, &t, st);
	store_lines(e);
	text_puts(e->t, "}\n\n");
}
