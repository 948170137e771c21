/* Tables that are not CSV, and tensor columns: files of every format are made here, read through data_build, and damaged.
   With MMC_DATA (a folder with mnist/, cifar10/, camvid/, tinyshakespeare/, sentiment/) the real ones are read, too. */
#include "data_impl.h"

#include <jpeglib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static int passed, failed, skipped;
static char tmp[64];

static bool
check(bool ok, const char *what, int line)
{
	if (ok)
		passed++;
	else
		failed++, printf("tests/readers_test.c:%d: %s\n", line, what);
	return ok;
}
#define CHECK(c) check((c), #c, __LINE__)

/* ---- files ---- */

static void
put(const char *name, const void *s, size_t n)
{
	char path[192];
	Err e = {0};
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	if (!write_file_atomic(path, s, n, 0600, &e))
		printf("%s\n", e.msg);
}
#define PUTS(name, s) put((name), (s), sizeof(s) - 1)

static void
put_gz(const char *name, const void *s, size_t n)
{
	char path[192];
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	gzFile f = gzopen(path, "wb");
	gzwrite(f, s, (unsigned)n);
	gzclose(f);
}

static void
folder(const char *name)
{
	char path[192];
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	mkdir(path, 0700);
}

/* ---- a model ---- */

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
static Case *
new_case(TableKind kind, const char *const *file)
{
	Case *c = xcalloc(1, sizeof *c);
	uint32_t part = PART_ANY;
	c->table = (PlanTable){.name = "t", .path = "", .loc = "m.yaml:3:5", .kind = kind, .file = c->file, .shape = c->shape};
	c->d = (PlanData){.table = &c->table, .ntable = 1, .rows = "t", .where = "", .group = "", .stratify = "", .given = "", .order = "", .train = 1,
	                  .seed = 5, .input = c->input, .target = c->target, .base = tmp, .loc = "m.yaml:2:1"};
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
#define CASE(kind, ...) new_case((kind), (const char *const[]){__VA_ARGS__, NULL})

static void
add_tensor(Case *c, const char *from, DType dtype, uint32_t scale, int64_t h, int64_t w, int64_t ch)
{
	PlanInput *in = &c->input[c->d.ninput];
	int64_t *dim = c->dim[c->d.ninput++];
	dim[0] = h, dim[1] = w, dim[2] = ch;
	*in = (PlanInput){.name = (char *)(uintptr_t)from, .kind = IN_TENSOR, .from = (char *)(uintptr_t)from, .scale = scale, .width = h * w * ch, .loc = "m.yaml:9:3",
	                  .dtype = dtype, .dim = dim, .ndim = 3};
}

static PlanTarget *
add_class(Case *c, const char *from, int64_t size)
{
	PlanTarget *t = &c->target[c->d.ntarget++];
	*t = (PlanTarget){.name = "y", .kind = TG_CLASS, .from = (char *)(uintptr_t)from, .loc = "m.yaml:12:3", .size = size, .ignore = -1};
	return t;
}

static void
set_shape(Case *c, const char *name, DType dtype, int64_t *dim, uint32_t n)
{
	c->shape[c->table.nshape++] = (PlanShape){(char *)(uintptr_t)name, dtype, dim, n};
}

static bool
build(Case *c)
{
	size_t n;
	FILE *f = open_memstream(&c->report, &n);
	DataOptions o = {.split_seed = -1, .report = f};
	bool ok = data_build(&c->d, &o, &c->ds, &c->fit, &c->e);
	fclose(f);
	return ok;
}

static bool
builds(Case *c, int line)
{
	bool ok = build(c);
	check(ok, ok ? "" : c->e.msg, line);
	return ok;
}
#define BUILDS(c) builds((c), __LINE__)

static void
drop(Case *c)
{
	dataset_free(&c->ds);
	fit_free(c->fit);
	for (uint32_t i = 0; i < c->table.nfile; i++)
		free(c->file[i].name);
	free(c->report);
	free(c);
}

/* The build must fail with a message that has all parts (separated by |). */
static void
fails(Case *c, const char *parts, int line)
{
	bool built = build(c);
	char *copy = xstrdup(parts), *save = NULL;
	if (!check(!built, "was read without an error", line))
		printf("  expected: %s\n", parts);
	for (char *p = strtok_r(copy, "|", &save); p && !built; p = strtok_r(NULL, "|", &save))
		if (!check(strstr(c->e.msg, p) != NULL, p, line))
			printf("  in: %s\n", c->e.msg);
	free(copy);
	drop(c);
}
#define FAILS(c, parts) fails((c), (parts), __LINE__)

static const uint8_t *bytes(const Case *c, int col) { return c->ds.column[col].data; }
static const float *floats(const Case *c, int col) { return c->ds.column[col].data; }
static const int32_t *ids(const Case *c, int col) { return c->ds.column[col].data; }

/* ---- arrays ---- */

#define IDX3 "\0\0\x08\x03" "\0\0\0\x03" "\0\0\0\x02" "\0\0\0\x02"
static const char images[] = IDX3 "\1\2\3\4" "\5\6\7\x08" "\xff\xfe\xfd\xfc";
static const char labels[] = "\0\0\x08\x01" "\0\0\0\x03" "\2\0\1";

static Case *
digits(const char *image, const char *label)
{
	static char a[64], b[64];
	snprintf(a, sizeof a, "image=%s", image);
	snprintf(b, sizeof b, "label=%s", label);
	Case *c = CASE(TB_IDX, a, b);
	add_tensor(c, "image", DT_U8, SC_ZSCORE, 2, 2, 1);
	add_class(c, "label", 3);
	return c;
}

static void
test_idx(void)
{
	put("images", images, sizeof images - 1);
	put_gz("images.gz", images, sizeof images - 1);
	put("labels", labels, sizeof labels - 1);
	Case *c = digits("images.gz", "labels");
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 3 && c->ds.column[0].dtype == DT_U8 && c->ds.column[0].width == 4);
		CHECK(!memcmp(c->ds.column[0].data, images + 16, 12)); /* rows stay in the order of the file */
		CHECK(ids(c, 1)[0] == 2 && ids(c, 1)[1] == 0 && ids(c, 1)[2] == 1);
		CHECK(c->ds.key && !strcmp(c->ds.key[2], "2"));
		double mean, std, want = (36 + 0xff + 0xfe + 0xfd + 0xfc) / 12.0;
		CHECK(fit_scalar(c->fit, "image.mean.0", &mean) && fabs(mean - want) < 1e-12);
		CHECK(fit_scalar(c->fit, "image.std.0", &std) && std > 100 && !fit_scalar(c->fit, "image.mean.1", &std));
		char *json = fit_to_json(c->fit);
		Err e = {0};
		Fit *again = fit_from_json(&c->d, json, &e);
		CHECK(again && fit_scalar(again, "image.mean.0", &std) && std == mean);
		fit_free(again);
		free(json);
	}
	drop(c);
	c = CASE(TB_IDX, "image=images", "label=labels", "test:", "image=images.gz", "label=labels");
	add_tensor(c, "image", DT_U8, 0, 2, 2, 1);
	add_class(c, "label", 3);
	if (BUILDS(c)) {
		CHECK(c->ds.split[1] == 3 && c->ds.split[2] == 3 && c->ds.split[3] == 6);
		CHECK(!memcmp(bytes(c, 0) + 12, images + 16, 12));
	}
	drop(c);
	put("cut", images, sizeof images - 4);
	put("long", images, sizeof images); /* with the terminating zero */
	put("cut_header", images, 9);
	put_gz("cut.gz", images, sizeof images - 4);
	FAILS(digits("cut", "labels"), "cut: cut off: it has 25 bytes, and its header promises 28");
	FAILS(digits("cut.gz", "labels"), "cut.gz: cut off after 25 bytes, where 3 more are needed|row 2 of 3");
	FAILS(digits("long", "labels"), "long: goes on after 28 bytes");
	FAILS(digits("cut_header", "labels"), "cut_header: cut off");
	FAILS(digits("none", "labels"), "m.yaml:3:5: table t: |none: cannot open");
	put("two", "\0\0\x08\x01" "\0\0\0\x02" "\1\2", 10);
	FAILS(digits("images", "two"), "two: it has 2 rows, but |images has 3");
	put("bad", "\1\0\x08\x01", 4);
	FAILS(digits("bad", "labels"), "not an IDX file");
	put("huge", "\0\0\x08\x03" "\xff\xff\xff\xff" "\xff\xff\xff\xff" "\xff\xff\xff\xff", 16);
	FAILS(digits("huge", "labels"), "huge: ");
	put_gz("many_labels", "\0\0\x08\x01" "\xff\xff\xff\xff", 8);
	FAILS(digits("images", "many_labels"), "many_labels: cut off: |its header promises 4294967303");
	c = digits("images", "labels");
	c->target[0].size = 2;
	FAILS(c, "m.yaml:12:3: target y: more than 2 different values");
	c = digits("images", "labels");
	c->dim[0][0] = 3;
	c->input[0].width = 6;
	FAILS(c, "m.yaml:9:3: input image: a row of column image of table t is [2, 2], the model says shape: [3, 2, 1]");
	c = digits("images", "labels");
	c->input[0].from = "label";
	FAILS(c, "(2) is no tensor");
	c = digits("images", "labels");
	c->target[0] = (PlanTarget){.name = "m", .kind = TG_LABELS, .from = "image", .loc = "m.yaml:12:3", .size = 8, .ignore = 255, .dtype = DT_U8,
	                            .dim = c->dim[0], .ndim = 2, .width = 4};
	FAILS(c, "target m: label 8 at place 3 of row images:1; there are 8 classes");
}

