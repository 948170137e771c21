/* Windows over few channels, as of a picture of three: with zeros behind them, so that a window's channels are a run of memory
   that a GPU copies at once (product.c), not an element at a time.

     sum(window(x)[m, (i j c)] w[(i j c), n], (i j c))  ->  the same of pad(x, c), pad(w, c)

   Where the windows' places are no sum but dims of the result, as in the gradient by w, the added ones are cut off again. The
   padded x is rounded to bf16 in the same pass over it. Needs: contract. For bf16 (precision.c). */
#include <string.h>

#include "loop.h"

enum { RUN_CHANNELS = 4 };

/* A tensor one of whose dims has channels for its innermost factor. */
typedef struct Wide {
	Node *x;     /* with more of them */
	int at;      /* that dim */
} Wide;

static int64_t
after(const Node *x, int dim)
{
	int64_t n = 1;
	for (int i = dim + 1; i < x->nd; i++)
		n *= x->dim[i];
	return n;
}

/* The last dim of x, n times `channels`, with zeros behind each: n times `wide`. */
static Node *
resize(Graph *to, Node *x, int at, int64_t channels, int64_t wide)
{
	int64_t dim[MAXDIM], lo[MAXDIM] = {0}, step[MAXDIM];
	int64_t n = x->dim[at] / channels;
	if (x->nd == MAXDIM)
		return NULL;
	memcpy(dim, x->dim, (size_t)at * sizeof *dim);
	memcpy(dim + at + 2, x->dim + at + 1, (size_t)(x->nd - at - 1) * sizeof *dim);
	dim[at] = n;
	dim[at + 1] = channels;
	Node *y = mk_reshape(to, x, dim, x->nd + 1);
	for (int i = 0; i < y->nd; i++)
		step[i] = 1;
	dim[at + 1] = wide;
	y = wide > channels ? mk_pad(to, y, lo, step, dim) : mk_slice(to, y, lo, step, dim);
	memcpy(dim, x->dim, (size_t)x->nd * sizeof *dim);
	dim[at] = n * wide;
	return mk_reshape(to, y, dim, x->nd);
}

/* What windows are of: below the last of the views that are windows, pads or parts. */
static const Node *
windows_of(const Node *x)
{
	const Node *base = x;
	for (; prim_info[x->op].kind == K_VIEW; x = x->in[0])
		if (x->op == P_window || x->op == P_pad || x->op == P_slice)
			base = x->in[0];
	return base;
}

/* The views that x is, over base with more channels. x NULL in the result if they do not keep channels side by side. */
static Wide
widen_views(Graph *to, Node *x, const Node *base, int64_t channels, int64_t wide)
{
	Wide w = {0};
	int64_t dim[MAXDIM];
	if (x == base) {
		Node *y = resize(to, x, x->nd - 1, channels, wide);
		return (Wide){y ? mk_cast(to, y, DT_BF16) : NULL, x->nd - 1};
	}
	Wide in = widen_views(to, x->in[0], base, channels, wide);
	if (!in.x)
		return w;
	w.at = in.at;
	memcpy(dim, x->dim, (size_t)x->nd * sizeof *dim);
	switch (x->op) {
	case P_permute:
		while (x->at[w.at] != in.at)
			w.at = w.at + 1 < x->nd ? w.at + 1 : 0;
		break;
	case P_window:
		if (x->at[0] == in.at)
			return w;
		break;
	case P_pad: case P_slice:
		if (x->at[in.at] || x->at[x->nd + in.at] != 1 || x->dim[in.at] != x->in[0]->dim[in.at])
			return w;
		break;
	case P_reshape:
		w.at = x->nd - 1;
		while (w.at > 0 && after(x, w.at) < after(x->in[0], in.at))
			w.at--;
		if (after(x, w.at) != after(x->in[0], in.at) || x->dim[w.at] % channels)
			return w;
		break;
	default:
		return w;
	}
	dim[w.at] = x->dim[w.at] / channels * wide;
	w.x = node_new(to, x->op, DT_BF16, &in.x, 1, dim, x->nd, x->at, x->nat, x->f);
	return w;
}

Node *
widen_dot(Graph *to, const Node *n, Node **in, DType dt)
{
	int side = product_windowed(in[0]) ? 0 : 1;
	const Node *base = windows_of(in[side]);
	int64_t channels = base->nd ? base->dim[base->nd - 1] : 0, wide = (channels + RUN_CHANNELS - 1) / RUN_CHANNELS * RUN_CHANNELS;
	if (!product_windowed(in[side]) || channels < 3 || wide == channels)
		return NULL;
	Wide w = widen_views(to, in[side], base, channels, wide);
	if (!w.x)
		return NULL;
	int64_t label = dot_labels(n, side)[w.at];
	int other = find_label(dot_labels(n, !side), in[!side]->nd, label), kept = find_label(dot_labels(n, 2), n->nd, label);
	Node *x[2] = {in[0], in[1]};
	x[side] = w.x;
	x[!side] = mk_cast(to, other < 0 ? in[!side] : resize(to, in[!side], other, channels, wide), DT_BF16);
	Node *y = node_new(to, P_dot, dt, x, 2, NULL, 0, n->at, n->nat, 0);
	return kept < 0 ? y : resize(to, y, kept, wide, channels);
}
