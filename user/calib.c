// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "calib.h"
#include "pfnwatch.h"

#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "calib.skel.h"

int calib_run(struct pfnw_calib *c, struct cpu_format *fmt)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	struct calib_bpf *skel = calib_bpf__open_and_load();
	int err;

	if (!skel) {
		err = errno;
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