static size_t
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

static Case *
arrays(const char *file)
{
	static char a[64];
	snprintf(a, sizeof a, "x=%s", file);
	Case *c = CASE(TB_NPY, a, "y=y.npy");
	add_tensor(c, "x", DT_F32, 0, 1, 2, 1);
	add_class(c, "y", 2);
	return c;
}

static void
test_npy(void)
{
	static const struct {
		const char *descr;
		unsigned char v[32];
		size_t n;
		float first;
	} types[] = {
		{"<f4", {0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0x20, 0xc1}, 16, 1},
		{"<f8", {0, 0, 0, 0, 0, 0, 0xf0, 0x3f, [22] = 0xe0, [23] = 0xbf}, 32, 1},
		{">i2", {0xff, 0xff, 0, 2, 0, 3, 0, 4}, 8, -1},
		{"|u1", {200, 2, 3, 4}, 4, 200},
		{"<i8", {7, [8] = 1}, 32, 7},
	};
	char buf[512];
	size_t n = npy(buf, "|b1", "False", "(2,)", "\0\1", 2);
	put("y.npy", buf, n);
	for (size_t i = 0; i < LEN(types); i++) {
		n = npy(buf, types[i].descr, "False", "(2, 2)", types[i].v, types[i].n);
		put("x.npy", buf, n);
		Case *c = arrays("x.npy");
		if (BUILDS(c))
			CHECK(floats(c, 0)[0] == types[i].first && c->ds.column[0].width == 2 && ids(c, 1)[1] == 1);
		drop(c);
	}
	n = npy(buf, "<f4", "True", "(2, 2)", types[0].v, 16);
	put("f.npy", buf, n);
	FAILS(arrays("f.npy"), "Fortran order");
	n = npy(buf, "<c16", "False", "(2, 2)", types[0].v, 16);
	put("c.npy", buf, n);
	FAILS(arrays("c.npy"), "elements of type");
	n = npy(buf, "<f4", "False", "(2, 2)", "\0\0\xc0\x7f" "\0\0\0\0" "\0\0\0\0" "\0\0\0", 16);
	put("nan.npy", buf, n);
	FAILS(arrays("nan.npy"), "element 0 of row 0 of column x is not a finite number");
	PUTS("no.npy", "this is no array at all");
	FAILS(arrays("no.npy"), "not a NumPy array");
}

