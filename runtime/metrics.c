/* Quality of predictions, in double on the host: errors of a regression; counts, ranking and log loss of a
   binary classification; counts of several classes. Sums are compensated (Neumaier 1974), the variance takes two passes, ranking is one radix
   sort and one sweep over groups of equal scores (ROC-AUC as the Mann-Whitney statistic, ties half; average
   precision as the step-wise sum of (R_k - R_k-1) P_k), so everything is O(n) and the same on every machine.
   A NaN among the inputs makes every real-valued metric NaN and every count 0: a broken model has no score.
   Must not be compiled with -ffast-math, which takes away NaN and the compensation. */
#include "runtime.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Sum {
	double s, lost; /* lost: what rounding took from s so far */
} Sum;

static void
sum_add(Sum *a, double x)
{
	double t = a->s + x;
	a->lost += fabs(a->s) >= fabs(x) ? (a->s - t) + x : (x - t) + a->s;
	a->s = t;
}

/* An infinite sum has a meaningless (NaN) compensation. */
static double sum_value(Sum a) { return isfinite(a.s) ? a.s + a.lost : a.s; }

static bool
any_nan(const float *a, const float *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		if (isnan(a[i]) || isnan(b[i]))
			return true;
	return false;
}

/* NaN for a constant target, decided on the values: the rounded mean of equal numbers need not equal them. */
static double
total_squares(const float *y, int64_t n)
{
	Sum s = {0}, mean = {0};
	bool constant = true;
	for (int64_t i = 0; i < n; i++) {
		sum_add(&mean, y[i]);
		constant = constant && y[i] == y[0];
	}
	if (constant)
		return NAN;
	double m = sum_value(mean) / (double)n;
	for (int64_t i = 0; i < n; i++)
		sum_add(&s, (y[i] - m) * (y[i] - m));
	return sum_value(s);
}

Regression
metrics_regression(const float *pred, const float *target, int64_t n)
{
	Sum square = {0}, absolute = {0};
	if (n <= 0 || any_nan(pred, target, n))
		return (Regression){NAN, NAN, NAN, NAN};
	for (int64_t i = 0; i < n; i++) {
		double e = (double)pred[i] - target[i];
		sum_add(&square, e * e);
		sum_add(&absolute, fabs(e));
	}
	double mse = sum_value(square) / (double)n;
	return (Regression){
		.mse = mse,
		.mae = sum_value(absolute) / (double)n,
		.rmse = sqrt(mse),
		.r2 = 1 - sum_value(square) / total_squares(target, n),
	};
}

/* A score whose unsigned order is the float's descending order, and its label; -0 and 0 are one score. */
typedef struct Ranked {
	uint32_t key, positive;
} Ranked;

static uint32_t
descending_key(float x)
{
	uint32_t u;
	x += 0.0f; /* -0 becomes 0 */
	memcpy(&u, &x, sizeof u);
	return u >> 31 ? u : ~(u | 0x80000000u);
}

/* Sorts a by key with b as the second buffer: four stable counting passes of 8 bits, back in a. */
static void
radix_sort(Ranked *a, Ranked *b, int64_t n)
{
	for (int shift = 0; shift < 32; shift += 8) {
		int64_t at[257] = {0};
		for (int64_t i = 0; i < n; i++)
			at[(a[i].key >> shift & 255) + 1]++;
		for (int d = 0; d < 256; d++)
			at[d + 1] += at[d];
		for (int64_t i = 0; i < n; i++)
			b[at[a[i].key >> shift & 255]++] = a[i];
		Ranked *t = a;
		a = b;
		b = t;
	}
}

/* ROC-AUC and average precision; rows are sorted by falling score. As in scikit-learn average precision is 0
   without positives; ROC-AUC is NaN with one class. */
