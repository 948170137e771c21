/* Kernels as CUDA C++ for NVRTC.

   map     a thread does W neighbours of the last axis, W = 4 where loads can be 16 bytes wide
   row     T threads share a row, T a power of two up to a warp, or a block; each holds its elements in registers from
           level to level; a reduction combines over the T threads in a fixed tree
   serial  a thread, or Y of them, walk the row of one outer place; neighbours in the warp are neighbours in memory
   scatter a block owns some rows of the result: it lists the positions that hit them, in order, and adds them in order

   No float atomics anywhere: reruns are bitwise equal. */
#include <stdlib.h>
#include <string.h>

#include "emit.h"

typedef struct Shape {
	int width;      /* W: elements side by side */
	int threads;    /* T: threads a row (row), 1 else */
	int chunks;     /* W-wide pieces a thread (row) */
	bool exact;     /* the row divides evenly */
	int lane_axis;  /* innermost axis of the lanes, -1 none */
	const char *first; /* name of the lane place of w = 0 */
} Shape;

/* Can the index be read four wide along the axis? */
static bool
wide(const Emit *e, const Ix *ix, int axis)
{
	bool found = false;
	if (ix->c % 4)
		return false;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		if (a->kind == AT_AXIS && a->axis == axis) {
			if (ix->t[i].k != 1)
				return false;
			found = true;
		} else if (ix->t[i].k % 4 || (a->axes >> axis & 1) || (a->kind != AT_AXIS && a->axes & e->lanes)) {
			return false;
		}
	}
	return found;
}

static bool
wide_load(const Emit *e, const Shape *s, const LVal *v)
{
	return s->width == 4 && v->kind == LV_LOAD && !v->guard && dtype_bytes(v->dt) >= 2 && wide(e, v->ix, s->lane_axis);
}

static bool
wide_store(const Emit *e, const Shape *s, const LStore *st)
{
	return s->width == 4 && dtype_bytes(st->node->dt) >= 2 && is_lane(e, st->val) && wide(e, st->ix, s->lane_axis);
}

static bool
computed(const LVal *v)
{
	return v->kind != LV_CONST && v->kind != LV_INDEX && v->kind != LV_REDUCE;
}

static void
put_value(Emit *e, const LVal *v, bool keep)
{
	char *s = val_expr(e, v);
	if (keep)
		emit_line(e, "v%d[%s] = %s;", v->id, e->lane, s);
	else
		emit_line(e, "const %s v%d = %s;", ctype(v->dt), v->id, s);
	e->place[v->id] = keep ? PL_SAVED : PL_PLAIN;
	free(s);
}

static void
put_uniform(Emit *e, int level)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++)
		if (computed(k->val[i]) && !is_lane(e, k->val[i]) && k->val[i]->level == level)
			put_value(e, k->val[i], false);
}

static void
put_store(Emit *e, const LStore *s)
{
	char *ix = ix_text(e, s->ix), *v = val_ref(e, s->val);
	emit_line(e, "%sa%d[%s] = %s;", e->store_if, arg_index(e->k, s->node), ix, v);
	free(ix);
	free(v);
}

static void
put_signature(Emit *e, const char *name, int block)
{
	Kernel *k = e->k;
	text_printf(e->t, "extern \"C\" __global__ void __launch_bounds__(%d)\n%s(", block, name);
	for (int i = 0; i < k->narg; i++)
		text_printf(e->t, "%s%s%s *__restrict__ a%d", i ? ", " : "", i < k->nload ? "const " : "", ctype(k->arg[i]->dt), i);
	text_puts(e->t, ")\n{\n");
	e->indent = 1;
}

static void
put_accumulators(Emit *e, int stage)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		const char *init = reduce_init(v);
		emit_line(e, "%s v%d = %s;", ctype(v->dt), i, init ? init : "-MM_INF");
		e->place[i] = PL_PLAIN;
	}
}

