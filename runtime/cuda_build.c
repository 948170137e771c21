/* CUDA sources to cubins with NVRTC, and cubins to modules on the device.

   The ptxas report (registers, spills) comes with --ptxas-options=-v in NVRTC's log. From 12.9 NVRTC keeps a cache of its own,
   and what comes from it has no report: --no-cache; the kernel cache does that work here. */
#define _GNU_SOURCE
#include "cuda_api.h"

#include <stdlib.h>
#include <string.h>

int64_t
nvrtc_spills(const char *log)
{
	static const char *const words[] = {" bytes spill stores", " bytes spill loads"};
	int64_t sum = 0;
	bool any = false;
	for (size_t i = 0; i < LEN(words); i++)
		for (const char *p = log; (p = strstr(p, words[i])); p += strlen(words[i])) {
			const char *digit = p;
			while (digit > log && digit[-1] >= '0' && digit[-1] <= '9')
				digit--;
			sum += strtoll(digit, NULL, 10);
			any = true;
		}
	return any ? sum : -1;
}

void
nvrtc_spilling(const char *log, char *name, size_t n)
{
	static const char mark[] = "Function properties for ", none[] = " 0 bytes spill stores, 0 bytes spill loads";
	name[0] = 0;
	for (const char *p = log; (p = strstr(p, mark));) {
		p += strlen(mark);
		const char *end = strchr(p, '\n'), *next = end ? strchr(end + 1, '\n') : NULL, *clean = strstr(p, none);
		if (end && !(clean && (!next || clean < next))) {
			snprintf(name, n, "%.*s", (int)(end - p), p);
			return;
		}
	}
}

#if HAVE_CUDA

#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

/* Precise arithmetic; no contraction to FMA, as on the CPU (cpu_build.c). */
static const char *const flags[] = {"-default-device", "--std=c++17", "--fmad=false", "--ptxas-options=-v"};

/* Folder with cuda_bf16.h, "--include-path=..."; NVRTC knows no headers but its own built-in ones. False if there is none. */
static bool
find_headers(const NvrtcApi *t, char *out, size_t n)
{
	static const char *const sub[] = {"../include", "../../include", "../../../include"};
	char path[PATH_MAX], real[PATH_MAX], *slash;
	void *symbol;
	Dl_info info;
	memcpy(&symbol, &t->nvrtcVersion, sizeof symbol);
	if (!dladdr(symbol, &info) || !realpath(info.dli_fname, real) || !(slash = strrchr(real, '/')))
		return false;
	*slash = 0;
	for (size_t i = 0; i < LEN(sub); i++) {
		if (snprintf(path, sizeof path, "%s/%s/cuda_bf16.h", real, sub[i]) < (int)sizeof path && !access(path, R_OK))
			return snprintf(out, n, "--include-path=%s/%s", real, sub[i]) < (int)n;
	}
	return false;
}

static char *
program_log(const NvrtcApi *t, nvrtcProgram prog)
{
	size_t n = 0;
	t->nvrtcGetProgramLogSize(prog, &n);
	char *log = xcalloc(n + 1, 1);
	if (n)
		t->nvrtcGetProgramLog(prog, log);
	return log;
}

static nvrtcResult
compile(const NvrtcApi *t, nvrtcProgram prog, const char *source, const char *arch)
{
	const char *option[LEN(flags) + 4];
	char arch_option[64], include[PATH_MAX + 32];
	int n = 0, major = 0, minor = 0;
	t->nvrtcVersion(&major, &minor);
	/* wgmma is for this architecture alone, and there is no other GPU of its major version */
	snprintf(arch_option, sizeof arch_option, "--gpu-architecture=%s%s", arch, !strcmp(arch, "sm_90") ? "a" : "");
	option[n++] = arch_option;
	for (size_t i = 0; i < LEN(flags); i++)
		option[n++] = flags[i];
	if (major * 100 + minor >= 1209) {
		option[n++] = "--no-cache";
		option[n++] = "--minimal"; /* no textures, no launches from kernels: the compiler starts sooner */
	}
	if (strstr(source, "#include") && find_headers(t, include, sizeof include))
		option[n++] = include;
	return t->nvrtcCompileProgram(prog, n, option);
}

