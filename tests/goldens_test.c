/* Layers against PyTorch: every case of tests/goldens (make.py there) through the float64 interpreter. Results, updates of
   states and gradients must agree within the rounding of float32 constants; the emitters are measured against the
   interpreter by op_test. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../compiler/mmc.h"

#define CLOSE 2e-6 /* of the greatest element: constants such as 1e-5 and 0.9 are rounded to float32 */
#define MAXLINES 64

/* A line `kind name [axis: size, ..] = values`. */
typedef struct Given {
	char *kind, *name;
	int nd;
	const char *ax[MAXDIM];
	int64_t dim[MAXDIM], count;
	double *v;
} Given;

typedef struct Golden {
	const char *path, *expr, *optimizer;
	double lr;
	bool infer;
	Given line[MAXLINES];
	int n;
} Golden;

static Arena arena;
static int passed, failed;

static void
check(bool ok, const Golden *c, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		passed++;
		return;
	}
	failed++;
	fprintf(stderr, "%s: ", c->path);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n", stderr);
}

/* ---- reading ---- */

static void
read_axes(Given *g, char *text)
{
	char *save = NULL;
	g->count = 1;
	for (char *t = strtok_r(text, ", ", &save); t; t = strtok_r(NULL, ", ", &save)) {
		char *colon = strchr(t, ':');
		if (colon) {
			*colon = 0;
			g->ax[g->nd] = t;
		} else {
			g->count *= g->dim[g->nd++] = strtol(t, NULL, 10);
		}
	}
}

static void
read_given(Golden *c, char *line)
{
	Given *g = &c->line[c->n++];
	char *open = strchr(line, '['), *close = strchr(line, ']'), *save = NULL;
	*close = 0;
	g->kind = strtok_r(line, " ", &save);
	g->name = strtok_r(NULL, " ", &save);
	read_axes(g, open + 1);
	g->v = arena_alloc(&arena, (size_t)(g->count + 1) * sizeof *g->v);
	char *p = strchr(close + 1, '=') + 1;
	for (int64_t i = 0; i < g->count; i++)
		g->v[i] = strtod(p, &p);
}

static bool
read_golden(Golden *c, const char *path)
{
	char *text, *save = NULL;
	size_t n;
	Err e = {0};
	*c = (Golden){.path = path};
	if (!read_file(path, &text, &n, &e)) {
		check(false, c, "%s", e.msg);
		return false;
	}
	char *copy = arena_strdup(&arena, text);
	free(text);
	for (char *line = strtok_r(copy, "\n", &save); line && c->n < MAXLINES; line = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(line, "expr ", 5))
			c->expr = line + 5;
		else if (!strncmp(line, "optimizer ", 10))
			c->optimizer = line + 10;
		else if (!strncmp(line, "lr ", 3))
			c->lr = strtod(line + 3, NULL);
		else if (!strcmp(line, "infer"))
			c->infer = true;
		else if (*line != '#')
			read_given(c, line);
	}
	return true;
}

static const Given *
find(const Golden *c, const char *kind, const char *name)
{
	for (int i = 0; i < c->n; i++)
		if (!strcmp(c->line[i].kind, kind) && !strcmp(c->line[i].name, name))
			return &c->line[i];
	return NULL;
}

/* ---- comparing ---- */

static void
compare(const Golden *c, const Given *want, const Node *n, const double *got, const char *what)
{
	double scale = 1e-3, most = 0;
	bool same = n->nd == want->nd && node_count(n) == want->count;
	for (int i = 0; same && i < n->nd; i++)
		same = n->dim[i] == want->dim[i];
	check(same, c, "%s %s has another shape", what, want->name);
	for (int64_t i = 0; same && i < want->count; i++) {
		scale = fmax(scale, fabs(want->v[i]));
		most = fmax(most, isnan(got[i]) ? INFINITY : fabs(got[i] - want->v[i]));
	}
	check(most <= CLOSE * scale, c, "%s %s is off by %g of %g", what, want->name, most, scale);
}

static Ast *
parse(const char *path, const char *text)
{
	int file = source_add(path, text);
	return parse_expr(&arena, text, (Loc){file, 1, 1});
}

/* Values of the graph's parameters or states by name, in its order. */
static const double **
values_of(const Golden *c, const char *kind, int n, const char *(*name)(const Graph *, int), const Graph *g)
{
	static const double zero[1];
	const double **v = arena_alloc(&arena, (size_t)(n + 1) * sizeof *v);
	for (int i = 0; i < n; i++) {
		const Given *x = find(c, kind, name(g, i));
		check(x != NULL, c, "%s %s has no values", kind, name(g, i));
		v[i] = x ? x->v : zero;
	}
	return v;
}

