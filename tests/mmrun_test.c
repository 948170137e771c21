/* The commands of mmrun, on a small plan made by hand: two linear heads (a number and a binary target) on two inputs, kernels in C.
   Runs the program as a user does; the first argument, or $MMRUN, is its path (default ./mmrun). Links with runtime/ but
   main.c. Training must be repeatable and resumable bit for bit: after kill -9 at random moments, after SIGINT, after --max-steps. */
#define _GNU_SOURCE
#include "../runtime/session.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed;
static const char *mmrun;
static char dir[] = "/tmp/mmrun_test.XXXXXX";

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

/* ---- the plan ---- */

#define LOG_STEPS 32
#define BATCH 20
#define STRING(x) #x
#define TEXT_OF(x) STRING(x)

/* Arguments in the order of the instructions below. A step sleeps, so that kills hit its middle. */
static const char source[] =
	"#include <math.h>\n"
	"#include <stdint.h>\n"
	"#include <unistd.h>\n"
	"enum { B = " TEXT_OF(BATCH) ", LOG = " TEXT_OF(LOG_STEPS) " };\n"
	"#ifndef RATE\n#define RATE 0.05f\n#endif\n"
	"static uint32_t mix(uint32_t x) { x ^= x >> 16; x *= 0x7feb352du; x ^= x >> 15; x *= 0x846ca68bu; return x ^ x >> 16; }\n"
	"void train(void *const *a) {\n"
	"  const float *x1 = a[0], *x2 = a[1], *y = a[2], *big = a[3], *weight = a[8]; float *p = a[9], *m = a[10], *log = a[12];\n"
	"  int32_t first = *(int32_t *)a[4], rows = *(int32_t *)a[5], spe = *(int32_t *)a[7], *step = a[11];\n"
	"  uint32_t seed = *(uint32_t *)a[6]; float g[6] = {0}, ly = 0, lb = 0;\n"
	"  for (int i = 0; i < B; i++) {\n"
	"    uint32_t at = (uint32_t)(*step % spe * B + i), h = mix(seed + (uint32_t)(*step / spe));\n"
	"    int64_t r = first + (at * 7919ull + h) % (uint32_t)rows;\n"
	"    float noise = (mix(seed ^ mix((uint32_t)*step * B + i)) >> 8) * 0x1p-24f * 0.01f;\n"
	"    float e = p[0] * x1[r] + p[1] * x2[r] + p[2] + noise - y[r];\n"
	"    float z = p[3] * x1[r] + p[4] * x2[r] + p[5], q = 1 / (1 + expf(-z)), d = (q - big[r]) * *weight;\n"
	"    ly += e * e; lb += log1pf(expf(-fabsf(z))) + fmaxf(z, 0) - z * big[r];\n"
	"    g[0] += 2 * e * x1[r]; g[1] += 2 * e * x2[r]; g[2] += 2 * e; g[3] += d * x1[r]; g[4] += d * x2[r]; g[5] += d;\n"
	"  }\n"
	"  for (int k = 0; k < 6; k++) { m[k] = 0.9f * m[k] + g[k] / B; p[k] -= RATE * m[k]; }\n"
	"  float *l = log + 3 * (*step % LOG); l[1] = ly / B; l[2] = lb / B; l[0] = l[1] + l[2]; ++*step;\n"
	"  usleep(300);\n"
	"}\n"
	"static void eval(void *const *a, int n) {\n"
	"  const float *x1 = a[0], *x2 = a[1], *y = a[2], *big = a[3], *p = a[6];\n"
	"  int32_t first = *(int32_t *)a[4], rows = *(int32_t *)a[5], *cursor = a[7];\n"
	"  float *py = a[8], *pb = a[9], *l = a[10], *ly = a[11], *lb = a[12];\n"
	"  for (int i = 0; i < n; i++) {\n"
	"    int32_t at = *cursor + i; int64_t r = first + (at < rows ? at : rows - 1);\n"
	"    float e = (py[i] = p[0] * x1[r] + p[1] * x2[r] + p[2]) - y[r], z = p[3] * x1[r] + p[4] * x2[r] + p[5];\n"
	"    pb[i] = 1 / (1 + expf(-z)); ly[i] = e * e; lb[i] = log1pf(expf(-fabsf(z))) + fmaxf(z, 0) - z * big[r]; l[i] = ly[i] + lb[i];\n"
	"  }\n"
	"  *cursor += n;\n"
	"}\n"
	"void eval64(void *const *a) { eval(a, 64); }\n"
	"void eval1(void *const *a) { eval(a, 1); }\n";

