/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Both tables at once: does the IOMMU translate each IOVA of a range to the frame that
 * its VA names? Nothing is locked. Tables are copied whole, a page of 512 entries at a
 * time, and compared without a branch per page; what is equal is settled, and of what
 * differs the raw entries are there.
 */
#ifndef PFNW_BOTH_BPF_H
#define PFNW_BOTH_BPF_H

#include "iotable.bpf.h"

struct side {
	u64 tag; /* va >> 30, or iova >> 30, of l2[], from where we were to the end; ~0: none */
	u64 n; /* pages to the end of what was found */
	u64 entry; /* raw, of a leaf or of what ended the walk */
	u64 pa; /* bytes: of the first page, where one leaf translates all n */
	u32 what; /* enum side_what */
	u32 level; /* of .entry */
	u32 rights; /* IOMMU: of all levels but the table's */
	u32 pad;
};

enum side_what { SIDE_FAULT, SIDE_NONE, SIDE_AWAY, SIDE_LEAF, SIDE_TABLE };

/* Entries that are compared in one call of a callback: more of them make it cheaper. */
#define STRIDE 128
/* Leaves of 2 MiB that are compared at once. */
#define LINE 16

/* The comparison of a step, as far as it has got. */
struct zip {
	u64 at; /* the page that the callback's first call begins with */
	u64 want; /* zip_io(): bytes: physical address of the first, where the CPU has a leaf */
	u64 leaf; /* zip_io(): ~0: it has; 0: a table */
	u64 next; /* zip_io(): what iommu_decode() takes */
	u64 first; /* zip_cpu(): the first entry, what the others should be like */
	u64 diff, all_cpu, all_io, any_io;
};

struct both {
	u64 pgd;
	u64 va, iova; /* bytes; where we are */
	u64 left; /* pages */
	u64 n; /* pages of the step under way */
	u64 match; /* pages found equal */
	u32 prot; /* rights asked: IOMMU_READ, IOMMU_WRITE */
	u32 slow; /* what differs is looked at page by page; 0: it ends the comparison */
	u32 full, pad; /* the loader has no room for more differences */
	u64 at; /* pages of the step that were looked at one by one; 0: none yet */
	struct {
		u64 calls; /* alone() when the look began */
		u64 start, last, pa; /* the node that was found the last time */
		u32 tries, pad;
	} turning;
	struct side cpu, io;
	struct zip zip;
	struct pfnw_odd odd; /* of the page that page_differs() was asked for */
	struct iotable t;
	u64 cpu_l2[512], cpu_l1[512], io_l2[512];
	union {
		struct pfnw_ev_ledger record; /* what the table is sent as */
		struct {
			u8 head[__builtin_offsetof(struct pfnw_ev_ledger, run)];
			u64 io_l1[512];
		};
	};
};

/* By thread, as long as it lives. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* the loader sets it */
	__type(key, u32);
	__type(value, struct both);
} boths SEC(".maps");

enum { BOTH_BLANK, BOTH_LOADER, BOTH_SPARE };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BOTH_SPARE);
	__type(key, u32);
	__type(value, struct both);
} spare_boths SEC(".maps");

/* That of the programs that the loader runs by itself, one at a time. */
static __always_inline struct both *both_of_loader(void)
{
	u32 key = BOTH_LOADER;

	return bpf_map_lookup_elem(&spare_boths, &key);
}

/* That of this thread; NULL: there is no room. */
static __always_inline struct both *both_of_thread(void)
{
	u32 tid = this_tid(), blank = BOTH_BLANK;
	struct both *b = bpf_map_lookup_elem(&boths, &tid);

	if (b)
		return b;
	b = bpf_map_lookup_elem(&spare_boths, &blank);
	if (b)
		bpf_map_update_elem(&boths, &tid, b, BPF_NOEXIST);
	return bpf_map_lookup_elem(&boths, &tid);
}

static __always_inline u64 rest_of(u64 va, int level)
{
	u64 span = 1ULL << (9 * (level - 1));

	return span - ((va >> PFNW_PAGE_SHIFT) & (span - 1));
}

/*
 * Bytes of a table of level 2 from the entry for @va on that the rest of the comparison can
 * need: it only goes on.
 */
static __always_inline u64 bytes_of_l2(struct both *b, u64 va)
{
	u64 n = 512 - ((va >> 21) & 511), in = (va >> PFNW_PAGE_SHIFT) & 511;
	u64 need = (in + b->left + 511) / 512;

	return 8 * (need < n ? need : n);
}

