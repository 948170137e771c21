/* The kernel cache: files KEY.SUFFIX in a folder that only its owner can write (see device.h).

   What is in it gets run, so nothing is taken from a folder that is a link, belongs to someone else or
   that others can write: a lookup then finds nothing and the kernel is compiled again.
   An entry is "MMCACHE\1", u64 LE bytes, u64 LE checksum, data. A shared object must be whole for
   dlopen, so for suffix ".so" the data stands alone and the rest in KEY.so.sum beside it. */
#define _GNU_SOURCE
#include "device.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEAL_BYTES = 24, MAX_KEY = 128, MAX_SUFFIX = 32 };

static void
make_seal(uint8_t seal[SEAL_BYTES], const void *data, size_t n)
{
	uint64_t v[2] = {n, hash_bytes(HASH_INIT, data, n)};
	memcpy(seal, "MMCACHE\1", 8);
	for (int i = 0; i < 16; i++)
		seal[8 + i] = (uint8_t)(v[i / 8] >> i % 8 * 8);
}

/* Names come from hashes; anything else could lead out of the folder. */
static bool
check_name(const char *key, const char *suffix, Err *e)
{
	size_t n = strspn(key, "0123456789abcdefABCDEF"), m = strlen(suffix);
	bool ok = n && n <= MAX_KEY && !key[n] && m > 1 && m <= MAX_SUFFIX && *suffix == '.';
	for (size_t i = 1; i < m && ok; i++)
		ok = isalnum((unsigned char)suffix[i]);
	return ok || fail(e, "kernel cache: \"%.100s%.40s\" is not a hexadecimal key and a suffix", key, suffix);
}

static char *
find_folder(Arena *a, Err *e)
{
	const char *dir = getenv("MMC_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (dir && *dir)
		return arena_strdup(a, dir);
	if (xdg && *xdg == '/') /* relative paths are to be ignored: XDG base directory specification */
		return arena_printf(a, "%s/mmc", xdg);
	if (home && *home)
		return arena_printf(a, "%s/.cache/mmc", home);
	fail(e, "kernel cache: no folder: set MMC_CACHE or HOME");
	return NULL;
}

static void
make_folders(const char *dir)
{
	char *s = xstrdup(dir);
	for (char *p = s + 1; *s && *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(s, 0700); /* opening the folder shows whether it worked */
			*p = '/';
		}
	mkdir(s, 0700);
	free(s);
}

static bool
is_private(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* The folder, opened and found safe; -1 otherwise. */
static int
open_folder(const char *dir, Err *e)
{
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && !fstat(fd, &st) && is_private(&st))
		return fd;
	if (fd < 0)
		fail(e, "kernel cache %s: %s: set MMC_CACHE to a folder of your own", dir,
		     errno == ELOOP || errno == ENOTDIR ? "not a folder, or a link to one" : strerror(errno));
	else
		fail(e, "kernel cache %s: it belongs to another user or others can write to it: "
		        "chmod 700 it, or set MMC_CACHE to a folder of your own", dir);
	if (fd >= 0)
		close(fd);
	return -1;
}

char *
kernel_cache_path(const char *key, const char *suffix, Err *e)
{
	Arena a = {0};
	char *dir = check_name(key, suffix, e) ? find_folder(&a, e) : NULL;
	char *path = dir ? xstrdup(arena_printf(&a, "%s/%s%s", dir, key, suffix)) : NULL;
	arena_free(&a);
	return path;
}

/* Appends the file `name` of the folder; false if it is not there or not to be trusted. */
static bool
read_entry(int folder, const char *name, Text *out)
{
	struct stat st;
	char buf[65536];
	ssize_t n = -1;
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not hold us */
	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && is_private(&st))
		while ((n = read(fd, buf, sizeof buf)) > 0 || (n < 0 && errno == EINTR))
			text_add(out, buf, n > 0 ? (size_t)n : 0);
	close(fd);
	return n == 0;
}

bool
kernel_cache_get(const char *key, const char *suffix, char **out, size_t *n)
{
	Arena a = {0};
	Err ignored = {0};
	Text t = {0};
	uint8_t seal[SEAL_BYTES];
	bool ok = false, raw = !strcmp(suffix, ".so");
	char *dir = check_name(key, suffix, &ignored) ? find_folder(&a, &ignored) : NULL;
	int folder = dir ? open_folder(dir, &ignored) : -1;
	if (folder >= 0) {
		/* in both forms t becomes seal, data */
		ok = (!raw || (read_entry(folder, arena_printf(&a, "%s%s.sum", key, suffix), &t) && t.n == SEAL_BYTES)) &&
		     read_entry(folder, arena_printf(&a, "%s%s", key, suffix), &t) && t.n >= SEAL_BYTES;
		close(folder);
	}
	if (ok) {
		make_seal(seal, t.s + SEAL_BYTES, t.n - SEAL_BYTES);
		ok = !memcmp(seal, t.s, SEAL_BYTES);
	}
	if (ok) {
		*n = t.n - SEAL_BYTES;
		*out = xmalloc(*n + 1);
		memcpy(*out, t.s + SEAL_BYTES, *n);
		(*out)[*n] = 0;
	}
	free(t.s);
	arena_free(&a);
	return ok;
}

bool
kernel_cache_put(const char *key, const char *suffix, const void *data, size_t n, Err *e)
{
	Arena a = {0};
	Text t = {0};
	uint8_t seal[SEAL_BYTES];
	bool ok = false;
	char *path = kernel_cache_path(key, suffix, e), *dir = path ? find_folder(&a, e) : NULL;
	if (dir)
		make_folders(dir);
	int folder = dir ? open_folder(dir, e) : -1;
	if (folder >= 0) {
		close(folder);
		make_seal(seal, data, n);
		if (!strcmp(suffix, ".so")) {
			/* a reader between the two sees a sum that does not fit, thus nothing */
			ok = write_file_atomic(path, data, n, 0600, e) &&
			     write_file_atomic(arena_printf(&a, "%s.sum", path), seal, sizeof seal, 0600, e);
		} else {
			text_add(&t, seal, sizeof seal);
			text_add(&t, data, n);
			ok = write_file_atomic(path, t.s, t.n, 0600, e);
		}
	}
	free(t.s);
	free(path);
	arena_free(&a);
	return ok;
}
