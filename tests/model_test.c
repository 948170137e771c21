/* Whole models: a training step (and its parts, where it has several) and an evaluation of every model of tables and tensors in
   models and tests/models, one of which asks for every option of training, at a small batch and with small vocabularies, on random
   data; tensors are cut to 8 places an axis. The float64 interpreter says what comes out: losses, gradients (as the optimizer's first moment, which begins at
   zero), updated parameters, predictions. Against it, on every device that is there:
     fused, every operation alone, and without reuse of memory, each in an arena that begins full of NaN;
     on a GPU also with products in bf16, against the interpreter of that graph;
   fused with and without reuse must give equal bits. And the interpreter's gradient is compared with differences of its loss
   along a random direction of all parameters.
   Arguments: model files (default: all), cpu, cuda (default: both, cuda where there is one). */
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/session.h"
#include "check_count.h"
#include "check_graph.h"

enum { BATCH = 4, ROWS = 24, VOCABULARY = 48, SIDE = 8 };

static const CheckMode modes[] = {
	{"fused", false, true, true, false, false},
	{"fused, no reuse", false, true, false, false, true},
	{"unfused", false, false, true, false, false},
	{"unfused, no reuse", false, false, false, false, true},
	{"fused", true, true, true, false, false},
	{"fused, no reuse", true, true, false, false, true},
	{"unfused", true, false, true, false, false},
	{"unfused, no reuse", true, false, false, false, true},
	{"bf16", true, true, true, true, false},
};

/* Values of every state of a graph, by Graph.state. */
typedef struct Values {
	double *v[256];
} Values;

typedef struct Case {
	const char *file;
	Lib *lib;
	Model *m;
	Graph *train, *accumulate, *eval; /* accumulate: NULL where a step has one part */
	Plan plan;
	Places places;
	unsigned char *image[NSTATE]; /* the states before the step, as a device has them */
	Values before;
	double *column[256];
	DataColumn device_column[256];    /* the same as f32 or i32 */
	uint32_t ncolumn;
} Case;

/* What a graph gives: every state after it, and its outputs. */
typedef struct Results {
	Values state;
	double *output[64];
} Results;

static Arena arena;

static double uniform(uint64_t *s) { return (double)(random_next(s) >> 40) * 0x1p-24; }

static int64_t gstate_count(const GState *s) { return count_dims(s->dim, s->nd); }

/* ---- the case ---- */

static void
fill_columns(Case *c)
{
	const PlanData *d = &c->m->data;
	uint64_t seed = 11;
	c->ncolumn = d->ninput + d->ntarget;
	for (uint32_t i = 0; i < c->ncolumn; i++) {
		const PlanInput *in = i < d->ninput ? &d->input[i] : NULL;
		bool binary = !in && d->target[i - d->ninput].kind == TG_BINARY, ids = in && in->kind != IN_NUMBER && in->kind != IN_TENSOR;
		DType dt = column_dtype(d, i);
		int64_t n = ROWS * (in ? in->width : 1);
		c->column[i] = xcalloc((size_t)n, sizeof **c->column);
		c->device_column[i] = (DataColumn){xcalloc((size_t)n, 4), (size_t)n * 4};
		for (int64_t k = 0; k < n; k++) {
			double v = binary ? uniform(&seed) < 0.3 : dt == DT_F32 ? (float)random_normal(&seed) : (double)(random_next(&seed) % (ids ? (uint64_t)in->size : 256));
			if (ids && in->width > 1 && k % in->width > 2 + k / in->width % in->width)
				v = 0; /* rows of several lengths: 0 is padding */
			c->column[i][k] = v;
			dtype_store(dt, c->device_column[i].data, k, v);
		}
	}
}

/* Vocabularies and tensors of a size that the interpreter can take. */
static void
cut_sizes(PlanInput *in)
{
	if (in->kind != IN_TENSOR && in->size > VOCABULARY)
		in->size = VOCABULARY;
	if (in->kind == IN_TENSOR)
		in->width = 1;
	for (uint32_t k = 0; in->kind == IN_TENSOR && k < in->ndim; k++)
		in->width *= in->dim[k] = in->dim[k] > SIDE ? SIDE : in->dim[k];
}

