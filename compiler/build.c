/* The model to graphs. The training graph is one step: rows of the batch (shuffled on the device), inputs, network,
   losses, gradients, optimizer, the loss log, the step counter. The eval graph is rows in order, inputs, network,
   predictions and losses a row. Parameters are slices of one packed vector, so the optimizer, clipping and anything
   over all parameters is written once, on a vector. */
#include <math.h>
#include <string.h>

#include "mmc.h"

#define PACK 4 /* elements: parameters start at 16-byte places */

typedef struct Build {
	Arena *arena;
	Lib *lib;
	const Model *m;
	Graph *g;
	Lower *w;
	int64_t batch;
	Node *rows;   /* [batch] dataset rows */
	bool failed;
} Build;

static Node *
run_state(Graph *g, const char *name, DType dt)
{
	return mk_state(g, graph_state(g, (GState){.name = name, .dt = dt, .space = SP_STAT, .fit = ""}));
}

static Node *int_like(Graph *g, int64_t v, Node *n) { return mk_const(g, n->dt, (double)v, n->dim, n->nd); }

/* Repeats a scalar over a vector. */
static Node *
spread(Graph *g, Node *scalar, int64_t n)
{
	return mk_expand(g, scalar, &n, 1, (int64_t[]){-1});
}

/* Every graph knows all of them, in this order. */
static void
add_run_states(Graph *g)
{
	static const char *const names[] = {"run.step", "run.first", "run.rows", "run.cursor", "run.steps_per_epoch", "run.total_steps"};
	run_state(g, "run.seed", DT_U32);
	for (size_t i = 0; i < LEN(names); i++)
		run_state(g, names[i], DT_I32);
}

/* Row i of the batch is item (step % steps_per_epoch) * batch + i of the epoch's shuffle. */
static Node *
train_rows(Graph *g, int64_t batch)
{
	Node *step = run_state(g, "run.step", DT_I32), *per = run_state(g, "run.steps_per_epoch", DT_I32);
	Node *key = mk2(g, P_add, mk_cast(g, run_state(g, "run.seed", DT_U32), DT_I32), mk2(g, P_div, step, per));
	Node *start = mk2(g, P_mul, mk2(g, P_mod, step, per), int_like(g, batch, step));
	Node *i = node_new(g, P_iota, DT_I32, NULL, 0, &batch, 1, (int64_t[]){0}, 1, 0);
	Node *item = mk3(g, P_shuffle, mk2(g, P_add, i, spread(g, start, batch)), spread(g, run_state(g, "run.rows", DT_I32), batch), spread(g, key, batch));
	return mk2(g, P_add, item, spread(g, run_state(g, "run.first", DT_I32), batch));
}

static Node *
eval_rows(Graph *g, int64_t batch)
{
	Node *cursor = run_state(g, "run.cursor", DT_I32), *rows = run_state(g, "run.rows", DT_I32);
	Node *i = node_new(g, P_iota, DT_I32, NULL, 0, &batch, 1, (int64_t[]){0}, 1, 0);
	Node *last = mk2(g, P_sub, rows, int_like(g, 1, rows));
	Node *row = mk2(g, P_min, mk2(g, P_add, i, spread(g, cursor, batch)), spread(g, last, batch));
	g->state[graph_state(g, (GState){.name = "run.cursor"})].update = mk2(g, P_add, cursor, int_like(g, batch, cursor));
	return mk2(g, P_add, row, spread(g, run_state(g, "run.first", DT_I32), batch));
}

static Node *
fetch(Build *b, DType dt, int64_t width, int64_t column)
{
	int64_t dim[2] = {b->batch, width};
	return node_new(b->g, P_fetch, dt, &b->rows, 1, dim, width > 1 ? 2 : 1, &column, 1, 0);
}

