/* Declarations of the tensor language: parameters and states with their initialisers, and the updates of states. */
#include <math.h>
#include <string.h>

#include "lower.h"

typedef struct InitVal {
	Init kind;
	double a, b;
} InitVal;

/* fan in: all dims but the last; fan out: the last. Glorot and Bengio 2010, He et al. 2015. */
static InitVal
initialiser(Lower *w, Ast *e, const int64_t *dim, int nd)
{
	static const struct {
		const char *name;
		Init kind;
		int args;
	} table[] = {{"zeros", INIT_CONST, 0}, {"ones", INIT_CONST, 0}, {"normal", INIT_NORMAL, 2}, {"uniform", INIT_UNIFORM, 2},
	             {"orthogonal", INIT_ORTHOGONAL, -1}, {"glorot_uniform", INIT_UNIFORM, 0}, {"glorot_normal", INIT_NORMAL, 0},
	             {"he_uniform", INIT_UNIFORM, 0}, {"he_normal", INIT_NORMAL, 0}, {"uniform_fan", INIT_UNIFORM, 0}};
	double fan_in = 1, fan_out = nd ? (double)dim[nd - 1] : 1, arg[2] = {1, 0};
	for (int i = 0; i + 1 < nd; i++)
		fan_in *= (double)dim[i];
	if (e->kind != A_NAME && e->kind != A_CALL) {
		Val v = lower_expr(w, e);
		return (InitVal){INIT_CONST, need_num(w, e, &v, "an initial value"), 0};
	}
	for (size_t i = 0; i < LEN(table); i++) {
		if (strcmp(table[i].name, e->s))
			continue;
		int n = e->kind == A_CALL ? e->nkid : 0;
		if (n > 2 || (table[i].args >= 0 && n != table[i].args))
			lower_fail(w, e->loc, "%s takes %s arguments, %d are given", e->s, table[i].args < 0 ? "at most 2" : table[i].args ? "2" : "no", n);
		for (int k = 0; k < n; k++) {
			Val v = lower_expr(w, e->kid[k]);
			arg[k] = need_num(w, e->kid[k], &v, "an argument of an initialiser");
		}
		InitVal r = {table[i].kind, arg[0], arg[1]};
		double limit = 0;
		if (!strcmp(e->s, "zeros"))
			r.a = 0;
		else if (!strcmp(e->s, "ones"))
			r.a = 1;
		else if (!strncmp(e->s, "glorot", 6))
			limit = sqrt(6 / (fan_in + fan_out));
		else if (!strncmp(e->s, "he_", 3))
			limit = sqrt(6 / fan_in);
		else if (!strcmp(e->s, "uniform_fan"))
			limit = 1 / sqrt(fan_in);
		if (limit > 0 && r.kind == INIT_UNIFORM)
			r.a = -limit, r.b = limit;
		else if (limit > 0)
			r.a = 0, r.b = limit / sqrt(3);
		return r;
	}
	lower_fail(w, e->loc, "'%s' is no initialiser: zeros, ones, a number, normal(mean, std), uniform(low, high), glorot_uniform, "
	           "glorot_normal, he_uniform, he_normal, uniform_fan, orthogonal", e->s);
}

int64_t
axis_size(Lower *w, const char *name)
{
	for (Scope *s = w->scope; s; s = s->up)
		for (AxisBind *b = s->axis; b; b = b->next)
			if (!strcmp(b->local, name))
				return b->size;
	return -1;
}

/* The axes of `param w[i, o: n]`: an axis without a size is one of the arguments'. */
static int
declared_axes(Lower *w, Ast *d, int64_t *dim, const char **ax)
{
	int nd = d->tensor ? 0 : d->nkid - 1;
	if (nd > MAXDIM)
		lower_fail(w, d->loc, "%s has more than %d axes", d->s, MAXDIM);
	for (int i = 0; i < nd; i++) {
		Ast *a = d->kid[i + 1];
		ax[i] = a->s;
		dim[i] = axis_size(w, a->s);
		for (int k = 0; k < i; k++)
			if (!strcmp(ax[k], a->s))
				lower_fail(w, a->loc, "%s has axis %s twice", d->s, a->s);
		if (a->kid[0]) {
			dim[i] = axis_size_arg(w, a->kid[0], a->s);
			AxisBind *b = arena_alloc(w->arena, sizeof *b);
			*b = (AxisBind){a->s, NULL, dim[i], d->s, w->scope->axis};
			if (axis_size(w, a->s) < 0)
				w->scope->axis = b;
		}
		if (dim[i] < 1 && !strcmp(a->s, ".."))
			lower_fail(w, a->loc, "the axes of %s must be named: .. stands for those of an argument", d->s);
		if (dim[i] < 1)
			lower_fail(w, a->loc, "the size of axis %s of %s is not known here: write %s: SIZE, or name an axis of an argument", a->s, d->s, a->s);
	}
	need_count(w, d->loc, dim, nd);
	return nd;
}

