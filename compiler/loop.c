/* Lowers a region to the loop level: walks from what must be stored towards what is stored already, one value for each
   (node, index). Views only rewrite the index. See loop.h.

     y[b, c] = exp(x[b, c] - m[b]),  m = reduce_max(x, c)      region {m, y}
     outer b, row c:  level 0: v0 = x[b*C + c]  m = max v0     level 1: v2 = exp(v0 - m)  y[b*C + c] = v2  */
#include <string.h>

#include "ix.h"

typedef struct Memo {
	const Node *node;
	const Guard *guard;
	LVal *val;
	struct Memo *next;
	const Ix *idx[MAXDIM];
} Memo;

static Kind kind_of(const Node *n) { return prim_info[n->op].kind; }

void
give_up(Kernel *k, const char *why)
{
	if (!k->fail)
		k->fail = why;
}

LVal *
val_new(Kernel *k, LVal t)
{
	LVal *v;
	t.ix = t.ix ? ix_plain(k, t.ix) : NULL;
	for (int i = 0; i < t.nin; i++) {
		t.axes |= t.in[i]->axes;
		if (t.in[i]->level > t.level)
			t.level = t.in[i]->level;
	}
	if (t.ix) {
		t.axes |= t.ix->axes;
		if (t.ix->level > t.level)
			t.level = t.ix->level;
	}
	for (Guard *g = t.guard; g; g = g->up) {
		t.axes |= g->ix->axes;
		if (g->ix->level > t.level)
			t.level = g->ix->level;
	}
	/* equal values: the same load, the same operation on the same operands */
	for (int i = k->nval - 1; i >= 0; i--) {
		v = k->val[i];
		if (v->kind == t.kind && v->dt == t.dt && v->nin == t.nin && v->ix == t.ix && v->base == t.base && v->guard == t.guard &&
		    v->f == t.f && v->node->op == t.node->op && !memcmp(v->in, t.in, sizeof t.in) &&
		    (t.kind != LV_RANDOM || v->node == t.node) && (t.kind != LV_DOT || v->node == t.node) && (t.kind != LV_REDUCE || v->node == t.node))
			return v;
	}
	if (k->nval == k->capval) {
		LVal **p = arena_alloc(k->arena, (size_t)(k->capval = k->capval * 2 + 64) * sizeof *p);
		if (k->nval)
			memcpy(p, k->val, (size_t)k->nval * sizeof *p);
		k->val = p;
	}
	if (k->nval > 600)
		give_up(k, "too many values");
	v = arena_alloc(k->arena, sizeof *v);
	*v = t;
	v->id = k->nval;
	k->val[k->nval++] = v;
	return v;
}

/* Guards are few: equal ones become one pointer by a list walk. What holds already is not said again. */
static Guard *
guard_new(Kernel *k, Guard *up, const Ix *ix, int64_t lo, int64_t hi)
{
	ix = ix_plain(k, ix);
	for (Guard *g = up; g; g = g->up)
		if (g->ix == ix && g->lo >= lo && g->hi <= hi)
			return up;
	for (int i = 0; i < k->nval; i++)
		for (Guard *g = k->val[i]->guard; g; g = g->up)
			if (g->up == up && g->ix == ix && g->lo == lo && g->hi == hi)
				return g;
	Guard *g = arena_alloc(k->arena, sizeof *g);
	*g = (Guard){ix, lo, hi, up};
	return g;
}


/* Is this a place of n at every place of the kernel's axes, whatever the conditions say? */
static bool
inside(Kernel *k, const Node *n, const Ix **idx)
{
	for (int i = 0; i < n->nd; i++) {
		const Ix *ix = ix_plain(k, idx[i]);
		if (ix->lo < 0 || ix->hi >= n->dim[i])
			return false;
	}
	return true;
}

static LVal *
load(Kernel *k, Node *n, Node *base, const Ix *ix, Guard *guard)
{
	return val_new(k, (LVal){.kind = LV_LOAD, .node = n, .dt = n->dt, .base = base, .ix = ix, .guard = guard, .cost = 2});
}

static LVal *
constant(Kernel *k, Node *n, DType dt, double f)
{
	return val_new(k, (LVal){.kind = LV_CONST, .node = n, .dt = dt, .f = f});
}

/* v where all of g holds, else other. Pads of several axes are one choice: the inner one's conditions are those of both. */
static LVal *
in_range(Kernel *k, Node *n, Guard *g, LVal *v, LVal *other)
{
	for (Guard *up = v->guard; v->kind == LV_RANGE && v->in[1] == other && up; up = up->up)
		if (up == g)
			return v;
	return val_new(k, (LVal){.kind = LV_RANGE, .node = n, .dt = n->dt, .nin = 2, .in = {v, other}, .guard = g, .cost = 1});
}

