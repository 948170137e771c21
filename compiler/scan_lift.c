/* Bodies of scans after a pass has changed them, as graph_map meets them. A pass may leave work in a body that need not be there: what
   is the same in all steps is made outside, and a carry that is rounded in each step becomes two, rounded where it is made. What
   was widened for the scan is widened in it.

     h' = f(dot(cast(h), cast(r)))   ->   h' = f(dot(g, s)), g' = cast(f(..)), s = cast(r) outside  */
#include <string.h>

#include "mmc.h"

typedef struct Lift {
	const Node *scan;
	Graph *to;
	Node **ops;     /* operands in `to`, and the lifted ones after them */
	int nops, ncast;
	Node *cast[16]; /* of carries, in the old body */
	uint8_t *dep;   /* by id: 1 invariants alone, 2 others */
	bool *read;     /* by id: by what stays in the body */
	Node **outer;   /* by id: made in `to` */
	Node **given;   /* operands in `to`, by the old count */
} Lift;

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

static Node *
outside(Lift *l, Node *n)
{
	Node **v = &l->outer[n->id], **in = arena_alloc(l->to->arena, (size_t)n->nin * sizeof *in);
	if (*v)
		return *v;
	for (int i = 0; i < n->nin; i++)
		in[i] = outside(l, n->in[i]);
	if (n->op == P_input)
		return *v = l->given[n->at[0]];
	return *v = node_new(l->to, n->op, n->dt, in, n->nin, n->dim, n->nd, n->at, n->nat, n->f);
}

/* A sort stays where its rows are summed: their kernels take its sizes from it. */
static bool
lifts(const Lift *l, const Node *n)
{
	return l->dep[n->id] == 1 && l->read[n->id] && kind(n) != K_VIEW && kind(n) != K_LEAF && kind(n) != K_SORT;
}

static bool
rounds_carry(const Lift *l, const Node *n)
{
	return n->op == P_cast && n->in[0]->op == P_input && n->in[0]->at[0] < scan_ncarry(l->scan) && dtype_bytes(n->dt) < dtype_bytes(n->in[0]->dt) &&
	       n->dt != DT_BOOL;
}

static GInput
input_like(const Node *n)
{
	GInput in = {.name = "", .dt = n->dt, .nd = n->nd};
	memcpy(in.dim, n->dim, sizeof in.dim);
	return in;
}

static Node *
lift_node(Graph *body, Node *n, Node **in, void *ctx)
{
	Lift *l = ctx;
	(void)in;
	if (n->op == P_input) /* of a narrower type than it was: see insert_carries */
		return mk_cast(body, mk_input(body, (int)n->at[0] + (n->at[0] >= scan_ncarry(l->scan) ? l->ncast : 0)), n->dt);
	for (int i = 0; i < l->ncast; i++)
		if (l->cast[i] == n)
			return mk_input(body, scan_ncarry(l->scan) + i);
	if (!lifts(l, n))
		return NULL;
	l->ops[l->nops++] = outside(l, n);
	return mk_input(body, graph_input(body, input_like(n)));
}

/* Looks for what is to be lifted; the number of invariant nodes. */
static int
find_lifts(Lift *l, Graph *body)
{
	int n, nlift = 0;
	Node **v = graph_reach(body, &n);
	for (int i = 0; i < n; i++) {
		Node *x = v[i];
		uint8_t *d = &l->dep[x->id];
		if (x->op == P_input)
			*d = x->at[0] < scan_ncarry(l->scan) || scan_is_seq(l->scan, (int)x->at[0]) ? 2 : 1;
		for (int k = 0; k < x->nin; k++)
			*d = l->dep[x->in[k]->id] > *d ? l->dep[x->in[k]->id] : *d;
		if (rounds_carry(l, x) && l->ncast < (int)LEN(l->cast))
			l->cast[l->ncast++] = x;
	}
	for (int i = 0; i < body->noutput; i++)
		l->read[body->output[i].node->id] = true;
	for (int i = n - 1; i >= 0; i--) { /* users first */
		nlift += lifts(l, v[i]);
		for (int k = 0; k < v[i]->nin && !lifts(l, v[i]); k++)
			l->read[v[i]->in[k]->id] |= l->dep[v[i]->id] == 2 || l->read[v[i]->id];
	}
	return nlift;
}

/* A value of a narrow type made wide, which a step can do as it reads it. */
static bool
is_widened(const Node *n)
{
	return n->op == P_cast && dtype_bytes(n->in[0]->dt) < dtype_bytes(n->dt) && n->dt == DT_F32 && (n->in[0]->dt == DT_BF16 || n->in[0]->dt == DT_F16);
}

