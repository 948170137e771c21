/* What the decoder cannot see: does a plan, well formed, also make sense? After plan_verify no number in
   a plan can lead a device outside of the memory that the plan itself asks for. Runs on every compile
   (a mistake of ours) and on every load (damage, or intent), and shares no code with the planner.
   plan_flow.c follows the activations from instruction to instruction. */
#include "plan.h"
#include "plan_impl.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_SMEM = 232448, /* dynamic shared memory a block, sm_90 (CUDA C Programming Guide, compute capabilities) */
	MAX_THREADS = 1024,
	MAX_LOOP_RUNS = 1 << 22, /* instructions that one loop runs: each is looked at here */
};

typedef struct Check {
	Err *e;
	const Plan *plan;
	const PlanTargetset *set; /* where we are, NULL above it */
	const PlanProgram *program;
	const PlanInstr *instr;
	Flow *flow;
} Check;

/* Fails with the place that is being looked at. */
static bool bad(Check *c, const char *fmt, ...) PRINTF(2, 3);

static bool
bad(Check *c, const char *fmt, ...)
{
	char what[1024], where[900] = "";
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	if (c->instr)
		snprintf(where, sizeof where, "%.30s program %.60s (batch %" PRId64 "), instruction %td (%.400s, %.300s): ",
		         c->set->target, c->program->name, c->program->batch, c->instr - c->program->instr,
		         c->instr->what, c->instr->loc);
	else if (c->program)
		snprintf(where, sizeof where, "%.30s program %.60s (batch %" PRId64 "): ", c->set->target,
		         c->program->name, c->program->batch);
	else if (c->set)
		snprintf(where, sizeof where, "%.30s: ", c->set->target);
	fail(c->e, "%s%s", where, what);
	return false;
}

/* ---- every field, by the table ---- */

/* The way down from the plan, for messages: set[0].program[1].instr[12].arg[2]. */
typedef struct Path {
	const struct Path *up;
	const Field *field;
	uint32_t index;
} Path;

static void
path_text(Text *t, const Path *p)
{
	if (p->up)
		path_text(t, p->up);
	if (p->field)
		text_printf(t, "%s[%" PRIu32 "].", p->field->name, p->index);
}

static bool
bad_field(Check *c, const Path *at, const Field *f, const char *what)
{
	Text t = {0};
	path_text(&t, at);
	bad(c, "%s%s %s", t.s ? t.s : "", f->name, what);
	free(t.s);
	return false;
}

static bool
bad_enum(Check *c, const Path *at, const Field *f, const FieldNames *names, uint32_t v)
{
	Text t = {0};
	text_printf(&t, "is %" PRIu32 ": known are", v);
	for (uint32_t i = 0; i < names->n; i++)
		text_printf(&t, " %u %s", names->bits ? 1u << i : i, names->name[i]);
	bad_field(c, at, f, t.s);
	free(t.s);
	return false;
}

static bool
check_string(Check *c, const Path *at, const Field *f, const char *s)
{
	if (!s)
		return bad_field(c, at, f, "is not set");
	return utf8_valid(s, strlen(s)) || bad_field(c, at, f, "is not UTF-8 text");
}

/* Enums known, strings and lists there, in n records at p. */
static bool
check_fields(Check *c, const Path *up, const Field *from, const Record *r, const char *p, uint32_t n)
{
	for (const Field *f = r->field; f < r->field + r->nfield; f++) {
		const FieldNames *names = field_names(r, f);
		Path at = {up, from, 0};
		if (f->kind < K_STR && !names)
			continue;
		for (; at.index < n; at.index++) {
			const char *q = p + at.index * r->bytes;
			if (names) {
				uint32_t v = field_u32(f, q);
				if (names->bits ? v >> names->n : v >= names->n)
					return bad_enum(c, &at, f, names, v);
				continue;
			}
			const void *v = field_pointer(f, q);
			if (f->kind == K_STR) {
				if (!check_string(c, &at, f, v))
					return false;
				continue;
			}
			uint32_t k = field_count(f, q);
			if (k && !v)
				return bad_field(c, &at, f, "has a count but no elements");
			for (uint32_t i = 0; i < k && f->kind == K_STRS; i++)
				if (!check_string(c, &at, f, ((char *const *)v)[i]))
					return false;
			if (f->kind == K_LIST && !check_fields(c, &at, f, f->record(), v, k))
				return false;
		}
	}
	return true;
}

