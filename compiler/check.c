/* What each primitive asks of its operands, attributes and shape. Says it of nodes that others made: the reader of graph
   text (read.c) before it makes one, graph_verify of every node after every pass. Infers nothing: what node_new inferred
   is checked here a second time, from the comments of ops/prim.def. */
#include <stdio.h>
#include <string.h>

#include "mmc.h"

static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }

static bool
same_shape(const Node *a, const Node *b)
{
	return a->nd == b->nd && !memcmp(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim);
}

static const char *
check_dtype(const Node *n)
{
	const char *rule = prim_info[n->op].dtype;
	if (!strcmp(rule, "SAME"))
		return n->dt == n->in[0]->dt ? NULL : "has another type than its first operand";
	if (!strcmp(rule, "SECOND"))
		return n->dt == n->in[1]->dt ? NULL : "has another type than its second operand";
	if (!strcmp(rule, "BOOL"))
		return n->dt == DT_BOOL ? NULL : "is not bool";
	if (!strcmp(rule, "F32"))
		return n->dt == DT_F32 ? NULL : "is not f32";
	if (!strcmp(rule, "I32"))
		return n->dt == DT_I32 ? NULL : "is not i32";
	return NULL;
}

static const char *
check_elem(const Node *n)
{
	int first = n->op == P_select;
	for (int i = 0; i < n->nin; i++)
		if (!same_shape(n, n->in[i]))
			return "has another shape than its operands";
	for (int i = first + 1; i < n->nin && n->op != P_shuffle; i++)
		if (n->in[i]->dt != n->in[first]->dt)
			return "has operands of different types";
	if (first && n->in[0]->dt != DT_BOOL)
		return "does not choose by a bool";
	if ((n->op == P_and || n->op == P_or || n->op == P_not) && n->in[0]->dt != DT_BOOL)
		return "has operands that are not bool";
	if (n->op == P_mod && is_float(n->in[0]->dt))
		return "has operands that are not whole numbers";
	return NULL;
}

static const char *
check_leaf(const Node *n)
{
	bool given = n->op == P_param || n->op == P_state || n->op == P_input;
	if (n->op == P_const)
		return n->nat ? "has no attributes" : NULL;
	if (n->nat != 1 || n->at[0] < 0)
		return given ? "needs at=[index]" : "needs at=[axis]";
	if (n->op == P_iota && n->at[0] >= n->nd)
		return "counts along an axis that it does not have";
	return NULL;
}

static const char *
check_reshape(const Node *n)
{
	return node_count(n) == node_count(n->in[0]) ? NULL : "changes the number of elements";
}

/* Every dim of the operand in one place of the result; of expand, the other places repeat. */
static const char *
check_map(const Node *n)
{
	const Node *x = n->in[0];
	bool seen[MAXDIM] = {0};
	int found = 0;
	if (n->nat != n->nd)
		return "needs at=[..], one entry a dim of the result";
	for (int i = 0; i < n->nd; i++) {
		int64_t d = n->at[i];
		if (d == -1 && n->op == P_expand)
			continue;
		if (d < 0 || d >= x->nd || seen[d])
			return "has a dim of its operand twice, or one that there is not";
		if (x->dim[d] != n->dim[i])
			return "changes a size";
		seen[d] = true;
		found++;
	}
	return found == x->nd ? NULL : "drops a dim of its operand";
}

/* small's places, at[] first and step of each, inside large. */
static const char *
check_places(const Node *n, const Node *small, const Node *large)
{
	if (small->nd != large->nd || n->nat != 2 * n->nd)
		return "needs at=[..], first and step of each dim, and keeps their number";
	for (int i = 0; i < n->nd; i++) {
		int64_t lo = n->at[i], step = n->at[n->nd + i], size = large->dim[i], count = small->dim[i];
		if (step == 0 || (count && (lo < 0 || lo >= size)) || (count > 1 && (step > 0 ? step > (size - 1 - lo) / (count - 1) : -step > lo / (count - 1))))
			return "goes out of range";
	}
	return NULL;
}

static const char *check_slice(const Node *n) { return check_places(n, n, n->in[0]); }
static const char *check_pad(const Node *n) { return check_places(n, n->in[0], n); }

/* windows: [.., i at axis, .., j]; whole: what they look at. */
static const char *
check_windows(const Node *n, const Node *windows, const Node *whole)
{
	if (n->nat != 3 || n->at[0] < 0 || n->at[0] >= whole->nd || n->at[1] < 1 || n->at[2] < 1)
		return "needs at=[axis, stride, dilation]";
	if (windows->nd != whole->nd + 1)
		return "has one dim more for the windows";
	int64_t axis = n->at[0], count = windows->dim[axis], width = windows->dim[whole->nd], room = whole->dim[axis];
	for (int i = 0; i < whole->nd; i++)
		if (i != axis && windows->dim[i] != whole->dim[i])
			return "changes a size beside its axis";
	if (!count || !width)
		return NULL;
	bool past = count > room || width > room || (count > 1 && n->at[1] > (room - 1) / (count - 1)) ||
	            (width > 1 && n->at[2] > (room - 1) / (width - 1));
	return past || (count - 1) * n->at[1] + (width - 1) * n->at[2] >= room ? "has windows past the end" : NULL;
}

