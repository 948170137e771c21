/* A plan on a device: memory, columns, states and the scalars that steer programs. All memory is allocated by
   session_allocate, once, after its forecast fits; nothing is allocated in a step. */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const scalar_name[NRUN] = {
#define X(en, name) name,
	RUN_SCALARS(X)
#undef X
};

/* Spaces that a session allocates, as a person calls them. */
static const char *const space_what[NSPACE] = {
	[SP_PARAM] = "parameters", [SP_OPT] = "optimizer state", [SP_STAT] = "statistics and losses",
	[SP_ACT] = "activations", [SP_WORK] = "workspace", [SP_DATA] = "data",
};

/* ---- small things ---- */

const char *
human_bytes(char buf[32], uint64_t n)
{
	static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB"};
	double x = (double)n;
	size_t u = 0;
	while (x >= 1000 && u + 1 < LEN(unit)) {
		x /= 1000;
		u++;
	}
	snprintf(buf, 32, u && x < 100 ? "%.1f %s" : "%.0f %s", x, unit[u]);
	return buf;
}

bool
make_folders(const char *path, int mode, Err *e)
{
	char *p = xstrdup(path);
	bool ok = true;
	for (char *s = p + 1; ok; s++) {
		char c = *s;
		if (c != '/' && c)
			continue;
		*s = 0;
		if (mkdir(p, (mode_t)mode) && errno != EEXIST)
			ok = fail(e, "%s: cannot make this folder: %s", p, strerror(errno));
		*s = c;
		if (!c)
			break;
	}
	free(p);
	return ok;
}

FILE *
open_output(const char *path, const char *mode, Err *e)
{
	FILE *f = fopen(path, mode);
	if (!f)
		fail(e, "%s: cannot write: %s", path, strerror(errno));
	return f;
}

bool
close_output(FILE *f, const char *path, Err *e)
{
	if (!f)
		return true;
	bool bad = ferror(f);
	if (fclose(f) || bad)
		return fail(e, "%s: cannot write all of it: %s", path, strerror(errno));
	return true;
}

void
write_cell(FILE *f, const char *s)
{
	if (!s[strcspn(s, ",\"\r\n")]) {
		fputs(s, f);
		return;
	}
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"')
			fputc('"', f);
		fputc(*s, f);
	}
	fputc('"', f);
}

bool
write_split(const Dataset *d, const char *path, Err *e)
{
	FILE *f = open_output(path, "w", e);
	if (!f)
		return false;
	fputs("key,split\n", f);
	for (int k = 0; k < 3; k++)
		for (int64_t r = d->split[k]; r < d->split[k + 1]; r++) {
			if (d->key && d->key[r])
				write_cell(f, d->key[r]);
			else
				fprintf(f, "%lld", (long long)r);
			fprintf(f, ",%s\n", split_names[k]);
		}
	return close_output(f, path, e);
}

bool
session_cache_dir(Session *s, const Options *o, const char **dir, Err *e)
{
	const char *root;
	*dir = NULL;
	if (o->no_cache)
		return true;
	if (o->cache)
		*dir = o->cache;
	else if ((root = getenv("MMC_CACHE")) && *root)
		*dir = arena_printf(&s->arena, "%s/columns", root);
	else if ((root = getenv("XDG_CACHE_HOME")) && *root)
		*dir = arena_printf(&s->arena, "%s/mmc/columns", root);
	else if ((root = getenv("HOME")) && *root)
		*dir = arena_printf(&s->arena, "%s/.cache/mmc/columns", root);
	Err why = {0};
	if (!*dir || make_folders(*dir, 0700, &why))
		return true;
	if (o->cache)
		return fail(e, "--cache: %s", why.msg);
	*dir = NULL; /* a user without a home does without */
	return true;
}

/* ---- open ---- */

static Device *
open_device(const char *name, int64_t threads, Err *e)
{
	return strcmp(name, "cuda") ? device_cpu_open((int)threads, e) : device_cuda_open(0, e);
}

static bool
choose_device(Session *s, const Options *o, Err *e)
{
	static const char *const known[] = {"cpu", "cuda", "auto"};
	const char *name = o->device;
	if (strcmp(name, "cpu") && strcmp(name, "cuda") && strcmp(name, "auto")) {
		const char *near = nearest_name(name, known, LEN(known));
		return fail(e, "--device: '%s' is not cpu, cuda or auto%s%s%s", name, near ? ": did you mean '" : "",
		            near ? near : "", near ? "'?" : "");
	}
	if (!strcmp(name, "auto")) {
		Err why = {0};
		name = "cpu";
		if (plan_targetset(s->plan, "cuda")) {
			s->device = device_cuda_open(0, &why);
			if (s->device)
				name = "cuda";
			else
				s->note = arena_strdup(&s->arena, why.msg);
		}
	}
	s->set = plan_targetset(s->plan, name);
	if (!s->set)
		return fail(e, "%s: the plan has no programs for %s: compile it with mmc --target %s", s->path, name, name);
	if (!s->device)
		s->device = open_device(name, o->threads, e);
	return s->device != NULL;
}

