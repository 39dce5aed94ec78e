/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The judge: turns witnesses into a verdict. Pure: no I/O, no BPF, no time. It
 * decodes every raw entry itself and believes nothing that the programs decided.
 */
#ifndef PFNW_JUDGE_H
#define PFNW_JUDGE_H

#include <stdbool.h>

#include "cpu_walk.h"
#include "iommu_walk.h"

enum verdict { V_MATCH, V_MISMATCH, V_STALE, V_RACED, V_UNVERIFIED };
#define VERDICTS 5

/* Why, for a verdict that needs a reason. Kept in step with docs/verdicts.md. */
enum cause {
	CAUSE_NONE,
	CAUSE_CHANGED, /* an entry changed between the claim and the walk */
	CAUSE_UNKNOWN_CHANGES, /* whether one changed is not known */
	CAUSE_NOT_PRESENT, /* no walk found a present leaf */
	CAUSE_FAULT, /* a page-table page could not be read */
	CAUSE_WITNESSES, /* cpu walk and pagemap differ: the walk is in doubt */
	CAUSE_CONTEXT, /* no free task context */
	CAUSE_DMA, /* no vfio_dma for the IOVA */
	CAUSE_SETTLED, /* match, found by walking again */
	CAUSE_FILE, /* match: not mapped just now, but the file still has the frame there */
	CAUSE_BUSY, /* mapped and unmapped all the time: could not be looked at in peace */
	CAUSES,
};

const char *verdict_name(enum verdict v);
const char *cause_name(enum cause c);

/* A frame that one witness names; valid false: it names none. */
struct frame {
	bool valid;
	bool writable;
	__u64 pfn;
};

/* What the IOMMU translates an IOVA to; valid false: to nothing. */
struct io_frame {
	bool valid;
	__u32 rights; /* IOMMU_READ 1, IOMMU_WRITE 2; those the format can withhold */
	__u64 pfn;
	__u64 bytes; /* that the leaf translates */
};

/* The formats by enum pfnw_iommu_kind, for a kernel whose address mask is @addr_mask. */
void io_formats_init(struct iommu_format f[PFNW_IOMMU_KINDS], __u64 addr_mask);
const char *io_kind_name(enum pfnw_iommu_kind k);

/* Decode the raw entries of @w from the top; a chain that does not hold is no frame. */
struct io_frame judge_iowalk(const struct iommu_format *f, const struct pfnw_iowalk *w);

/* Everything there is to know of one page whose witnesses were found different. */
struct evidence {
	__u64 va; /* bytes */
	__u64 pfn; /* claimed or mapped */
	__u32 prot; /* of the mapping */
	__u32 dma_prot; /* that the owner asked for */
	__u32 kernel_rules; /* enum pfnw_rule bits found by the programs */
	enum pfnw_moved moved;
	/*
	 * The snapshot was read under the lock that forbids any change; or what was claimed
	 * is equal to it, so that what is mapped must be, too, whatever happened since.
	 */
	bool exact;
	struct pfnw_leaf snap;
	struct pfnw_walk walk;
	struct pfnw_iowalk io; /* the IOMMU's table; .status UNREAD: not asked */
	bool walked_again; /* second walk, later */
	struct pfnw_walk again;
	bool asked_pagemap;
	__u64 pagemap_pfn; /* 0: no frame there */
};

struct judgement {
	enum verdict verdict;
	enum cause cause;
	__u32 rules; /* enum pfnw_rule bits that are broken */
	struct frame snap, walk, again;
	struct io_frame io;
};

/* The frame that a leaf or a walk gives @va; rejects what is not a present leaf. */
struct frame judge_leaf(const struct cpu_format *f, const struct pfnw_leaf *l, __u64 va);
struct frame judge_walk(const struct cpu_format *f, const struct pfnw_walk *w);

struct judgement judge_page(const struct cpu_format *f, const struct iommu_format *io,
			    const struct evidence *e);

/* What kernels before 5.7 computed for a VM_PFNMAP VMA (fixed by 5cbf3264bc71). */
__u64 judge_linear_pfn(const struct pfnw_vma *v, __u64 va);

/* Page counts of a run of pfnwatch; seen is the sum of the rest. */
struct pages {
	__u64 seen, match, mismatch, stale, raced, unverified, lost;
};

enum conclusion { C_PROVEN, C_BROKEN, C_INCOMPLETE };
const char *conclusion_name(enum conclusion c);

/*
 * @violations: broken rules and claims that differ without a page of their own;
 * @doubts: anything else that was not seen (lost records, skipped programs, ...).
 * A sum that does not add up is a doubt, whatever the cause.
 */
enum conclusion judge_run(const struct pages *p, __u64 violations, __u64 doubts);

#endif
