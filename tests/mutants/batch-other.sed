# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch of pinned pages
# wrong: pages of memory that is not PFNMAP, with i % 512 == 1 or i % 512 == 2,
# wrong:   where i = (iova - first iova of the mapping) >> 12, if the batch of
# wrong:   512 that page i belongs to has at least 3 pages of the mapping
# right: everything else: all first pages of a batch, so every claim that is
# right:   looked at alone
#
# Two pages of each batch change places. What vaddr_get_pfns() returns by its
# pfn pointer is right throughout; only the batch behind it is not.
#
# Every frame is pinned and unpinned once: nothing leaks.
s/^\t\t\*pfn = page_to_pfn(\(batch->\|\)pages\[0\]);$/\t\tif (ret >= 3)\n\t\t\tswap(\1pages[1], \1pages[2]);\n&/
