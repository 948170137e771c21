/* mmc: a model file to a plan. The passes, in order, are the table below; the driver loops over it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compile.h"
#include "model.h"
#include "picture.h"

typedef enum Level { LV_NONE, LV_MODEL, LV_GRAPH, LV_PLAN } Level;

static bool pass_read(Unit *u);
static bool pass_lower(Unit *u);
static bool pass_decode_next(Unit *u);
static bool pass_contract_all(Unit *u);
static bool pass_plan(Unit *u);
static bool pass_write(Unit *u);

static const struct Pass {
	char letter;
	const char *name;
	bool (*run)(Unit *u);
	Level needs, gives;
	bool optional;
	const char *why;
} passes[] = {
	{'m', "read", pass_read, LV_NONE, LV_MODEL, false, "the model file and the op library; all errors of the file at once"},
	{'l', "lower", pass_lower, LV_MODEL, LV_GRAPH, false, "tensor language to graph, gradients, optimizer: one graph a program"},
	{'d', "decode", pass_decode_next, LV_GRAPH, LV_GRAPH, true, "of a model of next bytes a graph that computes one place, for generate; before contract, so that its products are found, too"},
	{'c', "contract", pass_contract_all, LV_GRAPH, LV_GRAPH, true, "sums of products become matrix products; after autodiff, so that gradients are found, too"},
	{'p', "plan", pass_plan, LV_GRAPH, LV_PLAN, false, "for each target: long sums in parts, fuse, place buffers, emit kernels"},
	{'w', "write", pass_write, LV_PLAN, LV_PLAN, false, "verify, then write the file whole"},
};

/* Graphs as they are: for work on the passes behind the lowering. */
static bool
read_graphs(Unit *u)
{
	char *text;
	size_t size;
	int n;
	Err e = {0};
	if (!read_file(u->o->graph_in, &text, &size, &e)) {
		error_at((Loc){0}, "%s", e.msg);
		return false;
	}
	Graph **g = graph_read(u->arena, source_add(u->o->graph_in, text), &n);
	free(text);
	if (g && (n < 1 || n > (int)LEN(u->graph))) {
		error_at((Loc){0}, "%s: %d graphs: a file has from 1 to %d", u->o->graph_in, n, (int)LEN(u->graph));
		return false;
	}
	for (int i = 0; g && i < n; i++) {
		for (int k = 0; k < g[i]->nnode; k++)
			if (g[i]->node[k]->op == P_param)
				error_at(g[i]->node[k]->loc, "parameters are slices of a packed state here: read a state");
		u->graph[u->ngraph++] = g[i];
	}
	return g && !error_count();
}

static bool
pass_read(Unit *u)
{
	if (u->o->graph_in)
		return read_graphs(u);
	u->lib = lib_new(u->arena);
	if (!lib_load_folder(u->lib, u->o->ops))
		return false;
	u->model = model_read(u->arena, u->o->model);
	if (!u->model)
		return false;
	for (int i = 0; i < u->model->nops; i++)
		if (!lib_load(u->lib, u->model->ops[i]))
			return false;
	if (u->o->batch > 0)
		u->model->train.batch = u->o->batch;
	return true;
}

static bool
pass_lower(Unit *u)
{
	if (u->o->graph_in)
		return true;
	int64_t batches[] = {u->model->train.batch, 1};
	u->graph[u->ngraph++] = build_train(u->arena, u->lib, u->model);
	if (u->graph[0] && u->model->train.accumulate > 1)
		u->graph[u->ngraph++] = build_accumulate(u->arena, u->lib, u->model, u->graph[0]);
	for (size_t i = 0; i < LEN(batches) && u->graph[u->ngraph - 1]; i++)
		if (i == 0 || batches[i] != batches[0])
			u->graph[u->ngraph++] = build_eval(u->arena, u->lib, u->model, u->graph[0], batches[i]);
	for (int i = 0; i < u->ngraph; i++)
		if (!u->graph[i])
			return false;
	Err e = {0};
	if (u->o->graph_svg && !picture_write(u->arena, u->lib, u->model, u->o->graph_svg, &e))
		error_at((Loc){0}, "%s", e.msg);
	return true;
}

static bool
each_graph(Unit *u, Graph *(*pass)(Graph *))
{
	for (int i = 0; i < u->ngraph; i++)
		u->graph[i] = pass(u->graph[i]);
	return true;
}

/* The last graph is the eval graph of batch 1. */
static bool
pass_decode_next(Unit *u)
{
	const PlanData *d = u->model ? &u->model->data : NULL;
	Text *say = u->o->explain ? &u->explain : NULL;
	for (uint32_t t = 0; d && t < d->ntarget; t++) {
		if (d->target[t].kind != TG_NEXT || d->ninput != 1 || d->target[t].size != 256) /* generate writes bytes */
			continue;
		if (say)
			text_puts(say, "decode:\n");
		Graph *g = pass_decode(u->graph[u->ngraph - 1], d->target[t].name, say);
		if (g)
			u->graph[u->ngraph++] = g;
		return true;
	}
	return true;
}

