/* Reverse-mode differentiation of the graph: one accumulated adjoint per value, in reverse topological order.
   Rules for the primitives are in ops/grad.op, scans in scan_grad.c. Runs before contraction: a sum of products needs the rules of mul,
   expand and reduce_sum alone, and the gradients come out as sums of products again.

   Where values are elementwise functions of one value by several ways, as gelu(x) = x (1 + erf(x / sqrt 2)) / 2, its derivative
   is made first and the adjoint multiplied once:  dy f'(x), not the sum of what each way makes of dy.

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

#define ISLAND 64 /* nodes */

typedef struct Diff {
	Lower *w;
	Graph *g;
	Node **adj;     /* by id */
	int *readers;   /* by id: operands of active nodes */
	bool *wanted;   /* by id: its adjoint is asked for */
} Diff;

static bool
inside_ok(const Diff *d, const Node *x, int readers)
{
	return prim_info[x->op].kind == K_ELEM && x->op != P_stop && is_float(x->dt) && readers == d->readers[x->id] && !d->wanted[x->id];
}

/* The nodes between y and the nearest value that y is an elementwise function of: way[0] is y, the last that value; ids fall. How many;
   0 if there is none, or a single way leads there. */
static int
island(const Diff *d, Node *y, Node **way)
{
	Node *edge[ISLAND];
	int readers[ISLAND], nedge = 1, n = 0;
	edge[0] = y;
	readers[0] = d->readers[y->id];
	for (;;) {
		int top = 0;
		for (int i = 1; i < nedge; i++)
			if (edge[i]->id > edge[top]->id)
				top = i;
		Node *x = way[n++] = edge[top];
		if (nedge == 1 && x != y)
			return n > 2 || readers[0] > 1 ? n : 0;
		if (n == ISLAND || (x != y && !inside_ok(d, x, readers[top])))
			return 0;
		edge[top] = edge[--nedge];
		readers[top] = readers[nedge];
		for (int k = 0; k < x->nin; k++) {
			int at = 0;
			if (!x->in[k]->mark)
				continue;
			while (at < nedge && edge[at] != x->in[k])
				at++;
			if (at == ISLAND)
				return 0;
			if (at == nedge) {
				edge[nedge] = x->in[k];
				readers[nedge++] = 0;
			}
			readers[at]++;
		}
		if (nedge == 0)
			return 0;
	}
}

static void
add_to(Graph *g, Node **sum, Node *x)
{
	*sum = *sum ? mk2(g, P_add, *sum, x) : x;
}

/* Adds what x hands on of its adjoint to those of its operands. */
static bool
hand_on(Diff *d, Node *x, Node *dy, Node **adj, int last)
{
	Node **dx = arena_alloc(d->g->arena, (size_t)x->nin * sizeof *dx);
	if (x->op != P_scan)
		lower_grad(d->w, x, dy, dx);
	else if (!grad_results(d->w, x, adj, last, dx))
		return false;
	for (int k = 0; k < x->nin; k++)
		if (dx[k] && x->in[k]->mark)
			add_to(d->g, &adj[x->in[k]->id], dx[k]);
	return true;
}

/* The adjoint of the last on the way, by the derivative of the first by it. */
static void
hand_over(Diff *d, Node **way, int n)
{
	Node *y = way[0], *x = way[n - 1], **slope = arena_alloc(d->g->arena, (size_t)(y->id + 1) * sizeof *slope);
	slope[y->id] = mk_like(d->g, 1, y);
	for (int i = 0; i + 1 < n; i++)
		if (slope[way[i]->id])
			hand_on(d, way[i], slope[way[i]->id], slope, 0);
	if (slope[x->id])
		add_to(d->g, &d->adj[x->id], mk2(d->g, P_mul, d->adj[y->id], slope[x->id]));
}

void
autodiff(Lower *w, Node *y, Node **wrt, int n, Node **d)
{
	Graph *g = lower_graph(w);
	int last = y->id, before = error_count();
	size_t size = (size_t)(last + 1);
	Diff f = {w, g, arena_alloc(g->arena, size * sizeof *f.adj), arena_alloc(g->arena, size * sizeof *f.readers), arena_alloc(g->arena, size)};
	Node *way[ISLAND];
	mark_active(g, wrt, n, last);
	for (int i = 0; i <= last; i++)
		for (int k = 0; g->node[i]->mark && k < g->node[i]->nin; k++)
			f.readers[g->node[i]->in[k]->id]++;
	for (int i = 0; i < n; i++)
		if (wrt[i]->id <= last)
			f.wanted[wrt[i]->id] = true;
	f.adj[last] = mk_like(g, 1, y);
	for (int i = last; i >= 0 && error_count() == before; i--) {
		Node *x = g->node[i];
		if ((!f.adj[i] && x->op != P_scan) || !x->mark || !x->nin || x->op == P_result)
			continue;
		int found = prim_info[x->op].kind == K_ELEM && x->op != P_stop ? island(&f, x, way) : 0;
		if (found)
			hand_over(&f, way, found);
		else
			hand_on(&f, x, f.adj[i], f.adj, last);
	}
	for (int i = 0; i < n; i++)
		d[i] = wrt[i]->id <= last ? f.adj[wrt[i]->id] : NULL;
}
