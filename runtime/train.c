/* mmrun train. Steps run in chunks: the device replays the step program many times, then the host reads the loss log. Chunk
   sizes follow the clock and change nothing: a step depends on state alone (run.step, run.seed, ...), so state plus the
   bookkeeping in Cursor is all that a resume needs to continue bit for bit. */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where training is, beyond the states: metadata of every checkpoint. */
typedef struct Cursor {
	int64_t step;       /* done */
	bool has_best;
	double best;        /* of the watched metric */
	int64_t since_best; /* epochs */
	bool flat_best;     /* the same of the metric whose plateaus lower the rate */
	double flat;
	int64_t since_flat, cooldown; /* epochs; cooldown: left */
	double *sum;        /* of each loss over this epoch's steps, in step order */
	json_t *history;    /* one object an epoch */
} Cursor;

typedef struct Train {
	Session s;
	const Options *o;
	const PlanTrain *t;
	const PlanProgram *eval_program;
	Step step;
	Evaluator val;
	int64_t rows, batch, per_epoch, epochs, total; /* batch: rows a step */
	const PlanState *log_state, *rate_state; /* rate_state: NULL where there is no plateau */
	float rate;         /* the device's run.rate */
	float *loss;        /* host copy of the loss log, from the chunk's first step on */
	const char *watch;  /* name in Scores, or NULL: no validation rows, the last epoch is the best */
	const char *watch_flat; /* the same of the plateau; NULL: none */
	Cursor c;
	TrainLog log;
	Progress bar;
	double per_step, epoch_start; /* seconds */
	int64_t epoch_first;          /* step that this process began the epoch with */
	bool resumed;
} Train;

static volatile sig_atomic_t interrupted; /* the signal; handlers can reach nothing else */

static void
on_signal(int sig)
{
	interrupted = sig;
}

/* The first signal asks for an orderly end; SA_RESETHAND lets a second one kill. */
static void
catch_signals(void)
{
	struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	sigemptyset(&a.sa_mask);
	interrupted = 0;
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
}

/* ---- cursor ---- */

#define EXACT (JSON_COMPACT | JSON_REAL_PRECISION(17)) /* a double reads back as the same bits */

static bool
save_checkpoint(Train *t, const char *path, Err *e)
{
	char step[32], since[32], batch[32], parts[32], best[64], flat[128];
	json_t *sums = json_array();
	for (uint32_t i = 0; i < t->t->nlosses; i++)
		json_array_append_new(sums, json_real(t->c.sum[i]));
	snprintf(step, sizeof step, "%lld", (long long)t->c.step);
	snprintf(since, sizeof since, "%lld", (long long)t->c.since_best);
	snprintf(batch, sizeof batch, "%lld", (long long)t->step.train->batch);
	snprintf(parts, sizeof parts, "%lld", (long long)t->step.parts);
	snprintf(best, sizeof best, "%.17g", t->c.best);
	snprintf(flat, sizeof flat, "%.17g %lld %lld %d", t->c.flat, (long long)t->c.since_flat, (long long)t->c.cooldown, t->c.flat_best);
	char *sum = json_dumps(sums, EXACT), *history = json_dumps(t->c.history, EXACT);
	const char *meta[] = {
		"train.step", step, "train.batch", batch, "train.accumulate", parts, "train.best", t->c.has_best ? best : "none",
		"train.since_best", since, "train.sum", sum, "train.history", history, "train.plateau", flat,
	};
	bool ok = session_save(&t->s, path, meta, LEN(meta) / 2 - !t->rate_state, e);
	json_decref(sums);
	free(sum);
	free(history);
	return ok;
}

static bool save_last(Train *t, Err *e) { return save_checkpoint(t, t->s.last, e); }

static bool
restore_plateau(Train *t, const Checkpoint *c)
{
	const char *s = checkpoint_meta(c, "train.plateau");
	long long since, cooldown;
	int has;
	if (!t->rate_state)
		return true;
	if (!s || sscanf(s, "%lf %lld %lld %d", &t->c.flat, &since, &cooldown, &has) != 4 || since < 0 || cooldown < 0)
		return false;
	t->c.since_flat = since;
	t->c.cooldown = cooldown;
	t->c.flat_best = has;
	return true;
}

