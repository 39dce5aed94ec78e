// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "judge.h"

#define IOMMU_READ 1
#define IOMMU_WRITE 2

const char *verdict_name(enum verdict v)
{
	static const char *const name[] = { "match", "mismatch", "stale", "raced", "unverified" };

	return (unsigned int)v < VERDICTS ? name[v] : "?";
}

const char *cause_name(enum cause c)
{
	static const char *const name[] = {
		"",
		"tables-changed",
		"changes-unknown",
		"not-present",
		"walk-failed",
		"witnesses-disagree",
		"no-context",
		"no-dma",
		"settled",
		"in-its-file",
		"busy",
	};

	return (unsigned int)c < CAUSES ? name[c] : "?";
}

const char *conclusion_name(enum conclusion c)
{
	static const char *const name[] = { "proven", "broken", "incomplete" };

	return name[c];
}

static struct frame frame_of(const struct cpu_format *f, int level, __u64 entry, __u64 va)
{
	struct frame fr = { 0 };

	if (level < 1 || level > 3 || !cpu_present(level, entry) || !cpu_is_leaf(level, entry))
		return fr;
	fr.valid = true;
	fr.pfn = cpu_leaf_pfn(f, level, entry, va);
	fr.writable = cpu_writable(entry);
	return fr;
}

struct frame judge_leaf(const struct cpu_format *f, const struct pfnw_leaf *l, __u64 va)
{
	return frame_of(f, l->level, l->entry, va);
}

struct frame judge_walk(const struct cpu_format *f, const struct pfnw_walk *w)
{
	struct frame none = { 0 };
	int level;

	/* Follow the raw entries from the top: the chain must hold together. */
	for (level = w->top; level >= 1 && level <= PFNW_LEVELS; level--) {
		__u64 e = w->entry[level - 1];

		if (!cpu_present(level, e))
			return none;
		if (cpu_is_leaf(level, e))
			return level == w->leaf ? frame_of(f, level, e, w->va) : none;
	}
	return none;
}

__u64 judge_linear_pfn(const struct pfnw_vma *v, __u64 va)
{
	return ((va - v->start) >> PFNW_PAGE_SHIFT) + v->pgoff;
}

void io_formats_init(struct iommu_format f[PFNW_IOMMU_KINDS], __u64 addr_mask)
{
	static const struct iommu_format formats[PFNW_IOMMU_KINDS] = {
		[PFNW_IOMMU_VTD_SS] = IOMMU_FORMAT_VTD_SS,
		[PFNW_IOMMU_X86] = IOMMU_FORMAT_X86,
		[PFNW_IOMMU_AMD_V1] = IOMMU_FORMAT_AMD_V1,
		[PFNW_IOMMU_VIRTIO] = { .kind = PFNW_IOMMU_VIRTIO, .rights = 3 },
	};

	for (int i = 0; i < PFNW_IOMMU_KINDS; i++) {
		f[i] = formats[i];
		f[i].addr_mask &= addr_mask;
	}
}

const char *io_kind_name(enum pfnw_iommu_kind k)
{
	static const char *const name[] = { "unknown", "vt-d", "x86", "amd-v1", "virtio-iommu" };

	return (unsigned int)k < PFNW_IOMMU_KINDS ? name[k] : "?";
}

/* An interval instead of a table: first and last IOVA, physical address, flags. */
static struct io_frame virtio_frame(const struct pfnw_iowalk *w)
{
	struct io_frame fr = { 0 };

	if (w->status != PFNW_WALK_LEAF || w->iova < w->entry[0] || w->iova > w->entry[1])
		return fr;
	fr.valid = true;
	fr.pfn = (w->entry[2] + (w->iova - w->entry[0])) >> PFNW_PAGE_SHIFT;
	fr.rights = w->entry[3] & 3;
	fr.bytes = w->entry[1] - w->entry[0] + 1;
	return fr;
}

struct io_frame judge_iowalk(const struct iommu_format *f, const struct pfnw_iowalk *w)
{
	struct io_frame fr = { .rights = 3 }, none = { 0 };

	if (w->kind == PFNW_IOMMU_VIRTIO)
		return virtio_frame(w);
	if (w->kind <= PFNW_IOMMU_UNKNOWN || w->kind >= PFNW_IOMMU_KINDS ||
	    !iommu_in_reach(w->iova, w->top))
		return none;
	f += w->kind;
	for (int level = w->top; level >= 1 && level <= PFNW_IO_LEVELS; level--) {
		__u64 e = w->entry[level - 1];

		fr.rights &= iommu_rights(f, e);
		switch (iommu_entry(f, level, e)) {
		case IOMMU_ENTRY_TABLE:
			continue;
		case IOMMU_ENTRY_LEAF:
			if (level != w->leaf)
				return none;
			fr.valid = true;
			fr.pfn = iommu_leaf_pa(f, level, e, w->iova) >> PFNW_PAGE_SHIFT;
			fr.rights &= f->rights;
			fr.bytes = iommu_leaf_mask(f, level, e) + 1;
			return fr;
		default:
			return none;
		}
	}
	return none;
}

static bool installed_as_asked(const struct iommu_format *f, const struct io_frame *i,
			       const struct evidence *e)
{
	__u32 care = e->io.kind < PFNW_IOMMU_KINDS ? f[e->io.kind].rights : 3;

	return i->valid && i->pfn == e->pfn && !((i->rights ^ e->prot) & care);
}

