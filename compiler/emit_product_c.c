/* Product kernels (product.c) as C. A piece is a tile of the result, ROWS x COLUMNS; it is summed in blocks of DEPTH places, a panel
   of one or two vectors of columns at a time: what the panel's rows are is copied side by side, then mm_product of the prelude
   multiplies it by the tile's rows (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008). What
   becomes of the tile is computed while it is in the nearest caches.

     left[r, k]   rows of the first operand: where they lie, or copied: [r][k] or [k][r], as their runs in memory are
     right[k, j]  a panel of the second one: where it lies, or copied as [k][j]

   Windows lie in runs: along an axis, an index goes evenly for so many places, then jumps. A copy computes an address for each run. */
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "ix.h"

#define ROWS 168         /* of a tile, about: so often is a panel used that is copied */
#define COLUMNS 512      /* of a tile, at most.. */
#define TILE 65536       /* and floats: in the second cache */
#define DEPTH 512        /* a block's places: rows and panel in the nearest caches */
#define RUN 384          /* places of a run that is copied as one */
#define WIDE 32          /* two of the longest vectors */
#define DEEP 14          /* rows that the widest registers hold */
#define FEW 28           /* rows of a tile for which a panel is not copied.. */
#define LINES 4          /* and for which the second operand is read line by line, as it lies */
#define PIECE 2e6        /* operations of a piece that are worth handing out.. */
#define READ 131072      /* or floats that it reads, where rows are few */
#define PIECES 8         /* of which a kernel should have so many, and half as many before rows get fewer */
#define SHARED 2e5       /* operations from which threads pay */

enum { PART, ROW, COLUMN, PLACE }; /* axes */

typedef struct Side {
	const LVal *val;
	int outer;              /* its axis beside the summed one */
	int64_t run[4], step[4];/* by axis: places for which the index goes evenly, and how far */
	bool copied, turned;    /* turned: the copy goes along the summed places */
} Side;

typedef struct Tiles {
	int64_t rows, columns, depth;
	int64_t down, over;     /* tiles */
	int64_t parts;          /* of a tile: several where each has few rows */
	int64_t wide;           /* a row of the result's tile in memory: whole panels */
} Tiles;

/* Does the index go evenly along runs of n places of the axis, from those divisible by n on? */
static bool
goes_evenly(const Ix *ix, int axis, int64_t n)
{
	int64_t step;
	for (int i = 0; i < ix->n; i++) {
		const Atom *a = ix->t[i].a;
		bool part = a->kind == AT_DIV || a->kind == AT_MOD;
		if (!(a->axes >> axis & 1) || a->kind == AT_AXIS)
			continue;
		if (!part || (!ix_run_same(a->of, axis, (int)n) && (a->n % n || !ix_run_step(a->of, axis, (int)n, &step) || step != 1)))
			return false;
	}
	return true;
}

/* The longest run along the axis: all of it, or a part of it of at most so many places. */
static void
find_run(const Kernel *k, Side *s, int axis, int64_t most)
{
	int64_t size = k->size[axis], n = size;
	if (!goes_evenly(s->val->ix, axis, n))
		for (n = most < size ? most : size; n > 1; n--)
			if (size % n == 0 && goes_evenly(s->val->ix, axis, n))
				break;
	s->run[axis] = n;
	s->step[axis] = ix_local_stride(s->val->ix, axis);
}

static Side
side_of(Kernel *k, const LVal *v, int outer)
{
	LVal *joined = arena_alloc(k->arena, sizeof *joined);
	Side s = {.val = joined, .outer = outer};
	*joined = *v;
	joined->ix = ix_join(k, v->ix);
	find_run(k, &s, outer, ROWS);
	find_run(k, &s, PLACE, RUN);
	bool rows = s.step[outer] == 1, places = s.step[PLACE] == 1;
	s.turned = places && (!rows || s.run[PLACE] > s.run[outer]);
	return s;
}

