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

/* The product by its dims. Of the result's, batches come first, then those of the rows, then those of the columns. */
typedef struct Product {
	int left;                     /* the operand that has the rows */
	int nbatch, nrow, ncolumn;    /* dims of the result */
	int64_t batches, rows, columns, places;
	int nsum;
	int64_t sum[MAXDIM], size[MAXDIM]; /* labels summed over, in the order of the left operand */
} Product;

static bool
product_of(const Node *dot, Product *p)
{
	const int64_t *l = dot_labels(dot, 2);
	bool has[2] = {0};
	int i = 0;
	*p = (Product){.batches = 1, .rows = 1, .columns = 1, .places = 1};
	for (; i < dot->nd; i++) {
		for (int side = A; side <= B; side++)
			has[side] = find_label(dot_labels(dot, side), dot->in[side]->nd, l[i]) >= 0;
		if (!has[A] || !has[B])
			break;
		p->nbatch++;
		p->batches *= dot->dim[i];
	}
	if (i == dot->nd)
		return false;
	p->left = has[A] ? A : B;
	for (; i < dot->nd; i++) {
		for (int side = A; side <= B; side++)
			has[side] = find_label(dot_labels(dot, side), dot->in[side]->nd, l[i]) >= 0;
		if (has[A] == has[B] || (has[p->left] && p->ncolumn))
			return false;
		(*(has[p->left] ? &p->nrow : &p->ncolumn))++;
		*(has[p->left] ? &p->rows : &p->columns) *= dot->dim[i];
	}
	const Node *x = dot->in[p->left];
	for (i = 0; i < x->nd; i++) {
		int64_t label = dot_labels(dot, p->left)[i];
		if (find_label(l, dot->nd, label) >= 0)
			continue;
		if (find_label(dot_labels(dot, !p->left), dot->in[!p->left]->nd, label) < 0)
			return false;
		p->size[p->nsum] = x->dim[i];
		p->sum[p->nsum++] = label;
		p->places *= x->dim[i];
	}
	return p->ncolumn > 0 && p->nsum + p->nbatch + p->ncolumn == dot->in[!p->left]->nd;
}

bool
product_possible(const Node *dot)
{
	Product p;
	return dot->in[A]->dt == DT_BF16 && dot->in[B]->dt == DT_BF16 && product_of(dot, &p);
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

ProductUse
product_use(const Fusion *f, const Node *dot)
{
	Product p;
	if (!f->cuda || !f->fuse || !product_possible(dot) || !product_of(dot, &p))
		return PRODUCT_NOT;
	if (!f->library || product_windowed(dot->in[A]) || product_windowed(dot->in[B]))
		return p.rows * p.batches < INT32_MAX / 64 && p.columns * p.places < INT32_MAX / 64 ? PRODUCT_ALONE : PRODUCT_NOT;
	bool shape = dot->dt == DT_BF16 && p.batches == 1 && p.places % 16 == 0 && p.places <= 128 && p.columns % 64 == 0 && p.rows >= 1024 && p.rows % 128 == 0;
	return shape && in_pieces(f, dot->in[A]) && in_pieces(f, dot->in[B]) ? PRODUCT_JOINED : PRODUCT_NOT;
}

/* ---- lowering ---- */

/* The operand's element at the kernel's places. */
static LVal *
operand(Kernel *k, const Node *dot, const Product *p, int side)
{
	Node *x = dot->in[side];
	const int64_t *result = dot_labels(dot, 2);
	const Ix *kept[MAXDIM], *sum[MAXDIM], *idx[MAXDIM];
	const Ix *row = p->batches > 1 ? ix_axis(k, 1) : ix_addmul(k, ix_axis(k, 1), ix_axis(k, 0), k->size[1]);
	ix_unflatten(k, ix_axis(k, 0), dot->dim, p->nbatch, kept);
	ix_unflatten(k, row, dot->dim + p->nbatch, p->nrow, kept + p->nbatch);
	ix_unflatten(k, ix_axis(k, 2), dot->dim + p->nbatch + p->nrow, p->ncolumn, kept + p->nbatch + p->nrow);
	ix_unflatten(k, ix_axis(k, 3), p->size, p->nsum, sum);
	for (int i = 0; i < x->nd; i++) {
		int64_t label = dot_labels(dot, side)[i];
		int r = find_label(result, dot->nd, label);
		idx[i] = r >= 0 ? kept[r] : sum[find_label(p->sum, p->nsum, label)];
	}
	return value_at(k, x, idx, NULL);
}

LVal *
lower_product_dot(Kernel *k, Node *dot, const Ix **idx)
{
	Product p;
	LVal v = {.kind = LV_DOT, .node = dot, .dt = dot->dt, .cost = 30, .axes = 7};
	if (!product_of(dot, &p) || k->naxis != 4) {
		give_up(k, "a matrix product inside");
		return val_new(k, (LVal){.kind = LV_CONST, .node = dot, .dt = dot->dt});
	}
	int kept = p.nbatch + p.nrow;
	const Ix *row = ix_addmul(k, ix_axis(k, 1), ix_axis(k, 0), k->size[1]);
	if (ix_flatten(k, idx, dot->dim, kept) != row || ix_flatten(k, idx + kept, dot->dim + kept, p.ncolumn) != ix_axis(k, 2))
		give_up(k, "a matrix product of other places");
	v.of[0] = operand(k, dot, &p, p.left);
	v.of[1] = operand(k, dot, &p, !p.left);
	return k->product = val_new(k, v);
}

void
lower_product(Kernel *k, const Region *r)
{
	const Node *dot = NULL;
	Product p;
	for (int i = 0; i < r->nnode; i++)
		if (prim_info[r->node[i]->op].kind == K_DOT)
			dot = r->node[i];
	if (!product_of(dot, &p)) {
		give_up(k, "no product of rows and columns");
		return;
	}
	lower_columns(k, r, p.batches, p.rows, p.columns, p.places);
	if (!k->fail && !k->product)
		give_up(k, "the product is not needed");
}
