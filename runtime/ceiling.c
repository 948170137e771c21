/* What a device can do, and what an instruction costs at least on it: roofline bounds (Williams, Waterman, Patterson, CACM 2009).

   Measured, not looked up: a copy and a large product are programs of one instruction, made here, that the device prepares and times
   as it does a plan's. An instruction that is timed alone finds its operands in the cache that holds them, so there is a bandwidth for each
   size of working set. A kernel may hold products of its own, so its arithmetic is held against the fastest rate of the plan. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define RUNS 3     /* the best of as many, and of all in SPELL seconds: others use the machine, too */
#define SPELL 0.02
#define COPY_LEAST ((uint64_t)64 << 10) /* bytes touched; each size is 8 times the one before, the last past every cache */
#define WORKSPACE ((uint64_t)32 << 20)  /* what cuBLASLt asks for on current GPUs */
#define SIDE_LEAST 1024
#define SIDE_MOST 4096               /* of a product; twice as large until one takes LONG */
#define LONG 3e-4                    /* seconds */

/* Device memory in which what is timed lies. */
typedef struct Probe {
	Device *device;
	uint64_t bytes, work_bytes;
	Binding bind;
} Probe;

const char *
rate_name(const Rate *r)
{
	return r->tf32 && r->dtype == DT_F32 ? "tf32" : dtype_name((DType)r->dtype);
}

/* The precision of a product among the rates; -1: not there. */
static int
find_rate(const Ceilings *c, const PlanGemm *g)
{
	for (uint32_t i = 0; i < c->nrate; i++)
		if (c->rate[i].dtype == g->dtype && (g->dtype != DT_F32 || !c->rate[i].tf32 == !g->tf32))
			return (int)i;
	return -1;
}

static void
want(Ceilings *c, const PlanGemm *g)
{
	if (find_rate(c, g) < 0 && c->nrate < MAX_RATES)
		c->rate[c->nrate++] = (Rate){g->dtype, g->ctype, g->tf32, 0};
}

void
ceilings_want(Ceilings *c, const PlanProgram *p)
{
	for (uint32_t i = 0; i < p->ngemm; i++)
		want(c, &p->gemm[i]);
	if (!c->nrate)
		want(c, &(PlanGemm){.dtype = DT_F32, .ctype = DT_F32});
}

/* ---- measuring ---- */

/* Least seconds of one instruction. */
static bool
time_instr(Probe *m, PlanInstr *in, PlanGemm *g, double *seconds, Err *e)
{
	char target[16], empty[] = "", name[] = "ceiling";
	snprintf(target, sizeof target, "%s", m->device->name);
	in->what = in->loc = empty;
	PlanProgram p = {.name = name, .batch = 1, .gemm = g, .ngemm = g != NULL, .instr = in, .ninstr = 1, .act_bytes = m->bytes, .work_bytes = m->work_bytes};
	PlanTargetset set = {.target = target, .program = &p, .nprogram = 1};
	InstrTime t = {0};
	Exec *x = m->device->prepare(m->device, &set, &p, &m->bind, e);
	bool ok = x != NULL;
	double until = now_seconds() + SPELL;
	*seconds = 0;
	for (int i = 0; ok && (i < RUNS || now_seconds() < until); i++) {
		ok = m->device->profile(m->device, x, 1, &t, e);
		if (ok && (!i || t.seconds < *seconds))
			*seconds = t.seconds;
	}
	m->device->drop(m->device, x);
	return ok;
}

static bool
measure_copy(Probe *m, uint64_t touched, double *bandwidth, Err *e)
{
	uint64_t n = touched / 2;
	PlanRef arg[] = {{SP_ACT, n, n}, {SP_ACT, 0, n}};
	PlanInstr in = {.kind = I_COPY, .arg = arg, .narg = LEN(arg), .nout = 1};
	double seconds;
	if (!time_instr(m, &in, NULL, &seconds, e))
		return false;
	*bandwidth = (double)touched / (seconds > 1e-12 ? seconds : 1e-12);
	return true;
}

/* Values in [-1, 1) all over: a GPU multiplies zeros with less power, and so faster, than it does data. */
static bool
fill_probe(Probe *m, DType t, Err *e)
{
	uint64_t chunk = m->bytes < COPY_LEAST * 8 ? m->bytes : COPY_LEAST * 8;
	void *data = xcalloc(chunk, 1);
	bool ok = true;
	for (uint64_t i = 0; i < chunk / dtype_bytes(t); i++) {
		uint32_t r[2] = {(uint32_t)i, 0};
		philox2x32(r, 0x726f6f66);
		dtype_store(t, data, (int64_t)i, (double)r[0] * 0x1p-31 - 1);
	}
	for (uint64_t at = 0; ok && at + chunk <= m->bytes; at += chunk)
		ok = m->device->upload(m->device, (char *)m->bind.base[SP_ACT] + at, data, chunk, e);
	free(data);
	return ok && m->device->sync(m->device, e);
}

