/* The picture of a network: what its boxes say, that nothing overlaps, and that the file is well-formed XML. */
#define _GNU_SOURCE
#include "../compiler/picture.h"
#include "check_xml.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int passed, failed;
static char folder[256];

static bool
check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		passed++;
	else
		failed++, printf("%s:%d: %s\n", file, line, what);
	return ok;
}
#define CHECK(c) check((c), #c, __FILE__, __LINE__)

/* ---- models ---- */

static const char *
temp_path(Arena *a, const char *name)
{
	return arena_printf(a, "%s/%s", folder, name);
}

/* A model with the network and losses given; its inputs are one of each kind. */
static Model *
make_model(Arena *a, const char *network, const char *losses)
{
	Err e = {0};
	const char *path = temp_path(a, "model.yaml");
	char *s = arena_printf(a,
	        "model: m\n"
	        "data: {tables: {posts: none.csv}}\n"
	        "inputs:\n"
	        "  words: {type: text, tokens: 32, vocabulary: 1000}\n"
	        "  tags: {type: tags, max: 8, hash: 64}\n"
	        "  song: {type: category, size: 12}\n"
	        "  x: {type: number, from: '\"a\" & 1 < 2', scale: [log1p, zscore]}\n"
	        "  y: {type: number}\n"
	        "targets:\n"
	        "  plays: {type: number}\n"
	        "  viral: {type: binary, from: plays > 9}\n"
	        "network:\n%s"
	        "losses:\n%s"
	        "train: {batch: 64, optimizer: 'adamw(lr=1e-3, decay=0.1)'}\n", network, losses);
	if (!CHECK(write_file_atomic(path, s, strlen(s), 0644, &e)))
		return NULL;
	return model_read(a, path);
}

#define LOSSES "  plays: {of: 'out |> dense(1)', loss: huber(delta=2), weight: 0.5}\n" \
               "  viral: {of: out |> dense(1), loss: bce, positive_weight: balanced}\n"

static Lib *
load_ops(Arena *a)
{
	const char *dir = getenv("MMC_OPS");
	Lib *l = lib_new(a);
	return lib_load_folder(l, dir ? dir : "ops") ? l : NULL;
}

static Picture *
draw(Arena *a, Lib *l, const char *network)
{
	Err e = {0};
	Model *m = make_model(a, network, LOSSES);
	Picture *p = m ? picture_build(a, l, m, &e) : NULL;
	if (!CHECK(p != NULL))
		printf("  %s%s\n", network, e.msg);
	return p;
}

static const Box *
find_box(const Picture *p, const char *title)
{
	for (int i = 0; p && i < p->nbox; i++)
		if (!strcmp(p->box[i].title, title))
			return &p->box[i];
	return NULL;
}

static bool
has_edge(const Picture *p, const char *from, const char *to)
{
	for (int i = 0; i < p->nedge; i++) {
		const Box *a = &p->box[p->edge[i].from], *b = &p->box[p->edge[i].to];
		bool is_from = !strcmp(a->title, from);
		for (int k = 0; k < a->nrow; k++)
			is_from |= a->kind == BX_INPUT && !strcmp(a->row[k].strong, from);
		if (is_from && !strcmp(b->title, to))
			return true;
	}
	return false;
}

/* ---- what boxes say ---- */

/* Rows as text: "strong soft right" with indents as dots, lines apart by /. */
static char *
rows_text(const Box *b)
{
	Text t = {0};
	text_puts(&t, "");
	for (int i = 0; b && i < b->nrow; i++) {
		const char *part[] = {b->row[i].strong, b->row[i].soft, b->row[i].right};
		text_puts(&t, i ? "/" : "");
		for (int k = 0; k < b->row[i].indent; k++)
			text_puts(&t, ".");
		for (int k = 0, n = 0; k < 3; k++)
			if (*part[k])
				text_printf(&t, "%s%s", n++ ? " " : "", part[k]);
	}
	return t.s;
}