static void
put_accumulate(Emit *e, int stage)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		char *s = val_ref(e, v->in[0]);
		if (v->node->op != P_reduce_max)
			emit_line(e, "v%d += %s;", i, s);
		else
			emit_line(e, "v%d = mm_max(%s, v%d);", i, s, i);
		free(s);
	}
}

static void
put_combine(Emit *e, int stage, int threads)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval && threads > 1; i++) {
		LVal *v = k->val[i];
		if (v->kind == LV_REDUCE && v->in[0]->level == stage)
			emit_line(e, "v%d = mm_combine<%d, %s>(v%d);", i, threads, v->node->op != P_reduce_max ? "mm_sum" : "mm_maximum", i);
	}
}

static void
wide_loads(Emit *e, const Shape *s, const bool *need, int stage)
{
	for (int i = 0; i < e->k->nval; i++) {
		LVal *v = e->k->val[i];
		if (!need[i] || (e->saved[i] && v->level < stage) || !wide_load(e, s, v))
			continue;
		char *ix = ix_text(e, v->ix);
		emit_line(e, "%s v%d[4];", ctype(v->dt), i);
		emit_line(e, "mm_load4(v%d, &a%d[%s]);", i, arg_index(e->k, v->base), ix);
		e->place[i] = PL_VECTOR;
		free(ix);
	}
}

/* The values, sums and stores of one W-wide piece; the axes at w = 0 are in scope on entry. */
static void
put_piece(Emit *e, const Shape *s, int stage, const bool *need, const char *open)
{
	Kernel *k = e->k;
	if (s->width == 4) {
		wide_loads(e, s, need, stage);
		for (int i = 0; i < k->nstore; i++)
			if (k->store[i].val->level == stage && wide_store(e, s, &k->store[i]))
				emit_line(e, "%s s%d[4];", ctype(k->store[i].node->dt), i);
		text_puts(e->t, "#pragma unroll\n");
		emit_line(e, "for (int w = 0; w < 4; w++) {");
		e->indent++;
		emit_line(e, "%s", open);
	}
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!need[i] || !computed(v) || (e->saved[i] && v->level < stage))
			continue;
		if (e->place[i] != PL_VECTOR)
			put_value(e, v, e->saved[i]);
	}
	put_accumulate(e, stage);
	for (int i = 0; i < k->nstore; i++) {
		LStore *st = &k->store[i];
		if (st->val->level != stage || (k->reduces && !st->row))
			continue;
		if (wide_store(e, s, st)) {
			char *v = val_ref(e, st->val);
			emit_line(e, "s%d[w] = %s;", i, v);
			free(v);
		} else {
			put_store(e, st);
		}
	}
	if (s->width == 4) {
		e->indent--;
		emit_line(e, "}");
		for (int i = 0; i < k->nstore; i++) {
			LStore *st = &k->store[i];
			if (st->val->level != stage || !wide_store(e, s, st))
				continue;
			char *ix = ix_text(e, st->ix);
			emit_line(e, "%smm_store4(&a%d[%s], s%d);", e->store_if, arg_index(k, st->node), ix, i);
			free(ix);
		}
	}
}

static void
forget_locals(Emit *e)
{
	for (int i = 0; i < e->k->nval; i++)
		if (is_lane(e, e->k->val[i]) && (e->place[i] == PL_PLAIN || e->place[i] == PL_VECTOR))
			e->place[i] = PL_NONE;
}

/* ---- map ---- */

static bool
any_wide(const Emit *e, const Shape *s)
{
	for (int i = 0; i < e->k->nval; i++)
		if (wide_load(e, s, e->k->val[i]))
			return true;
	for (int i = 0; i < e->k->nstore; i++)
		if (wide_store(e, s, &e->k->store[i]))
			return true;
	return false;
}

