/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The ledger: what is mapped now. Per IOMMU domain it knows runs (IOVA range to
 * contiguous frames), and for each run the vfio_dma it belongs to: VA, mm, owner,
 * rights, since when. Pure: no I/O, no BPF, no time, no global state.
 *
 * Units: addresses in bytes, PFNs and pages of 4 KiB. A range may end at 2^64
 * exactly. A run may have any length; runs that continue each other (IOVA and
 * frame, same vfio_dma) are one.
 *
 * Memory: 32 bytes for a run, 112 for a vfio_dma, in chunks that never move;
 * what is freed is used again. One step down a tree is a visit; map, unmap, find and
 * next take O(log n) of them, and unmap one more for each run that goes.
 */
#ifndef PFNW_LEDGER_H
#define PFNW_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEDGER_COMM 16
#define LEDGER_LENGTHS 53 /* a run has less than 2^53 pages */
#define LEDGER_ALL UINT64_MAX /* as a number of pages: to the end of the address space */

/*
 * What runs have in common: one per domain and vfio_dma. Two are the same if
 * domain, container, iova, va, mm, prot and tgid are; of the rest the ledger keeps
 * what came first, but bytes, which only grows. It lives as long as it has a run.
 */
struct ledger_dma {
	uint64_t domain; /* struct iommu_domain *, an identity only */
	uint64_t container; /* an identity only */
	uint64_t iova, va; /* of its first byte; va untagged, 0 if unknown */
	uint64_t bytes; /* raised so that it covers every run; may be 0 when passed */
	uint64_t mm; /* struct mm_struct *, an identity only; 0: unknown */
	uint64_t since_ns; /* CLOCK_MONOTONIC; 0: not known, it was there before */
	uint32_t prot; /* IOMMU_READ 1, IOMMU_WRITE 2, IOMMU_CACHE 4, ... */
	uint32_t tgid;
	int32_t group; /* IOMMU group id, -1: unknown */
	char comm[LEDGER_COMM]; /* not ended by 0 when all are used */
};

/* An answer: a copy, but dma points into the ledger until that is changed. */
struct ledger_run {
	uint64_t iova; /* of the first page */
	uint64_t va; /* of the first page, by its dma */
	uint64_t pfn; /* of the first page */
	uint64_t pages;
	const struct ledger_dma *dma;
};

struct ledger_totals {
	uint64_t runs, pages, dmas;
	uint64_t lengths[LEDGER_LENGTHS]; /* [i]: runs of 2^i to 2^(i+1) - 1 pages */
};

/*
 * @seed: what those who choose IOVAs cannot guess; with it they could make trees
 * degenerate. @max_bytes: of memory in all, 0: no limit. NULL: no memory.
 */
struct ledger *ledger_new(uint64_t seed, uint64_t max_bytes);
void ledger_free(struct ledger *l); /* NULL is fine */

/*
 * Adds a run of @pages from @iova to frame @pfn on, that belongs to @dma (copied).
 * What was mapped there in the same domain is replaced; returns how many pages
 * that were. 0 pages: nothing happens. With an error the ledger is unchanged:
 * -ENOMEM  no memory, or max_bytes reached
 * -EINVAL  @iova not page aligned or less than dma->iova, or the end of IOVAs or
 *          of frames is beyond 2^64 bytes
 */
int64_t ledger_map(struct ledger *l, const struct ledger_dma *dma, uint64_t iova, uint64_t pfn,
		   uint64_t pages);

/* @pages from frame @pfn on. */
struct ledger_piece {
	uint64_t pfn, pages;
};

/*
 * The same for @n pieces, at most LEDGER_PIECES, one behind the other from @iova on: much
 * less work than one by one. None may have 0 pages.
 */
#define LEDGER_PIECES 128
int64_t ledger_map_pieces(struct ledger *l, const struct ledger_dma *dma, uint64_t iova,
			  const struct ledger_piece *piece, size_t n);

/* Is any of @pages from @iova on mapped? */
bool ledger_any(const struct ledger *l, uint64_t domain, uint64_t iova, uint64_t pages);

/*
 * Removes [@iova, + @pages), which may begin and end within runs. Returns how many
 * pages were there; -ENOMEM (a run must be cut in two), -EINVAL as above, both with
 * the ledger unchanged. @pages may be LEDGER_ALL.
 */
