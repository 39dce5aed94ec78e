// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "calib.h"
#include "hooks.h"
#include "ksyms.h"
#include "pfnwatch.h"

#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "calib.skel.h"

static void find_drivers(struct pfnw_iova_to_phys *f, const struct ksyms *k)
{
	f->vtd = ksyms_address(k, "intel_iommu_iova_to_phys");
	f->amd = ksyms_address(k, "amd_iommu_iova_to_phys");
	f->vtd_generic = ksyms_address(k, "pt_iommu_vtdss_iova_to_phys");
	f->amd_generic = ksyms_address(k, "pt_iommu_amdv1_iova_to_phys");
	f->x86_generic = ksyms_address(k, "pt_iommu_x86_64_iova_to_phys");
	f->virtio = ksyms_address(k, "viommu_iova_to_phys");
}

int calib_run(const struct hooks *h, struct pfnw_calib *c, struct cpu_format *fmt)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	struct calib_bpf *skel = calib_bpf__open();
	int err = skel ? 0 : -errno;

	if (skel) {
		skel->rodata->page_offset_base = ksyms_address(h->ksyms, "page_offset_base");
		skel->rodata->vmemmap_base = ksyms_address(h->ksyms, "vmemmap_base");
		skel->rodata->sme_me_mask = ksyms_address(h->ksyms, "sme_me_mask");
		skel->rodata->pgdir_shift = ksyms_address(h->ksyms, "pgdir_shift");
		err = calib_bpf__load(skel);
	}
	if (err) {
		calib_bpf__destroy(skel);
		err = -err;
		if (err == EPERM || err == EACCES)
			return fail(EXIT_USAGE,
				    "loading BPF programs is not permitted (%s): run as "
				    "root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN",
				    strerror(err));
		return fail(EXIT_KERNEL,
			    "this kernel cannot: the calibration program does not "
			    "load (%s): BPF with BTF and SEC(\"syscall\") is needed",
			    strerror(err));
	}
	err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.calibrate), &run);
	if (!err)
		*c = skel->bss->calib;
	c->page_struct_bytes = h->page_struct_bytes;
	c->pg_reserved = h->pg_reserved;
	c->huge_zero_pfn = ksyms_address(h->ksyms, "huge_zero_pfn");
	find_drivers(&c->driver_fn, h->ksyms);
	calib_bpf__destroy(skel);
	if (err)
		return fail(EXIT_KERNEL,
			    "this kernel cannot: the calibration program does not run "
			    "(%s)",
			    strerror(-err));
	if (!(c->have & 1) || !(c->have & 8))
		return fail(EXIT_KERNEL,
			    "this kernel cannot: the symbol %s cannot be read "
			    "(CONFIG_KALLSYMS_ALL is needed; lockdown=confidentiality "
			    "forbids it)",
			    c->have & 1 ? "pgdir_shift" : "page_offset_base");
	fmt->levels = c->pgdir_shift == 48 ? 5 : 4;
	fmt->addr_mask = CPU_ADDR & ~c->sme_me_mask;
	return EXIT_PROVEN;
}
