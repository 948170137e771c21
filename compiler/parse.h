/* What grammar/tensor.l, grammar/tensor.y and parse.c share. */
#ifndef PARSE_H
#define PARSE_H

#include "mmc.h"

typedef struct Items { /* a list while it is built */
	Ast **v;
	int n, cap;
} Items;

typedef struct Parser {
	Arena *arena;
	Loc at;          /* of the next character */
	bool expression; /* one expression, not a file */
	bool raw;        /* graph text: `state` and `update` are names */
	int depth;       /* open brackets of any kind */
	char open[256];  /* the brackets */
	int last;        /* token before, for newlines */
	Text doc;        /* ## lines since the last definition */
	Items items;     /* of a file */
	Ast *result;     /* of an expression */
	bool failed;
} Parser;

void loc_advance(Parser *p, Loc *l, const char *s, int n);
void doc_add(Parser *p, const char *s, int n);
bool newline_ends(const Parser *p);
bool nest(Parser *p, char c); /* false: too deep */
void unnest(Parser *p);
Ast *num(Parser *p, Loc l, const char *s, bool isint);

Ast *ast_new(Parser *p, AstKind k, Loc l, const char *s, int nkid, ...);
Ast *ast_list(Parser *p, AstKind k, Loc l, const char *s, Ast *first, Items *rest); /* first may be NULL */
Items *items_new(Parser *p, Ast *first); /* first may be NULL: empty */
Items *items_add(Parser *p, Items *l, Ast *a);
void def_add(Parser *p, Ast *a);
const char *doc_take(Parser *p);

#endif
