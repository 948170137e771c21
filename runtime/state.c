/* Checkpoints of a session: every state under its name, and as metadata what a later run must know: the model's schema
   hash, the fit, the split and where training was. Nothing about time or place: equal states give equal bytes. */
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT "1" /* of the metadata */

static uint64_t
hash_text(uint64_t h, const char *s)
{
	return hash_bytes(h, s, strlen(s) + 1);
}

/* What must be equal for a state to mean the same: inputs and targets as the model sees them, and the states' shapes.
   Not where the tables lie, nor how the model is trained. */
static uint64_t
schema_hash(const Plan *p)
{
	uint64_t h = HASH_INIT;
	for (uint32_t i = 0; p->ndata && i < p->data->ninput; i++) {
		const PlanInput *in = &p->data->input[i];
		h = hash_text(hash_text(h, in->name), in->from);
		h = hash_u64(hash_u64(hash_u64(h, in->kind), in->scale), in->missing);
		h = hash_bytes(h, &in->missing_value, sizeof in->missing_value);
		h = hash_u64(hash_u64(h, (uint64_t)in->width), (uint64_t)in->size);
		h = hash_u64(hash_u64(h, in->ids), (uint64_t)in->min_count);
		h = hash_bytes(h, in->dim, in->ndim * sizeof *in->dim);
	}
	for (uint32_t i = 0; p->ndata && i < p->data->ntarget; i++) {
		const PlanTarget *t = &p->data->target[i];
		h = hash_text(hash_text(h, t->name), t->from);
		h = hash_u64(hash_u64(hash_u64(h, t->kind), t->scale), t->above);
		h = hash_bytes(h, &t->threshold, sizeof t->threshold);
		h = hash_u64(h, (uint64_t)t->size);
	}
	for (uint32_t i = 0; i < p->nstate; i++) {
		const PlanState *st = &p->state[i];
		h = hash_u64(hash_u64(hash_text(h, st->name), st->dtype), st->space);
		h = hash_bytes(h, st->dim, st->ndim * sizeof *st->dim);
	}
	return h;
}

static void
schema_hex(const Plan *p, char hex[17])
{
	snprintf(hex, 17, "%016llx", (unsigned long long)schema_hash(p));
}

/* ---- save ---- */

static bool
download_states(Session *s, Err *e)
{
	for (int k = 0; k < NSTATE; k++)
		if (s->base[k] && !s->device->download(s->device, s->image[k], s->base[k], s->bytes[k], e))
			return false;
	return true;
}

static Tensor *
state_tensors(const Session *s, uint32_t *n)
{
	const Plan *p = s->plan;
	Tensor *t = xcalloc(p->nstate, sizeof *t);
	*n = 0;
	for (uint32_t i = 0; i < p->nstate; i++) {
		const PlanState *st = &p->state[i];
		if (!s->image[st->space])
			continue;
		t[(*n)++] = (Tensor){
			.name = st->name,
			.dtype = (DType)st->dtype,
			.ndim = st->ndim,
			.dim = st->dim,
			.data = s->image[st->space] + st->off,
			.bytes = (uint64_t)state_count(st) * dtype_bytes((DType)st->dtype),
		};
	}
	return t;
}

static void
data_hex(Session *s, char hex[17])
{
	if (!s->data_hash)
		s->data_hash = dataset_hash(&s->data);
	snprintf(hex, 17, "%016llx", (unsigned long long)s->data_hash);
}

bool
session_save(Session *s, const char *path, const char *const *extra, uint32_t npair, Err *e)
{
	const char **meta, *own[18];
	char hex[17], data[17], seed[32], split_seed[32], fold[32], split[128];
	char *fit = s->fit ? fit_to_json(s->fit) : NULL;
	uint32_t n = 0, ntensor;
	if (!download_states(s, e)) {
		free(fit);
		return false;
	}
	schema_hex(s->plan, hex);
	data_hex(s, data);
	snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->seed);
	snprintf(split_seed, sizeof split_seed, "%llu", (unsigned long long)s->split_seed);
	snprintf(fold, sizeof fold, "%lld", (long long)s->fold);
	snprintf(split, sizeof split, "%lld %lld %lld %lld", (long long)s->data.split[0], (long long)s->data.split[1],
	         (long long)s->data.split[2], (long long)s->data.split[3]);
#define META(key, value) (own[n++] = (key), own[n++] = (value))
	META("mmrun.format", FORMAT);
	META("model", s->plan->model);
	META("schema", hex);
	META("seed", seed);
	META("split_seed", split_seed);
	META("split", split);
	META("data", data);
	if (s->fold)
		META("fold", fold);
	if (fit)
		META("fit", fit);
#undef META
	meta = xmalloc((n + 2 * (size_t)npair) * sizeof *meta);
	memcpy(meta, own, n * sizeof *meta);
	for (uint32_t i = 0; i < 2 * npair; i++)
		meta[n + i] = extra[i];
	Tensor *t = state_tensors(s, &ntensor);
	bool ok = checkpoint_write(path, t, ntensor, meta, n / 2 + npair, e);
	free(t);
	free(meta);
	free(fit);
	return ok;
}

/* ---- load ---- */

const char *
checkpoint_path(Session *s, const char *ckpt)
{
	if (!ckpt || !strcmp(ckpt, "best"))
		return s->best;
	return strcmp(ckpt, "last") ? ckpt : s->last;
}

uint64_t
checkpoint_number(const Checkpoint *c, const char *key, uint64_t missing)
{
	const char *v = checkpoint_meta(c, key);
	char *end;
	if (!v)
		return missing;
	unsigned long long x = strtoull(v, &end, 10);
	return end == v || *end ? missing : x;
}

