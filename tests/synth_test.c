/* mmrun synth: the same bytes everywhere, CSV that libcsv reads, every quirk it promises, the printed scores, and errors
   that leave nothing behind. The command runs in a child process, in a folder of its own. */
#define _GNU_SOURCE
#include "../runtime/runtime.h"
#include "../runtime/synth.h"

#include <csv.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed, skipped;

/* FNV-1a of the files of --posts 500 --users 40 --seed 7. */
#define GOLDEN_POSTS 0xd14db1496c0f1f4b
#define GOLDEN_USERS 0x8e35b407fe5dadc4
/* Of all files of frames and of sound, in the order of their names, of --posts 30 --users 4 --seed 7 --media --frames 2 --pixels 9 --places 8. */
#define GOLDEN_FRAMES 0xf1e523f7f144db51
#define GOLDEN_SOUND 0x4ceca4ac950ab6d8

#define CHECK(ok, ...)                              \
	do {                                            \
		if (ok) {                                   \
			passed++;                               \
		} else {                                    \
			failed++;                               \
			printf("%s:%d: ", __FILE__, __LINE__);  \
			printf(__VA_ARGS__);                    \
			putchar('\n');                          \
		}                                           \
	} while (0)

static char *
slurp(const char *path, size_t *n)
{
	Err e = {0};
	char *s;
	size_t unused;
	if (!read_file(path, &s, n ? n : &unused, &e)) {
		CHECK(0, "%s", e.msg);
		s = xstrdup("");
		if (n)
			*n = 0;
	}
	return s;
}

/* Runs `mmrun synth ARGS` (split at spaces) with files limited to `most` bytes, and gives its exit status; its output
   goes to the files out.txt and err.txt. */
static int
run_limited(const char *args, rlim_t most)
{
	char *copy = xstrdup(args), *argv[24] = {"synth"};
	int argc = 1, status;
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		if (!freopen("out.txt", "w", stdout) || !freopen("err.txt", "w", stderr))
			_exit(99);
		signal(SIGXFSZ, SIG_IGN); /* so that a write beyond the limit fails as on a full disk */
		if (most)
			setrlimit(RLIMIT_FSIZE, &(struct rlimit){most, most});
		int code = cmd_synth(argc, argv);
		fflush(stdout);
		fflush(stderr);
		free(copy);
		_exit(code);
	}
	free(copy);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + status;
}

static int run(const char *args) { return run_limited(args, 0); }

static int
count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static uint64_t
hash_file(const char *path)
{
	size_t n;
	char *s = slurp(path, &n);
	uint64_t h = hash_bytes(HASH_INIT, s, n);
	free(s);
	return h;
}

/* ---- reading back ---- */

typedef struct Table {
	char **cell;
	size_t n, cap, row, width; /* cells; cells of the row being read; columns */
	size_t rows, ragged;
} Table;

static void
on_cell(void *s, size_t n, void *user)
{
	Table *t = user;
	char *copy = xmalloc(n + 1);
	memcpy(copy, s ? s : "", n);
	copy[n] = 0;
	VEC_PUSH(t->cell, t->n, t->cap) = copy;
	t->row++;
}

static void
on_row(int c, void *user)
{
	Table *t = user;
	(void)c;
	if (!t->width)
		t->width = t->row;
	t->ragged += t->row != t->width;
	t->row = 0;
	t->rows++;
}

static Table
read_table(const char *path, size_t width)
{
	struct csv_parser p;
	Table t = {0};
	size_t n;
	char *s = slurp(path, &n);
	csv_init(&p, CSV_STRICT | CSV_STRICT_FINI);
	CHECK(csv_parse(&p, s, n, on_cell, on_row, &t) == n && !csv_fini(&p, on_cell, on_row, &t), "%s: %s", path,
		csv_strerror(csv_error(&p)));
	csv_free(&p);
	free(s);
	CHECK(t.width == width && !t.ragged, "%s: %zu columns, %zu rows with another number", path, t.width, t.ragged);
	if (t.width != width || t.ragged)
		exit(1);
	return t;
}

static void
free_table(Table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cell[i]);
	free(t->cell);
}

