/* mmrun synth: writes Posts.csv and Users.csv with the quirks of real exports and a planted signal, on request a file of
   frames and one of sound for each post, and prints the best scores that any model can reach on them. All is
   written beside its place and renamed when it is complete. The quirks: separators and suffixes in counts, two date formats, JSON inside a quoted field,
   several languages and emoji, quoted newlines and quotes, empty descriptions and songs, zero lengths and counts,
   users that Users.csv lacks, posts that come twice; on request IDs in scientific notation and CRLF line ends. */
#define _GNU_SOURCE
#include "runtime.h"
#include "synth.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Settings {
	const char *out;
	uint64_t posts, users, seed, scientific, crlf, media, help;
	MediaSize size;
} Settings;

/* name, letter, argument, field, least, most, help. A row without an argument is a flag. */
static const struct Setting {
	const char *name;
	char letter;
	const char *arg;
	size_t offset;
	uint64_t least, most;
	const char *help;
} setting[] = {
	{"out", 'o', "DIR", offsetof(Settings, out), 0, 0, "folder for Posts.csv and Users.csv; made if missing (required)"},
	{"posts", 0, "N", offsetof(Settings, posts), 1, 20000000, "rows of Posts.csv (3000)"},
	{"users", 0, "M", offsetof(Settings, users), 1, 10000000, "users; 3 % of them are missing from Users.csv (150)"},
	{"seed", 0, "S", offsetof(Settings, seed), 0, UINT64_MAX, "another seed: other data with the same effects (1)"},
	{"scientific-ids", 0, NULL, offsetof(Settings, scientific), 0, 0,
	 "half of the post IDs as 7.18825E+18, as a spreadsheet saves them"},
	{"crlf", 0, NULL, offsetof(Settings, crlf), 0, 0, "end lines with CR LF"},
	{"media", 0, NULL, offsetof(Settings, media), 0, 0, "write frames/ID.npy and sound/ID.npy of each post, too, with a signal of their own"},
	{"frames", 0, "N", offsetof(Settings, size.frames), 1, 64, "with --media: frames of a post (4)"},
	{"pixels", 0, "N", offsetof(Settings, size.pixels), 8, 512, "with --media: height and width of a frame (64)"},
	{"places", 0, "N", offsetof(Settings, size.places), 8, 4096, "with --media: places of sound, each of 40 coefficients (64)"},
	{"help", 'h', NULL, offsetof(Settings, help), 0, 0, "this text"},
};

static void
print_help(void)
{
	puts("usage: mmrun synth -o DIR [--posts N] [--users M] [--seed S] [--media]\n\n"
		"Writes synthetic short-video posts (Posts.csv) and their users (Users.csv), with the quirks of real\n"
		"exports, and prints the best scores that any model can reach on them. The same options give the same\n"
		"bytes on every machine.\n\noptions:");
	for (size_t i = 0; i < LEN(setting); i++) {
		const struct Setting *o = &setting[i];
		char letter[8] = "   ", name[40];
		if (o->letter)
			snprintf(letter, sizeof letter, "-%c,", o->letter);
		snprintf(name, sizeof name, "%s --%s %s", letter, o->name, o->arg ? o->arg : "");
		printf("  %-24s %s\n", name, o->help);
	}
	puts("\nexample: mmrun synth -o data --posts 100000 --users 4000 --seed 7");
}

static bool
parse_number(const struct Setting *s, const char *text, uint64_t *out, Err *e)
{
	uint64_t v = 0;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (v > (UINT64_MAX - (uint64_t)(*p - '0')) / 10)
			break;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (p == text || *p || v < s->least || v > s->most)
		return fail(e, "--%s takes a whole number from %llu to %llu, not '%s'", s->name, (unsigned long long)s->least,
			(unsigned long long)s->most, text);
	*out = v;
	return true;
}

