/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Claims of VFIO type1: which container call a task is in, and what
 * vaddr_get_pfns() computes there. The page tables are read at the points inside
 * it where the kernel still holds its locks:
 *   exit of pin_user_pages_remote()  mmap_lock held, pages pinned
 *   exit of follow_pte()             mmap_lock and the PTL held
 *   exit of follow_pfnmap_start()    mmap_lock and the PTL held
 * At the exit of vaddr_get_pfns() itself mmap_lock is already dropped.
 */

#define VFIO_IOMMU_MAP_DMA 15217 /* _IO(';', 100 + 13), include/uapi/linux/vfio.h */
#define VFIO_IOMMU_UNMAP_DMA 15218

struct group_loop {
	struct list_head *head, *at; /* domains */
	struct list_head *ghead, *gat; /* groups of the domain under way; NULL: none */
	s32 group;
	u32 found;
};

/* One step through all groups of all domains. */
static long group_step(u32 i, void *arg)
{
	struct group_loop *l = arg;
	struct vfio_iommu_group *g;
	struct vfio_domain *d;

	if (l->gat && l->gat != l->ghead) {
		g = (void *)l->gat - bpf_core_field_offset(struct vfio_iommu_group, next);
		if (BPF_CORE_READ(g, iommu_group, id) == l->group) {
			l->found = 1;
			return 1;
		}
		l->gat = BPF_CORE_READ(g, next.next);
		return 0;
	}
	if (!l->at || l->at == l->head)
		return 1;
	d = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
	l->ghead = &d->group_list;
	l->gat = BPF_CORE_READ(d, group_list.next);
	l->at = BPF_CORE_READ(d, next.next);
	return 0;
}

/* Is the group that the user asked for in this container? */
static __noinline int group_in_container(u64 iommu, s32 group)
{
	struct vfio_iommu *container = (void *)iommu;
	struct group_loop l = { .group = group, .found = opaque_zero };
	long steps;

	l.gat = l.ghead = (void *)opaque_zero;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	steps = bpf_loop(4096, group_step, &l, 0);
	if (steps >= 4096)
		count(PFNW_S_SCOPE_FULL, 1);
	return l.found;
}

struct find_loop {
	struct list_head *head, *at; /* domains */
	u64 domain;
	s32 group;
	u32 found;
};

static long find_step(u32 i, void *arg)
{
	struct vfio_iommu_group *g;
	struct find_loop *l = arg;
	struct vfio_domain *d;
	struct list_head *at;

	if (!l->at || l->at == l->head)
		return 1;
	d = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
	if (l->domain && (u64)BPF_CORE_READ(d, domain) != l->domain) {
		l->at = BPF_CORE_READ(d, next.next);
		return 0;
	}
	at = BPF_CORE_READ(d, group_list.next);
	g = (void *)at - bpf_core_field_offset(struct vfio_iommu_group, next);
	l->group = BPF_CORE_READ(g, iommu_group, id);
	l->found = 1;
	return 1;
}

/*
 * The first group of c->asked_domain in the container of @c; 0: of its first domain.
 * Returns 0 when the container has no such domain.
 */
__noinline int group_of_domain(struct context *c)
{
	struct find_loop l = { .found = opaque_zero };
	struct vfio_iommu *container;
	struct pfnw_container *k;
	u64 iommu, domain;

	if (!c)
		return 0;
	domain = c->asked_domain;
	l.domain = domain;
	if (c->kind == CALL_ATTACH || c->kind == CALL_PIN || c->kind == CALL_DETACH) {
		c->domain = domain; /* the group is the call's argument */
		return 1;
	}
	/* the same as in this thread's last call, if no group came or went since */
	iommu = c->iommu;
	k = bpf_map_lookup_elem(&containers, &iommu);
	if (k && domain && domain == c->found_domain && k->generation == c->found_generation &&
	    k->domain_calls == c->found_calls) {
		c->group = c->found_group;
		c->domain = domain;
		return 1;
	}
	c->found_domain = 0;
	c->found_generation = k ? k->generation : 0;
	c->found_calls = k ? k->domain_calls : 0;
	container = (void *)c->iommu;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	bpf_loop(64, find_step, &l, 0);
	if (!l.found)
		return 0;
	c->group = l.group;
	c->domain = domain;
	c->found_group = l.group;
	c->found_domain = k ? domain : 0;
	return 1;
}

/* (Global functions take no typed pointers: it goes through the context.) */
static __always_inline int find_group(struct context *c, u64 domain)
{
	if (!c)
		return 0;
	c->asked_domain = domain;
	return group_of_domain(c);
}

