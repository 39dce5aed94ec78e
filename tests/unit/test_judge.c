// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/judge.c: every verdict, every cause, every rule; and how a run ends. */
#include "unit.h"

#include "judge.h"

#include <string.h>

#define READ 1
#define WRITE 2
#define RW (READ | WRITE)

#define VA 0x7f1234567000ULL
#define X 0x12345ULL /* the frame that was mapped */
#define Y 0x54321ULL /* another one */

/* What a witness saw. */
enum sight {
	UNSEEN, /* it was not asked */
	X_RW, /* a PTE for X, writable */
	X_RO,
	Y_RW,
	Y_RO,
	GONE, /* an empty PTE */
	SWAPPED,
	HIDDEN, /* PROT_NONE: X, without rights */
	FAULT, /* a table could not be read */
	X_2M, /* X as a page of a huge leaf */
	X_1G,
};

static uint64_t entry_of(enum sight s, int *level)
{
	uint64_t in;

	*level = 1;
	switch (s) {
	case X_RW:
		return linux_leaf(1, X, L_SHARED, PHYS_52);
	case X_RO:
		return linux_leaf(1, X, L_READONLY, PHYS_52);
	case Y_RW:
		return linux_leaf(1, Y, L_SHARED, PHYS_52);
	case Y_RO:
		return linux_leaf(1, Y, L_READONLY, PHYS_52);
	case HIDDEN:
		return linux_leaf(1, X, L_NONE, PHYS_52);
	case SWAPPED:
		return linux_swap(3, 0x777, 0);
	case X_2M:
	case X_1G:
		*level = s == X_2M ? 2 : 3;
		in = cpu_leaf_pages(*level) - 1;
		/* so that VA falls on X */
		assert_int_equal(X & 0x1ff, 0x145);
		return linux_leaf(*level, X & ~in, L_SHARED | L_PSE, PHYS_52);
	default:
		return 0;
	}
}

/* A VA whose place in a huge leaf is that of X. */
static uint64_t va_of(enum sight s)
{
	return s == X_2M || s == X_1G ? 0x7f1240000000 | (X & 0x3ffff) << 12 : VA;
}

static struct pfnw_walk walk_of(enum sight s, uint64_t va)
{
	struct pfnw_walk w = { .va = va, .top = 4 };
	int level;

	if (s == UNSEEN)
		return w;
	for (int l = 4; l > 1; l--)
		w.entry[l - 1] = linux_table(0x900 + l);
	w.entry[4] = 0;
	if (s == FAULT) {
		w.entry[1] = 0;
		w.leaf = 3;
		w.status = PFNW_WALK_FAULT;
		return w;
	}
	w.entry[0] = 0;
	w.leaf = 1;
	entry_of(s, &level);
	w.entry[level - 1] = entry_of(s, &level);
	if (level > 1)
		w.entry[level - 2] = 0;
	w.leaf = level;
	w.status = cpu_present(level, w.entry[level - 1]) ? PFNW_WALK_LEAF : PFNW_WALK_NONE;
	return w;
}

static struct pfnw_leaf leaf_of(enum sight s)
{
	struct pfnw_leaf l = { 0 };
	int level;

	if (s == UNSEEN)
		return l;
	l.entry = entry_of(s, &level);
	l.level = level;
	l.locked = 1;
	return l;
}

/* pagemap's answer: 0 nothing asked, 1 no frame, else a PFN. */
#define SILENT 0
#define ABSENT 1

#define PFN PFNW_RULE_PFN
#define PROT PFNW_RULE_PROT
#define ZERO PFNW_RULE_PA_ZERO
#define NOT_RESERVED PFNW_RULE_NOT_RESERVED

struct row {
	const char *name;
	enum sight snap, walk, again;
	enum pfnw_moved moved;
	uint64_t pagemap;
	uint32_t prot, dma_prot; /* 0: RW */
	bool exact;
	uint64_t pfn; /* 0: X */
	bool pa_zero;
	uint32_t kernel_rules;
	/* and then */
	enum verdict verdict;
	enum cause cause;
	uint32_t rules;
};

