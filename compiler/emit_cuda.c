/* Kernels as CUDA C++ for NVRTC.

   map     a thread does W neighbours of the last axis, W = 4 where loads can be 16 bytes wide
   row     T threads share a row, T a power of two up to a warp, or a block; each holds its elements in registers from
           level to level; a reduction combines over the T threads in a fixed tree
   serial  a thread, or Y of them, walk the rows of one outer place, or of four; neighbours in the warp are neighbours in memory
   scatter emit_scatter.c

   No float atomics anywhere: reruns are bitwise equal. */
#include <stdlib.h>
#include <string.h>

#include "emit_cuda.h"

#define PARTS (32 << 10) /* bytes of shared memory for the parts of column sums */
#define MANY 12  /* vectors of four in registers, with which a thread is a large one */
#define LARGE 32 /* values of a kernel, for which ptxas is not to aim at 64 registers or fewer, and spill */
#define AHEAD 96 /* bytes that a thread may hold of the next row */

/* Can the index be read four wide along the axis? */
static bool
wide(const Emit *e, const Ix *ix, int axis)
{
	bool found = false;
	if (!ix || ix->c % 4) /* the store of a sum over runs has no index */
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

/* Is it a base whose address is not always that of four elements? */
static bool
odd(const Emit *e, const Node *base)
{
	return base->id >= 0 && e->k->fusion->layout[base->id].odd;
}

static bool
wide_load(const Emit *e, const Shape *s, const LVal *v)
{
	return s->width == 4 && v->kind == LV_LOAD && !v->guard && !odd(e, v->base) && dtype_bytes(v->dt) >= 2 && wide(e, v->ix, s->lane_axis);
}

static bool
wide_store(const Emit *e, const Shape *s, const LStore *st)
{
	return s->width == 4 && st->ix && !st->column && !odd(e, st->node) && dtype_bytes(st->node->dt) >= 2 && is_lane(e, st->val) && wide(e, st->ix, s->lane_axis);
}

bool
cu_computed(const LVal *v)
{
	return v->kind != LV_CONST && v->kind != LV_INDEX && v->kind != LV_REDUCE && !v->bits;
}

void
cu_value(Emit *e, const LVal *v, bool keep)
{
	char *s = val_expr(e, v);
	if (keep)
		emit_line(e, "v%d[%s] = %s;", v->id, e->lane, s);
	else
		emit_line(e, "const %s v%d = %s;", ctype(v->dt), v->id, s);
	e->place[v->id] = keep ? PL_SAVED : PL_PLAIN;
	free(s);
}

void
cu_uniform(Emit *e, int level)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		if (!cu_computed(k->val[i]) || is_lane(e, k->val[i]) || k->val[i]->level != level)
			continue;
		if (e->ahead && e->ahead[i]) {
			emit_line(e, "const %s v%d = n%d;", ctype(k->val[i]->dt), i, i);
			e->place[i] = PL_PLAIN;
		} else {
			cu_value(e, k->val[i], false);
		}
	}
}

bool *
cu_columns(const Emit *e, int rows)
{
	const Kernel *k = e->k;
	bool *column = arena_alloc(k->arena, (size_t)k->nval);
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		column[i] = cu_computed(v) && is_lane(e, v) && !(v->axes >> rows & 1) && v->kind != LV_DOT;
	}
	return column;
}

bool
cu_columns_used(const Kernel *k, const bool *column, bool *used)
{
	for (int i = 0; i < k->nval; i++)
		for (int j = 0; j < k->val[i]->nin && !column[i]; j++)
			used[k->val[i]->in[j]->id] |= column[k->val[i]->in[j]->id];
	for (int i = 0; i < k->nstore; i++)
		used[k->store[i].val->id] |= column[k->store[i].val->id];
	return memchr(used, true, (size_t)k->nval);
}

