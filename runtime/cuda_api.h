/* CUDA libraries opened at run time: tables of their functions (cuda_api.c), kernels to cubins (cuda_build.c), matrix
   products (cuda_gemm.c), the device (device_cuda.c). Built with headers alone; without them only nvrtc_compile and
   device_cuda_open exist, and say so. */
#ifndef CUDA_API_H
#define CUDA_API_H

#include "device_common.h"

/* ---- NVRTC, for mmc and the tests too (cuda_build.c): needs no GPU and no driver ---- */

/* Compiles CUDA C++ to a cubin for arch ("sm_90"). *cubin is malloced, n bytes. *log (may be NULL; set on success only, malloced)
   has ptxas's report: per kernel a line "N bytes stack frame, N bytes spill stores, N bytes spill loads" and one
   "Used N registers". A source that does not compile: false, the compiler's log in e. */
bool nvrtc_compile(const char *source, const char *arch, char **cubin, size_t *n, char **log, Err *e);

/* Sum of the spill stores and loads, in bytes, that such a log reports; -1 if it reports nothing. */
int64_t nvrtc_spills(const char *log);

/* Name of the first kernel that spills in such a log, cut to n bytes; "" if none does. */
void nvrtc_spilling(const char *log, char *name, size_t n);

#if HAVE_CUDA

#include <cublasLt.h>
#include <cuda.h>
#include <nvrtc.h>

/* Names go through the headers' macros: cuMemAlloc becomes cuMemAlloc_v2 both as member and as symbol. */
#define CUDA_FUNCS(F)                                                                               \
	F(cuInit) F(cuDriverGetVersion) F(cuGetErrorName) F(cuGetErrorString)                       \
	F(cuDeviceGetCount) F(cuDeviceGet) F(cuDeviceGetName) F(cuDeviceGetAttribute)               \
	F(cuDevicePrimaryCtxRetain) F(cuDevicePrimaryCtxRelease) F(cuCtxSetCurrent)                 \
	F(cuStreamCreate) F(cuStreamDestroy) F(cuStreamSynchronize)                                 \
	F(cuStreamBeginCapture) F(cuStreamEndCapture) F(CAPTURE_INFO) F(cuStreamUpdateCaptureDependencies) \
	F(cuMemGetInfo) F(cuMemAlloc) F(cuMemFree) F(cuMemAllocHost) F(cuMemFreeHost)               \
	F(cuMemcpyHtoDAsync) F(cuMemcpyDtoHAsync) F(cuMemcpyDtoDAsync) F(cuMemsetD8Async)           \
	F(cuModuleLoadData) F(cuModuleUnload) F(cuModuleGetFunction)                                \
	F(cuFuncGetAttribute) F(cuFuncSetAttribute) F(cuLaunchKernel) CUDA_FUNCS_12_4(F)            \
	F(cuGraphInstantiateWithFlags) F(cuGraphUpload) F(cuGraphLaunch)                            \
	F(cuGraphExecDestroy) F(cuGraphDestroy)                                                     \
	F(cuEventCreate) F(cuEventRecord) F(cuEventSynchronize) F(cuEventElapsedTime) F(cuEventDestroy)
#if CUDA_VERSION >= 12040
#define CUDA_FUNCS_12_4(F) F(cuFuncGetParamInfo)
#else
#define CUDA_FUNCS_12_4(F)
#endif
/* Version 12 gives the two without the edges' data; there every edge is a plain one. */
#if CUDA_VERSION >= 13000
#define CAPTURE_INFO cuStreamGetCaptureInfo
#define EDGE_DATA(x) x,
#define EARLY_EDGE ((CUgraphEdgeData){.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, .type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC})
#else
#define CAPTURE_INFO cuStreamGetCaptureInfo_v2
#define EDGE_DATA(x)
#define EARLY_EDGE ((CUgraphEdgeData){0})
#endif
#if CUDA_VERSION < 12030
typedef struct CUgraphEdgeData {
	char type;
} CUgraphEdgeData;
#endif
#define LT_FUNCS(F)                                                                                 \
	F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtGetVersion) F(cublasLtGetStatusString)       \
	F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescDestroy) F(cublasLtMatmulDescSetAttribute)  \
	F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy) F(cublasLtMatrixLayoutSetAttribute) \
	F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceDestroy) F(cublasLtMatmulPreferenceSetAttribute) \
	F(cublasLtMatmulAlgoGetHeuristic) F(cublasLtMatmulAlgoCheck) F(cublasLtMatmul)