/* ---- data, states, training ---- */

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the n names; all must differ and none be empty. */
static bool
check_names(Check *c, const char *kind, const char **name, size_t n)
{
	bool ok = true;
	qsort(name, n, sizeof *name, compare_strings);
	for (size_t i = 0; i < n && ok; i++)
		if (!*name[i])
			ok = bad(c, "a %s has no name", kind);
		else if (i && !strcmp(name[i - 1], name[i]))
			ok = bad(c, "two %ss are named %.200s", kind, name[i]);
	return ok;
}

static bool
check_unique(Check *c, const char *kind, const void *rows, size_t n, size_t stride, size_t at)
{
	const char **name = xmalloc(n * sizeof *name);
	for (size_t i = 0; i < n; i++)
		memcpy(&name[i], (const char *)rows + i * stride + at, sizeof *name);
	bool ok = check_names(c, kind, name, n);
	free(name);
	return ok;
}
#define CHECK_UNIQUE(c, kind, rec, list, n) check_unique((c), (kind), (list), (n), sizeof(rec), offsetof(rec, name))

/* Of a tensor column: elements of dims are width, the type is one that columns have. */
static bool
check_dims(Check *c, const char *what, const char *name, const int64_t *dim, uint32_t ndim, int64_t width, uint32_t dtype)
{
	int64_t n = 1;
	for (uint32_t i = 0; i < ndim; i++)
		if (dim[i] < 1 || __builtin_mul_overflow(n, dim[i], &n))
			return bad(c, "%s %.100s: axis %" PRIu32 " has size %" PRId64, what, name, i, dim[i]);
	if (!ndim || ndim > 6 || n != width || width > INT32_MAX / 4)
		return bad(c, "%s %.100s: %" PRIu32 " axes of %" PRId64 " elements, the width is %" PRId64, what, name, ndim, n, width);
	return dtype == DT_U8 || dtype == DT_F32 || bad(c, "%s %.100s: its elements are neither u8 nor f32", what, name);
}

static bool
check_input(Check *c, const PlanInput *i)
{
	if (i->width < 1 || i->width > INT32_MAX / 4)
		return bad(c, "input %.100s: width is %" PRId64, i->name, i->width);
	if (i->kind != IN_NUMBER && i->kind != IN_TENSOR && (i->size < 1 || i->size > INT32_MAX))
		return bad(c, "input %.100s: size is %" PRId64, i->name, i->size);
	if ((i->scale & SC_ZSCORE) && (i->scale & SC_MINMAX))
		return bad(c, "input %.100s: both zscore and minmax", i->name);
	if (i->kind >= IN_TENSOR && i->missing != MISS_ZERO && i->missing != MISS_DROP)
		return bad(c, "input %.100s: what stands in for a missing tensor is %" PRIu32, i->name, i->missing);
	return i->kind != IN_TENSOR || check_dims(c, "input", i->name, i->dim, i->ndim, i->width, i->dtype);
}

static bool
check_target(Check *c, const PlanTarget *t)
{
	if ((t->scale & SC_ZSCORE) && (t->scale & SC_MINMAX))
		return bad(c, "target %.100s: both zscore and minmax", t->name);
	if (t->kind == TG_BINARY && t->above == AB_QUANTILE && !(t->threshold >= 0 && t->threshold <= 1))
		return bad(c, "target %.100s: quantile is %g, not in 0 .. 1", t->name, t->threshold);
	if ((t->kind == TG_CLASS || t->kind == TG_LABELS) && (t->size < 2 || t->size > (t->kind == TG_CLASS ? 1 << 24 : 256)))
		return bad(c, "target %.100s: %" PRId64 " classes", t->name, t->size);
	if (t->nlabel && t->nlabel != t->size)
		return bad(c, "target %.100s: %" PRIu32 " names of %" PRId64 " classes", t->name, t->nlabel, t->size);
	if (t->kind == TG_LABELS)
		return check_dims(c, "target", t->name, t->dim, t->ndim, t->width, DT_U8);
	return t->kind != TG_TENSOR || check_dims(c, "target", t->name, t->dim, t->ndim, t->width, t->dtype);
}

