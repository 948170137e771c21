/* Reading by the key table: grammar/model.def becomes C tables here, one loop walks a section's keys, and one
   function reads each type of value. What a value means for the others is model.c's. */
#define _POSIX_C_SOURCE 200809L /* access */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const SectionInfo sections[NSECTION] = {
#define SECTION(id, rec, title, help) {#id, title, help},
#include "../grammar/model.def"
};

#define SECTION(id, rec, title, help) typedef rec Rec_##id;
#include "../grammar/model.def"

const Key keys[] = {
#define KEY(section, key, type, def, range, when, field, help) \
	{S_##section, #key, V_##type, def, range, when, offsetof(Rec_##section, field), help},
#include "../grammar/model.def"
};
const int nkeys = LEN(keys);

const Choice choices[] = {
#define CHOICE(type, name, value, help) {V_##type, #name, value, help},
#include "../grammar/model.def"
};
const int nchoices = LEN(choices);

typedef enum Store { ST_STR, ST_I64, ST_U64, ST_U32, ST_F64, ST_AST, ST_OWN } Store;

static const struct {
	const char *what;
	Store store;
	bool (*read)(Reader *r, const Key *k, const YNode *v, void *rec);
} types[NVALUETYPE] = {
#define TYPE(id, reader, store, what) {what, ST_##store, reader},
#include "../grammar/model.def"
};

#define MAX_CODE 16384 /* bytes of one expression */
#define FIELD(type, rec, k) ((type *)(void *)((char *)(rec) + (k)->off))

/* ---- what a key takes, in words ---- */

typedef struct Range {
	double lo, hi;
	bool open_lo, open_hi;
} Range;

static Range
parse_range(const char *s)
{
	Range r = {-INFINITY, INFINITY, false, false};
	char *end;
	if (*s) {
		r.open_lo = *s == '(';
		r.lo = strtod(s + 1, &end);
		r.hi = strtod(end + 1, &end);
		r.open_hi = *end == ')';
	}
	return r;
}

static bool
in_range(double x, const char *range)
{
	Range r = parse_range(range);
	return isfinite(x) && (r.open_lo ? x > r.lo : x >= r.lo) && (r.open_hi ? x < r.hi : x <= r.hi);
}

static void
say_range(Text *t, const char *range)
{
	Range r = parse_range(range);
	if (!*range)
		return;
	if (isinf(r.hi))
		text_printf(t, r.open_lo ? " greater than %.15g" : ", at least %.15g", r.lo);
	else if (!r.open_lo && !r.open_hi)
		text_printf(t, " from %.15g to %.15g", r.lo, r.hi);
	else
		text_printf(t, " %s %.15g and %s %.15g", r.open_lo ? "greater than" : "at least", r.lo,
			r.open_hi ? "less than" : "at most", r.hi);
}

static void
say_choices(Text *t, ValueType type, bool alone)
{
	int n = 0, k = 0;
	for (int i = 0; i < nchoices; i++)
		n += choices[i].type == type;
	if (n)
		text_puts(t, alone ? "" : " ");
	for (int i = 0; i < nchoices; i++)
		if (choices[i].type == type) {
			text_puts(t, k == 0 ? "" : k < n - 1 ? ", " : n > 2 ? ", or " : " or ");
			text_puts(t, choices[i].name);
			k++;
		}
}

char *
key_what(Arena *a, const Key *k)
{
	Text t = {0};
	text_puts(&t, types[k->type].what);
	say_choices(&t, k->type, !*types[k->type].what);
	say_range(&t, k->range);
	char *s = arena_strdup(a, t.s);
	free(t.s);
	return s;
}

bool
wrong_value(Reader *r, const Key *k, const YNode *v)
{
	double x;
	bool whole;
	error_at(v->loc, "%s: expected %s, found %s", k->name, key_what(r->a, k), yaml_found(r->a, v));
	if (v->kind == Y_SCALAR && !v->plain && v->s[0]) {
		YNode bare = {.s = v->s, .plain = true};
		Store st = types[k->type].store;
		if ((st == ST_I64 || st == ST_U64 || st == ST_F64) && yaml_number(&bare, &x, &whole))
			note_at(v->loc, "a number is written without quotes");
	}
	return false;
}

const Choice *
find_choice(ValueType t, const char *name)
{
	for (int i = 0; i < nchoices; i++)
		if (choices[i].type == t && !strcmp(choices[i].name, name))
			return &choices[i];
	return NULL;
}

bool
is_identifier(const char *s)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
	return *s && !(*s >= '0' && *s <= '9') && !s[strspn(s, letters)];
}

/* ---- readers of one value ---- */

