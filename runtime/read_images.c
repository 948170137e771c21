/* A folder of PNG and JPEG files (libpng, libjpeg), each a row: bytes [y, x, channels], grey or red-green-blue. A picture of
   another size is resampled with a triangle filter as wide as a source pixel or a pixel of the result, whichever is
   larger, so that shrinking averages. And the way back: a page of pictures as PNG. */
#include "data_impl.h"

#include <errno.h>
#include <jpeglib.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 1 << 15, MAX_PIXELS = 1 << 28 };

typedef struct Picture {
	int64_t h, w, c;
	uint8_t *v; /* [h, w, c], malloced */
} Picture;

static bool
allocate(const char *path, Picture *p, Err *e)
{
	if (p->h < 1 || p->w < 1 || p->h > MAX_SIDE || p->w > MAX_SIDE || p->h * p->w > MAX_PIXELS)
		return fail(e, "%s: %lld x %lld pixels; at most %d a side and %d in all can be read", path, (long long)p->w, (long long)p->h, MAX_SIDE, MAX_PIXELS);
	p->v = malloc((size_t)(p->h * p->w * p->c));
	return p->v || fail(e, "%s: no memory for %lld x %lld pixels", path, (long long)p->w, (long long)p->h);
}

static bool
read_png(const char *path, Picture *p, Err *e)
{
	png_image m = {.version = PNG_IMAGE_VERSION};
	png_color black = {0, 0, 0};
	bool ok = png_image_begin_read_from_file(&m, path);
	if (ok) {
		m.format = p->c == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
		p->h = m.height;
		p->w = m.width;
		if (!allocate(path, p, e)) {
			png_image_free(&m);
			return false;
		}
		ok = png_image_finish_read(&m, &black, p->v, 0, NULL);
	}
	if (!ok)
		fail(e, "%s: cannot be read as PNG: %s", path, m.message);
	png_image_free(&m);
	return ok;
}

/* libjpeg leaves an error by longjmp. */
typedef struct Jpeg {
	struct jpeg_error_mgr err;
	jmp_buf out;
	char msg[JMSG_LENGTH_MAX];
} Jpeg;

static void
jpeg_failed(j_common_ptr c)
{
	Jpeg *j = (Jpeg *)(void *)c->err;
	c->err->format_message(c, j->msg);
	longjmp(j->out, 1);
}

/* A warning (a cut off or damaged file) is an error here. */
static void
jpeg_warned(j_common_ptr c, int level)
{
	if (level < 0)
		jpeg_failed(c);
}

static bool
decode_jpeg(FILE *f, const char *path, Picture *p, Err *e)
{
	struct jpeg_decompress_struct d;
	Jpeg j;
	d.err = jpeg_std_error(&j.err);
	j.err.error_exit = jpeg_failed;
	j.err.emit_message = jpeg_warned;
	if (setjmp(j.out)) {
		jpeg_destroy_decompress(&d);
		return fail(e, "%s: cannot be read as JPEG: %s", path, j.msg);
	}
	jpeg_create_decompress(&d);
	jpeg_stdio_src(&d, f);
	jpeg_read_header(&d, TRUE);
	d.out_color_space = p->c == 1 ? JCS_GRAYSCALE : JCS_RGB;
	jpeg_start_decompress(&d);
	p->h = d.output_height;
	p->w = d.output_width;
	bool ok = allocate(path, p, e);
	while (ok && d.output_scanline < d.output_height) {
		JSAMPROW row = p->v + (size_t)d.output_scanline * (size_t)(p->w * p->c);
		jpeg_read_scanlines(&d, &row, 1);
	}
	if (ok)
		jpeg_finish_decompress(&d);
	jpeg_destroy_decompress(&d);
	return ok;
}

static bool
read_picture(const char *path, Picture *p, Err *e)
{
	uint8_t head[2] = {0};
	FILE *f = fopen(path, "rb");
	if (!f)
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	bool jpeg = fread(head, 1, 2, f) == 2 && head[0] == 0xff && head[1] == 0xd8;
	rewind(f);
	bool ok = jpeg ? decode_jpeg(f, path, p, e) : read_png(path, p, e);
	fclose(f);
	return ok;
}

/* ---- size ---- */

/* Lines of n elements at stride, to m elements: one axis of the resampling. */
static void
resample(const float *in, int64_t n, float *out, int64_t m, int64_t stride)
{
	double scale = (double)n / (double)m, reach = scale > 1 ? scale : 1;
	for (int64_t i = 0; i < m; i++) {
		double at = ((double)i + 0.5) * scale - 0.5, sum = 0, weight = 0;
		int64_t lo = (int64_t)ceil(at - reach), hi = (int64_t)floor(at + reach);
		for (int64_t k = lo < 0 ? 0 : lo; k <= hi && k < n; k++) {
			double w = 1 - fabs((double)k - at) / reach;
			weight += w;
			sum += w * in[k * stride];
		}
		out[i * stride] = (float)(sum / weight);
	}
}

static void
resize(const Picture *p, int64_t h, int64_t w, uint8_t *out)
{
	int64_t c = p->c, side = h > p->h ? h : p->h;
	float *a = xmalloc((size_t)(p->h * p->w * c) * sizeof *a), *b = xmalloc((size_t)(side * w * c) * sizeof *b), *d = xmalloc((size_t)(h * w * c) * sizeof *d);
	for (int64_t i = 0; i < p->h * p->w * c; i++)
		a[i] = p->v[i];
	for (int64_t y = 0; y < p->h; y++)
		for (int64_t k = 0; k < c; k++)
			resample(a + y * p->w * c + k, p->w, b + y * w * c + k, w, c);
	for (int64_t x = 0; x < w * c; x++)
		resample(b + x, p->h, d + x, h, w * c);
	for (int64_t i = 0; i < h * w * c; i++)
		out[i] = (uint8_t)(d[i] + 0.5f);
	free(a);
	free(b);
	free(d);
}

/* ---- the table ---- */

static bool
image_load(const TensorColumn *c, const char *path, void *out, Err *e)
{
	Picture p = {.c = c->dim[2]};
	bool ok = read_picture(path, &p, e);
	if (ok && p.h == c->dim[0] && p.w == c->dim[1])
		memcpy(out, p.v, (size_t)c->width);
	else if (ok)
		resize(&p, c->dim[0], c->dim[1], out);
	free(p.v);
	return ok;
}

static const char *const suffix[] = {".png", ".jpg", ".jpeg", NULL};
const FileRow image_row = {.column = "image", .suffix = suffix, .load = image_load};

/* ---- pages ---- */

bool
write_png(const char *path, const uint8_t *v, int64_t h, int64_t w, int64_t c, Err *e)
{
	png_image m = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)w, .height = (png_uint_32)h,
	               .format = c == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
	png_alloc_size_t n = 0;
	void *buf = NULL;
	bool ok = png_image_write_to_memory(&m, NULL, &n, 0, v, 0, NULL) && (buf = malloc(n)) && png_image_write_to_memory(&m, buf, &n, 0, v, 0, NULL);
	if (!ok)
		fail(e, "%s: cannot make a PNG of %lld x %lld pixels: %s", path, (long long)w, (long long)h, buf ? m.message : "no memory");
	ok = ok && write_file_atomic(path, buf, n, 0666, e);
	free(buf);
	return ok;
}
