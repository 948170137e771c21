/* A model file to a Model: the sections, and what their values must be to each other. The keys themselves are read
   by table (model_keys.c). Errors are held while the file is read and come out in file order. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_AXIS "b"

/* ---- names ---- */

/* Whether v is a map with at least one entry. */
static bool
check_entries(Reader *r, const Key *k, const YNode *v)
{
	if (v->kind != Y_MAP)
		return wrong_value(r, k, v);
	if (!v->n)
		error_at(v->loc, "%s: expected %s, found none", k->name, key_what(r->a, k));
	return v->n;
}

static bool
check_name(const YPair *p, const char *what)
{
	if (is_identifier(p->key))
		return true;
	error_at(p->loc, "'%s' cannot be the name of %s: letters, digits and _, not starting with a digit", p->key, what);
	return false;
}

/* A name that expressions use: words of the tensor language cannot be one, and its parser knows them. */
static bool
check_network_name(Reader *r, const YPair *p, const char *what)
{
	if (!check_name(p, what))
		return false;
	const Ast *e = parse_expr(r->a, p->key, p->loc);
	if (e && e->kind == A_NAME)
		return true;
	if (e)
		error_at(p->loc, "'%s' cannot be the name of %s", p->key, what);
	note_at(p->loc, "'%s' is a word of the tensor language: choose another name for %s", p->key, what);
	return false;
}

/* No name may stand in two of the sections; the error is at the later one. */
static void
check_apart(const YNode *root, const char *section, const char *earlier, const char *what, const char *why)
{
	const YPair *a = yaml_pair(root, earlier), *b = yaml_pair(root, section);
	for (int i = 0; a && b && b->value->kind == Y_MAP && i < b->value->n; i++) {
		const YPair *p = &b->value->pair[i], *q = yaml_pair(a->value, p->key);
		if (!q)
			continue;
		error_at(p->loc, "%s '%s' has the name of an input: %s", what, p->key, why);
		note_at(q->loc, "the input is here");
	}
}

/* "from" left out: the column of that name, quoted as SQL quotes names. */
static char *
quote_name(Arena *a, const char *name)
{
	return arena_printf(a, "\"%s\"", name);
}

/* ---- data ---- */

bool
read_tables(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	d->table = arena_alloc(r->a, (size_t)v->n * sizeof *d->table);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		PlanTable *t = &d->table[d->ntable++];
		t->name = arena_strdup(r->a, p->key);
		t->loc = loc_text(r->a, p->loc);
		t->path = "";
		ok &= check_name(p, "a table");
		if (p->value->kind == Y_MAP) {
			ok &= read_keys(r, S_table, p->value, p->loc, arena_printf(r->a, "table '%s'", p->key), t);
		} else if (p->value->kind == Y_SCALAR && !yaml_null(p->value) && *p->value->s) {
			t->path = arena_strdup(r->a, p->value->s);
		} else {
			error_at(p->value->loc, "%s: expected a path, found %s", p->key, yaml_found(r->a, p->value));
			ok = false;
		}
	}
	return ok;
}

bool
read_split(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = rec;
	(void)k;
	if (!read_keys(r, S_split, v, v->loc, "split", d))
		return false;
	double sum = d->train + d->val + d->test;
	if (fabs(sum - 1) > 1e-9) {
		error_at(r->split_loc, "the shares of the split sum to %.10g, not 1: train %g, val %g, test %g (a share left out has its default)",
			sum, d->train, d->val, d->test);
		return false;
	}
	return true;
}

bool
read_data(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanData *d = &((Model *)rec)->data;
	const YPair *at = yaml_pair(r->root, "data"), *split = yaml_pair(v, "split"), *rows = yaml_pair(v, "rows"), *where = yaml_pair(v, "where");
	(void)k;
	r->split_loc = split ? split->loc : at->loc;
	d->loc = loc_text(r->a, rows ? rows->loc : at->loc);
	d->where_loc = loc_text(r->a, where ? where->loc : at->loc);
	d->split_loc = loc_text(r->a, r->split_loc);
	if (!read_keys(r, S_data, v, at->loc, "data", d))
		return false;
	if (!split) {
		YNode none = {.kind = Y_MAP, .loc = at->loc};
		read_split(r, NULL, &none, d);
	}
	if (!*d->rows && d->ntable > 1) {
		error_at(at->loc, "data lacks the key 'rows': how the %d tables are joined, such as %s LEFT JOIN %s USING (...)",
			(int)d->ntable, d->table[0].name, d->table[1].name);
		return false;
	}
	if (!*d->rows)
		d->rows = d->table[0].name;
	return true;
}

