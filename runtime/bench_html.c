/* The page of mmrun bench --html: one file without references to others, as HTML that is well-formed XML, too. Figures are SVG in the page;
   the script only marks what belongs together and sorts the table, so without it all is there. Colours of kinds: Okabe and Ito
   2008, told apart by people with colour blindness; variables of the style sheet change where dark is preferred. */
#include "bench.h"
#include "html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDE 1160 /* pixels of a figure */
#define LEFT 70   /* of the labels of its vertical axis */

/* What the figures draw: a bench with what they share. */
typedef struct Page {
	Arena arena;
	Text *t;
	const Bench *b;
	const Ceilings *c;
} Page;

static const char style[] =
	":root{--page:#ffffff;--card:#f5f7f9;--ink:#1f2933;--soft:#5f6b7a;--line:#d5dbe1;--kernel:#0072b2;--gemm:#d98c00;--copy:#009e73;--zero:#7b8794;"
	"--mark:#d55e00}\n"
	"@media (prefers-color-scheme:dark){:root{--page:#0d1117;--card:#161b22;--ink:#e6edf3;--soft:#9aa7b5;--line:#313841;--kernel:#4aa3dc;--gemm:#e8a93a;"
	"--copy:#2fbf95;--zero:#98a4b0;--mark:#f08a4b}}\n"
	"body{margin:0 auto;padding:24px;max-width:1200px;background:var(--page);color:var(--ink);"
	"font:14px/1.45 ui-sans-serif,system-ui,'Segoe UI','Helvetica Neue',Arial,'DejaVu Sans',sans-serif}\n"
	"h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:32px 0 4px}p{margin:2px 0 8px;color:var(--soft)}\n"
	".tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 14px}\n"
	".tile b{display:block;font-size:19px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:12px}\n"
	"svg{display:block;width:100%;height:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}\n"
	"svg text{font-size:11px;fill:var(--soft);pointer-events:none;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-opacity:.8}"
	"svg text.in{fill:var(--ink)}svg .grid{stroke:var(--line);stroke-width:1}\n"
	"svg .roof{stroke:var(--ink);stroke-width:1.5;fill:none}svg .live{stroke:var(--ink);stroke-width:1.5;fill:none;pointer-events:none}"
	"svg .least{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:6 4}\n"
	".kernel{fill:var(--kernel);color:var(--kernel)}.gemm{fill:var(--gemm);color:var(--gemm)}.copy{fill:var(--copy);color:var(--copy)}"
	".zero,.loop{fill:var(--zero);color:var(--zero)}\n"
	"svg rect.critical{fill:var(--mark)}svg [data-i]{cursor:pointer}svg rect[data-i]{stroke:var(--card);stroke-width:.5}"
	"svg circle[data-i]{fill-opacity:.75}svg .life{fill-opacity:.7}svg .shade{fill-opacity:.35}\n"
	"svg .on{stroke:var(--ink);stroke-width:2}tr.on{background:var(--card)}\n"
	".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}th,td{padding:3px 8px;border-bottom:1px solid var(--line);text-align:left}\n"
	"th{position:sticky;top:0;background:var(--page);cursor:pointer;white-space:nowrap}th:hover{color:var(--mark)}"
	".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.where{color:var(--soft)}\n"
	".key i{display:inline-block;width:10px;height:10px;border-radius:2px;background:currentColor;margin:0 5px 0 14px}.key span{color:var(--soft)}\n";

/* Without the characters that XML wants escaped and HTML does not unescape in a script. */
static const char script[] =
	"(function(){\n"
	"var each=function(list,f){Array.prototype.forEach.call(list,f);};\n"
	"var mark=function(id,on){each(document.querySelectorAll('[data-i=\"'+id+'\"]'),function(x){x.classList.toggle('on',on);});};\n"
	"['mouseover','mouseout'].forEach(function(kind){document.addEventListener(kind,function(e){\n"
	"var x=e.target.closest('[data-i]');if(x)mark(x.getAttribute('data-i'),kind==='mouseover');});});\n"
	"each(document.querySelectorAll('svg [data-i]'),function(x){x.addEventListener('click',function(){\n"
	"var row=document.querySelector('tr[data-i=\"'+x.getAttribute('data-i')+'\"]');if(row)row.scrollIntoView({block:'center',behavior:'smooth'});});});\n"
	"each(document.querySelectorAll('th'),function(th,column){var down=true;th.addEventListener('click',function(){\n"
	"var body=th.closest('table').tBodies[0];var value=function(row){return row.cells[column].getAttribute('data-v');};\n"
	"Array.prototype.slice.call(body.rows).sort(function(x,y){var a=value(x),b=value(y);\n"
	"var order=isNaN(a)?b.localeCompare(a):b-a;return down?order:-order;}).forEach(function(row){body.appendChild(row);});down=!down;});});\n"
	"})();\n";

