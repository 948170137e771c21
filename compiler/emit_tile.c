/* Tile kernels (tile.c) on the tensor cores. A block has one batch place and 16 rows a warp; a warp's 16 x N tile lies in
   registers as mma.m16n8k16 leaves a result: thread (g, q) of 8 x 4 holds rows g and g + 8, columns 8n + 2q and the next.
   That is also how the next product takes its left operand, so nothing moves between threads but sums along a row.

     n, e    element of the tile: column 8n + 2q + e % 2, row g + 8 (e / 2)
     j       which of the thread's two rows: e / 2

   A row that fits one tile keeps its products and values in registers from level to level; a longer one is walked again
   for each level, and its products are computed again. In a walk the next tile is copied into shared memory while this one is
   computed, piece by piece; tiles, and a warp's pieces, of which nothing comes are left out (tile_skip.c).
   Source of the layouts: PTX ISA, "Matrix fragments for mma.m16n8k16". */
#include <math.h>
#include <stdlib.h>

#include "emit_cuda.h"
#include "ix.h"

#define COLUMNS 64  /* of a tile, at most */
#define PIECE 16
#define STAGES 2    /* tiles in shared memory where the row is walked */
#define BLOCK_SHARED (96 * 1024) /* bytes that every GPU since sm_80 has for a block */
#define WARPS 4     /* of a block, at most */
#define COLUMN_BYTES (40 * 1024) /* that shared memory has for values of columns, beside the tiles */

typedef struct Tile {
	int64_t rows, columns; /* of the whole, along the last outer axis and the row axis */
	int64_t n, piece;      /* columns of a tile, and of what a warp computes at once */
	int warps, block;         /* of a block; its rows */
	bool single;              /* one tile is the row */
	Matrix *shared[16];       /* in shared memory: the right operands */
	int nshared;
	bool *column;             /* by value id: one for a column, computed for all rows at once */
	Skip *skip;               /* by stage: what its walk leaves out */
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

/* Is it a load from a place that axes alone say? */
static bool
is_plain_load(const LVal *v)
{
	bool plain = v->kind == LV_LOAD && !v->guard;
	for (int i = 0; plain && i < v->ix->n; i++)
		plain = v->ix->t[i].a->kind == AT_AXIS;
	return plain;
}

/* Of the values of the level that vary from row to row, those loads, or the others. */
static void
row_values(Emit *e, int level, bool loads)
{
	Kernel *k = e->k;
	cu_open_unrolled(e, "int j = 0; j < 2; j++");
	row_line(e);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!cu_computed(v) || is_lane(e, v) || v->level != level || !by_row(e, v) || (level == 0 && is_plain_load(v) != loads))
			continue;
		char *x = val_expr(e, v);
		emit_line(e, "v%d[j] = %s;", i, x);
		e->place[i] = PL_OUTER;
		free(x);
	}
	cu_close(e);
	for (int i = 0; loads && i < k->nval; i++)
		if (e->place[i] == PL_OUTER && k->val[i]->dt == DT_F32)
			emit_line(e, "mm_tile_have(v%d);", i);
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
	if (level == 0) /* what is loaded, all at once */
		row_values(e, level, true);
	row_values(e, level, false);
}

/* Elements of a tile of the right operand i; where it starts among those of a stage (i = nshared: how many these are). */
static long tile_size(const Tile *t, int i) { return (long)(t->n * (t->shared[i]->width + 8)); }

static long
tile_start(const Tile *t, int i)
{
	long at = 0;
	while (i-- > 0)
		at += tile_size(t, i);
	return at;
}

