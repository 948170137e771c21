/* What the two devices share: references to pointers, the operands of a GEMM, places for messages. Private to them. */
#ifndef DEVICE_COMMON_H
#define DEVICE_COMMON_H

#include "device.h"

/* One operand of a GEMM as a BLAS wants it: row-major with `ld` elements between rows, or the transpose of that. */
typedef struct GemmOperand {
	bool trans;
	int64_t ld;
} GemmOperand;

GemmOperand gemm_a(const PlanGemm *g);
GemmOperand gemm_b(const PlanGemm *g);

/* Shapes and strides that no BLAS can take are refused here, with the reason. */
bool gemm_check(const PlanGemm *g, const char *where, Err *e);

/* "gemm dense (model.yaml:12:5)": what an instruction is and where it comes from; memory from a. */
const char *instr_where(Arena *a, const PlanTargetset *s, const PlanProgram *p, const PlanInstr *in);

/* Pointers of all arguments, memory from a. Checks index, argument count and that each base is there. */
void **instr_bind(Arena *a, const PlanProgram *p, const PlanInstr *in, const Binding *b, const char *where, Err *e);

/* Loops are whole and not in one another; the functions below rely on it. */
bool loops_fit(const PlanProgram *p, Err *e);

/* Instructions that one run of the program runs, its loops included. */
int64_t program_runs(const PlanProgram *p);

/* A program whose loops are written out, for a device that records them. */
typedef struct Origin {
	uint32_t instr; /* of the program */
	uint32_t first; /* the same one in its loop's first iteration */
} Origin;
typedef struct Unrolled {
	PlanProgram program;
	Origin *from; /* of each instruction */
} Unrolled;
Unrolled program_unroll(Arena *a, const PlanProgram *p);

/* used[i]: program p runs a kernel of module i. Memory from a. */
bool *modules_used(Arena *a, const PlanTargetset *s, const PlanProgram *p, Err *e);

/* The first kernels of a module, for messages: "kernels add_1, mul_2 ...". */
const char *module_where(Arena *a, const PlanTargetset *s, const PlanProgram *p, uint32_t module);

/* A kernel-cache key, 32 hex digits: two FNV-1a streams, so that 2^32 entries are no worry. */
typedef struct CacheKey {
	uint64_t h[2];
	char hex[33];
} CacheKey;
void key_start(CacheKey *k, const char *kind);
void key_add(CacheKey *k, const void *p, size_t n); /* the length is hashed too: fields cannot run together */
void key_adds(CacheKey *k, const char *s);
const char *key_hex(CacheKey *k);

double median(double *x, int n); /* reorders x */

#endif
