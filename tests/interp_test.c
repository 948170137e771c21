/* Tests of compiler/interp.c. Nodes are built by hand, past node_new: neither inference nor simplification may hide
   what a primitive does. First a table of small cases worked out by hand, then laws that hold for random ones. */
#define _GNU_SOURCE
#include "interp_bench.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed, skipped;

static void
check(bool ok, int line, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		passed++;
		return;
	}
	failed++;
	printf("%s:%d: ", __FILE__, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}
#define CHECK(ok, ...) check((ok), __LINE__, __VA_ARGS__)

/* ---- comparing ---- */

static bool
within(double a, double b, double err)
{
	if (!isfinite(a) || !isfinite(b))
		return a == b || (isnan(a) && isnan(b));
	return fabs(a - b) <= err;
}

/* Relative to b, or to 1e-3 where cancellation left less. */
static bool close_to(double a, double b, double tol) { return within(a, b, tol * fmax(fabs(b), 1e-3)); }

/* Two nodes of one value. */
static void
check_equal(Bench *b, Node *x, Node *y, double tol, int line, const char *what)
{
	double *v[2];
	interp(&b->g, &b->env, (Node *[]){x, y}, 2, v);
	int64_t bad = node_count(x) == node_count(y) ? -1 : 0;
	for (int64_t i = 0; bad < 0 && i < node_count(x); i++)
		if (!close_to(v[0][i], v[1][i], tol))
			bad = i;
	check(bad < 0, line, "%s: element %lld: %.17g, not %.17g", what, (long long)bad, v[0][bad < 0 ? 0 : bad],
	      v[1][bad < 0 ? 0 : bad]);
	free(v[0]);
	free(v[1]);
}

/* ---- cases worked out by hand ---- */

static const char *const prim_name[NPRIM] = {
#define P(name, kind, arity, dtype, attr, spell, eval) #name,
#include "../ops/prim.def"
#undef P
};

static const char *const type_name[NDTYPE] = {
#define X(name, en, bytes, c, cu) #name,
	DTYPES(X)
#undef X
};

typedef struct Case {
	const char *op, *type, *at, *in, *want;
	int line;
} Case;

static const Case cases[] = {
#define C(op, type, at, in, want) {#op, type, at, in, want, __LINE__},
#include "interp_cases.def"
#undef C
};

static int
find_name(const char *const *names, int n, const char *s, size_t len)
{
	for (int i = 0; i < n; i++)
		if (strlen(names[i]) == len && !memcmp(names[i], s, len))
			return i;
	printf("no such name: %.*s\n", (int)len, s);
	exit(1);
}

/* "f32[2,3]" */
static const char *
parse_type(const char *s, DType *t, Ints *dim)
{
	size_t len = strcspn(s, "[");
	char *end = (char *)s + len;
	*t = (DType)find_name(type_name, NDTYPE, s, len);
	*dim = none;
	while (*end++ != ']' && *end != ']')
		dim->v[dim->n++] = strtoll(end, &end, 10);
	return end + (*end == ']');
}

static const char *
parse_doubles(const char *s, double *v, int *n)
{
	char *end;
	for (*n = 0;; s = end) {
		double x = strtod(s, &end);
		if (end == s)
			return s + strspn(s, " ");
		v[(*n)++] = x;
	}
}

