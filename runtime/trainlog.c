/* --log: JSON lines, one a chunk of steps and one an epoch. --loss-csv: the losses of every step, %.9g, so that an f32
   reads back exactly. Both continue when a run is resumed; what lies past the resumed step is cut off first. */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The step that a line is about, or -1: "17,0.5,..." or {"event": ..., "step": 17, ...}. */
static int64_t
line_step(const char *line)
{
	const char *p = line[0] == '{' ? strstr(line, "\"step\": ") : line;
	if (!p)
		return -1;
	p += line[0] == '{' ? strlen("\"step\": ") : 0;
	return *p >= '0' && *p <= '9' ? strtoll(p, NULL, 10) : -1;
}

/* Opens for writing; step > 0 keeps the existing lines of steps up to it. A half-written last line goes as well. The rest is
   cut in place: a kill between truncating and rewriting would lose lines. */
static FILE *
open_log(const char *path, int64_t step, Err *e)
{
	char *old = NULL;
	size_t n = 0, keep = 0;
	if (step <= 0 || access(path, F_OK))
		return open_output(path, "w", e);
	if (!read_file(path, &old, &n, e))
		return NULL;
	for (char *p = old, *end; (end = strchr(p, '\n')) && line_step(p) <= step; p = end + 1)
		keep = (size_t)(end + 1 - old);
	free(old);
	if (keep < n && truncate(path, (off_t)keep)) {
		fail(e, "%s: cannot cut it after step %lld: %s", path, (long long)step, strerror(errno));
		return NULL;
	}
	return open_output(path, "a", e);
}

static bool
check_log(const char *option, const char *path, Err *e)
{
	bool there = path && !access(path, F_OK);
	FILE *f = path ? fopen(path, "a") : NULL;
	if (path && !f)
		return fail(e, "%s %s: cannot write: %s: name a file in a folder that is there", option, path, strerror(errno));
	if (f)
		fclose(f);
	if (f && !there)
		unlink(path);
	return true;
}

bool
trainlog_check(const Options *o, Err *e)
{
	return check_log("--log", o->log, e) && check_log("--loss-csv", o->loss_csv, e);
}

bool
trainlog_open(TrainLog *l, const Options *o, const PlanTrain *t, int64_t step, Err *e)
{
	*l = (TrainLog){.json_path = o->log, .csv_path = o->loss_csv};
	if (o->log && !(l->json = open_log(o->log, step, e)))
		return false;
	if (o->loss_csv && !(l->csv = open_log(o->loss_csv, step, e)))
		return false;
	if (l->csv && (fseek(l->csv, 0, SEEK_END) || !ftell(l->csv))) {
		fputs("step", l->csv);
		for (uint32_t i = 0; i < t->nlosses; i++)
			fprintf(l->csv, ",%s", t->losses[i]);
		fputc('\n', l->csv);
	}
	return true;
}

bool
trainlog_losses(TrainLog *l, const PlanTrain *t, int64_t step, const float *loss, Err *e)
{
	if (!l->csv)
		return true;
	fprintf(l->csv, "%lld", (long long)step);
	for (uint32_t i = 0; i < t->nlosses; i++)
		fprintf(l->csv, ",%.9g", loss[i]);
	if (fputc('\n', l->csv) == EOF)
		return fail(e, "%s: cannot write: %s", l->csv_path, strerror(errno));
	return true;
}

bool
trainlog_event(TrainLog *l, json_t *event, Err *e)
{
	bool ok = true;
	if (l->json) {
		ok = !json_dumpf(event, l->json, JSON_REAL_PRECISION(9)) && fputc('\n', l->json) != EOF;
		if (!ok)
			fail(e, "%s: cannot write: %s", l->json_path, strerror(errno));
	}
	json_decref(event);
	return ok;
}

bool
trainlog_flush(TrainLog *l, Err *e)
{
	if (l->csv && fflush(l->csv))
		return fail(e, "%s: cannot write: %s", l->csv_path, strerror(errno));
	if (l->json && fflush(l->json))
		return fail(e, "%s: cannot write: %s", l->json_path, strerror(errno));
	return true;
}

bool
trainlog_close(TrainLog *l, Err *e)
{
	bool ok = close_output(l->csv, l->csv_path, e);
	return close_output(l->json, l->json_path, e) && ok;
}