static __always_inline bool in_scope(u64 iommu, s32 group)
{
	if (scope_pids) {
		u32 tgid = bpf_get_current_pid_tgid() >> 32;

		if (!bpf_map_lookup_elem(&scope, &tgid))
			return false;
	}
	if (scope_comm) {
		char comm[PFNW_COMM];

		bpf_get_current_comm(comm, sizeof(comm));
		for (int i = 0; i < PFNW_COMM; i++) {
			if (comm[i] != comm_filter[i])
				return false;
			if (!comm[i])
				break;
		}
	}
	if (scope_group != PFNW_NO_GROUP) {
		if (group != PFNW_NO_GROUP)
			return group == scope_group;
		return group_in_container(iommu, scope_group);
	}
	return true;
}

static __always_inline struct moment moment_now(u64 mm)
{
	struct watch *w = watch_of(mm);
	struct moment now = {};

	if (w) {
		/* fin first: a change that ends in between counts as under way */
		now.fin = w->fin;
		barrier();
		now.seq = w->seq;
	}
	return now;
}

/* Enter a container call: @group is given where the call names one. */
static __noinline int enter_call(u32 kind, u64 iommu, s32 group)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mm_struct *mm;
	struct context *c;
	u32 tid = this_tid(), zero = 0, one = 1;

	if (!in_scope(iommu, group))
		return 0;
	note_caller(tid);
	c = bpf_map_lookup_elem(&contexts, &tid);
	if (!c) {
		struct context *b = bpf_map_lookup_elem(&blank, &zero);

		if (b)
			bpf_map_update_elem(&contexts, &tid, b, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&contexts, &tid);
	}
	if (!c) {
		count(PFNW_S_CONTEXTS_FULL, 1);
		ledger_hole(iommu);
		if (bpf_map_update_elem(&spill, &tid, &one, BPF_ANY))
			count(PFNW_S_SPILL_FULL, 1);
		return 0;
	}
	c->iommu = iommu;
	mark_call(c);
	mm = t->mm;
	c->mm = (u64)mm;
	c->pgd = mm ? (u64)BPF_CORE_READ(mm, pgd) : 0;
	c->watched = mm ? watch_mm((u64)mm) : 0;
	c->has_probe = 0;
	c->want_map = 0;
	c->told = TOLD_NOTHING;
	c->told_unmap = TOLD_NOTHING;
	c->in_claim = 0;
	c->dma_valid = 0;
	c->domain = 0;
	c->io.domain = 0;
	c->group = group;
	c->run.n_pages = 0;
	c->led.n_pages = 0;
	c->tail.pages = 0;
	c->snap.pages = 0;
	c->claim_va = 0;
	c->claim_end = 0;
	c->mapped_end = 0;
	c->claim_pfn = 0;
	c->n_stack = 0;
	if (whole)
		c->since = moment_now(c->mm);
	c->kind = kind;
	return 0;
}

static __always_inline void flush_run(struct context *c)
{
	struct pfnw_ev_run *r;

	if (!c->run.n_pages)
		return;
	r = reserve(sizeof(*r));
	if (r) {
		*r = c->run;
		submit(r);
	} else {
		count(PFNW_S_LOST_MATCH, c->run.n_pages);
	}
	c->run.n_pages = 0;
}

static int judge_probe(void *ctx, struct context *c);
static __always_inline int whole_call(void *ctx, struct context *c, long ret);
static int whole_attaching(struct context *c);
int find_dma(struct context *c, u64 iova);

struct domain_loop {
	struct list_head *head, *at;
	u64 n;
};

static long count_domain(u32 i, void *arg)
{
	struct domain_loop *l = arg;
	struct list_head *at = l->at;

	if (!at || at == l->head)
		return 1;
	l->n++;
	l->at = BPF_CORE_READ(at, next);
	return 0;
}

/*
 * The third count: what VFIO itself says is mapped now, in every domain of the
 * container. It needs no hook that could have been skipped.
 */
static __noinline u64 pages_in_dma(struct context *c)
{
	struct domain_loop l = { .n = opaque_zero };
	struct vfio_iommu *container;

	if (!c || !find_dma(c, c->want_iova) || c->dma_iova != c->want_iova)
		return 0;
	container = (void *)c->iommu;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	bpf_loop(64, count_domain, &l, 0);
	return (c->dma_bytes >> PFNW_PAGE_SHIFT) * l.n;
}

/*
 * The call is over: its counters become everybody's, and the counts are compared. @maps: it may
 * have mapped something. (A constant: the verifier need not walk what looks at that.)
 */
