/* The data layer as a whole: joins, splits, fits, encoding, cache, serving (values and CSV: values_test.c). Small files are
   in tests/data or written to a temporary folder; with MMC_DATA (a folder with famous/, socialtrends/, unpopular/) real tables are read as well.
   Usage: data_test [tests/data] */
#include "data_impl.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int passed, failed, skipped;
static const char *here = "tests/data";
static char tmp[64];

static bool
check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		passed++;
	else
		failed++, printf("%s:%d: %s\n", file, line, what);
	return ok;
}
#define CHECK(c) check((c), #c, __FILE__, __LINE__)
#define CHECK_IN(text, part) check_in((text), (part), __FILE__, __LINE__)

static void
check_in(const char *text, const char *part, const char *file, int line)
{
	if (!check(text && strstr(text, part), part, file, line))
		printf("  not in: %s\n", text ? text : "(nothing)");
}

/* ---- a model's data section ---- */

typedef struct Model {
	PlanTable table[2];
	PlanInput input[16];
	PlanTarget target[4];
	PlanData d;
} Model;

static void
add_input(Model *m, const char *name, InputKind kind, const char *from, unsigned ids, int64_t width, int64_t size)
{
	PlanInput *in = &m->input[m->d.ninput++];
	*in = (PlanInput){.name = (char *)name, .kind = kind, .from = (char *)from, .width = width, .size = size, .ids = ids,
	                  .min_count = 1, .missing = MISS_MEDIAN, .loc = "m.yaml:9:3"};
}

static PlanTarget *
add_target(Model *m, const char *name, TargetKind kind, const char *from)
{
	PlanTarget *t = &m->target[m->d.ntarget++];
	*t = (PlanTarget){.name = (char *)name, .kind = kind, .from = (char *)from, .loc = "m.yaml:20:3"};
	return t;
}

/* Tables a (and b) in folder base, all rows for training. */
static Model *
new_model(const char *base, const char *a, const char *b, const char *rows)
{
	Model *m = xcalloc(1, sizeof *m);
	m->table[0] = (PlanTable){.name = "posts", .path = (char *)a, .loc = "m.yaml:3:5"};
	m->table[1] = (PlanTable){.name = "users", .path = (char *)b, .loc = "m.yaml:4:5"};
	m->d = (PlanData){.table = m->table, .ntable = b ? 2 : 1, .rows = (char *)rows, .where = "", .group = "", .stratify = "", .given = "", .order = "",
	                  .train = 1, .seed = 17, .input = m->input, .target = m->target, .base = (char *)base, .loc = "m.yaml:2:1", .where_loc = "m.yaml:2:1", .split_loc = "m.yaml:2:1"};
	return m;
}

typedef struct Built {
	Dataset ds;
	Fit *fit;
	Err e;
	char *report;
	bool ok;
} Built;

static Built
build(const Model *m, const char *cache, int64_t seed)
{
	Built b = {0};
	size_t n;
	FILE *f = open_memstream(&b.report, &n);
	DataOptions o = {.cache_dir = cache, .split_seed = seed, .report = f};
	b.ok = data_build(&m->d, &o, &b.ds, &b.fit, &b.e);
	fclose(f);
	return b;
}

static Built
apply(const Model *m, const Fit *fit, const char *const *record, const char *const *table)
{
	Built b = {0};
	size_t n;
	FILE *f = open_memstream(&b.report, &n);
	DataOptions o = {.table = table, .split_seed = -1, .report = f};
	b.ok = data_apply(&m->d, &o, fit, record, &b.ds, &b.e);
	fclose(f);
	return b;
}

static void
drop(Built *b)
{
	dataset_free(&b->ds);
	fit_free(b->fit);
	free(b->report);
	*b = (Built){0};
}

static const char *
write_tmp(const char *name, const void *s, size_t n)
{
	static char path[128];
	Err e = {0};
	snprintf(path, sizeof path, "%s/%s", tmp, name);
	if (!write_file_atomic(path, s, n, 0600, &e))
		printf("%s\n", e.msg);
	return path;
}