static bool
has_text(const YNode *v)
{
	return v->kind == Y_SCALAR && !yaml_null(v) && v->s[strspn(v->s, " \t\r\n")];
}

bool
read_text(Reader *r, const Key *k, const YNode *v, void *rec)
{
	if (!has_text(v))
		return wrong_value(r, k, v);
	const char *s = v->s + strspn(v->s, " \t\r\n"); /* a block ends in a line break */
	size_t n = strlen(s);
	while (n && strchr(" \t\r\n", s[n - 1]))
		n--;
	*FIELD(const char *, rec, k) = arena_strndup(r->a, s, n);
	return true;
}

bool
read_name(Reader *r, const Key *k, const YNode *v, void *rec)
{
	if (v->kind != Y_SCALAR || !is_identifier(v->s))
		return wrong_value(r, k, v);
	return read_text(r, k, v, rec);
}

bool
read_number(Reader *r, const Key *k, const YNode *v, void *rec)
{
	double x;
	bool whole;
	if (!yaml_number(v, &x, &whole) || !in_range(x, k->range))
		return wrong_value(r, k, v);
	*FIELD(double, rec, k) = x;
	return true;
}

/* A whole number that a double holds exactly. */
static bool
whole_number(Reader *r, const Key *k, const YNode *v, double *x)
{
	bool whole;
	if (!yaml_number(v, x, &whole) || *x != floor(*x) || !in_range(*x, k->range))
		return wrong_value(r, k, v);
	if (fabs(*x) > 9007199254740992.0) {
		error_at(v->loc, "%s: %s is too large: at most 2^53", k->name, v->s);
		return false;
	}
	return true;
}

bool
read_count(Reader *r, const Key *k, const YNode *v, void *rec)
{
	double x;
	if (!whole_number(r, k, v, &x))
		return false;
	*FIELD(int64_t, rec, k) = (int64_t)x;
	return true;
}

bool
read_seed(Reader *r, const Key *k, const YNode *v, void *rec)
{
	double x;
	if (!whole_number(r, k, v, &x))
		return false;
	*FIELD(uint64_t, rec, k) = (uint64_t)x;
	return true;
}

bool
read_code(Reader *r, const char *name, const YNode *v, Ast **out)
{
	if (!has_text(v)) {
		error_at(v->loc, "%s: expected an expression, found %s", name, yaml_found(r->a, v));
		return false;
	}
	if (strlen(v->code) > MAX_CODE) {
		error_at(v->code_loc, "%s: an expression longer than %d characters: split it into entries of network", name, MAX_CODE);
		return false;
	}
	return (*out = parse_expr(r->a, v->code, v->code_loc)) != NULL;
}

bool
read_expr(Reader *r, const Key *k, const YNode *v, void *rec)
{
	return read_code(r, k->name, v, FIELD(Ast *, rec, k));
}

bool
read_call(Reader *r, const Key *k, const YNode *v, void *rec)
{
	if (!has_text(v))
		return wrong_value(r, k, v);
	if (!read_expr(r, k, v, rec))
		return false;
	AstKind kind = (*FIELD(Ast *, rec, k))->kind;
	return kind == A_CALL || kind == A_NAME || wrong_value(r, k, v);
}

/* A word of the key's type; reports any other. */
static const Choice *
read_word(Reader *r, const Key *k, const YNode *v)
{
	const char *name[64], *near;
	size_t n = 0;
	const Choice *c = v->kind == Y_SCALAR ? find_choice(k->type, v->s) : NULL;
	if (c || !has_text(v)) {
		if (!c)
			wrong_value(r, k, v);
		return c;
	}
	for (int i = 0; i < nchoices && n < LEN(name); i++)
		if (choices[i].type == k->type)
			name[n++] = choices[i].name;
	wrong_value(r, k, v);
	if ((near = nearest_name(v->s, name, n)))
		note_at(v->loc, "did you mean '%s'?", near);
	return NULL;
}

bool
read_choice(Reader *r, const Key *k, const YNode *v, void *rec)
{
	const Choice *c = read_word(r, k, v);
	if (c)
		*FIELD(uint32_t, rec, k) = c->value;
	return c;
}

static bool
wrong_scale(const YNode *v, const char *word, const char *why)
{
	error_at(v->loc, "scale: %s %s", word, why);
	return false;
}

