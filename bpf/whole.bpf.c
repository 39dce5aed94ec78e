/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Whole calls. No program runs while VFIO claims and maps; when VFIO_IOMMU_MAP_DMA or
 * attach_group() is over, the CPU's tables and the IOMMU's are compared over all that it
 * has mapped. That costs what reading both tables costs, however many claims and
 * iommu_map() calls there were.
 *
 * The container's lock is not held any more. So what differs only counts as long as
 * nobody else unmapped it (disturbed()) and, like everywhere, as long as the page tables
 * are known to have stood still since the call began.
 */

/* More rights than were asked for are the mapping's; of less it is told what is there. */
static __always_inline u32 rights_there(struct both *b, struct pfnw_odd *o)
{
	return b->prot | (o->io_rights & b->t.f.rights);
}

#define NO_FRAME PFNW_RUN_PFN /* nobody names one */

/* The page at b->va that differs, in c->map. */
static __always_inline u32 describe_page(struct context *c, struct both *b, struct pfnw_odd *o,
					 u32 d)
{
	struct mapping *m = &c->map;
	u32 rules = 0;

	m->pages = 1;
	m->at = 0;
	m->prot = b->prot;
	m->rules = 0;
	if (d & (PFNW_D_IO_NONE | PFNW_D_IO_FAULT)) {
		m->pfn = d & (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY | PFNW_D_CPU_FAULT) ?
				 NO_FRAME :
				 cpu_leaf_pfn(FMT, o->cpu_level & 3, o->cpu_entry, m->va);
		return PFNW_RULE_IOMMU;
	}
	m->pfn = o->io_pa >> PFNW_PAGE_SHIFT;
	m->prot = rights_there(b, o);
	if (d & (PFNW_D_FRAME | PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY | PFNW_D_CPU_FAULT))
		rules |= PFNW_RULE_PFN;
	if (!m->pfn)
		rules |= PFNW_RULE_PA_ZERO;
	if (d & PFNW_D_RIGHTS)
		rules |= m->prot & ~b->prot ? PFNW_RULE_PROT : PFNW_RULE_IOMMU;
	if (d & PFNW_D_NARROW)
		rules |= PFNW_RULE_PROT;
	return rules;
}

/* @n pages from b->iova on go to one run of frames, from @pa on. */
static __always_inline void whole_run(struct context *c, u64 iova, u64 pa, u64 n, u32 prot)
{
	c->map.iova = iova;
	c->map.pfn = pa >> PFNW_PAGE_SHIFT;
	c->map.pages = n;
	c->map.prot = prot;
	ledger_mapped(c);
}

/* The table that was just read, as it is: the loader makes runs of it. */
static __always_inline void whole_table(struct context *c, struct both *b)
{
	struct pfnw_ev_ledger *l = &b->record;
	u64 bytes = b->n, flags = BPF_RB_NO_WAKEUP;
	bool lost;

	ledger_flush(c);
	ledger_head(c, l, PFNW_LEDGER_TABLE);
	l->iova = b->iova;
	l->n_pages = b->n;
	l->n = b->n;
	l->prot = b->prot;
	l->kind = b->t.f.kind;
	bytes = sizeof(b->head) + bytes * 8;
	if (bpf_ringbuf_query(&events, 0 /* BPF_RB_AVAIL_DATA */) > wakeup_bytes)
		flags = BPF_RB_FORCE_WAKEUP;
	lost = disturbed(c, l->iova, l->n_pages) || no_room_to_spare();
	/* bounded last: the verifier of 6.1 forgets what it knew of a number in between */
	barrier_var(bytes);
	if (lost || bytes > sizeof(b->head) + sizeof(b->io_l1) ||
	    bpf_ringbuf_output(&events, l, bytes, flags))
		count_lost(PFNW_S_LOST_LEDGER, 1);
}

/* All of the step is equal: tell the ledger. */
static __always_inline void whole_ledger(struct context *c, struct both *b)
{
	if (b->io.what == SIDE_LEAF)
		whole_run(c, b->iova, b->io.pa, b->n, b->prot);
	else if (b->cpu.what == SIDE_LEAF)
		whole_run(c, b->iova, b->cpu.pa, b->n, b->prot);
	else
		whole_table(c, b);
}

/* How many calls have begun if none but ours is under way, else 0. */
static __always_inline u64 alone(struct context *c)
{
	u64 iommu = c->iommu;
	struct pfnw_container *k;

	barrier();
	k = bpf_map_lookup_elem(&containers, &iommu);
	return k && k->begun - k->ended <= 1 ? k->begun : 0;
}

#define LOOK_TRIES 4096

