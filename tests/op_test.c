/* Runs the `test` lines of the op library (and of .op files given): each is lowered, differentiated and evaluated
   by the float64 interpreter; then
     gradients of all inputs and parameters against central differences of the interpreter,
     the graph after the graph passes against the graph before,
     every emitter, fused and not, with a poisoned arena, against the interpreter,
     all CUDA kernels compiled for sm_80 and sm_90, none of which may spill.
   Arguments: cpu, cuda (devices to run on; default: both, cuda where there is one), or .op files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_graph.h"

#define MAXTEST 2000

typedef struct Case {
	Ast *test;
	Check c;
	int nresult;       /* outputs before the gradients */
} Case;

static int passed, failed, skipped;
static Arena arena;

/* The results of a test, a weighted sum of them, and its gradients; outputs of the graph in that order. */
static bool
build(Case *c, Lib *lib, int index)
{
	Graph *g = graph_new(&arena, arena_printf(&arena, "optest%d", index)); /* kernels begin with it: racecheck looks at these alone */
	Lower *w = lower_new(lib, g, true);
	Val v, *list = &v;
	Node *loss = NULL, *wrt[256], *d[256];
	int n = 1, nwrt = 0;
	if (!lower_eval(w, c->test->kid[0], "", &v))
		return false;
	if (v.kind == V_LIST)
		list = v.list, n = v.nlist;
	for (int i = 0; i < n; i++) {
		Node *y = list[i].node;
		graph_output(g, arena_printf(&arena, "y%d", i), "value", y);
		if (y->dt != DT_F32)
			continue;
		GInput in = {.name = arena_printf(&arena, "weight%d", i), .dt = DT_F32, .nd = y->nd};
		memcpy(in.dim, y->dim, sizeof in.dim);
		Node *s = mk2(g, P_mul, y, mk_input(g, graph_input(g, in)));
		int64_t all[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7};
		s = mk_reduce(g, P_reduce_sum, s, all, s->nd);
		loss = loss ? mk2(g, P_add, loss, s) : s;
	}
	c->nresult = n;
	for (int i = 0; i < g->ninput; i++)
		if (g->input[i].dt == DT_F32 && strncmp(g->input[i].name, "weight", 6))
			wrt[nwrt++] = mk_input(g, i);
	for (int i = 0; i < g->nparam; i++)
		wrt[nwrt++] = mk_param(g, i);
	if (loss) {
		autodiff(w, loss, wrt, nwrt, d);
		for (int i = 0; i < nwrt; i++)
			if (d[i])
				graph_output(g, arena_printf(&arena, "d%d", i), wrt[i]->op == P_param ? g->param[wrt[i]->at[0]].name : g->input[wrt[i]->at[0]].name, d[i]);
		graph_output(g, "loss", "value", loss);
	}
	g->batch = 1;
	c->c.g = params_to_inputs(g);
	return true;
}

/* A few elements of every gradient. */
static void
finite_differences(Case *c)
{
	Graph *g = c->c.g;
	Env e = {.input = (const double **)c->c.input, .state = (const double **)c->c.state};
	uint64_t seed = 7;
	Node *loss = g->output[g->noutput - 1].node;
	int64_t work = 0;
	for (int i = 0; i < g->nnode; i++)
		work += node_count(g->node[i]);
	int samples = work > 4000000 ? 1 : 4; /* an evaluation of so many elements takes most of a second */
	for (int i = c->nresult; i + 1 < g->noutput; i++) {
		const char *of = g->output[i].role;
		const double *want = c->c.want[i];
		int in = 0;
		while (strcmp(g->input[in].name, of) && (strncmp(g->input[in].name, "param.", 6) || strcmp(g->input[in].name + 6, of)))
			in++;
		int64_t n = node_count(g->output[i].node);
		double scale = 0, worst = 0;
		for (int64_t k = 0; k < n; k++)
			scale = fmax(scale, fabs(want[k]));
		for (int k = 0; k < samples && n; k++) {
			int64_t at = random_below(&seed, n);
			double d = interp_numeric_grad(g, &e, loss, c->c.input[in], at, 1e-3);
			worst = fmax(worst, fabs(d - want[at]));
		}
		check_that(&c->c, worst <= 1e-6 * (scale + 1), "gradient of %s is off by %g of %g", of, worst, scale);
	}
}

/* ---- devices ---- */

static void
on_device(Check **c, int n, Device *d, bool cuda)
{
	for (const CheckMode *m = check_modes; m->name; m++)
		if (m->cuda == cuda && !m->same)
			check_run(c, n, m, d, cuda ? 32 : 200);
	d->close(d);
}

static void
compile_cuda(Check **c, int n)
{
	static const char *const archs[] = {"sm_80", "sm_90"};
	for (const CheckMode *m = check_modes; m->name; m++) {
		if (!m->cuda || !m->fuse || m->same)
			continue;
		for (size_t i = m->half ? LEN(archs) - 1 : 0; i < LEN(archs); i++)
			skipped += !check_cubins(c, n, m, archs[i]);
	}
}

int
main(int argc, char **argv)
{
	Lib *lib = lib_new(&arena);
	Case *cases = arena_alloc(&arena, MAXTEST * sizeof *cases); /* reachable to the end, with all that is in it */
	Check **c = arena_alloc(&arena, MAXTEST * sizeof *c);
	bool cpu = argc < 2, cuda = argc < 2;
	int n = 0, ntest;
	if (!lib_load_folder(lib, "ops"))
		return 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "cpu"))
			cpu = true;
		else if (!strcmp(argv[i], "cuda"))
			cuda = true;
		else if (!lib_load(lib, argv[i]))
			return 1;
	}
	Ast **test = lib_tests(lib, &ntest);
	for (int i = 0; i < ntest && n < MAXTEST; i++) {
		Case *k = &cases[n];
		k->test = test[i];
		if (!build(k, lib, i)) {
			fprintf(stderr, "%s: does not lower\n", loc_text(&arena, k->test->loc));
			failed++;
			continue;
		}
		check_fill(&k->c, (uint64_t)i);
		check_reference(&k->c, false, true);
		if (k->c.g->noutput > k->nresult)
			finite_differences(k);
		c[n++] = &k->c;
	}
	Err e = {0};
	Device *d = cpu ? device_cpu_open(0, &e) : NULL;
	if (d)
		on_device(c, n, d, false);
	if ((d = cuda ? device_cuda_open(0, &e) : NULL))
		on_device(c, n, d, true);
	else
		skipped++;
	if (argc < 2)
		compile_cuda(c, n);
	for (int i = 0; i < n; i++) {
		for (char *s = c[i]->messages.s; s && *s; s += strcspn(s, "\n") + 1)
			fprintf(stderr, "%s: %.*s\n", loc_text(&arena, cases[i].test->loc), (int)strcspn(s, "\n"), s);
		passed += c[i]->passed;
		failed += c[i]->failed;
	}
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
