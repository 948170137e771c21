/* Scans: a step is traced into the graph as ordinary nodes, on P_arg leaves that stand for the values of one step, and
   becomes a loop here. Only what a carry needs stays in the loop:

     hoist   what depends on no carry is made before the loop, for all steps at once, if it is more than elementwise
     sink    what no carry depends on is made after the loop, from the values that it reads, stacked

     scan t (h = 0) { h = tanh(sum(x * w, i) + sum(h * r, p));  emit sum(h * v, p) }
       u = sum(x[t, ..] * w, i)                                         one product over all t
       v1 = scan(0, u, r) { h' = tanh(u_t + sum(h * r, p)) }
       y = sum(result(v1) * v, p)                                       one product over all t

   Both are the same rewrite: a node, made again with a leading dim for the steps (`for_all`). A sum over the steps goes
   through it into products, so the gradient of an invariant (scan_grad.c) is one product after the loop.

   A scan node has the operands: inits of the carries, then sequences and invariants as they were met. Its body is a graph of
   one step: input k is operand k (a sequence: its part), the first outputs are the carries' next values, the others what is
   emitted. Results are picked by P_result: a carry with all its values, its init among them, so that what a later step or
   the gradient reads is a slice of what the loop wrote anyway; anything else of the body, stacked. */
#include <string.h>

#include "mmc.h"

enum { CARRY = 1, STEP = 2, AFFECTS = 4, EMIT = 8, SUNK = 16, NEEDED = 32, INSIDE = 64, IN_PARTS = 128 };

typedef struct Want {
	Node *node;
	bool sum;
	Node *value;
} Want;

typedef struct Carry {
	Node *arg, *init, *next;
	bool keep, live;
	int output;       /* of the body */
	Node *history;
} Carry;

typedef struct Seq {
	Node *arg, *whole;
} Seq;

struct Scan {
	Graph *g;
	int64_t steps;
	bool reverse;
	int first;        /* no node with a smaller id depends on a step */
	Carry *carry;
	Seq *seq;
	Want *want;
	int ncarry, nseq, nwant, capcarry, capseq, capwant;
	/* scan_end; arrays by id of traced nodes, of which there are n */
	int n;
	uint8_t *flag;    /* CARRY: depends on one; STEP: on a sequence; AFFECTS: a carry's next value; EMIT:
	                     leaves the loop; SUNK: depends on a carry, and is made after the loop; NEEDED: for what is wanted; INSIDE: for
	                     what leaves the loop; IN_PARTS: elementwise, and only slices of it are read */
	int *which;       /* number of the carry or sequence that an arg stands for; of the carry whose next value it is; -1 */
	Node **inner;     /* in the body */
	Node **outer;     /* for all steps */
	int *output;      /* of the body, where EMIT */
	Graph *body;
	Node *scan;
	Node **operand;
	int64_t *is_seq;
	int noperand, capoperand;
};

int64_t scan_steps(const Node *scan) { return scan->at[0]; }
bool scan_reverse(const Node *scan) { return scan->at[1]; }
int scan_ncarry(const Node *scan) { return (int)scan->at[2]; }
bool scan_is_seq(const Node *scan, int operand) { return operand >= scan->at[2] && scan->at[3 + operand - scan->at[2]]; }

static void *
grown(Arena *a, void *p, int n, int *cap, size_t size)
{
	if (n < *cap)
		return p;
	void *q = arena_alloc(a, (size_t)(*cap = *cap * 2 + 8) * size);
	if (n)
		memcpy(q, p, (size_t)n * size);
	return q;
}

/* ---- tracing ---- */

Scan *
scan_begin(Graph *g, int64_t steps, bool reverse)
{
	Scan *s = arena_alloc(g->arena, sizeof *s);
	s->g = g;
	s->steps = steps;
	s->reverse = reverse;
	s->first = g->nnode;
	return s;
}

static Node *
arg_like(Graph *g, DType dt, const int64_t *dim, int nd)
{
	return node_new(g, P_arg, dt, NULL, 0, nd ? dim : (const int64_t[]){0}, nd, (int64_t[]){g->narg++}, 1, 0);
}

Node *
scan_carry(Scan *s, Node *init)
{
	s->carry = grown(s->g->arena, s->carry, s->ncarry, &s->capcarry, sizeof *s->carry);
	Carry *c = &s->carry[s->ncarry++];
	*c = (Carry){.arg = arg_like(s->g, init->dt, init->dim, init->nd), .init = init};
	return c->arg;
}

