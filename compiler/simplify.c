/* Algebra on a node as it is made: constants are folded, neutral operands dropped, views composed, and
   elementwise work moves below the views that would repeat it.

     mul(expand(s), expand(t))  ->  expand(mul(s, t))           (once for each element of s, not of the result)
     reduce_sum(expand(x))      ->  mul(reduce_sum(x), count)
     reshape(reshape(x))        ->  reshape(x)
     window(x, stride = size)   ->  permute(reshape(slice(x)))  (windows that do not overlap are a split)

   Values may differ in the last bit from the order written (c1*(c2*x) becomes (c1*c2)*x); nothing that changes NaN
   or infinity is done: x*0 and x-x stay. */
#include <math.h>
#include <string.h>

#include "mmc.h"

static bool is_const(const Node *n, double f) { return n->op == P_const && n->f == f; }
static bool is_int(DType t) { return t == DT_I32 || t == DT_U32 || t == DT_U8 || t == DT_BOOL; }

/* Never reached with a shuffle: its operands are not constants. */
#define interp_shuffle(a, b, c) ((void)(b), (void)(c), a)

static double
eval(Prim op, double a, double b, double c)
{
	(void)c;
	switch (op) {
#define P(name, kind, arity, dtype, attr, spell, expr) \
	case P_##name:                                 \
		return (expr);
#include "../ops/prim.def"
#undef P
	default:
		return 0;
	}
}

static Node *
fold(Graph *g, Node *t)
{
	double v[3] = {0};
	for (int i = 0; i < t->nin; i++) {
		if (t->in[i]->op != P_const)
			return NULL;
		v[i] = t->in[i]->f;
	}
	if (t->op == P_shuffle || t->op == P_stop || (is_int(t->in[0]->dt) && (t->op == P_div || t->op == P_mod) && v[1] == 0))
		return NULL;
	double r = eval(t->op, v[0], v[1], v[2]);
	if (is_int(t->dt))
		r = trunc(r);
	return mk_const(g, t->dt, r, t->dim, t->nd);
}

static bool
same_view(const Node *a, const Node *b)
{
	const Node *x = a->in[0], *y = b->in[0];
	return a->op == b->op && a->nat == b->nat && !memcmp(a->at, b->at, (size_t)a->nat * sizeof *a->at) && x->nd == y->nd &&
	       !memcmp(x->dim, y->dim, (size_t)x->nd * sizeof *x->dim);
}

/* Elementwise on operands that are all the same view (or constants): the view of elementwise on what is below. A cast to
   a smaller type goes below slices, too: the slices of a tensor are then strided views of one small copy. */
static Node *
sink_below_view(Graph *g, Node *t)
{
	Node *view = NULL, *in[3];
	bool shrinks = t->op == P_cast && dtype_bytes(t->dt) < dtype_bytes(t->in[0]->dt);
	for (int i = 0; i < t->nin; i++) {
		Node *x = t->in[i];
		if (x->op == P_const)
			continue;
		if (x->op != P_expand && x->op != P_permute && x->op != P_reshape && !(x->op == P_slice && shrinks))
			return NULL;
		if (view && !same_view(view, x))
			return NULL;
		view = x;
	}
	if (!view)
		return NULL;
	for (int i = 0; i < t->nin; i++)
		in[i] = t->in[i]->op == P_const ? mk_const(g, t->in[i]->dt, t->in[i]->f, view->in[0]->dim, view->in[0]->nd) : t->in[i]->in[0];
	Node *y = node_new(g, t->op, t->dt, in, t->nin, NULL, 0, t->at, t->nat, t->f);
	return node_new(g, view->op, 0, &y, 1, view->dim, view->nd, view->at, view->nat, 0);
}

