// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* bpf/cpu_walk.h, decoding: what Linux stores, and what must come out. */
#include "unit.h"

static void index_of_each_level(void **state)
{
	/* one bit per level, and all ones */
	static const struct {
		uint64_t va;
		uint32_t index[5]; /* levels 1 to 5 */
	} row[] = {
		{ 0x0000000000000000, { 0, 0, 0, 0, 0 } },
		{ 0x0000000000000fff, { 0, 0, 0, 0, 0 } },
		{ 0x0000000000001000, { 1, 0, 0, 0, 0 } },
		{ 0x0000000000200000, { 0, 1, 0, 0, 0 } },
		{ 0x0000000040000000, { 0, 0, 1, 0, 0 } },
		{ 0x0000008000000000, { 0, 0, 0, 1, 0 } },
		{ 0x0001000000000000, { 0, 0, 0, 0, 1 } },
		{ 0x00007ffffffff000, { 511, 511, 511, 255, 0 } },
		{ 0x00fffffffffff000, { 511, 511, 511, 511, 255 } },
		{ 0xffffffffffffffff, { 511, 511, 511, 511, 511 } },
		{ 0x00007f1234567000, { 0x167, 0x1a2, 0x48, 0xfe, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++)
		for (int level = 1; level <= 5; level++)
			assert_int_equal(cpu_index(row[i].va, level), row[i].index[level - 1]);
}

static void pages_of_a_leaf(void **state)
{
	(void)state;
	assert_int_equal(cpu_leaf_pages(1), 1);
	assert_int_equal(cpu_leaf_pages(2), 512);
	assert_int_equal(cpu_leaf_pages(3), 512 * 512);
}

static void rest_of_a_leaf(void **state)
{
	static const struct {
		uint64_t va;
		int level;
		uint64_t rest;
	} row[] = {
		{ 0x0, 1, 1 },
		{ 0xfff, 1, 1 },
		{ 0x7f0000001000, 1, 1 },
		{ 0x7f0000000000, 2, 512 },
		{ 0x7f0000000fff, 2, 512 },
		{ 0x7f0000001000, 2, 511 },
		{ 0x7f00001fe000, 2, 2 },
		{ 0x7f00001ff000, 2, 1 },
		{ 0x7f00001fffff, 2, 1 },
		{ 0x7f0000200000, 2, 512 },
		{ 0x7f0000000000, 3, 262144 },
		{ 0x7f0000001000, 3, 262143 },
		{ 0x7f0000200000, 3, 261632 },
		{ 0x7f003ffff000, 3, 1 },
		{ 0x7f0040000000, 3, 262144 },
	};

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++)
		assert_int_equal(cpu_leaf_rest(row[i].va, row[i].level), row[i].rest);
}

/* PFN of a leaf for a VA: the offset inside the leaf comes from the VA. */
static void pfn_inside_a_leaf(void **state)
{
	static const struct {
		int level;
		uint64_t pfn; /* of the leaf */
		uint64_t va, want;
	} row[] = {
		{ 1, 0x12345, 0x7f0000003000, 0x12345 },
		{ 1, 0x12345, 0x7f0000003fff, 0x12345 },
		{ 2, 0x12200, 0x7f0000000000, 0x12200 },
		{ 2, 0x12200, 0x7f0000001000, 0x12201 },
		{ 2, 0x12200, 0x7f00000ab123, 0x122ab },
		{ 2, 0x12200, 0x7f00001fffff, 0x123ff },
		{ 2, 0x12200, 0x7f0000200000, 0x12200 }, /* not beyond the leaf */
		{ 3, 0x4c0000, 0x7f0000000000, 0x4c0000 },
		{ 3, 0x4c0000, 0x7f0000201000, 0x4c0201 },
		{ 3, 0x4c0000, 0x7f003ffff000, 0x4fffff },
		{ 3, 0x4c0000, 0x7f0040000000, 0x4c0000 },
		{ 1, 0xffffffffff, 0x1000, 0xffffffffff }, /* the last of 52 bits */
		{ 2, 0xfffffffe00, 0x1ff000, 0xffffffffff },
	};

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++) {
		int level = row[i].level;
		uint64_t pse = level > 1 ? L_PSE : 0;
		uint64_t there = linux_leaf(level, row[i].pfn, L_SHARED | pse, PHYS_52);
		uint64_t none = linux_leaf(level, row[i].pfn, L_NONE | pse, PHYS_52);

		assert_true(cpu_present(level, there));
		assert_true(cpu_is_leaf(level, there));
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, there, row[i].va), row[i].want);
		assert_true(cpu_present(level, none));
		assert_true(cpu_is_leaf(level, none));
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, none, row[i].va), row[i].want);
	}
}

