/* The loop level: one fused kernel as scalar values at symbolic indices. Shared by fuse.c (is a fusion possible?),
   loop.c (lowering), emit_c.c, emit_cuda.c.

   A kernel runs over outer axes and, if it reduces, row axes. A value is a node at an index; values are interned, so
   what two outputs share is computed once. A reduction's result has a level one above what it sums; a value that
   varies along the row at level k can be computed only after k rounds of reductions. */
#ifndef LOOP_H
#define LOOP_H

#include "mmc.h"

typedef struct LVal LVal;
typedef struct Ix Ix;

typedef enum AtomKind { AT_AXIS, AT_DIV, AT_MOD, AT_VAL, AT_KNOWN } AtomKind;

/* What an index is linear in. */
typedef struct Atom {
	AtomKind kind;
	int axis;          /* AT_AXIS */
	const Ix *of;      /* AT_DIV, AT_MOD: of / n, of % n; AT_KNOWN: of, in [0, hi] where it matters */
	int64_t n;
	LVal *val;         /* AT_VAL: an id, clamped to [0, hi] */
	int64_t hi;        /* greatest value; the least is 0 */
	unsigned axes;     /* mask of kernel axes that it depends on */
	int id;
	struct Atom *next;
} Atom;

typedef struct Term {
	int64_t k;
	const Atom *a;
} Term;

/* An affine index: c + sum of k * atom, terms in atom order. Interned: equal indices are one pointer. */
struct Ix {
	int64_t c, lo, hi;
	int n;
	Term *t;
	unsigned axes;
	int level;         /* of the values inside */
	struct Ix *next;
};

/* Conditions that hold where a load happens: lo <= ix < hi, all of them. */
typedef struct Guard {
	const Ix *ix;
	int64_t lo, hi;
	struct Guard *up;
} Guard;

typedef enum LKind { LV_CONST, LV_LOAD, LV_PRIM, LV_INDEX, LV_RANDOM, LV_RANGE, LV_REDUCE, LV_DOT } LKind;

/* A matrix in memory as a tile kernel reads it: rows of `width` neighbours; ix is where a row starts. */
typedef struct Matrix {
	Node *base;
	const Ix *ix;
	int64_t width;
	int64_t stride;    /* not 0: transposed, the width lies across rows so far apart */
} Matrix;

struct LVal {
	LKind kind;
	Node *node;        /* it is a value of */
	DType dt;
	int nin;
	LVal *in[3];       /* LV_RANGE: inside, outside */
	double f;          /* LV_CONST */
	const Ix *ix;      /* LV_LOAD: element of base; LV_INDEX; LV_RANDOM: counter */
	Node *base;        /* LV_LOAD: the materialised node, state, input or fetch */
	Guard *guard;      /* LV_LOAD, LV_RANGE */
	Matrix *dot;       /* LV_DOT of a tile kernel: [2], sum over the width of the first at the kernel's last outer axis, the second at its row axis */
	LVal *of[2];       /* LV_DOT of a product kernel: the operands' elements, of a row and of a column */
	unsigned axes;     /* mask of kernel axes that it depends on */
	int level;
	int cost;          /* rough instructions of this value alone */
	int id;            /* operands have smaller ids */
	int use;           /* scratch */
	bool bits;         /* CUDA, LV_RANDOM: its bits alone are read, each time anew (is_chance) */
};

typedef struct LStore {
	Node *node;        /* whose buffer */
	LVal *val;
	const Ix *ix;      /* element */
	bool row;          /* varies along the row */
	bool column;       /* summed over the rows of a part, place by place of the row; row is set, too */
	Matrix *dot;       /* stored is the sum over the row of val times the matrix's rows; ix is where a result's row starts */
	LVal *scale;       /* and that times this, one for a row; NULL: 1 */
} LStore;

/* What a kernel is given: a buffer from an element on. Packed vectors are read through one argument for each place that is
   read, so that kernels that differ in the place alone are one. */
typedef struct Arg {
	Node *node;
	int64_t off, count; /* count 0: all */
} Arg;

#define MAXAXIS 12

