/* Graphs compiled, run on a device, and compared, for every test that makes graphs. check_program.c */
#ifndef CHECK_PROGRAM_H
#define CHECK_PROGRAM_H

#include "../compiler/codegen.h"
#include "../runtime/device.h"

/* How a program is made and run. */
typedef struct CheckMode {
	const char *name;
	bool cuda, fuse, reuse, half;
	bool same;          /* the values must be bitwise what the mode before left */
} CheckMode;

/* The graph that a mode compiles, of a contracted one. */
Graph *mode_graph(Graph *contracted, const CheckMode *m);

/* One plan of all the graphs, for the mode's target; in the arena. Program i is of g[i], whose states are where places[i] says. A
   graph that is NULL is left out: its program is empty. per_module: kernels that are compiled together. */
Plan *compile_graphs(Arena *a, Graph *const *g, const Places *places, int n, const CheckMode *m, int per_module);

/* A column of a data set. */
typedef struct DataColumn {
	void *data;
	size_t bytes;
} DataColumn;

#define TAIL 1024 /* bytes behind the activations that nothing may write */

/* A program with memory of its own on a device. */
typedef struct Process {
	Device *device;
	const PlanProgram *program;
	uint64_t bytes[NSPACE];
	Binding bind;
	void *column[256];
	Exec *exec;
} Process;

/* Memory for all that program i of the plan works on (the states' sizes are at's), columns copied there, and the program ready to
   run. To be closed in any case. */
bool process_open(Process *r, Device *d, const Plan *p, int i, const Places *at, const DataColumn *column, uint32_t ncolumn, Err *e);
bool process_poison(Process *r, Err *e);                                   /* all ones (NaN) into the activations and their tail */
bool process_intact(const Process *r, Err *e);                             /* the tail is as process_poison left it */
bool process_upload(Process *r, unsigned char *const *image, Err *e); /* the states; image by space, NSTATE of them */
bool process_download(const Process *r, unsigned char *const *image, Err *e);
void *process_at(const Process *r, Space s, uint64_t off);                 /* device memory */
/* Elements of a state or an input, by its name. */
bool upload_value(Process *r, const Places *at, const char *name, const double *x, DType dt, int64_t n, Err *e);
bool process_run(Process *r, Err *e);                                      /* once, and to its end */
void process_close(Process *r);

/* Where a state or an input is among the places; bug() if it is not. */
int place_of(const Places *at, const char *name);

/* The devices that arguments name by "cpu" or "cuda", both without, that are here; how many. A GPU that is not counts as skipped. */
int open_devices(int argc, char **argv, Device *d[2]);

int64_t count_dims(const int64_t *dim, int nd);
double largest(const double *v, int64_t n); /* of absolute values, finite ones; 0 of none */

/* Greatest difference, and greatest size of `want` (or a little): rounding errors do not scale with the single element. What is equal, NaN and infinite
   or not, does not differ; infinite where one alone is NaN. */
double difference(const double *want, const double *got, int64_t n, double *scale);
/* Greatest difference relative to the greatest size of `want`, but at least to `least`; infinite where either is NaN. */
double relative_difference(const double *want, const double *got, int64_t n, double least);

/* Elements of a device's memory as numbers, and numbers as a device has them; malloced. */
void *store_values(DType t, const double *x, int64_t n);
double *load_values(DType t, const void *p, int64_t n);

#endif
