/* Compile-time functions of the tensor language: what cannot be a library definition because it takes axis names,
   makes axes, or repeats. One row each in the table at the end. */
#include <stdlib.h>
#include <string.h>

#include "lower.h"

#define MAX_TENSORS 64 /* of one concat or stack */
#define MAX_STEP 65536 /* of a window or dilation */

static Val
tensor_arg(Lower *w, Ast *call, int i, Val *piped)
{
	Ast *at;
	Val v = arg_val(w, call, i, piped, &at);
	need_tensor(w, at, &v);
	return v;
}

/* The argument as written, for axis names. */
static Ast *
ast_arg(Lower *w, Ast *call, int i, Val *piped)
{
	if (piped)
		i--;
	for (int k = 0; call->kind == A_CALL && k < call->nkid; k++)
		if (call->kid[k]->kind != A_NAMED && i-- == 0)
			return call->kid[k];
	lower_fail(w, call->loc, "%s needs another argument", call->s);
}

/* Axes from positional arguments first..: each may name several. Outside of definitions ".." means all that x has. */
static Val
axes_args(Lower *w, Ast *call, int first, Val *piped, const Val *x)
{
	Val r = {.kind = V_AXES};
	int n = arg_count(call, piped);
	for (int i = first; i < n; i++) {
		Ast *a = ast_arg(w, call, i, piped);
		Val v = need_axes(w, a);
		for (int k = 0; k < v.nax; k++) {
			for (int j = 0; !strcmp(v.ax[k], "..") && j < x->node->nd; j++)
				axes_add(w, a->loc, &r, x->ax[j], -1);
			if (strcmp(v.ax[k], ".."))
				axes_add(w, a->loc, &r, v.ax[k], v.size[k]);
		}
	}
	return r;
}

static Val
reduce(Lower *w, Ast *call, Val *piped, Prim op)
{
	Val x = tensor_arg(w, call, 0, piped), axes = axes_args(w, call, 1, piped, &x);
	int64_t at[MAXDIM];
	const char *ax[MAXDIM];
	int n = 0, nd = 0;
	bool gone[MAXDIM] = {0};
	if (arg_count(call, piped) == 1 && x.node->nd)
		lower_fail(w, call->loc, "%s needs the axes to go over: %s(x, c), or %s(x, ..) for all of %s", call->s, call->s, call->s, axes_text(w, &x));
	for (int i = 0; i < axes.nax; i++)
		gone[need_axis(w, call->loc, &x, axes.ax[i])] = true;
	for (int i = 0; i < x.node->nd; i++) {
		if (gone[i])
			at[n++] = i;
		else
			ax[nd++] = x.ax[i];
	}
	if (x.node->dt == DT_BOOL)
		x.node = mk_cast(w->g, x.node, DT_F32);
	return val_tensor(mk_reduce(w->g, op, x.node, at, n), ax);
}

static Val
fn_sum(Lower *w, Ast *call, Val *piped)
{
	return reduce(w, call, piped, P_reduce_sum);
}

/* max(x, axis..) reduces; max(a, b) compares. */
static Val
max_or_min(Lower *w, Ast *call, Val *piped, Prim elementwise)
{
	Ast *at;
	Val v[2];
	if (arg_count(call, piped) == 2) {
		v[0] = arg_val(w, call, 0, piped, &at);
		Ast *second = ast_arg(w, call, 1, piped);
		if (second->kind != A_AXIS)
			v[1] = arg_val(w, call, 1, piped, &at);
		if (second->kind != A_AXIS && v[1].kind != V_AXES)
			return apply_prim(w, call, elementwise, v, 2);
	}
	if (elementwise == P_max)
		return reduce(w, call, piped, P_reduce_max);
	v[0] = tensor_arg(w, call, 0, piped);
	lower_fail(w, call->loc, "min over axes: write -max(-x, axis)");
}

static Val fn_max(Lower *w, Ast *call, Val *piped) { return max_or_min(w, call, piped, P_max); }
static Val fn_min(Lower *w, Ast *call, Val *piped) { return max_or_min(w, call, piped, P_min); }

