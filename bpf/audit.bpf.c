/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Walks on demand: the judge's second look, and the self-test of the walker. */

struct pfnw_rewalk rewalk_arg;

/* Walk rewalk_arg.va again, if its mm is still there. */
SEC("?syscall")
int rewalk(void *ctx)
{
	struct pfnw_rewalk *r = &rewalk_arg;
	struct pfnw_walk w;
	u64 mm = r->mm, pgd = 0;

	r->gone = !watch_of(mm);
	if (r->gone)
		return 0;
	bpf_probe_read_kernel(&pgd, sizeof(pgd), &((struct mm_struct *)mm)->pgd);
	cpu_walk(pgd, r->va, &w);
	r->walk = w;
	r->moved = tables_moved(mm, r->change_seq, r->change_fin, r->va, PAGE_BYTES);
	r->gone = !watch_of(mm);
	return 0;
}

/* Walk a page of the loader itself: user space compares with /proc/self/pagemap. */
SEC("?syscall")
int selfwalk(void *ctx)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct pfnw_rewalk *r = &rewalk_arg;
	struct pfnw_walk w;

	cpu_walk((u64)BPF_CORE_READ(t, mm, pgd), r->va, &w);
	r->walk = w;
	return 0;
}

/* ---- who is in scope ---- */

SEC("?tp_btf/sched_process_fork")
int BPF_PROG(process_forked, struct task_struct *parent, struct task_struct *child)
{
	u32 p = parent->tgid, c = child->tgid, one = 1;

	if (p != c && bpf_map_lookup_elem(&scope, &p) &&
	    bpf_map_update_elem(&scope, &c, &one, BPF_ANY))
		count(PFNW_S_SCOPE_FULL, 1);
	return 0;
}

/* Everybody's threads end: of one that has not called there is nothing to look for. */
static __always_inline bool nothing_left(u32 tid)
{
	return !may_have_called(tid) && !n_changing && !scope_pids;
}

SEC("?tp_btf/sched_process_exit")
int BPF_PROG(thread_exited, struct task_struct *t)
{
	u32 tid = t->pid, tgid = t->tgid;

	if (nothing_left(tid))
		return 0;
	settle_call();
	for (u32 fn = PFNW_CHANGE_ZAP; n_changing && fn < PFNW_CHANGE_EXIT; fn++)
		finish_change(ctx, fn);
	/* (to look is cheaper than to delete, which takes a lock) */
	if (bpf_map_lookup_elem(&contexts, &tid))
		bpf_map_delete_elem(&contexts, &tid);
	if (whole && bpf_map_lookup_elem(&boths, &tid))
		bpf_map_delete_elem(&boths, &tid);
	/* the last thread: its number may soon be somebody else's */
	if (scope_pids && !BPF_CORE_READ(t, signal, live.counter))
		bpf_map_delete_elem(&scope, &tgid);
	return 0;
}

/* Watch the mms of the processes in map scope_watch from the start. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u32);
} owners SEC(".maps");

SEC("?iter/task")
int watch_owners(struct bpf_iter__task *it)
{
	struct task_struct *t = it->task;
	u32 tgid;

	if (!t)
		return 0;
	tgid = t->tgid;
	if (t->mm && bpf_map_lookup_elem(&owners, &tgid)) {
		watch_mm((u64)t->mm);
		/* what it has mapped by now is not known here */
		mark_mapped((u64)t->mm, 0, ~0ULL);
	}
	return 0;
}
