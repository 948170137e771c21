/* What the emitters of CUDA kernels share: emit_cuda.c, emit_scatter.c. */
#ifndef EMIT_CUDA_H
#define EMIT_CUDA_H

#include "emit.h"

typedef struct Shape {
	int width;      /* W: elements side by side */
	int threads;    /* T: threads a row (row), 1 else */
	int chunks;     /* W-wide pieces a thread (row) */
	bool exact;     /* the row divides evenly */
	int lane_axis;  /* innermost axis of the lanes, -1 none */
} Shape;

bool cu_computed(const LVal *v);                                   /* has a line of its own */
bool cu_any_wide(const Emit *e, const Shape *s);                   /* some load or store can be four wide */
void cu_signature(Emit *e, const char *name, int block);           /* up to the opening brace */
void cu_signature_held(Emit *e, const char *name, const char *bounds); /* bounds: of a block's threads, and of blocks held at once */
void cu_value(Emit *e, const LVal *v, bool keep);
void cu_uniform(Emit *e, int level);                               /* values of the level that do not vary in the lanes */
void cu_wide_loads(Emit *e, const Shape *s, const bool *need, int stage);
void cu_forget(Emit *e);                                           /* values of a scope that has ended */
void cu_accumulate(Emit *e, int stage);                            /* adds to the reductions of the stage's values */
void cu_open_unrolled(Emit *e, const char *head);                  /* for (head) {, unrolled */
void cu_close(Emit *e);                                            /* } */
const char *cu_row_axes(Emit *e, const char *place);               /* the row's axes from its flat place r */
/* By id: values that vary in the lanes, but not along axis rows. A block that walks rows computes them once. */
bool *cu_columns(const Emit *e, int rows);
/* Marks those of them that the others and the stores look at. False if there are none. */
bool cu_columns_used(const Kernel *k, const bool *column, bool *used);
/* These, for n columns along `axis` from the place named, into shared memory. */
void cu_put_columns(Emit *e, const bool *column, int axis, const char *from, int64_t n, int threads);
int pow2_at_least(int64_t n, int most);

/* Of a scatter's two kernels, the one of k's node (P_run_sum, P_row_sum). */
void emit_scatter(Emit *e, const char *name, Launch *l);
void emit_tile(Emit *e, const char *name, Launch *l);
void emit_product(Emit *e, const char *name, Launch *l);

#endif
