/* The graph: making nodes (inference, hash-consing), walking, checking and printing them.
   Simplification happens as a node is made: simplify.c. */
#include <stdlib.h>
#include <string.h>

#include "mmc.h"

const PrimInfo prim_info[NPRIM] = {
#define P(name, kind, arity, dtype, attr, spell, eval) {#name, K_##kind, arity, #dtype, attr, spell},
#include "../ops/prim.def"
#undef P
};

Graph *
graph_new(Arena *a, const char *name)
{
	Graph *g = arena_alloc(a, sizeof *g);
	g->arena = a;
	g->name = name;
	g->nhash = 4096;
	g->hash = arena_alloc(a, (size_t)g->nhash * sizeof *g->hash);
	return g;
}

int64_t
node_count(const Node *n)
{
	int64_t c = 1;
	for (int i = 0; i < n->nd; i++)
		c *= n->dim[i];
	return c;
}

/* The nodes' arrays grow in the arena: old copies are dropped with it. */
static void *
grow(Arena *a, void *p, int n, int *cap, size_t size)
{
	if (n < *cap)
		return p;
	*cap = *cap ? *cap * 2 : 16;
	void *q = arena_alloc(a, (size_t)*cap * size);
	if (n)
		memcpy(q, p, (size_t)n * size);
	return q;
}

static void
set_dims(Node *n, const int64_t *dim, int nd)
{
	if (nd > MAXDIM)
		bug("%s of %d dimensions", prim_info[n->op].name, nd);
	n->nd = nd;
	for (int i = 0; i < nd; i++)
		n->dim[i] = dim[i];
}

