/* Data to graph: which rows a step reads, what the data columns of them are to the network and to the losses. */
#include <string.h>

#include "build.h"

Node *
run_state(Graph *g, const char *name, DType dt)
{
	return mk_state(g, graph_state(g, (GState){.name = name, .dt = dt, .space = SP_STAT, .fit = ""}));
}

Node *int_like(Graph *g, int64_t v, Node *n) { return mk_const(g, n->dt, (double)v, n->dim, n->nd); }

/* Repeats a scalar over a vector. */
Node *
spread(Graph *g, Node *scalar, int64_t n)
{
	return mk_expand(g, scalar, &n, 1, (int64_t[]){-1});
}

/* Every graph knows all of them, in this order. */
void
add_run_states(Build *b)
{
	static const char *const names[] = {"run.step", "run.first", "run.rows", "run.cursor", "run.steps_per_epoch", "run.total_steps"};
	run_state(b->g, "run.seed", DT_U32);
	for (size_t i = 0; i < LEN(names); i++)
		run_state(b->g, names[i], DT_I32);
	if (b->parts > 1)
		run_state(b->g, "run.part", DT_I32);
	if (*b->m->train.plateau_on)
		graph_state(b->g, (GState){.name = "run.rate", .dt = DT_F32, .space = SP_STAT, .a = 1, .fit = ""});
}

/* Which of its parts a step is in comes after which of the epoch's the step is: what one of parts * batch rows would read. */
static Node *
part_of(Build *b, Node *step)
{
	if (b->parts == 1)
		return step;
	return mk2(b->g, P_add, mk2(b->g, P_mul, step, int_like(b->g, b->parts, step)), run_state(b->g, "run.part", DT_I32));
}

/* Row i of the batch is item (step % steps_per_epoch * parts + part) * batch + i of the epoch's shuffle. */
Node *
train_rows(Build *b)
{
	Graph *g = b->g;
	int64_t batch = b->batch;
	Node *step = run_state(g, "run.step", DT_I32), *per = run_state(g, "run.steps_per_epoch", DT_I32);
	Node *key = mk2(g, P_add, mk_cast(g, run_state(g, "run.seed", DT_U32), DT_I32), mk2(g, P_div, step, per));
	Node *start = mk2(g, P_mul, part_of(b, mk2(g, P_mod, step, per)), int_like(g, batch, step));
	Node *i = node_new(g, P_iota, DT_I32, NULL, 0, &batch, 1, (int64_t[]){0}, 1, 0);
	Node *item = mk3(g, P_shuffle, mk2(g, P_add, i, spread(g, start, batch)), spread(g, run_state(g, "run.rows", DT_I32), batch), spread(g, key, batch));
	return mk2(g, P_add, item, spread(g, run_state(g, "run.first", DT_I32), batch));
}

Node *
eval_rows(Graph *g, int64_t batch)
{
	Node *cursor = run_state(g, "run.cursor", DT_I32), *rows = run_state(g, "run.rows", DT_I32);
	Node *i = node_new(g, P_iota, DT_I32, NULL, 0, &batch, 1, (int64_t[]){0}, 1, 0);
	Node *last = mk2(g, P_sub, rows, int_like(g, 1, rows));
	Node *row = mk2(g, P_min, mk2(g, P_add, i, spread(g, cursor, batch)), spread(g, last, batch));
	g->state[graph_state(g, (GState){.name = "run.cursor"})].update = mk2(g, P_add, cursor, int_like(g, batch, cursor));
	return mk2(g, P_add, row, spread(g, run_state(g, "run.first", DT_I32), batch));
}

/* The rows' elements of a data column: [batch] or [batch, width]. */
static Node *
fetch(Build *b, uint32_t column)
{
	const PlanData *d = &b->m->data;
	int64_t width = column_width(d, column), at = column, dim[2] = {b->batch, width};
	return node_new(b->g, P_fetch, column_dtype(d, column), &b->rows, 1, dim, width > 1 ? 2 : 1, &at, 1, 0);
}

Val
input_value(const Model *m, uint32_t i, int64_t batch, GInput *x)
{
	const PlanInput *in = &m->data.input[i];
	const AxisNames *a = &m->axis[i];
	Val v = {.kind = V_TENSOR, .ax = {"b"}, .path = in->name};
	bool ids = in->kind != IN_NUMBER && in->kind != IN_TENSOR;
	v.ids = ids ? in->size : 0;
	x->dt = ids ? DT_I32 : DT_F32;
	x->nd = 1 + a->n;
	x->dim[0] = batch;
	for (int k = 0; k < a->n; k++) {
		v.ax[k + 1] = a->name[k];
		x->dim[k + 1] = in->kind == IN_TENSOR ? in->dim[k] : in->width; /* a number is a feature vector of one: [b, c: 1] */
	}
	return v;
}

/* A scalar that fitting finds, once for each channel: [c]. */
static Node *
fitted_channels(Build *b, const char *input, const char *what, int64_t n)
{
	Node **part = arena_alloc(b->arena, (size_t)n * sizeof *part);
	for (int64_t k = 0; k < n; k++) {
		GState s = {.name = arena_printf(b->arena, "fit.%s.%s.%ld", input, what, (long)k), .dt = DT_F32, .space = SP_STAT};
		s.fit = s.name + strlen("fit.");
		part[k] = mk_reshape(b->g, mk_state(b->g, graph_state(b->g, s)), (int64_t[]){1}, 1);
	}
	return mk_concat(b->g, part, (int)n, 0);
}

