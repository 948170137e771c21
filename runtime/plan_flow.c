/* Follows the activations of a program byte by byte: an interval map says which instruction wrote what last.
   A read of bytes that nobody wrote is an error, and so is a read of what is left of a buffer after a
   later write took a part of it.

       1: writes [0, 64)      2: writes [32, 96)      3: reads [0, 32)   error: 2 took a part of 1's buffer

   What cannot be seen: a buffer placed exactly over another that is still needed, since a reference does not
   say whose value it wants; the compiler's memory pass checks that from liveness. */
#include "plan.h"
#include "plan_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX
/* Strided pieces of a program's operands that are looked at singly. Beyond, what is written is a whole extent, with gaps, and of
   what is read the ends are looked at. */
enum { RUN_BUDGET = 1 << 22 };

/* Bytes [lo, hi) of the activation arena. */
typedef struct Run {
	uint64_t lo, hi;
	uint32_t arg; /* of the instruction at hand */
	bool gaps;    /* not all of it is written */
} Run;

typedef struct Runs {
	Run *v;
	size_t n, cap;
} Runs;

typedef struct Interval {
	uint64_t lo, hi;
	uint32_t by;       /* instruction that wrote it last */
	uint32_t arg;      /* of it */
	uint32_t taken_by; /* instruction that took another part of the same buffer, or NOBODY */
	bool zero;         /* written by I_ZERO: any part of zeros is zeros */
	bool gaps;         /* not all of it was written, and what a later write leaves of it may be another's */
} Interval;

typedef struct Map {
	Interval *v; /* ordered, disjoint */
	size_t n, cap;
} Map;

struct Flow {
	const PlanProgram *program;
	Map act, scratch;
	Runs in, out;
	uint64_t budget;
};

Flow *
flow_new(const PlanProgram *g)
{
	Flow *f = xcalloc(1, sizeof *f);
	f->program = g;
	f->budget = RUN_BUDGET;
	return f;
}

void
flow_free(Flow *f)
{
	free(f->act.v);
	free(f->scratch.v);
	free(f->in.v);
	free(f->out.v);
	free(f);
}

/* As zeros, of which any part may be written anew. */
void
flow_keep(Flow *f, uint64_t bytes)
{
	if (bytes)
		VEC_PUSH(f->act.v, f->act.n, f->act.cap) = (Interval){0, bytes, 0, 0, NOBODY, true, false};
}

/* ---- gemm operands ---- */

/* A matrix[rows, cols] by strides rs and cs; false if BLAS cannot take it. */
static bool
set_matrix(Operand *o, int64_t rows, int64_t cols, int64_t rs, int64_t cs)
{
	bool by_row = cs == 1 && (rs >= cols || rows == 1);
	if (!by_row && !(rs == 1 && (cs >= rows || cols == 1)))
		return false;
	o->len = by_row ? cols : rows;
	o->count[0] = by_row ? rows : cols;
	o->stride[0] = by_row ? rs : cs;
	return o->stride[0] >= 0 && o->stride[0] <= INT32_MAX;
}

bool
gemm_operand(const PlanGemm *g, uint32_t arg, Operand *o)
{
	*o = (Operand){.len = g->n, .count = {1, g->batch0, g->batch1}, .element = dtype_bytes(arg < 2 ? g->dtype : g->ctype)};
	switch (arg) {
	case 0:
		o->stride[1] = g->a0, o->stride[2] = g->a1;
		return set_matrix(o, g->m, g->k, g->ars, g->acs);
	case 1:
		o->stride[1] = g->b0, o->stride[2] = g->b1;
		return set_matrix(o, g->k, g->n, g->brs, g->bcs);
	case 2:
		o->stride[1] = g->c0, o->stride[2] = g->c1;
		o->written = true;
		return set_matrix(o, g->m, g->n, g->crs, 1);
	default: /* bias[n], one for all batches */
		o->count[1] = o->count[2] = 1;
		return true;
	}
}

