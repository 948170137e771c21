/* Checkpoints in the safetensors format (https://github.com/huggingface/safetensors#format):

       u64 LE header bytes | JSON header, padded with spaces to 8 bytes | tensor data without gaps
       {"__metadata__":{"key":"value"},"w":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]}}

   Data is little-endian, as are the hosts that this runs on.

   A process may die at any instruction of checkpoint_write, and so may the machine: the data goes to
   PATH.tmp, which is fsynced before rename puts it in place; so PATH is at each moment a whole old or a
   whole new file, and the fsync of the folder makes the new one stay. What a killed process leaves as
   PATH.tmp is overwritten by the next write. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAX_HEADER = 100000000 }; /* the format's own limit */
#define METADATA "__metadata__"

/* Our spelling of the element types is the format's. */
static const char *const st_dtypes[NDTYPE] = {
#define X(name, en, bytes, c, cu) #en,
	DTYPES(X)
#undef X
};

/* Bytes of a tensor; false when a dimension is negative or the number too large. */
static bool
tensor_bytes(DType dtype, const int64_t *dim, uint32_t ndim, uint64_t *bytes)
{
	*bytes = dtype_bytes(dtype);
	for (uint32_t i = 0; i < ndim; i++)
		if (dim[i] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)dim[i], bytes))
			return false;
	return *bytes <= INT64_MAX;
}

/* A name as a message can show it: a file may hold anything. */
typedef struct Shown {
	char s[128];
} Shown;

static Shown
show(const char *name)
{
	Shown t;
	size_t n = strnlen(name, sizeof t.s - 4);
	while (n && (name[n] & 0xc0) == 0x80)
		n--; /* not inside a character */
	for (size_t i = 0; i < n; i++)
		t.s[i] = (unsigned char)name[i] < 32 || name[i] == 127 ? '?' : name[i];
	strcpy(t.s + n, name[n] ? "..." : "");
	return t;
}

/* ---- write ---- */

static bool
add_metadata(json_t *header, const char *const *meta, uint32_t npair, Err *e)
{
	json_t *m = json_object();
	if (json_object_set_new(header, METADATA, m))
		return fail(e, "out of memory");
	for (uint32_t i = 0; i < npair; i++) {
		const char *key = meta[2 * i], *value = meta[2 * i + 1];
		if (json_object_get(m, key))
			return fail(e, "two metadata entries are named %s", show(key).s);
		if (json_object_set_new(m, key, json_string(value)))
			return fail(e, "metadata %s is not UTF-8 text", show(key).s);
	}
	return true;
}

static bool
add_tensor(json_t *header, const Tensor *t, uint64_t *off, Err *e)
{
	uint64_t bytes, end;
	if (!strcmp(t->name, METADATA) || json_object_get(header, t->name))
		return fail(e, "tensor %s: the name is taken", show(t->name).s);
	if ((unsigned)t->dtype >= NDTYPE || !tensor_bytes(t->dtype, t->dim, t->ndim, &bytes) || bytes != t->bytes ||
	    __builtin_add_overflow(*off, bytes, &end) || end > INT64_MAX)
		return fail(e, "tensor %s: its type and shape do not make %" PRIu64 " bytes", show(t->name).s, t->bytes);
	json_t *shape = json_array();
	for (uint32_t i = 0; i < t->ndim; i++)
		json_array_append_new(shape, json_integer(t->dim[i]));
	json_t *row = json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_dtypes[t->dtype], "shape", shape, "data_offsets",
	                        (json_int_t)*off, (json_int_t)end);
	*off = end;
	return !json_object_set_new(header, t->name, row) || fail(e, "tensor %s: the name is not UTF-8 text", show(t->name).s);
}

