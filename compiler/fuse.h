/* What fuse.c, fuse_product.c, join.c, layout.c and schedule.c share; unfold.c asks layout.c. */
#ifndef FUSE_H
#define FUSE_H

#include "loop.h"

/* ---- fuse.c ---- */

int region_new(Fusion *f, RegionKind k);
void region_add(Fusion *f, int r, Node *n);
void region_remove(Fusion *f, int r, Node *n);
/* Regions that read n, directly or through nodes computed where they are used, each once; their number. */
int reader_regions(const Fusion *f, const Node *n, int *out, int max);
void explain(Fusion *f, const Node *n, const char *fmt, ...) PRINTF(3, 4);

bool is_kernel(const Fusion *f, int r);
bool reaches(const Fusion *f, int from, int to);  /* does the region `to` need what `from` makes? */
const char *try_region(Fusion *f, int r);         /* why the region cannot be one kernel, or NULL */
bool join(Fusion *f, Node *n, int r, bool stored); /* n to the region, if that stays a kernel; stored: for others, too */
bool compute_again(Fusion *f, Node *n, const int *r, int m); /* in each of its m readers, if they stay kernels */

/* ---- fuse_product.c ---- */

bool own_product(Fusion *f, Node *dot, bool *must); /* is it computed in a kernel of ours? must: what that needs in memory */

/* ---- join.c ---- */

int64_t region_space(const Fusion *f, int r);     /* the most elements that it walks over */
bool try_merge(Fusion *f, int a, int b);          /* one kernel of both, or both as they were */
void join_readers(Fusion *f, int r, const bool *must); /* the kernels that read what r stores, over the same elements, to it */
void join_siblings(Fusion *f);                    /* kernels over as many elements that read the same stored value */
void join_chains(Fusion *f, const bool *must);    /* a kernel and one that reads its result, over the same elements; must: stays stored */

/* ---- layout.c ---- */

/* n in row-major order in root's buffer, from element off on. */
void plain_layout(Fusion *f, Node *n, Node *root, int64_t off);
/* Strides of n = reshape(x), x's elements lying at xs; false if no strides say it. */
bool strided_reshape(const Node *n, const Node *x, const int64_t *xs, int64_t *stride);

/* ---- schedule.c ---- */

void schedule(Fusion *f);

#endif
