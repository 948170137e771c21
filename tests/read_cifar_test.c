/* Tables of pictures in the format of CIFAR-10. With MMC_DATA real ones, too. */
#include "check_reader.h"

static void
test_cifar(void)
{
	uint8_t file[2 * 3073];
	for (size_t i = 0; i < sizeof file; i++)
		file[i] = (uint8_t)(i * 7);
	file[0] = 3;
	file[3073] = 9;
	put_gz("c.bin.gz", file, sizeof file);
	Case *c = CASE(TB_CIFAR, "c.bin.gz");
	add_tensor(c, "image", DT_U8, 0, 32, 32, 3);
	add_class(c, "label", 10);
	if (BUILDS(c)) {
		const uint8_t *v = bytes(c, 0);
		CHECK(c->ds.rows == 2 && ids(c, 1)[0] == 3 && ids(c, 1)[1] == 9);
		CHECK(v[0] == file[1] && v[1] == file[1 + 1024] && v[2] == file[1 + 2048] && v[3] == file[2]); /* planes become channels */
		CHECK(v[3072 + 3071] == file[2 * 3073 - 1]);
	}
	drop(c);
	put("cut.bin", file, sizeof file - 1);
	file[3073] = 10;
	put("bad.bin", file, sizeof file);
	static const char *const bad[][2] = {{"cut.bin", "cut off within a record: 6145 bytes"}, {"bad.bin", "record 1 has label 10"}};
	for (size_t i = 0; i < LEN(bad); i++) {
		c = CASE(TB_CIFAR, bad[i][0]);
		add_class(c, "label", 10);
		add_tensor(c, "image", DT_U8, 0, 32, 32, 3);
		FAILS(c, bad[i][1]);
	}
}

static void
test_real(void)
{
	Case *c = CASE(TB_CIFAR, "cifar10/first5000.bin.gz");
	c->d.base = (char *)(uintptr_t)real_data();
	if (BUILDS(c))
		CHECK(c->ds.rows == 5000);
	drop(c);
}

int
main(void)
{
	tmp = make_folder();
	test_cifar();
	if (real_data())
		test_real();
	return check_end();
}
