/* Affine indices with divisions: see loop.h. Views compose by rewriting indices; ranges let splits and merges of axes
   cancel:  (o*32 + i) / 32 -> o,  (o*32 + i) % 32 -> i  where 0 <= i < 32. */
#include <string.h>

#include "ix.h"

static const Ix *
intern(Kernel *k, Ix *x)
{
	uint64_t h = hash_u64(HASH_INIT, (uint64_t)x->c);
	for (int i = 0; i < x->n; i++)
		h = hash_u64(hash_u64(h, (uint64_t)x->t[i].k), (uint64_t)x->t[i].a->id);
	Ix **slot = &k->ixhash[h % LEN(k->ixhash)];
	for (Ix *y = *slot; y; y = y->next) {
		if (y->c != x->c || y->n != x->n)
			continue;
		int i = 0;
		while (i < x->n && y->t[i].k == x->t[i].k && y->t[i].a == x->t[i].a)
			i++;
		if (i == x->n)
			return y;
	}
	Ix *y = arena_alloc(k->arena, sizeof *y);
	*y = *x;
	y->t = arena_alloc(k->arena, (size_t)x->n * sizeof *y->t);
	if (x->n)
		memcpy(y->t, x->t, (size_t)x->n * sizeof *y->t);
	y->lo = y->hi = x->c;
	for (int i = 0; i < x->n; i++) {
		int64_t end = x->t[i].k * x->t[i].a->hi;
		*(end < 0 ? &y->lo : &y->hi) += end;
		y->axes |= x->t[i].a->axes;
		if (x->t[i].a->kind == AT_VAL && x->t[i].a->val->level > y->level)
			y->level = x->t[i].a->val->level;
		if (x->t[i].a->of && x->t[i].a->of->level > y->level)
			y->level = x->t[i].a->of->level;
	}
	y->next = *slot;
	*slot = y;
	return y;
}

const Ix *
ix_const(Kernel *k, int64_t c)
{
	return intern(k, &(Ix){.c = c});
}

static const Ix *
ix_atom(Kernel *k, Atom want)
{
	Atom *a = k->atoms;
	while (a && !(a->kind == want.kind && a->axis == want.axis && a->of == want.of && a->n == want.n && a->val == want.val && a->hi == want.hi))
		a = a->next;
	if (!a) {
		a = arena_alloc(k->arena, sizeof *a);
		*a = want;
		a->id = k->natom++;
		a->next = k->atoms;
		k->atoms = a;
	}
	return intern(k, &(Ix){.n = 1, .t = (Term[]){{1, a}}});
}

const Ix *
ix_axis(Kernel *k, int axis)
{
	if (k->size[axis] == 1)
		return ix_const(k, 0);
	return ix_atom(k, (Atom){.kind = AT_AXIS, .axis = axis, .hi = k->size[axis] - 1, .axes = 1u << axis});
}

const Ix *
ix_val(Kernel *k, LVal *v, int64_t hi)
{
	return ix_atom(k, (Atom){.kind = AT_VAL, .val = v, .hi = hi, .axes = v->axes});
}

/* Is d what m leaves: m = x % n and d = x / n, or x = y / a and d = y / (a*n)? */
static bool
is_rest(const Atom *m, const Atom *d)
{
	if (m->kind != AT_MOD || d->kind != AT_DIV)
		return false;
	const Atom *x = m->of->n == 1 && m->of->c == 0 && m->of->t[0].k == 1 ? m->of->t[0].a : NULL;
	return (m->of == d->of && m->n == d->n) || (x && x->kind == AT_DIV && x->of == d->of && x->n * m->n == d->n);
}

/* k * (x % n) + k*n * (x / n) is k * x. */
static const Ix *
recompose(Kernel *k, const Ix *x)
{
	for (int i = 0; i < x->n; i++)
		for (int j = 0; j < x->n; j++) {
			const Atom *m = x->t[i].a, *d = x->t[j].a;
			if (!is_rest(m, d) || x->t[j].k != x->t[i].k * m->n)
				continue;
			Term t[64];
			Ix r = {.c = x->c, .t = t};
			for (int q = 0; q < x->n; q++)
				if (q != i && q != j)
					t[r.n++] = x->t[q];
			return ix_addmul(k, intern(k, &r), m->of, x->t[i].k);
		}
	return x;
}