/* What the CPU's tables say of b->va. */
__noinline int look_cpu(struct both *b)
{
	u64 table, e = 0, va, n, bytes;
	struct side *s;

	if (!b)
		return 0;
	s = &b->cpu;
	va = b->va;
	s->what = SIDE_FAULT;
	s->n = 1;
	s->level = 0;
	s->entry = 0;
	if (s->tag != va >> 30) {
		s->tag = ~0ULL;
		table = b->pgd;
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
		n = cpu_index(va, 2);
		bytes = bytes_of_l2(b, va);
		barrier_var(n);
		barrier_var(bytes);
		if (n > 511 || bytes > sizeof(b->cpu_l2) ||
		    bpf_probe_read_kernel(&b->cpu_l2[n], bytes, (void *)(table + 8 * n)))
			return 0;
		s->tag = va >> 30;
	}
	e = b->cpu_l2[cpu_index(va, 2)];
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
	n = s->n < b->left ? s->n : b->left;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > sizeof(b->cpu_l1))
		return 0;
	table = page_offset + cpu_table(FMT, e);
	if (bpf_probe_read_kernel(b->cpu_l1, bytes, (void *)(table + 8 * (u64)cpu_index(va, 1))))
		return 0;
	s->what = SIDE_TABLE;
	s->level = 1;
	return 0;
}

static __always_inline int look_virtio(struct both *b, struct side *s)
{
	struct iotable *t = &b->t;
	int got = 1;

	/* the node of the last step, mostly */
	if (b->iova < t->node_start || b->iova > t->node_last || s->tag == ~0ULL)
		got = virtio_next(t, b->iova);
	s->tag = 0;
	s->n = b->left;
	s->what = got < 0 ? SIDE_FAULT : SIDE_NONE;
	if (got <= 0) {
		s->tag = ~0ULL;
		return 0;
	}
	if (t->node_start > b->iova) {
		s->n = (t->node_start - b->iova) >> PFNW_PAGE_SHIFT;
		return 0;
	}
	s->n = (t->node_last - b->iova + 1) >> PFNW_PAGE_SHIFT;
	s->what = SIDE_LEAF;
	s->level = 1;
	s->entry = t->node_pa;
	s->pa = t->node_pa + (b->iova - t->node_start);
	s->rights = t->node_flags & 3;
	return 0;
}

/* What the IOMMU's table says of b->iova. */
__noinline int look_io(struct both *b)
{
	u64 table, e = 0, iova, n, bytes;
	struct iotable *t;
	struct side *s;
	int what;

	if (!b)
		return 0;
	t = &b->t;
	s = &b->io;
	iova = b->iova;
	s->what = SIDE_FAULT;
	s->n = 1;
	s->level = 0;
	s->entry = 0;
	if (t->f.kind == PFNW_IOMMU_VIRTIO)
		return look_virtio(b, s);
	if (t->levels < 2)
		return 0;
	if (!iommu_in_reach(iova, t->levels)) {
		s->what = SIDE_NONE;
		s->n = b->left;
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
		n = iommu_index(iova, 2);
		bytes = bytes_of_l2(b, iova);
		barrier_var(n);
		barrier_var(bytes);
		if (n > 511 || bytes > sizeof(b->io_l2) ||
		    bpf_probe_read_kernel(&b->io_l2[n], bytes, (void *)(table + 8 * n)))
			return 0;
		s->tag = iova >> 30;
		t->leaf_rights = rights;
	}
	e = b->io_l2[iommu_index(iova, 2)];
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
	n = s->n < b->left ? s->n : b->left;
	bytes = n * 8;
	barrier_var(bytes);
	if (bytes > sizeof(b->io_l1))
		return 0;
	table = page_offset + iommu_next(&t->f, e);
	if (bpf_probe_read_kernel(b->io_l1, bytes, (void *)(table + 8 * (u64)iommu_index(iova, 1))))
		return 0;
	s->what = SIDE_TABLE;
	s->level = 1;
	return 0;
}

/* What a callback is given: an object on the stack, it must be. The rest is in b->zip. */
struct zip_arg {
	struct both *b;
};

/*
 * @n pages of two tables of level 1, from the @i-th on. @n is a constant: there is no branch
 * and no count of what is left, for the processor or for the verifier.
 */
