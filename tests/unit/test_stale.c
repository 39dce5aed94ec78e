// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/stale.c: what became of a mapping, case by case, and whose fault it is. */
#include "unit.h"

#include "stale.h"

#include <string.h>

#define VA 0x7f1234567000ULL
#define FILE_A 0xffff888012345600ULL /* struct address_space * */
#define FILE_B 0xffff888012349900ULL
#define ANON (0xffff888077777700ULL | 1) /* struct anon_vma *, tagged */

#define NONE PFNW_D_CPU_NONE
#define AWAY PFNW_D_CPU_AWAY
#define FRAME PFNW_D_FRAME
#define NARROW PFNW_D_NARROW

#define PFNMAP 0x400ULL
#define HUGETLB 0x400000ULL

enum vma { NOT_ASKED, NO_VMA, PLAIN, OF_FILE, RAW, OF_HUGETLB };

struct row {
	const char *name;
	uint32_t differs;
	enum vma vma;
	uint64_t mapping; /* of the frame; 0: none, ANON, FILE_A (the VMA's), FILE_B */
	uint64_t index; /* of the frame in its file; the VMA wants 107 there */
	bool unknown_frame; /* it has no struct page */
	bool mm_gone, leaving, read_only, zero_page, huge_zero;
	uint8_t change;
	/* and then */
	enum verdict verdict;
	enum cause cause;
	enum stale_case how;
	uint32_t rules;
};