static void
score_ranking(const Ranked *r, int64_t n, int64_t npos, Classification *c)
{
	int64_t above = 0; /* positives in the groups before */
	double pairs = 0;  /* (negative, positive) pairs in the right order, ties half: exact up to 2^52 */
	Sum ap = {0};
	for (int64_t i = 0, j; i < n; i = j) {
		int64_t pos = 0;
		for (j = i; j < n && r[j].key == r[i].key; j++)
			pos += r[j].positive;
		pairs += (double)(j - i - pos) * ((double)above + 0.5 * (double)pos);
		above += pos;
		if (pos)
			sum_add(&ap, (double)pos / (double)npos * ((double)above / (double)j));
	}
	c->roc_auc = npos && npos < n ? pairs / ((double)npos * (double)(n - npos)) : NAN;
	c->average_precision = sum_value(ap);
}

/* Probabilities are kept off 0 and 1 by the double's epsilon, as in scikit-learn: a sure mistake costs 36. */
static double
log_loss(double p, bool positive)
{
	p = fmin(fmax(p, DBL_EPSILON), 1 - DBL_EPSILON);
	return positive ? -log(p) : -log1p(-p);
}

static double ratio(int64_t a, int64_t b) { return b ? (double)a / (double)b : 0; }

Classification
metrics_binary(const float *prob, const float *target, int64_t n, double threshold)
{
	Classification c = {threshold, 0, 0, 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
	Sum loss = {0};
	int64_t npos = 0;
	if (n <= 0 || any_nan(prob, target, n))
		return c;
	Ranked *r = xmalloc(2 * (size_t)n * sizeof *r);
	for (int64_t i = 0; i < n; i++) {
		bool yes = prob[i] >= threshold, positive = target[i] >= 0.5f;
		int64_t *cell = positive ? (yes ? &c.tp : &c.fn) : (yes ? &c.fp : &c.tn);
		++*cell;
		npos += positive;
		r[i] = (Ranked){descending_key(prob[i]), positive};
		sum_add(&loss, log_loss(prob[i], positive));
	}
	radix_sort(r, r + n, n);
	score_ranking(r, n, npos, &c);
	free(r);
	c.accuracy = ratio(c.tp + c.tn, n);
	c.precision = ratio(c.tp, c.tp + c.fp);
	c.recall = ratio(c.tp, c.tp + c.fn);
	c.f1 = ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn);
	c.log_loss = sum_value(loss) / (double)n;
	return c;
}

/* ---- several classes ---- */

void
multiclass_open(Multiclass *m, int64_t n)
{
	*m = (Multiclass){.n = n};
	if (n <= MAX_CONFUSION)
		m->confusion = xcalloc((size_t)(n * n), sizeof *m->confusion);
}

void
multiclass_close(Multiclass *m)
{
	free(m->confusion);
	*m = (Multiclass){0};
}

static void
count_pair(Multiclass *m, int64_t truth, int64_t told)
{
	m->rows++;
	m->right += truth == told;
	if (m->confusion)
		m->confusion[truth * m->n + told]++;
}

/* The first of the largest is told; of equal ones the lower class stands before. */
void
multiclass_rows(Multiclass *m, const float *prob, const int32_t *truth, int64_t rows)
{
	Sum loss = {m->log_loss, 0};
	for (int64_t r = 0; r < rows; r++, prob += m->n) {
		int64_t told = 0, before = 0, t = truth[r];
		for (int64_t k = 0; k < m->n; k++) {
			m->broken = m->broken || isnan(prob[k]);
			told = prob[k] > prob[told] ? k : told;
			before += prob[k] > prob[t] || (prob[k] == prob[t] && k < t);
		}
		m->top5 += before < 5;
		sum_add(&loss, log_loss(prob[t], true));
		count_pair(m, t, told);
	}
	m->log_loss = sum_value(loss);
}

void
multiclass_labels(Multiclass *m, const uint8_t *told, const uint8_t *truth, int64_t n, int64_t ignore)
{
	for (int64_t i = 0; i < n; i++)
		if (truth[i] != ignore)
			count_pair(m, truth[i], told[i]);
}

/* The place's class where it lies on that class's boundary, else -1. Of two maps at once: a place that is ignored is in neither. */
static int
boundary_class(const uint8_t *label, const uint8_t *truth, int64_t height, int64_t width, int64_t ignore, int64_t y, int64_t x)
{
	static const int beside[4][2] = {{0, -1}, {0, 1}, {-1, 0}, {1, 0}};
	int64_t at = y * width + x;
	for (int k = 0; k < 4 && truth[at] != ignore; k++) {
		int64_t v = y + beside[k][0], u = x + beside[k][1];
		if (v < 0 || v >= height || u < 0 || u >= width)
			continue;
		if (truth[v * width + u] != ignore && label[v * width + u] != label[at])
			return label[at];
	}
	return -1;
}