/* A zip archive with one member, stored or deflated. */
static size_t
zip(char *out, const char *name, const char *v, size_t n, bool pack)
{
	unsigned char data[512];
	uLongf packed = n;
	memcpy(data, v, n);
	if (pack) {
		z_stream z = {.next_in = (unsigned char *)(uintptr_t)v, .avail_in = (unsigned)n, .next_out = data, .avail_out = sizeof data};
		deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
		deflate(&z, Z_FINISH);
		packed = z.total_out;
		deflateEnd(&z);
	}
	size_t name_n = strlen(name), at = 0;
	unsigned char local[30] = "PK\3\4", central[46] = "PK\1\2", end[22] = "PK\5\6";
	local[8] = central[10] = pack ? 8 : 0;
	local[18] = central[20] = (unsigned char)packed;
	local[19] = central[21] = (unsigned char)(packed >> 8);
	local[22] = central[24] = (unsigned char)n;
	local[26] = central[28] = (unsigned char)name_n;
#define ADD(p, k) (memcpy(out + at, (p), (k)), at += (k))
	ADD(local, 30);
	ADD(name, name_n);
	ADD(data, packed);
	end[10] = end[8] = 1;
	end[16] = (unsigned char)at;
	end[17] = (unsigned char)(at >> 8);
	ADD(central, 46);
	ADD(name, name_n);
	ADD(end, 22);
#undef ADD
	return at;
}

static void
test_npz(void)
{
	static const uint8_t v[8] = {1, 2, 3, 4, 5, 6, 7, 9};
	char array[256], file[1024];
	for (int deflated = 0; deflated < 2; deflated++) {
		size_t n = zip(file, "x.npy", array, npy(array, "|u1", "False", "(2, 2, 2)", v, 8), deflated);
		put("a.npz", file, n);
		Case *c = CASE(TB_NPZ, "a.npz");
		add_tensor(c, "x", DT_U8, 0, 2, 2, 1);
		if (BUILDS(c))
			CHECK(c->ds.rows == 2 && !memcmp(bytes(c, 0), v, 8));
		drop(c);
		put("cut.npz", file, n - 30);
		c = CASE(TB_NPZ, "cut.npz");
		add_tensor(c, "x", DT_U8, 0, 2, 2, 1);
		FAILS(c, "not a NumPy archive, or cut off");
		file[40] ^= 0x55;
		put("bad.npz", file, n);
		c = CASE(TB_NPZ, "bad.npz");
		add_tensor(c, "x", DT_U8, 0, 2, 2, 1);
		FAILS(c, "bad.npz: ");
	}
}

static Case *
raw(const char *file, DType dtype)
{
	static int64_t shape[] = {1, 2};
	static char a[64];
	snprintf(a, sizeof a, "x=%s", file);
	Case *c = CASE(TB_RAW, a);
	set_shape(c, "x", dtype, shape, 2);
	add_tensor(c, "x", dtype, 0, 1, 2, 1);
	return c;
}

static void
test_raw(void)
{
	static const float v[] = {1, 2, -3, 4};
	put("r.u8", "\1\2\3\4\5\6", 6);
	put_gz("r.u8.gz", "\1\2\3\4\5\6", 6);
	put("r.f32", v, sizeof v);
	for (int gz = 0; gz < 2; gz++) {
		Case *c = raw(gz ? "r.u8.gz" : "r.u8", DT_U8);
		if (BUILDS(c))
			CHECK(c->ds.rows == 3 && bytes(c, 0)[5] == 6);
		drop(c);
	}
	Case *c = raw("r.f32", DT_F32);
	if (BUILDS(c))
		CHECK(c->ds.rows == 2 && floats(c, 0)[2] == -3);
	drop(c);
	put("r.cut", v, 13);
	FAILS(raw("r.cut", DT_F32), "r.cut: 13 bytes are not a whole number of rows of 8 bytes");
	c = raw("r.f32", DT_F32);
	c->input[0].dtype = DT_U8;
	FAILS(c, "holds numbers that are no bytes: write dtype: float32");
}

