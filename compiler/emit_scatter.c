/* Sums by row on a GPU, for the gradients of tables (compiler/split.c): positions come sorted by row (P_sort).

   run_sum  a group of threads sums a run of RUN sorted neighbours, if all are of one row
   row_sum  a group sums the positions of its row; a row with many is summed by all groups of the block: what lies before
            its first whole run and after its last, and the sums of the runs between

   Each position's value is computed once, in one of the two. Orders of summation are fixed by the ids alone. */
#include <stdlib.h>

#include "emit_cuda.h"

#define BLOCK 256
#define BLOCKS 132  /* with fewer a GPU is not busy */
#define MANY 64   /* positions from which a row is summed by the whole block */

typedef struct Rows {
	int64_t n, rows, width; /* positions, rows of the table, elements a row */
	int columns, groups;    /* threads a group; groups a block */
	int each;               /* rows of a block */
	int sorted, runs, out;  /* arguments */
	Shape s;
} Rows;

static Rows
shape_of(Emit *e)
{
	Kernel *k = e->k;
	const Node *n = k->store[0].node, *sorted = n->in[0];
	Rows r = {.n = node_count(sorted->in[0]), .rows = sorted->at[0], .width = k->row, .s = {.width = 4, .lane_axis = k->naxis - 1}};
	if (k->nouter == k->naxis || r.width % 4 || k->size[k->naxis - 1] % 4 || !cu_any_wide(e, &r.s))
		r.s.width = 1;
	r.columns = pow2_at_least((r.width + r.s.width - 1) / r.s.width, 32);
	r.groups = BLOCK / r.columns;
	r.each = r.rows < (int64_t)r.groups * BLOCKS ? 1 : r.groups;
	r.sorted = arg_index(k, sorted);
	r.runs = n->op == P_row_sum ? arg_index(k, n->in[2]) : -1;
	r.out = arg_index(k, n);
	return r;
}

/* sum[] += the value of sorted position `at`, in columns f .. f + W - 1. */
static void
add_position(Emit *e, const Rows *r, const char *at)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	need_value(e, need, k->store[0].val);
	cu_forget(e);
	emit_line(e, "const int o = order[%s];", at);
	axis_lines(e, "o", 0, k->nouter);
	emit_line(e, "%s", cu_row_axes(e, "f"));
	if (r->s.width == 4) {
		cu_wide_loads(e, &r->s, need, 0);
		text_puts(e->t, "#pragma unroll\n");
		emit_line(e, "for (int w = 0; w < 4; w++) {");
		e->indent++;
		emit_line(e, "%s", cu_row_axes(e, "f + w"));
	}
	for (int i = 0; i < k->nval; i++)
		if (need[i] && cu_computed(k->val[i]) && e->place[i] != PL_VECTOR)
			cu_value(e, k->val[i], false);
	char *v = val_ref(e, k->store[0].val);
	emit_line(e, r->s.width == 4 ? "sum[w] += %s;" : "sum[0] += %s;", v);
	free(v);
	if (r->s.width == 4) {
		e->indent--;
		emit_line(e, "}");
	}
}

static void
open_loop(Emit *e, const char *unroll, const char *head)
{
	if (unroll)
		text_printf(e->t, "#pragma unroll %s\n", unroll);
	emit_line(e, "for (%s) {", head);
	e->indent++;
}

static void
head_lines(Emit *e, const Rows *r)
{
	emit_line(e, "const int *const order = a%d, *const start = order + %ld, *const key = start + %ld;", r->sorted, (long)r->n, (long)r->rows + 1);
	emit_line(e, "const int group = threadIdx.x / %d, column = threadIdx.x %% %d * %d;", r->columns, r->columns, r->s.width);
	emit_line(e, "(void)start, (void)key;");
}

static void
store_lines(Emit *e, const Rows *r, const char *row)
{
	const char *type = ctype(e->k->store[0].node->dt);
	if (r->s.width == 4) {
		emit_line(e, "%s s[4];", type);
		emit_line(e, "for (int w = 0; w < 4; w++) s[w] = (%s)sum[w];", type);
		emit_line(e, "mm_store4(&a%d[%s * %ld + f], s);", r->out, row, (long)r->width);
	} else {
		emit_line(e, "a%d[%s * %ld + f] = (%s)sum[0];", r->out, row, (long)r->width, type);
	}
}

static void
run_sum(Emit *e, const Rows *r)
{
	Arena *a = e->k->arena;
	emit_line(e, "const int run = (blockIdx.x * %d + group) * %d;", r->groups, RUN);
	emit_line(e, "if (run + %d > %ld || key[run] != key[run + %d]) return;", RUN, (long)r->n, RUN - 1);
	open_loop(e, NULL, arena_printf(a, "int f = column; f < %ld; f += %d", (long)r->width, r->columns * r->s.width));
	emit_line(e, "float sum[%d] = {0};", r->s.width);
	open_loop(e, "4", arena_printf(a, "int h = 0; h < %d; h++", RUN));
	add_position(e, r, "run + h");
	cu_close(e);
	store_lines(e, r, arena_printf(a, "run / %d", RUN));
	cu_close(e);
}

