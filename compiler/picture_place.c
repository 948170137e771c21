/* Where boxes stand and edges run: the layered method of Sugiyama, Tagawa and Toda 1981, top to bottom.

   Layers: a box stands as low as what reads it allows, losses on the last one. A value that is read further down passes
   the layers between in cells of its own, one for all who read it, so edges never meet boxes. Order in the layers: by
   barycentres, up and down, the best of the sweeps kept, then exchanges of neighbours. Places: each cell is drawn to the
   mean of its neighbours; a layer's squares are minimised exactly under its distances (pool adjacent violators). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define GAP_BOX 28
#define GAP_EDGE 16
#define RUN_IN 12    /* straight run into a box */
#define SWEEPS 24
#define SETTLE 60   /* sweeps over both sides */
#define NEAR 5      /* an edge that misses its source by less runs straight */
#define SWAP_LIMIT 400 /* cells up to which neighbours are exchanged: quadratic */

typedef struct Cell {
	int box;      /* that stands here, or -1 */
	int from;     /* box whose value passes, or that stands here */
	int layer, pos;
	double x, w;  /* centre, width */
	int *up, *down; /* links by index */
	int nup, capup, ndown, capdown;
	double key;
} Cell;

typedef struct Link {
	int a, b;     /* cells of one layer and the next */
	int port;     /* x at b */
} Link;

typedef struct Layer {
	int *cell;    /* in order */
	int n, cap;
	int top, bottom, curve; /* y: of boxes; where the strip of labels ends and curves begin */
} Layer;

typedef struct Place {
	Picture *p;
	Arena *a;
	Cell *cell;
	int ncell, capcell;
	Link *link;
	int nlink, caplink;
	Layer *layer;
	int nlayer;
	int *box_cell;
	double *want, *weight, *shift; /* scratch, by place in a layer */
	int *size;
} Place;

/* ---- sizes ---- */

/* Characters by width in DejaVu Sans, in hundredths of the size; what is not ASCII counts as full. */
int
text_width(const char *s, int px, Face f)
{
	int sum = 0;
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if ((c & 0xc0) == 0x80)
			continue;
		if (f == FACE_MONO)
			sum += c < 0xe3 ? 61 : 100;
		else if (c >= 0x80)
			sum += c < 0xe3 ? 70 : 100;
		else
			sum += strchr("iljI.,:;'|! ", c) ? 36 : strchr("frt()[]-/", c) ? 42 : strchr("mwMW@%", c) ? 99 : c >= 'A' && c <= 'Z' ? 74 : 64;
	}
	return (int)((long)sum * px * (f == FACE_BOLD ? 112 : 100) / 10000) + 1;
}

static int
row_start(const Row *r)
{
	return r->indent * INDENT + (r->kind >= 0 ? DOT : 0);
}

/* Rows must fit, and the label under the box. A long table gets columns. */
static void
size_box(Box *b)
{
	int head = text_width(b->title, TITLE_PX, FACE_BOLD) + (*b->note ? 18 + text_width(b->note, SMALL_PX, FACE_MONO) : 0);
	int label = *b->out ? text_width(b->out, SMALL_PX, FACE_MONO) + 12 : 0, w = 0;
	b->soft_x = 0;
	b->ncol = !b->table || b->nrow <= COL_ROWS ? 1 : b->nrow > 4 * COL_ROWS ? 4 : (b->nrow + COL_ROWS - 1) / COL_ROWS;
	b->col_rows = (b->nrow + b->ncol - 1) / b->ncol;
	for (int i = 0; i < b->nrow; i++) {
		int end = row_start(&b->row[i]) + text_width(b->row[i].strong, NAME_PX, FACE_MONO) + 10;
		b->soft_x = end > b->soft_x ? end : b->soft_x;
	}
	for (int i = 0; i < b->nrow; i++) {
		const Row *r = &b->row[i];
		int n = row_start(r) + (*r->strong ? text_width(r->strong, NAME_PX, FACE_MONO) + 8 : 0);
		n = b->table ? b->soft_x : n;
		n += text_width(r->soft, SMALL_PX, FACE_MONO) + (*r->right ? 14 + text_width(r->right, SMALL_PX, FACE_MONO) : 0);
		w = n > w ? n : w;
	}
	b->col_w = w;
	w = b->ncol * w + (b->ncol - 1) * COL_GAP;
	w = w > head ? w : head;
	w = (w > label ? w : label) + 2 * PAD;
	b->w = w + (w & 1);
	if (b->ncol == 1)
		b->col_w = b->w - 2 * PAD;
	b->h = (*b->title ? TITLE_H : 8) + b->col_rows * ROW_H + (b->nrow ? PAD - 3 : 6);
}