static void
bind_inputs(Build *b)
{
	const PlanData *d = &b->m->data;
	for (uint32_t i = 0; i < d->ninput; i++) {
		const PlanInput *in = &d->input[i];
		bool number = in->kind == IN_NUMBER;
		const char *ax[2] = {"b", number ? "c" : b->m->axis[i] ? b->m->axis[i] : "t"};
		b->g->loc = b->g->model = b->m->input_loc[i];
		Node *x = fetch(b, number ? DT_F32 : DT_I32, in->width, i);
		if (number) /* a feature vector of one: [b, c: 1] */
			x = mk_reshape(b->g, x, (int64_t[]){b->batch, 1}, 2);
		Val v = val_tensor(x, ax);
		v.ids = number ? 0 : in->size;
		v.path = in->name;
		lower_bind(b->w, in->name, v);
	}
}

static void
lower_network(Build *b)
{
	for (int i = 0; i < b->m->nnet; i++) {
		NetEntry *e = &b->m->net[i];
		Val v;
		if (!lower_eval(b->w, e->expr, e->name, &v))
			b->failed = true; /* v is a stand-in that keeps later lines from failing for this one */
		if (v.kind == V_TENSOR)
			v.path = e->name;
		lower_bind(b->w, e->name, v);
	}
}

static const char *
shape_text(Build *b, const Val *v)
{
	const char *s = "";
	for (int i = 0; v->kind == V_TENSOR && i < v->node->nd; i++)
		s = arena_printf(b->arena, "%s%s%s: %ld", s, i ? ", " : "", v->ax[i], (long)v->node->dim[i]);
	return v->kind == V_TENSOR ? arena_printf(b->arena, "a tensor [%s]", s) : "no tensor";
}

/* Drops axes of size 1 so that what is left is [b]. */
static bool
per_row(Build *b, Val *v, Loc l, const char *what)
{
	Graph *g = b->g;
	int at = v->kind == V_TENSOR ? 0 : -1;
	while (at >= 0 && at < v->node->nd && strcmp(v->ax[at], "b"))
		at++;
	if (at < 0 || at == v->node->nd || node_count(v->node) != b->batch || v->node->dim[at] != b->batch) {
		error_at(l, "%s must be one number a row, [b: %ld] and no other axis larger than 1: this is %s", what, (long)b->batch, shape_text(b, v));
		b->failed = true;
		return false;
	}
	v->node = mk_cast(g, mk_reshape(g, v->node, &b->batch, 1), DT_F32);
	v->ax[0] = "b";
	return true;
}

typedef struct Heads {
	Node *total;     /* [batch] */
	Node *loss[64];  /* [batch] each */
	Node *pred[64];
	int n;
} Heads;

/* Whether the library has a definition of this kind under the call's name. */
static bool
need_def(Build *b, const Ast *call, const char *kind)
{
	const char *known[256], *near;
	size_t n = 0;
	int ndef;
	Ast **def = lib_defs(b->lib, &ndef);
	const Ast *found = lib_find(b->lib, call->s);
	if (found && !strcmp(found->t, kind))
		return true;
	for (int i = 0; i < ndef && n < LEN(known); i++)
		if (!strcmp(def[i]->t, kind))
			known[n++] = def[i]->s;
	near = nearest_name(call->s, known, n);
	const char *article = strchr("aeiou", kind[0]) ? "an" : "a";
	if (found)
		error_at(call->loc, "'%s' is %s %s, and %s %s is needed", call->s, strchr("aeiou", found->t[0]) ? "an" : "a", found->t, article, kind);
	else if (near)
		error_at(call->loc, "no %s is called '%s'; did you mean '%s'?", kind, call->s, near);
	else
		error_at(call->loc, "no %s is called '%s'", kind, call->s);
	b->failed = true;
	return false;
}

