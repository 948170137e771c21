/* Runs the `test` lines of the op library and of tests/ops (and of .op files given): each is lowered, differentiated and evaluated
   by the float64 interpreter, for training and, where that is another graph, for inference; then
     gradients of all inputs and parameters against central differences of the interpreter,
     the graph after the graph passes against the graph before,
     every emitter, fused and not, with a poisoned arena, against the interpreter,
     all CUDA kernels compiled, fp32 for sm_80 and bf16 for sm_90, none of which may spill (kernels_test.sh has both for the models).
   All but the differences also for inputs of small integers, most of which have equals, and for zeros, infinities and NaN.
   States are inputs, their updates results. A test of an optimizer names its options alone: it gets parameters, a gradient,
   a rate and step 3; one of a schedule gets steps from 1 to beyond the last. A definition that no test mentions is a failure.
   MMC_TEST_CUBINS=no: kernels for GPUs are generated, and not compiled.
   Arguments: cpu, cuda (devices to run on), cubins (compile for GPUs that are not here); default: all, cuda where there is one; .op
   files, of which alone the tests are run then. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runtime/cuda_api.h"
#include "check_count.h"
#include "check_graph.h"

#define MAXTEST 2000

typedef enum Turn { RANDOM, TIES, EDGES, NTURN } Turn; /* what the values of a case are */
static const char *const turn_name[NTURN] = {"", " with ties", " with infinities and NaN"};

typedef struct Case {
	Ast *test;
	Graph *g, *cpu, *half; /* after the passes of a GPU; contracted; with products in bf16 */
	Node **out;        /* results, then gradients */
	int nout, nresult;
	int nturn;                /* 1: no input to give other values */
	bool padded;              /* a pass of a GPU's adds zeros to products, which make NaN of infinities */
	double **input[NTURN];    /* values by input */
	double **want[NTURN];     /* by out */
	double **want_half;       /* of random ones */
	char *name;
	Graph *lowered;    /* before any pass */
	bool training;
} Case;

static Arena arena;

/* Behind the place of the test. */
#define check_case(ok, c, ...) check_at((ok), source_path((c)->test->loc.file), (c)->test->loc.line, __VA_ARGS__)

static const float edges[] = {0, 1, -1, 2, 2, INFINITY, -0.0f, -INFINITY, 1e-12f, NAN, 3, -3, 3};
static const float specials[] = {0, 1, -1, 2, 2, INFINITY, -0.0f, -INFINITY, NAN, 4, -4, 4}; /* sums are exact in float: ties stay ties */

/* Inputs hang on the text of the test alone: one more test changes no other. */
static uint64_t
seed_of(const Ast *test)
{
	const char *s = source_text(test->loc.file);
	for (int line = 1; line < test->loc.line; line++)
		s = strchr(s, '\n') + 1;
	return hash_bytes(HASH_INIT, s, strcspn(s, "\n"));
}

/* Inputs of a test that random numbers are given to, and an optimizer's gradient. */
static bool
is_free(const GInput *in)
{
	return in->dt == DT_F32 && !in->below && (!strncmp(in->name, "randn", 5) || !strcmp(in->name, "g"));
}

static double
given_value(const GInput *in, int64_t k, Turn turn, uint64_t *seed)
{
	if (is_free(in) && turn == TIES)
		return (double)(random_next(seed) % 4) - 1;
	if (is_free(in) && turn == EDGES)
		return specials[random_next(seed) % LEN(specials)];
	if (!strcmp(in->name, "step"))
		return in->nd ? (double)k + 1 : 3;
	if (!strcmp(in->name, "total"))
		return 20;
	if (!strcmp(in->name, "state.run.seed") || !strcmp(in->name, "state.run.step"))
		return 7;
	if (in->below)
		return in->below < 0 ? edges[k % (int)LEN(edges)] : (double)(random_next(seed) % (uint64_t)in->below);
	double x = (float)random_normal(seed);
	return strncmp(in->name, "state.", 6) ? x : fabs(x); /* a variance, perhaps */
}