/* ---- layers ---- */

/* Edges are in the order of their sources, so one walk down and one up suffice. */
static void
set_layers(Picture *p)
{
	int last = 0;
	for (int i = 0; i < p->nbox; i++)
		p->box[i].layer = 0;
	for (int i = 0; i < p->nedge; i++) {
		Box *a = &p->box[p->edge[i].from], *b = &p->box[p->edge[i].to];
		b->layer = b->layer > a->layer ? b->layer : a->layer + 1;
		last = b->layer > last ? b->layer : last;
	}
	for (int i = 0; i < p->nbox; i++)
		if (p->box[i].kind == BX_LOSS)
			p->box[i].layer = last;
	for (int i = p->nedge - 1, low; i >= 0; i--) {
		Box *a = &p->box[p->edge[i].from];
		bool first = i == p->nedge - 1 || p->edge[i + 1].from != p->edge[i].from;
		low = p->box[p->edge[i].to].layer - 1;
		a->layer = first || low < a->layer ? low : a->layer;
	}
}

static int
add_cell(Place *s, int box, int from, int layer, double w)
{
	Layer *l = &s->layer[layer];
	Cell *c = &ARENA_PUSH(s->a, s->cell, s->ncell, s->capcell);
	*c = (Cell){.box = box, .from = from, .layer = layer, .pos = l->n, .w = w};
	ARENA_PUSH(s->a, l->cell, l->n, l->cap) = s->ncell - 1;
	return s->ncell - 1;
}

static void
add_link(Place *s, int a, int b)
{
	ARENA_PUSH(s->a, s->cell[a].down, s->cell[a].ndown, s->cell[a].capdown) = s->nlink;
	ARENA_PUSH(s->a, s->cell[b].up, s->cell[b].nup, s->cell[b].capup) = s->nlink;
	ARENA_PUSH(s->a, s->link, s->nlink, s->caplink) = (Link){a, b, 0};
}

static void
make_cells(Place *s)
{
	Picture *p = s->p;
	for (int i = 0; i < p->nbox; i++)
		s->nlayer = p->box[i].layer + 1 > s->nlayer ? p->box[i].layer + 1 : s->nlayer;
	s->layer = arena_alloc(s->a, (size_t)s->nlayer * sizeof *s->layer);
	s->box_cell = arena_alloc(s->a, (size_t)p->nbox * sizeof *s->box_cell);
	int *pass = arena_alloc(s->a, (size_t)s->nlayer * sizeof *pass);
	for (int i = 0; i < p->nbox; i++)
		s->box_cell[i] = add_cell(s, i, i, p->box[i].layer, p->box[i].w);
	for (int i = 0; i < p->nedge;) {
		int from = p->edge[i].from, at = p->box[from].layer;
		pass[at] = s->box_cell[from];
		for (; i < p->nedge && p->edge[i].from == from; i++) {
			int to = p->edge[i].to, end = p->box[to].layer;
			for (; at < end - 1; at++) {
				pass[at + 1] = add_cell(s, -1, from, at + 1, 0);
				add_link(s, pass[at], pass[at + 1]);
			}
			add_link(s, pass[end - 1], s->box_cell[to]);
		}
	}
}

/* ---- order ---- */

