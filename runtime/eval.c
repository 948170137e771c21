/* mmrun eval, and what training and prediction share with it: a range of rows through the eval program, batch after
   batch, and the scores of a split: mean losses, then each target's metrics in the target's own units. */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const split_names[3] = {"train", "val", "test"};

/* Metrics of a target, in the order in which they are printed; each is a field of the struct in runtime.h. */
#define NUMBER_METRICS(X) X(r2) X(mse) X(mae) X(rmse)
#define CLASS_METRICS(X) X(accuracy) X(top5) X(precision) X(recall) X(f1) X(log_loss)
#define LABELS_METRICS(X) X(accuracy) X(miou) X(boundary_f1)
#define BINARY_METRICS(X)                                                                           \
	X(roc_auc) X(average_precision) X(accuracy) X(precision) X(recall) X(f1) X(log_loss)

/* ---- rows through the program ---- */

static bool is_role(const PlanOutput *o, const char *role) { return !strcmp(o->role, role); }

typedef enum TallyKind { TALLY_NONE, TALLY_CLASS, TALLY_LABELS, TALLY_TENSOR } TallyKind;

/* Of an output with several values a row: what its metrics need. */
typedef struct Tally {
	TallyKind kind;
	uint32_t target;
	Multiclass classes;
	double square, absolute;
	int64_t n;
} Tally;

static int64_t
find_target(const PlanData *d, const char *name)
{
	for (uint32_t t = 0; d && t < d->ntarget; t++)
		if (!strcmp(d->target[t].name, name))
			return t;
	return -1;
}

/* Values a row of an output that is read here; 0: it is not. */
static int64_t
output_width(const Evaluator *v, const PlanOutput *o)
{
	int64_t count = 1, t = is_role(o, "prediction") ? find_target(v->s->schema, o->name) : -1;
	if (!is_role(o, "loss") && !is_role(o, "prediction") && !(v->keep && is_role(o, "value")))
		return 0;
	if (t >= 0 && v->s->schema->target[t].kind == TG_NEXT)
		return 0;
	for (uint32_t k = 0; k < o->ndim; k++)
		count *= o->dim[k];
	return count % v->p->batch ? 0 : count / v->p->batch;
}

/* What a prediction has in a row, by its target. */
static int64_t
target_width(const PlanTarget *t)
{
	return t->kind == TG_CLASS ? t->size : t->kind == TG_LABELS || t->kind == TG_TENSOR ? t->width : 1;
}

static bool
open_output_values(Evaluator *v, uint32_t i, Err *e)
{
	static const TallyKind kind[] = {[TG_CLASS] = TALLY_CLASS, [TG_LABELS] = TALLY_LABELS, [TG_TENSOR] = TALLY_TENSOR, [TG_NEXT] = TALLY_NONE};
	const PlanOutput *o = &v->p->output[i];
	int64_t w = v->width[i] = output_width(v, o), t = is_role(o, "prediction") ? find_target(v->s->schema, o->name) : -1;
	bool read = is_role(o, "loss") || (is_role(o, "prediction") && !(t >= 0 && v->s->schema->target[t].kind == TG_NEXT));
	int64_t want = t >= 0 ? target_width(&v->s->schema->target[t]) : 1;
	if (!read && !w)
		return true;
	if (!w || o->nref != 1 || o->ref[0].space >= SP_DATA || (read && w != want) ||
	    o->ref[0].bytes != (uint64_t)(w * v->p->batch) * dtype_bytes((DType)o->dtype))
		return fail(e, "%s: output %s of program %s is not %lld values a row: compile the plan again", v->s->path, o->name, v->p->name, (long long)want);
	if (!v->keep && t >= 0)
		v->tally[i] = (Tally){.kind = kind[v->s->schema->target[t].kind], .target = (uint32_t)t};
	if (v->tally[i].kind == TALLY_NONE)
		v->value[i] = xmalloc((size_t)(v->cap * w) * sizeof *v->value[i]);
	return true;
}

