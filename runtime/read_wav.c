/* A folder of WAV files (RIFF, 16-bit PCM), each a row: mono, as float32 in -1 .. 1; several channels are averaged. Each clip
   has the number of samples that the model file says: longer ones are cut, shorter ones filled with 0. */
#include "data_impl.h"

#include <stdlib.h>
#include <string.h>

typedef struct Wav {
	unsigned format, channels, bits;
	int64_t rate, frames;
} Wav;

static uint32_t
u32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool
check_format(const Stream *s, const Wav *w, Err *e)
{
	if (w->format != 1 && w->format != 0xfffe)
		return fail(e, "%s: WAV format %u; PCM can be read: convert it, as with ffmpeg -i IN -c:a pcm_s16le OUT.wav", s->path, w->format);
	if (w->bits != 16 || !w->channels || w->channels > 64 || !w->rate)
		return fail(e, "%s: %u channels of %u bits at %lld a second; 16-bit samples can be read", s->path, w->channels, w->bits, (long long)w->rate);
	return true;
}

/* Reads up to the samples; the stream stands at the first. */
static bool
read_header(Stream *s, Wav *w, Err *e)
{
	uint8_t b[40];
	if (!stream_read(s, b, 12, e))
		return false;
	if (memcmp(b, "RIFF", 4) || memcmp(b + 8, "WAVE", 4))
		return fail(e, "%s: not a WAV file: it does not begin with RIFF .. WAVE", s->path);
	*w = (Wav){0};
	for (;;) {
		if (!stream_read(s, b, 8, e))
			return false;
		uint32_t n = u32(b + 4);
		if (!memcmp(b, "data", 4)) {
			w->frames = w->channels ? n / (2 * w->channels) : 0;
			return check_format(s, w, e);
		}
		if (!memcmp(b, "fmt ", 4)) {
			if (n < 16 || n > sizeof b)
				return fail(e, "%s: damaged: a format of %u bytes", s->path, n);
			if (!stream_read(s, b, n + (n & 1 && n < sizeof b), e))
				return false;
			w->format = b[0] | b[1] << 8;
			w->channels = b[2] | b[3] << 8;
			w->rate = u32(b + 4);
			w->bits = b[14] | b[15] << 8;
		} else if (!stream_skip(s, (int64_t)n + (n & 1), e)) {
			return false;
		}
	}
}

static bool
read_samples(Stream *s, const Wav *w, float *out, int64_t n, Err *e)
{
	uint8_t frame[2 * 64];
	int64_t take = w->frames < n ? w->frames : n;
	memset(out, 0, (size_t)n * sizeof *out);
	for (int64_t i = 0; i < take; i++) {
		Err why = {0};
		int sum = 0;
		if (!stream_read(s, frame, 2 * w->channels, &why))
			return fail(e, "%s; sample %lld of %lld", why.msg, (long long)i, (long long)w->frames);
		for (unsigned c = 0; c < w->channels; c++)
			sum += (int16_t)(frame[2 * c] | frame[2 * c + 1] << 8);
		out[i] = (float)sum / (32768.0f * (float)w->channels);
	}
	return true;
}

/* ---- the table ---- */

static bool
wav_head(const char *path, double *number, Err *e)
{
	Stream s;
	Wav w;
	bool ok = stream_open(&s, path, e) && read_header(&s, &w, e);
	stream_close(&s);
	if (ok) {
		number[0] = (double)w.rate;
		number[1] = (double)w.frames;
	}
	return ok;
}

static bool
wav_load(const TensorColumn *c, const char *path, void *out, Err *e)
{
	Stream s;
	Wav w;
	bool ok = stream_open(&s, path, e) && read_header(&s, &w, e) && read_samples(&s, &w, out, c->width, e);
	stream_close(&s);
	return ok;
}

static const char *const suffix[] = {".wav", ".wav.gz", NULL};
static const char *const number[] = {"rate", "samples", NULL};
const FileRow wav_row = {.column = "audio", .suffix = suffix, .number = number, .head = wav_head, .load = wav_load};
