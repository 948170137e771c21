/* Kernels as C: void name(void *const *arg), OpenMP over outer places, inner loops that the compiler vectorises.

   Without a reduction the last axis is the inner loop. With one, each outer place walks its row once for each level;
   what is dear to compute again is kept in an array of the row. A serial kernel (memory contiguous along the last
   outer axis j) walks the row outside and j inside, with an accumulator for each j. */
#include <stdlib.h>
#include <string.h>

#include "emit.h"

#define KEEP_COST 8      /* instructions below which a value of the row is computed again */
#define PARALLEL 16384   /* elements from which threads pay */

static void
put_args(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->narg; i++) {
		const Node *n = k->arg[i].node;
		emit_line(e, "%s%s *restrict a%d = arg[%d];", i < k->nload ? "const " : "", ctype(n->dt), i, i);
	}
}

/* A value as a new local, or into the array that keeps it. */
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

static bool
computed(const LVal *v)
{
	return v->kind != LV_CONST && v->kind != LV_INDEX && v->kind != LV_REDUCE;
}

/* Values of one level that do not vary along the row. */
static void
put_uniform(Emit *e, int level)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (!computed(v) || is_lane(e, v) || v->level != level)
			continue;
		if (!e->outer_lane) {
			put_value(e, v, false);
			continue;
		}
		char *s = val_expr(e, v); /* one for each j */
		emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)k->size[k->nouter - 1]);
		e->place[i] = PL_OUTER;
		emit_line(e, "for (int j = 0; j < %ld; j++) {", (long)k->size[k->nouter - 1]);
		emit_line(e, "\tconst int i%d = j; (void)i%d;", k->nouter - 1, k->nouter - 1);
		emit_line(e, "\tv%d[j] = %s;", i, s);
		emit_line(e, "}");
		free(s);
	}
}

static void
put_store(Emit *e, const LStore *s)
{
	char *ix = ix_text(e, s->ix), *v = val_ref(e, s->val);
	emit_line(e, "a%d[%s] = %s;", arg_index(e->k, s->node), ix, v);
	free(ix);
	free(v);
}

static bool
is_sum(const LVal *v)
{
	return v->node->op != P_reduce_max;
}

/* Accumulators of the reductions over values of this level; as arrays over j in a serial kernel. */
static void
put_accumulators(Emit *e, int stage, Text *pragma)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		const char *init = v->kind == LV_REDUCE ? reduce_init(v) : NULL;
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		init = init ? init : "-INFINITY";
		e->place[i] = e->outer_lane ? PL_OUTER : PL_PLAIN;
		if (e->outer_lane) {
			emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)k->size[k->nouter - 1]);
			emit_line(e, "for (int j = 0; j < %ld; j++) v%d[j] = %s;", (long)k->size[k->nouter - 1], i, init);
		} else {
			emit_line(e, "%s v%d = %s;", ctype(v->dt), i, init);
			text_printf(pragma, " reduction(%s:v%d)", is_sum(v) ? "+" : "mm_max", i); /* NaN wins: the prelude's own */
		}
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
		char *s = val_ref(e, v->in[0]), *acc = val_ref(e, v);
		if (is_sum(v))
			emit_line(e, "%s += %s;", acc, s);
		else
			emit_line(e, "%s = mm_max(%s, %s);", acc, s, acc);
		free(s);
		free(acc);
	}
}

static bool
compared(const LVal *v)
{
	if (v->kind != LV_PRIM || v->dt == DT_BOOL)
		return v->kind == LV_PRIM;
	for (int i = 0; i < v->nin; i++)
		if (compared(v->in[i]))
			return true;
	return false;
}

static bool
index_compared(const Ix *ix)
{
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		if (a->kind == AT_VAL ? compared(a->val) : a->of && index_compared(a->of))
			return true;
	}
	return false;
}

/* May a pragma have the innermost loop vectorised? gcc 12 then takes an index that comes of a comparison for the comparison's
   mask, and reads element -1 for 1; what it vectorises of its own accord is right. */
static bool
may_force(const Kernel *k)
{
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->kind == LV_LOAD && index_compared(k->val[i]->ix))
			return false;
	return true;
}

