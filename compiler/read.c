/* Graph text to a graph: what graph_print writes, and what a person writes to test a pass.

     graph name(batch = 1) {
       x: f32[2, 3] = input("x")                      inputs, parameters and states are declared in order, by a text
       v0: f32[2, 3] = input(at=[0])                  nodes: a name, its type and shape, a primitive of named operands
       v1: f32[] = reduce_sum(v0, at=[0, 1])
       s: f32[] = scan(v1, v0, at=[2, 0, 1, 1]) {     a loop: inits of carries, then what else a step reads; see ops/prim.def
         c: f32[] = input(at=[0])                     input k is operand k, of a sequence its part
         x: f32[3] = input(at=[1])
         d: f32[] = reduce_sum(x, at=[0])
         next(d)                                      a carry's value after the step, in the order of the carries
         emit(c)                                      another result
       }
       r: f32[3] = result(s, at=[0])
       update(0, v1)                                  the value of state 0 after the step
       output("y", "value", v1)
     }

   Nodes are made as everywhere else, so what simplify.c knows is simplified; text that was printed comes back as it was, but
   for the numbers in names. The type of each line must fit: check.c. */
#include <math.h>
#include <string.h>

#include "parse.h"

#define MAX_COUNT ((int64_t)1 << 40) /* elements of a tensor */

typedef struct Name {
	const char *s;
	Node *node; /* NULL: its line was wrong */
	struct Name *next;
} Name;

typedef struct Reader {
	Arena *arena;
	Graph *g;
	bool body;        /* one step of a scan */
	Name *name[1024]; /* by hash */
} Reader;

static Name **
bucket(Reader *r, const char *s)
{
	return &r->name[hash_bytes(HASH_INIT, s, strlen(s)) % LEN(r->name)];
}

static Name *
find_name(Reader *r, const char *s)
{
	Name *n = *bucket(r, s);
	while (n && strcmp(n->s, s))
		n = n->next;
	return n;
}

static bool
read_number(const Ast *e, double *f)
{
	if (e->kind == A_UNARY && e->s[0] == '-' && read_number(e->kid[0], f)) {
		*f = -*f;
		return true;
	}
	if (e->kind == A_NUM)
		*f = e->f;
	else if (e->kind == A_NAME && (!strcmp(e->s, "inf") || !strcmp(e->s, "nan")))
		*f = e->s[0] == 'i' ? INFINITY : NAN;
	else
		return false;
	return true;
}

static bool
read_int(const Ast *e, int64_t *v)
{
	double f;
	if (!read_number(e, &f) || !(fabs(f) <= 0x1p53) || f != floor(f)) {
		error_at(e->loc, "a whole number is needed here");
		return false;
	}
	*v = (int64_t)f;
	return true;
}

/* The sizes of a line's type. */
static bool
read_dims(Ast *const *e, int n, Loc l, int64_t *dim)
{
	int64_t count = 1;
	if (n > MAXDIM) {
		error_at(l, "more than %d dims", MAXDIM);
		return false;
	}
	for (int i = 0; i < n; i++) {
		if (!read_int(e[i], &dim[i]))
			return false;
		if (dim[i] < 0 || (dim[i] && count > MAX_COUNT / dim[i])) {
			error_at(e[i]->loc, dim[i] < 0 ? "a negative size" : "a tensor of more than 2^40 elements");
			return false;
		}
		count *= dim[i];
	}
	return true;
}

static bool
read_dtype(const Ast *e, DType *t)
{
	const char *names[NDTYPE];
	for (int i = 0; i < NDTYPE; i++) {
		names[i] = dtype_name((DType)i);
		*t = (DType)i;
		if (!strcmp(names[i], e->t))
			return true;
	}
	const char *near = nearest_name(e->t, names, NDTYPE);
	error_at(e->loc, near ? "no type is called '%s'; did you mean '%s'?" : "no type is called '%s'", e->t, near);
	return false;
}

/* The argument `name = ..` of a call, or NULL. */
static Ast *
named(const Ast *call, const char *name)
{
	for (int i = 0; i < call->nkid; i++)
		if (call->kid[i]->kind == A_NAMED && !strcmp(call->kid[i]->s, name))
			return call->kid[i]->kid[0];
	return NULL;
}

static bool
named_number(const Ast *call, const char *name, double *f)
{
	Ast *e = named(call, name);
	if (!e || read_number(e, f))
		return true;
	error_at(e->loc, "%s is a number", name);
	return false;
}

static bool
check_names(const Ast *call, const char *const *known, size_t n)
{
	for (int i = 0; i < call->nkid; i++) {
		size_t k = 0;
		while (k < n && call->kid[i]->kind == A_NAMED && strcmp(call->kid[i]->s, known[k]))
			k++;
		if (call->kid[i]->kind == A_NAMED && k == n) {
			error_at(call->kid[i]->loc, "%s has no argument '%s' in graph text", call->s, call->kid[i]->s);
			return false;
		}
	}
	return true;
}

