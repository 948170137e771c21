/* What a model file says of training, in numbers: a small model's training graphs, step by step in the float64 interpreter, against
   the same worked out by hand. The model is out = w a + c + k b with k frozen, trained on all rows in each step, so that gradients are
   sums that a person can write down. The emitters are measured against the interpreter by model_test. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../compiler/codegen.h"
#include "../runtime/session.h"

enum { ROWS = 8 };

#define CLOSE 2e-6 /* constants such as 0.9 are rounded to float32 */

static Arena arena;
static Lib *lib;
static int passed, failed;

#define CHECK(x) check((x), __LINE__, #x)
static void
check(bool ok, int line, const char *what)
{
	passed += ok;
	failed += !ok;
	if (!ok)
		fprintf(stderr, "tests/training_test.c:%d: %s\n", line, what);
}

#define NEAR(got, want) near((got), (want), __LINE__, #got)
static void
near(double got, double want, int line, const char *what)
{
	bool ok = fabs(got - want) <= CLOSE * (1 + fabs(want));
	passed += ok;
	failed += !ok;
	if (!ok)
		fprintf(stderr, "tests/training_test.c:%d: %s is %.9g, by hand %.9g\n", line, what, got, want);
}

/* ---- running graphs ---- */

/* A model's graphs, and the states that they share, by name. */
typedef struct Run {
	Model *m;
	Graph *train, *accumulate, *eval;
	struct State {
		const char *name;
		double *v;
	} state[128];
	int n;
} Run;

static const double a_column[ROWS] = {0.5, -1, 2, 0.25, -0.75, 1.5, -2, 1}, b_column[ROWS] = {1, 0.5, -0.5, 2, -1, 0.75, 0.1, -1.5},
	y_column[ROWS] = {1, -2, 3.5, 0, -1, 2, -4.5, 2.5}, z_column[ROWS] = {1, 0, 1, 0, 0, 1, 0, 1};

static double *
state_of(Run *r, const GState *s)
{
	int64_t n = 1;
	for (int i = 0; i < r->n; i++)
		if (!strcmp(r->state[i].name, s->name))
			return r->state[i].v;
	for (int i = 0; i < s->nd; i++)
		n *= s->dim[i];
	double *v = arena_alloc(&arena, (size_t)(n + 1) * sizeof *v);
	for (int64_t i = 0; i < n; i++)
		v[i] = s->space == SP_STAT ? s->a : 0;
	r->state[r->n++] = (struct State){s->name, v};
	return v;
}

/* The values of a state that there must be. */
static double *
values(Run *r, const char *name)
{
	for (int i = 0; i < r->n; i++)
		if (!strcmp(r->state[i].name, name))
			return r->state[i].v;
	fprintf(stderr, "tests/training_test.c: no state %s\n", name);
	exit(1);
}

/* Of parameter `name` in a packed state: "param", "ema", "frozen", "sgd.m". */
static double *
packed(Run *r, const char *state, const char *name)
{
	for (int i = 0; i < r->train->nparam; i++)
		if (!strcmp(r->train->param[i].name, name))
			return values(r, state) + r->train->param[i].off;
	fprintf(stderr, "tests/training_test.c: no parameter %s\n", name);
	exit(1);
}

/* Runs a graph once. Updates all see the values before; *out: its output of this name and role. */
static void
run(Run *r, Graph *g, const char *name, const char *role, double *out)
{
	const double *state[128], *column[] = {a_column, b_column, y_column, z_column};
	Node *node[129];
	double *value[129], *to[128];
	int n = 0;
	for (int i = 0; i < g->nstate; i++) {
		double *v = state_of(r, &g->state[i]);
		state[i] = v;
		if (g->state[i].update)
			to[n] = v, node[n++] = g->state[i].update;
	}
	for (int i = 0; name && i < g->noutput; i++)
		if (!strcmp(g->output[i].name, name) && !strcmp(g->output[i].role, role))
			node[n] = g->output[i].node;
	interp(g, &(Env){.state = state, .column = column, .rows = ROWS}, node, n + (name != NULL), value);
	for (int i = 0; i < n; i++) {
		memcpy(to[i], value[i], (size_t)node_count(node[i]) * sizeof(double));
		free(value[i]);
	}
	if (name) {
		memcpy(out, value[n], (size_t)node_count(node[n]) * sizeof(double));
		free(value[n]);
	}
}

/* A whole step. */
static void
step(Run *r)
{
	for (int64_t i = 1; i < r->m->train.accumulate; i++)
		run(r, r->accumulate, NULL, NULL, NULL);
	run(r, r->train, NULL, NULL, NULL);
}

