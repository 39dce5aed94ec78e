/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Page-table changes under a watched mm. A difference between a claim and a walk
 * is only a mismatch when the tables stood still in between, so every function
 * that can make a present entry of user memory go away is bracketed here; what
 * comes in its place cannot come earlier. (Nothing replaces one present frame by
 * another without clearing the entry in one of them.)
 *
 * These functions are hot for everybody: a process without DMA pays one hash
 * look-up and leaves.
 */

/*
 * The functions below are hot for everybody. A few comparisons tell that a mm is not
 * watched; only when more are watched than have room here, the map is asked. (A hash
 * would do for all, but the verifier lets no program calculate with a pointer.)
 */
#define WATCH_SLOTS 8
static u64 watch_slot[WATCH_SLOTS];
static u64 watch_more; /* mms in a slot but the first: mostly nobody */
static u64 watch_many; /* mms without a slot */
static u64 n_changing; /* entries in changing */

/* No is certain. */
static __always_inline bool may_be_watched(u64 mm)
{
	if (watch_slot[0] == mm)
		return true;
	if (!watch_more)
		return watch_many;
#pragma unroll
	for (int i = 1; i < WATCH_SLOTS; i++)
		if (watch_slot[i] == mm)
			return true;
	return watch_many;
}

static __always_inline void take_slot(u64 mm)
{
	for (int i = 0; i < WATCH_SLOTS; i++) {
		if (i == 1)
			__sync_fetch_and_add(&watch_more, 1); /* before it can be found there */
		if (!watch_slot[i] && !__sync_val_compare_and_swap(&watch_slot[i], 0, mm))
			return;
	}
	__sync_fetch_and_add(&watch_more, -1);
	__sync_fetch_and_add(&watch_many, 1); /* for good: it cannot be told whose it was */
}

static __always_inline void free_slot(u64 mm)
{
	for (int i = 0; i < WATCH_SLOTS; i++)
		if (watch_slot[i] == mm) {
			watch_slot[i] = 0;
			if (i)
				__sync_fetch_and_add(&watch_more, -1);
		}
}

static __always_inline struct watch *watch_of(u64 mm)
{
	return bpf_map_lookup_elem(&watched, &mm);
}

/* Does the kernel tell an MMU notifier what changes in @mm (KVM has one)? */
static __always_inline bool has_notifier(u64 mm)
{
	struct mm_struct *m = (void *)mm;

	return bpf_core_field_exists(m->notifier_subscriptions) &&
	       BPF_CORE_READ(m, notifier_subscriptions);
}

/* The loader sleeps long while nobody uses VFIO: now there is something to attach. */
static __noinline int tell_used(u64 mm)
{
	struct pfnw_hdr *h = bpf_ringbuf_reserve(&events, sizeof(*h), 0);
	u64 id = bpf_get_current_pid_tgid();

	if (!h)
		return 0; /* it is awake */
	__builtin_memset(h, 0, sizeof(*h));
	h->type = PFNW_EV_USED;
	h->abi = PFNW_ABI;
	h->tgid = id >> 32;
	h->tid = (u32)id;
	h->group = PFNW_NO_GROUP;
	h->ts_ns = bpf_ktime_get_ns();
	h->mm = mm;
	bpf_get_current_comm(h->comm, sizeof(h->comm));
	submit_now(h);
	return 0;
}

/* Nobody needs to be told of by an MMU notifier any more. */
static __always_inline bool all_hooked(void)
{
	return changes_on & changes_seen & PFNW_SIGHT_HOOKS;
}

/* The programs of which one kind, attached, sees all that changes in @w's mm. */
static __always_inline u32 sights_of(const struct watch *w)
{
	return changes_seen &
	       (w->notified ? PFNW_SIGHT_HOOKS | PFNW_SIGHT_NOTIFIER : PFNW_SIGHT_HOOKS);
}

/* Start to watch @mm. Returns 1 if it was watched before, 0 if only from now. */
static __noinline int watch_mm(u64 mm)
{
	struct watch *b, *w = watch_of(mm);
	u32 zero = 0, needs = PFNW_SIGHT_HOOKS;

	if (w) /* before they are attached, changes are not seen */
		return !!(changes_on & sights_of(w));
	take_slot(mm);
	b = bpf_map_lookup_elem(&blank_watch, &zero);
	if (b)
		bpf_map_update_elem(&watched, &mm, b, BPF_NOEXIST);
	w = watch_of(mm);
	if (!w) {
		count(PFNW_S_WATCH_FULL, 1);
		return 0;
	}
	if (changes_seen & PFNW_SIGHT_NOTIFIER && has_notifier(mm)) {
		w->notified = 1; /* (they stay as long as the mm does) */
		needs = PFNW_SIGHT_NOTIFIER;
	}
	if (!(watched_ever & (needs | PFNW_SIGHT_HOOKS))) {
		__sync_fetch_and_or(&watched_ever, needs);
		tell_used(mm);
	}
	return 0;
}

