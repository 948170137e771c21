/* Tables of sound: a folder of WAV files, mono and stereo, long and short, damaged in every byte. */
#include "check_reader.h"

#include <string.h>

static void
put_wav(const char *name, int channels, int bits, const int16_t *v, size_t n, size_t cut)
{
	unsigned char head[52] = "RIFF....WAVEjunk\2\0\0\0..fmt \20\0\0\0\1\0";
	char file[256];
	head[30] = 1;
	head[32] = (unsigned char)channels;
	head[34] = 0x40;
	head[35] = 0x1f;
	head[44] = (unsigned char)bits;
	memcpy(head + 46, "data", 4);
	memcpy(file, head, 50);
	file[50] = (char)(2 * n);
	file[51] = file[52] = file[53] = 0;
	memcpy(file + 54, v, 2 * n);
	put(name, file, 54 + 2 * n - cut);
}

static Case *
clips(const char *path)
{
	static int64_t n[] = {3};
	Case *c = CASE(TB_WAV, path);
	set_shape(c, "", DT_F32, n, 1);
	add_tensor(c, "audio", DT_F32, 0, 3, 1, 1);
	add_class(c, "substr(file, 1, 1)", 10);
	return c;
}

static void
test_wav(void)
{
	static const int16_t v[] = {16384, -32768, 8192, 100, 0, 0};
	folder("clips");
	folder("clips/more");
	folder("broken");
	put_wav("clips/7_long.wav", 1, 16, v, 4, 0);
	put_wav("clips/more/2_stereo.wav", 2, 16, v, 4, 0);
	put_wav("broken/cut.wav", 1, 16, v, 3, 3);
	Case *c = clips("clips");
	c->target[0].from = "split_part(split_part(file, '_', 2), '.', 2)";
	if (BUILDS(c)) {
		char buf[24];
		CHECK(!strcmp(fit_class_name(c->fit, &c->d, 0, 0, buf), "wav") && c->fit->target[0].classes.n == 1);
		const float *x = floats(c, 0);
		CHECK(x[0] == 0.5f && x[1] == -1 && x[2] == 0.25f); /* cut at 3 */
		CHECK(x[3] == -0.25f && x[4] == (8192 + 100) / 65536.0f && x[5] == 0); /* the mean of two channels, filled */
		CHECK(!strcmp(c->ds.key[1], "more/2_stereo.wav"));
	}
	drop(c);
	FAILS(clips("broken"), "broken/cut.wav: cut off after |sample 1 of 3");
	folder("eight");
	put_wav("eight/1.wav", 1, 8, v, 2, 0);
	FAILS(clips("eight"), "eight/1.wav: 1 channels of 8 bits at 8000 a second; 16-bit samples can be read");
	folder("none");
	FAILS(clips("none"), "none: this folder is empty");
	folder("text");
	PUTS("text/b.txt", "x");
	FAILS(clips("text"), "text: this folder has no files of the kind (.wav");
	PUTS("text/a.wav", "this is not sound at all, is it");
	FAILS(clips("text"), "text/a.wav: not a WAV file");
}

static void
test_damage(void)
{
	folder("d");
	damage("clips/7_long.wav", "d/a.wav", clips, "d");
}

int
main(void)
{
	tmp = make_folder();
	test_wav();
	test_damage();
	return check_end();
}
