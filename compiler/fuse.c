/* Fusion: which nodes are computed together, and which are computed again where they are used.

   Nodes are taken consumers first. Views, constants, fetches, gathers and random numbers are never stored unless
   something needs them in memory. A node that only one kernel reads joins that kernel. A cheap node that reads about
   as much as it writes is computed again in each kernel that reads it: that saves its store (and its memory from
   forward to backward). Any other node joins the first of its readers that can hold it, and is stored for the rest.
   "Can" is decided by lowering the joined region (loop.c); a join that would make two kernels wait for each other is
   refused. Last, kernels that read the same large value over the same axes are joined.

     needs: contract      breaks: nothing in the graph */
#include <stdlib.h>
#include <string.h>

#include "fuse.h"

#define DEAR 6            /* operations */
#define FEW 4096          /* places */
#define MANY (6 << 23)    /* operations, which take longer than to start a kernel */

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

static bool
is_anchor(const Node *n)
{
	return kind(n) == K_DOT || kind(n) == K_SCATTER || kind(n) == K_SORT || kind(n) == K_SCAN || kind(n) == K_RESULT;
}

/* Free to compute wherever it is used. */
static bool
is_free(const Node *n)
{
	Kind k = kind(n);
	return k == K_VIEW || k == K_LEAF;
}

/* Does it lie in memory side by side, in order? A part of a loop's operand may not. */
static bool
is_dense(const Fusion *f, const Node *n)
{
	int64_t stride = 1;
	for (int i = n->nd - 1; i >= 0; i--) {
		if (n->dim[i] > 1 && f->layout[n->id].stride[i] != stride)
			return false;
		stride *= n->dim[i];
	}
	return true;
}

/* A vector put together in memory, part by part. */
static bool
is_pack(const Fusion *f, const Node *n)
{
	if (kind(n) != K_CONCAT || n->nd != 1 || n->nin <= 8)
		return false;
	for (int i = 0; i < n->nin; i++) {
		const Node *x = n->in[i];
		while (x->op == P_reshape)
			x = x->in[0];
		if (x->op == P_input && !is_dense(f, x))
			return false;
	}
	return true;
}

void
explain(Fusion *f, const Node *n, const char *fmt, ...)
{
	char *l = loc_text(f->arena, n->loc);
	va_list ap;
	va_start(ap, fmt);
	text_printf(&f->explain, "%s: v%d %s: ", l, n->id, prim_info[n->op].name);
	text_vprintf(&f->explain, fmt, ap);
	text_puts(&f->explain, "\n");
	va_end(ap);
}

/* ---- regions ---- */

int
region_new(Fusion *f, RegionKind k)
{
	if (f->nregion == f->capregion) {
		Region *r = arena_alloc(f->arena, (size_t)(f->capregion = f->capregion * 2 + 64) * sizeof *r);
		if (f->nregion)
			memcpy(r, f->region, (size_t)f->nregion * sizeof *r);
		f->region = r;
	}
	f->region[f->nregion] = (Region){.kind = k};
	return f->nregion++;
}

void
region_add(Fusion *f, int r, Node *n)
{
	Region *g = &f->region[r];
	int i = g->nnode;
	if (g->nnode == g->capnode) {
		Node **v = arena_alloc(f->arena, (size_t)(g->capnode = g->capnode * 2 + 8) * sizeof *v);
		if (g->nnode)
			memcpy(v, g->node, (size_t)g->nnode * sizeof *v);
		g->node = v;
	}
	while (i > 0 && g->node[i - 1]->id > n->id) {
		g->node[i] = g->node[i - 1];
		i--;
	}
	g->node[i] = n;
	g->nnode++;
	f->home[n->id] = r;
}

void
region_remove(Fusion *f, int r, Node *n)
{
	Region *g = &f->region[r];
	int i = 0;
	while (g->node[i] != n)
		i++;
	memmove(g->node + i, g->node + i + 1, (size_t)(g->nnode - i - 1) * sizeof *g->node);
	g->nnode--;
	f->home[n->id] = UNDECIDED;
}