/* x + c * y */
const Ix *
ix_addmul(Kernel *k, const Ix *x, const Ix *y, int64_t c)
{
	Term t[64];
	Ix r = {.c = x->c + c * y->c, .t = t};
	int i = 0, j = 0;
	while (i < x->n || j < y->n) {
		Term *o = &t[r.n];
		if (r.n == (int)LEN(t))
			bug("an index of more than %d terms", (int)LEN(t));
		if (j == y->n || (i < x->n && x->t[i].a->id < y->t[j].a->id)) {
			*o = x->t[i++];
		} else if (i == x->n || y->t[j].a->id < x->t[i].a->id) {
			*o = y->t[j++];
			o->k *= c;
		} else {
			*o = (Term){x->t[i].k + c * y->t[j].k, x->t[i].a};
			i++, j++;
		}
		r.n += o->k != 0;
	}
	return recompose(k, intern(k, &r));
}

const Ix *ix_scale(Kernel *k, const Ix *x, int64_t c) { return ix_addmul(k, ix_const(k, 0), x, c); }
const Ix *ix_plus(Kernel *k, const Ix *x, int64_t c) { return ix_addmul(k, x, ix_const(k, 1), c); }

/* x = q * n + r with all multiples of n in q. r is not negative, since / and % of C are not those of a floor; but for
   what that takes, its constant is in [0, n). */
static void
take_multiples(Kernel *k, const Ix *x, int64_t n, const Ix **q, const Ix **r)
{
	Term tq[64], tr[64];
	int64_t rem = ((x->c % n) + n) % n;
	Ix a = {.c = (x->c - rem) / n, .t = tq}, b = {.c = rem, .t = tr};
	for (int i = 0; i < x->n; i++) {
		if (x->t[i].k % n == 0)
			tq[a.n++] = (Term){x->t[i].k / n, x->t[i].a};
		else
			tr[b.n++] = x->t[i];
	}
	*r = intern(k, &b);
	if ((*r)->lo < 0) {
		int64_t lift = (-(*r)->lo + n - 1) / n;
		*r = ix_plus(k, *r, lift * n);
		a.c -= lift;
	}
	*q = intern(k, &a);
}

static int64_t
gcd(int64_t a, int64_t b)
{
	while (b) {
		int64_t t = a % b;
		a = b;
		b = t;
	}
	return a < 0 ? -a : a;
}

/* Divides all of r and n by what they share; the constant's rest cannot matter to a floor. */
static const Ix *
reduce_fraction(Kernel *k, const Ix *r, int64_t *n)
{
	int64_t g = *n;
	Term t[64];
	for (int i = 0; i < r->n; i++)
		g = gcd(g, r->t[i].k);
	if (g <= 1)
		return r;
	Ix x = {.c = r->c / g, .t = t, .n = r->n};
	for (int i = 0; i < r->n; i++)
		t[i] = (Term){r->t[i].k / g, r->t[i].a};
	*n /= g;
	return intern(k, &x);
}

/* n = g * m and x = g * high + low with low in [0, g): then x / n = high / m and x % n = g * (high % m) + low. The greatest
   such g, or 1. */
static int64_t
cut(Kernel *k, const Ix *x, int64_t n, const Ix **high, const Ix **low)
{
	int64_t best = 1;
	for (int i = 0; i < x->n; i++) {
		const Ix *q, *r;
		int64_t g = gcd(n, x->t[i].k);
		if (g <= best)
			continue;
		take_multiples(k, x, g, &q, &r);
		if (r->lo >= 0 && r->hi < g) {
			best = g;
			*high = q;
			*low = r;
		}
	}
	return best;
}

static bool is_mod(const Ix *x) { return x->n == 1 && x->c == 0 && x->t[0].k == 1 && x->t[0].a->kind == AT_MOD; }

