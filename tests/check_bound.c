/* Running error analysis as a graph: beside each value the bound of its error, made of the same primitives and evaluated by
   the same interpreter.

     y = a * b      err(y) = |a| err(b) + |b| err(a) + err(a) err(b) + u |y|
     y = exp(a)     err(y) = max(exp(a + err) - y, y - exp(a - err)) + 4 ulp
     y = a < b      err(y) = 1 where |a - b| <= err(a) + err(b): a branch that rounding can turn
     y = sum(x)     err(y) = sum(err(x)) + n u sum(|x|), whatever the order

   The bounds of a scan are carried and emitted beside its values.

   u = 2^-24. Functions are within 4 ulp on every target (ops/kernels/prelude.c and .cu say how far each is). What depends
   on a branch that can turn is bounded by how far the arms are apart; ids that can turn have no bound. */
#include <math.h>
#include <string.h>

#include "check_graph.h"

#define UNIT 0x1p-24
#define NONE (BOUND_NONE * 10)
#define TINY 0x1p-126 /* results below the normal floats may be flushed */

typedef struct Bound { /* by id of the graph that is analysed */
	Node **value, **err;
} Bound;

static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }
static bool is_zero(const Node *e) { return e->op == P_const && e->f == 0; }
static Node *like(Graph *g, double f, const Node *n) { return mk_const(g, DT_F32, f, n->dim, n->nd); }
static Node *f32(Graph *g, Node *x) { return mk_cast(g, x, DT_F32); }
static Node *size_of(Graph *g, Node *x) { return mk1(g, P_abs, f32(g, x)); }
static Node *plus(Graph *g, Node *a, Node *b) { return mk2(g, P_add, a, b); }
static Node *times(Graph *g, Node *a, Node *b) { return is_zero(a) ? a : is_zero(b) ? b : mk2(g, P_mul, a, b); }
static Node *scaled(Graph *g, Node *a, double f) { return times(g, a, like(g, f, a)); }
static Node *apart(Graph *g, Node *a, Node *b) { return mk1(g, P_abs, mk2(g, P_sub, f32(g, a), f32(g, b))); }
static Node *greater(Graph *g, Node *a, Node *b) { return is_zero(a) ? b : is_zero(b) ? a : mk2(g, P_max, a, b); }

/* y where e > 0, else 0. */
static Node *
where_doubt(Graph *g, Node *e, Node *y)
{
	return is_zero(e) ? e : mk3(g, P_select, mk2(g, P_lt, like(g, 0, e), e), y, like(g, 0, e));
}

/* e and k roundings of y. */
static Node *
rounded(Graph *g, Node *y, Node *e, double k)
{
	return plus(g, plus(g, e, scaled(g, plus(g, size_of(g, y), e), k)), like(g, TINY, e));
}

/* How far f moves where its operand a (number i) moves by e; f rises or falls over that range. */
static Node *
moved(Graph *g, const Node *n, Node **a, int i, Node *e, Node *y)
{
	Node *far = NULL, *at = a[i];
	if (is_zero(e))
		return e;
	for (int down = 0; down < 2; down++) {
		a[i] = mk2(g, down ? P_sub : P_add, at, e);
		Node *d = apart(g, node_new(g, n->op, n->dt, a, n->nin, NULL, 0, NULL, 0, 0), y);
		far = far ? mk2(g, P_max, far, d) : d;
	}
	a[i] = at;
	return far;
}

/* 1 where a comparison of a and b can turn. */
static Node *
turns(Graph *g, Node *a, Node *b, Node *e)
{
	if (is_zero(e))
		return e;
	Node *near = mk2(g, P_le, apart(g, a, b), e), *some = mk2(g, P_lt, like(g, 0, e), e);
	return f32(g, mk2(g, P_and, near, some));
}