static __always_inline int end_call(void *ctx, long ret, bool maps)
{
	u32 tid = this_tid(), zero = 0;
	struct context *c = inside();
	struct stats *st;
	u64 seen, told, other;

	if (!c) {
		bpf_map_delete_elem(&spill, &tid);
		return 0;
	}
	if (maps && whole)
		whole_call(ctx, c, ret);
	else if (maps && c->has_probe)
		judge_probe(ctx, c);
	if (want_runs)
		flush_run(c);
	if (want_ledger) {
		if (c->kind == CALL_DETACH || c->kind == CALL_ATTACH)
			ledger_domains(c);
		ledger_flush(c);
	}
	seen = c->n[PFNW_S_SEEN];
	told = c->n[PFNW_S_TP_PAGES];
	other = c->n[PFNW_S_INTERNAL_PAGES] + c->foreign_pages;
	told = told > other ? told - other : 0;
	if (!whole && c->want_map && !ret) {
		u64 dma = pages_in_dma(c);

		if (dma > told)
			told = dma;
	}
	if (told > seen)
		count(PFNW_S_LOST_COUNT, told - seen);
	/* a change that the hooks missed: the ledger is read anew (whole calls: nobody else counts) */
	if (!whole && (told > seen || c->n[PFNW_S_TP_UNMAP_PAGES] != c->n[PFNW_S_UNMAP_PAGES]))
		ledger_hole(c->iommu);
	c->foreign_pages = 0;
	c->want_map = 0;
	st = bpf_map_lookup_elem(&stats, &zero);
	for (int i = 0; i < PFNW_S_HOT; i++) {
		if (st && c->n[i])
			__sync_fetch_and_add(&st->v[i], c->n[i]);
		c->n[i] = 0;
	}
	c->kind = CALL_NONE;
	return 0;
}

static __noinline int leave_call(void *ctx, long ret)
{
	return end_call(ctx, ret, true);
}

static __noinline int leave_mapless_call(void *ctx)
{
	return end_call(ctx, 0, false);
}

/* ---- container calls ---- */

SEC("?fentry/vfio_iommu_type1_open")
int BPF_PROG(container_open)
{
	struct task_struct *t = bpf_get_current_task_btf();

	/* The earlier a mm is watched, the more of its changes are known. */
	if (t->mm)
		watch_mm((u64)t->mm);
	return 0;
}

/* struct vfio_iommu_type1_dma_map, include/uapi/linux/vfio.h */
struct dma_map {
	u32 argsz, flags;
	u64 vaddr, iova, size;
};

#define VFIO_DMA_MAP_FLAG_RW 3 /* without these bits nothing is mapped */

SEC("?fentry/vfio_iommu_type1_ioctl")
int BPF_PROG(container_call_in, void *iommu, unsigned int cmd, unsigned long arg)
{
	struct dma_map map = {};
	struct context *c;

	if (cmd == VFIO_IOMMU_MAP_DMA || cmd == VFIO_IOMMU_UNMAP_DMA)
		container_busy((u64)iommu);
	if (audit_only)
		return 0;
	if (cmd == VFIO_IOMMU_MAP_DMA) {
		enter_call(CALL_MAP, (u64)iommu, PFNW_NO_GROUP);
		c = inside();
		if (c && !bpf_probe_read_user(&map, sizeof(map), (void *)arg) &&
		    map.flags & VFIO_DMA_MAP_FLAG_RW) {
			c->want_map = 1;
			c->want_iova = map.iova;
			c->want_pages = map.size >> PFNW_PAGE_SHIFT;
			if (want_ledger)
				mark_mapped(c->mm, map.vaddr, map.size);
		}
	} else if (cmd == VFIO_IOMMU_UNMAP_DMA)
		enter_call(CALL_UNMAP, (u64)iommu, PFNW_NO_GROUP);
	return 0;
}

/* Has its end been told already, or never its beginning? */
static __always_inline bool over(u32 key)
{
	return preempts && !bpf_map_lookup_elem(&in_call, &key);
}

SEC("?fexit/vfio_iommu_type1_ioctl")
int BPF_PROG(container_call_out, void *iommu, unsigned int cmd, unsigned long arg, long ret)
{
	if ((cmd == VFIO_IOMMU_MAP_DMA || cmd == VFIO_IOMMU_UNMAP_DMA) && !over(this_tid())) {
		if (!audit_only)
			leave_call(ctx, ret);
		container_free((u64)iommu);
	}
	return 0;
}

/* A group comes, or goes. */
static __noinline int group_in(u32 kind, u64 iommu, s32 group)
{
	container_busy(iommu);
	domains_move(iommu);
	if (audit_only)
		return 0;
	enter_call(kind, iommu, group);
	return whole && kind == CALL_ATTACH ? whole_attaching(inside()) : 0;
}

static __always_inline int group_out(u64 iommu)
{
	domains_move(iommu);
	container_free(iommu);
	return 0;
}

SEC("?fentry/vfio_iommu_type1_attach_group")
int BPF_PROG(attach_group_in, void *iommu, struct iommu_group *group)
{
	return group_in(CALL_ATTACH, (u64)iommu, group->id);
}

SEC("?fexit/vfio_iommu_type1_attach_group")
int BPF_PROG(attach_group_out, void *iommu)
{
	if (!audit_only)
		leave_call(ctx, 0);
	return group_out((u64)iommu);
}