/* Regions that read n, directly or through nodes computed where they are used. */
static int
readers(const Fusion *f, const Node *n, int *out, int max, bool *seen)
{
	int count = 0;
	for (int i = 0; i < f->nuser[n->id]; i++) {
		Node *u = f->user[n->id][i];
		if (seen[u->id])
			continue;
		seen[u->id] = true;
		if (f->home[u->id] < 0) {
			count += readers(f, u, out + count, max - count, seen);
			continue;
		}
		int k = 0;
		while (k < count && out[k] != f->home[u->id])
			k++;
		if (k == count && count < max)
			out[count++] = f->home[u->id];
	}
	return count;
}

int
reader_regions(const Fusion *f, const Node *n, int *out, int max)
{
	bool *seen = xcalloc((size_t)f->g->nnode, 1);
	int m = readers(f, n, out, max, seen), u = 0;
	free(seen);
	for (int i = 0; i < m; i++) { /* through different paths a region can come twice */
		int k = 0;
		while (k < u && out[k] != out[i])
			k++;
		if (k == u)
			out[u++] = out[i];
	}
	return u;
}

static bool
reaches_from(const Fusion *f, int from, int to, bool *seen)
{
	int next[256];
	if (from == to)
		return true;
	if (seen[from])
		return false;
	seen[from] = true;
	for (int i = 0; i < f->region[from].nnode; i++) {
		Node *n = f->region[from].node[i];
		if (!f->stored[n->id])
			continue;
		int m = reader_regions(f, n, next, LEN(next));
		for (int k = 0; k < m; k++)
			if (next[k] != from && reaches_from(f, next[k], to, seen))
				return true;
	}
	return false;
}

/* Does anything in region `to` depend on region `from`? */
bool
reaches(const Fusion *f, int from, int to)
{
	bool *seen = xcalloc((size_t)f->nregion, 1);
	bool r = reaches_from(f, from, to, seen);
	free(seen);
	return r;
}

/* NULL if the region can be one kernel, else why not. */
const char *
try_region(Fusion *f, int r)
{
	Arena scratch = {0};
	Kernel *k = kernel_lower(&scratch, f, r, NULL);
	const char *why = k->fail;
	arena_free(&scratch);
	return why;
}

/* ---- decisions ---- */

/* Elements that reading x costs, repeated ones counted once. */
static int64_t
bytes_below(const Node *x)
{
	while (x->op == P_expand || x->op == P_permute || x->op == P_reshape)
		x = x->in[0];
	if (x->op == P_const || x->op == P_iota || kind(x) == K_RANDOM)
		return 0;
	return node_count(x) * (int64_t)dtype_bytes(x->dt);
}

/* Reading its operands costs about what reading it would, and in m kernels no more than to read them once, store it, and read
   that. */
static bool
cheap_again(const Node *n, int m)
{
	int64_t in = 0, out = node_count(n) * (int64_t)dtype_bytes(n->dt);
	if (kind(n) != K_ELEM)
		return m <= 6 && (kind(n) == K_GATHER || kind(n) == K_FETCH || kind(n) == K_RANDOM || kind(n) == K_CONCAT);
	if (n->op == P_shuffle)
		return false;
	for (int i = 0; i < n->nin; i++)
		in += bytes_below(n->in[i]);
	return out <= 4096 ? m <= 6 : in * 4 <= out * 5 && (m - 1) * in <= (m + 1) * out;
}

/* Does it hang on leaves alone, by few operations? Its kernel waits for no other then, and runs beside them. */
static bool
of_leaves(const Node *n, int depth)
{
	bool ok = kind(n) == K_LEAF || ((kind(n) == K_ELEM || kind(n) == K_VIEW) && depth > 0);
	for (int i = 0; i < n->nin; i++)
		ok = ok && of_leaves(n->in[i], depth - 1);
	return ok;
}

/* A power, a quotient and the like of few places (channels, the step's rate), which each of very many would compute anew: a kernel of its
   own takes less than that. */
static bool
dear_again(const Fusion *f, const Node *n, const int *r, int m)
{
	int cost = prim_cost(n->op);
	if (!f->cuda || kind(n) != K_ELEM || cost < DEAR || node_count(n) > FEW)
		return false;
	int64_t least = of_leaves(n, 4) ? MANY / 32 : MANY;
	for (int i = 0; i < m; i++)
		if (is_kernel(f, r[i]) && region_space(f, r[i]) * cost >= least)
			return true;
	return false;
}

