/* Checkpoints (safetensors) and the kernel cache: round trips, exact bytes, hostile files, full disks, kills. */
#define _GNU_SOURCE
#include "../runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed, skipped;
static char dir[64] = "/tmp/checkpoint_test.XXXXXX"; /* of this run */

static bool
check(bool ok, int line, const char *fmt, ...)
{
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	va_list ap;
	va_start(ap, fmt);
	printf("%s:%d: ", __FILE__, line);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	return false;
}
#define CHECK(x) check((x), __LINE__, "%s", #x)
#define CHECK_FAIL(call, want)                                                                      \
	do {                                                                                        \
		Err e = {0};                                                                        \
		bool ok_ = (call);                                                                  \
		check(!ok_ && strstr(e.msg, (want)), __LINE__, "expected \"%s\", got \"%s\"", (want), e.msg); \
	} while (0)

static Arena arena;
static char *in_dir(const char *name) { return arena_printf(&arena, "%s/%s", dir, name); }
static bool exists(const char *path) { return !access(path, F_OK); }

static bool
opens(const char *path, Err *e)
{
	Checkpoint c;
	bool ok = checkpoint_open(path, &c, e);
	if (ok)
		checkpoint_close(&c);
	else
		ok = c.owner || c.ntensor; /* must be false: nothing may be left */
	return ok;
}

/* ---- writing ---- */

static void
test_round_trip(void)
{
	enum { N = NDTYPE + 3 };
	static const int64_t dim[3] = {2, 3, 5}, none[2] = {4, 0};
	static uint8_t data[N][256];
	static const char *const meta[] = {"epoch", "3", "note \"\xc3\xa9\"", "line\nline"};
	Tensor t[N];
	Arena a = {0};
	char *path = in_dir("round.safetensors");
	Err e = {0};
	Checkpoint c;
	for (uint32_t i = 0; i < N; i++) {
		DType d = i < NDTYPE ? (DType)i : DT_F32;
		for (size_t k = 0; k < sizeof data[i]; k++)
			data[i][k] = (uint8_t)(k * 7 + i);
		t[i] = (Tensor){arena_printf(&a, "text.blocks.%u.\xe2\x82\xac", i), d, 3, dim, data[i], 30 * dtype_bytes(d)};
	}
	t[NDTYPE].ndim = 0, t[NDTYPE].bytes = 4;                                                    /* a scalar */
	t[NDTYPE + 1].ndim = 2, t[NDTYPE + 1].dim = none, t[NDTYPE + 1].bytes = 0, t[NDTYPE + 1].data = NULL;
	t[NDTYPE + 2].name = "";
	CHECK(checkpoint_write(path, t, N, meta, 2, &e));
	if (!check(checkpoint_open(path, &c, &e), __LINE__, "open: %s", e.msg))
		return;
	CHECK(c.ntensor == N && c.nmeta == 2);
	for (uint32_t i = 0; i < c.ntensor && i < N; i++) {
		const Tensor *r = checkpoint_find(&c, t[i].name);
		check(r == &c.tensor[i] && r->dtype == t[i].dtype && r->ndim == t[i].ndim && r->bytes == t[i].bytes &&
		      !memcmp(r->dim, t[i].ndim ? t[i].dim : r->dim, r->ndim * sizeof *r->dim) &&
		      (!r->bytes || !memcmp(r->data, t[i].data, r->bytes)), __LINE__, "tensor %u", i);
	}
	CHECK(!strcmp(checkpoint_meta(&c, "epoch"), "3") && !strcmp(checkpoint_meta(&c, meta[2]), meta[3]));
	CHECK(!checkpoint_find(&c, "absent") && !checkpoint_meta(&c, "absent"));
	checkpoint_close(&c);
	CHECK(!exists(in_dir("round.safetensors.tmp")));
	arena_free(&a);
}