static bool pass_contract_all(Unit *u) { return each_graph(u, pass_contract); }

static bool
pass_plan(Unit *u)
{
	if (!u->o->graph_in)
		unit_data(u);
	place_states(u->arena, u->graph[0], &u->places, u->plan);
	for (int i = 1; i < u->ngraph; i++)
		place_kept(u->arena, u->graph[i], &u->places);
	return unit_programs(u);
}

static bool pass_write(Unit *u) { return u->o->graph_in || unit_write(u); }

static void
dump_graphs(FILE *f, void *ctx)
{
	Unit *u = ctx;
	for (int i = 0; i < u->ngraph; i++)
		if (u->graph[i])
			graph_print(u->graph[i], f);
}

static bool
run_passes(Unit *u)
{
	Level at = LV_NONE;
	for (size_t i = 0; i < LEN(passes); i++) {
		const struct Pass *p = &passes[i];
		if (p->needs > at)
			bug("pass %s needs what no pass before it gives", p->name);
		bug_context(p->name, dump_graphs, u);
		if (p->optional && u->o->skip && !strcmp(u->o->skip, p->name))
			continue;
		if (!p->run(u) || error_count())
			return false;
		at = p->gives;
		for (int k = 0; at == LV_GRAPH && k < u->ngraph; k++)
			graph_verify(u->graph[k], p->name);
		if (u->o->dump && strchr(u->o->dump, p->letter)) {
			fprintf(stderr, "# after %s\n", p->name);
			if (at >= LV_GRAPH)
				dump_graphs(stderr, u);
		}
	}
	return true;
}

/* ---- options ---- */

#define STRS(X)                                                                                     \
	X(out, "-o", "FILE", "where the plan goes (default: plan.bin)")                             \
	X(target, "--target", "NAME", "cpu, cuda or all (default: all)")                            \
	X(arch, "--arch", "LIST", "compile kernels for these GPUs, as sm_80,sm_90; none: source only, compiled at first use (default)") \
	X(precision, "--precision", "NAME", "fp32, tf32 or bf16: of matrix products on a GPU (default: fp32)") \
	X(dump, "-d", "LETTERS", "print the graphs after these passes, by letter")                  \
	X(skip, "-x", "PASS", "skip a pass")                                                        \
	X(emit_dir, "--emit-src", "DIR", "write the kernels' source there")                         \
	X(graph_svg, "--graph", "FILE", "draw the network as SVG")                                  \
	X(graph_in, "--graph-in", "FILE", "instead of a model: graph text, as -d prints it; no plan is written") \
	X(ops, "--ops", "DIR", "the op library (default: $MMC_OPS, or ops beside mmc)")
#define FLAGS(X)                                                                                    \
	X(no_fuse, "--no-fuse", "one kernel an operation")                                          \
	X(no_reuse, "--no-reuse", "a buffer of its own for each value")                             \
	X(no_library, "--no-library", "for a GPU: products by generated kernels alone, none by cuBLASLt")  \
	X(no_trace, "--no-trace", "leave out the program that finds the first NaN: a smaller plan")       \
	X(explain, "--explain", "say what was fused, and why other things were not")                \
	X(mem, "--mem", "print the memory forecast")                                                \
	X(check, "--check", "only look for errors: write nothing")

static void
usage(FILE *f)
{
	fputs("usage: mmc MODEL.yaml [-o plan.bin] [options]\n\nCompiles a model file to a plan, which mmrun trains and runs.\n\n", f);
#define X(field, name, arg, help) fprintf(f, "  %-22s %s\n", name " " arg, help);
	STRS(X)
	X(batch, "--batch", "N", "rows of a training step (default: the model's)")
#undef X
#define X(field, name, help) fprintf(f, "  %-22s %s\n", name, help);
	FLAGS(X)
	X(0, "--help-model", "the keys of a model file")
	X(0, "--help-ops", "the op library")
	X(0, "--help, --version", "")
#undef X
	fputs("\nPasses, with the letters of -d:\n", f);
	for (size_t i = 0; i < LEN(passes); i++)
		fprintf(f, "  %c %-10s %s\n", passes[i].letter, passes[i].name, passes[i].why);
}