int64_t ledger_unmap(struct ledger *l, uint64_t domain, uint64_t iova, uint64_t pages);

/* Remove all runs of a domain, of a container. Return how many pages were there; cannot fail. */
uint64_t ledger_drop_domain(struct ledger *l, uint64_t domain);
uint64_t ledger_drop_container(struct ledger *l, uint64_t container);

/* The whole run that has the byte @iova; false: not mapped. */
bool ledger_find(const struct ledger *l, uint64_t domain, uint64_t iova, struct ledger_run *run);

/*
 * Runs in IOVA order, cut to the range asked for:
 *	ledger_seek(&c, domain, iova, pages);
 *	while (ledger_next(l, &c, &run))
 * The ledger may be changed meanwhile: it goes on behind the last run returned.
 */
struct ledger_cursor {
	uint64_t domain;
	uint64_t page, end; /* IOVA >> 12: of what is still to be seen */
	const struct ledger_dma *only; /* NULL: any */
};
/* @iova is rounded down to a page; @pages may be LEDGER_ALL, or reach beyond 2^64. */
void ledger_seek(struct ledger_cursor *c, uint64_t domain, uint64_t iova, uint64_t pages);
bool ledger_next(const struct ledger *l, struct ledger_cursor *c, struct ledger_run *run);

/* Domains that have a run, in ascending order: c = { 0 }; while (ledger_next_domain(l, &c)). */
struct ledger_domain_cursor {
	bool begun;
	uint64_t domain; /* the answer */
};
bool ledger_next_domain(const struct ledger *l, struct ledger_domain_cursor *c);

/*
 * The vfio_dmas of all domains, ordered by mm, VA, domain. @after NULL: the first;
 * else the next one, also if @after is a copy and has left the ledger. NULL: no more.
 */
const struct ledger_dma *ledger_next_dma(const struct ledger *l, const struct ledger_dma *after);

/*
 * The same, of those in @mm that overlap [@va, + @bytes): O(log n) visits for each.
 * To get at the runs behind those VAs, of this vfio_dma alone:
 *	ledger_seek_va(&c, dma, va, bytes);
 *	while (ledger_next(l, &c, &run))
 * here only as long as dma is in the ledger.
 */
const struct ledger_dma *ledger_next_va(const struct ledger *l, uint64_t mm, uint64_t va,
					uint64_t bytes, const struct ledger_dma *after);
void ledger_seek_va(struct ledger_cursor *c, const struct ledger_dma *dma, uint64_t va,
		    uint64_t bytes);

/* Of a domain (false, and all 0, if it has no run), and of all. */
bool ledger_domain_totals(const struct ledger *l, uint64_t domain, struct ledger_totals *t);
void ledger_totals(const struct ledger *l, struct ledger_totals *t);

/* Bytes of memory that it uses, free lists included; nodes visited since ledger_new(). */
uint64_t ledger_bytes(const struct ledger *l);
uint64_t ledger_visits(const struct ledger *l);

/* What is compared besides the frame; or-ed. */
enum ledger_compare {
	LEDGER_CMP_RW = 1, /* the rights to read and to write */
	LEDGER_CMP_PROT = 2, /* all of prot */
	LEDGER_CMP_VA = 4, /* VA and mm */
};

/* A range in which two ledgers differ; each side has one run, or none, for all of it. */
struct ledger_difference {
	uint64_t domain, iova, pages;
	bool in_a, in_b; /* mapped there? */
	struct ledger_run a, b; /* cut to the range; all 0 if not mapped there */
};

/* Returns false to hear no more. Must change neither ledger. */
typedef bool (*ledger_diff_fn)(void *ctx, const struct ledger_difference *d);

/*
 * Compares page by page, however the runs are cut. Calls @fn (may be NULL) for
 * every range that differs, by domain and IOVA; neighbouring ranges are not joined.
 * Returns how many pages differ, up to where @fn wanted no more.
 */
uint64_t ledger_diff(const struct ledger *a, const struct ledger *b, unsigned int compare,
		     ledger_diff_fn fn, void *ctx);
/* Only [@iova, + @pages) of @domain. */
uint64_t ledger_diff_range(const struct ledger *a, const struct ledger *b, uint64_t domain,
			   uint64_t iova, uint64_t pages, unsigned int compare, ledger_diff_fn fn,
			   void *ctx);
bool ledger_equal(const struct ledger *a, const struct ledger *b, unsigned int compare);

#endif
