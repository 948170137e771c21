/* A scan as a loop of the plan: the inits go to their places in the carries' histories, then the body's kernels and products run
   once a step, on addresses that move on by a fixed number of bytes.

     v = scan(h0, u, r) {h' = tanh(u_t + h r)}        zero history[0]
                                                      loop T times:
                                                        gemm   history[i] r          -> s
                                                        kernel tanh(u[i] + s)        -> history[i + 1]

   In reverse the same addresses are walked from the last step down. */
#include <stdlib.h>
#include <string.h>

#include "codegen_impl.h"

void
scan_results(Graph *g)
{
	for (int i = 0, n = g->nnode; i < n; i++)
		for (int k = 0; g->node[i]->op == P_scan && k < g->node[i]->body->noutput; k++)
			mk_result(g, g->node[i], k);
}

size_t
scan_steps_bound(const Graph *g)
{
	size_t n = 0;
	for (int i = 0; i < g->nnode; i++)
		if (g->node[i]->op == P_scan)
			n += 2 * (size_t)g->node[i]->body->nnode + 2 * (size_t)g->node[i]->body->noutput + 4;
	return n;
}

static Node *
result_of(const LoopGen *l, int output)
{
	Graph *g = l->f->g;
	for (int i = l->scan->id + 1; i < g->nnode; i++)
		if (g->node[i]->op == P_result && g->node[i]->in[0] == l->scan && g->node[i]->at[0] == output)
			return g->node[i];
	bug("output %d of the scan v%d has no place", output, l->scan->id);
}

/* Bytes from the first to past the last element. */
static uint64_t
extent_of(const Node *n, const int64_t *stride)
{
	int64_t last = 0;
	for (int i = 0; i < n->nd; i++)
		last += (n->dim[i] - 1) * stride[i];
	return (uint64_t)(last + 1) * dtype_bytes(n->dt);
}

/* u becomes `bytes` a step of x, whose place for the first step is number `from`. */
static void
move_on(const LoopGen *l, Use *u, Node *x, uint64_t from, uint64_t bytes)
{
	u->f = l->f;
	u->node = x;
	u->off += from * bytes;
	u->step = scan_reverse(l->scan) ? -(int64_t)bytes : (int64_t)bytes;
}

static void
use_output(const LoopGen *l, Use *u, int output)
{
	uint64_t last = (uint64_t)scan_steps(l->scan) - 1;
	bool carry = output < scan_ncarry(l->scan), reverse = scan_reverse(l->scan);
	uint64_t bytes = (uint64_t)node_bytes(u->node);
	move_on(l, u, result_of(l, output), reverse ? last : carry, bytes);
}

static void
use_operand(const LoopGen *l, Use *u, int k)
{
	Node *n = u->node, *x = l->scan->in[k], *root;
	uint64_t size = dtype_bytes(n->dt), last = (uint64_t)scan_steps(l->scan) - 1;
	bool reverse = scan_reverse(l->scan);
	int64_t off, stride[MAXDIM];
	u->bytes = u->bytes ? u->bytes : extent_of(n, l->body->layout[n->id].stride);
	if (k < scan_ncarry(l->scan)) {
		move_on(l, u, result_of(l, k), reverse ? last + 1 : 0, (uint64_t)node_bytes(n));
		return;
	}
	if (!strided(l->f, x, &root, &off, stride))
		bug("operand %d of the scan v%d is not in memory", k, l->scan->id);
	u->f = l->f;
	u->node = root;
	u->off += (uint64_t)off * size;
	if (scan_is_seq(l->scan, k))
		move_on(l, u, root, reverse ? last : 0, (uint64_t)stride[0] * size);
}

void
scan_use(const LoopGen *l, Use *u)
{
	const Graph *body = l->scan->body;
	if (u->node->id < 0)
		return;
	if (u->node->op == P_input) {
		use_operand(l, u, (int)u->node->at[0]);
		return;
	}
	const Layout *at = &l->body->layout[u->node->id];
	for (int k = 0; k < body->noutput; k++)
		if (body->output[k].node == at->root) { /* it, or a part of it that is computed in place */
			u->bytes = u->bytes ? u->bytes : (uint64_t)node_bytes(u->node);
			u->off += (uint64_t)at->off * dtype_bytes(u->node->dt);
			u->node = at->root;
			use_output(l, u, k);
			return;
		}
}

