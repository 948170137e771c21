/* The devices behind runtime/device.h, each given the same hand-made programs. Usage: device_test [cpu|cuda ...];
   without arguments both. A device that cannot be opened counts as skipped, except the CPU. */
#define _GNU_SOURCE
#include "../runtime/cpu_api.h"
#include "../runtime/cuda_api.h"

#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int npassed, nfailed, nskipped;

static bool
check(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		npassed++;
		return true;
	}
	nfailed++;
	printf("%s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return false;
}
#define CHECK(ok, ...) check(ok, __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_MSG(e, word) CHECK((e).set && strstr((e).msg, word), "message has no '%s': %s", word, (e).set ? (e).msg : "(no error)")

/* ---- programs by hand ---- */

#define MAX_INSTR 256
#define COLUMNS 2

/* One target with one program; act, stat and param are its spaces on the device. */
typedef struct Prog {
	PlanTargetset set;
	PlanProgram p;
	PlanModule module[4];
	PlanKernel kernel[8];
	PlanGemm gemm[MAX_INSTR];
	PlanInstr instr[MAX_INSTR];
	PlanRef ref[MAX_INSTR][4];
	size_t bytes[NSPACE];
	Binding bind;
	void *column[COLUMNS];
} Prog;

static void
prog_init(Prog *g, const Device *d)
{
	memset(g, 0, sizeof *g);
	g->set.target = (char *)d->name;
	g->set.module = g->module;
	g->p.name = "test";
	g->p.kernel = g->kernel;
	g->p.gemm = g->gemm;
	g->p.instr = g->instr;
	g->bind.column = g->column;
	g->bind.ncolumn = COLUMNS;
}

static uint32_t
prog_module(Prog *g, const char *c, const char *cuda)
{
	g->module[g->set.nmodule].source = (char *)(strcmp(g->set.target, "cuda") ? c : cuda);
	return g->set.nmodule++;
}

static uint32_t
prog_kernel(Prog *g, const char *name, uint32_t module, uint32_t grid, uint32_t block)
{
	g->kernel[g->p.nkernel] = (PlanKernel){.name = (char *)name, .module = module, .grid = grid, .block = block};
	return g->p.nkernel++;
}

static void
prog_instr(Prog *g, InstrKind kind, uint32_t index, uint32_t narg, const PlanRef *arg)
{
	uint32_t i = g->p.ninstr++;
	memcpy(g->ref[i], arg, narg * sizeof *arg);
	g->instr[i] = (PlanInstr){.kind = kind, .index = index, .arg = g->ref[i], .narg = narg, .nout = 1, .what = "made by hand", .loc = "test.yaml:7:3"};
}
#define ARGS(...) (uint32_t)LEN(((const PlanRef[]){__VA_ARGS__})), (const PlanRef[]){__VA_ARGS__}

static bool
prog_alloc(Prog *g, Device *d)
{
	Err e = {0};
	for (int s = 0; s < NSPACE; s++)
		if (g->bytes[s] && !(g->bind.base[s] = d->alloc(d, g->bytes[s], space_names[s], &e)))
			return CHECK(false, "%s: %s", d->name, e.msg);
	return true;
}

static void
prog_free(Prog *g, Device *d)
{
	for (int s = 0; s < NSPACE; s++)
		d->release(d, g->bind.base[s]);
}

/* ---- kernels ---- */

#define N 1000 /* no multiple of a block */

static const char kernels_c[] = "#include <stdint.h>\n"
                                "void saxpy(void *const *arg, int64_t lo, int64_t hi) {\n\tconst float *x = arg[0]; float *y = arg[1];\n"
                                "\tfor (int64_t i = lo * 256; i < hi * 256 && i < 1000; i++) y[i] += 2 * x[i];\n}\n";
static const char count_c[] = "#include <stdint.h>\n"
                              "void count(void *const *arg, int64_t lo, int64_t hi) { int32_t *n = arg[0]; n[0] += 1; }\n";
static const char kernels_cu[] =
	"extern \"C\" __global__ void saxpy(const float *x, float *y) {\n\tint i = blockIdx.x * blockDim.x + threadIdx.x;\n"
	"\tif (i < 1000) y[i] += 2 * x[i];\n}\n";
static const char count_cu[] = "extern \"C\" __global__ void count(int *n) { if (threadIdx.x == 0 && blockIdx.x == 0) n[0] += 1; }\n";

