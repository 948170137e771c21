/* Where did the first bad number come from? Training is deterministic: from the last saved state the steps are run again, one
   by one, until a state or the loss is no longer finite; that step is run once more, one instruction at a time, and every
   result is looked at. The program for it is "trace", an instruction for each operation, whichever part of a step it was: all parts
   compute what the last does; where the plan has none, or the number does not show there (its roundings differ), the training program
   itself, whose kernels hold several operations.

   A value that is not finite has a cause: the instruction that made it of finite ones, or a state that had it before (columns
   are finite: encode.c). Causes follow the values through memory. An infinity that no arithmetic made (masks: where(m, x,
   -inf)) is legal, and so is what comes of it until it becomes NaN. */
#define _GNU_SOURCE
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAXARG 64 /* whose values are told; a kernel of one operation has fewer */

typedef enum CauseKind { C_STATE, C_OP, C_LEGAL, C_NONE } CauseKind; /* better ones first */

typedef struct Cause {
	CauseKind kind;
	uint32_t index;   /* of the state or instruction */
	int64_t at;       /* element */
	double value;
	bool of_mask;     /* made of legal infinities */
} Cause;

/* Memory that holds values that are not finite. */
typedef struct Bad {
	uint32_t space;
	uint64_t lo, hi;  /* bytes */
	bool nan;
	Cause cause;
} Bad;

typedef struct Trace {
	Session *s;
	Device *d;        /* the session's, or a CPU that is opened for this */
	const PlanTargetset *set;
	const PlanProgram *p;
	void *base[NSPACE];
	void **column;
	bool whole;       /* every operation is an instruction */
	bool own[NSPACE]; /* allocated here */
	unsigned char *before[NSTATE]; /* the state before the step that is traced */
	Bad *bad;
	size_t nbad, capbad;
	char **from;      /* by instruction: the values that a cause made its first bad one of; malloced */
	unsigned char *buf[MAXARG + 1]; /* by argument, as read before the instruction; the last: a result */
	uint64_t cap[MAXARG + 1];
} Trace;

/* ---- values ---- */

static DType
arg_type(const PlanInstr *in, uint32_t i)
{
	return i < in->ndtype ? (DType)in->dtype[i] : DT_F32;
}

static bool is_float(DType t) { return t == DT_F32 || t == DT_BF16 || t == DT_F16; }

/* Its sign means nothing to a person. */
static double plain_nan(double v) { return isnan(v) ? (double)NAN : v; }

/* The first element of n that is NaN, else the first that is infinite; -1: all are finite. */
static int64_t
first_bad(DType t, const void *p, int64_t n)
{
	int64_t inf = -1;
	for (int64_t i = 0; i < n; i++) {
		double v = dtype_load(t, p, i);
		if (isnan(v))
			return i;
		if (isinf(v) && inf < 0)
			inf = i;
	}
	return inf;
}

/* The same in the result of a matrix product, whose rows may have gaps. */
static int64_t
first_bad_gemm(const PlanGemm *g, DType t, const void *p)
{
	int64_t inf = -1;
	for (int64_t i = 0; i < g->batch0 * g->batch1 * g->m; i++) {
		int64_t row = i % g->m, b = i / g->m, off = b / g->batch1 * g->c0 + b % g->batch1 * g->c1 + row * g->crs;
		int64_t k = first_bad(t, (const char *)p + off * (int64_t)dtype_bytes(t), g->n);
		if (k >= 0 && isnan(dtype_load(t, p, off + k)))
			return off + k;
		if (k >= 0 && inf < 0)
			inf = off + k;
	}
	return inf;
}

/* The ops in the name of a kernel: "log" of "trace_k12_log". */
static const char *
op_name(const PlanInstr *in)
{
	const char *p = in->kind == I_KERNEL ? strstr(in->what, "_k") : NULL;
	if (!p)
		return in->what;
	p += 2 + strspn(p + 2, "0123456789");
	return *p == '_' ? p + 1 : in->what;
}

