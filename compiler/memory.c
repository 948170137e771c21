/* Offline memory planning: every buffer's life is known, so placement is a packing of rectangles (time x bytes).
   Best fit (Pisarchyk and Lee 2020, "greedy by size", and other orders): buffers are taken in some order, each goes
   into the smallest gap between the placed ones that live at the same time. */
#include <stdlib.h>
#include <string.h>

#include "codegen.h"

#define ALIGN 256
#define TURNS 12 /* tries to better each order */

static bool together(const Buf *a, const Buf *b) { return a->first <= b->last && b->first <= a->last; }

static int64_t sign(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int
by_size(const void *x, const void *y)
{
	const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
	int64_t s = sign((int64_t)b->bytes, (int64_t)a->bytes);
	return (int)(s ? s : sign(a->first, b->first) ? sign(a->first, b->first) : sign(a->root->id, b->root->id));
}

static int
by_area(const void *x, const void *y)
{
	const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
	uint64_t p = a->bytes * (uint64_t)(a->last - a->first + 1), q = b->bytes * (uint64_t)(b->last - b->first + 1);
	return p != q ? (p < q ? 1 : -1) : by_size(x, y);
}

static int
by_life(const void *x, const void *y)
{
	const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
	int64_t s = sign(b->last - b->first, a->last - a->first);
	return (int)(s ? s : by_size(x, y));
}

static int
by_start(const void *x, const void *y)
{
	const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
	int64_t s = sign(a->first, b->first);
	return (int)(s ? s : by_size(x, y));
}

static int
by_off(const void *x, const void *y)
{
	const Buf *a = *(Buf *const *)x, *b = *(Buf *const *)y;
	return (int)sign((int64_t)a->off, (int64_t)b->off);
}

/* Places in the given order; returns the arena's size. */
static uint64_t
place(Buf **order, int n)
{
	Buf **busy = xmalloc((size_t)n * sizeof *busy);
	uint64_t arena = 0;
	for (int i = 0; i < n; i++) {
		Buf *b = order[i];
		uint64_t at = 0, best = UINT64_MAX, best_gap = UINT64_MAX;
		int m = 0;
		for (int k = 0; k < i; k++)
			if (together(order[k], b))
				busy[m++] = order[k];
		qsort(busy, (size_t)m, sizeof *busy, by_off);
		for (int k = 0; k < m; k++) {
			if (busy[k]->off >= at + b->bytes && busy[k]->off - at < best_gap) {
				best = at;
				best_gap = busy[k]->off - at;
			}
			if (busy[k]->off + busy[k]->bytes > at)
				at = busy[k]->off + busy[k]->bytes;
		}
		b->off = best == UINT64_MAX ? at : best;
		if (b->off + b->bytes > arena)
			arena = b->off + b->bytes;
	}
	free(busy);
	return arena;
}

static void
highest_first(Buf **v, int n)
{
	int top = 0;
	for (int i = 1; i < n; i++)
		if (v[i]->off + v[i]->bytes > v[top]->off + v[top]->bytes)
			top = i;
	Buf *b = v[top];
	memmove(v + 1, v, (size_t)top * sizeof *v);
	v[0] = b;
}

static uint64_t
lower_bound(const Buf *b, int n)
{
	uint64_t most = 0;
	for (int i = 0; i < n; i++) { /* the live set grows only where a buffer begins */
		uint64_t live = 0;
		for (int k = 0; k < n; k++)
			if (b[k].first <= b[i].first && b[i].first <= b[k].last)
				live += b[k].bytes;
		if (live > most)
			most = live;
	}
	return most;
}

/* The smallest buffers, `bytes` of them in all, get a place for the whole program: reuse makes kernels wait for each other
   that a GPU could run side by side, and these are kernels that leave most of it idle. */
static void
spread(Buf *b, int n, uint64_t bytes)
{
	Buf **v = xmalloc((size_t)n * sizeof *v);
	int last = 0;
	for (int i = 0; i < n; i++) {
		v[i] = &b[i];
		last = b[i].last > last ? b[i].last : last;
	}
	qsort(v, (size_t)n, sizeof *v, by_size);
	for (int i = n - 1; i >= 0 && v[i]->bytes <= bytes; i--) {
		bytes -= v[i]->bytes;
		v[i]->first = 0;
		v[i]->last = last;
	}
	free(v);
}

MemoryPlan
plan_memory(Buf *b, int n, bool reuse, double slack)
{
	static int (*const orders[])(const void *, const void *) = {by_size, by_area, by_life, by_start};
	MemoryPlan m = {0};
	Buf **v = xmalloc((size_t)n * sizeof *v);
	uint64_t *best = xmalloc((size_t)n * sizeof *best);
	for (int i = 0; i < n; i++) {
		b[i].bytes = (b[i].bytes + ALIGN - 1) / ALIGN * ALIGN;
		b[i].off = m.bytes;
		best[i] = m.bytes;
		m.bytes += b[i].bytes;
	}
	m.bound = lower_bound(b, n);
	if (reuse && slack > 0)
		spread(b, n, (uint64_t)((double)m.bound * slack));
	for (size_t o = 0; reuse && o < LEN(orders); o++) {
		for (int i = 0; i < n; i++)
			v[i] = &b[i];
		qsort(v, (size_t)n, sizeof *v, orders[o]);
		uint64_t size = place(v, n);
		if (size < m.bytes) {
			m.bytes = size;
			for (int i = 0; i < n; i++)
				best[i] = b[i].off;
		}
	}
	for (int o = 0; reuse && o < (int)LEN(orders) * TURNS && m.bytes > m.bound; o++) { /* the one that reaches highest goes first */
		if (o % TURNS == 0) {
			for (int i = 0; i < n; i++)
				v[i] = &b[i];
			qsort(v, (size_t)n, sizeof *v, orders[o / TURNS]);
			place(v, n);
		}
		highest_first(v, n);
		uint64_t size = place(v, n);
		for (int i = 0; i < n && size < m.bytes; i++)
			best[i] = b[i].off;
		m.bytes = size < m.bytes ? size : m.bytes;
	}
	for (int i = 0; i < n; i++)
		b[i].off = best[i];
	free(v);
	free(best);
	memory_verify(b, n, m.bytes);
	return m;
}

void
memory_verify(const Buf *b, int n, uint64_t arena)
{
	for (int i = 0; i < n; i++) {
		if (b[i].off % ALIGN || b[i].off + b[i].bytes > arena)
			bug("memory: the buffer of v%d lies outside the arena", b[i].root->id);
		for (int k = 0; k < i; k++)
			if (together(&b[i], &b[k]) && b[i].off < b[k].off + b[k].bytes && b[k].off < b[i].off + b[i].bytes)
				bug("memory: the buffers of v%d and v%d overlap while both are live", b[i].root->id, b[k].root->id);
	}
}
