/* The plan file: round trip, damage, and one test for each rule of the verifier.
   With the argument `bench`: seconds to load a plan of 5 MB. */
#define _GNU_SOURCE
#include "../runtime/plan.h"
#include "../runtime/plan_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int passed, failed;

static bool
check(bool ok, int line, const char *fmt, ...)
{
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	va_list ap;
	va_start(ap, fmt);
	printf("%s:%d: ", __FILE__, line);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	return false;
}
#define CHECK(x) check((x), __LINE__, "%s", #x)

static uint64_t rng = 1;

static uint32_t
next_random(void) /* xorshift64* */
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dull) >> 32);
}

/* ---- a plan with every field set, through the table ---- */

static void
fill_record(Arena *a, const Record *r, char *p)
{
	for (const Field *f = r->field; f < r->field + r->nfield; f++) {
		uint64_t v = (uint64_t)next_random() << 32 | next_random();
		double x = (double)(int32_t)next_random() / 7;
		uint32_t w = next_random(), n = f->kind > K_STR ? w % 3 : 0;
		char *s = arena_printf(a, "%s \xc3\xa9 %u", f->name, w), *list = n ? arena_alloc(a, n * field_element(f)) : NULL;
		if (f->kind == K_U32)
			memcpy(p + f->at, &w, sizeof w);
		else if (f->kind == K_U64 || f->kind == K_I64)
			memcpy(p + f->at, &v, sizeof v);
		else if (f->kind == K_F64)
			memcpy(p + f->at, &x, sizeof x);
		else if (f->kind == K_STR)
			memcpy(p + f->at, &s, sizeof s);
		if (f->kind <= K_STR)
			continue;
		memcpy(p + f->at, &list, sizeof list);
		memcpy(p + f->count, &n, sizeof n);
		for (uint32_t i = 0; i < n; i++) {
			char *e = list + i * field_element(f);
			if (f->kind == K_LIST)
				fill_record(a, f->record(), e);
			else if (f->kind == K_STRS)
				memcpy(e, &s, sizeof s);
			else
				memcpy(e, &v, field_element(f));
		}
	}
}

static bool
same_record(const Record *r, const char *p, const char *q)
{
	static const size_t bytes[] = {[K_U32] = 4, [K_U64] = 8, [K_I64] = 8, [K_F64] = 8};
	for (const Field *f = r->field; f < r->field + r->nfield; f++) {
		if (f->kind < K_STR) {
			if (memcmp(p + f->at, q + f->at, bytes[f->kind]))
				return false;
			continue;
		}
		const char *x = field_pointer(f, p), *y = field_pointer(f, q);
		if (f->kind == K_STR) {
			if (strcmp(x, y))
				return false;
			continue;
		}
		uint32_t n = field_count(f, p);
		if (n != field_count(f, q))
			return false;
		for (uint32_t i = 0; i < n; i++) {
			size_t at = i * field_element(f);
			bool same = f->kind == K_LIST   ? same_record(f->record(), x + at, y + at)
			            : f->kind == K_STRS ? !strcmp(((char *const *)(const void *)x)[i], ((char *const *)(const void *)y)[i])
			                                : !memcmp(x + at, y + at, field_element(f));
			if (!same)
				return false;
		}
	}
	return true;
}

static void
test_round_trip(void)
{
	for (int k = 0; k < 20; k++) {
		Arena a = {0};
		Err e = {0};
		Plan p = {0}, *q;
		Text one = {0}, two = {0}, again = {0};
		fill_record(&a, plan_record(), (char *)&p);
		plan_encode(&p, &one);
		text_puts(&again, "before");
		plan_encode(&p, &again);
		CHECK(again.n == one.n + 6 && !memcmp(again.s + 6, one.s, one.n));
		q = plan_decode(&a, one.s, one.n, &e);
		if (check(q, __LINE__, "decode: %s", e.msg)) {
			plan_encode(q, &two);
			CHECK(one.n == two.n && !memcmp(one.s, two.s, one.n));
			CHECK(same_record(plan_record(), (const char *)&p, (const char *)q));
			e.set = false;
			plan_verify(q, &e); /* values are random: it only must not crash */
			char *s = NULL;
			size_t n = 0;
			FILE *f = open_memstream(&s, &n);
			plan_print(q, f);
			fclose(f);
			CHECK(strstr(s, "model: \"model \xc3\xa9") && strstr(s, "param_bytes: "));
			free(s);
		}
		free(one.s);
		free(two.s);
		free(again.s);
		arena_free(&a);
	}
}

/* ---- a small sound plan ---- */

#define LIST(a, p, field, ...)                                                                      \
	do {                                                                                        \
		__typeof__(*(p)->field) row_[] = {__VA_ARGS__};                                     \
		(p)->field = arena_alloc((a), sizeof row_);                                         \
		memcpy((p)->field, row_, sizeof row_);                                              \
		(p)->n##field = LEN(row_);                                                          \
	} while (0)

/* NULL strings of a record and of all below it become "". */
static void
fill_strings(Arena *a, const Record *r, char *p)
{
	for (const Field *f = r->field; f < r->field + r->nfield; f++) {
		char *s = arena_strdup(a, ""), *v = f->kind >= K_STR ? (char *)field_pointer(f, p) : NULL;
		if (f->kind == K_STR && !v)
			memcpy(p + f->at, &s, sizeof s);
		for (uint32_t i = 0; f->kind == K_LIST && i < field_count(f, p); i++)
			fill_strings(a, f->record(), v + i * field_element(f));
	}
}