static Node *
binary(Graph *g, Node *t)
{
	Node *a = t->in[0], *b = t->in[1];
	bool commutes = t->op == P_add || t->op == P_mul || t->op == P_and || t->op == P_or;
	/* constants stand right; otherwise the older operand stands left, so that a+b and b+a are one node */
	if (commutes && (a->op == P_const || (b->op != P_const && a->id > b->id)))
		return mk2(g, t->op, b, a);
	switch (t->op) {
	case P_add:
		if (is_const(b, 0))
			return a;
		if (b->op == P_neg)
			return mk2(g, P_sub, a, b->in[0]);
		if (a->op == P_neg)
			return mk2(g, P_sub, b, a->in[0]);
		break;
	case P_sub:
		if (is_const(b, 0))
			return a;
		if (is_const(a, 0))
			return mk1(g, P_neg, b);
		if (b->op == P_neg)
			return mk2(g, P_add, a, b->in[0]);
		break;
	case P_mul:
		if (is_const(b, 1))
			return a;
		if (is_const(b, -1))
			return mk1(g, P_neg, a);
		if (a->op == P_neg && b->op == P_const)
			return mk2(g, P_mul, a->in[0], mk_like(g, -b->f, b));
		if (a->op == P_mul && a->in[1]->op == P_const && b->op == P_const && !is_int(t->dt))
			return mk2(g, P_mul, a->in[0], mk_like(g, a->in[1]->f * b->f, b));
		if (a->op == P_neg)
			return mk1(g, P_neg, mk2(g, P_mul, a->in[0], b));
		if (b->op == P_neg)
			return mk1(g, P_neg, mk2(g, P_mul, a, b->in[0]));
		break;
	case P_div:
		if (b->op == P_const && !is_int(t->dt) && b->f != 0)
			return mk2(g, P_mul, a, mk_like(g, 1 / b->f, b));
		if (is_const(b, 1))
			return a;
		break;
	case P_pow:
		if (is_const(b, 1))
			return a;
		if (is_const(b, 2))
			return mk2(g, P_mul, a, a);
		break;
	default:
		break;
	}
	return NULL;
}

/* Pads of neighbouring parts of one axis, added: the parts side by side, padded. */
static Node *
join_pads(Graph *g, Node *a, Node *b)
{
	int axis = -1;
	if (a->op != P_pad || b->op != P_pad || a->nd < 2) /* a vector is the packed gradient's affair */
		return NULL;
	for (int i = 0; i < a->nd; i++) {
		bool plain = a->at[a->nd + i] == 1 && b->at[a->nd + i] == 1;
		if (a->at[i] == b->at[i] && a->in[0]->dim[i] == b->in[0]->dim[i] && a->at[a->nd + i] == b->at[a->nd + i])
			continue;
		if (axis >= 0 || !plain)
			return NULL;
		axis = i;
	}
	if (axis < 0)
		return NULL;
	if (a->at[axis] > b->at[axis]) {
		Node *t = a;
		a = b;
		b = t;
	}
	if (a->at[axis] + a->in[0]->dim[axis] != b->at[axis])
		return NULL;
	Node *part[64];
	int n = 0;
	Node *side[2] = {a->in[0], b->in[0]};
	for (int i = 0; i < 2; i++) {
		bool flat = side[i]->op == P_concat && side[i]->at[0] == axis && side[i]->nin < 32;
		for (int k = 0; k < (flat ? side[i]->nin : 1); k++)
			part[n++] = flat ? side[i]->in[k] : side[i];
	}
	return mk_pad(g, mk_concat(g, part, n, axis), a->at, a->at + a->nd, a->dim);
}

/* A narrower type's value survives the way there and back. */
static bool
wider(DType a, DType b)
{
	return a == DT_F32 && (b == DT_BF16 || b == DT_F16);
}

static Node *
elementwise(Graph *g, Node *t)
{
	if (t->op == P_stop && t->nat) /* a state's own copy */
		return NULL;
	Node *a = t->in[0], *r = fold(g, t);
	if (!r && t->nin == 2)
		r = binary(g, t);
	if (!r && t->op == P_neg && a->op == P_neg)
		r = a->in[0];
	if (!r && t->op == P_cast && a->dt == t->dt)
		r = a;
	if (!r && t->op == P_cast && a->op == P_result)
		r = scan_rounded(g, a, t->dt);
	if (!r && t->op == P_cast && a->op == P_cast && a->in[0]->dt == t->dt && wider(a->dt, t->dt))
		r = a->in[0];
	if (!r && t->op == P_add)
		r = join_pads(g, a, t->in[1]);
	if (!r && t->op == P_select && t->in[1] == t->in[2])
		r = t->in[1];
	if (!r && t->op == P_select && a->op == P_const)
		r = a->f != 0 ? t->in[1] : t->in[2];
	return r ? r : sink_below_view(g, t);
}

