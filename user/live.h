/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What is mapped while we watch: the ledger, kept by the programs' records and read
 * anew from the kernel when one was lost; and what goes stale under it: page tables
 * that change where something is mapped are compared with the IOMMU's again.
 */
#ifndef PFNW_LIVE_H
#define PFNW_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "audit.h"
#include "ledger.h"

struct live;

struct live_ops {
	void *ctx;
	void (*found)(void *ctx, const struct audit_finding *f);
	/* Mapped where something was mapped; @pages of the run. */
	void (*overlap)(void *ctx, const struct pfnw_ev_ledger *l, uint64_t iova, uint64_t pages);
};

struct live_counts {
	struct audit_counts audit; /* of what was looked at again; each stale page once */
	uint64_t runs, pages, dmas, bytes; /* in the ledger now; bytes of memory */
	uint64_t changes; /* records of page-table changes */
	uint64_t looks; /* ranges compared again */
	uint64_t losses, rebuilds; /* containers out of order, and read anew */
	uint64_t unread; /* containers whose ledger is not known at the end */
	uint64_t drift_pages; /* ledger and kernel differ, at the end */
	uint64_t pending; /* changes not looked at, at the end */
	uint64_t late; /* changes, lost ones too, under what was unmapped before the look */
	uint64_t compared_pages; /* ledger against kernel, at the end */
};

/* NULL: no memory. @seed for the ledger; @break_on: bit per enum severity. */
struct live *live_new(struct session *s, const struct live_ops *ops, uint32_t break_on);
void live_free(struct live *l);

/* The containers that are there already. EXIT_PROVEN, or after an error line. */
int live_begin(struct live *l, int group);

void live_ledger(struct live *l, const struct pfnw_ev_ledger *e, size_t bytes);
void live_change(struct live *l, const struct pfnw_ev_change *e);
/* A page that is a mismatch as it was mapped: a later look does not tell it again. */
void live_wrong(struct live *l, uint64_t domain, uint64_t iova);
bool live_is_wrong(const struct live *l, uint64_t domain, uint64_t iova);

/*
 * So many ledger records were lost so far. A hole in the numbers tells, but not when the
 * last ones of a container are missing: those who are behind are read anew.
 */
void live_lost_records(struct live *l, uint64_t lost);

/* Everything is looked at again, for what changed when nobody told of it yet. */
void live_look_again(struct live *l);

/*
 * So many change records were lost so far, asked after the records that there are were taken.
 * More than before: everything is looked at again, and what was unmapped since nobody can.
 */
void live_lost_changes(struct live *l, uint64_t lost);

/* Look at what waited long enough; @all: at everything that waits. */
void live_tick(struct live *l, bool all);

/* Is every container's ledger known, and no record missing? */
bool live_settled(const struct live *l);

/* Is the ledger what the kernel has? To be called while the hooks are still attached. */
void live_compare(struct live *l);

void live_counts(const struct live *l, struct live_counts *c);

#endif
