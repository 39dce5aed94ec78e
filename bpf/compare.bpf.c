/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Both tables at once: does the IOMMU translate each IOVA of a vfio_dma to the frame
 * that its VA names? Nothing is locked. Tables are copied whole, a page of 512 entries
 * at a time, and compared without a branch per page; what is equal is settled, and
 * what differs is told as raw entries, for the loader to look at again.
 */

struct side {
	u64 table; /* kernel VA of the table of level 2 that l2[] was copied from */
	u64 tag; /* va >> 30, or iova >> 30, of l2[]; ~0: none */
	u64 n; /* pages to the end of what was found */
	u64 entry; /* raw, of a leaf or of what ended the walk */
	u64 pa; /* bytes: of the first page, where one leaf translates all n */
	u32 what; /* enum side_what */
	u32 level; /* of .entry */
	u32 rights; /* IOMMU: of all levels but the table's */
	u32 pad;
};

enum side_what { SIDE_FAULT, SIDE_NONE, SIDE_AWAY, SIDE_LEAF, SIDE_TABLE };

struct cmp {
	u64 pgd;
	u64 va, iova; /* bytes; where we are */
	u64 left; /* pages */
	u64 n; /* pages of the step under way */
	u32 prot;
	u32 full; /* no room for more differences */
	struct side cpu, io;
};

static u64 cpu_l2[512], cpu_l1[512], io_l2[512], io_l1[512];
static struct cmp cmp;
static struct iotable cmp_io;

struct pfnw_find find_arg;
struct pfnw_list_dmas dmas_arg;
struct pfnw_list_domains domains_arg;
struct pfnw_compare compare_arg;
struct pfnw_frame frame_arg;
struct pfnw_list_vmas vmas_arg;
struct pfnw_dump dump_arg;

static __always_inline u64 rest_of(u64 va, int level)
{
	u64 span = 1ULL << (9 * (level - 1));

	return span - ((va >> PFNW_PAGE_SHIFT) & (span - 1));
}

/* What the CPU's tables say of z->va. */
__noinline int look_cpu(struct cmp *z)
{
	u64 table, e = 0, va, n, bytes;
	struct side *s;

	if (!z)
		return 0;
	s = &z->cpu;
	va = z->va;
	s->what = SIDE_FAULT;
	s->n = 1;
	s->level = 0;
	s->entry = 0;
	if (s->tag != va >> 30) {
		s->tag = ~0ULL;
		table = z->pgd;
#pragma unroll
		for (int level = 5; level >= 3; level--) {
			if (level > fmt.levels)
				continue;
			if (bpf_probe_read_kernel(&e, sizeof(e),
						  (void *)(table + 8 * (u64)cpu_index(va, level))))
				return 0;
			if (!cpu_present(level, e) || cpu_is_leaf(level, e)) {
				s->n = rest_of(va, level);
				s->level = level;
				s->entry = e;
				s->what = cpu_present(level, e) ? SIDE_LEAF :
					  e			? SIDE_AWAY :
								  SIDE_NONE;
				s->pa = cpu_leaf_pfn(FMT, 3, e, va) << PFNW_PAGE_SHIFT;
				return 0;
			}
			table = page_offset + cpu_table(FMT, e);
		}
		if (bpf_probe_read_kernel(cpu_l2, sizeof(cpu_l2), (void *)table))
			return 0;
		s->tag = va >> 30;
	}
	e = cpu_l2[cpu_index(va, 2)];
	s->entry = e;
	s->level = 2;
	s->n = rest_of(va, 2);
	if (!cpu_present(2, e)) {
		s->what = e ? SIDE_AWAY : SIDE_NONE;
		return 0;
	}
	if (cpu_is_leaf(2, e)) {
		s->what = SIDE_LEAF;
		s->pa = cpu_leaf_pfn(FMT, 2, e, va) << PFNW_PAGE_SHIFT;
		return 0;
	}
	n = s->n < z->left ? s->n : z->left;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > sizeof(cpu_l1))
		return 0;
	table = page_offset + cpu_table(FMT, e);
	if (bpf_probe_read_kernel(cpu_l1, bytes, (void *)(table + 8 * (u64)cpu_index(va, 1))))
		return 0;
	s->what = SIDE_TABLE;
	s->level = 1;
	return 0;
}