void
cu_put_columns(Emit *e, const bool *column, int axis, const char *from, int64_t n, int threads)
{
	Kernel *k = e->k;
	bool *used = arena_alloc(k->arena, (size_t)k->nval);
	if (!cu_columns_used(k, column, used))
		return;
	for (int i = 0; i < k->nval; i++)
		if (used[i])
			emit_line(e, "__shared__ %s v%d[%ld];", ctype(k->val[i]->dt), i, (long)n);
	emit_line(e, "for (int c = threadIdx.x; c < %ld; c += %d) {", (long)n, threads);
	e->indent++;
	emit_line(e, "const int i%d = %s + c;", axis, from);
	const char *inside = e->column;
	e->column = "c";
	for (int i = 0; i < k->nval; i++) {
		if (!column[i])
			continue;
		char *x = val_expr(e, k->val[i]);
		if (used[i])
			emit_line(e, "v%d[c] = %s;", i, x);
		else
			emit_line(e, "const %s v%d = %s;", ctype(k->val[i]->dt), i, x);
		e->place[i] = used[i] ? PL_SHARED : PL_PLAIN;
		free(x);
	}
	e->column = inside;
	cu_close(e);
}

static void
put_store(Emit *e, const LStore *s)
{
	char *ix = ix_text(e, s->ix), *v = val_ref(e, s->val);
	emit_line(e, "%sa%d[%s] = %s;", e->store_if, arg_index(e->k, s->node), ix, v);
	free(ix);
	free(v);
}

void
cu_signature_held(Emit *e, const char *name, const char *bounds)
{
	Kernel *k = e->k;
	text_printf(e->t, "extern \"C\" __global__ void __launch_bounds__(%s)\n%s(", bounds, name);
	for (int i = 0; i < k->narg; i++)
		text_printf(e->t, "%s%s%s *__restrict__ a%d", i ? ", " : "", i < k->nload ? "const " : "", ctype(k->arg[i].node->dt), i);
	text_puts(e->t, ")\n{\n\tmm_begin();\n");
	e->indent = 1;
}

void
cu_signature(Emit *e, const char *name, int block)
{
	cu_signature_held(e, name, arena_printf(e->k->arena, "%d", block));
}

