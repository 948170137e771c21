/* Arrays of numbers, row after row: IDX (LeCun's format of MNIST), NumPy's npy and npz (numpy.lib.format), raw bytes; and
   folders of npy files, each a row.

   A file is a header, which says type and shape, and elements. The first axis is the row. An array with no other axis
   is a column of numbers, read at once; any other is a tensor column, u8 where the file has bytes, else f32. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* An element as it is stored. */
typedef struct Element {
	char kind;   /* u unsigned, i signed, f float */
	uint8_t bytes;
	bool big;    /* the most significant byte first */
} Element;

/* One array in a file. */
typedef struct ArrayFile {
	const char *path;
	const char *name;   /* of the column */
	Element el;
	uint32_t nd;
	int64_t dim[MAX_TENSOR_AXES + 1]; /* rows, then a row's */
	int64_t rows, width;
	int64_t skip;       /* bytes of the header */
	int64_t offset, stored; /* of a zip member; stored < 0: the file itself */
	bool deflated;
	uint32_t part;
} ArrayFile;

static bool
open_stream(const ArrayFile *f, Stream *s, Err *e)
{
	return f->stored >= 0 ? stream_open_member(s, f->path, f->offset, f->stored, f->deflated, e) : stream_open(s, f->path, e);
}

/* Rows and width from dims, kept below what any index of ours holds. */
static bool
set_shape(ArrayFile *f, uint32_t nd, const int64_t *dim, Err *e)
{
	int64_t all = 1;
	if (nd < 1 || nd > MAX_TENSOR_AXES + 1)
		return fail(e, "%s: an array of %u axes; 1 to %d can be read", f->path, nd, MAX_TENSOR_AXES + 1);
	f->nd = nd;
	f->width = 1;
	for (uint32_t i = 0; i < nd; i++) {
		f->dim[i] = dim[i];
		if (dim[i] < 0 || (i && !dim[i]) || __builtin_mul_overflow(all, dim[i] ? dim[i] : 1, &all) || all > INT64_MAX / 16)
			return fail(e, "%s: axis %u has size %lld: the header is damaged", f->path, i + 1, (long long)dim[i]);
		if (i)
			f->width *= dim[i];
	}
	if (f->width > INT32_MAX / 4)
		return fail(e, "%s: %lld elements a row; at most %d can be read", f->path, (long long)f->width, INT32_MAX / 4);
	f->rows = dim[0];
	return true;
}

/* ---- headers ---- */