/* The model with these keys under train and these weights of the losses. */
static Run *
build_weighted(const char *keys, const char *y, const char *z)
{
	Run *r = arena_alloc(&arena, sizeof *r);
	char path[] = "/tmp/trainingXXXXXX";
	int fd = mkstemp(path);
	char *text = arena_printf(&arena,
		"data: {tables: {t: rows.csv}}\n"
		"inputs: {a: {type: number}, b: {type: number}}\n"
		"targets: {y: {type: number}, z: {type: binary, from: z}}\n"
		"network:\n"
		"  base: dense(b, 1, bias=false)\n"
		"  out: dense(a, 1) + base\n"
		"losses: {y: {of: out, loss: mse, weight: %s}, z: {of: 3 * out, loss: bce, weight: %s}}\n"
		"train: {%s}\n", y, z, keys);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(1);
	close(fd);
	r->m = model_read(&arena, path);
	unlink(path);
	r->train = r->m ? build_train(&arena, lib, r->m) : NULL;
	if (r->train && r->m->train.accumulate > 1)
		r->accumulate = build_accumulate(&arena, lib, r->m, r->train);
	r->eval = r->train ? build_eval(&arena, lib, r->m, r->train, ROWS) : NULL;
	if (!r->eval)
		exit(1);
	for (int i = 0; i < r->train->nstate; i++)
		state_of(r, &r->train->state[i]);
	*values(r, "run.rows") = ROWS;
	*values(r, "run.steps_per_epoch") = 1;
	*values(r, "run.total_steps") = 10;
	*packed(r, "param", "out.dense.w") = 0.3;
	*packed(r, "param", "out.dense.b") = -0.2;
	return r;
}

static Run *build(const char *keys) { return build_weighted(keys, "1", "0.25"); }

/* ---- the same by hand ---- */

typedef struct Hand {
	double w, c, k;    /* out = w a + c + k b */
	double dw, dc, dk; /* of the loss */
	double y, z;       /* losses: mean over rows */
} Hand;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* The derivatives of wy * y + wz * z. */
static void
gradient_weighted(Hand *h, double wy, double wz)
{
	h->dw = h->dc = h->dk = h->y = h->z = 0;
	for (int i = 0; i < ROWS; i++) {
		double out = h->w * a_column[i] + h->c + h->k * b_column[i], e = out - y_column[i], t = z_column[i];
		double d = (wy * 2 * e + wz * 3 * (sigmoid(3 * out) - t)) / ROWS;
		h->dw += d * a_column[i];
		h->dc += d;
		h->dk += d * b_column[i];
		h->y += e * e / ROWS;
		h->z += (t * log1p(exp(-3 * out)) + (1 - t) * log1p(exp(3 * out))) / ROWS;
	}
}

static void gradient(Hand *h) { gradient_weighted(h, 1, 0.25); }

static void
same_params(Run *r, const Hand *h)
{
	NEAR(*packed(r, "param", "out.dense.w"), h->w);
	NEAR(*packed(r, "param", "out.dense.b"), h->c);
}

/* ---- what is tested ---- */

/* Two parts of four rows are a batch of eight, and each of two steps is one update. */
static void
test_accumulate(void)
{
	Run *r = build("batch: 4, accumulate: 2, optimizer: 'sgd(lr=0.1, momentum=0.9)', schedule: linear()");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	double mw = 0, mc = 0;
	*packed(r, "param", "base.dense.w") = h.k;
	for (int i = 1; i <= 3; i++) {
		gradient(&h);
		mw = 0.9 * mw + h.dw, mc = 0.9 * mc + h.dc;
		double lr = 0.1 * (1 - i / 10.0), row[3] = {h.y + 0.25 * h.z, h.y, h.z}, dk = h.dk;
		h.w -= lr * mw, h.c -= lr * mc;
		double *mk = packed(r, "sgd.m", "base.dense.w"), before = *mk;
		step(r);
		same_params(r, &h);
		NEAR(*mk, 0.9 * before + dk);
		h.k = *packed(r, "param", "base.dense.w");
		CHECK(*values(r, "run.step") == i && *values(r, "run.part") == 0);
		for (int j = 0; j < 3; j++)
			NEAR(values(r, "run.log")[3 * (i - 1) + j], row[j]);
	}
}

