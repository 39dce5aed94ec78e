/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * IOMMU page tables: the formats as data, decoding as pure functions. Compiled for
 * BPF by bpf/ and natively by user/judge.c and the unit tests. Nothing here reads
 * memory. All formats have tables of 512 eight-byte entries, and a table at level n
 * (1 is the lowest) whose entries span 4096 << 9 * (n - 1) bytes each.
 *
 * - VT-d second level: Intel VT-d spec. 9.8; DMA_PTE_* in drivers/iommu/intel/iommu.h,
 *   drivers/iommu/generic_pt/fmt/vtdss.h (6.19). Present: R or W; PS makes a leaf.
 * - x86: the CPU's own format, as VT-d's first level and AMD's v2 tables have it.
 * - AMD v1: AMD I/O Virtualization spec. 2.2.3; amd_iommu_types.h,
 *   drivers/iommu/generic_pt/fmt/amdv1.h (6.19). Bits 11:9 name the level of the next
 *   table; 0 makes a leaf of the level's span, 7 a leaf whose size is encoded in its
 *   low address bits, replicated over all entries that it spans.
 *
 * Rights: what the entries of all levels give.
 */
#ifndef PFNW_IOMMU_WALK_H
#define PFNW_IOMMU_WALK_H

#include "events.h"

#define IOMMU_ADDR 0x000ffffffffff000ULL /* bits 51:12 */
#define AMD_LEVEL_SHIFT 9
#define AMD_LEVEL_ENCODED 7

/* One format. addr_mask is IOMMU_ADDR less the encryption bit (sme_me_mask). */
struct iommu_format {
	__u64 addr_mask;
	__u64 present; /* an entry with any of these bits translates or leads on */
	__u64 read, write; /* an entry with this bit lets a device read, write */
	__u64 huge; /* above level 1: makes a leaf; 0: by bits 11:9 (AMD v1) */
	__u32 kind; /* enum pfnw_iommu_kind */
	__u32 rights; /* IOMMU_READ | IOMMU_WRITE: those that the format can withhold */
};

#define IOMMU_FORMAT_VTD_SS                                                                      \
	{                                                                                        \
		.addr_mask = IOMMU_ADDR, .present = 3, .read = 1, .write = 2, .huge = 1ULL << 7, \
		.kind = PFNW_IOMMU_VTD_SS, .rights = 3,                                          \
	}
#define IOMMU_FORMAT_X86                                                                         \
	{                                                                                        \
		.addr_mask = IOMMU_ADDR, .present = 1, .read = 1, .write = 2, .huge = 1ULL << 7, \
		.kind = PFNW_IOMMU_X86, .rights = 2,                                             \
	}
#define IOMMU_FORMAT_AMD_V1                                                                     \
	{                                                                                       \
		.addr_mask = IOMMU_ADDR, .present = 1, .read = 1ULL << 61, .write = 1ULL << 62, \
		.huge = 0, .kind = PFNW_IOMMU_AMD_V1, .rights = 3,                              \
	}

enum iommu_entry {
	IOMMU_ENTRY_NONE, /* not present */
	IOMMU_ENTRY_TABLE, /* leads to a table one level down */
	IOMMU_ENTRY_LEAF,
	IOMMU_ENTRY_BAD, /* means nothing in this format */
};

/* Bytes that one entry of a table at @level (1..6) spans. */
static inline __attribute__((always_inline)) __u64 iommu_span(int level)
{
	return 1ULL << (PFNW_PAGE_SHIFT + 9 * (level - 1));
}

static inline __attribute__((always_inline)) __u32 iommu_index(__u64 iova, int level)
{
	return (iova >> (PFNW_PAGE_SHIFT + 9 * (level - 1))) & 511;
}

/* Can a table of @levels levels translate @iova at all? */
static inline __attribute__((always_inline)) int iommu_in_reach(__u64 iova, int levels)
{
	return levels >= 6 || !(iova >> (PFNW_PAGE_SHIFT + 9 * levels));
}

/* What is the entry @e of a table at @level? enum iommu_entry */
static inline __attribute__((always_inline)) int iommu_entry(const volatile struct iommu_format *f,
							     int level, __u64 e)
{
	__u32 next;

	if (!(e & f->present))
		return IOMMU_ENTRY_NONE;
	if (f->huge)
		return level == 1 || e & f->huge ? IOMMU_ENTRY_LEAF : IOMMU_ENTRY_TABLE;
	next = (e >> AMD_LEVEL_SHIFT) & 7;
	if (next == 0 || next == AMD_LEVEL_ENCODED)
		return IOMMU_ENTRY_LEAF;
	return level > 1 && next == (__u32)level - 1 ? IOMMU_ENTRY_TABLE : IOMMU_ENTRY_BAD;
}

/* Bytes that the leaf @e at @level translates, less one; also a mask of the offset. */
static inline __attribute__((always_inline)) __u64
iommu_leaf_mask(const volatile struct iommu_format *f, int level, __u64 e)
{
	__u64 a = (e & f->addr_mask) | 0xfff;

	if (!f->huge && ((e >> AMD_LEVEL_SHIFT) & 7) == AMD_LEVEL_ENCODED)
		return a ^ (a + 1); /* the lowest clear bit and all below it */
	return iommu_span(level) - 1;
}

/* The physical address that the leaf @e at @level gives @iova. */
static inline __attribute__((always_inline)) __u64
iommu_leaf_pa(const volatile struct iommu_format *f, int level, __u64 e, __u64 iova)
{
	__u64 mask = iommu_leaf_mask(f, level, e);

	return ((e & f->addr_mask) & ~mask) | (iova & mask);
}

/* What @next of iommu_decode() is in a format: 7, or where nothing is encoded 0. */
static inline __attribute__((always_inline)) __u64
iommu_next_mask(const volatile struct iommu_format *f)
{
	return f->huge ? 0 : 7;
}

/*
 * iommu_leaf_pa() of the present entry @e of level 1, without a branch: whoever goes through a
 * table would have the verifier walk every combination of them. What is no leaf of level 1 sets
 * bits of *@bad below 4096.
 */
static inline __attribute__((always_inline)) __u64 iommu_decode(__u64 addr_mask, __u64 next,
								__u64 e, __u64 iova, __u64 *bad)
{
	__u64 a = e & addr_mask, low = a | 0xfff, encoded, mask;

	next &= e >> AMD_LEVEL_SHIFT;
	encoded = (next + 1) >> 3; /* 1: it is AMD_LEVEL_ENCODED */
	mask = (low ^ (low + 1)) & -encoded;
	*bad |= next * (AMD_LEVEL_ENCODED - next);
	return (a & ~mask) | (iova & mask);
}

/* Physical address of the table that a TABLE entry leads to. */
static inline __attribute__((always_inline)) __u64 iommu_next(const volatile struct iommu_format *f,
							      __u64 e)
{
	return e & f->addr_mask;
}

/* IOMMU_READ (1) and IOMMU_WRITE (2) that an entry gives; of all levels, and them. */
static inline __attribute__((always_inline)) __u32
iommu_rights(const volatile struct iommu_format *f, __u64 e)
{
	return (e & f->read ? 1 : 0) | (e & f->write ? 2 : 0);
}

#endif
