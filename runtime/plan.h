/* The plan: what mmc writes and mmrun runs. One description of every record, as X-macro rows, makes
   the C struct, the encoder, the decoder and the printer (plan.c); so the format has one home.

   File: "MMPLAN\0\1", u32 version, u32 zero, u64 payload bytes, u64 checksum of the payload, payload.
   Payload: the Plan record, fields in order; integers little-endian; a string or list is a u32 count and
   its elements. The encoding is canonical: decode then encode gives the same bytes.

   Row kinds, F(kind, name): U32, U64, I64, F64, STR (char *, never NULL), BYTES (uint8_t *x; uint32_t nx),
   INTS (int64_t *x; uint32_t nx), STRS (char **x; uint32_t nx). L(Record, name): Record *x; uint32_t nx. */
#ifndef PLAN_H
#define PLAN_H

#include "base.h"

#define PLAN_VERSION 6

/* Element types: name, enum, bytes, C type, CUDA type. */
#define DTYPES(X)                                                                                   \
	X(f32, F32, 4, "float", "float")                                                            \
	X(bf16, BF16, 2, "bf16", "__nv_bfloat16")                                                   \
	X(f16, F16, 2, "f16", "__half")                                                             \
	X(i32, I32, 4, "int32_t", "int")                                                            \
	X(u32, U32, 4, "uint32_t", "unsigned")                                                      \
	X(u8, U8, 1, "uint8_t", "unsigned char")                                                    \
	X(bool, BOOL, 1, "uint8_t", "unsigned char")
typedef enum DType {
#define X(name, en, bytes, c, cu) DT_##en,
	DTYPES(X)
#undef X
	NDTYPE
} DType;
size_t dtype_bytes(DType t);
const char *dtype_name(DType t);

/* Where a kernel argument lives. One allocation per space and program set, except data columns. */
typedef enum Space {
	SP_PARAM, /* trained parameters, one packed vector */
	SP_OPT,   /* optimizer state, packed like the parameters */
	SP_STAT,  /* running statistics, counters, fitted scalars, the loss log */
	SP_ACT,   /* what a program keeps between runs, then the activations of one step, planned by liveness */
	SP_WORK,  /* library workspace */
	SP_DATA,  /* off = index of a data column; its rows start at the pointer */
	NSPACE
} Space;
extern const char *const space_names[NSPACE];

/* ---- data: tables to columns ---- */

typedef enum TableKind {
	TB_CSV, TB_TSV, TB_LINES, TB_BYTES, TB_IDX, TB_NPY, TB_NPZ, TB_RAW, TB_CIFAR, TB_CIFAR100, TB_WAV, TB_IMAGES, TB_ARRAYS, TB_IDS16, TB_IDS32, NTABLE
} TableKind;
typedef enum FilePart { PART_ANY, PART_TRAIN, PART_VAL, PART_TEST, NPART } FilePart; /* which split the rows of a file are in; ANY: as data.split says */
typedef enum InputKind { IN_NUMBER, IN_CATEGORY, IN_TEXT, IN_TAGS, IN_TENSOR, IN_SEQUENCE } InputKind;
typedef enum Scale { SC_LOG1P = 1, SC_ZSCORE = 2, SC_MINMAX = 4, SC_UNIT = 8 } Scale; /* log1p first, then one of the others */
typedef enum Missing { MISS_ZERO, MISS_CONSTANT, MISS_MEAN, MISS_MEDIAN, MISS_MODE, MISS_DROP } Missing;
typedef enum TargetKind { TG_NUMBER, TG_BINARY, TG_CLASS, TG_LABELS, TG_TENSOR, TG_NEXT } TargetKind;
typedef enum Above { AB_CONDITION, AB_VALUE, AB_QUANTILE } Above;

#define PLAN_FILE(F, L)                                                                             \
	F(STR, name)   /* the column that it fills (idx, npy, raw), or the label of its rows (lines); else "" */ \
	F(STR, path)   /* a file, or a folder (wav, images, arrays) */                                   \
	F(U32, part)   /* FilePart */
#define PLAN_SHAPE(F, L)                                                                            \
	F(STR, name)   /* a column, or "" for the only one */                                       \
	F(U32, dtype)  /* u8, f32 */                                                                \
	F(INTS, dim)   /* of one row */
