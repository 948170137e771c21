/* Encoded columns in memory and in the cache file, which is mapped as it is.

   File: CacheHead, filled up to 256 bytes; the columns, inputs then targets, each at a multiple of 256; the keys, NUL-terminated;
   the Fit as JSON; the report. Native byte order (the magic tells another one). The layout follows from the schema and
   the number of rows, so nothing in the file points anywhere: sizes, checksum, ids and numbers are checked, and a file
   that differs in anything from what would be written is not used. */
#include "data_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_MAGIC 0x31004c4f434d4dull /* "MMCOL\0" 1 */
#define CACHE_VERSION 2
#define COLUMN_ALIGN 256

typedef struct CacheHead {
	uint64_t magic, version, key;
	uint64_t bytes;    /* of the whole file */
	uint64_t checksum; /* of the whole file, as if this were 0 */
	int64_t rows, split[4];
	uint64_t nkeys, nfit, nreport; /* bytes */
} CacheHead;

/* Behind Dataset.owner. */
typedef struct Owner {
	void *map; /* the cache file, or NULL */
	size_t nmap;
	void *block; /* the columns, or NULL */
	size_t nblock;
	Text keys; /* NULs between */
} Owner;

static size_t aligned(size_t n) { return (n + COLUMN_ALIGN - 1) / COLUMN_ALIGN * COLUMN_ALIGN; }

/* Fills in the columns of out (data: offsets from base) and gives the bytes of all; false if that overflows. */
static bool
lay_out(const PlanData *d, bool apply, int64_t rows, char *base, Column *col, size_t *bytes)
{
	size_t at = 0, n;
	for (uint32_t i = 0; i < d->ninput + (apply ? 0 : d->ntarget); i++) {
		Column c = {column_name(d, i), column_dtype(d, i), column_width(d, i), NULL, column_tail(d, i)};
		if (__builtin_mul_overflow((size_t)rows, (size_t)c.width * dtype_bytes(c.dtype), &n) || n > SIZE_MAX / 4 || at > SIZE_MAX / 4)
			return false;
		n += (size_t)c.tail * dtype_bytes(c.dtype);
		if (base)
			c.data = base + at;
		if (col)
			col[i] = c;
		at += aligned(n);
	}
	*bytes = at;
	return true;
}

bool
columns_alloc(const PlanData *d, bool apply, int64_t rows, Dataset *out, Err *e)
{
	Owner *o = xcalloc(1, sizeof *o);
	*out = (Dataset){.rows = rows, .ncolumn = d->ninput + (apply ? 0 : d->ntarget), .owner = o};
	out->column = xcalloc(out->ncolumn, sizeof *out->column);
	bool ok = lay_out(d, apply, rows, NULL, NULL, &o->nblock);
	if (ok && o->nblock) {
		o->block = aligned_alloc(COLUMN_ALIGN, o->nblock);
		ok = o->block != NULL;
	}
	if (!ok) {
		dataset_free(out);
		return fail(e, "%s: the columns of %lld rows do not fit into memory; use fewer tokens or rows", d->loc, (long long)rows);
	}
	if (o->block)
		memset(o->block, 0, o->nblock);
	return lay_out(d, apply, rows, o->block, out->column, &o->nblock);
}

/* Points key[] at rows NUL-terminated strings; false if there are not exactly so many. */
static bool
point_keys(Dataset *out, char *s, size_t n)
{
	int64_t count = 0;
	if (!n)
		return true; /* rows without keys */
	for (char *p = s, *end = s + n; p < end; count++) {
		p = memchr(p, 0, (size_t)(end - p));
		if (!p++)
			return false;
	}
	if (count != out->rows)
		return false;
	out->key = xmalloc((size_t)count * sizeof *out->key);
	for (int64_t i = 0; i < count; i++, s += strlen(s) + 1)
		out->key[i] = s;
	return true;
}

void
columns_set_keys(Dataset *out, const Rows *r)
{
	Owner *o = out->owner;
	for (int64_t i = 0; r->key && i < r->kept; i++) {
		const char *t = expr_text(r->key, r->order[i]);
		text_add(&o->keys, t ? t : "", strlen(t ? t : "") + 1);
	}
	point_keys(out, o->keys.s, o->keys.n);
}

uint64_t
dataset_hash(const Dataset *d)
{
	uint64_t h = hash_u64(HASH_INIT, (uint64_t)d->rows);
	for (uint32_t i = 0; i < d->ncolumn; i++) {
		const Column *c = &d->column[i];
		h = hash_block(h, c->data, (size_t)(d->rows * c->width + c->tail) * dtype_bytes(c->dtype));
	}
	return h;
}

void
dataset_free(Dataset *d)
{
	Owner *o = d->owner;
	if (o) {
		if (o->map)
			munmap(o->map, o->nmap);
		free(o->block);
		free(o->keys.s);
		free(o);
	}
	free(d->column);
	free(d->key);
	*d = (Dataset){0};
}

