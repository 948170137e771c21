/* The runtime's own parts, sectioned by file. */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "data.h"
#include "device.h"

/* ---- metrics.c: all in double, on host arrays of n ---- */

typedef struct Regression {
	double mse, mae, rmse, r2; /* r2 = 1 - SS_res / SS_tot; NaN when the target is constant */
} Regression;
typedef struct Classification {
	double threshold;                 /* a row is positive when p >= threshold */
	int64_t tp, fp, tn, fn;
	double accuracy, precision, recall, f1;
	double roc_auc;                   /* ties count half; NaN with one class */
	double average_precision;         /* step-wise interpolation, as in scikit-learn */
	double log_loss;
} Classification;
/* Rows of several classes, added batch by batch. A class counts in means over classes where a row has it or is told to
   have it, as in scikit-learn. */
typedef struct Multiclass {
	int64_t n;         /* classes */
	int64_t rows, right, top5;
	int64_t *confusion; /* [truth, told]; NULL above MAX_CONFUSION classes, where means over classes are NaN */
	double log_loss;   /* sum */
	bool broken;       /* a probability was NaN */
	double boundary;   /* sum of the pictures' boundary F-scores */
	int64_t pictures;  /* that have a boundary */
} Multiclass;
#define MAX_CONFUSION 4096
void multiclass_open(Multiclass *m, int64_t n);
void multiclass_rows(Multiclass *m, const float *prob, const int32_t *truth, int64_t rows); /* prob [rows, n] */
void multiclass_labels(Multiclass *m, const uint8_t *told, const uint8_t *truth, int64_t n, int64_t ignore);
/* The boundary F-score of a picture of [height, width] labels (Csurka et al. 2013, "What is a good evaluation measure for
   semantic segmentation?"). The boundary of a class is its places beside which (left, right, above, below) another class is. Precision
   is the share of the told boundary within a tolerance of the true one, recall the share of the true one within it of the told;
   the picture's score is the mean of their harmonic means over the classes that have a boundary in either. The tolerance is
   0.75 % of the picture's diagonal, and one place at least (Euclidean distance). Places whose truth is `ignore` are nowhere. */
void multiclass_boundary(Multiclass *m, const uint8_t *told, const uint8_t *truth, int64_t height, int64_t width, int64_t ignore);
void multiclass_close(Multiclass *m);

typedef struct MulticlassScores {
	double accuracy, top5, precision, recall, f1, log_loss, miou, boundary_f1;
} MulticlassScores;
MulticlassScores multiclass_scores(const Multiclass *m);

Regression metrics_regression(const float *pred, const float *target, int64_t n);
Classification metrics_binary(const float *prob, const float *target, int64_t n, double threshold);

/* ---- checkpoint.c: safetensors ---- */

typedef struct Tensor {
	const char *name;
	DType dtype;
	uint32_t ndim;
	const int64_t *dim;
	void *data; /* host memory */
	uint64_t bytes;
} Tensor;

/* Writes tensors and string metadata (pairs key, value; npair pairs) atomically. Tensors are stored in the given order. */
bool checkpoint_write(const char *path, const Tensor *t, uint32_t n, const char *const *meta, uint32_t npair, Err *e);

/* A checkpoint mapped into memory. */
typedef struct Checkpoint {
	uint32_t ntensor;
	Tensor *tensor;
	uint32_t nmeta;
	char **meta; /* pairs */
	void *owner;
} Checkpoint;
bool checkpoint_open(const char *path, Checkpoint *c, Err *e); /* everything is bounds-checked: the file may be hostile */
const Tensor *checkpoint_find(const Checkpoint *c, const char *name);
const char *checkpoint_meta(const Checkpoint *c, const char *key); /* NULL if absent */
void checkpoint_close(Checkpoint *c);

/* ---- synth.c ---- */

int cmd_synth(int argc, char **argv); /* mmrun synth; returns the exit status */

#endif
