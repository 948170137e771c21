/* Matrix products of a device: every layout, batch and epilogue against sums in double; bf16; the same bits for any
   number of threads. Usage: device_gemm_test [cpu|cuda ..], by default both. */
#include "check_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct GemmCase {
	PlanGemm g;
	size_t a, b, c, bias;     /* elements into the activations */
	size_t na, nb, nc;        /* extents, elements */
} GemmCase;

typedef struct Gemms {
	Prog prog;
	GemmCase gc[MAX_INSTR];
	int n;
	size_t total; /* f32 elements */
} Gemms;

static size_t
place(Gemms *t, int64_t n)
{
	size_t off = t->total;
	t->total += ((size_t)n + 63) / 64 * 64;
	return off;
}

static void
add_gemm(Gemms *t, PlanGemm g)
{
	GemmCase *c = &t->gc[t->n];
	c->g = g;
	c->na = (size_t)gemm_extent(g.m, g.k, g.ars, g.acs, g.batch0, g.a0, g.batch1, g.a1);
	c->nb = (size_t)gemm_extent(g.k, g.n, g.brs, g.bcs, g.batch0, g.b0, g.batch1, g.b1);
	c->nc = (size_t)gemm_extent(g.m, g.n, g.crs, 1, g.batch0, g.c0, g.batch1, g.c1);
	c->a = place(t, (int64_t)c->na);
	c->b = place(t, (int64_t)c->nb);
	c->c = place(t, (int64_t)c->nc + 8) + 8; /* guards in front */
	c->bias = place(t, g.n);
	t->prog.gemm[t->n] = g;
	const PlanRef arg[4] = {{SP_ACT, c->a * 4, c->na * 4}, {SP_ACT, c->b * 4, c->nb * 4}, {SP_ACT, c->c * 4, c->nc * 4}, {SP_ACT, c->bias * 4, (uint64_t)g.n * 4}};
	prog_instr(&t->prog, I_GEMM, (uint32_t)t->n, g.epilogue & EPI_BIAS ? 4 : 3, arg);
	t->prog.p.ngemm = (uint32_t)++t->n;
}

static const int sizes[][3] = {{1, 1, 1},    {1, 7, 5},      {5, 1, 7},    {7, 5, 1},      {1, 128, 64},   {128, 1, 64},
                               {33, 31, 17}, {32, 32, 32},   {2, 3, 300},  {128, 128, 128}, {257, 129, 65}, {64, 512, 96}};

