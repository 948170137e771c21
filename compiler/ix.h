/* Index arithmetic of a kernel under construction: ix.c. */
#ifndef IX_H
#define IX_H

#include "loop.h"

const Ix *ix_const(Kernel *k, int64_t c);
const Ix *ix_axis(Kernel *k, int axis);
const Ix *ix_val(Kernel *k, LVal *v, int64_t hi); /* a run-time id in [0, hi] */
const Ix *ix_addmul(Kernel *k, const Ix *x, const Ix *y, int64_t c); /* x + c*y */
const Ix *ix_scale(Kernel *k, const Ix *x, int64_t c);
const Ix *ix_plus(Kernel *k, const Ix *x, int64_t c);
const Ix *ix_div(Kernel *k, const Ix *x, int64_t n); /* x >= 0 */
const Ix *ix_mod(Kernel *k, const Ix *x, int64_t n);
/* x, of which conditions see to it that it is in [0, hi]: divisions of what is made of it get simpler. And all of that undone,
   for addresses and conditions. */
const Ix *ix_known(Kernel *k, const Ix *x, int64_t hi);
const Ix *ix_plain(Kernel *k, const Ix *x);
const Ix *ix_flatten(Kernel *k, const Ix *const *idx, const int64_t *dim, int nd);
/* Along runs of n places of the axis that begin at one divisible by n: is the index the same; how it goes, its step: false if
   it does not go evenly, or does not begin at a place divisible by n. */
bool ix_run_same(const Ix *ix, int axis, int n);
bool ix_run_step(const Ix *ix, int axis, int n, int64_t *step);
/* The same index, where digits of a place stand side by side put together again: x % 6 + x / 6 % 5 * 6 is x % 30. */
const Ix *ix_join(Kernel *k, const Ix *ix);
int64_t ix_local_stride(const Ix *ix, int axis);
void ix_unflatten(Kernel *k, const Ix *x, const int64_t *dim, int nd, const Ix **idx);
void ix_reshape(Kernel *k, const Ix *const *idx, const int64_t *x, int nx, const int64_t *y, int ny, const Ix **out);

#endif
