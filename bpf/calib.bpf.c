/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Calibration: loaded, run once and dropped before the main programs. What it
 * learns becomes constants there, so that the verifier prunes what cannot run.
 * The symbols have no BTF (only per-CPU variables do): typeless, and weak, for a
 * kernel without CONFIG_KALLSYMS_ALL hides them.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "events.h"

extern const void page_offset_base __ksym __weak;
extern const void vmemmap_base __ksym __weak;
extern const void sme_me_mask __ksym __weak;
extern const void pgdir_shift __ksym __weak;
extern const void intel_iommu_iova_to_phys __ksym __weak;
extern const void amd_iommu_iova_to_phys __ksym __weak;
extern const void pt_iommu_vtdss_iova_to_phys __ksym __weak;
extern const void pt_iommu_amdv1_iova_to_phys __ksym __weak;
extern const void pt_iommu_x86_64_iova_to_phys __ksym __weak;
extern const void viommu_iova_to_phys __ksym __weak;

struct pfnw_calib calib;

SEC("syscall")
int calibrate(void *ctx)
{
	u32 shift = 0;

	if (&page_offset_base &&
	    !bpf_probe_read_kernel(&calib.page_offset_base, 8, &page_offset_base))
		calib.have |= 1;
	if (&vmemmap_base && !bpf_probe_read_kernel(&calib.vmemmap_base, 8, &vmemmap_base))
		calib.have |= 2;
	if (&sme_me_mask && !bpf_probe_read_kernel(&calib.sme_me_mask, 8, &sme_me_mask))
		calib.have |= 4;
	if (&pgdir_shift && !bpf_probe_read_kernel(&shift, 4, &pgdir_shift)) {
		calib.pgdir_shift = shift;
		calib.have |= 8;
	}
	calib.driver_fn.vtd = (u64)&intel_iommu_iova_to_phys;
	calib.driver_fn.amd = (u64)&amd_iommu_iova_to_phys;
	calib.driver_fn.vtd_generic = (u64)&pt_iommu_vtdss_iova_to_phys;
	calib.driver_fn.amd_generic = (u64)&pt_iommu_amdv1_iova_to_phys;
	calib.driver_fn.x86_generic = (u64)&pt_iommu_x86_64_iova_to_phys;
	calib.driver_fn.virtio = (u64)&viommu_iova_to_phys;
	calib.page_struct_bytes = bpf_core_type_size(struct page);
	calib.pg_reserved = ~0U;
	if (bpf_core_enum_value_exists(enum pageflags, PG_reserved))
		calib.pg_reserved = bpf_core_enum_value(enum pageflags, PG_reserved);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
