/* A model file to a Model: network, losses and training, and what their values must be to each other. What the file says
   of data is model_data.c's; the keys themselves are read by table (model_keys.c). Errors are held while the file is read and come out in file order. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* Whether v is a map with at least one entry. */
bool
check_entries(Reader *r, const Key *k, const YNode *v)
{
	if (v->kind != Y_MAP)
		return wrong_value(r, k, v);
	if (!v->n)
		error_at(v->loc, "%s: expected %s, found none", k->name, key_what(r->a, k));
	return v->n;
}

bool
check_name(const YPair *p, const char *what)
{
	if (is_identifier(p->key))
		return true;
	error_at(p->loc, "'%s' cannot be the name of %s: letters, digits and _, not starting with a digit", p->key, what);
	return false;
}

/* A name that expressions use: words of the tensor language cannot be one, and its parser knows them. */
bool
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
read_weight(Reader *r, const Key *k, const YNode *v, void *rec)
{
	LossEntry *e = rec;
	bool whole;
	e->weight = 1;
	if (v->kind == Y_SCALAR && !strcmp(v->s, "learned"))
		return e->learned = true;
	return (yaml_number(v, &e->weight, &whole) && e->weight > 0 && isfinite(e->weight)) || wrong_value(r, k, v);
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

static const char *
yaml_type(const YNode *entry)
{
	const YPair *p = yaml_pair(entry, "type");
	return !p ? "of no type" : !strcmp(p->value->s, "number") ? "a number" : p->value->s;
}

/* Each target has one loss; a loss without target has no key loss. */
static void
check_losses(Reader *r)
{
	const Model *m = r->m;
	const YPair *losses = yaml_pair(r->root, "losses"), *targets = yaml_pair(r->root, "targets");
	if (!losses || !targets || losses->value->kind != Y_MAP || targets->value->kind != Y_MAP)
		return; /* reported */
	for (int i = 0; i < losses->value->n; i++) {
		const YPair *p = &losses->value->pair[i], *pw = yaml_pair(p->value, "positive_weight"), *pr = yaml_pair(p->value, "predict");
		const YPair *w = yaml_pair(p->value, "weight");
		const PlanTarget *t = find_target(m, p->key, strlen(p->key));
		const YNode *entry = t ? yaml_pair(targets->value, p->key)->value : NULL;
		if (!t && yaml_pair(p->value, "loss"))
			report_no_target(m, p);
		else if (t && !yaml_pair(p->value, "loss"))
			error_at(p->loc, "the loss of '%s' lacks the key 'loss': a loss of the library such as mse, bce or cross_entropy, or a call of one", p->key);
		else if (pw && (!t || !has_type(entry, "binary")))
			error_at(pw->loc, "positive_weight has a meaning only for a binary target; '%s' is %s", p->key, t ? yaml_type(entry) : "a penalty");
		else if (!t && w && m->loss[i].learned)
			error_at(w->value->loc, "a penalty has no noise of which a weight could be learned: '%s' is no target", p->key);
		else if (pr && (!t || t->kind != TG_TENSOR))
			error_at(pr->loc, "predict has a meaning only for an image or a tensor; '%s' is %s", p->key, t ? yaml_type(entry) : "a penalty");
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
read_plateau(Reader *r, const Key *k, const YNode *v, void *rec)
{
	(void)k;
	r->plateau = v;
	return read_keys(r, S_plateau, v, v->loc, "plateau", &((Model *)rec)->train);
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
	if (!r->plateau)
		m->train.plateau_on = "";
	if (!r->early_stop) {
		YNode none = {.kind = Y_MAP};
		read_keys(r, S_early_stop, &none, at->loc, "early_stop", &m->train);
		m->train.patience = 0;
	}
	return true;
}

/* A metric's row for a target's kind; NULL if it has none of that name. */
static const ValueType metric_type[] = {
	[TG_NUMBER] = V_number_metric, [TG_BINARY] = V_binary_metric, [TG_CLASS] = V_class_metric,
	[TG_LABELS] = V_labels_metric, [TG_TENSOR] = V_tensor_metric, [TG_NEXT] = V_next_metric,
};

static const Choice *
find_metric(const PlanTarget *t, const char *name)
{
	return find_choice(metric_type[t->kind], name);
}

/* val.loss, val.TARGET.METRIC, or val.METRIC where one target alone has the metric; the last is written out in *name. section: what
   has the key `on`, or NULL. *maximize: the metric is better when larger. */
static void
check_watched(Reader *r, const YNode *section, char **name, uint32_t *maximize)
{
	const PlanData *d = &r->m->data;
	const YPair *on = section ? yaml_pair(section, "on") : NULL;
	if (!on || !strcmp(*name, "val.loss") || !**name)
		return;
	Loc at = on->value->loc;
	const char *rest = *name + 4, *dot = strncmp(*name, "val.", 4) ? NULL : strchr(rest, '.');
	const PlanTarget *target = NULL;
	const Choice *c = NULL;
	if (strncmp(*name, "val.", 4)) {
		error_at(at, "on: expected val.loss or val.TARGET.METRIC, found '%s'", *name);
	} else if (dot) {
		Key k = {.range = ""};
		if (!(target = find_target(r->m, rest, (size_t)(dot - rest))))
			error_at(at, "on: there is no target '%.*s' in '%s'", (int)(dot - rest), rest, *name);
		else if (!(c = find_metric(target, dot + 1))) {
			k.type = metric_type[target->kind];
			error_at(at, "on: '%s' is no metric of target '%s': %s", *name, target->name, key_what(r->a, &k));
		}
	} else {
		int n = 0;
		for (uint32_t i = 0; i < d->ntarget; i++)
			if (find_metric(&d->target[i], rest) && ++n)
				target = &d->target[i];
		if (n == 1)
			c = find_metric(target, rest);
		else
			error_at(at, "on: '%s' is a metric of %s: write val.TARGET.METRIC", *name, n ? "more than one target" : "no target");
	}
	if (c) {
		*name = arena_printf(r->a, "val.%s.%s", target->name, c->name);
		*maximize = c->value;
	}
}

/* What watches validation needs rows for it. */
static void
check_watchers(Reader *r)
{
	PlanTrain *t = &r->m->train;
	const PlanData *d = &r->m->data;
	bool no_rows = d->val == 0 && d->train > 0;
	if (r->early_stop && no_rows && t->patience > 0)
		error_at(r->early_stop->loc, "early_stop watches the validation rows, but split gives them no share: set val under data, split");
	if (r->plateau && no_rows)
		error_at(r->plateau->loc, "plateau watches the validation rows, but split gives them no share: set val under data, split");
	check_watched(r, r->early_stop, &t->stop_on, &t->maximize);
	check_watched(r, r->plateau, &t->plateau_on, &t->plateau_maximize);
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
		check_watchers(r);
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
