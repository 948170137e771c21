/* The parts of the data layer, sectioned by file, in the order in which rows pass through them:
   csv.c, read*.c (bytes to cells), table.c (cells to SQLite), join.c (what FROM says), rows.c (the one SELECT),
   split.c, fit.c, encode.c (rows to columns), columns.c (the cache); data.c calls them. */
#ifndef DATA_IMPL_H
#define DATA_IMPL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "data.h"

#include <sqlite3.h>

/* ---- notes.c: counts with their first examples, hashes ---- */

/* Something wrong with some rows: how many, and the first few. */
typedef struct Issue {
	int64_t n;
	struct {
		int64_t line; /* in the file, from 1; 0: not known */
		char text[40]; /* the value, cut; may be empty */
	} first[3];
} Issue;
void issue_add(Issue *s, int64_t line, const char *text);
void issue_puts(Text *t, const char *file, const Issue *s); /* " (posts.csv:17 'x', ...)", or nothing */

void dims_puts(Text *t, const int64_t *dim, uint32_t n); /* [4, 64, 64, 3] */

/* The output function of splitmix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit. */
uint64_t mix64(uint64_t x);
/* Hash of a word: mix64 of its 64-bit FNV-1a. Ids of hashed inputs depend on it: never change it. */
uint64_t hash_word(const char *s, size_t n);
/* Hash of a large block, eight bytes at a time. A change of any one byte always changes it. */
uint64_t hash_block(uint64_t h, const void *p, size_t n);

/* ---- words.c: UTF-8 and words ---- */

/* Length of the longest prefix of s that is valid UTF-8 without NUL bytes. */
size_t utf8_prefix(const char *s, size_t n);
/* The next word of *s, lower-cased, into w (which is emptied first); false at the end. Rules: see words.c. */
bool next_word(const char **s, Text *w);
/* Appends s in lower case. */
void text_lower(Text *t, const char *s, size_t n);
/* Calls see(ctx, word) for each of the words of one value that the input keeps (at most width); true if there were more. */
bool each_word(const PlanInput *in, const char *value, Text *w, void (*see)(void *ctx, const char *word), void *ctx);

/* ---- sqlfn.c: what a value says, and SQL functions over it ---- */

typedef struct Number {
	double v;
	int64_t i;  /* exact, where whole */
	bool whole;
	bool zeros; /* written with leading zeros */
	bool id;    /* 16 or more digits: an identifier, not a quantity */
	bool sci;   /* an identifier that went through a spreadsheet: 7.18825E+18 */
} Number;
/* Reads all of s as a number: sign, digits with thousands separators, fraction, exponent, K/M/B. */
bool parse_number(const char *s, Number *out);
/* Seconds since 1970-01-01 UTC of a date in any of the formats of sqlfn.c. */
bool parse_time(const char *s, double *out);

typedef struct SqlNotes {
	Issue number, time, json; /* values that a function could not read */
} SqlNotes;
bool sqlfn_register(sqlite3 *db, SqlNotes *notes);
extern const char *const sqlfn_names[];
extern const size_t nsqlfn;

/* ---- csv.c ---- */

typedef enum ColumnType { CT_TEXT, CT_ID, CT_INTEGER, CT_REAL, NCT } ColumnType;
extern const char *const column_type_names[NCT];

typedef struct TableColumn {
	char *name;
	ColumnType type;
	bool fixed;      /* the type comes from a Fit */
	bool used;       /* by some expression */
	bool sci;        /* holds identifiers in scientific notation */
	int64_t empty, number;
	Issue other;     /* values that are not numbers, or (fixed) were made NULL */
	Issue long_id;   /* values of 16 or more digits in a column not named as an ID */
	Issue collision; /* different rows, same identifier in scientific notation */
} TableColumn;

#define MAX_TENSOR_AXES 6

/* A column that holds tensors. Its cells, and so SQL, hold TENSOR_REF(its number, row); the elements stay in the files
   until columns are filled. */
typedef struct TensorColumn {
	uint32_t column;      /* of the table */
	DType dtype;          /* u8 or f32, as its reader gives it */
	uint32_t ndim;
	int64_t dim[MAX_TENSOR_AXES], width; /* of one row, and their product */
	int64_t rows;
	struct ArrayFile *file; /* read_array.c: where its rows lie, in their order */
	uint32_t nfile;
} TensorColumn;

typedef struct TableFile {
	const char *name;     /* as PlanFile */
	char *path;
	uint32_t part;
} TableFile;