/* Copy, zero, kernels of two modules, a data column: acts: y | copy of y | what is zeroed. */
static void
test_kernels(Device *d)
{
	Prog g;
	Err e = {0};
	float x[N], y[3 * N];
	int32_t n = -1;
	InstrTime t[8];
	prog_init(&g, d);
	uint32_t saxpy = prog_kernel(&g, "saxpy", prog_module(&g, kernels_c, kernels_cu), 4, 256);
	uint32_t count = prog_kernel(&g, "count", prog_module(&g, count_c, count_cu), 1, 32);
	const PlanRef data = {SP_DATA, 1, 4}, ry = {SP_ACT, 0, N * 4}, copy = {SP_ACT, N * 4, N * 4}, zero = {SP_ACT, 2 * N * 4, N * 4 - 4};
	prog_instr(&g, I_KERNEL, saxpy, ARGS(data, ry));
	prog_instr(&g, I_COPY, 0, ARGS(copy, ry));
	prog_instr(&g, I_ZERO, 0, ARGS(zero));
	prog_instr(&g, I_KERNEL, count, ARGS({SP_STAT, 8, 4}));
	g.bytes[SP_ACT] = sizeof y;
	g.bytes[SP_STAT] = 12;
	if (!prog_alloc(&g, d))
		return;
	g.column[1] = d->alloc(d, sizeof x, "data", &e);
	CHECK((uintptr_t)g.bind.base[SP_ACT] % 256 == 0 && (uintptr_t)g.bind.base[SP_STAT] % 256 == 0, "%s: memory is not aligned to 256", d->name);
	CHECK(d->download(d, y, g.bind.base[SP_ACT], sizeof y, &e) && !y[0] && !y[3 * N - 1], "%s: memory is not zeroed %s", d->name, e.msg);
	Exec *exec = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	if (!CHECK(exec != NULL, "%s: %s", d->name, e.msg))
		return;
	for (int i = 0; i < N; i++) {
		x[i] = (float)i;
		y[i] = 1;
		y[N + i] = y[2 * N + i] = 5;
	}
	int64_t before = d->launches;
	CHECK(d->upload(d, g.column[1], x, sizeof x, &e) && d->upload(d, g.bind.base[SP_ACT], y, sizeof y, &e) && d->run(d, exec, 3, &e) &&
	      d->sync(d, &e) && d->download(d, y, g.bind.base[SP_ACT], sizeof y, &e), "%s: %s", d->name, e.msg);
	int bad = 0;
	for (int i = 0; i < N; i++)
		bad += y[i] != 1 + 6 * x[i] || y[N + i] != y[i] || y[2 * N + i] != (i == N - 1 ? 5 : 0);
	CHECK(!bad, "%s: %d wrong values after saxpy, copy and zero", d->name, bad);
	CHECK(d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 3, "%s: counted %d of 3", d->name, n);
	int64_t launched = d->launches - before;
	CHECK(!strcmp(d->name, "cuda") ? launched >= 1 && launched <= 3 : launched == 3 * g.p.ninstr, "%s: %lld launches", d->name, (long long)launched);
	CHECK(d->run(d, exec, 37, &e) && d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 40, "%s: counted %d of 40 %s", d->name, n, e.msg);
	CHECK(d->run(d, exec, 0, &e) && d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 40, "%s: ran 0 times to %d", d->name, n);
	CHECK(d->profile(d, exec, 5, t, &e) && t[0].seconds > 0 && t[3].seconds > 0 && t[0].seconds < 1, "%s: profile %g %g %s", d->name, t[0].seconds,
	      t[3].seconds, e.msg);
	d->drop(d, exec);
	d->release(d, g.column[1]);
	prog_free(&g, d);
}

/* A loop: h[i + 1] = h[i] W, where W doubles and shifts columns, and a count; then a copy of the last. In reverse h is walked from
   its end. acts: six h of 4 x 4, what is between, the copy. */
