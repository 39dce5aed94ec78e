/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What the collector asks of a session and of pagemap, answered by the test. */
#ifndef PFNW_UNIT_FAKES_H
#define PFNW_UNIT_FAKES_H

#include "live.h"
#include "pagemap.h"
#include "session.h"

struct fakes {
	uint64_t counter[PFNW_S_MAX];
	uint64_t missed; /* program runs that the kernel skipped */
	bool missed_changes;
	bool mm_gone; /* the second walk finds nothing to walk */
	uint64_t again_entry; /* the PTE that the second walk finds */
	enum pagemap_answer pagemap;
	uint64_t pagemap_pfn;
};

extern struct fakes fakes;

/* A walk of @va that ends at the PTE @entry. */
struct pfnw_walk walk_to(uint64_t va, uint64_t entry);

#endif