#define PLAN_TABLE(F, L)                                                                            \
	F(STR, name)                                                                                \
	F(STR, path)   /* of the only file, as the model file says it; "" where `file` lists them */ \
	F(STR, loc)    /* model.yaml:line:col, for messages */                                      \
	F(U32, kind)   /* TableKind */                                                              \
	F(U32, latin1) /* lines: the text is ISO 8859-1, not UTF-8 */                               \
	L(PlanFile, file)                                                                           \
	L(PlanShape, shape) /* raw: of each column; wav, images, arrays: of the only one */          \
	F(I64, window) /* bytes: of a row */                                                        \
	F(U32, damaged)/* wav, images, arrays: 1: a file that cannot be read is missing, not an error */
#define PLAN_INPUT(F, L)                                                                            \
	F(STR, name)                                                                                \
	F(U32, kind)   /* InputKind; the column: see column_dtype */                              \
	F(STR, from)   /* SQL expression over the joined row */                                     \
	F(U32, scale)  /* Scale bits: numbers; tensors, of which unit and zscore */               \
	F(U32, missing)/* Missing; of tensors zero or drop; ids get 0 */                            \
	F(F64, missing_value)                                                                       \
	F(I64, width)  /* elements a row: text tokens, tags, of a tensor, bytes of a sequence; else 1 */ \
	F(I64, size)   /* ids: 0 missing or padding, 1 unknown (vocabulary only), the rest fitted or hashed */ \
	F(U32, ids)    /* 0 the value is the id, 1 vocabulary fitted on the training split, 2 hash */ \
	F(I64, min_count) /* a word seen less often in the training split is unknown */             \
	F(STR, loc)                                                                                 \
	F(U32, dtype)  /* tensors: u8 or f32, of the column */                                      \
	F(INTS, dim)   /* tensors: of one row; the last is the channel that zscore is fitted for */
#define PLAN_TARGET(F, L)                                                                           \
	F(STR, name)                                                                                \
	F(U32, kind)   /* TargetKind; the column: see column_dtype */                             \
	F(STR, from)   /* next: the sequence input that it follows; it has no column of its own */ \
	F(U32, scale)  /* Scale bits: the model learns the scaled value, predictions are scaled back */ \
	F(U32, above)  /* Above, binary: `from` is a condition, or is compared (>) with a value or training quantile */ \
	F(F64, threshold)                                                                           \
	F(STR, loc)                                                                                 \
	F(U32, dtype)  /* tensors: u8 or f32 */                                                     \
	F(INTS, dim)   /* labels, tensors: of one row */                                            \
	F(I64, width)  /* their elements */                                                         \
	F(I64, size)   /* class, labels: how many classes */                                        \
	F(STRS, label) /* their names, all of them, or none: found in the data where the values are no ids */ \
	F(I64, ignore) /* labels: the value that counts nowhere, or -1 */
#define PLAN_DATA(F, L)                                                                             \
	L(PlanTable, table)                                                                         \
	F(STR, rows)   /* what follows FROM */                                                      \
	F(STR, where)  /* or "" */                                                                  \
	F(STR, group)  /* SQL expression that must not straddle splits, or "" for random rows */    \
	F(STR, stratify) /* SQL expression whose classes keep their share, or "" */                 \
	F(F64, train)  /* shares of rows (of groups where group is set); they sum to 1 */           \
	F(F64, val)                                                                                 \
	F(F64, test)                                                                                \
	F(U64, seed)                                                                                \
	L(PlanInput, input)                                                                         \
	L(PlanTarget, target)                                                                       \
	F(STR, base)   /* folder of the model file: relative table paths start there */             \
	F(STR, loc)    /* of rows */                                                                \
	F(STR, where_loc)                                                                           \
	F(STR, split_loc)                                                                           \
	F(STR, given)  /* SQL expression: train, val, test or NULL, where a row is fixed; or "" */   \
	F(STR, order)  /* SQL expression: rows are split in its order, not at random; or "" */      \
	F(I64, folds)  /* 0: none; else the rows in as many parts, the fold-th of which tests */    \
	F(I64, fold)   /* from 1 */

/* ---- state: what a checkpoint holds ---- */

typedef enum Init { INIT_CONST, INIT_NORMAL, INIT_UNIFORM, INIT_ORTHOGONAL } Init;

