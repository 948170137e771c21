/* One synthetic post: who posted it, when, its text, hashtags, song and length, the signal that these carry, and the
   counts: for each k

       ln count_k = base_k + user + time + length + text + hashtags + song [+ frames + sound] + shared noise + noise_k

   rounded down, then to the app's three or so digits. Every part can be read from the files as written, so the
   best possible score is known. Effects are the same for every seed: data of another seed is new data from the
   same world. */
#include "synth.h"

#include <stdlib.h>
#include <string.h>

#include "synth_words.h"

#define FIRST_DAY 18048 /* 2019-06-01 */
#define NDAY 1461
#define WORLD_SEED 0    /* of what is the same for every seed */

/* The app's own rounding: 1,234 but 12,300 and 1,200,000. */
static uint64_t
round_shown(uint64_t n)
{
	uint64_t unit = n >= 1000000 ? 100000 : n >= 10000 ? 100 : 1;
	return n / unit * unit;
}

/* Followers are log-normal (median 60,000, a factor 7.4 a standard deviation); likes follow them. */
static void
make_user(uint64_t seed, uint64_t index, User *u)
{
	Rng r = rng_start(seed, SITE_USER, index);
	Fix f = FIX(1100) + 2 * rng_normal(&r), most = FIX(1880);
	f = f > most ? most : f < FIX(200) ? FIX(200) : f;
	u->followers = round_shown(fix_exp(f));
	u->likes = round_shown(fix_exp(f + FIX(220) + fix_scaled(rng_normal(&r), 90)));
	u->following = (uint32_t)(fix_exp(FIX(550) + fix_scaled(rng_normal(&r), 120)) % 10001);
	u->videos = (uint32_t)(1 + fix_exp(FIX(480) + rng_normal(&r)) % 20000);
	u->language = (uint8_t)rng_pick(&r, language_weight, LEN(language));
	u->listed = index % 33 != 17;
	u->no_following = rng_chance(&r, 5);
	Fix shown = fix_log(1 + u->followers);
	u->effect = fix_scaled(shown - FIX(1100), 62) + fix_scaled(fix_log(1 + u->likes) - shown - FIX(220), 35);
}

World *
world_new(uint64_t seed, uint64_t nuser, bool media)
{
	World *w = xcalloc(1, sizeof *w);
	uint64_t sum = 0;
	w->seed = seed;
	w->nuser = nuser;
	w->media = media;
	w->user = xcalloc(nuser, sizeof *w->user);
	w->activity = xmalloc(nuser * sizeof *w->activity);
	w->song = xmalloc(NSONG * sizeof *w->song);
	for (uint64_t i = 0; i < nuser; i++) {
		make_user(seed, i, &w->user[i]);
		w->activity[i] = sum += (1u << 31) / (i + 8); /* Zipf: popular in followers and busy are not the same */
	}
	for (uint32_t i = 0; i < NSONG; i++) {
		Rng r = rng_start(WORLD_SEED, SITE_SONG, i);
		w->song[i] = fix_scaled(rng_normal(&r), 65);
	}
	return w;
}

void
world_free(World *w)
{
	free(w->user);
	free(w->activity);
	free(w->song);
	free(w);
}

void
put_username(Text *t, uint64_t user)
{
	static const char separator[3][2] = {"", ".", "_"};
	uint64_t npair = LEN(first_name) * LEN(second_name); /* 780; 331 has no factor of it, so no pair comes twice */
	uint64_t pair = user % npair * 331 % npair, number = user / npair;
	uint64_t first = pair % LEN(first_name), second = pair / LEN(first_name);
	text_puts(t, first_name[first]);
	text_puts(t, separator[(first + second) % 3]);
	text_puts(t, second_name[second]);
	if (number)
		text_printf(t, "%llu", (unsigned long long)number);
}