static void
run_case(const Case *c, bool *seen)
{
	Bench *b = bench_new();
	Prim op = (Prim)find_name(prim_name, NPRIM, c->op, strlen(c->op));
	double store[8][32], want[32], f = 0;
	int nwant, n, nin = 0;
	Node *in[8];
	DType dt;
	Ints dim, at = none;
	const char *s = c->in;
	if (op == P_const)
		f = strtod(s, NULL), s = "";
	while (*s) {
		s = parse_type(s + strspn(s, " |"), &dt, &dim);
		s = parse_doubles(s + 1, store[nin], &n);
		in[nin] = given(b, dt, dim, store[nin]);
		CHECK(node_count(in[nin]) == n, "interp_cases.def:%d: operand %d has %d values", c->line, nin, n);
		nin++;
	}
	parse_doubles(c->at, want, &at.n);
	for (int i = 0; i < at.n; i++)
		at.v[i] = (int64_t)want[i];
	parse_type(c->type, &dt, &dim);
	parse_doubles(c->want, want, &nwant);
	Node *node = make(b, op, dt, dim, at, op == P_input ? 0 : nin, in);
	node->f = f;
	double *v = eval(b, node);
	bool ok = node_count(node) == nwant;
	for (int i = 0; ok && i < nwant; i++)
		ok = within(v[i], want[i], dt == DT_F32 ? 1e-15 * fabs(want[i]) : 0);
	CHECK(ok, "interp_cases.def:%d: %s is not %s, but", c->line, c->op, c->want);
	for (int i = 0; !ok && i < node_count(node); i++)
		printf("\t%.17g\n", v[i]);
	seen[op] = true;
	free(v);
	bench_free(b);
}

static void
test_cases(void)
{
	bool seen[NPRIM] = {0};
	for (size_t i = 0; i < LEN(cases); i++)
		run_case(&cases[i], seen);
	for (int i = 0; i < NPRIM; i++)
		CHECK(seen[i] || i == P_arg || i == P_scan || i == P_result, "%s has no case", prim_name[i]); /* see test_scan */
}

/* Running sums of x with what each step multiplies: carry s, sequence x, invariant k; s' = s + x, emitted s * x - k. */
static void
test_scan(void)
{
	static const double init = 10, x[] = {1, 2, 4}, k = 1;
	static const double want[2][7] = {{10, 11, 13, 17, 9, 21, 51}, {17, 16, 14, 10, 15, 27, 39}};
	for (int reverse = 0; reverse < 2; reverse++) {
		Bench *step = bench_new(), *b = bench_new();
		GInput one[3] = {{.dt = DT_F32}, {.dt = DT_F32}, {.dt = DT_F32}};
		Node *in[3], *y[2];
		double *got[2];
		for (int i = 0; i < 3; i++)
			in[i] = make(step, P_input, DT_F32, none, INTS(i), 0, NULL);
		GOutput out[2] = {{.node = elem2(step, P_add, in[0], in[1])}, {.node = elem2(step, P_sub, elem2(step, P_mul, in[0], in[1]), in[2])}};
		step->g.input = one, step->g.ninput = 3;
		step->g.output = out, step->g.noutput = 2;
		Node *from[3] = {given(b, DT_F32, none, &init), given(b, DT_F32, INTS(3), x), given(b, DT_F32, none, &k)};
		Node *scan = make(b, P_scan, DT_F32, none, INTS(3, reverse, 1, 1, 0), 3, from);
		scan->body = &step->g;
		y[0] = make1(b, P_result, INTS(4), INTS(0), scan);
		y[1] = make1(b, P_result, INTS(3), INTS(1), scan);
		interp(&b->g, &b->env, y, 2, got);
		for (int i = 0; i < 7; i++) {
			double v = got[i > 3][i > 3 ? i - 4 : i];
			CHECK(v == want[reverse][i], "scan%s: value %d is %g, not %g", reverse ? " in reverse" : "", i, v, want[reverse][i]);
		}
		free(got[0]);
		free(got[1]);
		bench_free(step);
		bench_free(b);
	}
}

/* ---- numbers ---- */

static double
cast_one(DType from, DType to, double x)
{
	Bench *b = bench_new();
	Node *in = given(b, from, none, &x);
	double *v = eval(b, make(b, P_cast, to, none, none, 1, &in)), y = v[0];
	free(v);
	bench_free(b);
	return y;
}

/* The k-th finite number from 0 up of a format with that many fraction bits. */
static double
nth(int k, int fraction, int emin)
{
	int e = k >> fraction, m = k & ((1 << fraction) - 1);
	return e ? ldexp((1 << fraction) + m, e - 1 + emin - fraction) : ldexp(m, emin - fraction);
}

