/* An expression as a chain of operations, evaluated operand by operand, so that every step has its true shape:

     concat(words, mean(embed(hashtags, 128), k)) |> dense(128)

     concat                        [b, c: 256]      several operands: each a chain of its own, as a line of text
       words
       hashtags > embed 128 > mean k     [b, c: 128]
     dense 128                     [b, c: 128] */
#include <stdlib.h>
#include <string.h>

#include "lower.h"
#include "picture.h"

#define TIMES "\u00d7"

/* The text in the arena; the Text is freed. */
const char *
keep_text(Arena *a, Text *t)
{
	const char *s = t->s ? arena_strndup(a, t->s, t->n) : "";
	free(t->s);
	*t = (Text){0};
	return s;
}

/* ---- code as text ---- */

void
put_list(Text *t, Ast *const *v, int n)
{
	for (int i = 0; i < n; i++) {
		text_puts(t, i ? ", " : "");
		put_code(t, v[i], 0);
	}
}

static int
binding(const char *op)
{
	static const char *const levels[] = {"|", "&", "< > <= >= == !=", "+ -", "* / %", "^"};
	for (int i = 0; i < (int)LEN(levels); i++)
		for (const char *s = levels[i]; *s; s += strcspn(s, " "), s += *s == ' ')
			if (strcspn(s, " ") == strlen(op) && !strncmp(s, op, strlen(op)))
				return i + 2;
	return 1;
}

/* outer: how tightly what stands around binds; brackets where it binds tighter. */
void
put_code(Text *t, const Ast *e, int outer)
{
	int level = e->kind == A_PIPE ? 1 : e->kind == A_BINARY ? binding(e->s) : 9;
	text_puts(t, level < outer ? "(" : "");
	switch (e->kind) {
	case A_NUM: text_printf(t, "%.10g", e->f); break;
	case A_STR: text_printf(t, "\"%s\"", e->s); break;
	case A_NAME: text_puts(t, e->s[0] == '\'' ? "_" : e->s); break; /* _: what the step is given */
	case A_CALL:
		text_printf(t, "%s(", e->s);
		put_list(t, e->kid, e->nkid);
		text_puts(t, ")");
		break;
	case A_LIST: {
		bool axes = e->nkid && e->kid[0]->kind == A_AXIS;
		text_puts(t, axes ? "(" : "[");
		put_list(t, e->kid, e->nkid);
		text_puts(t, axes ? ")" : "]");
		break;
	}
	case A_NAMED:
		text_printf(t, "%s=", e->s);
		put_code(t, e->kid[0], 0);
		break;
	case A_AXIS:
		text_puts(t, e->s);
		if (e->nkid && e->kid[0]) {
			text_puts(t, ": ");
			put_code(t, e->kid[0], 0);
		}
		break;
	case A_RANGE:
		text_printf(t, "%s=", e->s);
		put_code(t, e->kid[0], 0);
		text_puts(t, ":");
		put_code(t, e->kid[1], 0);
		break;
	case A_PIPE:
	case A_BINARY:
		put_code(t, e->kid[0], level);
		text_printf(t, " %s ", e->kind == A_PIPE ? "|>" : e->s);
		put_code(t, e->kid[1], level + 1);
		break;
	case A_UNARY:
		text_puts(t, e->s);
		put_code(t, e->kid[0], 9);
		break;
	case A_INDEX:
		put_code(t, e->kid[0], 9);
		text_puts(t, "[");
		put_list(t, e->kid + 1, e->nkid - 1);
		text_puts(t, "]");
		break;
	case A_IF:
		text_puts(t, "if ");
		for (int i = 0; i < e->nkid && e->kid[i]; i++) {
			text_puts(t, i == 2 ? " else " : "");
			put_code(t, e->kid[i], 0);
			text_puts(t, i == 0 ? " " : "");
		}
		break;
	case A_BLOCK:
		text_puts(t, "{ ");
		for (int i = 0; i < e->nkid; i++) {
			text_puts(t, i ? "; " : "");
			put_code(t, e->kid[i], 0);
		}
		text_puts(t, " }");
		break;
	case A_LET:
		text_printf(t, "%s = ", e->s);
		put_code(t, e->kid[0], 0);
		break;
	default: text_puts(t, "...");
	}
	text_puts(t, level < outer ? ")" : "");
}

static const char *
code_text(Trace *q, const Ast *e)
{
	Text t = {0};
	put_code(&t, e, 0);
	return keep_text(q->a, &t);
}

