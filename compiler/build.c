/* The model to graphs. The training graph is one step: rows of the batch (shuffled on the device), inputs, network,
   losses, gradients, optimizer, the loss log, the step counter. With `accumulate: K` it is the last of the K batches of a step, and
   another graph is each of those before it, which leaves its gradients to be summed. The eval graph is rows in order, inputs, network,
   predictions and losses a row. Parameters are slices of one packed vector, so the optimizer, clipping and anything
   over all parameters is written once, on a vector. */
#include <math.h>
#include <string.h>

#include "build.h"
#include "model.h"

static void
lower_network(Build *b)
{
	for (uint32_t t = 0; t < b->m->data.ntarget; t++)
		lower_absent(b->w, b->m->data.target[t].name, "is a target: what is to be predicted is no input of the network");
	for (int i = 0; i < b->m->nnet; i++)
		lower_absent(b->w, b->m->net[i].name, "is made here or further down: an entry of the network reads inputs and the entries above it");
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

const char *
val_text(Build *b, const Val *v)
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
		error_at(l, "%s must be one number a row, [b: %ld] and no other axis larger than 1: this is %s", what, (long)b->batch, val_text(b, v));
		b->failed = true;
		return false;
	}
	v->node = mk_cast(g, mk_reshape(g, v->node, &b->batch, 1), DT_F32);
	v->ax[0] = "b";
	return true;
}

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
		error_at(l, "the logits of '%s' must be %s with %ld classes as one more axis at the end: this is %s", t->name, val_text(b, y), (long)t->size,
		         val_text(b, z));
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
		error_at((l->predict ? l->predict : l->of)->loc, "the prediction of '%s' must have its elements, %s: this is %s", t->name, val_text(b, y),
		         val_text(b, &p));
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
		error_at(call->loc, "no %s is called '%s': there are %s", kind, call->s, join_names(b->arena, known, n));
	for (int i = 0; !found && i < nkeys; i++)
		if (keys[i].section == S_train && !strcmp(keys[i].name, call->s))
			note_at(call->loc, "'%s' is a key of its own under train", call->s);
	b->failed = true;
	return false;
}

/* Unless the model file gives it. */
bool
add_argument(Build *b, Loc l, Ast *call, const char *what, Val v)
{
	Ast *name = arena_alloc(b->arena, sizeof *name), *arg = arena_alloc(b->arena, sizeof *arg);
	Ast **kid = arena_alloc(b->arena, (size_t)(call->nkid + 1) * sizeof *kid);
	for (int i = 0; i < call->nkid; i++)
		if (call->kid[i]->kind == A_NAMED && !strcmp(call->kid[i]->s, what))
			return false;
	const char *hidden = arena_printf(b->arena, "'%s", what); /* no name of a user's has a quote */
	lower_bind(b->w, hidden, v);
	*name = (Ast){.kind = A_NAME, .s = hidden, .loc = l};
	*arg = (Ast){.kind = A_NAMED, .s = what, .loc = l, .nkid = 1};
	arg->kid = arena_alloc(b->arena, sizeof *arg->kid);
	arg->kid[0] = name;
	if (call->nkid)
		memcpy(kid, call->kid, (size_t)call->nkid * sizeof *kid);
	kid[call->nkid++] = arg;
	call->kid = kid;
	return true;
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
		add_argument(b, l->loc, call, "ignore", val_num((double)t->ignore, true));
	if (!l->balanced && l->positive_weight == 1)
		return call;
	GState s = {.name = arena_printf(b->arena, "fit.%s.positive_weight", l->name), .dt = DT_F32, .space = SP_STAT, .a = l->positive_weight};
	s.fit = l->balanced ? arena_printf(b->arena, "%s.positive_weight", l->name) : "";
	Val w = l->balanced ? val_tensor(mk_state(b->g, graph_state(b->g, s)), NULL) : val_num(l->positive_weight, false);
	add_argument(b, l->loc, call, "positive_weight", w);
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

/* The loss of an entry as it goes into the sum. */
static Node *
weigh(Build *b, const LossEntry *l, Node *loss)
{
	const PlanData *d = &b->m->data;
	uint32_t t = 0;
	if (!l->learned)
		return mk2(b->g, P_mul, loss, mk_like(b->g, l->weight, loss));
	while (strcmp(d->target[t].name, l->name))
		t++;
	bool value = d->target[t].kind == TG_NUMBER || d->target[t].kind == TG_TENSOR;
	Val args[2] = {val_tensor(loss, (const char *[]){"b"}), val_num(value ? 0.5 : 1, false)}, out;
	if (!lower_call(b->w, "noise_weighted", args, 2, NULL, l->name, &out)) {
		b->failed = true;
		return loss;
	}
	return out.node;
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
		loss = weigh(b, l, loss);
		h->total = h->total ? mk2(b->g, P_add, h->total, loss) : loss;
	}
}

/* like: the training graph, whose states and parameters this one has, in the same places; NULL for itself. */
static void
begin(Build *b, const char *name, const Graph *like)
{
	b->g = graph_new(b->arena, name);
	b->g->batch = b->batch;
	b->g->parts = b->training ? b->parts : 1;
	b->w = lower_new(b->lib, b->g, b->training);
	if (!like)
		add_run_states(b);
	for (int i = 0; like && i < like->nstate; i++) {
		graph_state(b->g, like->state[i]);
		b->g->state[i].update = NULL;
	}
	for (int i = 0; like && i < like->nparam; i++)
		graph_param(b->g, like->param[i]);
}

static Graph *
build_step(Build *b, const char *name, const Graph *like)
{
	const Model *m = b->m;
	Heads h = {0};
	begin(b, name, like);
	b->rows = train_rows(b);
	bind_inputs(b);
	need_def(b, m->optimizer, "optimizer");
	if (m->schedule)
		need_def(b, m->schedule, "schedule");
	lower_network(b);
	lower_heads(b, &h);
	if (b->failed)
		return NULL;
	if (!b->g->nparam) {
		error_at(m->net[0].loc, "the network has no parameters: there is nothing to train");
		return NULL;
	}
	if (!like)
		group_params(b);
	if (!b->failed)
		finish_step(b, &h);
	return b->failed ? NULL : pack_graph(b->g, false);
}

Graph *
build_train(Arena *a, Lib *l, const Model *m)
{
	Build b = {.arena = a, .lib = l, .m = m, .batch = m->train.batch, .parts = m->train.accumulate, .training = true, .updates = true};
	return build_step(&b, "train", NULL);
}

Graph *
build_accumulate(Arena *a, Lib *l, const Model *m, const Graph *train)
{
	Build b = {.arena = a, .lib = l, .m = m, .batch = m->train.batch, .parts = m->train.accumulate, .training = true};
	return build_step(&b, "accumulate", train);
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
			error_at(o->loc, "an output must have b as its first axis: this is %s", val_text(b, &v));
			b->failed = true;
		} else {
			graph_output(b->g, o->name, "value", mk_cast(b->g, v.node, DT_F32));
		}
	}
}

Graph *
build_eval(Arena *a, Lib *l, const Model *m, const Graph *train, int64_t batch)
{
	Build b = {.arena = a, .lib = l, .m = m, .batch = batch, .parts = m->train.accumulate};
	Heads h = {0};
	begin(&b, "eval", train);
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
	return pack_graph(b.g, m->ema > 0);
}
