/* Smaller graphs of a graph: one change at a time, each rebuilt and checked by node_check. */
#include <stdlib.h>
#include <string.h>

#include "check_graph.h"

typedef struct Edit {
	Node *node;        /* replaced, or NULL */
	int by;            /* operand; INPUT, CONST */
	int64_t size, to;  /* dims of this size become that; 0: none */
	Graph *from;
	bool bad;
} Edit;

enum { OPERANDS = 3, INPUT = OPERANDS, CONST, NBY };

static int64_t
new_size(const Edit *e, int64_t d)
{
	return e->size && d == e->size ? e->to : d;
}

/* A fresh input of n's type, as it is after the edit. */
static Node *
fresh_input(Graph *to, const Node *n)
{
	GInput in = {.name = arena_printf(to->arena, "cut%d", n->id), .dt = n->dt, .below = n->dt == DT_I32 ? 4 : 0, .nd = n->nd};
	memcpy(in.dim, n->dim, sizeof in.dim);
	for (int i = 0; i < to->ninput; i++) /* cut before, in an earlier change */
		if (!strcmp(to->input[i].name, in.name))
			in.name = arena_printf(to->arena, "%s_", in.name);
	return mk_input(to, graph_input(to, in));
}

static Node *
edit_node(Graph *to, Node *n, Node **in, void *ctx)
{
	Edit *e = ctx;
	Node t = *n;
	t.in = in;
	for (int i = 0; i < t.nd; i++)
		t.dim[i] = new_size(e, t.dim[i]);
	if (n == e->node) {
		if (e->by == INPUT)
			return fresh_input(to, &t);
		if (e->by == CONST)
			return mk_const(to, t.dt, 1, t.dim, t.nd);
		return in[e->by];
	}
	if (n->op == P_result)
		return NULL;
	if (n->op == P_input || n->op == P_state)
		memcpy(n->op == P_input ? to->input[n->at[0]].dim : to->state[n->at[0]].dim, t.dim, sizeof t.dim);
	if (e->bad || node_check(&t)) {
		e->bad = true;
		return mk_const(to, t.dt, 0, t.dim, t.nd);
	}
	return node_new(to, t.op, t.dt, t.in, t.nin, t.dim, t.nd, t.at, t.nat, t.f);
}

/* ---- inputs and states that are left ---- */

static Node *
renumber_leaf(Graph *to, Node *n, Node **in, void *ctx)
{
	Graph *g = ctx;
	(void)in;
	if (n->op == P_input) {
		for (int i = 0; i < to->ninput; i++)
			if (!strcmp(to->input[i].name, g->input[n->at[0]].name))
				return mk_input(to, i);
		return mk_input(to, graph_input(to, g->input[n->at[0]]));
	}
	if (n->op == P_state)
		return mk_state(to, graph_state(to, g->state[n->at[0]]));
	return NULL;
}

static Graph *
compact(Graph *g)
{
	int n;
	Graph *all = graph_new(g->arena, g->name), bare = *g;
	Node **v = graph_reach(g, &n);
	Node **image = arena_alloc(g->arena, (size_t)g->nnode * sizeof *image);
	all->batch = g->batch;
	all->nsite = g->nsite;
	(void)bare;
	for (int i = 0; i < n; i++) {
		Node *x = v[i], **in = arena_alloc(g->arena, (size_t)x->nin * sizeof *in);
		for (int k = 0; k < x->nin; k++)
			in[k] = image[x->in[k]->id];
		Node *y = x->op == P_scan ? mk_scan(all, in, x->nin, x->at, x->nat, x->body) : renumber_leaf(all, x, in, g);
		image[x->id] = y ? y : node_new(all, x->op, x->dt, in, x->nin, x->dim, x->nd, x->at, x->nat, x->f);
	}
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update) {
			int k = graph_state(all, g->state[i]);
			all->state[k].update = image[g->state[i].update->id];
		}
	for (int i = 0; i < all->nstate; i++) { /* taken over with the state of the old graph */
		bool mapped = false;
		for (int k = 0; k < g->nstate; k++)
			mapped |= !strcmp(g->state[k].name, all->state[i].name) && g->state[k].update;
		if (!mapped)
			all->state[i].update = NULL;
	}
	for (int i = 0; i < g->noutput; i++)
		graph_output(all, g->output[i].name, g->output[i].role, image[g->output[i].node->id]);
	return all;
}