/* All neighbours of a 16-bit format: each is kept, what lies between goes to the nearer, the middle to the even one. */
static void
test_round_16(DType t, int fraction, int emin, int count)
{
	int bad = 0;
	for (int k = 0; k + 1 < count; k += 1 + (int)(rnd() % 5)) {
		double a = nth(k, fraction, emin), z = nth(k + 1, fraction, emin), mid = (a + z) / 2, even = k % 2 ? z : a;
		bad += cast_one(DT_F32, t, a) != a || cast_one(DT_F32, t, -z) != -z;
		bad += cast_one(DT_F32, t, mid) != even || cast_one(DT_F32, t, -mid) != -even;
		bad += cast_one(DT_F32, t, nextafter(mid, 0)) != a || cast_one(DT_F32, t, nextafter(mid, z)) != z;
	}
	CHECK(bad == 0, "%s: %d wrong roundings", type_name[t], bad);
	double max = nth(count - 1, fraction, emin), half = (max - nth(count - 2, fraction, emin)) / 2;
	CHECK(cast_one(DT_F32, t, nextafter(max + half, 0)) == max && cast_one(DT_F32, t, max + half) == INFINITY,
	      "%s: overflow", type_name[t]);
	CHECK(cast_one(DT_F32, t, -INFINITY) == -INFINITY && isnan(cast_one(DT_F32, t, NAN)), "%s: inf, nan", type_name[t]);
}

static void
test_round_f32(void)
{
	int bad = 0;
	for (int i = 0; i < 5000; i++) {
		double x = ldexp(rnd_real(), (int)rnd_int(-160, 126));
		bad += cast_one(DT_F32, DT_F32, x) != (float)x;
	}
	CHECK(bad == 0, "f32: %d wrong roundings", bad);
}

/* u32 and i32 against C's 64-bit integers; and quotient times divisor plus rest gives the dividend. */
static void
test_integers(void)
{
	static const DType types[] = {DT_I32, DT_U32};
	for (size_t t = 0; t < LEN(types); t++) {
		Bench *b = bench_new();
		int64_t lo = t ? 0 : INT32_MIN, hi = t ? UINT32_MAX : INT32_MAX;
		Node *x = given_ints(b, types[t], INTS(500), lo, hi), *y = given_ints(b, types[t], INTS(500), lo, hi);
		Node *small = given_ints(b, types[t], INTS(500), 1, 1000), *out[3];
		Node *q = elem2(b, P_div, x, small), *r = elem2(b, P_mod, x, small);
		check_equal(b, elem2(b, P_add, elem2(b, P_mul, q, small), r), x, 0, __LINE__, "x / y * y + x % y");
		check_equal(b, elem2(b, P_sub, elem2(b, P_add, x, y), y), x, 0, __LINE__, "x + y - y");
		check_equal(b, elem2(b, P_add, elem1(b, P_neg, x), x), elem2(b, P_sub, y, y), 0, __LINE__, "-x + x");
		static const Prim ops[] = {P_add, P_sub, P_mul};
		for (int i = 0; i < 3; i++)
			out[i] = elem2(b, ops[i], x, y);
		double *v[3];
		interp(&b->g, &b->env, out, 3, v);
		int bad = 0;
		for (int k = 0; k < 500; k++) {
			uint32_t p = (uint32_t)(int64_t)b->input[0][k], s = (uint32_t)(int64_t)b->input[1][k];
			uint32_t want[3] = {p + s, p - s, p * s};
			for (int i = 0; i < 3; i++)
				bad += v[i][k] != (t ? (double)want[i] : (double)(int32_t)want[i]);
		}
		CHECK(bad == 0, "%s: %d wrong", type_name[types[t]], bad);
		for (int i = 0; i < 3; i++)
			free(v[i]);
		bench_free(b);
	}
}

