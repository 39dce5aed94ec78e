/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the loader asks: which containers, vfio_dmas and domains there are, and do both
 * tables agree there (both.bpf.h)? What differs is told as raw entries, for the loader to
 * look at again.
 */

struct pfnw_find find_arg;
struct pfnw_list_dmas dmas_arg;
struct pfnw_list_domains domains_arg;
struct pfnw_compare compare_arg;
struct pfnw_frame frame_arg;
struct pfnw_list_vmas vmas_arg;
struct pfnw_dump dump_arg;

/* The step differs somewhere: page by page, or whole where both sides are one thing. */
static long page_step(u32 k, void *arg)
{
	struct pfnw_compare *a = &compare_arg;
	struct both *b = both_of_loader();
	struct pfnw_odd *last;
	u64 n = 1, off, i;
	u32 d;

	if (!b || b->at >= b->n)
		return 1;
	i = b->at;
	d = page_differs(b, i);
	if (b->cpu.what != SIDE_TABLE && b->io.what != SIDE_TABLE)
		n = b->n - i;
	if (!d) {
		a->equal_pages += n;
		b->at = i + n;
		return 0;
	}
	off = (b->iova + i * PAGE_BYTES - a->iova) >> PFNW_PAGE_SHIFT;
	if (a->n_odd > 0 && a->n_odd <= PFNW_ODDS) {
		last = &a->odd[(a->n_odd - 1) & (PFNW_ODDS - 1)];
		if (last->off_pages + last->n_pages == off && last->differs == d) {
			last->n_pages += n;
			b->at = i + n;
			return 0;
		}
	}
	if (a->n_odd >= PFNW_ODDS) {
		b->full = 1;
		return 1;
	}
	last = &a->odd[a->n_odd & (PFNW_ODDS - 1)];
	*last = b->odd;
	last->off_pages = off;
	last->n_pages = n;
	last->differs = d;
	a->n_odd++;
	b->at = i + n;
	return 0;
}

/* At most 2 MiB, or one leaf of both sides. */
static long compare_step(u32 k, void *arg)
{
	struct pfnw_compare *a = &compare_arg;
	struct both *b = both_of_loader();
	u64 n;

	if (!b || !b->left || b->full)
		return 1;
	if (line_equal(b)) {
		n = LINE * 512;
		a->equal_pages += n;
		both_go_on(b, n);
		return 0;
	}
	look_both(b);
	n = b->n;
	if (step_equal(b)) {
		a->equal_pages += n;
	} else {
		/* (one leaf on both sides: one turn) */
		b->at = 0;
		bpf_loop(512, page_step, NULL, 0);
		n = b->at;
	}
	both_go_on(b, n);
	return 0;
}

/* ---- is what we look at still what it was? ---- */

/* The container that the loader's own file descriptor @fd refers to; 0: none. */
static __always_inline u64 container_of_fd(int fd)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct vfio_container *k;
	struct file **files, *f = NULL;

	if (fd < 0 || (u32)fd >= BPF_CORE_READ(t, files, fdt, max_fds))
		return 0;
	files = BPF_CORE_READ(t, files, fdt, fd);
	if (bpf_probe_read_kernel(&f, sizeof(f), files + fd) || !f)
		return 0;
	k = BPF_CORE_READ(f, private_data);
	return k ? (u64)BPF_CORE_READ(k, iommu_data) : 0;
}

/*
 * Is the container there? Held by a file descriptor, its vfio_container cannot go, and
 * says whether it still has this vfio_iommu. Otherwise the hook at its release says it.
 */
__noinline int container_alive(u64 container, u64 generation, int fd)
{
	struct pfnw_container *k;

	if (fd >= 0)
		return container_of_fd(fd) == container;
	k = bpf_map_lookup_elem(&containers, &container);
	return k && k->generation == generation;
}

/* Whatever maps or unmaps in a container does it under its lock. */
static __always_inline bool lock_held(u64 container)
{
	struct vfio_iommu *i = (void *)container;

	/* (the low bits of an owner are flags of the mutex) */
	return BPF_CORE_READ(i, lock.owner.counter) & ~7LL;
}

/*
 * A number that differs when a vfio_dma was unmapped in between; 0: one is being
 * unmapped now, or may be. (One that is being mapped only grows, and its size is looked
 * at. Unmapping holds the container's lock.)
 */
