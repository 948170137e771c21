/* The oracle: evaluates a graph node by node in float64, one loop a primitive, nothing clever.

   A value is a row-major array of doubles; masks are 0 or 1, integers are exact. What is rounded is only what a
   graph says outright: cast, const and a dot of type bf16 or f16 round to their type (to nearest even), random
   numbers are floats. All else
   stays double even where the node is f32, so that a back end's error can be measured against it.

   Where C leaves a hole, this file decides:
     i32, u32, u8   +, -, * and sums wrap; / truncates toward zero, % is C's; by zero both give 0; abs(-2^31) = -2^31
     cast           float to integer truncates, what is out of range saturates, NaN gives 0; integer to integer wraps
     gather, scatter_add   an id out of range counts as the nearest in range
     reduce_max     NaN wins; over nothing: -inf, or the smallest integer
     shuffle        an element i >= n counts as i % n

   Shares no code with the emitters: what both got wrong would not be seen. */
#include "mmc.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- scalars ---- */

/* digits: of the significand, 0 for integers; emin: exponent of the smallest normal number; lo, hi: finite range. */
static const struct {
	int digits, emin;
	double lo, hi;
} format[NDTYPE] = {
	[DT_F32] = {24, -126, -FLT_MAX, FLT_MAX},
	[DT_BF16] = {8, -126, -0x1.fep127, 0x1.fep127},
	[DT_F16] = {11, -14, -65504, 65504},
	[DT_I32] = {0, 0, INT32_MIN, INT32_MAX},
	[DT_U32] = {0, 0, 0, UINT32_MAX},
	[DT_U8] = {0, 0, 0, UINT8_MAX},
	[DT_BOOL] = {0, 0, 0, 1},
};

static bool is_int(DType t) { return format[t].digits == 0; }

/* Toward zero; NaN gives 0. Far beyond every integer type it stops short of int64's ends, where C has no answer. */
static int64_t
to_int(double x)
{
	if (isnan(x))
		return 0;
	return (int64_t)fmin(fmax(x, -0x1p62), 0x1p62);
}

/* An integer in two's complement, modulo the size of t. */
static double
wrap(DType t, uint64_t x)
{
	switch (t) {
	case DT_I32: return (int32_t)(uint32_t)x;
	case DT_U32: return (uint32_t)x;
	case DT_U8: return (uint8_t)x;
	default: return x != 0;
	}
}

/* To nearest, ties to even; subnormals as IEEE 754 has them, overflow to infinity. */
static double
round_float(DType t, double x)
{
	if (!isfinite(x) || x == 0)
		return x;
	int e = ilogb(x);
	if (e < format[t].emin)
		e = format[t].emin;
	int ulp = e - (format[t].digits - 1);
	double r = scalbn(nearbyint(scalbn(x, -ulp)), ulp);
	return fabs(r) > format[t].hi ? copysign(INFINITY, x) : r;
}

static double
convert(double x, DType from, DType to)
{
	if (to == DT_BOOL)
		return x != 0;
	if (!is_int(to))
		return round_float(to, x);
	if (is_int(from))
		return wrap(to, (uint64_t)to_int(x));
	return isnan(x) ? 0 : trunc(fmin(fmax(x, format[to].lo), format[to].hi));
}

/* A bijection on [0, n): six Feistel rounds on the smallest even number of bits that holds n, walked along the cycle
   until the result falls below n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). */
static double
interp_shuffle(double i, double count, double k)
{
	uint32_t n = (uint32_t)to_int(count), key = (uint32_t)to_int(k);
	if (n <= 1)
		return 0;
	uint32_t x = (uint32_t)to_int(i) % n;
	int half = 1;
	while ((uint64_t)1 << (2 * half) < n)
		half++;
	uint32_t mask = ((uint32_t)1 << half) - 1;
	do {
		uint32_t l = x >> half, r = x & mask;
		for (uint32_t round = 0; round < 6; round++) {
			uint32_t t = r * 0x9E3779B1u + key + round * 0x85EBCA6Bu, old = r;
			t = (t ^ t >> 15) * 0x2C1B3C6Du;
			t = (t ^ t >> 12) * 0x297A2D39u;
			t ^= t >> 15;
			r = l ^ (t & mask);
			l = old;
		}
		x = l << half | r;
	} while (x >= n);
	return x;
}