static bool
same_dims(const Node *a, const Node *b)
{
	return a->nd == b->nd && !memcmp(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
}

static void
infer_dot(Node *n)
{
	const Node *a = n->in[0], *b = n->in[1];
	const int64_t *la = n->at, *lb = la + a->nd, *lo = lb + b->nd;
	n->nd = n->nat - a->nd - b->nd;
	for (int i = 0; i < n->nd; i++) {
		n->dim[i] = -1;
		for (int j = 0; j < a->nd; j++)
			if (la[j] == lo[i])
				n->dim[i] = a->dim[j];
		for (int j = 0; j < b->nd; j++)
			if (lb[j] == lo[i])
				n->dim[i] = b->dim[j];
	}
}

/* Shapes that the operands fix; the others were given by the caller. */
static void
infer_shape(Node *n)
{
	const Node *x = n->nin ? n->in[0] : NULL;
	switch (prim_info[n->op].kind) {
	case K_ELEM:
		for (int i = 1; i < n->nin; i++)
			if (!same_dims(x, n->in[i]))
				bug("%s of different shapes", prim_info[n->op].name);
		set_dims(n, x->dim, x->nd);
		break;
	case K_REDUCE:
		n->nd = 0;
		for (int i = 0, k = 0; i < x->nd; i++) {
			if (k < n->nat && n->at[k] == i)
				k++;
			else
				n->dim[n->nd++] = x->dim[i];
		}
		break;
	case K_DOT:
		infer_dot(n);
		break;
	case K_GATHER: {
		const Node *ids = n->in[1];
		n->nd = 0;
		for (int i = 0; i < ids->nd; i++)
			n->dim[n->nd++] = ids->dim[i];
		for (int i = 1; i < x->nd; i++)
			n->dim[n->nd++] = x->dim[i];
		break;
	}
	case K_CONCAT:
		set_dims(n, x->dim, x->nd);
		for (int i = 1; i < n->nin; i++)
			n->dim[n->at[0]] += n->in[i]->dim[n->at[0]];
		break;
	default:
		if (n->op == P_permute) {
			n->nd = x->nd;
			for (int i = 0; i < x->nd; i++)
				n->dim[i] = x->dim[n->at[i]];
		}
	}
}

static DType
infer_dtype(const Node *n, DType given)
{
	const char *rule = prim_info[n->op].dtype;
	switch (rule[0] == 'S' && rule[1] == 'A' ? 'A' : rule[0] == 'A' ? 'G' : rule[0]) {
	case 'A': return n->in[0]->dt;
	case 'S': return n->in[1]->dt;
	case 'B': return DT_BOOL;
	case 'F': return DT_F32;
	case 'I': return DT_I32;
	default: return given;
	}
}

static uint64_t
node_hash(const Node *n)
{
	uint64_t h = HASH_INIT, f;
	memcpy(&f, &n->f, sizeof f);
	h = hash_u64(h, (uint64_t)n->op << 8 | n->dt);
	h = hash_u64(h, f);
	h = hash_bytes(h, n->dim, (size_t)n->nd * sizeof *n->dim);
	h = hash_bytes(h, n->at, (size_t)n->nat * sizeof *n->at);
	for (int i = 0; i < n->nin; i++)
		h = hash_u64(h, (uint64_t)n->in[i]->id);
	return h ^ h >> 29;
}

static bool
node_same(const Node *a, const Node *b)
{
	return a->op == b->op && a->dt == b->dt && a->body == b->body && a->nin == b->nin && a->nat == b->nat && same_dims(a, b) &&
	       !memcmp(&a->f, &b->f, sizeof a->f) && (!a->nat || !memcmp(a->at, b->at, (size_t)a->nat * sizeof *a->at)) &&
	       (!a->nin || !memcmp(a->in, b->in, (size_t)a->nin * sizeof *a->in));
}

static void
rehash(Graph *g)
{
	g->nhash *= 4;
	g->hash = arena_alloc(g->arena, (size_t)g->nhash * sizeof *g->hash);
	for (int i = 0; i < g->nnode; i++) {
		Node **h = &g->hash[node_hash(g->node[i]) % (uint64_t)g->nhash];
		g->node[i]->next = *h;
		*h = g->node[i];
	}
}

static Node *
intern(Graph *g, const Node *t)
{
	Node **h = &g->hash[node_hash(t) % (uint64_t)g->nhash];
	for (Node *n = *h; n; n = n->next)
		if (node_same(n, t))
			return n;
	Node *n = arena_alloc(g->arena, sizeof *n);
	*n = *t;
	n->in = arena_alloc(g->arena, (size_t)t->nin * sizeof *t->in);
	n->at = arena_alloc(g->arena, (size_t)t->nat * sizeof *t->at);
	if (t->nin)
		memcpy(n->in, t->in, (size_t)t->nin * sizeof *t->in);
	if (t->nat)
		memcpy(n->at, t->at, (size_t)t->nat * sizeof *t->at);
	n->id = g->nnode;
	n->loc = g->loc;
	n->model = g->model;
	n->next = *h;
	*h = n;
	g->node = grow(g->arena, g->node, g->nnode, &g->capnode, sizeof *g->node);
	g->node[g->nnode++] = n;
	if (g->nnode > g->nhash / 2)
		rehash(g);
	return n;
}

Node *
node_new(Graph *g, Prim op, DType dt, Node **in, int nin, const int64_t *dim, int nd, const int64_t *at, int nat, double f)
{
	Node t = {.op = op, .nin = nin, .in = in, .nat = nat, .at = (int64_t *)at, .f = f};
	if (dim)
		set_dims(&t, dim, nd);
	t.dt = infer_dtype(&t, dt);
	infer_shape(&t);
	Node *s = simplify(g, &t);
	return s ? s : intern(g, &t);
}

Node *
mk_const(Graph *g, DType dt, double f, const int64_t *dim, int nd)
{
	if (dt == DT_F32)
		f = (float)f;
	return node_new(g, P_const, dt, NULL, 0, nd ? dim : (const int64_t[]){0}, nd, NULL, 0, f);
}

Node *mk_like(Graph *g, double f, const Node *n) { return mk_const(g, n->dt, f, n->dim, n->nd); }
Node *mk1(Graph *g, Prim op, Node *a) { return node_new(g, op, 0, &a, 1, NULL, 0, NULL, 0, 0); }
Node *mk2(Graph *g, Prim op, Node *a, Node *b) { return node_new(g, op, 0, (Node *[]){a, b}, 2, NULL, 0, NULL, 0, 0); }
Node *mk_cast(Graph *g, Node *a, DType dt) { return node_new(g, P_cast, dt, &a, 1, NULL, 0, NULL, 0, 0); }

Node *
mk3(Graph *g, Prim op, Node *a, Node *b, Node *c)
{
	return node_new(g, op, 0, (Node *[]){a, b, c}, 3, NULL, 0, NULL, 0, 0);
}

const int64_t *
dot_labels(const Node *dot, int side)
{
	const int64_t *label = dot->at;
	for (int i = 0; i < side; i++)
		label += dot->in[i]->nd;
	return label;
}

int
find_label(const int64_t *label, int n, int64_t want)
{
	for (int i = 0; i < n; i++)
		if (label[i] == want)
			return i;
	return -1;
}

Node *
mk_reshape(Graph *g, Node *a, const int64_t *dim, int nd)
{
	return node_new(g, P_reshape, 0, &a, 1, nd ? dim : (const int64_t[]){0}, nd, NULL, 0, 0);
}

Node *
mk_permute(Graph *g, Node *a, const int64_t *perm)
{
	return node_new(g, P_permute, 0, &a, 1, NULL, 0, perm, a->nd, 0);
}

Node *
mk_expand(Graph *g, Node *a, const int64_t *dim, int nd, const int64_t *map)
{
	return node_new(g, P_expand, 0, &a, 1, dim, nd, map, nd, 0);
}

Node *
mk_spread(Graph *g, Node *x, const int64_t *label, const int64_t *space, const int64_t *dim, int nd)
{
	int64_t perm[MAXDIM], map[MAXDIM], n = 0;
	for (int i = 0; i < nd; i++) {
		int j = find_label(label, x->nd, space[i]);
		map[i] = j < 0 ? -1 : n;
		if (j >= 0)
			perm[n++] = j;
	}
	return n == x->nd ? mk_expand(g, mk_permute(g, x, perm), dim, nd, map) : NULL;
}

Node *
mk_slice(Graph *g, Node *a, const int64_t *lo, const int64_t *step, const int64_t *dim)
{
	int64_t at[2 * MAXDIM];
	memcpy(at, lo, (size_t)a->nd * sizeof *at);
	memcpy(at + a->nd, step, (size_t)a->nd * sizeof *at);
	return node_new(g, P_slice, 0, &a, 1, dim, a->nd, at, 2 * a->nd, 0);
}

Node *
mk_pad(Graph *g, Node *a, const int64_t *lo, const int64_t *step, const int64_t *dim)
{
	int64_t at[2 * MAXDIM];
	memcpy(at, lo, (size_t)a->nd * sizeof *at);
	memcpy(at + a->nd, step, (size_t)a->nd * sizeof *at);
	return node_new(g, P_pad, 0, &a, 1, dim, a->nd, at, 2 * a->nd, 0);
}

Node *
mk_reduce(Graph *g, Prim op, Node *a, const int64_t *axes, int naxes)
{
	return node_new(g, op, 0, &a, 1, NULL, 0, axes, naxes, 0);
}

Node *
mk_concat(Graph *g, Node **in, int nin, int axis)
{
	return nin == 1 ? in[0] : node_new(g, P_concat, 0, in, nin, NULL, 0, (int64_t[]){axis}, 1, 0);
}

Node *
mk_state(Graph *g, int index)
{
	GState *s = &g->state[index];
	return node_new(g, P_state, s->dt, NULL, 0, s->dim, s->nd, (int64_t[]){index}, 1, 0);
}

Node *
mk_scan(Graph *g, Node **in, int nin, const int64_t *at, int nat, Graph *body)
{
	Node t = {.op = P_scan, .dt = DT_F32, .nin = nin, .in = in, .nat = nat, .at = (int64_t *)at, .body = body};
	return intern(g, &t);
}

Node *
mk_result(Graph *g, Node *scan, int output)
{
	const Node *y = scan->body->output[output].node;
	int64_t dim[MAXDIM + 1] = {scan_steps(scan) + (output < scan_ncarry(scan))};
	memcpy(dim + 1, y->dim, (size_t)y->nd * sizeof *dim);
	return node_new(g, P_result, y->dt, &scan, 1, dim, y->nd + 1, (int64_t[]){output}, 1, 0);
}

int
graph_state(Graph *g, GState s)
{
	for (int i = 0; i < g->nstate; i++)
		if (!strcmp(g->state[i].name, s.name))
			return i;
	g->state = grow(g->arena, g->state, g->nstate, &g->capstate, sizeof *g->state);
	g->state[g->nstate] = s;
	return g->nstate++;
}

int
graph_param(Graph *g, GParam p)
{
	g->param = grow(g->arena, g->param, g->nparam, &g->capparam, sizeof *g->param);
	g->param[g->nparam] = p;
	return g->nparam++;
}

int
graph_output(Graph *g, const char *name, const char *role, Node *n)
{
	g->output = grow(g->arena, g->output, g->noutput, &g->capoutput, sizeof *g->output);
	g->output[g->noutput] = (GOutput){name, role, n};
	return g->noutput++;
}

int
graph_input(Graph *g, GInput in)
{
	g->input = grow(g->arena, g->input, g->ninput, &g->capinput, sizeof *g->input);
	g->input[g->ninput] = in;
	return g->ninput++;
}

Node *
mk_input(Graph *g, int index)
{
	GInput *s = &g->input[index];
	return node_new(g, P_input, s->dt, NULL, 0, s->dim, s->nd, (int64_t[]){index}, 1, 0);
}

Node *
mk_param(Graph *g, int index)
{
	GParam *s = &g->param[index];
	return node_new(g, P_param, DT_F32, NULL, 0, s->dim, s->nd, (int64_t[]){index}, 1, 0);
}

/* Marks what the roots reach; ids are topological, so one backward sweep does. */
Node **
graph_reach(Graph *g, int *n)
{
	for (int i = 0; i < g->nnode; i++)
		g->node[i]->mark = 0;
	for (int i = 0; i < g->noutput; i++)
		g->output[i].node->mark = 1;
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update)
			g->state[i].update->mark = 1;
	*n = 0;
	for (int i = g->nnode - 1; i >= 0; i--) {
		if (!g->node[i]->mark)
			continue;
		++*n;
		for (int k = 0; k < g->node[i]->nin; k++)
			g->node[i]->in[k]->mark = 1;
	}
	Node **v = arena_alloc(g->arena, (size_t)*n * sizeof *v);
	for (int i = 0, k = 0; i < g->nnode; i++)
		if (g->node[i]->mark)
			v[k++] = g->node[i];
	return v;
}

