/* Einstein sums as matrix products. Labels are sorted by where they occur: batch (both operands and the result), M (a
   and the result), N (b and the result), K (both operands, summed). Neighbouring labels of one kind that lie in one
   run of memory merge; M and N runs that are left over become batch dims with stride 0 in the other operand. */
#include <string.h>

#include "loop.h"

enum { A, B, C };

typedef struct Run {
	int64_t dim, s[3]; /* strides in a, b, c */
} Run;

typedef struct Runs {
	Run r[MAXDIM];
	int n;
} Runs;

/* Appends the next label inwards, merged with the last run where all its operands allow. */
static void
add_run(Runs *v, Run r)
{
	if (r.dim == 1)
		return;
	if (v->n) {
		Run *p = &v->r[v->n - 1];
		bool ok = true;
		for (int i = 0; i < 3; i++)
			ok &= p->s[i] == r.s[i] * r.dim;
		if (ok) {
			p->dim *= r.dim;
			memcpy(p->s, r.s, sizeof r.s);
			return;
		}
	}
	v->r[v->n++] = r;
}

static Run
take_inner(Runs *v)
{
	return v->n ? v->r[--v->n] : (Run){.dim = 1};
}

static bool
unit(int64_t dim, int64_t s)
{
	return dim == 1 || s == 1;
}

static void
plain_strides(const int64_t *dim, int nd, int64_t *s)
{
	int64_t stride = 1;
	for (int i = nd - 1; i >= 0; i--) {
		s[i] = stride;
		stride *= dim[i];
	}
}

/* The product of a, b into c with the given strides, or false if no single (batched) call does it. */
static bool
match(const Node *a, const Node *b, const int64_t *at, const Node *c, const int64_t *sa, const int64_t *sb, const int64_t *sc, PlanGemm *g, bool *swap)
{
	const int64_t *la = at, *lb = la + a->nd, *lc = lb + b->nd;
	Runs batch = {0}, m = {0}, n = {0}, k = {0};
	for (int i = 0; i < c->nd; i++) {
		Run r = {.dim = c->dim[i], .s = {0, 0, sc[i]}};
		bool ina = false, inb = false;
		for (int j = 0; j < a->nd; j++)
			if (la[j] == lc[i])
				ina = true, r.s[A] = sa[j];
		for (int j = 0; j < b->nd; j++)
			if (lb[j] == lc[i])
				inb = true, r.s[B] = sb[j];
		add_run(ina && inb ? &batch : ina ? &m : &n, r);
	}
	for (int j = 0; j < a->nd; j++) {
		Run r = {.dim = a->dim[j], .s = {sa[j], 0, 0}};
		bool kept = false;
		for (int i = 0; i < c->nd; i++)
			kept |= lc[i] == la[j];
		for (int i = 0; i < b->nd; i++)
			if (lb[i] == la[j])
				r.s[B] = sb[i];
		if (!kept)
			add_run(&k, r);
	}
	Run M = take_inner(&m), N = take_inner(&n), K = take_inner(&k);
	while (m.n)
		batch.r[batch.n++] = take_inner(&m);
	while (n.n)
		batch.r[batch.n++] = take_inner(&n);
	if (k.n || batch.n > 2)
		return false;
	*swap = !unit(N.dim, N.s[C]);
	int x = A, y = B;
	if (*swap) {
		Run t = M;
		M = N;
		N = t;
		x = B, y = A;
	}
	if (!unit(N.dim, N.s[C]) || !(unit(M.dim, M.s[x]) || unit(K.dim, K.s[x])) || !(unit(N.dim, N.s[y]) || unit(K.dim, K.s[y])))
		return false;
	*g = (PlanGemm){.m = M.dim, .n = N.dim, .k = K.dim, .ars = M.s[x], .acs = K.s[x], .brs = K.s[y], .bcs = N.s[y], .crs = M.s[C],
	                .batch0 = 1, .batch1 = 1, .alpha = 1};
	if (M.dim == 1)
		g->ars = K.dim, g->crs = N.dim;
	if (N.dim == 1)
		g->bcs = 1;
	if (K.dim == 1)
		g->acs = 1, g->brs = N.dim;
	if (batch.n > 0) {
		Run *r = &batch.r[batch.n - 1];
		g->batch1 = r->dim, g->a1 = r->s[x], g->b1 = r->s[y], g->c1 = r->s[C];
	}
	if (batch.n > 1) {
		Run *r = &batch.r[0];
		g->batch0 = r->dim, g->a0 = r->s[x], g->b0 = r->s[y], g->c0 = r->s[C];
	}
	return true;
}

bool
gemm_plain(const Node *a, const Node *b, const int64_t *at, const int64_t *dim, int nd)
{
	Node c = {.nd = nd};
	int64_t sa[MAXDIM], sb[MAXDIM], sc[MAXDIM];
	PlanGemm g;
	bool swap;
	memcpy(c.dim, dim, (size_t)nd * sizeof *dim);
	plain_strides(a->dim, a->nd, sa);
	plain_strides(b->dim, b->nd, sb);
	plain_strides(dim, nd, sc);
	return match(a, b, at, &c, sa, sb, sc, &g, &swap);
}

bool
gemm_places(const Node *dot, const int64_t *stride)
{
	int64_t sa[MAXDIM], sb[MAXDIM];
	PlanGemm g;
	bool swap;
	plain_strides(dot->in[0]->dim, dot->in[0]->nd, sa);
	plain_strides(dot->in[1]->dim, dot->in[1]->nd, sb);
	return match(dot->in[0], dot->in[1], dot->at, dot, sa, sb, stride, &g, &swap);
}

bool
gemm_match(const Fusion *f, Node *dot, const Layout *out, GemmCall *c)
{
	Node *a = dot->in[0], *b = dot->in[1];
	int64_t sa[MAXDIM], sb[MAXDIM];
	bool swap;
	*c = (GemmCall){0};
	if (!strided(f, a, &c->a, &c->aoff, sa) || !strided(f, b, &c->b, &c->boff, sb))
		return false;
	if (!match(a, b, dot->at, dot, sa, sb, out->stride, &c->g, &swap))
		return false;
	if (swap) {
		Node *t = c->a;
		int64_t o = c->aoff;
		c->a = c->b, c->aoff = c->boff;
		c->b = t, c->boff = o;
	}
	return true;
}

bool
gemm_operand_ok(const Fusion *f, Node *dot, int operand)
{
	int64_t s[2][MAXDIM], sc[MAXDIM], off;
	Node *root;
	PlanGemm g;
	bool swap;
	for (int i = 0; i < 2; i++)
		plain_strides(dot->in[i]->dim, dot->in[i]->nd, s[i]);
	memcpy(sc, f->layout[dot->id].stride, sizeof sc);
	if (!strided(f, dot->in[operand], &root, &off, s[operand]))
		return false;
	if (operand == 1) { /* the first operand as it will be: both must fit together */
		int64_t t[MAXDIM];
		if (strided(f, dot->in[0], &root, &off, t))
			memcpy(s[0], t, sizeof t);
	}
	return match(dot->in[0], dot->in[1], dot->at, dot, s[0], s[1], sc, &g, &swap);
}