/* ---- inputs ---- */

/* Vocabulary, hash or size: exactly one of them makes the ids. */
static bool
check_ids(InputEntry *e, const YPair *entry)
{
	static const char *const way[] = {"size", "vocabulary", "hash"}; /* as PlanInput.ids counts them */
	const int64_t size[] = {e->size, e->vocabulary, e->hash};
	const YPair *given = NULL, *min_count = yaml_pair(entry->value, "min_count");
	bool ok = true;
	for (int i = 0; i < entry->value->n; i++) {
		const YPair *p = &entry->value->pair[i];
		uint32_t k = 0;
		while (k < LEN(way) && strcmp(way[k], p->key))
			k++;
		if (k == LEN(way))
			continue;
		if (given) {
			error_at(p->loc, "input '%s': '%s' and '%s' exclude each other: choose one", entry->key, given->key, p->key);
			ok = false;
			continue;
		}
		given = p;
		e->p.ids = k;
		e->p.size = size[k];
	}
	if (!given) {
		error_at(entry->loc, "input '%s' does not say how its ids are made: vocabulary: N or hash: N%s", entry->key,
			e->p.kind == IN_CATEGORY ? ", or size: N where the value is the id" : "");
		return false;
	}
	if (min_count && strcmp(given->key, "vocabulary")) {
		error_at(min_count->loc, "input '%s': min_count has a meaning only with vocabulary", entry->key);
		ok = false;
	}
	return ok;
}

static bool
check_axis(InputEntry *e, const YPair *entry)
{
	const YPair *axis = yaml_pair(entry->value, "axis");
	if (!e->axis || !*e->axis)
		e->axis = e->p.kind == IN_TEXT ? "t" : "k";
	if (axis && !strcmp(e->axis, BATCH_AXIS)) {
		error_at(axis->value->loc, "axis %s is the rows of the batch: choose another name", BATCH_AXIS);
		return false;
	}
	return true;
}

static bool
read_input(Reader *r, const YPair *p, InputEntry *e)
{
	e->p.name = arena_strdup(r->a, p->key);
	e->p.loc = loc_text(r->a, p->loc);
	e->p.width = 1;
	if (!read_keys(r, S_input, p->value, p->loc, arena_printf(r->a, "input '%s'", p->key), e))
		return false;
	if (!*e->p.from)
		e->p.from = quote_name(r->a, p->key);
	if (e->p.kind == IN_NUMBER)
		return true;
	bool ok = check_ids(e, p);
	return ((e->p.kind != IN_TEXT && e->p.kind != IN_TAGS) || check_axis(e, p)) && ok;
}

bool
read_inputs(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->data.input = arena_alloc(r->a, (size_t)v->n * sizeof *m->data.input);
	m->input_loc = arena_alloc(r->a, (size_t)v->n * sizeof *m->input_loc);
	m->axis = arena_alloc(r->a, (size_t)v->n * sizeof *m->axis);
	for (int i = 0; i < v->n; i++) {
		InputEntry e = {0};
		ok &= check_network_name(r, &v->pair[i], "an input");
		ok &= read_input(r, &v->pair[i], &e);
		m->axis[i] = e.p.width > 1 ? e.axis : NULL;
		m->input_loc[i] = v->pair[i].loc;
		m->data.input[m->data.ninput++] = e.p;
	}
	return ok;
}

/* ---- targets ---- */

bool
read_above(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanTarget *t = rec;
	const YPair *q = yaml_pair(v, "quantile");
	bool whole;
	if (v->kind == Y_MAP && v->n == 1 && q) {
		t->above = AB_QUANTILE;
		if (yaml_number(q->value, &t->threshold, &whole) && t->threshold > 0 && t->threshold < 1)
			return true;
		error_at(q->value->loc, "quantile: expected a number greater than 0 and less than 1, found %s", yaml_found(r->a, q->value));
		return false;
	}
	t->above = AB_VALUE;
	return (yaml_number(v, &t->threshold, &whole) && isfinite(t->threshold)) || wrong_value(r, k, v);
}

static bool
check_target_name(const YPair *p)
{
	if (strcmp(p->key, "loss"))
		return check_name(p, "a target");
	error_at(p->loc, "a target cannot be named loss: val.loss is the sum of all losses");
	return false;
}

bool
read_targets(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->data.target = arena_alloc(r->a, (size_t)v->n * sizeof *m->data.target);
	m->target_loc = arena_alloc(r->a, (size_t)v->n * sizeof *m->target_loc);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		PlanTarget *t = &m->data.target[m->data.ntarget++];
		t->name = arena_strdup(r->a, p->key);
		t->loc = loc_text(r->a, p->loc);
		t->from = "";
		m->target_loc[i] = p->loc;
		ok &= check_target_name(p);
		ok &= read_keys(r, S_target, p->value, p->loc, arena_printf(r->a, "target '%s'", p->key), t);
		if (!*t->from)
			t->from = quote_name(r->a, p->key);
	}
	return ok;
}

