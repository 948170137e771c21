/* What decode.c, decode_scan.c and decode_later.c share. */
#ifndef DECODE_H
#define DECODE_H

#include "mmc.h"

enum { NOWHERE = -1, UNKNOWN = -2 };

/* A value of the new graph. */
typedef struct Part {
	Node *node; /* NULL: it cannot be had */
	int late;   /* elements behind the place along this dim are undefined; NOWHERE: none are */
} Part;
#define NOTHING ((Part){NULL, NOWHERE})

/* A demand that was met: n at index place + off along dim. */
typedef struct Met {
	int dim;
	int64_t off;
	Part part;
	struct Met *next;
} Met;

/* A scan's values at the place. */
typedef struct Stepped {
	Node **before; /* by carry: before the step */
	Node **value;  /* by output, after it; NULL: it cannot be had */
} Stepped;

/* Of a node of the old graph. */
typedef struct Info {
	bool depends;  /* on the sequence */
	unsigned axes; /* a bit for each dim that is the sequence's axis */
	bool known;
	Part whole;
	Met *met;
	Stepped *stepped;
} Info;

typedef struct Decode {
	Graph *to;
	Info *info;    /* by id of a node of the old graph */
	Node *place;
	int place_state, nkept;
	Text say;            /* what is kept */
	const Node *culprit; /* why there is no program */
	const char *why;
} Decode;

/* ---- decode.c ---- */

/* All of n; behind the place it is undefined along Part.late. */
Part need_all(Decode *d, Node *n);
/* n at index place + off along dim, which has size 1 there. */
Part need_at(Decode *d, Node *n, int dim, int64_t off);
Part refuse(Decode *d, const Node *n, const char *why); /* nothing; the first reason, which is the deepest, is said */
Graph *serve(Decode *d, const Node *n);                 /* the new graph; what is made now serves n */
Node *remake(Decode *d, Node *n, Node **in, const int64_t *dim, const int64_t *at); /* n on these operands, dims and attributes */
int64_t *at_one(const Node *n, int dim, int64_t *out);  /* n's dims, of which dim is 1; returns out[MAXDIM] */
Node *repeat(Graph *g, Node *scalar, const int64_t *dim, int nd);
Node *scalar_i32(Graph *g, int64_t v);
int keep_state(Decode *d, const Node *of, const Node *like); /* a new state for values of `of`, of the shape and type of like */

/* ---- decode_scan.c ---- */

/* need_at() of a result of a scan. A carry's values begin with the one before the first step. */
Part step_result(Decode *d, Node *result, int dim, int64_t off);

/* ---- decode_later.c ---- */

/* The dim of operand k whose index is that of n's dim d, shifted at most (slice, pad, concat); NOWHERE: n is the same all along d
   as far as the operand goes. */
int dim_below(const Node *n, int k, int d);
/* The dim of n that has operand k's dim e as it is, or NOWHERE. */
int dim_above(const Node *n, int k, int e);
/* Of the elements of n whose index along s is greater than that along t: do they hang on those of operand k? */
bool sees_later(const Node *n, int k, int t, int s);

#endif