/* A word, the low one first, of Philox-2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
static uint32_t
philox(uint32_t lo, uint32_t hi, uint32_t key, bool second)
{
	for (int round = 0; round < 10; round++) {
		uint64_t p = (uint64_t)0xD256D193u * lo;
		lo = (uint32_t)(p >> 32) ^ key ^ hi;
		hi = (uint32_t)p;
		key += 0x9E3779B9u;
	}
	return second ? hi : lo;
}

/* The eval column of prim.def. */
static double
apply_double(Prim op, double a, double b, double c)
{
	switch (op) {
#define P(name, kind, arity, dtype, attr, spell, eval) case P_##name: return eval;
#include "../ops/prim.def"
#undef P
	default: return NAN;
	}
}

/* Where doubles would lose the low bits or the sign of a wrapped result, 64-bit integers take their place. */
static double
apply_int(Prim op, DType t, double a, double b, double c)
{
	int64_t x = to_int(a), y = to_int(b);
	switch (op) {
	case P_neg: return wrap(t, 0 - (uint64_t)x);
	case P_add: return wrap(t, (uint64_t)x + (uint64_t)y);
	case P_sub: return wrap(t, (uint64_t)x - (uint64_t)y);
	case P_mul: return wrap(t, (uint64_t)x * (uint64_t)y);
	case P_div: return y == 0 ? 0 : wrap(t, (uint64_t)(x / y));
	case P_mod: return y == 0 ? 0 : wrap(t, (uint64_t)(x % y));
	default: return wrap(t, (uint64_t)to_int(apply_double(op, a, b, c)));
	}
}

static double
apply(Prim op, DType t, double a, double b, double c)
{
	return is_int(t) ? apply_int(op, t, a, b, c) : apply_double(op, a, b, c);
}

/* ---- index arithmetic ---- */

static void
get_strides(const Node *n, int64_t *stride)
{
	int64_t s = 1;
	for (int d = n->nd; d-- > 0;) {
		stride[d] = s;
		s *= n->dim[d];
	}
}

/* Element k of n in row-major order is at index ix. */
static void
get_index(const Node *n, int64_t k, int64_t *ix)
{
	for (int d = n->nd; d-- > 0;) {
		ix[d] = k % n->dim[d];
		k /= n->dim[d];
	}
}

/* Elements of one row, all dims but the first. */
static int64_t
row_size(const Node *n)
{
	int64_t size = 1;
	for (int d = 1; d < n->nd; d++)
		size *= n->dim[d];
	return size;
}

static void
check_offset(const Node *n, int64_t off, int64_t count)
{
	if (off < 0 || off >= count)
		bug("interp: %s (node %d) reaches element %lld of %lld", prim_info[n->op].name, n->id, (long long)off,
		    (long long)count);
}

/* ---- primitives ---- */

typedef struct In {
	double **v; /* values of the operands */
	const Env *env;
} In;

/* Fills out, the value of n, which starts as zeros. */
typedef void EvalFn(const Node *n, const In *in, double *out);

static void
eval_elem(const Node *n, const In *in, double *out)
{
	int64_t count = node_count(n);
	for (int64_t k = 0; k < count; k++) {
		double a = in->v[0][k], b = n->nin > 1 ? in->v[1][k] : 0, c = n->nin > 2 ? in->v[2][k] : 0;
		out[k] = n->op == P_cast ? convert(a, n->in[0]->dt, n->dt) : apply(n->op, n->dt, a, b, c);
	}
}

static void
eval_const(const Node *n, const In *in, double *out)
{
	(void)in;
	double value = convert(n->f, DT_F32, n->dt); /* "from a float": it saturates */
	for (int64_t k = node_count(n); k-- > 0;)
		out[k] = value;
}

static void
eval_iota(const Node *n, const In *in, double *out)
{
	(void)in;
	int64_t ix[MAXDIM] = {0}, count = node_count(n);
	for (int64_t k = 0; k < count; k++) {
		get_index(n, k, ix);
		out[k] = (double)ix[n->at[0]];
	}
}

/* param, state, input, column: array at[0] of a list that the caller gave. */
static const double *
get_array(const Node *n, const double **list)
{
	if (!list || !list[n->at[0]])
		bug("interp: %s %lld has no values", prim_info[n->op].name, (long long)n->at[0]);
	return list[n->at[0]];
}

static void
eval_given(const Node *n, const In *in, double *out)
{
	const Env *e = in->env;
	const double **list = n->op == P_param ? e->param : n->op == P_state ? e->state : e->input;
	memcpy(out, get_array(n, list), (size_t)node_count(n) * sizeof *out);
}

