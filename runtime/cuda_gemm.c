/* Matrix products on the GPU: cuBLASLt.

   cuBLASLt is column-major. A row-major C[m,n] is the column-major C^T[n,m], so the call is C^T = op(B)^T op(A)^T with the operands
   swapped; a bias over the plan's n is then a bias over rows, which is what CUBLASLT_EPILOGUE_BIAS adds.

   Determinism: cuBLASLt gives the same bits for the same algorithm on the same GPU, so the algorithm is chosen once and stored in
   the kernel cache. Reductions of a split k are allowed where their order is fixed: NONE (no split), COMPUTE_TYPE (partial sums in
   f32 in the workspace, added in a second step), INPLACE (the blocks take turns in order, held by counters). OUTPUT_TYPE is left out:
   it rounds partial sums to bf16. Source: cublasLtReductionScheme_t in cublasLt.h. */
#include "cuda_api.h"

#if HAVE_CUDA

#include <stdlib.h>
#include <string.h>

#define NALGO 8
#define TIME_COPIES 10
#define TIME_RUNS 5
#define LONG 1e-3   /* seconds from which one launch at a time is exact enough */
#define MARGIN 0.97 /* a later candidate must be this much faster: less is noise, and the choice should not be noise */

/* The batch dimensions: cuBLASLt takes one, with a stride for each operand; the other is a loop of calls. */
typedef struct Batch {
	int64_t n, loop;
	int64_t a, b, c;                /* strides of the strided batch, elements */
	int64_t step_a, step_b, step_c; /* of the loop */
} Batch;

static Batch
plan_batch(const PlanGemm *g)
{
	Batch outer = {g->batch0, g->batch1, g->a0, g->b0, g->c0, g->a1, g->b1, g->c1};
	Batch inner = {g->batch1, g->batch0, g->a1, g->b1, g->c1, g->a0, g->b0, g->c0};
	if (g->batch0 > 1 && g->batch1 > 1 && g->a0 == g->a1 * g->batch1 && g->b0 == g->b1 * g->batch1 && g->c0 == g->c1 * g->batch1) {
		inner.n *= inner.loop; /* the two run on from each other */
		inner.loop = 1;
		return inner;
	}
	return g->batch0 > g->batch1 ? outer : inner;
}

typedef struct Types {
	cudaDataType_t in, out;
	cublasComputeType_t compute;
} Types;

static bool
pick_types(const PlanGemm *g, Types *t, const char *where, Err *e)
{
	static const struct { DType in, out; Types t; } rows[] = {
		{DT_F32, DT_F32, {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F}},
		{DT_BF16, DT_F32, {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F}},
		{DT_BF16, DT_BF16, {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F}},
		{DT_F16, DT_F32, {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F}},
		{DT_F16, DT_F16, {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F}},
	};
	for (size_t i = 0; i < LEN(rows); i++)
		if (rows[i].in == g->dtype && rows[i].out == g->ctype) {
			*t = rows[i].t;
			if (g->dtype == DT_F32 && g->tf32)
				t->compute = CUBLAS_COMPUTE_32F_FAST_TF32;
			return true;
		}
	return fail(e, "%s: the GPU has no GEMM of %s to %s", where, dtype_name(g->dtype), dtype_name(g->ctype));
}

static bool
pick_epilogue(const PlanGemm *g, cublasLtEpilogue_t *out, const char *where, Err *e)
{
	switch (g->epilogue) {
	case EPI_NONE: *out = CUBLASLT_EPILOGUE_DEFAULT; return true;
	case EPI_BIAS: *out = CUBLASLT_EPILOGUE_BIAS; return true;
	case EPI_RELU: *out = CUBLASLT_EPILOGUE_RELU; return true;
	case EPI_BIAS | EPI_RELU: *out = CUBLASLT_EPILOGUE_RELU_BIAS; return true;
	}
	if (g->epilogue & EPI_GELU)
		return fail(e, "%s: cuBLASLt's GELU is the tanh form, ours the erf form: the compiler must leave GELU out of a CUDA GEMM", where);
	return fail(e, "%s: unknown GEMM epilogue %u", where, g->epilogue);
}

