/* Decoding: from the graph of a whole sequence (eval, batch 1), one that computes a place of it a run, by demand.

   The output is demanded at one place, and the demand goes backwards:
     - Through what keeps the axis, a place of the result needs that place of the operands: the dim becomes 1. The index along
       it becomes the place; a table, a lookup. A slice or a pad moves the demand, to earlier places at most.
     - What is needed at all places, or at an earlier one, is kept: a state with a row a place, which each run writes at its
       place. A scan's carries are states, and its body is the run's step.
     - Rows behind the place hold what was left there. Part.late says along which dim a value has such; it may not reach the
       output, nor a row that is kept: somewhere a mask must leave it out (decode_later.c).

     k[t, c] = ..;  p[t, s] = softmax of where(s <= t, sum(q * k, c), -1e30);  y[t, c] = sum(p * v, s)
       kept.0[s, c] = where(s == place, k[place], kept.0);  p[s] = ..;  y[c] = sum(p * kept.1, s)

   It knows nothing of attention: causal convolutions, shifts and recurrent layers go the same way. States: space act, zero before place
   0; "place" counts the runs. Needs: sums not yet made products (contract), parameters packed. */
#include <stdlib.h>
#include <string.h>

#include "decode.h"

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

static void
find_axes(Decode *d, Graph *g)
{
	for (int i = 0; i < g->nnode; i++) {
		const Node *n = g->node[i];
		Info *to = &d->info[i];
		to->depends = n->op == P_fetch;
		for (int k = 0; k < n->nin; k++)
			to->depends |= d->info[n->in[k]->id].depends;
		to->axes = n->op == P_fetch || (n->op == P_result && to->depends) ? 1 : 0;
		for (int k = 0; k < n->nin; k++)
			for (int e, j = 0; j < n->nd; j++)
				if ((e = dim_below(n, k, j)) >= 0 && d->info[n->in[k]->id].axes >> e & 1)
					to->axes |= 1u << j;
	}
}

/* The one dim that is the sequence's axis, or NOWHERE. */
static int
axis_of(const Decode *d, const Node *n)
{
	unsigned axes = d->info[n->id].axes;
	int i = 0;
	while (axes && !(axes >> i & 1))
		i++;
	return axes && axes >> i == 1 && n->dim[i] > 1 ? i : NOWHERE;
}

/* ---- making nodes ---- */

Part
refuse(Decode *d, const Node *n, const char *why)
{
	if (!d->culprit) {
		d->culprit = n;
		d->why = why;
	}
	return NOTHING;
}

Graph *
serve(Decode *d, const Node *n)
{
	d->to->loc = n->loc;
	d->to->model = n->model;
	return d->to;
}

int64_t *
at_one(const Node *n, int dim, int64_t *out)
{
	memcpy(out, n->dim, sizeof n->dim);
	out[dim] = 1;
	return out;
}

Node *
repeat(Graph *g, Node *scalar, const int64_t *dim, int nd)
{
	int64_t map[MAXDIM];
	for (int i = 0; i < nd; i++)
		map[i] = -1;
	return mk_expand(g, scalar, dim, nd, map);
}

/* x, which has size 1 along dim, repeated to the size of `like`. */
static Node *
stretch(Graph *g, Node *x, int dim, const Node *like)
{
	int64_t less[MAXDIM], map[MAXDIM];
	int n = 0;
	for (int i = 0; i < x->nd; i++) {
		map[i] = i == dim ? -1 : n;
		if (i != dim)
			less[n++] = x->dim[i];
	}
	return mk_expand(g, mk_reshape(g, x, less, n), like->dim, x->nd, map);
}

Node *scalar_i32(Graph *g, int64_t v) { return mk_const(g, DT_I32, (double)v, NULL, 0); }

/* place + off */
static Node *place_at(Decode *d, int64_t off) { return mk2(d->to, P_add, d->place, scalar_i32(d->to, off)); }

/* x at index place + off along dim; out of range, at the nearest in range. */
static Node *
take(Decode *d, Node *x, int dim, int64_t off)
{
	Graph *g = d->to;
	int64_t first[MAXDIM], back[MAXDIM], one = 1;
	for (int i = 0; i < x->nd; i++) {
		first[i] = i == 0 ? dim : i <= dim ? i - 1 : i;
		back[i] = i == dim ? 0 : i < dim ? i + 1 : i;
	}
	Node *in[2] = {mk_permute(g, x, first), mk_reshape(g, place_at(d, off), &one, 1)};
	return mk_permute(g, node_new(g, P_gather, 0, in, 2, NULL, 0, NULL, 0, 0), back);
}

