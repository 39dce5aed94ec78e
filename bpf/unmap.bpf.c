/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Unmaps, and what must hold after them: as much was unmapped as was asked, the IOMMU
 * translates nothing of it any more, and what lies beside it is still there. Also
 * iommu_iova_to_phys(), by which VFIO finds out what it has to unpin.
 */

/* What the caller of breach() knows; as in struct pfnw_ev_breach. */
struct broken {
	u64 iova, bytes, done, pages;
	u32 rule;
};

/* (Global, as whatever is large and has many callers: the verifier walks it once.) */
__noinline int send_breach(struct context *c, struct broken *b)
{
	struct pfnw_ev_breach *r;

	if (!c || !b)
		return 0;
	count(PFNW_S_BREACHES, 1);
	r = reserve(sizeof(*r));
	if (!r) {
		count(PFNW_S_LOST_BREACH, 1);
		return 0;
	}
	fill_hdr(&r->h, PFNW_EV_BREACH, c);
	r->h.domain = c->io.domain; /* of all that a container has, the one looked at */
	r->rule = b->rule;
	r->iova = b->iova;
	r->bytes = b->bytes;
	r->done = b->done;
	r->pages = b->pages;
	r->dma_iova = c->dma_iova;
	r->dma_va = c->dma_va;
	r->dma_bytes = c->dma_bytes;
	io_walk(&c->io, b->iova, &r->io);
	r->n_stack = c->n_stack;
	__builtin_memcpy(r->stack, c->stack, sizeof(r->stack));
	submit_now(r);
	return 0;
}

static __always_inline int breach(void *ctx, struct context *c, struct broken *b)
{
	if (c)
		save_stack(ctx, c);
	return send_breach(c, b);
}

struct absent_loop {
	struct context *c;
	u64 iova, pages, at;
	u64 found, first; /* pages still translated, the first one's IOVA */
	u64 any;
	u32 n;
};

static long any_entry(u32 k, void *arg)
{
	struct absent_loop *l = arg;
	struct context *c = l->c;
	u64 any = l->any;
	u64 n = l->n, i = (u64)k * CHUNK;

	if (!c || i >= n)
		return 1;
	for (u32 j = 0; j < CHUNK; j++) {
		any |= c->buf[i & (BATCH_PAGES - 1)];
		i += more_after(i, n);
	}
	l->any = any;
	return 0;
}

static __always_inline void still_there(struct absent_loop *l, u64 iova, u64 n)
{
	if (n > l->pages - l->at)
		n = l->pages - l->at;
	if (!l->found)
		l->first = iova;
	l->found += n;
	l->at += n;
}

/* One leaf, one table of level 1, or one hole. */
static long absent_step(u32 k, void *arg)
{
	struct absent_loop *l = arg;
	struct context *c = l->c;
	u64 iova, n, bytes, mask;
	struct iotable *t;
	int level;

	if (!c || l->at >= l->pages)
		return 1;
	t = &c->io;
	iova = l->iova + l->at * PAGE_BYTES;
	/* the end of the first run */
	if (l->found && l->first + l->found * PAGE_BYTES != iova)
		return 1;
	if (t->f.kind == PFNW_IOMMU_VIRTIO) {
		if (virtio_next(t, iova) <= 0 ||
		    t->node_start > l->iova + l->pages * PAGE_BYTES - 1)
			return 1;
		if (t->node_start > iova)
			l->at += (t->node_start - iova) >> PFNW_PAGE_SHIFT;
		else
			still_there(l, iova, (t->node_last - iova + 1) >> PFNW_PAGE_SHIFT);
		return 0;
	}
	level = io_find(t, iova);
	if (level < 0)
		return 1;
	if (level > 0) {
		mask = iommu_span(level) - 1;
		still_there(l, iova, ((mask + 1) - (iova & mask)) >> PFNW_PAGE_SHIFT);
		return 0;
	}
	mask = iommu_span(t->none_level) - 1;
	n = ((mask + 1) - (iova & mask)) >> PFNW_PAGE_SHIFT;
	if (t->none_level > 1 || l->pages - l->at == 1) {
		l->at += n;
		return 0;
	}
	n = BATCH_PAGES - iommu_index(iova, 1);
	if (n > l->pages - l->at)
		n = l->pages - l->at;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > BATCH_PAGES * 8)
		return 1;
	if (bpf_probe_read_kernel(c->buf, bytes,
				  (void *)(t->leaf_table + 8 * (u64)iommu_index(iova, 1))))
		return 1;
	l->n = n;
	l->any = opaque_zero;
	bpf_loop(BATCH_PAGES / CHUNK, any_entry, l, 0);
	/* something is there: go on entry by entry */
	l->at += l->any & t->f.present ? 1 : n;
	return 0;
}