static __noinline u64 change_begin(struct watch *w, u64 start, u64 end)
{
	struct change *ch;
	u64 seq;

	if (!w)
		return 0;
	seq = __sync_fetch_and_add(&w->seq, 1) + 1;
	ch = &w->change[seq & (CHANGES - 1)];
	ch->seq = 0;
	ch->fin = 0;
	ch->start = start;
	ch->end = end;
	ch->tid = this_tid();
	barrier();
	ch->seq = seq;
	count(PFNW_S_CHANGES, 1);
	return seq;
}

static __always_inline void change_end(struct watch *w, u64 seq)
{
	u64 fin = __sync_fetch_and_add(&w->fin, 1) + 1;
	struct change *ch = &w->change[seq & (CHANGES - 1)];

	if (ch->seq == seq)
		ch->fin = fin;
}

/* ---- which changes concern a device? ---- */

#define GRANULE_SHIFT 21

struct mark_loop {
	struct watch *w;
	u64 first;
};

static long mark_step(u32 i, void *arg)
{
	struct mark_loop *l = arg;
	u64 g = (l->first + i) & (GRANULES - 1);

	l->w->granule[(g / 64) & (GRANULES / 64 - 1)] |= 1ULL << (g & 63);
	return 0;
}

/* [@va, + @bytes) of @mm is mapped for a device; ~0: who knows what is. */
static __noinline int mark_mapped(u64 mm, u64 va, u64 bytes)
{
	struct mark_loop l = { .first = va >> GRANULE_SHIFT };
	u64 n;

	l.w = watch_of(mm);
	if (!l.w || !bytes)
		return 0;
	n = ((va & ((1 << GRANULE_SHIFT) - 1)) + bytes - 1) >> GRANULE_SHIFT;
	bpf_loop(n < GRANULES ? n + 1 : GRANULES, mark_step, &l, 0);
	return 0;
}

struct touch_loop {
	struct watch *w;
	u64 first, hit;
};

static long touch_step(u32 i, void *arg)
{
	struct touch_loop *l = arg;
	u64 g = (l->first + i) & (GRANULES - 1);

	if (!(l->w->granule[(g / 64) & (GRANULES / 64 - 1)] & 1ULL << (g & 63)))
		return 0;
	l->hit = 1;
	return 1;
}

/* May [@start, @end) be mapped for a device? No is certain. */
static __noinline int touches_mapped(u64 mm, u64 start, u64 end)
{
	struct touch_loop l = { .first = start >> GRANULE_SHIFT };
	u64 n;

	l.w = watch_of(mm);
	if (!l.w || end <= start)
		return 0;
	l.hit = opaque_zero;
	n = ((end - 1) >> GRANULE_SHIFT) - l.first;
	bpf_loop(n < GRANULES ? n + 1 : GRANULES, touch_step, &l, 0);
	return l.hit;
}

/*
 * A change is over: the loader shall look at what the IOMMU has there. Of one that was over
 * long ago (fn | LEFT_OVER) the stack tells nothing.
 */
#define LEFT_OVER 0x100

static __noinline int send_change(void *ctx, u64 mm, u32 fn, u64 start, u64 end)
{
	struct pfnw_ev_change *r;
	u64 id;
	long n;

	r = (lies & PFNW_LIE_MISS_CHANGE) || no_room_to_spare() ?
		    NULL :
		    bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	if (!r) {
		count_lost(PFNW_S_LOST_CHANGE, 1);
		return 0;
	}
	id = bpf_get_current_pid_tgid();
	__builtin_memset(&r->h, 0, sizeof(r->h));
	r->h.type = PFNW_EV_CHANGE;
	r->h.abi = PFNW_ABI;
	r->h.tgid = id >> 32;
	r->h.tid = (u32)id;
	r->h.group = PFNW_NO_GROUP;
	r->h.ts_ns = bpf_ktime_get_ns();
	r->h.mm = mm;
	bpf_get_current_comm(r->h.comm, sizeof(r->h.comm));
	r->start = start;
	r->end = end;
	r->fn = (u8)fn;
	__builtin_memset(r->pad, 0, sizeof(r->pad));
	n = fn & LEFT_OVER ? 0 : bpf_get_stack(ctx, r->stack, sizeof(r->stack), 0);
	r->n_stack = n > 0 ? n / sizeof(u64) : 0;
	submit(r);
	return 0;
}

