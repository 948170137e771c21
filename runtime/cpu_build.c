/* C modules to code: the kernel cache, else the system's C compiler, several modules at once, each in its own process.

   The key holds all that decides the code: source, compiler version, flags, CPU. Shared objects are loaded from the cache; where
   the cache cannot be written, from the private folder in which they were compiled. Sources and messages pass through memory files,
   so that a killed process leaves at most that folder behind. */
#define _GNU_SOURCE
#include "cpu_api.h"

#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL_VERSION "cpu 2" /* of the kernel calling convention: void name(void *const *arg, int64_t lo, int64_t hi) */
#define MAX_WORDS 16         /* in $CC, as in "ccache gcc" */

/* No -ffast-math: NaN, infinity and the order of sums are part of the result. errno is not. No contraction to FMA: what it gives depends on what stands
   beside a product, and a value that is computed twice must be the same both times. */
static const char *const flags[] = {"-std=c17", "-O3", "-fopenmp-simd", "-DMM_SIMD", "-fno-math-errno", "-ffp-contract=off", "-fPIC", "-shared", "-w"};

typedef struct Job {
	uint32_t module;
	CacheKey key;
	char *so;    /* path in the private folder */
	int err;     /* memory file with the compiler's messages */
	pid_t pid;   /* while it runs */
} Job;

/* Lines of /proc/cpuinfo that say what -march=native means here. */
static char *
cpu_id(void)
{
	static const char *const names[] = {"model name", "flags", "Features", "CPU implementer", "CPU part", "isa"};
	bool seen[LEN(names)] = {0};
	Text t = {0};
	char *line = NULL;
	size_t cap = 0;
	FILE *f = fopen("/proc/cpuinfo", "r");
	while (f && getline(&line, &cap, f) > 0)
		for (size_t i = 0; i < LEN(names); i++)
			if (!seen[i] && !strncmp(line, names[i], strlen(names[i]))) {
				seen[i] = true;
				text_puts(&t, line);
			}
	free(line);
	if (f)
		fclose(f);
	text_puts(&t, "");
	return t.s;
}

/* -march=native is what the machine has; an emulator around this process (valgrind) may have less, and shows it only
   through cpuid. */
static const char *
arch_flag(const char *cpu)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (strstr(cpu, " avx512f") && !__builtin_cpu_supports("avx512f"))
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "-march=x86-64-v3" : "-march=x86-64";
#endif
	(void)cpu;
	return "-march=native";
}

/* A file in memory that a child can read or write through its standard streams. */
static int
memory_file(const char *text, Err *e)
{
	int fd = memfd_create("mmc", MFD_CLOEXEC);
	size_t n = strlen(text);
	if (fd >= 0 && write(fd, text, n) == (ssize_t)n && !lseek(fd, 0, SEEK_SET))
		return fd;
	fail(e, "cannot make a memory file of %zu bytes: %s", n, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What a child wrote; malloced. */
static char *
memory_text(int fd)
{
	char buf[4096];
	Text t = {0};
	ssize_t n;
	lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, buf, sizeof buf)) > 0)
		text_add(&t, buf, (size_t)n);
	text_puts(&t, "");
	return t.s;
}

static const char *
compiler(void)
{
	const char *cc = getenv("CC");
	return cc && *cc ? cc : "cc";
}

/* Starts the compiler with more arguments and these standard streams. */
static bool
spawn(char *const *more, int in, int out, int err, pid_t *pid, Err *e)
{
	const int stream[] = {in, out, err};
	char *cc = xstrdup(compiler()), *save = NULL, *argv[MAX_WORDS + 32];
	int n = 0, rc;
	for (char *w = strtok_r(cc, " \t", &save); w && n < MAX_WORDS; w = strtok_r(NULL, " \t", &save))
		argv[n++] = w;
	while (*more && n < MAX_WORDS + 31)
		argv[n++] = *more++;
	argv[n] = NULL;
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&fa, stream[i], i);
	rc = posix_spawnp(pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc)
		fail(e, "cannot run the C compiler '%s', which the CPU device needs: %s: install the package gcc, or set CC", argv[0], strerror(rc));
	free(cc);
	return !rc;
}

