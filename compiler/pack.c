/* On a CPU: a matrix that a product of few rows multiplies by in every step of a loop is laid out before the loop as the product's kernel
   reads it, in panels of some columns side by side; else each step would copy it there.

     dot(h[b, k], r[k, n])  in a scan   ->   dot(h, view(p)),  p[n/32, k, 32] = copy(view(r)) outside

   What is outside is found by scan_lift.c: a copy of what is the same in all steps. Needs: split. */
#include <string.h>

#include "mmc.h"

#define WIDE 32   /* columns of a panel: two vectors of the longest */
#define ROWS 64   /* of the other operand, up to which copying costs about as much as multiplying */

/* Is it made of an operand of the scan that is the same in all steps, by views alone? */
static bool
is_same_always(const Graph *body, const Node *x)
{
	while (x->op == P_reshape || x->op == P_permute)
		x = x->in[0];
	return x->op == P_input && x->at[0] >= scan_ncarry(body->scan) && !scan_is_seq(body->scan, (int)x->at[0]);
}

/* The dim of x that is the innermost one of the result's that x alone has, or -1. rows: how many places the result has without x's
   own ones. */
static int
column_of(const Node *dot, Node **in, int side, int64_t *rows)
{
	const int64_t *label = dot_labels(dot, side), *out = dot_labels(dot, 2);
	int column = -1;
	*rows = 1;
	for (int i = 0; i < dot->nd; i++) {
		int at = find_label(label, in[side]->nd, out[i]);
		if (at < 0)
			*rows *= dot->dim[i];
		else if (find_label(dot_labels(dot, !side), in[!side]->nd, out[i]) < 0)
			column = at;
	}
	return column;
}

/* A view of the copy in panels, like the matrix itself: its dim `column` is cut, and the panel's columns stand last. */
static Node *
in_panels(Graph *to, const Node *dot, int side, Node *like, int column)
{
	int64_t dim[MAXDIM], perm[MAXDIM], back[MAXDIM];
	const int64_t *label = dot_labels(dot, side);
	int n = 0;
	for (int i = 0; i < like->nd; i++) {
		dim[i + (i > column)] = like->dim[i];
		if (i == column) {
			dim[i] = like->dim[i] / WIDE;
			dim[i + 1] = WIDE;
		}
	}
	for (int kept = 1; kept >= 0; kept--) /* what is summed lies in the panel */
		for (int i = 0; i < like->nd; i++)
			if ((find_label(dot_labels(dot, 2), dot->nd, label[i]) >= 0) == kept)
				perm[n++] = i + (i > column);
	perm[n++] = column + 1;
	for (int i = 0; i < n; i++)
		back[perm[i]] = i;
	Node *x = mk_permute(to, mk_reshape(to, like, dim, n), perm);
	x = node_new(to, P_stop, 0, &x, 1, NULL, 0, (int64_t[]){-1}, 1, 0); /* a copy: with an attribute, it is not simplified away */
	return mk_reshape(to, mk_permute(to, x, back), like->dim, like->nd);
}

static Node *
pack(Graph *to, Node *n, Node **in, void *ctx)
{
	(void)ctx;
	if (n->op != P_dot || !to->scan || n->dt != DT_F32)
		return NULL;
	for (int side = 0; side < 2; side++) {
		int64_t rows;
		int column = column_of(n, in, side, &rows);
		if (column < 0 || rows > ROWS || in[side]->dim[column] % WIDE || in[side]->nd == MAXDIM || !is_same_always(to, in[side]) || is_same_always(to, in[!side]))
			continue;
		Node *x[] = {in[0], in[1]};
		x[side] = in_panels(to, n, side, in[side], column);
		return node_new(to, P_dot, n->dt, x, 2, n->dim, n->nd, n->at, n->nat, 0);
	}
	return NULL;
}

Graph *pass_pack(Graph *g) { return graph_map(g, pack, NULL); }
