/* What generated C kernels call: inline functions without branches or calls, so that loops over them vectorise.

   exp, log, tanh, .. reduce their argument to a short interval and evaluate a polynomial there, whose coefficients
   tests/prelude/fit.py derives (Remez exchange). No -ffast-math: NaN in, NaN out; infinities and signed zeros as in C17's
   annex F; results below the normal floats are subnormal. FMA makes them faster; nothing relies on it.

   Greatest error found in 64 million floats of all exponents and 15 million more of the useful range, in units in the
   last place (tests/prelude_test.c holds looser bounds):
     exp 0.9  log 0.9  log1p 1.6  tanh 1.2  sigmoid 1.7  erf 1.4  pow 0.6
     sin, cos 2.0 for |x| <= 1e4; beyond, 2^-22 + |x| 2^-52 absolutely, and from 2^40 they take x for 0 */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* No trap is ever looked for, so both arms of ?: may be computed: else gcc makes it a branch, and the loop around it
   stays scalar. It changes no value. The kernels that follow have it too. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

/* A call that is left in a loop keeps it scalar. */
#define MM_INLINE static inline __attribute__((always_inline))

/* ---- bits ---- */

MM_INLINE uint32_t
mm_bits(float x)
{
	uint32_t i;
	memcpy(&i, &x, sizeof i);
	return i;
}

MM_INLINE float
mm_float(uint32_t i)
{
	float x;
	memcpy(&x, &i, sizeof x);
	return x;
}

MM_INLINE uint64_t
mm_bits64(double x)
{
	uint64_t i;
	memcpy(&i, &x, sizeof i);
	return i;
}

MM_INLINE double
mm_double(uint64_t i)
{
	double x;
	memcpy(&x, &i, sizeof x);
	return x;
}

/* a b + c, rounded once where the CPU can. Kernels themselves are not contracted: a value that two kernels compute, or one kernel
   twice, must be the same each time, as the gradient of a maximum looks for the equal element. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
MM_INLINE float mm_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
MM_INLINE double mm_fma64(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
MM_INLINE float mm_fma(float a, float b, float c) { return a * b + c; }
MM_INLINE double mm_fma64(double a, double b, double c) { return a * b + c; }
#endif

/* 2^n for n in [-126, 127]. */
MM_INLINE float mm_power(int32_t n) { return mm_float((uint32_t)(n + 127) << 23); }
/* x * 2^n of a normal x, the result being normal as well. */
MM_INLINE float mm_scale(float x, int32_t n) { return mm_float(mm_bits(x) + ((uint32_t)n << 23)); }
/* c ? a : b of a c that is 0 or 1, without a branch. */
MM_INLINE float mm_choose(int c, float a, float b) { return mm_float((mm_bits(a) & -(uint32_t)c) | (mm_bits(b) & ~-(uint32_t)c)); }
/* |x| with the sign of s. */
MM_INLINE float mm_signed(float x, float s) { return mm_float((mm_bits(x) & 0x7fffffffu) | (mm_bits(s) & 0x80000000u)); }

/* ---- exp, tanh, sigmoid ---- */

/* e^x = 2^n (1 + g), g in [-0.3, 0.42]: x = n ln2 + r, |r| <= ln2 / 2; ln2 in two parts, n times the first being exact.
   Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits. |x| < 2^15, or NaN: then so is g. */
MM_INLINE float
mm_exp_parts(float x, int32_t *n)
{
	const float magic = 0x1.8p23f, t = x * 0x1.715476p+0f + magic, k = t - magic;
	const float h = x - k * 0x1.62e4p-1f, l = k * 0x1.7f7d1cp-20f, r = h - l; /* h is exact, r rounded */
	float q = 0x1.6a4e74p-10f;
	q = mm_fma(q, r, 0x1.12398p-7f);
	q = mm_fma(q, r, 0x1.5558aep-5f);
	q = mm_fma(q, r, 0x1.555492p-3f);
	q = mm_fma(q, r, 0x1.fffffcp-2f);
	*n = (int32_t)(mm_bits(t) - 0x4b400000u);
	return (q * (r * r) - l) + h;
}