/* threads: that a multiprocessor is to hold at least; 0: as many as ptxas likes to. */
static void
signature_for(Emit *e, const char *name, int block, int threads)
{
	if (threads > block)
		cu_signature_held(e, name, arena_printf(e->k->arena, "%d, %d", block, threads / block));
	else
		cu_signature(e, name, block);
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

void
cu_open_unrolled(Emit *e, const char *head)
{
	text_puts(e->t, "#pragma unroll\n");
	emit_line(e, "for (%s) {", head);
	e->indent++;
}

void
cu_close(Emit *e)
{
	e->indent--;
	emit_line(e, "}");
}

void
cu_accumulate(Emit *e, int stage)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		char *s = val_ref(e, v->in[0]), *sum = val_ref(e, v);
		if (v->node->op != P_reduce_max)
			emit_line(e, "%s += %s;", sum, s);
		else
			emit_line(e, "%s = mm_maximum::f(%s, %s);", sum, s, sum);
		free(s);
		free(sum);
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

void
cu_wide_loads(Emit *e, const Shape *s, const bool *need, int stage)
{
	for (int i = 0; i < e->k->nval; i++) {
		LVal *v = e->k->val[i];
		if (!need[i] || (e->saved[i] && v->level < stage) || !wide_load(e, s, v))
			continue;
		emit_line(e, "%s v%d[4];", ctype(v->dt), i);
		e->place[i] = PL_VECTOR;
		if (e->ahead && e->ahead[i] && stage == 0) {
			emit_line(e, "mm_copy4(v%d, &n%d[c * 4]);", i, i);
			continue;
		}
		char *from = load_text(e, v);
		emit_line(e, "mm_load4(v%d, &%s);", i, from);
		free(from);
	}
}

/* The values, sums and stores of one W-wide piece; the axes at w = 0 are in scope on entry. */
static void
put_piece(Emit *e, const Shape *s, int stage, const bool *need, const char *open)
{
	Kernel *k = e->k;
	if (s->width == 4) {
		cu_wide_loads(e, s, need, stage);
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
		if (!need[i] || !cu_computed(v) || (e->saved[i] && v->level < stage))
			continue;
		if (e->place[i] != PL_VECTOR)
			cu_value(e, v, e->saved[i]);
	}
	cu_accumulate(e, stage);
	for (int i = 0; i < k->nstore; i++) {
		LStore *st = &k->store[i];
		if (st->val->level != stage || (k->reduces && !st->row))
			continue;
		if (st->column) {
			char *v = val_ref(e, st->val);
			emit_line(e, "%ssum%d[%s] += %s;", e->store_if, i, e->lane, v);
			free(v);
		} else if (wide_store(e, s, st)) {
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

void
cu_forget(Emit *e)
{
	for (int i = 0; i < e->k->nval; i++)
		if (is_lane(e, e->k->val[i]) && (e->place[i] == PL_PLAIN || e->place[i] == PL_VECTOR))
			e->place[i] = PL_NONE;
}

/* ---- map ---- */

bool
cu_any_wide(const Emit *e, const Shape *s)
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
		if (!cu_any_wide(e, &s))
			s.width = 1;
	}
	int64_t n = k->outer / s.width;
	l->block = n >= 256 ? 256 : n > 32 ? (int)((n + 31) / 32 * 32) : 32;
	l->grid = (int)((n + l->block - 1) / l->block);
	cu_signature(e, name, l->block);
	emit_line(e, "const int p = blockIdx.x * %d + threadIdx.x;", l->block);
	emit_line(e, "if (p >= %ld) return;", (long)n);
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	for (int i = 0; i < k->nval; i++)
		need[i] = cu_computed(k->val[i]) && is_lane(e, k->val[i]);
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
	cu_uniform(e, 0);
	put_piece(e, &s, 0, need, s.width == 4 ? arena_printf(k->arena, "const int i%d = f + w;", last) : "");
	if (s.width == 4) {
		e->indent--;
		emit_line(e, "}");
	}
	text_puts(e->t, "}\n\n");
}

/* ---- row ---- */

int
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
	if (s->width == 4 && !cu_any_wide(e, s))
		s->width = 1;
	s->threads = pow2_at_least((row + s->width - 1) / s->width, 32);
	if (row <= 32 && s->width == 1 && k->outer >= 132 * 64) /* many short rows: fewer threads for each, that combine less */
		s->threads = pow2_at_least((row + 3) / 4, 32);
	if (row >= 512 && k->outer < 132 * 8) /* few rows: a block each */
		s->threads = 256;
	if (row > 1024)
		s->threads = row > 8192 ? 1024 : 256;
	s->chunks = (int)((row + (int64_t)s->threads * s->width - 1) / ((int64_t)s->threads * s->width));
	s->exact = (int64_t)s->chunks * s->threads * s->width == row;
	return s->chunks * s->width <= (s->threads == 1024 ? 16 : 32);
}

const char *
cu_row_axes(Emit *e, const char *place)
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
put_ahead(Emit *e, bool lane)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!e->ahead[i] || is_lane(e, v) != lane)
			continue;
		char *from = load_text(e, v);
		emit_line(e, lane ? "mm_load4(&n%d[c * 4], &%s);" : "n%d = %s;", i, from);
		free(from);
	}
}

/* Loads of the row at the place named, for stage 0 to find in registers. */
static void
load_ahead(Emit *e, const Shape *s, const char *place)
{
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int o = %s;", place);
	axis_lines(e, "o", 0, e->k->nouter);
	put_ahead(e, false);
	cu_open_unrolled(e, arena_printf(e->k->arena, "int c = 0; c < %d; c++", s->chunks));
	emit_line(e, "const int f = (c * %d + t) * 4;", s->threads);
	emit_line(e, "%s", cu_row_axes(e, "f"));
	put_ahead(e, true);
	cu_close(e);
	cu_close(e);
}

