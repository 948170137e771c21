/* Calls of library definitions: arguments to formals, and axis names both ways.

   A formal x[.., c] binds from the last axis back: the caller's name of that axis becomes c inside. What .. covers keeps
   the caller's names, marked ' where a name means something else inside. On return the names go back; a new axis
   of the result that the signature calls `o: n as i` takes the caller's name of i. */
#include <stdlib.h>
#include <string.h>

#include "lower.h"

#define MAX_CALLS 64        /* of definitions in one another: what the stack holds */
#define MAX_ALLCALLS 50000  /* of one lowering: what a person waits for */

Ast *
named_arg(Ast *call, const char *name)
{
	for (int i = 0; call->kind == A_CALL && i < call->nkid; i++)
		if (call->kid[i]->kind == A_NAMED && !strcmp(call->kid[i]->s, name))
			return call->kid[i];
	return NULL;
}

static Ast *
positional(Ast *call, int i)
{
	for (int k = 0; call->kind == A_CALL && k < call->nkid; k++)
		if (call->kid[k]->kind != A_NAMED && i-- == 0)
			return call->kid[k];
	return NULL;
}

int
arg_count(Ast *call, Val *piped)
{
	int n = piped != NULL;
	for (int k = 0; call->kind == A_CALL && k < call->nkid; k++)
		n += call->kid[k]->kind != A_NAMED;
	return n;
}

Val
arg_val(Lower *w, Ast *call, int i, Val *piped, Ast **at)
{
	*at = call;
	if (piped && i-- == 0)
		return *piped;
	Ast *a = positional(call, i);
	if (!a)
		return (Val){0};
	*at = a;
	const char *hint = w->hint;
	w->hint = NULL;
	Val v = a->kind == A_AXIS ? need_axes(w, a) : lower_expr(w, a);
	w->hint = hint;
	return v;
}

/* ---- axes of formals ---- */

static AxisBind *
find_local(Scope *s, const char *local)
{
	for (AxisBind *b = s->axis; b; b = b->next)
		if (!strcmp(b->local, local))
			return b;
	return NULL;
}

static void
bind_axis(Lower *w, Scope *s, const char *local, const char *caller, int64_t size, const char *from)
{
	AxisBind *b = arena_alloc(w->arena, sizeof *b);
	*b = (AxisBind){local, caller, size, from, s->axis};
	s->axis = b;
}

/* Is the name used for an axis anywhere in the definition? */
static bool
mentions(const Ast *a, const char *name)
{
	if (!a)
		return false;
	if ((a->kind == A_AXIS || a->kind == A_NAME || a->kind == A_NAMED || a->kind == A_RANGE) && !strcmp(a->s, name))
		return true;
	for (int i = 0; i < a->nkid; i++)
		if (mentions(a->kid[i], name))
			return true;
	for (int i = 0; a->kind == A_DEF && i < a->nsig; i++)
		if (mentions(a->sig[i], name))
			return true;
	return false;
}

/* What an axis named by the caller in an argument is called inside. */
static const char *
local_name(Scope *s, const char *caller)
{
	for (AxisBind *b = s->axis; b; b = b->next)
		if (b->caller && !strcmp(b->caller, caller))
			return b->local;
	return caller;
}

/* The name inside of an axis that .. covers: c where the definition does not say c, else c'. What is c' outside is c'' inside then. */
static const char *
rest_name(Lower *w, Scope *s, const Ast *def, const char *caller)
{
	for (AxisBind *b = s->axis; b; b = b->next)
		if (b->caller && !strcmp(b->caller, caller))
			return b->local;
	if (!mentions(def, caller) && !strchr(caller, '\''))
		return caller;
	const char *local = arena_printf(w->arena, "%s'", caller);
	bind_axis(w, s, local, caller, -1, NULL);
	return local;
}

/* Notes what .. covers: `..` as an axis inside. */
static void
cover(Lower *w, Scope *s, const char *const *ax, int n)
{
	if (!s->rest) {
		s->rest = arena_alloc(w->arena, sizeof *s->rest);
		s->rest->kind = V_AXES;
	}
	for (int i = 0; i < n; i++) {
		int k = 0;
		while (k < s->rest->nax && strcmp(s->rest->ax[k], ax[i]))
			k++;
		if (k == s->rest->nax)
			axes_add(w, s->call, s->rest, ax[i], -1);
	}
}