#define NVRTC_FUNCS(F)                                                                              \
	F(nvrtcVersion) F(nvrtcGetErrorString) F(nvrtcCreateProgram) F(nvrtcDestroyProgram)         \
	F(nvrtcCompileProgram) F(nvrtcGetProgramLogSize) F(nvrtcGetProgramLog)                      \
	F(nvrtcGetCUBINSize) F(nvrtcGetCUBIN)

#define API_MEMBER(name) __typeof__(&name) name;
typedef struct CudaApi { CUDA_FUNCS(API_MEMBER) } CudaApi;
typedef struct LtApi { LT_FUNCS(API_MEMBER) } LtApi;
typedef struct NvrtcApi { NVRTC_FUNCS(API_MEMBER) } NvrtcApi;

typedef struct CudaModule {
	char key[33];
	CUmodule module;
} CudaModule;

typedef struct Cuda {
	Device base;
	CudaApi cu;
	LtApi lt;
	cublasLtHandle_t blas; /* NULL until the first GEMM */
	CUdevice dev;
	CUcontext ctx;
	CUstream stream;
	CUevent event[2];      /* for timing */
	int major, minor;      /* compute capability */
	int smem_max;          /* dynamic shared memory a block may ask for, bytes */
	int driver;            /* version, as cuDriverGetVersion says it */
	char arch[16];         /* sm_90 */
	char gpu[128];         /* its name */
	char *staging;         /* pinned, STAGING bytes, used from the front; free again after each sync */
	size_t staged;
	CudaModule *module;    /* loaded for the life of the device */
	size_t nmodule, cap;
} Cuda;

/* ---- cuda_api.c ---- */

/* Opens a library by the first of its names that is found, and fills its table. */
bool cuda_open_driver(CudaApi *t, Err *e);
bool cuda_open_lt(LtApi *t, Err *e);
bool cuda_open_nvrtc(NvrtcApi *t, Err *e);

/* Every call goes through one of these: true, or e names the call, the error and where (may be ""). */
#define CU(c, where, e, call) cuda_ok(&(c)->cu, (c)->cu.call, #call, where, e)
#define LT(c, where, e, call) lt_ok(&(c)->lt, (c)->lt.call, #call, where, e)
bool cuda_ok(const CudaApi *t, CUresult r, const char *call, const char *where, Err *e);
bool lt_ok(const LtApi *t, cublasStatus_t r, const char *call, const char *where, Err *e);

/* ---- cuda_build.c ---- */

/* The module's code on the device: loaded before, a fitting cubin of the plan, the kernel cache, NVRTC. */
bool cuda_module(Cuda *c, const PlanModule *m, const char *where, CUmodule *out, Err *e);

/* ---- cuda_gemm.c ---- */

typedef struct CudaGemm {
	cublasLtMatmulDesc_t op;
	cublasLtMatrixLayout_t a, b, c; /* operands are swapped: a is the plan's B */
	cublasLtMatmulAlgo_t algo;
	float alpha, beta;
	int64_t loop;                   /* calls, one for each of the outer batch */
	int64_t step_a, step_b, step_c; /* bytes between them */
	char *A, *B, *C;
	void *work;
	size_t work_bytes;              /* that it may use */
	size_t work_used;               /* by the chosen algorithm */
	const char *where;
} CudaGemm;

/* Chooses the algorithm, by timing where the kernel cache has none; writes nothing but workspace and, when may_write, C.
   step: bytes that A, B and C move on in a loop, or NULL. */
bool cuda_gemm_prepare(Cuda *c, CudaGemm *x, const PlanGemm *g, void *const *arg, const int64_t *step, void *work, size_t work_bytes,
                       bool may_write, const char *where, Err *e);
/* Another call of a prepared product, which the preparation's steps led to; it must not outlive it. The bias is the same. */
CudaGemm cuda_gemm_again(const CudaGemm *x, void *const *arg);
bool cuda_gemm_launch(Cuda *c, const CudaGemm *x, Err *e);
void cuda_gemm_free(Cuda *c, CudaGemm *x);
void cuda_gemm_close(Cuda *c);

/* ---- device_cuda.c ---- */

/* What one captured piece of work issues on the stream. */
typedef bool (*CudaEmit)(Cuda *c, const void *work, Err *e);

/* Captures `copies` of the work, one after the other, into a graph. */
bool cuda_capture(Cuda *c, CudaEmit emit, const void *work, int copies, CUgraphExec *out, Err *e);

/* Seconds of one piece: a graph of `copies` pieces, median over `times` launches (after one to warm up). Inside a graph,
   because outside the launch from the host takes longer than many kernels. */
bool cuda_time(Cuda *c, CudaEmit emit, const void *work, int copies, int times, double *seconds, Err *e);

#endif
#endif