/* size(x, axis..): elements along the axes; size(ids): how many ids there are. */
static Val
fn_size(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped), axes = axes_args(w, call, 1, piped, &x);
	int64_t n = 1;
	if (arg_count(call, piped) == 1) {
		if (!x.ids)
			lower_fail(w, call->loc, "how many ids there are is known of text, tags and category inputs only: give the size");
		return val_num((double)x.ids, true);
	}
	for (int i = 0; i < axes.nax; i++)
		n *= x.node->dim[need_axis(w, call->loc, &x, axes.ax[i])];
	return val_num((double)n, true);
}

/* split(x, c = (h: 4, d)): one axis becomes several; one size may be left out. */
static Val
fn_split(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	for (int k = 0; k < call->nkid; k++) {
		Ast *a = call->kid[k];
		if (a->kind != A_NAMED)
			continue;
		Val parts = need_axes(w, a->kid[0]);
		int axis = need_axis(w, a->loc, &x, lower_axis(w, a->s)), nd = 0, open = -1;
		int64_t dim[MAXDIM], known = 1;
		const char *ax[MAXDIM];
		if (x.node->nd + parts.nax - 1 > MAXDIM)
			lower_fail(w, a->loc, "more than %d axes", MAXDIM);
		for (int i = 0; i < parts.nax; i++) {
			if (parts.size[i] > x.node->dim[axis] / known)
				lower_fail(w, a->loc, "axis %s of %s does not split: its parts are larger than %ld", a->s, axes_text(w, &x), (long)x.node->dim[axis]);
			else if (parts.size[i] >= 0)
				known *= parts.size[i];
			else if (open >= 0)
				lower_fail(w, a->loc, "two parts of the split lack a size");
			else
				open = i;
		}
		if (open >= 0)
			parts.size[open] = x.node->dim[axis] / known;
		if (known * (open >= 0 ? parts.size[open] : 1) != x.node->dim[axis])
			lower_fail(w, a->loc, "axis %s of %s does not split: %ld is not %s%ld", a->s, axes_text(w, &x), (long)x.node->dim[axis],
			           open >= 0 ? "a multiple of " : "", (long)known);
		for (int i = 0; i < x.node->nd; i++) {
			for (int p = 0; i == axis && p < parts.nax; p++) {
				ax[nd] = parts.ax[p];
				dim[nd++] = parts.size[p];
			}
			if (i != axis) {
				ax[nd] = x.ax[i];
				dim[nd++] = x.node->dim[i];
			}
		}
		x = val_tensor(mk_reshape(w->g, x.node, dim, nd), ax);
	}
	return x;
}

/* merge(x, c = (h, d)): several axes become one, at the place of the first of them, in the order given. */
static Val
fn_merge(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	for (int k = 0; k < call->nkid; k++) {
		Ast *a = call->kid[k];
		if (a->kind != A_NAMED)
			continue;
		Val parts = need_axes(w, a->kid[0]);
		const char *order[MAXDIM];
		if (!parts.nax)
			lower_fail(w, a->loc, "merge needs the axes that become %s: merge(x, %s = (h, d))", a->s, a->s);
		int64_t dim[MAXDIM], size = 1;
		int n = 0, nd = 0, first = -1;
		bool gone[MAXDIM] = {0};
		for (int i = 0; i < parts.nax; i++) {
			int j = need_axis(w, a->loc, &x, parts.ax[i]);
			gone[j] = true;
			size *= x.node->dim[j];
		}
		for (int i = 0; i < x.node->nd; i++) {
			if (gone[i] && first >= 0)
				continue;
			if (gone[i])
				for (int p = (first = n, 0); p < parts.nax; p++)
					order[n++] = parts.ax[p];
			else
				order[n++] = x.ax[i];
		}
		x = permute_to(w, x, order);
		for (int i = 0; i < n; i++) {
			if (i > first && i < first + parts.nax)
				continue;
			order[nd] = i == first ? lower_axis(w, a->s) : x.ax[i];
			dim[nd++] = i == first ? size : x.node->dim[i];
		}
		x = val_tensor(mk_reshape(w->g, x.node, dim, nd), order);
	}
	return x;
}

static Val
fn_rename(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	for (int k = 0; k < call->nkid; k++) {
		Ast *a = call->kid[k];
		if (a->kind != A_NAMED)
			continue;
		const char *to = need_one_axis(w, a->kid[0]);
		if (find_axis(&x, to) >= 0)
			lower_fail(w, a->loc, "there is an axis %s already in %s", to, axes_text(w, &x));
		x.ax[need_axis(w, a->loc, &x, lower_axis(w, a->s))] = to;
	}
	return x;
}