/* The scan with its body mapped; outputs that none of v reads are gone, and the results count anew: place[id of v]. */
static Node *
map_scan(Graph *to, const Node *x, Node **ops, Node *const *v, int n, int *place, MapFn f, void *ctx)
{
	Graph body = *x->body;
	body.scan = x;
	bool *used = arena_alloc(to->arena, (size_t)body.noutput);
	int *at = arena_alloc(to->arena, (size_t)body.noutput * sizeof *at);
	memset(used, true, (size_t)scan_ncarry(x));
	for (int i = 0; i < n; i++)
		if (v[i]->op == P_result && v[i]->in[0] == x)
			used[v[i]->at[0]] = true;
	body.output = arena_alloc(to->arena, (size_t)body.noutput * sizeof *body.output);
	body.noutput = 0;
	for (int i = 0; i < x->body->noutput; i++) {
		int k = (int)scan_ncarry(x);
		while (k < i && !(used[k] && x->body->output[k].node == x->body->output[i].node))
			k++;
		if (used[i] && k < i) { /* emitted twice: stacked once */
			at[i] = at[k];
		} else if (used[i]) {
			at[i] = body.noutput;
			body.output[body.noutput++] = x->body->output[i];
		}
	}
	Graph *step = graph_map(&body, f, ctx);
	step->scan = NULL;
	Node *y = scan_lift(to, x, ops, step);
	for (int i = 0; i < n; i++) /* lifting may have added carries behind the others */
		if (v[i]->op == P_result && v[i]->in[0] == x)
			place[v[i]->id] = at[v[i]->at[0]] + (v[i]->at[0] < scan_ncarry(x) ? 0 : scan_ncarry(y) - scan_ncarry(x));
	return y;
}