/* ---- the body ---- */

/* Where the operands lie, for the body's fusion; and no output is an input itself, so that each has a place of its own. */
static void
bind_body(LoopGen *l)
{
	Graph *b = l->scan->body;
	int64_t off, stride[MAXDIM];
	Node *root;
	for (int k = 0; k < l->scan->nin; k++) {
		GInput *in = &b->input[k];
		int64_t plain = 1;
		int seq = scan_is_seq(l->scan, k);
		in->bound = true;
		for (int i = in->nd - 1; i >= 0; i--) {
			in->stride[i] = plain;
			plain *= in->dim[i];
		}
		if (k >= scan_ncarry(l->scan) && strided(l->f, l->scan->in[k], &root, &off, stride))
			memcpy(in->stride, stride + seq, (size_t)in->nd * sizeof *stride);
	}
	for (int k = 0; k < b->noutput; k++)
		if (b->output[k].node->op == P_input)
			b->output[k].node = mk1(b, P_stop, b->output[k].node);
}

/* Loads and stores four wide need addresses that stay multiples of four elements. */
static void
find_odd(const LoopGen *l)
{
	const Graph *b = l->scan->body;
	for (int i = 0; i < b->nnode; i++) {
		Use u = {.f = l->body, .node = b->node[i]};
		int64_t four = 4 * (int64_t)dtype_bytes(b->node[i]->dt);
		scan_use(l, &u);
		l->body->layout[i].odd = u.step % four != 0 || (int64_t)u.off % four != 0;
	}
}

/* Two outputs may be one value: the others are copies. */
static void
copy_outputs(Gen *c, const LoopGen *l)
{
	const Graph *b = l->scan->body;
	for (int k = 0; k < b->noutput; k++) {
		Node *n = b->output[k].node;
		int first = 0;
		while (b->output[first].node != n)
			first++;
		if (first == k)
			continue;
		Step *s = step_new(c, I_COPY, l->scan, "copy");
		Use from = {.f = l->body, .node = n}, to = from;
		to.bytes = from.bytes = (uint64_t)node_bytes(n);
		use_output(l, &to, k);
		use_output(l, &from, first);
		to.written = true;
		s->use[s->nuse++] = to;
		s->use[s->nuse++] = from;
		s->instr.nout = 1;
	}
}

static void
place_init(Gen *c, const LoopGen *l, int k)
{
	Node *init = l->scan->in[k], *history = result_of(l, k), *root;
	uint64_t bytes = (uint64_t)node_bytes(init);
	bool zero = init->op == P_const && init->f == 0;
	int64_t off, stride[MAXDIM];
	Step *s = step_new(c, zero ? I_ZERO : I_COPY, l->scan, zero ? "zero" : "copy");
	add_use(s, history, scan_reverse(l->scan) ? (uint64_t)scan_steps(l->scan) * bytes : 0, bytes, true);
	if (!zero) {
		if (!strided(l->f, init, &root, &off, stride))
			bug("init %d of the scan v%d is not in memory", k, l->scan->id);
		add_use(s, root, (uint64_t)off * dtype_bytes(init->dt), bytes, false);
	}
	s->instr.nout = 1;
}

void
gen_scan(Gen *c, int region)
{
	LoopGen l = {.f = c->f, .scan = c->f->region[region].node[0]};
	Graph *outer = c->g, *body = l.scan->body;
	for (int k = 0; k < scan_ncarry(l.scan); k++)
		place_init(c, &l, k);
	bind_body(&l);
	body->name = c->p.name;
	l.body = fuse(body, c->o->fuse, c->o->cuda, c->o->library);
	find_odd(&l);
	l.first = c->nstep;
	Step *s = step_new(c, I_LOOP, l.scan, "loop");
	c->g = body;
	c->f = l.body;
	c->loop = &l;
	gen_regions(c);
	copy_outputs(c, &l);
	c->g = outer;
	c->f = l.f;
	c->loop = NULL;
	s->instr.times = scan_steps(l.scan);
	s->instr.index = (uint32_t)(c->nstep - l.first - 1);
	s->instr.what = arena_printf(c->arena, "loop of %ld steps", (long)scan_steps(l.scan));
	if (c->o->explain)
		text_add(c->o->explain, l.body->explain.s, l.body->explain.n);
	free(l.body->explain.s);
}
