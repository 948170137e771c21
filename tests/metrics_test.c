/* metrics.c against values that scikit-learn 1.9 gives for the same inputs (float32 inputs, double arithmetic),
   and at the edges: no rows, one row, one class, constant target, ties, signed zeros, NaN, infinities. */
#include "../runtime/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

#define CHECK(ok, ...)                                              \
	do {                                                            \
		if (ok) {                                                   \
			passed++;                                               \
		} else {                                                    \
			failed++;                                               \
			printf("%s:%d: ", __FILE__, __LINE__);                  \
			printf(__VA_ARGS__);                                    \
			putchar('\n');                                          \
		}                                                           \
	} while (0)

static bool
near(double a, double b)
{
	return (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= 1e-13 * fmax(1, fabs(b));
}

#define CHECK_NEAR(what, got, want) CHECK(near(got, want), "%s: " #got " is %.17g, not %.17g", what, got, want)

typedef struct RegressionCase {
	const char *name;
	int n;
	float pred[4], target[4];
	double mse, mae, rmse, r2;
} RegressionCase;

static const RegressionCase regressions[] = {
	{"plain", 4, {2.5f, 0, 2, 8}, {3, -.5f, 2, 7}, 0.375, 0.5, 0.6123724356957945, 0.9486081370449679},
	{"worse than the mean", 4, {10, -10, 3, 3}, {1, 2, 3, 4}, 56.5, 5.5, 7.516648189186454, -44.2},
	{"small spread on a large offset", 4, {16777216, 16777214, 16777215, 16777210},
	 {16777215, 16777214, 16777216, 16777213}, 2.75, 1.25, 1.6583123951777, -1.2},
	{"constant target", 3, {.1f, .2f, .4f}, {.1f, .1f, .1f}, 0.03333333432674409, 0.13333333532015482,
	 0.18257418855562274, NAN},
	{"one row", 1, {2}, {1.5f}, 0.25, 0.5, 0.5, NAN},
	{"exact", 3, {1, 2, 3}, {1, 2, 3}, 0, 0, 0, 1},
	{"no rows", 0, {0}, {0}, NAN, NAN, NAN, NAN},
	{"NaN prediction", 3, {1, NAN, 3}, {1, 2, 3}, NAN, NAN, NAN, NAN},
	{"NaN target", 3, {1, 2, 3}, {1, 2, NAN}, NAN, NAN, NAN, NAN},
	{"infinite prediction", 3, {1, INFINITY, 3}, {1, 2, 3}, INFINITY, INFINITY, INFINITY, -INFINITY},
	{"largest floats", 2, {3.4028234663852886e38f, 0}, {-3.4028234663852886e38f, 0}, 2.3158415086764783e77,
	 3.4028234663852886e38, 4.812319096523503e38, -7},
};

typedef struct BinaryCase {
	const char *name;
	int n;
	float prob[8], target[8];
	int tp, fp, tn, fn;
	double accuracy, precision, recall, f1, roc_auc, average_precision, log_loss;
} BinaryCase;

static const BinaryCase binaries[] = {
	{"plain", 4, {.1f, .4f, .35f, .8f}, {0, 0, 1, 1}, 1, 0, 2, 1, 0.75, 1, 0.5, 0.6666666666666666, 0.75,
	 0.8333333333333333, 0.47228795723880856},
	{"ties", 8, {.5f, .5f, .5f, .9f, .9f, .1f, .1f, .3f}, {1, 0, 1, 1, 0, 0, 1, 0}, 3, 2, 2, 1, 0.625, 0.6, 0.75,
	 0.6666666666666666, 0.5625, 0.55, 0.9065009368473921},
	{"all scores equal", 5, {.25f, .25f, .25f, .25f, .25f}, {0, 1, 0, 0, 1}, 0, 0, 3, 2, 0.6, 0, 0, 0, 0.5, 0.4,
	 0.7271269879190247},
	{"negatives only", 3, {.2f, .7f, .4f}, {0, 0, 0}, 0, 1, 2, 0, 0.6666666666666666, 0, 0, 0, NAN, 0,
	 0.6459806511097016},
	{"positives only", 3, {.2f, .7f, .4f}, {1, 1, 1}, 1, 0, 0, 2, 0.3333333333333333, 1, 0.3333333333333333, 0.5, NAN,
	 1, 0.9608011918248548},
	{"sure, half wrong", 4, {0, 1, 1, 0}, {1, 0, 1, 0}, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 18.021826694558577},
	{"both zeros are one score", 4, {-0.f, 0, 0, -0.f}, {1, 0, 0, 1}, 0, 0, 2, 2, 0.5, 0, 0, 0, 0.5, 0.5,
	 18.021826694558577},
	{"one row", 1, {.75f}, {1}, 1, 0, 0, 0, 1, 1, 1, 1, NAN, 1, 0.2876820724517809},
	{"no rows", 0, {0}, {0}, 0, 0, 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
	{"NaN score", 3, {.1f, NAN, .9f}, {0, 1, 1}, 0, 0, 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
	{"NaN target", 3, {.1f, .2f, .9f}, {0, NAN, 1}, 0, 0, 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
	/* Scores that are no probabilities still rank: only the log loss clips them. */
	{"infinite and negative scores", 4, {-INFINITY, INFINITY, -3, 2}, {0, 1, 0, 1}, 2, 0, 2, 0, 1, 1, 1, 1, 1, 1,
	 2.220446049250313e-16},
};

static void
check_regression(const char *name, Regression r, double mse, double mae, double rmse, double r2)
{
	CHECK_NEAR(name, r.mse, mse);
	CHECK_NEAR(name, r.mae, mae);
	CHECK_NEAR(name, r.rmse, rmse);
	CHECK_NEAR(name, r.r2, r2);
}

static void
check_binary(const BinaryCase *t, Classification c)
{
	CHECK(c.tp == t->tp && c.fp == t->fp && c.tn == t->tn && c.fn == t->fn, "%s: tp fp tn fn are %d %d %d %d", t->name,
		(int)c.tp, (int)c.fp, (int)c.tn, (int)c.fn);
	CHECK_NEAR(t->name, c.accuracy, t->accuracy);
	CHECK_NEAR(t->name, c.precision, t->precision);
	CHECK_NEAR(t->name, c.recall, t->recall);
	CHECK_NEAR(t->name, c.f1, t->f1);
	CHECK_NEAR(t->name, c.roc_auc, t->roc_auc);
	CHECK_NEAR(t->name, c.average_precision, t->average_precision);
	CHECK_NEAR(t->name, c.log_loss, t->log_loss);
}

/* The generator that made the inputs of the two golden sets of 1000 rows. */
static uint32_t
next(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

static void
check_thousand(void)
{
	static float p[1000], t[1000];
	static const BinaryCase want = {"thousand rows, 101 scores", 1000, {0}, {0}, 228, 69, 600, 103, 0.828,
		0.7676767676767676, 0.6888217522658611, 0.7261146496815286, 0.9058205645798617, 0.8195722773465061,
		0.46024273329081505};
	static double y[1000];
	uint32_t s = 12345;
	for (int i = 0; i < 1000; i++) {
		double x = next(&s) % 101 / 100.0;
		p[i] = (float)x;
		t[i] = next(&s) % 1000 < 1000 * x * x;
	}
	check_binary(&want, metrics_binary(p, t, 1000, 0.7));
	for (int i = 0; i < 1000; i++)
		t[i] = (float)(y[i] = next(&s) % 20000 / 1000.0 - 10);
	for (int i = 0; i < 1000; i++)
		p[i] = (float)(y[i] + next(&s) % 3000 / 1000.0 - 1.5);
	check_regression("thousand rows", metrics_regression(p, t, 1000), 0.7112216928115069, 0.7243039977496956,
		0.8433396070454102, 0.9786273841795922);
}

/* Many equal numbers whose mean rounds: a plain two-pass sum leaves a tiny variance and a wild R2. */
static void
check_long_sums(void)
{
	int64_t n = 1000000;
	float *p = xmalloc((size_t)n * sizeof *p), *t = xmalloc((size_t)n * sizeof *t);
	for (int64_t i = 0; i < n; i++) {
		p[i] = (float)(n - i);
		t[i] = 0.1f;
	}
	CHECK(isnan(metrics_regression(p, t, n).r2), "R2 of a long constant target is not NaN");
	for (int64_t i = 0; i < n; i++)
		t[i] = i < n / 10;
	Classification c = metrics_binary(p, t, n, 0.5);
	CHECK(c.roc_auc == 1 && fabs(c.average_precision - 1) < 1e-15, "perfect ranking: %.17g %.17g", c.roc_auc,
		c.average_precision);
	free(p);
	free(t);
}

static double
boundary_of(const char *told, const char *truth, int64_t height, int64_t width)
{
	Multiclass m;
	multiclass_open(&m, 10);
	multiclass_boundary(&m, (const uint8_t *)told, (const uint8_t *)truth, height, width, '9');
	multiclass_labels(&m, (const uint8_t *)"", (const uint8_t *)"", 1, -1);
	double f = multiclass_scores(&m).boundary_f1;
	multiclass_close(&m);
	return f;
}

/* A picture of 0 with one place of 1: its boundary is itself, that of 0 the four places beside it. */
static double
boundary_of_dots(int y, int x, int v, int u)
{
	static char a[300 * 400], b[300 * 400];
	memset(a, '0', sizeof a);
	memset(b, '0', sizeof b);
	a[y * 400 + x] = '1';
	b[v * 400 + u] = '1';
	return boundary_of(a, b, 300, 400);
}

/* By hand. The tolerance is one place in small pictures, and 3.75 in one of 300 x 400. */
static void
check_boundaries(void)
{
	static const struct {
		const char *what, *told, *truth;
		int height, width;
		double f;
	} t[] = {
		{"equal", "000111000111", "000111000111", 2, 6, 1},
		{"one place off", "000011000011", "000111000111", 2, 6, 1},
		{"two places off", "000001000001", "000111000111", 2, 6, 0},
		/* 0 is told at 2 and 5, true at 2: precision 1/2, recall 1; 1 at 3 and 4, and at 3: both 1 */
		{"a false boundary", "00011000", "00011111", 1, 8, (2 / 3.0 + 1) / 2},
		{"a missed boundary", "00011111", "00011000", 1, 8, (2 / 3.0 + 1) / 2},
		{"a class too many", "00012222", "00011111", 1, 8, (1 + 1 + 0) / 3.0},
		{"above and below", "000111", "000111", 2, 3, 1},
		{"corners touch", "0110", "0000", 2, 2, 0},
		{"no boundary", "0000", "0000", 2, 2, NAN},
		{"no true boundary", "0011", "0000", 1, 4, 0},
		{"ignored between", "00011", "00911", 1, 5, NAN},
		{"beside what is ignored", "01111", "00911", 1, 5, 0},
	};
	for (size_t i = 0; i < LEN(t); i++)
		CHECK_NEAR(t[i].what, boundary_of(t[i].told, t[i].truth, t[i].height, t[i].width), t[i].f);
	CHECK_NEAR("3.6 away", boundary_of_dots(100, 100, 102, 103), 1.0);
	CHECK_NEAR("3 away", boundary_of_dots(100, 100, 100, 97), 1.0);
	/* the dots are 4.2 apart; of the four places beside one, the two towards the other are near two of its */
	CHECK_NEAR("4.2 away", boundary_of_dots(100, 100, 103, 103), 0.25);
	CHECK_NEAR("at the edge", boundary_of_dots(0, 0, 299, 399), 0.0);
	Multiclass m;
	multiclass_open(&m, 10);
	for (int i = 0; i < 3; i++)
		multiclass_boundary(&m, (const uint8_t *)t[i].told, (const uint8_t *)t[i].truth, t[i].height, t[i].width, -1);
	CHECK(m.pictures == 3 && m.boundary == 2, "three pictures: %g of %lld", m.boundary, (long long)m.pictures);
	multiclass_close(&m);
}

/* Against scikit-learn: accuracy_score, top_k_accuracy, precision_recall_fscore_support(average='macro'), log_loss, jaccard_score
   (macro) of truth [0, 1, 2, 2, 1], told [0, 2, 2, 2, 1] over classes that occur. */
static void
check_classes(void)
{
	static const float prob[5][7] = {{.7f, .1f, .1f, .1f}, {.1f, .2f, .6f, .1f}, {.2f, .2f, .5f, .1f}, {0, 0, 1, 0}, {.1f, .5f, .3f, .1f}};
	static const int32_t truth[] = {0, 1, 2, 2, 1};
	Multiclass m;
	multiclass_open(&m, 7);
	multiclass_rows(&m, prob[0], truth, 2);
	multiclass_rows(&m, prob[2], truth + 2, 3);
	MulticlassScores s = multiclass_scores(&m);
	CHECK_NEAR("classes", s.accuracy, 0.8);
	CHECK_NEAR("classes", s.top5, 1.0);
	CHECK_NEAR("classes", s.precision, (1 + 1 + 2 / 3.0) / 3);
	CHECK_NEAR("classes", s.recall, (1 + 0.5 + 1) / 3);
	CHECK_NEAR("classes", s.f1, (1 + 2 / 3.0 + 0.8) / 3);
	CHECK_NEAR("classes", s.miou, (1 + 0.5 + 2 / 3.0) / 3);
	CHECK(fabs(s.log_loss - (-log(.7) - log(.2) - log(.5) - log(1) - log(.5)) / 5) < 1e-7, "log loss is %.17g", s.log_loss);
	CHECK(m.confusion[1 * 7 + 2] == 1 && m.confusion[2 * 7 + 2] == 2, "confusion of 1 and 2");
	multiclass_close(&m);
	multiclass_open(&m, 3);
	multiclass_labels(&m, (const uint8_t *)"\0\1\2\2", (const uint8_t *)"\0\2\11\2", 4, 9);
	s = multiclass_scores(&m);
	CHECK_NEAR("labels", s.accuracy, 2 / 3.0);
	CHECK_NEAR("labels", s.miou, (1 + 0 + 0.5) / 3);
	multiclass_close(&m);
	multiclass_open(&m, 2);
	multiclass_rows(&m, (const float[]){NAN, 1}, truth, 1);
	CHECK(isnan(multiclass_scores(&m).accuracy), "a model that gives NaN has an accuracy");
	multiclass_close(&m);
	multiclass_open(&m, 7); /* ties: the lower class is told, and stands before */
	multiclass_rows(&m, (const float[]){.1f, .1f, .1f, .1f, .1f, .1f, .1f}, (const int32_t[]){5}, 1);
	CHECK(multiclass_scores(&m).top5 == 0 && m.confusion[5 * 7] == 1, "ties");
	multiclass_close(&m);
}

int
main(void)
{
	check_classes();
	check_boundaries();
	for (size_t i = 0; i < LEN(regressions); i++) {
		const RegressionCase *c = &regressions[i];
		check_regression(c->name, metrics_regression(c->pred, c->target, c->n), c->mse, c->mae, c->rmse, c->r2);
	}
	for (size_t i = 0; i < LEN(binaries); i++)
		check_binary(&binaries[i], metrics_binary(binaries[i].prob, binaries[i].target, binaries[i].n, 0.5));
	check_thousand();
	check_long_sums();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
