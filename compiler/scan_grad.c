/* The adjoint of a scan is a scan in the other direction. Its carries are the adjoints of the carries; its step is the
   reverse derivative of the step, by the rules of ops/grad.op.

     h' = f(h, x_t, r)      dh = d(h') + g_t;  dh, dx_t, dr_t = f's adjoint;      dr = sum over t of dr_t, after the loop

   What the adjoint reads of the step is there already (carries, sequences, invariants), is computed again from those
   (elementwise work and views), or else is stacked by the first scan: it becomes another output of its body. */
#include <string.h>

#include "lower.h"

typedef struct Adjoint {
	Lower *w;
	Graph *g;
	Node *scan;
	Scan *s;           /* the other direction */
	int first, n;      /* ids of the nodes of the step and its adjoint: [first, n) can depend on it */
	Node **of;         /* by id of the body: the node in the graph that stands for it */
	Node **arg;        /* by operand of the scan: what stands for it in the step */
	int *origin;       /* by id: the body's node that it stands for, or -1 */
	bool *forward;     /* by id: of the step, and not the same in all */
	uint8_t *again;    /* by id: can_recompute: 1 yes, 2 no */
	Node **adj;        /* by id */
	Node **saved;      /* by id: what stands for it in the adjoint's step */
	int nadj;
} Adjoint;

static Kind kind(const Node *n) { return prim_info[n->op].kind; }
static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }

static void
add_to(Adjoint *a, Node *n, Node *d)
{
	Node **slot = &a->adj[n->id];
	*slot = *slot ? mk2(a->g, P_add, *slot, d) : d;
}

/* The step in the graph, on args. */
static void
instantiate(Adjoint *a)
{
	Graph *g = a->g, *body = a->scan->body;
	int n;
	a->first = g->nnode;
	a->of = arena_alloc(g->arena, (size_t)body->nnode * sizeof *a->of);
	a->arg = arena_alloc(g->arena, (size_t)a->scan->nin * sizeof *a->arg);
	for (int i = 0; i < a->scan->nin; i++) {
		const GInput *in = &body->input[i];
		a->arg[i] = node_new(g, P_arg, in->dt, NULL, 0, in->dim, in->nd, (int64_t[]){g->narg++}, 1, 0);
	}
	Node **v = graph_reach(body, &n);
	for (int i = 0; i < n; i++) {
		Node *x = v[i], **in = arena_alloc(g->arena, (size_t)x->nin * sizeof *in);
		for (int k = 0; k < x->nin; k++)
			in[k] = a->of[x->in[k]->id];
		g->loc = x->loc;
		a->of[x->id] = x->op == P_input ? a->arg[x->at[0]] : node_new(g, x->op, x->dt, in, x->nin, x->dim, x->nd, x->at, x->nat, x->f);
	}
	a->n = g->nnode;
	a->origin = arena_alloc(g->arena, (size_t)a->n * sizeof *a->origin);
	a->forward = arena_alloc(g->arena, (size_t)a->n);
	for (int i = 0; i < a->n; i++)
		a->origin[i] = -1;
	for (int i = 0; i < n; i++)
		a->origin[a->of[v[i]->id]->id] = v[i]->id;
	a->again = arena_alloc(g->arena, (size_t)a->n);
	for (int i = 0; i < a->scan->nin; i++)
		a->forward[a->arg[i]->id] = i < scan_ncarry(a->scan) || scan_is_seq(a->scan, i);
	for (int i = a->first; i < a->n; i++) {
		const Node *x = g->node[i];
		for (int k = 0; k < x->nin; k++)
			a->forward[i] |= a->forward[x->in[k]->id];
	}
}

/* The adjoint of a history that is zeros but for the value after the last step: that. It is where the adjoint begins. */
static Node *
only_end(Adjoint *a, Node *d)
{
	int64_t last = scan_reverse(a->scan) ? 0 : scan_steps(a->scan);
	if (d->op != P_pad || d->in[0]->dim[0] != 1 || d->at[0] != last)
		return NULL;
	for (int i = 1; i < d->nd; i++)
		if (d->in[0]->dim[i] != d->dim[i])
			return NULL;
	return mk_reshape(a->g, d->in[0], d->dim + 1, d->nd - 1);
}