static const struct row rows[] = {
	/* ---- match ---- */
	{ "by the snapshot", X_RW, Y_RW, .verdict = V_MATCH },
	{ "by the snapshot, whatever moved since", X_RW, GONE, .moved = PFNW_MOVED,
	  .verdict = V_MATCH },
	{ "by the snapshot, walk unreadable", X_RW, FAULT, .verdict = V_MATCH },
	{ "by the walk", UNSEEN, X_RW, .verdict = V_MATCH },
	{ "by the walk, the snapshot being late", Y_RW, X_RW, .verdict = V_MATCH },
	{ "by the walk, the snapshot being empty", GONE, X_RW, .verdict = V_MATCH },
	{ "by a leaf of 2 MiB", X_2M, UNSEEN, .verdict = V_MATCH },
	{ "by a leaf of 1 GiB", UNSEEN, X_1G, .verdict = V_MATCH },
	{ "of a PROT_NONE page, for reading", UNSEEN, HIDDEN, .prot = READ, .verdict = V_MATCH },
	{ "read-only leaf, device reads", UNSEEN, X_RO, .prot = READ, .verdict = V_MATCH },
	{ "rights by the snapshot, frame by both", X_RW, X_RO, .verdict = V_MATCH },
	{ "rights by the walk, frame by both", X_RO, X_RW, .verdict = V_MATCH },
	{ "settled by a second walk", UNSEEN, Y_RW, X_RW, .verdict = V_MATCH,
	  .cause = CAUSE_SETTLED },
	{ "settled by a second walk after a change", Y_RW, Y_RW, X_RW, .moved = PFNW_MOVED,
	  .verdict = V_MATCH, .cause = CAUSE_SETTLED },
	{ "settled, the first two having seen nothing", GONE, GONE, X_RW, .verdict = V_MATCH,
	  .cause = CAUSE_SETTLED },
	{ "settled, unreadable at first", UNSEEN, FAULT, X_RW, .moved = PFNW_MOVED,
	  .verdict = V_MATCH, .cause = CAUSE_SETTLED },
	{ "settled read-only, device reads", UNSEEN, Y_RW, X_RO, .prot = READ, .verdict = V_MATCH,
	  .cause = CAUSE_SETTLED },
	{ "settled, history unknown", UNSEEN, Y_RW, X_RW, .moved = PFNW_UNKNOWN, .verdict = V_MATCH,
	  .cause = CAUSE_SETTLED },

	/* ---- mismatch: the frame ---- */
	{ "wrong frame, tables still", UNSEEN, Y_RW, .verdict = V_MISMATCH, .rules = PFN },
	{ "wrong frame in the snapshot, nothing there now", Y_RW, GONE, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "wrong frame, second walk agrees", Y_RW, Y_RW, Y_RW, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "wrong frame, tables still, seen again without the rights", UNSEEN, Y_RW, X_RO,
	  .verdict = V_MISMATCH, .rules = PFN },
	{ "wrong frame, pagemap sees the same", UNSEEN, Y_RW, Y_RW, .pagemap = Y,
	  .verdict = V_MISMATCH, .rules = PFN },
	{ "wrong frame, pagemap has none", UNSEEN, Y_RW, .pagemap = ABSENT, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "the frame behind it", UNSEEN, X_RW, .pfn = X + 1, .verdict = V_MISMATCH, .rules = PFN },
	{ "a frame of the same huge leaf", UNSEEN, X_2M, .pfn = X ^ 1, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "a PROT_NONE page of another frame", UNSEEN, HIDDEN, .prot = READ, .pfn = Y,
	  .verdict = V_MISMATCH, .rules = PFN },
	{ "PFNMAP under the PTL, still", Y_RW, Y_RW, .exact = true, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "PFNMAP under the PTL, though it moved since", Y_RW, GONE, .exact = true,
	  .moved = PFNW_MOVED, .verdict = V_MISMATCH, .rules = PFN },
	{ "PFNMAP under the PTL, history unknown", Y_RW, UNSEEN, .exact = true,
	  .moved = PFNW_UNKNOWN, .verdict = V_MISMATCH, .rules = PFN },

	/* ---- raced ---- */
	{ "wrong frame, but it moved", UNSEEN, Y_RW, .moved = PFNW_MOVED, .verdict = V_RACED,
	  .cause = CAUSE_CHANGED, .rules = PFN },
	{ "wrong frame twice, but it moved", Y_RW, Y_RW, Y_RW, .moved = PFNW_MOVED, .pagemap = Y,
	  .verdict = V_RACED, .cause = CAUSE_CHANGED, .rules = PFN },
	{ "wrong frame, history unknown", UNSEEN, Y_RW, .moved = PFNW_UNKNOWN, .verdict = V_RACED,
	  .cause = CAUSE_UNKNOWN_CHANGES, .rules = PFN },
	{ "seen again, but without the rights", UNSEEN, Y_RW, X_RO, .moved = PFNW_MOVED,
	  .verdict = V_RACED, .cause = CAUSE_CHANGED, .rules = PFN },
	{ "nothing there, then without the rights", GONE, GONE, X_RO, .moved = PFNW_MOVED,
	  .verdict = V_RACED, .cause = CAUSE_CHANGED },
	{ "nothing there, and it moved", GONE, GONE, .moved = PFNW_MOVED, .verdict = V_RACED,
	  .cause = CAUSE_CHANGED },
	{ "nothing there, history unknown", UNSEEN, GONE, .moved = PFNW_UNKNOWN, .verdict = V_RACED,
	  .cause = CAUSE_UNKNOWN_CHANGES },
	{ "swapped out, and it moved", UNSEEN, SWAPPED, .moved = PFNW_MOVED, .verdict = V_RACED,
	  .cause = CAUSE_CHANGED },
	{ "PFNMAP, the snapshot without a leaf", GONE, Y_RW, .exact = true, .moved = PFNW_MOVED,
	  .verdict = V_RACED, .cause = CAUSE_CHANGED, .rules = PFN },
	{ "rights taken away", UNSEEN, X_RO, .moved = PFNW_MOVED, .verdict = V_RACED,
	  .cause = CAUSE_CHANGED },
	{ "rights, history unknown", UNSEEN, X_RO, .moved = PFNW_UNKNOWN, .verdict = V_RACED,
	  .cause = CAUSE_UNKNOWN_CHANGES },

	/* ---- unverified: what is not present is never a mismatch ---- */
	{ "nothing there, tables still", UNSEEN, GONE, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_NOT_PRESENT },
	{ "nothing there, snapshot neither", GONE, GONE, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_NOT_PRESENT },
	{ "swapped out", SWAPPED, SWAPPED, .verdict = V_UNVERIFIED, .cause = CAUSE_NOT_PRESENT },
	{ "nothing there under the PTL", GONE, GONE, .exact = true, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_NOT_PRESENT },
	{ "unreadable", UNSEEN, FAULT, .verdict = V_UNVERIFIED, .cause = CAUSE_FAULT },
	{ "no witness at all", UNSEEN, UNSEEN, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_NOT_PRESENT },
	{ "pagemap sides with the kernel", UNSEEN, Y_RW, .pagemap = X, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_WITNESSES, .rules = PFN },
	{ "pagemap sides with the kernel, second walk does not", UNSEEN, Y_RW, Y_RW, .pagemap = X,
	  .verdict = V_UNVERIFIED, .cause = CAUSE_WITNESSES, .rules = PFN },

	/* ---- rights ---- */
	{ "device writes, leaf read-only", UNSEEN, X_RO, .verdict = V_MISMATCH, .rules = PROT },
	{ "device only writes, leaf read-only", UNSEEN, X_RO, .prot = WRITE, .verdict = V_MISMATCH,
	  .rules = PROT },
	{ "device writes, PROT_NONE", UNSEEN, HIDDEN, .verdict = V_MISMATCH, .rules = PROT },
	{ "device writes, both read-only", X_RO, X_RO, .verdict = V_MISMATCH, .rules = PROT },
	{ "rights of another frame do not count: snapshot", Y_RW, X_RO, .verdict = V_MISMATCH,
	  .rules = PROT },
	{ "rights of another frame do not count: walk", X_RO, Y_RW, .verdict = V_MISMATCH,
	  .rules = PROT },
	{ "PFNMAP under the PTL, read-only, though it moved", X_RO, UNSEEN, .exact = true,
	  .moved = PFNW_MOVED, .verdict = V_MISMATCH, .rules = PROT },
	{ "more than the owner asked for", X_RW, X_RW, .prot = RW, .dma_prot = READ,
	  .verdict = V_MISMATCH, .rules = PROT },
	{ "more than the owner asked for, and it moved", X_RW, X_RW, .prot = RW, .dma_prot = READ,
	  .moved = PFNW_MOVED, .verdict = V_MISMATCH, .rules = PROT },
	{ "more than the owner asked for, nothing there", UNSEEN, GONE, .prot = RW,
	  .dma_prot = WRITE, .verdict = V_MISMATCH, .cause = CAUSE_NOT_PRESENT, .rules = PROT },
	{ "less than the owner asked for", X_RW, X_RW, .prot = READ, .verdict = V_MATCH },
	{ "IOMMU_CACHE is no right", X_RO, X_RO, .prot = READ | 4, .dma_prot = READ,
	  .verdict = V_MATCH },

	/* ---- physical address 0 ---- */
	{ "PA 0", X_RW, X_RW, .pa_zero = true, .verdict = V_MISMATCH, .rules = PFN | ZERO },
	{ "PA 0, nothing there", UNSEEN, GONE, .pa_zero = true, .verdict = V_MISMATCH,
	  .cause = CAUSE_NOT_PRESENT, .rules = ZERO },
	{ "PA 0, and it moved", UNSEEN, Y_RW, .pa_zero = true, .moved = PFNW_MOVED,
	  .verdict = V_MISMATCH, .cause = CAUSE_CHANGED, .rules = PFN | ZERO },

	/* ---- PFNMAP claim of an ordinary page ---- */
	{ "not reserved, frame right", X_RW, X_RW, .exact = true, .kernel_rules = NOT_RESERVED,
	  .verdict = V_MISMATCH, .rules = NOT_RESERVED },
	{ "not reserved, frame wrong", Y_RW, Y_RW, .exact = true, .kernel_rules = NOT_RESERVED,
	  .verdict = V_MISMATCH, .rules = PFN | NOT_RESERVED },

	/* ---- what the programs found is not taken over ---- */
	{ "the programs called a right frame wrong", X_RW, X_RW, .kernel_rules = PFN,
	  .verdict = V_MATCH },
	{ "the programs called right rights wrong", X_RW, X_RW, .kernel_rules = PROT,
	  .verdict = V_MATCH },
	{ "the programs found nothing", UNSEEN, Y_RW, .verdict = V_MISMATCH, .rules = PFN },
};