static void
test_loop(Device *d, bool reverse)
{
	enum { STEPS = 5, SIZE = 64 };
	static const int64_t up[3][3] = {{SIZE, 0, 0}, {SIZE, 0, 0}, {0, 0, 0}}, down[3][3] = {{-SIZE, 0, 0}, {-SIZE, 0, 0}, {0, 0, 0}};
	Prog g;
	Err e = {0};
	float h[16], w[16] = {0}, got[16];
	int32_t n = -1;
	InstrTime t[5];
	uint64_t first = reverse ? STEPS * SIZE : 0, second = reverse ? (STEPS - 1) * SIZE : SIZE, last = reverse ? 0 : STEPS * SIZE;
	prog_init(&g, d);
	uint32_t count = prog_kernel(&g, "count", prog_module(&g, count_c, count_cu), 1, 32);
	g.gemm[g.p.ngemm++] = (PlanGemm){.m = 4, .n = 4, .k = 4, .ars = 4, .acs = 1, .brs = 4, .bcs = 1, .crs = 4, .batch0 = 1, .batch1 = 1, .alpha = 1};
	g.instr[g.p.ninstr++] = (PlanInstr){.kind = I_LOOP, .index = 3, .times = STEPS, .what = "loop", .loc = "test.yaml:7:3"};
	prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, first, SIZE}, {SP_PARAM, 0, SIZE}, {SP_ACT, 6 * SIZE, SIZE}));
	prog_instr(&g, I_COPY, 0, ARGS({SP_ACT, second, SIZE}, {SP_ACT, 6 * SIZE, SIZE}));
	prog_instr(&g, I_KERNEL, count, ARGS({SP_STAT, 0, 4}));
	prog_instr(&g, I_COPY, 0, ARGS({SP_ACT, 7 * SIZE, SIZE}, {SP_ACT, last, SIZE}));
	for (int i = 0; i < 2; i++) {
		g.instr[1 + i].step = (int64_t *)(reverse ? down : up)[i];
		g.instr[1 + i].nstep = g.instr[1 + i].narg;
	}
	g.bytes[SP_ACT] = 8 * SIZE;
	g.bytes[SP_PARAM] = SIZE;
	g.bytes[SP_STAT] = 4;
	if (!prog_alloc(&g, d))
		return;
	for (int i = 0; i < 16; i++)
		h[i] = (float)i;
	for (int i = 0; i < 4; i++)
		w[i * 4 + (i + 1) % 4] = 2;
	Exec *exec = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	if (!CHECK(exec != NULL, "%s: %s", d->name, e.msg))
		return;
	CHECK(d->upload(d, (char *)g.bind.base[SP_ACT] + first, h, sizeof h, &e) && d->upload(d, g.bind.base[SP_PARAM], w, sizeof w, &e) &&
	      d->run(d, exec, 3, &e) && d->sync(d, &e) && d->download(d, got, (char *)g.bind.base[SP_ACT] + 7 * SIZE, sizeof got, &e) &&
	      d->download(d, &n, g.bind.base[SP_STAT], 4, &e), "%s: %s", d->name, e.msg);
	int bad = 0;
	for (int i = 0; i < 16; i++)
		bad += got[i] != 32 * h[i / 4 * 4 + (i + 3) % 4]; /* five shifts */
	CHECK(!bad, "%s: %d wrong values after a loop%s", d->name, bad, reverse ? " in reverse" : "");
	CHECK(n == 3 * STEPS, "%s: counted %d of %d", d->name, n, 3 * STEPS);
	CHECK(d->profile(d, exec, 3, t, &e) && t[1].seconds > 0 && t[4].seconds > 0 && t[0].seconds == 0, "%s: profile %g %g %g %s", d->name, t[0].seconds,
	      t[1].seconds, t[4].seconds, e.msg);
	CHECK(d->run(d, exec, 1, &e) && d->download(d, got, (char *)g.bind.base[SP_ACT] + 7 * SIZE, sizeof got, &e) && got[0] == 32 * h[3],
	      "%s: after a profile %g, not %g %s", d->name, got[0], 32 * h[3], e.msg);
	d->drop(d, exec);
	prog_free(&g, d);
}

/* ---- transfers ---- */

static void
test_transfers(Device *d)
{
	const size_t big = (size_t)9 << 20, small = 1000;
	Err e = {0};
	unsigned char *a = xmalloc(big), *b = xcalloc(big, 1);
	for (size_t i = 0; i < big; i++)
		a[i] = (unsigned char)(i * 7 + i / 251);
	char *p = d->alloc(d, big, "buffer", &e);
	if (CHECK(p != NULL, "%s: %s", d->name, e.msg)) {
		CHECK(d->upload(d, p, a, big, &e) && d->download(d, b, p, big, &e) && !memcmp(a, b, big), "%s: large transfer %s", d->name, e.msg);
		bool ok = true;
		memset(b, 0, big);
		for (size_t i = 0; ok && i < 3000; i++) /* more than any staging buffer holds */
			ok = d->upload(d, p + i * small, a + i, small, &e);
		ok = ok && d->download(d, b, p, 3000 * small, &e);
		for (size_t i = 0; ok && i < 3000; i++)
			ok = !memcmp(b + i * small, a + i, small);
		CHECK(ok, "%s: many small uploads %s", d->name, e.msg);
		ok = true;
		for (size_t i = 0; ok && i < 30; i++) {
			memset(b, 0, small);
			ok = d->download(d, b, p + i * small, small, &e) && !memcmp(b, a + i, small);
		}
		CHECK(ok, "%s: small downloads %s", d->name, e.msg);
		CHECK(d->upload(d, p, a, 0, &e) && d->download(d, b, p, 0, &e), "%s: empty transfer %s", d->name, e.msg);
	}
	d->release(d, p);
	d->release(d, NULL);
	free(a);
	free(b);
}

/* ---- matrix products ---- */

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

/* Splits of a rows x cols operand: row-major or transposed, with the padding `pad` between rows. */
static void
strides(bool trans, int64_t rows, int64_t cols, int64_t pad, int64_t *rs, int64_t *cs)
{
	*rs = trans ? 1 : cols + pad;
	*cs = trans ? rows + pad : 1;
}

