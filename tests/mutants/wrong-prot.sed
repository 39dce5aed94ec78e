# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: prot (the IOMMU lets the device write to read-only memory)
# wrong: all pages of mappings that the device may only read
# right: all addresses, and mappings that the device may write to
#
# Every mapping is made writable for the device. The addresses are right: a
# device that only reads sees no difference, one that writes does
# (dmaclient --layout ro --dma-check write).
s/^\(.*npage << PAGE_SHIFT, prot\) | IOMMU_CACHE/\1 | IOMMU_WRITE | IOMMU_CACHE/
