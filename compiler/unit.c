/* The plan of a unit: schema and states, a program set for each target, the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../runtime/cuda_api.h"
#include "compile.h"

#define MMC_VERSION "0.1"

void
unit_data(Unit *u)
{
	Plan *p = u->plan;
	const Model *m = u->model;
	FILE *f;
	char *text;
	size_t n;
	p->model = arena_strdup(u->arena, m->name);
	p->source = arena_strdup(u->arena, source_text(m->file));
	p->source_path = arena_strdup(u->arena, source_path(m->file));
	p->compiler = arena_printf(u->arena, "mmc %s, precision %s%s%s%s", MMC_VERSION, u->o->precision, u->o->no_fuse ? ", no fusion" : "",
	                           u->o->no_reuse ? ", no reuse" : "", u->o->no_library ? ", no library" : "");
	if ((f = open_memstream(&text, &n))) {
		graph_print(u->graph[0], f);
		fclose(f);
		p->graph = arena_strdup(u->arena, text);
		free(text);
	}
	p->data = arena_alloc(u->arena, sizeof *p->data);
	*p->data = m->data;
	p->ndata = 1;
	p->train = arena_alloc(u->arena, sizeof *p->train);
	*p->train = m->train;
	p->ntrain = 1;
}

static char *
prelude(Unit *u, const char *file)
{
	char *path = arena_printf(u->arena, "%s/kernels/%s", u->o->ops, file), *text;
	size_t n;
	Err e = {0};
	if (!read_file(path, &text, &n, &e)) {
		error_at((Loc){0}, "%s", e.msg);
		return NULL;
	}
	return text;
}

static bool
write_text(Unit *u, const char *name, const char *text)
{
	Err e = {0};
	char *path = arena_printf(u->arena, "%s/%s", u->o->emit_dir, name);
	if (mkdir(u->o->emit_dir, 0777) && errno != EEXIST) {
		error_at((Loc){0}, "%s: cannot create: %s", u->o->emit_dir, strerror(errno));
		return false;
	}
	if (!write_file_atomic(path, text, strlen(text), 0666, &e)) {
		error_at((Loc){0}, "%s", e.msg);
		return false;
	}
	return true;
}

/* One module for one GPU architecture. NVRTC compiles one program at a time in a process, so processes share the
   work; each job's result comes back through a file in memory: the answer, then the code or the message. */
typedef struct Job {
	const char *source, *arch;
	int fd;
} Job;

typedef struct Answer {
	bool ok;
	int64_t spills;
	char kernel[128]; /* the first that spills */
	size_t n; /* bytes that follow */
} Answer;

static void
run_job(const Job *j)
{
	char *code = NULL, *log = NULL;
	size_t n = 0;
	Err e = {0};
	Answer a = {.ok = nvrtc_compile(j->source, j->arch, &code, &n, &log, &e)};
	a.spills = a.ok ? nvrtc_spills(log) : 0;
	if (a.spills > 0)
		nvrtc_spilling(log, a.kernel, sizeof a.kernel);
	a.n = a.ok ? n : strlen(e.msg);
	FILE *f = fdopen(j->fd, "w");
	if (f) {
		fwrite(&a, sizeof a, 1, f);
		fwrite(a.ok ? code : e.msg, 1, a.n, f);
		fflush(f);
	}
	free(code);
	free(log);
}

static int
compare_jobs(const void *a, const void *b)
{
	size_t x = strlen((*(Job *const *)a)->source), y = strlen((*(Job *const *)b)->source);
	return (x < y) - (x > y);
}

static void
take_jobs(Job **job, int n, atomic_int *next)
{
	for (int i; (i = atomic_fetch_add(next, 1)) < n;)
		run_job(job[i]);
}

/* Longest text first, each to the process that is free. */
static void
run_jobs(Job *job, int n)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	pid_t pid[64];
	int started = 0, workers = (int)(cores < n ? cores : n);
	workers = workers < (int)LEN(pid) ? workers : (int)LEN(pid);
	Job **order = xcalloc((size_t)n + 1, sizeof *order);
	for (int i = 0; i < n; i++)
		order[i] = &job[i];
	qsort(order, (size_t)n, sizeof *order, compare_jobs);
	atomic_int alone = 0, *next = mmap(NULL, sizeof *next, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(NULL);
	while (next != MAP_FAILED && started < workers && (pid[started] = fork()) >= 0)
		if (pid[started++] == 0) {
			take_jobs(order, n, next);
			_exit(0);
		}
	if (!started)
		take_jobs(order, n, &alone); /* no process to be had: here */
	while (started > 0)
		waitpid(pid[--started], NULL, 0);
	if (next != MAP_FAILED)
		munmap(next, sizeof *next);
	free(order);
}