/* .. of all formals together; what differs in size fails where the two meet. */
static void
add_lead(Scope *s, const char *name, int64_t size)
{
	for (int i = 0; i < s->nlead; i++)
		if (!strcmp(s->lead[i], name))
			return;
	if (s->nlead == MAXDIM)
		return;
	s->lead[s->nlead] = name;
	s->lead_size[s->nlead++] = size;
}

/* "t, c": the axes that a formal names. */
static const char *
formal_axes(Lower *w, const Ast *formal)
{
	char *s = "";
	for (int i = 1; i < formal->nkid; i++)
		s = arena_printf(w->arena, "%s%s%s", s, *s ? ", " : "", formal->kid[i]->s);
	return s;
}

static Val
bind_tensor(Lower *w, Scope *s, const Ast *def, const Ast *formal, Ast *at, Val v)
{
	int m = formal->nkid - 1;
	bool rest = m && !strcmp(formal->kid[1]->s, "..");
	m -= rest;
	need_tensor(w, at, &v);
	int lead = v.node->nd - m;
	if (lead < 0 || (lead > 0 && !rest))
		lower_fail(w, at->loc, "%s of %s has the axes [%s], and this has %s", formal->s, def->s, formal_axes(w, formal), axes_text(w, &v));
	if (rest && m && !lead && !w->scope->def && !strcmp(v.ax[0], "b"))
		lower_fail(w, at->loc, "%s of %s has the axes [%s], and in %s %s would be the rows of the batch, which nothing may mix", formal->s, def->s,
		           formal_axes(w, formal), axes_text(w, &v), formal->kid[2]->s);
	const char *ax[MAXDIM];
	for (int i = 0; i < m; i++) {
		const char *local = formal->kid[1 + rest + i]->s;
		int64_t size = v.node->dim[lead + i];
		Ast *want = formal->kid[1 + rest + i]->kid[0];
		if (want) {
			Scope *outer = w->scope;
			w->scope = s;
			Val n = lower_expr(w, want);
			if (need_int(w, want, &n, "the size of an axis") != size)
				lower_fail(w, want->loc, "axis %s of %s must be %g, this is %ld", local, formal->s, n.f, (long)size);
			w->scope = outer;
		}
		AxisBind *b = find_local(s, local);
		if (b && b->size >= 0 && b->size != size)
			lower_fail(w, at->loc, "axis %s of %s is %ld in %s, %ld in %s", local, def->s, (long)b->size, b->from, (long)size, formal->s);
		if (!b)
			bind_axis(w, s, local, v.ax[lead + i], size, formal->s);
		ax[lead + i] = local;
	}
	for (int i = 0; i < lead; i++) {
		ax[i] = rest_name(w, s, def, v.ax[i]);
		add_lead(s, ax[i], v.node->dim[i]);
	}
	if (rest)
		cover(w, s, ax, lead);
	Val r = val_tensor(v.node, ax);
	r.ids = v.ids;
	r.path = formal->s;
	return r;
}

static const char *
caller_name(Scope *s, const Ast *def, const char *local)
{
	AxisBind *b = find_local(s, local);
	if (b && b->caller)
		return b->caller;
	for (int i = 0; i < def->nsig; i++) {
		Ast *as = !strcmp(def->sig[i]->s, local) ? def->sig[i]->kid[1] : NULL;
		if (as && (b = find_local(s, as->s)) && b->caller)
			return b->caller;
	}
	return local;
}

