/* The order of the kernels: program order where dependencies allow; a state's new value is stored after the old one is read
   for the last time, by a copy at the end where nothing else will do. */
#include <stdlib.h>
#include <string.h>

#include "fuse.h"

/* Does region a come before b where both can? Sorts as soon as their ids are there: they take one block, beside the rest;
   else program order. */
static bool
earlier(const Fusion *f, int a, int b)
{
	const Node *x = f->region[a].node[0], *y = f->region[b].node[0];
	return x->op == P_sort || y->op == P_sort ? y->op != P_sort : x->id < y->id;
}

/* Program order where dependencies allow. A region that stores a state's new value waits for all that read the old one. */
static bool
try_schedule(Fusion *f)
{
	bool all = true;
	int n = f->nregion, *wait = xcalloc((size_t)n, sizeof *wait), next[256];
	bool *edge = xcalloc((size_t)n * (size_t)n, 1);
	for (int r = 0; r < n; r++)
		for (int i = 0; i < f->region[r].nnode; i++) {
			Node *x = f->region[r].node[i];
			if (!f->stored[x->id])
				continue;
			int m = reader_regions(f, x, next, LEN(next));
			for (int k = 0; k < m; k++)
				edge[(size_t)r * (size_t)n + (size_t)next[k]] = true;
		}
	for (int i = 0; i < f->g->nnode; i++) {
		Node *s = f->g->node[i];
		Node *u = s->op == P_state && s->mark ? f->g->state[s->at[0]].update : NULL;
		if (!u || f->home[u->id] < 0 || f->copied[s->at[0]])
			continue;
		int m = reader_regions(f, s, next, LEN(next));
		for (int k = 0; k < m; k++)
			edge[(size_t)next[k] * (size_t)n + (size_t)f->home[u->id]] = true;
	}
	for (int a = 0; a < n; a++)
		for (int b = 0; b < n; b++)
			if (a != b && edge[(size_t)a * (size_t)n + (size_t)b])
				wait[b]++;
	f->order = arena_alloc(f->arena, (size_t)n * sizeof *f->order);
	f->norder = 0;
	for (int r = 0; r < n; r++)
		f->region[r].order = -1;
	for (;;) {
		int best = -1;
		for (int r = 0; r < n; r++)
			if (wait[r] == 0 && f->region[r].nnode && (best < 0 || earlier(f, r, best)))
				best = r;
		if (best < 0)
			break;
		wait[best] = -1;
		f->region[best].order = f->norder;
		f->order[f->norder++] = best;
		for (int b = 0; b < n; b++)
			if (b != best && edge[(size_t)best * (size_t)n + (size_t)b])
				wait[b]--;
	}
	for (int r = 0; r < n; r++)
		all &= wait[r] <= 0 || !f->region[r].nnode;
	free(wait);
	free(edge);
	return all;
}

static void
copy_to_state(Fusion *f, int state, Node *u, const char *why)
{
	f->copied[state] = true;
	f->layout[u->id].state = -1;
	explain(f, u, "copied to its state at the end: %s", why);
}

/* New values that are views of the old one, which no kernel can store in place. */
static void
copy_views(Fusion *f)
{
	for (int i = 0; i < f->g->nstate; i++) {
		Node *u = f->g->state[i].update;
		if (!u || f->home[u->id] < 0 || f->region[f->home[u->id]].kind != R_LOOP)
			continue;
		Arena scratch = {0};
		Kernel *k = kernel_lower(&scratch, f, f->home[u->id], NULL);
		if (k->fail)
			copy_to_state(f, i, u, k->fail);
		arena_free(&scratch);
	}
}

/* Two states whose new values hang on each other's old ones: one of the values gets a place of its own. */
static bool
copy_update(Fusion *f)
{
	for (int i = 0; i < f->g->nnode; i++) {
		Node *s = f->g->node[i];
		Node *u = s->op == P_state && s->mark ? f->g->state[s->at[0]].update : NULL;
		if (!u || f->home[u->id] < 0 || f->region[f->home[u->id]].order >= 0 || f->copied[s->at[0]])
			continue;
		copy_to_state(f, (int)s->at[0], u, "others read the old value till then");
		return true;
	}
	return false;
}

void
schedule(Fusion *f)
{
	f->copied = arena_alloc(f->arena, (size_t)f->g->nstate + 1);
	copy_views(f);
	while (!try_schedule(f))
		if (!copy_update(f))
			bug("kernels wait for each other");
}
