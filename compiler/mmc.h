/* The compiler, sectioned by file. Passes and their order: main.c. */
#ifndef MMC_H
#define MMC_H

#include "../runtime/plan.h"

/* ---- diag.c: the user's errors ---- */

typedef struct Loc {
	int file; /* index of a source; 0: nowhere */
	int line, col; /* from 1 */
} Loc;

/* Registers a source text (kept); returns its index. */
int source_add(const char *path, const char *text);
const char *source_path(int file);
const char *source_text(int file);

/* "path:line:col: error: ...", the line and a caret. Counts; the driver stops after the pass. */
void error_at(Loc l, const char *fmt, ...) PRINTF(2, 3);
void note_at(Loc l, const char *fmt, ...) PRINTF(2, 3);
void warn_at(Loc l, const char *fmt, ...) PRINTF(2, 3);
int error_count(void);
char *loc_text(Arena *a, Loc l); /* "path:line" */

/* A bug of ours: names the pass, dumps the graph if there is one, exits with status 70. */
_Noreturn void bug(const char *fmt, ...) PRINTF(1, 2);

/* ---- parse.c, grammar/tensor.l, tensor.y: text to AST ---- */

typedef enum AstKind {
	A_NUM,   /* f; isint */
	A_STR,   /* s */
	A_NAME,  /* s */
	A_LIST,  /* kid.. */
	A_CALL,  /* s(kid..): an argument that is named is an A_NAMED */
	A_NAMED, /* s = kid[0] */
	A_PIPE,  /* kid[0] |> kid[1] */
	A_UNARY, /* s kid[0] */
	A_BINARY,/* kid[0] s kid[1] */
	A_INDEX, /* kid[0][kid[1] ..]: A_NAMED with value, or A_RANGE */
	A_RANGE, /* s = kid[0] : kid[1], every kid[2] if there is one */
	A_IF,    /* kid[0] condition, kid[1] then, kid[2] else or NULL */
	A_BLOCK, /* statements; the last expression is the value */
	A_LET,   /* s = kid[0] */
	A_SET,   /* s := kid[0] */
	A_PARAM, /* s[axes] = kid[0]; kid[1..] are A_AXIS */
	A_STATE, /* the same */
	A_UPDATE,/* s = kid[0] */
	A_SCAN,  /* s the axis; carries and body: see grammar/README.md */
	A_EMIT,
	A_AXIS,  /* s; kid[0] size or NULL; kid[1] (A_NAME) 'as' or NULL. s ".." is the rest, "a.." a variadic formal */
	A_FORMAL,/* s; isint: variadic; kid[0] default or NULL; kid[1..] A_AXIS if it is a tensor (flag) */
	A_DEF,   /* s the name; def: "op" "loss" "optimizer" "schedule" "grad"; kid[0] body; kid[1..] formals; sig, doc */
	A_TEST,  /* kid[0] the expression */
	A_TYPED, /* s: dtype[dims] = kid[0], a line of graph text; kid[1..] the dims; t the dtype's name. A scan's call ends with an A_BLOCK */
} AstKind;

typedef struct Ast Ast;
struct Ast {
	AstKind kind;
	Loc loc;
	const char *s;
	double f;
	bool isint;     /* A_NUM: written without a point; A_FORMAL: variadic */
	bool tensor;    /* A_FORMAL: has axes */
	const char *t;  /* A_DEF: the keyword; A_TYPED: dtype */
	const char *doc;
	Ast **sig;      /* A_DEF: axes of the result after ->, NULL if not given */
	int nsig;
	Ast **kid;
	int nkid;
};

/* Parses a file of definitions; errors are reported, NULL returned. Definitions are A_DEF and A_TEST. */
Ast **parse_file(Arena *a, int file, int *n);
/* The same of a file of graph text: A_DEF whose body is A_TYPED lines and calls. */
Ast **parse_graphs(Arena *a, int file, int *n);
/* Parses one expression inside a source at l (a YAML scalar); NULL on error. */
Ast *parse_expr(Arena *a, const char *text, Loc l);

/* ---- model.c, yaml.c, grammar/model.def: the model file ---- */

typedef struct NetEntry {
	const char *name;
	Ast *expr;
	Loc loc;
} NetEntry;