bool
operand_extent(const Operand *o, uint64_t *bytes)
{
	uint64_t last = (uint64_t)o->len, step;
	*bytes = 0;
	for (size_t i = 0; i < LEN(o->count); i++)
		if (o->stride[i] < 0 ||
		    __builtin_mul_overflow((uint64_t)o->stride[i], (uint64_t)(o->count[i] - 1), &step) ||
		    __builtin_add_overflow(last, step, &last))
			return false;
	return !__builtin_mul_overflow(last, (uint64_t)o->element, bytes);
}

/* ---- the interval map ---- */

/* Index of the first interval that ends after byte x. */
static size_t
map_find(const Map *m, uint64_t x)
{
	size_t lo = 0, hi = m->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (m->v[mid].hi > x)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The first byte of [lo, hi) that cannot be read, hi if all can; *v is the interval there, or the next one, or NULL. */
static uint64_t
map_covered(const Map *m, uint64_t lo, uint64_t hi, const Interval **v)
{
	for (size_t i = map_find(m, lo); lo < hi; lo = m->v[i++].hi) {
		*v = i < m->n ? &m->v[i] : NULL;
		if (!*v || (*v)->lo > lo || (*v)->taken_by != NOBODY)
			return lo;
	}
	return hi;
}

bool
flow_read(const Flow *f, uint64_t lo, uint64_t hi, const char *what, Err *e)
{
	const PlanInstr *instr = f->program->instr;
	const Interval *v = NULL;
	uint64_t at = map_covered(&f->act, lo, hi, &v);
	if (at >= hi)
		return true;
	if (!v || v->lo > at)
		return fail(e, "%s reads act bytes %" PRIu64 " .. %" PRIu64 ", which no earlier instruction wrote", what, at,
		            v && v->lo < hi ? v->lo : hi);
	return fail(e, "%s reads act bytes %" PRIu64 " .. %" PRIu64 ", written by instruction %" PRIu32
	               " (%.150s), of which instruction %" PRIu32 " (%.150s) has overwritten a part", what, v->lo, v->hi,
	            v->by, instr[v->by].what, v->taken_by, instr[v->taken_by].what);
}

/* Appends what n runs leave of interval o to the scratch map. Zeros that a write lies inside stay whole: that is
   how a padded buffer is filled. Nothing is known of gaps. The rest of anything else is dead. */
static void
cut_interval(Map *out, Interval o, const Run *run, size_t n, uint32_t by)
{
	size_t first = out->n;
	uint64_t at = o.lo, end = o.hi;
	bool inside = true, touched = n && run[0].lo < end;
	for (size_t k = 0; k < n && run[k].lo < end; k++) {
		inside &= run[k].lo >= o.lo && run[k].hi <= end;
		o.gaps |= run[k].gaps;
		if (run[k].lo > at) {
			o.lo = at, o.hi = run[k].lo;
			VEC_PUSH(out->v, out->n, out->cap) = o;
		}
		at = run[k].hi;
	}
	if (at < end) {
		o.lo = at, o.hi = end;
		VEC_PUSH(out->v, out->n, out->cap) = o;
	}
	for (size_t i = first; i < out->n && touched && !o.gaps && !(o.zero && inside); i++)
		if (out->v[i].taken_by == NOBODY)
			out->v[i].taken_by = by;
}

static int
compare_intervals(const void *a, const void *b)
{
	const Interval *x = a, *y = b;
	return (x->lo > y->lo) - (x->lo < y->lo);
}

/* What one argument of an instruction in a loop was in one iteration and in another becomes one where it meets. */
static void
join_neighbours(Map *m, uint32_t by)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n; i++) {
		Interval *p = n ? &m->v[n - 1] : NULL;
		if (p && p->hi == m->v[i].lo && p->by == by && m->v[i].by == by && p->arg == m->v[i].arg && p->gaps == m->v[i].gaps && p->taken_by == NOBODY && m->v[i].taken_by == NOBODY)
			p->hi = m->v[i].hi;
		else
			m->v[n++] = m->v[i];
	}
	m->n = n;
}

