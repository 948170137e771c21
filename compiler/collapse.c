/* Axes of a kernel that every index walks as one become one: the loops of generated C are longer, and there are fewer.

     i1 * 28 + i2, i0 * 784 + i1 * 28 + i2   over [64] [28] [28]
     i2          , i0 * 784 + i2             over [64] [1] [784]

   Two neighbours merge where the first has the second's coefficient times its size in each index, also inside of divisions, and
   both are outer axes or both of the row. The outer axes that are left stand last among these, those of the row last of all; what is
   in front of them has size 1. Needs: a lowered kernel, and nothing more that is
   interned in it. A GPU's kernels have their axes by threads and need none of it. */
#include "loop.h"

/* The indices of a kernel, each once. */
typedef struct Indices {
	Arena *arena;
	const Ix **ix;
	int n, cap;
} Indices;

static void
add_index(Indices *x, const Ix *ix)
{
	if (!ix)
		return;
	for (int i = 0; i < x->n; i++)
		if (x->ix[i] == ix)
			return;
	if (x->n == x->cap) {
		const Ix **p = arena_alloc(x->arena, (size_t)(x->cap = x->cap * 2 + 64) * sizeof *p);
		for (int i = 0; i < x->n; i++)
			p[i] = x->ix[i];
		x->ix = p;
	}
	x->ix[x->n++] = ix;
	for (int i = 0; i < ix->n; i++)
		add_index(x, ix->t[i].a->of);
}

static Indices
indices(const Kernel *k)
{
	Indices x = {.arena = k->arena};
	for (int i = 0; i < k->nval; i++) {
		add_index(&x, k->val[i]->ix);
		for (const Guard *g = k->val[i]->guard; g; g = g->up)
			add_index(&x, g->ix);
	}
	for (int i = 0; i < k->nstore; i++)
		add_index(&x, k->store[i].ix);
	return x;
}

/* The axis's term, or -1. */
static int
find_axis(const Ix *ix, int axis)
{
	for (int i = 0; i < ix->n; i++)
		if (ix->t[i].a->kind == AT_AXIS && ix->t[i].a->axis == axis)
			return i;
	return -1;
}

static int64_t
stride_of(const Ix *ix, int axis)
{
	int i = find_axis(ix, axis);
	return i < 0 ? 0 : ix->t[i].k;
}

static bool
as_one(const Indices *x, int first, int second, int64_t size)
{
	for (int i = 0; i < x->n; i++)
		if (stride_of(x->ix[i], first) != stride_of(x->ix[i], second) * size)
			return false;
	return true;
}

static void
drop_axis(Kernel *k, const Indices *x, int axis)
{
	for (int i = 0; i < x->n; i++) {
		Ix *ix = (Ix *)x->ix[i];
		int at = find_axis(ix, axis);
		for (int j = at; at >= 0 && j + 1 < ix->n; j++)
			ix->t[j] = ix->t[j + 1];
		ix->n -= at >= 0;
		ix->axes &= ~(1u << axis);
	}
	for (Atom *a = k->atoms; a; a = a->next)
		a->axes &= ~(1u << axis);
	for (int i = 0; i < k->nval; i++)
		k->val[i]->axes &= ~(1u << axis);
}

static unsigned
moved(unsigned axes, int from, int to)
{
	return axes >> from & 1 ? (axes & ~(1u << from)) | 1u << to : axes;
}

static void
rename_axis(Kernel *k, const Indices *x, int from, int to)
{
	for (int i = 0; i < x->n; i++)
		((Ix *)x->ix[i])->axes = moved(x->ix[i]->axes, from, to);
	for (Atom *a = k->atoms; a; a = a->next) {
		a->axes = moved(a->axes, from, to);
		if (a->kind == AT_AXIS && a->axis == from)
			a->axis = to;
	}
	for (int i = 0; i < k->nval; i++)
		k->val[i]->axes = moved(k->val[i]->axes, from, to);
	k->size[to] = k->size[from];
	k->size[from] = 1;
}

/* Axes [first, end). */
static void
collapse(Kernel *k, const Indices *x, int first, int end)
{
	int into = end; /* the axis that was left last */
	for (int i = end - 1; i >= first; i--) {
		if (k->size[i] == 1)
			continue;
		if (into < end && as_one(x, i, into, k->size[into])) {
			drop_axis(k, x, i);
			k->size[into] *= k->size[i];
			k->size[i] = 1;
		} else if (--into != i) {
			rename_axis(k, x, i, into);
		}
	}
}

void
collapse_axes(Kernel *k)
{
	Indices x = indices(k);
	collapse(k, &x, 0, k->nouter);
	collapse(k, &x, k->nouter, k->naxis);
}
