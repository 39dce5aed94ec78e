/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Raw entries of an IOMMU's table of level 1, as runs of frames. */
#ifndef PFNW_LIVE_TABLE_H
#define PFNW_LIVE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "iommu_walk.h"

/* @pages from @iova (bytes) on are translated to frames from @pfn on. */
typedef void (*live_run_fn)(void *ctx, uint64_t iova, uint64_t pfn, uint64_t pages);

/*
 * The @n entries at @raw, the first of which translates @iova: all are leaves. Calls @fn for
 * each run of frames, by IOVA; neighbours with frames in a line are one run. AMD encodes a
 * leaf of several pages in as many equal entries.
 */
void live_table_runs(const struct iommu_format *f, uint64_t iova, const __u64 *raw, size_t n,
		     live_run_fn fn, void *ctx);

#endif