static __always_inline long zip_tables(struct both *b, u64 i, u32 n)
{
	u64 diff, all_cpu, all_io, any_io, c, e;
	u64 *cpu, *io;

	diff = b->zip.diff;
	all_cpu = b->zip.all_cpu;
	all_io = b->zip.all_io;
	any_io = b->zip.any_io;
	cpu = &b->cpu_l1[i & (512 - n)];
	io = &b->io_l1[i & (512 - n)];
#pragma clang loop unroll(full)
	for (u32 j = 0; j < n; j++) {
		c = cpu[j];
		e = io[j];
		all_cpu &= c;
		all_io &= e;
		any_io |= e;
		diff |= c ^ e;
		barrier_var(diff); /* or all is read first, and spilled */
	}
	b->zip.diff = diff;
	b->zip.all_cpu = all_cpu;
	b->zip.all_io = all_io;
	b->zip.any_io = any_io;
	return 0;
}

/* The same of a table of the CPU's against one leaf of the IOMMU's. */
static __always_inline long zip_cpu(struct both *b, u64 i, u32 n)
{
	u64 diff = b->zip.diff, want, c, *cpu = &b->cpu_l1[i & (512 - n)];

	/* with the flags of the first: what all have, and all have not, is in diff too */
	want = b->zip.first + i * PAGE_BYTES;
#pragma clang loop unroll(full)
	for (u32 j = 0; j < n; j++) {
		/* the flags are below, and stay */
		c = cpu[j] - j * PAGE_BYTES;
		diff |= c ^ want;
		barrier_var(diff);
	}
	b->zip.diff = diff;
	return 0;
}

/* Callbacks for ZIP(): pages of the step from the @k-th @n on; strides begin at the first. */
#define ZIP_PART(what, part, first, n)                               \
	static long what##_##part(u32 k, void *arg)                  \
	{                                                            \
		struct both *b = ((struct zip_arg *)arg)->b;         \
                                                                     \
		return b ? what(b, (first) + (u64)k * (n), (n)) : 1; \
	}

#define ZIP_PARTS(what)                     \
	ZIP_PART(what, stride, 0, STRIDE)   \
	ZIP_PART(what, eight, b->zip.at, 8) \
	ZIP_PART(what, one, b->zip.at, 1)

ZIP_PARTS(zip_tables)
ZIP_PARTS(zip_cpu)

