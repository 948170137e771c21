/* mmrun bench: a program's time per step, and where it goes. Windows of at least half a second after a warm-up; median and
   range over the windows, since one number hides the machine's noise. */
#include "depend.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP 0.3 /* seconds */
#define WINDOW 0.5

typedef struct Bench {
	Session s;
	const Options *o;
	const PlanProgram *p;
	Step step;         /* of p; where it trains, with all parts of a step */
	int64_t rows;      /* a step */
	double *ms;        /* a step, per window, sorted */
	int64_t nwindow, steps; /* a window */
	double launches;   /* a step */
	InstrTime *time;   /* per instruction */
	bool *critical;    /* per instruction: is it on the longest chain of those that wait for each other? */
	double chain;      /* seconds of that chain */
} Bench;

/* ---- synthetic columns ---- */

static uint64_t
draw(uint32_t column, int64_t i)
{
	uint32_t c[2] = {(uint32_t)i, column};
	philox2x32(c, 0x6d6d72);
	return (uint64_t)c[0] << 32 | c[1];
}

static double
draw_normal(uint32_t column, int64_t i)
{
	uint64_t x = draw(column, i);
	return sqrt(-2 * log(((double)(x >> 32) + 0.5) * 0x1p-32)) * cos(2 * acos(-1.0) * (double)(x & UINT32_MAX) * 0x1p-32);
}

/* Ids as the reader would make them: below size, lists of random length padded with 0. */
static void
fill_ids(int32_t *out, int64_t size, int64_t width, uint32_t column, int64_t rows)
{
	int64_t least = width > 1 && size > 2 ? 2 : 0;
	for (int64_t r = 0; r < rows; r++) {
		int64_t n = width > 1 ? 1 + (int64_t)(draw(column + 0x10000, r) % (uint64_t)width) : 1;
		for (int64_t k = 0; k < width; k++) {
			int64_t i = r * width + k;
			out[i] = k < n ? (int32_t)(least + (int64_t)(draw(column, i) % (uint64_t)(size - least))) : 0;
		}
	}
}

static void
fill_bytes(uint8_t *out, uint32_t column, int64_t n, int64_t below)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (uint8_t)(draw(column, i) % (uint64_t)below);
}

static void
fill_numbers(float *out, uint32_t column, int64_t n, bool binary)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = binary ? (float)(draw(column, i) & 1) : (float)draw_normal(column, i);
}

