/* Tables that are not CSV, for tests of their readers: files in a folder of the test's, and the data section of a model
   "m.yaml", read through data_build. check_reader.c */
#ifndef CHECK_READER_H
#define CHECK_READER_H

#include "../runtime/data_impl.h"
#include "check_count.h"

extern const char *tmp; /* make_folder's: every path here counts from it; the test sets it */

void put(const char *name, const void *s, size_t n);
#define PUTS(name, s) put((name), (s), sizeof(s) - 1)
void put_gz(const char *name, const void *s, size_t n);
void folder(const char *name);

/* A NumPy array into out, which has room for 128 bytes and n; its size. Order and shape as Python writes them. */
size_t npy(char *out, const char *descr, const char *order, const char *shape, const void *v, size_t n);
void put_array(const char *name, const char *descr, const char *shape, const void *v, size_t n); /* alone in a file, row-major */

typedef struct Case {
	PlanTable table;
	PlanFile file[8];
	PlanShape shape[2];
	int64_t dim[2][4];
	PlanInput input[2];
	PlanTarget target[2];
	PlanData d;
	Dataset ds;
	Fit *fit;
	Err e;
	char *report;
} Case;

/* A table `t` of files NAME=PATH or PATH; one after "val:" or "test:" is of that part. All of what no part has trains. */
Case *new_case(TableKind kind, const char *const *file);
#define CASE(kind, ...) new_case((kind), (const char *const[]){__VA_ARGS__, NULL})
void add_tensor(Case *c, const char *from, DType dtype, uint32_t scale, int64_t h, int64_t w, int64_t ch); /* an input of [h, w, ch] */
PlanTarget *add_class(Case *c, const char *from, int64_t size);
void set_shape(Case *c, const char *name, DType dtype, int64_t *dim, uint32_t n); /* of a column of the table; dim lives on */
void drop(Case *c);

bool build(Case *c);
bool builds(Case *c, const char *file, int line); /* counts: it must */
#define BUILDS(c) builds((c), __FILE__, __LINE__)
/* The build must fail with a message that has all parts (separated by |). Drops c. */
void fails(Case *c, const char *parts, const char *file, int line);
#define FAILS(c, parts) fails((c), (parts), __FILE__, __LINE__)

/* Columns of what was built. */
const uint8_t *bytes(const Case *c, int col);
const float *floats(const Case *c, int col);
const int32_t *ids(const Case *c, int col);

/* Each byte of a file replaced in turn, and the file cut there, as file `as` of the table that make makes of `path`: an error or
   other values, never a crash. */
void damage(const char *name, const char *as, Case *(*make)(const char *path), const char *path);

/* $MMC_DATA, with real data (mnist/, cifar10/, sentiment/), or NULL, which counts as skipped. */
const char *real_data(void);

#endif
