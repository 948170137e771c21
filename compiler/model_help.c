/* The reference of the model file's keys, printed from grammar/model.def: for a terminal, or as the markdown of
   models/README.md. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define HELP_WIDTH 100

/* Prints words from column `col` on, indented there when a line is full. */
static void
wrap(FILE *f, const char *s, int col)
{
	int at = col;
	while (*s) {
		int n = (int)strcspn(s, " ");
		if (at > col && at + 1 + n > HELP_WIDTH) {
			fprintf(f, "\n%*s", col, "");
			at = col;
		} else if (at > col) {
			fputc(' ', f);
			at++;
		}
		fprintf(f, "%.*s", n, s);
		at += n;
		s += n + (s[n] == ' ');
	}
	fputc('\n', f);
}

/* A cell of a markdown table: | would end it. */
static void
cell(FILE *f, const char *s)
{
	fputs("| ", f);
	for (; *s; s++) {
		if (*s == '|')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputc(' ', f);
}

static void
print_key(FILE *f, const Key *k, bool markdown)
{
	Arena a = {0};
	char *what = key_what(&a, k);
	char *of = *k->when ? arena_printf(&a, " (type %s)", k->when) : "";
	char *value = k->def[0] == '(' || !*k->def ? arena_strdup(&a, k->def) : arena_printf(&a, markdown ? "`%s`" : "%s", k->def);
	if (markdown) {
		cell(f, arena_printf(&a, "`%s`%s", k->name, of));
		cell(f, what);
		cell(f, strcmp(k->def, "required") ? value : "required");
		cell(f, k->help);
		fputs("|\n", f);
	} else {
		bool required = !strcmp(k->def, "required");
		fprintf(f, "  %-16s", k->name);
		wrap(f, arena_printf(&a, "%s%s%s%s", what, of, required ? "; required" : *value ? "; default " : "", required ? "" : value), 18);
		fprintf(f, "%18s", "");
		wrap(f, k->help, 18);
	}
	arena_free(&a);
}

static void
print_choices(FILE *f, ValueType t, const char *title, bool markdown)
{
	bool first = true;
	for (int i = 0; i < nchoices; i++)
		if (choices[i].type == t) {
			if (first)
				fprintf(f, markdown ? "\n`%s`:\n\n" : "\n  %s:\n", title);
			first = false;
			fprintf(f, !*choices[i].help ? (markdown ? "- `%s`\n" : "    %s\n") : markdown ? "- `%s`: %s\n" : "    %-18s%s\n", choices[i].name, choices[i].help);
		}
}

static const struct {
	ValueType type;
	const char *title;
} metrics[] = {
	{V_number_metric, "METRIC of a number"}, {V_binary_metric, "METRIC of a binary target"}, {V_class_metric, "METRIC of a class"},
	{V_labels_metric, "METRIC of labels"}, {V_tensor_metric, "METRIC of an image or tensor"}, {V_next_metric, "METRIC of next bytes"},
};

static void
print_section(FILE *f, Section s, bool markdown)
{
	fprintf(f, markdown ? "## %s\n\n%s\n\n| key | value | default | meaning |\n|---|---|---|---|\n" : "%s\n  %s\n\n",
		sections[s].title, sections[s].help);
	for (int i = 0; i < nkeys; i++)
		if (keys[i].section == s)
			print_key(f, &keys[i], markdown);
	for (int i = 0; i < nkeys; i++)
		if (keys[i].section == s) {
			bool again = s == S_target && (keys[i].type == V_scale || keys[i].type == V_dtype); /* said under inputs */
			if (keys[i].type == V_metric)
				for (size_t k = 0; k < LEN(metrics); k++)
					print_choices(f, metrics[k].type, metrics[k].title, markdown);
			else if (!again)
				print_choices(f, keys[i].type, keys[i].name, markdown);
		}
	fputc('\n', f);
}

void
model_help(FILE *f, bool markdown)
{
	for (int s = 0; s < NSECTION; s++)
		print_section(f, (Section)s, markdown);
}