/* May the instruction make an infinity of finite values? In a kernel of several operations only +inf counts: -inf masks. */
static bool
makes_infinity(const Trace *t, const PlanInstr *in, double v)
{
	static const char *const arithmetic[] = {"exp", "log", "log1p", "sqrt", "rsqrt", "add", "sub", "mul", "div", "pow", "reduce_sum", "scatter_add", "fold"};
	const char *op = op_name(in);
	if (in->kind == I_GEMM)
		return true;
	if (in->kind != I_KERNEL)
		return false;
	for (size_t i = 0; t->whole && i < LEN(arithmetic); i++)
		if (!strcmp(op, arithmetic[i]))
			return true;
	return strstr(op, "dot") || (!t->whole && v > 0);
}

/* ---- what is where ---- */

static Cause
cause_of(Trace *t, const PlanRef *r, bool *nan)
{
	Cause best = {.kind = C_NONE};
	*nan = false;
	for (size_t i = 0; i < t->nbad; i++) {
		const Bad *b = &t->bad[i];
		if (b->space != r->space || b->hi <= r->off || b->lo >= r->off + r->bytes)
			continue;
		if (best.kind == C_NONE || (b->nan && !*nan) ||
		    (b->nan == *nan && (b->cause.kind < best.kind || (b->cause.kind == best.kind && b->cause.index < best.index))))
			best = b->cause;
		*nan = *nan || b->nan;
	}
	return best;
}

/* Memory that is written anew holds nothing bad, until it is marked. */
static void
forget(Trace *t, const PlanRef *r)
{
	for (size_t i = 0; i < t->nbad; i++) {
		Bad *b = &t->bad[i];
		if (b->space == r->space && b->lo >= r->off && b->hi <= r->off + r->bytes)
			t->bad[i--] = t->bad[--t->nbad];
	}
}

static void
mark(Trace *t, uint32_t space, uint64_t lo, uint64_t hi, bool nan, Cause c)
{
	VEC_PUSH(t->bad, t->nbad, t->capbad) = (Bad){space, lo, hi, nan, c};
}

/* States that are bad before the step: their causes are out of reach. */
static void
mark_states(Trace *t)
{
	const Plan *p = t->s->plan;
	for (uint32_t i = 0; i < p->nstate; i++) {
		const PlanState *st = &p->state[i];
		const void *at = t->before[st->space] ? t->before[st->space] + st->off : NULL;
		int64_t k = at && is_float((DType)st->dtype) ? first_bad((DType)st->dtype, at, state_count(st)) : -1;
		if (k < 0)
			continue;
		double v = plain_nan(dtype_load((DType)st->dtype, at, k));
		Cause c = {isnan(v) ? C_STATE : C_LEGAL, i, k, v, false};
		mark(t, st->space, st->off, st->off + (uint64_t)state_count(st) * dtype_bytes((DType)st->dtype), isnan(v), c);
	}
}

/* ---- one instruction ---- */

static bool
fetch_arg(Trace *t, const PlanRef *r, size_t slot, Err *e)
{
	if (t->cap[slot] < r->bytes) {
		t->buf[slot] = xrealloc(t->buf[slot], r->bytes);
		t->cap[slot] = r->bytes;
	}
	return t->d->download(t->d, t->buf[slot], (char *)t->base[r->space] + r->off, r->bytes, e);
}

static bool
read_arg(const PlanInstr *in, uint32_t k)
{
	return !instr_writes(in, k) && in->arg[k].space != SP_DATA && is_float(arg_type(in, k)) && k < MAXARG;
}

