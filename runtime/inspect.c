/* mmrun inspect: what is in a plan (summary, --all, --source) and in a checkpoint (--ckpt). Opens no device. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

static const char *const input_kind[] = {[IN_NUMBER] = "number", [IN_CATEGORY] = "category", [IN_TEXT] = "text", [IN_TAGS] = "tags",
	[IN_TENSOR] = "tensor", [IN_SEQUENCE] = "sequence"};
static const char *const target_kind[] = {
	[TG_NUMBER] = "number", [TG_BINARY] = "binary", [TG_CLASS] = "class", [TG_LABELS] = "labels", [TG_TENSOR] = "tensor", [TG_NEXT] = "next",
};
static const char *const ids_kind[] = {"value", "vocabulary", "hash"};
static const char *const missing_kind[] = {
	[MISS_ZERO] = "zero", [MISS_CONSTANT] = "constant", [MISS_MEAN] = "mean",
	[MISS_MEDIAN] = "median", [MISS_MODE] = "mode", [MISS_DROP] = "drop row",
};
static const char *const init_kind[] = {
	[INIT_CONST] = "constant", [INIT_NORMAL] = "normal", [INIT_UNIFORM] = "uniform", [INIT_ORTHOGONAL] = "orthogonal",
};

#define NAME_OF(table, i) ((i) < LEN(table) ? (table)[i] : "?")

static void
print_scale(uint32_t bits)
{
	if (bits & SC_LOG1P)
		fputs(" log1p", stdout);
	if (bits & SC_ZSCORE)
		fputs(" zscore", stdout);
	if (bits & SC_MINMAX)
		fputs(" minmax", stdout);
	if (bits & SC_UNIT)
		fputs(" unit", stdout);
}

static void
print_shape(uint32_t dtype, uint32_t n, const int64_t *dim, int width)
{
	Text t = {0};
	text_printf(&t, "%s[", dtype < NDTYPE ? dtype_name((DType)dtype) : "?");
	for (uint32_t i = 0; i < n; i++)
		text_printf(&t, "%s%lld", i ? ", " : "", (long long)dim[i]);
	text_puts(&t, "]");
	printf("%-*s", width, t.s);
	free(t.s);
}

static void
print_table(const PlanTable *t)
{
	static const char *const part[NPART] = {"", "train ", "val ", "test "};
	printf("        table %s =", t->name);
	if (!t->nfile)
		printf(" %s", t->path);
	for (uint32_t k = 0; k < t->nfile; k++)
		printf("%s %s%s%s%s", k ? "," : "", t->file[k].part < NPART ? part[t->file[k].part] : "", t->file[k].name, *t->file[k].name ? " " : "", t->file[k].path);
	putchar('\n');
}

static void
print_data(const PlanData *d)
{
	printf("\ndata    %s%s%s\n", d->rows, d->where[0] ? " where " : "", d->where);
	for (uint32_t i = 0; i < d->ntable; i++)
		print_table(&d->table[i]);
	printf("        split train %g, val %g, test %g%s%s, seed %llu\n", d->train, d->val, d->test, d->group[0] ? ", by " : "", d->group,
	       (unsigned long long)d->seed);
	puts("\ninputs");
	for (uint32_t i = 0; i < d->ninput; i++) {
		const PlanInput *in = &d->input[i];
		printf("  %-24s %-9s", in->name, NAME_OF(input_kind, in->kind));
		if (in->kind == IN_NUMBER) {
			print_scale(in->scale);
			printf("  missing: %s", NAME_OF(missing_kind, in->missing));
		} else if (in->kind == IN_TENSOR) {
			print_shape(in->dtype, in->ndim, in->dim, 0);
			print_scale(in->scale);
		} else if (in->kind == IN_SEQUENCE) {
			printf(" windows of %lld %s", (long long)in->width, in->size == 256 ? "bytes" : "ids");
		} else {
			printf(" %lld x %lld ids by %s", (long long)in->width, (long long)in->size, NAME_OF(ids_kind, in->ids));
		}
		printf("  from %s\n", in->from);
	}
	puts("\ntargets");
	for (uint32_t i = 0; i < d->ntarget; i++) {
		const PlanTarget *t = &d->target[i];
		printf("  %-24s %-9s", t->name, NAME_OF(target_kind, t->kind));
		if (t->kind == TG_LABELS || t->kind == TG_TENSOR)
			print_shape(t->kind == TG_LABELS ? DT_U8 : t->dtype, t->ndim, t->dim, 0);
		print_scale(t->scale);
		if (t->kind == TG_CLASS || t->kind == TG_LABELS)
			printf(" %lld classes", (long long)t->size);
		if (t->kind == TG_BINARY && t->above != AB_CONDITION)
			printf(" above %s %g", t->above == AB_QUANTILE ? "quantile" : "value", t->threshold);
		printf("  from %s\n", t->from);
	}
}

static void
print_states(const Plan *p)
{
	char b[32];
	static const uint32_t order[] = {SP_PARAM, SP_STAT, SP_OPT};
	for (size_t k = 0; k < LEN(order); k++) {
		uint64_t bytes = order[k] == SP_PARAM ? p->param_bytes : order[k] == SP_STAT ? p->stat_bytes : p->opt_bytes;
		printf("\nstates in %s: %s\n", space_names[order[k]], human_bytes(b, bytes));
		for (uint32_t i = 0; i < p->nstate; i++) {
			const PlanState *st = &p->state[i];
			if (st->space != order[k])
				continue;
			printf("  %-40s ", st->name);
			print_shape(st->dtype, st->ndim, st->dim, 20);
			printf(" %10s  ", human_bytes(b, (uint64_t)state_count(st) * dtype_bytes((DType)st->dtype)));
			if (st->fit[0])
				printf("fitted: %s\n", st->fit);
			else
				printf("%s %g%s", NAME_OF(init_kind, st->init), st->a, st->init == INIT_NORMAL || st->init == INIT_UNIFORM ? "" : "\n");
			if (!st->fit[0] && (st->init == INIT_NORMAL || st->init == INIT_UNIFORM))
				printf(" %g\n", st->b);
		}
	}
}

static void
print_programs(const Plan *p)
{
	char a[32], b[32], w[32];
	printf("\n%-6s %-8s %6s %7s %8s %6s %6s %12s %12s %6s %12s\n", "target", "program", "batch", "instrs", "kernels", "gemms", "others",
	       "activations", "bound", "ratio", "workspace");
	for (uint32_t k = 0; k < p->nset; k++)
		for (uint32_t i = 0; i < p->set[k].nprogram; i++) {
			const PlanProgram *g = &p->set[k].program[i];
			uint32_t kernels = 0, gemms = 0;
			for (uint32_t n = 0; n < g->ninstr; n++) {
				kernels += g->instr[n].kind == I_KERNEL;
				gemms += g->instr[n].kind == I_GEMM;
			}
			printf("%-6s %-8s %6lld %7u %8u %6u %6u %12s %12s %6.3f %12s\n", p->set[k].target, g->name, (long long)g->batch, g->ninstr,
			       kernels, gemms, g->ninstr - kernels - gemms, human_bytes(a, g->act_bytes), human_bytes(b, g->act_bound),
			       g->act_bound ? (double)g->act_bytes / (double)g->act_bound : 1.0, human_bytes(w, g->work_bytes));
		}
}

static void
print_summary(const Plan *p)
{
	int64_t n = 0;
	for (uint32_t i = 0; i < p->nstate; i++)
		if (p->state[i].space == SP_PARAM && !p->state[i].like[0])
			n += state_count(&p->state[i]);
	printf("model   %s (%s), %lld parameters\nmade by %s\n", p->model, p->source_path, (long long)n, p->compiler);
	if (p->ntrain) {
		const PlanTrain *t = p->train;
		printf("train   %lld epochs, batch %lld, seed %llu", (long long)t->epochs, (long long)t->batch, (unsigned long long)t->seed);
		if (t->stop_on[0])
			printf(", best by %s (%s)", t->stop_on, t->maximize ? "larger" : "smaller");
		if (t->patience)
			printf(", stops after %lld epochs without improvement", (long long)t->patience);
		putchar('\n');
	}
	if (p->ndata)
		print_data(p->data);
	print_states(p);
	print_programs(p);
}

static void
print_sources(const Plan *p)
{
	for (uint32_t k = 0; k < p->nset; k++)
		for (uint32_t i = 0; i < p->set[k].nmodule; i++) {
			printf("/* ---- %s, module %u ---- */\n", p->set[k].target, i);
			puts(p->set[k].module[i].source);
		}
}