static void
row_stage(Emit *e, const Shape *s, int stage, bool looped)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	cu_uniform(e, stage);
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
	emit_line(e, "%s", cu_row_axes(e, "f"));
	put_piece(e, s, stage, need, s->width == 4 ? cu_row_axes(e, "f + w") : "");
	e->indent--;
	emit_line(e, "}");
	cu_forget(e);
	if (e->ahead && stage == 0)
		load_ahead(e, s, "next");
	put_combine(e, stage, s->threads);
}

/* The body of one row, from its outer place o on. */
static void
row_body(Emit *e, const Shape *s, bool held)
{
	Kernel *k = e->k;
	axis_lines(e, "o", 0, k->nouter);
	for (int st = 0; st < k->nlevel; st++)
		row_stage(e, s, st, !held);
	emit_line(e, "if (t == 0) {");
	e->indent++;
	for (int i = 0; i < k->nstore; i++)
		if (!k->store[i].row)
			put_store(e, &k->store[i]);
	e->indent--;
	emit_line(e, "}");
}

/* The sums of store i, those of a warp's groups added, to part[first ..]. */
static void
put_parts(Emit *e, const Shape *s, int i, int first)
{
	text_puts(e->t, "#pragma unroll\n");
	emit_line(e, "for (int c = 0; c < %d; c++)", s->chunks);
	emit_line(e, "\tfor (int w = 0; w < %d; w++) {", s->width);
	emit_line(e, "\t\tconst int f = (c * %d + t) * %d + w;", s->threads, s->width);
	if (s->threads < 32) {
		emit_line(e, "\t\tconst float x = mm_across<%d, mm_sum>(sum%d[%s]);", s->threads, i, e->lane);
		emit_line(e, "\t\tif (threadIdx.x %% 32 < %d && f < %ld) part[%d + threadIdx.x / 32][f] = x;", s->threads, (long)e->k->row, first);
	} else {
		emit_line(e, "\t\tif (f < %ld) part[%d + group][f] = sum%d[%s];", (long)e->k->row, first, i, e->lane);
	}
	emit_line(e, "\t}");
}

/* Column sums of the block's part: those of its groups of threads, added in an order that is always the same. */
static void
column_stores(Emit *e, const Shape *s, int groups)
{
	Kernel *k = e->k;
	int parts = s->threads < 32 ? groups * s->threads / 32 : groups, sums = 0, together, done = 0;
	for (int i = 0; i < k->nstore; i++)
		sums += k->store[i].column;
	together = 4 * parts * k->row * sums <= PARTS ? sums : 1;
	emit_line(e, "__shared__ float part[%d][%ld];", together * parts, (long)k->row);
	for (int i = 0; i < k->nstore; i++) {
		if (!k->store[i].column)
			continue;
		put_parts(e, s, i, done++ % together * parts);
		if (done % together)
			continue;
		emit_line(e, "__syncthreads();");
		emit_line(e, "for (int f = threadIdx.x; f < %ld; f += %d) {", (long)k->row, groups * s->threads);
		e->indent++;
		emit_line(e, "%s", cu_row_axes(e, "f"));
		emit_line(e, "const int i0 = blockIdx.x;");
		for (int j = together == 1 ? i : 0, first = 0; j <= i; j++) {
			const LStore *st = &k->store[j];
			if (!st->column)
				continue;
			char *ix = ix_text(e, st->ix);
			emit_line(e, "a%d[%s] = mm_down<%d>(&part[%d][f], %ld);", arg_index(k, st->node), ix, parts, first, (long)k->row);
			first += parts;
			free(ix);
		}
		e->indent--;
		emit_line(e, "}");
		emit_line(e, "__syncthreads();");
	}
}

/* What a group of threads that walks rows can ask for a row ahead, while it sums: the loads of stage 0 that differ from row to
   row, if registers hold them. NULL if there are none. */
