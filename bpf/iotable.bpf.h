/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Reading IOMMU tables from BPF: where a domain keeps its table (shapes that differ
 * by driver and kernel), and one walk for all formats. As with the CPU's tables only
 * table pages are read, and a leaf is never followed.
 */
#ifndef PFNW_IOTABLE_BPF_H
#define PFNW_IOTABLE_BPF_H

#include "core.bpf.h"

/* ---- where a domain keeps its table ---- */

/* Until 6.18: a table of the driver's own. */
struct dmar_domain___own {
	struct iommu_domain domain;
	struct dma_pte *pgd;
	int agaw; /* levels less 2 */
	u8 use_first_level : 1; /* 5.6 .. */
} __attribute__((preserve_access_index));

struct amd_io_pgtable___own {
	int mode; /* levels */
	u64 *root;
} __attribute__((preserve_access_index));

struct protection_domain___own {
	struct iommu_domain domain;
	struct amd_io_pgtable___own iop;
} __attribute__((preserve_access_index));

/* generic_pt, since 6.19: struct iommu_domain is the first member of all of these. */
struct pt_common {
	unsigned long top_of_table; /* kernel VA; in its low 3 bits the level, 0 the lowest */
} __attribute__((preserve_access_index));

struct pt_vtdss {
	struct pt_common common;
} __attribute__((preserve_access_index));

struct pt_iommu_vtdss {
	struct pt_vtdss vtdss_pt;
} __attribute__((preserve_access_index));

struct pt_amdv1 {
	struct pt_common common;
} __attribute__((preserve_access_index));

struct pt_iommu_amdv1 {
	struct pt_amdv1 amdpt;
} __attribute__((preserve_access_index));

struct pt_x86_64 {
	struct pt_common common;
} __attribute__((preserve_access_index));

struct pt_iommu_x86_64 {
	struct pt_x86_64 x86_64_pt;
} __attribute__((preserve_access_index));

/* virtio-iommu: an interval tree by IOVA; the lowest node that ends behind it. */
struct interval_tree_node___v {
	struct rb_node rb;
	unsigned long start, last;
} __attribute__((preserve_access_index));

struct viommu_mapping {
	u64 paddr;
	struct interval_tree_node___v iova;
	u32 flags;
} __attribute__((preserve_access_index));

struct rb_root_cached___v {
	struct rb_root rb_root;
} __attribute__((preserve_access_index));

struct viommu_domain {
	struct iommu_domain domain;
	struct rb_root_cached___v mappings;
} __attribute__((preserve_access_index));

#define PT_LEVEL_BITS 7ULL

/*
 * Whose iova_to_phys() is it? That names the driver and its format on every kernel
 * (ops themselves are anonymous until 6.2). 0 where a kernel does not have it.
 */
const volatile struct pfnw_iova_to_phys driver_fn;

const volatile struct iommu_format format_vtd_ss;
const volatile struct iommu_format format_x86;
const volatile struct iommu_format format_amd_v1;

#define COPY_FORMAT(to, from)                       \
	do {                                        \
		(to)->addr_mask = (from).addr_mask; \
		(to)->present = (from).present;     \
		(to)->read = (from).read;           \
		(to)->write = (from).write;         \
		(to)->huge = (from).huge;           \
		(to)->kind = (from).kind;           \
		(to)->rights = (from).rights;       \
	} while (0)

static __always_inline void generic_top(struct iotable *t, u64 top)
{
	t->levels = (top & PT_LEVEL_BITS) + 1;
	t->top = top & ~PT_LEVEL_BITS;
}

