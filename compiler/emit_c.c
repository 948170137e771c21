/* Kernels as C: void name(void *const *arg, int64_t lo, int64_t hi), which computes the pieces [lo, hi): outer places, or blocks of
   them, that threads share out; inner loops that the compiler vectorises.

   Without a reduction the last axis is the inner loop. With one, each outer place walks its row once for each level;
   what is dear to compute again is kept in an array of the row. A serial kernel (memory contiguous along the last
   outer axis) walks the row outside and a block of that axis inside, with an accumulator for each place j of the block. */
#include <stdlib.h>
#include <string.h>

#include "emit.h"

#define KEEP_COST 8      /* instructions below which a value of the row is computed again */
#define KEEP_BRANCH 5    /* in a loop of few places, where nothing is done side by side */
#define KEEP_FEW 256     /* elements that such a kernel keeps, of all its places and its row */
#define KEEP_ROW 2048    /* elements of an array of a serial kernel's row */
#define PARALLEL 131072  /* operations from which threads pay */
#define BLOCK 4096       /* elements of a piece, where a single axis is cut */
#define TINY 8           /* places below which an inner loop is unrolled rather than made of vectors with a rest */
#define SHORT 32         /* places below which an inner loop is not made of vectors: there a choice would be a branch */
#define PIECES 64        /* of a kernel: enough to be shared out */
#define PARTS 16         /* of a scatter's rows: each walks all positions */
#define LANES 256        /* of a serial kernel's block: its accumulators stay in the nearest cache */

static void
put_args(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->narg; i++) {
		const Node *n = k->arg[i].node;
		emit_line(e, "%s%s *restrict a%d = arg[%d];", i < k->nload ? "const " : "", ctype(n->dt), i, i);
	}
}

/* As wide as others: vectors of one length. */
static const char *local_type(const LVal *v) { return ctype(v->dt == DT_BOOL ? DT_I32 : v->dt); }

/* A value as a new local, or into the array that keeps it. */
static void
put_value(Emit *e, const LVal *v, bool keep)
{
	char *s = val_expr(e, v);
	if (keep)
		emit_line(e, "v%d[%s] = %s;", v->id, e->lane, s);
	else
		emit_line(e, "const %s v%d = %s;", local_type(v), v->id, s);
	e->place[v->id] = keep ? PL_SAVED : PL_PLAIN;
	free(s);
}

/* Places of the serial kernel's inner loop, and how many of these make up the axis. */
static int64_t
lanes_of(const Kernel *k)
{
	int64_t n = k->size[k->nouter - 1];
	if (n <= LANES)
		return n;
	for (int64_t d = LANES; d >= LANES / 4; d -= 16) /* whole vectors, all blocks alike */
		if (n % d == 0)
			return d;
	return LANES / 2;
}

/* Worth more than one thread? What a kernel computes and moves, by rough instructions. */
static bool
is_large(const Kernel *k)
{
	double work = 0;
	for (int i = 0; i < k->nval; i++) {
		double places = (double)k->outer * (k->val[i]->axes >> k->nouter || k->val[i]->kind == LV_REDUCE ? (double)k->row : 1);
		work += k->val[i]->axes ? places * k->val[i]->cost : 0;
	}
	return work >= PARALLEL;
}

/* The loop over n pieces: all, or those that the thread is given. */
static void
open_pieces(Emit *e, Launch *l, int64_t n)
{
	bool shared = n > 1 && is_large(e->k);
	l->grid = shared ? (int)n : 1;
	if (shared)
		emit_line(e, "for (int o = (int)lo; o < (int)hi; o++) {");
	else
		emit_line(e, "for (int o = 0; o < %ld; o++) {", (long)n);
	e->indent++;
}

/* Loops over axes [0, n): so many of the first as make enough pieces, then one loop for each of the others; their number. */
static int
open_places(Emit *e, Launch *l, int n)
{
	Kernel *k = e->k;
	int lead = 0, opened = 1;
	int64_t pieces = 1;
	while (lead < n && pieces < PIECES)
		pieces *= k->size[lead++];
	open_pieces(e, l, pieces);
	axis_lines(e, "o", 0, lead);
	for (int i = lead; i < n; i++) {
		if (k->size[i] == 1)
			continue;
		emit_line(e, "for (int i%d = 0; i%d < %ld; i%d++) {", i, i, (long)k->size[i], i);
		e->indent++;
		opened++;
	}
	return opened;
}

