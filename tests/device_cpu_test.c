/* The CPU as a device: its threads; when the C compiler is called, and what of it is kept. */
#define _GNU_SOURCE
#include "check_device.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Pieces {
	int count[300];
	int late; /* microseconds that the first piece takes */
} Pieces;

static void
count_pieces(void *ctx, int64_t lo, int64_t hi)
{
	Pieces *p = ctx;
	if (lo == 0 && p->late)
		usleep((useconds_t)p->late);
	for (int64_t i = lo; i < hi; i++)
		p->count[i]++;
}

/* Each piece of a run is done once and before the run returns, whether threads are at work, look for it or sleep. */
static void
test_pool(int threads, int runs)
{
	Err e = {0};
	CpuPool *pool = cpu_pool_open(threads, &e);
	int wrong = 0;
	CHECK_SAYS(pool != NULL, "%s", e.msg);
	for (int r = 0; pool && r < runs; r++) {
		Pieces p = {.late = r % 1000 == 1 ? 300 : 0};
		int n = r % 7 ? r * 37 % 300 : r % 3;
		if (r % 1000 == 0)
			usleep(300);
		cpu_pool_run(pool, count_pieces, &p, n);
		for (int i = 0; i < 300; i++)
			wrong += p.count[i] != (i < n);
	}
	CHECK_SAYS(!wrong, "%d threads: %d pieces are not done once", threads, wrong);
	cpu_pool_close(pool);
}

/* ---- the C compiler ---- */

/* $CC is a script that notes each call and then fails or compiles. */
static void
write_script(const char *path, const char *text)
{
	Err e = {0};
	CHECK_SAYS(write_file_atomic(path, text, strlen(text), 0700, &e), "%s", e.msg);
}

static int
count_lines(const char *path)
{
	char *s;
	size_t n;
	int lines = 0;
	Err e = {0};
	if (!read_file(path, &s, &n, &e))
		return 0;
	for (size_t i = 0; i < n; i++)
		lines += s[i] == '\n';
	free(s);
	return lines;
}

static bool
prepare_counted(int threads, const char *source)
{
	Prog g;
	Err e = {0};
	Device *d = device_cpu_open(threads, &e);
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "count", prog_module(&g, source, ""), 1, 1);
	prog_kernel(&g, "saxpy", prog_module(&g, saxpy_c, ""), 1, 1);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	prog_alloc(&g, d);
	Exec *x = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	bool ok = x && d->run(d, x, 1, &e);
	if (!ok)
		printf("%s\n", e.msg);
	d->drop(d, x);
	prog_free(&g, d);
	d->close(d);
	return ok;
}

static void
test_compiler(const char *dir)
{
	char path[600], log[600], text[2000];
	char *old = getenv("CC") ? xstrdup(getenv("CC")) : NULL;
	Err e = {0};
	Device *d = device_cpu_open(1, &e);
	Prog g;
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "count", prog_module(&g, count_c, ""), 1, 1);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	setenv("CC", "/nonexistent/compiler", 1);
	FAILS(d, &g, "/nonexistent/compiler", "install the package gcc");
	d->close(d);

	snprintf(path, sizeof path, "%s/cc", dir);
	snprintf(log, sizeof log, "%s/calls", dir);
	snprintf(text, sizeof text, "#!/bin/sh\ncase \"$*\" in *--version*) echo test compiler 1; exit;; esac\necho call >> '%s'\nexec %s \"$@\"\n", log,
	         old && *old ? old : "cc");
	write_script(path, text);
	setenv("CC", path, 1);
	CHECK_SAYS(prepare_counted(1, count_c) && count_lines(log) == 2, "two modules took %d compilations", count_lines(log));
	CHECK_SAYS(prepare_counted(2, count_c) && count_lines(log) == 2, "a warm cache took %d compilations", count_lines(log));
	snprintf(text, sizeof text, "%s/* changed */\n", count_c);
	CHECK_SAYS(prepare_counted(1, text) && count_lines(log) == 3, "one changed module: %d compilations", count_lines(log));
	snprintf(text, sizeof text, "#!/bin/sh\ncase \"$*\" in *--version*) echo test compiler 2; exit;; esac\necho call >> '%s'\nexec %s \"$@\"\n", log,
	         old && *old ? old : "cc");
	write_script(path, text);
	CHECK_SAYS(prepare_counted(1, count_c) && count_lines(log) == 5, "a new compiler: %d compilations", count_lines(log));
	setenv("MMC_CACHE", path, 1); /* a file: cannot be a folder, not even for root */
	CHECK_SAYS(prepare_counted(1, count_c) && count_lines(log) == 7, "no cache: %d compilations", count_lines(log));
	setenv("MMC_CACHE", dir, 1);
	if (old)
		setenv("CC", old, 1);
	else
		unsetenv("CC");
	free(old);
}

int
main(void)
{
	const char *dir = make_folder();
	Err e = {0};
	setenv("MMC_CACHE", dir, 1);
	test_pool(1, 100);
	test_pool(2, 20000);
	test_pool(7, 5000); /* more than cores: nobody waits for who has not begun */
	test_compiler(dir);
	CHECK_SAYS(!device_cpu_open(-1, &e) && e.set, "-1 threads are accepted");
	return check_end();
}
