/* The plan file: encode, decode, print, load. See plan.h for the format.
   All of it is driven by one table of fields (plan_impl.h), so a new row in plan.h needs nothing here
   but, if it is an enum, its names in FIELD_NAMES. */
#include "plan.h"
#include "plan_impl.h"

#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *const space_names[NSPACE] = {"param", "opt", "stat", "act", "work", "data"};

static const struct {
	const char *name;
	size_t bytes;
} dtypes[NDTYPE] = {
#define X(name, en, bytes, c, cu) {#name, bytes},
	DTYPES(X)
#undef X
};

size_t dtype_bytes(DType t) { return (unsigned)t < NDTYPE ? dtypes[t].bytes : 0; }
const char *dtype_name(DType t) { return (unsigned)t < NDTYPE ? dtypes[t].name : "?"; }

/* ---- the table ---- */

/* The rows of a record do not name it, and offsetof must: so each table sits in a function of its
   own, where Self is that record. */
#define ROW(kind, name) ROW_##kind(name)
#define ROW_SCALAR(kind, name) {kind, offsetof(Self, name), 0, NULL, #name},
#define ROW_ARRAY(kind, name) {kind, offsetof(Self, name), offsetof(Self, n##name), NULL, #name},
#define ROW_U32(name) ROW_SCALAR(K_U32, name)
#define ROW_U64(name) ROW_SCALAR(K_U64, name)
#define ROW_I64(name) ROW_SCALAR(K_I64, name)
#define ROW_F64(name) ROW_SCALAR(K_F64, name)
#define ROW_STR(name) ROW_SCALAR(K_STR, name)
#define ROW_BYTES(name) ROW_ARRAY(K_BYTES, name)
#define ROW_INTS(name) ROW_ARRAY(K_INTS, name)
#define ROW_STRS(name) ROW_ARRAY(K_STRS, name)
#define ROW_LIST(rec, name) {K_LIST, offsetof(Self, name), offsetof(Self, n##name), record_##rec, #name},

#define MIN(kind, name) +MIN_##kind
#define MIN_U32 4
#define MIN_U64 8
#define MIN_I64 8
#define MIN_F64 8
#define MIN_STR 4
#define MIN_BYTES 4
#define MIN_INTS 4
#define MIN_STRS 4
#define MIN_LIST(rec, name) +4