/* Bit 12 of a huge leaf is PAT; bit 7 of a PTE is PAT too, and no leaf mark. */
static void pat_is_no_address(void **state)
{
	uint64_t e;

	(void)state;
	for (int level = 2; level <= 3; level++) {
		uint64_t pfn = level == 2 ? 0x12200 : 0x4c0000;

		e = linux_leaf(level, pfn, L_SHARED | L_PSE | L_PAT_LARGE, PHYS_52);
		assert_true(e & 1ULL << 12);
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, e, 0), pfn);
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, e, 0x1000), pfn + 1);
		/* and clear, where the rest of the entry is inverted */
		e = linux_leaf(level, pfn, L_NONE | L_PSE, PHYS_52);
		assert_false(e & 1ULL << 12);
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, e, 0), pfn);
		e |= L_PAT_LARGE;
		assert_int_equal(cpu_leaf_pfn(&four_levels, level, e, 0), pfn);
	}
	e = linux_leaf(1, 0x12345, L_SHARED | L_PAT, PHYS_52);
	assert_true(cpu_is_leaf(1, e));
	assert_int_equal(cpu_leaf_pfn(&four_levels, 1, e, 0), 0x12345);
}

/*
 * PROT_NONE: P clear, G set, address inverted. The numbers are written out, so
 * that this and linux_leaf() cannot be wrong together.
 */
static void prot_none_is_inverted(void **state)
{
	uint64_t e = 0x000fffffedcba120; /* ~(0x12345 << 12), of bits 51:12 */

	(void)state;
	assert_int_equal(e, linux_leaf(1, 0x12345, L_NONE, PHYS_52));
	assert_true(cpu_present(1, e));
	assert_int_equal(cpu_addr(&four_levels, e), 0x12345000);
	assert_int_equal(cpu_leaf_pfn(&four_levels, 1, e, 0x7f0000000000), 0x12345);
	assert_false(cpu_writable(e));

	e = 0x000fffffedc001a0; /* a THP at PFN 0x12200 */
	assert_int_equal(e, linux_leaf(2, 0x12200, L_NONE | L_PSE, PHYS_52));
	assert_true(cpu_present(2, e));
	assert_true(cpu_is_leaf(2, e));
	assert_int_equal(cpu_leaf_pfn(&four_levels, 2, e, 0x5000), 0x12205);

	/* A present entry is not inverted, whatever its G. */
	e = linux_leaf(1, 0x12345, L_SHARED | L_GLOBAL, PHYS_52);
	assert_int_equal(cpu_leaf_pfn(&four_levels, 1, e, 0), 0x12345);
	/* NUMA hinting keeps NX and software bits; they are no address. */
	e = linux_leaf(1, 0x12345, L_NONE | L_NX | L_SOFT_DIRTY | L_SPECIAL, PHYS_52);
	assert_true(cpu_present(1, e));
	assert_int_equal(cpu_leaf_pfn(&four_levels, 1, e, 0), 0x12345);
}