static LVal *
lower_view(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	Node *x = n->in[0];
	const Ix *in[MAXDIM];
	switch (n->op) {
	case P_reshape:
		ix_reshape(k, idx, n->dim, n->nd, x->dim, x->nd, in);
		break;
	case P_permute:
		for (int i = 0; i < n->nd; i++)
			in[n->at[i]] = idx[i];
		break;
	case P_expand:
		for (int i = 0; i < x->nd; i++)
			in[i] = ix_const(k, 0);
		for (int i = 0; i < n->nd; i++)
			if (n->at[i] >= 0)
				in[n->at[i]] = idx[i];
		break;
	case P_slice:
		for (int i = 0; i < n->nd; i++)
			in[i] = ix_plus(k, ix_scale(k, idx[i], n->at[n->nd + i]), n->at[i]);
		break;
	case P_window:
		for (int i = 0; i < x->nd; i++)
			in[i] = idx[i];
		in[n->at[0]] = ix_addmul(k, ix_scale(k, idx[n->at[0]], n->at[1]), idx[n->nd - 1], n->at[2]);
		break;
	case P_pad: {
		Guard *g = guard;
		bool inside = true;
		for (int i = 0; i < n->nd; i++) {
			int64_t step = n->at[n->nd + i], gap = step < 0 ? -step : step, end = (x->dim[i] - 1) * gap + 1;
			in[i] = ix_plus(k, ix_scale(k, idx[i], step / gap), -n->at[i] * (step / gap));
			if (in[i]->hi < 0 || in[i]->lo >= end)
				return constant(k, n, n->dt, 0);
			if (in[i]->lo < 0 || in[i]->hi >= end) {
				g = guard_new(k, g, in[i], 0, end);
				inside = false;
			}
			if (gap > 1 && x->dim[i] > 1) {
				g = guard_new(k, g, ix_mod(k, in[i], gap), 0, 1);
				inside = false;
			}
			in[i] = ix_known(k, ix_div(k, in[i], gap), x->dim[i] - 1);
		}
		LVal *v = value_at(k, x, in, g);
		return inside ? v : in_range(k, n, g, v, constant(k, n, n->dt, 0));
	}
	default:
		bug("view %s", prim_info[n->op].name);
	}
	return value_at(k, x, in, guard);
}

static LVal *
lower_concat(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	int64_t axis = n->at[0], end = n->dim[axis];
	const Ix *in[MAXDIM];
	LVal *v = NULL;
	memcpy(in, idx, sizeof in);
	for (int i = n->nin - 1; i >= 0; i--) {
		int64_t lo = end - n->in[i]->dim[axis];
		if (idx[axis]->lo < end && idx[axis]->hi >= lo) { /* can it be in this operand? */
			bool whole = idx[axis]->lo >= lo && idx[axis]->hi < end;
			Guard *g = whole ? guard : guard_new(k, guard, idx[axis], lo, end);
			in[axis] = end == lo + 1 ? ix_const(k, 0) : ix_plus(k, idx[axis], -lo); /* of one place: where the guard holds, it is 0 */
			LVal *x = value_at(k, n->in[i], in, g);
			v = v ? in_range(k, n, g, x, v) : x;
		}
		end = lo;
	}
	return v;
}

int
prim_cost(Prim op)
{
	switch (op) {
	case P_shuffle: return 100;
	case P_exp: case P_log: case P_log1p: case P_tanh: case P_erf: case P_sin: case P_cos: case P_sigmoid: return 15;
	case P_pow: return 30;
	case P_div: case P_sqrt: case P_rsqrt: case P_mod: return 6;
	default: return 1;
	}
}

static LVal *
reduce_val(Kernel *k, Node *n, LVal *body)
{
	int before = k->nval;
	LVal *v = val_new(k, (LVal){.kind = LV_REDUCE, .node = n, .dt = n->dt, .nin = 1, .in = {body}, .cost = 5});
	if (k->nval > before) {
		v->axes = body->axes & ~(~0u << k->nouter);
		v->level = body->level + 1;
		k->nreduce++;
	}
	return v;
}

/* The conditions of g that a reduction can stand under: not those on the row, whose axes are its own. Without them it is
   computed once too often at most: no index of its operand depends on the row. */
