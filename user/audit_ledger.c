// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The ledger of a container, read from the kernel. */
#include "audit.h"
#include "ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pfnwatch.skel.h"

static void describe(struct ledger_dma *to, const struct audit_container *k,
		     const struct pfnw_domain *dom, const struct pfnw_dma *d)
{
	memset(to, 0, sizeof(*to));
	to->domain = dom->domain;
	to->container = k->container;
	to->iova = d->iova;
	to->va = d->va;
	to->bytes = d->bytes;
	to->mm = d->mm;
	to->prot = d->prot;
	to->tgid = d->tgid;
	to->group = dom->group;
	memcpy(to->comm, d->comm, sizeof(to->comm));
}

/* 0; 1: the container is gone; -errno */
static int read_dma(struct session *s, const struct audit_container *k,
		    const struct pfnw_domain *dom, const struct pfnw_dma *d, struct ledger *l,
		    uint64_t leaf_pages[4])
{
	struct pfnw_dump *a = &s->skel->bss->dump_arg;
	uint64_t at = d->iova, left = d->bytes >> PFNW_PAGE_SHIFT;
	struct ledger_dma what;
	int64_t err;

	describe(&what, k, dom, d);
	while (left) {
		a->container = k->container;
		a->generation = k->generation;
		a->fd = k->fd;
		a->domain = dom->domain;
		a->iova = at;
		a->n_pages = left < 1ULL << 18 ? left : 1ULL << 18;
		memset(a->leaf_pages, 0, sizeof(a->leaf_pages));
		if (session_run(s->skel->progs.dump_runs))
			return -EIO;
		if (a->status == PFNW_AUDIT_GONE)
			return 1;
		if (a->status != PFNW_AUDIT_OK || !a->done_pages || a->unread)
			return -EIO;
		for (uint32_t i = 0; i < a->n; i++) {
			what.prot = (d->prot & ~3u) | a->run[i].rights;
			err = ledger_map(l, &what, a->run[i].iova, a->run[i].pfn, a->run[i].pages);
			if (err < 0)
				return err;
		}
		for (int i = 0; i < 4 && leaf_pages; i++)
			leaf_pages[i] += a->leaf_pages[i];
		at += a->done_pages << PFNW_PAGE_SHIFT;
		left -= a->done_pages;
	}
	return 0;
}

int audit_read_ledger(struct session *s, const struct audit_container *k, struct ledger *l,
		      uint64_t leaf_pages[4])
{
	struct pfnw_dma *dma = calloc(PFNW_LIST_DMAS, sizeof(*dma));
	uint64_t from = 0;
	bool more = true;
	int ret = dma ? 0 : -ENOMEM;
	size_t n;

	while (!ret && more) {
		if (audit_list_dmas(s, k, from, dma, &n, &more)) {
			ret = 1;
			break;
		}
		for (size_t i = 0; i < n && !ret; i++)
			for (uint32_t j = 0; j < k->n_domains && !ret; j++)
				if (dma[i].mapped)
					ret = read_dma(s, k, &k->domain[j], &dma[i], l, leaf_pages);
		if (!n)
			break;
		from = dma[n - 1].iova + dma[n - 1].bytes;
		if (!from)
			break;
	}
	free(dma);
	return ret;
}