static void put(const char *name, const char *s) { write_tmp(name, s, strlen(s)); }

static const int32_t *ids(const Built *b, int col) { return b->ds.column[col].data; }
static const float *nums(const Built *b, int col) { return b->ds.column[col].data; }

/* ---- the whole way ---- */

static Model *
sample_model(void)
{
	Model *m = new_model(here, "posts.csv", "users.csv", "posts LEFT JOIN users USING (Username)");
	m->d.where = "Plays IS NOT NULL";
	add_input(m, "caption", IN_TEXT, "Description", 1, 4, 100);
	add_input(m, "tags", IN_TAGS, "Hashtags", 2, 3, 50);
	add_input(m, "song", IN_CATEGORY, "Song", 1, 1, 4);
	add_input(m, "length", IN_NUMBER, "\"Length (seconds)\"", 0, 1, 0);
	add_input(m, "followers", IN_NUMBER, "to_number(\"Follower Count\")", 0, 1, 0);
	add_input(m, "hour", IN_CATEGORY, "hour(\"Created At\")", 0, 1, 24);
	m->input[4].scale = SC_LOG1P | SC_ZSCORE;
	add_target(m, "plays", TG_NUMBER, "ln(1+Plays)")->scale = SC_ZSCORE;
	PlanTarget *t = add_target(m, "viral", TG_BINARY, "Plays");
	t->above = AB_QUANTILE;
	t->threshold = 0.5;
	return m;
}

static void
test_build(void)
{
	Model *m = sample_model();
	Built b = build(m, NULL, -1);
	if (!CHECK(b.ok)) {
		printf("  %s\n", b.e.msg);
		free(m);
		drop(&b);
		return;
	}
	CHECK(b.ds.rows == 9 && b.ds.split[0] == 0 && b.ds.split[1] == 9 && b.ds.split[3] == 9 && b.ds.ncolumn == 8);
	CHECK(!strcmp(b.ds.key[0], "6892428462015958273") && !strcmp(b.ds.key[8], "6891264678832475400"));
	CHECK_IN(b.report, "1 rows left out: the header has 11 fields (posts.csv:9 '2 fields')");
	CHECK_IN(b.report, "posts.Username = users.Username: 9 of 10 rows of posts match, 6 of 7 rows of users are used");
	CHECK_IN(b.report, "posts.csv:11 'eve'");
	CHECK_IN(b.report, "9 rows stay, 1 are left out");
	/* vocabulary: hello 5, world 3, then one each by bytes */
	CHECK(ids(&b, 0)[0] == 2 && ids(&b, 0)[1] == 3 && ids(&b, 0)[4] == 2);
	CHECK(ids(&b, 0)[8] == 0 && ids(&b, 0)[9] == 0); /* an empty description */
	CHECK(ids(&b, 0)[16] == ids(&b, 0)[17]);         /* ÉTÉ été */
	/* tags: fun is the same id in a JSON list and in a plain list; duplicates go */
	const int32_t *g = ids(&b, 1);
	CHECK(g[0] == g[3] && g[0] == g[9] && g[0] == 1 + (int32_t)(hash_word("fun", 3) % 49));
	CHECK(g[4] && !g[5] && g[11] == g[4] && !g[6]);
	CHECK(g[1] == 1 + (int32_t)(hash_word("été", 5) % 49));
	/* songs: size 4 leaves two words; the others are unknown, none is missing */
	CHECK(ids(&b, 2)[0] == 2 && ids(&b, 2)[2] == 3 && ids(&b, 2)[3] == 0 && ids(&b, 2)[7] == 1);
	/* length: median of 8 5 60 15 30 12 45 9 is 13.5 */
	CHECK(nums(&b, 3)[0] == 8 && nums(&b, 3)[2] == 13.5f);
	CHECK(ids(&b, 5)[0] == 17 && ids(&b, 5)[1] == 21 && ids(&b, 5)[2] == 13);
	float mean = 0, sq = 0, pos = 0;
	for (int i = 0; i < 9; i++) {
		mean += nums(&b, 6)[i] / 9;
		sq += nums(&b, 6)[i] * nums(&b, 6)[i] / 9;
		pos += nums(&b, 7)[i];
	}
	CHECK(fabsf(mean) < 1e-5f && fabsf(sq - 1) < 1e-5f && pos == 4);
	CHECK(nums(&b, 7)[2] == 1 && nums(&b, 7)[6] == 0);
	double w;
	CHECK(fit_scalar(b.fit, "viral.positive_weight", &w) && w == 5.0 / 4);
	CHECK(fit_scalar(b.fit, "viral.threshold", &w) && w == 12800);
	CHECK(!fit_scalar(b.fit, "viral.nothing", &w) && !fit_scalar(b.fit, "nothing", &w));
	CHECK(fabs(fit_unscale(b.fit, &m->d, 0, nums(&b, 6)[0]) - log(12801)) < 1e-5);
	drop(&b);
	free(m);
}