static bool *
find_ahead(Emit *e, const Shape *s)
{
	Kernel *k = e->k;
	bool *ahead = arena_alloc(k->arena, (size_t)k->nval), *need = arena_alloc(k->arena, (size_t)k->nval);
	int bytes = 0;
	if (s->width != 4 || !s->exact || !stage_values(e, 0, need))
		return NULL;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		ahead[i] = v->kind == LV_LOAD && !v->guard && v->level == 0 && v->axes & ((1u << k->nouter) - 1) &&
		           (!is_lane(e, v) || (need[i] && wide_load(e, s, v)));
		for (int j = 0; ahead[i] && j < v->ix->n; j++)
			ahead[i] = v->ix->t[j].a->kind == AT_AXIS;
		if (ahead[i])
			bytes += (is_lane(e, v) ? s->chunks * 4 : 1) * (int)dtype_bytes(v->dt);
	}
	return bytes && bytes <= AHEAD ? ahead : NULL;
}

/* Rows and column sums: a block walks the rows of a part. */
static void
column_kernel(Emit *e, const char *name, Launch *l, const Shape *s, bool held)
{
	Kernel *k = e->k;
	int64_t rows = k->size[1];
	int groups = 256 / s->threads;
	while (groups > 1 && (groups > rows || groups / 2 * s->threads * k->size[0] >= 132 * 2048))
		groups /= 2;
	l->grid = (int)k->size[0];
	l->block = groups * s->threads < 32 ? 32 : groups * s->threads;
	groups = l->block / s->threads;
	signature_for(e, name, l->block, k->nval >= LARGE ? 768 : 0);
	emit_line(e, "const int t = threadIdx.x %% %d, group = threadIdx.x / %d;", s->threads, s->threads);
	for (int i = 0; i < k->nstore; i++)
		if (k->store[i].column)
			emit_line(e, "float sum%d[%d] = {0};", i, s->chunks * s->width);
	if (held && rows % groups == 0 && rows > groups && (e->ahead = find_ahead(e, s))) {
		for (int i = 0; i < k->nval; i++)
			if (e->ahead[i])
				emit_line(e, is_lane(e, k->val[i]) ? "%s n%d[%d];" : "%s n%d;", ctype(k->val[i]->dt), i, s->chunks * 4);
		load_ahead(e, s, arena_printf(k->arena, "blockIdx.x * %ld + group", (long)rows));
	}
	emit_line(e, "for (int b = 0; b < %ld; b += %d) {", (long)rows, groups);
	e->indent++;
	if (e->ahead)
		emit_line(e, "const int next = blockIdx.x * %ld + (b + %d < %ld ? b + %d : b) + group;", (long)rows, groups, (long)rows, groups);
	if (rows % groups) { /* every thread takes part in the combining */
		emit_line(e, "const bool in = b + group < %ld;", (long)rows);
		emit_line(e, "const int o = blockIdx.x * %ld + (in ? b + group : %ld);", (long)rows, (long)rows - 1);
		e->store_if = "if (in) ";
	} else {
		emit_line(e, "const int o = blockIdx.x * %ld + b + group;", (long)rows);
	}
	row_body(e, s, held);
	e->indent--;
	emit_line(e, "}");
	column_stores(e, s, groups);
	text_puts(e->t, "}\n\n");
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
	e->lane = s.width == 4 ? "c * 4 + w" : "c";
	if (k->columns) {
		column_kernel(e, name, l, &s, held);
		return;
	}
	signature_for(e, name, l->block, s.chunks > 1 && k->nval * s.chunks >= 2 * LARGE ? 512 : 0);
	emit_line(e, "const int t = threadIdx.x %% %d;", s.threads);
	if (k->outer % rows == 0) {
		emit_line(e, "const int o = blockIdx.x * %d + threadIdx.x / %d;", rows, s.threads);
	} else { /* every thread takes part in the combining; those past the end only do not store */
		emit_line(e, "const int place = blockIdx.x * %d + threadIdx.x / %d;", rows, s.threads);
		emit_line(e, "const int o = place < %ld ? place : %ld;", (long)k->outer, (long)k->outer - 1);
		e->store_if = arena_printf(k->arena, "if (place < %ld) ", (long)k->outer);
	}
	row_body(e, &s, held);
	text_puts(e->t, "}\n\n");
}

/* ---- serial ---- */