static Part
lookup(Decode *d, Node *n, int dim, int64_t off)
{
	Part p = need_all(d, n);
	serve(d, n);
	return (Part){take(d, p.node, dim, off), NOWHERE};
}

Node *
remake(Decode *d, Node *n, Node **in, const int64_t *dim, const int64_t *at)
{
	return node_new(serve(d, n), n->op, n->dt, in, n->nin, dim, n->nd, at, n->nat, n->f);
}

/* ---- states ---- */

static int
new_state(Decode *d, const char *name, const Node *like)
{
	GState s = {.name = name, .dt = like->dt, .nd = like->nd, .space = SP_ACT, .fit = "", .loc = like->loc};
	memcpy(s.dim, like->dim, sizeof s.dim);
	return graph_state(d->to, s);
}

int
keep_state(Decode *d, const Node *of, const Node *like)
{
	text_printf(&d->say, "%s: v%d %s: kept from place to place, %ld bytes\n", node_place(d->to->arena, of), of->id, prim_info[of->op].name,
	            (long)(node_count(like) * (int64_t)dtype_bytes(like->dt)));
	return new_state(d, arena_printf(d->to->arena, "kept.%d", d->nkept++), like);
}

/* All places of n up to this one: a state, of which this run writes its row. */
static Part
keep(Decode *d, Node *n)
{
	int axis = axis_of(d, n);
	int64_t at = axis;
	if (axis < 0)
		return refuse(d, n, "is needed at all places at once");
	Part row = need_at(d, n, axis, 0);
	if (!row.node || row.late >= 0)
		return row.node ? refuse(d, n, "takes in later places") : row;
	int state = keep_state(d, n, n);
	Graph *g = serve(d, n);
	Node *index = node_new(g, P_iota, DT_I32, NULL, 0, n->dim, n->nd, &at, 1, 0);
	Node *here = mk2(g, P_eq, index, repeat(g, d->place, n->dim, n->nd));
	Node *all = mk3(g, P_select, here, stretch(g, row.node, axis, n), mk_state(g, state));
	g->state[state].update = all;
	return (Part){all, axis};
}

/* ---- all places ---- */

static Part
copy_whole(Decode *d, Node *n)
{
	Node **in = arena_alloc(d->to->arena, (size_t)n->nin * sizeof *in);
	for (int k = 0; k < n->nin; k++)
		in[k] = need_all(d, n->in[k]).node;
	if (n->op == P_scan)
		return (Part){mk_scan(serve(d, n), in, n->nin, n->at, n->nat, n->body), NOWHERE};
	if (n->op == P_result)
		return (Part){mk_result(serve(d, n), in[0], (int)n->at[0]), NOWHERE};
	return (Part){remake(d, n, in, n->dim, n->at), NOWHERE};
}

/* What only repeats and reorders is made of what is below it. */
static Part
whole_view(Decode *d, Node *n)
{
	Part p = need_all(d, n->in[0]);
	if (!p.node)
		return p;
	int late = p.late < 0 ? NOWHERE : dim_above(n, 0, p.late);
	if (p.late >= 0 && late < 0)
		return refuse(d, n, "mixes places");
	return (Part){remake(d, n, &p.node, n->dim, n->at), late};
}

Part
need_all(Decode *d, Node *n)
{
	Info *i = &d->info[n->id];
	if (i->known)
		return i->whole;
	if (!i->depends)
		i->whole = copy_whole(d, n);
	else if (n->op == P_expand || n->op == P_permute || n->op == P_reshape)
		i->whole = whole_view(d, n);
	else
		i->whole = keep(d, n);
	i->known = true;
	return i->whole;
}

/* ---- one place ---- */