static bool
measure_product(Probe *m, Rate *r, Err *e)
{
	uint64_t in_bytes = dtype_bytes((DType)r->dtype), out_bytes = dtype_bytes((DType)r->ctype);
	if (!fill_probe(m, (DType)r->dtype, e))
		return false;
	for (int64_t n = SIDE_LEAST; n <= SIDE_MOST; n *= 2) {
		uint64_t a = (uint64_t)(n * n) * in_bytes, c = (uint64_t)(n * n) * out_bytes;
		if (2 * a + c > m->bytes)
			break;
		PlanGemm g = {.m = n, .n = n, .k = n, .ars = n, .acs = 1, .brs = n, .bcs = 1, .crs = n, .batch0 = 1, .batch1 = 1, .alpha = 1, .dtype = r->dtype,
		              .ctype = r->ctype, .tf32 = r->tf32};
		PlanRef arg[] = {{SP_ACT, 0, a}, {SP_ACT, a, a}, {SP_ACT, 2 * a, c}};
		PlanInstr in = {.kind = I_GEMM, .arg = arg, .narg = LEN(arg), .nout = 1};
		double seconds, flops = 2.0 * (double)n * (double)n * (double)n;
		if (!time_instr(m, &in, &g, &seconds, e))
			return false;
		if (flops / seconds > r->flops)
			r->flops = flops / seconds;
		if (seconds > LONG)
			break;
	}
	return true;
}

static bool
measure(Ceilings *c, Probe *m, Err *e)
{
	for (int i = 0; i < NCOPY; i++)
		if (c->bytes[i] <= m->bytes && !measure_copy(m, c->bytes[i], &c->bandwidth[i], e))
			return false;
	for (uint32_t i = 0; i < c->nrate; i++)
		if (!measure_product(m, &c->rate[i], e))
			return false;
	return true;
}

bool
ceilings_measure(Ceilings *c, Device *d, uint64_t room, Err *e)
{
	double start = now_seconds();
	Probe m = {.device = d};
	for (int i = 0; i < NCOPY; i++)
		c->bytes[i] = i ? c->bytes[i - 1] * 8 : COPY_LEAST;
	if (room < WORKSPACE + COPY_LEAST)
		return true;
	m.work_bytes = WORKSPACE;
	m.bytes = room - WORKSPACE < c->bytes[NCOPY - 1] ? (room - WORKSPACE) / 256 * 256 : c->bytes[NCOPY - 1];
	m.bind.base[SP_ACT] = d->alloc(d, m.bytes, "memory to measure the device with", e);
	m.bind.base[SP_WORK] = m.bind.base[SP_ACT] ? d->alloc(d, m.work_bytes, "workspace to measure the device with", e) : NULL;
	bool ok = m.bind.base[SP_WORK] && measure(c, &m, e);
	d->release(d, m.bind.base[SP_ACT]);
	d->release(d, m.bind.base[SP_WORK]);
	c->seconds = now_seconds() - start;
	return ok;
}

/* ---- bounds ---- */

double
ceilings_bandwidth(const Ceilings *c, double n)
{
	double best = 0;
	int least = 0;
	while (least + 1 < NCOPY && (double)c->bytes[least + 1] <= n && c->bandwidth[least + 1] > 0)
		least++;
	for (int i = least; i < NCOPY; i++)
		best = c->bandwidth[i] > best ? c->bandwidth[i] : best;
	return best;
}

static double
rate_of(const Ceilings *c, const PlanProgram *p, const PlanInstr *in)
{
	int own = in->kind == I_GEMM ? find_rate(c, &p->gemm[in->index]) : -1;
	double best = 0;
	for (uint32_t i = 0; i < c->nrate; i++)
		best = c->rate[i].flops > best ? c->rate[i].flops : best;
	return own >= 0 ? c->rate[own].flops : best;
}

static double
ratio_or_0(double x, double y)
{
	return y > 0 ? x / y : 0;
}

/* What one run of an instruction moves. */
static double
bytes_of(const PlanInstr *in)
{
	if (in->kind == I_COPY || in->kind == I_ZERO)
		return (double)in->arg[0].bytes * (in->kind == I_COPY ? 2 : 1);
	return in->traffic;
}

void
ceilings_bound(const Ceilings *c, const PlanProgram *p, Cost *cost)
{
	int64_t times = 1;
	for (uint32_t i = 0, end = 0; i < p->ninstr; i++) {
		const PlanInstr *in = &p->instr[i];
		bool loop = in->kind == I_LOOP;
		if (loop)
			end = i + in->index;
		times = loop ? in->times : i > end ? 1 : times;
		double n = loop ? 0 : (double)times, bytes = bytes_of(in), move = ratio_or_0(bytes, ceilings_bandwidth(c, bytes));
		double work = ratio_or_0(in->flops, rate_of(c, p, in));
		cost[i].times = times;
		cost[i].bytes = n * bytes;
		cost[i].flops = n * in->flops;
		cost[i].bound = n * (move > work ? move : work);
	}
}
