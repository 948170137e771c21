/* mmrun bench: time of a step, of each instruction alone, and how far both are from what the device could do.

   Columns are the plan's own, or random ones (--synthetic). Windows of at least half a second after a warm-up; median and
   range over the windows, since one number hides the machine's noise. Two plans (--vs) take turns, window by window. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP 0.3 /* seconds */
#define WINDOW 0.5
#define PROFILE_TIMES 20

const char *const instr_kinds[I_LOOP + 1] = {[I_KERNEL] = "kernel", [I_GEMM] = "gemm", [I_COPY] = "copy", [I_ZERO] = "zero", [I_LOOP] = "loop"};

const char *
instr_title(Arena *a, const PlanInstr *in)
{
	return in->loc[0] ? arena_printf(a, "%s (%s)", in->what, in->loc) : in->what;
}

/* ---- a program to time ---- */

/* What is timed: the program, and where it ends a step of several parts, those before it. */
static bool
find_step(Bench *b, Err *e)
{
	Session *s = &b->s;
	Step *step = &b->step;
	if (!(step->train = b->p = session_program(s, b->o.program, b->o.batch, e)))
		return false;
	if (!strcmp(b->p->name, "accumulate"))
		return fail(e, "--program accumulate: it is part of a step: program train is timed with it");
	step->parts = s->train && !strcmp(b->p->name, "train") ? s->train->accumulate : 1;
	b->rows = b->p->batch * step->parts;
	return step->parts == 1 || (step->accumulate = session_program(s, "accumulate", b->p->batch, e));
}

bool
bench_open(Bench *b, const Options *o, const char *plan, Err *e)
{
	b->o = *o;
	b->o.plan = plan;
	return session_open(&b->s, &b->o, NULL, e) && find_step(b, e);
}

bool
bench_prepare(Bench *b, Err *e)
{
	Session *s = &b->s;
	const Options *o = &b->o;
	if (o->synthetic)
		bench_columns(s, o->rows > b->rows ? o->rows : b->rows);
	else if (!session_build(s, o, NULL, e))
		return false;
	int64_t rows = s->data.split[1] - s->data.split[0], per_epoch = rows / b->rows;
	const PlanProgram *p[] = {b->p, b->step.accumulate};
	if (per_epoch < 1 && !strcmp(b->p->name, "train"))
		return fail(e, "%s: the %lld rows of a step are more than the training split of %lld: try --synthetic", s->path, (long long)b->rows,
		            (long long)rows);
	return session_allocate(s, p, b->step.accumulate ? 2 : 1, true, e) && session_init(s, e) && session_set(s, RUN_STEPS_PER_EPOCH, per_epoch, e) &&
	       session_set(s, RUN_TOTAL_STEPS, per_epoch * (s->train ? s->train->epochs : 1), e) &&
	       session_rows(s, s->data.split[0], rows, e) && step_prepare(&b->step, s, e);
}

void
bench_close(Bench *b)
{
	step_drop(&b->step, &b->s);
	free(b->ms);
	free(b->cost);
	session_close(&b->s);
}

/* ---- timing ---- */

static bool
run_window(Bench *b, int64_t steps, double *seconds, Err *e)
{
	Device *d = b->s.device;
	double start = now_seconds();
	if (!step_run(&b->step, &b->s, steps, e) || !d->sync(d, e))
		return false;
	*seconds = now_seconds() - start;
	return true;
}

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static bool
warm_up(Bench *b, Err *e)
{
	double seconds = 0, spent = 0;
	int64_t n = 1;
	for (; spent < WARM_UP; spent += seconds, n = seconds < WARM_UP / 4 ? n * 2 : n)
		if (!run_window(b, n, &seconds, e))
			return false;
	b->nwindow = b->o.windows;
	b->ms = xcalloc((size_t)b->nwindow, sizeof *b->ms);
	b->steps = (int64_t)ceil(WINDOW * 1.1 * (double)n / (seconds > 1e-9 ? seconds : 1e-9));
	return true;
}

bool
bench_windows(Bench *b, int n, Err *e)
{
	for (int i = 0; i < n; i++)
		if (!warm_up(&b[i], e))
			return false;
	for (int64_t w = 0; w < b->nwindow; w++)
		for (int i = 0; i < n; i++) {
			double seconds;
			int64_t before = b[i].s.device->launches;
			if (!run_window(&b[i], b[i].steps, &seconds, e))
				return false;
			b[i].ms[w] = seconds * 1e3 / (double)b[i].steps;
			b[i].launches = (double)(b[i].s.device->launches - before) / (double)b[i].steps;
		}
	for (int i = 0; i < n; i++)
		qsort(b[i].ms, (size_t)b[i].nwindow, sizeof *b[i].ms, compare_doubles);
	return true;
}

