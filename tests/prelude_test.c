/* The prelude of generated C kernels: errors of its functions against the double ones of libm over floats of every
   exponent, special values, integers, random numbers. With an argument it prints the greatest errors.

   Functions are called in loops over blocks, as kernels do: built with -O3 -fopenmp, what is tested is the vector code. */
#include "../ops/kernels/prelude.c"

#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define LEN(a) (sizeof(a) / sizeof *(a))
#define BLOCK 256
#ifdef _OPENMP
#define SIMD _Pragma("omp simd")
#else
#define SIMD
#endif

static int passed, failed;
static bool verbose;

#define CHECK(c, ...) ((c) ? (void)passed++ : (failed++, printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), (void)puts("")))

static uint64_t state = 1;

static uint32_t
rnd(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

/* ---- errors ---- */

/* |got - want| in units in the last place of a float at want; infinite where one is NaN or has the wrong sign of zero.
   Past the greatest float comes 2^128, which is infinity. */
static double
ulps(float got, double want)
{
	if (isnan(got) || isnan(want))
		return isnan(got) && isnan(want) ? 0 : INFINITY;
	double g = isinf(got) ? copysign(0x1p128, got) : got, w = fabs(want) > 0x1p128 ? copysign(0x1p128, want) : want;
	int e = w == 0 ? -126 : ilogb(w) < -126 ? -126 : ilogb(w) > 127 ? 127 : ilogb(w);
	if (w == 0)
		return got == 0 && !signbit(got) == !signbit(want) ? 0 : INFINITY;
	return got == 0 && !signbit(got) != !signbit(want) ? INFINITY : fabs(g - w) / ldexp(1, e - 23);
}

static double sigmoid(double x) { return x < -700 ? 0 : 1 / (1 + exp(-x)); }

/* Name, bound over all floats; range where more floats are tried. */
#define UNARY(F) \
	F(exp, 2, -104, 89) F(log, 2, 0.25, 4) F(log1p, 4, -1, 4) F(tanh, 2, -10, 10) F(sigmoid, 2, -104, 20) F(erf, 2, -4, 4) \
	F(sqrt, 0.5, 0, 4) F(rsqrt, 1.5, 0, 4) F(floor, 0, -4, 4) F(sin, 4, -1e4, 1e4) F(cos, 4, -1e4, 1e4)

static double rsqrt(double x) { return 1 / sqrt(x); }

#define RUN(f, ...) \
	static void run_##f(float *restrict y, const float *restrict x) \
	{ \
		SIMD for (int i = 0; i < BLOCK; i++) \
			y[i] = mm_##f(x[i]); \
	}
UNARY(RUN)

typedef struct Unary {
	const char *name;
	double bound, lo, hi;
	void (*run)(float *restrict, const float *restrict);
	double (*want)(double);
	double worst;   /* greatest error */
	float at;
} Unary;

#define ROW(f, bound, lo, hi) {#f, bound, lo, hi, run_##f, f, 0, 0},
static Unary unary[] = {UNARY(ROW)};

static bool is_circular(const Unary *u) { return u->want == sin || u->want == cos; }

/* Beyond its range a sine has no more than an absolute error, and is no longer one from 2^40. */
static bool
try_far(const Unary *u, float x, float got)
{
	double far = fabs((double)x);
	if (far >= 0x1p40 || isnan(x))
		return isfinite(x) ? got == (u->want == sin ? 0 : 1) : isnan(got);
	return fabs(got - u->want(x)) <= 0x1.8p-23 + far * 0x1p-52 && fabsf(got) <= 1;
}

static void
try_block(Unary *u, const float *x)
{
	float y[BLOCK];
	u->run(y, x);
	for (int i = 0; i < BLOCK; i++) {
		if (is_circular(u) && !(fabsf(x[i]) <= 1e4f)) {
			if (!try_far(u, x[i], y[i]))
				u->worst = INFINITY, u->at = x[i];
			continue;
		}
		double e = is_circular(u) && fabsf(y[i]) > 1 ? INFINITY : ulps(y[i], u->want(x[i]));
		if (e > u->worst)
			u->worst = e, u->at = x[i];
	}
}

static void
test_unary(Unary *u)
{
	float x[BLOCK];
	for (uint64_t bits = rnd() % 3001; bits <= UINT32_MAX;) { /* every exponent and sign, NaN and infinity */
		for (int i = 0; i < BLOCK; i++, bits += 3001)
			x[i] = mm_float((uint32_t)bits);
		try_block(u, x);
	}
	for (int k = 0; k < 3000; k++) {
		for (int i = 0; i < BLOCK; i++)
			x[i] = (float)(u->lo + (u->hi - u->lo) * (rnd() * 0x1p-32));
		try_block(u, x);
	}
	CHECK(u->worst <= u->bound, "%s(%a) is off by %g ulp", u->name, (double)u->at, u->worst);
	if (verbose)
		printf("%-8s %.3f ulp at %.9g\n", u->name, u->worst, (double)u->at);
}

/* The floats nearest to multiples of pi / 2: where a careless reduction loses every digit. */
static void
test_zeros(void)
{
	double worst = 0, at = 0;
	for (int k = 1; k < 6366; k++)
		for (int s = -1; s <= 1; s++) {
			float x = (float)(k * 0x1.921fb54442d18p0), y = s < 0 ? nextafterf(x, 0) : s > 0 ? nextafterf(x, INFINITY) : x;
			double e = fmax(ulps(mm_sin(y), sin(y)), ulps(mm_cos(-y), cos(-y)));
			if (e > worst)
				worst = e, at = y;
		}
	CHECK(worst <= 4, "sin, cos near %a: off by %g ulp", at, worst);
}

/* No sine is past 1, that of every float near pi / 2 tried. */
static void
test_peak(void)
{
	int past = 0;
	for (uint32_t b = mm_bits(1.2f); b <= mm_bits(1.570797f); b++)
		past += mm_sin_parts(mm_float(b), 0, 0x1.8p52) > 1;
	CHECK(!past, "%d sines are past 1", past);
}

static void
test_pow(void)
{
	double worst = 0, at_x = 0, at_y = 0;
	for (int k = 0; k < 4000; k++) {
		float x[BLOCK], y[BLOCK], z[BLOCK];
		for (int i = 0; i < BLOCK; i++) {
			x[i] = k % 4 ? ldexpf((float)(1 + rnd() * 0x1p-32), k % 4 == 1 ? 0 : (int)(rnd() % 277) - 149) : mm_float(rnd());
			y[i] = (float)((rnd() * 0x1p-32 - 0.5) * 300 / fmax(fabs(log2(fabs((double)x[i]))), 0.01));
			if (k % 8 == 0 || !(fabsf(y[i]) > 0))
				y[i] = k % 16 ? mm_float(rnd()) : (float)((int)(rnd() % 21) - 10);
		}
		SIMD
		for (int i = 0; i < BLOCK; i++)
			z[i] = mm_pow(x[i], y[i]);
		for (int i = 0; i < BLOCK; i++) {
			double e = ulps(z[i], pow(x[i], y[i]));
			if (e > worst)
				worst = e, at_x = x[i], at_y = y[i];
		}
	}
	CHECK(worst <= 1, "pow(%a, %a) is off by %g ulp", at_x, at_y, worst);
	if (verbose)
		printf("%-8s %.3f ulp at %.9g, %.9g\n", "pow", worst, at_x, at_y);
}

/* Powers that are floats come out exactly. */
static void
test_exact_powers(void)
{
	int bad = 0;
	for (int x = -300; x <= 300; x++) {
		double p = 1;
		for (int y = 0; fabs(p) <= 0x1p24 && y < 24; y++, p *= x) {
			bad += mm_pow((float)x, (float)y) != (float)p;
			bad += y && x && mm_pow(1 / (float)x, -(float)y) != 0 && (x & (x - 1)) == 0 && x > 0 && mm_pow(1 / (float)x, -(float)y) != (float)p;
		}
		bad += x >= 0 && mm_pow((float)(x * x), 0.5f) != (float)x;
	}
	CHECK(!bad, "%d exact powers are rounded", bad);
}

/* ---- special values ---- */

static bool
same(float a, float b)
{
	return isnan(a) ? isnan(b) : a == b && !signbit(a) == !signbit(b);
}

static void
test_special(void)
{
	const float inf = INFINITY, nan = NAN, tiny = 0x1p-149f;
	const struct {
		const char *what;
		float got, want;
	} t[] = {
#define IS(call, want) {#call, call, want}
		IS(mm_exp(nan), nan), IS(mm_exp(inf), inf), IS(mm_exp(-inf), 0), IS(mm_exp(0.0f), 1), IS(mm_exp(-0.0f), 1),
		IS(mm_exp(88.8f), inf), IS(mm_exp(-103.2f), tiny), IS(mm_exp(-104.0f), 0), IS(mm_exp(1e30f), inf),
		IS(mm_log(nan), nan), IS(mm_log(inf), inf), IS(mm_log(0.0f), -inf), IS(mm_log(-0.0f), -inf), IS(mm_log(-1.0f), nan),
		IS(mm_log(-tiny), nan), IS(mm_log(-inf), nan), IS(mm_log(1.0f), 0), IS(mm_log(tiny), -0x1.9d1dap6f),
		IS(mm_log1p(nan), nan), IS(mm_log1p(inf), inf), IS(mm_log1p(-1.0f), -inf), IS(mm_log1p(-1.5f), nan),
		IS(mm_log1p(-inf), nan), IS(mm_log1p(0.0f), 0), IS(mm_log1p(-0.0f), -0.0f), IS(mm_log1p(-tiny), -tiny),
		IS(mm_tanh(nan), nan), IS(mm_tanh(inf), 1), IS(mm_tanh(-inf), -1), IS(mm_tanh(-0.0f), -0.0f), IS(mm_tanh(tiny), tiny),
		IS(mm_sigmoid(nan), nan), IS(mm_sigmoid(inf), 1), IS(mm_sigmoid(-inf), 0), IS(mm_sigmoid(0.0f), 0.5f),
		IS(mm_sigmoid(-103.2f), tiny), IS(mm_erf(nan), nan), IS(mm_erf(inf), 1), IS(mm_erf(-inf), -1), IS(mm_erf(-0.0f), -0.0f),
		IS(mm_erf(tiny), tiny), IS(mm_sin(nan), nan), IS(mm_sin(inf), nan), IS(mm_sin(-0.0f), -0.0f), IS(mm_sin(-tiny), -tiny),
		IS(mm_cos(nan), nan), IS(mm_cos(-inf), nan), IS(mm_cos(0.0f), 1), IS(mm_sqrt(-1.0f), nan), IS(mm_sqrt(-0.0f), -0.0f),
		IS(mm_rsqrt(0.0f), inf), IS(mm_rsqrt(inf), 0), IS(mm_rsqrt(4.0f), 0.5f), IS(mm_floor(-0.5f), -1), IS(mm_floor(-0.0f), -0.0f),
		IS(mm_pow(nan, 0.0f), 1), IS(mm_pow(0.0f, 0.0f), 1), IS(mm_pow(inf, -0.0f), 1), IS(mm_pow(1.0f, nan), 1),
		IS(mm_pow(1.0f, inf), 1), IS(mm_pow(-1.0f, inf), 1), IS(mm_pow(-1.0f, -inf), 1), IS(mm_pow(-1.0f, nan), nan),
		IS(mm_pow(nan, 1.0f), nan), IS(mm_pow(2.0f, nan), nan), IS(mm_pow(0.0f, 3.0f), 0), IS(mm_pow(-0.0f, 3.0f), -0.0f),
		IS(mm_pow(-0.0f, 2.0f), 0), IS(mm_pow(0.0f, 0.5f), 0), IS(mm_pow(-0.0f, 0.5f), 0), IS(mm_pow(0.0f, -2.0f), inf),
		IS(mm_pow(-0.0f, -3.0f), -inf), IS(mm_pow(-0.0f, -2.5f), inf), IS(mm_pow(-0.0f, -inf), inf), IS(mm_pow(-8.0f, 0.5f), nan),
		IS(mm_pow(-2.0f, 3.0f), -8), IS(mm_pow(-2.0f, -2.0f), 0.25f), IS(mm_pow(-2.0f, 16777216.0f), inf),
		IS(mm_pow(-0.5f, 16777215.0f), -0.0f), IS(mm_pow(inf, 0.1f), inf), IS(mm_pow(inf, -0.1f), 0), IS(mm_pow(-inf, 3.0f), -inf),
		IS(mm_pow(-inf, 2.5f), inf), IS(mm_pow(-inf, -3.0f), -0.0f), IS(mm_pow(2.0f, inf), inf), IS(mm_pow(0.5f, inf), 0),
		IS(mm_pow(-0.5f, -inf), inf), IS(mm_pow(2.0f, 127.0f), 0x1p127f), IS(mm_pow(2.0f, -149.0f), tiny), IS(mm_pow(tiny, 0.5f), 0x1.6a09e6p-75f),
		IS(mm_abs(-0.0f), 0), IS(mm_abs(nan), nan), IS(mm_abs(-inf), inf), IS(mm_sign(nan), 0), IS(mm_sign(-inf), -1), IS(mm_sign(tiny), 1),
		IS(mm_max(nan, 1.0f), nan), IS(mm_max(1.0f, nan), nan), IS(mm_max(-inf, 1.0f), 1), IS(mm_max(0.0f, -0.0f), -0.0f),
		IS(mm_min(nan, 1.0f), nan), IS(mm_min(1.0f, nan), nan), IS(mm_min(inf, 1.0f), 1), IS(mm_min(-0.0f, 0.0f), 0),
#undef IS
	};
	for (size_t i = 0; i < LEN(t); i++)
		CHECK(same(t[i].got, t[i].want), "%s is %.9g, not %.9g", t[i].what, (double)t[i].got, (double)t[i].want);
}

/* ---- integers ---- */

static void
test_integers(void)
{
	const int32_t low = INT32_MIN, high = INT32_MAX;
	const uint8_t flag = 1;
	CHECK(mm_abs(-7) == 7 && mm_abs(low) == low && mm_abs(16777217) == 16777217 && mm_abs(UINT32_MAX) == UINT32_MAX, "abs");
	CHECK(mm_sign(low) == -1 && mm_sign(0) == 0 && mm_sign(high) == 1 && mm_sign(UINT32_MAX) == 1 && mm_sign(flag) == 1, "sign");
	CHECK(mm_max(low, high) == high && mm_max(16777217, 16777216) == 16777217 && mm_max(1u, UINT32_MAX) == UINT32_MAX, "max");
	CHECK(mm_min(low, high) == low && mm_min(-1, 1) == -1 && mm_min(1u, UINT32_MAX) == 1 && mm_min(flag, flag) == 1, "min");
	CHECK(mm_pow(7, 11) == 1977326743 && mm_pow(-3, 3) == -27 && mm_pow(0, 0) == 1 && mm_pow(3u, 20u) == 3486784401u, "pow");
	CHECK(mm_pow(2, -1) == 0 && mm_pow(-1, -3) == -1 && mm_pow(1, low) == 1 && mm_pow(0, -1) == 0 && mm_pow(2, 32) == 0, "pow");
	CHECK(mm_id(-1, 9) == 0 && mm_id(10, 9) == 9 && mm_id(5, 9) == 5 && mm_id(low, 0) == 0, "id");
	CHECK(mm_idiv(7, -2) == -3 && mm_idiv(-7, 2) == -3 && mm_idiv(1, 0) == 0 && mm_idiv(low, -1) == low, "idiv");
	CHECK(mm_imod(7, -2) == 1 && mm_imod(-7, 2) == -1 && mm_imod(1, 0) == 0 && mm_imod(low, -1) == 0, "imod");
}

static void
test_maximum(void)
{
	for (int at = -1; at < BLOCK; at++) {
		float x[BLOCK], v = -INFINITY;
		for (int i = 0; i < BLOCK; i++)
			x[i] = i == at ? NAN : (float)(i * 37 % BLOCK);
#if defined(_OPENMP) && !defined(__clang__) /* clang has it, but does not vectorise it, and says so */
#pragma omp simd reduction(mm_max : v)
#endif
		for (int i = 0; i < BLOCK; i++)
			v = mm_max(x[i], v);
		CHECK(same(v, at < 0 ? BLOCK - 1 : NAN), "maximum with NaN at %d is %g", at, (double)v);
	}
}

/* ---- the interpreter's cases ---- */

static float case_abs(float a, float b) { (void)b; return mm_abs(a); }
static float case_sign(float a, float b) { (void)b; return mm_sign(a); }
static float case_pow(float a, float b) { return mm_pow(a, b); }
static float case_max(float a, float b) { return mm_max(a, b); }
static float case_min(float a, float b) { return mm_min(a, b); }
#define ONE(f, ...) static float case_##f(float a, float b) { (void)b; return mm_##f(a); }
UNARY(ONE)

/* Numbers after the colon, up to the bar; v is padded with the last. */
static const char *
read_operand(const char *s, double *v, int *n)
{
	const char *bar = strchr(s, '|'), *colon = strchr(s, ':');
	char *end;
	s = colon && (!bar || colon < bar) ? colon + 1 : s;
	for (*n = 0; *n < 16; (*n)++, s = end) {
		v[*n] = strtod(s, &end);
		if (end == s)
			break;
	}
	return bar ? bar + 1 : NULL;
}

static void
test_cases(void)
{
	static const struct {
		const char *prim, *type, *in, *out;
	} row[] = {
#define C(prim, type, at, in, out) {#prim, type, in, out},
#include "interp_cases.def"
#undef C
	};
	static const struct {
		const char *name;
		float (*f)(float, float);
	} fn[] = {
#define FN(f, ...) {#f, case_##f},
		UNARY(FN) FN(abs, 0) FN(sign, 0) FN(pow, 0) FN(max, 0) FN(min, 0)
	};
	int shuffles = 0, floats = 0;
	for (size_t r = 0; r < LEN(row); r++) {
		double v[3][16] = {{0}}, want[16];
		int n, count = 0;
		for (const char *s = row[r].in; s && count < 3; count++)
			s = read_operand(s, v[count], &n);
		read_operand(row[r].out, want, &n);
		for (int i = 0; !strcmp(row[r].prim, "shuffle") && i < n; i++, shuffles++) {
			uint32_t a = (uint32_t)(int64_t)v[0][i], b = (uint32_t)(int64_t)v[1][i], key = (uint32_t)(int64_t)v[2][i];
			CHECK((uint32_t)mm_shuffle(a, b, key) == (uint32_t)want[i], "shuffle(%u, %u, %u) is %u", a, b, key, (uint32_t)mm_shuffle(a, b, key));
		}
		for (size_t k = 0; k < LEN(fn) && !strncmp(row[r].type, "f32", 3); k++)
			for (int i = 0; !strcmp(fn[k].name, row[r].prim) && i < n; i++, floats++)
				CHECK(ulps(fn[k].f((float)v[0][i], (float)v[1][i]) + 0.0f, want[i] + 0.0) <= 2, "%s of %s: element %d", row[r].prim, row[r].in, i);
	}
	CHECK(shuffles > 20 && floats > 50, "only %d and %d cases found", shuffles, floats);
}

/* ---- matrix products ---- */

enum { MOST_ROWS = 31, MOST_COLUMNS = 70, MOST_PLACES = 37 };

/* Small integers: sums are exact in any order. */
static void
fill(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = (float)(rnd() % 17) - 8;
}

static int
wrong(int rows, int columns, int places, const float *a, int64_t ars, int64_t acs, const float *b, int64_t bs, const float *c, int64_t cs, float before)
{
	int bad = 0;
	for (int r = 0; r < rows; r++)
		for (int n = 0; n < columns; n++) {
			float sum = before;
			for (int k = 0; k < places; k++)
				sum += a[r * ars + k * acs] * b[k * bs + n];
			bad += c[r * cs + n] != sum;
		}
	return bad;
}

/* All numbers of rows, one panel or many columns, the first operand either way round, from zero or from what is there. */
static void
test_products(void)
{
	static float a[MOST_ROWS * MOST_PLACES], b[MOST_PLACES * MOST_COLUMNS], c[MOST_ROWS * MOST_COLUMNS];
	fill(a, LEN(a));
	fill(b, LEN(b));
	for (int rows = 1; rows <= MOST_ROWS; rows++)
		for (int way = 0; way < 8; way++) {
			const int turned = way & 1, add = way >> 1 & 1, vectors = 1 + (way >> 2), places = 1 + (rows * 5 + way) % MOST_PLACES;
			const int64_t ars = turned ? 1 : MOST_PLACES, acs = turned ? MOST_ROWS : 1;
			for (size_t i = 0; i < LEN(c); i++)
				c[i] = 3;
			mm_product(rows, rows, rows, vectors, places, a, ars, acs, b, MOST_COLUMNS, c, MOST_COLUMNS, add);
			CHECK(!wrong(rows, vectors * MM_LANES, places, a, ars, acs, b, MOST_COLUMNS, c, MOST_COLUMNS, add ? 3 : 0), "%d rows, way %d", rows, way);
			CHECK(c[vectors * MM_LANES] == 3, "%d rows, way %d: a store behind the panel", rows, way);
		}
	for (int columns = 1; columns <= MOST_COLUMNS; columns++) {
		const int rows = 1 + columns % 5, add = columns % 2, places = 1 + columns % MOST_PLACES;
		for (size_t i = 0; i < LEN(c); i++)
			c[i] = 3;
		mm_lines(rows, places, a, MOST_PLACES, 1, b, MOST_COLUMNS, columns, c, MOST_COLUMNS, add);
		CHECK(!wrong(rows, columns, places, a, MOST_PLACES, 1, b, MOST_COLUMNS, c, MOST_COLUMNS, add ? 3 : 0), "%d columns line by line", columns);
		CHECK(columns == MOST_COLUMNS || c[columns] == 3, "%d columns line by line: a store behind them", columns);
	}
}

static void
test_turn(void)
{
	static float from[MOST_COLUMNS * MOST_PLACES], to[MOST_PLACES * MOST_COLUMNS];
	fill(from, LEN(from));
	for (int lines = 1; lines < MOST_COLUMNS; lines++) {
		const int places = 1 + lines * 7 % MOST_PLACES;
		int bad = 0;
		for (size_t i = 0; i < LEN(to); i++)
			to[i] = 99;
		mm_turn(to, MOST_COLUMNS, from, MOST_PLACES, lines, places);
		for (int k = 0; k < MOST_PLACES; k++)
			for (int j = 0; j < MOST_COLUMNS; j++)
				bad += to[k * MOST_COLUMNS + j] != (k < places && j < lines ? from[j * MOST_PLACES + k] : 99);
		CHECK(!bad, "%d lines of %d places turned: %d wrong", lines, places, bad);
	}
}

/* ---- random numbers ---- */

/* Philox-2x32-10 from the paper's figure, with 16-bit limbs in place of a 64-bit product: a word, the low one first. */
static uint32_t
philox_by_hand(uint32_t lo, uint32_t hi, uint32_t key, bool second)
{
	const uint32_t mh = 0xD256, ml = 0xD193;
	for (uint32_t round = 0; round < 10; round++) {
		uint32_t h = lo >> 16, l = lo & 0xffff, mid = ml * h + (ml * l >> 16), mid2 = mh * l + (mid & 0xffff);
		lo = (mh * h + (mid >> 16) + (mid2 >> 16)) ^ (key + round * 0x9E3779B9u) ^ hi;
		hi = mid2 << 16 | (ml * l & 0xffff);
	}
	return second ? hi : lo;
}

static void
test_random(void)
{
	/* counter low, high, key, result's words: file kat_vectors of the Random123 distribution (philox2x32 10) */
	static const uint32_t known[][5] = {
		{0, 0, 0, 0xff1dae59, 0x6cd10df2}, {0xffffffff, 0xffffffff, 0xffffffff, 0x2c3f628b, 0xab4fd7ad}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0xdd7ce038, 0xf62a4c12}};
	for (size_t i = 0; i < LEN(known); i++)
		for (uint32_t w = 0; w < 2; w++) {
			const uint32_t *k = known[i];
			CHECK(philox_by_hand(k[0], k[1], k[2], w) == k[3 + w], "known answer %zu", i);
			CHECK(k[0] >> 31 || mm_random(k[2] ^ 0x7F4A7C15u, k[1], 0, 2 * k[0] + w) == (float)(k[3 + w] >> 8) * 0x1p-24f, "known answer %zu", i);
		}
	for (int t = 0; t < 100; t++) {
		const uint32_t seed = rnd(), step = rnd(), site = t % 2 ? rnd() : 3, first = t % 3 ? rnd() : 0;
		float x[BLOCK], sum = 0;
		int bad = 0;
		SIMD
		for (int i = 0; i < BLOCK; i++)
			x[i] = mm_random(seed, step, site, first + (uint32_t)i);
		for (uint32_t i = 0; i < BLOCK; i++) {
			uint32_t at = first + i, w = philox_by_hand(at / 2, step, seed ^ (site * 0x9E3779B9u + 0x7F4A7C15u), at % 2);
			bad += x[i] != (float)(w >> 8) * 0x1p-24f || x[i] < 0 || x[i] >= 1;
			sum += x[i];
		}
		CHECK(!bad && fabsf(sum / BLOCK - 0.5f) < 0.12f, "random(%u, %u, %u): %d wrong, mean %g", seed, step, site, bad, (double)sum / BLOCK);
	}
}

static void
test_shuffle(void)
{
	static const uint32_t keys[] = {0, 1, 7, 0xffffffff, 0x9E3779B9, 123456789};
	for (uint32_t n = 1; n <= 5000; n += n < 300 ? 1 : 933)
		for (size_t k = 0; k < LEN(keys); k++) {
			bool hit[5000] = {0};
			uint32_t distinct = 0, moved = 0;
			for (uint32_t i = 0; i < n; i++) {
				int x = mm_shuffle(i, n, keys[k]);
				if (x >= 0 && x < (int)n && !hit[x])
					distinct++, hit[x] = true;
				moved += x != (int)i;
			}
			CHECK(distinct == n && (n < 20 || moved > n / 2), "shuffle of %u, key %u: %u distinct, %u moved", n, keys[k], distinct, moved);
		}
}

int
main(int argc, char **argv)
{
	(void)argv;
	verbose = argc > 1;
	for (size_t i = 0; i < LEN(unary); i++)
		test_unary(&unary[i]);
	test_zeros();
	test_peak();
	test_pow();
	test_exact_powers();
	test_special();
	test_integers();
	test_maximum();
	test_cases();
	test_products();
	test_turn();
	test_random();
	test_shuffle();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