/* One table while it is loaded. Cell k = row * ncol + column is the NUL-terminated text at text.s + cell[k]. */
typedef struct Table {
	const char *name, *loc;
	char *path;     /* as opened */
	const char *file; /* its last part, for reports */
	char *raw;      /* file content until parsed */
	size_t nraw;
	uint64_t hash;  /* of the file content as it is on disk */
	uint32_t ncol, capcol;
	TableColumn *col;
	int64_t rows;
	Text text;
	size_t *cell, ncell, capcell;
	int64_t *line; /* where a row starts in the file */
	size_t nline, capline;
	Issue ragged, stray_quote, repeated;
	bool typed;    /* a row given by hand: no file */
	const PlanTable *plan;
	uint32_t kind; /* TableKind */
	uint32_t number; /* of its first tensor column among all tables' */
	uint32_t nfiles, capfiles, ntensor, captensor;
	TableFile *files; /* resolved; a folder is one */
	TensorColumn *tensor;
	char **row_file; /* of a folder whose files are rows: each row's path, in mem */
	size_t nrow_file, caprow_file;
	int64_t damaged; /* of them cannot be read, and what the first say */
	char *damage[3];
	Arena mem;
} Table;

bool csv_read(Table *t, Err *e); /* t->raw to cells; frees t->raw */
void table_free(Table *t);

/* ---- read.c: tables that are not CSV; read_*.c, one file a family of formats ---- */

#define TENSOR_ROWS ((int64_t)1 << 32)
#define TENSOR_REF(number, row) (((int64_t)(number) + 1) * TENSOR_ROWS + (row))

/* Takes row `row` of a tensor column: width elements of its dtype. */
typedef bool (*PutRow)(void *ctx, int64_t row, const void *data, Err *e);

enum { MAX_FILE_NUMBERS = 2 };

/* A kind of files that are rows (read_folder.c). Their tensor has the table's only shape. */
typedef struct FileRow {
	const char *column;        /* the tensor's */
	const char *const *suffix; /* of the files, NULL-terminated */
	const char *const *number; /* columns of what `head` says, NULL-terminated; NULL: there are none */
	bool (*head)(const char *path, double *number, Err *e);
	bool (*load)(const TensorColumn *c, const char *path, void *out, Err *e); /* c->width elements of c->dtype */
} FileRow;
extern const FileRow wav_row, image_row, array_row;

typedef struct TableReader {
	bool columns;  /* its files fill columns that the model names */
	/* Adds columns, rows and what tensors there are; reads headers and scalars, not more of a tensor than must be. */
	bool (*open)(Table *t, Err *e);
	/* Gives the rows of tensor column c to put, in order; stops where it returns false. NULL: it has none, or: */
	bool (*each)(const Table *t, const TensorColumn *c, PutRow put, void *ctx, Err *e);
	const FileRow *file; /* its path is a folder of such files: each row is read by itself */
} TableReader;
extern const TableReader table_readers[NTABLE];

bool table_files(Table *t, const char *base, const char *other, Err *e); /* resolves paths; other: a file in place of all */
bool table_hash(Table *t, bool content, Err *e);     /* of all files' names, and of what is in them, into t->hash */
bool table_read(Table *t, uint32_t number, Err *e);  /* files to cells; number: of tensor columns in the tables before */

uint32_t table_add_column(Table *t, const char *name);
TensorColumn *table_add_tensor(Table *t, const char *name, DType dtype, uint32_t ndim, const int64_t *dim);
/* Cells of a row, in the order of the columns. */
void table_add_text(Table *t, const char *s, size_t n);
void table_add_number(Table *t, double v);
void table_add_ref(Table *t, uint32_t tensor, int64_t row); /* the cell of tensor column number `tensor`; row < 0: missing */
void table_end_row(Table *t, int64_t line);
void table_name_part(Table *t, uint32_t part);       /* the cell of column `part`, where the table has one */
bool table_has_parts(const Table *t);