static void
test_cifar(void)
{
	uint8_t file[2 * 3073];
	for (size_t i = 0; i < sizeof file; i++)
		file[i] = (uint8_t)(i * 7);
	file[0] = 3;
	file[3073] = 9;
	put_gz("c.bin.gz", file, sizeof file);
	Case *c = CASE(TB_CIFAR, "c.bin.gz");
	add_tensor(c, "image", DT_U8, 0, 32, 32, 3);
	add_class(c, "label", 10);
	if (BUILDS(c)) {
		const uint8_t *v = bytes(c, 0);
		CHECK(c->ds.rows == 2 && ids(c, 1)[0] == 3 && ids(c, 1)[1] == 9);
		CHECK(v[0] == file[1] && v[1] == file[1 + 1024] && v[2] == file[1 + 2048] && v[3] == file[2]); /* planes become channels */
		CHECK(v[3072 + 3071] == file[2 * 3073 - 1]);
	}
	drop(c);
	put("cut.bin", file, sizeof file - 1);
	file[3073] = 10;
	put("bad.bin", file, sizeof file);
	static const char *const bad[][2] = {{"cut.bin", "cut off within a record: 6145 bytes"}, {"bad.bin", "record 1 has label 10"}};
	for (size_t i = 0; i < LEN(bad); i++) {
		c = CASE(TB_CIFAR, bad[i][0]);
		add_class(c, "label", 10);
		add_tensor(c, "image", DT_U8, 0, 32, 32, 3);
		FAILS(c, bad[i][1]);
	}
}

/* ---- text ---- */

static Case *
reviews(const char *pos, const char *neg)
{
	static char a[64], b[64];
	snprintf(a, sizeof a, "pos=%s", pos);
	snprintf(b, sizeof b, "neg=%s", neg);
	Case *c = CASE(TB_LINES, a, b);
	c->input[c->d.ninput++] = (PlanInput){.name = "text", .kind = IN_TEXT, .from = "text", .width = 3, .size = 20, .ids = 1, .min_count = 1, .loc = "m.yaml:9:3"};
	add_class(c, "label", 2);
	return c;
}

static void
test_lines(void)
{
	PUTS("pos", "a fine film\r\n\nanother\n");
	PUTS("neg", "caf\xe9 society\nno end");
	Case *c = reviews("pos", "neg");
	c->table.latin1 = 1;
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 4 && !strcmp(c->ds.key[1], "pos:3") && !strcmp(c->ds.key[3], "neg:2"));
		char buf[24];
		CHECK(ids(c, 1)[0] == 1 && ids(c, 1)[3] == 0 && !strcmp(fit_class_name(c->fit, &c->d, 0, 1, buf), "pos")); /* in order: neg, pos */
		CHECK(strstr(c->report, "2 classes, 50.0 to 50.0 % of train"));
	}
	drop(c);
	FAILS(reviews("pos", "neg"), "neg:1: not UTF-8 from character 4 on; is it `encoding: latin1`?");
	c = reviews("pos", "pos");
	c->target[0].label = (char *[]){"pos", "negative"};
	c->target[0].nlabel = 2;
	FAILS(c, "target y: 'neg' at |pos:1 is none of its classes");
}

/* Every row tests in exactly one fold; classes keep their shares. */
static void
test_folds(void)
{
	Text all = {0};
	int seen[40] = {0};
	for (int i = 0; i < 40; i++)
		text_printf(&all, "row %d\n", i);
	put("many", all.s, all.n);
	free(all.s);
	for (int fold = 1; fold <= 4; fold++) {
		Case *c = reviews("many", "pos");
		c->d.stratify = "label";
		c->d.folds = 4;
		c->d.fold = fold;
		c->d.train = 0.9;
		c->d.val = 0.1;
		if (BUILDS(c)) {
			int64_t test = c->ds.split[3] - c->ds.split[2];
			CHECK(test == 10 || test == 11);
			CHECK(c->ds.split[2] - c->ds.split[1] == 3);
			for (int64_t r = c->ds.split[2]; r < c->ds.split[3]; r++)
				if (!strncmp(c->ds.key[r], "many:", 5))
					seen[atoi(c->ds.key[r] + 5) - 1]++;
		}
		drop(c);
	}
	for (int i = 0; i < 40; i++)
		CHECK(seen[i] == 1);
}