static void
test_shuffle(void)
{
	static const double keys[] = {0, 1, 7, 0xffffffff, 0x9E3779B9, 123456789};
	bool hit[1000];
	double i[1000], n[1000], k[1000];
	for (int count = 1; count <= 1000; count += count < 300 ? 1 : 233)
		for (size_t key = 0; key < LEN(keys); key++) {
			Bench *b = bench_new();
			Ints dim = INTS(count);
			Node *in[3] = {given(b, DT_U32, dim, i), given(b, DT_U32, dim, n), given(b, DT_U32, dim, k)};
			int distinct = 0, moved = 0;
			for (int j = 0; j < count; j++)
				i[j] = j, n[j] = count, k[j] = keys[key], hit[j] = false;
			double *v = eval(b, make(b, P_shuffle, DT_U32, INTS(count), none, 3, in));
			for (int j = 0; j < count; j++) {
				if (v[j] >= 0 && v[j] < count && !hit[(int)v[j]])
					distinct++, hit[(int)v[j]] = true;
				moved += v[j] != j;
			}
			CHECK(distinct == count, "shuffle of %d, key %g: %d distinct", count, keys[key], distinct);
			CHECK(count < 20 || moved > count / 2, "shuffle of %d, key %g moves only %d", count, keys[key], moved);
			free(v);
			bench_free(b);
		}
}

/* Philox-2x32-10 from the paper's figure, with 16-bit limbs in place of a 64-bit product. out: low, high word. */
static void
philox_by_hand(uint32_t lo, uint32_t hi, uint32_t key, uint32_t out[2])
{
	const uint32_t mh = 0xD256, ml = 0xD193;
	for (uint32_t round = 0; round < 10; round++) {
		uint32_t k = key + round * 0x9E3779B9u, h = lo >> 16, l = lo & 0xffff;
		uint32_t mid = ml * h + (ml * l >> 16), mid2 = mh * l + (mid & 0xffff);
		uint32_t top = mh * h + (mid >> 16) + (mid2 >> 16), bottom = mid2 << 16 | (ml * l & 0xffff);
		lo = top ^ k ^ hi;
		hi = bottom;
	}
	out[0] = lo, out[1] = hi;
}

static void
test_random(void)
{
	/* counter low, high, key, result low, high: file kat_vectors of the Random123 distribution (philox2x32 10) */
	static const uint32_t known[][5] = {
		{0, 0, 0, 0xff1dae59, 0x6cd10df2},
		{0xffffffff, 0xffffffff, 0xffffffff, 0x2c3f628b, 0xab4fd7ad},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0xdd7ce038, 0xf62a4c12},
	};
	uint32_t w[2];
	for (size_t i = 0; i < LEN(known); i++) {
		philox_by_hand(known[i][0], known[i][1], known[i][2], w);
		CHECK(w[0] == known[i][3] && w[1] == known[i][4], "philox vector %zu: %08x %08x", i, w[0], w[1]);
	}
	for (int t = 0; t < 50; t++) {
		Bench *b = bench_new();
		uint32_t site = t < 2 ? 0 : (uint32_t)rnd(), seed = (uint32_t)rnd(), step = t % 2 ? (uint32_t)rnd() : 0;
		double seed_d = seed, step_d = t % 4 == 1 ? (double)(int32_t)step : step; /* a negative i32 is its u32 */
		Node *in[2] = {given(b, DT_U32, none, &seed_d), given(b, DT_I32, none, &step_d)};
		double *v = eval(b, make(b, P_random, DT_F32, INTS(7, 31), INTS(site), 2, in)), sum = 0;
		int bad = 0;
		for (uint32_t k = 0; k < 7 * 31; k++) {
			philox_by_hand(k / 2, step, seed ^ (site * 0x9E3779B9u + 0x7F4A7C15u), w);
			bad += v[k] != (double)((float)(w[k % 2] >> 8) * 0x1p-24f) || v[k] < 0 || v[k] >= 1;
			sum += v[k];
		}
		CHECK(bad == 0, "random(%u, %u; %u): %d wrong", seed, step, site, bad);
		CHECK(fabs(sum / (7 * 31) - 0.5) < 0.12, "random(%u, %u; %u): mean %g", seed, step, site, sum / (7 * 31));
		free(v);
		bench_free(b);
	}
}

/* ---- laws ---- */

