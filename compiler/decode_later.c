/* Which dims of a node and its operands go together; and what is known of elements whose index along one dim (s) is greater than
   along another (t), by how they are made: the proof that a place does not hang on later ones.

     a = select(le(index s, index t), x, -1e30)      x is not seen
     exp(a - max over s of a)                        0, where the max is of anything but -1e30
     mul(that, v)                                    v is not seen

   As a rule of signs: a value there is known to be false or true, low (-1e29 and less) or 0; what is not known is seen. Only
   numbers that the data make are taken to be less than 1e29 in size, and v to be finite. */
#include <math.h>

#include "decode.h"

#define LOW (-1e29)
#define VISITS 4096 /* of nodes that a question may take: nodes used twice are asked twice */

/* ---- dims ---- */

/* The dim of x with as many elements before it, and of the same size. */
static int
aligned(const Node *n, const Node *x, int d)
{
	int64_t before = 1, at = 1;
	for (int i = 0; i < d; i++)
		before *= n->dim[i];
	for (int e = 0; e < x->nd; at *= x->dim[e++])
		if (at == before && x->dim[e] == n->dim[d])
			return e;
	return UNKNOWN;
}

int
dim_below(const Node *n, int k, int d)
{
	int ids;
	switch (prim_info[n->op].kind) {
	case K_ELEM: case K_CONCAT:
		return d;
	case K_VIEW:
		if (n->op == P_reshape)
			return aligned(n, n->in[0], d);
		if (n->op == P_window && d == n->nd - 1)
			return UNKNOWN;
		return n->op == P_expand || n->op == P_permute ? (int)n->at[d] : d;
	case K_REDUCE:
		for (int i = 0; i < n->nat && n->at[i] <= d; i++)
			d++;
		return d;
	case K_GATHER:
		ids = n->in[1]->nd;
		return k == 0 ? (d < ids ? NOWHERE : d - ids + 1) : d < ids ? d : NOWHERE;
	case K_FETCH:
		return d == 0 ? 0 : UNKNOWN;
	default:
		return UNKNOWN;
	}
}

int
dim_above(const Node *n, int k, int e)
{
	for (int d = 0; d < n->nd; d++) {
		bool places = n->op == P_slice || n->op == P_pad;
		if (dim_below(n, k, d) == e)
			return n->dim[d] == n->in[k]->dim[e] && !(places && n->at[d]) ? d : NOWHERE;
	}
	return NOWHERE;
}

/* ---- later elements ---- */

/* Where of n: its dims that are s and t (NOWHERE: it is the same all along), and by how much s is ahead. */
typedef struct Where {
	int t, s;
	bool later;  /* by 1 and more; else by 0 */
	int *visits;
} Where;

static bool is_high(const Node *n, Where w);

static Where
below(Where w, const Node *n, int k)
{
	w.t = w.t < 0 ? w.t : dim_below(n, k, w.t);
	w.s = w.s < 0 ? w.s : dim_below(n, k, w.s);
	return w;
}

static bool lasts(Where w) { return --*w.visits > 0; }

/* Views that move no index. */
static bool is_plain_view(const Node *n) { return n->op == P_expand || n->op == P_permute || n->op == P_reshape; }

/* Is n the index along its dim d, plus *more? */
static bool
is_index(const Node *n, int d, double *more)
{
	for (*more = 0; d >= 0;) {
		bool adds = (n->op == P_add || n->op == P_sub) && n->in[1]->op == P_const;
		bool same = is_plain_view(n) || (n->op == P_cast && (n->dt == DT_F32 || n->dt == DT_I32));
		if (n->op == P_iota)
			return n->at[0] == d;
		if (!adds && !same)
			return false;
		*more += adds ? n->op == P_add ? n->in[1]->f : -n->in[1]->f : 0;
		d = dim_below(n, 0, d);
		n = n->in[0];
	}
	return false;
}