/* Frozen parameters stay, have no state, and take no part in the norm; groups have factors; the first that matches holds. */
static void
test_groups(void)
{
	Run *r = build("batch: 8, optimizer: 'adamw(lr=0.1, decay=0.5)', clip_norm: 0.5, groups: [{params: base.*, freeze: true}, "
	               "{params: '*.b', lr: 0.25, decay: 0}, {params: '*.dense.*', decay: 2}]");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	double m[2] = {0}, v[2] = {0}, *p[2] = {&h.w, &h.c}, rate[2] = {0.1, 0.025}, decay[2] = {1, 0};
	*packed(r, "frozen", "base.dense.w") = h.k;
	for (int i = 1; i <= 3; i++) {
		gradient(&h);
		double d[2] = {h.dw, h.dc}, norm = hypot(h.dw, h.dc), share = norm > 0.5 ? 0.5 / norm : 1;
		CHECK(norm > 0.5); /* or the test shows less than it could */
		for (int k = 0; k < 2; k++) {
			m[k] = 0.9 * m[k] + 0.1 * share * d[k];
			v[k] = 0.999 * v[k] + 0.001 * share * share * d[k] * d[k];
			*p[k] = *p[k] * (1 - rate[k] * decay[k]) - rate[k] * (m[k] / (1 - pow(0.9, i))) / (sqrt(v[k] / (1 - pow(0.999, i))) + 1e-8);
		}
		step(r);
		same_params(r, &h);
	}
	CHECK(*packed(r, "frozen", "base.dense.w") == 0.7);
	for (int i = 0; i < r->train->nstate; i++) {
		const GState *s = &r->train->state[i];
		CHECK(strcmp(s->name, "frozen") || (!s->update && s->dim[0] == 4)); /* places of 4 */
		CHECK(s->space != SP_OPT || s->dim[0] == 8);
	}
}

/* l1 and l2 of groups. */
static void
test_penalties(void)
{
	Run *r = build("batch: 8, optimizer: 'sgd(lr=0.1, l1=0.02, l2=0.3, clip=0.75)', groups: [{params: out.dense.w, decay: 3}, {params: base.*, freeze: true}]");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	*packed(r, "frozen", "base.dense.w") = h.k;
	gradient(&h);
	double dw = fmax(-0.75, fmin(h.dw, 0.75)), dc = fmax(-0.75, fmin(h.dc, 0.75));
	CHECK(dw != h.dw);
	h.w -= 0.1 * (dw + 3 * (0.3 * h.w + 0.02));
	h.c -= 0.1 * (dc + 0.3 * h.c - 0.02);
	step(r);
	same_params(r, &h);
}

/* The running mean begins as the parameters, follows them, and is what the eval graph computes with. */
static void
test_ema(void)
{
	Run *r = build("batch: 8, ema: 0.75, optimizer: 'sgd(lr=0.1)', groups: [{params: base.*, freeze: true}]");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	double ew = h.w, ec = h.c, got[ROWS];
	*packed(r, "frozen", "base.dense.w") = h.k;
	*packed(r, "ema", "out.dense.w") = ew;
	*packed(r, "ema", "out.dense.b") = ec;
	for (int i = 1; i <= 3; i++) {
		gradient(&h);
		h.w -= 0.1 * h.dw, h.c -= 0.1 * h.dc;
		ew = 0.75 * ew + 0.25 * h.w, ec = 0.75 * ec + 0.25 * h.c;
		step(r);
		same_params(r, &h);
		NEAR(*packed(r, "ema", "out.dense.w"), ew);
		NEAR(*packed(r, "ema", "out.dense.b"), ec);
	}
	CHECK(fabs(ew - h.w) > 0.01);
	run(r, r->eval, "y", "prediction", got);
	for (int i = 0; i < ROWS; i++)
		NEAR(got[i], ew * a_column[i] + ec + h.k * b_column[i]);
	Plan plan = {0};
	Places places = {0};
	Err e = {0};
	place_states(&arena, r->train, &places, &plan);
	unsigned char *image[NSTATE] = {xcalloc(plan.param_bytes, 1)};
	CHECK(init_states(&plan, 7, NULL, image, &e));
	int n = 0;
	for (uint32_t i = 0; i < plan.nstate; i++)
		for (uint32_t k = 0; k < plan.nstate; k++) {
			const PlanState *s = &plan.state[i], *t = &plan.state[k];
			if (strcmp(s->like, t->name))
				continue;
			n++;
			CHECK(!memcmp(image[0] + s->off, image[0] + t->off, 4) && !strcmp(s->name, arena_printf(&arena, "ema/%s", t->name)));
		}
	CHECK(n == 2);
	free(image[0]);
}