/* Whether each file of the table is a tensor that files of its kind can be: its reader relies on it. */
static bool
file_shape(const PlanTable *t)
{
	const PlanShape *s = t->shape;
	if (t->nshape != 1)
		return false;
	if (t->kind == TB_WAV)
		return s->ndim == 1 && s->dtype == DT_F32;
	return t->kind == TB_IMAGES ? s->ndim == 3 && (s->dim[2] == 1 || s->dim[2] == 3) && s->dtype == DT_U8 : s->ndim > 0;
}

static bool
check_table(Check *c, const PlanTable *t)
{
	if (t->kind >= TB_WAV && t->kind <= TB_ARRAYS && !file_shape(t))
		return bad(c, "table %.100s: its files have no tensor of this shape and type", t->name);
	if (sequence_bytes(t->kind) && (t->window < 1 || t->window > INT32_MAX / 4))
		return bad(c, "table %.100s: windows of %" PRId64, t->name, t->window);
	for (uint32_t i = 0; i < t->nshape; i++) {
		int64_t n = 1;
		const PlanShape *s = &t->shape[i];
		for (uint32_t k = 0; k < s->ndim; k++)
			if (s->dim[k] < 1 || __builtin_mul_overflow(n, s->dim[k], &n) || n > INT32_MAX / 4)
				return bad(c, "table %.100s: the shape of %.100s is too large or not positive", t->name, s->name);
		if (s->ndim > 6 || (s->dtype != DT_U8 && s->dtype != DT_F32))
			return bad(c, "table %.100s: %.100s is no tensor of u8 or f32 of at most 6 axes", t->name, s->name);
	}
	return true;
}

static bool
check_data(Check *c, const PlanData *d)
{
	double sum = d->train + d->val + d->test;
	if (!(d->train >= 0 && d->val >= 0 && d->test >= 0 && sum > 1 - 1e-6 && sum < 1 + 1e-6))
		return bad(c, "split: the shares %g, %g and %g do not sum to 1", d->train, d->val, d->test);
	if (d->folds && (d->folds < 2 || d->folds > INT32_MAX || d->fold < 1 || d->fold > d->folds))
		return bad(c, "split: fold %" PRId64 " of %" PRId64, d->fold, d->folds);
	for (uint32_t i = 0; i < d->ntable; i++)
		if (!check_table(c, &d->table[i]))
			return false;
	for (uint32_t i = 0; i < d->ninput; i++)
		if (!check_input(c, &d->input[i]))
			return false;
	for (uint32_t i = 0; i < d->ntarget; i++)
		if (!check_target(c, &d->target[i]))
			return false;
	return CHECK_UNIQUE(c, "table", PlanTable, d->table, d->ntable) && CHECK_UNIQUE(c, "input", PlanInput, d->input, d->ninput) &&
	       CHECK_UNIQUE(c, "target", PlanTarget, d->target, d->ntarget);
}

/* *n = the elements of a tensor of dimensions dim, *bytes their size; false if a dimension is not
   positive or a number too large. */
static bool
tensor_size(const int64_t *dim, uint32_t ndim, uint32_t dtype, uint64_t *n, uint64_t *bytes)
{
	*n = 1;
	*bytes = 0;
	for (uint32_t i = 0; i < ndim; i++)
		if (dim[i] < 1 || __builtin_mul_overflow(*n, (uint64_t)dim[i], n))
			return false;
	return !__builtin_mul_overflow(*n, (uint64_t)dtype_bytes(dtype), bytes) && *bytes <= INT64_MAX;
}

