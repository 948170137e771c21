/* What the two devices share: see device_common.h. */
#include "device_common.h"

#include <stdlib.h>
#include <string.h>

/* Element (i, j) of a rows x cols matrix is at i*rs + j*cs and one stride is 1. A dimension of size 1 never
   uses its stride, so its stride may be anything: the leading dimension is raised to what a BLAS insists on. */
static GemmOperand
operand(int64_t rows, int64_t cols, int64_t rs, int64_t cs)
{
	if (cs == 1 && (rs >= cols || rows == 1))
		return (GemmOperand){false, rs > cols ? rs : cols};
	if (rs == 1 && (cs >= rows || cols == 1))
		return (GemmOperand){true, cs > rows ? cs : rows};
	if (rows == 1) /* one row with a stride: a column-major matrix of height 1 */
		return (GemmOperand){true, cs};
	if (cols == 1)
		return (GemmOperand){false, rs};
	return (GemmOperand){false, 0};
}

GemmOperand gemm_a(const PlanGemm *g) { return operand(g->m, g->k, g->ars, g->acs); }
GemmOperand gemm_b(const PlanGemm *g) { return operand(g->k, g->n, g->brs, g->bcs); }

bool
gemm_check(const PlanGemm *g, const char *where, Err *e)
{
	const int64_t dim[] = {g->m, g->n, g->k, g->batch0, g->batch1, gemm_a(g).ld, gemm_b(g).ld, g->crs};
	for (size_t i = 0; i < LEN(dim); i++)
		if (dim[i] < 1 && !(i == 7 && g->m == 1))
			return fail(e, "%s: a size or stride of the GEMM %lldx%lldx%lld is out of range, or neither stride of an operand is 1",
			            where, (long long)g->m, (long long)g->n, (long long)g->k);
	for (size_t i = 0; i < LEN(dim); i++)
		if (dim[i] > INT32_MAX)
			return fail(e, "%s: GEMM size or stride %lld is over the 2^31 - 1 that BLAS can count", where, (long long)dim[i]);
	if (g->m > 1 && g->crs < g->n)
		return fail(e, "%s: rows of the GEMM's result overlap (stride %lld, %lld columns)", where, (long long)g->crs, (long long)g->n);
	if ((g->batch0 > 1 && !g->c0) || (g->batch1 > 1 && !g->c1))
		return fail(e, "%s: the results of the GEMM's batches overlap (stride 0)", where);
	return true;
}

const char *
instr_where(Arena *a, const PlanTargetset *s, const PlanProgram *p, const PlanInstr *in)
{
	static const char *const kinds[] = {"kernel", "gemm", "copy", "zero", "loop"};
	const char *name = "";
	if (in->kind == I_KERNEL && in->index < p->nkernel)
		name = p->kernel[in->index].name;
	return arena_printf(a, "%s: %s %s %s%s%s%s", in->loc && *in->loc ? in->loc : p->name, s->target,
	                    in->kind < LEN(kinds) ? kinds[in->kind] : "unknown instruction", name, *name ? " (" : "(", in->what ? in->what : "", ")");
}

static bool
args_fit(const PlanProgram *p, const PlanInstr *in, const char *where, Err *e)
{
	bool bias = in->kind == I_GEMM && in->index < p->ngemm && (p->gemm[in->index].epilogue & EPI_BIAS);
	const struct { uint32_t nindex, lo, hi; } want[] = {
		[I_KERNEL] = {p->nkernel, 1, UINT32_MAX},
		[I_GEMM] = {p->ngemm, bias ? 4 : 3, bias ? 4 : 3},
		[I_COPY] = {UINT32_MAX, 2, 2},
		[I_ZERO] = {UINT32_MAX, 1, 1},
		[I_LOOP] = {UINT32_MAX, 0, 0},
	};
	if (in->kind >= LEN(want) || in->index >= want[in->kind].nindex)
		return fail(e, "%s: instruction kind %u index %u is not in the program", where, in->kind, in->index);
	if (in->narg < want[in->kind].lo || in->narg > want[in->kind].hi)
		return fail(e, "%s: %u arguments do not fit the instruction", where, in->narg);
	if (in->nstep && in->nstep != in->narg)
		return fail(e, "%s: %u steps for %u arguments", where, in->nstep, in->narg);
	if (in->kind == I_COPY && in->arg[0].bytes != in->arg[1].bytes)
		return fail(e, "%s: copies %llu bytes to %llu", where, (unsigned long long)in->arg[1].bytes, (unsigned long long)in->arg[0].bytes);
	return true;
}

void **
instr_bind(Arena *a, const PlanProgram *p, const PlanInstr *in, const Binding *b, const char *where, Err *e)
{
	if (!args_fit(p, in, where, e))
		return NULL;
	void **ptr = arena_alloc(a, (in->narg > 4 ? in->narg : 4) * sizeof *ptr); /* a GEMM has up to 4; absent ones stay NULL */
	for (uint32_t i = 0; i < in->narg; i++) {
		const PlanRef *r = &in->arg[i];
		if (r->space == SP_DATA) {
			if (r->off >= b->ncolumn || !b->column[r->off]) {
				fail(e, "%s: argument %u reads data column %llu of %u", where, i, (unsigned long long)r->off, b->ncolumn);
				return NULL;
			}
			ptr[i] = b->column[r->off];
		} else if (r->space < NSPACE && b->base[r->space]) {
			ptr[i] = (char *)b->base[r->space] + r->off;
		} else {
			fail(e, "%s: argument %u is in memory space %u, which is not allocated", where, i, r->space);
			return NULL;
		}
	}
	return ptr;
}