/* All pages of the step: as many as go at once, and so on. */
#define ZIP(b, arg, what)                                                \
	do {                                                             \
		u64 n_ = (b)->n;                                         \
                                                                         \
		if (n_ >= STRIDE)                                        \
			bpf_loop(n_ / STRIDE, what##_stride, arg, 0);    \
		if (n_ % STRIDE) {                                       \
			(b)->zip.at = n_ & ~(STRIDE - 1ULL);             \
			bpf_loop(n_ % STRIDE / 8, what##_eight, arg, 0); \
			(b)->zip.at = n_ & ~7ULL;                        \
			bpf_loop(n_ % 8, what##_one, arg, 0);            \
		}                                                        \
	} while (0)

/* Physical address that an entry of level 1 gives; AMD encodes larger leaves there. */
static __always_inline u64 io_entry_pa(struct both *b, u64 e, u64 iova)
{
	return iommu_leaf_pa(&b->t.f, 1, e, iova);
}

/*
 * A table of the IOMMU's, with encoded entries perhaps, against the CPU's table or leaf: where
 * do they lead? Their other bits are zip_tables()'s.
 */
static long zip_io(u32 k, void *arg)
{
	struct both *b = ((struct zip_arg *)arg)->b;
	u64 i = (u64)k * CHUNK, diff, c, e, pa;
	struct zip *l;

	if (!b || i >= b->n)
		return 1;
	l = &b->zip;
	diff = l->diff;
	for (u32 j = 0; j < CHUNK; j++) {
		barrier(); /* what does not change stays where it is, not in a copy on the stack */
		c = b->cpu_l1[i & 511];
		e = b->io_l1[i & 511];
		pa = iommu_decode(b->t.f.addr_mask, l->next, e, b->iova + i * PAGE_BYTES, &diff);
		c = (c & ~l->leaf) | ((l->want + i * PAGE_BYTES) & l->leaf);
		diff |= (pa ^ c) & fmt.addr_mask;
		i += more_after(i, b->n);
	}
	l->diff = diff;
	return 0;
}

/* Is the step under way, of b->n pages, equal in every page? */
__noinline int step_equal(struct both *b)
{
	struct zip_arg arg = { .b = b };
	u64 all_cpu, all_io, any_io;
	struct iotable *t;
	struct zip *l;
	u32 upper;

	if (!b)
		return 0;
	t = &b->t;
	l = &b->zip;
	l->leaf = 0;
	l->diff = 0;
	l->all_cpu = ~0ULL;
	l->all_io = ~0ULL;
	l->any_io = 0;
	upper = b->io.rights;
	if (b->cpu.what == SIDE_TABLE && b->io.what == SIDE_TABLE) {
		ZIP(b, &arg, zip_tables);
		l->diff &= fmt.addr_mask;
		if (!t->f.huge && l->any_io & (7 << AMD_LEVEL_SHIFT)) {
			l->diff = 0;
			l->next = 7;
			bpf_loop(512 / CHUNK, zip_io, &arg, 0);
		}
	} else if (b->cpu.what == SIDE_TABLE && b->io.what == SIDE_LEAF) {
		l->first = b->cpu_l1[0];
		ZIP(b, &arg, zip_cpu);
		l->all_cpu = l->first & ~l->diff;
		l->diff = (l->diff | (l->first ^ b->io.pa)) & fmt.addr_mask;
		l->all_io = l->any_io = ~0ULL; /* the leaf's rights are in upper */
	} else if (b->cpu.what == SIDE_LEAF && b->io.what == SIDE_TABLE) {
		ZIP(b, &arg, zip_tables);
		l->diff = 0;
		l->want = b->cpu.pa;
		l->leaf = ~0ULL;
		l->next = iommu_next_mask(&t->f);
		bpf_loop(512 / CHUNK, zip_io, &arg, 0);
		l->all_cpu = b->cpu.entry;
	} else if (b->cpu.what == SIDE_LEAF && b->io.what == SIDE_LEAF) {
		l->diff = b->cpu.pa ^ b->io.pa;
		l->all_cpu = b->cpu.entry;
		l->all_io = l->any_io = ~0ULL;
	} else {
		return 0;
	}
	all_cpu = l->all_cpu;
	all_io = l->all_io;
	any_io = l->any_io;
	if (l->diff || !(all_cpu & CPU_P))
		return 0;
	if (t->f.kind == PFNW_IOMMU_VIRTIO) {
		if ((b->io.rights ^ b->prot) & 3)
			return 0;
	} else {
		if (b->io.what == SIDE_TABLE && !(all_io & t->f.present))
			return 0;
		if (!rights_are(t, all_io, any_io, upper, b->prot))
			return 0;
	}
	return !(b->prot & IOMMU_WRITE) || cpu_writable(all_cpu);
}

/*
 * Are the next LINE entries of both tables of level 2 leaves, and equal? They were copied
 * by an earlier step. 0: not, or not known without another look.
 */
__noinline int line_equal(struct both *b)
{
	u64 c, e, ci, ii, diff = 0, all_cpu = ~0ULL, all_io = ~0ULL, any_io = 0;
	u64 *cpu, *io;
	struct iotable *t;

	if (!b || b->left < LINE * 512 || (b->va | b->iova) & ((1 << 21) - 1) ||
	    b->cpu.tag != b->va >> 30 || b->io.tag != b->iova >> 30)
		return 0;
	t = &b->t;
	ci = cpu_index(b->va, 2);
	ii = iommu_index(b->iova, 2);
	barrier_var(ci);
	barrier_var(ii);
	if (t->f.kind == PFNW_IOMMU_VIRTIO || ci > 512 - LINE || ii > 512 - LINE)
		return 0;
	cpu = &b->cpu_l2[ci];
	io = &b->io_l2[ii];
	if (!(cpu[0] & CPU_PSE))
		return 0; /* what is most often so */
#pragma unroll
	for (u32 j = 0; j < LINE; j++) {
		c = cpu[j];
		e = io[j];
		diff |= c ^ e;
		all_cpu &= c;
		all_io &= e;
		any_io |= e;
		barrier_var(diff);
		barrier_var(all_cpu);
		barrier_var(all_io);
		barrier_var(any_io);
	}
	if (diff & fmt.addr_mask & ~((1ULL << 21) - 1) || !(all_cpu & CPU_P) ||
	    !(all_cpu & CPU_PSE) || !(all_io & t->f.present))
		return 0;
	if (t->f.huge ? !(all_io & t->f.huge) : any_io & (7 << AMD_LEVEL_SHIFT))
		return 0;
	return rights_are(t, all_io, any_io, t->leaf_rights, b->prot) &&
	       (!(b->prot & IOMMU_WRITE) || cpu_writable(all_cpu));
}

/* What this step's look at virtio-iommu's tree found at @iova: another look might find more. */
static __always_inline void look_evidence(struct both *b, u64 iova, struct pfnw_iowalk *w)
{
	u32 what = b->io.what;

	__builtin_memset(w, 0, sizeof(*w));
	w->iova = iova;
	w->kind = b->t.f.kind;
	virtio_evidence(&b->t, what == SIDE_LEAF ? 1 : what == SIDE_NONE ? 0 : -1, w);
}

/* Both sides of the next step: b->n pages that are one thing on each. */
static __always_inline void look_both(struct both *b)
{
	u64 n;

	look_cpu(b);
	look_io(b);
	n = b->left;
	if (b->cpu.n < n)
		n = b->cpu.n;
	if (b->io.n < n)
		n = b->io.n;
	b->n = n ? n : 1;
}

static __always_inline void both_go_on(struct both *b, u64 n)
{
	b->va += n * PAGE_BYTES;
	b->iova += n * PAGE_BYTES;
	b->left -= n;
}

/* From @va and @iova on, @pages; b->t is found, b->pgd is set. */
static __always_inline void both_begin(struct both *b, u64 va, u64 iova, u64 pages, u32 prot)
{
	b->va = va;
	b->iova = iova;
	b->left = pages;
	b->match = 0;
	b->prot = prot & (IOMMU_READ | IOMMU_WRITE);
	b->slow = 0;
	b->at = 0;
	b->turning.start = ~0ULL;
	b->turning.tries = 0;
	b->cpu.tag = ~0ULL;
	b->io.tag = ~0ULL;
}

/* enum pfnw_differs bits of page @i of the step; fills what b->odd shows of it. */
__noinline u32 page_differs(struct both *b, u64 i)
{
	u32 what, rights, d = 0, care;
	u64 ce, ie, cpa = 0;
	struct pfnw_odd *o;
	struct iotable *t;

	if (!b)
		return PFNW_D_CPU_FAULT;
	o = &b->odd;
	t = &b->t;
	ce = b->cpu.entry;
	ie = b->io.entry;
	what = b->cpu.what;
	rights = b->io.rights;
	care = t->f.rights;
	o->io_pa = 0;
	o->cpu_level = b->cpu.level;
	o->io_level = b->io.level;
	if (what == SIDE_TABLE) {
		ce = b->cpu_l1[i & 511];
		what = cpu_present(1, ce) ? SIDE_LEAF : ce ? SIDE_AWAY : SIDE_NONE;
		cpa = cpu_leaf_pfn(FMT, 1, ce, 0) << PFNW_PAGE_SHIFT;
	} else if (what == SIDE_LEAF) {
		cpa = b->cpu.pa + i * PAGE_BYTES;
	}
	if (what == SIDE_NONE)
		d |= PFNW_D_CPU_NONE;
	else if (what == SIDE_AWAY)
		d |= PFNW_D_CPU_AWAY;
	else if (what == SIDE_FAULT)
		d |= PFNW_D_CPU_FAULT;
	what = b->io.what;
	if (what == SIDE_TABLE) {
		u64 iova = b->iova + i * PAGE_BYTES;
		int k;

		ie = b->io_l1[i & 511];
		k = iommu_entry(&t->f, 1, ie);
		what = k == IOMMU_ENTRY_LEAF ? SIDE_LEAF :
		       k == IOMMU_ENTRY_NONE ? SIDE_NONE :
					       SIDE_FAULT;
		rights &= iommu_rights(&t->f, ie);
		o->io_pa = io_entry_pa(b, ie, iova);
	} else if (what == SIDE_LEAF) {
		o->io_pa = b->io.pa + i * PAGE_BYTES;
	}
	o->cpu_entry = ce;
	o->io_entry = ie;
	o->io_rights = rights;
	if (what == SIDE_NONE)
		return d | PFNW_D_IO_NONE;
	if (what != SIDE_LEAF)
		return d | PFNW_D_IO_FAULT;
	if ((rights ^ b->prot) & care)
		d |= PFNW_D_RIGHTS;
	if (d & (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY | PFNW_D_CPU_FAULT))
		return d;
	if (cpa != o->io_pa)
		return d | PFNW_D_FRAME;
	if (rights & care & IOMMU_WRITE && !cpu_writable(ce))
		d |= PFNW_D_NARROW;
	return d;
}

#endif