/* Row 0 is the header. */
static const char *cell(const Table *t, size_t row, size_t column) { return t->cell[row * t->width + column]; }

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t
count_distinct(const Table *t, size_t column)
{
	const char **s = xmalloc(t->rows * sizeof *s);
	size_t n = t->rows > 1;
	for (size_t i = 1; i < t->rows; i++)
		s[i - 1] = cell(t, i, column);
	qsort(s, t->rows - 1, sizeof *s, compare_strings);
	for (size_t i = 1; i + 1 < t->rows; i++)
		n += strcmp(s[i], s[i - 1]) != 0;
	free(s);
	return n;
}

/* Does s have the shape? 9 stands for a digit, anything else for itself. */
static bool
has_shape(const char *s, const char *shape)
{
	for (; *s && *shape; s++, shape++)
		if (*shape == '9' ? *s < '0' || *s > '9' : *s != *shape)
			return false;
	return !*s && !*shape;
}

/* ---- tests ---- */

static void
test_rng(void)
{
	/* Known answers of Philox4x32-10, from the authors' Random123. */
	static const uint32_t want[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
	Rng r = rng_start(0, 0, 0);
	for (int i = 0; i < 4; i++)
		CHECK(rng_u32(&r) == want[i], "Philox word %d of counter 0, key 0 is wrong", i);
	double sum = 0, square = 0;
	int n = 200000;
	for (int i = 0; i < n; i++) {
		double z = rng_normal(&r) / (double)FIX_ONE;
		sum += z;
		square += z * z;
	}
	CHECK(fabs(sum / n) < 0.01 && fabs(square / n - 1) < 0.015, "normal: mean %g, variance %g", sum / n, square / n);
	for (int i = 0; i < 26 * FIX_ONE; i += 1009) {
		double y = exp(i / (double)FIX_ONE), got = (double)fix_exp(i);
		CHECK(got <= y * (1 + 1e-5) && got > (y - 1) * (1 - 1e-5) - 1e-5, "exp(%g) is %g, not %g", i / 65536.0, got, y);
	}
	for (uint64_t v = 1; v < UINT64_C(1) << 62; v = v * 3 / 2 + 1)
		CHECK(fabs(fix_log(v) / 65536.0 - log((double)v)) < 2e-5, "log(%g) is %g", (double)v, fix_log(v) / 65536.0);
}

static void
test_determinism(void)
{
	CHECK(!run("-o a --posts 500 --users 40 --seed 7"), "run failed");
	/* The same from gcc and clang, -O0 and -O3 -march=native; after a change look at the files, then store the new. */
	unsigned long long posts = hash_file("a/Posts.csv"), users = hash_file("a/Users.csv");
	CHECK(posts == GOLDEN_POSTS, "Posts.csv of seed 7 hashes to 0x%llx", posts);
	CHECK(users == GOLDEN_USERS, "Users.csv of seed 7 hashes to 0x%llx", users);
	CHECK(!run("--seed=7 --users=40 --out=b --posts=500"), "run with = failed");
	CHECK(hash_file("a/Posts.csv") == hash_file("b/Posts.csv"), "two runs differ");
	CHECK(!run("-o b --posts 500 --users 40 --seed 8"), "run over existing files failed");
	CHECK(hash_file("a/Posts.csv") != hash_file("b/Posts.csv"), "seeds 7 and 8 give the same posts");
	CHECK(count_entries("b") == 2, "b holds %d files", count_entries("b"));
}

/* How often each quirk comes. */
typedef struct Quirks {
	int separated, thousands, millions, plain, iso, us, scientific, full_id;
	int empty_description, newline, quote, comma, not_ascii, empty_song, empty_list, bad_json, bad_time, bad_id;
	int zero_length, zero_count, zero_plays;
} Quirks;

static void
count_number(Quirks *q, const char *s)
{
	size_t n = strlen(s);
	q->separated += strchr(s, ',') != NULL;
	q->thousands += n && s[n - 1] == 'K';
	q->millions += n && s[n - 1] == 'M';
	q->plain += n > 4 && strspn(s, "0123456789") == n;
	q->zero_count += !strcmp(s, "0");
}

static void
count_row(Quirks *q, const Table *t, size_t i)
{
	const char *id = cell(t, i, 0), *time = cell(t, i, 2), *text = cell(t, i, 3);
	bool full = strlen(id) == 19 && strspn(id, "0123456789") == 19, iso = has_shape(time, "9999-99-99T99:99:99.000Z");
	json_error_t error;
	json_t *list = json_loads(cell(t, i, 4), 0, &error);
	q->full_id += full;
	q->scientific += strstr(id, "E+18") != NULL;
	q->bad_id += !full && !strstr(id, "E+18");
	q->iso += iso;
	q->us += has_shape(time, "99/99/9999 99:99");
	q->bad_time += !iso && !has_shape(time, "99/99/9999 99:99");
	q->empty_description += !*text;
	q->newline += strchr(text, '\n') != NULL;
	q->quote += strchr(text, '"') != NULL;
	q->comma += strchr(text, ',') != NULL;
	for (const char *p = text; *p; p++)
		if (*p & 0x80) {
			q->not_ascii++;
			break;
		}
	q->bad_json += !json_is_array(list);
	q->empty_list += json_array_size(list) == 0;
	for (size_t k = 0; k < json_array_size(list); k++)
		q->bad_json += !json_is_string(json_array_get(list, k));
	json_decref(list);
	q->empty_song += !*cell(t, i, 5);
	q->zero_length += !strcmp(cell(t, i, 6), "0");
	q->zero_plays += !strcmp(cell(t, i, 7), "0");
	for (size_t k = 7; k < 11; k++)
		count_number(q, cell(t, i, k));
}

static Quirks
count_quirks(const Table *t)
{
	Quirks q = {0};
	for (size_t i = 1; i < t->rows; i++)
		count_row(&q, t, i);
	return q;
}

/* The committed sample is what its README's command gives. root: the folder that the test was started in. */
static void
test_sample(const char *root)
{
	static const char *const name[] = {"Posts.csv", "Users.csv"};
	CHECK(!run("-o sample --posts 2800 --users 150 --seed 1"), "run failed");
	for (size_t i = 0; i < LEN(name); i++) {
		char made[64], kept[4200];
		snprintf(made, sizeof made, "sample/%s", name[i]);
		snprintf(kept, sizeof kept, "%s/models/data/%s", root, name[i]);
		if (access(kept, F_OK))
			skipped++;
		else
			CHECK(hash_file(made) == hash_file(kept), "models/data/%s is stale: models/data/README.md says how to make it", name[i]);
	}
}

static void
test_quirks(void)
{
	CHECK(!run("-o q --posts 8000 --users 300 --seed 2"), "run failed");
	Table posts = read_table("q/Posts.csv", 11), users = read_table("q/Users.csv", 5);
	Quirks q = count_quirks(&posts);
	CHECK(posts.rows == 8001, "%zu rows of posts", posts.rows - 1);
	CHECK(!strcmp(cell(&posts, 0, 6), "Length (seconds)") && !strcmp(cell(&posts, 0, 10), "Shares"), "header of posts");
	CHECK(!strcmp(cell(&users, 0, 1), "Follower Count") && !strcmp(cell(&users, 0, 4), "Total Videos"), "header of users");
	CHECK(!q.bad_json && !q.bad_time && !q.bad_id, "%d lists, %d times, %d IDs are bad", q.bad_json, q.bad_time, q.bad_id);
	const struct { const char *what; int n, least, most; } want[] = {
		{"counts with separators", q.separated, 1000, 8000}, {"counts in K", q.thousands, 200, 4000},
		{"counts in M", q.millions, 5, 2000}, {"plain counts over 9,999", q.plain, 5000, 32000},
		{"ISO dates", q.iso, 6600, 7400}, {"MM/DD/YYYY dates", q.us, 600, 1400},
		{"scientific IDs", q.scientific, 0, 0}, {"empty descriptions", q.empty_description, 300, 900},
		{"descriptions with newlines", q.newline, 50, 2000}, {"with quotes", q.quote, 50, 1000},
		{"with commas", q.comma, 500, 6000}, {"beyond ASCII", q.not_ascii, 2000, 7000},
		{"empty songs", q.empty_song, 5, 100}, {"empty hashtag lists", q.empty_list, 500, 2000},
		{"zero lengths", q.zero_length, 20, 400}, {"zero counts", q.zero_count, 50, 2000},
		{"zero plays", q.zero_plays, 1, 40},
		{"missing users", 300 - (int)(users.rows - 1), 5, 20}, {"user names", (int)count_distinct(&users, 0), 291, 291},
		{"repeated posts", 8000 - (int)count_distinct(&posts, 0), 20, 120},
	};
	for (size_t i = 0; i < LEN(want); i++)
		CHECK(want[i].n >= want[i].least && want[i].n <= want[i].most, "%d %s, not %d to %d", want[i].n, want[i].what,
			want[i].least, want[i].most);
	free_table(&posts);
	free_table(&users);
}

static void
test_options(void)
{
	size_t n, lf = 0, crlf = 0;
	CHECK(!run("-o s --posts 3000 --users 100 --seed 2 --scientific-ids --crlf"), "run failed");
	Table posts = read_table("s/Posts.csv", 11);
	Quirks q = count_quirks(&posts);
	CHECK(q.scientific > 1300 && q.full_id > 1300, "%d scientific IDs, %d full", q.scientific, q.full_id);
	CHECK(!q.bad_id && posts.rows == 3001, "%d bad IDs in %zu rows", q.bad_id, posts.rows - 1);
	char *s = slurp("s/Posts.csv", &n);
	for (size_t i = 1; i < n; i++) {
		crlf += s[i] == '\n' && s[i - 1] == '\r';
		lf += s[i] == '\n' && s[i - 1] != '\r'; /* inside quotes */
	}
	CHECK(crlf == 3001 && lf > 10, "%zu CRLF, %zu LF", crlf, lf);
	free(s);
	free_table(&posts);
	CHECK(!run("-o u --posts 10 --users 100000"), "run failed");
	Table users = read_table("u/Users.csv", 5);
	CHECK(count_distinct(&users, 0) == users.rows - 1, "user names repeat");
	free_table(&users);
	CHECK(!run("-o one --posts 1 --users 1 --seed 18446744073709551615"), "one post of one user failed");
	posts = read_table("one/Posts.csv", 11);
	CHECK(posts.rows == 2, "%zu rows", posts.rows);
	free_table(&posts);
}

/* The number that follows `label` in out.txt. */
static double
printed(const char *out, const char *label, int skip)
{
	const char *p = strstr(out, label);
	double x = NAN;
	if (!p)
		return NAN;
	for (p += strlen(label); skip >= 0; skip--) {
		p += strcspn(p, "0123456789");
		char *end;
		x = strtod(p, &end);
		p = end;
	}
	return x;
}

static void
test_scores(void)
{
	static const char *const content[] = {"\n  text ", "\n  hashtags ", "\n  song "};
	CHECK(!run("-o r --posts 20000 --users 2000 --seed 5"), "run failed");
	char *out = slurp("out.txt", NULL);
	double r2 = printed(out, "  R2 ", 0), auc = printed(out, "ROC-AUC", 0);
	CHECK(r2 > 0.75 && r2 < 0.9, "best R2 is %g", r2);
	CHECK(auc > 0.9 && auc < 0.99, "best ROC-AUC is %g", auc);
	for (size_t i = 0; i < LEN(content); i++) {
		double share = printed(out, content[i], 0), without = printed(out, content[i], 1);
		CHECK(share > 4 && share < 30, "%s has %g %% of the variance", content[i] + 1, share);
		CHECK(without < r2 - 0.04 && without > 0.3, "%s: best R2 without is %g of %g", content[i] + 1, without, r2);
	}
	/* The noise's share of the variance is the gap to 1, but for posts that nobody saw and users not listed. */
	double noise = printed(out, "\n  noise ", 0) / 100;
	CHECK(1 - r2 > noise && 1 - r2 < noise + 0.06, "best R2 %g with %g noise", r2, noise);
	free(out);
}

static int
by_string(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Of the names and the contents of a folder's files; *n: how many, of *bytes each (0: not all alike). */
static uint64_t
hash_folder(const char *dir, int *n, size_t *bytes)
{
	struct dirent **f;
	uint64_t h = HASH_INIT;
	int all = scandir(dir, &f, NULL, by_string);
	*n = 0;
	for (int i = 0; i < all; i++) {
		char path[600];
		size_t k;
		snprintf(path, sizeof path, "%s/%s", dir, f[i]->d_name);
		if (f[i]->d_name[0] != '.') {
			char *s = slurp(path, &k);
			h = hash_bytes(hash_bytes(h, f[i]->d_name, strlen(f[i]->d_name)), s, k);
			*bytes = !*n || *bytes == k ? k : 0;
			++*n;
			free(s);
		}
		free(f[i]);
	}
	free(f);
	return h;
}

#define MEDIA "--posts 30 --users 4 --seed 7 --media --frames 2 --pixels 9 --places 8"
static void
test_media(void)
{
	int n;
	size_t bytes = 0;
	CHECK(!run("-o m " MEDIA), "run failed");
	Table posts = read_table("m/Posts.csv", 11);
	int distinct = (int)count_distinct(&posts, 0);
	free_table(&posts);
	unsigned long long frames = hash_folder("m/frames", &n, &bytes);
	CHECK(frames == GOLDEN_FRAMES && n == distinct && bytes == 128 + 2 * 9 * 9 * 3, "%d files of frames of %zu bytes hash to 0x%llx", n, bytes, frames);
	unsigned long long sound = hash_folder("m/sound", &n, &bytes);
	CHECK(sound == GOLDEN_SOUND && n == distinct && bytes == 128 + 8 * 40 * 4, "%d files of sound of %zu bytes hash to 0x%llx", n, bytes, sound);
	CHECK(count_entries("m") == 4, "m holds %d files", count_entries("m"));
	CHECK(run("-o m " MEDIA) == 2 && count_entries("m") == 4, "folders that are there were written over");
	char *err = slurp("err.txt", NULL);
	CHECK(strstr(err, "m/frames: exists; move it away or choose another folder"), "folders that are there: %s", err);
	free(err);
	CHECK(run_limited("-o cut " MEDIA " --pixels 200", 1 << 15) == 2 && access("cut", F_OK), "a full disk left files behind");
	err = slurp("err.txt", NULL);
	CHECK(strstr(err, "cut/frames/") && strstr(err, "cannot write: File too large"), "a full disk says: %s", err);
	free(err);
}

/* The signal is in the files: the mean of red less blue, and of coefficient 0, follow what the posts were made from. */
static void
test_media_signal(void)
{
	enum { N = 400 };
	static const MediaSize size = {2, 8, 8};
	World *w = world_new(3, 10, true);
	double frames[3] = {0}, sound[3] = {0};
	for (int i = 0; i < N; i++) {
		uint8_t v[2 * 8 * 8 * 3];
		float x[8 * 40];
		double warm = 0, loud = 0, f = effect_of_frames(w, (uint64_t)i) / 65536.0, s = effect_of_sound(w, (uint64_t)i) / 65536.0;
		make_frames(w, (uint64_t)i, &size, v);
		make_sound(w, (uint64_t)i, &size, x);
		for (int k = 0; k < 2 * 8 * 8; k++)
			warm += v[3 * k] - v[3 * k + 2];
		for (int t = 0; t < 8; t++)
			loud += x[40 * t] + 24;
		frames[0] += f * f, frames[1] += f * warm, frames[2] += warm * warm;
		sound[0] += s * s, sound[1] += s * loud, sound[2] += loud * loud;
	}
	double a = frames[1] / sqrt(frames[0] * frames[2]), b = sound[1] / sqrt(sound[0] * sound[2]);
	CHECK(a > 0.6 && a < 0.8, "correlation of warmth and effect: %g, not about 0.7", a); /* half of the variance */
	CHECK(b > 0.6 && b < 0.8, "correlation of loudness and effect: %g, not about 0.7", b);
	world_free(w);
	CHECK(!run("-o r2 --posts 6000 --users 600 --seed 5 --media --frames 1 --pixels 8 --places 8"), "run failed");
	char *out = slurp("out.txt", NULL);
	double r2 = printed(out, "  R2 ", 0), blind = printed(out, "without frames and sound  R2", 0), worth = printed(out, "so they are worth", 0);
	CHECK(r2 > 0.8 && r2 < 0.9 && fabs(r2 - blind - worth) < 2e-4 && worth > 0.15, "best R2 %g, without media %g, worth %g", r2, blind, worth);
	double share = printed(out, "\n  media ", 0) / 100, without = printed(out, "\n  media ", 1);
	CHECK(fabs(share - worth) < 0.02 && fabs(without - blind) < 1e-3, "media have %g of the variance, are worth %g; without %g", share, worth, without);
	free(out);
}

static void
test_errors(void)
{
	static const struct { const char *args, *message; } bad[] = {
		{"", "where to? mmrun synth -o DIR"},
		{"--posts 10", "where to?"},
		{"-o", "--out needs a value: --out DIR"},
		{"-o x --posts", "--posts needs a value: --posts N"},
		{"-o x --posts 0", "--posts takes a whole number from 1 to 20000000, not '0'"},
		{"-o x --posts -3", "not '-3'"},
		{"-o x --posts 1e6", "not '1e6'"},
		{"-o x --users 0", "--users takes a whole number from 1 to 10000000, not '0'"},
		{"-o x --seed 18446744073709551616", "--seed takes a whole number from 0 to 18446744073709551615"},
		{"-o x --seed= ", "--seed takes a whole number"},
		{"-o x --post 3", "unknown option '--post'; did you mean --posts?"},
		{"-o x --sead=3", "unknown option '--sead=3'; did you mean --seed?"},
		{"-o x --zzzzzz", "unknown option '--zzzzzz'; mmrun synth --help lists them"},
		{"-o x --crlf=1", "--crlf takes no value"},
		{"-o x --pixels 16", "--pixels has a meaning only with --media"},
		{"-o x --media --pixels 4", "--pixels takes a whole number from 8 to 512, not '4'"},
		{"x", "'x' is no option; the folder goes after -o"},
		{"-o no/such", "no/such: cannot make the folder: No such file or directory"},
		{"-o out.txt", "out.txt/Posts.csv.tmp."},
		{"-o taken", "taken/Users.csv: exists and is not a file"},
	};
	mkdir("taken", 0777);
	mkdir("taken/Users.csv", 0777);
	for (size_t i = 0; i < LEN(bad); i++) {
		int code = run(bad[i].args);
		size_t n;
		char *err = slurp("err.txt", &n), *out = slurp("out.txt", NULL);
		CHECK(code == 2, "'%s' exits with %d", bad[i].args, code);
		CHECK(strstr(err, bad[i].message) && !strncmp(err, "mmrun synth: ", 13), "'%s' says: %s", bad[i].args, err);
		CHECK(n && strchr(err, '\n') == err + n - 1 && !*out, "'%s' says more than one line", bad[i].args);
		free(err);
		free(out);
	}
	CHECK(access("x", F_OK) && errno == ENOENT, "a folder was made in spite of an error");
	CHECK(count_entries("taken") == 1, "files were left in 'taken'");
}

/* A disk that fills up leaves the old files as they were, or no folder at all. */
static void
test_full_disk(void)
{
	uint64_t before = hash_file("a/Posts.csv");
	CHECK(run_limited("-o a --posts 50000", 1 << 20) == 2, "a file over the limit was written");
	char *err = slurp("err.txt", NULL);
	CHECK(strstr(err, "a/Posts.csv: cannot write: File too large"), "a full disk says: %s", err);
	free(err);
	CHECK(hash_file("a/Posts.csv") == before && count_entries("a") == 2, "a full disk changed the old files");
	CHECK(run_limited("-o fresh --posts 50000", 1 << 20) == 2, "a file over the limit was written");
	CHECK(access("fresh", F_OK), "the new folder was left behind");
}

static void
test_help(void)
{
	static const char *const what[] = {"usage: mmrun synth -o DIR", "-o, --out DIR", "--posts N", "--users M", "--seed S",
		"--scientific-ids", "--crlf", "--media", "--frames N", "--pixels N", "--places N", "-h, --help"};
	CHECK(!run("--help") && !run("-o x -h"), "--help fails");
	char *out = slurp("out.txt", NULL);
	for (size_t i = 0; i < LEN(what); i++)
		CHECK(strstr(out, what[i]), "--help does not say %s", what[i]);
	for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n"))
		CHECK(strlen(line) <= 110, "a line of --help is %zu wide", strlen(line));
	free(out);
	CHECK(access("x", F_OK), "--help made a folder");
}

int
main(void)
{
	char dir[] = "/tmp/synth_test.XXXXXX", command[64], root[4096];
	if (!getcwd(root, sizeof root) || !mkdtemp(dir) || chdir(dir)) {
		perror(dir);
		return 1;
	}
	test_rng();
	test_determinism();
	test_sample(root);
	test_quirks();
	test_options();
	test_scores();
	test_media();
	test_media_signal();
	test_errors();
	test_full_disk();
	test_help();
	snprintf(command, sizeof command, "rm -rf %s", dir);
	if (chdir("/") || system(command))
		printf("%s: cannot remove\n", dir);
	printf("%d passed, %d failed", passed, failed);
	if (skipped)
		printf(", %d skipped", skipped);
	putchar('\n');
	return failed > 0;
}
