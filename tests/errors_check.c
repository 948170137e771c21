/* What tests/errors_test.sh runs for what is too much for processes: a plan cut at every length, and with every byte changed
   in two ways, read and verified. All must be refused with a message.

     errors_check PLAN    prints how many damaged copies were refused; status 1 and a line for each that was not */
#include <stdlib.h>
#include <string.h>

#include "../runtime/plan.h"

static bool
accepts(const void *bytes, size_t n)
{
	Arena a = {0};
	Err e = {0};
	Plan *p = plan_decode(&a, bytes, n, &e);
	bool ok = p && plan_verify(p, &e);
	if (!ok && !e.msg[0])
		printf("refused without a message\n");
	arena_free(&a);
	return ok;
}

int
main(int argc, char **argv)
{
	char *s;
	size_t n;
	Err e = {0};
	int bad = 0, tried = 0;
	if (argc != 2 || !read_file(argv[1], &s, &n, &e)) {
		printf("errors_check PLAN: %s\n", e.msg);
		return 1;
	}
	if (!accepts(s, n)) {
		printf("%s: refused as it is\n", argv[1]);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		char was = s[i];
		for (int k = 0; k < 2; k++, tried++) {
			s[i] = (char)(was ^ (k ? 0xff : 1 << i % 8));
			if (accepts(s, n) && ++bad < 20)
				printf("%s: accepted with byte %zu changed from %d to %d\n", argv[1], i, was, s[i]);
		}
		s[i] = was;
		char *cut = xmalloc(i + 1); /* of its exact size, so that a read past the end is seen */
		memcpy(cut, s, i);
		if (accepts(cut, i) && ++bad < 20)
			printf("%s: accepted when cut to %zu bytes\n", argv[1], i);
		free(cut);
		tried++;
	}
	free(s);
	printf("%d damaged copies, %d accepted\n", tried, bad);
	return bad > 0;
}