static bool
find_scalars(Session *s, Err *e)
{
	for (int k = 0; k < NRUN; k++)
		for (uint32_t i = 0; i < s->plan->nstate; i++) {
			const PlanState *st = &s->plan->state[i];
			if (strcmp(st->name, scalar_name[k]))
				continue;
			if (st->space != SP_STAT || state_count(st) != 1 || dtype_bytes((DType)st->dtype) != 4 || st->dtype == DT_F32)
				return fail(e, "%s: state %s is not one 32-bit integer: compile the plan again", s->path, st->name);
			s->scalar[k] = st;
		}
	if (s->train && !s->scalar[RUN_STEP])
		return fail(e, "%s: the plan counts no steps (no state run.step): compile it again", s->path);
	return true;
}

bool
session_open(Session *s, const Options *o, const char *out, Err *e)
{
	const Plan *p;
	memset(s, 0, sizeof *s);
	s->path = o->plan;
	s->plan = p = plan_load(&s->arena, o->plan, e);
	if (!p)
		return false;
	s->schema = p->ndata ? p->data : NULL;
	s->train = p->ntrain ? p->train : NULL;
	s->out = out ? out : arena_printf(&s->arena, "runs/%s", p->model[0] ? p->model : "model");
	s->last = arena_printf(&s->arena, "%s/last.safetensors", s->out);
	s->best = arena_printf(&s->arena, "%s/best.safetensors", s->out);
	s->seed = o->seed >= 0 ? (uint64_t)o->seed : s->train ? s->train->seed : 0;
	s->memory_limit = o->memory_limit >= 0 ? (uint64_t)o->memory_limit : UINT64_MAX;
	s->split_seed = o->split_seed >= 0 ? (uint64_t)o->split_seed : s->schema ? s->schema->seed : 0;
	s->fold = o->fold > 0 ? o->fold : s->schema ? s->schema->fold : 0;
	return find_scalars(s, e) && choose_device(s, o, e);
}

void
session_close(Session *s)
{
	if (s->device) {
		for (int k = 0; k < NSPACE; k++)
			if (s->base[k])
				s->device->release(s->device, s->base[k]);
		for (uint32_t i = 0; s->column && s->schema && i < s->schema->ninput + s->schema->ntarget; i++)
			if (s->column[i])
				s->device->release(s->device, s->column[i]);
		s->device->close(s->device);
	}
	for (int k = 0; k < NSTATE; k++)
		free(s->image[k]);
	if (!s->synthetic && s->data.owner)
		dataset_free(&s->data);
	if (s->fit)
		fit_free(s->fit);
	arena_free(&s->arena);
	memset(s, 0, sizeof *s);
}

/* ---- data ---- */

const char *const *
session_tables(Session *s, const Options *o, const char *in)
{
	size_t n = 0;
	while (o->table && o->table[n])
		n++;
	const char **t = arena_alloc(&s->arena, (n + 3) * sizeof *t);
	if (n)
		memcpy(t, o->table, n * sizeof *t);
	if (in) {
		t[n++] = s->schema->table[0].name;
		t[n++] = in;
	}
	return n ? t : NULL;
}

/* Columns against the schema: a stale cache or another build of the reader must not reach a kernel. */
static bool
check_columns(const Session *s, bool targets, Err *e)
{
	const PlanData *d = s->schema;
	const Dataset *ds = &s->data;
	uint32_t want = d->ninput + (targets ? d->ntarget : 0);
	if (ds->ncolumn < want)
		return fail(e, "the data has %u columns, the plan wants %u", ds->ncolumn, want);
	for (uint32_t i = 0; i < want; i++) {
		const char *name = column_name(d, i);
		DType t = column_dtype(d, i);
		int64_t width = column_width(d, i);
		const Column *c = &ds->column[i];
		if (c->dtype != t || c->width != width || strcmp(c->name, name))
			return fail(e, "column %u of the data is %s %s[%lld], the plan wants %s %s[%lld]: remove the column cache and retry", i,
			            dtype_name(c->dtype), c->name, (long long)c->width, dtype_name(t), name, (long long)width);
		if (width && ds->rows > INT32_MAX / width) /* kernels count elements in 32 bits */
			return fail(e, "column %s has %lld rows of %lld elements, more than %d in all: use fewer rows, or smaller ones", name, (long long)ds->rows,
			            (long long)width, INT32_MAX);
	}
	if (ds->split[0] < 0 || ds->split[0] > ds->split[1] || ds->split[1] > ds->split[2] || ds->split[2] > ds->split[3] ||
	    ds->split[3] > ds->rows || ds->rows > INT32_MAX)
		return fail(e, "the data's split is damaged, or it has more than %d rows", INT32_MAX);
	return true;
}