/* Crossings between layer l and the next: inversions among the links sorted by their upper end, counted in a tree. */
static long
crossings_below(Place *s, int l, int *tree)
{
	const Layer *up = &s->layer[l], *low = &s->layer[l + 1];
	long count = 0, seen = 0;
	memset(tree, 0, (size_t)(low->n + 1) * sizeof *tree);
	for (int i = 0; i < up->n; i++) {
		const Cell *c = &s->cell[up->cell[i]];
		for (int k = 0; k < c->ndown; k++) {
			long before = 0;
			for (int q = s->cell[s->link[c->down[k]].b].pos + 1; q > 0; q -= q & -q)
				before += tree[q];
			count += seen - before;
		}
		for (int k = 0; k < c->ndown; k++, seen++)
			for (int q = s->cell[s->link[c->down[k]].b].pos + 1; q <= low->n; q += q & -q)
				tree[q]++;
	}
	return count;
}

static long
crossings(Place *s, int *tree)
{
	long n = 0;
	for (int l = 0; l + 1 < s->nlayer; l++)
		n += crossings_below(s, l, tree);
	return n;
}

/* Sorts a layer by the mean place of neighbours above (or below); who has none stays where it is, equals keep order. */
static void
order_layer(Place *s, Layer *l, bool above)
{
	for (int i = 0; i < l->n; i++) {
		Cell *c = &s->cell[l->cell[i]];
		int n = above ? c->nup : c->ndown;
		double sum = 0;
		for (int k = 0; k < n; k++)
			sum += s->cell[above ? s->link[c->up[k]].a : s->link[c->down[k]].b].pos;
		c->key = n ? sum / n : c->nup + c->ndown ? c->pos : l->n; /* what hangs on nothing goes last */
	}
	for (int i = 1; i < l->n; i++) {
		int c = l->cell[i], k = i;
		for (; k > 0 && s->cell[l->cell[k - 1]].key > s->cell[c].key; k--)
			l->cell[k] = l->cell[k - 1];
		l->cell[k] = c;
	}
	for (int i = 0; i < l->n; i++)
		s->cell[l->cell[i]].pos = i;
}

static void
swap_cells(Place *s, Layer *l, int i)
{
	int c = l->cell[i];
	l->cell[i] = l->cell[i + 1];
	l->cell[i + 1] = c;
	s->cell[l->cell[i]].pos = i;
	s->cell[c].pos = i + 1;
}

/* Exchanges neighbours while that takes crossings away. */
static void
exchange(Place *s, int *tree)
{
	bool better = s->ncell <= SWAP_LIMIT;
	for (int turn = 0; better && turn < 20; turn++) {
		better = false;
		for (int l = 0; l < s->nlayer; l++) {
			for (int i = 0; i + 1 < s->layer[l].n; i++) {
				long was = 0, is = 0;
				for (int k = 0; k < 2; k++) {
					is = l ? crossings_below(s, l - 1, tree) : 0;
					is += l + 1 < s->nlayer ? crossings_below(s, l, tree) : 0;
					was = k ? was : is;
					if (!k || is >= was)
						swap_cells(s, &s->layer[l], i);
				}
				better |= is < was;
			}
		}
	}
}

static void
order_cells(Place *s)
{
	int *tree = arena_alloc(s->a, (size_t)(s->ncell + 2) * sizeof *tree);
	int *best = arena_alloc(s->a, (size_t)s->ncell * sizeof *best);
	long least = -1;
	for (int i = 0; i <= SWEEPS; i++) {
		long n = crossings(s, tree);
		if (least < 0 || n < least) {
			least = n;
			for (int k = 0; k < s->ncell; k++)
				best[k] = s->cell[k].pos;
		}
		for (int l = 1; l < s->nlayer; l++)
			order_layer(s, &s->layer[i % 2 ? s->nlayer - 1 - l : l], i % 2 == 0);
	}
	for (int k = 0; k < s->ncell; k++) {
		s->cell[k].pos = best[k];
		s->layer[s->cell[k].layer].cell[best[k]] = k;
	}
	exchange(s, tree);
}

/* ---- places ---- */

static double
distance(const Cell *a, const Cell *b)
{
	return (a->w + b->w) / 2 + (a->box < 0 && b->box < 0 ? GAP_EDGE : GAP_BOX);
}