Node *
scan_seq(Scan *s, Node *whole)
{
	for (int i = 0; i < s->nseq; i++)
		if (s->seq[i].whole == whole)
			return s->seq[i].arg;
	s->seq = grown(s->g->arena, s->seq, s->nseq, &s->capseq, sizeof *s->seq);
	Seq *q = &s->seq[s->nseq++];
	*q = (Seq){arg_like(s->g, whole->dt, whole->dim + 1, whole->nd - 1), whole};
	return q->arg;
}

void scan_next(Scan *s, int carry, Node *value) { s->carry[carry].next = value; }
void scan_keep(Scan *s, int carry) { s->carry[carry].keep = true; }

int
scan_want(Scan *s, Node *value, bool sum)
{
	s->want = grown(s->g->arena, s->want, s->nwant, &s->capwant, sizeof *s->want);
	s->want[s->nwant] = (Want){.node = value, .sum = sum};
	return s->nwant++;
}

const Node *
scan_too_large(const Scan *s, int64_t most)
{
	for (int i = s->first; i < s->g->nnode; i++) {
		const Node *n = s->g->node[i];
		if (n->nd == MAXDIM || node_count(n) > most / s->steps)
			return n;
	}
	return NULL;
}

/* ---- kinds of nodes ---- */

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

static int64_t bytes(const Node *n) { return node_count(n) * (int64_t)dtype_bytes(n->dt); }

/* What reading it costs, repeated elements counted once. */
static int64_t
bytes_below(const Node *n)
{
	while (n->op == P_expand || n->op == P_permute || n->op == P_reshape)
		n = n->in[0];
	return n->op == P_const || n->op == P_iota ? 0 : bytes(n);
}

static int64_t
operand_bytes(const Node *n)
{
	int64_t sum = 0;
	for (int i = 0; i < n->nin; i++)
		sum += bytes_below(n->in[i]);
	return sum;
}

static bool is_cheap(const Node *n) { return kind(n) == K_ELEM || kind(n) == K_VIEW; }

static bool has(const Scan *s, const Node *n, int flag) { return n->id < s->n && s->flag[n->id] & flag; }

static Carry *
carry_of(const Scan *s, const Node *n)
{
	return n->op == P_arg && has(s, n, CARRY) ? &s->carry[s->which[n->id]] : NULL;
}

/* The live carry whose value after the step it is. */
static Carry *
next_of(const Scan *s, const Node *n)
{
	return n->op != P_arg && has(s, n, CARRY) && s->which[n->id] >= 0 ? &s->carry[s->which[n->id]] : NULL;
}

/* ---- what goes where ---- */

/* What a step's value depends on. A random number is another one in each step. */
static void
find_dependence(Scan *s)
{
	for (int i = 0; i < s->n; i++)
		s->which[i] = -1;
	for (int k = 0; k < s->ncarry; k++) {
		s->flag[s->carry[k].arg->id] = CARRY;
		s->which[s->carry[k].arg->id] = k;
	}
	for (int k = 0; k < s->nseq; k++) {
		s->flag[s->seq[k].arg->id] = STEP;
		s->which[s->seq[k].arg->id] = k;
	}
	for (int i = s->first; i < s->n; i++) {
		const Node *n = s->g->node[i];
		for (int k = 0; k < n->nin; k++)
			s->flag[i] |= s->flag[n->in[k]->id] & (CARRY | STEP);
		if (n->op == P_random)
			s->flag[i] |= STEP;
	}
}

static void
mark_below(Scan *s, Node *n, int flag)
{
	if (has(s, n, flag) || !has(s, n, CARRY | STEP))
		return;
	s->flag[n->id] |= (uint8_t)flag;
	for (int i = 0; i < n->nin; i++)
		mark_below(s, n->in[i], flag);
}

/* A carry that nothing wanted depends on is dropped. */
static void
find_live(Scan *s)
{
	bool again = true;
	for (int i = 0; i < s->nwant; i++)
		mark_below(s, s->want[i].node, NEEDED);
	while (again) {
		again = false;
		for (int k = 0; k < s->ncarry; k++) {
			Carry *c = &s->carry[k];
			if (c->live || !(c->keep || has(s, c->arg, NEEDED)))
				continue;
			c->live = again = true;
			mark_below(s, c->next, NEEDED);
		}
	}
	for (int k = 0; k < s->ncarry; k++) {
		Carry *c = &s->carry[k];
		if (c->live && has(s, c->next, CARRY) && c->next->op != P_arg && s->which[c->next->id] < 0)
			s->which[c->next->id] = k;
		if (c->live)
			mark_below(s, c->next, AFFECTS);
	}
}