static __always_inline u64 quiet_mark(u64 container)
{
	struct pfnw_container *k = bpf_map_lookup_elem(&containers, &container);
	u64 begun = k ? k->unmaps_begun : 0, ended = k ? k->unmaps_ended : 0;
	bool held;

	barrier();
	held = lock_held(container);
	if (!k || !unmaps_seen)
		return held ? 0 : k ? k->begun + 1 : 1;
	if (!held) {
		k->seen_free = 1;
		/* none is under way, whatever end was not seen */
		if (ended < begun)
			__sync_val_compare_and_swap(&k->unmaps_ended, ended, begun);
	}
	if (!k->seen_free || k->unmaps_begun != k->unmaps_ended)
		return 0;
	return k->unmaps_begun + 1;
}

static __always_inline u64 mm_of_dma(struct vfio_dma *d)
{
	/* until c8fc8e3ae5f5 (6.2, and in stable kernels) only the task was kept */
	if (bpf_core_field_exists(d->mm))
		return (u64)BPF_CORE_READ(d, mm);
	return (u64)BPF_CORE_READ(d, task, mm);
}

/* Is compare_arg's vfio_dma in the tree, and the same? (A tree being turned may hide it.) */
__noinline int dma_same(struct pfnw_compare *a)
{
	struct dma_head h = {};
	u64 d;

	if (!a)
		return 0;
	d = dma_from(a->container, a->iova, &h);
	/* (unmapped, and still in the tree for a moment; or not yet mapped to its end) */
	if (!d || !DMA_FIELD(&h, d, iommu_mapped))
		return 0;
	return d == a->dma && DMA_FIELD(&h, d, iova) == a->iova &&
	       DMA_FIELD(&h, d, vaddr) == a->va && DMA_FIELD(&h, d, size) == a->bytes &&
	       DMA_FIELD(&h, d, prot) == a->prot && mm_of_dma((void *)d) == a->mm;
}

/*
 * Is compare_arg's domain in use? One of several is freed before it leaves the list,
 * under the container's lock; the last one is emptied before, by unmaps.
 */
__noinline int domain_same(struct pfnw_compare *a)
{
	struct vfio_iommu *c;
	struct list_head *head, *at;
	bool there = false;
	int n = 0;

	if (!a)
		return 0;
	c = (void *)a->container;
	head = &c->domain_list;
	at = BPF_CORE_READ(c, domain_list.next);
	for (; n < PFNW_LIST_DOMAINS && at && at != head; n++) {
		struct vfio_domain *d =
			(void *)at - bpf_core_field_offset(struct vfio_domain, next);

		if ((u64)BPF_CORE_READ(d, domain) == a->domain)
			there = true;
		at = BPF_CORE_READ(at, next);
	}
	return there && (n == 1 || !lock_held(a->container));
}

/* ---- the programs ---- */

SEC("?syscall")
int find_container(void *ctx)
{
	struct pfnw_find *a = &find_arg;
	struct pfnw_container *k;
	u64 c;

	c = container_of_fd(a->fd);
	a->container = c;
	a->generation = 0;
	if (!c)
		return 0;
	k = bpf_map_lookup_elem(&containers, &c);
	if (k)
		a->generation = k->generation;
	return 0;
}

/* Make a container known that was there before we were: its changes count from now. */
SEC("?syscall")
int know_container(void *ctx)
{
	struct pfnw_container *k = container_of_call(find_arg.container);

	find_arg.generation = k ? k->generation : 0;
	return 0;
}

#define PF_EXITING 0x00000004 /* include/linux/sched.h */

struct dmas_loop {
	u64 from;
};