static double
run_value(const char *name, int64_t parts)
{
	const struct { const char *name; double v; } set[] = {
		{"run.step", 5}, {"run.seed", 77}, {"run.first", 0}, {"run.rows", ROWS}, {"run.steps_per_epoch", (double)(ROWS / BATCH / parts)},
		{"run.total_steps", 30}, {"run.part", 1}, {"run.rate", 0.5},
	};
	for (size_t i = 0; i < LEN(set); i++)
		if (!strcmp(name, set[i].name))
			return set[i].v;
	return 0;
}

/* A state in an image of its space. */
static void *
state_at(const Case *c, const char *name, unsigned char *const image[NSTATE])
{
	int k = place_of(&c->places, name);
	return image[c->places.space[k]] + c->places.off[k];
}

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);
	return n >= k && !strcmp(s + n - k, end);
}

/* Parameters as initialised; the second moment of an optimizer away from zero, where its update is smooth. */
static void
fill_states(Case *c)
{
	Err e = {0};
	uint64_t seed = 5;
	Graph *g = c->train;
	uint64_t bytes[NSTATE] = {c->plan.param_bytes, c->plan.opt_bytes, c->plan.stat_bytes};
	for (int k = 0; k < NSTATE; k++)
		c->image[k] = xcalloc(bytes[k] + 1, 1);
	check(init_states(&c->plan, 3, NULL, c->image, &e), "%s: %s", c->file, e.msg);
	for (int i = 0; i < g->nstate; i++) {
		GState *s = &g->state[i];
		void *at = state_at(c, s->name, c->image);
		int64_t n = gstate_count(s);
		if (s->space == SP_STAT && !strncmp(s->name, "run.", 4) && n == 1)
			dtype_store(s->dt, at, 0, run_value(s->name, c->m->train.accumulate));
		for (int64_t k = 0; s->space == SP_OPT && ends_with(s->name, ".v") && k < n; k++)
			dtype_store(s->dt, at, k, 1e-4 * (1 + uniform(&seed)));
		for (int64_t k = 0; s->space == SP_PARAM && k < n; k++) /* biases and gains are constant at first: stir them */
			dtype_store(s->dt, at, k, dtype_load(s->dt, at, k) + 0.02 * random_normal(&seed));
		c->before.v[i] = xcalloc((size_t)n, sizeof **c->before.v);
		for (int64_t k = 0; k < n; k++)
			c->before.v[i][k] = dtype_load(s->dt, at, k);
	}
}

static bool
open_case(Case *c, const char *file, Lib *lib)
{
	*c = (Case){.file = file, .lib = lib, .m = model_read(&arena, file)};
	if (!c->m)
		return false;
	for (uint32_t i = 0; i < c->m->data.ninput; i++)
		cut_sizes(&c->m->data.input[i]);
	c->m->train.batch = BATCH;
	c->m->train.log_steps = 8;
	c->train = build_train(&arena, lib, c->m);
	if (c->train && c->m->train.accumulate > 1)
		c->accumulate = build_accumulate(&arena, lib, c->m, c->train);
	c->eval = c->train ? build_eval(&arena, lib, c->m, c->train, BATCH) : NULL;
	if (!c->eval)
		return false;
	place_states(&arena, c->train, &c->places, &c->plan);
	fill_columns(c);
	fill_states(c);
	return true;
}

static void
close_case(Case *c)
{
	for (int i = 0; c->train && i < c->train->nstate; i++)
		free(c->before.v[i]);
	for (uint32_t i = 0; i < c->ncolumn; i++) {
		free(c->column[i]);
		free(c->device_column[i].data);
	}
	for (int k = 0; k < NSTATE; k++)
		free(c->image[k]);
}

/* ---- the interpreter ---- */

static Env
make_env(const Case *c, const Values *v)
{
	return (Env){.state = (const double **)v->v, .column = (const double **)c->column, .rows = ROWS};
}