/* All tensor arguments, a list among them opened. */
static int
tensor_args(Lower *w, Ast *call, Val *piped, Val *out, int max)
{
	int n = 0, given = arg_count(call, piped);
	Ast *at;
	for (int i = 0; i < given; i++) {
		Val v = arg_val(w, call, i, piped, &at);
		int m = v.kind == V_LIST ? v.nlist : 1;
		Val *p = v.kind == V_LIST ? v.list : &v;
		for (int k = 0; k < m; k++) {
			if (n == max)
				lower_fail(w, call->loc, "%s takes at most %d tensors", call->s, max);
			out[n] = p[k];
			need_tensor(w, at, &out[n++]);
		}
	}
	if (!n)
		lower_fail(w, call->loc, "%s needs tensors", call->s);
	return n;
}

/* Gives v every axis of `like` but `axis`, by repeating; and `axis` with size 1 where v lacks it. */
static Val
conform(Lower *w, Ast *call, Val v, const Val *like, const char *axis)
{
	int64_t dim[MAXDIM], map[MAXDIM];
	for (int i = 0; i < like->node->nd; i++) {
		int k = find_axis(&v, like->ax[i]);
		map[i] = k;
		dim[i] = k >= 0 ? v.node->dim[k] : strcmp(like->ax[i], axis) ? like->node->dim[i] : 1;
		if (strcmp(like->ax[i], axis) && dim[i] != like->node->dim[i])
			lower_fail(w, call->loc, "axis %s is %ld in %s, %ld in %s: %s%s", like->ax[i], (long)like->node->dim[i], axes_text(w, like),
			           (long)dim[i], axes_text(w, &v), *axis ? "they may differ only in axis " : "they must be equal", axis);
	}
	for (int i = 0; i < v.node->nd; i++)
		if (find_axis(like, v.ax[i]) < 0)
			lower_fail(w, call->loc, "axis %s is in %s, not in %s", v.ax[i], axes_text(w, &v), axes_text(w, like));
	need_count(w, call->loc, dim, like->node->nd);
	return val_tensor(mk_expand(w->g, v.node, dim, like->node->nd, map), like->ax);
}

/* concat(a, b, .., axis = c): along the last axis of the first tensor that has most axes, unless named. */
static Val
fn_concat(Lower *w, Ast *call, Val *piped)
{
	Val *v = arena_alloc(w->arena, MAX_TENSORS * sizeof *v); /* not on the stack: calls nest */
	Node **in = arena_alloc(w->arena, MAX_TENSORS * sizeof *in);
	int n = tensor_args(w, call, piped, v, MAX_TENSORS), widest = 0;
	Ast *axis = named_arg(call, "axis");
	for (int i = 1; i < n; i++)
		if (v[i].node->nd > v[widest].node->nd)
			widest = i;
	Val like = v[widest];
	if (like.node->nd == 0)
		lower_fail(w, call->loc, "concat of scalars: use stack");
	const char *name = axis ? need_one_axis(w, axis->kid[0]) : like.ax[like.node->nd - 1];
	int k = need_axis(w, call->loc, &like, name);
	DType dt = common_type(v, n);
	for (int i = 0; i < n; i++) {
		v[i] = conform(w, call, v[i], &like, name);
		in[i] = mk_cast(w->g, v[i].node, dt);
	}
	return val_tensor(mk_concat(w->g, in, n, k), like.ax);
}

/* stack(a, b, .., axis = m): a new axis before the last one (the only one that a scalar has). */
static Val
fn_stack(Lower *w, Ast *call, Val *piped)
{
	Val *v = arena_alloc(w->arena, MAX_TENSORS * sizeof *v); /* not on the stack: calls nest */
	Node **in = arena_alloc(w->arena, MAX_TENSORS * sizeof *in);
	int n = tensor_args(w, call, piped, v, MAX_TENSORS), nd = v[0].node->nd, place = nd ? nd - 1 : 0;
	Ast *axis = named_arg(call, "axis");
	const char *ax[MAXDIM], *name = axis ? need_one_axis(w, axis->kid[0]) : "m";
	int64_t dim[MAXDIM];
	DType dt = common_type(v, n);
	if (nd == MAXDIM || find_axis(&v[0], name) >= 0)
		lower_fail(w, call->loc, "the tensors have an axis %s already: name another with axis =", name);
	for (int i = 0, k = 0; i <= nd; i++) {
		ax[i] = i == place ? name : v[0].ax[k];
		dim[i] = i == place ? 1 : v[0].node->dim[k++];
	}
	for (int i = 0; i < n; i++) {
		Val c = conform(w, call, v[i], &v[0], "");
		in[i] = mk_reshape(w->g, mk_cast(w->g, c.node, dt), dim, nd + 1);
	}
	return val_tensor(mk_concat(w->g, in, n, place), ax);
}

