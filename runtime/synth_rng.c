/* Random numbers and fixed-point exp and log of mmrun synth, in integers alone: no libm, no floating point whose
   last bit depends on the machine. */
#include "synth.h"

static void
philox_block(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
	uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
	for (int i = 0; i < 10; i++) {
		uint64_t p = (uint64_t)a * 0xd2511f53u, q = (uint64_t)c * 0xcd9e8d57u;
		a = (uint32_t)(q >> 32) ^ b ^ k0;
		b = (uint32_t)q;
		c = (uint32_t)(p >> 32) ^ d ^ k1;
		d = (uint32_t)p;
		k0 += 0x9e3779b9u;
		k1 += 0xbb67ae85u;
	}
	out[0] = a;
	out[1] = b;
	out[2] = c;
	out[3] = d;
}

Rng
rng_start(uint64_t seed, RngSite site, uint64_t index)
{
	return (Rng){
		.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
		.counter = {(uint32_t)index, (uint32_t)(index >> 32), site, 0},
	};
}

uint32_t
rng_u32(Rng *r)
{
	if (!r->left) {
		philox_block(r->key, r->counter, r->out);
		r->counter[3]++;
		r->left = 4;
	}
	return r->out[4 - r->left--];
}

uint32_t rng_below(Rng *r, uint32_t n) { return (uint32_t)((uint64_t)rng_u32(r) * n >> 32); }
bool rng_chance(Rng *r, uint32_t percent) { return rng_below(r, 100) < percent; }

uint32_t
rng_skewed(Rng *r, uint32_t n)
{
	uint64_t a = rng_u32(r), b = rng_u32(r);
	return (uint32_t)((a * b >> 32) * n >> 32);
}

uint32_t
rng_pick(Rng *r, const uint8_t *weight, uint32_t n)
{
	uint32_t sum = 0, x, i = 0;
	for (uint32_t k = 0; k < n; k++)
		sum += weight[k];
	for (x = rng_below(r, sum); x >= weight[i]; i++)
		x -= weight[i];
	return i;
}

static int
count_bits(uint32_t x)
{
	x -= x >> 1 & 0x55555555u;
	x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
	x = (x + (x >> 4)) & 0x0f0f0f0fu;
	return (int)(x * 0x01010101u >> 24);
}

/* 128 coin flips, variance 32, plus a uniform number of width 1 that fills the steps, variance 1/12. */
Fix
rng_normal(Rng *r)
{
	int64_t k = -64;
	for (int i = 0; i < 4; i++)
		k += count_bits(rng_u32(r));
	int64_t x = k * FIX_ONE + rng_below(r, FIX_ONE) - FIX_ONE / 2;
	return (Fix)(x * 11570 / 65536); /* 11570 = 65536 / sqrt(32 + 1/12) */
}

/* 2^(2^-k) for k = 1 .. 20, in units of 2^-31. */
static const uint32_t root_of_two[] = {
	3037000500, 2553802834, 2341847524, 2242560872, 2194507417, 2170868212, 2159144272, 2153306067, 2150392887,
	2148937775, 2148210589, 2147847087, 2147665360, 2147574502, 2147529075, 2147506361, 2147495005, 2147489326,
	2147486487, 2147485068,
};

uint64_t
fix_exp(Fix x)
{
	uint64_t m = 1u << 31;
	if (x < 0)
		return 0;
	uint64_t y = (uint64_t)x * 1549082005u >> 14; /* log2 of the result in units of 2^-32; 1549082005 = 2^30 / ln 2 */
	for (size_t k = 0; k < LEN(root_of_two); k++)
		if (y >> (31 - k) & 1)
			m = m * root_of_two[k] >> 31;
	uint64_t whole = y >> 32;
	return whole > 31 ? m << (whole - 31) : m >> (31 - whole);
}

/* Squaring a number in [1, 2) doubles its logarithm: each carry is the next bit. */
Fix
fix_log(uint64_t v)
{
	int64_t whole = 0, fraction = 0;
	uint64_t m;
	while (v >> whole > 1)
		whole++;
	m = whole > 31 ? v >> (whole - 31) : v << (31 - whole);
	for (int i = 0; i < 20; i++) {
		m = m * m >> 31;
		fraction = fraction << 1 | (int64_t)(m >> 32);
		m >>= m >> 32;
	}
	return (Fix)((whole << 20 | fraction) * 744261118 >> 34); /* 744261118 = 2^30 ln 2 */
}