static PlanState
state(const char *name, DType t, Space space, uint64_t off, int64_t n, Init init, double a, double b, const char *fit)
{
	static int64_t dim[64]; /* reused: a plan has fewer states and is written before the next is made */
	static size_t used;
	int64_t *d = &dim[used++ % LEN(dim)];
	*d = n;
	return (PlanState){(char *)(uintptr_t)name, t, space, off, d, n > 0, init, a, b, (char *)(uintptr_t)fit, ""};
}

static PlanRef ref(Space s, uint64_t off, uint64_t bytes) { return (PlanRef){s, off, bytes}; }

enum { STEP = 0, SEED = 4, FIRST = 8, ROWS = 12, CURSOR = 16, SPE = 20, TOTAL = 24, WEIGHT = 28, LOG = 32, STAT = LOG + LOG_STEPS * 12 };

static void
make_eval(PlanProgram *p, PlanKernel *k, PlanInstr *in, PlanRef *arg, PlanOutput *out, PlanRef *oref, int64_t *dim, int64_t batch)
{
	static const char *const name[] = {"y", "big", "loss", "y", "big"}, *const role[] = {"prediction", "prediction", "loss", "loss", "loss"};
	uint64_t bytes = (uint64_t)batch * 4;
	*k = (PlanKernel){batch == 64 ? "eval64" : "eval1", 0, 1, 1, 0, 0};
	*dim = batch;
	for (uint64_t i = 0; i < 4; i++)
		arg[i] = ref(SP_DATA, i, 4);
	arg[4] = ref(SP_STAT, FIRST, 4);
	arg[5] = ref(SP_STAT, ROWS, 4);
	arg[6] = ref(SP_PARAM, 0, 24);
	arg[7] = ref(SP_STAT, CURSOR, 4);
	for (uint64_t i = 0; i < 5; i++) {
		oref[i] = arg[8 + i] = ref(SP_ACT, i * 256, bytes);
		out[i] = (PlanOutput){(char *)(uintptr_t)name[i], (char *)(uintptr_t)role[i], DT_F32, dim, 1, &oref[i], 1};
	}
	*in = (PlanInstr){I_KERNEL, 0, arg, 13, 6, "forward", "model.yaml:9:1", 12.0 * (double)batch, 32.0 * (double)batch, NULL, 0, 0, NULL, 0};
	*p = (PlanProgram){"eval", batch, NULL, 0, k, 1, in, 1, out, 5, 5 * 256, 5 * 256, 0, 0};
}

typedef struct Variant {
	const char *file, *stop_on, *rate, *weight_name;
	int64_t epochs, patience, batch;
	uint64_t act; /* bytes of activations */
} Variant;