bool
evaluator_open(Evaluator *v, Session *s, const PlanProgram *p, int64_t rows, Err *e)
{
	*v = (Evaluator){.s = s, .p = p, .cap = rows > 0 ? rows : 1};
	size_t n = (size_t)v->cap;
	int64_t widest = 1;
	v->keep = s->schema && s->data.ncolumn < s->schema->ninput + s->schema->ntarget;
	v->value = xcalloc(p->noutput, sizeof *v->value);
	v->width = xcalloc(p->noutput, sizeof *v->width);
	v->tally = xcalloc(p->noutput, sizeof *v->tally);
	v->pred = xmalloc(n * sizeof *v->pred);
	v->target = xmalloc(n * sizeof *v->target);
	for (uint32_t i = 0; i < p->noutput; i++) {
		if (!open_output_values(v, i, e))
			return false;
		widest = v->width[i] > widest ? v->width[i] : widest;
	}
	v->raw = xmalloc((size_t)(p->batch * widest) * sizeof(float));
	v->x = session_prepare(s, p, e);
	return v->x != NULL;
}

void
evaluator_close(Evaluator *v)
{
	if (v->x)
		v->s->device->drop(v->s->device, v->x);
	for (uint32_t i = 0; v->value && i < v->p->noutput; i++) {
		free(v->value[i]);
		multiclass_close(&v->tally[i].classes);
	}
	free(v->value);
	free(v->width);
	free(v->tally);
	free(v->pred);
	free(v->target);
	free(v->raw);
	memset(v, 0, sizeof *v);
}

static void
tally_begin(Evaluator *v)
{
	for (uint32_t i = 0; i < v->p->noutput; i++) {
		Tally *a = &v->tally[i];
		multiclass_close(&a->classes);
		if (a->kind == TALLY_CLASS || a->kind == TALLY_LABELS)
			multiclass_open(&a->classes, v->s->schema->target[a->target].size);
		a->square = a->absolute = 0;
		a->n = 0;
	}
}

/* Errors of a tensor, in the target's scale. */
static void
tally_errors(Tally *a, const PlanTarget *t, const float *told, const void *truth, int64_t n)
{
	double unit = t->scale & SC_UNIT ? 255 : 1;
	for (int64_t k = 0; k < n; k++) {
		double y = t->dtype == DT_U8 ? ((const uint8_t *)truth)[k] / unit : ((const float *)truth)[k], d = told[k] - y;
		a->square += d * d;
		a->absolute += fabs(d);
	}
	a->n += n;
}

/* Labels of n rows, a picture (or a line, or several pictures) each. */
static void
tally_labels(Multiclass *m, const PlanTarget *t, const uint8_t *told, const uint8_t *truth, int64_t n)
{
	int64_t width = t->dim[t->ndim - 1], height = t->ndim > 1 ? t->dim[t->ndim - 2] : 1, all = n * t->width;
	multiclass_labels(m, told, truth, all, t->ignore);
	for (int64_t at = 0; at < all; at += height * width)
		multiclass_boundary(m, told + at, truth + at, height, width, t->ignore);
}

/* Counts a batch in v->raw; row: of the dataset. */
static void
tally_add(Evaluator *v, uint32_t i, int64_t row, int64_t n)
{
	const PlanData *d = v->s->schema;
	Tally *a = &v->tally[i];
	const PlanTarget *t = &d->target[a->target];
	const Column *c = &v->s->data.column[d->ninput + a->target];
	const char *truth = (const char *)c->data + (size_t)(row * c->width) * dtype_bytes(c->dtype);
	if (a->kind == TALLY_CLASS)
		multiclass_rows(&a->classes, v->raw, (const void *)truth, n);
	else if (a->kind == TALLY_LABELS)
		tally_labels(&a->classes, t, v->raw, (const void *)truth, n);
	else
		tally_errors(a, t, v->raw, truth, n * v->width[i]);
}

/* Takes what the last batch left for its n valid rows, which are rows at.. of the range from `first` on. */
static bool
fetch_batch(Evaluator *v, int64_t first, int64_t at, int64_t n, Err *e)
{
	Device *d = v->s->device;
	for (uint32_t i = 0; i < v->p->noutput; i++) {
		const PlanOutput *o = &v->p->output[i];
		DType t = (DType)o->dtype;
		int64_t w = v->width[i];
		if (!w)
			continue;
		if (!d->download(d, v->raw, (char *)v->s->base[o->ref[0].space] + o->ref[0].off, (size_t)(n * w) * dtype_bytes(t), e))
			return false;
		if (v->tally[i].kind != TALLY_NONE)
			tally_add(v, i, first + at, n);
		for (int64_t k = 0; v->value[i] && k < n * w; k++)
			v->value[i][at * w + k] = (float)dtype_load(t, v->raw, k);
	}
	return true;
}