/* Beyond the clamp the result is 0 or infinity. 2^n in two factors: n is in [-150, 128]. */
MM_INLINE float
mm_exp(float x)
{
	int32_t n;
	x = x < -104.0f ? -104.0f : x;
	x = x > 89.0f ? 89.0f : x;
	const float g = mm_exp_parts(x, &n);
	return (1.0f + g) * mm_power(n >> 1) * mm_power(n - (n >> 1));
}

/* Of |x|: near zero an odd polynomial, else 1 - 2 / (1 + e^2x). */
MM_INLINE float
mm_tanh(float x)
{
	int32_t n;
	const float a = fabsf(x), b = a > 10.0f ? 10.0f : a, s = b * b;
	float q = -0x1.750ce2p-8f;
	q = mm_fma(q, s, 0x1.51f8cep-6f);
	q = mm_fma(q, s, -0x1.b835a4p-5f);
	q = mm_fma(q, s, 0x1.1106f6p-3f);
	q = mm_fma(q, s, -0x1.555532p-2f);
	const float g = mm_exp_parts(2.0f * b, &n), two = mm_power(n), far = 1.0f - 2.0f / (two * g + (two + 1.0f));
	return mm_signed(a < 0.625f ? q * s * b + b : far, x);
}

/* 1 / (1 + e^-x) = u / (u + v (1 + g)), v / u = 2^n, n in [-128, 150]; c is what u + v loses for great n. */
MM_INLINE float
mm_sigmoid(float x)
{
	int32_t n;
	x = x < -104.0f ? -104.0f : x;
	x = x > 89.0f ? 89.0f : x;
	const float g = mm_exp_parts(-x, &n), u = mm_power(-(n >> 1)), v = mm_power(n - (n >> 1));
	const float w = v + u, c = (v - w) + u;
	return u / ((v * g + c) + w);
}

/* ---- log, log1p ---- */

/* n such that x / 2^n is in [sqrt(1/2), sqrt(2)), of a positive normal x. */
MM_INLINE int32_t mm_exponent(float x) { return (int32_t)(mm_bits(x) - 0x3f3504f3u) >> 23; }

/* n ln2 + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1]. */
MM_INLINE float
mm_log_parts(int32_t n, float f)
{
	const float k = (float)n, s = f * f;
	float q = -0x1.38c91p-4f;
	q = mm_fma(q, f, 0x1.055e62p-3f);
	q = mm_fma(q, f, -0x1.0d8232p-3f);
	q = mm_fma(q, f, 0x1.22d936p-3f);
	q = mm_fma(q, f, -0x1.54728cp-3f);
	q = mm_fma(q, f, 0x1.99a01cp-3f);
	q = mm_fma(q, f, -0x1.000226p-2f);
	q = mm_fma(q, f, 0x1.555554p-2f);
	return k * 0x1.62e4p-1f + (f + (s * (q * f - 0.5f) + k * 0x1.7f7d1cp-20f));
}

/* x = m * 2^n, m in [sqrt(1/2), sqrt(2)), of a positive x, which may be subnormal. */
MM_INLINE float
mm_split(float x, int32_t *n)
{
	const int small = x < 0x1p-126f;
	const float y = small ? x * 0x1p25f : x;
	const int32_t k = mm_exponent(y);
	*n = k - (small ? 25 : 0);
	return mm_scale(y, -k);
}

MM_INLINE float
mm_log(float x)
{
	int32_t n;
	const float m = mm_split(x, &n), r = mm_log_parts(n, m - 1.0f);
	const float at_end = x < 0 ? NAN : x == 0 ? -INFINITY : x;
	return x > 0 && x < INFINITY ? r : at_end;
}

/* 1 + x = 2^n (1 + f), f = x / 2^n + (2^-n - 1): both terms are exact where they nearly cancel. 2^-n as half of
   2^(1-n), for n may be 128. */
MM_INLINE float
mm_log1p(float x)
{
	const int32_t n = mm_exponent(1.0f + x);
	const float f = mm_scale(x, -n) + (0.5f * mm_float((uint32_t)(128 - n) << 23) - 1.0f), r = mm_log_parts(n, f);
	const float at_end = x < -1.0f ? NAN : x == -1.0f ? -INFINITY : x; /* and -0 */
	return x > -1.0f && x < INFINITY && x != 0 ? r : at_end;
}