static bool
same_columns(const Dataset *a, const Dataset *b, uint32_t ncol)
{
	bool same = a->rows == b->rows;
	for (uint32_t i = 0; same && i < ncol; i++)
		same = a->column[i].width == b->column[i].width &&
		       !memcmp(a->column[i].data, b->column[i].data, (size_t)(a->rows * a->column[i].width) * 4);
	for (int64_t i = 0; same && a->key && i < a->rows; i++)
		same = !strcmp(a->key[i], b->key[i]);
	return same;
}

static void
test_fit_json(void)
{
	Model *m = sample_model(), *other = sample_model();
	Built b = build(m, NULL, -1);
	Err e = {0};
	char *json = fit_to_json(b.fit);
	Fit *f = fit_from_json(&m->d, json, &e);
	if (CHECK(f)) {
		char *again = fit_to_json(f);
		CHECK(!strcmp(json, again));
		CHECK(!memcmp(&f->target[0].scale, &b.fit->target[0].scale, sizeof f->target[0].scale));
		free(again);
		fit_free(f);
	}
	other->input[0].name = "other";
	CHECK(!fit_from_json(&other->d, json, &e));
	CHECK_IN(e.msg, "belong to another model");
	static const char *const bad[] = {"", "[]", "{", "{}", "{\"version\":1}", "{\"version\":2,\"inputs\":{},\"targets\":{}}"};
	for (size_t i = 0; i < LEN(bad); i++) {
		e = (Err){0};
		CHECK(!fit_from_json(&m->d, bad[i], &e) && e.set);
	}
	for (size_t cut = 0; cut < strlen(json); cut += 7) {
		char *part = xstrdup(json);
		part[cut] = part[cut] == '1' ? '}' : '1';
		e = (Err){0};
		f = fit_from_json(&m->d, part, &e); /* no crash; digits may change unseen */
		CHECK(!f == e.set);
		fit_free(f);
		free(part);
	}
	free(json);
	free(m);
	free(other);
	drop(&b);
}

