/* mmrun eval, and what training and prediction share with it: a range of rows through the eval program, batch after
   batch, and the scores of a split: mean losses, then each target's metrics in the target's own units. */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const split_names[3] = {"train", "val", "test"};

/* Metrics of a target, in the order in which they are printed; each is a field of the struct in runtime.h. */
#define NUMBER_METRICS(X) X(r2) X(mse) X(mae) X(rmse)
#define BINARY_METRICS(X)                                                                           \
	X(roc_auc) X(average_precision) X(accuracy) X(precision) X(recall) X(f1) X(log_loss)

/* ---- rows through the program ---- */

static bool is_role(const PlanOutput *o, const char *role) { return !strcmp(o->role, role); }

bool
evaluator_open(Evaluator *v, Session *s, const PlanProgram *p, int64_t rows, Err *e)
{
	*v = (Evaluator){.s = s, .p = p, .cap = rows > 0 ? rows : 1};
	size_t n = (size_t)v->cap;
	v->value = xcalloc(p->noutput, sizeof *v->value);
	v->pred = xmalloc(n * sizeof *v->pred);
	v->target = xmalloc(n * sizeof *v->target);
	v->raw = xmalloc((size_t)p->batch * 4);
	for (uint32_t i = 0; i < p->noutput; i++) {
		const PlanOutput *o = &p->output[i];
		int64_t count = 1;
		if (!is_role(o, "prediction") && !is_role(o, "loss"))
			continue;
		for (uint32_t k = 0; k < o->ndim; k++)
			count *= o->dim[k];
		if (count != p->batch || o->nref != 1 || o->ref[0].space >= SP_DATA ||
		    o->ref[0].bytes != (uint64_t)count * dtype_bytes((DType)o->dtype))
			return fail(e, "%s: output %s of program %s is not one value a row: compile the plan again", s->path, o->name, p->name);
		v->value[i] = xmalloc(n * sizeof *v->value[i]);
	}
	v->x = session_prepare(s, p, e);
	return v->x != NULL;
}

void
evaluator_close(Evaluator *v)
{
	if (v->x)
		v->s->device->drop(v->s->device, v->x);
	for (uint32_t i = 0; v->value && i < v->p->noutput; i++)
		free(v->value[i]);
	free(v->value);
	free(v->pred);
	free(v->target);
	free(v->raw);
	memset(v, 0, sizeof *v);
}

/* Copies what the last batch left for its n valid rows, which are rows at.. of the range. */
static bool
fetch_batch(Evaluator *v, int64_t at, int64_t n, Err *e)
{
	Device *d = v->s->device;
	for (uint32_t i = 0; i < v->p->noutput; i++) {
		const PlanOutput *o = &v->p->output[i];
		DType t = (DType)o->dtype;
		if (!v->value[i])
			continue;
		if (!d->download(d, v->raw, (char *)v->s->base[o->ref[0].space] + o->ref[0].off, (size_t)n * dtype_bytes(t), e))
			return false;
		for (int64_t r = 0; r < n; r++)
			v->value[i][at + r] = (float)dtype_load(t, v->raw, r);
	}
	return true;
}

bool
evaluator_run(Evaluator *v, int64_t first, int64_t rows, Err *e)
{
	Device *d = v->s->device;
	if (!session_rows(v->s, first, rows, e))
		return false;
	for (int64_t at = 0; at < rows; at += v->p->batch) {
		int64_t left = rows - at;
		if (!d->run(d, v->x, 1, e) || !fetch_batch(v, at, left < v->p->batch ? left : v->p->batch, e))
			return false;
	}
	return true;
}

/* ---- scores ---- */

static void
add_score(Scores *sc, uint32_t *cap, const char *what, const char *metric, double value)
{
	const char *name = what ? arena_printf(&sc->arena, "%s.%s", what, metric) : arena_strdup(&sc->arena, metric);
	VEC_PUSH(sc->score, sc->n, *cap) = (Score){name, value};
}

static void
score_loss(Evaluator *v, uint32_t i, int64_t rows, Scores *sc, uint32_t *cap)
{
	const char *name = v->p->output[i].name;
	double sum = 0;
	for (int64_t r = 0; r < rows; r++)
		sum += v->value[i][r];
	bool whole = !strcmp(name, "loss");
	add_score(sc, cap, whole ? NULL : name, "loss", rows ? sum / (double)rows : NAN);
}