static bool
write_plan(const Variant *v)
{
	PlanTable table[] = {{.name = "posts", .path = "posts.csv", .loc = "model.yaml:2:3"}};
	PlanInput input[] = {
		{"x1", IN_NUMBER, "\"x1\"", SC_ZSCORE, MISS_MEDIAN, 0, 1, 0, 0, 0, "model.yaml:4:3", 0, NULL, 0},
		{"x2", IN_NUMBER, "\"x2\"", SC_ZSCORE, MISS_MEDIAN, 0, 1, 0, 0, 0, "model.yaml:5:3", 0, NULL, 0},
	};
	PlanTarget target[] = {
		{"y", TG_NUMBER, "\"y\"", SC_ZSCORE, 0, 0, "model.yaml:7:3", 0, NULL, 0, 1, 0, NULL, 0, -1},
		{"big", TG_BINARY, "\"y\"", 0, AB_QUANTILE, 0.8, "model.yaml:8:3", 0, NULL, 0, 1, 0, NULL, 0, -1},
	};
	PlanData data = {table, 1, "posts", "", "", "", 0.7, 0.15, 0.15, 17, input, 2, target, 2, dir, "model.yaml:1:1", "model.yaml:1:1", "model.yaml:1:1", "", "", 0, 0};
	PlanState st[] = {
		state(v->weight_name, DT_F32, SP_PARAM, 0, 6, INIT_NORMAL, 0, 0.1, ""),
		state("opt.m", DT_F32, SP_OPT, 0, 6, INIT_CONST, 0, 0, ""),
		state("run.step", DT_I32, SP_STAT, STEP, 0, INIT_CONST, 0, 0, ""),
		state("run.seed", DT_U32, SP_STAT, SEED, 0, INIT_CONST, 0, 0, ""),
		state("run.first", DT_I32, SP_STAT, FIRST, 0, INIT_CONST, 0, 0, ""),
		state("run.rows", DT_I32, SP_STAT, ROWS, 0, INIT_CONST, 0, 0, ""),
		state("run.cursor", DT_I32, SP_STAT, CURSOR, 0, INIT_CONST, 0, 0, ""),
		state("run.steps_per_epoch", DT_I32, SP_STAT, SPE, 0, INIT_CONST, 0, 0, ""),
		state("run.total_steps", DT_I32, SP_STAT, TOTAL, 0, INIT_CONST, 0, 0, ""),
		state("weight", DT_F32, SP_STAT, WEIGHT, 0, INIT_CONST, 0, 0, "big.positive_weight"),
		{"run.log", DT_F32, SP_STAT, LOG, (int64_t[]){LOG_STEPS, 3}, 2, INIT_CONST, 0, 0, "", ""},
	};
	PlanRef targ[] = {
		ref(SP_DATA, 0, 4), ref(SP_DATA, 1, 4), ref(SP_DATA, 2, 4), ref(SP_DATA, 3, 4), ref(SP_STAT, FIRST, 4),
		ref(SP_STAT, ROWS, 4), ref(SP_STAT, SEED, 4), ref(SP_STAT, SPE, 4), ref(SP_STAT, WEIGHT, 4), ref(SP_PARAM, 0, 24),
		ref(SP_OPT, 0, 24), ref(SP_STAT, STEP, 4), ref(SP_STAT, LOG, LOG_STEPS * 12),
	};
	PlanKernel k[3] = {{"train", 0, 1, 1, 0, 0}};
	PlanInstr in[3] = {{I_KERNEL, 0, targ, 13, 4, "all of a step", "model.yaml:9:1", 1000, 500, NULL, 0, 0, NULL, 0}};
	PlanProgram prog[3] = {{"train", v->batch, NULL, 0, k, 1, in, 1, NULL, 0, v->act, v->act, 0, 0}};
	PlanRef arg[2][13], oref[2][5];
	PlanOutput out[2][5];
	int64_t dim[2];
	Text text = {0}, code = {0};
	Err e = {0};
	if (v->rate)
		text_printf(&code, "#define RATE %s\n", v->rate);
	text_puts(&code, source);
	PlanModule module = {code.s, NULL, 0};
	make_eval(&prog[1], &k[1], &in[1], arg[0], out[0], oref[0], &dim[0], 64);
	make_eval(&prog[2], &k[2], &in[2], arg[1], out[1], oref[1], &dim[1], 1);
	PlanTargetset set = {"cpu", &module, 1, prog, 3};
	char *losses[] = {"loss", "y", "big"};
	PlanTrain train = {.epochs = v->epochs, .batch = v->batch, .accumulate = 1, .seed = 5, .stop_on = (char *)(uintptr_t)v->stop_on,
	                   .patience = v->patience, .plateau_on = "", .log_steps = LOG_STEPS, .losses = losses, .nlosses = 3};
	Plan p = {"tiny", "", "model.yaml", "by hand", "", &data, 1, &train, 1, st, LEN(st), 24, 24, STAT, &set, 1};
	plan_encode(&p, &text);
	bool ok = write_file_atomic(v->file, text.s, text.n, 0644, &e);
	free(text.s);
	free(code.s);
	return check(ok, __LINE__, "%s", e.msg);
}

