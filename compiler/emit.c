/* Text of values and indices for both emitters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"

static const char *const c_types[NDTYPE] = {
#define X(name, en, bytes, c, cu) c,
	DTYPES(X)
#undef X
};

const char *ctype(DType t) { return c_types[t]; }

void
emit_line(Emit *e, const char *fmt, ...)
{
	va_list ap;
	for (int i = 0; i < e->indent; i++)
		text_puts(e->t, "\t");
	va_start(ap, fmt);
	text_vprintf(e->t, fmt, ap);
	va_end(ap);
	text_puts(e->t, "\n");
}

bool is_lane(const Emit *e, const LVal *v) { return (v->axes & e->lanes) != 0; }

static void
mark_saved(Emit *e, const LVal *v, int stage)
{
	if (is_lane(e, v) && v->level < stage && v->kind != LV_CONST && v->kind != LV_INDEX && !v->bits)
		e->saved[v->id] = true;
}

static void
mark_ix(Emit *e, const Ix *ix, int stage)
{
	for (int i = 0; i < ix->n; i++) {
		if (ix->t[i].a->kind == AT_VAL)
			mark_saved(e, ix->t[i].a->val, stage);
		else if (ix->t[i].a->of)
			mark_ix(e, ix->t[i].a->of, stage);
	}
}

/* random < p, which the bits decide that the random number is made of */
static bool
is_chance(const LVal *v)
{
	if (v->kind != LV_PRIM || v->node->op != P_lt)
		return false;
	const LVal *r = v->in[0], *p = v->in[1];
	return r->kind == LV_RANDOM && p->kind == LV_CONST && p->f > 0 && p->f < 1;
}

static void
mark_bits(Kernel *k, bool cuda)
{
	for (int i = 0; i < k->nval; i++)
		k->val[i]->bits = cuda && k->val[i]->kind == LV_RANDOM;
	for (int i = 0; i < k->nval; i++)
		for (int j = is_chance(k->val[i]); j < k->val[i]->nin; j++)
			k->val[i]->in[j]->bits = false;
	for (int i = 0; i < k->nstore; i++)
		k->store[i].val->bits = false;
}

/* A value is kept if something of a later level along the row uses it. */
void
emit_init(Emit *e, Text *t, Kernel *k, bool cuda)
{
	*e = (Emit){.t = t, .k = k, .cuda = cuda, .store_if = ""};
	e->place = arena_alloc(k->arena, (size_t)k->nval * sizeof *e->place);
	e->saved = arena_alloc(k->arena, (size_t)k->nval);
	e->lanes = ~0u << k->nouter;
	mark_bits(k, cuda);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind == LV_REDUCE || !is_lane(e, v))
			continue;
		for (int j = 0; j < v->nin; j++)
			mark_saved(e, v->in[j], v->level);
		if (v->ix)
			mark_ix(e, v->ix, v->level);
		for (Guard *g = v->guard; g; g = g->up)
			mark_ix(e, g->ix, v->level);
	}
}

static int
find_arg(const Kernel *k, const Node *node, int64_t off)
{
	const Node *base = stored_in(k->fusion, (Node *)node);
	for (int i = 0; i < k->narg; i++)
		if (k->arg[i].node == base && k->arg[i].off == off)
			return i;
	for (int s = 0; s < k->nstore; s++) { /* a state that is updated in place */
		const Layout *l = &k->fusion->layout[k->store[s].node->id];
		if (l->state >= 0 && base->op == P_state && base->at[0] == l->state)
			return find_arg(k, k->store[s].node, 0);
	}
	bug("a kernel reads v%d, which is none of its arguments", base->id);
}

int arg_index(const Kernel *k, const Node *node) { return find_arg(k, node, 0); }
int load_index(const Kernel *k, const LVal *v) { return find_arg(k, v->base, load_start(k, v)); }

static void put_ix(Emit *e, Text *t, const Ix *ix);