/* Loops over the row axes; the innermost one is left open, its header last so that it can be vectorised. */
static int
open_row(Emit *e, const char *pragma)
{
	Kernel *k = e->k;
	int last = k->naxis - 1, opened = 0;
	for (int i = k->nouter; i <= last; i++) {
		if (i == last && *pragma && may_force(k))
			emit_line(e, "#pragma omp simd%s", pragma);
		emit_line(e, "for (int i%d = 0; i%d < %ld; i%d++) {", i, i, (long)k->size[i], i);
		e->indent++;
		opened++;
	}
	return opened;
}

static void
close_loops(Emit *e, int n)
{
	while (n-- > 0) {
		e->indent--;
		emit_line(e, "}");
	}
}

static void
put_stage(Emit *e, int stage)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	Text pragma = {0};
	put_uniform(e, stage);
	if (!stage_values(e, stage, need))
		return;
	put_accumulators(e, stage, &pragma);
	int opened = open_row(e, e->outer_lane ? "" : pragma.s ? pragma.s : " ");
	if (e->outer_lane) {
		if (may_force(k))
			emit_line(e, "#pragma omp simd");
		emit_line(e, "for (int j = 0; j < %ld; j++) {", (long)k->size[k->nouter - 1]);
		e->indent++;
		opened++;
		emit_line(e, "const int i%d = j; (void)i%d;", k->nouter - 1, k->nouter - 1);
	}
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (need[i] && computed(v) && !(e->saved[i] && v->level < stage))
			put_value(e, v, e->saved[i]);
	}
	put_accumulate(e, stage);
	for (int s = 0; s < k->nstore; s++)
		if (k->store[s].row && k->store[s].val->level == stage)
			put_store(e, &k->store[s]);
	close_loops(e, opened);
	for (int i = 0; i < k->nval; i++) /* locals of the loop are gone */
		if (need[i] && e->place[i] == PL_PLAIN && is_lane(e, k->val[i]))
			e->place[i] = PL_NONE;
	free(pragma.s);
}

/* Which values are worth an array, and the arrays. */
static void
put_saved(Emit *e)
{
	Kernel *k = e->k;
	int *cost = arena_alloc(k->arena, (size_t)k->nval * sizeof *cost);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		cost[i] = v->cost;
		for (int j = 0; j < v->nin; j++)
			if (is_lane(e, v->in[j]) && !e->saved[v->in[j]->id])
				cost[i] += cost[v->in[j]->id];
		if (!e->saved[i])
			continue;
		e->saved[i] = cost[i] >= KEEP_COST && k->row <= 8192 && !e->outer_lane;
		if (e->saved[i])
			emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)k->row);
	}
}

/* The place of the row as subscript of kept values. */
static const char *
row_place(Kernel *k)
{
	Text t = {0};
	int64_t stride = 1;
	for (int i = k->naxis - 1; i >= k->nouter; i--) {
		text_printf(&t, stride == 1 ? "%si%d" : "%si%d * %ld", t.n ? " + " : "", i, (long)stride);
		stride *= k->size[i];
	}
	const char *s = arena_strdup(k->arena, t.s ? t.s : "0");
	free(t.s);
	return s;
}

static void
reduce_body(Emit *e)
{
	Kernel *k = e->k;
	int outer = k->nouter - e->k->serial;
	int64_t places = k->outer / (k->serial ? k->size[k->nouter - 1] : 1);
	if (k->serial) {
		e->outer_lane = 1u << (k->nouter - 1);
	}
	if (k->outer * k->row >= PARALLEL && places > 1)
		emit_line(e, "#pragma omp parallel for schedule(static)");
	emit_line(e, "for (int o = 0; o < %ld; o++) {", (long)places);
	e->indent++;
	axis_lines(e, "o", 0, outer);
	e->lane = row_place(k);
	put_saved(e);
	for (int s = 0; s < k->nlevel; s++)
		put_stage(e, s);
	if (e->outer_lane) {
		emit_line(e, "for (int j = 0; j < %ld; j++) {", (long)k->size[k->nouter - 1]);
		e->indent++;
		emit_line(e, "const int i%d = j; (void)i%d;", k->nouter - 1, k->nouter - 1);
	}
	for (int s = 0; s < k->nstore; s++)
		if (!k->store[s].row)
			put_store(e, &k->store[s]);
	if (e->outer_lane)
		close_loops(e, 1);
	close_loops(e, 1);
}

