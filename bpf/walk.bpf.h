/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Reading CPU page tables from BPF. Only page-table pages are read, through the
 * direct map and with bpf_probe_read_kernel(): it cannot fault, and a leaf is
 * never followed (it may be MMIO).
 */
#ifndef PFNW_WALK_BPF_H
#define PFNW_WALK_BPF_H

#include "core.bpf.h"

#define FMT (&fmt)

/*
 * Walk the tables at @pgd for @va down to the leaf, or with @stop = 2 down to
 * the PTE table. Fills @w; returns the kernel VA of the last table read.
 */
static __always_inline u64 walk_down(u64 pgd, u64 va, int stop, struct pfnw_walk *w)
{
	u64 table = pgd;

	w->va = va & ~(PAGE_BYTES - 1);
	w->entry[0] = w->entry[1] = w->entry[2] = w->entry[3] = w->entry[4] = 0;
	w->top = fmt.levels;
	w->leaf = 0;
	w->status = PFNW_WALK_UNREAD;
	*(u32 *)w->pad = 0;
	w->pad[4] = 0;

#pragma unroll
	for (int level = 5; level >= 1; level--) {
		u64 e = 0;

		if (level > fmt.levels || level < stop)
			continue;
		if (bpf_probe_read_kernel(&e, sizeof(e),
					  (void *)(table + 8 * (u64)cpu_index(va, level)))) {
			w->status = PFNW_WALK_FAULT;
			return 0;
		}
		w->entry[level - 1] = e;
		w->leaf = level;
		if (!cpu_present(level, e)) {
			w->status = PFNW_WALK_NONE;
			return table;
		}
		if (cpu_is_leaf(level, e)) {
			w->status = PFNW_WALK_LEAF;
			return table;
		}
		table = page_offset + cpu_table(FMT, e);
	}
	return table;
}

static __noinline int cpu_walk(u64 pgd, u64 va, struct pfnw_walk *w)
{
	if (!w)
		return 0;
	walk_down(pgd, va, 1, w);
	return w->status;
}

/* The leaf that the snapshot holds for @va; level 0 when it holds none. */
static __always_inline int snap_leaf(struct snap *s, u64 va, u64 *entry)
{
	u64 i = (va - s->va) / PAGE_BYTES;

	if (va < s->va || i >= s->pages)
		return 0;
#pragma unroll
	for (int k = 0; k < SNAP_SEGS; k++) {
		struct seg *g = &s->seg[k];

		if (k < s->nsegs && va >= g->va && va - g->va < g->pages * PAGE_BYTES) {
			if (g->level == 1)
				*entry = s->pte[i & (2 * BATCH_PAGES - 1)];
			else
				*entry = g->entry;
			return g->level;
		}
	}
	return 0;
}

/* PFN and right to write of a present leaf; 0: not present, nothing to say. */
static __always_inline int leaf_frame(int level, u64 e, u64 va, u64 *pfn, u32 *writable)
{
	if (level < 1 || level > 3 || !cpu_present(level, e))
		return 0;
	*pfn = cpu_leaf_pfn(FMT, level, e, va);
	*writable = cpu_writable(e);
	return 1;
}

struct suffix {
	struct snap *s;
	u64 va, pfn; /* of the lowest page so far */
	u64 pages;
	u32 writable;
};

static long suffix_step(u32 n, void *arg)
{
	struct suffix *x = arg;
	u64 e = 0, pfn = 0;
	u32 w = 0;
	int level = snap_leaf(x->s, x->va - PAGE_BYTES, &e);

	if (!leaf_frame(level, e, x->va - PAGE_BYTES, &pfn, &w) || pfn + 1 != x->pfn)
		return 1;
	x->va -= PAGE_BYTES;
	x->pfn = pfn;
	x->pages++;
	x->writable &= w;
	return 0;
}

/*
 * The kernel maps a run of frames in one go, however many claims it took, so the
 * end of what the earlier claims showed must outlive their snapshot: @tail is the
 * longest run of frames that ends right before @va. Called before a new snapshot.
 */