/* SP_DATA is not one allocation: see check_data_ref. */
static uint64_t
space_bytes(const Check *c, uint32_t space)
{
	switch (space) {
	case SP_PARAM: return c->plan->param_bytes;
	case SP_OPT: return c->plan->opt_bytes;
	case SP_STAT: return c->plan->stat_bytes;
	case SP_ACT: return c->program ? c->program->act_bytes : 0;
	case SP_WORK: return c->program ? c->program->work_bytes : 0;
	default: return 0;
	}
}

static bool
check_state(Check *c, const PlanState *s)
{
	uint64_t n, bytes, end;
	if (!tensor_size(s->dim, s->ndim, s->dtype, &n, &bytes))
		return bad(c, "state %.200s: a dimension is not positive or the tensor too large", s->name);
	if (s->off % dtype_bytes(s->dtype))
		return bad(c, "state %.200s: offset %" PRIu64 " is not aligned to %s", s->name, s->off, dtype_name(s->dtype));
	if (__builtin_add_overflow(s->off, bytes, &end) || end > space_bytes(c, s->space))
		return bad(c, "state %.200s: %" PRIu64 " bytes at %" PRIu64 " reach past the %" PRIu64 " of space %s", s->name,
		           bytes, s->off, space_bytes(c, s->space), space_names[s->space]);
	if (*s->like && s->space != SP_PARAM)
		return bad(c, "state %.200s: a mean of %.200s, but not among the parameters", s->name, s->like);
	if (*s->fit && n != 1)
		return bad(c, "state %.200s: fitted from the data (%.100s) but not a scalar", s->name, s->fit);
	return true;
}

static int
compare_states(const void *a, const void *b)
{
	const PlanState *s = *(const PlanState *const *)a, *t = *(const PlanState *const *)b;
	if (s->space != t->space)
		return s->space < t->space ? -1 : 1;
	return (s->off > t->off) - (s->off < t->off);
}

static bool
check_states(Check *c)
{
	const Plan *p = c->plan;
	for (uint32_t i = 0; i < p->nstate; i++)
		if (!check_state(c, &p->state[i]))
			return false;
	if (!CHECK_UNIQUE(c, "state", PlanState, p->state, p->nstate))
		return false;

	const PlanState **s = xmalloc(p->nstate * sizeof *s);
	bool ok = true;
	for (uint32_t i = 0; i < p->nstate; i++)
		s[i] = &p->state[i];
	qsort(s, p->nstate, sizeof *s, compare_states);
	for (uint32_t i = 1; i < p->nstate && ok; i++) {
		const PlanState *a = s[i - 1], *b = s[i];
		uint64_t n, bytes;
		tensor_size(a->dim, a->ndim, a->dtype, &n, &bytes);
		if (a->space == b->space && a->off + bytes > b->off)
			ok = bad(c, "states %.200s and %.200s overlap in space %s", a->name, b->name, space_names[a->space]);
	}
	free(s);
	return ok;
}

static bool
check_train(Check *c, const PlanTrain *t)
{
	if (t->epochs < 0 || t->batch < 1 || t->accumulate < 1 || t->patience < 0 || t->log_steps < 1 || !t->nlosses)
		return bad(c, "training: epochs %" PRId64 ", batch %" PRId64 ", accumulate %" PRId64 ", patience %" PRId64 ", log_steps %" PRId64
		              " or losses %" PRIu32 " out of range", t->epochs, t->batch, t->accumulate, t->patience, t->log_steps, t->nlosses);
	if (*t->plateau_on && !(t->plateau_factor > 0 && t->plateau_factor < 1 && t->plateau_patience > 0 && t->plateau_cooldown >= 0 &&
	                        t->plateau_threshold >= 0 && t->plateau_floor >= 0))
		return bad(c, "training: factor %g, patience %" PRId64 ", threshold %g, cooldown %" PRId64 " or floor %g of a plateau out of range",
		           t->plateau_factor, t->plateau_patience, t->plateau_threshold, t->plateau_cooldown, t->plateau_floor);
	for (uint32_t i = 0; i < c->plan->nstate; i++) {
		const PlanState *s = &c->plan->state[i];
		if (!strcmp(s->name, "run.log") &&
		    (s->dtype != DT_F32 || s->ndim != 2 || s->dim[0] != t->log_steps || s->dim[1] != t->nlosses))
			return bad(c, "state run.log is not f32 [%" PRId64 ", %" PRIu32 "]", t->log_steps, t->nlosses);
	}
	return true;
}

