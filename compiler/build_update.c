/* What a training step does with its losses: gradients, packed into one vector; their sum over the parts of a step; clipping; the
   optimizer, which is library code on the packed vectors; the log. */
#include <string.h>

#include "build.h"

#define PACK 4 /* elements: parameters start at 16-byte places */

/* What these rows [batch] have of the mean over the rows of the step. */
static Node *
row_part(Build *b, Node *rows)
{
	Node *sum = mk_reduce(b->g, P_reduce_sum, rows, (int64_t[]){0}, 1);
	return mk2(b->g, P_mul, sum, mk_like(b->g, 1.0 / (double)(b->batch * b->parts), sum));
}

/* ---- packing ---- */

/* Offsets of the parameters in the packed vector; returns its length. */
static int64_t
pack_params(Graph *g)
{
	int64_t off = 0;
	for (int i = 0; i < g->nparam; i++) {
		int64_t n = 1;
		for (int k = 0; k < g->param[i].nd; k++)
			n *= g->param[i].dim[k];
		g->param[i].off = off;
		off += (n + PACK - 1) / PACK * PACK;
	}
	return off;
}

static int
packed_state(Graph *g, int64_t n)
{
	return graph_state(g, (GState){.name = "param", .dt = DT_F32, .nd = 1, .dim = {n}, .space = SP_PARAM, .fit = ""});
}

/* Parameters become slices of the packed vector; ctx: its length. */
static Node *
slice_param(Graph *to, Node *n, Node **in, void *ctx)
{
	(void)in;
	if (n->op != P_param)
		return NULL;
	GParam *p = &to->param[n->at[0]];
	int64_t count = node_count(n);
	Node *all = mk_state(to, packed_state(to, *(int64_t *)ctx));
	return mk_reshape(to, mk_slice(to, all, &p->off, (int64_t[]){1}, &count), n->dim, n->nd);
}

Graph *
pack_graph(Graph *g)
{
	int64_t total = pack_params(g);
	return graph_map(g, slice_param, &total);
}

/* The gradients, each in its place; zeros between and for parameters that the loss does not depend on. */
static Node *
pack_gradients(Build *b, Node **d, int64_t total)
{
	Graph *g = b->g;
	Node **part = arena_alloc(g->arena, (size_t)(2 * g->nparam + 1) * sizeof *part);
	int n = 0;
	for (int i = 0; i < g->nparam; i++) {
		GParam *p = &g->param[i];
		int64_t count = 1, end = i + 1 < g->nparam ? g->param[i + 1].off : total;
		for (int k = 0; k < p->nd; k++)
			count *= p->dim[k];
		if (!d[i] && b->updates)
			warn_at(p->loc, "parameter %s does not reach any loss: it will not be trained", p->name);
		part[n++] = d[i] ? mk_reshape(g, d[i], &count, 1) : mk_const(g, DT_F32, 0, &count, 1);
		int64_t gap = end - p->off - count;
		if (gap)
			part[n++] = mk_const(g, DT_F32, 0, &gap, 1);
	}
	return mk_concat(g, part, n, 0);
}

/* The gradient of the mean loss of all rows of a step, packed; NULL after an error. */
static Node *
step_gradient(Build *b, Node *loss)
{
	Graph *g = b->g;
	Node **wrt = arena_alloc(b->arena, (size_t)g->nparam * sizeof *wrt), **d = arena_alloc(b->arena, (size_t)g->nparam * sizeof *d);
	int before = error_count();
	int64_t total = pack_params(g);
	for (int i = 0; i < g->nparam; i++)
		wrt[i] = mk_param(g, i);
	autodiff(b->w, loss, wrt, g->nparam, d);
	g->loc = g->model = b->m->optimizer->loc;
	return error_count() > before ? NULL : pack_gradients(b, d, total);
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
	*rate = 1e-3;
	*call = *opt;
	call->kind = A_CALL;
	call->kid = arena_alloc(b->arena, (size_t)opt->nkid * sizeof *call->kid);
	call->nkid = 0;
	for (int i = 0; opt->kind == A_CALL && i < opt->nkid; i++) {
		Ast *a = opt->kid[i];
		if (a->kind == A_NAMED && strcmp(a->s, "lr"))
			call->kid[call->nkid++] = a;
		else if (!lower_eval(b->w, a->kind == A_NAMED ? a->kid[0] : a, "", &v))
			b->failed = true;
		else if (v.kind != V_NUM || !(v.f > 0))
			b->failed = (error_at(a->loc, "the learning rate lr must be a number greater than 0"), true);
		else
			*rate = v.f;
	}
	return call;
}

/* The learning rate of this step, a number or a scalar. */
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

static void
optimize(Build *b, Node *grad)
{
	static const char *const ax[] = {"n"};
	Graph *g = b->g;
	Node *step = mk_cast(g, run_state(g, "run.step", DT_I32), DT_F32);
	double rate;
	Ast *call = optimizer_call(b, &rate);
	if (b->m->clip_norm > 0)
		grad = clip(g, grad, b->m->clip_norm);
	step = mk2(g, P_add, step, mk_like(g, 1, step));
	if (b->failed)
		return;
	Val args[4] = {val_tensor(mk_state(g, packed_state(g, grad->dim[0])), ax), val_tensor(grad, ax), scheduled(b, rate, step), val_tensor(step, NULL)}, out;
	if (!b->failed && !lower_call(b->w, call->s, args, 4, call, "", &out))
		b->failed = true;
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