typedef struct LossEntry {
	const char *name;   /* the target's */
	Ast *of;            /* expression over the network: the prediction (logit for binary) */
	Ast *loss;          /* a call or name of a `loss` definition; NULL: a penalty */
	Ast *predict;       /* of a tensor: what predict writes, or NULL: `of` */
	double weight;
	bool learned;       /* weight: learned */
	bool balanced;      /* positive_weight: balanced */
	double positive_weight; /* 1: none */
	Loc loc;
} LossEntry;

/* The axes of an input or target after b. */
typedef struct AxisNames {
	const char *name[8];
	int n;
} AxisNames;

typedef struct OutputEntry {
	const char *name;   /* of a network entry */
	Loc loc;
} OutputEntry;

/* Parameters whose name matches, which are trained otherwise than the rest. */
typedef struct ParamGroup {
	const char *params;  /* pattern; * is any run of characters */
	double lr, decay;    /* factors of the learning rate; of decay, l1 and l2 */
	uint32_t freeze;
	Loc loc, params_loc;
} ParamGroup;

typedef struct Model {
	const char *name;
	int file;           /* its source */
	PlanData data;      /* lists from the arena */
	PlanTrain train;    /* losses: "loss", then each head */
	AxisNames *axis, *target_axis; /* per input and target; a category has none, a number c */
	Loc *input_loc, *target_loc;
	OutputEntry *output;
	int noutput;
	const char **ops;   /* further .op files, resolved paths */
	int nops;
	NetEntry *net;
	int nnet;
	LossEntry *loss;
	int nloss;
	Ast *optimizer;     /* a call: adam(lr=1e-3) */
	Ast *schedule;      /* a call or NULL */
	double clip_norm;   /* 0: none */
	double ema;         /* decay; 0: none */
	ParamGroup *group;
	int ngroup;
} Model;

/* Reads a model file. All errors of the file are reported at once; NULL if there were any. */
Model *model_read(Arena *a, const char *path);
/* The reference of all keys from grammar/model.def; markdown or plain for a terminal. */
void model_help(FILE *f, bool markdown);

/* ---- graph.c: the graph ---- */

#define MAXDIM 8

typedef enum Prim {
#define P(name, kind, arity, dtype, attr, spell, eval) P_##name,
#include "../ops/prim.def"
#undef P
	NPRIM
} Prim;

typedef enum Kind { K_ELEM, K_LEAF, K_VIEW, K_REDUCE, K_FETCH, K_RANDOM, K_DOT, K_GATHER, K_SCATTER, K_SORT, K_FOLD, K_CONCAT, K_SCAN, K_RESULT } Kind;

typedef struct PrimInfo {
	const char *name;
	Kind kind;
	int arity;
	const char *dtype, *attr, *spell;
} PrimInfo;
extern const PrimInfo prim_info[NPRIM];

typedef struct Graph Graph;
typedef struct Lib Lib;     /* the loaded definitions */
typedef struct Lower Lower; /* one lowering: a graph under construction and the scope */

/* A value of static shape. Nodes are immutable, hash-consed and simplified when made; operands come first in id order. */
typedef struct Node Node;
struct Node {
	Prim op;
	DType dt;
	int nd;
	int64_t dim[MAXDIM];
	int nin;
	Node **in;
	int nat;
	int64_t *at;    /* attributes, as prim.def says */
	double f;       /* const: the value */
	Graph *body;    /* scan: one step */
	int id;         /* order of making, unique in the graph */
	Loc loc;        /* the line of a model or a definition that made it first */
	Loc model;      /* the line of the model that it serves */
	Node *next;     /* hash chain */
	int mark;       /* scratch of a pass */
};

/* Storage that outlives a step. */
typedef struct GState {
	const char *name;
	DType dt;
	int nd;
	int64_t dim[MAXDIM];
	Space space;
	Init init;
	double a, b;
	const char *fit;
	Node *update;   /* the value after the step, or NULL */
	bool frozen;    /* packed, SP_PARAM or SP_OPT: of the parameters that are not trained; else of those that are */
	bool shadow;    /* packed, SP_PARAM: follows the parameters, and begins with their values */
	Loc loc;
} GState;

/* A parameter: from element off a slice of a packed vector, state "param", or "frozen" if it is not trained. */
typedef struct GParam {
	const char *name;
	int nd;
	int64_t dim[MAXDIM];
	int64_t off;
	int group;      /* of Model.group, from 1; 0: none */
	bool frozen;
	Init init;
	double a, b;
	Loc loc;
} GParam;

typedef struct GOutput {
	const char *name, *role;
	Node *node;
} GOutput;