static void
test_bytes(void)
{
	PUTS("book", "abcdefghijklmnopqrstuvwxyz");
	Case *c = CASE(TB_BYTES, "book");
	c->table.window = 4;
	c->d.order = "row";
	c->d.train = 0.5;
	c->d.val = 0.5;
	c->input[c->d.ninput++] = (PlanInput){.name = "s", .kind = IN_SEQUENCE, .from = "bytes", .width = 4, .size = 256, .loc = "m.yaml:9:3"};
	c->target[c->d.ntarget++] = (PlanTarget){.name = "n", .kind = TG_NEXT, .from = "s", .size = 256, .ignore = -1, .loc = "m.yaml:12:3"};
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 6 && c->ds.split[1] == 3 && c->ds.column[0].tail == 1 && c->ds.column[1].width == 0);
		CHECK(!memcmp(bytes(c, 0), "abcdefghijklmnopqrstuvwxy", 25));
	}
	c->d.where = "row <> 2";
	Case *d = xcalloc(1, sizeof *d);
	*d = *c;
	d->ds = (Dataset){0};
	d->fit = NULL;
	d->table.nfile = 0; /* its names are c's */
	d->table.path = "book";
	d->d.table = &d->table;
	d->d.input = d->input;
	d->d.target = d->target;
	FAILS(d, "the windows must be all there and in order");
	drop(c);
	PUTS("short", "abcd");
	c = CASE(TB_BYTES, "short");
	c->table.window = 4;
	c->input[c->d.ninput++] = (PlanInput){.name = "s", .kind = IN_SEQUENCE, .from = "bytes", .width = 4, .size = 256, .loc = "m.yaml:9:3"};
	FAILS(c, "short: 4 bytes; a window needs 4 and one more");
}

static void
test_tables(void)
{
	PUTS("a.tsv", "x\ty\n1\t\"no quotes\n3\tb\n");
	PUTS("b.tsv", "x\ty\n5\tc\n");
	PUTS("c.tsv", "x\tz\n5\tc\n");
	Case *c = CASE(TB_TSV, "a.tsv", "test:", "b.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	add_class(c, "y", 3);
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 3 && c->ds.split[1] == 2 && c->ds.split[3] == 3 && floats(c, 0)[2] == 5);
		char buf[24];
		CHECK(!strcmp(fit_class_name(c->fit, &c->d, 0, ids(c, 1)[0], buf), "\"no quotes"));
	}
	drop(c);
	c = CASE(TB_TSV, "a.tsv", "test:", "c.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	FAILS(c, "c.tsv: column 2 is z, in ");
	c = CASE(TB_TSV, "a.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	c->d.given = "y";
	FAILS(c, "split: given is '\"no quotes' at a.tsv:2; it must be train, val, test or NULL");
	c = CASE(TB_TSV, "a.tsv", "b.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	c->d.order = "-x";
	c->d.train = 0.6;
	c->d.test = 0.4;
	if (BUILDS(c)) /* the largest first: 5, 3 train */
		CHECK(c->ds.split[1] == 2 && floats(c, 0)[0] == 3 && floats(c, 0)[1] == 5 && floats(c, 0)[2] == 1);
	drop(c);
}

/* Arrays beside a CSV table: a join finds the tensors of a row, twice or not at all; SQL chooses among them. */
static void
test_join(void)
{
	static const uint8_t v[] = {10, 11, 20, 21, 30, 31};
	char buf[256];
	PUTS("posts.csv", "post,label\nb,1\nnone,0\na,1\nb,0\n");
	put("ids.npy", buf, npy(buf, "<i2", "False", "(3,)", "\1\0\2\0\3\0", 6));
	put("frames.npy", buf, npy(buf, "|u1", "False", "(3, 2)", v, 6));
	Case *c = CASE(TB_NPY, "id=ids.npy", "frames=frames.npy");
	PlanTable both[2] = {{.name = "posts", .path = "posts.csv", .loc = "m.yaml:3:5"}, c->table};
	c->d.table = both;
	c->d.ntable = 2;
	c->d.rows = "posts LEFT JOIN t ON t.id = CASE post WHEN 'a' THEN 1 WHEN 'b' THEN 2 END";
	add_tensor(c, "frames", DT_U8, 0, 1, 2, 1);
	add_tensor(c, "CASE WHEN label = 1 THEN frames END", DT_F32, 0, 1, 2, 1);
	add_class(c, "label", 2);
	if (BUILDS(c)) {
		static const uint8_t want[] = {20, 21, 0, 0, 10, 11, 20, 21};
		CHECK(c->ds.rows == 4 && !memcmp(bytes(c, 0), want, 8));
		CHECK(floats(c, 1)[0] == 20 && floats(c, 1)[5] == 11 && floats(c, 1)[7] == 0);
		CHECK(!strcmp(c->ds.key[2], "a"));
	}
	drop(c);
}

/* ---- sound and pictures ---- */

static void
put_wav(const char *name, int channels, int bits, const int16_t *v, size_t n, size_t cut)
{
	unsigned char head[52] = "RIFF....WAVEjunk\2\0\0\0..fmt \20\0\0\0\1\0";
	char file[256];
	head[30] = 1;
	head[32] = (unsigned char)channels;
	head[34] = 0x40;
	head[35] = 0x1f;
	head[44] = (unsigned char)bits;
	memcpy(head + 46, "data", 4);
	memcpy(file, head, 50);
	file[50] = (char)(2 * n);
	file[51] = file[52] = file[53] = 0;
	memcpy(file + 54, v, 2 * n);
	put(name, file, 54 + 2 * n - cut);
}

static Case *
clips(const char *path)
{
	static int64_t n[] = {3};
	Case *c = CASE(TB_WAV, path);
	set_shape(c, "", DT_F32, n, 1);
	add_tensor(c, "audio", DT_F32, 0, 3, 1, 1);
	add_class(c, "substr(file, 1, 1)", 10);
	return c;
}

static void
test_wav(void)
{
	static const int16_t v[] = {16384, -32768, 8192, 100, 0, 0};
	folder("clips");
	folder("clips/more");
	folder("broken");
	put_wav("clips/7_long.wav", 1, 16, v, 4, 0);
	put_wav("clips/more/2_stereo.wav", 2, 16, v, 4, 0);
	put_wav("broken/cut.wav", 1, 16, v, 3, 3);
	Case *c = clips("clips");
	c->target[0].from = "split_part(split_part(file, '_', 2), '.', 2)";
	if (BUILDS(c)) {
		char buf[24];
		CHECK(!strcmp(fit_class_name(c->fit, &c->d, 0, 0, buf), "wav") && c->fit->target[0].classes.n == 1);
		const float *x = floats(c, 0);
		CHECK(x[0] == 0.5f && x[1] == -1 && x[2] == 0.25f); /* cut at 3 */
		CHECK(x[3] == -0.25f && x[4] == (8192 + 100) / 65536.0f && x[5] == 0); /* the mean of two channels, filled */
		CHECK(!strcmp(c->ds.key[1], "more/2_stereo.wav"));
	}
	drop(c);
	FAILS(clips("broken"), "broken/cut.wav: cut off after |sample 1 of 3");
	folder("eight");
	put_wav("eight/1.wav", 1, 8, v, 2, 0);
	FAILS(clips("eight"), "eight/1.wav: 1 channels of 8 bits at 8000 a second; 16-bit samples can be read");
	folder("none");
	FAILS(clips("none"), "none: this folder is empty");
	folder("text");
	PUTS("text/b.txt", "x");
	FAILS(clips("text"), "text: this folder has no files of the kind (.wav");
	PUTS("text/a.wav", "this is not sound at all, is it");
	FAILS(clips("text"), "text/a.wav: not a WAV file");
}

static void
put_jpeg(const char *name, int h, int w, uint8_t grey)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr err;
	unsigned char *out = NULL;
	unsigned long n = 0;
	uint8_t *line = xmalloc((size_t)w);
	memset(line, grey, (size_t)w);
	c.err = jpeg_std_error(&err);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, &out, &n);
	c.image_width = (unsigned)w;
	c.image_height = (unsigned)h;
	c.input_components = 1;
	c.in_color_space = JCS_GRAYSCALE;
	jpeg_set_defaults(&c);
	jpeg_start_compress(&c, TRUE);
	for (int y = 0; y < h; y++)
		jpeg_write_scanlines(&c, (JSAMPARRAY)&line, 1);
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	put(name, out, n);
	put("broken/cut.jpg", out, n / 2);
	free(out);
	free(line);
}