static Plan *
make_plan(Arena *a)
{
	Plan *p = arena_alloc(a, sizeof *p);
	p->model = "engagement", p->source = "text", p->source_path = "m.yaml", p->compiler = "mmc", p->graph = "g";
	LIST(a, p, data, {.rows = "Posts", .group = "Username", .train = 0.8, .val = 0.1, .test = 0.1, .base = "."});
	LIST(a, p->data, table, {.name = "Posts", .path = "Posts.csv"}, {.name = "Users", .path = "Users.csv"});
	LIST(a, p->data, input, {.name = "length", .from = "l", .scale = SC_LOG1P | SC_ZSCORE, .width = 1},
	     {.name = "caption", .kind = IN_TEXT, .width = 8, .size = 100, .ids = 1});
	LIST(a, p->data, target, {.name = "viral", .kind = TG_BINARY, .above = AB_QUANTILE, .threshold = 0.9});
	LIST(a, p, train, {.epochs = 2, .batch = 4, .accumulate = 1, .patience = 1, .log_steps = 4});
	LIST(a, p->train, losses, "loss", "viral");
	LIST(a, p, state, {.name = "dense.w", .space = SP_PARAM, .off = 0, .init = INIT_NORMAL, .b = 0.02},
	     {.name = "dense.b", .space = SP_PARAM, .off = 128}, {.name = "run.step", .dtype = DT_I32, .space = SP_STAT},
	     {.name = "run.log", .space = SP_STAT, .off = 16});
	LIST(a, &p->state[0], dim, 4, 8);
	LIST(a, &p->state[1], dim, 8);
	LIST(a, &p->state[3], dim, 4, 2);
	p->param_bytes = 160, p->stat_bytes = 48;

	LIST(a, p, set, {.target = "cuda"}, {.target = "cpu"});
	LIST(a, &p->set[0], module, {.source = "__global__ void gather() {}"});
	LIST(a, p->set[0].module, cubin, {.arch = "sm_90"});
	LIST(a, p->set[0].module->cubin, code, 1, 2, 3);
	LIST(a, &p->set[0], program, {.name = "train", .batch = 4, .act_bytes = 400, .act_bound = 400, .work_bytes = 16});
	LIST(a, &p->set[1], program, {.name = "eval", .batch = 4, .act_bytes = 400, .act_bound = 320}, {.name = "eval", .batch = 8});
	PlanProgram *g = p->set[0].program;
	LIST(a, g, kernel, {.name = "gather", .grid = 1, .block = 128}, {.name = "loss_2", .grid = 2, .block = 1024, .smem = 4096});
	LIST(a, g, gemm, {.m = 4, .n = 8, .k = 4, .ars = 4, .acs = 1, .brs = 8, .bcs = 1, .crs = 8, .batch0 = 1, .batch1 = 1,
	                  .alpha = 1, .epilogue = EPI_BIAS | EPI_RELU});
	LIST(a, g, instr, {.kind = I_KERNEL, .index = 0, .nout = 1, .what = "gather", .loc = "m.yaml:3:4"},
	     {.kind = I_GEMM, .index = 0, .nout = 1, .what = "dense", .loc = "m.yaml:5:6"},
	     {.kind = I_COPY, .nout = 1, .what = "copy", .loc = "m.yaml:7:8"}, {.kind = I_ZERO, .nout = 1, .what = "zero"},
	     {.kind = I_KERNEL, .index = 1, .nout = 2, .what = "mean+log", .loc = "m.yaml:9:10"});
	LIST(a, &g->instr[0], arg, {SP_DATA, 0, 4}, {SP_DATA, 1, 32}, {SP_DATA, 2, 4}, {SP_ACT, 0, 64});
	LIST(a, &g->instr[1], arg, {SP_ACT, 0, 64}, {SP_PARAM, 0, 128}, {SP_ACT, 128, 128}, {SP_PARAM, 128, 32});
	LIST(a, &g->instr[2], arg, {SP_ACT, 256, 128}, {SP_ACT, 128, 128});
	LIST(a, &g->instr[3], arg, {SP_ACT, 0, 128});
	LIST(a, &g->instr[4], arg, {SP_ACT, 256, 128}, {SP_ACT, 64, 32}, {SP_WORK, 0, 16}, {SP_ACT, 384, 16}, {SP_STAT, 16, 32});
	LIST(a, g, output, {.name = "viral", .role = "prediction"}, {.name = "viral", .role = "loss"});
	for (int i = 0; i < 2; i++) {
		LIST(a, &g->output[i], dim, 4);
		LIST(a, &g->output[i], ref, {SP_ACT, 384, 16});
	}
	PlanProgram *l = p->set[1].program; /* a loop: h[i + 1] = h[i] w, with h in [0, 256) and what is between in [256, 320) */
	LIST(a, l, gemm, {.m = 4, .n = 4, .k = 4, .ars = 4, .acs = 1, .brs = 4, .bcs = 1, .crs = 4, .batch0 = 1, .batch1 = 1, .alpha = 1});
	LIST(a, l, instr, {.kind = I_ZERO, .nout = 1, .what = "zero"}, {.kind = I_LOOP, .index = 2, .times = 3, .what = "loop"},
	     {.kind = I_GEMM, .nout = 1, .what = "dot", .loc = "m.yaml:3:4"}, {.kind = I_COPY, .nout = 1, .what = "copy"}, {.kind = I_COPY, .nout = 1, .what = "all"});
	LIST(a, &l->instr[0], arg, {SP_ACT, 0, 64});
	LIST(a, &l->instr[2], arg, {SP_ACT, 0, 64}, {SP_PARAM, 0, 64}, {SP_ACT, 256, 64});
	LIST(a, &l->instr[2], step, 64, 0, 0);
	LIST(a, &l->instr[3], arg, {SP_ACT, 64, 64}, {SP_ACT, 256, 64});
	LIST(a, &l->instr[3], step, 64, 0);
	LIST(a, &l->instr[4], arg, {SP_PARAM, 0, 128}, {SP_ACT, 128, 128});
	fill_strings(a, plan_record(), (char *)p);
	return p;
}

/* ---- damage ---- */

static void
set_header(char *file, size_t n) /* as if the payload had been written so */
{
	uint64_t head[2] = {n - 32, plan_checksum((uint8_t *)file + 32, n - 32)};
	for (int i = 0; i < 16; i++)
		file[16 + i] = (char)(head[i / 8] >> i % 8 * 8);
}

