/* The picture as SVG 1.1. Light colours are attributes, so every viewer shows them; a style sheet overrides them where
   dark is preferred. The picture brings its own background: text never stands on a page of the other kind. Colours of
   kinds: Okabe and Ito 2008, told apart by people with colour blindness. Text is text, in fonts of the viewer. */
#include <string.h>

#include "../runtime/html.h"
#include "picture.h"

#define SANS "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
#define MONO "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

typedef struct Colour {
	const char *name, *hex;
} Colour;

/* By InputKind; then what is made of several kinds, and losses. */
static const Colour colour[] = {{"number", "#009e73"}, {"category", "#e69f00"}, {"text", "#0072b2"}, {"tags", "#56b4e9"}, {"several kinds", "#7b8794"}, {"loss", "#d55e00"}};
enum { NKIND = 4, C_SEVERAL = NKIND, C_LOSS };

/* Parts of the picture: class, its light colour, its dark one. */
#define PARTS(X)                     \
	X(PAGE, "page", "#ffffff", "#0d1117") \
	X(CARD, "card", "#ffffff", "#161b22") \
	X(INK, "ink", "#1f2933", "#e6edf3")  \
	X(SOFT, "soft", "#5f6b7a", "#9aa7b5")
typedef enum Part {
#define X(id, class, light, dark) PT_##id,
	PARTS(X)
#undef X
} Part;
static const struct {
	const char *class, *light, *dark;
} part[] = {
#define X(id, class, light, dark) {class, light, dark},
	PARTS(X)
#undef X
};

static void
put_text(Text *t, int x, int y, int px, Face f, Part p, bool right, const char *s)
{
	if (!*s)
		return;
	text_printf(t, "<text x=\"%d\" y=\"%d\" font-size=\"%d\" class=\"%s\" fill=\"%s\"%s%s%s>", x, y, px, part[p].class, part[p].light,
	            f == FACE_MONO ? "" : " font-family=\"" SANS "\"", f == FACE_BOLD ? " font-weight=\"600\"" : "", right ? " text-anchor=\"end\"" : "");
	html_text(t, s);
	text_puts(t, "</text>\n");
}

static int
colour_of(const Box *b)
{
	if (b->kind == BX_LOSS)
		return C_LOSS;
	for (int k = 0; k < NKIND; k++)
		if (b->kinds == 1u << k)
			return k;
	return C_SEVERAL;
}

static void
put_tip(Text *t, const char *tip)
{
	if (!tip || !*tip)
		return;
	text_puts(t, "<title>");
	html_text(t, tip);
	text_puts(t, "</title>");
}

/* Along the top: a part for each kind of input that the box is made of. */
static void
put_bar(Text *t, const Box *b)
{
	int n = 0, i = 0, w = b->w - 2 * PAD;
	for (int k = 0; k < NKIND; k++)
		n += b->kinds >> k & 1;
	for (int k = 0; k < NKIND; k++)
		if (b->kinds >> k & 1) {
			text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"3\" fill=\"%s\"/>\n", b->x + PAD + w * i / n, b->y,
			            w * (i + 1) / n - w * i / n, colour[k].hex);
			i++;
		}
}

static void
put_row(Text *t, const Box *b, int i, int y)
{
	const Row *r = &b->row[i];
	int left = b->x + PAD + i / b->col_rows * (b->col_w + COL_GAP), x = left + r->indent * INDENT;
	y += i % b->col_rows * ROW_H;
	text_puts(t, r->tip ? "<g>" : "");
	put_tip(t, r->tip);
	if (r->kind >= 0 && b->table)
		text_printf(t, "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/>\n", x + 4, y - 4, colour[r->kind < NKIND ? r->kind : C_SEVERAL].hex);
	x += r->kind >= 0 && b->table ? DOT : 0;
	put_text(t, x, y, NAME_PX, FACE_MONO, PT_INK, false, r->strong);
	if (b->table)
		x = left + b->soft_x;
	else if (*r->strong)
		x += text_width(r->strong, NAME_PX, FACE_MONO) + 8;
	put_text(t, x, y, SMALL_PX, FACE_MONO, PT_SOFT, false, r->soft);
	put_text(t, left + b->col_w, y, SMALL_PX, FACE_MONO, PT_SOFT, true, r->right);
	text_puts(t, r->tip ? "</g>\n" : "");
}

static void
put_box(Text *t, const Box *b)
{
	const char *c = colour[colour_of(b)].hex;
	int y = b->y + (*b->title ? TITLE_H + 13 : 21);
	text_puts(t, "<g>");
	put_tip(t, b->tip);
	for (int i = 0; i < 2; i++) /* the card hides edges, the tint lies on it in either scheme */
		text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" %s=\"%s\"%s/>\n", b->x, b->y, b->w, b->h,
		            i ? "fill-opacity=\"0.08\" fill" : "class=\"card\" fill", i ? c : part[PT_CARD].light, "");
	text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\"%s/>\n", b->x, b->y, b->w,
	            b->h, c, b->kind == BX_LOSS ? "2" : "1.2", b->unused ? " stroke-dasharray=\"5 4\"" : "");
	if (b->kind != BX_LOSS)
		put_bar(t, b);
	put_text(t, b->x + PAD, b->y + 21, TITLE_PX, FACE_BOLD, PT_INK, false, b->title);
	put_text(t, b->x + b->w - PAD, b->y + 21, SMALL_PX, FACE_MONO, PT_SOFT, true, b->note);
	for (int i = 0; i < b->nrow; i++)
		put_row(t, b, i, y);
	text_puts(t, "</g>\n");
}