static void
add_cases(Gemms *t, bool gelu)
{
	for (size_t i = 0; i < LEN(sizes); i++)
		for (int tr = 0; tr < 4; tr++)
			add_gemm(t, plain_gemm(sizes[i][0], sizes[i][1], sizes[i][2], tr & 1, tr & 2, tr == 3 ? 3 : 0, 1, 1));
	for (int tr = 0; tr < 4; tr++) {
		add_gemm(t, plain_gemm(17, 13, 19, tr & 1, tr & 2, 1, 3, 1));
		add_gemm(t, plain_gemm(32, 32, 32, tr & 1, tr & 2, 0, 1, 5));
		add_gemm(t, plain_gemm(9, 16, 8, tr & 1, tr & 2, 0, 3, 2));
		PlanGemm shared = plain_gemm(16, 24, 40, tr & 1, tr & 2, 0, 2, 3); /* one B for all, and batches that do not run on */
		shared.b0 = shared.b1 = 0;
		shared.c0 += 7;
		add_gemm(t, shared);
	}
	/* Attention: [b,t,h,d] x [b,s,h,d] -> [b,h,t,s], then times [b,s,h,d] -> [b,t,h,d]. */
	const int64_t b = 3, h = 4, T = 20, S = 12, D = 8;
	add_gemm(t, (PlanGemm){.m = T, .n = S, .k = D, .ars = h * D, .acs = 1, .brs = 1, .bcs = h * D, .crs = S, .batch0 = b, .batch1 = h,
	                       .a0 = T * h * D, .b0 = S * h * D, .c0 = h * T * S, .a1 = D, .b1 = D, .c1 = T * S, .alpha = 0.25});
	add_gemm(t, (PlanGemm){.m = T, .n = D, .k = S, .ars = S, .acs = 1, .brs = h * D, .bcs = 1, .crs = h * D, .batch0 = b, .batch1 = h,
	                       .a0 = h * T * S, .b0 = S * h * D, .c0 = T * h * D, .a1 = T * S, .b1 = D, .c1 = D, .alpha = 1});
	/* One row and one column, both strides 1; one row with a stride. */
	PlanGemm one = plain_gemm(1, 9, 6, false, false, 0, 1, 1);
	one.ars = one.acs = 1;
	add_gemm(t, one);
	one = plain_gemm(6, 9, 1, false, false, 0, 1, 1);
	one.ars = one.acs = 1;
	add_gemm(t, one);
	one = plain_gemm(8, 1, 5, false, false, 0, 1, 1);
	one.brs = one.bcs = 1;
	add_gemm(t, one);
	for (int ep = EPI_BIAS; ep <= (gelu ? EPI_BIAS | EPI_RELU | EPI_GELU : EPI_BIAS | EPI_RELU); ep++) {
		if (ep == (EPI_RELU | EPI_GELU) || ep == (EPI_BIAS | EPI_RELU | EPI_GELU))
			continue;
		for (size_t i = 0; i < LEN(sizes); i += 2) {
			PlanGemm g = plain_gemm(sizes[i][0], sizes[i][1], sizes[i][2], false, i % 4, 0, i % 3 ? 1 : 2, 1);
			g.epilogue = (uint32_t)ep;
			add_gemm(t, g);
		}
	}
	for (int i = 0; i < 4; i++) {
		PlanGemm g = plain_gemm(40, 50 + i, 30, i & 1, i & 2, 2, 2, 1);
		g.alpha = i == 3 ? 0 : -0.5;
		g.beta = i == 2 ? 1 : 0.75;
		g.epilogue = i == 1 ? EPI_BIAS | EPI_RELU : 0;
		add_gemm(t, g);
	}
	PlanGemm wide = plain_gemm(100, 400, 64, false, false, 0, 1, 1); /* a bias that is cut with the tiles */
	wide.epilogue = EPI_BIAS;
	add_gemm(t, wide);
	PlanGemm tf32 = plain_gemm(128, 64, 96, false, true, 0, 1, 1);
	tf32.tf32 = 1;
	add_gemm(t, tf32);
}

#define GUARD 12345.0f

static void
fill(const Gemms *t, float *x)
{
	uint32_t s = 1;
	for (size_t i = 0; i < t->total; i++)
		x[i] = (float)((s = s * 1664525 + 1013904223) >> 8) / 8388608.0f - 1;
	for (int i = 0; i < t->n; i++) {
		const GemmCase *c = &t->gc[i];
		for (size_t j = 0; j < 8; j++)
			x[c->c - 8 + j] = GUARD;
		for (size_t j = 0; j < c->nc; j++)
			x[c->c + j] = c->g.beta ? x[c->c + j] : GUARD;
		if (!c->g.beta && c->nc) /* beta 0 must not read C */
			x[c->c] = NAN;
	}
}

static double
finish(uint32_t ep, double v, double bias)
{
	if (ep & EPI_BIAS)
		v += bias;
	if (ep & EPI_RELU)
		v = v > 0 ? v : 0;
	return ep & EPI_GELU ? 0.5 * v * (1 + erf(v / sqrt(2))) : v;
}

/* Compares one product with a double reference, and what lies between its rows and in front with what was there. */
static int
wrong_values(const GemmCase *c, const float *in, const float *out)
{
	const PlanGemm *g = &c->g;
	const float *A = in + c->a, *B = in + c->b, *C0 = in + c->c, *C = out + c->c;
	char *written = xcalloc(c->nc, 1);
	double tol = g->tf32 ? 2e-3 : 4e-6;
	int bad = 0;
	for (int64_t p = 0; p < g->batch0; p++)
		for (int64_t q = 0; q < g->batch1; q++)
			for (int64_t i = 0; i < g->m; i++)
				for (int64_t j = 0; j < g->n; j++) {
					double v = 0, size = 0;
					for (int64_t l = 0; l < g->k; l++) {
						double x = (double)A[p * g->a0 + q * g->a1 + i * g->ars + l * g->acs] * (double)B[p * g->b0 + q * g->b1 + l * g->brs + j * g->bcs];
						v += x;
						size += fabs(x);
					}
					int64_t at = p * g->c0 + q * g->c1 + i * g->crs + j;
					v = g->alpha * v + (g->beta ? g->beta * (double)C0[at] : 0);
					v = finish(g->epilogue, v, (double)in[c->bias + (size_t)j]);
					bad += !(fabs((double)C[at] - v) <= tol * (size + 1));
					written[at] = 1;
				}
	for (size_t i = 0; i < c->nc; i++)
		bad += !written[i] && memcmp(&C[i], &C0[i], 4);
	for (int i = 1; i <= 8; i++)
		bad += C[-i] != GUARD;
	free(written);
	return bad;
}