double
bench_ms(const Bench *b)
{
	return (b->ms[(b->nwindow - 1) / 2] + b->ms[b->nwindow / 2]) / 2;
}

bool
bench_ceilings(Bench *b, int n, Ceilings *c, Err *e)
{
	size_t avail, total;
	Device *d = b->s.device;
	for (int i = 0; i < n; i++)
		ceilings_want(c, b[i].p);
	if (!d->memory(d, &avail, &total, e))
		return false;
	uint64_t room = avail / 2;
	return ceilings_measure(c, d, room < b->s.memory_limit ? room : b->s.memory_limit, e);
}

/* Sums and longest chains, of what was measured and of the bounds. */
static void
add_up(Bench *b)
{
	uint32_t n = b->p->ninstr;
	double *seconds = arena_alloc(&b->s.arena, n * sizeof *seconds), *bound = arena_alloc(&b->s.arena, n * sizeof *bound);
	bool *on = arena_alloc(&b->s.arena, n * sizeof *on);
	for (uint32_t i = 0; i < n; i++) {
		b->sum += seconds[i] = b->cost[i].seconds;
		b->bound_sum += bound[i] = b->cost[i].bound;
	}
	b->chain = longest_chain(&b->s.arena, b->p, seconds, on);
	b->bound_chain = longest_chain(&b->s.arena, b->p, bound, NULL);
	for (uint32_t i = 0; i < n; i++)
		b->cost[i].critical = on[i];
}

bool
bench_instrs(Bench *b, const Ceilings *c, Err *e)
{
	uint32_t n = b->p->ninstr;
	InstrTime *t = arena_alloc(&b->s.arena, n * sizeof *t);
	if (!b->s.device->profile(b->s.device, b->step.x, PROFILE_TIMES, t, e))
		return false;
	b->cost = xcalloc(n, sizeof *b->cost);
	ceilings_bound(c, b->p, b->cost);
	for (uint32_t i = 0; i < n; i++)
		b->cost[i].seconds = t[i].seconds;
	add_up(b);
	return true;
}

/* ---- output ---- */

typedef struct Line {
	double seconds;
	uint32_t index;
} Line;

static int
compare_lines(const void *a, const void *b)
{
	const Line *x = a, *y = b;
	if (x->seconds != y->seconds)
		return x->seconds < y->seconds ? 1 : -1;
	return (x->index > y->index) - (x->index < y->index);
}

/* Instructions by time, longest first; malloced. */
static Line *
sort_instrs(const Bench *b)
{
	Line *l = xcalloc(b->p->ninstr, sizeof *l);
	for (uint32_t i = 0; i < b->p->ninstr; i++)
		l[i] = (Line){b->cost[i].seconds, i};
	if (b->p->ninstr)
		qsort(l, b->p->ninstr, sizeof *l, compare_lines);
	return l;
}

static double
percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

static void
print_instrs(const Bench *b)
{
	char bytes[32];
	Line *l = sort_instrs(b);
	printf("\n%5s %10s %6s %10s %6s %10s %9s %9s %9s  %s\n", "instr", "us", "share", "bound us", "of it", "bytes", "MFLOP", "GB/s", "GFLOP/s",
	       "what (where)");
	for (uint32_t i = 0; i < b->p->ninstr; i++) {
		const PlanInstr *in = &b->p->instr[l[i].index];
		const Cost *c = &b->cost[l[i].index];
		double t = c->seconds > 0 ? c->seconds : 1e-12;
		printf("%5u %10.2f%c %4.1f%% %10.2f %5.0f%% %10s %9.3f %9.2f %9.2f  %s%s%s%s\n", l[i].index, c->seconds * 1e6, c->critical ? '*' : ' ',
		       percent(c->seconds, b->sum), c->bound * 1e6, percent(c->bound, c->seconds), human_bytes(bytes, (uint64_t)c->bytes), c->flops / 1e6,
		       c->bytes / t / 1e9, c->flops / t / 1e9, in->what, in->loc[0] ? " (" : "", in->loc, in->loc[0] ? ")" : "");
	}
	printf("%5s %10.2f  sum of instructions run alone; %.2f of their bounds\n", "", b->sum * 1e6, b->bound_sum * 1e6);
	printf("%5s %10.2f* longest chain of those that wait for each other; %.2f of their bounds\n", "", b->chain * 1e6, b->bound_chain * 1e6);
	free(l);
}