static void
test_chains(Lib *l)
{
	static const struct {
		const char *code, *rows, *out;
	} cases[] = {
		{"x |> dense(8)", "dense 8", "[b, c: 8]"},
		{"dense(x, 8)", "dense 8", "[b, c: 8]"},
		{"x", "x", "[b, c: 1]"},
		{"x |> dense(8) |> relu |> dense(8) |> dense(8)", "dense 8 [b, c: 8]/relu/dense ×2 8", "[b, c: 8]"},
		{"embed(words, 16) |> positions |> repeat(3, transformer(heads=4, hidden=32, mask=words != 0)) |> masked_mean(words != 0)",
	         "embed 16 [b, t: 32, c: 16]/positions/transformer ×3/.heads=4, hidden=32, mask=words != 0/masked_mean words != 0", "[b, c: 16]"},
		{"concat(x, y, embed(song, 4), mean(embed(tags, 4), k)) |> dense(8)",
	         "concat [b, c: 10]/.x, y/.song → embed 4 [b, c: 4]/.tags → embed 4 → mean k [b, c: 4]/dense 8", "[b, c: 8]"},
		{"x |> concat(y) |> dense(2)", "concat [b, c: 2]/.x, y/dense 2", "[b, c: 2]"},
		{"x * 2 - 1 |> dense(8)", "* 2 [b, c: 1]/- 1/dense 8", "[b, c: 8]"},
		{"x * y + (1 - x) |> dense(8)", "x * y + (1 - x)/dense 8", "[b, c: 8]"},
		{"where(x > 0, x, y) |> dense(8)", "where x > 0 [b, c: 1]/.x, y/dense 8", "[b, c: 8]"},
		{"concat(x + y, x) |> dense(2)", "concat [b, c: 2]/.x + y [b, c: 1]/.x/dense 2", "[b, c: 2]"},
		{"embed(words, 6)[t = 0:4] |> mean(t)", "embed 6 [b, t: 32, c: 6]/[t=0:4] [b, t: 4, c: 6]/mean t", "[b, c: 6]"},
		{"dense(x, size(words))", "x/dense size(words)", "[b, c: 1000]"},
		{"words != 0 |> float", "!= 0 [b, t: 32]/float", "[b, t: 32]"},
	};
	for (size_t i = 0; i < LEN(cases); i++) {
		Arena a = {0};
		Picture *p = draw(&a, l, arena_printf(&a, "  e: '%s'\n  out: concat(e, e) |> dense(3)\n", cases[i].code));
		const Box *b = find_box(p, "e");
		char *s = rows_text(b);
		if (!CHECK(b && !strcmp(s, cases[i].rows)))
			printf("  %s\n  is   %s\n  want %s\n", cases[i].code, s, cases[i].rows);
		if (!CHECK(b && !strcmp(b->out, cases[i].out)))
			printf("  %s: %s\n", cases[i].code, b ? b->out : "none");
		free(s);
		arena_free(&a);
	}
}

static void
test_boxes(Lib *l)
{
	Arena a = {0};
	Picture *p = draw(&a, l, "  text: embed(words, 16) |> mean(t)\n  both: concat(text, x, y) |> dense(8)\n  masked: embed(tags, 4) |> masked_mean(tags != 0)\n"
	                  "  spare: text |> dense(4)\n  out: both |> dense(2)\n");
	const Box *b = find_box(p, "text");
	char *s;
	CHECK(b && b->kind == BX_ENTRY && !strcmp(b->note, "16,000 params") && !b->unused && b->kinds == 1u << IN_TEXT);
	CHECK(b && b->tip && strstr(b->tip, "text.embed.table: 16,000"));
	CHECK((b = find_box(p, "both")) && b->kinds == (1u << IN_TEXT | 1u << IN_NUMBER) && !strcmp(b->note, "152 params"));
	CHECK((b = find_box(p, "spare")) && b->unused);
	CHECK((b = find_box(p, "song")) && b->unused && b->kind == BX_INPUT && !strcmp(b->note, "[b]"));
	CHECK((b = find_box(p, "words")) && !b->unused && !strcmp(b->note, "[b, t: 32]"));
	CHECK(!find_box(p, "x") && !find_box(p, "y")); /* read by the same entries: rows of one box */
	b = find_box(p, "");
	s = rows_text(b);
	CHECK(b && b->table && !strcmp(s, "x number · log1p · zscore [b, c: 1]/y number [b, c: 1]"));
	free(s);
	b = find_box(p, "plays");
	s = rows_text(b);
	CHECK(b && b->kind == BX_LOSS && !strcmp(s, "dense 1 [b, c: 1]/huber loss delta=2, weight=0.5"));
	free(s);
	b = find_box(p, "viral");
	s = rows_text(b);
	CHECK(b && !strcmp(b->note, "binary target") && !strcmp(s, "dense 1 [b, c: 1]/bce loss positive_weight=balanced"));
	free(s);
	CHECK(p && has_edge(p, "words", "text") && has_edge(p, "text", "both") && has_edge(p, "x", "both") && has_edge(p, "y", "both"));
	CHECK(p && has_edge(p, "both", "out") && has_edge(p, "out", "plays") && has_edge(p, "out", "viral") && has_edge(p, "tags", "masked"));
	CHECK(p && !has_edge(p, "words", "both") && !has_edge(p, "x", "text") && p->nedge == 8);
	CHECK(p && strstr(p->summary, "16,500 parameters") && strstr(p->summary, "adamw(lr=0.001, decay=0.1)"));
	arena_free(&a);
}

/* ---- the file ---- */

