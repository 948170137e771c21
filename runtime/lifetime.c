/* What the arguments of a program's instructions say about it: which wait for which, and how long each byte of the arena holds a value. */
#include "bench.h"

#include "depend.h"

#include <stdlib.h>
#include <string.h>

PlanProgram
program_widen(Arena *a, const PlanProgram *p)
{
	PlanProgram w = *p;
	int64_t times = 1;
	w.instr = arena_alloc(a, p->ninstr * sizeof *w.instr);
	for (uint32_t i = 0; i < p->ninstr; i++) {
		PlanInstr *in = &w.instr[i];
		*in = p->instr[i];
		times = in->kind == I_LOOP ? in->times : times; /* steps are only inside of one */
		if (!in->nstep || !in->narg)
			continue;
		in->arg = arena_alloc(a, in->narg * sizeof *in->arg);
		memcpy(in->arg, p->instr[i].arg, in->narg * sizeof *in->arg);
		for (uint32_t k = 0; k < in->narg && k < in->nstep; k++) {
			int64_t far = in->step[k] * (times - 1);
			in->arg[k].off -= far < 0 ? (uint64_t)-far : 0;
			in->arg[k].bytes += (uint64_t)(far < 0 ? -far : far);
		}
	}
	return w;
}

/* ---- dependencies ---- */

double
longest_chain(Arena *a, const PlanProgram *p, const double *seconds, bool *on)
{
	uint32_t n = p->ninstr, last = 0;
	PlanProgram w = program_widen(a, p);
	Depend *d = depend_find(a, &w, arena_alloc(a, n * sizeof(WorkSpan)));
	double *until = arena_alloc(a, (n + 1) * sizeof *until);
	uint32_t *before = arena_alloc(a, n * sizeof *before);
	for (uint32_t i = 0; i < n; i++) {
		before[i] = i;
		for (uint32_t k = 0; k < d[i].n; k++)
			if (until[d[i].on[k]] > until[i]) {
				before[i] = d[i].on[k];
				until[i] = until[before[i]];
			}
		until[i] += seconds[i];
		last = until[i] > until[last] ? i : last;
	}
	for (uint32_t i = last; on && n && !on[i]; i = before[i])
		on[i] = true;
	return until[last];
}

/* ---- memory ---- */

/* Lives in order of their beginning; those that `open` lists may still be read. */
typedef struct Lives {
	Life *life;
	size_t count, cap;
	size_t *open;
	size_t nopen, opencap;
} Lives;

static void
begin_life(Lives *s, uint64_t lo, uint64_t hi, uint32_t first, uint32_t last)
{
	if (lo >= hi)
		return;
	VEC_PUSH(s->open, s->nopen, s->opencap) = s->count;
	VEC_PUSH(s->life, s->count, s->cap) = (Life){lo, hi, first, last};
}

static void
read_bytes(Lives *s, uint64_t lo, uint64_t hi, uint32_t i)
{
	for (size_t k = 0; k < s->nopen; k++) {
		Life *l = &s->life[s->open[k]];
		if (l->lo < hi && lo < l->hi)
			l->last = i;
	}
}

/* What is overwritten ends; what is left of it to both sides goes on. */
static void
write_bytes(Lives *s, uint64_t lo, uint64_t hi, uint32_t i)
{
	for (size_t k = 0, n = s->nopen; k < n;) {
		Life l = s->life[s->open[k]];
		if (l.lo >= hi || lo >= l.hi) {
			k++;
			continue;
		}
		Life *cut = &s->life[s->open[k]];
		cut->lo = l.lo > lo ? l.lo : lo;
		cut->hi = l.hi < hi ? l.hi : hi;
		s->open[k] = s->open[--n];
		s->open[n] = s->open[--s->nopen];
		begin_life(s, l.lo, lo, l.first, l.last);
		begin_life(s, hi, l.hi, l.first, l.last);
	}
	begin_life(s, lo, hi, i, i);
}

static int
by_first(const void *a, const void *b)
{
	const Life *x = a, *y = b;
	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return (x->lo > y->lo) - (x->lo < y->lo);
}

Life *
program_lives(const PlanProgram *p, uint32_t *n)
{
	Arena a = {0};
	Lives s = {0};
	PlanProgram w = program_widen(&a, p);
	for (uint32_t i = 0; i < w.ninstr; i++)
		for (int writes = 0; writes < 2; writes++)
			for (uint32_t k = 0; k < w.instr[i].narg; k++) {
				const PlanRef *r = &w.instr[i].arg[k];
				if (r->space != SP_ACT || instr_writes(&w.instr[i], k) != (bool)writes)
					continue;
				(writes ? write_bytes : read_bytes)(&s, r->off, r->off + r->bytes, i);
			}
	for (uint32_t i = 0; i < w.noutput && w.ninstr; i++) /* read when the program is done */
		if (w.output[i].ref->space == SP_ACT)
			read_bytes(&s, w.output[i].ref->off, w.output[i].ref->off + w.output[i].ref->bytes, w.ninstr - 1);
	if (s.count)
		qsort(s.life, s.count, sizeof *s.life, by_first);
	*n = (uint32_t)s.count;
	free(s.open);
	arena_free(&a);
	return s.life;
}

uint64_t
lives_bytes(const Life *l, uint32_t n, uint32_t i)
{
	uint64_t sum = 0;
	for (uint32_t k = 0; k < n && l[k].first <= i; k++)
		sum += l[k].last >= i ? l[k].hi - l[k].lo : 0;
	return sum;
}
