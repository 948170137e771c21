/* See check_program.h. Order: compiling, memory and runs, comparing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/session.h"
#include "check_count.h"
#include "check_program.h"

/* ---- compiling ---- */

Graph *
mode_graph(Graph *contracted, const CheckMode *m)
{
	Graph *g = m->half ? pass_precision(contracted) : contracted;
	return pass_split(m->cuda && m->fuse ? pass_small_products(g, true) : g, m->cuda);
}

static char *
read_prelude(bool cuda)
{
	char *text;
	size_t n;
	Err e = {0};
	if (!read_file(cuda ? "ops/kernels/prelude.cu" : "ops/kernels/prelude.c", &text, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		exit(2);
	}
	return text;
}

Plan *
compile_graphs(Arena *a, Graph *const *g, const Places *places, int n, const CheckMode *m, int per_module)
{
	char *prelude = read_prelude(m->cuda);
	Plan *p = arena_alloc(a, sizeof *p);
	PlanTargetset *s = p->set = arena_alloc(a, sizeof *s);
	CodegenOptions o = {.cuda = m->cuda, .fuse = m->fuse, .reuse = m->reuse, .library = true};
	Sources *src = arena_alloc(a, sizeof *src);
	*src = (Sources){.arena = a, .prelude = prelude, .per_module = per_module};
	p->nset = 1;
	s->target = m->cuda ? "cuda" : "cpu";
	s->program = arena_alloc(a, (size_t)n * sizeof *s->program);
	for (int i = 0; i < n; i++, s->nprogram++)
		if (g[i])
			s->program[i] = codegen(g[i], &places[i], &o, src);
	s->nmodule = (uint32_t)src->n;
	s->module = arena_alloc(a, (s->nmodule + 1) * sizeof *s->module);
	for (int i = 0; i < src->n; i++) {
		s->module[i].source = arena_strdup(a, src->module[i].s);
		free(src->module[i].s);
	}
	free(prelude);
	return p;
}

/* ---- memory and runs ---- */

bool
process_open(Process *r, Device *d, const Plan *p, int i, const Places *at, const DataColumn *column, uint32_t ncolumn, Err *e)
{
	bool ok = true;
	*r = (Process){.device = d, .program = &p->set->program[i]};
	memcpy(r->bytes, at->bytes, sizeof r->bytes);
	r->bytes[SP_ACT] = r->program->act_bytes + TAIL;
	r->bytes[SP_WORK] = r->program->work_bytes;
	for (int s = 0; s < NSPACE && ok; s++)
		ok = !r->bytes[s] || (r->bind.base[s] = d->alloc(d, r->bytes[s], space_names[s], e));
	for (uint32_t k = 0; k < ncolumn && ok; k++)
		ok = (r->column[k] = d->alloc(d, column[k].bytes, "a column", e)) && d->upload(d, r->column[k], column[k].data, column[k].bytes, e);
	r->bind.column = r->column;
	r->bind.ncolumn = ncolumn;
	r->exec = ok ? d->prepare(d, p->set, r->program, &r->bind, e) : NULL;
	return r->exec != NULL;
}

void
process_close(Process *r)
{
	if (r->exec)
		r->device->drop(r->device, r->exec);
	for (int s = 0; s < NSPACE; s++)
		r->device->release(r->device, r->bind.base[s]);
	for (uint32_t k = 0; k < LEN(r->column); k++)
		r->device->release(r->device, r->column[k]);
}

void *process_at(const Process *r, Space s, uint64_t off) { return (char *)r->bind.base[s] + off; }

bool
process_poison(Process *r, Err *e)
{
	void *ones = xmalloc(r->bytes[SP_ACT]);
	memset(ones, 0xff, r->bytes[SP_ACT]);
	bool ok = r->device->upload(r->device, r->bind.base[SP_ACT], ones, r->bytes[SP_ACT], e);
	free(ones);
	return ok;
}

bool
process_intact(const Process *r, Err *e)
{
	unsigned char tail[TAIL];
	size_t k = 0;
	if (!r->device->download(r->device, tail, process_at(r, SP_ACT, r->program->act_bytes), TAIL, e))
		return false;
	while (k < TAIL && tail[k] == 0xff)
		k++;
	return k == TAIL || fail(e, "writes behind the activations, at byte %zu", k);
}

bool
process_upload(Process *r, unsigned char *const *image, Err *e)
{
	bool ok = true;
	for (int s = 0; s < NSTATE && ok; s++)
		ok = !r->bytes[s] || r->device->upload(r->device, r->bind.base[s], image[s], r->bytes[s], e);
	return ok;
}

bool
process_download(const Process *r, unsigned char *const *image, Err *e)
{
	bool ok = true;
	for (int s = 0; s < NSTATE && ok; s++)
		ok = !r->bytes[s] || r->device->download(r->device, image[s], r->bind.base[s], r->bytes[s], e);
	return ok;
}

bool
upload_value(Process *r, const Places *at, const char *name, const double *x, DType dt, int64_t n, Err *e)
{
	int k = place_of(at, name);
	void *buf = store_values(dt, x, n);
	bool ok = !n || r->device->upload(r->device, process_at(r, at->space[k], at->off[k]), buf, (size_t)n * dtype_bytes(dt), e);
	free(buf);
	return ok;
}

bool
process_run(Process *r, Err *e)
{
	return r->device->run(r->device, r->exec, 1, e) && r->device->sync(r->device, e);
}

int
place_of(const Places *at, const char *name)
{
	int k = 0;
	while (k < at->n && strcmp(at->name[k], name))
		k++;
	if (k == at->n)
		bug("%s has no place", name);
	return k;
}

int
open_devices(int argc, char **argv, Device *d[2])
{
	bool cpu = true, cuda = true;
	int n = 0;
	Err e = {0};
	for (int i = 1; i < argc; i++) {
		cpu = cpu && strcmp(argv[i], "cuda");
		cuda = cuda && strcmp(argv[i], "cpu");
	}
	if (cpu && (d[n] = device_cpu_open(1, &e)))
		n++;
	if (cuda && (d[n] = device_cuda_open(0, &e)))
		n++;
	else
		skipped++;
	return n;
}

/* ---- comparing ---- */

int64_t
count_dims(const int64_t *dim, int nd)
{
	int64_t n = 1;
	for (int i = 0; i < nd; i++)
		n *= dim[i];
	return n;
}

double
largest(const double *v, int64_t n)
{
	double most = 0;
	for (int64_t i = 0; i < n; i++)
		if (isfinite(v[i]) && fabs(v[i]) > most)
			most = fabs(v[i]);
	return most;
}

double
difference(const double *want, const double *got, int64_t n, double *scale)
{
	double most = 0;
	*scale = fmax(largest(want, n), 1e-30);
	for (int64_t i = 0; i < n; i++) {
		if (want[i] == got[i] || (isnan(want[i]) && isnan(got[i])))
			continue;
		double d = fabs(want[i] - got[i]);
		if (!(d <= most))
			most = isnan(d) ? INFINITY : d;
	}
	return most;
}

double
relative_difference(const double *want, const double *got, int64_t n, double least)
{
	double most = 0;
	for (int64_t i = 0; i < n; i++) {
		double d = fabs(want[i] - got[i]);
		if (!(d <= most))
			most = isnan(d) ? INFINITY : d;
	}
	return most / fmax(least, largest(want, n));
}

void *
store_values(DType t, const double *x, int64_t n)
{
	char *p = xcalloc((size_t)n + 1, 4);
	for (int64_t i = 0; i < n; i++)
		dtype_store(t, p, i, x[i]);
	return p;
}

double *
load_values(DType t, const void *p, int64_t n)
{
	double *v = xcalloc((size_t)n + 1, sizeof *v);
	for (int64_t i = 0; i < n; i++)
		v[i] = dtype_load(t, p, i);
	return v;
}
