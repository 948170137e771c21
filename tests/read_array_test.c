/* Tables of arrays, row after row: IDX, npy, npz and raw files, of every type, damaged in every byte. With MMC_DATA MNIST, too. */
#include "check_reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

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

static Case *make_idx(const char *f) { return digits(f, "labels"); }

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
	damage("images", "d.idx", make_idx, "d.idx");
	damage("images.gz", "d.gz", make_idx, "d.gz");
	damage("x.npy", "d.npy", arrays, "d.npy");
	damage("a.npz", "d.npz", make_npz, "d.npz");
}

static void
test_mnist(void)
{
	Case *c = CASE(TB_IDX, "image=mnist/train-images-idx3-ubyte.gz", "label=mnist/train-labels-idx1-ubyte.gz", "test:",
	               "image=mnist/t10k-images-idx3-ubyte.gz", "label=mnist/t10k-labels-idx1-ubyte.gz");
	c->d.base = (char *)(uintptr_t)real_data();
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
}

int
main(void)
{
	tmp = make_folder();
	test_idx();
	test_npy();
	test_npz();
	test_raw();
	test_damage();
	if (real_data())
		test_mnist();
	return check_end();
}
