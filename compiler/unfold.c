/* The gradient of a convolution by its input, as a convolution. Windows laid over one another that a product has made
   become one product over windows of the product's other operand: nothing is laid out only to be added up.

     fold(sum(g[q,o] w[i,o], o))[a] = sum over i with a - i = stride * q of sum(g[q,o] w[i,o], o)

   With a = stride*b + r and i = stride*t + r the sum runs over t alone, and r is one more dim of the result
   (sub-pixel convolution: Shi et al. 2016):

     y[b,r] = sum(g[b - t, o] w[stride*t + r, o], t o)

   where g is padded by zeros, and w to whole strides. Where only a part of y is wanted, as of a padded input's, a counts from
   there. Needs: contract. For targets whose products read windows where they
   lie (product.c); elsewhere the windows of g would be written to memory as those of the product were. */
#include <string.h>

#include "fuse.h"

enum { MOST = 3 }; /* windows */

typedef struct Window {
	int64_t label;             /* of the product: where windows stand */
	int64_t stride, dilation;
	int64_t taps;              /* of a window */
	int64_t first, size;       /* of the folded axis, what is wanted */
	int64_t step;              /* of a tap, in the product's memory */
	int64_t lead;              /* zeros in front of the taps: places from the first wanted one back to a whole stride */
	int64_t steps;             /* taps of a window that meet one place, at most */
	int64_t reach;             /* places of g before the one that a wanted place b has for its own number */
} Window;

typedef struct Unfold {
	const Node *dot;
	int g;                     /* the operand that has the places */
	Window w[MOST];
	int nw;
	int64_t dim[MAXDIM], stride[MAXDIM]; /* dims below the folds, outermost fold's windows last, as strides of the product */
	int nd;
} Unfold;

/* Steps of x's dims through the memory of the product that it is a view of. */
static const Node *
product_below(const Node *x, int64_t *stride)
{
	int64_t s[MAXDIM], size = 1;
	if (x->op == P_dot) {
		for (int i = x->nd - 1; i >= 0; i--) {
			stride[i] = size;
			size *= x->dim[i];
		}
		return x;
	}
	if (x->op != P_reshape && x->op != P_permute)
		return NULL;
	const Node *dot = product_below(x->in[0], s);
	if (!dot)
		return NULL;
	if (x->op == P_reshape)
		return strided_reshape(x, x->in[0], s, stride) ? dot : NULL;
	for (int i = 0; i < x->nd; i++)
		stride[i] = s[x->at[i]];
	return dot;
}

/* The dim of the product's result that a step belongs to. */
static int
dim_of(const Node *dot, int64_t step)
{
	int64_t size = 1;
	for (int i = dot->nd - 1; i >= 0; i--) {
		size *= dot->dim[i];
		if (step < size)
			return i;
	}
	return 0;
}

/* Does the step lie in a dim that only the operand has? */
static bool
is_of(const Node *dot, int64_t step, int side)
{
	int64_t label = dot_labels(dot, 2)[dim_of(dot, step)];
	return find_label(dot_labels(dot, side), dot->in[side]->nd, label) >= 0 && find_label(dot_labels(dot, !side), dot->in[!side]->nd, label) < 0;
}

/* Reads the folds from the outermost inwards. The dims below all of them are those of the result, then the windows, the outermost
   fold's first. n: a fold, or a slice of one. */
