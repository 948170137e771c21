/* Training, validation and test rows.

   A unit is a group (all rows with one value of the group expression; rows without a value are one group), or a row.
   Units are put in the order of mix64(seed, hash of the group's text, or the row's number), ties by text, and the
   first share of them trains, the next validates, the rest tests. So where a group falls in that order depends on
   its name and the seed alone, not on other groups or on the order of rows.

   Stratified: the same within each class, the rounding of one class carried over to the next, so that classes keep their
   shares and the splits their sizes. A group's class is that of most of its rows (the first by bytes where equal).
   A split with a share above zero gets at least one unit as long as there are units enough. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Unit {
	const char *name; /* the group; "" for a row */
	const char *class;
	uint64_t order;
	int64_t first, n; /* rows: a range of `row` below */
	int split;
} Unit;

typedef struct Member {
	const char *group, *class;
	int64_t row;
} Member;

static const char *
text_or_empty(const Expr *x, int64_t row)
{
	const char *t = x ? expr_text(x, row) : NULL;
	return t ? t : "";
}

static int
by_group(const void *x, const void *y)
{
	const Member *a = x, *b = y;
	int c = strcmp(a->group, b->group);
	if (!c)
		c = strcmp(a->class, b->class);
	return c ? c : (a->row > b->row) - (a->row < b->row);
}

static int
by_order(const void *x, const void *y)
{
	const Unit *a = x, *b = y;
	int c = strcmp(a->class, b->class);
	if (c)
		return c;
	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	c = strcmp(a->name, b->name);
	return c ? c : (a->first > b->first) - (a->first < b->first);
}

/* The most frequent class of members sorted by class. */
static const char *
main_class(const Member *m, int64_t n)
{
	int64_t best = 0;
	const char *class = "";
	for (int64_t i = 0, j; i < n; i = j) {
		for (j = i; j < n && !strcmp(m[j].class, m[i].class);)
			j++;
		if (j - i > best) {
			best = j - i;
			class = m[i].class;
		}
	}
	return class;
}

static int64_t
make_units(const Rows *r, uint64_t seed, Member *m, Unit *u)
{
	int64_t n = 0;
	for (int64_t i = 0; i < r->kept; i++)
		m[i] = (Member){text_or_empty(r->group, r->order[i]), text_or_empty(r->stratify, r->order[i]), r->order[i]};
	if (r->group)
		qsort(m, (size_t)r->kept, sizeof *m, by_group);
	for (int64_t i = 0, j; i < r->kept; i = j) {
		for (j = i + 1; r->group && j < r->kept && !strcmp(m[j].group, m[i].group);)
			j++;
		uint64_t name = r->group ? hash_word(m[i].group, strlen(m[i].group)) : (uint64_t)m[i].row;
		u[n++] = (Unit){m[i].group, main_class(m + i, j - i), mix64(mix64(seed) ^ name), i, j - i, 2};
	}
	return n;
}

/* Assigns a class's units u[0..n): carry holds what earlier classes owe to training and validation. */
static void
assign_class(Unit *u, int64_t n, const double share[3], double carry[2])
{
	int64_t left = n;
	for (int k = 0; k < 2; k++) {
		double want = share[k] * (double)n + carry[k];
		int64_t take = (int64_t)floor(want + 0.5);
		take = take < 0 ? 0 : take > left ? left : take;
		if (k == 1 && share[2] == 0)
			take = left;
		carry[k] = want - (double)take;
		for (int64_t i = 0; i < take; i++)
			u[n - left + i].split = k;
		left -= take;
	}
}

/* Gives an empty split with a share a unit of the largest one. */
static void
fill_empty(Unit *u, int64_t n, const double share[3])
{
	for (int k = 0; k < 3; k++) {
		int64_t count[3] = {0};
		for (int64_t i = 0; i < n; i++)
			count[u[i].split]++;
		int most = count[0] >= count[1] && count[0] >= count[2] ? 0 : count[1] >= count[2] ? 1 : 2;
		if (count[k] || share[k] <= 0 || count[most] < 2)
			continue;
		int64_t i = n;
		while (u[--i].split != most)
			;
		u[i].split = k;
	}
}

static void
order_rows(Rows *r, const Member *m, const Unit *u, int64_t n)
{
	signed char *split = xcalloc((size_t)r->n, 1);
	int64_t at = 0;
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < u[i].n; j++)
			split[m[u[i].first + j].row] = (signed char)(u[i].split + 1);
	for (int k = 0; k < 3; k++) {
		r->split[k] = at;
		for (int64_t row = 0; row < r->n; row++)
			if (split[row] == k + 1)
				r->order[at++] = row;
	}
	r->split[3] = at;
	free(split);
}

bool
rows_split(Source *s, Rows *r, uint64_t seed, Err *e)
{
	const PlanData *d = s->d;
	const double share[3] = {d->train, d->val, d->test};
	double carry[2] = {0};
	Member *m = xmalloc((size_t)r->kept * sizeof *m);
	Unit *u = xmalloc((size_t)r->kept * sizeof *u);
	int64_t n = make_units(r, seed, m, u);
	qsort(u, (size_t)n, sizeof *u, by_order);
	for (int64_t i = 0, j; i < n; i = j) {
		for (j = i + 1; j < n && !strcmp(u[j].class, u[i].class);)
			j++;
		assign_class(u + i, j - i, share, carry);
	}
	fill_empty(u, n, share);
	order_rows(r, m, u, n);
	static const char *const names[3] = {"train", "validation", "test"};
	int64_t groups[3] = {0};
	for (int64_t i = 0; i < n; i++)
		groups[u[i].split]++;
	text_printf(&s->report, "split by %s, seed %llu%s%s\n", r->group ? d->group : "row", (unsigned long long)seed,
	            r->stratify ? ", stratified by " : "", r->stratify ? d->stratify : "");
	for (int k = 0; k < 3; k++) {
		text_printf(&s->report, "    %-10s %8lld rows", names[k], (long long)(r->split[k + 1] - r->split[k]));
		if (r->group)
			text_printf(&s->report, " %8lld groups", (long long)groups[k]);
		text_puts(&s->report, "\n");
	}
	if (r->group && r->group->missing)
		text_printf(&s->report, "    %lld rows without a group value count as one group\n", (long long)r->group->missing);
	free(m);
	free(u);
	if (r->split[1] > 0)
		return true;
	return fail(e, "%s: split: the training split is empty: %lld rows%s and train: %g; raise train, or read more rows%s", d->split_loc,
	            (long long)r->kept, r->group ? arena_printf(&s->mem, " in %lld groups", (long long)n) : "", d->train,
	            r->group ? " or groups" : "");
}