bool
read_scale(Reader *r, const Key *k, const YNode *v, void *rec)
{
	uint32_t *bits = FIELD(uint32_t, rec, k);
	int n = v->kind == Y_LIST ? v->n : 1;
	if (v->kind == Y_MAP)
		return wrong_value(r, k, v);
	for (int i = 0; i < n; i++) {
		const YNode *w = v->kind == Y_LIST ? v->item[i] : v;
		const Choice *c = read_word(r, k, w);
		if (!c)
			return false;
		if (*bits & c->value)
			return wrong_scale(w, c->name, "is given twice");
		*bits |= c->value;
		if ((*bits & SC_ZSCORE) && (*bits & SC_MINMAX))
			return wrong_scale(w, c->name, "excludes the one before it: choose zscore or minmax");
		if (c->value == SC_LOG1P && i > 0)
			return wrong_scale(w, c->name, "comes first, as in [log1p, zscore]");
	}
	return true;
}

bool
read_missing(Reader *r, const Key *k, const YNode *v, void *rec)
{
	PlanInput *p = &((InputEntry *)rec)->p;
	bool whole;
	if (yaml_number(v, &p->missing_value, &whole)) {
		if (!isfinite(p->missing_value))
			return wrong_value(r, k, v);
		p->missing = MISS_CONSTANT;
		return true;
	}
	return read_choice(r, k, v, rec);
}

/* A list of n whole numbers into an array and its length, which stand one after the other as INTS of plan.h lays them. */
bool
read_sizes(Reader *r, const Key *k, const YNode *v, void *rec)
{
	int64_t **dim = FIELD(int64_t *, rec, k);
	uint32_t *n = (uint32_t *)(void *)(dim + 1);
	double x, all = 1;
	bool whole;
	if (v->kind != Y_LIST || !v->n || v->n > MAX_AXES)
		return wrong_value(r, k, v);
	*dim = arena_alloc(r->a, (size_t)v->n * sizeof **dim);
	for (*n = 0; *n < (uint32_t)v->n; ++*n) {
		const YNode *w = v->item[*n];
		if (!yaml_number(w, &x, &whole) || x != floor(x) || x < 1 || (all *= x) > INT32_MAX / 4) {
			error_at(w->loc, "%s: expected a whole number from 1, all of them at most %d elements, found %s", k->name, INT32_MAX / 4,
				yaml_found(r->a, w));
			return false;
		}
		(*dim)[*n] = (int64_t)x;
	}
	return true;
}

bool
read_names(Reader *r, const Key *k, const YNode *v, void *rec)
{
	AxisNames *a = FIELD(AxisNames, rec, k);
	if (v->kind != Y_LIST || !v->n || v->n > MAX_AXES)
		return wrong_value(r, k, v);
	for (int i = 0; i < v->n; i++) {
		const YNode *w = v->item[i];
		if (w->kind != Y_SCALAR || !is_identifier(w->s) || !strcmp(w->s, "b")) {
			error_at(w->loc, "%s: expected a name (letters, digits and _; b is the rows of the batch), found %s", k->name, yaml_found(r->a, w));
			return false;
		}
		for (int j = 0; j < a->n; j++)
			if (!strcmp(a->name[j], w->s)) {
				error_at(w->loc, "%s: %s is given twice", k->name, w->s);
				return false;
			}
		a->name[a->n++] = arena_strdup(r->a, w->s);
	}
	return true;
}

bool
read_outputs(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	if (v->kind != Y_LIST)
		return wrong_value(r, k, v);
	m->output = arena_alloc(r->a, (size_t)v->n * sizeof *m->output);
	for (int i = 0; i < v->n; i++) {
		const YNode *w = v->item[i];
		if (!has_text(w)) {
			error_at(w->loc, "%s: expected a name, found %s", k->name, yaml_found(r->a, w));
			return false;
		}
		m->output[m->noutput++] = (OutputEntry){arena_strdup(r->a, w->s), w->loc};
	}
	return true;
}

bool
read_groups(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (v->kind != Y_LIST)
		return wrong_value(r, k, v);
	m->group = arena_alloc(r->a, (size_t)v->n * sizeof *m->group);
	for (int i = 0; i < v->n; i++) {
		const YNode *e = v->item[i];
		ParamGroup *p = &m->group[m->ngroup++];
		ok &= read_keys(r, S_group, e, e->loc, "a group", p);
		const YPair *name = yaml_pair(e, "params"), *lr = yaml_pair(e, "lr"), *decay = yaml_pair(e, "decay");
		p->loc = e->loc;
		p->params_loc = name ? name->value->loc : e->loc;
		if (p->freeze && (lr || decay)) {
			error_at((lr ? lr : decay)->loc, "a group that is frozen has no %s", lr ? "lr" : "decay");
			ok = false;
		}
	}
	return ok;
}

