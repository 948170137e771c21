/* The scan of the tensor language, traced: its block is lowered once, on stand-ins for the values of one step, and scan.c
   makes a loop of what it did.

     scan t (h[.., o] = 0) { h = tanh(x + sum(rename(h, o = p) * r, p));  emit h }

   Inside, whatever has axis t is its part at this step. A carry's value after the step is what its name stands for at the end.
   The scan's value is what is emitted, with axis t again; without an emit, the carries after the last step. */
#include <string.h>

#include "lower.h"

#define MAX_STEPS 65536              /* what a plan's loop may run, with room for what is in it */
#define MAX_COUNT ((int64_t)1 << 40) /* elements of a tensor, over all steps */

typedef struct ScanBody {
	Scan *s;
	Val emit[16];
	int nemit;
} ScanBody;

typedef struct CarryDecl {
	Ast *decl;
	Axes axes;
	Node *init;
	Val arg;
} CarryDecl;

/* ---- the axis ---- */

/* The first tensor with the axis says how many steps there are, the others must agree. */
static void
agree(Lower *w, Ast *e, const Val *v, const Val **first, int64_t *steps)
{
	for (int i = 0; v->kind == V_LIST && i < v->nlist; i++)
		agree(w, e, &v->list[i], first, steps);
	int k = v->kind == V_TENSOR ? find_axis(v, e->s) : -1;
	if (k < 0)
		return;
	int64_t n = v->node->dim[k];
	if (*steps >= 0 && *steps != n)
		lower_fail(w, e->loc, "axis %s is %ld in %s, %ld in %s: a scan goes over one", e->s, (long)*steps, *first && (*first)->path ? (*first)->path : "the arguments",
		           (long)n, v->path ? v->path : axes_text(w, v));
	*steps = n;
	if (!*first)
		*first = v;
}

static bool
names(const Ast *a, const char *name)
{
	if (!a)
		return false;
	if (a->kind == A_NAME && !strcmp(a->s, name))
		return true;
	for (int i = 0; i < a->nkid; i++)
		if (names(a->kid[i], name))
			return true;
	return false;
}

/* The variables that the block names: calls f on each, once. What is outside of a definition has other names for axes. */
static void
each_visible(Lower *w, Ast *e, void (*f)(Lower *, Var *, void *), void *ctx)
{
	for (Scope *s = w->scope; s; s = s->up)
		for (Var *v = s->var; v; v = v->next)
			if (lower_find(w, v->name) == v && names(e->kid[0], v->name))
				f(w, v, ctx);
	for (Var *v = w->global; v && !w->scope->def; v = v->next)
		if (lower_find(w, v->name) == v && names(e->kid[0], v->name))
			f(w, v, ctx);
}

typedef struct Visit {
	Ast *e;
	const Val *first;
	int64_t steps;
	Scan *s;
	Scope *in;
} Visit;

static void
visit_size(Lower *w, Var *v, void *ctx)
{
	Visit *q = ctx;
	agree(w, q->e, &v->v, &q->first, &q->steps);
}

static bool
has_axis(const Val *v, const char *axis)
{
	for (int i = 0; v->kind == V_LIST && i < v->nlist; i++)
		if (has_axis(&v->list[i], axis))
			return true;
	return v->kind == V_TENSOR && find_axis(v, axis) >= 0;
}

/* v at this step. */
static Val
part_of(Lower *w, Scan *s, Val v, const char *axis)
{
	const char *order[MAXDIM] = {axis};
	if (v.kind == V_LIST) {
		Val *list = arena_alloc(w->arena, (size_t)v.nlist * sizeof *list);
		for (int i = 0; i < v.nlist; i++)
			list[i] = part_of(w, s, v.list[i], axis);
		v.list = list;
	}
	if (!has_axis(&v, axis) || v.kind != V_TENSOR)
		return v;
	for (int i = 0, k = 1; i < v.node->nd; i++)
		if (strcmp(v.ax[i], axis))
			order[k++] = v.ax[i];
	Val whole = permute_to(w, v, order), r = val_tensor(scan_seq(s, whole.node), order + 1);
	r.ids = v.ids;
	r.path = v.path;
	return r;
}