/* Bytes of a file, whether gzip or not; or of a member of a zip archive. */
typedef struct Stream {
	const char *path;
	void *gz;        /* gzFile */
	FILE *zip;
	void *z;         /* z_stream of a deflated member */
	int64_t left;    /* of the member, as stored */
	int64_t at;      /* bytes given so far */
	unsigned char *buf;
} Stream;
bool stream_open(Stream *s, const char *path, Err *e);
bool stream_open_member(Stream *s, const char *path, int64_t offset, int64_t stored, bool deflated, Err *e);
bool stream_some(Stream *s, void *out, size_t n, size_t *got, Err *e); /* as many as there are up to n */
bool stream_read(Stream *s, void *out, size_t n, Err *e);              /* exactly n: else an error that says where it was cut off */
bool stream_skip(Stream *s, int64_t n, Err *e);
int64_t stream_size(const Stream *s);  /* of the file as it lies on the disk */
bool stream_packed(const Stream *s);   /* whether it is gzip */
bool stream_end(Stream *s, Err *e);                                    /* an error if there is more */
void stream_close(Stream *s);

/* All files under a folder (or the file itself) with one of the suffixes, sorted; NULL after an error. */
char **list_files(Arena *a, const char *path, const char *const *suffix, size_t *n, Err *e);

bool array_open(Table *t, Err *e); /* read_array.c: idx, npy, npz, raw */
bool array_each(const Table *t, const TensorColumn *c, PutRow put, void *ctx, Err *e);
void array_free(TensorColumn *c);
bool cifar_open(Table *t, Err *e);
bool cifar_each(const Table *t, const TensorColumn *c, PutRow put, void *ctx, Err *e);
bool lines_open(Table *t, Err *e); /* read_text.c */
bool sequence_open(Table *t, Err *e);
/* n ids below size from `first` on, of all files as one; u8 where size is 256, else i32. */
bool ids_read(const Table *t, int64_t first, int64_t n, int64_t size, void *out, Err *e);
bool folder_open(Table *t, Err *e); /* read_folder.c */
bool folder_load(const Table *t, const TensorColumn *c, int64_t row, void *out, Err *e); /* errors name the file */

/* ---- table.c ---- */

int table_column(const Table *t, const char *name); /* as SQL compares names, without case; -1 if absent */
void table_decide_types(Table *t);
bool table_load(Table *t, sqlite3 *db, Err *e);     /* cells to SQLite; frees the cells, keeps line[] */
void table_report(const Table *t, Text *out);

void sql_ident(Text *t, const char *name); /* "name", quotes doubled */

/* ---- join.c ---- */

typedef struct FromTable {
	const char *name, *alias; /* alias: how expressions call it; name NULL: a subquery */
	int table;                /* index of the model's table, or -1 */
	bool left;                /* LEFT JOIN */
	uint32_t nkey;            /* equalities of USING or ON; 0: not understood */
	struct {
		int left;         /* earlier FromTable */
		const char *lcol, *rcol;
	} key[8];
} FromTable;

typedef struct From {
	FromTable t[16];
	uint32_t n;
	bool plain; /* every part is a table of the model, so that rows can be put in order */
} From;

struct Source;
void from_parse(struct Source *s);
void from_unify_types(struct Source *s);      /* both sides of a key compare as the same type */
bool from_index(struct Source *s, Err *e);    /* an index for the right side of each key */
bool from_check(struct Source *s, bool strict, Err *e); /* integrity report; strict: no match is an error */

/* ---- rows.c ---- */

typedef struct Source {
	const PlanData *d;
	const DataOptions *o;
	Arena mem;
	sqlite3 *db;
	uint32_t ntable;
	Table *table;
	From from;
	SqlNotes notes;
	Text report;
} Source;

#define NO_TEXT SIZE_MAX
/* One SQL expression and its values over the joined rows. */
typedef struct Expr {
	const char *what; /* "input caption", for messages */
	const char *sql, *loc;
	bool text;        /* else number */
	double *num;      /* NaN: missing */
	size_t *off;      /* NUL-terminated in pool; NO_TEXT: missing */
	Text pool;
	int64_t missing;
	bool fraction;    /* some value was not an integer */
	Issue junk;       /* not a number */
} Expr;

typedef struct Rows {
	int64_t n;             /* rows of the SELECT */
	uint32_t nexpr;
	Expr *expr;            /* inputs, targets (not in apply), group, stratify, given, order, key */
	Expr *group, *stratify, *given, *order_by, *key; /* NULL if absent */
	int64_t *line;         /* in the first table's file */
	const char *file;
	int64_t *order;        /* kept rows, split by split; their numbers in 0..n */
	int64_t kept, split[4];
} Rows;

static inline bool expr_missing(const Expr *x, int64_t row)
{
	return x->text ? x->off[row] == NO_TEXT : x->num[row] != x->num[row];
}

static inline const char *expr_text(const Expr *x, int64_t row)
{
	return x->off[row] == NO_TEXT ? NULL : x->pool.s + x->off[row];
}