static __always_inline u64 changing_key(enum pfnw_change fn)
{
	return (u64)this_tid() << 8 | fn;
}

static __always_inline void change_over(void *ctx, enum pfnw_change fn, struct under_way *u,
					u32 left_over)
{
	struct watch *w = watch_of(u->mm);

	if (!w)
		return;
	change_end(w, u->seq);
	/* (writeback takes rights only, and gives them back at the next write) */
	if (want_ledger && fn != PFNW_CHANGE_MKCLEAN && !u->same_frames &&
	    touches_mapped(u->mm, u->start, u->end))
		send_change(ctx, u->mm, fn | left_over, u->start, u->end);
}

/*
 * The end of this thread's last such change was never seen. That happens where the kernel
 * preempts; and everywhere when somebody else's program comes to, or goes from, the same
 * function: bpf_tramp_image_put() lets the calls under way skip their exits.
 */
static __noinline int finish_change(void *ctx, u32 fn)
{
	u64 key = changing_key(fn);
	struct under_way *u = bpf_map_lookup_elem(&changing, &key), then;

	if (!u)
		return 0;
	then = *u;
	if (!bpf_map_delete_elem(&changing, &key))
		__sync_fetch_and_add(&n_changing, -1);
	if (!then.over)
		change_over(ctx, fn, &then, LEFT_OVER);
	return 0;
}

static __always_inline int enter_change(void *ctx, enum pfnw_change fn, u64 mm, u64 start, u64 end)
{
	struct under_way u = { .mm = mm, .start = start, .end = end };
	struct watch *w;
	u64 key;

	if (!may_be_watched(mm))
		return 0;
	w = watch_of(mm);
	if (!w)
		return 0;
	__sync_fetch_and_add(&n_changing, 1);
	key = changing_key(fn);
	u.seq = change_begin(w, start, end);
	if (!bpf_map_update_elem(&changing, &key, &u, BPF_NOEXIST))
		return 0;
	finish_change(ctx, fn);
	if (bpf_map_update_elem(&changing, &key, &u, BPF_NOEXIST))
		__sync_fetch_and_add(&n_changing, -1); /* full */
	return 0;
}

/* @mm 0: the arguments may be stale by now, only end what is known to have begun. */
static __always_inline int leave_change(void *ctx, enum pfnw_change fn, u64 mm, u64 start, u64 end)
{
	struct under_way *u, now = {};
	struct watch *w;
	u64 key;

	if (!n_changing && !may_be_watched(mm))
		return 0;
	key = changing_key(fn);
	u = bpf_map_lookup_elem(&changing, &key);
	if (u) {
		now = *u;
		if (!bpf_map_delete_elem(&changing, &key))
			__sync_fetch_and_add(&n_changing, -1);
		if (now.over)
			return 0;
	} else {
		/* Under way since before the mm was watched: say so now. */
		w = mm ? watch_of(mm) : NULL;
		if (!w)
			return 0;
		now.mm = mm;
		now.start = start;
		now.end = end;
		now.seq = change_begin(w, start, end);
	}
	change_over(ctx, fn, &now, 0);
	return 0;
}

struct overlap {
	struct watch *w;
	u64 seq0, fin0;
	u64 start, end;
	u64 tid;
	u64 in_flight;
	u64 moved;
};

static long overlap_step(u32 i, void *arg)
{
	struct overlap *o = arg;
	struct change *ch = &o->w->change[i & (CHANGES - 1)];
	u64 seq = ch->seq, fin = ch->fin;
	bool late = seq > o->seq0;

	if (!seq)
		return 0;
	if (!late && fin && fin <= o->fin0)
		return 0; /* over before the claim began */
	if (!late)
		o->in_flight++;
	/* The claiming thread's own faults come before its pin. */
	if (ch->tid != o->tid && ch->start < o->end && o->start < ch->end)
		o->moved = 1;
	return 0;
}

