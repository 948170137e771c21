/* Initial values of states. Each element comes from its own call of a counter-based generator (Philox-2x32-10, Salmon et
   al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by the run's seed, with counter (element, hash of the
   state's name): independent of device, of the order of states and of other states. */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void
philox2x32(uint32_t c[2], uint32_t key)
{
	for (int round = 0; round < 10; round++) {
		uint64_t product = (uint64_t)0xD256D193u * c[0];
		c[0] = (uint32_t)(product >> 32) ^ key ^ c[1];
		c[1] = (uint32_t)product;
		key += 0x9E3779B9u;
	}
}

uint32_t fold_seed(uint64_t seed) { return (uint32_t)(seed ^ seed >> 32); }

int64_t
state_count(const PlanState *st)
{
	int64_t n = 1;
	for (uint32_t i = 0; i < st->ndim; i++)
		n *= st->dim[i];
	return n;
}

/* 32-bit patterns of bf16 and f16, rounded to nearest, ties to even. */
static uint16_t
bf16_bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, 4);
	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40); /* a NaN stays one */
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static uint16_t
f16_bits(double d)
{
	uint16_t sign = signbit(d) ? 0x8000 : 0;
	int exp;
	d = fabs(d);
	if (isnan(d))
		return sign | 0x7e00;
	if (d >= 65520)
		return sign | 0x7c00;
	if (d < 0x1p-14) /* subnormal: units of 2^-24; may round up to the least normal, whose bits follow */
		return sign | (uint16_t)nearbyint(d * 0x1p24);
	frexp(d, &exp); /* d = f * 2^exp, f in [0.5, 1) */
	return sign | (uint16_t)(((exp + 13) << 10) + (int)nearbyint(ldexp(d, 11 - exp)));
}

static double
f16_value(uint16_t h)
{
	int exp = h >> 10 & 31, man = h & 1023;
	double v = exp == 31 ? (man ? NAN : INFINITY) : exp ? ldexp(1024 + man, exp - 25) : ldexp(man, -24);
	return h & 0x8000 ? -v : v;
}

double
dtype_load(DType t, const void *p, int64_t i)
{
	switch (t) {
	case DT_F32: return ((const float *)p)[i];
	case DT_BF16: {
		uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
		float f;
		memcpy(&f, &u, 4);
		return f;
	}
	case DT_F16: return f16_value(((const uint16_t *)p)[i]);
	case DT_I32: return ((const int32_t *)p)[i];
	case DT_U32: return ((const uint32_t *)p)[i];
	default: return ((const uint8_t *)p)[i];
	}
}

void
dtype_store(DType t, void *p, int64_t i, double v)
{
	switch (t) {
	case DT_F32: ((float *)p)[i] = (float)v; break;
	case DT_BF16: ((uint16_t *)p)[i] = bf16_bits((float)v); break;
	case DT_F16: ((uint16_t *)p)[i] = f16_bits(v); break;
	case DT_I32: ((int32_t *)p)[i] = (int32_t)fmax(fmin(v, INT32_MAX), INT32_MIN); break;
	case DT_U32: ((uint32_t *)p)[i] = (uint32_t)fmax(fmin(v, UINT32_MAX), 0); break;
	default: ((uint8_t *)p)[i] = (uint8_t)fmax(fmin(v, 255), 0); break;
	}
}

/* 64 bits of element i of a state. */
static void
draw(uint32_t c[2], uint32_t key, uint64_t name, int64_t i)
{
	c[0] = (uint32_t)i;
	c[1] = fold_seed(name) + (uint32_t)((uint64_t)i >> 32) * 0x85ebca6bu; /* states of over 2^32 elements */
	philox2x32(c, key);
}

static double
draw_uniform(uint32_t key, uint64_t name, int64_t i) /* in [0, 1), 53 bits */
{
	uint32_t c[2];
	draw(c, key, name, i);
	return (double)((uint64_t)c[0] << 21 | c[1] >> 11) * 0x1p-53;
}

static double
draw_normal(uint32_t key, uint64_t name, int64_t i) /* Box-Muller, its cosine half */
{
	uint32_t c[2];
	draw(c, key, name, i);
	return sqrt(-2 * log((c[0] + 0.5) * 0x1p-32)) * cos(2 * acos(-1.0) * (c[1] * 0x1p-32));
}

static double
dot(const double *a, const double *b, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Modified Gram-Schmidt, twice for orthogonality to rounding (Giraud et al. 2005), on n vectors of len. */
static void
orthonormalize(double *v, int64_t n, int64_t len)
{
	for (int64_t i = 0; i < n; i++) {
		double *a = v + i * len;
		for (int64_t j = 0; j < 2 * i; j++) {
			const double *b = v + j % i * len;
			double d = dot(a, b, len);
			for (int64_t k = 0; k < len; k++)
				a[k] -= d * b[k];
		}
		double norm = sqrt(dot(a, a, len));
		for (int64_t k = 0; k < len; k++)
			a[k] /= norm;
	}
}

/* The state as a matrix, last dimension across: its shorter side becomes orthonormal, times the gain. */
static void
init_orthogonal(const PlanState *st, uint32_t key, uint64_t name, void *out)
{
	int64_t count = state_count(st), cols = st->ndim ? st->dim[st->ndim - 1] : 1, rows = cols ? count / cols : 0;
	bool wide = rows < cols;
	int64_t n = wide ? rows : cols, len = wide ? cols : rows;
	double *v = xcalloc((size_t)count, sizeof *v);
	for (int64_t i = 0; i < count; i++)
		v[wide ? i : i % cols * len + i / cols] = draw_normal(key, name, i);
	orthonormalize(v, n, len);
	for (int64_t i = 0; i < count; i++)
		dtype_store((DType)st->dtype, out, i, st->a * v[wide ? i : i % cols * len + i / cols]);
	free(v);
}

static bool
init_state(const PlanState *st, uint32_t key, const Fit *fit, void *out, Err *e)
{
	int64_t n = state_count(st);
	const char *as = st->like[0] ? st->like : st->name;
	uint64_t name = hash_bytes(HASH_INIT, as, strlen(as));
	DType t = (DType)st->dtype;
	double fitted = 1;
	if (st->fit[0] && fit && !fit_scalar(fit, st->fit, &fitted))
		return fail(e, "state %s: the data gives no value called '%s': compile the plan again", st->name, st->fit);
	if (!st->fit[0] && st->init == INIT_ORTHOGONAL) {
		init_orthogonal(st, key, name, out);
		return true;
	}
	for (int64_t i = 0; i < n; i++) {
		double v = st->fit[0]                ? fitted
		         : st->init == INIT_NORMAL  ? st->a + st->b * draw_normal(key, name, i)
		         : st->init == INIT_UNIFORM ? st->a + (st->b - st->a) * draw_uniform(key, name, i)
		                                    : st->a;
		dtype_store(t, out, i, v);
	}
	return true;
}

bool
init_states(const Plan *p, uint64_t seed, const Fit *fit, unsigned char *image[NSTATE], Err *e)
{
	for (uint32_t i = 0; i < p->nstate; i++) {
		const PlanState *st = &p->state[i];
		if (image[st->space] && !init_state(st, fold_seed(seed), fit, image[st->space] + st->off, e))
			return false;
	}
	return true;
}
