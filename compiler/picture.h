/* The network as a person reads it, as SVG: picture.c (model to boxes), picture_trace.c (expressions to chains of
   operations), picture_place.c (where boxes stand and edges run), picture_svg.c (text of the file). All memory is the arena's. */
#ifndef PICTURE_H
#define PICTURE_H

#include "mmc.h"

/* A line of a box: strong soft ........ right. */
typedef struct Row {
	const char *strong, *soft, *right; /* "" for nothing */
	const char *tip;    /* shown under the pointer, or NULL */
	int indent;
	int kind;           /* InputKind of the dot in front, or -1 */
} Row;

typedef enum BoxKind { BX_INPUT, BX_ENTRY, BX_LOSS } BoxKind;

typedef struct Box {
	BoxKind kind;
	const char *title, *note;  /* note: at the right of the title */
	const char *out;           /* shape of its value, written on its edges; "" if the rows say it */
	const char *tip;
	Row *row;
	int nrow, caprow;
	bool table;         /* soft texts start in one column; rows may stand in several columns */
	unsigned kinds;     /* mask of the InputKinds that it is made of */
	bool unused;        /* nothing reads it */
	/* placed */
	int x, y, w, h, layer;
	int soft_x;         /* of a table: where soft texts start */
	int ncol, col_w, col_rows;
} Box;

/* A piece of an edge: a vertical line, or an S from (x0, y0) down to (x1, y1), vertical at both ends. */
typedef struct Piece {
	int from;           /* the box whose value flows */
	int x0, y0, x1, y1;
	bool arrow;         /* ends at a box */
} Piece;

typedef struct Edge {
	int from, to;       /* boxes; from < to */
} Edge;

typedef struct Picture {
	Arena *arena;
	const char *name, *summary;
	Box *box;           /* what a box reads stands before it */
	int nbox, capbox;
	Edge *edge;         /* in the order of from */
	int nedge, capedge;
	Piece *piece;
	int npiece, cappiece;
	int w, h;
} Picture;

/* Appends one element to an array of the arena: ARENA_PUSH(arena, ptr, n, cap) = value. */
void *arena_grow(Arena *a, const void *p, int n, int *cap, size_t size);
#define ARENA_PUSH(a, p, n, cap) (*((p) = (n) == (cap) ? arena_grow(a, p, n, &(cap), sizeof *(p)) : (p), (p) + (n)++))

/* Boxes and edges of a model, shapes by lowering it; NULL if it does not lower (those errors are reported). */
Picture *picture_build(Arena *a, Lib *l, const Model *m, Err *e);
/* Sets places of boxes and pieces of edges. No boxes overlap and no piece touches a box between its ends. */
void picture_place(Picture *p);
void picture_svg(const Picture *p, Text *out);
/* All three, and the file, whole or not at all. */
bool picture_write(Arena *a, Lib *l, const Model *m, const char *path, Err *e);

/* ---- picture_trace.c ---- */

#define ARROW " \u2192 " /* right */
#define ARROW_END '\x92' /* its last byte */

/* One operation of a chain. */
typedef struct Step {
	const char *name, *args, *shape;
	const char *times;        /* of repeat: how often; or "" */
	int count;                /* equal steps that were merged into it */
	const char **source, **source_shape; /* of several operands; shape "" if it is a name */
	int nsource;
} Step;

/* head |> step |> step ... */
typedef struct Chain {
	const char *head;         /* a name, code, or "" if the first step has several operands */
	bool plain;               /* head is a name */
	Step *step;
	int n, cap;
} Chain;

/* Values of a model are its inputs, then its entries; readers are entries, then losses. */
typedef struct Trace {
	Arena *a;
	const Model *m;
	Graph *g;
	Lower *w;
	const char *prefix;       /* of the parameters of the reader at hand */
	char **reads;             /* [value][reader] */
	int reader;
	int nnet;                 /* entries that are bound so far */
	int nstage;
	bool failed;              /* reported */
} Trace;

/* Evaluates e, says in c what happens and in reads what of the model it reads. */
Val trace_expr(Trace *q, Ast *e, Chain *c);
const char *step_text(Trace *q, const Step *s);    /* "transformer x2" */
const char *shape_text(Trace *q, const Val *v);    /* "[b, t: 32]": the batch has no size */
const char *count_text(Arena *a, int64_t n);       /* "1,447,424" */
void put_code(Text *t, const Ast *e, int outer);   /* outer: how tightly what stands around binds; 0 nothing */
void put_list(Text *t, Ast *const *v, int n);
const char *keep_text(Arena *a, Text *t);          /* moves it to the arena */

/* ---- shared by place and svg ---- */

enum {
	MARGIN = 24, PAD = 12,       /* around the picture; inside a box */
	TITLE_H = 26, ROW_H = 18, INDENT = 14, DOT = 14, COL_GAP = 28, COL_ROWS = 14,
	TITLE_PX = 14, NAME_PX = 12, SMALL_PX = 11, HEAD_PX = 18, /* text sizes */
	HEADER_H = 84, PILL_H = 18,
};

typedef enum Face { FACE_SANS, FACE_BOLD, FACE_MONO } Face;
/* Pixels that a text takes at most: viewers have different fonts, so the widest common ones (DejaVu) count. */
int text_width(const char *s, int px, Face f);
int picture_legend_width(const Picture *p);

#endif