static uint64_t
pick_user(const World *w, Rng *r)
{
	uint64_t sum = w->activity[w->nuser - 1], lo = 0, hi = w->nuser - 1;
	uint64_t x = (uint64_t)rng_u32(r) << 32;
	x = (x | rng_u32(r)) % sum;
	while (lo < hi) {
		uint64_t mid = (lo + hi) / 2;
		if (w->activity[mid] > x)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static uint32_t
pick_length(Rng *r)
{
	static const uint8_t weight[] = {1, 50, 30, 14, 5};
	switch (rng_pick(r, weight, LEN(weight))) {
	case 0: return 0;
	case 1: return 5 + rng_below(r, 15);
	case 2: return 8 + rng_below(r, 53);
	case 3: return 1 + rng_below(r, 180);
	default: return rng_chance(r, 90) ? 15 : 60 + rng_below(r, 540);
	}
}

static Fix
effect_of_length(uint32_t seconds)
{
	int s = (int)seconds;
	if (!s)
		return 0;
	for (size_t i = 1; i < LEN(length_effect); i++) {
		int x0 = length_effect[i - 1].seconds, x1 = length_effect[i].seconds;
		int y0 = length_effect[i - 1].effect, y1 = length_effect[i].effect;
		if (s <= x1)
			return FIX(y0) + (FIX(y1) - FIX(y0)) * (s - x0) / (x1 - x0);
	}
	return FIX(length_effect[LEN(length_effect) - 1].effect);
}

/* Words that a post has so far; a word's effect counts once. */
typedef struct Words {
	const Language *l;
	uint32_t seen[40], n; /* pairs are entered as nword + k */
	int64_t last;         /* the word just written, or -1 */
	Fix effect;
	bool upper;
} Words;

static void
note_once(Words *w, uint32_t what, int effect)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (w->seen[i] == what)
			return;
	if (w->n < LEN(w->seen)) {
		w->seen[w->n++] = what;
		w->effect += FIX(effect);
	}
}

static void
put_upper(Text *t, const char *s)
{
	for (; *s; s++)
		text_add(t, &(char){*s >= 'a' && *s <= 'z' ? (char)(*s - 32) : *s}, 1);
}

static void
put_word(Words *w, Text *t, uint32_t i)
{
	const Word *word = &w->l->word[i];
	if (w->upper)
		put_upper(t, word->s);
	else
		text_puts(t, word->s);
	note_once(w, i, word->effect);
	if (i % 2 && i / 2 < w->l->npair && w->last == (int64_t)i - 1)
		note_once(w, w->l->nword + i / 2, w->l->pair[i / 2]);
	w->last = i;
}

/* What stands between two words. Inside a pair it is a space, always: a reader by words must see the pair. */
static void
put_gap(Words *w, Rng *r, Text *t)
{
	static const char *const mark[] = {", ", "! ", "... ", " - ", "\n", "\n\n", "? "};
	static const uint8_t weight[] = {40, 20, 15, 5, 4, 2, 14};
	bool opens_pair = w->last % 2 == 0 && w->last / 2 < w->l->npair;
	bool marked = rng_chance(r, 14);
	uint32_t which = rng_pick(r, weight, LEN(weight));
	text_puts(t, marked && !opens_pair ? mark[which] : w->l->space);
}

static void
put_sentence(Words *w, Rng *r, Text *t)
{
	uint32_t n = 2 + rng_below(r, 9), quoted = rng_chance(r, 4) ? rng_below(r, n) : n;
	for (uint32_t k = 0; k < n; k++) {
		if (k)
			put_gap(w, r, t);
		if (w->l->npair && rng_chance(r, 5)) {
			uint32_t pair = rng_below(r, w->l->npair);
			put_word(w, t, 2 * pair);
			text_puts(t, " ");
			put_word(w, t, 2 * pair + 1);
		} else if (k == quoted) {
			/* Quotes would hide a pair from a reader that keeps them: none begins or ends here. */
			text_puts(t, "\"");
			w->last = -1;
			put_word(w, t, w->l->nword - 1 - rng_below(r, 10));
			text_puts(t, "\"");
		} else {
			put_word(w, t, rng_below(r, w->l->nword));
		}
	}
}

/* Adds the hashtags to the JSON list and to the end of the description. A tag without an effect may come twice. */
static Fix
make_hashtags(const World *w, uint64_t index, Post *p)
{
	static const uint8_t count_weight[] = {14, 12, 14, 16, 14, 12, 9, 5, 4};
	Rng r = rng_start(w->seed, SITE_TAGS, index);
	uint32_t n = rng_pick(&r, count_weight, LEN(count_weight));
	bool seen[LEN(hashtag)] = {0}, shown = p->description.n > 0;
	Fix effect = 0;
	text_puts(&p->hashtags, "[");
	for (uint32_t k = 0, i; k < n; k++) {
		do
			i = rng_skewed(&r, LEN(hashtag));
		while (seen[i] && hashtag[i].effect);
		if (!seen[i])
			effect += FIX(hashtag[i].effect);
		seen[i] = true;
		text_puts(&p->hashtags, k ? ", \"" : "\"");
		text_puts(&p->hashtags, hashtag[i].s);
		text_puts(&p->hashtags, "\"");
		if (shown) {
			text_puts(&p->description, " #");
			text_puts(&p->description, hashtag[i].s);
		}
	}
	text_puts(&p->hashtags, "]");
	if (shown && n && rng_chance(&r, 30))
		text_puts(&p->description, " ");
	return effect;
}

/* The description without its hashtags. */
static Fix
make_description(const World *w, uint64_t index, Post *p)
{
	Rng r = rng_start(w->seed, SITE_TEXT, index);
	uint8_t code = rng_chance(&r, 92) ? w->user[p->user].language : 0;
	Words words = {.l = &language[code], .last = -1};
	if (rng_chance(&r, 7))
		return 0;
	words.upper = rng_chance(&r, 4) && !code;
	if (rng_chance(&r, 6)) {
		text_puts(&p->description, rng_chance(&r, 50) ? "Reply to @" : "@");
		put_username(&p->description, rng_below(&r, (uint32_t)w->nuser));
		text_puts(&p->description, " ");
	}
	put_sentence(&words, &r, &p->description);
	if (rng_chance(&r, 40)) {
		text_puts(&p->description, " ");
		for (uint32_t k = 1 + rng_below(&r, 3); k > 0; k--)
			text_puts(&p->description, emoji[rng_skewed(&r, LEN(emoji))]);
	}
	return words.effect;
}

static Fix
make_song(const World *w, Rng *r, Post *p)
{
	uint32_t kind = rng_below(r, 1000);
	if (kind < 3)
		return 0; /* a few have no song */
	if (kind < 280) {
		if (kind < 100) {
			put_username(&p->song, p->user);
			text_puts(&p->song, ": ");
		}
		text_puts(&p->song, language[w->user[p->user].language].original);
		return 0;
	}
	uint32_t k = rng_skewed(r, NSONG);
	text_puts(&p->song, artist[k % LEN(artist)]);
	text_puts(&p->song, ": ");
	text_puts(&p->song, title[(7 * k + k / LEN(artist)) % LEN(title)]);
	return w->song[k];
}

static void
make_counts(const World *w, uint64_t index, Post *p)
{
	static const struct { int base, noise; } count[NCOUNT] = {
#define X(name, base, noise) {base, noise},
		COUNTS(X)
#undef X
	};
	Rng r = rng_start(w->seed, SITE_NOISE, index);
	bool dead = rng_below(&r, DEAD_ONE_IN) == 0;
	Fix signal = fix_scaled(rng_normal(&r), SHARED_NOISE), most = FIX(2140); /* under two billion */
	for (int g = 0; g < NGROUP; g++)
		signal += p->part[g];
	for (int k = 0; k < NCOUNT; k++) {
		Fix x = FIX(count[k].base) + signal + fix_scaled(rng_normal(&r), count[k].noise);
		p->count[k] = dead ? 0 : round_shown(fix_exp(x > most ? most : x));
	}
}

void
post_make(const World *w, uint64_t index, Post *p)
{
	static const uint8_t style_weight[] = {80, 14, 6};
	Rng r = rng_start(w->seed, SITE_POST, index);
	p->description.n = p->hashtags.n = p->song.n = 0;
	p->user = pick_user(w, &r);
	p->day = FIRST_DAY + rng_below(&r, NDAY);
	uint32_t hour = rng_pick(&r, hour_weight, 24);
	p->second = hour * 3600 + rng_below(&r, 3600);
	/* Like the app's: seconds in the upper half; the lower half is another for each of 2^32 posts. */
	p->id = (uint64_t)(p->day * 86400 + p->second) << 32 | ((uint32_t)index * 0x9e3779b1u ^ (uint32_t)w->seed);
	p->seconds = pick_length(&r);
	p->us_date = rng_chance(&r, 12);
	p->style = rng_pick(&r, style_weight, LEN(style_weight));
	p->scientific = rng_chance(&r, 50);
	p->part[GROUP_USER] = w->user[p->user].effect;
	p->part[GROUP_TIME] = FIX(hour_effect[hour] + weekday_effect[(p->day + 4) % 7]);
	p->part[GROUP_LENGTH] = effect_of_length(p->seconds);
	p->part[GROUP_SONG] = make_song(w, &r, p);
	p->part[GROUP_TEXT] = make_description(w, index, p);
	p->part[GROUP_TAGS] = make_hashtags(w, index, p);
	p->part[GROUP_FRAMES] = w->media ? effect_of_frames(w, index) : 0;
	p->part[GROUP_SOUND] = w->media ? effect_of_sound(w, index) : 0;
	make_counts(w, index, p);
}

void
post_free(Post *p)
{
	free(p->description.s);
	free(p->hashtags.s);
	free(p->song.s);
}