#define PLAN_STATE(F, L)                                                                            \
	F(STR, name)   /* path, the tensor's name in a checkpoint */                                \
	F(U32, dtype)                                                                               \
	F(U32, space)  /* SP_PARAM, SP_OPT, SP_STAT */                                              \
	F(U64, off)    /* bytes into the space */                                                   \
	F(INTS, dim)                                                                                \
	F(U32, init)                                                                                \
	F(F64, a)      /* constant; mean; low */                                                    \
	F(F64, b)      /* standard deviation; high; orthogonal: gain in a */                        \
	F(STR, fit)    /* a scalar that data fitting sets ("viral.positive_weight"), or "" */       \
	F(STR, like)   /* the state of the same shape and initial values that it is a running mean of, or "" */

/* SP_STAT scalars (i32 unless said) through which the runtime steers a program; all are state, so a checkpoint has them:
     run.step      training steps done; the train program adds 1
     run.seed      u32, of all random numbers of a run
     run.first     first dataset row of the split that a program reads
     run.rows      rows in that split; the train program reads row first + shuffle(epoch, step % steps_per_epoch * batch + i)
     run.cursor    eval: row within the split of the batch's first row; the eval program adds its batch. Rows past the
                   end read the last row: the runtime drops their outputs
     run.steps_per_epoch   rows / batch, at least 1
     run.total_steps       planned steps, for schedules
     run.part       batches of the step done, where a step has several; item of row i: (step % steps_per_epoch * accumulate + part) *
                    batch + i. The accumulate program adds 1, the train program makes it 0
     run.rate       f32, factor of the learning rate, where there is a plateau: the runtime sets it after an epoch
     run.log       f32 [log_steps, losses]: the losses of step s are in row s % log_steps */

/* ---- programs: what a device runs ---- */

#define PLAN_REF(F, L)                                                                              \
	F(U32, space)                                                                               \
	F(U64, off)    /* bytes; SP_DATA: column index */                                           \
	F(U64, bytes)  /* extent read or written; SP_DATA: bytes a row */
#define PLAN_CUBIN(F, L)                                                                            \
	F(STR, arch)   /* sm_90 */                                                                  \
	F(BYTES, code)
#define PLAN_MODULE(F, L)                                                                           \
	F(STR, source)                                                                              \
	L(PlanCubin, cubin)
#define PLAN_KERNEL(F, L)                                                                           \
	F(STR, name)   /* C: void name(void *const *arg, int64_t lo, int64_t hi); CUDA: __global__ .. */ \
	F(U32, module)                                                                              \
	F(U32, grid)   /* CUDA: blocks; CPU: pieces that threads share out */                       \
	F(U32, block)  /* CUDA threads a block; CPU: 1 */                                           \
	F(U32, smem)   /* dynamic shared memory, bytes */                                           \
	F(U32, waits)  /* CUDA: 1 if it begins with griddepcontrol.wait, so that it may be launched before those that it depends on end */

typedef enum Epilogue { EPI_NONE = 0, EPI_BIAS = 1, EPI_RELU = 2, EPI_GELU = 4 } Epilogue;

/* C[m,n] = epilogue(alpha * op(A)[m,k] op(B)[k,n] + beta * C + bias[n]), row-major, over batch0 x batch1.
   Element (i, j) of op(A) is at a + i*ars + j*acs; likewise B, C. Strides in elements; one of each pair is 1. */
#define PLAN_GEMM(F, L)                                                                             \
	F(I64, m) F(I64, n) F(I64, k)                                                               \
	F(I64, ars) F(I64, acs) F(I64, brs) F(I64, bcs) F(I64, crs)                                 \
	F(I64, batch0) F(I64, batch1)                                                               \
	F(I64, a0) F(I64, b0) F(I64, c0)                                                            \
	F(I64, a1) F(I64, b1) F(I64, c1)                                                            \
	F(F64, alpha) F(F64, beta)                                                                  \
	F(U32, dtype)  /* of A and B */                                                             \
	F(U32, ctype)  /* of C */                                                                   \
	F(U32, tf32)                                                                                \
	F(U32, epilogue)

typedef enum InstrKind { I_KERNEL, I_GEMM, I_COPY, I_ZERO, I_LOOP } InstrKind;