Graph *
graph_map(Graph *g, MapFn f, void *ctx)
{
	int n;
	Node **v = graph_reach(g, &n);
	Graph *to = graph_new(g->arena, g->name);
	int *place = arena_alloc(g->arena, (size_t)g->nnode * sizeof *place);
	Node **image = arena_alloc(g->arena, (size_t)g->nnode * sizeof *image);
	Node *in[256];
	to->batch = g->batch;
	to->nsite = g->nsite;
	to->scan = g->scan;
	to->param = g->param, to->nparam = to->capparam = g->nparam;
	for (int i = 0; i < g->ninput; i++) /* a list of its own: f may change sizes */
		graph_input(to, g->input[i]);
	for (int i = 0; i < g->nstate; i++) {
		graph_state(to, g->state[i]);
		to->state[i].update = NULL;
	}
	for (int i = 0; i < n; i++) {
		Node *x = v[i], **ops = x->nin > (int)LEN(in) ? arena_alloc(g->arena, (size_t)x->nin * sizeof *ops) : in;
		for (int k = 0; k < x->nin; k++)
			ops[k] = image[x->in[k]->id];
		to->loc = x->loc;
		to->model = x->model;
		if (x->op == P_scan) {
			image[x->id] = map_scan(to, x, ops, v, n, place, f, ctx);
			continue;
		}
		Node *y = f ? f(to, x, ops, ctx) : NULL;
		if (!y && x->op == P_result) /* its body may give it out in another type than it had */
			y = mk_cast(to, mk_result(to, ops[0], place[x->id]), x->dt);
		image[x->id] = y ? y : node_new(to, x->op, x->dt, ops, x->nin, x->dim, x->nd, x->at, x->nat, x->f);
	}
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update)
			to->state[i].update = image[g->state[i].update->id];
	for (int i = 0; i < g->noutput; i++)
		graph_output(to, g->output[i].name, g->output[i].role, image[g->output[i].node->id]);
	return to;
}