/* ---- erf ---- */

/* Of |x|: up to 1 an odd polynomial, else 1 - e^t, t a polynomial near log(erfc(x)). */
MM_INLINE float
mm_erf(float x)
{
	int32_t n;
	const float a = fabsf(x), b = a > 4.0f ? 4.0f : a, s = b * b;
	float q = 0x1.4771fep-14f;
	q = mm_fma(q, s, -0x1.a3515ep-11f);
	q = mm_fma(q, s, 0x1.53f224p-8f);
	q = mm_fma(q, s, -0x1.b7f71ap-6f);
	q = mm_fma(q, s, 0x1.ce2ce6p-4f);
	q = mm_fma(q, s, -0x1.81273ep-2f);
	q = mm_fma(q, s, 0x1.06eba8p-3f);
	float t = -0x1.6bf166p-16f;
	t = mm_fma(t, b, 0x1.cede98p-12f);
	t = mm_fma(t, b, -0x1.139608p-8f);
	t = mm_fma(t, b, 0x1.9d0a5cp-6f);
	t = mm_fma(t, b, -0x1.bc1868p-4f);
	t = mm_fma(t, b, -0x1.4434f8p-1f);
	t = mm_fma(t, b, -0x1.212c2cp+0f);
	t = mm_fma(t, b, 0x1.8b3efap-13f);
	const float g = mm_exp_parts(t, &n), p = mm_power(n), far = (1.0f - p) - p * g;
	return mm_signed(a < 1.0f ? q * b + b : far, x);
}

/* ---- sin, cos ---- */

/* sin(x - k pi) (-1)^n of |x - k pi| <= pi / 2, where t = n + 1.5 * 2^52. The difference is exact enough for the
   floats nearest to a zero; pi in two parts, k times the first being exact for |k| < 2^20. Never past 1. */
MM_INLINE float
mm_sin_parts(double x, double k, double t)
{
	const float r = (float)((x - k * 0x1.921fb544p+1) - k * 0x1.0b4611a626331p-33), s = r * r;
	float q = -0x1.b88f84p-26f;
	q = mm_fma(q, s, 0x1.72e718p-19f);
	q = mm_fma(q, s, -0x1.a024ap-13f);
	q = mm_fma(q, s, 0x1.111138p-7f);
	q = mm_fma(q, s, -0x1.555556p-3f);
	return mm_float(mm_bits(q * s * r + r) ^ (uint32_t)mm_bits64(t) << 31);
}

/* Beyond 2^40, where neighbouring floats are thousands of turns apart, as if x were 0. Infinity gives NaN. */
MM_INLINE float mm_angle(float x) { return fabsf(x) < 0x1p40f ? x : x - x; }

MM_INLINE float
mm_sin(float x)
{
	const double magic = 0x1.8p52, d = mm_angle(x), t = d * 0x1.45f306dc9c883p-2 + magic;
	return x == 0 ? x : mm_sin_parts(d, t - magic, t); /* -0 */
}

/* sin(x + pi / 2) */
MM_INLINE float
mm_cos(float x)
{
	const double magic = 0x1.8p52, d = mm_angle(x), t = (d * 0x1.45f306dc9c883p-2 + 0.5) + magic;
	return mm_sin_parts(d, t - magic - 0.5, t);
}

/* ---- pow ---- */

/* 2^(y log2|x|) in double, so that an exact power is exact and the result is rounded once; of negative x the sign is
   that of (-1)^y. */