static Guard *
outer_guards(Kernel *k, Guard *g)
{
	if (!g)
		return NULL;
	Guard *up = outer_guards(k, g->up);
	if (g->ix->axes & ~0u << k->nouter)
		return up;
	return up == g->up ? g : guard_new(k, up, g->ix, g->lo, g->hi);
}

static LVal *
lower_reduce(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	Node *x = n->in[0];
	const Ix *in[MAXDIM];
	unsigned rows = ~0u << k->nouter;
	int o = 0, r = 0;
	if (k->region < 0 || !k->reduces) {
		give_up(k, "a reduction inside");
		return constant(k, n, n->dt, 0);
	}
	for (int i = 0; i < x->nd; i++) {
		if (r < n->nat && n->at[r] == i) {
			int axis = k->nouter + r++;
			if (axis >= k->naxis || k->size[axis] != x->dim[i]) {
				give_up(k, "reductions over different axes");
				return constant(k, n, n->dt, 0);
			}
			in[i] = ix_axis(k, axis);
		} else {
			if (idx[o]->axes & rows)
				give_up(k, "a reduction inside a reduction");
			in[i] = idx[o++];
		}
	}
	if (r != k->naxis - k->nouter)
		give_up(k, "reductions over different axes");
	if (k->fail)
		return constant(k, n, n->dt, 0);
	return reduce_val(k, n, value_at(k, x, in, outer_guards(k, guard)));
}

/* fold(g)[.., i, ..] = sum over j of g[.., (i - j*dilation) / stride, .., j] where that is a place of g. */
static LVal *
lower_fold(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	Node *x = n->in[0];
	const Ix *in[MAXDIM];
	int64_t axis = n->at[0], stride = n->at[1], window = x->dim[x->nd - 1];
	unsigned rows = ~0u << k->nouter;
	if (!k->reduces || k->naxis != k->nouter + 1 || k->size[k->nouter] != window)
		give_up(k, "reductions over different axes");
	for (int i = 0; i < n->nd; i++)
		if (idx[i]->axes & rows)
			give_up(k, "a reduction inside a reduction");
	if (k->fail)
		return constant(k, n, n->dt, 0);
	const Ix *j = ix_axis(k, k->nouter), *at = ix_addmul(k, idx[axis], j, -n->at[2]);
	memcpy(in, idx, sizeof in);
	guard = outer_guards(k, guard);
	if (at->lo < 0 || at->hi > (x->dim[axis] - 1) * stride)
		guard = guard_new(k, guard, at, 0, (x->dim[axis] - 1) * stride + 1);
	if (stride > 1) {
		guard = guard_new(k, guard, ix_mod(k, at, stride), 0, 1);
		at = ix_div(k, at, stride);
	}
	in[axis] = ix_known(k, at, x->dim[axis] - 1);
	in[x->nd - 1] = j;
	LVal *v = value_at(k, x, in, guard);
	return reduce_val(k, n, guard ? in_range(k, n, guard, v, constant(k, n, n->dt, 0)) : v);
}

/* Element of n's own place in memory. */
const Ix *
layout_index(Kernel *k, const Node *n, const Ix **idx)
{
	const Layout *l = &k->fusion->layout[n->id];
	const Ix *ix = ix_const(k, stored_in(k->fusion, (Node *)n) == n ? 0 : l->off);
	for (int i = 0; i < n->nd; i++)
		ix = ix_addmul(k, ix, idx[i], l->stride[i]);
	return ix_plain(k, ix);
}