/* ---- declarations ---- */

const char *const init_names[] = {"const", "normal", "uniform", "orthogonal"};

/* Place of the text among the names, or -1 with the error reported; absent: 0. */
static int
named_choice(const Ast *call, const char *name, const char *const *names, int n)
{
	Ast *e = named(call, name);
	for (int i = 0; i < n && e; i++)
		if (e->kind == A_STR && !strcmp(e->s, names[i]))
			return i;
	if (e)
		error_at(e->loc, "%s is none of the known ones, such as \"%s\"", name, names[0]);
	return e ? -1 : 0;
}

static bool
declare(Reader *r, const Ast *line, DType dt, const int64_t *dim, int nd)
{
	static const char *const known[] = {"below", "off", "space", "init", "a", "b", "fit"};
	const Ast *call = line->kid[0], *fit = named(call, "fit");
	const char *name = call->kid[0]->s;
	double below = 0, off = 0, a = 0, b = 0;
	int init = named_choice(call, "init", init_names, INIT_ORTHOGONAL + 1), space = named_choice(call, "space", space_names, SP_ACT + 1);
	if (!check_names(call, known, LEN(known)) || init < 0 || space < 0 || !named_number(call, "below", &below) || !named_number(call, "off", &off) ||
	    !named_number(call, "a", &a) || !named_number(call, "b", &b))
		return false;
	if (!(below >= -1 && below < 0x1p31) || !(off >= 0 && off < 0x1p40)) {
		error_at(call->loc, "below is a whole number from -1, off from 0");
		return false;
	}
	if (!strcmp(call->s, "input")) {
		GInput in = {.name = name, .dt = dt, .below = (int64_t)below, .nd = nd};
		memcpy(in.dim, dim, sizeof in.dim);
		graph_input(r->g, in);
	} else if (!strcmp(call->s, "param")) {
		GParam p = {.name = name, .nd = nd, .off = (int64_t)off, .init = (Init)init, .a = a, .b = b, .loc = line->loc};
		memcpy(p.dim, dim, sizeof p.dim);
		graph_param(r->g, p);
	} else if (!strcmp(call->s, "state")) {
		GState s = {.name = name, .dt = dt, .nd = nd, .space = (Space)space, .init = (Init)init, .a = a, .b = b, .loc = line->loc};
		s.fit = fit && fit->kind == A_STR ? fit->s : "";
		memcpy(s.dim, dim, sizeof s.dim);
		if (graph_state(r->g, s) != r->g->nstate - 1) {
			error_at(call->kid[0]->loc, "a second state is called \"%s\"", name);
			return false;
		}
	} else {
		error_at(call->loc, "input, param and state are declared by a text, not %s", call->s);
		return false;
	}
	return true;
}

/* ---- nodes ---- */

static bool
find_prim(const Ast *call, Prim *op)
{
	const char *names[NPRIM];
	for (int i = 0; i < NPRIM; i++) {
		names[i] = prim_info[i].name;
		*op = (Prim)i;
		if (!strcmp(names[i], call->s))
			return true;
	}
	const char *near = nearest_name(call->s, names, NPRIM);
	error_at(call->loc, near ? "no primitive is called '%s'; did you mean '%s'?" : "no primitive is called '%s'", call->s, near);
	return false;
}

/* The node of the line above that e names; quiet, and NULL, where that line was wrong. */
static Node *
read_operand(Reader *r, const Ast *e)
{
	Name *n = e->kind == A_NAME ? find_name(r, e->s) : NULL;
	if (!n)
		error_at(e->loc, e->kind == A_NAME ? "no line above makes '%s'" : "operands are names of lines above", e->s);
	return n ? n->node : NULL;
}

static bool
read_operands(Reader *r, const Ast *call, Node *t)
{
	t->in = arena_alloc(r->arena, (size_t)call->nkid * sizeof *t->in);
	for (int i = 0; i < call->nkid; i++) {
		const Ast *e = call->kid[i];
		if (e->kind == A_NAMED || e->kind == A_BLOCK)
			continue;
		if (!(t->in[t->nin++] = read_operand(r, e)))
			return false;
	}
	return true;
}

static bool
read_attributes(Reader *r, const Ast *call, Node *t)
{
	static const char *const known[] = {"at"};
	Ast *at = named(call, "at");
	if (!check_names(call, known, LEN(known)))
		return false;
	if (!at)
		return true;
	if (at->kind != A_LIST) {
		error_at(at->loc, "at is a list: at=[0, 1]");
		return false;
	}
	t->nat = at->nkid;
	t->at = arena_alloc(r->arena, (size_t)t->nat * sizeof *t->at);
	for (int i = 0; i < t->nat; i++)
		if (!read_int(at->kid[i], &t->at[i]))
			return false;
	return true;
}

