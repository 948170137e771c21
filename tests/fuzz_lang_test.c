/* Damaged op files, model files and graph text through the parser, the readers, the lowering and the passes: nothing may crash, hang, leak or
   fail without a message. Files are those of ops, models, tests/lang and tests/graph, changed in a few places: bytes, words of the language,
   spans, lines of other files. Every case follows from its number and the seed.

     fuzz_lang_test [COUNT [SEED [CASE]]]    COUNT cases (3000), or one of them with its text and messages */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../compiler/model.h"

#define MAXFILE 512
#define BATCH 100  /* cases of one child */
#define SECONDS 20 /* for one case, with sanitizers */

typedef struct File {
	char *path, *text;
	bool op, grad; /* definitions; gradient rules among them, which are ours alone */
	bool graph;    /* graph text */
} File;

static File file[MAXFILE];
static int nfile, nlib; /* the first nlib are the library's and the models */
static char scratch[512];
static Lib *library; /* as it is: read once, for all children */

/* ---- the cases ---- */

static uint64_t
next_random(uint64_t *s) /* splitmix64, Steele et al. 2014 */
{
	uint64_t z = *s += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static size_t below(uint64_t *s, size_t n) { return n ? next_random(s) % n : 0; }

static const char *const words[] = {
	"|>", "->", ":=", "..", "==", "!=", "<=", "(", ")", "[", "]", "{", "}", ",", ";", ":", "=", "+", "-", "*", "/", "%", "^", "!", "&",
	"\n", "\"", "#", "##", "'", "\\", "\t", "0", "1", "2", "7", "-1", "0.5", "1e-3", "1e300", "1e999", "99999999999", "1000000", "0x1", "1.",
	"op", "loss", "optimizer", "schedule", "grad", "test", "param", "state", "update", "emit", "scan", "if", "else", "as", "none", "true",
	"false", "inf", "pi", "training", "sum", "max", "min", "size", "split", "merge", "rename", "concat", "stack", "repeat", "uniform", "float",
	"int", "index", "pad", "window", "has", "dense", "embed", "relu", "softmax", "mean", "dropout", "layernorm", "transformer", "self_attention",
	"mlp", "positions", "masked_mean", "x", "y", "t", "c", "b", "i", "o", "v", "axes", "randn[2, c: 3]", "ids[4, below = 5]", "(h: 2, d)",
	"c = (h, d)", "axis = c", "[t = 0]", "[t = 0:2]", "x[.., c]", "zeros", "ones", "normal(0, 1)", "glorot_uniform", "stop", "select", "mod",
	"exp", "pow", "shuffle", "cast", "mse", "bce", "adam", "cosine", "words", "caption", "training & ", "x |> ", "concat(x, x)", "f(x)",
};

static bool
is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* A place for a change: in a model most often behind its network's key. */
static size_t
place(uint64_t *s, const Text *t)
{
	const char *net = strstr(t->s, "\nnetwork:");
	size_t from = net && below(s, 4) ? (size_t)(net - t->s) + 10 : 0;
	return from + below(s, t->n - from);
}

/* A word of the text: the first after a random place. */
static void
find_word(uint64_t *s, const Text *text, size_t *from, size_t *len)
{
	const char *t = text->s;
	size_t n = text->n, i = place(s, text);
	while (i < n && !is_word(t[i]))
		i++;
	*from = i;
	while (i < n && is_word(t[i]))
		i++;
	*len = i - *from;
}

/* Puts b[0..m) in place of t[from..from+len). */
static void
replace(Text *t, size_t from, size_t len, const char *b, size_t m)
{
	Text r = {0};
	text_add(&r, t->s, from);
	text_add(&r, b, m);
	text_add(&r, t->s + from + len, t->n - from - len);
	free(t->s);
	*t = r;
}

static void
mutate(uint64_t *s, Text *t)
{
	size_t from, len, m, other;
	const char *w = words[below(s, LEN(words))];
	char c = (char)below(s, 256);
	char *copy = NULL;
	find_word(s, t, &from, &len);
	switch (below(s, 10)) {
	case 0: /* a byte */
		from = place(s, t);
		c = below(s, 8) ? (char)(' ' + c % 95) : c;
		replace(t, from, 1, c ? &c : "\n", 1);
		return;
	case 1: /* a span goes */
		from = place(s, t);
		len = below(s, 12);
		replace(t, from, from + len > t->n ? t->n - from : len, "", 0);
		return;
	case 2: /* a span comes twice */
		from = place(s, t);
		len = below(s, 40);
		len = from + len > t->n ? t->n - from : len;
		copy = xmalloc(len + 1);
		memcpy(copy, t->s + from, len);
		replace(t, from, 0, copy, len);
		break;
	case 3: /* a word of the language comes */
		replace(t, place(s, t), 0, w, strlen(w));
		return;
	case 4: /* for another word */
	case 5:
	case 6:
		replace(t, from, len, w, strlen(w));
		return;
	case 7:
	case 8: /* a word of the text for another */
		find_word(s, t, &other, &m);
		copy = xmalloc(m + 1);
		memcpy(copy, t->s + other, m);
		replace(t, from, len, copy, m);
		break;
	default: { /* a line of another file, of the same kind */
		const File *f;
		do
			f = &file[below(s, (size_t)nfile)];
		while (!f->text[0]);
		const char *l = f->text + below(s, strlen(f->text)), *nl;
		while (l > f->text && l[-1] != '\n')
			l--;
		nl = strchrnul(l, '\n');
		for (from = below(s, t->n); from > 0 && t->s[from - 1] != '\n';)
			from--;
		replace(t, from, 0, l, (size_t)(nl - l) + (*nl != 0));
	}
	}
	free(copy);
}

static const File *
make_case(uint64_t seed, int k, Text *t)
{
	uint64_t s = seed * 0x100000001b3 + (uint64_t)k;
	next_random(&s);
	size_t n0 = (size_t)nlib, n1 = (size_t)(nfile - nlib);
	const File *f = &file[below(&s, 2) ? below(&s, n0) : n0 + below(&s, n1)]; /* half from the library and the models */
	text_puts(t, f->text);
	for (size_t i = 0, n = 1 + below(&s, 3); i < n && t->n; i++)
		mutate(&s, t);
	for (size_t i = 0; i < t->n; i++)
		if (!t->s[i])
			t->s[i] = ' ';
	return f;
}

/* ---- what is done with one ---- */

/* Every test of the file that was loaded last, which is source `last`. */
static bool
lower_tests(Arena *a, Lib *l, int last)
{
	int n, before = error_count(), bad = 0;
	Ast **test = lib_tests(l, &n);
	for (int i = 0; i < 2 * n; i++) {
		Ast *e = test[i / 2]->kid[0];
		Val v;
		if (e->loc.file != last)
			continue;
		Graph *g = graph_new(a, "test");
		if (!lower_eval(lower_new(l, g, i & 1), e, "", &v))
			bad++;
		else if (v.kind == V_TENSOR)
			graph_output(g, "y", "output", v.node);
		graph_verify(g, "lower");
	}
	return !bad || error_count() > before;
}

static bool
lower_model(Arena *a, Lib *l, const Model *m)
{
	for (int i = 0; i < m->nops; i++)
		if (!lib_load(l, m->ops[i]))
			return true;
	Graph *g = build_train(a, l, m), *e = g ? build_eval(a, l, m, g, 4) : NULL;
	if (g && m->train.accumulate > 1)
		build_accumulate(a, l, m, g);
	if (e) {
		graph_verify(g, "build");
		graph_verify(e, "build");
	}
	return e || error_count() > 0;
}

static bool
read_graphs(Arena *a, const Text *t)
{
	int n, before = error_count();
	Graph **g = graph_read(a, source_add("case.g", t->s ? t->s : ""), &n);
	for (int i = 0; g && i < n; i++) {
		graph_verify(g[i], "read");
		graph_verify(pass_split(pass_precision(pass_contract(g[i])), true), "split");
	}
	return g || error_count() > before;
}

/* False: it failed without a message. */
static bool
run_case(const File *f, const Text *t)
{
	static const char model[] = "ops: [case.op]\ndata: {tables: {posts: posts.csv}}\ninputs: {x: {type: number, from: x}}\n"
		"targets: {y: {type: number, from: y}}\nnetwork: {out: case(x)}\nlosses: {y: {of: out, loss: mse}}\ntrain: {batch: 8}\n";
	Arena a = {0};
	Err e = {0};
	Lib *l = lib_copy(&a, library);
	char path[600], yaml[600];
	int before = error_count();
	bool ok = !f->graph || read_graphs(&a, t);
	if (f->graph) {
		arena_free(&a);
		return ok;
	}
	snprintf(path, sizeof path, "%s/case.op", scratch);
	snprintf(yaml, sizeof yaml, "%s/case.yaml", scratch);
	if (!write_file_atomic(f->op ? path : yaml, t->s ? t->s : "", t->n, 0600, &e) ||
	    (f->op && !write_file_atomic(yaml, model, strlen(model), 0600, &e))) {
		fprintf(stderr, "%s\n", e.msg);
		exit(3);
	}
	if (f->op) {
		ok = lib_load(l, path);
		ok = ok && !f->grad ? lower_tests(&a, l, source_add("end", "") - 1) : ok || error_count() > before;
	}
	if (ok && !f->grad) { /* definitions that replace the library's show in the model of the tests */
		bool iscase = !f->op || strstr(t->s ? t->s : "", "op case(");
		before = error_count();
		Model *m = model_read(&a, iscase ? yaml : "tests/models/tiny.yaml");
		ok = m ? lower_model(&a, l, m) : error_count() > before;
	}
	arena_free(&a);
	return ok;
}

/* Cases [from, to) in a child; its wait status. Messages go nowhere unless shown. */
static int
run_child(uint64_t seed, int from, int to, bool shown)
{
	int status = 0;
	fflush(stdout);
	pid_t p = fork();
	if (p < 0)
		return 1 << 8;
	if (p) {
		waitpid(p, &status, 0);
		return status;
	}
	if (!shown && !freopen("/dev/null", "w", stderr))
		_exit(3);
	for (int k = from; k < to; k++) {
		Text t = {0};
		const File *f = make_case(seed, k, &t);
		if (shown)
			printf("%s with changes:\n%s\n", f->path, t.s ? t.s : "");
		fflush(stdout);
		alarm(SECONDS);
		bool ok = run_case(f, &t);
		alarm(0);
		free(t.s);
		if (!ok)
			exit(4);
	}
	exit(0); /* not _exit: leaks are looked for */
}

static const char *
describe(int status)
{
	static char s[64];
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "hangs";
	if (WIFSIGNALED(status))
		snprintf(s, sizeof s, "signal %d", WTERMSIG(status));
	else
		snprintf(s, sizeof s, "%s (status %d)", WEXITSTATUS(status) == 4 ? "fails without a message" : "ends", WEXITSTATUS(status));
	return s;
}

/* ---- files ---- */

static int by_name(const void *a, const void *b) { return strcmp(((const File *)a)->path, ((const File *)b)->path); }

/* Adds the sections that a model of tests/lang lacks: the lines of common. */
static void
complete(File *f, const char *common)
{
	Text t = {0};
	char head[64];
	text_puts(&t, f->text);
	for (const char *l = common; !f->op && !f->graph && *l; l += strcspn(l, "\n"), l += *l == '\n') {
		snprintf(head, sizeof head, "\n%.*s", (int)strcspn(l, " "), l);
		if (*l != '#' && !strstr(f->text, head))
			text_printf(&t, "%.*s\n", (int)strcspn(l, "\n"), l);
	}
	free(f->text);
	f->text = t.s ? t.s : xstrdup("");
}

static void
add_folder(const char *dir, const char *suffix)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int first = nfile;
	Err err = {0};
	char path[600], *common = NULL;
	snprintf(path, sizeof path, "%s/common.model", dir);
	if (!read_file(path, &common, &(size_t){0}, &err))
		common = xstrdup("");
	err = (Err){0};
	while (d && (e = readdir(d)) && nfile < MAXFILE) {
		size_t len = strlen(e->d_name), m = strlen(suffix), n;
		if (len <= m || strcmp(e->d_name + len - m, suffix))
			continue;
		File *f = &file[nfile];
		*f = (File){.op = !strcmp(suffix, ".op"), .grad = !strcmp(e->d_name, "grad.op"), .graph = !strcmp(suffix, ".g")};
		f->path = xmalloc(strlen(dir) + len + 2);
		sprintf(f->path, "%s/%s", dir, e->d_name);
		if (read_file(f->path, &f->text, &n, &err)) {
			complete(f, common);
			nfile++;
		}
		else
			free(f->path);
	}
	if (d)
		closedir(d);
	free(common);
	qsort(file + first, (size_t)(nfile - first), sizeof *file, by_name); /* cases hang on the order, not on readdir's */
}

