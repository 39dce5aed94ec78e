/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What became of a mapping: the IOMMU's table and the owner's page tables differ now,
 * or differed when they were looked at. Names the case. Pure, like the judge.
 */
#ifndef PFNW_STALE_H
#define PFNW_STALE_H

#include "audit_abi.h"
#include "judge.h"

/* How a mapping went stale. Kept in step with docs/verdicts.md. */
enum stale_case {
	STALE_NONE,
	STALE_UNMAPPED, /* munmap(): there is no VMA any more */
	STALE_MOVED, /* mremap(): the memory is elsewhere */
	STALE_DROPPED, /* MADV_DONTNEED, or the like, of private memory */
	STALE_REPLACED, /* the VA has another frame */
	STALE_PUNCHED, /* the file does not have the frame any more */
	STALE_COW, /* copied when written to, after a read-only pin */
	STALE_PFNMAP_ZAPPED, /* the driver took its pages back */
	STALE_PFNMAP_CHANGED, /* the driver put another frame there */
	STALE_OWNER_GONE, /* the address space is gone */
	STALE_NARROWED, /* the frame is right, the right to write was taken away */
	STALE_CASES,
};

/* Whose fault is it? */
enum severity {
	SEVERITY_BUG, /* the kernel's */
	SEVERITY_ERROR, /* the owner's: it must unmap for DMA first */
	SEVERITY_KNOWN, /* known behaviour of the kernel */
	SEVERITIES,
};

/* Known behaviour of the kernel is told, and breaks nothing unless asked to. */
#define BREAK_ON_DEFAULT (1u << SEVERITY_BUG | 1u << SEVERITY_ERROR)

const char *stale_name(enum stale_case c);
const char *severity_name(enum severity s);
enum severity stale_severity(enum stale_case c);

/* All that is known of a range that differs. */
struct stale_evidence {
	__u32 differs; /* enum pfnw_differs bits */
	__u64 va; /* bytes; of the first page */
	__u32 dma_prot; /* that the owner asked for */
	bool mm_gone; /* nobody uses the address space any more */
	bool leaving; /* the owner is exiting, and has not closed its files yet */
	bool vma_asked; /* .vma was looked for: valid 0 says that there is none */
	struct pfnw_vma_file vma;
	struct pfnw_frame frame; /* that the IOMMU names */
	__u8 change; /* enum pfnw_change that did it; 0: not known */
};

struct stale_judgement {
	enum verdict verdict;
	enum cause cause;
	enum stale_case how; /* with V_STALE; STALE_NARROWED also with V_MATCH */
	__u32 rules; /* enum pfnw_rule bits, with V_MISMATCH */
};

/*
 * The range was seen to differ more than once, with nobody mapping or unmapping in
 * between: the difference is real.
 */
struct stale_judgement judge_stale(const struct stale_evidence *e);

#endif