static int64_t
extent(int64_t rows, int64_t cols, int64_t rs, int64_t cs, int64_t n0, int64_t s0, int64_t n1, int64_t s1)
{
	return (rows - 1) * rs + (cols - 1) * cs + (n0 - 1) * s0 + (n1 - 1) * s1 + 1;
}

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
	c->na = (size_t)extent(g.m, g.k, g.ars, g.acs, g.batch0, g.a0, g.batch1, g.a1);
	c->nb = (size_t)extent(g.k, g.n, g.brs, g.bcs, g.batch0, g.b0, g.batch1, g.b1);
	c->nc = (size_t)extent(g.m, g.n, g.crs, 1, g.batch0, g.c0, g.batch1, g.c1);
	c->a = place(t, (int64_t)c->na);
	c->b = place(t, (int64_t)c->nb);
	c->c = place(t, (int64_t)c->nc + 8) + 8; /* guards in front */
	c->bias = place(t, g.n);
	t->prog.gemm[t->n] = g;
	const PlanRef arg[4] = {{SP_ACT, c->a * 4, c->na * 4}, {SP_ACT, c->b * 4, c->nb * 4}, {SP_ACT, c->c * 4, c->nc * 4}, {SP_ACT, c->bias * 4, (uint64_t)g.n * 4}};
	prog_instr(&t->prog, I_GEMM, (uint32_t)t->n, g.epilogue & EPI_BIAS ? 4 : 3, arg);
	t->prog.p.ngemm = (uint32_t)++t->n;
}

/* A plain batched product, packed with `pad` elements between rows. */
static PlanGemm
gemm(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int64_t pad, int64_t batch0, int64_t batch1)
{
	PlanGemm g = {.m = m, .n = n, .k = k, .batch0 = batch0, .batch1 = batch1, .alpha = 1, .dtype = DT_F32, .ctype = DT_F32};
	strides(ta, m, k, pad, &g.ars, &g.acs);
	strides(tb, k, n, pad, &g.brs, &g.bcs);
	g.crs = n + pad;
	g.a1 = extent(m, k, g.ars, g.acs, 1, 0, 1, 0) + pad;
	g.b1 = extent(k, n, g.brs, g.bcs, 1, 0, 1, 0) + pad;
	g.c1 = m * g.crs;
	g.a0 = g.a1 * batch1;
	g.b0 = g.b1 * batch1;
	g.c0 = g.c1 * batch1;
	return g;
}

static const int sizes[][3] = {{1, 1, 1},    {1, 7, 5},      {5, 1, 7},    {7, 5, 1},      {1, 128, 64},   {128, 1, 64},
                               {33, 31, 17}, {32, 32, 32},   {2, 3, 300},  {128, 128, 128}, {257, 129, 65}, {64, 512, 96}};