static bool
restore_cursor(Train *t, const Checkpoint *c, Err *e)
{
	const char *best = checkpoint_meta(c, "train.best"), *sum = checkpoint_meta(c, "train.sum"),
	           *history = checkpoint_meta(c, "train.history");
	int64_t batch = (int64_t)checkpoint_number(c, "train.batch", 0), parts = (int64_t)checkpoint_number(c, "train.accumulate", 1);
	json_t *sums = sum ? json_loads(sum, 0, NULL) : NULL;
	bool ok = best && json_array_size(sums) == t->t->nlosses;
	t->c.step = (int64_t)checkpoint_number(c, "train.step", UINT64_MAX);
	t->c.since_best = (int64_t)checkpoint_number(c, "train.since_best", UINT64_MAX);
	json_decref(t->c.history);
	t->c.history = history ? json_loads(history, 0, NULL) : NULL;
	ok = ok && restore_plateau(t, c) && json_is_array(t->c.history) && t->c.step >= 0 && t->c.since_best >= 0;
	for (uint32_t i = 0; ok && i < t->t->nlosses; i++)
		t->c.sum[i] = json_number_value(json_array_get(sums, i));
	json_decref(sums);
	if (!ok)
		return fail(e, "%s: its training metadata is damaged: train anew, without --resume", t->s.last);
	t->c.has_best = strcmp(best, "none") != 0;
	t->c.best = t->c.has_best ? strtod(best, NULL) : 0;
	if (batch != t->step.train->batch)
		return fail(e, "%s: trained with batch %lld, the plan's is %lld: a resume must keep it", t->s.last, (long long)batch,
		            (long long)t->step.train->batch);
	if (parts != t->step.parts)
		return fail(e, "%s: trained with accumulate %lld, the plan's is %lld: a resume must keep it", t->s.last, (long long)parts,
		            (long long)t->step.parts);
	return true;
}

/* ---- set-up ---- */

/* Seeds of the run that is resumed; others given on the command line would make it another run. */
static bool
resume_seeds(Train *t, const Checkpoint *c, Err *e)
{
	const Options *o = t->o;
	uint64_t seed = checkpoint_number(c, "seed", t->s.seed), split_seed = checkpoint_number(c, "split_seed", t->s.split_seed);
	if (o->seed >= 0 && (uint64_t)o->seed != seed)
		return fail(e, "--seed %lld: the run in %s has seed %llu: leave --seed out, or train anew in another --out", (long long)o->seed,
		            t->s.out, (unsigned long long)seed);
	if (o->split_seed >= 0 && (uint64_t)o->split_seed != split_seed)
		return fail(e, "--split-seed %lld: the run in %s has split seed %llu: leave --split-seed out, or train anew in another --out",
		            (long long)o->split_seed, t->s.out, (unsigned long long)split_seed);
	int64_t fold = (int64_t)checkpoint_number(c, "fold", (uint64_t)t->s.fold);
	if (o->fold > 0 && o->fold != fold)
		return fail(e, "--fold %lld: the run in %s is of fold %lld: leave --fold out, or train anew in another --out", (long long)o->fold, t->s.out,
		            (long long)fold);
	t->s.seed = seed;
	t->s.split_seed = split_seed;
	t->s.fold = fold;
	return true;
}

