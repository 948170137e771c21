/* The model to graphs. The training graph is one step: rows of the batch (shuffled on the device), inputs, network,
   losses, gradients, optimizer, the loss log, the step counter. The eval graph is rows in order, inputs, network,
   predictions and losses a row. Parameters are slices of one packed vector, so the optimizer, clipping and anything
   over all parameters is written once, on a vector. */
#include <math.h>
#include <string.h>

#include "build.h"

#define PACK 4 /* elements: parameters start at 16-byte places */

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
	Node *pred[64];  /* NULL of a penalty */
	int n;
} Heads;

/* A loss over more axes than b counts with its mean over them. */
static bool
row_mean(Build *b, Val *v, Loc l)
{
	int64_t axes[MAXDIM], n = 0, count = 1;
	bool rows = false;
	for (int i = 0; v->kind == V_TENSOR && i < v->node->nd; i++) {
		if (!strcmp(v->ax[i], "b")) {
			rows = v->node->dim[i] == b->batch;
			continue;
		}
		axes[n++] = i;
		count *= v->node->dim[i];
	}
	if (!rows)
		return per_row(b, v, l, "a loss"); /* says what is wrong */
	v->node = mk_cast(b->g, v->node, DT_F32);
	if (n) {
		v->node = mk_reduce(b->g, P_reduce_sum, v->node, axes, (int)n);
		v->node = mk2(b->g, P_mul, v->node, mk_like(b->g, 1.0 / (double)count, v->node));
	}
	v->ax[0] = "b";
	return true;
}

/* Logits with the classes along the last axis and the target's axes before it. */
static bool
check_logits(Build *b, const Val *z, const PlanTarget *t, const Val *y, Loc l)
{
	const Node *n = z->kind == V_TENSOR ? z->node : NULL;
	bool ok = n && n->nd == y->node->nd + 1 && n->dim[n->nd - 1] == t->size;
	for (int i = 0; ok && i < y->node->nd; i++)
		ok = n->dim[i] == y->node->dim[i] && !strcmp(z->ax[i], y->ax[i]);
	if (!ok) {
		error_at(l, "the logits of '%s' must be %s with %ld classes as one more axis at the end: this is %s", t->name, shape_text(b, y), (long)t->size,
		         shape_text(b, z));
		b->failed = true;
	}
	return ok;
}

/* The place of the largest element along the last axis, the first where several are. */
static Node *
argmax(Graph *g, Node *z)
{
	int64_t last = z->nd - 1, map[MAXDIM];
	for (int i = 0; i < z->nd; i++)
		map[i] = i == last ? -1 : i;
	Node *best = mk_expand(g, mk_reduce(g, P_reduce_max, z, &last, 1), z->dim, z->nd, map);
	Node *at = mk_cast(g, node_new(g, P_iota, DT_I32, NULL, 0, z->dim, z->nd, &last, 1, 0), DT_F32), *end = mk_like(g, (double)z->dim[last] - 1, at);
	Node *from_end = mk3(g, P_select, mk2(g, P_eq, z, best), mk2(g, P_sub, end, at), mk_like(g, 0, at));
	Node *place = mk_reduce(g, P_reduce_max, from_end, &last, 1);
	return mk2(g, P_sub, mk_like(g, (double)z->dim[last] - 1, place), place);
}

/* What the eval program gives for a target: see PlanOutput.role. */
static bool
predict(Build *b, const LossEntry *l, const PlanTarget *t, Val *z, const Val *y, Node **out)
{
	Val p = *z;
	switch (t->kind) {
	case TG_NUMBER:
		*out = z->node;
		return true;
	case TG_BINARY:
		*out = mk1(b->g, P_sigmoid, z->node);
		return true;
	case TG_LABELS:
		*out = mk_cast(b->g, argmax(b->g, z->node), DT_U8);
		return true;
	case TG_TENSOR:
		if (l->predict && !lower_eval(b->w, l->predict, l->name, &p))
			return false;
		if (p.kind == V_TENSOR && node_count(p.node) == node_count(y->node) && !strcmp(p.ax[0], "b")) {
			*out = mk_cast(b->g, p.node, DT_F32);
			return true;
		}
		error_at((l->predict ? l->predict : l->of)->loc, "the prediction of '%s' must have its elements, %s: this is %s", t->name, shape_text(b, y),
		         shape_text(b, &p));
		return false;
	default:
		if (!lower_call(b->w, "softmax", &p, 1, NULL, l->name, &p))
			return false;
		*out = mk_cast(b->g, p.node, DT_F32);
		return true;
	}
}

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

/* Adds a named argument to a call, unless the model file gives it. */
static void
add_argument(Build *b, const LossEntry *l, Ast *call, const char *what, Val v)
{
	Ast *name = arena_alloc(b->arena, sizeof *name), *arg = arena_alloc(b->arena, sizeof *arg);
	Ast **kid = arena_alloc(b->arena, (size_t)(call->nkid + 1) * sizeof *kid);
	for (int i = 0; i < call->nkid; i++)
		if (call->kid[i]->kind == A_NAMED && !strcmp(call->kid[i]->s, what))
			return;
	const char *hidden = arena_printf(b->arena, "'%s", what); /* no name of a user's has a quote */
	lower_bind(b->w, hidden, v);
	*name = (Ast){.kind = A_NAME, .s = hidden, .loc = l->loc};
	*arg = (Ast){.kind = A_NAMED, .s = what, .loc = l->loc, .nkid = 1};
	arg->kid = arena_alloc(b->arena, sizeof *arg->kid);
	arg->kid[0] = name;
	if (call->nkid)
		memcpy(kid, call->kid, (size_t)call->nkid * sizeof *kid);
	kid[call->nkid++] = arg;
	call->kid = kid;
}