bool
session_build(Session *s, const Options *o, FILE *report, Err *e)
{
	DataOptions d = {0};
	if (!s->schema)
		return fail(e, "%s: the model has no data section, so there is nothing to read: add `data:` to it", s->path);
	if (!session_cache_dir(s, o, &d.cache_dir, e))
		return false;
	d.table = session_tables(s, o, NULL);
	d.split_seed = (int64_t)s->split_seed;
	d.fold = s->fold;
	d.report = report;
	return data_build(s->schema, &d, &s->data, &s->fit, e) && check_columns(s, true, e);
}

bool
session_apply(Session *s, const Options *o, const char *in, const char *const *record, Err *e)
{
	DataOptions d = {0};
	d.table = session_tables(s, o, in);
	d.split_seed = -1;
	return data_apply(s->schema, &d, s->fit, record, &s->data, e) && check_columns(s, false, e);
}

/* ---- memory ---- */

static uint64_t align256(uint64_t n) { return (n + 255) & ~(uint64_t)255; }

static uint64_t
column_bytes(const Session *s, uint32_t i)
{
	const PlanData *d = s->schema; /* predicting: targets are zeros */
	uint64_t rows = (uint64_t)(s->data.rows > 0 ? s->data.rows : 1);
	return ((uint64_t)column_width(d, i) * rows + (uint64_t)column_tail(d, i)) * dtype_bytes(column_dtype(d, i));
}

static bool
check_forecast(Session *s, Err *e)
{
	size_t free_bytes, total_bytes;
	uint64_t need = s->data_bytes;
	Text t = {0};
	char b[32];
	if (!s->device->memory(s->device, &free_bytes, &total_bytes, e))
		return false;
	for (int k = 0; k < NSPACE; k++)
		need += align256(s->bytes[k]);
	bool limited = s->memory_limit < free_bytes;
	if (need <= (limited ? s->memory_limit : free_bytes))
		return true;
	text_printf(&t, "%s: %llu bytes are needed on %s", s->path, (unsigned long long)need, s->device->name);
	for (int k = 0; k < NSPACE; k++)
		text_printf(&t, "%s%s %s", k ? ", " : " (", space_what[k], human_bytes(b, k == SP_DATA ? s->data_bytes : s->bytes[k]));
	if (limited) {
		text_printf(&t, "), but --memory-limit allows %llu: raise it, or compile for a smaller batch (mmc --batch N)", (unsigned long long)s->memory_limit);
	} else {
		text_printf(&t, "), but %s", human_bytes(b, free_bytes));
		text_printf(&t, " of %s are free: compile for a smaller batch (mmc --batch N), or free memory", human_bytes(b, total_bytes));
	}
	fail(e, "%s", t.s);
	free(t.s);
	return false;
}

static bool
upload_columns(Session *s, Err *e)
{
	uint32_t n = s->schema ? s->schema->ninput + s->schema->ntarget : 0;
	s->column = arena_alloc(&s->arena, (n + 1) * sizeof *s->column);
	for (uint32_t i = 0; i < n; i++) {
		const char *name = i < s->data.ncolumn ? s->data.column[i].name : "absent target";
		if (!column_bytes(s, i))
			continue; /* next has no column */
		s->column[i] = s->device->alloc(s->device, column_bytes(s, i), name, e);
		if (!s->column[i])
			return false;
		if (i < s->data.ncolumn && s->data.rows &&
		    !s->device->upload(s->device, s->column[i], s->data.column[i].data, column_bytes(s, i), e))
			return false;
	}
	return true;
}

