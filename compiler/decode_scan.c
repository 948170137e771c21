/* A scan's step at the place: its carries are states, which begin anew at place 0, and its body is part of the run. */
#include "decode.h"

/* A carry before the step, and at place 0. */
static Node *
carry_before(Decode *d, const Node *scan, int k, int *state)
{
	Part init = need_all(d, scan->in[k]);
	if (!init.node || init.late >= 0) {
		refuse(d, scan, "begins with what hangs on all places");
		return NULL;
	}
	*state = keep_state(d, scan, scan->in[k]);
	Graph *g = serve(d, scan);
	Node *first = mk2(g, P_eq, d->place, scalar_i32(g, 0));
	return mk3(g, P_select, repeat(g, first, init.node->dim, init.node->nd), init.node, mk_state(g, *state));
}

/* Operand k as the body takes it. */
static Node *
step_operand(Decode *d, const Node *scan, int k)
{
	Node *x = scan->in[k];
	bool seq = scan_is_seq(scan, k);
	Part p = seq ? need_at(d, x, 0, 0) : need_all(d, x);
	if (!p.node || p.late >= 0) {
		refuse(d, scan, "takes in later places");
		return NULL;
	}
	return seq ? mk_reshape(serve(d, scan), p.node, x->dim + 1, x->nd - 1) : p.node;
}

/* The body's values on these operands, by id. */
static Node **
copy_body(Decode *d, Graph *body, Node **operand)
{
	int n;
	Node **v = graph_reach(body, &n), **image = arena_alloc(d->to->arena, (size_t)(body->nnode + 1) * sizeof *image);
	for (int i = 0; i < n; i++) {
		Node *x = v[i], **in = arena_alloc(d->to->arena, (size_t)x->nin * sizeof *in);
		for (int k = 0; k < x->nin; k++)
			in[k] = image[x->in[k]->id];
		if (x->op == P_scan)
			image[x->id] = mk_scan(serve(d, x), in, x->nin, x->at, x->nat, x->body);
		else if (x->op == P_result)
			image[x->id] = mk_result(serve(d, x), in[0], (int)x->at[0]);
		else
			image[x->id] = x->op == P_input ? operand[x->at[0]] : remake(d, x, in, x->dim, x->at);
	}
	return image;
}

/* One value updates one state. */
static Node *
own_update(Graph *g, Node *v, int state)
{
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update == v)
			return node_new(g, P_stop, 0, &v, 1, NULL, 0, (int64_t[]){state}, 1, 0);
	return v;
}

static Stepped *
step_scan(Decode *d, Node *scan)
{
	Info *info = &d->info[scan->id];
	Arena *a = d->to->arena;
	int ncarry = scan_ncarry(scan), *state = arena_alloc(a, (size_t)ncarry * sizeof *state);
	Node **in = arena_alloc(a, (size_t)scan->nin * sizeof *in);
	if (info->stepped)
		return info->stepped;
	Stepped *s = info->stepped = arena_alloc(a, sizeof *s);
	if (scan_reverse(scan)) {
		refuse(d, scan, "begins at the last place");
		return s;
	}
	for (int k = 0; k < scan->nin; k++) {
		in[k] = k < ncarry ? carry_before(d, scan, k, &state[k]) : step_operand(d, scan, k);
		if (!in[k])
			return s;
	}
	Node **image = copy_body(d, scan->body, in);
	s->before = in;
	s->value = arena_alloc(a, (size_t)scan->body->noutput * sizeof *s->value);
	for (int k = 0; k < scan->body->noutput; k++)
		s->value[k] = image[scan->body->output[k].node->id];
	for (int k = 0; k < ncarry; k++)
		d->to->state[state[k]].update = own_update(d->to, s->value[k], state[k]);
	return s;
}

Part
step_result(Decode *d, Node *n, int dim, int64_t off)
{
	Node *scan = n->in[0];
	int64_t size[MAXDIM];
	bool carry = n->at[0] < scan_ncarry(scan);
	if (dim != 0)
		return refuse(d, scan, "is a loop over another axis");
	if (off > carry)
		return refuse(d, n, "is needed at later places");
	Stepped *s = step_scan(d, scan);
	if (!s->value)
		return NOTHING;
	Node *v = (carry && off == 0 ? s->before : s->value)[n->at[0]];
	return (Part){mk_reshape(serve(d, n), v, at_one(n, 0, size), n->nd), NOWHERE};
}
