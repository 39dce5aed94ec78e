/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Page-table changes as the kernel tells them to the MMU notifiers of a mm. KVM registers one,
 * so a process that gives a device to a guest has one before it opens VFIO. Whoever takes a
 * present entry away, or puts another frame there, says so before and after
 * (include/linux/mmu_notifier.h); where a mm has no notifier these functions are not called at
 * all. So a process without DMA pays nothing, where those on the functions of mm.bpf.c cost it a
 * trampoline each time.
 *
 * One change may come in the middle of another of the same thread: to allocate memory for a
 * table it may have to reclaim, and reclaim unmaps. The notifier's range lies on the stack, so
 * the inner one has the lower address.
 */

static __always_inline bool still_within(const struct under_way *u, u64 range)
{
	return u && !u->over && u->range > range;
}

/* Of this thread's two tokens the one of @range, or PFNW_CHANGES. */
static __always_inline u32 notified_as(u64 range)
{
	for (u32 fn = PFNW_CHANGE_NOTIFIED; fn <= PFNW_CHANGE_NOTIFIED_WITHIN; fn++) {
		u64 key = changing_key(fn);
		struct under_way *u = bpf_map_lookup_elem(&changing, &key);

		if (u && u->range == range)
			return fn;
	}
	return PFNW_CHANGES;
}

/* Rights alone, given back at the next write: of writeback, fork, and who asks what was written. */
static __always_inline bool same_frames(u32 event)
{
	return event == bpf_core_enum_value(enum mmu_notifier_event, MMU_NOTIFY_PROTECTION_PAGE) ||
	       event == bpf_core_enum_value(enum mmu_notifier_event, MMU_NOTIFY_SOFT_DIRTY);
}

static __noinline int notified_begins(void *ctx, u64 mm, u64 range)
{
	struct mmu_notifier_range *r = (void *)range;
	u64 key = changing_key(PFNW_CHANGE_NOTIFIED), start, end;
	u32 fn = PFNW_CHANGE_NOTIFIED;
	struct under_way *u;
	struct watch *w = watch_of(mm);

	if (!w)
		return 0;
	start = BPF_CORE_READ(r, start);
	end = BPF_CORE_READ(r, end);
	u = bpf_map_lookup_elem(&changing, &key);
	if (still_within(u, range)) {
		fn = PFNW_CHANGE_NOTIFIED_WITHIN;
		key = changing_key(fn);
		u = bpf_map_lookup_elem(&changing, &key);
		if (still_within(u, range)) {
			change_begin(w, start, end); /* as if it never ended */
			return 0;
		}
	}
	finish_change(ctx, fn);
	enter_change(ctx, fn, mm, start, end);
	u = bpf_map_lookup_elem(&changing, &key);
	if (u) {
		u->range = range;
		u->same_frames = same_frames(BPF_CORE_READ(r, event));
	}
	return 0;
}

SEC("?fentry/__mmu_notifier_invalidate_range_start")
int BPF_PROG(notified_in, struct mmu_notifier_range *r)
{
	u64 mm = (u64)r->mm;

	if (all_hooked() || !may_be_watched(mm))
		return 0;
	return notified_begins(ctx, mm, (u64)r);
}

/* (Also where somebody objects who must not sleep: then there is no end.) */
SEC("?fexit/__mmu_notifier_invalidate_range_start")
int BPF_PROG(notified_refused, struct mmu_notifier_range *r, int ret)
{
	u32 fn;

	if (!ret || !n_changing)
		return 0;
	fn = notified_as((u64)r);
	return fn == PFNW_CHANGES ? 0 : finish_change(ctx, fn);
}

SEC("?fexit/__mmu_notifier_invalidate_range_end")
int BPF_PROG(notified_out, struct mmu_notifier_range *r)
{
	u64 mm = (u64)r->mm;
	struct under_way u = { .mm = mm };
	struct watch *w;
	u32 fn;

	if (!n_changing && !may_be_watched(mm))
		return 0;
	fn = notified_as((u64)r);
	if (fn != PFNW_CHANGES)
		return leave_change(ctx, fn, 0, 0, 0);
	w = all_hooked() ? NULL : watch_of(mm);
	if (!w)
		return 0;
	/* under way since before the mm was watched */
	u.start = r->start;
	u.end = r->end;
	u.seq = change_begin(w, u.start, u.end);
	u.same_frames = same_frames(r->event);
	change_over(ctx, PFNW_CHANGE_NOTIFIED, &u, 0);
	return 0;
}

/* exit_mmap(), of a mm that has notifiers. */
SEC("?fentry/__mmu_notifier_release")
int BPF_PROG(mm_released, struct mm_struct *mm)
{
	return ____mm_gone(ctx, mm);
}