static const PlanTarget *
find_target(const Model *m, const char *name, size_t n)
{
	for (uint32_t i = 0; i < m->data.ntarget; i++)
		if (strlen(m->data.target[i].name) == n && !strncmp(m->data.target[i].name, name, n))
			return &m->data.target[i];
	return NULL;
}

/* ---- network and losses ---- */

bool
read_network(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->net = arena_alloc(r->a, (size_t)v->n * sizeof *m->net);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		NetEntry *e = &m->net[m->nnet++];
		*e = (NetEntry){p->key, NULL, p->loc};
		ok &= check_network_name(r, p, "a network entry");
		ok &= read_code(r, p->key, p->value, &e->expr);
	}
	return ok;
}

bool
read_pos_weight(Reader *r, const Key *k, const YNode *v, void *rec)
{
	LossEntry *e = rec;
	bool whole;
	e->positive_weight = 1;
	if (v->kind == Y_SCALAR && !strcmp(v->s, "balanced"))
		return e->balanced = true;
	return (yaml_number(v, &e->positive_weight, &whole) && e->positive_weight > 0 && isfinite(e->positive_weight)) ||
		wrong_value(r, k, v);
}

bool
read_losses(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (!check_entries(r, k, v))
		return false;
	m->loss = arena_alloc(r->a, (size_t)v->n * sizeof *m->loss);
	for (int i = 0; i < v->n; i++) {
		const YPair *p = &v->pair[i];
		LossEntry *e = &m->loss[m->nloss++];
		e->name = p->key;
		e->loc = p->loc;
		ok &= read_keys(r, S_loss, p->value, p->loc, arena_printf(r->a, "the loss of '%s'", p->key), e);
	}
	return ok;
}