static void
fill_inputs(Case *c, Turn turn, uint64_t seed)
{
	Graph *g = c->g;
	c->nturn = turn + 1;
	c->input[turn] = arena_alloc(&arena, (size_t)g->ninput * sizeof **c->input);
	for (int i = 0; i < g->ninput; i++) {
		GInput *in = &g->input[i];
		int64_t n = count_dims(in->dim, in->nd);
		double *v = c->input[turn][i] = xcalloc((size_t)n, sizeof *v);
		for (int64_t k = 0; k < n; k++)
			v[k] = given_value(in, k, turn, &seed);
	}
}

static Env
make_env(const Case *c, Turn turn)
{
	return (Env){.input = (const double **)c->input[turn]};
}

static Val
new_input(Graph *g, const char *name, int64_t n)
{
	GInput in = {.name = name, .dt = DT_F32, .nd = n > 0, .dim = {n}};
	return val_tensor(mk_input(g, graph_input(g, in)), (const char *[]){"n"});
}

/* The optimizer or schedule that a test is of: they are not differentiated. */
static const Ast *
is_rule(Lib *lib, const Ast *e)
{
	const Ast *def = e->kind == A_CALL ? lib_find(lib, e->s) : NULL;
	return def && (!strcmp(def->t, "optimizer") || !strcmp(def->t, "schedule")) ? def : NULL;
}

/* Of an expression its value; of an optimizer or a schedule the call with what a training step gives it. */
static bool
evaluate(Lower *w, Lib *lib, Ast *e, Val *out)
{
	Graph *g = lower_graph(w);
	const Ast *def = is_rule(lib, e);
	if (!def)
		return lower_eval(w, e, "", out);
	if (!strcmp(def->t, "schedule")) {
		Val a[2] = {new_input(g, "step", 24), new_input(g, "total", 0)};
		return lower_call(w, def->s, a, 2, e, "", out);
	}
	GState p = {.name = "p", .dt = DT_F32, .nd = 1, .dim = {13}, .space = SP_STAT, .fit = ""};
	Val a[4] = {val_tensor(mk_state(g, graph_state(g, p)), (const char *[]){"n"}), new_input(g, "g", 13), val_num(0.1, false), new_input(g, "step", 0)};
	return lower_call(w, def->s, a, 4, e, "", out);
}

/* What the states are after the step, as results. */
static int
updates_to_outputs(Graph *g)
{
	int n = 0;
	for (int i = 0; i < g->nstate; i++) {
		if (!g->state[i].update)
			continue;
		graph_output(g, arena_printf(&arena, "update.%s", g->state[i].name), "value", g->state[i].update);
		g->state[i].update = NULL;
		n++;
	}
	return n;
}

/* A weighted sum of what is differentiated, or NULL. */
static Node *
weigh(Graph *g, const Val *list, int n)
{
	Node *loss = NULL;
	for (int i = 0; i < n; i++) {
		Node *y = list[i].kind == V_TENSOR ? list[i].node : NULL;
		if (!y || y->dt != DT_F32)
			continue;
		GInput in = {.name = arena_printf(&arena, "weight%d", i), .dt = DT_F32, .nd = y->nd};
		memcpy(in.dim, y->dim, sizeof in.dim);
		Node *s = mk2(g, P_mul, y, mk_input(g, graph_input(g, in)));
		int64_t all[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7};
		s = mk_reduce(g, P_reduce_sum, s, all, s->nd);
		loss = loss ? mk2(g, P_add, loss, s) : s;
	}
	return loss;
}

static void
add_gradients(Lower *w, Graph *g, Node *loss)
{
	Node *wrt[256], *d[256];
	int n = 0;
	for (int i = 0; i < g->ninput; i++)
		if (g->input[i].dt == DT_F32 && strncmp(g->input[i].name, "weight", 6))
			wrt[n++] = mk_input(g, i);
	for (int i = 0; i < g->nparam; i++)
		wrt[n++] = mk_param(g, i);
	autodiff(w, loss, wrt, n, d);
	for (int i = 0; i < n; i++)
		if (d[i])
			graph_output(g, arena_printf(&arena, "d%d", i), wrt[i]->op == P_param ? g->param[wrt[i]->at[0]].name : g->input[wrt[i]->at[0]].name, d[i]);
	graph_output(g, "loss", "value", loss);
}

