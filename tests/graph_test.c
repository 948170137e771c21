/* Graph text: each tests/graph/NAME.g is read and checked by the files beside it, whose suffix decides how:

     NAME.err           the messages of the reader, which refuses it
     NAME.simplify      the graph as it was read
     NAME.contract      after that pass; .split_cpu, .split_cuda and .precision after contract and that one
     (always)           printed and read again it is the same; in float64 the passes change nothing; every kind of program
                        for the CPU (and the GPU, where there is one) gives its values within the bounds of rounding;
                        kernels of a GPU compile, and what they are given is aligned, without a GPU, too

   Then the graphs of all models and of all tests of the op library are printed and read back.

     graph_test [FILE.g [PASS]]    prints one, as it is after a pass; cpu, cuda: its kernels

   BLESS=1 rewrites the expectations that there are: touch NAME.PASS first for a new one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check_graph.h"

static int passed, failed;
static Arena arena;

static void
check(bool ok, const char *where, const char *what)
{
	passed += ok;
	failed += !ok;
	if (!ok)
		printf("%s: %s\n", where, what);
}

/* ---- texts ---- */

static char *
print_text(Graph *g)
{
	char *text = NULL, *s;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	graph_print(g, f);
	fclose(f);
	s = arena_strdup(&arena, text);
	free(text);
	return s;
}

/* Names v12, v30, .. become v0, v1, .. in the order of their lines: text that does not hang on nodes nobody reads. The step of a
   scan has names of its own. */
static char *
renumber(const char *s)
{
	Text t = {0};
	int *number = NULL, n = 0, cap = 0, outer = 0, first = 0; /* names of the graph while in a step; of the step the first */
	bool quoted = false;
	for (const char *p = s; *p; p++) {
		if (!quoted && *p == '{' && p[-1] == ' ' && n)
			outer = first = n;
		if (!quoted && *p == '}' && first)
			n = outer, first = 0;
		bool name = !quoted && *p == 'v' && p[1] >= '0' && p[1] <= '9' && (p == s || strchr(" (", p[-1]));
		quoted ^= *p == '"';
		text_add(&t, p, 1);
		if (!name)
			continue;
		int id = atoi(p + 1), k = first;
		while (k < n && number[k] != id)
			k++;
		if (k == n)
			VEC_PUSH(number, n, cap) = id;
		text_printf(&t, "%d", k - first);
		p += strspn(p + 1, "0123456789");
	}
	char *r = arena_strdup(&arena, t.s);
	free(t.s);
	free(number);
	return r;
}

static Graph *
read_text(const char *path, const char *text)
{
	int n;
	Graph **g = graph_read(&arena, source_add(path, text), &n);
	return g && n == 1 ? g[0] : NULL;
}

static void
round_trip(const char *where, Graph *g)
{
	char *text = renumber(print_text(g));
	Graph *again = read_text(where, text);
	if (!again) {
		check(false, where, "its own print is not read back");
		return;
	}
	check(!strcmp(print_text(again), text), where, "printed and read back, it is another graph");
}

/* ---- files ---- */

static Graph *
pass_none(Graph *g)
{
	return g;
}

static Graph *pass_split_cpu(Graph *g) { return pass_split(pass_contract(g), false); }
static Graph *pass_split_cuda(Graph *g) { return pass_split(pass_contract(g), true); }
static Graph *pass_small(Graph *g) { return pass_small_products(pass_contract(g), true); }
static Graph *pass_unfolded(Graph *g) { return pass_unfold(pass_contract(g)); }
static Graph *pass_half(Graph *g) { return pass_precision(pass_contract(g)); }

static const struct {
	const char *name;
	Graph *(*run)(Graph *);
} passes[] = {{"simplify", pass_none}, {"contract", pass_contract}, {"split_cpu", pass_split_cpu}, {"split_cuda", pass_split_cuda}, {"small", pass_small}, {"unfold", pass_unfolded}, {"precision", pass_half}};

/* path with another suffix */
static char *
beside(const char *path, const char *suffix)
{
	return arena_printf(&arena, "%.*s.%s", (int)strlen(path) - 2, path, suffix);
}

/* NULL: there is none */
static char *
read_beside(const char *path, const char *suffix)
{
	Err e = {0};
	char *text;
	size_t n;
	return read_file(beside(path, suffix), &text, &n, &e) ? text : NULL;
}

static void
expect(const char *path, const char *suffix, const char *want, const char *got)
{
	Err e = {0};
	if (getenv("BLESS")) {
		check(write_file_atomic(beside(path, suffix), got, strlen(got), 0666, &e), path, e.msg);
		return;
	}
	check(!strcmp(want, got), path, arena_printf(&arena, "not as in .%s, but\n%s", suffix, got));
}