/* pmd_mkinvalid() during a split: P and G clear, PSE stays, address inverted. */
static void huge_leaf_during_a_split(void **state)
{
	uint64_t prot = (L_SHARED | L_PSE | L_DIRTY) & ~L_PRESENT;
	uint64_t e = linux_leaf(2, 0x12200, prot, PHYS_52);

	(void)state;
	assert_false(e & (L_PRESENT | L_GLOBAL));
	assert_true(cpu_present(2, e));
	assert_true(cpu_is_leaf(2, e));
	assert_int_equal(cpu_leaf_pfn(&four_levels, 2, e, 0x1ff000), 0x123ff);
	assert_true(cpu_writable(e));
	/* pmd_present() takes each of the three bits alone */
	assert_true(cpu_present(2, L_PROTNONE | L_ACCESSED));
	assert_false(cpu_present(2, L_ACCESSED | L_RW));
	/* A PUD has no such state. */
	assert_false(cpu_present(3, linux_leaf(3, 0x4c0000, prot, PHYS_52)));
}

/* hugetlb uses pte_present() at every level: a PROT_NONE leaf of 1 GiB is there. */
static void prot_none_of_one_gib(void **state)
{
	uint64_t e = linux_leaf(3, 0x4c0000, L_NONE | L_PSE, PHYS_52);

	(void)state;
	assert_true(cpu_present(3, e));
	assert_true(cpu_is_leaf(3, e));
	assert_int_equal(cpu_leaf_pfn(&four_levels, 3, e, 0x12345000), 0x4d2345);
	/* G alone, or PSE alone, makes no PUD present */
	assert_false(cpu_present(3, e & ~L_PSE));
	assert_false(cpu_present(3, e & ~L_PROTNONE));
}

/* The encryption bit is set in the entry and is no address. */
static void encryption_bit(void **state)
{
	static const struct {
		const struct cpu_format *f;
		int bit;
	} row[] = { { &sme_47, 47 }, { &sme_51, 51 } };

	(void)state;
	for (size_t i = 0; i < N_OF(row); i++) {
		const struct cpu_format *f = row[i].f;
		uint64_t c = 1ULL << row[i].bit, mask = PHYS_52 & ~c, e;

		e = linux_leaf(1, 0x12345, L_SHARED | c, mask);
		assert_int_equal(cpu_leaf_pfn(f, 1, e, 0), 0x12345);
		e = linux_leaf(2, 0x12200, L_SHARED | L_PSE | c, mask);
		assert_int_equal(cpu_leaf_pfn(f, 2, e, 0x3000), 0x12203);
		/* inverted: the bit stays as protection_map has it */
		e = linux_leaf(1, 0x12345, L_NONE | c, mask);
		assert_true(e & c);
		assert_int_equal(cpu_leaf_pfn(f, 1, e, 0), 0x12345);
		e = linux_leaf(1, 0x12345, L_NONE, mask);
		assert_false(e & c);
		assert_int_equal(cpu_leaf_pfn(f, 1, e, 0), 0x12345);
		assert_int_equal(cpu_table(f, linux_table(0x777) | c), 0x777000);
		/* a format without it takes the bit for an address */
		e = linux_leaf(1, 0x12345, L_SHARED | c, mask);
		assert_int_not_equal(cpu_leaf_pfn(&four_levels, 1, e, 0), 0x12345);
	}
}

/* Bits 11:0 and 63:52 are flags. */
static void flags_are_no_address(void **state)
{
	static const uint64_t flag[] = { L_USER,     L_PWT,	 L_PCD,	   L_ACCESSED, L_DIRTY,
					 L_GLOBAL,   L_SPECIAL,	 1 << 10,  1 << 11,    1ULL << 52,
					 1ULL << 53, 1ULL << 57, L_SOFTW4, L_PKEYS,    L_NX };

	(void)state;
	for (size_t i = 0; i < N_OF(flag); i++) {
		uint64_t e = linux_leaf(1, 0x12345, L_PRESENT | flag[i], PHYS_52);

		assert_int_equal(cpu_leaf_pfn(&four_levels, 1, e, 0), 0x12345);
		assert_false(cpu_writable(e));
		e = linux_leaf(2, 0x12200, L_PRESENT | L_PSE | flag[i], PHYS_52);
		assert_int_equal(cpu_leaf_pfn(&four_levels, 2, e, 0), 0x12200);
	}
}

