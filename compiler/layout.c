/* Where stored nodes lie: strides in their own buffer, or in that of what they are a part of; and which views are plain
   strides over something stored. */
#include <string.h>

#include "fuse.h"

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

void
plain_layout(Fusion *f, Node *n, Node *root, int64_t off)
{
	Layout *l = &f->layout[n->id];
	int64_t stride = 1;
	l->root = root;
	l->state = -1;
	l->off = off;
	for (int i = n->nd - 1; i >= 0; i--) {
		l->stride[i] = stride;
		stride *= n->dim[i];
	}
}

Node *
stored_in(const Fusion *f, Node *n)
{
	const Layout *l = n->id >= 0 ? &f->layout[n->id] : NULL;
	int64_t stride = 1;
	if (!l || !l->root || l->root == n)
		return n;
	for (int i = n->nd - 1; i >= 0; i--) {
		if (n->dim[i] > 1 && l->stride[i] != stride)
			return l->root;
		stride *= n->dim[i];
	}
	return n;
}

bool
strided_reshape(const Node *n, const Node *x, const int64_t *xs, int64_t *stride)
{
	/* runs of x's dims that lie contiguously can be cut anew; a run's product must match one of n's runs */
	int i = 0, j = 0;
	while (i < n->nd || j < x->nd) {
		int64_t a = 1, b = 1;
		int i0 = i, j0 = j;
		if (i < n->nd)
			a = n->dim[i++];
		if (j < x->nd)
			b = x->dim[j++];
		while (a != b) {
			if (a < b && i < n->nd)
				a *= n->dim[i++];
			else if (b < a && j < x->nd)
				b *= x->dim[j++];
			else
				return false;
		}
		while (i == n->nd && j < x->nd && x->dim[j] == 1)
			j++;
		while (j == x->nd && i < n->nd && n->dim[i] == 1)
			i++;
		int64_t step = 0, expect = 0;
		for (int k = j - 1; k >= j0; k--) {
			if (x->dim[k] == 1)
				continue;
			if (expect && xs[k] != expect)
				return false;
			if (!expect)
				step = xs[k];
			expect = xs[k] * x->dim[k];
		}
		for (int k = i - 1; k >= i0; k--) {
			stride[k] = step;
			step *= n->dim[k];
		}
	}
	return true;
}

bool
strided(const Fusion *f, Node *n, Node **root, int64_t *off, int64_t *stride)
{
	int64_t xs[MAXDIM];
	if (f->stored[n->id] || n->op == P_state || n->op == P_input) {
		const Layout *l = &f->layout[n->id];
		*root = stored_in(f, n);
		*off = *root == n ? 0 : l->off;
		memcpy(stride, l->stride, sizeof l->stride);
		return true;
	}
	if (kind(n) != K_VIEW || !strided(f, n->in[0], root, off, xs))
		return false;
	switch (n->op) {
	case P_permute:
		for (int i = 0; i < n->nd; i++)
			stride[i] = xs[n->at[i]];
		return true;
	case P_slice:
		for (int i = 0; i < n->nd; i++) {
			if (n->at[n->nd + i] < 0)
				return false;
			*off += n->at[i] * xs[i];
			stride[i] = xs[i] * n->at[n->nd + i];
		}
		return true;
	case P_reshape:
		return strided_reshape(n, n->in[0], xs, stride);
	default:
		return false;
	}
}
