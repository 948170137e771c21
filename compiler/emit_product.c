/* Product kernels (product.c) for the tensor cores. A block has ROWS x COLUMNS of the result: operands come in tiles of some
   summed places, copied ahead into shared memory, and mm_Product (ops/kernels/prelude.cu) multiplies them. The result goes
   through shared memory, so that a thread meets eight neighbours of a row: what they meet is read, and what comes of them
   written, 16 bytes at a time. What they meet in memory is on its way while the product runs.

   An operand that lies in runs of eight (or four) is copied in pieces of 16 (8) bytes, zeros where its conditions do not hold; any
   other is computed, element by element. */
#include <stdlib.h>
#include <string.h>

#include "emit_cuda.h"
#include "ix.h"

#define STAGES 3 /* more would take from the cache that windows share */
#define SKEW 8 /* elements behind each row of the result in shared memory: neighbouring rows in other banks */
#define RUN_OF 8
#define ATOM 512 /* elements: a tile's place in shared memory (mm_place) */
#define BRIEF 128 /* summed places of which there are few */
#define PARK 80      /* values of a thread, from which its column sums wait elsewhere */
#define LONG 512 /* summed places of which it pays to have more in a tile */
#define SHARED (227 * 1024) /* bytes of a multiprocessor */
#define BLOCK_SHARED (98 * 1024) /* that every GPU since sm_80 has for a block */

enum { PART, ROW, COLUMN, PLACE }; /* axes */

/* An operand's tile: lines of neighbours along an axis, in runs. */
typedef struct Side {
	int run;
	const LVal *val, *load;   /* load: what it is where the conditions hold, in runs that are copied, or one by one; or NULL */
	const Guard *guard;       /* where it is so, and 0 elsewhere */
	int along, across;        /* axes of a line, and from line to line */
	int lines, width;
	const char *name;
} Side;


typedef struct Blocks {
	int rows, columns;        /* of a block */
	int depth;                /* summed places of a tile */
	int held;                 /* blocks that a multiprocessor is to hold */
	int64_t most;             /* bytes of shared memory that each has then */
	int threads, stages;
	int64_t tile;             /* elements of a stage */
	int result;               /* stride of the result's rows in shared memory */
} Blocks;

static bool
in_runs(const Kernel *k, const LVal *v, int axis, int n)
{
	int64_t step;
	return v->kind == LV_LOAD && dtype_bytes(v->dt) >= 2 && k->size[axis] % n == 0 && load_start(k, v) % n == 0 && ix_run_step(v->ix, axis, n, &step) && step == 1;
}

static bool
stored_in_runs(const LStore *s)
{
	int64_t step;
	return !s->column && ix_run_step(s->ix, COLUMN, RUN_OF, &step) && step == 1;
}

/* Which way the operand's lines run, and whether they can be copied. outer: its axis beside the summed one. */
static Side
side_of(const Kernel *k, const LVal *v, int outer, const char *name)
{
	Side s = {.run = 1, .val = v, .along = PLACE, .across = outer, .name = name};
	const LVal *load = v->kind == LV_RANGE && v->in[1]->kind == LV_CONST && v->in[1]->f == 0 ? v->in[0] : v;
	if (load->kind != LV_LOAD || (!v->guard && load->guard))
		return s;
	s.load = load;
	s.guard = v->guard;
	if (ix_local_stride(load->ix, outer) == 1 && ix_local_stride(load->ix, PLACE) != 1) {
		s.along = outer;
		s.across = PLACE;
	}
	for (int turn = 0; turn < 4; turn++) {
		int along = turn % 2 ? outer : PLACE, run = turn < 2 ? RUN_OF : RUN_OF / 2;
		bool ok = in_runs(k, load, along, run);
		for (const Guard *g = v->guard; g; g = g->up)
			ok &= ix_run_same(g->ix, along, run);
		if (ok)
			return (Side){.run = run, .val = v, .load = load, .guard = v->guard, .along = along, .across = turn % 2 ? PLACE : outer, .name = name};
	}
	return s;
}

