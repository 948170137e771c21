/* mmrun predict: raw rows through the checkpoint's own preprocessing (data_apply with its fit) and the eval program;
   CSV, JSON lines, or text for one typed row. Numbers are in the target's own units, binary targets a probability and
   the label 0 or 1, classes the likeliest with its probability; pictures go to a page of their own (pictures.c). */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum Format { CSV, JSONL, TEXT } Format;

/* A target that the model predicts, and that a line of text can say: no tensor, no labels. */
typedef struct Head {
	uint32_t output, target;
	const char *name;
	TargetKind kind;
	int64_t width;
} Head;

/* What is predicted of a row. */
typedef struct Told {
	double value;        /* a number, or the probability of yes or of the class */
	const char *label;   /* of a class */
	char buf[24];
} Told;

typedef struct Predict {
	Session s;
	Evaluator v;
	Format format;
	double threshold;
	uint32_t nhead, caphead;
	Head *head;
} Predict;

static bool
find_format(const Options *o, Format *out, Err *e)
{
	static const char *const names[] = {"csv", "jsonl", "text"};
	const char *near;
	*out = o->set ? TEXT : CSV;
	for (size_t i = 0; o->format && i < LEN(names); i++)
		if (!strcmp(o->format, names[i])) {
			*out = (Format)i;
			return true;
		}
	if (!o->format)
		return true;
	near = nearest_name(o->format, names, LEN(names));
	return fail(e, "--format: '%s' is not csv, jsonl or text%s%s%s", o->format, near ? ": did you mean '" : "", near ? near : "",
	            near ? "'?" : "");
}

/* The eval program of the smallest batch that takes all rows, else of the largest. */
static const PlanProgram *
choose_program(const Session *s, int64_t rows, Err *e)
{
	const PlanProgram *best = NULL;
	for (uint32_t i = 0; i < s->set->nprogram; i++) {
		const PlanProgram *p = &s->set->program[i];
		if (strcmp(p->name, "eval"))
			continue;
		bool enough = p->batch >= rows, had = best && best->batch >= rows;
		if (!best || (enough ? !had || p->batch < best->batch : !had && p->batch > best->batch))
			best = p;
	}
	return best ? best : session_program(s, "eval", 0, e);
}

static void
find_heads(Predict *p)
{
	for (uint32_t i = 0; i < p->v.p->noutput; i++) {
		const PlanOutput *o = &p->v.p->output[i];
		for (uint32_t t = 0; !strcmp(o->role, "prediction") && t < p->s.schema->ntarget; t++) {
			const PlanTarget *tg = &p->s.schema->target[t];
			if (!strcmp(tg->name, o->name) && tg->kind <= TG_CLASS)
				VEC_PUSH(p->head, p->nhead, p->caphead) = (Head){i, t, tg->name, (TargetKind)tg->kind, p->v.width[i]};
		}
	}
}

/* ---- output ---- */

static const Told *
head_value(const Predict *p, const Head *h, int64_t row, Told *out)
{
	const float *v = p->v.value[h->output] + row * h->width;
	int64_t best = 0;
	for (int64_t k = 1; k < h->width; k++)
		best = v[k] > v[best] ? k : best;
	out->value = h->kind == TG_NUMBER ? fit_unscale(p->s.fit, p->s.schema, h->target, v[0]) : v[best];
	out->label = h->kind == TG_CLASS ? fit_class_name(p->s.fit, p->s.schema, h->target, best, out->buf) : NULL;
	return out;
}

static void
put_csv_row(const Predict *p, FILE *f, const char *key, int64_t row)
{
	write_cell(f, key);
	for (uint32_t i = 0; i < p->nhead; i++) {
		Told told;
		const Told *v = head_value(p, &p->head[i], row, &told);
		fprintf(f, ",%.7g", v->value);
		if (p->head[i].kind == TG_BINARY)
			fprintf(f, ",%d", v->value >= p->threshold);
		if (v->label) {
			fputc(',', f);
			write_cell(f, v->label);
		}
	}
	fputc('\n', f);
}

static void
put_csv_head(const Predict *p, FILE *f)
{
	fputs("key", f);
	for (uint32_t i = 0; i < p->nhead; i++) {
		fputc(',', f);
		if (p->head[i].kind != TG_NUMBER)
			fprintf(f, "%s_probability,", p->head[i].name);
		write_cell(f, p->head[i].name);
	}
	fputc('\n', f);
}