/* The results of a test, a weighted sum of them, and its gradients; outputs of the graph in that order. */
static bool
build(Case *c, Lib *lib, int index)
{
	c->name = arena_printf(&arena, "t%d", index);
	Graph *g = graph_new(&arena, c->name);
	Lower *w = lower_new(lib, g, c->training);
	Val v, *list = &v;
	int n = 1;
	if (!evaluate(w, lib, c->test->kid[0], &v))
		return false;
	if (v.kind == V_LIST)
		list = v.list, n = v.nlist;
	for (int i = 0; i < n; i++)
		if (list[i].kind == V_TENSOR || list[i].kind == V_NUM)
			graph_output(g, arena_printf(&arena, "y%d", i), "value", list[i].kind == V_NUM ? mk_const(g, DT_F32, list[i].f, NULL, 0) : list[i].node);
	updates_to_outputs(g);
	c->nresult = g->noutput;
	Node *loss = is_rule(lib, c->test->kid[0]) ? NULL : weigh(g, list, n);
	if (loss)
		add_gradients(w, g, loss);
	g->batch = 1;
	c->g = given_to_inputs(g, true);
	c->lowered = c->g;
	return true;
}

static bool
same_graph(Graph *a, Graph *b)
{
	char *text[2];
	size_t n[2];
	Graph *g[2] = {a, b};
	for (int i = 0; i < 2; i++) {
		FILE *f = open_memstream(&text[i], &n[i]);
		graph_print(g[i], f);
		fclose(f);
	}
	bool same = n[0] == n[1] && !memcmp(text[0], text[1], n[0]);
	free(text[0]);
	free(text[1]);
	return same;
}

static bool
has_free(const Graph *g)
{
	for (int i = 0; i < g->ninput; i++)
		if (is_free(&g->input[i]))
			return true;
	return false;
}

/* Inputs that no finite step goes through. */
static bool
has_edges(const Graph *g)
{
	for (int i = 0; i < g->ninput; i++)
		if (g->input[i].below < 0)
			return true;
	return false;
}

static bool
mentions(const Ast *e, const char *name)
{
	if (!e)
		return false;
	if ((e->kind == A_CALL || e->kind == A_NAME) && !strcmp(e->s, name))
		return true;
	for (int i = 0; i < e->nkid; i++)
		if (mentions(e->kid[i], name))
			return true;
	return false;
}

static void
check_coverage(Lib *lib, int file)
{
	int ndef, ntest;
	Ast **def = lib_defs(lib, &ndef), **test = lib_tests(lib, &ntest);
	for (int i = 0; i < ndef; i++) {
		int k = 0;
		if (!strcmp(def[i]->t, "grad") || def[i]->loc.file < file)
			continue;
		while (k < ntest && !mentions(test[k]->kid[0], def[i]->s))
			k++;
		check_case(k < ntest, &(Case){.test = def[i]}, "%s %s has no test", def[i]->t, def[i]->s);
	}
}

static void
outputs(Case *c)
{
	c->nout = c->g->noutput;
	c->out = arena_alloc(&arena, (size_t)c->nout * sizeof *c->out);
	for (int i = 0; i < c->nout; i++)
		c->out[i] = c->g->output[i].node;
}

static bool
has_op(const Graph *g, Prim a, Prim b)
{
	for (int i = 0; i < g->nnode; i++)
		if (g->node[i]->op == a || g->node[i]->op == b)
			return true;
	return false;
}

static void
check_half(Case *c)
{
	Env e = make_env(c, RANDOM);
	double scale, largest = 0.01; /* small gradients are differences of larger numbers */
	Node **half = arena_alloc(&arena, (size_t)c->nout * sizeof *half);
	c->want_half = arena_alloc(&arena, (size_t)c->nout * sizeof *c->want_half);
	for (int i = 0; i < c->nout; i++)
		half[i] = c->half->output[i].node;
	interp(c->half, &e, half, c->nout, c->want_half);
	for (int i = 0; i + 1 < c->nout; i++) { /* without the loss */
		difference(c->want[RANDOM][i], c->want[RANDOM][i], node_count(c->out[i]), &scale);
		largest = fmax(largest, scale);
	}
	for (int i = 0; i < c->nout && has_op(c->half, P_scan, P_window); i++) { /* on a GPU alone it would be seen late that a loop was taken apart, or a convolution */
		double most = difference(c->want[RANDOM][i], c->want_half[i], node_count(c->out[i]), &scale);
		check_case(most <= 0.1 * largest, c, "%s: products in bf16 change the value by %g of %g", c->g->output[i].name, most, largest);
	}
}

