/* Fusion around matrix products that no library computes: in tile kernels, which need them on the way (tile.c), and in kernels
   of their own, with what reads their results (product.c). */
#include <string.h>

#include "fuse.h"

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

/* What a kernel reads an operand from through views: on a CPU not through pads, whose conditions would be in the way. */
static Node *
matrix_below(const Fusion *f, Node *x)
{
	while (kind(x) == K_VIEW && (f->cuda || x->op != P_pad))
		x = x->in[0];
	return x;
}

static void
need_matrix(const Fusion *f, Node *x, bool *must)
{
	must[matrix_below(f, x)->id] = true;
}

/* A product that only tile kernels read, computed in each of them. */
static bool
inner_product(Fusion *f, Node *n, bool *must)
{
	int r[256], m = reader_regions(f, n, r, LEN(r));
	if (must[n->id] || m == 0 || m > 6 || !f->fuse || !tile_inner(f, n))
		return false;
	for (int i = 0; i < m; i++)
		if (f->region[r[i]].kind != R_TILE)
			return false;
	if (!compute_again(f, n, r, m))
		return false;
	need_matrix(f, n->in[0], must);
	need_matrix(f, n->in[1], must);
	return true;
}

/* A product of which one operand is computed in its kernel. */
static bool
tile_product(Fusion *f, Node *n, bool *must)
{
	int side = tile_output(f, n);
	if (side < 0)
		return false;
	int r = region_new(f, R_TILE);
	f->stored[n->id] = true;
	region_add(f, r, n);
	const char *why = try_region(f, r);
	if (why) {
		explain(f, n, "no tile kernel: %s", why);
		region_remove(f, r, n);
		return false;
	}
	explain(f, n, "a tile kernel computes its operand v%d", n->in[side]->id);
	need_matrix(f, n->in[!side], must);
	return true;
}

/* What the product's kernel reads for its operand, whatever views lie between. */
static Node *
operand_base(const Fusion *f, Node *dot, int side)
{
	Node *x = dot->in[side], *base = matrix_below(f, x);
	if (!f->cuda && base->op == P_input && base != x)
		return base; /* in panels: pack.c */
	return product_windowed(x) || product_operand_ok(f, dot, side) ? matrix_below(f, x) : x;
}

/* Kernels that read the product and can be one should be, before the first takes it. */
static void
merge_readers(Fusion *f, const Node *n)
{
	int r[256], m = reader_regions(f, n, r, LEN(r));
	for (int a = 0; a < m; a++)
		for (int b = a + 1; b < m; b++) {
			const Region *x = &f->region[r[a]], *y = &f->region[r[b]];
			if (x->kind == R_LOOP && y->kind == R_LOOP && !x->dead && !y->dead && region_space(f, r[a]) == region_space(f, r[b]))
				try_merge(f, r[a], r[b]);
		}
}

/* A product in one kernel with what reads its result. */
static bool
product_joined(Fusion *f, Node *n, bool *must)
{
	int r[256];
	merge_readers(f, n);
	int m = reader_regions(f, n, r, LEN(r));
	for (int i = 0; i < m; i++) {
		Region *g = &f->region[r[i]];
		bool cycle = false;
		if (g->kind != R_LOOP)
			continue;
		for (int k = 0; k < m && !cycle; k++)
			cycle = k != i && reaches(f, r[k], r[i]);
		if (cycle)
			continue;
		join_readers(f, r[i], must);
		g->kind = R_PRODUCT;
		if (join(f, n, r[i], must[n->id] || m > 1)) {
			explain(f, n, "computed by a kernel that reads it");
			return true;
		}
		g->kind = R_LOOP;
	}
	return false;
}

/* A product that one permutation reads, of it or of a cast of it, lies in memory as that has it. */
static void
place_permuted(Fusion *f, Node *n, const bool *must)
{
	const Node *p = n;
	Layout *l = &f->layout[n->id];
	int64_t stride = 1;
	do
		p = f->nuser[p->id] == 1 ? f->user[p->id][0] : NULL;
	while (p && p->op == P_cast);
	if (must[n->id] || !p || p->op != P_permute || l->root != n || l->state >= 0)
		return;
	for (int i = p->nd - 1; i >= 0; i--) {
		l->stride[p->at[i]] = stride;
		stride *= p->dim[i];
	}
}

static bool
product_alone(Fusion *f, Node *n, const bool *must)
{
	int r = region_new(f, R_PRODUCT);
	if (f->cuda)
		place_permuted(f, n, must);
	f->stored[n->id] = true;
	region_add(f, r, n);
	const char *why = try_region(f, r);
	if (why) {
		explain(f, n, "no product kernel: %s", why);
		region_remove(f, r, n);
		return false;
	}
	explain(f, n, "a kernel of its own reads windows where they lie");
	return true;
}

bool
own_product(Fusion *f, Node *n, bool *must)
{
	ProductUse use = product_use(f, n);
	Node *base[2];
	int was[2];
	if (inner_product(f, n, must) || tile_product(f, n, must))
		return true;
	if (use == PRODUCT_NOT)
		return false;
	for (int side = 0; side < 2; side++) { /* views of them, too, are taken as stored */
		base[side] = operand_base(f, n, side);
		was[side] = f->home[base[side]->id];
		if (!f->cuda && kind(base[side]) == K_VIEW)
			f->home[base[side]->id] = UNDECIDED;
	}
	bool ok = product_joined(f, n, must) || (use == PRODUCT_ALONE && product_alone(f, n, must));
	for (int side = 0; side < 2; side++)
		if (ok && (f->cuda || kind(base[side]) != K_LEAF)) /* states and inputs are in memory */
			must[base[side]->id] = true;
		else
			f->home[base[side]->id] = was[side];
	return ok;
}