/* "-0.31", "1e+30 and -2": operands of the element, where they are elementwise; else the largest of each. */
static char *
made_of(Trace *t, const PlanInstr *in, int64_t at, int64_t n)
{
	Text text = {0};
	for (uint32_t k = 0; k < in->narg; k++) {
		if (!read_arg(in, k))
			continue;
		DType dt = arg_type(in, k);
		int64_t count = (int64_t)(in->arg[k].bytes / dtype_bytes(dt));
		double v = 0, x;
		for (int64_t i = 0; count != n && i < count; i++)
			if (fabs(x = dtype_load(dt, t->buf[k], i)) > fabs(v) || isnan(x))
				v = x;
		if (count == n)
			v = dtype_load(dt, t->buf[k], at);
		text_printf(&text, "%s%s%g", text.n ? " and " : "", count == n ? "" : "values up to ", plain_nan(v));
	}
	return text.s;
}

/* Looks at one result of instruction i, and marks it if need be. `in`: what its operands hold. */
static bool
look(Trace *t, uint32_t i, uint32_t arg, Cause in, bool in_nan, Err *e)
{
	const PlanInstr *x = &t->p->instr[i];
	const PlanRef *r = &x->arg[arg];
	DType dt = arg_type(x, arg);
	size_t last = MAXARG;
	int64_t n = (int64_t)(r->bytes / dtype_bytes(dt)), k;
	forget(t, r);
	if (!is_float(dt))
		return true;
	if (!fetch_arg(t, r, last, e))
		return false;
	k = x->kind == I_GEMM ? first_bad_gemm(&t->p->gemm[x->index], dt, t->buf[last]) : first_bad(dt, t->buf[last], n);
	if (k < 0)
		return true;
	double v = plain_nan(dtype_load(dt, t->buf[last], k));
	bool nan = isnan(v), inherits = in.kind != C_NONE && (in.kind != C_LEGAL || !nan || in_nan);
	Cause c = in;
	if (!inherits) {
		bool made = nan || makes_infinity(t, x, v);
		c = (Cause){made ? C_OP : C_LEGAL, i, k, v, in.kind == C_LEGAL};
		if (made && !t->from[i])
			t->from[i] = made_of(t, x, k, n);
	}
	mark(t, r->space, r->off, r->off + r->bytes, nan, c);
	return true;
}

static bool
trace_instr(Trace *t, Exec *x, uint32_t i, Err *e)
{
	const PlanInstr *in = &t->p->instr[i];
	Cause worst = {.kind = C_NONE};
	bool nan = false;
	for (uint32_t k = 0; k < in->narg; k++) {
		bool is_nan;
		if (instr_writes(in, k))
			continue;
		if (read_arg(in, k) && !fetch_arg(t, &in->arg[k], k, e))
			return false;
		Cause c = cause_of(t, &in->arg[k], &is_nan);
		if (c.kind != C_NONE && (worst.kind == C_NONE || (is_nan && !nan) ||
		                         (is_nan == nan && (c.kind < worst.kind || (c.kind == worst.kind && c.index < worst.index)))))
			worst = c;
		nan = nan || is_nan;
	}
	if (!t->d->step(t->d, x, i, e))
		return false;
	for (uint32_t k = 0; k < in->narg; k++)
		if (instr_writes(in, k) && !look(t, i, k, worst, nan, e))
			return false;
	return true;
}

/* ---- one step ---- */

/* The first cause of what is bad in the states after the step. */
static Cause
first_cause(const Trace *t)
{
	Cause best = {.kind = C_NONE};
	for (size_t i = 0; i < t->nbad; i++) {
		const Bad *b = &t->bad[i];
		if (b->space < NSTATE && b->cause.kind != C_LEGAL &&
		    (b->cause.kind < best.kind || (b->cause.kind == best.kind && b->cause.index < best.index)))
			best = b->cause;
	}
	return best;
}

