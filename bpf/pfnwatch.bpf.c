/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* One object, one skeleton: the rooms of bpf/ share maps and inline functions. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "audit_abi.h"
#include "shapes.h"
#include "walk.bpf.h"
#include "both.bpf.h"
#include "dma_tree.bpf.h"
#include "mm.bpf.c"
#include "notified.bpf.c"
#include "ledger.bpf.h"
#include "vfio.bpf.c"
#include "iommu.bpf.c"
#include "unmap.bpf.c"
#include "audit.bpf.c"
#include "compare.bpf.c"
#include "state.bpf.c"
#include "whole.bpf.c"
#include "calm.bpf.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
