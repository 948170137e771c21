/* Random graphs, forward and differentiated, on every target against the interpreter: each element within the bound of
   float32's rounding (check_bound.c), the same bits with and without reuse of buffers, over a poisoned arena; gradients
   against differences. A graph that fails is made smaller for as long as it fails, and printed: put it into
   tests/graph/NAME.g, where graph_test.c runs it.

     fuzz_graph_test [N [SEED [INDEX]]]     N graphs (200) of a seed (1), or one of them with its text
     fuzz_graph_test FILE.g                 checks that one, and makes it smaller
     MMC_TEST_NVRTC=1                       kernels of a GPU are compiled, too, where there is none

   All work on graphs is done in children: a bug() or a crash there is a failure like others. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_graph.h"

#define BATCH 50          /* graphs that are compiled together */
#define TEXT (1 << 18)
#define SECONDS 120       /* of a child */
#define SHRINK 40         /* seconds that are spent on making a graph smaller */

/* What a child leaves. */
typedef struct Shared {
	char text[BATCH][TEXT];
	char message[BATCH][1000];
	bool done[BATCH];
	double compared, skipped;
	int passed;
	bool valid;          /* of a change: there is a graph */
	bool more;           /* there are changes behind this one */
	unsigned modes;      /* to run, bits of check_modes */
	int at;              /* graph that the child works on; past the last: all together */
} Shared;

static Shared *shared;
static Lib *lib;
static bool verbose;

/* ---- one graph, in a child ---- */

static void
print_into(char *out, Graph *g)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	graph_print(g, f);
	fclose(f);
	if (n >= TEXT)
		bug("a graph of %zu bytes of text", n);
	memcpy(out, text, n + 1);
	free(text);
}

static Graph *
read_one(Arena *a, const char *text)
{
	int n;
	Graph **g = graph_read(a, source_add("graph", text), &n);
	if (!g || n != 1)
		bug("its own text is not read back");
	return g[0];
}

static int
find_loss(const Graph *g)
{
	int i = 0;
	while (i < g->noutput && strcmp(g->output[i].role, "loss"))
		i++;
	return i;
}

/* The gradients of the loss become outputs; the loss, an ordinary one. */
static void
differentiate(Graph *g)
{
	Node *wrt[64], *d[64];
	int n = 0, loss = find_loss(g);
	if (loss == g->noutput)
		return;
	for (int i = 0; i < g->ninput && n < (int)LEN(wrt); i++)
		if (g->input[i].dt == DT_F32 && strncmp(g->input[i].name, "weight", 6))
			wrt[n++] = mk_input(g, i);
	autodiff(lower_new(lib, g, true), g->output[loss].node, wrt, n, d);
	g->output[loss].role = "value";
	for (int i = 0; i < n; i++)
		if (d[i])
			graph_output(g, arena_printf(g->arena, "d.%s", g->input[wrt[i]->at[0]].name), "gradient", d[i]);
}

/* Gradients against central differences where two steps agree, so that no kink is near. */
static void
check_differences(Check *c, Node *loss)
{
	Graph *g = c->g;
	Env e = {.input = (const double **)c->input, .state = (const double **)c->state};
	uint64_t seed = 7;
	for (int i = 0; i < g->noutput; i++) {
		if (strcmp(g->output[i].role, "gradient"))
			continue;
		int in = 0;
		while (strcmp(g->input[in].name, g->output[i].name + 2))
			in++;
		int64_t at = random_below(&seed, node_count(g->output[i].node));
		double want = c->want[i][at], d = interp_numeric_grad(g, &e, loss, c->input[in], at, 1e-4);
		double near = interp_numeric_grad(g, &e, loss, c->input[in], at, 1.7e-5), size = fabs(d) + 1;
		if (fabs(d - near) < 1e-6 * size && fabs(want) < 1e6)
			check_that(c, fabs(want - d) <= 1e-4 * size, "gradient %s: element %ld is %.9g, by differences %.9g", g->output[i].name, (long)at, want, d);
	}
}