/* Instruction `by` writes n sorted disjoint runs: rebuilds the stretch of the map that they span. */
static void
map_write(Flow *f, const Run *run, size_t n, uint32_t by, bool zero)
{
	Map *m = &f->act, *s = &f->scratch;
	size_t from = map_find(m, run[0].lo), to = from, k = 0;
	s->n = 0;
	for (; to < m->n && m->v[to].lo < run[n - 1].hi; to++) {
		while (k < n && run[k].hi <= m->v[to].lo)
			k++;
		cut_interval(s, m->v[to], run + k, n - k, by);
	}
	for (size_t i = 0; i < n; i++)
		VEC_PUSH(s->v, s->n, s->cap) = (Interval){run[i].lo, run[i].hi, by, run[i].arg, NOBODY, zero, run[i].gaps};
	qsort(s->v, s->n, sizeof *s->v, compare_intervals);

	size_t rest = m->n - to, total = from + s->n + rest;
	if (total > m->cap) {
		m->cap = total * 2;
		m->v = xrealloc(m->v, m->cap * sizeof *m->v);
	}
	if (rest)
		memmove(m->v + from + s->n, m->v + to, rest * sizeof *m->v);
	memcpy(m->v + from, s->v, s->n * sizeof *s->v);
	m->n = total;
}

/* ---- what an instruction reads and writes ---- */

static void
add_run(Runs *r, uint64_t lo, uint64_t bytes, uint32_t arg)
{
	if (bytes)
		VEC_PUSH(r->v, r->n, r->cap) = (Run){lo, lo + bytes, arg, false};
}

/* The contiguous pieces of an operand at byte `off`; a broadcast batch is read once. The least stride comes first: the heads of
   attention lie beside each other in a row, and then the rows. */
static void
add_operand(Flow *f, Runs *r, const Operand *o, uint64_t off, uint32_t arg)
{
	uint64_t len = (uint64_t)o->len, runs = 1, n[3], s[3], extent;
	for (size_t i = 0; i < 3; i++) {
		size_t k = i;
		for (; k > 0 && s[k - 1] > (uint64_t)o->stride[i]; k--) {
			s[k] = s[k - 1];
			n[k] = n[k - 1];
		}
		s[k] = (uint64_t)o->stride[i];
		n[k] = s[k] || o->written ? (uint64_t)o->count[i] : 1;
	}
	for (size_t i = 0; i < 3; i++) {
		if (runs == 1 && s[i] == len) {
			len *= n[i]; /* lines that follow each other are one */
			n[i] = 1;
		}
		if (runs <= f->budget)
			runs *= n[i]; /* no overflow: the budget is below 2^31, and so is n */
	}
	if (runs > f->budget) {
		operand_extent(o, &extent);
		if (o->written) {
			add_run(r, off, extent, arg);
			r->v[r->n - 1].gaps = true;
		} else {
			add_run(r, off, len * o->element, arg);
			add_run(r, off + extent - len * o->element, len * o->element, arg);
		}
		return;
	}
	f->budget -= runs;
	for (uint64_t i = 0; i < n[2]; i++)
		for (uint64_t j = 0; j < n[1]; j++)
			for (uint64_t k = 0; k < n[0]; k++)
				add_run(r, off + (i * s[2] + j * s[1] + k * s[0]) * o->element, len * o->element, arg);
}