/* Of the last group: everything is unmapped, often by a process that exits. */
SEC("?fentry/vfio_iommu_type1_detach_group")
int BPF_PROG(detach_group_in, void *iommu, struct iommu_group *group)
{
	return group_in(CALL_DETACH, (u64)iommu, group->id);
}

SEC("?fexit/vfio_iommu_type1_detach_group")
int BPF_PROG(detach_group_out, void *iommu)
{
	if (!audit_only)
		leave_mapless_call(ctx);
	return group_out((u64)iommu);
}

SEC("?fentry/vfio_iommu_type1_release")
int BPF_PROG(container_released, void *iommu)
{
	u64 key = (u64)iommu;

	if (want_ledger)
		ledger_gone(key);
	bpf_map_delete_elem(&containers, &key);
	return 0;
}

/* mdev and emulated devices: claims without a mapping. */
SEC("?fentry/vfio_iommu_type1_pin_pages")
int BPF_PROG(pin_pages_in, void *iommu, struct iommu_group *group)
{
	return enter_call(CALL_PIN, (u64)iommu, group->id);
}

SEC("?fexit/vfio_iommu_type1_pin_pages")
int BPF_PROG(pin_pages_out)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	/* nobody looked at these claims; whoever wants that, wants all steps */
	if (whole && inside() && (int)ret > 0)
		count(PFNW_S_PIN_UNV, (int)ret);
	return leave_mapless_call(ctx);
}

/* ---- claims ---- */

/* The legs of vaddr_get_pfns(): which hook inside it has spoken. */
enum { LEG_NONE, LEG_SILENT, LEG_GUP, LEG_PFNMAP };

static long take_vma(struct task_struct *task, struct vm_area_struct *vma, void *arg)
{
	struct pfnw_vma *v = arg;

	v->start = vma->vm_start;
	v->end = vma->vm_end;
	v->flags = BPF_CORE_READ(vma, vm_flags);
	v->pgoff = vma->vm_pgoff;
	v->valid = 1;
	return 0;
}

/*
 * The VMA of @va, into the context. bpf_find_vma() only tries the lock, and
 * only knows the caller's own mm: what it cannot say stays invalid.
 */
static __noinline int find_vma_of(struct context *c, u64 va)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct pfnw_vma v = {};

	if (!c)
		return 0;
	if (c->vma.valid && va >= c->vma.start && va < c->vma.end)
		return 0;
	/* (not t->mm: the verifier of 6.4 and later looks names up for each such reading) */
	if ((u64)BPF_CORE_READ(t, mm) == c->mm)
		bpf_find_vma(t, va, take_vma, &v, 0);
	c->vma = v;
	return 0;
}

/*
 * A claim begins: from now on changes matter to its pages. The kernel asks for the
 * next batch before it maps the end of the last one, so what is still unmapped
 * keeps the moment of its own claim.
 */
static __always_inline void remember_changes(struct context *c, u64 va)
{
	struct moment now = moment_now(c->mm);

	if (!c->claim_end || c->mapped_end == va)
		c->oldest = now; /* nothing waits */
	else if (c->mapped_end >= c->claim_va)
		c->oldest = c->since; /* only pages of the last claim wait */
	c->since = now;
}

/* The moment from which changes matter to @va. */
static __always_inline struct moment moment_of(struct context *c, u64 va)
{
	return va >= c->claim_va && va < c->claim_va + c->claim_asked * PAGE_BYTES ? c->since :
										     c->oldest;
}

/* enum pfnw_moved, since @va was claimed. */
static __always_inline int moved_since_claim(struct context *c, u64 va)
{
	struct moment m = moment_of(c, va);

	if (whole)
		return c->watched ?
			       tables_moved(c->mm, c->since.seq, c->since.fin, va, PAGE_BYTES) :
			       PFNW_UNKNOWN;
	/* a replayed page was claimed long ago: nobody knows what happened since */
	if (!c->watched || !c->claim_end)
		return PFNW_UNKNOWN;
	return tables_moved(c->mm, m.seq, m.fin, va, PAGE_BYTES);
}

static __always_inline int claim_begins(u64 mm, u64 va, u64 npages, u32 prot, u64 pfnp, u64 pages)
{
	struct context *c = inside();

	if (!c)
		return 0;
	if (mm != c->mm) { /* an external pin on behalf of the owner */
		c->mm = mm;
		c->pgd = (u64)BPF_CORE_READ((struct mm_struct *)mm, pgd);
		c->watched = watch_mm(mm);
	}
	va &= ~(PAGE_BYTES - 1);
	remember_changes(c, va);
	c->claim_va = va;
	c->claim_asked = npages;
	c->claim_prot = prot;
	c->claim_pfn_ptr = pfnp;
	c->claim_pages_ptr = claim_pages(pages);
	c->claim_first_diff = 0;
	c->claim_diff = 0;
	c->claim_unv = 0;
	c->vma.valid = 0;
	c->in_claim = LEG_SILENT;
	if (want_runs) /* GUP may sleep for long: show what is settled */
		flush_run(c);
	if (want_claims)
		c->claim_t0 = bpf_ktime_get_ns();
	return 0;
}