static void
map_kernel(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	int last = k->naxis - 1;
	Shape s = {.width = 1, .threads = 1, .lane_axis = last};
	while (last > 0 && k->size[last] == 1)
		last--;
	e->lanes = last >= 0 ? 1u << last : 0;
	s.lane_axis = last;
	if (last >= 0 && k->size[last] % 4 == 0 && k->outer >= 4096) {
		s.width = 4;
		if (!any_wide(e, &s))
			s.width = 1;
	}
	int64_t n = k->outer / s.width;
	l->block = n >= 256 ? 256 : n > 32 ? (int)((n + 31) / 32 * 32) : 32;
	l->grid = (int)((n + l->block - 1) / l->block);
	put_signature(e, name, l->block);
	emit_line(e, "const int p = blockIdx.x * %d + threadIdx.x;", l->block);
	emit_line(e, "if (p >= %ld) return;", (long)n);
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	for (int i = 0; i < k->nval; i++)
		need[i] = computed(k->val[i]) && is_lane(e, k->val[i]);
	int64_t size = last >= 0 ? k->size[last] : 1;
	if (last >= 0)
		k->size[last] /= s.width;
	axis_lines(e, "p", 0, k->naxis);
	if (last >= 0)
		k->size[last] = size;
	if (s.width == 4) { /* the axis counted pieces so far; in the pieces its name means the element */
		emit_line(e, "const int f = i%d * 4;", last);
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i%d = f;", last);
	}
	put_uniform(e, 0);
	put_piece(e, &s, 0, need, s.width == 4 ? arena_printf(k->arena, "const int i%d = f + w;", last) : "");
	if (s.width == 4) {
		e->indent--;
		emit_line(e, "}");
	}
	text_puts(e->t, "}\n\n");
}

/* ---- row ---- */

static int
pow2_at_least(int64_t n, int most)
{
	int p = 1;
	while (p < n && p < most)
		p *= 2;
	return p;
}

static bool
row_shape(Emit *e, Shape *s)
{
	Kernel *k = e->k;
	int64_t row = k->row;
	s->lane_axis = k->naxis - 1;
	s->width = k->size[k->naxis - 1] % 4 == 0 && row >= 64 ? 4 : 1;
	if (s->width == 4 && !any_wide(e, s))
		s->width = 1;
	s->threads = pow2_at_least((row + s->width - 1) / s->width, 32);
	if (row >= 512 && k->outer < 132 * 8) /* few rows: a block each */
		s->threads = 256;
	if (row > 1024)
		s->threads = row > 8192 ? 1024 : 256;
	s->chunks = (int)((row + (int64_t)s->threads * s->width - 1) / ((int64_t)s->threads * s->width));
	s->exact = (int64_t)s->chunks * s->threads * s->width == row;
	return s->chunks * s->width <= (s->threads == 1024 ? 16 : 32);
}

/* The row's axes from its flat place r. */
static const char *
row_axes(Emit *e, const char *place)
{
	Kernel *k = e->k;
	Text t = {0};
	int64_t stride = 1;
	const char *s;
	text_printf(&t, "const int r = %s;", place);
	for (int i = k->naxis - 1; i >= k->nouter; i--) {
		text_printf(&t, " const int i%d = r", i);
		if (stride > 1)
			text_printf(&t, " / %ld", (long)stride);
		if (i > k->nouter)
			text_printf(&t, " %% %ld", (long)k->size[i]);
		text_printf(&t, ";");
		stride *= k->size[i];
	}
	s = arena_strdup(k->arena, t.s);
	free(t.s);
	return s;
}

static void
row_stage(Emit *e, const Shape *s, int stage, bool looped)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	put_uniform(e, stage);
	if (!stage_values(e, stage, need))
		return;
	put_accumulators(e, stage);
	for (int i = 0; i < k->nval && !looped; i++)
		if (e->saved[i] && k->val[i]->level == stage)
			emit_line(e, "%s v%d[%d];", ctype(k->val[i]->dt), i, s->chunks * s->width);
	if (!looped)
		text_puts(e->t, "#pragma unroll\n");
	emit_line(e, "for (int c = 0; c < %d; c++) {", s->chunks);
	e->indent++;
	emit_line(e, "const int f = (c * %d + t) * %d;", s->threads, s->width);
	if (!s->exact)
		emit_line(e, "if (f >= %ld) break;", (long)k->row);
	emit_line(e, "%s", row_axes(e, "f"));
	put_piece(e, s, stage, need, s->width == 4 ? row_axes(e, "f + w") : "");
	e->indent--;
	emit_line(e, "}");
	forget_locals(e);
	put_combine(e, stage, s->threads);
}