static __always_inline int look_virtio(struct cmp *z, struct side *s)
{
	struct iotable *t = &cmp_io;
	int got = 1;

	/* the node of the last step, mostly */
	if (z->iova < t->node_start || z->iova > t->node_last || s->tag == ~0ULL)
		got = virtio_next(t, z->iova);
	s->tag = 0;
	s->n = z->left;
	s->what = got < 0 ? SIDE_FAULT : SIDE_NONE;
	if (got <= 0) {
		s->tag = ~0ULL;
		return 0;
	}
	if (t->node_start > z->iova) {
		s->n = (t->node_start - z->iova) >> PFNW_PAGE_SHIFT;
		return 0;
	}
	s->n = (t->node_last - z->iova + 1) >> PFNW_PAGE_SHIFT;
	s->what = SIDE_LEAF;
	s->level = 1;
	s->entry = t->node_pa;
	s->pa = t->node_pa + (z->iova - t->node_start);
	s->rights = t->node_flags & 3;
	return 0;
}

/* What the IOMMU's table says of z->iova. */
__noinline int look_io(struct cmp *z)
{
	struct iotable *t = &cmp_io;
	u64 table, e = 0, iova, n, bytes;
	struct side *s;
	int what;

	if (!z)
		return 0;
	s = &z->io;
	iova = z->iova;
	s->what = SIDE_FAULT;
	s->n = 1;
	s->level = 0;
	s->entry = 0;
	if (t->f.kind == PFNW_IOMMU_VIRTIO)
		return look_virtio(z, s);
	if (t->levels < 2)
		return 0;
	if (!iommu_in_reach(iova, t->levels)) {
		s->what = SIDE_NONE;
		s->n = z->left;
		return 0;
	}
	if (s->tag != iova >> 30) {
		u32 rights = 3;

		s->tag = ~0ULL;
		table = t->top;
#pragma unroll
		for (int level = PFNW_IO_LEVELS; level >= 3; level--) {
			if (level > t->levels)
				continue;
			if (bpf_probe_read_kernel(
				    &e, sizeof(e),
				    (void *)(table + 8 * (u64)iommu_index(iova, level))))
				return 0;
			what = iommu_entry(&t->f, level, e);
			rights &= iommu_rights(&t->f, e);
			if (what != IOMMU_ENTRY_TABLE) {
				s->entry = e;
				s->level = level;
				s->rights = rights;
				s->n = rest_of(iova, level);
				s->what = what == IOMMU_ENTRY_LEAF ? SIDE_LEAF :
					  what == IOMMU_ENTRY_NONE ? SIDE_NONE :
								     SIDE_FAULT;
				s->pa = iommu_leaf_pa(&t->f, level, e, iova);
				return 0;
			}
			table = page_offset + iommu_next(&t->f, e);
		}
		if (bpf_probe_read_kernel(io_l2, sizeof(io_l2), (void *)table))
			return 0;
		s->tag = iova >> 30;
		t->leaf_rights = rights;
	}
	e = io_l2[iommu_index(iova, 2)];
	what = iommu_entry(&t->f, 2, e);
	s->entry = e;
	s->level = 2;
	s->n = rest_of(iova, 2);
	s->rights = t->leaf_rights & iommu_rights(&t->f, e);
	if (what == IOMMU_ENTRY_LEAF) {
		s->what = SIDE_LEAF;
		s->pa = iommu_leaf_pa(&t->f, 2, e, iova);
		return 0;
	}
	if (what != IOMMU_ENTRY_TABLE) {
		s->what = what == IOMMU_ENTRY_NONE ? SIDE_NONE : SIDE_FAULT;
		return 0;
	}
	n = s->n < z->left ? s->n : z->left;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > sizeof(io_l1))
		return 0;
	table = page_offset + iommu_next(&t->f, e);
	if (bpf_probe_read_kernel(io_l1, bytes, (void *)(table + 8 * (u64)iommu_index(iova, 1))))
		return 0;
	s->what = SIDE_TABLE;
	s->level = 1;
	return 0;
}

struct zip {
	u64 n; /* pages */
	u64 iova; /* of the first */
	u64 want; /* bytes: physical address of the first, where one side is a leaf */
	u64 diff, all_cpu, all_io, any_io;
};

