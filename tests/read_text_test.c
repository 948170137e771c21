/* Tables of text: lines, windows of bytes, values parted by tabs; folds and orders of their rows. With MMC_DATA real sentences, too. */
#include "check_reader.h"

#include <stdlib.h>
#include <string.h>

static Case *
reviews(const char *pos, const char *neg)
{
	static char a[64], b[64];
	snprintf(a, sizeof a, "pos=%s", pos);
	snprintf(b, sizeof b, "neg=%s", neg);
	Case *c = CASE(TB_LINES, a, b);
	c->input[c->d.ninput++] = (PlanInput){.name = "text", .kind = IN_TEXT, .from = "text", .width = 3, .size = 20, .ids = 1, .min_count = 1, .loc = "m.yaml:9:3"};
	add_class(c, "label", 2);
	return c;
}

static void
test_lines(void)
{
	PUTS("pos", "a fine film\r\n\nanother\n");
	PUTS("neg", "caf\xe9 society\nno end");
	Case *c = reviews("pos", "neg");
	c->table.latin1 = 1;
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 4 && !strcmp(c->ds.key[1], "pos:3") && !strcmp(c->ds.key[3], "neg:2"));
		char buf[24];
		CHECK(ids(c, 1)[0] == 1 && ids(c, 1)[3] == 0 && !strcmp(fit_class_name(c->fit, &c->d, 0, 1, buf), "pos")); /* in order: neg, pos */
		CHECK(strstr(c->report, "2 classes, 50.0 to 50.0 % of train"));
	}
	drop(c);
	FAILS(reviews("pos", "neg"), "neg:1: not UTF-8 from character 4 on; is it `encoding: latin1`?");
	c = reviews("pos", "pos");
	c->target[0].label = (char *[]){"pos", "negative"};
	c->target[0].nlabel = 2;
	FAILS(c, "target y: 'neg' at |pos:1 is none of its classes");
}

/* Every row tests in exactly one fold; classes keep their shares. */
static void
test_folds(void)
{
	Text all = {0};
	int seen[40] = {0};
	for (int i = 0; i < 40; i++)
		text_printf(&all, "row %d\n", i);
	put("many", all.s, all.n);
	free(all.s);
	for (int fold = 1; fold <= 4; fold++) {
		Case *c = reviews("many", "pos");
		c->d.stratify = "label";
		c->d.folds = 4;
		c->d.fold = fold;
		c->d.train = 0.9;
		c->d.val = 0.1;
		if (BUILDS(c)) {
			int64_t test = c->ds.split[3] - c->ds.split[2];
			CHECK(test == 10 || test == 11);
			CHECK(c->ds.split[2] - c->ds.split[1] == 3);
			for (int64_t r = c->ds.split[2]; r < c->ds.split[3]; r++)
				if (!strncmp(c->ds.key[r], "many:", 5))
					seen[atoi(c->ds.key[r] + 5) - 1]++;
		}
		drop(c);
	}
	for (int i = 0; i < 40; i++)
		CHECK(seen[i] == 1);
}

static void
test_bytes(void)
{
	PUTS("book", "abcdefghijklmnopqrstuvwxyz");
	Case *c = CASE(TB_BYTES, "book");
	c->table.window = 4;
	c->d.order = "row";
	c->d.train = 0.5;
	c->d.val = 0.5;
	c->input[c->d.ninput++] = (PlanInput){.name = "s", .kind = IN_SEQUENCE, .from = "bytes", .width = 4, .size = 256, .loc = "m.yaml:9:3"};
	c->target[c->d.ntarget++] = (PlanTarget){.name = "n", .kind = TG_NEXT, .from = "s", .size = 256, .ignore = -1, .loc = "m.yaml:12:3"};
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 6 && c->ds.split[1] == 3 && c->ds.column[0].tail == 1 && c->ds.column[1].width == 0);
		CHECK(!memcmp(bytes(c, 0), "abcdefghijklmnopqrstuvwxy", 25));
	}
	c->d.where = "row <> 2";
	Case *d = xcalloc(1, sizeof *d);
	*d = *c;
	d->ds = (Dataset){0};
	d->fit = NULL;
	d->table.nfile = 0; /* its names are c's */
	d->table.path = "book";
	d->d.table = &d->table;
	d->d.input = d->input;
	d->d.target = d->target;
	FAILS(d, "the windows must be all there and in order");
	drop(c);
	PUTS("short", "abcd");
	c = CASE(TB_BYTES, "short");
	c->table.window = 4;
	c->input[c->d.ninput++] = (PlanInput){.name = "s", .kind = IN_SEQUENCE, .from = "bytes", .width = 4, .size = 256, .loc = "m.yaml:9:3"};
	FAILS(c, "short: 4 bytes; a window needs 4 and one more");
}