/* A LOOP runs the `index` instructions after it `times` times; they are not loops. In iteration i each of their arguments lies
   i * step bytes further on: so a step of a scan reads and writes its part of arrays that hold all steps. */

#define PLAN_INSTR(F, L)                                                                            \
	F(U32, kind)   /* KERNEL: args in order; GEMM: A B C [bias]; COPY: dst src; ZERO: dst; LOOP: none */ \
	F(U32, index)  /* of the kernel or gemm; LOOP: instructions inside */                        \
	L(PlanRef, arg)                                                                             \
	F(U32, nout)   /* the last nout arguments are written (COPY, ZERO: the first; GEMM: C) */   \
	F(STR, what)   /* the ops inside, for tables */                                             \
	F(STR, loc)    /* the model line, and the library's */                                      \
	F(F64, flops)                                                                               \
	F(F64, traffic)/* bytes that must move */                                                   \
	F(BYTES, dtype)/* DType of each argument's elements, or none: f32 */ \
	F(I64, times)  /* LOOP: iterations; else 0 */                                               \
	F(INTS, step)  /* inside a loop: bytes for each argument, or none if all stay in place */

#define PLAN_OUTPUT(F, L)                                                                           \
	F(STR, name)                                                                                \
	F(STR, role)   /* "prediction" [batch, ..] of target `name` (binary: a probability; class: one a class; labels: ids);
	                  "loss" [batch], eval only, named as in train.losses; "value" what predict writes, too;
	                  "place" of a decode program: the prediction at one place */ \
	F(U32, dtype)                                                                               \
	F(INTS, dim)                                                                                \
	L(PlanRef, ref) /* exactly one */

#define PLAN_PROGRAM(F, L)                                                                          \
	F(STR, name)   /* "train", "accumulate", "eval"; "trace": a training step with an instruction for each operation, for diagnose.c;
	                  "decode": the prediction at one place of a sequence, a place further each run; place 0 after zeroing kept_bytes */ \
	F(I64, batch)                                                                               \
	L(PlanGemm, gemm)                                                                           \
	L(PlanKernel, kernel)                                                                       \
	L(PlanInstr, instr)                                                                         \
	L(PlanOutput, output)                                                                       \
	F(U64, act_bytes)                                                                           \
	F(U64, act_bound)  /* liveness lower bound of the activation arena */                       \
	F(U64, work_bytes)                                                                          \
	F(U64, kept_bytes) /* of the activations, from the first: zeros before the first run, and kept from run to run */
#define PLAN_TARGETSET(F, L)                                                                        \
	F(STR, target) /* "cpu", "cuda" */                                                          \
	L(PlanModule, module)                                                                       \
	L(PlanProgram, program)

/* ---- training ---- */

#define PLAN_TRAIN(F, L)                                                                            \
	F(I64, epochs)                                                                              \
	F(I64, batch)                                                                               \
	F(I64, accumulate) /* batches a step: one less runs of program "accumulate", then one of "train" */ \
	F(U64, seed)                                                                                \
	F(STR, stop_on)    /* metric watched by early stopping and for best.safetensors: "val.loss" ... */ \
	F(I64, patience)   /* epochs without improvement; 0: never stop early */                    \
	F(U32, maximize)   /* the watched metric is better when larger */                           \
	F(STR, plateau_on) /* metric whose plateaus lower the learning rate; "": none */            \
	F(U32, plateau_maximize)                                                                    \
	F(F64, plateau_factor)    /* of the rate at a plateau: run.rate */                          \
	F(I64, plateau_patience)  /* epochs without improvement */                                  \
	F(F64, plateau_threshold) /* relative: what counts as one */                                \
	F(I64, plateau_cooldown)  /* epochs after a reduction that do not count */                  \
	F(F64, plateau_floor)     /* of run.rate */                                                 \
	F(I64, log_steps)  /* capacity of the loss log in SP_STAT, steps */                         \
	F(STRS, losses)    /* columns of the loss log: "loss", then each head */

#define PLAN_PLAN(F, L)                                                                             \
	F(STR, model)                                                                               \
	F(STR, source)     /* the model file as given */                                            \
	F(STR, source_path)                                                                         \
	F(STR, compiler)   /* mmc version and options */                                            \
	F(STR, graph)      /* the training graph as text */                                         \
	L(PlanData, data)  /* one, or none for a plan without data */                               \
	L(PlanTrain, train)                                                                         \
	L(PlanState, state)                                                                         \
	F(U64, param_bytes)                                                                         \
	F(U64, opt_bytes)                                                                           \
	F(U64, stat_bytes)                                                                          \
	L(PlanTargetset, set)