/* ---- references ---- */

static bool
check_data_ref(Check *c, const PlanRef *r, const char *what, bool written)
{
	const PlanData *d = c->plan->ndata ? c->plan->data : NULL;
	uint64_t columns = d ? (uint64_t)d->ninput + d->ntarget : 0;
	if (written)
		return bad(c, "%s is written but lies in the data", what);
	if (r->off >= columns)
		return bad(c, "%s is data column %" PRIu64 " of %" PRIu64, what, r->off, columns);
	uint64_t row = (uint64_t)column_width(d, (uint32_t)r->off) * dtype_bytes(column_dtype(d, (uint32_t)r->off));
	if (r->bytes > row)
		return bad(c, "%s takes %" PRIu64 " bytes a row of data column %" PRIu64 ", which has %" PRIu64, what,
		           r->bytes, r->off, row);
	return true;
}

static bool
check_ref(Check *c, const PlanRef *r, const char *what, bool written)
{
	uint64_t end;
	if (r->space >= SP_DATA) /* the last one; others are refused with the fields */
		return check_data_ref(c, r, what, written);
	if (__builtin_add_overflow(r->off, r->bytes, &end) || end > space_bytes(c, r->space))
		return bad(c, "%s: %" PRIu64 " bytes at %" PRIu64 " reach past the %" PRIu64 " of space %s", what, r->bytes,
		           r->off, space_bytes(c, r->space), space_names[r->space]);
	return true;
}

/* ---- programs ---- */

static bool
check_gemm(Check *c, const PlanInstr *in, const PlanGemm *g)
{
	const int64_t size[] = {g->m, g->n, g->k, g->batch0, g->batch1};
	for (size_t i = 0; i < LEN(size); i++)
		if (size[i] < 1 || size[i] > INT32_MAX)
			return bad(c, "gemm: a size is %" PRId64 ", not in 1 .. 2^31-1", size[i]);
	if (g->dtype > DT_F16 || g->ctype > DT_F16)
		return bad(c, "gemm: of %s to %s: not floating point", dtype_name(g->dtype), dtype_name(g->ctype));
	if ((g->epilogue & EPI_RELU) && (g->epilogue & EPI_GELU))
		return bad(c, "gemm: both relu and gelu");
	uint32_t want = g->epilogue & EPI_BIAS ? 4 : 3;
	if (in->narg != want)
		return bad(c, "gemm: %" PRIu32 " arguments, not %" PRIu32, in->narg, want);
	for (uint32_t i = 0; i < want; i++) {
		Operand o;
		uint64_t bytes;
		if (!gemm_operand(g, i, &o))
			return bad(c, "gemm: the strides of %c are not those of a matrix for BLAS", "ABC"[i]);
		if (!operand_extent(&o, &bytes) || bytes > in->arg[i].bytes)
			return bad(c, "gemm: argument %" PRIu32 " has %" PRIu64 " bytes, its sizes and strides need more", i + 1,
			           in->arg[i].bytes);
		if (in->arg[i].off % o.element)
			return bad(c, "gemm: argument %" PRIu32 " is not aligned to its elements", i + 1);
		if (in->arg[i].space == SP_DATA)
			return bad(c, "gemm: argument %" PRIu32 " lies in the data", i + 1);
	}
	return true;
}

static bool
is_identifier(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return !*s;
}

static bool
check_kernel(Check *c, const PlanKernel *k)
{
	if (!is_identifier(k->name))
		return bad(c, "kernel name \"%.100s\" is not a C identifier", k->name);
	if (k->module >= c->set->nmodule)
		return bad(c, "kernel %.100s is in module %" PRIu32 " of %" PRIu32, k->name, k->module, c->set->nmodule);
	if (k->grid < 1 || k->grid > INT32_MAX || k->block < 1 || k->block > MAX_THREADS || k->smem > MAX_SMEM)
		return bad(c, "kernel %.100s: grid %" PRIu32 ", block %" PRIu32 ", shared memory %" PRIu32
		              ": the limits are 2^31-1, %d, %d", k->name, k->grid, k->block, k->smem, MAX_THREADS, MAX_SMEM);
	return true;
}