/* One that other nodes can join, not a library call. */
bool
is_kernel(const Fusion *f, int r)
{
	RegionKind k = f->region[r].kind;
	return k == R_LOOP || k == R_TILE || k == R_PRODUCT;
}

/* Marks what is read to compute x where it is used: what a walk through elementwise operations and views, which may be computed
   there, too, ends at. few: at most so many operations. False if there are more. */
static bool
mark_read(const Fusion *f, const Node *x, bool *seen, bool *read, int *few)
{
	if (seen[x->id])
		return true;
	seen[x->id] = true;
	if (f->stored[x->id] || (kind(x) != K_ELEM && kind(x) != K_VIEW)) {
		read[x->id] = true;
		return true;
	}
	if (kind(x) == K_ELEM && --*few < 0)
		return false;
	for (int i = 0; i < x->nin; i++)
		if (!mark_read(f, x->in[i], seen, read, few))
			return false;
	return true;
}

/* To compute a mask in each of its m readers costs no more than to store and read it: most of them read anyway what it is a
   mask of. Larger values would keep more alive than themselves. */
static bool
mask_again(const Fusion *f, const Node *n, const int *r, int m)
{
	size_t count = (size_t)f->g->nnode;
	bool *mine = xcalloc(count, 1), *theirs = xcalloc(count, 1), *seen = xcalloc(count, 1);
	int few = 24, any = (int)count;
	int64_t left = node_count(n) * (int64_t)dtype_bytes(n->dt) * (m + 1);
	bool ok = n->dt == DT_BOOL && kind(n) == K_ELEM && mark_read(f, n, seen, mine, &few);
	for (int i = 0; ok && i < m; i++) {
		const Region *g = &f->region[r[i]];
		memset(theirs, 0, count);
		memset(seen, 0, count);
		seen[n->id] = true; /* not through n itself */
		for (int k = 0; k < g->nnode; k++)
			for (int j = 0; j < g->node[k]->nin; j++)
				mark_read(f, g->node[k]->in[j], seen, theirs, &any);
		for (int k = 0; k < n->id; k++)
			left -= mine[k] && !theirs[k] ? bytes_below(f->g->node[k]) : 0;
		ok = f->region[r[i]].kind == R_LOOP && left >= 0; /* registers of a tile kernel are scarce */
	}
	free(mine);
	free(theirs);
	free(seen);
	return ok;
}

bool
join(Fusion *f, Node *n, int r, bool stored)
{
	bool was = f->stored[n->id];
	f->stored[n->id] = stored || was;
	region_add(f, r, n);
	const char *why = try_region(f, r);
	if (!why)
		return true;
	explain(f, n, "not joined with v%d: %s", f->region[r].node[f->region[r].nnode - 1]->id, why);
	region_remove(f, r, n);
	f->stored[n->id] = was;
	return false;
}

static int
by_first(const Fusion *f, int a, int b)
{
	return f->region[a].node[0]->id - f->region[b].node[0]->id;
}

bool
compute_again(Fusion *f, Node *n, const int *r, int m)
{
	f->home[n->id] = INLINE;
	for (int i = 0; i < m; i++) {
		const char *why = is_kernel(f, r[i]) ? try_region(f, r[i]) : NULL;
		if (!why)
			continue;
		explain(f, n, "stored: not computed again with v%d: %s", f->region[r[i]].node[0]->id, why);
		f->home[n->id] = UNDECIDED;
		return false;
	}
	if (m > 1)
		explain(f, n, "computed again in %d kernels: that reads no more than reading it would", m);
	return true;
}

static void need_operand(Fusion *f, Node *dot, int i, bool *must);