/* Pulls a layer to the mean of its neighbours; straight passing edges count most. */
static void
pull_layer(Place *s, Layer *l, bool up, bool down)
{
	double *want = s->want, *weight = s->weight, *shift = s->shift;
	int *size = s->size, nblock = 0;
	for (int i = 0; i < l->n; i++) {
		Cell *c = &s->cell[l->cell[i]];
		double sum = 0, w = 0;
		for (int k = 0; k < (up ? c->nup : 0) + (down ? c->ndown : 0); k++) {
			bool above = up && k < c->nup;
			const Link *e = &s->link[above ? c->up[k] : c->down[k - (up ? c->nup : 0)]];
			const Cell *o = &s->cell[above ? e->a : e->b];
			double q = c->box < 0 && o->box < 0 ? 8 : c->box < 0 || o->box < 0 ? 2 : 1;
			sum += q * o->x, w += q;
		}
		shift[i] = i ? shift[i - 1] + distance(&s->cell[l->cell[i - 1]], c) : 0;
		bool loose = !c->nup && !c->ndown && nblock; /* stands beside its neighbour */
		want[nblock] = loose ? want[nblock - 1] : (w > 0 ? sum / w : c->x) - shift[i];
		weight[nblock] = w > 0 ? w : 0.1;
		size[nblock++] = 1;
		while (nblock > 1 && want[nblock - 2] > want[nblock - 1]) { /* neighbours that want to pass each other go as one */
			double both = weight[nblock - 2] + weight[nblock - 1];
			want[nblock - 2] = (want[nblock - 2] * weight[nblock - 2] + want[nblock - 1] * weight[nblock - 1]) / both;
			weight[nblock - 2] = both;
			size[nblock - 2] += size[nblock - 1];
			nblock--;
		}
	}
	for (int i = 0, k = 0; k < nblock; k++)
		for (int n = size[k]; n > 0; n--, i++)
			s->cell[l->cell[i]].x = want[k] + shift[i];
}

static void
set_columns(Place *s)
{
	double left = INFINITY;
	s->want = arena_alloc(s->a, (size_t)s->ncell * 3 * sizeof *s->want);
	s->weight = s->want + s->ncell;
	s->shift = s->weight + s->ncell;
	s->size = arena_alloc(s->a, (size_t)s->ncell * sizeof *s->size);
	for (int l = 0; l < s->nlayer; l++) {
		double x = 0;
		for (int i = 0; i < s->layer[l].n; i++) {
			Cell *c = &s->cell[s->layer[l].cell[i]];
			x += i ? distance(&s->cell[s->layer[l].cell[i - 1]], c) : 0;
			c->x = x;
		}
		for (int i = 0; i < s->layer[l].n; i++) /* centred to begin with */
			s->cell[s->layer[l].cell[i]].x -= x / 2;
	}
	for (int i = 0; i < SWEEPS + SETTLE; i++)
		for (int l = 0; l < s->nlayer; l++)
			pull_layer(s, &s->layer[i % 2 ? s->nlayer - 1 - l : l], i >= SWEEPS || i % 2 == 0, i >= SWEEPS || i % 2);
	for (int i = 0; i < s->ncell; i++)
		left = fmin(left, s->cell[i].x - s->cell[i].w / 2);
	for (int i = 0; i < s->ncell; i++)
		s->cell[i].x = floor(s->cell[i].x - left + MARGIN + 0.5);
}