static void
eval_fetch(const Node *n, const In *in, double *out)
{
	int64_t width = n->nd > n->in[0]->nd ? n->dim[n->nd - 1] : 1;
	int64_t count = node_count(n->in[0]), rows = in->env->rows;
	const double *column = get_array(n, in->env->column);
	for (int64_t k = 0; k < count; k++) {
		int64_t row = to_int(in->v[0][k]);
		if (row < 0 || row >= rows)
			bug("interp: fetch (node %d) reads row %lld of %lld", n->id, (long long)row, (long long)rows);
		for (int64_t j = 0; j < width; j++)
			out[k * width + j] = column[row * width + j];
	}
}

static void
eval_random(const Node *n, const In *in, double *out)
{
	uint32_t seed = (uint32_t)to_int(in->v[0][0]), step = (uint32_t)to_int(in->v[1][0]);
	uint32_t key = seed ^ ((uint32_t)n->at[0] * 0x9E3779B9u + 0x7F4A7C15u);
	for (int64_t k = node_count(n); k-- > 0;)
		out[k] = (philox((uint32_t)k / 2, step, key, k % 2) >> 8) * 0x1p-24;
}

static void
eval_reshape(const Node *n, const In *in, double *out)
{
	memcpy(out, in->v[0], (size_t)node_count(n) * sizeof *out);
}

/* Element of operand x, whose strides are s, that view n shows at index ix; -1: none, a zero. */
typedef int64_t SourceFn(const Node *n, const Node *x, const int64_t *s, const int64_t *ix);

static int64_t
map_source(const Node *n, const Node *x, const int64_t *s, const int64_t *ix)
{
	(void)x;
	int64_t off = 0;
	for (int d = 0; d < n->nd; d++)
		off += n->at[d] < 0 ? 0 : ix[d] * s[n->at[d]];
	return off;
}

static int64_t
slice_source(const Node *n, const Node *x, const int64_t *s, const int64_t *ix)
{
	(void)x;
	int64_t off = 0;
	for (int d = 0; d < n->nd; d++)
		off += (n->at[d] + ix[d] * n->at[n->nd + d]) * s[d];
	return off;
}

static int64_t
pad_source(const Node *n, const Node *x, const int64_t *s, const int64_t *ix)
{
	int64_t off = 0;
	for (int d = 0; d < n->nd; d++) {
		int64_t i = ix[d] - n->at[d], step = n->at[n->nd + d];
		if (i % step || i / step < 0 || i / step >= x->dim[d])
			return -1;
		off += i / step * s[d];
	}
	return off;
}

/* ix[axis] is the window, the last of ix the place in it. Of fold, n and x are the same node: what windows look at. */
static int64_t
window_source(const Node *n, const Node *x, const int64_t *s, const int64_t *ix)
{
	int64_t off = 0;
	for (int d = 0; d < x->nd; d++)
		off += (d == n->at[0] ? ix[d] * n->at[1] + ix[x->nd] * n->at[2] : ix[d]) * s[d];
	return off;
}

static SourceFn *const source_fn[NPRIM] = {
	[P_permute] = map_source,
	[P_expand] = map_source,
	[P_slice] = slice_source,
	[P_pad] = pad_source,
	[P_window] = window_source,
};

static void
eval_view(const Node *n, const In *in, double *out)
{
	const Node *x = n->in[0];
	int64_t s[MAXDIM], ix[MAXDIM], count = node_count(n), have = node_count(x);
	get_strides(x, s);
	for (int64_t k = 0; k < count; k++) {
		get_index(n, k, ix);
		int64_t off = source_fn[n->op](n, x, s, ix);
		if (off == -1)
			continue;
		check_offset(n, off, have);
		out[k] = in->v[0][off];
	}
}

static void
eval_fold(const Node *n, const In *in, double *out)
{
	const Node *x = n->in[0];
	int64_t s[MAXDIM], ix[MAXDIM], count = node_count(x), room = node_count(n);
	get_strides(n, s);
	for (int64_t k = 0; k < count; k++) {
		get_index(x, k, ix);
		int64_t off = window_source(n, n, s, ix);
		check_offset(n, off, room);
		out[off] = apply(P_add, n->dt, out[off], in->v[0][k], 0);
	}
}

