/* What a test counts, and a folder of its own. check_count.c */
#ifndef CHECK_COUNT_H
#define CHECK_COUNT_H

#include "../runtime/base.h"

extern int passed, failed, skipped;

/* Counts; a failure is printed, behind its place if there is a file. Returns ok. */
bool check_at(bool ok, const char *file, int line, const char *fmt, ...) PRINTF(4, 5);
#define CHECK(ok) check_at((ok), __FILE__, __LINE__, "%s", #ok)
#define CHECK_SAYS(ok, ...) check_at((ok), __FILE__, __LINE__, __VA_ARGS__)
#define check(ok, ...) check_at((ok), NULL, 0, __VA_ARGS__)

const char *make_folder(void); /* an empty one, which check_end removes with all that is in it; exits where there can be none */
int check_end(void);           /* prints the line that tests/run reads; the status to exit with */

#endif