/* Is it one matrix with even strides? */
static bool
even(const Kernel *k, const Side *s)
{
	return s->run[s->outer] == k->size[s->outer] && s->run[PLACE] == k->size[PLACE];
}

/* Does a panel of it lie side by side? */
static bool
in_panels(const Kernel *k, const Side *s)
{
	return s->step[COLUMN] == 1 && s->run[COLUMN] % WIDE == 0 && s->run[PLACE] == k->size[PLACE] && s->step[PLACE] == WIDE;
}

static int64_t
up(int64_t n, int64_t by)
{
	return (n + by - 1) / by * by;
}

static int64_t
gcd(int64_t a, int64_t b)
{
	return b ? gcd(b, a % b) : a;
}

/* Rows of a tile: a multiple of `by` near ROWS that leaves the last tile the fewest to lack. */
static int64_t
rows_of(int64_t size, int64_t by, int64_t most)
{
	int64_t best = by, waste = INT64_MAX;
	if (size <= most * 5 / 4)
		return size;
	for (int64_t n = up(most * 3 / 4, by); n <= most * 5 / 4; n += by) {
		int64_t w = up(size, n) - size;
		if (w <= waste)
			best = n, waste = w;
	}
	return best;
}

/* Parts that a tile holds: their rows are rows of one matrix. */
static int64_t
parts_of(const Kernel *k, const Side *left, const Side *right)
{
	int64_t rows = k->size[ROW], parts = k->size[PART], most = ROWS * 5 / 4 / rows;
	bool one = even(k, left) && goes_evenly(left->val->ix, PART, parts) && ix_local_stride(left->val->ix, PART) == rows * left->step[ROW];
	if (!k->columns || !one || right->val->axes >> PART & 1)
		return 1;
	while (most > 1 && parts % most)
		most--;
	return most > 1 ? most : 1;
}

/* Places of a block: whole runs of both operands. */
static int64_t
depth_of(const Kernel *k, Side *left, Side *right)
{
	int64_t places = k->size[PLACE], blocks = (places + DEPTH - 1) / DEPTH;
	int64_t a = left->run[PLACE] < places ? left->run[PLACE] : 1, b = right->run[PLACE] < places ? right->run[PLACE] : 1, both = a / gcd(a, b) * b;
	if (both > DEPTH) {
		both = gcd(a, b);
		left->run[PLACE] = a > 1 ? both : places;
		right->run[PLACE] = b > 1 ? both : places;
	}
	int64_t depth = up((places + blocks - 1) / blocks, both);
	return depth < places ? depth : places;
}

static Tiles
tiles_of(const Kernel *k, Side *left, Side *right)
{
	int64_t rows = k->size[ROW], columns = k->size[COLUMN], places = k->size[PLACE], run = left->run[ROW] < rows ? left->run[ROW] : 1;
	int64_t by = run * DEEP / gcd(run, DEEP);
	double flops = 2.0 * (double)(rows * columns) * (double)places * (double)k->size[PART], want = flops / PIECE;
	Tiles t = {.columns = up(columns, WIDE)};
	by = by > ROWS ? run : by;
	t.parts = parts_of(k, left, right);
	t.rows = t.parts > 1 ? rows * t.parts : rows_of(rows, by, ROWS);
	while (t.columns > WIDE && ((t.columns > COLUMNS && t.rows > LINES) || t.columns * t.rows > TILE))
		t.columns = up(t.columns / 2, WIDE);
	if (t.rows <= LINES) /* reading is what takes time */
		want = (double)(places * columns * k->size[PART]) / READ;
	want = want < PIECES ? want : PIECES;
	for (;;) {
		t.down = (rows + t.rows - 1) / t.rows;
		t.over = (columns + t.columns - 1) / t.columns;
		double pieces = (double)((k->columns ? 1 : t.down) * t.over * k->size[PART] / t.parts);
		if (pieces < want && t.columns > WIDE)
			t.columns = up(t.columns / 2, WIDE);
		else if (pieces < want / 2 && t.rows > 2 * by && t.parts == 1)
			t.rows = rows_of(rows, by, t.rows / 2);
		else
			break;
	}
	t.depth = depth_of(k, left, right);
	t.wide = up(t.columns < columns ? t.columns : columns, WIDE);
	return t;
}