static void
add_cases(Gemms *t, bool gelu)
{
	for (size_t i = 0; i < LEN(sizes); i++)
		for (int tr = 0; tr < 4; tr++)
			add_gemm(t, gemm(sizes[i][0], sizes[i][1], sizes[i][2], tr & 1, tr & 2, tr == 3 ? 3 : 0, 1, 1));
	for (int tr = 0; tr < 4; tr++) {
		add_gemm(t, gemm(17, 13, 19, tr & 1, tr & 2, 1, 3, 1));
		add_gemm(t, gemm(32, 32, 32, tr & 1, tr & 2, 0, 1, 5));
		add_gemm(t, gemm(9, 16, 8, tr & 1, tr & 2, 0, 3, 2));
		PlanGemm shared = gemm(16, 24, 40, tr & 1, tr & 2, 0, 2, 3); /* one B for all, and batches that do not run on */
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
	PlanGemm one = gemm(1, 9, 6, false, false, 0, 1, 1);
	one.ars = one.acs = 1;
	add_gemm(t, one);
	one = gemm(6, 9, 1, false, false, 0, 1, 1);
	one.ars = one.acs = 1;
	add_gemm(t, one);
	one = gemm(8, 1, 5, false, false, 0, 1, 1);
	one.brs = one.bcs = 1;
	add_gemm(t, one);
	for (int ep = EPI_BIAS; ep <= (gelu ? EPI_BIAS | EPI_RELU | EPI_GELU : EPI_BIAS | EPI_RELU); ep++) {
		if (ep == (EPI_RELU | EPI_GELU) || ep == (EPI_BIAS | EPI_RELU | EPI_GELU))
			continue;
		for (size_t i = 0; i < LEN(sizes); i += 2) {
			PlanGemm g = gemm(sizes[i][0], sizes[i][1], sizes[i][2], false, i % 4, 0, i % 3 ? 1 : 2, 1);
			g.epilogue = (uint32_t)ep;
			add_gemm(t, g);
		}
	}
	for (int i = 0; i < 4; i++) {
		PlanGemm g = gemm(40, 50 + i, 30, i & 1, i & 2, 2, 2, 1);
		g.alpha = i == 3 ? 0 : -0.5;
		g.beta = i == 2 ? 1 : 0.75;
		g.epilogue = i == 1 ? EPI_BIAS | EPI_RELU : 0;
		add_gemm(t, g);
	}
	PlanGemm wide = gemm(100, 400, 64, false, false, 0, 1, 1); /* a bias that is cut with the tiles */
	wide.epilogue = EPI_BIAS;
	add_gemm(t, wide);
	PlanGemm tf32 = gemm(128, 64, 96, false, true, 0, 1, 1);
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
		if (CHECK(x != NULL, "%s: %s", d->name, e.msg) && CHECK(run_gemms(d, t, x, in, out, &e), "%s: %s", d->name, e.msg)) {
			for (int i = 0; i < t->n; i++) {
				const PlanGemm *g = &t->gc[i].g;
				int bad = wrong_values(&t->gc[i], in, out);
				CHECK(!bad, "%s: gemm %d: %lldx%lldx%lld a(%lld,%lld) b(%lld,%lld) batch %lldx%lld epilogue %u beta %g: %d wrong values", d->name, i,
				      (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->ars, (long long)g->acs, (long long)g->brs, (long long)g->bcs,
				      (long long)g->batch0, (long long)g->batch1, g->epilogue, g->beta, bad);
			}
			CHECK(run_gemms(d, t, x, in, again, &e) && !memcmp(out, again, t->total * 4), "%s: a second run gives other bits %s", d->name, e.msg);
			d->drop(d, x);
			x = d->prepare(d, &t->prog.set, &t->prog.p, &t->prog.bind, &e); /* algorithms now come from the cache */
			CHECK(x && run_gemms(d, t, x, in, again, &e) && !memcmp(out, again, t->total * 4), "%s: prepared again, other bits %s", d->name, e.msg);
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
		add_gemm(t, gemm(300, 270, 500, false, true, 0, 1, 1));
		add_gemm(t, gemm(31, 33, 32, true, false, 0, 70, 2));
		t->prog.bytes[SP_ACT] = t->total * 4;
		prog_alloc(&t->prog, d);
		float *in = xmalloc(t->total * 4);
		out[i] = xcalloc(t->total, 4);
		fill(t, in);
		Exec *x = d->prepare(d, &t->prog.set, &t->prog.p, &t->prog.bind, &e);
		CHECK(x && run_gemms(d, t, x, in, out[i], &e), "%s", e.msg);
		CHECK(!wrong_values(&t->gc[0], in, out[i]) && !wrong_values(&t->gc[1], in, out[i]), "%d threads: wrong values", threads[i]);
		d->drop(d, x);
		prog_free(&t->prog, d);
		d->close(d);
		free(in);
	}
	CHECK(!memcmp(out[0], out[1], t->total * 4) && !memcmp(out[0], out[2], t->total * 4), "results depend on the number of threads");
	for (int i = 0; i < 3; i++)
		free(out[i]);
	free(t);
}

typedef struct Pieces {
	int count[300];
	int late; /* microseconds that the first piece takes */
} Pieces;

static void
count_pieces(void *ctx, int64_t lo, int64_t hi)
{
	Pieces *p = ctx;
	if (lo == 0 && p->late)
		usleep((useconds_t)p->late);
	for (int64_t i = lo; i < hi; i++)
		p->count[i]++;
}

/* Each piece of a run is done once and before the run returns, whether threads are at work, look for it or sleep. */
static void
test_pool(int threads, int runs)
{
	Err e = {0};
	CpuPool *pool = cpu_pool_open(threads, &e);
	int wrong = 0;
	CHECK(pool != NULL, "%s", e.msg);
	for (int r = 0; pool && r < runs; r++) {
		Pieces p = {.late = r % 1000 == 1 ? 300 : 0};
		int n = r % 7 ? r * 37 % 300 : r % 3;
		if (r % 1000 == 0)
			usleep(300);
		cpu_pool_run(pool, count_pieces, &p, n);
		for (int i = 0; i < 300; i++)
			wrong += p.count[i] != (i < n);
	}
	CHECK(!wrong, "%d threads: %d pieces are not done once", threads, wrong);
	cpu_pool_close(pool);
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
	g.gemm[0] = gemm(M, M, K, false, false, 0, 1, 1);
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
		CHECK(!x, "the CPU accepts bf16");
		CHECK_MSG(e, "bf16");
	} else if (CHECK(x != NULL, "%s", e.msg)) {
		char *act = g.bind.base[SP_ACT];
		CHECK(d->upload(d, act, ab, sizeof ab, &e) && d->run(d, x, 1, &e) && d->download(d, c32, act + sizeof ab, sizeof c32, &e) &&
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
		CHECK(!bad, "bf16 to %s: %d wrong values", dtype_name(out), bad);
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
	g.gemm[0] = gemm(8, 8, 8, false, false, 0, 1, 1);
	g.p.ngemm = 1;
	g.bytes[SP_ACT] = 512;
	g.bytes[SP_PARAM] = 256;
	prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, 0, 256}, {SP_ACT, 256, 256}, {SP_PARAM, 0, 256}));
	if (!prog_alloc(&g, d))
		return;
	Exec *x = NULL;
	CHECK(d->upload(d, g.bind.base[SP_PARAM], c, sizeof c, &e) && (x = d->prepare(d, &g.set, &g.p, &g.bind, &e)) &&
	      d->download(d, back, g.bind.base[SP_PARAM], sizeof c, &e) && !memcmp(c, back, sizeof c), "%s: prepare writes parameters %s", d->name, e.msg);
	d->drop(d, x);
	prog_free(&g, d);
}