static struct judgement judge_row(const struct row *r)
{
	struct evidence e = { 0 };

	e.va = va_of(r->snap == X_2M || r->snap == X_1G ? r->snap : r->walk);
	e.pfn = r->pa_zero ? 0 : r->pfn ? r->pfn : X;
	e.prot = r->prot ? r->prot : RW;
	e.dma_prot = r->dma_prot ? r->dma_prot : RW;
	e.kernel_rules = r->kernel_rules;
	e.moved = r->moved;
	e.exact = r->exact;
	e.snap = leaf_of(r->snap);
	e.walk = walk_of(r->walk, e.va);
	if (r->again) {
		e.walked_again = true;
		e.again = walk_of(r->again, e.va);
	}
	e.asked_pagemap = r->pagemap != SILENT;
	e.pagemap_pfn = r->pagemap == ABSENT ? 0 : r->pagemap;
	return judge_page(&four_levels, NULL, &e);
}

/* What the IOMMU's table says at a mapping of X with RW. */
enum installed {
	NOT_READ,
	AS_ASKED,
	OTHER_FRAME,
	NOTHING,
	READ_ONLY,
	TORN, /* entries that do not hold together */
	UNREADABLE,
};

static struct pfnw_iowalk installed(enum installed i, int kind)
{
	struct pfnw_iowalk w = { .iova = 0x10000000, .top = 3, .leaf = 1, .kind = kind };
	uint64_t rw = kind == PFNW_IOMMU_AMD_V1 ? 3ULL << 61 | 1 : 3, r = rw;

