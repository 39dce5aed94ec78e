/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * CPU page tables: the format as data, decoding as pure functions. Compiled for
 * BPF by bpf/ and natively by user/judge.c and the unit tests: one set of lines
 * decides everywhere. Nothing here reads memory.
 *
 * x86-64, Intel SDM vol. 3A ch. 4 and arch/x86/include/asm/pgtable*.h:
 * - 4 or 5 levels of 512 eight-byte entries; with 4 levels the PGD entry points
 *   at the PUD table (p4d folded), so the root is simply "level 4".
 * - a leaf is a level-1 entry, or an entry with PSE at level 2 or 3. At those
 *   levels bit 12 is PAT, not address.
 * - an entry that is not zero and has P clear keeps its address inverted
 *   (L1TF; 6b28baca9b1f "x86/speculation/l1tf: Protect PROT_NONE PTEs").
 */
#ifndef PFNW_CPU_WALK_H
#define PFNW_CPU_WALK_H

#include "events.h"

#define CPU_P (1ULL << 0)
#define CPU_RW (1ULL << 1)
#define CPU_PSE (1ULL << 7)
#define CPU_PROTNONE (1ULL << 8) /* G, where P is clear */
#define CPU_ADDR 0x000ffffffffff000ULL /* bits 51:12 */

/*
 * The page-table format of the running kernel. addr_mask is CPU_ADDR less the
 * encryption bit (sme_me_mask), as physical_mask is in the kernel.
 */
struct cpu_format {
	__u64 addr_mask;
	__u32 levels; /* 4 or 5 */
	__u32 pad;
};

/* Index into the table of @level (1..5) for @va. */
static inline __attribute__((always_inline)) __u32 cpu_index(__u64 va, int level)
{
	return (va >> (PFNW_PAGE_SHIFT + 9 * (level - 1))) & 511;
}

/* Pages (4 KiB) that one leaf at @level (1..3) translates. */
static inline __attribute__((always_inline)) __u64 cpu_leaf_pages(int level)
{
	return 1ULL << (9 * (level - 1));
}

/* Pages from @va to the end of the leaf at @level that contains it. */
static inline __attribute__((always_inline)) __u64 cpu_leaf_rest(__u64 va, int level)
{
	__u64 n = cpu_leaf_pages(level);

	return n - ((va >> PFNW_PAGE_SHIFT) & (n - 1));
}

/*
 * Does the entry at @level translate or lead on? pte_present(), pmd_present(),
 * pud_present(): a PROT_NONE leaf is present to the kernel (its frame stays),
 * and a PMD whose P is cleared for a split keeps PSE.
 */
static inline __attribute__((always_inline)) int cpu_present(int level, __u64 e)
{
	if (e & CPU_P)
		return 1;
	if (level == 1)
		return !!(e & CPU_PROTNONE);
	if (level == 2)
		return !!(e & (CPU_PROTNONE | CPU_PSE));
	return level == 3 && (e & CPU_PROTNONE) && (e & CPU_PSE);
}

/* Is a present entry at @level a leaf? */
static inline __attribute__((always_inline)) int cpu_is_leaf(int level, __u64 e)
{
	return level == 1 || ((level == 2 || level == 3) && (e & CPU_PSE));
}

/* The address bits of an entry, the L1TF inversion undone. */
static inline __attribute__((always_inline)) __u64 cpu_addr(const volatile struct cpu_format *f,
							    __u64 e)
{
	if (e && !(e & CPU_P))
		e = ~e;
	return e & f->addr_mask;
}

/* Physical address of the table that a present, non-leaf entry points at. */
static inline __attribute__((always_inline)) __u64 cpu_table(const volatile struct cpu_format *f,
							     __u64 e)
{
	return e & f->addr_mask;
}

/* The PFN that the leaf @e at @level gives @va. */
static inline __attribute__((always_inline)) __u64 cpu_leaf_pfn(const volatile struct cpu_format *f,
								int level, __u64 e, __u64 va)
{
	__u64 in = cpu_leaf_pages(level) - 1;

	return ((cpu_addr(f, e) >> PFNW_PAGE_SHIFT) & ~in) | ((va >> PFNW_PAGE_SHIFT) & in);
}

/* May user space write through the leaf? (Upper levels of user entries are RW.) */
static inline __attribute__((always_inline)) int cpu_writable(__u64 e)
{
	return !!(e & CPU_RW);
}

#endif
