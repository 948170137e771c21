/* Matrix products on the CPU that a plan leaves to a library (not fused ones: compiler/emit_product_c.c): OpenBLAS on tiles of C, the
   tiles spread over the device's threads.

   Why not OpenBLAS's own threads: they are a second pool that fights with the device's, which still look for work after a kernel (seen
   on 2 cores with 0.3.21 and OpenMP: 512x128x1024 after a loop 6.1 ms, in tiles 0.6 ms; alone, tiles are never slower), they pay nothing
   for batches of small matrices, and what they add in which order depends on their number. Small products need no kernel of
   our own: a call on one thread costs 0.2 us, a 32x32x32 product 1.1 us.

   Determinism: OpenBLAS promises none in writing. What is relied on: with one thread, sgemm does the same operations in
   the same order for the same shape, strides and flags; it does not look at addresses or the clock. Tiles are cut by shape alone
   (cut otherwise, the bits do change) and k is never split, so results are bitwise equal from run to run and for any number of
   threads. Another CPU, OpenBLAS version or OPENBLAS_CORETYPE may give other bits. */
#define _GNU_SOURCE
#include "cpu_api.h"

#include <cblas.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tile packs its rows of A and its columns of B again: on one core, 512x2048x2048 runs at 123 GFLOP/s in tiles of 128x128, at 160 in
   256x256, at 189 in 512x512. So tiles are as large as leaves some for each core. */
#define MIN_SIDE 128             /* a tile is not cut below this, but for the first FEW_TILES: then half of it */
#define FEW_TILES 4
#define TILE_FLOPS 3e7           /* 150 us or so; a product of less than four such is cut into up to four of at least.. */
#define MIN_TILE_FLOPS 2e6       /* 10 us: far over the cost of handing out a tile */
#define TILES 16                 /* from which tiles become larger in place of more.. */
#define MAX_TILE_FLOPS 3e8       /* until they are so large */
#define NARROW 32                /* rows or columns of C below which each element of the other operand is used too little.. */
#define CACHED 131072.0          /* to read it from farther than the second cache: floats of a tile's */
#define MIN_PARALLEL_FLOPS 2e5   /* below this, waking threads costs more than the work */

bool
cpu_blas_open(CpuBlas *b, Err *e)
{
	bool threads = !getenv("OPENBLAS_NUM_THREADS");
	if (b->lib)
		return true;
	if (threads) /* else it starts threads that spin for a while and are never used */
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
	void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	const char *why = lib ? "" : dlerror();
	if (threads)
		unsetenv("OPENBLAS_NUM_THREADS");
	if (!lib)
		return fail(e, "cannot open OpenBLAS, which multiplies matrices on the CPU: %s: install the package libopenblas0", why);
	void *sgemm = dlsym(lib, "cblas_sgemm"), *set = dlsym(lib, "openblas_set_num_threads"), *name = dlsym(lib, "openblas_get_corename");
	if (!sgemm || !set || !name) {
		dlclose(lib);
		return fail(e, "libopenblas.so.0 lacks cblas_sgemm or openblas_set_num_threads: install the package libopenblas0");
	}
	void (*set_threads)(int);
	char *(*corename)(void);
	memcpy(&set_threads, &set, sizeof set);
	memcpy(&corename, &name, sizeof name);
	memcpy(&b->sgemm, &sgemm, sizeof sgemm);
	set_threads(1);
	snprintf(b->core, sizeof b->core, "%s", corename());
	b->lib = lib;
	return true;
}

/* How many tiles a product of so many operations should be: by its shape alone. */
static double
tiles_wanted(double flops)
{
	double many = flops / TILE_FLOPS, large = flops / MAX_TILE_FLOPS, few = flops / MIN_TILE_FLOPS;
	return many < 4 ? (few < 4 ? few : 4) : many < TILES ? many : large > TILES ? large : TILES;
}

static int64_t
tile_side(int64_t n, int64_t cuts)
{
	return (n + cuts * 16 - 1) / (cuts * 16) * 16; /* whole vectors */
}

/* Cuts rows and columns, always those of the longer side, into enough tiles, or till they get too small to pay. */
static void
cut_tiles(CpuGemm *x)
{
	const PlanGemm *g = &x->g;
	double batch = (double)(g->batch0 * g->batch1), wanted = tiles_wanted(2.0 * (double)g->m * (double)g->n * (double)g->k * batch) / batch;
	int64_t m = 1, n = 1; /* cuts */
	while ((double)((m + 1) * n) <= wanted || (double)(m * (n + 1)) <= wanted) {
		bool rows = g->m * n > g->n * m;
		int64_t least = m * n < FEW_TILES ? MIN_SIDE / 2 : MIN_SIDE;
		if (rows ? g->m < (m + 1) * least : g->n < (n + 1) * least)
			break;
		*(rows ? &m : &n) += 1;
	}
	if (g->n < NARROW && (double)g->m * (double)g->k > (double)m * CACHED) /* 50176x6x25: 304 us in 4 tiles, 210 in 8 */
		m = (int64_t)ceil((double)g->m * (double)g->k / CACHED);
	if (g->m < NARROW && (double)g->n * (double)g->k > (double)n * CACHED)
		n = (int64_t)ceil((double)g->n * (double)g->k / CACHED);
	x->tm = m > 1 ? tile_side(g->m, m) : g->m;
	x->tn = n > 1 ? tile_side(g->n, n) : g->n;
	x->nm = (g->m + x->tm - 1) / x->tm;
	x->nn = (g->n + x->tn - 1) / x->tn;
}