static Case *
pictures(const char *path, int64_t channels)
{
	static int64_t dim[3];
	dim[0] = dim[1] = 2, dim[2] = channels;
	Case *c = CASE(TB_IMAGES, path);
	set_shape(c, "", DT_U8, dim, 3);
	add_tensor(c, "image", DT_U8, 0, 2, 2, channels);
	add_class(c, "folder", 2);
	return c;
}

static void
test_images(void)
{
	static const uint8_t rgb[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30};
	uint8_t grey[16];
	char path[192];
	Err e = {0};
	folder("pics");
	folder("pics/cat");
	folder("pics/dog");
	snprintf(path, sizeof path, "%s/pics/cat/b.png", tmp);
	CHECK(write_png(path, rgb, 2, 2, 3, &e));
	for (int i = 0; i < 16; i++)
		grey[i] = (uint8_t)(i < 8 ? 100 : 200);
	snprintf(path, sizeof path, "%s/pics/cat/c.PNG", tmp);
	CHECK(write_png(path, grey, 4, 4, 1, &e));
	put_jpeg("pics/dog/a.jpg", 2, 2, 128);
	Case *c = pictures("pics", 3);
	if (BUILDS(c)) {
		const uint8_t *v = bytes(c, 0);
		CHECK(c->ds.rows == 3 && !memcmp(v, rgb, 12) && ids(c, 1)[0] == 0 && ids(c, 1)[2] == 1);
		CHECK(v[12] == v[13] && v[12] >= 100 && v[12] < 120 && v[21] > 180 && v[21] <= 200); /* shrunk: each half keeps its grey */
		CHECK(abs(v[24] - 128) <= 2 && abs(v[35] - 128) <= 2);
	}
	drop(c);
	c = pictures("pics", 1);
	if (BUILDS(c))
		CHECK(bytes(c, 0)[3] < 40 && abs(bytes(c, 0)[8] - 128) <= 2);
	drop(c);
	unlink((snprintf(path, sizeof path, "%s/broken/cut.wav", tmp), path));
	FAILS(pictures("broken", 3), "broken/cut.jpg: cannot be read as JPEG");
	snprintf(path, sizeof path, "%s/broken/cut.jpg", tmp);
	unlink(path);
	PUTS("broken/x.png", "\x89PNG\r\n\x1a\nnot quite");
	FAILS(pictures("broken", 3), "broken/x.png: cannot be read as PNG");
}

/* ---- one array a file ---- */

