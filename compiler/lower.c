/* Lowering: evaluates the tensor language. Tensors become graph nodes; everything else (numbers, texts, axis names,
   conditions, repeats) is compile-time. Elementwise operations align their operands by axis name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lower.h"

#define MAX_NOTES 8                 /* of the chain of calls */
#define MAX_DEPTH 400               /* of expressions: what the stack holds */
#define MAX_COUNT ((int64_t)1 << 40) /* elements of a tensor; products of two such fit into 128 bits, of one and a dim into 64 */

Val
val_tensor(Node *n, const char *const *ax)
{
	Val v = {.kind = V_TENSOR, .node = n};
	for (int i = 0; i < n->nd; i++)
		v.ax[i] = ax[i];
	return v;
}

Val val_num(double f, bool isint) { return (Val){.kind = V_NUM, .f = f, .isint = isint}; }

void
lower_fail(Lower *w, Loc l, const char *fmt, ...)
{
	char msg[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	error_at(l, "%s", msg);
	int more = 0;
	for (Scope *s = w->scope; s; s = s->caller)
		if (s->def && more++ < MAX_NOTES)
			note_at(s->call, "in %s, called here", s->def->s);
	if (more > MAX_NOTES)
		note_at((Loc){0}, "and so on, %d calls deep", more);
	longjmp(*w->bail, 1);
}

Var *
lower_find(Lower *w, const char *name)
{
	for (Scope *s = w->scope; s; s = s->up)
		for (Var *v = s->var; v; v = v->next)
			if (!strcmp(v->name, name))
				return v;
	/* a definition sees no input of the model, or one called c would hide its axis c */
	for (Var *v = w->scope && w->scope->def ? w->constant : w->global; v; v = v->next)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

Var *
lower_var(Lower *w, const char *name)
{
	Var *x = lower_find(w, name);
	if (x && x->v.kind == V_FN && !x->v.fn)
		longjmp(*w->bail, 1); /* POISON: reported where it was made */
	return x;
}

static Var *
var_new(Lower *w, const char *name, Val v, int state, Var *next)
{
	Var *x = arena_alloc(w->arena, sizeof *x);
	*x = (Var){name, v, state, next};
	return x;
}

void lower_let(Lower *w, const char *name, Val v, int state) { w->scope->var = var_new(w, name, v, state, w->scope->var); }
void lower_bind(Lower *w, const char *name, Val v) { w->global = var_new(w, name, v, -1, w->global); }


void
lower_absent(Lower *w, const char *name, const char *why)
{
	Absent *a = arena_alloc(w->arena, sizeof *a);
	*a = (Absent){name, why, w->absent};
	w->absent = a;
}

static Used *
path_use(Lower *w, const char *path, bool *isnew)
{
	Used **h = &w->used[hash_bytes(HASH_INIT, path, strlen(path)) % LEN(w->used)];
	*isnew = false;
	for (Used *u = *h; u; u = u->next)
		if (!strcmp(u->path, path))
			return u;
	Used *u = arena_alloc(w->arena, sizeof *u);
	*u = (Used){path, 1, *h};
	*isnew = true;
	return *h = u;
}

const char *
lower_path(Lower *w, const char *name)
{
	const char *prefix = w->scope->prefix, *path;
	path = prefix && *prefix ? arena_printf(w->arena, "%s.%s", prefix, name) : arena_strdup(w->arena, name);
	bool isnew;
	Used *u = path_use(w, path, &isnew);
	while (!isnew) { /* x_2 may be a name of its own, too */
		path = arena_printf(w->arena, "%s_%d", u->path, ++u->n);
		path_use(w, path, &isnew);
	}
	return path;
}

/* ---- what a value must be ---- */

static const char *
describe(const Val *v)
{
	static const char *const names[] = {"nothing", "a number", "a text", "true or false", "an axis", "a tensor", "a list", "a function"};
	return names[v->kind];
}

/* A name that is none: it counted as an axis until something else was needed. */
static void
fail_unknown(Lower *w, Ast *at, const Val *axis)
{
	const char *known[512], *name = axis->nax ? axis->ax[0] : at->s;
	size_t n = 0;
	int ndef;
	Ast **def = lib_defs(w->lib, &ndef);
	for (Scope *s = w->scope; s; s = s->up)
		for (Var *v = s->var; v && n < LEN(known); v = v->next)
			known[n++] = v->name;
	for (Var *v = w->global; v && n < LEN(known); v = v->next)
		known[n++] = v->name;
	for (int i = 0; i < ndef && n < LEN(known); i++)
		known[n++] = def[i]->s;
	if (axis->fn) { /* where it was written, not the formal that got it */
		at = axis->fn;
		name = at->s;
	}
	for (Absent *a = w->absent; a; a = a->next)
		if (!strcmp(a->name, name))
			lower_fail(w, at->loc, "'%s' %s", name, a->why);
	const char *near = nearest_name(name, known, n);
	if (near)
		lower_fail(w, at->loc, "nothing here is called '%s'; did you mean '%s'?", name, near);
	lower_fail(w, at->loc, "nothing here is called '%s'", name);
}

Node *
need_tensor(Lower *w, Ast *at, Val *v)
{
	if (v->kind == V_AXES && (v->fn || at->kind == A_NAME))
		fail_unknown(w, at, v);
	if (v->kind == V_NUM) /* a number stands for a scalar */
		*v = (Val){.kind = V_TENSOR, .node = mk_const(w->g, DT_F32, v->f, NULL, 0)};
	if (v->kind == V_FN)
		lower_fail(w, at->loc, "a tensor is needed here, this is the op %s: write x |> %s", v->fn->s, v->fn->s);
	if (v->kind != V_TENSOR)
		lower_fail(w, at->loc, "a tensor is needed here, this is %s", describe(v));
	return v->node;
}

double
need_num(Lower *w, Ast *at, const Val *v, const char *what)
{
	if (v->kind == V_AXES && (v->fn || at->kind == A_NAME))
		fail_unknown(w, at, v);
	if (v->kind != V_NUM)
		lower_fail(w, at->loc, "%s must be a number, this is %s", what, describe(v));
	return v->f;
}

int64_t
need_int(Lower *w, Ast *at, const Val *v, const char *what)
{
	double f = need_num(w, at, v, what);
	if (f != floor(f) || fabs(f) > 1e15)
		lower_fail(w, at->loc, "%s must be a whole number, this is %g", what, f);
	return (int64_t)f;
}

int
find_axis(const Val *v, const char *name)
{
	for (int i = 0; i < v->node->nd; i++)
		if (!strcmp(v->ax[i], name))
			return i;
	return -1;
}

static void
put_axes(Text *t, const Val *v)
{
	text_puts(t, "[");
	for (int i = 0; i < v->node->nd; i++)
		text_printf(t, "%s%s: %ld", i ? ", " : "", v->ax[i], (long)v->node->dim[i]);
	text_puts(t, "]");
}

const char *
axes_text(Lower *w, const Val *v)
{
	Text t = {0};
	put_axes(&t, v);
	const char *s = arena_strdup(w->arena, t.s);
	free(t.s);
	return s;
}

int
need_axis(Lower *w, Loc l, const Val *v, const char *name)
{
	int i = find_axis(v, name);
	if (i >= 0)
		return i;
	if (find_axis(v, arena_printf(w->arena, "%s'", name)) >= 0)
		lower_fail(w, l, "no axis %s in %s: %s' is one that only the caller knows; an op reads the axes that its arguments name, as in x[.., %s]",
		           name, axes_text(w, v), name, name);
	const Var *x = lower_find(w, name);
	if (x && x->v.kind == V_NUM)
		lower_fail(w, l, "no axis %s in %s: %s is the number %g here", name, axes_text(w, v), name, x->v.f);
	lower_fail(w, l, "no axis %s in %s", name, axes_text(w, v));
}

void
need_count(Lower *w, Loc l, const int64_t *dim, int nd)
{
	int64_t n = 1;
	for (int i = 0; i < nd; i++) {
		if (dim[i] > 0 && n > MAX_COUNT / dim[i])
			lower_fail(w, l, "a tensor of more than 2^40 elements: are the sizes right?");
		n *= dim[i];
	}
}

void
need_apart(Lower *w, Loc l, const Val *v)
{
	for (int i = 0; i < v->node->nd; i++)
		for (int k = 0; k < i; k++)
			if (!strcmp(v->ax[i], v->ax[k]))
				lower_fail(w, l, "the result has axis %s twice: %s; rename one before: rename(x, %s = NAME)", v->ax[i], axes_text(w, v), v->ax[i]);
}

void
axes_add(Lower *w, Loc l, Val *axes, const char *name, int64_t size)
{
	for (int i = 0; i < axes->nax; i++)
		if (!strcmp(axes->ax[i], name))
			lower_fail(w, l, "axis %s is named twice", name);
	if (axes->nax == MAXDIM)
		lower_fail(w, l, "more than %d axes", MAXDIM);
	axes->ax[axes->nax] = name;
	axes->size[axes->nax++] = size;
}

int64_t
axis_size_arg(Lower *w, Ast *size, const char *axis)
{
	Val v = lower_expr(w, size);
	int64_t n = need_int(w, size, &v, arena_printf(w->arena, "the size of axis %s", axis));
	if (n < 1)
		lower_fail(w, size->loc, "the size of axis %s must be at least 1, this is %ld", axis, (long)n);
	return n;
}

Val
need_axes(Lower *w, Ast *arg)
{
	Val v = {.kind = V_AXES};
	if (arg->kind == A_NAME) {
		Var *x = lower_var(w, arg->s);
		if (x && x->v.kind == V_AXES)
			return x->v;
		if (x && x->v.kind == V_LIST && x->v.nlist)
			lower_fail(w, arg->loc, "an axis is needed here, this is %s", describe(&x->v.list[0]));
		if (!x || x->v.kind != V_LIST) /* a variadic formal that got nothing is no axes */
			axes_add(w, arg->loc, &v, arg->s, -1);
		return v;
	}
	if (arg->kind == A_AXIS && !strcmp(arg->s, "..") && w->scope && w->scope->rest)
		return *w->scope->rest;
	if (arg->kind == A_AXIS) {
		axes_add(w, arg->loc, &v, arg->s, arg->kid[0] ? axis_size_arg(w, arg->kid[0], arg->s) : -1);
		return v;
	}
	if (arg->kind == A_LIST) {
		for (int i = 0; i < arg->nkid; i++) {
			Val x = need_axes(w, arg->kid[i]);
			for (int k = 0; k < x.nax; k++)
				axes_add(w, arg->kid[i]->loc, &v, x.ax[k], x.size[k]);
		}
		return v;
	}
	v = lower_expr(w, arg);
	if (v.kind != V_AXES)
		lower_fail(w, arg->loc, "an axis is needed here, this is %s", describe(&v));
	return v;
}

const char *
need_one_axis(Lower *w, Ast *arg)
{
	Val v = need_axes(w, arg);
	if (v.nax != 1)
		lower_fail(w, arg->loc, "one axis is needed here, these are %d", v.nax);
	return v.ax[0];
}

/* ---- alignment ---- */

static const char *val_name(const Val *v) { return v->path ? v->path : "one operand"; }

static void
axes_join(Lower *w, Ast *at, Axes *u, const Val *v)
{
	for (int i = 0; i < v->node->nd; i++) {
		int k = 0;
		while (k < u->n && strcmp(u->ax[k], v->ax[i]))
			k++;
		if (k == u->n) {
			if (u->n == MAXDIM)
				lower_fail(w, at->loc, "more than %d axes", MAXDIM);
			u->ax[k] = v->ax[i];
			u->dim[k] = v->node->dim[i];
			u->from[k] = v;
			u->n++;
		} else if (u->dim[k] != v->node->dim[i]) {
			lower_fail(w, at->loc, "axis %s is %ld in %s %s, %ld in %s %s", v->ax[i], (long)u->dim[k], val_name(u->from[k]),
			           axes_text(w, u->from[k]), (long)v->node->dim[i], val_name(v), axes_text(w, v));
		}
	}
}

Val
expand_to(Lower *w, const Val *v, const Axes *u)
{
	int64_t map[MAXDIM];
	for (int k = 0; k < u->n; k++)
		map[k] = find_axis(v, u->ax[k]);
	return val_tensor(mk_expand(w->g, v->node, u->dim, u->n, map), u->ax);
}

static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }

/* One type for all: f32 where any is float or a number is not whole, else the integer type. Masks meet numbers as f32. */
DType
common_type(const Val *v, int n)
{
	DType t = NDTYPE;
	for (int i = 0; i < n; i++) {
		if (v[i].kind != V_TENSOR)
			continue;
		DType d = v[i].node->dt;
		if (t == NDTYPE || (is_float(d) && !is_float(t)) || (t == DT_BOOL && d != DT_BOOL))
			t = d;
	}
	for (int i = 0; i < n; i++)
		if (v[i].kind == V_NUM && !is_float(t) && (v[i].f != floor(v[i].f) || t == DT_BOOL))
			t = DT_F32;
	return t;
}

/* Whose order of axes the result has, a or b before it: the wider one's; in a scan, values of the step come before weights, so
   that all of a step have the order of the carries. */
static bool
leads(const Lower *w, const Val *a, const Val *b)
{
	bool x = a->node->id >= w->step, y = b->node->id >= w->step;
	return x != y ? x : a->node->nd > b->node->nd;
}

void
align(Lower *w, Ast *at, Val *v, int n)
{
	Axes u = {0};
	int widest = -1;
	for (int i = 0; i < n; i++)
		if (v[i].kind != V_NUM) {
			need_tensor(w, at->kind == A_BINARY && i < at->nkid ? at->kid[i] : at, &v[i]);
			if (widest < 0 || leads(w, &v[i], &v[widest]))
				widest = i;
		}
	axes_join(w, at, &u, &v[widest]);
	for (int i = 0; i < n; i++)
		if (v[i].kind == V_TENSOR)
			axes_join(w, at, &u, &v[i]);
	need_count(w, at->loc, u.dim, u.n);
	DType t = common_type(v, n);
	for (int i = 0; i < n; i++) {
		if (v[i].kind == V_NUM) {
			v[i] = val_tensor(mk_const(w->g, t, v[i].f, u.dim, u.n), u.ax);
			continue;
		}
		if (v[i].node->dt != t && !(i == 0 && n == 3)) /* select's condition keeps its type */
			v[i].node = mk_cast(w->g, v[i].node, t);
		v[i] = expand_to(w, &v[i], &u);
	}
}

static double
fold_num(Lower *w, Ast *at, Prim op, double a, double b, double c)
{
	switch (op) {
#define interp_shuffle(a, b, c) (a)
#define P(name, kind, arity, dtype, attr, spell, expr) \
	case P_##name:                                 \
		return (expr);
#include "../ops/prim.def"
#undef P
	default:
		(void)c;
		lower_fail(w, at->loc, "not a function of numbers");
	}
}

/* Ids are names: a sum or a product of one and a fraction says nothing. Whole numbers may count them. */
static void
need_amounts(Lower *w, Ast *at, const Val *v, int n)
{
	bool fractions = false;
	for (int i = 0; i < n; i++)
		fractions |= v[i].kind == V_TENSOR ? is_float(v[i].node->dt) : v[i].f != floor(v[i].f);
	for (int i = 0; fractions && i < n; i++)
		if (v[i].kind == V_TENSOR && v[i].ids)
			lower_fail(w, at->loc, "%s holds ids, which are no amounts: embed(.., n) gives a vector for each, and float(..) says that they are amounts",
			           v[i].path ? v[i].path : "one operand");
}

Val
apply_prim(Lower *w, Ast *at, Prim op, Val *v, int n)
{
	bool numbers = true, isint = true;
	for (int i = 0; i < n; i++) {
		numbers &= v[i].kind == V_NUM || v[i].kind == V_BOOL;
		isint &= v[i].isint;
	}
	if (numbers) {
		double f = fold_num(w, at, op, v[0].f, n > 1 ? v[1].f : 0, n > 2 ? v[2].f : 0);
		if (prim_info[op].dtype[0] == 'B')
			return (Val){.kind = V_BOOL, .f = f};
		return val_num(f, isint && f == floor(f) && op != P_div);
	}
	if (op == P_add || op == P_sub || op == P_mul || op == P_div)
		need_amounts(w, at, v, n);
	align(w, at, v, n);
	if (op == P_mod && is_float(v[0].node->dt))
		lower_fail(w, at->loc, "%% is for whole numbers: write x - n * floor(x / n), or int(x) %% n");
	if ((op == P_div || op == P_mod) && !is_float(v[0].node->dt) && v[1].node->op == P_const && v[1].node->f == 0)
		lower_fail(w, at->loc, "division of whole numbers by 0");
	Node *in[3];
	for (int i = 0; i < n; i++)
		in[i] = v[i].node;
	if (op == P_not || op == P_and || op == P_or)
		for (int i = 0; i < n; i++)
			in[i] = mk_cast(w->g, in[i], DT_BOOL);
	if (prim_info[op].dtype[0] == 'S' && n == 1 && !is_float(in[0]->dt) && op != P_neg && op != P_abs && op != P_stop && op != P_sign)
		in[0] = mk_cast(w->g, in[0], DT_F32);
	if (in[0]->dt == DT_BOOL && n == 2 && prim_info[op].dtype[0] == 'S')
		for (int i = 0; i < n; i++)
			in[i] = mk_cast(w->g, in[i], DT_F32);
	if (op == P_select)
		in[0] = mk_cast(w->g, in[0], DT_BOOL);
	return val_tensor(node_new(w->g, op, 0, in, n, NULL, 0, NULL, 0, 0), v[0].ax);
}

Val
permute_to(Lower *w, Val v, const char *const *ax)
{
	int64_t perm[MAXDIM];
	for (int i = 0; i < v.node->nd; i++)
		perm[i] = find_axis(&v, ax[i]);
	Val r = val_tensor(mk_permute(w->g, v.node, perm), ax);
	r.ids = v.ids;
	return r;
}

/* ---- expressions ---- */

static Val
compare_values(Lower *w, Ast *e, Val *a, Val *b)
{
	bool eq = a->kind == b->kind && (a->kind == V_STR ? !strcmp(a->s, b->s) : a->kind == V_NONE || a->f == b->f);
	bool none = a->kind == V_NONE || b->kind == V_NONE;
	if ((strcmp(e->s, "==") && strcmp(e->s, "!=")) || (a->kind != b->kind && !none))
		lower_fail(w, e->loc, "'%s' does not go with %s and %s", e->s, describe(a), describe(b));
	return (Val){.kind = V_BOOL, .f = eq == (e->s[0] == '=')};
}

static Val
binary(Lower *w, Ast *e)
{
	static const struct {
		const char *s;
		Prim op;
		bool swap;
	} table[] = {{"+", P_add, 0}, {"-", P_sub, 0}, {"*", P_mul, 0}, {"/", P_div, 0}, {"%", P_mod, 0}, {"^", P_pow, 0},
	             {"<", P_lt, 0}, {">", P_lt, 1}, {"<=", P_le, 0}, {">=", P_le, 1}, {"==", P_eq, 0}, {"!=", P_ne, 0},
	             {"&", P_and, 0}, {"|", P_or, 0}};
	Val v[2] = {lower_expr(w, e->kid[0]), lower_expr(w, e->kid[1])};
	for (int i = 0; i < 2; i++) {
		bool text = v[i].kind == V_STR || v[i].kind == V_NONE;
		if (v[i].kind == V_AXES)
			need_tensor(w, e->kid[i], &v[i]);
		if (text || (v[i].kind == V_BOOL && v[!i].kind == V_BOOL && strchr("=!", e->s[0])))
			return compare_values(w, e, &v[0], &v[1]);
	}
	for (size_t i = 0; i < LEN(table); i++) {
		if (strcmp(table[i].s, e->s))
			continue;
		if (table[i].swap) {
			Val t = v[0];
			v[0] = v[1];
			v[1] = t;
		}
		return apply_prim(w, e, table[i].op, v, 2);
	}
	bug("operator %s", e->s);
}

/* The axis that a name on the left of `=` means: x[t = 0], split(x, t = ..). A formal may stand for one. */
const char *
lower_axis(Lower *w, const char *name)
{
	Var *x = lower_find(w, name);
	return x && x->v.kind == V_AXES && x->v.nax == 1 ? x->v.ax[0] : name;
}

static Val
index_one(Lower *w, Val x, Ast *ix)
{
	if (ix->kind != A_NAMED && ix->kind != A_RANGE)
		lower_fail(w, ix->loc, "an index names its axis: x[t = 0] or x[t = 0:4]");
	Val v = lower_expr(w, ix->kid[0]);
	const char *name = lower_axis(w, ix->s);
	int axis = need_axis(w, ix->loc, &x, name);
	int64_t lo[MAXDIM] = {0}, step[MAXDIM], dim[MAXDIM], n = x.node->dim[axis];
	const char *ax[MAXDIM];
	if (v.kind == V_AXES)
		need_tensor(w, ix->kid[0], &v);
	if (v.kind == V_TENSOR) { /* gather: the axis moves first, the ids' axes take its place in front */
		const char *order[MAXDIM] = {name};
		if (ix->kind == A_RANGE)
			lower_fail(w, ix->loc, "a range is of numbers, and this is a tensor: x[%s = ids]", name);
		if (is_float(v.node->dt) || v.node->dt == DT_BOOL)
			lower_fail(w, ix->loc, "ids are whole numbers: int(..) makes them");
		if (v.node->nd + x.node->nd - 1 > MAXDIM)
			lower_fail(w, ix->loc, "more than %d axes", MAXDIM);
		for (int i = 0, k = 1; i < x.node->nd; i++)
			if (i != axis)
				order[k++] = x.ax[i];
		x = permute_to(w, x, order);
		Node *r = node_new(w->g, P_gather, 0, (Node *[]){x.node, v.node}, 2, NULL, 0, NULL, 0, 0);
		for (int i = 0; i < v.node->nd; i++)
			ax[i] = v.ax[i];
		for (int i = 1; i < x.node->nd; i++)
			ax[v.node->nd + i - 1] = x.ax[i];
		v = val_tensor(r, ax);
		need_apart(w, ix->loc, &v);
		need_count(w, ix->loc, r->dim, r->nd);
		return v;
	}
	int64_t a = need_int(w, ix->kid[0], &v, "an index"), b = a + 1, by = 1;
	if (ix->kind == A_RANGE) {
		Val h = lower_expr(w, ix->kid[1]);
		b = need_int(w, ix->kid[1], &h, "an index");
	}
	if (ix->kind == A_RANGE && ix->nkid > 2) {
		Val h = lower_expr(w, ix->kid[2]);
		by = need_int(w, ix->kid[2], &h, "a step");
		if (by < 1)
			lower_fail(w, ix->kid[2]->loc, "a step must be at least 1, this is %ld (flip(x, %s) turns the axis round)", (long)by, name);
	}
	if (ix->kind == A_NAMED && (a < 0 || a >= n))
		lower_fail(w, ix->loc, "%s = %ld is outside axis %s, which goes from 0 to %ld", name, (long)a, name, (long)n - 1);
	if (a < 0 || b > n || a >= b)
		lower_fail(w, ix->loc, "%s = %ld:%ld is empty or outside axis %s, which goes from 0 to %ld (and 0:%ld is all of it)", name,
		           (long)a, (long)b, name, (long)n - 1, (long)n);
	for (int i = 0; i < x.node->nd; i++) {
		step[i] = 1;
		dim[i] = x.node->dim[i];
	}
	lo[axis] = a;
	step[axis] = by;
	dim[axis] = (b - a - 1) / by + 1;
	Val r = val_tensor(mk_slice(w->g, x.node, lo, step, dim), x.ax);
	if (ix->kind == A_RANGE)
		return r;
	int nd = 0;
	for (int i = 0; i < x.node->nd; i++) {
		if (i == axis)
			continue;
		ax[nd] = x.ax[i];
		dim[nd++] = x.node->dim[i];
	}
	return val_tensor(mk_reshape(w->g, r.node, dim, nd), ax);
}

/* randn[3, c: 4], ids[5, below = 10] and edges[4] (zeros, ties, infinities, NaN), in tests: free inputs. Axes without a name are called by their place. */
static Val
test_input(Lower *w, Ast *e)
{
	static const char *const places[MAXDIM] = {"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"};
	bool isids = !strcmp(e->kid[0]->s, "ids"), isedges = !strcmp(e->kid[0]->s, "edges");
	GInput in = {.name = arena_printf(w->arena, "%s%d", e->kid[0]->s, w->g->ninput), .dt = isids ? DT_I32 : DT_F32, .below = isedges ? -1 : 0};
	const char *ax[MAXDIM];
	if (w->g->batch)
		lower_fail(w, e->loc, "%s[..] is an input of tests: a model reads its inputs", e->kid[0]->s);
	for (int i = 1; i < e->nkid; i++) {
		Ast *a = e->kid[i], *size = a->kind == A_AXIS || a->kind == A_NAMED ? a->kid[0] : a;
		if (!size)
			lower_fail(w, a->loc, "an input of tests needs sizes: %s[2, c: 3]", e->kid[0]->s);
		Val v = lower_expr(w, size);
		int64_t n = need_int(w, size, &v, "a size");
		if (a->kind == A_NAMED) {
			in.below = n;
			continue;
		}
		if (in.nd == MAXDIM || n < 1)
			lower_fail(w, a->loc, "sizes are at least 1, and at most %d of them", MAXDIM);
		ax[in.nd] = a->kind == A_AXIS ? a->s : places[in.nd];
		in.dim[in.nd++] = n;
	}
	need_count(w, e->loc, in.dim, in.nd);
	Val v = val_tensor(mk_input(w->g, graph_input(w->g, in)), ax);
	need_apart(w, e->loc, &v);
	v.ids = in.below > 0 ? in.below : 0;
	return v;
}

/* y[0]: a value of a list, as a scan with two emits gives one. */
static Val
list_element(Lower *w, Val x, Ast *e)
{
	Ast *ix = e->nkid == 2 ? e->kid[1] : NULL;
	if (!ix || ix->kind == A_NAMED || ix->kind == A_RANGE || ix->kind == A_AXIS)
		lower_fail(w, e->loc, "a list cannot be indexed by axis: x[0] is its first value");
	Val v = lower_expr(w, ix);
	int64_t i = need_int(w, ix, &v, "the place in a list");
	if (i < 0 || i >= x.nlist)
		lower_fail(w, ix->loc, "there is no value %ld in this list of %d: they count from 0", (long)i, x.nlist);
	return x.list[i];
}

static Val
index_expr(Lower *w, Ast *e)
{
	static const char *const inputs[] = {"randn", "ids", "edges"};
	for (size_t i = 0; i < LEN(inputs); i++)
		if (e->kid[0]->kind == A_NAME && !strcmp(e->kid[0]->s, inputs[i]) && !lower_var(w, e->kid[0]->s))
			return test_input(w, e);
	Val x = lower_expr(w, e->kid[0]);
	if (x.kind == V_LIST)
		return list_element(w, x, e);
	need_tensor(w, e->kid[0], &x);
	for (int i = 1; i < e->nkid; i++)
		x = index_one(w, x, e->kid[i]);
	return x;
}

static Val
pipe(Lower *w, Ast *e)
{
	const char *hint = w->hint; /* of the whole chain: for its last call */
	w->hint = NULL;
	Val x = lower_expr(w, e->kid[0]);
	w->hint = hint;
	Ast *f = e->kid[1];
	if (f->kind != A_CALL && f->kind != A_NAME)
		lower_fail(w, f->loc, "an op is needed after |>: x |> op(..)");
	return call_any(w, f, &x);
}

static Val
condition(Lower *w, Ast *e)
{
	Val c = lower_expr(w, e->kid[0]);
	if (c.kind == V_TENSOR)
		lower_fail(w, e->loc, "'if' chooses at compile time and this condition is a tensor: use where(condition, a, b)");
	if (c.kind == V_AXES)
		need_tensor(w, e->kid[0], &c);
	if (c.kind != V_BOOL && c.kind != V_NUM && c.kind != V_NONE)
		lower_fail(w, e->loc, "a condition is true or false, this is %s", describe(&c));
	bool yes = c.kind == V_BOOL || c.kind == V_NUM ? c.f != 0 : c.kind != V_NONE;
	Ast *b = e->kid[yes ? 1 : 2];
	if (!b)
		return (Val){0};
	return b->kind == A_BLOCK ? lower_block(w, b) : lower_expr(w, b);
}

static Val
name_expr(Lower *w, Ast *e)
{
	Var *x = lower_var(w, e->s);
	Prim op;
	if (x)
		return x->v;
	if (!w->raw && (lib_find(w->lib, e->s) || builtin_find(e->s) || prim_elementwise(e->s, &op)))
		return (Val){.kind = V_FN, .fn = e};
	return (Val){.kind = V_AXES, .nax = 1, .ax = {e->s}, .size = {-1}, .fn = e};
}

static Val
list_expr(Lower *w, Ast *e)
{
	Val v = {.kind = V_LIST, .nlist = e->nkid};
	v.list = arena_alloc(w->arena, (size_t)e->nkid * sizeof *v.list);
	for (int i = 0; i < e->nkid; i++) {
		if (e->kid[i]->kind == A_AXIS)
			return need_axes(w, e);
		v.list[i] = lower_expr(w, e->kid[i]);
	}
	return v;
}

/* Nodes made from here on come from e, or from the call that e's definition serves. */
static void
set_place(Lower *w, const Ast *e)
{
	Loc at = e->loc;
	if (w->raw)
		return;
	w->g->loc = w->scope->def ? w->scope->call : e->loc;
	for (const Scope *s = w->scope; s && s->def; s = s->caller)
		at = s->call;
	w->g->model = at;
}

Val
lower_expr(Lower *w, Ast *e)
{
	Val v;
	set_place(w, e);
	if (++w->depth > MAX_DEPTH)
		lower_fail(w, e->loc, "expressions nest deeper than %d: name parts of this one (or does a definition call itself?)", MAX_DEPTH);
	switch (e->kind) {
	case A_NUM: v = val_num(e->f, e->isint); break;
	case A_STR: v = (Val){.kind = V_STR, .s = e->s}; break;
	case A_NAME: v = name_expr(w, e); break;
	case A_LIST: v = list_expr(w, e); break;
	case A_CALL: v = call_any(w, e, NULL); break;
	case A_PIPE: v = pipe(w, e); break;
	case A_BINARY: v = binary(w, e); break;
	case A_UNARY: {
		Val x = lower_expr(w, e->kid[0]);
		if (x.kind == V_AXES)
			need_tensor(w, e->kid[0], &x);
		v = apply_prim(w, e, e->s[0] == '-' ? P_neg : P_not, &x, 1);
		break;
	}
	case A_INDEX: v = index_expr(w, e); break;
	case A_IF: v = condition(w, e); break;
	case A_BLOCK: v = lower_block(w, e); break;
	case A_SCAN: v = lower_scan(w, e); break;
	case A_EMIT: lower_fail(w, e->loc, "emit is a statement of a scan: scan t (h = 0) { h = ..; emit h }");
	case A_NAMED:
		lower_fail(w, e->loc, "'%s = ..' can only be an argument of a call", e->s);
	default:
		lower_fail(w, e->loc, "this cannot stand in an expression");
	}
	w->depth--;
	return v;
}

/* ---- statements ---- */

static Val
statement(Lower *w, Ast *s)
{
	switch (s->kind) {
	case A_LET: {
		w->hint = s->kid[0]->kind == A_CALL || s->kid[0]->kind == A_PIPE ? s->s : NULL;
		Val v = lower_expr(w, s->kid[0]);
		w->hint = NULL;
		if (v.kind == V_TENSOR && !v.path)
			v.path = s->s;
		Var *x = lower_find(w, s->s);
		if (x && x->state >= 0)
			lower_fail(w, s->loc, "'%s' is a state: write update %s = .., or %s := .. to go on with the new value", s->s, s->s, s->s);
		lower_let(w, s->s, v, -1);
		return (Val){0};
	}
	case A_PARAM: declare_param(w, s); return (Val){0};
	case A_STATE: declare_state(w, s); return (Val){0};
	case A_UPDATE:
	case A_SET:
		if (w->scan)
			lower_fail(w, s->loc, "a state cannot be updated in a scan: make '%s' a carry of the scan", s->s);
		set_state(w, s);
		return (Val){0};
	case A_EMIT: lower_emit(w, s); return (Val){0};
	default: return lower_expr(w, s);
	}
}

/* Names bound inside `if` and definitions: an `if` block of a definition binds into the definition (so both branches
   can set a name); its last value is the value. */
Val
lower_block(Lower *w, Ast *b)
{
	Val v = {0};
	for (int i = 0; i < b->nkid; i++)
		v = statement(w, b->kid[i]);
	return v;
}

/* ---- entries ---- */

Lower *
lower_new(Lib *l, Graph *g, bool training)
{
	Lower *w = arena_alloc(g->arena, sizeof *w);
	w->lib = l;
	w->g = g;
	w->arena = g->arena;
	w->training = training;
	lower_bind(w, "none", (Val){0});
	lower_bind(w, "true", (Val){.kind = V_BOOL, .f = 1});
	lower_bind(w, "false", (Val){.kind = V_BOOL, .f = 0});
	lower_bind(w, "inf", val_num(INFINITY, false));
	lower_bind(w, "pi", val_num(3.14159265358979323846, false));
	lower_bind(w, "training", (Val){.kind = V_BOOL, .f = training});
	w->constant = w->global;
	return w;
}

bool
lower_eval(Lower *w, Ast *e, const char *prefix, Val *out)
{
	jmp_buf bail;
	Scope s = {.prefix = prefix};
	w->bail = &bail;
	w->scope = &s;
	w->depth = w->calls = 0;
	w->hint = NULL;
	w->scan = NULL;
	w->step = 0;
	if (setjmp(bail)) {
		w->scope = NULL;
		*out = POISON;
		return false;
	}
	*out = lower_expr(w, e);
	if (out->kind == V_AXES)
		need_tensor(w, e, out);
	w->scope = NULL;
	return true;
}
Graph *lower_graph(Lower *w) { return w->g; }