static Case *
ids_case(TableKind kind, const char *path, int64_t size)
{
	Case *c = CASE(kind, path);
	c->table.window = 2;
	c->d.order = "row";
	c->d.train = 0.5;
	c->d.val = 0.5;
	c->input[c->d.ninput++] = (PlanInput){.name = "s", .kind = IN_SEQUENCE, .from = "ids", .width = 2, .size = size, .loc = "m.yaml:9:3"};
	c->target[c->d.ntarget++] = (PlanTarget){.name = "n", .kind = TG_NEXT, .from = "s", .size = size, .ignore = -1, .loc = "m.yaml:12:3"};
	return c;
}

static void
test_ids(void)
{
	static const char wide[] = "\1\0\0\0" "\377\377\1\0" "\2\0\0\0";
	PUTS("ids", "\1\0\377\0\0\3\2\0\5\0\6\0");
	put("wide", wide, 12);
	Case *c = ids_case(TB_IDS16, "ids", 769);
	if (BUILDS(c)) {
		static const int32_t want[] = {1, 255, 768, 2, 5};
		CHECK(c->ds.rows == 2 && c->ds.split[1] == 1 && c->ds.column[0].tail == 1 && c->ds.column[0].dtype == DT_I32);
		CHECK(!memcmp(ids(c, 0), want, sizeof want));
	}
	drop(c);
	c = ids_case(TB_IDS32, "wide", 131072);
	if (BUILDS(c))
		CHECK(c->ds.rows == 1 && ids(c, 0)[0] == 1 && ids(c, 0)[1] == 131071 && ids(c, 0)[2] == 2);
	drop(c);
	FAILS(ids_case(TB_IDS16, "ids", 768), "ids: id 2 is 768, and the input says size: 768");
	FAILS(ids_case(TB_IDS32, "wide", 131071), "wide: id 1 is 131071, and");
	put("odd", wide, 11);
	FAILS(ids_case(TB_IDS16, "odd", 1000), "odd: 11 bytes are not a whole number of ids of 2 bytes");
	put("few", wide, 4);
	FAILS(ids_case(TB_IDS16, "few", 1000), "few: 2 ids; a window needs 2 and one more");
	put("small", "\3\0\2\0\1\0", 6);
	c = ids_case(TB_IDS16, "small", 256); /* as many ids as a byte has are kept as bytes */
	if (BUILDS(c))
		CHECK(c->ds.column[0].dtype == DT_U8 && !memcmp(bytes(c, 0), "\3\2\1", 3));
	drop(c);
}

static void
test_tables(void)
{
	PUTS("a.tsv", "x\ty\n1\t\"no quotes\n3\tb\n");
	PUTS("b.tsv", "x\ty\n5\tc\n");
	PUTS("c.tsv", "x\tz\n5\tc\n");
	Case *c = CASE(TB_TSV, "a.tsv", "test:", "b.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	add_class(c, "y", 3);
	if (BUILDS(c)) {
		CHECK(c->ds.rows == 3 && c->ds.split[1] == 2 && c->ds.split[3] == 3 && floats(c, 0)[2] == 5);
		char buf[24];
		CHECK(!strcmp(fit_class_name(c->fit, &c->d, 0, ids(c, 1)[0], buf), "\"no quotes"));
	}
	drop(c);
	c = CASE(TB_TSV, "a.tsv", "test:", "c.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	FAILS(c, "c.tsv: column 2 is z, in ");
	c = CASE(TB_TSV, "a.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	c->d.given = "y";
	FAILS(c, "split: given is '\"no quotes' at a.tsv:2; it must be train, val, test or NULL");
	c = CASE(TB_TSV, "a.tsv", "b.tsv");
	c->input[c->d.ninput++] = (PlanInput){.name = "x", .kind = IN_NUMBER, .from = "x", .width = 1, .loc = "m.yaml:9:3"};
	c->d.order = "-x";
	c->d.train = 0.6;
	c->d.test = 0.4;
	if (BUILDS(c)) /* the largest first: 5, 3 train */
		CHECK(c->ds.split[1] == 2 && floats(c, 0)[0] == 3 && floats(c, 0)[1] == 5 && floats(c, 0)[2] == 1);
	drop(c);
}

static void
test_real(void)
{
	Case *c = reviews("sentiment/rt-polarity.pos", "sentiment/rt-polarity.neg");
	c->d.base = (char *)(uintptr_t)real_data();
	c->table.latin1 = 1;
	if (BUILDS(c))
		CHECK(c->ds.rows == 10662);
	drop(c);
}

int
main(void)
{
	tmp = make_folder();
	test_lines();
	test_folds();
	test_bytes();
	test_ids();
	test_tables();
	if (real_data())
		test_real();
	return check_end();
}