/* Defines fetch(s0), which asks for the right operands of the tile that starts at column s0. */
static void
define_fetch(Emit *e, const Tile *t, const bool *used)
{
	Kernel *k = e->k;
	int axis = k->nouter;
	emit_line(e, "const auto fetch = [&](int s0) {");
	e->indent++;
	emit_line(e, "const int i%d = s0;", axis);
	for (int i = 0; i < t->nshared; i++) {
		if (used && !used[i])
			continue;
		const Matrix *m = t->shared[i];
		char *ix = ix_text(e, m->ix), *to = t->single ? "" : arena_printf(k->arena, " + s0 / %ld %% %d * %ld", (long)t->n, STAGES, tile_start(t, t->nshared));
		emit_line(e, "mm_tile_fetch<%ld, %ld, %d>(tiles + %ld%s, &a%d[%s], %ld, threadIdx.x);", (long)t->n, (long)m->width, 32 * t->warps, tile_start(t, i), to,
		          arg_index(k, m->base), ix, (long)ix_stride(m->ix, axis));
		free(ix);
	}
	e->indent--;
	emit_line(e, "};");
}

/* Waits until all have their tile, and are done with those before. */
static void
wait_shared(Emit *e)
{
	emit_line(e, "mm_wait<0>();");
	emit_line(e, "__syncthreads();");
}

/* Names the right operands' rows from s0 on. */
static void
name_shared(Emit *e, const Tile *t, const bool *used)
{
	for (int i = 0; i < t->nshared; i++)
		if (t->single)
			emit_line(e, "const bf16 *const b%d = tiles + %ld;", i, tile_start(t, i));
		else if (used[i])
			emit_line(e, "const bf16 *const b%d = tiles + tile / %ld %% %d * %ld + %ld + (s0 - tile) * %ld;", i, (long)t->n, STAGES, tile_start(t, t->nshared),
			          tile_start(t, i), (long)t->shared[i]->width + 8);
}

static void
put_products(Emit *e, Tile *t, const bool *need)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_DOT || (need && !need[i]))
			continue;
		emit_line(e, "float d%d[%ld][4] = {};", i, (long)t->piece / 8);
		emit_line(e, "mm_tile_dot<%ld, %ld>(d%d, f%d, b%d);", (long)t->piece, (long)v->dot[0].width, i, i, shared_index(t, &v->dot[1]));
		emit_line(e, "mm_tile_round<%ld>(d%d);", (long)t->piece, i);
	}
}

/* A value of an element. A comparison that goes one way at all places of a piece which nothing is left out of is not made there. */
static void
put_value(Emit *e, const Tile *t, int stage, LVal *v)
{
	const signed char *inside = t->skip[stage].inside;
	if (!inside || inside[v->id] < 0) {
		cu_value(e, v, e->saved[v->id]);
		return;
	}
	char *x = val_expr(e, v);
	emit_line(e, "const %s v%d = %s %s;", ctype(v->dt), v->id, inside[v->id] ? "whole.value ||" : "!whole.value &&", x);
	e->place[v->id] = PL_PLAIN;
	free(x);
}

/* The values of one element, its sums and stores. */
static void
put_element(Emit *e, const Tile *t, int stage, const bool *need)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (need[i] && cu_computed(v) && !t->column[i] && !(e->saved[i] && v->level < stage))
			put_value(e, t, stage, v);
	}
	cu_accumulate(e, stage);
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (!s->row || s->val->level != stage)
			continue;
		bool rounds = s->dot && s->val->kind == LV_PRIM && s->val->node->op == P_cast && s->val->in[0]->dt == DT_F32; /* as the product does */
		char *v = val_ref(e, rounds ? s->val->in[0] : s->val), *ix = s->dot ? NULL : ix_text(e, s->ix);
		if (s->dot)
			emit_line(e, "p%d[n * 4 + e] = %s;", i, v);
		else
			emit_line(e, "a%d[%s] = %s;", arg_index(k, s->node), ix, v);
		free(v);
		free(ix);
	}
}

