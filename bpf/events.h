/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The ABI between bpf/ and user/: fixed-width types only, one record layout for
 * both sides, checked at compile time by both compilers (see the asserts at the
 * end). Units: addresses and sizes in bytes unless a name ends in _pages (4 KiB
 * each) or _ns (CLOCK_MONOTONIC nanoseconds). PFNs are physical address >> 12.
 */
#ifndef PFNW_EVENTS_H
#define PFNW_EVENTS_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define PFNW_ABI 6
#define PFNW_COMM 16
#define PFNW_LEVELS 5
#define PFNW_IO_LEVELS 6
#define PFNW_STACK 24
#define PFNW_PAGE_SHIFT 12
#define PFNW_NO_GROUP (-1)

/* How one walk of a CPU page table ended. */
enum pfnw_walk_status {
	PFNW_WALK_UNREAD = 0, /* no walk was made */
	PFNW_WALK_LEAF, /* entry[leaf - 1] translates va */
	PFNW_WALK_NONE, /* an entry that is not present ended it */
	PFNW_WALK_FAULT, /* a table could not be read */
};

/*
 * One walk, as raw as the hardware sees it. entry[n - 1] is the entry read at
 * level n (1: PTE, 2: PMD, 3: PUD, 4: P4D or the 4-level PGD, 5: PGD).
 */
struct pfnw_walk {
	__u64 va; /* bytes, untagged, page aligned */
	__u64 entry[PFNW_LEVELS];
	__u8 top; /* level of the first table: 4 or 5 */
	__u8 leaf; /* level of the last entry read, 0 when none was */
	__u8 status; /* enum pfnw_walk_status */
	__u8 pad[5];
};

/* Whose tables an IOMMU domain has; the formats are in iommu_walk.h. */
enum pfnw_iommu_kind {
	PFNW_IOMMU_UNKNOWN = 0,
	PFNW_IOMMU_VTD_SS, /* Intel VT-d, second level */
	PFNW_IOMMU_X86, /* Intel first level, AMD v2 */
	PFNW_IOMMU_AMD_V1,
	PFNW_IOMMU_VIRTIO, /* no table: the driver's interval tree */
	PFNW_IOMMU_KINDS,
};

/*
 * One walk of an IOMMU's table. entry[n - 1] is the entry read at level n. For
 * PFNW_IOMMU_VIRTIO: entry[0] and [1] the first and last IOVA of the mapping,
 * entry[2] its physical address, entry[3] its flags (VIRTIO_IOMMU_MAP_F_*).
 */
struct pfnw_iowalk {
	__u64 iova; /* bytes, page aligned */
	__u64 entry[PFNW_IO_LEVELS];
	__u8 top; /* level of the first table */
	__u8 leaf; /* level of the last entry read; 0: none */
	__u8 status; /* enum pfnw_walk_status */
	__u8 kind; /* enum pfnw_iommu_kind */
	__u8 pad[4];
};

/* The leaf that was read where the kernel still held its locks. */
struct pfnw_leaf {
	__u64 entry; /* raw; of the leaf at .level */
	__u8 level; /* 1..3, 0: no such reading */
	__u8 locked; /* 1: read under mmap_lock (GUP) or the PTL (PFNMAP) */
	__u8 claimed; /* 1: every page of the claim was compared with this reading, and equal */
	__u8 pad[5];
};

struct pfnw_vma {
	__u64 start, end; /* bytes */
	__u64 flags; /* vm_flags as in include/linux/mm.h */
	__u64 pgoff; /* pages */
	__u8 valid; /* 0: could not be looked up; the rest is 0 */
	__u8 pad[7];
};

enum pfnw_ev_type {
	PFNW_EV_RUN = 1, /* struct pfnw_ev_run */
	PFNW_EV_DIFF, /* struct pfnw_ev_diff */
	PFNW_EV_CLAIM, /* struct pfnw_ev_claim */
	PFNW_EV_MAP, /* struct pfnw_ev_map */
	PFNW_EV_UNMAP, /* struct pfnw_ev_unmap */
	PFNW_EV_BREACH, /* struct pfnw_ev_breach */
	PFNW_EV_LEDGER, /* struct pfnw_ev_ledger */
	PFNW_EV_CHANGE, /* struct pfnw_ev_change */
	PFNW_EV_USED, /* struct pfnw_hdr: of what uses VFIO this is the first */
	PFNW_EV_LAST = PFNW_EV_USED,
};