/* enum pfnw_moved: did an entry of [@va, @va + @bytes) change since @seq0/@fin0? */
static __noinline int tables_moved(u64 mm, u64 seq0, u64 fin0, u64 va, u64 bytes)
{
	struct overlap o = { .seq0 = seq0,
			     .fin0 = fin0,
			     .start = va,
			     .end = va + bytes,
			     .tid = this_tid(),
			     .in_flight = opaque_zero,
			     .moved = opaque_zero };
	struct watch *w = watch_of(mm);

	if (!w || !(changes_on & sights_of(w)))
		return PFNW_UNKNOWN;
	if (w->seq == seq0 && fin0 == seq0)
		return PFNW_STOOD;
	if (w->seq - seq0 >= CHANGES)
		return PFNW_UNKNOWN;
	o.w = w;
	bpf_loop(CHANGES, overlap_step, &o, 0);
	if (o.moved)
		return PFNW_MOVED;
	/* some may have been overwritten before they were looked at */
	if (w->seq - seq0 >= CHANGES)
		return PFNW_UNKNOWN;
	/* A change that was under way then, but has left the ring since? */
	if (o.in_flight < seq0 - fin0)
		return PFNW_UNKNOWN;
	return PFNW_STOOD;
}

/* All zaps of ordinary VMAs come together here: until 7.0 ... */
SEC("?fentry/unmap_page_range")
int BPF_PROG(zap_in, void *tlb, struct vm_area_struct *vma, unsigned long addr, unsigned long end)
{
	return enter_change(ctx, PFNW_CHANGE_ZAP, (u64)vma->vm_mm, addr, end);
}

SEC("?fexit/unmap_page_range")
int BPF_PROG(zap_out, void *tlb, struct vm_area_struct *vma, unsigned long addr, unsigned long end)
{
	return leave_change(ctx, PFNW_CHANGE_ZAP, (u64)vma->vm_mm, addr, end);
}

/* ... and here since 7.1, hugetlb too: mm/memory.c, zap_vma_range_batched() */
SEC("?fentry/__zap_vma_range")
int BPF_PROG(zap_vma_in, void *tlb, struct vm_area_struct *vma, unsigned long addr,
	     unsigned long end)
{
	return enter_change(ctx, PFNW_CHANGE_ZAP, (u64)vma->vm_mm, addr, end);
}

SEC("?fexit/__zap_vma_range")
int BPF_PROG(zap_vma_out, void *tlb, struct vm_area_struct *vma, unsigned long addr,
	     unsigned long end)
{
	return leave_change(ctx, PFNW_CHANGE_ZAP, (u64)vma->vm_mm, addr, end);
}

SEC("?fentry/__unmap_hugepage_range")
int BPF_PROG(zap_hugetlb_in, void *tlb, struct vm_area_struct *vma, unsigned long start,
	     unsigned long end)
{
	return enter_change(ctx, PFNW_CHANGE_ZAP_HUGETLB, (u64)vma->vm_mm, start, end);
}

SEC("?fexit/__unmap_hugepage_range")
int BPF_PROG(zap_hugetlb_out, void *tlb, struct vm_area_struct *vma, unsigned long start,
	     unsigned long end)
{
	return leave_change(ctx, PFNW_CHANGE_ZAP_HUGETLB, (u64)vma->vm_mm, start, end);
}

/*
 * mremap(): entries go away in the old range only. Its bounds are arguments, since
 * the refactoring of 6.16 members of one; a mover of more than this mm knows is all.
 */
struct pagetable_move_control___v {
	unsigned long old_addr, len_in;
} __attribute__((preserve_access_index));

/* From the first, second and fifth argument: (vma, old_addr, new_vma, new_addr, len, ...). */
static __always_inline void move_range(u64 first, u64 second, u64 fifth, u64 *start, u64 *end)
{
	if (bpf_core_type_exists(struct pagetable_move_control___v)) {
		struct pagetable_move_control___v *c = (void *)first;

		*start = BPF_CORE_READ(c, old_addr);
		*end = *start + BPF_CORE_READ(c, len_in);
	} else {
		*start = second;
		*end = second + fifth;
	}
	if (*end <= *start) {
		*start = 0;
		*end = ~0ULL;
	}
}