/* The body's inputs and outputs with the rounded carries behind the others. */
static void
insert_carries(Lift *l, Graph *body)
{
	Arena *a = l->to->arena;
	int n = scan_ncarry(l->scan), c = l->ncast;
	GInput *in = arena_alloc(a, (size_t)(body->ninput + c) * sizeof *in);
	GOutput *out = arena_alloc(a, (size_t)(body->noutput + c) * sizeof *out);
	memcpy(in, body->input, (size_t)n * sizeof *in);
	memcpy(out, body->output, (size_t)n * sizeof *out);
	memcpy(l->ops, l->given, (size_t)n * sizeof *l->ops);
	for (int i = 0; i < c; i++) {
		int64_t k = l->cast[i]->in[0]->at[0];
		in[n + i] = input_like(l->cast[i]);
		out[n + i] = (GOutput){"", "", mk_cast(body, body->output[k].node, l->cast[i]->dt)};
		l->ops[n + i] = mk_cast(l->to, l->given[k], l->cast[i]->dt);
	}
	memcpy(in + n + c, body->input + n, (size_t)(body->ninput - n) * sizeof *in);
	memcpy(out + n + c, body->output + n, (size_t)(body->noutput - n) * sizeof *out);
	memcpy(l->ops + n + c, l->given + n, (size_t)(l->scan->nin - n) * sizeof *l->ops);
	for (int i = n + c; i < body->ninput + c; i++)
		if (is_widened(l->ops[i])) {
			l->ops[i] = l->ops[i]->in[0];
			in[i].dt = l->ops[i]->dt;
		}
	body->input = in;
	body->output = out;
	body->ninput = body->capinput = body->ninput + c;
	body->noutput = body->capoutput = body->noutput + c;
	l->nops = l->scan->nin + c;
}

Node *
scan_lift(Graph *to, const Node *scan, Node **ops, Graph *body)
{
	Lift l = {.scan = scan, .to = to, .given = ops};
	size_t n = (size_t)body->nnode + 8 * LEN(l.cast); /* room for the casts of next values, and their views */
	l.dep = arena_alloc(to->arena, n);
	l.read = arena_alloc(to->arena, n);
	l.outer = arena_alloc(to->arena, n * sizeof *l.outer);
	int nlift = find_lifts(&l, body);
	bool widened = false;
	for (int i = scan_ncarry(scan); i < scan->nin; i++)
		widened |= is_widened(ops[i]);
	if (!nlift && !l.ncast && !widened)
		return mk_scan(to, ops, scan->nin, scan->at, scan->nat, body);
	l.ops = arena_alloc(to->arena, (size_t)(scan->nin + nlift + l.ncast) * sizeof *l.ops);
	insert_carries(&l, body);
	body = graph_map(body, lift_node, &l);
	int64_t *at = arena_alloc(to->arena, (size_t)(scan->nat + nlift) * sizeof *at);
	memcpy(at, scan->at, (size_t)scan->nat * sizeof *at);
	at[2] += l.ncast;
	return mk_scan(to, l.ops, l.nops, at, 3 + l.nops - (int)at[2], body);
}

/* Is x the cast of y, as a whole or part by part? */
static bool
rounds(const Node *x, const Node *y, DType dt)
{
	if (x->op == P_cast)
		return x->dt == dt && x->in[0] == y;
	if (x->op != P_concat || y->op != P_concat || x->nin != y->nin || x->at[0] != y->at[0])
		return false;
	for (int i = 0; i < x->nin; i++)
		if (!rounds(x->in[i], y->in[i], dt))
			return false;
	return true;
}

Node *
scan_rounded(Graph *g, const Node *result, DType dt)
{
	Node *scan = result->in[0], *y = scan->body->output[result->at[0]].node;
	bool carry = result->at[0] < scan_ncarry(scan);
	for (int k = 0; k < scan->body->noutput; k++) {
		const Node *x = scan->body->output[k].node;
		if (rounds(x, y, dt) && carry == (k < scan_ncarry(scan)))
			return mk_result(g, scan, k);
	}
	for (int i = 0; i < scan->body->nnode && !carry; i++) {
		Node *x = scan->body->node[i];
		if (rounds(x, y, dt))
			return mk_result(g, scan, graph_output(scan->body, "", "", x));
	}
	return NULL;
}