static const char *param_name(const Graph *g, int i) { return g->param[i].name; }
static const char *state_name(const Graph *g, int i) { return g->state[i].name; }

typedef struct Want { /* what is evaluated, and what it should be */
	Node *node[MAXLINES];
	const Given *is[MAXLINES];
	int n;
} Want;

static void
want(Want *w, Node *n, const Given *is)
{
	w->node[w->n] = n;
	w->is[w->n++] = is;
}

static void
want_gradients(const Golden *c, Lower *w, Node *y, Node **wrt, const char **name, int n, Want *all)
{
	Node *d[MAXLINES], *loss;
	Graph *g = lower_graph(w);
	const Given *weight = find(c, "weight", "-");
	int64_t axes[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7};
	GInput in = {.name = "weight", .dt = DT_F32, .nd = y->nd};
	if (!weight || weight->count != node_count(y))
		return;
	memcpy(in.dim, y->dim, sizeof in.dim);
	loss = mk_reduce(g, P_reduce_sum, mk2(g, P_mul, y, mk_input(g, graph_input(g, in))), axes, y->nd);
	autodiff(w, loss, wrt, n, d);
	for (int i = 0; i < n; i++) {
		const Given *is = find(c, "grad", name[i]);
		check(!is == !d[i], c, "gradient of %s: %s", name[i], is ? "missing" : "none expected");
		if (is && d[i])
			want(all, d[i], is);
	}
}

static void
run_expr(const Golden *c, Lib *lib)
{
	Graph *g = graph_new(&arena, "golden");
	Lower *w = lower_new(lib, g, !c->infer);
	Node *wrt[MAXLINES];
	const char *name[MAXLINES];
	const double *input[MAXLINES];
	Want all = {0};
	Val v;
	int n = 0, ninput = 0;
	for (int i = 0; i < c->n; i++) {
		const Given *x = &c->line[i];
		bool ids = !strcmp(x->kind, "ids");
		if (!ids && strcmp(x->kind, "input"))
			continue;
		GInput in = {.name = x->name, .dt = ids ? DT_I32 : DT_F32, .nd = x->nd};
		memcpy(in.dim, x->dim, sizeof in.dim);
		Node *node = mk_input(g, graph_input(g, in));
		lower_bind(w, x->name, val_tensor(node, x->ax));
		input[ninput++] = x->v;
		if (!ids)
			wrt[n] = node, name[n++] = x->name;
	}
	Ast *e = parse(c->path, c->expr);
	if (!e || !lower_eval(w, e, "", &v) || v.kind != V_TENSOR) {
		check(false, c, "does not lower");
		return;
	}
	for (int i = 0; i < g->nparam; i++)
		wrt[n] = mk_param(g, i), name[n++] = g->param[i].name;
	want(&all, v.node, find(c, "result", "-"));
	want_gradients(c, w, v.node, wrt, name, n, &all);
	for (int i = 0; i < g->nstate; i++) {
		const Given *is = find(c, "update", g->state[i].name);
		check(!is == !g->state[i].update, c, "update of %s: %s", g->state[i].name, is ? "missing" : "none expected");
		if (is && g->state[i].update)
			want(&all, g->state[i].update, is);
	}
	input[ninput] = find(c, "weight", "-")->v;
	Env env = {.input = input, .param = values_of(c, "param", g->nparam, param_name, g), .state = values_of(c, "state", g->nstate, state_name, g)};
	double *got[MAXLINES];
	interp(g, &env, all.node, all.n, got);
	for (int i = 0; i < all.n; i++) {
		compare(c, all.is[i], all.node[i], got[i], all.is[i]->kind);
		free(got[i]);
	}
}

/* One step: a graph whose states have the values of `state`, and after it the new ones. */
static void
run_step(const Golden *c, Lib *lib, const Given *gradient, int step, double **state)
{
	Graph *g = graph_new(&arena, "golden");
	Lower *w = lower_new(lib, g, true);
	Ast *e = parse(c->path, c->optimizer);
	GState p = {.name = "p", .dt = DT_F32, .nd = 1, .dim = {gradient->count}, .space = SP_STAT, .fit = ""};
	GInput in = {.name = "g", .dt = DT_F32, .nd = 1, .dim = {gradient->count}};
	const char *const ax[] = {"n"};
	Val args[4] = {val_tensor(mk_state(g, graph_state(g, p)), ax), val_tensor(mk_input(g, graph_input(g, in)), ax), val_num(c->lr, false),
	               val_num(step, true)}, out;
	if (!e || !lower_call(w, e->s, args, 4, e, "", &out)) {
		check(false, c, "does not lower");
		return;
	}
	const double *input[] = {gradient->v}, *now[8];
	Node *update[8];
	double *new[8];
	for (int i = 0; i < g->nstate; i++) {
		if (!state[i])
			state[i] = xcalloc((size_t)gradient->count, sizeof **state);
		now[i] = state[i];
		update[i] = g->state[i].update;
	}
	interp(g, &(Env){.input = input, .state = now}, update, g->nstate, new);
	for (int i = 0; i < g->nstate; i++) {
		free(state[i]);
		state[i] = new[i];
	}
}