static void
row_kernel(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	Shape s = {0};
	bool held = row_shape(e, &s);
	int rows = s.threads >= 256 ? 1 : 256 / s.threads;
	if (k->outer < rows)
		rows = pow2_at_least(k->outer, rows);
	l->block = rows * s.threads < 32 ? 32 : rows * s.threads;
	rows = l->block / s.threads;
	l->grid = (int)((k->outer + rows - 1) / rows);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		/* wide loads are loaded again: they hit the cache; so is everything in a row too long for registers */
		if (e->saved[i] && (!held || wide_load(e, &s, v)))
			e->saved[i] = false;
	}
	put_signature(e, name, l->block);
	e->lane = s.width == 4 ? "c * 4 + w" : "c";
	emit_line(e, "const int t = threadIdx.x %% %d;", s.threads);
	if (k->outer % rows == 0) {
		emit_line(e, "const int o = blockIdx.x * %d + threadIdx.x / %d;", rows, s.threads);
	} else { /* every thread takes part in the combining; those past the end only do not store */
		emit_line(e, "const int place = blockIdx.x * %d + threadIdx.x / %d;", rows, s.threads);
		emit_line(e, "const int o = place < %ld ? place : %ld;", (long)k->outer, (long)k->outer - 1);
		e->store_if = arena_printf(k->arena, "if (place < %ld) ", (long)k->outer);
	}
	axis_lines(e, "o", 0, k->nouter);
	for (int st = 0; st < k->nlevel; st++)
		row_stage(e, &s, st, !held);
	emit_line(e, "if (t == 0) {");
	e->indent++;
	for (int i = 0; i < k->nstore; i++)
		if (!k->store[i].row)
			put_store(e, &k->store[i]);
	e->indent--;
	emit_line(e, "}");
	text_puts(e->t, "}\n\n");
}

/* ---- serial ---- */

/* Threads that walk one row together, each every Y-th element, 32 rows side by side. */
static int
serial_threads(const Kernel *k)
{
	int y = 1;
	while (y < 32 && k->row / y >= 8 && k->outer * y < 132 * 1024)
		y *= 2;
	return y;
}

/* Sums of the Y threads of each row, in order, to all of them. */
static void
combine_columns(Emit *e, int stage, int y)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		emit_line(e, "v%d = mm_columns<%d, %s>(v%d);", i, y, v->node->op != P_reduce_max ? "mm_sum" : "mm_maximum", i);
	}
}

static void
serial_kernel(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	int y = serial_threads(k);
	memset(e->saved, 0, (size_t)k->nval);
	l->block = y > 1 ? 32 * y : k->outer >= 132 * 128 ? 128 : k->outer >= 64 ? 64 : 32;
	int wide = y > 1 ? 32 : l->block;
	l->grid = (int)((k->outer + wide - 1) / wide);
	put_signature(e, name, l->block);
	emit_line(e, "const int place = blockIdx.x * %d + threadIdx.x%s;", wide, y > 1 ? " % 32" : "");
	if (k->outer % wide) {
		emit_line(e, "const int o = place < %ld ? place : %ld;", (long)k->outer, (long)k->outer - 1);
		e->store_if = arena_printf(k->arena, "if (place < %ld) ", (long)k->outer);
	} else {
		emit_line(e, "const int o = place;");
	}
	axis_lines(e, "o", 0, k->nouter);
	for (int st = 0; st < k->nlevel; st++) {
		put_uniform(e, st);
		if (!stage_values(e, st, need))
			continue;
		put_accumulators(e, st);
		text_puts(e->t, k->row / y <= 8 ? "#pragma unroll\n" : "#pragma unroll 4\n");
		emit_line(e, y > 1 ? "for (int f = threadIdx.x / 32; f < %ld; f += %d) {" : "for (int f = 0; f < %ld; f += %d) {", (long)k->row, y);
		e->indent++;
		emit_line(e, "%s", row_axes(e, "f"));
		Shape s = {.width = 1};
		put_piece(e, &s, st, need, "");
		e->indent--;
		emit_line(e, "}");
		forget_locals(e);
		if (y > 1)
			combine_columns(e, st, y);
	}
	if (y > 1) {
		emit_line(e, "if (threadIdx.x < 32) {");
		e->indent++;
	}
	for (int i = 0; i < k->nstore; i++)
		if (!k->store[i].row)
			put_store(e, &k->store[i]);
	if (y > 1) {
		e->indent--;
		emit_line(e, "}");
	}
	text_puts(e->t, "}\n\n");
}