static bool
same_type(const Node *t, DType dt, const int64_t *dim, int nd)
{
	return t->dt == dt && t->nd == nd && !memcmp(t->dim, dim, (size_t)nd * sizeof *dim);
}

/* Inputs, parameters and states are as declared. */
static bool
check_declared(const Graph *g, const Node *t, Loc l)
{
	int n = t->op == P_input ? g->ninput : t->op == P_param ? g->nparam : t->op == P_state ? g->nstate : -1;
	if (n < 0)
		return true;
	if (t->at[0] >= n) {
		error_at(l, "%s %ld is not declared", prim_info[t->op].name, (long)t->at[0]);
		return false;
	}
	const GInput *in = &g->input[t->at[0]];
	const GParam *p = &g->param[t->at[0]];
	const GState *s = &g->state[t->at[0]];
	bool same = t->op == P_input ? same_type(t, in->dt, in->dim, in->nd) : t->op == P_param ? same_type(t, DT_F32, p->dim, p->nd) : same_type(t, s->dt, s->dim, s->nd);
	if (!same)
		error_at(l, "%s %ld is declared with another type", prim_info[t->op].name, (long)t->at[0]);
	return same;
}

static void read_typed(Reader *r, const Ast *line);

/* Input k of a step is operand k of the scan; of a sequence, its part. Attributes are not checked yet. */
static void
declare_operands(Graph *body, const Node *scan)
{
	int ncarry = scan->nin - (scan->nat - 3);
	for (int i = 0; i < scan->nin; i++) {
		const Node *x = scan->in[i];
		bool seq = x->nd && i >= ncarry && scan->at[3 + i - ncarry];
		GInput in = {.name = "", .dt = x->dt, .nd = x->nd - seq};
		memcpy(in.dim, x->dim + seq, (size_t)in.nd * sizeof *in.dim);
		graph_input(body, in);
	}
}

/* One step of a scan. */
static Graph *
read_body(Reader *outer, const Ast *block, const Node *scan)
{
	int before = error_count(), next = 0;
	Reader *r = arena_alloc(outer->arena, sizeof *r);
	r->arena = outer->arena;
	r->g = graph_new(r->arena, "step");
	r->body = true;
	declare_operands(r->g, scan);
	for (int i = 0; i < block->nkid; i++) {
		const Ast *line = block->kid[i];
		bool is_next = line->kind == A_CALL && !strcmp(line->s, "next") && line->nkid == 1;
		if (line->kind == A_TYPED) {
			read_typed(r, line);
		} else if ((is_next && next == r->g->noutput) || line->kind == A_EMIT) {
			Node *n = read_operand(r, line->kid[0]);
			next += is_next;
			if (n)
				graph_output(r->g, "", "", n);
		} else {
			error_at(line->loc, "a line of a step is NAME: TYPE = .., next(NAME) for each carry, then emit(NAME) for what else leaves it");
		}
	}
	if (error_count() == before && scan->nat > 2 && next != scan->at[2])
		error_at(block->loc, "a scan of %ld carries has as many lines next(NAME), not %d", (long)scan->at[2], next);
	return error_count() == before ? r->g : NULL;
}

static bool
take_body(Reader *r, const Ast *call, Node *t)
{
	if (t->op != P_scan)
		return true;
	if (r->body) {
		error_at(call->loc, "a scan inside a scan");
		return false;
	}
	return (t->body = read_body(r, call->kid[call->nkid - 1], t));
}

static Node *
read_node(Reader *r, const Ast *line, DType dt, const int64_t *dim, int nd)
{
	const Ast *call = line->kid[0];
	Node t = {.dt = dt, .nd = nd};
	memcpy(t.dim, dim, sizeof t.dim);
	if (!find_prim(call, &t.op))
		return NULL;
	if (t.op == P_const) {
		if (call->nkid != 1 || !read_number(call->kid[0], &t.f)) {
			error_at(call->loc, "const takes one number");
			return NULL;
		}
	} else if (!read_operands(r, call, &t) || !read_attributes(r, call, &t) || !take_body(r, call, &t)) {
		return NULL;
	}
	const char *wrong = node_check(&t);
	if (wrong) {
		error_at(line->loc, "%s %s", call->s, wrong);
		return NULL;
	}
	if (!check_declared(r->g, &t, line->loc))
		return NULL;
	r->g->loc = line->loc;
	if (t.op == P_scan)
		return mk_scan(r->g, t.in, t.nin, t.at, t.nat, t.body);
	Node *n = node_new(r->g, t.op, t.dt, t.in, t.nin, t.dim, t.nd, t.at, t.nat, t.op == P_const && dt == DT_F32 ? (float)t.f : t.f);
	if (!same_type(n, dt, dim, nd))
		bug("graph text: %s is not as its line says", call->s);
	return n;
}