static LVal *
value_new(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	const Fusion *f = k->fusion;
	LVal t = {.kind = LV_PRIM, .node = n, .dt = n->dt, .nin = n->nin, .cost = prim_cost(n->op)};
	const Ix *in[MAXDIM];
	int home = f->home[n->id];
	if (home != INLINE && home != k->region)
		return load(k, n, n, layout_index(k, n, idx), inside(k, n, idx) ? NULL : guard); /* wherever its place exists */
	switch (prim_info[n->op].kind) {
	case K_ELEM:
		for (int i = 0; i < n->nin; i++)
			t.in[i] = value_at(k, n->in[i], idx, guard);
		return n->op == P_stop ? t.in[0] : val_new(k, t);
	case K_LEAF:
		if (n->op == P_const)
			return constant(k, n, n->dt, n->f);
		if (n->op == P_iota)
			return val_new(k, (LVal){.kind = LV_INDEX, .node = n, .dt = n->dt, .ix = idx[n->at[0]], .cost = 1});
		return load(k, n, n, layout_index(k, n, idx), inside(k, n, idx) ? NULL : guard);
	case K_FETCH: {
		Node *rows = n->in[0];
		int64_t width = n->nd > rows->nd ? n->dim[n->nd - 1] : 1;
		LVal *row = value_at(k, rows, idx, guard);
		const Ix *ix = ix_scale(k, ix_val(k, row, INT32_MAX), width);
		return load(k, n, f->column[n->at[0]], width > 1 ? ix_addmul(k, ix, idx[n->nd - 1], 1) : ix, guard);
	}
	case K_RANDOM:
		t.kind = LV_RANDOM;
		t.ix = ix_flatten(k, idx, n->dim, n->nd);
		t.cost = 40;
		for (int i = 0; i < 2; i++)
			t.in[i] = value_at(k, n->in[i], NULL, guard);
		return val_new(k, t);
	case K_VIEW:
		return lower_view(k, n, idx, guard);
	case K_CONCAT:
		return lower_concat(k, n, idx, guard);
	case K_GATHER: {
		Node *table = n->in[0], *ids = n->in[1];
		LVal *id = value_at(k, ids, idx, guard);
		in[0] = ix_val(k, id, table->dim[0] - 1);
		for (int i = 1; i < table->nd; i++)
			in[i] = idx[ids->nd + i - 1];
		return value_at(k, table, in, guard);
	}
	case K_REDUCE:
		return lower_reduce(k, n, idx, guard);
	case K_DOT:
		return f->region[k->region].kind == R_PRODUCT ? lower_product_dot(k, n, idx) : lower_tile_dot(k, n, idx);
	case K_FOLD:
		return lower_fold(k, n, idx, guard);
	default:
		bug("%s in a fused kernel", prim_info[n->op].name);
	}
}

LVal *
value_at(Kernel *k, Node *n, const Ix **idx, Guard *guard)
{
	uint64_t h = hash_u64(HASH_INIT, (uint64_t)n->id);
	Memo *m;
	for (int i = 0; i < n->nd; i++)
		h = hash_u64(h, (uint64_t)(uintptr_t)idx[i]);
	Memo **slot = (Memo **)&k->memo[h % LEN(k->memo)];
	for (m = *slot; m; m = m->next)
		if (m->node == n && m->guard == guard && !memcmp(m->idx, idx ? idx : m->idx, (size_t)n->nd * sizeof *idx))
			return m->val;
	m = arena_alloc(k->arena, sizeof *m);
	m->node = n;
	m->guard = guard;
	if (n->nd)
		memcpy(m->idx, idx, (size_t)n->nd * sizeof *idx);
	m->val = k->fail ? constant(k, n, n->dt, 0) : value_new(k, n, idx, guard);
	slot = (Memo **)&k->memo[h % LEN(k->memo)];
	m->next = *slot;
	*slot = m;
	return m->val;
}

const Ix **
value_index(Kernel *k, const Node *n)
{
	for (size_t i = 0; i < LEN(k->memo); i++)
		for (Memo *m = k->memo[i]; m; m = m->next)
			if (m->node == n)
				return m->idx;
	return NULL;
}

/* ---- axes ---- */

/* What a region runs over: the dims of what is reduced (or of the largest result), and which of them are summed. With
   column sums: parts, rows of a part, and the dims of the row, which are summed. */
typedef struct Extent {
	int nd, nsum;
	bool columns;
	int64_t dim[MAXDIM + 1], sum[MAXDIM + 1];
	int64_t count, kept; /* elements of all, and of one result of the reduction */
} Extent;

static Extent
space_of(const Node *n)
{
	bool reduce = kind_of(n) == K_REDUCE, fold = kind_of(n) == K_FOLD;
	const Node *x = reduce ? n->in[0] : n;
	Extent s = {.nd = x->nd, .nsum = reduce ? n->nat : 0, .count = 1, .kept = node_count(n)};
	memcpy(s.dim, x->dim, (size_t)x->nd * sizeof *s.dim);
	if (reduce)
		memcpy(s.sum, n->at, (size_t)n->nat * sizeof *s.sum);
	if (fold) { /* the window is summed */
		s.dim[s.nd] = n->in[0]->dim[n->in[0]->nd - 1];
		s.sum[s.nsum++] = s.nd++;
	}
	for (int i = 0; i < s.nd; i++)
		s.count *= s.dim[i];
	return s;
}

/* Merged axes are walked as what they were: their places are the same, and no index of the operand divides. Of the innermost
   ones so many stay merged that the loop is no short one, and of whole vectors where it was:
     [64, 32, 32, 3 * 3 * 16] -> [64, 32, 32, 3, 3, 16],  [64, 32, 32, 3 * 3 * 3] -> [64, 32, 32, 3, 3 * 3]
   For C, where a division costs more than a short loop, none does (but see collapse.c). */
