/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What can happen to memory while it is mapped for DMA, and what became of it. */
#ifndef CLIENT_STALE_CASE_H
#define CLIENT_STALE_CASE_H

#include <stdbool.h>
#include <stdint.h>

enum stale_case {
	STALE_DONTNEED,
	STALE_MUNMAP,
	STALE_MREMAP,
	STALE_PUNCH,
	STALE_COW,
	STALE_SPLIT,
	STALE_PROTECT,
	STALE_PFNMAP_DROP,
	STALE_PFNMAP_SHUFFLE,
	STALE_BAR_DECODE_OFF,
	STALE_OWNER_EXIT,
	STALE_CASES,
};

/* A negative value: there is no such case. */
int stale_find(const char *name);
const char *stale_name(enum stale_case which);

/* What lies at the address of a page now. */
enum now {
	NOW_SAME,
	NOW_NOTHING, /* until somebody touches it */
	NOW_OTHER,
	NOW_UNMAPPED, /* nor may it be touched */
	NOW_EXITED,
};

/* Of one mapping. */
struct stale {
	bool chosen; /* for `which` */
	enum stale_case which;
	/* By page: the frames before and after. */
	uint64_t *was, *frames;
	uint8_t *now;
	/* Where the memory went. */
	uint8_t *moved_to;
	/* Why the device cannot be asked; NULL: it can. */
	const char *no_dma;
};

#endif