MM_INLINE float
mm_powf(float x, float y)
{
	int32_t n;
	const double magic = 0x1.8p52, f = (double)mm_split(fabsf(x), &n) - 1.0;
	double q = 0x1.3ce851e720fdap-4;
	q = mm_fma64(q, f, -0x1.2488b61512c51p-3);
	q = mm_fma64(q, f, 0x1.2871d51b49abep-3);
	q = mm_fma64(q, f, -0x1.252f41716ee19p-3);
	q = mm_fma64(q, f, 0x1.45291dc2ab689p-3);
	q = mm_fma64(q, f, -0x1.7141708aba07p-3);
	q = mm_fma64(q, f, 0x1.a63f4402cbf42p-3);
	q = mm_fma64(q, f, -0x1.ec72b593ea2aep-3);
	q = mm_fma64(q, f, 0x1.277651fdc6803p-2);
	q = mm_fma64(q, f, -0x1.71547097b2af8p-2);
	q = mm_fma64(q, f, 0x1.ec709ebb8f835p-2);
	q = mm_fma64(q, f, -0x1.715476565d20cp-1);
	q = mm_fma64(q, f, 0x1.71547652a1ea1p+0);
	const double log2x = x == 0 ? -INFINITY : fabsf(x) < INFINITY ? q * f + n : fabsf(x);
	double p = y * log2x;
	p = p < -160 ? -160 : p;
	p = p > 130 ? 130 : p;
	const double t = p + magic, r = p - (t - magic);
	double e = 0x1.fe1776de588f5p-17;
	e = mm_fma64(e, r, 0x1.446a1fa06f973p-13);
	e = mm_fma64(e, r, 0x1.5d8a7093103f5p-10);
	e = mm_fma64(e, r, 0x1.3b29dc41270f4p-7);
	e = mm_fma64(e, r, 0x1.c6b08aaf2534bp-5);
	e = mm_fma64(e, r, 0x1.ebfbe0a4be122p-3);
	e = mm_fma64(e, r, 0x1.62e42ff1162dp-1);
	e = mm_fma64(e, r, 0x1.ffffffffabbd5p-1);
	const float a = (float)mm_double(mm_bits64(e) + (mm_bits64(t) << 52));
	const int whole = floorf(y) == y, odd = whole & (floorf(0.5f * y) != 0.5f * y);
	const float b = odd ? mm_signed(a, x) : a, c = x < 0 && x > -INFINITY && !whole ? NAN : b;
	return y == 0 || x == 1 || (x == -1 && fabsf(y) == INFINITY) ? 1.0f : c;
}

/* Modulo 2^32. */
static inline uint32_t
mm_powu(uint32_t x, uint32_t y)
{
	uint32_t r = 1;
	for (; y; y >>= 1, x *= x)
		r *= y & 1 ? x : 1;
	return r;
}

/* 1 / x^-y, truncated, for negative y. */
static inline int32_t
mm_powi(int32_t x, int32_t y)
{
	return y >= 0 || x == 1 || x == -1 ? (int32_t)mm_powu((uint32_t)x, (uint32_t)y) : 0;
}

/* ---- of float, int32_t and uint32_t alike ---- */

#define MM_TYPE(x, name) _Generic(x, float: name##f, int32_t: name##i, uint32_t: name##u)
#define mm_abs(x) MM_TYPE(+(x), mm_abs)(x)
#define mm_sign(x) MM_TYPE(+(x), mm_sign)(x)
#define mm_max(a, b) MM_TYPE((a) + (b), mm_max)(a, b) /* NaN wins */
#define mm_min(a, b) MM_TYPE((a) + (b), mm_min)(a, b)
#define mm_pow(x, y) MM_TYPE((x) + (y), mm_pow)(x, y)

MM_INLINE float mm_absf(float x) { return fabsf(x); }
MM_INLINE int32_t mm_absi(int32_t x) { return (int32_t)(x < 0 ? 0u - (uint32_t)x : (uint32_t)x); }
MM_INLINE uint32_t mm_absu(uint32_t x) { return x; }

MM_INLINE float mm_signf(float x) { return (float)(x > 0) - (float)(x < 0); }
MM_INLINE int32_t mm_signi(int32_t x) { return (x > 0) - (x < 0); }
MM_INLINE uint32_t mm_signu(uint32_t x) { return x > 0; }

/* The inner choice is an instruction that gives b if either is NaN. */
MM_INLINE float mm_maxf(float a, float b) { const float m = a > b ? a : b; return a != a ? a : m; }
MM_INLINE int32_t mm_maxi(int32_t a, int32_t b) { return a > b ? a : b; }
MM_INLINE uint32_t mm_maxu(uint32_t a, uint32_t b) { return a > b ? a : b; }

