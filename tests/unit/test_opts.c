// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/opts.c: sizes, and the options that trace and check share. */
#include "unit.h"

#include "judge.h"
#include "opts.h"
#include "pfnwatch.h"
#include "session.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} row[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "4096", 4096 },
		{ "4K", 4096 },
		{ "4k", 4096 },
		{ "64K", 65536 },
		{ "4M", 4 << 20 },
		{ "4m", 4 << 20 },
		{ "1G", 1 << 30 },
		{ "1g", 1 << 30 },
		{ "3G", 3ULL << 30 },
		{ "010", 10 },
		{ "18446744073709551615", UINT64_MAX },
		{ "17179869183G", 17179869183ULL << 30 },
		/* no such thing */
		{ "", 0 },
		{ " 4K", 0 },
		{ "4 K", 0 },
		{ "4K ", 0 },
		{ "-4K", 0 },
		{ "+4K", 0 },
		{ "K", 0 },
		{ "4T", 0 },
		{ "4KB", 0 },
		{ "4KK", 0 },
		{ "0x1000", 0 },
		{ "4.5M", 0 },
		{ "18446744073709551616", 0 },
		/* more than 64 bits, once the unit is applied */
		{ "18014398509481988K", 0 },
		{ "17592186044417M", 0 },
		{ "17179869184G", 0 },
	};

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++)
		if (parse_bytes(row[i].text) != row[i].bytes)
			fail_test("\"%s\" is 0x%llx, not 0x%llx", row[i].text,
				  (unsigned long long)parse_bytes(row[i].text),
				  (unsigned long long)row[i].bytes);
}

/* Parses one option, its error line swallowed. */
static int parse_one(struct options *o, const char *option, const char *value)
{
	char *argv[] = { (char *)"test", (char *)option, (char *)value, NULL };
	int keep, null, err;

	options_init(o);
	fflush(stderr);
	keep = dup(STDERR_FILENO);
	null = open("/dev/null", O_WRONLY);
	dup2(null, STDERR_FILENO);
	err = argp_parse(&watch_argp, value ? 3 : 2, argv, ARGP_NO_EXIT | ARGP_SILENT, NULL, o);
	fflush(stderr);
	dup2(keep, STDERR_FILENO);
	close(keep);
	close(null);
	return err || o->error;
}

static void defaults(void **state)
{
	struct options o;

	(void)state;
	options_init(&o);
	assert_int_equal(o.group, PFNW_NO_GROUP);
	assert_int_equal(o.ring_bytes, RING_BYTES_DEFAULT);
	assert_int_equal(o.contexts, CONTEXTS_DEFAULT);
	assert_int_equal(o.only, 0);
	assert_int_equal(o.n_pids, 0);
	/* what configures the ring buffer must be able to */
	assert_int_equal(RING_BYTES_DEFAULT & (RING_BYTES_DEFAULT - 1), 0);
	assert_int_equal(RING_BYTES_MIN, 4096);
}

static void good_options(void **state)
{
	struct options o;

	(void)state;
	assert_int_equal(parse_one(&o, "--ring-size", "4096"), 0);
	assert_int_equal(o.ring_bytes, 4096);
	assert_int_equal(parse_one(&o, "--ring-size", "1G"), 0);
	assert_int_equal(o.ring_bytes, 1 << 30);
	assert_int_equal(parse_one(&o, "--duration", "0.25"), 0);
	assert_true(o.duration_s == 0.25);
	assert_int_equal(parse_one(&o, "--only", "mismatch"), 0);
	assert_int_equal(o.only, 1 << V_MISMATCH);
	assert_int_equal(parse_one(&o, "--only", "raced,unverified,match"), 0);
	assert_int_equal(o.only, 1 << V_RACED | 1 << V_UNVERIFIED | 1 << V_MATCH);
	assert_int_equal(parse_one(&o, "--pid", "1"), 0);
	assert_int_equal(o.n_pids, 1);
	assert_int_equal(o.pid[0], 1);
	assert_int_equal(parse_one(&o, "--group", "0"), 0);
	assert_int_equal(o.group, 0);
	assert_int_equal(parse_one(&o, "--contexts", "1"), 0);
	assert_int_equal(o.contexts, 1);
	assert_int_equal(parse_one(&o, "--comm", "fifteen-letters"), 0);
	assert_string_equal(o.comm, "fifteen-letters");
	assert_int_equal(parse_one(&o, "--maps", NULL), 0);
	assert_true(o.maps && !o.claims && !o.quiet);
	assert_int_equal(parse_one(&o, "--claims", NULL), 0);
	assert_true(o.claims && !o.maps);
}

static void bad_options(void **state)
{
	static const struct {
		const char *option, *value;
	} row[] = {
		{ "--ring-size", "4095" },
		{ "--ring-size", "2048" },
		{ "--ring-size", "12K" },
		{ "--ring-size", "2G" },
		{ "--ring-size", "0" },
		{ "--ring-size", "big" },
		{ "--ring-size", "18014398509481988K" },
		{ "--duration", "0" },
		{ "--duration", "-1" },
		{ "--duration", "inf" },
		{ "--duration", "nan" },
		{ "--duration", "5s" },
		{ "--duration", "" },
		{ "--only", "wrong" },
		{ "--only", "mismatch,wrong" },
		{ "--only", "" },
		{ "--only", "," },
		{ "--pid", "0" },
		{ "--pid", "-1" },
		{ "--pid", "self" },
		{ "--pid", "1x" },
		{ "--pid", "" },
		{ "--pid", "99999999999999999999" },
		{ "--group", "-1" },
		{ "--group", "x" },
		{ "--contexts", "0" },
		{ "--contexts", "65537" },
		{ "--comm", "" },
		{ "--comm", "sixteen-letters!" },
		{ "--no-such-option", NULL },
	};
	struct options o;

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++)
		if (!parse_one(&o, row[i].option, row[i].value))
			fail_test("%s \"%s\" is taken", row[i].option, row[i].value);
}

int test_opts(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(defaults),
		cmocka_unit_test(good_options),
		cmocka_unit_test(bad_options),
	};

	return cmocka_run_group_tests_name("opts.c", tests, NULL, NULL);
}