static void
open_loop(Emit *e, const char *head)
{
	emit_line(e, "for (%s) {", head);
	e->indent++;
}

static void
close_loop(Emit *e)
{
	e->indent--;
	emit_line(e, "}");
}

/* How many of `size` a tile has from `first` on: a constant where all have as many. */
static void
put_part(Emit *e, const char *name, const char *first, int64_t size, int64_t most)
{
	if (size % most == 0 || size < most)
		emit_line(e, "const int %s = %ld;", name, (long)(size < most ? size : most));
	else
		emit_line(e, "const int %s = %ld - %s < %ld ? %ld - %s : %ld;", name, (long)size, first, (long)most, (long)size, first, (long)most);
}

/* Copies `many` elements of a run to to[q * apart]: apart as text, "" for 1. */
static void
copy_run(Emit *e, const Side *s, int axis, const char *many, const char *to, const char *apart)
{
	char *from = load_text(e, s->val);
	if (s->step[axis] == 1 && !*apart)
		emit_line(e, "memcpy(%s, &%s, (size_t)(%s) * sizeof(float));", to, from, many);
	else
		emit_line(e, "mm_copy(%s, %s, &%s, %ld, %s);", to, *apart ? apart : "1", from, (long)s->step[axis], many);
	free(from);
}

/* The same of any number of runs, from place `first` of the axis on. The index of the other axis stands. */
static void
copy_line(Emit *e, const Side *s, int axis, const char *first, const char *many, int64_t run, const char *to, const char *apart)
{
	Arena *a = e->k->arena;
	if (run == e->k->size[axis]) {
		emit_line(e, "const int i%d = %s; (void)i%d;", axis, first, axis);
		copy_run(e, s, axis, many, to, apart);
		return;
	}
	open_loop(e, arena_printf(a, "int p = 0; p < %s; p += %ld", many, (long)run));
	emit_line(e, "const int i%d = %s + p;", axis, first);
	copy_run(e, s, axis, arena_printf(a, "%ld", (long)run), arena_printf(a, *apart ? "%s + p * %s" : "%s + p", to, apart), apart);
	close_loop(e);
}

/* left, and its strides as text. */
static void
put_left(Emit *e, const Side *s, const Tiles *t, const char **ars, const char **acs)
{
	Arena *a = e->k->arena;
	if (!s->copied) {
		char *at = load_text(e, s->val);
		emit_line(e, "const int i1 = first, i3 = place0; (void)i1; (void)i3;");
		emit_line(e, "const float *left = &%s;", at);
		free(at);
		*ars = arena_printf(a, "%ld", (long)s->step[ROW]);
		*acs = arena_printf(a, "%ld", (long)s->step[PLACE]);
		return;
	}
	*ars = s->turned ? arena_printf(a, "%ld", (long)t->depth) : "1";
	*acs = s->turned ? "1" : arena_printf(a, "%ld", (long)t->rows);
	if (s->turned) {
		open_loop(e, "int r = 0; r < rows; r++");
		emit_line(e, "const int i1 = first + r; (void)i1;");
		copy_line(e, s, PLACE, "place0", "places", s->run[PLACE], arena_printf(a, "left + r * %ld", (long)t->depth), "");
	} else {
		open_loop(e, "int k = 0; k < places; k++");
		emit_line(e, "const int i3 = place0 + k; (void)i3;");
		copy_line(e, s, ROW, "first", "rows", s->run[ROW], arena_printf(a, "left + k * %ld", (long)t->rows), "");
	}
	close_loop(e);
}