SEC("?fentry/vaddr_get_pfns")
int BPF_PROG(claim_in, struct mm_struct *mm, unsigned long va, long npages, int prot)
{
	u64 pfnp = 0, pages = 0;

	/* not ctx[5]: 6.1 lets no program see a pointer to a pointer */
	bpf_get_func_arg(ctx, 4, &pfnp);
	bpf_get_func_arg(ctx, 5, &pages);
	return claim_begins((u64)mm, va, npages, prot, pfnp, pages);
}

/* One page of a claim differs from its leaf. */
__noinline int claim_differs(struct context *c, u64 va, u64 pfn, u32 rules)
{
	struct pfnw_ev_diff *d;
	u64 e = 0;

	if (!c)
		return 0;
	c->claim_diff++;
	d = reserve(sizeof(*d));
	if (!d) {
		count(PFNW_S_CLAIM_LOST_DIFF, 1);
		return 0;
	}
	count(PFNW_S_CLAIM_SENT_DIFF, 1);
	if (c->group == PFNW_NO_GROUP)
		find_group(c, 0);
	fill_hdr(&d->h, PFNW_EV_DIFF, c);
	d->iova = 0;
	d->va = va;
	d->pfn = pfn;
	d->claim_pfn = pfn;
	d->claim_va = c->claim_va;
	d->map_iova = d->map_pa = d->map_bytes = 0;
	d->dma_iova = d->dma_va = 0;
	d->change_seq = c->since.seq;
	d->change_fin = c->since.fin;
	d->prot = c->claim_prot;
	d->dma_prot = c->claim_prot;
	d->at = c->kind == CALL_PIN ? PFNW_AT_PIN : PFNW_AT_CLAIM;
	d->rules = rules;
	d->pfnmap = c->snap.pfnmap;
	d->snap.level = snap_leaf(&c->snap, va, &e);
	d->snap.entry = e;
	d->snap.locked = c->snap.locked;
	d->snap.claimed = 0;
	__builtin_memset(d->snap.pad, 0, sizeof(d->snap.pad));
	cpu_walk(c->pgd, va, &d->walk);
	__builtin_memset(&d->io, 0, sizeof(d->io));
	d->moved = c->watched ? tables_moved(c->mm, c->since.seq, c->since.fin, va, PAGE_BYTES) :
				PFNW_UNKNOWN;
	d->vma = c->vma;
	d->n_stack = c->n_stack;
	__builtin_memcpy(d->stack, c->stack, sizeof(d->stack));
	submit_now(d);
	return 0;
}

/* Claimed pages that nothing could be compared with. */
static __always_inline void claim_unverified(struct context *c, u64 n)
{
	c->claim_unv += n;
	count(PFNW_S_CLAIM_UNV, n);
	if (c->kind == CALL_PIN)
		count(PFNW_S_PIN_UNV, n);
}

struct claim_loop {
	struct context *c;
	u64 n;
	u64 match, unv;
};

/* Slow leg: one page of the claim after the other. */
static long claim_page(u32 i, void *arg)
{
	struct claim_loop *l = arg;
	struct context *c = l->c;
	u64 va, e = 0, pfn = 0, got, n;
	u32 w = 0;
	int level;

	if (!c || i >= l->n)
		return 1;
	va = c->claim_va + i * PAGE_BYTES;
	n = c->claim_diff;
	got = (c->buf[i & (BATCH_PAGES - 1)] - vmemmap) / page_struct_bytes;
	level = snap_leaf(&c->snap, va, &e);
	if (!leaf_frame(level, e, va, &pfn, &w)) {
		/* zapped between the pin and this reading, or not readable */
		if (!level)
			l->unv++;
		else
			claim_differs(c, va, got, PFNW_RULE_PFN);
	} else if (pfn != got) {
		claim_differs(c, va, got, PFNW_RULE_PFN);
	} else if ((c->claim_prot & IOMMU_WRITE) && !w) {
		claim_differs(c, va, got, PFNW_RULE_PROT);
	} else {
		l->match++;
	}
	if (!i)
		c->claim_first_diff = c->claim_diff != n;
	return 0;
}

static __always_inline void save_stack(void *ctx, struct context *c)
{
	long n = bpf_get_stack(ctx, c->stack, sizeof(c->stack), 0);

	c->n_stack = n > 0 ? n / sizeof(u64) : 0;
}

