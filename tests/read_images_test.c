/* Tables of pictures: a folder of PNG and JPEG files, of one channel and three, made smaller, damaged in every byte. */
#include "check_reader.h"

#include <jpeglib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
put_jpeg(const char *name, int h, int w, uint8_t grey)
{
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr err;
	unsigned char *out = NULL;
	unsigned long n = 0;
	uint8_t *line = xmalloc((size_t)w);
	memset(line, grey, (size_t)w);
	c.err = jpeg_std_error(&err);
	jpeg_create_compress(&c);
	jpeg_mem_dest(&c, &out, &n);
	c.image_width = (unsigned)w;
	c.image_height = (unsigned)h;
	c.input_components = 1;
	c.in_color_space = JCS_GRAYSCALE;
	jpeg_set_defaults(&c);
	jpeg_start_compress(&c, TRUE);
	for (int y = 0; y < h; y++)
		jpeg_write_scanlines(&c, (JSAMPARRAY)&line, 1);
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	put(name, out, n);
	put("broken/cut.jpg", out, n / 2);
	free(out);
	free(line);
}

static Case *
pictures(const char *path, int64_t channels)
{
	static int64_t dim[3];
	dim[0] = dim[1] = 2, dim[2] = channels;
	Case *c = CASE(TB_IMAGES, path);
	set_shape(c, "", DT_U8, dim, 3);
	add_tensor(c, "image", DT_U8, 0, 2, 2, channels);
	add_class(c, "folder", 2);
	return c;
}

static void
test_images(void)
{
	static const uint8_t rgb[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30};
	uint8_t grey[16];
	char path[1024];
	Err e = {0};
	folder("broken");
	folder("pics");
	folder("pics/cat");
	folder("pics/dog");
	snprintf(path, sizeof path, "%s/pics/cat/b.png", tmp);
	CHECK(write_png(path, rgb, 2, 2, 3, &e));
	for (int i = 0; i < 16; i++)
		grey[i] = (uint8_t)(i < 8 ? 100 : 200);
	snprintf(path, sizeof path, "%s/pics/cat/c.PNG", tmp);
	CHECK(write_png(path, grey, 4, 4, 1, &e));
	put_jpeg("pics/dog/a.jpg", 2, 2, 128);
	Case *c = pictures("pics", 3);
	if (BUILDS(c)) {
		const uint8_t *v = bytes(c, 0);
		CHECK(c->ds.rows == 3 && !memcmp(v, rgb, 12) && ids(c, 1)[0] == 0 && ids(c, 1)[2] == 1);
		CHECK(v[12] == v[13] && v[12] >= 100 && v[12] < 120 && v[21] > 180 && v[21] <= 200); /* shrunk: each half keeps its grey */
		CHECK(abs(v[24] - 128) <= 2 && abs(v[35] - 128) <= 2);
	}
	drop(c);
	c = pictures("pics", 1);
	if (BUILDS(c))
		CHECK(bytes(c, 0)[3] < 40 && abs(bytes(c, 0)[8] - 128) <= 2);
	drop(c);
	FAILS(pictures("broken", 3), "broken/cut.jpg: cannot be read as JPEG");
	snprintf(path, sizeof path, "%s/broken/cut.jpg", tmp);
	unlink(path);
	PUTS("broken/x.png", "\x89PNG\r\n\x1a\nnot quite");
	FAILS(pictures("broken", 3), "broken/x.png: cannot be read as PNG");
}

static Case *make_pictures(const char *f) { return pictures(f, 3); }

static void
test_damage(void)
{
	folder("e");
	damage("pics/cat/b.png", "e/a.png", make_pictures, "e");
	damage("pics/dog/a.jpg", "e/a.png", make_pictures, "e");
}

int
main(void)
{
	tmp = make_folder();
	test_images();
	test_damage();
	return check_end();
}
