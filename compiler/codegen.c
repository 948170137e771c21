/* A graph to a program of one target: fuse, lower each region to a kernel or a library call, place the buffers. */
#include <stdlib.h>
#include <string.h>

#include "codegen_impl.h"

#define NAME "KERNEL_NAME"
#define SPREAD 0.04 /* of the least possible arena, for buffers that are not reused */

Step *
step_new(Gen *c, InstrKind kind, const Node *n, const char *what)
{
	Step *s = &c->step[c->nstep++];
	s->gen = c;
	s->loop = c->loop ? c->loop->first : -1;
	s->instr.kind = kind;
	s->instr.what = arena_strdup(c->arena, what);
	s->instr.loc = node_place(c->arena, n);
	return s;
}

void
add_use(Step *s, Node *n, uint64_t off, uint64_t bytes, bool written)
{
	if (s->nuse == (int)LEN(s->use))
		bug("more than %d arguments", (int)LEN(s->use));
	Use *u = &s->use[s->nuse++];
	*u = (Use){.f = s->gen->f, .node = n, .off = off, .bytes = bytes, .written = written};
	if (s->gen->loop)
		scan_use(s->gen->loop, u);
}

double
node_bytes(const Node *n)
{
	return (double)node_count(n) * (double)dtype_bytes(n->dt);
}

/* Where the next kernel's text goes. */
static Text *
source_for_kernel(Sources *s)
{
	if (s->n == 0 || (s->kernels == s->per_module && s->n < (int)LEN(s->module))) {
		text_puts(&s->module[s->n++], s->prelude);
		text_puts(&s->module[s->n - 1], "\n");
		s->kernels = 0;
	}
	s->kernels++;
	return &s->module[s->n - 1];
}

/* Adds a kernel to the program; the step that runs it. */
static Step *
add_kernel(Gen *c, const Node *tell, const char *name, Launch l)
{
	c->p.kernel[c->p.nkernel] = (PlanKernel){.name = (char *)name, .module = (uint32_t)c->src->n - 1, .grid = (uint32_t)l.grid, .block = (uint32_t)l.block, .smem = (uint32_t)l.smem, .waits = c->o->cuda};
	Step *s = step_new(c, I_KERNEL, tell, name);
	s->instr.index = c->p.nkernel++;
	return s;
}

/* The same for a kernel whose text has NAME for its name: if the program has one of the same text, that one. */
static Step *
add_source(Gen *c, const Node *tell, const char *name, const char *head, const char *text, Launch l)
{
	for (uint32_t i = 0; i < c->p.nkernel; i++) {
		PlanKernel *k = &c->p.kernel[i];
		if (!c->text[i] || strcmp(c->text[i], text))
			continue;
		if (k->grid != (uint32_t)l.grid || k->block != (uint32_t)l.block || k->smem != (uint32_t)l.smem) {
			/* a text does not tell the size of the first axis: the same code, for more or fewer blocks */
			Step *s = add_kernel(c, tell, k->name, l);
			c->p.kernel[s->instr.index].module = k->module;
			return s;
		}
		Step *s = step_new(c, I_KERNEL, tell, k->name);
		s->instr.index = i;
		return s;
	}
	char *full = arena_printf(c->arena, "%s_%s", c->g->name, name);
	Text *source = source_for_kernel(c->src);
	text_puts(source, head);
	for (const char *p = text, *q; *p; p = q + strlen(NAME)) {
		if (!(q = strstr(p, NAME))) {
			text_puts(source, p);
			break;
		}
		text_add(source, p, (size_t)(q - p));
		text_puts(source, full);
	}
	c->text[c->p.nkernel] = arena_strdup(c->arena, text);
	return add_kernel(c, tell, full, l);
}

