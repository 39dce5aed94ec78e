/* SPDX-License-Identifier: GPL-2.0 */
/* The IOMMU driver's own functions, past our hooks. */
#ifndef PFNDIVERGE_DRIVER_H
#define PFNDIVERGE_DRIVER_H

#include <linux/iommu.h>
#include <linux/types.h>

struct span {
	struct iommu_domain *domain;
	unsigned long iova;
	phys_addr_t pa;
	size_t bytes;
	/* What the core told the driver to map with; 0: the driver shall choose. */
	size_t pgsize;
	int prot;
};

/* 0 or a negative errno; *mapped: bytes that were mapped in any case. */
int driver_map(const struct span *span, gfp_t gfp, size_t *mapped);
/* Returns bytes; may be more than asked for when a large page is hit. */
size_t driver_unmap(struct iommu_domain *domain, unsigned long iova, size_t bytes,
		    struct iommu_iotlb_gather *gather);
/* 0: not mapped. */
phys_addr_t driver_phys(struct iommu_domain *domain, unsigned long iova);

/* Both with the flushes they need; the second maps what nothing is mapped at. */
void driver_unmap_now(struct iommu_domain *domain, unsigned long iova, size_t bytes);
int driver_map_now(const struct span *span);

#endif