bool
evaluator_run(Evaluator *v, int64_t first, int64_t rows, Err *e)
{
	Device *d = v->s->device;
	if (!session_rows(v->s, first, rows, e))
		return false;
	tally_begin(v);
	for (int64_t at = 0; at < rows; at += v->p->batch) {
		int64_t left = rows - at;
		if (!d->run(d, v->x, 1, e) || !fetch_batch(v, first, at, left < v->p->batch ? left : v->p->batch, e))
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
	double mean = rows ? sum / (double)rows : NAN;
	int64_t t = whole ? -1 : find_target(v->s->schema, name);
	add_score(sc, cap, whole ? NULL : name, "loss", mean);
	if (t >= 0 && v->s->schema->target[t].kind == TG_NEXT) {
		add_score(sc, cap, name, "bits_per_byte", mean / log(2));
		add_score(sc, cap, name, "perplexity", exp(mean));
	}
}

static void
score_class(Evaluator *v, uint32_t i, uint32_t t, bool any, Scores *sc, uint32_t *cap)
{
	const PlanTarget *tg = &v->s->schema->target[t];
	Multiclass none = {0};
	MulticlassScores m = multiclass_scores(any ? &v->tally[i].classes : &none);
	if (any) {
		multiclass_close(&sc->multi[t]);
		sc->multi[t] = v->tally[i].classes;
		v->tally[i].classes = none;
	}
#define X(metric) add_score(sc, cap, tg->name, #metric, m.metric);
	if (tg->kind == TG_CLASS) {
		CLASS_METRICS(X)
	} else {
		LABELS_METRICS(X)
	}
#undef X
}

static void
score_tensor(Evaluator *v, uint32_t i, uint32_t t, Scores *sc, uint32_t *cap)
{
	const char *name = v->s->schema->target[t].name;
	const Tally *a = &v->tally[i];
	double mse = a->n ? a->square / (double)a->n : NAN;
	add_score(sc, cap, name, "mse", mse);
	add_score(sc, cap, name, "mae", a->n ? a->absolute / (double)a->n : NAN);
	add_score(sc, cap, name, "rmse", sqrt(mse));
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

bool
evaluate(Evaluator *v, int split, double threshold, bool dry, Scores *sc, Err *e)
{
	Session *s = v->s;
	uint32_t ntarget = s->schema ? s->schema->ntarget : 0, cap = 0;
	int64_t first = s->data.split[split], rows = dry ? 0 : s->data.split[split + 1] - first;
	*sc = (Scores){.rows = rows};
	sc->binary = arena_alloc(&sc->arena, (ntarget + 1) * sizeof *sc->binary);
	sc->multi = arena_alloc(&sc->arena, (ntarget + 1) * sizeof *sc->multi);
	sc->nmulti = ntarget;
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
		switch (s->schema->target[t].kind) {
		case TG_NUMBER: score_number(v, i, (uint32_t)t, first, rows, sc, &cap); break;
		case TG_BINARY: score_binary(v, i, (uint32_t)t, first, rows, threshold, sc, &cap); break;
		case TG_TENSOR: score_tensor(v, i, (uint32_t)t, sc, &cap); break;
		case TG_NEXT: break; /* said with its loss */
		default: score_class(v, i, (uint32_t)t, rows > 0, sc, &cap);
		}
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
	for (uint32_t t = 0; t < sc->nmulti; t++)
		multiclass_close(&sc->multi[t]);
	arena_free(&sc->arena);
	memset(sc, 0, sizeof *sc);
}

json_t *json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

/* A list a true class, of how often each class was told. */
static json_t *
confusion_json(const Multiclass *m)
{
	json_t *rows = json_array();
	for (int64_t i = 0; i < m->n; i++) {
		json_t *row = json_array();
		for (int64_t k = 0; k < m->n; k++)
			json_array_append_new(row, json_integer(m->confusion[i * m->n + k]));
		json_array_append_new(rows, row);
	}
	return rows;
}

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
		if (sc->multi[t].confusion && sc->multi[t].n <= 100) {
			snprintf(key, sizeof key, "%.250s.confusion", s->schema->target[t].name);
			json_object_set_new(j, key, confusion_json(&sc->multi[t]));
		}
		if (!sc->seen[t])
			continue;
		snprintf(key, sizeof key, "%.250s.confusion", s->schema->target[t].name);
		json_object_set_new(j, key, json_pack("{s:f, s:I, s:I, s:I, s:I}", "threshold", c->threshold, "tp", (json_int_t)c->tp,
		                                      "fp", (json_int_t)c->fp, "tn", (json_int_t)c->tn, "fn", (json_int_t)c->fn));
	}
	return j;
}