static void
put_atom(Emit *e, Text *t, const Atom *a)
{
	char *s;
	switch (a->kind) {
	case AT_AXIS:
		text_printf(t, "i%d", a->axis);
		break;
	case AT_VAL:
		s = val_ref(e, a->val);
		text_printf(t, e->hidden ? "mm_id(mm_hide(%s), %ld)" : "mm_id(%s, %ld)", s, (long)a->hi);
		free(s);
		break;
	default:
		text_puts(t, "((");
		put_ix(e, t, a->of);
		text_printf(t, ") %c %ld)", a->kind == AT_DIV ? '/' : '%', (long)a->n);
	}
}

static void
put_ix(Emit *e, Text *t, const Ix *ix)
{
	bool first = true;
	for (int i = 0; i < ix->n; i++) {
		if (!first)
			text_puts(t, " + ");
		first = false;
		put_atom(e, t, ix->t[i].a);
		if (ix->t[i].k != 1)
			text_printf(t, " * %ld", (long)ix->t[i].k);
	}
	if (ix->c || first)
		text_printf(t, first ? "%ld" : " + %ld", (long)ix->c);
}

char *
ix_text(Emit *e, const Ix *ix)
{
	Text t = {0};
	put_ix(e, &t, ix);
	return t.s;
}

char *
load_text(Emit *e, const LVal *v)
{
	Text t = {0};
	int64_t start = load_start(e->k, v);
	Ix ix = *v->ix;
	ix.c -= start;
	text_printf(&t, "a%d[", find_arg(e->k, v->base, start));
	put_ix(e, &t, &ix);
	text_puts(&t, "]");
	return t.s;
}

static void
put_const(Emit *e, Text *t, const LVal *v)
{
	if (v->dt == DT_BF16 || v->dt == DT_F16)
		text_printf(t, v->f == floor(v->f) ? "(%s)(%.1ff)" : "(%s)(%.9gf)", ctype(v->dt), v->f + 0.0);
	else if (v->dt != DT_F32)
		text_printf(t, v->dt == DT_U32 ? "%.0fu" : "%.0f", v->f);
	else if (isinf(v->f))
		text_puts(t, e->cuda ? (v->f < 0 ? "-MM_INF" : "MM_INF") : (v->f < 0 ? "-INFINITY" : "INFINITY"));
	else if (isnan(v->f))
		text_puts(t, e->cuda ? "__int_as_float(0x7fc00000)" : "NAN");
	else
		text_printf(t, v->f == floor(v->f) && fabs(v->f) < 1e6 ? "%.1ff" : "%.9gf", v->f);
}

char *
val_ref(Emit *e, const LVal *v)
{
	Text t = {0};
	if (v->kind == LV_CONST) {
		if (v->f < 0) {
			text_puts(&t, "(");
			put_const(e, &t, v);
			text_puts(&t, ")");
		} else {
			put_const(e, &t, v);
		}
		return t.s;
	}
	if (v->kind == LV_INDEX) {
		text_puts(&t, "(");
		put_ix(e, &t, v->ix);
		text_puts(&t, ")");
		return t.s;
	}
	text_printf(&t, "v%d", v->id);
	switch (e->place[v->id]) {
	case PL_SAVED: text_printf(&t, "[%s]", e->lane); break;
	case PL_OUTER: text_puts(&t, "[j]"); break;
	case PL_VECTOR: text_puts(&t, "[w]"); break;
	case PL_SHARED: text_printf(&t, "[%s]", e->column); break;
	case PL_PLAIN: break;
	case PL_NONE: bug("value v%d is used before it is computed", v->id);
	}
	return t.s;
}

void
put_guard(Emit *e, Text *t, const Guard *g)
{
	for (const Guard *p = g; p; p = p->up) {
		if (p != g)
			text_puts(t, " && ");
		if (p->ix->lo >= p->lo) { /* only the upper end can be passed */
			put_ix(e, t, p->ix);
			text_printf(t, " < %ld", (long)p->hi);
		} else if (p->ix->hi < p->hi) {
			put_ix(e, t, p->ix);
			text_printf(t, " >= %ld", (long)p->lo);
		} else {
			text_puts(t, "(unsigned)(");
			put_ix(e, t, p->ix);
			text_printf(t, " - %ld) < %ldu", (long)p->lo, (long)(p->hi - p->lo));
		}
	}
}

