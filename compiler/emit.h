/* What the two emitters share: emit.c. */
#ifndef EMIT_H
#define EMIT_H

#include "loop.h"

/* How a value is written where it is used. */
typedef enum Place {
	PL_NONE,    /* not computed in this stage */
	PL_PLAIN,   /* v12 */
	PL_SAVED,   /* v12[lane]: kept from an earlier stage */
	PL_OUTER,   /* v12[j]: C, serial: one of each of the last outer axis */
	PL_VECTOR,  /* v12[w]: CUDA: loaded four at a time */
	PL_SHARED,  /* v12[column]: CUDA, tile: in shared memory */
} Place;

typedef struct Emit {
	Text *t;
	Kernel *k;
	bool cuda;
	unsigned lanes;     /* mask of the axes that vary in the lane loop */
	unsigned outer_lane;/* C, serial: the outer axis walked inside */
	Place *place;       /* by value id */
	bool *saved;        /* by value id: used in a later stage than its own */
	bool masks;         /* C: choices by masks, which cannot be mispredicted */
	bool unrolled;      /* C: the inner loop is of a few places */
	const char *lane;   /* subscript of saved values */
	const char *column; /* CUDA: subscript of shared ones */
	bool *ahead;        /* CUDA, by value id: loaded a row ahead, into n12; or NULL */
	const char *store_if; /* CUDA: condition in front of stores, or "" */
	bool hidden;        /* C: ids are hidden from the compiler's optimiser */
	bool *drawn;        /* CUDA, tile, by value id: random bits that stand in r12[e]; or NULL */
	int indent;
} Emit;

void emit_init(Emit *e, Text *t, Kernel *k, bool cuda);
void emit_line(Emit *e, const char *fmt, ...) PRINTF(2, 3);
const char *ctype(DType t); /* the same names in C and CUDA: the preludes define bf16 and f16 */
char *ix_text(Emit *e, const Ix *ix);      /* malloc'd */
char *val_ref(Emit *e, const LVal *v);     /* malloc'd: v as an operand */
char *val_expr(Emit *e, const LVal *v);    /* malloc'd: what computes v */
int arg_index(const Kernel *k, const Node *base);
int load_index(const Kernel *k, const LVal *v); /* the argument that it reads, which begins at load_start */
char *load_text(Emit *e, const LVal *v);   /* malloc'd: a3[i0 * 7 + i1] */
char *random_text(Emit *e, const LVal *v, const char *call); /* malloc'd: the call, up to its first argument, and seed, step, site, element) */
void put_guard(Emit *e, Text *t, const Guard *g); /* its conditions, as an expression */
const char *reduce_init(const LVal *v);
/* Marks by id the values that vary in the lanes and are needed for what stage does: reductions over values of that
   level, row stores of it. Saved values of earlier stages are not looked behind. False if there are none to do. */
bool stage_values(Emit *e, int stage, bool *need);
void need_value(const Emit *e, bool *need, const LVal *v); /* marks v and what it is made of, if they vary in the lanes */
bool is_lane(const Emit *e, const LVal *v);
void axis_lines(Emit *e, const char *flat, int first, int n); /* const int i0 = .., i1 = ..; from a row-major place */


/* emit_product_c.c: the body of a product's kernel, between its braces. */
void emit_product_c(Emit *e, Launch *l);

#endif
