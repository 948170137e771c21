/* CUDA libraries opened at run time, so that one binary runs with and without a GPU. */
#define _GNU_SOURCE
#include "cuda_api.h"

#if HAVE_CUDA

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define STR_(x) #x
#define STR(x) STR_(x) /* expands the macro cuX to cuX_v2 first */

typedef struct Symbol {
	const char *name;
	size_t off; /* in the table */
} Symbol;

/* The loader's path first, then where toolkits are installed. NULL: *why says what the loader said of the first name. */
static void *
open_library(const char *const *names, char *why, size_t n)
{
	const char *const root[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
	static const char *const sub[] = {"lib64", "lib", "targets/x86_64-linux/lib"};
	char path[1024];
	why[0] = 0;
	for (const char *const *s = names; *s; s++) {
		void *h = dlopen(*s, RTLD_LAZY | RTLD_LOCAL);
		if (h)
			return h;
		const char *text = dlerror();
		if (!*why)
			snprintf(why, n, "%s", text ? text : *s);
		for (size_t i = 0; i < LEN(root) * LEN(sub); i++) {
			if (!root[i / LEN(sub)])
				continue;
			snprintf(path, sizeof path, "%s/%s/%s", root[i / LEN(sub)], sub[i % LEN(sub)], *s);
			if ((h = dlopen(path, RTLD_LAZY | RTLD_LOCAL)))
				return h;
		}
	}
	return NULL;
}

static bool
open_table(const char *const *names, const char *remedy, const Symbol *sym, size_t nsym, void *table, Err *e)
{
	char why[512];
	void *lib = open_library(names, why, sizeof why);
	if (!lib)
		return fail(e, "cannot open %s: %s: %s", names[0], why, remedy);
	for (size_t i = 0; i < nsym; i++) {
		void *p = dlsym(lib, sym[i].name);
		if (!p)
			return fail(e, "%s has no %s, which CUDA %d.%d headers ask for: %s", names[0], sym[i].name, CUDA_VERSION / 1000,
			            CUDA_VERSION % 1000 / 10, remedy);
		memcpy((char *)table + sym[i].off, &p, sizeof p); /* ISO C has no cast from object to function pointer */
	}
	return true; /* never closed: the libraries have threads and exit handlers of their own */
}

bool
cuda_open_driver(CudaApi *t, Err *e)
{
	static const char *const names[] = {"libcuda.so.1", NULL};
#define F(name) {STR(name), offsetof(CudaApi, name)},
	static const Symbol sym[] = {CUDA_FUNCS(F)};
#undef F
	return open_table(names, "install or update the NVIDIA driver, or run on the CPU", sym, LEN(sym), t, e);
}

/* The libraries' own major version follows the toolkit's; the functions used here are the same in both. */
#if CUDA_VERSION >= 13000
#define MAJOR_NAMES(lib) {lib ".so.13", lib ".so.12", NULL}
#else
#define MAJOR_NAMES(lib) {lib ".so.12", lib ".so.13", NULL}
#endif

bool
cuda_open_lt(LtApi *t, Err *e)
{
	static const char *const names[] = MAJOR_NAMES("libcublasLt");
#define F(name) {STR(name), offsetof(LtApi, name)},
	static const Symbol sym[] = {LT_FUNCS(F)};
#undef F
	return open_table(names, "install cuBLAS of the CUDA toolkit, or set CUDA_HOME", sym, LEN(sym), t, e);
}

bool
cuda_open_nvrtc(NvrtcApi *t, Err *e)
{
	static const char *const names[] = MAJOR_NAMES("libnvrtc");
#define F(name) {STR(name), offsetof(NvrtcApi, name)},
	static const Symbol sym[] = {NVRTC_FUNCS(F)};
#undef F
	return open_table(names, "install NVRTC of the CUDA toolkit, or set CUDA_HOME, or compile the plan with --arch where NVRTC is", sym,
	                  LEN(sym), t, e);
}

/* "cuMemAlloc" of "cuMemAlloc(&p, n)". */
static int
name_length(const char *call)
{
	return (int)strcspn(call, "(");
}

bool
cuda_ok(const CudaApi *t, CUresult r, const char *call, const char *where, Err *e)
{
	const char *name = NULL, *text = NULL;
	if (r == CUDA_SUCCESS)
		return true;
	t->cuGetErrorName(r, &name);
	t->cuGetErrorString(r, &text);
	return fail(e, "%s%s%.*s: %s: %s%s", where, *where ? ": " : "", name_length(call), call, name ? name : "unknown error", text ? text : "",
	            r == CUDA_ERROR_OUT_OF_MEMORY ? ": end other programs on this GPU (nvidia-smi lists them), or lower the batch size" : "");
}

bool
lt_ok(const LtApi *t, cublasStatus_t r, const char *call, const char *where, Err *e)
{
	if (r == CUBLAS_STATUS_SUCCESS)
		return true;
	return fail(e, "%s%s%.*s: %s", where, *where ? ": " : "", name_length(call), call, t->cublasLtGetStatusString(r));
}

#else

typedef int CudaApiUnused; /* ISO C wants one declaration a file */

#endif
