/* NVRTC: cubins for a GPU that need not be there, what ptxas says of registers and spills, errors. */
#include "check_device.h"

#include <stdlib.h>
#include <string.h>

static void
test_nvrtc(void)
{
	char *cubin = NULL, *log = NULL;
	size_t n = 0;
	Err e = {0};
	if (!nvrtc_compile(count_cu, "sm_90", &cubin, &n, &log, &e)) {
		CHECK_SAYS(strstr(e.msg, "cannot"), "%s", e.msg);
		skipped++;
		return;
	}
	CHECK_SAYS(n > 64 && !memcmp(cubin, "\177ELF", 4), "a cubin of %zu bytes", n);
	CHECK_SAYS(strstr(log, "registers") && nvrtc_spills(log) == 0, "no ptxas report: %s", log);
	free(cubin);
	free(log);
	/* 64 live values in 32 registers must spill */
	const char *spill = "extern \"C\" __global__ void __launch_bounds__(1024, 2) spill(float *x, int n) {\n\tfloat a[64];\n"
	                    "#pragma unroll\n\tfor (int i = 0; i < 64; i++) a[i] = x[i * 1024 + threadIdx.x];\n\tfor (int r = 0; r < n; r++)\n"
	                    "#pragma unroll\n\t\tfor (int i = 0; i < 64; i++) a[i] = a[i] * a[(i * 37 + 5) % 64] + x[r];\n"
	                    "#pragma unroll\n\tfor (int i = 0; i < 64; i++) x[i * 1024 + threadIdx.x] = a[i];\n}\n";
	for (int i = 0; i < 2; i++) { /* twice: NVRTC's own cache must not swallow the report */
		Err e2 = {0};
		if (!CHECK_SAYS(nvrtc_compile(spill, "sm_90", &cubin, &n, &log, &e2), "%s", e2.msg))
			continue;
		CHECK_SAYS(nvrtc_spills(log) > 0, "spills are not seen: %s", log);
		free(cubin);
		free(log);
	}
	CHECK_SAYS(nvrtc_spills("nothing") == -1, "spills from nowhere");
	Err e3 = {0}, e4 = {0}, e5 = {0};
	CHECK_SAYS(!nvrtc_compile("__global__ void f() { wrong_word; }", "sm_90", &cubin, &n, NULL, &e3), "a broken source compiles");
	CHECK_MSG(e3, "wrong_word");
	CHECK_SAYS(!nvrtc_compile(count_cu, "sm_1", &cubin, &n, NULL, &e4), "sm_1 compiles");
	CHECK_MSG(e4, "sm_1");
	const char *bf16 = "#include <cuda_bf16.h>\nextern \"C\" __global__ void f(__nv_bfloat16 *x) { *x = __float2bfloat16(1.f); }\n";
	if (CHECK_SAYS(nvrtc_compile(bf16, "sm_80", &cubin, &n, NULL, &e5), "%s", e5.msg))
		free(cubin);
}

int
main(void)
{
	test_nvrtc();
	return check_end();
}