/* Threads that walk one row together, each every Y-th element, *side places side by side in a block. held: vectors that each holds
   meanwhile: the more there are, the fewer registers each has. Of few places fewer stand side by side, and more walk a row, so that
   more multiprocessors have a block. */
static int
serial_threads(const Kernel *k, int width, int held, int *side)
{
	int y = 1, most = width == 1 ? (k->nval < 24 ? 1024 : k->nval < 40 ? 512 : 256) : held < 10 ? 512 : 256;
	int64_t places = k->outer / width;
	*side = 32;
	while (y * *side < most && k->row / y >= 8 && places * y < 132 * 1024)
		y *= 2;
	while (y > 1 && *side > 4 && (places + *side - 1) / *side < 66) {
		bool more = k->row / y >= 8;
		if (!more && (*side <= 8 || *side * y <= 64))
			break;
		*side /= 2;
		y *= more ? 2 : 1;
	}
	return y;
}

/* The outer axis along which a thread takes four places, or -1. */
static int
serial_axis(Emit *e)
{
	Kernel *k = e->k;
	Shape s = {.width = 4, .lane_axis = k->nouter - 1};
	while (s.lane_axis > 0 && k->size[s.lane_axis] == 1)
		s.lane_axis--;
	if (s.lane_axis < 0 || k->size[s.lane_axis] % 4 || k->outer < 4096)
		return -1;
	return cu_any_wide(e, &s) ? s.lane_axis : -1;
}

static bool
along(const LVal *v, int axis)
{
	return axis >= 0 && v->axes >> axis & 1;
}

/* Values of the level that are one for the row, four side by side where they vary along the axis. */
static void
serial_uniform(Emit *e, const Shape *s, int level, const char *open)
{
	Kernel *k = e->k;
	bool any = false;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!cu_computed(v) || is_lane(e, v) || v->level != level)
			continue;
		if (!along(v, s->width == 4 ? s->lane_axis : -1)) {
			cu_value(e, v, false);
		} else {
			emit_line(e, "%s v%d[4];", ctype(v->dt), i);
			any = true;
		}
	}
	if (!any)
		return;
	text_puts(e->t, "#pragma unroll\n");
	emit_line(e, "for (int w = 0; w < 4; w++) {");
	e->indent++;
	emit_line(e, "%s", open);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!cu_computed(v) || is_lane(e, v) || v->level != level || !along(v, s->lane_axis))
			continue;
		char *x = val_expr(e, v);
		emit_line(e, "v%d[w] = %s;", i, x);
		e->place[i] = PL_VECTOR;
		free(x);
	}
	e->indent--;
	emit_line(e, "}");
}

/* How many of them are four side by side: they are held while the row is walked. */
static int
serial_held(Emit *e, const Shape *s)
{
	int held = 0;
	for (int i = 0; i < e->k->nval; i++) {
		LVal *v = e->k->val[i];
		held += cu_computed(v) && !is_lane(e, v) && s->width == 4 && along(v, s->lane_axis);
	}
	return held;
}

static void
serial_accumulators(Emit *e, const Shape *s, int stage)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		const char *init = reduce_init(v);
		init = init ? init : "-MM_INF";
		if (s->width == 4)
			emit_line(e, "%s v%d[4] = {%s, %s, %s, %s};", ctype(v->dt), i, init, init, init, init);
		else
			emit_line(e, "%s v%d = %s;", ctype(v->dt), i, init);
		e->place[i] = s->width == 4 ? PL_VECTOR : PL_PLAIN;
	}
}

/* Sums of the Y threads of each place, in order, to all of them. */
static void
combine_columns(Emit *e, const Shape *s, int stage, int y, int side)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		const char *f = v->node->op != P_reduce_max ? "mm_sum" : "mm_maximum";
		if (s->width == 4)
			emit_line(e, "mm_columns4<%d, %d, %s>(v%d);", y, side, f, i);
		else
			emit_line(e, "v%d = mm_columns<%d, %d, %s>(v%d);", i, y, side, f, i);
	}
}