static bool
read_folds(const Node *n, Unfold *u)
{
	const Node *fold[MOST], *x = n->op == P_slice ? n->in[0] : n;
	*u = (Unfold){0};
	for (; x->op == P_fold; x = x->in[0]) {
		if (u->nw == MOST)
			return false;
		fold[u->nw++] = x;
	}
	if (!u->nw || !(u->dot = product_below(x, u->stride)) || u->dot->dt != DT_F32)
		return false;
	u->nd = x->nd;
	memcpy(u->dim, x->dim, sizeof u->dim);
	for (int i = 0; i < u->nw; i++) {
		const Node *f = fold[i];
		Window *w = &u->w[i];
		int axis = (int)f->at[0], taps = n->nd + i;
		*w = (Window){.stride = f->at[1], .dilation = f->at[2], .taps = x->dim[taps], .size = n->dim[axis], .step = u->stride[taps]};
		w->first = n->op == P_slice ? n->at[axis] : 0;
		int64_t back = (w->first + w->stride - 1) / w->stride; /* a = first is at stride * back - lead */
		w->lead = w->stride * back - w->first;
		w->steps = (w->taps + w->lead + w->stride - 1) / w->stride;
		w->reach = (w->steps - 1) * w->dilation - back;
		int d = dim_of(u->dot, u->stride[axis]);
		u->g = i ? u->g : find_label(dot_labels(u->dot, 1), u->dot->in[1]->nd, dot_labels(u->dot, 2)[d]) >= 0;
		w->label = dot_labels(u->dot, 2)[d];
		if (u->dot->dim[d] != x->dim[axis] || x->dim[axis] < 2 || (w->dilation > 1 && w->stride > 1))
			return false;
		if (w->taps < 2 || w->reach < 0 || !is_of(u->dot, u->stride[axis], u->g) || !is_of(u->dot, w->step, !u->g))
			return false;
	}
	for (int i = 0; i < n->nd; i++) { /* of the other axes all is wanted */
		bool folded = false;
		for (int k = 0; k < u->nw; k++)
			folded |= fold[k]->at[0] == i;
		if (!folded && n->dim[i] != x->dim[i])
			return false;
	}
	return true;
}

/* With zeros in front and behind; high below 0: cut off behind. */
static Node *
padded(Graph *to, Node *x, int axis, int64_t low, int64_t high)
{
	int64_t lo[MAXDIM] = {0}, step[MAXDIM], dim[MAXDIM];
	for (int i = 0; i < x->nd; i++) {
		step[i] = 1;
		dim[i] = x->dim[i];
	}
	if (high < 0) {
		dim[axis] += high;
		x = mk_slice(to, x, lo, step, dim);
		high = 0;
	}
	lo[axis] = low;
	dim[axis] += low + high;
	return low || high ? mk_pad(to, x, lo, step, dim) : x;
}

static Node *
flipped(Graph *to, Node *x, int axis)
{
	int64_t lo[MAXDIM] = {0}, step[MAXDIM];
	for (int i = 0; i < x->nd; i++)
		step[i] = 1;
	lo[axis] = x->dim[axis] - 1;
	step[axis] = -1;
	return mk_slice(to, x, lo, step, x->dim);
}

/* A tensor whose dims have names. */
typedef struct Named {
	Node *x;
	int64_t name[MAXDIM + MOST];
} Named;

/* The dims in the order of the names given, the last `merged` of them as one. */
static Node *
ordered(Graph *to, const Named *t, const int64_t *name, int merged)
{
	int64_t perm[MAXDIM] = {0}, dim[MAXDIM], one = 1;
	int nd = t->x->nd;
	for (int i = 0; i < nd; i++)
		perm[i] = find_label(t->name, nd, name[i]);
	Node *x = mk_permute(to, t->x, perm);
	for (int i = 0; i < nd; i++) {
		dim[i] = x->dim[i];
		one *= i >= nd - merged ? x->dim[i] : 1;
	}
	dim[nd - merged] = one;
	return mk_reshape(to, x, dim, nd - merged + 1);
}

/* Names: labels of the product; steps of window i and places within its stride; the weights' part that is dim i below the folds. */
#define STEPS(i) (1000 + (i))
#define WITHIN(i) (2000 + (i))
#define PART(i) (3000 + (i))

/* The operand with the places, as windows over them: its dims that stay, then the summed ones as one. */
static Node *
make_windows(Graph *to, const Unfold *u, Node *x, int64_t *kept, int *nkept)
{
	Named t = {.x = x};
	int64_t name[MAXDIM + MOST];
	int n = 0;
	memcpy(t.name, dot_labels(u->dot, u->g), (size_t)x->nd * sizeof *t.name);
	for (int i = 0; i < u->nw; i++) {
		const Window *w = &u->w[i];
		int axis = find_label(t.name, t.x->nd, w->label);
		int64_t out = (w->size + w->stride - 1) / w->stride;
		Node *p = padded(to, t.x, axis, w->reach, out + (w->steps - 1) * w->dilation - w->reach - t.x->dim[axis]);
		int64_t dim[MAXDIM], at[3] = {axis, 1, w->dilation};
		memcpy(dim, p->dim, sizeof dim);
		dim[axis] = out;
		dim[p->nd] = w->steps;
		t.x = node_new(to, P_window, 0, &p, 1, dim, p->nd + 1, at, 3, 0);
		t.name[t.x->nd - 1] = STEPS(i);
	}
	*nkept = 0;
	for (int i = 0; i < u->dot->nd; i++) /* in the result's order */
		if (find_label(dot_labels(u->dot, u->g), x->nd, dot_labels(u->dot, 2)[i]) >= 0)
			name[n++] = kept[(*nkept)++] = dot_labels(u->dot, 2)[i];
	for (int i = 0; i < u->nw; i++)
		name[n++] = STEPS(i);
	for (int i = 0; i < x->nd; i++)
		if (find_label(name, n, dot_labels(u->dot, u->g)[i]) < 0)
			name[n++] = dot_labels(u->dot, u->g)[i];
	return ordered(to, &t, name, t.x->nd - *nkept);
}

