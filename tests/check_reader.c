/* See check_reader.h. */
#include "check_reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

const char *tmp;

/* ---- files ---- */

static const char *
path_of(const char *name)
{
	static char path[1024];
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	return path;
}

void
put(const char *name, const void *s, size_t n)
{
	Err e = {0};
	if (!write_file_atomic(path_of(name), s, n, 0600, &e))
		printf("%s\n", e.msg);
}

void
put_gz(const char *name, const void *s, size_t n)
{
	gzFile f = gzopen(path_of(name), "wb");
	gzwrite(f, s, (unsigned)n);
	gzclose(f);
}

void folder(const char *name) { mkdir(path_of(name), 0700); }

size_t
npy(char *out, const char *descr, const char *order, const char *shape, const void *v, size_t n)
{
	char head[128];
	int len = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", descr, order, shape);
	memcpy(out, "\x93NUMPY\1\0", 8);
	out[8] = (char)len;
	out[9] = 0;
	memcpy(out + 10, head, (size_t)len);
	memcpy(out + 10 + len, v, n);
	return 10 + (size_t)len + n;
}

void
put_array(const char *name, const char *descr, const char *shape, const void *v, size_t n)
{
	char buf[512];
	put(name, buf, npy(buf, descr, "False", shape, v, n));
}


/* ---- a model ---- */

Case *
new_case(TableKind kind, const char *const *file)
{
	Case *c = xcalloc(1, sizeof *c);
	uint32_t part = PART_ANY;
	c->table = (PlanTable){.name = "t", .path = "", .loc = "m.yaml:3:5", .kind = kind, .file = c->file, .shape = c->shape};
	c->d = (PlanData){.table = &c->table, .ntable = 1, .rows = "t", .where = "", .group = "", .stratify = "", .given = "", .order = "", .train = 1,
	                  .seed = 5, .input = c->input, .target = c->target, .base = (char *)(uintptr_t)tmp, .loc = "m.yaml:2:1"};
	for (; *file; file++) {
		const char *eq = strchr(*file, '=');
		if (!strcmp(*file, "val:") || !strcmp(*file, "test:")) {
			part = **file == 'v' ? PART_VAL : PART_TEST;
			c->d.given = "part";
			continue;
		}
		c->file[c->table.nfile++] = (PlanFile){eq ? strndup(*file, (size_t)(eq - *file)) : strdup(""), (char *)(uintptr_t)(eq ? eq + 1 : *file), part};
	}
	return c;
}

void
add_tensor(Case *c, const char *from, DType dtype, uint32_t scale, int64_t h, int64_t w, int64_t ch)
{
	PlanInput *in = &c->input[c->d.ninput];
	int64_t *dim = c->dim[c->d.ninput++];
	dim[0] = h, dim[1] = w, dim[2] = ch;
	*in = (PlanInput){.name = (char *)(uintptr_t)from, .kind = IN_TENSOR, .from = (char *)(uintptr_t)from, .scale = scale, .width = h * w * ch, .loc = "m.yaml:9:3",
	                  .dtype = dtype, .dim = dim, .ndim = 3};
}

PlanTarget *
add_class(Case *c, const char *from, int64_t size)
{
	PlanTarget *t = &c->target[c->d.ntarget++];
	*t = (PlanTarget){.name = "y", .kind = TG_CLASS, .from = (char *)(uintptr_t)from, .loc = "m.yaml:12:3", .size = size, .ignore = -1};
	return t;
}

void
set_shape(Case *c, const char *name, DType dtype, int64_t *dim, uint32_t n)
{
	c->shape[c->table.nshape++] = (PlanShape){(char *)(uintptr_t)name, dtype, dim, n};
}


bool
build(Case *c)
{
	size_t n;
	FILE *f = open_memstream(&c->report, &n);
	DataOptions o = {.split_seed = -1, .report = f};
	bool ok = data_build(&c->d, &o, &c->ds, &c->fit, &c->e);
	fclose(f);
	return ok;
}

bool
builds(Case *c, const char *file, int line)
{
	bool ok = build(c);
	check_at(ok, file, line, "%s", ok ? "" : c->e.msg);
	return ok;
}

void
drop(Case *c)
{
	dataset_free(&c->ds);
	fit_free(c->fit);
	for (uint32_t i = 0; i < c->table.nfile; i++)
		free(c->file[i].name);
	free(c->report);
	free(c);
}

void
fails(Case *c, const char *parts, const char *file, int line)
{
	bool built = build(c);
	char *copy = xstrdup(parts), *save = NULL;
	check_at(!built, file, line, "was read without an error: expected: %s", parts);
	for (char *p = strtok_r(copy, "|", &save); p && !built; p = strtok_r(NULL, "|", &save))
		check_at(strstr(c->e.msg, p) != NULL, file, line, "no '%s' in: %s", p, c->e.msg);
	free(copy);
	drop(c);
}

const uint8_t *bytes(const Case *c, int col) { return c->ds.column[col].data; }
const float *floats(const Case *c, int col) { return c->ds.column[col].data; }
const int32_t *ids(const Case *c, int col) { return c->ds.column[col].data; }

void
damage(const char *name, const char *as, Case *(*make)(const char *path), const char *path)
{
	char *s;
	size_t n;
	Err e = {0};
	if (!check(read_file(path_of(name), &s, &n, &e), "%s", e.msg))
		return;
	for (size_t i = 0; i < n; i++)
		for (int cut = 0; cut < 2; cut++) {
			char old = s[i];
			s[i] = (char)(cut ? old : old ^ (1 << i % 8) ^ (i % 3 ? 0 : 0xff));
			put(as, s, cut ? i : n);
			s[i] = old;
			Case *c = make(path);
			build(c);
			drop(c);
		}
	free(s);
	passed++;
}

const char *
real_data(void)
{
	const char *data = getenv("MMC_DATA");
	skipped += !data;
	return data;
}