static long list_step(u32 i, void *arg)
{
	struct pfnw_list_dmas *a = &dmas_arg;
	struct dmas_loop *l = arg;
	struct dma_head h = {};
	struct vfio_dma *d;
	struct pfnw_dma *o;
	struct mm_struct *mm;
	u32 n = a->n;

	if (n >= PFNW_LIST_DMAS) {
		a->more = 1;
		return 1;
	}
	d = (void *)dma_from(a->container, l->from, &h);
	if (!d)
		return 1;
	o = &a->dma[n & (PFNW_LIST_DMAS - 1)];
	o->dma = (u64)d;
	o->iova = DMA_FIELD(&h, d, iova);
	o->va = DMA_FIELD(&h, d, vaddr);
	o->bytes = DMA_FIELD(&h, d, size);
	o->prot = DMA_FIELD(&h, d, prot);
	o->mapped = DMA_FIELD(&h, d, iommu_mapped);
	o->tgid = BPF_CORE_READ(d, task, tgid);
	BPF_CORE_READ_INTO(&o->comm, d, task, comm);
	mm = (void *)mm_of_dma(d);
	o->mm = (u64)mm;
	o->mm_users = mm ? BPF_CORE_READ(mm, mm_users.counter) : 0;
	/* (the first thread may be over long before the last one closes the files of all) */
	o->leaving = BPF_CORE_READ(d, task, flags) & PF_EXITING &&
		     (!BPF_CORE_READ(d, task, exit_state) ||
		      BPF_CORE_READ(d, task, signal, nr_threads) > 1);
	a->n = n + 1;
	if (o->iova + o->bytes <= o->iova || o->iova < l->from)
		return 1; /* the last page there is; or a tree in motion */
	l->from = o->iova + o->bytes;
	return 0;
}

SEC("?syscall")
int list_dmas(void *ctx)
{
	struct pfnw_list_dmas *a = &dmas_arg;
	struct dmas_loop l = { .from = a->from };

	a->n = opaque_zero;
	a->more = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!container_alive(a->container, a->generation, a->fd))
		return 0;
	bpf_loop(PFNW_LIST_DMAS + 1, list_step, &l, 0);
	if (container_alive(a->container, a->generation, a->fd))
		a->status = PFNW_AUDIT_OK;
	return 0;
}

struct list_loop {
	struct list_head *head, *at;
	struct list_head *ghead, *gat;
	u64 domain;
};

static long domain_step(u32 i, void *arg)
{
	struct pfnw_list_domains *a = &domains_arg;
	struct both *b = both_of_loader();
	struct list_loop *l = arg;
	struct vfio_iommu_group *g;
	struct vfio_domain *d;
	struct pfnw_domain *o;
	u32 n;

	if (!b)
		return 1;
	if (l->gat && l->gat != l->ghead) {
		g = (void *)l->gat - bpf_core_field_offset(struct vfio_iommu_group, next);
		n = a->n_groups;
		if (n < PFNW_LIST_GROUPS) {
			a->group[n & (PFNW_LIST_GROUPS - 1)].domain = l->domain;
			a->group[n & (PFNW_LIST_GROUPS - 1)].group =
				BPF_CORE_READ(g, iommu_group, id);
			a->n_groups = n + 1;
		}
		l->gat = BPF_CORE_READ(g, next.next);
		return 0;
	}
	n = a->n_domains;
	if (!l->at || l->at == l->head || n >= PFNW_LIST_DOMAINS)
		return 1;
	d = (void *)l->at - bpf_core_field_offset(struct vfio_domain, next);
	o = &a->domain[n & (PFNW_LIST_DOMAINS - 1)];
	l->domain = (u64)BPF_CORE_READ(d, domain);
	o->domain = l->domain;
	b->t.domain = l->domain;
	o->kind = find_iotable(&b->t);
	o->levels = b->t.levels;
	a->n_domains = n + 1;
	l->ghead = &d->group_list;
	l->gat = BPF_CORE_READ(d, group_list.next);
	o->group = PFNW_NO_GROUP;
	if (l->gat && l->gat != l->ghead) {
		g = (void *)l->gat - bpf_core_field_offset(struct vfio_iommu_group, next);
		o->group = BPF_CORE_READ(g, iommu_group, id);
	}
	l->at = BPF_CORE_READ(d, next.next);
	return 0;
}

SEC("?syscall")
int list_domains(void *ctx)
{
	struct pfnw_list_domains *a = &domains_arg;
	struct vfio_iommu *container = (void *)a->container;
	struct list_loop l = {};

	a->n_domains = opaque_zero;
	a->n_groups = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!container_alive(a->container, a->generation, a->fd))
		return 0;
	a->held = lock_held(a->container);
	l.domain = opaque_zero;
	l.gat = l.ghead = (void *)opaque_zero;
	l.head = &container->domain_list;
	l.at = BPF_CORE_READ(container, domain_list.next);
	bpf_loop(PFNW_LIST_DOMAINS + PFNW_LIST_GROUPS + 1, domain_step, &l, 0);
	if (container_alive(a->container, a->generation, a->fd))
		a->status = PFNW_AUDIT_OK;
	return 0;
}