static bool
computed(const LVal *v)
{
	return v->kind != LV_CONST && v->kind != LV_INDEX && v->kind != LV_REDUCE;
}

static void
close_loops(Emit *e, int n)
{
	while (n-- > 0) {
		e->indent--;
		emit_line(e, "}");
	}
}

/* In a serial kernel: the same for all j. */
static bool
is_single(const Emit *e, const LVal *v)
{
	return !e->outer_lane || (v->level == 0 && !(v->axes & e->outer_lane));
}

/* The loop over a serial kernel's block, left open. */
static void
open_block(Emit *e)
{
	int axis = e->k->nouter - 1;
	int64_t lanes = lanes_of(e->k);
	if (e->k->size[axis] % lanes)
		emit_line(e, "for (int j = 0; j < jn; j++) {");
	else
		emit_line(e, "for (int j = 0; j < %ld; j++) {", (long)lanes);
	e->indent++;
	emit_line(e, lanes == e->k->size[axis] ? "const int i%d = j;" : "const int i%d = j0 + j;", axis);
	emit_line(e, "(void)i%d;", axis);
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
		if (is_single(e, v)) {
			put_value(e, v, false);
			continue;
		}
		char *s = val_expr(e, v); /* one for each j */
		emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)lanes_of(k));
		e->place[i] = PL_OUTER;
		open_block(e);
		emit_line(e, "v%d[j] = %s;", i, s);
		close_loops(e, 1);
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
			emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)lanes_of(k));
			emit_line(e, "for (int j = 0; j < %ld; j++) v%d[j] = %s;", (long)lanes_of(k), i, init);
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

/* May the innermost loop be vectorised? gcc 12 then takes an index that comes of a comparison for the comparison's mask, and reads
   element -1 for 1: such a loop has no pragma, and its ids are hidden. */
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
		if (i < last && k->size[i] == 1) /* collapsed: no index has it */
			continue;
		if (i == last && *pragma && may_force(k) && !e->unrolled)
			emit_line(e, "#pragma omp simd%s", pragma);
		emit_line(e, "for (int i%d = 0; i%d < %ld; i%d++) {", i, i, (long)k->size[i], i);
		e->indent++;
		opened++;
	}
	return opened;
}

/* The place of the row as subscript of kept values. */
static const char *
row_place(Kernel *k)
{
	Text t = {0};
	int64_t stride = 1;
	for (int i = k->naxis - 1; i >= k->nouter; i--) {
		if (k->size[i] == 1)
			continue;
		text_printf(&t, stride == 1 ? "%si%d" : "%si%d * %ld", t.n ? " + " : "", i, (long)stride);
		stride *= k->size[i];
	}
	const char *s = arena_strdup(k->arena, t.s ? t.s : "0");
	free(t.s);
	return s;
}

static bool
in_index(const Ix *ix, const LVal *v)
{
	for (int i = 0; ix && i < ix->n; i++)
		if (ix->t[i].a->val == v || in_index(ix->t[i].a->of, v))
			return true;
	return false;
}

/* Does the block need v, which is the same for all its places: a value of it, a sum or a store? */
static bool
in_block(const Emit *e, const bool *need, const LVal *v)
{
	for (int i = 0; i < e->k->nval; i++) {
		const LVal *u = e->k->val[i];
		if (u->kind == LV_REDUCE && u->in[0] == v)
			return true;
		if (!need[i] || is_single(e, u))
			continue;
		bool uses = in_index(u->ix, v);
		for (int j = 0; j < u->nin; j++)
			uses |= u->in[j] == v;
		for (const Guard *g = u->guard; g; g = g->up)
			uses |= in_index(g->ix, v);
		if (uses)
			return true;
	}
	for (int i = 0; i < e->k->nstore; i++)
		if (e->k->store[i].val == v || in_index(e->k->store[i].ix, v))
			return true;
	return false;
}

/* The row of a serial kernel, and in it what is the same for all places of the block. Where that is chosen, a loop of its own does
   it: else gcc 12 makes of the loop over the block one for each outcome, which is not vectorised (640x256: 63 us, 5 us apart). */
