/* YAML to a small tree that knows where everything stands. Scanning and parsing are libyaml's events; this file
   composes them: places, anchors, limits, and the errors that libyaml leaves to its caller (a key given twice, a
   second document). Values stay text: their type is what the key table asks for, so `on` and `no` are words. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct Anchor {
	const char *name;
	YNode *node; /* NULL while its node is being read */
} Anchor;

typedef struct Loader {
	Arena *a;
	yaml_parser_t parser;
	const char *text;
	size_t n;
	int file;
	uint32_t *byte;  /* of each character: libyaml's marks count characters */
	size_t nchar;
	uint32_t *line;  /* the character that starts each line */
	int nline, capline;
	Anchor *anchor;
	int nanchor, capanchor;
	bool bad;        /* the rest of the file has no meaning any more */
} Loader;

static char *
read_bounded(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *s = xmalloc(YAML_MAX_BYTES + 2);
	size_t got = 0;
	if (f)
		got = fread(s, 1, YAML_MAX_BYTES + 1, f);
	if (!f || ferror(f)) {
		error_at((Loc){0}, "%s: cannot read the model file: %s", path, strerror(errno));
	} else if (got > YAML_MAX_BYTES) {
		error_at((Loc){0}, "%s: larger than %d bytes: is this a model file?", path, YAML_MAX_BYTES);
	} else {
		fclose(f);
		s[got] = 0;
		*n = got;
		return s;
	}
	if (f)
		fclose(f);
	free(s);
	return NULL;
}

/* ---- places ---- */

static void
index_text(Loader *l)
{
	l->byte = xmalloc((l->n + 1) * sizeof *l->byte);
	VEC_PUSH(l->line, l->nline, l->capline) = 0;
	for (size_t i = 0; i < l->n; i++) {
		if (((unsigned char)l->text[i] & 0xc0) == 0x80 && i)
			continue;
		l->byte[l->nchar++] = (uint32_t)i;
		if (l->text[i] == '\n')
			VEC_PUSH(l->line, l->nline, l->capline) = (uint32_t)l->nchar;
	}
	l->byte[l->nchar] = (uint32_t)l->n;
}

/* The place of a character: the last line that starts at or before it. */
static Loc
place(const Loader *l, size_t index)
{
	int lo = 0, hi = l->nline;
	while (hi - lo > 1) {
		int mid = (lo + hi) / 2;
		if (l->line[mid] <= index)
			lo = mid;
		else
			hi = mid;
	}
	return (Loc){l->file, lo + 1, (int)(index - l->line[lo]) + 1};
}

static Loc mark_loc(const Loader *l, yaml_mark_t m) { return place(l, m.index < l->nchar ? m.index : l->nchar); }
static size_t mark_byte(const Loader *l, yaml_mark_t m) { return l->byte[m.index < l->nchar ? m.index : l->nchar]; }

static Loc
byte_loc(const Loader *l, size_t byte)
{
	size_t lo = 0, hi = l->nchar + 1;
	while (hi - lo > 1) {
		size_t mid = (lo + hi) / 2;
		if (l->byte[mid] <= byte)
			lo = mid;
		else
			hi = mid;
	}
	return place(l, lo);
}

/* ---- errors ---- */

/* What libyaml's words mean most often. */
static const char *
yaml_hint(const char *problem)
{
	static const struct {
		const char *problem, *hint;
	} hint[] = {
		{"did not find expected key", ": the keys of one list stand in one column"},
		{"mapping values are not allowed in this context", ": an entry is `name: value`, and a value that has ': ' in it stands in quotes"},
		{"could not find expected ':'", ": an entry is `name: value`"},
		{"did not find expected ',' or '}'", ": one of { } is missing, or a value with , { } [ ] in it wants quotes"},
		{"did not find expected ',' or ']'", ": one of [ ] is missing, or a value with , { } [ ] in it wants quotes"},
		{"found character that cannot start any token", ": a value that begins with @ ` % or a tab stands in quotes"},
		{"found unexpected end of stream", ": a quote is not closed"},
	};
	for (size_t i = 0; i < LEN(hint); i++)
		if (!strcmp(problem, hint[i].problem))
			return hint[i].hint;
	return "";
}

