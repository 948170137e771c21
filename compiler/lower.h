/* Shared by the files of the lowering: lower.c (expressions, statements), call.c (definitions and axes),
   builtin.c (compile-time functions), raw.c (primitives called directly). */
#ifndef LOWER_H
#define LOWER_H

#include <setjmp.h>

#include "mmc.h"

typedef struct Var {
	const char *name;
	Val v;
	int state; /* index of the graph state that it stands for, or -1 */
	struct Var *next;
} Var;

typedef struct Absent { /* a name that cannot be used, and what to say of it */
	const char *name, *why;
	struct Absent *next;
} Absent;

/* Local name of an axis, and what the caller calls it. */
typedef struct AxisBind {
	const char *local, *caller;
	int64_t size;
	const char *from; /* formal that bound it first */
	struct AxisBind *next;
} AxisBind;

typedef struct Scope {
	struct Scope *up;    /* of an enclosing block of the same definition; NULL at its top */
	struct Scope *caller;/* whose call this is, for notes */
	Var *var;
	AxisBind *axis;
	const Ast *def;      /* definition, NULL for a model expression */
	Loc call;            /* where it was called */
	const char *prefix;  /* path of parameters declared here */
	Val *rest;           /* the axes that .. covers in the formals; NULL where no formal has it */
	const char *lead[MAXDIM]; /* the axes that .. of the formals covers, as they are called inside */
	int64_t lead_size[MAXDIM];
	int nlead;
	Val *like;           /* optimizer: `state` without axes has this shape */
} Scope;

typedef struct Used { /* how often a path was asked for */
	const char *path;
	int n;
	struct Used *next;
} Used;

struct Lower {
	Lib *lib;
	Graph *g;
	Arena *arena;
	bool training;
	bool raw;          /* axes are positions: gradient rules */
	Scope *scope;      /* current */
	Var *global;
	Absent *absent;
	Var *constant;     /* the end of the list global that definitions see, too */
	Used *used[1024];  /* by hash */
	int nparam;        /* declared so far */
	const char *hint;  /* name for the next definition called, from `name = call` */
	int depth;         /* of expressions in one another */
	int calls;         /* of definitions in one another */
	int allcalls;      /* of definitions, so far */
	struct ScanBody *scan; /* the scan whose step is being traced, or NULL */
	int step;          /* nodes from this id on are of the step; 0 outside of scans */
	jmp_buf *bail;     /* where an error goes */
};

/* What a name stands for after its expression failed: any use of it fails, too, without another message. */
#define POISON ((Val){.kind = V_FN, .fn = NULL})

_Noreturn void lower_fail(Lower *w, Loc l, const char *fmt, ...) PRINTF(3, 4); /* reports with the chain of calls */

Val lower_expr(Lower *w, Ast *e);
Val lower_block(Lower *w, Ast *b);       /* in a scope of its own */
Var *lower_var(Lower *w, const char *name);
Var *lower_find(Lower *w, const char *name); /* the same, of what failed to lower, too */
void lower_let(Lower *w, const char *name, Val v, int state);
const char *lower_path(Lower *w, const char *name); /* prefix.name, made unique with _2 */

Node *need_tensor(Lower *w, Ast *at, Val *v);
int64_t need_int(Lower *w, Ast *at, const Val *v, const char *what);
double need_num(Lower *w, Ast *at, const Val *v, const char *what);
int find_axis(const Val *v, const char *name); /* -1 */
int need_axis(Lower *w, Loc l, const Val *v, const char *name);
const char *lower_axis(Lower *w, const char *name); /* the axis that the name is, or that a formal of this name stands for */
Val need_axes(Lower *w, Ast *arg);       /* names of axes */
const char *need_one_axis(Lower *w, Ast *arg);
void axes_add(Lower *w, Loc l, Val *axes, const char *name, int64_t size); /* fails if it is there already */
const char *axes_text(Lower *w, const Val *v); /* "[b: 8, t: 6]", in the arena */
void need_count(Lower *w, Loc l, const int64_t *dim, int nd); /* not more elements than anything can hold */
void need_apart(Lower *w, Loc l, const Val *v);               /* no axis twice */

/* Brings tensors and numbers to one shape, by axis name; n <= 8. Numbers take the type of the tensors. */
void align(Lower *w, Ast *at, Val *v, int n);
DType common_type(const Val *v, int n); /* that the tensors among them take */
Val apply_prim(Lower *w, Ast *at, Prim op, Val *v, int n); /* elementwise, after align; folds numbers */
Val permute_to(Lower *w, Val v, const char *const *ax);    /* the same axes in another order */

typedef struct Axes {
	const char *ax[MAXDIM];
	int64_t dim[MAXDIM];
	const Val *from[MAXDIM];
	int n;
} Axes;
Val expand_to(Lower *w, const Val *v, const Axes *u); /* repeats v to the axes */
int64_t axis_size_arg(Lower *w, Ast *size, const char *axis); /* the size of an axis, checked */

/* declare.c */
void declare_param(Lower *w, Ast *d);
void declare_state(Lower *w, Ast *d);
void set_state(Lower *w, Ast *e); /* update m = e, m := e */

int64_t axis_size(Lower *w, const char *name); /* of an axis that the scope knows, or -1 */

/* lower_scan.c */
Val lower_scan(Lower *w, Ast *e);
void lower_emit(Lower *w, Ast *e);

/* call.c */
Val call_def(Lower *w, const Ast *def, Ast *call, Val *piped);
Val call_any(Lower *w, Ast *call, Val *piped); /* call: A_CALL or A_NAME */
Ast *named_arg(Ast *call, const char *name);
/* Fails unless every named argument of the call is one of the names. */
void check_named(Lower *w, Ast *call, const char *const *names, size_t n);
Val arg_val(Lower *w, Ast *call, int i, Val *piped, Ast **at); /* i-th positional, V_NONE past the end */
int arg_count(Ast *call, Val *piped);

/* builtin.c */
typedef Val (*Builtin)(Lower *w, Ast *call, Val *piped);
Builtin builtin_find(const char *name);
void builtin_check(Lower *w, Ast *call, Val *piped); /* number and names of the arguments of a call to one */
const char *builtin_name(int i); /* NULL past the end */
bool prim_elementwise(const char *name, Prim *op);

/* raw.c */
bool raw_call(Lower *w, Ast *call, Val *out); /* false: no such primitive or list function */
Val val_raw(Lower *w, Node *n);

#endif