static Check *
prepare(Arena *a, const char *text, int index)
{
	Check *c = arena_alloc(a, sizeof *c);
	c->g = read_one(a, text);
	c->g->name = arena_printf(a, "g%d", index); /* in the names of its kernels */
	int loss = find_loss(c->g);
	differentiate(c->g);
	graph_verify(c->g, "autodiff");
	check_fill(c, 1);
	check_reference(c, true, false);
	if (loss < c->g->noutput)
		check_differences(c, c->g->output[loss].node);
	return c;
}

/* Texts [0, n) that are not done; messages into shared. */
static void
check_texts(int n)
{
	Arena a = {0};
	Check *c[BATCH] = {0};
	Err e = {0};
	for (shared->at = 0; shared->at < n; shared->at++) {
		int i = shared->at;
		if (shared->done[i])
			continue;
		c[i] = prepare(&a, shared->text[i], i);
		for (const CheckMode *m = check_modes; m->name; m++) /* can all programs be made, also a GPU's where there is none? */
			if (!m->half && !m->same)
				check_plan(&c[i], 1, m, 200, &(Places){0});
	}
	for (int i = 0; i < n && getenv("MMC_TEST_NVRTC"); i++) /* slow; without what runs on a GPU it sees errors and spills */
		if (c[i])
			check_cubins(&c[i], 1, &(CheckMode){"cuda fused", true, true, true, false, false}, "sm_90");
	Device *cpu = device_cpu_open(0, &e), *gpu = device_cuda_open(0, &e);
	for (const CheckMode *m = check_modes; m->name; m++)
		if (!m->half && (m->cuda ? gpu : cpu) && (shared->modes & 1u << (m - check_modes)))
			check_run(c, n, m, m->cuda ? gpu : cpu, m->cuda ? 32 : 200);
	for (int i = 0; i < n; i++) {
		if (!c[i])
			continue;
		shared->compared += c[i]->compared;
		shared->skipped += c[i]->skip;
		shared->passed += c[i]->passed;
		snprintf(shared->message[i], sizeof *shared->message, "%s", c[i]->messages.s ? c[i]->messages.s : "");
		shared->done[i] = true;
		check_free(c[i]);
	}
	if (cpu)
		cpu->close(cpu);
	if (gpu)
		gpu->close(gpu);
	arena_free(&a);
}

/* ---- children ---- */

/* Runs f(ctx) in a child; its wait status. */
static int
in_child(void (*f)(void *), void *ctx)
{
	int status = 0;
	fflush(stdout);
	pid_t p = fork();
	if (p < 0)
		return 1 << 8;
	if (p == 0) {
		if (!verbose && !freopen("/dev/null", "w", stderr))
			_exit(3);
		alarm(SECONDS);
		f(ctx);
		exit(0);
	}
	waitpid(p, &status, 0);
	return status;
}

static const char *
describe(int status)
{
	static char s[64];
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "hangs\n";
	if (WIFSIGNALED(status))
		snprintf(s, sizeof s, "signal %d\n", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 70)
		return "a bug() of the compiler\n";
	else
		snprintf(s, sizeof s, "status %d\n", WEXITSTATUS(status));
	return s;
}

typedef struct Range {
	uint64_t seed;
	int first, n;
} Range;

static void
child_make(void *ctx)
{
	const Range *r = ctx;
	int null = open("/dev/null", O_WRONLY), old = dup(2);
	for (int i = 0; i < r->n; i++) {
		Arena a = {0};
		uint64_t s = hash_u64(hash_u64(HASH_INIT, r->seed), (uint64_t)(r->first + i));
		dup2(null, 2); /* library ops that do not take what they are given say so */
		Graph *g = random_graph(&a, lib, random_next(&s));
		dup2(old, 2);
		print_into(shared->text[i], g);
		arena_free(&a);
	}
}