/* Fill @t for its .domain. Returns enum pfnw_iommu_kind, 0 for a table we cannot read. */
__noinline int find_iotable(struct iotable *t)
{
	struct iommu_domain *d;
	u64 fn;

	if (!t)
		return 0;
	d = (void *)t->domain;
	t->leaf_base = ~0ULL;
	t->levels = 0;
	t->top = 0;
	t->f.kind = PFNW_IOMMU_UNKNOWN;
	fn = (u64)BPF_CORE_READ(d, ops, iova_to_phys);
	if (!fn)
		return 0;
	if (fn == driver_fn.vtd_generic && bpf_core_type_exists(struct pt_iommu_vtdss)) {
		generic_top(t, BPF_CORE_READ((struct pt_iommu_vtdss *)d,
					     vtdss_pt.common.top_of_table));
		COPY_FORMAT(&t->f, format_vtd_ss);
	} else if (fn == driver_fn.amd_generic && bpf_core_type_exists(struct pt_iommu_amdv1)) {
		generic_top(t,
			    BPF_CORE_READ((struct pt_iommu_amdv1 *)d, amdpt.common.top_of_table));
		COPY_FORMAT(&t->f, format_amd_v1);
	} else if (fn == driver_fn.x86_generic && bpf_core_type_exists(struct pt_iommu_x86_64)) {
		generic_top(t, BPF_CORE_READ((struct pt_iommu_x86_64 *)d,
					     x86_64_pt.common.top_of_table));
		COPY_FORMAT(&t->f, format_x86);
	} else if (fn == driver_fn.vtd && bpf_core_field_exists(struct dmar_domain___own, pgd)) {
		struct dmar_domain___own *o =
			(void *)d - bpf_core_field_offset(struct dmar_domain___own, domain);

		t->top = (u64)BPF_CORE_READ(o, pgd);
		t->levels = BPF_CORE_READ(o, agaw) + 2;
		COPY_FORMAT(&t->f, format_vtd_ss);
		if (bpf_core_field_exists(o->use_first_level) &&
		    BPF_CORE_READ_BITFIELD_PROBED(o, use_first_level))
			COPY_FORMAT(&t->f, format_x86);
	} else if (fn == driver_fn.amd &&
		   bpf_core_field_exists(struct protection_domain___own, iop.root)) {
		struct protection_domain___own *o =
			(void *)d - bpf_core_field_offset(struct protection_domain___own, domain);

		/* a v2 domain has no root: its table is not known here */
		t->top = (u64)BPF_CORE_READ(o, iop.root);
		t->levels = BPF_CORE_READ(o, iop.mode);
		COPY_FORMAT(&t->f, format_amd_v1);
	} else if (fn == driver_fn.virtio && bpf_core_type_exists(struct viommu_domain)) {
		struct viommu_domain *o =
			(void *)d - bpf_core_field_offset(struct viommu_domain, domain);

		t->top = (u64)o +
			 bpf_core_field_offset(struct viommu_domain, mappings.rb_root.rb_node);
		t->levels = 1;
		COPY_FORMAT(&t->f, format_vtd_ss);
		t->f.kind = PFNW_IOMMU_VIRTIO;
	}
	if (!t->top || t->levels < 1 || t->levels > PFNW_IO_LEVELS)
		t->f.kind = PFNW_IOMMU_UNKNOWN;
	return t->f.kind;
}

/* ---- one walk ---- */

#define VIRTIO_MAP_READ 1 /* VIRTIO_IOMMU_MAP_F_READ, include/uapi/linux/virtio_iommu.h */
#define VIRTIO_MAP_WRITE 2

/*
 * The first mapping of virtio-iommu that ends at or behind @iova, into t->node_*:
 * 1, 0 when there is none, -1 when the tree cannot be read. (Mappings do not overlap.)
 */