/* First member of every record. */
struct pfnw_hdr {
	__u16 type; /* enum pfnw_ev_type */
	__u16 abi; /* PFNW_ABI */
	__u32 tgid; /* initial PID namespace */
	__u32 tid;
	__s32 group; /* IOMMU group id, PFNW_NO_GROUP if unknown */
	__u64 ts_ns;
	__u64 mm; /* struct mm_struct *, an identity only */
	__u64 domain; /* struct iommu_domain *, an identity only; 0: none yet */
	char comm[PFNW_COMM];
};

/* Contiguous pages (in IOVA and in VA) of one container call that matched. */
struct pfnw_ev_run {
	struct pfnw_hdr h;
	__u64 iova, va; /* bytes, of the first page */
	__u64 n_pages;
	__u64 n_maps; /* iommu_map() calls in it */
	__u32 prot; /* IOMMU_READ 1, IOMMU_WRITE 2, IOMMU_CACHE 4, ... */
	__u32 pad;
};

enum pfnw_at {
	PFNW_AT_MAP = 1, /* iommu_map() */
	PFNW_AT_CLAIM, /* vaddr_get_pfns(), a mapping of the page follows */
	PFNW_AT_PIN, /* vaddr_get_pfns() for an mdev: nothing follows */
};

/* Which rule was found broken; bits, may be several. */
enum pfnw_rule {
	PFNW_RULE_PFN = 1 << 0, /* the frames differ */
	PFNW_RULE_PROT = 1 << 1, /* more rights than the leaf or the owner gave */
	PFNW_RULE_PA_ZERO = 1 << 2, /* physical address 0 */
	PFNW_RULE_NOT_RESERVED = 1 << 3, /* PFNMAP claim of a normal page */
	PFNW_RULE_IOMMU = 1 << 4, /* iommu-differs: installed is not what was asked */
	PFNW_RULE_SHORT_UNMAP = 1 << 5, /* less was unmapped than asked */
	PFNW_RULE_LEAK = 1 << 6, /* the IOMMU translates what was unmapped */
	PFNW_RULE_OVERLAP = 1 << 7, /* mapped where something is mapped */
	PFNW_RULES = 8, /* how many there are */
};

/* Could the page tables have changed between the claim and the last walk? */
enum pfnw_moved {
	PFNW_STOOD = 0, /* no change that overlaps this page */
	PFNW_MOVED, /* a change overlapped */
	PFNW_UNKNOWN, /* history too short, or the mm was not watched in time */
};

/* One page whose witnesses differ. The judge decides what it means. */
struct pfnw_ev_diff {
	struct pfnw_hdr h;
	__u64 iova, va; /* bytes, of this page; iova is 0 at a claim */
	__u64 pfn; /* what was claimed or mapped */
	__u64 claim_pfn; /* first PFN of the last claim before a mapping */
	__u64 claim_va;
	__u64 map_iova, map_pa, map_bytes; /* the whole call; 0 at a claim */
	__u64 dma_iova, dma_va; /* the vfio_dma being mapped */
	__u64 change_seq; /* of the mm, when the claim began */
	__u64 change_fin;
	__u32 prot; /* of the mapping */
	__u32 dma_prot;
	__u8 at; /* enum pfnw_at */
	__u8 rules; /* enum pfnw_rule, as the program found them */
	__u8 moved; /* enum pfnw_moved */
	__u8 pfnmap; /* the claim came from the PFNMAP leg */
	__u32 n_stack; /* entries used in stack[] */
	struct pfnw_leaf snap;
	struct pfnw_walk walk;
	struct pfnw_iowalk io; /* at a mapping; what the IOMMU has for iova */
	struct pfnw_vma vma;
	__u64 stack[PFNW_STACK];
};