static Node *
bound_cast(Graph *g, const Node *n, Node **a, Node *e, Node *y)
{
	if (n->dt == DT_BOOL)
		return turns(g, a[0], mk_const(g, a[0]->dt, 0, a[0]->dim, a[0]->nd), e);
	if (!is_float(n->dt))
		return moved(g, n, a, 0, e, y);
	bool fits = n->dt == DT_F32 && (is_float(a[0]->dt) || a[0]->dt == DT_BOOL || a[0]->dt == DT_U8);
	return fits ? e : rounded(g, y, e, n->dt == DT_BF16 ? 0x1p-8 : n->dt == DT_F16 ? 0x1p-11 : UNIT);
}

static Node *
bound_divide(Graph *g, Node **a, Node **e, Node *y)
{
	Node *room = mk2(g, P_sub, size_of(g, a[1]), e[1]);
	Node *d = mk2(g, P_div, plus(g, e[0], times(g, size_of(g, y), e[1])), room);
	return rounded(g, y, mk3(g, P_select, mk2(g, P_lt, like(g, 0, room), room), d, like(g, NONE, y)), UNIT);
}

static Node *
bound_elem(Graph *g, const Node *n, Node **a, Node **e, Node *y)
{
	Node *both = n->nin > 1 ? plus(g, e[0], e[1]) : e[0];
	if (n->op == P_cast)
		return bound_cast(g, n, a, e[0], y);
	if (n->op == P_select) {
		Node *arms = mk3(g, P_select, a[0], e[1], e[2]);
		Node *wrong = plus(g, apart(g, a[1], a[2]), greater(g, e[1], e[2]));
		return is_zero(e[0]) ? arms : plus(g, arms, where_doubt(g, e[0], wrong));
	}
	switch (n->op) {
	case P_lt:
	case P_le:
	case P_eq:
	case P_ne: return turns(g, a[0], a[1], both);
	case P_and:
	case P_or: return is_zero(both) ? both : mk2(g, P_min, both, like(g, 1, both));
	case P_neg:
	case P_abs:
	case P_not:
	case P_stop: return e[0];
	case P_max:
	case P_min: return greater(g, e[0], e[1]);
	default: break;
	}
	if (!is_float(n->dt))
		return where_doubt(g, n->nin == 3 ? plus(g, both, e[2]) : both, like(g, NONE, y));
	switch (n->op) {
	case P_add:
	case P_sub: return rounded(g, y, both, UNIT);
	case P_mul:
		both = plus(g, times(g, size_of(g, a[0]), e[1]), times(g, size_of(g, a[1]), e[0]));
		return rounded(g, y, plus(g, both, times(g, e[0], e[1])), UNIT);
	case P_div: return bound_divide(g, a, e, y);
	case P_sin:
	case P_cos: return plus(g, rounded(g, y, is_zero(e[0]) ? e[0] : mk2(g, P_min, e[0], like(g, 2, y)), 8 * UNIT), scaled(g, size_of(g, a[0]), 0x1p-46));
	case P_floor:
	case P_sign: return moved(g, n, a, 0, e[0], y);
	case P_pow: return rounded(g, y, plus(g, moved(g, n, a, 0, e[0], y), scaled(g, moved(g, n, a, 1, e[1], y), 2)), 8 * UNIT);
	default: return rounded(g, y, moved(g, n, a, 0, e[0], y), 8 * UNIT);
	}
}

/* The same node of other operands. */
static Node *
again(Graph *g, const Node *n, Node **in)
{
	DType dt = n->op == P_dot ? DT_F32 : n->dt;
	return node_new(g, n->op, dt, in, n->nin, n->dim, n->nd, n->at, n->nat, n->f);
}

/* sum(e) + terms * u * sum(|x| + e), for sums of any form; a: its operands, x the one that is summed. */
static Node *
bound_sum(Graph *g, const Node *n, Node **a, int x, Node *e, double terms, Node *y)
{
	Node *in[2] = {a[0], n->nin > 1 ? a[1] : NULL};
	if (!is_float(n->dt))
		return is_zero(e) ? like(g, 0, y) : like(g, NONE, y);
	in[x] = e;
	Node *d = is_zero(e) ? like(g, 0, y) : again(g, n, in);
	in[x] = plus(g, size_of(g, a[x]), e);
	return plus(g, d, plus(g, scaled(g, again(g, n, in), terms * UNIT), like(g, TINY, y)));
}

