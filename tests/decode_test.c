/* Programs of one place at a time (compiler/decode.c), for networks of all kinds: at every place of a window they give the
   probabilities that the graph of the whole window gives there, in the float64 interpreter and on every device that is there, fused,
   unfused, without reuse of memory and, on a GPU, with products in bf16. What is kept begins as garbage: rows behind the place must not
   count, and a second time through the window gives the same bits. Networks that look ahead have no program, for the reason here.
   Arguments: names of networks (default: all), cpu, cuda (default: both, cuda where there is one). */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/session.h"
#include "check_count.h"
#include "check_graph.h"

enum { WINDOW = 12, BYTES = 256 };

/* kept: rows and carries that the program keeps, or why there is none: the end of what is said, without the place in the library. */
static const struct Net {
	const char *name, *network;
	int kept;
	const char *why;
} nets[] = {
	{"bigram", "embed(text, 8)", 0, NULL},
	{"learned", "embed(text, 8) |> positions |> repeat(2, transformer(heads=2, hidden=12, causal=true)) |> layernorm", 4, NULL},
	{"sinusoid", "embed(text, 12) |> sinusoid |> transformer(heads=3, hidden=6, causal=true, post=true)", 2, NULL},
	{"rotary", "embed(text, 8) |> repeat(2, transformer(heads=2, hidden=12, causal=true, rotary=true)) |> rmsnorm", 4, NULL},
	{"square", "embed(text, 12) |> positions |> transformer(heads=1, hidden=12, causal=true)", 2, NULL}, /* as many channels as places */
	{"near", "embed(text, 8) |> near(3) |> near(5)", 4, NULL},
	{"excluded", "embed(text, 8) |> positions |> excluded", 2, NULL},
	{"lstm", "embed(text, 6) |> lstm(8, layers=2)", 4, NULL},
	{"gru", "embed(text, 6) |> gru(8, mask = text != 7)", 1, NULL},
	{"conv", "embed(text, 6) |> pad(t, 4, 0) |> conv1d(8, 3, dilation=2) |> gelu |> pad(t, 1, 0) |> conv1d(6, 2)", 2, NULL},
	{"shift", "embed(text, 6) |> shifted |> dense(6) |> tanh |> shifted", 2, NULL},
	{"mixed", "embed(text, 8) |> pad(t, 2, 0) |> conv1d(8, 3) |> gru(8) |> transformer(heads=2, hidden=8, causal=true, rotary=true) |> shifted", 5, NULL},
	{"ranks", "embed(text, 8) |> ranked |> batchnorm |> dense(8)", 0, NULL},
	{"encoder", "embed(text, 8) |> positions |> transformer(heads=2, hidden=12)", 0, "reduce_max: takes in later places"},
	{"strict", "embed(text, 8) |> strict", 0, "reduce_sum: takes in later places"}, /* the first place sees all: it sees none */
	{"hidden", "embed(text, 8) |> transformer(heads=2, hidden=12, causal=true, mask = text != 7)", 0, "reduce_sum: takes in later places"},
	{"backwards", "embed(text, 6) |> lstm(8, bidirectional=true)", 0, "scan: begins at the last place"},
	{"ahead", "embed(text, 6) |> pad(t, 1, 1) |> conv1d(8, 3)", 0, "fetch: is needed at later places"},
	{"mean", "center(embed(text, 6))", 0, "mul: is needed at all places at once"},
	{"memory", "embed(text, 6) |> remembers", 0, "changes a state from window to window"},
	{"flat", "embed(text, 8) |> mixer", 0, "reduce_sum: takes in later places"},
};