static int
up_to(int64_t n, int by, int most)
{
	int64_t x = (n + by - 1) / by * by;
	return x < most ? (int)x : most;
}

/* Four warps have 64 or 128 rows, and all columns, of a block. Many rows share what is read of the other operand; too many are
   left empty at the end. */
static void
shape_rows(Blocks *s, int64_t rows, bool small)
{
	int64_t least = INT64_MAX, most = small || s->columns > 64 ? 128 : 256;
	for (int64_t n = 64; n <= most; n *= 2) {
		int64_t cost = (rows + n - 1) / n * (n + 64); /* what is read, about */
		if (cost > least)
			continue;
		least = cost;
		s->rows = (int)n;
	}
	s->threads = s->rows > (small || s->columns > 64 ? 64 : 128) ? 256 : 128;
}

/* Column sums that a thread has. */
static int
sums_held(const Kernel *k)
{
	int n = 0;
	for (int i = 0; i < k->nstore; i++)
		n += k->store[i].column ? RUN_OF : 0;
	return n;
}

/* Registers of a thread: its share of the result, and its column sums. */
static int
values_held(const Kernel *k, const Blocks *s)
{
	return s->rows * s->columns / s->threads + sums_held(k);
}

/* How many blocks they allow. */
static int
held_blocks(const Kernel *k, const Blocks *s)
{
	return (values_held(k, s) < 32 ? 3 : 2) * 256 / s->threads;
}

static Blocks
shape_of(const Kernel *k, Side *left, Side *right)
{
	int64_t columns = k->size[COLUMN], places = k->size[PLACE];
	bool small = k->columns && places <= BRIEF; /* sums take registers, too, and are much of the work */
	Blocks s = {.columns = up_to(columns, 16, columns > 64 && !small ? 128 : 64)};
	s.columns = s.columns <= 32 ? s.columns : s.columns <= 64 ? 64 : 128;
	shape_rows(&s, k->size[ROW], small);
	s.held = held_blocks(k, &s);
	s.most = SHARED / s.held - 1024 < BLOCK_SHARED ? (SHARED / s.held - 1024) / 16 * 16 : BLOCK_SHARED;
	s.depth = places < 64 && (places - 1) % 32 < 16 ? 16 : 32;
	if (places >= LONG && 2 * STAGES * 64 * (s.rows + s.columns) + 4 * sums_held(k) * s.threads <= s.most)
		s.depth = 64;
	left->lines = left->along == PLACE ? s.rows : s.depth;
	left->width = left->along == PLACE ? s.depth : s.rows;
	right->lines = right->along == PLACE ? s.columns : s.depth;
	right->width = right->along == PLACE ? s.depth : s.columns;
	s.tile = (s.depth * (s.rows + s.columns) + ATOM - 1) / ATOM * ATOM;
	s.stages = places <= s.depth ? 2 : STAGES;
	s.result = s.columns + SKEW;
	return s;
}

/* Where a tile begins along an axis, and how long it is. */
static const char *const tile_start[] = {[ROW] = "first", [COLUMN] = "column0", [PLACE] = "place0"};
static int tile_side(const Blocks *h, int axis) { return axis == PLACE ? h->depth : axis == ROW ? h->rows : h->columns; }

/* Conditions that the tile's place is one of the kernel's, and then the operand's own. */
static char *
condition(Emit *e, const Side *s, const Blocks *h)
{
	const Kernel *k = e->k;
	Text t = {0};
	int along[2] = {s->along, s->across};
	for (int i = 0; i < 2; i++) {
		if (k->size[along[i]] % tile_side(h, along[i]))
			text_printf(&t, "%si%d < %ld", t.n ? " && " : "", along[i], (long)k->size[along[i]]);
	}
	if (s->guard) {
		text_puts(&t, t.n ? " && " : "");
		put_guard(e, &t, s->guard);
	}
	if (!t.n)
		text_puts(&t, "true");
	return t.s;
}

/* Names the axes of the tile's element e of the run at `line` and `at`. */
static void
name_place(Emit *e, const Side *s, const char *add)
{
	emit_line(e, "const int i%d = %s + line, i%d = %s + at%s;", s->across, tile_start[s->across], s->along, tile_start[s->along], add);
}