/* ---- small parts ---- */

static double
share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

/* "123 ms", in the arena of the page. */
static const char *
with_unit(Page *p, double v, const char *unit)
{
	char buf[32];
	return arena_printf(&p->arena, "%s%s", html_si(buf, v), unit);
}

/* What a pointer over an instruction shows. */
static void
put_hover(Page *p, uint32_t i)
{
	const Cost *c = &p->b->cost[i];
	text_puts(p->t, "<title>");
	html_text(p->t, arena_printf(&p->arena, "%u: %s\n", i, instr_title(&p->arena, &p->b->p->instr[i])));
	html_text(p->t, arena_printf(&p->arena, "%s, %.1f %% of all; bound %s, %.0f %% achieved\n", with_unit(p, c->seconds, "s"),
	                             100 * share(c->seconds, p->b->sum), with_unit(p, c->bound, "s"), 100 * share(c->bound, c->seconds)));
	html_text(p->t, arena_printf(&p->arena, "%s, %s; ", with_unit(p, c->bytes, "B"), with_unit(p, c->flops, "FLOP")));
	html_text(p->t, arena_printf(&p->arena, "%s, %s", with_unit(p, share(c->bytes, c->seconds), "B/s"), with_unit(p, share(c->flops, c->seconds), "FLOP/s")));
	text_puts(p->t, "</title>");
}

static const char *
kind_of(const Page *p, uint32_t i)
{
	return instr_kinds[p->b->p->instr[i].kind];
}

static void
put_section(Page *p, const char *title, const char *what)
{
	text_printf(p->t, "<h2>%s</h2>\n<p>%s</p>\n", title, what);
}

static void
put_svg(Page *p, const char *id, int height)
{
	text_printf(p->t, "<svg id=\"%s\" viewBox=\"0 0 %d %d\" role=\"img\">\n", id, WIDE, height);
}