/* Invariants: operands come first, every node is as check.c has it. */
void
graph_verify(Graph *g, const char *pass)
{
	for (int i = 0; i < g->nnode; i++) {
		const Node *n = g->node[i];
		if (n->id != i)
			bug("after %s: v%d has the number %d", pass, i, n->id);
		for (int k = 0; k < n->nin; k++)
			if (n->in[k]->id >= i || g->node[n->in[k]->id] != n->in[k])
				bug("after %s: v%d: operand %d is not before it", pass, i, k);
		const char *wrong = node_check(n);
		if (wrong)
			bug("after %s: v%d: %s %s", pass, i, prim_info[n->op].name, wrong);
		if (n->op == P_scan)
			graph_verify(n->body, pass);
	}
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		if (s->update && (s->update->nd != s->nd || s->update->dt != s->dt || memcmp(s->update->dim, s->dim, (size_t)s->nd * sizeof *s->dim)))
			bug("after %s: update of %s has another shape or type", pass, s->name);
	}
}

static void
print_list(FILE *f, const char *name, const int64_t *v, int n)
{
	fprintf(f, "%s=[", name);
	for (int i = 0; i < n; i++)
		fprintf(f, i ? ", %ld" : "%ld", (long)v[i]);
	fprintf(f, "]");
}

static void
print_dims(FILE *f, const int64_t *v, int n)
{
	for (int i = 0; i < n; i++)
		fprintf(f, i ? ", %ld" : "%ld", (long)v[i]);
}

/* As short as comes back the same. */
static void
print_number(FILE *f, double x)
{
	char s[32];
	snprintf(s, sizeof s, "%.9g", x);
	if (strtod(s, NULL) != x)
		snprintf(s, sizeof s, "%.17g", x);
	fputs(x != x ? "nan" : s, f);
}

