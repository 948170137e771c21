/* See check_graph.h. Order: random numbers, inputs, the reference, plans, a run, comparing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/cuda_api.h"
#include "check_graph.h"

#define TAIL 1024 /* bytes behind the arena that nothing may write */

const CheckMode check_modes[] = {
	{"cpu fused", false, true, true, false, false},
	{"cpu fused, no reuse", false, true, false, false, true},
	{"cpu unfused", false, false, true, false, false},
	{"cuda fused", true, true, true, false, false},
	{"cuda fused, no reuse", true, true, false, false, true},
	{"cuda unfused", true, false, true, false, false},
	{"cuda fused bf16", true, true, true, true, false},
	{0},
};

bool
check_that(Check *c, bool ok, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		c->passed++;
		return true;
	}
	c->failed++;
	va_start(ap, fmt);
	text_vprintf(&c->messages, fmt, ap);
	va_end(ap);
	text_puts(&c->messages, "\n");
	return false;
}

/* Steele et al. 2014 */
uint64_t
random_next(uint64_t *s)
{
	uint64_t z = *s += 0x9E3779B97F4A7C15ull;
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
	z = (z ^ z >> 27) * 0x94D049BB133111EBull;
	return z ^ z >> 31;
}

int64_t random_below(uint64_t *s, int64_t n) { return n > 0 ? (int64_t)(random_next(s) % (uint64_t)n) : 0; }

/* By summing twelve. */
double
random_normal(uint64_t *s)
{
	double x = -6;
	for (int i = 0; i < 12; i++)
		x += (double)(random_next(s) >> 11) * 0x1p-53;
	return x;
}

static int64_t
count_dims(const int64_t *dim, int nd)
{
	int64_t n = 1;
	for (int i = 0; i < nd; i++)
		n *= dim[i];
	return n;
}

static void
free_values(double **v, int n)
{
	for (int i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
}

void
check_free(Check *c)
{
	free_values(c->input, c->g->ninput);
	free_values(c->state, c->g->nstate);
	free_values(c->want, c->nvalue);
	free_values(c->bound, c->nvalue);
	free_values(c->want_half, c->nvalue);
	free_values(c->bound_half, c->nvalue);
	free_values((double **)c->bits, c->nvalue);
	free(c->messages.s);
	*c = (Check){0};
}

/* ---- inputs ---- */

static Node *
param_to_input(Graph *to, Node *n, Node **in, void *ctx)
{
	(void)in;
	return n->op == P_param ? mk_input(to, *(int *)ctx + (int)n->at[0]) : NULL;
}

Graph *
params_to_inputs(Graph *g)
{
	int first = g->ninput;
	for (int i = 0; i < g->nparam; i++) {
		GInput in = {.name = arena_printf(g->arena, "param.%s", g->param[i].name), .dt = DT_F32, .nd = g->param[i].nd};
		memcpy(in.dim, g->param[i].dim, sizeof in.dim);
		graph_input(g, in);
	}
	g = graph_map(g, param_to_input, &first);
	g->nparam = 0;
	return g;
}

static double *
fill(const char *name, uint64_t seed, DType dt, int64_t below, const int64_t *dim, int nd)
{
	int64_t n = count_dims(dim, nd);
	double *x = xcalloc((size_t)n + 1, sizeof *x);
	seed = hash_bytes(HASH_INIT + seed, name, strlen(name));
	for (int64_t i = 0; i < n; i++)
		x[i] = below > 0 ? (double)random_below(&seed, below) : dt == DT_F32 ? (float)random_normal(&seed) : dt == DT_BOOL ? (double)random_below(&seed, 2) : 0;
	return x;
}

void
check_fill(Check *c, uint64_t seed)
{
	const Graph *g = c->g;
	c->input = xcalloc((size_t)g->ninput + 1, sizeof *c->input);
	c->state = xcalloc((size_t)g->nstate + 1, sizeof *c->state);
	for (int i = 0; i < g->ninput; i++)
		c->input[i] = fill(g->input[i].name, seed, g->input[i].dt, g->input[i].below, g->input[i].dim, g->input[i].nd);
	for (int i = 0; i < g->nstate; i++)
		c->state[i] = fill(g->state[i].name, seed, g->state[i].dt, 0, g->state[i].dim, g->state[i].nd);
}

/* ---- the reference ---- */

static Node *
value_node(Graph *g, int i)
{
	if (i < g->noutput)
		return g->output[i].node;
	for (int k = 0, left = i - g->noutput; k < g->nstate; k++)
		if (g->state[k].update && left-- == 0)
			return g->state[k].update;
	bug("value %d of %s", i, g->name);
}

static const char *
value_name(Graph *g, int i)
{
	if (i < g->noutput)
		return g->output[i].name;
	for (int k = 0, left = i - g->noutput; k < g->nstate; k++)
		if (g->state[k].update && left-- == 0)
			return g->state[k].name;
	return "?";
}

static int
count_values(const Graph *g)
{
	int n = g->noutput;
	for (int i = 0; i < g->nstate; i++)
		n += g->state[i].update != NULL;
	return n;
}

static double **
evaluate(const Check *c, Graph *g, int n)
{
	Env e = {.input = (const double **)c->input, .state = (const double **)c->state};
	Node **node = xcalloc((size_t)n + 1, sizeof *node);
	double **v = xcalloc((size_t)n + 1, sizeof *v);
	for (int i = 0; i < n; i++)
		node[i] = value_node(g, i);
	interp(g, &e, node, n, v);
	free(node);
	return v;
}

/* Greatest difference and greatest size of b: rounding errors do not scale with the single element. */
static double
difference(const double *a, const double *b, int64_t n, double *scale)
{
	double most = 0;
	*scale = 1e-30;
	for (int64_t i = 0; i < n; i++) {
		if (fabs(a[i]) > *scale && isfinite(a[i]))
			*scale = fabs(a[i]);
		if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i])))
			continue;
		double d = fabs(a[i] - b[i]);
		if (!(d <= most))
			most = isnan(d) ? INFINITY : d;
	}
	return most;
}