static bool
fail_unknown(const char *given, Err *e)
{
	const char *names[LEN(setting)], *bare = given + strspn(given, "-"), *near;
	char name[64];
	if (given == bare || !*bare)
		return fail(e, "'%s' is no option; the folder goes after -o: mmrun synth -o DIR", given);
	for (size_t i = 0; i < LEN(setting); i++)
		names[i] = setting[i].name;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
	near = nearest_name(name, names, LEN(setting));
	if (near)
		return fail(e, "unknown option '%s'; did you mean --%s?", given, near);
	return fail(e, "unknown option '%s'; mmrun synth --help lists them", given);
}

/* The option that argument a names in full, or NULL; *value: what follows its '=', or NULL. */
static const struct Setting *
find_setting(const char *a, const char **value)
{
	*value = NULL;
	for (size_t i = 0; i < LEN(setting); i++) {
		const struct Setting *o = &setting[i];
		size_t n = strlen(o->name);
		if (o->letter && a[0] == '-' && a[1] == o->letter && !a[2])
			return o;
		if (strncmp(a, "--", 2) || strncmp(a + 2, o->name, n) || (a[n + 2] && a[n + 2] != '='))
			continue;
		if (a[n + 2])
			*value = a + n + 3;
		return o;
	}
	return NULL;
}