	if (i == NOT_READ)
		return w;
	if (i == READ_ONLY)
		r = kind == PFNW_IOMMU_AMD_V1 ? 1ULL << 61 | 1 : 1;
	w.entry[2] = 0x5000 | rw | (kind == PFNW_IOMMU_AMD_V1 ? 2 << 9 : 0);
	w.entry[1] = 0x6000 | rw | (kind == PFNW_IOMMU_AMD_V1 ? 1 << 9 : 0);
	w.entry[0] = (i == OTHER_FRAME ? Y : X) << 12 | r;
	w.status = PFNW_WALK_LEAF;
	if (i == NOTHING) {
		w.entry[0] = 0;
		w.status = PFNW_WALK_NONE;
	}
	if (i == TORN)
		w.entry[1] = 0;
	if (i == UNREADABLE) {
		w.entry[0] = 0;
		w.status = PFNW_WALK_FAULT;
	}
	return w;
}

#define IOMMU PFNW_RULE_IOMMU

static const struct {
	const char *name;
	enum installed io;
	enum sight walk, again;
	enum pfnw_moved moved;
	uint32_t prot; /* 0: RW */
	enum verdict verdict;
	enum cause cause;
	uint32_t rules;
} io_rows[] = {
	{ "installed as asked", AS_ASKED, X_RW, .verdict = V_MATCH },
	{ "not read", NOT_READ, X_RW, .verdict = V_MATCH },
	{ "another frame installed", OTHER_FRAME, X_RW, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "nothing installed", NOTHING, X_RW, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "a right too few", READ_ONLY, X_RW, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "as asked, for reading", READ_ONLY, X_RW, .prot = READ, .verdict = V_MATCH },
	{ "a right too many", AS_ASKED, X_RW, .prot = READ, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "IOMMU_CACHE is no right", READ_ONLY, X_RW, .prot = READ | 4, .verdict = V_MATCH },
	{ "torn entries", TORN, X_RW, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "unreadable", UNREADABLE, X_RW, .verdict = V_UNVERIFIED, .cause = CAUSE_FAULT },
	{ "unreadable, the frame settled by a second walk", UNREADABLE, Y_RW, X_RW,
	  .verdict = V_UNVERIFIED, .cause = CAUSE_FAULT },
	{ "unreadable, the frame wrong all the same", UNREADABLE, Y_RW, .verdict = V_MISMATCH,
	  .rules = PFN },
	{ "unreadable, and it moved", UNREADABLE, Y_RW, .moved = PFNW_MOVED, .verdict = V_RACED,
	  .cause = CAUSE_CHANGED, .rules = PFN },
	{ "unreadable, leaf read-only", UNREADABLE, X_RO, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_FAULT },
	{ "another frame installed, though the owner's moved", OTHER_FRAME, X_RW,
	  .moved = PFNW_MOVED, .verdict = V_MISMATCH, .rules = IOMMU },
	{ "another frame installed, nothing at the VA", OTHER_FRAME, GONE, .verdict = V_MISMATCH,
	  .cause = CAUSE_NOT_PRESENT, .rules = IOMMU },
	{ "another frame installed, the one that the VA names", OTHER_FRAME, Y_RW,
	  .verdict = V_MISMATCH, .rules = IOMMU | PFN },
	{ "another frame installed, the VA's settled", OTHER_FRAME, Y_RW, X_RW,
	  .verdict = V_MISMATCH, .cause = CAUSE_SETTLED, .rules = IOMMU | PFN },
};