static const struct row rows[] = {
	/* ---- what could not be read accuses nobody ---- */
	{ "IOMMU unreadable", PFNW_D_IO_FAULT, PLAIN, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_FAULT },
	{ "CPU unreadable", PFNW_D_CPU_FAULT, PLAIN, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_FAULT },
	{ "IOMMU unreadable, the VA gone", PFNW_D_IO_FAULT | NONE, NO_VMA, .mm_gone = true,
	  .verdict = V_UNVERIFIED, .cause = CAUSE_FAULT },
	{ "CPU unreadable, rights wrong", PFNW_D_CPU_FAULT | PFNW_D_RIGHTS, PLAIN,
	  .verdict = V_UNVERIFIED, .cause = CAUSE_FAULT },

	/* ---- the IOMMU has not what the owner asked for ---- */
	{ "the IOMMU translates nothing", PFNW_D_IO_NONE, PLAIN, .verdict = V_MISMATCH,
	  .rules = PFNW_RULE_IOMMU },
	{ "nothing on both sides", PFNW_D_IO_NONE | NONE, NO_VMA, .verdict = V_MISMATCH,
	  .rules = PFNW_RULE_IOMMU },
	{ "nothing in the IOMMU, the owner gone", PFNW_D_IO_NONE, NOT_ASKED, .mm_gone = true,
	  .verdict = V_MISMATCH, .rules = PFNW_RULE_IOMMU },
	{ "other rights than asked", PFNW_D_RIGHTS, PLAIN, .verdict = V_MISMATCH,
	  .rules = PFNW_RULE_IOMMU },
	{ "other rights, another frame", PFNW_D_RIGHTS | FRAME, PLAIN, .mapping = ANON,
	  .verdict = V_MISMATCH, .rules = PFNW_RULE_IOMMU },

	/* ---- the owner ---- */
	{ "owner gone, nothing there", NONE, NOT_ASKED, .mm_gone = true, .verdict = V_STALE,
	  .how = STALE_OWNER_GONE },
	{ "owner gone, whatever is there", FRAME, PLAIN, .mm_gone = true, .mapping = ANON,
	  .verdict = V_STALE, .how = STALE_OWNER_GONE },
	{ "owner gone, the frame still right", NARROW, PLAIN, .mm_gone = true, .verdict = V_STALE,
	  .how = STALE_OWNER_GONE },

	{ "owner exiting, its files still open", NONE, NOT_ASKED, .mm_gone = true, .leaving = true,
	  .verdict = V_RACED, .cause = CAUSE_BUSY },
	{ "owner exiting, its memory still there", NONE, PLAIN, .leaving = true, .mapping = ANON,
	  .verdict = V_STALE, .how = STALE_DROPPED },
	{ "nothing in the IOMMU, the owner exiting", PFNW_D_IO_NONE, NOT_ASKED, .mm_gone = true,
	  .leaving = true, .verdict = V_MISMATCH, .rules = PFNW_RULE_IOMMU },

	/* ---- the VA ---- */
	{ "munmap", NONE, NO_VMA, .mapping = ANON, .verdict = V_STALE, .how = STALE_UNMAPPED },
	{ "munmap, and the frame's file still has it", NONE, NO_VMA, .mapping = FILE_A,
	  .index = 107, .verdict = V_STALE, .how = STALE_UNMAPPED },
	{ "mremap", NONE, NO_VMA, .change = PFNW_CHANGE_MOVE, .verdict = V_STALE,
	  .how = STALE_MOVED },
	{ "mremap onto it", FRAME, PLAIN, .mapping = ANON, .change = PFNW_CHANGE_MOVE,
	  .verdict = V_STALE, .how = STALE_MOVED },
	{ "MADV_DONTNEED", NONE, PLAIN, .mapping = ANON, .verdict = V_STALE, .how = STALE_DROPPED },
	{ "MADV_DONTNEED, then touched", FRAME, PLAIN, .mapping = ANON, .verdict = V_STALE,
	  .how = STALE_REPLACED },
	{ "the zero page, replaced", FRAME, PLAIN, .verdict = V_STALE, .how = STALE_REPLACED },
	{ "the zero page, dropped", NONE, PLAIN, .verdict = V_STALE, .how = STALE_DROPPED },
	{ "nothing there, and no VMA could be asked for", NONE, NOT_ASKED, .verdict = V_RACED,
	  .cause = CAUSE_BUSY },
	{ "another frame, and no VMA could be asked for", FRAME, NOT_ASKED, .read_only = true,
	  .verdict = V_RACED, .cause = CAUSE_BUSY },
	{ "private pages of a file, dropped", NONE, OF_FILE, .mapping = ANON, .verdict = V_STALE,
	  .how = STALE_DROPPED },
	{ "private pages of a file, replaced", FRAME, OF_FILE, .mapping = ANON, .verdict = V_STALE,
	  .how = STALE_REPLACED },

	/* ---- swap and migration: a pinned page comes back ---- */
	{ "swap entry", AWAY, PLAIN, .mapping = ANON, .verdict = V_UNVERIFIED,
	  .cause = CAUSE_NOT_PRESENT },
	{ "migration entry of a file", AWAY, OF_FILE, .mapping = FILE_B, .index = 107,
	  .verdict = V_UNVERIFIED, .cause = CAUSE_NOT_PRESENT },
	{ "migration entry, the file has it", AWAY, OF_FILE, .mapping = FILE_A, .index = 107,
	  .verdict = V_MATCH, .cause = CAUSE_FILE },
	{ "PFNMAP away", AWAY, RAW, .verdict = V_STALE, .how = STALE_PFNMAP_ZAPPED },

	/* ---- files ---- */
	{ "not mapped, the file has it", NONE, OF_FILE, .mapping = FILE_A, .index = 107,
	  .verdict = V_MATCH, .cause = CAUSE_FILE },
	{ "the file has it elsewhere", NONE, OF_FILE, .mapping = FILE_A, .index = 108,
	  .verdict = V_STALE, .how = STALE_PUNCHED },
	{ "another file has it", NONE, OF_FILE, .mapping = FILE_B, .index = 107, .verdict = V_STALE,
	  .how = STALE_PUNCHED },
	{ "no file has it", NONE, OF_FILE, .verdict = V_STALE, .how = STALE_PUNCHED },
	{ "punched, and filled anew", FRAME, OF_FILE, .verdict = V_STALE, .how = STALE_PUNCHED },
	{ "a frame without struct page", NONE, OF_FILE, .mapping = FILE_A, .index = 107,
	  .unknown_frame = true, .verdict = V_STALE, .how = STALE_PUNCHED },
	{ "hugetlb counts as it likes", NONE, OF_HUGETLB, .mapping = FILE_A, .index = 3,
	  .verdict = V_MATCH, .cause = CAUSE_FILE },
	{ "hugetlb of another file", NONE, OF_HUGETLB, .mapping = FILE_B, .index = 107,
	  .verdict = V_STALE, .how = STALE_PUNCHED },

	/* ---- copied when written to ---- */
	{ "copied out of the file", FRAME, OF_FILE, .mapping = FILE_A, .index = 107,
	  .read_only = true, .verdict = V_STALE, .how = STALE_COW },
	{ "a read-only pin of anonymous memory", FRAME, PLAIN, .mapping = ANON, .read_only = true,
	  .verdict = V_STALE, .how = STALE_COW },
	{ "a read-only pin of the zero page", FRAME, PLAIN, .zero_page = true, .read_only = true,
	  .verdict = V_STALE, .how = STALE_COW },
	{ "a read-only pin of the huge zero page", FRAME, PLAIN, .huge_zero = true,
	  .read_only = true, .verdict = V_STALE, .how = STALE_COW },
	{ "a read-only pin of nobody's frame", FRAME, PLAIN, .read_only = true, .verdict = V_STALE,
	  .how = STALE_REPLACED },
	{ "the zero page, but writable", FRAME, PLAIN, .zero_page = true, .verdict = V_STALE,
	  .how = STALE_REPLACED },
	{ "a read-only pin, dropped", NONE, PLAIN, .mapping = ANON, .read_only = true,
	  .verdict = V_STALE, .how = STALE_DROPPED },

	/* ---- a driver's frames ---- */
	{ "PFNMAP zapped", NONE, RAW, .unknown_frame = true, .verdict = V_STALE,
	  .how = STALE_PFNMAP_ZAPPED },
	{ "PFNMAP changed", FRAME, RAW, .unknown_frame = true, .verdict = V_STALE,
	  .how = STALE_PFNMAP_CHANGED },
	{ "PFNMAP changed, read-only", FRAME, RAW, .read_only = true, .verdict = V_STALE,
	  .how = STALE_PFNMAP_CHANGED },

	/* ---- rights ---- */
	{ "the right to write was taken away", NARROW, PLAIN, .mapping = ANON, .verdict = V_MATCH,
	  .how = STALE_NARROWED },
	{ "another frame is worse than that", NARROW | FRAME, PLAIN, .mapping = ANON,
	  .verdict = V_STALE, .how = STALE_REPLACED },
	{ "no difference at all", 0, PLAIN, .mapping = ANON, .verdict = V_MATCH },
};