/* --name value, --name=value, -o DIR, flags; the last of several counts. */
static bool
parse_settings(Settings *s, int argc, char **argv, Err *e)
{
	for (int i = 1; i < argc; i++) {
		const char *value;
		const struct Setting *o = find_setting(argv[i], &value);
		if (!o)
			return fail_unknown(argv[i], e);
		void *field = (char *)s + o->offset;
		if (!o->arg && value)
			return fail(e, "--%s takes no value", o->name);
		if (o->arg && !value && ++i == argc)
			return fail(e, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
		value = value ? value : argv[i];
		if (!o->arg)
			*(uint64_t *)field = 1;
		else if (!o->most)
			*(const char **)field = value;
		else if (!parse_number(o, value, field, e))
			return false;
	}
	return true;
}

/* One of the two files while it is written. */
typedef struct Output {
	char *path, *tmp; /* tmp: NULL once it is gone */
	FILE *f;
	uint64_t bytes;
	Text row;
	const char *eol;
} Output;

static bool
output_open(Output *o, const char *dir, const char *name, bool crlf, Err *e)
{
	Text path = {0}, tmp = {0};
	struct stat st;
	text_printf(&path, "%s/%s", dir, name);
	text_printf(&tmp, "%s.tmp.%ld", path.s, (long)getpid());
	*o = (Output){.path = path.s, .eol = crlf ? "\r\n" : "\n"};
	if (!stat(path.s, &st) && !S_ISREG(st.st_mode)) {
		free(tmp.s);
		return fail(e, "%s: exists and is not a file; move it away or choose another folder", path.s);
	}
	o->f = fopen(tmp.s, "wb");
	o->tmp = tmp.s;
	if (!o->f) {
		fail(e, "%s: cannot create: %s", tmp.s, strerror(errno));
		free(tmp.s);
		o->tmp = NULL;
		return false;
	}
	setvbuf(o->f, NULL, _IOFBF, 1 << 20);
	return true;
}

static bool
output_row(Output *o, Err *e)
{
	text_puts(&o->row, o->eol);
	if (fwrite(o->row.s, 1, o->row.n, o->f) != o->row.n)
		return fail(e, "%s: cannot write: %s", o->path, strerror(errno));
	o->bytes += o->row.n;
	o->row.n = 0;
	return true;
}

/* Everything on disk, under the temporary name. */
static bool
output_finish(Output *o, Err *e)
{
	bool ok = !fflush(o->f) && !fsync(fileno(o->f));
	int why = errno;
	if (fclose(o->f) && ok) {
		why = errno;
		ok = false;
	}
	o->f = NULL;
	return ok || fail(e, "%s: cannot write: %s", o->path, strerror(why));
}

static bool
output_rename(Output *o, Err *e)
{
	if (rename(o->tmp, o->path))
		return fail(e, "%s: cannot replace: %s", o->path, strerror(errno));
	free(o->tmp);
	o->tmp = NULL;
	return true;
}

/* Removes what was not renamed. */
static void
output_drop(Output *o)
{
	if (o->f)
		fclose(o->f);
	if (o->tmp)
		unlink(o->tmp);
	free(o->tmp);
	free(o->path);
	free(o->row.s);
	*o = (Output){0};
}

/* A folder of one array a post while it is written. */
typedef struct Folder {
	char *path, *tmp; /* NULL without --media */
	bool renamed;
	char head[192]; /* of every file: numpy.lib.format, version 1.0 */
	size_t nhead, nbytes;
	void *data; /* of one post */
} Folder;

/* dim: nd sizes of one array. */
static bool
folder_make(Folder *o, const char *dir, const char *name, const char *descr, size_t bytes, const uint64_t *dim, int nd, Err *e)
{
	Text path = {0}, tmp = {0}, head = {0};
	struct stat st;
	text_printf(&path, "%s/%s", dir, name);
	text_printf(&tmp, "%s.tmp.%ld", path.s, (long)getpid());
	text_printf(&head, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
	for (int i = 0; i < nd; i++) {
		text_printf(&head, i ? ", %llu" : "%llu", (unsigned long long)dim[i]);
		bytes *= dim[i];
	}
	text_puts(&head, "), }");
	while ((10 + head.n + 1) % 64)
		text_puts(&head, " ");
	text_puts(&head, "\n");
	*o = (Folder){.path = path.s, .nhead = 10 + head.n, .nbytes = bytes, .data = xmalloc(bytes)};
	memcpy(o->head, (char[]){'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, (char)head.n, 0}, 10);
	memcpy(o->head + 10, head.s, head.n);
	free(head.s);
	if (!stat(path.s, &st))
		fail(e, "%s: exists; move it away or choose another folder", path.s);
	else if (mkdir(tmp.s, 0777))
		fail(e, "%s: cannot make the folder: %s", tmp.s, strerror(errno));
	if (e->set)
		free(tmp.s);
	else
		o->tmp = tmp.s;
	return !e->set;
}

/* o->data as the array of a post. */
static bool
folder_write(Folder *o, uint64_t id, Err *e)
{
	Text path = {0};
	text_printf(&path, "%s/%llu.npy", o->tmp, (unsigned long long)id);
	FILE *f = fopen(path.s, "wb");
	bool ok = f && fwrite(o->head, 1, o->nhead, f) == o->nhead && fwrite(o->data, 1, o->nbytes, f) == o->nbytes;
	int why = errno;
	if (f && fclose(f) && ok) {
		why = errno;
		ok = false;
	}
	if (!ok)
		fail(e, "%s/%llu.npy: cannot write: %s", o->path, (unsigned long long)id, strerror(why));
	free(path.s);
	return ok;
}

static bool
folder_rename(Folder *o, Err *e)
{
	if (!o->tmp)
		return true;
	o->renamed = !rename(o->tmp, o->path);
	return o->renamed || fail(e, "%s: cannot make the folder: %s", o->path, strerror(errno));
}

static void
remove_folder(const char *path)
{
	DIR *d = opendir(path);
	for (struct dirent *f; d && (f = readdir(d));)
		if (f->d_name[0] != '.')
			unlinkat(dirfd(d), f->d_name, 0);
	if (d)
		closedir(d);
	rmdir(path);
}

/* keep: all went well. */
static void
folder_drop(Folder *o, bool keep)
{
	if (o->tmp && !(keep && o->renamed))
		remove_folder(o->renamed ? o->path : o->tmp);
	free(o->path);
	free(o->tmp);
	free(o->data);
	*o = (Folder){0};
}

/* NumPy's '<f4', in place. */
static void
store_little(float *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u;
		memcpy(&u, &v[i], 4);
		memcpy(&v[i], (uint8_t[]){(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)}, 4);
	}
}

static bool
open_media(const Settings *s, Folder *frames, Folder *sound, Err *e)
{
	const MediaSize *m = &s->size;
	return folder_make(frames, s->out, "frames", "|u1", 1, (uint64_t[]){m->frames, m->pixels, m->pixels, 3}, 4, e) &&
		folder_make(sound, s->out, "sound", "<f4", 4, (uint64_t[]){m->places, NCOEFFICIENT}, 2, e);
}

static bool
write_media(const World *w, const Settings *s, uint64_t index, uint64_t id, Folder *frames, Folder *sound, Err *e)
{
	if (!s->media)
		return true;
	make_frames(w, index, &s->size, frames->data);
	make_sound(w, index, &s->size, sound->data);
	store_little(sound->data, sound->nbytes / 4);
	return folder_write(frames, id, e) && folder_write(sound, id, e);
}

/* RFC 4180: quoted where it must be. */
static void
put_field(Text *t, const char *s, size_t n)
{
	bool quote = false;
	for (size_t i = 0; i < n && !quote; i++)
		quote = s[i] == ',' || s[i] == '"' || s[i] == '\n' || s[i] == '\r';
	if (!quote) {
		text_add(t, s, n);
		return;
	}
	text_puts(t, "\"");
	for (size_t i = 0, from = 0; i <= n; i++) {
		if (i == n || s[i] == '"') {
			text_add(t, s + from, i - from);
			text_puts(t, i == n ? "\"" : "\"\"");
			from = i + 1;
		}
	}
}

/* Decimal digits, at least `width` of them. */
static void
put_digits(Text *t, uint64_t v, int width)
{
	char buf[24], *p = buf + sizeof buf;
	for (; v || width > 0; v /= 10, width--)
		*--p = (char)('0' + v % 10);
	text_add(t, p, (size_t)(buf + sizeof buf - p));
}

static void
put_separated(Text *t, uint64_t v)
{
	if (v < 1000) {
		put_digits(t, v, 1);
		return;
	}
	put_separated(t, v / 1000);
	text_puts(t, ",");
	put_digits(t, v % 1000, 3);
}

/* The counts' rounding leaves one digit behind the point, so no style loses anything. */
static void
put_count(Text *t, uint64_t v, int style)
{
	Text s = {0};
	if (style == SUFFIXED && v >= 10000) {
		uint64_t unit = v >= 1000000 ? 1000000 : 1000;
		put_digits(t, v / unit, 1);
		if (v % unit) {
			text_puts(t, ".");
			put_digits(t, v % unit / (unit / 10), 1);
		}
		text_puts(t, unit == 1000 ? "K" : "M");
	} else if (style == SEPARATED && v >= 1000) {
		put_separated(&s, v);
		put_field(t, s.s, s.n);
		free(s.s);
	} else {
		put_digits(t, v, 1);
	}
}

/* Six digits, as a spreadsheet shows a number of nineteen: 7.18825E+18, 6.944E+18. */
static void
put_scientific(Text *t, uint64_t id)
{
	uint64_t m = (id + 5000000000000u) / 10000000000000u, digits = m % 100000;
	int width = 5;
	put_digits(t, m / 100000, 1);
	for (; digits && digits % 10 == 0; width--)
		digits /= 10;
	if (digits) {
		text_puts(t, ".");
		put_digits(t, digits, width);
	}
	text_puts(t, "E+18");
}

/* Day since 1970-01-01 to year, month, day, for days after 2000-02-29: eras of 4 years that begin in March. */
static void
civil(int64_t day, uint64_t *year, uint64_t *month, uint64_t *mday)
{
	uint64_t d = (uint64_t)(day - 11017); /* 2000-03-01 */
	uint64_t y = (4 * d + 3) / 1461, in_year = d - 1461 * y / 4, m = (5 * in_year + 2) / 153;
	*mday = in_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = 2000 + y + (m >= 10);
}

static void
put_time(Text *t, const Post *p)
{
	uint64_t year, month, day, minute = p->second / 60;
	civil(p->day, &year, &month, &day);
	const struct { uint64_t v; int width; const char *after; } iso[] = {
		{year, 4, "-"}, {month, 2, "-"}, {day, 2, "T"}, {minute / 60, 2, ":"}, {minute % 60, 2, ":"},
		{p->second % 60, 2, ".000Z"},
	}, us[] = {{month, 2, "/"}, {day, 2, "/"}, {year, 4, " "}, {minute / 60, 2, ":"}, {minute % 60, 2, ""}};
	for (size_t i = 0; i < (p->us_date ? LEN(us) : LEN(iso)); i++) {
		put_digits(t, p->us_date ? us[i].v : iso[i].v, p->us_date ? us[i].width : iso[i].width);
		text_puts(t, p->us_date ? us[i].after : iso[i].after);
	}
}

static void
put_post(Text *t, const Post *p, bool scientific)
{
	if (scientific && p->scientific)
		put_scientific(t, p->id);
	else
		put_digits(t, p->id, 1);
	text_puts(t, ",");
	put_username(t, p->user);
	text_puts(t, ",");
	put_time(t, p);
	const Text *text[] = {&p->description, &p->hashtags, &p->song};
	for (size_t i = 0; i < LEN(text); i++) {
		text_puts(t, ",");
		put_field(t, text[i]->s, text[i]->n);
	}
	text_puts(t, ",");
	put_digits(t, p->seconds, 1);
	for (int k = 0; k < NCOUNT; k++) {
		text_puts(t, ",");
		put_count(t, p->count[k], p->style);
	}
}

static void
put_user(Text *t, const User *u, uint64_t index)
{
	int style = index % 9 == 4 ? SEPARATED : index % 23 == 7 ? SUFFIXED : PLAIN;
	put_username(t, index);
	text_puts(t, ",");
	put_count(t, u->followers, style);
	text_puts(t, ",");
	if (!u->no_following)
		put_count(t, u->following, style);
	text_puts(t, ",");
	put_count(t, u->likes, style);
	text_puts(t, ",");
	put_digits(t, u->videos, 1);
}

static bool
write_users(Output *o, const World *w, uint64_t *listed, Err *e)
{
	text_puts(&o->row, "Username,Follower Count,Following Count,Total Likes,Total Videos");
	if (!output_row(o, e))
		return false;
	for (uint64_t i = 0; i < w->nuser; i++) {
		if (!w->user[i].listed)
			continue;
		put_user(&o->row, &w->user[i], i);
		++*listed;
		if (!output_row(o, e))
			return false;
	}
	return true;
}

/* The post that row `index` repeats: an earlier one that is no repetition itself, or itself. */
static uint64_t
original_of(uint64_t seed, uint64_t index)
{
	Rng r = rng_start(seed, SITE_TWICE, index);
	if (!index || rng_below(&r, 150))
		return index;
	uint64_t back = 1 + rng_below(&r, 1000);
	return original_of(seed, back > index ? 0 : index - back);
}

static void
note_truth(Truth *t, const Post *p, bool listed)
{
	double sum = 0;
	for (int k = 0; k < NCOUNT; k++)
		sum += log1p((double)p->count[k]);
	memcpy(t->part, p->part, sizeof t->part);
	t->engagement = (float)(sum / NCOUNT);
	t->plays = (float)p->count[0];
	t->listed = listed;
}

/* Appends the truth of each distinct post; *ndistinct counts them. */
static bool
write_posts(Output *o, const World *w, const Settings *s, Folder *frames, Folder *sound, Truth *truth, uint64_t *ndistinct, Err *e)
{
	Post p = {0};
	bool ok;
#define X(name, base, noise) "," #name
	text_puts(&o->row, "Post ID,Username,Created At,Description,Hashtags,Song,Length (seconds)" COUNTS(X));
#undef X
	ok = output_row(o, e);
	for (uint64_t i = 0; ok && i < s->posts; i++) {
		uint64_t from = original_of(s->seed, i);
		post_make(w, from, &p);
		put_post(&o->row, &p, s->scientific);
		ok = output_row(o, e) && (from != i || write_media(w, s, i, p.id, frames, sound, e));
		if (from == i)
			note_truth(&truth[(*ndistinct)++], &p, w->user[p.user].listed);
	}
	post_free(&p);
	return ok;
}

/* Renames all, or leaves nothing new. */
static bool
publish(Output *posts, Output *users, Folder *frames, Folder *sound, Err *e)
{
	if (!output_finish(posts, e) || !output_finish(users, e) || !folder_rename(frames, e) || !folder_rename(sound, e) || !output_rename(users, e))
		return false;
	if (output_rename(posts, e))
		return true;
	unlink(users->path);
	return false;
}

static bool
synth(const Settings *s, Err *e)
{
	Output posts = {0}, users = {0};
	Folder frames = {0}, sound = {0};
	Truth *truth = NULL;
	World *w = NULL;
	uint64_t listed = 0, distinct = 0;
	bool made = !mkdir(s->out, 0777), ok = false;
	if (!made && errno != EEXIST)
		return fail(e, "%s: cannot make the folder: %s", s->out, strerror(errno));
	if (!output_open(&posts, s->out, "Posts.csv", s->crlf, e) || !output_open(&users, s->out, "Users.csv", s->crlf, e))
		goto out;
	if (s->media && !open_media(s, &frames, &sound, e))
		goto out;
	w = world_new(s->seed, s->users, s->media);
	truth = xmalloc(s->posts * sizeof *truth);
	if (!write_users(&users, w, &listed, e) || !write_posts(&posts, w, s, &frames, &sound, truth, &distinct, e)
		|| !publish(&posts, &users, &frames, &sound, e))
		goto out;
	ok = true;
	printf("%s: %llu rows, %llu of them a second time, %llu bytes\n", posts.path, (unsigned long long)s->posts,
		(unsigned long long)(s->posts - distinct), (unsigned long long)posts.bytes);
	printf("%s: %llu users, %llu are missing, %llu bytes\n", users.path, (unsigned long long)listed,
		(unsigned long long)(s->users - listed), (unsigned long long)users.bytes);
	if (s->media)
		printf("%s, %s: %llu files each, of %zu and %zu bytes\n", frames.path, sound.path, (unsigned long long)distinct,
			frames.nhead + frames.nbytes, sound.nhead + sound.nbytes);
	report_best(stdout, truth, distinct, s->media);
out:
	output_drop(&posts);
	output_drop(&users);
	folder_drop(&frames, ok);
	folder_drop(&sound, ok);
	free(truth);
	if (w)
		world_free(w);
	if (made && !ok)
		rmdir(s->out);
	return ok;
}

/* Sizes that were not given; those that were have a meaning only with --media. */
static bool
check_media(Settings *s, Err *e)
{
	const struct { const char *name; uint64_t *size, usual; } size[] = {
		{"frames", &s->size.frames, 4}, {"pixels", &s->size.pixels, 64}, {"places", &s->size.places, 64},
	};
	for (size_t i = 0; i < LEN(size); i++) {
		if (*size[i].size && !s->media)
			return fail(e, "--%s has a meaning only with --media", size[i].name);
		if (!*size[i].size)
			*size[i].size = size[i].usual;
	}
	return true;
}

int
cmd_synth(int argc, char **argv)
{
	Settings s = {.posts = 3000, .users = 150, .seed = 1};
	Err e = {0};
	if (!parse_settings(&s, argc, argv, &e) || !check_media(&s, &e)) {
		fprintf(stderr, "mmrun synth: %s\n", e.msg);
		return 2;
	}
	if (s.help) {
		print_help();
		return 0;
	}
	if (!s.out || !*s.out)
		fail(&e, "where to? mmrun synth -o DIR (--help shows the options)");
	else if (synth(&s, &e))
		return 0;
	fprintf(stderr, "mmrun synth: %s\n", e.msg);
	return 2;
}