static void
print_ceilings(const Ceilings *c)
{
	char bytes[32];
	fputs("ceiling", stdout);
	for (int i = 0; i < NCOPY; i++)
		if (c->bandwidth[i] > 0)
			printf("%s %s %.4g GB/s", i ? "," : " copy of", human_bytes(bytes, c->bytes[i]), c->bandwidth[i] / 1e9);
	for (uint32_t i = 0; i < c->nrate; i++)
		if (c->rate[i].flops > 0)
			printf("; %s product %.4g GFLOP/s", rate_name(&c->rate[i]), c->rate[i].flops / 1e9);
	printf(" (measured in %.2f s)\n", c->seconds);
}

static void
print_bench(const Bench *b, const Ceilings *c)
{
	const PlanProgram *p = b->p;
	char act[32], bound[32];
	double ms = bench_ms(b);
	printf("%s, program %s, batch %lld: %u instructions\n", b->s.plan->model, p->name, (long long)p->batch, p->ninstr);
	if (b->step.parts > 1)
		printf("a step is %lld batches: the instructions are those of the last\n", (long long)b->step.parts);
	session_describe(&b->s, stdout);
	printf("arena   %s, lower bound %s\n", human_bytes(act, p->act_bytes), human_bytes(bound, p->act_bound));
	printf("step    %.4f ms [%.4f %.4f], %.0f rows/s, %.3g launches (%lld windows of %lld steps)\n", ms, b->ms[0], b->ms[b->nwindow - 1],
	       (double)b->rows / ms * 1e3, b->launches, (long long)b->nwindow, (long long)b->steps);
	print_ceilings(c);
	if (b->step.parts == 1)
		printf("bound   %.4f ms sum, %.4f ms longest chain: the step achieves %.1f%% of the sum\n", b->bound_sum * 1e3, b->bound_chain * 1e3,
		       percent(b->bound_sum * 1e3, ms));
	print_instrs(b);
}

/* Device memory of a session, columns included. */
static double
memory_of(const Bench *b)
{
	double sum = (double)b->s.data_bytes;
	for (int k = 0; k < NSPACE; k++)
		sum += (double)b->s.bytes[k];
	return sum;
}

static double
ratio(double x, double y)
{
	return y > 0 ? x / y : x > 0 ? INFINITY : 1;
}

/* Two plans side by side, then the second over the first; of different batches, a step is compared by its time a row. */
static void
print_pair(const Bench *b)
{
	printf("\n%12s %10s %10s %12s %10s %12s %12s  plan\n", "ms", "least", "greatest", "rows/s", "launches", "act MB", "memory MB");
	for (int i = 0; i < 2; i++)
		printf("%12.4f %10.4f %10.4f %12.0f %10.3g %12.3f %12.3f  %s\n", bench_ms(&b[i]), b[i].ms[0], b[i].ms[b[i].nwindow - 1],
		       (double)b[i].rows / bench_ms(&b[i]) * 1e3, b[i].launches, (double)b[i].p->act_bytes / 1e6, memory_of(&b[i]) / 1e6, b[i].s.path);
	double a = bench_ms(&b[0]) / (double)b[0].rows, c = bench_ms(&b[1]) / (double)b[1].rows;
	printf("%11.3fx %10s %10s %11.3fx %10s %11.3fx %11.3fx  second over first%s\n", ratio(c, a), "", "", ratio(a, c), "",
	       ratio((double)b[1].p->act_bytes, (double)b[0].p->act_bytes), ratio(memory_of(&b[1]), memory_of(&b[0])),
	       b[0].rows == b[1].rows ? "" : ", time a row");
}

/* ---- JSON ---- */

static json_t *
ceilings_json(const Ceilings *c)
{
	json_t *j = json_object(), *copy = json_array(), *product = json_array();
	for (int i = 0; i < NCOPY; i++)
		if (c->bandwidth[i] > 0)
			json_array_append_new(copy, json_pack("{s:I, s:f}", "bytes", (json_int_t)c->bytes[i], "bytes_per_second", c->bandwidth[i]));
	for (uint32_t i = 0; i < c->nrate; i++)
		json_array_append_new(product, json_pack("{s:s, s:f}", "precision", rate_name(&c->rate[i]), "flops_per_second", c->rate[i].flops));
	json_object_set_new(j, "copies", copy);
	json_object_set_new(j, "products", product);
	json_object_set_new(j, "seconds", json_number(c->seconds));
	return j;
}

static json_t *
memory_json(const Bench *b)
{
	json_t *j = json_object();
	for (int k = 0; k < NSPACE; k++)
		json_object_set_new(j, space_names[k], json_integer((json_int_t)(k == SP_DATA ? b->s.data_bytes : b->s.bytes[k])));
	return j;
}

