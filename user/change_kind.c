// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "change_kind.h"
#include "events.h"

#include <string.h>

/* Who tells the notifiers, or the function that the compiler made it a part of. */
static const struct {
	const char *func;
	enum pfnw_change is;
} known[] = {
	{ "unmap_vmas", PFNW_CHANGE_ZAP },
	{ "zap_page_range", PFNW_CHANGE_ZAP },
	{ "zap_page_range_single", PFNW_CHANGE_ZAP },
	{ "zap_page_range_single_batched", PFNW_CHANGE_ZAP },
	{ "unmap_hugepage_range", PFNW_CHANGE_ZAP_HUGETLB },
	{ "move_page_tables", PFNW_CHANGE_MOVE },
	{ "move_hugetlb_page_tables", PFNW_CHANGE_MOVE },
	{ "change_protection", PFNW_CHANGE_PROT },
	{ "hugetlb_change_protection", PFNW_CHANGE_PROT },
	{ "try_to_unmap_one", PFNW_CHANGE_UNMAP_ONE },
	{ "try_to_migrate_one", PFNW_CHANGE_MIGRATE_ONE },
	{ "page_mkclean_one", PFNW_CHANGE_MKCLEAN },
	{ "do_wp_page", PFNW_CHANGE_COW },
	{ "wp_page_copy", PFNW_CHANGE_COW },
	{ "do_huge_pmd_wp_page", PFNW_CHANGE_COW_HUGE },
	{ "hugetlb_fault", PFNW_CHANGE_HUGETLB_FAULT },
	{ "hugetlb_wp", PFNW_CHANGE_HUGETLB_FAULT },
	{ "collapse_huge_page", PFNW_CHANGE_COLLAPSE },
	{ "__split_huge_pmd", PFNW_CHANGE_SPLIT },
};

uint8_t change_kind(const __u64 *stack, size_t n, function_fn function, void *ctx)
{
	for (size_t i = 0; i < n; i++) {
		const char *func = function(ctx, stack[i]);

		for (size_t j = 0; func && j < sizeof(known) / sizeof(known[0]); j++)
			if (!strcmp(func, known[j].func))
				return known[j].is;
	}
	return PFNW_CHANGE_ZAP;
}
