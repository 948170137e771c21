/* A sum over s of a product of two, where another product has summed over s what is left of it without its second:

     y[t,d] = sum(p[t,s] * v[s,d], s)      q[t,s] = sum(g[t,d] * v[s,d], d)
     sum(p * q, s)  ->  sum(g * y, d)

   The gradient of a softmax before a product has such a sum (Dao 2023, "FlashAttention-2", 3.1: D = rowsum(dO * O)). Its rows, of t x s
   places, need not be walked for it then. p may be the product of the same factors in another order, and have factors more or fewer that
   are the same along s: by them the sum is multiplied or divided. select(c, x, 0) is the factors c and x.

   Pays where s is long (LONG), and longer than d. Needs: contract, whose map calls this when the product y is there. */
#include <string.h>

#include "mmc.h"

#define LONG 128   /* places of a row that no kernel keeps in registers */
#define FACTORS 16

/* A product: of `varies`, which vary along the summed dims, `same`, which repeat along them, and c. */
typedef struct Factors {
	Node *varies[FACTORS], *same[FACTORS];
	int nvaries, nsame;
	double c;
} Factors;

static bool
repeats_along(const Node *x, const bool *summed)
{
	if (x->op != P_expand)
		return false;
	for (int i = 0; i < x->nd; i++)
		if (summed[i] && x->at[i] >= 0)
			return false;
	return true;
}

static bool
factors_of(Node *x, const bool *summed, Factors *f)
{
	if (x->op == P_mul)
		return factors_of(x->in[0], summed, f) && factors_of(x->in[1], summed, f);
	if (x->op == P_const) {
		f->c *= x->f;
		return true;
	}
	if (f->nvaries + 2 > FACTORS || f->nsame == FACTORS)
		return false;
	if (x->op == P_select && x->in[2]->op == P_const && x->in[2]->f == 0) {
		f->varies[f->nvaries++] = x->in[0];
		return factors_of(x->in[1], summed, f);
	}
	if (repeats_along(x, summed))
		f->same[f->nsame++] = x;
	else
		f->varies[f->nvaries++] = x;
	return true;
}

/* Are the varying factors of a, but for its i-th, those of b? */
static bool
same_factors(const Factors *a, int i, const Factors *b)
{
	bool met[FACTORS] = {0};
	if (a->nvaries != b->nvaries + 1)
		return false;
	for (int j = 0; j < a->nvaries; j++) {
		int k = 0;
		while (k < b->nvaries && (met[k] || a->varies[j] != b->varies[k]))
			k++;
		if (j != i && k == b->nvaries)
			return false;
		if (j != i)
			met[k] = true;
	}
	return true;
}

/* The factor, one for each kept place, as it is there. */
static Node *
without_dims(Graph *to, Node *x, const bool *summed, const Node *sum)
{
	int64_t map[MAXDIM];
	int n = 0;
	for (int i = 0; i < x->nd; i++)
		if (!summed[i])
			map[n++] = x->at[i];
	return mk_expand(to, x->in[0], sum->dim, sum->nd, map);
}

/* x = a, times what p has not of the factors that repeat, by what it has more of them. */
static Node *
balance(Graph *to, Node *x, const Factors *a, const Factors *p, const bool *summed)
{
	Node *y = mk2(to, P_mul, x, mk_like(to, a->c / p->c, x));
	for (int i = 0; i < a->nsame; i++)
		y = mk2(to, P_mul, y, without_dims(to, a->same[i], summed, x));
	for (int i = 0; i < p->nsame; i++) {
		Node *by = without_dims(to, p->same[i], summed, x);
		bool inverse = by->op == P_div && by->in[0]->op == P_const && by->in[0]->f == 1;
		y = inverse ? mk2(to, P_mul, y, by->in[1]) : mk2(to, P_div, y, by);
	}
	return y;
}

/* y = dot(p, v) and q = dot(g, v), sides: of p in y, of g in q. Is p's every dim q's, and are y's sums over those that are summed?
   Then sum(g * y) over the dims that q sums. n is the sum that it replaces. */
static Node *
other_way(Graph *to, const Node *n, const bool *summed, Node *y, int p, Node *q, int g)
{
	const int64_t *lp = dot_labels(y, p), *lq = dot_labels(q, 2), *vy = dot_labels(y, !p), *vq = dot_labels(q, !g), *lg = dot_labels(q, g), *ly = dot_labels(y, 2);
	const Node *v = y->in[!p];
	int64_t space[MAXDIM], in_y[MAXDIM], dim[MAXDIM], axes[MAXDIM];
	int nd = 0, nsum = 0;
	for (int i = 0; i < q->nd; i++) {
		if (summed[i] != (find_label(ly, y->nd, lp[i]) < 0) || (summed[i] && find_label(lg, q->in[g]->nd, lq[i]) >= 0))
			return NULL;
		if (summed[i])
			continue;
		space[nd] = lq[i];
		in_y[nd] = lp[i];
		dim[nd++] = q->dim[i];
	}
	int64_t places = 1;
	for (int j = 0; j < v->nd; j++) {
		int i = find_label(lp, q->nd, vy[j]);
		if (i != find_label(lq, q->nd, vq[j]) || (i < 0 && nd == MAXDIM))
			return NULL;
		if (i >= 0)
			continue;
		axes[nsum++] = nd;
		space[nd] = vq[j];
		in_y[nd] = vy[j];
		dim[nd++] = v->dim[j];
		places *= v->dim[j];
	}
	int64_t row = node_count(q) / (node_count(n) ? node_count(n) : 1);
	if (nsum == 0 || row < LONG || row <= places)
		return NULL;
	Node *a = mk_spread(to, q->in[g], lg, space, dim, nd), *b = mk_spread(to, y, ly, in_y, dim, nd);
	return a && b ? mk_reduce(to, P_reduce_sum, mk2(to, P_mul, a, b), axes, nsum) : NULL;
}

static bool
same_shape(const Node *a, const Node *b)
{
	return a->nd == b->nd && !memcmp(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
}

Node *
resum(Graph *to, Node *x, const Node *n)
{
	bool summed[MAXDIM] = {0};
	Factors f = {.c = 1};
	for (int i = 0; i < n->nat; i++)
		summed[n->at[i]] = true;
	if (x->op != P_mul || !factors_of(x, summed, &f))
		return NULL;
	for (int i = 0; i < f.nvaries; i++) {
		Node *q = f.varies[i];
		for (int k = 0; q->op == P_dot && k < to->nnode; k++)
			for (int side = 0; side < 4; side++) {
				Node *y = to->node[k], *p = y->op == P_dot ? y->in[side / 2] : NULL;
				Factors made = {.c = 1};
				if (!p || y == q || y->in[!(side / 2)] != q->in[!(side % 2)] || !same_shape(p, x) || !factors_of(p, summed, &made))
					continue;
				if (made.c == 0 || !same_factors(&f, i, &made))
					continue;
				Node *s = other_way(to, n, summed, y, side / 2, q, side % 2);
				if (s)
					return balance(to, s, &f, &made, summed);
			}
	}
	return NULL;
}