/*
 * The first run of pages of a range that the IOMMU of c->io still translates, though
 * it is unmapped: how many, and c->odd_iova: the first. 0: there is none (any more).
 */
__noinline u64 still_translated(struct context *c, u64 iova, u64 pages)
{
	struct absent_loop l = { .c = c, .iova = iova, .pages = pages };

	if (!c)
		return 0;
	l.at = opaque_zero;
	l.found = opaque_zero;
	l.first = opaque_zero;
	c->io.leaf_base = ~0ULL;
	bpf_loop(1 << 23, absent_step, &l, 0);
	c->odd_iova = l.first;
	return l.found;
}

/*
 * The vfio_dma next to @dma in its container's tree, whose lock is held: the one before, or
 * @behind it. 0: none. (From the root it would cost a look at each level.)
 */
static __noinline u64 dma_beside(u64 dma, u32 behind)
{
	u64 off = bpf_core_field_offset(struct vfio_dma, node), at = dma + off, up;
	struct rb_node n = {}, *to;

	if (bpf_probe_read_kernel(&n, sizeof(n), (void *)at))
		return 0;
	to = behind ? n.rb_right : n.rb_left;
	if (to) {
		for (int i = 0; i < 48; i++) {
			at = (u64)to;
			if (bpf_probe_read_kernel(&n, sizeof(n), to))
				return 0;
			to = behind ? n.rb_left : n.rb_right;
			if (!to)
				return at - off;
		}
		return 0;
	}
	for (int i = 0; i < 48; i++) {
		up = n.__rb_parent_color & ~3ULL;
		if (!up || bpf_probe_read_kernel(&n, sizeof(n), (void *)up))
			return 0;
		if ((u64)(behind ? n.rb_left : n.rb_right) == at)
			return up - off;
		at = up;
	}
	return 0;
}

/* [@iova, + @bytes) of the container @k is unmapped: is that so until somebody else calls? */
static __always_inline void note_gone(struct context *c, struct pfnw_container *k, u64 iova,
				      u64 bytes)
{
	c->gone_bytes = 0;
	if (!k || k->begun - k->ended > 1)
		return; /* (another call is under way) */
	c->gone_generation = k->generation;
	c->gone_calls = k->begun;
	c->gone_iova = iova;
	c->gone_bytes = bytes;
}

/*
 * Was the page at @iova unmapped by this thread just now, in this call or in the one before,
 * and nobody else has called since? Then VFIO does not have it.
 */
static __always_inline bool just_gone(struct context *c, u64 iova)
{
	u64 iommu = c->iommu;
	struct pfnw_container *k;

	if (iova - c->gone_iova >= c->gone_bytes)
		return false;
	k = bpf_map_lookup_elem(&containers, &iommu);
	if (!k || k->generation != c->gone_generation)
		return false;
	return k->begun == c->gone_calls ||
	       (k->begun == c->mark.calls && c->mark.calls == c->gone_calls + 1);
}

/*
 * A page beside what was unmapped: if VFIO has it mapped, the IOMMU must translate it.
 * Returns 1 when it does not.
 */
__noinline int neighbour_gone(struct context *c, u64 iova, u32 behind)
{
	struct vfio_dma *d;

	if (!c)
		return 0;
	/* (a table found since the unmap is still there: the lock is held) */
	if (c->io.f.kind == PFNW_IOMMU_VIRTIO ? virtio_find(&c->io, iova) : io_find(&c->io, iova))
		return 0;
	if (just_gone(c, iova))
		return 0;
	d = (void *)dma_beside(c->gone_dma, behind);
	if (!d || iova - BPF_CORE_READ(d, iova) >= BPF_CORE_READ(d, size))
		return 0;
	return find_dma(c, iova) && iova - c->dma_iova < c->dma_bytes && c->dma_mapped;
}

struct leak_loop {
	void *ctx;
	struct context *c;
	u64 iova, end; /* what is left to look at */
	u64 bytes;
	u64 left; /* pages that stayed */
};

/* One run of pages that stayed, one record: so each page is named. */
static long leak_step(u32 k, void *arg)
{
	struct leak_loop *l = arg;
	struct context *c = l->c;
	struct broken b = { .rule = PFNW_RULE_LEAK, .bytes = l->bytes };

	if (!c || l->iova >= l->end)
		return 1;
	b.pages = still_translated(c, l->iova, (l->end - l->iova) >> PFNW_PAGE_SHIFT);
	if (!b.pages)
		return 1;
	b.iova = c->odd_iova;
	l->iova = b.iova + b.pages * PAGE_BYTES;
	l->left += b.pages;
	breach(l->ctx, c, &b);
	return 0;
}