static bool
find_programs(Train *t, Err *e)
{
	const Plan *p = t->s.plan;
	t->t = t->s.train;
	if (!t->t || !t->s.schema)
		return fail(e, "%s: the model has no %s section, so it cannot be trained", t->s.path, t->t ? "data" : "train");
	t->step.parts = t->t->accumulate;
	t->step.train = session_program(&t->s, "train", 0, e);
	if (!t->step.train || (t->step.parts > 1 && !(t->step.accumulate = session_program(&t->s, "accumulate", t->step.train->batch, e))))
		return false;
	t->batch = t->step.train->batch * t->step.parts;
	if (!(t->eval_program = session_program(&t->s, "eval", 0, e)))
		return false;
	for (uint32_t i = 0; i < p->nstate; i++) {
		if (!strcmp(p->state[i].name, "run.log"))
			t->log_state = &p->state[i];
		if (!strcmp(p->state[i].name, "run.rate") && *t->t->plateau_on)
			t->rate_state = &p->state[i];
	}
	if (*t->t->plateau_on &&
	    (!t->rate_state || t->rate_state->space != SP_STAT || t->rate_state->dtype != DT_F32 || state_count(t->rate_state) != 1))
		return fail(e, "%s: the plan has no rate that a plateau could lower (state run.rate): compile it again", t->s.path);
	if (!t->log_state || t->log_state->space != SP_STAT || t->log_state->dtype != DT_F32 || t->t->log_steps < 1 || !t->t->nlosses ||
	    state_count(t->log_state) != t->t->log_steps * (int64_t)t->t->nlosses)
		return fail(e, "%s: the plan keeps no log of its losses (state run.log): compile it again", t->s.path);
	t->c.sum = xcalloc(t->t->nlosses, sizeof *t->c.sum);
	t->c.history = json_array();
	t->loss = xcalloc((size_t)t->t->log_steps * t->t->nlosses, sizeof *t->loss);
	return true;
}

static bool
count_steps(Train *t, Err *e)
{
	const Dataset *d = &t->s.data;
	t->rows = d->split[1] - d->split[0];
	if (t->rows < 1)
		return fail(e, "%s: the training split has no rows: see the cleaning report", t->s.path);
	if (t->batch > t->rows && t->step.parts > 1)
		return fail(e, "%s: a step of %lld batches of %lld is more than the training split of %lld rows: set train.batch or train.accumulate lower",
		            t->s.path, (long long)t->step.parts, (long long)t->step.train->batch, (long long)t->rows);
	if (t->batch > t->rows)
		return fail(e, "%s: the batch of %lld is larger than the training split of %lld rows: set train.batch to at most that, or compile with "
		            "mmc --batch %lld", t->s.path, (long long)t->batch, (long long)t->rows, (long long)t->rows);
	t->per_epoch = t->rows / t->batch;
	t->epochs = t->o->epochs > 0 ? t->o->epochs : t->t->epochs;
	if (t->epochs > INT32_MAX / t->per_epoch)
		return fail(e, "%lld epochs of %lld steps are more than %d steps: use fewer epochs", (long long)t->epochs, (long long)t->per_epoch,
		            INT32_MAX);
	t->total = t->epochs * t->per_epoch;
	return true;
}

static bool
read_data(Train *t, Err *e)
{
	const char *path = t->o->report;
	FILE *report = path ? open_output(path, "w", e) : stdout;
	if (!report)
		return false;
	bool ok = session_build(&t->s, t->o, report, e);
	if (path)
		ok = close_output(report, path, e) && ok;
	return ok && count_steps(t, e) && (!t->o->split_out || write_split(&t->s.data, t->o->split_out, e));
}

/* The name in Scores of a watched metric "val.NAME"; what watches it is for the message. */
static bool
find_metric(Train *t, const Scores *sc, const char *want, const char *what, const char **found, Err *e)
{
	const char *names[256] = {0}, *near;
	size_t n = 0;
	for (uint32_t i = 0; i < sc->n && n < LEN(names); i++) {
		names[n++] = arena_printf(&t->s.arena, "val.%s", sc->score[i].name);
		if (!strcmp(names[n - 1], want)) {
			*found = names[n - 1] + strlen("val.");
			return true;
		}
	}
	near = nearest_name(want, names, n);
	return fail(e, "%s: %s watches '%s', which no validation gives: %s '%s'%s", t->s.path, what, want, near ? "did you mean" : "take for example",
	            near ? near : n ? names[0] : "val.loss", near ? "?" : "");
}

/* Finds the watched metrics among those that validation will give, before hours are spent. */
static bool
find_watch(Train *t, Err *e)
{
	const char *best = t->t->stop_on, *flat = t->t->plateau_on;
	bool rows = t->s.data.split[1] != t->s.data.split[2];
	Scores sc;
	if (best[0] && !rows && t->t->patience)
		puts("note: no validation rows: no early stopping, the last epoch counts as the best");
	if (flat[0] && !rows)
		puts("note: no validation rows: no plateau will be seen, the learning rate follows its schedule alone");
	if (!rows)
		return true;
	evaluate(&t->val, 1, 0.5, true, &sc, e);
	bool ok = (!best[0] || find_metric(t, &sc, best, "early stopping", &t->watch, e)) &&
	          (!flat[0] || find_metric(t, &sc, flat, "plateau", &t->watch_flat, e));
	scores_free(&sc);
	return ok;
}