static void
unmerge(Extent *s, const Node *n, bool cuda)
{
	if (s->nsum || n->op != P_reshape || !n->nd || !n->in[0]->nd)
		return;
	const Node *x = n->in[0];
	int nd = 0, last = x->nd - 1;
	int64_t inner = x->dim[last], whole = n->dim[n->nd - 1];
	while (cuda && last > 0 && (inner < 8 || (inner % 4 && whole % 4 == 0)))
		inner *= x->dim[--last];
	for (int i = 0; i < last; i++)
		if (x->dim[i] > 1)
			s->dim[nd++] = x->dim[i];
	s->dim[nd++] = inner;
	s->nd = nd;
}

void
add_axis(Kernel *k, int64_t size)
{
	if (k->naxis == MAXAXIS) {
		give_up(k, "too many axes");
		return;
	}
	k->size[k->naxis++] = size;
}

/* Sums rows into columns: the last dim stays. */
static bool
is_column_sum(const Node *n)
{
	return n->op == P_reduce_sum && n->nat && n->in[0]->nd && n->at[n->nat - 1] < n->in[0]->nd - 1 && node_count(n) > 1;
}

/* Do the summed dims lie side by side? Then the elements before, in and after them. */
static bool
split_extent(const Node *n, int64_t part[3])
{
	const Node *x = n->in[0];
	int64_t first = n->at[0], last = n->at[n->nat - 1];
	if (last - first != n->nat - 1)
		return false;
	part[0] = part[1] = part[2] = 1;
	for (int i = 0; i < x->nd; i++)
		part[i < first ? 0 : i <= last ? 1 : 2] *= x->dim[i];
	return true;
}

/* A region that sums along rows and also over the rows of parts (as the gradient of a normalisation does): one kernel, in
   which a block has a part. s is the row sums' space on entry. False if the sums do not fit together. */
static bool
column_space(const Region *r, Extent *s)
{
	int64_t first[3] = {0}, part[3], rows = s->kept, row = s->count / (rows ? rows : 1);
	int n = 0;
	for (int i = 0; i < r->nnode; i++) {
		if (kind_of(r->node[i]) != K_REDUCE || !is_column_sum(r->node[i]))
			continue;
		if (!split_extent(r->node[i], part) || part[2] != row || part[0] * part[1] != rows || part[0] < 64)
			return false;
		if (n++ == 0)
			memcpy(first, part, sizeof first);
		else if (part[0] != first[0])
			return false;
	}
	if (n * row > 2048 || row > 1024) /* sums that a thread holds */
		return false;
	Extent t = {.nd = 2, .columns = true, .dim = {first[0], first[1]}, .count = s->count, .kept = rows};
	for (int i = 0; i < s->nsum; i++) {
		t.sum[t.nsum++] = t.nd;
		t.dim[t.nd++] = s->dim[s->sum[i]];
	}
	*s = t;
	return true;
}

/* The index of a stored node: its own space, or that of the row, in row-major order. */
static bool
store_index(Kernel *k, const Node *n, const Extent *space, const Ix **idx, bool *row)
{
	const Ix *full[MAXDIM + 1], *outer[MAXDIM + 1];
	int64_t kept[MAXDIM + 1];
	int o = 0, r = 0;
	for (int i = 0; i < space->nd; i++) {
		if (r < space->nsum && space->sum[r] == i) {
			full[i] = ix_axis(k, k->nouter + r++);
		} else {
			kept[o] = space->dim[i];
			full[i] = outer[o] = ix_axis(k, o), o++;
		}
	}
	*row = node_count(n) == space->count;
	if (*row) {
		ix_unflatten(k, ix_flatten(k, full, space->dim, space->nd), n->dim, n->nd, idx);
		return true;
	}
	if (!space->nsum || node_count(n) != space->kept)
		return false;
	ix_unflatten(k, ix_flatten(k, outer, kept, o), n->dim, n->nd, idx);
	return true;
}

static void
add_arg(Kernel *k, Node *n, int64_t off, int64_t count)
{
	n = stored_in(k->fusion, n);
	for (int i = 0; i < k->narg; i++)
		if (k->arg[i].node == n && k->arg[i].off == off) {
			if (k->arg[i].count < count)
				k->arg[i].count = count;
			return;
		}
	k->arg[k->narg++] = (Arg){n, off, count};
}

#define PACKED 4096 /* elements from which a vector is taken for a packed one */

