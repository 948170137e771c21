/* The CUDA device: a program becomes one CUDA graph when it is prepared; running it is launching that graph. The graph's
   edges are the program's dependencies (depend.c), not its order: what does not depend on each other runs side by side.

   Small programs have a second graph that holds several repetitions, so that the launch from the host (some microseconds)
   is paid once for up to MANY steps. All work is on one stream; nothing here waits for it but sync, download and full staging. */
#include "cuda_api.h"
#include "depend.h"

#if HAVE_CUDA

#include <stdlib.h>
#include <string.h>

#define STAGING ((size_t)1 << 20)  /* pinned bytes for small transfers */
#define SMALL ((size_t)64 << 10)   /* a transfer up to here is staged */
#define MANY 16                    /* repetitions in the second graph, at most */
#define MANY_NODES 2048            /* instructions in the second graph, at most */
#define WORK_PARTS 4               /* of the workspace */
#define PROFILE_COPIES 20
#define SMEM_DEFAULT (48u << 10)   /* above it a kernel must ask */
#define FEW_BLOCKS 264             /* two a multiprocessor of the largest GPUs, about */

typedef struct CudaOp {
	uint32_t kind; /* InstrKind */
	CUfunction fn;
	uint32_t grid, block, smem;
	void **param; /* addresses of the pointers */
	CUdeviceptr dst, src;
	size_t bytes;
	CudaGemm gemm;
	bool borrowed; /* the product is prepared by another op */
	bool waits;    /* a kernel that waits by itself for what it depends on */
	uint32_t readers; /* ops that depend on it */
	const char *where;
	CUgraphNode last; /* while capturing: of its latest issue */
} CudaOp;

struct Exec {
	Arena arena;
	uint32_t nop;    /* loops written out */
	CudaOp *op;
	Origin *from;    /* of each op: the program's instruction */
	uint32_t ninstr; /* of the program */
	Depend *depend; /* two repetitions */
	CUgraphExec one, many; /* NULL for a program without instructions; many also where one repetition is large */
	int64_t repeats;       /* in many */
};

/* ---- memory ---- */

static bool
enter(Cuda *c, Err *e)
{
	return CU(c, "", e, cuCtxSetCurrent(c->ctx)); /* belongs to the calling thread */
}

static bool
drain(Cuda *c, Err *e)
{
	CUresult r = c->cu.cuStreamSynchronize(c->stream);
	c->staged = 0;
	return cuda_ok(&c->cu, r, "cuStreamSynchronize", r == CUDA_SUCCESS ? "" : "a kernel launched earlier failed (compute-sanitizer names it)", e);
}

static bool
cuda_memory(Device *d, size_t *free_bytes, size_t *total_bytes, Err *e)
{
	Cuda *c = (Cuda *)d;
	return enter(c, e) && CU(c, "", e, cuMemGetInfo(free_bytes, total_bytes));
}

static void *
cuda_alloc(Device *d, size_t bytes, const char *what, Err *e)
{
	Cuda *c = (Cuda *)d;
	CUdeviceptr p = 0;
	size_t avail = 0, total = 0, n = bytes ? bytes : 1;
	if (!cuda_memory(d, &avail, &total, e))
		return NULL;
	if (n > avail) {
		fail(e, "%s needs %.1f MiB, %.1f MiB free of %.1f MiB on GPU %s: lower the batch size, or end other programs on this GPU", what,
		     (double)n / 0x1p20, (double)avail / 0x1p20, (double)total / 0x1p20, c->gpu);
		return NULL;
	}
	if (!CU(c, what, e, cuMemAlloc(&p, n)))
		return NULL;
	if (!CU(c, what, e, cuMemsetD8Async(p, 0, n, c->stream)) || !drain(c, e)) {
		c->cu.cuMemFree(p);
		return NULL;
	}
	d->given += bytes;
	return (void *)p;
}

