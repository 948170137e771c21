/* mmrun profile: one step as a trace in the Chrome Trace Event Format (its JSON object form), which Perfetto and chrome://tracing open.
   https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

   Tracks of the one process: the step as it ran, whole; its instructions one after the other, each as long as it takes alone (on
   a GPU by events); the longest chain of those that wait for each other; counters of the memory that holds values and of what
   an instruction moves and computes a second. Times are microseconds, exact to the nanosecond. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

typedef enum Track { TR_STEP = 1, TR_INSTRS, TR_CHAIN } Track;

typedef struct Trace {
	const Bench *b;
	json_t *events;
	bool bad; /* an event has a name that JSON cannot hold */
} Trace;

/* Takes the reference; NULL: it could not be made. */
static void
add_event(Trace *t, json_t *event)
{
	t->bad |= json_array_append_new(t->events, event) != 0;
}

static double
microseconds(double seconds)
{
	return round(seconds * 1e9) / 1e3;
}

static void
name_track(Trace *t, const char *what, int track, const char *name)
{
	add_event(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "ph", "M", "name", what, "pid", 1, "tid", track, "args", "name", name));
	if (track)
		add_event(t, json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "ph", "M", "name", "thread_sort_index", "pid", 1, "tid", track, "args",
		                                           "sort_index", track));
}

/* A complete event from `start` to `end`, seconds; takes the reference to args. */
static void
add_span(Trace *t, Track track, const char *name, const char *kind, double start, double end, json_t *args)
{
	double from = microseconds(start);
	add_event(t, json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o}", "ph", "X", "name", name, "cat", kind, "pid", 1, "tid",
	                                           (int)track, "ts", from, "dur", microseconds(end) - from, "args", args));
}

static void
add_counter(Trace *t, const char *name, const char *unit, double at, double value)
{
	add_event(t, json_pack("{s:s, s:s, s:i, s:f, s:{s:f}}", "ph", "C", "name", name, "pid", 1, "ts", microseconds(at), "args", unit, value));
}

static json_t *
instr_args(const Bench *b, uint32_t i)
{
	const Cost *c = &b->cost[i];
	return json_pack("{s:I, s:s, s:s, s:f, s:f, s:I, s:f, s:b}", "instr", (json_int_t)i, "what", b->p->instr[i].what, "where", b->p->instr[i].loc, "bytes",
	                 c->bytes, "flop", c->flops, "times", (json_int_t)c->times, "bound us", c->bound * 1e6, "on the longest chain", c->critical);
}

static void
add_instrs(Trace *t)
{
	const Bench *b = t->b;
	uint32_t nlife;
	Life *life = program_lives(b->p, &nlife);
	double at = 0, chain = 0;
	for (uint32_t i = 0; i < b->p->ninstr; i++) {
		const PlanInstr *in = &b->p->instr[i];
		const Cost *c = &b->cost[i];
		if (in->kind == I_LOOP) /* its instructions stand for it */
			continue;
		add_counter(t, "live activations", "bytes", at, (double)lives_bytes(life, nlife, i));
		add_counter(t, "memory traffic", "GB/s", at, c->seconds > 0 ? c->bytes / c->seconds / 1e9 : 0);
		add_counter(t, "arithmetic", "GFLOP/s", at, c->seconds > 0 ? c->flops / c->seconds / 1e9 : 0);
		add_span(t, TR_INSTRS, in->what, instr_kinds[in->kind], at, at + c->seconds, instr_args(b, i));
		if (c->critical) {
			add_span(t, TR_CHAIN, in->what, instr_kinds[in->kind], chain, chain + c->seconds, instr_args(b, i));
			chain += c->seconds;
		}
		at += c->seconds;
	}
	add_counter(t, "live activations", "bytes", at, 0);
	add_counter(t, "memory traffic", "GB/s", at, 0);
	add_counter(t, "arithmetic", "GFLOP/s", at, 0);
	free(life);
}

static json_t *
make_trace(Bench *b)
{
	Trace t = {.b = b, .events = json_array()};
	const PlanProgram *p = b->p;
	name_track(&t, "process_name", 0, arena_printf(&b->s.arena, "%s, program %s, batch %lld on %s", b->s.plan->model, p->name, (long long)p->batch,
	                                                b->s.device->name));
	name_track(&t, "thread_name", TR_STEP, "step, as it ran");
	name_track(&t, "thread_name", TR_INSTRS, "instructions, each alone");
	name_track(&t, "thread_name", TR_CHAIN, "longest chain of dependent ones");
	add_span(&t, TR_STEP, p->name, "step", 0, bench_ms(b) / 1e3, json_pack("{s:I, s:I}", "rows", (json_int_t)b->rows, "batches", (json_int_t)b->step.parts));
	add_instrs(&t);
	json_t *j = json_pack("{s:o, s:s, s:{s:s, s:s, s:s, s:s, s:f, s:f, s:f}}", "traceEvents", t.events, "displayTimeUnit", "ns", "otherData", "model",
	                 b->s.plan->model, "compiler", b->s.plan->compiler, "device", b->s.device->name, "info", b->s.device->info, "step us", bench_ms(b) * 1e3,
	                 "instructions us", b->sum * 1e6, "longest chain us", b->chain * 1e6);
	if (!t.bad)
		return j;
	json_decref(j);
	return NULL;
}

static bool
write_trace(Bench *b, const char *path, Err *e)
{
	json_t *j = make_trace(b);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	bool ok = text || fail(e, "%s: the plan's names are no UTF-8: compile it again", b->s.path);
	Text t = {0};
	if (text)
		text_printf(&t, "%s\n", text);
	ok = ok && write_file_atomic(path, t.s, t.n, 0666, e);
	free(text);
	free(t.s);
	json_decref(j);
	return ok;
}

static bool
profile(Bench *b, const Options *o, Err *e)
{
	Ceilings c = {0};
	if (!bench_open(b, o, o->plan, e) || !bench_ceilings(b, 1, &c, e) || !bench_prepare(b, e) || !bench_windows(b, 1, e) || !bench_instrs(b, &c, e))
		return false;
	if (!write_trace(b, o->trace, e))
		return false;
	printf("%s: %u instructions, %.1f us run alone one by one; a step %.1f us: open it in ui.perfetto.dev or chrome://tracing\n", o->trace, b->p->ninstr,
	       b->sum * 1e6, bench_ms(b) * 1e3);
	return true;
}

bool
run_profile(const Options *o, int *status, Err *e)
{
	Bench *b = xcalloc(1, sizeof *b);
	*status = 0;
	bool ok = profile(b, o, e);
	bench_close(b);
	free(b);
	return ok;
}