static struct stale_evidence evidence_of(const struct row *r)
{
	static const uint64_t flags[] = {
		[PLAIN] = 0x73, [OF_FILE] = 0xfb, [RAW] = PFNMAP | 0xfb, [OF_HUGETLB] = HUGETLB | 0xfb
	};
	struct stale_evidence e = { .differs = r->differs,
				    .va = VA,
				    .dma_prot = r->read_only ? 1 : 3,
				    .mm_gone = r->mm_gone,
				    .leaving = r->leaving,
				    .vma_asked = r->vma != NOT_ASKED,
				    .change = r->change };

	e.frame.known = !r->unknown_frame;
	e.frame.mapping = r->mapping;
	e.frame.reserved = r->zero_page;
	e.frame.zero = r->huge_zero;
	e.frame.index = r->index;
	if (r->vma <= NO_VMA)
		return e;
	e.vma.vma.valid = 1;
	e.vma.vma.start = VA - 7 * 4096;
	e.vma.vma.end = VA + 9 * 4096;
	e.vma.vma.pgoff = 100;
	e.vma.vma.flags = flags[r->vma];
	if (r->vma != PLAIN)
		e.vma.mapping = FILE_A;
	return e;
}

static void every_case(void **state)
{
	uint32_t seen = 0;
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < N_OF(rows); i++) {
		const struct row *r = &rows[i];
		struct stale_evidence e = evidence_of(r);
		struct stale_judgement j = judge_stale(&e);

		seen |= 1u << j.how;
		if (j.verdict == r->verdict && j.cause == r->cause && j.how == r->how &&
		    j.rules == r->rules)
			continue;
		print_error("%s: %s (%s) %s rules 0x%x, not %s (%s) %s 0x%x\n", r->name,
			    verdict_name(j.verdict), cause_name(j.cause), stale_name(j.how),
			    j.rules, verdict_name(r->verdict), cause_name(r->cause),
			    stale_name(r->how), r->rules);
		wrong++;
	}
	assert_int_equal(wrong, 0);
	/* and that was all of them */
	assert_int_equal(seen, (1u << STALE_CASES) - 1);
}