static void
test_bytes(void)
{
	static const int64_t d1[] = {2}, d2[] = {1, 3};
	static float w[] = {1, -2};
	static uint8_t b[] = {1, 0, 1};
	static const char *const meta[] = {"k", "v"};
	Tensor t[] = {{"z.w", DT_F32, 1, d1, w, 8}, {"a", DT_BOOL, 2, d2, b, 3}};
	const char *header = "{\"__metadata__\":{\"k\":\"v\"},\"z.w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
	                     "\"a\":{\"dtype\":\"BOOL\",\"shape\":[1,3],\"data_offsets\":[8,11]}}";
	char *path = in_dir("bytes.safetensors"), *s = NULL;
	size_t n = 0, len = strlen(header);
	Err e = {0};
	CHECK(checkpoint_write(path, t, 2, meta, 1, &e) && read_file(path, &s, &n, &e));
	CHECK(n == 8 + (len + 7) / 8 * 8 + 11 && (uint8_t)s[0] == (len + 7) / 8 * 8 && !s[1] && !s[7]);
	CHECK(!memcmp(s + 8, header, len) && !memcmp(s + n - 11, "\0\0\x80\x3f\0\0\0\xc0\1\0\1", 11));
	for (size_t i = 8 + len; i < n - 11; i++)
		CHECK(s[i] == ' ');
	free(s);
	CHECK(checkpoint_write(path, NULL, 0, NULL, 0, &e) && read_file(path, &s, &n, &e) && n == 16 && !memcmp(s + 8, "{}      ", 8));
	CHECK(opens(path, &e));
	free(s);

	CHECK_FAIL(checkpoint_write(path, (Tensor[]){t[0], t[0]}, 2, NULL, 0, &e), "bytes.safetensors: cannot write the checkpoint: tensor z.w: the name is taken");
	t[0].bytes = 12;
	CHECK_FAIL(checkpoint_write(path, t, 2, NULL, 0, &e), "tensor z.w: its type and shape do not make 12 bytes");
	t[0].bytes = 8, t[0].name = "\xff";
	CHECK_FAIL(checkpoint_write(path, t, 2, NULL, 0, &e), "not UTF-8");
	t[0].name = "__metadata__";
	CHECK_FAIL(checkpoint_write(path, t, 2, NULL, 0, &e), "the name is taken");
	t[0].name = "w", t[0].dtype = NDTYPE;
	CHECK_FAIL(checkpoint_write(path, t, 2, NULL, 0, &e), "its type and shape");
	CHECK_FAIL(checkpoint_write(path, NULL, 0, (const char *[]){"a", "1", "a", "2"}, 2, &e), "two metadata entries are named a");
	CHECK_FAIL(checkpoint_write(path, NULL, 0, (const char *[]){"a", "\xff"}, 1, &e), "metadata a is not UTF-8");
	CHECK(opens(path, &e)); /* none of them touched it */
}

/* The other direction: what Python's safetensors reads from our file and writes for us. */
static void
test_python(void)
{
	if (system("python3 -c 'import safetensors.numpy' 2>/dev/null")) {
		skipped++;
		return;
	}
	static const int64_t dim[] = {2, 2};
	static float w[] = {1, 2, 3, 4};
	Tensor t = {"layer.w", DT_F32, 2, dim, w, 16};
	Err e = {0};
	Checkpoint c;
	char *ours = in_dir("ours.safetensors"), *theirs = in_dir("theirs.safetensors");
	CHECK(checkpoint_write(ours, &t, 1, (const char *[]){"k", "v"}, 1, &e));
	char *cmd = arena_printf(&arena, "python3 -c 'from safetensors.numpy import *\nimport sys\nd = load_file(sys.argv[1])\n"
	                         "assert d[\"layer.w\"].tolist() == [[1, 2], [3, 4]]\n"
	                         "save_file({\"b\": d[\"layer.w\"] * 2}, sys.argv[2], {\"who\": \"python\"})' %s %s", ours, theirs);
	CHECK(!system(cmd));
	if (CHECK(checkpoint_open(theirs, &c, &e))) {
		const Tensor *r = checkpoint_find(&c, "b");
		CHECK(r && r->bytes == 16 && !memcmp(r->data, (float[]){2, 4, 6, 8}, 16) && !strcmp(checkpoint_meta(&c, "who"), "python"));
		checkpoint_close(&c);
	}
}

/* ---- hostile files ---- */

static char *
put_file(uint64_t length, const char *header, size_t nheader, size_t ndata)
{
	char *path = in_dir("hostile.safetensors");
	Err e = {0};
	Text t = {0};
	text_add(&t, &length, 8);
	text_add(&t, header, nheader);
	for (size_t i = 0; i < ndata; i++)
		text_add(&t, "x", 1);
	CHECK(write_file_atomic(path, t.s, t.n, 0600, &e));
	free(t.s);
	return path;
}