SEC("?fentry/move_page_tables")
int BPF_PROG(move_in)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u64 start = 0, end = 0, first = 0, second = 0, fifth = 0;

	bpf_get_func_arg(ctx, 0, &first);
	bpf_get_func_arg(ctx, 1, &second);
	bpf_get_func_arg(ctx, 4, &fifth);
	move_range(first, second, fifth, &start, &end);
	return enter_change(ctx, PFNW_CHANGE_MOVE, (u64)t->mm, start, end);
}

SEC("?fexit/move_page_tables")
int BPF_PROG(move_out)
{
	struct task_struct *t = bpf_get_current_task_btf();

	/* the arguments may have moved on: what began is known */
	return leave_change(ctx, PFNW_CHANGE_MOVE, (u64)t->mm, 0, ~0ULL);
}

/* mprotect(), userfaultfd write protection, NUMA hinting: rights, not frames. */
SEC("?fentry/change_protection")
int BPF_PROG(prot_in, void *tlb, struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	return enter_change(ctx, PFNW_CHANGE_PROT, (u64)vma->vm_mm, start, end);
}

SEC("?fexit/change_protection")
int BPF_PROG(prot_out, void *tlb, struct vm_area_struct *vma, unsigned long start,
	     unsigned long end)
{
	return leave_change(ctx, PFNW_CHANGE_PROT, (u64)vma->vm_mm, start, end);
}

#define VM_HUGETLB 0x00400000UL

/*
 * Where the range is not an argument: what one entry can translate. @bytes holds
 * for ordinary memory; a hugetlb entry may translate 1 GiB.
 */
static __always_inline u64 around(struct vm_area_struct *vma, u64 bytes)
{
	return vma->vm_flags & VM_HUGETLB ? 1ULL << 30 : bytes;
}

#define FOLIO_BYTES (2ULL << 20) /* may be mapped at any offset: twice that is safe */

SEC("?fentry/try_to_unmap_one")
int BPF_PROG(unmap_one_in, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	u64 n = around(vma, FOLIO_BYTES);

	addr &= ~(n - 1);
	return enter_change(ctx, PFNW_CHANGE_UNMAP_ONE, (u64)vma->vm_mm, addr, addr + 2 * n);
}

SEC("?fexit/try_to_unmap_one")
int BPF_PROG(unmap_one_out, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	u64 n = around(vma, FOLIO_BYTES);

	addr &= ~(n - 1);
	return leave_change(ctx, PFNW_CHANGE_UNMAP_ONE, (u64)vma->vm_mm, addr, addr + 2 * n);
}

SEC("?fentry/try_to_migrate_one")
int BPF_PROG(migrate_one_in, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	u64 n = around(vma, FOLIO_BYTES);

	addr &= ~(n - 1);
	return enter_change(ctx, PFNW_CHANGE_MIGRATE_ONE, (u64)vma->vm_mm, addr, addr + 2 * n);
}

SEC("?fexit/try_to_migrate_one")
int BPF_PROG(migrate_one_out, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	u64 n = around(vma, FOLIO_BYTES);

	addr &= ~(n - 1);
	return leave_change(ctx, PFNW_CHANGE_MIGRATE_ONE, (u64)vma->vm_mm, addr, addr + 2 * n);
}

/* Writeback takes the right to write away, without mmap_lock, of pinned pages too. */
SEC("?fentry/page_mkclean_one")
int BPF_PROG(mkclean_in, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return enter_change(ctx, PFNW_CHANGE_MKCLEAN, (u64)vma->vm_mm, addr,
			    addr + 2 * FOLIO_BYTES);
}

SEC("?fexit/page_mkclean_one")
int BPF_PROG(mkclean_out, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return leave_change(ctx, PFNW_CHANGE_MKCLEAN, (u64)vma->vm_mm, addr,
			    addr + 2 * FOLIO_BYTES);
}

/*
 * COW: the old entry is cleared and the new one set inside. (Their common helper,
 * ptep_clear_flush(), returns a structure: no trampoline takes that.)
 */
SEC("?fentry/do_wp_page")
int BPF_PROG(cow_in, struct vm_fault *vmf)
{
	u64 va = vmf->address & ~(PAGE_BYTES - 1);

	return enter_change(ctx, PFNW_CHANGE_COW, (u64)vmf->vma->vm_mm, va, va + PAGE_BYTES);
}

SEC("?fexit/do_wp_page")
int BPF_PROG(cow_out, struct vm_fault *vmf)
{
	/* vmf->vma may be gone once mmap_lock was dropped for a retry */
	return leave_change(ctx, PFNW_CHANGE_COW, 0, 0, 0);
}

