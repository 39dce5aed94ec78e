# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch of pinned pages
# wrong: pages of memory that is not PFNMAP, whose PFN is above 0xffff and not a
# wrong:   multiple of 0x10000, with i % 512 != 0, where
# wrong:   i = (iova - first iova of the mapping) >> 12
# right: everything else: first pages of a batch, and memory below 256 MiB
#
# All PFNs of a batch but the first lose what does not fit in 16 bits, so the
# device gets at low memory. Let it read there, but never write.
#
# A pin is never given back, because the frame that would be given back is not
# the one that was pinned: mapped memory leaks until the machine is turned off.
/^static \(int\|long\) vaddr_get_pfns(/i\
static void mutant_truncate(struct page **pages, int n)\
{\
	int i;\
\
	for (i = 1; i < n; i++) {\
		u16 pfn = page_to_pfn(pages[i]);\
\
		if (pfn)\
			pages[i] = pfn_to_page(pfn);\
	}\
}\

s/^\t\t\*pfn = page_to_pfn(\(batch->\|\)pages\[0\]);$/\t\tmutant_truncate(\1pages, ret);\n&/
s/^\t\tunpin_user_pages_dirty_lock(&page, 1, prot & IOMMU_WRITE);$/\t\t(void)page;/
s/^\tunpin_user_page_range_dirty_lock(pfn_to_page(start_pfn), npage,$/\tpr_debug("%lx: %lu leak %d\\n", start_pfn, npage,/