/* Columns and spaces that the program needs and the session does not have on this device. */
static bool
trace_memory(Trace *t, Err *e)
{
	Session *s = t->s;
	uint32_t n = s->schema->ninput + s->schema->ntarget;
	bool other = t->d != s->device;
	uint64_t bytes[NSPACE] = {s->bytes[SP_PARAM], s->bytes[SP_OPT], s->bytes[SP_STAT], t->p->act_bytes, t->p->work_bytes, 0};
	t->column = s->column;
	for (int k = 0; k < NSPACE; k++) {
		t->base[k] = s->base[k];
		t->own[k] = bytes[k] && (other || bytes[k] > s->bytes[k]);
		if (t->own[k] && !(t->base[k] = t->d->alloc(t->d, bytes[k], "the search for the first bad value", e)))
			return false;
	}
	for (int k = 0; k < NSTATE; k++)
		if (bytes[k] && !t->d->upload(t->d, t->base[k], t->before[k], bytes[k], e))
			return false;
	if (!other)
		return true;
	t->column = xcalloc(n, sizeof *t->column); /* the CPU reads them where they are */
	for (uint32_t i = 0; i < n && i < s->data.ncolumn; i++)
		t->column[i] = (void *)(uintptr_t)s->data.column[i].data;
	return true;
}

static void
trace_release(Trace *t)
{
	for (int k = 0; k < NSPACE; k++)
		if (t->own[k])
			t->d->release(t->d, t->base[k]);
	for (size_t i = 0; i < LEN(t->buf); i++)
		free(t->buf[i]);
	for (uint32_t i = 0; t->from && i < t->p->ninstr; i++)
		free(t->from[i]);
	free(t->from);
	free(t->bad);
	if (t->d && t->d != t->s->device) {
		free(t->column);
		t->d->close(t->d);
	}
}

static bool
trace_run(Trace *t, Err *e)
{
	Binding b = {.ncolumn = t->s->schema->ninput + t->s->schema->ntarget};
	t->from = xcalloc(t->p->ninstr, sizeof *t->from);
	if (!trace_memory(t, e))
		return false;
	b.column = t->column;
	memcpy(b.base, t->base, sizeof b.base);
	Exec *x = t->d->prepare(t->d, t->set, t->p, &b, e);
	bool ok = x != NULL;
	mark_states(t);
	for (uint32_t i = 0; ok && i < t->p->ninstr; i++)
		ok = trace_instr(t, x, i, e);
	if (x)
		t->d->drop(t->d, x);
	return ok;
}

/* ---- words ---- */

static void
say_op(const Trace *t, const Cause *c, Text *out)
{
	static const char *const domain[] = {"log", "log1p", "sqrt", "rsqrt", "div", "pow"};
	const PlanInstr *in = &t->p->instr[c->index];
	const char *op = op_name(in);
	uint32_t k = 0;
	while (k + 1 < in->narg && !instr_writes(in, k))
		k++;
	int64_t n = (int64_t)(in->arg[k].bytes / dtype_bytes(arg_type(in, k))), row = n % t->p->batch ? 0 : n / t->p->batch;
	bool narrow = false, whole = t->whole || in->kind != I_KERNEL;
	for (size_t i = 0; i < LEN(domain); i++)
		narrow = narrow || (whole ? !strcmp(op, domain[i]) : isnan(c->value) && strstr(op, domain[i]));
	text_printf(out, "%s %s (%s) made %g", whole ? "operation" : "kernel", op, in->loc, c->value);
	if (t->from[c->index])
		text_printf(out, " of %s", t->from[c->index]);
	text_printf(out, ", element %lld of %lld of its result", (long long)c->at, (long long)n);
	if (row > 0)
		text_printf(out, " (row %lld of the batch)", (long long)(c->at / row));
	if (c->of_mask)
		text_puts(out, ": infinities that a mask put there met: does it hide all values of a row? Let it leave one");
	else if (narrow)
		text_printf(out, ": keep its operands where %s has a value, as in max(x, 1e-6), or lower the learning rate", op);
	else
		text_puts(out, ": numbers grew too large: lower the learning rate (lr), or set clip_norm: 1 under train");
}

static void
say(const Trace *t, const Cause *c, Text *out)
{
	if (c->kind == C_OP)
		say_op(t, c, out);
	else
		text_printf(out, "%s was %g before already (element %lld): train anew, with a lower learning rate or clip_norm: 1",
		            t->s->plan->state[c->index].name, c->value, (long long)c->at);
}

/* ---- the search ---- */