/* The address of a run: what stays from tile to tile first, so that it is computed once. */
static char *
run_address(Emit *e, const LVal *v)
{
	Term same[64], moves[64];
	Ix a = *v->ix, b = {.t = moves};
	Text t = {0};
	a.t = same;
	a.n = 0;
	a.c -= load_start(e->k, v);
	for (int i = 0; i < v->ix->n; i++)
		if (v->ix->t[i].a->axes >> PLACE & 1)
			moves[b.n++] = v->ix->t[i];
		else
			same[a.n++] = v->ix->t[i];
	char *x = ix_text(e, &a), *y = ix_text(e, &b);
	text_printf(&t, "&a%d[(%s) + (%s)]", load_index(e->k, v), x, y);
	free(x);
	free(y);
	return t.s;
}

static void
forget_places(Emit *e, const bool *need)
{
	for (int i = 0; i < e->k->nval; i++)
		if (need[i])
			e->place[i] = PL_NONE;
}

static void
copy_run(Emit *e, const Side *s, const Blocks *h, const char *to)
{
	char *from = run_address(e, s->load), *there = condition(e, s, h);
	name_place(e, s, "");
	emit_line(e, "mm_fetch_if<%d>(%s, %s, %s);", 2 * s->run, to, from, there);
	free(from);
	free(there);
}

/* Eight loads at once: none waits for a condition. */
static void
gather_run(Emit *e, const Side *s, const Blocks *h, const char *to)
{
	char *from = run_address(e, s->load), *there = condition(e, s, h);
	emit_line(e, "__align__(16) bf16 x[%d];", RUN_OF);
	cu_open_unrolled(e, arena_printf(e->k->arena, "int j = 0; j < %d; j++", RUN_OF));
	name_place(e, s, " + j");
	emit_line(e, "const bool there = %s;", there);
	emit_line(e, "const bf16 y = *(there ? %s : &a%d[0]);", from, load_index(e->k, s->load));
	emit_line(e, "x[j] = there ? y : (bf16)0.0f;");
	cu_close(e);
	emit_line(e, "*(uint4 *)(%s) = *(const uint4 *)x;", to);
	free(from);
	free(there);
}

static void
compute_run(Emit *e, const Side *s, const Blocks *h, const char *to)
{
	Kernel *k = e->k;
	Side plain = *s;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	plain.guard = NULL;
	char *there = condition(e, &plain, h);
	need_value(e, need, s->val);
	emit_line(e, "__align__(16) bf16 x[%d];", RUN_OF);
	cu_open_unrolled(e, arena_printf(k->arena, "int j = 0; j < %d; j++", RUN_OF));
	name_place(e, s, " + j");
	emit_line(e, "x[j] = (bf16)0.0f;");
	emit_line(e, "if (%s) {", there);
	e->indent++;
	for (int i = 0; i < k->nval; i++)
		if (need[i] && cu_computed(k->val[i]))
			cu_value(e, k->val[i], false);
	char *v = val_ref(e, s->val);
	emit_line(e, "x[j] = %s;", v);
	cu_close(e);
	cu_close(e);
	emit_line(e, "*(uint4 *)(%s) = *(const uint4 *)x;", to);
	forget_places(e, need);
	free(v);
	free(there);
}

/* Lines behind the operand's end are zeros, for which nothing is looked up. */
static void
skip_line(Emit *e, const Side *s, const Blocks *h, const char *to)
{
	int64_t size = e->k->size[s->across];
	if (size % tile_side(h, s->across) == 0)
		return;
	emit_line(e, "if (%s + line >= %ld) {", tile_start[s->across], (long)size);
	emit_line(e, "\t*(uint4 *)(%s) = make_uint4(0, 0, 0, 0);", to);
	emit_line(e, "\tcontinue;");
	emit_line(e, "}");
}