/* A row of many positions, or one of few rows: group g takes every groups-th of them and of the runs; then the groups' sums are added in order. */
static void
many_positions(Emit *e, const Rows *r)
{
	Arena *a = e->k->arena;
	int W = r->s.width, step = r->columns * W;
	emit_line(e, "__shared__ float part[%d][%d];", r->groups, step);
	open_loop(e, NULL, arena_printf(a, "int q = 0; q < %d; q++", r->each));
	emit_line(e, "const int row = blockIdx.x * %d + q;", r->each);
	emit_line(e, "if (row >= %ld) break;", (long)r->rows);
	emit_line(e, "const int first = start[row], last = start[row + 1];");
	if (r->each > 1)
		emit_line(e, "if (last - first <= %d) continue;", MANY);
	emit_line(e, "const int lo = (first + %d) / %d, hi = last / %d;", RUN - 1, RUN, RUN);
	open_loop(e, NULL, arena_printf(a, "int b = 0; b < %ld; b += %d", (long)r->width, step));
	emit_line(e, "const int f = b + column;");
	emit_line(e, "float sum[%d] = {0};", W);
	emit_line(e, "if (f < %ld) {", (long)r->width);
	e->indent++;
	open_loop(e, "1", arena_printf(a, "int p = first + group; p < last - (hi > lo ? hi - lo : 0) * %d; p += %d", RUN, r->groups));
	emit_line(e, "const int h = hi > lo && p >= lo * %d ? p + (hi - lo) * %d : p;", RUN, RUN);
	add_position(e, r, "h");
	cu_close(e);
	open_loop(e, "8", arena_printf(a, "int h = lo + group; h < hi; h += %d", r->groups));
	emit_line(e, "for (int w = 0; w < %d; w++) sum[w] += a%d[(int64_t)h * %ld + f + w];", W, r->runs, (long)r->width);
	cu_close(e);
	cu_close(e);
	emit_line(e, "for (int w = 0; w < %d; w++) part[group][column + w] = sum[w];", W);
	emit_line(e, "__syncthreads();");
	emit_line(e, "if (group == 0 && f < %ld) {", (long)r->width);
	e->indent++;
	emit_line(e, "for (int g = 1; g < %d; g++)", r->groups);
	emit_line(e, "\tfor (int w = 0; w < %d; w++) sum[w] += part[g][column + w];", W);
	store_lines(e, r, "row");
	cu_close(e);
	emit_line(e, "__syncthreads();");
	cu_close(e);
	cu_close(e);
}

static void
row_sum(Emit *e, const Rows *r)
{
	Arena *a = e->k->arena;
	if (r->each == 1) {
		many_positions(e, r);
		return;
	}
	emit_line(e, "{");
	e->indent++;
	emit_line(e, "const int row = blockIdx.x * %d + group;", r->groups);
	emit_line(e, "const int first = row < %ld ? start[row] : 0, last = row < %ld ? start[row + 1] : 0;", (long)r->rows, (long)r->rows);
	emit_line(e, "if (row < %ld && last - first <= %d)", (long)r->rows, MANY);
	open_loop(e, NULL, arena_printf(a, "int f = column; f < %ld; f += %d", (long)r->width, r->columns * r->s.width));
	emit_line(e, "float sum[%d] = {0};", r->s.width);
	open_loop(e, "1", "int h = first; h < last; h++"); /* rows mostly have few positions */
	add_position(e, r, "h");
	cu_close(e);
	store_lines(e, r, "row");
	cu_close(e);
	cu_close(e);
	many_positions(e, r);
}

void
emit_scatter(Emit *e, const char *name, Launch *l)
{
	Kernel *k = e->k;
	e->lanes = ~0u; /* whatever varies is computed where it is needed */
	for (int i = 0; i < k->nval; i++)
		e->saved[i] = false;
	Rows r = shape_of(e);
	bool runs = k->store[0].node->op == P_run_sum;
	int64_t places = runs ? (r.n + RUN - 1) / RUN : r.rows;
	l->block = BLOCK;
	int each = runs ? r.groups : r.each;
	l->grid = (int)((places + each - 1) / each);
	cu_signature(e, name, BLOCK);
	cu_uniform(e, 0);
	head_lines(e, &r);
	if (runs)
		run_sum(e, &r);
	else
		row_sum(e, &r);
	text_puts(e->t, "}\n\n");
}

void
emit_sort_cuda(Text *t, const Node *n, const char *name, Launch *l)
{
	*l = (Launch){.grid = 1, .block = 1024};
	text_printf(t, "extern \"C\" __global__ void __launch_bounds__(1024)\n%s(const int *__restrict__ a0, int *a1)\n{\n\tmm_begin_alone();\n", name);
	text_printf(t, "\tmm_sort(%ld, %ld, a0, a1);\n}\n\n", (long)node_count(n->in[0]), (long)n->at[0]);
}