/* Updates first, then outputs; what a state without an update gives is NULL. */
static void
interpret(const Case *c, Graph *g, const Values *v, Results *r)
{
	Env env = make_env(c, v);
	Node *out[512];
	double *value[512];
	int n = 0;
	for (int i = 0; i < g->nstate; i++)
		if (g->state[i].update)
			out[n++] = g->state[i].update;
	for (int i = 0; i < g->noutput; i++)
		out[n++] = g->output[i].node;
	interp(g, &env, out, n, value);
	n = 0;
	for (int i = 0; i < g->nstate; i++)
		r->state.v[i] = g->state[i].update ? value[n++] : NULL;
	for (int i = 0; i < g->noutput; i++)
		r->output[i] = value[n++];
}

static void
free_results(const Graph *g, Results *r)
{
	for (int i = 0; i < g->nstate; i++)
		free(r->state.v[i]);
	for (int i = 0; i < g->noutput; i++)
		free(r->output[i]);
}

static int
find_state(const Graph *g, const char *end)
{
	for (int i = 0; i < g->nstate; i++)
		if (ends_with(g->state[i].name, end))
			return i;
	return -1;
}

static int
find_space(const Graph *g, Space s)
{
	int i = 0;
	while (i < g->nstate && g->state[i].space != s)
		i++;
	return i;
}

/* The loss of this step, by its log. */
static double
loss_at(const Case *c, Graph *g, const Values *v)
{
	int log = find_state(g, "run.log");
	Env env = make_env(c, v);
	double *value;
	interp(g, &env, &g->state[log].update, 1, &value);
	double loss = value[5 % c->m->train.log_steps * g->state[log].dim[1]];
	free(value);
	return loss;
}

/* The slope of the loss along a random direction, by differences and by the gradient. Without clipping, which scales it. */
static void
differences(Case *c)
{
	Model m = *c->m;
	m.clip_norm = 0;
	Graph *g = pass_contract(build_train(&arena, c->lib, &m)); /* the same values, sooner */
	int param = find_space(g, SP_PARAM), moment = find_state(g, ".m");
	if (moment < 0)
		return;
	int64_t n = gstate_count(&g->state[param]);
	double *x = c->before.v[param], *at = xmalloc((size_t)n * sizeof *at), *u = xmalloc((size_t)n * sizeof *u), slope[2], h = 1e-7, want = 0; /* so small that no relu turns over */
	uint64_t seed = 21;
	Results r = {0};
	memcpy(at, x, (size_t)n * sizeof *at);
	interpret(c, g, &c->before, &r);
	for (int64_t i = 0; i < n; i++) {
		u[i] = random_normal(&seed);
		want += u[i] * r.state.v[moment][i] / 0.1; /* m = 0.9 * 0 + 0.1 g */
	}
	for (int k = 0; k < 2; k++, h /= 2) {
		double f[2];
		for (int side = 0; side < 2; side++) {
			for (int64_t i = 0; i < n; i++)
				x[i] = at[i] + (side ? -h : h) * u[i];
			f[side] = loss_at(c, g, &c->before);
		}
		slope[k] = (f[0] - f[1]) / (2 * h);
	}
	memcpy(x, at, (size_t)n * sizeof *at);
	double got = (4 * slope[1] - slope[0]) / 3;
	check(fabs(got - want) <= 1e-5 * (fabs(want) + 1e-3), "%s: the loss's slope along a direction is %g by differences, %g by the gradient", c->file, got, want);
	free_results(g, &r);
	free(at);
	free(u);
}

/* ---- devices ---- */

/* The states after one run in image[], outputs in out[] as the device has them. */
static bool
run(Case *c, Device *d, const Plan *plan, unsigned char *const image[NSTATE], void *out[], Err *e)
{
	const PlanProgram *p = plan->set->program;
	Process r;
	bool ok = process_open(&r, d, plan, 0, &c->places, c->device_column, c->ncolumn, e) && process_poison(&r, e) && process_upload(&r, c->image, e) &&
	          process_run(&r, e) && process_intact(&r, e) && process_download(&r, image, e);
	for (uint32_t i = 0; ok && i < p->noutput; i++) {
		const PlanRef *at = p->output[i].ref;
		out[i] = xmalloc(at->bytes);
		ok = d->download(d, out[i], process_at(&r, at->space, at->off), at->bytes, e);
	}
	process_close(&r);
	return ok;
}