/* ---- scatter ---- */

#define SCATTER_BLOCK 256
#define SCATTER_ROUND 4096 /* positions looked at before what was found is added */

/* v and what it needs, in this place. */
static void
put_needed(Emit *e, const LVal *v)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	need_value(e, need, v);
	for (int i = 0; i < k->nval; i++)
		if (need[i] && computed(k->val[i]))
			put_value(e, k->val[i], false);
}

/* Rows of the result a block: the sums of all groups fit 28 KiB, and there are blocks for the whole GPU. */
static int
scatter_rows(int64_t total, int64_t width, int64_t parts, int groups)
{
	int64_t rows = 7168 / (groups * (width ? width : 1)), share = total * parts / 528;
	rows = share < rows ? share : rows;
	return rows < 1 ? 1 : rows > 64 ? 64 : (int)rows;
}

/* The value of one hit, four columns at a time where loads can be, added to the group's sums. */
static void
scatter_hit(Emit *e, const Shape *s, int64_t width)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	need_value(e, need, k->store[0].val);
	axis_lines(e, "o", 0, k->nouter);
	emit_line(e, "%s", row_axes(e, "f"));
	if (s->width == 4) {
		wide_loads(e, s, need, 0);
		text_puts(e->t, "#pragma unroll\n");
		emit_line(e, "for (int w = 0; w < 4; w++) {");
		e->indent++;
		emit_line(e, "%s", row_axes(e, "f + w"));
	}
	for (int i = 0; i < k->nval; i++)
		if (need[i] && computed(k->val[i]) && e->place[i] != PL_VECTOR)
			put_value(e, k->val[i], false);
	char *v = val_ref(e, k->store[0].val);
	emit_line(e, "sum[group][row * %ld + r] += %s;", (long)width, v);
	free(v);
	if (s->width == 4) {
		e->indent--;
		emit_line(e, "}");
	}
}

/* Each warp lists the hits among its own positions, in order; then groups of threads, each thread its columns, add the
   lists: group g those of warps g, g + groups, ... Last the groups' sums are added in order. */