static json_t *
instr_json(const Bench *b, uint32_t i)
{
	const PlanInstr *in = &b->p->instr[i];
	const Cost *c = &b->cost[i];
	json_t *o = json_object();
	json_object_set_new(o, "instr", json_integer(i));
	json_object_set_new(o, "what", json_string(in->what));
	json_object_set_new(o, "loc", json_string(in->loc));
	json_object_set_new(o, "kind", json_string(instr_kinds[in->kind]));
	json_object_set_new(o, "times", json_integer(c->times));
	json_object_set_new(o, "seconds", json_number(c->seconds));
	json_object_set_new(o, "bound_seconds", json_number(c->bound));
	json_object_set_new(o, "achieved", json_number(ratio(c->bound, c->seconds)));
	json_object_set_new(o, "bytes", json_number(c->bytes));
	json_object_set_new(o, "flops", json_number(c->flops));
	json_object_set_new(o, "critical", json_boolean(c->critical));
	return o;
}

static json_t *
bench_json(const Bench *b)
{
	const PlanProgram *p = b->p;
	Line *l = sort_instrs(b);
	json_t *j = json_object(), *list = json_array();
	json_object_set_new(j, "model", json_string(b->s.plan->model));
	json_object_set_new(j, "compiler", json_string(b->s.plan->compiler));
	json_object_set_new(j, "device", json_string(b->s.device->name));
	json_object_set_new(j, "info", json_string(b->s.device->info));
	json_object_set_new(j, "program", json_string(p->name));
	json_object_set_new(j, "batch", json_integer(p->batch));
	json_object_set_new(j, "parts", json_integer(b->step.parts));
	json_object_set_new(j, "ms", json_number(bench_ms(b)));
	json_object_set_new(j, "ms_min", json_number(b->ms[0]));
	json_object_set_new(j, "ms_max", json_number(b->ms[b->nwindow - 1]));
	json_object_set_new(j, "sum_seconds", json_number(b->sum));
	json_object_set_new(j, "chain_seconds", json_number(b->chain));
	json_object_set_new(j, "bound_sum_seconds", json_number(b->bound_sum));
	json_object_set_new(j, "bound_chain_seconds", json_number(b->bound_chain));
	json_object_set_new(j, "windows", json_integer(b->nwindow));
	json_object_set_new(j, "launches", json_number(b->launches));
	json_object_set_new(j, "act_bytes", json_integer((json_int_t)p->act_bytes));
	json_object_set_new(j, "act_bound", json_integer((json_int_t)p->act_bound));
	json_object_set_new(j, "work_bytes", json_integer((json_int_t)p->work_bytes));
	json_object_set_new(j, "memory", memory_json(b));
	for (uint32_t i = 0; i < p->ninstr; i++)
		json_array_append_new(list, instr_json(b, l[i].index));
	json_object_set_new(j, "instrs", list);
	free(l);
	return j;
}

static bool
write_json(const Bench *b, int n, const Ceilings *c, const char *path, Err *e)
{
	json_t *j = bench_json(b);
	json_object_set_new(j, "ceilings", ceilings_json(c));
	if (n > 1)
		json_object_set_new(j, "vs", bench_json(b + 1));
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	Text t = {0};
	text_printf(&t, "%s\n", text);
	bool ok = write_file_atomic(path, t.s, t.n, 0666, e);
	free(text);
	free(t.s);
	json_decref(j);
	return ok;
}

static bool
write_page_of(const Bench *b, const Ceilings *c, const char *path, Err *e)
{
	Text t = {0};
	bench_page(&t, b, c);
	bool ok = write_file_atomic(path, t.s, t.n, 0666, e);
	free(t.s);
	return ok;
}

/* ---- the command ---- */

static bool
bench(Bench *b, int n, const Options *o, Err *e)
{
	Ceilings c = {0};
	for (int i = 0; i < n; i++)
		if (!bench_open(&b[i], o, i ? o->vs : o->plan, e))
			return false;
	if (!bench_ceilings(b, n, &c, e))
		return false;
	for (int i = 0; i < n; i++)
		if (!bench_prepare(&b[i], e))
			return false;
	if (!bench_windows(b, n, e))
		return false;
	for (int i = 0; i < n; i++) {
		if (!bench_instrs(&b[i], &c, e))
			return false;
		fputs(i ? "\n" : "", stdout);
		print_bench(&b[i], &c);
	}
	if (n > 1)
		print_pair(b);
	return (!o->json_file || write_json(b, n, &c, o->json_file, e)) && (!o->html || write_page_of(b, &c, o->html, e));
}

bool
run_bench(const Options *o, int *status, Err *e)
{
	int n = o->vs ? 2 : 1;
	Bench *b = xcalloc(2, sizeof *b);
	*status = 0;
	bool ok = bench(b, n, o, e);
	for (int i = 0; i < n; i++)
		bench_close(&b[i]);
	free(b);
	return ok;
}
