/* A device runs programs. Two implementations: device_cpu.c, device_cuda.c. */
#ifndef DEVICE_H
#define DEVICE_H

#include "plan.h"

typedef struct Device Device;
typedef struct Exec Exec; /* a program made ready: kernels loaded, pointers resolved, on CUDA captured as a graph */

/* What an Exec is bound to: the base of each space (SP_DATA unused) and the pointer of each data column,
   all device memory. They must stay valid for the life of the Exec. */
typedef struct Binding {
	void *base[NSPACE];
	void *const *column;
	uint32_t ncolumn;
} Binding;

typedef struct InstrTime {
	double seconds; /* median over the runs */
} InstrTime;

struct Device {
	const char *name;    /* "cpu", "cuda" */
	char info[256];      /* for a person: model, memory, threads */
	uint64_t given;      /* bytes that alloc() gave so far, as they were asked for */
	int64_t launches;    /* kernels, library calls and graph launches issued by run() so far */

	/* Memory is aligned to 256 bytes and filled with zeros. NULL on failure: the message has forecast and free bytes. */
	void *(*alloc)(Device *d, size_t bytes, const char *what, Err *e);
	void (*release)(Device *d, void *p);
	bool (*upload)(Device *d, void *dst, const void *src, size_t n, Err *e);     /* host to device; returns when src can be reused */
	bool (*download)(Device *d, void *dst, const void *src, size_t n, Err *e);   /* waits for all earlier work */
	bool (*memory)(Device *d, size_t *free_bytes, size_t *total_bytes, Err *e);

	/* Compiles (through the kernel cache), loads and binds; after it, run() neither allocates nor compiles. */
	Exec *(*prepare)(Device *d, const PlanTargetset *s, const PlanProgram *p, const Binding *b, Err *e);
	bool (*run)(Device *d, Exec *x, int64_t times, Err *e); /* asynchronous; the program, `times` times in a row */
	bool (*sync)(Device *d, Err *e);
	bool (*step)(Device *d, Exec *x, uint32_t i, Err *e); /* instruction i alone; returns when it is done */
	/* Runs each instruction alone `times` times; t has p->ninstr entries. For bench. */
	bool (*profile)(Device *d, Exec *x, int times, InstrTime *t, Err *e);
	void (*drop)(Device *d, Exec *x);
	void (*close)(Device *d);
};

/* threads 0: one a core (OMP_NUM_THREADS is respected). */
Device *device_cpu_open(int threads, Err *e);

/* NULL with *e set when there is no driver or no GPU, or the build has no CUDA ("built without CUDA ..."). */
Device *device_cuda_open(int index, Err *e);

/* Kernel cache: a folder of mode 0700 ($MMC_CACHE, else $XDG_CACHE_HOME/mmc, else ~/.cache/mmc).
   Looks up `key` (hex); returns malloced bytes, or false without an error when absent or damaged. */
bool kernel_cache_get(const char *key, const char *suffix, char **out, size_t *n);
bool kernel_cache_put(const char *key, const char *suffix, const void *data, size_t n, Err *e);
/* Full path of an entry (it may not exist); malloced. */
char *kernel_cache_path(const char *key, const char *suffix, Err *e);

#endif