/* What a device has against what is wanted, relative to the largest value, but at least to `least`. */
static double
off_by(const double *want, DType t, const void *got, int64_t n, double least)
{
	double *v = load_values(t, got, n), d = relative_difference(want, v, n, least);
	free(v);
	return d;
}

/* moved: what the interpreter gives beside parameters a rounding away, or NULL: what moves so far may be off by as much. */
static void
compare_state(const Case *c, const char *what, const GState *s, const GParam *p, const double *want, const double *moved, const void *got, double bound)
{
	int64_t off = p ? p->off : 0, n = p ? count_dims(p->dim, p->nd) : gstate_count(s);
	double all = largest(want, gstate_count(s));
	bool nought = largest(want + off, n) < 1e-12 * all; /* in exact arithmetic, as the gradient of a bias before batchnorm: what is left is rounding */
	double least = nought ? all : 1e-6, d = off_by(want + off, s->dt, (const char *)got + off * (int64_t)dtype_bytes(s->dt), n, least);
	bound += moved ? 2 * relative_difference(want + off, moved + off, n, least) : 0;
	check(d <= bound, "%s: %s: %s%s%s after the step is off by %g of its largest value", c->file, what, s->name, p ? " of " : "", p ? p->name : "", d);
}

/* Packed states parameter by parameter: a wrong gradient of a small tensor shows beside a large one. */
static void
compare(const Case *c, Graph *g, const char *what, const Results *want, const Results *moved, unsigned char *const image[NSTATE], void *const out[], double bound)
{
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		const void *at = state_at(c, s->name, image);
		if (!s->update)
			continue;
		for (int k = 0; s->space != SP_STAT && k < g->nparam; k++)
			if (g->param[k].frozen == s->frozen)
				compare_state(c, what, s, &g->param[k], want->state.v[i], moved ? moved->state.v[i] : NULL, at, bound);
		if (s->space == SP_STAT)
			compare_state(c, what, s, NULL, want->state.v[i], moved ? moved->state.v[i] : NULL, at, bound);
	}
	for (int i = 0; i < g->noutput; i++) {
		int64_t n = node_count(g->output[i].node);
		double d = off_by(want->output[i], g->output[i].node->dt, out[i], n, 1e-6), more = moved ? 2 * relative_difference(want->output[i], moved->output[i], n, 1e-6) : 0;
		check(d <= bound + more, "%s: %s: %s %s is off by %g of its largest value", c->file, what, g->output[i].role, g->output[i].name, d);
	}
}

/* The graph in float64 with every parameter half a bf16 rounding away, up or down: relu units whose input is within rounding of 0
   turn over, and what batch norm makes of few values of little spread moves. */
static void
interpret_beside(Case *c, Graph *g, Results *r)
{
	uint64_t seed = 5;
	for (int i = 0; i < g->nstate; i++)
		for (int64_t k = 0; g->state[i].space == SP_PARAM && k < gstate_count(&g->state[i]); k++)
			c->before.v[i][k] *= 1 + (random_next(&seed) & 1 ? 0x1p-9 : -0x1p-9);
	interpret(c, g, &c->before, r);
	seed = 5;
	for (int i = 0; i < g->nstate; i++)
		for (int64_t k = 0; g->state[i].space == SP_PARAM && k < gstate_count(&g->state[i]); k++)
			c->before.v[i][k] /= 1 + (random_next(&seed) & 1 ? 0x1p-9 : -0x1p-9);
}