static void
test_file(Lib *l)
{
	static const char network[] = "  text: embed(words, 16) |> mean(t)\n  gate: where(x < 1 & y > 2, x, y) |> dense(16)\n  out: concat(text * gate, mean(embed(tags, 8), k)) |> dense(4)\n";
	Arena a = {0};
	Err e = {0};
	char *svg[2] = {0};
	size_t n[2];
	const char *path = temp_path(&a, "a.svg"), *bad = temp_path(&a, "nowhere/a.svg");
	for (int i = 0; i < 2; i++) {
		Model *m = make_model(&a, network, LOSSES);
		CHECK(m && picture_write(&a, l, m, path, &e) && read_file(path, &svg[i], &n[i], &e));
	}
	CHECK(svg[0] && svg[1] && n[0] == n[1] && !memcmp(svg[0], svg[1], n[0]));
	CHECK(svg[0] && xml_document(svg[0]));
	static const char *const words[] = {">text</text>", ">gate</text>", ">out</text>", ">plays</text>", ">viral</text>", ">words</text>", ">tags</text>", ">song</text>",
	                                    ">x</text>", ">y</text>", ">[b, c: 16]</text>", "x &lt; 1 &amp; y &gt; 2", "&quot;a&quot; &amp; 1 &lt; 2", "prefers-color-scheme:dark"};
	for (size_t i = 0; svg[0] && i < LEN(words); i++)
		if (!CHECK(strstr(svg[0], words[i])))
			printf("  %s\n", words[i]);
	CHECK(svg[0] && !strstr(svg[0], "http://") == !strstr(svg[0], "xmlns") && !strstr(svg[0], "<script") && !strstr(svg[0], "@import") && !strstr(svg[0], "url("));
	free(svg[0]);
	free(svg[1]);
	/* what XML cannot hold */
	Text t = {0};
	Row row = {"a\x01", "\xef\xbf\xbf", "]]>", "tip", 0, -1};
	Box box = {.title = "<&\">", .note = "", .out = "", .row = &row, .nrow = 1};
	Picture p = {.arena = &a, .name = "n\x1f", .summary = "", .box = &box, .nbox = 1};
	picture_place(&p);
	picture_svg(&p, &t);
	CHECK(xml_document(t.s) && strstr(t.s, "&lt;&amp;&quot;&gt;</text>") && strstr(t.s, ">a?</text>") && strstr(t.s, ">?</text>"));
	free(t.s);
	/* no file and no part of one where it cannot be written */
	Model *m = make_model(&a, network, LOSSES);
	CHECK(m && !picture_write(&a, l, m, bad, &e) && e.set && strstr(e.msg, bad));
	CHECK(access(bad, F_OK));
	arena_free(&a);
}

/* ---- places ---- */

static unsigned
next_random(unsigned *s)
{
	return *s = *s * 1664525u + 1013904223u, *s >> 8;
}

static Picture
random_picture(Arena *a, unsigned seed)
{
	unsigned s = seed * 7919 + 1;
	int n = 2 + (int)(next_random(&s) % (seed % 8 ? 20 : 70)), dense = 1 + (int)(next_random(&s) % 3);
	Picture p = {.arena = a, .name = "random", .summary = "", .nbox = n};
	p.box = arena_alloc(a, (size_t)n * sizeof *p.box);
	for (int i = 0; i < n; i++) {
		Box *b = &p.box[i];
		*b = (Box){.kind = i < n / 3 ? BX_INPUT : i >= n - 2 ? BX_LOSS : BX_ENTRY, .title = arena_printf(a, "box%d", i), .note = ""};
		b->kinds = 1 + next_random(&s) % 15;
		b->out = b->kind == BX_ENTRY ? "[b, t: 32, c: 128]" : "";
		b->nrow = (int)(next_random(&s) % (i % 5 ? 6 : 40));
		b->table = b->kind == BX_INPUT && b->nrow > 1;
		b->row = arena_alloc(a, (size_t)(b->nrow + 1) * sizeof *b->row);
		for (int k = 0; k < b->nrow; k++)
			b->row[k] = (Row){"dense", k % 3 ? "" : "heads=4, hidden=512", k % 2 ? "" : "[b]", NULL, k % 2, b->table ? k % 4 : -1};
	}
	for (int i = 0; i < n - 2; i++)
		for (int k = i + 1; k < n; k++)
			if (p.box[k].kind != BX_INPUT && (int)(next_random(&s) % (unsigned)n) < dense)
				ARENA_PUSH(a, p.edge, p.nedge, p.capedge) = (Edge){i, k};
	return p;
}