/* Each value's as often as it has places: of the axes of the row all, or none. */
static double
kernel_flops(const Kernel *k)
{
	double all = 0;
	int axes = k->product ? 3 : k->naxis;
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		double places = (double)k->outer;
		bool row = v->axes >> k->nouter || v->kind == LV_REDUCE;
		for (int a = k->nouter; a < axes && row; a++)
			places *= (double)k->size[a];
		if (v == k->product)
			all += 2 * places * (double)k->size[3];
		else if (v->kind == LV_PRIM || v->kind == LV_REDUCE)
			all += places;
	}
	return all;
}

/* n: the node of an R_SCATTER region, else NULL. */
static void
gen_kernel(Gen *c, int region, Node *n)
{
	Arena scratch = {0};
	Kernel *k = kernel_lower(&scratch, c->f, region, n);
	const Region *r = &c->f->region[region];
	Node *tell = n ? n : r->node[r->nnode - 1];
	Launch l = {1, 1, 0};
	if (k->fail)
		bug("region of v%d cannot be lowered: %s", tell->id, k->fail);
	Text text = {0}, head = {0};
	if (c->o->cuda)
		emit_kernel_cuda(&text, k, NAME, &l);
	else
		emit_kernel_c(&text, k, NAME, &l);
	text_printf(&head, "/* %s", loc_text(c->arena, tell->loc));
	for (int i = 0; i < k->narg; i++)
		text_printf(&head, "%s a%d: v%d", i ? "," : ";", i, k->arg[i].node->id);
	text_puts(&head, " */\n");
	Step *s = add_source(c, tell, kernel_name(c->arena, k, (int)c->p.nkernel), head.s, text.s, l);
	free(head.s);
	free(text.s);
	for (int i = 0; i < k->narg; i++) {
		const Arg *a = &k->arg[i];
		bool written = i >= k->nload;
		uint64_t size = dtype_bytes(a->node->dt);
		add_use(s, a->node, (uint64_t)a->off * size, (uint64_t)a->count * size, written);
		s->instr.nout += written;
		s->instr.traffic += a->count ? (double)a->count * (double)size : node_bytes(a->node);
	}
	s->instr.flops = kernel_flops(k);
	arena_free(&scratch);
}

static void
gen_sort(Gen *c, Node *n)
{
	Launch l = {0};
	Text text = {0};
	emit_sort_cuda(&text, n, NAME, &l);
	Step *s = add_source(c, n, arena_printf(c->arena, "k%u_sort", c->p.nkernel), "", text.s, l);
	free(text.s);
	add_use(s, n->in[0], 0, 0, false);
	add_use(s, n, 0, 0, true);
	s->instr.nout = 1;
	s->instr.traffic = node_bytes(n->in[0]) + node_bytes(n);
}

static void
gen_scatter(Gen *c, int region)
{
	const Region *r = &c->f->region[region];
	for (int i = 0; i < r->nnode; i++) {
		if (r->node[i]->op == P_sort)
			gen_sort(c, r->node[i]);
		else
			gen_kernel(c, region, r->node[i]);
	}
}

/* Bytes from the first to past the last element of a strided matrix (and its batches). */
static uint64_t
extent(DType dt, int64_t rows, int64_t rs, int64_t cols, int64_t cs, const PlanGemm *g, int64_t s0, int64_t s1)
{
	int64_t last = (rows - 1) * rs + (cols - 1) * cs + (g->batch0 - 1) * s0 + (g->batch1 - 1) * s1;
	return (uint64_t)(last + 1) * dtype_bytes(dt);
}

