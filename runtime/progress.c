/* Progress of training: on a terminal a bar that is redrawn in place (stderr), else a plain line now and then (stdout). */
#define _GNU_SOURCE
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_EVERY 0.1  /* seconds between two drawings */
#define LINE_EVERY 10.0 /* seconds between two plain lines */

void
progress_open(Progress *p, int64_t done, int64_t total, int64_t per_epoch, int64_t batch)
{
	const char *term = getenv("TERM");
	*p = (Progress){
		.terminal = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO) && term && strcmp(term, "dumb"),
		.first = done,
		.total = total,
		.per_epoch = per_epoch,
		.batch = batch,
	};
	p->start = p->shown = now_seconds();
}

double
progress_rate(const Progress *p, int64_t step)
{
	double t = now_seconds() - p->start;
	return t > 0 ? (double)((step - p->first) * p->batch) / t : 0;
}

static void
print_duration(char *buf, size_t n, double seconds)
{
	long s = seconds > 0 && seconds < 1e9 ? (long)(seconds + 0.5) : 0;
	if (s >= 3600)
		snprintf(buf, n, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(buf, n, "%ld:%02ld", s / 60, s % 60);
}

void
progress_show(Progress *p, int64_t step, double loss)
{
	enum { WIDTH = 24 };
	char bar[WIDTH + 1], eta[32];
	double now = now_seconds(), rate = progress_rate(p, step);
	int64_t epoch = (step + p->per_epoch - 1) / p->per_epoch, within = step - (epoch - 1) * p->per_epoch;
	int full = (int)(within * WIDTH / p->per_epoch);
	if (now - p->shown < (p->terminal ? BAR_EVERY : LINE_EVERY))
		return;
	p->shown = now;
	print_duration(eta, sizeof eta, rate > 0 ? (double)((p->total - step) * p->batch) / rate : 0);
	if (!p->terminal) {
		printf("step %lld/%lld  loss %.4f  %.0f rows/s  ETA %s\n", (long long)step, (long long)p->total, loss, rate, eta);
		fflush(stdout);
		return;
	}
	for (int i = 0; i < WIDTH; i++)
		bar[i] = i < full ? '=' : i == full ? '>' : ' ';
	bar[WIDTH] = 0;
	fprintf(stderr, "\r\033[Kepoch %lld/%lld [%s] loss %.4f  %.0f rows/s  ETA %s", (long long)epoch,
	        (long long)(p->total / p->per_epoch), bar, loss, rate, eta);
	p->drawn = true;
}

void
progress_clear(Progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