/* Two tables of level 1. */
static long zip_tables(u32 k, void *arg)
{
	struct zip *l = arg;
	u64 diff = l->diff, all_cpu = l->all_cpu, all_io = l->all_io, any_io = l->any_io, c, e;
	u64 n = l->n, i = (u64)k * CHUNK;

	if (i >= n)
		return 1;
	if (i + CHUNK <= n && i + CHUNK <= 512) {
		for (u32 j = 0; j < CHUNK; j++) {
			c = cpu_l1[(i & (511 & ~(CHUNK - 1))) + j];
			e = io_l1[(i & (511 & ~(CHUNK - 1))) + j];
			diff |= c ^ e;
			all_cpu &= c;
			all_io &= e;
			any_io |= e;
		}
	} else {
		for (u32 j = 0; j < CHUNK; j++) {
			c = cpu_l1[i & 511];
			e = io_l1[i & 511];
			diff |= c ^ e;
			all_cpu &= c;
			all_io &= e;
			any_io |= e;
			i += more_after(i, n);
		}
	}
	l->diff = diff;
	l->all_cpu = all_cpu;
	l->all_io = all_io;
	l->any_io = any_io;
	return 0;
}

/* A table of the CPU's against one leaf of the IOMMU's. */
static long zip_cpu(u32 k, void *arg)
{
	struct zip *l = arg;
	u64 diff = l->diff, all = l->all_cpu, want, c;
	u64 n = l->n, i = (u64)k * CHUNK;

	if (i >= n)
		return 1;
	want = l->want + i * PAGE_BYTES;
	for (u32 j = 0; j < CHUNK; j++) {
		u64 more = more_after(i, n);

		c = cpu_l1[i & 511];
		diff |= c ^ want;
		all &= c;
		want += more * PAGE_BYTES;
		i += more;
	}
	l->diff = diff & fmt.addr_mask;
	l->all_cpu = all;
	return 0;
}

/* Physical address that an entry of level 1 gives; AMD encodes larger leaves there. */
static __always_inline u64 io_entry_pa(u64 e, u64 iova)
{
	return iommu_leaf_pa(&cmp_io.f, 1, e, iova);
}

/* A table of the IOMMU's against one leaf of the CPU's, or with encoded entries. */
static long zip_io(u32 k, void *arg)
{
	struct zip *l = arg;
	u64 diff = l->diff, all = l->all_io, any = l->any_io, want, e, iova;
	u64 n = l->n, i = (u64)k * CHUNK;

	if (i >= n)
		return 1;
	want = l->want + i * PAGE_BYTES;
	iova = l->iova + i * PAGE_BYTES;
	for (u32 j = 0; j < CHUNK; j++) {
		u64 more = more_after(i, n);

		e = io_l1[i & 511];
		diff |= (io_entry_pa(e, iova) ^ want) & fmt.addr_mask;
		if (iommu_entry(&cmp_io.f, 1, e) != IOMMU_ENTRY_LEAF)
			diff |= 1;
		all &= e;
		any |= e;
		want += more * PAGE_BYTES;
		iova += more * PAGE_BYTES;
		i += more;
	}
	l->diff = diff;
	l->all_io = all;
	l->any_io = any;
	return 0;
}

/* Is the step under way, of z->n pages, equal in every page? */
__noinline int step_equal(struct cmp *z)
{
	struct iotable *t = &cmp_io;
	struct zip l = {};
	u64 all_cpu, all_io, any_io;
	u32 upper;

	if (!z)
		return 0;
	l.n = z->n;
	l.iova = z->iova;
	l.diff = opaque_zero;
	l.all_cpu = opaque_zero - 1;
	l.all_io = opaque_zero - 1;
	l.any_io = opaque_zero;
	upper = z->io.rights;
	if (z->cpu.what == SIDE_TABLE && z->io.what == SIDE_TABLE) {
		bpf_loop(512 / CHUNK, zip_tables, &l, 0);
		if (!t->f.huge && l.any_io & (7 << AMD_LEVEL_SHIFT))
			return 0; /* encoded leaves: entry by entry */
		l.diff &= fmt.addr_mask;
	} else if (z->cpu.what == SIDE_TABLE && z->io.what == SIDE_LEAF) {
		l.want = z->io.pa;
		bpf_loop(512 / CHUNK, zip_cpu, &l, 0);
		l.all_io = l.any_io = ~0ULL; /* the leaf's rights are in upper */
	} else if (z->cpu.what == SIDE_LEAF && z->io.what == SIDE_TABLE) {
		l.want = z->cpu.pa;
		bpf_loop(512 / CHUNK, zip_io, &l, 0);
		l.all_cpu = z->cpu.entry;
	} else if (z->cpu.what == SIDE_LEAF && z->io.what == SIDE_LEAF) {
		l.diff = z->cpu.pa ^ z->io.pa;
		l.all_cpu = z->cpu.entry;
		l.all_io = l.any_io = ~0ULL;
	} else {
		return 0;
	}
	all_cpu = l.all_cpu;
	all_io = l.all_io;
	any_io = l.any_io;
	if (l.diff || !(all_cpu & CPU_P))
		return 0;
	if (t->f.kind == PFNW_IOMMU_VIRTIO) {
		if ((z->io.rights ^ z->prot) & 3)
			return 0;
	} else {
		if (z->io.what == SIDE_TABLE && !(all_io & t->f.present))
			return 0;
		if (!rights_are(t, all_io, any_io, upper, z->prot))
			return 0;
	}
	return !(z->prot & IOMMU_WRITE) || cpu_writable(all_cpu);
}