/* A table posts.csv with a folder of arrays [2, 3, 1] beside it, one for each post that has any. */
static Case *
post_arrays(const char *path, DType dtype, uint32_t damaged)
{
	static int64_t dim[] = {2, 3, 1};
	static PlanTable both[2];
	Case *c = CASE(TB_ARRAYS, path);
	set_shape(c, "", dtype, dim, 3);
	c->table.damaged = damaged;
	both[0] = (PlanTable){.name = "posts", .path = "media.csv", .loc = "m.yaml:3:5"};
	both[1] = c->table;
	c->d.table = both;
	c->d.ntable = 2;
	c->d.rows = "posts LEFT JOIN t ON t.name = posts.id";
	add_tensor(c, "array", dtype, 0, 2, 3, 1);
	add_class(c, "y", 2);
	return c;
}

static void
put_array(const char *name, const char *descr, const char *shape, const void *v, size_t n)
{
	char buf[512];
	put(name, buf, npy(buf, descr, "False", shape, v, n));
}

static void
test_array_files(void)
{
	static const uint8_t v[] = {1, 2, 3, 4, 5, 6}, w[] = {9, 8, 7, 6, 5, 4};
	static const float nan[] = {0, 1, NAN, 0, 0, 0};
	char buf[512];
	folder("m");
	folder("m/deep");
	PUTS("media.csv", "id,y\n01234567890123456789,0\nnone,1\nb,1\nb,0\n");
	put_array("m/b.npy", "|u1", "(2, 3, 1)", v, 6);
	put_gz("m/deep/01234567890123456789.npy.gz", buf, npy(buf, "|u1", "False", "(2, 3, 1)", w, 6));
	PUTS("m/not an array.txt", "x");
	Case *c = post_arrays("m", DT_U8, 0);
	if (BUILDS(c)) {
		static const uint8_t zero[6];
		CHECK(c->ds.rows == 4 && !memcmp(bytes(c, 0), w, 6) && !memcmp(bytes(c, 0) + 6, zero, 6));
		CHECK(!memcmp(bytes(c, 0) + 12, v, 6) && !memcmp(bytes(c, 0) + 18, v, 6));
		CHECK(strstr(c->report, "posts.id = t.name: 3 of 4 rows of posts match, 2 of 2 rows of t are used") != NULL);
		CHECK(strstr(c->report, "1 rows have none: zeros (media.csv:3)") != NULL);
	}
	drop(c);
	c = post_arrays("m", DT_U8, 0);
	c->input[0].missing = MISS_DROP;
	if (BUILDS(c))
		CHECK(c->ds.rows == 3 && !memcmp(bytes(c, 0) + 6, v, 6) && strstr(c->report, "1 rows dropped: input array has no value (media.csv:3)") != NULL);
	drop(c);
	c = post_arrays("m", DT_F32, 0); /* whole numbers of the file as floats */
	if (BUILDS(c))
		CHECK(floats(c, 0)[0] == 9 && floats(c, 0)[12] == 1);
	drop(c);
	put_array("m/unwanted.npy", "<f8", "(1,)", v, 6); /* no row wants it */
	c = post_arrays("m", DT_U8, 0);
	BUILDS(c);
	drop(c);

	/* what is wrong with the file of the third row, and then with none but it */
	static const struct {
		const char *descr, *shape, *says;
		const void *v;
		size_t n;
		DType dtype;
	} bad[] = {
		{"|u1", "(3, 2, 1)", "m/b.npy: an array [3, 2, 1], the table says shape: [2, 3, 1]", v, 6, DT_U8},
		{"|u1", "(6,)", "m/b.npy: an array [6], the table", v, 6, DT_U8},
		{"<f4", "(2, 3, 1)", "m/b.npy: its elements are float32, the table says dtype: uint8", nan, 24, DT_U8},
		{"<i2", "(2, 3, 1)", "m/b.npy: its elements are int16, the table says dtype: uint8", nan, 12, DT_U8},
		{"|u1", "(2, 3, 1)", "m/b.npy: cut off", v, 5, DT_U8},
		{"|u1", "(2, 3, 1)", "m/b.npy: goes on after", nan, 7, DT_U8},
		{"<f4", "(2, 3, 1)", "m/b.npy: element 2 is not a finite number", nan, 24, DT_F32},
		{"<c8", "(2, 3, 1)", "m/b.npy: elements of type", nan, 24, DT_F32},
	};
	for (size_t i = 0; i < LEN(bad); i++) {
		char says[160];
		put_array("m/b.npy", bad[i].descr, bad[i].shape, bad[i].v, bad[i].n);
		snprintf(says, sizeof says, "m.yaml:9:3: input array: media.csv:4: |%s|with `damaged: missing` under table t", bad[i].says);
		FAILS(post_arrays("m", bad[i].dtype, 0), says);
		c = post_arrays("m", bad[i].dtype, 1);
		c->input[0].from = "array";
		if (BUILDS(c)) {
			CHECK(strstr(c->report, bad[i].says) != NULL && strstr(c->report, "2 files cannot be read: they count as missing") != NULL);
			CHECK(strstr(c->report, "3 rows have none: zeros (media.csv:3, media.csv:4, media.csv:5)") != NULL);
		}
		drop(c);
	}
	c = post_arrays("m", DT_U8, 1); /* SQL knows which rows have one */
	c->input[1] = (PlanInput){.name = "seen", .kind = IN_NUMBER, .from = "array IS NOT NULL", .width = 1, .loc = "m.yaml:10:3", .missing = MISS_MEAN};
	c->d.ninput = 2;
	if (BUILDS(c))
		CHECK(floats(c, 1)[0] == 1 && floats(c, 1)[1] == 0 && floats(c, 1)[2] == 0);
	drop(c);
	folder("worse");
	put_array("worse/b.npy", "|u1", "(2, 3)", v, 6);
	FAILS(post_arrays("worse", DT_U8, 1), "none of 1 files can be read; the first: |worse/b.npy: an array [2, 3]");
	c = post_arrays("m", DT_U8, 1);
	c->input[0].from = "CASE WHEN y > 1 THEN array END";
	FAILS(c, "m.yaml:9:3: input array: none of 4 rows has one|in: CASE");
}