/* Whatever the bytes are, decoding ends well: with a message, or with a plan that encodes to them again. */
static bool
survives(const char *file, size_t n)
{
	Arena a = {0};
	Err e = {0};
	char *copy = xmalloc(n); /* an own block, so that the sanitizer sees its end */
	memcpy(copy, file, n);
	Plan *p = plan_decode(&a, copy, n, &e);
	bool ok = p ? !e.set : e.set && *e.msg;
	if (p) {
		Text t = {0};
		plan_encode(p, &t);
		ok &= t.n == n && !memcmp(t.s, file, n);
		free(t.s);
		ok &= plan_verify(p, &e) == !e.set;
	}
	free(copy);
	arena_free(&a);
	return ok;
}

static bool
decodes(const char *file, size_t n, Err *e)
{
	Arena a = {0};
	*e = (Err){0};
	bool ok = plan_decode(&a, file, n, e);
	arena_free(&a);
	return ok;
}

static void
test_damage(const char *file, size_t n)
{
	Err e;
	char *bad = xmalloc(n + 1);
	size_t accepted = 0, wrong = 0;
	CHECK(decodes(file, n, &e));
	for (size_t i = 0; i < n; i++) {
		accepted += decodes(file, i, &e);
		memcpy(bad, file, n);
		for (unsigned x = 1; x < 256; x++) {
			bad[i] = (char)(file[i] ^ x);
			accepted += decodes(bad, n, &e);
		}
	}
	check(!accepted, __LINE__, "%zu damaged plans of %zu bytes were accepted", accepted, n);

	memcpy(bad, file, n);
	bad[n] = 0;
	CHECK(!decodes(bad, n + 1, &e) && strstr(e.msg, "followed by other bytes"));
	set_header(bad, n + 1);
	CHECK(!decodes(bad, n + 1, &e) && strstr(e.msg, "bytes follow the last field"));
	CHECK(!decodes(file, n - 1, &e) && strstr(e.msg, "cut off"));
	memcpy(bad, file, n);
	bad[8] = 9;
	CHECK(!decodes(bad, n, &e) &&
	      !strcmp(e.msg, "plan was written by format version 9, this mmrun reads 6: compile the model again"));
	CHECK(!decodes("not a plan", 10, &e) && strstr(e.msg, "not a plan"));

	/* The same behind a checksum that fits: now the decoder's own bounds and the verifier stand alone. */
	for (size_t i = 32; i < n; i++) {
		memcpy(bad, file, n);
		if (i < n) {
			set_header(bad, i);
			wrong += decodes(bad, i, &e) || !survives(bad, i);
		}
		for (unsigned x = 1; x < 256; x = x * 2 + 1) {
			memcpy(bad, file, n);
			bad[i] = (char)(file[i] ^ x);
			set_header(bad, n);
			wrong += !survives(bad, n);
		}
	}
	check(!wrong, __LINE__, "%zu changed plans: wrong", wrong);
	free(bad);
}

static void
test_garbage(const char *file, size_t n)
{
	char *bad = xmalloc(n);
	size_t wrong = 0;
	for (int k = 0; k < 5000; k++) {
		memcpy(bad, file, n);
		size_t from = k % 2 ? 32 : 32 + next_random() % (n - 32), to = from + next_random() % (n - from);
		for (size_t i = from; i < to; i++) /* mostly small numbers: these get further */
			bad[i] = (char)(next_random() % 4 ? 0 : next_random() % 8 ? next_random() % 4 : next_random());
		set_header(bad, n);
		wrong += !survives(bad, n);
	}
	check(!wrong, __LINE__, "%zu random plans: wrong", wrong);
	free(bad);
}

static void
test_strings(void)
{
	static const struct {
		const char *s;
		size_t n;
		bool ok;
	} row[] = {
		{"plain ascii text, long", 22, true}, {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, true}, {"12345678\xc3\xa9", 10, true},
		{"nul\0inside a longer one", 23, false}, {"12345678901234\0", 15, false}, {"\xc3", 1, false}, {"\xc0\x80", 2, false},
		{"\xe0\x80\x80", 3, false}, {"\xed\xa0\x80", 3, false}, {"\xf4\x90\x80\x80", 4, false}, {"\x80", 1, false},
		{"\xff", 1, false}, {"1234567\x80", 8, false}, {"\xc3(", 2, false}, {"\xf8\x88\x80\x80\x80", 5, false},
	};
	for (size_t i = 0; i < LEN(row); i++)
		check(utf8_valid(row[i].s, row[i].n) == row[i].ok, __LINE__, "utf8 row %zu", i);
}

/* ---- the verifier: each rule broken once ---- */

static void
expect(const Plan *p, const char *want, int line)
{
	Err e = {0};
	bool ok = plan_verify(p, &e);
	if (!want)
		check(ok, line, "sound plan refused: %s", e.msg);
	else
		check(!ok && strstr(e.msg, want), line, "expected \"%s\", got \"%s\"", want, e.msg);
}

/* Makes the sound plan, runs the statement on it, and expects the message. */
#define BREAK(want, ...)                                                                            \
	do {                                                                                        \
		Arena a_ = {0}, *a = &a_;                                                           \
		Plan *p = make_plan(a);                                                             \
		PlanProgram *g = p->set[0].program;                                                 \
		PlanInstr *in = g->instr;                                                           \
		(void)a, (void)in;                                                                  \
		__VA_ARGS__;                                                                        \
		expect(p, (want), __LINE__);                                                        \
		arena_free(a);                                                                      \
	} while (0)