int64_t
load_start(const Kernel *k, const LVal *v)
{
	const Node *b = v->base;
	for (int s = 0; s < k->nstore; s++)
		if (b->op == P_state && k->fusion->layout[k->store[s].node->id].state == b->at[0])
			return 0;
	bool packed = b->id >= 0 && b->nd == 1 && b->dim[0] >= PACKED && !v->guard && v->ix->lo == v->ix->c;
	return packed ? v->ix->c : 0;
}

/* Arguments in the order of use: loads, then stores. A buffer both read and written stands once, among the stores. */
static void
collect_args(Kernel *k)
{
	Node *n = k->store[0].node;
	k->arg = arena_alloc(k->arena, (size_t)(2 * k->nval + 2 * k->nstore + 2) * sizeof *k->arg);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		bool stored = false;
		for (int s = 0; s < k->nstore; s++) {
			const Layout *l = &k->fusion->layout[k->store[s].node->id];
			stored |= v->kind == LV_LOAD && (l->state >= 0 ? v->base->op == P_state && v->base->at[0] == l->state : v->base == k->store[s].node);
		}
		int64_t start = v->kind == LV_LOAD && !stored ? load_start(k, v) : 0;
		if (v->kind == LV_LOAD && !stored)
			add_arg(k, v->base, start, start ? v->ix->hi + 1 - start : 0);
		for (int j = 0; v->kind == LV_DOT && v->dot && j < 2; j++)
			add_arg(k, v->dot[j].base, 0, 0);
	}
	for (int s = 0; s < k->nstore; s++)
		if (k->store[s].dot)
			add_arg(k, k->store[s].dot->base, 0, 0);
	if (n->op == P_run_sum || n->op == P_row_sum)
		add_arg(k, n->in[0], 0, 0);
	if (n->op == P_row_sum)
		add_arg(k, n->in[2], 0, 0);
	k->nload = k->narg;
	for (int s = 0; s < k->nstore; s++)
		add_arg(k, k->store[s].node, 0, 0);
}

static bool
varies_along(const Ix *ix, int axis)
{
	for (int i = 0; i < ix->n; i++)
		if (ix->t[i].a->axes >> axis & 1)
			return true;
	return false;
}

/* Threads walk the row together, unless memory is contiguous along the last outer axis and not along the row. */
static void
choose_serial(Kernel *k)
{
	int64_t along_row = 0, along_outer = 0;
	int row = k->naxis - 1, outer = k->nouter - 1;
	while (row > k->nouter && k->size[row] == 1)
		row--;
	while (outer > 0 && k->size[outer] == 1)
		outer--;
	if (!k->reduces || outer < 0 || k->columns)
		return;
	for (int i = 0; i < k->nval; i++) {
		/* a load that does not vary along the outer axis is one for all threads of a serial kernel */
		if (k->val[i]->kind != LV_LOAD || k->val[i]->axes >> k->nouter == 0 || !varies_along(k->val[i]->ix, outer))
			continue;
		along_row += ix_local_stride(k->val[i]->ix, row) == 1;
		along_outer += ix_local_stride(k->val[i]->ix, outer) == 1;
	}
	for (int i = 0; i < k->nstore; i++) {
		if (!k->store[i].row)
			continue;
		along_row += ix_local_stride(k->store[i].ix, row) == 1;
		along_outer += ix_local_stride(k->store[i].ix, outer) == 1;
	}
	k->serial = along_outer > along_row;
	if (k->row <= 8 && k->outer >= 1024)
		k->serial = true;
}

static bool
loads_state(const LVal *v, int state)
{
	return v->kind == LV_LOAD && v->base->op == P_state && v->base->at[0] == state;
}

/* A state stored in place is read at the very element that is written, or another thread might read it too late; and in no walk
   along the row that comes after the one that writes it, where loads are repeated. */
static void
check_in_place(Kernel *k)
{
	for (int s = 0; s < k->nstore; s++) {
		int state = k->fusion->layout[k->store[s].node->id].state;
		for (int i = 0; state >= 0 && i < k->nval; i++) {
			LVal *v = k->val[i];
			if (loads_state(v, state) && v->ix != k->store[s].ix)
				give_up(k, "a state is read elsewhere than where it is written");
			for (int j = 0; j < v->nin && v->level > k->store[s].val->level; j++)
				if (loads_state(v->in[j], state))
					give_up(k, "a state is read after it is written");
		}
	}
}

