// SPDX-License-Identifier: GPL-2.0
#include "driver.h"

#include <linux/log2.h>
#include <linux/mm.h>

/* Since 6.19 drivers share one implementation, which the core calls directly. */
#if __has_include(<linux/generic_pt/iommu.h>)
#include <linux/generic_pt/iommu.h>
#define HAVE_PT 1
#endif

static size_t page_for(const struct span *span)
{
	size_t all = span->bytes;

	if (span->pgsize)
		return span->pgsize;
	if (is_power_of_2(all) && (span->domain->pgsize_bitmap & all) &&
	    IS_ALIGNED(span->iova | span->pa, all))
		return all;
	return PAGE_SIZE;
}

int driver_map(const struct span *span, gfp_t gfp, size_t *mapped)
{
	const struct iommu_domain_ops *ops = span->domain->ops;
	size_t page = page_for(span), now = 0;
	int err;

#ifdef HAVE_PT
	struct pt_iommu *pt = iommupt_from_domain(span->domain);

	if (pt) {
		err = pt->ops->map_range(pt, span->iova, span->pa, span->bytes, span->prot, gfp,
					 &now);
		*mapped += now;
		return err;
	}
#endif
	err = ops->map_pages(span->domain, span->iova, span->pa, page, span->bytes / page,
			     span->prot, gfp, &now);
	*mapped += now;
	return err;
}

size_t driver_unmap(struct iommu_domain *domain, unsigned long iova, size_t bytes,
		    struct iommu_iotlb_gather *gather)
{
	if (!bytes)
		return 0;
#ifdef HAVE_PT
	struct pt_iommu *pt = iommupt_from_domain(domain);

	if (pt)
		return pt->ops->unmap_range(pt, iova, bytes, gather);
#endif
	return domain->ops->unmap_pages(domain, iova, PAGE_SIZE, bytes >> PAGE_SHIFT, gather);
}

phys_addr_t driver_phys(struct iommu_domain *domain, unsigned long iova)
{
	return domain->ops->iova_to_phys(domain, iova);
}

void driver_unmap_now(struct iommu_domain *domain, unsigned long iova, size_t bytes)
{
	struct iommu_iotlb_gather gather;

	iommu_iotlb_gather_init(&gather);
	driver_unmap(domain, iova, bytes, &gather);
	iommu_iotlb_sync(domain, &gather);
}

int driver_map_now(const struct span *span)
{
	const struct iommu_domain_ops *ops = span->domain->ops;
	size_t mapped = 0;
	int err = driver_map(span, GFP_KERNEL, &mapped);

	if (mapped && ops->iotlb_sync_map)
		ops->iotlb_sync_map(span->domain, span->iova, mapped);
	return err;
}