static void
test_fields(void)
{
	BREAK(NULL, (void)0);
	BREAK("data[0].input[1].kind is 6: known are 0 number 1 category", p->data->input[1].kind = 6);
	BREAK("input caption: 0 axes of 1 elements, the width is 8", p->data->input[1].kind = IN_TENSOR);
	BREAK("input[0].scale is 16", p->data->input[0].scale = 16);
	BREAK("both zscore and minmax", p->data->input[0].scale = SC_ZSCORE | SC_MINMAX);
	BREAK("missing is 6", p->data->input[0].missing = 6);
	BREAK("ids is 3", p->data->input[0].ids = 3);
	BREAK("target[0].kind is 6", p->data->target[0].kind = 6);
	BREAK("target viral: 0 classes", p->data->target[0].kind = TG_CLASS);
	BREAK("table[1].kind is 15", p->data->table[1].kind = NTABLE);
	BREAK("table[1].damaged is 2", p->data->table[1].damaged = 2);
	BREAK("table Users: its files have no tensor of this shape", p->data->table[1].kind = TB_ARRAYS);
	BREAK("table Users: its files have no tensor of this shape", p->data->table[1].kind = TB_IMAGES; LIST(a, &p->data->table[1], shape, {.name = "", .dtype = DT_U8}));
	BREAK("input caption: what stands in for a missing tensor is 2", p->data->input[1].kind = IN_SEQUENCE; p->data->input[1].size = 256; p->data->input[1].missing = MISS_MEAN);
	BREAK("table Users: windows of 0", p->data->table[1].kind = TB_BYTES);
	BREAK("split: fold 0 of 3", p->data->folds = 3);
	BREAK("above is 3", p->data->target[0].above = 3);
	BREAK("state[2].dtype is 7", p->state[2].dtype = NDTYPE);
	BREAK("state[0].space is 3", p->state[0].space = SP_ACT);
	BREAK("init is 4", p->state[0].init = 4);
	BREAK("set[0].program[0].instr[1].arg[3].space is 6", in[1].arg[3].space = NSPACE);
	BREAK("tf32 is 2", g->gemm->tf32 = 2);
	BREAK("epilogue is 8", g->gemm->epilogue = 8);
	BREAK("instr[0].kind is 5", in[0].kind = 5);
	BREAK("output[0].dtype is 99", g->output->dtype = 99);
	BREAK("maximize is 2", p->train->maximize = 2);
	BREAK("instr[0].what is not set", in[0].what = NULL);
	BREAK("losses is not set", p->train->losses[1] = NULL);
	BREAK("model is not UTF-8", p->model = "\xff");
	BREAK("state has a count but no elements", p->state = NULL);
}

static void
test_sections(void)
{
	BREAK("more than one data", p->ndata = 2; LIST(a, p, data, p->data[0], p->data[0]));
	BREAK("do not sum to 1", p->data->train = 0.5);
	BREAK("do not sum to 1", p->data->train = 0.0 / 0.0);
	BREAK("input length: width is 0", p->data->input[0].width = 0);
	BREAK("input caption: size is 0", p->data->input[1].size = 0);
	BREAK("quantile is 1.5", p->data->target[0].threshold = 1.5);
	BREAK("two tables are named Users", p->data->table[0].name = "Users");
	BREAK("two inputs are named length", p->data->input[1].name = "length");
	BREAK("a target has no name", p->data->target[0].name = "");

	BREAK("two states are named dense.b", p->state[0].name = "dense.b");
	BREAK("state dense.w: a dimension is not positive", p->state[0].dim[1] = 0);
	BREAK("state dense.w: a dimension is not positive", p->state[0].dim[1] = -8);
	BREAK("tensor too large", p->state[0].dim[0] = INT64_MAX);
	BREAK("tensor too large", p->state[0].dim[0] = INT64_MAX / 16);
	BREAK("state dense.b: offset 130 is not aligned to f32", p->state[1].off = 130);
	BREAK("state dense.b: 32 bytes at 132 reach past the 160 of space param", p->state[1].off = 132);
	BREAK("reach past", p->state[1].off = UINT64_MAX - 3);
	BREAK("states dense.w and dense.b overlap in space param", p->state[1].off = 124);
	BREAK(NULL, p->state[1].off = 124; p->state[1].space = SP_OPT; p->opt_bytes = 156; in[1].arg[3] = (PlanRef){SP_OPT, 124, 32});
	BREAK("fitted from the data (viral.positive_weight) but not a scalar", p->state[1].fit = "viral.positive_weight");
	BREAK("a space is larger than any memory", p->opt_bytes = 1ull << 63);

	BREAK("training: epochs -1", p->train->epochs = -1);
	BREAK("batch 0", p->train->batch = 0);
	BREAK("accumulate 0", p->train->accumulate = 0);
	BREAK("losses 0", p->train->nlosses = 0);
	BREAK("factor 1, patience 0", p->train->plateau_on = "val.loss", p->train->plateau_factor = 1);
	BREAK("a mean of dense.w, but not among the parameters", p->state[2].like = "dense.w");
	BREAK("state run.log is not f32 [4, 2]", p->state[3].dim[1] = 1);
	BREAK("two target sets are named cuda", p->set[1].target = "cuda");
	BREAK("two programs are named eval (batch 4)", p->set[1].program[1].batch = 4);
}

