/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the loader must know to keep the ledger: each change of what a container has
 * mapped, in the order of the container's lock. A record gets its number when it
 * begins, under that lock; so records may arrive in another order, and one that is
 * lost leaves a hole in the numbers.
 */
#ifndef PFNW_LEDGER_BPF_H
#define PFNW_LEDGER_BPF_H

#include "core.bpf.h"

/* The container at @iommu; made known when it is not yet. */
static __always_inline struct pfnw_container *container_of_call(u64 iommu)
{
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &iommu), *blank_one;
	struct vfio_iommu *i = (void *)iommu;
	u32 zero = 0;

	if (k)
		return k;
	blank_one = bpf_map_lookup_elem(&blank_container, &zero);
	if (blank_one)
		bpf_map_update_elem(&containers, &iommu, blank_one, BPF_NOEXIST);
	k = bpf_map_lookup_elem(&containers, &iommu);
	if (k && !k->generation) {
		k->was_empty = BPF_CORE_READ(i, domain_list.next) == &i->domain_list;
		__sync_val_compare_and_swap(&k->generation, 0, bpf_ktime_get_ns());
	}
	return k;
}

/* Changes come of which nothing can be told. */
static __always_inline void ledger_hole(u64 iommu)
{
	struct pfnw_container *k = want_ledger ? container_of_call(iommu) : NULL;

	if (k)
		__sync_fetch_and_add(&k->seq, 1);
}

__noinline int container_free(u64 iommu)
{
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &iommu);
	u32 tid = this_tid();

	bpf_map_delete_elem(&in_call, &tid);
	/* known only since this call was under way: it never began for us */
	if (k && k->ended < k->begun)
		__sync_fetch_and_add(&k->ended, 1);
	return 0;
}

/*
 * The end of this thread's last call was never seen (finish_change() says why). What is
 * left of it is settled without a last look, and the run is not proven.
 */
__noinline int settle_call(void)
{
	u32 tid = this_tid();
	u64 *iommu = bpf_map_lookup_elem(&in_call, &tid);

	if (!iommu)
		return 0;
	ledger_hole(*iommu);
	container_free(*iommu);
	count(PFNW_S_SETTLED, 1);
	return 0;
}

__noinline int container_busy(u64 iommu)
{
	struct pfnw_container *k = container_of_call(iommu);
	u32 tid = this_tid();

	settle_call();
	note_caller(tid);
	if (k)
		__sync_fetch_and_add(&k->begun, 1);
	bpf_map_update_elem(&in_call, &tid, &iommu, BPF_ANY);
	return 0;
}

/*
 * Was any of [@iova, + @pages), which this call has mapped, unmapped by somebody else since
 * the call began, or may its domain have gone? Asked after a look at the tables, no tells
 * that they were nobody's but this call's then.
 */
__noinline int disturbed(struct context *c, u64 iova, u64 pages)
{
	struct pfnw_container *k;
	u64 iommu, begun, n, bytes = pages * PAGE_BYTES;

	if (!c)
		return 1;
	iommu = c->iommu;
	barrier();
	k = bpf_map_lookup_elem(&containers, &iommu);
	if (!k || k->domain_calls != c->mark.domains)
		return 1;
	begun = k->unmaps_begun;
	n = begun - c->mark.unmaps;
	if (!n)
		return 0;
	/* half of the room, for those that begin while we read */
	if (n > PFNW_UNMAPS / 2)
		return 1;
	for (u64 i = 0; i < PFNW_UNMAPS / 2; i++) {
		u64 at = (begun - 1 - i) & (PFNW_UNMAPS - 1);
		u64 start = k->unmap[at].iova, len = k->unmap[at].bytes;

		if (i < n && start - iova < bytes)
			return 1;
		if (i < n && iova - start < len)
			return 1;
	}
	return k->unmaps_begun - begun > PFNW_UNMAPS / 2;
}