/* A comparison of both indices: 0 false, 1 true, -1 not known. */
static int
compares(const Node *n, Where w)
{
	double a, b, lo = w.later, hi = w.later ? INFINITY : 0, swap; /* of what s is ahead */
	bool backwards = is_index(n->in[0], w.t, &a) && is_index(n->in[1], w.s, &b);
	if (!backwards && !(is_index(n->in[0], w.s, &a) && is_index(n->in[1], w.t, &b)))
		return -1;
	if (backwards)
		swap = lo, lo = -hi, hi = -swap;
	lo += a - b;
	hi += a - b;
	switch (n->op) {
	case P_le: return hi <= 0 ? 1 : lo > 0 ? 0 : -1;
	case P_lt: return hi < 0 ? 1 : lo >= 0 ? 0 : -1;
	case P_eq: return lo == 0 && hi == 0 ? 1 : lo > 0 || hi < 0 ? 0 : -1;
	default: return lo == 0 && hi == 0 ? 0 : lo > 0 || hi < 0 ? 1 : -1;
	}
}

/* 0 false, 1 true, -1 not known. */
static int
truth(const Node *n, Where w)
{
	if (!lasts(w))
		return -1;
	if (is_plain_view(n))
		return truth(n->in[0], below(w, n, 0));
	switch (n->op) {
	case P_le: case P_lt: case P_eq: case P_ne:
		return compares(n, w);
	case P_not: {
		int a = truth(n->in[0], w);
		return a < 0 ? a : !a;
	}
	case P_and: case P_or: {
		int a = truth(n->in[0], w), b = truth(n->in[1], w), decides = n->op == P_or;
		return a == decides || b == decides ? decides : a < 0 ? a : b;
	}
	default:
		return n->op == P_const ? n->f != 0 : -1;
	}
}

/* Does it hold of what a select may give here? */
static bool
holds(bool (*what)(const Node *, Where), const Node *select, Where w)
{
	int c = truth(select->in[0], w);
	return (c == 0 || what(select->in[1], w)) && (c == 1 || what(select->in[2], w));
}

/* A maximum is greater than low if what it is of is so where s is t. */
static bool
max_is_high(const Node *n, Where w)
{
	const Node *x = n->in[0];
	w = below(w, n, 0);
	for (int i = 0; w.t >= 0 && i < n->nat; i++)
		if (x->dim[n->at[i]] >= x->dim[w.t] && is_high(x, (Where){w.t, (int)n->at[i], false, w.visits}))
			return true;
	return is_high(x, (Where){NOWHERE, NOWHERE, false, w.visits});
}

/* Greater than low. */
static bool
is_high(const Node *n, Where w)
{
	Kind k = prim_info[n->op].kind;
	if (!lasts(w))
		return false;
	if (n->op == P_const)
		return fabs(n->f) < -LOW;
	if (n->op == P_select)
		return holds(is_high, n, w);
	if (n->op == P_reduce_max)
		return max_is_high(n, w);
	for (int i = 0; (k == K_ELEM || k == K_VIEW) && i < n->nin; i++)
		if (!is_high(n->in[i], is_plain_view(n) || k == K_ELEM ? below(w, n, i) : (Where){NOWHERE, NOWHERE, false, w.visits}))
			return false;
	return true;
}

static bool
is_low(const Node *n, Where w)
{
	if (!lasts(w))
		return false;
	if (is_plain_view(n))
		return is_low(n->in[0], below(w, n, 0));
	switch (n->op) {
	case P_const: return n->f <= 10 * LOW;
	case P_select: return holds(is_low, n, w);
	case P_stop: return is_low(n->in[0], w);
	case P_sub: return is_low(n->in[0], w) && is_high(n->in[1], w);
	default: return false;
	}
}

static bool
is_zero(const Node *n, Where w)
{
	if (!lasts(w))
		return false;
	if (is_plain_view(n))
		return is_zero(n->in[0], below(w, n, 0));
	switch (n->op) {
	case P_const: return n->f == 0;
	case P_select: return holds(is_zero, n, w);
	case P_exp: return is_low(n->in[0], w);
	case P_cast: return is_zero(n->in[0], w) || (n->in[0]->dt == DT_BOOL && truth(n->in[0], w) == 0);
	case P_mul: return is_zero(n->in[0], w) || is_zero(n->in[1], w);
	case P_div: return is_zero(n->in[0], w);
	default: return false;
	}
}

bool
sees_later(const Node *n, int k, int t, int s)
{
	int visits = VISITS, c;
	Where w = {t, s, true, &visits};
	switch (n->op) {
	case P_select:
		c = truth(n->in[0], w);
		return c < 0 || k == 2 - c;
	case P_mul:
		return !is_zero(n->in[!k], w);
	case P_and: case P_or: case P_not: case P_le: case P_lt: case P_eq: case P_ne:
		return truth(n, w) < 0;
	default:
		return true;
	}
}