/* y = dot + bias: the library adds the bias while it stores. */
static bool
bias_epilogue(Fusion *f, Node *n, bool *must)
{
	if (n->op != P_add || !f->fuse)
		return false;
	for (int i = 0; i < 2; i++) {
		Node *d = n->in[i], *b = n->in[1 - i];
		GemmCall c;
		if (d->op != P_dot || product_use(f, d) != PRODUCT_NOT || d->in[0]->dt != DT_F32 || f->nuser[d->id] != 1 || b->op != P_expand || b->in[0]->nd != 1 || f->layout[d->id].state >= 0)
			continue;
		for (int k = 0; k < n->nd; k++)
			if ((b->at[k] >= 0) != (k == n->nd - 1))
				goto next;
		int64_t off, stride[MAXDIM];
		Node *root;
		if (!strided(f, b->in[0], &root, &off, stride) || stride[0] != 1 || (root->op != P_state && root->op != P_input))
			continue;
		if (!gemm_match(f, d, &f->layout[n->id], &c) || c.g.batch0 * c.g.batch1 != 1 || c.g.n != n->dim[n->nd - 1])
			continue;
		int r = region_new(f, R_GEMM);
		region_add(f, r, d);
		region_add(f, r, n);
		f->stored[n->id] = true;
		explain(f, n, "the bias is added by the matrix product v%d", d->id);
		for (int k = 0; k < 2; k++)
			need_operand(f, d, k, must);
		return true;
next:;
	}
	return false;
}

/* Kernels around products keep to their places: of what is stored, only sums can join them. */
static bool
takes(const Fusion *f, int r, const Node *n)
{
	return f->region[r].kind == R_LOOP || (is_kernel(f, r) && kind(n) == K_REDUCE);
}

static void
decide(Fusion *f, Node *n, bool *must)
{
	int r[256], m = reader_regions(f, n, r, LEN(r));
	bool loops = true, tiles = m > 0, needed = must[n->id] || (f->fuse && dear_again(f, n, r, m));
	for (int i = 0; i < m; i++) {
		tiles &= f->region[r[i]].kind == R_TILE || (f->region[r[i]].kind == R_PRODUCT && m == 1);
		loops &= takes(f, r[i], n);
	}
	if (!needed && (m == 0 || is_free(n))) {
		f->home[n->id] = INLINE;
		return;
	}
	if (!needed && f->fuse && m == 1 && f->region[r[0]].kind == R_SCATTER && kind(n) == K_ELEM) {
		f->home[n->id] = INLINE;
		return;
	}
	if (!needed && f->fuse && m == 1 && loops && join(f, n, r[0], false))
		return;
	if (!needed && f->fuse && (cheap_again(n, m) || mask_again(f, n, r, m) || (tiles && kind(n) == K_ELEM && m <= 6)) && compute_again(f, n, r, m))
		return;
	if (bias_epilogue(f, n, must))
		return;
	for (int i = 1; i < m; i++) /* earliest reader first */
		for (int k = i; k > 0 && by_first(f, r[k], r[k - 1]) < 0; k--) {
			int t = r[k];
			r[k] = r[k - 1];
			r[k - 1] = t;
		}
	for (int i = 0; f->fuse && i < m; i++) {
		bool cycle = false;
		if (!takes(f, r[i], n))
			continue;
		for (int k = 0; k < m && !cycle; k++)
			cycle = k != i && reaches(f, r[k], r[i]);
		if (!cycle && join(f, n, r[i], true))
			return;
	}
	f->stored[n->id] = true;
	region_add(f, region_new(f, R_LOOP), n);
}

/* What a library call reads must be in memory as a strided view of something stored. */
static void
need_operand(Fusion *f, Node *dot, int i, bool *must)
{
	Node *x = dot->in[i], *q = x;
	while (kind(q) == K_VIEW && (q->op == P_permute || q->op == P_slice || q->op == P_reshape))
		q = q->in[0];
	if ((q->op == P_state || q->op == P_input) && gemm_operand_ok(f, dot, i))
		return;
	bool was = f->stored[q->id];
	f->stored[q->id] = true;
	bool ok = kind(q) != K_LEAF && kind(q) != K_VIEW && gemm_operand_ok(f, dot, i);
	f->stored[q->id] = was;
	if (!ok && x != q)
		explain(f, x, "copied for the matrix product v%d", dot->id);
	while (!f->cuda && kind(q) == K_VIEW && x->op == P_reshape) /* windows: one copy for all products, however they merge its axes */
		x = x->in[0];
	must[ok ? q->id : x->id] = true;
}