/* The weights: summed dims as one, then places within strides and what else they have; the names and sizes of these. */
static Node *
make_weights(Graph *to, const Unfold *u, Node *w, int64_t *name, int64_t *size, int *n)
{
	const int64_t *label = dot_labels(u->dot, !u->g), *lg = dot_labels(u->dot, u->g);
	int64_t dim[MAXDIM], all[MAXDIM + MOST];
	Named t = {0};
	int nd = 0, na = 0;
	for (int i = 0; i < w->nd; i++) { /* cut where the dims below the folds cut it, from outside inwards */
		int r = find_label(dot_labels(u->dot, 2), u->dot->nd, label[i]);
		if (r < 0) {
			t.name[nd] = label[i];
			dim[nd++] = w->dim[i];
			continue;
		}
		int64_t left = w->dim[i], step = 1;
		for (int k = r + 1; k < u->dot->nd; k++)
			step *= u->dot->dim[k];
		while (left > 1) {
			int k = 0;
			while (k < u->nd && !(u->dim[k] > 1 && u->stride[k] * u->dim[k] == step * left))
				k++;
			if (k == u->nd || nd == MAXDIM)
				return NULL;
			left /= u->dim[k];
			t.name[nd] = PART(k);
			for (int j = 0; j < u->nw; j++)
				if (u->w[j].step == u->stride[k] && k >= u->nd - u->nw)
					t.name[nd] = -1 - j;
			dim[nd++] = u->dim[k];
		}
	}
	t.x = mk_reshape(to, w, dim, nd);
	for (int j = 0; j < u->nw; j++) { /* taps -> steps, places within a stride; the last step first */
		const Window *v = &u->w[j];
		int axis = find_label(t.name, t.x->nd, -1 - j);
		if (axis < 0 || t.x->nd == MAXDIM)
			return NULL;
		Node *p = padded(to, t.x, axis, v->lead, v->steps * v->stride - v->lead - v->taps);
		memcpy(dim, p->dim, sizeof dim);
		memmove(dim + axis + 1, dim + axis, (size_t)(p->nd - axis) * sizeof *dim);
		memmove(t.name + axis + 1, t.name + axis, (size_t)(p->nd - axis) * sizeof *t.name);
		dim[axis] = v->steps;
		dim[axis + 1] = v->stride;
		t.name[axis] = STEPS(j);
		t.name[axis + 1] = WITHIN(j);
		t.x = flipped(to, mk_reshape(to, p, dim, p->nd + 1), axis);
	}
	for (int j = 0; j < u->nw; j++)
		all[na++] = STEPS(j);
	for (int i = 0; i < u->dot->in[u->g]->nd; i++) /* summed ones, in the order of the other operand */
		if (find_label(t.name, t.x->nd, lg[i]) >= 0)
			all[na++] = lg[i];
	int64_t k = 1;
	for (int i = 0; i < na; i++)
		k *= t.x->dim[find_label(t.name, t.x->nd, all[i])];
	*n = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < t.x->nd; i++)
			if ((t.name[i] >= PART(0)) == pass && find_label(all, na, t.name[i]) < 0) {
				all[na++] = t.name[i];
				if (t.x->dim[i] > 1) {
					size[*n] = t.x->dim[i];
					name[(*n)++] = t.name[i];
				}
			}
	Node *y = ordered(to, &t, all, 1);
	dim[0] = k;
	memcpy(dim + 1, size, (size_t)*n * sizeof *dim);
	return mk_reshape(to, y, dim, *n + 1);
}