static __always_inline void mark_call(struct context *c)
{
	struct pfnw_container *k = container_of_call(c->iommu);

	c->mark.calls = k ? k->begun : 0;
	c->mark.unmaps = k ? k->unmaps_begun : 0;
	c->mark.domains = k ? k->domain_calls : 0;
}

static __always_inline void domains_move(u64 iommu)
{
	struct pfnw_container *k = container_of_call(iommu);

	if (k)
		__sync_fetch_and_add(&k->domain_calls, 1);
}

__noinline int ledger_flush(struct context *c)
{
	struct pfnw_ev_ledger *l;
	u64 bytes, n;

	if (!c)
		return 0;
	l = &c->led;
	if (!l->n_pages)
		return 0;
	n = l->n;
	if (n > PFNW_LEDGER_RUNS)
		n = PFNW_LEDGER_RUNS;
	bytes = __builtin_offsetof(struct pfnw_ev_ledger, run) + n * 8;
	barrier_var(bytes);
	if (bytes > sizeof(*l))
		bytes = sizeof(*l);
	/* what was unmapped meanwhile has a number before or after this one: nobody knows */
	if ((whole && l->op == PFNW_LEDGER_MAP && disturbed(c, l->iova, l->n_pages)) ||
	    no_room_to_spare() || bpf_ringbuf_output(&events, l, bytes, BPF_RB_NO_WAKEUP))
		count_lost(PFNW_S_LOST_LEDGER, 1);
	l->n_pages = 0;
	return 0;
}

static __always_inline void ledger_head(struct context *c, struct pfnw_ev_ledger *l, u32 op)
{
	struct pfnw_container *k = container_of_call(c->iommu);

	fill_hdr(&l->h, PFNW_EV_LEDGER, c);
	l->container = c->iommu;
	l->generation = k ? k->generation : 0;
	l->seq = k ? __sync_fetch_and_add(&k->seq, 1) + 1 : 0;
	l->op = op;
	l->n = 0;
	l->n_pages = 0;
	l->dma_iova = c->dma_iova;
	l->dma_va = c->dma_va;
	l->kind = 0;
}

static __noinline int ledger_begin(struct context *c, u32 op)
{
	if (c)
		ledger_head(c, &c->led, op);
	return 0;
}

struct long_run {
	struct pfnw_ev_ledger *l;
	u64 pages, pfn; /* still to do */
};

/* A run that one entry cannot tell of. (Not a loop: newer verifiers walk every way there.) */
static long long_run(u32 i, void *arg)
{
	struct long_run *r = arg;
	struct pfnw_ev_ledger *l = r->l;
	u64 k = r->pages;

	if (!l || !k)
		return 1;
	if (k > PFNW_RUN_PAGES_MAX)
		k = PFNW_RUN_PAGES_MAX;
	l->run[l->n & (PFNW_LEDGER_RUNS - 1)] = (r->pfn & PFNW_RUN_PFN) |
						(k - 1) << PFNW_RUN_PAGES_SHIFT;
	l->n++;
	l->n_pages += k;
	r->pages -= k;
	r->pfn += k;
	return 0;
}

