/* Tables that are not CSV. A reader (one file a family of formats) makes rows of cells as csv.c does, and leaves
   tensors in their files: the cell of one is a number that says which (TENSOR_REF), so that SQL can join, filter and
   choose among them; tensors.c fetches those that are wanted.

   Files come in parts: those of `path`, of `val` and of `test`. Where a table has more than one part it has a column
   `part`: val, test, or NULL for rows that data.split deals out. */
#include "data_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

const TableReader table_readers[NTABLE] = {
	[TB_LINES] = {.open = lines_open},
	[TB_BYTES] = {.open = sequence_open},
	[TB_IDS16] = {.open = sequence_open},
	[TB_IDS32] = {.open = sequence_open},
	[TB_IDX] = {.columns = true, .open = array_open, .each = array_each},
	[TB_NPY] = {.columns = true, .open = array_open, .each = array_each},
	[TB_NPZ] = {.open = array_open, .each = array_each},
	[TB_RAW] = {.columns = true, .open = array_open, .each = array_each},
	[TB_CIFAR] = {.open = cifar_open, .each = cifar_each},
	[TB_CIFAR100] = {.open = cifar_open, .each = cifar_each},
	[TB_WAV] = {.open = folder_open, .file = &wav_row},
	[TB_IMAGES] = {.open = folder_open, .file = &image_row},
	[TB_ARRAYS] = {.open = folder_open, .file = &array_row},
};

/* ---- rows ---- */

uint32_t
table_add_column(Table *t, const char *name)
{
	VEC_PUSH(t->col, t->ncol, t->capcol) = (TableColumn){.name = xstrdup(name)};
	return t->ncol - 1;
}

TensorColumn *
table_add_tensor(Table *t, const char *name, DType dtype, uint32_t ndim, const int64_t *dim)
{
	TensorColumn c = {.column = table_add_column(t, name), .dtype = dtype, .ndim = ndim, .width = 1};
	for (uint32_t i = 0; i < ndim; i++)
		c.width *= c.dim[i] = dim[i];
	VEC_PUSH(t->tensor, t->ntensor, t->captensor) = c;
	return &t->tensor[t->ntensor - 1];
}

void
table_add_text(Table *t, const char *s, size_t n)
{
	VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n;
	text_add(&t->text, s, n);
	text_add(&t->text, "", 1);
}

void
table_add_number(Table *t, double v)
{
	char buf[40];
	int n = v == (double)(int64_t)v ? snprintf(buf, sizeof buf, "%lld", (long long)v) : snprintf(buf, sizeof buf, "%.17g", v);
	table_add_text(t, buf, (size_t)n);
}

void
table_add_ref(Table *t, uint32_t tensor, int64_t row)
{
	char buf[40] = "";
	int n = row < 0 ? 0 : snprintf(buf, sizeof buf, "%lld", (long long)TENSOR_REF(t->number + tensor, row));
	table_add_text(t, buf, (size_t)n);
}

void
table_end_row(Table *t, int64_t line)
{
	VEC_PUSH(t->line, t->nline, t->capline) = line;
	t->rows++;
}

bool
table_has_parts(const Table *t)
{
	for (uint32_t i = 0; i < t->nfiles; i++)
		if (t->files[i].part != PART_ANY)
			return true;
	return t->plan && t->plan->nfile && t->nfiles == 1 && t->plan->file[t->plan->nfile - 1].part != PART_ANY; /* a file in place of all */
}

void
table_name_part(Table *t, uint32_t part)
{
	static const char *const name[NPART] = {"", "train", "val", "test"};
	if (table_has_parts(t))
		table_add_text(t, name[part], strlen(name[part]));
}

/* ---- files ---- */

static char *
resolve(const char *base, const char *path)
{
	Text t = {0};
	if (path[0] != '/' && *base)
		text_printf(&t, "%s/", base);
	text_puts(&t, path);
	return t.s;
}

bool
table_files(Table *t, const char *base, const char *other, Err *e)
{
	const PlanTable *p = t->plan;
	if (other || !p->nfile) {
		const char *name = other && p->nfile && table_readers[p->kind].columns ? p->file[0].name : "";
		VEC_PUSH(t->files, t->nfiles, t->capfiles) = (TableFile){name, other ? xstrdup(other) : resolve(base, p->path), PART_ANY};
	}
	for (uint32_t part = 0; part < NPART && !other; part++)
		for (uint32_t i = 0; i < p->nfile; i++)
			if (p->file[i].part == part)
				VEC_PUSH(t->files, t->nfiles, t->capfiles) = (TableFile){p->file[i].name, resolve(base, p->file[i].path), part};
	if (!t->nfiles)
		return fail(e, "%s: table %s has no file; compile the model again", p->loc, p->name);
	t->path = xstrdup(t->files[0].path);
	size_t n = strlen(t->path);
	while (n > 1 && t->path[n - 1] == '/')
		t->path[--n] = 0;
	t->file = strrchr(t->path, '/') ? strrchr(t->path, '/') + 1 : t->path;
	return true;
}