static void
gen_gemm(Gen *c, int region)
{
	const Region *r = &c->f->region[region];
	Node *dot = r->node[0], *out = r->node[r->nnode - 1];
	GemmCall m;
	if (!gemm_match(c->f, dot, &c->f->layout[out->id], &m))
		bug("no matrix product for v%d", dot->id);
	m.g.tf32 = c->o->tf32;
	m.g.dtype = dot->in[0]->dt;
	m.g.ctype = dot->dt;
	Node *bias = NULL;
	if (out != dot) {
		m.g.epilogue = EPI_BIAS;
		bias = out->in[0] == dot ? out->in[1]->in[0] : out->in[0]->in[0];
	}
	const PlanGemm *g = &m.g;
	Launch l = {0};
	Text small = {0};
	Node *in = stored_in(c->f, out);
	int64_t off = in == out ? 0 : c->f->layout[out->id].off;
	uint64_t written = extent(g->ctype, g->m, g->crs, g->n, 1, g, g->c0, g->c1);
	bool gaps = (double)written > node_bytes(out); /* other values lie between: a call says where, a kernel's argument is all of them */
	bool own = c->o->cuda && c->o->fuse && !c->loop && emit_small_dot(&small, &m, gaps ? off : 0, NAME, &l), whole = own && gaps;
	Step *s;
	if (own) {
		s = add_source(c, dot, arena_printf(c->arena, "k%u_dot", c->p.nkernel), "", small.s, l);
	} else {
		if (c->o->cuda && !c->o->library)
			error_at(dot->loc, "--no-library: no kernel of ours computes this product of %ld x %ld by %ld x %ld: leave --no-library out", (long)g->m, (long)g->k, (long)g->k, (long)g->n);
		s = step_new(c, I_GEMM, dot, "");
		s->instr.index = c->p.ngemm;
		c->p.gemm[c->p.ngemm++] = m.g;
	}
	s->instr.what = arena_printf(c->arena, "dot %ldx%ldx%ld%s", (long)g->m, (long)g->n, (long)g->k, bias ? " bias" : "");
	free(small.s);
	uint64_t size = dtype_bytes(dot->in[0]->dt);
	add_use(s, m.a, (uint64_t)m.aoff * size, extent(g->dtype, g->m, g->ars, g->k, g->acs, g, g->a0, g->a1), false);
	add_use(s, m.b, (uint64_t)m.boff * size, extent(g->dtype, g->k, g->brs, g->n, g->bcs, g, g->b0, g->b1), false);
	if (whole)
		add_use(s, in, 0, 0, true);
	else
		add_use(s, in, (uint64_t)off * dtype_bytes(out->dt), written, true);
	if (bias) {
		int64_t off, stride[MAXDIM];
		Node *root;
		if (!strided(c->f, bias, &root, &off, stride))
			bug("the bias of v%d is not in memory", dot->id);
		add_use(s, root, (uint64_t)off * 4, (uint64_t)g->n * 4, false);
	}
	s->instr.nout = 1;
	double batch = (double)(g->batch0 * g->batch1);
	s->instr.flops = 2.0 * (double)g->m * (double)g->n * (double)g->k * batch;
	s->instr.traffic = node_bytes(dot->in[0]) + node_bytes(dot->in[1]) + node_bytes(out);
}

static void
gen_fills(Gen *c, Node *pack)
{
	for (int i = 0; i < c->f->nfill; i++) {
		Fill *f = &c->f->fill[i];
		uint64_t size = dtype_bytes(pack->dt);
		if (f->pack != pack)
			continue;
		Step *s = step_new(c, f->from ? I_COPY : I_ZERO, pack, f->from ? "copy" : "zero");
		add_use(s, pack, (uint64_t)f->off * size, (uint64_t)f->count * size, true);
		if (f->from)
			add_use(s, f->from, 0, 0, false);
		s->instr.nout = 1;
	}
}

static void
gen_copies(Gen *c)
{
	for (int i = 0; i < c->g->nstate; i++) {
		if (!c->f->copied[i])
			continue;
		Node *u = c->g->state[i].update;
		Step *s = step_new(c, I_COPY, u, "copy");
		add_use(s, mk_state(c->g, i), 0, 0, true);
		add_use(s, u, 0, 0, false);
		s->instr.nout = 1;
	}
}

/* ---- buffers ---- */

static const char *
state_name(const Fusion *f, const Node *n)
{
	int state = n->op == P_state ? (int)n->at[0] : f->layout[n->id].state;
	return state >= 0 ? f->g->state[state].name : NULL;
}

