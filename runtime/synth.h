/* The parts of mmrun synth: random numbers and fixed-point functions (synth_rng.c), one post and its planted
   signal (synth_post.c), what it shows and sounds like (synth_media.c), the best possible scores (synth_score.c), the
   command and its files (synth.c).

   Everything that reaches a file is integer arithmetic, so the same options give the same bytes on every machine. */
#ifndef SYNTH_H
#define SYNTH_H

#include "base.h"

/* ---- synth_rng.c ---- */

/* Natural logarithms and effects on them in units of 1/65536. */
typedef int32_t Fix;
#define FIX_ONE 65536
#define FIX(hundredths) ((Fix)((int64_t)(hundredths) * FIX_ONE / 100))
static inline Fix fix_scaled(Fix x, int hundredths) { return (Fix)((int64_t)x * hundredths / 100); }

uint64_t fix_exp(Fix x);    /* floor(e^x), within 1e-5 of e^x + 1; x below 26 */
Fix fix_log(uint64_t v);    /* ln v; v from 1 to 2^63 */

/* One row an independent stream of random numbers. */
typedef enum RngSite { SITE_SONG, SITE_USER, SITE_POST, SITE_TEXT, SITE_TAGS, SITE_NOISE, SITE_TWICE, SITE_FRAMES, SITE_SOUND } RngSite;

/* A stream of Philox4x32-10 (Salmon et al., SC 2011): key = seed, counter = (index, site, block), so any row can be
   made again on its own, in any order. */
typedef struct Rng {
	uint32_t key[2], counter[4], out[4];
	unsigned left; /* numbers of `out` not yet given */
} Rng;

Rng rng_start(uint64_t seed, RngSite site, uint64_t index);
uint32_t rng_u32(Rng *r);
uint32_t rng_below(Rng *r, uint32_t n);        /* 0 .. n - 1; n > 0; bias below n / 2^32 */
bool rng_chance(Rng *r, uint32_t percent);
uint32_t rng_skewed(Rng *r, uint32_t n);       /* 0 .. n - 1, small numbers more often: P(< k) = k/n (1 + ln(n/k)) */
uint32_t rng_pick(Rng *r, const uint8_t *weight, uint32_t n);
Fix rng_normal(Rng *r);                        /* nearly Gaussian, mean 0, variance 1 (excess kurtosis -0.02) */

/* ---- synth_post.c ---- */

/* The groups of columns that the signal comes from. */
#define GROUPS(X)                                                                   \
	X(USER, "user", "followers and likes")                                          \
	X(TIME, "time", "hour and weekday (UTC)")                                       \
	X(LENGTH, "length", "length in seconds")                                        \
	X(TEXT, "text", "words and word pairs of the description, its #hashtags apart") \
	X(TAGS, "hashtags", "certain hashtags, which most descriptions repeat")         \
	X(SONG, "song", "the song")                                                     \
	X(FRAMES, "frames", "warmth of the frames and contrast of their stripes")       \
	X(SOUND, "sound", "loudness and beat of the sound")

typedef enum Group {
#define X(id, name, what) GROUP_##id,
	GROUPS(X)
#undef X
	NGROUP
} Group;
#define MEDIA_GROUPS (1u << GROUP_FRAMES | 1u << GROUP_SOUND) /* without --media their part is 0 */

/* In the order of the columns. base: the logarithm where the signal is 0; noise: standard deviation of the count's
   own noise; both in hundredths. */
#define COUNTS(X)        \
	X(Plays, 950, 50)    \
	X(Comments, 450, 77) \
	X(Diggs, 720, 50)    \
	X(Shares, 420, 89)
#define NCOUNT 4
#define SHARED_NOISE 75         /* standard deviation of the noise that a post's four counts share, in hundredths */
#define DEAD_ONE_IN 1024        /* posts that nobody saw: all four counts 0 */

typedef struct User {
	uint64_t followers, likes;  /* as printed, so that the signal can be read from the file exactly */
	uint32_t following, videos;
	Fix effect;
	uint8_t language;
	bool listed;                /* in Users.csv */
	bool no_following;          /* that field is empty */
} User;

/* All that a post is made from. */
typedef struct World {
	uint64_t seed, nuser;
	bool media;
	User *user;
	uint64_t *activity; /* running sum of the users' weights: who posts how often */
	Fix *song;          /* effect of each song: the same for every seed, as all effects are */
} World;

typedef struct Post {
	uint64_t id, user;
	int64_t day;        /* since 1970-01-01 */
	uint32_t second;    /* of the day */
	uint32_t seconds;   /* length */
	Text description, hashtags, song; /* hashtags: a JSON list */
	uint64_t count[NCOUNT];
	Fix part[NGROUP];   /* the signal: what each group adds to the logarithm of every count */
	bool scientific, us_date;
	enum { PLAIN, SEPARATED, SUFFIXED } style; /* of the counts */
} Post;

World *world_new(uint64_t seed, uint64_t nuser, bool media);
void world_free(World *w);

/* Fills p with post number `index`; its texts are reused. post_free frees them. */
void post_make(const World *w, uint64_t index, Post *p);
void post_free(Post *p);

/* Appends the name of a user: unique, letters, digits, '_' and '.'. */
void put_username(Text *t, uint64_t user);

/* ---- synth_media.c ---- */

#define NCOEFFICIENT 40
typedef struct MediaSize {
	uint64_t frames, pixels, places;
} MediaSize;

/* In standard deviations, cut at 2.5. */
typedef struct Look {
	Fix warmth, contrast;
} Look;
typedef struct Voice {
	Fix loudness, beat;
} Voice;

/* What post number `index` shows and sounds like adds to the logarithm of its counts. */
Fix effect_of_frames(const World *w, uint64_t index);
Fix effect_of_sound(const World *w, uint64_t index);
void make_frames(const World *w, uint64_t index, const MediaSize *m, uint8_t *out); /* [frames, pixels, pixels, 3] */
void make_sound(const World *w, uint64_t index, const MediaSize *m, float *out);    /* [places, NCOEFFICIENT] */

/* ---- synth_score.c ---- */

/* What the best possible scores are computed from: one a distinct post. */
typedef struct Truth {
	Fix part[NGROUP];
	float engagement, plays;
	bool listed;
} Truth;

void report_best(FILE *f, const Truth *t, uint64_t n, bool media);

#endif