static bool
check_copy(Check *c, const PlanInstr *in)
{
	const PlanRef *d = &in->arg[0], *s = &in->arg[1];
	if (s->space == SP_DATA)
		return bad(c, "copies from the data, which only kernels can read");
	if (d->bytes != s->bytes)
		return bad(c, "copies %" PRIu64 " bytes to %" PRIu64, s->bytes, d->bytes);
	if (d->space == s->space && d->off < s->off + s->bytes && s->off < d->off + d->bytes)
		return bad(c, "copies between overlapping bytes of space %s", space_names[d->space]);
	return true;
}

static bool
check_instr(Check *c, const PlanInstr *in)
{
	static const uint32_t nargs[] = {[I_COPY] = 2, [I_ZERO] = 1, [I_LOOP] = 0};
	if (in->nout > in->narg)
		return bad(c, "%" PRIu32 " of %" PRIu32 " arguments are written", in->nout, in->narg);
	if (in->kind == I_KERNEL && in->index >= c->program->nkernel)
		return bad(c, "kernel %" PRIu32 " of %" PRIu32, in->index, c->program->nkernel);
	if (in->kind == I_GEMM && in->index >= c->program->ngemm)
		return bad(c, "gemm %" PRIu32 " of %" PRIu32, in->index, c->program->ngemm);
	if (in->kind >= I_COPY && in->narg != nargs[in->kind])
		return bad(c, "%" PRIu32 " arguments, not %" PRIu32, in->narg, nargs[in->kind]);
	for (uint32_t i = 0; i < in->narg; i++) {
		char what[40];
		snprintf(what, sizeof what, "argument %" PRIu32, i + 1);
		if (!check_ref(c, &in->arg[i], what, instr_writes(in, i)))
			return false;
	}
	if (in->ndtype && in->ndtype != in->narg)
		return bad(c, "element types of %" PRIu32 " arguments, of %" PRIu32, in->ndtype, in->narg);
	for (uint32_t i = 0; i < in->ndtype; i++)
		if (in->dtype[i] >= NDTYPE)
			return bad(c, "argument %" PRIu32 " has element type %u", i + 1, in->dtype[i]);
	if (in->kind == I_GEMM && !check_gemm(c, in, &c->program->gemm[in->index]))
		return false;
	return in->kind != I_COPY || check_copy(c, in);
}

/* What a prediction has in a row: see PlanOutput.role. */
static uint64_t
prediction_width(const PlanData *d, const PlanTarget *t)
{
	switch (t->kind) {
	case TG_CLASS: return (uint64_t)t->size;
	case TG_LABELS:
	case TG_TENSOR: return (uint64_t)t->width;
	case TG_NEXT: /* a probability for each byte that may follow each */
		for (uint32_t i = 0; i < d->ninput; i++)
			if (!strcmp(d->input[i].name, t->from))
				return (uint64_t)(d->input[i].width * t->size);
		return 0;
	default: return 1;
	}
}

static bool
check_role(Check *c, const PlanOutput *o, uint64_t n)
{
	bool prediction = !strcmp(o->role, "prediction"), found = !c->plan->ndata;
	if (!prediction && strcmp(o->role, "loss"))
		return !strcmp(o->role, "value") || !strcmp(o->role, "place") ||
		       bad(c, "output %.100s: role \"%.100s\" is not prediction, loss, value or place", o->name, o->role);
	uint64_t a_row = 1;
	for (uint32_t i = 0; prediction && !found && i < c->plan->data->ntarget; i++) {
		found = !strcmp(c->plan->data->target[i].name, o->name);
		a_row = found ? prediction_width(c->plan->data, &c->plan->data->target[i]) : 1;
	}
	if (n != (uint64_t)c->program->batch * a_row || (o->dtype != DT_F32 && n != (uint64_t)c->program->batch && o->dtype != DT_U8))
		return bad(c, "output %.100s: a %s of %" PRIu64 " elements, not %" PRIu64 " a row", o->name, o->role, n, a_row);
	return !prediction || found || bad(c, "output %.100s: predicts a target that the data does not have", o->name);
}