static void
test_apply(void)
{
	Model *m = sample_model();
	Built b = build(m, NULL, -1);
	m->d.where = "no such thing";
	m->target[0].from = "nor this";
	Built a = apply(m, b.fit, NULL, NULL);
	CHECK(a.ok && a.ds.rows == 10 && a.ds.ncolumn == 6 && a.ds.split[2] == 0 && a.ds.split[3] == 10);
	/* the row that `where` left out stands in place 5 */
	for (int i = 0, k = 0; a.ok && i < 9; i++, k += k == 4 ? 2 : 1) {
		CHECK(!strcmp(a.ds.key[k], b.ds.key[i]));
		CHECK(nums(&a, 4)[k] == nums(&b, 4)[i] && !memcmp(ids(&a, 0) + k * 4, ids(&b, 0) + i * 4, 16));
	}
	const char *const record[] = {"username", "ann", "Description", "hello nobody", "Length (seconds)", "1.2K", NULL};
	Built r = apply(m, b.fit, record, NULL);
	if (CHECK(r.ok && r.ds.rows == 1)) {
		CHECK(ids(&r, 0)[0] == 2 && ids(&r, 0)[1] == 1 && ids(&r, 0)[2] == 0);
		CHECK(nums(&r, 3)[0] == 1200 && nums(&r, 4)[0] == nums(&b, 4)[0] && ids(&r, 2)[0] == 0);
	}
	const char *const wrong[] = {"Descripton", "x", NULL};
	Built w = apply(m, b.fit, wrong, NULL);
	CHECK(!w.ok);
	CHECK_IN(w.e.msg, "table posts has no column Descripton; did you mean Description?");
	/* one numeric song must not turn the column into numbers: the types are those of training */
	put("one.csv", "Post ID,Username,Created At,Description,Hashtags,Song,Length (seconds)\n1,ann,2021-01-01,,,1.50,\n");
	char path[128];
	snprintf(path, sizeof path, "%s/one.csv", tmp);
	const char *const table[] = {"posts", path, NULL};
	m->input[2].ids = 2;
	Built h = apply(m, b.fit, NULL, table);
	CHECK(h.ok && ids(&h, 2)[0] == 1 + (int32_t)(hash_word("1.50", 4) % 3));
	const char *const no_table[] = {"post", path, NULL};
	Built n = apply(m, b.fit, NULL, no_table);
	CHECK_IN(n.e.msg, "--table post: the model has no table of that name; did you mean posts");
	drop(&a);
	drop(&r);
	drop(&w);
	drop(&h);
	drop(&n);
	drop(&b);
	free(m);
}

/* ---- joins and SQL ---- */

static void
expect_error(Model *m, const char *message, int line)
{
	Built b = build(m, NULL, -1);
	check(!b.ok, "an error was expected", __FILE__, line);
	check_in(b.e.msg, message, __FILE__, line);
	drop(&b);
	free(m);
}
#define EXPECT_ERROR(m, message) expect_error((m), (message), __LINE__)

static Model *
wrong_sql(const char *from)
{
	Model *m = sample_model();
	m->input[3].from = (char *)from;
	return m;
}

static void
test_errors(void)
{
	Model *m;
	EXPECT_ERROR(wrong_sql("\"Length (second)\""), "m.yaml:9:3: input length: SQL: no such column: Length (second); did you mean \"Length (seconds)\"?");
	EXPECT_ERROR(wrong_sql("posts.Plais"), "did you mean Plays?");
	EXPECT_ERROR(wrong_sql("plays_total_of_all"), "; columns are \"Post ID\", Username");
	EXPECT_ERROR(wrong_sql("hours(\"Created At\")"), "no such function: hours; did you mean hour?");
	EXPECT_ERROR(wrong_sql("Plays +"), "input length: SQL: near");
	EXPECT_ERROR(wrong_sql("Plays, Diggs"), "input length: SQL:");
	m = sample_model();
	m->input[0].from = "CAST(x'ff' AS TEXT)";
	EXPECT_ERROR(m, "m.yaml:9:3: input caption: the value at posts.csv:2 is not UTF-8 text");
	m = sample_model();
	m->d.rows = "post";
	EXPECT_ERROR(m, "no such table: post; did you mean posts?");
	m = sample_model();
	m->d.where = "Plays > 1e12";
	EXPECT_ERROR(m, "where: none of the 10 rows satisfies it");
	m = sample_model();
	m->d.train = 0;
	m->d.test = 1;
	EXPECT_ERROR(m, "the training split is empty");
	m = sample_model();
	m->d.test = 0.5;
	EXPECT_ERROR(m, "they must be at least 0 and sum to 1");
	m = sample_model();
	m->target[0].from = "7";
	EXPECT_ERROR(m, "m.yaml:20:3: target plays: it is 7 in all 9 training rows");
	m = sample_model();
	m->target[1].above = AB_CONDITION;
	m->target[1].from = "Plays < 0";
	EXPECT_ERROR(m, "target viral: all 9 training rows are negative");
	m = sample_model();
	m->target[1].from = "NULL";
	EXPECT_ERROR(m, "target viral: no row is left: 9 of 9 rows have no value here");
	m = sample_model();
	m->table[0].path = "none.csv";
	EXPECT_ERROR(m, "m.yaml:3:5: table posts: ");
	m = sample_model();
	m->input[0].size = 1;
	EXPECT_ERROR(m, "input caption: 1 ids");
	put("b.csv", "Username,x\nqq,1\nrr,2\n");
	m = new_model(tmp, "one.csv", "b.csv", "posts JOIN users USING (Username)");
	put("one.csv", "Username,y\nann,1\nbob,2\n");
	EXPECT_ERROR(m, "no row of posts matches a row of users: posts.Username is (one.csv:2 'ann', one.csv:3 'bob'), users.Username is (b.csv:2 'qq', b.csv:3 'rr')");
	m = new_model(tmp, "one.csv", "b.csv", "posts p, users u");
	m->d.where = "p.Username = u.Username";
	EXPECT_ERROR(m, "where: none of the 4 rows");
}