static void
test_programs(void)
{
	BREAK("a program needs a name", g->name = "");
	BREAK("a program needs a name and a batch", g->batch = 0);
	BREAK("lower bound 401", g->act_bound = 401);
	BREAK("401 bytes are kept of an arena of 400", g->kept_bytes = 401);
	BREAK(NULL, g->kept_bytes = 400; in[4].arg[3].off = 128); /* kept: there before the first instruction */
	BREAK("output viral reads act bytes 388 .. 400, which no", g->kept_bytes = 388; in[4].arg[3].off = 128);
	BREAK(NULL, g->output[0].role = "place");
	BREAK("kernel name \"2x\" is not a C identifier", g->kernel[1].name = "2x");
	BREAK("kernel name \"a-b\" is not", g->kernel[1].name = "a-b");
	BREAK("kernel name \"\" is not", g->kernel[1].name = "");
	BREAK("kernel gather is in module 1 of 1", g->kernel[0].module = 1);
	BREAK("grid 0, block 128", g->kernel[0].grid = 0);
	BREAK("block 1025", g->kernel[0].block = 1025);
	BREAK("block 0", g->kernel[0].block = 0);
	BREAK("shared memory 232449", g->kernel[0].smem = 232449);

	BREAK("cuda program train (batch 4), instruction 4 (mean+log, m.yaml:9:10): kernel 2 of 2", in[4].index = 2);
	BREAK("gemm 1 of 1", in[1].index = 1);
	BREAK("6 of 5 arguments are written", in[4].nout = 6);
	BREAK("argument 5: 32 bytes at 17 reach past the 48 of space stat", in[4].arg[4].off = 17);
	BREAK("argument 3: 16 bytes at 1 reach past the 16 of space work", in[4].arg[2].off = 1);
	BREAK("reach past the 400 of space act", in[4].arg[3].bytes = UINT64_MAX - 16);
	BREAK("data column 3 of 3", in[0].arg[2].off = 3);
	BREAK("takes 36 bytes a row of data column 1, which has 32", in[0].arg[1].bytes = 36);
	BREAK("argument 4 is written but lies in the data", in[0].arg[3] = (PlanRef){SP_DATA, 0, 4});
	BREAK("data column 0 of 0", p->ndata = 0);
	BREAK("1 arguments, not 2", in[2].narg = 1);
	BREAK("2 arguments, not 1", in[3].kind = I_COPY; in[3].kind = I_ZERO; in[3].narg = 2; in[3].arg = in[2].arg);
	BREAK("copies 128 bytes to 124", in[2].arg[0].bytes = 124);
	BREAK("overlapping bytes of space act", in[2].arg[0].off = 200);
	BREAK("copies from the data", in[2].arg[1] = (PlanRef){SP_DATA, 0, 4});

	BREAK("output viral: 0 references", g->output[0].nref = 0);
	BREAK("its dimensions make 12 bytes", g->output[0].dim[0] = 3);
	BREAK("a prediction of 3 elements", g->output[0].dim[0] = 3; g->output[0].ref->bytes = 12);
	BREAK("output viral: 16 bytes at 388 reach past", g->output[0].ref->off = 388);
	BREAK("output viral lies in the data", g->output[0].ref->space = SP_DATA);
	BREAK("role \"guess\" is not prediction", g->output[0].role = "guess");
	BREAK("predicts a target that the data does not have", g->output[0].name = "engagement");
	BREAK("two outputs are named viral (loss)", g->output[0].role = "loss");
	BREAK("output viral reads act bytes 384 .. 400, which no", in[4].arg[3].off = 128);
}

static void
test_gemm(void)
{
	PlanGemm *m;
	BREAK("a size is 0", g->gemm->m = 0);
	BREAK("a size is -1", g->gemm->batch1 = -1);
	BREAK("a size is 2147483648", g->gemm->k = 1ll << 31);
	BREAK("gemm: of i32 to f32", g->gemm->dtype = DT_I32);
	BREAK("both relu and gelu", g->gemm->epilogue = EPI_BIAS | EPI_RELU | EPI_GELU);
	BREAK("4 arguments, not 3", g->gemm->epilogue = 0);
	BREAK("3 arguments, not 4", in[1].narg = 3);
	BREAK("argument 1 has 64 bytes, its sizes and strides need more", g->gemm->ars = 5);
	BREAK("argument 2 has 128 bytes", g->gemm->brs = 9);
	BREAK("argument 3 has 128 bytes", g->gemm->crs = 9);
	BREAK("argument 4 has 28 bytes", in[1].arg[3].bytes = 28);
	BREAK("the strides of A are not", g->gemm->ars = 3);
	BREAK("the strides of A are not", g->gemm->acs = 2);
	BREAK("the strides of B are not", g->gemm->brs = -8);
	BREAK("the strides of C are not", g->gemm->crs = 7);
	BREAK("argument 2 has 128 bytes", g->gemm->batch0 = 2; g->gemm->b0 = 32);
	BREAK("need more", g->gemm->batch0 = 2; g->gemm->b0 = INT64_MAX);
	BREAK("need more", g->gemm->batch0 = 2; g->gemm->a0 = -1);
	BREAK("is not aligned", in[1].arg[1].off = 2; in[1].arg[1].bytes = 130);
	BREAK("argument 2 lies in the data", in[1].arg[1] = (PlanRef){SP_DATA, 0, 4}; m = g->gemm; m->k = 1; m->n = 1);
	BREAK("arguments 3 and 3 are written to overlapping", g->gemm->batch0 = 2);
	BREAK("argument 3 reads act bytes 128 .. 256, which no", g->gemm->beta = 1);
	BREAK(NULL, g->gemm->ars = 1; g->gemm->acs = 4); /* A transposed */

	/* C in two column blocks of one buffer, then read as a whole */
	BREAK(NULL, m = g->gemm; m->n = 4; m->brs = 8; m->batch0 = 2; m->b0 = 4; m->c0 = 4);
	BREAK("argument 2 reads act bytes 144 .. 160, which no", m = g->gemm; m->n = 4; m->brs = 8);
	/* the other half zeroed first; and A read out of a buffer of which only its columns are written */
	BREAK(NULL, g->gemm->n = 4; in[0].arg[0] = (PlanRef){SP_ACT, 128, 128}; in[0].narg = 1; in[0].kind = I_ZERO;
	      in[1].arg[0] = (PlanRef){SP_PARAM, 0, 64});
	BREAK(NULL, g->gemm->n = 4; in[2].kind = I_GEMM; LIST(a, g, gemm, g->gemm[0], g->gemm[0]);
	      g->gemm[1].ars = 8; g->gemm[1].epilogue = 0; in[2].index = 1; g->gemm[1].n = 8;
	      LIST(a, &in[2], arg, {SP_ACT, 128, 128}, {SP_PARAM, 0, 128}, {SP_ACT, 256, 128}));
}

/* The loop of make_plan's last program: in[1] runs in[2] and in[3] three times. */
#define LOOP(want, ...) BREAK(want, g = p->set[1].program; in = g->instr; __VA_ARGS__)