static bool
set_scalars(Train *t, Err *e)
{
	return session_set(&t->s, RUN_STEPS_PER_EPOCH, t->per_epoch, e) && session_set(&t->s, RUN_TOTAL_STEPS, t->total, e) &&
	       session_rows(&t->s, t->s.data.split[0], t->rows, e);
}

static bool
prepare(Train *t, const Checkpoint *c, Err *e)
{
	const PlanProgram *p[] = {t->step.train, t->eval_program, t->step.accumulate};
	Session *s = &t->s;
	int64_t rows[2] = {s->data.split[2] - s->data.split[1], s->data.split[3] - s->data.split[2]};
	if (!session_allocate(s, p, t->step.accumulate ? 3 : 2, true, e))
		return false;
	if (t->resumed ? !(restore_cursor(t, c, e) && session_load(s, c, s->last, e)) : !session_init(s, e))
		return false;
	if (t->rate_state)
		memcpy(&t->rate, s->image[SP_STAT] + t->rate_state->off, sizeof t->rate);
	if (!set_scalars(t, e) || !step_prepare(&t->step, s, e))
		return false;
	return evaluator_open(&t->val, s, t->eval_program, rows[0] > rows[1] ? rows[0] : rows[1], e) && find_watch(t, e);
}

static void
describe(const Train *t)
{
	const Plan *p = t->s.plan;
	const int64_t *k = t->s.data.split;
	int64_t n = 0;
	for (uint32_t i = 0; i < p->nstate; i++)
		if (p->state[i].space == SP_PARAM && !p->state[i].like[0])
			n += state_count(&p->state[i]);
	printf("model   %s: %lld parameters, %u inputs, %u targets\n", p->model, (long long)n, t->s.schema->ninput, t->s.schema->ntarget);
	printf("rows    train %lld, val %lld, test %lld; batch %lld", (long long)(k[1] - k[0]), (long long)(k[2] - k[1]), (long long)(k[3] - k[2]),
	       (long long)t->step.train->batch);
	if (t->step.parts > 1)
		printf(", %lld of them a step", (long long)t->step.parts);
	printf(", %lld steps an epoch, %lld epochs\n", (long long)t->per_epoch, (long long)t->epochs);
	session_describe(&t->s, stdout);
	fflush(stdout);
}

/* A new run replaces what its folder holds. Its state of step 0 is written at once: a folder that cannot be written
   shows before hours of training, and --resume after an early kill finds this run and no older one. */
static bool
start_folder(Train *t, Err *e)
{
	Err why = {0};
	if (!make_folders(t->s.out, 0777, &why))
		return fail(e, "%s: name another folder with --out", why.msg);
	if (t->resumed)
		return true;
	if (!save_last(t, e))
		return false;
	if (unlink(t->s.best) && errno != ENOENT)
		return fail(e, "%s: cannot remove the checkpoint of an earlier run: %s", t->s.best, strerror(errno));
	return true;
}

static bool
open_resumed(Train *t, Checkpoint *c, Err *e)
{
	if (!t->o->resume)
		return true;
	if (access(t->s.last, F_OK)) {
		printf("nothing to resume in %s: starting from the first step\n", t->s.out);
		return true;
	}
	t->resumed = session_open_checkpoint(&t->s, t->s.last, c, e);
	return t->resumed && resume_seeds(t, c, e);
}

/* The forecast, and what the device was asked for. */
static bool
log_memory(Train *t, Err *e)
{
	json_t *j = json_object();
	json_object_set_new(j, "event", json_string("memory"));
	json_object_set_new(j, "device", json_string(t->s.device->name));
	for (int k = 0; k < NSPACE; k++)
		json_object_set_new(j, space_names[k], json_integer((json_int_t)(k == SP_DATA ? t->s.data_bytes : t->s.bytes[k])));
	json_object_set_new(j, "given", json_integer((json_int_t)t->s.device->given));
	return trainlog_event(&t->log, j, e) && trainlog_flush(&t->log, e);
}