bool
session_allocate(Session *s, const PlanProgram *const *p, size_t n, bool training, Err *e)
{
	uint32_t ncolumn = s->schema ? s->schema->ninput + s->schema->ntarget : 0;
	s->bytes[SP_PARAM] = s->plan->param_bytes;
	s->bytes[SP_OPT] = training ? s->plan->opt_bytes : 0;
	s->bytes[SP_STAT] = s->plan->stat_bytes;
	for (size_t i = 0; i < n; i++) {
		if (p[i]->act_bytes > s->bytes[SP_ACT])
			s->bytes[SP_ACT] = p[i]->act_bytes;
		if (p[i]->work_bytes > s->bytes[SP_WORK])
			s->bytes[SP_WORK] = p[i]->work_bytes;
	}
	for (uint32_t i = 0; i < ncolumn; i++)
		s->data_bytes += align256(column_bytes(s, i));
	if (!check_forecast(s, e))
		return false;
	for (int k = 0; k < NSPACE; k++) {
		if (s->bytes[k] && !(s->base[k] = s->device->alloc(s->device, s->bytes[k], space_what[k], e)))
			return false;
		if (k < NSTATE && s->bytes[k])
			s->image[k] = xcalloc(s->bytes[k], 1);
	}
	return upload_columns(s, e);
}

void
session_describe(const Session *s, FILE *f)
{
	char b[32];
	uint64_t sum = s->data_bytes;
	fprintf(f, "device  %s, %s\n", s->device->name, s->device->info);
	if (s->note)
		fprintf(f, "        not cuda: %s\n", s->note);
	fputs("memory  ", f);
	for (int k = 0; k < NSPACE; k++) {
		sum += s->bytes[k];
		fprintf(f, "%s %s, ", space_what[k], human_bytes(b, k == SP_DATA ? s->data_bytes : s->bytes[k]));
	}
	fprintf(f, "in all %s\n", human_bytes(b, sum));
}

/* ---- programs and states ---- */

const PlanProgram *
session_program(const Session *s, const char *name, int64_t batch, Err *e)
{
	const PlanProgram *p = plan_program(s->set, name, batch < 0 ? 0 : batch);
	Text t = {0};
	if (p)
		return p;
	for (uint32_t i = 0; i < s->set->nprogram; i++)
		text_printf(&t, "%s %s of batch %lld", i ? "," : "", s->set->program[i].name, (long long)s->set->program[i].batch);
	if (batch > 0)
		fail(e, "%s: no program '%s' of batch %lld for %s; there are:%s", s->path, name, (long long)batch, s->set->target, t.s ? t.s : " none");
	fail(e, "%s: no program '%s' for %s; there are:%s", s->path, name, s->set->target, t.s ? t.s : " none");
	free(t.s);
	return NULL;
}

Exec *
session_prepare(Session *s, const PlanProgram *p, Err *e)
{
	Binding b = {.column = s->column, .ncolumn = s->schema ? s->schema->ninput + s->schema->ntarget : 0};
	memcpy(b.base, s->base, sizeof b.base);
	return s->device->prepare(s->device, s->set, p, &b, e);
}

bool
step_prepare(Step *step, Session *s, Err *e)
{
	return (step->x = session_prepare(s, step->train, e)) && (!step->accumulate || (step->part = session_prepare(s, step->accumulate, e)));
}

bool
step_run(const Step *step, Session *s, int64_t n, Err *e)
{
	Device *d = s->device;
	if (step->parts <= 1)
		return d->run(d, step->x, n, e);
	for (int64_t i = 0; i < n; i++)
		if (!d->run(d, step->part, step->parts - 1, e) || !d->run(d, step->x, 1, e))
			return false;
	return true;
}

void
step_drop(Step *step, Session *s)
{
	if (step->x)
		s->device->drop(s->device, step->x);
	if (step->part)
		s->device->drop(s->device, step->part);
}

bool
session_set(Session *s, RunScalar which, int64_t v, Err *e)
{
	const PlanState *st = s->scalar[which];
	uint32_t bits = (uint32_t)v;
	return !st || s->device->upload(s->device, (char *)s->base[SP_STAT] + st->off, &bits, sizeof bits, e);
}

bool
session_rows(Session *s, int64_t first, int64_t rows, Err *e)
{
	return session_set(s, RUN_FIRST, first, e) && session_set(s, RUN_ROWS, rows, e) && session_set(s, RUN_CURSOR, 0, e);
}

bool
session_init(Session *s, Err *e)
{
	if (!init_states(s->plan, s->seed, s->fit, s->image, e))
		return false;
	for (int k = 0; k < NSTATE; k++)
		if (s->base[k] && !s->device->upload(s->device, s->base[k], s->image[k], s->bytes[k], e))
			return false;
	return session_set(s, RUN_SEED, fold_seed(s->seed), e);
}