/* A function that brings the tile from summed place place0 on into shared memory. */
static void
define_fetch(Emit *e, const Side *s, const Blocks *h)
{
	int run = s->run > 1 ? s->run : RUN_OF, pieces = s->width / run, all = s->lines * pieces;
	bool even = h->threads % pieces == 0; /* a thread stays at its place of the lines */
	bool lines = s->run == 1 && s->lines % h->threads == 0; /* a thread has whole lines: their places are known to the compiler */
	emit_line(e, "const auto fetch_%s = [&](bf16 *to, int place0) {", s->name);
	e->indent++;
	if (lines)
		emit_line(e, "const int line0 = mm_anew(threadIdx.x);");
	else if (even)
		emit_line(e, "const int t = mm_anew(threadIdx.x), line0 = t / %d, at = t %% %d * %d;", pieces, pieces, run);
	cu_open_unrolled(e, arena_printf(e->k->arena, "int turn = 0; turn < %d; turn++", (all + h->threads - 1) / h->threads));
	if (lines)
		emit_line(e, "const int line = line0 + turn / %d * %d, at = turn %% %d * %d;", pieces, h->threads, pieces, run);
	else if (even)
		emit_line(e, "const int line = line0 + turn * %d;", h->threads / pieces);
	else
		emit_line(e, "const int p = turn * %d + threadIdx.x, line = p / %d, at = p %% %d * %d;", h->threads, pieces, pieces, run);
	if (all % h->threads)
		emit_line(e, "if (line >= %d) break;", s->lines);
	const char *to = arena_printf(e->k->arena, "to + mm_place<%d, %d>(line, at)", s->lines, s->width);
	if (s->run == 1)
		skip_line(e, s, h, to);
	if (s->load && s->run > 1)
		copy_run(e, s, h, to);
	else if (s->load)
		gather_run(e, s, h, to);
	else
		compute_run(e, s, h, to);
	cu_close(e);
	e->indent--;
	emit_line(e, "};");
}

/* Is the value met where the result is, not before? */
static bool
met(const Kernel *k, const LVal *v, const bool *column)
{
	return cu_computed(v) && v->axes && !(v->axes >> PLACE & 1) && !column[v->id] && v != k->product;
}

static bool
has_value(const Ix *ix)
{
	for (int i = 0; i < ix->n; i++)
		if (ix->t[i].a->kind == AT_VAL || (ix->t[i].a->of && has_value(ix->t[i].a->of)))
			return true;
	return false;
}

/* Is it brought into shared memory before it is met? */
static bool
ahead(const Kernel *k, const LVal *v, const bool *column)
{
	return met(k, v, column) && v->axes >> ROW & 1 && !v->guard && in_runs(k, v, COLUMN, RUN_OF) && !has_value(v->ix);
}

/* Tiles of the block's size for that, behind what else is there. Returns where they end. */
static int64_t
name_ahead(Emit *e, const Blocks *h, const bool *column, int64_t at)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		int64_t bytes = (int64_t)dtype_bytes(v->dt) * h->rows * h->result;
		if (!ahead(k, v, column) || at + bytes > h->most)
			continue;
		emit_line(e, "%s *const u%d = (%s *)(shared + %ld);", ctype(v->dt), i, ctype(v->dt), (long)at);
		e->place[i] = PL_SHARED;
		at += bytes;
	}
	return at;
}

static void
fetch_ahead(Emit *e, const Blocks *h)
{
	Kernel *k = e->k;
	bool any = false;
	for (int i = 0; i < k->nval; i++)
		any |= e->place[i] == PL_SHARED && k->val[i]->axes >> ROW & 1;
	if (!any)
		return;
	int over = h->columns / RUN_OF;
	emit_line(e, "for (int m = threadIdx.x / %d; m < %d; m += %d) {", over, h->rows, h->threads / over);
	e->indent++;
	emit_line(e, "const int i1 = first + m, i2 = column0 + column; (void)i1; (void)i2;");
	emit_line(e, "const bool there = i1 < %ld && i2 < %ld;", (long)k->size[ROW], (long)k->size[COLUMN]);
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		if (e->place[i] != PL_SHARED || !(v->axes >> ROW & 1))
			continue;
		char *from = load_text(e, v);
		int piece = 16 / (int)dtype_bytes(v->dt);
		for (int j = 0; j < RUN_OF; j += piece)
			emit_line(e, "mm_fetch_if<16>(&u%d[m * %d + column + %d], &%s + %d, there);", i, h->result, j, from, j);
		free(from);
	}
	cu_close(e);
}

