/* The best possible scores on synthetic posts. Given all columns, what is left to chance in a post is its noise, whose
   distribution is known; so the best prediction of engagement is its mean over the noise, and the best ranking of viral
   is the probability that Plays exceeds the threshold. Both depend on the signal alone (the sum of the groups'
   parts), and are tabulated as curves over it. Where a group of columns is not known (users missing from
   Users.csv, or "without text"), the curve is averaged over that group's values among the posts: groups are drawn
   independently of each other, so that is the conditional mean. R2 and ROC-AUC are then those of these predictions
   on the posts that were generated.
   Floating point and libm are fine here: what they yield is printed to four digits and goes into no file. */
#include "runtime.h"
#include "synth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A function of the signal, linear between points NSTEP to the unit, constant beyond -LIMIT and LIMIT. */
enum { LIMIT = 28, NSTEP = 32, NPOINT = 2 * LIMIT * NSTEP + 1 };
typedef struct Curve {
	double y[NPOINT];
} Curve;

/* How often a group's part has which value. */
enum { NBIN = 256 };
typedef struct Histogram {
	double share[NBIN], value[NBIN]; /* value: mean in the bin */
} Histogram;

static const struct { double base, noise; } count[NCOUNT] = {
#define X(name, base, noise) {base / 100.0, noise / 100.0},
	COUNTS(X)
#undef X
};

static double point(int i) { return (double)(i - LIMIT * NSTEP) / NSTEP; }

static double
curve_at(const Curve *c, double x)
{
	double at = (x + LIMIT) * NSTEP;
	if (at <= 0)
		return c->y[0];
	if (at >= NPOINT - 1)
		return c->y[NPOINT - 1];
	int i = (int)at;
	return c->y[i] + (at - i) * (c->y[i + 1] - c->y[i]);
}

/* log1p of the count, averaged over Gaussian noise: the mean of log1p(floor(e^x)) for x ~ N(mean, sd). */
static double
mean_log_count(double mean, double sd)
{
	double sum = 0, weight = 0;
	for (int i = -300; i <= 300; i++) {
		double z = i / 50.0, w = exp(-z * z / 2);
		sum += w * log1p(floor(exp(mean + sd * z)));
		weight += w;
	}
	return sum / weight;
}

static double own_sd(int k) { return hypot(SHARED_NOISE / 100.0, count[k].noise); }

static void
fill_engagement(Curve *c)
{
	memset(c, 0, sizeof *c);
	for (int i = 0; i < NPOINT; i++)
		for (int k = 0; k < NCOUNT; k++)
			c->y[i] += mean_log_count(point(i) + count[k].base, own_sd(k)) / NCOUNT * (1 - 1.0 / DEAD_ONE_IN);
}

/* threshold: of Plays. Its first place in COUNTS is relied on. */
static void
fill_viral(Curve *c, double threshold)
{
	for (int i = 0; i < NPOINT; i++)
		c->y[i] = erfc((log(threshold + 1) - count[0].base - point(i)) / own_sd(0) / sqrt(2)) / 2;
}

/* out(x) = mean of c(x + value). */
static void
blur(Curve *out, const Curve *c, const Histogram *h)
{
	memset(out, 0, sizeof *out);
	for (int b = 0; b < NBIN; b++)
		for (int i = 0; h->share[b] > 0 && i < NPOINT; i++)
			out->y[i] += h->share[b] * curve_at(c, point(i) + h->value[b]);
}

static double real(Fix x) { return x / (double)FIX_ONE; }

static double
part_of(const Truth *t, unsigned groups)
{
	double sum = 0;
	for (unsigned g = 0; g < NGROUP; g++)
		if (groups >> g & 1)
			sum += real(t->part[g]);
	return sum;
}

static void
fill_histogram(Histogram *h, const Truth *t, uint64_t n, unsigned groups)
{
	double lo = INFINITY, hi = -INFINITY;
	memset(h, 0, sizeof *h);
	for (uint64_t i = 0; i < n; i++) {
		lo = fmin(lo, part_of(&t[i], groups));
		hi = fmax(hi, part_of(&t[i], groups));
	}
	for (uint64_t i = 0; i < n; i++) {
		double x = part_of(&t[i], groups);
		int b = hi > lo ? (int)((x - lo) / (hi - lo) * (NBIN - 1)) : 0;
		h->share[b]++;
		h->value[b] += x;
	}
	for (int b = 0; b < NBIN; b++) {
		h->value[b] /= fmax(h->share[b], 1);
		h->share[b] /= (double)n;
	}
}

/* The best prediction of each post from all groups but `unknown` (bits). */
static void
predict(float *out, const Truth *t, uint64_t n, const Curve *exact, unsigned unknown)
{
	enum { USER = 1u << GROUP_USER };
	Curve *listed = xmalloc(sizeof *listed), *missing = xmalloc(sizeof *missing);
	Histogram *h = xmalloc(sizeof *h);
	fill_histogram(h, t, n, unknown);
	blur(listed, exact, h);
	fill_histogram(h, t, n, unknown | USER);
	blur(missing, exact, h);
	for (uint64_t i = 0; i < n; i++) {
		unsigned known = ((1u << NGROUP) - 1) & ~(unknown | (t[i].listed ? 0 : USER));
		out[i] = (float)curve_at(t[i].listed ? listed : missing, part_of(&t[i], known));
	}
	free(listed);
	free(missing);
	free(h);
}