/* Random numbers of the thread's elements e, two by one call where neighbouring elements are of neighbouring columns or rows. */
static void
draw_random(Emit *e, const Tile *t, int stage, const bool *need)
{
	Kernel *k = e->k;
	int column = k->nouter, row = column - 1;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		int64_t step;
		if (v->kind != LV_RANDOM || !need[i] || t->column[i] || (e->saved[i] && v->level < stage))
			continue;
		bool over = ix_run_step(v->ix, column, 2, &step) && step == 1, down = ix_run_step(v->ix, row, 2, &step) && step == 1;
		e->drawn[i] = over || down;
		if (!over && !down)
			continue;
		emit_line(e, "uint32_t r%d[4];", i);
		cu_open_unrolled(e, "int j = 0; j < 2; j++");
		emit_line(e, "const int i%d = s0 + n * 8 + q%s, i%d = row0 + j * 8%s; (void)i%d; (void)i%d;", column, over ? "" : " + g % 2", row, over ? "" : " - g % 2", column, row);
		char *call = random_text(e, v, arena_printf(k->arena, "mm_tile_random%s(&r%d[j * 2], ", over ? "" : "_rows", i));
		emit_line(e, "%s;", call);
		free(call);
		cu_close(e);
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
			emit_line(e, "float p%d[%ld];", i, (long)t->piece / 2);
	cu_open_unrolled(e, arena_printf(k->arena, "int n = 0; n < %ld; n++", (long)t->piece / 8));
	draw_random(e, t, stage, need);
	cu_open_unrolled(e, "int e = 0; e < 4; e++");
	emit_line(e, "const int j = e / 2, i%d = s0 + n * 8 + q + e %% 2; (void)j; (void)i%d;", axis, axis);
	row_line(e);
	put_element(e, t, stage, need);
	cu_close(e);
	cu_close(e);
	for (int i = 0; i < k->nstore; i++)
		if (stores_at(k, i, stage))
			emit_line(e, "mm_tile_add<%ld, %ld>(o%d, p%d, b%d);", (long)t->piece, (long)k->store[i].dot->width, i, i, shared_index(t, k->store[i].dot));
	cu_forget(e);
}

/* Of the rows from `row` on, so many: the first column of the walk, by steps, and its end. */
static void
put_bounds(Emit *e, const Tile *t, const Skip *s, const char *first, const char *end, const char *row, long rows, long step)
{
	long early = (long)s->early_by + 1, late = (long)s->late_by + rows - 1;
	emit_line(e, "int %s = 0, %s = %ld;", first, end, (long)t->columns);
	if (s->early)
		emit_line(e, "if (%s + %ld > 0) %s = (%s + %ld) / %ld * %ld;", row, early, first, row, early, step, step);
	if (s->late)
		emit_line(e, "if (%s + %ld < %s) %s = %s + %ld;", row, late, end, end, row, late);
}

/* Visits all columns if something is low that what is left out hangs on. */
static void
check_high(Emit *e, const Tile *t, const Skip *s)
{
	if (!s->need)
		return;
	emit_line(e, "bool low = false;");
	for (int i = 0; i < s->nhigh; i++) {
		if (!(s->need >> i & 1))
			continue;
		const char *column = e->column, *each = by_row(e, s->high[i]) ? "for (int j = 0; j < 2; j++) " : "";
		e->column = "c";
		char *v = val_ref(e, s->high[i]);
		if (is_lane(e, s->high[i]))
			each = arena_printf(e->k->arena, "for (int c = threadIdx.x; c < %ld; c += %d) ", (long)t->columns, 32 * t->warps);
		emit_line(e, "%slow |= !(%s > %.9gf);", each, v, TILE_LOW);
		e->column = column;
		free(v);
	}
	emit_line(e, "if (__syncthreads_or(low)) first = from = 0, end = to = %ld;", (long)t->columns);
}

/* The piece from column s0 on; twice where a mask leaves some out: as it is, and without the mask for a piece that lies inside of it. */
static void
put_piece(Emit *e, Tile *t, const Skip *skip, int stage, const bool *need, const bool *used)
{
	if (skip->inside) {
		emit_line(e, "const auto piece = [&](auto whole) {");
		e->indent++;
	}
	name_shared(e, t, used);
	put_products(e, t, need);
	put_tile(e, t, stage, need);
	if (!skip->inside)
		return;
	e->indent--;
	emit_line(e, "};");
	const char *late = skip->late ? arena_printf(e->k->arena, "s0 + %ld <= warp", (long)(t->piece - skip->late_by)) : "true";
	const char *early = skip->early ? arena_printf(e->k->arena, "s0 >= warp + %ld", (long)skip->early_by + 16) : "true";
	emit_line(e, "if (%s && %s) piece(mm_flag<true>()); else piece(mm_flag<false>());", late, early);
}