bool
nvrtc_compile(const char *source, const char *arch, char **cubin, size_t *n, char **log, Err *e)
{
	NvrtcApi t;
	nvrtcProgram prog = NULL;
	if (!cuda_open_nvrtc(&t, e))
		return false;
	nvrtcResult r = t.nvrtcCreateProgram(&prog, source, "kernels.cu", 0, NULL, NULL);
	if (r != NVRTC_SUCCESS)
		return fail(e, "nvrtcCreateProgram: %s", t.nvrtcGetErrorString(r));
	r = compile(&t, prog, source, arch);
	char *text = program_log(&t, prog);
	char *code = NULL;
	if (r != NVRTC_SUCCESS) {
		fail(e, "NVRTC for %s: %s:\n%.1500s", arch, t.nvrtcGetErrorString(r), text);
	} else if ((r = t.nvrtcGetCUBINSize(prog, n)) || !*n) {
		fail(e, "NVRTC made no cubin for %s: %s: give a real architecture, such as sm_90", arch, t.nvrtcGetErrorString(r));
	} else {
		code = xmalloc(*n);
		if ((r = t.nvrtcGetCUBIN(prog, code))) {
			fail(e, "nvrtcGetCUBIN: %s", t.nvrtcGetErrorString(r));
			free(code);
			code = NULL;
		}
	}
	t.nvrtcDestroyProgram(&prog);
	if (code)
		*cubin = code;
	if (code && log)
		*log = text;
	else
		free(text);
	return code != NULL;
}

/* The plan's best cubin: of the same major version and the highest minor one not above the device's. An architecture-specific
   one (sm_90a) runs on exactly its own and is preferred there. */
static const PlanCubin *
pick_cubin(const PlanModule *m, int major, int minor)
{
	const PlanCubin *best = NULL;
	int best_score = -1;
	for (uint32_t i = 0; i < m->ncubin; i++) {
		char *end;
		if (strncmp(m->cubin[i].arch, "sm_", 3))
			continue;
		long sm = strtol(m->cubin[i].arch + 3, &end, 10);
		bool exact = sm == major * 10 + minor;
		int score = (int)(sm % 10) * 2 + (*end == 'a');
		if (sm / 10 != major || sm % 10 > minor || (*end && !exact))
			continue;
		if (score > best_score) {
			best = &m->cubin[i];
			best_score = score;
		}
	}
	return best;
}

static bool
load(Cuda *c, const char *key, const void *code, const char *where, CUmodule *out, Err *e)
{
	if (!CU(c, where, e, cuModuleLoadData(out, code)))
		return false;
	CudaModule *m = &VEC_PUSH(c->module, c->nmodule, c->cap);
	memcpy(m->key, key, sizeof m->key);
	m->module = *out;
	return true;
}

static bool
find_loaded(const Cuda *c, const char *key, CUmodule *out)
{
	for (size_t i = 0; i < c->nmodule; i++)
		if (!strcmp(c->module[i].key, key)) {
			*out = c->module[i].module;
			return true;
		}
	return false;
}

static bool
build(Cuda *c, const PlanModule *m, const char *where, CUmodule *out, Err *e)
{
	NvrtcApi t;
	CacheKey k;
	int version[2] = {0};
	char *code;
	size_t n;
	Err ignored = {0}, why = {0}; /* ignored: no cache, or a damaged entry, which is compiled again */
	if (!cuda_open_nvrtc(&t, e))
		return false;
	t.nvrtcVersion(&version[0], &version[1]);
	key_start(&k, "nvrtc 1");
	key_add(&k, version, sizeof version);
	for (size_t i = 0; i < LEN(flags); i++)
		key_adds(&k, flags[i]);
	key_adds(&k, c->arch);
	key_adds(&k, m->source);
	if (find_loaded(c, key_hex(&k), out))
		return true;
	if (kernel_cache_get(k.hex, ".cubin", &code, &n)) {
		bool ok = load(c, k.hex, code, where, out, &ignored);
		free(code);
		if (ok)
			return true;
	}
	if (!nvrtc_compile(m->source, c->arch, &code, &n, NULL, &why))
		return fail(e, "%s: %s", where, why.msg);
	kernel_cache_put(k.hex, ".cubin", code, n, &ignored);
	bool ok = load(c, k.hex, code, where, out, e);
	free(code);
	return ok;
}

bool
cuda_module(Cuda *c, const PlanModule *m, const char *where, CUmodule *out, Err *e)
{
	const PlanCubin *cubin = pick_cubin(m, c->major, c->minor);
	CacheKey k;
	if (!cubin)
		return build(c, m, where, out, e);
	key_start(&k, "cubin");
	key_add(&k, cubin->code, cubin->ncode);
	return find_loaded(c, key_hex(&k), out) || load(c, k.hex, cubin->code, where, out, e);
}

#else

bool
nvrtc_compile(const char *source, const char *arch, char **cubin, size_t *n, char **log, Err *e)
{
	(void)source, (void)arch, (void)cubin, (void)n, (void)log;
	return fail(e, "built without CUDA headers: cannot compile for %s: install the CUDA toolkit's headers and build again", arch);
}

#endif