static void
score_number(Evaluator *v, uint32_t i, uint32_t t, int64_t first, int64_t rows, Scores *sc, uint32_t *cap)
{
	const PlanTarget *tg = &v->s->schema->target[t];
	const float *truth = (const float *)v->s->data.column[v->s->schema->ninput + t].data + first;
	Regression m = {NAN, NAN, NAN, NAN}, scaled = m;
	for (int64_t r = 0; r < rows; r++) {
		v->pred[r] = (float)fit_unscale(v->s->fit, v->s->schema, t, v->value[i][r]);
		v->target[r] = (float)fit_unscale(v->s->fit, v->s->schema, t, truth[r]);
	}
	if (rows) {
		m = metrics_regression(v->pred, v->target, rows);
		scaled = metrics_regression(v->value[i], truth, rows);
	}
#define X(metric) add_score(sc, cap, tg->name, #metric, m.metric);
	NUMBER_METRICS(X)
#undef X
	if (tg->scale)
		add_score(sc, cap, tg->name, "scaled_mse", scaled.mse);
}

static void
score_binary(Evaluator *v, uint32_t i, uint32_t t, int64_t first, int64_t rows, double threshold, Scores *sc, uint32_t *cap)
{
	const PlanTarget *tg = &v->s->schema->target[t];
	const float *truth = (const float *)v->s->data.column[v->s->schema->ninput + t].data + first;
	Classification m = {0};
#define X(metric) m.metric = NAN;
	BINARY_METRICS(X)
#undef X
	if (rows) {
		m = metrics_binary(v->value[i], truth, rows, threshold);
		sc->binary[t] = m;
		sc->seen[t] = true;
	}
#define X(metric) add_score(sc, cap, tg->name, #metric, m.metric);
	BINARY_METRICS(X)
#undef X
}

static int64_t
find_target(const PlanData *d, const char *name)
{
	for (uint32_t t = 0; d && t < d->ntarget; t++)
		if (!strcmp(d->target[t].name, name))
			return t;
	return -1;
}

bool
evaluate(Evaluator *v, int split, double threshold, bool dry, Scores *sc, Err *e)
{
	Session *s = v->s;
	uint32_t ntarget = s->schema ? s->schema->ntarget : 0, cap = 0;
	int64_t first = s->data.split[split], rows = dry ? 0 : s->data.split[split + 1] - first;
	*sc = (Scores){.rows = rows};
	sc->binary = arena_alloc(&sc->arena, (ntarget + 1) * sizeof *sc->binary);
	sc->seen = arena_alloc(&sc->arena, (ntarget + 1) * sizeof *sc->seen);
	if (rows && !evaluator_run(v, first, rows, e))
		return false;
	for (int heads = 0; heads < 2; heads++) /* their sum first */
		for (uint32_t i = 0; i < v->p->noutput; i++)
			if (is_role(&v->p->output[i], "loss") && heads == (strcmp(v->p->output[i].name, "loss") != 0))
				score_loss(v, i, rows, sc, &cap);
	for (uint32_t i = 0; i < v->p->noutput; i++) {
		int64_t t = is_role(&v->p->output[i], "prediction") ? find_target(s->schema, v->p->output[i].name) : -1;
		if (t < 0)
			continue;
		if (s->schema->target[t].kind == TG_BINARY)
			score_binary(v, i, (uint32_t)t, first, rows, threshold, sc, &cap);
		else
			score_number(v, i, (uint32_t)t, first, rows, sc, &cap);
	}
	return true;
}

double
scores_get(const Scores *sc, const char *name, bool *found)
{
	for (uint32_t i = 0; i < sc->n; i++)
		if (!strcmp(sc->score[i].name, name)) {
			*found = true;
			return sc->score[i].value;
		}
	*found = false;
	return NAN;
}

void
scores_free(Scores *sc)
{
	free(sc->score);
	arena_free(&sc->arena);
	memset(sc, 0, sizeof *sc);
}

json_t *json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *
scores_json(const Session *s, const Scores *sc)
{
	json_t *j = json_object();
	json_object_set_new(j, "rows", json_integer(sc->rows));
	for (uint32_t i = 0; i < sc->n; i++)
		json_object_set_new(j, sc->score[i].name, json_number(sc->score[i].value));
	for (uint32_t t = 0; s->schema && t < s->schema->ntarget; t++) {
		const Classification *c = &sc->binary[t];
		char key[300];
		if (!sc->seen[t])
			continue;
		snprintf(key, sizeof key, "%.250s.confusion", s->schema->target[t].name);
		json_object_set_new(j, key, json_pack("{s:f, s:I, s:I, s:I, s:I}", "threshold", c->threshold, "tp", (json_int_t)c->tp,
		                                      "fp", (json_int_t)c->fp, "tn", (json_int_t)c->tn, "fn", (json_int_t)c->fn));
	}
	return j;
}

