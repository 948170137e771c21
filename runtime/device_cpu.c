/* The CPU device: kernels are C functions that compute a range of their pieces, matrix products are OpenBLAS tiles; both are spread
   over the threads of a pool. A program is an array of resolved instructions; running it is one loop. */
#define _GNU_SOURCE
#include "cpu_api.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN 256
#define HUGE_PAGE ((size_t)2 << 20)
#define COPY_CHUNK ((size_t)1 << 20) /* bytes a thread copies at a time: less is not worth a thread */

typedef struct Cpu {
	Device base;
	int threads;
	CpuPool *pool;
	CpuBuilder builder;
	CpuBlas blas;
} Cpu;

typedef void (*KernelFn)(void *const *arg, int64_t lo, int64_t hi); /* pieces [lo, hi) of all */

typedef struct CpuOp {
	uint32_t kind; /* InstrKind */
	KernelFn fn;
	int64_t pieces; /* of a kernel */
	void **arg;
	size_t bytes; /* of a copy or zero */
	CpuGemm gemm;
	uint32_t narg;
	const int64_t *step; /* in a loop: bytes that each argument moves on, or NULL */
	void **base;         /* with a step: the arguments of the first iteration */
	uint32_t inside;     /* loop: ops after it that it runs */
	int64_t times;
} CpuOp;

struct Exec {
	Arena arena;
	uint32_t nop;
	CpuOp *op;
	int64_t runs; /* instructions that one run of the program runs */
};

/* ---- memory ---- */