#define T(name, dtype, shape, from, to) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"

static void
test_hostile(void)
{
	static const struct {
		const char *header, *want; /* want NULL: good */
		size_t ndata;
	} row[] = {
		{"{" T("a", "F32", "2", "0", "8") "}   ", NULL, 8},
		{"{" T("b", "U8", "3", "8", "11") "," T("a", "F32", "2", "0", "8") "}", NULL, 11},
		{"{" T("a", "F32", "2", "0", "8") "}", "tensor a: data_offsets 0 .. 8 are not inside the 7 bytes", 7},
		{"{" T("a", "F32", "2", "0", "8") "}", "1 bytes follow the last tensor a", 9},
		{"{" T("a", "F32", "3", "0", "8") "}", "tensor a: 8 bytes of data for a shape of 12", 8},
		{"{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "2", "6") "}", "tensor b overlaps tensor a", 6},
		{"{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "0", "4") "}", "overlaps tensor", 4},
		{"{" T("a", "F32", "1", "0", "4") "," T("b", "F32", "1", "5", "9") "}", "a gap of 1 bytes before tensor b", 9},
		{"{" T("a", "F32", "1", "4", "8") "}", "a gap of 4 bytes before tensor a", 8},
		{"{" T("a", "F32", "1", "0", "4") "," T("a", "F32", "1", "4", "8") "}", "duplicate object key near '\"a\"'", 8},
		{"{" T("a", "F32", "4294967296,4294967296", "0", "0") "}", "tensor a: shape: more elements than", 0},
		{"{" T("a", "F32", "4611686018427387904", "0", "0") "}", "tensor a: shape: more elements than", 0},
		{"{" T("a", "F32", "-1", "0", "4") "}", "tensor a: shape: dimension 1", 4},
		{"{" T("a", "F32", "1.0", "0", "4") "}", "tensor a: shape: dimension 1", 4},
		{"{" T("a", "F32", "1", "-4", "0") "}", "tensor a: data_offsets -4 .. 0", 4},
		{"{" T("a", "F32", "1", "4", "0") "}", "tensor a: data_offsets 4 .. 0", 4},
		{"{" T("a", "F32", "1", "0", "99999999999999999999") "}", "too big integer", 4},
		{"{" T("a", "F32", "1", "0", "9223372036854775807") "}", "tensor a: data_offsets 0 ..", 4},
		{"{" T("a", "F64", "1", "0", "8") "}", "tensor a: dtype F64 is not one of", 8},
		{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "tensor a: no dtype", 4},
		{"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "tensor a: no shape", 4},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", "tensor a: data_offsets are not two integers", 4},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", "tensor a: data_offsets are not", 4},
		{"{\"a\":17}", "tensor a: no dtype", 0},
		{"{\"a\\u001b[31m\":17}", "tensor a?[31m: no dtype", 0},
		{"{\"a\\u0000\":17}", "header, byte", 0},
		{"{\"__metadata__\":[]}", "__metadata__ is not an object", 0},
		{"{\"__metadata__\":{\"k\":1}}", "__metadata__: k is not a string", 0},
		{"{\"a\":", "header, byte", 0},
		{"{} x", "header, byte", 0},
		{"{\"\xff\":1}", "header, byte", 0},
		{"[]", "not a safetensors file", 0},
		{"{", "not a safetensors file", 0},
		{"", "not a safetensors file", 0},
	};
	for (size_t i = 0; i < LEN(row); i++) {
		Err e = {0};
		size_t n = strlen(row[i].header);
		bool ok = opens(put_file(n, row[i].header, n, row[i].ndata), &e);
		check(row[i].want ? !ok && strstr(e.msg, row[i].want) && strstr(e.msg, "hostile.safetensors: ") : ok, __LINE__,
		      "row %zu: expected \"%s\", got \"%s\"", i, row[i].want ? row[i].want : "", e.msg);
	}
	CHECK_FAIL(opens(put_file(3, "{}", 2, 0), &e), "a header of 3 bytes in a file of 10");
	CHECK_FAIL(opens(put_file(UINT64_MAX, "{}", 2, 0), &e), "not a safetensors file");
	CHECK_FAIL(opens(put_file(UINT64_MAX - 7, "{}", 2, 0), &e), "not a safetensors file");
	CHECK_FAIL(opens("/dev/null", &e), "not a file");
	CHECK_FAIL(opens(dir, &e), "not a file");
	CHECK_FAIL(opens(in_dir("absent"), &e), "cannot open: No such file");
	char *deep = arena_alloc(&arena, 100001);
	memset(deep, '[', 100000);
	memcpy(deep, "{\"a\":", 5);
	CHECK_FAIL(opens(put_file(100000, deep, 100000, 0), &e), "header, byte");
}

