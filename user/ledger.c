// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The runs of the ledger: a tree for each domain, and a tree of domains. */
#include "ledger_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nodes in a chunk: 256, 224 and 15 KiB. */
#define RUN_SHIFT 13
#define DMA_SHIFT 11
#define DOMAIN_SHIFT 5

struct ledger *ledger_new(uint64_t seed, uint64_t max_bytes)
{
	struct ltree_budget b = { .max_bytes = max_bytes };
	struct ledger *l = ltree_take(&b, sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct ledger){ .budget = b };
	l->runs = (struct ltree){ .node_bytes = sizeof(struct run_node), .shift = RUN_SHIFT };
	l->dmas = (struct ltree){ .node_bytes = sizeof(struct dma_node), .shift = DMA_SHIFT };
	l->domains =
		(struct ltree){ .node_bytes = sizeof(struct domain_node), .shift = DOMAIN_SHIFT };
	l->runs.budget = l->dmas.budget = l->domains.budget = &l->budget;
	l->runs.seed = l->dmas.seed = l->domains.seed = seed;
	l->dmas.update = dma_update;
	return l;
}

void ledger_free(struct ledger *l)
{
	if (!l)
		return;
	ltree_destroy(&l->runs);
	ltree_destroy(&l->dmas);
	ltree_destroy(&l->domains);
	free(l);
}

static struct domain_node *domain_at(const struct ledger *l, uint32_t n)
{
	return ltree_node(&l->domains, n);
}

static bool domain_before(const void *node, const void *key)
{
	return ((const struct domain_node *)node)->id < *(const uint64_t *)key;
}

static bool domain_not_after(const void *node, const void *key)
{
	return ((const struct domain_node *)node)->id <= *(const uint64_t *)key;
}

static struct domain_node *domain_find(const struct ledger *l, uint64_t id)
{
	uint32_t n = ltree_seek(&l->domains, l->domain_root, domain_before, &id);

	return n && domain_at(l, n)->id == id ? domain_at(l, n) : NULL;
}

static struct domain_node *domain_add(struct ledger *l, uint64_t id, uint64_t container)
{
	uint32_t n = ltree_alloc(&l->domains);
	struct domain_node *d = domain_at(l, n);

	d->id = id;
	d->container = container;
	l->domain_root = ltree_insert(&l->domains, l->domain_root, domain_before, &id, n);
	return d;
}

static void domain_remove_if_empty(struct ledger *l, struct domain_node *d)
{
	uint32_t n;

	if (d->root)
		return;
	n = ltree_seek(&l->domains, l->domain_root, domain_before, &d->id);
	l->domain_root = ltree_remove(&l->domains, l->domain_root, domain_before, &d->id, n);
	ltree_release(&l->domains, n);
}

static uint64_t pages_of(const struct run_node *r)
{
	return (uint64_t)r->pages_high << 44 | (uint64_t)r->pages_mid << 32 | r->pages_low;
}

static uint64_t end_of(const struct run_node *r)
{
	return r->page + pages_of(r);
}

static bool starts_before(const void *node, const void *page)
{
	return ((const struct run_node *)node)->page < *(const uint64_t *)page;
}

static bool ends_before(const void *node, const void *page)
{
	return end_of(node) <= *(const uint64_t *)page;
}

static void count(struct ledger_totals *t, uint64_t pages, int runs)
{
	t->runs += runs;
	t->pages += runs * pages;
	t->lengths[63 - __builtin_clzll(pages)] += runs;
}

static void count_run(struct ledger *l, struct domain_node *d, const struct run_node *r, int runs)
{
	count(&d->totals, pages_of(r), runs);
	count(&l->totals, pages_of(r), runs);
}

static void set_pages(struct run_node *r, uint64_t pages)
{
	r->pages_low = pages;
	r->pages_mid = pages >> 32 & 0xfff;
	r->pages_high = pages >> 44;
}

/* A run outside of any tree; it takes over one hold on @dma. */
static uint32_t run_new(struct ledger *l, struct domain_node *d, uint64_t page, uint64_t pfn,
			uint64_t pages, uint32_t dma)
{
	uint32_t n = ltree_alloc(&l->runs);
	struct run_node *r = run_at(l, n);

	r->page = page;
	r->pfn = pfn;
	r->dma = dma;
	set_pages(r, pages);
	count_run(l, d, r, 1);
	return n;
}

