/* Programs that no device may accept, and what it says of each. Usage: device_error_test [cpu|cuda ..], by default both. */
#include "check_device.h"

#include <string.h>

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
	const PlanGemm good = plain_gemm(4, 5, 6, false, false, 0, 2, 1);
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
test_device(Device *d)
{
	test_bad_kernels(d);
	test_bad_programs(d);
	test_bad_gemms(d);
}

int
main(int argc, char **argv)
{
	on_devices(argc, argv, test_device);
	return check_end();
}