static void
test_loops(void)
{
	LOOP(NULL, );
	LOOP(NULL, in[1].times = 1; in[4].arg[1].off = 0);
	LOOP("a loop has no arguments", in[1].narg = 1; in[1].arg = in[0].arg);
	LOOP("a loop of 0 instructions, and 3 follow", in[1].index = 0);
	LOOP("a loop of 4 instructions", in[1].index = 4);
	LOOP("a loop of 4294967295 instructions", in[1].index = UINT32_MAX);
	LOOP("a loop of 0 times", in[1].times = 0);
	LOOP("a loop of -1 times", in[1].times = -1);
	LOOP("times 2 instructions: from 1 to", in[1].times = INT64_MAX);
	LOOP("times 2 instructions: from 1 to", in[1].times = 1 << 30);
	LOOP("a loop inside a loop", in[2].kind = I_LOOP; in[2].times = 1; in[2].index = 1);
	LOOP("2 steps for 3 arguments", in[2].nstep = 2);
	LOOP("its arguments move, and it is in no loop", in[4].nstep = 2; in[4].step = in[3].step);
	LOOP("argument 1 moves by -64 bytes: in iteration 1 it is outside of all memory", in[2].step[0] = -64);
	LOOP("outside of all memory", in[3].step[0] = INT64_MAX);
	LOOP("outside of all memory", in[3].step[0] = INT64_MIN);
	LOOP("argument 2: 64 bytes at 128 reach past the 160 of space param", in[2].step[1] = 64); /* in the last iteration alone */
	LOOP("argument 1 is not aligned to its elements", in[2].step[0] = 2);
	LOOP("argument 1 reads act bytes 128 .. 192, which no", in[2].step[0] = 128);
	LOOP("argument 1 reads act bytes 64 .. 68, which no", in[2].arg[0].off = 4);
	LOOP("copies between overlapping bytes", in[3].step[0] = 160);
	LOOP("argument 2 reads act bytes 192 .. 256, which no", in[1].times = 2); /* the last step's is not there */
	LOOP("moves in a loop but lies in the data", in[3].kind = I_KERNEL; LIST(a, g, kernel, {.name = "k", .grid = 1, .block = 1});
	     LIST(a, &p->set[1], module, {.source = "k"}); in[3].arg[1] = (PlanRef){SP_DATA, 0, 4}; in[3].nout = 0; in[3].step[1] = 4);
	/* downwards: a scan in reverse */
	LOOP(NULL, in[0].arg[0].off = 192; in[2].arg[0].off = 192; in[2].step[0] = -64; in[3].arg[0].off = 128; in[3].step[0] = -64; in[4].arg[1].off = 0);
	/* two results that are neighbours are no one buffer: the second may be overwritten */
	LOOP(NULL, LIST(a, g, kernel, {.name = "k", .grid = 1, .block = 1}); LIST(a, &p->set[1], module, {.source = "k"}); in[2].kind = I_KERNEL;
	     in[2].nout = 2; LIST(a, &in[2], arg, {SP_ACT, 0, 64}, {SP_ACT, 256, 32}, {SP_ACT, 288, 32}); in[2].nstep = in[3].nstep = 0;
	     LIST(a, &in[3], arg, {SP_ACT, 288, 32}, {SP_PARAM, 0, 32}); LIST(a, &in[4], arg, {SP_PARAM, 0, 32}, {SP_ACT, 256, 32}));
	LOOP(NULL, g->act_bytes = 1 << 20; in[1].times = 2000; in[2].arg[2].off = 400 * 1024; in[3].arg[1].off = 400 * 1024);
}

/* ---- activations: "out < in in; out; ..." with ranges off+bytes, z for a zeroed one ---- */

static void
flow(const char *text, const char *want, int line)
{
	Arena a = {0};
	Plan *p = make_plan(&a);
	PlanProgram *g = p->set[0].program;
	uint32_t cap = 0;
	g->noutput = g->ninstr = 0;
	g->instr = NULL;
	for (const char *s = text; *s;) {
		PlanInstr *in = &VEC_PUSH(g->instr, g->ninstr, cap);
		*in = (PlanInstr){.what = "op", .loc = ""};
		PlanRef ref[8], *out = ref + 4;
		uint32_t nin = 0, nout = 0;
		bool reading = false;
		for (; *s && *s != ';'; s++) {
			unsigned long off, bytes;
			int n;
			if (*s == 'z')
				in->kind = I_ZERO;
			else if (*s == '<')
				reading = true;
			else if (sscanf(s, "%lu+%lu%n", &off, &bytes, &n) == 2) {
				*(reading ? &ref[nin++] : &out[nout++]) = (PlanRef){SP_ACT, off, bytes};
				s += n - 1;
			}
		}
		memmove(ref + nin, out, nout * sizeof *ref);
		in->arg = arena_alloc(&a, sizeof ref);
		memcpy(in->arg, ref, sizeof ref);
		in->narg = nin + nout;
		in->nout = nout;
		s += *s == ';';
	}
	expect(p, want, line);
	free(g->instr);
	arena_free(&a);
}
#define FLOW(text, want) flow((text), (want), __LINE__)

