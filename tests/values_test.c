/* What values say and how CSV files are read: numbers, dates, words, SQL functions, records, gzip, column types. */
#include "data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static int passed, failed;

static bool
check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		passed++;
	else
		failed++, printf("%s:%d: %s\n", file, line, what);
	return ok;
}
#define CHECK(c) check((c), #c, __FILE__, __LINE__)
#define CHECK_IN(text, part) check_in((text), (part), __FILE__, __LINE__)

static void
check_in(const char *text, const char *part, const char *file, int line)
{
	if (!check(text && strstr(text, part), part, file, line))
		printf("  not in: %s\n", text ? text : "(nothing)");
}

/* ---- values ---- */

static void
test_numbers(void)
{
	static const struct {
		const char *s;
		double v;
	} good[] = {{"12800", 12800}, {"99,600,000", 99600000}, {" 7 ", 7}, {"-3.5", -3.5}, {"+2", 2}, {"1.2M", 1200000}, {"2.3m", 2300000},
	            {"1.5K", 1500}, {"4 B", 4e9}, {"7.18825E+18", 7.18825e18}, {"1e-3", 0.001}, {".5", .5}, {"5.", 5}, {"007", 7},
	            {"9223372036854775807", 9223372036854775807.0}, {"0", 0}};
	static const char *const bad[] = {"", " ", "1,5", "1,23,456", "1234,567", ",1", "1,", "1.2.3", "abc", "12x", "nan", "inf", "0x10", "1e",
	                                  "--1", "1 2", "1e999", "M", "1KK", "$5"};
	Number n;
	for (size_t i = 0; i < LEN(good); i++)
		if (!CHECK(parse_number(good[i].s, &n) && n.v == good[i].v))
			printf("  %s\n", good[i].s);
	for (size_t i = 0; i < LEN(bad); i++)
		if (!CHECK(!parse_number(bad[i], &n)))
			printf("  '%s'\n", bad[i]);
	CHECK(parse_number("6892428462015958273", &n) && n.whole && n.i == 6892428462015958273 && n.id && !n.sci);
	CHECK(parse_number("7.18825E+18", &n) && n.id && n.sci);
	CHECK(parse_number("1.2M", &n) && n.whole && !n.id);
	CHECK(parse_number("1.5", &n) && !n.whole && !n.id);
	CHECK(parse_number("0123", &n) && n.zeros);
	CHECK(parse_number("99,600,000,000,000,000", &n) && n.whole && !n.id);
}

static void
test_times(void)
{
	static const struct {
		const char *s;
		double v;
	} good[] = {{"2020-11-07T17:02:37.000Z", 1604768557}, {"2020-11-07T17:02:37.25Z", 1604768557.25}, {"2020-11-07", 1604707200},
	            {"2020-11-07 17:02", 1604768520}, {"2020-11-07T18:02:37+01:00", 1604768557}, {"2020-11-07T15:02:37-0200", 1604768557},
	            {"04/02/2021 13:42", 1617370920}, {"4/2/2021", 1617321600}, {"1604768557", 1604768557}, {"1604768557000", 1604768557},
	            {"1970-01-01", 0}, {"1969-12-31T23:59:59Z", -1}, {"2020-02-29", 1582934400}};
	static const char *const bad[] = {"", "2021-02-29", "2021-13-01", "13/13/2021", "2021-01-01T25:00", "2021-01-01x", "hello", "2021-01",
	                                  "2021-01-01T10", "10:00", "1/2/3", "2021-01-01T10:00+"};
	double t;
	for (size_t i = 0; i < LEN(good); i++)
		if (!CHECK(parse_time(good[i].s, &t) && fabs(t - good[i].v) < 1e-6))
			printf("  %s: %.3f\n", good[i].s, t);
	for (size_t i = 0; i < LEN(bad); i++)
		if (!CHECK(!parse_time(bad[i], &t)))
			printf("  '%s'\n", bad[i]);
}