static bool
run_gemms(Device *d, const Gemms *t, Exec *x, const float *in, float *out, Err *e)
{
	void *act = t->prog.bind.base[SP_ACT];
	return d->upload(d, act, in, t->total * 4, e) && d->run(d, x, 1, e) && d->download(d, out, act, t->total * 4, e);
}

static void
test_gemms(Device *d)
{
	Gemms *t = xcalloc(1, sizeof *t);
	Err e = {0};
	prog_init(&t->prog, d);
	add_cases(t, strcmp(d->name, "cuda") != 0);
	t->prog.bytes[SP_ACT] = t->total * 4;
	t->prog.bytes[SP_WORK] = t->prog.p.work_bytes = (size_t)32 << 20;
	float *in = xmalloc(t->total * 4), *out = xmalloc(t->total * 4), *again = xmalloc(t->total * 4);
	fill(t, in);
	if (prog_alloc(&t->prog, d)) {
		Exec *x = d->prepare(d, &t->prog.set, &t->prog.p, &t->prog.bind, &e);
		if (CHECK_SAYS(x != NULL, "%s: %s", d->name, e.msg) && CHECK_SAYS(run_gemms(d, t, x, in, out, &e), "%s: %s", d->name, e.msg)) {
			for (int i = 0; i < t->n; i++) {
				const PlanGemm *g = &t->gc[i].g;
				int bad = wrong_values(&t->gc[i], in, out);
				CHECK_SAYS(!bad, "%s: gemm %d: %lldx%lldx%lld a(%lld,%lld) b(%lld,%lld) batch %lldx%lld epilogue %u beta %g: %d wrong values", d->name, i,
				      (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->ars, (long long)g->acs, (long long)g->brs, (long long)g->bcs,
				      (long long)g->batch0, (long long)g->batch1, g->epilogue, g->beta, bad);
			}
			CHECK_SAYS(run_gemms(d, t, x, in, again, &e) && !memcmp(out, again, t->total * 4), "%s: a second run gives other bits %s", d->name, e.msg);
			d->drop(d, x);
			x = d->prepare(d, &t->prog.set, &t->prog.p, &t->prog.bind, &e); /* algorithms now come from the cache */
			CHECK_SAYS(x && run_gemms(d, t, x, in, again, &e) && !memcmp(out, again, t->total * 4), "%s: prepared again, other bits %s", d->name, e.msg);
		}
		d->drop(d, x);
	}
	prog_free(&t->prog, d);
	free(in);
	free(out);
	free(again);
	free(t);
}

/* A product that is large enough to be cut into tiles: the same bits for any number of threads. */
static void
test_threads(void)
{
	float *out[3];
	const int threads[3] = {1, 2, 5};
	Err e = {0};
	Gemms *t = xcalloc(1, sizeof *t);
	for (int i = 0; i < 3; i++) {
		Device *d = device_cpu_open(threads[i], &e);
		memset(t, 0, sizeof *t);
		prog_init(&t->prog, d);
		add_gemm(t, plain_gemm(300, 270, 500, false, true, 0, 1, 1));
		add_gemm(t, plain_gemm(31, 33, 32, true, false, 0, 70, 2));
		t->prog.bytes[SP_ACT] = t->total * 4;
		prog_alloc(&t->prog, d);
		float *in = xmalloc(t->total * 4);
		out[i] = xcalloc(t->total, 4);
		fill(t, in);
		Exec *x = d->prepare(d, &t->prog.set, &t->prog.p, &t->prog.bind, &e);
		CHECK_SAYS(x && run_gemms(d, t, x, in, out[i], &e), "%s", e.msg);
		CHECK_SAYS(!wrong_values(&t->gc[0], in, out[i]) && !wrong_values(&t->gc[1], in, out[i]), "%d threads: wrong values", threads[i]);
		d->drop(d, x);
		prog_free(&t->prog, d);
		d->close(d);
		free(in);
	}
	CHECK_SAYS(!memcmp(out[0], out[1], t->total * 4) && !memcmp(out[0], out[2], t->total * 4), "results depend on the number of threads");
	for (int i = 0; i < 3; i++)
		free(out[i]);
	free(t);
}

static uint16_t
to_bf16(float x)
{
	uint32_t u;
	memcpy(&u, &x, 4);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* bf16 operands: exact small integers, so that the result is exact in f32 and bf16 alike. The CPU has f32 only. */
static void
test_bf16(Device *d, DType out)
{
	enum { M = 48, K = 64 }; /* square operands M x K and K x M */
	Prog g;
	Err e = {0};
	uint16_t ab[2 * M * K], c16[M * M];
	float c32[M * M];
	prog_init(&g, d);
	g.gemm[0] = plain_gemm(M, M, K, false, false, 0, 1, 1);
	g.gemm[0].dtype = DT_BF16;
	g.gemm[0].ctype = out;
	g.p.ngemm = 1;
	g.bytes[SP_ACT] = sizeof ab + sizeof c32;
	g.bytes[SP_WORK] = g.p.work_bytes = 4 << 20;
	prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, 0, M * K * 2}, {SP_ACT, M * K * 2, M * K * 2}, {SP_ACT, sizeof ab, M * M * dtype_bytes(out)}));
	for (int i = 0; i < 2 * M * K; i++)
		ab[i] = to_bf16((float)(i % 5 == 0) - (float)(i % 7 == 0));
	if (!prog_alloc(&g, d))
		return;
	Exec *x = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	if (strcmp(d->name, "cuda")) {
		CHECK_SAYS(!x, "the CPU accepts bf16");
		CHECK_MSG(e, "bf16");
	} else if (CHECK_SAYS(x != NULL, "%s", e.msg)) {
		char *act = g.bind.base[SP_ACT];
		CHECK_SAYS(d->upload(d, act, ab, sizeof ab, &e) && d->run(d, x, 1, &e) && d->download(d, c32, act + sizeof ab, sizeof c32, &e) &&
		      d->download(d, c16, act + sizeof ab, sizeof c16, &e), "%s", e.msg);
		int bad = 0;
		for (int i = 0; i < M; i++)
			for (int j = 0; j < M; j++) {
				float v = 0;
				for (int l = 0; l < K; l++) {
					int p = i * K + l, q = M * K + l * M + j;
					v += (float)((p % 5 == 0) - (p % 7 == 0)) * (float)((q % 5 == 0) - (q % 7 == 0));
				}
				bad += out == DT_F32 ? c32[i * M + j] != v : c16[i * M + j] != to_bf16(v);
			}
		CHECK_SAYS(!bad, "bf16 to %s: %d wrong values", dtype_name(out), bad);
		d->drop(d, x);
	}
	prog_free(&g, d);
}

