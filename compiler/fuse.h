/* What fuse.c, layout.c and schedule.c share. */
#ifndef FUSE_H
#define FUSE_H

#include "loop.h"

/* ---- fuse.c ---- */

int region_new(Fusion *f, RegionKind k);
void region_add(Fusion *f, int r, Node *n);
/* Regions that read n, directly or through nodes computed where they are used, each once; their number. */
int reader_regions(const Fusion *f, const Node *n, int *out, int max);
void explain(Fusion *f, const Node *n, const char *fmt, ...) PRINTF(3, 4);

/* ---- layout.c ---- */

/* n in row-major order in root's buffer, from element off on. */
void plain_layout(Fusion *f, Node *n, Node *root, int64_t off);
/* Strides of n = reshape(x), x's elements lying at xs; false if no strides say it. */
bool strided_reshape(const Node *n, const Node *x, const int64_t *xs, int64_t *stride);

/* ---- schedule.c ---- */

void schedule(Fusion *f);

#endif