SEC("?syscall")
int compare(void *ctx)
{
	struct pfnw_compare *a = &compare_arg;
	struct mm_struct *mm = (void *)a->mm;
	struct both *b = both_of_loader();
	u64 mark;

	a->n_odd = opaque_zero;
	a->done_pages = opaque_zero;
	a->equal_pages = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!b || !container_alive(a->container, a->generation, a->fd))
		return 0;
	a->status = PFNW_AUDIT_CHANGED;
	/* first the mark: what is mapped then, and is not unmapped, stays mapped */
	mark = quiet_mark(a->container);
	if (!dma_same(a))
		return 0;
	a->status = PFNW_AUDIT_UNKNOWN;
	b->t.domain = a->domain;
	if (!find_iotable(&b->t))
		return 0;
	b->pgd = (u64)BPF_CORE_READ(mm, pgd);
	both_begin(b, a->va + a->off_pages * PAGE_BYTES, a->iova + a->off_pages * PAGE_BYTES,
		   a->n_pages, a->prot);
	b->full = 0;
	bpf_loop(1 << 23, compare_step, NULL, 0);
	a->done_pages = a->n_pages - b->left;
	a->status = PFNW_AUDIT_OK;
	if (!container_alive(a->container, a->generation, a->fd))
		a->status = PFNW_AUDIT_GONE;
	else if (!dma_same(a))
		a->status = PFNW_AUDIT_CHANGED;
	else if (!mark || quiet_mark(a->container) != mark || !domain_same(a))
		a->status = PFNW_AUDIT_BUSY;
	return 0;
}

/* The runs of a table of level 1, or one leaf. */
static __always_inline int add_run(u64 iova, u64 pa, u64 pages, u32 rights)
{
	struct pfnw_dump *a = &dump_arg;
	u32 n = a->n;

	if (n > 0 && n <= PFNW_DUMP_RUNS) {
		u32 last = (n - 1) & (PFNW_DUMP_RUNS - 1);

		if (a->run[last].iova + a->run[last].pages * PAGE_BYTES == iova &&
		    a->run[last].pfn + a->run[last].pages == pa >> PFNW_PAGE_SHIFT &&
		    a->run[last].rights == rights) {
			a->run[last].pages += pages;
			return 0;
		}
	}
	if (n >= PFNW_DUMP_RUNS)
		return 1;
	a->run[n & (PFNW_DUMP_RUNS - 1)].iova = iova;
	a->run[n & (PFNW_DUMP_RUNS - 1)].pfn = pa >> PFNW_PAGE_SHIFT;
	a->run[n & (PFNW_DUMP_RUNS - 1)].pages = pages;
	a->run[n & (PFNW_DUMP_RUNS - 1)].rights = rights;
	a->n = n + 1;
	return 0;
}

struct dump_loop {
	u64 i;
};

static long dump_entry(u32 k, void *arg)
{
	struct pfnw_dump *a = &dump_arg;
	struct dump_loop *l = arg;
	struct both *b = both_of_loader();
	u64 iova, e;
	u32 rights;

	if (!b || l->i >= b->n)
		return 1;
	iova = b->iova + l->i * PAGE_BYTES;
	e = b->io_l1[l->i & 511];
	rights = b->io.rights & iommu_rights(&b->t.f, e);
	if (iommu_entry(&b->t.f, 1, e) == IOMMU_ENTRY_LEAF) {
		if (add_run(iova, io_entry_pa(b, e, iova), 1, rights)) {
			b->full = 1;
			return 1;
		}
		a->leaf_pages[iommu_leaf_mask(&b->t.f, 1, e) > PAGE_BYTES ? 3 : 0]++;
	}
	l->i++;
	return 0;
}