static void
make_columns(Session *s, int64_t rows)
{
	const PlanData *d = s->schema;
	uint32_t n = d ? d->ninput + d->ntarget : 0;
	Column *c = arena_alloc(&s->arena, (n + 1) * sizeof *c);
	for (uint32_t i = 0; i < n; i++) {
		const PlanInput *in = i < d->ninput ? &d->input[i] : NULL;
		const PlanTarget *t = in ? NULL : &d->target[i - d->ninput];
		DType dt = column_dtype(d, i);
		int64_t width = column_width(d, i), n = rows * width + column_tail(d, i);
		void *data = arena_alloc(&s->arena, (size_t)n * dtype_bytes(dt));
		if (dt == DT_F32)
			fill_numbers(data, i, n, t && t->kind == TG_BINARY);
		else if (dt == DT_U8)
			fill_bytes(data, i, n, t && t->kind == TG_LABELS ? t->size : 256);
		else
			fill_ids(data, t ? t->size : in->size, width, i, rows);
		c[i] = (Column){.name = column_name(d, i), .dtype = dt, .width = width, .data = data, .tail = column_tail(d, i)};
	}
	s->synthetic = true;
	s->data = (Dataset){.rows = rows, .split = {0, rows, rows, rows}, .ncolumn = n, .column = c};
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

/* The chain of dependent instructions that takes longest: what no device could do in less, however much ran side by side. */
static void
find_chain(Bench *b)
{
	uint32_t n = b->p->ninstr, last = 0;
	Depend *d = depend_find(&b->s.arena, b->p, arena_alloc(&b->s.arena, n * sizeof(WorkSpan)));
	double *until = xcalloc(n, sizeof *until);
	uint32_t *before = xcalloc(n, sizeof *before);
	b->critical = xcalloc(n, sizeof *b->critical);
	for (uint32_t i = 0; i < n; i++) {
		before[i] = i;
		for (uint32_t k = 0; k < d[i].n; k++)
			if (until[d[i].on[k]] > until[i]) {
				before[i] = d[i].on[k];
				until[i] = until[before[i]];
			}
		until[i] += b->time[i].seconds;
		last = until[i] > until[last] ? i : last;
	}
	for (uint32_t i = last; n && !b->critical[i]; i = before[i])
		b->critical[i] = true;
	b->chain = n ? until[last] : 0;
	free(until);
	free(before);
}

static bool
time_steps(Bench *b, Err *e)
{
	double seconds = 0, spent = 0;
	int64_t n = 1, before;
	b->nwindow = b->o->windows;
	b->ms = xcalloc((size_t)b->nwindow, sizeof *b->ms);
	for (; spent < WARM_UP; spent += seconds, n = seconds < WARM_UP / 4 ? n * 2 : n)
		if (!run_window(b, n, &seconds, e))
			return false;
	b->steps = (int64_t)ceil(WINDOW * 1.1 * (double)n / (seconds > 1e-9 ? seconds : 1e-9));
	before = b->s.device->launches;
	for (int64_t w = 0; w < b->nwindow; w++) {
		if (!run_window(b, b->steps, &seconds, e))
			return false;
		b->ms[w] = seconds * 1e3 / (double)b->steps;
	}
	b->launches = (double)(b->s.device->launches - before) / (double)(b->steps * b->nwindow);
	qsort(b->ms, (size_t)b->nwindow, sizeof *b->ms, compare_doubles);
	b->time = xcalloc(b->p->ninstr, sizeof *b->time);
	if (!b->s.device->profile(b->s.device, b->step.x, 20, b->time, e))
		return false;
	find_chain(b);
	return true;
}

static double
median_ms(const Bench *b)
{
	return (b->ms[(b->nwindow - 1) / 2] + b->ms[b->nwindow / 2]) / 2;
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
sort_instrs(const Bench *b, double *sum)
{
	Line *l = xcalloc(b->p->ninstr, sizeof *l);
	*sum = 0;
	for (uint32_t i = 0; i < b->p->ninstr; i++) {
		l[i] = (Line){b->time[i].seconds, i};
		*sum += b->time[i].seconds;
	}
	if (b->p->ninstr)
		qsort(l, b->p->ninstr, sizeof *l, compare_lines);
	return l;
}

static void
print_instrs(const Bench *b)
{
	double sum, us;
	char bytes[32];
	Line *l = sort_instrs(b, &sum);
	printf("\n%5s %10s %6s %10s %9s %9s %9s  %s\n", "instr", "us", "share", "bytes", "MFLOP", "GB/s", "GFLOP/s", "what (where)");
	for (uint32_t i = 0; i < b->p->ninstr; i++) {
		const PlanInstr *in = &b->p->instr[l[i].index];
		double t = l[i].seconds > 0 ? l[i].seconds : 1e-12;
		us = l[i].seconds * 1e6;
		printf("%5u %10.2f%c %4.1f%% %10s %9.3f %9.2f %9.2f  %s%s%s%s\n", l[i].index, us, b->critical[l[i].index] ? '*' : ' ',
		       sum > 0 ? 100 * l[i].seconds / sum : 0, human_bytes(bytes, (uint64_t)in->traffic), in->flops / 1e6,
		       in->traffic / t / 1e9, in->flops / t / 1e9, in->what, in->loc[0] ? " (" : "", in->loc, in->loc[0] ? ")" : "");
	}
	printf("%5s %10.2f  sum of instructions run alone\n", "", sum * 1e6);
	printf("%5s %10.2f* longest chain of those that wait for each other\n", "", b->chain * 1e6);
	free(l);
}

static void
print_bench(const Bench *b)
{
	const PlanProgram *p = b->p;
	char act[32], bound[32];
	double ms = median_ms(b);
	printf("%s, program %s, batch %lld: %u instructions\n", b->s.plan->model, p->name, (long long)p->batch, p->ninstr);
	if (b->step.parts > 1)
		printf("a step is %lld batches: the instructions are those of the last\n", (long long)b->step.parts);
	session_describe(&b->s, stdout);
	printf("arena   %s, lower bound %s\n", human_bytes(act, p->act_bytes), human_bytes(bound, p->act_bound));
	printf("step    %.4f ms [%.4f %.4f], %.0f rows/s, %.3g launches (%lld windows of %lld steps)\n", ms, b->ms[0], b->ms[b->nwindow - 1],
	       (double)b->rows / ms * 1e3, b->launches, (long long)b->nwindow, (long long)b->steps);
	print_instrs(b);
}

static json_t *
bench_json(const Bench *b)
{
	const PlanProgram *p = b->p;
	double sum;
	Line *l = sort_instrs(b, &sum);
	json_t *j = json_object(), *list = json_array();
	json_object_set_new(j, "model", json_string(b->s.plan->model));
	json_object_set_new(j, "compiler", json_string(b->s.plan->compiler));
	json_object_set_new(j, "device", json_string(b->s.device->name));
	json_object_set_new(j, "info", json_string(b->s.device->info));
	json_object_set_new(j, "program", json_string(p->name));
	json_object_set_new(j, "batch", json_integer(p->batch));
	json_object_set_new(j, "ms", json_number(median_ms(b)));
	json_object_set_new(j, "ms_min", json_number(b->ms[0]));
	json_object_set_new(j, "ms_max", json_number(b->ms[b->nwindow - 1]));
	json_object_set_new(j, "chain_seconds", json_number(b->chain));
	json_object_set_new(j, "windows", json_integer(b->nwindow));
	json_object_set_new(j, "launches", json_number(b->launches));
	json_object_set_new(j, "act_bytes", json_integer((json_int_t)p->act_bytes));
	json_object_set_new(j, "act_bound", json_integer((json_int_t)p->act_bound));
	json_object_set_new(j, "work_bytes", json_integer((json_int_t)p->work_bytes));
	for (uint32_t i = 0; i < p->ninstr; i++) {
		const PlanInstr *in = &p->instr[l[i].index];
		json_t *o = json_object();
		json_object_set_new(o, "instr", json_integer(l[i].index));
		json_object_set_new(o, "what", json_string(in->what));
		json_object_set_new(o, "loc", json_string(in->loc));
		json_object_set_new(o, "seconds", json_number(l[i].seconds));
		json_object_set_new(o, "bytes", json_number(in->traffic));
		json_object_set_new(o, "flops", json_number(in->flops));
		json_object_set_new(o, "critical", json_boolean(b->critical[l[i].index]));
		json_array_append_new(list, o);
	}
	json_object_set_new(j, "instrs", list);
	free(l);
	return j;
}

static bool
write_bench(const Bench *b, const char *path, Err *e)
{
	json_t *j = bench_json(b);
	char *text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	Text t = {0};
	text_printf(&t, "%s\n", text);
	bool ok = write_file_atomic(path, t.s, t.n, 0666, e);
	free(text);
	free(t.s);
	json_decref(j);
	return ok;
}

/* ---- the command ---- */

/* What is timed: the program, and where it ends a step of several parts, those before it. */
static bool
find_step(Bench *b, Err *e)
{
	Session *s = &b->s;
	Step *step = &b->step;
	if (!(step->train = b->p = session_program(s, b->o->program, b->o->batch, e)))
		return false;
	if (!strcmp(b->p->name, "accumulate"))
		return fail(e, "--program accumulate: it is part of a step: program train is timed with it");
	step->parts = s->train && !strcmp(b->p->name, "train") ? s->train->accumulate : 1;
	b->rows = b->p->batch * step->parts;
	return step->parts == 1 || (step->accumulate = session_program(s, "accumulate", b->p->batch, e));
}

static bool
bench(Bench *b, Err *e)
{
	Session *s = &b->s;
	const Options *o = b->o;
	if (!session_open(s, o, NULL, e) || !find_step(b, e))
		return false;
	if (o->synthetic)
		make_columns(s, o->rows > b->rows ? o->rows : b->rows);
	else if (!session_build(s, o, NULL, e))
		return false;
	int64_t rows = s->data.split[1] - s->data.split[0], per_epoch = rows / b->rows;
	const PlanProgram *p[] = {b->p, b->step.accumulate};
	if (per_epoch < 1 && !strcmp(b->p->name, "train"))
		return fail(e, "%s: the %lld rows of a step are more than the training split of %lld: try --synthetic", s->path, (long long)b->rows,
		            (long long)rows);
	bool ok = session_allocate(s, p, b->step.accumulate ? 2 : 1, true, e) && session_init(s, e) && session_set(s, RUN_STEPS_PER_EPOCH, per_epoch, e) &&
	          session_set(s, RUN_TOTAL_STEPS, per_epoch * (s->train ? s->train->epochs : 1), e) &&
	          session_rows(s, s->data.split[0], rows, e) && step_prepare(&b->step, s, e) && time_steps(b, e);
	if (!ok)
		return false;
	print_bench(b);
	return !o->json_file || write_bench(b, o->json_file, e);
}

bool
run_bench(const Options *o, int *status, Err *e)
{
	Bench *b = xcalloc(1, sizeof *b);
	b->o = o;
	*status = 0;
	bool ok = bench(b, e);
	step_drop(&b->step, &b->s);
	free(b->ms);
	free(b->time);
	free(b->critical);
	session_close(&b->s);
	free(b);
	return ok;
}