struct page_loop {
	struct context *c;
	u32 n;
	u64 want, first; /* struct page expected; address bits of the run */
	u64 diff, all, run;
};

/* pages[] under one huge leaf: consecutive struct pages. */
static long pages_of_leaf(u32 k, void *arg)
{
	struct page_loop *l = arg;
	struct context *c = l->c;
	u64 diff = l->diff, want = l->want, n = l->n, i = (u64)k * CHUNK;

	if (!c || i >= n)
		return 1;
	if (i + CHUNK <= n) {
#pragma unroll
		for (u32 j = 0; j < CHUNK; j++) {
			diff |= c->buf[(i & (BATCH_PAGES - CHUNK)) + j] ^ want;
			want += 64;
		}
	} else {
		for (u32 j = 0; j < CHUNK; j++) {
			u64 more = more_after(i, n);

			diff |= c->buf[i & (BATCH_PAGES - 1)] ^ want;
			want += more * 64;
			i += more;
		}
	}
	l->diff = diff;
	l->want = want;
	return 0;
}

/* pages[] against PTEs; also: are they one run of frames? */
static long pages_of_ptes(u32 k, void *arg)
{
	struct page_loop *l = arg;
	struct context *c = l->c;
	u64 diff = l->diff, all = l->all, run = l->run, first = l->first, e, a;
	u64 n = l->n, i = (u64)k * CHUNK;

	if (!c || i >= n)
		return 1;
	if (i + CHUNK <= n) {
		u64 *pte = &c->snap.pte[i & (BATCH_PAGES - CHUNK)];
		u64 *page = &c->buf[i & (BATCH_PAGES - CHUNK)];

#pragma unroll
		for (u32 j = 0; j < CHUNK; j++) {
			e = pte[j];
			all &= e;
			a = e & fmt.addr_mask;
			diff |= page[j] ^ (vmemmap + (a >> 6));
			run |= a ^ first;
			first += PAGE_BYTES;
			/* one after the other: else all is read first, and spilled */
			barrier_var(first);
			barrier_var(diff);
			barrier_var(run);
		}
	} else {
		for (u32 j = 0; j < CHUNK; j++) {
			u64 more = more_after(i, n);

			e = c->snap.pte[i & (BATCH_PAGES - 1)];
			a = e & fmt.addr_mask;
			diff |= c->buf[i & (BATCH_PAGES - 1)] ^ (vmemmap + (a >> 6));
			run |= a ^ first;
			all &= e;
			first += more * PAGE_BYTES;
			i += more;
		}
	}
	l->diff = diff;
	l->all = all;
	l->run = run;
	l->first = first;
	return 0;
}

/*
 * Compare @ret pages of pages[] with the PTEs just read, all of them, without a
 * branch per page: what differs accumulates. Also learns whether the frames are
 * one run.
 */
static __noinline int compare_pages(struct context *c, u64 ret)
{
	struct page_loop p = { .c = c, .n = ret, .all = ~0ULL };
	struct claim_loop l = { .c = c, .n = ret, .match = opaque_zero, .unv = opaque_zero };
	struct snap *s;
	u64 bytes;

	if (!c || !ret || ret > BATCH_PAGES)
		return 0;
	s = &c->snap;
	bytes = ret * 8;
	barrier_var(bytes);
	if (bytes > BATCH_PAGES * 8)
		return 0;
	if (!c->claim_pages_ptr || !vmemmap ||
	    bpf_probe_read_kernel(c->buf, bytes, (void *)c->claim_pages_ptr)) {
		claim_unverified(c, ret);
		return 0;
	}
	if (page_struct_bytes == 64 && s->pages >= ret) {
		if (s->nsegs == 1 && s->seg[0].level > 1) {
			p.all = s->seg[0].entry;
			p.want =
				vmemmap + cpu_leaf_pfn(FMT, s->seg[0].level & 3, p.all, s->va) * 64;
			bpf_loop(BATCH_PAGES / CHUNK, pages_of_leaf, &p, 0);
		} else if (s->seg[0].level == 1 &&
			   (s->nsegs == 1 || (s->nsegs == 2 && s->seg[1].level == 1))) {
			p.first = s->pte[0] & fmt.addr_mask;
			bpf_loop(BATCH_PAGES / CHUNK, pages_of_ptes, &p, 0);
			s->contig = !p.run && (p.all & CPU_P);
			s->writable = cpu_writable(p.all);
		} else {
			p.diff = 1;
		}
		if (!p.diff && (p.all & CPU_P) &&
		    (!(c->claim_prot & IOMMU_WRITE) || cpu_writable(p.all))) {
			s->claimed = 1;
			tally(c, PFNW_S_CLAIM_MATCH, ret);
			return 0;
		}
		s->contig = 0;
	}
	find_vma_of(c, c->claim_va);
	bpf_loop(BATCH_PAGES, claim_page, &l, 0);
	if (l.match)
		tally(c, PFNW_S_CLAIM_MATCH, l.match);
	if (l.unv)
		claim_unverified(c, l.unv);
	return 0;
}