__noinline int virtio_next(struct iotable *t, u64 iova)
{
	struct viommu_mapping *m;
	u64 node = 0, best = 0;

	/* the driver is a module: its types are known when it is there */
	if (!t || !bpf_core_type_exists(struct viommu_mapping) ||
	    bpf_probe_read_kernel(&node, sizeof(node), (void *)t->top))
		return -1;
	for (int i = 0; i < 48 && node; i++) {
		struct interval_tree_node___v *n =
			(void *)node - bpf_core_field_offset(struct interval_tree_node___v, rb);

		if (iova > BPF_CORE_READ(n, last)) {
			node = (u64)BPF_CORE_READ(n, rb.rb_right);
			continue;
		}
		best = (u64)n;
		if (iova >= BPF_CORE_READ(n, start))
			break;
		node = (u64)BPF_CORE_READ(n, rb.rb_left);
	}
	if (!best)
		return 0;
	m = (void *)best - bpf_core_field_offset(struct viommu_mapping, iova);
	t->node_start = BPF_CORE_READ(m, iova.start);
	t->node_last = BPF_CORE_READ(m, iova.last);
	t->node_pa = BPF_CORE_READ(m, paddr);
	t->node_flags = BPF_CORE_READ(m, flags);
	return 1;
}

/* The one that holds @iova: 1, or 0. */
static __always_inline int virtio_find(struct iotable *t, u64 iova)
{
	int got = virtio_next(t, iova);

	return got > 0 && t->node_start > iova ? 0 : got;
}

/*
 * What translates @iova: returns the level of the leaf, with the entry in t->entry
 * and the rights of all levels in t->rights; 0 when nothing does; -1 when a table
 * could not be read or an entry means nothing. A table of level 1 is remembered: the
 * next look into its span needs one reading. (t->leaf_base must be reset whenever
 * a table may have gone.)
 */
__noinline int io_find(struct iotable *t, u64 iova)
{
	u64 table, e = 0;
	u32 rights = 3;

	if (!t)
		return -1;
	if ((iova & ~((1ULL << 21) - 1)) == t->leaf_base) {
		if (bpf_probe_read_kernel(&e, sizeof(e),
					  (void *)(t->leaf_table + 8 * (u64)iommu_index(iova, 1))))
			return -1;
		t->entry = e;
		t->rights = t->leaf_rights & iommu_rights(&t->f, e);
		switch (iommu_entry(&t->f, 1, e)) {
		case IOMMU_ENTRY_LEAF:
			return 1;
		case IOMMU_ENTRY_NONE:
			t->none_level = 1;
			return 0;
		default:
			return -1;
		}
	}
	table = t->top;
	if (!iommu_in_reach(iova, t->levels)) {
		t->none_level = t->levels;
		return 0;
	}
#pragma unroll
	for (int level = PFNW_IO_LEVELS; level >= 1; level--) {
		if (level > t->levels)
			continue;
		if (bpf_probe_read_kernel(&e, sizeof(e),
					  (void *)(table + 8 * (u64)iommu_index(iova, level))))
			return -1;
		if (level == 1) {
			t->leaf_base = iova & ~((1ULL << 21) - 1);
			t->leaf_table = table;
			t->leaf_rights = rights;
		}
		t->entry = e;
		rights &= iommu_rights(&t->f, e);
		t->rights = rights;
		switch (iommu_entry(&t->f, level, e)) {
		case IOMMU_ENTRY_LEAF:
			return level;
		case IOMMU_ENTRY_NONE:
			t->none_level = level;
			return 0;
		case IOMMU_ENTRY_BAD:
			return -1;
		}
		table = page_offset + iommu_next(&t->f, e);
	}
	return -1;
}

/* The evidence of a look at virtio-iommu's tree: @got as of virtio_find(), the node in @t. */
static __always_inline void virtio_evidence(struct iotable *t, int got, struct pfnw_iowalk *w)
{
	w->status = got > 0 ? PFNW_WALK_LEAF : got ? PFNW_WALK_FAULT : PFNW_WALK_NONE;
	if (got <= 0)
		return;
	w->leaf = 1;
	w->entry[0] = t->node_start;
	w->entry[1] = t->node_last;
	w->entry[2] = t->node_pa;
	w->entry[3] = t->node_flags;
}