/* A graph after passes gives what the one before them gave. Where it does not, says what they did, unless that is NULL. */
static bool
same_values(Case *c, Turn turn, Graph *g, const char *what)
{
	bool same = true;
	Env e = make_env(c, turn);
	double **got = xcalloc((size_t)c->nout, sizeof *got), scale;
	Node **out = xcalloc((size_t)c->nout, sizeof *out);
	for (int i = 0; i < c->nout; i++)
		out[i] = g->output[i].node;
	interp(g, &e, out, c->nout, got);
	for (int i = 0; i < c->nout; i++) {
		double most = difference(c->want[turn][i], got[i], node_count(c->out[i]), &scale);
		same &= most <= 1e-9 * scale;
		if (what)
			check_case(most <= 1e-9 * scale, c, "%s%s: %s the value by %g of %g", g->output[i].name, turn_name[turn], what, most, scale);
		free(got[i]);
	}
	free(out);
	free(got);
	return same;
}

static void
reference(Case *c)
{
	outputs(c);
	for (Turn t = 0; (int)t < c->nturn; t++) {
		Env e = make_env(c, t);
		c->want[t] = arena_alloc(&arena, (size_t)c->nout * sizeof **c->want);
		interp(c->g, &e, c->out, c->nout, c->want[t]);
	}
	c->cpu = pass_contract(c->g);
	c->g = pass_split(c->cpu, true);
	graph_verify(c->g, c->name);
	outputs(c);
	c->half = pass_split(pass_precision(c->cpu), true);
	Graph *unfolded = pass_unfold(c->cpu);
	check_half(c);
	for (Turn t = 0; (int)t < c->nturn; t++) {
		same_values(c, t, c->g, "the passes of a GPU change");
		c->padded |= !same_values(c, t, unfolded, t == EDGES ? NULL : "products of windows for folds change");
	}
}

/* A few elements of every gradient. */
static void
finite_differences(Case *c, Graph *before, Node **out)
{
	Env e = make_env(c, RANDOM);
	double **want = c->want[RANDOM];
	uint64_t seed = 7;
	Node *loss = out[c->nout - 1];
	int64_t work = 0;
	for (int i = 0; i < before->nnode; i++)
		work += node_count(before->node[i]);
	int samples = work > 4000000 ? 1 : 4; /* an evaluation of so many elements takes most of a second */
	for (int i = c->nresult; i + 1 < c->nout; i++) {
		const char *of = before->output[i].role;
		int in = 0;
		while (strcmp(before->input[in].name, of) && (strncmp(before->input[in].name, "param.", 6) || strcmp(before->input[in].name + 6, of)))
			in++;
		int64_t n = node_count(out[i]);
		double scale, most = difference(want[i], want[i], n, &scale), worst = 0;
		(void)most;
		for (int k = 0; k < samples && n; k++) {
			int64_t at = (int64_t)(random_next(&seed) % (uint64_t)n);
			double d = interp_numeric_grad(before, &e, loss, c->input[RANDOM][in], at, 1e-3);
			worst = fmax(worst, fabs(d - want[i][at]));
		}
		check_case(worst <= 1e-6 * (scale + 1), c, "gradient of %s is off by %g of %g", of, worst, scale);
	}
}

/* ---- devices ---- */

/* The plan as one that a file could hold: with strings, and states as large as the largest case's. */
static void
verify_plan(Case *cases, Plan *p, const Places *places, int n)
{
	Err e = {0};
	p->model = p->source = p->source_path = p->compiler = p->graph = arena_strdup(&arena, "");
	for (int i = 0; i < n; i++)
		if (places[i].bytes[SP_STAT] > p->stat_bytes)
			p->stat_bytes = places[i].bytes[SP_STAT];
	for (int i = 0; i < n; i++)
		for (uint32_t k = 0; k < p->set->program[i].noutput; k++)
			p->set->program[i].output[k].role = arena_strdup(&arena, "value");
	check_case(plan_verify(p, &e), &cases[0], "the plan is not sound: %s", e.msg);
}

