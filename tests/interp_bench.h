/* Graphs by hand, for tests of the interpreter: nodes made past node_new, inputs with given or random values. */
#ifndef INTERP_BENCH_H
#define INTERP_BENCH_H

#include "../compiler/mmc.h"

#include <stdlib.h>
#include <string.h>

/* ---- a bench: one graph and what it reads ---- */

enum { MAXNODE = 512, MAXINPUT = 16 };

typedef struct Bench {
	Arena arena;
	Graph g;
	Env env;
	Node *node[MAXNODE];
	const double *input[MAXINPUT], *param[2], *state[2], *column[2];
	int ninput;
} Bench;

static const double column0[] = {10, 11, 12, 13, 14}, column1[] = {0, 1, 10, 11, 20, 21, 30, 31, 40, 41};

static Bench *
bench_new(void)
{
	Bench *b = xcalloc(1, sizeof *b);
	b->g.arena = &b->arena;
	b->g.node = b->node;
	b->param[1] = b->state[0] = b->column[0] = column0;
	b->param[0] = b->state[1] = b->column[1] = column1;
	b->env = (Env){b->state, b->param, b->input, b->column, LEN(column0)};
	return b;
}

static void
bench_free(Bench *b)
{
	arena_free(&b->arena);
	free(b);
}

typedef struct Ints {
	int n;
	int64_t v[4 * MAXDIM];
} Ints;
#define INTS(...) (Ints){(int)LEN(((int64_t[]){__VA_ARGS__})), {__VA_ARGS__}}
static const Ints none;

static Node *
make(Bench *b, Prim op, DType dt, Ints dim, Ints at, int nin, Node *const *in)
{
	if (b->g.nnode == MAXNODE)
		abort();
	Node *n = arena_alloc(&b->arena, sizeof *n);
	*n = (Node){.op = op, .dt = dt, .nd = dim.n, .nin = nin, .nat = at.n, .id = b->g.nnode};
	memcpy(n->dim, dim.v, sizeof n->dim);
	n->at = arena_alloc(&b->arena, sizeof at.v);
	memcpy(n->at, at.v, sizeof at.v);
	n->in = arena_alloc(&b->arena, (size_t)nin * sizeof *in);
	if (nin)
		memcpy(n->in, in, (size_t)nin * sizeof *in);
	b->node[b->g.nnode++] = n;
	return n;
}

static Ints
dims_of(const Node *n)
{
	Ints d = {.n = n->nd};
	memcpy(d.v, n->dim, sizeof n->dim);
	return d;
}

static Node *
make1(Bench *b, Prim op, Ints dim, Ints at, Node *x)
{
	return make(b, op, x->dt, dim, at, 1, &x);
}

static Node *elem1(Bench *b, Prim op, Node *x) { return make1(b, op, dims_of(x), none, x); }

static Node *
elem2(Bench *b, Prim op, Node *x, Node *y)
{
	return make(b, op, x->dt, dims_of(x), none, 2, (Node *[]){x, y});
}

/* An input; the values are kept by the caller. */
static Node *
given(Bench *b, DType dt, Ints dim, const double *values)
{
	b->input[b->ninput] = values;
	return make(b, P_input, dt, dim, INTS(b->ninput++), 0, NULL);
}

static double *
eval(Bench *b, Node *n)
{
	double *v;
	interp(&b->g, &b->env, &n, 1, &v);
	return v;
}

/* ---- random cases ---- */

static uint64_t
rnd(void)
{
	static uint64_t s = 88172645463325252u; /* Marsaglia's xorshift64 */
	s ^= s << 13, s ^= s >> 7, s ^= s << 17;
	return s;
}

static int64_t rnd_int(int64_t lo, int64_t hi) { return lo + (int64_t)(rnd() % (uint64_t)(hi - lo + 1)); }
static double rnd_real(void) { return (double)(int64_t)rnd() * 0x1p-62; }

static Node *
given_random(Bench *b, Ints dim)
{
	int64_t n = 1;
	for (int d = 0; d < dim.n; d++)
		n *= dim.v[d];
	double *v = arena_alloc(&b->arena, (size_t)n * sizeof *v);
	for (int64_t i = 0; i < n; i++)
		v[i] = rnd_real();
	return given(b, DT_F32, dim, v);
}

static Node *
given_ints(Bench *b, DType dt, Ints dim, int64_t lo, int64_t hi)
{
	Node *n = given_random(b, dim);
	double *v = arena_alloc(&b->arena, (size_t)node_count(n) * sizeof *v);
	for (int64_t i = node_count(n); i-- > 0;)
		v[i] = (double)rnd_int(lo, hi);
	b->input[n->at[0]] = v;
	n->dt = dt;
	return n;
}

#endif
