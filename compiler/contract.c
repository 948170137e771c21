/* Contraction: sums of products become dot, the Einstein sum that a matrix library computes.

     reduce_sum(mul(expand(x), expand(w)), axes)  ->  dot(x, w)
     y[b, o] = sum(x[b, i] * w[i, o], i)

   Needs: nothing. A product counts when each factor lacks (repeats along) an axis that the other has and that stays:
   then the sum does more work than it reads. A sum where one factor has every axis is left to the fused reductions,
   which read each operand once. Gradients of contractions are sums of products, too, and are found here as well. Of the
   sums that stay, resum.c takes what a product has summed already. */
#include <string.h>

#include "loop.h"

typedef struct Factor {
	Node *node;            /* with its repeated dims gone */
	int64_t label[MAXDIM]; /* dim of the product that each dim is */
	bool has[MAXDIM];      /* per dim of the product */
} Factor;

/* A factor below the expand and permute that bring it to the product's shape. */
static Factor
strip(Graph *g, Node *x)
{
	Factor f = {.node = x};
	if (x->op == P_expand) {
		int k = 0;
		int64_t perm[MAXDIM]; /* dims of the inner node in the order of the product */
		for (int i = 0; i < x->nd; i++) {
			f.has[i] = x->at[i] >= 0;
			if (f.has[i])
				perm[k++] = x->at[i];
		}
		/* the inner order is kept: it is how the operand lies in memory */
		for (int i = 0, j = 0; i < x->nd; i++)
			if (f.has[i])
				f.label[perm[j++]] = i;
		f.node = x->in[0];
		return f;
	}
	if (x->op == P_permute) {
		for (int i = 0; i < x->nd; i++)
			f.label[x->at[i]] = i;
		f.node = x->in[0];
	} else {
		for (int i = 0; i < x->nd; i++)
			f.label[i] = i;
	}
	for (int i = 0; i < x->nd; i++)
		f.has[i] = true;
	(void)g;
	return f;
}

/* Dims of size 1 carry nothing: dropping them keeps the matrix shapes plain. */
static void
drop_ones(Graph *g, Factor *f)
{
	int64_t dim[MAXDIM], label[MAXDIM];
	int n = 0;
	for (int i = 0; i < f->node->nd; i++) {
		if (f->node->dim[i] == 1) {
			f->has[f->label[i]] = false;
			continue;
		}
		dim[n] = f->node->dim[i];
		label[n++] = f->label[i];
	}
	if (n == f->node->nd)
		return;
	f->node = mk_reshape(g, f->node, dim, n);
	memcpy(f->label, label, sizeof label);
}

/* Brings an operand's dims into the order batch, kept, summed (or batch, summed, kept): with the last dim where it is, so that
   a copy, if it takes one, is of whole rows. */
static void
sort_dims(Graph *g, Factor *f, const Factor *other, const bool *summed, int nx, bool summed_last)
{
	int64_t perm[MAXDIM], label[MAXDIM];
	int n = 0;
	for (int pass = 0; pass < 3; pass++)
		for (int x = 0; x < nx; x++)
			for (int i = 0; i < f->node->nd; i++) {
				int kind = summed[x] ? (summed_last ? 2 : 1) : other->has[x] ? 0 : (summed_last ? 1 : 2);
				if (f->label[i] == x && kind == pass) {
					perm[n] = i;
					label[n++] = x;
				}
			}
	f->node = mk_permute(g, f->node, perm);
	memcpy(f->label, label, sizeof label);
}

/* Labels are dims of the product x. Where no matrix product has the operands' order of dims, they are brought into one
   that has. n is the reduction that the result replaces. */