static void
visit_part(Lower *w, Var *v, void *ctx)
{
	Visit *q = ctx;
	if (!has_axis(&v->v, q->e->s))
		return;
	Scope *outer = w->scope;
	Val part = part_of(w, q->s, v->v, q->e->s);
	w->scope = q->in;
	lower_let(w, v->name, part, -1);
	w->scope = outer;
}

/* ---- carries ---- */

static void
add_axis(Lower *w, Ast *at, Axes *u, const char *name, int64_t size)
{
	for (int i = 0; i < u->n; i++)
		if (!strcmp(u->ax[i], name))
			lower_fail(w, at->loc, "axis %s is named twice", name);
	if (u->n == MAXDIM - 1)
		lower_fail(w, at->loc, "a carry has at most %d axes", MAXDIM - 1);
	u->ax[u->n] = name;
	u->dim[u->n++] = size;
}

typedef struct Find {
	const char *axis;
	int64_t size;
} Find;

static void
visit_axis(Lower *w, Var *v, void *ctx)
{
	Find *q = ctx;
	int k = v->v.kind == V_TENSOR ? find_axis(&v->v, q->axis) : -1;
	(void)w;
	if (k >= 0 && q->size < 0)
		q->size = v->v.node->dim[k];
}

/* The size of an axis that an argument has or, as in a model, a tensor that the block reads. */
static int64_t
known_size(Lower *w, Ast *e, const char *axis)
{
	Find q = {axis, axis_size(w, axis)};
	if (q.size < 0)
		each_visible(w, e, visit_axis, &q);
	return q.size;
}

/* h[.., o: 3]: .. is what .. of the definition's arguments covers. */
static void
carry_axes(Lower *w, Ast *e, Ast *d, Axes *u)
{
	const char *over = e->s;
	Scope *def = w->scope;
	while (def->up)
		def = def->up;
	for (int i = 1; i < d->nkid; i++) {
		Ast *a = d->kid[i];
		if (!strcmp(a->s, "..")) {
			if (!def->def)
				lower_fail(w, a->loc, ".. stands for axes of an op's arguments: name the axes of %s", d->s);
			for (int k = 0; k < def->nlead; k++)
				add_axis(w, a, u, def->lead[k], def->lead_size[k]);
			continue;
		}
		int64_t n = a->kid[0] ? axis_size_arg(w, a->kid[0], a->s) : known_size(w, e, a->s);
		if (n < 1)
			lower_fail(w, a->loc, "the size of axis %s of %s is not known here: write %s: SIZE, or name an axis of what is scanned", a->s, d->s, a->s);
		if (!strcmp(a->s, over))
			lower_fail(w, a->loc, "%s has axis %s, over which the scan goes: a carry is one step's", d->s, over);
		add_axis(w, a, u, a->s, n);
	}
}

/* Brings a value to a carry's axes and type. */
static Node *
to_carry(Lower *w, Ast *at, const char *name, Val v, const Axes *u, DType dt)
{
	if (v.kind == V_NUM || v.kind == V_BOOL)
		return mk_const(w->g, dt, v.f, u->dim, u->n);
	need_tensor(w, at, &v);
	for (int i = 0; i < v.node->nd; i++) {
		int k = 0;
		while (k < u->n && strcmp(u->ax[k], v.ax[i]))
			k++;
		if (k == u->n)
			lower_fail(w, at->loc, "carry %s lacks axis %s of its value %s", name, v.ax[i], axes_text(w, &v));
		if (u->dim[k] != v.node->dim[i])
			lower_fail(w, at->loc, "axis %s is %ld in carry %s, %ld in its value %s", v.ax[i], (long)u->dim[k], name, (long)v.node->dim[i], axes_text(w, &v));
	}
	need_count(w, at->loc, u->dim, u->n);
	return mk_cast(w->g, expand_to(w, &v, u).node, dt);
}