static int
open_serial_row(Emit *e, int stage, const bool *need)
{
	Kernel *k = e->k;
	const char *at = row_place(k);
	bool *kept = arena_alloc(k->arena, (size_t)k->nval), apart = false;
	for (int i = 0; i < k->nval; i++)
		apart |= need[i] && is_single(e, k->val[i]) && k->val[i]->guard && k->row <= KEEP_ROW;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		kept[i] = apart && need[i] && computed(v) && is_single(e, v) && in_block(e, need, v);
		if (kept[i])
			emit_line(e, "%s s%d_%d[%ld];", local_type(v), stage, i, (long)k->row);
	}
	int opened = open_row(e, "");
	for (int i = 0; i < k->nval; i++)
		if (need[i] && computed(k->val[i]) && is_single(e, k->val[i]))
			put_value(e, k->val[i], false);
	if (!apart)
		return opened;
	for (int i = 0; i < k->nval; i++)
		if (kept[i])
			emit_line(e, "s%d_%d[%s] = v%d;", stage, i, at, i);
	close_loops(e, opened);
	opened = open_row(e, "");
	for (int i = 0; i < k->nval; i++)
		if (kept[i])
			emit_line(e, "const %s v%d = s%d_%d[%s];", local_type(k->val[i]), i, stage, i, at);
	return opened;
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
	int opened = e->outer_lane ? open_serial_row(e, stage, need) : open_row(e, pragma.s ? pragma.s : " ");
	if (e->outer_lane) {
		if (may_force(k) && !e->unrolled)
			emit_line(e, "#pragma omp simd");
		open_block(e);
		opened++;
	}
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (need[i] && computed(v) && !(e->saved[i] && v->level < stage) && !(e->outer_lane && is_single(e, v)))
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
		if (e->outer_lane)
			e->saved[i] = cost[i] >= KEEP_BRANCH && e->masks && !is_single(e, v) && k->row * lanes_of(k) <= KEEP_FEW;
		else
			e->saved[i] = cost[i] >= KEEP_COST && k->row <= 8192;
		if (e->saved[i])
			emit_line(e, "%s v%d[%ld];", ctype(v->dt), i, (long)(k->row * (e->outer_lane ? lanes_of(k) : 1)));
	}
}

/* The block of the last outer axis that piece o is, and the place of the axes before it. */
static void
put_block(Emit *e, int64_t blocks)
{
	Kernel *k = e->k;
	int64_t size = k->size[k->nouter - 1], lanes = lanes_of(k);
	emit_line(e, "const int j0 = o %% %ld * %ld;", (long)blocks, (long)lanes);
	if (size % lanes)
		emit_line(e, "const int jn = %ld - j0 < %ld ? %ld - j0 : %ld;", (long)size, (long)lanes, (long)size, (long)lanes);
	axis_lines(e, arena_printf(k->arena, "(o / %ld)", (long)blocks), 0, k->nouter - 1);
}

static void
reduce_body(Emit *e, Launch *l)
{
	Kernel *k = e->k;
	int64_t size = k->nouter ? k->size[k->nouter - 1] : 1, blocks = k->serial ? (size + lanes_of(k) - 1) / lanes_of(k) : 1;
	int opened = 1;
	if (k->serial)
		e->outer_lane = 1u << (k->nouter - 1);
	if (blocks > 1) {
		open_pieces(e, l, k->outer / size * blocks);
		put_block(e, blocks);
	} else {
		opened = open_places(e, l, k->nouter - k->serial);
	}
	e->lane = row_place(k);
	if (e->outer_lane)
		e->lane = arena_printf(k->arena, "(%s) * %ld + j", e->lane, (long)lanes_of(k));
	put_saved(e);
	for (int s = 0; s < k->nlevel; s++)
		put_stage(e, s);
	if (e->outer_lane)
		open_block(e);
	for (int s = 0; s < k->nstore; s++)
		if (!k->store[s].row)
			put_store(e, &k->store[s]);
	close_loops(e, opened + (e->outer_lane != 0));
}