/* The result's axes in the order of the signature: what .. covers first, then the named ones. */
static Val
order_result(Lower *w, Scope *s, const Ast *def, Val v)
{
	const char *order[MAXDIM];
	int n = 0;
	bool rest = def->nsig && !strcmp(def->sig[0]->s, "..");
	if (!def->sig)
		return v;
	for (int i = 0; i < v.node->nd; i++) {
		int named = 0;
		for (int k = 0; k < def->nsig; k++)
			named += !strcmp(def->sig[k]->s, v.ax[i]);
		if (named > 1)
			lower_fail(w, def->loc, "the signature of %s has axis %s twice", def->s, v.ax[i]);
		const AxisBind *b = find_local(s, v.ax[i]);
		if (!named && (!rest || (b && b->from))) /* .. is what it is in the formals, which name this axis */
			lower_fail(w, def->loc, "the result of %s has axis %s, which its signature lacks", def->s, v.ax[i]);
		if (!named)
			order[n++] = v.ax[i];
	}
	for (int k = rest; k < def->nsig; k++) {
		if (find_axis(&v, def->sig[k]->s) < 0)
			lower_fail(w, def->loc, "the result of %s lacks axis %s of its signature", def->s, def->sig[k]->s);
		order[n++] = def->sig[k]->s;
	}
	return permute_to(w, v, order);
}

static Val
return_val(Lower *w, Scope *s, const Ast *def, Val v)
{
	if (v.kind == V_LIST) {
		for (int i = 0; i < v.nlist; i++)
			v.list[i] = return_val(w, s, def, v.list[i]);
		return v;
	}
	if (v.kind != V_TENSOR)
		return v;
	v = order_result(w, s, def, v);
	for (int i = 0; i < v.node->nd; i++)
		v.ax[i] = caller_name(s, def, v.ax[i]);
	need_apart(w, s->call, &v);
	v.path = NULL;
	return v;
}

/* ---- arguments ---- */

/* A variadic formal takes all positional arguments that are left: axes as axes, else a list. */
static Val
bind_variadic(Lower *w, Ast *call, Val *piped, int first)
{
	int n = arg_count(call, piped) - first;
	Val list = {.kind = V_LIST, .nlist = n < 0 ? 0 : n}, axes = {.kind = V_AXES};
	Ast *at;
	list.list = arena_alloc(w->arena, (size_t)list.nlist * sizeof *list.list);
	list.nlist = 0;
	for (int i = 0; i < n; i++) {
		Val v = arg_val(w, call, first + i, piped, &at);
		if (v.kind == V_LIST && !v.nlist) /* a variadic that got nothing, passed on */
			continue;
		list.list[list.nlist++] = v;
		if (v.kind != V_AXES) {
			axes.nax = -1;
			continue;
		}
		for (int k = 0; axes.nax >= 0 && k < v.nax; k++)
			axes_add(w, at->loc, &axes, v.ax[k], v.size[k]);
	}
	return axes.nax > 0 ? axes : list;
}

/* "x, n, bias" */
const char *
join_names(Arena *a, const char *const *names, size_t n)
{
	char *s = "";
	for (size_t i = 0; i < n; i++)
		s = arena_printf(a, "%s%s%s", s, i ? ", " : "", names[i]);
	return s;
}

void
check_named(Lower *w, Ast *call, const char *const *names, size_t n)
{
	for (int i = 0; call->kind == A_CALL && i < call->nkid; i++) {
		Ast *a = call->kid[i];
		size_t k = 0;
		if (a->kind != A_NAMED)
			continue;
		while (k < n && strcmp(names[k], a->s))
			k++;
		const char *near = k == n ? nearest_name(a->s, names, n) : NULL;
		if (k == n && near)
			lower_fail(w, a->loc, "%s has no argument '%s'; did you mean '%s'?", call->s, a->s, near);
		if (k == n)
			lower_fail(w, a->loc, "%s has no argument '%s'; it has %s", call->s, a->s, n ? join_names(w->arena, names, n) : "none with a name");
		if (named_arg(call, a->s) != a)
			lower_fail(w, a->loc, "%s is given its argument %s twice", call->s, a->s);
	}
}

/* An argument that is the compiler's: see lower_call. */
static bool is_hidden(const Ast *a) { return a->kind == A_NAME && a->s[0] == '\''; }

/* The names of the formals that a call may give: all but those that the compiler's first arguments fill. */
static const char *const *
open_formals(Lower *w, const Ast *def, Ast *call, size_t *n)
{
	const char **names = arena_alloc(w->arena, (size_t)def->nkid * sizeof *names);
	int hidden = 0;
	while (call->kind == A_CALL && hidden < call->nkid && is_hidden(call->kid[hidden]))
		hidden++;
	*n = 0;
	for (int i = 1; i < def->nkid; i++) {
		const Ast *named = named_arg(call, def->kid[i]->s);
		if (hidden && !(named && is_hidden(named->kid[0])))
			hidden--;
		else
			names[(*n)++] = def->kid[i]->s;
	}
	return names;
}

