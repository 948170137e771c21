/* Which tiles of a walk a tile kernel need not visit: those where a mask shuts out every place, so that nothing comes of them.

     a = select(column <= row, x, -1e30)   m = max(a)   e = exp(a - m)   sum(e), sum(e * v)
     column > row:  a is -1e30, from which the maximum may as well start; e is 0, if m turns out to be more than -1e29

   For every comparison of a row's and a column's index it is supposed to be decided, and what is then known of each value follows from
   how it is made. Maxima are looked at when the kernel runs, so nothing is taken for granted of the data but this: what is
   multiplied by such a 0 is finite, so infinities and NaN of places that are shut out are not seen.

   Needs: tile.c. */
#include <math.h>

#include "ix.h"

/* What is supposed of a place: column - row >= by (late), or <= by. */
typedef struct Where {
	bool late;
	int64_t by;
} Where;

/* Of a value at such places: it is f, or (low) less than 9 * TILE_LOW, if those of Skip.high that are marked are greater than TILE_LOW. */
typedef struct Fact {
	bool known, low;
	double f;
	unsigned high;
} Fact;

/* The index that the value is, or NULL. */
static const Ix *
index_of(Kernel *k, const LVal *v)
{
	if (v->kind == LV_INDEX)
		return v->ix;
	if (v->kind == LV_CONST && v->f == floor(v->f) && fabs(v->f) < 1e9)
		return ix_const(k, (int64_t)v->f);
	bool adds = v->node->op == P_add || v->node->op == P_sub;
	if (v->kind != LV_PRIM || !(adds || v->node->op == P_cast) || (v->dt != DT_I32 && v->dt != DT_F32))
		return NULL;
	const Ix *a = index_of(k, v->in[0]), *b = adds ? index_of(k, v->in[1]) : NULL;
	return !adds ? a : a && b ? ix_addmul(k, a, b, v->node->op == P_add ? 1 : -1) : NULL;
}

/* Is it a comparison of column and row? Then of side * (column - row) + *more with 0. */
static bool
compares(Kernel *k, const LVal *v, int *side, int64_t *more)
{
	Prim op = v->node->op;
	if (v->kind != LV_PRIM || (op != P_lt && op != P_le && op != P_eq && op != P_ne))
		return false;
	const Ix *a = index_of(k, v->in[0]), *b = index_of(k, v->in[1]), *d = a && b ? ix_addmul(k, a, b, -1) : NULL;
	int64_t column = d ? ix_stride(d, k->nouter) : 0;
	if (!d || d->n != 2 || (column != 1 && column != -1) || ix_stride(d, k->nouter - 1) != -column)
		return false;
	*side = (int)column;
	*more = d->c;
	return true;
}

static Fact known(double f, unsigned high) { return (Fact){.known = true, .f = f, .high = high}; }

static Fact
decided(Kernel *k, const LVal *v, Where w)
{
	int side;
	int64_t more;
	if (!compares(k, v, &side, &more))
		return (Fact){0};
	double at = (double)(side * w.by + more); /* what is compared with 0 is that, or on one side of it */
	bool up = w.late == (side > 0);
	switch (v->node->op) {
	case P_lt: return up ? (at >= 0 ? known(0, 0) : (Fact){0}) : at < 0 ? known(1, 0) : (Fact){0};
	case P_le: return up ? (at > 0 ? known(0, 0) : (Fact){0}) : at <= 0 ? known(1, 0) : (Fact){0};
	default: return (up ? at > 0 : at < 0) ? known(v->node->op == P_ne, 0) : (Fact){0};
	}
}

/* The mark of a value that is one for a row, or for a column, and is to be greater than TILE_LOW; 0 if it cannot be. */
static unsigned
want_high(const Kernel *k, Skip *s, LVal *v)
{
	int i = 0;
	bool row = v->axes >> (k->nouter - 1) & 1, column = v->axes >> k->nouter & 1;
	while (i < s->nhigh && s->high[i] != v)
		i++;
	if (i == (int)LEN(s->high) || (row && column) || v->kind == LV_CONST || v->dt != DT_F32)
		return 0;
	s->high[i] = v;
	s->nhigh += i == s->nhigh;
	return 1u << i;
}

