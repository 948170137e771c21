/* The option parser: `--name value`, `--name=value`, `-x value`, flags, and PAIRS (`--set a=1 b=2`), by the table
   in options.h. An unknown name is an error with the nearest known one, or with the command that takes it. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum OptionType { OPT_FLAG, OPT_INT, OPT_BYTES, OPT_REAL, OPT_STR, OPT_PAIRS } OptionType;

typedef struct Option {
	const char *name;
	char letter;
	OptionType type;
	size_t off; /* into Options */
	const char *arg;
	int64_t least; /* of an int */
	const char *def;
	const char *cmds;
	const char *help;
} Option;

static const Option option[] = {
#define X(field, type, name, letter, arg, least, def, cmds, help)                                   \
	{name, letter, OPT_##type, offsetof(Options, field), arg, least, #def, cmds, help},
	OPTIONS(X)
#undef X
};

static const Options defaults = {
#define X(field, type, name, letter, arg, least, def, cmds, help) .field = def,
	OPTIONS(X)
#undef X
};

/* The row that this command takes under a name of n bytes, or a letter; else NULL. */
static const Option *
find_option(char cmd, const char *name, size_t n, char letter)
{
	for (size_t i = 0; i < LEN(option); i++) {
		const Option *o = &option[i];
		if (!strchr(o->cmds, cmd))
			continue;
		if (letter ? o->letter == letter : strlen(o->name) == n && !memcmp(o->name, name, n))
			return o;
	}
	return NULL;
}

static const char *
command_of(char letter)
{
#define X(name, l, args, help) if (letter == l) return #name;
	COMMANDS(X)
#undef X
	return "?";
}

static bool
fail_unknown(const char *cmd, char letter, const char *arg, size_t n, Err *e)
{
	const char *names[LEN(option) + 1], *near, *bare = arg + strspn(arg, "-");
	size_t count = 0;
	char *given = xcalloc(n + 1, 1);
	memcpy(given, arg, n);
	for (size_t i = 0; i < LEN(option); i++) {
		const Option *o = &option[i];
		if (strchr(o->cmds, letter))
			names[count++] = o->name;
		else if (!strcmp(o->name, given + (bare - arg)))
			fail(e, "mmrun %s: unknown option '%s': it belongs to mmrun %s", cmd, given, command_of(o->cmds[0]));
	}
	names[count++] = "help";
	near = nearest_name(given + (bare - arg), names, count);
	if (near)
		fail(e, "mmrun %s: unknown option '%s': did you mean '--%s'?", cmd, given, near);
	fail(e, "mmrun %s: unknown option '%s': see mmrun %s --help", cmd, given, cmd);
	free(given);
	return false;
}

static bool
set_int(int64_t *out, const Option *o, const char *v, Err *e)
{
	char *end;
	errno = 0;
	long long x = strtoll(v, &end, 10);
	if (end == v || *end || errno || x < o->least)
		return fail(e, "--%s: '%s' is not a whole number of at least %lld", o->name, v, (long long)o->least);
	*out = x;
	return true;
}

/* "1500000", "512M", "1.5G": a number, with K, M, G or T for a power of 1024. */
static bool
set_bytes(int64_t *out, const Option *o, const char *v, Err *e)
{
	static const char unit[] = "KMGT";
	char *end;
	double x = strtod(v, &end);
	const char *u = *end ? strchr(unit, *end & ~0x20) : NULL;
	if (end != v && u)
		x = ldexp(x, 10 * (int)(u - unit + 1));
	if (end == v || (u ? end[1] : *end) || !(x >= 1 && x < 0x1p62))
		return fail(e, "--%s: '%s' is not a number of bytes, such as 1500000, 512M or 1.5G", o->name, v);
	*out = (int64_t)x;
	return true;
}

static bool
set_real(double *out, const Option *o, const char *v, Err *e)
{
	char *end;
	double x = strtod(v, &end);
	if (end == v || *end || !isfinite(x))
		return fail(e, "--%s: '%s' is not a number", o->name, v);
	*out = x;
	return true;
}

/* Appends name, value to a NULL-terminated list; quadratic copying, but lists are typed by hand. */
static bool
add_pair(Options *all, const char ***list, const Option *o, const char *v, Err *e)
{
	const char *eq = strchr(v, '=');
	size_t n = 0;
	if (!eq || eq == v)
		return fail(e, "--%s: '%s' is not of the form %s", o->name, v, o->arg);
	while (*list && (*list)[n])
		n++;
	const char **more = arena_alloc(&all->arena, (n + 3) * sizeof *more);
	if (n)
		memcpy(more, *list, n * sizeof *more);
	more[n] = arena_strndup(&all->arena, v, (size_t)(eq - v));
	more[n + 1] = eq + 1;
	*list = more;
	return true;
}

static bool
set_option(Options *all, const Option *o, const char *v, Err *e)
{
	void *field = (char *)all + o->off;
	switch (o->type) {
	case OPT_FLAG: *(bool *)field = true; return true;
	case OPT_INT: return set_int(field, o, v, e);
	case OPT_BYTES: return set_bytes(field, o, v, e);
	case OPT_REAL: return set_real(field, o, v, e);
	case OPT_STR: *(const char **)field = v; return true;
	case OPT_PAIRS: return add_pair(all, field, o, v, e);
	}
	return false;
}

/* One option at argv[*i], with its value; PAIRS take the following a=b as well. */
static bool
parse_option(Options *all, const char *cmd, char letter, int argc, char **argv, int *i, Err *e)
{
	const char *arg = argv[*i], *eq = NULL, *v = NULL;
	const Option *o;
	size_t n = strlen(arg);
	if (arg[1] == '-') {
		eq = strchr(arg, '=');
		n = eq ? (size_t)(eq - arg) : n;
		o = find_option(letter, arg + 2, n - 2, 0);
	} else {
		o = n == 2 ? find_option(letter, NULL, 0, arg[1]) : NULL;
	}
	if (!o)
		return fail_unknown(cmd, letter, arg, n, e);
	if (o->type == OPT_FLAG) {
		if (eq)
			return fail(e, "--%s takes no value", o->name);
	} else if (eq) {
		v = eq + 1;
	} else if (*i + 1 < argc) {
		v = argv[++*i];
	} else {
		return fail(e, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
	}
	if (!set_option(all, o, v, e))
		return false;
	while (o->type == OPT_PAIRS && *i + 1 < argc && argv[*i + 1][0] != '-' && strchr(argv[*i + 1], '='))
		if (!set_option(all, o, argv[++*i], e))
			return false;
	return true;
}

bool
options_parse(Options *o, const char *name, char cmd, int argc, char **argv, Err *e)
{
	bool only_names = false; /* after -- */
	*o = defaults;
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		if (!only_names && (!strcmp(a, "--help") || !strcmp(a, "-h"))) {
			o->help = true;
			return true;
		}
		if (!only_names && !strcmp(a, "--")) {
			only_names = true;
		} else if (!only_names && a[0] == '-' && a[1]) {
			if (!parse_option(o, name, cmd, argc, argv, &i, e))
				return false;
		} else if (o->plan) {
			return fail(e, "mmrun %s: one plan at a time: '%s' and '%s' were given", name, o->plan, a);
		} else {
			o->plan = a;
		}
	}
	return true;
}

void
options_help(FILE *f, const char *name, char cmd, const char *args, const char *what)
{
	fprintf(f, "usage: mmrun %s %s [options]\n\n%s\n\noptions:\n", name, args, what);
	for (size_t i = 0; i < LEN(option); i++) {
		const Option *o = &option[i];
		char left[64], letter[5] = "    ";
		bool plain = !strcmp(o->def, "NULL") || !strcmp(o->def, "-1") || !strcmp(o->def, "false") || !strcmp(o->def, "0");
		size_t q = o->def[0] == '"'; /* the default is spelled as in C */
		if (!strchr(o->cmds, cmd))
			continue;
		if (o->letter)
			snprintf(letter, sizeof letter, "-%c, ", o->letter);
		snprintf(left, sizeof left, "%s--%s %s", letter, o->name, o->arg ? o->arg : "");
		fprintf(f, "  %-28s %s", left, o->help);
		if (!plain)
			fprintf(f, " (default %.*s)", (int)(strlen(o->def) - 2 * q), o->def + q);
		fputc('\n', f);
	}
	fprintf(f, "  %-28s %s\n", "-h, --help", "this text");
}
