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

/* n elements of a list from one on */
static Val
fn_take(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM], from = need_int(w, at, &a[1], "a place"), n = need_int(w, at, &a[2], "a length");
	int have = ints(w, at, &a[0], v);
	if (from < 0 || n < 0 || from + n > have)
		lower_fail(w, at->loc, "take is outside the list");
	return list_of(w, v + from, (int)n);
}

/* a slice's attribute: offsets and steps of 1 */
static Val
fn_from(Lower *w, Val *a, Ast *at)
{
	int64_t v[3 * MAXDIM];
	int n = ints(w, at, &a[0], v);
	if (n > MAXDIM)
		lower_fail(w, at->loc, "from takes at most %d offsets", MAXDIM);
	for (int i = 0; i < n; i++)
		v[n + i] = 1;
	return list_of(w, v, 2 * n);
}

static const struct {
	const char *name;
	int args;
	Val (*fn)(Lower *, Val *, Ast *);
} list_fn[] = {{"shape", 1, fn_shape}, {"rank", 1, fn_rank}, {"count", 1, fn_count}, {"inverse", 1, fn_inverse},
               {"missing", 1, fn_missing}, {"present", 1, fn_present}, {"unreduce", 2, fn_unreduce}, {"take", 3, fn_take},
               {"from", 1, fn_from}};

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

/* What a slice with steps read goes back to its places: fold of windows of one element, axis by axis. */
static void
grad_slice(Lower *w, Node *n, Node *g, Node **d)
{
	const Node *x = n->in[0];
	int64_t dim[MAXDIM + 1];
	for (int i = 0; i < n->nd; i++) {
		if (n->at[n->nd + i] == 1 || n->dim[i] < 2)
			continue;
		memcpy(dim, g->dim, sizeof g->dim);
		dim[n->nd] = 1;
		Node *one = mk_reshape(w->g, g, dim, n->nd + 1);
		dim[i] = (n->dim[i] - 1) * n->at[n->nd + i] + 1;
		g = node_new(w->g, P_fold, 0, &one, 1, dim, n->nd, (int64_t[]){i, n->at[n->nd + i], 1}, 3, 0);
	}
	d[0] = mk_pad(w->g, g, n->at, x->dim);
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
	if (n->op == P_concat || n->op == P_slice) {
		(n->op == P_concat ? grad_concat : grad_slice)(w, n, g, d);
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
