/* What the compiler and the runtime share: status, arenas, growable text, files. */
#ifndef BASE_H
#define BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

/* A status that travels up to main: the first message wins, later ones are dropped.
   A function that takes an Err returns false (or NULL) exactly when it set it. */
typedef struct Err {
	bool set;
	char msg[2048];
} Err;

bool fail(Err *e, const char *fmt, ...) PRINTF(2, 3); /* always returns false */

/* An arena: blocks that are freed together; memory comes zeroed, aligned to 16 bytes.
   Out of memory ends the process with a message: nothing here can go on without it. */
typedef struct Arena {
	struct ArenaBlock *head;
} Arena;

void *arena_alloc(Arena *a, size_t bytes);
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF(2, 3);
void arena_free(Arena *a); /* frees all of it; the arena can be used again */

/* malloc and realloc that do not return NULL. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t bytes);
void *xrealloc(void *p, size_t bytes);
char *xstrdup(const char *s);

/* Growable text, always NUL-terminated once written to. {0} is empty; free s with free(). */
typedef struct Text {
	char *s;
	size_t n, cap;
} Text;

void text_add(Text *t, const void *s, size_t n);
void text_puts(Text *t, const char *s);
void text_printf(Text *t, const char *fmt, ...) PRINTF(2, 3);
void text_vprintf(Text *t, const char *fmt, va_list ap);

/* Appends one element to a growable array: VEC_PUSH(ptr, n, cap) = value. */
#define VEC_PUSH(p, n, cap)                                                                        \
	(*((n) == (cap) ? ((cap) = (cap) ? (cap) * 2 : 16, (p) = xrealloc((p), (cap) * sizeof *(p))) : (p), \
	   (p) + (n)++))

/* Reads a whole file; *out is malloced, NUL-terminated past its n bytes. */
bool read_file(const char *path, char **out, size_t *n, Err *e);

/* Writes a whole file so that path holds either the old or the new content, never a part:
   temporary beside it, fsync, rename, fsync of the folder. mode as in open(2). */
bool write_file_atomic(const char *path, const void *data, size_t n, int mode, Err *e);

/* 64-bit FNV-1a of n bytes, continued from h (start with HASH_INIT). Not for hostile input. */
#define HASH_INIT 0xcbf29ce484222325ull
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);
static inline uint64_t hash_u64(uint64_t h, uint64_t v) { return hash_bytes(h, &v, sizeof v); }

/* The nearest of n names to `name` by edit distance, or NULL if none is near (at most 1/3 of its length + 1). */
const char *nearest_name(const char *name, const char *const *names, size_t n);

/* Seconds of a monotonic clock. */
double now_seconds(void);

#endif