/* The job's code in the arena, or false with the message reported. */
static bool
job_result(Unit *u, const Job *j, PlanCubin *c)
{
	Answer a = {0};
	char *data = NULL;
	bool ok = false;
	if (pread(j->fd, &a, sizeof a, 0) == sizeof a) {
		data = arena_alloc(u->arena, a.n + 1);
		ok = pread(j->fd, data, a.n, sizeof a) == (ssize_t)a.n && a.ok;
	}
	close(j->fd);
	if (!ok) {
		error_at((Loc){0}, "%s", data ? data : "NVRTC ended without an answer");
		return false;
	}
	if (a.spills > 0)
		warn_at((Loc){0}, "kernels for %s spill %ld bytes of registers, the first is %s", j->arch, (long)a.spills, a.kernel);
	*c = (PlanCubin){.arch = arena_strdup(u->arena, j->arch), .code = (uint8_t *)data, .ncode = (uint32_t)a.n};
	return true;
}

/* Machine code for each asked arch of the first nmodule modules. Without --arch the source alone goes into the plan, and a
   GPU machine compiles it. */
static bool
add_cubins(Unit *u, PlanTargetset *s, int nmodule)
{
	const char *asked = u->o->arch ? u->o->arch : "none";
	char *list = arena_strdup(u->arena, asked), *save = NULL, *arch[8];
	int narch = 0;
	bool ok = true;
	if (!strcmp(asked, "none"))
		return true;
	for (char *a = strtok_r(list, ",", &save); a && narch < (int)LEN(arch); a = strtok_r(NULL, ",", &save))
		arch[narch++] = a;
	int n = narch * nmodule;
	Job *job = arena_alloc(u->arena, (size_t)n * sizeof *job);
	for (int i = 0; i < n; i++) {
		job[i] = (Job){.source = s->module[i / narch].source, .arch = arch[i % narch], .fd = memfd_create("cubin", 0)};
		if (job[i].fd < 0) {
			error_at((Loc){0}, "cannot make a file in memory: %s", strerror(errno));
			return false;
		}
	}
	run_jobs(job, n);
	for (int i = 0; i < n; i++) {
		PlanModule *m = &s->module[i / narch];
		if (!m->cubin)
			m->cubin = arena_alloc(u->arena, (size_t)narch * sizeof *m->cubin);
		if (!ok || !job_result(u, &job[i], &m->cubin[m->ncubin++]))
			ok = false; /* the first message says it all */
	}
	return ok;
}

/* The training step with a kernel for each operation: what mmrun runs to find the first value that is not a number. */
static PlanProgram
trace_program(Unit *u, Graph *train, const CodegenOptions *like, Sources *src)
{
	CodegenOptions o = *like;
	o.fuse = false;
	o.library = true;
	o.explain = NULL;
	train->name = "trace";
	return codegen(train, &u->places, &o, src);
}

static bool
target_set(Unit *u, const char *target, PlanTargetset *s)
{
	CodegenOptions o = {.cuda = !strcmp(target, "cuda"), .fuse = !u->o->no_fuse, .library = !u->o->no_library, .reuse = !u->o->no_reuse,
	                    .tf32 = !strcmp(u->o->precision, "tf32"), .explain = u->o->explain ? &u->explain : NULL};
	char *text = prelude(u, o.cuda ? "prelude.cu" : "prelude.c");
	Sources *src = arena_alloc(u->arena, sizeof *src);
	Graph train = {0};
	bool ok = true;
	if (!text)
		return false;
	*src = (Sources){.arena = u->arena, .prelude = text, .per_module = o.cuda ? 16 : 48};
	s->target = arena_strdup(u->arena, target);
	s->program = arena_alloc(u->arena, (size_t)(u->ngraph + 1) * sizeof *s->program);
	for (int i = 0; i < u->ngraph; i++) {
		if (o.explain)
			text_printf(o.explain, "%s, %s, batch %ld:\n", target, u->graph[i]->name, (long)u->graph[i]->batch);
		bool bf16 = o.cuda && !strcmp(u->o->precision, "bf16"); /* the C target computes in fp32 */
		Graph *g = bf16 ? pass_precision(u->graph[i]) : u->graph[i];
		if (o.cuda && o.fuse)
			g = pass_small_products(g, o.library);
		g = pass_split(g, o.cuda);
		if (!o.cuda && o.fuse)
			g = pass_pack(g);
		graph_verify(g, "split");
		s->program[s->nprogram++] = codegen(g, &u->places, &o, src);
		src->kernels = src->per_module; /* programs share no module: a small one loads fast */
		if (i == 0)
			train = *g;
	}
	int nmodule = src->n;
	if (o.fuse && !u->o->no_trace && (!o.cuda || !strcmp(u->o->target, "cuda"))) /* one a plan: the CPU traces for a GPU, too */
		s->program[s->nprogram++] = trace_program(u, &train, &o, src);
	s->module = arena_alloc(u->arena, (size_t)src->n * sizeof *s->module);
	s->nmodule = (uint32_t)src->n;
	for (int i = 0; i < src->n; i++) {
		s->module[i].source = arena_strdup(u->arena, src->module[i].s);
		free(src->module[i].s);
		if (u->o->emit_dir && ok)
			ok = write_text(u, arena_printf(u->arena, "%s_%d.%s", target, i, o.cuda ? "cu" : "c"), s->module[i].source);
	}
	free(text);
	return ok && (!o.cuda || add_cubins(u, s, nmodule));
}