static void
write_posts(void)
{
	FILE *f = fopen("posts.csv", "w");
	uint32_t c[2];
	fputs("id,x1,x2,y\n", f);
	for (uint32_t i = 0; i < 1500; i++) {
		double u[4];
		for (uint32_t k = 0; k < 4; k++) {
			c[0] = i;
			c[1] = k;
			philox2x32(c, 99);
			u[k] = c[0] * 0x1p-32 - 0.5;
		}
		fprintf(f, "p%u,%.6f,%.6f,%.6f\n", i, u[0], u[1], 2 * u[0] - 3 * u[1] + 0.1 * u[2] + 4);
	}
	fclose(f);
}

/* ---- running it ---- */

static Text output; /* of the last run: stdout and stderr */

/* mmrun with these arguments, in the test's folder; returns the exit status. */
static int run(const char *fmt, ...) PRINTF(1, 2);
static int
run(const char *fmt, ...)
{
	Text cmd = {0};
	char buf[4096];
	size_t n;
	va_list ap;
	text_printf(&cmd, "'%s' ", mmrun);
	va_start(ap, fmt);
	text_vprintf(&cmd, fmt, ap);
	va_end(ap);
	text_puts(&cmd, " 2>&1");
	FILE *f = popen(cmd.s, "r");
	output.n = 0;
	text_puts(&output, "");
	while (f && (n = fread(buf, 1, sizeof buf, f)) > 0)
		text_add(&output, buf, n);
	int rc = f ? pclose(f) : -1;
	free(cmd.s);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

static bool has(const char *s) { return strstr(output.s, s) != NULL; }
#define OUTPUT(want) check(has(want), __LINE__, "no '%s' in: %s", want, output.s)
#define STATUS(want, ...)                                                                           \
	do {                                                                                        \
		int got_ = run(__VA_ARGS__);                                                        \
		check(got_ == (want), __LINE__, "exit status %d: %s", got_, output.s);              \
	} while (0)

static bool
same_file(const char *a, const char *b)
{
	char *x = NULL, *y = NULL;
	size_t nx, ny;
	Err e = {0};
	bool ok = read_file(a, &x, &nx, &e) && read_file(b, &y, &ny, &e) && nx == ny && !memcmp(x, y, nx);
	free(x);
	free(y);
	return ok;
}

#define TRAIN "train tiny.bin --device cpu --threads 1 --loss-csv %s.csv --save-steps 7 --out %s"

/* The same, ended by a signal some microseconds after the file `begun` (or the process) appeared; returns the exit status or -signal. */
static int
run_until(const char *out, bool resume, int sig, const char *begun, useconds_t after)
{
	pid_t pid = fork();
	if (!pid) {
		char csv[64];
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		dup2(null, 2);
		snprintf(csv, sizeof csv, "%s.csv", out);
		execl(mmrun, mmrun, "train", "tiny.bin", "--device", "cpu", "--threads", "1", "--loss-csv", csv, "--save-steps", "7", "--out", out,
		      resume ? "--resume" : NULL, NULL);
		_exit(127);
	}
	int status;
	for (int i = 0; begun && access(begun, F_OK) && i < 10000; i++)
		usleep(1000);
	usleep(after);
	kill(pid, sig);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void
check_same_run(const char *out, int line)
{
	static const char *const file[] = {"/last.safetensors", "/best.safetensors", "/metrics.json", ".csv"};
	for (size_t i = 0; i < LEN(file); i++) {
		char a[64], b[64];
		snprintf(a, sizeof a, "a%s", file[i]);
		snprintf(b, sizeof b, "%s%s", out, file[i]);
		check(same_file(a, b), line, "%s differs from %s", b, a);
	}
}

/* ---- tests ---- */

/* Known answers of Random123's kat_vectors. */
static void
test_philox(void)
{
	static const uint32_t kat[][5] = {
		{0, 0, 0, 0xff1dae59, 0x6cd10df2},
		{0xffffffff, 0xffffffff, 0xffffffff, 0x2c3f628b, 0xab4fd7ad},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0xdd7ce038, 0xf62a4c12},
	};
	for (size_t i = 0; i < LEN(kat); i++) {
		uint32_t c[2] = {kat[i][0], kat[i][1]};
		philox2x32(c, kat[i][2]);
		CHECK(c[0] == kat[i][3] && c[1] == kat[i][4]);
	}
}

static void
test_init(void)
{
	PlanState st[] = {
		{"a", DT_F32, SP_PARAM, 0, (int64_t[]){100, 200}, 2, INIT_NORMAL, 1, 2, "", ""},
		{"b", DT_F32, SP_PARAM, 80000, (int64_t[]){2, 3, 16}, 3, INIT_ORTHOGONAL, 1, 0, "", ""},
		{"c", DT_F32, SP_PARAM, 80384, (int64_t[]){10000}, 1, INIT_UNIFORM, -1, 3, "", ""},
	};
	Plan p = {.state = st, .nstate = 3};
	static float x[31000], y[31000];
	unsigned char *image[NSTATE] = {(unsigned char *)x};
	Err e = {0};
	double sum = 0, sum2 = 0, low = 9, high = -9;
	CHECK(init_states(&p, 7, NULL, image, &e));
	for (int i = 0; i < 20000; i++) {
		sum += x[i];
		sum2 += (x[i] - 1) * (x[i] - 1);
	}
	CHECK(fabs(sum / 20000 - 1) < 0.05 && fabs(sqrt(sum2 / 20000) - 2) < 0.05);
	for (int r = 0; r < 6; r++)
		for (int s = 0; s < 6; s++) {
			double d = 0;
			for (int k = 0; k < 16; k++)
				d += x[20000 + r * 16 + k] * x[20000 + s * 16 + k];
			CHECK(fabs(d - (r == s)) < 1e-6);
		}
	for (int i = 20096; i < 30096; i++) {
		low = fmin(low, x[i]);
		high = fmax(high, x[i]);
	}
	CHECK(low >= -1 && low < -0.99 && high <= 3 && high > 2.99);
	/* another order of states, same values */
	PlanState swapped[] = {st[2], st[0], st[1]};
	p.state = swapped;
	image[0] = (unsigned char *)y;
	CHECK(init_states(&p, 7, NULL, image, &e) && !memcmp(x, y, sizeof x));
	CHECK(init_states(&p, 8, NULL, image, &e) && memcmp(x, y, sizeof x));
}

static void
test_dtypes(void)
{
	static const double f16[][2] = {{1, 1}, {-2.5, -2.5}, {65504, 65504}, {65520, INFINITY}, {0x1p-24, 0x1p-24}, {0x1p-26, 0},
	                                {2049, 2048}, {2051, 2052}, {0x1.ff8p-15, 0x1.ff8p-15}, {0x1.fffp-15, 0x1p-14}};
	uint16_t h;
	for (size_t i = 0; i < LEN(f16); i++) {
		dtype_store(DT_F16, &h, 0, f16[i][0]);
		check(dtype_load(DT_F16, &h, 0) == f16[i][1], __LINE__, "f16 %a gives %a", f16[i][0], dtype_load(DT_F16, &h, 0));
	}
	dtype_store(DT_BF16, &h, 0, 1 + 0x1p-8); /* a tie: to even */
	CHECK(dtype_load(DT_BF16, &h, 0) == 1);
	dtype_store(DT_BF16, &h, 0, 1 + 0x3p-8);
	CHECK(dtype_load(DT_BF16, &h, 0) == 1 + 0x1p-6);
	dtype_store(DT_BF16, &h, 0, NAN);
	CHECK(isnan(dtype_load(DT_BF16, &h, 0)));
}

static double
mean_loss(const char *csv, int from, int to)
{
	FILE *f = fopen(csv, "r");
	char line[256];
	double sum = 0, loss;
	int step, n = 0;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%d,%lf", &step, &loss) == 2 && step > from && step <= to) {
			sum += loss;
			n++;
		}
	if (f)
		fclose(f);
	return n ? sum / n : NAN;
}

