/* Mixed precision for a target with bf16 matrix units: operands of matrix products are rounded to bf16, their results
   are stored as bf16, except weight gradients and what a loop carries on, which stay f32; everything else computes and, where
   it is stored for itself, stores f32. Parameters and optimizer state stay f32: the packed vector is rounded once a step.

     dot(x, w)  ->  cast(dot(cast(x, bf16), cast(w, bf16)), f32)      sums inside are f32

   Rounding points: each operand once, each result once; what a scan stacks for another scan or for a sum, once. Needs: contract.

   Casts from bf16 move past concatenations, so that an operand made of results needs no rounding. Products over windows read
   them where they lie (product.c), and so do gradients of them, which unfold.c makes such products first. */
#include <string.h>

#include "mmc.h"

typedef struct Gradients {
	const Graph *g;
	bool *is; /* by node id: a product whose result goes into the packed gradient */
} Gradients;

static Gradients
weight_gradients(Graph *g)
{
	Gradients w = {g, arena_alloc(g->arena, (size_t)g->nnode)};
	for (int i = 0; i < g->nnode; i++) {
		Node *n = g->node[i];
		for (int k = 0; n->op == P_concat && n->nd == 1 && k < n->nin; k++) {
			Node *x = n->in[k];
			while (x->op == P_reshape || x->op == P_permute)
				x = x->in[0];
			w.is[x->id] = true;
		}
	}
	return w;
}

/* The bf16 value that x is a cast of, below views; or NULL. */
static Node *
half(Graph *to, Node *x)
{
	if (x->op == P_cast && x->dt == DT_F32 && x->in[0]->dt == DT_BF16)
		return x->in[0];
	Node *h = prim_info[x->op].kind == K_VIEW ? half(to, x->in[0]) : NULL;
	return h ? node_new(to, x->op, DT_BF16, &h, 1, x->dim, x->nd, x->at, x->nat, x->f) : NULL;
}

/* n side by side of what are casts from bf16: the cast of what they cast, side by side. */
static Node *
float_up(Graph *to, Node *n, Node **in)
{
	Node *h[16];
	if (n->op != P_concat || n->dt != DT_F32 || n->nin > (int)LEN(h))
		return NULL;
	for (int i = 0; i < n->nin; i++)
		if (!(h[i] = half(to, in[i])))
			return NULL;
	return mk_cast(to, mk_concat(to, h, n->nin, (int)n->at[0]), DT_F32);
}

/* x in bf16. Below windows, and what is below them, the cast goes: they are views of a smaller tensor then. */
static Node *
narrow(Graph *to, Node *x, bool windowed)
{
	if (x->op == P_concat && !windowed) { /* its parts may be computed in their places */
		Node *part[16];
		if (x->nin > (int)LEN(part))
			return mk_cast(to, x, DT_BF16);
		for (int i = 0; i < x->nin; i++)
			part[i] = narrow(to, x->in[i], false);
		return mk_concat(to, part, x->nin, (int)x->at[0]);
	}
	windowed |= x->op == P_window;
	for (const Node *v = x; prim_info[v->op].kind == K_VIEW && !windowed; v = v->in[0])
		windowed = v->op == P_window;
	if (!windowed || prim_info[x->op].kind != K_VIEW)
		return mk_cast(to, x, DT_BF16);
	Node *y = narrow(to, x->in[0], true);
	return node_new(to, x->op, DT_BF16, &y, 1, x->dim, x->nd, x->at, x->nat, x->f);
}

static Node *
lower_dot(Graph *to, Node *n, Node **in, void *ctx)
{
	const Gradients *w = ctx;
	Node *up = float_up(to, n, in);
	if (up)
		return up;
	if (n->op != P_dot || n->dt != DT_F32)
		return NULL;
	bool here = n->id < w->g->nnode && w->g->node[n->id] == n; /* else in the body of a scan */
	DType dt = here && w->is[n->id] ? DT_F32 : DT_BF16;
	Node *wide = widen_dot(to, n, in, dt);
	if (wide)
		return mk_cast(to, wide, DT_F32);
	Node *x[2] = {narrow(to, in[0], false), narrow(to, in[1], false)};
	return mk_cast(to, node_new(to, P_dot, dt, x, 2, NULL, 0, n->at, n->nat, 0), DT_F32);
}

/* What a loop gives out for another loop, or for a sum over the steps: gates for the gradient, adjoints of gates. */
static void
narrow_results(Graph *g)
{
	int n;
	Node **v = graph_reach(g, &n);
	bool *wide = arena_alloc(g->arena, (size_t)g->nnode);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < v[i]->nin; k++)
			wide[v[i]->in[k]->id] |= !(v[i]->op == P_scan && scan_is_seq(v[i], k)) && v[i]->op != P_reduce_sum;
	for (int i = 0; i < g->noutput; i++)
		wide[g->output[i].node->id] = true;
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update)
			wide[g->state[i].update->id] = true;
	for (int i = 0; i < n; i++) {
		Node *scan = v[i]->op == P_result ? v[i]->in[0] : NULL;
		if (!scan || wide[v[i]->id] || v[i]->dt != DT_F32 || v[i]->at[0] < scan_ncarry(scan))
			continue;
		GOutput *o = &scan->body->output[v[i]->at[0]];
		o->node = narrow(scan->body, o->node, false);
	}
}

/* A product that a loop carries to its next step and reads nowhere else is f32, as the carry is: no kernel makes it so. */
static void
carry_products(Graph *body, int ncarry)
{
	int n, *reads = arena_alloc(body->arena, (size_t)body->nnode * sizeof *reads);
	Node **v = graph_reach(body, &n);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < v[i]->nin; k++)
			reads[v[i]->in[k]->id]++;
	for (int i = 0; i < body->noutput; i++)
		reads[body->output[i].node->id]++;
	for (int i = 0; i < ncarry; i++) {
		Node *x = body->output[i].node, *d = x->op == P_cast ? x->in[0] : x;
		if (x->dt == DT_F32 && d->op == P_dot && d->dt == DT_BF16 && reads[x->id] == 1 && reads[d->id] == 1)
			body->output[i].node = node_new(body, P_dot, DT_F32, d->in, 2, NULL, 0, d->at, d->nat, 0);
	}
}

Graph *
pass_precision(Graph *g)
{
	g = pass_unfold(g);
	Gradients w = weight_gradients(g);
	g = graph_map(g, lower_dot, &w); /* bodies of scans are new, too */
	narrow_results(g);
	for (int i = 0; i < g->nnode; i++)
		if (g->node[i]->op == P_scan)
			carry_products(g->node[i]->body, scan_ncarry(g->node[i]));
	return graph_map(g, NULL, NULL);
}
