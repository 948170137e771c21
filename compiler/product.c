/* Product kernels: one matrix product and what becomes of its result, place by place, and column sums of it. A library would
   write the result and something else read it; and it cannot read windows (of a convolution) where they lie, so that they
   would be written to memory, every place as often as a window meets it.

     c[m, n] = sum(a[m, k] b[k, n], k)    y = f(c, ..)    s[p, n] = sum over the rows m of part p of g(c, ..)

   Axes of the kernel: parts (of the rows, as column sums have them; or batches), rows of a part, columns, and k. Operands are
   values at (part, row, k) and (part, k, column), so whatever they are views of is read there: "implicit GEMM" (Chetlur et
   al., cuDNN, 2014) for convolutions, their gradients by the weights, and, by unfold.c, by their input. The kernels:
   emit_product.c. */
#include <string.h>

#include "ix.h"

enum { A, B };

enum { BATCH, ROWS, COLUMNS, NGROUP };

/* The product by its dims. The result's are those of batches, of the rows, and of the columns; each group in its order. */
typedef struct Product {
	int left;                     /* the operand that has the rows */
	bool in_order;                /* of the result's dims, batches come first, then the rows', then the columns' */
	int group[MAXDIM];            /* of each dim of the result */
	int n[NGROUP];                /* dims */
	int64_t dim[NGROUP][MAXDIM], count[NGROUP], places;
	int nsum;
	int64_t sum[MAXDIM], size[MAXDIM]; /* labels summed over, in the order of the left operand */
} Product;

static bool
has_label(const Node *dot, int side, int64_t label)
{
	return find_label(dot_labels(dot, side), dot->in[side]->nd, label) >= 0;
}

/* The operand that the first of the result's dims which only one has belongs to, or with `last` the other one than the last does. */
static int
rows_side(const Node *dot, bool last)
{
	int side = -1;
	for (int i = 0; i < dot->nd; i++) {
		int64_t label = dot_labels(dot, 2)[i];
		bool a = has_label(dot, A, label), b = has_label(dot, B, label);
		if (a != b && (side < 0 || last))
			side = a == last ? B : A;
	}
	return side;
}

static bool
product_of(const Node *dot, bool any_order, Product *p)
{
	*p = (Product){.left = rows_side(dot, any_order), .in_order = true, .count = {1, 1, 1}, .places = 1};
	for (int i = 0; i < dot->nd; i++) {
		int64_t label = dot_labels(dot, 2)[i];
		bool a = has_label(dot, A, label), b = has_label(dot, B, label);
		int g = a && b ? BATCH : a == (p->left == A) ? ROWS : COLUMNS;
		p->in_order &= !i || g >= p->group[i - 1];
		p->group[i] = g;
		p->dim[g][p->n[g]++] = dot->dim[i];
		p->count[g] *= dot->dim[i];
	}
	if (p->left < 0 || !(p->in_order || any_order))
		return false;
	const Node *x = dot->in[p->left];
	for (int i = 0; i < x->nd; i++) {
		int64_t label = dot_labels(dot, p->left)[i];
		if (find_label(dot_labels(dot, 2), dot->nd, label) >= 0)
			continue;
		if (!has_label(dot, !p->left, label))
			return false;
		p->size[p->nsum] = x->dim[i];
		p->sum[p->nsum++] = label;
		p->places *= x->dim[i];
	}
	return p->n[COLUMNS] > 0 && p->nsum + p->n[BATCH] + p->n[COLUMNS] == dot->in[!p->left]->nd;
}

bool
product_possible(const Node *dot)
{
	Product p;
	return dot->in[A]->dt == DT_BF16 && dot->in[B]->dt == DT_BF16 && product_of(dot, false, &p);
}

bool
product_windowed(const Node *x)
{
	for (; prim_info[x->op].kind == K_VIEW; x = x->in[0])
		if (x->op == P_window)
			return true;
	return false;
}

bool
product_operand_ok(const Fusion *f, const Node *dot, int side)
{
	Node *x = dot->in[side], *root;
	int64_t off, s[MAXDIM];
	if (!in_memory(f, x, &root, &off, s))
		return false;
	for (int i = 0; i < x->nd; i++)
		if (s[i] == 1)
			return true;
	return false;
}

/* Rows of 16 bytes at places divisible by 16, whichever of its dims lies side by side. */
static bool
in_pieces(const Fusion *f, Node *x)
{
	Node *root;
	int64_t off, s[MAXDIM];
	bool one = false;
	if (!in_memory(f, x, &root, &off, s) || off % 8 || f->layout[root->id].off % 8)
		return false;
	for (int i = 0; i < x->nd; i++) {
		if (s[i] != 1 && s[i] % 8)
			return false;
		one |= s[i] == 1 && x->dim[i] % 8 == 0;
	}
	return one;
}

