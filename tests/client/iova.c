// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "iova.h"
#include "page.h"

#include <errno.h>

int iova_take(struct iova_space *space, const void *va, uint64_t bytes, uint64_t align,
	      uint64_t *iova)
{
	uint64_t within = (uintptr_t)va & (align - 1);

	for (int i = 0; i < space->vfio->nranges; i++) {
		const struct iova_range *r = &space->vfio->ranges[i];
		uint64_t last = r->last < space->limit ? r->last : space->limit;
		uint64_t at = space->next > r->first ? space->next : r->first;

		/* The lowest address at or above `at` with the right offset. */
		at = round_up_to(at > within ? at - within : 0, align) + within;
		if (at < r->first || at > last || bytes - 1 > last - at)
			continue;
		*iova = at;
		space->next = at + bytes;
		return 0;
	}
	return -ENOSPC;
}