static void child_check(void *ctx) { check_texts(*(int *)ctx); }

/* Text 0 with change k, as text 1; checked as text 0 of a run of its own. */
static void
child_shrink(void *ctx)
{
	Arena a = {0};
	Graph *g = shrink(read_one(&a, shared->text[0]), *(int *)ctx, &shared->valid);
	shared->more = g != NULL;
	if (!g || !shared->valid) {
		shared->valid = false;
		return;
	}
	print_into(shared->text[1], g);
	arena_free(&a);
}

static void
child_differentiate(void *ctx)
{
	Arena a = {0};
	Graph *g = read_one(&a, shared->text[0]);
	(void)ctx;
	differentiate(g);
	for (int i = 0; i < g->noutput; i++)
		g->output[i].role = "value";
	print_into(shared->text[1], g);
}

/* ---- making a failure smaller ---- */

/* Kind of failure of text 0: 0 none, else equal where the failures are alike. */
static int
failure(void)
{
	int n = 1, status;
	shared->done[0] = false;
	shared->message[0][0] = 0;
	if ((status = in_child(child_check, &n)))
		return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
	const char *m = shared->message[0];
	return !*m ? 0 : strstr(m, "gradient") == m ? 301 : strstr(m, "changes the value") ? 302 : strstr(m, "other bits") ? 303 : 300;
}

/* Takes text 1 for text 0 if it fails alike. */
static bool
keep_if(int kind, char *saved)
{
	memcpy(saved, shared->text[0], TEXT);
	memcpy(shared->text[0], shared->text[1], TEXT);
	if (strcmp(saved, shared->text[0]) && failure() == kind)
		return true;
	memcpy(shared->text[0], saved, TEXT);
	return false;
}

/* Is a line of the message about that mode? */
static bool
mentions(const char *message, const char *mode)
{
	for (const char *s = message; *s; s += strcspn(s, "\n"), s += *s == '\n')
		if (!strncmp(s, mode, strlen(mode)) && s[strlen(mode)] != ',')
			return true;
	return false;
}

static void
make_smaller(void)
{
	char *saved = xmalloc(TEXT);
	int kind = failure();
	double end = now_seconds() + SHRINK;
	for (unsigned k = 0; kind >= 300 && kind < 1000 && check_modes[k].name; k++) /* the modes that fail, and those they are compared with */
		if (!mentions(shared->message[0], check_modes[k].name) && !(check_modes[k + 1].name && check_modes[k + 1].same && mentions(shared->message[0], check_modes[k + 1].name)))
			shared->modes &= ~(1u << k);
	if (kind < 300)
		shared->modes = 0;
	if (kind != failure())
		shared->modes = ~0u;
	for (int turn = 0; turn < 2 && kind; turn++) {
		bool better = true;
		while (better) {
			better = false;
			for (int k = 0; now_seconds() < end; k++) {
				shared->more = false;
				if (in_child(child_shrink, &k) && !shared->more)
					continue;
				if (!shared->more)
					break;
				if (!shared->valid)
					continue;
				if (keep_if(kind, saved)) {
					better = true;
					k--;
				}
			}
		}
		if (turn || in_child(child_differentiate, NULL) || !keep_if(kind, saved))
			break;
	}
	shared->modes = ~0u;
	failure(); /* its messages again */
	free(saved);
}

static void
report(const char *text, const char *first)
{
	printf("%s\n", first);
	memcpy(shared->text[0], text, strlen(text) + 1);
	make_smaller();
	printf("smaller: %s%s\n", shared->message[0], shared->text[0]);
	fflush(stdout);
}

/* ---- many ---- */

static unsigned
fused_modes(void)
{
	unsigned bits = 0;
	for (unsigned k = 0; check_modes[k].name; k++)
		bits |= (unsigned)check_modes[k].fuse << k;
	return bits;
}