/* Can n be computed at this element of another's buffer? Kernels of a GPU load and store 16 bytes at once, from where n begins. */
static bool
even_place(const Fusion *f, const Node *n, int64_t off)
{
	return !f->cuda || off * (int64_t)dtype_bytes(n->dt) % 16 == 0;
}

/* Operands of a pack are computed in their place in it. */
static void
place_pack(Fusion *f, Node *n, bool *must)
{
	int64_t off = 0;
	Fill *fill = arena_alloc(f->arena, (size_t)(f->nfill + n->nin) * sizeof *fill); /* those of all packs */
	if (f->nfill)
		memcpy(fill, f->fill, (size_t)f->nfill * sizeof *fill);
	f->fill = fill;
	f->stored[n->id] = true;
	region_add(f, region_new(f, R_PACK), n);
	for (int i = 0; i < n->nin; i++) {
		Node *x = n->in[i], *q = x;
		while (q->op == P_reshape)
			q = q->in[0];
		bool placed = !is_free(q) && !must[q->id] && !is_pack(f, q) && f->layout[q->id].root == q && even_place(f, q, off);
		if (x->op == P_const && x->f == 0) {
			f->fill[f->nfill++] = (Fill){n, NULL, off, node_count(x)};
		} else if (placed) {
			plain_layout(f, q, n, off);
			must[q->id] = true;
		} else { /* a view, one value for two parameters, or an odd place: stored, then copied */
			must[x->id] = true;
			f->fill[f->nfill++] = (Fill){n, x, off, node_count(x)};
		}
		off += node_count(x);
	}
}

/* What x shows with other dims: a product or an elementwise value, or NULL. stride: of x on entry, then of that. */
static Node *
part_below(Node *x, int64_t *stride)
{
	int64_t s[MAXDIM];
	while (x->op == P_reshape || x->op == P_permute) {
		Node *y = x->in[0];
		memcpy(s, stride, sizeof s);
		if (x->op == P_reshape && !strided_reshape(y, x, s, stride))
			return NULL;
		for (int i = 0; x->op == P_permute && i < x->nd; i++)
			stride[x->at[i]] = s[i];
		x = y;
	}
	return kind(x) == K_DOT || kind(x) == K_ELEM ? x : NULL;
}

/* Does an elementwise value hang on one of which known is set, or (set) marks it what it hangs on? Not far down. */
static bool
hangs_on(const Node *x, bool *known, bool set, int depth)
{
	bool any = false;
	for (int i = 0; i < x->nin; i++) {
		Node *in = x->in[i];
		if (kind(in) == K_LEAF)
			continue;
		any |= known[in->id];
		known[in->id] |= set;
		if ((kind(in) == K_ELEM || in->op == P_reshape) && depth > 0)
			any |= hangs_on(in, known, set, depth - 1);
	}
	return any;
}

/* Values of one size that hang on something in common, so that one kernel has them all, as the adjoints of gates. Together, a
   place of the whole would compute each of them to choose one. */
static bool
of_one_kernel(const Fusion *f, const Node *n)
{
	bool *known = arena_alloc(f->arena, (size_t)f->g->nnode);
	for (int i = 0; i < n->nin; i++) {
		const Node *x = n->in[i];
		while (x->op == P_reshape)
			x = x->in[0];
		if (kind(x) != K_ELEM || f->nuser[x->id] != 1 || n->in[i]->dim[n->at[0]] != n->in[0]->dim[n->at[0]] || (i > 0 && !hangs_on(x, known, false, 8)))
			return false;
		hangs_on(x, known, i == 0, 8);
	}
	return true;
}