/* Stored elements [batch, width] to what the network sees: float, scaled. x has the shape. */
static Node *
scale_tensor(Build *b, Node *v, const GInput *x, const char *name, uint32_t scale)
{
	Graph *g = b->g;
	int64_t map[MAXDIM];
	v = mk_reshape(g, mk_cast(g, v, DT_F32), x->dim, x->nd);
	if (scale & SC_UNIT)
		return mk2(g, P_div, v, mk_like(g, 255, v));
	if (!(scale & SC_ZSCORE))
		return v;
	for (int i = 0; i < x->nd; i++)
		map[i] = i == x->nd - 1 ? 0 : -1;
	int64_t c = x->dim[x->nd - 1];
	v = mk2(g, P_sub, v, mk_expand(g, fitted_channels(b, name, "mean", c), x->dim, x->nd, map));
	return mk2(g, P_div, v, mk_expand(g, fitted_channels(b, name, "std", c), x->dim, x->nd, map));
}

/* The width + 1 ids at each row's window [batch, width + 1]. Row r begins at id r * width; in training up to width - 1
   later, but never so late that an id is behind the training rows: those are another split's. (Of one row alone, the last is.) */
static Node *
fetch_window(Build *b, uint32_t column)
{
	Graph *g = b->g;
	int64_t n = b->m->data.input[column].width, dim[2] = {b->batch, n + 1}, all = b->batch * (n + 1), at = column;
	Node *start = mk2(g, P_mul, b->rows, int_like(g, n, b->rows));
	if (b->training) {
		Node *in[2] = {run_state(g, "run.seed", DT_U32), random_step(g)};
		Node *u = node_new(g, P_random, DT_F32, in, 2, &b->batch, 1, (int64_t[]){g->nsite++}, 1, 0);
		Node *first = run_state(g, "run.first", DT_I32), *rows = run_state(g, "run.rows", DT_I32);
		Node *from = mk2(g, P_mul, first, int_like(g, n, first)), *more = mk2(g, P_mul, rows, int_like(g, n, first));
		Node *last = mk2(g, P_add, from, mk2(g, P_max, mk2(g, P_sub, more, int_like(g, n + 1, first)), int_like(g, 0, first)));
		start = mk2(g, P_add, start, mk_cast(g, mk2(g, P_mul, u, mk_like(g, (double)n, u)), DT_I32));
		start = mk2(g, P_min, start, spread(g, last, b->batch));
	}
	Node *place = node_new(g, P_iota, DT_I32, NULL, 0, dim, 2, (int64_t[]){1}, 1, 0);
	place = mk_reshape(g, mk2(g, P_add, mk_expand(g, start, dim, 2, (int64_t[]){0, -1}), place), &all, 1);
	Node *v = node_new(g, P_fetch, column_dtype(&b->m->data, column), &place, 1, &all, 1, &at, 1, 0);
	return mk_cast(g, mk_reshape(g, v, dim, 2), DT_I32);
}

/* Ids lo.. of the windows, as many as the input has: the input itself (0), or what follows each of its ids (1). */
static Node *
window_part(Build *b, uint32_t column, int64_t lo)
{
	int64_t dim[2] = {b->batch, b->m->data.input[column].width};
	return mk_slice(b->g, b->window[column], (int64_t[]){0, lo}, (int64_t[]){1, 1}, dim);
}

void
bind_inputs(Build *b)
{
	const PlanData *d = &b->m->data;
	b->window = arena_alloc(b->arena, (d->ninput + 1) * sizeof *b->window);
	for (uint32_t i = 0; i < d->ninput; i++) {
		const PlanInput *in = &d->input[i];
		GInput x = {0};
		Val v = input_value(b->m, i, b->batch, &x);
		b->g->loc = b->g->model = b->m->input_loc[i];
		if (in->kind == IN_SEQUENCE) {
			b->window[i] = fetch_window(b, i);
			v.node = window_part(b, i, 0);
		} else if (in->kind == IN_TENSOR) {
			v.node = scale_tensor(b, fetch(b, i), &x, in->name, in->scale);
		} else {
			v.node = mk_reshape(b->g, fetch(b, i), x.dim, x.nd);
		}
		lower_bind(b->w, in->name, v);
	}
}

/* Target t as losses see it: numbers [b], ids [b] or [b, ..], values of a tensor [b, ..]. */
Val
target_value(Build *b, uint32_t t)
{
	const PlanData *d = &b->m->data;
	const PlanTarget *p = &d->target[t];
	const AxisNames *a = &b->m->target_axis[t];
	Val v = {.kind = V_TENSOR, .ax = {"b"}, .path = p->name};
	GInput x = {.nd = 1 + a->n, .dim = {b->batch}};
	uint32_t of = 0;
	for (int k = 0; k < a->n; k++) {
		v.ax[k + 1] = a->name[k];
		x.dim[k + 1] = p->dim[k];
	}
	switch (p->kind) {
	case TG_NEXT:
		while (strcmp(d->input[of].name, p->from))
			of++;
		v.ax[1] = b->m->axis[of].name[0];
		v.node = window_part(b, of, 1);
		break;
	case TG_TENSOR:
		v.node = scale_tensor(b, fetch(b, d->ninput + t), &x, p->name, p->scale);
		break;
	case TG_LABELS:
		v.node = mk_reshape(b->g, mk_cast(b->g, fetch(b, d->ninput + t), DT_I32), x.dim, x.nd);
		break;
	default:
		v.node = fetch(b, d->ninput + t);
	}
	return v;
}
