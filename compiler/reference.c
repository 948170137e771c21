/* The reference of the op library, from the definitions themselves: mmc --help-ops. */
#include <string.h>

#include "mmc.h"

static void
put_axes(FILE *f, Ast *const *axis, int n)
{
	fputs("[", f);
	for (int i = 0; i < n; i++) {
		fprintf(f, i ? ", %s" : "%s", axis[i]->s);
		if (axis[i]->kid[1])
			fprintf(f, " as %s", axis[i]->kid[1]->s);
	}
	fputs("]", f);
}

static void
put_default(FILE *f, const Ast *e)
{
	if (e->kind == A_NUM || e->kind == A_NAME)
		fprintf(f, " = %s", e->s);
	else if (e->kind == A_UNARY && e->kid[0]->kind == A_NUM)
		fprintf(f, " = %s%s", e->s, e->kid[0]->s);
	else
		fputs(" = ..", f);
}

static void
put_signature(FILE *f, const Ast *d)
{
	fprintf(f, "%s(", d->s);
	for (int i = 1; i < d->nkid; i++) {
		const Ast *a = d->kid[i];
		fprintf(f, i > 1 ? ", %s%s" : "%s%s", a->s, a->isint ? ".." : "");
		if (a->tensor)
			put_axes(f, a->kid + 1, a->nkid - 1);
		if (a->kid[0])
			put_default(f, a->kid[0]);
	}
	fputs(")", f);
	if (d->sig) {
		fputs(" -> ", f);
		put_axes(f, d->sig, d->nsig);
	}
}

void
lib_help(FILE *f, Lib *l)
{
	static const char *const kinds[] = {"op", "loss", "optimizer", "schedule"};
	int n;
	Ast **def = lib_defs(l, &n);
	for (size_t k = 0; k < LEN(kinds); k++) {
		fprintf(f, "## %s\n\n", kinds[k]);
		for (int i = 0; i < n; i++) {
			if (strcmp(def[i]->t, kinds[k]))
				continue;
			fputs("- `", f);
			put_signature(f, def[i]);
			fprintf(f, "` %s\n", def[i]->doc);
		}
		fputs("\n", f);
	}
}
