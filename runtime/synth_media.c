/* What synthetic posts look and sound like: frames as bytes [n, y, x, c], and coefficients of sound (MFCC) as floats [t, c]. Each
   has two properties that add to the logarithm of every count, and others that do not:

     frames  warmth, by which red outweighs blue, and the contrast of stripes; their direction, phase and motion, the
             brightness and the noise of pixels are chance
     sound   loudness, coefficient 0, and how strongly coefficients 1 to 8 swing with the beat; its phase, the timbre (the
             mean of each coefficient) and noise are chance

   So the means of pixels and coefficients find one of each two, the other needs a look at neighbours. All is integer
   arithmetic in units of 1/65536; what is read back from all pixels or places is nearly exact. */
#include "synth.h"

/* From -1 to 1 and back in 8 steps, in halves. */
static const int swing[8] = {-2, -1, 0, 1, 2, 1, 0, -1};

static Fix
property(Rng *r)
{
	Fix z = rng_normal(r), most = FIX(250);
	return z > most ? most : z < -most ? -most : z;
}

static Rng
draw_look(const World *w, uint64_t index, Look *l)
{
	Rng r = rng_start(w->seed, SITE_FRAMES, index);
	l->warmth = property(&r);
	l->contrast = property(&r);
	return r;
}

static Rng
draw_voice(const World *w, uint64_t index, Voice *v)
{
	Rng r = rng_start(w->seed, SITE_SOUND, index);
	v->loudness = property(&r);
	v->beat = property(&r);
	return r;
}

Fix
effect_of_frames(const World *w, uint64_t index)
{
	Look l;
	draw_look(w, index, &l);
	return fix_scaled(l.warmth, 60) + fix_scaled(l.contrast, 60);
}

Fix
effect_of_sound(const World *w, uint64_t index)
{
	Voice v;
	draw_voice(w, index, &v);
	return fix_scaled(v.loudness, 55) + fix_scaled(v.beat, 55);
}

/* One of four random numbers from 0 to 255. */
static uint32_t
next_byte(Rng *r, uint32_t *word, uint64_t i)
{
	*word = i % 4 ? *word >> 8 : rng_u32(r);
	return *word & 255;
}

void
make_frames(const World *w, uint64_t index, const MediaSize *m, uint8_t *out)
{
	static const int slope[4][2] = {{0, 1}, {1, 0}, {1, 1}, {1, 7}};
	Look l;
	Rng r = draw_look(w, index, &l);
	const int *d = slope[rng_below(&r, 4)];
	int32_t phase = (int32_t)rng_below(&r, 8), speed = (int32_t)rng_below(&r, 8), shade = (int32_t)(108 + rng_below(&r, 41)) * FIX_ONE;
	int32_t stripe = (24 * FIX_ONE + 8 * l.contrast) / 2, tint[3] = {12 * l.warmth, 0, -12 * l.warmth};
	uint32_t word = 0;
	uint64_t i = 0;
	for (uint32_t f = 0; f < m->frames; f++)
		for (uint32_t y = 0; y < m->pixels; y++)
			for (uint32_t x = 0; x < m->pixels; x++) {
				uint32_t at = (uint32_t)phase + f * (uint32_t)speed + y * (uint32_t)d[0] + x * (uint32_t)d[1];
				for (int c = 0; c < 3; c++, i++) {
					int32_t noise = ((int32_t)next_byte(&r, &word, i) - 128) * (FIX_ONE / 8); /* -16 to 16, in eighths */
					out[i] = (uint8_t)((shade + tint[c] + stripe * swing[at % 8] + noise) / FIX_ONE); /* from 18 to 238 */
				}
			}
}

void
make_sound(const World *w, uint64_t index, const MediaSize *m, float *out)
{
	Voice v;
	Rng r = draw_voice(w, index, &v);
	uint32_t phase = rng_below(&r, 8);
	int32_t mean[NCOEFFICIENT] = {-24 * FIX_ONE + 6 * v.loudness}, beat = (6 * FIX_ONE + 2 * v.beat) / 2;
	for (int k = 1; k < NCOEFFICIENT; k++)
		mean[k] = rng_normal(&r);
	for (uint32_t t = 0; t < m->places; t++)
		for (int k = 0; k < NCOEFFICIENT; k++) {
			int32_t x = mean[k] + (k && k <= 8 ? beat * swing[(t + phase) % 8] : 0) + (int32_t)rng_below(&r, 8 * FIX_ONE) - 4 * FIX_ONE;
			*out++ = (float)(x / 256) / 256; /* exact */
		}
}