static Fact
fact_of(Kernel *k, Skip *s, LVal *v, const Fact *at, Where w)
{
	Fact none = {0}, x[3] = {{0}};
	if (v->kind == LV_CONST)
		return known(v->f, 0);
	if (v->kind != LV_PRIM)
		return none;
	for (int i = 0; i < v->nin; i++)
		x[i] = at[v->in[i]->id];
	Fact a = x[0], b = x[1];
	bool zero[2] = {a.known && a.f == 0, b.known && b.f == 0};
	switch (v->node->op) {
	case P_lt: case P_le: case P_eq: case P_ne: return decided(k, v, w);
	case P_not: return a.known ? known(a.f == 0, a.high) : none;
	case P_and: return zero[0] ? a : zero[1] ? b : a.known && b.known ? known(1, a.high | b.high) : none;
	case P_or:
		return a.known && a.f != 0 ? a : b.known && b.f != 0 ? b : a.known && b.known ? known(0, a.high | b.high) : none;
	case P_select: {
		Fact y = !a.known || a.f != 0 ? b : x[2];
		bool same = b.known && x[2].known && b.f == x[2].f;
		y.high |= a.known ? a.high : x[2].high;
		return a.known || same ? y : none;
	}
	case P_cast: case P_stop: return a.known || a.low ? a : none;
	case P_neg: return a.known ? known(-a.f, a.high) : none;
	case P_mul: return zero[0] ? a : zero[1] ? b : none;
	case P_div: return zero[0] ? a : none;
	case P_add: return a.known && b.known ? known(a.f + b.f, a.high | b.high) : none;
	case P_sub: {
		unsigned high = a.known && a.f <= 10 * TILE_LOW ? want_high(k, s, v->in[1]) : 0;
		return high ? (Fact){.low = true, .high = a.high | high} : none;
	}
	case P_exp: return a.low || (a.known && a.f <= 9 * TILE_LOW) ? known(0, a.high) : none;
	default: return none;
	}
}

/* Does nothing come of such places in the walk of the stage? Then s->start[] of its maxima is no less than what they meet there. */
static bool
nothing_comes(Kernel *k, int stage, Where w, Skip *s)
{
	Fact *at = arena_alloc(k->arena, (size_t)k->nval * sizeof *at);
	Skip t = *s;
	t.start = arena_alloc(k->arena, (size_t)k->nval * sizeof *t.start);
	for (int i = 0; i < k->nval; i++)
		at[i] = fact_of(k, &t, k->val[i], at, w);
	for (int i = 0; i < k->nval; i++) {
		const LVal *v = k->val[i];
		t.start[i] = s->start ? s->start[i] : -INFINITY;
		if (v->kind != LV_REDUCE || v->in[0]->level != stage)
			continue;
		Fact x = at[v->in[0]->id];
		bool max = v->node->op == P_reduce_max;
		if (!x.known || (max ? x.high != 0 || v->dt != DT_F32 : x.f != 0))
			return false;
		t.start[i] = max && x.f > t.start[i] ? x.f : t.start[i];
		t.need |= x.high;
	}
	for (int i = 0; i < k->nstore; i++) {
		Fact x = at[k->store[i].val->id];
		if (!k->store[i].row || k->store[i].val->level != stage)
			continue;
		if (!k->store[i].dot || !x.known || x.f != 0)
			return false;
		t.need |= x.high;
	}
	*s = t;
	return true;
}

/* Comparisons that go the same way at all places that are not left out. */
static void
find_inside(Kernel *k, Skip *s)
{
	s->inside = arena_alloc(k->arena, (size_t)k->nval);
	for (int i = 0; i < k->nval; i++) {
		Fact x = {0};
		if (s->late)
			x = decided(k, k->val[i], (Where){false, s->late_by - 1});
		if (s->early && !x.known)
			x = decided(k, k->val[i], (Where){true, s->early_by + 1});
		s->inside[i] = x.known ? x.f != 0 : -1;
	}
}

Skip
tile_skip(Kernel *k, int stage)
{
	Skip s = {0};
	for (int late = 0; late < 2; late++) {
		bool *any = late ? &s.late : &s.early;
		int64_t *by = late ? &s.late_by : &s.early_by;
		for (int i = 0; i < k->nval; i++) {
			int side;
			int64_t more;
			if (!compares(k, k->val[i], &side, &more))
				continue;
			for (int64_t d = -1; d <= 1; d++) { /* where the comparison goes from true to false */
				Where w = {late, d - side * more};
				bool better = !*any || (late ? w.by < *by : w.by > *by);
				if (!better || !nothing_comes(k, stage, w, &s))
					continue;
				*any = true;
				*by = w.by;
			}
		}
	}
	find_inside(k, &s);
	return s;
}