static void run_resize(struct ledger *l, struct domain_node *d, struct run_node *r, uint64_t pages)
{
	count_run(l, d, r, -1);
	set_pages(r, pages);
	count_run(l, d, r, 1);
}

static void run_release(struct ledger *l, struct domain_node *d, uint32_t n)
{
	struct run_node *r = run_at(l, n);

	count_run(l, d, r, -1);
	dma_put(l, d, r->dma);
	ltree_release(&l->runs, n);
}

/* Returns how many pages they had. */
static uint64_t release_all(struct ledger *l, struct domain_node *d, uint32_t root)
{
	struct ltree_link link;
	uint64_t pages;

	if (!root)
		return 0;
	l->budget.visits++;
	link = run_at(l, root)->link;
	pages = pages_of(run_at(l, root));
	run_release(l, d, root);
	return pages + release_all(l, d, link.left) + release_all(l, d, link.right);
}

/* A run like the part of @r from page @end on, outside of any tree. */
static uint32_t run_rest(struct ledger *l, struct domain_node *d, const struct run_node *r,
			 uint64_t end)
{
	dma_at(l, r->dma)->runs++;
	return run_new(l, d, end, r->pfn + (end - r->page), end_of(r) - end, r->dma);
}

/*
 * Takes the pages [page, end) out of the domain and leaves it in two trees: what is
 * before, what is behind. Needs a node only if is_inside(). Returns how many pages
 * there were.
 */
static uint64_t carve(struct ledger *l, struct domain_node *d, uint64_t page, uint64_t end,
		      uint32_t *left, uint32_t *right)
{
	uint64_t pages = 0;
	uint32_t mid, n, rest = 0;

	ltree_split(&l->runs, d->root, starts_before, &page, left, right);
	ltree_split(&l->runs, *right, starts_before, &end, &mid, right);
	n = ltree_last(&l->runs, *left);
	if (n && end_of(run_at(l, n)) > page) {
		struct run_node *r = run_at(l, n);
		uint64_t r_end = end_of(r);

		if (r_end > end) {
			rest = run_rest(l, d, r, end);
			r_end = end;
		}
		pages += r_end - page;
		run_resize(l, d, r, page - r->page);
	}
	n = ltree_last(&l->runs, mid);
	if (n && end_of(run_at(l, n)) > end) {
		struct run_node *r = run_at(l, n);
		uint64_t start = r->page;

		/* instead of a new node, which there may not be */
		mid = ltree_remove(&l->runs, mid, starts_before, &start, n);
		pages += end - start;
		run_resize(l, d, r, end_of(r) - end);
		r->page = end;
		r->pfn += end - start;
		rest = n;
	}
	*right = ltree_join(&l->runs, rest, *right);
	return pages + release_all(l, d, mid);
}

/* Whether one run begins before @page and ends behind @end. */
static bool is_inside(struct ledger *l, const struct domain_node *d, uint64_t page, uint64_t end)
{
	uint32_t n = ltree_seek(&l->runs, d->root, ends_before, &page);

	return n && run_at(l, n)->page < page && end_of(run_at(l, n)) > end;
}

/* Whether run @b goes on where @a ends; neither may be 0. */
static bool continues(const struct ledger *l, uint32_t a, uint32_t b)
{
	const struct run_node *ra = run_at(l, a), *rb = run_at(l, b);

	return end_of(ra) == rb->page && ra->pfn + pages_of(ra) == rb->pfn && ra->dma == rb->dma;
}

/* Takes @b, the first of a tree, out of it and appends it to @a. Returns that tree. */
static uint32_t append(struct ledger *l, struct domain_node *d, uint32_t a, uint32_t tree,
		       uint32_t b)
{
	uint64_t page = run_at(l, b)->page;

	tree = ltree_remove(&l->runs, tree, starts_before, &page, b);
	run_resize(l, d, run_at(l, a), pages_of(run_at(l, a)) + pages_of(run_at(l, b)));
	run_release(l, d, b);
	return tree;
}

/* The range in pages; false: not one. */
static bool range(uint64_t iova, uint64_t pages, uint64_t *page, uint64_t *end)
{
	*page = iova >> PAGE_SHIFT;
	if (pages > END_PAGE - *page) {
		if (pages != LEDGER_ALL)
			return false;
		pages = END_PAGE - *page;
	}
	*end = *page + pages;
	return !(iova & ((1 << PAGE_SHIFT) - 1));
}