/* repeat(n, op(..)): applies op n times; parameters of each turn are apart. */
static Val
fn_repeat(Lower *w, Ast *call, Val *piped)
{
	Ast *at;
	if (!piped || arg_count(call, piped) != 3)
		lower_fail(w, call->loc, "repeat stands in a pipe and takes a number and a call: x |> repeat(2, op(..))");
	Val count = arg_val(w, call, 1, piped, &at), x = *piped;
	int64_t n = need_int(w, at, &count, "the number of repeats");
	if (n < 0 || n > 1000)
		lower_fail(w, at->loc, "the number of repeats must be from 0 to 1000, this is %ld", (long)n);
	Ast *body = ast_arg(w, call, 2, piped);
	if (body->kind != A_CALL && body->kind != A_NAME)
		lower_fail(w, body->loc, "repeat needs a call to repeat");
	const char *prefix = w->scope->prefix, *base = lower_path(w, w->hint ? w->hint : body->s);
	for (int64_t i = 0; i < n; i++) {
		w->scope->prefix = base;
		w->hint = arena_printf(w->arena, "%ld", (long)i);
		x = call_any(w, body, &x);
	}
	w->scope->prefix = prefix;
	w->hint = NULL;
	return x;
}

Node *
random_step(Graph *g)
{
	Node *step = mk_state(g, graph_state(g, (GState){.name = "run.step", .dt = DT_I32, .space = SP_STAT, .fit = ""})), *part;
	if (g->parts <= 1)
		return step;
	part = mk_state(g, graph_state(g, (GState){.name = "run.part", .dt = DT_I32, .space = SP_STAT, .fit = ""}));
	step = mk_cast(g, step, DT_U32); /* wraps */
	return mk2(g, P_add, mk2(g, P_mul, step, mk_like(g, (double)g->parts, step)), mk_cast(g, part, DT_U32));
}

/* uniform(x): random numbers in [0, 1) shaped like x, fresh in every step, the same in the backward pass. */
static Val
fn_uniform(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	GState seed = {.name = "run.seed", .dt = DT_U32, .space = SP_STAT, .fit = ""};
	Node *in[2] = {mk_state(w->g, graph_state(w->g, seed)), random_step(w->g)};
	int64_t site = w->g->nsite++;
	return val_tensor(node_new(w->g, P_random, DT_F32, in, 2, x.node->dim, x.node->nd, &site, 1, 0), x.ax);
}

static Val
cast_to(Lower *w, Ast *call, Val *piped, DType dt)
{
	Val x = tensor_arg(w, call, 0, piped);
	x.node = mk_cast(w->g, x.node, dt);
	x.ids = 0; /* amounts from now on */
	return x;
}

static Val fn_float(Lower *w, Ast *call, Val *piped) { return cast_to(w, call, piped, DT_F32); }
static Val fn_int(Lower *w, Ast *call, Val *piped) { return cast_to(w, call, piped, DT_I32); }

/* index(x, t): 0, 1, .. along axis t. */
static Val
fn_index(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped), axes = axes_args(w, call, 1, piped, &x);
	if (axes.nax != 1)
		lower_fail(w, call->loc, "index(x, axis) takes one axis, these are %d", axes.nax);
	int64_t n = x.node->dim[need_axis(w, call->loc, &x, axes.ax[0])], axis = 0;
	return val_tensor(node_new(w->g, P_iota, DT_I32, NULL, 0, &n, 1, &axis, 1, 0), axes.ax);
}