/* Whether a place of edge within `reach` (squared) of y, x is of this class. */
static bool
near_class(const int16_t *edge, int64_t height, int64_t width, double reach, int64_t y, int64_t x, int class)
{
	int64_t r = (int64_t)sqrt(reach);
	for (int64_t v = y - r < 0 ? 0 : y - r; v <= y + r && v < height; v++)
		for (int64_t u = x - r < 0 ? 0 : x - r; u <= x + r && u < width; u++)
			if (edge[v * width + u] == class && (double)((v - y) * (v - y) + (u - x) * (u - x)) <= reach)
				return true;
	return false;
}

/* Of each class: places of its boundary in a, and those of them near one in b. */
static void
count_near(const int16_t *a, const int16_t *b, int64_t height, int64_t width, double reach, int64_t (*count)[2])
{
	for (int64_t y = 0; y < height; y++)
		for (int64_t x = 0; x < width; x++) {
			int class = a[y * width + x];
			if (class < 0)
				continue;
			count[class][0]++;
			count[class][1] += near_class(b, height, width, reach, y, x, class);
		}
}

void
multiclass_boundary(Multiclass *m, const uint8_t *told, const uint8_t *truth, int64_t height, int64_t width, int64_t ignore)
{
	int64_t n = height * width, found[256][2] = {0}, wanted[256][2] = {0}, classes = 0;
	double tolerance = fmax(0.0075 * sqrt((double)(height * height + width * width)), 1), reach = tolerance * tolerance;
	int16_t *edge = xmalloc(2 * (size_t)n * sizeof *edge);
	Sum f = {0};
	for (int64_t i = 0; i < n; i++) {
		edge[i] = (int16_t)boundary_class(told, truth, height, width, ignore, i / width, i % width);
		edge[n + i] = (int16_t)boundary_class(truth, truth, height, width, ignore, i / width, i % width);
	}
	count_near(edge, edge + n, height, width, reach, found);
	count_near(edge + n, edge, height, width, reach, wanted);
	free(edge);
	for (int k = 0; k < 256; k++) {
		double precision = ratio(found[k][1], found[k][0]), recall = ratio(wanted[k][1], wanted[k][0]);
		if (!found[k][0] && !wanted[k][0])
			continue;
		classes++;
		sum_add(&f, precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0);
	}
	if (classes) {
		m->boundary += sum_value(f) / (double)classes;
		m->pictures++;
	}
}

MulticlassScores
multiclass_scores(const Multiclass *m)
{
	MulticlassScores s = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
	Sum precision = {0}, recall = {0}, f1 = {0}, iou = {0};
	int64_t seen = 0;
	if (!m->rows || m->broken)
		return s;
	s.accuracy = ratio(m->right, m->rows);
	s.top5 = ratio(m->top5, m->rows);
	s.log_loss = m->log_loss / (double)m->rows;
	s.boundary_f1 = m->pictures ? m->boundary / (double)m->pictures : NAN;
	if (!m->confusion)
		return s;
	for (int64_t k = 0; k < m->n; k++) {
		int64_t truth = 0, told = 0, both = m->confusion[k * m->n + k];
		for (int64_t j = 0; j < m->n; j++) {
			truth += m->confusion[k * m->n + j];
			told += m->confusion[j * m->n + k];
		}
		if (!truth && !told)
			continue;
		seen++;
		sum_add(&precision, ratio(both, told));
		sum_add(&recall, ratio(both, truth));
		sum_add(&f1, ratio(2 * both, truth + told));
		sum_add(&iou, ratio(both, truth + told - both));
	}
	s.precision = sum_value(precision) / (double)seen;
	s.recall = sum_value(recall) / (double)seen;
	s.f1 = sum_value(f1) / (double)seen;
	s.miou = sum_value(iou) / (double)seen;
	return s;
}
