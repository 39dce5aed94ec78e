// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/change_kind.c: which change an MMU notifier was told of, by the kernel stack. */
#include "unit.h"

#include "change_kind.h"
#include "events.h"

static const char *const text[] = {
	NULL, /* what BPF put there */
	"__mmu_notifier_invalidate_range_end",
	"move_page_tables",
	"unmap_vmas",
	"__split_huge_pmd",
	"zap_page_range_single",
	"__do_sys_madvise",
	"wp_page_copy",
	"do_wp_page",
	"change_protection",
};

static const char *name(void *ctx, uint64_t addr)
{
	(void)ctx;
	return text[addr];
}

static int kind(const __u64 *stack, size_t n)
{
	return change_kind(stack, n, name, NULL);
}

static void who_tells(void **state)
{
	(void)state;
	assert_int_equal(kind((__u64[]){ 0, 1, 2 }, 3), PFNW_CHANGE_MOVE);
	assert_int_equal(kind((__u64[]){ 2 }, 1), PFNW_CHANGE_MOVE);
	assert_int_equal(kind((__u64[]){ 0, 1, 3 }, 3), PFNW_CHANGE_ZAP);
	assert_int_equal(kind((__u64[]){ 0, 1, 9 }, 3), PFNW_CHANGE_PROT);
	assert_int_equal(kind((__u64[]){ 0, 1, 7, 8 }, 4), PFNW_CHANGE_COW);
	assert_int_equal(kind((__u64[]){ 0, 1, 8 }, 3), PFNW_CHANGE_COW); /* made a part of it */
}

/* A change within another: the inner one was told. */
static void the_innermost(void **state)
{
	(void)state;
	assert_int_equal(kind((__u64[]){ 1, 4, 5, 6 }, 4), PFNW_CHANGE_SPLIT);
	assert_int_equal(kind((__u64[]){ 1, 4, 2, 6 }, 4), PFNW_CHANGE_SPLIT);
}

/* Pages may be gone: whoever is to be careful, is. */
static void unknown(void **state)
{
	(void)state;
	assert_int_equal(kind((__u64[]){ 0, 1, 6 }, 3), PFNW_CHANGE_ZAP);
	assert_int_equal(kind(NULL, 0), PFNW_CHANGE_ZAP);
	assert_int_equal(kind((__u64[]){ 0, 1, 2 }, 2),
			 PFNW_CHANGE_ZAP); /* (no more than there are) */
}

int test_change_kind(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_tells),
		cmocka_unit_test(the_innermost),
		cmocka_unit_test(unknown),
	};

	return cmocka_run_group_tests_name("kinds of changes", tests, NULL, NULL);
}