static int
place_of(const Places *p, const char *name)
{
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->name[i], name))
			return i;
	bug("state %s has no place", name);
}

static Buf *
find_buf(Buf *b, int n, const Node *root)
{
	for (int i = 0; i < n; i++)
		if (b[i].root == root)
			return &b[i];
	return NULL;
}

static int
collect_bufs(Gen *c, Buf *b)
{
	int n = 0;
	for (int i = 0; i < c->nstep; i++)
		for (int k = 0; k < c->step[i].nuse; k++) {
			const Step *s = &c->step[i];
			const Use *u = &s->use[k];
			Node *x = u->node;
			if (x->id < 0 || x->op == P_input || state_name(u->f, x))
				continue;
			Node *root = u->f->layout[x->id].root;
			Buf *f = find_buf(b, n, root);
			/* what a loop takes from outside or gives is there in all of its iterations */
			bool across = s->loop >= 0 && u->f == c->f;
			int first = across ? s->loop : i, last = across ? s->loop + (int)c->step[s->loop].instr.index : i;
			if (!f) {
				f = &b[n++];
				*f = (Buf){.root = root, .bytes = (uint64_t)node_bytes(root), .first = first};
			}
			f->last = last;
		}
	for (int i = 0; i < c->g->noutput; i++) { /* results are read after the program */
		Node *x = c->g->output[i].node;
		Buf *f = state_name(c->f, x) ? NULL : find_buf(b, n, c->f->layout[x->id].root);
		if (f)
			f->last = c->nstep;
	}
	return n;
}

static PlanRef
make_ref(Gen *c, const Use *u, Buf *b, int nbuf)
{
	Node *n = u->node;
	uint64_t all = (uint64_t)node_bytes(n);
	if (n->id < 0) { /* a data column */
		int64_t width = n->nd > n->in[0]->nd ? n->dim[n->nd - 1] : 1;
		return (PlanRef){SP_DATA, (uint64_t)n->at[0], (uint64_t)width * dtype_bytes(n->dt)};
	}
	const char *state = state_name(u->f, n);
	if (n->op == P_input) /* tests: inputs stand behind the states */
		return (PlanRef){SP_STAT, c->places->off[place_of(c->places, c->g->input[n->at[0]].name)] + u->off, u->bytes ? u->bytes : all};
	if (state) {
		int p = place_of(c->places, state);
		return (PlanRef){c->places->space[p], c->places->off[p] + u->off, u->bytes ? u->bytes : all};
	}
	const Layout *l = &u->f->layout[n->id];
	Buf *f = find_buf(b, nbuf, l->root);
	return (PlanRef){SP_ACT, c->p.kept_bytes + f->off + (uint64_t)l->off * dtype_bytes(n->dt) + u->off, u->bytes ? u->bytes : all};
}

/* How far the arguments move in an iteration. */
static void
put_steps(Gen *c, PlanInstr *in, const Step *s)
{
	bool moves = false;
	for (int k = 0; k < s->nuse; k++)
		moves |= s->use[k].step != 0;
	if (!moves)
		return;
	in->nstep = in->narg;
	in->step = arena_alloc(c->arena, in->nstep * sizeof *in->step);
	for (int k = 0; k < s->nuse; k++)
		in->step[k] = s->use[k].step;
}

static uint64_t
kept_bytes(const Gen *c)
{
	for (int i = 0; i < c->g->nstate; i++)
		if (c->g->state[i].space == SP_ACT)
			return c->places->bytes[SP_ACT];
	return 0;
}

