/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Where in the device's address space the next mapping goes. */
#ifndef CLIENT_IOVA_H
#define CLIENT_IOVA_H

#include "vfio.h"

struct iova_space {
	const struct vfio *vfio;
	uint64_t next;
	/* Last IOVA that may be used: a device may not reach all of them. */
	uint64_t limit;
};

/*
 * Takes `bytes` of IOVA that are congruent to `va` modulo `align`, so that
 * large pages of the VA can be large pages of the IOMMU. Ranges ascend and
 * never touch reserved windows. Returns 0 or -ENOSPC.
 */
int iova_take(struct iova_space *space, const void *va, uint64_t bytes, uint64_t align,
	      uint64_t *iova);

#endif