/* A walk with all its entries, for evidence. */
__noinline int io_walk(struct iotable *t, u64 iova, struct pfnw_iowalk *w)
{
	u64 table, e;

	if (!t || !w)
		return 0;
	w->iova = iova & ~(PAGE_BYTES - 1);
	for (int i = 0; i < PFNW_IO_LEVELS; i++)
		w->entry[i] = 0;
	w->top = t->levels;
	w->leaf = 0;
	w->status = PFNW_WALK_UNREAD;
	w->kind = t->f.kind;
	*(u32 *)w->pad = 0;
	if (w->kind == PFNW_IOMMU_UNKNOWN)
		return 0;
	if (w->kind == PFNW_IOMMU_VIRTIO) {
		virtio_evidence(t, virtio_find(t, iova), w);
		return 0;
	}
	w->status = PFNW_WALK_NONE;
	if (!iommu_in_reach(iova, t->levels))
		return 0;
	table = t->top;
#pragma unroll
	for (int level = PFNW_IO_LEVELS; level >= 1; level--) {
		if (level > t->levels)
			continue;
		if (bpf_probe_read_kernel(&e, sizeof(e),
					  (void *)(table + 8 * (u64)iommu_index(iova, level)))) {
			w->status = PFNW_WALK_FAULT;
			return 0;
		}
		w->entry[level - 1] = e;
		w->leaf = level;
		switch (iommu_entry(&t->f, level, e)) {
		case IOMMU_ENTRY_LEAF:
			w->status = PFNW_WALK_LEAF;
			return 0;
		case IOMMU_ENTRY_NONE:
			return 0;
		case IOMMU_ENTRY_BAD:
			w->status = PFNW_WALK_FAULT;
			return 0;
		}
		table = page_offset + iommu_next(&t->f, e);
	}
	w->status = PFNW_WALK_FAULT;
	return 0;
}

/* ---- a run of frames against the table ---- */

struct io_run {
	struct iotable *t;
	u64 *buf; /* PFNW_IO_BUF entries */
	u64 iova, pa; /* bytes; of the first page */
	u64 pages, at; /* at: pages found as asked */
	u32 prot; /* rights asked */
	u32 n; /* entries in buf */
	u64 all, any, diff;
};

/* Entries of a table of level 1 against a run: what differs accumulates. */
static long io_entries(u32 k, void *arg)
{
	struct io_run *r = arg;
	u64 i = (u64)k * CHUNK, n = r->n, all = r->all, any = r->any, diff = r->diff;
	struct iotable *t = r->t;
	u64 *buf = r->buf;
	u64 e, pa, addr;

	if (!t || !buf || i >= n)
		return 1;
	addr = t->f.addr_mask;
	pa = r->pa + (r->at + i) * PAGE_BYTES;
	for (u32 j = 0; j < CHUNK; j++) {
		u64 more = more_after(i, n);

		e = buf[i & (BATCH_PAGES - 1)];
		all &= e;
		any |= e;
		diff |= (e & addr) ^ pa;
		pa += more * PAGE_BYTES;
		i += more;
	}
	r->all = all;
	r->any = any;
	r->diff = diff;
	return 0;
}

/* The same where some are encoded. */
static long io_decoded(u32 k, void *arg)
{
	struct io_run *r = arg;
	u64 i = (u64)k * CHUNK, n = r->n, diff = r->diff;
	struct iotable *t = r->t;
	u64 *buf = r->buf;
	u64 e, iova, pa, addr;

	if (!t || !buf || i >= n)
		return 1;
	addr = t->f.addr_mask;
	iova = r->iova + (r->at + i) * PAGE_BYTES;
	pa = r->pa + (r->at + i) * PAGE_BYTES;
	for (u32 j = 0; j < CHUNK; j++) {
		u64 more = more_after(i, n);

		e = buf[i & (BATCH_PAGES - 1)];
		diff |= iommu_decode(addr, 7, e, iova, &diff) ^ pa;
		iova += more * PAGE_BYTES;
		pa += more * PAGE_BYTES;
		i += more;
	}
	r->diff = diff;
	return 0;
}

