/* Tile kernels: matrix products whose operand is computed where it is used, from other products and reductions over the
   same places. So attention needs no t x s matrix in memory, forward or backward:

     a[t,s] = sum(q[t,d] k[s,d], d)    p = exp(a - max(a, s)) ..    y[t,d] = sum(p[t,s] v[s,d], s)
     outer axes: batch, then t; the row axis s is walked in tiles; a is LV_DOT, y a store with a matrix (loop.h)

   Whatever is elementwise over [t,s] comes along (masks, dropout, scales), and reductions over s. The gradients have the
   same form: dq with rows t; dk and dv with rows s, summed over t, reading the reductions that the others stored.
   Where a mask makes the products exact zeros, whole tiles are left out; what infinities and NaN do there: tile_skip.c.
   The matrices are bf16, their rows contiguous. The kernels: emit_tile.c. */
#include <string.h>

#include "ix.h"

enum { A, B };

/* Dims of a product by their part in it: batch, one row, one column, one summed dim. */
typedef struct Roles {
	int64_t m, n, k;  /* labels: of the first operand and the result, of the second, summed; -1 if not one */
	int64_t sizes[3];
} Roles;

static bool
roles_of(const Node *dot, Roles *r)
{
	const int64_t *lc = dot_labels(dot, 2);
	*r = (Roles){-1, -1, -1, {0}};
	for (int side = A; side <= B; side++) {
		const Node *x = dot->in[side], *y = dot->in[!side];
		const int64_t *lx = dot_labels(dot, side), *ly = dot_labels(dot, !side);
		for (int i = 0; i < x->nd; i++) {
			bool kept = find_label(lc, dot->nd, lx[i]) >= 0, other = find_label(ly, y->nd, lx[i]) >= 0;
			int64_t *l = kept ? (side == A ? &r->m : &r->n) : &r->k;
			if ((kept && other) || *l == lx[i]) /* batch; or summed, seen before */
				continue;
			if (*l >= 0 || (!kept && !other))
				return false;
			*l = lx[i];
			r->sizes[kept ? side : 2] = x->dim[i];
		}
	}
	return r->m >= 0 && r->n >= 0 && r->k >= 0;
}

static int64_t
batches(const Node *dot, const Roles *r)
{
	return node_count(dot) / (r->sizes[0] * r->sizes[1]);
}

bool
in_memory(const Fusion *f, Node *x, Node **root, int64_t *off, int64_t *stride)
{
	Node *q = x;
	while (prim_info[q->op].kind == K_VIEW && (q->op == P_permute || q->op == P_slice || q->op == P_reshape))
		q = q->in[0];
	bool was = f->stored[q->id], leaf = prim_info[q->op].kind == K_LEAF || prim_info[q->op].kind == K_VIEW;
	if (!was && (leaf || (f->home[q->id] != UNDECIDED))) {
		if (q->op != P_state && q->op != P_input)
			return false;
	}
	f->stored[q->id] = true;
	bool ok = strided(f, x, root, off, stride);
	f->stored[q->id] = was;
	return ok;
}

/* Rows of the operand are contiguous along the label, at places divisible by 8. */
static bool
matrix_ok(const Fusion *f, const Node *dot, int side, int64_t label)
{
	Node *x = dot->in[side], *root;
	int64_t off, s[MAXDIM];
	int along = find_label(dot_labels(dot, side), x->nd, label);
	if (x->dt != DT_BF16 || !in_memory(f, x, &root, &off, s) || s[along] != 1 || off % 8 || f->layout[root->id].off % 8)
		return false;
	for (int i = 0; i < x->nd; i++)
		if (i != along && s[i] % 8)
			return false;
	return x->dim[along] % 16 == 0 && x->dim[along] <= 128;
}

bool
tile_inner(const Fusion *f, const Node *dot)
{
	Roles r;
	return dot->dt == DT_BF16 && roles_of(dot, &r) && batches(dot, &r) >= 16 && r.sizes[0] % 16 == 0 && r.sizes[1] % 16 == 0 &&
	       matrix_ok(f, dot, A, r.k) && matrix_ok(f, dot, B, r.k);
}

/* Is there a product of n's places among what n is computed from, place by place and by reductions? */
static bool
made_of_product(const Fusion *f, const Node *n, int64_t count, int depth)
{
	Kind k = prim_info[n->op].kind;
	if (k == K_DOT)
		return node_count(n) == count && tile_inner(f, n);
	if (depth == 0 || (k != K_ELEM && k != K_REDUCE && n->op != P_expand))
		return false;
	for (int i = 0; i < n->nin; i++)
		if (made_of_product(f, n->in[i], count, depth - 1))
			return true;
	return false;
}