static const char *plural(int n) { return n == 1 ? "" : "s"; }

static void
bind_formals(Lower *w, Scope *s, const Ast *def, Ast *call, Val *piped)
{
	int next = 0, given = arg_count(call, piped);
	Scope *outer = w->scope;
	size_t nopen;
	const char *const *names = open_formals(w, def, call, &nopen);
	check_named(w, call, names, nopen);
	for (int i = 1; i < def->nkid; i++) {
		const Ast *f = def->kid[i];
		Ast *named = named_arg(call, f->s), *at = call;
		Val v;
		if (f->isint) {
			v = bind_variadic(w, call, piped, next);
			next = given;
		} else if (named) {
			at = named->kid[0];
			v = lower_expr(w, at);
		} else if (next < given) {
			v = arg_val(w, call, next++, piped, &at);
		} else if (f->kid[0]) {
			w->scope = s;
			v = lower_expr(w, f->kid[0]);
			w->scope = outer;
		} else {
			lower_fail(w, call->loc, "%s needs its argument %s: %s(%s)", def->s, f->s, def->s, join_names(w->arena, names, nopen));
		}
		if (v.kind == V_AXES && f->tensor)
			need_tensor(w, at, &v);
		if (f->tensor && (v.kind == V_TENSOR || (v.kind == V_NUM && f->nkid > 1)))
			v = bind_tensor(w, s, def, f, at, v);
		else if (f->tensor && !(v.kind == V_NONE && f->kid[0]) && v.kind != V_NUM)
			need_tensor(w, at, &v);
		else if (v.kind == V_AXES)
			for (int k = 0; k < v.nax; k++)
				v.ax[k] = local_name(s, v.ax[k]);
		else if (v.kind == V_TENSOR) /* no axes given: all keep their names */
			for (int k = 0; k < v.node->nd; k++)
				v.ax[k] = rest_name(w, s, def, v.ax[k]);
		w->scope = s;
		lower_let(w, f->s, v, -1);
		w->scope = outer;
	}
	if (next < given)
		lower_fail(w, call->loc, "%s takes %zu argument%s, more are given: %s(%s)", def->s, nopen, plural((int)nopen), def->s,
		           join_names(w->arena, names, nopen));
}

Val
call_def(Lower *w, const Ast *def, Ast *call, Val *piped)
{
	Scope s = {.caller = w->scope, .def = def, .call = call->loc};
	const char *hint = w->hint;
	w->hint = NULL;
	bind_formals(w, &s, def, call, piped);
	if (++w->calls > MAX_CALLS)
		lower_fail(w, call->loc, "calls nest deeper than %d: does %s call itself?", MAX_CALLS, def->s);
	if (++w->allcalls > MAX_ALLCALLS)
		lower_fail(w, call->loc, "more than %d calls: ops that call others twice and more grow fast", MAX_ALLCALLS);
	s.prefix = lower_path(w, hint ? hint : def->s);
	w->scope = &s;
	if (!strcmp(def->t, "optimizer")) { /* its first formal stands for the packed parameters */
		Var *p = lower_var(w, def->kid[1]->s);
		if (p->v.kind == V_TENSOR && p->v.node->op == P_state)
			p->state = (int)p->v.node->at[0];
		s.like = &p->v;
	}
	Val v = lower_block(w, def->kid[0]);
	if (v.kind == V_AXES && v.fn)
		need_tensor(w, v.fn, &v);
	if (v.kind == V_NONE && strcmp(def->t, "optimizer"))
		lower_fail(w, def->loc, "%s ends without a value: its last line must be an expression", def->s);
	v = return_val(w, &s, def, v);
	w->scope = s.caller;
	w->calls--;
	return v;
}