bool
cpu_gemm_prepare(CpuGemm *x, const PlanGemm *g, void *const *arg, const char *where, Err *e)
{
	if (!gemm_check(g, where, e))
		return false;
	if (g->dtype != DT_F32 || g->ctype != DT_F32)
		return fail(e, "%s: the CPU multiplies f32 matrices only (the plan has %s to %s): compile with --precision fp32", where,
		            dtype_name(g->dtype), dtype_name(g->ctype));
	if (g->epilogue & ~(uint32_t)(EPI_BIAS | EPI_RELU | EPI_GELU))
		return fail(e, "%s: unknown GEMM epilogue %u", where, g->epilogue);
	*x = (CpuGemm){.g = *g, .a = gemm_a(g), .b = gemm_b(g), .A = arg[0], .B = arg[1], .C = arg[2], .bias = arg[3]};
	cut_tiles(x);
	return true;
}

/* Bias and activation while the tile is still in cache. erff is the definition that the float64 interpreter follows. */
static void
finish_tile(const CpuGemm *x, float *c, const float *bias, int64_t rows, int64_t cols)
{
	for (int64_t i = 0; i < rows; i++, c += x->g.crs) {
		if (x->g.epilogue & EPI_BIAS)
			for (int64_t j = 0; j < cols; j++)
				c[j] += bias[j];
		if (x->g.epilogue & EPI_RELU)
			for (int64_t j = 0; j < cols; j++)
				c[j] = c[j] < 0 ? 0 : c[j]; /* NaN stays NaN */
		if (x->g.epilogue & EPI_GELU)
			for (int64_t j = 0; j < cols; j++)
				c[j] = 0.5f * c[j] * (1 + erff(c[j] * 0.70710678118654752f));
	}
}

static void
run_tile(__typeof__(&cblas_sgemm) sgemm, const CpuGemm *x, int64_t tile)
{
	const PlanGemm *g = &x->g;
	int64_t j = tile % x->nn * x->tn, i = tile / x->nn % x->nm * x->tm, batch = tile / (x->nn * x->nm);
	int64_t b0 = batch / g->batch1, b1 = batch % g->batch1;
	int64_t rows = g->m - i < x->tm ? g->m - i : x->tm, cols = g->n - j < x->tn ? g->n - j : x->tn;
	const float *a = x->A + b0 * g->a0 + b1 * g->a1 + (x->a.trans ? i : i * x->a.ld);
	const float *b = x->B + b0 * g->b0 + b1 * g->b1 + (x->b.trans ? j * x->b.ld : j);
	float *c = x->C + b0 * g->c0 + b1 * g->c1 + i * g->crs + j;
	int64_t ldc = g->crs > cols ? g->crs : cols; /* one row may have any stride */
	sgemm(CblasRowMajor, x->a.trans ? CblasTrans : CblasNoTrans, x->b.trans ? CblasTrans : CblasNoTrans, (int)rows, (int)cols, (int)g->k,
	      (float)g->alpha, a, (int)x->a.ld, b, (int)x->b.ld, (float)g->beta, c, (int)ldc);
	if (g->epilogue)
		finish_tile(x, c, x->bias ? x->bias + j : NULL, rows, cols);
}

typedef struct Product {
	const CpuGemm *x;
	__typeof__(&cblas_sgemm) sgemm;
} Product;

static void
run_tiles(void *ctx, int64_t lo, int64_t hi)
{
	const Product *p = ctx;
	for (int64_t t = lo; t < hi; t++)
		run_tile(p->sgemm, p->x, t);
}

void
cpu_gemm_run(const CpuBlas *b, const CpuGemm *x, CpuPool *pool)
{
	const PlanGemm *g = &x->g;
	Product p = {x, (__typeof__(&cblas_sgemm))b->sgemm};
	int64_t batch = g->batch0 * g->batch1, tiles = x->nm * x->nn * batch;
	double flops = 2.0 * (double)g->m * (double)g->n * (double)g->k * (double)batch;
	if (flops < MIN_PARALLEL_FLOPS)
		run_tiles(&p, 0, tiles);
	else
		cpu_pool_run(pool, run_tiles, &p, tiles);
}
