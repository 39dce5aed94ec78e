// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "live_table.h"

#define PAGE_BYTES (1ULL << PFNW_PAGE_SHIFT)

void live_table_runs(const struct iommu_format *f, uint64_t iova, const __u64 *raw, size_t n,
		     live_run_fn fn, void *ctx)
{
	uint64_t first = 0, pages = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t at = iova + i * PAGE_BYTES;
		uint64_t pfn = iommu_leaf_pa(f, 1, raw[i], at) >> PFNW_PAGE_SHIFT;

		if (pages && pfn == first + pages) {
			pages++;
			continue;
		}
		if (pages)
			fn(ctx, at - pages * PAGE_BYTES, first, pages);
		first = pfn;
		pages = 1;
	}
	if (pages)
		fn(ctx, iova + (n - pages) * PAGE_BYTES, first, pages);
}
