/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What ledger.c and ledger_dma.c share. Inside, ranges are in pages, which cannot overflow. */
#ifndef PFNW_LEDGER_PRIV_H
#define PFNW_LEDGER_PRIV_H

#include "ledger.h"
#include "ledger_tree.h"

#define PAGE_SHIFT 12
#define END_PAGE (1ULL << (64 - PAGE_SHIFT)) /* first page that does not exist */

/* 56 bits for the number of pages, in what the addresses leave free. */
struct run_node {
	struct ltree_link link;
	uint64_t page : 52, pages_high : 12; /* IOVA >> 12 */
	uint64_t pfn : 52, pages_mid : 12;
	uint32_t pages_low;
	uint32_t dma; /* number of its dma_node */
};
_Static_assert(sizeof(struct run_node) == 32, "memory per run");

struct dma_node {
	struct ltree_link link;
	uint64_t top; /* greatest last VA in its subtree */
	struct ledger_dma dma;
	uint32_t runs; /* that refer to it */
};

struct domain_node {
	struct ltree_link link;
	uint64_t id;
	uint32_t root; /* of its runs */
	bool mixed; /* runs of more than one container, perhaps */
	uint64_t container; /* of its first run */
	struct ledger_totals totals;
};

struct ledger {
	struct ltree_budget budget;
	struct ltree runs, dmas, domains;
	uint32_t dma_root, domain_root;
	struct ledger_totals totals;
};

static inline struct run_node *run_at(const struct ledger *l, uint32_t n)
{
	return ltree_node(&l->runs, n);
}

static inline struct dma_node *dma_at(const struct ledger *l, uint32_t n)
{
	return ltree_node(&l->dmas, n);
}

/* ledger_dma.c: update() of the tree of dmas */
void dma_update(const struct ltree *t, void *node);

bool dma_is_known(const struct ledger *l, const struct ledger_dma *dma);

/*
 * The node of @dma, made if there is none (one was reserved), and made to cover the
 * pages up to @end; with one more run.
 */
uint32_t dma_hold(struct ledger *l, struct domain_node *d, const struct ledger_dma *dma,
		  uint64_t end);
void dma_put(struct ledger *l, struct domain_node *d, uint32_t n); /* one run less */

#endif