/* ---- errors ---- */

/* Prepares the program, which must fail with all the words. */
static void
expect_failure(Device *d, Prog *g, int line, const char *const *words)
{
	Err e = {0};
	if (!prog_alloc(g, d))
		return;
	Exec *x = d->prepare(d, &g->set, &g->p, &g->bind, &e);
	check(!x && e.set, __FILE__, line, "%s: a bad program is accepted", d->name);
	for (; *words; words++)
		check(e.set && strstr(e.msg, *words), __FILE__, line, "%s: message has no '%s': %s", d->name, *words, e.msg);
	d->drop(d, x);
	prog_free(g, d);
}
#define FAILS(d, g, ...) expect_failure(d, g, __LINE__, (const char *const[]){__VA_ARGS__, NULL})

static void
test_bad_kernels(Device *d)
{
	Prog g;
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "broken_kernel", prog_module(&g, "void broken_kernel(void *const *arg) { wrong_word; }\n",
	            "extern \"C\" __global__ void broken_kernel(int *x) { wrong_word; }\n"), 1, 32);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	FAILS(d, &g, "broken_kernel", "wrong_word", "error", d->name);

	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "absent_kernel", prog_module(&g, count_c, count_cu), 1, 32);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	FAILS(d, &g, "absent_kernel", "test.yaml:7:3");

	if (strcmp(d->name, "cuda"))
		return;
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "count", prog_module(&g, count_c, count_cu), 1, 5000);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	FAILS(d, &g, "count", "5000", "test.yaml:7:3");
}

static void
test_bad_programs(Device *d)
{
	static const struct { uint32_t kind, index, narg; PlanRef arg[2]; const char *word; } bad[] = {
		{I_KERNEL, 3, 1, {{SP_ACT, 0, 4}}, "not in the program"},
		{I_GEMM, 0, 2, {{SP_ACT, 0, 4}, {SP_ACT, 0, 4}}, "not in the program"},
		{9, 0, 1, {{SP_ACT, 0, 4}}, "not in the program"},
		{I_COPY, 0, 2, {{SP_ACT, 0, 4}, {SP_ACT, 32, 8}}, "copies 8 bytes to 4"},
		{I_COPY, 0, 1, {{SP_ACT, 0, 4}}, "arguments"},
		{I_ZERO, 0, 1, {{SP_OPT, 0, 4}}, "not allocated"},
		{I_ZERO, 0, 1, {{77, 0, 4}}, "space 77"},
		{I_COPY, 0, 2, {{SP_ACT, 0, 4}, {SP_DATA, 5, 4}}, "data column 5"},
	};
	Prog g;
	for (size_t i = 0; i < LEN(bad); i++) {
		prog_init(&g, d);
		g.bytes[SP_ACT] = 64;
		prog_instr(&g, (InstrKind)bad[i].kind, bad[i].index, bad[i].narg, bad[i].arg);
		FAILS(d, &g, "test.yaml:7:3", bad[i].word);
	}
	static const struct { uint32_t index; int64_t times; const char *word; } loop[] = {
		{2, 3, "does not fit"}, {0, 3, "does not fit"}, {UINT32_MAX, 3, "does not fit"}, {1, 0, "does not fit"}, {1, INT64_MAX, "does not fit"},
		{1, 2, "a loop inside a loop"},
	};
	for (size_t i = 0; i < LEN(loop); i++) {
		prog_init(&g, d);
		g.bytes[SP_ACT] = 64;
		for (int k = 0; k < 2; k++)
			g.instr[g.p.ninstr++] = (PlanInstr){.kind = i < 5 && k ? I_ZERO : I_LOOP, .index = loop[i].index, .times = loop[i].times, .what = "", .loc = ""};
		FAILS(d, &g, "test", loop[i].word);
	}
}