static void
declare_carry(Lower *w, Ast *e, Ast *d, CarryDecl *c)
{
	Val v = lower_expr(w, d->kid[0]);
	*c = (CarryDecl){.decl = d};
	if (d->tensor && v.kind == V_TENSOR) { /* no axes written: those of the first value */
		for (int i = 0; i < v.node->nd; i++)
			add_axis(w, d, &c->axes, v.ax[i], v.node->dim[i]);
	} else {
		carry_axes(w, e, d, &c->axes);
	}
	need_count(w, d->loc, c->axes.dim, c->axes.n);
	c->init = to_carry(w, d->kid[0], d->s, v, &c->axes, v.kind == V_TENSOR && v.node->dt != DT_BOOL ? v.node->dt : DT_F32);
}

static void
end_carry(Lower *w, Scope *in, CarryDecl *c, ScanBody *b, int index)
{
	Var *v = in->var;
	while (strcmp(v->name, c->decl->s))
		v = v->next;
	if (v->v.kind == V_TENSOR && v->v.node == c->arg.node)
		lower_fail(w, c->decl->loc, "carry %s gets no new value in the scan: %s = ..", c->decl->s, c->decl->s);
	scan_next(b->s, index, to_carry(w, c->decl, c->decl->s, v->v, &c->axes, c->init->dt));
}

/* ---- the scan ---- */

void
lower_emit(Lower *w, Ast *e)
{
	ScanBody *b = w->scan;
	if (!b)
		lower_fail(w, e->loc, "emit stands in a scan: scan t (h = 0) { h = ..; emit h }");
	Val v = lower_expr(w, e->kid[0]);
	need_tensor(w, e->kid[0], &v);
	if (b->nemit == (int)LEN(b->emit))
		lower_fail(w, e->loc, "a scan emits at most %d values", (int)LEN(b->emit));
	b->emit[b->nemit++] = v;
}

/* Is it an axis of many samples: what .. covers, or the batch in a model? */
static bool
is_rest(Lower *w, const char *axis)
{
	Scope *s = w->scope;
	while (s->up)
		s = s->up;
	for (int i = 0; i < s->nlead; i++)
		if (!strcmp(s->lead[i], axis))
			return true;
	return !s->def && !strcmp(axis, "b");
}

/* The axis comes back behind those of samples, where sequences have it. */
static Val
whole_of(Lower *w, Ast *e, Node *n, const Val *step)
{
	const char *ax[MAXDIM] = {e->s}, *order[MAXDIM];
	int nd = n->nd, place = 0;
	for (int i = 1; i < nd; i++)
		ax[i] = step->ax[i - 1];
	while (place + 1 < nd && is_rest(w, ax[place + 1]))
		place++;
	Val v = val_tensor(n, ax);
	need_apart(w, e->loc, &v);
	for (int i = 0, k = 1; i < nd; i++)
		order[i] = i == place ? ax[0] : ax[k++];
	return permute_to(w, v, order);
}

static Val
one_or_list(Lower *w, const Val *v, int n)
{
	Val r = {.kind = V_LIST, .nlist = n};
	if (n == 1)
		return v[0];
	r.list = arena_alloc(w->arena, (size_t)n * sizeof *r.list);
	memcpy(r.list, v, (size_t)n * sizeof *v);
	return r;
}

/* `reverse = e` among the carries is the direction. */
static bool
scan_direction(Lower *w, Ast *e)
{
	for (int i = 1; i < e->nkid; i++) {
		Ast *d = e->kid[i];
		if (!d->tensor || strcmp(d->s, "reverse"))
			continue;
		Val v = lower_expr(w, d->kid[0]);
		if (v.kind != V_BOOL && v.kind != V_NUM)
			lower_fail(w, d->loc, "reverse = true or false says where a scan begins");
		return v.f != 0;
	}
	return false;
}