/* C in the parameters must not be touched by prepare, which tries algorithms. */
static void
test_prepare_keeps_params(Device *d)
{
	Prog g;
	Err e = {0};
	float c[64], back[64];
	for (int i = 0; i < 64; i++)
		c[i] = (float)i;
	prog_init(&g, d);
	g.gemm[0] = plain_gemm(8, 8, 8, false, false, 0, 1, 1);
	g.p.ngemm = 1;
	g.bytes[SP_ACT] = 512;
	g.bytes[SP_PARAM] = 256;
	prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, 0, 256}, {SP_ACT, 256, 256}, {SP_PARAM, 0, 256}));
	if (!prog_alloc(&g, d))
		return;
	Exec *x = NULL;
	CHECK_SAYS(d->upload(d, g.bind.base[SP_PARAM], c, sizeof c, &e) && (x = d->prepare(d, &g.set, &g.p, &g.bind, &e)) &&
	      d->download(d, back, g.bind.base[SP_PARAM], sizeof c, &e) && !memcmp(c, back, sizeof c), "%s: prepare writes parameters %s", d->name, e.msg);
	d->drop(d, x);
	prog_free(&g, d);
}

static void
test_device(Device *d)
{
	test_gemms(d);
	test_bf16(d, DT_F32);
	test_bf16(d, DT_BF16);
	test_prepare_keeps_params(d);
	if (!strcmp(d->name, "cpu"))
		test_threads();
}

int
main(int argc, char **argv)
{
	on_devices(argc, argv, test_device);
	return check_end();
}