static Node *
bound_dot(Graph *g, const Node *n, Node **a, Node **e, Node *y)
{
	int64_t out = node_count(n), terms = 1;
	for (int side = 0; side < 2; side++)
		for (int i = 0; i < a[side]->nd; i++) {
			int64_t label = n->at[side ? a[0]->nd + i : i];
			bool kept = false, first = false;
			for (int k = a[0]->nd + a[1]->nd; k < n->nat; k++)
				kept |= n->at[k] == label;
			for (int k = 0; side && k < a[0]->nd; k++)
				first |= n->at[k] == label;
			terms *= kept || first ? 1 : a[side]->dim[i];
		}
	(void)out;
	Node *x = size_of(g, a[0]), *z = size_of(g, a[1]);
	Node *d = like(g, 0, y);
	if (!is_zero(e[0]))
		d = plus(g, d, again(g, n, (Node *[]){e[0], plus(g, z, e[1])}));
	if (!is_zero(e[1]))
		d = plus(g, d, again(g, n, (Node *[]){x, e[1]}));
	d = plus(g, d, scaled(g, again(g, n, (Node *[]){plus(g, x, e[0]), plus(g, z, e[1])}), (double)terms * UNIT));
	return rounded(g, y, d, n->dt == DT_BF16 ? 0x1p-8 : n->dt == DT_F16 ? 0x1p-11 : 0);
}

/* No bound where any id can turn. */
static Node *
doubt_ids(Graph *g, Node *ids, Node *e, Node *y)
{
	if (is_zero(ids))
		return e;
	int64_t all[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7}, map[MAXDIM];
	for (int i = 0; i < y->nd; i++)
		map[i] = -1;
	Node *most = mk_reduce(g, P_reduce_max, ids, all, ids->nd);
	return plus(g, e, where_doubt(g, mk_expand(g, most, y->dim, y->nd, map), like(g, NONE, y)));
}

static Node *
bound(Graph *g, const Node *n, Node **a, Node **e, Node *y)
{
	switch (prim_info[n->op].kind) {
	case K_ELEM: return bound_elem(g, n, a, e, y);
	case K_DOT: return bound_dot(g, n, a, e, y);
	case K_GATHER: return doubt_ids(g, e[1], again(g, n, (Node *[]){e[0], a[1]}), y);
	case K_SCATTER: return doubt_ids(g, e[0], bound_sum(g, n, a, 1, e[1], (double)node_count(a[0]), y), y);
	case K_FOLD: return bound_sum(g, n, a, 0, e[0], (double)a[0]->dim[a[0]->nd - 1], y);
	case K_REDUCE:
		if (n->op == P_reduce_max)
			return is_zero(e[0]) ? like(g, 0, y) : again(g, n, e);
		return bound_sum(g, n, a, 0, e[0], node_count(y) ? (double)(node_count(a[0]) / node_count(y)) : 0, y);
	case K_VIEW:
	case K_CONCAT: {
		Node *x = node_new(g, n->op, DT_F32, e, n->nin, n->dim, n->nd, n->at, n->nat, 0);
		return x;
	}
	default: return like(g, 0, y);
	}
}

static void bound_graph_nodes(Graph *to, Graph *g, Bound *b);

static Bound
new_bound(const Graph *g)
{
	size_t size = (size_t)g->nnode * sizeof(Node *);
	return (Bound){arena_alloc(g->arena, size), arena_alloc(g->arena, size)};
}

/* The part of a whole at this step; of one without errors it has none, too. */
static Node *
part(Graph *to, Scan *s, Node *whole)
{
	return is_zero(whole) ? mk_const(to, whole->dt, 0, whole->dim + 1, whole->nd - 1) : scan_seq(s, whole);
}