static void
cuda_release(Device *d, void *p)
{
	Cuda *c = (Cuda *)d;
	Err ignored = {0};
	if (p && enter(c, &ignored))
		c->cu.cuMemFree((CUdeviceptr)p);
}

/* n bytes of the staging buffer that no transfer under way uses. */
static char *
stage(Cuda *c, size_t n, Err *e)
{
	if (c->staged + n > STAGING && !drain(c, e))
		return NULL;
	char *p = c->staging + c->staged;
	c->staged += (n + 15) & ~(size_t)15;
	return p;
}

/* A small upload is copied to pinned memory and does not wait for the device. */
static bool
cuda_upload(Device *d, void *dst, const void *src, size_t n, Err *e)
{
	Cuda *c = (Cuda *)d;
	if (!n)
		return true;
	if (!enter(c, e))
		return false;
	if (n > SMALL)
		return CU(c, "upload", e, cuMemcpyHtoDAsync((CUdeviceptr)dst, src, n, c->stream)) && drain(c, e);
	char *p = stage(c, n, e);
	if (!p)
		return false;
	memcpy(p, src, n);
	return CU(c, "upload", e, cuMemcpyHtoDAsync((CUdeviceptr)dst, p, n, c->stream));
}

static bool
cuda_download(Device *d, void *dst, const void *src, size_t n, Err *e)
{
	Cuda *c = (Cuda *)d;
	if (!enter(c, e))
		return false;
	if (n > SMALL)
		return CU(c, "download", e, cuMemcpyDtoHAsync(dst, (CUdeviceptr)src, n, c->stream)) && drain(c, e);
	char *p = stage(c, n, e);
	if (!p || (n && !CU(c, "download", e, cuMemcpyDtoHAsync(p, (CUdeviceptr)src, n, c->stream))) || !drain(c, e))
		return false;
	if (n)
		memcpy(dst, p, n);
	return true;
}

/* ---- graphs ---- */

static bool
emit_op(Cuda *c, const void *work, Err *e)
{
	const CudaOp *o = work;
	switch (o->kind) {
	case I_KERNEL:
		return CU(c, o->where, e, cuLaunchKernel(o->fn, o->grid, 1, 1, o->block, 1, 1, o->smem, c->stream, o->param, NULL));
	case I_GEMM:
		return cuda_gemm_launch(c, &o->gemm, e);
	case I_COPY:
		return CU(c, o->where, e, cuMemcpyDtoDAsync(o->dst, o->src, o->bytes, c->stream));
	case I_ZERO:
		return CU(c, o->where, e, cuMemsetD8Async(o->dst, 0, o->bytes, c->stream));
	}
	return fail(e, "%s: unknown instruction", o->where);
}