static void
test_join(void)
{
	put("l.csv", "k,v\n3,30\n1,10\n2,20\n1,11\n,5\n");
	put("r.csv", "key,w\n1,a\n2,b\n1,c\nx,d\n");
	Model *m = new_model(tmp, "l.csv", "r.csv", "posts AS p LEFT JOIN users u ON u.key = p.k");
	add_input(m, "v", IN_NUMBER, "v", 0, 1, 0);
	Built b = build(m, NULL, -1);
	if (CHECK(b.ok)) {
		static const float want[] = {30, 10, 10, 20, 11, 11, 5}; /* rows of the first table in order, then of the second */
		CHECK(b.ds.rows == 7 && !memcmp(nums(&b, 0), want, sizeof want));
		CHECK_IN(b.report, "posts.k = users.key: 3 of 5 rows of posts match, 3 of 4 rows of users are used");
		CHECK_IN(b.report, "2 rows of posts have no match: columns of the other are missing (l.csv:2 '3', l.csv:6 'NULL')");
		CHECK_IN(b.report, "1 rows of users repeat a key (r.csv:4 '1'): the join multiplies rows");
		CHECK_IN(b.report, "7 rows: WARNING: more than the 5 of posts");
		CHECK(!strcmp(b.ds.key[0], "3") && !strcmp(b.ds.key[6], ""));
	} else {
		printf("  %s\n", b.e.msg);
	}
	drop(&b);
	m->d.rows = "(SELECT * FROM posts ORDER BY v) JOIN users ON key = k AND w <> 'c'";
	b = build(m, NULL, -1);
	CHECK(b.ok && b.ds.rows == 3 && !b.ds.key);
	drop(&b);
	free(m);
}

static void
test_sci_ids(void)
{
	Model *m = new_model(here, "sci.csv", NULL, "posts");
	add_input(m, "n", IN_NUMBER, "Plays", 0, 1, 0);
	Built b = build(m, NULL, -1);
	CHECK(b.ok && b.ds.rows == 6);
	CHECK_IN(b.report, "2 rows share their Post ID with an earlier, different row: scientific notation has lost digits (not merged) (sci.csv:3 '7.18825E+18', sci.csv:4 '7.18825E+18')");
	CHECK_IN(b.report, "1 rows repeat an earlier row in full (kept) (sci.csv:4)");
	CHECK(b.ok && !strcmp(b.ds.key[3], "7.17110E+18"));
	drop(&b);
	free(m);
}