/* Every length and every single byte of a small file: no crash; cut or overwritten headers do not open as something else. */
static void
test_damage(void)
{
	char *s = NULL, *path = in_dir("damage.safetensors"), *bad = in_dir("bad.safetensors");
	static const int64_t dim[] = {3};
	static float w[3];
	Tensor t = {"dense.w", DT_F32, 1, dim, w, 12};
	size_t n = 0, opened = 0;
	Err e = {0};
	CHECK(checkpoint_write(path, &t, 1, NULL, 0, &e) && read_file(path, &s, &n, &e));
	for (size_t i = 0; i < n; i++) {
		Err ignored = {0};
		CHECK(write_file_atomic(bad, s, i, 0600, &e));
		opened += opens(bad, &ignored);
	}
	check(!opened, __LINE__, "%zu cut files opened", opened);
	for (size_t i = 0; i < n; i++)
		for (unsigned x = 1; x < 256; x = x * 3 + 2) {
			Err ignored = {0};
			FILE *f = fopen(bad, "wb");
			s[i] = (char)((unsigned char)s[i] ^ x);
			fwrite(s, 1, n, f);
			fclose(f);
			s[i] = (char)((unsigned char)s[i] ^ x);
			opened += opens(bad, &ignored) && i < 8;
		}
	check(!opened, __LINE__, "%zu files with another header length opened", opened);
	free(s);
}

/* ---- when the system says no ---- */

static int64_t big_dim[1] = {100000};
static float big[100000];

static bool
write_big(const char *path, float value, Err *e)
{
	for (size_t i = 0; i < LEN(big); i++)
		big[i] = value;
	Tensor t = {"big", DT_F32, 1, big_dim, big, sizeof big};
	return checkpoint_write(path, &t, 1, NULL, 0, e);
}

/* The value that the checkpoint at path holds throughout, or -1. */
static float
read_big(const char *path)
{
	Checkpoint c;
	Err e = {0};
	if (!checkpoint_open(path, &c, &e))
		return -1;
	const Tensor *t = checkpoint_find(&c, "big");
	const float *v = t->data;
	float value = v[0];
	for (int64_t i = 1; i < t->dim[0]; i++)
		value = v[i] == v[0] ? value : -1;
	checkpoint_close(&c);
	return value;
}

/* Runs f in a child, since limits and mounts are the process's; it returns the number of its failures, 100: cannot test. */
static void
in_child(int (*f)(void), int line)
{
	int status = 0;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		int n = f();
		fflush(stdout);
		_exit(n);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 100)
		skipped++;
	else
		check(WIFEXITED(status) && !WEXITSTATUS(status), line, "child ended with status %x", status);
}

static int
child_limit(void)
{
	char *path = in_dir("limit.safetensors");
	failed = 0;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, 100000});
	CHECK_FAIL(write_big(path, 2, &e), "cannot write the checkpoint of 400080 bytes: File too large");
	CHECK(!exists(in_dir("limit.safetensors.tmp")) && read_big(path) == 1);
	return failed;
}

static int
child_full(void)
{
	char *mnt = in_dir("full"), *path = in_dir("full/c.safetensors");
	Err e = {0};
	failed = 0;
	mkdir(mnt, 0700);
	if (unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) || mount("none", mnt, "tmpfs", 0, "size=600k"))
		return 100;
	CHECK(write_big(path, 1, &e));
	CHECK_FAIL(write_big(path, 2, &e), "it needs 400080 bytes, 2");
	CHECK(!exists(in_dir("full/c.safetensors.tmp")) && read_big(path) == 1);
	return failed;
}