static void
find_sunk(Scan *s)
{
	for (int i = s->first; i < s->n; i++) {
		const Node *n = s->g->node[i];
		bool sunk = !is_cheap(n) && kind(n) != K_LEAF;
		if (!has(s, n, CARRY) || has(s, n, AFFECTS))
			continue;
		for (int k = 0; k < n->nin; k++)
			sunk |= has(s, n->in[k], SUNK);
		s->flag[i] |= sunk ? SUNK : 0;
	}
}

/* Is it at hand after the loop without being emitted? */
static bool
at_hand(const Scan *s, const Node *n)
{
	while (kind(n) == K_VIEW)
		n = n->in[0];
	return !has(s, n, CARRY) || carry_of(s, n) || next_of(s, n);
}

/* Made after the loop from its operands, rather than emitted? */
static bool
made_after(const Scan *s, const Node *n)
{
	bool all = true;
	if (kind(n) == K_VIEW || has(s, n, SUNK))
		return true;
	if (kind(n) != K_ELEM)
		return false;
	for (int i = 0; i < n->nin; i++)
		all &= at_hand(s, n->in[i]);
	return operand_bytes(n) < bytes(n) || (all && !has(s, n, AFFECTS));
}

static void
decide_emits(Scan *s, Node *n)
{
	if (!has(s, n, CARRY) || has(s, n, EMIT) || carry_of(s, n) || next_of(s, n))
		return;
	if (made_after(s, n)) {
		for (int i = 0; i < n->nin; i++)
			decide_emits(s, n->in[i]);
		return;
	}
	s->flag[n->id] |= EMIT;
}

/* ---- for all steps ---- */

static Node *for_all(Scan *s, Node *n);

/* n for all steps, repeated where it does not depend on them. */
static Node *
stacked(Scan *s, Node *n)
{
	int64_t dim[MAXDIM], map[MAXDIM];
	if (has(s, n, CARRY | STEP))
		return for_all(s, n);
	dim[0] = s->steps;
	map[0] = -1;
	for (int i = 0; i < n->nd; i++) {
		dim[i + 1] = n->dim[i];
		map[i + 1] = i;
	}
	return mk_expand(s->g, n, dim, n->nd + 1, map);
}

static Node *
stacked_view(Scan *s, Node *n)
{
	Node *x = stacked(s, n->in[0]);
	int64_t at[2 * MAXDIM], dim[MAXDIM] = {s->steps};
	int nat = n->nat;
	memcpy(dim + 1, n->dim, (size_t)n->nd * sizeof *dim);
	if (n->op == P_reshape)
		return mk_reshape(s->g, x, dim, n->nd + 1);
	if (n->op == P_window) {
		memcpy(at, n->at, sizeof *at * 3);
		at[0]++;
	} else { /* one attribute a dim, or two lists of them */
		int lists = n->op == P_slice || n->op == P_pad ? 2 : 1;
		for (int k = 0; k < lists; k++) {
			at[k * (n->nd + 1)] = k; /* from place 0, by steps of 1 */
			for (int i = 0; i < n->nd; i++) {
				int64_t a = n->at[k * n->nd + i];
				at[k * (n->nd + 1) + i + 1] = (n->op == P_permute || n->op == P_expand) && a >= 0 ? a + 1 : a;
			}
		}
		nat += lists;
	}
	return node_new(s->g, n->op, 0, &x, 1, dim, n->nd + 1, at, nat, 0);
}

/* Ids into a table of each step as ids into all tables: clamped, plus the step's number times the rows. */
static Node *
stacked_ids(Scan *s, Node *n, int64_t rows)
{
	Graph *g = s->g;
	Node *ids = stacked(s, n), *most = mk_like(g, (double)(rows - 1), ids), *none = mk_like(g, 0, ids);
	Node *t = node_new(g, P_iota, DT_I32, NULL, 0, ids->dim, ids->nd, (int64_t[]){0}, 1, 0);
	ids = mk2(g, P_max, mk2(g, P_min, ids, most), none);
	return mk2(g, P_add, mk_cast(g, ids, DT_I32), mk2(g, P_mul, t, mk_like(g, (double)rows, t)));
}