static __noinline int advance_tail(struct context *c, u64 va)
{
	struct suffix x = {};
	struct snap *s;
	struct tail *t;
	u64 e = 0, last;
	int level;

	if (!c)
		return 0;
	s = &c->snap;
	t = &c->tail;
	if (s->pages && va == s->va) /* the same range asked for again */
		return 0;
	last = s->va + (u64)s->pages * PAGE_BYTES - PAGE_BYTES;
	if (!s->pages || va != last + PAGE_BYTES) {
		t->pages = 0;
		return 0;
	}
	level = snap_leaf(s, last, &e);
	if (!leaf_frame(level, e, last, &x.pfn, &x.writable)) {
		t->pages = 0;
		return 0;
	}
	if (s->contig || (s->nsegs == 1 && level > 1)) {
		/* The whole snapshot is one run; contig looked at every right. */
		x.pages = s->pages;
		x.va = s->va;
		x.pfn -= s->pages - 1;
		x.writable &= s->writable;
	} else {
		x.s = s;
		x.va = last;
		x.pages = opaque_zero + 1;
		bpf_loop(s->pages - 1, suffix_step, &x, 0);
	}
	if (x.va == s->va && t->pages && t->va + t->pages * PAGE_BYTES == s->va &&
	    t->pfn + t->pages == x.pfn) {
		t->pages += x.pages;
		t->writable &= x.writable;
		t->locked &= s->locked;
	} else {
		t->va = x.va;
		t->pfn = x.pfn;
		t->pages = x.pages;
		t->writable = x.writable;
		t->locked = s->locked;
	}
	return 0;
}

struct snap_loop {
	struct context *c;
	u64 va, pages, done;
};

/* One table of PTEs, or one huge leaf, into the snapshot. */
static long snap_seg(u32 k, void *arg)
{
	struct snap_loop *l = arg;
	struct context *c = l->c;
	u64 at, table, n, off, bytes;
	struct pfnw_walk w;
	struct snap *s;
	struct seg *g;

	if (!c || l->done >= l->pages || k >= SNAP_SEGS)
		return 1;
	s = &c->snap;
	g = &s->seg[k];
	at = l->va + l->done * PAGE_BYTES;
	table = walk_down(c->pgd, at, 2, &w);
	g->va = at;
	g->entry = 0;
	g->level = 0;
	n = cpu_leaf_rest(at, 2);
	if (w.status == PFNW_WALK_LEAF) {
		if (w.leaf == 3) {
			n = cpu_leaf_rest(at, 3);
			g->entry = w.entry[2];
		} else {
			g->entry = w.entry[1];
		}
		g->level = w.leaf;
		s->writable &= cpu_writable(g->entry);
	} else if (w.status == PFNW_WALK_UNREAD) {
		g->level = 1;
	}
	if (n > l->pages - l->done)
		n = l->pages - l->done;
	if (g->level == 1) {
		off = l->done;
		if (off >= BATCH_PAGES)
			return 1;
		if (n > BATCH_PAGES)
			n = BATCH_PAGES;
		bytes = n * 8;
		barrier_var(bytes);
		if (bytes > BATCH_PAGES * 8)
			return 1;
		if (bpf_probe_read_kernel(&s->pte[off & (BATCH_PAGES - 1)], bytes,
					  (void *)(table + 8 * (u64)cpu_index(at, 1))))
			g->level = 0;
	}
	g->pages = n;
	l->done += n;
	s->nsegs = k + 1;
	return 0;
}

/*
 * Read the leaves of [@va, @va + @pages) into the snapshot: a huge leaf once,
 * PTEs a whole table at a time. At most BATCH_PAGES where there are PTEs, which
 * is what one claim asks for.
 */
static __noinline int take_snapshot(struct context *c, u64 va, u64 pages)
{
	struct snap_loop l = { .c = c, .va = va, .pages = pages, .done = opaque_zero };
	struct snap *s;

	if (!c)
		return 0;
	advance_tail(c, va);
	s = &c->snap;
	s->va = va;
	s->nsegs = 0;
	s->contig = 0;
	s->writable = 1;
	s->locked = 0;
	s->claimed = 0;
	s->pfnmap = 0;
	bpf_loop(SNAP_SEGS, snap_seg, &l, 0);
	s->pages = l.done;
	return 0;
}

#endif