const Ix *
ix_div(Kernel *k, const Ix *x, int64_t n)
{
	const Ix *q, *r, *high, *low;
	if (n == 1)
		return x;
	take_multiples(k, x, n, &q, &r);
	if (r->lo >= 0 && r->hi < n)
		return q;
	int64_t g = cut(k, r, n, &high, &low);
	if (g > 1)
		return ix_addmul(k, q, ix_div(k, high, n / g), 1);
	r = reduce_fraction(k, r, &n);
	if (n == 1)
		return ix_addmul(k, q, r, 1);
	if (is_mod(r) && r->t[0].a->n % n == 0) /* (x % ab) / a = x / a % b */
		return ix_addmul(k, q, ix_mod(k, ix_div(k, r->t[0].a->of, n), r->t[0].a->n / n), 1);
	const Ix *d = ix_atom(k, (Atom){.kind = AT_DIV, .of = r, .n = n, .hi = r->hi / n, .axes = r->axes});
	return ix_addmul(k, q, d, 1);
}

const Ix *
ix_mod(Kernel *k, const Ix *x, int64_t n)
{
	const Ix *q, *r, *high, *low;
	if (n == 1)
		return ix_const(k, 0);
	take_multiples(k, x, n, &q, &r);
	if (r->lo >= 0 && r->hi < n)
		return r;
	int64_t g = cut(k, r, n, &high, &low);
	if (g > 1)
		return ix_addmul(k, low, ix_mod(k, high, n / g), g);
	if (is_mod(r) && r->t[0].a->n % n == 0) /* x % ab % a = x % a */
		return ix_mod(k, r->t[0].a->of, n);
	return ix_atom(k, (Atom){.kind = AT_MOD, .of = r, .n = n, .hi = n - 1, .axes = r->axes});
}

const Ix *
ix_known(Kernel *k, const Ix *x, int64_t hi)
{
	if (hi == 0)
		return ix_const(k, 0);
	return x->lo >= 0 && x->hi <= hi ? x : ix_atom(k, (Atom){.kind = AT_KNOWN, .of = x, .hi = hi, .axes = x->axes});
}

static bool
has_known(const Ix *x)
{
	for (int i = 0; i < x->n; i++)
		if (x->t[i].a->kind == AT_KNOWN || (x->t[i].a->of && has_known(x->t[i].a->of)))
			return true;
	return false;
}

const Ix *
ix_plain(Kernel *k, const Ix *x)
{
	const Ix *y = ix_const(k, x->c);
	if (!has_known(x))
		return x;
	for (int i = 0; i < x->n; i++) {
		const Atom *a = x->t[i].a;
		const Ix *of = a->of ? ix_plain(k, a->of) : NULL;
		const Ix *v = a->kind == AT_KNOWN ? of : a->kind == AT_DIV ? ix_div(k, of, a->n) : a->kind == AT_MOD ? ix_mod(k, of, a->n)
		                                       : intern(k, &(Ix){.n = 1, .t = (Term[]){{1, a}}});
		y = ix_addmul(k, y, v, x->t[i].k);
	}
	return y;
}

/* Row-major place of idx in dims. */
const Ix *
ix_flatten(Kernel *k, const Ix *const *idx, const int64_t *dim, int nd)
{
	const Ix *x = ix_const(k, 0);
	int64_t stride = 1;
	for (int i = nd - 1; i >= 0; i--) {
		x = ix_addmul(k, x, idx[i], stride);
		stride *= dim[i];
	}
	return x;
}

/* The index in dims of row-major place x. The first dim takes all that is left: a place outside stays outside. */
void
ix_unflatten(Kernel *k, const Ix *x, const int64_t *dim, int nd, const Ix **idx)
{
	int64_t stride = 1, count = 1;
	for (int i = 0; i < nd; i++)
		count *= dim[i];
	for (int i = nd - 1; i >= 0; i--) {
		if (dim[i] == 1) {
			idx[i] = ix_const(k, 0);
			continue;
		}
		const Ix *q = ix_div(k, x, stride);
		stride *= dim[i];
		idx[i] = stride == count || (q->lo >= 0 && q->hi < dim[i]) ? q : ix_mod(k, q, dim[i]);
	}
}

