/* mmrun predict --png: a page of pictures. Rows of the data go in groups of a line; of each group there is a line of the
   model's first picture input, then of each predicted tensor or label map, then of each further output. */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ACROSS = 16, GROUPS = 8, GAP = 2 };

/* One line of each group. */
typedef struct Strip {
	int64_t h, w, c;     /* of a picture; c 1 or 3 */
	const uint8_t *byte; /* its values: bytes, or */
	const float *value;  /* floats */
	double scale;        /* that make a byte of a float */
	bool labels;         /* a colour a value */
} Strip;

typedef struct Page {
	Strip strip[8];
	int n;
	int64_t rows, h, w; /* of one cell: the largest picture */
} Page;

/* Axes [y, x] or [y, x, c: 1 or 3] (others of size 1 or none) make a picture. */
static bool
picture_shape(const int64_t *dim, uint32_t n, Strip *s)
{
	while (n > 3 && dim[0] == 1) {
		dim++;
		n--;
	}
	if (n < 2 || n > 3 || (n == 3 && dim[2] != 1 && dim[2] != 3))
		return false;
	s->h = dim[0];
	s->w = dim[1];
	s->c = n == 3 ? dim[2] : 1;
	return true;
}

static void
add_strip(Page *p, Strip s)
{
	if (p->n == (int)LEN(p->strip))
		return;
	p->strip[p->n++] = s;
	p->h = s.h > p->h ? s.h : p->h;
	p->w = s.w > p->w ? s.w : p->w;
}

static void
add_input(const Session *s, Page *p)
{
	for (uint32_t i = 0; i < s->schema->ninput; i++) {
		const PlanInput *in = &s->schema->input[i];
		const Column *c = &s->data.column[i];
		const char *first = (const char *)c->data + (size_t)(s->data.split[2] * c->width) * dtype_bytes(c->dtype);
		Strip st = {.byte = c->dtype == DT_U8 ? (const void *)first : NULL, .value = c->dtype == DT_F32 ? (const void *)first : NULL, .scale = 255};
		if (in->kind == IN_TENSOR && picture_shape(in->dim, in->ndim, &st)) {
			add_strip(p, st);
			return;
		}
	}
}

/* An output as pictures: of its own shape, or of the shape of a target with as many values. */
static bool
output_strip(const Evaluator *v, uint32_t i, Strip *out)
{
	const PlanOutput *o = &v->p->output[i];
	const PlanData *d = v->s->schema;
	*out = (Strip){.value = v->value[i], .scale = 255};
	for (uint32_t t = 0; v->value[i] && t < d->ntarget; t++) {
		const PlanTarget *tg = &d->target[t];
		bool own = !strcmp(tg->name, o->name);
		if ((tg->kind != TG_TENSOR && tg->kind != TG_LABELS) || v->width[i] != tg->width || !picture_shape(tg->dim, tg->ndim, out))
			continue;
		out->labels = own && tg->kind == TG_LABELS;
		out->scale = tg->dtype == DT_U8 && !(tg->scale & SC_UNIT) ? 1 : 255;
		return true;
	}
	return v->value[i] && strcmp(o->role, "loss") && o->ndim > 1 && picture_shape(o->dim + 1, o->ndim - 1, out);
}

/* Colours far apart: hues by the golden ratio, darker every third turn. */
static void
label_colour(int64_t label, uint8_t rgb[3])
{
	double hue = fmod((double)label * 0.618033988749895, 1) * 6, v = label % 3 == 2 ? 150 : 230;
	for (int k = 0; k < 3; k++) {
		double x = fabs(fmod(hue + 4 * k + 6, 6) - 3) - 1;
		rgb[k] = (uint8_t)(v * (0.25 + 0.75 * (x < 0 ? 0 : x > 1 ? 1 : x)));
	}
}

static void
draw(const Strip *s, int64_t row, uint8_t *page, int64_t stride)
{
	for (int64_t y = 0; y < s->h; y++)
		for (int64_t x = 0; x < s->w; x++) {
			uint8_t *out = page + y * stride + 3 * x;
			for (int k = 0; k < 3; k++) {
				int64_t at = ((row * s->h + y) * s->w + x) * s->c + (s->c == 3 ? k : 0);
				double v = s->byte ? s->byte[at] : s->value[at] * s->scale;
				out[k] = v > 0 ? v < 255 ? (uint8_t)(v + 0.5) : 255 : 0; /* NaN: black */
			}
			if (s->labels)
				label_colour((int64_t)s->value[(row * s->h + y) * s->w + x], out);
		}
}

bool
write_page(const Evaluator *v, const char *path, Err *e)
{
	Page p = {.rows = v->s->data.split[3] - v->s->data.split[2]};
	Strip s;
	add_input(v->s, &p);
	for (uint32_t i = 0; i < v->p->noutput; i++)
		if (output_strip(v, i, &s))
			add_strip(&p, s);
	if (!p.n)
		return fail(e, "--png: the model has no input or output of the shape of a picture, [y, x] or [y, x, c] with 1 or 3 channels");
	int64_t shown = p.rows < ACROSS * GROUPS ? p.rows : ACROSS * GROUPS, groups = (shown + ACROSS - 1) / ACROSS;
	int64_t cell = p.w + GAP, line = p.h + GAP, w = ACROSS * cell + GAP, h = groups * (p.n * line + GAP) + GAP;
	uint8_t *page = xmalloc((size_t)(3 * w * h));
	memset(page, 255, (size_t)(3 * w * h));
	for (int64_t r = 0; r < shown; r++)
		for (int k = 0; k < p.n; k++)
			draw(&p.strip[k], r, page + 3 * w * (GAP + r / ACROSS * (p.n * line + GAP) + k * line) + 3 * (GAP + r % ACROSS * cell), 3 * w);
	bool ok = write_png(path, page, h, w, 3, e);
	free(page);
	return ok;
}
