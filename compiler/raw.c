/* Primitives called directly, by position, in gradient rules. Tensors are positional arguments,
   attributes are at=[..], a shape is dim=[..]; a few functions of integer lists compute them. */
#include <stdlib.h>
#include <string.h>

#include "lower.h"

Val
val_raw(Lower *w, Node *n)
{
	static const char *const pos[MAXDIM] = {"0", "1", "2", "3", "4", "5", "6", "7"};
	(void)w;
	return val_tensor(n, pos);
}

static Val
list_of(Lower *w, const int64_t *v, int n)
{
	Val r = {.kind = V_LIST, .nlist = n};
	r.list = arena_alloc(w->arena, (size_t)n * sizeof *r.list);
	for (int i = 0; i < n; i++)
		r.list[i] = val_num((double)v[i], true);
	return r;
}

static int
ints(Lower *w, Ast *at, const Val *v, int64_t *out)
{
	if (v->kind != V_LIST || v->nlist > 3 * MAXDIM)
		lower_fail(w, at->loc, "a list of whole numbers is needed here");
	for (int i = 0; i < v->nlist; i++)
		out[i] = need_int(w, at, &v->list[i], "an element");
	return v->nlist;
}

static Val
fn_shape(Lower *w, Val *a, Ast *at)
{
	Node *n = need_tensor(w, at, &a[0]);
	return list_of(w, n->dim, n->nd);
}

static Val
fn_rank(Lower *w, Val *a, Ast *at)
{
	return val_num(need_tensor(w, at, &a[0])->nd, true);
}

static Val
fn_count(Lower *w, Val *a, Ast *at)
{
	return val_num((double)node_count(need_tensor(w, at, &a[0])), true);
}

/* inverse of a permutation */
static Val
fn_inverse(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM], r[3 * MAXDIM];
	int n = ints(w, at, &a[0], v);
	memset(r, 0, sizeof r);
	for (int i = 0; i < n; i++) {
		if (v[i] < 0 || v[i] >= n)
			lower_fail(w, at->loc, "inverse of a list that is no permutation");
		r[v[i]] = i;
	}
	return list_of(w, r, n);
}

/* places of the negative elements */
static Val
fn_missing(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM], r[3 * MAXDIM];
	int n = ints(w, at, &a[0], v), k = 0;
	for (int i = 0; i < n; i++)
		if (v[i] < 0)
			r[k++] = i;
	return list_of(w, r, k);
}

/* the elements that are not negative */
static Val
fn_present(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM], r[3 * MAXDIM];
	int n = ints(w, at, &a[0], v), k = 0;
	for (int i = 0; i < n; i++)
		if (v[i] >= 0)
			r[k++] = v[i];
	return list_of(w, r, k);
}

/* the expand map that undoes a reduction of x over the axes */
static Val
fn_unreduce(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM], r[MAXDIM];
	int n = ints(w, at, &a[0], v), k = 0, out = 0;
	Node *x = need_tensor(w, at, &a[1]);
	for (int i = 0; i < x->nd; i++)
		r[i] = k < n && v[k] == i ? (k++, -1) : out++;
	return list_of(w, r, x->nd);
}

static const struct {
	const char *name;
	int args;
	Val (*fn)(Lower *, Val *, Ast *);
} list_fn[] = {{"shape", 1, fn_shape}, {"rank", 1, fn_rank}, {"count", 1, fn_count}, {"inverse", 1, fn_inverse},
               {"missing", 1, fn_missing}, {"present", 1, fn_present}, {"unreduce", 2, fn_unreduce}};

/* ---- attributes ---- */

/* Fails with the words of the condition that does not hold: they are for people who write primitives by hand. */
static void
need(Lower *w, Ast *call, const char *what, bool ok)
{
	if (!ok)
		lower_fail(w, call->loc, "%s: its operands, dim and at do not fit: %s", call->s, what);
}