static bool
check_output(Check *c, const PlanOutput *o)
{
	char what[140];
	uint64_t n, bytes;
	snprintf(what, sizeof what, "output %.100s", o->name);
	if (o->nref != 1)
		return bad(c, "%s: %" PRIu32 " references, not 1", what, o->nref);
	if (!tensor_size(o->dim, o->ndim, o->dtype, &n, &bytes))
		return bad(c, "%s: a dimension is not positive or the tensor too large", what);
	if (o->ref->space == SP_DATA)
		return bad(c, "%s lies in the data", what);
	if (!check_ref(c, o->ref, what, false))
		return false;
	if (bytes != o->ref->bytes)
		return bad(c, "%s: its dimensions make %" PRIu64 " bytes, its reference %" PRIu64, what, bytes, o->ref->bytes);
	Err why = {0};
	if (o->ref->space == SP_ACT && !flow_read(c->flow, o->ref->off, o->ref->off + bytes, what, &why))
		return bad(c, "%s", why.msg);
	return check_role(c, o, n);
}

static bool
check_outputs_unique(Check *c) /* a head's prediction and loss share its name */
{
	const PlanProgram *g = c->program;
	const char **name = xmalloc(g->noutput * sizeof *name);
	Arena a = {0};
	for (uint32_t i = 0; i < g->noutput; i++)
		name[i] = arena_printf(&a, "%s (%s)", g->output[i].name, g->output[i].role);
	bool ok = check_names(c, "output", name, g->noutput);
	free(name);
	arena_free(&a);
	return ok;
}

/* One instruction and what it does to the activations. */
static bool
check_flow(Check *c, const PlanInstr *in, bool again)
{
	Err why = {0};
	if (!check_instr(c, in))
		return false;
	return flow_instr(c->flow, in, (uint32_t)(c->instr - c->program->instr), again, &why) || bad(c, "%s", why.msg);
}

/* Iteration i of an instruction of a loop, as the instruction that it is then; arg has room. */
static bool
check_iteration(Check *c, const PlanInstr *in, int64_t i, PlanRef *arg)
{
	PlanInstr now = *in;
	now.arg = arg;
	for (uint32_t k = 0; k < in->narg; k++) {
		int64_t move = 0, off;
		arg[k] = in->arg[k];
		if (!in->nstep || !in->step[k])
			continue;
		if (arg[k].space == SP_DATA)
			return bad(c, "argument %" PRIu32 " moves in a loop but lies in the data", k + 1);
		if (arg[k].off > INT64_MAX || __builtin_mul_overflow(in->step[k], i, &move) || __builtin_add_overflow((int64_t)arg[k].off, move, &off) || off < 0)
			return bad(c, "argument %" PRIu32 " moves by %" PRId64 " bytes: in iteration %" PRId64 " it is outside of all memory", k + 1,
			           in->step[k], i);
		arg[k].off = (uint64_t)off;
	}
	return check_flow(c, &now, i > 0);
}

/* A loop, iteration by iteration: what holds for instructions holds for each that it runs. */
static bool
check_loop(Check *c, const PlanInstr *loop)
{
	uint32_t place = (uint32_t)(loop - c->program->instr), left = c->program->ninstr - place - 1, most = 1;
	uint64_t runs;
	if (loop->narg || loop->nout)
		return bad(c, "a loop has no arguments");
	if (loop->index < 1 || loop->index > left)
		return bad(c, "a loop of %" PRIu32 " instructions, and %" PRIu32 " follow", loop->index, left);
	if (loop->times < 1 || __builtin_mul_overflow((uint64_t)loop->times, (uint64_t)loop->index, &runs) || runs > MAX_LOOP_RUNS)
		return bad(c, "a loop of %" PRId64 " times %" PRIu32 " instructions: from 1 to %d in all can be", loop->times, loop->index, MAX_LOOP_RUNS);
	for (uint32_t k = 1; k <= loop->index; k++) {
		const PlanInstr *in = c->instr = loop + k;
		if (in->kind == I_LOOP)
			return bad(c, "a loop inside a loop");
		if (in->nstep && in->nstep != in->narg)
			return bad(c, "%" PRIu32 " steps for %" PRIu32 " arguments", in->nstep, in->narg);
		most = in->narg > most ? in->narg : most;
	}
	PlanRef *arg = xmalloc(most * sizeof *arg);
	bool ok = true;
	for (int64_t i = 0; i < loop->times && ok; i++)
		for (uint32_t k = 1; k <= loop->index && ok; k++)
			ok = check_iteration(c, c->instr = loop + k, i, arg);
	free(arg);
	return ok;
}

