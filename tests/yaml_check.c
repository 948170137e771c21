/* What tests/yaml_test.sh runs: reads a model file and prints what was read. The tensor language has a stand-in here,
   so that these tests hold the YAML side alone: it knows names, numbers, brackets and |>, refuses '?' and an open
   bracket, and the printed place of every expression is the place of its first character. */
#include "../compiler/model.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the character at offset n of an expression stands in its file. */
static Loc
advance(const char *s, size_t n, Loc l)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\n') {
			l.line++;
			l.col = 1;
		} else if (((unsigned char)s[i] & 0xc0) != 0x80) {
			l.col++;
		}
	}
	return l;
}

Ast *
parse_expr(Arena *a, const char *text, Loc l)
{
	size_t open[64], n = 0, len = strlen(text);
	Ast *e = arena_alloc(a, sizeof *e);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '?')
			return error_at(advance(text, i, l), "stand-in: '?'"), NULL;
		if ((text[i] == '(' || text[i] == '{') && n < LEN(open))
			open[n++] = i;
		if ((text[i] == ')' || text[i] == '}') && n)
			n--;
	}
	if (n)
		return error_at(advance(text, open[n - 1], l), "stand-in: open bracket"), NULL;
	e->loc = l;
	e->s = text;
	e->kind = strstr(text, "|>") ? A_PIPE : text[len - 1] == ')' ? A_CALL : isdigit((unsigned char)*text) ? A_NUM :
		!strcmp(text, "if") ? A_IF : A_NAME;
	return e;
}

static void
print_expr(const char *what, const Ast *e)
{
	if (!e)
		return;
	printf("%s at %d:%d: ", what, e->loc.line, e->loc.col);
	for (const char *s = e->s; *s; s++)
		fputs(*s == '\n' ? "\\n" : (char[]){*s, 0}, stdout);
	putchar('\n');
}

static void
print_dims(const char *what, uint32_t dtype, const int64_t *dim, uint32_t n)
{
	printf("%s%s[", what, dtype_name((DType)dtype));
	for (uint32_t i = 0; i < n; i++)
		printf("%s%lld", i ? ", " : "", (long long)dim[i]);
	putchar(']');
}

static void
print_axes(const AxisNames *a)
{
	for (int i = 0; i < a->n; i++)
		printf("%s%s", i ? ", " : " axes ", a->name[i]);
}

static void
print_table(const PlanTable *t)
{
	printf("table %s: %s (%s)", t->name, t->path, t->loc);
	if (t->kind || t->nfile)
		printf(" kind %u", t->kind);
	for (uint32_t i = 0; i < t->nfile; i++)
		printf(" file %s=%s part %u", t->file[i].name, t->file[i].path, t->file[i].part);
	for (uint32_t i = 0; i < t->nshape; i++) {
		printf(" %s ", t->shape[i].name);
		print_dims("", t->shape[i].dtype, t->shape[i].dim, t->shape[i].ndim);
	}
	if (t->window || t->latin1)
		printf(" window %lld latin1 %u", (long long)t->window, t->latin1);
	if (t->damaged)
		printf(" damaged %u", t->damaged);
	putchar('\n');
}

static void
print_data(const Model *m)
{
	const PlanData *d = &m->data;
	printf("base %s, rows %s, where '%s', group '%s', stratify '%s'\n", d->base, d->rows, d->where, d->group, d->stratify);
	printf("split %g %g %g seed %llu (%s)", d->train, d->val, d->test, (unsigned long long)d->seed, d->loc);
	if (*d->given || *d->order || d->folds)
		printf(" given '%s' order '%s' fold %lld of %lld", d->given, d->order, (long long)d->fold, (long long)d->folds);
	putchar('\n');
	for (uint32_t i = 0; i < d->ntable; i++)
		print_table(&d->table[i]);
	for (uint32_t i = 0; i < d->ninput; i++) {
		const PlanInput *p = &d->input[i];
		printf("input %s: kind %u from %s scale %u missing %u %g width %lld size %lld ids %u min_count %lld axis %s (%s, %d:%d)\n",
			p->name, p->kind, p->from, p->scale, p->missing, p->missing_value, (long long)p->width,
			(long long)p->size, p->ids, (long long)p->min_count, m->axis[i].n && p->width > 1 ? m->axis[i].name[0] : "-", p->loc,
			m->input_loc[i].line, m->input_loc[i].col);
		if (p->kind == IN_TENSOR) {
			print_dims("  ", p->dtype, p->dim, p->ndim);
			print_axes(&m->axis[i]);
			putchar('\n');
		}
	}
	for (uint32_t i = 0; i < d->ntarget; i++) {
		const PlanTarget *t = &d->target[i];
		printf("target %s: kind %u from %s scale %u above %u %g (%s, %d:%d)", t->name, t->kind, t->from, t->scale, t->above,
			t->threshold, t->loc, m->target_loc[i].line, m->target_loc[i].col);
		if (t->kind > TG_BINARY) {
			printf(" size %lld ignore %lld names %u", (long long)t->size, (long long)t->ignore, t->nlabel);
			print_dims(" ", t->dtype, t->dim, t->ndim);
			print_axes(&m->target_axis[i]);
		}
		putchar('\n');
	}
}