/*
 * virtio-iommu has a tree instead of tables, which is looked at without its lock: calls of others
 * turn it, and hide a part of it meanwhile; and what was freed may say anything. So where the
 * step differs, nobody else may have been in a call while it was looked at, or the same mapping
 * must be found twice. Else it is looked at again, as long as that may take; then the pages
 * are disturbed, and the ledger does not know what is there.
 */
static __always_inline bool turning(struct context *c, struct both *b)
{
	struct iotable *t = &b->t;

	if (t->f.kind != PFNW_IOMMU_VIRTIO || (b->turning.calls && alone(c) == b->turning.calls))
		return false;
	if (b->io.what == SIDE_LEAF && b->turning.start == t->node_start &&
	    b->turning.last == t->node_last && b->turning.pa == t->node_pa)
		return false;
	b->turning.start = b->io.what == SIDE_LEAF ? t->node_start : ~0ULL;
	b->turning.last = t->node_last;
	b->turning.pa = t->node_pa;
	b->io.tag = ~0ULL; /* the node is looked for */
	if (b->turning.tries < LOOK_TRIES) {
		b->turning.tries++;
		return true;
	}
	count(PFNW_S_DISTURBED, b->n);
	ledger_hole(c->iommu);
	both_go_on(b, b->n);
	return true;
}

/* As look_both(), where it is looked again if somebody turns the tree meanwhile. */
static __always_inline void look_steady(struct context *c, struct both *b)
{
	bool virtio = b->t.f.kind == PFNW_IOMMU_VIRTIO;

	b->turning.calls = virtio ? alone(c) : 0;
	look_both(b);
	if (lies & PFNW_LIE_HIDE_MAPPING && virtio && !b->turning.calls)
		b->io.what = SIDE_NONE;
}

struct whole_loop {
	struct context *c;
	struct both *b;
};

/* The same of a line of huge leaves. */
static __always_inline void line_ledger(struct context *c, struct both *b)
{
	for (u64 i = 0; i < LINE; i++) {
		u64 iova = b->iova + (i << 21);

		whole_run(c, iova,
			  b->io_l2[iommu_index(iova, 2)] & b->t.f.addr_mask & ~((1ULL << 21) - 1),
			  512, b->prot);
	}
}

/* The next page of a step that differs somewhere. */
static __always_inline void whole_page(struct context *c, struct both *b)
{
	struct pfnw_odd *o = &b->odd;
	struct mapping *m = &c->map;
	u64 i = b->at;
	u32 d;

	d = page_differs(b, i);
	m->iova = b->iova + i * PAGE_BYTES;
	m->va = b->va + i * PAGE_BYTES;
	if (d)
		mapping_differs(c, describe_page(c, b, o, d));
	else
		b->match++;
	if (want_ledger && !(d & (PFNW_D_IO_NONE | PFNW_D_IO_FAULT)))
		whole_run(c, b->iova + i * PAGE_BYTES, o->io_pa, 1, rights_there(b, o));
	b->at = i + 1;
	if (b->at < b->n)
		return;
	b->at = 0;
	both_go_on(b, b->n);
}

static __always_inline void whole_show(struct context *c, struct both *b, u64 n)
{
	struct mapping *m = &c->map;

	m->iova = b->iova;
	m->va = b->va;
	m->pages = n;
	m->prot = b->prot;
	extend_run(c);
}

/* At most 2 MiB, one leaf of both sides, or a line of huge leaves. */
static long whole_step(u32 k, void *arg)
{
	struct whole_loop *l = arg;
	struct context *c = l->c;
	struct both *b = l->b;
	bool line;
	u64 n;

	if (!c || !b || !b->left)
		return 1;
	if (b->at) {
		whole_page(c, b);
		return 0;
	}
	line = line_equal(b);
	if (!line) {
		if (b->slow || lies)
			look_steady(c, b);
		else
			look_both(b);
		/* (of tables that have just been copied) */
		line = b->cpu.what == SIDE_LEAF && b->io.what == SIDE_LEAF && line_equal(b);
	}
	if (line) {
		n = LINE * 512;
		if (want_ledger)
			line_ledger(c, b);
	} else {
		n = b->n;
		if (!step_equal(b)) {
			if (!b->slow)
				return 1;
			if (!turning(c, b))
				whole_page(c, b);
			return 0;
		}
		if (want_ledger)
			whole_ledger(c, b);
	}
	if (want_runs)
		whole_show(c, b, n);
	b->match += n;
	both_go_on(b, n);
	return 0;
}

/* Goes through what is left of @b. (Global: the verifier walks it once.) */
__noinline int whole_go(struct context *c, struct both *b)
{
	struct whole_loop l = { .c = c, .b = b };

	if (c && b)
		bpf_loop(1 << 23, whole_step, &l, 0);
	return 0;
}

