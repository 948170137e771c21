/* What tests/kernels_test.sh runs: CUDA sources compiled by NVRTC.

     kernels_check                the version of NVRTC
     kernels_check ARCH FILE..    a line for each that does not compile or spills; status 1 if there is one, 77 without NVRTC */
#include <stdlib.h>
#include <string.h>

#include "../runtime/cuda_api.h"

static int
print_version(void)
{
#if HAVE_CUDA
	NvrtcApi api;
	Err e = {0};
	int major, minor;
	if (cuda_open_nvrtc(&api, &e) && !api.nvrtcVersion(&major, &minor)) {
		printf("%d.%d\n", major, minor);
		return 0;
	}
#endif
	return 77;
}

int
main(int argc, char **argv)
{
	int bad = 0;
	if (argc == 1)
		return print_version();
	for (int i = 2; i < argc; i++) {
		char *source = NULL, *code = NULL, *log = NULL;
		size_t n;
		Err e = {0};
		if (read_file(argv[i], &source, &n, &e) && nvrtc_compile(source, argv[1], &code, &n, &log, &e)) {
			int64_t spills = nvrtc_spills(log);
			if (spills) {
				printf("%s for %s: %ld bytes of registers are spilled\n", argv[i], argv[1], (long)spills);
				bad = 1;
			}
		} else if (strstr(e.msg, "without CUDA") || strstr(e.msg, "libnvrtc")) {
			return 77;
		} else {
			printf("%s for %s: %s\n", argv[i], argv[1], e.msg);
			bad = 1;
		}
		free(source);
		free(code);
		free(log);
	}
	return bad;
}
