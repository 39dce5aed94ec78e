// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The vfio_dmas of the ledger: one tree, ordered by mm and VA, that knows where VAs end. */
#include "ledger_priv.h"

static uint64_t last_byte(uint64_t start, uint64_t bytes)
{
	return bytes - 1 > UINT64_MAX - start ? UINT64_MAX : start + bytes - 1;
}

static const struct ledger_dma *dma_of(const void *node)
{
	return &((const struct dma_node *)node)->dma;
}

void dma_update(const struct ltree *t, void *node)
{
	struct dma_node *n = node;
	uint32_t child[] = { n->link.left, n->link.right };

	n->top = last_byte(n->dma.va, n->dma.bytes);
	for (int i = 0; i < 2; i++) {
		const struct dma_node *c = child[i] ? ltree_node(t, child[i]) : NULL;

		if (c && c->top > n->top)
			n->top = c->top;
	}
}

static int compare(const struct ledger_dma *a, const struct ledger_dma *b)
{
#define BY(member)                                             \
	do {                                                   \
		if (a->member != b->member)                    \
			return a->member < b->member ? -1 : 1; \
	} while (0)
	BY(mm);
	BY(va);
	BY(domain);
	BY(container);
	BY(iova);
	BY(prot);
	BY(tgid);
#undef BY
	return 0;
}

static bool before(const void *node, const void *key)
{
	return compare(dma_of(node), key) < 0;
}

static bool not_after(const void *node, const void *key)
{
	return compare(dma_of(node), key) <= 0;
}

static uint32_t dma_find(const struct ledger *l, const struct ledger_dma *dma)
{
	uint32_t n = ltree_seek(&l->dmas, l->dma_root, before, dma);

	return n && !compare(&dma_at(l, n)->dma, dma) ? n : 0;
}

bool dma_is_known(const struct ledger *l, const struct ledger_dma *dma)
{
	return dma_find(l, dma);
}

/* So many that all of @dma up to page @end is covered, but nothing beyond 2^64. */
static uint64_t bytes_up_to(const struct ledger_dma *dma, uint64_t end)
{
	uint64_t last = ((end << PAGE_SHIFT) - 1) - dma->iova; /* offset of the last byte */

	if (dma->bytes && dma->bytes - 1 > last)
		last = dma->bytes - 1;
	if (last > UINT64_MAX - dma->iova)
		last = UINT64_MAX - dma->iova;
	return last == UINT64_MAX ? last : last + 1;
}

uint32_t dma_hold(struct ledger *l, struct domain_node *d, const struct ledger_dma *dma,
		  uint64_t end)
{
	uint64_t bytes = bytes_up_to(dma, end);
	uint32_t n = dma_find(l, dma);
	struct dma_node *node;

	if (n) {
		node = dma_at(l, n);
		if (bytes > node->dma.bytes) {
			node->dma.bytes = bytes;
			ltree_refresh(&l->dmas, l->dma_root, before, dma, n);
		}
	} else {
		n = ltree_alloc(&l->dmas);
		node = dma_at(l, n);
		node->dma = *dma;
		node->dma.bytes = bytes;
		l->dma_root = ltree_insert(&l->dmas, l->dma_root, before, dma, n);
		d->totals.dmas++;
		l->totals.dmas++;
	}
	node->runs++;
	return n;
}

void dma_put(struct ledger *l, struct domain_node *d, uint32_t n)
{
	struct dma_node *node = dma_at(l, n);

	if (--node->runs)
		return;
	l->dma_root = ltree_remove(&l->dmas, l->dma_root, before, &node->dma, n);
	ltree_release(&l->dmas, n);
	d->totals.dmas--;
	l->totals.dmas--;
}

const struct ledger_dma *ledger_next_dma(const struct ledger *l, const struct ledger_dma *after)
{
	uint32_t n;

	if (after) {
		n = ltree_seek(&l->dmas, l->dma_root, not_after, after);
	} else {
		static const struct ledger_dma lowest;

		n = ltree_seek(&l->dmas, l->dma_root, before, &lowest);
	}
	return n ? &dma_at(l, n)->dma : NULL;
}

struct va_query {
	uint64_t mm, first, last; /* VAs, in bytes */
	const struct ledger_dma *after;
};

/*
 * Below nodes that all lie between the bounds, top tells whether there is an
 * answer; so only one path along each bound is walked in vain.
 */
static uint32_t next_va(const struct ledger *l, uint32_t n, const struct va_query *q)
{
	const struct dma_node *node;
	uint32_t found;

	if (!n)
		return 0;
	l->dmas.budget->visits++;
	node = dma_at(l, n);
	if (node->top < q->first)
		return 0;
	if (node->dma.mm < q->mm || (q->after && not_after(node, q->after)))
		return next_va(l, node->link.right, q);
	if (node->dma.mm > q->mm || node->dma.va > q->last)
		return next_va(l, node->link.left, q);
	found = next_va(l, node->link.left, q);
	if (found)
		return found;
	if (last_byte(node->dma.va, node->dma.bytes) >= q->first)
		return n;
	return next_va(l, node->link.right, q);
}

const struct ledger_dma *ledger_next_va(const struct ledger *l, uint64_t mm, uint64_t va,
					uint64_t bytes, const struct ledger_dma *after)
{
	struct va_query q = { .mm = mm, .first = va, .last = last_byte(va, bytes), .after = after };
	uint32_t n = bytes ? next_va(l, l->dma_root, &q) : 0;

	return n ? &dma_at(l, n)->dma : NULL;
}

void ledger_seek_va(struct ledger_cursor *c, const struct ledger_dma *dma, uint64_t va,
		    uint64_t bytes)
{
	uint64_t first = va > dma->va ? va - dma->va : 0; /* offsets into the dma */
	uint64_t last = last_byte(va, bytes);

	c->domain = dma->domain;
	c->only = dma;
	c->page = c->end = 0;
	if (!bytes || last < dma->va || first >= dma->bytes)
		return;
	last -= dma->va;
	if (last >= dma->bytes)
		last = dma->bytes - 1;
	c->page = (dma->iova + first) >> PAGE_SHIFT;
	c->end = ((dma->iova + last) >> PAGE_SHIFT) + 1;
}
