/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Mappings: what the IOMMU core is asked to install. Every page of every call is
 * compared with what the page tables said when the claim was made (the snapshot,
 * read under the kernel's own locks) and, where that does not agree or does not
 * reach, with the tables as they are now.
 */

/* The vfio_dma that @iova belongs to: greatest dma.iova <= iova. */
static __noinline int find_dma(struct context *c, u64 iova)
{
	struct vfio_iommu *container;
	struct vfio_dma *best = NULL;
	struct rb_node *n;
	u64 base;

	if (!c)
		return 0;
	c->dma_valid = 0;
	container = (void *)c->iommu;
	n = BPF_CORE_READ(container, dma_list.rb_node);
	for (int i = 0; i < 48 && n; i++) {
		struct vfio_dma *d = (void *)n - bpf_core_field_offset(struct vfio_dma, node);

		base = BPF_CORE_READ(d, iova);
		if (base <= iova) {
			best = d;
			n = BPF_CORE_READ(n, rb_right);
		} else {
			n = BPF_CORE_READ(n, rb_left);
		}
	}
	if (!best)
		return 0;
	c->dma_iova = BPF_CORE_READ(best, iova);
	c->dma_va = BPF_CORE_READ(best, vaddr);
	c->dma_prot = BPF_CORE_READ(best, prot);
	/* While it is being mapped, size grows up to and excluding this chunk. */
	if (iova - c->dma_iova > BPF_CORE_READ(best, size))
		return 0;
	c->dma_valid = 1;
	return 1;
}

struct run_loop {
	struct snap *s;
	u32 n, i; /* pages; index of the first PTE */
	u64 want, diff, all;
};

/* PTEs against a run of frames: what differs accumulates. */
static long ptes_of_run(u32 k, void *arg)
{
	struct run_loop *l = arg;
	struct snap *s = l->s;
	u64 want = l->want, diff = l->diff, all = l->all, e;
	u32 n = l->n, done = k * CHUNK, i = l->i + k * CHUNK;

	if (!s || done >= n)
		return 1;
	for (u32 j = 0; j < CHUNK; j++) {
		if (done >= n)
			break;
		e = s->pte[i & (2 * BATCH_PAGES - 1)];
		diff |= (e ^ want) & fmt.addr_mask;
		all &= e;
		want += PAGE_BYTES;
		done++;
		i++;
	}
	l->want = want;
	l->diff = diff;
	l->all = all;
	return 0;
}

/* Pages from @va on, of a mapping to @pfn, that the tail and the snapshot confirm. */
static __noinline u64 confirmed(struct context *c, u64 va, u64 pfn, u64 pages, bool write)
{
	struct tail *t;
	struct snap *s;
	u64 ok = 0;

	if (!c)
		return 0;
	t = &c->tail;
	s = &c->snap;
	if (t->pages && va >= t->va && va < t->va + t->pages * PAGE_BYTES) {
		u64 off = (va - t->va) / PAGE_BYTES;
		u64 n = t->pages - off;

		if (t->pfn + off != pfn || (write && !t->writable))
			return 0;
		if (n >= pages)
			return pages;
		ok = n;
	}
	for (int k = 0; k < SNAP_SEGS; k++) {
		struct seg *g = &s->seg[k];
		u64 at = va + ok * PAGE_BYTES;
		u64 off, n;

		if (k >= s->nsegs || s->pages == 0)
			break;
		if (at < g->va || at - g->va >= g->pages * PAGE_BYTES)
			continue;
		off = (at - g->va) / PAGE_BYTES;
		n = g->pages - off;
		if (n > pages - ok)
			n = pages - ok;
		if (g->level > 1 && g->level <= 3) {
			if (cpu_leaf_pfn(FMT, g->level, g->entry, at) != pfn + ok ||
			    (write && !cpu_writable(g->entry)))
				return ok;
		} else if (g->level == 1) {
			struct run_loop l = { .s = s, .n = n, .all = CPU_P | CPU_RW };

			l.i = (at - s->va) / PAGE_BYTES;
			l.want = (pfn + ok) << PFNW_PAGE_SHIFT;
			if (n == 1) /* scattered: no call for one page */
				ptes_of_run(0, &l);
			else
				bpf_loop(BATCH_PAGES / CHUNK, ptes_of_run, &l, 0);
			/* want may carry bits above addr_mask: PFNs that no leaf has */
			if (l.diff || !(l.all & CPU_P) || (write && !(l.all & CPU_RW)) ||
			    ((l.want - PAGE_BYTES) & ~fmt.addr_mask))
				return ok;
		} else {
			return ok;
		}
		ok += n;
		if (ok >= pages)
			break;
	}
	return ok;
}

struct map_loop {
	struct context *c;
	u64 iova, va, pfn, pages; /* of the whole call */
	u64 at; /* pages done */
	u64 match, diff, fault;
	u32 prot;
	u32 rules; /* that hold for the whole call */
};

static __noinline int mapping_differs(struct map_loop *l, u64 at, u32 rules, u32 pad)
{
	struct pfnw_ev_diff *d;
	struct context *c;
	u64 va, e = 0;

	if (!l)
		return 0;
	c = l->c;
	if (!c)
		return 0;
	va = l->va + at * PAGE_BYTES;
	l->diff++;
	d = reserve(sizeof(*d));
	if (!d) {
		count(PFNW_S_LOST_DIFF, 1);
		return 0;
	}
	count(PFNW_S_SENT_DIFF, 1);
	find_vma_of(c, va);
	fill_hdr(&d->h, PFNW_EV_DIFF, c);
	d->iova = l->iova + at * PAGE_BYTES;
	d->va = va;
	d->pfn = l->pfn + at;
	d->claim_pfn = c->claim_pfn;
	d->claim_va = c->claim_va;
	d->map_iova = l->iova;
	d->map_pa = l->pfn << PFNW_PAGE_SHIFT;
	d->map_bytes = l->pages * PAGE_BYTES;
	d->dma_iova = c->dma_iova;
	d->dma_va = c->dma_va;
	d->change_seq = c->change_seq;
	d->change_fin = c->change_fin;
	d->prot = l->prot;
	d->dma_prot = c->dma_prot;
	d->at = PFNW_AT_MAP;
	d->rules = rules;
	d->pfnmap = c->snap.pfnmap;
	d->snap.level = snap_leaf(&c->snap, va, &e);
	d->snap.entry = e;
	d->snap.locked = c->snap.locked;
	__builtin_memset(d->snap.pad, 0, sizeof(d->snap.pad));
	cpu_walk(c->pgd, va, &d->walk);
	d->moved = moved_since_claim(c, va);
	d->vma = c->vma;
	d->n_stack = c->n_stack;
	__builtin_memcpy(d->stack, c->stack, sizeof(d->stack));
	submit(d);
	return 0;
}

/*
 * Slow leg: one page, or the rest of one huge leaf, after the other. A page is
 * equal when the snapshot or the tables as they are now say so.
 */
static long map_page(u32 i, void *arg)
{
	struct map_loop *l = arg;
	struct context *c = l->c;
	bool write = l->prot & IOMMU_WRITE;
	struct pfnw_walk w;
	u64 va, pfn, want = 0, e = 0, n = 1;
	u32 writable = 0, rules = l->rules;
	int level;

	if (!c || l->at >= l->pages)
		return 1;
	va = l->va + l->at * PAGE_BYTES;
	pfn = l->pfn + l->at;
	if (!pfn)
		rules |= PFNW_RULE_PA_ZERO;
	level = snap_leaf(&c->snap, va, &e);
	if (!leaf_frame(level, e, va, &want, &writable) || want != pfn || (write && !writable)) {
		int status = cpu_walk(c->pgd, va, &w);

		if (status == PFNW_WALK_FAULT && !level) {
			l->fault++;
			l->at++;
			return 0;
		}
		level = status == PFNW_WALK_LEAF ? w.leaf : 0;
		e = level == 1 ? w.entry[0] : level == 2 ? w.entry[1] : w.entry[2];
		if (!leaf_frame(level, e, va, &want, &writable) || want != pfn)
			rules |= PFNW_RULE_PFN;
		else if (write && !writable)
			rules |= PFNW_RULE_PROT;
	}
	if (rules) {
		mapping_differs(l, l->at, rules, 0);
		l->at++;
		return 0;
	}
	if (level > 1)
		n = cpu_leaf_rest(va, level);
	if (n > l->pages - l->at)
		n = l->pages - l->at;
	l->match += n;
	l->at += n;
	return 0;
}

static __always_inline void extend_run(struct context *c, u64 iova, u64 va, u64 pages, u32 prot)
{
	struct pfnw_ev_run *r = &c->run;
	u64 now = bpf_jiffies64();

	if (r->n_pages &&
	    (r->iova + r->n_pages * PAGE_BYTES != iova || r->va + r->n_pages * PAGE_BYTES != va ||
	     r->prot != prot || r->h.domain != c->domain || now - c->run_jiffies > run_flush_jiffies))
		flush_run(c);
	if (!r->n_pages) {
		fill_hdr(&r->h, PFNW_EV_RUN, c);
		r->iova = iova;
		r->va = va;
		r->prot = prot;
		r->n_maps = 0;
		c->run_jiffies = now;
	}
	r->n_pages += pages;
	r->n_maps++;
}

static __noinline int send_map(struct map_loop *l, s32 ret, u32 internal, u32 unverified)
{
	struct pfnw_ev_map *r;
	struct context *c;
	u64 e = 0;

	if (!l)
		return 0;
	c = l->c;
	if (!c)
		return 0;
	r = reserve(sizeof(*r));
	if (!r) {
		count(PFNW_S_LOST_MATCH, l->match);
		return 0;
	}
	fill_hdr(&r->h, PFNW_EV_MAP, c);
	r->iova = l->iova;
	r->va = l->va;
	r->pa = l->pfn << PFNW_PAGE_SHIFT;
	r->bytes = l->pages * PAGE_BYTES;
	r->match_pages = l->match;
	r->diff_pages = l->diff;
	r->unverified_pages = unverified ? l->pages : l->fault;
	r->dma_iova = c->dma_iova;
	r->dma_va = c->dma_va;
	r->prot = l->prot;
	r->ret = ret;
	r->internal = internal;
	__builtin_memset(r->pad, 0, sizeof(r->pad));
	r->snap.level = snap_leaf(&c->snap, l->va, &e);
	r->snap.entry = e;
	r->snap.locked = c->snap.locked;
	__builtin_memset(r->snap.pad, 0, sizeof(r->snap.pad));
	if (l->va)
		cpu_walk(c->pgd, l->va, &r->walk);
	else
		__builtin_memset(&r->walk, 0, sizeof(r->walk));
	submit(r);
	return 0;
}

/* A container call for which there was no context: count, it is not proven. */
static __always_inline void without_context(u64 pages)
{
	u32 tid = this_tid();

	if (bpf_map_lookup_elem(&spill, &tid)) {
		count(PFNW_S_SEEN, pages);
		count(PFNW_S_UNV_CONTEXT, pages);
	} else {
		count(PFNW_S_MAPS_OTHER, 1);
	}
}

/* iommu_map(domain, iova, paddr, size, prot[, gfp]); gfp since 1369459b2e21 (6.3). */
SEC("?fexit/iommu_map")
int BPF_PROG(map_out, struct iommu_domain *domain, unsigned long iova, u64 paddr, size_t size,
	     int prot)
{
	struct map_loop l = { .at = opaque_zero, .match = opaque_zero, .diff = opaque_zero,
			      .fault = opaque_zero };
	struct context *c = inside();
	u64 pages = size >> PFNW_PAGE_SHIFT, rfunc = 0;
	bool write = prot & IOMMU_WRITE;
	s32 ret;

	bpf_get_func_ret(ctx, &rfunc);
	ret = rfunc;
	if (!c) {
		if (!ret)
			without_context(pages);
		return 0;
	}
	l.c = c;
	l.iova = iova;
	l.pfn = paddr >> PFNW_PAGE_SHIFT;
	l.pages = pages;
	l.prot = prot;
	if (c->domain != (u64)domain)
		find_group(c, (u64)domain);
	if (ret) {
		count(PFNW_S_MAPS_FAILED, 1);
		if (want_maps)
			send_map(&l, ret, 0, 0);
		return 0;
	}
	/*
	 * attach_group() first maps two pages of its own to learn about superpages
	 * (vfio_test_domain_fgsp()) and unmaps them; real mappings come only after a
	 * frame was asked for.
	 */
	if (c->kind == CALL_ATTACH && !c->sourced) {
		count(PFNW_S_MAPS_INTERNAL, 1);
		count(PFNW_S_INTERNAL_PAGES, pages);
		if (want_maps)
			send_map(&l, 0, 1, 0);
		return 0;
	}
	count(PFNW_S_MAPS, 1);
	count(PFNW_S_SEEN, pages);
	if (c->kind != CALL_MAP || !c->dma_valid) {
		if (!find_dma(c, iova)) {
			count(PFNW_S_UNV_DMA, pages);
			if (want_maps)
				send_map(&l, 0, 0, 1);
			return 0;
		}
	}
	l.va = c->dma_va + (iova - c->dma_iova);
	if ((prot & (IOMMU_READ | IOMMU_WRITE)) & ~c->dma_prot)
		l.rules |= PFNW_RULE_PROT;
	if (l.pfn && !l.rules && confirmed(c, l.va, l.pfn, pages, write) == pages) {
		l.match = pages;
	} else {
		c->vma.valid = 0;
		c->n_stack = 0;
		save_stack(ctx, c);
		bpf_loop(8 << 20, map_page, &l, 0);
		/* A call of more leaves than one loop can do is not proven. */
		l.fault += l.pages - l.at;
	}
	if (l.match)
		count(PFNW_S_MATCH, l.match);
	if (l.fault)
		count(PFNW_S_UNV_FAULT, l.fault);
	if (want_maps) {
		send_map(&l, 0, 0, 0);
	} else if (want_runs) {
		if (l.match == pages) {
			extend_run(c, iova, l.va, pages, prot);
		} else {
			flush_run(c);
			/* a broken call: what of it matched is counted, not drawn */
		}
	}
	return 0;
}

static __always_inline int unmapped(u64 domain, u64 iova, u64 bytes, u64 done)
{
	struct context *c = inside();
	struct pfnw_ev_unmap *r;

	if (!c)
		return 0;
	if (c->kind == CALL_ATTACH && !c->sourced)
		return 0;
	count(PFNW_S_UNMAPS, 1);
	count(PFNW_S_UNMAP_PAGES, done >> PFNW_PAGE_SHIFT);
	if (!want_maps)
		return 0;
	if (c->domain != domain)
		find_group(c, domain);
	r = reserve(sizeof(*r));
	if (!r)
		return 0;
	fill_hdr(&r->h, PFNW_EV_UNMAP, c);
	r->iova = iova;
	r->bytes = bytes;
	r->unmapped = done;
	submit(r);
	return 0;
}

/* One hook for iommu_unmap() and iommu_unmap_fast(), where it has a symbol. */
SEC("?fexit/__iommu_unmap")
int BPF_PROG(unmap_core_out, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return unmapped((u64)domain, iova, size, ret);
}

SEC("?fexit/iommu_unmap")
int BPF_PROG(unmap_out, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return unmapped((u64)domain, iova, size, ret);
}

SEC("?fexit/iommu_unmap_fast")
int BPF_PROG(unmap_fast_out, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return unmapped((u64)domain, iova, size, ret);
}

/* vfio_iommu_replay() asks the first domain for its frames: real maps follow. */
SEC("?fentry/iommu_iova_to_phys")
int BPF_PROG(iova_to_phys_in)
{
	struct context *c = inside();

	if (c && c->kind == CALL_ATTACH)
		c->sourced = 1;
	return 0;
}

/* The second count: independent of the hook above and of its arguments. */
SEC("?tp_btf/map")
int BPF_PROG(tp_map, unsigned long iova, u64 paddr, size_t size)
{
	struct context *c = inside();
	u32 tid;

	if (!c) {
		tid = this_tid();
		if (!bpf_map_lookup_elem(&spill, &tid))
			return 0;
	} else if (c->kind == CALL_ATTACH && !c->sourced) {
		return 0;
	}
	count(PFNW_S_TP_MAPS, 1);
	count(PFNW_S_TP_PAGES, size >> PFNW_PAGE_SHIFT);
	return 0;
}

SEC("?tp_btf/unmap")
int BPF_PROG(tp_unmap, unsigned long iova, size_t size, size_t done)
{
	struct context *c = inside();

	if (!c || (c->kind == CALL_ATTACH && !c->sourced))
		return 0;
	count(PFNW_S_TP_UNMAPS, 1);
	count(PFNW_S_TP_UNMAP_PAGES, done >> PFNW_PAGE_SHIFT);
	return 0;
}