typedef struct Kernel {
	Arena *arena;
	/* axes: outer ones first, then row ones */
	int naxis, nouter;
	int64_t size[MAXAXIS];
	int64_t outer, row;    /* products of sizes; row is 1 without a reduction */
	bool reduces;
	bool serial;           /* the row is walked by one thread: memory is contiguous along an outer axis */
	bool columns;          /* there are column stores: the outer axes are parts, then rows of a part */
	LVal **val;
	int nval, capval;
	LStore *store;
	int nstore;
	int nlevel;            /* greatest level + 1 */
	Arg *arg;              /* bases loaded from, then nodes stored to, each once */
	int narg, nload;
	const char *fail;      /* why it is no kernel, or NULL */
	bool tile;             /* R_TILE */
	LVal *product;         /* R_PRODUCT: the LV_DOT; axes are parts (or batches), rows of a part, columns, summed places */
	bool scatter;          /* the axes are those of the positions, then the row: K_SCATTER */
	LVal *id;              /* P_scatter_add: where a position is added */
	/* interning */
	struct Memo *memo[512];
	Ix *ixhash[256];
	Atom *atoms;
	int natom;
	const struct Fusion *fusion;
	int region;
	int nreduce;
} Kernel;

/* ---- fuse.c ---- */

/* R_TILE: matrix products that share an operand computed on the way (attention), see tile.c
   R_PRODUCT: a product and what becomes of its result, place by place, and column sums of it, see product.c
   R_SCAN: a scan and its results
   R_SCATTER: for C a scatter_add; for CUDA a sort, or a run_sum and its row_sum: a kernel each */
typedef enum RegionKind { R_LOOP, R_GEMM, R_SCATTER, R_PACK, R_TILE, R_PRODUCT, R_SCAN } RegionKind;

typedef struct Region {
	RegionKind kind;
	Node **node;        /* members that need computing, in id order */
	int nnode, capnode;
	bool dead;          /* merged away */
	int order;          /* place in the schedule */
} Region;

typedef struct Layout {
	Node *root;         /* whose buffer it lies in (itself unless packed) */
	int state;          /* the state that it is stored to, or -1 */
	int64_t off;        /* elements into the root's buffer */
	int64_t stride[MAXDIM];
	bool odd;           /* in a loop, where it lies is not always a multiple of four elements */
} Layout;

/* A part of a packed vector that no kernel computes in place: zeros, or a copy of something stored elsewhere. */
typedef struct Fill {
	Node *pack, *from;   /* from NULL: zeros */
	int64_t off, count;  /* elements of the pack */
} Fill;

enum { INLINE = -1, UNDECIDED = -2 };

typedef struct Fusion {
	Graph *g;
	Arena *arena;
	bool fuse;           /* false: --no-fuse, one node a kernel */
	bool cuda;           /* the target */
	bool library;        /* which computes products */
	int *home;           /* by node id: region; INLINE: computed where it is used; UNDECIDED: taken as stored */
	bool *stored;        /* by node id: has a buffer */
	Layout *layout;      /* by node id, of stored nodes */
	Region *region;
	int nregion, capregion;
	Node ***user;        /* by node id: nodes that read it */
	int *nuser;
	int *order;          /* live regions in execution order */
	int norder;
	Fill *fill;
	int nfill;
	bool *copied;        /* by state: its new value is kept beside it and copied at the end, as others read the old one till then */
	Node *column[256];   /* stand for the data columns as bases of loads; id < 0, on no list of the graph */
	Text explain;
} Fusion;

Fusion *fuse(Graph *g, bool enable, bool cuda, bool library);
/* Whose buffer a kernel takes for the stored node: its own place, or all of that between whose other parts it lies. */
Node *stored_in(const Fusion *f, Node *n);
/* Is the node a plain strided view of something stored? Then of what, from which element, with which strides. */
bool strided(const Fusion *f, Node *n, Node **root, int64_t *off, int64_t *stride);

/* ---- loop.c ---- */

/* Lowers a region (R_LOOP), or one node of a region (R_SCATTER; NULL: the first); fail is set if it cannot be one
   kernel. Memory from a. */
Kernel *kernel_lower(Arena *a, const Fusion *f, int region, Node *n);
int64_t const_or(const Ix *ix, int64_t other);
/* Coefficient of the bare axis, 0 if it is inside a division. */
int64_t ix_stride(const Ix *ix, int axis);

/* For tile.c: the value of a node at an index (NULL: of a scalar); the place in memory of a stored node's element. */
LVal *value_at(Kernel *k, Node *n, const Ix **idx, Guard *guard);
LVal *val_new(Kernel *k, LVal v);
const Ix *layout_index(Kernel *k, const Node *n, const Ix **idx);
void add_axis(Kernel *k, int64_t size);
/* The stores of a region over parts x rows x columns, as many parts as its column sums have or else as are given; the summed
   places of its product are one more axis. */