/* [b, t: 32, c: 128]: the batch has no size. */
const char *
shape_text(Trace *q, const Val *v)
{
	Text t = {0};
	if (v->kind == V_NUM || v->kind == V_BOOL)
		text_printf(&t, "= %g", v->f);
	else if (v->kind == V_LIST)
		text_printf(&t, "%d values", v->nlist);
	if (v->kind != V_TENSOR)
		return keep_text(q->a, &t);
	text_puts(&t, "[");
	for (int i = 0; i < v->node->nd; i++) {
		text_printf(&t, "%s%s", i ? ", " : "", v->ax[i]);
		if (strcmp(v->ax[i], "b") || v->node->dim[i] != q->g->batch)
			text_printf(&t, ": %lld", (long long)v->node->dim[i]);
	}
	text_puts(&t, "]");
	return keep_text(q->a, &t);
}

/* 1447424: "1,447,424". */
const char *
count_text(Arena *a, int64_t n)
{
	char digits[32];
	Text t = {0};
	int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
	for (int i = 0; i < len; i++)
		text_printf(&t, "%s%c", i && (len - i) % 3 == 0 ? "," : "", digits[i]);
	return keep_text(a, &t);
}

/* ---- which names of the model an expression reads ---- */

/* Index of the value that the name stands for, or -1. */
static int
find_value(Trace *q, const char *s)
{
	int ninput = (int)q->m->data.ninput;
	for (int i = 0; i < q->nnet; i++)
		if (!strcmp(q->m->net[i].name, s))
			return ninput + i;
	for (int i = 0; i < ninput; i++)
		if (!strcmp(q->m->data.input[i].name, s))
			return i;
	return -1;
}

static bool
reads_model(Trace *q, const Ast *e)
{
	if (!e)
		return false;
	if (e->kind == A_NAME)
		return find_value(q, e->s) >= 0;
	for (int i = 0; i < e->nkid; i++)
		if (reads_model(q, e->kid[i]))
			return true;
	return false;
}

static void
use_all(Trace *q, const Ast *e)
{
	int v = e && e->kind == A_NAME ? find_value(q, e->s) : -1;
	if (v >= 0)
		q->reads[v][q->reader] = 1;
	for (int i = 0; e && i < e->nkid; i++)
		use_all(q, e->kid[i]);
}

/* ---- an expression as a chain ---- */

/* A mask: drawn as an argument, not as what flows. */
static bool
is_condition(const Ast *e)
{
	return (e->kind == A_BINARY && strchr("<>=!&|", e->s[0])) || (e->kind == A_UNARY && e->s[0] == '!');
}

/* Builtins take one tensor, and bare names after it are axes; these take any number. */
static bool
takes_one(const char *fn)
{
	static const char *const several[] = {"concat", "stack", "max", "min"};
	for (size_t i = 0; i < LEN(several); i++)
		if (!strcmp(fn, several[i]))
			return false;
	return builtin_find(fn) != NULL;
}

/* The operands of e (a copy, which may be changed) that values of the model flow in through. */
static int
find_operands(Trace *q, Ast *e, Ast ***slot)
{
	Ast *call = e->kind == A_PIPE ? e->kid[1] : e;
	int n = 0, first = e->kind == A_PIPE, flow = 0;
	if (e->kind == A_PIPE || e->kind == A_INDEX)
		slot[n++] = &e->kid[0];
	if (e->kind == A_BINARY || e->kind == A_UNARY) {
		for (int i = 0; i < e->nkid; i++)
			if (reads_model(q, e->kid[i]))
				slot[n++] = &e->kid[i];
		return n == 1 ? n : 0; /* a + b reads best as it is written */
	}
	if (call->kind != A_CALL || (takes_one(call->s) && n))
		return n;
	for (int i = 0; i < call->nkid; i++) {
		Ast *k = call->kid[i];
		if (k->kind == A_NAMED || k->kind == A_AXIS || k->kind == A_LIST || !reads_model(q, k))
			continue;
		slot[n++] = &call->kid[i];
		if (takes_one(call->s))
			return n;
	}
	for (int i = 0; i < n; i++)
		if (i < first || !is_condition(*slot[i]))
			slot[flow++] = slot[i];
	return flow ? flow : n; /* nothing but a mask: then that flows */
}

static Ast *
ast_copy(Arena *a, const Ast *e)
{
	Ast *r = arena_alloc(a, sizeof *r), **kid = arena_alloc(a, (size_t)(e->nkid + 1) * sizeof *kid);
	*r = *e;
	if (e->nkid)
		memcpy(kid, e->kid, (size_t)e->nkid * sizeof *kid);
	r->kid = kid;
	return r;
}

static Val
eval(Trace *q, Ast *e)
{
	Val v = {0};
	q->failed = q->failed || !lower_eval(q->w, e, q->prefix, &v);
	return v;
}

/* Puts a name that stands for v where an operand was: its own quote keeps it apart from names of the model. */
static void
bind_stage(Trace *q, Ast **slot, Val v)
{
	Ast *name = arena_alloc(q->a, sizeof *name);
	*name = (Ast){.kind = A_NAME, .loc = (*slot)->loc, .s = arena_printf(q->a, "'stage%d", q->nstage++)};
	lower_bind(q->w, name->s, v);
	*slot = name;
}