/* d = the product for the block's rows from `first` on. */
static void
put_product(Emit *e, const Side *left, const Side *right, const Blocks *h)
{
	Kernel *k = e->k;
	int steps = (int)((k->size[PLACE] + h->depth - 1) / h->depth);
	long at = h->rows * h->depth;
	fetch_ahead(e, h);
	emit_line(e, "mm_Product<%d, %d, %d, %d, %s, %s> product;", h->rows, h->columns, h->depth, h->threads, left->along == PLACE ? "false" : "true",
	          right->along == PLACE ? "false" : "true");
	emit_line(e, "const auto fetch = [&](int step) {");
	e->indent++;
	emit_line(e, "bf16 *const to = tile + step %% %d * %ld;", h->stages, (long)h->tile);
	emit_line(e, "if (step < %d) { fetch_left(to, step * %d); fetch_right(to + %ld, step * %d); }", steps, h->depth, at, h->depth);
	emit_line(e, "mm_commit();");
	e->indent--;
	emit_line(e, "};");
	for (int i = 0; i + 1 < h->stages; i++)
		emit_line(e, "fetch(%d);", i);
	emit_line(e, "%sfor (int step = 0; step < %d; step++) {", steps > 4 || h->rows > 128 ? "" : "_Pragma(\"unroll\") ", steps);
	e->indent++;
	emit_line(e, "mm_wait<%d>();", h->stages - 2);
	emit_line(e, "mm_brought();");
	emit_line(e, "const bf16 *const a = tile + step %% %d * %ld, *const b = a + %ld;", h->stages, (long)h->tile, at);
	emit_line(e, "product.start(a, b);");
	emit_line(e, "fetch(step + %d);", h->stages - 1);
	emit_line(e, "product.finish(a, b);");
	cu_close(e);
	emit_line(e, "mm_wait<0>();");
	emit_line(e, "__syncthreads();");
	emit_line(e, "product.keep<%d>(result);", h->result);
	emit_line(e, "__syncthreads();");
}

/* Values, sums and stores of eight neighbours of row i1. */
static void
put_run(Emit *e, const Blocks *h, const bool *column)
{
	Kernel *k = e->k;
	bool whole = k->size[COLUMN] % RUN_OF == 0;
	emit_line(e, "const int i2 = column0 + column; (void)i2;");
	emit_line(e, "__align__(16) %s v%d[%d];", ctype(k->product->dt), k->product->id, RUN_OF);
	emit_line(e, "mm_move(v%d, &result[m * %d + column]);", k->product->id, h->result);
	e->place[k->product->id] = PL_VECTOR;
	for (int i = 0; i < k->nval; i++) /* of the row alone: ids, too, which runs may be loaded by */
		if (met(k, k->val[i], column) && !(k->val[i]->axes >> COLUMN & 1))
			cu_value(e, k->val[i], false);
	for (int i = 0; i < k->nval && whole; i++) {
		LVal *v = k->val[i];
		if (!met(k, v, column) || !(v->axes >> COLUMN & 1) || v->guard || !in_runs(k, v, COLUMN, RUN_OF))
			continue;
		char *from = load_text(e, v);
		emit_line(e, "__align__(16) %s v%d[%d];", ctype(v->dt), i, RUN_OF);
		if (e->place[i] == PL_SHARED)
			emit_line(e, "mm_move(v%d, &u%d[m * %d + column]);", i, i, h->result);
		else
			emit_line(e, "mm_move(v%d, &%s);", i, from);
		e->place[i] = PL_VECTOR;
		free(from);
	}
	for (int i = 0; i < k->nstore && whole; i++)
		if (stored_in_runs(&k->store[i]))
			emit_line(e, "__align__(16) %s s%d[%d];", ctype(k->store[i].node->dt), i, RUN_OF);
	cu_open_unrolled(e, arena_printf(k->arena, "int w = 0; w < %d; w++", RUN_OF));
	emit_line(e, "const int i2 = column0 + column + w; (void)i2;");
	if (!whole)
		emit_line(e, "if (i2 >= %ld) break;", (long)k->size[COLUMN]);
	for (int i = 0; i < k->nval; i++)
		if (met(k, k->val[i], column) && k->val[i]->axes >> COLUMN & 1 && e->place[i] != PL_VECTOR)
			cu_value(e, k->val[i], false);
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		char *v = val_ref(e, s->val), *ix = ix_text(e, s->ix);
		if (s->column)
			emit_line(e, "sum%d[w] += %s;", i, v);
		else if (whole && stored_in_runs(s))
			emit_line(e, "s%d[w] = %s;", i, v);
		else
			emit_line(e, "a%d[%s] = %s;", arg_index(k, s->node), ix, v);
		free(v);
		free(ix);
	}
	cu_close(e);
	for (int i = 0; i < k->nstore && whole; i++) {
		if (!stored_in_runs(&k->store[i]))
			continue;
		char *ix = ix_text(e, k->store[i].ix);
		emit_line(e, "mm_move(&a%d[%s], s%d);", arg_index(k, k->store[i].node), ix, i);
		free(ix);
	}
	for (int i = 0; i < k->nval; i++)
		if (met(k, k->val[i], column) || k->val[i] == k->product)
			e->place[i] = PL_NONE;
}

