/* What a training step does with its losses: gradients, packed into one vector; their sum over the parts of a step; clipping; the
   optimizer, which is library code on the packed vectors; the running mean of the weights; the log. Groups of parameters are ranges of
   the vector with factors of their own; frozen parameters are a vector of their own, which nothing updates. */
#include <stdlib.h>
#include <string.h>

#include "build.h"

#define PACK 4 /* elements: parameters start at 16-byte places */

/* ---- groups ---- */

/* Does the whole name fit the pattern, in which * stands for any characters? */
static bool
matches(const char *pattern, const char *name)
{
	const char *star = NULL, *from = NULL; /* behind the last *, and where what it stands for ends */
	while (*name) {
		if (*pattern == '*')
			star = ++pattern, from = name;
		else if (*pattern == *name)
			pattern++, name++;
		else if (star)
			pattern = star, name = ++from;
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

/* "text.*" and such for each part of the network, and the names. */
static const char **
pattern_names(Build *b, size_t *n)
{
	const char **known = NULL;
	size_t cap = 0;
	*n = 0;
	for (int i = 0; i < b->g->nparam; i++) {
		const char *name = b->g->param[i].name;
		for (const char *dot = name; (dot = strchr(dot, '.')); dot++)
			VEC_PUSH(known, *n, cap) = arena_printf(b->arena, "%.*s.*", (int)(dot - name), name);
		VEC_PUSH(known, *n, cap) = name;
	}
	return known;
}

static void
report_no_match(Build *b, const ParamGroup *group, const char *taken)
{
	size_t n;
	b->failed = true;
	if (taken) {
		error_at(group->params_loc, "params: what '%s' matches, such as %s, is in groups before it: a parameter belongs to the first that matches",
		         group->params, taken);
		return;
	}
	const char **known = pattern_names(b, &n), *near = nearest_name(group->params, known, n);
	error_at(group->params_loc, near ? "params: '%s' matches no parameter; did you mean '%s'?" : "params: '%s' matches no parameter; there are such as %s",
	         group->params, near ? near : b->g->param[0].name);
	free(known);
}

void
group_params(Build *b)
{
	Graph *g = b->g;
	bool trained = !b->m->ngroup;
	for (int k = 0; k < b->m->ngroup; k++) {
		const ParamGroup *group = &b->m->group[k];
		const char *taken = NULL;
		int n = 0;
		for (int i = 0; i < g->nparam; i++) {
			GParam *p = &g->param[i];
			if (!matches(group->params, p->name))
				continue;
			if (p->group) {
				taken = p->name;
				continue;
			}
			p->group = k + 1;
			p->frozen = group->freeze;
			n++;
		}
		if (!n)
			report_no_match(b, group, taken);
	}
	for (int i = 0; i < g->nparam; i++)
		trained |= !g->param[i].frozen;
	if (!trained && !b->failed) {
		error_at(b->m->group->loc, "every parameter is frozen: there is nothing to train");
		b->failed = true;
	}
}

/* What these rows [batch] have of the mean over the rows of the step. */
static Node *
row_part(Build *b, Node *rows)
{
	Node *sum = mk_reduce(b->g, P_reduce_sum, rows, (int64_t[]){0}, 1);
	return mk2(b->g, P_mul, sum, mk_like(b->g, 1.0 / (double)(b->batch * b->parts), sum));
}

/* ---- packing ---- */

/* The packed vectors: of the parameters that are trained, and of the frozen ones. Those of a group lie together. */
typedef struct Packing {
	int64_t n[2];    /* elements; by frozen */
	int *order;      /* parameters in the order of their places */
	const char *use; /* state that stands for the trained ones */
} Packing;

static int64_t
packed_length(const GParam *p)
{
	int64_t n = 1;
	for (int k = 0; k < p->nd; k++)
		n *= p->dim[k];
	return (n + PACK - 1) / PACK * PACK;
}

/* Gives each parameter its place. */
static Packing
pack_params(Graph *g)
{
	Packing k = {.order = arena_alloc(g->arena, (size_t)(g->nparam + 1) * sizeof *k.order), .use = "param"};
	int groups = 0, n = 0;
	for (int i = 0; i < g->nparam; i++)
		groups = g->param[i].group > groups ? g->param[i].group : groups;
	for (int group = 0; group <= groups; group++)
		for (int i = 0; i < g->nparam; i++) {
			GParam *p = &g->param[i];
			if (p->group != group)
				continue;
			p->off = k.n[p->frozen];
			k.n[p->frozen] += packed_length(p);
			k.order[n++] = i;
		}
	return k;
}

static int
packed_state(Graph *g, const char *name, bool frozen, int64_t n)
{
	return graph_state(g, (GState){.name = name, .dt = DT_F32, .nd = 1, .dim = {n}, .space = SP_PARAM, .fit = "", .frozen = frozen});
}

/* Parameters become slices of the packed vectors. */
static Node *
slice_param(Graph *to, Node *n, Node **in, void *ctx)
{
	const Packing *k = ctx;
	(void)in;
	if (n->op != P_param)
		return NULL;
	GParam *p = &to->param[n->at[0]];
	int64_t count = node_count(n);
	Node *all = mk_state(to, packed_state(to, p->frozen ? "frozen" : k->use, p->frozen, k->n[p->frozen]));
	return mk_reshape(to, mk_slice(to, all, &p->off, (int64_t[]){1}, &count), n->dim, n->nd);
}

Graph *
pack_graph(Graph *g, bool shadow)
{
	Packing k = pack_params(g);
	if (shadow)
		k.use = "ema";
	return graph_map(g, slice_param, &k);
}

/* The gradients d, by parameter, each in its place; zeros between and for parameters that the loss does not depend on. */
static Node *
pack_gradients(Build *b, const Packing *k, Node **d)
{
	Graph *g = b->g;
	Node **part = arena_alloc(g->arena, (size_t)(2 * g->nparam + 1) * sizeof *part);
	int n = 0;
	for (int i = 0; i < g->nparam; i++) {
		GParam *p = &g->param[k->order[i]];
		Node *v = d[k->order[i]];
		int64_t count = 1, gap;
		for (int j = 0; j < p->nd; j++)
			count *= p->dim[j];
		if (p->frozen)
			continue;
		if (!v && b->updates)
			warn_at(p->loc, "parameter %s does not reach any loss: it will not be trained", p->name);
		part[n++] = v ? mk_reshape(g, v, &count, 1) : mk_const(g, DT_F32, 0, &count, 1);
		if ((gap = packed_length(p) - count))
			part[n++] = mk_const(g, DT_F32, 0, &gap, 1);
	}
	return mk_concat(g, part, n, 0);
}

/* What the batch adds to the gradient of the mean loss of all rows of the step, packed; NULL after an error. */
static Node *
step_gradient(Build *b, Node *loss)
{
	Graph *g = b->g;
	size_t size = (size_t)g->nparam * sizeof(Node *);
	Node **wrt = arena_alloc(b->arena, size), **d = arena_alloc(b->arena, size), **by_param = arena_alloc(b->arena, size);
	Packing k = pack_params(g);
	int before = error_count(), n = 0;
	for (int i = 0; i < g->nparam; i++)
		if (!g->param[i].frozen)
			wrt[n++] = mk_param(g, i);
	autodiff(b->w, loss, wrt, n, d);
	for (int i = 0; i < n; i++)
		by_param[wrt[i]->at[0]] = d[i];
	g->loc = g->model = b->m->optimizer->loc;
	return error_count() > before ? NULL : pack_gradients(b, &k, by_param);
}

/* ---- the parts of a step ---- */

/* What the parts before this one left, and this one's. The first finds what the last step left, and drops it. */
static Node *
add_part(Build *b, Node *left, Node *v)
{
	Graph *g = b->g;
	Node *part = run_state(g, "run.part", DT_I32), *first = mk2(g, P_eq, part, int_like(g, 0, part));
	int64_t map[MAXDIM];
	for (int i = 0; i < v->nd; i++)
		map[i] = -1;
	return mk2(g, P_add, mk3(g, P_select, mk_expand(g, first, v->dim, v->nd, map), mk_like(g, 0, v), left), v);
}

/* The gradient of the whole step, once its last part is there. */
static Node *
sum_gradients(Build *b, Node *grad)
{
	Graph *g = b->g;
	if (b->parts == 1)
		return grad;
	int at = graph_state(g, (GState){.name = "gradient", .dt = DT_F32, .nd = 1, .dim = {grad->dim[0]}, .space = SP_OPT, .fit = ""});
	Node *sum = add_part(b, mk_state(g, at), grad);
	if (!b->updates)
		g->state[at].update = sum;
	return sum;
}

/* ---- the update ---- */

static Node *
clip(Graph *g, Node *grad, double limit)
{
	Node *norm = mk1(g, P_sqrt, mk_reduce(g, P_reduce_sum, mk2(g, P_mul, grad, grad), (int64_t[]){0}, 1));
	Node *ratio = mk2(g, P_div, mk_like(g, limit, norm), mk2(g, P_max, norm, mk_like(g, limit, norm)));
	return mk2(g, P_mul, grad, spread(g, ratio, grad->dim[0]));
}

/* The optimizer's call without its learning rate, which goes to *rate. */
static Ast *
optimizer_call(Build *b, double *rate)
{
	const Ast *opt = b->m->optimizer;
	Ast *call = arena_alloc(b->arena, sizeof *call);
	Val v;
	bool given = false;
	*rate = 1e-3;
	*call = *opt;
	call->kind = A_CALL;
	call->kid = arena_alloc(b->arena, (size_t)opt->nkid * sizeof *call->kid);
	call->nkid = 0;
	for (int i = 0; opt->kind == A_CALL && i < opt->nkid; i++) {
		Ast *a = opt->kid[i];
		if (a->kind == A_NAMED ? strcmp(a->s, "lr") != 0 : given)
			call->kid[call->nkid++] = a;
		else if (given)
			b->failed = (error_at(a->loc, "%s is given its argument lr twice", opt->s), true);
		else if (!lower_eval(b->w, a->kind == A_NAMED ? a->kid[0] : a, "", &v))
			b->failed = true;
		else if (v.kind != V_NUM || !(v.f > 0))
			b->failed = (error_at(a->loc, "the learning rate lr must be a number greater than 0"), true);
		else
			*rate = v.f;
		given |= a->kind != A_NAMED || !strcmp(a->s, "lr");
	}
	return call;
}

/* The learning rate of this step by the schedule, a number or a scalar. */
static Val
scheduled(Build *b, double rate, Node *step)
{
	Ast *sched = b->m->schedule;
	Val args[2] = {val_tensor(step, NULL), val_tensor(mk_cast(b->g, run_state(b->g, "run.total_steps", DT_I32), DT_F32), NULL)}, s;
	if (!sched)
		return val_num(rate, false);
	if (!lower_call(b->w, sched->s, args, 2, sched, "schedule", &s)) {
		b->failed = true;
	} else if (s.kind == V_NUM) {
		return val_num(rate * s.f, false);
	} else if (s.kind == V_TENSOR && !s.node->nd) {
		return val_tensor(mk2(b->g, P_mul, s.node, mk_like(b->g, rate, s.node)), NULL);
	} else {
		error_at(sched->loc, "a schedule must give one number: this gives %s", val_text(b, &s));
		b->failed = true;
	}
	return val_num(rate, false);
}

/* A group's factor of the learning rate or of decay for each element of the packed parameters; NULL if all are 1. */
static Node *
factors(Build *b, bool decay)
{
	Graph *g = b->g;
	Packing k = pack_params(g);
	Node **part = arena_alloc(b->arena, (size_t)(g->nparam + 1) * sizeof *part);
	double last = 1;
	int64_t run = 0;
	int n = 0;
	for (int i = 0; i < g->nparam; i++) {
		const GParam *p = &g->param[k.order[i]];
		const ParamGroup *of = p->group ? &b->m->group[p->group - 1] : NULL;
		double f = !of ? 1 : decay ? of->decay : of->lr;
		if (p->frozen)
			continue;
		if (run && f != last) {
			part[n++] = mk_const(g, DT_F32, last, &run, 1);
			run = 0;
		}
		run += packed_length(p);
		last = f;
	}
	part[n++] = mk_const(g, DT_F32, last, &run, 1);
	return n == 1 && last == 1 ? NULL : mk_concat(g, part, n, 0);
}

/* The same, times what plateaus made of it. */
static Val
lowered(Build *b, Val rate)
{
	if (!*b->m->train.plateau_on)
		return rate;
	Node *f = run_state(b->g, "run.rate", DT_F32);
	return val_tensor(mk2(b->g, P_mul, f, rate.kind == V_NUM ? mk_like(b->g, rate.f, f) : rate.node), NULL);
}

/* The rates of the elements: the step's, times the factors of the groups. */
static Val
grouped(Build *b, Val rate)
{
	static const char *const ax[] = {"n"};
	Node *f = factors(b, false);
	if (!f)
		return rate;
	Node *all = rate.kind == V_NUM ? mk_like(b->g, rate.f, f) : spread(b->g, rate.node, f->dim[0]);
	return val_tensor(mk2(b->g, P_mul, all, f), ax);
}

/* The running mean of the weights after the step. */
static void
follow(Build *b, int param)
{
	static const char *const ax[] = {"n"};
	Graph *g = b->g;
	GState *p = &g->state[param];
	int at = graph_state(g, (GState){.name = "ema", .dt = DT_F32, .nd = 1, .dim = {p->dim[0]}, .space = SP_PARAM, .fit = "", .shadow = true});
	Val args[3] = {val_tensor(mk_state(g, at), ax), val_tensor(g->state[param].update, ax), val_num(1 - b->m->ema, false)}, out;
	if (lower_call(b->w, "mix", args, 3, NULL, "", &out))
		g->state[at].update = out.node;
	else
		b->failed = true;
}

static void
optimize(Build *b, Node *grad)
{
	static const char *const ax[] = {"n"};
	Graph *g = b->g;
	const Model *m = b->m;
	Node *step = mk_cast(g, run_state(g, "run.step", DT_I32), DT_F32), *decays = factors(b, true);
	double rate;
	Ast *call = optimizer_call(b, &rate);
	if (m->clip_norm > 0)
		grad = clip(g, grad, m->clip_norm);
	step = mk2(g, P_add, step, mk_like(g, 1, step));
	if (decays && !add_argument(b, m->group->loc, call, "decays", val_tensor(decays, ax))) {
		error_at(call->loc, "the groups say what decays is: leave it out here");
		b->failed = true;
	}
	if (b->failed)
		return;
	int param = packed_state(g, "param", false, grad->dim[0]);
	add_argument(b, call->loc, call, "lr", grouped(b, lowered(b, scheduled(b, rate, step))));
	Val args[3] = {val_tensor(mk_state(g, param), ax), val_tensor(grad, ax), val_tensor(step, NULL)}, out;
	if (!b->failed && !lower_call(b->w, call->s, args, 3, call, "", &out))
		b->failed = true;
	if (!b->failed && m->ema > 0)
		follow(b, param);
}

/* ---- the log and the counters ---- */

/* Row step % capacity of the log gets the losses of this step. */
static void
log_losses(Build *b, const Heads *h, Node *mean)
{
	Graph *g = b->g;
	int64_t n = h->n + 1, cap = b->m->train.log_steps, one = 1, dim[2] = {cap, n}, axis = 0;
	Node *part[65], *step = run_state(g, "run.step", DT_I32);
	int at = graph_state(g, (GState){.name = "run.log", .dt = DT_F32, .nd = 2, .dim = {cap, n}, .space = SP_STAT, .fit = ""});
	part[0] = mk_reshape(g, mean, &one, 1);
	for (int i = 0; i < h->n; i++)
		part[i + 1] = mk_reshape(g, row_part(b, h->loss[i]), &one, 1);
	Node *row = mk_expand(g, mk_concat(g, part, (int)n, 0), dim, 2, (int64_t[]){-1, 0});
	if (b->parts > 1)
		row = add_part(b, mk_state(g, at), row);
	Node *i = mk_expand(g, node_new(g, P_iota, DT_I32, NULL, 0, &cap, 1, &axis, 1, 0), dim, 2, (int64_t[]){0, -1});
	Node *now = mk_expand(g, mk2(g, P_mod, step, int_like(g, cap, step)), dim, 2, (int64_t[]){-1, -1});
	g->state[at].update = mk3(g, P_select, mk2(g, P_eq, i, now), row, mk_state(g, at));
}

static void
count(Build *b)
{
	Graph *g = b->g;
	Node *step = run_state(g, "run.step", DT_I32);
	if (b->updates)
		g->state[graph_state(g, (GState){.name = "run.step"})].update = mk2(g, P_add, step, int_like(g, 1, step));
	if (b->parts > 1) {
		Node *part = run_state(g, "run.part", DT_I32);
		g->state[graph_state(g, (GState){.name = "run.part"})].update = b->updates ? int_like(g, 0, part) : mk2(g, P_add, part, int_like(g, 1, part));
	}
}

void
finish_step(Build *b, Heads *h)
{
	Node *mean = row_part(b, h->total), *grad = step_gradient(b, mean);
	if (!grad) {
		b->failed = true;
		return;
	}
	grad = sum_gradients(b, grad);
	if (b->updates)
		optimize(b, grad);
	log_losses(b, h, mean);
	count(b);
}
