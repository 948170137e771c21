/* Values to columns, with a Fit: the same code for training and for serving.

   number    missing -> imputed, then log1p (negative -> 0), then zscore or minmax, as f32
   category  i32: the integer itself; or 2 + its place in the vocabulary, 1 unknown; or 1 + hash_word % (size - 1)
   text      i32[width]: words (words.c), cut at width, filled with 0
   tags      i32[width]: elements of a list, each once, filled with 0
   class     i32: the id, whose place among the classes it is
   Id 0 of an input means missing or padding. */
#include "data_impl.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float
to_f32(double v)
{
	return v > FLT_MAX ? FLT_MAX : v < -FLT_MAX ? -FLT_MAX : (float)v;
}

static void
encode_number(const PlanInput *in, const InputFit *f, const Rows *r, const Expr *x, float *out, Coded *c)
{
	for (int64_t i = 0; i < r->kept; i++) {
		int64_t row = r->order[i];
		double v = x->num[row];
		if (isnan(v)) {
			c->missing++;
			v = f->impute;
		} else if (v < 0 && (in->scale & SC_LOG1P)) {
			char text[32];
			snprintf(text, sizeof text, "%g", v);
			issue_add(&c->clamped, r->line[row], text);
		}
		out[i] = to_f32(scale_apply(in->scale, &f->scale, v));
	}
}

/* Where the ids of a row go. */
typedef struct Ids {
	const PlanInput *in;
	const InputFit *f;
	int32_t *out;
	int64_t n, line;
	Coded *c;
} Ids;

static void
put_id(void *ctx, const char *w)
{
	Ids *p = ctx;
	const PlanInput *in = p->in;
	Number num;
	int64_t id;
	uint32_t k;
	p->c->words++;
	if (in->ids == 2) {
		id = 1 + (int64_t)(hash_word(w, strlen(w)) % (uint64_t)(in->size - 1));
	} else if (in->ids == 1) {
		k = dict_find(&p->f->vocab, w);
		id = k == UINT32_MAX ? 1 : (int64_t)k + 2;
		p->c->unknown += k == UINT32_MAX;
	} else {
		id = parse_number(w, &num) && num.whole ? num.i : -1;
		if (id < 0 || id >= in->size) {
			issue_add(&p->c->range, p->line, w);
			id = 0;
		}
	}
	p->out[p->n++] = (int32_t)id;
}

void
encode_input(const PlanInput *in, const InputFit *f, const Rows *r, const Expr *x, void *out, Coded *c)
{
	if (in->kind == IN_NUMBER) {
		encode_number(in, f, r, x, out, c);
		return;
	}
	Text w = {0};
	for (int64_t i = 0; i < r->kept; i++) { /* out is zeroed */
		int64_t row = r->order[i];
		const char *t = expr_text(x, row);
		Ids ids = {in, f, (int32_t *)out + i * in->width, 0, r->line[row], c};
		if (!t)
			c->missing++;
		else if (each_word(in, t, &w, put_id, &ids))
			c->truncated++;
	}
	free(w.s);
}

int64_t
class_id(const PlanTarget *t, const TargetFit *f, const char *value)
{
	Number num;
	uint32_t k;
	for (uint32_t i = 0; i < t->nlabel; i++)
		if (!strcmp(t->label[i], value))
			return i;
	if (t->nlabel)
		return -1;
	if (f->classes.n)
		return (k = dict_find(&f->classes, value)) == UINT32_MAX ? -1 : (int64_t)k;
	return parse_number(value, &num) && num.whole && num.i >= 0 && num.i < t->size ? num.i : -1;
}

void
encode_target(const PlanTarget *t, const TargetFit *f, const Rows *r, const Expr *x, void *data, Coded *c)
{
	float *out = data;
	int32_t *id = data;
	for (int64_t i = 0; t->kind == TG_CLASS && i < r->kept; i++)
		id[i] = (int32_t)class_id(t, f, expr_text(x, r->order[i])); /* fit.c has refused values without an id */
	if (t->kind == TG_CLASS)
		return;
	for (int64_t i = 0; i < r->kept; i++) {
		int64_t row = r->order[i];
		double v = x->num[row];
		if (t->kind == TG_BINARY) {
			out[i] = target_positive(t, f, v);
			continue;
		}
		if (v < 0 && (t->scale & SC_LOG1P))
			issue_add(&c->clamped, r->line[row], NULL);
		out[i] = to_f32(scale_apply(t->scale, &f->scale, v));
	}
}