static void
test_refused(void)
{
	char *path = in_dir("limit.safetensors"), *sub = in_dir("readonly"), *locked = in_dir("readonly/c.safetensors");
	Err e = {0};
	CHECK(write_big(path, 1, &e));
	in_child(child_limit, __LINE__);
	in_child(child_full, __LINE__);

	CHECK(!mkdir(sub, 0755) && write_big(locked, 1, &e) && !chmod(sub, 0555) && !chmod(dir, 0755));
	bool root = !geteuid();
	if (root && seteuid(65534))
		skipped++;
	else
		CHECK_FAIL(write_big(locked, 2, &e), "cannot write the checkpoint of 400080 bytes: cannot create");
	if (root)
		CHECK(!seteuid(0));
	CHECK(!chmod(sub, 0755) && read_big(locked) == 1 && !exists(in_dir("readonly/c.safetensors.tmp")));

	CHECK_FAIL(write_big(in_dir("no/such/c.safetensors"), 1, &e), "No such file");
	CHECK(!mkdir(in_dir("folder"), 0755) && !mkdir(in_dir("folder/x"), 0755));
	CHECK_FAIL(write_big(in_dir("folder"), 1, &e), "cannot write the checkpoint of 400080 bytes: ");
	CHECK(!exists(in_dir("folder.tmp")));

	int fd = open(in_dir("limit.safetensors.tmp"), O_WRONLY | O_CREAT, 0600);
	CHECK(!flock(fd, LOCK_EX));
	CHECK_FAIL(write_big(path, 2, &e), "another process is writing it");
	CHECK(exists(in_dir("limit.safetensors.tmp")) && read_big(path) == 1);
	CHECK(write(fd, big, 1000) == 1000);
	close(fd); /* now it is what a killed process left */
	CHECK(write_big(path, 3, &e) && read_big(path) == 3 && !exists(in_dir("limit.safetensors.tmp")));
	CHECK(!symlink(path, in_dir("link.safetensors.tmp")));
	CHECK_FAIL(write_big(in_dir("link.safetensors"), 4, &e), "cannot create");
	CHECK(read_big(path) == 3);
}

static void
test_kill(void)
{
	char *path = in_dir("kill.safetensors");
	Err e = {0};
	int torn = 0;
	CHECK(write_big(path, 1, &e));
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		if (!pid)
			for (int k = 1;; k++)
				write_big(path, (float)k, &e);
		usleep((useconds_t)(1000 + 1700 * i));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		torn += read_big(path) < 1;
	}
	check(!torn, __LINE__, "%d of 20 killed writers left a torn checkpoint", torn);
	CHECK(write_big(path, 7, &e) && read_big(path) == 7 && !exists(in_dir("kill.safetensors.tmp")));
}

/* ---- kernel cache ---- */

static bool
get_is(const char *key, const char *suffix, const char *want)
{
	char *s = NULL;
	size_t n = 0;
	bool ok = kernel_cache_get(key, suffix, &s, &n);
	if (want)
		ok = ok && n == strlen(want) && !memcmp(s, want, n + 1);
	free(s);
	return want ? ok : !ok;
}

static size_t
count_damaged(const char *path, const char *suffix)
{
	char *s;
	size_t n, found = 0;
	Err e = {0};
	if (!CHECK(read_file(path, &s, &n, &e)))
		return 1;
	for (size_t i = 0; i < n; i++) {
		s[i] ^= 1;
		CHECK(write_file_atomic(path, s, n, 0600, &e));
		found += !get_is("ab12", suffix, NULL);
		s[i] ^= 1;
		CHECK(write_file_atomic(path, s, i, 0600, &e));
		found += !get_is("ab12", suffix, NULL);
	}
	CHECK(write_file_atomic(path, s, n, 0600, &e));
	free(s);
	return found;
}