static int
compare_runs(const void *a, const void *b)
{
	const Run *x = a, *y = b;
	return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Sorts, and joins pieces of one argument that follow each other: the interleaved heads of a batched gemm
   fill a buffer without a gap. */
static void
sort_runs(Runs *r)
{
	size_t n = 0;
	bool sorted = true;
	for (size_t i = 1; i < r->n; i++)
		sorted &= r->v[i - 1].lo <= r->v[i].lo;
	if (!sorted)
		qsort(r->v, r->n, sizeof *r->v, compare_runs);
	for (size_t i = 0; i < r->n; i++)
		if (n && r->v[n - 1].hi == r->v[i].lo && r->v[n - 1].arg == r->v[i].arg)
			r->v[n - 1].hi = r->v[i].hi;
		else
			r->v[n++] = r->v[i];
	r->n = n;
}

/* The first of the sorted disjoint runs that shares a byte with [lo, hi), or NULL. */
static const Run *
find_overlap(const Runs *r, uint64_t lo, uint64_t hi)
{
	size_t a = 0, b = r->n;
	while (a < b) {
		size_t mid = (a + b) / 2;
		if (r->v[mid].hi > lo)
			b = mid;
		else
			a = mid + 1;
	}
	return a < r->n && r->v[a].lo < hi ? &r->v[a] : NULL;
}

bool
instr_writes(const PlanInstr *in, uint32_t arg)
{
	switch (in->kind) {
	case I_KERNEL: return arg >= in->narg - in->nout;
	case I_GEMM: return arg == 2;
	default: return arg == 0;
	}
}

static bool
collect_writes(Flow *f, const PlanInstr *in, Err *e)
{
	Runs *r = &f->out;
	r->n = 0;
	for (uint32_t i = 0; i < in->narg; i++) {
		const PlanRef *ref = &in->arg[i];
		Operand o;
		if (ref->space != SP_ACT || !instr_writes(in, i))
			continue;
		if (in->kind == I_GEMM && gemm_operand(&f->program->gemm[in->index], i, &o))
			add_operand(f, r, &o, ref->off, i);
		else
			add_run(r, ref->off, ref->bytes, i);
	}
	sort_runs(r);
	for (size_t i = 1; i < r->n; i++)
		if (r->v[i - 1].hi > r->v[i].lo)
			return fail(e, "arguments %" PRIu32 " and %" PRIu32 " are written to overlapping bytes", r->v[i - 1].arg + 1,
			            r->v[i].arg + 1);
	return true;
}

/* After collect_writes. A gemm operand is taken apart only where its extent as a whole is not plainly readable. */
static void
collect_reads(Flow *f, const PlanInstr *in)
{
	const PlanGemm *g = in->kind == I_GEMM ? &f->program->gemm[in->index] : NULL;
	f->in.n = 0;
	for (uint32_t i = 0; i < in->narg; i++) {
		const PlanRef *ref = &in->arg[i];
		const Interval *v;
		Operand o;
		uint64_t bytes = ref->bytes;
		if (ref->space != SP_ACT || (instr_writes(in, i) && !(g && g->beta != 0)))
			continue;
		bool apart = g && gemm_operand(g, i, &o) && operand_extent(&o, &bytes) &&
		             (find_overlap(&f->out, ref->off, ref->off + bytes) ||
		              map_covered(&f->act, ref->off, ref->off + bytes, &v) != ref->off + bytes);
		size_t first = f->in.n;
		if (!apart)
			add_run(&f->in, ref->off, bytes, i);
		else
			add_operand(f, &f->in, &o, ref->off, i);
		if (apart && i == 2) { /* joined as the result is, so that both compare equal */
			Runs c = {f->in.v + first, f->in.n - first, 0};
			sort_runs(&c);
			f->in.n = first + c.n;
		}
	}
}

/* An operand may be a kernel's result only in the very same place. */
static bool
check_reads(Flow *f, const PlanInstr *in, Err *e)
{
	for (size_t i = 0; i < f->in.n; i++) {
		const Run *r = &f->in.v[i], *w = find_overlap(&f->out, r->lo, r->hi);
		char what[40];
		snprintf(what, sizeof what, "argument %" PRIu32, r->arg + 1);
		if (!r->gaps && !flow_read(f, r->lo, r->hi, what, e))
			return false;
		bool in_place = w && w->lo == r->lo && w->hi == r->hi && (in->kind == I_KERNEL || w->arg == r->arg);
		if (w && !in_place)
			return fail(e, "%s is read while argument %" PRIu32 " overwrites a part of it", what, w->arg + 1);
	}
	return true;
}

bool
flow_instr(Flow *f, const PlanInstr *in, uint32_t by, bool again, Err *e)
{
	if (!collect_writes(f, in, e))
		return false;
	collect_reads(f, in);
	if (!check_reads(f, in, e))
		return false;
	const Runs *r = &f->out;
	for (size_t i = 0, k; i < r->n; i = k) { /* one argument at a time: they may lie far apart */
		for (k = i + 1; k < r->n && r->v[k].arg == r->v[i].arg;)
			k++;
		map_write(f, r->v + i, k - i, by, in->kind == I_ZERO);
	}
	if (again)
		join_neighbours(&f->act, by);
	return true;
}
