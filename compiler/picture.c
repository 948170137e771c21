/* The model to boxes: one for the inputs that the same entries read, one an entry with its chain of operations inside
   (picture_trace.c), one a loss. */
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define LINE 46           /* characters of a row before it is broken */
#define NAMES 12          /* names in a row that are all written out */
#define BETWEEN " \u00b7 "

typedef struct Draw {
	Arena *a;
	Picture *p;
	Trace q;
	int nvalue, nreader;
	int *box_of;              /* by value */
} Draw;

void *
arena_grow(Arena *a, const void *p, int n, int *cap, size_t size)
{
	void *r = arena_alloc(a, (size_t)(*cap = *cap ? *cap * 2 : 8) * size);
	if (n)
		memcpy(r, p, (size_t)n * size);
	return r;
}

/* ---- boxes ---- */

static int
chars(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static Row *
add_row(Draw *d, Box *b, int indent, const char *strong, const char *soft, const char *right)
{
	Row *r = &ARENA_PUSH(d->a, b->row, b->nrow, b->caprow);
	*r = (Row){.strong = strong, .soft = soft, .right = right, .indent = indent, .kind = -1};
	return r;
}

/* The part of *s that fits in room, up to a space if there is one; *s goes past it. */
static const char *
take_line(Draw *d, const char **s, int room)
{
	int n = 0, cut = 0, k = 0;
	for (; (*s)[n]; n++) {
		if (((*s)[n] & 0xc0) != 0x80 && k++ == room)
			break;
		if (!(*s)[n + 1] || ((*s)[n + 1] == ' ' && (*s)[n] != ARROW_END))
			cut = n + 1;
	}
	cut = cut ? cut : n;
	const char *part = arena_strndup(d->a, *s, (size_t)cut);
	*s += cut;
	*s += strspn(*s, " ");
	return part;
}

static void
add_broken(Draw *d, Box *b, int indent, bool strong, const char *s, const char *right)
{
	for (; *s; right = "") {
		int room = LINE - 2 * indent - (*right ? chars(right) + 2 : 0);
		const char *part = take_line(d, &s, room > 16 ? room : 16);
		add_row(d, b, indent, strong ? part : "", strong ? "" : part, right);
	}
}

/* One row, or what does not fit broken over several, soft below strong. */
static void
add_rows(Draw *d, Box *b, int indent, const char *strong, const char *soft, const char *right)
{
	int n = 2 * indent + chars(strong) + chars(soft) + (*right ? 2 + chars(right) : 0);
	if (n < LINE) {
		add_row(d, b, indent, strong, soft, right);
		return;
	}
	add_broken(d, b, indent, true, strong, right);
	add_broken(d, b, indent + (*strong != 0), false, soft, *strong ? "" : right);
}

/* Operands, one a line; names that follow each other share lines, and of very many the first and last ones are told. */
static void
add_sources(Draw *d, Box *b, const Step *s)
{
	for (int i = 0, end; i < s->nsource; i = end) {
		Text names = {0};
		for (end = i; end < s->nsource && !*s->source_shape[end]; end++)
			;
		bool all = end - i <= NAMES;
		for (int k = i; k < end; k++) {
			if (all || k < i + 4 || k == end - 1)
				text_printf(&names, "%s%s", k > i ? ", " : "", s->source[k]);
			else if (k == i + 4)
				text_printf(&names, ", (%d more)", end - i - 5);
		}
		if (end > i)
			add_rows(d, b, 1, "", keep_text(d->a, &names), "");
		else
			add_rows(d, b, 1, "", s->source[end], s->source_shape[end]), end++;
	}
}

/* The rows of a chain. A shape stands where it changes; the last one only where no edge leads on to say it. */
static void
add_chain(Draw *d, Box *b, const Chain *c, bool show_head, bool show_last)
{
	const char *shape = "";
	if (*c->head && (show_head || !c->plain))
		add_rows(d, b, 0, c->plain ? "" : c->head, c->plain ? c->head : "", "");
	for (int i = 0; i < c->n; i++) {
		const Step *s = &c->step[i];
		bool show = strcmp(shape, s->shape) && (show_last || i + 1 < c->n);
		add_rows(d, b, 0, step_text(&d->q, s), s->args, show ? s->shape : "");
		add_sources(d, b, s);
		shape = s->shape;
	}
}

/* ---- inputs ---- */

static const char *const input_kind[] = {[IN_NUMBER] = "number", [IN_CATEGORY] = "category", [IN_TEXT] = "text", [IN_TAGS] = "tags",
	[IN_TENSOR] = "tensor", [IN_SEQUENCE] = "sequence"};

static const char *
input_text(Draw *d, const PlanInput *in)
{
	const char *name = in->kind < LEN(input_kind) ? input_kind[in->kind] : "?";
	if (in->kind != IN_NUMBER && in->kind != IN_TENSOR)
		return arena_printf(d->a, "%s" BETWEEN "%s ids", name, count_text(d->a, in->size));
	return arena_printf(d->a, "%s%s%s%s%s", name, in->scale & SC_LOG1P ? BETWEEN "log1p" : "", in->scale & SC_ZSCORE ? BETWEEN "zscore" : "",
	                    in->scale & SC_MINMAX ? BETWEEN "minmax" : "", in->scale & SC_UNIT ? BETWEEN "unit" : "");
}

/* Inputs enter the picture's graph as free values of the shapes that the data columns have. */
static const char *
bind_input(Draw *d, uint32_t i)
{
	const PlanInput *in = &d->q.m->data.input[i];
	GInput x = {.name = in->name};
	Val v = input_value(d->q.m, i, d->q.g->batch, &x);
	v.node = mk_input(d->q.g, graph_input(d->q.g, x));
	lower_bind(d->q.w, in->name, v);
	return shape_text(&d->q, &v);
}

static Box *
add_box(Draw *d, BoxKind kind, const char *title, const char *note)
{
	Picture *p = d->p;
	Box *b = &ARENA_PUSH(d->a, p->box, p->nbox, p->capbox);
	*b = (Box){.kind = kind, .title = title, .note = note, .out = ""};
	return b;
}

/* Inputs that the same entries read stand in one box: the picture stays narrow, and says what belongs together. */
static void
add_inputs(Draw *d, const char **shape)
{
	const PlanData *data = &d->q.m->data;
	for (uint32_t i = 0; i < data->ninput; i++) {
		uint32_t k = 0;
		while (k < i && memcmp(d->q.reads[k], d->q.reads[i], (size_t)d->nreader))
			k++;
		d->box_of[i] = k < i ? d->box_of[k] : d->p->nbox;
		Box *b = k < i ? &d->p->box[d->box_of[k]] : add_box(d, BX_INPUT, "", "");
		Row *r = add_row(d, b, 0, data->input[i].name, input_text(d, &data->input[i]), shape[i]);
		r->kind = (int)data->input[i].kind;
		r->tip = arena_printf(d->a, "%s: %s", data->input[i].name, data->input[i].from);
		b->kinds |= 1u << r->kind;
		b->table = b->nrow > 1;
	}
	for (int i = 0; i < d->p->nbox; i++) {
		Box *b = &d->p->box[i];
		if (b->nrow > 1)
			continue;
		b->title = b->row[0].strong; /* one alone: its name is the title */
		b->note = b->row[0].right;
		b->row[0].strong = b->row[0].right = "";
	}
}

/* ---- entries and losses ---- */

typedef struct Entry {
	Chain chain;
	const char *out;         /* shape */
	int64_t params;
	const char *tip;         /* names of the parameters */
	int reads;               /* values */
} Entry;

/* Traces the expression of a reader and notes what it reads; an entry is bound to its name. */
static Entry
trace_entry(Draw *d, Ast *e, const char *prefix, int reader)
{
	Entry r = {0};
	Text tip = {0};
	int first = d->q.g->nparam;
	d->q.prefix = prefix;
	d->q.reader = reader;
	Val v = trace_expr(&d->q, e, &r.chain);
	if (d->q.failed)
		return r;
	r.out = shape_text(&d->q, &v);
	for (int k = first; k < d->q.g->nparam; k++) {
		const GParam *q = &d->q.g->param[k];
		int64_t n = 1;
		for (int j = 0; j < q->nd; j++)
			n *= q->dim[j];
		r.params += n;
		text_printf(&tip, "%s%s: %s", tip.n ? "\n" : "", q->name, count_text(d->a, n));
	}
	r.tip = keep_text(d->a, &tip);
	for (int k = 0; k < d->nvalue; k++)
		r.reads += d->q.reads[k][reader];
	if (reader < d->q.m->nnet) {
		v.path = v.kind == V_TENSOR ? prefix : NULL;
		lower_bind(d->q.w, prefix, v);
		d->q.nnet++;
	}
	return r;
}

static const char *
params_text(Draw *d, int64_t n)
{
	if (n == 0)
		return "";
	if (n >= 1000000)
		return arena_printf(d->a, "%.3g M params", (double)n * 1e-6);
	return arena_printf(d->a, "%s params", count_text(d->a, n));
}

static void
add_entry(Draw *d, int i, const Entry *e)
{
	d->box_of[d->q.m->data.ninput + (uint32_t)i] = d->p->nbox;
	Box *b = add_box(d, BX_ENTRY, d->q.m->net[i].name, params_text(d, e->params));
	b->out = e->out;
	b->tip = e->tip;
	add_chain(d, b, &e->chain, e->reads > 1 || !e->chain.n, false);
}

/* The loss under what it is of; a plain name is told by the edge. */
static void
add_loss(Draw *d, int i, const Entry *e)
{
	const LossEntry *l = &d->q.m->loss[i];
	const char *kind = "";
	Text t = {0};
	for (uint32_t k = 0; k < d->q.m->data.ntarget; k++)
		if (!strcmp(d->q.m->data.target[k].name, l->name))
			kind = d->q.m->data.target[k].kind == TG_BINARY ? "binary target" : "number target";
	Box *b = add_box(d, BX_LOSS, l->name, kind);
	b->tip = e->tip;
	add_chain(d, b, &e->chain, e->reads > 1, true);
	if (l->loss->kind == A_CALL)
		put_list(&t, l->loss->kid, l->loss->nkid);
	if (l->balanced)
		text_printf(&t, "%spositive_weight=balanced", t.n ? ", " : "");
	else if (l->positive_weight != 1)
		text_printf(&t, "%spositive_weight=%g", t.n ? ", " : "", l->positive_weight);
	if (l->weight != 1)
		text_printf(&t, "%sweight=%g", t.n ? ", " : "", l->weight);
	add_rows(d, b, 0, arena_printf(d->a, "%s loss", l->loss->s), keep_text(d->a, &t), "");
}

/* ---- the whole ---- */

static void
add_edges(Draw *d, int first_reader)
{
	Picture *p = d->p;
	for (int v = 0; v < d->nvalue; v++) {
		Box *from = &p->box[d->box_of[v]];
		bool told = false; /* an input of the same box was here */
		for (int k = 0; k < v && !told; k++)
			told = d->box_of[k] == d->box_of[v];
		from->unused = true;
		for (int r = 0; r < d->nreader; r++) {
			if (!d->q.reads[v][r])
				continue;
			Edge e = {d->box_of[v], first_reader + r};
			from->unused = false;
			p->box[e.to].kinds |= from->kinds;
			if (!told)
				ARENA_PUSH(d->a, p->edge, p->nedge, p->capedge) = e;
		}
	}
}

static const char *
summary(Draw *d)
{
	Text t = {0};
	int64_t n = 0;
	for (int k = 0; k < d->q.g->nparam; k++) {
		int64_t size = 1;
		for (int j = 0; j < d->q.g->param[k].nd; j++)
			size *= d->q.g->param[k].dim[j];
		n += size;
	}
	text_printf(&t, "%s parameters" BETWEEN "%u input%s" BETWEEN "b: batch of %lld in training" BETWEEN, count_text(d->a, n), d->q.m->data.ninput,
	            d->q.m->data.ninput == 1 ? "" : "s", (long long)d->q.m->train.batch);
	put_code(&t, d->q.m->optimizer, 0);
	if (d->q.m->schedule) {
		text_puts(&t, BETWEEN);
		put_code(&t, d->q.m->schedule, 0);
	}
	return keep_text(d->a, &t);
}

Picture *
picture_build(Arena *a, Lib *l, const Model *m, Err *e)
{
	Graph *g = graph_new(a, "picture");
	int nvalue = (int)m->data.ninput + m->nnet, nreader = m->nnet + m->nloss;
	Draw d = {.a = a, .nvalue = nvalue, .nreader = nreader, .q = {.a = a, .m = m, .g = g, .w = lower_new(l, g, true)}};
	char **reads = d.q.reads = arena_alloc(a, (size_t)nvalue * sizeof *reads);
	d.box_of = arena_alloc(a, (size_t)nvalue * sizeof *d.box_of);
	d.p = arena_alloc(a, sizeof *d.p);
	*d.p = (Picture){.arena = a, .name = m->name};
	g->batch = m->train.batch;
	for (int i = 0; i < nvalue; i++)
		reads[i] = arena_alloc(a, (size_t)nreader + 1);
	const char **shape = arena_alloc(a, m->data.ninput * sizeof *shape);
	for (uint32_t i = 0; i < m->data.ninput; i++)
		shape[i] = bind_input(&d, i);
	Entry *entry = arena_alloc(a, (size_t)nreader * sizeof *entry);
	for (int i = 0; i < m->nnet; i++)
		entry[i] = trace_entry(&d, m->net[i].expr, m->net[i].name, i);
	for (int i = 0; i < m->nloss; i++)
		entry[m->nnet + i] = trace_entry(&d, m->loss[i].of, m->loss[i].name, m->nnet + i);
	if (d.q.failed)
		return fail(e, "%s: no picture: the network has errors", m->name), NULL;
	add_inputs(&d, shape);
	int first_reader = d.p->nbox;
	for (int i = 0; i < m->nnet; i++)
		add_entry(&d, i, &entry[i]);
	for (int i = 0; i < m->nloss; i++)
		add_loss(&d, i, &entry[m->nnet + i]);
	add_edges(&d, first_reader);
	d.p->summary = summary(&d);
	return d.p;
}

bool
picture_write(Arena *a, Lib *l, const Model *m, const char *path, Err *e)
{
	Text t = {0};
	Picture *p = picture_build(a, l, m, e);
	if (!p)
		return false;
	picture_place(p);
	picture_svg(p, &t);
	bool ok = write_file_atomic(path, t.s, t.n, 0644, e);
	free(t.s);
	return ok;
}
