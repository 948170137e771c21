/* Inside build.c, build_data.c and build_update.c: one graph of a model while it is built. */
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
	int64_t parts; /* batches a step: their gradients are summed before the update */
	bool updates;  /* training: the last of the parts; those before it only sum */
	Node *rows;   /* [batch] dataset rows */
	Node **window; /* per input: of a sequence, its bytes and the one after them [batch, width + 1] */
	bool failed;
} Build;

/* The losses of a graph. */
typedef struct Heads {
	Node *total;     /* [batch] */
	Node *loss[64];  /* [batch] each */
	Node *pred[64];  /* NULL of a penalty */
	int n;
} Heads;

/* ---- build.c ---- */

const char *val_text(Build *b, const Val *v); /* "a tensor [b: 8, t: 3]" */
bool add_argument(Build *b, Loc l, Ast *call, const char *what, Val v); /* a named one; false if the call has it */

/* ---- build_data.c ---- */

Node *run_state(Graph *g, const char *name, DType dt); /* a scalar through which the runtime steers: see plan.h */
void add_run_states(Build *b);
Node *int_like(Graph *g, int64_t v, Node *n);
Node *spread(Graph *g, Node *scalar, int64_t n);
Node *train_rows(Build *b); /* [batch] */
Node *eval_rows(Graph *g, int64_t batch);
void bind_inputs(Build *b);                /* needs b->rows; gives the inputs their names */
Val target_value(Build *b, uint32_t t);

/* ---- build_update.c ---- */

/* Which group each parameter is in, and whether it is frozen; b->failed after an error. */
void group_params(Build *b);
/* What follows the losses in a training step: gradients, and the update or their sum; the log; the counters. */
void finish_step(Build *b, Heads *h);
/* The graph with its parameters as slices of the packed vectors; shadow: of their running mean. */
Graph *pack_graph(Graph *g, bool shadow);

#endif