/* Values and, behind them, their bounds. */
static void
bounded(const Check *c, Graph *g, double ***want, double ***bound)
{
	Graph *b = bound_graph(g);
	double **v = evaluate(c, b, 2 * c->nvalue);
	*want = xcalloc((size_t)c->nvalue + 1, sizeof **want);
	*bound = xcalloc((size_t)c->nvalue + 1, sizeof **bound);
	for (int i = 0; i < c->nvalue; i++) {
		(*want)[i] = v[i];
		(*bound)[i] = v[i + c->nvalue];
	}
	free(v);
}

/* A pass gives the same in float64, but for branches that rounding can turn. */
static void
same_values(Check *c, Graph *g, const char *pass)
{
	double **got = evaluate(c, g, c->nvalue);
	graph_verify(g, pass);
	for (int i = 0; i < c->nvalue; i++) {
		int64_t n = node_count(value_node(g, i));
		double scale, most = difference(c->want[i], got[i], n, &scale);
		if (c->bound)
			for (int64_t k = 0; k < n; k++)
				if (!(c->bound[i][k] < BOUND_NONE) || c->bound[i][k] > 1e-3 * scale)
					most = 0;
		check_that(c, most <= 1e-9 * scale, "%s: %s changes the value by %g of %g", value_name(g, i), pass, most, scale);
	}
	free_values(got, c->nvalue);
}

void
check_reference(Check *c, bool bounds, bool half)
{
	c->nvalue = count_values(c->g);
	if (bounds)
		bounded(c, c->g, &c->want, &c->bound);
	else
		c->want = evaluate(c, c->g, c->nvalue);
	Graph *dots = pass_contract(c->g);
	same_values(c, dots, "contract");
	same_values(c, pass_unfold(dots), "unfold");
	c->cpu = pass_split(dots, false);
	c->gpu = pass_split(c->g->nnode % 2 ? dots : pass_small_products(dots, true), true); /* all are small here: then none is left */
	same_values(c, c->cpu, "split for cpu");
	same_values(c, c->gpu, "split for cuda");
	if (!half)
		return;
	Graph *bf16 = pass_precision(dots);
	c->half = pass_split(bf16, true);
	graph_verify(c->half, "precision");
	if (bounds)
		bounded(c, bf16, &c->want_half, &c->bound_half);
	else
		c->want_half = evaluate(c, c->half, c->nvalue);
}

