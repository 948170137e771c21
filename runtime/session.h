/* What the commands of mmrun share, sectioned by file. */
#ifndef SESSION_H
#define SESSION_H

#include "options.h"
#include "runtime.h"

#include <jansson.h>

/* ---- main.c: one function a command; *status is the exit status of a run that did not fail ---- */

#define X(name, letter, args, help) bool run_##name(const Options *o, int *status, Err *e);
COMMANDS(X)
#undef X

/* ---- session.c: a plan on a device ---- */

/* The scalars of plan.h that steer a program: name in C, state name. */
#define RUN_SCALARS(X)                                                                              \
	X(STEP, "run.step") X(SEED, "run.seed") X(FIRST, "run.first") X(ROWS, "run.rows")           \
	X(CURSOR, "run.cursor") X(STEPS_PER_EPOCH, "run.steps_per_epoch") X(TOTAL_STEPS, "run.total_steps")
typedef enum RunScalar {
#define X(en, name) RUN_##en,
	RUN_SCALARS(X)
#undef X
	NRUN
} RunScalar;

#define NSTATE (SP_STAT + 1) /* the spaces that hold state come first: PARAM, OPT, STAT */

typedef struct Session {
	Arena arena;
	const char *path;     /* of the plan, for messages */
	const Plan *plan;
	const PlanData *schema;  /* or NULL */
	const PlanTrain *train;  /* or NULL */
	const PlanTargetset *set;
	const char *out;      /* folder of the run */
	char *last, *best;    /* paths of its checkpoints */
	Device *device;
	const char *note;     /* why --device auto took the CPU, or NULL */
	Dataset data;
	Fit *fit;             /* or NULL: synthetic columns, every fitted scalar is 1 */
	uint64_t data_hash;   /* dataset_hash, when it was asked for first; else 0 */
	bool synthetic;       /* data is in the arena, not dataset_free's */
	uint64_t seed, split_seed;
	uint64_t memory_limit; /* bytes of device memory; UINT64_MAX: what is free */
	int64_t fold;         /* 0: none */
	void *base[NSPACE];   /* device memory */
	uint64_t bytes[NSPACE];
	void **column;        /* device memory; columns of the schema in order */
	uint64_t data_bytes;
	unsigned char *image[NSTATE]; /* host copy of the state, made current by session_save and session_load */
	const PlanState *scalar[NRUN]; /* NULL where the plan has no use for it */
} Session;

/* Loads the plan and opens the device that o->device names. out: the folder of the run, NULL for runs/MODEL. */
bool session_open(Session *s, const Options *o, const char *out, Err *e);
void session_close(Session *s); /* also after a failed open */

/* Reads the tables (data_build) and checks the columns. */
bool session_build(Session *s, const Options *o, FILE *report, Err *e);

/* Raw rows for prediction with s->fit (data_apply); in: file that replaces the first table, or NULL. */
bool session_apply(Session *s, const Options *o, const char *in, const char *const *record, Err *e);

/* Allocates every space once for these programs, after checking the forecast against the device's free memory,
   and uploads the columns. The optimizer's space is left out unless `training`. */
bool session_allocate(Session *s, const PlanProgram *const *p, size_t n, bool training, Err *e);

/* Sets every state to its initial value for s->seed. */
bool session_init(Session *s, Err *e);

Exec *session_prepare(Session *s, const PlanProgram *p, Err *e);
bool session_set(Session *s, RunScalar which, int64_t v, Err *e); /* does nothing where the plan has no such scalar */

/* The program of that name; batch 0: any. NULL with a message that lists what there is. */
const PlanProgram *session_program(const Session *s, const char *name, int64_t batch, Err *e);

/* A training step: parts - 1 runs of the program that sums gradients, then one of that which updates. */
typedef struct Step {
	const PlanProgram *train, *accumulate; /* accumulate: NULL where parts is 1 */
	Exec *x, *part;                        /* of the two */
	int64_t parts;
} Step;

bool step_prepare(Step *step, Session *s, Err *e);
bool step_run(const Step *step, Session *s, int64_t n, Err *e); /* asynchronous; n steps from the first part of one */
void step_drop(Step *step, Session *s);

/* Which rows a program reads: those of [first, first + rows), from the first. */
bool session_rows(Session *s, int64_t first, int64_t rows, Err *e);

/* Two lines about the device and its memory. */
void session_describe(const Session *s, FILE *f);

/* The plan's tables with the user's replacements: pairs for DataOptions. */
const char *const *session_tables(Session *s, const Options *o, const char *in);

/* Folder of encoded columns for --cache and --no-cache, made if need be; NULL: none, also where the usual one cannot be made. */
bool session_cache_dir(Session *s, const Options *o, const char **dir, Err *e);

bool make_folders(const char *path, int mode, Err *e); /* mkdir -p */
const char *human_bytes(char buf[32], uint64_t n);     /* "4.9 MB"; returns buf */
FILE *open_output(const char *path, const char *mode, Err *e);
bool close_output(FILE *f, const char *path, Err *e);  /* reports a full disk; f may be NULL */
void write_cell(FILE *f, const char *s);               /* of a CSV file, quoted where RFC 4180 asks for it */
bool write_split(const Dataset *d, const char *path, Err *e); /* --split-out */

/* ---- state.c: checkpoints of a session ---- */

/* Writes every state with what ties it to model and data, and npair more metadata pairs. No times, no paths: equal states, equal bytes. */
bool session_save(Session *s, const char *path, const char *const *extra, uint32_t npair, Err *e);

/* Opens a checkpoint and checks that it is of this plan's model. */
bool session_open_checkpoint(const Session *s, const char *path, Checkpoint *c, Err *e);