static void
report_libyaml(Loader *l)
{
	const yaml_parser_t *p = &l->parser;
	const char *problem = p->problem ? p->problem : "cannot be read";
	l->bad = true;
	if (p->error == YAML_MEMORY_ERROR) {
		error_at((Loc){l->file, 1, 1}, "out of memory");
	} else if (p->error == YAML_READER_ERROR) {
		error_at(byte_loc(l, p->problem_offset), "%s: a model file is UTF-8 text", problem);
	} else if (l->text[mark_byte(l, p->problem_mark)] == '\t') {
		error_at(mark_loc(l, p->problem_mark), "a tab cannot stand here: YAML indents with spaces");
	} else {
		error_at(mark_loc(l, p->problem_mark), "not YAML: %s%s", problem, yaml_hint(problem));
		if (p->context)
			note_at(mark_loc(l, p->context_mark), "%s that starts here", p->context);
	}
}

static bool
next_event(Loader *l, yaml_event_t *e)
{
	if (yaml_parser_parse(&l->parser, e))
		return true;
	report_libyaml(l);
	return false;
}

/* Reports an error after which reading stops. */
static YNode *
stop(Loader *l, Loc at, const char *msg)
{
	error_at(at, "%s", msg);
	l->bad = true;
	return NULL;
}

/* ---- scalars ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Whether two texts are the same but for blanks: then the raw text means what the value means. */
static bool
same_ink(const char *a, size_t n, const char *b)
{
	for (size_t i = 0;; i++, b++) {
		while (i < n && is_blank(a[i]))
			i++;
		while (is_blank(*b))
			b++;
		if (i == n || !*b)
			return i == n && !*b;
		if (a[i] != *b)
			return false;
	}
}

/* The scalar as it stands in the file. A block starts below its header line. Where escapes make the value differ
   from its spelling, code is the value, and columns after the first escape are off by it. */
static void
find_code(Loader *l, YNode *n, const yaml_event_t *e)
{
	size_t from = mark_byte(l, e->start_mark), to = mark_byte(l, e->end_mark);
	yaml_scalar_style_t style = e->data.scalar.style;
	if (e->data.scalar.anchor)
		while (from < to && !is_blank(l->text[from]))
			from++;
	while (from < to && is_blank(l->text[from]))
		from++;
	if (style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE)
		while (from < to && l->text[from] != '\n')
			from++;
	if ((style == YAML_SINGLE_QUOTED_SCALAR_STYLE || style == YAML_DOUBLE_QUOTED_SCALAR_STYLE) && to - from >= 2) {
		from++;
		to--;
	}
	while (from < to && is_blank(l->text[from]))
		from++;
	while (to > from && is_blank(l->text[to - 1]))
		to--;
	n->code_loc = byte_loc(l, from);
	n->code = same_ink(l->text + from, to - from, n->s) ? arena_strndup(l->a, l->text + from, to - from) : n->s;
}

static void
check_tag(const YNode *n, const char *tag)
{
	if (tag)
		error_at(n->loc, "a tag (%s) has no meaning in a model file: leave it out", tag);
}

static YNode *
new_node(Loader *l, YKind kind, const yaml_event_t *e, const char *tag)
{
	YNode *n = arena_alloc(l->a, sizeof *n);
	n->kind = kind;
	n->loc = mark_loc(l, e->start_mark);
	check_tag(n, tag);
	return n;
}

static YNode *
read_scalar(Loader *l, const yaml_event_t *e)
{
	const char *s = (const char *)e->data.scalar.value;
	size_t len = e->data.scalar.length;
	YNode *n = new_node(l, Y_SCALAR, e, (const char *)e->data.scalar.tag);
	if (memchr(s, 0, len)) {
		error_at(n->loc, "a value cannot contain the character \\0");
		len = strlen(s);
	}
	n->s = arena_strndup(l->a, s, len);
	n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	find_code(l, n, e);
	return n;
}

/* ---- lists, maps, anchors ---- */

static YNode *read_node(Loader *l, int depth);

static YNode *
read_list(Loader *l, YNode *n, int depth)
{
	YNode **item = NULL, *v;
	int k = 0, cap = 0;
	while ((v = read_node(l, depth)))
		VEC_PUSH(item, k, cap) = v;
	n->n = k;
	n->item = arena_alloc(l->a, (size_t)k * sizeof *item);
	if (k)
		memcpy(n->item, item, (size_t)k * sizeof *item);
	free(item);
	return l->bad ? NULL : n;
}