static void
report_no_target(const Model *m, const YPair *p)
{
	const char *name[64], *near;
	size_t n = 0;
	while (n < m->data.ntarget && n < LEN(name)) {
		name[n] = m->data.target[n].name;
		n++;
	}
	near = nearest_name(p->key, name, n);
	error_at(p->loc, "there is no target '%s'%s%s%s", p->key, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static bool
has_type(const YNode *entry, const char *type)
{
	const YPair *p = yaml_pair(entry, "type");
	return p && p->value->kind == Y_SCALAR && !strcmp(p->value->s, type);
}

/* Losses and targets belong to each other, one to one. */
static void
check_losses(Reader *r)
{
	const Model *m = r->m;
	const YPair *losses = yaml_pair(r->root, "losses"), *targets = yaml_pair(r->root, "targets");
	if (!losses || !targets || losses->value->kind != Y_MAP || targets->value->kind != Y_MAP)
		return; /* reported */
	for (int i = 0; i < losses->value->n; i++) {
		const YPair *p = &losses->value->pair[i], *pw = yaml_pair(p->value, "positive_weight");
		const PlanTarget *t = find_target(m, p->key, strlen(p->key));
		if (!t)
			report_no_target(m, p);
		else if (pw && has_type(yaml_pair(targets->value, p->key)->value, "number"))
			error_at(pw->loc, "positive_weight has a meaning only for a binary target; '%s' is a number", p->key);
	}
	for (int i = 0; i < targets->value->n; i++) {
		const YPair *p = &targets->value->pair[i];
		if (!yaml_pair(losses->value, p->key))
			error_at(p->loc, "target '%s' has no loss: add `%s: {of: ..., loss: ...}` under losses", p->key, p->key);
	}
}

/* ---- training ---- */

bool
read_early_stop(Reader *r, const Key *k, const YNode *v, void *rec)
{
	(void)k;
	r->early_stop = v;
	return read_keys(r, S_early_stop, v, v->loc, "early_stop", &((Model *)rec)->train);
}

bool
read_train(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	const YPair *at = yaml_pair(r->root, "train");
	(void)k;
	if (yaml_null(v)) {
		error_at(at->loc, "train: expected a map of keys, found nothing: `train: {}` takes all defaults");
		return false;
	}
	if (!read_keys(r, S_train, v, at->loc, "train", m))
		return false;
	if (!r->early_stop) {
		YNode none = {.kind = Y_MAP};
		read_keys(r, S_early_stop, &none, at->loc, "early_stop", &m->train);
		m->train.patience = 0;
	}
	return true;
}

/* A metric's row for a target's kind; NULL if it has none of that name. */
static const Choice *
find_metric(const PlanTarget *t, const char *name)
{
	return find_choice(t->kind == TG_BINARY ? V_binary_metric : V_number_metric, name);
}

static void
report_metric(Reader *r, Loc at, const PlanTarget *t)
{
	Key k = {.type = t->kind == TG_BINARY ? V_binary_metric : V_number_metric, .range = ""};
	error_at(at, "on: '%s' is no metric of target '%s': %s", r->m->train.stop_on, t->name, key_what(r->a, &k));
}

/* val.loss, val.TARGET.METRIC, or val.METRIC where one target alone has the metric; the last is written out. */
static void
check_stop(Reader *r)
{
	PlanTrain *t = &r->m->train;
	const PlanData *d = &r->m->data;
	const YPair *on = r->early_stop ? yaml_pair(r->early_stop, "on") : NULL;
	if (r->early_stop && d->val == 0 && d->train > 0 && t->patience > 0)
		error_at(r->early_stop->loc, "early_stop watches the validation rows, but split gives them no share: set val under data, split");
	if (!on || !strcmp(t->stop_on, "val.loss") || !*t->stop_on)
		return;
	Loc at = on->value->loc;
	const char *rest = t->stop_on + 4, *dot = strncmp(t->stop_on, "val.", 4) ? NULL : strchr(rest, '.');
	const PlanTarget *target = NULL;
	const Choice *c = NULL;
	if (strncmp(t->stop_on, "val.", 4)) {
		error_at(at, "on: expected val.loss or val.TARGET.METRIC, found '%s'", t->stop_on);
	} else if (dot) {
		if (!(target = find_target(r->m, rest, (size_t)(dot - rest))))
			error_at(at, "on: there is no target '%.*s' in '%s'", (int)(dot - rest), rest, t->stop_on);
		else if (!(c = find_metric(target, dot + 1)))
			report_metric(r, at, target);
	} else {
		int n = 0;
		for (uint32_t i = 0; i < d->ntarget; i++)
			if (find_metric(&d->target[i], rest) && ++n)
				target = &d->target[i];
		if (n == 1)
			c = find_metric(target, rest);
		else
			error_at(at, "on: '%s' is a metric of %s: write val.TARGET.METRIC", t->stop_on, n ? "more than one target" : "no target");
	}
	if (c) {
		t->stop_on = arena_printf(r->a, "val.%s.%s", target->name, c->name);
		t->maximize = c->value;
	}
}

/* ---- the file ---- */

static const char *
folder_of(Arena *a, const char *path)
{
	const char *slash = strrchr(path, '/');
	return !slash ? "." : slash == path ? "/" : arena_strndup(a, path, (size_t)(slash - path));
}

/* The file's name without folder and suffix, as an identifier. */
static char *
name_of(Arena *a, const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
	char *s = arena_printf(a, "_%.*s", dot && dot > base ? (int)(dot - base) : (int)strlen(base), base);
	for (char *p = s; *p; p++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789", *p))
			*p = '_';
	return is_identifier(s + 1) ? s + 1 : s;
}

static void
list_losses(Model *m, Arena *a)
{
	PlanTrain *t = &m->train;
	t->losses = arena_alloc(a, ((size_t)m->nloss + 1) * sizeof *t->losses);
	t->losses[t->nlosses++] = "loss";
	for (int i = 0; i < m->nloss; i++)
		t->losses[t->nlosses++] = arena_strdup(a, m->loss[i].name);
}

static void
read_root(Reader *r, const char *path)
{
	Model *m = r->m;
	read_keys(r, S_root, r->root, r->top, "the model file", m);
	if (r->root->kind != Y_MAP)
		return;
	if (!*m->name)
		m->name = name_of(r->a, path);
	check_apart(r->root, "targets", "inputs", "target", "the network could read what it shall predict; choose another name");
	check_apart(r->root, "network", "inputs", "network entry", "choose another name");
	check_losses(r);
	if (yaml_pair(r->root, "targets"))
		check_stop(r);
	list_losses(m, r->a);
}

Model *
model_read(Arena *a, const char *path)
{
	int before = error_count();
	Model *m = arena_alloc(a, sizeof *m);
	Reader r = {.a = a, .m = m};
	diag_hold();
	r.root = yaml_read(a, path, &m->file);
	if (r.root) {
		r.top = (Loc){m->file, 1, 1};
		m->data.base = (char *)(uintptr_t)folder_of(a, path);
		read_root(&r, path);
	}
	diag_release();
	return error_count() == before ? m : NULL;
}