/* What flows in: at the carries from the later step and from their histories, at what was emitted from its stack. */
static void
seed(Adjoint *a, Node **dresult)
{
	Graph *g = a->g, *body = a->scan->body;
	for (int k = 0; k < body->noutput; k++) {
		Node *y = a->of[body->output[k].node->id];
		bool carry = k < scan_ncarry(a->scan);
		if (!is_float(y->dt))
			continue;
		Node *end = carry && dresult[k] ? only_end(a, dresult[k]) : NULL;
		if (carry)
			add_to(a, y, scan_carry(a->s, end ? end : mk_like(g, 0, y)));
		if (dresult[k] && !end)
			add_to(a, y, scan_seq(a->s, carry ? scan_part(g, a->scan, dresult[k], true) : dresult[k]));
	}
}

/* active: depends on something whose adjoint is asked for. */
static void
sweep(Adjoint *a, const bool *active)
{
	Node *dx[8], **d = dx;
	for (int i = a->n - 1; i >= a->first; i--) {
		Node *x = a->g->node[i];
		if (!a->adj[i] || !active[i] || !x->nin)
			continue;
		if (x->nin > (int)LEN(dx))
			d = arena_alloc(a->g->arena, (size_t)x->nin * sizeof *d);
		lower_grad(a->w, x, a->adj[i], d);
		for (int k = 0; k < x->nin; k++)
			if (d[k] && active[x->in[k]->id])
				add_to(a, x->in[k], d[k]);
	}
}

/* By id: args of float type whose adjoint is asked for (carries: always), and all between them and the results. */
static bool *
find_active(Adjoint *a)
{
	bool *active = arena_alloc(a->g->arena, (size_t)a->n);
	for (int i = 0; i < a->scan->nin; i++)
		active[a->arg[i]->id] = is_float(a->arg[i]->dt) && (i < scan_ncarry(a->scan) || a->scan->in[i]->mark);
	for (int i = a->first; i < a->n; i++) {
		const Node *x = a->g->node[i];
		for (int k = 0; k < x->nin; k++)
			active[i] |= active[x->in[k]->id] && is_float(x->dt) && x->op != P_stop;
	}
	return active;
}

/* ---- values of the step that the adjoint reads ---- */

/* From carries, sequences and invariants by elementwise work alone. */
static bool
can_recompute(Adjoint *a, const Node *n)
{
	if (n->id >= a->n || !a->forward[n->id] || n->op == P_arg)
		return true;
	if (a->again[n->id])
		return a->again[n->id] == 1;
	bool yes = kind(n) == K_ELEM || kind(n) == K_VIEW;
	for (int i = 0; i < n->nin && yes; i++)
		yes = can_recompute(a, n->in[i]);
	for (int k = 0; k < scan_ncarry(a->scan); k++)
		yes |= a->of[a->scan->body->output[k].node->id] == n;
	a->again[n->id] = yes ? 1 : 2;
	return yes;
}

static bool
smaller_below(const Node *n)
{
	int64_t below = 0, own = node_count(n) * (int64_t)dtype_bytes(n->dt);
	for (int i = 0; i < n->nin; i++) {
		const Node *x = n->in[i];
		while (x->op == P_expand || x->op == P_permute || x->op == P_reshape)
			x = x->in[0];
		below += x->op == P_const ? 0 : node_count(x) * (int64_t)dtype_bytes(x->dt);
	}
	return kind(n) == K_VIEW || (kind(n) == K_ELEM && below < own);
}

/* The stacked values of a node of the body. */
static Node *
stack_of(Adjoint *a, Node *inner)
{
	Graph *body = a->scan->body;
	int k = 0;
	while (k < body->noutput && body->output[k].node != inner)
		k++;
	if (k == body->noutput)
		graph_output(body, "", "", inner);
	Node *r = mk_result(a->g, a->scan, k);
	return k < scan_ncarry(a->scan) ? scan_part(a->g, a->scan, r, true) : r;
}