/* Whether a pair belongs into the map; if not, says why. */
static bool
check_key(YPair *have, int n, const YNode *key)
{
	if (key->kind != Y_SCALAR) {
		error_at(key->loc, "a key must be a name, not %s", key->kind == Y_LIST ? "a list" : "a map");
		return false;
	}
	if (key->plain && !strcmp(key->s, "<<")) {
		error_at(key->loc, "merge keys (<<) are not supported: write the keys out");
		return false;
	}
	for (int i = 0; i < n; i++)
		if (!strcmp(have[i].key, key->s)) {
			error_at(key->loc, "key '%s' is given twice", key->s);
			note_at(have[i].loc, "the first is here");
			return false;
		}
	return true;
}

static YNode *
read_map(Loader *l, YNode *n, int depth)
{
	YPair *pair = NULL;
	YNode *key, *v;
	int k = 0, cap = 0;
	while ((key = read_node(l, depth)) && (v = read_node(l, depth))) {
		if (k == YAML_MAX_KEYS) {
			stop(l, key->loc, "too many keys in one map (more than 1024)");
			break;
		}
		if (check_key(pair, k, key))
			VEC_PUSH(pair, k, cap) = (YPair){key->s, key->loc, key->plain, v};
	}
	n->n = k;
	n->pair = arena_alloc(l->a, (size_t)k * sizeof *pair);
	if (k)
		memcpy(n->pair, pair, (size_t)k * sizeof *pair);
	free(pair);
	return l->bad ? NULL : n;
}

static YNode *
find_alias(Loader *l, const char *name, Loc at)
{
	for (int i = l->nanchor; i-- > 0;)
		if (!strcmp(l->anchor[i].name, name)) {
			if (l->anchor[i].node)
				return l->anchor[i].node;
			return stop(l, at, "this alias stands inside the value that it stands for");
		}
	return stop(l, at, arena_printf(l->a, "alias *%s has no anchor &%s above it", name, name));
}

/* Notes an anchor before its node is read; returns its index, -1 if there is none. */
static int
open_anchor(Loader *l, const yaml_char_t *name, Loc at)
{
	if (!name)
		return -1;
	if (l->nanchor == YAML_MAX_KEYS) {
		stop(l, at, "too many anchors (more than 1024)");
		return -1;
	}
	VEC_PUSH(l->anchor, l->nanchor, l->capanchor) = (Anchor){arena_strdup(l->a, (const char *)name), NULL};
	return l->nanchor - 1;
}

static YNode *
read_event(Loader *l, const yaml_event_t *e, int depth)
{
	Loc at = mark_loc(l, e->start_mark);
	YNode *n = NULL;
	int anchor = -1;
	switch (e->type) {
	case YAML_ALIAS_EVENT:
		return find_alias(l, (const char *)e->data.alias.anchor, at);
	case YAML_SCALAR_EVENT:
		anchor = open_anchor(l, e->data.scalar.anchor, at);
		n = read_scalar(l, e);
		break;
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		if (depth >= YAML_MAX_DEPTH)
			return stop(l, at, "nested too deeply (more than 32 levels)");
		if (e->type == YAML_SEQUENCE_START_EVENT) {
			anchor = open_anchor(l, e->data.sequence_start.anchor, at);
			n = new_node(l, Y_LIST, e, (const char *)e->data.sequence_start.tag);
			n->flow = e->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
			n = read_list(l, n, depth + 1);
		} else {
			anchor = open_anchor(l, e->data.mapping_start.anchor, at);
			n = new_node(l, Y_MAP, e, (const char *)e->data.mapping_start.tag);
			n->flow = e->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
			n = read_map(l, n, depth + 1);
		}
		break;
	default:
		break; /* the end of a list or map */
	}
	if (anchor >= 0)
		l->anchor[anchor].node = n;
	return l->bad ? NULL : n;
}

/* The next node; NULL at the end of the list or map, or when reading stopped (l->bad). */
static YNode *
read_node(Loader *l, int depth)
{
	yaml_event_t e;
	if (l->bad || !next_event(l, &e))
		return NULL;
	YNode *n = read_event(l, &e, depth);
	yaml_event_delete(&e);
	return n;
}

/* ---- the document ---- */

/* The next event's type, which must not carry a node. */
static yaml_event_type_t
skip_event(Loader *l, Loc *at)
{
	yaml_event_t e;
	if (l->bad || !next_event(l, &e))
		return YAML_NO_EVENT;
	yaml_event_type_t t = e.type;
	*at = mark_loc(l, e.start_mark);
	yaml_event_delete(&e);
	return t;
}

