// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ledger.h"

#define PAGE_SHIFT 12
#define RW 3 /* IOMMU_READ | IOMMU_WRITE */

/* One ledger on its way through a range. */
struct side {
	const struct ledger *l;
	struct ledger_cursor c;
	bool here; /* run is what comes next, or is under way */
	struct ledger_run run;
};

static void side_start(struct side *s, const struct ledger *l, uint64_t domain, uint64_t iova,
		       uint64_t pages)
{
	s->l = l;
	ledger_seek(&s->c, domain, iova, pages);
	s->here = ledger_next(l, &s->c, &s->run);
}

static uint64_t start_page(const struct side *s)
{
	return s->here ? s->run.iova >> PAGE_SHIFT : UINT64_MAX;
}

static bool side_is_in(const struct side *s, uint64_t page)
{
	return start_page(s) <= page;
}

/* The next page after @page at which a run begins or ends. */
static uint64_t side_event(const struct side *s, uint64_t page)
{
	return side_is_in(s, page) ? start_page(s) + s->run.pages : start_page(s);
}

/* Leaves the pages up to @page behind. Returns what it had there, all 0 if nothing. */
static struct ledger_run side_cut(struct side *s, uint64_t page)
{
	struct ledger_run cut = { 0 };
	uint64_t pages = page - start_page(s);

	if (!s->here || start_page(s) >= page)
		return cut;
	cut = s->run;
	cut.pages = pages;
	s->run.iova += pages << PAGE_SHIFT;
	s->run.va += pages << PAGE_SHIFT;
	s->run.pfn += pages;
	s->run.pages -= pages;
	if (!s->run.pages)
		s->here = ledger_next(s->l, &s->c, &s->run);
	return cut;
}

static bool differ(const struct ledger_run *a, const struct ledger_run *b, unsigned int compare)
{
	uint32_t prot = a->dma->prot ^ b->dma->prot;

	return a->pfn != b->pfn || ((compare & LEDGER_CMP_RW) && (prot & RW)) ||
	       ((compare & LEDGER_CMP_PROT) && prot) ||
	       ((compare & LEDGER_CMP_VA) && (a->va != b->va || a->dma->mm != b->dma->mm));
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* *@stop: fn wants no more. */
static uint64_t diff_range(const struct ledger *la, const struct ledger *lb, uint64_t domain,
			   uint64_t iova, uint64_t pages, unsigned int compare, ledger_diff_fn fn,
			   void *ctx, bool *stop)
{
	uint64_t page, end, sum = 0;
	struct side a, b;

	side_start(&a, la, domain, iova, pages);
	side_start(&b, lb, domain, iova, pages);
	while (!*stop && (a.here || b.here)) {
		struct ledger_difference d = { .domain = domain };

		page = min_u64(start_page(&a), start_page(&b));
		end = min_u64(side_event(&a, page), side_event(&b, page));
		d.in_a = side_is_in(&a, page);
		d.in_b = side_is_in(&b, page);
		d.iova = page << PAGE_SHIFT;
		d.pages = end - page;
		d.a = side_cut(&a, end);
		d.b = side_cut(&b, end);
		if (d.in_a && d.in_b && !differ(&d.a, &d.b, compare))
			continue;
		sum += d.pages;
		*stop = fn && !fn(ctx, &d);
	}
	return sum;
}

uint64_t ledger_diff_range(const struct ledger *a, const struct ledger *b, uint64_t domain,
			   uint64_t iova, uint64_t pages, unsigned int compare, ledger_diff_fn fn,
			   void *ctx)
{
	bool stop = false;

	return diff_range(a, b, domain, iova, pages, compare, fn, ctx, &stop);
}

uint64_t ledger_diff(const struct ledger *a, const struct ledger *b, unsigned int compare,
		     ledger_diff_fn fn, void *ctx)
{
	struct ledger_domain_cursor ca = { 0 }, cb = { 0 };
	bool in_a = ledger_next_domain(a, &ca), in_b = ledger_next_domain(b, &cb), stop = false;
	uint64_t sum = 0;

	while (!stop && (in_a || in_b)) {
		bool use_a = in_a && (!in_b || ca.domain <= cb.domain);
		bool use_b = in_b && (!in_a || cb.domain <= ca.domain);

		sum += diff_range(a, b, use_a ? ca.domain : cb.domain, 0, LEDGER_ALL, compare, fn,
				  ctx, &stop);
		if (use_a)
			in_a = ledger_next_domain(a, &ca);
		if (use_b)
			in_b = ledger_next_domain(b, &cb);
	}
	return sum;
}

static bool stop_at_once(void *ctx, const struct ledger_difference *d)
{
	(void)ctx;
	(void)d;
	return false;
}

bool ledger_equal(const struct ledger *a, const struct ledger *b, unsigned int compare)
{
	return !ledger_diff(a, b, compare, stop_at_once, NULL);
}