/* Returns the number of pages that stayed. */
static __noinline u64 check_unmapped(void *ctx, struct context *c, u64 iova, u64 bytes)
{
	struct leak_loop l = {
		.ctx = ctx, .c = c, .iova = iova, .end = iova + bytes, .bytes = bytes
	};
	struct broken b = { 0 };

	if (!c)
		return 0;
	l.left = opaque_zero;
	bpf_loop(1 << 23, leak_step, &l, 0);
	b.rule = PFNW_RULE_IOMMU;
	b.bytes = PAGE_BYTES;
	b.done = PFNW_NOT_ASKED;
	b.pages = 1;
	b.iova = iova - PAGE_BYTES;
	if (iova && neighbour_gone(c, b.iova, 0))
		breach(ctx, c, &b);
	b.iova = iova + bytes;
	if (b.iova && neighbour_gone(c, b.iova, 1))
		breach(ctx, c, &b);
	return l.left;
}

/* Whole calls: nobody saw the iommu_unmap()s, but what came of them. */
static __always_inline void whole_unmapped(struct context *c, u64 domain, u64 iova, u64 pages,
					   u64 left)
{
	if (c->domain != domain)
		find_group(c, domain);
	if (want_ledger)
		ledger_unmapped(c, iova, pages);
	if (c->kind == CALL_DETACH) {
		tally(c, PFNW_S_TEARDOWN_PAGES, pages - left);
	} else if (c->kind == CALL_UNMAP) {
		tally(c, PFNW_S_UNMAPS, 1);
		tally(c, PFNW_S_UNMAP_PAGES, pages - left);
	}
}

/* An audit must know that no vfio_dma went while it looked at one. */
SEC("?fentry/vfio_unmap_unpin")
int BPF_PROG(dma_unmapping, struct vfio_iommu *iommu, struct vfio_dma *dma)
{
	u64 container = (u64)iommu;
	struct pfnw_container *k = container_of_call(container);
	u32 key = this_tid() | IN_UNMAP;

	if (k) {
		/* (under the container's lock: one at a time) */
		u64 at = k->unmaps_begun & (PFNW_UNMAPS - 1);

		k->unmap[at].iova = BPF_CORE_READ(dma, iova);
		k->unmap[at].bytes = BPF_CORE_READ(dma, size);
		__sync_fetch_and_add(&k->unmaps_begun, 1);
	}
	if (preempts)
		bpf_map_update_elem(&in_call, &key, &container, BPF_ANY);
	return 0;
}

static __always_inline struct pfnw_container *end_unmap(u64 iommu)
{
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &iommu);
	u32 key = this_tid() | IN_UNMAP;

	if (preempts)
		bpf_map_delete_elem(&in_call, &key);
	if (k && k->unmaps_ended < k->unmaps_begun)
		__sync_fetch_and_add(&k->unmaps_ended, 1);
	return k;
}

struct gone_loop {
	void *ctx;
	struct context *c;
	struct list_head *head, *at; /* domains */
	u64 iova, bytes;
};

/* What was unmapped, in the next domain. */
static long gone_step(u32 i, void *arg)
{
	struct gone_loop *l = arg;
	struct context *c = l->c;
	struct vfio_domain *d;
	u64 domain, left = 0;

	if (!c || !l->at || l->at == l->head)
		return 1;
	d = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
	l->at = BPF_CORE_READ(d, next.next);
	domain = (u64)BPF_CORE_READ(d, domain);
	if (load_iotable(c, domain))
		left = check_unmapped(l->ctx, c, l->iova, l->bytes);
	if (whole)
		whole_unmapped(c, domain, l->iova, l->bytes >> PFNW_PAGE_SHIFT, left);
	return 0;
}

/*
 * Exit of vfio_unmap_unpin(): the container's lock is held, so nothing else can have
 * been mapped there meanwhile. Looks at every domain of the container.
 */
SEC("?fexit/vfio_unmap_unpin")
int BPF_PROG(dma_unmapped, struct vfio_iommu *iommu, struct vfio_dma *dma)
{
	struct gone_loop l = { .ctx = ctx, .c = inside() };
	struct context *c = l.c;
	struct pfnw_container *k;

	if (over(this_tid() | IN_UNMAP))
		return 0;
	k = end_unmap((u64)iommu);
	if (audit_only || !c || !want_iommu || (u64)iommu != c->iommu)
		return 0;
	l.iova = BPF_CORE_READ(dma, iova);
	l.bytes = BPF_CORE_READ(dma, size);
	if (!l.bytes)
		return 0;
	count(PFNW_S_DMA_CHECKED, 1);
	c->gone_dma = (u64)dma;
	l.head = &iommu->domain_list;
	l.at = BPF_CORE_READ(iommu, domain_list.next);
	bpf_loop(1 << 23, gone_step, &l, 0);
	note_gone(c, k, l.iova, l.bytes);
	c->io.domain = 0;
	return 0;
}

