/* What is learnt from the training split before any training: imputation values, scales, vocabularies, thresholds, class
   weights. Sums run in row order, so that the same rows give the same bits. As JSON (fitjson.c) it travels with the checkpoint. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- words to numbers ---- */

static uint32_t
dict_slot(const Dict *d, const char *w)
{
	uint32_t at = (uint32_t)hash_word(w, strlen(w)) & (d->nslot - 1);
	while (d->slot[at] && strcmp(d->word[d->slot[at] - 1], w))
		at = (at + 1) & (d->nslot - 1);
	return at;
}

uint32_t
dict_find(const Dict *d, const char *w)
{
	return d->nslot ? d->slot[dict_slot(d, w)] - 1u : UINT32_MAX;
}

static void
dict_grow(Dict *d)
{
	free(d->slot);
	d->nslot = d->nslot ? d->nslot * 2 : 64;
	d->slot = xcalloc(d->nslot, sizeof *d->slot);
	for (uint32_t i = 0; i < d->n; i++)
		d->slot[dict_slot(d, d->word[i])] = i + 1;
}

uint32_t
dict_add(Dict *d, const char *w)
{
	if (d->n * 2 >= d->nslot)
		dict_grow(d);
	uint32_t at = dict_slot(d, w), i;
	if (d->slot[at])
		return d->slot[at] - 1;
	i = d->n;
	VEC_PUSH(d->count, i, d->capcount) = 0;
	VEC_PUSH(d->word, d->n, d->capword) = xstrdup(w);
	d->slot[at] = d->n;
	return d->n - 1;
}

void
dict_free(Dict *d)
{
	for (uint32_t i = 0; i < d->n; i++)
		free(d->word[i]);
	free(d->word);
	free(d->count);
	free(d->slot);
	*d = (Dict){0};
}

static void
count_word(void *ctx, const char *w)
{
	Dict *d = ctx;
	uint32_t i = dict_add(d, w); /* may move count */
	d->count[i]++;
}

typedef struct Ranked {
	const char *word;
	int64_t count;
} Ranked;

static int
by_rank(const void *x, const void *y)
{
	const Ranked *a = x, *b = y;
	if (a->count != b->count)
		return a->count > b->count ? -1 : 1;
	return strcmp(a->word, b->word);
}

/* The most frequent words of the training split, ties by bytes: at most size - 2, each seen min_count times. */
static void
fit_vocab(const PlanInput *in, const Rows *r, const Expr *x, Dict *vocab)
{
	Dict all = {0};
	Text w = {0};
	for (int64_t i = 0; i < r->split[1]; i++) {
		const char *t = expr_text(x, r->order[i]);
		if (t)
			each_word(in, t, &w, count_word, &all);
	}
	Ranked *rank = xmalloc(all.n * sizeof *rank);
	for (uint32_t i = 0; i < all.n; i++)
		rank[i] = (Ranked){all.word[i], all.count[i]};
	qsort(rank, all.n, sizeof *rank, by_rank);
	for (uint32_t i = 0; i < all.n && i < in->size - 2 && rank[i].count >= in->min_count; i++)
		dict_add(vocab, rank[i].word);
	free(rank);
	free(w.s);
	dict_free(&all);
}

/* ---- numbers ---- */