/* What the reader says of a file: its messages, without the folder. */
static char *
messages(const char *path, const char *text)
{
	char buf[4096];
	Text t = {0};
	int fd = memfd_create("err", 0), old = dup(2), n;
	fflush(stderr);
	dup2(fd, 2);
	Graph *g = read_text(strrchr(path, '/') ? strrchr(path, '/') + 1 : path, text);
	fflush(stderr);
	dup2(old, 2);
	close(old);
	lseek(fd, 0, SEEK_SET);
	while ((n = (int)read(fd, buf, sizeof buf)) > 0)
		text_add(&t, buf, (size_t)n);
	close(fd);
	if (g)
		text_puts(&t, "no error\n");
	char *s = arena_strdup(&arena, t.s ? t.s : "");
	free(t.s);
	return s;
}

/* What a GPU's kernels load and store in one piece lies at multiples of 16 bytes: all that they are given in the activations begins there. */
static void
check_addresses(Check **c, int n, const CheckMode *m)
{
	Places *places = xcalloc((size_t)n, sizeof *places);
	Plan *p = check_plan(c, n, m, 32, places);
	for (int i = 0; i < n; i++)
		for (uint32_t k = 0; k < p->set->program[i].ninstr; k++) {
			const PlanInstr *in = &p->set->program[i].instr[k];
			for (uint32_t j = 0; in->kind == I_KERNEL && j < in->narg; j++)
				check_that(c[i], in->nstep || in->arg[j].space != SP_ACT || in->arg[j].off % 16 == 0, "%s: argument %u of %s begins at byte %lu", m->name, j,
				           in->what, (unsigned long)in->arg[j].off);
		}
	free(places);
}

/* All files' graphs in one program set a mode, so that the compilers start once. */
static void
run_files(Check **c, char *const *path, int n)
{
	Err e = {0};
	Device *cpu = device_cpu_open(0, &e), *gpu = device_cuda_open(0, &e);
	for (int i = 0; i < n; i++) {
		c[i]->g->name = arena_printf(&arena, "g%d", i); /* in the names of its kernels */
		check_fill(c[i], 1);
		check_reference(c[i], true, false);
	}
	for (const CheckMode *m = check_modes; m->name; m++) {
		if (!m->half && (m->cuda ? gpu : cpu))
			check_run(c, n, m, m->cuda ? gpu : cpu, m->cuda ? 32 : 200);
		if (m->cuda && m->fuse && !m->half && !m->same && n)
			check_cubins(c, n, m, "sm_90");
		if (m->cuda && m->fuse && !m->half)
			check_addresses(c, n, m);
	}
	for (int i = 0; i < n; i++) {
		passed += c[i]->passed;
		failed += c[i]->failed;
		if (c[i]->messages.s)
			printf("%s: %s", path[i], c[i]->messages.s);
		check_free(c[i]);
	}
	cpu->close(cpu);
	if (gpu)
		gpu->close(gpu);
}

/* Its graph, or NULL. */
static Graph *
test_file(const char *path)
{
	Err e = {0};
	char *text, *want;
	size_t n;
	if (!read_file(path, &text, &n, &e)) {
		check(false, path, e.msg);
		return NULL;
	}
	if ((want = read_beside(path, "err"))) {
		expect(path, "err", want, messages(path, text));
		free(want);
		free(text);
		return NULL;
	}
	Graph *g = read_text(path, text);
	check(g != NULL, path, "is not one graph");
	for (size_t i = 0; i < LEN(passes) && g; i++)
		if ((want = read_beside(path, passes[i].name))) {
			expect(path, passes[i].name, want, renumber(print_text(passes[i].run(g))));
			free(want);
		}
	if (g)
		round_trip(path, g);
	free(text);
	return g;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Paths in a folder that end so, in name order. */
static char **
list(const char *dir, const char *suffix, int *n)
{
	char **path = NULL;
	int cap = 0;
	DIR *d = opendir(dir);
	struct dirent *e;
	*n = 0;
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name), m = strlen(suffix);
		if (len > m && !strcmp(e->d_name + len - m, suffix))
			VEC_PUSH(path, *n, cap) = arena_printf(&arena, "%s/%s", dir, e->d_name);
	}
	if (d)
		closedir(d);
	if (*n)
		qsort(path, (size_t)*n, sizeof *path, by_name);
	return path;
}

/* ---- the graphs of models and of op tests ---- */