/* Results of products, or values of one kernel, side by side: each computed in its place. */
static bool
place_concat(Fusion *f, Node *n, bool *must)
{
	Layout part[8];
	Node *dot[8];
	int64_t plain[MAXDIM], size = 1, at = 0;
	bool elementwise = of_one_kernel(f, n);
	if (n->nin > (int)LEN(part))
		return false;
	for (int i = n->nd - 1; i >= 0; i--) {
		plain[i] = size;
		size *= n->dim[i];
	}
	int placed = 0;
	for (; placed < n->nin; placed++) {
		Layout *l = &part[placed];
		*l = (Layout){.root = n, .state = -1, .off = at * plain[n->at[0]]};
		memcpy(l->stride, plain, sizeof plain);
		Node *d = dot[placed] = part_below(n->in[placed], l->stride);
		if (d && placed && !elementwise && !f->cuda && product_use(f, d) != product_use(f, dot[0])) /* a kernel's argument is all of n, a call's a part */
			break;
		if (!d || (kind(d) == K_ELEM) != elementwise || f->home[d->id] != UNDECIDED || must[d->id] || f->layout[d->id].root != d)
			break;
		Layout was = f->layout[d->id];
		f->layout[d->id] = *l;
		*l = was;
		at += n->in[placed]->dim[n->at[0]];
		bool odd = stored_in(f, d) == d && !even_place(f, d, f->layout[d->id].off); /* else its index has the place, and is looked at */
		if (odd || (!elementwise && tile_output(f, d) < 0 && !gemm_places(d, f->layout[d->id].stride))) {
			f->layout[d->id] = was;
			break;
		}
	}
	for (int i = 0; i < placed; i++) {
		if (placed < n->nin)
			f->layout[dot[i]->id] = part[i];
		else
			must[dot[i]->id] = true;
	}
	if (placed < n->nin)
		return false;
	f->stored[n->id] = true;
	region_add(f, region_new(f, R_PACK), n);
	explain(f, n, "its parts are computed in their places");
	return true;
}

static void
place_updates(Fusion *f, bool *must)
{
	Graph *g = f->g;
	for (int i = 0; i < g->nstate; i++) {
		Node *u = g->state[i].update;
		if (!u)
			continue;
		must[u->id] = true;
		if (f->layout[u->id].state < 0 && f->layout[u->id].root == u)
			f->layout[u->id].state = i;
		else
			bug("one value updates two states");
	}
	for (int i = 0; i < g->noutput; i++)
		must[g->output[i].node->id] = true;
}

static void
find_users(Fusion *f)
{
	Graph *g = f->g;
	int n;
	Node **v = graph_reach(g, &n);
	f->user = arena_alloc(f->arena, (size_t)g->nnode * sizeof *f->user);
	f->nuser = arena_alloc(f->arena, (size_t)g->nnode * sizeof *f->nuser);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < v[i]->nin; k++)
			f->nuser[v[i]->in[k]->id]++;
	for (int i = 0; i < n; i++) {
		f->user[v[i]->id] = arena_alloc(f->arena, (size_t)f->nuser[v[i]->id] * sizeof **f->user);
		f->nuser[v[i]->id] = 0;
	}
	for (int i = 0; i < n; i++)
		for (int k = 0; k < v[i]->nin; k++) {
			int id = v[i]->in[k]->id, m = f->nuser[id];
			if (!m || f->user[id][m - 1] != v[i])
				f->user[id][f->nuser[id]++] = v[i];
		}
}

/* What a loop reads must be in memory, as a strided view of something stored; plain: in row-major order. */
static void
need_strided(Fusion *f, Node *x, bool plain, bool *must)
{
	Node *q = x, *root;
	int64_t off, stride[MAXDIM], want = 1;
	while (q->op == P_permute || q->op == P_slice || q->op == P_reshape)
		q = q->in[0];
	bool was = f->stored[q->id], given = q->op == P_state || q->op == P_input;
	if (kind(q) != K_LEAF && kind(q) != K_VIEW)
		f->stored[q->id] = true;
	bool ok = (f->stored[q->id] || given) && strided(f, x, &root, &off, stride);
	f->stored[q->id] = was;
	for (int i = x->nd - 1; i >= 0 && ok && plain; i--) {
		ok = x->dim[i] == 1 || stride[i] == want;
		want *= x->dim[i];
	}
	if (!ok || !given)
		must[ok ? q->id : x->id] = true;
}