/*
 * The runs that @piece[] makes, as a tree outside of any; pieces that go on one where the
 * other ends are one run. They take over one hold on @dma. *@last: the last of them.
 */
static uint32_t runs_new(struct ledger *l, struct domain_node *d, uint64_t page, uint32_t dma,
			 const struct ledger_piece *piece, size_t n, uint32_t *first,
			 uint32_t *last)
{
	uint32_t node[LEDGER_PIECES], used = 0;
	uint64_t pfn, pages;

	for (size_t i = 0; i < n;) {
		pfn = piece[i].pfn;
		pages = piece[i].pages;
		while (++i < n && piece[i].pfn == pfn + pages)
			pages += piece[i].pages;
		node[used++] = run_new(l, d, page, pfn, pages, dma);
		page += pages;
	}
	dma_at(l, dma)->runs += used - 1;
	*first = node[0];
	*last = node[used - 1];
	return ltree_build(&l->runs, node, used);
}

int64_t ledger_map_pieces(struct ledger *l, const struct ledger_dma *dma, uint64_t iova,
			  const struct ledger_piece *piece, size_t n)
{
	uint64_t page, end, before, there, pages = 0;
	uint32_t left, right, mid, first, last, next;
	struct domain_node *d;

	if (!n)
		return 0;
	if (n > LEDGER_PIECES)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!piece[i].pages || piece[i].pages > END_PAGE - pages ||
		    piece[i].pfn > END_PAGE - piece[i].pages)
			return -EINVAL;
		pages += piece[i].pages;
	}
	if (iova < dma->iova || !range(iova, pages, &page, &end))
		return -EINVAL;
	d = domain_find(l, dma->domain);
	/* the last run is for carve() */
	if (!ltree_reserve(&l->runs, n + 1) || (!d && !ltree_reserve(&l->domains, 1)) ||
	    (!ltree_reserve(&l->dmas, 1) && !dma_is_known(l, dma)))
		return -ENOMEM;
	if (!d)
		d = domain_add(l, dma->domain, dma->container);
	if (d->container != dma->container)
		d->mixed = true;
	/* before carve(), which could end the same dma */
	mid = runs_new(l, d, page, dma_hold(l, d, dma, end), piece, n, &first, &last);
	there = carve(l, d, page, end, &left, &right);

	before = 0;
	next = ltree_seek(&l->runs, right, starts_before, &before);
	if (next && continues(l, last, next))
		right = append(l, d, last, right, next);
	next = ltree_last(&l->runs, left);
	if (next && continues(l, next, first))
		mid = append(l, d, next, mid, first);
	d->root = ltree_join(&l->runs, ltree_join(&l->runs, left, mid), right);
	return there;
}

int64_t ledger_map(struct ledger *l, const struct ledger_dma *dma, uint64_t iova, uint64_t pfn,
		   uint64_t pages)
{
	struct ledger_piece one = { pfn, pages };

	return pages ? ledger_map_pieces(l, dma, iova, &one, 1) : 0;
}

bool ledger_any(const struct ledger *l, uint64_t domain, uint64_t iova, uint64_t pages)
{
	const struct domain_node *d = domain_find(l, domain);
	uint64_t page, end;
	uint32_t n;

	if (!d || !range(iova, pages, &page, &end))
		return false;
	n = ltree_seek(&l->runs, d->root, ends_before, &page);
	return n && run_at(l, n)->page < end;
}

int64_t ledger_unmap(struct ledger *l, uint64_t domain, uint64_t iova, uint64_t pages)
{
	struct domain_node *d = domain_find(l, domain);
	uint32_t left, right;
	uint64_t page, end, there;

	if (!range(iova, pages, &page, &end))
		return -EINVAL;
	if (!d || page == end)
		return 0;
	if (!ltree_reserve(&l->runs, 1) && is_inside(l, d, page, end))
		return -ENOMEM;
	there = carve(l, d, page, end, &left, &right);
	d->root = ltree_join(&l->runs, left, right);
	domain_remove_if_empty(l, d);
	return there;
}

static uint64_t drop_all(struct ledger *l, struct domain_node *d)
{
	uint64_t pages = release_all(l, d, d->root);

	d->root = 0;
	domain_remove_if_empty(l, d);
	return pages;
}