static _Noreturn void
bad_usage(const char *fmt, const char *what)
{
	static const char *const names[] = {
#define X(field, name, ...) name,
		STRS(X) FLAGS(X)
#undef X
		"--batch", "--help", "--version", "--help-model", "--help-ops"};
	const char *near = nearest_name(what, names, LEN(names));
	fprintf(stderr, "mmc: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, near ? "; did you mean %s?\n" : "; see mmc --help\n", near);
	exit(2);
}

static bool
parse_option(CompileOptions *o, int argc, char **argv, int *i)
{
	const char *a = argv[*i];
	const char *eq = a[0] == '-' && a[1] == '-' ? strchr(a, '=') : NULL;
	size_t n = eq ? (size_t)(eq - a) : strlen(a);
	const char *value = eq ? eq + 1 : *i + 1 < argc ? argv[*i + 1] : NULL;
#define MATCH(name) (strlen(name) == n && !strncmp(a, name, n))
#define TAKE() (value ? (void)(*i += !eq) : bad_usage("%s needs a value", a))
#define X(field, name, arg, help)        \
	if (MATCH(name)) {               \
		TAKE();                  \
		o->field = value;        \
		return true;             \
	}
	STRS(X)
#undef X
#define X(field, name, help)             \
	if (MATCH(name)) {               \
		o->field = true;         \
		return true;             \
	}
	FLAGS(X)
#undef X
	if (MATCH("--batch")) {
		char *end;
		TAKE();
		o->batch = strtol(value, &end, 10);
		if (*end || o->batch < 1 || o->batch > 1 << 24)
			bad_usage("--batch needs a whole number from 1, not '%s'", value);
		return true;
	}
	return false;
}

/* A pass by its letter, or one that can be left out by its name. */
static const struct Pass *
find_pass(const char *name, char letter)
{
	for (size_t i = 0; i < LEN(passes); i++)
		if (name ? passes[i].optional && !strcmp(passes[i].name, name) : passes[i].letter == letter)
			return &passes[i];
	return NULL;
}

/* "none", or sm_80,sm_90a .. */
static void
check_archs(const char *list)
{
	if (!list || !strcmp(list, "none"))
		return;
	for (const char *s = list;; s++) {
		size_t digits = !strncmp(s, "sm_", 3) ? strspn(s + 3, "0123456789") : 0;
		s += 3 + digits;
		if (!digits)
			bad_usage("--arch is a list such as sm_80,sm_90, not '%s'", list);
		s += *s == 'a' || *s == 'f';
		if (!*s)
			return;
		if (*s != ',')
			bad_usage("--arch is a list such as sm_80,sm_90, not '%s'", list);
	}
}

static void
parse_options(CompileOptions *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout);
			exit(0);
		} else if (!strcmp(argv[i], "--version")) {
			puts("mmc 0.1");
			exit(0);
		} else if (!strcmp(argv[i], "--help-model")) {
			model_help(stdout, !isatty(1));
			exit(0);
		} else if (!strcmp(argv[i], "--help-ops")) {
			o->help_ops = true;
		} else if (!parse_option(o, argc, argv, &i)) {
			if (argv[i][0] == '-')
				bad_usage("unknown option %s", argv[i]);
			if (o->model)
				bad_usage("one model file at a time, not also %s", argv[i]);
			o->model = argv[i];
		}
	}
	if (!o->model && !o->help_ops && !o->graph_in) {
		usage(stderr);
		exit(2);
	}
	if (o->skip && !find_pass(o->skip, 0))
		bad_usage("-x: no pass that can be left out is called '%s'", o->skip);
	for (const char *d = o->dump; d && *d; d++)
		if (!find_pass(NULL, *d))
			bad_usage("-d takes letters of passes, not '%s'", d);
	check_archs(o->arch);
	if (strcmp(o->target, "cpu") && strcmp(o->target, "cuda") && strcmp(o->target, "all"))
		bad_usage("--target is cpu, cuda or all, not '%s'", o->target);
	if (strcmp(o->precision, "fp32") && strcmp(o->precision, "tf32") && strcmp(o->precision, "bf16"))
		bad_usage("--precision is fp32, tf32 or bf16, not '%s'", o->precision);
}

/* --ops, $MMC_OPS, ops beside the program, or where it is installed. */
static const char *
find_ops(Arena *a)
{
	static const char *const places[] = {"ops", "../share/mmc/ops"};
	char exe[4096];
	const char *env = getenv("MMC_OPS");
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (env)
		return env;
	exe[n < 0 ? 0 : n] = 0;
	char *slash = strrchr(exe, '/');
	if (slash)
		*slash = 0;
	for (size_t i = 0; i < LEN(places); i++) {
		char *dir = arena_printf(a, "%s/%s", exe, places[i]);
		if (!access(dir, R_OK | X_OK))
			return dir;
	}
	return "ops";
}

int
main(int argc, char **argv)
{
	Arena arena = {0};
	CompileOptions o = {.out = "plan.bin", .target = "all", .precision = "fp32"};
	Unit u = {.arena = &arena, .o = &o};
	parse_options(&o, argc, argv);
	if (!o.ops)
		o.ops = find_ops(&arena);
	if (o.help_ops) {
		u.lib = lib_new(&arena);
		bool found = lib_load_folder(u.lib, o.ops);
		lib_help(stdout, u.lib);
		arena_free(&arena);
		return found ? 0 : 2;
	}
	u.plan = arena_alloc(&arena, sizeof *u.plan);
	bool ok = run_passes(&u);
	if (ok && o.explain)
		unit_explain(&u, stdout);
	if (ok && o.mem)
		unit_memory_report(&u, stdout);
	free(u.explain.s);
	arena_free(&arena);
	return ok ? 0 : 2;
}