/* The call that is over is on the stack no more: it comes first. */
static __always_inline void save_call_stack(void *ctx, struct context *c)
{
	long n = bpf_get_stack(ctx, &c->stack[1], sizeof(c->stack) - sizeof(c->stack[0]), 0);

	c->stack[0] = bpf_get_func_ip(ctx);
	c->n_stack = 1 + (n > 0 ? n / sizeof(u64) : 0);
}

/* The vfio_dma of the context in one domain of its container. */
static __always_inline int whole_range(void *ctx, struct context *c, u64 domain)
{
	struct both *b = both_of_thread();
	u64 pages;

	pages = c->dma_bytes >> PFNW_PAGE_SHIFT;
	tally(c, PFNW_S_MAPS, 1);
	tally(c, PFNW_S_SEEN, pages);
	if (!b) {
		count(PFNW_S_UNV_CONTEXT, pages);
		return 0;
	}
	if (c->domain != domain)
		find_group(c, domain);
	b->t.domain = domain;
	if (!find_iotable(&b->t)) {
		count(PFNW_S_IO_UNKNOWN, pages);
		count(PFNW_S_UNV_FAULT, pages);
		return 0;
	}
	b->pgd = c->pgd;
	both_begin(b, c->dma_va, c->dma_iova, pages, c->dma_prot);
	whole_go(c, b);
	if (b->left) {
		/* evidence is gathered once per call that shows a difference */
		c->vma.valid = 0;
		save_call_stack(ctx, c);
		load_iotable(c, domain);
		b->slow = 1;
		whole_go(c, b);
	}
	if (b->left) /* more leaves than one loop can do */
		count(PFNW_S_UNV_FAULT, b->left);
	tally(c, PFNW_S_MATCH, b->match);
	tally(c, PFNW_S_IO_PAGES, b->match);
	if (want_runs)
		flush_run(c);
	return 0;
}

struct whole_call {
	void *ctx;
	struct context *c;
	struct list_head *head, *at; /* domains */
	u64 domain; /* under way; 0: none */
	u64 from, last; /* IOVA of the first vfio_dma that is left in it, and of the last */
	u64 found;
	u64 tries; /* of FIND_TRIES, in the whole call */
};

/*
 * Another thread's rotation of the tree hides a part of it for some instructions, or for as
 * long as its processor is taken away from it. So long is looked again.
 */
#define FIND_TRIES 4096

/*
 * Must the vfio_dma be looked for again that begins behind l->from? @d is what was found.
 * A mapping's is there, unless somebody unmapped it. When a group was attached nobody knows
 * what should be there, except that only calls of others turn the tree.
 */
static __always_inline bool hidden(struct whole_call *l, u64 d, u64 iova)
{
	struct context *c = l->c;
	struct pfnw_container *k;

	if (l->tries > FIND_TRIES)
		return false;
	if (c->kind == CALL_MAP) {
		if ((d && iova == c->want_iova) || disturbed(c, c->want_iova, c->want_pages))
			return false;
	} else {
		k = bpf_map_lookup_elem(&containers, &c->iommu);
		/* (this call is one that has begun) */
		if (!k || k->begun - k->ended <= 1)
			return false;
		if (l->tries == FIND_TRIES)
			count(PFNW_S_SETTLED, 1);
	}
	l->tries++;
	return l->tries <= FIND_TRIES;
}

/* The vfio_dma of the node @n, read, if it begins at @iova; else 0. */
static __always_inline u64 dma_at_node(struct context *c, u64 n, u64 iova)
{
	u64 d = n - bpf_core_field_offset(struct vfio_dma, node);
	struct dma_head *h = &c->dma_head;

	return n && read_dma(h, d) && DMA_FIELD(h, d, iova) == iova ? d : 0;
}

/*
 * The one that begins at @iova, if it came into the tree beside the one that was mapped last.
 * Who maps range after range finds it here, however large the tree. As long as no unmap has
 * begun since that one was mapped, it is in the tree, and so is what its node points at.
 */
__noinline u64 dma_after_last(struct context *c, u64 iova)
{
	u64 d, up, beside, found, iommu;
	struct pfnw_container *k;
	struct dma_head *h;

	if (!c)
		return 0;
	h = &c->dma_head;
	d = c->last_dma;
	if (!d || !unmaps_seen)
		return 0;
	iommu = c->iommu;
	k = bpf_map_lookup_elem(&containers, &iommu);
	if (!k || k->generation != c->last_generation || c->mark.unmaps != c->last_unmaps ||
	    k->unmaps_begun != c->last_unmaps || !read_dma(h, d))
		return 0;
	if (DMA_FIELD(h, d, iova) == iova)
		return d; /* in another domain */
	up = DMA_FIELD(h, d, node.__rb_parent_color) & ~3ULL;
	beside = (u64)(DMA_FIELD(h, d, iova) < iova ? DMA_FIELD(h, d, node.rb_right) :
						      DMA_FIELD(h, d, node.rb_left));
	found = dma_at_node(c, beside, iova);
	if (!found)
		found = dma_at_node(c, up, iova);
	return k->unmaps_begun == c->last_unmaps ? found : 0;
}