/* enum pfnw_differs bits of page @i of the step; fills what odd[] shows of it. */
static __always_inline u32 page_differs(struct cmp *z, u64 i, struct pfnw_odd *o)
{
	struct iotable *t = &cmp_io;
	u64 ce = z->cpu.entry, ie = z->io.entry, cpa = 0;
	u32 what = z->cpu.what, rights = z->io.rights, d = 0, care = t->f.rights;

	o->io_pa = 0;
	o->cpu_level = z->cpu.level;
	o->io_level = z->io.level;
	if (what == SIDE_TABLE) {
		ce = cpu_l1[i & 511];
		what = cpu_present(1, ce) ? SIDE_LEAF : ce ? SIDE_AWAY : SIDE_NONE;
		cpa = cpu_leaf_pfn(FMT, 1, ce, 0) << PFNW_PAGE_SHIFT;
	} else if (what == SIDE_LEAF) {
		cpa = z->cpu.pa + i * PAGE_BYTES;
	}
	if (what == SIDE_NONE)
		d |= PFNW_D_CPU_NONE;
	else if (what == SIDE_AWAY)
		d |= PFNW_D_CPU_AWAY;
	else if (what == SIDE_FAULT)
		d |= PFNW_D_CPU_FAULT;
	what = z->io.what;
	if (what == SIDE_TABLE) {
		u64 iova = z->iova + i * PAGE_BYTES;
		int k;

		ie = io_l1[i & 511];
		k = iommu_entry(&t->f, 1, ie);
		what = k == IOMMU_ENTRY_LEAF ? SIDE_LEAF :
		       k == IOMMU_ENTRY_NONE ? SIDE_NONE :
					       SIDE_FAULT;
		rights &= iommu_rights(&t->f, ie);
		o->io_pa = io_entry_pa(ie, iova);
	} else if (what == SIDE_LEAF) {
		o->io_pa = z->io.pa + i * PAGE_BYTES;
	}
	o->cpu_entry = ce;
	o->io_entry = ie;
	o->io_rights = rights;
	if (what == SIDE_NONE)
		return d | PFNW_D_IO_NONE;
	if (what != SIDE_LEAF)
		return d | PFNW_D_IO_FAULT;
	if ((rights ^ z->prot) & care)
		d |= PFNW_D_RIGHTS;
	if (d & (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY | PFNW_D_CPU_FAULT))
		return d;
	if (cpa != o->io_pa)
		return d | PFNW_D_FRAME;
	if (rights & care & IOMMU_WRITE && !cpu_writable(ce))
		d |= PFNW_D_NARROW;
	return d;
}

struct pages_loop {
	struct cmp *z;
	u64 i;
};

/* The step differs somewhere: page by page, or whole where both sides are one thing. */
static long page_step(u32 k, void *arg)
{
	struct pfnw_compare *a = &compare_arg;
	struct pages_loop *l = arg;
	struct cmp *z = l->z;
	struct pfnw_odd o = {}, *last;
	u64 n = 1, off;
	u32 d;

	if (!z || l->i >= z->n)
		return 1;
	d = page_differs(z, l->i, &o);
	if (z->cpu.what != SIDE_TABLE && z->io.what != SIDE_TABLE)
		n = z->n - l->i;
	if (!d) {
		a->equal_pages += n;
		l->i += n;
		return 0;
	}
	off = (z->iova + l->i * PAGE_BYTES - a->iova) >> PFNW_PAGE_SHIFT;
	if (a->n_odd > 0 && a->n_odd <= PFNW_ODDS) {
		last = &a->odd[(a->n_odd - 1) & (PFNW_ODDS - 1)];
		if (last->off_pages + last->n_pages == off && last->differs == d) {
			last->n_pages += n;
			l->i += n;
			return 0;
		}
	}
	if (a->n_odd >= PFNW_ODDS) {
		z->full = 1;
		return 1;
	}
	last = &a->odd[a->n_odd & (PFNW_ODDS - 1)];
	o.off_pages = off;
	o.n_pages = n;
	o.differs = d;
	*last = o;
	a->n_odd++;
	l->i += n;
	return 0;
}

