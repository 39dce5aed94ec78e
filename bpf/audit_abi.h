/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * In and out of the programs that the loader runs by itself: what containers,
 * vfio_dmas and domains there are, and do CPU tables and IOMMU tables agree. They live
 * in the skeleton's data; one run at a time. Units as in events.h.
 */
#ifndef PFNW_AUDIT_ABI_H
#define PFNW_AUDIT_ABI_H

#include "events.h"

#define PFNW_UNMAPS 16

/* A VFIO container that was seen. */
struct pfnw_container {
	__u64 generation; /* ns when it was first seen: tells it from another at its address */
	__u64 seq; /* of the last ledger record */
	__u64 begun, ended; /* calls that map or unmap; equal: none is under way */
	__u64 unmaps_begun, unmaps_ended; /* of whole vfio_dmas, under the container's lock */
	__u32 seen_free; /* its lock was free once since we count: no unmap is unknown */
	__u32 was_empty; /* it had no domain when it was first seen: nothing was mapped before */
	__u64 domain_calls; /* begun and ended, that attach or detach a group */
	struct {
		__u64 iova, bytes;
	} unmap[PFNW_UNMAPS]; /* the last ones that began; the next goes to unmaps_begun mod */
};

enum pfnw_audit_status {
	PFNW_AUDIT_OK = 0,
	PFNW_AUDIT_GONE, /* the container is not there any more */
	PFNW_AUDIT_CHANGED, /* the vfio_dma is gone, or another */
	PFNW_AUDIT_BUSY, /* a call mapped or unmapped meanwhile: differences mean nothing */
	PFNW_AUDIT_UNKNOWN, /* the IOMMU's table cannot be read */
};

/* find_container(): which container is this file descriptor of the loader's? */
struct pfnw_find {
	__s32 fd; /* in */
	__u32 pad;
	__u64 container; /* out: struct vfio_iommu *; 0: none of type1 */
	__u64 generation; /* out: of the map of containers; 0: not in it */
};

/* read_container(): what is known of a container */
struct pfnw_container_now {
	__u64 container; /* in: struct vfio_iommu * */
	__u64 known; /* out: 0: nothing is */
	struct pfnw_container now; /* out */
};

struct pfnw_dma {
	__u64 dma; /* struct vfio_dma *, an identity only */
	__u64 iova, va, bytes;
	__u64 mm; /* struct mm_struct * */
	__u32 prot;
	__u32 tgid; /* of the owner */
	__u32 mm_users; /* 0: the address space is gone */
	__u8 mapped; /* VFIO says that it is in the IOMMU */
	__u8 leaving; /* the owner is exiting, and has not closed its files yet */
	__u8 pad[2];
	char comm[PFNW_COMM];
};

#define PFNW_LIST_DMAS 256
#define PFNW_LIST_DOMAINS 32
#define PFNW_LIST_GROUPS 64

/* list_dmas(): vfio_dmas of a container in the order of their IOVA. */
struct pfnw_list_dmas {
	__u64 container, generation; /* in */
	__s32 fd; /* in: holds the container; -1: generation tells whether it is there */
	__u32 more; /* out: begin again behind the last */
	__u64 from; /* in: IOVA */
	__u32 status; /* out */
	__u32 n; /* out */
	struct pfnw_dma dma[PFNW_LIST_DMAS];
};

struct pfnw_domain {
	__u64 domain; /* struct iommu_domain *, an identity only */
	__u32 kind; /* enum pfnw_iommu_kind */
	__u32 levels;
	__s32 group; /* the first; PFNW_NO_GROUP: none */
	__u32 pad;
};

struct pfnw_group {
	__u64 domain;
	__s32 group;
	__u32 pad;
};

/* list_domains() */
struct pfnw_list_domains {
	__u64 container, generation; /* in */
	__s32 fd; /* in */
	__u32 status, n_domains, n_groups; /* out */
	__u32 held, pad; /* out: somebody holds the container's lock */
	struct pfnw_domain domain[PFNW_LIST_DOMAINS];
	struct pfnw_group group[PFNW_LIST_GROUPS];
};