bool
read_paths(Reader *r, const Key *k, const YNode *v, void *rec)
{
	Model *m = rec;
	bool ok = true;
	if (v->kind != Y_LIST)
		return wrong_value(r, k, v);
	m->ops = arena_alloc(r->a, (size_t)v->n * sizeof *m->ops);
	for (int i = 0; i < v->n; i++) {
		const YNode *p = v->item[i];
		if (!has_text(p)) {
			error_at(p->loc, "%s: expected a path, found %s", k->name, yaml_found(r->a, p));
			ok = false;
			continue;
		}
		const char *path = p->s[0] == '/' ? p->s : arena_printf(r->a, "%s/%s", m->data.base, p->s);
		if (access(path, R_OK)) {
			error_at(p->loc, "cannot read %s: paths start at the folder of the model file", path);
			ok = false;
		}
		m->ops[m->nops++] = path;
	}
	return ok;
}

/* ---- a section ---- */

static bool
has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

static const Key *
find_key(Section s, const char *name)
{
	for (int i = 0; i < nkeys; i++)
		if (keys[i].section == s && !strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

/* An expression with a comma, written plain inside { }, falls apart into keys without a value. */
static const char *
comma_hint(const YNode *map, const YPair *p)
{
	return map->flow && p->plain && yaml_null(p->value) && strpbrk(p->key, "()[]=\"") ?
		" (inside { } an expression with a comma needs quotes)" : "";
}

/* "group, train, val": into t, and the names into name. */
static size_t
list_keys(Section s, const char **name, size_t most, Text *t)
{
	size_t n = 0;
	for (int i = 0; i < nkeys && n < most; i++)
		if (keys[i].section == s) {
			text_printf(t, "%s%s", n ? ", " : "", keys[i].name);
			name[n++] = keys[i].name;
		}
	return n;
}

static void
report_unknown(Section s, const YNode *map, const YPair *p, const char *title)
{
	const char *name[64], *near;
	Text t = {0};
	size_t n = list_keys(s, name, LEN(name), &t);
	const char *also = s == S_train ? "; what the optimizer takes stands in its call: adam(lr=1e-3)" : "";
	if ((near = nearest_name(p->key, name, n))) {
		error_at(p->loc, "unknown key '%s' in %s: did you mean '%s'?", p->key, title, near);
	} else {
		const Key *other = NULL;
		for (int i = 0; i < nkeys && !other; i++)
			if (!strcmp(keys[i].name, p->key))
				other = &keys[i];
		if (other)
			error_at(p->loc, "unknown key '%s' in %s: it belongs in %s%s", p->key, title, sections[other->section].title, also);
		else
			error_at(p->loc, "unknown key '%s' in %s%s; known: %s%s", p->key, title, comma_hint(map, p), t.s, also);
	}
	free(t.s);
}

static bool
default_value(Reader *r, const Key *k, Loc at, void *rec)
{
	return !*k->def || *k->def == '(' || types[k->type].read(r, k, yaml_scalar(r->a, k->def, at), rec);
}

/* The word of the entry's `type`, NULL if the section has none or it is wrong. */
static const char *
entry_type(Section s, const YNode *map)
{
	const Key *k = find_key(s, "type");
	const YPair *p = yaml_pair(map, "type");
	return k && p && p->value->kind == Y_SCALAR && find_choice(k->type, p->value->s) ? p->value->s : NULL;
}

bool
read_keys(Reader *r, Section s, const YNode *map, Loc where, const char *title, void *rec)
{
	const char *type = entry_type(s, map);
	bool typed = find_key(s, "type"), ok = true;
	if (map->kind != Y_MAP) {
		const char *name[64];
		Text t = {0};
		list_keys(s, name, LEN(name), &t);
		error_at(map->loc, "expected the keys of %s (%s), found %s", title, t.s, yaml_found(r->a, map));
		free(t.s);
		return false;
	}
	for (int i = 0; i < map->n; i++)
		if (!find_key(s, map->pair[i].key)) {
			report_unknown(s, map, &map->pair[i], title);
			ok = false;
		}
	for (int i = 0; i < nkeys; i++) {
		const Key *k = &keys[i];
		const YPair *p = k->section == s ? yaml_pair(map, k->name) : NULL;
		bool applies = !*k->when || (type && has_word(k->when, type));
		if (k->section != s)
			continue;
		if (types[k->type].store == ST_STR)
			*FIELD(const char *, rec, k) = ""; /* never NULL, whatever goes wrong */
		if (p && typed && type && !applies) {
			error_at(p->loc, "'%s' has no meaning for type %s (it is for %s)", k->name, type, k->when);
			ok = false;
		} else if (p) {
			ok &= types[k->type].read(r, k, p->value, rec);
		} else if (!strcmp(k->def, "required")) {
			error_at(where, "%s lacks the key '%s': %s", title, k->name, k->help);
			ok = false;
		} else if (applies) {
			ok &= default_value(r, k, where, rec);
		}
	}
	return ok;
}
