/* One compile: what the passes of main.c work on. */
#ifndef COMPILE_H
#define COMPILE_H

#include "codegen.h"

typedef struct CompileOptions {
	const char *model, *out, *target, *arch, *precision, *dump, *skip, *emit_dir, *graph_svg, *graph_in, *ops;
	int64_t batch;
	bool no_fuse, no_reuse, no_library, no_trace, explain, mem, check, help_ops;
} CompileOptions;

typedef struct Unit {
	Arena *arena;
	const CompileOptions *o;
	Model *model;
	Lib *lib;
	Graph *graph[8];   /* train, accumulate if a step has parts, then eval at each batch size */
	int ngraph;
	Places places;
	Plan *plan;
	Text explain;
} Unit;

/* plan.c of the compiler */
void unit_data(Unit *u);     /* schema, training options */
bool unit_programs(Unit *u); /* a program set for each target */
bool unit_write(Unit *u);    /* verified, then written whole */
void unit_explain(const Unit *u, FILE *f); /* each decision once, with how often it was taken */
void unit_memory_report(const Unit *u, FILE *f);

#endif