/* pad(x, t, before, after): zeros along t. */
static Val
fn_pad(Lower *w, Ast *call, Val *piped)
{
	Ast *at;
	Val x = tensor_arg(w, call, 0, piped);
	const char *const what[] = {"the number of zeros before", "the number of zeros after"};
	int k = need_axis(w, call->loc, &x, need_one_axis(w, ast_arg(w, call, 1, piped)));
	int64_t lo[MAXDIM] = {0}, step[MAXDIM], dim[MAXDIM], zeros[2];
	for (int i = 0; i < x.node->nd; i++)
		step[i] = 1;
	for (int i = 0; i < 2; i++) {
		Val v = arg_val(w, call, 2 + i, piped, &at);
		zeros[i] = need_int(w, at, &v, what[i]);
		if (zeros[i] < 0)
			lower_fail(w, at->loc, "%s must not be negative, this is %ld", what[i], (long)zeros[i]);
	}
	memcpy(dim, x.node->dim, sizeof dim);
	lo[k] = zeros[0];
	dim[k] += zeros[0] + zeros[1];
	need_count(w, call->loc, dim, x.node->nd);
	return val_tensor(mk_pad(w->g, x.node, lo, step, dim), x.ax);
}

/* dilate(x, t, k): k - 1 zeros between neighbours along t. */
static Val
fn_dilate(Lower *w, Ast *call, Val *piped)
{
	Ast *at;
	Val x = tensor_arg(w, call, 0, piped), v = arg_val(w, call, 2, piped, &at);
	int k = need_axis(w, call->loc, &x, need_one_axis(w, ast_arg(w, call, 1, piped)));
	int64_t lo[MAXDIM] = {0}, step[MAXDIM], dim[MAXDIM], n = need_int(w, at, &v, "the factor of a dilation");
	if (n < 1 || n > MAX_STEP)
		lower_fail(w, at->loc, "the factor of a dilation must be from 1 to %d, this is %ld", MAX_STEP, (long)n);
	for (int i = 0; i < x.node->nd; i++) {
		step[i] = i == k ? n : 1;
		dim[i] = i == k && x.node->dim[i] ? (x.node->dim[i] - 1) * n + 1 : x.node->dim[i];
	}
	need_count(w, call->loc, dim, x.node->nd);
	return val_tensor(mk_pad(w->g, x.node, lo, step, dim), x.ax);
}

/* flip(x, t): the other way round along t. */
static Val
fn_flip(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	int k = need_axis(w, call->loc, &x, need_one_axis(w, ast_arg(w, call, 1, piped)));
	int64_t lo[MAXDIM] = {0}, step[MAXDIM];
	for (int i = 0; i < x.node->nd; i++)
		step[i] = i == k ? -1 : 1;
	if (x.node->dim[k])
		lo[k] = x.node->dim[k] - 1;
	return val_tensor(mk_slice(w->g, x.node, lo, step, x.node->dim), x.ax);
}

/* A new axis with a size, as in the example. */
static Val
new_axis(Lower *w, Ast *call, int i, Val *piped, const char *example)
{
	Val v = need_axes(w, ast_arg(w, call, i, piped));
	if (v.nax != 1 || v.size[0] < 0)
		lower_fail(w, call->loc, "a new axis with its size is needed here: %s", example);
	return v;
}

/* range(o: n): 0, 1, .. along a new axis. */
static Val
fn_range(Lower *w, Ast *call, Val *piped)
{
	Val o = new_axis(w, call, 0, piped, "range(o: 5)");
	if (o.size[0] > INT32_MAX)
		lower_fail(w, call->loc, "a range ends before 2^31");
	return val_tensor(node_new(w->g, P_iota, DT_I32, NULL, 0, o.size, 1, (int64_t[]){0}, 1, 0), o.ax);
}

/* spread(x, o: n): repeated along a new last axis. */
static Val
fn_spread(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped), o = new_axis(w, call, 1, piped, "spread(x, o: 5)");
	Axes u = {.n = x.node->nd};
	if (u.n == MAXDIM)
		lower_fail(w, call->loc, "more than %d axes", MAXDIM);
	for (int i = 0; i < u.n; i++)
		if (!strcmp(x.ax[i], o.ax[0]))
			lower_fail(w, call->loc, "spread over axis %s, which is there already: %s", o.ax[0], axes_text(w, &x));
	memcpy(u.ax, x.ax, sizeof u.ax);
	memcpy(u.dim, x.node->dim, sizeof u.dim);
	u.ax[u.n] = o.ax[0];
	u.dim[u.n++] = o.size[0];
	need_count(w, call->loc, u.dim, u.n);
	return expand_to(w, &x, &u);
}

