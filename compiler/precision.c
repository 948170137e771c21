/* Mixed precision for a target with bf16 matrix units: operands of matrix products are rounded to bf16, their results
   are stored as bf16, except weight gradients, which stay f32; everything else computes and, where it is stored for
   itself, stores f32. Parameters and optimizer state stay f32: the packed vector is rounded once a step.

     dot(x, w)  ->  cast(dot(cast(x, bf16), cast(w, bf16)), f32)      sums inside are f32

   Rounding points: each operand once, each result once. Needs: contract.

   Casts from bf16 move up past views and concatenations, so that an operand made of results needs no rounding. */
#include <string.h>

#include "mmc.h"

/* By node id: products whose result goes into the packed gradient. */
static bool *
weight_gradients(Graph *g)
{
	bool *is = arena_alloc(g->arena, (size_t)g->nnode);
	for (int i = 0; i < g->nnode; i++) {
		Node *n = g->node[i];
		for (int k = 0; n->op == P_concat && n->nd == 1 && k < n->nin; k++) {
			Node *x = n->in[k];
			while (x->op == P_reshape || x->op == P_permute)
				x = x->in[0];
			is[x->id] = true;
		}
	}
	return is;
}

static bool
from_half(const Node *n)
{
	return n->op == P_cast && n->dt == DT_F32 && n->in[0]->dt == DT_BF16;
}

/* n of the operands in, which are all casts from bf16: the cast of n of what they cast. */
static Node *
float_up(Graph *to, Node *n, Node **in)
{
	Node *half[64];
	Kind k = prim_info[n->op].kind;
	if ((k != K_VIEW && k != K_CONCAT) || n->dt != DT_F32 || n->nin > (int)LEN(half))
		return NULL;
	for (int i = 0; i < n->nin; i++) {
		if (!from_half(in[i]))
			return NULL;
		half[i] = in[i]->in[0];
	}
	return mk_cast(to, node_new(to, n->op, DT_BF16, half, n->nin, n->dim, n->nd, n->at, n->nat, n->f), DT_F32);
}

static Node *
lower_dot(Graph *to, Node *n, Node **in, void *ctx)
{
	const bool *gradient = ctx;
	Node *up = float_up(to, n, in);
	if (up)
		return up;
	if (n->op != P_dot || n->dt != DT_F32)
		return NULL;
	Node *x[2] = {mk_cast(to, in[0], DT_BF16), mk_cast(to, in[1], DT_BF16)};
	DType dt = gradient[n->id] ? DT_F32 : DT_BF16;
	return mk_cast(to, node_new(to, P_dot, dt, x, 2, NULL, 0, n->at, n->nat, 0), DT_F32);
}

Graph *pass_precision(Graph *g) { return graph_map(g, lower_dot, weight_gradients(g)); }