static bool
make_layout(Cuda *c, cublasLtMatrixLayout_t *out, cudaDataType_t type, int64_t rows, int64_t cols, int64_t ld, int64_t batch, int64_t stride,
            const char *where, Err *e)
{
	int32_t n = (int32_t)batch;
	return LT(c, where, e, cublasLtMatrixLayoutCreate(out, type, (uint64_t)rows, (uint64_t)cols, ld)) &&
	       LT(c, where, e, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n)) &&
	       LT(c, where, e, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
}

/* A row-major [rows, cols] operand, seen column-major, is [cols, rows]; one stored transposed is [rows, cols] with op T. */
static bool
make_operand(Cuda *c, cublasLtMatrixLayout_t *out, cudaDataType_t type, int64_t rows, int64_t cols, GemmOperand o, int64_t batch,
             int64_t stride, const char *where, Err *e)
{
	return make_layout(c, out, type, o.trans ? rows : cols, o.trans ? cols : rows, o.ld, batch, stride, where, e);
}

static bool
describe(Cuda *c, CudaGemm *x, const PlanGemm *g, const Batch *b, const void *bias, Err *e)
{
	const char *where = x->where;
	GemmOperand oa = gemm_a(g), ob = gemm_b(g);
	cublasOperation_t ta = ob.trans ? CUBLAS_OP_T : CUBLAS_OP_N, tb = oa.trans ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtEpilogue_t epilogue;
	Types t = {0};
	int64_t ldc = g->crs > g->n ? g->crs : g->n;
	if (b->n > INT32_MAX)
		return fail(e, "%s: %lld matrices are more than a batched GEMM can count", where, (long long)b->n);
	return pick_types(g, &t, where, e) && pick_epilogue(g, &epilogue, where, e) &&
	       LT(c, where, e, cublasLtMatmulDescCreate(&x->op, t.compute, CUDA_R_32F)) &&
	       LT(c, where, e, cublasLtMatmulDescSetAttribute(x->op, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta)) &&
	       LT(c, where, e, cublasLtMatmulDescSetAttribute(x->op, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb)) &&
	       LT(c, where, e, cublasLtMatmulDescSetAttribute(x->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue)) &&
	       (!(g->epilogue & EPI_BIAS) ||
	        LT(c, where, e, cublasLtMatmulDescSetAttribute(x->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias))) &&
	       make_operand(c, &x->a, t.in, g->k, g->n, ob, b->n, b->b, where, e) &&
	       make_operand(c, &x->b, t.in, g->m, g->k, oa, b->n, b->a, where, e) &&
	       make_layout(c, &x->c, t.out, g->n, g->m, ldc, b->n, b->c, where, e);
}

/* What every call's address is a multiple of, up to cuBLASLt's default of 256. */
static uint32_t
alignment(const void *p, int64_t step)
{
	uint64_t bits = (uint64_t)(uintptr_t)p | (uint64_t)step | 256;
	return (uint32_t)(bits & -bits);
}

static bool
find_algos(Cuda *c, const CudaGemm *x, const uint32_t align[3], cublasLtMatmulHeuristicResult_t *r, int *n, Err *e)
{
	cublasLtMatmulPreference_t pref = NULL;
	uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_INPLACE;
	uint64_t work = x->work_bytes;
	const struct { cublasLtMatmulPreferenceAttributes_t key; const void *value; size_t bytes; } rows[] = {
		{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work},
		{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align[1], sizeof align[1]},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align[0], sizeof align[0]},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align[2], sizeof align[2]},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align[2], sizeof align[2]},
	};
	bool ok = LT(c, x->where, e, cublasLtMatmulPreferenceCreate(&pref));
	for (size_t i = 0; ok && i < LEN(rows); i++)
		ok = LT(c, x->where, e, cublasLtMatmulPreferenceSetAttribute(pref, rows[i].key, rows[i].value, rows[i].bytes));
	ok = ok && LT(c, x->where, e, cublasLtMatmulAlgoGetHeuristic(c->blas, x->op, x->a, x->b, x->c, x->c, pref, NALGO, r, n));
	if (pref)
		c->lt.cublasLtMatmulPreferenceDestroy(pref);
	int kept = 0;
	for (int i = 0; ok && i < *n; i++)
		if (r[i].state == CUBLAS_STATUS_SUCCESS && r[i].workspaceSize <= work)
			r[kept++] = r[i];
	*n = kept;
	if (ok && !kept)
		return fail(e, "%s: cuBLASLt has no algorithm for this GEMM (addresses aligned to %u, %u, %u bytes, %zu bytes of workspace)", x->where,
		            align[0], align[1], align[2], x->work_bytes);
	return ok;
}