static void
put_label(Page *p, double x, double y, const char *anchor, const char *s)
{
	text_printf(p->t, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	html_text(p->t, s);
	text_puts(p->t, "</text>\n");
}

static void
put_line(Page *p, const char *class, double x0, double y0, double x1, double y1)
{
	text_printf(p->t, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x0, y0, x1, y1);
}

static void
put_rect(Page *p, const char *class, uint32_t i, double x, double y, double w, double h)
{
	text_printf(p->t, "<rect class=\"%s\" data-i=\"%u\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\">", class, i, x, y, w < 0.4 ? 0.4 : w, h);
	put_hover(p, i);
	text_puts(p->t, "</rect>\n");
}

/* ---- figures at the top ---- */

static void
put_tile(Page *p, const char *value, const char *what)
{
	text_puts(p->t, "<div class=\"tile\"><b>");
	html_text(p->t, value);
	text_puts(p->t, "</b><span>");
	html_text(p->t, what);
	text_puts(p->t, "</span></div>\n");
}

static void
put_memory_tiles(Page *p)
{
	static const char *const what[NSPACE] = {"parameters", "optimizer state", "statistics", "activations", "workspace", "data"};
	text_puts(p->t, "<div class=\"tiles\" id=\"memory\">\n");
	for (int k = 0; k < NSPACE; k++)
		put_tile(p, with_unit(p, (double)(k == SP_DATA ? p->b->s.data_bytes : p->b->s.bytes[k]), "B"), what[k]);
	text_puts(p->t, "</div>\n");
}

static void
put_ceiling_tiles(Page *p)
{
	text_puts(p->t, "<div class=\"tiles\" id=\"ceilings\">\n");
	for (int i = 0; i < NCOPY; i++)
		if (p->c->bandwidth[i] > 0)
			put_tile(p, with_unit(p, p->c->bandwidth[i], "B/s"), arena_printf(&p->arena, "copy of %s", with_unit(p, (double)p->c->bytes[i], "B")));
	for (uint32_t i = 0; i < p->c->nrate; i++)
		put_tile(p, with_unit(p, p->c->rate[i].flops, "FLOP/s"), arena_printf(&p->arena, "%s product", rate_name(&p->c->rate[i])));
	text_puts(p->t, "</div>\n");
}

static void
put_figures(Page *p)
{
	const Bench *b = p->b;
	double step = bench_ms(b) / 1e3;
	text_puts(p->t, "<h1>");
	html_text(p->t, arena_printf(&p->arena, "%s: program %s, batch %lld", b->s.plan->model, b->p->name, (long long)b->p->batch));
	text_puts(p->t, "</h1>\n<p>");
	html_text(p->t, arena_printf(&p->arena, "%s, %s; compiled by %s", b->s.device->name, b->s.device->info, b->s.plan->compiler));
	text_puts(p->t, "</p>\n<div class=\"tiles\" id=\"step\">\n");
	put_tile(p, with_unit(p, step, "s"), arena_printf(&p->arena, "a step: median of %lld windows, %.4f to %.4f ms", (long long)b->nwindow, b->ms[0], b->ms[b->nwindow - 1]));
	put_tile(p, with_unit(p, (double)b->rows / step, ""), "rows a second");
	if (b->step.parts == 1)
		put_tile(p, arena_printf(&p->arena, "%.0f %%", 100 * share(b->bound_sum, step)), "of the sum of bounds achieved");
	put_tile(p, with_unit(p, b->bound_sum, "s"), "bounds of all instructions");
	put_tile(p, with_unit(p, b->bound_chain, "s"), "bounds of their longest chain");
	put_tile(p, with_unit(p, b->sum, "s"), "all instructions, each alone");
	put_tile(p, with_unit(p, b->chain, "s"), "the longest chain of them");
	put_tile(p, arena_printf(&p->arena, "%.3g", b->launches), "launches a step");
	text_puts(p->t, "</div>\n");
	put_memory_tiles(p);
}

static void
put_key(Page *p)
{
	text_puts(p->t, "<p class=\"key\">");
	for (int k = I_KERNEL; k < I_LOOP; k++)
		text_printf(p->t, "<i class=\"%s\"></i><span>%s</span>", instr_kinds[k], instr_kinds[k]);
	text_puts(p->t, "</p>\n");
}

/* ---- timeline ---- */

/* As much of a text of one byte a character as fits into `width` pixels. */
static void
put_inside(Page *p, double x, double y, double width, const char *s)
{
	size_t n = width > 30 ? (size_t)((width - 8) / 6.2) : 0;
	if (n < 3)
		return;
	text_printf(p->t, "<text class=\"in\" x=\"%.1f\" y=\"%.1f\">", x + 4, y);
	html_text(p->t, arena_strndup(&p->arena, s, strlen(s) < n ? strlen(s) : n));
	text_puts(p->t, "</text>\n");
}

static void
put_timeline(Page *p)
{
	const Bench *b = p->b;
	double at = 0, end = b->sum > 0 ? b->sum : 1e-9, step = nice_step(end, 10);
	Axis x = {0, end, 12, WIDE - 24, false};
	put_section(p, "One step", "Instructions in order, each as long as it takes alone. The darker part is the share of the bound that it achieves; marked along the top: the "
	                           "longest chain of those that wait for each other.");
	put_svg(p, "timeline", 104);
	for (double v = 0; v <= end * 1.0001; v += step) {
		put_line(p, "grid", axis_at(&x, v), 8, axis_at(&x, v), 84);
		put_label(p, axis_at(&x, v), 98, "middle", with_unit(p, v, "s"));
	}
	for (uint32_t i = 0; i < b->p->ninstr; i++) {
		const Cost *c = &b->cost[i];
		double x0 = axis_at(&x, at), w = axis_at(&x, at + c->seconds) - x0, part = fmin(1, share(c->bound, c->seconds));
		if (b->p->instr[i].kind == I_LOOP)
			continue;
		put_rect(p, arena_printf(&p->arena, "shade %s", kind_of(p, i)), i, x0, 22, w, 60);
		put_rect(p, kind_of(p, i), i, x0, 22 + 60 * (1 - part), w, 60 * part);
		if (c->critical)
			put_rect(p, "critical", i, x0, 14, w, 5);
		put_inside(p, x0, 56, w, b->p->instr[i].what);
		at += c->seconds;
	}
	text_puts(p->t, "</svg>\n");
	put_key(p);
}

/* ---- roofline ---- */

typedef struct Roof {
	Axis x, y; /* FLOP a byte, FLOP a second */
} Roof;

static bool
on_roofline(const Cost *c)
{
	return c->bytes > 0 && c->flops > 0 && c->seconds > 0;
}

static void
include(Axis *a, double v)
{
	if (v > 0 && isfinite(v)) {
		a->lo = fmin(a->lo, pow(10, floor(log10(v))));
		a->hi = fmax(a->hi, pow(10, ceil(log10(v) + 1e-9)));
	}
}

/* The range of all points, of the ceilings, and of where they meet. */
static Roof
fit_roof(const Page *p, int height)
{
	Roof r = {{0.1, 10, LEFT, WIDE - LEFT - 20, true}, {1e30, 1e9, height - 30, -(height - 56), true}};
	for (uint32_t i = 0; i < p->b->p->ninstr; i++) {
		const Cost *c = &p->b->cost[i];
		if (!on_roofline(c))
			continue;
		include(&r.x, c->flops / c->bytes);
		include(&r.y, c->flops / c->seconds);
	}
	for (uint32_t i = 0; i < p->c->nrate; i++) {
		include(&r.y, p->c->rate[i].flops);
		include(&r.x, 2 * share(p->c->rate[i].flops, ceilings_bandwidth(p->c, 1e30)));
	}
	r.y.lo = fmin(r.y.lo, r.y.hi / 10);
	return r;
}

static void
put_decades(Page *p, const Roof *r)
{
	double top = r->y.at + r->y.length, right = r->x.at + r->x.length;
	for (double v = r->x.lo; v <= r->x.hi * 1.01; v *= 10) {
		put_line(p, "grid", axis_at(&r->x, v), r->y.at, axis_at(&r->x, v), top);
		put_label(p, axis_at(&r->x, v), r->y.at + 14, "middle", arena_printf(&p->arena, "%g", v));
	}
	for (double v = r->y.lo; v <= r->y.hi * 1.01; v *= 10) {
		put_line(p, "grid", r->x.at, axis_at(&r->y, v), right, axis_at(&r->y, v));
		put_label(p, r->x.at - 6, axis_at(&r->y, v) + 4, "end", with_unit(p, v, ""));
	}
	put_label(p, right, r->y.at + 27, "end", "FLOP a byte");
	put_label(p, 8, top - 10, "start", "FLOP a second");
}

/* The sloped roof of a bandwidth, from the lower left to the highest rate. */
static void
put_bandwidth(Page *p, const Roof *r, double bandwidth, double rate, const char *label)
{
	double x0 = fmax(r->x.lo, r->y.lo / bandwidth), x1 = fmin(r->x.hi, rate / bandwidth);
	if (!(bandwidth > 0) || x1 <= x0)
		return;
	put_line(p, "roof", axis_at(&r->x, x0), axis_at(&r->y, x0 * bandwidth), axis_at(&r->x, x1), axis_at(&r->y, x1 * bandwidth));
	double x = axis_at(&r->x, x0) + 8, y = axis_at(&r->y, x0 * bandwidth) - 10;
	double slope = (axis_at(&r->y, x1 * bandwidth) - axis_at(&r->y, x0 * bandwidth)) / (axis_at(&r->x, x1) - axis_at(&r->x, x0));
	text_printf(p->t, "<g transform=\"rotate(%.2f %.1f %.1f)\">", atan(slope) * 180 / acos(-1.0), x, y);
	put_label(p, x, y, "start", label);
	text_puts(p->t, "</g>\n");
}

static void
put_roofs(Page *p, const Roof *r)
{
	const Ceilings *c = p->c;
	double right = r->x.at + r->x.length, most = 0, near = ceilings_bandwidth(c, 0), far = ceilings_bandwidth(c, 1e30);
	for (uint32_t i = 0; i < c->nrate; i++) {
		double f = c->rate[i].flops;
		most = fmax(most, f);
		if (!(f > 0) || !(near > 0))
			continue;
		put_line(p, "roof", axis_at(&r->x, fmax(r->x.lo, f / near)), axis_at(&r->y, f), right, axis_at(&r->y, f));
		put_label(p, right - 4, axis_at(&r->y, f) - 5, "end", arena_printf(&p->arena, "%s product %s", rate_name(&c->rate[i]), with_unit(p, f, "FLOP/s")));
	}
	put_bandwidth(p, r, far, most, arena_printf(&p->arena, "memory %s", with_unit(p, far, "B/s")));
	if (near > far * 1.2)
		put_bandwidth(p, r, near, most, arena_printf(&p->arena, "nearest cache %s", with_unit(p, near, "B/s")));
}

static void
put_roofline(Page *p)
{
	int height = 440;
	Roof r = fit_roof(p, height);
	put_section(p, "Roofline", "A point is an instruction; its area is its share of the time. Below the sloped lines it is bound by what moves, right of them by "
	                           "arithmetic. Instructions that move or compute nothing are not shown.");
	put_svg(p, "roofline", height);
	put_decades(p, &r);
	for (uint32_t i = 0; i < p->b->p->ninstr; i++) {
		const Cost *c = &p->b->cost[i];
		if (!on_roofline(c))
			continue;
		text_printf(p->t, "<circle class=\"%s\" data-i=\"%u\" cx=\"%.2f\" cy=\"%.2f\" r=\"%.2f\">", kind_of(p, i), i, axis_at(&r.x, c->flops / c->bytes),
		            axis_at(&r.y, c->flops / c->seconds), 3 + 22 * sqrt(share(c->seconds, p->b->sum)));
		put_hover(p, i);
		text_puts(p->t, "</circle>\n");
	}
	put_roofs(p, &r);
	text_puts(p->t, "</svg>\n");
	put_ceiling_tiles(p);
}

/* ---- memory over the step ---- */

static void
put_memory_axes(Page *p, const Axis *x, const Axis *y)
{
	double step = nice_step(y->hi, 6);
	for (double v = 0; v <= y->hi; v += step) {
		put_line(p, "grid", x->at, axis_at(y, v), x->at + x->length, axis_at(y, v));
		put_label(p, x->at - 6, axis_at(y, v) + 4, "end", with_unit(p, v, "B"));
	}
	step = fmax(1, nice_step(x->hi, 12));
	for (double v = 0; v <= x->hi; v += step)
		put_label(p, axis_at(x, v), y->at + 14, "middle", arena_printf(&p->arena, "%.0f", v));
	put_label(p, x->at + x->length, y->at + 27, "end", "instruction");
}

/* Bytes that hold a value, at each instruction; and the compiler's bound for whole buffers. */
static void
put_live(Page *p, const Axis *x, const Axis *y, const Life *l, uint32_t n)
{
	double least = axis_at(y, (double)p->b->p->act_bound);
	text_puts(p->t, "<path class=\"live\" d=\"");
	for (uint32_t i = 0; i < p->b->p->ninstr; i++) {
		double v = axis_at(y, (double)lives_bytes(l, n, i));
		text_printf(p->t, "%c%.1f %.1fH%.1f", i ? 'L' : 'M', axis_at(x, i), v, axis_at(x, i + 1));
	}
	text_puts(p->t, "\"/>\n");
	put_line(p, "least", x->at, least, x->at + x->length, least);
}

static void
put_memory(Page *p)
{
	const PlanProgram *g = p->b->p;
	int height = 400;
	uint32_t n;
	put_section(p, "Activations over the step", "A rectangle is a place in the arena, from the instruction that writes a value there to the last that reads it, in the colour of the one "
	                                            "that writes. The line: bytes that hold a value. Dashed: the least arena for whole buffers; one that is written in parts, as gradients for one "
	                                            "optimizer kernel are, is whole from its first part on.");
	if (!g->act_bytes || !g->ninstr) {
		text_puts(p->t, "<p>This program has none.</p>\n");
		return;
	}
	Axis x = {0, g->ninstr, LEFT, WIDE - LEFT - 20, false}, y = {0, (double)g->act_bytes, height - 30, -(height - 44), false};
	Life *l = program_lives(g, &n);
	put_svg(p, "map", height);
	put_memory_axes(p, &x, &y);
	for (uint32_t i = 0; i < n; i++) {
		double x0 = axis_at(&x, l[i].first), top = axis_at(&y, (double)l[i].hi);
		text_printf(p->t, "<rect class=\"life %s\" data-i=\"%u\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"><title>", kind_of(p, l[i].first), l[i].first,
		            x0, top, axis_at(&x, l[i].last + 1.0) - x0, axis_at(&y, (double)l[i].lo) - top);
		html_text(p->t, arena_printf(&p->arena, "%s at %llu\nwritten by %u: %s\n", with_unit(p, (double)(l[i].hi - l[i].lo), "B"), (unsigned long long)l[i].lo,
		                             l[i].first, instr_title(&p->arena, &g->instr[l[i].first])));
		html_text(p->t, arena_printf(&p->arena, "last used by %u: %s", l[i].last, instr_title(&p->arena, &g->instr[l[i].last])));
		text_puts(p->t, "</title></rect>\n");
	}
	put_live(p, &x, &y, l, n);
	text_puts(p->t, "</svg>\n");
	free(l);
}

/* ---- table ---- */

static void
put_cell(Page *p, double v, double scale, int digits, const char *unit)
{
	text_printf(p->t, "<td class=\"n\" data-v=\"%.9g\">%.*f%s</td>", v, digits, v * scale, unit);
}

static void
put_name(Page *p, const char *class, const char *s)
{
	text_printf(p->t, "<td class=\"%s\" data-v=\"", class);
	html_text(p->t, s);
	text_puts(p->t, "\">");
	html_text(p->t, s);
	text_puts(p->t, "</td>");
}

static void
put_row(Page *p, uint32_t i)
{
	const PlanInstr *in = &p->b->p->instr[i];
	const Cost *c = &p->b->cost[i];
	text_printf(p->t, "<tr data-i=\"%u\">", i);
	put_cell(p, i, 1, 0, "");
	put_name(p, "", in->what);
	put_name(p, "where", in->loc);
	put_name(p, "", kind_of(p, i));
	put_cell(p, c->seconds, 1e6, 2, c->critical ? "*" : "");
	put_cell(p, share(c->seconds, p->b->sum), 100, 1, " %");
	put_cell(p, c->bound, 1e6, 2, "");
	put_cell(p, share(c->bound, c->seconds), 100, 0, " %");
	put_cell(p, c->bytes, 1e-6, 3, "");
	put_cell(p, c->flops, 1e-6, 3, "");
	put_cell(p, share(c->bytes, c->seconds), 1e-9, 1, "");
	put_cell(p, share(c->flops, c->seconds), 1e-9, 1, "");
	text_puts(p->t, "</tr>\n");
}

static void
put_table(Page *p)
{
	static const char *const head[] = {"#", "what", "model line", "kind", "\xc2\xb5s", "share", "bound \xc2\xb5s", "achieved", "MB", "MFLOP", "GB/s", "GFLOP/s"};
	put_section(p, "Instructions", "Of a loop, all iterations together. *: on the longest chain. A click on a column sorts by it.");
	text_puts(p->t, "<div class=\"scroll\"><table id=\"instrs\"><thead><tr>");
	for (size_t i = 0; i < LEN(head); i++)
		text_printf(p->t, "<th%s>%s</th>", i == 0 || i > 3 ? " class=\"n\"" : "", head[i]);
	text_puts(p->t, "</tr></thead><tbody>\n");
	for (uint32_t i = 0; i < p->b->p->ninstr; i++)
		put_row(p, i);
	text_puts(p->t, "</tbody></table></div>\n");
}

void
bench_page(Text *t, const Bench *b, const Ceilings *c)
{
	Page p = {.t = t, .b = b, .c = c};
	text_puts(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n"
	             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
	html_text(t, b->s.plan->model);
	text_printf(t, ": one step</title>\n<style>\n%s</style>\n</head>\n<body>\n", style);
	put_figures(&p);
	put_timeline(&p);
	put_roofline(&p);
	put_memory(&p);
	put_table(&p);
	text_printf(t, "<script>\n%s</script>\n</body>\n</html>\n", script);
	arena_free(&p.arena);
}