static void
scatter_kernel(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	const Node *n = k->store[0].node;
	int64_t parts = n->nat ? n->at[0] : 1, total = n->dim[n->nat], width = total ? node_count(n) / (parts * total) : 1;
	int64_t run = k->outer / parts;
	int out = arg_index(k, n), groups = 8, share = SCATTER_ROUND / 8;
	Shape s = {.width = 4, .lane_axis = k->naxis - 1};
	if (width % 4 || k->size[k->naxis - 1] % 4 || !any_wide(e, &s))
		s.width = 1;
	while (groups > 1 && groups * (width / s.width) > SCATTER_BLOCK)
		groups /= 2;
	int rows = scatter_rows(total, width, parts, groups), cells = (int)(rows * width), columns = SCATTER_BLOCK / groups;
	int64_t blocks = (total + rows - 1) / rows;
	l->block = SCATTER_BLOCK;
	l->grid = (int)(blocks * parts);
	put_signature(e, name, l->block);
	e->lanes = ~0u; /* whatever varies is computed where it is needed */
	memset(e->saved, 0, (size_t)k->nval);
	put_uniform(e, 0);
	emit_line(e, "__shared__ float sum[%d][%d];", groups, cells);
	emit_line(e, "__shared__ int list[8][%d], count[8];", share);
	emit_line(e, "const int part = blockIdx.x / %ld, lo = blockIdx.x %% %ld * %d;", (long)blocks, (long)blocks, rows);
	emit_line(e, "const int t = threadIdx.x, lane = t %% 32, warp = t / 32, group = t / %d;", columns);
	emit_line(e, "for (int i = t; i < %d; i += %d) (&sum[0][0])[i] = 0;", groups * cells, SCATTER_BLOCK);
	emit_line(e, "for (int start = 0; start < %ld; start += %d) {", (long)run, SCATTER_ROUND);
	e->indent++;
	emit_line(e, "int hits = 0;");
	text_puts(e->t, "#pragma unroll 4\n");
	emit_line(e, "for (int i = 0; i < %d; i += 32) {", share);
	e->indent++;
	emit_line(e, "const int p = start + warp * %d + i + lane, o = part * %ld + p;", share, (long)run);
	emit_line(e, "int row = -1;");
	emit_line(e, "if (p < %ld) {", (long)run);
	e->indent++;
	axis_lines(e, "o", 0, k->nouter);
	put_needed(e, k->id);
	char *id = val_ref(e, k->id);
	emit_line(e, "row = mm_id(%s, %ld) - lo;", id, (long)total - 1);
	free(id);
	e->indent--;
	emit_line(e, "}");
	emit_line(e, "const bool hit = row >= 0 && row < %d;", rows);
	emit_line(e, "const unsigned found = __ballot_sync(0xffffffffu, hit);");
	emit_line(e, "if (hit) list[warp][hits + __popc(found & ((1u << lane) - 1))] = p * %d + row;", rows);
	emit_line(e, "hits += __popc(found);");
	e->indent--;
	emit_line(e, "}");
	emit_line(e, "if (lane == 0) count[warp] = hits;");
	emit_line(e, "__syncthreads();");
	emit_line(e, "for (int q = group; q < 8; q += %d)", groups);
	emit_line(e, "for (int f = t %% %d * %d; f < %ld; f += %d) {", columns, s.width, (long)width, columns * s.width);
	e->indent++;
	emit_line(e, "const int n = count[q];");
	text_puts(e->t, "#pragma unroll 4\n");
	emit_line(e, "for (int h = 0; h < n; h++) {");
	e->indent++;
	emit_line(e, "const int o = part * %ld + list[q][h] / %d, row = list[q][h] %% %d;", (long)run, rows, rows);
	forget_locals(e);
	scatter_hit(e, &s, width);
	e->indent--;
	emit_line(e, "}");
	e->indent--;
	emit_line(e, "}");
	emit_line(e, "__syncthreads();");
	e->indent--;
	emit_line(e, "}");
	emit_line(e, "for (int i = t; i < %d; i += %d) {", cells, SCATTER_BLOCK);
	emit_line(e, "\tfloat s = 0;");
	emit_line(e, "\tfor (int g = 0; g < %d; g++) s += sum[g][i];", groups);
	emit_line(e, "\tif (lo + i / %ld < %ld) a%d[(part * %ld + lo) * %ld + i] = s;", (long)width, (long)total, out, (long)total, (long)width);
	emit_line(e, "}");
	text_puts(e->t, "}\n\n");
}

void
emit_kernel_cuda(Text *t, Kernel *k, const char *name, Launch *l)
{
	Emit e;
	emit_init(&e, t, k, true);
	l->smem = 0;
	if (k->scatter)
		scatter_kernel(&e, name, l);
	else if (!k->reduces)
		map_kernel(&e, name, l);
	else if (k->serial)
		serial_kernel(&e, name, l);
	else
		row_kernel(&e, name, l);
}