static bool
emit(Cuda *c, const void *work, Err *e)
{
	return cuda_gemm_launch(c, work, e);
}

static bool
warm_up(Cuda *c, const CudaGemm *x, Err *e)
{
	return cuda_gemm_launch(c, x, e) && CU(c, x->where, e, cuStreamSynchronize(c->stream));
}

/* The fastest of the candidates, by the clock; cuBLASLt lists the one it expects to be fastest first. A candidate that fails
   to launch is passed over. */
static bool
time_algos(Cuda *c, CudaGemm *x, const cublasLtMatmulHeuristicResult_t *r, int n, Err *e)
{
	double best = 0;
	int chosen = -1;
	Err last = {0};
	for (int i = 0; i < n; i++) {
		Err why = {0};
		x->algo = r[i].algo;
		double start, s = 0;
		bool ok = warm_up(c, x, &why);
		start = now_seconds();
		ok = ok && warm_up(c, x, &why);
		int copies = now_seconds() - start > LONG ? 1 : TIME_COPIES;
		if (!ok || !cuda_time(c, emit, x, copies, TIME_RUNS, &s, &why)) {
			last = why;
			continue;
		}
		if (chosen < 0 || s < best * MARGIN) {
			best = s;
			chosen = i;
		}
	}
	if (chosen < 0)
		return fail(e, "%s", last.msg);
	x->algo = r[chosen].algo;
	x->work_used = r[chosen].workspaceSize;
	return true;
}

/* All that decides which algorithms are possible and how fast they are. */
static void
make_key(CacheKey *k, const Cuda *c, const CudaGemm *x, const PlanGemm *g, const uint32_t align[3])
{
	uint64_t version = c->lt.cublasLtGetVersion(), work = x->work_bytes;
	key_start(k, "cublasLt 1");
	key_adds(k, c->gpu);
	key_adds(k, c->arch);
	key_add(k, &c->driver, sizeof c->driver);
	key_add(k, &version, sizeof version);
	key_add(k, &work, sizeof work);
	key_add(k, align, 3 * sizeof *align);
#define F(kind, name) key_add(k, &g->name, sizeof g->name);
	PLAN_GEMM(F, )
#undef F
	key_hex(k);
}

static bool
stored_algo(Cuda *c, CudaGemm *x, const char *key)
{
	char *bytes;
	size_t n;
	cublasLtMatmulHeuristicResult_t r;
	if (!kernel_cache_get(key, ".algo", &bytes, &n))
		return false;
	bool ok = n == sizeof x->algo;
	if (ok)
		memcpy(&x->algo, bytes, n);
	free(bytes);
	ok = ok && !c->lt.cublasLtMatmulAlgoCheck(c->blas, x->op, x->a, x->b, x->c, x->c, &x->algo, &r) && r.workspaceSize <= x->work_bytes;
	x->work_used = ok ? r.workspaceSize : x->work_bytes;
	return ok;
}

/* Bytes from the first to the last element of C in one call of the loop, and over all calls. */
static size_t
extent(const PlanGemm *g)
{
	int64_t last = (g->m - 1) * g->crs + g->n + (g->batch0 - 1) * g->c0 + (g->batch1 - 1) * g->c1;
	return (size_t)last * dtype_bytes(g->ctype);
}

/* Timing, and the first launch (which loads the kernel and must not fall into a capture), write C. Where C holds something to
   keep they write scratch memory instead; without room for it, the first candidate is taken. A choice that cannot be
   stored could be another one next time, so then too. */