static void
eval_reduce(const Node *n, const In *in, double *out)
{
	const Node *x = n->in[0];
	bool is_max = n->op == P_reduce_max, gone[MAXDIM] = {0};
	double start = !is_max ? 0 : is_int(n->dt) ? format[n->dt].lo : -INFINITY;
	for (int i = 0; i < n->nat; i++)
		gone[n->at[i]] = true;
	int64_t s[MAXDIM], ix[MAXDIM], into[MAXDIM], count = node_count(x), room = node_count(n);
	get_strides(n, s);
	for (int d = 0, kept = 0; d < x->nd; d++)
		into[d] = gone[d] ? 0 : s[kept++];
	for (int64_t k = 0; k < room; k++)
		out[k] = start;
	for (int64_t k = 0; k < count; k++) {
		int64_t off = 0;
		get_index(x, k, ix);
		for (int d = 0; d < x->nd; d++)
			off += ix[d] * into[d];
		check_offset(n, off, room);
		out[off] = apply(is_max ? P_max : P_add, n->dt, out[off], in->v[0][k], 0);
	}
}

/* ---- dot ---- */

enum { SIDE_A, SIDE_B, SIDE_OUT };

/* One label: the sides that have it, as bits, and how far one step moves in each (had twice: along the diagonal). */
typedef struct Loop {
	int64_t label, size, step[3];
	unsigned sides;
} Loop;

/* Adds the dims of n, whose labels are at; returns the number of loops. */
static int
add_loops(Loop *loop, int nloop, const Node *n, const int64_t *at, int side)
{
	int64_t s[MAXDIM];
	get_strides(n, s);
	for (int d = 0; d < n->nd; d++) {
		int i = 0;
		while (i < nloop && loop[i].label != at[d])
			i++;
		if (i == nloop)
			loop[nloop++] = (Loop){.label = at[d], .size = n->dim[d]};
		if (loop[i].size != n->dim[d])
			bug("interp: dot: label %lld has sizes %lld and %lld", (long long)at[d], (long long)loop[i].size,
			    (long long)n->dim[d]);
		loop[i].step[side] += s[d];
		loop[i].sides |= 1u << side;
	}
	return nloop;
}

static void
run_loops(const Loop *loop, int nloop, DType t, const double *a, const double *b, double *c)
{
	if (nloop == 0) {
		*c = apply(P_add, t, *c, apply(P_mul, t, *a, *b, 0), 0);
		return;
	}
	for (int64_t i = 0; i < loop->size; i++)
		run_loops(loop + 1, nloop - 1, t, a + i * loop->step[0], b + i * loop->step[1], c + i * loop->step[2]);
}

/* The loops of the result come first, so that each sum runs in one go. */
static void
eval_dot(const Node *n, const In *in, double *out)
{
	const Node *a = n->in[0], *b = n->in[1];
	Loop loop[3 * MAXDIM];
	int nloop = add_loops(loop, 0, n, n->at + a->nd + b->nd, SIDE_OUT);
	nloop = add_loops(loop, nloop, a, n->at, SIDE_A);
	nloop = add_loops(loop, nloop, b, n->at + a->nd, SIDE_B);
	for (int i = 0; i < nloop; i++)
		if (loop[i].sides == 1u << SIDE_OUT)
			bug("interp: dot (node %d): label %lld is in the result alone", n->id, (long long)loop[i].label);
	run_loops(loop, nloop, n->dt, in->v[0], in->v[1], out);
	for (int64_t i = 0; i < node_count(n) && (n->dt == DT_BF16 || n->dt == DT_F16); i++)
		out[i] = round_float(n->dt, out[i]);
}

/* ---- tables ---- */

static int64_t
clamp_id(const Node *n, double id, int64_t size)
{
	if (size == 0)
		bug("interp: %s (node %d) has an empty table", prim_info[n->op].name, n->id);
	int64_t i = to_int(id);
	return i < 0 ? 0 : i >= size ? size - 1 : i;
}

static void
eval_gather(const Node *n, const In *in, double *out)
{
	int64_t width = row_size(n->in[0]), nid = node_count(n->in[1]);
	for (int64_t k = 0; k < nid; k++) {
		int64_t row = clamp_id(n, in->v[1][k], n->in[0]->dim[0]);
		for (int64_t j = 0; j < width; j++)
			out[k * width + j] = in->v[0][row * width + j];
	}
}

static void
eval_scatter(const Node *n, const In *in, double *out)
{
	int64_t width = row_size(n), nid = node_count(n->in[0]);
	for (int64_t k = 0; k < nid; k++) {
		double *row = out + clamp_id(n, in->v[0][k], n->dim[0]) * width;
		for (int64_t j = 0; j < width; j++)
			row[j] = apply(P_add, n->dt, row[j], in->v[1][k * width + j], 0);
	}
}

