/* mmrun bench and profile: ceilings, bounds, chains and lives worked out by hand; then by the programs ($MMC, $MMRUN) on small models: what
   the text, the JSON, the page and the trace say agrees, and the page and the trace are well-formed. */
#define _GNU_SOURCE
#include "../runtime/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runtime/html.h"
#include "check_xml.h"

static int passed, failed;
static char dir[] = "/tmp/bench_test_XXXXXX";
static char root[4096], *mmc, *mmrun;

static bool PRINTF(3, 4)
check(bool ok, int line, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	printf("tests/bench_test.c:%d: ", line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return false;
}
#define CHECK(c) check((c), __LINE__, "%s", #c)
#define NEAR(x, y, rel) check(fabs((x) - (y)) <= (rel) * fabs((double)(y)), __LINE__, "%s is %.9g, not %.9g", #x, (double)(x), (double)(y))

/* ---- a device whose speed is known: 1 GB/s up to 1 MB, 0.5 GB/s beyond, 1 TFLOP/s ---- */

static int allocations, refuse;
struct Exec {
	double seconds;
};

static void *
fake_alloc(Device *d, size_t bytes, const char *what, Err *e)
{
	(void)d, (void)what, (void)e;
	allocations++;
	return xcalloc(bytes, 1);
}

static void
fake_release(Device *d, void *p)
{
	(void)d;
	allocations -= p != NULL;
	free(p);
}

static bool
fake_upload(Device *d, void *dst, const void *src, size_t n, Err *e)
{
	(void)d, (void)e;
	memcpy(dst, src, n);
	return true;
}

static Exec *
fake_prepare(Device *d, const PlanTargetset *s, const PlanProgram *p, const Binding *b, Err *e)
{
	const PlanInstr *in = p->instr;
	(void)d;
	if (refuse > 0 && !--refuse) {
		fail(e, "refused");
		return NULL;
	}
	CHECK(!strcmp(s->target, "fake") && p->ninstr == 1 && b->base[SP_ACT] && b->base[SP_WORK]);
	for (uint32_t i = 0; i < in->narg; i++)
		CHECK(in->arg[i].space == SP_ACT && in->arg[i].off + in->arg[i].bytes <= p->act_bytes);
	Exec *x = xcalloc(1, sizeof *x);
	double n = 2.0 * (double)in->arg[0].bytes;
	x->seconds = in->kind == I_COPY ? n / (n <= 1e6 ? 1e9 : 0.5e9) : 2.0 * (double)p->gemm->m * (double)p->gemm->n * (double)p->gemm->k / 1e12;
	return x;
}

static bool
fake_profile(Device *d, Exec *x, int times, InstrTime *t, Err *e)
{
	static int turn; /* the best of several counts: others are slower */
	(void)d, (void)times, (void)e;
	t->seconds = x->seconds * (turn++ % 3 == 1 ? 1 : 1.5);
	return true;
}

static void fake_drop(Device *d, Exec *x) { (void)d; free(x); }
static bool fake_sync(Device *d, Err *e) { (void)d, (void)e; return true; }

static Device fake = {.name = "fake", .alloc = fake_alloc, .release = fake_release, .upload = fake_upload, .prepare = fake_prepare,
                      .profile = fake_profile, .sync = fake_sync, .drop = fake_drop};

static void
test_measure(void)
{
	PlanGemm g[] = {{.dtype = DT_F32, .ctype = DT_F32}, {.dtype = DT_F32, .ctype = DT_F32, .tf32 = 1}, {.dtype = DT_BF16, .ctype = DT_F32},
	                {.dtype = DT_BF16, .ctype = DT_BF16}};
	PlanProgram p = {.gemm = g, .ngemm = LEN(g)}, none = {0};
	Ceilings c = {0}, small = {0}, no = {0}, bad = {0};
	Err e = {0};
	ceilings_want(&c, &p);
	ceilings_want(&c, &p);
	CHECK(c.nrate == 3 && !strcmp(rate_name(&c.rate[0]), "f32") && !strcmp(rate_name(&c.rate[1]), "tf32") && !strcmp(rate_name(&c.rate[2]), "bf16"));
	CHECK(ceilings_measure(&c, &fake, (uint64_t)1 << 40, &e) && !allocations);
	for (int i = 0; i < NCOPY; i++)
		NEAR(c.bandwidth[i], c.bytes[i] <= 1000000 ? 1e9 : 0.5e9, 1e-6);
	for (uint32_t i = 0; i < c.nrate; i++)
		NEAR(c.rate[i].flops, 1e12, 1e-6);
	NEAR(ceilings_bandwidth(&c, 0), 1e9, 1e-6);
	NEAR(ceilings_bandwidth(&c, 1e30), 0.5e9, 1e-6);
	/* less room: the large copies are left out; none: nothing is known, and nothing is allocated */
	ceilings_want(&small, &none);
	CHECK(small.nrate == 1 && ceilings_measure(&small, &fake, ((uint64_t)32 << 20) + 600000, &e));
	CHECK(small.bandwidth[0] > 0 && small.bandwidth[1] > 0 && !(small.bandwidth[2] > 0) && !(small.rate[0].flops > 0));
	NEAR(ceilings_bandwidth(&small, 1e30), 1e9, 1e-6);
	CHECK(ceilings_measure(&no, &fake, 1000, &e) && !(ceilings_bandwidth(&no, 1) > 0) && !e.set);
	for (int turn = 2; turn <= NCOPY + 1; turn += NCOPY - 1, e = (Err){0}) {
		refuse = turn;
		ceilings_want(&bad, &none);
		CHECK(!ceilings_measure(&bad, &fake, (uint64_t)1 << 40, &e) && !strcmp(e.msg, "refused") && !allocations);
	}
	refuse = 0;
}

static char empty[] = "";

static void
test_bounds(void)
{
	PlanGemm g[] = {{.dtype = DT_F32}, {.dtype = DT_BF16}};
	PlanRef ref[] = {{SP_ACT, 0, 1000}, {SP_ACT, 1000, 1000}};
	PlanInstr in[] = {
		{.kind = I_GEMM, .index = 0, .flops = 2e9, .traffic = 10},
		{.kind = I_GEMM, .index = 1, .flops = 2e9, .traffic = 10},
		{.kind = I_KERNEL, .flops = 2e9, .traffic = 10},
		{.kind = I_LOOP, .index = 2, .times = 7},
		{.kind = I_KERNEL, .flops = 1, .traffic = 1e9},
		{.kind = I_COPY, .arg = ref, .narg = 2},
		{.kind = I_ZERO, .arg = ref, .narg = 1},
	};
	PlanProgram p = {.gemm = g, .ngemm = LEN(g), .instr = in, .ninstr = LEN(in)};
	Ceilings c = {.bytes = {100, 1000000, 2000000, 3000000, 4000000}, .bandwidth = {5e9, 2e9, 3e9, 1e9, 1.5e9},
	              .rate = {{DT_F32, DT_F32, 0, 1e9}, {DT_BF16, DT_BF16, 0, 1e10}}, .nrate = 2};
	Cost cost[LEN(in)] = {0};
	ceilings_bound(&c, &p, cost);
	NEAR(cost[0].bound, 2, 1e-9);       /* arithmetic, at the rate of its own precision */
	NEAR(cost[1].bound, 0.2, 1e-9);
	NEAR(cost[2].bound, 0.2, 1e-9);     /* at the best */
	NEAR(cost[4].bound, 7 / 1.5, 1e-9); /* what moves, in each iteration, at the bandwidth of its size */
	NEAR(cost[5].bound, 7 * 2000 / 5e9, 1e-9);
	NEAR(cost[6].bound, 1000 / 5e9, 1e-9);
	CHECK(cost[4].times == 7 && cost[6].times == 1 && !(cost[3].bound > 0));
	NEAR(cost[4].bytes, 7e9, 1e-9);
	NEAR(ceilings_bandwidth(&c, 1500000), 3e9, 1e-9); /* of as much, or more */
}

/* ---- dependencies and memory, by hand ---- */

/* 0 writes a; 1 reads a, writes b; 2 reads b, writes c over the first half of a; 3 reads c and the rest of a; b is an output. */
static void
test_lives(void)
{
	PlanRef ref[] = {{SP_ACT, 0, 100}, {SP_ACT, 100, 100}, {SP_ACT, 0, 50}, {SP_ACT, 50, 50}, {SP_STAT, 0, 4}};
	PlanRef i0[] = {ref[0]}, i1[] = {ref[0], ref[1]}, i2[] = {ref[1], ref[2]}, i3[] = {ref[2], ref[3], ref[4]};
	PlanInstr in[] = {
		{.kind = I_KERNEL, .arg = i0, .narg = 1, .nout = 1, .what = empty, .loc = empty},
		{.kind = I_KERNEL, .arg = i1, .narg = 2, .nout = 1, .what = empty, .loc = empty},
		{.kind = I_KERNEL, .arg = i2, .narg = 2, .nout = 1, .what = empty, .loc = empty},
		{.kind = I_KERNEL, .arg = i3, .narg = 3, .nout = 1, .what = empty, .loc = empty},
	};
	PlanOutput out = {.ref = &ref[1], .nref = 1};
	PlanProgram p = {.instr = in, .ninstr = LEN(in), .output = &out, .noutput = 1, .act_bytes = 200};
	static const Life want[] = {{0, 50, 0, 1}, {50, 100, 0, 3}, {100, 200, 1, 3}, {0, 50, 2, 3}};
	static const uint64_t alive[] = {100, 200, 200, 200};
	uint32_t n;
	Life *l = program_lives(&p, &n);
	if (check(n == LEN(want), __LINE__, "%u lives", n))
		for (uint32_t i = 0; i < n; i++)
			check(l[i].lo == want[i].lo && l[i].hi == want[i].hi && l[i].first == want[i].first && l[i].last == want[i].last, __LINE__,
			      "life %u is [%llu %llu) from %u to %u", i, (unsigned long long)l[i].lo, (unsigned long long)l[i].hi, l[i].first, l[i].last);
	for (uint32_t i = 0; i < LEN(alive); i++)
		check(lives_bytes(l, n, i) == alive[i], __LINE__, "%llu bytes alive at %u", (unsigned long long)lives_bytes(l, n, i), i);
	free(l);
	/* the chain: 0 1 2 3 wait for each other; without 1's reading, 1 is beside 0 */
	double seconds[] = {1, 10, 100, 1000};
	bool on[LEN(in)] = {0}, beside[LEN(in)] = {0};
	Arena a = {0};
	NEAR(longest_chain(&a, &p, seconds, on), 1111, 1e-12);
	CHECK(on[0] && on[1] && on[2] && on[3]);
	i1[0] = ref[4];
	NEAR(longest_chain(&a, &p, seconds, beside), 1110, 1e-12);
	CHECK(!beside[0] && beside[1] && beside[2] && beside[3]);
	arena_free(&a);
}

/* Iterations of a loop touch one part after the other, forwards and back. */
static void
test_loops(void)
{
	Arena a = {0};
	PlanRef arg[] = {{SP_ACT, 90, 10}, {SP_ACT, 100, 10}};
	int64_t step[] = {-10, 20};
	PlanInstr in[] = {{.kind = I_LOOP, .index = 1, .times = 10}, {.kind = I_KERNEL, .arg = arg, .narg = 2, .nout = 1, .step = step, .nstep = 2}};
	PlanProgram p = {.instr = in, .ninstr = LEN(in)}, w = program_widen(&a, &p);
	CHECK(w.instr[1].arg[0].off == 0 && w.instr[1].arg[0].bytes == 100 && w.instr[1].arg[1].off == 100 && w.instr[1].arg[1].bytes == 190);
	CHECK(arg[0].off == 90 && w.instr[0].narg == 0);
	arena_free(&a);
}

static void
test_html(void)
{
	static const struct { double v; const char *s; } si[] = {{0, "0 "}, {1234, "1.23 k"}, {999.7, "1.00 k"}, {3.5e-6, "3.50 \xc2\xb5"}, {45.67e12, "45.7 T"}, {1e-30, "0.00 p"}};
	char buf[32];
	Text t = {0};
	for (size_t i = 0; i < LEN(si); i++)
		check(!strcmp(html_si(buf, si[i].v), si[i].s), __LINE__, "%g is '%s'", si[i].v, html_si(buf, si[i].v));
	NEAR(nice_step(100, 10), 10, 1e-9);
	NEAR(nice_step(0.23, 10), 0.02, 1e-9);
	NEAR(axis_at(&(Axis){1, 1000, 10, 300, true}, 10), 110, 1e-9);
	NEAR(axis_at(&(Axis){0, 4, 100, -100, false}, 1), 75, 1e-9);
	html_text(&t, "<a b=\"c\">&\x01\n");
	CHECK(!strcmp(t.s, "&lt;a b=&quot;c&quot;&gt;&amp;?\n"));
	free(t.s);
}

/* ---- the programs ---- */

static Text output;

static int PRINTF(1, 2)
run(const char *fmt, ...)
{
	char cmd[8192], buf[4096];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(cmd, sizeof cmd - 8, fmt, ap);
	va_end(ap);
	strcpy(cmd + n, " 2>&1");
	FILE *f = popen(cmd, "r");
	output.n = 0;
	text_puts(&output, "");
	while (f && (n = (int)fread(buf, 1, sizeof buf, f)) > 0)
		text_add(&output, buf, (size_t)n);
	int rc = f ? pclose(f) : -1;
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}
#define STATUS(want, ...)                                                                           \
	do {                                                                                        \
		int got_ = run(__VA_ARGS__);                                                        \
		check(got_ == (want), __LINE__, "exit status %d: %s", got_, output.s);              \
	} while (0)
#define SAYS(want) check(strstr(output.s, want) != NULL, __LINE__, "no '%s' in: %s", want, output.s)

/* tests/models/tiny.yaml here, with `from` for `to` in it; its name is one that HTML and JSON must escape. */
static void
write_model(const char *path, const char *from, const char *to)
{
	char *s, *at = NULL, name[4200];
	size_t n;
	Err e = {0};
	Text t = {0};
	snprintf(name, sizeof name, "%s/tests/models/tiny.yaml", root);
	if (!check(read_file(name, &s, &n, &e) && (at = strstr(s, from)), __LINE__, "%s", e.msg))
		return;
	text_add(&t, s, (size_t)(at - s));
	text_puts(&t, to);
	text_puts(&t, at + strlen(from));
	CHECK(write_file_atomic(path, t.s, t.n, 0644, &e));
	free(s);
	free(t.s);
}

static double number(const json_t *j, const char *key) { return json_number_value(json_object_get(j, key)); }

/* What the JSON says adds up. Returns the number of instructions. */
static size_t
check_json(const json_t *j)
{
	const json_t *list = json_object_get(j, "instrs"), *in;
	double sum = 0, bound = 0;
	size_t i;
	json_array_foreach(list, i, in) {
		sum += number(in, "seconds");
		bound += number(in, "bound_seconds");
		double s = number(in, "seconds");
		CHECK(json_string_value(json_object_get(in, "what")) && json_string_value(json_object_get(in, "loc")) && number(in, "times") >= 1);
		if (s > 0)
			NEAR(number(in, "achieved"), number(in, "bound_seconds") / s, 1e-6);
	}
	NEAR(number(j, "sum_seconds"), sum, 1e-6);
	NEAR(number(j, "bound_sum_seconds"), bound, 1e-6);
	CHECK(bound > 0 && number(j, "chain_seconds") > 0 && number(j, "chain_seconds") <= sum * (1 + 1e-9));
	CHECK(number(j, "bound_chain_seconds") > 0 && number(j, "bound_chain_seconds") <= bound * (1 + 1e-9));
	CHECK(number(json_object_get(j, "memory"), "activations") == number(j, "act_bytes") || number(json_object_get(j, "memory"), "act") == number(j, "act_bytes"));
	return json_array_size(list);
}

/* The line of ratios is that of the medians and of the memory. */
static void
check_pair(const json_t *j)
{
	const json_t *vs = json_object_get(j, "vs");
	double ms, rows, act, memory;
	const char *line = strstr(output.s, "second over first");
	while (line && line > output.s && line[-1] != '\n')
		line--;
	if (!check(line && sscanf(line, " %lfx %lfx %lfx %lfx", &ms, &rows, &act, &memory) == 4, __LINE__, "no line of ratios in: %s", output.s))
		return;
	CHECK(fabs(ms - number(vs, "ms") / number(j, "ms")) < 2e-3 * ms + 1e-3 && fabs(ms * rows - 1) < 0.02);
	CHECK(fabs(act - number(vs, "act_bytes") / number(j, "act_bytes")) < 1e-3 && act > 1 && memory >= 1);
}

static size_t
count(const char *s, const char *what)
{
	size_t n = 0;
	for (; (s = strstr(s, what)); s++)
		n++;
	return n;
}

/* Sum of the widths of a figure's rectangles of full height, pixels. */
static double
widths(const char *page, const char *id)
{
	double sum = 0, w;
	const char *s = strstr(page, id), *end = s ? strstr(s, "</svg>") : NULL;
	for (; s && (s = strstr(s, "<rect class=\"shade")) && s < end; s++)
		if (CHECK(sscanf(strstr(s, "width=\""), "width=\"%lf\"", &w) == 1))
			sum += w;
	return sum;
}

static void
check_points(const char *path, const char *kind)
{
	char *s = NULL, point[64];
	size_t n;
	Err e = {0};
	snprintf(point, sizeof point, "<circle class=\"%s\"", kind);
	if (check(read_file(path, &s, &n, &e), __LINE__, "%s", e.msg))
		check(strstr(s, point) != NULL, __LINE__, "%s: no %s", path, point);
	free(s);
}

static void
check_page(const char *path, size_t ninstr, size_t nloop)
{
	static const char doctype[] = "<!DOCTYPE html>\n";
	static const char *const parts[] = {"<svg id=\"timeline\"", "<svg id=\"roofline\"", "<svg id=\"map\"", "<table id=\"instrs\"", "id=\"memory\"", "id=\"ceilings\"",
	                                    "prefers-color-scheme:dark", "&lt;a&gt; &amp; b.yaml:", "<circle class=\"kernel\"", "f32 product"};
	char *s = NULL;
	size_t n;
	Err e = {0};
	if (!check(read_file(path, &s, &n, &e), __LINE__, "%s", e.msg))
		return;
	CHECK(!strncmp(s, doctype, strlen(doctype)) && xml_element(s + strlen(doctype)));
	CHECK(!strstr(s, "http") && !strstr(s, "url(") && !strstr(s, "@import") && !strstr(s, " src=") && !strstr(s, "nan") && !strstr(s, "inf\""));
	for (size_t i = 0; i < LEN(parts); i++)
		check(strstr(s, parts[i]) != NULL, __LINE__, "%s: no %s", path, parts[i]);
	CHECK(count(s, "<tr data-i=") == ninstr && count(s, "<rect class=\"shade") == ninstr - nloop);
	double w = widths(s, "id=\"timeline\"");
	check(w > 1130 && w < 1150 + 0.4 * (double)ninstr, __LINE__, "the timeline is %g pixels long", w); /* none is narrower than 0.4 */
	free(s);
}

static void
check_trace(const char *path)
{
	json_t *j = json_load_file(path, 0, NULL), *e;
	const json_t *list = json_object_get(j, "traceEvents"), *other = json_object_get(j, "otherData");
	static const char *const total[] = {NULL, "step us", "instructions us", "longest chain us"};
	double end[4] = {0}, sum[4] = {0}, most = 0;
	size_t i, spans = 0, names = 0;
	if (!CHECK(json_is_array(list)))
		return;
	json_array_foreach(list, i, e) {
		const char *ph = json_string_value(json_object_get(e, "ph"));
		int tid = (int)number(e, "tid");
		json_t *args = json_object_get(e, "args");
		names += !strcmp(ph, "M") && strstr(json_string_value(json_object_get(e, "name")), "_name");
		if (!strcmp(ph, "C") && !strcmp(json_string_value(json_object_get(e, "name")), "live activations"))
			most = fmax(most, number(args, "bytes"));
		if (strcmp(ph, "X"))
			continue;
		spans++;
		if (!CHECK(tid >= 1 && tid <= 3 && json_is_object(args) && json_string_value(json_object_get(e, "name"))))
			continue;
		check(number(e, "ts") >= end[tid] - 1e-6 && number(e, "dur") >= 0, __LINE__, "event %zu begins at %g, before %g", i, number(e, "ts"), end[tid]);
		end[tid] = number(e, "ts") + number(e, "dur");
		sum[tid] += number(e, "dur");
		if (tid > 1)
			CHECK(json_is_number(json_object_get(args, "bytes")) && json_is_number(json_object_get(args, "flop")) && json_is_string(json_object_get(args, "where")));
	}
	CHECK(spans > 10 && names == 4 && most > 0);
	for (int k = 1; k <= 3; k++)
		check(fabs(sum[k] - number(other, total[k])) < 0.01 + 1e-3 * (double)spans && sum[k] > 0, __LINE__, "track %d: %g us, not %g", k, sum[k],
		      number(other, total[k]));
	json_decref(j);
}

#define MODEL "<a> & b.yaml"

static void
test_programs(void)
{
	static const char bench[] = "'%s' bench one.bin --device cpu --synthetic --rows 256 --windows 1 ";
	char cmd[4300];
	write_model(MODEL, "model: tiny", "model: tiny");
	snprintf(cmd, sizeof cmd, bench, mmrun);
	STATUS(0, "'%s' '%s' --target cpu -o one.bin", mmc, MODEL);
	STATUS(0, "'%s' '%s' --target cpu --no-fuse --no-reuse -o two.bin", mmc, MODEL);
	STATUS(0, "%s --vs two.bin --json pair.json --html page.html", cmd);
	SAYS("ceiling copy of ");
	SAYS("bound   ");
	json_t *j = json_load_file("pair.json", 0, NULL);
	size_t n = check_json(j);
	CHECK(check_json(json_object_get(j, "vs")) > n);
	check_pair(j);
	CHECK(json_array_size(json_object_get(json_object_get(j, "ceilings"), "copies")) == NCOPY);
	CHECK(number(json_array_get(json_object_get(json_object_get(j, "ceilings"), "products"), 0), "flops_per_second") > 1e8);
	check_page("page.html", n, 0);
	STATUS(0, "'%s' bench two.bin --device cpu --synthetic --rows 256 --windows 1 --html calls.html", mmrun);
	check_points("calls.html", "gemm"); /* not fused, products are calls of a library */
	json_decref(j);
	STATUS(0, "'%s' profile one.bin --device cpu --synthetic --rows 256 --windows 1 -o trace.json", mmrun);
	check_trace("trace.json");
	STATUS(2, "%s --vs absent.bin", cmd);
	SAYS("absent.bin");
	STATUS(2, "%s --html nowhere/page.html", cmd);
	SAYS("nowhere");
	STATUS(2, "'%s' profile one.bin --device cpu --synthetic --windows 1 -o nowhere/trace.json", mmrun);
	SAYS("nowhere");
	STATUS(2, "'%s' profile one.bin --device cpu --program train --batch 63", mmrun);
	STATUS(2, "%s --memory-limit 1K", cmd);
	SAYS("--memory-limit allows 1024");
}

/* A recurrent layer is a loop in the plan; predictions are outputs, kept to the end. */
static void
test_recurrent(void)
{
	write_model(MODEL, "masked_mean(caption != 0)", "lstm(8) |> mean(t)");
	STATUS(0, "'%s' '%s' --target cpu -o loop.bin", mmc, MODEL);
	STATUS(0, "'%s' bench loop.bin --device cpu --synthetic --rows 256 --windows 1 --json loop.json --html loop.html", mmrun);
	json_t *j = json_load_file("loop.json", 0, NULL);
	size_t loops = 0, inside = 0, i, n = check_json(j);
	json_t *in;
	json_array_foreach(json_object_get(j, "instrs"), i, in) {
		bool loop = !strcmp(json_string_value(json_object_get(in, "kind")), "loop");
		loops += loop;
		inside += !loop && number(in, "times") == 8;
	}
	CHECK(loops == 2 && inside > loops);
	check_page("loop.html", n, loops);
	json_decref(j);
	STATUS(0, "'%s' profile loop.bin --device cpu --program eval --synthetic --rows 256 --windows 1", mmrun);
	check_trace("trace.json");
}

static char *
program(const char *variable, const char *other)
{
	char *path = realpath(getenv(variable) ? getenv(variable) : other, NULL);
	if (!path)
		printf("%s: no such program\n", other);
	return path;
}

int
main(void)
{
	setlinebuf(stdout);
	mmc = program("MMC", "./mmc");
	mmrun = program("MMRUN", "./mmrun");
	if (!mmc || !mmrun || !getcwd(root, sizeof root) || !mkdtemp(dir) || chdir(dir)) {
		puts("0 passed, 1 failed");
		return 1;
	}
	char ops[4200];
	snprintf(ops, sizeof ops, "%s/ops", root);
	setenv("MMC_OPS", ops, 0);
	setenv("MMC_CACHE", dir, 0);
	test_measure();
	test_bounds();
	test_lives();
	test_loops();
	test_html();
	test_programs();
	test_recurrent();
	if (!failed)
		run("rm -rf '%s'", dir);
	free(output.s);
	free(mmc);
	free(mmrun);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