/* The index in dims y of the place that has index idx in dims x of as many elements. Groups of neighbouring dims with equal
   products are turned by themselves, so that an index outside of its dim (a guard is about it) disturbs no other:
     [7, i - 1, j] in [8, 10, 6]  ->  [7, i - 1, j / 3, j % 3] in [8, 10, 2, 3]  */
void
ix_reshape(Kernel *k, const Ix *const *idx, const int64_t *x, int nx, const int64_t *y, int ny, const Ix **out)
{
	while (nx || ny) {
		int a = nx, b = ny;
		int64_t m = nx ? x[--nx] : 1, n = ny ? y[--ny] : 1;
		while (m != n)
			if (m < n)
				m *= x[--nx];
			else
				n *= y[--ny];
		ix_unflatten(k, ix_flatten(k, idx + nx, x + nx, a - nx), y + ny, b - ny, out + ny);
	}
}

/* Step of the index when the axis steps by one, away from the ends of divisions. */
int64_t
ix_local_stride(const Ix *ix, int axis)
{
	int64_t s = 0;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		if (a->kind == AT_AXIS && a->axis == axis)
			s += ix->t[i].k;
		else if (a->kind == AT_MOD)
			s += ix->t[i].k * ix_local_stride(a->of, axis);
	}
	return s;
}

/* What x is the quotient of in x / n, where all of ix is that, or NULL. */
static const Ix *
quotient_of(const Ix *ix, int64_t n)
{
	bool one = ix->n == 1 && ix->c == 0 && ix->t[0].k == 1 && ix->t[0].a->kind == AT_DIV && ix->t[0].a->n == n;
	return one ? ix->t[0].a->of : NULL;
}

const Ix *
ix_join(Kernel *k, const Ix *ix)
{
	for (int i = 0; i < ix->n; i++)
		for (int j = 0; j < ix->n; j++) {
			const Term low = ix->t[i], high = ix->t[j];
			const Atom *a = high.a;
			if (low.a->kind != AT_MOD || high.k != low.k * low.a->n || (a->kind != AT_MOD && a->kind != AT_DIV))
				continue;
			const Ix *x = low.a->of, *of = a->kind == AT_MOD ? quotient_of(a->of, low.a->n) : a->n == low.a->n ? a->of : NULL;
			if (of != x)
				continue;
			const Ix *joined = a->kind == AT_MOD ? ix_mod(k, x, low.a->n * a->n) : x, *part = ix_div(k, x, low.a->n);
			ix = ix_addmul(k, ix, ix_mod(k, x, low.a->n), -low.k);
			ix = ix_addmul(k, ix, a->kind == AT_MOD ? ix_mod(k, part, a->n) : part, -high.k);
			return ix_join(k, ix_addmul(k, ix, joined, low.k));
		}
	return ix;
}

int64_t
ix_stride(const Ix *ix, int axis)
{
	for (int i = 0; i < ix->n; i++)
		if (ix->t[i].a->kind == AT_AXIS && ix->t[i].a->axis == axis)
			return ix->t[i].k;
	return 0;
}

bool
ix_run_step(const Ix *ix, int axis, int n, int64_t *step)
{
	int64_t inner;
	*step = 0;
	if (ix->c % n)
		return false;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		int64_t k = ix->t[i].k;
		bool part = a->kind == AT_DIV || a->kind == AT_MOD, varies = a->axes >> axis & 1 && !(part && ix_run_same(a->of, axis, n));
		bool cuts = varies && part && (a->n % n || !ix_run_step(a->of, axis, n, &inner) || inner != 1);
		if (cuts || (varies && a->kind == AT_VAL))
			return false;
		if (varies && a->kind != AT_DIV)
			*step += k;
		else if (k % n)
			return false;
	}
	return true;
}

bool
ix_run_same(const Ix *ix, int axis, int n)
{
	int64_t inner;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		bool part = a->kind == AT_DIV || a->kind == AT_MOD;
		if (!(a->axes >> axis & 1) || (part && ix_run_same(a->of, axis, n)))
			continue;
		if (a->kind != AT_DIV || a->n % n || !ix_run_step(a->of, axis, n, &inner) || inner != 1)
			return false;
	}
	return true;
}