static Node *read_step(Adjoint *a, Node *n);

static Node *
rebuild(Adjoint *a, Node *n)
{
	Node **in = arena_alloc(a->g->arena, (size_t)n->nin * sizeof *in);
	for (int i = 0; i < n->nin; i++)
		in[i] = read_step(a, n->in[i]);
	return node_new(a->g, n->op, n->dt, in, n->nin, n->dim, n->nd, n->at, n->nat, n->f);
}

static Node *
read_arg(Adjoint *a, Node *n)
{
	for (int i = 0; i < a->scan->nin; i++)
		if (a->arg[i] == n)
			return i < scan_ncarry(a->scan)       ? scan_seq(a->s, scan_part(a->g, a->scan, mk_result(a->g, a->scan, i), false))
			       : scan_is_seq(a->scan, i) ? scan_seq(a->s, a->scan->in[i])
			                                 : a->scan->in[i];
	return n; /* of the adjoint's own scan */
}

/* n, with what it reads of the step replaced. */
static Node *
read_step(Adjoint *a, Node *n)
{
	if (n->id < a->first || n->id >= a->nadj)
		return n;
	Node **v = &a->saved[n->id];
	if (*v)
		return *v;
	bool forward = n->id < a->n && a->forward[n->id];
	int inner = forward ? a->origin[n->id] : -1;
	bool is_next = false;
	for (int k = 0; inner >= 0 && k < scan_ncarry(a->scan); k++)
		is_next |= a->scan->body->output[k].node->id == inner;
	if (n->op == P_arg)
		return *v = read_arg(a, n);
	if (inner >= 0 && (is_next || !(can_recompute(a, n) || smaller_below(n))))
		return *v = scan_seq(a->s, stack_of(a, a->scan->body->node[inner]));
	return *v = rebuild(a, n);
}

void
scan_grad(Lower *w, Node *scan, Node **dresult, Node **d)
{
	Adjoint *a = &(Adjoint){.w = w, .g = lower_graph(w), .scan = scan};
	Graph *g = a->g;
	int ncarry = scan_ncarry(scan);
	int64_t init = scan_reverse(scan) ? scan_steps(scan) : 0;
	instantiate(a);
	a->s = scan_begin(g, scan_steps(scan), !scan_reverse(scan));
	a->adj = arena_alloc(g->arena, (size_t)a->n * sizeof *a->adj);
	seed(a, dresult);
	sweep(a, find_active(a));
	a->nadj = g->nnode;
	a->saved = arena_alloc(g->arena, (size_t)a->nadj * sizeof *a->saved);
	int *want = arena_alloc(g->arena, (size_t)scan->nin * sizeof *want), next = 0;
	for (int i = 0; i < scan->nin; i++) {
		Node *x = a->adj[a->arg[i]->id], *v = x ? read_step(a, x) : NULL;
		want[i] = -1;
		if (i >= ncarry) {
			want[i] = v && scan->in[i]->mark ? scan_want(a->s, v, !scan_is_seq(scan, i)) : -1;
		} else if (is_float(scan->in[i]->dt)) {
			scan_next(a->s, next, v ? v : mk_like(g, 0, scan->in[i]));
			want[i] = next++;
			if (scan->in[i]->mark)
				scan_keep(a->s, want[i]);
		}
	}
	scan_end(a->s);
	for (int i = 0; i < scan->nin; i++) {
		d[i] = NULL;
		if (want[i] < 0 || !scan->in[i]->mark)
			continue;
		if (i >= ncarry) {
			d[i] = scan_value(a->s, want[i]);
			continue;
		}
		d[i] = scan_slot(g, scan_history(a->s, want[i]), init);
		if (dresult[i])
			d[i] = mk2(g, P_add, d[i], scan_slot(g, dresult[i], init));
	}
}