static void
print_dims(Text *t, DType dt, uint32_t n, const int64_t *dim)
{
	text_printf(t, "%s[", dtype_name(dt));
	for (uint32_t i = 0; i < n; i++)
		text_printf(t, "%s%lld", i ? ", " : "", (long long)dim[i]);
	text_puts(t, "]");
}

static bool
check_tensor(const PlanState *st, const Tensor *t, const char *path, Err *e)
{
	Text has = {0}, want = {0};
	if (t->dtype == (DType)st->dtype && t->ndim == st->ndim &&
	    (!t->ndim || !memcmp(t->dim, st->dim, t->ndim * sizeof *t->dim)) &&
	    t->bytes == (uint64_t)state_count(st) * dtype_bytes((DType)st->dtype))
		return true;
	print_dims(&has, t->dtype, t->ndim, t->dim);
	print_dims(&want, (DType)st->dtype, st->ndim, st->dim);
	fail(e, "%s: checkpoint of another model: tensor %s is %s, the plan wants %s: use the plan that it was trained with, or train anew",
	     path, st->name, has.s, want.s);
	free(has.s);
	free(want.s);
	return false;
}

static bool
check_model(const Session *s, const Checkpoint *c, const char *path, Err *e)
{
	const char *format = checkpoint_meta(c, "mmrun.format"), *model = checkpoint_meta(c, "model"), *schema;
	char hex[17];
	if (!format)
		return fail(e, "%s: not a checkpoint of mmrun: it has no metadata mmrun.format", path);
	if (strcmp(format, FORMAT))
		return fail(e, "%s: checkpoint format %s, this mmrun reads %s: use the version that wrote it", path, format, FORMAT);
	for (uint32_t i = 0; i < s->plan->nstate; i++) {
		const PlanState *st = &s->plan->state[i];
		const Tensor *t = checkpoint_find(c, st->name);
		if (!t && st->space == SP_OPT)
			continue; /* only training needs it: session_load says so */
		if (!t)
			return fail(e, "%s: checkpoint of another model (%s, the plan is %s): it has no tensor %s", path, model ? model : "unnamed",
			            s->plan->model, st->name);
		if (!check_tensor(st, t, path, e))
			return false;
	}
	schema_hex(s->plan, hex);
	schema = checkpoint_meta(c, "schema");
	if (!schema || strcmp(schema, hex))
		return fail(e, "%s: checkpoint of another model (%s, the plan is %s): its tensors fit, but inputs, targets or states differ: "
		            "use the plan that it was trained with, or train anew", path, model ? model : "unnamed", s->plan->model);
	return true;
}

bool
session_open_checkpoint(const Session *s, const char *path, Checkpoint *c, Err *e)
{
	if (s->best && !strcmp(path, s->best) && access(path, F_OK) && !access(s->last, F_OK))
		return fail(e, "%s: the run has no best checkpoint, for no epoch of it has ended: give --ckpt last, or train on with --resume", path);
	if (s->best && (!strcmp(path, s->best) || !strcmp(path, s->last)) && access(path, F_OK))
		return fail(e, "%s: %s: train first (mmrun train %s), name the folder of the run, or a file with --ckpt", path, strerror(errno), s->path);
	if (!checkpoint_open(path, c, e))
		return false;
	if (check_model(s, c, path, e))
		return true;
	checkpoint_close(c);
	return false;
}

bool
session_load(Session *s, const Checkpoint *c, const char *path, Err *e)
{
	for (uint32_t i = 0; i < s->plan->nstate; i++) {
		const PlanState *st = &s->plan->state[i];
		if (!s->image[st->space])
			continue;
		const Tensor *t = checkpoint_find(c, st->name);
		if (!t)
			return fail(e, "%s: no tensor %s: this checkpoint cannot be trained further", path, st->name);
		if (!check_tensor(st, t, path, e))
			return false;
		if (t->bytes)
			memcpy(s->image[st->space] + st->off, t->data, t->bytes);
	}
	for (int k = 0; k < NSTATE; k++)
		if (s->base[k] && !s->device->upload(s->device, s->base[k], s->image[k], s->bytes[k], e))
			return false;
	return true;
}

bool
session_same_data(const Session *s, const Checkpoint *c, const char *path, Err *e)
{
	const char *then = checkpoint_meta(c, "fit"), *split = checkpoint_meta(c, "split");
	char *now = s->fit ? fit_to_json(s->fit) : NULL, counts[128];
	bool same = (!then && !now) || (then && now && !strcmp(then, now));
	snprintf(counts, sizeof counts, "%lld %lld %lld %lld", (long long)s->data.split[0], (long long)s->data.split[1],
	         (long long)s->data.split[2], (long long)s->data.split[3]);
	free(now);
	if (same && split && !strcmp(split, counts))
		return true;
	return fail(e, "%s: trained on other data or another split (its split seed was %llu, here it is %llu; split at rows %s, here %s): "
	            "give the tables and --split-seed of its training", path,
	            (unsigned long long)checkpoint_number(c, "split_seed", 0), (unsigned long long)s->split_seed, split ? split : "unknown", counts);
}

bool
session_same_values(Session *s, const Checkpoint *c, const char *path, Err *e)
{
	const char *then = checkpoint_meta(c, "data");
	char now[17];
	data_hex(s, now);
	return (then && !strcmp(then, now)) ||
	       fail(e, "%s: trained on other data: there are as many rows, but other values in them, since a file of a table has changed: give the files of its training",
	            path);
}