bool
unit_programs(Unit *u)
{
	static const char *const targets[] = {"cpu", "cuda"};
	u->plan->set = arena_alloc(u->arena, LEN(targets) * sizeof *u->plan->set);
	for (size_t i = 0; i < LEN(targets); i++) {
		if (strcmp(u->o->target, "all") && strcmp(u->o->target, targets[i]))
			continue;
		if (!target_set(u, targets[i], &u->plan->set[u->plan->nset++]))
			return false;
	}
	return true;
}

bool
unit_write(Unit *u)
{
	Text out = {0};
	Err e = {0};
	if (!plan_verify(u->plan, &e))
		bug("the plan does not verify: %s", e.msg);
	if (u->o->check || !u->o->out)
		return true;
	plan_encode(u->plan, &out);
	bool ok = write_file_atomic(u->o->out, out.s, out.n, 0666, &e);
	if (!ok)
		error_at((Loc){0}, "%s", e.msg);
	free(out.s);
	return ok;
}

/* The lines of a program begin with one that ends with a colon. */
void
unit_explain(const Unit *u, FILE *f)
{
	const char **line = NULL, *s = u->explain.s ? u->explain.s : "";
	size_t n = 0, cap = 0, first = 0;
	for (const char *end; (end = strchr(s, '\n')); s = end + 1)
		VEC_PUSH(line, n, cap) = s;
	for (size_t i = 0; i < n; i++) {
		size_t len = (size_t)(strchr(line[i], '\n') - line[i]) + 1, k, times = 1;
		if (len > 1 && line[i][len - 2] == ':')
			first = i;
		for (k = first; k < i && strncmp(line[k], line[i], len); k++)
			;
		if (k < i)
			continue;
		for (k = i + 1; k < n && !(strcspn(line[k], "\n") && line[k][strcspn(line[k], "\n") - 1] == ':'); k++)
			times += !strncmp(line[k], line[i], len);
		fprintf(f, times > 1 ? "%.*s (%zu times)\n" : "%.*s\n", (int)len - 1, line[i], times);
	}
	free(line);
}

/* What mmrun asks the device for: each space once, large enough for every program that the command runs. The columns of the
   data, which mmc does not see, come on top. */
static void
report_command(const Plan *p, const PlanTargetset *s, bool training, FILE *f)
{
	uint64_t act = 0, work = 0, opt = training ? p->opt_bytes : 0;
	for (uint32_t k = 0; k < s->nprogram; k++) {
		const PlanProgram *g = &s->program[k];
		bool evals = !strcmp(g->name, "eval") && g->batch == s->program[0].batch;
		bool trains = !strcmp(g->name, "train") || !strcmp(g->name, "accumulate");
		if (!evals && !(training && trains))
			continue;
		act = g->act_bytes > act ? g->act_bytes : act;
		work = g->work_bytes > work ? g->work_bytes : work;
	}
	fprintf(f, "%-4s mmrun %-5s %14lu %14lu %14lu %14lu %14lu %14lu\n", s->target, training ? "train" : "eval", (unsigned long)p->param_bytes,
	        (unsigned long)opt, (unsigned long)p->stat_bytes, (unsigned long)act, (unsigned long)work,
	        (unsigned long)(p->param_bytes + opt + p->stat_bytes + act + work));
}

void
unit_memory_report(const Unit *u, FILE *f)
{
	const Plan *p = u->plan;
	fprintf(f, "%-16s %14s %14s %14s %14s %14s %14s\n", "bytes", "parameters", "optimizer", "statistics", "activations", "workspace", "in all");
	for (uint32_t i = 0; i < p->nset; i++) {
		report_command(p, &p->set[i], true, f);
		report_command(p, &p->set[i], false, f);
	}
	fputs("Each is one allocation. The columns of the data come on top.\n\n", f);
	fprintf(f, "%-4s %-8s %9s %14s %7s %14s %8s %8s\n", "", "program", "batch", "activations", "x bound", "workspace", "kernels", "products");
	for (uint32_t i = 0; i < p->nset; i++)
		for (uint32_t k = 0; k < p->set[i].nprogram; k++) {
			const PlanProgram *g = &p->set[i].program[k];
			fprintf(f, "%-4s %-8s %9ld %14lu %7.3f %14lu %8u %8u%s\n", p->set[i].target, g->name, (long)g->batch, (unsigned long)g->act_bytes,
			        g->act_bound ? (double)g->act_bytes / (double)g->act_bound : 1, (unsigned long)g->work_bytes, g->nkernel, g->ngemm,
			        !strcmp(g->name, "trace") ? "  (to find where a NaN began)" : "");
		}
}