static bool
check_program(Check *c)
{
	const PlanProgram *g = c->program;
	if (!*g->name || g->batch < 1 || g->batch > INT32_MAX)
		return bad(c, "a program needs a name and a batch in 1 .. 2^31-1");
	if (g->act_bytes > INT64_MAX || g->work_bytes > INT64_MAX || g->act_bound > g->act_bytes)
		return bad(c, "arena of %" PRIu64 " bytes (lower bound %" PRIu64 ") and workspace of %" PRIu64 " cannot be",
		           g->act_bytes, g->act_bound, g->work_bytes);
	if (g->kept_bytes > g->act_bytes)
		return bad(c, "%" PRIu64 " bytes are kept of an arena of %" PRIu64, g->kept_bytes, g->act_bytes);
	flow_keep(c->flow, g->kept_bytes);
	for (uint32_t i = 0; i < g->nkernel; i++)
		if (!check_kernel(c, &g->kernel[i]))
			return false;
	for (uint32_t i = 0; i < g->ninstr; i++) {
		const PlanInstr *in = c->instr = &g->instr[i];
		if (in->kind == I_LOOP ? !check_loop(c, in) : !check_flow(c, in, false))
			return false;
		if (in->kind == I_LOOP)
			i += in->index;
		else if (in->nstep)
			return bad(c, "its arguments move, and it is in no loop");
	}
	c->instr = NULL;
	for (uint32_t i = 0; i < g->noutput; i++)
		if (!check_output(c, &g->output[i]))
			return false;
	return check_outputs_unique(c);
}

static bool
check_set(Check *c)
{
	const PlanTargetset *s = c->set;
	const char **name = xmalloc(s->nprogram * sizeof *name);
	Arena a = {0};
	for (uint32_t i = 0; i < s->nprogram; i++) /* a program is known by name and batch */
		name[i] = arena_printf(&a, "%s (batch %" PRId64 ")", s->program[i].name, s->program[i].batch);
	bool ok = check_names(c, "program", name, s->nprogram);
	free(name);
	arena_free(&a);
	for (uint32_t i = 0; i < s->nprogram && ok; i++) {
		c->program = &s->program[i];
		c->flow = flow_new(c->program);
		ok = check_program(c);
		flow_free(c->flow);
		c->program = NULL;
	}
	return ok;
}

static bool
check_plan(Check *c)
{
	const Plan *p = c->plan;
	if (p->ndata > 1 || p->ntrain > 1)
		return bad(c, "more than one data or train section");
	if (p->param_bytes > INT64_MAX || p->opt_bytes > INT64_MAX || p->stat_bytes > INT64_MAX)
		return bad(c, "a space is larger than any memory");
	if ((p->ndata && !check_data(c, p->data)) || !check_states(c) || (p->ntrain && !check_train(c, p->train)))
		return false;
	if (!check_unique(c, "target set", p->set, p->nset, sizeof *p->set, offsetof(PlanTargetset, target)))
		return false;
	for (uint32_t i = 0; i < p->nset; i++) {
		c->set = &p->set[i];
		if (!check_set(c))
			return false;
		c->set = NULL;
	}
	return true;
}

bool
plan_verify(const Plan *p, Err *e)
{
	Check c = {.e = e, .plan = p};
	return check_fields(&c, NULL, NULL, plan_record(), (const char *)p, 1) && check_plan(&c);
}