int
tile_output(const Fusion *f, const Node *dot)
{
	Roles r;
	if (!f->cuda || !f->fuse || (dot->dt != DT_BF16 && dot->dt != DT_F32) || !roles_of(dot, &r) || batches(dot, &r) < 16)
		return -1;
	for (int side = A; side <= B; side++) { /* the computed operand */
		const Node *p = dot->in[side];
		int64_t rows = r.sizes[side], width = r.sizes[!side], sum = r.sizes[2];
		int place = find_label(dot_labels(dot, 2), dot->nd, side == A ? r.n : r.m);
		if (p->dt != DT_BF16 || prim_info[p->op].kind != K_ELEM || rows % 16 || sum % 16 || width % 16 || width > 128)
			continue;
		if (f->layout[dot->id].stride[place] == 1 && matrix_ok(f, dot, !side, side == A ? r.n : r.m) && made_of_product(f, p, node_count(p), 16))
			return side;
	}
	return -1;
}

/* ---- lowering ---- */

/* The operand's rows at the given index of each label; the label along the rows is left out. */
static bool
matrix_at(Kernel *k, const Node *dot, int side, int64_t along, const int64_t *label, const Ix *const *at, int n, Matrix *m)
{
	Node *x = dot->in[side];
	const int64_t *lx = dot_labels(dot, side);
	int64_t off, s[MAXDIM];
	if (!in_memory(k->fusion, x, &m->base, &off, s))
		return false;
	m->ix = ix_const(k, off);
	for (int i = 0; i < x->nd; i++) {
		if (lx[i] == along) {
			m->width = x->dim[i];
			continue;
		}
		int j = find_label(label, n, lx[i]);
		if (j < 0)
			return false;
		m->ix = ix_addmul(k, m->ix, at[j], s[i]);
	}
	return true;
}

static int
bare_axis(const Ix *ix)
{
	return ix->n == 1 && ix->c == 0 && ix->t[0].k == 1 && ix->t[0].a->kind == AT_AXIS ? ix->t[0].a->axis : -1;
}

LVal *
lower_tile_dot(Kernel *k, Node *dot, const Ix **idx)
{
	const int64_t *lc = dot_labels(dot, 2);
	Matrix *m = arena_alloc(k->arena, 2 * sizeof *m);
	Roles r;
	LVal v = {.kind = LV_DOT, .node = dot, .dt = dot->dt, .dot = m, .cost = 30, .axes = 3u << (k->nouter - 1)};
	int rows = -1; /* the side whose row is the last outer axis */
	if (!k->tile || !roles_of(dot, &r)) {
		give_up(k, "a matrix product inside");
		return val_new(k, (LVal){.kind = LV_CONST, .node = dot, .dt = dot->dt});
	}
	for (int i = 0; i < dot->nd; i++) {
		int axis = bare_axis(idx[i]);
		bool batch = lc[i] != r.m && lc[i] != r.n;
		if (dot->dim[i] > 1 && (axis < 0 || batch != (axis < k->nouter - 1)))
			give_up(k, "a matrix product of other places");
		if (!batch && axis == k->nouter - 1)
			rows = lc[i] == r.m ? A : B;
	}
	if (rows < 0 || !matrix_at(k, dot, rows, r.k, lc, idx, dot->nd, &m[0]) || !matrix_at(k, dot, !rows, r.k, lc, idx, dot->nd, &m[1]))
		give_up(k, "a matrix product of other places");
	for (int i = 0; i < k->nval && !k->fail; i++) /* one way round in a kernel */
		if (k->val[i]->kind == LV_DOT && k->val[i]->node == dot && k->val[i]->dot[0].ix != m[0].ix)
			give_up(k, "a matrix product by rows and by columns");
	return val_new(k, v);
}

static LVal *
like(Kernel *k, const LVal *v, LVal *a, LVal *b, LVal *c)
{
	return val_new(k, (LVal){.kind = LV_PRIM, .node = v->node, .dt = v->dt, .nin = v->nin, .in = {a, b, c}, .cost = v->cost});
}

static bool is_zero(const LVal *v) { return v->kind == LV_CONST && v->f == 0; }

/* v without the factors that are the same all along the row; they are gathered in *scale (NULL: 1), so that the sum of products is
   multiplied by them once. What waits for them does no longer: p = e * (1 / sum(e)) needs no walk after that of the sum.

     cast(select(c, e * r * 1.25, 0))  ->  cast(select(c, e, 0)), scale r * 1.25  */
static LVal *
without_factors(Kernel *k, LVal *v, LVal **scale)
{
	Prim op = v->node->op;
	LVal *const *in = v->in;
	unsigned row = ~0u << k->nouter;
	if (v->kind != LV_PRIM || !(v->axes & row))
		return v;
	if (op == P_mul && v->dt == DT_F32) {
		for (int i = 0; i < 2; i++)
			if (!(in[i]->axes & row)) {
				*scale = *scale ? like(k, v, *scale, in[i], NULL) : in[i];
				return without_factors(k, in[!i], scale);
			}
		LVal *a = without_factors(k, in[0], scale);
		return like(k, v, a, without_factors(k, in[1], scale), NULL);
	}
	if (op == P_select && is_zero(in[2]))
		return like(k, v, in[0], without_factors(k, in[1], scale), in[2]);
	if (op == P_select && is_zero(in[1]))
		return like(k, v, in[0], in[1], without_factors(k, in[2], scale));
	if (op == P_cast && v->dt == DT_BF16 && in[0]->dt == DT_F32)
		return like(k, v, without_factors(k, in[0], scale), NULL, NULL);
	return v;
}