static void
put_piece(Text *t, const Picture *p, const Piece *e)
{
	const char *c = colour[colour_of(&p->box[e->from])].hex;
	int mid = (e->y0 + e->y1) / 2;
	if (e->arrow) {
		text_printf(t, "<path d=\"M%d %dV%d\" stroke=\"%s\"/>", e->x0, e->y0, e->y1 - 6, c);
		text_printf(t, "<path d=\"M%d %dl-4 -8h8z\" fill=\"%s\" stroke=\"none\"/>\n", e->x1, e->y1, c);
	} else if (e->x0 == e->x1) {
		text_printf(t, "<path d=\"M%d %dV%d\" stroke=\"%s\"/>\n", e->x0, e->y0, e->y1, c);
	} else {
		text_printf(t, "<path d=\"M%d %dC%d %d %d %d %d %d\" stroke=\"%s\"/>\n", e->x0, e->y0, e->x0, mid, e->x1, mid, e->x1, e->y1, c);
	}
}

/* The shape on the edge below a box. */
static void
put_label(Text *t, const Box *b)
{
	int w = text_width(b->out, SMALL_PX, FACE_MONO) + 10, x = b->x + b->w / 2, y = b->y + b->h + 5;
	text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\" class=\"page\" fill=\"%s\"/>\n", x - w / 2, y, w, PILL_H, PILL_H / 2,
	            part[PT_PAGE].light);
	text_printf(t, "<g text-anchor=\"middle\">");
	put_text(t, x, y + 13, SMALL_PX, FACE_MONO, PT_SOFT, false, b->out);
	text_puts(t, "</g>\n");
}

/* Only what the picture has; returns where it ends. t NULL: only that. */
static int
put_legend(Text *t, const Picture *p, int x, int y)
{
	bool used[LEN(colour)] = {0}, dashed = false;
	for (int i = 0; i < p->nbox; i++) {
		used[colour_of(&p->box[i])] = true;
		dashed |= p->box[i].unused;
		for (int k = 0; k < NKIND; k++)
			used[k] |= p->box[i].kinds >> k & 1;
	}
	for (size_t i = 0; i <= LEN(colour); i++) {
		const char *name = i < LEN(colour) ? colour[i].name : "nothing reads it";
		if (i < LEN(colour) ? !used[i] : !dashed)
			continue;
		if (t && i < LEN(colour))
			text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" rx=\"3\" fill=\"%s\"/>\n", x, y - 9, colour[i].hex);
		else if (t)
			text_printf(t, "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" rx=\"3\" fill=\"none\" stroke=\"%s\" stroke-dasharray=\"3 2\"/>\n", x, y - 9,
			            colour[C_SEVERAL].hex);
		if (t)
			put_text(t, x + 15, y, SMALL_PX, FACE_SANS, PT_SOFT, false, name);
		x += 15 + text_width(name, SMALL_PX, FACE_SANS) + 16;
	}
	return x;
}

static void
put_header(Text *t, const Picture *p)
{
	put_text(t, MARGIN, MARGIN + 14, HEAD_PX, FACE_BOLD, PT_INK, false, p->name);
	put_text(t, MARGIN, MARGIN + 34, SMALL_PX, FACE_SANS, PT_SOFT, false, p->summary);
	put_legend(t, p, MARGIN, MARGIN + 52);
}

int picture_legend_width(const Picture *p) { return put_legend(NULL, p, 0, 0); }

void
picture_svg(const Picture *p, Text *t)
{
	text_puts(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
	text_printf(t, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" font-family=\"" MONO "\">\n",
	            p->w, p->h, p->w, p->h);
	text_puts(t, "<title>");
	html_text(t, p->name);
	text_puts(t, "</title>\n<style>@media (prefers-color-scheme:dark){");
	for (size_t i = 0; i < LEN(part); i++)
		text_printf(t, ".%s{fill:%s}", part[i].class, part[i].dark);
	text_puts(t, "}</style>\n");
	text_printf(t, "<rect width=\"%d\" height=\"%d\" rx=\"10\" class=\"page\" fill=\"%s\"/>\n", p->w, p->h, part[PT_PAGE].light);
	put_header(t, p);
	text_puts(t, "<g fill=\"none\" stroke-width=\"1.6\" stroke-opacity=\"0.75\">\n");
	for (int i = 0; i < p->npiece; i++)
		put_piece(t, p, &p->piece[i]);
	text_puts(t, "</g>\n");
	for (int i = 0; i < p->nbox; i++) {
		put_box(t, &p->box[i]);
		if (*p->box[i].out && !p->box[i].unused)
			put_label(t, &p->box[i]);
	}
	text_puts(t, "</svg>\n");
}