/* Random labels out of five, each used once, dims to match. */
static Ints
pick_labels(unsigned allowed, const int64_t *size, Ints *dim)
{
	Ints at = none;
	*dim = none;
	int order = (int)rnd_int(0, 4);
	for (int i = 0; i < 5; i++) {
		int label = (i * 2 + order) % 5; /* 2 is prime to 5: all labels, in another order */
		if ((allowed >> label & 1) && rnd() % 2) {
			at.v[at.n++] = label;
			dim->v[dim->n++] = size[label];
		}
	}
	return at;
}

static int64_t
offset(Ints at, Ints dim, const int64_t *ix)
{
	int64_t off = 0;
	for (int d = 0; d < at.n; d++)
		off = off * dim.v[d] + ix[at.v[d]];
	return off;
}

/* dot against five plain loops over all labels; a label that nobody has runs once. */
static void
test_dot(void)
{
	for (int t = 0; t < 300; t++) {
		Bench *b = bench_new();
		int64_t size[5], i[5];
		double want[1024] = {0};
		unsigned used = 0;
		Ints dim[3], at[3], all = none;
		for (int k = 0; k < 5; k++)
			size[k] = rnd_int(t % 10 ? 1 : 0, 4);
		at[0] = pick_labels(31, size, &dim[0]);
		at[1] = pick_labels(31, size, &dim[1]);
		for (int s = 0; s < 2; s++)
			for (int d = 0; d < at[s].n; d++)
				used |= 1u << at[s].v[d];
		at[2] = pick_labels(used, size, &dim[2]);
		for (int s = 0; s < 3; s++)
			for (int d = 0; d < at[s].n; d++)
				all.v[all.n++] = at[s].v[d];
		Node *in[2] = {given_random(b, dim[0]), given_random(b, dim[1])};
		double *v = eval(b, make(b, P_dot, DT_F32, dim[2], all, 2, in));
		for (int k = 0; k < 5; k++)
			size[k] = used >> k & 1 ? size[k] : 1;
		for (i[0] = 0; i[0] < size[0]; i[0]++)
			for (i[1] = 0; i[1] < size[1]; i[1]++)
				for (i[2] = 0; i[2] < size[2]; i[2]++)
					for (i[3] = 0; i[3] < size[3]; i[3]++)
						for (i[4] = 0; i[4] < size[4]; i[4]++)
							want[offset(at[2], dim[2], i)] +=
								b->input[0][offset(at[0], dim[0], i)] * b->input[1][offset(at[1], dim[1], i)];
		int64_t count = 1, bad = 0;
		for (int d = 0; d < dim[2].n; d++)
			count *= dim[2].v[d];
		for (int64_t k = 0; k < count; k++)
			bad += !close_to(v[k], want[k], 1e-12);
		CHECK(bad == 0, "dot %d: %lld of %lld wrong", t, (long long)bad, (long long)count);
		free(v);
		bench_free(b);
	}
}

/* <A x, y> = <x, A' y>: y is of the shape of ax, x of that of aty. */
static void
check_adjoint(Bench *b, Node *ax, Node *y, Node *x, Node *aty, int line, const char *what)
{
	double *v[4], left = 0, right = 0;
	interp(&b->g, &b->env, (Node *[]){ax, y, x, aty}, 4, v);
	for (int64_t i = 0; i < node_count(y); i++)
		left += v[0][i] * v[1][i];
	for (int64_t i = 0; i < node_count(x); i++)
		right += v[2][i] * v[3][i];
	check(close_to(left, right, 1e-11), line, "%s: %.17g, not %.17g", what, left, right);
	for (int i = 0; i < 4; i++)
		free(v[i]);
}