/* Swap, migration, hwpoison, marker: none of them translates. */
static void swap_entries_are_absent(void **state)
{
	static const uint64_t bits[] = { 0, 1 << 1, 1 << 2, 1 << 3, 0xe }; /* SD, F, E */
	static const uint64_t offset[] = { 0, 1, 0x12345, 0xffffffff, (1ULL << 50) - 1 };

	(void)state;
	for (unsigned int type = 0; type < 32; type++)
		for (size_t i = 0; i < N_OF(offset); i++)
			for (size_t k = 0; k < N_OF(bits); k++) {
				uint64_t e = linux_swap(type, offset[i], bits[k]);

				for (int level = 1; level <= 3; level++)
					assert_false(cpu_present(level, e));
			}
	/* one by hand: type 30 (a migration entry for writing), PFN 0x12345 */
	assert_int_equal(linux_swap(30, 0x12345, 0), 0xf7fffffffdb97400);
}

static void zero_is_absent(void **state)
{
	(void)state;
	for (int level = 1; level <= 5; level++)
		assert_false(cpu_present(level, 0));
	/* zero is not inverted: it would be all ones */
	assert_int_equal(cpu_addr(&four_levels, 0), 0);
	assert_int_equal(cpu_leaf_pfn(&four_levels, 1, 0, 0x7f0000000000), 0);
}

static void tables_lead_on(void **state)
{
	uint64_t e = linux_table(0x54321);

	(void)state;
	for (int level = 2; level <= 5; level++) {
		assert_true(cpu_present(level, e));
		assert_false(cpu_is_leaf(level, e));
		assert_int_equal(cpu_table(&five_levels, e), 0x54321000);
		/* PTI sets NX in the PGD entries of user space */
		assert_int_equal(cpu_table(&five_levels, e | L_NX), 0x54321000);
	}
	/* PSE is no leaf mark above level 3 */
	assert_false(cpu_is_leaf(4, e | L_PSE));
	assert_false(cpu_is_leaf(5, e | L_PSE));
	/* G makes nothing present above level 3, and is nothing on a table */
	assert_false(cpu_present(4, L_PROTNONE | L_PSE));
	assert_false(cpu_present(5, L_PROTNONE | L_PSE));
}

static void rights(void **state)
{
	(void)state;
	assert_true(cpu_writable(linux_leaf(1, 1, L_SHARED, PHYS_52)));
	assert_false(cpu_writable(linux_leaf(1, 1, L_READONLY, PHYS_52)));
	/* userfaultfd write protection and clean-after-write keep RW clear, D set */
	assert_false(cpu_writable(linux_leaf(1, 1, L_READONLY | L_DIRTY | L_UFFD_WP, PHYS_52)));
}

int test_walk(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(index_of_each_level),	    cmocka_unit_test(pages_of_a_leaf),
		cmocka_unit_test(rest_of_a_leaf),	    cmocka_unit_test(pfn_inside_a_leaf),
		cmocka_unit_test(pat_is_no_address),	    cmocka_unit_test(prot_none_is_inverted),
		cmocka_unit_test(huge_leaf_during_a_split), cmocka_unit_test(prot_none_of_one_gib),
		cmocka_unit_test(encryption_bit),	    cmocka_unit_test(flags_are_no_address),
		cmocka_unit_test(swap_entries_are_absent),  cmocka_unit_test(zero_is_absent),
		cmocka_unit_test(tables_lead_on),	    cmocka_unit_test(rights),
	};

	return cmocka_run_group_tests_name("cpu_walk.h", tests, NULL, NULL);
}