static bool
same_shape(const Node *a, const Node *b)
{
	return a->nd == b->nd && !memcmp(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
}

static bool
is_identity(const Node *t)
{
	const Node *x = t->in[0];
	if (!same_shape(t, x))
		return false;
	if (t->op == P_permute || t->op == P_expand) {
		for (int i = 0; i < t->nd; i++)
			if (t->at[i] != i)
				return false;
		return true;
	}
	if (t->op == P_slice || t->op == P_pad)
		for (int i = 0; i < t->nd; i++)
			if (t->at[i] || (t->at[t->nd + i] != 1 && t->dim[i] > 1))
				return false;
	return t->op == P_reshape || t->op == P_slice || t->op == P_pad;
}

/* Do windows of this many places lie side by side? Then the axis is cut, and window and fold are plain views. */
static bool
side_by_side(const Node *t, int64_t size)
{
	return size == 1 || (t->at[1] == size && t->at[2] == 1);
}

/* [.., n * size, ..] to [.., n, .., size]; the places between the windows and after the last are cut off first. */
static Node *
cut_windows(Graph *g, Node *t)
{
	Node *x = t->in[0];
	int axis = (int)t->at[0], last = t->nd - 1;
	int64_t size = t->dim[last], lo[MAXDIM] = {0}, step[MAXDIM] = {0}, dim[MAXDIM] = {0}, perm[MAXDIM];
	for (int i = 0; i < last; i++) {
		step[i] = i == axis && size == 1 ? t->at[1] : 1;
		dim[i] = i == axis ? t->dim[i] * size : t->dim[i];
	}
	x = mk_slice(g, x, lo, step, dim);
	for (int i = 0, k = 0; i < last; i++) {
		perm[i] = k;
		dim[k++] = t->dim[i];
		if (i == axis) {
			perm[last] = k;
			dim[k++] = size;
		}
	}
	return mk_permute(g, mk_reshape(g, x, dim, t->nd), perm);
}

/* The adjoint: [.., n, .., size] to [.., n * size, ..], zeros where no window lies. */
static Node *
join_windows(Graph *g, Node *t)
{
	Node *x = t->in[0];
	int axis = (int)t->at[0], last = x->nd - 1;
	int64_t size = x->dim[last], lo[MAXDIM] = {0}, step[MAXDIM] = {0}, dim[MAXDIM] = {0}, perm[MAXDIM];
	for (int i = 0, k = 0; i < last; i++) {
		perm[k++] = i;
		if (i == axis)
			perm[k++] = last;
		step[i] = i == axis && size == 1 ? t->at[1] : 1;
		dim[i] = i == axis ? x->dim[i] * size : x->dim[i];
	}
	return mk_pad(g, mk_reshape(g, mk_permute(g, x, perm), dim, last), lo, step, t->dim);
}

/* A slice that takes nothing of the zeros. */
static Node *
slice_of_pad(Graph *g, Node *t, Node *x)
{
	int64_t lo[MAXDIM];
	for (int i = 0; i < t->nd; i++) {
		int64_t last = t->at[i] + (t->dim[i] - 1) * t->at[t->nd + i] - x->at[i];
		lo[i] = t->at[i] - x->at[i];
		if (x->at[x->nd + i] != 1 || lo[i] < 0 || last < 0 || !t->dim[i] || lo[i] >= x->in[0]->dim[i] || last >= x->in[0]->dim[i])
			return NULL;
	}
	return mk_slice(g, x->in[0], lo, t->at + t->nd, t->dim);
}

/* reshape that only drops or adds dims of size 1 around an expand: keep the expand outermost */
static Node *
view(Graph *g, Node *t)
{
	Node *x = t->in[0];
	int64_t at[2 * MAXDIM];
	if (is_identity(t))
		return x;
	if (x->op == P_const && t->op != P_pad && t->op != P_window)
		return mk_const(g, x->dt, x->f, t->dim, t->nd);
	switch (t->op) {
	case P_reshape:
		if (x->op == P_reshape)
			return mk_reshape(g, x->in[0], t->dim, t->nd);
		break;
	case P_permute:
		if (x->op == P_permute) {
			for (int i = 0; i < t->nd; i++)
				at[i] = x->at[t->at[i]];
			return mk_permute(g, x->in[0], at);
		}
		if (x->op == P_expand) {
			for (int i = 0; i < t->nd; i++)
				at[i] = x->at[t->at[i]];
			return mk_expand(g, x->in[0], t->dim, t->nd, at);
		}
		break;
	case P_expand:
		if (x->op == P_expand || x->op == P_permute) {
			for (int i = 0; i < t->nd; i++)
				at[i] = t->at[i] < 0 ? -1 : x->at[t->at[i]];
			return mk_expand(g, x->in[0], t->dim, t->nd, at);
		}
		break;
	case P_window:
		if (side_by_side(t, t->dim[t->nd - 1]))
			return cut_windows(g, t);
		break;
	case P_slice:
		if (x->op == P_slice) {
			for (int i = 0; i < t->nd; i++) {
				at[i] = x->at[i] + t->at[i] * x->at[t->nd + i];
				at[t->nd + i] = x->at[t->nd + i] * t->at[t->nd + i];
			}
			return mk_slice(g, x->in[0], at, at + t->nd, t->dim);
		}
		if (x->op == P_pad)
			return slice_of_pad(g, t, x);
		break;
	default:
		break;
	}
	return NULL;
}

static bool
reduces(const Node *t, int axis)
{
	for (int i = 0; i < t->nat; i++)
		if (t->at[i] == axis)
			return true;
	return false;
}

/* t reduces x = expand(y): reduce y over the axes it has; the repeated ones count (sum) or vanish (max). */
static Node *
reduce_expand(Graph *g, Node *t)
{
	Node *x = t->in[0], *y = x->in[0];
	int64_t axes[MAXDIM], map[MAXDIM], repeat = 1;
	int naxes = 0, nkeep = 0;
	for (int i = 0; i < x->nd; i++)
		if (reduces(t, i) && x->at[i] < 0)
			repeat *= x->dim[i];
	if (repeat == 1)
		return NULL;
	bool gone[MAXDIM] = {0};
	for (int i = 0; i < x->nd; i++)
		if (reduces(t, i) && x->at[i] >= 0)
			gone[x->at[i]] = true;
	for (int i = 0; i < y->nd; i++)
		if (gone[i])
			axes[naxes++] = i;
	Node *r = mk_reduce(g, t->op, y, axes, naxes);
	for (int i = 0; i < x->nd; i++) {
		if (reduces(t, i))
			continue;
		map[nkeep] = x->at[i];
		for (int k = 0; k < x->at[i]; k++)
			map[nkeep] -= gone[k];
		nkeep++;
	}
	r = mk_expand(g, r, t->dim, t->nd, map);
	return t->op == P_reduce_sum ? mk2(g, P_mul, r, mk_like(g, (double)repeat, r)) : r;
}

/* x / e, if e is a factor of x that does not vary over what t sums; *s is what e repeats, for t's dims. Factors of factors are looked
   at in sums over rows, where two sums that become one are a pass over memory less; along rows, all is in registers anyway. */
static Node *
without_factor(Graph *g, const Node *t, Node *x, Node **s)
{
	int64_t map[MAXDIM];
	if (x->op != P_mul)
		return NULL;
	for (int k = 0; k < 2; k++) {
		int n = 0;
		Node *e = x->in[k], *rest = x->in[!k];
		bool constant = e->op == P_expand;
		for (int i = 0; constant && i < e->nd; i++)
			if (!reduces(t, i))
				map[n++] = e->at[i];
			else
				constant = e->at[i] < 0;
		if (constant) {
			*s = mk_expand(g, e->in[0], t->dim, t->nd, map);
			return rest;
		}
	}
	for (int k = 0; k < 2 && reduces(t, 0) && !reduces(t, x->nd - 1); k++) {
		Node *rest = without_factor(g, t, x->in[k], s);
		if (rest)
			return mk2(g, P_mul, rest, x->in[!k]);
	}
	return NULL;
}

/* sum(x * expand(s)) where s does not vary over what is summed: sum(x) * s. */
static Node *
factor_out(Graph *g, Node *t)
{
	Node *s, *x = without_factor(g, t, t->in[0], &s);
	return x ? mk2(g, P_mul, mk_reduce(g, P_reduce_sum, x, t->at, t->nat), s) : NULL;
}

static Node *
reduction(Graph *g, Node *t)
{
	Node *x = t->in[0];
	int64_t size = 1;
	for (int i = 0; i < t->nat; i++)
		size *= x->dim[t->at[i]];
	if (size == 1)
		return mk_reshape(g, x, t->dim, t->nd);
	if (x->op == P_const && size > 0)
		return mk_const(g, t->dt, t->op == P_reduce_sum ? x->f * (double)size : x->f, t->dim, t->nd);
	if (x->op == P_expand)
		return reduce_expand(g, t);
	if (t->op != P_reduce_sum)
		return NULL;
	if (x->op == P_neg)
		return mk1(g, P_neg, mk_reduce(g, t->op, x->in[0], t->at, t->nat));
	if (x->op == P_mul && !is_int(t->dt)) {
		if (x->in[1]->op == P_const) {
			Node *s = mk_reduce(g, t->op, x->in[0], t->at, t->nat);
			return mk2(g, P_mul, s, mk_like(g, x->in[1]->f, s));
		}
		return factor_out(g, t);
	}
	return NULL;
}

Node *
simplify(Graph *g, Node *t)
{
	switch (prim_info[t->op].kind) {
	case K_ELEM: return elementwise(g, t);
	case K_VIEW: return view(g, t);
	case K_REDUCE: return reduction(g, t);
	case K_FOLD: return side_by_side(t, t->in[0]->dim[t->in[0]->nd - 1]) ? join_windows(g, t) : NULL;
	default: return NULL;
	}
}
