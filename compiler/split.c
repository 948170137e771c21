/* Long sums with few results become two: parts in parallel, then the parts.

     reduce_sum(x[1024, 32, 128], 0 1) -> [128]
       = reduce_sum(reduce_sum(reshape(x, [256, 4, 32, 128]), 1 2) -> [256, 128], 0)

   On a CPU so do products of few results: dot(a[k, m], b[k, n]) = reduce_sum(dot(a[p, k/p, m], b[p, k/p, n]) -> [p, m, n], 0).
   On a GPU, scatter_add(ids, g) = row_sum(s, g, run_sum(s, g)), s = sort(ids).
   The parts are fixed by the shape, so reruns are bitwise equal. Needs: contract (what is left are real reductions). */
#include <string.h>

#include "loop.h"

#define ROW_LIMIT 8192    /* elements that one block sums well */
#define COLUMN_LIMIT 256  /* that a thread, or a few, sum well */
#define WARPS 2112        /* that keep a GPU busy with products */
#define RESULTS 2048      /* of one */
#define PARTS 16          /* of a long product on a CPU */
#define FEW 65536         /* results of a product whose tiles would pack more than they multiply */
#define LONG (1 << 22)    /* multiplications that are worth more than one core */
#define PART 256          /* multiplications of a result that make up for storing it and adding it up */
#define SMALL (1 << 20)    /* multiplications that take a GPU no longer than a call of its library */
#define PLACES 32768      /* results that fill a CPU's vectors and threads; a GPU takes twice as many */

/* Largest divisor of n that is at most limit. */
static int64_t
divisor(int64_t n, int64_t limit)
{
	for (int64_t d = limit < n ? limit : n; d > 1; d--)
		if (n % d == 0)
			return d;
	return 1;
}

/* On a GPU a row that many positions hit would keep one block busy, and looking for a row's positions would keep them
   all: positions are sorted by row, which needs the ids alone and so can run long before, and runs that lie in one row
   are summed side by side. */
static Node *
split_scatter(Graph *to, Node *n, Node **in)
{
	int64_t ids = node_count(in[0]), rows = n->dim[0], size = 2 * ids + rows + 1, dim[MAXDIM];
	memcpy(dim, n->dim, sizeof dim);
	if (ids == 0)
		return mk_like(to, 0, n);
	Node *sorted = node_new(to, P_sort, DT_I32, in, 1, &size, 1, &rows, 1, 0);
	dim[0] = (ids + RUN - 1) / RUN;
	Node *runs = node_new(to, P_run_sum, n->dt, (Node *[]){sorted, in[1]}, 2, dim, n->nd, NULL, 0, 0);
	return node_new(to, P_row_sum, n->dt, (Node *[]){sorted, in[1], runs}, 3, n->dim, n->nd, NULL, 0, 0);
}

/* The outermost label that is summed over, or -1; its size. */
static int64_t
outermost_summed(const Node *x, const int64_t *label, const Node *n, int64_t *size)
{
	for (int i = 0; i < x->nd; i++) {
		*size = x->dim[i];
		if (x->dim[i] > 1 && find_label(dot_labels(n, 2), n->nd, label[i]) < 0)
			return label[i];
	}
	return -1;
}

/* The product with its summed label `cut`, of this size, in parts: a product each, side by side in the result's first dim. */
static Node *
cut_product(Graph *to, Node *n, int64_t cut, int64_t size, int64_t parts)
{
	Node *x[2];
	const int64_t *label[] = {dot_labels(n, 0), dot_labels(n, 1)}, *out = dot_labels(n, 2);
	int64_t at[3 * MAXDIM], fresh = 0;
	int k = 0;
	for (int i = 0; i < n->nat; i++)
		fresh = n->at[i] >= fresh ? n->at[i] + 1 : fresh;
	for (int s = 0; s < 2; s++) {
		int64_t dim[MAXDIM];
		int nd = 0;
		for (int i = 0; i < n->in[s]->nd; i++) {
			bool here = label[s][i] == cut;
			if (here) {
				dim[nd++] = parts;
				at[k++] = fresh;
			}
			if (!here || size > parts) {
				dim[nd++] = here ? size / parts : n->in[s]->dim[i];
				at[k++] = label[s][i];
			}
		}
		x[s] = mk_reshape(to, n->in[s], dim, nd);
	}
	at[k++] = fresh;
	for (int i = 0; i < n->nd; i++)
		at[k++] = out[i];
	return node_new(to, P_dot, n->dt, x, 2, NULL, 0, at, k, 0);
}