/* Walks the row for a stage: its tiles, which the block shares, and their pieces. */
static void
put_walk(Emit *e, Tile *t, const Skip *skip, int stage, const bool *need)
{
	Kernel *k = e->k;
	bool used[16] = {0};
	long n = (long)t->n;
	for (int i = 0; i < k->nval; i++)
		if (need[i] && k->val[i]->kind == LV_DOT)
			used[shared_index(t, &k->val[i]->dot[1])] = true;
	for (int i = 0; i < k->nstore; i++)
		if (stores_at(k, i, stage))
			used[shared_index(t, k->store[i].dot)] = true;
	emit_line(e, "{");
	e->indent++;
	put_bounds(e, t, skip, "first", "end", "block", t->block, n);
	put_bounds(e, t, skip, "from", "to", "warp", 16, (long)t->piece);
	check_high(e, t, skip);
	define_fetch(e, t, used);
	emit_line(e, "__syncthreads();");
	emit_line(e, "if (first < end) fetch(first);");
	emit_line(e, "mm_commit();");
	emit_line(e, "for (int tile = first; tile < end; tile += %ld) {", n);
	e->indent++;
	wait_shared(e);
	emit_line(e, "if (tile + %ld < end) fetch(tile + %ld);", n, n);
	emit_line(e, "mm_commit();");
	text_puts(e->t, "#pragma unroll 1\n");
	emit_line(e, "for (int s0 = tile > from ? tile : from; s0 < to && s0 < tile + %ld; s0 += %ld) {", n, (long)t->piece);
	e->indent++;
	put_piece(e, t, skip, stage, need, used);
	cu_close(e);
	cu_close(e);
	cu_close(e);
}

static void
reduce_lines(Emit *e, int stage, const double *start, bool combine)
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
		init = init ? init : start && start[i] > -INFINITY ? arena_printf(k->arena, "%.9gf", start[i]) : "-MM_INF";
		emit_line(e, "%s v%d[2] = {%s, %s};", ctype(v->dt), i, init, init);
		e->place[i] = PL_OUTER;
	}
}

static void
put_stage(Emit *e, Tile *t, int stage)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	if (stage > 0)
		tile_uniform(e, stage);
	if (!stage_values(e, stage, need))
		return;
	reduce_lines(e, stage, t->skip[stage].start, false);
	if (t->single) {
		for (int i = 0; i < k->nval; i++)
			if (e->saved[i] && k->val[i]->level == stage)
				emit_line(e, "%s v%d[%ld];", ctype(k->val[i]->dt), i, (long)t->n / 2);
		put_tile(e, t, stage, need);
	} else {
		put_walk(e, t, &t->skip[stage], stage, need);
	}
	reduce_lines(e, stage, NULL, true);
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

/* By id: values of columns that are computed for all rows at once. None if the row is so long that they have no room. */
static bool *
tile_columns(const Emit *e, int64_t columns)
{
	const Kernel *k = e->k;
	bool *column = cu_columns(e, k->nouter - 1), *used = arena_alloc(k->arena, (size_t)k->nval);
	int64_t bytes = 0;
	cu_columns_used(k, column, used);
	for (int i = 0; i < k->nval; i++)
		bytes += used[i] ? columns * (int64_t)dtype_bytes(k->val[i]->dt) : 0;
	return bytes <= COLUMN_BYTES ? column : arena_alloc(k->arena, (size_t)k->nval);
}

/* Is all that decides whether places may be left out at hand? */
static bool
can_skip(const Emit *e, const Tile *t, const Skip *s)
{
	for (int i = 0; i < s->nhigh; i++)
		if (s->need >> i & 1 && is_lane(e, s->high[i]) && !t->column[s->high[i]->id])
			return false;
	return s->late || s->early;
}