/* Every mode of one graph on one device, against the interpreter of the graph that the mode computes. */
static void
on_device(Case *c, Graph *graph, const Results *want, Device *d)
{
	uint64_t bytes[NSTATE] = {c->plan.param_bytes, c->plan.opt_bytes, c->plan.stat_bytes};
	unsigned char *image[2][NSTATE]; /* after this mode, and after the one before */
	Graph *contracted = pass_contract(graph);
	Results half = {0}, beside = {0};
	for (int k = 0; k < 2 * NSTATE; k++)
		image[k / NSTATE][k % NSTATE] = xcalloc(bytes[k % NSTATE] + 1, 1);
	for (size_t i = 0; i < LEN(modes); i++) {
		const CheckMode *m = &modes[i];
		const char *what = arena_printf(&arena, "%s on %s, %s", graph->name, d->name, m->name);
		unsigned char **now = image[i % 2], **last = image[(i + 1) % 2];
		void *out[64] = {0};
		Err e = {0};
		if (m->cuda != !strcmp(d->name, "cuda"))
			continue;
		Graph *g = mode_graph(contracted, m);
		Plan *p = compile_graphs(&arena, &g, &c->places, 1, m, m->cuda ? 16 : 48);
		if (m->half) {
			interpret_beside(c, g, &beside);
			interpret(c, g, &c->before, &half);
		}
		if (run(c, d, p, now, out, &e))
			compare(c, g, what, m->half ? &half : want, m->half ? &beside : NULL, now, out, m->half ? 5e-2 : 2e-5);
		else
			check(false, "%s: %s: %s", c->file, what, e.msg);
		for (int k = 0; k < NSTATE && m->same; k++)
			check(!bytes[k] || !memcmp(now[k], last[k], bytes[k]), "%s: %s: %s differs in its bits from that with reuse", c->file, what, space_names[k]);
		for (int k = 0; k < g->noutput; k++)
			free(out[k]);
	}
	for (int k = 0; k < 2 * NSTATE; k++)
		free(image[k / NSTATE][k % NSTATE]);
	free_results(graph, &half);
	free_results(graph, &beside);
}

/* Columns as fill_columns makes them, and a network that takes tensors of any size; others are too large for the interpreter. */
static bool
of_tables(const char *file)
{
	const Model *m = model_read(&arena, file);
	bool ok = m && !m->nops;
	for (uint32_t i = 0; ok && i < m->data.ninput; i++)
		ok = m->data.input[i].kind <= IN_TENSOR;
	for (uint32_t i = 0; ok && i < m->data.ntarget; i++)
		ok = m->data.target[i].kind <= TG_BINARY;
	return ok;
}

static void
test_model(const char *file, Lib *lib, Device *const *d, int nd)
{
	Case c;
	if (!of_tables(file)) {
		skipped++;
		return;
	}
	bool ok = open_case(&c, file, lib);
	check(ok, "%s: does not compile", file);
	if (ok)
		differences(&c);
	Graph *graphs[] = {c.train, c.eval, c.accumulate};
	for (int k = 0; ok && k < 3 && graphs[k]; k++) {
		Graph *g = graphs[k];
		Results want = {0};
		interpret(&c, g, &c.before, &want);
		for (int i = 0; i < nd; i++)
			on_device(&c, g, &want, d[i]);
		free_results(g, &want);
	}
	close_case(&c);
}

int
main(int argc, char **argv)
{
	Lib *lib = lib_new(&arena);
	Device *d[2];
	bool named = false;
	glob_t all = {0};
	if (!lib_load_folder(lib, "ops"))
		return 1;
	int nd = open_devices(argc, argv, d);
	for (int i = 1; i < argc; i++)
		named = named || strchr(argv[i], '.');
	if (!named) {
		glob("models/*.yaml", 0, NULL, &all);
		glob("tests/models/*.yaml", GLOB_APPEND, NULL, &all);
	}
	for (size_t i = 0; i < all.gl_pathc; i++)
		test_model(all.gl_pathv[i], lib, d, nd);
	for (int i = 1; i < argc; i++)
		if (strchr(argv[i], '.'))
			test_model(argv[i], lib, d, nd);
	globfree(&all);
	for (int i = 0; i < nd; i++)
		d[i]->close(d[i]);
	arena_free(&arena);
	return check_end();
}