bool query_int(Source *s, int64_t *out, Err *e, const char *fmt, ...) PRINTF(4, 5);
bool rows_check(Source *s, bool apply, Rows *r, Err *e); /* every expression alone, so that errors have a place */
bool rows_select(Source *s, bool apply, Rows *r, Err *e);
bool rows_clean(Source *s, Rows *r, Err *e);             /* drops rows without target or with `missing: drop` */
void rows_free(Rows *r);

/* ---- split.c ---- */

bool rows_split(Source *s, Rows *r, uint64_t seed, Err *e); /* fills order and split */

/* ---- fit.c ---- */

/* Words and their numbers: open addressing over words in order of arrival. */
typedef struct Dict {
	char **word;
	int64_t *count;
	uint32_t n, capword, capcount;
	uint32_t *slot; /* 1 + index of a word, 0 free */
	uint32_t nslot;
} Dict;
uint32_t dict_find(const Dict *d, const char *w); /* index, or UINT32_MAX */
uint32_t dict_add(Dict *d, const char *w);
void dict_free(Dict *d);

typedef struct ScaleFit {
	double mean, std, min, max; /* after log1p where asked */
} ScaleFit;
typedef struct InputFit {
	char *name;
	bool number, words, tensor; /* which of the following is in use; a hashed input has nothing */
	double impute;
	ScaleFit scale;
	Dict vocab; /* id = index + 2 */
	uint32_t nchannel;  /* of a tensor under zscore */
	double *mean, *std;
} InputFit;
typedef struct TargetFit {
	char *name;
	ScaleFit scale;
	double threshold; /* binary: positive when value > threshold (not for a condition) */
	double prior;     /* mean of the encoded column over the training split */
	double positive_weight;
	Dict classes; /* id = index; empty: the model names them, or the values are the ids */
} TargetFit;
typedef struct FitColumn {
	char *table, *name;
	ColumnType type;
} FitColumn;

struct Fit {
	uint32_t ninput, ntarget, ncolumn, capcolumn;
	InputFit *input;
	TargetFit *target;
	FitColumn *column; /* how each table column was stored, so that serving reads it the same way */
};

Fit *fit_new(const PlanData *d);
bool fit_build(Source *s, const Rows *r, Fit **out, Err *e);
bool target_positive(const PlanTarget *t, const TargetFit *f, double value);
double scale_apply(uint32_t bits, const ScaleFit *f, double v);

/* ---- encode.c ---- */

/* What encoding saw, for the report. */
typedef struct Coded {
	int64_t missing, words, unknown, truncated;
	Issue clamped;   /* negative under log1p */
	Issue range;     /* an integer id outside [0, size) */
	Issue absent;    /* rows without a tensor */
} Coded;

void encode_input(const PlanInput *in, const InputFit *f, const Rows *r, const Expr *x, void *out, Coded *c);
void encode_target(const PlanTarget *t, const TargetFit *f, const Rows *r, const Expr *x, void *out, Coded *c);
/* Id of a class by its value; -1 if it has none. */
int64_t class_id(const PlanTarget *t, const TargetFit *f, const char *value);

/* ---- tensors.c: tensor columns ---- */

/* Fills a column of kept rows of the shape; missing tensors become zeros. what: "input image", for messages. */
bool encode_tensor(Source *s, const Rows *r, const Expr *x, DType dtype, const int64_t *dim, uint32_t ndim, void *out, Coded *c, Err *e);
bool encode_sequence(Source *s, const Rows *r, const Expr *x, const PlanInput *in, void *out, Err *e);
bool check_labels(const PlanTarget *t, const Rows *r, const uint8_t *v, Err *e);
/* Mean and standard deviation of each channel over the training rows. */
void fit_channels(const PlanInput *in, const Rows *r, const void *v, InputFit *f);

/* ---- columns.c ---- */

/* Memory for all columns of d and rows, laid out as in the cache file; out->column points into it. */
bool columns_alloc(const PlanData *d, bool apply, int64_t rows, Dataset *out, Err *e);
void columns_set_keys(Dataset *out, const Rows *r);
bool cache_write(const char *path, uint64_t key, const Dataset *ds, const char *fit, const Text *report, Err *e);
/* False, never an error, when the file is absent (*why NULL) or is not exactly what cache_write made (*why says what it is). */
bool cache_open(const char *path, const PlanData *d, uint64_t key, Dataset *out, Fit **fit, Text *report, const char **why);

#endif