static void mark_needed(LVal *v);

static void
mark_needed_ix(const Ix *ix)
{
	for (int i = 0; ix && i < ix->n; i++) {
		if (ix->t[i].a->kind == AT_VAL)
			mark_needed(ix->t[i].a->val);
		mark_needed_ix(ix->t[i].a->of);
	}
}

static void
mark_needed(LVal *v)
{
	if (!v || v->use)
		return;
	v->use = 1;
	for (int i = 0; i < v->nin; i++)
		mark_needed(v->in[i]);
	mark_needed_ix(v->ix);
	for (const Guard *g = v->guard; g; g = g->up)
		mark_needed_ix(g->ix);
}

/* Only what the stores need stays, in the order in which it was made. */
static void
drop_unneeded(Kernel *k)
{
	int n = 0;
	for (int i = 0; i < k->nval; i++)
		k->val[i]->use = 0;
	for (int i = 0; i < k->nstore; i++) {
		mark_needed(k->store[i].val);
		mark_needed(k->store[i].scale);
		mark_needed_ix(k->store[i].ix);
	}
	for (int i = 0; i < k->nval; i++)
		if (k->val[i]->use) {
			k->val[i]->id = n;
			k->val[n++] = k->val[i];
		}
	k->nval = n;
	for (int i = 0; i < n; i++)
		k->val[i]->use = 0;
}

/* Axes from the first result: its batch dims, the rows of the computed operand, and the summed dim as the row. */
static void
lower_output(Kernel *k, Node *dot, LStore *s)
{
	const int64_t *lc = dot_labels(dot, 2);
	int side = tile_output(k->fusion, dot);
	Roles r;
	if (side < 0 || !roles_of(dot, &r)) {
		give_up(k, "no product of a tile kernel");
		return;
	}
	int64_t row = side == A ? r.m : r.n, wide = side == A ? r.n : r.m, label[MAXDIM + 1];
	const Ix *at[MAXDIM + 1], *idx[MAXDIM];
	int n = 0, axis = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < dot->nd; i++) {
			if (lc[i] == wide || (lc[i] == row) != pass)
				continue;
			if (k->nstore == 0)
				add_axis(k, dot->dim[i]);
			if (axis >= k->naxis || k->size[axis] != dot->dim[i])
				give_up(k, "results of different sizes");
			if (k->fail)
				return;
			label[n] = lc[i];
			at[n++] = ix_axis(k, axis++);
		}
	if (k->nstore == 0) {
		k->nouter = k->naxis;
		k->reduces = true;
		add_axis(k, r.sizes[2]);
	}
	if (axis != k->nouter || k->size[axis] != r.sizes[2]) {
		give_up(k, "results of different sizes");
		return;
	}
	label[n] = r.k;
	at[n++] = ix_axis(k, axis);
	Node *p = dot->in[side];
	for (int i = 0; i < p->nd; i++)
		idx[i] = at[find_label(label, n, dot_labels(dot, side)[i])];
	*s = (LStore){.node = dot, .row = true, .dot = arena_alloc(k->arena, sizeof *s->dot)};
	s->val = without_factors(k, value_at(k, p, idx, NULL), &s->scale);
	if (!matrix_at(k, dot, !side, wide, label, at, n, s->dot))
		give_up(k, "a matrix that is not in memory");
	for (int i = 0; i < dot->nd; i++)
		idx[i] = lc[i] == wide ? ix_const(k, 0) : at[find_label(label, n, lc[i])];
	s->ix = layout_index(k, dot, idx);
	k->nstore++;
}

/* A reduction or a value of the region that others read: where the products met it. */
static void
lower_kept(Kernel *k, Node *n, LStore *s)
{
	const Ix **idx = value_index(k, n);
	if (!idx) {
		give_up(k, "a value that the products do not need");
		return;
	}
	for (int i = 0; i < n->nd; i++)
		if (n->dim[i] > 1 && bare_axis(idx[i]) < 0)
			give_up(k, "a value of other places");
	*s = (LStore){.node = n, .val = value_at(k, n, idx, NULL), .ix = layout_index(k, n, idx)};
	s->row = s->val->axes >> k->nouter;
	k->nstore++;
}

void
lower_tile(Kernel *k, const Region *r)
{
	k->tile = true;
	k->store = arena_alloc(k->arena, (size_t)r->nnode * sizeof *k->store);
	for (int pass = 0; pass < 2 && !k->fail; pass++)
		for (int i = 0; i < r->nnode && !k->fail; i++) {
			Node *n = r->node[i];
			bool product = prim_info[n->op].kind == K_DOT;
			if (!k->fusion->stored[n->id] || product != (pass == 0))
				continue;
			if (product)
				lower_output(k, n, &k->store[k->nstore]);
			else
				lower_kept(k, n, &k->store[k->nstore]);
		}
	if (k->nreduce > 4)
		give_up(k, "too many reductions");
	if (!k->fail)
		drop_unneeded(k);
}
