/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What is mapped at this moment, container by container: facts, no verdicts. */
#ifndef PFNW_LS_H
#define PFNW_LS_H

#include "audit.h"
#include "ledger.h"

struct sink;

/* Page sizes of the IOMMU's leaves, as in struct pfnw_dump. */
enum ls_leaf { LS_4K, LS_2M, LS_1G, LS_OTHER, LS_LEAVES };

struct ls_domain {
	const struct pfnw_domain *domain;
	struct ledger_totals t; /* what the IOMMU translates */
	uint64_t leaf_pages[LS_LEAVES];
	uint64_t largest; /* run, in pages */
	int error; /* -errno: its table could not be read */
};

/* A vfio_dma, with what all domains translate of it. */
struct ls_range {
	struct pfnw_dma dma;
	uint64_t runs, pages, largest;
};

struct ls_container {
	const struct audit_container *k;
	bool gone; /* went while it was looked at: what follows is not the whole */
	struct ls_domain domain[PFNW_LIST_DOMAINS]; /* k->n_domains of them */
	struct ls_range *range;
	size_t n_ranges;
	uint64_t pages; /* of all ranges, once */
	bool show_ranges; /* all of them, and histograms */
};

struct ls_summary {
	uint64_t containers, gone, domains, unreadable, ranges;
	uint64_t pages; /* of vfio_dmas */
	uint64_t translated; /* by IOMMUs: once for each domain */
	uint64_t runs;
	uint64_t duration_ns;
	bool interrupted;
	int exit_code;
};

/*
 * Reads all of @k into @c, which ls_free() frees, and adds it to @sum. 0 or -ENOMEM; a
 * container that goes, or a table that cannot be read, is told in @c.
 */
int ls_read(struct session *s, const struct audit_container *k, struct ls_container *c,
	    struct ls_summary *sum);
void ls_free(struct ls_container *c);

/* The sinks' part (sink_ops.listed, .list_end). */
void ls_text(struct sink *s, const struct ls_container *c);
void ls_text_end(struct sink *s, const struct ls_summary *l);
void ls_json(struct sink *s, const struct ls_container *c);
void ls_json_end(struct sink *s, const struct ls_summary *l);

#endif