typedef struct Confused {
	int64_t truth, told, n;
} Confused;

static int
by_count(const void *x, const void *y)
{
	const Confused *a = x, *b = y;
	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return a->truth != b->truth ? (a->truth > b->truth) - (a->truth < b->truth) : (a->told > b->told) - (a->told < b->told);
}

/* The ten pairs of classes that are most often taken for each other. */
static void
print_mistakes(FILE *f, const Session *s, uint32_t t, const Multiclass *m)
{
	Confused *c = NULL;
	size_t n = 0, cap = 0;
	char a[24], b[24];
	for (int64_t i = 0; i < m->n; i++)
		for (int64_t k = 0; k < m->n; k++)
			if (i != k && m->confusion[i * m->n + k])
				VEC_PUSH(c, n, cap) = (Confused){i, k, m->confusion[i * m->n + k]};
	qsort(c, n, sizeof *c, by_count);
	for (size_t i = 0; i < n && i < 10; i++)
		fprintf(f, "%20.20s  told %-20.20s %8lld\n", fit_class_name(s->fit, s->schema, t, c[i].truth, a),
		        fit_class_name(s->fit, s->schema, t, c[i].told, b), (long long)c[i].n);
	free(c);
}

/* The whole matrix where it fits a line, else the commonest mistakes. */
static void
print_confusion(FILE *f, const Session *s, uint32_t t, const char *title, const Multiclass *m)
{
	char name[24];
	int width = 1, label = 4;
	if (!m->rows)
		return;
	fprintf(f, "\n%s of %s (%s%s)\n", m->n > 12 ? "commonest mistakes" : "confusion", s->schema->target[t].name, title,
	        m->n > 12 ? "" : "; lines: actual, columns: predicted");
	if (m->n > 12) {
		print_mistakes(f, s, t, m);
		return;
	}
	for (int64_t k = 0; k < m->n; k++) {
		int n = (int)strlen(fit_class_name(s->fit, s->schema, t, k, name));
		label = n > label ? n > 16 ? 16 : n : label;
		for (int64_t i = 0; i < m->n; i++)
			while (width < 12 && m->confusion[i * m->n + k] >= pow(10, width))
				width++;
	}
	width = width < 5 ? 5 : width;
	fprintf(f, "%*s", label, "");
	for (int64_t k = 0; k < m->n; k++)
		fprintf(f, " %*.*s", width, width, fit_class_name(s->fit, s->schema, t, k, name));
	for (int64_t i = 0; i < m->n; i++) {
		fprintf(f, "\n%*.*s", label, label, fit_class_name(s->fit, s->schema, t, i, name));
		for (int64_t k = 0; k < m->n; k++)
			fprintf(f, " %*lld", width, (long long)m->confusion[i * m->n + k]);
	}
	fputc('\n', f);
}

bool
score_headline(const char *name)
{
	static const char *const metric[] = {".r2", ".roc_auc", ".accuracy", ".miou", ".bits_per_byte"};
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < LEN(metric); i++)
		if (!strcmp(dot, metric[i]))
			return true;
	return !strcmp(name, "loss");
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
		if (sc[n - 1].multi[t].confusion)
			print_confusion(f, s, t, title[n - 1], &sc[n - 1].multi[t]);
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
	if (o->fold < 0)
		s->fold = (int64_t)checkpoint_number(c, "fold", (uint64_t)s->fold);
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