static bool
summed_alike(const Node *dot)
{
	for (int side = 0; side < 2; side++)
		for (int i = 0; i < dot->in[side]->nd; i++) {
			int64_t l = dot_labels(dot, side)[i];
			bool kept = find_label(dot_labels(dot, 2), dot->nd, l) >= 0, other = find_label(dot_labels(dot, !side), dot->in[!side]->nd, l) >= 0;
			if (kept == other) /* a batch of products, or summed in one operand alone */
				return false;
		}
	return true;
}

/* The new product's dims to those of the fold: places and what lies within their strides merge. */
static Node *
make_result(Graph *to, const Unfold *u, Node *y, const Node *n, const int64_t *kept, int nkept, const int64_t *name, const int64_t *size, int nname)
{
	int64_t dim[MAXDIM + 2 * MOST], perm[MAXDIM] = {0}, merged[MAXDIM], lo[MAXDIM] = {0}, one[MAXDIM];
	Named t = {.x = y};
	int nd = 0, np = 0;
	for (int i = 0; i < nkept; i++) {
		t.name[nd] = kept[i];
		dim[nd++] = y->dim[i];
	}
	for (int i = 0; i < nname; i++) {
		t.name[nd] = name[i];
		dim[nd++] = size[i];
	}
	for (int i = 0; i < n->nd; i++) {
		one[i] = 1;
		merged[i] = 1;
		if (u->dim[i] == 1 && n->dim[i] == 1)
			continue;
		if (is_of(u->dot, u->stride[i], !u->g)) {
			int at = find_label(t.name, nd, PART(i));
			if (at < 0)
				return NULL;
			perm[np++] = at;
			merged[i] = dim[at];
			continue;
		}
		int64_t label = dot_labels(u->dot, 2)[dim_of(u->dot, u->stride[i])];
		int at = find_label(t.name, nd, label);
		perm[np++] = at;
		merged[i] = dim[at];
		for (int j = 0; j < u->nw; j++)
			if (u->w[j].label == label) {
				int r = find_label(t.name, nd, WITHIN(j));
				if (r < 0)
					continue;
				perm[np++] = r;
				merged[i] *= dim[r];
			}
	}
	if (np != nd)
		return NULL;
	return mk_slice(to, mk_reshape(to, mk_permute(to, t.x, perm), merged, n->nd), lo, one, n->dim);
}

static bool
whole_steps(const Node *slice)
{
	for (int i = 0; i < slice->nd; i++)
		if (slice->at[slice->nd + i] != 1)
			return false;
	return true;
}

static Node *
unfold(Graph *to, Node *n, Node **in, void *ctx)
{
	const bool *inner = ctx;
	Node top = *n;
	Unfold u;
	int64_t kept[MAXDIM], name[MAXDIM + MOST], size[MAXDIM + MOST], at[3 * MAXDIM];
	int nkept, nname, k = 0;
	if ((n->op != P_fold && (n->op != P_slice || in[0]->op != P_fold || !whole_steps(n))) || inner[n->id])
		return NULL;
	top.in = in;
	if (!read_folds(&top, &u) || !summed_alike(u.dot) || u.dot->in[u.g]->nd + u.nw > MAXDIM)
		return NULL;
	Node *b = make_weights(to, &u, u.dot->in[!u.g], name, size, &nname);
	if (!b || nname + u.dot->nd > MAXDIM)
		return NULL;
	Node *a = make_windows(to, &u, u.dot->in[u.g], kept, &nkept);
	for (int i = 0; i < a->nd; i++)
		at[k++] = i;
	for (int i = 0; i < b->nd; i++)
		at[k++] = a->nd - 1 + i;
	for (int i = 0; i < nkept + nname; i++)
		at[k++] = i < nkept ? i : i + 1;
	Node *y = node_new(to, P_dot, DT_F32, (Node *[]){a, b}, 2, NULL, 0, at, k, 0);
	return make_result(to, &u, y, n, kept, nkept, name, size, nname);
}

Graph *
pass_unfold(Graph *g)
{
	bool *inner = arena_alloc(g->arena, (size_t)g->nnode); /* read by another fold, or a slice: taken with that */
	for (int i = 0; i < g->nnode; i++) {
		const Node *n = g->node[i];
		if ((n->op == P_fold || (n->op == P_slice && whole_steps(n))) && n->in[0]->op == P_fold)
			inner[n->in[0]->id] = true;
	}
	return graph_map(g, unfold, inner);
}