static void
test_flow(void)
{
	FLOW("0+64; < 0+64", NULL);
	FLOW("0+64; < 16+16", NULL);                          /* a view */
	FLOW("0+64; 64+64; < 0+128", NULL);                   /* concatenation */
	FLOW("0+64; 64+64; < 32+64", NULL);
	FLOW("< 0+4", "instruction 0 (op, ): argument 1 reads act bytes 0 .. 4, which no earlier instruction wrote");
	FLOW("0+64; < 0+65", "reads act bytes 64 .. 65, which no");
	FLOW("0+64; 68+60; < 0+128", "reads act bytes 64 .. 68, which no"); /* a gap */
	FLOW("0+64; z 64+4; 68+60; < 0+128", NULL);           /* padded with zeros */
	FLOW("z 0+128; 0+60; 64+60; < 0+128", NULL);          /* zeroed, then filled */
	FLOW("z 0+128; 96+64; < 0+96", "instruction 0 (op), of which instruction 1 (op) has overwritten a part");
	FLOW("0+64; 32+64; < 32+64", NULL);
	FLOW("0+64; 32+64; < 0+32", "reads act bytes 0 .. 32, written by instruction 0 (op), of which instruction 1");
	FLOW("0+64; 32+64; < 0+96", "of which instruction 1");
	FLOW("0+64; 16+16; < 0+16", "of which instruction 1");
	FLOW("0+64; 16+16; < 32+32", "reads act bytes 32 .. 64");
	FLOW("0+64; 16+16; 0+64; < 0+64", NULL);              /* written again as a whole */
	FLOW("0+64; 16+16; 0+16; 32+32; < 0+64", NULL);
	FLOW("0+16; 16+16; 32+16; 8+32; < 8+32", NULL);
	FLOW("0+16; 16+16; 32+16; 8+32; < 0+8", "of which instruction 3");
	FLOW("0+16; 16+16; 32+16; 8+32; < 40+8", "of which instruction 3");
	FLOW("0+64; 0+64 < 0+64; < 0+64", NULL);              /* in place */
	FLOW("0+64; 0+32 < 0+64", "argument 1 is read while argument 2 overwrites a part");
	FLOW("0+64; 32+64 < 0+64", "argument 1 is read while argument 2 overwrites a part");
	FLOW("0+64; 64+64 64+32 < 0+64", "arguments 2 and 3 are written to overlapping bytes");
	FLOW("0+64 128+64; 64+64 < 0+64 128+64; < 0+192", NULL);
	FLOW("0+0; < 0+0", NULL);
}

/* Two products of `heads` columns, each column `step` elements from the next and each row 2 * heads, the second's result `second` bytes
   behind the first's, each of `extent` bytes; then a copy of as many elements as there are rows from the start. Free a afterwards. */
static Plan *
two_products(Arena *a, int rows, int heads, int step, uint64_t second, uint64_t extent)
{
	Plan *p = make_plan(a);
	PlanProgram *g = p->set[0].program;
	g->noutput = 0;
	g->act_bytes = 8ull * (uint64_t)heads * (uint64_t)rows;
	p->param_bytes = 4 * (uint64_t)rows;
	LIST(a, g, gemm, {.m = rows, .n = 1, .k = 1, .ars = 1, .acs = 1, .brs = 1, .bcs = 1, .crs = 2 * heads, .batch0 = 1, .batch1 = heads, .c1 = step, .alpha = 1});
	LIST(a, g, instr, {.kind = I_GEMM, .what = "q", .loc = ""}, {.kind = I_GEMM, .what = "k", .loc = ""}, {.kind = I_COPY, .what = "row", .loc = "", .nout = 1});
	LIST(a, &g->instr[0], arg, {SP_PARAM, 0, p->param_bytes}, {SP_PARAM, 0, 4}, {SP_ACT, 0, extent});
	LIST(a, &g->instr[1], arg, {SP_PARAM, 0, p->param_bytes}, {SP_PARAM, 0, 4}, {SP_ACT, second, extent});
	LIST(a, &g->instr[2], arg, {SP_PARAM, 0, p->param_bytes}, {SP_ACT, 0, p->param_bytes});
	return p;
}

/* Results that lie beside each other in each row: more pieces than are looked at singly, but for the heads of a row being one. */
static void
test_flow_heads(void)
{
	enum { ROWS = 2048, HEADS = 4096 };
	Arena a = {0};
	uint64_t row = 4 * HEADS, all = 2 * row * (ROWS - 1) + row;
	Plan *p = two_products(&a, ROWS, HEADS, 1, row, all);
	PlanProgram *g = p->set[0].program;
	expect(p, NULL, __LINE__);
	g->gemm[0].batch1 = HEADS - 1; /* then one head of a row is not there */
	g->instr[0].arg[2].bytes = g->instr[1].arg[2].bytes = all - 4;
	g->instr[2].arg[1].off = 2 * row - 4 * ROWS;
	expect(p, "which no earlier instruction wrote", __LINE__);
	arena_free(&a);
}

/* Results whose columns alternate, with more pieces than are looked at: what is left of the first is not dead. */
static void
test_flow_gaps(void)
{
	enum { ROWS = 4096, COLUMNS = 2048 };
	Arena a = {0};
	uint64_t all = 8ull * COLUMNS * ROWS;
	Plan *p = two_products(&a, ROWS, COLUMNS, 2, 4, all - 4);
	PlanProgram *g = p->set[0].program;
	expect(p, NULL, __LINE__);
	g->act_bytes += 4; /* what none of them reaches */
	g->instr[2].arg[1].off = all + 4 - 4 * ROWS;
	expect(p, "which no earlier instruction wrote", __LINE__);
	arena_free(&a);
}

enum { BYTES = 96, STEPS = 12, NONE = -1, DEAD = -2 };

/* The model: each byte carries the number of its piece; pieces of zeros may be split, others die. */
typedef struct Model {
	int piece[BYTES], npiece;
	bool zero[BYTES * STEPS];
} Model;

static void
model_write(Model *m, int lo, int hi, bool zero)
{
	for (int b = lo; b < hi; b++) {
		int id = m->piece[b], from = BYTES, to = 0;
		if (id < 0)
			continue;
		for (int i = 0; i < BYTES; i++)
			if (m->piece[i] == id) {
				from = i < from ? i : from;
				to = i + 1;
			}
		bool inside = m->zero[id] && from <= lo && hi <= to;
		m->zero[m->npiece] = true;
		for (int i = from; i < to; i++)
			m->piece[i] = i >= lo && i < hi ? NONE : !inside ? DEAD : i < lo ? id : m->npiece;
		m->npiece++;
	}
	m->zero[m->npiece] = zero;
	for (int b = lo; b < hi; b++)
		m->piece[b] = m->npiece;
	m->npiece++;
}