int
main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 3000, failed = 0;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	char name[64];
	const char *ops = getenv("MMC_OPS") ? getenv("MMC_OPS") : "ops";
	Arena a = {0};
	snprintf(scratch, sizeof scratch, "%s/fuzz_lang.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	add_folder(ops, ".op");
	add_folder("models", ".yaml");
	add_folder("tests/models", ".yaml");
	nlib = nfile;
	add_folder("tests/lang", ".yaml");
	add_folder("tests/lang", ".op");
	add_folder("tests/graph", ".g");
	library = lib_new(&a);
	if (!nfile || !lib_load_folder(library, ops) || !mkdtemp(scratch)) {
		printf("tests/fuzz_lang_test.c:%d: no files, or no scratch folder: run it at the repository's root\n0 passed, 1 failed\n", __LINE__);
		return 1;
	}
	if (argc > 3) {
		int status = run_child(seed, atoi(argv[3]), atoi(argv[3]) + 1, true);
		printf("%s\n", status ? describe(status) : "fine");
		failed = status != 0;
		count = 1;
	}
	for (int from = 0; argc <= 3 && from < count; from += BATCH) {
		int to = from + BATCH < count ? from + BATCH : count;
		if (!run_child(seed, from, to, false))
			continue;
		for (int k = from, status; k < to; k++) {
			if (!(status = run_child(seed, k, k + 1, false)))
				continue;
			failed++;
			printf("%s:%d: case %d of seed %llu: %s\n", __FILE__, __LINE__, k, (unsigned long long)seed, describe(status));
		}
	}
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof name, i ? "case.yaml" : "case.op");
		char path[600];
		snprintf(path, sizeof path, "%s/%s", scratch, name);
		unlink(path);
	}
	rmdir(scratch);
	arena_free(&a);
	for (int i = 0; i < nfile; i++) {
		free(file[i].path);
		free(file[i].text);
	}
	printf("%d passed, %d failed\n", count - failed, failed);
	return failed > 0;
}