static void
test_words(void)
{
	static const struct {
		const char *s, *words;
	} cases[] = {
		{"Hello, World!", "hello|world"},
		{"don't  stop_me 2nd", "don|t|stop_me|2nd"},
		{"#FYP @Bob # @ a#b", "#fyp|@bob|a|#b"},
		{"ÉTÉ Straße ŁÓDŹ Ñandú", "été|straße|łódź|ñandú"},
		{"ΑΒΓ ПРИВЕТ Ёлка", "αβγ|привет|ёлка"},
		{"日本go ダ", "日|本|go|ダ"},
		{"#fypシ #ダンス x", "#fypシ|#ダンス|x"},
		{"ok😅😂❤️👍🏽", "ok|😅|😂|❤|👍"},
		{"한국어 좋아", "한국어|좋아"},
		{"a—b…c“d”", "a|b|c|d"},
		{"", ""},
		{" ,.!", ""},
	};
	Text w = {0}, all = {0};
	for (size_t i = 0; i < LEN(cases); i++) {
		const char *p = cases[i].s;
		all.n = 0;
		text_puts(&all, "");
		while (next_word(&p, &w))
			text_printf(&all, "%s%s", all.n ? "|" : "", w.s);
		if (!CHECK(!strcmp(all.s, cases[i].words)))
			printf("  %s -> %s\n", cases[i].s, all.s);
	}
	free(w.s);
	free(all.s);
	CHECK(utf8_prefix("a\xc3\xa9", 3) == 3 && utf8_prefix("a\xc3", 2) == 1 && utf8_prefix("\xed\xa0\x80", 3) == 0);
	CHECK(utf8_prefix("\xc0\x80", 2) == 0 && utf8_prefix("\xf4\x90\x80\x80", 4) == 0 && utf8_prefix("a\0b", 3) == 1);
	CHECK(hash_word("fyp", 3) == 0x810a9e6e4df54c37ull); /* never changes: ids of trained models depend on it */
}

static void
test_sql_functions(void)
{
	static const struct {
		const char *sql, *value;
	} cases[] = {
		{"hour('2020-11-07T17:02:37.000Z')", "17"}, {"weekday('2020-11-07')", "5"}, {"weekday('1970-01-01')", "3"},
		{"weekday('1969-12-29')", "0"}, {"month('04/02/2021 13:42')", "4"}, {"year(1617370920)", "2021"},
		{"day_of_year('2020-12-31')", "366"}, {"day_of_month('2021-04-02')", "2"}, {"hour('junk')", NULL}, {"hour(NULL)", NULL},
		{"hour('')", NULL}, {"to_time('04/02/2021 13:42')", "1617370920"}, {"to_number('99,600,000')", "99600000"},
		{"to_number('1.2M')", "1200000"}, {"to_number('x')", NULL}, {"to_number('9223372036854775807')", "9223372036854775807"},
		{"json_count('[\"a\", 1]')", "2"}, {"json_count('[]')", "0"}, {"json_count('a')", NULL}, {"word_count('Hi #you 😅')", "3"},
		{"split_part('7_theo_12.wav', '_', 2)", "theo"}, {"split_part('7_theo_12.wav', '_', 1)", "7"}, {"split_part('a', '_', 2)", NULL}, {"split_part('a', '', 1)", NULL},
		{"round(ln('1.2K'), 6)", "7.090077"}, {"ln(0)", NULL}, {"log1p(0)", "0.0"}, {"sqrt(-1)", NULL}, {"sqrt(9)", "3.0"},
		{"exp(0)", "1.0"}, {"pow(2, 10)", "1024.0"}, {"exp(10000)", NULL},
	};
	sqlite3 *db;
	SqlNotes notes = {0};
	sqlite3_open(":memory:", &db);
	CHECK(sqlfn_register(db, &notes));
	for (size_t i = 0; i < LEN(cases); i++) {
		sqlite3_stmt *q = NULL;
		char *sql = sqlite3_mprintf("SELECT %s", cases[i].sql);
		sqlite3_prepare_v2(db, sql, -1, &q, NULL);
		const char *got = sqlite3_step(q) == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : "error";
		if (!CHECK(got && cases[i].value ? !strcmp(got, cases[i].value) : got == cases[i].value))
			printf("  %s = %s\n", sql, got);
		sqlite3_finalize(q);
		sqlite3_free(sql);
	}
	CHECK(notes.number.n == 1 && notes.time.n == 1 && notes.json.n == 1);
	sqlite3_close(db);
}

/* ---- CSV ---- */

static Table
read_csv(const char *s, size_t n, Err *e)
{
	Table t = {.name = "t", .path = xstrdup("t.csv"), .raw = xmalloc(n + 1), .nraw = n};
	t.file = t.path;
	memcpy(t.raw, s, n);
	*e = (Err){0};
	csv_read(&t, e);
	return t;
}