void
scores_print(FILE *f, const Session *s, const char *const *title, const Scores *sc, int n)
{
	int width = 12;
	for (uint32_t i = 0; i < sc->n; i++)
		if ((int)strlen(sc->score[i].name) > width)
			width = (int)strlen(sc->score[i].name);
	fprintf(f, "%-*s", width, "");
	for (int k = 0; k < n; k++)
		fprintf(f, "  %12s", title[k]);
	fprintf(f, "\n%-*s", width, "rows");
	for (int k = 0; k < n; k++)
		fprintf(f, "  %12lld", (long long)sc[k].rows);
	fputc('\n', f);
	for (uint32_t i = 0; i < sc->n; i++) {
		fprintf(f, "%-*s", width, sc->score[i].name);
		for (int k = 0; k < n; k++)
			fprintf(f, "  %12.5g", sc[k].score[i].value);
		fputc('\n', f);
	}
	for (uint32_t t = 0; s->schema && t < s->schema->ntarget; t++) {
		const Classification *c = &sc[n - 1].binary[t];
		if (!sc[n - 1].seen[t])
			continue;
		fprintf(f, "\nconfusion of %s (%s, 1 from probability %g on)\n", s->schema->target[t].name, title[n - 1], c->threshold);
		fprintf(f, "%10s  %12s  %12s\n", "", "predicted 0", "predicted 1");
		fprintf(f, "%10s  %12lld  %12lld\n", "actual 0", (long long)c->tn, (long long)c->fp);
		fprintf(f, "%10s  %12lld  %12lld\n", "actual 1", (long long)c->fn, (long long)c->tp);
	}
}

/* ---- the command ---- */

static int
find_split(const char *name, Err *e)
{
	for (int k = 0; k < 3; k++)
		if (!strcmp(name, split_names[k]))
			return k;
	const char *near = nearest_name(name, split_names, 3);
	fail(e, "--split: '%s' is not train, val or test%s%s%s", name, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
	return -1;
}

static void
print_json(const Session *s, const char *path, const char *split, const Scores *sc)
{
	json_t *j = json_object();
	json_object_set_new(j, "model", json_string(s->plan->model));
	json_object_set_new(j, "checkpoint", json_string(path));
	json_object_set_new(j, split, scores_json(s, sc));
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(j);
}

/* The columns must be fitted as in training, or the states mean nothing: same tables, same split. */
static bool
eval_data(Session *s, const Options *o, const Checkpoint *c, const char *path, Err *e)
{
	FILE *report = o->report ? open_output(o->report, "w", e) : NULL;
	if (o->report && !report)
		return false;
	if (o->split_seed < 0)
		s->split_seed = checkpoint_number(c, "split_seed", s->split_seed);
	bool ok = session_build(s, o, report, e) && session_same_data(s, c, path, e);
	return close_output(report, o->report, e) && ok;
}

static bool
eval_checkpoint(Session *s, const Options *o, int split, Evaluator *v, Scores *sc, Err *e)
{
	const char *path = checkpoint_path(s, o->ckpt);
	const PlanProgram *p = session_program(s, "eval", 0, e);
	Checkpoint c;
	if (!p || !session_open_checkpoint(s, path, &c, e))
		return false;
	bool ok = eval_data(s, o, &c, path, e) && (!o->split_out || write_split(&s->data, o->split_out, e)) &&
	          session_allocate(s, &p, 1, false, e) && session_load(s, &c, path, e);
	checkpoint_close(&c);
	int64_t rows = ok ? s->data.split[split + 1] - s->data.split[split] : 0;
	if (ok && !rows)
		return fail(e, "the %s split has no rows", o->split);
	if (!ok || !evaluator_open(v, s, p, rows, e) || !evaluate(v, split, o->threshold, false, sc, e))
		return false;
	if (o->json)
		print_json(s, path, o->split, sc);
	else
		scores_print(stdout, s, &o->split, sc, 1);
	return true;
}

bool
run_eval(const Options *o, int *status, Err *e)
{
	Session s;
	Evaluator v = {0};
	Scores sc = {0};
	int split = find_split(o->split, e);
	*status = 0;
	if (split < 0)
		return false;
	bool ok = session_open(&s, o, o->out, e) && eval_checkpoint(&s, o, split, &v, &sc, e);
	scores_free(&sc);
	evaluator_close(&v);
	session_close(&s);
	return ok;
}