static void
print_model(const Model *m)
{
	const PlanTrain *t = &m->train;
	printf("model %s (%s)\n", m->name, source_path(m->file));
	for (int i = 0; i < m->nops; i++)
		printf("ops %s\n", m->ops[i]);
	for (int i = 0; i < m->noutput; i++)
		printf("output %s (%d:%d)\n", m->output[i].name, m->output[i].loc.line, m->output[i].loc.col);
	print_data(m);
	for (int i = 0; i < m->nnet; i++)
		print_expr(m->net[i].name, m->net[i].expr);
	for (int i = 0; i < m->nloss; i++) {
		const LossEntry *e = &m->loss[i];
		printf("loss %s: weight %g%s positive %g%s\n", e->name, e->weight, e->learned ? " learned" : "", e->positive_weight, e->balanced ? " balanced" : "");
		print_expr("  of", e->of);
		print_expr("  loss", e->loss);
		if (e->predict)
			print_expr("  predict", e->predict);
	}
	printf("train %lld epochs of %lld x %lld, seed %llu, stop on %s patience %lld maximize %u, log %lld, clip %g\n",
		(long long)t->epochs, (long long)t->accumulate, (long long)t->batch, (unsigned long long)t->seed, t->stop_on, (long long)t->patience,
		t->maximize, (long long)t->log_steps, m->clip_norm);
	if (*t->plateau_on)
		printf("  plateau of %s: factor %g patience %lld threshold %g cooldown %lld floor %g maximize %u\n", t->plateau_on, t->plateau_factor,
			(long long)t->plateau_patience, t->plateau_threshold, (long long)t->plateau_cooldown, t->plateau_floor, t->plateau_maximize);
	if (m->ema > 0)
		printf("  ema %g\n", m->ema);
	for (int i = 0; i < m->ngroup; i++)
		printf("  group %s (%d:%d): lr %g decay %g%s\n", m->group[i].params, m->group[i].loc.line, m->group[i].loc.col, m->group[i].lr,
			m->group[i].decay, m->group[i].freeze ? " frozen" : "");
	for (uint32_t i = 0; i < t->nlosses; i++)
		printf("  log %s\n", t->losses[i]);
	print_expr("optimizer", m->optimizer);
	print_expr("schedule", m->schedule);
}

/* Reads damaged copies of a file: cut at every place, and each byte replaced in turn. Only a crash fails. */
static int
damage(const char *path, const char *scratch)
{
	static const char poison[] = {0, '\t', '\n', ' ', '"', '\'', '{', ']', ':', '&', '*', '!', '|', '-', '%', (char)0xff};
	Err e = {0};
	char *s;
	size_t n;
	int k = 0;
	if (!read_file(path, &s, &n, &e) || !freopen("/dev/null", "w", stderr))
		return 1;
	for (size_t i = 0; i < n; i++) {
		char *copy = xmalloc(n + 1);
		memcpy(copy, s, n);
		copy[i] = poison[i % sizeof poison];
		for (int cut = 0; cut < 2; cut++) {
			Arena a = {0};
			FILE *f = fopen(scratch, "wb");
			if (!f)
				return 1;
			fwrite(cut ? s : copy, 1, cut ? i : n, f);
			fclose(f);
			model_read(&a, scratch);
			arena_free(&a);
			k++;
		}
		free(copy);
	}
	printf("%d damaged copies read\n", k);
	free(s);
	return 0;
}

int
main(int argc, char **argv)
{
	Arena a = {0};
	if (argc == 2 && (!strcmp(argv[1], "--help-model") || !strcmp(argv[1], "--help-markdown"))) {
		model_help(stdout, argv[1][7] == 'm' && argv[1][8] == 'a');
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "--damage"))
		return damage(argv[2], argv[3]);
	if (argc == 2 && !strcmp(argv[1], "--bug"))
		bug("%s", "on purpose");
	if (argc != 2)
		return 1;
	Model *m = model_read(&a, argv[1]);
	if (m)
		print_model(m);
	arena_free(&a);
	return m ? 0 : 2;
}