/* near: attention to the last `width` places. excluded: to all but later ones. strict: to those before. shifted: what the place before has. */
static const char ops[] =
	"op near(x[.., t, c], width) -> [.., t, c] {\n"
	"  q = dense(x, size(x, c));  k = rename(dense(x, size(x, c)), t = s);  v = rename(dense(x, size(x, c)), t = s)\n"
	"  a = sum(q * k, c)\n"
	"  a = where((index(a, s) <= index(a, t)) & (index(a, s) > index(a, t) - width), a, -1e30)\n"
	"  x + sum(softmax_over(a, s) * v, s)\n"
	"}\n"
	"test near(randn[2, 5, 4], 3)\n"
	"op excluded(x[.., t, c]) -> [.., t, c] {\n"
	"  k = rename(dense(x, size(x, c)), t = s);  v = rename(dense(x, size(x, c)), t = s)\n"
	"  a = sum(x * k, c)\n"
	"  a = where(index(a, s) > index(a, t), -1e30, a)\n"
	"  sum(softmax_over(a, s) * v, s)\n"
	"}\n"
	"test excluded(randn[2, 5, 4])\n"
	"op strict(x[.., t, c]) -> [.., t, c] {\n"
	"  k = rename(dense(x, size(x, c)), t = s)\n"
	"  a = sum(x * k, c)\n"
	"  a = where(index(a, s) < index(a, t), a, -1e30)\n"
	"  sum(softmax_over(a, s) * k, s)\n"
	"}\n"
	"test strict(randn[2, 5, 4])\n"
	"op shifted(x[.., t, c]) -> [.., t, c] { x + pad(x[t = 0:size(x, t) - 1], t, 1, 0) }\n"
	"test shifted(randn[2, 5, 4])\n"
	"op center(x[.., t, c]) -> [.., t, c] { x - mean(x, t) }\n"
	"test center(randn[2, 5, 4])\n"
	"op ranked(x[.., t, c]) -> [.., t, c] { experts(x, dense(x, 4), 2, 8) }\n"
	"test ranked(randn[2, 5, 4])\n"
	"op remembers(x[.., t, c]) -> [.., t, c] { state m[c] = zeros;  update m = mix(m, max(max(x, t), ..), 0.5);  x + m }\n"
	"test remembers(randn[2, 5, 4])\n"
	"op mixer(x[.., t, c]) -> [.., t, c] { param w[t, s: size(x, t)] = glorot_uniform;  rename(sum(x * w, t), s = t) }\n"
	"test mixer(randn[2, 5, 4])\n";

typedef struct Case {
	const char *name;
	Graph *eval, *decode;
	Plan plan;
	Places places;
	unsigned char *image[NSTATE];
	double *state[256];        /* of decode, whose first ones are those of eval */
	double text[WINDOW + 1];
	uint8_t bytes[WINDOW + 1];
} Case;

static Arena arena;

static int64_t state_size(const GState *s) { return count_dims(s->dim, s->nd); }

/* ---- models ---- */

static const char *
write_model(const char *dir, const struct Net *net)
{
	char *path = arena_printf(&arena, "%s/%s.yaml", dir, net->name), *lib = arena_printf(&arena, "%s/test.op", dir);
	char *text = arena_printf(&arena,
		"model: %s\nops: [test.op]\n"
		"data:\n  tables: {book: {type: bytes, path: book}}\n  split: {train: 0.9, val: 0.1, test: 0}\n"
		"inputs:\n  text: {type: sequence, length: %d}\ntargets:\n  next: {type: next}\n"
		"network:\n  hidden: %s\n  logits: hidden |> dense(256)\n"
		"losses:\n  next: {of: logits, loss: cross_entropy}\ntrain: {epochs: 1, batch: 2, optimizer: sgd(lr=0.1)}\n", net->name, WINDOW, net->network);
	Err e = {0};
	bool ok = write_file_atomic(path, text, strlen(text), 0666, &e) && write_file_atomic(lib, ops, sizeof ops - 1, 0666, &e);
	check(ok, "%s", e.msg);
	return path;
}

static double
run_value(const char *name)
{
	return !strcmp(name, "run.rows") || !strcmp(name, "run.steps_per_epoch") ? 1 : 0;
}

/* Parameters as they begin, stirred; what is kept as garbage, the place as 0. */
static void
fill(Case *c)
{
	Err e = {0};
	uint64_t seed = 7, bytes[NSTATE] = {c->plan.param_bytes, c->plan.opt_bytes, c->plan.stat_bytes};
	Graph *g = c->decode;
	for (int k = 0; k < NSTATE; k++)
		c->image[k] = xcalloc(bytes[k] + 1, 1);
	check(init_states(&c->plan, 3, NULL, c->image, &e), "%s: %s", c->name, e.msg);
	for (int i = 0; i < g->nstate; i++) {
		const GState *s = &g->state[i];
		int64_t n = state_size(s);
		unsigned char *at = s->space == SP_ACT ? NULL : c->image[s->space] + c->places.off[place_of(&c->places, s->name)];
		c->state[i] = xcalloc((size_t)n + 1, sizeof **c->state);
		for (int64_t k = 0; k < n; k++) {
			if (at && s->space == SP_PARAM)
				dtype_store(s->dt, at, k, dtype_load(s->dt, at, k) + 0.2 * random_normal(&seed));
			else if (at && !strncmp(s->name, "run.", 4))
				dtype_store(s->dt, at, k, run_value(s->name));
			double garbage = !strcmp(s->name, "place") ? 0 : s->dt == DT_F32 ? 100 * random_normal(&seed) : (double)random_below(&seed, 2);
			c->state[i][k] = at ? dtype_load(s->dt, at, k) : (float)garbage;
		}
	}
	for (int i = 0; i <= WINDOW; i++)
		c->text[i] = c->bytes[i] = (uint8_t)(i % 4 == 2 ? 7 : random_below(&seed, BYTES));
}

