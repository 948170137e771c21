/* The library: definitions from .op files, found by name. A later definition of a name replaces an earlier one of
   another file (a model's own op may replace the library's), with a warning inside one file. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "mmc.h"

struct Lib {
	Arena *arena;
	Ast **def, **test;
	int ndef, capdef, ntest, captest;
};

Lib *
lib_new(Arena *a)
{
	Lib *l = arena_alloc(a, sizeof *l);
	l->arena = a;
	return l;
}

Lib *
lib_copy(Arena *a, const Lib *of)
{
	Lib *l = lib_new(a);
	l->ndef = l->capdef = of->ndef;
	l->ntest = l->captest = of->ntest;
	l->def = arena_alloc(a, (size_t)(of->ndef + 1) * sizeof *l->def);
	l->test = arena_alloc(a, (size_t)(of->ntest + 1) * sizeof *l->test);
	memcpy(l->def, of->def, (size_t)of->ndef * sizeof *l->def);
	memcpy(l->test, of->test, (size_t)of->ntest * sizeof *l->test);
	return l;
}

static bool
same_thing(const Ast *a, const Ast *b)
{
	return !strcmp(a->s, b->s) && !strcmp(a->t, "grad") == !strcmp(b->t, "grad");
}

static void
add_def(Lib *l, Ast *d)
{
	for (int i = 0; i < l->ndef; i++) {
		if (same_thing(l->def[i], d)) {
			if (l->def[i]->loc.file == d->loc.file)
				warn_at(d->loc, "'%s' is defined twice in this file; this one counts", d->s);
			l->def[i] = d;
			return;
		}
	}
	if (l->ndef == l->capdef) {
		Ast **v = arena_alloc(l->arena, (size_t)(l->capdef = l->capdef * 2 + 64) * sizeof *v);
		if (l->ndef)
			memcpy(v, l->def, (size_t)l->ndef * sizeof *v);
		l->def = v;
	}
	l->def[l->ndef++] = d;
}

static bool
check_axes(const Ast *def, Ast *const *axis, int n)
{
	for (int i = 0; i < n; i++) {
		if (i && !strcmp(axis[i]->s, ".."))
			return error_at(axis[i]->loc, "'..' stands before the axes with a name: [.., t, c]"), false;
		for (int k = 0; k < i; k++)
			if (!strcmp(axis[i]->s, axis[k]->s))
				return error_at(axis[i]->loc, "axis %s twice in one list of %s", axis[i]->s, def->s), false;
	}
	return true;
}

/* What the grammar lets pass. */
static bool
check_def(const Ast *d)
{
	bool ok = check_axes(d, d->sig, d->nsig);
	for (int i = 1; i < d->nkid; i++) {
		const Ast *f = d->kid[i];
		for (int k = 1; k < i; k++)
			if (!strcmp(f->s, d->kid[k]->s))
				ok = (error_at(f->loc, "%s has two arguments called %s", d->s, f->s), false);
		ok &= !f->tensor || check_axes(d, f->kid + 1, f->nkid - 1);
	}
	return ok;
}

static void
add_test(Lib *l, Ast *t)
{
	if (l->ntest == l->captest) {
		Ast **v = arena_alloc(l->arena, (size_t)(l->captest = l->captest * 2 + 64) * sizeof *v);
		if (l->ntest)
			memcpy(v, l->test, (size_t)l->ntest * sizeof *v);
		l->test = v;
	}
	l->test[l->ntest++] = t;
}

bool
lib_load(Lib *l, const char *path)
{
	char *text;
	size_t n;
	Err e = {0};
	int count;
	if (!read_file(path, &text, &n, &e)) {
		error_at((Loc){0}, "%s", e.msg);
		return false;
	}
	if (strlen(text) != n) {
		error_at((Loc){0}, "%s: not a text: it has a byte 0 at offset %zu", path, strlen(text));
		free(text);
		return false;
	}
	int file = source_add(path, text);
	free(text);
	Ast **item = parse_file(l->arena, file, &count);
	if (!item)
		return false;
	bool ok = true;
	for (int i = 0; i < count; i++) {
		if (item[i]->kind == A_TEST)
			add_test(l, item[i]);
		else if (check_def(item[i]))
			add_def(l, item[i]);
		else
			ok = false;
	}
	return ok;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool
lib_load_folder(Lib *l, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char *name[512];
	size_t n = 0;
	bool ok = true;
	if (!d) {
		error_at((Loc){0}, "%s: no folder of op definitions there (set MMC_OPS or --ops to the ops folder)", dir);
		return false;
	}
	while ((e = readdir(d)) && n < LEN(name)) {
		size_t len = strlen(e->d_name);
		if (len > 3 && !strcmp(e->d_name + len - 3, ".op"))
			name[n++] = arena_printf(l->arena, "%s/%s", dir, e->d_name);
	}
	closedir(d);
	qsort(name, n, sizeof *name, by_name);
	for (size_t i = 0; i < n; i++)
		ok &= lib_load(l, name[i]);
	return ok;
}

const Ast *
lib_find(Lib *l, const char *name)
{
	for (int i = 0; i < l->ndef; i++)
		if (!strcmp(l->def[i]->s, name) && strcmp(l->def[i]->t, "grad"))
			return l->def[i];
	return NULL;
}

const Ast *
lib_find_grad(Lib *l, const char *prim)
{
	for (int i = 0; i < l->ndef; i++)
		if (!strcmp(l->def[i]->s, prim) && !strcmp(l->def[i]->t, "grad"))
			return l->def[i];
	return NULL;
}

Ast **
lib_tests(Lib *l, int *n)
{
	*n = l->ntest;
	return l->test;
}

Ast **
lib_defs(Lib *l, int *n)
{
	*n = l->ndef;
	return l->def;
}