/* ---- lines ---- */

static void
read_typed(Reader *r, const Ast *line)
{
	int64_t dim[MAXDIM] = {0};
	int nd = line->nkid - 1;
	DType dt;
	Node *n = NULL;
	const Ast *call = line->kid[0];
	bool ok = read_dtype(line, &dt) && read_dims(line->kid + 1, nd, line->loc, dim), given = call->kind == A_CALL && call->nkid && call->kid[0]->kind == A_STR;
	if (ok && call->kind != A_CALL)
		error_at(call->loc, "a primitive of names is needed here: %s: f32[2] = neg(x)", line->s);
	else if (ok && given && r->body)
		error_at(call->loc, "a step reads the scan's operands: x: f32[2] = input(at=[0])");
	else if (ok && given)
		declare(r, line, dt, dim, nd);
	else if (ok)
		n = read_node(r, line, dt, dim, nd);
	if (given)
		return;
	if (find_name(r, line->s)) {
		error_at(line->loc, "a second line makes '%s'", line->s);
		return;
	}
	Name *x = arena_alloc(r->arena, sizeof *x), **b = bucket(r, line->s);
	*x = (Name){line->s, n, *b};
	*b = x;
}

/* update(state, node), output("name", "role", node) */
static void
read_root(Reader *r, const Ast *call)
{
	bool update = !strcmp(call->s, "update"), output = !strcmp(call->s, "output");
	int last = update ? 1 : 2;
	Graph *g = r->g;
	if ((!update && !output) || call->nkid != last + 1 || call->kid[last]->kind != A_NAME ||
	    (output && (call->kid[0]->kind != A_STR || call->kid[1]->kind != A_STR))) {
		error_at(call->loc, "a line is NAME: TYPE = .., update(STATE, NAME) or output(\"NAME\", \"ROLE\", NAME)");
		return;
	}
	Node *n = read_operand(r, call->kid[last]);
	if (!n)
		return;
	if (output) {
		graph_output(g, call->kid[0]->s, call->kid[1]->s, n);
		return;
	}
	int64_t i;
	if (!read_int(call->kid[0], &i))
		return;
	if (i < 0 || i >= g->nstate)
		error_at(call->kid[0]->loc, "state %ld is not declared", (long)i);
	else if (!same_type(n, g->state[i].dt, g->state[i].dim, g->state[i].nd))
		error_at(call->loc, "the update of state %ld has another type", (long)i);
	else
		g->state[i].update = n;
}

/* Random sites that a graph's nodes, and the steps of its scans, name. */
static int
count_sites(const Graph *g)
{
	int n = 0;
	for (int i = 0; i < g->nnode; i++) {
		const Node *x = g->node[i];
		int k = x->op == P_random ? (int)x->at[0] + 1 : x->op == P_scan ? count_sites(x->body) : 0;
		n = k > n ? k : n;
	}
	return n;
}

static Graph *
read_graph(Arena *a, const Ast *def)
{
	Reader *r = arena_alloc(a, sizeof *r);
	r->arena = a;
	r->g = graph_new(a, def->s);
	for (int i = 1; i < def->nkid; i++) {
		const Ast *f = def->kid[i];
		int64_t v = 0;
		if (strcmp(f->s, "batch") || f->tensor || !f->kid[0] || !read_int(f->kid[0], &v))
			error_at(f->loc, "a graph is graph NAME(batch = N) { .. }");
		r->g->batch = v;
	}
	for (int i = 0; i < def->kid[0]->nkid; i++) {
		const Ast *line = def->kid[0]->kid[i];
		if (line->kind == A_TYPED)
			read_typed(r, line);
		else if (line->kind == A_CALL)
			read_root(r, line);
		else
			error_at(line->loc, "a line is NAME: TYPE = .., update(STATE, NAME) or output(\"NAME\", \"ROLE\", NAME)");
	}
	r->g->nsite = count_sites(r->g);
	return r->g;
}

Graph **
graph_read(Arena *a, int file, int *n)
{
	int before = error_count(), ndef;
	Ast **def = parse_graphs(a, file, &ndef);
	Graph **g = arena_alloc(a, (size_t)ndef * sizeof *g + 1);
	*n = 0;
	for (int i = 0; def && i < ndef; i++) {
		if (def[i]->kind != A_DEF || strcmp(def[i]->t, "graph"))
			error_at(def[i]->loc, "a graph is graph NAME(batch = N) { .. }");
		else
			g[(*n)++] = read_graph(a, def[i]);
	}
	return def && error_count() == before ? g : NULL;
}