static const char *check_window(const Node *n) { return check_windows(n, n, n->in[0]); }
static const char *
check_fold(const Node *n)
{
	return n->dt == DT_BOOL ? "adds, and is not of bool" : check_windows(n, n->in[0], n);
}

static const char *
check_reduce(const Node *n)
{
	const Node *x = n->in[0];
	int kept = 0;
	if (n->dt == DT_BOOL && n->op == P_reduce_sum)
		return "adds, and is not of bool";
	for (int i = 0; i < n->nat; i++)
		if (n->at[i] < 0 || n->at[i] >= x->nd || (i && n->at[i - 1] >= n->at[i]))
			return "needs at=[axes], rising";
	if (n->nd != x->nd - n->nat)
		return "does not have the dims that stay";
	for (int i = 0, k = 0; i < x->nd; i++) {
		if (k < n->nat && n->at[k] == i)
			k++;
		else if (n->dim[kept++] != x->dim[i])
			return "does not have the dims that stay";
	}
	return NULL;
}

static const char *
check_dot(const Node *n)
{
	const Node *a = n->in[0], *b = n->in[1];
	const int64_t *la = n->at, *lb = la + a->nd, *lo = lb + b->nd;
	if (n->nat != a->nd + b->nd + n->nd)
		return "needs at=[..], a label for each dim of both operands and of the result";
	if (a->dt != b->dt)
		return "has operands of different types";
	for (int i = 0; i < n->nat; i++)
		if (n->at[i] < 0)
			return "has a negative label";
	for (int i = 0; i < a->nd; i++) {
		int k = find_label(lb, b->nd, la[i]);
		if (find_label(la, i, la[i]) >= 0)
			return "has a label twice in one tensor";
		if (k >= 0 && a->dim[i] != b->dim[k])
			return "has a label of two sizes";
	}
	for (int i = 0; i < b->nd; i++)
		if (find_label(lb, i, lb[i]) >= 0)
			return "has a label twice in one tensor";
	for (int i = 0; i < n->nd; i++) {
		int ka = find_label(la, a->nd, lo[i]), kb = find_label(lb, b->nd, lo[i]);
		if (find_label(lo, i, lo[i]) >= 0)
			return "has a label twice in one tensor";
		if (ka < 0 && kb < 0)
			return "has a label in the result alone";
		if (n->dim[i] != (ka >= 0 ? a->dim[ka] : b->dim[kb]))
			return "has a label of two sizes";
	}
	return NULL;
}

static const char *
check_gather(const Node *n)
{
	const Node *t = n->in[0], *ids = n->in[1];
	if (is_float(ids->dt) || ids->dt == DT_BOOL)
		return "has ids that are not whole numbers";
	if (t->nd < 1 || n->nd != ids->nd + t->nd - 1)
		return "does not have the dims of the ids, then those of a row";
	if (t->dim[0] < 1 && node_count(n))
		return "reads an empty table";
	for (int i = 0; i < n->nd; i++)
		if (n->dim[i] != (i < ids->nd ? ids->dim[i] : t->dim[i - ids->nd + 1]))
			return "does not have the dims of the ids, then those of a row";
	return NULL;
}

/* x has the dims of the ids, then those of a row, which the result has behind its first. */
static const char *
check_scatter_add(const Node *n)
{
	const Node *ids = n->in[0], *x = n->in[1];
	if (is_float(ids->dt) || ids->dt == DT_BOOL)
		return "has ids that are not whole numbers";
	if (n->nat || x->nd < ids->nd || n->nd != 1 + x->nd - ids->nd || (n->dim[0] < 1 && node_count(x)))
		return "does not have the rows that it adds";
	for (int i = 0; i < x->nd; i++)
		if (x->dim[i] != (i < ids->nd ? ids->dim[i] : n->dim[1 + i - ids->nd]))
			return "does not have the rows that it adds";
	return NULL;
}

static const char *
check_sort(const Node *n)
{
	const Node *ids = n->in[0];
	if (is_float(ids->dt) || ids->dt == DT_BOOL)
		return "has ids that are not whole numbers";
	if (n->nat != 1 || n->at[0] < 1 || n->nd != 1 || n->dim[0] - 1 - n->at[0] != 2 * node_count(ids))
		return "needs at=[rows], and has a place for each and two for each id";
	return NULL;
}

/* run_sum, row_sum: rows of what is added, by ids that were sorted. */
static const char *
check_sorted(const Node *n)
{
	const Node *sorted = n->in[0], *x = n->in[1];
	if (sorted->op != P_sort || n->nd < 1 || n->nd - 1 > x->nd)
		return "adds rows by a sort";
	for (int i = 1; i < n->nd; i++)
		if (n->dim[i] != x->dim[x->nd - n->nd + i])
			return "does not have the rows that it adds";
	return NULL;
}

static const char *check_scatter(const Node *n) { return n->op == P_scatter_add ? check_scatter_add(n) : check_sorted(n); }