/* Text columns of numbers with one odd value: said, and to_number still reads the rest. Division of integers: said. */
static void
test_traps(void)
{
	put("m.csv", "id,n,a,b\n1,\"1,000\",1,2\n2,n/a,3,2\n3,5,5,2\n");
	Model *m = new_model(tmp, "m.csv", NULL, "posts");
	add_input(m, "n", IN_NUMBER, "n", 0, 1, 0);
	add_input(m, "rate", IN_NUMBER, "a / b", 0, 1, 0);
	m->input[0].missing = MISS_CONSTANT;
	m->input[0].missing_value = -1;
	m->input[0].scale = SC_LOG1P;
	Built b = build(m, NULL, -1);
	CHECK(b.ok && nums(&b, 0)[0] == (float)log1p(1000) && nums(&b, 0)[1] == 0);
	CHECK_IN(b.report, "1 of 3 values of n are not numbers, so the column is text; in arithmetic use to_number(\"n\") (m.csv:3 'n/a')");
	CHECK_IN(b.report, "1 values are not numbers: missing (m.csv:3 'n/a')");
	CHECK_IN(b.report, "WARNING: input rate divides whole numbers");
	drop(&b);
	m->input[0].missing = MISS_DROP;
	b = build(m, NULL, -1);
	CHECK(b.ok && b.ds.rows == 2);
	CHECK_IN(b.report, "1 rows dropped: input n has no value (m.csv:3)");
	Built a = apply(m, b.fit, NULL, NULL);
	CHECK(a.ok && a.ds.rows == 3 && nums(&a, 0)[1] == (float)log1p(502.5)); /* imputed by the median, not dropped */
	drop(&a);
	drop(&b);
	free(m);
}

static void
test_missing_rules(void)
{
	static const struct {
		Missing rule;
		float value;
	} cases[] = {{MISS_ZERO, 0}, {MISS_MEAN, 4}, {MISS_MEDIAN, 2.5f}, {MISS_MODE, 2}, {MISS_CONSTANT, 7}};
	put("q.csv", "id,n\n1,1\n2,\n3,2\n4,2\n5,3\n6,3\n7,13\n");
	Model *m = new_model(tmp, "q.csv", NULL, "posts");
	add_input(m, "n", IN_NUMBER, "n", 0, 1, 0);
	m->input[0].missing_value = 7;
	for (size_t i = 0; i < LEN(cases); i++) {
		m->input[0].missing = cases[i].rule;
		Built b = build(m, NULL, -1);
		if (!CHECK(b.ok && nums(&b, 0)[1] == cases[i].value))
			printf("  rule %d: %g\n", cases[i].rule, b.ok ? nums(&b, 0)[1] : NAN);
		drop(&b);
	}
	m->input[0].scale = SC_MINMAX;
	m->input[0].missing = MISS_ZERO;
	Built b = build(m, NULL, -1);
	CHECK(b.ok && nums(&b, 0)[1] == 0 && nums(&b, 0)[6] == 1 && nums(&b, 0)[0] == (float)(1. / 13));
	drop(&b);
	free(m);
}

/* ---- splits ---- */

/* Rows of groups g0..g(n-1), group i with 1 + i % 3 rows, in an order that `step` chooses; class c is i % 5 == 0. */
static void
write_groups(const char *name, int n, int step)
{
	Text t = {0};
	text_puts(&t, "id,g,c,v\n");
	for (int k = 0; k < n; k++) {
		int i = (int)((int64_t)k * step % n);
		for (int j = 0; j <= i % 3; j++)
			text_printf(&t, "%d_%d,g%d,%d,%d\n", i, j, i, i % 5 == 0, i + j);
	}
	write_tmp(name, t.s, t.n);
	free(t.s);
}

/* Which split each group went to, by its number; -1 absent; -2 in two splits. Group names end in the key's number. */
static void
group_splits(const Dataset *d, int *out, int n)
{
	for (int i = 0; i < n; i++)
		out[i] = -1;
	for (int k = 0; k < 3; k++)
		for (int64_t r = d->split[k]; r < d->split[k + 1]; r++) {
			int g = atoi(d->key[r]);
			out[g] = out[g] == -1 || out[g] == k ? k : -2;
		}
}