static int
kept_states(const Graph *g)
{
	int n = 0;
	for (int i = 0; i < g->nstate; i++)
		n += g->state[i].space == SP_ACT && strcmp(g->state[i].name, "place");
	return n;
}

/* False where the net has no program, as it should be or not. */
static bool
open_case(Case *c, const struct Net *net, const char *dir)
{
	*c = (Case){.name = net->name};
	Lib *lib = lib_new(&arena);
	const char *path = write_model(dir, net);
	Model *m = lib_load_folder(lib, "ops") ? model_read(&arena, path) : NULL;
	Graph *train = m && lib_load(lib, m->ops[0]) ? build_train(&arena, lib, m) : NULL;
	Text say = {0};
	c->eval = train ? build_eval(&arena, lib, m, train, 1) : NULL;
	check(c->eval != NULL, "%s: does not compile", c->name);
	if (!c->eval)
		return false;
	c->decode = pass_decode(c->eval, "next", &say);
	check(!c->decode == (net->why != NULL) && (!net->why || (say.s && strstr(say.s, net->why))), "%s: %s, and it says: %s", c->name,
	      c->decode ? "has a program" : "has no program", say.s ? say.s : "nothing");
	free(say.s);
	if (!c->decode)
		return false;
	graph_verify(c->decode, "decode");
	check(kept_states(c->decode) == net->kept, "%s: keeps %d states, not %d", c->name, kept_states(c->decode), net->kept);
	place_states(&arena, train, &c->places, &c->plan);
	place_kept(&arena, c->decode, &c->places);
	fill(c);
	return true;
}

static void
close_case(Case *c)
{
	for (size_t i = 0; i < LEN(c->state); i++)
		free(c->state[i]);
	for (int k = 0; k < NSTATE; k++)
		free(c->image[k]);
}

/* ---- the interpreter ---- */

static Node *
prediction(const Graph *g)
{
	for (int i = 0; i < g->noutput; i++)
		if (!strcmp(g->output[i].role, "prediction") || !strcmp(g->output[i].role, "place"))
			return g->output[i].node;
	bug("%s predicts nothing", g->name);
}

/* Of the whole window: [WINDOW, BYTES]. */
static double *
interpret_window(const Case *c, Graph *g)
{
	const double *column[] = {c->text};
	Env env = {.state = (const double **)c->state, .column = column, .rows = WINDOW + 1};
	Node *out = prediction(g);
	double *value;
	interp(g, &env, &out, 1, &value);
	return value;
}

/* All places one by one; the states are as they were afterwards. */
static double *
interpret_places(const Case *c, Graph *g)
{
	const double *column[] = {c->text};
	double *state[256], *value[256], *all = xcalloc(WINDOW * BYTES, sizeof *all);
	Env env = {.state = (const double **)state, .column = column, .rows = WINDOW + 1};
	Node *out[256];
	int n = 0, of[256];
	for (int i = 0; i < g->nstate; i++) {
		size_t size = (size_t)state_size(&g->state[i]) * sizeof **state;
		state[i] = memcpy(xmalloc(size + 1), c->state[i], size);
		if (g->state[i].update) {
			of[n] = i;
			out[n++] = g->state[i].update;
		}
	}
	out[n] = prediction(g);
	for (int t = 0; t < WINDOW; t++) {
		interp(g, &env, out, n + 1, value);
		memcpy(all + t * BYTES, value[n], BYTES * sizeof *all);
		free(value[n]);
		for (int k = 0; k < n; k++) {
			free(state[of[k]]);
			state[of[k]] = value[k];
		}
	}
	for (int i = 0; i < g->nstate; i++)
		free(state[i]);
	return all;
}

static void
compare(const Case *c, const char *how, const double *want, const double *got, double bound)
{
	int worst = 0;
	double most = -1;
	for (int t = 0; t < WINDOW; t++) {
		double off = relative_difference(want + t * BYTES, got + t * BYTES, BYTES, 0);
		if (!(off <= most)) {
			most = off;
			worst = t;
		}
	}
	check(most <= bound, "%s: %s: at place %d the probabilities are off by %g of the largest", c->name, how, worst, most);
}

