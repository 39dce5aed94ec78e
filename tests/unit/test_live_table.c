// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/live_table.c: the runs of a table are its pages, to the frame. */
#include "unit.h"

#include <string.h>

#include "judge.h"
#include "live_table.h"

#define PAGE 4096ULL
#define IOVA 0x10200000ULL
#define ENTRIES 512

/* What was told, page by page; and how many runs that were. */
struct told {
	uint64_t iova, next; /* of the first page; of the next run */
	uint64_t pfn[ENTRIES];
	int runs;
};

static void tell(void *ctx, uint64_t iova, uint64_t pfn, uint64_t pages)
{
	struct told *t = ctx;

	assert_int_equal(iova, t->next);
	assert_in_range(pages, 1, ENTRIES);
	for (uint64_t i = 0; i < pages; i++)
		t->pfn[(iova - t->iova) / PAGE + i] = pfn + i;
	t->next = iova + pages * PAGE;
	t->runs++;
}

static int runs_of(enum pfnw_iommu_kind kind, uint64_t iova, const __u64 *raw, size_t n,
		   const uint64_t *want)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	struct told t = { .iova = iova, .next = iova };

	io_formats_init(f, ~0ULL);
	live_table_runs(&f[kind], iova, raw, n, tell, &t);
	assert_int_equal(t.next, iova + n * PAGE);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(t.pfn[i], want[i]);
	return t.runs;
}

/* drivers/iommu/intel: frame, read, write */
static uint64_t vtd(uint64_t pfn)
{
	return pfn << 12 | 3;
}

/*
 * alloc_pte() and PAGE_SIZE_PTE() of drivers/iommu/amd: a leaf of 2^@order pages is encoded by
 * the ones below its highest offset bit, in all of its entries alike.
 */
static uint64_t amd(uint64_t pfn, int order)
{
	uint64_t bytes = PAGE << order;
	uint64_t at = (pfn << 12) & ~(bytes - 1);

	if (!order)
		return at | 1ULL << 60 | 3ULL << 61 | 1;
	return ((at | (bytes - 1)) & ~(bytes >> 1) & ~0xfffULL) | 7 << 9 | 1ULL << 60 | 3ULL << 61 |
	       1;
}

static void neighbours_are_one_run(void **state)
{
	static const uint64_t pfn[] = { 7, 8, 9, 3, 4, 11, 10, 0x7fffffffffULL };
	__u64 raw[N_OF(pfn)];

	(void)state;
	for (size_t i = 0; i < N_OF(pfn); i++)
		raw[i] = vtd(pfn[i]);
	assert_int_equal(runs_of(PFNW_IOMMU_VTD_SS, IOVA, raw, N_OF(pfn), pfn), 5);
	assert_int_equal(runs_of(PFNW_IOMMU_VTD_SS, IOVA, raw, 3, pfn), 1);
	assert_int_equal(runs_of(PFNW_IOMMU_VTD_SS, IOVA, raw, 0, pfn), 0);
}

static void encoded_leaves_are_all_their_pages(void **state)
{
	uint64_t s = 0x71, pfn[ENTRIES];
	__u64 raw[ENTRIES];

	(void)state;
	for (int round = 0; round < 200; round++) {
		size_t n = 0;

		while (n < ENTRIES) {
			int order = rnd(&s) % 6;
			uint64_t pages = 1ULL << order, first = (rnd(&s) & 0xffffff) << order;

			if (n & (pages - 1)) /* leaves are aligned */
				continue;
			for (uint64_t i = 0; i < pages; i++, n++) {
				pfn[n] = first + i;
				raw[n] = amd(pfn[n], order);
			}
		}
		assert_true(runs_of(PFNW_IOMMU_AMD_V1, IOVA, raw, n, pfn) > 0);
		/* and the part of a table that a mapping has */
		n = rnd(&s) % ENTRIES;
		assert_true(runs_of(PFNW_IOMMU_AMD_V1, IOVA + n * PAGE, raw + n, ENTRIES - n,
				    pfn + n) > 0);
	}
}

int test_live_table(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_are_one_run),
		cmocka_unit_test(encoded_leaves_are_all_their_pages),
	};

	return cmocka_run_group_tests_name("runs of a table", tests, NULL, NULL);
}