/* A product over windows with few results and long sums (the gradient of a convolution by its weights) has too few blocks: the
   outermost summed dims are cut into parts, a product each. */
static Node *
split_product(Graph *to, Node *n, int64_t want)
{
	int side = product_windowed(n->in[0]) ? 0 : 1;
	int64_t size, cut = outermost_summed(n->in[side], dot_labels(n, side), n, &size);
	if (!product_windowed(n->in[side]) || cut < 0 || want < 2 || n->in[0]->nd == MAXDIM || n->in[1]->nd == MAXDIM || n->nd == MAXDIM)
		return n;
	int64_t parts = want < size ? want : size;
	while (size % parts)
		parts++;
	return split_product(to, cut_product(to, n, cut, size, parts), want / parts);
}

static Node *
split_sum(Graph *to, Node *n, Node **in)
{
	Node *d = node_new(to, P_dot, n->dt, in, 2, n->dim, n->nd, n->at, n->nat, 0);
	Node *y = split_product(to, d, WARPS / ((node_count(n) + RESULTS - 1) / RESULTS));
	int64_t axes[MAXDIM];
	for (int i = 0; i < y->nd - n->nd; i++)
		axes[i] = i;
	return y == d ? d : mk_reduce(to, P_reduce_sum, y, axes, y->nd - n->nd);
}

/* On a CPU a product of few results and a long sum, as the gradient of weights, would keep one core busy, or be cut into many
   small tiles: a summed dim is cut, that with the most parts of those which leave one call. */
static Node *
split_dot(Graph *to, Node *n, Node **in)
{
	const int64_t *label = dot_labels(n, 0);
	int64_t most = 1, sum = 1, axis = 0;
	Node *d = node_new(to, P_dot, n->dt, in, 2, n->dim, n->nd, n->at, n->nat, 0), *best = NULL;
	if (node_count(n) > FEW || in[0]->nd == MAXDIM || in[1]->nd == MAXDIM || n->nd == MAXDIM)
		return NULL;
	for (int i = 0; i < in[0]->nd; i++)
		sum *= find_label(dot_labels(n, 2), n->nd, label[i]) >= 0 ? 1 : in[0]->dim[i];
	for (int i = 0; i < in[0]->nd && node_count(n) * sum >= LONG; i++) {
		int64_t size = in[0]->dim[i], parts = divisor(size, PARTS);
		if (find_label(dot_labels(n, 2), n->nd, label[i]) >= 0 || parts <= most || sum < parts * PART)
			continue;
		Node *c = cut_product(to, d, label[i], size, parts);
		if (!gemm_plain(c->in[0], c->in[1], c->at, c->dim, c->nd))
			continue;
		most = parts;
		best = c;
	}
	return best ? mk_reduce(to, P_reduce_sum, best, &axis, 1) : NULL;
}

