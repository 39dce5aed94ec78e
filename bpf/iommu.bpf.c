/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Mappings: what the IOMMU core is asked to install. Every page of every call is
 * compared with what the page tables said when the claim was made (the snapshot,
 * read under the kernel's own locks) and, where that does not agree or does not
 * reach, with the tables as they are now.
 */

#define IOMMU_DOMAIN_UNMANAGED 1 /* __IOMMU_DOMAIN_PAGING, include/linux/iommu.h */

/* The vfio_dma that @iova belongs to: greatest dma.iova <= iova. */
__noinline int find_dma(struct context *c, u64 iova)
{
	struct dma_head *h;
	u64 d;

	if (!c)
		return 0;
	h = &c->dma_head;
	c->dma_valid = 0;
	d = dma_below(c->iommu, iova, h);
	if (!d)
		return 0;
	c->dma_iova = DMA_FIELD(h, d, iova);
	c->dma_va = DMA_FIELD(h, d, vaddr);
	c->dma_prot = DMA_FIELD(h, d, prot);
	c->dma_mapped = DMA_FIELD(h, d, iommu_mapped);
	/* While it is being mapped, size grows up to and excluding this chunk. */
	c->dma_bytes = DMA_FIELD(h, d, size);
	if (iova - c->dma_iova > c->dma_bytes)
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

/*
 * Are the @n entries from index @i of the snapshot on present, and the frames from @pa
 * (bytes) on; with @write also writable? (Global: its callers call it in a loop.)
 */
__noinline int ptes_are(struct context *c, u64 i, u64 n, u64 pa, u64 write)
{
	struct run_loop l = { .n = n, .i = i, .want = pa, .all = CPU_P | CPU_RW };

	if (!c)
		return 0;
	l.s = &c->snap;
	if (n == 1) /* scattered: no call for one page */
		ptes_of_run(0, &l);
	else
		bpf_loop(BATCH_PAGES / CHUNK, ptes_of_run, &l, 0);
	/* want may carry bits above addr_mask: PFNs that no leaf has */
	return !l.diff && l.all & CPU_P && (!write || l.all & CPU_RW) &&
	       !((l.want - PAGE_BYTES) & ~fmt.addr_mask);
}

/* How many pages of c->map, from its first on, do the tail and the snapshot confirm? */
__noinline u64 confirmed(struct context *c)
{
	struct mapping *m;
	struct tail *t;
	struct snap *s;
	u64 ok = 0, pages;
	bool write;

	if (!c)
		return 0;
	m = &c->map;
	t = &c->tail;
	s = &c->snap;
	pages = m->pages;
	write = m->prot & IOMMU_WRITE;
	if (t->pages && m->va >= t->va && m->va < t->va + t->pages * PAGE_BYTES) {
		u64 off = (m->va - t->va) / PAGE_BYTES;
		u64 n = t->pages - off;

		if (t->pfn + off != m->pfn || (write && !t->writable))
			return 0;
		if (n >= pages)
			return pages;
		ok = n;
	}
	for (int k = 0; k < SNAP_SEGS; k++) {
		struct seg *g = &s->seg[k];
		u64 at = m->va + ok * PAGE_BYTES;
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
			if (cpu_leaf_pfn(FMT, g->level, g->entry, at) != m->pfn + ok ||
			    (write && !cpu_writable(g->entry)))
				return ok;
		} else if (g->level == 1) {
			if (!ptes_are(c, (at - s->va) / PAGE_BYTES, n,
				      (m->pfn + ok) << PFNW_PAGE_SHIFT, write))
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

/* The page that c->map has come to differs: all that is known of it, to the judge. */
__noinline int mapping_differs(struct context *c, u32 rules)
{
	struct pfnw_ev_diff *d;
	struct moment since;
	struct mapping *m;
	struct both *b;
	u64 va, e = 0;

	if (!c)
		return 0;
	m = &c->map;
	va = m->va + m->at * PAGE_BYTES;
	m->diff++;
	d = reserve(sizeof(*d));
	if (!d) {
		count(PFNW_S_LOST_DIFF, 1);
		return 0;
	}
	find_vma_of(c, va);
	fill_hdr(&d->h, PFNW_EV_DIFF, c);
	d->iova = m->iova + m->at * PAGE_BYTES;
	d->va = va;
	d->pfn = m->pfn + m->at;
	d->claim_pfn = c->claim_pfn;
	d->claim_va = c->claim_va;
	d->map_iova = m->iova;
	d->map_pa = m->pfn << PFNW_PAGE_SHIFT;
	d->map_bytes = m->pages * PAGE_BYTES;
	d->dma_iova = c->dma_iova;
	d->dma_va = c->dma_va;
	since = moment_of(c, va);
	d->change_seq = since.seq;
	d->change_fin = since.fin;
	d->prot = m->prot;
	d->dma_prot = c->dma_prot;
	d->at = PFNW_AT_MAP;
	d->rules = rules;
	d->pfnmap = c->snap.pfnmap;
	d->snap.level = snap_leaf(&c->snap, va, &e);
	d->snap.entry = e;
	d->snap.locked = c->snap.locked;
	d->snap.claimed = c->snap.claimed && c->kind == CALL_MAP && va >= c->claim_va &&
			  va < c->claim_va + c->claim_asked * PAGE_BYTES;
	__builtin_memset(d->snap.pad, 0, sizeof(d->snap.pad));
	cpu_walk(c->pgd, va, &d->walk);
	b = whole && c->io.f.kind == PFNW_IOMMU_VIRTIO ? both_of_thread() : NULL;
	if (b)
		look_evidence(b, d->iova, &d->io);
	else if (c->io.domain == c->domain && want_iommu)
		io_walk(&c->io, d->iova, &d->io);
	else
		__builtin_memset(&d->io, 0, sizeof(d->io));
	d->moved = moved_since_claim(c, va);
	d->vma = c->vma;
	d->n_stack = c->n_stack;
	__builtin_memcpy(d->stack, c->stack, sizeof(d->stack));
	/* (what was read while somebody unmapped it says nothing) */
	if (whole && disturbed(c, d->iova, 1)) {
		bpf_ringbuf_discard(d, BPF_RB_NO_WAKEUP);
		count(PFNW_S_DISTURBED, 1);
		return 0;
	}
	count(PFNW_S_SENT_DIFF, 1);
	submit_now(d);
	return 0;
}

static __always_inline int load_iotable(struct context *c, u64 domain)
{
	c->io.domain = domain;
	return find_iotable(&c->io);
}

/* Ask the IOMMU's table for the whole of c->map, which the core said is installed. */
__noinline int check_installed(struct context *c)
{
	struct io_run r = {};
	struct mapping *m;

	if (!c)
		return 0;
	m = &c->map;
	m->installed = m->pages;
	if (!want_iommu)
		return 0;
	if (c->io.domain != c->domain || c->kind == CALL_ATTACH || !c->io.f.huge)
		load_iotable(c, c->domain); /* AMD: the table may have grown */
	if (c->io.f.kind == PFNW_IOMMU_UNKNOWN) {
		count(PFNW_S_IO_UNKNOWN, m->pages);
		return 0;
	}
	r.iova = m->iova;
	r.pa = m->pfn << PFNW_PAGE_SHIFT;
	r.pages = m->pages;
	r.prot = m->prot;
	m->installed = io_confirmed(&c->io, c->buf, &r);
	tally(c, PFNW_S_IO_PAGES, m->installed);
	return 0;
}

/* The same for the page that c->map has come to. */
__noinline int page_installed(struct context *c)
{
	u64 iova, pa, got;
	u32 rights, care;
	struct mapping *m;
	struct iotable *t;

	if (!c)
		return 0;
	m = &c->map;
	t = &c->io;
	iova = m->iova + m->at * PAGE_BYTES;
	pa = (m->pfn + m->at) << PFNW_PAGE_SHIFT;
	if (t->f.kind == PFNW_IOMMU_VIRTIO) {
		if (virtio_find(t, iova) <= 0)
			return 0;
		got = t->node_pa + (iova - t->node_start);
		rights = t->node_flags;
	} else {
		int level;

		t->leaf_base = ~0ULL;
		level = io_find(t, iova);
		if (level <= 0)
			return 0;
		got = iommu_leaf_pa(&t->f, level, t->entry, iova);
		rights = t->rights;
	}
	care = t->f.rights & (IOMMU_READ | IOMMU_WRITE);
	if (got != pa || (rights ^ m->prot) & care)
		return 0;
	tally(c, PFNW_S_IO_PAGES, 1);
	return 1;
}

struct map_loop {
	struct context *c;
};

/*
 * Slow leg: one page, or the rest of one huge leaf, after the other. A page is
 * equal when the snapshot or the tables as they are now say so.
 */
static long map_page(u32 i, void *arg)
{
	struct context *c = ((struct map_loop *)arg)->c;
	u64 va, pfn, want = 0, e = 0, n = 1;
	u32 writable = 0, rules;
	struct pfnw_walk w;
	struct mapping *m;
	bool write;
	int level;

	if (!c)
		return 1;
	m = &c->map;
	if (m->at >= m->pages)
		return 1;
	write = m->prot & IOMMU_WRITE;
	rules = m->rules;
	va = m->va + m->at * PAGE_BYTES;
	pfn = m->pfn + m->at;
	if (!pfn)
		rules |= PFNW_RULE_PA_ZERO;
	if (m->at >= m->installed && !page_installed(c))
		rules |= PFNW_RULE_IOMMU;
	level = snap_leaf(&c->snap, va, &e);
	if (!leaf_frame(level, e, va, &want, &writable) || want != pfn || (write && !writable)) {
		int status = cpu_walk(c->pgd, va, &w);

		if (status == PFNW_WALK_FAULT && !level) {
			m->fault++;
			m->at++;
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
		mapping_differs(c, rules);
		m->at++;
		return 0;
	}
	if (level > 1)
		n = cpu_leaf_rest(va, level);
	if (n > m->pages - m->at)
		n = m->pages - m->at;
	/* what the IOMMU is not known to have is looked up page by page */
	if (m->at + n > m->installed)
		n = m->at < m->installed ? m->installed - m->at : 1;
	m->match += n;
	m->at += n;
	return 0;
}

static __always_inline void extend_run(struct context *c)
{
	struct pfnw_ev_run *r = &c->run;
	struct mapping *m = &c->map;
	u64 now = bpf_jiffies64();

	if (r->n_pages && (r->iova + r->n_pages * PAGE_BYTES != m->iova ||
			   r->va + r->n_pages * PAGE_BYTES != m->va || r->prot != m->prot ||
			   r->h.domain != c->domain || now - c->run_jiffies > run_flush_jiffies))
		flush_run(c);
	if (!r->n_pages) {
		fill_hdr(&r->h, PFNW_EV_RUN, c);
		r->iova = m->iova;
		r->va = m->va;
		r->prot = m->prot;
		r->n_maps = 0;
		c->run_jiffies = now;
	}
	r->n_pages += m->pages;
	r->n_maps = whole ? 1 : r->n_maps + 1;
}

static __noinline int send_map(struct context *c, s32 ret, u32 internal)
{
	struct pfnw_ev_map *r;
	struct mapping *m;
	u64 e = 0;

	if (!c)
		return 0;
	m = &c->map;
	r = reserve(sizeof(*r));
	if (!r) {
		count(PFNW_S_LOST_MATCH, m->match);
		return 0;
	}
	fill_hdr(&r->h, PFNW_EV_MAP, c);
	r->iova = m->iova;
	r->va = m->va;
	r->pa = m->pfn << PFNW_PAGE_SHIFT;
	r->bytes = m->pages * PAGE_BYTES;
	r->match_pages = m->match;
	r->diff_pages = m->diff;
	r->unverified_pages = m->fault;
	r->dma_iova = c->dma_iova;
	r->dma_va = c->dma_va;
	r->prot = m->prot;
	r->ret = ret;
	r->internal = internal;
	__builtin_memset(r->pad, 0, sizeof(r->pad));
	r->snap.level = snap_leaf(&c->snap, m->va, &e);
	r->snap.entry = e;
	r->snap.locked = c->snap.locked;
	r->snap.claimed = c->snap.claimed;
	__builtin_memset(r->snap.pad, 0, sizeof(r->snap.pad));
	if (m->va)
		cpu_walk(c->pgd, m->va, &r->walk);
	else
		__builtin_memset(&r->walk, 0, sizeof(r->walk));
	submit(r);
	return 0;
}

/* Not all of it was confirmed: page by page, with evidence. */
static __noinline int map_slowly(void *ctx, struct context *c)
{
	struct map_loop l = { .c = c };

	if (!c)
		return 0;
	c->vma.valid = 0;
	c->n_stack = 0;
	save_stack(ctx, c);
	bpf_loop(8 << 20, map_page, &l, 0);
	/* A call of more leaves than one loop can do is not proven. */
	c->map.fault += c->map.pages - c->map.at;
	if (c->map.fault)
		count(PFNW_S_UNV_FAULT, c->map.fault);
	return 0;
}

/* Compare every page of c->map, which the IOMMU of c->domain was asked to install. */
static __always_inline void judge_mapping(void *ctx, struct context *c)
{
	struct mapping *m = &c->map;

	tally(c, PFNW_S_MAPS, 1);
	tally(c, PFNW_S_SEEN, m->pages);
	if ((c->kind != CALL_MAP || !c->dma_valid) && !find_dma(c, m->iova)) {
		m->fault = m->pages;
		count(PFNW_S_UNV_DMA, m->pages);
		if (want_maps)
			send_map(c, 0, 0);
		return;
	}
	m->va = c->dma_va + (m->iova - c->dma_iova);
	if ((m->prot & (IOMMU_READ | IOMMU_WRITE)) & ~c->dma_prot)
		m->rules |= PFNW_RULE_PROT;
	check_installed(c);
	if (m->pfn && !m->rules && m->installed == m->pages && confirmed(c) == m->pages)
		m->match = m->pages;
	else
		map_slowly(ctx, c);
	c->mapped_end = m->va + m->pages * PAGE_BYTES;
	if (want_ledger)
		ledger_mapped(c);
	tally(c, PFNW_S_MATCH, m->match);
	if (want_maps)
		send_map(c, 0, 0);
	else if (want_runs && m->match == m->pages)
		extend_run(c);
	else if (want_runs)
		flush_run(c); /* what matched of a broken call is counted, not drawn */
}

static __noinline int judge_probe(void *ctx, struct context *c)
{
	if (!c)
		return 0;
	c->map = c->probe;
	c->has_probe = 0;
	if (c->domain != c->probe_domain)
		find_group(c, c->probe_domain);
	judge_mapping(ctx, c);
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

/* The calls that a test wants missed. */
static __always_inline bool missed_by_lie(u64 iova)
{
	return (iova >> PFNW_PAGE_SHIFT) % 7 == 3;
}

/*
 * A call that fails leaves nothing mapped, but since iommu_map_nosync() came into
 * being the tracepoint tells what was mapped until then.
 */
static __always_inline void untell(struct context *c)
{
	if (c->told != TOLD)
		return;
	tally(c, PFNW_S_TP_MAPS, -1ULL);
	tally(c, PFNW_S_TP_PAGES, -c->told_pages);
}

/* iommu_map(domain, iova, paddr, size, prot[, gfp]); gfp since 1369459b2e21 (6.3). */
SEC("?fexit/iommu_map")
int BPF_PROG(map_out, struct iommu_domain *domain, unsigned long iova, u64 paddr, size_t size,
	     int prot)
{
	struct context *c = inside();
	u64 pages = size >> PFNW_PAGE_SHIFT, ret = 0;
	struct mapping *m;

	bpf_get_func_ret(ctx, &ret);
	if (!c) {
		if (!(s32)ret)
			without_context(pages);
		return 0;
	}
	if (c->told == TOLD_TWIN) {
		c->told = TOLD_NOTHING;
		return 0;
	}
	if ((s32)ret)
		untell(c);
	c->told = TOLD_DONE;
	/*
	 * A fault or an allocation inside the call may do I/O, and that maps for
	 * another device: a domain of type1 is UNMANAGED, and one of the container's.
	 */
	if (c->in_claim || domain->type != IOMMU_DOMAIN_UNMANAGED ||
	    (c->domain != (u64)domain && !find_group(c, (u64)domain))) {
		count(PFNW_S_MAPS_OTHER, 1);
		if (!c->in_claim && !(s32)ret)
			c->foreign_pages += pages;
		return 0;
	}
	if ((lies & PFNW_LIE_MISS_MAP) && missed_by_lie(iova))
		return 0;
	if (c->has_probe)
		judge_probe(ctx, c);
	m = &c->map;
	m->iova = iova;
	m->va = 0;
	m->pfn = paddr >> PFNW_PAGE_SHIFT;
	m->pages = pages;
	m->at = 0;
	m->match = 0;
	m->diff = 0;
	m->fault = 0;
	m->prot = prot;
	m->rules = 0;
	if ((s32)ret) {
		count(PFNW_S_MAPS_FAILED, 1);
		if (want_maps)
			send_map(c, ret, 0);
		return 0;
	}
	/*
	 * attach_group() maps two pages of its own to learn about superpages, and
	 * unmaps them at once (vfio_test_domain_fgsp()). So the first mapping of that
	 * size waits for what comes next.
	 */
	if (c->kind == CALL_ATTACH && pages == 2 && !c->claim_va && !c->n[PFNW_S_MAPS]) {
		c->probe = *m;
		c->probe_domain = (u64)domain;
		c->has_probe = 1;
		return 0;
	}
	judge_mapping(ctx, c);
	return 0;
}

/* The second count: independent of the hooks above and of their arguments. */
SEC("?tp_btf/map")
int BPF_PROG(tp_map, unsigned long iova, u64 paddr, size_t size)
{
	struct context *c = inside();

	if ((lies & PFNW_LIE_MISS_COUNT) && missed_by_lie(iova))
		return 0;
	if (c && !c->in_claim && !(preempts && c->told == TOLD)) {
		tally(c, PFNW_S_TP_MAPS, 1);
		tally(c, PFNW_S_TP_PAGES, size >> PFNW_PAGE_SHIFT);
		c->told = TOLD;
		c->told_pages = size >> PFNW_PAGE_SHIFT;
	}
	return 0;
}

SEC("?tp_btf/unmap")
int BPF_PROG(tp_unmap, unsigned long iova, size_t size, size_t done)
{
	struct context *c = inside();

	if (!c || c->in_claim || (preempts && c->told_unmap == TOLD))
		return 0;
	c->told_unmap = TOLD;
	if (c->kind != CALL_DETACH && !(c->has_probe && c->probe.iova == iova) &&
	    !(c->n[PFNW_S_INTERNAL_PAGES] && !c->n[PFNW_S_MAPS])) {
		tally(c, PFNW_S_TP_UNMAPS, 1);
		tally(c, PFNW_S_TP_UNMAP_PAGES, done >> PFNW_PAGE_SHIFT);
	}
	return 0;
}
