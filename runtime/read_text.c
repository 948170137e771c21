/* Text files: one text a line, with the label of its file; and one long file of bytes or ids as windows. */
#include "data_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- lines ---- */

/* ISO 8859-1 is the first 256 characters of Unicode. */
static void
latin1_to_utf8(Text *out, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		char two[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
		text_add(out, c < 0x80 ? &s[i] : two, c < 0x80 ? 1 : 2);
	}
}

static bool
add_line(Table *t, const TableFile *f, const char *s, size_t n, int64_t line, Text *scratch, Err *e)
{
	const char *slash = strrchr(f->path, '/');
	scratch->n = 0;
	n -= n && s[n - 1] == '\r';
	if (memchr(s, 0, n))
		return fail(e, "%s:%lld: holds a NUL byte: not a text file, or UTF-16", f->path, (long long)line);
	if (!n)
		return true; /* an empty line is no text */
	text_printf(scratch, "%s:%lld", slash ? slash + 1 : f->path, (long long)line);
	table_add_text(t, scratch->s, scratch->n);
	scratch->n = 0;
	if (t->plan && t->plan->latin1)
		latin1_to_utf8(scratch, s, n);
	else if (utf8_prefix(s, n) < n)
		return fail(e, "%s:%lld: not UTF-8 from character %zu on; is it `encoding: latin1`?", f->path, (long long)line, utf8_prefix(s, n) + 1);
	else
		text_add(scratch, s, n);
	table_add_text(t, scratch->s, scratch->n);
	table_add_text(t, f->name, strlen(f->name));
	table_name_part(t, f->part);
	table_end_row(t, line);
	return true;
}

static bool
read_lines(Table *t, const TableFile *f, Err *e)
{
	Stream s;
	Text line = {0}, scratch = {0};
	char *buf = xmalloc(1 << 16);
	size_t got;
	int64_t number = 1;
	bool ok = stream_open(&s, f->path, e);
	while (ok && stream_some(&s, buf, 1 << 16, &got, e) && got) {
		for (char *p = buf, *end = buf + got, *stop; ok && p < end; p = stop + 1) {
			stop = memchr(p, '\n', (size_t)(end - p));
			text_add(&line, p, (size_t)((stop ? stop : end) - p));
			if (!stop)
				break;
			ok = add_line(t, f, line.s, line.n, number++, &scratch, e);
			line.n = 0;
		}
	}
	ok = ok && !e->set && (!line.n || add_line(t, f, line.s, line.n, number, &scratch, e));
	stream_close(&s);
	free(buf);
	free(line.s);
	free(scratch.s);
	return ok;
}

bool
lines_open(Table *t, Err *e)
{
	table_add_column(t, "line");
	table_add_column(t, "text");
	table_add_column(t, "label");
	if (table_has_parts(t))
		table_add_column(t, "part");
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++)
		read_lines(t, &t->files[i], e);
	return !e->set;
}

/* ---- bytes and ids ---- */

/* Row r is ids [r * window, (r + 1) * window) of all files, one after the other; one more must follow the last. A row is in the
   part of the file that it begins in. */
bool
sequence_open(Table *t, Err *e)
{
	int64_t window = t->plan ? t->plan->window : 0, end = 0, row = 0, all = 0;
	uint32_t each = sequence_bytes(t->kind);
	int64_t *size = xcalloc(t->nfiles, sizeof *size);
	char *buf = xmalloc(1 << 18);
	const char *what = each == 1 ? "bytes" : "ids";
	table_add_column(t, "row");
	table_add_tensor(t, what, each == 1 ? DT_U8 : DT_I32, 1, &window);
	if (table_has_parts(t))
		table_add_column(t, "part");
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++) {
		Stream s;
		size_t got;
		if (stream_open(&s, t->files[i].path, e))
			while (stream_some(&s, buf, 1 << 18, &got, e) && got)
				;
		if (!e->set && s.at % each)
			fail(e, "%s: %lld bytes are not a whole number of ids of %u bytes: cut off, or of another type", t->files[i].path, (long long)s.at, each);
		size[i] = s.at / each;
		all += size[i];
		stream_close(&s);
	}
	for (uint32_t i = 0; i < t->nfiles && !e->set; i++)
		for (end += size[i]; row * window < end && (row + 1) * window < all; row++) {
			table_add_number(t, (double)row);
			table_add_ref(t, 0, row);
			table_name_part(t, t->files[i].part);
			table_end_row(t, row);
		}
	t->tensor[0].rows = row;
	if (!e->set && !row)
		fail(e, "%s: %lld %s; a window needs %lld and one more", t->path, (long long)all, what, (long long)window);
	free(size);
	free(buf);
	return !e->set;
}

/* n bytes from `first` on. */
static bool
bytes_read(const Table *t, int64_t first, int64_t n, uint8_t *out, Err *e)
{
	uint8_t *buf = xmalloc(1 << 18);
	int64_t at = 0;
	for (uint32_t i = 0; i < t->nfiles && n > 0 && !e->set; i++) {
		Stream s;
		size_t got;
		if (!stream_open(&s, t->files[i].path, e))
			break;
		while (n > 0 && stream_some(&s, buf, 1 << 18, &got, e) && got) {
			int64_t skip = first > at ? first - at : 0, take = (int64_t)got - skip;
			at += (int64_t)got;
			if (take <= 0)
				continue;
			take = take < n ? take : n;
			memcpy(out, buf + skip, (size_t)take);
			out += take;
			n -= take;
			first += take;
		}
		stream_close(&s);
	}
	free(buf);
	if (!e->set && n > 0)
		fail(e, "%s: changed while it was read: %lld bytes are missing", t->path, (long long)n);
	return !e->set;
}

bool
ids_read(const Table *t, int64_t first, int64_t n, int64_t size, void *out, Err *e)
{
	uint32_t each = sequence_bytes(t->kind);
	uint8_t *raw = each == 1 ? out : xmalloc((size_t)n * each);
	bool ok = bytes_read(t, first * each, n * each, raw, e);
	for (int64_t i = 0; i < n && ok && each > 1; i++) {
		const uint8_t *p = raw + i * each;
		uint32_t id = p[0] | (uint32_t)p[1] << 8 | (each > 2 ? (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : 0);
		if (id >= size)
			ok = fail(e, "%s: id %lld is %u, and the input says size: %lld", t->path, (long long)(first + i), id, (long long)size);
		else if (size == 256)
			((uint8_t *)out)[i] = (uint8_t)id;
		else
			((int32_t *)out)[i] = (int32_t)id;
	}
	if (raw != out)
		free(raw);
	return ok;
}
