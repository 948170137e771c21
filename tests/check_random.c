/* Random valid graphs: steps that each take values made so far and add one or more. Operands are brought to the shape that a
   step needs by views, so views come in all combinations. A seed gives the same graph on every machine.

   Arguments of functions are kept where the functions are defined and their values moderate, so that float64 and float32
   mean the same; what rounding can turn all the same (floor, comparisons) is left to check_bound.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_graph.h"

#define MAXPOOL 256

typedef struct Gen {
	uint64_t s;
	Arena *arena;
	Lib *lib;
	Lower *w;
	Graph *g;
	Node *pool[MAXPOOL]; /* values that steps can take */
	int n;
	int64_t size[5];     /* sizes that dims have, most of them */
	int64_t most;        /* elements of a value */
	bool scanning;       /* in a step: definitions are not called, which may have loops of their own */
} Gen;

static int64_t below(Gen *x, int64_t n) { return random_below(&x->s, n); }
static bool chance(Gen *x, int percent) { return below(x, 100) < percent; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static Node *
add(Gen *x, Node *n)
{
	bool huge = node_count(n) > x->most || node_count(n) == 0;
	if (x->n < MAXPOOL && !huge && n->op != P_const)
		x->pool[x->n++] = n;
	return n;
}

/* ---- shapes ---- */

static int64_t a_size(Gen *x) { return x->size[below(x, LEN(x->size))]; }

/* A shape of at most so many elements. */
static int
some_dims(Gen *x, int64_t *dim, int64_t most)
{
	int nd = (int)below(x, 5);
	int64_t count = 1;
	for (int i = 0; i < nd; i++) {
		dim[i] = a_size(x);
		if (count * dim[i] > most)
			dim[i] = 1 + below(x, min64(4, most / count));
		count *= dim[i];
	}
	return nd;
}

static Node *
input(Gen *x, DType dt, int64_t bound, const int64_t *dim, int nd)
{
	GInput in = {.name = arena_printf(x->arena, "x%d", x->g->ninput), .dt = dt, .below = bound, .nd = nd};
	memcpy(in.dim, dim, (size_t)nd * sizeof *dim);
	return add(x, mk_input(x->g, graph_input(x->g, in)));
}

/* A value of a type, often a late one; made if there is none. */
static Node *
pick(Gen *x, DType dt)
{
	int64_t dim[MAXDIM] = {0};
	for (int turn = 0; turn < 12; turn++) {
		int64_t i = chance(x, 60) ? x->n - 1 - below(x, min64(x->n, 4)) : below(x, x->n);
		if (x->n && x->pool[i]->dt == dt)
			return x->pool[i];
	}
	int nd = some_dims(x, dim, x->most);
	if (dt == DT_BOOL && chance(x, 70)) {
		Node *a = input(x, DT_F32, 0, dim, nd);
		return add(x, mk2(x->g, P_lt, a, mk_like(x->g, 0.25, a)));
	}
	return input(x, dt, dt == DT_I32 ? 1 + below(x, 9) : 0, dim, nd);
}

/* ---- views ---- */

static bool
same_dims(const Node *n, const int64_t *dim, int nd)
{
	return n->nd == nd && !memcmp(n->dim, dim, (size_t)nd * sizeof *dim);
}

static Node *
flat(Gen *x, Node *n)
{
	int64_t count = node_count(n);
	return mk_reshape(x->g, n, &count, 1);
}

/* Repeats n along dims that it lacks, where its own are among dim in any order. */
static Node *
try_expand(Gen *x, Node *n, const int64_t *dim, int nd)
{
	int64_t map[MAXDIM];
	int from = (int)below(x, nd + 1);
	for (int i = 0; i < nd; i++)
		map[i] = -1;
	for (int k = 0; k < n->nd; k++) {
		int i = 0;
		while (i < nd && (map[(i + from) % nd] >= 0 || dim[(i + from) % nd] != n->dim[k]))
			i++;
		if (i == nd)
			return NULL;
		map[(i + from) % nd] = k;
	}
	return mk_expand(x->g, n, dim, nd, map);
}

/* n with another number of elements, flat. */
static Node *
recount(Gen *x, Node *n, int64_t count)
{
	int64_t have = node_count(n), lo = 0, step = 1, repeat;
	if (have > count) {
		step = 1 + below(x, count > 1 ? (have - 1) / (count - 1) : 1);
		lo = below(x, have - (count - 1) * step);
		return mk_slice(x->g, flat(x, n), &lo, &step, &count);
	}
	repeat = count / have;
	if (repeat * have == count && chance(x, 60)) {
		bool first = chance(x, 50);
		int64_t dim[2] = {first ? repeat : have, first ? have : repeat}, map[2] = {first ? -1 : 0, first ? 0 : -1};
		return flat(x, mk_expand(x->g, flat(x, n), dim, 2, map));
	}
	lo = below(x, count - have + 1);
	return mk_pad(x->g, flat(x, n), &lo, (int64_t[]){1}, &count);
}

/* n brought to a shape by views. */
static Node *
fit(Gen *x, Node *n, const int64_t *dim, int nd)
{
	int64_t count = 1;
	Node *e;
	if (same_dims(n, dim, nd))
		return n;
	if (chance(x, 85) && (e = try_expand(x, n, dim, nd)))
		return e;
	for (int i = 0; i < nd; i++)
		count *= dim[i];
	return mk_reshape(x->g, count == node_count(n) ? n : recount(x, n, count), dim, nd);
}

static Node *
step_permute(Gen *x, Node *n)
{
	int64_t perm[MAXDIM];
	for (int i = 0; i < n->nd; i++) {
		int k = (int)below(x, i + 1);
		perm[i] = perm[k];
		perm[k] = i;
	}
	return mk_permute(x->g, n, perm);
}

/* Dims are joined and cut at random. */
static Node *
step_reshape(Gen *x, Node *n)
{
	int64_t dim[MAXDIM];
	int nd = 0;
	for (int i = 0; i < n->nd; i++) {
		int64_t d = n->dim[i], f = 2 + below(x, 6);
		if (nd && chance(x, 35))
			dim[nd - 1] *= d;
		else if (d % f == 0 && nd + 1 < 6 && chance(x, 40))
			dim[nd++] = f, dim[nd++] = d / f;
		else if (nd < 6)
			dim[nd++] = d;
		else
			dim[nd - 1] *= d;
	}
	if (nd < 5 && chance(x, 15))
		dim[nd++] = 1;
	return mk_reshape(x->g, n, dim, nd);
}

static Node *
step_slice(Gen *x, Node *n)
{
	int64_t lo[MAXDIM], step[MAXDIM], dim[MAXDIM];
	for (int i = 0; i < n->nd; i++) {
		int64_t d = n->dim[i];
		bool whole = chance(x, 40);
		dim[i] = whole ? d : 1 + below(x, d);
		step[i] = dim[i] > 1 && chance(x, 40) ? 1 + below(x, (d - 1) / (dim[i] - 1)) : 1;
		lo[i] = below(x, d - (dim[i] - 1) * step[i]);
	}
	return mk_slice(x->g, n, lo, step, dim);
}

static Node *
step_pad(Gen *x, Node *n)
{
	int64_t lo[MAXDIM], step[MAXDIM], dim[MAXDIM];
	for (int i = 0; i < n->nd; i++) {
		int64_t gap = chance(x, 30) ? 1 + below(x, 3) : 1, span = n->dim[i] ? (n->dim[i] - 1) * gap + 1 : 0;
		lo[i] = chance(x, 50) ? below(x, 3) : 0;
		dim[i] = lo[i] + span + (chance(x, 40) ? below(x, 4) : 0);
		step[i] = gap;
		if (n->dim[i] && chance(x, 15)) { /* backwards */
			lo[i] += span - 1;
			step[i] = -gap;
		}
	}
	return mk_pad(x->g, n, lo, step, dim);
}

static Node *
step_expand(Gen *x, Node *n)
{
	int64_t map[MAXDIM], dim[MAXDIM];
	int nd = 0, k = 0, more = n->nd < 5 ? 1 + (int)below(x, 2) : 0;
	while (k < n->nd || more) {
		bool repeat = more && (k == n->nd || chance(x, 40));
		dim[nd] = repeat ? a_size(x) : n->dim[k];
		map[nd++] = repeat ? -1 : k++;
		more -= repeat;
	}
	if (chance(x, 20) && nd > 1) { /* a permutation, too */
		int i = (int)below(x, nd), j = (int)below(x, nd);
		int64_t d = dim[i], m = map[i];
		dim[i] = dim[j], map[i] = map[j];
		dim[j] = d, map[j] = m;
	}
	return mk_expand(x->g, n, dim, nd, map);
}

static Node *
window(Gen *x, Node *n, int64_t *at)
{
	int64_t dim[MAXDIM];
	int axis = (int)below(x, n->nd);
	int64_t d = n->dim[axis], width = 1 + below(x, min64(d, 4)), dilation = width > 1 ? 1 + below(x, min64(3, (d - 1) / (width - 1))) : 1;
	int64_t room = d - (width - 1) * dilation, stride = 1 + below(x, 3);
	memcpy(dim, n->dim, sizeof dim);
	dim[axis] = 1 + (room - 1) / stride;
	if (chance(x, 20))
		dim[axis] = 1 + below(x, dim[axis]);
	dim[n->nd] = width;
	memcpy(at, (int64_t[]){axis, stride, dilation}, 3 * sizeof *at);
	return node_new(x->g, P_window, 0, &n, 1, dim, n->nd + 1, at, 3, 0);
}

static Node *
step_window(Gen *x, Node *n)
{
	int64_t at[3];
	return n->nd && n->nd < 5 ? window(x, n, at) : n;
}

static Node *
step_fold(Gen *x, Node *n)
{
	int64_t at[3];
	if (!n->nd || n->nd > 4)
		return n;
	Node *y = add(x, window(x, n, at));
	if (chance(x, 60) && y->dt == DT_F32)
		y = mk2(x->g, P_mul, y, fit(x, pick(x, DT_F32), y->dim, y->nd));
	if (y->dt == DT_BOOL) /* folds add */
		y = mk_cast(x->g, y, DT_F32);
	return node_new(x->g, P_fold, 0, &y, 1, n->dim, n->nd, at, 3, 0);
}

static Node *
step_concat(Gen *x, Node *n)
{
	Node *in[12];
	int64_t dim[MAXDIM], count = 1 + below(x, 3);
	if (!n->nd || chance(x, 15)) { /* as the packed gradients: many flat ones */
		n = flat(x, n);
		count = 1 + below(x, 11);
	}
	int axis = (int)below(x, n->nd);
	in[0] = n;
	for (int i = 1; i <= count; i++) {
		memcpy(dim, n->dim, sizeof dim);
		dim[axis] = chance(x, 50) ? 1 + below(x, 4) : a_size(x);
		in[i] = fit(x, pick(x, n->dt), dim, n->nd);
	}
	return mk_concat(x->g, in, (int)count + 1, axis);
}

static const struct {
	Node *(*make)(Gen *, Node *);
	int weight;
} views[] = {{step_permute, 3}, {step_reshape, 3}, {step_slice, 3}, {step_pad, 2}, {step_expand, 3}, {step_window, 2}, {step_fold, 2}, {step_concat, 3}};

static Node *
one_view(Gen *x, Node *n)
{
	int64_t sum = 0, i = 0;
	for (size_t k = 0; k < LEN(views); k++)
		sum += views[k].weight;
	sum = below(x, sum);
	while (sum >= views[i].weight)
		sum -= views[i++].weight;
	Node *v = views[i].make(x, n);
	return node_count(v) > x->most || node_count(v) == 0 ? n : v;
}

static void
step_views(Gen *x)
{
	static const DType types[] = {DT_F32, DT_F32, DT_F32, DT_I32, DT_BOOL};
	Node *n = pick(x, types[below(x, LEN(types))]);
	for (int64_t k = 1 + below(x, 3); k > 0; k--)
		if (n->dt != DT_BOOL || n->nd)
			n = one_view(x, n);
	add(x, n);
}

/* ---- arithmetic ---- */

static Node *constant(Gen *x, Node *n, double f) { return mk_const(x->g, n->dt, f, n->dim, n->nd); }

/* n where the function is smooth and moderate. */
static Node *
tame(Gen *x, Prim op, Node *n)
{
	Graph *g = x->g;
	switch (op) {
	case P_exp: return chance(x, 50) ? mk1(g, P_tanh, n) : mk2(g, P_min, n, constant(x, n, 2));
	case P_log:
	case P_log1p:
	case P_sqrt:
	case P_rsqrt: return mk2(g, P_add, mk1(g, P_abs, n), constant(x, n, 0.375));
	default: return n;
	}
}

static void
step_unary(Gen *x)
{
	static const Prim ops[] = {P_neg, P_abs, P_sign, P_exp, P_log, P_log1p, P_sqrt, P_rsqrt, P_tanh, P_sigmoid, P_erf, P_sin, P_cos, P_floor, P_tanh, P_exp};
	Prim op = ops[below(x, LEN(ops))];
	Node *n = pick(x, DT_F32);
	add(x, mk1(x->g, op, tame(x, op, n)));
}

static void
step_binary(Gen *x)
{
	static const Prim ops[] = {P_add, P_add, P_sub, P_sub, P_mul, P_mul, P_mul, P_div, P_max, P_min, P_pow};
	Prim op = ops[below(x, LEN(ops))];
	Node *a = pick(x, DT_F32), *b = pick(x, DT_F32);
	if (node_count(b) > node_count(a)) {
		Node *t = a;
		a = b, b = t;
	}
	b = chance(x, 20) ? constant(x, a, (double)below(x, 9) / 4 - 1) : fit(x, b, a->dim, a->nd);
	if (op == P_pow) {
		a = tame(x, P_log, a);
		b = b->op == P_const ? b : mk1(x->g, P_tanh, b);
	}
	if (op == P_div)
		b = tame(x, P_log, b);
	add(x, chance(x, 50) || op == P_pow || op == P_div ? mk2(x->g, op, a, b) : mk2(x->g, op, b, a));
}

static void
step_choice(Gen *x)
{
	static const Prim ops[] = {P_lt, P_le, P_eq, P_ne}, logic[] = {P_and, P_or};
	DType dt = chance(x, 70) ? DT_F32 : DT_I32;
	Node *a = pick(x, dt), *b = fit(x, pick(x, dt), a->dim, a->nd);
	Node *c = mk2(x->g, ops[below(x, LEN(ops))], a, chance(x, 30) ? constant(x, a, 0) : b);
	if (chance(x, 30))
		c = mk2(x->g, logic[below(x, 2)], c, fit(x, pick(x, DT_BOOL), a->dim, a->nd));
	if (chance(x, 20))
		c = mk1(x->g, P_not, c);
	add(x, c);
	if (chance(x, 70))
		add(x, mk3(x->g, P_select, c, chance(x, 30) ? constant(x, a, 1) : a, b));
}

static void
step_int(Gen *x)
{
	static const Prim ops[] = {P_add, P_sub, P_mul, P_div, P_mod, P_max, P_min};
	Node *a = pick(x, DT_I32), *b = chance(x, 40) ? constant(x, a, (double)(1 + below(x, 5))) : fit(x, pick(x, DT_I32), a->dim, a->nd);
	a = mk2(x->g, ops[below(x, LEN(ops))], a, b);
	if (chance(x, 30) && a->nd)
		a = mk2(x->g, P_add, a, node_new(x->g, P_iota, DT_I32, NULL, 0, a->dim, a->nd, (int64_t[]){below(x, a->nd)}, 1, 0));
	add(x, a);
}

static void
step_cast(Gen *x)
{
	static const DType types[] = {DT_F32, DT_I32, DT_BOOL};
	DType from = types[below(x, 3)], to = types[below(x, 3)];
	Node *n = pick(x, from);
	add(x, mk_cast(x->g, n, from == to ? DT_F32 : to));
}

/* ---- sums, products, tables ---- */

static void
step_reduce(Gen *x)
{
	Node *n = pick(x, chance(x, 90) ? DT_F32 : DT_I32);
	int64_t axes[MAXDIM];
	int k = 0;
	bool max = chance(x, 30);
	for (int i = 0; i < n->nd; i++)
		if (chance(x, 50) || (k == 0 && i + 1 == n->nd))
			axes[k++] = i;
	Node *r = add(x, mk_reduce(x->g, max ? P_reduce_max : P_reduce_sum, n, axes, k));
	if (!chance(x, 50) || !k)
		return;
	int64_t map[MAXDIM]; /* as in norms: back over what was summed */
	for (int i = 0, j = 0, at = 0; i < n->nd; i++)
		map[i] = j < k && axes[j] == i ? (j++, -1) : at++;
	Node *e = mk_expand(x->g, r, n->dim, n->nd, map);
	if (n->dt == DT_F32 && !max)
		e = mk2(x->g, P_mul, e, mk_like(x->g, 1.0 / (double)(node_count(n) / node_count(r)), e));
	add(x, mk2(x->g, P_sub, n, e));
}

/* sum(a * b) over labels that each side has or lacks: most are found by contract. */
static void
step_dot(Gen *x)
{
	int64_t dim[MAXDIM], da[MAXDIM], db[MAXDIM], ma[MAXDIM], mb[MAXDIM], axes[MAXDIM];
	int nd = 2 + (int)below(x, 4), na = 0, nb = 0, k = 0;
	int64_t count = 1;
	for (int i = 0; i < nd; i++) {
		int kind = (int)below(x, 10); /* summed, a's, b's, both's; seldom in one alone and summed */
		bool a = kind != 4 && kind != 5 && kind != 9, b = kind != 2 && kind != 3 && kind != 8, sum = kind < 2 || kind == 8 || kind == 9;
		dim[i] = a_size(x);
		if (count * dim[i] > 4 * x->most)
			dim[i] = 1;
		count *= dim[i];
		if (a)
			da[na] = dim[i];
		if (b)
			db[nb] = dim[i];
		ma[i] = a ? na++ : -1;
		mb[i] = b ? nb++ : -1;
		if (sum)
			axes[k++] = i;
	}
	Node *a = fit(x, pick(x, DT_F32), da, na), *b = fit(x, pick(x, DT_F32), db, nb);
	if (chance(x, 30)) { /* operands whose axes lie in another order */
		for (int i = 0; i < na / 2; i++) {
			int64_t d = da[i];
			da[i] = da[na - 1 - i], da[na - 1 - i] = d;
		}
		a = fit(x, pick(x, DT_F32), da, na);
		for (int i = 0; i < nd; i++)
			ma[i] = ma[i] < 0 ? -1 : na - 1 - ma[i];
	}
	Node *p = mk2(x->g, P_mul, mk_expand(x->g, a, dim, nd, ma), mk_expand(x->g, b, dim, nd, mb));
	Node *y = add(x, mk_reduce(x->g, P_reduce_sum, p, axes, k));
	if (chance(x, 40) && y->nd) /* bias */
		add(x, mk2(x->g, P_add, y, fit(x, fit(x, pick(x, DT_F32), &y->dim[y->nd - 1], 1), y->dim, y->nd)));
}

static Node *
some_ids(Gen *x, int64_t rows, int64_t most)
{
	int64_t dim[MAXDIM];
	if (chance(x, 50)) {
		Node *n = pick(x, DT_I32);
		if (node_count(n) <= most)
			return n;
	}
	int nd = some_dims(x, dim, min64(most, 300));
	return input(x, DT_I32, rows, dim, nd);
}

static void
step_gather(Gen *x)
{
	Node *t = pick(x, chance(x, 80) ? DT_F32 : DT_I32);
	if (!t->nd)
		return;
	Node *ids = some_ids(x, t->dim[0], x->most / (node_count(t) / t->dim[0]));
	if (t->nd + ids->nd - 1 <= 5)
		add(x, node_new(x->g, P_gather, 0, (Node *[]){t, ids}, 2, NULL, 0, NULL, 0, 0));
}

static void
step_scatter(Gen *x)
{
	int64_t dim[MAXDIM], row[MAXDIM], rows = a_size(x);
	int nd = (int)below(x, 2);
	row[0] = a_size(x);
	Node *ids = some_ids(x, rows, x->most / row[0]);
	if (ids->nd + nd > 5)
		return;
	memcpy(dim, ids->dim, sizeof dim);
	memcpy(dim + ids->nd, row, sizeof *row);
	Node *v = fit(x, pick(x, DT_F32), dim, ids->nd + nd);
	dim[0] = rows, dim[1] = row[0];
	add(x, node_new(x->g, P_scatter_add, 0, (Node *[]){ids, v}, 2, dim, nd + 1, NULL, 0, 0));
}

static Node *
state(Gen *x, const char *name, DType dt, Space space, const int64_t *dim, int nd)
{
	GState s = {.name = name, .dt = dt, .nd = nd, .space = space, .fit = ""};
	memcpy(s.dim, dim, (size_t)nd * sizeof *dim);
	return mk_state(x->g, graph_state(x->g, s));
}

static void
step_random(Gen *x)
{
	int64_t dim[MAXDIM] = {0};
	Node *seed = state(x, "run.seed", DT_U32, SP_STAT, dim, 0), *step = state(x, "run.step", DT_I32, SP_STAT, dim, 0);
	Node *n = pick(x, DT_F32);
	Node *r = node_new(x->g, P_random, DT_F32, (Node *[]){seed, step}, 2, n->dim, n->nd, (int64_t[]){x->g->nsite++}, 1, 0);
	Node *keep = mk2(x->g, P_lt, r, constant(x, r, 0.75));
	add(x, chance(x, 20) ? r : mk3(x->g, P_select, keep, mk2(x->g, P_mul, n, constant(x, n, 4.0 / 3)), constant(x, n, 0)));
}

/* A state that is updated at the end; its value before may be read anywhere. */
static void
step_state(Gen *x)
{
	static const Space spaces[] = {SP_OPT, SP_STAT};
	int64_t dim[MAXDIM];
	int nd = some_dims(x, dim, x->most);
	Node *s = state(x, arena_printf(x->arena, "s%d", x->g->nstate), DT_F32, spaces[below(x, 2)], dim, nd);
	if (node_count(s))
		x->pool[x->n < MAXPOOL ? x->n++ : 0] = s;
}

/* ---- the library ---- */

/* What is given to formals that are no tensors, by name. */
static const struct {
	const char *name;
	int from, to; /* whole numbers, or hundredths */
	bool hundredths;
} scalars[] = {{"n", 1, 6, false}, {"hidden", 2, 5, false}, {"heads", 1, 1, false}, {"kernel", 1, 3, false}, {"k", 1, 3, false},
               {"p", 10, 50, true}, {"w", 0, 100, true}, {"size", 2, 6, false}, {"stride", 1, 2, false}, {"pad", 0, 2, false}, {"dilation", 1, 1, false}};

static bool
scalar_arg(Gen *x, const char *name, Val *v)
{
	for (size_t i = 0; i < LEN(scalars); i++)
		if (!strcmp(scalars[i].name, name)) {
			int64_t k = scalars[i].from + below(x, scalars[i].to - scalars[i].from + 1);
			*v = val_num(scalars[i].hundredths ? (double)k / 100 : (double)k, !scalars[i].hundredths);
			return true;
		}
	return false;
}

typedef struct Sizes { /* of the axes that a definition's formals name */
	const char *name[16];
	int64_t size[16];
	int n;
} Sizes;

static int64_t
axis_size(Gen *x, Sizes *s, const char *name)
{
	for (int i = 0; i < s->n; i++)
		if (!strcmp(s->name[i], name))
			return s->size[i];
	int64_t size = min64(a_size(x), 40);
	if (s->n < (int)LEN(s->name)) {
		s->name[s->n] = name;
		s->size[s->n++] = size;
	}
	return size;
}

/* A tensor with the axes of the formal; of one that names none, those of `rest`. Nothing where it would be larger than values are. */
static Val
tensor_arg(Gen *x, const Ast *f, Sizes *s, int rest, DType dt)
{
	static const char *const rests[] = {"r0", "r1"};
	int64_t dim[MAXDIM];
	const char *ax[MAXDIM];
	int64_t count = 1;
	int nd = 0;
	for (int i = 0; i < rest && (!f->tensor || !strcmp(f->kid[1]->s, "..")); i++) {
		dim[nd] = axis_size(x, s, rests[i]);
		ax[nd++] = rests[i];
	}
	for (int i = 1; f->tensor && i < f->nkid; i++)
		if (strcmp(f->kid[i]->s, "..")) {
			dim[nd] = axis_size(x, s, f->kid[i]->s);
			ax[nd++] = f->kid[i]->s;
		}
	for (int i = 0; i < nd; i++)
		count *= dim[i];
	if (count > x->most)
		return (Val){0};
	Val v = val_tensor(fit(x, pick(x, dt), dim, nd), ax);
	return v;
}

/* Applies a definition to values made so far, where its formals say what they take. */
static void
step_library(Gen *x)
{
	int n, k = 0, given = 0;
	Ast **def = lib_defs(x->lib, &n);
	const Ast *d = def[below(x, n)];
	Val arg[8], out;
	Sizes s = {0};
	int rest = (int)below(x, 3);
	if (x->scanning || (strcmp(d->t, "op") && strcmp(d->t, "loss")))
		return;
	for (int i = 1; i < d->nkid && k < (int)LEN(arg); i++) {
		const Ast *f = d->kid[i];
		bool axis = !strcmp(f->s, "s") || !strcmp(f->s, "axis") || !strcmp(f->s, "axes"), ids = !strcmp(f->s, "ids") || !strcmp(f->s, "id");
		if (f->isint && !axis) { /* variadic: two of a kind */
			Ast plain = {.kind = A_FORMAL, .s = f->s};
			arg[k++] = tensor_arg(x, &plain, &s, 2, DT_F32);
			arg[k++] = tensor_arg(x, &plain, &s, 2, DT_F32);
			given++;
			break;
		}
		if (!f->isint && (!f->tensor || f->nkid == 1) && f->kid[0] && !chance(x, 10))
			break; /* the default, and those of all that follow */
		if (f->kid[0] && f->tensor && chance(x, 50))
			break;
		if (axis) {
			arg[k++] = (Val){.kind = V_AXES, .nax = 1, .ax = {"r0"}, .size = {-1}};
			rest = rest ? rest : 1;
		} else if (f->tensor || ids || !scalar_arg(x, f->s, &arg[k])) {
			bool mask = !strcmp(f->s, "mask") || !strcmp(f->s, "c");
			arg[k] = tensor_arg(x, f, &s, axis || rest ? rest : 1, ids ? DT_I32 : mask ? DT_BOOL : DT_F32);
			if (ids)
				arg[k].ids = 5;
			given++;
			k++;
		} else {
			k++;
		}
	}
	for (int i = 0; i < k; i++)
		if (arg[i].kind == V_NONE)
			return; /* larger than values may be */
	if (!given || !lower_call(x->w, d->s, arg, k, NULL, arena_printf(x->arena, "p%d", x->n), &out) || out.kind != V_TENSOR)
		return;
	add(x, out.node);
}

/* ---- scans ---- */

static void one_step(Gen *x);

/* A value of at most so many elements, of a shape made for it or, with more in front, of that one. */
static Node *
small_value(Gen *x, int64_t front, int64_t most)
{
	int64_t dim[MAXDIM] = {front};
	int nd = min64(some_dims(x, dim + 1, most), 3), first = front ? 0 : 1;
	return fit(x, pick(x, DT_F32), dim + first, nd + 1 - first);
}

/* A value of the step for a carry: it stays moderate however many steps there are. */
static Node *
next_value(Gen *x, const Node *carry)
{
	Node *v = mk1(x->g, P_tanh, fit(x, pick(x, DT_F32), carry->dim, carry->nd));
	return chance(x, 50) ? v : mk2(x->g, P_add, v, mk2(x->g, P_mul, (Node *)carry, constant(x, (Node *)carry, 0.5)));
}

/* Steps of the kinds above, on a pool of a step's values and some from outside. */
static void
trace_steps(Gen *x, Node *const *arg, int narg, Node *const *outer, int nouter)
{
	x->n = 0;
	for (int i = 0; i < nouter; i++)
		add(x, outer[i]);
	for (int i = 0; i < narg; i++)
		add(x, arg[i]);
	for (int64_t k = 1 + below(x, 6); k > 0; k--)
		one_step(x);
}

/* A loop of one or two carries; its last or all values of a carry, and what it emits, are added. */
static void
step_scan(Gen *x)
{
	Gen saved = *x;
	Node *init[2], *whole[2], *outer[3], *arg[4];
	int64_t steps = chance(x, 10) ? 1 : 2 + below(x, 6);
	int ncarry = 1 + (int)below(x, 2), nseq = (int)below(x, 3), nwant = (int)below(x, 3), want[2];
	if (x->scanning || x->most < 4 * steps)
		return;
	x->most /= steps;
	for (int i = 0; i < ncarry; i++)
		init[i] = small_value(x, 0, x->most);
	for (int i = 0; i < nseq; i++)
		whole[i] = small_value(x, steps, x->most);
	for (int i = 0; i < 3; i++)
		outer[i] = pick(x, i ? DT_F32 : DT_I32);
	x->scanning = true;
	Scan *s = scan_begin(x->g, steps, chance(x, 40));
	for (int i = 0; i < ncarry; i++)
		arg[i] = scan_carry(s, init[i]);
	for (int i = 0; i < nseq; i++)
		arg[ncarry + i] = scan_seq(s, whole[i]);
	trace_steps(x, arg, ncarry + nseq, outer, 3);
	for (int i = 0; i < ncarry; i++) {
		scan_next(s, i, next_value(x, arg[i]));
		scan_keep(s, i);
	}
	for (int i = 0; i < nwant; i++)
		want[i] = scan_want(s, pick(x, DT_F32), chance(x, 20));
	bool large = scan_too_large(s, 1 << 20);
	if (!large)
		scan_end(s);
	saved.s = x->s;
	*x = saved;
	for (int i = 0; i < ncarry && !large; i++) {
		Node *h = scan_history(s, i);
		add(x, chance(x, 40) ? h : scan_slot(x->g, h, below(x, steps + 1)));
	}
	for (int i = 0; i < nwant && !large; i++)
		add(x, scan_value(s, want[i]));
}

/* ---- a graph ---- */

static const struct {
	void (*make)(Gen *);
	int weight;
} steps[] = {{step_unary, 8}, {step_binary, 10}, {step_views, 10}, {step_choice, 4}, {step_int, 2}, {step_cast, 2}, {step_reduce, 8}, {step_dot, 6},
             {step_gather, 3}, {step_scatter, 3}, {step_random, 2}, {step_state, 2}, {step_library, 6}, {step_scan, 4}};

static void
one_step(Gen *x)
{
	int64_t sum = 0, i = 0;
	for (size_t k = 0; k < LEN(steps); k++)
		sum += steps[k].weight;
	sum = below(x, sum);
	while (sum >= steps[i].weight)
		sum -= steps[i++].weight;
	steps[i].make(x);
}

static bool
is_used(const Gen *x, const Node *n)
{
	for (int i = n->id + 1; i < x->g->nnode; i++)
		for (int k = 0; k < x->g->node[i]->nin; k++)
			if (x->g->node[i]->in[k] == n)
				return true;
	return false;
}

static bool
is_state(const Node *n)
{
	while (prim_info[n->op].kind == K_VIEW)
		n = n->in[0];
	return n->op == P_state;
}

/* The last values that nothing reads, and a weighted sum of them, to be differentiated. */
static void
finish(Gen *x)
{
	Graph *g = x->g;
	int64_t all[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7};
	Node *loss = NULL;
	int nout = 0, most = 1 + (int)below(x, 4);
	for (int i = x->n - 1; i >= 0 && nout < most; i--) {
		Node *y = x->pool[i];
		if (is_state(y) || (is_used(x, y) && !chance(x, 10)))
			continue;
		graph_output(g, arena_printf(x->arena, "y%d", nout++), "value", y);
		if (y->dt != DT_F32)
			continue;
		GInput in = {.name = arena_printf(x->arena, "weight%d", nout), .dt = DT_F32, .nd = y->nd};
		memcpy(in.dim, y->dim, sizeof in.dim);
		Node *s = mk_reduce(g, P_reduce_sum, mk2(g, P_mul, y, mk_input(g, graph_input(g, in))), all, y->nd);
		loss = loss ? mk2(g, P_add, loss, s) : s;
	}
	if (loss && chance(x, 80))
		graph_output(g, "loss", "loss", loss);
	for (int i = 0; i < g->nstate; i++) {
		GState *s = &g->state[i];
		if (s->dt != DT_F32 || chance(x, 20))
			continue;
		Node *v = fit(x, pick(x, DT_F32), s->dim, s->nd);
		s->update = chance(x, 50) ? v : mk2(g, P_add, mk2(g, P_mul, mk_state(g, i), mk_const(g, DT_F32, 0.5, s->dim, s->nd)), v);
	}
	if (!g->noutput)
		graph_output(g, "y", "value", mk1(g, P_exp, tame(x, P_exp, pick(x, DT_F32))));
}

static void
choose_sizes(Gen *x)
{
	static const int64_t small[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 24, 31, 32, 33}, large[] = {64, 67, 100, 127, 128, 130, 257};
	static const int64_t huge[] = {512, 1000, 1024, 1031, 2048, 3000, 4096, 4099, 8200, 9216, 10007};
	x->most = chance(x, 80) ? 600 : 5000;
	for (size_t i = 0; i < LEN(x->size); i++)
		x->size[i] = i && chance(x, x->most > 600 ? 35 : 10) ? large[below(x, LEN(large))] : small[below(x, LEN(small))];
	if (chance(x, 10)) { /* rows that no register holds, sums that go in parts */
		x->most = 24000;
		x->size[0] = huge[below(x, LEN(huge))];
	}
}

Graph *
random_graph(Arena *a, Lib *lib, uint64_t seed)
{
	Gen *x = arena_alloc(a, sizeof *x);
	int64_t dim[MAXDIM];
	*x = (Gen){.s = seed, .arena = a, .lib = lib, .g = graph_new(a, "fuzz")};
	x->w = lower_new(lib, x->g, true);
	choose_sizes(x);
	int nd = some_dims(x, dim, x->most);
	input(x, DT_F32, 0, dim, nd);
	for (int64_t k = 3 + below(x, 10); k > 0; k--)
		one_step(x);
	finish(x);
	x->g->batch = 1;
	return given_to_inputs(x->g, false);
}