typedef struct GInput {  /* of P_input: in tests; operands of a scan's body */
	const char *name;
	DType dt;
	int64_t below;   /* ids in [0, below); 0: normal random numbers; -1: edges of the float range */
	int nd;
	int64_t dim[MAXDIM];
	bool bound;      /* back end, in a body: lies in memory with these strides, in elements */
	int64_t stride[MAXDIM];
} GInput;

struct Graph {
	Arena *arena;
	const char *name;
	int64_t batch;
	Node **node;     /* in id order */
	int nnode, capnode;
	Node **hash;
	int nhash;
	GState *state;
	int nstate, capstate;
	GParam *param;
	int nparam, capparam;
	GOutput *output;
	int noutput, capoutput;
	GInput *input;
	int ninput, capinput;
	int nsite;       /* random sites so far */
	int64_t parts;   /* batches a training step, each with random numbers of its own; 0 and 1: one */
	int narg;        /* of P_arg so far */
	Loc loc, model;  /* given to nodes made now */
	const Node *scan; /* while a body is mapped: the scan that it was the body of */
};

Graph *graph_new(Arena *a, const char *name);
int64_t node_count(const Node *n); /* elements */

/* Makes a node: checks operands against prim.def, infers dtype and, where the primitive fixes it, the shape;
   simplifies; returns an equal node if there is one. dim is needed for reshape, expand, slice, pad, const,
   iota, param, state, input, random, window, fold, scatter_add and ignored otherwise; dt for ATTR primitives. */
Node *node_new(Graph *g, Prim op, DType dt, Node **in, int nin, const int64_t *dim, int nd, const int64_t *at, int nat, double f);
/* Shorthands. Binary ones take equal shapes. */
Node *mk_const(Graph *g, DType dt, double f, const int64_t *dim, int nd);
Node *mk_like(Graph *g, double f, const Node *n);
Node *mk1(Graph *g, Prim op, Node *a);
Node *mk2(Graph *g, Prim op, Node *a, Node *b);
Node *mk3(Graph *g, Prim op, Node *a, Node *b, Node *c);
Node *mk_cast(Graph *g, Node *a, DType dt);
/* Labels of a product's dims: of operand 0 or 1, or (2) of the result. */
const int64_t *dot_labels(const Node *dot, int side);
int find_label(const int64_t *label, int n, int64_t want); /* its place, or -1 */
/* x, whose dims have these labels, with the dims of a space by its labels, repeated along those that it lacks. NULL if the space lacks one of its. */
Node *mk_spread(Graph *g, Node *x, const int64_t *label, const int64_t *space, const int64_t *dim, int nd);
Node *mk_reshape(Graph *g, Node *a, const int64_t *dim, int nd);
Node *mk_permute(Graph *g, Node *a, const int64_t *perm);
Node *mk_expand(Graph *g, Node *a, const int64_t *dim, int nd, const int64_t *map);
Node *mk_slice(Graph *g, Node *a, const int64_t *lo, const int64_t *step, const int64_t *dim);
Node *mk_pad(Graph *g, Node *a, const int64_t *lo, const int64_t *step, const int64_t *dim);
Node *mk_reduce(Graph *g, Prim op, Node *a, const int64_t *axes, int naxes);
Node *mk_state(Graph *g, int index);
Node *mk_concat(Graph *g, Node **in, int nin, int axis);
Node *mk_input(Graph *g, int index);
Node *mk_scan(Graph *g, Node **in, int nin, const int64_t *at, int nat, Graph *body);
Node *mk_result(Graph *g, Node *scan, int output);
Node *mk_param(Graph *g, int index);
int graph_state(Graph *g, GState s); /* finds by name or adds; returns the index */
int graph_param(Graph *g, GParam p); /* the next three add, and return the index */
int graph_output(Graph *g, const char *name, const char *role, Node *n);
int graph_input(Graph *g, GInput in);

/* A copy with f applied to every node in order (operands already mapped); NULL: the copy of the node itself. Roots and
   states are carried over; unreachable nodes are gone. */
typedef Node *(*MapFn)(Graph *to, Node *n, Node **in, void *ctx);
Graph *graph_map(Graph *g, MapFn f, void *ctx);
/* Reachable nodes from outputs and updates in id order; *n their number. Memory from the arena. */
Node **graph_reach(Graph *g, int *n);
void graph_verify(Graph *g, const char *pass);  /* bug() on a broken invariant */
void graph_print(Graph *g, FILE *f);            /* graph text, which graph_read reads back */

/* ---- check.c ---- */

