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

#include "../compiler/codegen.h"
#include "../runtime/device.h"
#include "../runtime/session.h"
#include "check_graph.h"

enum { BATCH = 4, ROWS = 24, VOCABULARY = 48, SIDE = 8 };

/* A device's run of one program. */
typedef struct Mode {
	const char *name;
	bool fuse, reuse, half;
} Mode;

static const Mode modes[] = {
	{"fused", true, true, false},
	{"fused, no reuse", true, false, false},
	{"unfused", false, true, false},
	{"unfused, no reuse", false, false, false},
	{"bf16", true, true, true},
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
	void *device_column[256];     /* the same as f32 or i32 */
	uint32_t ncolumn;
} Case;

/* What a graph gives: every state after it, and its outputs. */
typedef struct Results {
	Values state;
	double *output[64];
} Results;

static Arena arena;
static int passed, failed, skipped;

static void
check(bool ok, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		passed++;
		return;
	}
	failed++;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n", stderr);
}

static double uniform(uint64_t *s) { return (double)(random_next(s) >> 40) * 0x1p-24; }

static int64_t
count(const int64_t *dim, int nd)
{
	int64_t n = 1;
	for (int i = 0; i < nd; i++)
		n *= dim[i];
	return n;
}

static int64_t gstate_count(const GState *s) { return count(s->dim, s->nd); }

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
		c->device_column[i] = xcalloc((size_t)n, 4);
		for (int64_t k = 0; k < n; k++) {
			double v = binary ? uniform(&seed) < 0.3 : dt == DT_F32 ? (float)random_normal(&seed) : (double)(random_next(&seed) % (ids ? (uint64_t)in->size : 256));
			if (ids && in->width > 1 && k % in->width > 2 + k / in->width % in->width)
				v = 0; /* rows of several lengths: 0 is padding */
			c->column[i][k] = v;
			dtype_store(dt, c->device_column[i], k, v);
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

static void *
state_at(const Case *c, const char *name, Space *space)
{
	for (int i = 0; i < c->places.n; i++)
		if (!strcmp(c->places.name[i], name)) {
			*space = c->places.space[i];
			return c->image[*space] + c->places.off[i];
		}
	return NULL;
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
		Space space;
		void *at = state_at(c, s->name, &space);
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
		free(c->device_column[i]);
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

static char *
read_text(const char *path)
{
	char *text;
	size_t n;
	Err e = {0};
	if (!read_file(path, &text, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		exit(2);
	}
	return text;
}

static PlanTargetset
compile(Case *c, Graph *g, const Mode *mode, bool cuda, const char *prelude)
{
	CodegenOptions o = {.cuda = cuda, .fuse = mode->fuse, .reuse = mode->reuse, .library = true};
	Sources *src = arena_alloc(&arena, sizeof *src);
	PlanTargetset s = {.target = cuda ? "cuda" : "cpu", .nprogram = 1};
	*src = (Sources){.arena = &arena, .prelude = prelude, .per_module = cuda ? 16 : 48};
	s.program = arena_alloc(&arena, sizeof *s.program);
	*s.program = codegen(g, &c->places, &o, src);
	s.nmodule = (uint32_t)src->n;
	s.module = arena_alloc(&arena, s.nmodule * sizeof *s.module);
	for (int i = 0; i < src->n; i++) {
		s.module[i].source = arena_strdup(&arena, src->module[i].s);
		free(src->module[i].s);
	}
	return s;
}

/* The states after one run in image[], outputs in out[] as the device has them. */
static bool
run(Case *c, Device *d, const PlanTargetset *s, unsigned char *image[NSTATE], void *out[], Err *e)
{
	const PlanProgram *p = s->program;
	uint64_t bytes[NSPACE] = {c->plan.param_bytes, c->plan.opt_bytes, c->plan.stat_bytes, p->act_bytes, p->work_bytes, 0};
	Binding b = {.ncolumn = c->ncolumn};
	void *column[256] = {0};
	bool ok = true;
	for (int k = 0; ok && k < NSPACE; k++)
		ok = !bytes[k] || (b.base[k] = d->alloc(d, bytes[k], space_names[k], e));
	for (uint32_t i = 0; ok && i < c->ncolumn; i++) {
		size_t n = ROWS * 4 * (i < c->m->data.ninput ? (size_t)c->m->data.input[i].width : 1);
		ok = (column[i] = d->alloc(d, n, "a column", e)) && d->upload(d, column[i], c->device_column[i], n, e);
	}
	b.column = column;
	Exec *x = ok ? d->prepare(d, s, p, &b, e) : NULL;
	char *poison = xmalloc(p->act_bytes + 1);
	memset(poison, 0xff, p->act_bytes);
	ok = x && d->upload(d, b.base[SP_ACT], poison, p->act_bytes, e);
	for (int k = 0; ok && k < NSTATE; k++)
		ok = !bytes[k] || d->upload(d, b.base[k], c->image[k], bytes[k], e);
	ok = ok && d->run(d, x, 1, e) && d->sync(d, e);
	for (int k = 0; ok && k < NSTATE; k++)
		ok = !bytes[k] || d->download(d, image[k], b.base[k], bytes[k], e);
	for (uint32_t i = 0; ok && i < p->noutput; i++) {
		const PlanRef *r = p->output[i].ref;
		out[i] = xmalloc(r->bytes);
		ok = d->download(d, out[i], (char *)b.base[r->space] + r->off, r->bytes, e);
	}
	free(poison);
	if (x)
		d->drop(d, x);
	for (int k = 0; k < NSPACE; k++)
		d->release(d, b.base[k]);
	for (uint32_t i = 0; i < c->ncolumn; i++)
		d->release(d, column[i]);
	return ok;
}

static double
largest(const double *v, int64_t n)
{
	double most = 0;
	for (int64_t i = 0; i < n; i++)
		most = fmax(most, fabs(v[i]));
	return most;
}

/* Largest difference, relative to the largest value, but at least to `least`: rounding errors do not scale with the single element. */
static double
difference(const double *want, DType t, const void *got, int64_t n, double least)
{
	double most = 0;
	for (int64_t i = 0; i < n; i++) {
		double d = fabs(dtype_load(t, got, i) - want[i]);
		if (!(d <= most))
			most = isnan(d) ? INFINITY : d;
	}
	return most / fmax(least, largest(want, n));
}

/* The same of two interpretations; 0 if there is but one. */
static double
moved_by(const double *want, const double *moved, int64_t n, double least)
{
	double most = 0;
	for (int64_t i = 0; moved && i < n; i++)
		most = fmax(most, fabs(moved[i] - want[i]));
	return most / fmax(least, largest(want, n));
}

/* moved: what the interpreter gives beside parameters a rounding away, or NULL: what moves so far may be off by as much. */
static void
compare_state(const Case *c, const char *what, const GState *s, const GParam *p, const double *want, const double *moved, const void *got, double bound)
{
	int64_t off = p ? p->off : 0, n = p ? count(p->dim, p->nd) : gstate_count(s);
	double all = largest(want, gstate_count(s));
	bool nought = largest(want + off, n) < 1e-12 * all; /* in exact arithmetic, as the gradient of a bias before batchnorm: what is left is rounding */
	double least = nought ? all : 1e-6, d = difference(want + off, s->dt, (const char *)got + off * (int64_t)dtype_bytes(s->dt), n, least);
	bound += 2 * moved_by(want + off, moved ? moved + off : NULL, n, least);
	check(d <= bound, "%s: %s: %s%s%s after the step is off by %g of its largest value", c->file, what, s->name, p ? " of " : "", p ? p->name : "", d);
}

/* Packed states parameter by parameter: a wrong gradient of a small tensor shows beside a large one. */
static void
compare(const Case *c, Graph *g, const char *what, const Results *want, const Results *moved, unsigned char *const image[NSTATE], void *const out[], double bound)
{
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		Space space = 0;
		char *at = (char *)state_at(c, s->name, &space) - (uintptr_t)c->image[space] + (uintptr_t)image[space];
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
		double d = difference(want->output[i], g->output[i].node->dt, out[i], n, 1e-6), more = moved ? 2 * moved_by(want->output[i], moved->output[i], n, 1e-6) : 0;
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
	bool cuda = !strcmp(d->name, "cuda");
	char *prelude = read_text(cuda ? "ops/kernels/prelude.cu" : "ops/kernels/prelude.c");
	uint64_t bytes[NSTATE] = {c->plan.param_bytes, c->plan.opt_bytes, c->plan.stat_bytes};
	unsigned char *image[LEN(modes)][NSTATE];
	Graph *contracted = pass_contract(graph);
	Results half = {0}, beside = {0};
	for (size_t i = 0; i < LEN(modes); i++) {
		const Mode *m = &modes[i];
		const char *what = arena_printf(&arena, "%s on %s, %s", graph->name, d->name, m->name);
		void *out[64] = {0};
		Err e = {0};
		for (int k = 0; k < NSTATE; k++)
			image[i][k] = xcalloc(bytes[k] + 1, 1);
		if (m->half && !cuda)
			continue;
		Graph *g = m->half ? pass_precision(contracted) : contracted;
		g = pass_split(cuda && m->fuse ? pass_small_products(g, true) : g, cuda);
		PlanTargetset s = compile(c, g, m, cuda, prelude);
		if (m->half) {
			interpret_beside(c, g, &beside);
			interpret(c, g, &c->before, &half);
		}
		if (run(c, d, &s, image[i], out, &e))
			compare(c, g, what, m->half ? &half : want, m->half ? &beside : NULL, image[i], out, m->half ? 5e-2 : 2e-5);
		else
			check(false, "%s: %s: %s", c->file, what, e.msg);
		for (int k = 0; k < g->noutput; k++)
			free(out[k]);
	}
	for (int k = 0; k < NSTATE; k++)
		for (int pair = 0; pair < 4; pair += 2)
			check(!bytes[k] || !memcmp(image[pair][k], image[pair + 1][k], bytes[k]), "%s: %s on %s, %s: %s differs in its bits without reuse",
			      c->file, graph->name, d->name, modes[pair].name, space_names[k]);
	for (size_t i = 0; i < LEN(modes); i++)
		for (int k = 0; k < NSTATE; k++)
			free(image[i][k]);
	free_results(graph, &half);
	free_results(graph, &beside);
	free(prelude);
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
test_model(const char *file, Lib *lib, Device *const *d, size_t nd)
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
		for (size_t i = 0; i < nd; i++)
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
	size_t nd = 0;
	bool cpu = true, cuda = true, named = false;
	Err e = {0};
	glob_t all = {0};
	if (!lib_load_folder(lib, "ops"))
		return 1;
	for (int i = 1; i < argc; i++) {
		cpu = cpu && strcmp(argv[i], "cuda");
		cuda = cuda && strcmp(argv[i], "cpu");
		named = named || strchr(argv[i], '.');
	}
	if (cpu && (d[nd] = device_cpu_open(1, &e)))
		nd++;
	if (cuda && (d[nd] = device_cuda_open(0, &e)))
		nd++;
	else
		skipped++;
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
	for (size_t i = 0; i < nd; i++)
		d[i]->close(d[i]);
	arena_free(&arena);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
