# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch and pa-zero of any pages
# wrong: pages with (iova >> 12) % 11 == 5
# right: everything else
#
# The claim is right, but the IOMMU is given physical address 0, which its own
# interface cannot tell from "not mapped". Runs are split around such pages.
#
# On unmap these pages are unmapped in silence, where the kernel would warn and
# leave them mapped. Their pins leak: no one knows their frames any more.
/^static long vfio_unmap_unpin(/i\
static bool mutant_hits(dma_addr_t iova)\
{\
	return (iova >> PAGE_SHIFT) % 11 == 5;\
}\

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
		ret = vfio_iommu_map_right(iommu, at, hit ? 0 : pfn + done,\
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
s/^\t\tif (WARN_ON(!phys)) {$/\t\tif (!phys) {\n\t\t\tiommu_unmap(domain->domain, iova, PAGE_SIZE);/