/* Whether dims a and b are equal but for axis. */
static bool
same_but(const Node *a, const int64_t *dim, int nd, int64_t axis)
{
	bool ok = a->nd == nd;
	for (int i = 0; ok && i < nd; i++)
		ok = i == axis || a->dim[i] == dim[i];
	return ok;
}

static void
check_view(Lower *w, Ast *call, int op, const Node *x, const int64_t *dim, int rank, const int64_t *at, int nat)
{
	int64_t count = 1, seen = 0;
	for (int i = 0; i < rank; i++)
		count *= dim[i];
	if (op == P_reshape) {
		need(w, call, "dim has as many elements as the operand", count == node_count(x));
	} else if (op == P_permute) {
		need(w, call, "at has an axis for each of the operand's", nat == x->nd);
		for (int i = 0; i < nat; i++)
			seen |= at[i] >= 0 && at[i] < nat ? 1 << at[i] : 0;
		need(w, call, "at is a permutation", seen == (1 << nat) - 1);
	} else if (op == P_expand) {
		need(w, call, "at has an entry for each of dim", nat == rank);
		for (int i = 0; i < nat; i++)
			need(w, call, "at names axes of the operand, of the sizes in dim, or -1", at[i] == -1 || (at[i] >= 0 && at[i] < x->nd && x->dim[at[i]] == dim[i]));
	} else if (op == P_slice || op == P_pad) {
		need(w, call, "dim and both halves of at have an entry for each axis", rank == x->nd && nat == 2 * rank);
		for (int i = 0; i < rank; i++) {
			int64_t small = op == P_slice ? dim[i] : x->dim[i], large = op == P_slice ? x->dim[i] : dim[i], last = at[i] + (small - 1) * at[rank + i];
			need(w, call, "the smaller lies in the larger", at[rank + i] != 0 && (!small || (at[i] >= 0 && at[i] < large && last >= 0 && last < large)));
		}
	}
}

/* window: dim[axis] and dim[last] count places; fold is the other way round. */
static void
check_window(Lower *w, Ast *call, bool fold, const Node *x, const int64_t *dim, int rank, const int64_t *at, int nat)
{
	const int64_t *large = fold ? dim : x->dim, *small = fold ? x->dim : dim;
	int nd = fold ? rank : x->nd;
	need(w, call, "dim has one axis more or less", rank == x->nd + (fold ? -1 : 1));
	need(w, call, "at is an axis, a stride and a dilation", nat == 3 && at[0] >= 0 && at[0] < nd && at[1] > 0 && at[2] > 0);
	for (int i = 0; i < nd; i++)
		need(w, call, "the other axes keep their sizes", i == at[0] || large[i] == small[i]);
	need(w, call, "the windows are inside", small[nd] > 0 && small[at[0]] > 0 && (small[at[0]] - 1) * at[1] + (small[nd] - 1) * at[2] < large[at[0]]);
}

static void
check_dot(Lower *w, Ast *call, const Node *a, const Node *b, const int64_t *at, int nat)
{
	int nin = a->nd + b->nd;
	need(w, call, "at has a label for each axis, then those of the result", nat >= nin && nat - nin <= MAXDIM);
	for (int i = 0; i < nat; i++) {
		bool found = false;
		int64_t size = i < a->nd ? a->dim[i] : i < nin ? b->dim[i - a->nd] : -1;
		for (int k = 0; k < nin; k++) {
			found = found || at[k] == at[i];
			need(w, call, "axes of one label have one size", at[k] != at[i] || size < 0 || size == (k < a->nd ? a->dim[k] : b->dim[k - a->nd]));
		}
		need(w, call, "the labels of the result are the operands'", found);
	}
}