/* Stride and dilation of window and fold. */
static void
window_options(Lower *w, Ast *call, int64_t *opt)
{
	static const char *const names[] = {"stride", "dilation"};
	for (int i = 0; i < 2; i++) {
		Ast *a = named_arg(call, names[i]);
		opt[i] = 1;
		if (!a)
			continue;
		Val v = lower_expr(w, a->kid[0]);
		opt[i] = need_int(w, a->kid[0], &v, names[i]);
		if (opt[i] < 1 || opt[i] > MAX_STEP)
			lower_fail(w, a->loc, "%s must be from 1 to %d, this is %ld", names[i], MAX_STEP, (long)opt[i]);
	}
}

/* window(x, t, w: k, stride = 1, dilation = 1): a new last axis w of the k elements that each place of t sees. */
static Val
fn_window(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped), win = new_axis(w, call, 2, piped, "window(x, t, w: 3)");
	const char *axis = need_one_axis(w, ast_arg(w, call, 1, piped)), *ax[MAXDIM];
	int64_t dim[MAXDIM], opt[2];
	int k = need_axis(w, call->loc, &x, axis), nd = x.node->nd;
	int64_t n = x.node->dim[k], size = win.size[0];
	window_options(w, call, opt);
	if (nd == MAXDIM)
		lower_fail(w, call->loc, "more than %d axes", MAXDIM);
	if (size > n || (size - 1) * opt[1] + 1 > n)
		lower_fail(w, call->loc, "a window of %ld (stride %ld, dilation %ld) does not fit axis %s of size %ld", (long)size, (long)opt[0], (long)opt[1], axis, (long)n);
	memcpy(dim, x.node->dim, sizeof dim);
	memcpy(ax, x.ax, sizeof ax);
	dim[k] = (n - (size - 1) * opt[1] - 1) / opt[0] + 1;
	dim[nd] = size;
	ax[nd] = win.ax[0];
	need_count(w, call->loc, dim, nd + 1);
	return val_tensor(node_new(w->g, P_window, 0, &x.node, 1, dim, nd + 1, (int64_t[]){k, opt[0], opt[1]}, 3, 0), ax);
}

/* fold(x, t, w, stride = 1, dilation = 1): windows w laid over one another along t and added, the adjoint of window. */
static Val
fn_fold(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	const char *axis = need_one_axis(w, ast_arg(w, call, 1, piped)), *win = need_one_axis(w, ast_arg(w, call, 2, piped)), *order[MAXDIM];
	int64_t dim[MAXDIM], opt[2];
	int last = need_axis(w, call->loc, &x, win), n = 0;
	window_options(w, call, opt);
	for (int i = 0; i < x.node->nd; i++)
		if (i != last)
			order[n++] = x.ax[i];
	order[n] = win;
	x = permute_to(w, x, order);
	int k = need_axis(w, call->loc, &x, axis);
	if (k == n)
		lower_fail(w, call->loc, "fold takes two axes: fold(x, %s, w)", axis);
	memcpy(dim, x.node->dim, sizeof dim);
	dim[k] = (dim[k] - 1) * opt[0] + (dim[n] - 1) * opt[1] + 1;
	need_count(w, call->loc, dim, n);
	if (x.node->dt == DT_BOOL)
		x.node = mk_cast(w->g, x.node, DT_F32);
	return val_tensor(node_new(w->g, P_fold, 0, &x.node, 1, dim, n, (int64_t[]){k, opt[0], opt[1]}, 3, 0), order);
}

/* has(x, c): whether x has the axis. */
static Val
fn_has(Lower *w, Ast *call, Val *piped)
{
	Val x = tensor_arg(w, call, 0, piped);
	return (Val){.kind = V_BOOL, .f = find_axis(&x, need_one_axis(w, ast_arg(w, call, 1, piped))) >= 0};
}

/* For a definition to say what its arguments must be. */
static Val
fn_fail(Lower *w, Ast *call, Val *piped)
{
	Ast *at;
	Val v = arg_val(w, call, 0, piped, &at);
	const Scope *s = w->scope;
	if (v.kind != V_STR)
		lower_fail(w, at->loc, "fail says what is wrong in a text: fail(\"p must be less than 1\")");
	lower_fail(w, call->loc, "%s: %s", s->def ? s->def->s : call->s, v.s);
}

