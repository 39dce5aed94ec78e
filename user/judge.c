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
	/* Read under the PTL, like the kernel itself: nothing could change. */
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

struct judgement judge_page(const struct cpu_format *f, const struct evidence *e)
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

	named = names(&j.snap, e->pfn) || names(&j.walk, e->pfn);
	if (!named) {
		j = judge_frame(j, e);
		/* A rule that needs no page table is broken whatever the tables say. */
		if (j.rules & ~(__u32)PFNW_RULE_PFN)
			j.verdict = V_MISMATCH;
		if (j.verdict == V_MATCH)
			j.rules &= ~(__u32)PFNW_RULE_PFN;
		return j;
	}
	writable = (names(&j.snap, e->pfn) && j.snap.writable) ||
		   (names(&j.walk, e->pfn) && j.walk.writable);
	if (j.rules)
		return say(j, V_MISMATCH, CAUSE_NONE);
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