/* One call of vaddr_get_pfns(), as recorded. */
struct pfnw_ev_claim {
	struct pfnw_hdr h;
	__u64 va; /* bytes, as passed (may be tagged) */
	__u64 pfn; /* *pfn on return; 0 unless ret > 0 */
	__u64 latency_ns;
	__s64 ret; /* pages, or -errno */
	__u64 asked_pages;
	__u64 match_pages, diff_pages; /* as the program compared them */
	__u64 unverified_pages;
	__u32 prot; /* of the vfio_dma */
	__u8 pfnmap;
	__u8 reserved; /* PFNMAP: 1 reserved or invalid, 0 a normal page, 2 unknown */
	__u8 pad[2];
	struct pfnw_leaf snap;
	struct pfnw_walk walk; /* of va */
	struct pfnw_vma vma;
};

/* One call of iommu_map(), as recorded. */
struct pfnw_ev_map {
	struct pfnw_hdr h;
	__u64 iova, va, pa, bytes;
	__u64 match_pages, diff_pages, unverified_pages;
	__u64 dma_iova, dma_va;
	__u32 prot;
	__s32 ret;
	__u8 internal; /* 1: a mapping of the kernel's own (no VA) */
	__u8 pad[7];
	struct pfnw_leaf snap; /* of the first page */
	struct pfnw_walk walk; /* of va, made at the exit of iommu_map() */
};

struct pfnw_ev_unmap {
	struct pfnw_hdr h;
	__u64 iova, bytes, unmapped;
};

/* .done of a breach in which iova_to_phys() had no part. */
#define PFNW_NOT_ASKED (~0ULL)

/* A rule broken outside of the comparison of one mapping. */
struct pfnw_ev_breach {
	struct pfnw_hdr h;
	__u32 rule; /* one enum pfnw_rule */
	__u32 n_stack;
	__u64 iova, bytes; /* what was asked, or what is wrong */
	__u64 done; /* short-unmap: bytes unmapped; else what iova_to_phys() said */
	__u64 pages; /* 4 KiB pages that are wrong */
	__u64 dma_iova, dma_va, dma_bytes; /* the vfio_dma concerned; 0: none */
	struct pfnw_iowalk io; /* of the first page that is wrong */
	__u64 stack[PFNW_STACK];
};

enum pfnw_ledger_op {
	PFNW_LEDGER_MAP = 1, /* run[]: from iova on, one after the other */
	PFNW_LEDGER_UNMAP, /* iova, n_pages */
	PFNW_LEDGER_DOMAINS, /* run[]: the domains that the container has now */
	PFNW_LEDGER_GONE, /* the container is gone */
	PFNW_LEDGER_TABLE, /* run[]: up to 512 raw entries of level 1, from iova on */
};

#define PFNW_LEDGER_RUNS 64
/* One run in the ledger: PFN in bits 39:0, pages less one in bits 63:40. */
#define PFNW_RUN_PFN ((1ULL << 40) - 1)
#define PFNW_RUN_PAGES_SHIFT 40
#define PFNW_RUN_PAGES_MAX (1ULL << 24)

/* What changed in the IOMMU, in the order of the container's lock. */
struct pfnw_ev_ledger {
	struct pfnw_hdr h;
	__u64 container; /* struct vfio_iommu *, an identity only */
	__u64 generation; /* tells containers at the same address apart */
	__u64 seq; /* 1, 2, 3... per container, no holes */
	__u64 iova, n_pages; /* pages: of all runs */
	__u64 dma_iova, dma_va; /* the vfio_dma that the runs belong to */
	__u32 op; /* enum pfnw_ledger_op */
	__u32 n; /* entries used in run[] */
	__u32 prot;
	__u32 kind; /* enum pfnw_iommu_kind of the entries of a PFNW_LEDGER_TABLE */
	__u64 run[PFNW_LEDGER_RUNS]; /* (a table's go on behind it) */
};

#define PFNW_TABLE_ENTRIES 512

/* Which kind of page-table change. */
enum pfnw_change {
	PFNW_CHANGE_ZAP = 1,
	PFNW_CHANGE_ZAP_HUGETLB,
	PFNW_CHANGE_MOVE,
	PFNW_CHANGE_PROT,
	PFNW_CHANGE_UNMAP_ONE,
	PFNW_CHANGE_MIGRATE_ONE,
	PFNW_CHANGE_MKCLEAN,
	PFNW_CHANGE_COW,
	PFNW_CHANGE_COW_HUGE,
	PFNW_CHANGE_HUGETLB_FAULT,
	PFNW_CHANGE_COLLAPSE,
	PFNW_CHANGE_SPLIT, /* a huge leaf becomes a table */
	PFNW_CHANGE_NOTIFIED, /* an MMU notifier told: which kind, the loader knows by the stack */
	PFNW_CHANGE_NOTIFIED_WITHIN, /* the same, in the middle of another of its thread's */
	PFNW_CHANGE_EXIT, /* the address space goes */
	PFNW_CHANGES,
};

