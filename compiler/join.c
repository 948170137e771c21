/* Fusion's last step: whole kernels that become one, where the joined region can be lowered. */
#include <string.h>

#include "fuse.h"

#define MOST 64 /* nodes of a joined region */

static Kind kind(const Node *n) { return prim_info[n->op].kind; }

static void
merge_regions(Fusion *f, int a, int b)
{
	Region *from = &f->region[b];
	for (int i = 0; i < from->nnode; i++)
		region_add(f, a, from->node[i]);
	f->region[b].dead = true;
	f->region[b].nnode = 0;
}

/* Two regions as they were: their nodes, a's first, and which of these were stored. */
typedef struct Before {
	Region a, b;
	Node **node;
	bool *stored;
} Before;

static Before
remember(const Fusion *f, int a, int b)
{
	Before x = {f->region[a], f->region[b], NULL, NULL};
	int n = x.a.nnode + x.b.nnode;
	x.node = arena_alloc(f->arena, (size_t)n * sizeof *x.node);
	x.stored = arena_alloc(f->arena, (size_t)n);
	memcpy(x.node, x.a.node, (size_t)x.a.nnode * sizeof *x.node);
	memcpy(x.node + x.a.nnode, x.b.node, (size_t)x.b.nnode * sizeof *x.node);
	for (int i = 0; i < n; i++)
		x.stored[i] = f->stored[x.node[i]->id];
	return x;
}

static void
restore(Fusion *f, int a, int b, const Before *x)
{
	int na = x->a.nnode, nb = x->b.nnode;
	f->region[a] = x->a;
	f->region[b] = x->b;
	f->region[a].node = x->node;
	f->region[b].node = x->node + na;
	f->region[a].capnode = na;
	f->region[b].capnode = nb;
	for (int i = 0; i < nb; i++)
		f->home[x->node[na + i]->id] = b;
	for (int i = 0; i < na + nb; i++)
		f->stored[x->node[i]->id] = x->stored[i];
}

/* Stored nodes of a region that nothing outside it needs any more are not stored. */
static void
drop_stores(Fusion *f, int r, const bool *must)
{
	int next[256];
	for (int i = 0; i < f->region[r].nnode; i++) {
		Node *n = f->region[r].node[i];
		int m = must[n->id] ? 1 : reader_regions(f, n, next, LEN(next));
		bool outside = must[n->id];
		for (int k = 0; k < m && !outside; k++)
			outside = next[k] != r;
		if (kind(n) != K_DOT || f->region[r].kind == R_PRODUCT)
			f->stored[n->id] = outside;
	}
}

/* Loads of a region's kernel that are more than one element. */
static int
loads_of(const Fusion *f, int r)
{
	Arena scratch = {0};
	Kernel *k = kernel_lower(&scratch, f, r, NULL);
	int n = 0;
	for (int i = 0; i < k->nval; i++)
		n += k->val[i]->kind == LV_LOAD && k->val[i]->axes;
	arena_free(&scratch);
	return n;
}

/* One kernel of both, or both as they were. must: NULL, or what stays stored, while the rest that only they read does not.
   loads: 0, or how many the kernel must be below. */
static bool
try_both(Fusion *f, int a, int b, const bool *must, int loads)
{
	Before x = remember(f, a, b);
	merge_regions(f, a, b);
	if (must)
		drop_stores(f, a, must);
	if (!try_region(f, a) && (!loads || loads_of(f, a) < loads))
		return true;
	restore(f, a, b, &x);
	return false;
}

/* On a CPU two kernels are one only if that reads something once in place of twice: over as many elements, but in another order
   (windows of a picture and its places), they are two whose inner loops are plain. A GPU saves a launch. */
bool
try_merge(Fusion *f, int a, int b)
{
	if (f->region[a].nnode + f->region[b].nnode > MOST || reaches(f, a, b) || reaches(f, b, a))
		return false;
	return try_both(f, a, b, NULL, f->cuda ? 0 : loads_of(f, a) + loads_of(f, b));
}

/* b reads what a stores: one kernel, if nothing else lies between them. */
static bool
try_chain(Fusion *f, int a, int b, const bool *must)
{
	const Region *ra = &f->region[a];
	int next[256];
	if (ra->nnode + f->region[b].nnode > MOST)
		return false;
	for (int i = 0; i < ra->nnode; i++) {
		int m = f->stored[ra->node[i]->id] ? reader_regions(f, ra->node[i], next, LEN(next)) : 0;
		for (int k = 0; k < m; k++)
			if (next[k] != a && next[k] != b && reaches(f, next[k], b))
				return false;
	}
	return try_both(f, a, b, must, 0);
}

int64_t
region_space(const Fusion *f, int r)
{
	int64_t most = 0;
	for (int i = 0; i < f->region[r].nnode; i++) {
		const Node *n = f->region[r].node[i];
		int64_t c = node_count(kind(n) == K_REDUCE || kind(n) == K_FOLD ? n->in[0] : n);
		if (c > most)
			most = c;
	}
	return most;
}

void
join_readers(Fusion *f, int r, const bool *must)
{
	int next[256];
	for (int i = 0; i < f->region[r].nnode; i++) {
		Node *n = f->region[r].node[i];
		int m = f->stored[n->id] ? reader_regions(f, n, next, LEN(next)) : 0;
		for (int k = 0; k < m; k++)
			if (next[k] != r && f->region[next[k]].kind == R_LOOP && region_space(f, r) == region_space(f, next[k]) && try_chain(f, r, next[k], must)) {
				i = -1;
				break;
			}
	}
}

void
join_siblings(Fusion *f)
{
	int r[256];
	for (int i = 0; i < f->g->nnode; i++) {
		Node *n = f->g->node[i];
		if (!f->stored[n->id])
			continue;
		int m = reader_regions(f, n, r, LEN(r));
		for (int a = 0; a < m; a++)
			for (int b = a + 1; b < m; b++) {
				Region *x = &f->region[r[a]], *y = &f->region[r[b]];
				if (r[a] == r[b] || x->dead || y->dead || x->kind != y->kind || x->kind == R_PRODUCT || !is_kernel(f, r[a]) || region_space(f, r[a]) != region_space(f, r[b]))
					continue;
				if (try_merge(f, r[a], r[b])) {
					explain(f, n, "two kernels that read it are one");
					r[b] = r[a];
				}
			}
	}
}

void
join_chains(Fusion *f, const bool *must)
{
	int r[256];
	for (int i = 0; i < f->g->nnode; i++) {
		Node *n = f->g->node[i];
		if (!f->stored[i] || f->home[i] < 0 || f->region[f->home[i]].kind != R_LOOP)
			continue;
		int m = reader_regions(f, n, r, LEN(r));
		for (int k = 0; k < m; k++) {
			int a = f->home[i];
			if (r[k] == a || f->region[r[k]].dead || f->region[r[k]].kind != R_LOOP || region_space(f, a) != region_space(f, r[k]))
				continue;
			if (try_chain(f, a, r[k], must))
				explain(f, n, "its kernel and one that reads it are one");
		}
	}
}