/* ---- devices ---- */

/* The states of the graph's that lie in the activations, as device memory. */
static unsigned char *
kept_image(const Case *c, uint64_t bytes)
{
	unsigned char *image = xcalloc(bytes + 1, 1);
	for (int i = 0; i < c->decode->nstate; i++) {
		const GState *s = &c->decode->state[i];
		uint64_t off = c->places.off[place_of(&c->places, s->name)];
		for (int64_t k = 0; s->space == SP_ACT && k < state_size(s); k++)
			dtype_store(s->dt, image + off, k, c->state[i][k]);
	}
	return image;
}

/* Twice all places, the second time on what the first left; in between only the place is set back. */
static bool
run_places(Case *c, Process *r, double *all, Err *e)
{
	const PlanProgram *p = r->program;
	const PlanRef *out = p->output[0].ref;
	Device *d = r->device;
	unsigned char *kept = kept_image(c, p->kept_bytes);
	uint64_t place_off = c->places.off[place_of(&c->places, "place")];
	float first[WINDOW][BYTES], row[BYTES];
	bool ok = out->bytes == sizeof row && process_poison(r, e) && d->upload(d, process_at(r, SP_ACT, 0), kept, p->kept_bytes, e), same = true;
	for (int round = 0; round < 2; round++) {
		int32_t place = 0;
		ok = ok && d->upload(d, process_at(r, SP_ACT, place_off), &place, sizeof place, e);
		for (int t = 0; ok && t < WINDOW; t++) {
			ok = process_run(r, e) && d->download(d, round ? row : first[t], process_at(r, SP_ACT, out->off), sizeof row, e);
			same &= !round || !memcmp(row, first[t], sizeof row);
			for (int k = 0; !round && k < BYTES; k++)
				all[t * BYTES + k] = (double)first[t][k];
		}
	}
	check(!ok || same, "%s on %s: a second time through the window gives other bits", c->name, d->name);
	free(kept);
	return ok && process_intact(r, e);
}

static bool
run(Case *c, Device *d, const Plan *p, double *all, Err *e)
{
	Process r;
	bool ok = process_open(&r, d, p, 0, &c->places, &(DataColumn){c->bytes, sizeof c->bytes}, 1, e) && process_upload(&r, c->image, e) &&
	          run_places(c, &r, all, e);
	process_close(&r);
	return ok;
}

static void
on_device(Case *c, const double *want, Device *d)
{
	double all[WINDOW * BYTES];
	Err e = {0};
	Graph *contracted = pass_contract(c->decode);
	for (const CheckMode *m = check_modes; m->name && !e.set; m++) {
		if (m->cuda != !strcmp(d->name, "cuda"))
			continue;
		Plan *p = compile_graphs(&arena, &(Graph *){mode_graph(contracted, m)}, &c->places, 1, m, 48);
		if (run(c, d, p, all, &e))
			compare(c, m->name, want, all, m->half ? 5e-2 : 2e-5);
		else
			check(false, "%s: %s: %s", c->name, m->name, e.msg);
	}
}

static void
test_net(const struct Net *net, const char *dir, Device *const *d, int nd)
{
	Case c;
	if (!open_case(&c, net, dir))
		return;
	double *want = interpret_window(&c, c.eval), *got = interpret_places(&c, c.decode), *dots = interpret_places(&c, pass_contract(c.decode));
	compare(&c, "interpreted", want, got, 1e-12);
	compare(&c, "contracted", want, dots, 1e-12);
	for (int i = 0; i < nd; i++)
		on_device(&c, want, d[i]);
	free(want);
	free(got);
	free(dots);
	close_case(&c);
}

int
main(int argc, char **argv)
{
	Device *d[2];
	const char *dir = make_folder();
	int nd = open_devices(argc, argv, d);
	for (size_t i = 0; i < LEN(nets); i++) {
		bool named = false, wanted = false;
		for (int k = 1; k < argc; k++) {
			bool device = !strcmp(argv[k], "cpu") || !strcmp(argv[k], "cuda");
			named |= !device;
			wanted |= !strcmp(argv[k], nets[i].name);
		}
		if (!named || wanted)
			test_net(&nets[i], dir, d, nd);
	}
	for (int i = 0; i < nd; i++)
		d[i]->close(d[i]);
	arena_free(&arena);
	return check_end();
}