/* The call of a loss with what the model file adds to it. */
static Ast *
loss_call(Build *b, const LossEntry *l)
{
	Ast *call = arena_alloc(b->arena, sizeof *call), *arg, *name;
	*call = *l->loss;
	if (l->loss->kind == A_NAME)
		call->nkid = 0;
	call->kind = A_CALL;
	if (!l->balanced && l->positive_weight == 1)
		return call;
	GState s = {.name = arena_printf(b->arena, "fit.%s.positive_weight", l->name), .dt = DT_F32, .space = SP_STAT, .a = l->positive_weight};
	s.fit = l->balanced ? arena_printf(b->arena, "%s.positive_weight", l->name) : "";
	Val w = l->balanced ? val_tensor(mk_state(b->g, graph_state(b->g, s)), NULL) : val_num(l->positive_weight, false);
	lower_bind(b->w, "'positive_weight", w);
	name = arena_alloc(b->arena, sizeof *name);
	*name = (Ast){.kind = A_NAME, .s = "'positive_weight", .loc = l->loc};
	arg = arena_alloc(b->arena, sizeof *arg);
	*arg = (Ast){.kind = A_NAMED, .s = "positive_weight", .loc = l->loc, .nkid = 1};
	arg->kid = arena_alloc(b->arena, sizeof *arg->kid);
	arg->kid[0] = name;
	Ast **kid = arena_alloc(b->arena, (size_t)(call->nkid + 1) * sizeof *kid);
	if (call->nkid)
		memcpy(kid, call->kid, (size_t)call->nkid * sizeof *kid);
	kid[call->nkid++] = arg;
	call->kid = kid;
	return call;
}