/* Starts recording what the stream is given. */
static bool
begin_capture(Cuda *c, Err *e)
{
	return CU(c, "", e, cuStreamBeginCapture(c->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
}

/* Ends it, also on failure: the stream must stay usable. ok: what was recorded is wanted. */
static bool
end_capture(Cuda *c, bool ok, CUgraphExec *out, Err *e)
{
	CUgraph graph = NULL;
	CUresult r = c->cu.cuStreamEndCapture(c->stream, &graph);
	ok = ok && cuda_ok(&c->cu, r, "cuStreamEndCapture", "", e);
	*out = NULL;
	ok = ok && CU(c, "", e, cuGraphInstantiateWithFlags(out, graph, 0)) && CU(c, "", e, cuGraphUpload(*out, c->stream));
	if (graph)
		c->cu.cuGraphDestroy(graph);
	if (!ok && *out) {
		c->cu.cuGraphExecDestroy(*out);
		*out = NULL;
	}
	return ok;
}

bool
cuda_capture(Cuda *c, CudaEmit emit, const void *work, int copies, CUgraphExec *out, Err *e)
{
	bool ok = begin_capture(c, e);
	if (!ok)
		return false;
	for (int i = 0; ok && i < copies; i++)
		ok = emit(c, work, e);
	return end_capture(c, ok, out, e);
}

/* The edges to instruction i of a repetition. */
typedef struct Edges {
	CUgraphNode *node;
	CUgraphEdgeData *data;
	size_t n;
} Edges;

/* What is issued next waits for these nodes and for nothing else. */
static bool
wait_for(Cuda *c, const Edges *b, const char *where, Err *e)
{
	return CU(c, where, e, cuStreamUpdateCaptureDependencies(c->stream, b->node, EDGE_DATA(b->data) b->n, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
}

/* The node that was issued last, which all of its instruction leads to. */
static bool
last_node(Cuda *c, CUgraphNode *out, const char *where, Err *e)
{
	CUstreamCaptureStatus status;
	const CUgraphNode *node;
	size_t n = 0;
	if (!CU(c, where, e, CAPTURE_INFO(c->stream, &status, NULL, NULL, &node, EDGE_DATA(NULL) &n)))
		return false;
	*out = n ? node[n - 1] : NULL;
	return n == 1 || fail(e, "%s: the instruction left %zu open ends in the graph", where, n);
}

static bool
nothing_to_do(const CudaOp *o)
{
	return (o->kind == I_COPY || o->kind == I_ZERO) && !o->bytes;
}

static void
count_readers(Exec *x)
{
	for (uint32_t i = 0; i < x->nop; i++) {
		const Depend *d = &x->depend[x->nop + i];
		for (uint32_t k = 0; k < d->n; k++)
			x->op[d->on[k] % x->nop].readers++;
	}
}

/* A kernel that waits by itself may be launched as soon as all blocks of those before it have begun, so that its launch costs no time.
   Blocks that wait keep others out: it has few, or is the next of a chain, beside which nothing need run. */
static bool
launched_early(const Cuda *c, const Exec *x, uint32_t i)
{
	const Depend *d = &x->depend[x->nop + i];
	bool ok = c->major >= 9 && x->op[i].waits;
	for (uint32_t k = 0; ok && k < d->n; k++) {
		const CudaOp *o = &x->op[d->on[k] % x->nop];
		ok = o->kind == I_KERNEL && (x->op[i].grid <= FEW_BLOCKS || (d->n == 1 && o->readers == 1));
	}
	return ok;
}

static void
find_edges(const Cuda *c, const Exec *x, uint32_t i, bool first, Edges *out)
{
	const Depend *d = &x->depend[x->nop + i];
	CUgraphEdgeData edge = launched_early(c, x, i) ? EARLY_EDGE : (CUgraphEdgeData){0};
	out->n = 0;
	for (uint32_t k = 0; k < d->n; k++) {
		if (first && d->on[k] < x->nop)
			continue;
		out->node[out->n] = x->op[d->on[k] % x->nop].last;
		out->data[out->n++] = edge;
	}
}

static bool
capture_copy(Cuda *c, Exec *x, bool first, Edges *before, Err *e)
{
	for (uint32_t i = 0; i < x->nop; i++) {
		CudaOp *o = &x->op[i];
		if (nothing_to_do(o)) /* nothing waits for it either */
			continue;
		find_edges(c, x, i, first, before);
		if (!wait_for(c, before, o->where, e) || !emit_op(c, o, e) || !last_node(c, &o->last, o->where, e))
			return false;
	}
	return true;
}

static bool
capture_repeats(Cuda *c, Exec *x, int64_t copies, CUgraphExec *out, Err *e)
{
	Edges before = {xcalloc(2 * x->nop, sizeof *before.node), xcalloc(2 * x->nop, sizeof *before.data), 0};
	bool ok = begin_capture(c, e), begun = ok;
	for (int64_t i = 0; ok && i < copies; i++)
		ok = capture_copy(c, x, i == 0, &before, e);
	free(before.node);
	free(before.data);
	return begun && end_capture(c, ok, out, e);
}

bool
cuda_time(Cuda *c, CudaEmit emit, const void *work, int copies, int times, double *seconds, Err *e)
{
	CUgraphExec g;
	if (!cuda_capture(c, emit, work, copies, &g, e))
		return false;
	double *sec = xcalloc((size_t)times, sizeof *sec);
	bool ok = CU(c, "", e, cuGraphLaunch(g, c->stream));
	for (int i = 0; ok && i < times; i++) {
		float ms = 0;
		ok = CU(c, "", e, cuEventRecord(c->event[0], c->stream)) && CU(c, "", e, cuGraphLaunch(g, c->stream)) &&
		     CU(c, "", e, cuEventRecord(c->event[1], c->stream)) && CU(c, "", e, cuEventSynchronize(c->event[1])) &&
		     CU(c, "", e, cuEventElapsedTime(&ms, c->event[0], c->event[1]));
		sec[i] = ms * 1e-3 / copies;
	}
	*seconds = median(sec, times);
	free(sec);
	return CU(c, "", e, cuGraphExecDestroy(g)) && ok;
}

/* ---- programs ---- */

/* The plan must not bring more arguments than the kernel has parameters, and they are pointers. Too few cannot be seen from here
   (asking for a parameter past the end is an error that compute-sanitizer counts). */
static bool
check_params(Cuda *c, const CudaOp *o, uint32_t narg, const char *name, Err *e)
{
#if CUDA_VERSION >= 12040
	for (uint32_t i = 0; i < narg; i++) {
		size_t off, size = 0;
		if (c->cu.cuFuncGetParamInfo(o->fn, i, &off, &size) != CUDA_SUCCESS)
			return fail(e, "%s: kernel %s takes %u arguments, the plan passes %u", o->where, name, i, narg);
		if (size != sizeof(void *))
			return fail(e, "%s: parameter %u of kernel %s is no pointer (%zu bytes)", o->where, i, name, size);
	}
#else
	(void)c, (void)o, (void)narg, (void)name, (void)e;
#endif
	return true;
}

static bool
check_limits(Cuda *c, const CudaOp *o, const char *name, Err *e)
{
	int threads = 0, fixed = 0;
	if (!CU(c, o->where, e, cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, o->fn)) || /* also loads the code now */
	    !CU(c, o->where, e, cuFuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, o->fn)))
		return false;
	if (!o->grid || !o->block || o->block > (uint32_t)threads)
		return fail(e, "%s: kernel %s wants %u blocks of %u threads; its registers allow 1 to %d threads", o->where, name, o->grid, o->block, threads);
	if ((uint64_t)o->smem + (uint64_t)fixed > (uint64_t)c->smem_max)
		return fail(e, "%s: kernel %s wants %u bytes of shared memory, %s has %d for a block", o->where, name, o->smem + (uint32_t)fixed, c->gpu,
		            c->smem_max);
	return o->smem + (uint32_t)fixed <= SMEM_DEFAULT ||
	       CU(c, o->where, e, cuFuncSetAttribute(o->fn, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)o->smem));
}

static bool
prepare_kernel(Cuda *c, Exec *x, const PlanKernel *k, uint32_t narg, void **arg, const CUmodule *module, CudaOp *o, Err *e)
{
	CUresult r = c->cu.cuModuleGetFunction(&o->fn, module[k->module], k->name);
	if (r == CUDA_ERROR_NOT_FOUND)
		return fail(e, "%s: kernel %s is not in its module (kernels are extern \"C\")", o->where, k->name);
	o->grid = k->grid;
	o->block = k->block;
	o->smem = k->smem;
	o->waits = k->waits;
	o->param = arena_alloc(&x->arena, narg * sizeof *o->param);
	for (uint32_t i = 0; i < narg; i++)
		o->param[i] = &arg[i];
	return cuda_ok(&c->cu, r, "cuModuleGetFunction", o->where, e) && check_params(c, o, narg, k->name, e) && check_limits(c, o, k->name, e);
}

static bool
prepare_op(Cuda *c, Exec *x, const PlanTargetset *s, const PlanProgram *p, const PlanInstr *in, const Binding *b, const CUmodule *module,
           CudaOp *o, Err *e)
{
	o->kind = in->kind;
	o->where = instr_where(&x->arena, s, p, in);
	void **arg = instr_bind(&x->arena, p, in, b, o->where, e);
	if (!arg)
		return false;
	if (in->kind == I_KERNEL)
		return prepare_kernel(c, x, &p->kernel[in->index], in->narg, arg, module, o, e);
	if (in->kind == I_GEMM) {
		/* activations and workspace hold nothing yet, so trying algorithms may overwrite them */
		bool may_write = in->arg[2].space == SP_ACT || in->arg[2].space == SP_WORK;
		return cuda_gemm_prepare(c, &o->gemm, &p->gemm[in->index], arg, in->nstep ? in->step : NULL, b->base[SP_WORK], p->work_bytes, may_write, o->where, e);
	}
	o->dst = (CUdeviceptr)arg[0];
	o->src = (CUdeviceptr)arg[1];
	o->bytes = in->arg[0].bytes;
	return true;
}

/* A later iteration of an instruction that is prepared: the same on other addresses. */
static bool
repeat_op(Exec *x, const PlanProgram *p, const PlanInstr *in, const Binding *b, const CudaOp *first, CudaOp *o, Err *e)
{
	*o = *first;
	o->borrowed = true;
	void **arg = instr_bind(&x->arena, p, in, b, o->where, e);
	if (!arg)
		return false;
	if (in->kind == I_GEMM)
		o->gemm = cuda_gemm_again(&first->gemm, arg);
	o->dst = (CUdeviceptr)arg[0];
	o->src = (CUdeviceptr)arg[1];
	if (in->kind == I_KERNEL) {
		o->param = arena_alloc(&x->arena, in->narg * sizeof *o->param);
		for (uint32_t i = 0; i < in->narg; i++)
			o->param[i] = &arg[i];
	}
	return true;
}

/* A product whose bias moves cannot be one that is prepared: the bias is part of that. */
static bool
can_repeat(const PlanInstr *in)
{
	return !(in->kind == I_GEMM && in->narg == 4 && in->nstep && in->step[3]);
}

static bool
load_modules(Cuda *c, Exec *x, const PlanTargetset *s, const PlanProgram *p, CUmodule *module, Err *e)
{
	bool *used = modules_used(&x->arena, s, p, e);
	for (uint32_t i = 0; used && i < s->nmodule; i++)
		if (used[i] && !cuda_module(c, &s->module[i], module_where(&x->arena, s, p, i), &module[i], e))
			return false;
	return used != NULL;
}

static void
cuda_drop(Device *d, Exec *x)
{
	Cuda *c = (Cuda *)d;
	Err ignored = {0};
	if (!x)
		return;
	enter(c, &ignored);
	c->cu.cuStreamSynchronize(c->stream);
	if (x->many)
		c->cu.cuGraphExecDestroy(x->many);
	if (x->one)
		c->cu.cuGraphExecDestroy(x->one);
	for (uint32_t i = 0; i < x->nop; i++)
		if (x->op[i].kind == I_GEMM && !x->op[i].borrowed)
			cuda_gemm_free(c, &x->op[i].gemm);
	arena_free(&x->arena);
	free(x);
}

static bool
capture_program(Cuda *c, Exec *x, Err *e)
{
	if (!x->nop)
		return true;
	x->repeats = MANY_NODES / x->nop < MANY ? MANY_NODES / x->nop : MANY;
	return capture_repeats(c, x, 1, &x->one, e) && (x->repeats < 2 || capture_repeats(c, x, x->repeats, &x->many, e)) && drain(c, e);
}

/* Products that need little workspace take turns with its parts, so that they need not wait for each other. */
static void
share_workspace(Exec *x, char *base, uint64_t bytes, WorkSpan *work)
{
	uint64_t part = bytes / WORK_PARTS / 256 * 256, turn = 0;
	for (uint32_t i = 0; i < x->nop; i++) {
		CudaGemm *g = &x->op[i].gemm;
		if (x->op[i].kind != I_GEMM || !g->work_used)
			continue;
		if (g->work_used <= part) {
			work[i] = (WorkSpan){turn++ % WORK_PARTS * part, part};
			g->work = base + work[i].off;
			g->work_bytes = part;
		} else {
			work[i].bytes = bytes;
		}
	}
}

static Exec *
cuda_prepare(Device *d, const PlanTargetset *s, const PlanProgram *p, const Binding *b, Err *e)
{
	Cuda *c = (Cuda *)d;
	if (!enter(c, e))
		return NULL;
	Exec *x = xcalloc(1, sizeof *x);
	if (!loops_fit(p, e)) {
		cuda_drop(d, x);
		return NULL;
	}
	Unrolled u = program_unroll(&x->arena, p);
	WorkSpan *work = arena_alloc(&x->arena, u.program.ninstr * sizeof *work);
	CUmodule *module = arena_alloc(&x->arena, s->nmodule * sizeof *module);
	bool ok = load_modules(c, x, s, p, module, e);
	x->op = arena_alloc(&x->arena, u.program.ninstr * sizeof *x->op);
	x->from = u.from;
	x->ninstr = p->ninstr;
	for (x->nop = 0; ok && x->nop < u.program.ninstr; x->nop++) {
		const PlanInstr *in = &u.program.instr[x->nop];
		uint32_t first = u.from[x->nop].first;
		if (first < x->nop && can_repeat(in))
			ok = repeat_op(x, &u.program, in, b, &x->op[first], &x->op[x->nop], e);
		else
			ok = prepare_op(c, x, s, &u.program, in, b, module, &x->op[x->nop], e);
	}
	if (ok) {
		share_workspace(x, b->base[SP_WORK], p->work_bytes, work);
		x->depend = depend_find(&x->arena, &u.program, work);
		count_readers(x);
	}
	if (!ok || !capture_program(c, x, e)) {
		cuda_drop(d, x);
		return NULL;
	}
	return x;
}

static bool
cuda_run(Device *d, Exec *x, int64_t times, Err *e)
{
	Cuda *c = (Cuda *)d;
	if (!x->one || times <= 0)
		return true;
	if (!enter(c, e))
		return false;
	while (times > 0) {
		bool many = x->many && times >= x->repeats;
		if (!CU(c, "", e, cuGraphLaunch(many ? x->many : x->one, c->stream)))
			return false;
		times -= many ? x->repeats : 1;
		d->launches++;
	}
	return true;
}

static bool
cuda_sync(Device *d, Err *e)
{
	return enter((Cuda *)d, e) && drain((Cuda *)d, e);
}

static double
iterations(const Exec *x, uint32_t first)
{
	double n = 0;
	for (uint32_t i = first; i < x->nop; i++)
		n += x->from[i].first == first;
	return n;
}

static bool
cuda_step(Device *d, Exec *x, uint32_t i, Err *e)
{
	Cuda *c = (Cuda *)d;
	return enter(c, e) && emit_op(c, &x->op[i], e) && drain(c, e);
}

static bool
cuda_profile(Device *d, Exec *x, int times, InstrTime *t, Err *e)
{
	Cuda *c = (Cuda *)d;
	if (!enter(c, e))
		return false;
	memset(t, 0, x->ninstr * sizeof *t);
	for (uint32_t i = 0; i < x->nop; i++) {
		double *seconds = &t[x->from[i].instr].seconds;
		if (x->from[i].first < i || nothing_to_do(&x->op[i]))
			continue;
		if (!cuda_time(c, emit_op, &x->op[i], PROFILE_COPIES, times > 0 ? times : 1, seconds, e))
			return false;
		*seconds *= iterations(x, i); /* of a loop, the first stands for all */
	}
	return true;
}

/* ---- opening ---- */

static void
cuda_close(Device *d)
{
	Cuda *c = (Cuda *)d;
	if (!c)
		return;
	if (c->ctx) {
		c->cu.cuCtxSetCurrent(c->ctx);
		if (c->stream)
			c->cu.cuStreamSynchronize(c->stream);
		cuda_gemm_close(c);
		for (size_t i = 0; i < c->nmodule; i++)
			c->cu.cuModuleUnload(c->module[i].module);
		for (size_t i = 0; i < LEN(c->event); i++)
			if (c->event[i])
				c->cu.cuEventDestroy(c->event[i]);
		if (c->staging)
			c->cu.cuMemFreeHost(c->staging);
		if (c->stream)
			c->cu.cuStreamDestroy(c->stream);
		c->cu.cuDevicePrimaryCtxRelease(c->dev);
	}
	free(c->module);
	free(c);
}

static bool
pick_gpu(Cuda *c, int index, Err *e)
{
	int n = 0;
	if (!CU(c, "no usable GPU", e, cuInit(0)) || !CU(c, "", e, cuDeviceGetCount(&n)))
		return false;
	if (index < 0 || index >= n)
		return fail(e, "GPU %d: this machine shows %d (CUDA_VISIBLE_DEVICES may hide some)", index, n);
	return CU(c, "", e, cuDriverGetVersion(&c->driver)) && CU(c, "", e, cuDeviceGet(&c->dev, index)) &&
	       CU(c, "", e, cuDeviceGetName(c->gpu, (int)sizeof c->gpu, c->dev)) &&
	       CU(c, "", e, cuDeviceGetAttribute(&c->major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, c->dev)) &&
	       CU(c, "", e, cuDeviceGetAttribute(&c->minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, c->dev)) &&
	       CU(c, "", e, cuDeviceGetAttribute(&c->smem_max, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, c->dev));
}

static bool
open_context(Cuda *c, Err *e)
{
	size_t avail, total;
	if (!CU(c, c->gpu, e, cuDevicePrimaryCtxRetain(&c->ctx, c->dev)) || !CU(c, c->gpu, e, cuCtxSetCurrent(c->ctx)) ||
	    !CU(c, c->gpu, e, cuStreamCreate(&c->stream, CU_STREAM_NON_BLOCKING)) || !CU(c, c->gpu, e, cuEventCreate(&c->event[0], CU_EVENT_DEFAULT)) ||
	    !CU(c, c->gpu, e, cuEventCreate(&c->event[1], CU_EVENT_DEFAULT)) || !CU(c, c->gpu, e, cuMemAllocHost((void **)&c->staging, STAGING)) ||
	    !CU(c, c->gpu, e, cuMemGetInfo(&avail, &total)))
		return false;
	snprintf(c->arch, sizeof c->arch, "sm_%d%d", c->major, c->minor);
	snprintf(c->base.info, sizeof c->base.info, "%s, %s, %.1f GiB, driver for CUDA %d.%d", c->gpu, c->arch, (double)total / 0x1p30,
	         c->driver / 1000, c->driver % 1000 / 10);
	return true;
}

Device *
device_cuda_open(int index, Err *e)
{
	Cuda *c = xcalloc(1, sizeof *c);
	c->base = (Device){.name = "cuda", .alloc = cuda_alloc, .release = cuda_release, .upload = cuda_upload, .download = cuda_download,
	                   .memory = cuda_memory, .prepare = cuda_prepare, .run = cuda_run, .sync = cuda_sync, .step = cuda_step, .profile = cuda_profile,
	                   .drop = cuda_drop, .close = cuda_close};
	if (cuda_open_driver(&c->cu, e) && pick_gpu(c, index, e) && open_context(c, e))
		return &c->base;
	cuda_close(&c->base);
	return NULL;
}

#else

Device *
device_cuda_open(int index, Err *e)
{
	fail(e, "built without CUDA headers: GPU %d cannot be used: install the CUDA toolkit's headers and build again, or run on the CPU", index);
	return NULL;
}

#endif