/* No reduction: the last axis is walked inside; a single axis is cut among the threads. */
static void
map_body(Emit *e)
{
	Kernel *k = e->k;
	int last = k->naxis - 1;
	e->lanes = last >= 0 ? 1u << last : 0;
	if (last <= 0) {
		int64_t n = last < 0 ? 1 : k->size[0];
		for (int i = 0; i < k->nval; i++)
			if (computed(k->val[i]) && !k->val[i]->axes)
				put_value(e, k->val[i], false);
		if (n >= PARALLEL || may_force(k))
			emit_line(e, "#pragma omp%s%s%s", n >= PARALLEL ? " parallel for" : "", may_force(k) ? " simd" : "", n >= PARALLEL ? " schedule(static)" : "");
		emit_line(e, "for (int i0 = 0; i0 < %ld; i0++) {", (long)n);
		e->indent++;
		for (int i = 0; i < k->nval; i++)
			if (computed(k->val[i]) && k->val[i]->axes)
				put_value(e, k->val[i], false);
	} else {
		if (k->outer >= PARALLEL)
			emit_line(e, "#pragma omp parallel for schedule(static)");
		emit_line(e, "for (int o = 0; o < %ld; o++) {", (long)(k->outer / k->size[last]));
		e->indent++;
		axis_lines(e, "o", 0, last);
		for (int i = 0; i < k->nval; i++)
			if (computed(k->val[i]) && !is_lane(e, k->val[i]))
				put_value(e, k->val[i], false);
		if (may_force(k))
			emit_line(e, "#pragma omp simd");
		emit_line(e, "for (int i%d = 0; i%d < %ld; i%d++) {", last, last, (long)k->size[last], last);
		e->indent++;
		for (int i = 0; i < k->nval; i++)
			if (computed(k->val[i]) && is_lane(e, k->val[i]))
				put_value(e, k->val[i], false);
	}
	for (int s = 0; s < k->nstore; s++)
		put_store(e, &k->store[s]);
	close_loops(e, last <= 0 ? 1 : 2);
}

/* Rows of the result are cut among the threads; each walks all positions in order: sums do not depend on threads. */
static void
scatter_body(Emit *e)
{
	Kernel *k = e->k;
	const Node *n = k->store[0].node;
	int64_t count = node_count(n), width = count / (n->dim[0] ? n->dim[0] : 1);
	int out = arg_index(k, n);
	e->lanes = ~0u << k->nouter;
	emit_line(e, "const int rows = %ld, parts = %d;", (long)n->dim[0], k->outer * k->row >= PARALLEL ? 16 : 1);
	emit_line(e, "#pragma omp parallel for schedule(static)");
	emit_line(e, "for (int part = 0; part < parts; part++) {");
	e->indent++;
	emit_line(e, "const int lo = (int)((int64_t)rows * part / parts), hi = (int)((int64_t)rows * (part + 1) / parts);");
	emit_line(e, "memset(a%d + (int64_t)lo * %ld, 0, (size_t)(hi - lo) * %ld * sizeof *a%d);", out, (long)width, (long)width, out);
	emit_line(e, "for (int o = 0; o < %ld; o++) {", (long)k->outer);
	e->indent++;
	axis_lines(e, "o", 0, k->nouter);
	for (int i = 0; i <= k->id->id; i++)
		if (computed(k->val[i]) && !is_lane(e, k->val[i]))
			put_value(e, k->val[i], false);
	char *id = val_ref(e, k->id);
	emit_line(e, "const int row = mm_id(%s, rows - 1);", id);
	free(id);
	emit_line(e, "if (row < lo || row >= hi) continue;");
	for (int i = 0; i < k->nval; i++)
		if (computed(k->val[i]) && !is_lane(e, k->val[i]) && e->place[i] == PL_NONE)
			put_value(e, k->val[i], false);
	int opened = open_row(e, " ");
	for (int i = 0; i < k->nval; i++)
		if (computed(k->val[i]) && is_lane(e, k->val[i]))
			put_value(e, k->val[i], false);
	char *ix = ix_text(e, k->store[0].ix), *v = val_ref(e, k->store[0].val);
	emit_line(e, "a%d[%s] += %s;", out, ix, v);
	free(ix);
	free(v);
	close_loops(e, opened + 2);
}

void
emit_kernel_c(Text *t, Kernel *k, const char *name)
{
	Emit e;
	emit_init(&e, t, k, false);
	text_printf(t, "void\n%s(void *const *arg)\n{\n", name);
	e.indent = 1;
	put_args(&e);
	if (k->scatter)
		scatter_body(&e);
	else if (k->reduces)
		reduce_body(&e);
	else
		map_body(&e);
	text_puts(t, "}\n\n");
}