static Val
elementwise_call(Lower *w, Ast *call, Prim op, Val *piped)
{
	Val v[3];
	Ast *at;
	int n = arg_count(call, piped);
	check_named(w, call, NULL, 0);
	if (n != prim_info[op].arity)
		lower_fail(w, call->loc, "%s takes %d argument%s, %d are given", call->s, prim_info[op].arity, plural(prim_info[op].arity), n);
	for (int i = 0; i < n; i++) {
		v[i] = arg_val(w, call, i, piped, &at);
		if (v[i].kind != V_NUM && v[i].kind != V_BOOL)
			need_tensor(w, at, &v[i]);
	}
	return apply_prim(w, call, op, v, n);
}

static void
unknown_call(Lower *w, Ast *call)
{
	const char *known[1024], *near;
	size_t n = 0;
	int ndef;
	Prim op;
	Ast **def = lib_defs(w->lib, &ndef);
	Var *x = lower_var(w, call->s);
	if (x && x->v.kind == V_TENSOR)
		lower_fail(w, call->loc, "'%s' is a tensor, not an op", call->s);
	for (int i = 0; i < ndef && n < LEN(known); i++)
		if (strcmp(def[i]->t, "grad"))
			known[n++] = def[i]->s;
	for (int i = 0; builtin_name(i) && n < LEN(known); i++)
		known[n++] = builtin_name(i);
	for (int i = 0; i < NPRIM && n < LEN(known); i++)
		if (prim_elementwise(prim_info[i].name, &op))
			known[n++] = prim_info[i].name;
	near = nearest_name(call->s, known, n);
	if (near)
		lower_fail(w, call->loc, "no op is called '%s'; did you mean '%s'?", call->s, near);
	lower_fail(w, call->loc, "no op is called '%s'", call->s);
}

/* Optimizers and schedules are called by the training step and by one another. */
static void
need_place(Lower *w, const Ast *def, Ast *call)
{
	bool step = call->nkid && is_hidden(call->kid[0]);
	if (strcmp(def->t, "optimizer") && strcmp(def->t, "schedule"))
		return;
	if (!step && !(w->scope->def && !strcmp(w->scope->def->t, def->t)))
		lower_fail(w, call->loc, "'%s' is %s: it stands under train, and not in an expression", def->s, def->t[0] == 'o' ? "an optimizer" : "a schedule");
}

Val
call_any(Lower *w, Ast *call, Val *piped)
{
	Val v;
	Prim op;
	Var *x = lower_var(w, call->s);
	if (w->raw && raw_call(w, call, &v))
		return v;
	if (x && x->v.kind == V_FN) { /* an op passed as an argument, by its name */
		Ast *f = arena_alloc(w->arena, sizeof *f);
		*f = *call;
		f->s = x->v.fn->s;
		call = f;
	}
	const Ast *def = lib_find(w->lib, call->s);
	if (def)
		need_place(w, def, call);
	if (def)
		return call_def(w, def, call, piped);
	Builtin b = builtin_find(call->s);
	if (b) {
		const char *hint = w->hint;
		builtin_check(w, call, piped);
		v = b(w, call, piped);
		w->hint = hint;
		if (v.kind == V_TENSOR)
			need_apart(w, call->loc, &v);
		return v;
	}
	if (prim_elementwise(call->s, &op))
		return elementwise_call(w, call, op, piped);
	unknown_call(w, call);
	return (Val){0};
}

bool
lower_call(Lower *w, const char *name, Val *args, int nargs, Ast *call, const char *prefix, Val *out)
{
	/* the positional arguments become variables of a scope that the call is evaluated in */
	static const char *const arg_name[] = {"'0", "'1", "'2", "'3", "'4", "'5", "'6", "'7"};
	Ast *c = arena_alloc(w->arena, sizeof *c);
	int extra = call && call->kind == A_CALL ? call->nkid : 0;
	*c = (Ast){.kind = A_CALL, .s = name, .loc = call ? call->loc : (Loc){0}, .nkid = nargs + extra};
	c->kid = arena_alloc(w->arena, (size_t)c->nkid * sizeof *c->kid);
	for (int i = 0; i < nargs; i++) {
		Ast *a = c->kid[i] = arena_alloc(w->arena, sizeof *a);
		*a = (Ast){.kind = A_NAME, .s = arg_name[i], .loc = c->loc};
		lower_bind(w, arg_name[i], args[i]);
	}
	for (int i = 0; i < extra; i++)
		c->kid[nargs + i] = call->kid[i];
	return lower_eval(w, c, prefix, out);
}
