// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* 32 million runs: more is told as unreadable, rather than taking the host's memory. */
#define LEDGER_BYTES (1ULL << 30)

static int read_ranges(struct session *s, struct ls_container *c)
{
	struct pfnw_dma *dma = calloc(PFNW_LIST_DMAS, sizeof(*dma));
	uint64_t from = 0;
	bool more = true;
	int ret = dma ? 0 : -ENOMEM;

	while (!ret && more) {
		struct ls_range *r;
		size_t n;

		if (audit_list_dmas(s, c->k, from, dma, &n, &more)) {
			c->gone = true;
			break;
		}
		if (!n)
			break;
		r = realloc(c->range, (c->n_ranges + n) * sizeof(*r));
		if (!r) {
			ret = -ENOMEM;
			break;
		}
		c->range = r;
		memset(r + c->n_ranges, 0, n * sizeof(*r));
		for (size_t i = 0; i < n; i++) {
			r[c->n_ranges++].dma = dma[i];
			c->pages += dma[i].bytes >> PFNW_PAGE_SHIFT;
		}
		from = dma[n - 1].iova + dma[n - 1].bytes;
		if (!from)
			break;
	}
	free(dma);
	return ret;
}

/* Both are in the order of their IOVAs. */
static void spread(struct ls_container *c, struct ls_domain *d, const struct ledger *l)
{
	struct ledger_cursor at;
	struct ledger_run run;
	size_t i = 0;

	ledger_seek(&at, d->domain->domain, 0, LEDGER_ALL);
	while (ledger_next(l, &at, &run)) {
		if (run.pages > d->largest)
			d->largest = run.pages;
		while (i < c->n_ranges && c->range[i].dma.iova < run.dma->iova)
			i++;
		if (i == c->n_ranges || c->range[i].dma.iova != run.dma->iova)
			continue; /* mapped after the ranges were listed */
		c->range[i].runs++;
		c->range[i].pages += run.pages;
		if (run.pages > c->range[i].largest)
			c->range[i].largest = run.pages;
	}
}

static void read_domain(struct session *s, struct ls_container *c, uint32_t i)
{
	struct audit_container one = *c->k;
	struct ls_domain *d = &c->domain[i];
	struct ledger *l;
	uint64_t seed = 0;
	int err;

	d->domain = &c->k->domain[i];
	if (c->gone)
		return;
	one.n_domains = 1;
	one.domain[0] = *d->domain;
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = d->domain->domain;
	l = ledger_new(seed, LEDGER_BYTES);
	err = l ? audit_read_ledger(s, &one, l, d->leaf_pages) : -ENOMEM;
	if (err > 0)
		c->gone = true;
	else
		d->error = err;
	if (!err) {
		ledger_domain_totals(l, d->domain->domain, &d->t);
		spread(c, d, l);
	}
	ledger_free(l);
}

int ls_read(struct session *s, const struct audit_container *k, struct ls_container *c,
	    struct ls_summary *sum)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->k = k;
	err = read_ranges(s, c);
	if (err)
		return err;
	for (uint32_t i = 0; i < k->n_domains; i++) {
		read_domain(s, c, i);
		sum->unreadable += !!c->domain[i].error;
		sum->translated += c->domain[i].t.pages;
		sum->runs += c->domain[i].t.runs;
	}
	sum->containers++;
	sum->gone += c->gone;
	sum->domains += k->n_domains;
	sum->ranges += c->n_ranges;
	sum->pages += c->pages;
	return 0;
}

void ls_free(struct ls_container *c)
{
	free(c->range);
	c->range = NULL;
}