static int64_t
scan_length(Lower *w, Ast *e)
{
	Visit q = {.e = e, .steps = axis_size(w, e->s)};
	each_visible(w, e, visit_size, &q);
	if (q.steps < 1)
		lower_fail(w, e->loc, "nothing here has an axis %s to scan over", e->s);
	if (q.steps > MAX_STEPS)
		lower_fail(w, e->loc, "a scan of %ld steps: %d are the most", (long)q.steps, MAX_STEPS);
	return q.steps;
}

/* The block, and what the carries are after it. */
static void
trace_step(Lower *w, Ast *e, Scope *in, CarryDecl *c, int n, ScanBody *b)
{
	Visit q = {.e = e, .s = b->s, .in = in};
	each_visible(w, e, visit_part, &q);
	w->scope = in;
	for (int i = 0; i < n; i++) {
		c[i].arg = val_tensor(scan_carry(b->s, c[i].init), c[i].axes.ax);
		c[i].arg.path = c[i].decl->s;
		lower_let(w, c[i].decl->s, c[i].arg, -1);
	}
	Val v = lower_block(w, e->kid[0]);
	if (v.kind != V_NONE)
		lower_fail(w, e->loc, "the last value of this scan is lost: emit it, or give it to a carry");
	for (int i = 0; i < n; i++)
		end_carry(w, in, &c[i], b, i);
	const Node *large = scan_too_large(b->s, MAX_COUNT);
	if (large)
		lower_fail(w, e->loc, "over all steps of this scan a tensor of %d axes would have more than %d axes or 2^40 elements", large->nd, MAXDIM);
}

Val
lower_scan(Lower *w, Ast *e)
{
	CarryDecl *c = arena_alloc(w->arena, (size_t)e->nkid * sizeof *c);
	Scope *outer = w->scope, in = {.up = outer, .caller = outer->caller, .def = outer->def, .call = outer->call, .prefix = outer->prefix};
	ScanBody b = {0};
	Val out[16];
	int n = 0, nout = 0;
	if (w->scan)
		lower_fail(w, e->loc, "a scan inside a scan");
	bool reverse = scan_direction(w, e);
	int64_t steps = scan_length(w, e);
	for (int i = 1; i < e->nkid; i++)
		if (!e->kid[i]->tensor || strcmp(e->kid[i]->s, "reverse"))
			declare_carry(w, e, e->kid[i], &c[n++]);
	if (n == 0 || n > (int)LEN(out))
		lower_fail(w, e->loc, "a scan has 1 to %d carries, this has %d", (int)LEN(out), n);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < i; k++)
			if (!strcmp(c[i].decl->s, c[k].decl->s))
				lower_fail(w, c[i].decl->loc, "two carries are called %s", c[i].decl->s);
	b.s = scan_begin(w->g, steps, reverse);
	w->scan = &b;
	w->step = w->g->nnode;
	trace_step(w, e, &in, c, n, &b);
	w->scan = NULL;
	w->step = 0;
	w->scope = outer;
	int want[16];
	for (int i = 0; i < b.nemit; i++)
		want[i] = scan_want(b.s, b.emit[i].node, false);
	for (int i = 0; i < n && !b.nemit; i++)
		scan_keep(b.s, i);
	scan_end(b.s);
	for (int i = 0; i < b.nemit; i++)
		out[nout++] = whole_of(w, e, scan_value(b.s, want[i]), &b.emit[i]);
	for (int i = 0; i < n && !b.nemit; i++)
		out[nout++] = val_tensor(scan_slot(w->g, scan_history(b.s, i), reverse ? 0 : steps), c[i].axes.ax);
	return one_or_list(w, out, nout);
}
