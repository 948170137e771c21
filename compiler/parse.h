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
	Loc end;         /* of the last token */
	bool expression; /* one expression, not a file */
	bool raw;        /* graph text: `param`, `state` and `update` are names */
	int depth;       /* open brackets of any kind */
	char open[256];  /* the brackets */
	Loc open_at[256];
	bool begun;      /* the token that says what is parsed has been given */
	int last;        /* token before, for newlines */
	int ntoken;      /* of the definition, or of the expression */
	bool newline;    /* a statement may have ended: the next token says */
	int near_def;    /* 1: the token before would begin a definition, were no bracket open */
	Text doc;        /* ## lines since the last definition */
	Items items;     /* of a file */
	Ast *result;     /* of an expression */
	bool failed;
} Parser;

void loc_advance(Parser *p, Loc *l, const char *s, int n);
void doc_add(Parser *p, const char *s, int n);

/* The scanner's: tokens, and BAD after a reported error. */
int token(Parser *p, int t);
int bad_token(Parser *p, Loc l, const char *fmt, ...) PRINTF(3, 4);
int bad_char(Parser *p, Loc l, char c);
int nest(Parser *p, Loc l, char c);
int unnest(Parser *p, Loc l, char c);
bool newline_ends(const Parser *p);
bool line_ends(Parser *p, const char *text); /* a newline before this token ends the statement */
bool def_word(Parser *p);                    /* a definition's first word begins one here */
/* The parser's: the token found ("": the end of a line, or of all) where one of want should be. */
void syntax_error(Parser *p, Loc l, const char *found, const char *const *want, int n);
Ast *num(Parser *p, Loc l, const char *s, bool isint);

Ast *ast_new(Parser *p, AstKind k, Loc l, const char *s, int nkid, ...);
Ast *ast_list(Parser *p, AstKind k, Loc l, const char *s, Ast *first, Items *rest); /* first may be NULL */
Items *items_new(Parser *p, Ast *first); /* first may be NULL: empty */
Items *items_add(Parser *p, Items *l, Ast *a);
void def_add(Parser *p, Ast *a);
const char *doc_take(Parser *p);

#endif