/* What a step reads, as it is in the graph of bounds; carry 2 k is the scan's carry k, 2 k + 1 its error. */
static Bound
bound_operands(Graph *to, const Node *n, const Bound *outer, Scan *s)
{
	Node **in = arena_alloc(to->arena, (size_t)n->nin * sizeof *in);
	for (int i = 0; i < n->nin; i++) /* made now, where the step reads nothing of it */
		in[i] = mk_input(n->body, i);
	Bound b = new_bound(n->body);
	for (int i = 0; i < n->nin; i++) {
		Node *x = in[i], *value = outer->value[n->in[i]->id], *err = outer->err[n->in[i]->id];
		bool carry = i < scan_ncarry(n), seq = scan_is_seq(n, i);
		b.value[x->id] = carry ? scan_carry(s, value) : seq ? scan_seq(s, value) : value;
		b.err[x->id] = carry ? scan_carry(s, err) : seq ? part(to, s, err) : err;
	}
	return b;
}

/* Results of scan n go where those of number k are: values and errors, in turn. */
static void
bound_scan(Graph *to, const Node *n, const Bound *outer, Node **result)
{
	Graph *g = n->body;
	Scan *s = scan_begin(to, scan_steps(n), scan_reverse(n));
	Bound b = bound_operands(to, n, outer, s);
	int *want = arena_alloc(to->arena, 2 * (size_t)g->noutput * sizeof *want);
	bound_graph_nodes(to, g, &b);
	for (int k = 0; k < 2 * g->noutput; k++) {
		int id = g->output[k / 2].node->id;
		Node *y = (k % 2 ? b.err : b.value)[id];
		if (k / 2 < scan_ncarry(n)) {
			scan_next(s, k, y);
			scan_keep(s, k);
		} else {
			want[k] = scan_want(s, y, false);
		}
	}
	scan_end(s);
	for (int k = 0; k < 2 * g->noutput; k++)
		result[k] = k / 2 < scan_ncarry(n) ? scan_history(s, k) : scan_value(s, want[k]);
}

/* Values and bounds of the nodes that g reaches; those of a step's inputs are there already. */
static void
bound_graph_nodes(Graph *to, Graph *g, Bound *b)
{
	int n;
	Node **v = graph_reach(g, &n);
	Node ***result = arena_alloc(g->arena, (size_t)g->nnode * sizeof *result);
	for (int i = 0; i < n; i++) {
		Node *x = v[i], **a = arena_alloc(to->arena, 2 * (size_t)x->nin * sizeof *a + 1), **e = a + x->nin;
		for (int k = 0; k < x->nin; k++) {
			a[k] = b->value[x->in[k]->id];
			e[k] = b->err[x->in[k]->id];
		}
		if (x->op == P_scan) {
			result[x->id] = arena_alloc(to->arena, 2 * (size_t)x->body->noutput * sizeof(Node *));
			bound_scan(to, x, b, result[x->id]);
		} else if (x->op == P_result) {
			b->value[x->id] = result[x->in[0]->id][2 * x->at[0]];
			b->err[x->id] = result[x->in[0]->id][2 * x->at[0] + 1];
		} else if (!b->value[x->id]) {
			Node *y = node_new(to, x->op, x->dt, a, x->nin, x->dim, x->nd, x->at, x->nat, x->f);
			b->value[x->id] = y;
			b->err[x->id] = bound(to, x, a, e, y);
		}
	}
}

Graph *
bound_graph(Graph *g)
{
	Bound b = new_bound(g);
	Graph *to = graph_new(g->arena, g->name);
	to->batch = g->batch;
	to->nsite = g->nsite;
	for (int i = 0; i < g->ninput; i++)
		graph_input(to, g->input[i]);
	for (int i = 0; i < g->nstate; i++) {
		graph_state(to, g->state[i]);
		to->state[i].update = NULL;
	}
	bound_graph_nodes(to, g, &b);
	for (int kind = 0; kind < 2; kind++) {
		Node **of = kind ? b.err : b.value;
		for (int i = 0; i < g->noutput; i++)
			graph_output(to, g->output[i].name, kind ? "bound" : g->output[i].role, of[g->output[i].node->id]);
		for (int i = 0; i < g->nstate; i++)
			if (g->state[i].update)
				graph_output(to, g->state[i].name, kind ? "bound" : "update", of[g->state[i].update->id]);
	}
	return to;
}