static Plan *
make_plan(Case *cases, int n, const CheckMode *m, Places *places)
{
	Graph **g = xcalloc((size_t)n, sizeof *g);
	for (int i = 0; i < n; i++) {
		Plan dummy = {0};
		place_states(&arena, cases[i].g, &places[i], &dummy);
		g[i] = m->half ? cases[i].half : m->cuda ? cases[i].g : pass_split(cases[i].cpu, false);
	}
	Plan *p = compile_graphs(&arena, g, places, n, m, m->cuda ? 32 : 200);
	free(g);
	verify_plan(cases, p, places, n);
	return p;
}

static void
compare(Case *c, Turn turn, const Process *r, const CheckMode *m)
{
	const PlanProgram *p = r->program;
	double **want = m->half ? c->want_half : c->want[turn], bound = m->half ? 2e-2 : 2e-5; /* half: a rounding that falls the other way is one part in 256 of an element */
	Err e = {0};
	for (uint32_t i = 0; i < p->noutput; i++) {
		const PlanRef *at = p->output[i].ref;
		if (turn != RANDOM && !strcmp(p->output[i].name, "loss"))
			continue; /* its terms are compared; of ones as large their sum is not exact enough */
		int64_t n = node_count(c->out[i]);
		void *buf = xmalloc(at->bytes + 1);
		if (check_case(r->device->download(r->device, buf, process_at(r, at->space, at->off), at->bytes, &e), c, "%s", e.msg)) {
			double *got = load_values(c->out[i]->dt, buf, n), scale, most = difference(want[i], got, n, &scale);
			double least = strcmp(p->output[i].name, "loss") ? 0.01 : 1; /* a sum of terms of size 1, which may cancel */
			check_case(most <= bound * (scale + least), c, "%s %s%s: off by %g of %g", m->name, p->output[i].name, turn_name[turn], most, scale);
			free(got);
		}
		free(buf);
	}
}

static bool
upload_inputs(const Case *c, Turn turn, Process *r, const Places *at, Err *e)
{
	bool ok = true;
	for (int i = 0; ok && i < c->g->ninput; i++)
		ok = upload_value(r, at, c->g->input[i].name, c->input[turn][i], c->g->input[i].dt, count_dims(c->g->input[i].dim, c->g->input[i].nd), e);
	return ok;
}

static void
run_case(Case *c, Device *d, const Plan *plan, int i, const Places *at, const CheckMode *m)
{
	Err e = {0};
	Process r;
	int nturn = m->half ? 1 : c->padded && m->cuda ? EDGES : c->nturn;
	bool ok = process_open(&r, d, plan, i, at, NULL, 0, &e);
	for (Turn t = 0; ok && (int)t < nturn; t++) {
		ok = process_poison(&r, &e) && upload_inputs(c, t, &r, at, &e) && process_run(&r, &e) && process_intact(&r, &e);
		if (ok)
			compare(c, t, &r, m);
	}
	check_case(ok, c, "%s: %s", m->name, e.msg);
	process_close(&r);
}

static void
on_device(Case *cases, int n, Device *d)
{
	for (const CheckMode *m = check_modes; m->name; m++) {
		if (m->cuda != !strcmp(d->name, "cuda") || !m->reuse)
			continue;
		Places *places = xcalloc((size_t)n, sizeof *places);
		Plan *p = make_plan(cases, n, m, places);
		for (int i = 0; i < n; i++)
			run_case(&cases[i], d, p, i, &places[i], m);
		free(places);
	}
}

/* The kernel of a compiler's log that spills first. */
static const char *
spilling(const char *log)
{
	const char *name = "?", *at;
	char *line, *save = NULL, *text = arena_strdup(&arena, log);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if ((at = strstr(line, "properties for ")))
			name = at + strlen("properties for ");
		if (strstr(line, "spill") && !strstr(line, " 0 bytes spill stores"))
			return name;
	}
	return name;
}

static void
compile_module(const Case *c, const char *source, const char *arch)
{
	char *code = NULL, *log = NULL;
	size_t size;
	Err e = {0};
	const char *wanted = getenv("MMC_TEST_CUBINS");
	if (wanted && !strcmp(wanted, "no")) {
		skipped++;
		return;
	}
	bool ok = nvrtc_compile(source, arch, &code, &size, &log, &e);
	if (!ok && (strstr(e.msg, "without CUDA") || strstr(e.msg, "libnvrtc"))) {
		skipped++;
		return;
	}
	check_case(ok, c, "%s: %s", arch, e.msg);
	if (ok && nvrtc_spills(log))
		check_case(false, c, "%s: %s spills: %ld bytes in its module", arch, spilling(log), (long)nvrtc_spills(log));
	else
		passed++;
	free(code);
	free(log);
}