/* @d was mapped by the call under way. */
static __always_inline void dma_is_last(struct context *c, u64 d)
{
	u64 iommu = c->iommu;
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &iommu);

	c->last_dma = 0;
	if (!k || k->unmaps_begun != c->mark.unmaps)
		return;
	c->last_generation = k->generation;
	c->last_unmaps = c->mark.unmaps;
	c->last_dma = d;
}

static __always_inline bool was_known(struct context *c, u64 domain)
{
	for (int i = 0; i < KNOWN_DOMAINS; i++)
		if (c->known_domain[i] == domain)
			return true;
	return false;
}

/* The next vfio_dma of the domain under way, or the next domain. */
static long whole_next(u32 i, void *arg)
{
	struct whole_call *l = arg;
	struct context *c = l->c;
	struct vfio_domain *v;
	struct dma_head *h;
	u64 d = 0, mm;

	if (!c)
		return 1;
	h = &c->dma_head;
	if (!l->domain) {
		if (!l->at || l->at == l->head)
			return 1;
		v = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
		l->at = BPF_CORE_READ(v, next.next);
		l->from = c->kind == CALL_MAP ? c->want_iova : 0;
		l->last = c->kind == CALL_MAP ? c->want_iova : ~0ULL;
		l->domain = (u64)BPF_CORE_READ(v, domain);
		if (c->kind == CALL_ATTACH && was_known(c, l->domain))
			l->domain = 0;
		return 0;
	}
	if (c->kind == CALL_MAP)
		d = dma_after_last(c, l->from);
	if (!d)
		d = dma_from(c->iommu, l->from, h);
	c->dma_iova = d ? DMA_FIELD(h, d, iova) : 0;
	if (hidden(l, d, c->dma_iova))
		return 0;
	if (!d || c->dma_iova > l->last) {
		l->domain = 0;
		return 0;
	}
	c->dma_va = DMA_FIELD(h, d, vaddr);
	c->dma_bytes = DMA_FIELD(h, d, size);
	c->dma_prot = DMA_FIELD(h, d, prot);
	c->dma_mapped = DMA_FIELD(h, d, iommu_mapped);
	if (c->kind == CALL_MAP)
		dma_is_last(c, d);
	if (c->kind == CALL_ATTACH) {
		/* claimed long ago: nobody knows what happened since */
		mm = mm_of_dma((void *)d);
		c->mm = mm;
		c->pgd = mm ? (u64)BPF_CORE_READ((struct mm_struct *)mm, pgd) : 0;
		c->watched = 0;
	}
	if (c->dma_bytes && c->dma_mapped) {
		l->found = 1;
		whole_range(l->ctx, c, l->domain);
	}
	l->from = c->dma_iova + c->dma_bytes;
	if (l->from <= c->dma_iova || l->from > l->last)
		l->domain = 0;
	return 0;
}

/* The call of @c is over, and has mapped something perhaps. */
static __always_inline int whole_call(void *ctx, struct context *c, long ret)
{
	struct whole_call l = { .ctx = ctx, .c = c };
	struct vfio_iommu *container;

	if (ret || !(c->kind == CALL_ATTACH || (c->kind == CALL_MAP && c->want_map)))
		return 0;
	l.found = opaque_zero;
	l.domain = opaque_zero;
	l.tries = opaque_zero;
	container = (void *)c->iommu;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	bpf_loop(1 << 23, whole_next, &l, 0);
	if (c->kind == CALL_MAP && !l.found &&
	    BPF_CORE_READ(container, domain_list.next) != l.head) {
		/* VFIO says that it is mapped, and it is not there: somebody unmapped it */
		tally(c, PFNW_S_SEEN, c->want_pages);
		count(PFNW_S_DISTURBED, c->want_pages);
	}
	return 0;
}

/* A group is about to be attached: which domains are there? */
static __noinline int whole_attaching(struct context *c)
{
	struct vfio_iommu *container;
	struct list_head *head, *at;

	if (!c)
		return 0;
	container = (void *)c->iommu;
	head = &container->domain_list;
	at = BPF_CORE_READ(container, domain_list.next);
	for (int i = 0; i < KNOWN_DOMAINS; i++) {
		struct vfio_domain *d =
			(void *)at - bpf_core_field_offset(struct vfio_domain, next);

		c->known_domain[i] = 0;
		if (!at || at == head)
			continue;
		c->known_domain[i] = (u64)BPF_CORE_READ(d, domain);
		at = BPF_CORE_READ(d, next.next);
	}
	return 0;
}