uint64_t ledger_drop_domain(struct ledger *l, uint64_t domain)
{
	struct domain_node *d = domain_find(l, domain);

	return d ? drop_all(l, d) : 0;
}

/* Whole runs only, so that nothing needs memory. */
static uint64_t drop_from_mixed(struct ledger *l, struct domain_node *d, uint64_t container)
{
	uint64_t page = 0, pages = 0;
	uint32_t n;

	while ((n = ltree_seek(&l->runs, d->root, ends_before, &page))) {
		const struct run_node *r = run_at(l, n);
		uint64_t start = r->page;

		page = end_of(r);
		if (dma_at(l, r->dma)->dma.container == container) {
			d->root = ltree_remove(&l->runs, d->root, starts_before, &start, n);
			pages += pages_of(r);
			run_release(l, d, n);
		}
	}
	domain_remove_if_empty(l, d);
	return pages;
}

uint64_t ledger_drop_container(struct ledger *l, uint64_t container)
{
	struct ledger_domain_cursor c = { 0 };
	uint64_t pages = 0;

	while (ledger_next_domain(l, &c)) {
		struct domain_node *d = domain_find(l, c.domain);

		if (d->mixed)
			pages += drop_from_mixed(l, d, container);
		else if (d->container == container)
			pages += drop_all(l, d);
	}
	return pages;
}

/* The part of @r from @page to @end. */
static void answer(const struct ledger *l, const struct run_node *r, uint64_t page, uint64_t end,
		   struct ledger_run *run)
{
	run->dma = &dma_at(l, r->dma)->dma;
	run->iova = page << PAGE_SHIFT;
	run->va = run->dma->va + (run->iova - run->dma->iova);
	run->pfn = r->pfn + (page - r->page);
	run->pages = end - page;
}

bool ledger_find(const struct ledger *l, uint64_t domain, uint64_t iova, struct ledger_run *run)
{
	const struct domain_node *d = domain_find(l, domain);
	uint64_t page = iova >> PAGE_SHIFT;
	const struct run_node *r;
	uint32_t n;

	n = d ? ltree_seek(&l->runs, d->root, ends_before, &page) : 0;
	if (!n)
		return false;
	r = run_at(l, n);
	if (r->page > page)
		return false;
	answer(l, r, r->page, end_of(r), run);
	return true;
}

void ledger_seek(struct ledger_cursor *c, uint64_t domain, uint64_t iova, uint64_t pages)
{
	uint64_t page = iova >> PAGE_SHIFT;

	*c = (struct ledger_cursor){ .domain = domain, .page = page };
	c->end = pages > END_PAGE - page ? END_PAGE : page + pages;
}

bool ledger_next(const struct ledger *l, struct ledger_cursor *c, struct ledger_run *run)
{
	const struct domain_node *d = domain_find(l, c->domain);

	while (d && c->page < c->end) {
		uint32_t n = ltree_seek(&l->runs, d->root, ends_before, &c->page);
		const struct run_node *r;
		uint64_t page, end;

		if (!n)
			break;
		r = run_at(l, n);
		page = r->page > c->page ? r->page : c->page;
		end = end_of(r) < c->end ? end_of(r) : c->end;
		if (page >= c->end)
			break;
		c->page = end;
		if (c->only && c->only != &dma_at(l, r->dma)->dma)
			continue;
		answer(l, r, page, end, run);
		return true;
	}
	c->page = c->end;
	return false;
}

bool ledger_next_domain(const struct ledger *l, struct ledger_domain_cursor *c)
{
	uint32_t n = ltree_seek(&l->domains, l->domain_root,
				c->begun ? domain_not_after : domain_before, &c->domain);

	if (!n)
		return false;
	c->begun = true;
	c->domain = domain_at(l, n)->id;
	return true;
}

bool ledger_domain_totals(const struct ledger *l, uint64_t domain, struct ledger_totals *t)
{
	const struct domain_node *d = domain_find(l, domain);

	if (d)
		*t = d->totals;
	else
		memset(t, 0, sizeof(*t));
	return d;
}

void ledger_totals(const struct ledger *l, struct ledger_totals *t)
{
	*t = l->totals;
}

uint64_t ledger_bytes(const struct ledger *l)
{
	return l->budget.bytes;
}

uint64_t ledger_visits(const struct ledger *l)
{
	return l->budget.visits;
}
