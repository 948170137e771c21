/* From regions to a program: instructions, kernels' source, memory. codegen.c, memory.c, planfile.c. */
#ifndef CODEGEN_H
#define CODEGEN_H

#include "loop.h"

/* A buffer of the activation arena. Instructions are numbered from 0; it is live from the first write to the last read. */
typedef struct Buf {
	Node *root;
	uint64_t bytes;
	int first, last;
	uint64_t off;
} Buf;

typedef struct MemoryPlan {
	uint64_t bytes;  /* of the arena */
	uint64_t bound;  /* greatest sum of live bytes: no plan can be smaller */
} MemoryPlan;

/* Places the buffers: best fit in several orders, the best kept. reuse false: each has a place of its own. slack: share of the
   bound that may go to small buffers that are not reused, so that what uses them can run side by side; their lives grow. */
MemoryPlan plan_memory(Buf *b, int n, bool reuse, double slack);
void memory_verify(const Buf *b, int n, uint64_t arena); /* bug() on an overlap of live buffers */

/* Where the states of all graphs of a plan live. */
typedef struct Places {
	const char **name;
	Space *space;
	uint64_t *off;
	int n, cap;
	uint64_t bytes[NSPACE];
} Places;

/* Kernel source in modules of a bounded number of kernels: they compile side by side, and NVRTC's time grows faster
   than a module. */
typedef struct Sources {
	Arena *arena;
	const char *prelude; /* in front of each */
	int per_module;      /* kernels */
	Text module[256];
	int n, kernels;      /* modules so far; kernels in the last */
} Sources;

typedef struct CodegenOptions {
	bool cuda;
	bool fuse, reuse, tf32;
	bool library;      /* for products on a GPU; false: where there is no kernel of ours, an error of the user's */
	Text *explain;     /* or NULL */
	const char *emit_dir;
} CodegenOptions;

/* One program for one target; its kernels' source is appended to src. */
PlanProgram codegen(Graph *g, const Places *p, const CodegenOptions *o, Sources *src);

/* Places what a graph keeps between runs (space act) at the beginning of its activations. At most one graph of a plan does. */
void place_kept(Arena *a, const Graph *g, Places *p);

/* State placement from the training graph, and the plan's state list (one entry a parameter). */
void place_states(Arena *a, Graph *train, Places *p, Plan *plan);

#endif