/* A call of f with seed, step, site and element. */
char *
random_text(Emit *e, const LVal *v, const char *f)
{
	Text t = {0};
	char *a = val_ref(e, v->in[0]), *b = val_ref(e, v->in[1]);
	text_printf(&t, "%s%s, (uint32_t)%s, %ldu, (uint32_t)(", f, a, b, (long)v->node->at[0]);
	put_ix(e, &t, v->ix);
	text_puts(&t, "))");
	free(a);
	free(b);
	return t.s;
}

static bool
put_chance(Emit *e, Text *t, const LVal *v)
{
	const LVal *r = v->in[0], *p = v->in[1];
	if (!e->cuda || !is_chance(v))
		return false;
	Text drawn = {0};
	if (e->drawn && e->drawn[r->id])
		text_printf(&drawn, "r%d[e]", r->id);
	char *bits = drawn.s ? drawn.s : random_text(e, r, "mm_random_bits(");
	double least = ceil((double)(float)p->f * 0x1p24) * 256; /* of the bits that are not */
	text_printf(t, least < 0x1p32 ? "(%s < %.0fu)" : "true", bits, least);
	free(bits);
	return true;
}

/* The spelling of prim.def with its operands put in. Integer division and remainder are total. */
static void
put_prim(Emit *e, Text *t, const LVal *v)
{
	const char *s = prim_info[v->node->op].spell;
	bool isint = v->dt == DT_I32 && (v->node->op == P_div || v->node->op == P_mod);
	if (put_chance(e, t, v))
		return;
	if (v->node->op == P_cast && v->dt == DT_F32 && v->in[0]->kind == LV_DOT && e->k->tile) { /* rounded there */
		text_printf(t, "d%d[n][e]", v->in[0]->id);
		return;
	}
	if (isint)
		s = v->node->op == P_div ? "mm_idiv($0, $1)" : "mm_imod($0, $1)";
	if (e->masks && v->node->op == P_select && v->dt == DT_F32)
		s = "mm_choose($0, $1, $2)";
	if (e->k->tile && v->node->op == P_exp)
		s = "mm_tile_exp($0)";
	if (v->node->op == P_cast) {
		s = v->dt == DT_BOOL ? "($0 != 0)" : "$0";
		text_printf(t, "(%s)", ctype(v->dt));
	}
	for (; *s; s++) {
		if (*s != '$') {
			text_add(t, s, 1);
			continue;
		}
		char *r = val_ref(e, v->in[*++s - '0']);
		text_puts(t, r);
		free(r);
	}
}

char *
val_expr(Emit *e, const LVal *v)
{
	Text t = {0};
	char *a, *b;
	switch (v->kind) {
	case LV_LOAD:
		if (v->guard) {
			put_guard(e, &t, v->guard);
			text_puts(&t, " ? ");
		}
		a = load_text(e, v);
		text_puts(&t, a);
		free(a);
		if (v->guard)
			text_printf(&t, " : (%s)0", ctype(v->dt));
		break;
	case LV_PRIM:
		put_prim(e, &t, v);
		break;
	case LV_RANGE:
		a = val_ref(e, v->in[0]);
		b = val_ref(e, v->in[1]);
		put_guard(e, &t, v->guard);
		text_printf(&t, " ? %s : %s", a, b);
		free(a);
		free(b);
		break;
	case LV_RANDOM:
		if (!e->drawn || !e->drawn[v->id])
			return random_text(e, v, "mm_random(");
		text_printf(&t, "mm_uniform(r%d[e])", v->id);
		break;
	case LV_DOT: /* emit_tile.c */
		text_printf(&t, "(%s)d%d[n][e]", ctype(v->dt), v->id);
		break;
	default:
		bug("no expression for a value");
	}
	return t.s;
}