static void
test_split(void)
{
	enum { N = 200 };
	int a[N], b[N], same = 0, count[3] = {0}, whole = 1, pos[3] = {0};
	write_groups("g.csv", N, 1);
	write_groups("h.csv", N, 77);
	Model *m = new_model(tmp, "g.csv", NULL, "posts");
	add_input(m, "v", IN_NUMBER, "v", 0, 1, 0);
	m->d.group = "g";
	m->d.train = 0.7;
	m->d.val = 0.1;
	m->d.test = 0.2;
	Built x = build(m, NULL, -1);
	m->table[0].path = "h.csv";
	Built y = build(m, NULL, -1), z = build(m, NULL, 18);
	group_splits(&x.ds, a, N);
	group_splits(&y.ds, b, N);
	for (int i = 0; i < N; i++) {
		whole = whole && a[i] >= 0;
		count[a[i] < 0 ? 0 : a[i]]++;
		same += a[i] == b[i];
	}
	CHECK(whole && count[0] == 140 && count[1] == 20 && count[2] == 40);
	CHECK(same == N); /* the order of rows does not matter */
	group_splits(&z.ds, b, N);
	for (int i = same = 0; i < N; i++)
		same += a[i] == b[i];
	CHECK(same < N - 30); /* the seed does */
	CHECK_IN(x.report, "train           ");
	drop(&y);
	drop(&z);
	write_groups("h.csv", N - 1, 1); /* one group less moves at most the two at the boundaries */
	y = build(m, NULL, -1);
	group_splits(&y.ds, b, N);
	for (int i = same = 0; i < N - 1; i++)
		same += a[i] == b[i];
	CHECK(same >= N - 3);
	drop(&y);
	m->d.stratify = "c";
	y = build(m, NULL, -1);
	group_splits(&y.ds, b, N);
	for (int i = 0; i < N; i += 5)
		pos[b[i] < 0 ? 0 : b[i]]++;
	CHECK(pos[0] == 28 && pos[1] == 4 && pos[2] == 8);
	drop(&y);
	m->d.group = m->d.stratify = "";
	y = build(m, NULL, -1);
	CHECK(y.ok && y.ds.split[1] == (int64_t)floor(y.ds.rows * 0.7 + 0.5) && y.ds.split[2] - y.ds.split[1] == (y.ds.rows + 5) / 10);
	drop(&y);
	/* tiny: every split with a share gets something */
	write_groups("g.csv", 3, 1);
	m->table[0].path = "g.csv";
	m->d.group = "g";
	y = build(m, NULL, -1);
	CHECK(y.ok && y.ds.split[1] > 0 && y.ds.split[2] > y.ds.split[1] && y.ds.split[3] > y.ds.split[2]);
	drop(&y);
	drop(&x);
	free(m);
}

/* ---- cache ---- */

/* The one cache file in tmp/cache. */
static char *
cache_file(void)
{
	static char path[512];
	char dir[80];
	snprintf(dir, sizeof dir, "%s/cache", tmp);
	DIR *d = opendir(dir);
	path[0] = 0;
	for (struct dirent *f; d && (f = readdir(d));)
		if (f->d_name[0] != '.')
			snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
	if (d)
		closedir(d);
	return path;
}

static void
poke(const char *path, size_t at, int byte)
{
	FILE *f = fopen(path, "r+b");
	fseek(f, (long)at, SEEK_SET);
	fputc(byte, f);
	fclose(f);
}

static void
test_cache(void)
{
	char dir[80];
	snprintf(dir, sizeof dir, "%s/cache", tmp);
	Model *m = sample_model();
	m->d.train = 0.6;
	m->d.val = 0.2;
	m->d.test = 0.2;
	Built a = build(m, dir, -1), b = build(m, dir, -1);
	CHECK(a.ok && b.ok && same_columns(&a.ds, &b.ds, 8) && !strcmp(a.report, b.report));
	CHECK(!memcmp(a.ds.split, b.ds.split, sizeof a.ds.split) && !strcmp(a.ds.column[7].name, b.ds.column[7].name));
	CHECK(((uintptr_t)b.ds.column[1].data & 255) == 0 && ((uintptr_t)a.ds.column[1].data & 255) == 0);
	char *ja = fit_to_json(a.fit), *jb = fit_to_json(b.fit), *whole;
	CHECK(!strcmp(ja, jb));
	free(ja);
	free(jb);
	drop(&b);
	size_t n;
	Err e = {0};
	char *path = cache_file();
	CHECK(read_file(path, &whole, &n, &e));
	uint64_t key = strtoull(strrchr(path, '/') + 1, NULL, 16);
	int used = 0;
	for (size_t i = 0; i <= n; i++) { /* every byte changed, then one byte less */
		Dataset ds;
		Fit *fit = NULL;
		Text report = {0};
		const char *why = NULL;
		if (i < n)
			poke(path, i, whole[i] ^ 0x20);
		else
			CHECK(!truncate(path, (off_t)n - 1));
		if (cache_open(path, &m->d, key, &ds, &fit, &report, &why)) {
			used++;
			dataset_free(&ds);
			fit_free(fit);
		}
		free(report.s);
		if (i < n)
			poke(path, i, whole[i]);
	}
	CHECK(used == 0);
	b = build(m, dir, -1); /* rebuilt, and said */
	CHECK(b.ok && same_columns(&a.ds, &b.ds, 8));
	CHECK_IN(b.report, "cache not used");
	drop(&b);
	b = build(m, dir, -1);
	CHECK(b.ok && !strstr(b.report, "cache not used"));
	drop(&b);
	b = build(m, "/proc/none", -1);
	CHECK(b.ok);
	CHECK_IN(b.report, "cache not written");
	drop(&b);
	unlink(path);
	m->input[0].width = 5; /* another schema, another file */
	b = build(m, dir, -1);
	CHECK(b.ok && b.ds.column[0].width == 5);
	drop(&b);
	drop(&a);
	free(whole);
	free(m);
}

