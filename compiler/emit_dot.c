/* Small batched products on the GPU. A library's tiles are 64 wide and more: products of 32 x 32 x 32, as attention makes
   them by the thousand, leave most of a tile empty. Here a warp does one (ops/kernels/prelude.cu, mm_small_dot), so the
   memory's bandwidth is the bound. */
#include "emit.h"

#define SMALL 64       /* largest size of a side */
#define SHARED 40960   /* bytes a block */

static bool fits(int64_t n, int64_t multiple) { return n <= SMALL && n % multiple == 0; }

/* 16-byte pieces: the strides that are not 1 and the start are divisible by 8 elements. */
static bool
aligned(int64_t rs, int64_t cs, int64_t s0, int64_t s1, int64_t off)
{
	return (rs == 1 || rs % 8 == 0) && (cs == 1 || cs % 8 == 0) && s0 % 8 == 0 && s1 % 8 == 0 && off % 8 == 0;
}

bool
emit_small_dot(Text *t, const GemmCall *c, int64_t off, const char *name, Launch *l)
{
	const PlanGemm *g = &c->g;
	int64_t batch = g->batch0 * g->batch1;
	if (g->dtype != DT_BF16 || !fits(g->m, 16) || !fits(g->n, 16) || !fits(g->k, 16) || batch < 64 || g->epilogue || g->crs % 2 || g->c0 % 2 || g->c1 % 2 || off % 2)
		return false;
	int bytes = (int)((g->m + g->n) * (g->k + 8) * 2), warps = SHARED / bytes;
	warps = warps > 8 ? 8 : warps;
	bool wide = aligned(g->ars, g->acs, g->a0, g->a1, c->aoff) && aligned(g->brs, g->bcs, g->b0, g->b1, c->boff);
	const char *type = ctype((DType)g->ctype);
	l->block = 32 * warps;
	l->grid = (int)((batch + warps - 1) / warps);
	text_printf(t, "extern \"C\" __global__ void __launch_bounds__(%d)\n%s(const bf16 *__restrict__ a, const bf16 *__restrict__ b, %s *__restrict__ c)\n{\n\tmm_begin();\n", l->block, name, type);
	text_printf(t, "\t__shared__ __align__(16) bf16 tile[%d][%d];\n", warps, bytes / 2);
	text_printf(t, "\tconst int warp = threadIdx.x / 32, p = blockIdx.x * %d + warp, p0 = p / %ld, p1 = p %% %ld;\n", warps, (long)g->batch1, (long)g->batch1);
	text_printf(t, "\tif (p >= %ld) return;\n", (long)batch);
	text_printf(t, "\tmm_small_dot<%ld, %ld, %ld, %s, %s>(tile[warp], a + p0 * %ld + p1 * %ld, %ld, %ld, b + p0 * %ld + p1 * %ld, %ld, %ld, c + %ld + p0 * %ld + p1 * %ld, %ld);\n}\n\n",
	            (long)g->m, (long)g->n, (long)g->k, wide ? "true" : "false", type, (long)g->a0, (long)g->a1, (long)g->ars, (long)g->acs,
	            (long)g->b0, (long)g->b1, (long)g->brs, (long)g->bcs, (long)off, (long)g->c0, (long)g->c1, (long)g->crs);
	return true;
}
