/* Text of the tensor language to AST: what the lexer and the grammar need, and the entries. */
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "tensor.tab.h"
#include "tensor.lex.h"

void
loc_advance(Parser *p, Loc *l, const char *s, int n)
{
	*l = p->at;
	for (int i = 0; i < n; i++) {
		if (s[i] == '\n') {
			p->at.line++;
			p->at.col = 1;
		} else if (((unsigned char)s[i] & 0xc0) != 0x80) {
			p->at.col++;
		}
	}
}

void
doc_add(Parser *p, const char *s, int n)
{
	if (p->depth)
		return;
	if (p->doc.n)
		text_puts(&p->doc, "\n");
	if (n && *s == ' ')
		s++, n--;
	text_add(&p->doc, s, (size_t)n);
}

const char *
doc_take(Parser *p)
{
	const char *s = p->doc.n ? arena_strndup(p->arena, p->doc.s, p->doc.n) : "";
	p->doc.n = 0;
	return s;
}

/* After these a statement can be complete. */
bool
newline_ends(const Parser *p)
{
	if (p->depth && p->open[p->depth - 1] != '{')
		return false;
	switch (p->last) {
	case NAME: case NUM: case STR: case ')': case ']': case '}':
		return !p->expression;
	default:
		return false;
	}
}

bool
nest(Parser *p, char c)
{
	if (p->depth == (int)LEN(p->open)) {
		error_at(p->at, "brackets nest deeper than %d", p->depth);
		p->failed = true;
		return false;
	}
	p->open[p->depth++] = c;
	return true;
}

void
unnest(Parser *p)
{
	if (p->depth)
		p->depth--;
}

Ast *
num(Parser *p, Loc l, const char *s, bool isint)
{
	Ast *a = ast_new(p, A_NUM, l, arena_strdup(p->arena, s), 0);
	a->f = strtod(s, NULL);
	a->isint = isint;
	return a;
}

static Ast *
ast_alloc(Parser *p, AstKind k, Loc l, const char *s, int nkid)
{
	Ast *a = arena_alloc(p->arena, sizeof *a);
	*a = (Ast){.kind = k, .loc = l, .s = s, .nkid = nkid, .doc = ""};
	a->kid = arena_alloc(p->arena, (size_t)nkid * sizeof *a->kid);
	return a;
}

Ast *
ast_new(Parser *p, AstKind k, Loc l, const char *s, int nkid, ...)
{
	Ast *a = ast_alloc(p, k, l, s, nkid);
	va_list ap;
	va_start(ap, nkid);
	for (int i = 0; i < nkid; i++)
		a->kid[i] = va_arg(ap, Ast *);
	va_end(ap);
	return a;
}

/* kid[0] is first (also when it is NULL and the kind has a leading kid), then the rest. */
Ast *
ast_list(Parser *p, AstKind k, Loc l, const char *s, Ast *first, Items *rest)
{
	int lead = first != NULL || k == A_FORMAL;
	Ast *a = ast_alloc(p, k, l, s, rest->n + lead);
	if (lead)
		a->kid[0] = first;
	for (int i = 0; i < rest->n; i++)
		a->kid[lead + i] = rest->v[i];
	return a;
}

Items *
items_add(Parser *p, Items *l, Ast *a)
{
	if (l->n == l->cap) {
		Ast **v = arena_alloc(p->arena, (size_t)(l->cap = l->cap * 2 + 4) * sizeof *v);
		if (l->n)
			memcpy(v, l->v, (size_t)l->n * sizeof *v);
		l->v = v;
	}
	l->v[l->n++] = a;
	return l;
}

Items *
items_new(Parser *p, Ast *first)
{
	Items *l = arena_alloc(p->arena, sizeof *l);
	return first ? items_add(p, l, first) : l;
}

void def_add(Parser *p, Ast *a) { items_add(p, &p->items, a); }

static bool
parse(Parser *p, const char *text)
{
	void *scanner;
	if (tl_lex_init_extra(p, &scanner))
		bug("flex cannot start");
	tl__scan_string(text, scanner);
	int rc = tl_parse(p, scanner);
	tl_lex_destroy(scanner);
	free(p->doc.s);
	return rc == 0 && !p->failed;
}

Ast **
parse_file(Arena *a, int file, int *n)
{
	Parser p = {.arena = a, .at = {file, 1, 1}};
	Text t = {0};
	text_puts(&t, source_text(file));
	text_puts(&t, "\n"); /* the last statement ends, too */
	bool ok = parse(&p, t.s);
	free(t.s);
	*n = p.items.n;
	if (!ok)
		return NULL;
	return p.items.v ? p.items.v : arena_alloc(a, sizeof(Ast *));
}

Ast *
parse_expr(Arena *a, const char *text, Loc l)
{
	Parser p = {.arena = a, .at = l, .expression = true};
	return parse(&p, text) ? p.result : NULL;
}