/* One number of a file: after `key`, or the first. False if there is none ("max" in a cgroup). */
static bool
read_number(const char *path, const char *key, double *out)
{
	char line[256];
	FILE *f = fopen(path, "r");
	bool ok = false;
	while (f && !ok && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			ok = sscanf(line + strlen(key), "%lf", out) == 1;
	if (f)
		fclose(f);
	return ok;
}

/* What the machine could give, and no more than the container may have. */
static bool
cpu_memory(Device *d, size_t *free_bytes, size_t *total_bytes, Err *e)
{
	double avail, total, limit, used;
	(void)d;
	if (!read_number("/proc/meminfo", "MemAvailable:", &avail) || !read_number("/proc/meminfo", "MemTotal:", &total))
		return fail(e, "/proc/meminfo: cannot read MemAvailable and MemTotal");
	avail *= 1024;
	total *= 1024;
	if (read_number("/sys/fs/cgroup/memory.max", "", &limit) && read_number("/sys/fs/cgroup/memory.current", "", &used)) {
		total = limit < total ? limit : total;
		avail = limit - used < avail ? limit - used : avail;
	}
	*free_bytes = avail > 0 ? (size_t)avail : 0;
	*total_bytes = (size_t)total;
	return true;
}

/* calloc gives lazily zeroed pages and keeps sanitizers aware of the end; the block's start lies before the aligned pointer. */
static void *
cpu_alloc(Device *d, size_t bytes, const char *what, Err *e)
{
	size_t avail = 0, total = 0;
	if (!cpu_memory(d, &avail, &total, e))
		return NULL;
	char *raw = bytes > avail ? NULL : calloc(1, bytes + ALIGN + sizeof raw);
	if (!raw) {
		fail(e, "%s needs %.1f MiB, %.1f MiB free of %.1f MiB in main memory: lower the batch size or close other programs", what,
		     (double)bytes / 0x1p20, (double)avail / 0x1p20, (double)total / 0x1p20);
		return NULL;
	}
	char *p = raw + sizeof raw + (ALIGN - 1);
	p -= (uintptr_t)p % ALIGN;
	memcpy(p - sizeof raw, &raw, sizeof raw);
	d->given += bytes;
	char *huge = p + (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	if (p + bytes > huge + HUGE_PAGE)
		madvise(huge, (size_t)(p + bytes - huge) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a hint */
	return p;
}

static void
cpu_release(Device *d, void *p)
{
	char *raw;
	(void)d;
	if (!p)
		return;
	memcpy(&raw, (char *)p - sizeof raw, sizeof raw);
	free(raw);
}

typedef struct Move {
	char *dst;
	const char *src; /* NULL: zeros */
	size_t n;
} Move;

static void
move_chunks(void *ctx, int64_t lo, int64_t hi)
{
	const Move *m = ctx;
	size_t from = (size_t)lo * COPY_CHUNK, to = (size_t)hi * COPY_CHUNK;
	size_t n = (to < m->n ? to : m->n) - from;
	if (m->src)
		memmove(m->dst + from, m->src + from, n); /* copies that overlap are of one chunk: plan_verify.c */
	else
		memset(m->dst + from, 0, n);
}

static void
move_bytes(const Cpu *c, void *dst, const void *src, size_t n)
{
	if (n)
		cpu_pool_run(c->pool, move_chunks, &(Move){dst, src, n}, (int64_t)((n + COPY_CHUNK - 1) / COPY_CHUNK));
}

static bool
cpu_transfer(Device *d, void *dst, const void *src, size_t n, Err *e)
{
	(void)e;
	move_bytes((Cpu *)d, dst, src, n);
	return true;
}

/* ---- programs ---- */

static bool
find_kernel(const PlanKernel *k, void *const *handle, CpuOp *op, const char *where, Err *e)
{
	void *p = dlsym(handle[k->module], k->name);
	if (!p)
		return fail(e, "%s: kernel %s is not in the source of its module", where, k->name);
	memcpy(&op->fn, &p, sizeof p);
	op->pieces = k->grid;
	return true;
}

static bool
prepare_op(Cpu *c, Exec *x, const PlanTargetset *s, const PlanProgram *p, const PlanInstr *in, const Binding *b, void *const *handle, CpuOp *op, Err *e)
{
	const char *where = instr_where(&x->arena, s, p, in);
	op->kind = in->kind;
	op->arg = instr_bind(&x->arena, p, in, b, where, e);
	if (!op->arg)
		return false;
	op->narg = in->narg;
	op->inside = in->kind == I_LOOP ? in->index : 0;
	op->times = in->times;
	if (in->nstep) {
		op->step = in->step;
		op->base = arena_alloc(&x->arena, in->narg * sizeof *op->base);
		memcpy(op->base, op->arg, in->narg * sizeof *op->base);
	}
	if (in->kind == I_LOOP)
		return true;
	op->bytes = in->arg[0].bytes;
	if (in->kind == I_KERNEL)
		return find_kernel(&p->kernel[in->index], handle, op, where, e);
	if (in->kind == I_GEMM)
		return cpu_blas_open(&c->blas, e) && cpu_gemm_prepare(&op->gemm, &p->gemm[in->index], op->arg, where, e);
	return true;
}

static void
cpu_drop(Device *d, Exec *x)
{
	(void)d;
	if (!x)
		return;
	arena_free(&x->arena);
	free(x);
}

static Exec *
cpu_prepare(Device *d, const PlanTargetset *s, const PlanProgram *p, const Binding *b, Err *e)
{
	Cpu *c = (Cpu *)d;
	Exec *x = xcalloc(1, sizeof *x);
	bool *used = modules_used(&x->arena, s, p, e);
	void **handle = arena_alloc(&x->arena, s->nmodule * sizeof *handle);
	bool ok = used && loops_fit(p, e) && cpu_build(&c->builder, s, p, used, handle, e);
	x->op = arena_alloc(&x->arena, p->ninstr * sizeof *x->op);
	for (x->nop = 0; ok && x->nop < p->ninstr; x->nop++)
		ok = prepare_op(c, x, s, p, &p->instr[x->nop], b, handle, &x->op[x->nop], e);
	x->runs = ok ? program_runs(p) : 0;
	if (!ok) {
		cpu_drop(d, x);
		return NULL;
	}
	return x;
}

static void
run_pieces(void *ctx, int64_t lo, int64_t hi)
{
	const CpuOp *op = ctx;
	op->fn(op->arg, lo, hi);
}

static inline void
run_op(const Cpu *c, const CpuOp *op)
{
	switch (op->kind) {
	case I_KERNEL: cpu_pool_run(c->pool, run_pieces, (void *)op, op->pieces); break;
	case I_GEMM: cpu_gemm_run(&c->blas, &op->gemm, c->pool); break;
	case I_COPY: move_bytes(c, op->arg[0], op->arg[1], op->bytes); break;
	case I_ZERO: move_bytes(c, op->arg[0], NULL, op->bytes); break;
	}
}

/* The arguments of iteration i. */
static void
move_args(CpuOp *op, int64_t i)
{
	if (!op->step)
		return;
	for (uint32_t k = 0; k < op->narg; k++)
		op->arg[k] = (char *)op->base[k] + i * op->step[k];
	if (op->kind == I_GEMM) {
		op->gemm.A = op->arg[0];
		op->gemm.B = op->arg[1];
		op->gemm.C = op->arg[2];
		op->gemm.bias = op->arg[3];
	}
}

static void
run_loop(const Cpu *c, const CpuOp *loop, CpuOp *body)
{
	for (int64_t i = 0; i < loop->times; i++)
		for (uint32_t k = 0; k < loop->inside; k++) {
			move_args(&body[k], i);
			run_op(c, &body[k]);
		}
}

static bool
cpu_run(Device *d, Exec *x, int64_t times, Err *e)
{
	Cpu *c = (Cpu *)d;
	(void)e;
	for (int64_t t = 0; t < times; t++)
		for (uint32_t i = 0; i < x->nop; i += 1 + x->op[i].inside) {
			if (x->op[i].kind == I_LOOP)
				run_loop(c, &x->op[i], &x->op[i + 1]);
			else
				run_op(c, &x->op[i]);
		}
	d->launches += times * x->runs;
	return true;
}

static bool
cpu_sync(Device *d, Err *e)
{
	(void)d;
	(void)e;
	return true;
}

static bool
cpu_step(Device *d, Exec *x, uint32_t i, Err *e)
{
	(void)e;
	run_op((Cpu *)d, &x->op[i]);
	return true;
}

static bool
cpu_profile(Device *d, Exec *x, int times, InstrTime *t, Err *e)
{
	Cpu *c = (Cpu *)d;
	(void)e;
	if (times < 1)
		times = 1;
	double *sec = xcalloc((size_t)times, sizeof *sec);
	int64_t often = 1;
	for (uint32_t i = 0, end = 0; i < x->nop; i++) {
		if (x->op[i].kind == I_LOOP) {
			often = x->op[i].times;
			end = i + x->op[i].inside;
			t[i].seconds = 0;
			continue;
		}
		often = i > end ? 1 : often;
		move_args(&x->op[i], 0);
		run_op(c, &x->op[i]); /* caches, page faults, threads */
		for (int r = 0; r < times; r++) {
			double start = now_seconds();
			run_op(c, &x->op[i]);
			sec[r] = now_seconds() - start;
		}
		t[i].seconds = median(sec, times) * (double)often; /* of a loop: its first iteration */
	}
	free(sec);
	return true;
}

static void
cpu_close(Device *d)
{
	Cpu *c = (Cpu *)d;
	if (!c)
		return;
	cpu_pool_close(c->pool);
	cpu_build_close(&c->builder);
	free(c); /* OpenBLAS stays loaded: its threads and buffers are the process's */
}

static void
describe(Cpu *c)
{
	char line[256] = "", *colon = NULL;
	size_t avail = 0, total = 0;
	Err ignored = {0};
	FILE *f = fopen("/proc/cpuinfo", "r");
	while (f && !colon && fgets(line, sizeof line, f))
		if (!strncmp(line, "model name", 10))
			colon = strchr(line, ':');
	if (f)
		fclose(f);
	if (colon)
		colon[strcspn(colon, "\n")] = 0;
	cpu_memory(&c->base, &avail, &total, &ignored);
	snprintf(c->base.info, sizeof c->base.info, "%.180s, %d threads, %.1f GiB", colon && colon[1] ? colon + 2 : "CPU", c->threads,
	         (double)total / 0x1p30);
}

Device *
device_cpu_open(int threads, Err *e)
{
	if (threads < 0 || threads > MAX_POOL) {
		fail(e, "%d threads: give 1 to %d, or 0 for one a core", threads, MAX_POOL);
		return NULL;
	}
	Cpu *c = xcalloc(1, sizeof *c);
	c->threads = threads ? threads : cpu_pool_threads();
	if (!(c->pool = cpu_pool_open(c->threads, e))) {
		free(c);
		return NULL;
	}
	c->base = (Device){.name = "cpu", .alloc = cpu_alloc, .release = cpu_release, .upload = cpu_transfer, .download = cpu_transfer,
	                   .memory = cpu_memory, .prepare = cpu_prepare, .run = cpu_run, .sync = cpu_sync, .step = cpu_step, .profile = cpu_profile,
	                   .drop = cpu_drop, .close = cpu_close};
	describe(c);
	return &c->base;
}