/* No reduction: the last axis is walked inside; a single axis is cut into blocks. */
static void
map_body(Emit *e, Launch *l)
{
	Kernel *k = e->k;
	int last = k->naxis > 0 ? k->naxis - 1 : 0, opened = 1;
	int64_t n = k->naxis ? k->size[last] : 1;
	bool block = k->outer == n && n >= 2 * BLOCK && is_large(k);
	e->lanes = k->naxis ? 1u << last : 0;
	if (block)
		l->grid = (int)((n + BLOCK - 1) / BLOCK);
	else
		opened += open_places(e, l, last);
	for (int i = 0; i < k->nval; i++)
		if (computed(k->val[i]) && !is_lane(e, k->val[i]))
			put_value(e, k->val[i], false);
	if (block)
		emit_line(e, "const int start = (int)lo * %d, end = hi * %d < %ld ? (int)hi * %d : %ld;", BLOCK, BLOCK, (long)n, BLOCK, (long)n);
	if (may_force(k) && !e->unrolled)
		emit_line(e, "#pragma omp simd");
	if (block)
		emit_line(e, "for (int i%d = start; i%d < end; i%d++) {", last, last, last);
	else
		emit_line(e, "for (int i%d = 0; i%d < %ld; i%d++) {", last, last, (long)n, last);
	e->indent++;
	for (int i = 0; i < k->nval; i++)
		if (computed(k->val[i]) && is_lane(e, k->val[i]))
			put_value(e, k->val[i], false);
	for (int s = 0; s < k->nstore; s++)
		put_store(e, &k->store[s]);
	close_loops(e, opened);
}

/* Rows of the result are cut among the threads; each walks all positions in order: sums do not depend on threads. */
static void
scatter_body(Emit *e, Launch *l)
{
	Kernel *k = e->k;
	const Node *n = k->store[0].node;
	int64_t count = node_count(n), width = count / (n->dim[0] ? n->dim[0] : 1);
	int out = arg_index(k, n);
	e->lanes = ~0u << k->nouter;
	l->grid = is_large(k) ? PARTS : 1;
	emit_line(e, "const int rows = %ld, first = (int)((int64_t)rows * lo / %d), end = (int)((int64_t)rows * hi / %d);", (long)n->dim[0], l->grid, l->grid);
	emit_line(e, "memset(a%d + (int64_t)first * %ld, 0, (size_t)(end - first) * %ld * sizeof *a%d);", out, (long)width, (long)width, out);
	emit_line(e, "for (int o = 0; o < %ld; o++) {", (long)k->outer);
	e->indent++;
	axis_lines(e, "o", 0, k->nouter);
	for (int i = 0; i <= k->id->id; i++)
		if (computed(k->val[i]) && !is_lane(e, k->val[i]))
			put_value(e, k->val[i], false);
	char *id = val_ref(e, k->id);
	emit_line(e, "const int row = mm_id(%s, rows - 1);", id);
	free(id);
	emit_line(e, "if (row < first || row >= end) continue;");
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
	close_loops(e, opened + 1);
}

/* Does it load under conditions? gcc 12 makes of an unrolled loop of such loads, where no pragma has it made of vectors, one over what is
   around it, and computes addresses of the negative part of an index as if it were unsigned (fuzz_graph_test 1 1 66). */
static bool
has_guards(const Kernel *k)
{
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->kind == LV_LOAD && k->val[i]->guard)
			return true;
	return false;
}

void
emit_kernel_c(Text *t, Kernel *k, const char *name, Launch *l)
{
	Emit e;
	if (!k->product)
		collapse_axes(k);
	emit_init(&e, t, k, false);
	e.hidden = !may_force(k);
	int lane = k->serial ? k->nouter - 1 : k->naxis - 1;
	e.masks = lane >= 0 && k->size[lane] < SHORT;
	e.unrolled = lane >= 0 && k->size[lane] < TINY && !has_guards(k);
	text_printf(t, "void\n%s(void *const *arg, int64_t lo, int64_t hi)\n{\n", name);
	e.indent = 1;
	put_args(&e);
	if (k->product)
		emit_product_c(&e, l);
	else if (k->scatter)
		scatter_body(&e, l);
	else if (k->reduces)
		reduce_body(&e, l);
	else
		map_body(&e, l);
	text_puts(t, "}\n\n");
}