/* How CPU and IOMMU differ; bits. */
enum pfnw_differs {
	PFNW_D_CPU_NONE = 1 << 0, /* the entry is zero: VA names nothing */
	PFNW_D_CPU_AWAY = 1 << 1, /* not present, not zero: swap or migration entry */
	PFNW_D_CPU_FAULT = 1 << 2, /* could not be read */
	PFNW_D_IO_NONE = 1 << 3, /* the IOMMU translates nothing */
	PFNW_D_IO_FAULT = 1 << 4,
	PFNW_D_FRAME = 1 << 5, /* both translate, to different frames */
	PFNW_D_NARROW = 1 << 6, /* the IOMMU may write where the leaf is read-only */
	PFNW_D_RIGHTS = 1 << 7, /* the IOMMU's rights are not those the owner asked for */
};

/* A range that differs in one way; the raw entries are those of its first page. */
struct pfnw_odd {
	__u64 off_pages, n_pages; /* in the vfio_dma */
	__u64 cpu_entry, io_entry; /* virtio: the physical address */
	__u64 io_pa; /* bytes; of the first page */
	__u32 differs; /* enum pfnw_differs bits */
	__u8 cpu_level, io_level;
	__u8 io_rights;
	__u8 pad;
};

#define PFNW_ODDS 128

/* compare(): part of one vfio_dma in one domain. */
struct pfnw_compare {
	__u64 container, generation; /* in */
	__s32 fd; /* in */
	__u32 status; /* out */
	__u64 domain; /* in */
	__u64 dma; /* in: identity */
	__u64 iova, va, bytes, mm; /* in: of the vfio_dma */
	__u32 prot; /* in: of the vfio_dma */
	__u32 n_odd; /* out */
	__u64 off_pages, n_pages; /* in: what part of it */
	__u64 done_pages; /* out: looked at; less than asked when odd[] was full */
	__u64 equal_pages; /* out */
	struct pfnw_odd odd[PFNW_ODDS];
};

/* What is known of the frame that an IOMMU names: one page's struct folio. */
struct pfnw_frame {
	__u64 pfn; /* in */
	__u64 mapping; /* out: struct address_space *, bit 0 set: anonymous */
	__u64 index; /* out: pages, in the file */
	__u8 known; /* out: there is a struct page */
	__u8 reserved; /* out: as in struct pfnw_ev_claim */
	__u8 zero; /* out: of the huge zero page */
	__u8 pad[5];
};

/* list_vmas(), an iterator: the VMAs of a process that overlap [lo, hi). */
struct pfnw_list_vmas {
	__u32 tgid; /* in */
	__u32 pad;
	__u64 lo, hi; /* in */
	__u64 n_all; /* out: VMAs that the process has; 0: it is exiting */
};

struct pfnw_vma_file {
	struct pfnw_vma vma;
	__u64 mapping; /* struct address_space * of the file; 0: none */
};

#define PFNW_DUMP_RUNS 4096

/* dump_runs(): what the IOMMU translates in a range, as runs of frames. */
struct pfnw_dump {
	__u64 container, generation; /* in */
	__s32 fd; /* in */
	__u32 status; /* out */
	__u64 domain; /* in */
	__u64 iova, n_pages; /* in */
	__u64 done_pages; /* out */
	__u64 leaf_pages[4]; /* out: pages under leaves of 4 KiB, 2 MiB, 1 GiB, other sizes */
	__u32 n; /* out */
	__u32 unread; /* out: pages of which the table could not be read */
	struct {
		__u64 iova, pfn, pages;
		__u32 rights, pad;
	} run[PFNW_DUMP_RUNS];
};

_Static_assert(sizeof(struct pfnw_container) == 64 + 16 * PFNW_UNMAPS, "ABI");
_Static_assert(sizeof(struct pfnw_dma) == 72, "ABI");
_Static_assert(sizeof(struct pfnw_odd) == 48, "ABI");
_Static_assert(sizeof(struct pfnw_vma_file) == 48, "ABI");

#endif