/* What the walks leave out. True if one does so at the end of the row: later rows then have more to do. */
static bool
find_skips(const Emit *e, Tile *t)
{
	bool late = false;
	t->skip = arena_alloc(e->k->arena, (size_t)e->k->nlevel * sizeof *t->skip);
	for (int i = 0; i < e->k->nlevel && !t->single; i++) {
		Skip s = tile_skip(e->k, i);
		if (!can_skip(e, t, &s))
			continue;
		t->skip[i] = s;
		late |= s.late;
	}
	return late;
}

/* The signature. Where the row is walked, so many threads are to be held at once as registers for what a thread has of operands,
   products and results, and some for the rest, leave; else ptxas takes as many as there are, and few are. */
static void
tile_signature(Emit *e, const Tile *t, const char *name)
{
	const Kernel *k = e->k;
	int64_t held = 0, threads = 32 * t->warps;
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->kind == LV_DOT)
			held += k->val[i]->dot[0].width / 4 + t->piece / 2;
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].dot)
			held += k->store[i].dot->width / 2 + t->piece / 4;
	int blocks = (int)((held <= 84 ? 512 : held <= 120 ? 384 : 256) / threads);
	cu_signature_held(e, name, arena_printf(k->arena, t->single ? "%d" : "%d, %d", (int)threads, blocks));
}

void
emit_tile(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	Tile t = {.rows = k->size[k->nouter - 1], .columns = k->size[k->nouter]};
	t.n = divisor16(t.columns, t.columns < COLUMNS ? t.columns : COLUMNS);
	t.single = t.n == t.columns;
	t.piece = t.single ? t.n : divisor16(t.n, PIECE);
	t.warps = (int)(t.rows / 16);
	while (t.warps > WARPS || (t.rows / 16) % t.warps)
		t.warps--;
	int blocks = (int)(t.rows / 16) / t.warps;
	t.block = 16 * t.warps;
	l->block = 32 * t.warps;
	l->grid = (int)(k->outer / t.rows) * blocks;
	e->lane = "n * 4 + e";
	e->drawn = arena_alloc(k->arena, (size_t)k->nval);
	e->column = "s0 + n * 8 + q + e % 2";
	t.column = tile_columns(e, t.columns);
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
	tile_signature(e, &t, name);
	l->smem = (int)(2 * tile_start(&t, t.nshared) * (t.single ? 1 : STAGES));
	emit_line(e, "extern __shared__ __align__(16) bf16 tiles[];");
	emit_line(e, "const int g = threadIdx.x %% 32 / 4, q = threadIdx.x %% 4 * 2;");
	const char *order = find_skips(e, &t) ? arena_printf(k->arena, "(%d - blockIdx.x %% %d)", blocks - 1, blocks) : arena_printf(k->arena, "blockIdx.x %% %d", blocks);
	emit_line(e, "const int o = blockIdx.x / %d, block = %s * %d, warp = block + threadIdx.x / 32 * 16, row0 = warp + g;", blocks, order, t.block);
	axis_lines(e, "o", 0, k->nouter - 1);
	if (t.single) {
		emit_line(e, "const int s0 = 0;");
		define_fetch(e, &t, NULL);
		emit_line(e, "fetch(0);");
		emit_line(e, "mm_commit();");
	}
	load_fragments(e);
	tile_uniform(e, 0);
	cu_put_columns(e, t.column, k->nouter, "0", t.columns, l->block);
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].dot)
			emit_line(e, "float o%d[%ld][4] = {};", i, (long)k->store[i].dot->width / 8);
	if (t.single) {
		wait_shared(e);
		name_shared(e, &t, NULL);
		put_products(e, &t, NULL);
	}
	for (int st = 0; st < k->nlevel; st++)
		put_stage(e, &t, st);
	store_lines(e);
	text_puts(e->t, "}\n\n");
}
