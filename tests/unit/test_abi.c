// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* bpf/events.h: abi.h is checked by the compilers, the rest here. */
#include "unit.h"

#include "abi.h"

/* A record must fit where the ring buffer is smallest: 4096 bytes, header of 8. */
static void records_fit_the_smallest_ring(void **state)
{
	(void)state;
	assert_in_range(sizeof(struct pfnw_ev_run), sizeof(struct pfnw_hdr), 4096 - 8);
	assert_in_range(sizeof(struct pfnw_ev_diff), sizeof(struct pfnw_hdr), 4096 - 8);
	assert_in_range(sizeof(struct pfnw_ev_claim), sizeof(struct pfnw_hdr), 4096 - 8);
	assert_in_range(sizeof(struct pfnw_ev_map), sizeof(struct pfnw_hdr), 4096 - 8);
	assert_in_range(sizeof(struct pfnw_ev_unmap), sizeof(struct pfnw_hdr), 4096 - 8);
}

/* Rules and verdicts are used as bits; several lists run beside each other. */
static void numbers_that_are_used_as_bits(void **state)
{
	(void)state;
	assert_int_equal(PFNW_RULE_PFN, 1);
	assert_int_equal(PFNW_RULE_PROT, 2);
	assert_int_equal(PFNW_RULE_PA_ZERO, 4);
	assert_int_equal(PFNW_RULE_NOT_RESERVED, 8);
	assert_int_equal(PFNW_RULE_IOMMU, 16);
	assert_int_equal(PFNW_RULE_SHORT_UNMAP, 32);
	assert_int_equal(PFNW_RULE_LEAK, 64);
	assert_int_equal(PFNW_RULE_OVERLAP, 128);
	assert_int_equal(1 << PFNW_RULES, 256);
	assert_int_equal(PFNW_STOOD, 0);
	assert_int_equal(PFNW_WALK_UNREAD, 0);
	/* the hot counters come first: user space adds them up by index */
	assert_true(PFNW_S_IO_PAGES == 0 && PFNW_S_MATCH < PFNW_S_HOT);
	assert_true(PFNW_S_SENT_DIFF == PFNW_S_HOT && PFNW_S_HOT < PFNW_S_MAX);
}

int test_abi(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_fit_the_smallest_ring),
		cmocka_unit_test(numbers_that_are_used_as_bits),
	};

	return cmocka_run_group_tests_name("events.h", tests, NULL, NULL);
}