/* For each dim of the result, what of the operands is undefined behind the place; false: what is summed is. */
static bool
join_late(Decode *d, const Node *n, int k, int dim, bool moved, Part p, int *late)
{
	int above = p.late < 0 ? NOWHERE : dim_above(n, k, p.late);
	if (p.late < 0)
		return true;
	if (above < 0) {
		refuse(d, n, "takes in later places");
		return false;
	}
	if (!moved && !sees_later(n, k, dim, above))
		return true;
	if (*late >= 0 && *late != above) {
		refuse(d, n, "mixes places");
		return false;
	}
	*late = above;
	return true;
}

/* Of the zeros of a pad and what is between them, at index place + off. */
static Node *
within(Decode *d, Node *x, int64_t off, int64_t lo, int64_t size)
{
	Graph *g = d->to;
	Node *at = place_at(d, off), *in = mk2(g, P_and, mk2(g, P_le, scalar_i32(g, lo), at), mk2(g, P_lt, at, scalar_i32(g, lo + size)));
	return mk3(g, P_select, repeat(g, in, x->dim, x->nd), x, mk_like(g, 0, x));
}

/* The same on operands at the place, where they have the dim. */
static Part
same_place(Decode *d, Node *n, int dim, int64_t off)
{
	Node **in = arena_alloc(d->to->arena, (size_t)n->nin * sizeof *in);
	int64_t at[2 * MAXDIM], size[MAXDIM], from = off;
	bool places = n->op == P_slice || n->op == P_pad;
	int late = NOWHERE;
	if (n->nat > (int)LEN(at))
		bug("%s of %d attributes", prim_info[n->op].name, n->nat);
	if (n->nat)
		memcpy(at, n->at, (size_t)n->nat * sizeof *at);
	if (places) {
		from += n->op == P_slice ? at[dim] : -at[dim];
		at[dim] = 0;
		at[n->nd + dim] = 1;
	}
	for (int k = 0; k < n->nin; k++) {
		int below = dim_below(n, k, dim);
		Part p = below < 0 ? need_all(d, n->in[k]) : need_at(d, n->in[k], below, from);
		if (!p.node || !join_late(d, n, k, dim, off != 0, p, &late))
			return NOTHING;
		in[k] = p.node;
	}
	Node *y = remake(d, n, in, at_one(n, dim, size), at);
	if (n->op == P_pad)
		y = within(d, y, off, n->at[dim], n->in[0]->dim[dim]);
	return (Part){y, late};
}

/* Beside the place, those that its window has. */
static Part
window_at(Decode *d, Node *n, int64_t off)
{
	int axis = (int)n->at[0], last = n->nd - 1;
	int64_t size[MAXDIM], width = n->dim[last];
	Node **part = arena_alloc(d->to->arena, (size_t)width * sizeof *part);
	at_one(n, axis, size)[last] = 1;
	for (int64_t j = 0; j < width; j++) {
		Part p = need_at(d, n->in[0], axis, off + j * n->at[2]);
		if (!p.node || p.late >= 0)
			return p.node ? refuse(d, n, "takes in later places") : p;
		part[j] = mk_reshape(serve(d, n), p.node, size, n->nd);
	}
	return (Part){mk_concat(serve(d, n), part, (int)width, last), NOWHERE};
}

/* That of the parts in which the place is. */
static Part
concat_at(Decode *d, Node *n, int64_t off)
{
	int axis = (int)n->at[0];
	int64_t start = n->dim[axis];
	Part all = NOTHING;
	for (int k = n->nin - 1; k >= 0; k--) {
		int64_t behind = start;
		start -= n->in[k]->dim[axis];
		Part p = need_at(d, n->in[k], axis, off - start);
		if (!p.node || p.late >= 0)
			return p.node ? refuse(d, n, "mixes places") : p;
		Graph *g = serve(d, n);
		Node *here = mk2(g, P_lt, place_at(d, off), scalar_i32(g, behind));
		all.node = all.node ? mk3(g, P_select, repeat(g, here, p.node->dim, n->nd), p.node, all.node) : p.node;
	}
	return all;
}

static Part
index_at(Decode *d, const Node *n, int64_t off)
{
	int64_t size[MAXDIM];
	serve(d, n);
	return (Part){repeat(d->to, place_at(d, off), at_one(n, (int)n->at[0], size), n->nd), NOWHERE};
}