static void what_the_iommu_has(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	int wrong = 0;

	(void)state;
	io_formats_init(f, ~0ULL);
	for (size_t i = 0; i < 2 * N_OF(io_rows); i++) {
		const struct pfnw_iowalk io =
			installed(io_rows[i / 2].io, i % 2 ? PFNW_IOMMU_AMD_V1 : PFNW_IOMMU_VTD_SS);
		struct evidence e = { .va = VA, .pfn = X, .dma_prot = RW, .io = io };
		struct judgement j;

		e.prot = io_rows[i / 2].prot ? io_rows[i / 2].prot : RW;
		e.moved = io_rows[i / 2].moved;
		e.walk = walk_of(io_rows[i / 2].walk, VA);
		e.walked_again = io_rows[i / 2].again;
		e.again = walk_of(io_rows[i / 2].again, VA);
		j = judge_page(&four_levels, f, &e);
		if (j.verdict == io_rows[i / 2].verdict && j.cause == io_rows[i / 2].cause &&
		    j.rules == io_rows[i / 2].rules)
			continue;
		print_error("%s (%s): %s (%s) rules 0x%x, not %s (%s) 0x%x\n", io_rows[i / 2].name,
			    io_kind_name(io.kind), verdict_name(j.verdict), cause_name(j.cause),
			    j.rules, verdict_name(io_rows[i / 2].verdict),
			    cause_name(io_rows[i / 2].cause), io_rows[i / 2].rules);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

/* A format that cannot withhold a right is not blamed for giving it. */
static void rights_that_cannot_be_withheld(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	struct evidence e = { .va = VA, .pfn = X, .prot = WRITE, .dma_prot = RW };

	(void)state;
	io_formats_init(f, ~0ULL);
	e.walk = walk_of(X_RW, VA);
	e.io = installed(AS_ASKED, PFNW_IOMMU_X86);
	assert_int_equal(judge_page(&four_levels, f, &e).verdict, V_MATCH);
	e.prot = RW;
	assert_int_equal(judge_page(&four_levels, f, &e).verdict, V_MATCH);
	e.prot = WRITE;
	e.io.kind = PFNW_IOMMU_VTD_SS;
	assert_int_equal(judge_page(&four_levels, f, &e).verdict, V_MISMATCH);
	/* nothing installed is not frame 0 installed */
	e.io = installed(NOTHING, PFNW_IOMMU_X86);
	e.prot = READ;
	e.pfn = 0;
	assert_int_equal(judge_page(&four_levels, f, &e).rules & (IOMMU | ZERO), IOMMU | ZERO);
}

static void every_verdict(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < N_OF(rows); i++) {
		const struct row *r = &rows[i];
		struct judgement j = judge_row(r);

		if (j.verdict == r->verdict && j.cause == r->cause && j.rules == r->rules)
			continue;
		print_error("%s: %s (%s) rules 0x%x, not %s (%s) 0x%x\n", r->name,
			    verdict_name(j.verdict), cause_name(j.cause), j.rules,
			    verdict_name(r->verdict), cause_name(r->cause), r->rules);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

/* A frame that no present leaf names is never a mismatch, unless another rule is broken. */
static void absence_accuses_nobody(void **state)
{
	static const enum sight absent[] = { UNSEEN, GONE, SWAPPED, FAULT };

	(void)state;
	for (size_t s = 0; s < 3; s++) /* a snapshot has no FAULT */
		for (size_t w = 0; w < N_OF(absent); w++)
			for (int moved = PFNW_STOOD; moved <= PFNW_UNKNOWN; moved++)
				for (int exact = 0; exact < 2; exact++) {
					struct row r = { .snap = absent[s],
							 .walk = absent[w],
							 .again = Y_RW,
							 .moved = moved,
							 .exact = exact,
							 .pagemap = Y };
					struct judgement j = judge_row(&r);

					assert_true(j.verdict == V_RACED ||
						    j.verdict == V_UNVERIFIED);
					assert_int_equal(j.rules, 0);
				}
}

/* Unless the tables stood still, nothing but an exact reading accuses. */
static void movement_acquits(void **state)
{
	static const enum sight any[] = { UNSEEN, X_RW, X_RO, Y_RW, Y_RO, GONE, SWAPPED, HIDDEN };

	(void)state;
	for (size_t s = 0; s < N_OF(any); s++)
		for (size_t w = 0; w < N_OF(any); w++)
			for (size_t a = 0; a < N_OF(any); a++)
				for (int moved = PFNW_MOVED; moved <= PFNW_UNKNOWN; moved++) {
					struct row r = { .snap = any[s],
							 .walk = any[w],
							 .again = any[a],
							 .moved = moved };

					assert_int_not_equal(judge_row(&r).verdict, V_MISMATCH);
				}
}

/* The chain of entries must hold together, or the walk names no frame. */
static void broken_walks(void **state)
{
	struct pfnw_walk w = walk_of(X_RW, VA);
	struct frame f = judge_walk(&four_levels, &w);

	(void)state;
	assert_true(f.valid);
	assert_int_equal(f.pfn, X);
	assert_true(f.writable);

	w.leaf = 2; /* says that it ended above */
	assert_false(judge_walk(&four_levels, &w).valid);
	w = walk_of(X_RW, VA);
	w.leaf = 0;
	assert_false(judge_walk(&four_levels, &w).valid);
	w = walk_of(X_RW, VA);
	w.entry[2] = 0; /* a hole in the middle */
	assert_false(judge_walk(&four_levels, &w).valid);
	w = walk_of(X_RW, VA);
	w.entry[1] |= L_PSE; /* a leaf above the one claimed */
	assert_false(judge_walk(&four_levels, &w).valid);
	w = walk_of(X_RW, VA);
	w.top = 0;
	assert_false(judge_walk(&four_levels, &w).valid);
	w = walk_of(X_RW, VA);
	w.top = 7; /* more than there are */
	assert_false(judge_walk(&four_levels, &w).valid);
	/* five levels, and the top one empty */
	w = walk_of(X_RW, VA);
	w.top = 5;
	assert_false(judge_walk(&five_levels, &w).valid);
	w.entry[4] = linux_table(0x999);
	assert_int_equal(judge_walk(&five_levels, &w).pfn, X);
	/* all tables and no leaf: a level-1 entry always is one */
	w = walk_of(GONE, VA);
	assert_false(judge_walk(&four_levels, &w).valid);
}

static void leaf_levels(void **state)
{
	struct pfnw_leaf l = { .entry = linux_leaf(1, X, L_SHARED, PHYS_52) };

	(void)state;
	for (int level = 0; level < 8; level++) {
		l.level = level;
		/* without PSE it is a leaf at level 1 only */
		assert_int_equal(judge_leaf(&four_levels, &l, VA).valid, level == 1);
	}
	l.entry = linux_leaf(2, 0x12200, L_READONLY | L_PSE, PHYS_52);
	l.level = 2;
	assert_int_equal(judge_leaf(&four_levels, &l, VA).pfn, 0x12200 | (VA >> 12 & 511));
	assert_false(judge_leaf(&four_levels, &l, VA).writable);
	l.level = 4;
	assert_false(judge_leaf(&four_levels, &l, VA).valid);
}

static void pre_5_7_formula(void **state)
{
	struct pfnw_vma v = { .start = 0x7f0000000000, .pgoff = 0xfe000 };

	(void)state;
	assert_int_equal(judge_linear_pfn(&v, 0x7f0000000000), 0xfe000);
	assert_int_equal(judge_linear_pfn(&v, 0x7f0000000fff), 0xfe000);
	assert_int_equal(judge_linear_pfn(&v, 0x7f0000005000), 0xfe005);
	v.pgoff = 0;
	assert_int_equal(judge_linear_pfn(&v, 0x7f0000200000), 512);
}

static void how_a_run_ends(void **state)
{
	static const struct {
		const char *name;
		struct pages p;
		uint64_t violations, doubts;
		enum conclusion want;
	} run[] = {
		{ "all match", { .seen = 9, .match = 9 }, 0, 0, C_PROVEN },
		{ "nothing seen", { 0 }, 0, 0, C_PROVEN },
		{ "one mismatch", { .seen = 9, .match = 8, .mismatch = 1 }, 0, 0, C_BROKEN },
		{ "one stale", { .seen = 9, .match = 8, .stale = 1 }, 0, 0, C_BROKEN },
		{ "a violation without a page", { .seen = 9, .match = 9 }, 1, 0, C_BROKEN },
		{ "a violation, nothing seen", { 0 }, 1, 0, C_BROKEN },
		{ "one raced", { .seen = 9, .match = 8, .raced = 1 }, 0, 0, C_INCOMPLETE },
		{ "one unverified", { .seen = 9, .match = 8, .unverified = 1 }, 0, 0, C_INCOMPLETE },
		{ "one lost", { .seen = 9, .match = 8, .lost = 1 }, 0, 0, C_INCOMPLETE },
		{ "a doubt", { .seen = 9, .match = 9 }, 0, 1, C_INCOMPLETE },
		{ "a doubt, nothing seen", { 0 }, 0, 1, C_INCOMPLETE },
		{ "a page too few", { .seen = 9, .match = 8 }, 0, 0, C_INCOMPLETE },
		{ "a page too many", { .seen = 9, .match = 10 }, 0, 0, C_INCOMPLETE },
		{ "seen, and nothing more", { .seen = 9 }, 0, 0, C_INCOMPLETE },
		{ "matched, but not seen", { .match = 1 }, 0, 0, C_INCOMPLETE },
		{ "broken wins over all else",
		  { .seen = 9, .match = 3, .mismatch = 1, .raced = 1, .unverified = 1, .lost = 3 },
		  0,
		  5,
		  C_BROKEN },
	};

	(void)state;
	for (size_t i = 0; i < N_OF(run); i++)
		if (judge_run(&run[i].p, run[i].violations, run[i].doubts) != run[i].want)
			fail_test("%s: not %s", run[i].name, conclusion_name(run[i].want));
}

/* The names are part of the output: docs/verdicts.md and docs/json.md. */
static void names_of_things(void **state)
{
	static const char *const verdict[] = { "match", "mismatch", "stale", "raced",
					       "unverified" };
	static const char *const cause[] = {
		[CAUSE_NONE] = "",
		[CAUSE_CHANGED] = "tables-changed",
		[CAUSE_UNKNOWN_CHANGES] = "changes-unknown",
		[CAUSE_NOT_PRESENT] = "not-present",
		[CAUSE_FAULT] = "walk-failed",
		[CAUSE_WITNESSES] = "witnesses-disagree",
		[CAUSE_CONTEXT] = "no-context",
		[CAUSE_DMA] = "no-dma",
		[CAUSE_SETTLED] = "settled",
		[CAUSE_FILE] = "in-its-file",
		[CAUSE_BUSY] = "busy",
	};

	(void)state;
	assert_int_equal(N_OF(verdict), VERDICTS);
	assert_int_equal(N_OF(cause), CAUSES);
	for (int i = 0; i < VERDICTS; i++)
		assert_string_equal(verdict_name(i), verdict[i]);
	for (int i = 0; i < CAUSES; i++)
		assert_string_equal(cause_name(i), cause[i]);
	assert_string_equal(verdict_name(VERDICTS), "?");
	assert_string_equal(cause_name(CAUSES), "?");
	assert_string_equal(conclusion_name(C_PROVEN), "proven");
	assert_string_equal(conclusion_name(C_BROKEN), "broken");
	assert_string_equal(conclusion_name(C_INCOMPLETE), "incomplete");
}

int test_judge(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_verdict),
		cmocka_unit_test(absence_accuses_nobody),
		cmocka_unit_test(movement_acquits),
		cmocka_unit_test(broken_walks),
		cmocka_unit_test(leaf_levels),
		cmocka_unit_test(pre_5_7_formula),
		cmocka_unit_test(how_a_run_ends),
		cmocka_unit_test(names_of_things),
		cmocka_unit_test(what_the_iommu_has),
		cmocka_unit_test(rights_that_cannot_be_withheld),
	};

	return cmocka_run_group_tests_name("judge.c", tests, NULL, NULL);
}
