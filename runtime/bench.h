/* What bench and profile share: a program that is timed, the device's measured ceilings, the life of activations, a page. */
#ifndef BENCH_H
#define BENCH_H

#include "session.h"

/* ---- ceiling.c: what the device can do, measured ---- */

#define NCOPY 5
#define MAX_RATES 4

/* Products of one precision: operands of dtype, rounded to tf32 where they are f32 and tf32 is set; results of ctype. */
typedef struct Rate {
	uint32_t dtype, ctype, tf32;
	double flops; /* a second */
} Rate;

typedef struct Ceilings {
	uint64_t bytes[NCOPY];   /* that a copy touches, read and written; ascending */
	double bandwidth[NCOPY]; /* bytes a second, both counted; 0: there was no room for it */
	Rate rate[MAX_RATES];
	uint32_t nrate;
	double seconds;          /* spent on measuring */
} Ceilings;

/* What instruction i of a program costs in one run of it, all iterations of its loop together. */
typedef struct Cost {
	int64_t times;       /* runs of it */
	double bytes, flops; /* that must move, that must be done */
	double bound;        /* seconds: no less on a device of these ceilings */
	double seconds;      /* measured, run alone */
	bool critical;       /* on the longest chain of instructions that wait for each other */
} Cost;

/* Adds the precisions of a program's products to c, which {0} begins; f32 where there is none. */
void ceilings_want(Ceilings *c, const PlanProgram *p);

/* Times copies of several sizes and large products as programs of one instruction, in less than a second on a device that
   is free. room: bytes of memory to use at most; what needs more is left out. target: the device's name. */
bool ceilings_measure(Ceilings *c, Device *d, uint64_t room, Err *e);

/* Bytes a second for n of them: the best copy of all that touch as much, or more. A small working set so has the bandwidth of
   the cache that holds it. 0: unknown. */
double ceilings_bandwidth(const Ceilings *c, double n);

/* Sets times, bytes, flops and bound of each of p's instructions: the roofline (Williams, Waterman, Patterson 2009). */
void ceilings_bound(const Ceilings *c, const PlanProgram *p, Cost *cost);

const char *rate_name(const Rate *r); /* "f32", "tf32", "bf16" */

/* ---- lifetime.c: dependencies and memory over a program ---- */

/* Every instruction with the extents of all its iterations, so that its arguments say what it touches. Memory from a. */
PlanProgram program_widen(Arena *a, const PlanProgram *p);

/* Bytes [lo, hi) of the activation arena that hold a value from instruction `first`, which writes it, to `last`, which reads it
   last. A value that is overwritten in parts has a Life for each part. */
typedef struct Life {
	uint64_t lo, hi;
	uint32_t first, last;
} Life;

Life *program_lives(const PlanProgram *p, uint32_t *n); /* in order of `first`; malloced */
uint64_t lives_bytes(const Life *l, uint32_t n, uint32_t i); /* alive while instruction i runs */

/* Seconds of the longest chain of instructions that wait for each other, seconds[i] each; on[i]: whether i is on it, or NULL. */
double longest_chain(Arena *a, const PlanProgram *p, const double *seconds, bool *on);

/* ---- bench.c ---- */

typedef struct Bench {
	Session s;
	Options o;         /* the plan's own path in it */
	const PlanProgram *p;
	Step step;         /* of p; where it trains, with all parts of a step */
	int64_t rows;      /* a step */
	double *ms;        /* a step, per window, sorted */
	int64_t nwindow, steps; /* a window */
	double launches;   /* a step */
	Cost *cost;        /* per instruction of p */
	double sum, chain; /* seconds: of all instructions, of the longest chain */
	double bound_sum, bound_chain; /* the same, of their bounds */
} Bench;

/* A program ready to be timed: plan, device, columns, states. bench_close also after a failure. */
bool bench_open(Bench *b, const Options *o, const char *plan, Err *e);
bool bench_prepare(Bench *b, Err *e);
void bench_close(Bench *b);

/* Runs n benches until their caches, clocks and pages are warm, then o->windows windows of each, in turn. */
bool bench_windows(Bench *b, int n, Err *e);

bool bench_ceilings(Bench *b, int n, Ceilings *c, Err *e); /* before bench_prepare: nothing is allocated then */
bool bench_instrs(Bench *b, const Ceilings *c, Err *e); /* times each instruction alone: cost, sums and chains */

double bench_ms(const Bench *b); /* of a step: the median of the windows */

/* What an instruction does and its place in the model, for a person: "dot 784x400x128 (vae.yaml:23)". In a's memory. */
const char *instr_title(Arena *a, const PlanInstr *in);
extern const char *const instr_kinds[I_LOOP + 1];

/* ---- bench_data.c ---- */

/* Random columns of the plan's schema in place of its tables; all rows are in the training split. */
void bench_columns(Session *s, int64_t rows);

/* ---- bench_html.c ---- */

/* A page that stands alone: figures, timeline, roofline, memory over the step, a table. Well-formed as XML, too. */
void bench_page(Text *t, const Bench *b, const Ceilings *c);

#endif