/* A panel of `many` columns from i2 on, the rest of its vectors zeros. */
static void
copy_panel(Emit *e, const Side *s)
{
	Kernel *k = e->k;
	int64_t run = s->run[COLUMN] == k->size[COLUMN] ? s->run[COLUMN] : gcd(s->run[COLUMN], 4);
	emit_line(e, "if (many < PANEL) memset(panel, 0, (size_t)places * PANEL * sizeof *panel);");
	if (s->turned && even(k, s)) {
		emit_line(e, "const int i2 = column0 + column, i3 = place0; (void)i2; (void)i3;");
		char *from = load_text(e, s->val);
		emit_line(e, "mm_turn(panel, PANEL, &%s, %ld, many, places);", from, (long)s->step[COLUMN]);
		free(from);
		return;
	}
	if (s->turned) {
		open_loop(e, "int j = 0; j < many; j++");
		emit_line(e, "const int i2 = column0 + column + j; (void)i2;");
		copy_line(e, s, PLACE, "place0", "places", s->run[PLACE], "panel + j", "PANEL");
	} else {
		open_loop(e, "int k = 0; k < places; k++");
		emit_line(e, "const int i3 = place0 + k; (void)i3;");
		copy_line(e, s, COLUMN, "column0 + column", "many", run, "panel + k * PANEL", "");
	}
	close_loop(e);
}

/* right, a panel of it, where it lies or copied. */
static void
put_right(Emit *e, const Side *s)
{
	emit_line(e, "const int many = columns - column < PANEL ? columns - column : PANEL;");
	emit_line(e, "const float *right = panel;");
	emit_line(e, "long next = PANEL;");
	if (!s->copied) {
		emit_line(e, "if (many == PANEL) {");
		e->indent++;
		emit_line(e, "const int i2 = column0 + column, i3 = place0; (void)i2; (void)i3;");
		char *at = load_text(e, s->val);
		emit_line(e, "right = &%s;", at);
		emit_line(e, "next = %ld;", (long)s->step[PLACE]);
		free(at);
		e->indent--;
		emit_line(e, "} else {");
	} else {
		emit_line(e, "{");
	}
	e->indent++;
	copy_panel(e, s);
	close_loop(e);
}

static bool
computed(const LVal *v)
{
	return v->kind != LV_CONST && v->kind != LV_INDEX && v->kind != LV_DOT;
}

/* Values that vary along these axes and no others of the kernel's inner ones. */
static void
put_values(Emit *e, const bool *need, unsigned inner, unsigned axes)
{
	for (int i = 0; i < e->k->nval; i++) {
		const LVal *v = e->k->val[i];
		if (!need[i] || !computed(v) || (v->axes & inner) != axes || e->place[i] != PL_NONE)
			continue;
		char *s = val_expr(e, v);
		emit_line(e, "const %s v%d = %s;", ctype(v->dt == DT_BOOL ? DT_I32 : v->dt), i, s);
		e->place[i] = PL_PLAIN;
		free(s);
	}
}

static void
forget(Emit *e, unsigned axes)
{
	for (int i = 0; i < e->k->nval; i++)
		if (e->place[i] == PL_PLAIN && e->k->val[i]->axes & axes)
			e->place[i] = PL_NONE;
}

static void
put_stores(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nstore; i++) {
		const LStore *s = &k->store[i];
		char *v = val_ref(e, s->val), *ix = ix_text(e, s->ix);
		if (s->column)
			emit_line(e, "sum%d[n] += %s;", i, v);
		else
			emit_line(e, "a%d[%s] = %s;", arg_index(k, s->node), ix, v);
		free(v);
		free(ix);
	}
}