static bool
read_idx(ArrayFile *f, Stream *s, Err *e)
{
	static const struct {
		uint8_t code;
		Element el;
	} types[] = {{8, {'u', 1, true}}, {9, {'i', 1, true}}, {11, {'i', 2, true}}, {12, {'i', 4, true}}, {13, {'f', 4, true}}, {14, {'f', 8, true}}};
	uint8_t head[4], b[4];
	int64_t dim[256];
	if (!stream_read(s, head, 4, e))
		return false;
	for (size_t i = 0; i < LEN(types); i++)
		if (types[i].code == head[2])
			f->el = types[i].el;
	if (head[0] || head[1] || !f->el.bytes || !head[3])
		return fail(e, "%s: not an IDX file: it begins with %02x %02x %02x %02x, not with 00 00 TYPE AXES", f->path, head[0], head[1], head[2], head[3]);
	for (int i = 0; i < head[3]; i++) {
		if (!stream_read(s, b, 4, e))
			return false;
		dim[i] = (int64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
	}
	f->skip = s->at;
	return set_shape(f, head[3], dim, e);
}

/* What stands after 'key': in a header such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. */
static const char *
npy_value(const char *head, const char *key)
{
	const char *p = strstr(head, key);
	p = p ? strchr(p + strlen(key), ':') : NULL;
	return p ? p + 1 + strspn(p + 1, " ") : "";
}

static bool
read_npy_header(ArrayFile *f, const char *head, Err *e)
{
	const char *descr = npy_value(head, "'descr'"), *order = npy_value(head, "'fortran_order'"), *shape = npy_value(head, "'shape'");
	int64_t dim[MAX_TENSOR_AXES + 2];
	uint32_t nd = 0;
	bool known = descr[0] == '\'' && descr[1] && strchr("<>|=", descr[1]) && descr[2] && strchr("uifb", descr[2]) && descr[3] && descr[4] == '\'';
	int bytes = known ? descr[3] - '0' : 0;
	known = known && (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && !(descr[2] == 'f' && bytes < 4);
	if (!known)
		return fail(e, "%s: elements of type %.12s; integers, float32, float64 and bool can be read", f->path, *descr ? descr : "(not said)");
	if (strncmp(order, "False", 5))
		return fail(e, "%s: the array is in Fortran order; save numpy.ascontiguousarray(it)", f->path);
	f->el = (Element){descr[2] == 'b' ? 'u' : descr[2], (uint8_t)bytes, descr[1] == '>'};
	if (*shape++ != '(')
		return fail(e, "%s: damaged: its header names no shape", f->path);
	while (nd < LEN(dim)) {
		char *end;
		shape += strspn(shape, " ,");
		dim[nd] = strtoll(shape, &end, 10);
		if (end == shape)
			break;
		nd++;
		shape = end;
	}
	return set_shape(f, nd, dim, e);
}

static bool
read_npy(ArrayFile *f, Stream *s, Err *e)
{
	uint8_t head[12];
	size_t n, size = 2;
	if (!stream_read(s, head, 10, e))
		return false;
	if (memcmp(head, "\x93NUMPY", 6) || head[6] < 1 || head[6] > 3)
		return fail(e, "%s: not a NumPy array: it does not begin with \\x93NUMPY and a version from 1 to 3", f->path);
	if (head[6] > 1) {
		size = 4;
		if (!stream_read(s, head + 10, 2, e))
			return false;
	}
	n = 0;
	for (size_t i = size; i-- > 0;)
		n = n << 8 | head[8 + i];
	if (n > 1 << 20)
		return fail(e, "%s: damaged: a header of %zu bytes", f->path, n);
	char *text = xcalloc(n + 1, 1);
	bool ok = stream_read(s, text, n, e) && read_npy_header(f, text, e);
	free(text);
	f->skip = s->at;
	return ok;
}

/* Rows of the shape that the model file gives, as many as there are: the whole file is read once to count them. */
static bool
read_raw(const Table *t, ArrayFile *f, Stream *s, Err *e)
{
	const PlanShape *shape = NULL;
	int64_t dim[MAX_TENSOR_AXES + 1], row = 1;
	char *buf;
	size_t got;
	for (uint32_t i = 0; i < t->plan->nshape; i++)
		if (!strcmp(t->plan->shape[i].name, f->name))
			shape = &t->plan->shape[i];
	if (!shape)
		return fail(e, "%s: table %s does not say what a row of column %s is; compile the model again", t->loc, t->name, f->name);
	f->el = shape->dtype == DT_U8 ? (Element){'u', 1, false} : (Element){'f', 4, false};
	for (uint32_t i = 0; i < shape->ndim; i++)
		row *= dim[i + 1] = shape->dim[i];
	row *= f->el.bytes;
	buf = xmalloc(1 << 18);
	while (stream_some(s, buf, 1 << 18, &got, e) && got)
		;
	free(buf);
	dim[0] = s->at / row;
	if (!e->set && s->at % row)
		fail(e, "%s: %lld bytes are not a whole number of rows of %lld bytes: cut off, or of another shape", f->path, (long long)s->at, (long long)row);
	return !e->set && set_shape(f, shape->ndim + 1, dim, e);
}

/* ---- zip, as far as numpy writes it ---- */

static uint64_t
little(const uint8_t *p, int n)
{
	uint64_t v = 0;
	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

/* The ZIP64 sizes of a central directory entry, where the 32-bit ones are full. */
static void
zip64_sizes(const uint8_t *extra, size_t n, uint64_t *size, uint64_t *stored, uint64_t *offset)
{
	for (size_t i = 0; i + 4 <= n;) {
		size_t id = little(extra + i, 2), len = little(extra + i + 2, 2), at = i + 4;
		if (id == 1 && at + len <= n) {
			uint64_t *field[] = {size, stored, offset};
			for (size_t k = 0; k < LEN(field); k++)
				if (*field[k] == UINT32_MAX && at + 8 <= i + 4 + len) {
					*field[k] = little(extra + at, 8);
					at += 8;
				}
		}
		i += 4 + len;
	}
}

static bool
zip_member(const TableFile *file, const uint8_t *p, size_t left, const char *zip, size_t nzip, ArrayFile **list, uint32_t *n, uint32_t *cap, size_t *used,
	Arena *a, Err *e)
{
	if (left < 46 || memcmp(p, "PK\1\2", 4))
		return fail(e, "%s: damaged: its directory of arrays is cut off", file->path);
	size_t nname = little(p + 28, 2), nextra = little(p + 30, 2), ncomment = little(p + 32, 2);
	uint64_t method = little(p + 10, 2), size = little(p + 24, 4), stored = little(p + 20, 4), offset = little(p + 42, 4);
	*used = 46 + nname + nextra + ncomment;
	if (*used > left)
		return fail(e, "%s: damaged: its directory of arrays is cut off", file->path);
	zip64_sizes(p + 46 + nname, nextra, &size, &stored, &offset);
	char name[256] = "";
	if (nname > 4 && nname < sizeof name && !memcmp(p + 46 + nname - 4, ".npy", 4))
		memcpy(name, p + 46, nname - 4);
	if (!*name || (method != 0 && method != 8))
		return !*name || fail(e, "%s: array %s is packed by method %u; save it with numpy.savez or savez_compressed", file->path, name, (unsigned)method);
	if (offset > nzip || nzip - offset < 30 || memcmp(zip + offset, "PK\3\4", 4))
		return fail(e, "%s: damaged: array %s is not where the directory says", file->path, name);
	uint64_t data = offset + 30 + little((const uint8_t *)zip + offset + 26, 2) + little((const uint8_t *)zip + offset + 28, 2);
	if (data > nzip || stored > nzip - data)
		return fail(e, "%s: cut off within array %s", file->path, name);
	VEC_PUSH(*list, *n, *cap) = (ArrayFile){.path = file->path, .name = arena_strdup(a, name), .offset = (int64_t)data, .stored = (int64_t)stored, .deflated = method == 8, .part = file->part};
	return true;
}

static bool
list_npz(const TableFile *file, ArrayFile **list, uint32_t *n, uint32_t *cap, Arena *a, Err *e)
{
	char *zip;
	size_t nzip, at, used;
	if (!read_file(file->path, &zip, &nzip, e))
		return false;
	bool ok = nzip >= 22, found = false;
	for (at = ok ? nzip - 22 : 0; ok && !found; at -= !found) {
		found = !memcmp(zip + at, "PK\5\6", 4);
		ok = found || (at > 0 && nzip - at < 66000);
	}
	if (!found) {
		free(zip);
		return fail(e, "%s: not a NumPy archive, or cut off: it has no zip directory at its end", file->path);
	}
	const uint8_t *end = (const uint8_t *)zip + at;
	uint64_t count = little(end + 10, 2), dir = little(end + 16, 4);
	for (uint64_t i = 0; i < count && !e->set; i++, dir += used)
		if (dir > nzip || !zip_member(file, (const uint8_t *)zip + dir, nzip - dir, zip, nzip, list, n, cap, &used, a, e))
			fail(e, "%s: damaged: its directory of arrays is cut off", file->path);
	free(zip);
	return !e->set;
}

/* ---- elements ---- */

static double
load_element(Element el, const uint8_t *p)
{
	uint64_t v = 0;
	float f;
	double d;
	uint32_t w;
	for (int i = 0; i < el.bytes; i++)
		v |= (uint64_t)p[el.big ? el.bytes - 1 - i : i] << (8 * i);
	if (el.kind == 'u')
		return (double)v;
	if (el.kind == 'i')
		return (double)((int64_t)(v << (64 - 8 * el.bytes)) >> (64 - 8 * el.bytes));
	if (el.bytes == 8) {
		memcpy(&d, &v, 8);
		return d;
	}
	w = (uint32_t)v;
	memcpy(&f, &w, 4);
	return f;
}

static DType
column_type(const ArrayFile *f)
{
	return f->el.kind == 'u' && f->el.bytes == 1 ? DT_U8 : DT_F32;
}

/* Elements of the file as the column has them. */
static void
convert(const ArrayFile *f, const uint8_t *raw, float *out, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (float)load_element(f->el, raw + i * f->el.bytes);
}

static bool
each_row(const ArrayFile *f, int64_t first, PutRow put, void *ctx, Err *e)
{
	Stream s;
	size_t bytes = (size_t)f->width * f->el.bytes;
	uint8_t *raw = xmalloc(bytes);
	float *v = xmalloc((size_t)f->width * sizeof *v);
	bool bytes_as_they_are = column_type(f) == DT_U8, ok = open_stream(f, &s, e) && stream_skip(&s, f->skip, e);
	for (int64_t r = 0; ok && r < f->rows; r++) {
		Err why = {0};
		if (!stream_read(&s, raw, bytes, &why)) {
			ok = fail(e, "%s; row %lld of %lld", why.msg, (long long)r, (long long)f->rows);
			break;
		}
		if (!bytes_as_they_are)
			convert(f, raw, v, f->width);
		ok = put(ctx, first + r, bytes_as_they_are ? (void *)raw : (void *)v, e);
	}
	ok = ok && stream_end(&s, e);
	stream_close(&s);
	free(raw);
	free(v);
	return ok;
}

bool
array_each(const Table *t, const TensorColumn *c, PutRow put, void *ctx, Err *e)
{
	int64_t first = 0;
	(void)t;
	for (uint32_t i = 0; i < c->nfile; i++) {
		if (!each_row(&c->file[i], first, put, ctx, e))
			return false;
		first += c->file[i].rows;
	}
	return true;
}

/* ---- columns ---- */

/* A header may promise more than the file can hold, and memory would be taken for it: gzip makes at most 1032 bytes of one. */
static bool
check_size(const ArrayFile *f, const Stream *s, Err *e)
{
	int64_t all = f->skip + f->rows * f->width * f->el.bytes, have = f->stored >= 0 ? f->stored : stream_size(s);
	bool packed = f->stored >= 0 ? f->deflated : stream_packed(s);
	if (all <= (packed ? have * 1032 + 1024 : have))
		return true;
	return fail(e, "%s: cut off: it has %lld bytes, and its header promises %lld; fetch the file again", f->path, (long long)have, (long long)all);
}

static bool
read_header(const Table *t, ArrayFile *f, Err *e)
{
	Stream s;
	bool ok = open_stream(f, &s, e) && (t->kind == TB_IDX ? read_idx(f, &s, e) : t->kind == TB_RAW ? read_raw(t, f, &s, e) : read_npy(f, &s, e)) &&
	          check_size(f, &s, e);
	stream_close(&s);
	return ok;
}

/* One column: its files, one a group of rows, in the order of the parts. */
typedef struct ArrayColumn {
	const char *name;
	ArrayFile *file;
	uint32_t n, cap;
	double *scalar;  /* NULL: a tensor, whose files the table owns */
	uint32_t tensor; /* its number */
} ArrayColumn;

typedef struct Arrays {
	ArrayColumn *col;
	uint32_t n, cap;
} Arrays;

static void
add_file(Arrays *a, ArrayFile f)
{
	uint32_t i = 0;
	while (i < a->n && strcasecmp(a->col[i].name, f.name))
		i++;
	if (i == a->n)
		VEC_PUSH(a->col, a->n, a->cap) = (ArrayColumn){.name = f.name};
	VEC_PUSH(a->col[i].file, a->col[i].n, a->col[i].cap) = f;
}

/* All columns must have as many files, and those of one group as many rows. */
static bool
check_groups(const Table *t, const Arrays *a, Err *e)
{
	for (uint32_t i = 0; i < a->n; i++) {
		const ArrayColumn *c = &a->col[i], *first = &a->col[0];
		if (c->n != first->n)
			return fail(e, "%s: table %s: column %s has %u files, column %s has %u: each of path, val and test names all columns", t->loc, t->name,
			            c->name, c->n, first->name, first->n);
		for (uint32_t k = 0; k < c->n; k++) {
			const ArrayFile *f = &c->file[k], *g = &first->file[k], *top = &c->file[0];
			if (f->rows != g->rows)
				return fail(e, "%s: it has %lld rows, but %s has %lld: they do not belong together", f->path, (long long)f->rows, g->path,
				            (long long)g->rows);
			if (f->nd != top->nd || column_type(f) != column_type(top) || memcmp(f->dim + 1, top->dim + 1, (f->nd - 1) * sizeof *f->dim))
				return fail(e, "%s: its rows have another shape or type than those of %s", f->path, top->path);
		}
	}
	return true;
}

/* Numbers are read as doubles: as floats, wide integers would lose digits. */
static bool
read_scalars(ArrayColumn *c, int64_t rows, Err *e)
{
	int64_t first = 0;
	c->scalar = xmalloc((size_t)(rows + 1) * sizeof *c->scalar);
	for (uint32_t i = 0; i < c->n; i++) {
		const ArrayFile *f = &c->file[i];
		uint8_t raw[8];
		Stream s;
		bool ok = open_stream(f, &s, e) && stream_skip(&s, f->skip, e);
		for (int64_t r = 0; ok && r < f->rows; r++) {
			ok = stream_read(&s, raw, f->el.bytes, e);
			c->scalar[first + r] = load_element(f->el, raw);
		}
		ok = ok && stream_end(&s, e);
		stream_close(&s);
		if (!ok)
			return false;
		first += f->rows;
	}
	return true;
}

/* Adds the columns to the table: row, then those of the files. */
static bool
make_columns(Table *t, Arrays *a, int64_t rows, Err *e)
{
	table_add_column(t, "row");
	for (uint32_t i = 0; i < a->n && !e->set; i++) {
		ArrayColumn *c = &a->col[i];
		if (!strcasecmp(c->name, "row") || !strcasecmp(c->name, "part")) {
			fail(e, "%s: table %s: a column cannot be named %s: every table of arrays has one", t->loc, t->name, c->name);
		} else if (c->file[0].nd > 1) {
			TensorColumn *x = table_add_tensor(t, c->name, column_type(&c->file[0]), c->file[0].nd - 1, c->file[0].dim + 1);
			x->rows = rows;
			x->file = c->file;
			x->nfile = c->n;
			c->tensor = t->ntensor - 1;
		} else {
			table_add_column(t, c->name);
			read_scalars(c, rows, e);
		}
	}
	if (table_has_parts(t))
		table_add_column(t, "part");
	return !e->set;
}

static void
add_rows(Table *t, const Arrays *a)
{
	int64_t row = 0;
	for (uint32_t g = 0; g < a->col[0].n; g++)
		for (int64_t r = 0; r < a->col[0].file[g].rows; r++, row++) {
			table_add_number(t, (double)row);
			for (uint32_t i = 0; i < a->n; i++) {
				const ArrayColumn *c = &a->col[i];
				if (!c->scalar)
					table_add_ref(t, c->tensor, row);
				else if (isfinite(c->scalar[row]))
					table_add_number(t, c->scalar[row]);
				else
					table_add_text(t, "", 0);
			}
			table_name_part(t, a->col[0].file[g].part);
			table_end_row(t, row);
		}
}

static bool
open_files(Table *t, Arrays *a, Arena *names, Err *e)
{
	for (uint32_t i = 0; i < t->nfiles; i++) {
		const TableFile *file = &t->files[i];
		ArrayFile *list = NULL, f = {.path = file->path, .name = file->name, .stored = -1, .part = file->part};
		uint32_t n = 0, cap = 0;
		if (t->kind == TB_NPZ)
			list_npz(file, &list, &n, &cap, names, e);
		else
			VEC_PUSH(list, n, cap) = f;
		for (uint32_t k = 0; k < n && !e->set; k++)
			if (read_header(t, &list[k], e))
				add_file(a, list[k]);
		free(list);
		if (e->set)
			return false;
	}
	return a->n || fail(e, "%s: there is no array in it", t->path);
}

/* Columns that the model names but no file was given for, as where one file is given to predict from, are empty. */
bool
array_open(Table *t, Err *e)
{
	Arrays a = {0};
	Arena names = {0};
	int64_t rows = 0;
	bool ok = open_files(t, &a, &names, e) && check_groups(t, &a, e);
	for (uint32_t k = 0; ok && k < a.col[0].n; k++)
		rows += a.col[0].file[k].rows;
	ok = ok && make_columns(t, &a, rows, e);
	if (ok)
		add_rows(t, &a);
	for (uint32_t i = 0; i < a.n; i++) {
		bool kept = false;
		for (uint32_t k = 0; k < t->ntensor; k++)
			kept = kept || t->tensor[k].file == a.col[i].file;
		if (!kept)
			free(a.col[i].file);
		free(a.col[i].scalar);
	}
	free(a.col);
	arena_free(&names);
	return ok;
}

/* ---- one array a file ---- */

/* Whether the file's array is what the table says each is. */
static bool
check_array(const ArrayFile *f, const TensorColumn *c, Err *e)
{
	static const char *const kind[] = {['u'] = "uint", ['i'] = "int", ['f'] = "float"};
	Text has = {0}, want = {0};
	dims_puts(&has, f->dim, f->nd);
	dims_puts(&want, c->dim, c->ndim);
	if (strcmp(has.s, want.s))
		fail(e, "%s: an array %s, the table says shape: %s", f->path, has.s, want.s);
	else if (c->dtype == DT_U8 && column_type(f) != DT_U8)
		fail(e, "%s: its elements are %s%d, the table says dtype: uint8", f->path, kind[(uint8_t)f->el.kind], 8 * f->el.bytes);
	free(has.s);
	free(want.s);
	return !e->set;
}

static bool
read_array(const ArrayFile *f, Stream *s, const TensorColumn *c, void *out, Err *e)
{
	size_t bytes = (size_t)c->width * f->el.bytes;
	void *raw = c->dtype == DT_U8 ? out : xmalloc(bytes);
	bool ok = stream_read(s, raw, bytes, e) && stream_end(s, e);
	if (raw != out) {
		if (ok)
			convert(f, raw, out, c->width);
		free(raw);
	}
	return ok;
}

static bool
array_load(const TensorColumn *c, const char *path, void *out, Err *e)
{
	ArrayFile f = {.path = path, .stored = -1};
	Stream s;
	bool ok = stream_open(&s, path, e) && read_npy(&f, &s, e) && check_array(&f, c, e) && check_size(&f, &s, e) && read_array(&f, &s, c, out, e);
	stream_close(&s);
	return ok;
}

static const char *const suffix[] = {".npy", ".npy.gz", NULL};
const FileRow array_row = {.column = "array", .suffix = suffix, .load = array_load};

void
array_free(TensorColumn *c)
{
	free(c->file);
}