/* Exit of pin_user_pages_remote(): mmap_lock is held and the pages are pinned. */
static __always_inline int pinned(void *ctx, long ret)
{
	struct context *c = inside();

	if (!c || !c->in_claim || ret <= 0)
		return 0;
	if (ret > BATCH_PAGES) /* no kernel asks for more; the exit will look again */
		return 0;
	take_snapshot(c, c->claim_va, ret);
	c->snap.locked = 1;
	c->in_claim = LEG_GUP;
	c->n_stack = 0;
	compare_pages(c, ret);
	return 0;
}

SEC("?fexit/pin_user_pages_remote")
int BPF_PROG(pin_out)
{
	u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return pinned(ctx, (long)ret);
}

/* Seven arguments until 54d020692b34 (6.5): no trampoline for it on 6.1. */
SEC("?kretprobe/pin_user_pages_remote")
int BPF_KRETPROBE(pin_out_kret, long ret)
{
	return pinned(ctx, ret);
}

/*
 * The PFNMAP leg: the PTL is held, the leaf cannot change. From 0fd06844de5d (6.15)
 * on the kernel takes all of a huge leaf that the claim asks for.
 */
static __always_inline int followed(long ret)
{
	struct context *c = inside();
	struct seg *g;
	u64 n;

	if (!c || !c->in_claim || ret)
		return 0;
	take_snapshot(c, c->claim_va, 1);
	g = &c->snap.seg[0];
	if (c->snap.pages && (g->level == 2 || g->level == 3)) {
		n = cpu_leaf_rest(c->claim_va, g->level);
		c->snap.pages = g->pages = n < c->claim_asked ? n : c->claim_asked;
	}
	c->snap.locked = 1;
	c->snap.pfnmap = 1;
	c->in_claim = LEG_PFNMAP;
	return 0;
}

SEC("?fexit/follow_pte")
int BPF_PROG(follow_pte_out)
{
	u64 ret = 1;

	bpf_get_func_ret(ctx, &ret);
	return followed((int)ret);
}

SEC("?fexit/follow_pfnmap_start")
int BPF_PROG(follow_pfnmap_out, struct follow_pfnmap_args *args, int ret)
{
	return followed(ret);
}

/* 1: reserved or without a struct page, 0: an ordinary page, 2: cannot tell. */
static __noinline int pfn_reserved(u64 pfn)
{
	u64 flags = 0, page = vmemmap + pfn * page_struct_bytes;

	if (!vmemmap || pg_reserved_bit > 63)
		return 2;
	if (bpf_probe_read_kernel(&flags, sizeof(flags), (void *)page))
		return 1; /* no memory map there: !pfn_valid() */
	if (flags == ~0ULL) /* poisoned: PF_POISONED_CHECK() */
		return 2;
	return !!(flags & (1ULL << pg_reserved_bit));
}

/* What 5cbf3264bc71 (5.7) replaced, would it be wrong for a page at @pfn? */
static __always_inline void note_linear(struct context *c, u64 pfn)
{
	u64 linear;

	count(PFNW_S_LINEAR, 1);
	if (!c->vma.valid)
		return;
	linear = ((c->claim_va - c->vma.start) >> PFNW_PAGE_SHIFT) + c->vma.pgoff;
	if (linear != pfn)
		count(PFNW_S_LINEAR_WRONG, 1);
}

static __noinline int send_claim(struct context *c, long ret, u64 pfn, u32 reserved)
{
	struct pfnw_ev_claim *r;
	u64 e = 0;

	if (!c)
		return 0;
	r = reserve(sizeof(*r));
	if (!r)
		return 0;
	if (c->group == PFNW_NO_GROUP)
		find_group(c, 0);
	fill_hdr(&r->h, PFNW_EV_CLAIM, c);
	r->va = c->claim_va;
	r->pfn = pfn;
	r->latency_ns = bpf_ktime_get_ns() - c->claim_t0;
	r->ret = ret;
	r->asked_pages = c->claim_asked;
	r->diff_pages = c->claim_diff;
	r->unverified_pages = c->claim_unv;
	r->match_pages = ret > 0 && ret > c->claim_diff + c->claim_unv ?
				 ret - c->claim_diff - c->claim_unv :
				 0;
	r->prot = c->claim_prot;
	r->pfnmap = c->snap.pfnmap;
	r->reserved = reserved;
	r->pad[0] = r->pad[1] = 0;
	r->snap.level = ret > 0 ? snap_leaf(&c->snap, c->claim_va, &e) : 0;
	r->snap.entry = e;
	r->snap.locked = c->snap.locked;
	r->snap.claimed = c->snap.claimed;
	__builtin_memset(r->snap.pad, 0, sizeof(r->snap.pad));
	cpu_walk(c->pgd, c->claim_va, &r->walk);
	r->vma = c->vma;
	submit(r);
	return 0;
}