static const char *
check_concat(const Node *n)
{
	int64_t sum = 0;
	if (n->nin < 1 || n->nat != 1 || n->at[0] < 0 || n->at[0] >= n->nd)
		return "needs operands and at=[axis]";
	for (int i = 0; i < n->nin; i++) {
		const Node *x = n->in[i];
		if (x->nd != n->nd || x->dt != n->dt)
			return "has operands of different types or numbers of dims";
		for (int d = 0; d < n->nd; d++)
			if (d != n->at[0] && x->dim[d] != n->dim[d])
				return "has operands of different sizes beside its axis";
		sum += x->dim[n->at[0]];
	}
	return sum == n->dim[n->at[0]] ? NULL : "is not as long as its operands together";
}

static const char *
check_random(const Node *n)
{
	if (n->nat != 1 || n->at[0] < 0 || n->at[0] > INT32_MAX - 1 || n->in[0]->nd || n->in[1]->nd)
		return "needs at=[site], and takes scalars: seed, step";
	return NULL;
}

static const char *
check_fetch(const Node *n)
{
	const Node *rows = n->in[0];
	if (n->nat != 1 || n->at[0] < 0 || n->at[0] > 255 || rows->nd != 1 || n->nd < 1 || n->nd > 2 || n->dim[0] != rows->dim[0])
		return "needs at=[column] and reads rows[n]: [n] or [n, width]";
	return NULL;
}

/* x is what a step has of it, with `outer` dims in front. */
static bool
fits_step(const Node *whole, int outer, DType dt, const int64_t *dim, int nd)
{
	return whole->dt == dt && whole->nd == nd + outer && !memcmp(whole->dim + outer, dim, (size_t)nd * sizeof *dim);
}

static const char *
check_scan(const Node *n)
{
	const Graph *b = n->body;
	int64_t nother = n->nat - 3, ncarry = n->nin - nother;
	if (n->nd || nother < 0 || ncarry < 1 || n->at[0] < 1 || n->at[1] < 0 || n->at[1] > 1 || n->at[2] != ncarry)
		return "needs at=[steps, reverse, carries, ..], then for each operand behind the carries whether it is a sequence";
	if (!b || b->ninput != n->nin || b->noutput < ncarry)
		return "has another number of carries in its body";
	for (int i = 0; i < b->nnode; i++)
		if (b->node[i]->op == P_random)
			return "has random numbers in its step: those of all steps are made before it";
	for (int i = 0; i < b->noutput; i++)
		if (b->output[i].node->nd == MAXDIM)
			return "has a value of too many dims: the results have one more";
	for (int i = 0; i < n->nin; i++) {
		const GInput *in = &b->input[i];
		bool seq = scan_is_seq(n, i);
		if (!fits_step(n->in[i], seq, in->dt, in->dim, in->nd) || (seq && n->in[i]->dim[0] != n->at[0]))
			return "has an operand that does not fit its body";
		if (i < ncarry && !fits_step(b->output[i].node, 0, in->dt, in->dim, in->nd))
			return "has a carry that changes its shape or type";
	}
	return NULL;
}

static const char *
check_result(const Node *n)
{
	const Node *scan = n->in[0];
	if (scan->op != P_scan || n->nat != 1 || n->at[0] < 0 || n->at[0] >= scan->body->noutput)
		return "needs a scan and at=[one of its carries and what it emits]";
	const Node *y = scan->body->output[n->at[0]].node;
	if (!fits_step(n, 1, y->dt, y->dim, y->nd) || n->dim[0] != scan_steps(scan) + (n->at[0] < scan_ncarry(scan)))
		return "is not [steps, ..] of what the scan emits, or [steps + 1, ..] of a carry";
	return NULL;
}

typedef const char *CheckFn(const Node *n);
/* By primitive, else by kind; none: only the type is checked. */
static CheckFn *const by_prim[NPRIM] = {
	[P_reshape] = check_reshape, [P_permute] = check_map, [P_expand] = check_map, [P_slice] = check_slice,
	[P_pad] = check_pad, [P_window] = check_window,
};
static CheckFn *const by_kind[] = {
	[K_ELEM] = check_elem, [K_LEAF] = check_leaf, [K_REDUCE] = check_reduce, [K_DOT] = check_dot, [K_GATHER] = check_gather,
	[K_SCATTER] = check_scatter, [K_SORT] = check_sort, [K_FOLD] = check_fold, [K_CONCAT] = check_concat, [K_RANDOM] = check_random, [K_FETCH] = check_fetch,
	[K_SCAN] = check_scan, [K_RESULT] = check_result,
};

const char *
node_check(const Node *n)
{
	const PrimInfo *p = &prim_info[n->op];
	CheckFn *fn = by_prim[n->op] ? by_prim[n->op] : (size_t)p->kind < LEN(by_kind) ? by_kind[p->kind] : NULL;
	const char *msg = NULL;
	if (p->arity >= 0 && n->nin != p->arity)
		return "has another number of operands";
	for (int i = 0; i < n->nd; i++)
		if (n->dim[i] < 0)
			return "has a negative size";
	if (n->nin || n->op == P_iota)
		msg = check_dtype(n);
	return msg || !fn ? msg : fn(n);
}