/* A loop, when the first of it is met: its last result. */
static void
anchor_scan(Fusion *f, Node *scan, bool *must)
{
	int r = region_new(f, R_SCAN);
	region_add(f, r, scan);
	for (int i = scan->id + 1; i < f->g->nnode; i++) {
		Node *n = f->g->node[i];
		if (n->op != P_result || n->in[0] != scan)
			continue;
		f->stored[i] = true;
		if (n->mark)
			region_add(f, r, n);
	}
	for (int i = 0; i < scan->nin; i++) {
		Node *x = scan->in[i];
		bool init = i < scan_ncarry(scan), zero = x->op == P_const && x->f == 0;
		if (!init || !zero)
			need_strided(f, x, init, must);
	}
}

/* What is a kernel or a call of its own, and what that needs in memory. */
static void
anchor(Fusion *f, Node *n, bool *must)
{
	if (kind(n) == K_SCAN || kind(n) == K_RESULT) {
		anchor_scan(f, kind(n) == K_SCAN ? n : n->in[0], must);
		return;
	}
	bool body = f->g->ninput && f->g->input[0].bound; /* of a scan: addresses move, and a tile wants them even */
	if (kind(n) == K_DOT && !(body && f->cuda) && own_product(f, n, must))
		return;
	f->stored[n->id] = true;
	int r = region_new(f, kind(n) == K_DOT ? R_GEMM : R_SCATTER);
	region_add(f, r, n);
	if (n->op == P_row_sum) { /* both read the same values, each position in one of them */
		f->stored[n->in[2]->id] = true;
		region_add(f, r, n->in[2]);
	}
	if (kind(n) == K_DOT)
		for (int k = 0; k < 2; k++)
			need_operand(f, n, k, must);
	else
		must[n->in[0]->id] = true;
}

static bool
updates_before(const Graph *g, int i, const Node *u)
{
	while (i > 0 && g->state[i - 1].update != u)
		i--;
	return i > 0;
}

/* A state that stays as it is has no update. What is stored to a state is a value of its own: not an input's or another
   state's, nor what another state gets as well. */
static void
own_updates(Graph *g)
{
	for (int i = 0; i < g->nstate; i++) {
		Node *u = g->state[i].update;
		if (u && u->op == P_state && u->at[0] == i)
			g->state[i].update = u = NULL;
		while (u && (prim_info[u->op].kind == K_LEAF || updates_before(g, i, u)))
			g->state[i].update = u = mk1(g, P_stop, u);
	}
}

Fusion *
fuse(Graph *g, bool enable, bool cuda, bool library)
{
	own_updates(g);
	Fusion *f = arena_alloc(g->arena, sizeof *f);
	size_t n = (size_t)g->nnode;
	bool *must = arena_alloc(g->arena, n);
	f->g = g;
	f->arena = g->arena;
	f->fuse = enable;
	f->cuda = cuda;
	f->library = library;
	f->home = arena_alloc(g->arena, n * sizeof *f->home);
	f->stored = arena_alloc(g->arena, n);
	f->layout = arena_alloc(g->arena, n * sizeof *f->layout);
	find_users(f); /* marks what is reachable */
	for (int i = 0; i < g->nnode; i++) {
		Node *x = g->node[i];
		if (x->op == P_fetch && !f->column[x->at[0]]) {
			Node *c = f->column[x->at[0]] = arena_alloc(g->arena, sizeof *c);
			*c = *x;
			c->id = -1;
		}
		f->home[i] = is_free(g->node[i]) ? INLINE : UNDECIDED;
		plain_layout(f, g->node[i], g->node[i], 0);
		if (x->op == P_input && g->input[x->at[0]].bound)
			memcpy(f->layout[i].stride, g->input[x->at[0]].stride, sizeof f->layout[i].stride);
	}
	place_updates(f, must);
	for (int i = g->nnode - 1; i >= 0; i--) {
		Node *x = g->node[i];
		if (!x->mark || f->home[i] >= 0)
			continue;
		if (is_pack(f, x)) {
			place_pack(f, x, must);
		} else if (kind(x) == K_CONCAT && must[i] && enable && place_concat(f, x, must)) {
			continue;
		} else if (is_anchor(x)) {
			anchor(f, x, must);
		} else if (enable || is_free(x)) {
			decide(f, x, must);
		} else {
			f->stored[i] = true;
			region_add(f, region_new(f, R_LOOP), x);
		}
	}
	if (enable) {
		join_chains(f, must);
		join_siblings(f);
	}
	schedule(f);
	return f;
}
