/* Which instructions must wait for which: two that touch the same bytes, one of them writing, keep their order; all others
   may run side by side. A device that can do so (a CUDA graph) takes these edges in place of the list's order. */
#include "depend.h"

#include <string.h>

#include "plan_impl.h"

typedef struct Span {
	uint32_t space;
	bool written;
	uint64_t lo, hi;
} Span;

typedef struct Touch {
	uint32_t n;
	Span *span;
} Touch;

static Touch
touched(Arena *a, const PlanInstr *in, const Span *also)
{
	Touch t = {.span = arena_alloc(a, (in->narg + 1) * sizeof *t.span)};
	for (uint32_t i = 0; i < in->narg; i++) {
		const PlanRef *r = &in->arg[i];
		if (r->space == SP_DATA || !r->bytes) /* never written; empty */
			continue;
		t.span[t.n++] = (Span){r->space, instr_writes(in, i), r->off, r->off + r->bytes};
	}
	if (also->hi)
		t.span[t.n++] = *also;
	return t;
}

static bool
conflict(const Touch *a, const Touch *b)
{
	for (uint32_t i = 0; i < a->n; i++)
		for (uint32_t k = 0; k < b->n; k++) {
			const Span *x = &a->span[i], *y = &b->span[k];
			if ((x->written || y->written) && x->space == y->space && x->lo < y->hi && y->lo < x->hi)
				return true;
		}
	return false;
}

/* Backwards from each instruction: what an earlier edge already leads to is passed over, so that few edges remain. */
Depend *
depend_find(Arena *a, const PlanProgram *p, const WorkSpan *work)
{
	uint32_t n = p->ninstr, words = (2 * n + 63) / 64;
	Depend *d = arena_alloc(a, n * 2 * sizeof *d);
	Touch *t = arena_alloc(a, n * sizeof *t);
	uint64_t *reach = arena_alloc(a, (size_t)2 * n * words * sizeof *reach);
	uint32_t *on = arena_alloc(a, (size_t)2 * n * sizeof *on);
	for (uint32_t i = 0; i < n; i++)
		t[i] = touched(a, &p->instr[i], &(Span){SP_WORK, true, work[i].off, work[i].off + work[i].bytes});
	for (uint32_t i = 0; i < 2 * n; i++) {
		uint64_t *mine = reach + (size_t)i * words;
		for (uint32_t k = i; k-- > 0;) {
			if ((mine[k / 64] >> k % 64 & 1) || !conflict(&t[i % n], &t[k % n]))
				continue;
			on[d[i].n++] = k;
			for (uint32_t w = 0; w < words; w++)
				mine[w] |= reach[(size_t)k * words + w];
			mine[k / 64] |= 1ull << k % 64;
		}
		d[i].on = arena_alloc(a, d[i].n * sizeof *d[i].on);
		memcpy(d[i].on, on, d[i].n * sizeof *on);
	}
	return d;
}
