/* Graphs against the interpreter, shared by the tests that make graphs: op_test.c from the library's tests, graph_test.c
   from graph text, fuzz_graph_test.c at random. check_graph.c, check_bound.c. */
#ifndef CHECK_GRAPH_H
#define CHECK_GRAPH_H

#include "check_program.h"

/* A graph under test: its outputs, then the states that it updates, are the values compared. */
typedef struct Check {
	Graph *g;               /* as made; inputs in place of parameters */
	Graph *cpu, *gpu, *half;/* as each target compiles it, half: with products in bf16 */
	double **input, **state;/* values, by index; malloced */
	int nvalue;
	double **want;          /* by value, from the interpreter; malloced */
	double **bound;         /* greatest error of float32 arithmetic, each element; NULL: relative to the greatest */
	double **want_half, **bound_half;
	void **bits;            /* by value: what the last run without `same` left */
	int passed, failed;
	Text messages;          /* a line a failure */
	double skip;            /* NaN or unbounded elements, of all compared; see check_run */
	double compared;
} Check;

/* Counts; a failure's message is kept. Returns ok. */
bool check_that(Check *c, bool ok, const char *fmt, ...) PRINTF(3, 4);
void check_free(Check *c);

/* Number i of a stream of random ones: a seed gives the same on every machine. */
uint64_t random_next(uint64_t *s);                 /* splitmix64 */
int64_t random_below(uint64_t *s, int64_t n);
double random_normal(uint64_t *s);

/* A copy, in which every parameter is an input "param.NAME" behind the others; with `states` every state one "state.NAME" behind these. */
Graph *given_to_inputs(Graph *g, bool states);

/* Values of inputs and states, by their names and the seed. */
void check_fill(Check *c, uint64_t seed);
/* Wanted values by the interpreter; the passes, whose graphs must give the same in float64. bounds: as Check.bound says;
   half: with the graph of bf16 products, too. */
void check_reference(Check *c, bool bounds, bool half);

extern const CheckMode check_modes[]; /* ends with a NULL name */

/* compile_graphs, places made here; NULL cases are left out. */
Plan *check_plan(Check *const *c, int n, const CheckMode *m, int per_module, Places *places);
/* Makes, runs and compares all, with a poisoned arena. */
void check_run(Check *const *c, int n, const CheckMode *m, Device *d, int per_module);

/* Compiles all for a GPU that need not be there: every kernel compiles, and none spills registers. Failures are case 0's.
   False: there is no NVRTC here. */
bool check_cubins(Check *const *c, int n, const CheckMode *m, const char *arch);

/* check_bound.c: a graph whose outputs are those of g (and its updates), then as many bounds of their errors when each
   operation rounds to float32 and sums go in any order: running error analysis (Wilkinson 1963; Higham, "Accuracy and
   Stability of Numerical Algorithms", 3.3). Unbounded elements are at least BOUND_NONE, or NaN. */
Graph *bound_graph(Graph *g);
#define BOUND_NONE 1e29

/* check_random.c: a valid graph of random steps; the output of role "loss", if there is one, is a scalar to differentiate. */
Graph *random_graph(Arena *a, Lib *lib, uint64_t seed);

/* check_shrink.c: the graph with change number k of those that make it smaller: without an output, with a node replaced by
   one of its operands, by an input or by a constant, with a size made smaller. NULL: k is past the last; *valid false:
   this one makes no graph. Inputs and states that nothing reads go. */
Graph *shrink(Graph *g, int k, bool *valid);

#endif