void lower_columns(Kernel *k, const Region *r, int64_t parts, int64_t rows, int64_t columns, int64_t places);
/* The axes of these, and the stores of a region all at one index, as results of the shape of `like`. */
void lower_space(Kernel *k, int64_t parts, int64_t rows, int64_t columns, int64_t places);
void lower_at(Kernel *k, const Region *r, const Node *like, const Ix **idx);
void give_up(Kernel *k, const char *why);
/* The element of its packed vector from which the load's argument starts, else 0. */
int64_t load_start(const Kernel *k, const LVal *v);
/* The index at which the node was first met, or NULL. */
const Ix **value_index(Kernel *k, const Node *n);

/* ---- tile.c ---- */

/* Can the product be the result of a tile kernel? Then which operand is computed in it, or -1. */
int tile_output(const Fusion *f, const Node *dot);
/* Is the product one that tile kernels compute for themselves: operands in memory, sizes that fit? */
bool tile_inner(const Fusion *f, const Node *dot);
void lower_tile(Kernel *k, const Region *r);
LVal *lower_tile_dot(Kernel *k, Node *dot, const Ix **idx);
/* Where the operand lies in memory, or will: what library calls need is stored (fuse.c). */
bool in_memory(const Fusion *f, Node *x, Node **root, int64_t *off, int64_t *stride);

/* ---- tile_skip.c ---- */

/* Places of the row that a walk need not visit: column - row >= late_by, column - row <= early_by. */
typedef struct Skip {
	bool late, early;
	int64_t late_by, early_by;
	LVal *high[8];     /* if those marked in need, of a row or of a column each, are all greater than TILE_LOW */
	int nhigh;
	unsigned need;
	double *start;     /* by value id: a maximum starts from no less */
	signed char *inside; /* by value id: what a comparison gives at all other places, or -1 */
} Skip;

/* For the walk that computes the stage's reductions and stores. */
Skip tile_skip(Kernel *k, int stage);
#define TILE_LOW (-1e29)

/* ---- product.c ---- */

typedef enum ProductUse {
	PRODUCT_NOT,
	PRODUCT_JOINED,    /* worth a kernel of ours with what reads its result */
	PRODUCT_ALONE,     /* and without: a library would need its operands copied */
} ProductUse;

bool product_possible(const Node *dot); /* in a kernel of ours, wherever its operands lie */
int prim_cost(Prim op); /* about, in operations of a GPU */
ProductUse product_use(const Fusion *f, const Node *dot);
/* Is the operand read through windows where they lie? */
bool product_windowed(const Node *x);
/* Can rows or columns of the operand, which is no window, be read as they lie? */
bool product_operand_ok(const Fusion *f, const Node *dot, int side);
void lower_product(Kernel *k, const Region *r);
LVal *lower_product_dot(Kernel *k, Node *dot, const Ix **idx);

/* ---- gemm.c ---- */

/* Can the dot run as a library call, its operands being strided views? On success the call and the roots. swap: A is
   the second operand. */
typedef struct GemmCall {
	PlanGemm g;
	Node *a, *b;
	int64_t aoff, boff;
	Node *bias;          /* or NULL */
	int64_t biasoff;
} GemmCall;
/* Do operands and result in plain row-major order make one call? at: labels as in dot. */
bool gemm_plain(const Node *a, const Node *b, const int64_t *at, const int64_t *dim, int nd);
/* Could it be a call, with operands in plain order and its result at these strides? */
bool gemm_places(const Node *dot, const int64_t *stride);
bool gemm_match(const Fusion *f, Node *dot, const Layout *out, GemmCall *c);
/* Does the dot's operand need a copy in plain order to be one? */
bool gemm_operand_ok(const Fusion *f, Node *dot, int operand);

/* ---- collapse.c ---- */

/* For C: neighbouring axes that every index walks as one become one. Nothing may be interned in the kernel afterwards. */
void collapse_axes(Kernel *k);

/* ---- emit.c, emit_c.c, emit_cuda.c ---- */

typedef struct Launch {
	int grid, block, smem;
} Launch;

const char *kernel_name(Arena *a, const Kernel *k, int index); /* the ops inside, as an identifier */
void emit_prelude_c(Text *t);
void emit_prelude_cuda(Text *t);
/* A batched product too small for a library call to fill its tiles: a kernel of one warp a product. off: of the result's first
   element in the argument. False if it is not one. */
bool emit_small_dot(Text *t, const GemmCall *c, int64_t off, const char *name, Launch *l);
/* Positions by id: a kernel of one block (ops/kernels/prelude.cu, mm_sort). */
void emit_sort_cuda(Text *t, const Node *n, const char *name, Launch *l);
void emit_kernel_c(Text *t, Kernel *k, const char *name, Launch *l); /* grid: pieces that threads share out */
void emit_kernel_cuda(Text *t, Kernel *k, const char *name, Launch *l);

#endif
