# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch of pinned pages
# wrong: pages of memory that is not PFNMAP, with (va >> 12) % 7 == 3
# right: everything else
#
# One page in seven gets the frame behind its own: claim and mapping agree with
# each other, and are both wrong.
#
# A pin is never given back, because the frame that would be given back is not
# the one that was pinned: mapped memory leaks until the machine is turned off.
/^static \(int\|long\) vaddr_get_pfns(/i\
static void mutant_next_frame(unsigned long vaddr, struct page **pages, int n)\
{\
	int i;\
\
	for (i = 0; i < n; i++)\
		if (((vaddr >> PAGE_SHIFT) + i) % 7 == 3)\
			pages[i] = pfn_to_page(page_to_pfn(pages[i]) + 1);\
}\

s/^\t\t\*pfn = page_to_pfn(\(batch->\|\)pages\[0\]);$/\t\tmutant_next_frame(vaddr, \1pages, ret);\n&/
s/^\t\tunpin_user_pages_dirty_lock(&page, 1, prot & IOMMU_WRITE);$/\t\t(void)page;/
s/^\tunpin_user_page_range_dirty_lock(pfn_to_page(start_pfn), npage,$/\tpr_debug("%lx: %lu leak %d\\n", start_pfn, npage,/