static Graph *
apply(Graph *g, Edit *e, int drop_output, int drop_update, bool *valid)
{
	Graph from = *g;
	int left = 0;
	/* the edit changes copies */
	from.state = arena_alloc(g->arena, (size_t)(g->nstate + 1) * sizeof *from.state);
	from.output = arena_alloc(g->arena, (size_t)(g->noutput + 1) * sizeof *from.output);
	if (g->nstate)
		memcpy(from.state, g->state, (size_t)g->nstate * sizeof *from.state);
	from.noutput = 0;
	for (int i = 0; i < g->noutput; i++)
		if (i != drop_output)
			from.output[from.noutput++] = g->output[i];
	if (drop_update >= 0)
		from.state[drop_update].update = NULL;
	for (int i = 0; i < from.nstate; i++)
		left += from.state[i].update != NULL;
	if (!(*valid = from.noutput + left > 0))
		return g;
	Graph *to = graph_map(&from, edit_node, e);
	for (int i = 0; i < to->nnode && !e->bad; i++) /* scans and their results are no matter of edit_node */
		e->bad = node_check(to->node[i]) != NULL;
	for (int i = 0; i < to->nstate && !e->bad; i++) {
		const Node *u = to->state[i].update;
		e->bad = u && (u->nd != to->state[i].nd || memcmp(u->dim, to->state[i].dim, (size_t)u->nd * sizeof *u->dim) || u->dt != to->state[i].dt);
	}
	*valid = !e->bad;
	return e->bad ? g : compact(to);
}

/* What the graph reaches, with the nodes of its scans' steps; outside: how many are the graph's own, the first ones. */
static Node **
all_nodes(Graph *g, int *n, int *outside)
{
	Node **own = graph_reach(g, outside), **v = NULL;
	int cap = 0;
	*n = 0;
	for (int i = 0; i < *outside; i++)
		VEC_PUSH(v, *n, cap) = own[i];
	for (int i = 0; i < *outside; i++) {
		int inner;
		Node **b = own[i]->op == P_scan ? graph_reach(own[i]->body, &inner) : NULL;
		for (int k = 0; b && k < inner; k++)
			VEC_PUSH(v, *n, cap) = b[k];
	}
	Node **all = arena_alloc(g->arena, (size_t)*n * sizeof *all);
	memcpy(all, v, (size_t)*n * sizeof *all);
	free(v);
	return all;
}

/* Can node x be replaced so? In a step there are no inputs but the scan's operands. */
static bool
can_replace(const Node *x, int by, bool in_step)
{
	const Node *y = by < x->nin && by < OPERANDS ? x->in[by] : NULL;
	if (x->op == P_scan)
		return false;
	if (by == INPUT)
		return prim_info[x->op].kind != K_LEAF && x->dt != DT_U32 && !in_step;
	if (by == CONST)
		return x->op != P_const && x->op != P_state && !(in_step && x->op == P_input);
	return y && y->dt == x->dt && y->nd == x->nd && !memcmp(y->dim, x->dim, (size_t)x->nd * sizeof *x->dim);
}

Graph *
shrink(Graph *g, int k, bool *valid)
{
	int n, outside, nsize = 0;
	int64_t size[64];
	Node **v = all_nodes(g, &n, &outside);
	*valid = false;
	if (k < g->noutput)
		return apply(g, &(Edit){0}, k, -1, valid);
	k -= g->noutput;
	if (k < g->nstate)
		return g->state[k].update ? apply(g, &(Edit){0}, -1, k, valid) : g;
	k -= g->nstate;
	if (k < NBY * n) {
		int i = n - 1 - k / NBY;
		Edit e = {.node = v[i], .by = k % NBY};
		return can_replace(e.node, e.by, i >= outside) ? apply(g, &e, -1, -1, valid) : g;
	}
	k -= NBY * n;
	for (int i = 0; i < n; i++)
		for (int d = 0; d < v[i]->nd; d++) {
			int s = 0;
			while (s < nsize && size[s] != v[i]->dim[d])
				s++;
			if (s == nsize && nsize < (int)LEN(size) && v[i]->dim[d] > 1)
				size[nsize++] = v[i]->dim[d];
		}
	if (k >= 4 * nsize)
		return NULL;
	int64_t from = size[k / 4], to[] = {1, 2, from / 2, from - 1};
	Edit e = {.size = from, .to = to[k % 4]};
	return e.to < from && e.to > 0 ? apply(g, &e, -1, -1, valid) : g;
}