/* What becomes of the tile's rows of a part. */
static void
put_results(Emit *e, const bool *need, const Tiles *t)
{
	const unsigned inner = 1u << ROW | 1u << COLUMN;
	open_loop(e, t->parts > 1 ? arena_printf(e->k->arena, "int m = 0; m < %ld; m++", (long)e->k->size[ROW]) : "int m = 0; m < rows; m++");
	emit_line(e, "const int i1 = first + m; (void)i1;");
	put_values(e, need, inner, 1u << ROW);
	emit_line(e, "#pragma omp simd");
	open_loop(e, "int n = 0; n < columns; n++");
	emit_line(e, "const int i2 = column0 + n; (void)i2;");
	put_values(e, need, inner, 1u << COLUMN);
	put_values(e, need, inner, inner);
	put_stores(e);
	close_loop(e);
	close_loop(e);
	forget(e, inner);
}

static void
zero_sums(Emit *e, const Tiles *t)
{
	for (int i = 0; i < e->k->nstore; i++)
		if (e->k->store[i].column)
			emit_line(e, "float sum%d[%ld] = {0};", i, (long)t->columns);
}

static void
put_sums(Emit *e)
{
	Kernel *k = e->k;
	for (int i = 0; i < k->nstore; i++) {
		const LStore *s = &k->store[i];
		if (!s->column)
			continue;
		char *ix = ix_text(e, s->ix);
		open_loop(e, "int n = 0; n < columns; n++");
		emit_line(e, "const int i2 = column0 + n;");
		emit_line(e, "a%d[%s] = sum%d[n];", arg_index(k, s->node), ix, i);
		close_loop(e);
		free(ix);
	}
}

/* The product of a tile's rows from `first` on. */
static void
put_product(Emit *e, const Side *left, const Side *right, const Tiles *t)
{
	Kernel *k = e->k;
	const char *ars, *acs;
	long places = (long)k->size[PLACE];
	put_part(e, "rows", "first", t->parts > 1 ? t->rows : k->size[ROW], t->rows);
	open_loop(e, arena_printf(k->arena, "int place0 = 0; place0 < %ld; place0 += %ld", places, (long)t->depth));
	put_part(e, "places", "place0", places, t->depth);
	put_left(e, left, t, &ars, &acs);
	if (!right->copied && t->rows <= LINES) {
		char *at = load_text(e, right->val);
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i2 = column0, i3 = place0; (void)i2; (void)i3;");
		emit_line(e, "mm_lines(rows, places, left, %s, %s, &%s, %ld, columns, v%d, %ld, place0 > 0);", ars, acs, at, (long)right->step[PLACE], k->product->id,
		          (long)t->wide);
		free(at);
		close_loop(e);
		close_loop(e);
		return;
	}
	open_loop(e, "int column = 0; column < columns; column += PANEL");
	put_right(e, right);
	emit_line(e, "mm_product(rows, %ld, %ld, PANEL / MM_LANES, places, left, %s, %s, right, next, v%d + column, %ld, place0 > 0);", (long)t->rows,
	          (long)(t->parts > 1 ? t->rows : k->size[ROW] - (t->down - 1) * t->rows), ars, acs, k->product->id, (long)t->wide);
	close_loop(e);
	close_loop(e);
}

static void
mark_index(const Emit *e, bool *need, const Ix *ix)
{
	for (int i = 0; i < ix->n; i++) {
		if (ix->t[i].a->kind == AT_VAL)
			need_value(e, need, ix->t[i].a->val);
		else if (ix->t[i].a->of)
			mark_index(e, need, ix->t[i].a->of);
	}
}

