/* The plan of a unit: schema and states, a program set for each target, the file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../runtime/cuda_api.h"
#include "compile.h"

#define MMC_VERSION "0.1"

void
unit_data(Unit *u)
{
	Plan *p = u->plan;
	const Model *m = u->model;
	Text t = {0};
	FILE *f;
	char *text;
	size_t n;
	p->model = arena_strdup(u->arena, m->name);
	p->source = arena_strdup(u->arena, source_text(m->file));
	p->source_path = arena_strdup(u->arena, source_path(m->file));
	p->compiler = arena_printf(u->arena, "mmc %s, precision %s%s%s", MMC_VERSION, u->o->precision, u->o->no_fuse ? ", no fusion" : "", u->o->no_reuse ? ", no reuse" : "");
	if ((f = open_memstream(&text, &n))) {
		graph_print(u->graph[0], f);
		fclose(f);
		p->graph = arena_strdup(u->arena, text);
		free(text);
	}
	free(t.s);
	p->data = arena_alloc(u->arena, sizeof *p->data);
	*p->data = m->data;
	p->ndata = 1;
	p->train = arena_alloc(u->arena, sizeof *p->train);
	*p->train = m->train;
	p->ntrain = 1;
	place_states(u->arena, u->graph[0], &u->places, p);
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

/* Machine code for each asked arch. Without NVRTC the source alone goes into the plan, and a GPU machine compiles it. */
static bool
add_cubins(Unit *u, PlanModule *m)
{
	const char *asked = u->o->arch ? u->o->arch : "none";
	if (!strcmp(asked, "none"))
		return true;
	char *list = arena_strdup(u->arena, asked), *save = NULL;
	m->cubin = arena_alloc(u->arena, 16 * sizeof *m->cubin);
	for (char *arch = strtok_r(list, ",", &save); arch && m->ncubin < 16; arch = strtok_r(NULL, ",", &save)) {
		char *code, *log = NULL;
		size_t n;
		Err e = {0};
		if (!nvrtc_compile(m->source, arch, &code, &n, &log, &e)) {
			error_at((Loc){0}, "%s", e.msg);
			return false;
		}
		PlanCubin *c = &m->cubin[m->ncubin++];
		c->arch = arch;
		c->code = arena_alloc(u->arena, n);
		c->ncode = (uint32_t)n;
		memcpy(c->code, code, n);
		int64_t spills = nvrtc_spills(log);
		if (spills > 0)
			warn_at((Loc){0}, "kernels for %s spill %ld bytes of registers", arch, (long)spills);
		free(code);
		free(log);
	}
	return true;
}

static bool
target_set(Unit *u, const char *target, PlanTargetset *s)
{
	CodegenOptions o = {.cuda = !strcmp(target, "cuda"), .fuse = !u->o->no_fuse, .reuse = !u->o->no_reuse,
	                    .tf32 = !strcmp(u->o->precision, "tf32"), .explain = u->o->explain ? &u->explain : NULL};
	const char *ext = o.cuda ? "cu" : "c";
	char *text = prelude(u, o.cuda ? "prelude.cu" : "prelude.c");
	if (!text)
		return false;
	s->target = arena_strdup(u->arena, target);
	s->program = arena_alloc(u->arena, (size_t)u->ngraph * sizeof *s->program);
	s->module = arena_alloc(u->arena, (size_t)u->ngraph * sizeof *s->module);
	for (int i = 0; i < u->ngraph; i++) {
		Text src = {0};
		text_puts(&src, text);
		text_puts(&src, "\n");
		if (o.explain)
			text_printf(o.explain, "%s, %s, batch %ld:\n", target, u->graph[i]->name, (long)u->graph[i]->batch);
		s->program[s->nprogram++] = codegen(u->graph[i], &u->places, &o, (uint32_t)i, &src);
		s->module[s->nmodule++].source = arena_strdup(u->arena, src.s);
		free(src.s);
		char *name = arena_printf(u->arena, "%s_%s_%ld.%s", target, u->graph[i]->name, (long)u->graph[i]->batch, ext);
		if (u->o->emit_dir && !write_text(u, name, s->module[i].source))
			return false;
		if (o.cuda && !add_cubins(u, &s->module[i]))
			return false;
	}
	free(text);
	return true;
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

void
unit_memory_report(const Unit *u, FILE *f)
{
	const Plan *p = u->plan;
	fprintf(f, "%-28s %14s\n", "memory", "bytes");
	fprintf(f, "%-28s %14lu\n", "parameters", (unsigned long)p->param_bytes);
	fprintf(f, "%-28s %14lu\n", "optimizer state", (unsigned long)p->opt_bytes);
	fprintf(f, "%-28s %14lu\n", "statistics and counters", (unsigned long)p->stat_bytes);
	for (uint32_t i = 0; i < p->nset; i++)
		for (uint32_t k = 0; k < p->set[i].nprogram; k++) {
			const PlanProgram *g = &p->set[i].program[k];
			fprintf(f, "%-4s %-8s batch %-8ld %15lu activations, %.3f x the lower bound; %lu workspace; %u kernels, %u products\n", p->set[i].target, g->name,
			        (long)g->batch, (unsigned long)g->act_bytes, g->act_bound ? (double)g->act_bytes / (double)g->act_bound : 1, (unsigned long)g->work_bytes, g->nkernel, g->ngemm);
		}
}