/* Is what is stored computed at other places, too, than where it is stored? */
static bool
computed_elsewhere(Kernel *k)
{
	for (int s = 0; s < k->nstore; s++) {
		const Node *n = k->store[s].node;
		const Ix **at = value_index(k, n);
		for (size_t i = 0; i < LEN(k->memo); i++)
			for (Memo *m = k->memo[i]; m; m = m->next)
				if (m->node == n && memcmp(m->idx, at, (size_t)n->nd * sizeof *at))
					return true;
	}
	return false;
}

/* Limits that keep a kernel a good one. */
static void
check_shape(Kernel *k)
{
	bool again = false; /* the row is needed after a reduction over it */
	for (int i = 0; i < k->nval; i++)
		again |= k->val[i]->level > 0 && k->val[i]->axes >> k->nouter != 0;
	if (again && k->row > 8192)
		give_up(k, "the row is too long to be kept");
	if (again && k->serial && k->row > 256)
		give_up(k, "the row is walked by one thread");
	if (k->narg > 28)
		give_up(k, "too many arguments");
	if (!k->fusion->cuda && computed_elsewhere(k)) /* as windows of a picture, and its places: two plain loops are faster */
		give_up(k, "it is stored in another order than it is read in");
	if (k->reduces && k->nreduce == 0)
		give_up(k, "no reduction left");
	if (k->nreduce > 8)
		give_up(k, "too many reductions");
}

/* Of a column sum what is summed, and where a part's sums go. */
static void
lower_column(Kernel *k, Node *n, const Extent *space, LStore *s)
{
	Node *x = n->in[0];
	const Ix *full[MAXDIM + 1], *idx[MAXDIM];
	int64_t dim[MAXDIM + 1];
	for (int i = 0; i < space->nd; i++)
		full[i] = ix_axis(k, i);
	ix_unflatten(k, ix_flatten(k, full, space->dim, space->nd), x->dim, x->nd, idx);
	*s = (LStore){.node = n, .val = value_at(k, x, idx, NULL), .row = true, .column = true};
	full[1] = full[0];
	memcpy(dim, space->dim, sizeof dim);
	dim[1] = dim[0];
	ix_unflatten(k, ix_flatten(k, full + 1, dim + 1, space->nd - 1), n->dim, n->nd, idx);
	s->ix = layout_index(k, n, idx);
	k->columns = true;
}

static bool
lower_stores(Kernel *k, const Region *r, const Extent *space)
{
	const Fusion *f = k->fusion;
	const Ix *idx[MAXDIM];
	k->store = arena_alloc(k->arena, (size_t)r->nnode * sizeof *k->store);
	for (int i = 0; i < r->nnode; i++) {
		Node *n = r->node[i];
		LStore *s = &k->store[k->nstore];
		if (!f->stored[n->id])
			continue;
		if (space->columns && kind_of(n) == K_REDUCE && is_column_sum(n)) {
			lower_column(k, n, space, s);
			k->nstore++;
			continue;
		}
		if (!store_index(k, n, space, idx, &s->row)) {
			give_up(k, "results of different sizes");
			return false;
		}
		s->node = n;
		s->val = value_at(k, n, idx, NULL);
		s->ix = layout_index(k, n, idx);
		s->row = s->row && space->nsum;
		if (!s->row && s->val->axes >> k->nouter)
			give_up(k, "a result varies along the row");
		k->nstore++;
	}
	return !k->fail;
}

void
lower_columns(Kernel *k, const Region *r, int64_t parts, int64_t rows, int64_t columns, int64_t places)
{
	Extent s = {.nd = 3, .nsum = 1, .columns = true, .sum = {2}, .dim = {parts, rows, columns}, .count = parts * rows * columns, .kept = parts * rows};
	int64_t part[3];
	for (int i = 0; i < r->nnode; i++) {
		Node *n = r->node[i];
		if (kind_of(n) != K_REDUCE)
			continue;
		if (!is_column_sum(n) || !split_extent(n, part) || part[2] != columns || part[0] * part[1] != s.kept || (s.dim[0] > 1 && part[0] != s.dim[0])) {
			give_up(k, "sums that do not fit a product's rows");
			return;
		}
		s.dim[0] = part[0];
		s.dim[1] = part[1];
		k->columns = true;
	}
	lower_space(k, s.dim[0], s.dim[1], columns, places);
	lower_stores(k, r, &s);
}

void
lower_space(Kernel *k, int64_t parts, int64_t rows, int64_t columns, int64_t places)
{
	add_axis(k, parts);
	add_axis(k, rows);
	add_axis(k, columns);
	add_axis(k, places);
	k->nouter = 2;
}

