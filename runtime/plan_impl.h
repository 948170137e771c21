/* What plan.c, plan_verify.c, plan_flow.c and their test share. */
#ifndef PLAN_IMPL_H
#define PLAN_IMPL_H

#include "plan.h"

/* ---- plan.c: the records as data: one row a field, generated from the X-macros of plan.h.
   Encoder, decoder, printer, the generic half of the verifier and the tests walk these rows. ---- */

typedef enum FieldKind { K_U32, K_U64, K_I64, K_F64, K_STR, K_BYTES, K_INTS, K_STRS, K_LIST } FieldKind;

typedef struct Record Record;
typedef struct Field {
	FieldKind kind;
	size_t at;                    /* offset of the value or of the pointer to the elements */
	size_t count;                 /* offset of the uint32_t count: BYTES, INTS, STRS, LIST */
	const Record *(*record)(void); /* of a LIST's elements */
	const char *name;
} Field;

struct Record {
	const char *name;
	size_t bytes;     /* sizeof the struct */
	size_t min_bytes; /* of the shortest encoding: every string and list empty */
	uint32_t nfield;
	const Field *field;
};

const Record *plan_record(void); /* of Plan itself; the others hang from its lists */

/* The known values of an enum field: 0 .. n-1, or any mix of the lowest n bits. */
typedef struct FieldNames {
	const Record *(*record)(void);
	size_t at;
	bool bits;
	uint32_t n;
	const char *const *name;
} FieldNames;
const FieldNames *field_names(const Record *r, const Field *f); /* NULL: any value is known */

/* Value, elements and count of field f in the record at p. */
uint32_t field_u32(const Field *f, const void *p);
const void *field_pointer(const Field *f, const void *p);
uint32_t field_count(const Field *f, const void *p);
size_t field_element(const Field *f); /* bytes of one element in memory */

uint64_t plan_checksum(const uint8_t *p, size_t n); /* of the payload */
bool utf8_valid(const char *s, size_t n); /* strict: no NUL, no overlong form, no surrogate */

/* ---- plan_flow.c: activations through the instruction list ---- */

/* An operand of a gemm, in elements: lines of `len` contiguous ones. */
typedef struct Operand {
	int64_t len;
	int64_t count[3], stride[3]; /* lines, batch0, batch1 */
	size_t element;              /* bytes */
	bool written;
} Operand;

/* Operand number arg (A, B, C, bias) of g, whose sizes are positive; false if BLAS cannot take its strides. */
bool gemm_operand(const PlanGemm *g, uint32_t arg, Operand *o);
bool operand_extent(const Operand *o, uint64_t *bytes); /* first to last byte touched; false on overflow */


typedef struct Flow Flow;
Flow *flow_new(const PlanProgram *g);
void flow_free(Flow *f);
void flow_keep(Flow *f, uint64_t bytes); /* what the program keeps between runs is there before its first instruction */
/* The next instruction, number `by`, its references checked; again: it has run before, in a loop, with other references.
   Messages do not name it. */
bool flow_instr(Flow *f, const PlanInstr *in, uint32_t by, bool again, Err *e);
bool flow_read(const Flow *f, uint64_t lo, uint64_t hi, const char *what, Err *e);

#endif