/* What node_new takes on trust, since passes get it right. */
static void
check_raw(Lower *w, Ast *call, int op, Node **in, int nin, const int64_t *dim, int rank, const int64_t *at, int nat)
{
	const Node *x = nin ? in[0] : NULL;
	int limit[] = {[P_state] = w->g->nstate, [P_param] = w->g->nparam, [P_input] = w->g->ninput};
	need(w, call, "at most 8 axes", rank <= MAXDIM);
	for (int i = 0; i < rank; i++)
		need(w, call, "no negative size", dim[i] >= 0);
	switch (prim_info[op].kind) {
	case K_VIEW:
		if (op == P_window)
			check_window(w, call, false, x, dim, rank, at, nat);
		else
			check_view(w, call, op, x, dim, rank, at, nat);
		break;
	case K_FOLD: check_window(w, call, true, x, dim, rank, at, nat); break;
	case K_DOT: check_dot(w, call, in[0], in[1], at, nat); break;
	case K_REDUCE:
		for (int i = 0; i < nat; i++)
			need(w, call, "at is axes of the operand, in order", at[i] >= 0 && at[i] < x->nd && (!i || at[i - 1] < at[i]));
		break;
	case K_GATHER:
		need(w, call, "a table with rows, and whole numbers", x->nd && in[1]->dt != DT_F32 && x->nd - 1 + in[1]->nd <= MAXDIM);
		break;
	case K_SCATTER:
		need(w, call, "whole numbers, and a value for each", x->dt != DT_F32 && in[1]->nd >= x->nd && rank == in[1]->nd - x->nd + 1);
		break;
	case K_CONCAT:
		need(w, call, "at is an axis", nin && nat == 1 && at[0] >= 0 && at[0] < x->nd);
		for (int i = 1; i < nin; i++)
			need(w, call, "the other axes have equal sizes", same_but(x, in[i]->dim, in[i]->nd, at[0]));
		break;
	default:
		need(w, call, "at has a number", !*prim_info[op].attr || op == P_const || nat >= 1);
		if (op == P_state || op == P_param || op == P_input)
			need(w, call, "at is the number of one that there is", at[0] >= 0 && at[0] < limit[op]);
	}
}

static Node *
raw_node(Lower *w, Ast *call)
{
	int op = 0, nin = 0, nat = 0, nd = 0, n = arg_count(call, NULL);
	DType dt = DT_F32;
	int64_t at[3 * MAXDIM], dim[3 * MAXDIM];
	Node **in = arena_alloc(w->arena, (size_t)n * sizeof *in);
	Ast *a, *named;
	double f = 0;
	while (strcmp(prim_info[op].name, call->s))
		op++;
	if (op == P_const) {
		Val v = arg_val(w, call, 0, NULL, &a);
		f = need_num(w, a, &v, "a constant");
		n = 0;
	}
	for (int i = 0; i < n; i++) {
		Val v = arg_val(w, call, i, NULL, &a);
		in[nin++] = need_tensor(w, a, &v);
	}
	if ((named = named_arg(call, "at"))) {
		Val v = lower_expr(w, named->kid[0]);
		nat = ints(w, named, &v, at);
	}
	if ((named = named_arg(call, "dim"))) {
		Val v = lower_expr(w, named->kid[0]);
		nd = ints(w, named, &v, dim);
	}
	if ((named = named_arg(call, "like"))) {
		Val v = lower_expr(w, named->kid[0]);
		dt = need_tensor(w, named, &v)->dt;
	}
	if (prim_info[op].arity >= 0 && nin != prim_info[op].arity)
		lower_fail(w, call->loc, "%s takes %d tensors, these are %d", call->s, prim_info[op].arity, nin);
	check_raw(w, call, op, in, nin, dim, nd, at, nat);
	return node_new(w->g, (Prim)op, dt, in, nin, dim, nd, at, nat, f);
}

bool
raw_call(Lower *w, Ast *call, Val *out)
{
	Val a[4];
	Ast *at;
	for (size_t i = 0; i < LEN(list_fn); i++) {
		if (strcmp(list_fn[i].name, call->s))
			continue;
		if (arg_count(call, NULL) != list_fn[i].args)
			lower_fail(w, call->loc, "%s takes %d arguments", call->s, list_fn[i].args);
		for (int k = 0; k < list_fn[i].args; k++)
			a[k] = arg_val(w, call, k, NULL, &at);
		*out = list_fn[i].fn(w, a, call);
		return true;
	}
	for (int i = 0; i < NPRIM; i++) {
		/* elementwise ones take numbers, too, and go the ordinary way */
		if (strcmp(prim_info[i].name, call->s) || (prim_info[i].kind == K_ELEM && i != P_cast))
			continue;
		*out = val_raw(w, raw_node(w, call));
		return true;
	}
	return false;
}

