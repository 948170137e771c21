/* Training, validation and test rows.

   A unit is a group (all rows with one value of the group expression; rows without a value are one group), or a row.
   Units are put in the order of mix64(seed, hash of the group's text, or the row's number), ties by text, and the
   first share of them trains, the next validates, the rest tests. So where a group falls in that order depends on
   its name and the seed alone, not on other groups or on the order of rows.

   Stratified: the same within each class, the rounding of one class carried over to the next, so that classes keep their
   shares and the splits their sizes. A group's class is that of most of its rows (the first by bytes where equal).
   A split with a share above zero gets at least one unit as long as there are units enough.

   In order: units stand in the order of a number in place of the hash. Folds: unit k of that order tests in fold
   1 + k % folds, the others train and validate. Rows whose split is given are no units. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Unit {
	const char *name; /* the group; "" for a row */
	const char *class;
	double place; /* of the first row, where order is asked for */
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
	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
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
make_units(const Rows *r, uint64_t seed, const signed char *given, Member *m, Unit *u)
{
	int64_t n = 0, members = 0;
	for (int64_t i = 0; i < r->kept; i++)
		if (!given[r->order[i]])
			m[members++] = (Member){text_or_empty(r->group, r->order[i]), text_or_empty(r->stratify, r->order[i]), r->order[i]};
	if (r->group)
		qsort(m, (size_t)members, sizeof *m, by_group);
	for (int64_t i = 0, j; i < members; i = j) {
		double place = r->order_by ? r->order_by->num[m[i].row] : 0;
		for (j = i + 1; r->group && j < members && !strcmp(m[j].group, m[i].group); j++)
			if (r->order_by && r->order_by->num[m[j].row] < place)
				place = r->order_by->num[m[j].row];
		uint64_t name = r->group ? hash_word(m[i].group, strlen(m[i].group)) : (uint64_t)m[i].row;
		u[n++] = (Unit){m[i].group, main_class(m + i, j - i), isnan(place) ? -INFINITY : place, mix64(mix64(seed) ^ name), i, j - i, 2};
	}
	return n;
}

/* 1, 2, 3 for rows whose split is given, in *given. */
static bool
read_given(const Rows *r, signed char *given, int64_t *count, Err *e)
{
	static const char *const names[3] = {"train", "val", "test"};
	*count = 0;
	for (int64_t i = 0; r->given && i < r->kept; i++) {
		const char *v = expr_text(r->given, r->order[i]);
		int k = 0;
		while (v && k < 3 && strcmp(v, names[k]))
			k++;
		if (k == 3)
			return fail(e, "%s: split: given is '%.40s' at %s:%lld; it must be train, val, test or NULL\n  in: %s", r->given->loc, v, r->file,
			            (long long)r->line[r->order[i]], r->given->sql);
		if (v) {
			given[r->order[i]] = (signed char)(k + 1);
			++*count;
		}
	}
	return true;
}

/* Every folds-th unit, from the fold-th on, tests: they go to the end of the class; returns how many are before them.
   at: units of the classes before. */
static int64_t
take_fold(Unit *u, int64_t n, int64_t at, int64_t folds, int64_t fold)
{
	Unit *test = xmalloc((size_t)n * sizeof *test);
	int64_t rest = 0, ntest = 0;
	for (int64_t i = 0; i < n; i++)
		if ((at + i) % folds == fold - 1)
			test[ntest++] = u[i];
		else
			u[rest++] = u[i];
	memcpy(u + rest, test, (size_t)ntest * sizeof *u);
	free(test);
	return rest;
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
order_rows(Rows *r, signed char *split, const Member *m, const Unit *u, int64_t n)
{
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
}

static bool
check_fold(const PlanData *d, int64_t fold, Err *e)
{
	if (!d->folds && fold > 0)
		return fail(e, "%s: --fold %lld: the model has no folds; add `folds: N` under data, split", d->loc, (long long)fold);
	return !d->folds || (fold >= 1 && fold <= d->folds) || fail(e, "%s: fold %lld of %lld folds: they count from 1", d->loc, (long long)fold, (long long)d->folds);
}

bool
rows_split(Source *s, Rows *r, uint64_t seed, Err *e)
{
	const PlanData *d = s->d;
	double share[3] = {d->train, d->val, d->test}, carry[2] = {0}, both = d->train + d->val;
	int64_t fold = s->o->fold > 0 ? s->o->fold : d->fold, given;
	signed char *split = xcalloc((size_t)r->n + 1, 1);
	if (!check_fold(d, fold, e) || !read_given(r, split, &given, e)) {
		free(split);
		return false;
	}
	if (d->folds) {
		share[0] = d->train / both;
		share[1] = d->val / both;
		share[2] = 0;
	}
	Member *m = xmalloc((size_t)r->kept * sizeof *m);
	Unit *u = xmalloc((size_t)r->kept * sizeof *u);
	int64_t n = make_units(r, seed, split, m, u);
	qsort(u, (size_t)n, sizeof *u, by_order);
	for (int64_t i = 0, j; i < n; i = j) {
		for (j = i + 1; j < n && !strcmp(u[j].class, u[i].class);)
			j++;
		assign_class(u + i, d->folds ? take_fold(u + i, j - i, i, d->folds, fold) : j - i, share, carry);
	}
	fill_empty(u, n, share);
	order_rows(r, split, m, u, n);
	static const char *const names[3] = {"train", "validation", "test"};
	int64_t groups[3] = {0};
	for (int64_t i = 0; i < n; i++)
		groups[u[i].split]++;
	text_printf(&s->report, "split by %s, %s%s", r->group ? d->group : "row", r->order_by ? "in the order of " : "seed ", r->order_by ? d->order : "");
	if (!r->order_by)
		text_printf(&s->report, "%llu", (unsigned long long)seed);
	if (d->folds)
		text_printf(&s->report, ", fold %lld of %lld", (long long)fold, (long long)d->folds);
	text_printf(&s->report, "%s%s\n", r->stratify ? ", stratified by " : "", r->stratify ? d->stratify : "");
	if (r->given)
		text_printf(&s->report, "    %lld rows are in the split that %s names\n", (long long)given, d->given);
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
	free(split);
	if (r->split[1] > 0)
		return true;
	return fail(e, "%s: split: the training split is empty: %lld rows%s and train: %g; raise train, or read more rows%s", d->split_loc,
	            (long long)r->kept, r->group ? arena_printf(&s->mem, " in %lld groups", (long long)n) : "", d->train,
	            r->group ? " or groups" : "");
}