/* name in C, rows */
#define PLAN_RECORDS(R)                                                                             \
	R(PlanFile, PLAN_FILE) R(PlanShape, PLAN_SHAPE) R(PlanTable, PLAN_TABLE) R(PlanInput, PLAN_INPUT) R(PlanTarget, PLAN_TARGET)                \
	R(PlanData, PLAN_DATA) R(PlanState, PLAN_STATE) R(PlanRef, PLAN_REF)                        \
	R(PlanCubin, PLAN_CUBIN) R(PlanModule, PLAN_MODULE) R(PlanKernel, PLAN_KERNEL)              \
	R(PlanGemm, PLAN_GEMM) R(PlanInstr, PLAN_INSTR) R(PlanOutput, PLAN_OUTPUT)                  \
	R(PlanProgram, PLAN_PROGRAM) R(PlanTargetset, PLAN_TARGETSET) R(PlanTrain, PLAN_TRAIN)      \
	R(Plan, PLAN_PLAN)

#define PLAN_FIELD(kind, name) PLAN_FIELD_##kind(name)
#define PLAN_FIELD_U32(name) uint32_t name;
#define PLAN_FIELD_U64(name) uint64_t name;
#define PLAN_FIELD_I64(name) int64_t name;
#define PLAN_FIELD_F64(name) double name;
#define PLAN_FIELD_STR(name) char *name;
#define PLAN_FIELD_BYTES(name) uint8_t *name; uint32_t n##name;
#define PLAN_FIELD_INTS(name) int64_t *name; uint32_t n##name;
#define PLAN_FIELD_STRS(name) char **name; uint32_t n##name;
#define PLAN_FIELD_LIST(rec, name) rec *name; uint32_t n##name;
#define PLAN_STRUCT(rec, rows) typedef struct rec { rows(PLAN_FIELD, PLAN_FIELD_LIST) } rec;
PLAN_RECORDS(PLAN_STRUCT)

/* Data columns: inputs, then targets.
     number, binary                f32 [1]
     category, text, tags, class   i32 [width] ids
     labels                        u8 [width]
     tensors                       u8 or f32 [width]
     sequence                      u8 of 256 ids, else i32; rows of width ids one after the other, and one id more: see column_tail */
/* Bytes of an id in a file of a table that sequences are windows of; 0: of another table. */
static inline uint32_t
sequence_bytes(uint32_t table_kind)
{
	return table_kind == TB_BYTES ? 1 : table_kind == TB_IDS16 ? 2 : table_kind == TB_IDS32 ? 4 : 0;
}
DType column_dtype(const PlanData *d, uint32_t i);
int64_t column_width(const PlanData *d, uint32_t i); /* elements a row; 0: next, which reads its input */
int64_t column_tail(const PlanData *d, uint32_t i);  /* elements after the last row */
const char *column_name(const PlanData *d, uint32_t i);

/* Appends the encoded file to out. Same plan, same bytes. */
void plan_encode(const Plan *p, Text *out);

/* Decodes n bytes; every count and length is checked against what is left, the checksum and version first.
   Memory comes from a. The result is decoded, not yet verified: call plan_verify. */
Plan *plan_decode(Arena *a, const void *bytes, size_t n, Err *e);

/* What the decoder cannot see: indices in range, references inside their spaces, states that do not overlap,
   every activation written before it is read, no two live activations in one place, known enums.
   Runs on every compile and every load. */
bool plan_verify(const Plan *p, Err *e);

/* Reads, decodes and verifies a file. */
Plan *plan_load(Arena *a, const char *path, Err *e);

bool instr_writes(const PlanInstr *in, uint32_t arg); /* is this argument written? */

/* All fields as indented text, long byte fields and sources cut to their size. */
void plan_print(const Plan *p, FILE *f);

const PlanTargetset *plan_targetset(const Plan *p, const char *target);           /* NULL if absent */
const PlanProgram *plan_program(const PlanTargetset *s, const char *name, int64_t batch); /* batch 0: any */

#endif