/* Length and JSON as they stand in the file; *data = bytes of the tensors. */
static bool
make_header(const Tensor *t, uint32_t n, const char *const *meta, uint32_t npair, Text *out, uint64_t *data, Err *e)
{
	json_t *header = json_object();
	bool ok = !npair || add_metadata(header, meta, npair, e);
	*data = 0;
	for (uint32_t i = 0; i < n && ok; i++)
		ok = add_tensor(header, &t[i], data, e);
	char *s = ok ? json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	if (ok && !s)
		ok = fail(e, "out of memory");
	if (ok) {
		size_t len = strlen(s), padded = (len + 7) & ~(size_t)7;
		uint8_t le[8];
		for (int i = 0; i < 8; i++)
			le[i] = (uint8_t)((uint64_t)padded >> 8 * i);
		text_add(out, le, 8);
		text_add(out, s, len);
		text_add(out, "       ", padded - len);
		if (padded > MAX_HEADER)
			ok = fail(e, "a header of %zu bytes: the format has at most %d", padded, MAX_HEADER);
	}
	free(s);
	json_decref(header);
	return ok;
}

/* Opens the temporary, empty and locked: a second writer of the same checkpoint gets an error instead of
   mixing its bytes into ours, and what a killed one left is taken over. -1 on error. */
static int
open_temporary(const char *tmp, Err *e)
{
	for (int attempt = 0; attempt < 8; attempt++) {
		struct stat ours, there;
		int fd = open(tmp, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
		if (fd < 0) {
			fail(e, "cannot create %s: %s", tmp, strerror(errno));
			return -1;
		}
		bool busy = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
		/* The holder of the lock may have renamed this very file in the meantime: then it is the checkpoint. */
		if (!busy && !fstat(fd, &ours) && !lstat(tmp, &there) && ours.st_ino == there.st_ino &&
		    ours.st_dev == there.st_dev && S_ISREG(ours.st_mode) && !ftruncate(fd, 0))
			return fd;
		close(fd);
		if (busy)
			break;
	}
	fail(e, "another process is writing it: let that one end, or choose another folder");
	return -1;
}

static bool
write_all(int fd, const void *data, uint64_t n)
{
	const char *p = data;
	while (n) {
		ssize_t w = write(fd, p, n < 1u << 30 ? n : 1u << 30);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w ? errno : ENOSPC;
			return false;
		}
		p += w;
		n -= (uint64_t)w;
	}
	return true;
}

