# module: vfio_iommu_type1
# source: drivers/vfio/vfio_iommu_type1.c
# expect: prot (the IOMMU lets the device write to read-only memory)
# wrong: all pages of PFNMAP mappings whose PTE is read-only, if they are mapped
# wrong:   for the device to write; a healthy kernel refuses such a mapping
# wrong:   with EFAULT
# right: everything else
#
# The leg for VM_PFNMAP ignores whether the PTE is writable, as kernels did
# before commit 07956b6269d3. The pages have to be present
# (dmaclient --layout pfnmap --prot r --flags rw).
s/^\tif (write_fault && !pte_write(\*ptep))$/\tif (false \&\& write_fault \&\& !pte_write(*ptep))/
s/^\tif (write_fault && !args.writable)/\tif (false \&\& write_fault \&\& !args.writable)/