static void print_scan(FILE *f, const Node *n, int indent);

static void
print_node(FILE *f, const Node *n, int indent)
{
	fprintf(f, "%*sv%d: %s[", indent, "", n->id, dtype_name(n->dt));
	print_dims(f, n->dim, n->nd);
	fprintf(f, "] = %s(", prim_info[n->op].name);
	for (int i = 0; i < n->nin; i++)
		fprintf(f, i ? ", v%d" : "v%d", n->in[i]->id);
	if (n->nat) {
		if (n->nin)
			fputs(", ", f);
		print_list(f, "at", n->at, n->nat);
	}
	if (n->op == P_const)
		print_number(f, n->f);
	fputs(n->op == P_scan ? ") {\n" : ")\n", f);
	if (n->op == P_scan)
		print_scan(f, n, indent);
}

/* One step: its nodes, the carries' next values, what is emitted. */
static void
print_scan(FILE *f, const Node *n, int indent)
{
	int count;
	Node **v = graph_reach(n->body, &count);
	for (int i = 0; i < count; i++)
		print_node(f, v[i], indent + 2);
	for (int i = 0; i < n->body->noutput; i++)
		fprintf(f, "%*s%s(v%d)\n", indent + 2, "", i < scan_ncarry(n) ? "next" : "emit", n->body->output[i].node->id);
	fprintf(f, "%*s}\n", indent, "");
}

/* " = what("name"": a declaration up to its named arguments. */
static void
print_declared(FILE *f, int i, const char *what, const char *name, DType dt, const int64_t *dim, int nd)
{
	fprintf(f, "  %c%d: %s[", what[0], i, dtype_name(dt));
	print_dims(f, dim, nd);
	fprintf(f, "] = %s(\"%s\"", what, name);
}

static void
print_init(FILE *f, Init init, double a, double b)
{
	if (init != INIT_CONST)
		fprintf(f, ", init=\"%s\"", init_names[init]);
	if (a != 0)
		fputs(", a=", f), print_number(f, a);
	if (b != 0)
		fputs(", b=", f), print_number(f, b);
}

static void
print_declarations(Graph *g, FILE *f)
{
	for (int i = 0; i < g->ninput; i++) {
		const GInput *in = &g->input[i];
		print_declared(f, i, "input", in->name, in->dt, in->dim, in->nd);
		fprintf(f, in->below ? ", below=%ld)\n" : ")\n", (long)in->below);
	}
	for (int i = 0; i < g->nparam; i++) {
		const GParam *p = &g->param[i];
		print_declared(f, i, "param", p->name, DT_F32, p->dim, p->nd);
		fprintf(f, p->off ? ", off=%ld" : "", (long)p->off);
		print_init(f, p->init, p->a, p->b);
		fputs(")\n", f);
	}
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		print_declared(f, i, "state", s->name, s->dt, s->dim, s->nd);
		fprintf(f, ", space=\"%s\"", space_names[s->space]);
		print_init(f, s->init, s->a, s->b);
		fprintf(f, s->fit && *s->fit ? ", fit=\"%s\")\n" : ")\n", s->fit);
	}
}

char *
node_place(Arena *a, const Node *n)
{
	char *at = loc_text(a, n->loc);
	if (!n->model.file || (n->model.file == n->loc.file && n->model.line == n->loc.line))
		return at;
	return arena_printf(a, n->loc.file ? "%s, in %s" : "%s", loc_text(a, n->model), at);
}

void
graph_print(Graph *g, FILE *f)
{
	int n;
	Node **v = graph_reach(g, &n);
	fprintf(f, "graph %s(batch = %ld) {\n", g->name, (long)g->batch);
	print_declarations(g, f);
	for (int i = 0; i < n; i++)
		print_node(f, v[i], 2);
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update)
			fprintf(f, "  update(%d, v%d)\n", i, g->state[i].update->id);
	for (int i = 0; i < g->noutput; i++)
		fprintf(f, "  output(\"%s\", \"%s\", v%d)\n", g->output[i].name, g->output[i].role, g->output[i].node->id);
	fprintf(f, "}\n");
}