/* ---- plans ---- */

static char *
read_prelude(bool cuda)
{
	char *text;
	size_t n;
	Err e = {0};
	if (!read_file(cuda ? "ops/kernels/prelude.cu" : "ops/kernels/prelude.c", &text, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		exit(2);
	}
	return text;
}

Plan *
check_plan(Check *const *c, int n, const CheckMode *m, int per_module, Places *places)
{
	Arena *a = NULL;
	char *prelude = read_prelude(m->cuda);
	for (int i = 0; i < n && !a; i++)
		a = c[i] ? c[i]->g->arena : NULL;
	Plan *p = arena_alloc(a, sizeof *p);
	PlanTargetset *s = p->set = arena_alloc(a, sizeof *s);
	CodegenOptions o = {.cuda = m->cuda, .fuse = m->fuse, .reuse = m->reuse, .library = true};
	Sources *src = arena_alloc(a, sizeof *src);
	*src = (Sources){.arena = a, .prelude = prelude, .per_module = per_module};
	p->nset = 1;
	s->target = m->cuda ? "cuda" : "cpu";
	s->program = arena_alloc(a, (size_t)n * sizeof *s->program);
	for (int i = 0; i < n; i++, s->nprogram++) {
		Plan dummy = {0};
		if (!c[i])
			continue;
		place_states(a, c[i]->g, &places[i], &dummy);
		s->program[i] = codegen(m->half ? c[i]->half : m->cuda ? c[i]->gpu : c[i]->cpu, &places[i], &o, src);
	}
	s->nmodule = (uint32_t)src->n;
	s->module = arena_alloc(a, (s->nmodule + 1) * sizeof *s->module);
	for (int i = 0; i < src->n; i++) {
		s->module[i].source = arena_strdup(a, src->module[i].s);
		free(src->module[i].s);
	}
	free(prelude);
	return p;
}

bool
check_cubins(Check *const *c, int n, const CheckMode *m, const char *arch)
{
	Places *places = xcalloc((size_t)n, sizeof *places);
	Plan *p = check_plan(c, n, m, 32, places);
	bool here = true;
	free(places);
	for (uint32_t k = 0; k < p->set->nmodule && here; k++) {
		char *code = NULL, *log = NULL;
		size_t size;
		Err e = {0};
		bool ok = nvrtc_compile(p->set->module[k].source, arch, &code, &size, &log, &e);
		here = ok || !(strstr(e.msg, "without CUDA") || strstr(e.msg, "libnvrtc"));
		if (here && check_that(c[0], ok, "%s for %s: %s", m->name, arch, e.msg))
			check_that(c[0], nvrtc_spills(log) == 0, "%s: kernels for %s spill %ld bytes", m->name, arch, (long)nvrtc_spills(log));
		free(code);
		free(log);
	}
	return here;
}

/* ---- a run ---- */

static void
to_device(const double *x, DType dt, int64_t n, void *out)
{
	for (int64_t i = 0; i < n; i++) {
		switch (dt) {
		case DT_F32: ((float *)out)[i] = (float)x[i]; break;
		case DT_U32: ((uint32_t *)out)[i] = (uint32_t)x[i]; break;
		case DT_I32: ((int32_t *)out)[i] = (int32_t)x[i]; break;
		default: ((uint8_t *)out)[i] = (uint8_t)x[i];
		}
	}
}

static double
from_device(const void *x, DType dt, int64_t i)
{
	switch (dt) {
	case DT_F32: return (double)((const float *)x)[i];
	case DT_U32: return (double)((const uint32_t *)x)[i];
	case DT_I32: return (double)((const int32_t *)x)[i];
	default: return (double)((const uint8_t *)x)[i];
	}
}

static bool
upload(Device *d, const Places *at, const char *name, const double *x, DType dt, int64_t n, void *const *space, Err *e)
{
	int k = 0;
	while (strcmp(at->name[k], name))
		k++;
	void *buf = xmalloc((size_t)n * 4 + 1);
	to_device(x, dt, n, buf);
	bool ok = !n || d->upload(d, (char *)space[at->space[k]] + at->off[k], buf, (size_t)n * dtype_bytes(dt), e);
	free(buf);
	return ok;
}

/* Inputs and states into their places, all ones (NaN) into the arena. */
static bool
prepare_memory(Check *c, Device *d, const Places *at, void *const *base, uint64_t act, Err *e)
{
	const Graph *g = c->g;
	bool ok = true;
	char *poison = xmalloc(act + TAIL);
	memset(poison, 0xff, act + TAIL);
	ok = d->upload(d, base[SP_ACT], poison, act + TAIL, e);
	free(poison);
	for (int i = 0; i < g->ninput && ok; i++)
		ok = upload(d, at, g->input[i].name, c->input[i], g->input[i].dt, count_dims(g->input[i].dim, g->input[i].nd), base, e);
	for (int i = 0; i < g->nstate && ok; i++)
		ok = upload(d, at, g->state[i].name, c->state[i], g->state[i].dt, count_dims(g->state[i].dim, g->state[i].nd), base, e);
	return ok;
}

/* ---- comparing ---- */

/* Element by element against the bounds. */
static void
compare_bounds(Check *c, int i, const double *want, const double *bound, const double *got, int64_t n, const char *how)
{
	int64_t bad = -1, count = 0;
	c->compared += (double)n;
	for (int64_t k = 0; k < n; k++) {
		if (!(bound[k] < BOUND_NONE) || isnan(want[k]) || fabs(want[k]) + bound[k] > 1e38) {
			c->skip++;
			continue;
		}
		if (!(fabs(got[k] - want[k]) <= bound[k])) {
			bad = bad < 0 ? k : bad;
			count++;
		}
	}
	check_that(c, bad < 0, "%s %s: element %ld of %ld is %.9g, not %.9g within %.3g (%ld such)", how, value_name(c->g, i), (long)bad, (long)n,
	           bad < 0 ? 0 : got[bad], bad < 0 ? 0 : want[bad], bad < 0 ? 0 : bound[bad], (long)count);
}

static void
compare_value(Check *c, int i, const CheckMode *m, Node *x, const void *buf)
{
	int64_t n = node_count(x);
	double *got = xcalloc((size_t)n + 1, sizeof *got), scale;
	double **want = m->half ? c->want_half : c->want, **bound = m->half ? c->bound_half : c->bound;
	for (int64_t k = 0; k < n; k++)
		got[k] = from_device(buf, x->dt, k);
	if (bound) {
		compare_bounds(c, i, want[i], bound[i], got, n, m->name);
	} else {
		/* of bf16: a rounding that falls the other way is one part in 256 of an element */
		double most = difference(want[i], got, n, &scale), limit = m->half ? 2e-2 : 2e-5;
		check_that(c, most <= limit * (scale + 0.01), "%s %s: off by %g of %g", m->name, value_name(c->g, i), most, scale);
	}
	free(got);
}

/* Bytes of value i: an output's place, or an updated state's. */
static void *
read_value(Check *c, int i, Device *d, const PlanProgram *p, const Places *at, void *const *base, size_t *bytes, Err *e)
{
	Space space;
	uint64_t off;
	if (i < (int)p->noutput) {
		space = (Space)p->output[i].ref->space;
		off = p->output[i].ref->off;
	} else {
		int k = 0;
		while (strcmp(at->name[k], value_name(c->g, i)))
			k++;
		space = at->space[k];
		off = at->off[k];
	}
	Node *x = value_node(c->g, i);
	*bytes = (size_t)node_count(x) * dtype_bytes(x->dt);
	void *buf = xcalloc(*bytes + 1, 1);
	if (*bytes && !d->download(d, buf, (char *)base[space] + off, *bytes, e)) {
		free(buf);
		return NULL;
	}
	return buf;
}

/* What the program must not touch: the bytes behind the arena, the inputs, the states that it does not update. */
static void
compare_rest(Check *c, const CheckMode *m, Device *d, const Places *at, void *const *base, uint64_t act)
{
	const Graph *g = c->g;
	Err e = {0};
	unsigned char tail[TAIL];
	size_t bad = 0;
	bool ok = d->download(d, tail, (char *)base[SP_ACT] + act, TAIL, &e);
	while (ok && bad < TAIL && tail[bad] == 0xff)
		bad++;
	check_that(c, !ok || bad == TAIL, "%s: writes %zu bytes behind the arena", m->name, bad);
	for (int i = 0; i < g->ninput + g->nstate && ok; i++) {
		bool in = i < g->ninput;
		const GInput *x = &g->input[in ? i : 0];
		const GState *s = &g->state[in ? 0 : i - g->ninput];
		DType dt = in ? x->dt : s->dt;
		int64_t n = in ? count_dims(x->dim, x->nd) : count_dims(s->dim, s->nd);
		int k = 0;
		if (!in && s->update)
			continue;
		while (strcmp(at->name[k], in ? x->name : s->name))
			k++;
		size_t bytes = (size_t)n * dtype_bytes(dt);
		char *want = xmalloc((size_t)n * 4 + 1), *got = xmalloc(bytes + 1);
		to_device(in ? c->input[i] : c->state[i - g->ninput], dt, n, want);
		ok = !n || d->download(d, got, (char *)base[at->space[k]] + at->off[k], bytes, &e);
		check_that(c, ok && !memcmp(want, got, bytes), "%s: %s is written to", m->name, at->name[k]);
		free(want);
		free(got);
	}
}

static void
compare_all(Check *c, const CheckMode *m, Device *d, const PlanProgram *p, const Places *at, void *const *base)
{
	Err e = {0};
	size_t bytes;
	if (!c->bits)
		c->bits = xcalloc((size_t)c->nvalue + 1, sizeof *c->bits);
	for (int i = 0; i < c->nvalue; i++) {
		void *buf = read_value(c, i, d, p, at, base, &bytes, &e);
		if (!check_that(c, buf != NULL, "%s: %s", m->name, e.msg))
			return;
		if (m->same && c->bits[i])
			check_that(c, !memcmp(buf, c->bits[i], bytes), "%s %s: other bits than with reuse", m->name, value_name(c->g, i));
		else
			compare_value(c, i, m, value_node(c->g, i), buf);
		free(c->bits[i]);
		c->bits[i] = buf;
	}
}

static void
run_case(Check *c, const CheckMode *m, Device *d, const PlanTargetset *s, const PlanProgram *p, const Places *at)
{
	Err e = {0};
	void *base[NSPACE] = {0};
	uint64_t bytes[NSPACE] = {0};
	memcpy(bytes, at->bytes, sizeof bytes);
	bytes[SP_ACT] = p->act_bytes + TAIL;
	bytes[SP_WORK] = p->work_bytes;
	bool ok = true;
	for (int i = 0; i < NSPACE && ok; i++)
		ok = !bytes[i] || (base[i] = d->alloc(d, bytes[i], space_names[i], &e));
	Binding b = {.column = NULL};
	memcpy(b.base, base, sizeof base);
	Exec *x = ok ? d->prepare(d, s, p, &b, &e) : NULL;
	ok = x && prepare_memory(c, d, at, base, p->act_bytes, &e) && d->run(d, x, 1, &e) && d->sync(d, &e);
	if (check_that(c, ok, "%s: %s", m->name, e.msg)) {
		compare_all(c, m, d, p, at, base);
		compare_rest(c, m, d, at, base, p->act_bytes);
	}
	if (x)
		d->drop(d, x);
	for (int i = 0; i < NSPACE; i++)
		if (base[i])
			d->release(d, base[i]);
}

void
check_run(Check *const *c, int n, const CheckMode *m, Device *d, int per_module)
{
	Places *places = xcalloc((size_t)n, sizeof *places);
	Plan *p = check_plan(c, n, m, per_module, places);
	for (int i = 0; i < n; i++)
		if (c[i])
			run_case(c[i], m, d, p->set, &p->set->program[i], &places[i]);
	free(places);
}