bool
cache_write(const char *path, uint64_t key, const Dataset *ds, const char *fit, const Text *report, Err *e)
{
	const Owner *o = ds->owner;
	size_t start = aligned(sizeof(CacheHead));
	CacheHead h = {CACHE_MAGIC, CACHE_VERSION, key, start + o->nblock + o->keys.n + strlen(fit) + report->n, 0, ds->rows,
	               {ds->split[0], ds->split[1], ds->split[2], ds->split[3]}, o->keys.n, strlen(fit), report->n};
	char *buf = malloc(h.bytes), *p;
	if (!buf)
		return fail(e, "%s: no memory to write it", path);
	memset(buf, 0, start);
	p = buf + start;
	memcpy(p, o->block ? o->block : "", o->nblock);
	p += o->nblock;
	memcpy(p, o->keys.n ? o->keys.s : "", o->keys.n);
	p += o->keys.n;
	memcpy(p, fit, h.nfit);
	p += h.nfit;
	memcpy(p, report->n ? report->s : "", report->n);
	memcpy(buf, &h, sizeof h);
	h.checksum = hash_block(key, buf, h.bytes); /* over a zero checksum */
	memcpy(buf, &h, sizeof h);
	bool ok = write_file_atomic(path, buf, h.bytes, 0600, e);
	free(buf);
	return ok;
}

/* Ids in range, numbers finite: a gather on the device trusts them. */
static bool
check_values(const PlanData *d, const Dataset *ds)
{
	for (uint32_t i = 0; i < ds->ncolumn; i++) {
		const Column *c = &ds->column[i];
		int64_t n = ds->rows * c->width + c->tail, bad = 0;
		const int32_t *id = c->data;
		const float *v = c->data;
		const uint8_t *byte = c->data;
		const PlanTarget *t = i < d->ninput ? NULL : &d->target[i - d->ninput];
		int64_t size = t ? t->size : d->input[i].size;
		if (c->dtype == DT_I32)
			for (int64_t k = 0; k < n; k++)
				bad += id[k] < 0 || id[k] >= size;
		else if (c->dtype == DT_U8)
			for (int64_t k = 0; t && t->kind == TG_LABELS && k < n; k++)
				bad += byte[k] >= size && byte[k] != t->ignore;
		else
			for (int64_t k = 0; k < n; k++)
				bad += !isfinite(v[k]);
		if (bad)
			return false;
	}
	return true;
}

static bool
check_head(const CacheHead *h, size_t bytes, uint64_t key, const char **why)
{
	if (h->magic != CACHE_MAGIC || h->version != CACHE_VERSION)
		*why = "is not a cache file of this version";
	else if (h->bytes != bytes)
		*why = "is cut off";
	else if (h->key != key)
		*why = "belongs to other data";
	else if (h->rows < 1 || h->split[0] || h->split[1] < 1 || h->split[2] < h->split[1] || h->split[3] < h->split[2] ||
	         h->split[3] != h->rows)
		*why = "is damaged";
	return !*why;
}

/* The map is private, so the head can be changed in place. */
static bool
check_sum(char *map, CacheHead h, uint64_t key)
{
	uint64_t want = h.checksum;
	h.checksum = 0;
	memcpy(map, &h, sizeof h);
	return hash_block(key, map, h.bytes) == want;
}

/* Reads what the mapped file holds; false with why set if it is not sound. */
static bool
read_map(const PlanData *d, uint64_t key, Dataset *out, Fit **fit, Text *report, const char **why)
{
	Owner *o = out->owner;
	char *map = o->map;
	size_t start = aligned(sizeof(CacheHead)), columns, at;
	CacheHead h;
	memcpy(&h, map, sizeof h);
	if (!check_head(&h, o->nmap, key, why))
		return false;
	*why = "is damaged";
	if (!lay_out(d, false, h.rows, NULL, NULL, &columns) || h.nkeys > h.bytes || h.nfit > h.bytes || h.nreport > h.bytes ||
	    start + columns + h.nkeys + h.nfit + h.nreport != h.bytes ||
	    !check_sum(map, h, key))
		return false;
	out->rows = h.rows;
	memcpy(out->split, h.split, sizeof h.split);
	out->ncolumn = d->ninput + d->ntarget;
	out->column = xcalloc(out->ncolumn, sizeof *out->column);
	lay_out(d, false, h.rows, map + start, out->column, &columns);
	at = start + columns;
	if (!check_values(d, out) || !point_keys(out, map + at, h.nkeys))
		return false;
	at += h.nkeys;
	char *json = xmalloc(h.nfit + 1);
	memcpy(json, map + at, h.nfit);
	json[h.nfit] = 0;
	Err ignored = {0};
	*fit = fit_from_json(d, json, &ignored);
	free(json);
	if (!*fit)
		return false;
	text_add(report, map + at + h.nfit, h.nreport);
	*why = NULL;
	return true;
}

bool
cache_open(const char *path, const PlanData *d, uint64_t key, Dataset *out, Fit **fit, Text *report, const char **why)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	*why = fd < 0 && errno != ENOENT ? strerror(errno) : NULL;
	*out = (Dataset){0};
	if (fd < 0)
		return false;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (size_t)st.st_size < aligned(sizeof(CacheHead))) {
		*why = "is cut off";
		close(fd);
		return false;
	}
	Owner *o = xcalloc(1, sizeof *o);
	out->owner = o;
	o->nmap = (size_t)st.st_size;
	o->map = mmap(NULL, o->nmap, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (o->map == MAP_FAILED) {
		o->map = NULL;
		*why = "cannot be mapped";
	} else if (read_map(d, key, out, fit, report, why)) {
		return true;
	}
	dataset_free(out);
	return false;
}