static const char *const any_suffix[] = {"", NULL};

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
has_suffix(const char *s, const char *const *suffix)
{
	size_t n = strlen(s);
	for (; *suffix; suffix++)
		if (n >= strlen(*suffix) && !strcasecmp(s + n - strlen(*suffix), *suffix))
			return true;
	return false;
}

typedef struct Walk {
	Arena *a;
	const char *const *suffix;
	char **file;
	size_t n, cap;
} Walk;

static bool
walk(Walk *w, const char *path, int depth, Err *e)
{
	struct stat st;
	struct dirent *d;
	if (stat(path, &st))
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode)) {
		if (S_ISREG(st.st_mode) && (!depth || has_suffix(path, w->suffix)))
			VEC_PUSH(w->file, w->n, w->cap) = arena_strdup(w->a, path);
		return true;
	}
	if (depth > 16)
		return fail(e, "%s: more than 16 folders deep", path);
	DIR *dir = opendir(path);
	if (!dir)
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	while (!e->set && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			walk(w, arena_printf(w->a, "%s/%s", path, d->d_name), depth + 1, e);
	closedir(dir);
	return !e->set;
}

char **
list_files(Arena *a, const char *path, const char *const *suffix, size_t *n, Err *e)
{
	Walk w = {.a = a, .suffix = suffix};
	bool ok = walk(&w, path, 0, e);
	if (ok && !w.n)
		ok = *suffix[0] ? fail(e, "%s: this folder has no files of the kind (%s, ..)", path, suffix[0]) : fail(e, "%s: this folder is empty", path);
	if (!ok) {
		free(w.file);
		return NULL;
	}
	qsort(w.file, w.n, sizeof *w.file, by_name);
	*n = w.n;
	char **out = arena_alloc(a, w.n * sizeof *out);
	memcpy(out, w.file, w.n * sizeof *out);
	free(w.file);
	return out;
}

static bool
hash_file(const char *path, uint64_t *h, Err *e)
{
	FILE *f = fopen(path, "rb");
	char *buf;
	size_t n;
	if (!f)
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	buf = xmalloc(1 << 20);
	while ((n = fread(buf, 1, 1 << 20, f)))
		*h = hash_block(*h, buf, n);
	bool ok = !ferror(f) || fail(e, "%s: cannot read: %s", path, strerror(errno));
	free(buf);
	fclose(f);
	return ok;
}

bool
table_hash(Table *t, bool content, Err *e)
{
	Arena a = {0};
	t->hash = hash_u64(HASH_INIT, t->nfiles);
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++) {
		size_t n = 0;
		char **f = list_files(&a, t->files[i].path, any_suffix, &n, e);
		t->hash = hash_u64(t->hash, n);
		for (size_t k = 0; f && k < n && !e->set; k++) {
			const char *name = f[k] + strlen(t->files[i].path); /* of a file in a folder */
			t->hash = hash_bytes(t->hash, name, strlen(name) + 1);
			if (content)
				hash_file(f[k], &t->hash, e);
		}
	}
	arena_free(&a);
	return !e->set;
}

bool
table_read(Table *t, uint32_t number, Err *e)
{
	t->number = number;
	if (!table_readers[t->kind].open(t, e))
		return false;
	VEC_PUSH(t->cell, t->ncell, t->capcell) = t->text.n; /* the end of the last cell */
	t->ncell--;
	if (!t->rows)
		return fail(e, "%s: there is no row in it", t->path);
	if (t->rows >= TENSOR_ROWS)
		return fail(e, "%s: more than %lld rows", t->path, (long long)TENSOR_ROWS);
	return true;
}

/* ---- streams ---- */

#define ZIP_BUFFER (1 << 16)

bool
stream_open(Stream *s, const char *path, Err *e)
{
	struct stat st;
	*s = (Stream){.path = path};
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return fail(e, "%s: this is a folder, a file is needed", path);
	s->gz = gzopen(path, "rb");
	if (!s->gz)
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	gzbuffer(s->gz, 1 << 18);
	return true;
}