static double
json_at(const char *path, const char *object, const char *key)
{
	json_t *j = json_load_file(path, 0, NULL);
	double v = json_number_value(json_object_get(json_object_get(j, object), key));
	json_decref(j);
	return v;
}

static void
test_train(void)
{
	STATUS(0, TRAIN " --log a.jsonl --report a.txt --split-out split.csv", "a", "a");
	OUTPUT("epoch 6/6");
	OUTPUT("confusion of big");
	CHECK(mean_loss("a.csv", 0, 10) > 4 * mean_loss("a.csv", 300, 312));
	CHECK(json_at("a/metrics.json", "test", "y.r2") > 0.98);
	CHECK(json_at("a/metrics.json", "val", "big.roc_auc") > 0.95);
	CHECK(json_at("a/metrics.json", "test", "rows") == 225);
	STATUS(0, TRAIN, "b", "b");
	check_same_run("b", __LINE__);
	FILE *f = fopen("split.csv", "r");
	char line[100];
	int n = 0, test = 0;
	while (f && fgets(line, sizeof line, f)) {
		n++;
		test += strstr(line, ",test\n") != NULL;
	}
	CHECK(n == 1501 && test == 225 && f && !fclose(f));
}

static void
test_resume(void)
{
	double start = now_seconds();
	STATUS(0, TRAIN " --max-steps 101", "c", "c");
	OUTPUT("stopped after step 101");
	CHECK(!same_file("a/last.safetensors", "c/last.safetensors"));
	STATUS(0, TRAIN " --resume", "c", "c");
	OUTPUT("resumed after step 101 of 312");
	check_same_run("c", __LINE__);
	STATUS(0, TRAIN " --resume", "c", "c"); /* nothing left to do */
	check_same_run("c", __LINE__);
	double whole = (now_seconds() - start) / 2;
	int kills = 0;
	for (int k = 0; k < 5; k++) {
		char out[16];
		int rc = 0;
		snprintf(out, sizeof out, "k%d", k);
		for (int i = 0; i < 12 && !(i && rc == 0); i++) {
			uint32_t c[2] = {(uint32_t)(k * 100 + i), 3};
			philox2x32(c, 1);
			rc = run_until(out, i > 0, i < 8 ? SIGKILL : 0, NULL, (useconds_t)(whole * 5e5 * c[0] * 0x1p-32));
			kills += rc == -SIGKILL;
		}
		check(rc == 0, __LINE__, "status %d", rc);
		check_same_run(out, __LINE__);
	}
	check(kills >= 5, __LINE__, "only %d kills hit", kills);
	int rc = run_until("i", false, SIGINT, "i/best.safetensors", 0); /* past the first of six epochs */
	check(rc == 130, __LINE__, "SIGINT: status %d", rc);
	STATUS(0, TRAIN " --resume", "i", "i");
	OUTPUT("resumed after step");
	check_same_run("i", __LINE__);
	STATUS(2, TRAIN " --resume --seed 6", "c", "c");
	OUTPUT("has seed 5");
}