static void
put_results(Emit *e, const Blocks *h, const bool *column)
{
	Kernel *k = e->k;
	int over = h->columns / RUN_OF, step = h->threads / over;
	emit_line(e, "for (int m = threadIdx.x / %d; m < %d; m += %d) {", over, h->rows, step);
	e->indent++;
	emit_line(e, "const int i1 = first + m;");
	if (k->size[ROW] % h->rows)
		emit_line(e, "if (i1 >= %ld) break;", (long)k->size[ROW]);
	if (k->size[COLUMN] % h->columns)
		emit_line(e, "if (column0 + column >= %ld) break;", (long)k->size[COLUMN]);
	put_run(e, h, column);
	cu_close(e);
}

/* Does a block go through several tiles of rows for its column sums? */
static bool
walks(const Kernel *k, const Blocks *h)
{
	return k->columns && k->size[ROW] > h->rows;
}

/* Do they wait in shared memory while a product has the registers? */
static bool
parks(const Kernel *k, const Blocks *h)
{
	return walks(k, h) && values_held(k, h) > PARK;
}

/* A thread's column sums. again: where they wait in shared memory, when they are taken. */
static void
take_sums(Emit *e, const char *again)
{
	for (int i = 0; i < e->k->nstore; i++) {
		if (!e->k->store[i].column)
			continue;
		emit_line(e, "__align__(16) float sum%d[%d] = {};", i, RUN_OF);
		if (again)
			emit_line(e, "%smm_move(sum%d, &kept%d[threadIdx.x * %d]);", again, i, i, RUN_OF);
	}
}

static void
keep_sums(Emit *e)
{
	for (int i = 0; i < e->k->nstore; i++)
		if (e->k->store[i].column)
			emit_line(e, "mm_move(&kept%d[threadIdx.x * %d], sum%d);", i, RUN_OF, i);
}

/* Room for them from `at` on; returns where it ends. */
static int64_t
name_sums(Emit *e, const Blocks *h, int64_t at)
{
	for (int i = 0; i < e->k->nstore && parks(e->k, h); i++) {
		if (!e->k->store[i].column)
			continue;
		emit_line(e, "float *const kept%d = (float *)(shared + %ld);", i, (long)at);
		at += 4 * RUN_OF * h->threads;
	}
	return at;
}

