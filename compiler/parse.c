/* Text of the tensor language to AST: what the lexer and the grammar need, and the entries. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "tensor.tab.h"
#include "tensor.lex.h"

#define MAX_TOKENS 10000 /* of a definition: bounds the recursion over its tree */

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

/* ---- for the scanner ---- */

int
token(Parser *p, int t)
{
	p->end = p->at;
	p->near_def -= p->near_def > 0;
	if (t == DEF || t == TEST)
		p->ntoken = 0;
	if (++p->ntoken > MAX_TOKENS && !p->raw) /* graph text is flat */
		t = bad_token(p, p->at, "more than %d words and signs: make several definitions of this one", MAX_TOKENS);
	return p->last = t;
}

int
bad_token(Parser *p, Loc l, const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	if (!p->failed)
		error_at(l, "%s", msg);
	p->failed = true;
	return BAD;
}

int
bad_char(Parser *p, Loc l, char c)
{
	static const struct {
		char c;
		const char *instead;
	} hint[] = {{'\'', "texts stand between double quotes"}, {'.', "an op is called as op(x) or x |> op"}, {'@', "a matrix product is sum(a * b, axis)"}};
	for (size_t i = 0; i < LEN(hint); i++)
		if (c == hint[i].c)
			return bad_token(p, l, "'%c' means nothing in the tensor language: %s", c, hint[i].instead);
	if (c > ' ' && c < 127)
		return bad_token(p, l, "'%c' means nothing in the tensor language", c);
	return bad_token(p, l, "this character means nothing in the tensor language: only comments and texts may leave ASCII");
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
line_ends(Parser *p, const char *text)
{
	if (!p->newline || (*text && strchr(" \t\r\n#", *text)))
		return false;
	p->newline = false;
	return strcmp(text, "|>") && strcmp(text, "else");
}

bool
def_word(Parser *p)
{
	bool outside = p->depth == 0 && !p->expression;
	p->near_def = outside ? 0 : 3;
	return outside;
}

static void
note_open(const Parser *p)
{
	note_at(p->open_at[p->depth - 1], "this '%c' is still open", p->open[p->depth - 1]);
}

int
nest(Parser *p, Loc l, char c)
{
	if (p->depth == (int)LEN(p->open))
		return bad_token(p, l, "brackets nest deeper than %d", p->depth);
	p->open_at[p->depth] = l;
	p->open[p->depth++] = c;
	return c;
}

int
unnest(Parser *p, Loc l, char c)
{
	char open = c == ')' ? '(' : c == ']' ? '[' : '{';
	if (p->depth && p->open[p->depth - 1] == open) {
		p->depth--;
		return c;
	}
	if (!p->depth)
		return bad_token(p, l, "there is no '%c' that this '%c' closes", open, c);
	bool first = !p->failed;
	bad_token(p, l, "'%c' does not close '%c'", c, p->open[p->depth - 1]);
	if (first)
		note_open(p);
	return BAD;
}

/* ---- for the parser ---- */

/* Tokens that messages name by their kind, wherever the kind's first token, which it has alone, could stand. */
static const struct {
	const char *first, *tokens, *what;
} kinds[] = {
	{"a definition", " a_definition test ';' the_end ", "a definition or test"},
	{"'+'", " == != <= >= '<' '>' '|' '&' '+' '-' '*' '/' '%' '^' '[' '(' |> ", "an operator"},
	{"emit", " emit param state update a_name a_number a_text if scan '(' '[' '-' '!' ", "a statement"},
	{"a number", " a_name a_number a_text if scan '(' '[' '-' '!' ", "an expression"},
};

static bool
has_word(const char *words, const char *w)
{
	size_t n = strlen(w);
	for (const char *s = words; (s = strchr(s, ' ')) && s[1]; s++) {
		size_t i = 0;
		while (i < n && (s[i + 1] == w[i] || (s[i + 1] == '_' && w[i] == ' ')))
			i++;
		if (i == n && s[i + 1] == ' ')
			return true;
	}
	return false;
}

static bool
has_name(const char *const *name, int n, const char *s)
{
	while (n > 0 && strcmp(name[n - 1], s))
		n--;
	return n > 0;
}

/* The kind that stands for want[i], or LEN(kinds). */
static size_t
kind_of(const char *const *want, int n, int i)
{
	size_t j = 0;
	while (j < LEN(kinds) && !(has_name(want, n, kinds[j].first) && has_word(kinds[j].tokens, want[i])))
		j++;
	return j;
}

/* "')' or an operator": what could stand where another token does. */
static char *
expected(Parser *p, const char *const *want, int n)
{
	bool used[LEN(kinds)] = {0};
	Text t = {0};
	int k = 0;
	const char **said = arena_alloc(p->arena, ((size_t)n + LEN(kinds)) * sizeof *said);
	for (int i = 0; i < n; i++) {
		size_t j = kind_of(want, n, i);
		if (j < LEN(kinds))
			used[j] = true;
		else
			said[k++] = !strcmp(want[i], "';'") ? "the end of the line" : want[i];
	}
	for (size_t j = 0; j < LEN(kinds); j++)
		if (used[j])
			said[k++] = kinds[j].what;
	for (int i = 0; i < k; i++) {
		const char *quote = strchr(":=.|-", said[i][0]) ? "'" : ""; /* bison quotes tokens of one character itself */
		text_printf(&t, "%s%s%s%s", i == 0 ? "" : i + 1 < k ? ", " : " or ", quote, said[i], quote);
	}
	char *s = arena_strdup(p->arena, t.s ? t.s : "nothing");
	free(t.s);
	return s;
}

/* The word that ends before l on its line; the length to *n. */
static const char *
word_before(Loc l, size_t *n)
{
	const char *line = source_text(l.file), *end;
	for (int i = 1; i < l.line && (end = strchr(line, '\n')); i++)
		line = end + 1;
	end = line + strnlen(line, (size_t)l.col - 1);
	while (end > line && end[-1] == ' ')
		end--;
	for (*n = 0; end - *n > line && isalnum((unsigned char)end[-1 - (ptrdiff_t)*n]);)
		++*n;
	return end - *n;
}

/* What is said here for a word of other languages, found or standing before. */
static const char *
foreign_word(Loc l, const char *found)
{
	static const struct {
		const char *word, *here;
	} hint[] = {
		{"for", "; there is no for: repeat(n, op) repeats in a pipe, scan goes along an axis"},
		{"while", "; there is no while: repeat(n, op) repeats in a pipe, scan goes along an axis"},
		{"return", "; the last line of a definition is its value"},
		{"def", "; a definition begins as op name(x[.., c]) { .. }"},
		{"let", "; a name is given as name = value"},
		{"and", "; and is written &"},
		{"or", "; or is written |"},
		{"not", "; not is written !"},
	};
	size_t n;
	const char *before = word_before(l, &n);
	for (size_t i = 0; i < LEN(hint); i++)
		if (!strcmp(found, hint[i].word) || (n == strlen(hint[i].word) && !strncmp(before, hint[i].word, n)))
			return hint[i].here;
	return "";
}

void
syntax_error(Parser *p, Loc l, const char *found, const char *const *want, int n)
{
	const char *quote = *found ? "'" : "", *what = *found ? found : p->last == ';' ? "the end of the line" : "the end";
	if (p->failed)
		return; /* the scanner has reported it */
	error_at(l, "expected %s, found %s%s%s%s", expected(p, want, n), quote, what, quote, foreign_word(l, found));
	if (p->depth && (p->last == 0 || p->near_def == 1))
		note_open(p);
	p->failed = true;
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

static Ast **
parse_source(Arena *a, int file, bool raw, int *n)
{
	Parser p = {.arena = a, .at = {file, 1, 1}, .end = {file, 1, 1}, .raw = raw};
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

Ast **parse_file(Arena *a, int file, int *n) { return parse_source(a, file, false, n); }
Ast **parse_graphs(Arena *a, int file, int *n) { return parse_source(a, file, true, n); }

Ast *
parse_expr(Arena *a, const char *text, Loc l)
{
	Parser p = {.arena = a, .at = l, .end = l, .expression = true};
	return parse(&p, text) ? p.result : NULL;
}
