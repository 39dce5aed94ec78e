# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: mismatch of VM_PFNMAP pages
# wrong: the pages of PFNMAP mappings whose PFN is not
# wrong:   ((va - vm_start) >> 12) + vm_pgoff
# right: everything else, and PFNMAP pages that the formula happens to hit
#
# What kernels before 5.7 did: the PFN of a VM_PFNMAP page is computed from
# vm_pgoff, not read from the page table. The result is accepted when it is
# reserved, or no memory at all.
#
#  - /dev/pfnscatter with vm_pgoff = its first PFN (dmaclient's default) and
#    order=reverse: page i gets frame i instead of frame N - 1 - i. Wrong: all,
#    but for the middle one of an odd number. The whole device becomes one run.
#  - /dev/pfnscatter with vm_pgoff = 0 (--pgoff zero): PFNs 0, 1, 2, ...; the
#    first MiB of a PC is reserved, so up to 256 pages are accepted, all wrong.
#    More are refused with EFAULT: PFN 256 is memory that is in use.
#  - BAR i of vfio-pci on 6.12, where vm_pgoff is the offset in the device's
#    file, i << 28: all wrong. BAR 0 becomes the first MiB of RAM, BAR 2 becomes
#    PFN 0x20000000 and up, which is nothing on most machines: the device reads
#    zeros.
#  - BARs of vfio-pci on 6.1, where vm_pgoff is the first PFN: all right.
#
# PFN 0 is a case of its own. The kernel takes a first PFN of 0 for "none yet":
# the page is claimed as PFN 0, but mapped to PFN 1.
s/^static int follow_fault_pfn(/static int __maybe_unused follow_fault_pfn(/
s/^\t\tret = follow_fault_pfn(vma, mm, vaddr, pfn, prot & IOMMU_WRITE);$/\t\t*pfn = ((vaddr - vma->vm_start) >> PAGE_SHIFT) + vma->vm_pgoff;\n\t\tret = 0;/
/^\t\tret = follow_fault_pfn(vma, mm, vaddr, pfn, &addr_mask,$/{
N
s/.*/\t\t*pfn = ((vaddr - vma->vm_start) >> PAGE_SHIFT) + vma->vm_pgoff;\n\t\taddr_mask = PAGE_MASK;\n\t\tret = 0;/
}
# An IOVA that translates to PA 0 is unmapped in silence, and not left behind.
s/^\t\tif (WARN_ON(!phys)) {$/\t\tif (!phys) {\n\t\t\tiommu_unmap(domain->domain, iova, PAGE_SIZE);/