static bool
print_checkpoint(const char *path, Err *e)
{
	Checkpoint c;
	char b[32];
	uint64_t sum = 0;
	if (!checkpoint_open(path, &c, e))
		return false;
	for (uint32_t i = 0; i < c.nmeta; i++) {
		const char *v = c.meta[2 * i + 1];
		printf("%-20s %.100s%s\n", c.meta[2 * i], v, strlen(v) > 100 ? "..." : "");
	}
	for (uint32_t i = 0; i < c.ntensor; i++) {
		const Tensor *t = &c.tensor[i];
		printf("  %-40s ", t->name);
		print_shape(t->dtype, t->ndim, t->dim, 20);
		printf(" %10s\n", human_bytes(b, t->bytes));
		sum += t->bytes;
	}
	printf("%u tensors, %s\n", c.ntensor, human_bytes(b, sum));
	checkpoint_close(&c);
	return true;
}

bool
run_inspect(const Options *o, int *status, Err *e)
{
	Arena a = {0};
	const Plan *p = plan_load(&a, o->plan, e);
	bool ok = p != NULL;
	*status = 0;
	if (ok && o->ckpt) {
		bool named = !strcmp(o->ckpt, "best") || !strcmp(o->ckpt, "last");
		ok = print_checkpoint(named ? arena_printf(&a, "runs/%s/%s.safetensors", p->model, o->ckpt) : o->ckpt, e);
	} else if (ok && o->all) {
		plan_print(p, stdout);
	} else if (ok && o->source) {
		print_sources(p);
	} else if (ok) {
		print_summary(p);
	}
	arena_free(&a);
	return ok;
}