static __always_inline int unmapped(void *ctx, struct iommu_domain *d, u64 iova, u64 bytes,
				    u64 done)
{
	struct context *c = inside();
	u64 domain = (u64)d;
	struct pfnw_ev_unmap *r;

	if (c && c->told_unmap == TOLD_TWIN) {
		c->told_unmap = TOLD_NOTHING;
		return 0;
	}
	if (c)
		c->told_unmap = TOLD_DONE;
	if (!c || c->in_claim ||
	    (c->domain != domain && (d->type != IOMMU_DOMAIN_UNMANAGED || !find_group(c, domain))))
		return 0;
	c->io.leaf_base = ~0ULL; /* its table may be gone now */
	if (c->has_probe && c->probe_domain == domain && c->probe.iova == iova) {
		c->has_probe = 0;
		count(PFNW_S_MAPS_INTERNAL, 1);
		tally(c, PFNW_S_INTERNAL_PAGES, c->probe.pages);
		if (want_maps) {
			c->map = c->probe;
			send_map(c, 0, 1);
		}
	}
	if (c->n[PFNW_S_INTERNAL_PAGES] && !c->n[PFNW_S_MAPS])
		return 0; /* the test mapping going away again */
	if (want_ledger)
		ledger_unmapped(c, iova, done >> PFNW_PAGE_SHIFT);
	if (done < bytes && c->kind != CALL_MAP) {
		/* (A map that failed takes back what it had not got to, too.) */
		struct broken b = { .rule = PFNW_RULE_SHORT_UNMAP,
				    .iova = iova,
				    .bytes = bytes,
				    .done = done,
				    .pages = (bytes - done) >> PFNW_PAGE_SHIFT };

		find_dma(c, iova);
		load_iotable(c, domain);
		breach(ctx, c, &b);
	}
	if (c->kind == CALL_DETACH) {
		tally(c, PFNW_S_TEARDOWN_PAGES, done >> PFNW_PAGE_SHIFT);
		return 0;
	}
	tally(c, PFNW_S_UNMAPS, 1);
	tally(c, PFNW_S_UNMAP_PAGES, done >> PFNW_PAGE_SHIFT);
	if (!want_maps)
		return 0;
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
	return unmapped(ctx, domain, iova, size, ret);
}

SEC("?fexit/iommu_unmap")
int BPF_PROG(unmap_out, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return unmapped(ctx, domain, iova, size, ret);
}

SEC("?fexit/iommu_unmap_fast")
int BPF_PROG(unmap_fast_out, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return unmapped(ctx, domain, iova, size, ret);
}

/*
 * The kernel's own answer: VFIO asks it what to unpin. 0 says "not mapped" and is also
 * an address; VFIO skips such a page and keeps it pinned for ever.
 */
SEC("?fexit/iommu_iova_to_phys")
int BPF_PROG(phys_out, struct iommu_domain *domain, u64 iova, u64 ret)
{
	struct context *c = inside();
	struct broken b = {};
	u64 pa = 0;
	int level;

	if (!c || c->in_claim || !want_iommu ||
	    (c->domain != (u64)domain &&
	     (domain->type != IOMMU_DOMAIN_UNMANAGED || !find_group(c, (u64)domain))))
		return 0;
	if (c->io.domain != (u64)domain || !c->io.f.huge)
		load_iotable(c, (u64)domain);
	if (c->io.f.kind == PFNW_IOMMU_UNKNOWN)
		return 0;
	if (c->io.f.kind == PFNW_IOMMU_VIRTIO) {
		level = virtio_find(&c->io, iova);
		if (level > 0)
			pa = c->io.node_pa + (iova - c->io.node_start);
	} else {
		level = io_find(&c->io, iova);
		if (level > 0)
			pa = iommu_leaf_pa(&c->io.f, level, c->io.entry, iova);
	}
	if (level < 0)
		return 0;
	tally(c, PFNW_S_PHYS_WITNESS, 1);
	if (ret && ret == pa)
		return 0;
	if (!find_dma(c, iova) || iova - c->dma_iova >= c->dma_bytes)
		return 0; /* nothing of VFIO's */
	/* translated, and the kernel says 0; or physical 0 itself; or they disagree */
	b.rule = ret ? PFNW_RULE_IOMMU : level > 0 ? PFNW_RULE_PA_ZERO : PFNW_RULE_IOMMU;
	b.iova = iova;
	b.bytes = PAGE_BYTES;
	b.done = ret;
	b.pages = 1;
	return breach(ctx, c, &b);
}
