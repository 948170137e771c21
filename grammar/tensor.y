/* Grammar of the tensor language: the op library, expressions in model files, graph text. Actions only build nodes. */
%code requires { #include "../compiler/parse.h" }
%define api.pure full
%define api.prefix {tl_}
%define parse.error custom
%define parse.lac full
%define api.location.type {Loc}
%locations
%param {Parser *p} {void *scanner}
%expect 0
%code {
	int tl_lex(TL_STYPE *v, Loc *l, Parser *p, void *scanner);
	#include <string.h>
	char *tl_get_text(void *scanner);
	static void tl_error(Loc *l, Parser *p, void *scanner, const char *msg);
	#define YYLLOC_DEFAULT(cur, rhs, n) ((cur) = (n) ? YYRHSLOC(rhs, 1) : YYRHSLOC(rhs, 0))
	#define MK(kind, l, ...) ast_new(p, kind, l, __VA_ARGS__)
}
%union { const char *s; Ast *ast; Items *list; }
%token <s> NAME "a name" STR "a text" DEF "a definition" TEST "test"
%token <ast> NUM "a number"
%token PARAM "param" STATE "state" UPDATE "update" EMIT "emit" SCAN "scan" IF "if" ELSE "else" AS "as"
%token PIPE "|>" ARROW "->" SET ":=" LE "<=" GE ">=" EQ "==" NE "!=" DOTS ".." BAD "an unknown character"
%token END 0 "the end" FILE_START EXPR_START /* the scanner's first token says what is parsed */
%left PIPE
%left '|'
%left '&'
%nonassoc '<' '>' LE GE EQ NE
%left '+' '-'
%left '*' '/' '%'
%precedence UNARY
%right '^'
%type <ast> def test formal axis stmt decl expr update postfix primary call arg index element block else
%type <list> formals formals1 axes sig stmts decls args args1 indexes elements lets updates dims
%%
start: FILE_START file | EXPR_START expr { p->result = $2; } ;
file: %empty | file def { def_add(p, $2); } | file test { def_add(p, $2); } | file ';' ;

def: DEF NAME '(' formals ')' sig block {
		$$ = ast_list(p, A_DEF, @2, $2, $7, $4);
		$$->t = $1;
		$$->doc = doc_take(p);
		$$->sig = $6 ? $6->v : NULL;
		$$->nsig = $6 ? $6->n : 0;
	} ;
test: TEST expr ';' { $$ = MK(A_TEST, @2, NULL, 1, $2); } ;

formals: %empty { $$ = items_new(p, NULL); } | formals1 ;
formals1: formal { $$ = items_new(p, $1); } | formals1 ',' formal { $$ = items_add(p, $1, $3); } ;
formal: NAME              { $$ = MK(A_FORMAL, @1, $1, 1, NULL); }
      | NAME DOTS         { $$ = MK(A_FORMAL, @1, $1, 1, NULL); $$->isint = true; }
      | NAME '=' expr     { $$ = MK(A_FORMAL, @1, $1, 1, $3); }
      | NAME '[' axes ']' { $$ = ast_list(p, A_FORMAL, @1, $1, NULL, $3); $$->tensor = true; }
      | NAME '[' axes ']' '=' expr { $$ = ast_list(p, A_FORMAL, @1, $1, $6, $3); $$->tensor = true; } ;
axes: axis { $$ = items_new(p, $1); } | axes ',' axis { $$ = items_add(p, $1, $3); } ;
axis: DOTS              { $$ = MK(A_AXIS, @1, "..", 2, NULL, NULL); }
    | NAME              { $$ = MK(A_AXIS, @1, $1, 2, NULL, NULL); }
    | NAME ':' expr     { $$ = MK(A_AXIS, @1, $1, 2, $3, NULL); }
    | NAME ':' expr AS NAME { $$ = MK(A_AXIS, @1, $1, 2, $3, MK(A_NAME, @5, $5, 0)); } ;
sig: %empty { $$ = NULL; } | ARROW '[' axes ']' { $$ = $3; } | ARROW '[' ']' { $$ = items_new(p, NULL); } ;

block: '{' stmts '}' { $$ = ast_list(p, A_BLOCK, @1, NULL, NULL, $2); } ;
stmts: %empty { $$ = items_new(p, NULL); }
     | stmt { $$ = items_new(p, $1); }
     | lets { $$ = $1; }
     | stmts ';'
     | stmts ';' stmt { $$ = items_add(p, $1, $3); }
     | stmts ';' lets { for (int i = 0; i < $3->n; i++) items_add(p, $1, $3->v[i]); $$ = $1; } ;
/* declarations come in lists: each is a statement of its own */
lets: PARAM decls { $$ = $2; }
    | STATE decls { $$ = $2; for (int i = 0; i < $2->n; i++) $2->v[i]->kind = A_STATE; }
    | UPDATE updates { $$ = $2; } ;
updates: update { $$ = items_new(p, $1); } | updates ',' update { $$ = items_add(p, $1, $3); } ;
update: NAME '=' expr { $$ = MK(A_UPDATE, @1, $1, 1, $3); } ;
decls: decl { $$ = items_new(p, $1); } | decls ',' decl { $$ = items_add(p, $1, $3); } ;
decl: NAME '[' axes ']' '=' expr { $$ = ast_list(p, A_PARAM, @1, $1, $6, $3); }
    | NAME '[' ']' '=' expr { $$ = MK(A_PARAM, @1, $1, 1, $5); }
    | NAME '=' expr { $$ = MK(A_PARAM, @1, $1, 1, $3); $$->tensor = true; } ;
stmt: NAME '=' expr { $$ = MK(A_LET, @1, $1, 1, $3); }
    | NAME SET expr { $$ = MK(A_SET, @1, $1, 1, $3); }
    | NAME ':' NAME '[' dims ']' '=' expr { $$ = ast_list(p, A_TYPED, @1, $1, $8, $5); $$->t = $3; }
    | NAME ':' NAME '[' dims ']' '=' SCAN '(' args ')' block {
		$$ = ast_list(p, A_TYPED, @1, $1, ast_list(p, A_CALL, @8, "scan", NULL, items_add(p, $10, $12)), $5);
		$$->t = $3;
	}
    | EMIT expr     { $$ = MK(A_EMIT, @1, NULL, 1, $2); }
    | expr ;
dims: %empty { $$ = items_new(p, NULL); } | elements ;

expr: postfix
    | expr PIPE expr { $$ = MK(A_PIPE, @2, NULL, 2, $1, $3); }
    | expr '|' expr { $$ = MK(A_BINARY, @2, "|", 2, $1, $3); }
    | expr '&' expr { $$ = MK(A_BINARY, @2, "&", 2, $1, $3); }
    | expr '<' expr { $$ = MK(A_BINARY, @2, "<", 2, $1, $3); }
    | expr '>' expr { $$ = MK(A_BINARY, @2, ">", 2, $1, $3); }
    | expr LE expr  { $$ = MK(A_BINARY, @2, "<=", 2, $1, $3); }
    | expr GE expr  { $$ = MK(A_BINARY, @2, ">=", 2, $1, $3); }
    | expr EQ expr  { $$ = MK(A_BINARY, @2, "==", 2, $1, $3); }
    | expr NE expr  { $$ = MK(A_BINARY, @2, "!=", 2, $1, $3); }
    | expr '+' expr { $$ = MK(A_BINARY, @2, "+", 2, $1, $3); }
    | expr '-' expr { $$ = MK(A_BINARY, @2, "-", 2, $1, $3); }
    | expr '*' expr { $$ = MK(A_BINARY, @2, "*", 2, $1, $3); }
    | expr '/' expr { $$ = MK(A_BINARY, @2, "/", 2, $1, $3); }
    | expr '%' expr { $$ = MK(A_BINARY, @2, "%", 2, $1, $3); }
    | expr '^' expr { $$ = MK(A_BINARY, @2, "^", 2, $1, $3); }
    | '-' expr %prec UNARY { $$ = MK(A_UNARY, @1, "-", 1, $2); }
    | '!' expr %prec UNARY { $$ = MK(A_UNARY, @1, "!", 1, $2); } ;
postfix: primary | postfix '[' indexes ']' { $$ = ast_list(p, A_INDEX, @1, NULL, $1, $3); } ;
indexes: index { $$ = items_new(p, $1); } | indexes ',' index { $$ = items_add(p, $1, $3); } ;
index: NAME '=' expr { $$ = MK(A_NAMED, @1, $1, 1, $3); }
     | NAME '=' expr ':' expr { $$ = MK(A_RANGE, @1, $1, 2, $3, $5); }
     | NAME '=' expr ':' expr ':' expr { $$ = MK(A_RANGE, @1, $1, 3, $3, $5, $7); }
     | element ; /* randn[3, c: 4], in tests */
primary: NUM | STR { $$ = MK(A_STR, @1, $1, 0); }
       | NAME { $$ = MK(A_NAME, @1, $1, 0); }
       | call
       | '(' expr ')' { $$ = $2; }
       | '(' NAME ':' expr ')' { $$ = MK(A_LIST, @1, NULL, 1, MK(A_AXIS, @2, $2, 2, $4, NULL)); }
       | '(' element ',' elements ')' { $$ = ast_list(p, A_LIST, @1, NULL, $2, $4); }
       | '[' ']' { $$ = MK(A_LIST, @1, NULL, 0); }
       | '[' elements ']' { $$ = ast_list(p, A_LIST, @1, NULL, NULL, $2); }
       | IF expr block else { $$ = MK(A_IF, @1, NULL, 3, $2, $3, $4); }
       | SCAN NAME '(' decls ')' block { $$ = ast_list(p, A_SCAN, @1, $2, $6, $4); } ;
else: %empty { $$ = NULL; } | ELSE block { $$ = $2; } | ELSE IF expr block else { $$ = MK(A_IF, @2, NULL, 3, $3, $4, $5); } ;
elements: element { $$ = items_new(p, $1); } | elements ',' element { $$ = items_add(p, $1, $3); } ;
element: expr | NAME ':' expr { $$ = MK(A_AXIS, @1, $1, 2, $3, NULL); } | DOTS { $$ = MK(A_AXIS, @1, "..", 2, NULL, NULL); } ;
call: NAME '(' args ')' { $$ = ast_list(p, A_CALL, @1, $1, NULL, $3); } ;
args: %empty { $$ = items_new(p, NULL); } | args1 ;
args1: arg { $$ = items_new(p, $1); } | args1 ',' arg { $$ = items_add(p, $1, $3); } ;
arg: element | NAME '=' expr { $$ = MK(A_NAMED, @1, $1, 1, $3); } ;
%%
static int
yyreport_syntax_error(const yypcontext_t *at, Parser *p, void *scanner)
{
	yysymbol_kind_t want[YYNTOKENS];
	const char *name[YYNTOKENS];
	int n = yypcontext_expected_tokens(at, want, YYNTOKENS);
	for (int i = 0; i < n; i++)
		name[i] = yysymbol_name(want[i]);
	syntax_error(p, *yypcontext_location(at), p->last ? tl_get_text(scanner) : "", name, n);
	return 0;
}

/* All but syntax errors: out of memory, nested too deep. */
static void
tl_error(Loc *l, Parser *p, void *scanner, const char *msg)
{
	(void)scanner;
	bad_token(p, *l, "%s", strcmp(msg, "memory exhausted") ? msg : "this nests too deep: name parts of it");
}