static void
test_adjoints(void)
{
	for (int t = 0; t < 50; t++) {
		Bench *b = bench_new();
		int64_t n = rnd_int(1, 4), m = rnd_int(1, 3), k = rnd_int(1, 3), stride = rnd_int(1, 3), dil = rnd_int(1, 3);
		int64_t w = rnd_int(1, 4), len = (w - 1) * stride + (k - 1) * dil + 1 + rnd_int(0, 2);
		Node *x = given_random(b, INTS(n, len, m)), *y = given_random(b, INTS(n, w, m, k));
		Ints at = INTS(1, stride, dil);
		Node *seen = make1(b, P_window, dims_of(y), at, x), *back = make1(b, P_fold, dims_of(x), at, y);
		check_adjoint(b, seen, y, x, back, __LINE__, "window, fold");

		Node *table = given_random(b, INTS(len, m)), *g = given_random(b, INTS(n, w, m));
		Node *ids = given_ints(b, DT_I32, INTS(n, w), -1, len);
		Node *taken = make(b, P_gather, DT_F32, dims_of(g), none, 2, (Node *[]){table, ids});
		Node *put = make(b, P_scatter_add, DT_F32, dims_of(table), none, 2, (Node *[]){ids, g});
		check_adjoint(b, taken, g, table, put, __LINE__, "gather, scatter_add");

		Node *row = given_random(b, INTS(n, m));
		Node *wide = make1(b, P_expand, dims_of(g), INTS(0, -1, 1), row);
		Node *sum = make1(b, P_reduce_sum, dims_of(row), INTS(1), g);
		check_adjoint(b, wide, g, row, sum, __LINE__, "expand, reduce_sum");

		int64_t lo = rnd_int(0, 2), big = len + lo + rnd_int(0, 2);
		Node *z = given_random(b, INTS(n, big, m));
		at = INTS(0, lo, 0, 1, 1, 1);
		Node *padded = make1(b, P_pad, dims_of(z), INTS(0, lo, 0, 1, 1, 1), x);
		check_adjoint(b, padded, z, x, make1(b, P_slice, dims_of(x), at, z), __LINE__, "pad, slice");
		check_equal(b, make1(b, P_slice, dims_of(x), at, padded), x, 0, __LINE__, "slice of pad");
		bench_free(b);
	}
}

static void
test_views(void)
{
	for (int t = 0; t < 30; t++) {
		Bench *b = bench_new();
		int64_t p = rnd_int(1, 4), q = rnd_int(1, 4), r = rnd_int(1, 4), cut = rnd_int(0, q);
		Node *x = given_random(b, INTS(p, q, r)), *y = given_random(b, INTS(r, q));
		Node *turned = make1(b, P_permute, INTS(r, p, q), INTS(2, 0, 1), x);
		Node *back = make1(b, P_permute, INTS(p, q, r), INTS(1, 2, 0), turned);
		check_equal(b, back, x, 0, __LINE__, "permute and back");

		Node *once = make1(b, P_reduce_sum, INTS(q), INTS(0, 1), turned);
		Node *first = make1(b, P_reduce_sum, INTS(p, q), INTS(2), x);
		check_equal(b, make1(b, P_reduce_sum, INTS(q), INTS(0), first), once, 1e-13, __LINE__, "sum by turns");

		Node *flat = make1(b, P_reshape, INTS(p * q * r), none, x), *most = make1(b, P_reduce_max, none, INTS(0), flat);
		check_equal(b, make1(b, P_reduce_max, none, INTS(0, 1, 2), x), most, 0, __LINE__, "max of all");

		Node *part[2] = {make1(b, P_slice, INTS(p, cut, r), INTS(0, 0, 0, 1, 1, 1), x),
				 make1(b, P_slice, INTS(p, q - cut, r), INTS(0, cut, 0, 1, 1, 1), x)};
		Node *whole = make(b, P_concat, DT_F32, INTS(p, q, r), INTS(1), 2, part);
		check_equal(b, whole, x, 0, __LINE__, "concat of slices");

		Ints at = INTS(0, 1, 2, 2, 3, 0, 1, 3), wide = INTS(p, q, r, q);
		Node *d = make(b, P_dot, DT_F32, INTS(p, q, q), at, 2, (Node *[]){x, y});
		Node *ex = make1(b, P_expand, wide, INTS(0, 1, 2, -1), x);
		Node *ey = make1(b, P_expand, wide, INTS(-1, -1, 0, 1), y);
		Node *sum = make1(b, P_reduce_sum, INTS(p, q, q), INTS(2), elem2(b, P_mul, ex, ey));
		check_equal(b, sum, d, 1e-12, __LINE__, "dot by expand");
		bench_free(b);
	}
}