static bool
download_states(Session *s, unsigned char *to[NSTATE], Err *e)
{
	for (int k = 0; k < NSTATE; k++)
		if (s->base[k] && !s->device->download(s->device, to[k], s->base[k], s->bytes[k], e))
			return false;
	return true;
}

/* Is there a bad value in a state that was finite before? */
static bool
went_bad(const Session *s, unsigned char *const before[NSTATE], unsigned char *const after[NSTATE])
{
	for (uint32_t i = 0; i < s->plan->nstate; i++) {
		const PlanState *st = &s->plan->state[i];
		DType t = (DType)st->dtype;
		if (is_float(t) && after[st->space] && first_bad(t, after[st->space] + st->off, state_count(st)) >= 0 &&
		    first_bad(t, before[st->space] + st->off, state_count(st)) < 0)
			return true;
	}
	return false;
}

/* Runs at most n steps, part by part, until one leaves a bad value; before[] is the state that it began with. Returns its
   number, 0: none; *last: it was the step's last part. */
static int64_t
find_step(Session *s, const Step *of, int64_t n, unsigned char *before[NSTATE], bool *last, Err *e)
{
	unsigned char *after[NSTATE] = {0};
	int64_t found = 0;
	for (int k = 0; k < NSTATE; k++)
		after[k] = s->bytes[k] ? xmalloc(s->bytes[k]) : NULL;
	bool ok = download_states(s, before, e);
	for (int64_t i = 0; ok && !found && i < n * of->parts; i++) {
		*last = i % of->parts == of->parts - 1;
		ok = s->device->run(s->device, *last ? of->x : of->part, 1, e) && download_states(s, after, e);
		if (ok && went_bad(s, before, after))
			found = i / of->parts + 1;
		for (int k = 0; !found && k < NSTATE; k++) {
			unsigned char *swap = before[k];
			before[k] = after[k];
			after[k] = swap;
		}
	}
	for (int k = 0; k < NSTATE; k++)
		free(after[k]);
	return found;
}

/* Traces the step with one program; false: nothing was found with it. */
static bool
try_trace(Session *s, const PlanTargetset *set, const PlanProgram *p, unsigned char *before[NSTATE], int64_t step, Text *out)
{
	Trace t = {.s = s, .set = set, .p = p, .d = s->device, .whole = !strcmp(p->name, "trace") || strstr(s->plan->compiler, "no fusion")};
	Err e = {0};
	memcpy(t.before, before, sizeof t.before);
	if (set != s->set)
		t.d = device_cpu_open(0, &e);
	Cause c = {.kind = C_NONE};
	if (t.d && trace_run(&t, &e))
		c = first_cause(&t);
	if (c.kind < C_LEGAL) {
		text_printf(out, "the first bad value is of step %lld: ", (long long)step);
		say(&t, &c, out);
	}
	trace_release(&t);
	return c.kind < C_LEGAL;
}

void
diagnose(Session *s, const Step *of, int64_t saved, int64_t step, Text *out)
{
	int64_t batch = of->train->batch;
	const PlanTargetset *cpu = plan_targetset(s->plan, "cpu"), *set = plan_program(s->set, "trace", batch) ? s->set : cpu;
	const PlanProgram *trace = set ? plan_program(set, "trace", batch) : NULL;
	unsigned char *before[NSTATE] = {0};
	bool last = true;
	Err e = {0};
	for (int k = 0; k < NSTATE; k++)
		before[k] = s->bytes[k] ? xmalloc(s->bytes[k]) : NULL;
	int64_t found = find_step(s, of, step - saved, before, &last, &e);
	if (!found || !((trace && try_trace(s, set, trace, before, saved + found, out)) ||
	                try_trace(s, s->set, last ? of->train : of->accumulate, before, saved + found, out)))
		text_puts(out, "lower the learning rate or set clip_norm: 1 under train, and look for extreme values in the cleaning report");
	for (int k = 0; k < NSTATE; k++)
		free(before[k]);
}