/* Do entries of which the bits @all and @any are known give @prot, no less, no more? */
static __always_inline bool rights_are(struct iotable *t, u64 all, u64 any, u32 upper, u32 prot)
{
	u32 care = t->f.rights;

	return (((iommu_rights(&t->f, all) & upper) ^ prot) & care) == 0 &&
	       (((iommu_rights(&t->f, any) & upper) ^ prot) & care) == 0;
}

/* One leaf, or one table of level 1. */
static long io_run_step(u32 k, void *arg)
{
	struct io_run *r = arg;
	struct iotable *t = r->t;
	u64 iova, pa, mask, n, span, bytes;
	int level;

	if (!t || !r->buf || r->at >= r->pages)
		return 1;
	iova = r->iova + r->at * PAGE_BYTES;
	pa = r->pa + r->at * PAGE_BYTES;
	if (t->f.kind == PFNW_IOMMU_VIRTIO) {
		if (virtio_find(t, iova) <= 0 || t->node_pa + (iova - t->node_start) != pa ||
		    (t->node_flags ^ r->prot) & (IOMMU_READ | IOMMU_WRITE))
			return 1;
		n = (t->node_last - iova + 1) >> PFNW_PAGE_SHIFT;
		r->at += n < r->pages - r->at ? n : r->pages - r->at;
		return 0;
	}
	level = io_find(t, iova);
	if (level <= 0)
		return 1;
	mask = iommu_leaf_mask(&t->f, level, t->entry);
	if (((t->entry & t->f.addr_mask & ~mask) | (iova & mask)) != pa ||
	    ((t->rights ^ r->prot) & t->f.rights))
		return 1;
	/* the entries that an encoded leaf is replicated to are looked at, each */
	span = iommu_span(level) - 1;
	if (mask > span)
		mask = span;
	n = ((mask + 1) - (iova & mask)) >> PFNW_PAGE_SHIFT;
	if (n > r->pages - r->at)
		n = r->pages - r->at;
	if (level > 1 || r->pages - r->at == 1) {
		r->at += n;
		return 0;
	}
	n = BATCH_PAGES - iommu_index(iova, 1);
	if (n > r->pages - r->at)
		n = r->pages - r->at;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > BATCH_PAGES * 8)
		return 1;
	if (bpf_probe_read_kernel(r->buf, bytes,
				  (void *)(t->leaf_table + 8 * (u64)iommu_index(iova, 1))))
		return 1;
	r->n = n;
	r->all = ~0ULL;
	r->any = opaque_zero;
	r->diff = opaque_zero;
	bpf_loop(BATCH_PAGES / CHUNK, io_entries, r, 0);
	if (!t->f.huge && r->any & (7 << AMD_LEVEL_SHIFT)) {
		r->diff = opaque_zero;
		bpf_loop(BATCH_PAGES / CHUNK, io_decoded, r, 0);
	}
	if (r->diff || !(r->all & t->f.present) ||
	    !rights_are(t, r->all, r->any, t->leaf_rights, r->prot))
		return 1;
	r->at += n;
	return 0;
}

/*
 * How many pages from @iova on does the table translate to the run of frames that
 * begins at @pa, with exactly the rights of @prot? @buf: BATCH_PAGES entries.
 */
static __noinline u64 io_confirmed(struct iotable *t, u64 *buf, struct io_run *r)
{
	if (!t || !buf || !r)
		return 0;
	r->t = t;
	r->buf = buf;
	r->at = opaque_zero;
	if (r->pages == 1)
		io_run_step(0, r);
	else
		bpf_loop(1 << 23, io_run_step, r, 0);
	return r->at;
}

#endif