static Node *
split(Graph *to, Node *n, Node **in, void *ctx)
{
	Node *x = n->nin ? in[0] : NULL;
	if (n->op == P_dot && !*(bool *)ctx) /* in a loop, parts cost more than they give */
		return to->scan ? NULL : split_dot(to, n, in);
	if (n->op == P_reduce_sum && x->op == P_add && !*(bool *)ctx) {
		Node *dots = contract_sum(to, x, n); /* a GPU sums small products in one kernel */
		if (dots)
			return dots;
	}
	if (n->op == P_scatter_add && *(bool *)ctx)
		return split_scatter(to, n, in);
	if (n->op == P_dot && *(bool *)ctx && in[0]->dt == DT_BF16 && n->dt == DT_F32)
		return split_sum(to, n, in);
	if (prim_info[n->op].kind != K_REDUCE || n->nat == 0)
		return NULL;
	int64_t places = *(bool *)ctx ? 2 * PLACES : PLACES;
	int64_t out = node_count(n), row = out ? node_count(x) / out : 0, a = n->at[0], best = 1;
	bool trailing = n->at[n->nat - 1] == x->nd - 1;
	if (out >= places || row <= (trailing ? ROW_LIMIT : COLUMN_LIMIT) || x->nd == MAXDIM)
		return NULL;
	for (int i = 0; i < n->nat; i++) { /* the reduced axis that cuts best */
		int64_t want = places / (out ? out : 1), most = row / 32;
		int64_t d = divisor(x->dim[n->at[i]], want > 1024 ? 1024 : want < most ? want : most);
		if (d > best) {
			best = d;
			a = n->at[i];
		}
	}
	if (best < 4)
		return NULL;
	int64_t dim[MAXDIM], axes[MAXDIM];
	int naxes = 0, place = 0;
	for (int i = 0; i < x->nd; i++) {
		dim[i + (i > a)] = x->dim[i];
		if (i == a) {
			dim[i] = best;
			dim[i + 1] = x->dim[i] / best;
		}
	}
	for (int i = 0; i < n->nat; i++) {
		place += n->at[i] < a;
		axes[naxes++] = n->at[i] + (n->at[i] >= a);
	}
	Node *parts = mk_reduce(to, n->op, mk_reshape(to, x, dim, x->nd + 1), axes, naxes);
	int64_t part_axis = a - place; /* kept dims before it keep their places */
	return mk_reduce(to, n->op, parts, &part_axis, 1);
}

Graph *pass_split(Graph *g, bool cuda) { return graph_map(g, split, &cuda); }

/* ---- small products ----

   A library call takes some microseconds however little it does, and stands between its neighbours; a sum fuses with them. */

/* Is the operand worth computing once for each place that reads it? most: operations. */
static bool
plain(const Node *n, int *most)
{
	Kind k = prim_info[n->op].kind;
	if (k != K_ELEM && k != K_VIEW)
		return k == K_LEAF || k == K_FETCH || k == K_DOT || k == K_REDUCE;
	*most -= k == K_ELEM;
	for (int i = 0; i < n->nin; i++)
		if (*most < 0 || !plain(n->in[i], most))
			return false;
	return true;
}

/* dot(a, b) as reduce_sum(mul(expand(a), expand(b))): of the places of the result, then those summed. */
static Node *
product_sum(Graph *to, Node *dot, Node **in, bool all)
{
	const int64_t *label[] = {dot->at, dot->at + in[0]->nd}, *out = label[1] + in[1]->nd;
	int64_t dim[MAXDIM], axes[MAXDIM], space[MAXDIM], count = node_count(dot);
	int nd = dot->nd, naxes = 0, most = 8;
	if (!all && (!plain(in[0], &most) || !plain(in[1], &most)))
		return NULL;
	memcpy(dim, dot->dim, sizeof dim);
	memcpy(space, out, (size_t)nd * sizeof *out);
	for (int i = 0; i < in[0]->nd; i++) {
		bool kept = false;
		for (int j = 0; j < dot->nd; j++)
			kept |= out[j] == label[0][i];
		if (kept)
			continue;
		if (nd == MAXDIM)
			return NULL;
		axes[naxes++] = nd;
		space[nd] = label[0][i];
		dim[nd++] = in[0]->dim[i];
		count *= in[0]->dim[i];
	}
	if (!all && count > SMALL)
		return NULL;
	Node *x[2];
	for (int side = 0; side < 2; side++) {
		x[side] = mk_spread(to, in[side], label[side], space, dim, nd);
		if (!x[side]) /* summed in this operand alone */
			return NULL;
		x[side] = mk_cast(to, x[side], DT_F32);
	}
	return mk_cast(to, mk_reduce(to, P_reduce_sum, mk2(to, P_mul, x[0], x[1]), axes, naxes), dot->dt);
}

static Node *
small_product(Graph *to, Node *n, Node **in, void *ctx)
{
	return n->op == P_dot ? product_sum(to, n, in, *(bool *)ctx && !product_possible(n)) : NULL;
}

Graph *
pass_small_products(Graph *g, bool library)
{
	bool all = !library;
	return graph_map(g, small_product, &all);
}