/* c->map is installed. */
__noinline int ledger_mapped(struct context *c)
{
	struct pfnw_ev_ledger *l;
	struct long_run p = {};
	struct mapping *m;
	u64 last, pages, pfn;
	u32 n;

	if (!c)
		return 0;
	l = &c->led;
	m = &c->map;
	if (l->n_pages &&
	    (l->op != PFNW_LEDGER_MAP || l->h.domain != c->domain ||
	     l->iova + l->n_pages * PAGE_BYTES != m->iova || l->dma_iova != c->dma_iova ||
	     l->prot != m->prot || l->n >= PFNW_LEDGER_RUNS - 8))
		ledger_flush(c);
	if (!l->n_pages) {
		ledger_begin(c, PFNW_LEDGER_MAP);
		l->iova = m->iova;
		l->prot = m->prot;
	}
	pages = m->pages;
	pfn = m->pfn;
	n = l->n;
	/* it may go on where the last run ends */
	if (n > 0 && n <= PFNW_LEDGER_RUNS && pages <= PFNW_RUN_PAGES_MAX) {
		last = l->run[(n - 1) & (PFNW_LEDGER_RUNS - 1)];
		if ((last & PFNW_RUN_PFN) + (last >> PFNW_RUN_PAGES_SHIFT) + 1 == pfn &&
		    (last >> PFNW_RUN_PAGES_SHIFT) + pages < PFNW_RUN_PAGES_MAX) {
			l->run[(n - 1) & (PFNW_LEDGER_RUNS - 1)] =
				last + (pages << PFNW_RUN_PAGES_SHIFT);
			l->n_pages += pages;
			return 0;
		}
	}
	if (pages <= PFNW_RUN_PAGES_MAX) {
		l->run[n & (PFNW_LEDGER_RUNS - 1)] = (pfn & PFNW_RUN_PFN) |
						     (pages - 1) << PFNW_RUN_PAGES_SHIFT;
		l->n = n + 1;
		l->n_pages += pages;
		return 0;
	}
	p.l = l;
	p.pages = pages;
	p.pfn = pfn;
	bpf_loop(8, long_run, &p, 0);
	pages = p.pages;
	if (pages) /* half a tebibyte of one run: the hole in the numbers tells */
		ledger_hole(c->iommu);
	return 0;
}

__noinline int ledger_unmapped(struct context *c, u64 iova, u64 pages)
{
	struct pfnw_ev_ledger *l;

	if (!c || !pages)
		return 0;
	l = &c->led;
	if (l->n_pages && (l->op != PFNW_LEDGER_UNMAP || l->h.domain != c->domain ||
			   l->iova + l->n_pages * PAGE_BYTES != iova))
		ledger_flush(c);
	if (!l->n_pages) {
		ledger_begin(c, PFNW_LEDGER_UNMAP);
		l->iova = iova;
		l->prot = 0;
	}
	l->n_pages += pages;
	return 0;
}

struct domains_loop {
	struct context *c;
	struct list_head *head, *at;
};

static long add_domain(u32 i, void *arg)
{
	struct domains_loop *l = arg;
	struct context *c = l->c;
	struct vfio_domain *d;
	u32 n;

	if (!c || !l->at || l->at == l->head)
		return 1;
	d = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
	n = c->led.n;
	if (n >= PFNW_LEDGER_RUNS)
		return 1;
	c->led.run[n & (PFNW_LEDGER_RUNS - 1)] = (u64)BPF_CORE_READ(d, domain);
	c->led.n = n + 1;
	l->at = BPF_CORE_READ(d, next.next);
	return 0;
}

/* The domains that the container has now. The lock is gone: the next record corrects it. */
__noinline int ledger_domains(struct context *c)
{
	struct domains_loop l = {};
	struct vfio_iommu *container;

	if (!c)
		return 0;
	ledger_flush(c);
	ledger_begin(c, PFNW_LEDGER_DOMAINS);
	container = (void *)c->iommu;
	l.c = c;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	bpf_loop(PFNW_LEDGER_RUNS, add_domain, &l, 0);
	c->led.n_pages = 1;
	return ledger_flush(c);
}

__noinline int ledger_gone(u64 iommu)
{
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &iommu);
	struct pfnw_ev_ledger *l;

	if (!k)
		return 0;
	l = bpf_ringbuf_reserve(&events, sizeof(*l), 0);
	if (!l) {
		count_lost(PFNW_S_LOST_LEDGER, 1);
		return 0;
	}
	__builtin_memset(l, 0, sizeof(*l));
	l->h.type = PFNW_EV_LEDGER;
	l->h.abi = PFNW_ABI;
	l->h.ts_ns = bpf_ktime_get_ns();
	l->container = iommu;
	l->generation = k->generation;
	l->seq = __sync_fetch_and_add(&k->seq, 1) + 1;
	l->op = PFNW_LEDGER_GONE;
	submit(l);
	return 0;
}

#endif