/* Which programs see the changes of a mm. */
enum pfnw_sight {
	PFNW_SIGHT_HOOKS = 1 << 0, /* those on each function that changes page tables */
	PFNW_SIGHT_NOTIFIER = 1 << 1, /* those on the MMU notifiers, of a mm that has one */
};

/* The page tables of a watched mm changed, where something is mapped for DMA. */
struct pfnw_ev_change {
	struct pfnw_hdr h;
	__u64 start, end; /* bytes of VA; end exclusive */
	__u64 seq; /* of the mm */
	__u8 fn; /* enum pfnw_change */
	__u8 pad[3];
	__u32 n_stack;
	__u64 stack[PFNW_STACK];
};

/* What the programs overlook on purpose, for the tests of what is told then. */
enum pfnw_lie {
	PFNW_LIE_MISS_MAP = 1 << 0, /* are blind to some iommu_map() calls */
	PFNW_LIE_MISS_COUNT = 1 << 1, /* and to their tracepoint */
	PFNW_LIE_MISS_CHANGE = 1 << 2, /* find no room for changes of page tables */
	PFNW_LIE_HIDE_MAPPING = 1 << 3, /* find nothing in virtio-iommu's tree while others call */
};

/*
 * Counters, one set per CPU, added to atomically. Everything that is not a
 * record is here, so what could not be recorded is still counted.
 */
enum pfnw_stat {
	/*
	 * Hot: a task adds to its own context, and the end of the container call adds
	 * that to the set of the CPU.
	 */
	PFNW_S_IO_PAGES, /* pages that the IOMMU's table gives as asked */
	PFNW_S_SEEN, /* pages mapped for a VA of a watched process */
	PFNW_S_MATCH, /* of those: found equal by the programs */
	PFNW_S_MAPS, /* iommu_map() calls seen for a VA */
	PFNW_S_TP_MAPS, /* iommu:map in a watched call: the second count */
	PFNW_S_TP_PAGES,
	PFNW_S_INTERNAL_PAGES, /* pages of the kernel's own test mappings in type1 */
	PFNW_S_UNMAPS,
	PFNW_S_UNMAP_PAGES, /* as unmapped */
	PFNW_S_TP_UNMAPS,
	PFNW_S_TP_UNMAP_PAGES,
	PFNW_S_CLAIMS, /* vaddr_get_pfns() calls that returned pages */
	PFNW_S_CLAIM_PAGES,
	PFNW_S_CLAIM_MATCH,
	PFNW_S_CLAIM_LOCKED, /* pages whose reading was made under the lock */
	PFNW_S_TEARDOWN_PAGES, /* unmapped when the last group left its container */
	PFNW_S_PHYS_WITNESS, /* iommu_iova_to_phys() calls compared */
	PFNW_S_HOT,
	/* Cold: added to the set of the CPU at once. */
	PFNW_S_SENT_DIFF = PFNW_S_HOT, /* pages seen that went to the judge, one record each */
	PFNW_S_LOST_DIFF, /* pages seen: no room in the ring buffer for that */
	PFNW_S_UNV_CONTEXT, /* pages seen: no free task context */
	PFNW_S_UNV_DMA, /* pages seen: no vfio_dma found for the IOVA */
	PFNW_S_UNV_FAULT, /* pages seen: page-table pages could not be read */
	PFNW_S_LOST_MATCH, /* matched, but the record asked for got lost */
	PFNW_S_LOST_COUNT, /* pages that only the second count knows of */
	PFNW_S_LOST_RECORDS, /* records of any type without room */
	PFNW_S_MAPS_FAILED, /* iommu_map() calls that failed */
	PFNW_S_MAPS_INTERNAL, /* the kernel's own test mappings in type1 */
	PFNW_S_MAPS_OTHER, /* iommu_map() calls outside type1 or out of scope */
	PFNW_S_CLAIMS_FAILED,
	PFNW_S_CLAIM_SENT_DIFF,
	PFNW_S_CLAIM_LOST_DIFF,
	PFNW_S_CLAIM_UNV, /* claimed pages without any reading to compare with */
	PFNW_S_PIN_UNV, /* the same for an mdev, where no mapping follows */
	PFNW_S_LINEAR, /* PFNMAP claims */
	PFNW_S_LINEAR_WRONG, /* ... for which the pre-5.7 formula would be wrong */
	PFNW_S_CONTEXTS_FULL, /* container calls that got no task context */
	PFNW_S_SPILL_FULL, /* ... and whose pages could not be told apart */
	PFNW_S_SCOPE_FULL, /* a child or a group that may have been left out of scope */
	PFNW_S_WATCH_FULL, /* an mm that could not be watched for changes */
	PFNW_S_DISTURBED, /* pages seen that differ, and were unmapped while we looked */
	PFNW_S_IO_UNKNOWN, /* pages seen whose IOMMU table cannot be read */
	PFNW_S_IO_FAULT, /* ... or could not be */
	PFNW_S_BREACHES, /* rules broken outside of one mapping's comparison */
	PFNW_S_LOST_BREACH, /* records of those without room */
	PFNW_S_LOST_LEDGER, /* ledger records without room */
	PFNW_S_LOST_CHANGE, /* change records without room */
	PFNW_S_DMA_CHECKED, /* vfio_dmas looked at after they were unmapped */
	PFNW_S_MADE_UP, /* entries of calls and claims that a kprobe missed, and its double saw */
	PFNW_S_SETTLED, /* container calls of which no program saw the end, or all of it */
	PFNW_S_CHANGES, /* page-table changes under watched mms */
	PFNW_S_MAX,
};

