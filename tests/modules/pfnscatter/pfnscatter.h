/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* The ABI of /dev/pfnscatter, for the module and for the test client. */
#ifndef PFNSCATTER_H
#define PFNSCATTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct pfnscatter_info {
	__u64 npages;
	/* First PFN of the block, or 0 when the frames are not in a line. */
	__u64 base_pfn;
	/* How many times frames were re-assigned. */
	__u64 generation;
};

struct pfnscatter_pfn {
	__u64 index; /* in: page of the mapping */
	__u64 pfn; /* out */
};

#define PFNSCATTER_INFO _IOR('P', 0x60, struct pfnscatter_info)
#define PFNSCATTER_GET_PFN _IOWR('P', 0x61, struct pfnscatter_pfn)
/* Zap every PTE; the next access faults the same frame in again. */
#define PFNSCATTER_DROP _IO('P', 0x62)
/* Zap every PTE and give every page another frame, its content moved along. */
#define PFNSCATTER_SHUFFLE _IO('P', 0x63)

/* Initially each page begins with these two words. */
#define PFNSCATTER_MAGIC 0x7265747461637366ull /* "fscatter" */

#endif