static bool names(const struct frame *f, __u64 pfn)
{
	return f->valid && f->pfn == pfn;
}

static struct judgement say(struct judgement j, enum verdict v, enum cause c)
{
	j.verdict = v;
	j.cause = c;
	return j;
}

static enum cause why_raced(const struct evidence *e)
{
	return e->moved == PFNW_MOVED ? CAUSE_CHANGED : CAUSE_UNKNOWN_CHANGES;
}

/* A second walk that names the frame, with the rights that the mapping gives. */
static bool settles(const struct judgement *j, const struct evidence *e)
{
	return names(&j->again, e->pfn) && (!(e->prot & IOMMU_WRITE) || j->again.writable);
}

/* No witness names the frame: is that a wrong frame, or only a late look? */
static struct judgement judge_frame(struct judgement j, const struct evidence *e)
{
	if (!j.snap.valid && !j.walk.valid) {
		if (settles(&j, e))
			return say(j, V_MATCH, CAUSE_SETTLED);
		if (e->moved != PFNW_STOOD)
			return say(j, V_RACED, why_raced(e));
		if (e->walk.status == PFNW_WALK_FAULT)
			return say(j, V_UNVERIFIED, CAUSE_FAULT);
		return say(j, V_UNVERIFIED, CAUSE_NOT_PRESENT);
	}
	j.rules |= PFNW_RULE_PFN;
	/* Read under the PTL, like the kernel itself, or equal to what it pinned. */
	if (e->exact && j.snap.valid)
		return say(j, V_MISMATCH, CAUSE_NONE);
	if (e->moved == PFNW_STOOD) {
		if (settles(&j, e))
			return say(j, V_MATCH, CAUSE_SETTLED);
		/* The user-space witness sides with the kernel: doubt ourselves. */
		if (e->asked_pagemap && e->pagemap_pfn && e->pagemap_pfn == e->pfn)
			return say(j, V_UNVERIFIED, CAUSE_WITNESSES);
		return say(j, V_MISMATCH, CAUSE_NONE);
	}
	if (settles(&j, e))
		return say(j, V_MATCH, CAUSE_SETTLED);
	return say(j, V_RACED, why_raced(e));
}

struct judgement judge_page(const struct cpu_format *f, const struct iommu_format *io,
			    const struct evidence *e)
{
	struct judgement j = { 0 };
	bool write = e->prot & IOMMU_WRITE;
	bool named, writable;

	j.snap = judge_leaf(f, &e->snap, e->va);
	j.walk = judge_walk(f, &e->walk);
	if (e->walked_again)
		j.again = judge_walk(f, &e->again);

	if (!e->pfn)
		j.rules |= PFNW_RULE_PA_ZERO;
	if ((e->prot & (IOMMU_READ | IOMMU_WRITE)) & ~e->dma_prot)
		j.rules |= PFNW_RULE_PROT;
	j.rules |= e->kernel_rules & PFNW_RULE_NOT_RESERVED;
	if (io && e->io.status != PFNW_WALK_UNREAD) {
		j.io = judge_iowalk(io, &e->io);
		/* the container's lock was held: nobody else changes what was installed */
		if (e->io.status != PFNW_WALK_FAULT && !installed_as_asked(io, &j.io, e))
			j.rules |= PFNW_RULE_IOMMU;
	}

	named = names(&j.snap, e->pfn) || names(&j.walk, e->pfn);
	if (!named) {
		j = judge_frame(j, e);
		/* A rule that needs no page table is broken whatever the tables say. */
		if (j.rules & ~(__u32)PFNW_RULE_PFN)
			j.verdict = V_MISMATCH;
		if (j.verdict != V_MATCH)
			return j;
		j.rules &= ~(__u32)PFNW_RULE_PFN;
		if (e->io.status == PFNW_WALK_FAULT)
			return say(j, V_UNVERIFIED, CAUSE_FAULT);
		return j;
	}
	writable = (names(&j.snap, e->pfn) && j.snap.writable) ||
		   (names(&j.walk, e->pfn) && j.walk.writable);
	if (j.rules)
		return say(j, V_MISMATCH, CAUSE_NONE);
	if (e->io.status == PFNW_WALK_FAULT)
		return say(j, V_UNVERIFIED, CAUSE_FAULT);
	if (write && !writable) {
		/* Rights may have been taken away since: only a still table accuses. */
		if (e->moved != PFNW_STOOD && !(e->exact && names(&j.snap, e->pfn)))
			return say(j, V_RACED, why_raced(e));
		j.rules |= PFNW_RULE_PROT;
		return say(j, V_MISMATCH, CAUSE_NONE);
	}
	return say(j, V_MATCH, CAUSE_NONE);
}

enum conclusion judge_run(const struct pages *p, __u64 violations, __u64 doubts)
{
	__u64 sum = p->match + p->mismatch + p->stale + p->raced + p->unverified + p->lost;

	if (p->mismatch || p->stale || violations)
		return C_BROKEN;
	if (p->raced || p->unverified || p->lost || doubts || sum != p->seen)
		return C_INCOMPLETE;
	return C_PROVEN;
}
