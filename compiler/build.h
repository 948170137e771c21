/* Inside build.c and build_data.c: one graph of a model while it is built. */
#ifndef BUILD_H
#define BUILD_H

#include "mmc.h"

typedef struct Build {
	Arena *arena;
	Lib *lib;
	const Model *m;
	Graph *g;
	Lower *w;
	int64_t batch;
	bool training;
	Node *rows;   /* [batch] dataset rows */
	Node **window; /* per input: of a sequence, its bytes and the one after them [batch, width + 1] */
	bool failed;
} Build;

/* ---- build_data.c ---- */

Node *run_state(Graph *g, const char *name, DType dt); /* a scalar through which the runtime steers: see plan.h */
void add_run_states(Graph *g);
Node *int_like(Graph *g, int64_t v, Node *n);
Node *spread(Graph *g, Node *scalar, int64_t n);
Node *train_rows(Graph *g, int64_t batch); /* [batch] */
Node *eval_rows(Graph *g, int64_t batch);
void bind_inputs(Build *b);                /* needs b->rows; gives the inputs their names */
Val target_value(Build *b, uint32_t t);

#endif