static YNode *
read_document(Loader *l)
{
	Loc at = {l->file, 1, 1};
	skip_event(l, &at); /* start of the stream */
	yaml_event_type_t t = skip_event(l, &at);
	if (l->bad)
		return NULL;
	if (t == YAML_STREAM_END_EVENT)
		return stop(l, (Loc){l->file, 1, 1}, "the file is empty: `mmc --help-model` shows what a model file holds");
	YNode *n = read_node(l, 0);
	skip_event(l, &at); /* end of the document */
	t = skip_event(l, &at);
	if (!l->bad && t != YAML_STREAM_END_EVENT)
		return stop(l, at, "a second document starts here: a model file is one document");
	return l->bad ? NULL : n;
}

YNode *
yaml_read(Arena *a, const char *path, int *file)
{
	Loader l = {.a = a};
	char *text = read_bounded(path, &l.n);
	if (!text)
		return NULL;
	bool bom = l.n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3);
	l.text = text + (bom ? 3 : 0);
	l.n -= bom ? 3 : 0;
	l.file = *file = source_add(path, l.text);
	index_text(&l);
	YNode *n = NULL;
	if (yaml_parser_initialize(&l.parser)) {
		yaml_parser_set_encoding(&l.parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&l.parser, (const unsigned char *)l.text, l.n);
		n = read_document(&l);
		yaml_parser_delete(&l.parser);
	} else {
		error_at((Loc){0}, "out of memory");
	}
	free(l.byte);
	free(l.line);
	free(l.anchor);
	free(text);
	return n;
}

/* ---- looking at the tree ---- */

YNode *
yaml_scalar(Arena *a, const char *text, Loc at)
{
	YNode *n = arena_alloc(a, sizeof *n);
	n->loc = n->code_loc = at;
	n->s = n->code = text;
	n->plain = true;
	return n;
}

YPair *
yaml_pair(const YNode *map, const char *key)
{
	for (int i = 0; map->kind == Y_MAP && i < map->n; i++)
		if (!strcmp(map->pair[i].key, key))
			return &map->pair[i];
	return NULL;
}

bool
yaml_null(const YNode *v)
{
	static const char *const word[] = {"", "~", "null", "Null", "NULL"};
	for (size_t i = 0; v->kind == Y_SCALAR && v->plain && i < LEN(word); i++)
		if (!strcmp(v->s, word[i]))
			return true;
	return false;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Copies digits, leaving out each _ between two of them; returns how many. */
static int
copy_digits(const char **s, char *out, size_t *n)
{
	int k = 0;
	for (; is_digit(**s) || (**s == '_' && k && is_digit((*s)[1])); ++*s)
		if (**s != '_') {
			out[(*n)++] = **s;
			k++;
		}
	return k;
}

/* [+-] digits [. digits] [e [+-] digits]. Leading zeros are refused: YAML 1.1 reads them as octal, people do not. */
bool
yaml_number(const YNode *v, double *x, bool *whole)
{
	char buf[128];
	size_t n = 0;
	const char *s = v->s;
	if (v->kind != Y_SCALAR || !v->plain || strlen(s) > 100)
		return false;
	if (*s == '+' || *s == '-')
		buf[n++] = *s++;
	if (*s == '0' && (is_digit(s[1]) || s[1] == '_'))
		return false;
	int digits = copy_digits(&s, buf, &n);
	*whole = true;
	if (*s == '.') {
		buf[n++] = *s++;
		digits += copy_digits(&s, buf, &n);
		*whole = false;
	}
	if (!digits)
		return false;
	if (*s == 'e' || *s == 'E') {
		buf[n++] = *s++;
		if (*s == '+' || *s == '-')
			buf[n++] = *s++;
		if (!copy_digits(&s, buf, &n))
			return false;
		*whole = false;
	}
	buf[n] = 0;
	*x = strtod(buf, NULL);
	return !*s;
}

char *
yaml_found(Arena *a, const YNode *v)
{
	double x;
	bool whole;
	if (v->kind != Y_SCALAR)
		return arena_strdup(a, v->kind == Y_LIST ? "a list" : "a map");
	if (yaml_null(v))
		return arena_strdup(a, "nothing");
	if (yaml_number(v, &x, &whole))
		return arena_printf(a, "%s", v->s);
	/* Long texts are cut, at a character's start. */
	size_t n = strlen(v->s), cut = n > 40 ? 40 : n;
	while (cut < n && cut > 0 && ((unsigned char)v->s[cut] & 0xc0) == 0x80)
		cut--;
	return arena_printf(a, "the %s'%.*s%s'", v->plain ? "text " : "quoted text ", (int)cut, v->s, cut < n ? "..." : "");
}