/* Kendall et al. 2018: exp(-s) / 2 of a squared error, exp(-s) of a cross-entropy, and s / 2 of each. The log has the losses. */
static void
test_learned(void)
{
	Run *r = build_weighted("batch: 8, optimizer: sgd(lr=0.1), groups: [{params: base.*, freeze: true}]", "learned", "learned");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	double *sy = packed(r, "param", "y.noise_weighted.s"), *sz = packed(r, "param", "z.noise_weighted.s"), y = *sy = 0.4, z = *sz = -0.3, got[ROWS];
	*packed(r, "frozen", "base.dense.w") = h.k;
	for (int i = 0; i < 3; i++) {
		gradient_weighted(&h, 0.5 * exp(-y), exp(-z));
		double total = 0.5 * exp(-y) * h.y + y / 2 + exp(-z) * h.z + z / 2;
		*values(r, "run.cursor") = 0;
		run(r, r->eval, "loss", "loss", got);
		double mean = 0;
		for (int k = 0; k < ROWS; k++)
			mean += got[k] / ROWS;
		NEAR(mean, total);
		y -= 0.1 * (0.5 - 0.5 * exp(-y) * h.y);
		z -= 0.1 * (0.5 - exp(-z) * h.z);
		h.w -= 0.1 * h.dw, h.c -= 0.1 * h.dc;
		step(r);
		same_params(r, &h);
		NEAR(*sy, y);
		NEAR(*sz, z);
		NEAR(values(r, "run.log")[3 * i], total);
		NEAR(values(r, "run.log")[3 * i + 1], h.y);
		NEAR(values(r, "run.log")[3 * i + 2], h.z);
	}
}

/* What a plateau made of the rate, on top of the schedule's. */
static void
test_rate(void)
{
	Run *r = build("batch: 8, optimizer: sgd(lr=0.1), schedule: linear(), plateau: {}, groups: [{params: base.*, freeze: true}]");
	Hand h = {.w = 0.3, .c = -0.2, .k = 0.7};
	*packed(r, "frozen", "base.dense.w") = h.k;
	CHECK(*values(r, "run.rate") == 1);
	*values(r, "run.rate") = 0.25;
	gradient(&h);
	h.w -= 0.1 * 0.9 * 0.25 * h.dw, h.c -= 0.1 * 0.9 * 0.25 * h.dc;
	step(r);
	same_params(r, &h);
	CHECK(*values(r, "run.rate") == 0.25);
}

/* ---- schedules ---- */

/* The factor of a call at a step of 100. */
static double
factor(const char *call, int at)
{
	Graph *g = graph_new(&arena, "schedule");
	Lower *w = lower_new(lib, g, true);
	Ast *e = parse_expr(&arena, call, (Loc){source_add("schedule", call), 1, 1});
	GInput in = {.name = "step", .dt = DT_F32};
	double x = at, *y, v;
	Val args[2] = {val_tensor(mk_input(g, graph_input(g, in)), NULL), val_num(100, false)}, out;
	if (!e || !lower_call(w, e->s, args, 2, e, "", &out) || out.kind != V_TENSOR)
		return NAN;
	interp(g, &(Env){.input = (const double *[]){&x}}, &out.node, 1, &y);
	v = *y;
	free(y);
	return v;
}

static void
test_schedules(void)
{
	const double pi = acos(-1);
	for (int t = 1; t <= 101; t++) { /* one more than planned */
		double s = fmin(t / 100.0, 1), up = fmin(t / 20.0, 1), late = fmin(fmax((t - 20) / 80.0, 0), 1);
		NEAR(factor("constant()", t), 1);
		NEAR(factor("constant(warmup=20)", t), up);
		NEAR(factor("cosine()", t), (1 + cos(pi * s)) / 2);
		NEAR(factor("cosine(warmup=20, floor=0.1)", t), up * (0.1 + 0.9 * (1 + cos(pi * late)) / 2));
		NEAR(factor("linear()", t), 1 - s);
		NEAR(factor("linear(warmup=20, floor=0.25)", t), up * (1 - 0.75 * late));
		NEAR(factor("polynomial(power=3)", t), (1 - s) * (1 - s) * (1 - s));
		NEAR(factor("polynomial(warmup=20, floor=0.5)", t), up * (0.5 + 0.5 * (1 - late) * (1 - late)));
		NEAR(factor("step(every=30)", t), t < 30 ? 1 : t < 60 ? 0.1 : t < 90 ? 0.01 : 0.001);
		NEAR(factor("step(every=50, rate=0.5, warmup=20)", t), up * (t < 50 ? 1 : t < 100 ? 0.5 : 0.25));
		NEAR(factor("exponential(rate=0.97)", t), exp(t * log(0.97)));
		NEAR(factor("one_cycle()", t), s < 0.3 ? 0.04 + 0.96 * (1 - cos(pi * s / 0.3)) / 2 : 4e-6 + (1 - 4e-6) * (1 + cos(pi * (s - 0.3) / 0.7)) / 2);
	}
	NEAR(factor("one_cycle(start=10)", 0), 0.1);
	NEAR(factor("one_cycle(share=0.5)", 50), 1);
	NEAR(factor("one_cycle(end=100)", 100), 0.01);
}

int
main(void)
{
	lib = lib_new(&arena);
	if (!lib_load_folder(lib, "ops"))
		return 1;
	test_accumulate();
	test_groups();
	test_penalties();
	test_ema();
	test_learned();
	test_rate();
	test_schedules();
	arena_free(&arena);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