static void
test_bad_gemms(Device *d)
{
	const PlanGemm good = gemm(4, 5, 6, false, false, 0, 2, 1);
	struct { PlanGemm g; const char *word; } bad[] = {{good, "stride"}, {good, "overlap"}, {good, "overlap"}, {good, "2^31"}, {good, "range"}, {good, "of i32"}};
	bad[0].g.acs = 2;
	bad[1].g.crs = 3;
	bad[2].g.c0 = 0;
	bad[3].g.crs = (int64_t)1 << 40;
	bad[4].g.k = 0;
	bad[5].g.dtype = DT_I32;
	Prog g;
	for (size_t i = 0; i < LEN(bad); i++) {
		prog_init(&g, d);
		g.gemm[0] = bad[i].g;
		g.p.ngemm = 1;
		g.bytes[SP_ACT] = 4096;
		prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, 0, 512}, {SP_ACT, 512, 512}, {SP_ACT, 1024, 512}));
		FAILS(d, &g, "test.yaml:7:3", i == 5 && !strcmp(d->name, "cpu") ? "f32" : bad[i].word);
	}
	if (strcmp(d->name, "cuda"))
		return;
	prog_init(&g, d);
	g.gemm[0] = good;
	g.gemm[0].epilogue = EPI_GELU;
	g.p.ngemm = 1;
	g.bytes[SP_ACT] = 4096;
	prog_instr(&g, I_GEMM, 0, ARGS({SP_ACT, 0, 512}, {SP_ACT, 512, 512}, {SP_ACT, 1024, 512}));
	FAILS(d, &g, "GELU", "tanh");
}

static void
test_too_large(Device *d)
{
	Err e = {0};
	size_t avail = 0, total = 0;
	CHECK(d->memory(d, &avail, &total, &e) && avail > 0 && avail <= total, "%s: memory %zu of %zu %s", d->name, avail, total, e.msg);
	CHECK(!d->alloc(d, (size_t)1 << 50, "activations", &e), "%s: gave a pebibyte", d->name);
	CHECK_MSG(e, "activations needs 1073741824.0 MiB");
	CHECK_MSG(e, "free of");
	CHECK_MSG(e, "lower the batch size");
}

/* ---- the C compiler ---- */

/* $CC is a script that notes each call and then fails or compiles. */
static void
write_script(const char *path, const char *text)
{
	Err e = {0};
	CHECK(write_file_atomic(path, text, strlen(text), 0700, &e), "%s", e.msg);
}

static int
count_lines(const char *path)
{
	char *s;
	size_t n;
	int lines = 0;
	Err e = {0};
	if (!read_file(path, &s, &n, &e))
		return 0;
	for (size_t i = 0; i < n; i++)
		lines += s[i] == '\n';
	free(s);
	return lines;
}

static bool
prepare_counted(int threads, const char *source)
{
	Prog g;
	Err e = {0};
	Device *d = device_cpu_open(threads, &e);
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "count", prog_module(&g, source, ""), 1, 1);
	prog_kernel(&g, "saxpy", prog_module(&g, kernels_c, ""), 1, 1);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	prog_alloc(&g, d);
	Exec *x = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	bool ok = x && d->run(d, x, 1, &e);
	if (!ok)
		printf("%s\n", e.msg);
	d->drop(d, x);
	prog_free(&g, d);
	d->close(d);
	return ok;
}

static void
test_compiler(const char *dir)
{
	char path[600], log[600], text[2000];
	char *old = getenv("CC") ? xstrdup(getenv("CC")) : NULL;
	Err e = {0};
	Device *d = device_cpu_open(1, &e);
	Prog g;
	prog_init(&g, d);
	g.bytes[SP_ACT] = 64;
	prog_kernel(&g, "count", prog_module(&g, count_c, ""), 1, 1);
	prog_instr(&g, I_KERNEL, 0, ARGS({SP_ACT, 0, 4}));
	setenv("CC", "/nonexistent/compiler", 1);
	FAILS(d, &g, "/nonexistent/compiler", "install the package gcc");
	d->close(d);

	snprintf(path, sizeof path, "%s/cc", dir);
	snprintf(log, sizeof log, "%s/calls", dir);
	snprintf(text, sizeof text, "#!/bin/sh\ncase \"$*\" in *--version*) echo test compiler 1; exit;; esac\necho call >> '%s'\nexec %s \"$@\"\n", log,
	         old && *old ? old : "cc");
	write_script(path, text);
	setenv("CC", path, 1);
	CHECK(prepare_counted(1, count_c) && count_lines(log) == 2, "two modules took %d compilations", count_lines(log));
	CHECK(prepare_counted(2, count_c) && count_lines(log) == 2, "a warm cache took %d compilations", count_lines(log));
	snprintf(text, sizeof text, "%s/* changed */\n", count_c);
	CHECK(prepare_counted(1, text) && count_lines(log) == 3, "one changed module: %d compilations", count_lines(log));
	snprintf(text, sizeof text, "#!/bin/sh\ncase \"$*\" in *--version*) echo test compiler 2; exit;; esac\necho call >> '%s'\nexec %s \"$@\"\n", log,
	         old && *old ? old : "cc");
	write_script(path, text);
	CHECK(prepare_counted(1, count_c) && count_lines(log) == 5, "a new compiler: %d compilations", count_lines(log));
	setenv("MMC_CACHE", path, 1); /* a file: cannot be a folder, not even for root */
	CHECK(prepare_counted(1, count_c) && count_lines(log) == 7, "no cache: %d compilations", count_lines(log));
	setenv("MMC_CACHE", dir, 1);
	if (old)
		setenv("CC", old, 1);
	else
		unsetenv("CC");
	free(old);
}

