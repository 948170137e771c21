/* Tables to columns: CSV files into SQLite, one SQL join, cleaned, split, fitted, encoded, cached. */
#ifndef DATA_H
#define DATA_H

#include "plan.h"

/* One encoded column: rows * width elements, row-major. */
typedef struct Column {
	const char *name; /* of the input or target */
	DType dtype;      /* see column_dtype in plan.h */
	int64_t width;    /* elements a row */
	const void *data;
	int64_t tail;     /* elements after the last row */
} Column;

/* Rows are ordered by split: [split[0], split[1]) train, [split[1], split[2]) validation, [split[2], split[3]) test;
   inside a split in the order of the join. Inputs in the order of the schema, then targets. */
typedef struct Dataset {
	int64_t rows;
	int64_t split[4];
	uint32_t ncolumn;
	Column *column;
	char **key;    /* text that identifies each row to a person (first column of the row's first table), or NULL */
	void *owner;   /* private: the mapped cache file or the arena behind it */
} Dataset;

/* What fitting found on the training split: vocabularies, scales, imputation values, thresholds,
   class weights. Opaque; kept as JSON text, stored with the checkpoint. */
typedef struct Fit Fit;

typedef struct DataOptions {
	const char *cache_dir;     /* where encoded columns are cached (content-keyed); NULL: no cache */
	const char *const *table;  /* pairs name, path that replace a table's file; NULL-terminated, or NULL */
	int64_t split_seed;        /* -1: the plan's */
	FILE *report;              /* the cleaning report, or NULL */
	int64_t fold;              /* 0: the plan's */
} DataOptions;

/* Reads, joins, cleans, splits, fits and encodes. On success *out and *fit are the caller's:
   dataset_free, fit_free. Errors name the file, row, column or SQL and the remedy. */
bool data_build(const PlanData *d, const DataOptions *o, Dataset *out, Fit **fit, Err *e);

/* The same encoding with values fitted before, for prediction: no `where`, no targets, no split (all rows in
   [split[2], split[3])), nothing dropped: a row that training would drop is encoded with its missing values imputed.
   record: NULL, or pairs column, value (NULL-terminated) of one typed row that replaces the first table;
   columns not named are NULL. */
bool data_apply(const PlanData *d, const DataOptions *o, const Fit *fit, const char *const *record, Dataset *out, Err *e);

void dataset_free(Dataset *d);

/* Of all elements of all columns: other files, other values, another split or order give another, whatever was fitted. */
uint64_t dataset_hash(const Dataset *d);

/* Writes bytes [h, w, c] (c: 1 grey, 3 red, green, blue) as a PNG file. */
bool write_png(const char *path, const uint8_t *v, int64_t h, int64_t w, int64_t c, Err *e);

char *fit_to_json(const Fit *f); /* malloced */
Fit *fit_from_json(const PlanData *d, const char *json, Err *e);
void fit_free(Fit *f);

/* A scalar that the graph reads, such as "viral.positive_weight" (negatives over positives in the training split) or
   "image.mean.0" (of a channel). */
bool fit_scalar(const Fit *f, const char *name, double *out);

/* What a class is called: by the model, by the data, or its number written into buf. */
const char *fit_class_name(const Fit *f, const PlanData *d, uint32_t target, int64_t id, char buf[24]);

/* Undoes target i's scaling of a prediction. */
double fit_unscale(const Fit *f, const PlanData *d, uint32_t target, double x);

#endif
