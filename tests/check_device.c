/* See check_device.h. */
#define _GNU_SOURCE
#include "check_device.h"

#include <stdlib.h>
#include <string.h>

void
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

uint32_t
prog_module(Prog *g, const char *c, const char *cuda)
{
	g->module[g->set.nmodule].source = (char *)(strcmp(g->set.target, "cuda") ? c : cuda);
	return g->set.nmodule++;
}

uint32_t
prog_kernel(Prog *g, const char *name, uint32_t module, uint32_t grid, uint32_t block)
{
	g->kernel[g->p.nkernel] = (PlanKernel){.name = (char *)name, .module = module, .grid = grid, .block = block};
	return g->p.nkernel++;
}

void
prog_instr(Prog *g, InstrKind kind, uint32_t index, uint32_t narg, const PlanRef *arg)
{
	uint32_t i = g->p.ninstr++;
	memcpy(g->ref[i], arg, narg * sizeof *arg);
	g->instr[i] = (PlanInstr){.kind = kind, .index = index, .arg = g->ref[i], .narg = narg, .nout = 1, .what = "made by hand", .loc = "test.yaml:7:3"};
}

bool
prog_alloc(Prog *g, Device *d)
{
	Err e = {0};
	for (int s = 0; s < NSPACE; s++)
		if (g->bytes[s] && !(g->bind.base[s] = d->alloc(d, g->bytes[s], space_names[s], &e)))
			return CHECK_SAYS(false, "%s: %s", d->name, e.msg);
	return true;
}

void
prog_free(Prog *g, Device *d)
{
	for (int s = 0; s < NSPACE; s++)
		d->release(d, g->bind.base[s]);
}

const char saxpy_c[] = "#include <stdint.h>\n"
                       "void saxpy(void *const *arg, int64_t lo, int64_t hi) {\n\tconst float *x = arg[0]; float *y = arg[1];\n"
                       "\tfor (int64_t i = lo * 256; i < hi * 256 && i < 1000; i++) y[i] += 2 * x[i];\n}\n";
const char count_c[] = "#include <stdint.h>\n"
                       "void count(void *const *arg, int64_t lo, int64_t hi) { int32_t *n = arg[0]; n[0] += 1; }\n";
const char saxpy_cu[] =
	"extern \"C\" __global__ void saxpy(const float *x, float *y) {\n\tint i = blockIdx.x * blockDim.x + threadIdx.x;\n"
	"\tif (i < 1000) y[i] += 2 * x[i];\n}\n";
const char count_cu[] = "extern \"C\" __global__ void count(int *n) { if (threadIdx.x == 0 && blockIdx.x == 0) n[0] += 1; }\n";

/* Splits of a rows x cols operand: row-major or transposed, with the padding `pad` between rows. */
static void
strides(bool trans, int64_t rows, int64_t cols, int64_t pad, int64_t *rs, int64_t *cs)
{
	*rs = trans ? 1 : cols + pad;
	*cs = trans ? rows + pad : 1;
}

int64_t
gemm_extent(int64_t rows, int64_t cols, int64_t rs, int64_t cs, int64_t n0, int64_t s0, int64_t n1, int64_t s1)
{
	return (rows - 1) * rs + (cols - 1) * cs + (n0 - 1) * s0 + (n1 - 1) * s1 + 1;
}

PlanGemm
plain_gemm(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int64_t pad, int64_t batch0, int64_t batch1)
{
	PlanGemm g = {.m = m, .n = n, .k = k, .batch0 = batch0, .batch1 = batch1, .alpha = 1, .dtype = DT_F32, .ctype = DT_F32};
	strides(ta, m, k, pad, &g.ars, &g.acs);
	strides(tb, k, n, pad, &g.brs, &g.bcs);
	g.crs = n + pad;
	g.a1 = gemm_extent(m, k, g.ars, g.acs, 1, 0, 1, 0) + pad;
	g.b1 = gemm_extent(k, n, g.brs, g.bcs, 1, 0, 1, 0) + pad;
	g.c1 = m * g.crs;
	g.a0 = g.a1 * batch1;
	g.b0 = g.b1 * batch1;
	g.c0 = g.c1 * batch1;
	return g;
}

void
expect_failure(Device *d, Prog *g, const char *file, int line, const char *const *words)
{
	Err e = {0};
	if (!prog_alloc(g, d))
		return;
	Exec *x = d->prepare(d, &g->set, &g->p, &g->bind, &e);
	check_at(!x && e.set, file, line, "%s: a bad program is accepted", d->name);
	for (; *words; words++)
		check_at(e.set && strstr(e.msg, *words), file, line, "%s: message has no '%s': %s", d->name, *words, e.msg);
	d->drop(d, x);
	prog_free(g, d);
}

void
on_devices(int argc, char **argv, void (*test)(Device *d))
{
	char *both[] = {"cpu", "cuda"}, **name = argc > 1 ? argv + 1 : both;
	int n = argc > 1 ? argc - 1 : 2;
	setenv("MMC_CACHE", make_folder(), 1);
	for (int i = 0; i < n; i++) {
		Err e = {0};
		bool cpu = !strcmp(name[i], "cpu");
		Device *d = cpu ? device_cpu_open(0, &e) : device_cuda_open(0, &e);
		if (!d) {
			CHECK_SAYS(!cpu && e.set, "%s: %s", name[i], e.msg);
			printf("%s: skipped: %s\n", name[i], e.msg);
			skipped++;
			continue;
		}
		test(d);
		d->close(d);
	}
}