/* Random writes against the model: every byte must be readable, unwritten or dead in both. */
static void
test_flow_random(void)
{
	for (int k = 0, before = failed; k < 200 && failed == before; k++) {
		Model m = {.npiece = 0};
		char text[512];
		int n = 0;
		for (int b = 0; b < BYTES; b++)
			m.piece[b] = NONE;
		for (int i = 0; i < STEPS; i++) {
			uint32_t lo = next_random() % BYTES, bytes = 1 + next_random() % (BYTES - lo);
			bool zero = next_random() % 3 == 0;
			if (bytes > 24 && i > 2)
				bytes = 24; /* large writes would hide what came before */
			n += sprintf(text + n, "%s%u+%u; ", zero ? "z " : "", lo, bytes);
			model_write(&m, (int)lo, (int)(lo + bytes), zero);
		}
		for (int b = 0; b < BYTES; b++) {
			sprintf(text + n, "< %d+1", b);
			flow(text, m.piece[b] >= 0 ? NULL : m.piece[b] == NONE ? "which no earlier" : "overwritten a part", __LINE__);
		}
		if (failed != before)
			printf("%s\n", text);
	}
}

/* ---- files and the rest ---- */

static void
test_load(const char *file, size_t n)
{
	Arena a = {0};
	Err e = {0};
	char path[] = "/tmp/plan_test.XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	close(fd);
	CHECK(write_file_atomic(path, file, n, 0600, &e));
	Plan *p = plan_load(&a, path, &e);
	if (check(p, __LINE__, "load: %s", e.msg)) {
		const PlanTargetset *s = plan_targetset(p, "cpu");
		CHECK(s && !plan_targetset(p, "tpu"));
		CHECK(plan_program(s, "eval", 8)->batch == 8 && plan_program(s, "eval", 0)->batch == 4);
		CHECK(!plan_program(s, "eval", 16) && !plan_program(s, "train", 0));
		Text t = {0};
		p->state[1].off = 2;
		plan_encode(p, &t);
		CHECK(write_file_atomic(path, t.s, t.n, 0600, &e));
		CHECK(!plan_load(&a, path, &e) && strstr(e.msg, path) && strstr(e.msg, "not aligned"));
		free(t.s);
	}
	e.set = false;
	CHECK(write_file_atomic(path, file, n - 5, 0600, &e));
	CHECK(!plan_load(&a, path, &e) && strstr(e.msg, path) && strstr(e.msg, "cut off"));
	unlink(path);
	e.set = false;
	CHECK(!plan_load(&a, path, &e) && strstr(e.msg, "cannot open"));
	CHECK(dtype_bytes(DT_BF16) == 2 && dtype_bytes((DType)99) == 0 && !strcmp(dtype_name(DT_BOOL), "bool"));
	CHECK(!strcmp(dtype_name((DType)99), "?") && !strcmp(space_names[SP_DATA], "data"));
	arena_free(&a);
}

static void
test_print(void)
{
	Arena a = {0};
	char *s = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&s, &n);
	Plan *p = make_plan(&a);
	p->model = "a \"b\"\n\x1b";
	plan_print(p, f);
	fclose(f);
	CHECK(strstr(s, "model: \"a \\\"b\\\"\\n\\x1b\"\n"));
	CHECK(strstr(s, "scale: log1p+zscore\n") && strstr(s, "threshold: 0.9\n") && strstr(s, "dtype: i32\n"));
	CHECK(strstr(s, "      arg[2]: space act off 128 bytes 128\n"));
	CHECK(strstr(s, "dim: [4, 8]\n") && strstr(s, "losses: [\"loss\", \"viral\"]\n") && strstr(s, "code: (3 bytes)\n"));
	free(s);
	arena_free(&a);
}

static int
bench(void)
{
	Arena a = {0};
	Err e = {0};
	Plan *p = make_plan(&a);
	PlanTargetset *s = &p->set[0];
	PlanProgram *g = s->program;
	char *source = arena_alloc(&a, 20001), path[] = "/tmp/plan_test.XXXXXX";
	Text t = {0};
	memset(source, 'x', 20000);
	s->nmodule = 220;
	s->module = arena_alloc(&a, s->nmodule * sizeof *s->module);
	for (uint32_t i = 0; i < s->nmodule; i++)
		s->module[i].source = source;
	PlanInstr *in = arena_alloc(&a, 4000 * sizeof *in);
	for (uint32_t i = 0; i < 4000; i++)
		in[i] = g->instr[i % g->ninstr];
	g->instr = in, g->ninstr = 4000;
	plan_encode(p, &t);
	close(mkstemp(path));
	write_file_atomic(path, t.s, t.n, 0600, &e);
	for (int i = 0; i < 5; i++) {
		Arena b = {0};
		Plan *q = NULL;
		double start = now_seconds(), end[4];
		char *bytes;
		size_t n;
		read_file(path, &bytes, &n, &e);
		end[0] = now_seconds();
		plan_checksum((uint8_t *)bytes, n);
		end[1] = now_seconds();
		q = plan_decode(&b, bytes, n, &e);
		end[2] = now_seconds();
		if (q)
			plan_verify(q, &e);
		end[3] = now_seconds();
		printf("%zu bytes: read %.2f ms, checksum %.2f, decode with checksum %.2f, verify %.2f; %s", n, (end[0] - start) * 1e3,
		       (end[1] - end[0]) * 1e3, (end[2] - end[1]) * 1e3, (end[3] - end[2]) * 1e3, e.set ? e.msg : "");
		free(bytes);
		arena_free(&b);
		start = now_seconds();
		q = plan_load(&b, path, &e);
		printf("plan_load %.2f ms\n", (now_seconds() - start) * 1e3);
		arena_free(&b);
	}
	unlink(path);
	free(t.s);
	arena_free(&a);
	return e.set;
}

int
main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "bench"))
		return bench();
	Arena a = {0};
	Text t = {0};
	plan_encode(make_plan(&a), &t);
	test_strings();
	test_round_trip();
	test_damage(t.s, t.n);
	test_garbage(t.s, t.n);
	test_fields();
	test_sections();
	test_programs();
	test_gemm();
	test_loops();
	test_flow();
	test_flow_heads();
	test_flow_gaps();
	test_flow_random();
	test_load(t.s, t.n);
	test_print();
	free(t.s);
	arena_free(&a);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