/* ---- real tables ---- */

static void
test_real(const char *folder)
{
	static const struct {
		const char *posts, *users, *expect[4];
		int64_t rows;
	} sets[] = {
		{"famous/posts.csv.gz", "famous/users.csv.gz", {"40238 rows, 11", "Description is empty in every row", "40238 of 40238 rows of posts match", ""}, 40238},
		{"socialtrends/posts.csv", "socialtrends/users.csv", {"886 rows, 11", "13 of 886 rows of posts match", "873 rows of posts have no match", ""}, 886},
		{"socialtrends/posts_sciid.csv", "socialtrends/users.csv", {"50 rows share their Post ID with an earlier, different row", "13 of 886", "", ""}, 886},
		{"unpopular/posts.csv.gz", "unpopular/users.csv.gz", {"rows share their Post ID", "of Song are identifiers", "13337 rows", ""}, 13337},
	};
	for (size_t i = 0; i < LEN(sets); i++) {
		Model *m = sample_model();
		m->d.base = (char *)folder;
		m->table[0].path = (char *)sets[i].posts;
		m->table[1].path = (char *)sets[i].users;
		m->d.group = "Username";
		m->d.train = 0.7;
		m->d.val = 0.1;
		m->d.test = 0.2;
		m->target[0].from = "(ln(1+Plays)+ln(1+Comments)+ln(1+Diggs)+ln(1+Shares))/4";
		m->target[1].threshold = 0.9;
		add_input(m, "day", IN_CATEGORY, "weekday(\"Created At\")", 0, 1, 7);
		double start = now_seconds(), w;
		Built b = build(m, NULL, -1);
		if (!CHECK(b.ok && b.ds.rows == sets[i].rows))
			printf("  %s: %s\n", sets[i].posts, b.e.msg);
		CHECK(now_seconds() - start < 30); /* not quadratic; sanitizers are slow */
		for (int k = 0; k < 4; k++)
			CHECK_IN(b.report, sets[i].expect[k]);
		CHECK(b.ok && fit_scalar(b.fit, "viral.mean", &w) && w > 0.05 && w < 0.105);
		Built a = apply(m, b.fit, NULL, NULL);
		CHECK(a.ok && a.ds.rows == sets[i].rows);
		drop(&a);
		drop(&b);
		free(m);
	}
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		here = argv[1];
	strcpy(tmp, "/tmp/data_test.XXXXXX");
	if (!mkdtemp(tmp))
		return 2;
	test_build();
	test_fit_json();
	test_apply();
	test_errors();
	test_join();
	test_sci_ids();
	test_traps();
	test_missing_rules();
	test_split();
	test_cache();
	const char *folder = getenv("MMC_DATA");
	if (folder)
		test_real(folder);
	else
		skipped++;
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", tmp);
	if (system(cmd))
		printf("cannot remove %s\n", tmp);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed > 0;
}