static void
finish(Gen *c)
{
	Buf *b = arena_alloc(c->arena, (size_t)(c->nstep * 8 + 64) * sizeof *b);
	int n = collect_bufs(c, b);
	MemoryPlan m = plan_memory(b, n, c->o->reuse, c->o->cuda ? SPREAD : 0);
	c->p.kept_bytes = kept_bytes(c);
	c->p.act_bytes = c->p.kept_bytes + m.bytes;
	c->p.act_bound = c->p.kept_bytes + m.bound;
	c->p.instr = arena_alloc(c->arena, (size_t)c->nstep * sizeof *c->p.instr);
	c->p.ninstr = (uint32_t)c->nstep;
	for (int i = 0; i < c->nstep; i++) {
		PlanInstr *in = &c->p.instr[i];
		*in = c->step[i].instr;
		in->narg = (uint32_t)c->step[i].nuse;
		in->arg = arena_alloc(c->arena, in->narg * sizeof *in->arg);
		in->dtype = arena_alloc(c->arena, in->narg);
		in->ndtype = in->narg;
		for (uint32_t k = 0; k < in->narg; k++) {
			in->arg[k] = make_ref(c, &c->step[i].use[k], b, n);
			in->dtype[k] = (uint8_t)c->step[i].use[k].node->dt;
		}
		put_steps(c, in, &c->step[i]);
	}
	c->p.noutput = (uint32_t)c->g->noutput;
	c->p.output = arena_alloc(c->arena, c->p.noutput * sizeof *c->p.output);
	for (int i = 0; i < c->g->noutput; i++) {
		Node *x = c->g->output[i].node;
		PlanOutput *o = &c->p.output[i];
		*o = (PlanOutput){.name = arena_strdup(c->arena, c->g->output[i].name), .role = arena_strdup(c->arena, c->g->output[i].role), .dtype = x->dt};
		o->dim = arena_alloc(c->arena, (size_t)x->nd * sizeof *o->dim);
		o->ndim = (uint32_t)x->nd;
		memcpy(o->dim, x->dim, (size_t)x->nd * sizeof *o->dim);
		o->ref = arena_alloc(c->arena, sizeof *o->ref);
		o->nref = 1;
		*o->ref = make_ref(c, &(Use){.f = c->f, .node = x}, b, n);
	}
}

/* Kernels, calls and fills of the fused graph at hand. */
void
gen_regions(Gen *c)
{
	for (int i = 0; i < c->f->norder; i++) {
		int r = c->f->order[i];
		switch (c->f->region[r].kind) {
		case R_GEMM: gen_gemm(c, r); break;
		case R_PACK: gen_fills(c, c->f->region[r].node[0]); break;
		case R_SCATTER: gen_scatter(c, r); break;
		case R_SCAN: gen_scan(c, r); break;
		case R_LOOP: case R_TILE: case R_PRODUCT: gen_kernel(c, r, NULL); break;
		}
	}
}

PlanProgram
codegen(Graph *g, const Places *places, const CodegenOptions *o, Sources *src)
{
	Gen c = {.g = g, .arena = g->arena, .places = places, .o = o, .src = src};
	scan_results(g);
	c.f = fuse(g, o->fuse, o->cuda, o->library);
	size_t n = (size_t)(2 * c.f->norder + c.f->nfill + g->nstate) + 1; /* a region is at most two kernels */
	n += scan_steps_bound(g);
	c.p.name = arena_strdup(c.arena, g->name);
	c.p.batch = g->batch;
	c.p.kernel = arena_alloc(c.arena, n * sizeof *c.p.kernel);
	c.p.gemm = arena_alloc(c.arena, n * sizeof *c.p.gemm);
	c.text = arena_alloc(c.arena, n * sizeof *c.text);
	c.step = xcalloc(n, sizeof *c.step);
	gen_regions(&c);
	gen_copies(&c);
	finish(&c);
	if (o->cuda && c.p.ngemm)
		c.p.work_bytes = 32u << 20;
	if (o->explain)
		text_add(o->explain, c.f->explain.s, c.f->explain.n);
	free(c.step);
	free(c.f->explain.s);
	return c.p;
}

/* ---- states ---- */