static long dump_step(u32 k, void *arg)
{
	struct pfnw_dump *a = &dump_arg;
	struct dump_loop l = { .i = opaque_zero };
	struct both *b = both_of_loader();
	u64 n, bytes;

	if (!b || !b->left || b->full)
		return 1;
	look_io(b);
	n = b->io.n < b->left ? b->io.n : b->left;
	if (!n)
		n = 1;
	b->n = n;
	if (b->io.what == SIDE_TABLE) {
		bpf_loop(512, dump_entry, &l, 0);
		n = l.i;
	} else if (b->io.what == SIDE_LEAF) {
		if (add_run(b->iova, b->io.pa, n, b->io.rights)) {
			b->full = 1;
			return 1;
		}
		bytes = b->t.f.kind == PFNW_IOMMU_VIRTIO ?
				b->t.node_last - b->t.node_start + 1 :
				iommu_leaf_mask(&b->t.f, b->io.level, b->io.entry) + 1;
		a->leaf_pages[bytes == 4096	  ? 0 :
			      bytes == 2ULL << 20 ? 1 :
			      bytes == 1ULL << 30 ? 2 :
						    3] += n;
	} else if (b->io.what == SIDE_FAULT) {
		a->unread += n;
	}
	both_go_on(b, n);
	return 0;
}

SEC("?syscall")
int dump_runs(void *ctx)
{
	struct pfnw_dump *a = &dump_arg;
	struct both *b = both_of_loader();

	a->n = opaque_zero;
	a->unread = opaque_zero;
	a->done_pages = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!b || !container_alive(a->container, a->generation, a->fd))
		return 0;
	a->status = PFNW_AUDIT_UNKNOWN;
	b->t.domain = a->domain;
	if (!find_iotable(&b->t))
		return 0;
	both_begin(b, 0, a->iova, a->n_pages, 0);
	b->full = 0;
	bpf_loop(1 << 23, dump_step, NULL, 0);
	a->done_pages = a->n_pages - b->left;
	a->status = container_alive(a->container, a->generation, a->fd) ? PFNW_AUDIT_OK :
									  PFNW_AUDIT_GONE;
	return 0;
}

/*
 * page[0] of the compound page. The word behind flags has bit 0 set in a tail page:
 * the rest is the head's address, or, in vmemmap whose tails are shared, a mask of
 * it (since 7.1).
 */
static __always_inline u64 head_of(u64 page)
{
	u64 info = 0;

	if (bpf_probe_read_kernel(&info, sizeof(info), (void *)(page + 8)) || !(info & 1))
		return page;
	info--;
	return info >= vmemmap && info <= page ? info : page & info;
}

SEC("?syscall")
int frame_facts(void *ctx)
{
	struct pfnw_frame *a = &frame_arg;
	u64 page = vmemmap + a->pfn * page_struct_bytes, head, zero = huge_zero_frame();
	struct folio *f;

	a->known = 0;
	a->mapping = 0;
	a->index = 0;
	a->reserved = pfn_reserved(a->pfn);
	a->zero = zero && zero != ~0ULL && a->pfn - zero < 512;
	if (!vmemmap || bpf_probe_read_kernel(&head, sizeof(head), (void *)page))
		return 0;
	head = head_of(page);
	f = (void *)head;
	a->known = 1;
	a->mapping = (u64)BPF_CORE_READ(f, mapping);
	a->index = BPF_CORE_READ(f, index) + (page - head) / page_struct_bytes;
	return 0;
}

SEC("?iter/task_vma")
int list_vmas(struct bpf_iter__task_vma *it)
{
	struct task_struct *t = it->task;
	struct vm_area_struct *v = it->vma;
	struct pfnw_vma_file o = {};
	struct file *f;

	if (!t || !v || t->tgid != vmas_arg.tgid || t->pid != t->tgid)
		return 0;
	vmas_arg.n_all++;
	if (v->vm_end <= vmas_arg.lo || v->vm_start >= vmas_arg.hi)
		return 0;
	o.vma.start = v->vm_start;
	o.vma.end = v->vm_end;
	o.vma.flags = BPF_CORE_READ(v, vm_flags);
	o.vma.pgoff = v->vm_pgoff;
	o.vma.valid = 1;
	f = v->vm_file;
	if (f)
		o.mapping = (u64)BPF_CORE_READ(f, f_mapping);
	bpf_seq_write(it->meta->seq, &o, sizeof(o));
	return 0;
}