bool
loops_fit(const PlanProgram *p, Err *e)
{
	for (uint32_t i = 0; i < p->ninstr; i++) {
		const PlanInstr *in = &p->instr[i];
		if (in->kind != I_LOOP)
			continue;
		if (in->index < 1 || in->index >= p->ninstr - i || in->times < 1 || in->times > INT32_MAX / in->index)
			return fail(e, "%s: a loop of %lld times %u instructions does not fit the program", p->name, (long long)in->times, in->index);
		for (uint32_t k = 1; k <= in->index; k++)
			if (in[k].kind == I_LOOP)
				return fail(e, "%s: a loop inside a loop", p->name);
		i += in->index;
	}
	return true;
}

int64_t
program_runs(const PlanProgram *p)
{
	int64_t n = 0;
	for (uint32_t i = 0; i < p->ninstr; i++) {
		bool loop = p->instr[i].kind == I_LOOP;
		n += loop ? p->instr[i].times * p->instr[i].index : 1;
		i += loop ? p->instr[i].index : 0;
	}
	return n;
}

/* Instruction in as it is in iteration i of its loop. */
static PlanInstr
iteration(Arena *a, const PlanInstr *in, int64_t i)
{
	PlanInstr now = *in;
	if (!in->nstep)
		return now;
	now.arg = arena_alloc(a, in->narg * sizeof *now.arg);
	for (uint32_t k = 0; k < in->narg; k++) {
		now.arg[k] = in->arg[k];
		now.arg[k].off += (uint64_t)i * (uint64_t)in->step[k];
	}
	return now;
}

Unrolled
program_unroll(Arena *a, const PlanProgram *p)
{
	Unrolled u = {.program = *p};
	uint32_t n = 0;
	size_t runs = (size_t)program_runs(p);
	u.program.instr = arena_alloc(a, runs * sizeof *u.program.instr);
	u.from = arena_alloc(a, runs * sizeof *u.from);
	for (uint32_t i = 0; i < p->ninstr; i++) {
		const PlanInstr *in = &p->instr[i];
		bool loop = in->kind == I_LOOP;
		for (int64_t t = 0; t < (loop ? in->times : 1); t++)
			for (uint32_t k = loop; k <= (loop ? in->index : 0); k++) {
				u.from[n] = (Origin){i + k, t ? n - (uint32_t)t * in->index : n};
				u.program.instr[n++] = loop ? iteration(a, in + k, t) : *in;
			}
		i += loop ? in->index : 0;
	}
	u.program.ninstr = n;
	return u;
}

bool *
modules_used(Arena *a, const PlanTargetset *s, const PlanProgram *p, Err *e)
{
	bool *used = arena_alloc(a, s->nmodule * sizeof *used);
	for (uint32_t i = 0; i < p->nkernel; i++) {
		if (p->kernel[i].module >= s->nmodule) {
			fail(e, "%s: kernel %s is in module %u of %u", p->name, p->kernel[i].name, p->kernel[i].module, s->nmodule);
			return NULL;
		}
		used[p->kernel[i].module] = true;
	}
	return used;
}

const char *
module_where(Arena *a, const PlanTargetset *s, const PlanProgram *p, uint32_t module)
{
	Text t = {0};
	int n = 0;
	for (uint32_t i = 0; i < p->nkernel && n < 4; i++)
		if (p->kernel[i].module == module) {
			text_printf(&t, "%s%s", n ? ", " : "", n == 3 ? "..." : p->kernel[i].name);
			n++;
		}
	const char *r = arena_printf(a, "%s module %u (kernels %s)", s->target, module, t.s ? t.s : "none");
	free(t.s);
	return r;
}

void
key_add(CacheKey *k, const void *p, size_t n)
{
	for (int i = 0; i < 2; i++)
		k->h[i] = hash_bytes(hash_u64(k->h[i], n), p, n);
}

void key_adds(CacheKey *k, const char *s) { key_add(k, s, strlen(s)); }

void
key_start(CacheKey *k, const char *kind)
{
	k->h[0] = HASH_INIT;
	k->h[1] = hash_u64(HASH_INIT, 0x9e3779b97f4a7c15ull);
	key_adds(k, kind);
}

const char *
key_hex(CacheKey *k)
{
	snprintf(k->hex, sizeof k->hex, "%016llx%016llx", (unsigned long long)k->h[0], (unsigned long long)k->h[1]);
	return k->hex;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double
median(double *x, int n)
{
	if (n <= 0)
		return 0;
	qsort(x, (size_t)n, sizeof *x, by_value);
	return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}
