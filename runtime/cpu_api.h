/* The CPU device's own parts: threads (cpu_pool.c), compiling C modules (cpu_build.c), matrix products (cpu_gemm.c). Private to it. */
#ifndef CPU_API_H
#define CPU_API_H

#include "device_common.h"

/* ---- cpu_pool.c ---- */

#define MAX_POOL 4096

typedef struct CpuPool CpuPool;
typedef void PoolFn(void *ctx, int64_t lo, int64_t hi); /* does the pieces [lo, hi) */

int cpu_pool_threads(void);                       /* one a core that the process may use; OMP_NUM_THREADS if that is set */
CpuPool *cpu_pool_open(int threads, Err *e);      /* threads: 1 to MAX_POOL, the caller's among them; NULL on error */
/* All pieces [0, n), each once, on the pool's threads; returns when they are done. One run at a time, from any thread. */
void cpu_pool_run(CpuPool *p, PoolFn *fn, void *ctx, int64_t n);
void cpu_pool_close(CpuPool *p);

/* ---- cpu_build.c ---- */

/* A module that stays loaded as long as the device. */
typedef struct CpuModule {
	char key[33];
	void *handle; /* of dlopen */
} CpuModule;

typedef struct CpuBuilder {
	char *compiler;  /* first line of `cc --version`; NULL until asked */
	CpuModule *module;
	size_t nmodule, cap;
} CpuBuilder;

/* handle[i] for every module with used[i]: found loaded, in the kernel cache, or compiled (in parallel). */
bool cpu_build(CpuBuilder *b, const PlanTargetset *s, const PlanProgram *p, const bool *used, void **handle, Err *e);
void cpu_build_close(CpuBuilder *b);

/* ---- cpu_gemm.c ---- */

typedef struct CpuBlas {
	void *lib;
	void (*sgemm)(void); /* cblas_sgemm */
	char core[32];       /* the kernels that OpenBLAS chose */
} CpuBlas;

/* A GEMM made ready: operands oriented, cut into tiles. */
typedef struct CpuGemm {
	PlanGemm g;
	GemmOperand a, b;
	int64_t tm, tn; /* rows and columns of a tile of C */
	int64_t nm, nn; /* tiles a batch */
	const float *A, *B, *bias;
	float *C;
} CpuGemm;

bool cpu_blas_open(CpuBlas *b, Err *e); /* opens OpenBLAS once; later calls do nothing */
bool cpu_gemm_prepare(CpuGemm *x, const PlanGemm *g, void *const *arg, const char *where, Err *e);
void cpu_gemm_run(const CpuBlas *b, const CpuGemm *x, CpuPool *p);

#endif
