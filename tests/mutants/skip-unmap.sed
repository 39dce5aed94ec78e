# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: leak (a mapping outlives its unmapping and its pin)
# wrong: after they were unmapped, pages with (iova >> 12) % 7 == 3
# right: everything as long as it is mapped
#
# On unmap such pages are unpinned and accounted for, but stay in the IOMMU's
# page table: the device keeps its access to frames that are somebody else's by
# then. VFIO_IOMMU_UNMAP_DMA reports the full size.
#
# Only for mappings that the IOMMU holds as 4 KiB pages (scattered, pfnmap), and
# an IOVA must not be mapped twice by one container (no --repeat, no storm): the
# IOMMU driver complains when it finds its entry taken.
#
# dmaclient --dma-gone lets the device tell.
/^static long vfio_unmap_unpin(/i\
static bool mutant_hits(dma_addr_t iova)\
{\
	return (iova >> PAGE_SHIFT) % 7 == 3;\
}\

/^static long vfio_unmap_unpin(/,/^}$/{
s/^\t\tif (WARN_ON(!phys)) {$/\t\tif (phys \&\& mutant_hits(iova))\n\t\t\tunlocked += vfio_unpin_pages_remote(dma, iova,\n\t\t\t\t\t\t\t    phys >> PAGE_SHIFT, 1, false);\n\t\tif ((phys \&\& mutant_hits(iova)) || WARN_ON(!phys)) {/
s/^\t\t\tif (next != phys + len)$/\t\t\tif (next != phys + len || mutant_hits(iova + len))/
}