bool
stream_open_member(Stream *s, const char *path, int64_t offset, int64_t stored, bool deflated, Err *e)
{
	*s = (Stream){.path = path, .left = stored};
	s->zip = fopen(path, "rb");
	if (!s->zip || fseeko(s->zip, offset, SEEK_SET)) {
		if (s->zip)
			fclose(s->zip);
		s->zip = NULL;
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	}
	s->buf = xmalloc(ZIP_BUFFER);
	if (deflated) {
		s->z = xcalloc(1, sizeof(z_stream));
		if (inflateInit2((z_stream *)s->z, -MAX_WBITS) != Z_OK)
			return fail(e, "%s: zlib cannot start", path);
	}
	return true;
}

static size_t
member_stored(Stream *s, void *out, size_t n)
{
	size_t want = s->left < (int64_t)n ? (size_t)s->left : n, got = fread(out, 1, want, s->zip);
	s->left -= (int64_t)got;
	return got;
}

static bool
member_some(Stream *s, void *out, size_t n, size_t *got, Err *e)
{
	z_stream *z = s->z;
	if (!z) {
		*got = member_stored(s, out, n);
		return true;
	}
	z->next_out = out;
	z->avail_out = (unsigned)n;
	while (z->avail_out) {
		if (!z->avail_in) {
			z->next_in = s->buf;
			z->avail_in = (unsigned)member_stored(s, s->buf, ZIP_BUFFER);
		}
		int rc = inflate(z, Z_NO_FLUSH);
		if (rc == Z_STREAM_END || (rc == Z_BUF_ERROR && !z->avail_in))
			break;
		if (rc != Z_OK && rc != Z_BUF_ERROR)
			return fail(e, "%s: damaged after %lld bytes of an array; fetch the file again", s->path, (long long)s->at);
	}
	*got = n - z->avail_out;
	return true;
}

bool
stream_some(Stream *s, void *out, size_t n, size_t *got, Err *e)
{
	int code;
	*got = 0;
	while (*got < n) { /* pieces that gzread and inflate can take */
		size_t piece = n - *got < 1u << 30 ? n - *got : 1u << 30, more = 0;
		if (s->zip) {
			if (!member_some(s, (char *)out + *got, piece, &more, e))
				return false;
		} else {
			int k = gzread(s->gz, (char *)out + *got, (unsigned)piece);
			gzerror(s->gz, &code);
			if (code == Z_ERRNO)
				return fail(e, "%s: cannot read: %s", s->path, strerror(errno));
			if (k < 0 || (code && code != Z_STREAM_END))
				return fail(e, "%s: gzip content is %s after %lld bytes; fetch the file again", s->path, code == Z_BUF_ERROR ? "cut off" : "damaged",
				            (long long)(s->at + (int64_t)*got + (k > 0 ? k : 0)));
			more = (size_t)k;
		}
		if (!more)
			break;
		*got += more;
	}
	s->at += (int64_t)*got;
	return true;
}

bool
stream_read(Stream *s, void *out, size_t n, Err *e)
{
	size_t got;
	int64_t at = s->at;
	if (!stream_some(s, out, n, &got, e))
		return false;
	return got == n || fail(e, "%s: cut off after %lld bytes, where %zu more are needed; fetch the file again", s->path, (long long)(at + (int64_t)got), n - got);
}

bool
stream_skip(Stream *s, int64_t n, Err *e)
{
	char buf[4096];
	while (n > 0) {
		size_t piece = n < (int64_t)sizeof buf ? (size_t)n : sizeof buf;
		if (!stream_read(s, buf, piece, e))
			return false;
		n -= (int64_t)piece;
	}
	return true;
}

int64_t
stream_size(const Stream *s)
{
	struct stat st;
	return stat(s->path, &st) ? 0 : (int64_t)st.st_size;
}

bool stream_packed(const Stream *s) { return s->gz && !gzdirect(s->gz); }

bool
stream_end(Stream *s, Err *e)
{
	char c;
	size_t got;
	if (!stream_some(s, &c, 1, &got, e))
		return false;
	return !got || fail(e, "%s: goes on after %lld bytes, where it should end: its header and its content do not fit", s->path, (long long)s->at - 1);
}

void
stream_close(Stream *s)
{
	if (s->gz)
		gzclose(s->gz);
	if (s->zip)
		fclose(s->zip);
	if (s->z)
		inflateEnd((z_stream *)s->z);
	free(s->z);
	free(s->buf);
	*s = (Stream){0};
}