static Node *
make_dot(Graph *to, Factor *a, Factor *b, const Node *x, const bool *summed, const Node *n)
{
	int64_t at[3 * MAXDIM], dim[MAXDIM], inverse[MAXDIM];
	int nd = 0, k, order[MAXDIM];
	for (int i = 0; i < x->nd; i++)
		if (!summed[i] && (a->has[i] || b->has[i])) {
			order[nd] = i;
			dim[nd++] = x->dim[i];
		}
	for (int turn = 0;; turn++) {
		k = 0;
		for (int i = 0; i < a->node->nd; i++)
			at[k++] = a->label[i];
		for (int i = 0; i < b->node->nd; i++)
			at[k++] = b->label[i];
		for (int i = 0; i < nd; i++)
			at[k++] = order[i];
		if (turn || gemm_plain(a->node, b->node, at, dim, nd))
			break;
		sort_dims(to, a, b, summed, x->nd, summed[a->label[a->node->nd - 1]]);
		sort_dims(to, b, a, summed, x->nd, summed[b->label[b->node->nd - 1]]);
		nd = 0;
		for (int pass = 0; pass < 3; pass++)
			for (int i = 0; i < x->nd; i++) {
				int kind = a->has[i] && b->has[i] ? 0 : a->has[i] ? 1 : 2;
				if (!summed[i] && (a->has[i] || b->has[i]) && kind == pass) {
					order[nd] = i;
					dim[nd++] = x->dim[i];
				}
			}
	}
	Node *d = node_new(to, P_dot, DT_F32, (Node *[]){a->node, b->node}, 2, NULL, 0, at, k, 0);
	for (int i = 0, place = 0; i < x->nd; i++) /* back to the order of x */
		for (int j = 0; j < nd; j++)
			if (order[j] == i)
				inverse[place++] = j;
	d = mk_permute(to, d, inverse);
	for (int i = 0, place = nd = 0; i < x->nd; i++) { /* where neither factor varies the result repeats */
		bool has = a->has[i] || b->has[i];
		if (summed[i] || (!has && x->dim[i] == 1))
			continue;
		at[nd] = has ? place++ : -1;
		dim[nd++] = x->dim[i];
	}
	d = mk_expand(to, d, dim, nd, at);
	return mk_reshape(to, d, n->dim, n->nd); /* dims of size 1 come back */
}

/* The sum n of the product x as a dot, or NULL. */
static Node *
contract_product(Graph *to, const Node *x, const Node *n)
{
	if (x->op != P_mul)
		return NULL;
	Factor a = strip(to, x->in[0]), b = strip(to, x->in[1]);
	bool summed[MAXDIM] = {0}, only_a = false, only_b = false, both = false;
	drop_ones(to, &a);
	drop_ones(to, &b);
	for (int i = 0; i < n->nat; i++)
		summed[n->at[i]] = true;
	for (int i = 0; i < x->nd; i++) {
		if (summed[i] && x->dim[i] > 1 && !(a.has[i] && b.has[i]))
			return NULL;
		both |= summed[i] && a.has[i];
		only_a |= !summed[i] && a.has[i] && !b.has[i];
		only_b |= !summed[i] && b.has[i] && !a.has[i];
	}
	if (!only_a || !only_b || !both)
		return NULL;
	return make_dot(to, &a, &b, x, summed, n);
}

Node *
contract_sum(Graph *to, const Node *x, const Node *n)
{
	if (n->dt != DT_F32)
		return NULL;
	if (x->op != P_add)
		return contract_product(to, x, n);
	Node *a = contract_sum(to, x->in[0], n), *b = a ? contract_sum(to, x->in[1], n) : NULL;
	return b ? mk2(to, P_add, a, b) : NULL;
}

static Node *
contract(Graph *to, Node *n, Node **in, void *ctx)
{
	(void)ctx;
	if (n->op != P_reduce_sum || n->dt != DT_F32)
		return NULL;
	Node *dot = contract_product(to, in[0], n);
	return dot ? dot : resum(to, in[0], n);
}

Graph *pass_contract(Graph *g) { return graph_map(g, contract, NULL); }