static void
test_model(const char *path)
{
	Model *m = model_read(&arena, path);
	Lib *lib = lib_new(&arena);
	bool ok = lib_load_folder(lib, "ops");
	for (int i = 0; ok && m && i < m->nops; i++)
		ok = lib_load(lib, m->ops[i]);
	check(ok, path, "its ops do not load");
	Graph *train = m ? build_train(&arena, lib, m) : NULL, *eval = train ? build_eval(&arena, lib, m, train, 1) : NULL;
	check(eval != NULL, path, "is no model");
	for (int i = 0; i < 2 && eval; i++) {
		Graph *g = i ? eval : train;
		round_trip(path, g);
		g = pass_contract(g);
		round_trip(path, g);
		round_trip(path, pass_split(g, false));
		round_trip(path, pass_split(pass_precision(g), true));
	}
}

static void
test_op(Lib *lib, Ast *test)
{
	const Ast *e = test->kid[0], *def = e->kind == A_CALL ? lib_find(lib, e->s) : NULL;
	if (def && (!strcmp(def->t, "optimizer") || !strcmp(def->t, "schedule"))) /* called by the training graph alone */
		return;
	Graph *g = graph_new(&arena, "ops");
	Lower *w = lower_new(lib, g, true);
	char *where = loc_text(&arena, test->loc);
	Val v, *list = &v;
	bool ok = lower_eval(w, test->kid[0], "", &v);
	check(ok, where, "does not lower");
	int n = ok && v.kind == V_LIST ? v.nlist : ok;
	if (v.kind == V_LIST)
		list = v.list;
	for (int i = 0; i < n; i++)
		if (list[i].kind == V_TENSOR)
			graph_output(g, arena_printf(&arena, "y%d", i), "value", list[i].node);
	round_trip(where, g);
	round_trip(where, pass_contract(g));
}

/* Without what stands in front of each module. */
static void
print_kernels(Graph *g, const CheckMode *m)
{
	Check c = {.g = g};
	Places places = {0};
	check_fill(&c, 1);
	check_reference(&c, false, false);
	Plan *p = check_plan(&(Check *){&c}, 1, m, 1000, &places);
	for (uint32_t i = 0; i < p->set->nmodule; i++) {
		const char *s = strstr(p->set->module[i].source, "\n/* graph:"), *t = strstr(p->set->module[i].source, "\n/* ");
		puts(s ? s : t ? t : "");
	}
	for (uint32_t i = 0; i < p->set->program->ninstr; i++)
		printf("%u %s\n", i, p->set->program->instr[i].what);
	check_free(&c);
}

static int
print_one(const char *path, const char *pass)
{
	Err e = {0};
	char *text;
	size_t n, i = 0;
	if (!read_file(path, &text, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return 2;
	}
	Graph *g = read_text("graph", text);
	for (const CheckMode *m = check_modes; m->name && g; m++)
		if (m->fuse && !m->same && !strcmp(pass, m->cuda ? "cuda" : "cpu")) {
			print_kernels(g, m);
			return 0;
		}
	while (i < LEN(passes) && strcmp(passes[i].name, pass))
		i++;
	if (!g || i == LEN(passes)) {
		fprintf(stderr, g ? "no pass is called '%s'\n" : "%s is not one graph\n", g ? pass : path);
		return 2;
	}
	fputs(renumber(print_text(passes[i].run(g))), stdout);
	free(text);
	return 0;
}

int
main(int argc, char **argv)
{
	static const char *const model_dirs[] = {"models", "tests/models"};
	int n;
	if (argc > 1)
		return print_one(argv[1], argc > 2 ? argv[2] : "simplify");
	char **path = list("tests/graph", ".g", &n);
	Check **c = arena_alloc(&arena, (size_t)n * sizeof *c);
	int ngraph = 0;
	for (int i = 0; i < n; i++) {
		Graph *g = test_file(path[i]);
		if (!g)
			continue;
		c[ngraph] = arena_alloc(&arena, sizeof **c);
		c[ngraph]->g = g;
		path[ngraph++] = path[i];
	}
	run_files(c, path, ngraph);
	free(path);
	Lib *lib = lib_new(&arena);
	check(lib_load_folder(lib, "ops"), "ops", "is no library");
	for (size_t k = 0; k < LEN(model_dirs); k++) {
		path = list(model_dirs[k], ".yaml", &n);
		for (int i = 0; i < n; i++)
			test_model(path[i]);
		free(path);
	}
	Ast **test = lib_tests(lib, &n);
	for (int i = 0; i < n; i++)
		test_op(lib, test[i]);
	arena_free(&arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