/* Does the demand go through n to places of its operands, near or far? */
static bool
passes(const Node *n, int dim)
{
	int64_t step = n->op == P_slice || n->op == P_pad ? n->at[n->nd + dim] : n->op == P_window && n->at[0] == dim ? n->at[1] : 1;
	for (int k = 0; k < n->nin; k++)
		if (dim_below(n, k, dim) == UNKNOWN)
			return false;
	return step == 1 && (n->nin || n->op == P_const || n->op == P_iota);
}

static Part
make_one(Decode *d, Node *n, int dim, int64_t off)
{
	bool depends = d->info[n->id].depends, moves = kind(n) == K_VIEW || kind(n) == K_CONCAT;
	if (depends && off < 0 && !moves) {
		Part p = need_all(d, n);
		if (p.node && p.late != dim)
			return refuse(d, n, "mixes places");
		serve(d, n);
		return p.node ? (Part){take(d, p.node, dim, off), NOWHERE} : p;
	}
	if (depends && n->op == P_result)
		return step_result(d, n, dim, off);
	if (!passes(n, dim))
		return depends ? refuse(d, n, "mixes places") : lookup(d, n, dim, off);
	if (n->op == P_fetch && depends && off > 0)
		return refuse(d, n, "is needed at later places");
	if (n->op == P_iota && n->at[0] == dim)
		return index_at(d, n, off);
	if (n->op == P_window && n->at[0] == dim)
		return window_at(d, n, off);
	if (n->op == P_concat && n->at[0] == dim)
		return concat_at(d, n, off);
	return same_place(d, n, dim, off);
}

Part
need_at(Decode *d, Node *n, int dim, int64_t off)
{
	Info *i = &d->info[n->id];
	for (const Met *m = i->met; m; m = m->next)
		if (m->dim == dim && m->off == off)
			return m->part;
	Met *m = arena_alloc(d->to->arena, sizeof *m);
	*m = (Met){dim, off, make_one(d, n, dim, off), i->met};
	i->met = m;
	return m->part;
}

/* ---- the graph ---- */

static void
begin(Decode *d, Graph *from)
{
	Graph *g = d->to = graph_new(from->arena, "decode");
	Node scalar = {.dt = DT_I32};
	g->batch = from->batch;
	g->param = from->param, g->nparam = g->capparam = from->nparam;
	for (int i = 0; i < from->nstate; i++) {
		graph_state(g, from->state[i]);
		g->state[i].update = NULL;
	}
	d->info = arena_alloc(g->arena, (size_t)from->nnode * sizeof *d->info);
	find_axes(d, from);
	d->place_state = new_state(d, "place", &scalar);
	d->place = mk_state(g, d->place_state);
}

/* The place moves on, but never past the last. */
static void
count_places(Decode *d, int64_t places)
{
	Graph *g = d->to;
	g->state[d->place_state].update = mk2(g, P_min, place_at(d, 1), scalar_i32(g, places - 1));
}

/* The output [.., places, classes] at the place. */
static Part
demand(Decode *d, Graph *from, Node *out)
{
	int axis = out->nd - 2;
	if (axis < 0)
		return refuse(d, out, "has no axis of places");
	for (int i = 0; i < from->nstate; i++) {
		const Node *u = from->state[i].update;
		if (u && d->info[u->id].depends)
			return refuse(d, u, "changes a state from window to window");
	}
	Part p = need_at(d, out, axis, 0);
	if (p.node && p.late >= 0)
		return refuse(d, out, "takes in later places");
	if (p.node)
		count_places(d, out->dim[axis]);
	return p;
}

Graph *
pass_decode(Graph *g, const char *output, Text *say)
{
	Decode d = {0};
	int i = 0;
	while (i < g->noutput && (strcmp(g->output[i].name, output) || strcmp(g->output[i].role, "prediction")))
		i++;
	if (i == g->noutput)
		return NULL;
	begin(&d, g);
	Part p = demand(&d, g, g->output[i].node);
	if (p.node)
		graph_output(d.to, output, "place", p.node);
	if (say && p.node)
		text_add(say, d.say.s, d.say.n);
	else if (say)
		text_printf(say, "%s: v%d %s: %s: no program for one place at a time, so generate computes a whole window for each byte\n",
		            node_place(g->arena, d.culprit), d.culprit->id, prim_info[d.culprit->op].name, d.why);
	free(d.say.s);
	return p.node ? d.to : NULL;
}