static void
compile_cuda(Case *cases, int n)
{
	for (const CheckMode *m = check_modes; m->name; m++) {
		if (!m->cuda || !m->fuse || !m->reuse)
			continue;
		Places *places = xcalloc((size_t)n, sizeof *places);
		Plan *p = make_plan(cases, n, m, places);
		for (uint32_t k = 0; k < p->set->nmodule; k++)
			compile_module(&cases[0], p->set->module[k].source, m->half ? "sm_90" : "sm_80");
		free(places);
	}
}

/* The test in training and, if it differs, in inference; how many cases that makes. */
static int
add_case(Case *c, Lib *lib, Ast *test, int index)
{
	int n = 0;
	for (int turn = 0; turn < 2 && index + n < MAXTEST; turn++) {
		c[n] = (Case){.test = test, .training = turn == 0};
		if (!build(&c[n], lib, index)) {
			check_case(false, &c[n], "does not lower");
			break;
		}
		if (turn && same_graph(c[0].lowered, c[1].lowered))
			break;
		c[n].g->name = c[n].name = arena_printf(&arena, "t%d", index + n);
		fill_inputs(&c[n], RANDOM, seed_of(test));
		for (Turn t = TIES; t < NTURN && has_free(c[n].g); t++)
			fill_inputs(&c[n], t, seed_of(test));
		reference(&c[n]);
		Node **out = arena_alloc(&arena, (size_t)c[n].nout * sizeof *out);
		for (int k = 0; k < c[n].nout; k++)
			out[k] = c[n].lowered->output[k].node;
		if (c[n].nout > c[n].nresult && !has_edges(c[n].lowered))
			finite_differences(&c[n], c[n].lowered, out);
		n++;
	}
	return n;
}

/* Compiling takes as long as all else: a process of its own, which answers with its counts. */
static pid_t
compile_apart(Case *cases, int n, int fd[2])
{
	fflush(NULL);
	if (pipe(fd))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		passed = failed = skipped = 0;
		compile_cuda(cases, n);
		int count[3] = {passed, failed, skipped};
		fflush(NULL);
		_exit(write(fd[1], count, sizeof count) != sizeof count);
	}
	close(fd[1]);
	return child;
}

static void
add_counts(pid_t child, int fd)
{
	int count[3], status;
	bool ok = child > 0 && read(fd, count, sizeof count) == sizeof count;
	if (child > 0)
		waitpid(child, &status, 0);
	close(fd);
	if (!ok) {
		fprintf(stderr, "the process that compiles ended without an answer\n");
		failed++;
		return;
	}
	passed += count[0];
	failed += count[1];
	skipped += count[2];
}

int
main(int argc, char **argv)
{
	Lib *lib = lib_new(&arena);
	Case *cases = arena_alloc(&arena, MAXTEST * sizeof *cases);
	bool cpu = argc < 2, cuda = argc < 2, cubins = argc < 2;
	int n = 0, ntest, first = 0;
	if (!lib_load_folder(lib, "ops") || !lib_load_folder(lib, "tests/ops"))
		return 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "cpu"))
			cpu = true;
		else if (!strcmp(argv[i], "cuda"))
			cuda = true;
		else if (!strcmp(argv[i], "cubins"))
			cubins = true;
		else {
			first = first ? first : source_add("", "") + 1;
			if (!lib_load(lib, argv[i]))
				return 1;
		}
	}
	Ast **test = lib_tests(lib, &ntest);
	check_coverage(lib, first);
	for (int i = 0; i < ntest; i++)
		n += test[i]->loc.file < first ? 0 : add_case(&cases[n], lib, test[i], n);
	int fd[2];
	pid_t child = cubins && n ? compile_apart(cases, n, fd) : 0; /* before there are threads */
	Err e = {0};
	Device *d = cpu && n ? device_cpu_open(0, &e) : NULL;
	if (d) {
		on_device(cases, n, d);
		d->close(d);
	}
	d = cuda && n ? device_cuda_open(0, &e) : NULL;
	if (d) {
		on_device(cases, n, d);
		d->close(d);
	} else {
		skipped++;
	}
	if (cubins && n)
		add_counts(child, fd[0]);
	return check_end();
}