static void
eval_sort(const Node *n, const In *in, double *out)
{
	int64_t rows = n->at[0], nid = node_count(n->in[0]), next = 0;
	double *start = out + nid, *id = start + rows + 1;
	for (int64_t r = 0; r < rows; r++) {
		start[r] = (double)next;
		for (int64_t k = 0; k < nid; k++)
			if (clamp_id(n, in->v[0][k], rows) == r) {
				id[next] = (double)r;
				out[next++] = (double)k;
			}
	}
	start[rows] = (double)next;
}

/* As scatter_add would: the sums of runs are not needed here, and are left zero. */
static void
eval_row_sum(const Node *n, const In *in, double *out)
{
	int64_t width = row_size(n), nid = (node_count(n->in[0]) - n->dim[0] - 1) / 2;
	const double *id = in->v[0] + nid + n->dim[0] + 1;
	for (int64_t k = 0; k < nid; k++)
		for (int64_t j = 0, row = (int64_t)id[k], from = (int64_t)in->v[0][k]; j < width; j++)
			out[row * width + j] = apply(P_add, n->dt, out[row * width + j], in->v[1][from * width + j], 0);
}

static void
eval_nothing(const Node *n, const In *in, double *out)
{
	(void)n, (void)in, (void)out;
}

static void
eval_concat(const Node *n, const In *in, double *out)
{
	int64_t s[MAXDIM], ix[MAXDIM], axis = n->at[0], start = 0;
	get_strides(n, s);
	for (int i = 0; i < n->nin; i++) {
		int64_t count = node_count(n->in[i]);
		for (int64_t k = 0; k < count; k++) {
			int64_t off = start * s[axis];
			get_index(n->in[i], k, ix);
			for (int d = 0; d < n->nd; d++)
				off += ix[d] * s[d];
			check_offset(n, off, node_count(n));
			out[off] = in->v[i][k];
		}
		start += n->in[i]->dim[axis];
	}
}

/* ---- scans ---- */

/* Elements that output k of a scan has over all steps: a carry's init is among its values. */
static int64_t
output_count(const Node *scan, int k)
{
	return (scan->at[0] + (k < scan->at[2])) * node_count(scan->body->output[k].node);
}

/* The value of a scan is all its outputs, one after the other. */
static int64_t
value_count(const Node *n)
{
	int64_t count = 0;
	for (int k = 0; n->op == P_scan && k < n->body->noutput; k++)
		count += output_count(n, k);
	return n->op == P_scan ? count : node_count(n);
}

/* One step after the other, each an evaluation of the body. Step t of a scan in reverse is at place steps - 1 - t. */
static void
eval_scan(const Node *n, const In *in, double *out)
{
	Graph *b = n->body;
	int64_t steps = n->at[0], reverse = n->at[1], ncarry = n->at[2];
	const double **operand = xcalloc((size_t)n->nin, sizeof *operand);
	double **place = xcalloc((size_t)b->noutput, sizeof *place), **value = xcalloc((size_t)b->noutput, sizeof *value);
	Node **node = xcalloc((size_t)b->noutput, sizeof *node);
	for (int k = 0; k < b->noutput; k++) {
		int64_t count = node_count(node[k] = b->output[k].node);
		place[k] = out;
		if (k < ncarry)
			memcpy(out + (reverse ? steps * count : 0), in->v[k], (size_t)count * sizeof *out);
		out += output_count(n, k);
	}
	for (int64_t i = 0; i < steps; i++) {
		int64_t t = reverse ? steps - 1 - i : i;
		for (int k = 0; k < n->nin; k++) {
			int64_t count = 1;
			for (int d = 0; d < b->input[k].nd; d++)
				count *= b->input[k].dim[d];
			if (k < ncarry)
				operand[k] = place[k] + (t + reverse) * count;
			else
				operand[k] = in->v[k] + (n->at[3 + k - ncarry] ? t * count : 0);
		}
		interp(b, &(Env){.input = operand}, node, b->noutput, value);
		for (int k = 0; k < b->noutput; k++) {
			int64_t count = node_count(node[k]), at = t + (k < ncarry && !reverse);
			memcpy(place[k] + at * count, value[k], (size_t)count * sizeof *out);
			free(value[k]);
		}
	}
	free(operand);
	free(place);
	free(value);
	free(node);
}

static void
eval_result(const Node *n, const In *in, double *out)
{
	const double *v = in->v[0];
	for (int k = 0; k < n->at[0]; k++)
		v += output_count(n->in[0], k);
	memcpy(out, v, (size_t)node_count(n) * sizeof *out);
}