/* Are places of its operands ints? */
static bool
fits(const Product *p)
{
	return p->count[ROWS] * p->count[BATCH] < INT32_MAX / 64 && p->count[COLUMNS] * p->places < INT32_MAX / 64;
}

ProductUse
product_use(const Fusion *f, const Node *dot)
{
	Product p;
	if (!f->cuda)
		return f->fuse && dot->dt == DT_F32 && product_of(dot, true, &p) && fits(&p) ? PRODUCT_ALONE : PRODUCT_NOT;
	if (!f->fuse || dot->in[A]->dt != DT_BF16 || dot->in[B]->dt != DT_BF16 || !product_of(dot, false, &p))
		return PRODUCT_NOT;
	if (!f->library || product_windowed(dot->in[A]) || product_windowed(dot->in[B]))
		return fits(&p) ? PRODUCT_ALONE : PRODUCT_NOT;
	bool shape = dot->dt == DT_BF16 && p.count[BATCH] == 1 && p.places % 16 == 0 && p.places <= 128 && p.count[COLUMNS] % 64 == 0 && p.count[ROWS] >= 1024 && p.count[ROWS] % 128 == 0;
	return shape && in_pieces(f, dot->in[A]) && in_pieces(f, dot->in[B]) ? PRODUCT_JOINED : PRODUCT_NOT;
}

/* ---- lowering ---- */

/* The result's element at the kernel's place, by its dims. */
static void
result_index(Kernel *k, const Node *dot, const Product *p, const Ix **idx)
{
	const Ix *part = ix_axis(k, 0), *row = ix_axis(k, 1), *at[NGROUP][MAXDIM];
	int n[NGROUP] = {0};
	ix_unflatten(k, part, p->dim[BATCH], p->n[BATCH], at[BATCH]);
	ix_unflatten(k, p->count[BATCH] > 1 ? row : ix_addmul(k, row, part, k->size[1]), p->dim[ROWS], p->n[ROWS], at[ROWS]);
	ix_unflatten(k, ix_axis(k, 2), p->dim[COLUMNS], p->n[COLUMNS], at[COLUMNS]);
	for (int i = 0; i < dot->nd; i++)
		idx[i] = at[p->group[i]][n[p->group[i]]++];
}

/* The operand's element at the kernel's places. */
static LVal *
operand(Kernel *k, const Node *dot, const Product *p, int side)
{
	Node *x = dot->in[side];
	const Ix *kept[MAXDIM], *sum[MAXDIM], *idx[MAXDIM];
	result_index(k, dot, p, kept);
	ix_unflatten(k, ix_axis(k, 3), p->size, p->nsum, sum);
	for (int i = 0; i < x->nd; i++) {
		int64_t label = dot_labels(dot, side)[i];
		int r = find_label(dot_labels(dot, 2), dot->nd, label);
		idx[i] = r >= 0 ? kept[r] : sum[find_label(p->sum, p->nsum, label)];
	}
	return value_at(k, x, idx, NULL);
}

LVal *
lower_product_dot(Kernel *k, Node *dot, const Ix **idx)
{
	const Ix *here[MAXDIM];
	Product p;
	LVal v = {.kind = LV_DOT, .node = dot, .dt = dot->dt, .cost = 30, .axes = 7};
	bool ok = k->naxis == 4 && product_of(dot, !k->fusion->cuda, &p);
	if (ok)
		result_index(k, dot, &p, here);
	for (int i = 0; i < dot->nd && ok; i++)
		ok = idx[i] == here[i];
	if (!ok) {
		give_up(k, "a matrix product of other places");
		return val_new(k, (LVal){.kind = LV_CONST, .node = dot, .dt = dot->dt});
	}
	v.of[0] = operand(k, dot, &p, p.left);
	v.of[1] = operand(k, dot, &p, !p.left);
	if (!k->fusion->cuda && (v.of[0]->kind != LV_LOAD || v.of[0]->guard || v.of[1]->kind != LV_LOAD || v.of[1]->guard))
		give_up(k, "an operand that is not in memory"); /* on a CPU it would be computed for every tile */
	return k->product = val_new(k, v);
}

void
lower_product(Kernel *k, const Region *r)
{
	Node *dot = NULL;
	const Ix *idx[MAXDIM];
	Product p;
	for (int i = 0; i < r->nnode; i++)
		if (prim_info[r->node[i]->op].kind == K_DOT)
			dot = r->node[i];
	if (!product_of(dot, !k->fusion->cuda, &p)) {
		give_up(k, "no product of rows and columns");
		return;
	}
	if (p.in_order) {
		lower_columns(k, r, p.count[BATCH], p.count[ROWS], p.count[COLUMNS], p.places);
	} else {
		lower_space(k, p.count[BATCH], p.count[ROWS], p.count[COLUMNS], p.places);
		result_index(k, dot, &p, idx);
		lower_at(k, r, dot, idx);
	}
	if (!k->fail && !k->product)
		give_up(k, "the product is not needed");
}
