/* Tables of one array a file, and tensors beside a table of another kind: joins, what is missing or damaged. */
#include "check_reader.h"

#include <math.h>
#include <string.h>

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

static Case *make_array_files(const char *f) { return post_arrays(f, DT_U8, 0); }

static void
test_damage(void)
{
	folder("f");
	put_array("f/b.npy", "|u1", "(2, 3, 1)", "123456", 6);
	damage("f/b.npy", "f/b.npy", make_array_files, "f");
}

int
main(void)
{
	tmp = make_folder();
	test_join();
	test_array_files();
	test_damage();
	return check_end();
}