static void
lower_heads(Build *b, Heads *h)
{
	const Model *m = b->m;
	for (int i = 0; i < m->nloss && h->n < (int)LEN(h->loss); i++) {
		const LossEntry *l = &m->loss[i];
		uint32_t t = 0;
		Val args[2], out;
		while (strcmp(m->data.target[t].name, l->name))
			t++;
		if (!need_def(b, l->loss, "loss") || !lower_eval(b->w, l->of, l->name, &args[0]) ||
		    !per_row(b, &args[0], l->of->loc, "a prediction")) {
			b->failed = true;
			continue;
		}
		args[1] = val_tensor(fetch(b, DT_F32, 1, (int64_t)m->data.ninput + t), (const char *[]){"b"});
		if (!lower_call(b->w, l->loss->s, args, 2, loss_call(b, l), l->name, &out) || !per_row(b, &out, l->loss->loc, "a loss")) {
			b->failed = true;
			continue;
		}
		b->g->loc = b->g->model = l->loc;
		h->pred[h->n] = m->data.target[t].kind == TG_BINARY ? mk1(b->g, P_sigmoid, args[0].node) : args[0].node;
		h->loss[h->n++] = out.node;
		Node *weighted = mk2(b->g, P_mul, out.node, mk_like(b->g, l->weight, out.node));
		h->total = h->total ? mk2(b->g, P_add, h->total, weighted) : weighted;
	}
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

/* Parameters become slices of the packed vector. */
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

/* The gradients, each in its place; zeros between and for parameters that the loss does not depend on. */
static Node *
pack_gradients(Graph *g, Node **d, int64_t total)
{
	Node **part = arena_alloc(g->arena, (size_t)(2 * g->nparam + 1) * sizeof *part);
	int n = 0;
	for (int i = 0; i < g->nparam; i++) {
		GParam *p = &g->param[i];
		int64_t count = 1, end = i + 1 < g->nparam ? g->param[i + 1].off : total;
		for (int k = 0; k < p->nd; k++)
			count *= p->dim[k];
		if (!d[i])
			warn_at(p->loc, "parameter %s does not reach any loss: it will not be trained", p->name);
		part[n++] = d[i] ? mk_reshape(g, d[i], &count, 1) : mk_const(g, DT_F32, 0, &count, 1);
		int64_t gap = end - p->off - count;
		if (gap)
			part[n++] = mk_const(g, DT_F32, 0, &gap, 1);
	}
	return mk_concat(g, part, n, 0);
}

static Node *
clip(Graph *g, Node *grad, double limit)
{
	Node *norm = mk1(g, P_sqrt, mk_reduce(g, P_reduce_sum, mk2(g, P_mul, grad, grad), (int64_t[]){0}, 1));
	Node *ratio = mk2(g, P_div, mk_like(g, limit, norm), mk2(g, P_max, norm, mk_like(g, limit, norm)));
	return mk2(g, P_mul, grad, spread(g, ratio, grad->dim[0]));
}

static void
optimize(Build *b, Node *loss)
{
	Graph *g = b->g;
	Node **wrt = arena_alloc(b->arena, (size_t)g->nparam * sizeof *wrt), **d = arena_alloc(b->arena, (size_t)g->nparam * sizeof *d);
	const Ast *opt = b->m->optimizer, *sched = b->m->schedule;
	Ast *call = arena_alloc(b->arena, sizeof *call);
	Val rate = val_num(1e-3, false), out, args[4], sargs[2];
	int64_t total = pack_params(g);
	for (int i = 0; i < g->nparam; i++)
		wrt[i] = mk_param(g, i);
	autodiff(b->w, loss, wrt, g->nparam, d);
	if (error_count()) {
		b->failed = true;
		return;
	}
	g->loc = g->model = opt->loc;
	Node *grad = pack_gradients(g, d, total), *step = mk_cast(g, run_state(g, "run.step", DT_I32), DT_F32);
	if (b->m->clip_norm > 0)
		grad = clip(g, grad, b->m->clip_norm);
	step = mk2(g, P_add, step, mk_like(g, 1, step));
	*call = *opt; /* lr goes in as the scheduled rate */
	call->kid = arena_alloc(b->arena, (size_t)opt->nkid * sizeof *call->kid);
	call->nkid = 0;
	for (int i = 0; opt->kind == A_CALL && i < opt->nkid; i++) {
		Ast *a = opt->kid[i];
		bool is_rate = a->kind == A_NAMED ? !strcmp(a->s, "lr") : true;
		if (!is_rate)
			call->kid[call->nkid++] = a;
		else if (!lower_eval(b->w, a->kind == A_NAMED ? a->kid[0] : a, "", &rate))
			b->failed = true;
		else if (rate.kind != V_NUM || !(rate.f > 0))
			b->failed = (error_at(a->loc, "the learning rate lr must be a number greater than 0"), true);
	}
	if (b->failed)
		return;
	sargs[0] = val_tensor(step, NULL);
	sargs[1] = val_tensor(mk_cast(g, run_state(g, "run.total_steps", DT_I32), DT_F32), NULL);
	if (sched) {
		Val s;
		if (!lower_call(b->w, sched->s, sargs, 2, (Ast *)sched, "schedule", &s)) {
			b->failed = true;
			return;
		}
		if (s.kind != V_NUM && (s.kind != V_TENSOR || s.node->nd)) {
			error_at(sched->loc, "a schedule must give one number: this gives %s", shape_text(b, &s));
			b->failed = true;
			return;
		}
		if (s.kind == V_NUM)
			rate.f *= s.f;
		else
			rate = val_tensor(mk2(g, P_mul, s.node, mk_like(g, rate.f, s.node)), NULL);
	}
	args[0] = val_tensor(mk_state(g, packed_state(g, total)), (const char *[]){"n"});
	args[1] = val_tensor(grad, (const char *[]){"n"});
	args[2] = rate;
	args[3] = sargs[0];
	call->kind = A_CALL;
	if (!lower_call(b->w, opt->s, args, 4, call, "", &out))
		b->failed = true;
}

/* Row step % capacity of the log gets the losses of this step. */
static void
log_losses(Build *b, Heads *h, Node *mean)
{
	Graph *g = b->g;
	int64_t n = h->n + 1, cap = b->m->train.log_steps, one = 1, dim[2] = {cap, n}, axis = 0;
	Node *part[65], *step = run_state(g, "run.step", DT_I32);
	int at = graph_state(g, (GState){.name = "run.log", .dt = DT_F32, .nd = 2, .dim = {cap, n}, .space = SP_STAT, .fit = ""});
	part[0] = mk_reshape(g, mean, &one, 1);
	for (int i = 0; i < h->n; i++) {
		Node *m = mk_reduce(g, P_reduce_sum, h->loss[i], &axis, 1);
		part[i + 1] = mk_reshape(g, mk2(g, P_mul, m, mk_like(g, 1.0 / (double)b->batch, m)), &one, 1);
	}
	Node *row = mk_expand(g, mk_concat(g, part, (int)n, 0), dim, 2, (int64_t[]){-1, 0});
	Node *i = mk_expand(g, node_new(g, P_iota, DT_I32, NULL, 0, &cap, 1, &axis, 1, 0), dim, 2, (int64_t[]){0, -1});
	Node *now = mk_expand(g, mk2(g, P_mod, step, int_like(g, cap, step)), dim, 2, (int64_t[]){-1, -1});
	g->state[at].update = mk3(g, P_select, mk2(g, P_eq, i, now), row, mk_state(g, at));
	g->state[graph_state(g, (GState){.name = "run.step"})].update = mk2(g, P_add, step, int_like(g, 1, step));
}

static void
begin(Build *b, const char *name, bool training)
{
	b->g = graph_new(b->arena, name);
	b->g->batch = b->batch;
	b->w = lower_new(b->lib, b->g, training);
}

Graph *
build_train(Arena *a, Lib *l, const Model *m)
{
	Build b = {.arena = a, .lib = l, .m = m, .batch = m->train.batch};
	Heads h = {0};
	begin(&b, "train", true);
	add_run_states(b.g);
	b.rows = train_rows(b.g, b.batch);
	bind_inputs(&b);
	need_def(&b, m->optimizer, "optimizer");
	if (m->schedule)
		need_def(&b, m->schedule, "schedule");
	lower_network(&b);
	lower_heads(&b, &h);
	if (b.failed)
		return NULL;
	Node *mean = mk_reduce(b.g, P_reduce_sum, h.total, (int64_t[]){0}, 1);
	mean = mk2(b.g, P_mul, mean, mk_like(b.g, 1.0 / (double)b.batch, mean));
	if (!b.g->nparam) {
		error_at(m->net[0].loc, "the network has no parameters: there is nothing to train");
		return NULL;
	}
	optimize(&b, mean);
	if (b.failed)
		return NULL;
	log_losses(&b, &h, mean);
	int64_t total = pack_params(b.g);
	return graph_map(b.g, slice_param, &total);
}

Graph *
build_eval(Arena *a, Lib *l, const Model *m, const Graph *train, int64_t batch)
{
	Build b = {.arena = a, .lib = l, .m = m, .batch = batch};
	Heads h = {0};
	begin(&b, "eval", false);
	for (int i = 0; i < train->nstate; i++) {
		graph_state(b.g, train->state[i]);
		b.g->state[i].update = NULL;
	}
	for (int i = 0; i < train->nparam; i++)
		graph_param(b.g, train->param[i]);
	b.rows = eval_rows(b.g, batch);
	bind_inputs(&b);
	lower_network(&b);
	if (!b.failed)
		lower_heads(&b, &h);
	if (b.failed)
		return NULL;
	if (b.g->nparam != train->nparam)
		error_at(m->net[0].loc, "parameter %s exists in inference only: a parameter must not hang on `training`", b.g->param[train->nparam].name);
	int k = 0;
	for (int i = 0; i < m->nloss; i++, k++) {
		graph_output(b.g, m->loss[i].name, "prediction", h.pred[k]);
		graph_output(b.g, m->loss[i].name, "loss", h.loss[k]);
	}
	graph_output(b.g, "loss", "loss", h.total);
	int64_t total = 0;
	for (int i = 0; i < train->nstate; i++)
		if (train->state[i].space == SP_PARAM)
			total = train->state[i].dim[0];
	return graph_map(b.g, slice_param, &total);
}