/* At most 2 MiB, or one leaf of both sides. */
static long compare_step(u32 k, void *arg)
{
	struct pfnw_compare *a = &compare_arg;
	struct pages_loop l = { .i = opaque_zero };
	struct cmp *z = &cmp;
	u64 n;

	if (!z->left || z->full)
		return 1;
	look_cpu(z);
	look_io(z);
	n = z->left;
	if (z->cpu.n < n)
		n = z->cpu.n;
	if (z->io.n < n)
		n = z->io.n;
	if (!n)
		n = 1;
	z->n = n;
	if (step_equal(z)) {
		a->equal_pages += n;
	} else {
		l.z = z;
		if (z->cpu.what != SIDE_TABLE && z->io.what != SIDE_TABLE)
			page_step(0, &l);
		else
			bpf_loop(512, page_step, &l, 0);
		n = l.i;
	}
	z->va += n * PAGE_BYTES;
	z->iova += n * PAGE_BYTES;
	z->left -= n;
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

/* The vfio_dma with the lowest IOVA that is not below @from; 0: none. */
__noinline u64 next_dma(u64 container, u64 from)
{
	struct vfio_iommu *c = (void *)container;
	struct rb_node *n;
	u64 best = 0;

	n = BPF_CORE_READ(c, dma_list.rb_node);
	for (int i = 0; i < 48 && n; i++) {
		struct vfio_dma *d = (void *)n - bpf_core_field_offset(struct vfio_dma, node);

		if (BPF_CORE_READ(d, iova) >= from) {
			best = (u64)d;
			n = BPF_CORE_READ(n, rb_left);
		} else {
			n = BPF_CORE_READ(n, rb_right);
		}
	}
	return best;
}

/* Is compare_arg's vfio_dma in the tree, and the same? (A tree being turned may hide it.) */
__noinline int dma_same(struct pfnw_compare *a)
{
	struct vfio_dma *d;

	if (!a)
		return 0;
	d = (void *)next_dma(a->container, a->iova);
	/* (unmapped, and still in the tree for a moment; or not yet mapped to its end) */
	if (!BPF_CORE_READ(d, iommu_mapped))
		return 0;
	return (u64)d == a->dma && BPF_CORE_READ(d, iova) == a->iova &&
	       BPF_CORE_READ(d, vaddr) == a->va && BPF_CORE_READ(d, size) == a->bytes &&
	       BPF_CORE_READ(d, prot) == a->prot && mm_of_dma(d) == a->mm;
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
	struct vfio_dma *d;
	struct pfnw_dma *o;
	struct mm_struct *mm;
	u32 n = a->n;

	if (n >= PFNW_LIST_DMAS) {
		a->more = 1;
		return 1;
	}
	d = (void *)next_dma(a->container, l->from);
	if (!d)
		return 1;
	o = &a->dma[n & (PFNW_LIST_DMAS - 1)];
	o->dma = (u64)d;
	o->iova = BPF_CORE_READ(d, iova);
	o->va = BPF_CORE_READ(d, vaddr);
	o->bytes = BPF_CORE_READ(d, size);
	o->prot = BPF_CORE_READ(d, prot);
	o->mapped = BPF_CORE_READ(d, iommu_mapped);
	o->tgid = BPF_CORE_READ(d, task, tgid);
	BPF_CORE_READ_INTO(&o->comm, d, task, comm);
	mm = (void *)mm_of_dma(d);
	o->mm = (u64)mm;
	o->mm_users = mm ? BPF_CORE_READ(mm, mm_users.counter) : 0;
	o->leaving = BPF_CORE_READ(d, task, flags) & PF_EXITING &&
		     !BPF_CORE_READ(d, task, exit_state);
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
	struct list_loop *l = arg;
	struct vfio_iommu_group *g;
	struct vfio_domain *d;
	struct pfnw_domain *o;
	u32 n;

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
	cmp_io.domain = l->domain;
	o->kind = find_iotable(&cmp_io);
	o->levels = cmp_io.levels;
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
	struct cmp *z = &cmp;
	u64 mark;

	a->n_odd = opaque_zero;
	a->done_pages = opaque_zero;
	a->equal_pages = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!container_alive(a->container, a->generation, a->fd))
		return 0;
	a->status = PFNW_AUDIT_CHANGED;
	/* first the mark: what is mapped then, and is not unmapped, stays mapped */
	mark = quiet_mark(a->container);
	if (!dma_same(a))
		return 0;
	a->status = PFNW_AUDIT_UNKNOWN;
	cmp_io.domain = a->domain;
	if (!find_iotable(&cmp_io))
		return 0;
	z->pgd = (u64)BPF_CORE_READ(mm, pgd);
	z->va = a->va + a->off_pages * PAGE_BYTES;
	z->iova = a->iova + a->off_pages * PAGE_BYTES;
	z->left = a->n_pages;
	z->prot = a->prot & (IOMMU_READ | IOMMU_WRITE);
	z->full = 0;
	z->cpu.tag = ~0ULL;
	z->io.tag = ~0ULL;
	bpf_loop(1 << 23, compare_step, NULL, 0);
	a->done_pages = a->n_pages - z->left;
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

static long dump_entry(u32 k, void *arg)
{
	struct pfnw_dump *a = &dump_arg;
	struct pages_loop *l = arg;
	struct cmp *z = &cmp;
	u64 iova, e;
	u32 rights;

	if (l->i >= z->n)
		return 1;
	iova = z->iova + l->i * PAGE_BYTES;
	e = io_l1[l->i & 511];
	rights = z->io.rights & iommu_rights(&cmp_io.f, e);
	if (iommu_entry(&cmp_io.f, 1, e) == IOMMU_ENTRY_LEAF) {
		if (add_run(iova, io_entry_pa(e, iova), 1, rights)) {
			z->full = 1;
			return 1;
		}
		a->leaf_pages[iommu_leaf_mask(&cmp_io.f, 1, e) > PAGE_BYTES ? 3 : 0]++;
	}
	l->i++;
	return 0;
}

static long dump_step(u32 k, void *arg)
{
	struct pfnw_dump *a = &dump_arg;
	struct pages_loop l = { .i = opaque_zero };
	struct cmp *z = &cmp;
	u64 n, bytes;

	if (!z->left || z->full)
		return 1;
	look_io(z);
	n = z->io.n < z->left ? z->io.n : z->left;
	if (!n)
		n = 1;
	z->n = n;
	if (z->io.what == SIDE_TABLE) {
		bpf_loop(512, dump_entry, &l, 0);
		n = l.i;
	} else if (z->io.what == SIDE_LEAF) {
		if (add_run(z->iova, z->io.pa, n, z->io.rights)) {
			z->full = 1;
			return 1;
		}
		bytes = cmp_io.f.kind == PFNW_IOMMU_VIRTIO ?
				cmp_io.node_last - cmp_io.node_start + 1 :
				iommu_leaf_mask(&cmp_io.f, z->io.level, z->io.entry) + 1;
		a->leaf_pages[bytes == 4096	  ? 0 :
			      bytes == 2ULL << 20 ? 1 :
			      bytes == 1ULL << 30 ? 2 :
						    3] += n;
	} else if (z->io.what == SIDE_FAULT) {
		a->unread += n;
	}
	z->iova += n * PAGE_BYTES;
	z->left -= n;
	return 0;
}

SEC("?syscall")
int dump_runs(void *ctx)
{
	struct pfnw_dump *a = &dump_arg;
	struct cmp *z = &cmp;

	a->n = opaque_zero;
	a->unread = opaque_zero;
	a->done_pages = opaque_zero;
	a->status = PFNW_AUDIT_GONE;
	if (!container_alive(a->container, a->generation, a->fd))
		return 0;
	a->status = PFNW_AUDIT_UNKNOWN;
	cmp_io.domain = a->domain;
	if (!find_iotable(&cmp_io))
		return 0;
	z->iova = a->iova;
	z->left = a->n_pages;
	z->full = 0;
	z->io.tag = ~0ULL;
	bpf_loop(1 << 23, dump_step, NULL, 0);
	a->done_pages = a->n_pages - z->left;
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
	u64 page = vmemmap + a->pfn * page_struct_bytes, head;
	struct folio *f;

	a->known = 0;
	a->mapping = 0;
	a->index = 0;
	a->reserved = pfn_reserved(a->pfn);
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