static void
test_failures(void)
{
	Checkpoint c;
	Err e = {0};
	STATUS(2, "train nan.bin --device cpu --out n --report /dev/null");
	OUTPUT("loss 'y' became");
	OUTPUT("step ");
	CHECK(checkpoint_open("n/last.safetensors", &c, &e));
	checkpoint_close(&c);
	STATUS(2, "train watch.bin --device cpu --out w --report /dev/null");
	OUTPUT("did you mean 'val.y.r2'?");
	CHECK(access("w", F_OK));
	STATUS(2, "train wide.bin --device cpu --out w --report /dev/null");
	OUTPUT("batch of 2000 is larger than the training split of 1050 rows");
	CHECK(access("w", F_OK));
	STATUS(2, "train huge.bin --device cpu --out w --report /dev/null");
	OUTPUT("activations 70.4 TB");
	OUTPUT(" are free: compile for a smaller batch");
	CHECK(access("w", F_OK));
	STATUS(2, "eval other.bin --device cpu --out a");
	OUTPUT("it has no tensor v");
	STATUS(2, "eval tiny.bin --device cpu --out nowhere");
	STATUS(2, "eval tiny.bin --device cpu --out a --split tests");
	OUTPUT("did you mean 'test'?");
	STATUS(2, "eval tiny.bin --device cpu --out a --split-seed 4");
	OUTPUT("another split");
	STATUS(2, "eval tiny.bin --epochs 3");
	OUTPUT("it belongs to mmrun train");
	STATUS(2, "trian tiny.bin");
	OUTPUT("did you mean 'train'?");
	STATUS(2, "train tiny.bin --epoch 3");
	OUTPUT("did you mean '--epochs'?");
	STATUS(2, "train tiny.bin --epochs none");
	STATUS(2, "train tiny.bin --device gpu");
	STATUS(2, "train tiny.bin --device cuda");
	OUTPUT("no programs for cuda");
	STATUS(2, "train");
	STATUS(0, "train --help");
	OUTPUT("--save-steps N");
	STATUS(0, "--version");
	if (geteuid()) {
		STATUS(2, "train tiny.bin --device cpu --report /dev/null --out /nowhere/at/all");
		OUTPUT("cannot make this folder");
	}
	CHECK(!mkdir("full", 0777) && !symlink("/dev/full", "full.csv"));
	STATUS(2, "train tiny.bin --device cpu --report /dev/null --out full --loss-csv full.csv");
	OUTPUT("full.csv: cannot write");
}