static bool
set_up(Train *t, Err *e)
{
	Checkpoint c = {0};
	if (!session_open(&t->s, t->o, t->o->out, e) || !find_programs(t, e))
		return false;
	bool ok = open_resumed(t, &c, e) && read_data(t, e);
	if (t->resumed)
		ok = ok && session_same_data(&t->s, &c, t->s.last, e) && session_same_values(&t->s, &c, t->s.last, e);
	ok = ok && prepare(t, &c, e);
	if (t->resumed)
		checkpoint_close(&c);
	if (!ok || !trainlog_check(t->o, e) || !start_folder(t, e) || !trainlog_open(&t->log, t->o, t->t, t->c.step, e) || (!t->resumed && !log_memory(t, e)))
		return false;
	describe(t);
	if (t->resumed)
		printf("resumed after step %lld of %lld\n", (long long)t->c.step, (long long)t->total);
	return true;
}

/* ---- steps ---- */

/* Back to the state that was saved last; the number of its step, or -1. */
static int64_t
rewind_state(Train *t)
{
	Session *s = &t->s;
	int32_t step;
	Err e = {0};
	memcpy(&step, s->image[SP_STAT] + s->scalar[RUN_STEP]->off, sizeof step);
	for (int k = 0; k < NSTATE; k++)
		if (s->base[k] && !s->device->upload(s->device, s->base[k], s->image[k], s->bytes[k], &e))
			return -1;
	return set_scalars(t, &e) ? step : -1;
}

static bool
fail_loss(Train *t, int64_t step, const float *row, Err *e)
{
	uint32_t head = t->t->nlosses;
	int64_t saved;
	Text advice = {0};
	for (uint32_t i = t->t->nlosses; i-- > 1;) /* the first head; column 0 is their sum */
		if (!isfinite(row[i]))
			head = i;
	if (head == t->t->nlosses)
		head = 0;
	progress_clear(&t->bar);
	printf("loss '%s' became %g in step %lld: looking for the first bad value\n", t->t->losses[head], isnan(row[head]) ? (double)NAN : row[head], (long long)step);
	fflush(stdout);
	if ((saved = rewind_state(t)) >= 0)
		diagnose(&t->s, &t->step, saved, step, &advice);
	fail(e, "step %lld (epoch %lld): loss '%s' became %g; %s; %s holds the state of step %lld", (long long)step,
	     (long long)((step - 1) / t->per_epoch + 1), t->t->losses[head], isnan(row[head]) ? (double)NAN : row[head], advice.s ? advice.s : "", t->s.last, (long long)saved);
	free(advice.s);
	return false;
}

/* Reads the log of the n steps from c.step on, which the device has just been told to run. */
static bool
fetch_losses(Train *t, int64_t n, Err *e)
{
	Device *d = t->s.device;
	const char *log = (const char *)t->s.base[SP_STAT] + t->log_state->off;
	size_t row = t->t->nlosses * sizeof(float);
	int64_t cap = t->t->log_steps, at = t->c.step % cap, head = n < cap - at ? n : cap - at;
	if (!d->download(d, t->loss, log + (size_t)at * row, (size_t)head * row, e))
		return false;
	return head == n || d->download(d, (char *)t->loss + (size_t)head * row, log, (size_t)(n - head) * row, e);
}

static bool
log_chunk(Train *t, int64_t n, double seconds, Err *e)
{
	json_t *j;
	const float *last = t->loss + (n - 1) * (int64_t)t->t->nlosses;
	if (!t->log.json)
		return trainlog_flush(&t->log, e);
	j = json_object();
	json_object_set_new(j, "event", json_string("steps"));
	json_object_set_new(j, "step", json_integer(t->c.step));
	json_object_set_new(j, "epoch", json_integer((t->c.step - 1) / t->per_epoch + 1));
	for (uint32_t i = 0; i < t->t->nlosses; i++) {
		char key[300];
		snprintf(key, sizeof key, i ? "%.250s.loss" : "%.250s", t->t->losses[i]);
		json_object_set_new(j, key, json_number(last[i]));
	}
	json_object_set_new(j, "rows_per_s", json_number((double)(n * t->batch) / seconds));
	return trainlog_event(&t->log, j, e) && trainlog_flush(&t->log, e);
}

