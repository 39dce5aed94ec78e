// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "stale.h"

#define VM_PFNMAP 0x400ULL
#define VM_HUGETLB 0x400000ULL
#define VM_SHARED 0x8ULL
#define MAPPING_ANON 1ULL /* PAGE_MAPPING_ANON, include/linux/page-flags.h */
#define MAPPING_FLAGS 3ULL
#define IOMMU_WRITE 2

#define PAGE_BYTES 4096ULL
#define NOT_THERE (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY)

const char *stale_name(enum stale_case c)
{
	static const char *const name[STALE_CASES] = {
		"",    "unmapped",	"moved",	  "dropped",	"replaced", "punched",
		"cow", "pfnmap-zapped", "pfnmap-changed", "owner-gone", "narrowed",
	};

	return (unsigned int)c < STALE_CASES ? name[c] : "?";
}

const char *severity_name(enum severity s)
{
	static const char *const name[SEVERITIES] = { "bug", "error", "known" };

	return (unsigned int)s < SEVERITIES ? name[s] : "?";
}

enum severity stale_severity(enum stale_case c)
{
	switch (c) {
	case STALE_PFNMAP_ZAPPED:
	case STALE_PFNMAP_CHANGED:
		return SEVERITY_BUG;
	case STALE_COW:
	case STALE_OWNER_GONE:
	case STALE_NARROWED:
		return SEVERITY_KNOWN;
	default:
		return SEVERITY_ERROR;
	}
}

static struct stale_judgement say(enum verdict v, enum cause c, enum stale_case how, __u32 rules)
{
	struct stale_judgement j = { .verdict = v, .cause = c, .how = how, .rules = rules };

	return j;
}

static struct stale_judgement stale(enum stale_case how)
{
	return say(V_STALE, CAUSE_NONE, how, 0);
}

/* Does the file that @e's VMA maps still have the frame, at that place? */
static bool file_has_it(const struct stale_evidence *e)
{
	__u64 want = e->vma.vma.pgoff + (e->va - e->vma.vma.start) / PAGE_BYTES;

	if (!e->frame.known || !e->vma.mapping || e->frame.mapping != e->vma.mapping)
		return false;
	/* hugetlb counts in huge pages, in some kernels */
	return e->vma.vma.flags & VM_HUGETLB || e->frame.index == want;
}

static bool anonymous(const struct stale_evidence *e)
{
	return e->frame.known && e->frame.mapping & MAPPING_ANON;
}

/* The address space is there; its VA names no frame, or another one. */
static struct stale_judgement judge_va(const struct stale_evidence *e)
{
	bool nothing = e->differs & NOT_THERE;

	if (e->change == PFNW_CHANGE_MOVE)
		return stale(STALE_MOVED);
	/* the owner is exiting: its tables go, and what is mapped goes soon */
	if (!e->vma_asked)
		return say(V_RACED, CAUSE_BUSY, STALE_NONE, 0);
	if (!e->vma.vma.valid)
		return stale(STALE_UNMAPPED);
	if (e->vma.vma.flags & VM_PFNMAP)
		return stale(nothing ? STALE_PFNMAP_ZAPPED : STALE_PFNMAP_CHANGED);
	if (file_has_it(e)) {
		/* Not mapped just now: a touch brings the same frame back. */
		if (nothing)
			return say(V_MATCH, CAUSE_FILE, STALE_NONE, 0);
		return stale(STALE_COW);
	}
	/* An entry of swap or migration leads back to the frame, as long as it is pinned. */
	if (e->differs & PFNW_D_CPU_AWAY)
		return say(V_UNVERIFIED, CAUSE_NOT_PRESENT, STALE_NONE, 0);
	if (e->vma.mapping && !anonymous(e))
		return stale(STALE_PUNCHED);
	if (nothing)
		return stale(STALE_DROPPED);
	/* a pin that may only read is the one that a write takes the page from */
	/* (an anonymous page or a zero page; any other frame was never the owner's) */
	if (!(e->dma_prot & IOMMU_WRITE) &&
	    (anonymous(e) || (e->frame.known && (e->frame.reserved == 1 || e->frame.zero))))
		return stale(STALE_COW);
	return stale(STALE_REPLACED);
}

struct stale_judgement judge_stale(const struct stale_evidence *e)
{
	if (e->differs & (PFNW_D_IO_FAULT | PFNW_D_CPU_FAULT))
		return say(V_UNVERIFIED, CAUSE_FAULT, STALE_NONE, 0);
	if (e->differs & PFNW_D_IO_NONE)
		return say(V_MISMATCH, CAUSE_NONE, STALE_NONE, PFNW_RULE_IOMMU);
	if (e->differs & PFNW_D_RIGHTS)
		return say(V_MISMATCH, CAUSE_NONE, STALE_NONE, PFNW_RULE_IOMMU);
	/* an owner that is exiting closes the container next, and nobody else may hold it */
	if (e->mm_gone && e->leaving)
		return say(V_RACED, CAUSE_BUSY, STALE_NONE, 0);
	if (e->mm_gone)
		return stale(STALE_OWNER_GONE);
	if (e->differs & (NOT_THERE | PFNW_D_FRAME))
		return judge_va(e);
	if (e->differs & PFNW_D_NARROW)
		return say(V_MATCH, CAUSE_NONE, STALE_NARROWED, 0);
	return say(V_MATCH, CAUSE_NONE, STALE_NONE, 0);
}