static void
test_early_stop(void)
{
	STATUS(0, "train stop.bin --device cpu --out s --report /dev/null");
	OUTPUT("stopped early: val.big.loss has not improved for 1 epochs");
	STATUS(0, "train stop.bin --device cpu --out s --report /dev/null --resume");
	OUTPUT("stopped early");
	CHECK(!has("\nepoch "));
}

static void
test_eval(void)
{
	STATUS(0, "eval tiny.bin --device cpu --out a");
	OUTPUT("y.r2");
	STATUS(0, "eval tiny.bin --device cpu --ckpt a/best.safetensors --json --split val");
	json_t *j = json_loads(output.s, 0, NULL);
	double r2 = json_number_value(json_object_get(json_object_get(j, "val"), "y.r2"));
	CHECK(fabs(r2 - json_at("a/metrics.json", "val", "y.r2")) < 1e-9);
	json_decref(j);
}

static int
count_lines(void)
{
	int n = 0;
	for (const char *p = output.s; (p = strchr(p, '\n')); p++)
		n++;
	return n;
}

static void
test_predict(void)
{
	double y = 0, p = 0;
	STATUS(0, "predict tiny.bin --device cpu --run a --in posts.csv");
	OUTPUT("key,y,big_probability,big\n");
	CHECK(count_lines() == 1501);
	STATUS(0, "predict tiny.bin --device cpu --run a --in posts.csv --format jsonl -o p.jsonl");
	json_t *j = json_load_file("p.jsonl", JSON_DISABLE_EOF_CHECK, NULL);
	const char *key = json_string_value(json_object_get(j, "key"));
	CHECK(key && !strcmp(key, "p0"));
	CHECK(json_is_integer(json_object_get(j, "big")));
	json_decref(j);
	STATUS(0, "predict tiny.bin --device cpu --run a --set x1=0.25 x2=-0.25");
	CHECK(sscanf(output.s, "y %lf big %*s (probability %lf)", &y, &p) == 2 && fabs(y - 5.25) < 0.1 && p > 0.5);
	STATUS(0, "predict tiny.bin --device cpu --run a --set x1=0.25 --set x2=-0.25 --format csv");
	CHECK(count_lines() == 2);
	STATUS(2, "predict tiny.bin --device cpu --run a --set x3=1");
	OUTPUT("x3");
	STATUS(2, "predict tiny.bin --device cpu --run a");
	OUTPUT("--in FILE.csv or --set");
	STATUS(2, "predict tiny.bin --device cpu --run a --in absent.csv");
	STATUS(2, "predict tiny.bin --device cpu --run a --set x1=1 --format jsnol");
	OUTPUT("did you mean 'jsonl'?");
}