void
lower_at(Kernel *k, const Region *r, const Node *like, const Ix **idx)
{
	k->store = arena_alloc(k->arena, (size_t)r->nnode * sizeof *k->store);
	for (int i = 0; i < r->nnode; i++) {
		Node *n = r->node[i];
		if (!k->fusion->stored[n->id])
			continue;
		if (kind_of(n) == K_REDUCE || n->nd != like->nd || memcmp(n->dim, like->dim, (size_t)n->nd * sizeof *n->dim))
			give_up(k, "results of different sizes");
		else
			k->store[k->nstore++] = (LStore){.node = n, .val = value_at(k, n, idx, NULL), .ix = layout_index(k, n, idx), .row = true};
	}
}

/* Sums along rows and column sums in one region. */
static void
mixed_space(Kernel *k, const Region *r, Extent *space)
{
	const Node *row = NULL, *column = NULL;
	for (int i = 0; i < r->nnode; i++)
		if (kind_of(r->node[i]) == K_REDUCE)
			*(is_column_sum(r->node[i]) ? &column : &row) = r->node[i];
	if (!row || !column)
		return;
	*space = space_of(row);
	if (row->at[row->nat - 1] != row->in[0]->nd - 1 || !column_space(r, space))
		give_up(k, "sums of rows and of columns that do not fit together");
}

static void
lower_loop(Kernel *k, const Region *r)
{
	Extent space = {0};
	bool stored = false; /* the space is that of a result: its last axis is what lies side by side */
	for (int i = 0; i < r->nnode; i++) {
		Extent s = space_of(r->node[i]);
		bool sums = s.nsum && !space.nsum, out = k->fusion->stored[r->node[i]->id];
		if (sums || (!space.nsum && (s.count > space.count || (s.count == space.count && out && !stored))) || i == 0) {
			space = s;
			stored = out;
		}
		if (space.count == s.count)
			unmerge(&space, r->node[i], k->fusion->cuda);
	}
	if (k->fusion->cuda)
		mixed_space(k, r, &space);
	for (int i = 0, q = 0; i < space.nd; i++) {
		if (q < space.nsum && space.sum[q] == i)
			q++;
		else
			add_axis(k, space.dim[i]);
	}
	k->nouter = k->naxis;
	for (int i = 0; i < space.nsum; i++)
		add_axis(k, space.dim[space.sum[i]]);
	k->reduces = space.nsum > 0;
	if (k->fail)
		return;
	lower_stores(k, r, &space);
}

static void
lower_scatter(Kernel *k, Node *n)
{
	Node *x = n->in[1], *ids = n->op == P_scatter_add ? n->in[0] : n->in[0]->in[0];
	const Ix *idx[MAXDIM], *out[MAXDIM];
	k->scatter = true;
	for (int i = 0; i < x->nd; i++)
		add_axis(k, x->dim[i]);
	k->nouter = ids->nd; /* positions; what is left is the row */
	if (k->fail)
		return;
	for (int i = 0; i < x->nd; i++)
		idx[i] = ix_axis(k, i);
	k->store = arena_alloc(k->arena, sizeof *k->store);
	k->store[0].node = n;
	k->store[0].row = true;
	k->nstore = 1;
	if (n->op == P_scatter_add) {
		k->id = value_at(k, ids, idx, NULL);
		out[0] = ix_val(k, k->id, n->dim[0] - 1);
		for (int i = 1; i < n->nd; i++)
			out[i] = idx[ids->nd + i - 1];
		k->store[0].ix = layout_index(k, n, out);
	}
	k->store[0].val = value_at(k, x, idx, NULL);
}

Kernel *
kernel_lower(Arena *a, const Fusion *f, int region, Node *n)
{
	const Region *r = &f->region[region];
	Kernel *k = arena_alloc(a, sizeof *k);
	k->arena = a;
	k->fusion = f;
	k->region = region;
	if (r->kind == R_SCATTER)
		lower_scatter(k, n ? n : r->node[0]);
	else if (r->kind == R_TILE)
		lower_tile(k, r);
	else if (r->kind == R_PRODUCT)
		lower_product(k, r);
	else
		lower_loop(k, r);
	if (k->fail)
		return k;
	k->outer = k->row = 1;
	for (int i = 0; i < k->naxis; i++)
		*(i < k->nouter ? &k->outer : &k->row) *= k->size[i];
	collect_args(k);
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->level >= k->nlevel)
			k->nlevel = k->val[i]->level + 1;
	if (r->kind == R_LOOP || (r->kind == R_PRODUCT && !f->cuda))
		check_in_place(k);
	if (r->kind == R_LOOP) {
		choose_serial(k);
		check_shape(k);
	}
	return k;
}