/* Shorthands for the formulas below. */
#define E1(op, x) elem1(b, P_##op, x)
#define E2(op, x, y) elem2(b, P_##op, x, y)
#define EQUAL(x, y, tol) check_equal(b, x, y, tol, __LINE__, #x)

static void
test_elementwise(void)
{
	Bench *b = bench_new();
	Node *x = given_random(b, INTS(400)), *y = given_random(b, INTS(400)), *ax = E1(abs, x);
	Node *one = make(b, P_const, DT_F32, INTS(400), none, 0, NULL), *s = E1(sin, x), *c = E1(cos, x);
	one->f = 1;
	EQUAL(E2(add, E2(mul, s, s), E2(mul, c, c)), one, 1e-14);
	EQUAL(E1(log, E1(exp, x)), x, 1e-12);
	EQUAL(E1(log1p, ax), E1(log, E2(add, one, ax)), 1e-12);
	EQUAL(E2(mul, E1(sign, x), ax), x, 0);
	EQUAL(E2(add, E2(max, x, y), E2(min, x, y)), E2(add, x, y), 0);
	EQUAL(E2(mul, E1(rsqrt, ax), E1(sqrt, ax)), one, 1e-14);
	EQUAL(E1(erf, E1(neg, x)), E1(neg, E1(erf, x)), 0);
	EQUAL(E1(sigmoid, E2(add, x, x)), E2(div, E2(add, one, E1(tanh, x)), E2(add, one, one)), 1e-14);
	EQUAL(E2(pow, ax, y), E1(exp, E2(mul, y, E1(log, ax))), 1e-12);
	Node *lt = E2(lt, x, y), *le = E2(le, y, x);
	lt->dt = le->dt = DT_BOOL;
	EQUAL(lt, E1(not, le), 0);
	EQUAL(make(b, P_select, DT_F32, INTS(400), none, 3, (Node *[]){lt, x, y}), E2(min, x, y), 0);
	bench_free(b);
}

/* ---- graphs ---- */

/* d/dx sum(sin(x) x^2) = cos(x) x^2 + 2 x sin(x) */
static void
test_numeric_grad(void)
{
	Bench *b = bench_new();
	double x[] = {0.3, -1.2, 2.5};
	Node *n = given(b, DT_F32, INTS(3), x);
	Node *y = make1(b, P_reduce_sum, none, INTS(0), elem2(b, P_mul, elem1(b, P_sin, n), elem2(b, P_mul, n, n)));
	for (int i = 0; i < 3; i++) {
		double at = x[i], want = cos(at) * at * at + 2 * at * sin(at);
		double coarse = interp_numeric_grad(&b->g, &b->env, y, x, i, 0.2) - want;
		double fine = interp_numeric_grad(&b->g, &b->env, y, x, i, 0.1) - want;
		CHECK(fabs(coarse / fine - 16) < 1, "error falls by %g for half the step, not 2^4", coarse / fine);
		CHECK(close_to(interp_numeric_grad(&b->g, &b->env, y, x, i, 1e-3), want, 1e-10), "slope %d", i);
		CHECK(x[i] == at, "x[%d] changed", i);
	}
	bench_free(b);
}

/* Outs may be equal, leaves, or operands of each other; what no out needs is not evaluated (here it would not pass). */
static void
test_outs(void)
{
	Bench *b = bench_new();
	double x[] = {1, 2}, row = 99, *v[4];
	Node *n = given(b, DT_F32, INTS(2), x), *bad = given(b, DT_I32, none, &row);
	make1(b, P_fetch, none, INTS(0), bad);
	Node *twice = elem2(b, P_add, n, n), *four = elem2(b, P_add, twice, twice);
	interp(&b->g, &b->env, (Node *[]){four, n, twice, four}, 4, v);
	for (int i = 0; i < 2; i++)
		CHECK(v[0][i] == 4 * x[i] && v[1][i] == x[i] && v[2][i] == 2 * x[i] && v[3][i] == 4 * x[i], "out %d", i);
	CHECK(v[0] != v[3], "two outs share one array");
	for (int i = 0; i < 4; i++)
		free(v[i]);
	interp(&b->g, NULL, NULL, 0, NULL);
	Node *seven = make(b, P_const, DT_F32, none, none, 0, NULL);
	seven->f = 7;
	interp(&b->g, NULL, &seven, 1, v);
	CHECK(v[0][0] == 7, "a constant without an environment");
	free(v[0]);
	bench_free(b);
}