/* Addresses of the drivers' iova_to_phys(), which tell whose a domain is; 0: none. */
struct pfnw_iova_to_phys {
	__u64 vtd, amd; /* tables of the driver's own, until 6.18 */
	__u64 vtd_generic, amd_generic, x86_generic; /* generic_pt, since 6.19 */
	__u64 virtio;
};

/* Output of the program calibrate(). Values are 0 where unknown. */
struct pfnw_calib {
	__u64 page_offset_base;
	__u64 vmemmap_base;
	__u64 sme_me_mask;
	__u64 pgdir_shift; /* 39: 4 levels, 48: 5 levels */
	__u32 page_struct_bytes;
	__u32 pg_reserved; /* bit number, ~0 when unknown */
	__u32 have; /* bit per value above, in this order */
	__u32 pad;
	struct pfnw_iova_to_phys driver_fn;
	__u64 huge_zero_pfn; /* where the kernel keeps it: a kernel VA; 0: no symbol */
};

/* In and out of the programs rewalk() and selfwalk(). */
struct pfnw_rewalk {
	__u64 mm; /* 0: the caller's own */
	__u64 va;
	__u64 change_seq, change_fin; /* since when to look for changes */
	__u32 gone; /* out: the mm is no longer watched */
	__u32 moved; /* out: enum pfnw_moved */
	struct pfnw_walk walk;
};

_Static_assert(sizeof(struct pfnw_walk) == 56, "ABI");
_Static_assert(sizeof(struct pfnw_leaf) == 16, "ABI");
_Static_assert(sizeof(struct pfnw_vma) == 40, "ABI");
_Static_assert(sizeof(struct pfnw_hdr) == 56, "ABI");
_Static_assert(sizeof(struct pfnw_ev_run) == 96, "ABI");
_Static_assert(sizeof(struct pfnw_iowalk) == 64, "ABI");
_Static_assert(sizeof(struct pfnw_ev_diff) == 536, "ABI");
_Static_assert(sizeof(struct pfnw_ev_claim) == 240, "ABI");
_Static_assert(sizeof(struct pfnw_ev_map) == 216, "ABI");
_Static_assert(sizeof(struct pfnw_ev_unmap) == 80, "ABI");
_Static_assert(sizeof(struct pfnw_rewalk) == 96, "ABI");
_Static_assert(__builtin_offsetof(struct pfnw_ev_diff, walk) == 184, "ABI");

#endif