static void
plan_state(Arena *a, PlanState *s, const char *name, DType dt, Space space, uint64_t off, const int64_t *dim, int nd, Init init, double x, double y)
{
	*s = (PlanState){.name = arena_strdup(a, name), .dtype = dt, .space = space, .off = off, .init = init, .a = x, .b = y, .fit = "", .like = ""};
	s->dim = arena_alloc(a, (size_t)nd * sizeof *s->dim);
	s->ndim = (uint32_t)nd;
	if (nd)
		memcpy(s->dim, dim, (size_t)nd * sizeof *s->dim);
}

/* Behind what is there; returns where. */
static uint64_t
place_state(Arena *a, Places *p, const char *name, Space space, DType dt, const int64_t *dim, int nd)
{
	uint64_t bytes = dtype_bytes(dt);
	if (p->n == p->cap) { /* old lists are dropped with the arena */
		Places old = *p;
		size_t n = (size_t)(p->cap = p->cap * 2 + 16);
		p->name = arena_alloc(a, n * sizeof *p->name);
		p->space = arena_alloc(a, n * sizeof *p->space);
		p->off = arena_alloc(a, n * sizeof *p->off);
		for (int i = 0; i < p->n; i++)
			p->name[i] = old.name[i], p->space[i] = old.space[i], p->off[i] = old.off[i];
	}
	for (int k = 0; k < nd; k++)
		bytes *= (uint64_t)dim[k];
	uint64_t off = p->bytes[space];
	p->name[p->n] = name;
	p->space[p->n] = space;
	p->off[p->n++] = off;
	p->bytes[space] += (bytes + 255) / 256 * 256;
	return off;
}

void
place_kept(Arena *a, const Graph *g, Places *p)
{
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		int k = 0;
		while (k < p->n && strcmp(p->name[k], s->name))
			k++;
		if (s->space == SP_ACT && k == p->n)
			place_state(a, p, s->name, s->space, s->dt, s->dim, s->nd);
	}
}

void
place_states(Arena *a, Graph *g, Places *p, Plan *plan)
{
	int n = g->nstate + g->ninput;
	plan->state = arena_alloc(a, (size_t)(n + g->nparam * (g->nstate + 1)) * sizeof *plan->state);
	for (int i = 0; i < g->nstate; i++) {
		GState *s = &g->state[i];
		uint64_t off = place_state(a, p, s->name, s->space, s->dt, s->dim, s->nd);
		if (s->space == SP_ACT)
			continue;
		if (s->space == SP_STAT) {
			plan_state(a, &plan->state[plan->nstate], s->name, s->dt, s->space, off, s->dim, s->nd, s->init, s->a, s->b);
			plan->state[plan->nstate++].fit = arena_strdup(a, s->fit ? s->fit : "");
			continue;
		}
		for (int k = 0; k < g->nparam; k++) { /* packed: an entry a parameter */
			GParam *q = &g->param[k];
			bool opt = s->space == SP_OPT;
			const char *name = opt || s->shadow ? arena_printf(a, opt ? "%s.%s" : "%s/%s", s->name, q->name) : q->name; /* no network has a / */
			if (q->frozen != s->frozen)
				continue;
			plan_state(a, &plan->state[plan->nstate], name, DT_F32, s->space, off + (uint64_t)q->off * 4, q->dim, q->nd,
			           opt ? s->init : q->init, opt ? s->a : q->a, opt ? s->b : q->b);
			plan->state[plan->nstate++].like = arena_strdup(a, s->shadow ? q->name : "");
		}
	}
	for (int i = 0; i < g->ninput; i++) {
		GInput *s = &g->input[i];
		uint64_t off = place_state(a, p, s->name, SP_STAT, s->dt, s->dim, s->nd);
		plan_state(a, &plan->state[plan->nstate++], s->name, s->dt, SP_STAT, off, s->dim, s->nd, INIT_CONST, 0, 0);
		plan->state[plan->nstate - 1].fit = "";
	}
	plan->param_bytes = p->bytes[SP_PARAM];
	plan->opt_bytes = p->bytes[SP_OPT];
	plan->stat_bytes = p->bytes[SP_STAT];
}