/* Sums over the rows that threads have met: of the threads with a column, in order. */
static void
column_sums(Emit *e, const Blocks *h)
{
	Kernel *k = e->k;
	int over = h->columns / RUN_OF, groups = h->threads / over;
	emit_line(e, "float *const part = (float *)shared;");
	for (int i = 0; i < k->nstore; i++) {
		LStore *s = &k->store[i];
		if (!s->column)
			continue;
		emit_line(e, "__syncthreads();");
		emit_line(e, "mm_move(&part[threadIdx.x / %d * %d + column], sum%d);", over, h->columns, i);
		emit_line(e, "__syncthreads();");
		emit_line(e, "for (int c = threadIdx.x; c < %d && column0 + c < %ld; c += %d) {", h->columns, (long)k->size[COLUMN], h->threads);
		e->indent++;
		emit_line(e, "const int i2 = column0 + c;");
		emit_line(e, "float x = 0;");
		emit_line(e, "for (int g = 0; g < %d; g++) x += part[g * %d + c];", groups, h->columns);
		char *ix = ix_text(e, s->ix);
		emit_line(e, "a%d[%s] = x;", arg_index(k, s->node), ix);
		free(ix);
		cu_close(e);
	}
}

static int
shared_bytes(const Kernel *k, const Blocks *h)
{
	int64_t tiles = 2 * h->stages * h->tile, result = (int64_t)h->rows * h->result * (int64_t)dtype_bytes(k->product->dt);
	int64_t sums = k->columns ? 4 * RUN_OF * h->threads : 0, most = tiles > result ? tiles : result;
	return (int)(most > sums ? most : sums);
}

void
emit_product(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	Side left = side_of(k, k->product->of[0], ROW, "left"), right = side_of(k, k->product->of[1], COLUMN, "right");
	Blocks h = shape_of(k, &left, &right);
	int64_t over = (k->size[COLUMN] + h.columns - 1) / h.columns, tiles = (k->size[ROW] + h.rows - 1) / h.rows, parts = k->columns ? 1 : tiles;
	memset(e->saved, 0, (size_t)k->nval);
	e->lanes = ~0u;
	e->column = "column + w";
	bool *column = cu_columns(e, ROW);
	for (int i = 0; i < k->nval; i++) /* of columns alone */
		column[i] &= !(k->val[i]->axes & (1u << PART | 1u << PLACE));
	l->block = h.threads;
	l->grid = (int)(k->size[PART] * parts * over);
	l->smem = shared_bytes(k, &h);
	cu_signature_held(e, name, arena_printf(k->arena, "%d, %d", h.threads, h.held));
	emit_line(e, "extern __shared__ __align__(1024) char shared[];");
	emit_line(e, "bf16 *const tile = (bf16 *)shared;");
	emit_line(e, "%s *const result = (%s *)shared;", ctype(k->product->dt), ctype(k->product->dt));
	l->smem = (int)name_ahead(e, &h, column, name_sums(e, &h, (l->smem + 15) / 16 * 16));
	emit_line(e, "const int column0 = blockIdx.x %% %ld * %d, block = blockIdx.x / %ld;", (long)over, h.columns, (long)over);
	emit_line(e, "const int column = threadIdx.x %% %d * %d, i0 = block / %ld; (void)i0;", h.columns / RUN_OF, RUN_OF, (long)parts);
	cu_uniform(e, 0);
	cu_put_columns(e, column, COLUMN, "column0", h.columns, h.threads);
	emit_line(e, "int first = block %% %ld * %d;", (long)parts, h.rows);
	define_fetch(e, &left, &h);
	define_fetch(e, &right, &h);
	bool parked = parks(k, &h);
	if (!parked)
		take_sums(e, NULL);
	if (walks(k, &h)) {
		emit_line(e, "for (; first < %ld; first += %d) {", (long)k->size[ROW], h.rows);
		e->indent++;
	}
	put_product(e, &left, &right, &h);
	if (parked)
		take_sums(e, "if (first > 0) ");
	put_results(e, &h, column);
	if (parked)
		keep_sums(e);
	if (walks(k, &h)) {
		emit_line(e, "__syncthreads();");
		cu_close(e);
	}
	if (parked)
		take_sums(e, "");
	if (k->columns)
		column_sums(e, &h);
	text_puts(e->t, "}\n\n");
}