/* Least and most positional arguments, and named ones: NULL if their names are axes, of which there must be one. */
static const struct {
	const char *name;
	Builtin fn;
	int least, most;
	const char *const *named;
	const char *usage;
} table[] = {
#define NONE (const char *const[]){NULL}
#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
	{"sum", fn_sum, 1, 1 + MAXDIM, NONE, "sum(x, axis ..)"},
	{"max", fn_max, 1, 1 + MAXDIM, NONE, "max(x, axis ..) or max(a, b)"},
	{"min", fn_min, 2, 2, NONE, "min(a, b)"},
	{"size", fn_size, 1, 1 + MAXDIM, NONE, "size(x, axis ..) or size(ids)"},
	{"split", fn_split, 1, 1, NULL, "split(x, c = (h: 4, d))"},
	{"merge", fn_merge, 1, 1, NULL, "merge(x, c = (h, d))"},
	{"rename", fn_rename, 1, 1, NULL, "rename(x, c = d)"},
	{"concat", fn_concat, 1, 64, NAMES("axis"), "concat(a, b, .., axis = c)"},
	{"stack", fn_stack, 1, 64, NAMES("axis"), "stack(a, b, .., axis = m)"},
	{"repeat", fn_repeat, 2, 3, NONE, "x |> repeat(2, op(..))"},
	{"uniform", fn_uniform, 1, 1, NONE, "uniform(x)"},
	{"float", fn_float, 1, 1, NONE, "float(x)"},
	{"int", fn_int, 1, 1, NONE, "int(x)"},
	{"index", fn_index, 2, 2, NONE, "index(x, axis)"},
	{"pad", fn_pad, 4, 4, NONE, "pad(x, axis, before, after)"},
	{"dilate", fn_dilate, 3, 3, NONE, "dilate(x, axis, 2)"},
	{"flip", fn_flip, 2, 2, NONE, "flip(x, axis)"},
	{"range", fn_range, 1, 1, NONE, "range(o: 5)"},
	{"spread", fn_spread, 2, 2, NONE, "spread(x, o: 5)"},
	{"window", fn_window, 3, 3, NAMES("stride", "dilation"), "window(x, axis, w: 3, stride = 1, dilation = 1)"},
	{"fold", fn_fold, 3, 3, NAMES("stride", "dilation"), "fold(x, axis, w, stride = 1, dilation = 1)"},
	{"has", fn_has, 2, 2, NONE, "has(x, axis)"},
	{"fail", fn_fail, 1, 1, NONE, "fail(\"what is wrong\")"},
#undef NONE
#undef NAMES
};

const char *builtin_name(int i) { return i < (int)LEN(table) ? table[i].name : NULL; }

void
builtin_check(Lower *w, Ast *call, Val *piped)
{
	size_t i = 0, n = 0;
	int given = arg_count(call, piped);
	while (strcmp(table[i].name, call->s))
		i++;
	while (table[i].named && table[i].named[n])
		n++;
	if (table[i].named)
		check_named(w, call, table[i].named, n);
	else if (call->kind != A_CALL || call->nkid == arg_count(call, NULL))
		lower_fail(w, call->loc, "%s needs to know what becomes of which axis: %s", call->s, table[i].usage);
	if (given < table[i].least || given > table[i].most)
		lower_fail(w, call->loc, "%s %s %d argument%s, %d %s given: %s", call->s, given < table[i].least ? "needs" : "takes only",
		           given < table[i].least ? table[i].least : table[i].most, (given < table[i].least ? table[i].least : table[i].most) == 1 ? "" : "s",
		           given, given == 1 ? "is" : "are", table[i].usage);
}

Builtin
builtin_find(const char *name)
{
	for (size_t i = 0; i < LEN(table); i++)
		if (!strcmp(table[i].name, name))
			return table[i].fn;
	return NULL;
}

bool
prim_elementwise(const char *name, Prim *op)
{
	for (int i = 0; i < NPRIM; i++)
		if (prim_info[i].kind == K_ELEM && !strcmp(prim_info[i].name, name) && i != P_cast && i != P_shuffle) {
			*op = (Prim)i;
			return true;
		}
	return false;
}
