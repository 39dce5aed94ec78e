// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/sink_util.c: words of the output. */
#include "unit.h"

#include "sink.h"

#include <string.h>

static void rules(void **state)
{
	static const struct {
		uint32_t rules;
		const char *text;
	} row[] = {
		{ 0, "" },
		{ PFNW_RULE_PFN, "pfn" },
		{ PFNW_RULE_PROT, "prot" },
		{ PFNW_RULE_PA_ZERO, "pa-zero" },
		{ PFNW_RULE_NOT_RESERVED, "not-reserved" },
		{ PFNW_RULE_PFN | PFNW_RULE_PA_ZERO, "pfn,pa-zero" },
		{ 15, "pfn,prot,pa-zero,not-reserved" },
		{ PFNW_RULE_IOMMU | PFNW_RULE_SHORT_UNMAP, "iommu-differs,short-unmap" },
		{ PFNW_RULE_LEAK | PFNW_RULE_OVERLAP, "leak,overlap" },
		{ ~255u, "" },
	};
	char buf[64], tiny[8];

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++)
		assert_string_equal(rules_text(row[i].rules, buf, sizeof(buf)), row[i].text);
	/* too little room cuts, and never writes beyond it */
	rules_text(15, tiny, sizeof(tiny));
	assert_string_equal(tiny, "pfn,pro");
}

static void protections(void **state)
{
	(void)state;
	assert_string_equal(prot_text(0), "-");
	assert_string_equal(prot_text(1), "r");
	assert_string_equal(prot_text(2), "w");
	assert_string_equal(prot_text(3), "rw");
	assert_string_equal(prot_text(3 | 4), "rw"); /* IOMMU_CACHE */
	assert_string_equal(prot_text(1 | 8 | 16), "r");
}

static void task_names(void **state)
{
	struct pfnw_hdr h = { 0 };
	char buf[PFNW_COMM + 1];

	(void)state;
	assert_string_equal(comm_text(&h, buf), "");
	memcpy(h.comm, "qemu-system-x86", 16);
	assert_string_equal(comm_text(&h, buf), "qemu-system-x86");
	/* no terminator at all: 16 characters and no more */
	memset(h.comm, 'x', PFNW_COMM);
	assert_string_equal(comm_text(&h, buf), "xxxxxxxxxxxxxxxx");
	/* nothing that steers a terminal, breaks a line or is no UTF-8 */
	memcpy(h.comm, "a\033[31m\n\t\177\200\377 ~b", 15);
	assert_string_equal(comm_text(&h, buf), "a?[31m????? ~b");
}

int test_text(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules),
		cmocka_unit_test(protections),
		cmocka_unit_test(task_names),
	};

	return cmocka_run_group_tests_name("sink_util.c", tests, NULL, NULL);
}