SEC("?fentry/do_huge_pmd_wp_page")
int BPF_PROG(cow_huge_in, struct vm_fault *vmf)
{
	u64 va = vmf->address & ~(FOLIO_BYTES - 1);

	return enter_change(ctx, PFNW_CHANGE_COW_HUGE, (u64)vmf->vma->vm_mm, va, va + FOLIO_BYTES);
}

SEC("?fexit/do_huge_pmd_wp_page")
int BPF_PROG(cow_huge_out, struct vm_fault *vmf)
{
	return leave_change(ctx, PFNW_CHANGE_COW_HUGE, 0, 0, 0);
}

#define HUGETLB_BYTES (1ULL << 30)

SEC("?fentry/hugetlb_fault")
int BPF_PROG(hugetlb_fault_in, struct mm_struct *mm, void *vma, unsigned long addr)
{
	addr &= ~(HUGETLB_BYTES - 1);
	return enter_change(ctx, PFNW_CHANGE_HUGETLB_FAULT, (u64)mm, addr, addr + HUGETLB_BYTES);
}

SEC("?fexit/hugetlb_fault")
int BPF_PROG(hugetlb_fault_out, struct mm_struct *mm, void *vma, unsigned long addr)
{
	addr &= ~(HUGETLB_BYTES - 1);
	return leave_change(ctx, PFNW_CHANGE_HUGETLB_FAULT, (u64)mm, addr, addr + HUGETLB_BYTES);
}

/* khugepaged and MADV_COLLAPSE */
SEC("?fentry/collapse_huge_page")
int BPF_PROG(collapse_in, struct mm_struct *mm, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return enter_change(ctx, PFNW_CHANGE_COLLAPSE, (u64)mm, addr, addr + FOLIO_BYTES);
}

SEC("?fexit/collapse_huge_page")
int BPF_PROG(collapse_out, struct mm_struct *mm, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return leave_change(ctx, PFNW_CHANGE_COLLAPSE, (u64)mm, addr, addr + FOLIO_BYTES);
}

/* The first frame of the huge zero page; ~0: there is none now, 0: it cannot be known. */
static __always_inline u64 huge_zero_frame(void)
{
	u64 pfn = 0;

	if (huge_zero_pfn_at)
		bpf_probe_read_kernel(&pfn, sizeof(pfn), (void *)huge_zero_pfn_at);
	return pfn;
}

/*
 * A change of a part of a huge leaf splits it first, all of it. The frames stay, unless it
 * is the huge zero page: __split_huge_zero_page_pmd() puts the small one everywhere.
 */
static __always_inline int split_begun(u64 mm, u64 pmd, u64 start)
{
	u64 key, e = 0, zero = huge_zero_frame();
	struct under_way *u;

	if (!may_be_watched(mm) || !zero || bpf_probe_read_kernel(&e, sizeof(e), (void *)pmd) ||
	    cpu_leaf_pfn(FMT, 2, e, 0) == zero)
		return 0;
	key = changing_key(PFNW_CHANGE_SPLIT);
	u = bpf_map_lookup_elem(&changing, &key);
	if (u && u->mm == mm && u->start == start) /* not an older one, of another's */
		u->same_frames = 1;
	return 0;
}

SEC("?fentry/__split_huge_pmd")
int BPF_PROG(split_in, struct vm_area_struct *vma, void *pmd, unsigned long addr)
{
	u64 mm = (u64)vma->vm_mm;

	addr &= ~(FOLIO_BYTES - 1);
	enter_change(ctx, PFNW_CHANGE_SPLIT, mm, addr, addr + FOLIO_BYTES);
	return split_begun(mm, (u64)pmd, addr);
}

SEC("?fexit/__split_huge_pmd")
int BPF_PROG(split_out, struct vm_area_struct *vma, void *pmd, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return leave_change(ctx, PFNW_CHANGE_SPLIT, (u64)vma->vm_mm, addr, addr + FOLIO_BYTES);
}

SEC("?fentry/exit_mmap")
int BPF_PROG(mm_gone, struct mm_struct *mm)
{
	u64 key = (u64)mm;

	if (!may_be_watched(key))
		return 0;
	if (want_ledger && touches_mapped(key, 0, ~0ULL))
		send_change(ctx, key, PFNW_CHANGE_EXIT, 0, ~0ULL);
	bpf_map_delete_elem(&watched, &key);
	free_slot(key);
	return 0;
}