static int
wait_for(pid_t pid)
{
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static bool
make_folder(char *dir, size_t n, Err *e)
{
	const char *tmp = getenv("TMPDIR");
	if (snprintf(dir, n, "%s/mmc-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)n || !mkdtemp(dir))
		return fail(e, "%s: cannot make a temporary folder: %s: set TMPDIR", dir, strerror(errno));
	return true;
}

/* The first line of `cc --version`: names the compiler and its exact version. */
static bool
compiler_version(CpuBuilder *b, Err *e)
{
	pid_t pid;
	char *version = "--version";
	if (b->compiler)
		return true;
	int fd = memory_file("", e);
	if (fd < 0)
		return false;
	bool ok = spawn((char *[]){version, NULL}, fd, fd, fd, &pid, e);
	if (ok && wait_for(pid))
		ok = fail(e, "'%s --version' fails: set CC to a working C compiler, or install the package gcc", compiler());
	if (ok) {
		b->compiler = memory_text(fd);
		b->compiler[strcspn(b->compiler, "\n")] = 0;
	}
	close(fd);
	return ok;
}

static void *
find_loaded(const CpuBuilder *b, const char *key)
{
	for (size_t i = 0; i < b->nmodule; i++)
		if (!strcmp(b->module[i].key, key))
			return b->module[i].handle;
	return NULL;
}

static void *
load(CpuBuilder *b, const char *key, const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (h) {
		CpuModule *m = &VEC_PUSH(b->module, b->nmodule, b->cap);
		memcpy(m->key, key, sizeof m->key);
		m->handle = h;
	}
	return h;
}

/* An entry that is damaged or does not load is compiled again. */
static void *
load_cached(CpuBuilder *b, const char *key)
{
	char *bytes, *path;
	size_t n;
	void *h = NULL;
	Err ignored = {0};
	if (!kernel_cache_get(key, ".so", &bytes, &n))
		return NULL;
	free(bytes);
	if ((path = kernel_cache_path(key, ".so", &ignored)))
		h = load(b, key, path);
	free(path);
	return h;
}

static void *
load_built(CpuBuilder *b, const Job *j, Err *e)
{
	char *bytes, *path = NULL;
	size_t n;
	void *h = NULL;
	Err ignored = {0}; /* no cache: slower next time, not wrong */
	if (!read_file(j->so, &bytes, &n, e))
		return NULL;
	if (kernel_cache_put(j->key.hex, ".so", bytes, n, &ignored) && (path = kernel_cache_path(j->key.hex, ".so", &ignored)))
		h = load(b, j->key.hex, path);
	free(path);
	free(bytes);
	if (!h)
		h = load(b, j->key.hex, j->so);
	if (!h)
		fail(e, "cannot load compiled kernels: %s", dlerror());
	return h;
}

static bool
start(Job *j, const char *dir, const char *arch, const char *source, Err *e)
{
	char *const last[] = {"-x", "c", "-o", j->so = xmalloc(strlen(dir) + 32), "-", "-lm", NULL};
	char *argv[LEN(flags) + LEN(last) + 1];
	size_t n = 0;
	sprintf(j->so, "%s/m%u.so", dir, j->module);
	for (size_t i = 0; i < LEN(flags); i++)
		argv[n++] = (char *)flags[i];
	argv[n++] = (char *)arch;
	memcpy(argv + n, last, sizeof last);
	int in = memory_file(source, e);
	bool ok = in >= 0 && (j->err = memory_file("", e)) >= 0 && spawn(argv, in, j->err, j->err, &j->pid, e);
	if (in >= 0)
		close(in);
	return ok;
}

static bool
finish(Job *j, const PlanTargetset *s, const PlanProgram *p, Err *e)
{
	int status = wait_for(j->pid);
	j->pid = 0;
	if (!status)
		return true;
	Arena a = {0};
	char *text = memory_text(j->err);
	fail(e, "%s does not compile (%s %d):\n%.1500s", module_where(&a, s, p, j->module), WIFSIGNALED(status) ? "signal" : "exit status",
	     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
	free(text);
	arena_free(&a);
	return false;
}

static void
clean_up(Job *j)
{
	if (j->so)
		unlink(j->so);
	free(j->so);
	if (j->err > 0)
		close(j->err);
}

/* A sliding window of as many compilers as there are processors. All children are waited for, also on failure. */
static bool
compile_all(CpuBuilder *b, Job *job, size_t njob, const PlanTargetset *s, const PlanProgram *p, const char *arch, void **handle, Err *e)
{
	char dir[512];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t width = cpus > 1 ? (size_t)cpus : 1;
	bool ok = make_folder(dir, sizeof dir, e);
	if (!ok)
		return false;
	for (size_t i = 0; i < njob + width; i++) {
		if (i >= width && job[i - width].pid)
			ok &= finish(&job[i - width], s, p, e);
		if (ok && i < njob)
			ok = start(&job[i], dir, arch, s->module[job[i].module].source, e);
	}
	for (size_t i = 0; i < njob; i++) {
		if (ok)
			ok = (handle[job[i].module] = load_built(b, &job[i], e)) != NULL;
		clean_up(&job[i]);
	}
	rmdir(dir);
	return ok;
}

static void
make_key(CacheKey *k, const CpuBuilder *b, const char *cpu, const char *arch, const char *source)
{
	key_start(k, CALL_VERSION);
	key_adds(k, b->compiler);
	for (size_t i = 0; i < LEN(flags); i++)
		key_adds(k, flags[i]);
	key_adds(k, arch);
	key_adds(k, cpu);
	key_adds(k, source);
	key_hex(k);
}

bool
cpu_build(CpuBuilder *b, const PlanTargetset *s, const PlanProgram *p, const bool *used, void **handle, Err *e)
{
	bool any = false;
	for (uint32_t i = 0; i < s->nmodule; i++)
		any |= used[i];
	if (!any)
		return true;
	if (!compiler_version(b, e))
		return false;
	Job *job = xcalloc(s->nmodule, sizeof *job);
	size_t njob = 0;
	char *cpu = cpu_id();
	const char *arch = arch_flag(cpu);
	for (uint32_t i = 0; i < s->nmodule; i++) {
		Job *j = &job[njob];
		if (!used[i])
			continue;
		j->module = i;
		make_key(&j->key, b, cpu, arch, s->module[i].source);
		if (!(handle[i] = find_loaded(b, j->key.hex)) && !(handle[i] = load_cached(b, j->key.hex)))
			njob++;
	}
	bool ok = !njob || compile_all(b, job, njob, s, p, arch, handle, e);
	free(cpu);
	free(job);
	return ok;
}

void
cpu_build_close(CpuBuilder *b)
{
	for (size_t i = 0; i < b->nmodule; i++)
		dlclose(b->module[i].handle);
	free(b->module);
	free(b->compiler);
}