static void
serial_stores(Emit *e, const Shape *s, const char *open)
{
	Kernel *k = e->k;
	if (s->width == 4) {
		text_puts(e->t, "#pragma unroll\n");
		emit_line(e, "for (int w = 0; w < 4; w++) {");
		e->indent++;
		emit_line(e, "%s", open);
	}
	for (int i = 0; i < k->nstore; i++)
		if (!k->store[i].row)
			put_store(e, &k->store[i]);
	if (s->width == 4) {
		e->indent--;
		emit_line(e, "}");
	}
}

/* Is an element so much work that several at once gain nothing, and take the registers? need: of these values alone, or NULL. */
static bool
dear(const Kernel *k, const bool *need)
{
	int cost = 0;
	for (int i = 0; i < k->nval; i++)
		cost += !need || need[i] ? k->val[i]->cost : 0;
	return cost > 40;
}

static void
serial_kernel(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	Shape s = {.lane_axis = serial_axis(e)};
	s.width = s.lane_axis >= 0 ? 4 : 1;
	int side, held = serial_held(e, &s), y = serial_threads(k, s.width, held, &side);
	int64_t places = k->outer / s.width;
	const char *open = s.width == 4 ? arena_printf(k->arena, "const int i%d = place4 + w;", s.lane_axis) : "";
	memset(e->saved, 0, (size_t)k->nval);
	if (y == 1)
		side = places >= 132 * 128 ? 128 : places >= 64 ? 64 : 32;
	l->block = side * y;
	l->grid = (int)((places + side - 1) / side);
	signature_for(e, name, l->block, held > MANY ? 768 : k->nval >= LARGE || dear(k, NULL) ? 512 : s.width == 4 && y > 1 ? 768 : 0);
	emit_line(e, "const int place = blockIdx.x * %d + threadIdx.x%s;", side, y > 1 ? arena_printf(k->arena, " %% %d", side) : "");
	if (places % side) {
		emit_line(e, "const int o = (place < %ld ? place : %ld) * %d;", (long)places, (long)places - 1, s.width);
		e->store_if = arena_printf(k->arena, "if (place < %ld) ", (long)places);
	} else {
		emit_line(e, "const int o = place * %d;", s.width);
	}
	axis_lines(e, "o", 0, k->nouter);
	if (s.width == 4)
		emit_line(e, "const int place4 = i%d;", s.lane_axis);
	for (int st = 0; st < k->nlevel; st++) {
		serial_uniform(e, &s, st, open);
		if (!stage_values(e, st, need))
			continue;
		serial_accumulators(e, &s, st);
		text_puts(e->t, dear(k, need) ? "#pragma unroll 1\n" : k->row / y <= 8 ? "#pragma unroll\n" : "#pragma unroll 4\n");
		emit_line(e, "for (int f = %s; f < %ld; f += %d) {", y > 1 ? arena_printf(k->arena, "threadIdx.x / %d", side) : "0", (long)k->row, y);
		e->indent++;
		emit_line(e, "%s", cu_row_axes(e, "f"));
		put_piece(e, &s, st, need, open);
		e->indent--;
		emit_line(e, "}");
		cu_forget(e);
		if (y > 1)
			combine_columns(e, &s, st, y, side);
	}
	if (y > 1) {
		emit_line(e, "if (threadIdx.x < %d) {", side);
		e->indent++;
	}
	serial_stores(e, &s, open);
	if (y > 1) {
		e->indent--;
		emit_line(e, "}");
	}
	text_puts(e->t, "}\n\n");
}

void
emit_kernel_cuda(Text *t, Kernel *k, const char *name, Launch *l)
{
	Emit e;
	emit_init(&e, t, k, true);
	l->smem = 0;
	if (k->product)
		emit_product(&e, name, l);
	else if (k->tile)
		emit_tile(&e, name, l);
	else if (k->scatter)
		emit_scatter(&e, name, l);
	else if (!k->reduces)
		map_kernel(&e, name, l);
	else if (k->serial)
		serial_kernel(&e, name, l);
	else
		row_kernel(&e, name, l);
}