/* A tile, at part, first, column0. down: tiles that one piece sums up, place by place of the columns. */
static void
put_tile(Emit *e, const bool *need, const Side *left, const Side *right, const Tiles *t, int64_t down)
{
	Kernel *k = e->k;
	if (t->parts > 1) {
		emit_line(e, "{");
		e->indent++;
		emit_line(e, "const int i0 = part;");
		put_product(e, left, right, t);
		close_loop(e);
		open_loop(e, arena_printf(k->arena, "int i0 = part; i0 < part + %ld; i0++", (long)t->parts));
	} else {
		emit_line(e, "const int i0 = part; (void)i0;");
	}
	zero_sums(e, t);
	put_values(e, need, ~0u, 1u << PART);
	if (down > 1)
		open_loop(e, arena_printf(k->arena, "; first < %ld; first += %ld", (long)k->size[ROW], (long)t->rows));
	if (t->parts == 1)
		put_product(e, left, right, t);
	put_results(e, need, t);
	if (down > 1)
		close_loop(e);
	put_sums(e);
	if (t->parts > 1)
		close_loop(e);
}

/* Values that stores need; those that are the same everywhere are not asked for. */
static bool *
needed(Emit *e)
{
	Kernel *k = e->k;
	bool *need = arena_alloc(k->arena, (size_t)k->nval);
	e->lanes = ~0u;
	for (int i = 0; i < k->nstore; i++) {
		need_value(e, need, k->store[i].val);
		mark_index(e, need, k->store[i].ix);
	}
	for (int i = 0; i < k->nval; i++)
		need[i] |= !k->val[i]->axes;
	return need;
}

/* Where a copy of panels costs less than reading lines far apart, or they do not lie in vectors. */
static bool
copies_right(const Kernel *k, const Side *s, const Tiles *t)
{
	return !in_panels(k, s) && (s->turned || !even(k, s) || s->step[COLUMN] != 1 || (t->rows > FEW && k->size[COLUMN] > WIDE));
}

void
emit_product_c(Emit *e, Launch *l)
{
	Kernel *k = e->k;
	Side left = side_of(k, k->product->of[0], ROW), right = side_of(k, k->product->of[1], COLUMN);
	Tiles t = tiles_of(k, &left, &right);
	bool *need = needed(e);
	long turns = k->columns && t.parts == 1 ? (long)t.down : 1, down = (long)t.down / turns, pieces = (long)(k->size[PART] / t.parts * t.over) * down;
	left.copied = !even(k, &left) || (left.step[PLACE] != 1 && t.rows > 1 && k->size[PLACE] > 1);
	right.turned &= !(t.rows <= LINES && even(k, &right) && right.step[COLUMN] == 1);
	right.copied = copies_right(k, &right, &t);
	e->column = t.parts > 1 ? arena_printf(k->arena, "((i0 - part) * %ld + m) * %ld + n", (long)k->size[ROW], (long)t.wide) : arena_printf(k->arena, "m * %ld + n", (long)t.wide);
	e->place[k->product->id] = PL_SHARED;
	emit_line(e, "enum { PANEL = %ld <= MM_LANES ? MM_LANES : 2 * MM_LANES };", (long)k->size[COLUMN]);
	emit_line(e, "_Alignas(64) float v%d[%ld];", k->product->id, (long)(t.rows * t.wide));
	emit_line(e, "_Alignas(64) float panel[%ld * PANEL];", (long)t.depth);
	if (left.copied)
		emit_line(e, "_Alignas(64) float left[%ld];", (long)(t.rows * t.depth));
	put_values(e, need, ~0u, 0);
	l->grid = pieces > 1 && 2.0 * (double)k->outer * (double)k->row >= SHARED ? (int)pieces : 1;
	open_loop(e, l->grid > 1 ? "int o = (int)lo; o < (int)hi; o++" : arena_printf(k->arena, "int o = 0; o < %ld; o++", pieces));
	emit_line(e, "const int column0 = o %% %ld * %ld, block = o / %ld, part = block / %ld * %ld; (void)part;", (long)t.over, (long)t.columns, (long)t.over, down, (long)t.parts);
	put_part(e, "columns", "column0", k->size[COLUMN], t.columns);
	emit_line(e, "int first = block %% %ld * %ld; (void)first;", down, (long)t.rows);
	put_tile(e, need, &left, &right, &t, turns);
	close_loop(e);
}