static int
run_batch(const Range *r, Text *failures)
{
	int failed = 0, n = r->n, status;
	bool done[BATCH];
	memset(shared->message, 0, sizeof shared->message);
	memset(shared->done, 0, sizeof shared->done);
	if ((status = in_child(child_make, (void *)r))) {
		printf("%s:%d: making graphs from %d of seed %lu: %s", __FILE__, __LINE__, r->first, (unsigned long)r->seed, describe(status));
		return 1;
	}
	while ((status = in_child(child_check, &n)) && shared->at < n) { /* on without it */
		snprintf(shared->message[shared->at], sizeof *shared->message, "%s", describe(status));
		shared->done[shared->at] = true;
	}
	memcpy(done, shared->done, sizeof done);
	for (int i = 0; i < n && status; i++) { /* one of them, when all ran together: each for itself */
		int alone;
		for (int k = 0; k < n; k++)
			shared->done[k] = k != i;
		if (!done[i] && (alone = in_child(child_check, &n)))
			snprintf(shared->message[i], sizeof *shared->message, "%s", describe(alone));
	}
	for (int i = 0; i < n; i++)
		if (shared->message[i][0]) {
			failed++;
			text_printf(failures, "%d%c%s%c%s%c", r->first + i, 0, shared->message[i], 0, shared->text[i], 0);
		}
	return failed;
}

static int
run_file(const char *path)
{
	Err e = {0};
	char *text;
	size_t n;
	if (!read_file(path, &text, &n, &e) || n >= TEXT) {
		fprintf(stderr, "%s\n", e.set ? e.msg : "too long");
		return 2;
	}
	memcpy(shared->text[0], text, n + 1);
	free(text);
	verbose = true;
	int kind = failure();
	verbose = false;
	printf("%s%s", shared->message[0], kind ? "" : "fine\n");
	if (kind) {
		make_smaller();
		printf("smaller: %s%s", shared->message[0], shared->text[0]);
	}
	return kind != 0;
}

int
main(int argc, char **argv)
{
	Arena a = {0};
	int count = argc > 1 ? atoi(argv[1]) : 200, failed = 0, shown = 0;
	Range r = {.seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, .first = argc > 3 ? atoi(argv[3]) : 0};
	Text failures = {0};
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lib = lib_new(&a);
	if (shared == MAP_FAILED || !lib_load_folder(lib, "ops")) {
		printf("tests/fuzz_graph_test.c:%d: no memory, or no ops: run it at the repository's root\n0 passed, 1 failed\n", __LINE__);
		return 1;
	}
	shared->modes = ~0u;
	if (argc > 1 && strstr(argv[1], ".g"))
		return run_file(argv[1]);
	if (argc > 3)
		count = r.first + 1;
	for (; r.first < count; r.first += BATCH) {
		r.n = count - r.first < BATCH ? count - r.first : BATCH;
		if (argc < 2 && r.first) /* in the suite the rest is for what fusion does */
			shared->modes = fused_modes();
		failed += run_batch(&r, &failures);
		if (argc > 3)
			printf("%s", shared->text[0]);
	}
	double compared = shared->compared, skipped = shared->skipped;
	for (char *s = failures.s; s && s < failures.s + failures.n && shown < 20; shown++) {
		char *message = s + strlen(s) + 1, *text = message + strlen(message) + 1, *first = arena_printf(&a, "%s:%d: graph %s of seed %lu: %s", __FILE__, __LINE__, s, (unsigned long)r.seed, message);
		report(text, first);
		s = text + strlen(text) + 1;
	}
	free(failures.s);
	arena_free(&a);
	if (argc > 1)
		printf("%.0f elements compared, %.2f%% of them without a bound\n", compared, compared > 0 ? 100 * skipped / compared : 0);
	printf("%d passed, %d failed\n", count - failed, failed);
	return failed > 0;
}