const char *
reduce_init(const LVal *v)
{
	if (v->node->op != P_reduce_max)
		return v->dt == DT_F32 ? "0.0f" : "0";
	return v->dt == DT_F32 ? NULL : "(-2147483647 - 1)";
}

static void need_val(const Emit *e, bool *need, const LVal *v, int stage);

static void
need_ix(const Emit *e, bool *need, const Ix *ix, int stage)
{
	for (int i = 0; i < ix->n; i++) {
		if (ix->t[i].a->kind == AT_VAL)
			need_val(e, need, ix->t[i].a->val, stage);
		else if (ix->t[i].a->of)
			need_ix(e, need, ix->t[i].a->of, stage);
	}
}

static void
need_val(const Emit *e, bool *need, const LVal *v, int stage)
{
	if (!is_lane(e, v) || need[v->id] || v->kind == LV_CONST)
		return;
	if (v->kind == LV_INDEX)
		return;
	need[v->id] = true;
	if (e->saved[v->id] && v->level < stage)
		return; /* kept */
	for (int i = 0; i < v->nin; i++)
		need_val(e, need, v->in[i], stage);
	if (v->ix)
		need_ix(e, need, v->ix, stage);
	for (const Guard *g = v->guard; g; g = g->up)
		need_ix(e, need, g->ix, stage);
}

void need_value(const Emit *e, bool *need, const LVal *v) { need_val(e, need, v, 0); }

bool
stage_values(Emit *e, int stage, bool *need)
{
	Kernel *k = e->k;
	bool any = false;
	memset(need, 0, (size_t)k->nval);
	for (int i = 0; i < k->nval; i++) {
		LVal *v = k->val[i];
		if (v->kind == LV_REDUCE && v->in[0]->level == stage) {
			need_val(e, need, v->in[0], stage);
			any = true;
		}
		/* what later stages keep is computed in its own */
		if (e->saved[i] && v->level == stage) {
			need_val(e, need, v, stage);
			any = true;
		}
	}
	for (int s = 0; s < k->nstore; s++)
		if (k->store[s].row && k->store[s].val->level == stage) {
			need_val(e, need, k->store[s].val, stage);
			need_ix(e, need, k->store[s].ix, stage);
			any = true;
		}
	return any;
}

void
axis_lines(Emit *e, const char *flat, int first, int n)
{
	int64_t stride = 1;
	for (int i = first + n - 1; i >= first; i--) {
		int64_t size = e->k->size[i];
		if (size == 1)
			emit_line(e, "const int i%d = 0;", i);
		else if (i == first)
			emit_line(e, stride == 1 ? "const int i%d = %s;" : "const int i%d = %s / %ld;", i, flat, (long)stride);
		else if (stride == 1)
			emit_line(e, "const int i%d = %s %% %ld;", i, flat, (long)size);
		else
			emit_line(e, "const int i%d = %s / %ld %% %ld;", i, flat, (long)stride, (long)size);
		stride *= size;
	}
	for (int i = first; i < first + n && !e->cuda; i++)
		emit_line(e, "(void)i%d;", i);
}

/* The names of the ops inside, most telling first, as an identifier. */
const char *
kernel_name(Arena *a, const Kernel *k, int index)
{
	Text t = {0};
	bool seen[NPRIM] = {0};
	int n = 0;
	text_printf(&t, "k%d", index);
	if (k->scatter) {
		text_printf(&t, "_%s", prim_info[k->store[0].node->op].name);
		n = 1;
	}
	if (k->product) {
		text_puts(&t, "_dot");
		n = 1;
	}
	for (int i = k->nval - 1; i >= 0 && n < 4; i--) {
		const LVal *v = k->val[i];
		if (v->kind != LV_PRIM && v->kind != LV_REDUCE && v->kind != LV_RANDOM)
			continue;
		if (seen[v->node->op])
			continue;
		seen[v->node->op] = true;
		text_printf(&t, "_%s", prim_info[v->node->op].name);
		n++;
	}
	if (!n)
		text_puts(&t, "_copy");
	const char *s = arena_strdup(a, t.s);
	free(t.s);
	return s;
}