static void
test_bench_and_inspect(void)
{
	STATUS(0, "bench tiny.bin --device cpu --program eval --batch 64 --windows 1 --synthetic --json bench.json");
	OUTPUT("model.yaml:9:1");
	json_t *j = json_load_file("bench.json", 0, NULL);
	CHECK(json_number_value(json_object_get(j, "ms")) > 0 && json_array_size(json_object_get(j, "instrs")) == 1);
	json_decref(j);
	STATUS(2, "bench tiny.bin --device cpu --program eval --batch 63 --synthetic");
	OUTPUT("eval of batch 64");
	STATUS(0, "inspect tiny.bin");
	OUTPUT("6 parameters");
	STATUS(0, "inspect tiny.bin --all");
	STATUS(0, "inspect tiny.bin --source");
	OUTPUT("void eval64");
	STATUS(0, "inspect tiny.bin --ckpt a/last.safetensors");
	OUTPUT("opt.m");
}

int
main(int argc, char **argv)
{
	static const Variant variant[] = {
		{"tiny.bin", "val.loss", NULL, "w", 6, 3, BATCH, 0},
		{"nan.bin", "val.loss", "1e30f", "w", 6, 0, BATCH, 0},
		{"watch.bin", "val.y.r3", NULL, "w", 6, 2, BATCH, 0},
		{"wide.bin", "val.loss", NULL, "w", 6, 0, 2000, 0},
		{"other.bin", "val.loss", NULL, "v", 6, 0, BATCH, 0},
		{"stop.bin", "val.big.loss", "0.5f", "w", 40, 1, BATCH, 0},
		{"huge.bin", "val.loss", NULL, "w", 6, 0, BATCH, (uint64_t)1 << 46},
	};
	const char *name = argc > 1 ? argv[1] : getenv("MMRUN") ? getenv("MMRUN") : "./mmrun";
	char *path = realpath(name, NULL);
	mmrun = path;
	if (!path || !mkdtemp(dir) || chdir(dir)) {
		printf("%s: no such program; give its path\n0 passed, 1 failed\n", name);
		return 1;
	}
	setenv("MMC_CACHE", dir, 1);
	setlinebuf(stdout);
	write_posts();
	for (size_t i = 0; i < LEN(variant); i++)
		write_plan(&variant[i]);
	test_philox();
	test_init();
	test_dtypes();
	test_train();
	test_eval();
	test_predict();
	test_resume();
	test_early_stop();
	test_failures();
	test_bench_and_inspect();
	free(output.s);
	free(path);
	char *argv_rm[] = {"rm", "-rf", dir, NULL};
	if (!failed && !fork())
		execvp("rm", argv_rm);
	if (failed)
		printf("the files of this run are in %s\n", dir);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