static Node *
stacked_gather(Scan *s, Node *n)
{
	Node *table = n->in[0], *ids = n->in[1], *x = table;
	if (has(s, table, CARRY | STEP)) {
		x = stacked(s, table);
		int64_t dim[MAXDIM] = {s->steps * table->dim[0]};
		memcpy(dim + 1, table->dim + 1, sizeof *dim * (size_t)(table->nd - 1));
		x = mk_reshape(s->g, x, dim, table->nd);
		ids = stacked_ids(s, ids, table->dim[0]);
	} else {
		ids = stacked(s, ids);
	}
	return node_new(s->g, P_gather, 0, (Node *[]){x, ids}, 2, NULL, 0, NULL, 0, 0);
}

static Node *
stacked_scatter(Scan *s, Node *n, bool sum)
{
	int64_t dim[MAXDIM] = {s->steps}, rows = n->dim[0];
	Node *ids = sum ? stacked(s, n->in[0]) : stacked_ids(s, n->in[0], rows), *in[2] = {ids, stacked(s, n->in[1])};
	if (sum)
		return node_new(s->g, P_scatter_add, n->dt, in, 2, n->dim, n->nd, NULL, 0, 0);
	memcpy(dim + 1, n->dim, sizeof *dim * (size_t)n->nd);
	dim[1] *= s->steps;
	Node *y = node_new(s->g, P_scatter_add, n->dt, in, 2, dim + 1, n->nd, NULL, 0, 0);
	dim[1] = rows;
	return mk_reshape(s->g, y, dim, n->nd + 1);
}

static Node *
stacked_reduce(Scan *s, Node *n, bool sum)
{
	int64_t axes[MAXDIM] = {0};
	for (int i = 0; i < n->nat; i++)
		axes[i + sum] = n->at[i] + 1;
	return mk_reduce(s->g, n->op, stacked(s, n->in[0]), axes, n->nat + sum);
}

/* A node on operands for all steps. */
static Node *
vectorise(Scan *s, Node *n)
{
	Graph *g = s->g;
	int64_t dim[MAXDIM] = {s->steps}, at[3] = {0};
	memcpy(dim + 1, n->dim, (size_t)n->nd * sizeof *dim);
	switch (kind(n)) {
	case K_VIEW: return stacked_view(s, n);
	case K_REDUCE: return stacked_reduce(s, n, false);
	case K_GATHER: return stacked_gather(s, n);
	case K_SCATTER: return stacked_scatter(s, n, false);
	case K_RANDOM: return node_new(g, n->op, n->dt, n->in, n->nin, dim, n->nd + 1, n->at, n->nat, 0);
	case K_ELEM:
	case K_CONCAT:
	case K_FOLD: break;
	default: bug("%s in a scan", prim_info[n->op].name);
	}
	Node **in = arena_alloc(g->arena, (size_t)n->nin * sizeof *in);
	for (int i = 0; i < n->nin; i++)
		in[i] = stacked(s, n->in[i]);
	if (n->nat)
		memcpy(at, n->at, (size_t)n->nat * sizeof *at);
	at[0]++; /* concat and fold: the axis */
	return node_new(g, n->op, n->dt, in, n->nin, dim, n->nd + 1, at, n->nat, n->f);
}

static Node *
for_all(Scan *s, Node *n)
{
	Node *v = s->outer[n->id];
	if (v)
		return v;
	Carry *before = carry_of(s, n), *after = next_of(s, n);
	if (before || after)
		v = scan_part(s->g, s->scan, (before ? before : after)->history, after != NULL);
	else if (has(s, n, EMIT))
		v = mk_result(s->g, s->scan, s->output[n->id]);
	else if (n->op == P_arg)
		v = s->seq[s->which[n->id]].whole;
	else
		v = vectorise(s, n);
	return s->outer[n->id] = v;
}

/* Does a view of it, or it, sum? Then a sum over the steps goes into that. */
static bool
is_sum(const Scan *s, const Node *n)
{
	while (kind(n) == K_VIEW)
		n = n->in[0];
	return (n->op == P_reduce_sum || n->op == P_scatter_add) && !has(s, n, EMIT) && has(s, n, CARRY | STEP);
}