/* Reserves the space first, so that a full disk shows before anything is written, where the file system can. */
static bool
write_tensors(int fd, const Text *header, const Tensor *t, uint32_t n, uint64_t total)
{
	if (fallocate(fd, 0, 0, (off_t)total) && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return false;
	if (!write_all(fd, header->s, header->n))
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (!write_all(fd, t[i].data, t[i].bytes))
			return false;
	return !fsync(fd);
}

static bool
fail_write(const char *path, const char *dir, uint64_t total, int error, Err *e)
{
	struct statvfs v;
	if ((error == ENOSPC || error == EDQUOT) && !statvfs(dir, &v))
		return fail(e, "%s: cannot write the checkpoint: it needs %" PRIu64 " bytes, %" PRIu64
		               " are free there: make room or choose another folder (an older checkpoint is kept)",
		            path, total, (uint64_t)v.f_bavail * v.f_frsize);
	return fail(e, "%s: cannot write the checkpoint of %" PRIu64 " bytes: %s (an older checkpoint is kept)", path, total,
	            strerror(error));
}

bool
checkpoint_write(const char *path, const Tensor *t, uint32_t n, const char *const *meta, uint32_t npair, Err *e)
{
	Text header = {0};
	Err why = {0};
	uint64_t data;
	if (!make_header(t, n, meta, npair, &header, &data, &why)) {
		free(header.s);
		return fail(e, "%s: cannot write the checkpoint: %s", path, why.msg);
	}
	Arena a = {0};
	char *tmp = arena_printf(&a, "%s.tmp", path), *slash = strrchr(path, '/');
	char *dir = slash ? arena_strndup(&a, path, slash == path ? 1 : (size_t)(slash - path)) : ".";
	int fd = open_temporary(tmp, &why);
	bool ok = fd >= 0 || fail(e, "%s: cannot write the checkpoint of %" PRIu64 " bytes: %s", path, header.n + data, why.msg);
	if (ok && (!write_tensors(fd, &header, t, n, header.n + data) || rename(tmp, path))) {
		int error = errno, freed = ftruncate(fd, 0); /* before the free space is looked at */
		(void)freed;
		unlink(tmp); /* before the lock goes with fd */
		ok = fail_write(path, dir, header.n + data, error, e);
	}
	if (fd >= 0)
		close(fd);
	if (ok && (fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) {
		fsync(fd); /* best effort: some file systems refuse fsync on a folder */
		close(fd);
	}
	arena_free(&a);
	free(header.s);
	return ok;
}

/* ---- open ---- */

/* The owner of an open checkpoint: tensor data stays in the map, the rest in the arena. */
typedef struct Mapped {
	Arena arena;
	void *base;
	size_t bytes;
	const char *data; /* after the header */
	uint64_t ndata;
} Mapped;

static bool
map_file(const char *path, Mapped *m, Err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail(e, "cannot open: %s", strerror(errno));
	bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode);
	if (!ok)
		fail(e, "not a file");
	else if (st.st_size < 8)
		ok = fail(e, "not a safetensors file: it has %lld bytes", (long long)st.st_size);
	if (ok) {
		m->bytes = (size_t)st.st_size;
		m->base = mmap(NULL, m->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m->base == MAP_FAILED) {
			m->base = NULL;
			ok = fail(e, "cannot map: %s", strerror(errno));
		}
	}
	close(fd);
	return ok;
}

static json_t *
parse_header(Mapped *m, Err *e)
{
	const uint8_t *b = m->base;
	uint64_t n = 0;
	json_error_t why;
	for (int i = 0; i < 8; i++)
		n |= (uint64_t)b[i] << 8 * i;
	if (n > m->bytes - 8 || n > MAX_HEADER || n < 2 || b[8] != '{') {
		fail(e, "not a safetensors file, or cut off: a header of %" PRIu64 " bytes in a file of %zu", n, m->bytes);
		return NULL;
	}
	m->data = (const char *)b + 8 + n;
	m->ndata = m->bytes - 8 - n;
	json_t *header = json_loadb((const char *)b + 8, n, JSON_REJECT_DUPLICATES, &why);
	if (!header)
		fail(e, "header, byte %d: %s", why.position + 8, show(why.text).s);
	return header;
}

static bool
read_metadata(Mapped *m, json_t *obj, Checkpoint *c, Err *e)
{
	const char *key;
	json_t *value;
	if (!json_is_object(obj))
		return fail(e, METADATA " is not an object");
	c->meta = arena_alloc(&m->arena, (json_object_size(obj) * 2 + 1) * sizeof *c->meta);
	json_object_foreach(obj, key, value)
	{
		if (!json_is_string(value))
			return fail(e, METADATA ": %s is not a string", show(key).s);
		c->meta[2 * c->nmeta] = arena_strdup(&m->arena, key);
		c->meta[2 * c->nmeta++ + 1] = arena_strdup(&m->arena, json_string_value(value));
	}
	return true;
}

static bool
read_shape(Mapped *m, json_t *shape, Tensor *t, Err *e)
{
	size_t n = json_array_size(shape);
	int64_t *dim = arena_alloc(&m->arena, (n + 1) * sizeof *dim);
	if (!json_is_array(shape))
		return fail(e, "no shape");
	for (size_t i = 0; i < n; i++) {
		json_t *d = json_array_get(shape, i);
		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return fail(e, "shape: dimension %zu is not a number of elements", i + 1);
		dim[i] = json_integer_value(d);
	}
	t->dim = dim;
	t->ndim = (uint32_t)n;
	return tensor_bytes(t->dtype, dim, t->ndim, &t->bytes) || fail(e, "shape: more elements than a file can hold");
}

static bool
read_tensor(Mapped *m, json_t *row, Tensor *t, Err *e)
{
	const char *dtype = json_string_value(json_object_get(row, "dtype"));
	json_t *offsets = json_object_get(row, "data_offsets");
	json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
	if (!dtype)
		return fail(e, "no dtype");
	for (t->dtype = 0; t->dtype < NDTYPE && strcmp(st_dtypes[t->dtype], dtype);)
		t->dtype++;
	if (t->dtype == NDTYPE)
		return fail(e, "dtype %s is not one of F32 BF16 F16 I32 U32 U8 BOOL", show(dtype).s);
	if (!read_shape(m, json_object_get(row, "shape"), t, e))
		return false;
	if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
		return fail(e, "data_offsets are not two integers");
	json_int_t lo = json_integer_value(from), hi = json_integer_value(to);
	if (lo < 0 || hi < lo || (uint64_t)hi > m->ndata)
		return fail(e, "data_offsets %lld .. %lld are not inside the %" PRIu64 " bytes of data: is the file cut off?",
		            (long long)lo, (long long)hi, m->ndata);
	if ((uint64_t)(hi - lo) != t->bytes)
		return fail(e, "%lld bytes of data for a shape of %" PRIu64, (long long)(hi - lo), t->bytes);
	t->data = (void *)(m->data + lo);
	return true;
}

static int
compare_tensors(const void *a, const void *b)
{
	const Tensor *s = a, *t = b;
	const char *p = s->data, *q = t->data;
	if (p != q)
		return p < q ? -1 : 1;
	return s->bytes < t->bytes ? -1 : s->bytes > t->bytes;
}

/* The format has no overlap and no gap: in the order of the data each tensor begins where the last one ended. */
static bool
check_layout(const Mapped *m, const Checkpoint *c, Err *e)
{
	const char *at = m->data, *end = m->data + m->ndata;
	for (uint32_t i = 0; i < c->ntensor; i++) {
		const Tensor *t = &c->tensor[i];
		const char *p = t->data;
		if (p < at)
			return fail(e, "tensor %s overlaps tensor %s", show(t->name).s, show(t[-1].name).s);
		if (p > at)
			return fail(e, "a gap of %td bytes before tensor %s", p - at, show(t->name).s);
		at = p + t->bytes;
	}
	if (at < end)
		return fail(e, "%td bytes follow the last tensor%s%s", end - at, c->ntensor ? " " : "",
		            c->ntensor ? show(c->tensor[c->ntensor - 1].name).s : "");
	return true;
}

static bool
read_header(Mapped *m, json_t *header, Checkpoint *c, Err *e)
{
	const char *key;
	json_t *row;
	c->tensor = arena_alloc(&m->arena, (json_object_size(header) + 1) * sizeof *c->tensor);
	json_object_foreach(header, key, row)
	{
		Err why = {0};
		if (!strcmp(key, METADATA)) {
			if (!read_metadata(m, row, c, e))
				return false;
			continue;
		}
		Tensor *t = &c->tensor[c->ntensor++];
		t->name = arena_strdup(&m->arena, key);
		if (!read_tensor(m, row, t, &why))
			return fail(e, "tensor %s: %s", show(key).s, why.msg);
	}
	qsort(c->tensor, c->ntensor, sizeof *c->tensor, compare_tensors);
	return check_layout(m, c, e);
}

bool
checkpoint_open(const char *path, Checkpoint *c, Err *e)
{
	Mapped *m = xcalloc(1, sizeof *m);
	Err why = {0};
	*c = (Checkpoint){.owner = m};
	json_t *header = map_file(path, m, &why) ? parse_header(m, &why) : NULL;
	bool ok = header && read_header(m, header, c, &why);
	json_decref(header);
	if (!ok) {
		checkpoint_close(c);
		fail(e, "%s: %s", path, why.msg);
	}
	return ok;
}

const Tensor *
checkpoint_find(const Checkpoint *c, const char *name)
{
	for (uint32_t i = 0; i < c->ntensor; i++)
		if (!strcmp(c->tensor[i].name, name))
			return &c->tensor[i];
	return NULL;
}

const char *
checkpoint_meta(const Checkpoint *c, const char *key)
{
	for (uint32_t i = 0; i < c->nmeta; i++)
		if (!strcmp(c->meta[2 * i], key))
			return c->meta[2 * i + 1];
	return NULL;
}

void
checkpoint_close(Checkpoint *c)
{
	Mapped *m = c->owner;
	if (m) {
		if (m->base)
			munmap(m->base, m->bytes);
		arena_free(&m->arena);
		free(m);
	}
	*c = (Checkpoint){0};
}