static bool
run_chunk(Train *t, int64_t n, Err *e)
{
	double start = now_seconds();
	if (!step_run(&t->step, &t->s, n, e) || !fetch_losses(t, n, e))
		return false;
	for (int64_t k = 0; k < n; k++) {
		const float *row = t->loss + k * (int64_t)t->t->nlosses;
		if (!trainlog_losses(&t->log, t->t, t->c.step + 1, row, e))
			return false;
		for (uint32_t i = 0; i < t->t->nlosses; i++) {
			if (!isfinite(row[i])) {
				trainlog_flush(&t->log, e);
				return fail_loss(t, t->c.step + 1, row, e);
			}
			t->c.sum[i] += row[i];
		}
		t->c.step++;
	}
	double seconds = now_seconds() - start;
	t->per_step = seconds / (double)n;
	progress_show(&t->bar, t->c.step, t->loss[(n - 1) * (int64_t)t->t->nlosses]);
	return log_chunk(t, n, seconds > 0 ? seconds : 1e-9, e);
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* As many steps as the log holds, up to the next thing that the host must do; the clock keeps the bar moving and an
   interrupt answered. Grows fourfold at most: the first step includes warming up. */
static int64_t
chunk_size(const Train *t, int64_t before)
{
	const Options *o = t->o;
	int64_t step = t->c.step, n = t->per_epoch - step % t->per_epoch;
	double by_clock = (t->bar.terminal ? 0.2 : 0.5) / (t->per_step > 1e-9 ? t->per_step : 1e-9);
	n = min64(n, t->t->log_steps);
	n = min64(n, before * 4);
	if (by_clock < (double)n)
		n = by_clock < 1 ? 1 : (int64_t)by_clock;
	if (o->save_steps > 0)
		n = min64(n, o->save_steps - step % o->save_steps);
	if (o->max_steps > step)
		n = min64(n, o->max_steps - step);
	return n;
}

/* ---- epochs ---- */

static json_t *
epoch_entry(const Train *t, const Scores *sc)
{
	json_t *j = json_object();
	json_object_set_new(j, "epoch", json_integer(t->c.step / t->per_epoch));
	json_object_set_new(j, "step", json_integer(t->c.step));
	for (uint32_t i = 0; i < t->t->nlosses; i++) {
		char key[300];
		snprintf(key, sizeof key, i ? "%.250s.loss" : "%.250s", t->t->losses[i]);
		json_object_set_new(j, key, json_number(t->c.sum[i] / (double)t->per_epoch));
	}
	for (uint32_t i = 0; sc->rows && i < sc->n; i++) {
		char key[300];
		snprintf(key, sizeof key, "val.%.250s", sc->score[i].name);
		json_object_set_new(j, key, json_number(sc->score[i].value));
	}
	return j;
}

/* One line: losses, and the metric that says most about each target. */
static void
print_epoch(Train *t, const Scores *sc, double rate, bool best)
{
	progress_clear(&t->bar);
	printf("epoch %lld/%lld  loss %.4f", (long long)(t->c.step / t->per_epoch), (long long)t->epochs, t->c.sum[0] / (double)t->per_epoch);
	for (uint32_t i = 0; sc->rows && i < sc->n; i++) {
		const char *name = sc->score[i].name;
		if (score_headline(name) || (t->watch && !strcmp(name, t->watch)))
			printf("  val.%s %.4f", name, sc->score[i].value);
	}
	printf("  %.0f rows/s%s\n", rate, best ? "  best" : "");
	fflush(stdout);
}

static bool
note_best(Train *t, const Scores *sc)
{
	bool found = true;
	double v = t->watch ? scores_get(sc, t->watch, &found) : 0;
	bool better = !t->watch || (!isnan(v) && (!t->c.has_best || (t->t->maximize ? v > t->c.best : v < t->c.best)));
	if (better) {
		t->c.best = v;
		t->c.has_best = true;
	}
	t->c.since_best = better ? 0 : t->c.since_best + 1;
	return better;
}

/* A plateau lowers the learning rate of the steps from here on. As torch's ReduceLROnPlateau, but for patience: here the epochs
   without improvement. */
static bool
note_plateau(Train *t, const Scores *sc, Err *e)
{
	const PlanTrain *p = t->t;
	Session *s = &t->s;
	bool found;
	if (!t->watch_flat)
		return true;
	double v = scores_get(sc, t->watch_flat, &found), margin = p->plateau_threshold * fabs(t->c.flat);
	bool better = !isnan(v) && (!t->c.flat_best || (p->plateau_maximize ? v > t->c.flat + margin : v < t->c.flat - margin));
	if (better) {
		t->c.flat = v;
		t->c.flat_best = true;
	}
	bool cooling = t->c.cooldown > 0;
	t->c.since_flat = better || cooling ? 0 : t->c.since_flat + 1;
	t->c.cooldown -= cooling;
	if (t->c.since_flat < p->plateau_patience)
		return true;
	t->c.since_flat = 0;
	t->c.cooldown = p->plateau_cooldown;
	t->rate = (float)fmax(t->rate * p->plateau_factor, p->plateau_floor);
	return s->device->upload(s->device, (char *)s->base[SP_STAT] + t->rate_state->off, &t->rate, sizeof t->rate, e);
}

/* Validates, keeps the books and both checkpoints. best goes first: killed between the two, the resumed run repeats the
   epoch's end and writes the same best again. */
static bool
end_epoch(Train *t, Err *e)
{
	double now = now_seconds(), seconds = now - t->epoch_start;
	double rate = seconds > 0 ? (double)((t->c.step - t->epoch_first) * t->batch) / seconds : 0;
	Scores sc = {0};
	bool ok = evaluate(&t->val, 1, t->o->threshold, false, &sc, e) && session_rows(&t->s, t->s.data.split[0], t->rows, e);
	float rate_before = t->rate;
	ok = ok && note_plateau(t, &sc, e);
	if (ok) {
		bool better = note_best(t, &sc);
		json_t *entry = epoch_entry(t, &sc), *event = json_object();
		json_array_append(t->c.history, entry);
		print_epoch(t, &sc, rate, better);
		if (t->rate != rate_before)
			printf("plateau of %s: the learning rate is now %g of its schedule\n", t->t->plateau_on, t->rate);
		memset(t->c.sum, 0, t->t->nlosses * sizeof *t->c.sum);
		json_object_set_new(event, "event", json_string("epoch"));
		json_object_update(event, entry);
		json_object_set_new(event, "best", json_boolean(better));
		if (t->rate_state)
			json_object_set_new(event, "rate", json_number(t->rate));
		json_object_set_new(event, "rows_per_s", json_number(rate));
		json_object_set_new(event, "seconds", json_number(now_seconds() - t->epoch_start));
		json_decref(entry);
		ok = trainlog_event(&t->log, event, e) && trainlog_flush(&t->log, e) && (!better || save_checkpoint(t, t->s.best, e)) && save_last(t, e);
	}
	scores_free(&sc);
	t->epoch_start = now_seconds();
	t->epoch_first = t->c.step;
	return ok;
}

static bool
stopped_early(const Train *t)
{
	return t->watch && t->t->patience > 0 && t->c.since_best >= t->t->patience && t->c.step % t->per_epoch == 0;
}

static void
say_interrupted(Train *t)
{
	const Options *o = t->o;
	progress_clear(&t->bar);
	printf("interrupted after step %lld: %s is written; continue with: mmrun train %s%s%s --resume\n", (long long)t->c.step, t->s.last, o->plan,
	       o->out ? " --out " : "", o->out ? o->out : "");
}

static bool
train_loop(Train *t, int *status, Err *e)
{
	int64_t n = 1;
	catch_signals();
	t->epoch_start = now_seconds();
	t->epoch_first = t->c.step;
	progress_open(&t->bar, t->c.step, t->total, t->per_epoch, t->batch);
	while (t->c.step < t->total && !stopped_early(t)) {
		const Options *o = t->o;
		bool limit;
		int sig;
		if (o->max_steps > 0 && t->c.step >= o->max_steps)
			break;
		n = chunk_size(t, n);
		if (!run_chunk(t, n, e))
			return false;
		limit = o->max_steps > 0 && t->c.step >= o->max_steps;
		sig = interrupted; /* read once: a signal from here on is for the next chunk */
		if (t->c.step % t->per_epoch == 0) {
			if (!end_epoch(t, e))
				return false;
		} else if (limit || sig || (o->save_steps > 0 && t->c.step % o->save_steps == 0)) {
			if (!save_last(t, e))
				return false;
		}
		if (sig && t->c.step < t->total) {
			say_interrupted(t);
			*status = 128 + sig;
			return true;
		}
	}
	progress_clear(&t->bar);
	return true;
}

/* ---- the end ---- */

static bool
write_metrics(Train *t, const char *which, int64_t step, const Scores *sc, int n, Err *e)
{
	char *path = arena_printf(&t->s.arena, "%s/metrics.json", t->s.out);
	json_t *j = json_object();
	Text out = {0};
	json_object_set_new(j, "model", json_string(t->s.plan->model));
	json_object_set_new(j, "checkpoint", json_string(which));
	json_object_set_new(j, "step", json_integer(step));
	json_object_set_new(j, "epoch", json_integer(step / t->per_epoch));
	json_object_set_new(j, "seed", json_integer((json_int_t)t->s.seed));
	json_object_set_new(j, "split_seed", json_integer((json_int_t)t->s.split_seed));
	for (int k = 0; k < n; k++)
		json_object_set_new(j, split_names[k + 1], scores_json(&t->s, &sc[k]));
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	text_printf(&out, "%s\n", text);
	bool ok = write_file_atomic(path, out.s, out.n, 0666, e);
	free(text);
	free(out.s);
	json_decref(j);
	return ok;
}

/* Validation and test scores of the best state, or of the last where validation never gave a number. */
static bool
final_scores(Train *t, Err *e)
{
	static const char *const title[] = {"val", "test"};
	Scores sc[2] = {{.n = 0}, {.n = 0}};
	const char *which = t->c.has_best ? "best" : "last";
	int64_t step = t->c.step;
	bool ok = true;
	if (t->c.has_best) {
		Checkpoint c;
		if (!session_open_checkpoint(&t->s, t->s.best, &c, e))
			return false;
		step = (int64_t)checkpoint_number(&c, "train.step", 0);
		ok = session_load(&t->s, &c, t->s.best, e);
		checkpoint_close(&c);
	}
	ok = ok && evaluate(&t->val, 1, t->o->threshold, false, &sc[0], e) && evaluate(&t->val, 2, t->o->threshold, false, &sc[1], e);
	if (ok) {
		printf("\n%s checkpoint, step %lld (epoch %lld)\n", which, (long long)step, (long long)(step / t->per_epoch));
		scores_print(stdout, &t->s, title, sc, 2);
		ok = write_metrics(t, which, step, sc, 2, e);
	}
	scores_free(&sc[0]);
	scores_free(&sc[1]);
	return ok;
}

static void
tear_down(Train *t)
{
	evaluator_close(&t->val);
	step_drop(&t->step, &t->s);
	json_decref(t->c.history);
	free(t->c.sum);
	free(t->loss);
	session_close(&t->s);
}

bool
run_train(const Options *o, int *status, Err *e)
{
	Train *t = xcalloc(1, sizeof *t);
	t->o = o;
	*status = 0;
	bool ok = set_up(t, e) && train_loop(t, status, e);
	progress_clear(&t->bar);
	if (ok && !*status) {
		if (stopped_early(t))
			printf("stopped early: %s has not improved for %lld epochs\n", t->t->stop_on, (long long)t->c.since_best);
		else if (t->c.step < t->total)
			printf("stopped after step %lld, as --max-steps asks\n", (long long)t->c.step);
		ok = final_scores(t, e);
	}
	ok = trainlog_close(&t->log, e) && ok;
	tear_down(t);
	free(t);
	return ok;
}