/* ---- damage ---- */

/* Each byte of a file replaced in turn, and the file cut there: an error or other values, never a crash. */
static void
damage(const char *name, const char *as, Case *(*make)(const char *path), const char *folder_of)
{
	char path[192], *s;
	size_t n;
	Err e = {0};
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	if (!check(read_file(path, &s, &n, &e), e.msg, __LINE__))
		return;
	for (size_t i = 0; i < n; i++)
		for (int cut = 0; cut < 2; cut++) {
			char old = s[i];
			s[i] = (char)(cut ? old : old ^ (1 << i % 8) ^ (i % 3 ? 0 : 0xff));
			put(as, s, cut ? i : n);
			s[i] = old;
			Case *c = make(folder_of);
			build(c);
			drop(c);
		}
	free(s);
	passed++;
}

static Case *make_idx(const char *f) { return digits(f, "labels"); }
static Case *make_npy(const char *f) { return arrays(f); }
static Case *make_clips(const char *f) { return clips(f); }
static Case *make_array_files(const char *f) { return post_arrays(f, DT_U8, 0); }
static Case *make_pictures(const char *f) { return pictures(f, 3); }

static Case *
make_npz(const char *f)
{
	Case *c = CASE(TB_NPZ, f);
	add_tensor(c, "x", DT_U8, 0, 2, 2, 1);
	return c;
}

static void
test_damage(void)
{
	folder("d");
	folder("e");
	damage("images", "d.idx", make_idx, "d.idx");
	damage("images.gz", "d.gz", make_idx, "d.gz");
	damage("x.npy", "d.npy", make_npy, "d.npy");
	damage("a.npz", "d.npz", make_npz, "d.npz");
	damage("clips/7_long.wav", "d/a.wav", make_clips, "d");
	damage("pics/cat/b.png", "e/a.png", make_pictures, "e");
	damage("pics/dog/a.jpg", "e/a.png", make_pictures, "e");
	folder("f");
	put_array("f/b.npy", "|u1", "(2, 3, 1)", "123456", 6);
	damage("f/b.npy", "f/b.npy", make_array_files, "f");
}

/* ---- real files ---- */

static void
test_real(const char *data)
{
	Case *c;
	char base[256];
	snprintf(base, sizeof base, "%s", data);
	c = CASE(TB_IDX, "image=mnist/train-images-idx3-ubyte.gz", "label=mnist/train-labels-idx1-ubyte.gz", "test:", "image=mnist/t10k-images-idx3-ubyte.gz",
	         "label=mnist/t10k-labels-idx1-ubyte.gz");
	c->d.base = base;
	add_tensor(c, "image", DT_U8, SC_ZSCORE, 28, 28, 1);
	add_class(c, "label", 10);
	if (BUILDS(c)) {
		double m = 0, s = 0;
		fit_scalar(c->fit, "image.mean.0", &m);
		fit_scalar(c->fit, "image.std.0", &s);
		CHECK(c->ds.split[1] == 60000 && c->ds.rows == 70000);
		CHECK(fabs(m / 255 - 0.1307) < 1e-4 && fabs(s / 255 - 0.3081) < 1e-4); /* as everybody normalises it */
	}
	drop(c);
	c = CASE(TB_CIFAR, "cifar10/first5000.bin.gz");
	c->d.base = base;
	add_tensor(c, "image", DT_U8, 0, 32, 32, 3);
	add_class(c, "label", 10);
	if (BUILDS(c))
		CHECK(c->ds.rows == 5000);
	drop(c);
	c = reviews("sentiment/rt-polarity.pos", "sentiment/rt-polarity.neg");
	c->d.base = base;
	c->table.latin1 = 1;
	if (BUILDS(c))
		CHECK(c->ds.rows == 10662);
	drop(c);
}

int
main(void)
{
	const char *data = getenv("MMC_DATA");
	strcpy(tmp, "/tmp/readers_test.XXXXXX");
	if (!mkdtemp(tmp))
		return 2;
	test_idx();
	test_npy();
	test_npz();
	test_raw();
	test_cifar();
	test_lines();
	test_folds();
	test_bytes();
	test_tables();
	test_join();
	test_wav();
	test_images();
	test_array_files();
	test_damage();
	if (data)
		test_real(data);
	else
		skipped++;
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", tmp);
	if (system(cmd))
		printf("cannot remove %s\n", tmp);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed > 0;
}
