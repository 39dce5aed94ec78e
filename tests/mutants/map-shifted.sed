# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch of any pages
# wrong: pages with (iova >> 12) % 7 == 3
# right: everything else, and all claims
#
# The claim is right, but the IOMMU is given the frame behind it. Runs are split
# around such pages.
#
# The unmap path asks the IOMMU for the frames to unpin; it gets the right ones:
# nothing leaks.
/^static long vfio_unmap_unpin(/i\
static bool mutant_hits(dma_addr_t iova)\
{\
	return (iova >> PAGE_SHIFT) % 7 == 3;\
}\

/^static long vfio_unmap_unpin(/i\
static phys_addr_t mutant_phys(struct iommu_domain *domain, dma_addr_t iova)\
{\
	phys_addr_t phys = iommu_iova_to_phys(domain, iova);\
\
	return mutant_hits(iova) ? phys - PAGE_SIZE : phys;\
}\

/^static long vfio_unmap_unpin(/,/^}$/s/= iommu_iova_to_phys(domain->domain, /= mutant_phys(domain->domain, /
s/^static int vfio_iommu_map(struct vfio_iommu \*iommu, dma_addr_t iova,$/static int vfio_iommu_map_right(struct vfio_iommu *iommu, dma_addr_t iova,/
/^static int vfio_iommu_map_right(/,/^}$/{
/^}$/a\
\
static int vfio_iommu_map(struct vfio_iommu *iommu, dma_addr_t iova,\
			  unsigned long pfn, long npage, int prot)\
{\
	struct vfio_domain *d;\
	long done, run;\
	int ret;\
\
	for (done = 0; done < npage; done += run) {\
		dma_addr_t at = iova + (done << PAGE_SHIFT);\
		bool hit = mutant_hits(at);\
\
		run = 1;\
		while (!hit && done + run < npage &&\
		       !mutant_hits(at + (run << PAGE_SHIFT)))\
			run++;\
		ret = vfio_iommu_map_right(iommu, at, pfn + done + hit,\
					   run, prot);\
		if (ret)\
			goto unwind;\
	}\
	return 0;\
\
unwind:\
	list_for_each_entry(d, &iommu->domain_list, next)\
		if (done)\
			iommu_unmap(d->domain, iova, done << PAGE_SHIFT);\
	return ret;\
}
}