/* An accusation has its name, and only an accusation or a note has one. */
static void verdict_and_case_agree(void **state)
{
	static const uint64_t mapping[] = { 0, ANON, FILE_A, FILE_B };

	(void)state;
	for (uint32_t differs = 0; differs < 1u << 8; differs++)
		for (int vma = NOT_ASKED; vma <= OF_HUGETLB; vma++)
			for (int m = 0; m < 4; m++)
				for (int k = 0; k < 8; k++) {
					struct row r = { .differs = differs,
							 .vma = vma,
							 .mapping = mapping[m],
							 .index = 107,
							 .mm_gone = k & 1,
							 .read_only = k & 2,
							 .leaving = k & 4 };
					struct stale_evidence e = evidence_of(&r);
					struct stale_judgement j = judge_stale(&e);
					bool fault = differs & (PFNW_D_CPU_FAULT | PFNW_D_IO_FAULT);

					assert_int_equal(!!j.rules, j.verdict == V_MISMATCH);
					assert_true(j.verdict != V_STALE || j.how);
					assert_true(!j.how || j.verdict == V_STALE ||
						    j.how == STALE_NARROWED);
					assert_int_equal(j.cause == CAUSE_FAULT, fault);
					assert_true(j.verdict != V_RACED || vma == NOT_ASKED ||
						    (r.mm_gone && r.leaving));
				}
}

/* The names are part of the output: docs/verdicts.md and docs/json.md. */
static void names_and_severities(void **state)
{
	static const struct {
		const char *name, *severity;
	} want[] = {
		[STALE_NONE] = { "", "error" },
		[STALE_UNMAPPED] = { "unmapped", "error" },
		[STALE_MOVED] = { "moved", "error" },
		[STALE_DROPPED] = { "dropped", "error" },
		[STALE_REPLACED] = { "replaced", "error" },
		[STALE_PUNCHED] = { "punched", "error" },
		[STALE_COW] = { "cow", "known" },
		[STALE_PFNMAP_ZAPPED] = { "pfnmap-zapped", "bug" },
		[STALE_PFNMAP_CHANGED] = { "pfnmap-changed", "bug" },
		[STALE_OWNER_GONE] = { "owner-gone", "known" },
		[STALE_NARROWED] = { "narrowed", "known" },
	};

	(void)state;
	assert_int_equal(N_OF(want), STALE_CASES);
	for (int i = 0; i < STALE_CASES; i++) {
		assert_string_equal(stale_name(i), want[i].name);
		assert_string_equal(severity_name(stale_severity(i)), want[i].severity);
	}
	assert_string_equal(stale_name(STALE_CASES), "?");
	assert_string_equal(severity_name(SEVERITIES), "?");
}

int test_stale(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_case),
		cmocka_unit_test(verdict_and_case_agree),
		cmocka_unit_test(names_and_severities),
	};

	return cmocka_run_group_tests_name("stale.c", tests, NULL, NULL);
}