#define RECORD(rec, rows)                                                                           \
	static const Record *record_##rec(void)                                                     \
	{                                                                                           \
		typedef rec Self;                                                                   \
		static const Field field[] = {rows(ROW, ROW_LIST)};                                 \
		static const Record r = {#rec, sizeof(Self), 0 rows(MIN, MIN_LIST), LEN(field), field}; \
		return &r;                                                                          \
	}
PLAN_RECORDS(RECORD)

const Record *plan_record(void) { return record_Plan(); }

#define NAME_OF_DTYPE(name, en, bytes, c, cu) #name,
#define NAMES(rec, field, bits, ...)                                                                \
	{record_##rec, offsetof(rec, field), bits, LEN(((const char *const[]){__VA_ARGS__})),       \
	 (const char *const[]){__VA_ARGS__}},
#define DTYPE_FIELD(rec, field)                                                                     \
	{record_##rec, offsetof(rec, field), false, NDTYPE, (const char *const[]){DTYPES(NAME_OF_DTYPE)}},

/* Names in the order of the enums in plan.h. */
static const FieldNames names_table[] = {
	NAMES(PlanFile, part, false, "any", "train", "val", "test")
	DTYPE_FIELD(PlanShape, dtype)
	NAMES(PlanTable, kind, false, "csv", "tsv", "lines", "bytes", "idx", "npy", "npz", "raw", "cifar", "cifar100", "wav", "images", "arrays", "ids16", "ids32")
	NAMES(PlanTable, latin1, false, "no", "yes")
	NAMES(PlanTable, damaged, false, "error", "missing")
	NAMES(PlanInput, kind, false, "number", "category", "text", "tags", "tensor", "sequence")
	NAMES(PlanInput, scale, true, "log1p", "zscore", "minmax", "unit")
	DTYPE_FIELD(PlanInput, dtype)
	DTYPE_FIELD(PlanTarget, dtype)
	NAMES(PlanInput, missing, false, "zero", "constant", "mean", "median", "mode", "drop")
	NAMES(PlanInput, ids, false, "value", "vocabulary", "hash")
	NAMES(PlanTarget, kind, false, "number", "binary", "class", "labels", "tensor", "next")
	NAMES(PlanTarget, scale, true, "log1p", "zscore", "minmax", "unit")
	NAMES(PlanTarget, above, false, "condition", "value", "quantile")
	DTYPE_FIELD(PlanState, dtype)
	NAMES(PlanState, space, false, "param", "opt", "stat")
	NAMES(PlanState, init, false, "const", "normal", "uniform", "orthogonal")
	NAMES(PlanRef, space, false, "param", "opt", "stat", "act", "work", "data")
	DTYPE_FIELD(PlanGemm, dtype)
	DTYPE_FIELD(PlanGemm, ctype)
	NAMES(PlanGemm, tf32, false, "no", "yes")
	NAMES(PlanGemm, epilogue, true, "bias", "relu", "gelu")
	NAMES(PlanInstr, kind, false, "kernel", "gemm", "copy", "zero", "loop")
	DTYPE_FIELD(PlanOutput, dtype)
	NAMES(PlanTrain, maximize, false, "no", "yes")
};

const FieldNames *
field_names(const Record *r, const Field *f)
{
	for (size_t i = 0; f->kind == K_U32 && i < LEN(names_table); i++)
		if (names_table[i].at == f->at && names_table[i].record() == r)
			return &names_table[i];
	return NULL;
}

uint32_t
field_u32(const Field *f, const void *p)
{
	uint32_t v;
	memcpy(&v, (const char *)p + f->at, sizeof v);
	return v;
}

const void *
field_pointer(const Field *f, const void *p)
{
	void *v; /* all object pointers have one representation here */
	memcpy(&v, (const char *)p + f->at, sizeof v);
	return v;
}

uint32_t
field_count(const Field *f, const void *p)
{
	uint32_t n;
	memcpy(&n, (const char *)p + f->count, sizeof n);
	return n;
}

size_t
field_element(const Field *f)
{
	switch (f->kind) {
	case K_INTS: return sizeof(int64_t);
	case K_STRS: return sizeof(char *);
	case K_LIST: return f->record()->bytes;
	default: return 1;
	}
}

/* ---- bytes ---- */

enum { HEADER_BYTES = 32 };
static const char magic[8] = "MMPLAN\0\1";

static uint64_t
get_le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static uint64_t
get_word(const uint8_t *p) /* written out: compilers see one load in this */
{
	return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
	       (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static void
set_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

/* FNV-1a in steps of eight bytes and four lanes, since a plan is megabytes and must load in milliseconds.
   Any change within one aligned word, so of any single byte, is detected. mix is a bijection of h for a fixed
   w and of w for a fixed h: h ^ w is, so is the product with an odd number modulo 2^64, so is x ^ x >> 32.
   A changed word thus changes the state of its lane; the equal words after it keep the two states apart;
   and the lanes are joined by mix again, with only one of its arguments different. The last word is padded
   with zeros and the length stands in the header, so equal words mean equal bytes.
   This finds accidents; against intent stand the decoder's bounds and plan_verify. */
static uint64_t
mix(uint64_t h, uint64_t w)
{
	h = (h ^ w) * 0x100000001b3ull;
	return h ^ h >> 32;
}

uint64_t
plan_checksum(const uint8_t *p, size_t n)
{
	uint64_t lane[4] = {HASH_INIT, HASH_INIT, HASH_INIT, HASH_INIT}, h = HASH_INIT;
	for (; n >= 32; p += 32, n -= 32)
		for (size_t i = 0; i < 4; i++)
			lane[i] = mix(lane[i], get_word(p + 8 * i));
	for (; n; p += n < 8 ? n : 8, n -= n < 8 ? n : 8)
		h = mix(h, get_le(p, n < 8 ? n : 8));
	for (size_t i = 0; i < 4; i++)
		h = mix(h, lane[i]);
	return h;
}

static size_t
utf8_length(const uint8_t *s, size_t n)
{
	static const struct {
		uint8_t mask, lead;
		uint32_t least; /* code point: less would be an overlong form */
	} form[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
	for (size_t k = 0; k < LEN(form); k++) {
		if ((*s & form[k].mask) != form[k].lead)
			continue;
		size_t len = k + 2;
		uint32_t c = *s & (uint8_t)~form[k].mask;
		if (len > n)
			return 0;
		for (size_t i = 1; i < len; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		return c < form[k].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : len;
	}
	return 0;
}

bool
utf8_valid(const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s, *end = p + n;
	const uint64_t low = 0x0101010101010101ull, high = low << 7;
	while (p < end) {
		uint64_t w;
		if (end - p >= 8) { /* eight bytes of ASCII without a NUL: no high bit, none borrows */
			memcpy(&w, p, 8);
			if (!((w | (w - low)) & high)) {
				p += 8;
				continue;
			}
		}
		size_t len = *p > 0 && *p < 0x80 ? 1 : utf8_length(p, (size_t)(end - p));
		if (!len)
			return false;
		p += len;
	}
	return true;
}

/* ---- encode ---- */

static void
put(Text *t, uint64_t v, size_t n)
{
	uint8_t b[8];
	set_le(b, v, n);
	text_add(t, b, n);
}

static void
put_string(Text *t, const char *s)
{
	size_t n = strlen(s);
	put(t, n, 4);
	text_add(t, s, n);
}

static void encode_record(Text *t, const Record *r, const void *p);

static void
encode_elements(Text *t, const Field *f, const void *p)
{
	uint32_t n = field_count(f, p);
	const void *v = field_pointer(f, p);
	put(t, n, 4);
	if (f->kind == K_BYTES)
		text_add(t, v, n);
	for (uint32_t i = 0; i < n && f->kind == K_INTS; i++)
		put(t, (uint64_t)((const int64_t *)v)[i], 8);
	for (uint32_t i = 0; i < n && f->kind == K_STRS; i++)
		put_string(t, ((char *const *)v)[i]);
	for (uint32_t i = 0; i < n && f->kind == K_LIST; i++)
		encode_record(t, f->record(), (const char *)v + i * field_element(f));
}

static void
encode_record(Text *t, const Record *r, const void *p)
{
	for (const Field *f = r->field; f < r->field + r->nfield; f++) {
		uint64_t v;
		switch (f->kind) {
		case K_U32:
			put(t, field_u32(f, p), 4);
			break;
		case K_U64:
		case K_I64:
		case K_F64: /* the bits, so that every value comes back as it was */
			memcpy(&v, (const char *)p + f->at, sizeof v);
			put(t, v, 8);
			break;
		case K_STR:
			put_string(t, field_pointer(f, p));
			break;
		default:
			encode_elements(t, f, p);
		}
	}
}

void
plan_encode(const Plan *p, Text *out)
{
	size_t start = out->n;
	uint8_t header[HEADER_BYTES] = {0};
	text_add(out, header, sizeof header);
	encode_record(out, plan_record(), p);

	uint8_t *h = (uint8_t *)out->s + start, *payload = h + HEADER_BYTES;
	size_t n = out->n - start - HEADER_BYTES;
	memcpy(h, magic, sizeof magic);
	set_le(h + 8, PLAN_VERSION, 4);
	set_le(h + 16, n, 8);
	set_le(h + 24, plan_checksum(payload, n), 8);
}

/* ---- decode ---- */

typedef struct Reader {
	Arena *a;
	Err *e;
	const uint8_t *start, *p, *end;
	const Record *record; /* where we are, for messages */
	const Field *field;
	char *empty;          /* the string of length 0: most plans have thousands */
} Reader;

static bool
damaged(Reader *r, const char *what)
{
	fail(r->e, "the plan is damaged at byte %td (%s.%s): %s: compile the model again",
	     r->p - r->start, r->record->name, r->field->name, what);
	return false;
}

static bool
read_le(Reader *r, uint64_t *v, size_t n)
{
	if ((size_t)(r->end - r->p) < n)
		return damaged(r, "it ends inside a number");
	*v = get_le(r->p, n);
	r->p += n;
	return true;
}

/* A count is believed only if that many elements of `least` encoded bytes can still follow; so memory
   stays in proportion to the file. */
static bool
read_count(Reader *r, uint32_t *n, size_t least)
{
	uint64_t v;
	if (!read_le(r, &v, 4))
		return false;
	if (v > (size_t)(r->end - r->p) / least)
		return damaged(r, "a count is larger than what is left of the file");
	*n = (uint32_t)v;
	return true;
}

static bool
read_string(Reader *r, char **s)
{
	uint32_t n;
	if (!read_count(r, &n, 1))
		return false;
	if (!utf8_valid((const char *)r->p, n))
		return damaged(r, "a string is not UTF-8 text");
	*s = n ? arena_strndup(r->a, (const char *)r->p, n) : r->empty;
	r->p += n;
	return true;
}

static bool decode_record(Reader *r, const Record *d, char *out);

static bool
decode_elements(Reader *r, const Field *f, char *out)
{
	static const size_t least[] = {[K_BYTES] = 1, [K_INTS] = 8, [K_STRS] = 4};
	uint32_t n;
	if (!read_count(r, &n, f->kind == K_LIST ? f->record()->min_bytes : least[f->kind]))
		return false;
	char *v = n ? arena_alloc(r->a, n * field_element(f)) : NULL;
	memcpy(out + f->at, &v, sizeof v);
	memcpy(out + f->count, &n, sizeof n);
	if (f->kind == K_BYTES) {
		if (n)
			memcpy(v, r->p, n);
		r->p += n;
		return true;
	}
	for (uint32_t i = 0; i < n; i++) {
		char *at = v + i * field_element(f);
		bool ok = f->kind == K_INTS   ? read_le(r, (uint64_t *)(void *)at, 8)
		          : f->kind == K_STRS ? read_string(r, (char **)(void *)at)
		                              : decode_record(r, f->record(), at);
		if (!ok)
			return false;
	}
	return true;
}

static bool
decode_record(Reader *r, const Record *d, char *out)
{
	for (const Field *f = d->field; f < d->field + d->nfield; f++) {
		uint64_t v;
		uint32_t w;
		char *s;
		r->record = d;
		r->field = f;
		switch (f->kind) {
		case K_U32:
			if (!read_le(r, &v, 4))
				return false;
			w = (uint32_t)v;
			memcpy(out + f->at, &w, sizeof w);
			break;
		case K_U64:
		case K_I64:
		case K_F64:
			if (!read_le(r, &v, 8))
				return false;
			memcpy(out + f->at, &v, sizeof v);
			break;
		case K_STR:
			if (!read_string(r, &s))
				return false;
			memcpy(out + f->at, &s, sizeof s);
			break;
		default:
			if (!decode_elements(r, f, out))
				return false;
		}
	}
	return true;
}

static bool
check_header(const uint8_t *b, size_t n, Err *e)
{
	if (n < HEADER_BYTES || memcmp(b, magic, sizeof magic))
		return fail(e, "not a plan: make one with mmc MODEL.yaml -o PLAN");
	uint64_t version = get_le(b + 8, 4), size = get_le(b + 16, 8);
	if (version != PLAN_VERSION)
		return fail(e, "plan was written by format version %" PRIu64 ", this mmrun reads %d: compile the model again",
		            version, PLAN_VERSION);
	if (size != n - HEADER_BYTES)
		return fail(e, "the plan is %s: its header announces %" PRIu64 " bytes, %zu follow: copy it or compile the model again",
		            size > n - HEADER_BYTES ? "cut off" : "followed by other bytes", size, n - HEADER_BYTES);
	if (get_le(b + 12, 4) || get_le(b + 24, 8) != plan_checksum(b + HEADER_BYTES, size))
		return fail(e, "the plan is damaged: its checksum does not fit its bytes: copy it or compile the model again");
	return true;
}

Plan *
plan_decode(Arena *a, const void *bytes, size_t n, Err *e)
{
	const uint8_t *b = bytes;
	if (!check_header(b, n, e))
		return NULL;
	Reader r = {.a = a, .e = e, .start = b, .p = b + HEADER_BYTES, .end = b + n};
	r.empty = arena_alloc(a, 1);
	Plan *p = arena_alloc(a, sizeof *p);
	if (!decode_record(&r, plan_record(), (char *)p))
		return NULL;
	if (r.p != r.end) {
		damaged(&r, "bytes follow the last field");
		return NULL;
	}
	return p;
}

Plan *
plan_load(Arena *a, const char *path, Err *e)
{
	char *bytes;
	size_t n;
	Err why = {0};
	if (!read_file(path, &bytes, &n, e))
		return NULL;
	Plan *p = plan_decode(a, bytes, n, &why);
	free(bytes);
	if (!p)
		fail(e, "%s: %s", path, why.msg);
	else if (!plan_verify(p, &why))
		fail(e, "%s: the plan is not sound: %s: compile the model again", path, why.msg);
	return why.set ? NULL : p;
}

DType
column_dtype(const PlanData *d, uint32_t i)
{
	static const DType input[] = {DT_F32, DT_I32, DT_I32, DT_I32, DT_F32}, target[] = {DT_F32, DT_F32, DT_I32, DT_U8, DT_F32, DT_U8};
	if (i < d->ninput && d->input[i].kind == IN_SEQUENCE)
		return d->input[i].size == 256 ? DT_U8 : DT_I32;
	if (i < d->ninput)
		return d->input[i].kind == IN_TENSOR ? (DType)d->input[i].dtype : input[d->input[i].kind];
	const PlanTarget *t = &d->target[i - d->ninput];
	return t->kind == TG_TENSOR ? (DType)t->dtype : target[t->kind];
}

int64_t
column_width(const PlanData *d, uint32_t i)
{
	if (i < d->ninput)
		return d->input[i].width;
	const PlanTarget *t = &d->target[i - d->ninput];
	return t->kind == TG_NEXT ? 0 : t->kind == TG_LABELS || t->kind == TG_TENSOR ? t->width : 1;
}

int64_t
column_tail(const PlanData *d, uint32_t i)
{
	return i < d->ninput && d->input[i].kind == IN_SEQUENCE;
}

const char *
column_name(const PlanData *d, uint32_t i)
{
	return i < d->ninput ? d->input[i].name : d->target[i - d->ninput].name;
}

const PlanTargetset *
plan_targetset(const Plan *p, const char *target)
{
	for (uint32_t i = 0; i < p->nset; i++)
		if (!strcmp(p->set[i].target, target))
			return &p->set[i];
	return NULL;
}

const PlanProgram *
plan_program(const PlanTargetset *s, const char *name, int64_t batch)
{
	for (uint32_t i = 0; i < s->nprogram; i++)
		if (!strcmp(s->program[i].name, name) && (!batch || s->program[i].batch == batch))
			return &s->program[i];
	return NULL;
}

/* ---- print ---- */

enum { LONG_STRING = 160, LONG_LIST = 16 };

static void
print_string(FILE *f, const char *s)
{
	size_t n = strlen(s);
	if (n > LONG_STRING) {
		fprintf(f, "(%zu bytes)", n);
		return;
	}
	putc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", f);
		else if (c < 32 || c == 127)
			fprintf(f, "\\x%02x", c);
		else
			putc(c, f);
	}
	putc('"', f);
}

/* The fewest digits that give the same number back. */
static void
print_double(FILE *f, double x)
{
	char s[40];
	for (int digits = DBL_DIG; digits <= DBL_DIG + 2; digits++) {
		snprintf(s, sizeof s, "%.*g", digits, x);
		if (strtod(s, NULL) == x)
			break;
	}
	fputs(s, f);
}

static void
print_u32(FILE *f, const FieldNames *names, uint32_t v)
{
	if (!names || (names->bits ? v >> names->n : v >= names->n) || (names->bits && !v)) {
		fprintf(f, "%" PRIu32, v);
	} else if (!names->bits) {
		fputs(names->name[v], f);
	} else {
		const char *sep = "";
		for (uint32_t i = 0; i < names->n; i++)
			if (v >> i & 1) {
				fprintf(f, "%s%s", sep, names->name[i]);
				sep = "+";
			}
	}
}

static void
print_value(FILE *f, const Record *r, const Field *d, const void *p)
{
	const char *at = (const char *)p + d->at;
	const void *v = d->kind >= K_STR ? field_pointer(d, p) : NULL;
	uint32_t n = d->kind > K_STR ? field_count(d, p) : 0;
	uint64_t u;
	int64_t i;
	double x;
	switch (d->kind) {
	case K_U32: print_u32(f, field_names(r, d), field_u32(d, p)); break;
	case K_U64: fprintf(f, "%" PRIu64, (memcpy(&u, at, sizeof u), u)); break;
	case K_I64: fprintf(f, "%" PRId64, (memcpy(&i, at, sizeof i), i)); break;
	case K_F64: print_double(f, (memcpy(&x, at, sizeof x), x)); break;
	case K_STR: print_string(f, v); break;
	case K_BYTES: fprintf(f, "(%" PRIu32 " bytes)", n); break;
	default:
		putc('[', f);
		for (uint32_t k = 0; k < n && k < LONG_LIST; k++) {
			fputs(k ? ", " : "", f);
			if (d->kind == K_INTS)
				fprintf(f, "%" PRId64, ((const int64_t *)v)[k]);
			else
				print_string(f, ((char *const *)v)[k]);
		}
		fputs(n > LONG_LIST ? ", ...]" : "]", f);
	}
}

/* A record of numbers alone stands on one line. */
static bool
is_flat(const Record *r)
{
	for (uint32_t i = 0; i < r->nfield; i++)
		if (r->field[i].kind >= K_STR)
			return false;
	return true;
}

static void
print_record(FILE *f, const Record *r, const void *p, int indent)
{
	for (const Field *d = r->field; d < r->field + r->nfield; d++) {
		if (d->kind != K_LIST) {
			fprintf(f, "%*s%s: ", indent, "", d->name);
			print_value(f, r, d, p);
			putc('\n', f);
			continue;
		}
		const Record *sub = d->record();
		const char *v = field_pointer(d, p);
		for (uint32_t i = 0; i < field_count(d, p); i++, v += sub->bytes) {
			fprintf(f, "%*s%s[%" PRIu32 "]:", indent, "", d->name, i);
			for (uint32_t k = 0; is_flat(sub) && k < sub->nfield; k++) {
				fprintf(f, " %s ", sub->field[k].name);
				print_value(f, sub, &sub->field[k], v);
			}
			putc('\n', f);
			if (!is_flat(sub))
				print_record(f, sub, v, indent + 2);
		}
	}
}

void plan_print(const Plan *p, FILE *f) { print_record(f, plan_record(), p, 0); }