void
declare_param(Lower *w, Ast *d)
{
	GParam p = {.name = lower_path(w, d->s), .loc = w->scope->def ? w->scope->call : d->loc};
	const char *ax[MAXDIM];
	p.nd = declared_axes(w, d, p.dim, ax);
	InitVal i = initialiser(w, d->kid[0], p.dim, p.nd);
	p.init = i.kind, p.a = i.a, p.b = i.b;
	int n = w->g->nparam, k = w->nparam++;
	if (k < n) { /* the training graph's are there: most often in the same order */
		int i = 0;
		while (i < n && strcmp(w->g->param[(k + i) % n].name, p.name))
			i++;
		k = i < n ? (k + i) % n : n;
	}
	if (k >= n)
		k = graph_param(w->g, p);
	const GParam *q = &w->g->param[k]; /* of the training graph, when this is another */
	if (q->nd != p.nd || memcmp(q->dim, p.dim, (size_t)p.nd * sizeof *p.dim))
		lower_fail(w, d->loc, "parameter %s depends on the number of rows of the batch (axis b): its size must not", p.name);
	Val v = val_tensor(mk_param(w->g, k), ax);
	v.path = p.name;
	lower_let(w, d->s, v, -1);
}

void
declare_state(Lower *w, Ast *d)
{
	GState s = {.name = lower_path(w, d->s), .dt = DT_F32, .space = SP_STAT, .fit = "", .loc = d->loc};
	const char *ax[MAXDIM];
	Val *like = w->scope->like;
	if (d->tensor && like) {
		s.space = SP_OPT;
		s.nd = like->node->nd;
		memcpy(s.dim, like->node->dim, sizeof s.dim);
		memcpy(ax, like->ax, sizeof ax);
	} else {
		s.nd = declared_axes(w, d, s.dim, ax);
	}
	InitVal i = initialiser(w, d->kid[0], s.dim, s.nd);
	s.init = i.kind, s.a = i.a, s.b = i.b;
	int k = graph_state(w->g, s);
	lower_let(w, d->s, val_tensor(mk_state(w->g, k), ax), k);
}

/* A value of the state's own: no leaf, and not what another state gets, too. */
static Node *
own_value(Graph *g, int state, Node *v)
{
	bool own = prim_info[v->op].kind != K_LEAF;
	for (int i = 0; i < g->nstate; i++)
		own &= i == state || g->state[i].update != v;
	return own ? v : node_new(g, P_stop, 0, &v, 1, NULL, 0, (int64_t[]){state}, 1, 0);
}

/* `update m = e` and `m := e`: the state's value after the step. := also makes later uses of m mean the new value. */
void
set_state(Lower *w, Ast *e)
{
	Var *x = lower_var(w, e->s);
	Val v = lower_expr(w, e->kid[0]);
	if (!x || x->state < 0)
		lower_fail(w, e->loc, "'%s' is not a state: only what `state` declares is updated", e->s);
	need_tensor(w, e->kid[0], &v);
	GState *s = &w->g->state[x->state];
	Axes u = {.n = s->nd};
	memcpy(u.ax, x->v.ax, sizeof u.ax);
	memcpy(u.dim, s->dim, sizeof u.dim);
	for (int i = 0; i < v.node->nd; i++) {
		int k = find_axis(&x->v, v.ax[i]);
		if (k < 0 || s->dim[k] != v.node->dim[i])
			lower_fail(w, e->loc, "the new value of %s has the axes %s, the state %s", e->s, axes_text(w, &v), axes_text(w, &x->v));
	}
	v = expand_to(w, &v, &u);
	s->update = own_value(w->g, x->state, mk_cast(w->g, v.node, s->dt));
	if (e->kind == A_SET)
		lower_let(w, e->s, v, x->state);
}