MM_INLINE float mm_minf(float a, float b) { const float m = a < b ? a : b; return a != a ? a : m; }
MM_INLINE int32_t mm_mini(int32_t a, int32_t b) { return a < b ? a : b; }
MM_INLINE uint32_t mm_minu(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* reduction(mm_max:v): what reduction(max:v) is not, for it may lose NaN. */
#if defined(_OPENMP) || defined(MM_SIMD)
#pragma omp declare reduction(mm_max : float, int32_t, uint32_t : omp_out = mm_max(omp_in, omp_out)) initializer(omp_priv = omp_orig)
#endif

/* ---- one instruction each, or so ---- */

MM_INLINE float mm_sqrt(float x) { return sqrtf(x); }
MM_INLINE float mm_rsqrt(float x) { return 1.0f / sqrtf(x); }
MM_INLINE float mm_floor(float x) { return floorf(x); }

MM_INLINE int mm_id(int i, int last) { return i < 0 ? 0 : i > last ? last : i; }
#ifdef __GNUC__
MM_INLINE int mm_hide(int i) { __asm__("" : "+r"(i)); return i; } /* a loop around it is not vectorised */
#else
MM_INLINE int mm_hide(int i) { return i; }
#endif
MM_INLINE int mm_idiv(int a, int b) { return b == 0 ? 0 : b == -1 ? (int)(0u - (uint32_t)a) : a / b; }
MM_INLINE int mm_imod(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }

/* ---- random numbers ---- */

/* How a 32-bit word is held in Philox: gcc has no good product of 32-bit lanes into 64-bit ones, but multiplies 64-bit
   lanes where the CPU does; clang sees that their high halves are zero. */
#if defined(__AVX512DQ__) || defined(__clang__)
typedef uint64_t MmWord;
#else
typedef uint32_t MmWord;
#endif

/* Philox-2x32-10 (Salmon et al. 2011), counter (element / 2, step), whose words are two elements: uniform in [0, 1). */
MM_INLINE float
mm_random(uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	uint32_t key = seed ^ (site * 0x9E3779B9u + 0x7F4A7C15u);
	MmWord lo = i >> 1, hi = step;
	for (int r = 0; r < 10; r++) {
		uint64_t p = (uint64_t)0xD256D193u * lo;
		lo = (MmWord)(p >> 32) ^ key ^ hi;
		hi = (uint32_t)p;
		key += 0x9E3779B9u;
	}
	lo = i & 1 ? hi : lo;
	return (float)(int32_t)(lo >> 8) * 0x1p-24f; /* signed: a conversion that every instruction set has */
}

/* A keyed bijection on [0, n): six Feistel rounds on the next even number of bits, walked until inside. */
static inline int
mm_shuffle(uint32_t i, uint32_t n, uint32_t key)
{
	uint32_t half = 1;
	if (n <= 1)
		return 0;
	while ((uint64_t)1 << 2 * half < n)
		half++;
	uint32_t mask = (1u << half) - 1, x = i % n;
	do {
		uint32_t l = x >> half, r = x & mask;
		for (uint32_t k = 0; k < 6; k++) {
			uint32_t t = r * 0x9E3779B1u + key + k * 0x85EBCA6Bu, next;
			t ^= t >> 15, t *= 0x2C1B3C6Du, t ^= t >> 12, t *= 0x297A2D39u, t ^= t >> 15;
			next = l ^ (t & mask);
			l = r;
			r = next;
		}
		x = l << half | r;
	} while (x >= n);
	return (int)x;
}

/* ---- matrix products ---- */

/* Registers hold MM_DEEP rows of up to two vectors of the result; with what they are multiplied by, that is all there are. */
#if defined(__AVX512F__)
enum { MM_LANES = 16, MM_DEEP = 14 };
#elif defined(__AVX__)
enum { MM_LANES = 8, MM_DEEP = 6 };
#else
enum { MM_LANES = 4, MM_DEEP = 6 };
#endif
#if defined(__clang__)
#define MM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MM_UNROLL _Pragma("GCC unroll 16")
#endif

typedef float MmVec __attribute__((vector_size(4 * MM_LANES)));
typedef float MmAny __attribute__((vector_size(4 * MM_LANES), aligned(4))); /* wherever it lies */

MM_INLINE MmVec
mm_same(float x)
{
	MmVec v;
	for (int i = 0; i < MM_LANES; i++)
		v[i] = x;
	return v;
}

/* a b + c of each lane, rounded once where the CPU can: of this alone clang makes vectors when it may contract, gcc always. */
MM_INLINE MmVec
mm_fmav(MmVec a, MmVec b, MmVec c)
{
#if defined(__clang__)
#pragma clang fp contract(fast)
	return a * b + c;
#else
	MmVec v;
	for (int i = 0; i < MM_LANES; i++)
		v[i] = mm_fma(a[i], b[i], c[i]);
	return v;
#endif
}

/* c[r, :] (+)= sum(a[r * ars + k * acs] b[k * bs, :], k), rows of so many vectors; sums in the order of k. */
MM_INLINE void
mm_micro(const int rows, const int vectors, int places, const float *a, int64_t ars, int64_t acs, const float *b, int64_t bs, float *c, int64_t cs, int add)
{
	MmVec d[MM_DEEP][2], x[2];
	MM_UNROLL for (int r = 0; r < rows; r++)
		MM_UNROLL for (int v = 0; v < vectors; v++)
			d[r][v] = add ? *(const MmAny *)(c + r * cs + v * MM_LANES) : mm_same(0);
	for (int k = 0; k < places; k++, a += acs, b += bs) {
		MM_UNROLL for (int v = 0; v < vectors; v++)
			x[v] = *(const MmAny *)(b + v * MM_LANES);
		MM_UNROLL for (int r = 0; r < rows; r++) {
			const MmVec s = mm_same(a[r * ars]);
			MM_UNROLL for (int v = 0; v < vectors; v++)
				d[r][v] = mm_fmav(s, x[v], d[r][v]);
		}
	}
	MM_UNROLL for (int r = 0; r < rows; r++)
		MM_UNROLL for (int v = 0; v < vectors; v++)
			*(MmAny *)(c + r * cs + v * MM_LANES) = d[r][v];
}

#define MM_ARGS int places, const float *a, int64_t ars, int64_t acs, const float *b, int64_t bs, float *c, int64_t cs, int add
#define MM_ROWS(n)                                                                                                             \
	static __attribute__((noinline)) void mm_rows##n##_1(MM_ARGS) { mm_micro(n, 1, places, a, ars, acs, b, bs, c, cs, add); } \
	static __attribute__((noinline)) void mm_rows##n##_2(MM_ARGS) { mm_micro(n, 2, places, a, ars, acs, b, bs, c, cs, add); }
MM_ROWS(1) MM_ROWS(2) MM_ROWS(3) MM_ROWS(4) MM_ROWS(5) MM_ROWS(6)
#if defined(__AVX512F__)
MM_ROWS(7) MM_ROWS(8) MM_ROWS(9) MM_ROWS(10) MM_ROWS(11) MM_ROWS(12) MM_ROWS(13) MM_ROWS(14)
#endif

/* n rows, known where it is compiled: what is not called is not made. */
#define MM_CASE(n) case n: (vectors == 1 ? mm_rows##n##_1 : mm_rows##n##_2)(places, a, ars, acs, b, bs, c, cs, add); break;
MM_INLINE void
mm_rows(const int n, const int vectors, MM_ARGS)
{
	switch (n) {
	MM_CASE(1) MM_CASE(2) MM_CASE(3) MM_CASE(4) MM_CASE(5) MM_CASE(6)
#if defined(__AVX512F__)
	MM_CASE(7) MM_CASE(8) MM_CASE(9) MM_CASE(10) MM_CASE(11) MM_CASE(12) MM_CASE(13) MM_CASE(14)
#endif
	}
}

/* The rows of a tile, which are `full` or `last`. */
MM_INLINE void
mm_product(int rows, const int full, const int last, const int vectors, MM_ARGS)
{
	int r = 0;
	for (; r + MM_DEEP <= rows; r += MM_DEEP)
		mm_rows(MM_DEEP, vectors, places, a + r * ars, ars, acs, b, bs, c + r * cs, cs, add);
	a += r * ars;
	c += r * cs;
	if (rows == full)
		mm_rows(full % MM_DEEP, vectors, places, a, ars, acs, b, bs, c, cs, add);
	else
		mm_rows(last % MM_DEEP, vectors, places, a, ars, acs, b, bs, c, cs, add);
}

/* The same of few rows and many columns: b line by line, four at a time, c in the nearest cache. */
MM_INLINE void
mm_lines(const int rows, int places, const float *a, int64_t ars, int64_t acs, const float *b, int64_t bs, int columns, float *c, int64_t cs, int add)
{
	int k = 0;
	for (int r = 0; r < rows && !add; r++)
		memset(c + r * cs, 0, (size_t)columns * sizeof *c);
	for (; k + 4 <= places; k += 4)
		for (int n = 0; n < columns; n += MM_LANES)
			for (int r = 0; r < rows; r++) {
				const float *x = a + r * ars + k * acs, *y = b + k * bs + n;
				if (n + MM_LANES <= columns) {
					MmVec s = *(MmAny *)(c + r * cs + n);
					MM_UNROLL for (int i = 0; i < 4; i++)
						s = mm_fmav(mm_same(x[i * acs]), *(const MmAny *)(y + i * bs), s);
					*(MmAny *)(c + r * cs + n) = s;
					continue;
				}
				for (int j = 0; j < columns - n; j++)
					for (int i = 0; i < 4; i++)
						c[r * cs + n + j] = mm_fma(x[i * acs], y[i * bs + j], c[r * cs + n + j]);
			}
	for (; k < places; k++)
		for (int r = 0; r < rows; r++)
			for (int n = 0; n < columns; n++)
				c[r * cs + n] = mm_fma(a[r * ars + k * acs], b[k * bs + n], c[r * cs + n]);
}

MM_INLINE void
mm_copy(float *restrict to, int64_t apart, const float *restrict from, int64_t step, int many)
{
	for (int i = 0; i < many; i++)
		to[i * apart] = from[i * step];
}

/* to[k * stride + j] = from[j * step + k], of places k and lines j: a square of vectors is turned at a time, halves, quarters, .. of
   it change places. */
MM_INLINE void
mm_turn(float *restrict to, int64_t stride, const float *restrict from, int64_t step, int lines, int places)
{
	int j = 0;
#if defined(__GNUC__) && !defined(__clang__)
	for (; j + MM_LANES <= lines; j += MM_LANES) {
		int k = 0;
		for (; k + MM_LANES <= places; k += MM_LANES) {
			MmVec v[MM_LANES];
			MM_UNROLL for (int i = 0; i < MM_LANES; i++)
				v[i] = *(const MmAny *)(from + (j + i) * step + k);
			MM_UNROLL for (int h = MM_LANES / 2; h; h /= 2)
				MM_UNROLL for (int i = 0; i < MM_LANES; i++) {
					typedef int32_t Mask __attribute__((vector_size(4 * MM_LANES)));
					if (i & h)
						continue;
					Mask lo, hi;
					MM_UNROLL for (int l = 0; l < MM_LANES; l++) {
						lo[l] = l & h ? MM_LANES + l - h : l;
						hi[l] = l & h ? MM_LANES + l : l + h;
					}
					const MmVec a = __builtin_shuffle(v[i], v[i + h], lo), b = __builtin_shuffle(v[i], v[i + h], hi);
					v[i] = a;
					v[i + h] = b;
				}
			MM_UNROLL for (int i = 0; i < MM_LANES; i++)
				*(MmAny *)(to + (k + i) * stride + j) = v[i];
		}
		for (; k < places; k++)
			for (int i = j; i < j + MM_LANES; i++)
				to[k * stride + i] = from[i * step + k];
	}
#endif
	for (; j < lines; j++)
		for (int k = 0; k < places; k++)
			to[k * stride + j] = from[j * step + k];
}