static Node *
sum_over(Scan *s, Node *n)
{
	Graph *g = s->g;
	if (!has(s, n, CARRY | STEP))
		return mk2(g, P_mul, n, mk_like(g, (double)s->steps, n));
	bool whole = has(s, n, EMIT) || n->op == P_arg || next_of(s, n);
	if (!whole && n->op == P_reduce_sum)
		return stacked_reduce(s, n, true);
	if (!whole && n->op == P_scatter_add)
		return stacked_scatter(s, n, true);
	if (!whole && kind(n) == K_VIEW) {
		Node *x = sum_over(s, n->in[0]);
		return node_new(g, n->op, 0, &x, 1, n->dim, n->nd, n->at, n->nat, 0);
	}
	if (!whole && (n->op == P_add || n->op == P_sub) && (is_sum(s, n->in[0]) || is_sum(s, n->in[1])))
		return mk2(g, n->op, sum_over(s, n->in[0]), sum_over(s, n->in[1]));
	if (!whole && n->op == P_neg)
		return mk1(g, P_neg, sum_over(s, n->in[0]));
	return mk_reduce(g, P_reduce_sum, for_all(s, n), (int64_t[]){0}, 1);
}

/* ---- the body ---- */

static Node *
add_operand(Scan *s, const Node *like, Node *outer, bool seq)
{
	GInput in = {.name = "", .dt = like->dt, .nd = like->nd};
	int cap = s->capoperand;
	memcpy(in.dim, like->dim, sizeof in.dim);
	s->operand = grown(s->g->arena, s->operand, s->noperand, &cap, sizeof *s->operand);
	s->is_seq = grown(s->g->arena, s->is_seq, s->noperand, &s->capoperand, sizeof *s->is_seq);
	s->operand[s->noperand] = outer;
	s->is_seq[s->noperand++] = seq;
	return mk_input(s->body, graph_input(s->body, in));
}

/* Left in the loop though it depends on no carry: elementwise work and views, which would only be stored for it. */
static bool
stays(const Scan *s, const Node *n)
{
	if (!has(s, n, STEP))
		return kind(n) == K_VIEW || n->op == P_const || n->op == P_iota;
	return is_cheap(n);
}

/* Of the gates' sums of an lstm each kernel reads parts, so the parts are made where they are read, and no sum is stored. */
static void
find_parts(Scan *s)
{
	bool *whole = arena_alloc(s->g->arena, (size_t)s->n), *read = arena_alloc(s->g->arena, (size_t)s->n);
	for (int k = 0; k < s->ncarry; k++)
		if (s->carry[k].live)
			whole[s->carry[k].next->id] = true;
	for (int i = s->n - 1; i >= s->first; i--) {
		const Node *n = s->g->node[i];
		if (!(s->flag[i] & (INSIDE | STEP)))
			continue;
		bool parts = kind(n) == K_ELEM && read[i] && !whole[i] && !(s->flag[i] & EMIT);
		s->flag[i] |= parts ? IN_PARTS : 0;
		for (int k = 0; k < n->nin; k++) {
			read[n->in[k]->id] = true;
			whole[n->in[k]->id] |= !parts && n->op != P_slice;
		}
	}
}

static Node *in_body(Scan *s, Node *n);

/* The slice of n, with what is elementwise below it sliced instead. */
static Node *
part_of(Scan *s, Node *n, const Node *slice)
{
	if (n->op == P_const)
		return mk_const(s->body, n->dt, n->f, slice->dim, slice->nd);
	if (!has(s, n, IN_PARTS))
		return mk_slice(s->body, in_body(s, n), slice->at, slice->at + slice->nd, slice->dim);
	Node **in = arena_alloc(s->g->arena, (size_t)n->nin * sizeof *in);
	for (int i = 0; i < n->nin; i++)
		in[i] = part_of(s, n->in[i], slice);
	return node_new(s->body, n->op, n->dt, in, n->nin, NULL, 0, n->at, n->nat, n->f);
}