#define VM_PFNMAP 0x00000400UL

/*
 * No hook inside has spoken: it is missing on this kernel, or the kernel skipped
 * it. What came out of which leg follows from the VMA; the reading is late.
 */
static __noinline int late_reading(struct context *c, u64 n)
{
	if (!c)
		return LEG_NONE;
	find_vma_of(c, c->claim_va);
	take_snapshot(c, c->claim_va, n);
	if (!c->vma.valid)
		return LEG_NONE;
	if (c->vma.flags & VM_PFNMAP) {
		c->snap.pfnmap = 1;
		return LEG_PFNMAP;
	}
	compare_pages(c, n);
	return LEG_GUP;
}

/* The first page was counted by its pages[0]; now it is counted by *pfn. */
static __always_inline void uncount_first(struct context *c)
{
	if (c->claim_unv)
		claim_unverified(c, -1ULL);
	else
		tally(c, PFNW_S_CLAIM_MATCH, -1ULL);
}

/*
 * Exit of vaddr_get_pfns(): *pfn is what the caller will use for the first page;
 * the PFNMAP leg has nothing else. pages[] was compared at the exit of GUP.
 */
SEC("?fexit/vaddr_get_pfns")
int BPF_PROG(claim_out, struct mm_struct *mm, unsigned long va)
{
	struct context *c = inside();
	u64 pfn = 0, want = 0, e = 0, n, rfunc = 0;
	u32 writable = 0, reserved = 2, rules = 0, leg;
	long ret;
	int level;

	if (!c || !c->in_claim)
		return 0;
	bpf_get_func_ret(ctx, &rfunc);
	/* int until 6.14, long after: the sign is in the low half either way */
	ret = (int)rfunc;
	leg = c->in_claim;
	c->in_claim = LEG_NONE;
	if (ret <= 0) {
		count(PFNW_S_CLAIMS_FAILED, 1);
		c->snap.pages = 0;
		if (want_claims) {
			find_vma_of(c, c->claim_va);
			send_claim(c, ret, 0, 2);
		}
		return 0;
	}
	n = ret;
	if (bpf_probe_read_kernel(&pfn, sizeof(pfn), (void *)c->claim_pfn_ptr))
		pfn = ~0ULL;
	c->claim_pfn = pfn;
	c->claim_end = c->claim_va + n * PAGE_BYTES;
	tally(c, PFNW_S_CLAIMS, 1);
	tally(c, PFNW_S_CLAIM_PAGES, n);
	if (leg == LEG_SILENT)
		leg = late_reading(c, n);
	else if (leg == LEG_PFNMAP && n > c->snap.pages) {
		/* more than the leaf that was read: no kernel does that */
		take_snapshot(c, c->claim_va, n);
		c->snap.pfnmap = 1;
	} else if (leg == LEG_PFNMAP) {
		/* 6.12 takes one page of a huge leaf at a time */
		c->snap.pages = c->snap.seg[0].pages = n;
	}
	if (c->snap.locked)
		tally(c, PFNW_S_CLAIM_LOCKED, n);
	level = snap_leaf(&c->snap, c->claim_va, &e);
	if (leaf_frame(level, e, c->claim_va, &want, &writable)) {
		if (pfn != want)
			rules |= PFNW_RULE_PFN;
		if ((c->claim_prot & IOMMU_WRITE) && !writable && leg != LEG_GUP)
			rules |= PFNW_RULE_PROT;
	}
	if (leg == LEG_PFNMAP) {
		find_vma_of(c, c->claim_va);
		reserved = pfn_reserved(pfn);
		if (!reserved)
			rules |= PFNW_RULE_NOT_RESERVED;
		if (level)
			note_linear(c, want);
	}
	if (leg == LEG_GUP && c->claim_first_diff)
		rules = 0; /* said already, of pages[0] */
	if (rules) {
		find_vma_of(c, c->claim_va);
		save_stack(ctx, c);
		claim_differs(c, c->claim_va, pfn, rules);
		if (leg == LEG_GUP) /* pages[0] is right, *pfn is not: one page, one verdict */
			uncount_first(c);
	}
	if (leg != LEG_GUP) {
		/* one frame, or the rest of one leaf: the first speaks for all */
		if (!want || (leg == LEG_NONE && n > 1))
			claim_unverified(c, rules ? n - 1 : n);
		else if (!rules)
			tally(c, PFNW_S_CLAIM_MATCH, n);
		else if (n > 1)
			claim_unverified(c, n - 1);
	}
	if (want_claims) {
		find_vma_of(c, c->claim_va);
		send_claim(c, ret, pfn, reserved);
	}
	return 0;
}
