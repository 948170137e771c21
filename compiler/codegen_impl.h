/* What codegen.c and scan_code.c share: a program under construction. */
#ifndef CODEGEN_IMPL_H
#define CODEGEN_IMPL_H

#include "codegen.h"

typedef struct Use { /* one argument of one instruction, until buffers have places */
	const Fusion *f; /* whose node it is */
	Node *node;      /* stored node, state, or fetch */
	uint64_t off, bytes; /* into the node's place; bytes 0: all of it */
	int64_t step;    /* bytes further on in each iteration of the loop */
	bool written;
} Use;

typedef struct Step {
	struct Gen *gen;
	PlanInstr instr;
	Use use[40];
	int nuse;
	int loop;        /* the step that begins the loop that it is in, or -1 */
} Step;

/* The loop whose body is being generated. */
typedef struct LoopGen {
	Fusion *f, *body; /* of the graph around it, of the body */
	Node *scan;
	int first;        /* its step */
} LoopGen;

typedef struct Gen {
	Graph *g;
	Arena *arena;
	Fusion *f;
	const Places *places;
	const CodegenOptions *o;
	PlanProgram p;
	Step *step;
	int nstep;
	Sources *src;
	const char **text; /* of each kernel, with NAME for its name */
	LoopGen *loop;   /* NULL outside of loops */
} Gen;

Step *step_new(Gen *c, InstrKind kind, const Node *n, const char *what);
void add_use(Step *s, Node *n, uint64_t off, uint64_t bytes, bool written);
double node_bytes(const Node *n);
void gen_regions(Gen *c);

/* scan_code.c */
void scan_results(Graph *g);           /* a P_result for every output of every scan: they are places in memory */
size_t scan_steps_bound(const Graph *g); /* instructions of all bodies, at most */
void gen_scan(Gen *c, int region);
void scan_use(const LoopGen *l, Use *u); /* an argument in the body as one of the graph around it, if it is */

#endif