/* The call of a loss with what the model file adds to it. */
static Ast *
loss_call(Build *b, const LossEntry *l, const PlanTarget *t)
{
	Ast *call = arena_alloc(b->arena, sizeof *call);
	*call = *l->loss;
	if (l->loss->kind == A_NAME)
		call->nkid = 0;
	call->kind = A_CALL;
	if (t->kind == TG_LABELS && t->ignore >= 0)
		add_argument(b, l, call, "ignore", val_num((double)t->ignore, true));
	if (!l->balanced && l->positive_weight == 1)
		return call;
	GState s = {.name = arena_printf(b->arena, "fit.%s.positive_weight", l->name), .dt = DT_F32, .space = SP_STAT, .a = l->positive_weight};
	s.fit = l->balanced ? arena_printf(b->arena, "%s.positive_weight", l->name) : "";
	Val w = l->balanced ? val_tensor(mk_state(b->g, graph_state(b->g, s)), NULL) : val_num(l->positive_weight, false);
	add_argument(b, l, call, "positive_weight", w);
	return call;
}

/* The loss of one entry a row, and what is predicted. */
static bool
lower_head(Build *b, const LossEntry *l, Node **loss, Node **pred)
{
	const PlanData *d = &b->m->data;
	uint32_t t = 0;
	Val args[2], out;
	*pred = NULL;
	while (t < d->ntarget && strcmp(d->target[t].name, l->name))
		t++;
	if (!l->loss) {
		bool ok = lower_eval(b->w, l->of, l->name, &out) && row_mean(b, &out, l->of->loc);
		*loss = out.node;
		return ok;
	}
	const PlanTarget *p = &d->target[t];
	if (!need_def(b, l->loss, "loss") || !lower_eval(b->w, l->of, l->name, &args[0]))
		return false;
	args[1] = target_value(b, t);
	if (p->kind <= TG_BINARY ? !per_row(b, &args[0], l->of->loc, "a prediction")
	                         : p->kind != TG_TENSOR && !check_logits(b, &args[0], p, &args[1], l->of->loc))
		return false;
	if (!lower_call(b->w, l->loss->s, args, 2, loss_call(b, l, p), l->name, &out) || !row_mean(b, &out, l->loss->loc))
		return false;
	b->g->loc = b->g->model = l->loc;
	*loss = out.node;
	return b->training || predict(b, l, p, &args[0], &args[1], pred);
}

static void
lower_heads(Build *b, Heads *h)
{
	const Model *m = b->m;
	for (int i = 0; i < m->nloss && h->n < (int)LEN(h->loss); i++) {
		const LossEntry *l = &m->loss[i];
		Node *loss = NULL;
		if (!lower_head(b, l, &loss, &h->pred[h->n])) {
			b->failed = true;
			continue;
		}
		b->g->loc = b->g->model = l->loc;
		h->loss[h->n++] = loss;
		Node *weighted = mk2(b->g, P_mul, loss, mk_like(b->g, l->weight, loss));
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
	int before = error_count();
	autodiff(b->w, loss, wrt, g->nparam, d);
	if (error_count() > before) {
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
	b->training = training;
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

/* The probabilities of next bytes are many: only generation, one row at a time, reads them. */
static bool
is_next(const Model *m, const char *target)
{
	for (uint32_t t = 0; t < m->data.ntarget; t++)
		if (!strcmp(m->data.target[t].name, target))
			return m->data.target[t].kind == TG_NEXT;
	return false;
}

static void
add_outputs(Build *b)
{
	for (int i = 0; i < b->m->noutput; i++) {
		const OutputEntry *o = &b->m->output[i];
		Ast name = {.kind = A_NAME, .s = o->name, .loc = o->loc};
		Val v;
		if (!lower_eval(b->w, &name, "", &v)) {
			b->failed = true;
		} else if (v.kind != V_TENSOR || !v.node->nd || v.node->dim[0] != b->batch || strcmp(v.ax[0], "b")) {
			error_at(o->loc, "an output must have b as its first axis: this is %s", shape_text(b, &v));
			b->failed = true;
		} else {
			graph_output(b->g, o->name, "value", mk_cast(b->g, v.node, DT_F32));
		}
	}
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
	for (int i = 0; i < m->nloss; i++) {
		if (h.pred[i] && (batch == 1 || !is_next(m, m->loss[i].name)))
			graph_output(b.g, m->loss[i].name, "prediction", h.pred[i]);
		graph_output(b.g, m->loss[i].name, "loss", h.loss[i]);
	}
	graph_output(b.g, "loss", "loss", h.total);
	add_outputs(&b);
	if (b.failed)
		return NULL;
	int64_t total = 0;
	for (int i = 0; i < train->nstate; i++)
		if (train->state[i].space == SP_PARAM)
			total = train->state[i].dim[0];
	return graph_map(b.g, slice_param, &total);
}