static void
test_cache(void)
{
	char *cache = in_dir("a/b/cache"), *entry, *so, *s;
	struct stat st;
	size_t n;
	Err e = {0};
	setenv("MMC_CACHE", cache, 1);
	CHECK(get_is("ab12", ".cubin", NULL) && !exists(in_dir("a"))); /* a lookup makes nothing */
	CHECK(kernel_cache_put("ab12", ".cubin", "code", 4, &e) && get_is("ab12", ".cubin", "code"));
	CHECK(kernel_cache_put("ab12", ".so", "object", 6, &e) && get_is("ab12", ".so", "object"));
	CHECK(kernel_cache_put("ab12", ".cubin", "", 0, &e) && get_is("ab12", ".cubin", ""));
	CHECK(kernel_cache_put("ab12", ".cubin", "newer", 5, &e) && get_is("ab12", ".cubin", "newer"));
	CHECK(get_is("ab13", ".cubin", NULL) && get_is("ab12", ".ptx", NULL));
	CHECK(!stat(cache, &st) && (st.st_mode & 0777) == 0700 && !stat(in_dir("a"), &st) && (st.st_mode & 0777) == 0700);
	entry = kernel_cache_path("ab12", ".cubin", &e);
	so = kernel_cache_path("ab12", ".so", &e);
	CHECK(read_file(so, &s, &n, &e) && n == 6 && !memcmp(s, "object", 6)); /* raw, for dlopen */
	free(s);
	CHECK(!count_damaged(entry, ".cubin") && !count_damaged(so, ".so") && !count_damaged(in_dir("a/b/cache/ab12.so.sum"), ".so"));
	CHECK(get_is("ab12", ".cubin", "newer") && get_is("ab12", ".so", "object"));
	CHECK(!unlink(in_dir("a/b/cache/ab12.so.sum")) && get_is("ab12", ".so", NULL));

	CHECK(!chmod(entry, 0622) && get_is("ab12", ".cubin", NULL) && !chmod(entry, 0600));
	CHECK(!mkfifo(in_dir("a/b/cache/cd.cubin"), 0600) && get_is("cd", ".cubin", NULL));
	CHECK(!symlink(entry, in_dir("a/b/cache/ef.cubin")) && get_is("ef", ".cubin", NULL));
	CHECK(!chmod(cache, 0770) && get_is("ab12", ".cubin", NULL));
	CHECK_FAIL(kernel_cache_put("ab12", ".cubin", "evil", 4, &e), "others can write to it: chmod 700");
	CHECK(!chmod(cache, 0700) && get_is("ab12", ".cubin", "newer"));
	if (!geteuid() && !chown(cache, 65534, 0)) {
		CHECK(get_is("ab12", ".cubin", NULL));
		CHECK_FAIL(kernel_cache_put("ab12", ".cubin", "evil", 4, &e), "belongs to another user");
		CHECK(!chown(cache, 0, 0));
	} else {
		skipped++;
	}
	CHECK(!symlink(cache, in_dir("link")) && !setenv("MMC_CACHE", in_dir("link"), 1) && get_is("ab12", ".cubin", NULL));
	CHECK_FAIL(kernel_cache_put("ab12", ".cubin", "x", 1, &e), "or a link to one");
	setenv("MMC_CACHE", cache, 1);
	CHECK_FAIL(kernel_cache_put("../x", ".cubin", "x", 1, &e), "is not a hexadecimal key");
	CHECK_FAIL(kernel_cache_put("", ".cubin", "x", 1, &e), "is not a hexadecimal key");
	CHECK_FAIL(kernel_cache_put("ab", "/../x", "x", 1, &e), "is not a hexadecimal key");
	CHECK_FAIL(kernel_cache_put("ab", "", "x", 1, &e), "is not a hexadecimal key");
	free(entry);
	free(so);

	static const char *const row[][4] = { /* MMC_CACHE, XDG_CACHE_HOME, HOME, path */
		{"/m", "/x", "/h", "/m/ab.so"}, {"", "/x", "/h", "/x/mmc/ab.so"}, {"", "x", "/h", "/h/.cache/mmc/ab.so"},
		{"", "", "/h", "/h/.cache/mmc/ab.so"},
	};
	for (size_t i = 0; i < LEN(row); i++) {
		setenv("MMC_CACHE", row[i][0], 1);
		setenv("XDG_CACHE_HOME", row[i][1], 1);
		setenv("HOME", row[i][2], 1);
		s = kernel_cache_path("ab", ".so", &e);
		CHECK(s && !strcmp(s, row[i][3]));
		free(s);
	}
	unsetenv("HOME");
	CHECK_FAIL(kernel_cache_path("ab", ".so", &e), "set MMC_CACHE or HOME");
}

int
main(void)
{
	CHECK(mkdtemp(dir));
	test_round_trip();
	test_bytes();
	test_python();
	test_hostile();
	test_damage();
	test_refused();
	test_kill();
	test_cache();
	CHECK(!system(arena_printf(&arena, "rm -rf '%s'", dir)));
	arena_free(&arena);
	printf("%d passed, %d failed", passed, failed);
	if (skipped)
		printf(", %d skipped", skipped);
	putchar('\n');
	return failed != 0;
}