/* concat has any number of operands: each gets its slice. */
static void
grad_concat(Lower *w, Node *n, Node *g, Node **d)
{
	int64_t lo[MAXDIM] = {0}, step[MAXDIM], axis = n->at[0];
	for (int i = 0; i < n->nd; i++)
		step[i] = 1;
	for (int i = 0; i < n->nin; i++) {
		d[i] = mk_slice(w->g, g, lo, step, n->in[i]->dim);
		lo[axis] += n->in[i]->dim[axis];
	}
}

static const char *
dims_text(Lower *w, const Node *n)
{
	const char *s = "";
	for (int i = 0; i < n->nd; i++)
		s = arena_printf(w->arena, "%s%s%ld", s, i ? ", " : "", (long)n->dim[i]);
	return s;
}

/* The adjoints that a rule set, as shapes and types of the operands. */
static void
take_adjoints(Lower *w, const Ast *rule, const Node *n, Node **d)
{
	char name[64];
	int set = 0;
	for (int i = 0; i < n->nin; i++) {
		const Node *x = n->in[i];
		snprintf(name, sizeof name, "d%.60s", rule->kid[i + 1]->s);
		Var *v = lower_var(w, name);
		if (!v || v->v.kind != V_TENSOR)
			continue;
		set++;
		d[i] = v->v.node;
		if (d[i]->nd != x->nd || (x->nd && memcmp(d[i]->dim, x->dim, (size_t)x->nd * sizeof *x->dim)) || d[i]->dt != x->dt)
			lower_fail(w, rule->loc, "the gradient rule of %s: %s must be as its operand %s[%s], it is %s[%s]", rule->s, name, dtype_name(x->dt),
			           dims_text(w, x), dtype_name(d[i]->dt), dims_text(w, d[i]));
	}
	if (!set && rule->kid[0]->nkid)
		lower_fail(w, rule->loc, "the gradient rule of %s sets no d%s: the adjoint of operand x is called dx", rule->s, rule->kid[1]->s);
}

/* An error in a rule (of a user's, in an .op file) is reported in its place, and the adjoints are NULL. */
void
lower_grad(Lower *w, Node *n, Node *g, Node **d)
{
	jmp_buf bail;
	const Ast *rule = lib_find_grad(w->lib, prim_info[n->op].name);
	Scope s = {.def = rule, .call = n->loc};
	memset(d, 0, (size_t)n->nin * sizeof *d);
	if (n->op == P_concat) {
		grad_concat(w, n, g, d);
		return;
	}
	if (!rule || rule->nkid - 1 != n->nin) {
		if (rule)
			error_at(rule->loc, "the gradient rule of %s has %d operands, %s has %d", rule->s, rule->nkid - 1, rule->s, n->nin);
		else
			error_at(n->loc, "no gradient rule for %s: the op library (--ops) lacks its `grad %s`", prim_info[n->op].name, prim_info[n->op].name);
		return;
	}
	w->bail = &bail;
	w->scope = &s;
	w->raw = true;
	w->g->loc = n->loc;
	w->g->model = n->model;
	if (setjmp(bail)) {
		memset(d, 0, (size_t)n->nin * sizeof *d);
	} else {
		for (int i = 0; i < n->nin; i++)
			lower_let(w, rule->kid[i + 1]->s, val_raw(w, n->in[i]), -1);
		lower_let(w, "y", val_raw(w, n), -1);
		lower_let(w, "g", val_raw(w, g), -1);
		lower_let(w, "at", list_of(w, n->at, n->nat), -1);
		lower_block(w, rule->kid[0]);
		take_adjoints(w, rule, n, d);
	}
	w->raw = false;
	w->scope = NULL;
}
