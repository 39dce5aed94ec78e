/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Calibration: loaded, run once and dropped before the main programs. What it
 * reads becomes constants there, so that the verifier prunes what cannot run.
 * Where to read comes from the loader, which has the symbols anyway; and without
 * a relocation libbpf need not parse the types of the kernel for this one.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "events.h"

const volatile __u64 page_offset_base, vmemmap_base, sme_me_mask, pgdir_shift; /* 0: no symbol */

struct pfnw_calib calib;

SEC("syscall")
int calibrate(void *ctx)
{
	u32 shift = 0;

	if (page_offset_base &&
	    !bpf_probe_read_kernel(&calib.page_offset_base, 8, (void *)page_offset_base))
		calib.have |= 1;
	if (vmemmap_base && !bpf_probe_read_kernel(&calib.vmemmap_base, 8, (void *)vmemmap_base))
		calib.have |= 2;
	if (sme_me_mask && !bpf_probe_read_kernel(&calib.sme_me_mask, 8, (void *)sme_me_mask))
		calib.have |= 4;
	if (pgdir_shift && !bpf_probe_read_kernel(&shift, 4, (void *)pgdir_shift)) {
		calib.pgdir_shift = shift;
		calib.have |= 8;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
