/* Devices behind runtime/device.h, given programs made by hand. check_device.c */
#ifndef CHECK_DEVICE_H
#define CHECK_DEVICE_H

#include "../runtime/cpu_api.h"
#include "../runtime/cuda_api.h"
#include "check_count.h"

#define CHECK_MSG(e, word) CHECK_SAYS((e).set && strstr((e).msg, word), "message has no '%s': %s", word, (e).set ? (e).msg : "(no error)")

#define MAX_INSTR 256
#define COLUMNS 2

/* One target with one program; act, stat and param are its spaces on the device. */
typedef struct Prog {
	PlanTargetset set;
	PlanProgram p;
	PlanModule module[4];
	PlanKernel kernel[8];
	PlanGemm gemm[MAX_INSTR];
	PlanInstr instr[MAX_INSTR];
	PlanRef ref[MAX_INSTR][4];
	size_t bytes[NSPACE];
	Binding bind;
	void *column[COLUMNS];
} Prog;

void prog_init(Prog *g, const Device *d);
uint32_t prog_module(Prog *g, const char *c, const char *cuda); /* a source for each target; its index */
uint32_t prog_kernel(Prog *g, const char *name, uint32_t module, uint32_t grid, uint32_t block);
/* Appended; at line 7 of "test.yaml". */
void prog_instr(Prog *g, InstrKind kind, uint32_t index, uint32_t narg, const PlanRef *arg);
#define ARGS(...) (uint32_t)LEN(((const PlanRef[]){__VA_ARGS__})), (const PlanRef[]){__VA_ARGS__}
bool prog_alloc(Prog *g, Device *d); /* bytes[] of each space; counts a failure */
void prog_free(Prog *g, Device *d);

/* A plain batched product, packed with `pad` elements between rows; ta, tb: A, B transposed. */
PlanGemm plain_gemm(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int64_t pad, int64_t batch0, int64_t batch1);
/* Elements from the first to the last of an operand, batches and all. */
int64_t gemm_extent(int64_t rows, int64_t cols, int64_t rs, int64_t cs, int64_t n0, int64_t s0, int64_t n1, int64_t s1);

/* Kernels: "count" adds 1 to an i32; "saxpy", of blocks of 256, adds 2 x to y, 1000 f32 each. */
extern const char count_c[], count_cu[], saxpy_c[], saxpy_cu[];

/* The program must not prepare: the message has all the words. */
void expect_failure(Device *d, Prog *g, const char *file, int line, const char *const *words);
#define FAILS(d, g, ...) expect_failure(d, g, __FILE__, __LINE__, (const char *const[]){__VA_ARGS__, NULL})

/* The test of each device that the arguments name, or of all that are here, with a kernel cache that begins empty: the folder
   $MMC_CACHE. One that cannot be opened counts as skipped, except the CPU. */
void on_devices(int argc, char **argv, void (*test)(Device *d));

#endif
