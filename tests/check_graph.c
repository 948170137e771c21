/* See check_graph.h. Order: random numbers, inputs, the reference, plans, a run, comparing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/cuda_api.h"
#include "check_graph.h"

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
given_to_input(Graph *to, Node *n, Node **in, void *ctx)
{
	const int *first = ctx;
	(void)in;
	if (n->op == P_param)
		return mk_input(to, first[0] + (int)n->at[0]);
	return n->op == P_state && first[1] >= 0 ? mk_input(to, first[1] + (int)n->at[0]) : NULL;
}

static void
add_input(Graph *g, const char *kind, const char *name, DType dt, const int64_t *dim, int nd)
{
	GInput in = {.name = arena_printf(g->arena, "%s.%s", kind, name), .dt = dt, .nd = nd};
	memcpy(in.dim, dim, sizeof in.dim);
	graph_input(g, in);
}

Graph *
given_to_inputs(Graph *g, bool states)
{
	int first[2] = {g->ninput, states ? g->ninput + g->nparam : -1};
	for (int i = 0; i < g->nparam; i++)
		add_input(g, "param", g->param[i].name, DT_F32, g->param[i].dim, g->param[i].nd);
	for (int i = 0; i < g->nstate && states; i++)
		add_input(g, "state", g->state[i].name, g->state[i].dt, g->state[i].dim, g->state[i].nd);
	g = graph_map(g, given_to_input, first);
	g->nparam = 0;
	if (states)
		g->nstate = 0;
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

Plan *
check_plan(Check *const *c, int n, const CheckMode *m, int per_module, Places *places)
{
	Graph **g = xcalloc((size_t)n, sizeof *g);
	Arena *a = NULL;
	for (int i = 0; i < n; i++) {
		Plan dummy = {0};
		if (!c[i])
			continue;
		a = c[i]->g->arena;
		g[i] = m->half ? c[i]->half : m->cuda ? c[i]->gpu : c[i]->cpu;
		place_states(a, c[i]->g, &places[i], &dummy);
	}
	Plan *p = compile_graphs(a, g, places, n, m, per_module);
	free(g);
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

/* Inputs and states into their places. */
static bool
upload_values(Check *c, Process *r, const Places *at, Err *e)
{
	const Graph *g = c->g;
	bool ok = true;
	for (int i = 0; i < g->ninput && ok; i++)
		ok = upload_value(r, at, g->input[i].name, c->input[i], g->input[i].dt, count_dims(g->input[i].dim, g->input[i].nd), e);
	for (int i = 0; i < g->nstate && ok; i++)
		ok = upload_value(r, at, g->state[i].name, c->state[i], g->state[i].dt, count_dims(g->state[i].dim, g->state[i].nd), e);
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
	double *got = load_values(x->dt, buf, n), scale;
	double **want = m->half ? c->want_half : c->want, **bound = m->half ? c->bound_half : c->bound;
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
read_value(Check *c, int i, const Process *r, const Places *at, size_t *bytes, Err *e)
{
	bool out = i < (int)r->program->noutput;
	int k = out ? 0 : place_of(at, value_name(c->g, i));
	Space space = out ? (Space)r->program->output[i].ref->space : at->space[k];
	uint64_t off = out ? r->program->output[i].ref->off : at->off[k];
	Node *x = value_node(c->g, i);
	*bytes = (size_t)node_count(x) * dtype_bytes(x->dt);
	void *buf = xcalloc(*bytes + 1, 1);
	if (*bytes && !r->device->download(r->device, buf, process_at(r, space, off), *bytes, e)) {
		free(buf);
		return NULL;
	}
	return buf;
}

/* What the program must not touch: the bytes behind the arena, the inputs, the states that it does not update. */
static void
compare_rest(Check *c, const CheckMode *m, const Process *r, const Places *at)
{
	const Graph *g = c->g;
	Err e = {0};
	bool ok = check_that(c, process_intact(r, &e), "%s: %s", m->name, e.msg);
	for (int i = 0; i < g->ninput + g->nstate && ok; i++) {
		bool in = i < g->ninput;
		const GInput *x = &g->input[in ? i : 0];
		const GState *s = &g->state[in ? 0 : i - g->ninput];
		DType dt = in ? x->dt : s->dt;
		int64_t n = in ? count_dims(x->dim, x->nd) : count_dims(s->dim, s->nd);
		if (!in && s->update)
			continue;
		int k = place_of(at, in ? x->name : s->name);
		size_t bytes = (size_t)n * dtype_bytes(dt);
		char *want = store_values(dt, in ? c->input[i] : c->state[i - g->ninput], n), *got = xmalloc(bytes + 1);
		ok = !n || r->device->download(r->device, got, process_at(r, at->space[k], at->off[k]), bytes, &e);
		check_that(c, ok && !memcmp(want, got, bytes), "%s: %s is written to", m->name, at->name[k]);
		free(want);
		free(got);
	}
}

static void
compare_all(Check *c, const CheckMode *m, const Process *r, const Places *at)
{
	Err e = {0};
	size_t bytes;
	if (!c->bits)
		c->bits = xcalloc((size_t)c->nvalue + 1, sizeof *c->bits);
	for (int i = 0; i < c->nvalue; i++) {
		void *buf = read_value(c, i, r, at, &bytes, &e);
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

void
check_run(Check *const *c, int n, const CheckMode *m, Device *d, int per_module)
{
	Places *places = xcalloc((size_t)n, sizeof *places);
	Plan *p = check_plan(c, n, m, per_module, places);
	for (int i = 0; i < n; i++) {
		Process r;
		Err e = {0};
		if (!c[i])
			continue;
		bool ok = process_open(&r, d, p, i, &places[i], NULL, 0, &e) && process_poison(&r, &e) && upload_values(c[i], &r, &places[i], &e) &&
		          process_run(&r, &e);
		if (check_that(c[i], ok, "%s: %s", m->name, e.msg)) {
			compare_all(c[i], m, &r, &places[i]);
			compare_rest(c[i], m, &r, &places[i]);
		}
		process_close(&r);
	}
	free(places);
}