static int
by_bytes(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static int
by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

/* The q-quantile of sorted values by linear interpolation: numpy.quantile, method 'linear', with its rounding. */
static double
quantile(const double *v, int64_t n, double q)
{
	double at = q * (double)(n - 1), low = floor(at), t = at - low;
	int64_t i = (int64_t)low;
	if (i >= n - 1)
		return v[n - 1];
	double d = v[i + 1] - v[i];
	return t >= 0.5 ? v[i + 1] - d * (1 - t) : v[i] + d * t;
}

/* The most frequent of sorted values, the smallest where several are. */
static double
mode(const double *v, int64_t n)
{
	int64_t best = 0;
	double m = 0;
	for (int64_t i = 0, j; i < n; i = j) {
		for (j = i; j < n && v[j] == v[i];)
			j++;
		if (j - i > best) {
			best = j - i;
			m = v[i];
		}
	}
	return m;
}

static double
mean_of(const double *v, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += v[i];
	return n ? sum / (double)n : 0;
}

/* Values of the training split that are there, sorted; malloced. */
static double *
sorted_values(const Rows *r, const Expr *x, int64_t *n)
{
	double *v = xmalloc((size_t)r->split[1] * sizeof *v);
	*n = 0;
	for (int64_t i = 0; i < r->split[1]; i++)
		if (!isnan(x->num[r->order[i]]))
			v[(*n)++] = x->num[r->order[i]];
	qsort(v, (size_t)*n, sizeof *v, by_value);
	return v;
}

static double
fit_impute(const PlanInput *in, const Rows *r, const Expr *x)
{
	int64_t n;
	double *v = sorted_values(r, x, &n), out = 0;
	if (in->missing == MISS_CONSTANT)
		out = in->missing_value;
	else if (!n || in->missing == MISS_ZERO)
		out = 0;
	else if (in->missing == MISS_MEAN)
		out = mean_of(v, n);
	else if (in->missing == MISS_MODE)
		out = mode(v, n);
	else
		out = quantile(v, n, 0.5); /* also for rows that only training drops */
	free(v);
	return out;
}

static double
log_part(uint32_t bits, double v)
{
	return bits & SC_LOG1P ? log1p(v < 0 ? 0 : v) : v;
}

double
scale_apply(uint32_t bits, const ScaleFit *f, double v)
{
	v = log_part(bits, v);
	if (bits & SC_ZSCORE)
		return (v - f->mean) / f->std;
	if (bits & SC_MINMAX)
		return (v - f->min) / (f->max > f->min ? f->max - f->min : 1);
	return v;
}

/* Mean, population standard deviation (1 for a constant) and range of the training split, imputed and after log1p. */
static ScaleFit
fit_scale(uint32_t bits, const Rows *r, const Expr *x, double impute)
{
	int64_t n = r->split[1];
	double *v = xmalloc((size_t)n * sizeof *v), sum = 0;
	ScaleFit f = {.std = 1};
	for (int64_t i = 0; i < n; i++) {
		double raw = x->num[r->order[i]];
		v[i] = log_part(bits, isnan(raw) ? impute : raw);
		f.min = i && f.min < v[i] ? f.min : v[i];
		f.max = i && f.max > v[i] ? f.max : v[i];
	}
	f.mean = mean_of(v, n);
	for (int64_t i = 0; i < n; i++)
		sum += (v[i] - f.mean) * (v[i] - f.mean);
	if (f.max > f.min && isfinite(sum) && sum > 0)
		f.std = sqrt(sum / (double)n);
	if (f.max == f.min)
		f.mean = f.min; /* so that a constant becomes exactly 0 */
	free(v);
	return f;
}

/* ---- targets ---- */

bool
target_positive(const PlanTarget *t, const TargetFit *f, double value)
{
	return t->above == AB_CONDITION ? value != 0 : value > f->threshold;
}

static bool
fit_binary(const PlanTarget *t, const Rows *r, const Expr *x, TargetFit *f, Err *e)
{
	int64_t n = r->split[1], positive = 0, nv;
	f->threshold = t->threshold;
	if (t->above == AB_CONDITION)
		f->threshold = 0;
	if (t->above == AB_QUANTILE) {
		double *v = sorted_values(r, x, &nv);
		f->threshold = quantile(v, nv, t->threshold);
		free(v);
	}
	for (int64_t i = 0; i < n; i++)
		positive += target_positive(t, f, x->num[r->order[i]]);
	if (!positive || positive == n)
		return fail(e, "%s: target %s: all %lld training rows are %s (%s%s%.17g); choose another condition or threshold, or "
		            "read more rows\n  in: %s", t->loc, t->name, (long long)n, positive ? "positive" : "negative",
		            t->above == AB_CONDITION ? "the condition" : "the value", t->above == AB_CONDITION ? " != " : " > ",
		            f->threshold, t->from);
	f->prior = (double)positive / (double)n;
	f->positive_weight = (double)(n - positive) / (double)positive;
	return true;
}

static bool
fit_number(const PlanTarget *t, const Rows *r, const Expr *x, TargetFit *f, Err *e)
{
	double sum = 0;
	f->scale = fit_scale(t->scale, r, x, 0);
	f->positive_weight = 1;
	if (f->scale.min == f->scale.max)
		return fail(e, "%s: target %s: it is %.17g in all %lld training rows, so there is nothing to learn; check the "
		            "expression, or read more rows\n  in: %s", t->loc, t->name, f->scale.min, (long long)r->split[1], t->from);
	for (int64_t i = 0; i < r->split[1]; i++)
		sum += scale_apply(t->scale, &f->scale, x->num[r->order[i]]);
	f->prior = sum / (double)r->split[1];
	return true;
}

/* Which values are which class. Where the model gives only their number: whole numbers below it are ids; other values
   get ids in their order. A class is part of the question, so values of all splits count. */
static bool
fit_class(const PlanTarget *t, const Rows *r, const Expr *x, TargetFit *f, Err *e)
{
	Dict all = {0};
	bool ids = true, ok = true;
	f->positive_weight = 1;
	f->scale.std = 1;
	for (int64_t i = 0; i < r->kept; i++) {
		const char *v = expr_text(x, r->order[i]);
		ids = ids && class_id(t, f, v) >= 0;
		if (!ids && t->nlabel) {
			const char *near = nearest_name(v, (const char *const *)t->label, t->nlabel);
			return fail(e, "%s: target %s: '%.60s' at %s:%lld is none of its classes%s%s%s", t->loc, t->name, v, r->file,
			            (long long)r->line[r->order[i]], near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
		}
		if (t->nlabel)
			continue;
		dict_add(&all, v);
		if (all.n > (uint64_t)t->size) {
			ok = fail(e, "%s: target %s: more than %lld different values: '%.60s' at %s:%lld is one more; raise classes, or choose another column", t->loc,
			          t->name, (long long)t->size, v, r->file, (long long)r->line[r->order[i]]);
			break;
		}
	}
	if (ok && !ids) {
		qsort(all.word, all.n, sizeof *all.word, by_bytes);
		for (uint32_t i = 0; i < all.n; i++)
			dict_add(&f->classes, all.word[i]);
	}
	dict_free(&all);
	return ok;
}

/* Nothing to fit: tensors, labels, next. */
static bool
fit_nothing(const PlanTarget *t, const Rows *r, const Expr *x, TargetFit *f, Err *e)
{
	(void)t, (void)r, (void)x, (void)e;
	f->positive_weight = 1;
	f->scale.std = 1;
	return true;
}

static bool (*const fit_target[])(const PlanTarget *, const Rows *, const Expr *, TargetFit *, Err *) = {
	[TG_NUMBER] = fit_number, [TG_BINARY] = fit_binary, [TG_CLASS] = fit_class,
	[TG_LABELS] = fit_nothing, [TG_TENSOR] = fit_nothing, [TG_NEXT] = fit_nothing,
};

/* ---- all ---- */

Fit *
fit_new(const PlanData *d)
{
	Fit *f = xcalloc(1, sizeof *f);
	f->ninput = d->ninput;
	f->ntarget = d->ntarget;
	f->input = xcalloc(d->ninput, sizeof *f->input);
	f->target = xcalloc(d->ntarget, sizeof *f->target);
	for (uint32_t i = 0; i < d->ninput; i++) {
		f->input[i].name = xstrdup(d->input[i].name);
		f->input[i].number = d->input[i].kind == IN_NUMBER;
		f->input[i].tensor = d->input[i].kind == IN_TENSOR;
		f->input[i].words = d->input[i].kind >= IN_CATEGORY && d->input[i].kind <= IN_TAGS && d->input[i].ids == 1;
	}
	for (uint32_t i = 0; i < d->ntarget; i++)
		f->target[i].name = xstrdup(d->target[i].name);
	return f;
}

/* A column of words is not one of numbers of which all are missing. */
static bool
check_numbers(const PlanInput *in, const Rows *r, const Expr *x, Err *e)
{
	if (!x->junk.n || x->missing < r->n)
		return true;
	return fail(e, "%s: input %s: none of its values is a number: the first is '%s' (%s:%lld); words are type: category or text\n  in: %s", in->loc,
	            in->name, x->junk.first[0].text, r->file, (long long)x->junk.first[0].line, in->from);
}

bool
fit_build(Source *s, const Rows *r, Fit **out, Err *e)
{
	const PlanData *d = s->d;
	Fit *f = fit_new(d);
	for (uint32_t i = 0; i < s->ntable; i++)
		for (uint32_t k = 0; k < s->table[i].ncol; k++) {
			const TableColumn *c = &s->table[i].col[k];
			VEC_PUSH(f->column, f->ncolumn, f->capcolumn) =
			        (FitColumn){xstrdup(s->table[i].name), xstrdup(c->name), c->type};
		}
	for (uint32_t i = 0; i < d->ninput; i++) {
		const PlanInput *in = &d->input[i];
		if (f->input[i].number && !check_numbers(in, r, &r->expr[i], e))
			break;
		if (f->input[i].number) {
			f->input[i].impute = fit_impute(in, r, &r->expr[i]);
			f->input[i].scale = fit_scale(in->scale, r, &r->expr[i], f->input[i].impute);
		} else if (f->input[i].words) {
			fit_vocab(in, r, &r->expr[i], &f->input[i].vocab);
		}
	}
	for (uint32_t i = 0; i < d->ntarget && !e->set; i++)
		fit_target[d->target[i].kind](&d->target[i], r, &r->expr[d->ninput + i], &f->target[i], e);
	if (e->set) {
		fit_free(f);
		return false;
	}
	*out = f;
	return true;
}

void
fit_free(Fit *f)
{
	if (!f)
		return;
	for (uint32_t i = 0; i < f->ninput; i++) {
		dict_free(&f->input[i].vocab);
		free(f->input[i].mean);
		free(f->input[i].std);
		free(f->input[i].name);
	}
	for (uint32_t i = 0; i < f->ntarget; i++) {
		dict_free(&f->target[i].classes);
		free(f->target[i].name);
	}
	for (uint32_t i = 0; i < f->ncolumn; i++) {
		free(f->column[i].table);
		free(f->column[i].name);
	}
	free(f->input);
	free(f->target);
	free(f->column);
	free(f);
}

/* "image.mean.0" of an input's channels. */
static bool
channel_scalar(const InputFit *f, const char *name, double *out)
{
	size_t n = strlen(f->name);
	bool mean;
	char *end;
	if (strncmp(name, f->name, n) || name[n] != '.')
		return false;
	mean = !strncmp(name + n, ".mean.", 6);
	if (!mean && strncmp(name + n, ".std.", 5))
		return false;
	const char *digits = name + n + (mean ? 6 : 5);
	unsigned long k = strtoul(digits, &end, 10);
	if (end == digits || *end || k >= f->nchannel)
		return false;
	*out = mean ? f->mean[k] : f->std[k];
	return true;
}

bool
fit_scalar(const Fit *f, const char *name, double *out)
{
	for (uint32_t i = 0; i < f->ninput; i++)
		if (channel_scalar(&f->input[i], name, out))
			return true;
	for (uint32_t i = 0; i < f->ntarget; i++) {
		size_t n = strlen(f->target[i].name);
		const TargetFit *t = &f->target[i];
		const struct {
			const char *name;
			double v;
		} table[] = {{"positive_weight", t->positive_weight}, {"mean", t->prior}, {"threshold", t->threshold}};
		if (strncmp(name, f->target[i].name, n) || name[n] != '.')
			continue;
		for (size_t k = 0; k < LEN(table); k++) {
			if (!strcmp(name + n + 1, table[k].name)) {
				*out = table[k].v;
				return true;
			}
		}
	}
	return false;
}

const char *
fit_class_name(const Fit *f, const PlanData *d, uint32_t target, int64_t id, char buf[24])
{
	const PlanTarget *t = &d->target[target];
	if (id < t->nlabel)
		return t->label[id];
	if (f && id < f->target[target].classes.n)
		return f->target[target].classes.word[id];
	snprintf(buf, 24, "%lld", (long long)id);
	return buf;
}

double
fit_unscale(const Fit *f, const PlanData *d, uint32_t target, double x)
{
	const PlanTarget *t = &d->target[target];
	const ScaleFit *s = &f->target[target].scale;
	if (t->kind != TG_NUMBER)
		return x;
	if (t->scale & SC_ZSCORE)
		x = x * s->std + s->mean;
	else if (t->scale & SC_MINMAX)
		x = x * (s->max > s->min ? s->max - s->min : 1) + s->min;
	return t->scale & SC_LOG1P ? expm1(x) : x;
}
