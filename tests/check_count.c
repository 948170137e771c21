/* See check_count.h. */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_count.h"

int passed, failed, skipped;
static char made[512];

bool
check_at(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	if (file)
		printf("%s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return false;
}

const char *
make_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	if (snprintf(made, sizeof made, "%s/test-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)sizeof made || !mkdtemp(made)) {
		fprintf(stderr, "no temporary folder: %s\n", made);
		exit(2);
	}
	return made;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(path);
}

int
check_end(void)
{
	if (*made && nftw(made, remove_entry, 8, FTW_DEPTH | FTW_PHYS))
		printf("cannot remove %s\n", made);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