/* Name and arguments of the operation that is left when the operands are bound. */
static Step
describe_step(Trace *q, const Ast *e)
{
	const Ast *call = e->kind == A_PIPE ? e->kid[1] : e;
	Step s = {.args = "", .times = "", .count = 1};
	Text t = {0};
	if (call->kind == A_CALL && !strcmp(call->s, "repeat") && call->nkid == 2) {
		s.times = code_text(q, call->kid[0]);
		use_all(q, call->kid[0]);
		call = call->kid[1];
	}
	if (call->kind == A_BINARY || call->kind == A_UNARY || call->kind == A_INDEX) {
		put_code(&t, call, 0);
		use_all(q, call);
		s.name = keep_text(q->a, &t);
		s.name += s.name[0] == '_' ? 1 + (s.name[1] == ' ') : 0; /* _ * 2: "* 2" */
		return s;
	}
	s.name = call->s;
	for (int i = 0; call->kind == A_CALL && i < call->nkid; i++) {
		const Ast *k = call->kid[i];
		if (k->kind == A_NAME && k->s[0] == '\'')
			continue;
		text_puts(&t, t.n ? ", " : "");
		put_code(&t, k, 0);
		if (!takes_one(call->s) || k->kind != A_NAME)
			use_all(q, k);
	}
	s.args = keep_text(q->a, &t);
	return s;
}

static void
add_step(Trace *q, Chain *c, Step s)
{
	Step *last = c->n ? &c->step[c->n - 1] : NULL;
	if (last && !s.nsource && !last->nsource && !strcmp(last->name, s.name) && !strcmp(last->args, s.args) &&
	    !strcmp(last->shape, s.shape) && !strcmp(last->times, s.times))
		last->count++;
	else
		ARENA_PUSH(q->a, c->step, c->n, c->cap) = s;
}

/* "embed 128 x2" */
const char *
step_text(Trace *q, const Step *s)
{
	Text t = {0};
	text_printf(&t, "%s", s->name);
	if (*s->times)
		text_printf(&t, " " TIMES "%s", s->times);
	if (s->count > 1)
		text_printf(&t, " " TIMES "%d", s->count);
	return keep_text(q->a, &t);
}

/* An operand in one line: "hour > embed 16", with arrows. */
static const char *
chain_text(Trace *q, const Chain *c)
{
	Text t = {0};
	text_puts(&t, c->head);
	for (int i = 0; i < c->n; i++) {
		const Step *s = &c->step[i];
		text_printf(&t, "%s%s", t.n ? ARROW : "", step_text(q, s));
		if (s->nsource) {
			text_puts(&t, "(");
			for (int k = 0; k < s->nsource; k++)
				text_printf(&t, "%s%s", k ? ", " : "", s->source[k]);
			text_puts(&t, ")");
		}
		if (*s->args)
			text_printf(&t, " %s", s->args);
	}
	return keep_text(q->a, &t);
}

static Val
opaque(Trace *q, Ast *e, Chain *c)
{
	c->head = code_text(q, e);
	c->plain = e->kind == A_NAME;
	use_all(q, e);
	return eval(q, e);
}

/* Evaluates e operand by operand and says in c what happens; c is empty before. */
Val
trace_expr(Trace *q, Ast *e, Chain *c)
{
	*c = (Chain){.head = ""};
	if (q->failed)
		return (Val){0};
	Ast *r = ast_copy(q->a, e);
	if (e->kind == A_PIPE)
		r->kid[1] = ast_copy(q->a, e->kid[1]);
	int max = r->nkid + (e->kind == A_PIPE ? r->kid[1]->nkid : 0) + 1, kept = 0;
	Ast ***slot = arena_alloc(q->a, (size_t)max * sizeof *slot);
	Chain *from = arena_alloc(q->a, (size_t)max * sizeof *from);
	const char **shape = arena_alloc(q->a, (size_t)max * sizeof *shape);
	int n = find_operands(q, r, slot);
	for (int i = 0; i < n; i++) {
		Val v = trace_expr(q, *slot[i], &from[kept]);
		if (q->failed)
			return (Val){0};
		if (v.kind != V_TENSOR && v.kind != V_LIST) /* a size: stays in the text */
			continue;
		bind_stage(q, slot[i], v);
		shape[kept] = from[kept].plain && !from[kept].n ? "" : shape_text(q, &v);
		kept++;
	}
	if (!kept)
		return opaque(q, e, c);
	Step s = describe_step(q, r);
	Val v = eval(q, r);
	s.shape = shape_text(q, &v);
	if (kept == 1) {
		*c = from[0];
	} else {
		s.source = arena_alloc(q->a, (size_t)kept * sizeof *s.source);
		s.source_shape = shape;
		for (s.nsource = 0; s.nsource < kept; s.nsource++)
			s.source[s.nsource] = chain_text(q, &from[s.nsource]);
	}
	add_step(q, c, s);
	return v;
}