/* What is wrong with a node ("changes a size"), or NULL. Operands are right already, sizes such that nothing overflows. */
const char *node_check(const Node *n);

/* ---- read.c ---- */

/* The graphs of a source text; all errors are reported, then NULL. */
Graph **graph_read(Arena *a, int file, int *n);
extern const char *const init_names[]; /* by Init */
char *node_place(Arena *a, const Node *n);      /* "model.yaml:12", with the library's line behind it if there is one */

/* ---- scan.c: loops over time ---- */

/* A scan under construction. One step is traced into the graph, on leaves that stand for values of that step; scan_end
   makes it a loop. steps >= 1; reverse: from the last place to the first. */
typedef struct Scan Scan;
Scan *scan_begin(Graph *g, int64_t steps, bool reverse);
Node *scan_carry(Scan *s, Node *init);              /* the value before the step; carries are numbered from 0 */
Node *scan_seq(Scan *s, Node *whole);               /* the part of whole[steps, ..] at this step */
void scan_next(Scan *s, int carry, Node *value);    /* the value after the step, of the carry's shape and type */
void scan_keep(Scan *s, int carry);                 /* scan_history will be asked for */
int scan_want(Scan *s, Node *value, bool sum);      /* a value of the step that scan_value gives; sum: over all steps */
const Node *scan_too_large(const Scan *s, int64_t most); /* a node whose values of all steps are more, or have more than MAXDIM dims */
void scan_end(Scan *s);
Node *scan_value(const Scan *s, int want);          /* [steps, ..] in order of time, or the sum */
/* A carry [steps + 1, ..]: by time, its init where the loop begins. */
Node *scan_history(const Scan *s, int carry);

/* Accessors of a scan node: see ops/prim.def. */
int64_t scan_steps(const Node *scan);
bool scan_reverse(const Node *scan);
int scan_ncarry(const Node *scan);
bool scan_is_seq(const Node *scan, int operand);
Node *scan_part(Graph *g, Node *scan, Node *history, bool after); /* [steps, ..]: before or after each step */
Node *scan_slot(Graph *g, Node *history, int64_t at);             /* one place of a history */

/* ---- scan_lift.c ---- */

/* A scan like this one in `to`, with these operands and the body that a pass made of its own; what need not be in the body is
   made outside, and carries may be added behind the others. */
Node *scan_lift(Graph *to, const Node *scan, Node **ops, Graph *body);
Node *scan_rounded(Graph *g, const Node *result, DType dt); /* the cast of a result, if the loop makes it anyway; else NULL */

/* ---- scan_grad.c ---- */

/* Adjoints of a scan's operands from those of its results (by output, NULL: none), where operand->mark is set. */
void scan_grad(Lower *w, Node *scan, Node **dresult, Node **d);

/* ---- simplify.c ---- */

/* An equal, simpler node for t (not yet interned, inference done), or NULL. Called by node_new on every node. */
Node *simplify(Graph *g, Node *t);

/* ---- interp.c: the oracle ---- */

/* Everything that a graph reads, as double arrays in row-major order. */
typedef struct Env {
	const double **state;    /* per Graph.state */
	const double **param;    /* per Graph.param (for P_param) */
	const double **input;    /* per Graph.input */
	const double **column;   /* data columns, rows x width */
	int64_t rows;            /* of the columns */
} Env;

/* Evaluates the reachable graph naively in float64 (integers exactly, u32 arithmetic modulo 2^32); *value[i] is the
   value of out[i], malloced. f32 constants and random numbers are float-exact. */
void interp(Graph *g, const Env *env, Node **out, int nout, double **value);
/* d scalar / d x[i] by central differences with Richardson extrapolation, O(h^4); x points into one of env's arrays. */
double interp_numeric_grad(Graph *g, const Env *env, Node *scalar, double *x, int64_t i, double h);

/* ---- lower.c: the tensor language to the graph ---- */

/* A compile-time value of the tensor language. */
typedef enum ValKind { V_NONE, V_NUM, V_STR, V_BOOL, V_AXES, V_TENSOR, V_LIST, V_FN } ValKind;
typedef struct Val Val;
struct Val {
	ValKind kind;
	double f;          /* V_NUM, V_BOOL */
	bool isint;
	const char *s;     /* V_STR */
	Node *node;        /* V_TENSOR, with the name of each dim */
	const char *ax[MAXDIM];
	int nax;           /* V_AXES: names in ax, sizes of new ones in size (-1: not given) */
	int64_t size[MAXDIM];
	Val *list;         /* V_LIST */
	int nlist;
	Ast *fn;           /* V_FN: a call to apply to a piped value */
	int64_t ids;       /* V_TENSOR of ids: how many there are, for embed; else 0 */
	const char *path;  /* V_TENSOR: what to call it in messages, or NULL */
};

