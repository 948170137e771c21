/* Programs on a device: kernels, copies, loops, columns of data; transfers; memory. Usage: device_test [cpu|cuda ..], by default both. */
#include "check_device.h"

#include <stdlib.h>
#include <string.h>

#define N 1000 /* no multiple of a block */

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
	uint32_t saxpy = prog_kernel(&g, "saxpy", prog_module(&g, saxpy_c, saxpy_cu), 4, 256);
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
	CHECK_SAYS((uintptr_t)g.bind.base[SP_ACT] % 256 == 0 && (uintptr_t)g.bind.base[SP_STAT] % 256 == 0, "%s: memory is not aligned to 256", d->name);
	CHECK_SAYS(d->download(d, y, g.bind.base[SP_ACT], sizeof y, &e) && !y[0] && !y[3 * N - 1], "%s: memory is not zeroed %s", d->name, e.msg);
	Exec *exec = d->prepare(d, &g.set, &g.p, &g.bind, &e);
	if (!CHECK_SAYS(exec != NULL, "%s: %s", d->name, e.msg))
		return;
	for (int i = 0; i < N; i++) {
		x[i] = (float)i;
		y[i] = 1;
		y[N + i] = y[2 * N + i] = 5;
	}
	int64_t before = d->launches;
	CHECK_SAYS(d->upload(d, g.column[1], x, sizeof x, &e) && d->upload(d, g.bind.base[SP_ACT], y, sizeof y, &e) && d->run(d, exec, 3, &e) &&
	      d->sync(d, &e) && d->download(d, y, g.bind.base[SP_ACT], sizeof y, &e), "%s: %s", d->name, e.msg);
	int bad = 0;
	for (int i = 0; i < N; i++)
		bad += y[i] != 1 + 6 * x[i] || y[N + i] != y[i] || y[2 * N + i] != (i == N - 1 ? 5 : 0);
	CHECK_SAYS(!bad, "%s: %d wrong values after saxpy, copy and zero", d->name, bad);
	CHECK_SAYS(d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 3, "%s: counted %d of 3", d->name, n);
	int64_t launched = d->launches - before;
	CHECK_SAYS(!strcmp(d->name, "cuda") ? launched >= 1 && launched <= 3 : launched == 3 * g.p.ninstr, "%s: %lld launches", d->name, (long long)launched);
	CHECK_SAYS(d->run(d, exec, 37, &e) && d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 40, "%s: counted %d of 40 %s", d->name, n, e.msg);
	CHECK_SAYS(d->run(d, exec, 0, &e) && d->download(d, &n, (char *)g.bind.base[SP_STAT] + 8, 4, &e) && n == 40, "%s: ran 0 times to %d", d->name, n);
	CHECK_SAYS(d->profile(d, exec, 5, t, &e) && t[0].seconds > 0 && t[3].seconds > 0 && t[0].seconds < 1, "%s: profile %g %g %s", d->name, t[0].seconds,
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
	if (!CHECK_SAYS(exec != NULL, "%s: %s", d->name, e.msg))
		return;
	CHECK_SAYS(d->upload(d, (char *)g.bind.base[SP_ACT] + first, h, sizeof h, &e) && d->upload(d, g.bind.base[SP_PARAM], w, sizeof w, &e) &&
	      d->run(d, exec, 3, &e) && d->sync(d, &e) && d->download(d, got, (char *)g.bind.base[SP_ACT] + 7 * SIZE, sizeof got, &e) &&
	      d->download(d, &n, g.bind.base[SP_STAT], 4, &e), "%s: %s", d->name, e.msg);
	int bad = 0;
	for (int i = 0; i < 16; i++)
		bad += got[i] != 32 * h[i / 4 * 4 + (i + 3) % 4]; /* five shifts */
	CHECK_SAYS(!bad, "%s: %d wrong values after a loop%s", d->name, bad, reverse ? " in reverse" : "");
	CHECK_SAYS(n == 3 * STEPS, "%s: counted %d of %d", d->name, n, 3 * STEPS);
	CHECK_SAYS(d->profile(d, exec, 3, t, &e) && t[1].seconds > 0 && t[4].seconds > 0 && t[0].seconds == 0, "%s: profile %g %g %g %s", d->name, t[0].seconds,
	      t[1].seconds, t[4].seconds, e.msg);
	CHECK_SAYS(d->run(d, exec, 1, &e) && d->download(d, got, (char *)g.bind.base[SP_ACT] + 7 * SIZE, sizeof got, &e) && got[0] == 32 * h[3],
	      "%s: after a profile %g, not %g %s", d->name, got[0], 32 * h[3], e.msg);
	d->drop(d, exec);
	prog_free(&g, d);
}

static void
test_transfers(Device *d)
{
	const size_t big = (size_t)9 << 20, small = 1000;
	Err e = {0};
	unsigned char *a = xmalloc(big), *b = xcalloc(big, 1);
	for (size_t i = 0; i < big; i++)
		a[i] = (unsigned char)(i * 7 + i / 251);
	char *p = d->alloc(d, big, "buffer", &e);
	if (CHECK_SAYS(p != NULL, "%s: %s", d->name, e.msg)) {
		CHECK_SAYS(d->upload(d, p, a, big, &e) && d->download(d, b, p, big, &e) && !memcmp(a, b, big), "%s: large transfer %s", d->name, e.msg);
		bool ok = true;
		memset(b, 0, big);
		for (size_t i = 0; ok && i < 3000; i++) /* more than any staging buffer holds */
			ok = d->upload(d, p + i * small, a + i, small, &e);
		ok = ok && d->download(d, b, p, 3000 * small, &e);
		for (size_t i = 0; ok && i < 3000; i++)
			ok = !memcmp(b + i * small, a + i, small);
		CHECK_SAYS(ok, "%s: many small uploads %s", d->name, e.msg);
		ok = true;
		for (size_t i = 0; ok && i < 30; i++) {
			memset(b, 0, small);
			ok = d->download(d, b, p + i * small, small, &e) && !memcmp(b, a + i, small);
		}
		CHECK_SAYS(ok, "%s: small downloads %s", d->name, e.msg);
		CHECK_SAYS(d->upload(d, p, a, 0, &e) && d->download(d, b, p, 0, &e), "%s: empty transfer %s", d->name, e.msg);
	}
	d->release(d, p);
	d->release(d, NULL);
	free(a);
	free(b);
}

static void
test_too_large(Device *d)
{
	Err e = {0};
	size_t avail = 0, total = 0;
	CHECK_SAYS(d->memory(d, &avail, &total, &e) && avail > 0 && avail <= total, "%s: memory %zu of %zu %s", d->name, avail, total, e.msg);
	CHECK_SAYS(!d->alloc(d, (size_t)1 << 50, "activations", &e), "%s: gave a pebibyte", d->name);
	CHECK_MSG(e, "activations needs 1073741824.0 MiB");
	CHECK_MSG(e, "free of");
	CHECK_MSG(e, "lower the batch size");
}

static void
test_device(Device *d)
{
	CHECK_SAYS(d->info[0], "%s says nothing about itself", d->name);
	printf("%s: %s\n", d->name, d->info);
	test_transfers(d);
	test_kernels(d);
	test_loop(d, false);
	test_loop(d, true);
	test_too_large(d);
}

int
main(int argc, char **argv)
{
	on_devices(argc, argv, test_device);
	return check_end();
}
