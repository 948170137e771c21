/* Status, arenas, text, files: see base.h. */
#define _GNU_SOURCE
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool
fail(Err *e, const char *fmt, ...)
{
	if (!e->set) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof e->msg, fmt, ap);
		va_end(ap);
		e->set = true;
	}
	return false;
}

static void *
checked(void *p)
{
	if (!p) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	return p;
}

void *xmalloc(size_t bytes) { return checked(malloc(bytes ? bytes : 1)); }
void *xcalloc(size_t n, size_t bytes) { return checked(calloc(n ? n : 1, bytes ? bytes : 1)); }
void *xrealloc(void *p, size_t bytes) { return checked(realloc(p, bytes ? bytes : 1)); }
char *xstrdup(const char *s) { return checked(strdup(s)); }

struct ArenaBlock {
	struct ArenaBlock *next;
	size_t used, size;
	_Alignas(16) char data[];
};

void *
arena_alloc(Arena *a, size_t bytes)
{
	struct ArenaBlock *b = a->head;
	bytes = (bytes + 15) & ~(size_t)15;
	if (!b || b->size - b->used < bytes) {
		size_t size = bytes > 65000 ? bytes : 65536 - sizeof *b;
		b = xcalloc(1, sizeof *b + size);
		b->size = size;
		b->next = a->head;
		a->head = b;
	}
	void *p = b->data + b->used;
	b->used += bytes;
	return p;
}

char *
arena_strndup(Arena *a, const char *s, size_t n)
{
	char *p = arena_alloc(a, n + 1);
	memcpy(p, s, n);
	return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

char *
arena_printf(Arena *a, const char *fmt, ...)
{
	va_list ap, aq;
	va_start(ap, fmt);
	va_copy(aq, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *p = arena_alloc(a, (size_t)n + 1);
	vsnprintf(p, (size_t)n + 1, fmt, aq);
	va_end(ap);
	va_end(aq);
	return p;
}

void
arena_free(Arena *a)
{
	for (struct ArenaBlock *b = a->head, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	a->head = NULL;
}

static void
text_reserve(Text *t, size_t more)
{
	if (t->n + more + 1 > t->cap) {
		t->cap = (t->n + more + 1) * 2;
		t->s = xrealloc(t->s, t->cap);
	}
}

void
text_add(Text *t, const void *s, size_t n)
{
	text_reserve(t, n);
	if (n)
		memcpy(t->s + t->n, s, n);
	t->n += n;
	t->s[t->n] = 0;
}

void text_puts(Text *t, const char *s) { text_add(t, s, strlen(s)); }

void
text_vprintf(Text *t, const char *fmt, va_list ap)
{
	va_list aq;
	va_copy(aq, ap);
	int n = vsnprintf(NULL, 0, fmt, aq);
	va_end(aq);
	text_reserve(t, (size_t)n);
	vsnprintf(t->s + t->n, (size_t)n + 1, fmt, ap);
	t->n += (size_t)n;
}

void
text_printf(Text *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vprintf(t, fmt, ap);
	va_end(ap);
}

bool
read_file(const char *path, char **out, size_t *n, Err *e)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return fail(e, "%s: cannot open: %s", path, strerror(errno));
	Text t = {0};
	char buf[65536];
	size_t got;
	while ((got = fread(buf, 1, sizeof buf, f)) > 0)
		text_add(&t, buf, got);
	int bad = ferror(f) ? errno : 0;
	fclose(f);
	if (bad) {
		free(t.s);
		return fail(e, "%s: cannot read: %s", path, strerror(bad));
	}
	text_add(&t, "", 0);
	*out = t.s;
	*n = t.n;
	return true;
}

static bool
write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

/* /dev/null, /dev/stdout or a pipe: written to, where a file would be replaced. */
static bool
write_device(const char *path, const void *data, size_t n, Err *e)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write_all(fd, data, n);
	if (!ok)
		fail(e, "%s: cannot write %zu bytes: %s", path, n, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

bool
write_file_atomic(const char *path, const void *data, size_t n, int mode, Err *e)
{
	struct stat st;
	if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return write_device(path, data, n, e);
	char *tmp = NULL, *dir = xstrdup(path), *slash = strrchr(dir, '/');
	bool ok = false;
	int fd;
	if (slash)
		slash[slash == dir] = 0;
	if (asprintf(&tmp, "%s.tmp.%ld", path, (long)getpid()) < 0)
		checked(NULL);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0) {
		fail(e, "%s: cannot create: %s", path, strerror(errno));
		goto out;
	}
	if (!write_all(fd, data, n) || fsync(fd)) {
		fail(e, "%s: cannot write %zu bytes: %s", path, n, strerror(errno));
		close(fd);
		unlink(tmp);
		goto out;
	}
	close(fd);
	if (rename(tmp, path)) {
		fail(e, "%s: cannot replace: %s", path, strerror(errno));
		unlink(tmp);
		goto out;
	}
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd); /* best effort: some file systems refuse fsync on a folder */
		close(fd);
	}
	ok = true;
out:
	free(tmp);
	free(dir);
	return ok;
}

uint64_t
hash_bytes(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;
	for (size_t i = 0; i < n; i++)
		h = (h ^ s[i]) * 0x100000001b3ull;
	return h;
}

static int lower(char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; }

/* Letters put in, left out, changed, or two that changed places; case does not count. */
static size_t
edit_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b), row[3][64];
	if (na > 60 || nb > 60)
		return 99;
	for (size_t i = 0; i <= na; i++) {
		size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
		for (size_t j = 0; j <= nb; j++) {
			if (!i || !j) {
				now[j] = i + j;
				continue;
			}
			size_t sub = last[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));
			size_t ins = (last[j] < now[j - 1] ? last[j] : now[j - 1]) + 1;
			now[j] = sub < ins ? sub : ins;
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
	}
	return row[na % 3][nb];
}

/* Whether b begins with a, or has it as a word: batch_size, log1p, weight_decay of batch, log, decay. */
static bool
has_words(const char *b, const char *a)
{
	size_t n = strlen(a);
	const char *at = n > 2 ? strstr(b, a) : NULL;
	return at && (at == b || (at[-1] == '_' && (!at[n] || at[n] == '_')));
}

const char *
nearest_name(const char *name, const char *const *names, size_t n)
{
	size_t n_name = strlen(name), best = n_name / 3 + 2;
	best = best < n_name / 2 + 1 ? best : n_name / 2 + 1; /* half of it must be there */
	const char *found = NULL;
	for (size_t i = 0; i < n; i++) {
		size_t d = edit_distance(name, names[i]);
		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	for (size_t i = 0; !found && i < n; i++)
		if (has_words(name, names[i]) || has_words(names[i], name))
			found = names[i];
	return found;
}

double
now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
