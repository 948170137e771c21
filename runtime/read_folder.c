/* Folders of files, each a row: its path below the folder, the folder that it is in, its name without suffix, what its header
   says in numbers, and one tensor, which is read when it is wanted. The kinds of files are in read_wav.c, read_images.c and
   read_array.c.

   A file that cannot be read ends the run; or, where the model says `damaged: missing`, its tensor and numbers are
   missing, which is known before any SQL runs: so every file is read once then. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The tensor of one file, of c's type and shape, into out. */
static bool
load(const Table *t, const TensorColumn *c, const char *path, void *out, Err *e)
{
	const float *v = out;
	if (!table_readers[t->kind].file->load(c, path, out, e))
		return false;
	for (int64_t i = 0; c->dtype == DT_F32 && i < c->width; i++)
		if (!isfinite(v[i]))
			return fail(e, "%s: element %lld is not a finite number", path, (long long)i);
	return true;
}

/* Two cells: the last folder of a path, and the file's name up to the suffix. */
static void
add_names(Table *t, const char *path, const char *const *suffix)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path, *end = base > path ? base - 1 : path, *start = end;
	size_t n = strlen(base), cut = 0;
	while (start > path && start[-1] != '/')
		start--;
	table_add_text(t, start, (size_t)(end - start));
	for (; *suffix; suffix++) {
		size_t k = strlen(*suffix);
		if (k > cut && k < n && !strcasecmp(base + n - k, *suffix))
			cut = k;
	}
	table_add_text(t, base, n - cut);
}

static void
note_damaged(Table *t, const char *why)
{
	if (t->damaged < (int64_t)LEN(t->damage))
		t->damage[t->damaged] = arena_strdup(&t->mem, why);
	t->damaged++;
}

/* buf: room for one tensor. */
static bool
add_file(Table *t, const FileRow *k, const TableFile *folder, const char *path, void *buf, Err *e)
{
	double number[MAX_FILE_NUMBERS];
	size_t n = strlen(folder->path);
	const char *below = strncmp(path, folder->path, n) || path[n] != '/' ? strrchr(path, '/') : path + n;
	Err why = {0};
	bool ok = (!k->head || k->head(path, number, &why)) && (!t->plan->damaged || load(t, &t->tensor[0], path, buf, &why));
	if (!ok && !t->plan->damaged)
		return fail(e, "%s", why.msg);
	if (!ok)
		note_damaged(t, why.msg);
	below = below ? below + strspn(below, "/") : path;
	table_add_text(t, below, strlen(below));
	add_names(t, path, k->suffix);
	for (const char *const *c = k->number; c && *c; c++)
		if (ok)
			table_add_number(t, number[c - k->number]);
		else
			table_add_text(t, "", 0);
	table_add_ref(t, 0, ok ? t->rows : -1);
	table_name_part(t, folder->part);
	VEC_PUSH(t->row_file, t->nrow_file, t->caprow_file) = arena_strdup(&t->mem, path);
	table_end_row(t, t->rows + 1);
	return true;
}

bool
folder_open(Table *t, Err *e)
{
	const FileRow *k = table_readers[t->kind].file;
	const PlanShape *shape = &t->plan->shape[0];
	Arena a = {0};
	table_add_column(t, "file");
	table_add_column(t, "folder");
	TableColumn *name = &t->col[table_add_column(t, "name")];
	name->type = CT_TEXT; /* whatever it looks like */
	name->fixed = true;
	for (const char *const *c = k->number; c && *c; c++)
		table_add_column(t, *c);
	TensorColumn *x = table_add_tensor(t, k->column, (DType)shape->dtype, shape->ndim, shape->dim);
	void *buf = xmalloc((size_t)x->width * dtype_bytes(x->dtype));
	if (table_has_parts(t))
		table_add_column(t, "part");
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++) {
		size_t n = 0;
		char **f = list_files(&a, t->files[i].path, k->suffix, &n, e);
		for (size_t j = 0; f && j < n && add_file(t, k, &t->files[i], f[j], buf, e); j++)
			;
	}
	t->tensor[0].rows = t->rows;
	free(buf);
	arena_free(&a);
	return !e->set && (t->damaged < t->rows || !t->rows || fail(e, "none of %lld files can be read; the first: %s", (long long)t->rows, t->damage[0]));
}

bool
folder_load(const Table *t, const TensorColumn *c, int64_t row, void *out, Err *e)
{
	return load(t, c, t->row_file[row], out, e);
}
