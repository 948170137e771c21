/* What scans become: each tests/scan/NAME.op is lowered with its gradients, contracted, and printed; NAME.graph is what must come
   out. So it is seen what is made before the loop, in it and after it. BLESS=1 rewrites the expectations. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "../compiler/mmc.h"

static int passed, failed;

static bool
check(bool ok, const char *fmt, const char *what)
{
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	fprintf(stderr, fmt, what);
	fputs("\n", stderr);
	return false;
}

/* The value of a test and the gradients of its sum by every input and parameter, as graph text. */
static char *
print_case(Arena *a, Lib *lib, Ast *test)
{
	Graph *g = graph_new(a, "case");
	Lower *w = lower_new(lib, g, true);
	Node *loss = NULL, *wrt[64], *d[64];
	Val v, *list = &v;
	int n = 1, nwrt = 0;
	int64_t all[MAXDIM] = {0, 1, 2, 3, 4, 5, 6, 7};
	char *text = NULL;
	size_t size;
	if (!lower_eval(w, test->kid[0], "", &v))
		return NULL;
	if (v.kind == V_LIST)
		list = v.list, n = v.nlist;
	for (int i = 0; i < n; i++) {
		graph_output(g, "y", "value", list[i].node);
		Node *s = mk_reduce(g, P_reduce_sum, mk2(g, P_mul, list[i].node, list[i].node), all, list[i].node->nd);
		loss = loss ? mk2(g, P_add, loss, s) : s;
	}
	for (int i = 0; i < g->ninput; i++)
		if (g->input[i].dt == DT_F32)
			wrt[nwrt++] = mk_input(g, i);
	for (int i = 0; i < g->nparam; i++)
		wrt[nwrt++] = mk_param(g, i);
	autodiff(w, loss, wrt, nwrt, d);
	for (int i = 0; i < nwrt; i++)
		if (d[i])
			graph_output(g, wrt[i]->op == P_param ? g->param[wrt[i]->at[0]].name : g->input[wrt[i]->at[0]].name, "gradient", d[i]);
	graph_verify(g, "lower");
	g = pass_contract(g);
	graph_verify(g, "contract");
	FILE *f = open_memstream(&text, &size);
	graph_print(g, f);
	fclose(f);
	return text;
}

static void
run_file(const char *name)
{
	Arena a = {0};
	Lib *lib = lib_new(&a);
	Err e = {0};
	char *path = arena_printf(&a, "tests/scan/%s", name), *want = NULL, *expect;
	Text got = {0};
	size_t size;
	int n;
	expect = arena_printf(&a, "%.*s.graph", (int)(strlen(path) - 3), path);
	lib_load_folder(lib, "ops");
	lib_tests(lib, &n);
	int before = n;
	if (!check(lib_load(lib, path), "%s: does not parse", path))
		return;
	Ast **test = lib_tests(lib, &n);
	for (int i = before; i < n; i++) {
		char *text = print_case(&a, lib, test[i]);
		if (check(text != NULL, "%s: does not lower", path))
			text_puts(&got, text);
		free(text);
	}
	if (getenv("BLESS"))
		check(write_file_atomic(expect, got.s, got.n, 0666, &e), "%s", e.msg);
	else if (check(read_file(expect, &want, &size, &e), "%s", e.msg))
		check(got.s && !strcmp(want, got.s), "%s: another graph than expected: BLESS=1 shows the difference", path);
	free(want);
	free(got.s);
	arena_free(&a);
}

int
main(void)
{
	struct dirent **entry;
	int n = scandir("tests/scan", &entry, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		size_t len = strlen(entry[i]->d_name);
		if (len > 3 && !strcmp(entry[i]->d_name + len - 3, ".op"))
			run_file(entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
	check(passed > 0, "%s", "no cases in tests/scan");
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