static void
test_csv_errors(void)
{
	static const struct {
		const char *csv, *message;
	} cases[] = {
		{"", "the file is empty; it needs a header"},
		{"\n\n", "the file is empty"},
		{"a,b\n1,\"2\n3,4\n", "t.csv:2: column 2 (b): the quote that opens this field never closes"},
		{"a,b\n1,\"2\"x\n", "t.csv:2: column 2 (b): text after the closing quote"},
		{"a,b\n1,2\n3,\xff\n", "t.csv:3: column 2 (b): not UTF-8"},
		{"a,b,A\n", "t.csv:1: columns 1 (a) and 3 (A) have the same name"},
		{"a,,b\n", "t.csv:1: column 2 has no name"},
		{"a;b;c\n1;2;3\n", "the header has no comma but ';'"},
		{"\xff\xfe" "a", "UTF-16"},
		{"\x1f\x8b\x08 damaged", "gzip content is"},
	};
	for (size_t i = 0; i < LEN(cases); i++) {
		Err e;
		Table t = read_csv(cases[i].csv, strlen(cases[i].csv), &e);
		CHECK_IN(e.set ? e.msg : "(no error)", cases[i].message);
		table_free(&t);
	}
	Err e;
	Table t = read_csv("a\n1\0002\n", 6, &e);
	CHECK_IN(e.msg, "NUL byte");
	table_free(&t);
}

static void
test_csv_rows(void)
{
	static const char text[] = "\xef\xbb\xbf" "a,b c\r\n1,\"x\r\n\"\"y\"\"\"\r\n\r\n2\r\n3, 5\" \r\nlast,\xe2\x82\xac";
	Err e;
	Table t = read_csv(text, sizeof text - 1, &e);
	CHECK(!e.set && t.ncol == 2 && t.rows == 3);
	CHECK(!strcmp(t.col[0].name, "a") && !strcmp(t.col[1].name, "b c"));
	CHECK(!strcmp(t.text.s + t.cell[1], "x\r\n\"y\""));
	CHECK(!strcmp(t.text.s + t.cell[3], " 5\" "));
	CHECK(!strcmp(t.text.s + t.cell[5], "\xe2\x82\xac"));
	CHECK(t.line[0] == 2 && t.line[1] == 6 && t.line[2] == 7);
	CHECK(t.ragged.n == 1 && t.ragged.first[0].line == 5 && !strcmp(t.ragged.first[0].text, "1 fields"));
	CHECK(t.stray_quote.n == 1 && t.stray_quote.first[0].line == 6);
	table_free(&t);
}

/* Two gzip members; then the same cut off. */
static void
test_gzip(void)
{
	char path[] = "/tmp/values_test.XXXXXX";
	Err e = {0};
	int fd = mkstemp(path);
	if (!CHECK(fd >= 0))
		return;
	close(fd);
	for (int part = 0; part < 2; part++) {
		gzFile f = gzopen(path, part ? "ab" : "wb");
		gzputs(f, part ? "3,4\n" : "a,b\n1,2\n");
		gzclose(f);
	}
	char *raw;
	size_t n;
	CHECK(read_file(path, &raw, &n, &e));
	Table t = read_csv(raw, n, &e);
	CHECK(!e.set && t.rows == 2 && !strcmp(t.text.s + t.cell[3], "4"));
	table_free(&t);
	t = read_csv(raw, n - 9, &e);
	CHECK_IN(e.msg, "gzip content is cut off");
	table_free(&t);
	free(raw);
	unlink(path);
}

static void
test_types(void)
{
	static const char csv[] = "Post ID,n,r,mixed,zip,long,empty,big\n"
	                          "1,\"1,000\",1.5,1,0123,6892428462015958273,,1\n"
	                          "2,2K,2,x,4567,6891790235336822018,,9223372036854775807\n";
	static const ColumnType want[] = {CT_ID, CT_INTEGER, CT_REAL, CT_TEXT, CT_TEXT, CT_ID, CT_TEXT, CT_TEXT};
	Err e;
	Table t = read_csv(csv, sizeof csv - 1, &e);
	table_decide_types(&t);
	for (uint32_t i = 0; i < LEN(want); i++)
		if (!CHECK(t.col[i].type == want[i]))
			printf("  %s: %s\n", t.col[i].name, column_type_names[t.col[i].type]);
	CHECK(t.col[3].other.n == 1 && t.col[3].other.first[0].line == 3 && !strcmp(t.col[3].other.first[0].text, "x"));
	CHECK(t.repeated.n == 0);
	table_free(&t);
}

int
main(void)
{
	test_numbers();
	test_times();
	test_words();
	test_sql_functions();
	test_csv_errors();
	test_csv_rows();
	test_gzip();
	test_types();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