Lib *lib_new(Arena *a);
Lib *lib_copy(Arena *a, const Lib *of);       /* its definitions and tests, which stay of's, to add more to */
bool lib_load(Lib *l, const char *path);      /* an .op file; errors reported */
bool lib_load_folder(Lib *l, const char *dir);/* all .op files, in name order */
const Ast *lib_find(Lib *l, const char *name);
const Ast *lib_find_grad(Lib *l, const char *prim); /* its gradient rule */
Ast **lib_tests(Lib *l, int *n);              /* A_TEST items; loc says where */
Ast **lib_defs(Lib *l, int *n);               /* every A_DEF, in load order */

void lib_help(FILE *f, Lib *l); /* every definition with its doc line, as markdown */

Lower *lower_new(Lib *l, Graph *g, bool training);
void lower_bind(Lower *w, const char *name, Val v);
void lower_absent(Lower *w, const char *name, const char *why); /* messages say why the name is not bound: 'NAME' WHY */
/* Evaluates an expression; on an error it is reported and false returned. prefix names the parameters' path. */
bool lower_eval(Lower *w, Ast *e, const char *prefix, Val *out);
/* Applies definition `name` to args (positional) and the named arguments of call (may be NULL). */
bool lower_call(Lower *w, const char *name, Val *args, int nargs, Ast *call, const char *prefix, Val *out);
/* One gradient rule: adjoints of n's operands from the adjoint g of n (NULL where there is none). */
void lower_grad(Lower *w, Node *n, Node *g, Node **d);
Graph *lower_graph(Lower *w);
const char *join_names(Arena *a, const char *const *names, size_t n); /* "x, n, bias" */
Node *random_step(Graph *g); /* what random numbers hang on beside the seed: the step, and which of its parts */
Val val_tensor(Node *n, const char *const *ax);
Val val_num(double f, bool isint);

/* ---- autodiff.c ---- */

/* Adjoints of wrt[0..n) of the scalar y, by reverse accumulation over the graph (rules: ops/grad.op). NULL where y
   does not depend on it. */
void autodiff(Lower *w, Node *y, Node **wrt, int n, Node **d);

/* ---- build.c: model to graphs ---- */

/* What input i is to the network: dtype and shape go to x, names and the number of ids to the result, whose node is missing. */
Val input_value(const Model *m, uint32_t i, int64_t batch, GInput *x);
Graph *build_train(Arena *a, Lib *l, const Model *m); /* a step, or the last part of one */
Graph *build_accumulate(Arena *a, Lib *l, const Model *m, const Graph *train); /* a part before the last */
Graph *build_eval(Arena *a, Lib *l, const Model *m, const Graph *train, int64_t batch);

/* ---- graph passes ---- */

/* The graph of one place at a time for what a graph (batch 1) predicts under this name, in role "place"; NULL where there is none.
   say: what is kept between places, or why there is none; may be NULL. */
Graph *pass_decode(Graph *g, const char *output, Text *say);
Graph *pass_contract(Graph *g);     /* sums of products become dot */
Graph *pass_unfold(Graph *g);        /* folds of products: products of windows */
/* The product n of windows over few channels in bf16, result dt, over more; NULL if it is none. */
Node *widen_dot(Graph *to, const Node *n, Node **in, DType dt);
Graph *pass_precision(Graph *g);     /* matrix products in bf16 */
enum { RUN = 32 };                   /* positions that run_sum sums */
/* Products of small matrices: sums again, which fuse with what is around them; for a GPU, fused. Without a library all are, but
   those that a product kernel takes. */
Graph *pass_small_products(Graph *g, bool library);
/* The sum n of x, where x is a product or a sum of products, as dots: what a value's adjoint gets from several layers that read it. NULL
   if a part is none. */
Node *contract_sum(Graph *to, const Node *x, const Node *n);
/* resum.c: the sum n of x by a product that has summed it already, or NULL. */
Node *resum(Graph *to, Node *x, const Node *n);
Graph *pass_pack(Graph *g);          /* matrices of loops in panels, for a CPU */
Graph *pass_split(Graph *g, bool cuda); /* long reductions become two, for a target */

#endif