static bool
boxes_apart(const Picture *p)
{
	for (int i = 0; i < p->nbox; i++) {
		const Box *a = &p->box[i];
		if (a->x < MARGIN || a->y < HEADER_H || a->x + a->w > p->w - MARGIN || a->y + a->h > p->h - MARGIN)
			return false;
		for (int k = 0; k < i; k++) {
			const Box *b = &p->box[k];
			if (a->x < b->x + b->w + 8 && b->x < a->x + a->w + 8 && a->y < b->y + b->h + 8 && b->y < a->y + a->h + 8)
				return false;
		}
	}
	return true;
}

static bool
rows_fit(const Picture *p)
{
	for (int i = 0; i < p->nbox; i++) {
		const Box *b = &p->box[i];
		for (int k = 0; k < b->nrow; k++) {
			const Row *r = &b->row[k];
			int left = r->indent * INDENT + (b->table ? b->soft_x : *r->strong ? text_width(r->strong, NAME_PX, FACE_MONO) + 8 : 0);
			if (left + text_width(r->soft, SMALL_PX, FACE_MONO) + text_width(r->right, SMALL_PX, FACE_MONO) > b->col_w)
				return false;
		}
		if (b->ncol * b->col_w > b->w - 2 * PAD || TITLE_H * (*b->title != 0) + b->col_rows * ROW_H > b->h)
			return false;
	}
	return true;
}

/* Points of every piece against every box. */
static bool
pieces_clear(const Picture *p)
{
	for (int i = 0; i < p->npiece; i++) {
		const Piece *e = &p->piece[i];
		if (e->y1 < e->y0)
			return false;
		for (int k = 0; k <= 40; k++) {
			double u = k / 40.0, v = 1 - u, mid = (e->y0 + e->y1) / 2.0;
			double x = (v * v * v + 3 * v * v * u) * e->x0 + (3 * v * u * u + u * u * u) * e->x1;
			double y = v * v * v * e->y0 + 3 * v * v * u * mid + 3 * v * u * u * mid + u * u * u * e->y1;
			for (int j = 0; j < p->nbox; j++) {
				const Box *b = &p->box[j];
				if (x > b->x && x < b->x + b->w && y > b->y + 0.01 && y < b->y + b->h - 0.01)
					return false;
			}
		}
	}
	return true;
}

/* Every edge arrives, once, at the top of its box, and nothing else does. */
static bool
edges_arrive(const Picture *p)
{
	int arrows = 0;
	for (int i = 0; i < p->npiece; i++)
		arrows += p->piece[i].arrow;
	for (int i = 0; i < p->nedge; i++) {
		const Box *b = &p->box[p->edge[i].to];
		int n = 0;
		for (int k = 0; k < p->npiece; k++) {
			const Piece *e = &p->piece[k];
			n += e->arrow && e->from == p->edge[i].from && e->y1 == b->y && e->x1 > b->x && e->x1 < b->x + b->w;
		}
		if (n != 1)
			return false;
	}
	return arrows == p->nedge;
}

static void
test_places(void)
{
	for (unsigned seed = 0; seed < 80; seed++) {
		Arena a = {0};
		Picture p = random_picture(&a, seed);
		picture_place(&p);
		int before = failed;
		CHECK(boxes_apart(&p));
		CHECK(rows_fit(&p));
		CHECK(pieces_clear(&p));
		CHECK(edges_arrive(&p));
		if (failed > before)
			printf("  seed %u: %d boxes, %d edges\n", seed, p.nbox, p.nedge);
		arena_free(&a);
	}
}

/* Two towers that cross if taken as they come. */
static void
test_order(void)
{
	Arena a = {0};
	Edge edge[] = {{0, 3}, {1, 2}, {2, 4}, {3, 5}};
	Box box[6];
	Picture p = {.arena = &a, .name = "x", .summary = "", .box = box, .nbox = 6, .edge = edge, .nedge = 4};
	for (int i = 0; i < 6; i++)
		box[i] = (Box){.kind = i < 2 ? BX_INPUT : i < 4 ? BX_ENTRY : BX_LOSS, .title = "box", .note = "", .out = ""};
	picture_place(&p);
	for (int i = 0; i < p.npiece; i++)
		CHECK(p.piece[i].x0 == p.piece[i].x1); /* then all edges are straight */
	arena_free(&a);
}

int
main(void)
{
	Arena a = {0};
	Lib *l = load_ops(&a);
	const char *tmp = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/picture_test.XXXXXX", tmp ? tmp : "/tmp");
	if (CHECK(l != NULL) && CHECK(mkdtemp(folder) != NULL)) {
		test_chains(l);
		test_boxes(l);
		test_file(l);
		unlink(temp_path(&a, "model.yaml"));
		unlink(temp_path(&a, "a.svg"));
		CHECK(rmdir(folder) == 0); /* no temporary file stays */
	}
	test_places();
	test_order();
	arena_free(&a);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