#if defined __has_feature
#define HAS_ASAN __has_feature(address_sanitizer)
#elif defined __SANITIZE_ADDRESS__
#define HAS_ASAN 1
#else
#define HAS_ASAN 0
#endif

/* A chain of 200 values of 2 MB: only two of them may live at a time. */
static void
test_memory(void)
{
	struct rusage before, after;
	if (HAS_ASAN) { /* it keeps what was freed */
		skipped++;
		return;
	}
	Bench *b = bench_new();
	Node *n = make(b, P_const, DT_F32, INTS(1 << 18), none, 0, NULL);
	for (int i = 0; i < 200; i++)
		n = elem1(b, P_not, n);
	getrusage(RUSAGE_SELF, &before);
	free(eval(b, n));
	getrusage(RUSAGE_SELF, &after);
	CHECK(after.ru_maxrss - before.ru_maxrss < 40000, "%ld kB for a chain", after.ru_maxrss - before.ru_maxrss);
	bench_free(b);
}

/* A graph that breaks a rule ends the process with bug()'s status. */
static void
check_bug(Bench *b, Node *n, int line, const char *what)
{
	int status = 0;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);
		if (null < 0 || dup2(null, 2) < 0)
			_exit(1);
		free(eval(b, n));
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 70, line, "%s: status %x, not a bug", what, status);
}

static void
test_bugs(void)
{
	Bench *b = bench_new();
	double low = -1, high = 5, nan = NAN;
	double *const rows[] = {&low, &high};
	for (size_t i = 0; i < LEN(rows); i++) {
		Node *row = given(b, DT_I32, none, rows[i]);
		check_bug(b, make1(b, P_fetch, none, INTS(0), row), __LINE__, "fetch out of range");
	}
	Node *x = given_random(b, INTS(2, 3)), *y = given_random(b, INTS(2));
	Node *pair[2] = {given_random(b, INTS(0, 2)), given(b, DT_I32, none, &nan)}, *xy[2] = {x, y};
	check_bug(b, make1(b, P_slice, INTS(2, 3), INTS(1, 0, 1, 1), x), __LINE__, "slice out of range");
	check_bug(b, make1(b, P_fold, INTS(3), INTS(0, 2, 2), x), __LINE__, "fold out of range");
	check_bug(b, make(b, P_dot, DT_F32, INTS(2), INTS(0, 1, 1, 0), 2, xy), __LINE__, "dot of two sizes");
	check_bug(b, make(b, P_dot, DT_F32, INTS(2), INTS(0, 1, 0, 2), 2, xy), __LINE__, "dot: result has a label alone");
	check_bug(b, make(b, P_gather, DT_F32, INTS(2), none, 2, pair), __LINE__, "gather from nothing");
	b->input[0] = NULL;
	check_bug(b, b->node[0], __LINE__, "input without values");
	bench_free(b);
}

int
main(void)
{
	test_memory(); /* first: it looks at the peak of the process */
	test_cases();
	test_scan();
	test_round_16(DT_F16, 10, -14, 0x7c00);
	test_round_16(DT_BF16, 7, -126, 0x7f80);
	test_round_f32();
	test_integers();
	test_shuffle();
	test_random();
	test_dot();
	test_adjoints();
	test_views();
	test_elementwise();
	test_numeric_grad();
	test_outs();
	test_bugs();
	printf("%d passed, %d failed", passed, failed);
	if (skipped)
		printf(", %d skipped", skipped);
	putchar('\n');
	return failed != 0;
}