/* ---- NVRTC ---- */

static void
test_nvrtc(void)
{
	char *cubin = NULL, *log = NULL;
	size_t n = 0;
	Err e = {0};
	if (!nvrtc_compile(count_cu, "sm_90", &cubin, &n, &log, &e)) {
		CHECK(strstr(e.msg, "cannot"), "%s", e.msg);
		nskipped++;
		return;
	}
	CHECK(n > 64 && !memcmp(cubin, "\177ELF", 4), "a cubin of %zu bytes", n);
	CHECK(strstr(log, "registers") && nvrtc_spills(log) == 0, "no ptxas report: %s", log);
	free(cubin);
	free(log);
	/* 64 live values in 32 registers must spill */
	const char *spill = "extern \"C\" __global__ void __launch_bounds__(1024, 2) spill(float *x, int n) {\n\tfloat a[64];\n"
	                    "#pragma unroll\n\tfor (int i = 0; i < 64; i++) a[i] = x[i * 1024 + threadIdx.x];\n\tfor (int r = 0; r < n; r++)\n"
	                    "#pragma unroll\n\t\tfor (int i = 0; i < 64; i++) a[i] = a[i] * a[(i * 37 + 5) % 64] + x[r];\n"
	                    "#pragma unroll\n\tfor (int i = 0; i < 64; i++) x[i * 1024 + threadIdx.x] = a[i];\n}\n";
	for (int i = 0; i < 2; i++) { /* twice: NVRTC's own cache must not swallow the report */
		Err e2 = {0};
		if (!CHECK(nvrtc_compile(spill, "sm_90", &cubin, &n, &log, &e2), "%s", e2.msg))
			continue;
		CHECK(nvrtc_spills(log) > 0, "spills are not seen: %s", log);
		free(cubin);
		free(log);
	}
	CHECK(nvrtc_spills("nothing") == -1, "spills from nowhere");
	Err e3 = {0}, e4 = {0}, e5 = {0};
	CHECK(!nvrtc_compile("__global__ void f() { wrong_word; }", "sm_90", &cubin, &n, NULL, &e3), "a broken source compiles");
	CHECK_MSG(e3, "wrong_word");
	CHECK(!nvrtc_compile(count_cu, "sm_1", &cubin, &n, NULL, &e4), "sm_1 compiles");
	CHECK_MSG(e4, "sm_1");
	const char *bf16 = "#include <cuda_bf16.h>\nextern \"C\" __global__ void f(__nv_bfloat16 *x) { *x = __float2bfloat16(1.f); }\n";
	if (CHECK(nvrtc_compile(bf16, "sm_80", &cubin, &n, NULL, &e5), "%s", e5.msg))
		free(cubin);
}

/* ---- all of it ---- */

static void
test_device(Device *d)
{
	CHECK(d->info[0], "%s says nothing about itself", d->name);
	printf("%s: %s\n", d->name, d->info);
	test_transfers(d);
	test_kernels(d);
	test_loop(d, false);
	test_loop(d, true);
	test_gemms(d);
	test_bf16(d, DT_F32);
	test_bf16(d, DT_BF16);
	test_prepare_keeps_params(d);
	test_bad_kernels(d);
	test_bad_programs(d);
	test_bad_gemms(d);
	test_too_large(d);
	d->close(d);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(path);
}

int
main(int argc, char **argv)
{
	char *both[] = {"cpu", "cuda"}, dir[] = "/tmp/device-test-XXXXXX";
	char **name = argc > 1 ? argv + 1 : both;
	int n = argc > 1 ? argc - 1 : 2;
	if (!mkdtemp(dir))
		return 2;
	setenv("MMC_CACHE", dir, 1); /* cold: everything is compiled and chosen here */
	for (int i = 0; i < n; i++) {
		Err e = {0};
		bool cpu = !strcmp(name[i], "cpu");
		Device *d = cpu ? device_cpu_open(0, &e) : device_cuda_open(0, &e);
		if (!d) {
			CHECK(!cpu && e.set, "%s: %s", name[i], e.msg);
			printf("%s: skipped: %s\n", name[i], e.msg);
			nskipped++;
			continue;
		}
		test_device(d);
		if (cpu) {
			test_threads();
			test_pool(1, 100);
			test_pool(2, 20000);
			test_pool(7, 5000); /* more than cores: nobody waits for who has not begun */
			test_compiler(dir);
		}
	}
	Err e = {0};
	CHECK(!device_cpu_open(-1, &e) && e.set, "-1 threads are accepted");
	test_nvrtc();
	nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	printf("%d passed, %d failed", npassed, nfailed);
	printf(nskipped ? ", %d skipped\n" : "\n", nskipped);
	return nfailed != 0;
}