static Node *
in_body(Scan *s, Node *n)
{
	Node *v = s->inner[n->id];
	if (v)
		return v;
	s->body->loc = n->loc;
	if (n->op == P_slice && has(s, n->in[0], IN_PARTS)) {
		v = part_of(s, n->in[0], n);
	} else if (!has(s, n, CARRY) && !stays(s, n)) {
		v = add_operand(s, n, has(s, n, STEP) ? for_all(s, n) : n, has(s, n, STEP));
	} else {
		Node **in = arena_alloc(s->g->arena, (size_t)n->nin * sizeof *in);
		for (int i = 0; i < n->nin; i++)
			in[i] = in_body(s, n->in[i]);
		v = node_new(s->body, n->op, n->dt, in, n->nin, n->dim, n->nd, n->at, n->nat, n->f);
	}
	return s->inner[n->id] = v;
}

static void
make_body(Scan *s)
{
	s->body = graph_new(s->g->arena, "step");
	for (int k = 0; k < s->ncarry; k++)
		if (s->carry[k].live)
			s->inner[s->carry[k].arg->id] = add_operand(s, s->carry[k].arg, s->carry[k].init, false);
	for (int i = s->first; i < s->n; i++) /* in the order of tracing */
		if (has(s, s->g->node[i], CARRY) && has(s, s->g->node[i], INSIDE) && !has(s, s->g->node[i], IN_PARTS))
			in_body(s, s->g->node[i]);
	for (int k = 0; k < s->ncarry; k++)
		if (s->carry[k].live)
			s->carry[k].output = graph_output(s->body, "", "", in_body(s, s->carry[k].next));
	for (int i = s->first; i < s->n; i++)
		if (s->flag[i] & EMIT)
			s->output[i] = graph_output(s->body, "", "", in_body(s, s->g->node[i]));
}

static void
make_scan(Scan *s)
{
	int ncarry = 0;
	for (int k = 0; k < s->ncarry; k++)
		ncarry += s->carry[k].live;
	if (!ncarry)
		return;
	make_body(s);
	int64_t *at = arena_alloc(s->g->arena, (size_t)(s->noperand + 3) * sizeof *at);
	at[0] = s->steps;
	at[1] = s->reverse;
	at[2] = ncarry;
	for (int i = ncarry; i < s->noperand; i++)
		at[3 + i - ncarry] = s->is_seq[i];
	s->scan = mk_scan(s->g, s->operand, s->noperand, at, 3 + s->noperand - ncarry, s->body);
	for (int k = 0; k < s->ncarry; k++)
		if (s->carry[k].live)
			s->carry[k].history = mk_result(s->g, s->scan, s->carry[k].output);
}

void
scan_end(Scan *s)
{
	Arena *a = s->g->arena;
	size_t n = (size_t)(s->n = s->g->nnode);
	s->flag = arena_alloc(a, n);
	s->which = arena_alloc(a, n * sizeof *s->which);
	s->output = arena_alloc(a, n * sizeof *s->output);
	s->inner = arena_alloc(a, n * sizeof *s->inner);
	s->outer = arena_alloc(a, n * sizeof *s->outer);
	find_dependence(s);
	find_live(s);
	find_sunk(s);
	for (int i = 0; i < s->nwant; i++)
		decide_emits(s, s->want[i].node);
	for (int k = 0; k < s->ncarry; k++)
		if (s->carry[k].live)
			mark_below(s, s->carry[k].next, INSIDE);
	for (int i = s->first; i < s->n; i++)
		if (s->flag[i] & EMIT)
			mark_below(s, s->g->node[i], INSIDE);
	find_parts(s);
	make_scan(s);
	for (int i = 0; i < s->nwant; i++)
		s->want[i].value = (s->want[i].sum ? sum_over : stacked)(s, s->want[i].node);
}

Node *scan_value(const Scan *s, int want) { return s->want[want].value; }
Node *scan_history(const Scan *s, int carry) { return s->carry[carry].history; }

/* ---- histories ---- */

static Node *
cut(Graph *g, Node *x, int64_t from, int64_t n)
{
	int64_t lo[MAXDIM] = {from}, step[MAXDIM], dim[MAXDIM];
	for (int i = 0; i < x->nd; i++)
		step[i] = 1;
	memcpy(dim, x->dim, sizeof dim);
	dim[0] = n;
	return mk_slice(g, x, lo, step, dim);
}

/* Place t + 1 is after step t; in reverse, place t is. */
Node *
scan_part(Graph *g, Node *scan, Node *history, bool after)
{
	return cut(g, history, after != scan_reverse(scan), scan_steps(scan));
}

Node *
scan_slot(Graph *g, Node *history, int64_t at)
{
	return mk_reshape(g, cut(g, history, at, 1), history->dim + 1, history->nd - 1);
}