static bool
choose_algo(Cuda *c, CudaGemm *x, const PlanGemm *g, const uint32_t align[3], bool may_write, Err *e)
{
	cublasLtMatmulHeuristicResult_t r[NALGO];
	CUdeviceptr scratch = 0;
	CacheKey k;
	char *C = x->C;
	int n = 0;
	Err ignored = {0};
	bool ok = true;
	make_key(&k, c, x, g, align);
	bool stored = stored_algo(c, x, k.hex);
	if (!stored && !find_algos(c, x, align, r, &n, e))
		return false;
	if (!stored) {
		x->algo = r[0].algo;
		x->work_used = r[0].workspaceSize;
	}
	if (!may_write) {
		if (!CU(c, "", &ignored, cuMemAlloc(&scratch, extent(g))))
			return true;
		x->C = (char *)scratch; /* aligned at least as well as C */
	}
	if (stored) {
		ok = warm_up(c, x, e);
	} else if ((ok = time_algos(c, x, r, n, e)) && !kernel_cache_put(k.hex, ".algo", &x->algo, sizeof x->algo, &ignored)) {
		x->algo = r[0].algo;
		x->work_used = r[0].workspaceSize;
		ok = warm_up(c, x, e);
	}
	if (scratch)
		ok = CU(c, x->where, e, cuMemFree(scratch)) && ok;
	x->C = C;
	return ok;
}

static bool
open_blas(Cuda *c, const char *where, Err *e)
{
	return c->blas || (cuda_open_lt(&c->lt, e) && LT(c, where, e, cublasLtCreate(&c->blas)));
}

bool
cuda_gemm_prepare(Cuda *c, CudaGemm *x, const PlanGemm *g, void *const *arg, const int64_t *step, void *work, size_t work_bytes,
                  bool may_write, const char *where, Err *e)
{
	memset(x, 0, sizeof *x);
	if (!gemm_check(g, where, e) || !open_blas(c, where, e))
		return false;
	Batch b = plan_batch(g);
	int64_t in = (int64_t)dtype_bytes(g->dtype), out = (int64_t)dtype_bytes(g->ctype);
	*x = (CudaGemm){.alpha = (float)g->alpha, .beta = (float)g->beta, .loop = b.loop, .step_a = b.step_b * in, .step_b = b.step_a * in,
	                .step_c = b.step_c * out, .A = arg[1], .B = arg[0], .C = arg[2], .work = work, .work_bytes = work ? work_bytes : 0,
	                .where = where};
	/* in the plan's order A, B, C; a batch stride is also in the layouts, but the loop's is known only here */
	const int64_t none[3] = {0}, *move = step ? step : none;
	uint32_t align[3] = {alignment(x->B, (b.loop > 1 ? x->step_b : 0) | move[0]), alignment(x->A, (b.loop > 1 ? x->step_a : 0) | move[1]),
	                     alignment(x->C, (b.loop > 1 ? x->step_c : 0) | move[2])};
	if (describe(c, x, g, &b, arg[3], e) && choose_algo(c, x, g, align, may_write && g->beta == 0, e))
		return true;
	cuda_gemm_free(c, x);
	return false;
}

CudaGemm
cuda_gemm_again(const CudaGemm *x, void *const *arg)
{
	CudaGemm y = *x;
	y.A = arg[1];
	y.B = arg[0];
	y.C = arg[2];
	return y;
}

bool
cuda_gemm_launch(Cuda *c, const CudaGemm *x, Err *e)
{
	for (int64_t i = 0; i < x->loop; i++) {
		char *C = x->C + i * x->step_c;
		if (!LT(c, x->where, e,
		        cublasLtMatmul(c->blas, x->op, &x->alpha, x->A + i * x->step_a, x->a, x->B + i * x->step_b, x->b, &x->beta, C, x->c, C, x->c,
		                       &x->algo, x->work, x->work_bytes, (cudaStream_t)c->stream)))
			return false;
	}
	return true;
}

void
cuda_gemm_free(Cuda *c, CudaGemm *x)
{
	cublasLtMatrixLayout_t *const layout[] = {&x->a, &x->b, &x->c};
	for (size_t i = 0; i < LEN(layout); i++)
		if (*layout[i])
			c->lt.cublasLtMatrixLayoutDestroy(*layout[i]);
	if (x->op)
		c->lt.cublasLtMatmulDescDestroy(x->op);
	memset(x, 0, sizeof *x);
}

void
cuda_gemm_close(Cuda *c)
{
	if (c->blas)
		c->lt.cublasLtDestroy(c->blas);
	c->blas = NULL;
}

#else

typedef int CudaGemmUnused; /* ISO C wants one declaration a file */

#endif