static void
put_json_row(const Predict *p, FILE *f, const char *key, int64_t row)
{
	json_t *j = json_object();
	json_object_set_new(j, "key", json_string(key));
	for (uint32_t i = 0; i < p->nhead; i++) {
		const Head *h = &p->head[i];
		Told told;
		const Told *v = head_value(p, h, row, &told);
		char name[300];
		snprintf(name, sizeof name, h->kind == TG_NUMBER ? "%.250s" : "%.250s_probability", h->name);
		json_object_set_new(j, name, json_number(v->value));
		if (h->kind == TG_BINARY)
			json_object_set_new(j, h->name, json_integer(v->value >= p->threshold));
		if (v->label)
			json_object_set_new(j, h->name, json_string(v->label));
	}
	json_dumpf(j, f, JSON_REAL_PRECISION(7));
	fputc('\n', f);
	json_decref(j);
}

static void
put_text_row(const Predict *p, FILE *f, const char *key, int64_t row)
{
	if (key[0])
		fprintf(f, "%s\n", key);
	for (uint32_t i = 0; i < p->nhead; i++) {
		const Head *h = &p->head[i];
		Told told;
		const Told *v = head_value(p, h, row, &told);
		if (h->kind == TG_NUMBER)
			fprintf(f, "%-16s %.4f\n", h->name, v->value);
		else
			fprintf(f, "%-16s %s (probability %.4f)\n", h->name, v->label ? v->label : v->value >= p->threshold ? "yes" : "no", v->value);
	}
}

static bool
write_predictions(const Predict *p, const char *path, Err *e)
{
	static void (*const put[])(const Predict *, FILE *, const char *, int64_t) = {put_csv_row, put_json_row, put_text_row};
	const Dataset *d = &p->s.data;
	int64_t first = d->split[2], rows = d->split[3] - first;
	FILE *f = path ? open_output(path, "w", e) : stdout;
	if (!f)
		return false;
	if (p->format == CSV)
		put_csv_head(p, f);
	for (int64_t r = 0; r < rows; r++)
		put[p->format](p, f, d->key && d->key[first + r] ? d->key[first + r] : "", r);
	return !path || close_output(f, path, e);
}

/* ---- the command ---- */

/* The fit comes with the state: predictions see exactly the preprocessing of training. */
static bool
take_fit(Session *s, const Checkpoint *c, const char *path, Err *e)
{
	const char *fit = checkpoint_meta(c, "fit");
	if (!fit)
		return fail(e, "%s: holds no fitted preprocessing (metadata 'fit')", path);
	s->fit = fit_from_json(s->schema, fit, e);
	return s->fit != NULL;
}

static bool
predict_rows(Predict *p, const Options *o, const Checkpoint *c, const char *path, Err *e)
{
	Session *s = &p->s;
	if (!take_fit(s, c, path, e) || !session_apply(s, o, o->in, o->set, e))
		return false;
	int64_t rows = s->data.split[3] - s->data.split[2];
	const PlanProgram *prog = choose_program(s, rows, e);
	return prog && session_allocate(s, &prog, 1, false, e) && session_load(s, c, path, e) && evaluator_open(&p->v, s, prog, rows, e) &&
	       evaluator_run(&p->v, s->data.split[2], rows, e);
}

static bool
predict(Predict *p, const Options *o, Err *e)
{
	Session *s = &p->s;
	Checkpoint c;
	if (!o->in == !o->set)
		return fail(e, "give the rows to predict: either --in FILE.csv or --set COLUMN=VALUE ...");
	if (!find_format(o, &p->format, e) || !session_open(s, o, o->run, e))
		return false;
	if (!s->schema || !s->schema->ntable)
		return fail(e, "%s: the model has no data section, so there are no rows to predict", s->path);
	const char *path = checkpoint_path(s, o->ckpt);
	if (!session_open_checkpoint(s, path, &c, e))
		return false;
	bool ok = predict_rows(p, o, &c, path, e);
	checkpoint_close(&c);
	if (!ok)
		return false;
	find_heads(p);
	if (o->png && !write_page(&p->v, o->png, e))
		return false;
	if (!p->nhead && !o->png)
		return fail(e, "the model predicts pictures, not values: give --png FILE to write them");
	return !p->nhead || write_predictions(p, o->file, e);
}

bool
run_predict(const Options *o, int *status, Err *e)
{
	Predict *p = xcalloc(1, sizeof *p);
	p->threshold = o->threshold;
	*status = 0;
	bool ok = predict(p, o, e);
	evaluator_close(&p->v);
	session_close(&p->s);
	free(p->head);
	free(p);
	return ok;
}