/* ---- graphs ---- */

/* All but ELEM. */
static EvalFn *const eval_fn[NPRIM] = {
	[P_const] = eval_const,
	[P_iota] = eval_iota,
	[P_param] = eval_given,
	[P_state] = eval_given,
	[P_input] = eval_given,
	[P_fetch] = eval_fetch,
	[P_random] = eval_random,
	[P_reshape] = eval_reshape,
	[P_permute] = eval_view,
	[P_expand] = eval_view,
	[P_slice] = eval_view,
	[P_pad] = eval_view,
	[P_window] = eval_view,
	[P_reduce_sum] = eval_reduce,
	[P_reduce_max] = eval_reduce,
	[P_dot] = eval_dot,
	[P_gather] = eval_gather,
	[P_scatter_add] = eval_scatter,
	[P_sort] = eval_sort,
	[P_run_sum] = eval_nothing,
	[P_row_sum] = eval_row_sum,
	[P_fold] = eval_fold,
	[P_concat] = eval_concat,
	[P_scan] = eval_scan,
	[P_result] = eval_result,
};

/* value: by node id */
static double *
eval_node(const Node *n, const Env *env, double **value)
{
	EvalFn *fn = eval_fn[n->op] ? eval_fn[n->op] : eval_elem;
	if (fn == eval_elem && prim_info[n->op].kind != K_ELEM)
		bug("interp: no rule for %s", prim_info[n->op].name);
	In in = {.v = xmalloc((size_t)n->nin * sizeof *in.v), .env = env};
	for (int i = 0; i < n->nin; i++)
		in.v[i] = value[n->in[i]->id];
	double *out = xcalloc((size_t)value_count(n), sizeof *out);
	fn(n, &in, out);
	free(in.v);
	return out;
}

/* uses[id]: how often the node is an operand of what the outs need, or an out. Operands come before their users. */
static void
count_uses(Graph *g, Node **out, int nout, int *uses)
{
	for (int i = 0; i < nout; i++)
		uses[out[i]->id]++;
	for (int i = g->nnode; i-- > 0;) {
		Node *n = g->node[i];
		for (int j = 0; uses[n->id] && j < n->nin; j++)
			uses[n->in[j]->id]++;
	}
}

/* The values that one more consumer has read. */
static void
release_operands(const Node *n, int *uses, double **value)
{
	for (int i = 0; i < n->nin; i++) {
		int id = n->in[i]->id;
		if (--uses[id] == 0) {
			free(value[id]);
			value[id] = NULL;
		}
	}
}

void
interp(Graph *g, const Env *env, Node **out, int nout, double **value)
{
	static const Env nothing;
	int nid = g->nnode ? g->node[g->nnode - 1]->id + 1 : 0;
	int *uses = xcalloc((size_t)nid, sizeof *uses);
	double **have = xcalloc((size_t)nid, sizeof *have);
	count_uses(g, out, nout, uses);
	for (int i = 0; i < g->nnode; i++) {
		Node *n = g->node[i];
		if (uses[n->id]) {
			have[n->id] = eval_node(n, env ? env : &nothing, have);
			release_operands(n, uses, have);
		}
	}
	for (int i = 0; i < nout; i++) {
		size_t bytes = (size_t)node_count(out[i]) * sizeof **value;
		value[i] = memcpy(xmalloc(bytes), have[out[i]->id], bytes);
	}
	for (int i = 0; i < nid; i++)
		free(have[i]);
	free(have);
	free(uses);
}

static double
eval_scalar(Graph *g, const Env *env, Node *scalar)
{
	double *value;
	interp(g, env, &scalar, 1, &value);
	double y = value[0];
	free(value);
	return y;
}

/* The derivative of a one-element node by x[i], where x is one of env's arrays, to O(h^4): central differences with
   steps h and h/2, extrapolated once (Richardson). x[i] is as before afterwards. */
double
interp_numeric_grad(Graph *g, const Env *env, Node *scalar, double *x, int64_t i, double h)
{
	double at = x[i], slope[2];
	for (int k = 0; k < 2; k++, h /= 2) {
		x[i] = at + h;
		double up = eval_scalar(g, env, scalar);
		x[i] = at - h;
		slope[k] = (up - eval_scalar(g, env, scalar)) / (2 * h);
	}
	x[i] = at;
	return (4 * slope[1] - slope[0]) / 3;
}