/* Uploads its states; only after session_allocate. */
bool session_load(Session *s, const Checkpoint *c, const char *path, Err *e);

/* Checks that the columns of this session were fitted as the checkpoint's were. */
bool session_same_data(const Session *s, const Checkpoint *c, const char *path, Err *e);

/* Checks that their elements are the same, too: pictures, arrays and sound fit as before whatever is in them. */
bool session_same_values(Session *s, const Checkpoint *c, const char *path, Err *e);

/* --ckpt to a path: "best", "last", NULL (best) or a file. In the session's arena. */
const char *checkpoint_path(Session *s, const char *ckpt);

/* A decimal metadata value, or `missing`. */
uint64_t checkpoint_number(const Checkpoint *c, const char *key, uint64_t missing);

/* ---- init.c: initial values ---- */

/* Philox-2x32-10 (Salmon et al., SC 2011): c becomes 64 random bits of counter c under the key. */
void philox2x32(uint32_t c[2], uint32_t key);

/* Fills image[space] (NULL: skipped) with every state's initial value; element i of a state depends only on the
   seed, the state's name and i. fit NULL: every fitted scalar is 1. */
bool init_states(const Plan *p, uint64_t seed, const Fit *fit, unsigned char *image[NSTATE], Err *e);

uint32_t fold_seed(uint64_t seed); /* to the 32 bits that run.seed holds; small seeds stay as they are */
int64_t state_count(const PlanState *st); /* elements */
double dtype_load(DType t, const void *p, int64_t i);
void dtype_store(DType t, void *p, int64_t i, double v); /* rounds to nearest even */

/* ---- eval.c: a split through the eval program, and its scores ---- */

typedef struct Evaluator {
	Session *s;
	const PlanProgram *p;
	Exec *x;
	void *raw;      /* one batch of one output, as the device stores it */
	float **value;  /* per output of p: its values, NULL where they are not kept */
	int64_t *width; /* per output: values a row, 0 where it is not read */
	struct Tally *tally; /* per output: what is counted batch by batch in place of keeping values */
	bool keep;      /* predicting, there is no truth to compare with: everything is kept */
	float *pred, *target; /* unscaled, scratch */
	int64_t cap;    /* rows that fit */
} Evaluator;

bool evaluator_open(Evaluator *v, Session *s, const PlanProgram *p, int64_t rows, Err *e);
bool evaluator_run(Evaluator *v, int64_t first, int64_t rows, Err *e); /* fills value for these dataset rows */
void evaluator_close(Evaluator *v);

typedef struct Score {
	const char *name; /* "loss", "engagement.r2" */
	double value;
} Score;
typedef struct Scores {
	Arena arena;
	int64_t rows;
	uint32_t n;
	Score *score;
	Classification *binary; /* per target of the schema, where seen */
	Multiclass *multi;      /* the same; open where seen */
	uint32_t nmulti;
	bool *seen;
} Scores;

/* Runs a split (0 train, 1 val, 2 test) and scores it. rows 0 or dry: names only, NaN values, nothing is run. */
bool evaluate(Evaluator *v, int split, double threshold, bool dry, Scores *out, Err *e);
double scores_get(const Scores *sc, const char *name, bool *found);
json_t *scores_json(const Session *s, const Scores *sc);
/* n splits side by side, then each binary target's confusion matrix of the last. */
void scores_print(FILE *f, const Session *s, const char *const *title, const Scores *sc, int n);
void scores_free(Scores *sc);
/* Whether a score is the one that says most about its target, for a line an epoch. */
bool score_headline(const char *name);
extern const char *const split_names[3];
json_t *json_number(double x); /* null where JSON has no number */

/* ---- pictures.c ---- */

/* Writes a page of pictures as PNG: of each predicted row its picture, the prediction, and the further outputs. */
bool write_page(const Evaluator *v, const char *path, Err *e);

/* ---- diagnose.c ---- */

/* The loss of `step` (from 1) was not finite. With the device at the state after step `saved`, finds the first value that was
   not, and says where it came from and what to do. `of` is made ready; the device's state is changed. */
void diagnose(Session *s, const Step *of, int64_t saved, int64_t step, Text *out);

/* ---- trainlog.c: what training leaves for people and tools ---- */

typedef struct TrainLog {
	FILE *json, *csv;
	const char *json_path, *csv_path;
} TrainLog;

/* Whether the files can be written, before anything else is; leaves none behind. */
bool trainlog_check(const Options *o, Err *e);
/* step 0: new files; else those of the run that is resumed, cut after this step. */
bool trainlog_open(TrainLog *l, const Options *o, const PlanTrain *t, int64_t step, Err *e);
bool trainlog_losses(TrainLog *l, const PlanTrain *t, int64_t step, const float *loss, Err *e);
bool trainlog_event(TrainLog *l, json_t *event, Err *e); /* takes the reference */
bool trainlog_flush(TrainLog *l, Err *e);
bool trainlog_close(TrainLog *l, Err *e);

/* ---- progress.c ---- */

typedef struct Progress {
	bool terminal; /* a bar that is redrawn, on stderr; else a line now and then, on stdout */
	bool drawn;
	double start, shown; /* seconds of now_seconds */
	int64_t first, total, per_epoch, batch; /* steps; rows a step */
} Progress;

void progress_open(Progress *p, int64_t done, int64_t total, int64_t per_epoch, int64_t batch);
void progress_show(Progress *p, int64_t step, double loss);
void progress_clear(Progress *p); /* before anything else is printed */
double progress_rate(const Progress *p, int64_t step); /* rows a second so far */

#endif