static void
set_rows(Place *s)
{
	int y = MARGIN + HEADER_H;
	for (int l = 0; l < s->nlayer; l++) {
		Layer *r = &s->layer[l];
		int high = 0, far = 0;
		bool label = false;
		for (int i = 0; i < r->n; i++) {
			const Cell *c = &s->cell[r->cell[i]];
			high = c->box >= 0 && s->p->box[c->box].h > high ? s->p->box[c->box].h : high;
			label |= c->box >= 0 && c->ndown && *s->p->box[c->box].out;
			for (int k = 0; k < c->ndown; k++) {
				int dx = abs((int)(s->cell[s->link[c->down[k]].b].x - c->x));
				far = dx > far ? dx : far;
			}
		}
		r->top = y;
		r->bottom = y + high;
		r->curve = r->bottom + (label ? PILL_H + 8 : 0);
		y = r->curve + 30 + (far > 600 ? 66 : far * 66 / 600) + RUN_IN;
	}
	for (int i = 0; i < s->p->nbox; i++) {
		Box *b = &s->p->box[i];
		const Cell *c = &s->cell[s->box_cell[i]];
		const Layer *r = &s->layer[c->layer];
		int room = r->bottom - r->top - b->h;
		b->x = (int)c->x - b->w / 2;
		b->y = r->top + (!c->nup ? room : !c->ndown ? 0 : room / 2); /* near what it is tied to */
	}
}

/* ---- edges ---- */

/* Where edges enter a box: in the order in which they come. */
static void
set_ports(Place *s, Cell *c)
{
	for (int i = 1; i < c->nup; i++) {
		int e = c->up[i], k = i;
		for (; k > 0 && s->cell[s->link[c->up[k - 1]].a].pos > s->cell[s->link[e].a].pos; k--)
			c->up[k] = c->up[k - 1];
		c->up[k] = e;
	}
	double pitch = c->nup > 1 ? fmin(24, (c->w - 32) / (c->nup - 1)) : 0;
	for (int i = 0; i < c->nup; i++) {
		Link *e = &s->link[c->up[i]];
		int above = (int)s->cell[e->a].x;
		e->port = (int)floor(c->x + (i - (c->nup - 1) / 2.0) * pitch + 0.5);
		if (c->box >= 0 && abs(above - e->port) <= NEAR && (c->nup == 1 || pitch > 2 * NEAR))
			e->port = above;
	}
}

static void
add_piece(Place *s, int from, int x0, int y0, int x1, int y1, bool arrow)
{
	ARENA_PUSH(s->a, s->p->piece, s->p->npiece, s->p->cappiece) = (Piece){from, x0, y0, x1, y1, arrow};
}

static void
route(Place *s)
{
	for (int i = 0; i < s->ncell; i++) {
		Cell *c = &s->cell[i];
		const Layer *r = &s->layer[c->layer];
		int x = (int)c->x;
		set_ports(s, c);
		if (c->ndown) /* out of the box, or past the boxes of this layer */
			add_piece(s, c->from, x, c->box < 0 ? r->top - RUN_IN : s->p->box[c->box].y + s->p->box[c->box].h, x, r->curve, false);
	}
	for (int i = 0; i < s->nlink; i++) {
		const Link *e = &s->link[i];
		const Cell *a = &s->cell[e->a], *b = &s->cell[e->b];
		int y = s->layer[b->layer].top - RUN_IN;
		add_piece(s, a->from, (int)a->x, s->layer[a->layer].curve, e->port, y, false);
		if (b->box >= 0)
			add_piece(s, a->from, e->port, y, e->port, s->p->box[b->box].y, true);
	}
}

void
picture_place(Picture *p)
{
	Place s = {.p = p, .a = p->arena};
	int head = text_width(p->name, HEAD_PX, FACE_BOLD), sum = text_width(p->summary, SMALL_PX, FACE_SANS);
	for (int i = 0; i < p->nbox; i++)
		size_box(&p->box[i]);
	set_layers(p);
	make_cells(&s);
	order_cells(&s);
	set_columns(&s);
	set_rows(&s);
	route(&s);
	p->w = 2 * MARGIN + (head > sum ? head : sum);
	if (p->w < 2 * MARGIN + picture_legend_width(p))
		p->w = 2 * MARGIN + picture_legend_width(p);
	p->h = 0;
	for (int i = 0; i < p->nbox; i++) {
		Box *b = &p->box[i];
		p->w = b->x + b->w + MARGIN > p->w ? b->x + b->w + MARGIN : p->w;
		p->h = b->y + b->h + MARGIN > p->h ? b->y + b->h + MARGIN : p->h;
	}
}