static int
compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

/* The smallest number that at least nine tenths of the posts do not exceed. */
static double
top_tenth(const float *plays, float *scratch, uint64_t n)
{
	memcpy(scratch, plays, n * sizeof *scratch);
	qsort(scratch, n, sizeof *scratch, compare_floats);
	return scratch[(9 * n + 9) / 10 - 1];
}

static double
variance(const Truth *t, uint64_t n, unsigned groups)
{
	double mean = 0, sum = 0;
	for (uint64_t i = 0; i < n; i++)
		mean += part_of(&t[i], groups) / (double)n;
	for (uint64_t i = 0; i < n; i++)
		sum += pow(part_of(&t[i], groups) - mean, 2) / (double)n;
	return sum;
}

static double
noise_variance(void)
{
	double own = 0;
	for (int k = 0; k < NCOUNT; k++)
		own += pow(count[k].noise / NCOUNT, 2);
	return pow(SHARED_NOISE / 100.0, 2) + own;
}

static void
print_figure(FILE *f, const char *before, double x, const char *after)
{
	char figure[32] = "undefined"; /* one post, one class */
	if (!isnan(x))
		snprintf(figure, sizeof figure, "%.4f", x);
	fprintf(f, "%s%s%s", before, figure, after);
}

static void
report_groups(FILE *f, const Truth *t, uint64_t n, const Curve *exact, const float *engagement, float *pred, bool media)
{
	static const struct { const char *name, *what; unsigned groups; } row[] = {
#define X(id, name, what) {name, what, 1u << GROUP_##id},
		GROUPS(X)
#undef X
		{"content", "text, hashtags and song together", 1u << GROUP_TEXT | 1u << GROUP_TAGS | 1u << GROUP_SONG},
		{"media", "frames and sound together", MEDIA_GROUPS},
	};
	double noise = noise_variance(), all = variance(t, n, (1u << NGROUP) - 1) + noise;
	fprintf(f, "\nwhere it comes from   variance   best R2 without\n");
	for (size_t i = 0; i < LEN(row); i++) {
		if (!media && row[i].groups & MEDIA_GROUPS)
			continue;
		predict(pred, t, n, exact, row[i].groups);
		double r2 = metrics_regression(pred, engagement, (int64_t)n).r2;
		fprintf(f, "  %-18s %8.1f %%", row[i].name, 100 * variance(t, n, row[i].groups) / all);
		print_figure(f, "   ", r2, "");
		fprintf(f, "   %s\n", row[i].what);
	}
	fprintf(f, "  %-18s %8.1f %%            Gaussian, variance %.4f\n", "noise", 100 * noise / all, noise);
}

void
report_best(FILE *f, const Truth *t, uint64_t n, bool media)
{
	float *engagement = xmalloc(n * sizeof *engagement), *plays = xmalloc(n * sizeof *plays);
	float *pred = xmalloc(n * sizeof *pred);
	Curve *exact = xmalloc(sizeof *exact), *viral = xmalloc(sizeof *viral);
	for (uint64_t i = 0; i < n; i++) {
		engagement[i] = t[i].engagement;
		plays[i] = t[i].plays;
	}
	fill_engagement(exact);
	predict(pred, t, n, exact, 0);
	double r2 = metrics_regression(pred, engagement, (int64_t)n).r2, blind = r2;
	if (media) {
		predict(pred, t, n, exact, MEDIA_GROUPS);
		blind = metrics_regression(pred, engagement, (int64_t)n).r2;
	}
	double threshold = top_tenth(plays, pred, n);
	fill_viral(viral, threshold);
	for (uint64_t i = 0; i < n; i++)
		plays[i] = plays[i] > threshold;
	predict(pred, t, n, viral, 0);
	Classification c = metrics_binary(pred, plays, (int64_t)n, 0.5);
	fprintf(f, "\nbest possible on these posts, from all columns, for users not seen before:\n");
	print_figure(f, "  engagement  R2 ", r2, "        mean of log1p of Plays, Comments, Diggs, Shares\n");
	if (media) {
		print_figure(f, "  without frames and sound  R2 ", blind, "");
		print_figure(f, ", so they are worth ", r2 - blind, "\n");
	}
	print_figure(f, "  viral       ROC-AUC ", c.roc_auc, "");
	print_figure(f, "   average precision ", c.average_precision, "");
	fprintf(f, "   Plays above their 0.9 quantile, %.0f\n", threshold);
	report_groups(f, t, n, exact, engagement, pred, media);
	free(engagement);
	free(plays);
	free(pred);
	free(exact);
	free(viral);
}
