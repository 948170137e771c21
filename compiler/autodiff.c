/* Reverse-mode differentiation of the graph: one accumulated adjoint per value, in reverse topological order.
   Rules for the primitives are in ops/grad.op, scans in scan_grad.c. Runs before contraction: a sum of products needs the rules of mul,
   expand and reduce_sum alone, and the gradients come out as sums of products again.

   Conventions: max(a, b) and reduce_max share the gradient of ties evenly; relu'(0) = 0; sqrt'(0) = inf as in
   IEEE arithmetic; comparisons, floor, sign, shuffle, integers and random numbers have no gradient. */
#include <string.h>

#include "mmc.h"

static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }

/* mark: the value depends on something in wrt. */
static void
mark_active(Graph *g, Node **wrt, int n, int last)
{
	for (int i = 0; i <= last; i++)
		g->node[i]->mark = 0;
	for (int i = 0; i < n; i++)
		wrt[i]->mark = 1;
	for (int i = 0; i <= last; i++) {
		Node *x = g->node[i];
		for (int k = 0; k < x->nin; k++)
			if (x->in[k]->mark && is_float(x->dt) && x->op != P_stop)
				x->mark = 1;
	}
}

/* The adjoints of a scan's operands, from those of the results that follow it; false if none has any. */
static bool
grad_results(Lower *w, Node *scan, Node *const *adj, int last, Node **dx)
{
	Graph *g = lower_graph(w);
	Node **d = arena_alloc(g->arena, (size_t)scan->body->noutput * sizeof *d);
	bool any = false;
	for (int i = scan->id + 1; i <= last; i++) {
		Node *n = g->node[i];
		if (n->op != P_result || n->in[0] != scan || !adj[i])
			continue;
		d[n->at[0]] = adj[i];
		any = true;
	}
	if (any)
		scan_grad(w, scan, d, dx);
	return any;
}

void
autodiff(Lower *w, Node *y, Node **wrt, int n, Node **d)
{
	Graph *g = lower_graph(w);
	int last = y->id, before = error_count();
	Node **adj = arena_alloc(g->arena, (size_t)(last + 1) * sizeof *adj);
	mark_active(g, wrt, n, last);
	adj[last] = mk_like(g, 1, y);
	for (int i = last; i >= 0; i--) {
		Node *x = g->node[i], **dx;
		if ((!adj[i] && x->op != P_scan) || !x->mark || !x->nin || x->op == P_result)
			continue;
		dx = arena_alloc(g->arena, (size_t)x->nin * sizeof *dx);
		if (x->op != P_scan)
			lower_grad(w, x, adj[i], dx);
		else if (!grad_results(w, x, adj, last, dx))
			continue;
		if (error_count() > before)
			break;
		for (int k = 0; k < x->nin; k++) {
			Node *in = x->in[k];
			if (!dx[k] || !in->mark)
				continue;
			adj[in->id] = adj[in->id] ? mk2(g, P_add, adj[in->id], dx[k]) : dx[k];
		}
	}
	for (int i = 0; i < n; i++)
		d[i] = wrt[i]->id <= last ? adj[wrt[i]->id] : NULL;
}