static void
run_optimizer(const Golden *c, Lib *lib)
{
	const Given *start = find(c, "start", "-");
	double *state[8] = {NULL};
	size_t bytes = (size_t)start->count * sizeof *start->v;
	int step = 0;
	state[0] = memcpy(xmalloc(bytes), start->v, bytes);
	for (int i = 0; i + 1 < c->n; i++) {
		if (strcmp(c->line[i].kind, "gradient"))
			continue;
		run_step(c, lib, &c->line[i], ++step, state);
		Node shape = {.nd = 1, .dim = {start->count}};
		compare(c, &c->line[i + 1], &shape, state[0], arena_printf(&arena, "parameters after step %d", step));
	}
	check(step > 0, c, "no step");
	for (int i = 0; i < 8; i++)
		free(state[i]);
}

/* ---- coverage ---- */

static bool
mentions(const Ast *e, const char *name)
{
	bool found = e && (e->kind == A_CALL || e->kind == A_NAME) && !strcmp(e->s, name);
	for (int i = 0; e && !found && i < e->nkid; i++)
		found = mentions(e->kid[i], name);
	return found;
}

static bool
declares_parameter(const Ast *e)
{
	bool found = e && e->kind == A_PARAM;
	for (int i = 0; e && !found && i < e->nkid; i++)
		found = declares_parameter(e->kid[i]);
	return found;
}

static bool
has_formal(const Ast *def, const char *name)
{
	for (int i = 1; i < def->nkid; i++)
		if (!strcmp(def->kid[i]->s, name))
			return true;
	return false;
}

/* Which definitions have parameters, of their own or through what they call. */
static void
find_layers(Ast *const *def, int n, bool *layer)
{
	bool more = true;
	for (int i = 0; i < n; i++)
		layer[i] = declares_parameter(def[i]->kid[0]);
	while (more) {
		more = false;
		for (int i = 0; i < n; i++)
			for (int k = 0; k < n && !layer[i]; k++)
				more |= layer[i] = layer[k] && strcmp(def[k]->t, "grad") && !has_formal(def[i], def[k]->s) && mentions(def[i], def[k]->s);
	}
}

/* Every layer with parameters and every optimizer of the library is in a case. */
static void
check_coverage(Lib *lib, Ast *const *used, size_t nused)
{
	int n;
	Ast **def = lib_defs(lib, &n);
	bool *layer = arena_alloc(&arena, (size_t)n * sizeof *layer);
	find_layers(def, n, layer);
	for (int i = 0; i < n; i++) {
		size_t k = 0;
		if (!layer[i] && strcmp(def[i]->t, "optimizer"))
			continue;
		while (k < nused && !mentions(used[k], def[i]->s))
			k++;
		check(k < nused, &(Golden){.path = "tests/goldens"}, "%s %s of %s has no case", def[i]->t, def[i]->s, source_path(def[i]->loc.file));
	}
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int
main(int argc, char **argv)
{
	Lib *lib = lib_new(&arena);
	char *path[512];
	Ast *used[LEN(path)];
	size_t n = 0, nused = 0;
	DIR *d = opendir("tests/goldens");
	Golden *c = arena_alloc(&arena, sizeof *c);
	if (!d || !lib_load_folder(lib, "ops")) {
		fprintf(stderr, "run this at the repository's root\n");
		return 1;
	}
	for (struct dirent *e; (e = readdir(d)) && n < LEN(path);) {
		size_t len = strlen(e->d_name);
		if (len > 4 && !strcmp(e->d_name + len - 4, ".txt"))
			path[n++] = arena_printf(&arena, "tests/goldens/%s", e->d_name);
	}
	closedir(d);
	qsort(path, n, sizeof *path, by_name);
	for (size_t i = 0; i < n; i++) {
		if ((argc > 1 && !strstr(path[i], argv[1])) || !read_golden(c, path[i]))
			continue;
		used[nused++] = parse(c->path, c->optimizer ? c->optimizer : c->expr);
		if (c->optimizer)
			run_optimizer(c, lib);
		else
			run_expr(c, lib);
	}
	if (argc < 2)
		check_coverage(lib, used, nused);
	check(n > 0, &(Golden){.path = "tests/goldens"}, "no cases");
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
