/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * For kernels that preempt kernel code (full, lazy). There a thread may lose the CPU
 * in the middle of a program; and while it waits, the kernel skips the same program
 * for every other thread on that CPU (recursion_misses). So:
 *
 * - Entries come by kprobe, whose handler is not preempted. They leave a token: the
 *   change, the claim, the call under way. The kernel skips kprobes, too, while it works
 *   on a BPF map for some thread of this CPU, and may preempt that. So the entries of
 *   calls and claims have a double by fentry, which looks whether it is such a moment.
 * - Exits of ioctls come by kretprobe, and have a double as well. The kernel keeps room for
 *   some ten of them at a time (or two a CPU): what finds none is settled later, too.
 * - Other exits come by two programs, one the twin of the other. Whichever runs first takes
 *   the token and does the work; the other finds none and leaves. When both were
 *   skipped, the next entry of that thread, or its end, finds the token and settles.
 */

extern const int bpf_prog_active __ksym __weak;

/* Has the kprobe before us been skipped? */
static __always_inline bool skipped(void)
{
	return &bpf_prog_active && *(int *)bpf_this_cpu_ptr(&bpf_prog_active);
}

/* ---- container calls ---- */

/* The end of this thread's last call, or unmap, was skipped, twice. */
static __noinline int settle(void)
{
	u32 key = this_tid() | IN_UNMAP;
	u64 *iommu = bpf_map_lookup_elem(&in_call, &key);

	if (iommu) {
		end_unmap(*iommu);
		count(PFNW_S_SETTLED, 1);
	}
	return settle_call();
}

SEC("?kprobe/vfio_iommu_type1_open")
int BPF_KPROBE(container_open_calm)
{
	return ____container_open((void *)ctx);
}

SEC("?kprobe/vfio_iommu_type1_ioctl")
int BPF_KPROBE(container_call_in_calm, void *iommu, unsigned int cmd, unsigned long arg)
{
	settle();
	return ____container_call_in((void *)ctx, iommu, cmd, arg);
}

SEC("?fentry/vfio_iommu_type1_ioctl")
int BPF_PROG(container_call_in_double, void *iommu, unsigned int cmd, unsigned long arg)
{
	if (!skipped())
		return 0;
	count(PFNW_S_MADE_UP, 1);
	settle();
	return ____container_call_in(ctx, iommu, cmd, arg);
}

/*
 * The exit of a call does much, and with twins two threads that are preempted there would make
 * the kernel skip both for all others. A kretprobe's handler is not preempted. What it does not
 * see, since it is skipped in turn, a double does.
 */
SEC("?kretprobe/vfio_iommu_type1_ioctl")
int BPF_KRETPROBE(container_call_out_calm, long ret)
{
	u32 tid = this_tid();
	u64 *token = bpf_map_lookup_elem(&in_call, &tid), iommu;

	if (!token)
		return 0;
	iommu = *token;
	if (!audit_only)
		leave_call((void *)ctx, ret);
	container_free(iommu);
	return 0;
}

SEC("?fexit/vfio_iommu_type1_ioctl")
int BPF_PROG(container_call_out_double, void *iommu, unsigned int cmd, unsigned long arg, long ret)
{
	return skipped() ? ____container_call_out(ctx, iommu, cmd, arg, ret) : 0;
}

static __always_inline int group_in_calm(u32 kind, u64 iommu, struct iommu_group *group)
{
	settle();
	return group_in(kind, iommu, BPF_CORE_READ(group, id));
}

SEC("?kprobe/vfio_iommu_type1_attach_group")
int BPF_KPROBE(attach_group_in_calm, void *iommu, struct iommu_group *group)
{
	return group_in_calm(CALL_ATTACH, (u64)iommu, group);
}

SEC("?kprobe/vfio_iommu_type1_detach_group")
int BPF_KPROBE(detach_group_in_calm, void *iommu, struct iommu_group *group)
{
	return group_in_calm(CALL_DETACH, (u64)iommu, group);
}

SEC("?fentry/vfio_iommu_type1_attach_group")
int BPF_PROG(attach_group_in_double, void *iommu, struct iommu_group *group)
{
	if (!skipped())
		return 0;
	count(PFNW_S_MADE_UP, 1);
	return group_in_calm(CALL_ATTACH, (u64)iommu, group);
}

SEC("?fentry/vfio_iommu_type1_detach_group")
int BPF_PROG(detach_group_in_double, void *iommu, struct iommu_group *group)
{
	if (!skipped())
		return 0;
	count(PFNW_S_MADE_UP, 1);
	return group_in_calm(CALL_DETACH, (u64)iommu, group);
}

SEC("?kprobe/vfio_iommu_type1_release")
int BPF_KPROBE(container_released_calm, void *iommu)
{
	return ____container_released((void *)ctx, iommu);
}

SEC("?kprobe/vfio_iommu_type1_pin_pages")
int BPF_KPROBE(pin_pages_in_calm, void *iommu, struct iommu_group *group)
{
	return enter_call(CALL_PIN, (u64)iommu, BPF_CORE_READ(group, id));
}

SEC("?tp_btf/sched_process_fork")
int BPF_PROG(process_forked_twin, struct task_struct *parent, struct task_struct *child)
{
	return ____process_forked(ctx, parent, child);
}

/* ---- claims ---- */

SEC("?kprobe/vaddr_get_pfns")
int BPF_KPROBE(claim_in_calm, struct mm_struct *mm, unsigned long va, long npages, int prot)
{
	return claim_begins((u64)mm, va, npages, prot, PT_REGS_PARM5(ctx), ctx->r9);
}

SEC("?fentry/vaddr_get_pfns")
int BPF_PROG(claim_in_double, struct mm_struct *mm, unsigned long va, long npages, int prot)
{
	if (!skipped())
		return 0;
	count(PFNW_S_MADE_UP, 1);
	return ____claim_in(ctx, mm, va, npages, prot);
}

SEC("?fexit/vaddr_get_pfns")
int BPF_PROG(claim_out_twin, struct mm_struct *mm, unsigned long va)
{
	return ____claim_out(ctx, mm, va);
}

/* ---- mappings: the token is what the tracepoint told ---- */

SEC("?fexit/iommu_map")
int BPF_PROG(map_out_twin, struct iommu_domain *domain, unsigned long iova, u64 paddr, size_t size,
	     int prot)
{
	struct context *c = inside();

	if (!c || c->told != TOLD)
		return 0;
	____map_out(ctx, domain, iova, paddr, size, prot);
	c->told = TOLD_TWIN;
	return 0;
}

SEC("?fexit/__iommu_unmap")
int BPF_PROG(unmap_core_out_twin, struct iommu_domain *domain, unsigned long iova, size_t size)
{
	struct context *c = inside();

	if (!c || c->told_unmap != TOLD)
		return 0;
	____unmap_core_out(ctx, domain, iova, size);
	c->told_unmap = TOLD_TWIN;
	return 0;
}

SEC("?tp_btf/map")
int BPF_PROG(tp_map_twin, unsigned long iova, u64 paddr, size_t size)
{
	return ____tp_map(ctx, iova, paddr, size);
}

SEC("?tp_btf/unmap")
int BPF_PROG(tp_unmap_twin, unsigned long iova, size_t size, size_t done)
{
	return ____tp_unmap(ctx, iova, size, done);
}

SEC("?kprobe/vfio_unmap_unpin")
int BPF_KPROBE(dma_unmapping_calm, struct vfio_iommu *iommu, struct vfio_dma *dma)
{
	return ____dma_unmapping((void *)ctx, iommu, dma);
}

SEC("?fentry/vfio_unmap_unpin")
int BPF_PROG(dma_unmapping_double, struct vfio_iommu *iommu, struct vfio_dma *dma)
{
	return skipped() ? ____dma_unmapping(ctx, iommu, dma) : 0;
}

SEC("?fexit/vfio_unmap_unpin")
int BPF_PROG(dma_unmapped_twin, struct vfio_iommu *iommu, struct vfio_dma *dma)
{
	return ____dma_unmapped(ctx, iommu, dma);
}

/* ---- changes of page tables ---- */

/* The first of two exits leaves the token, so that the other does not miss it. */
static __always_inline int end_change(void *ctx, enum pfnw_change fn)
{
	struct under_way *u;
	u64 key;

	if (!n_changing)
		return 0;
	key = changing_key(fn);
	u = bpf_map_lookup_elem(&changing, &key);
	if (!u || u->over)
		return 0;
	u->over = 1;
	change_over(ctx, fn, u, 0);
	return 0;
}

/*
 * A kprobe's arguments are numbers to the verifier. Told what they point to, it lets a program
 * read there as a fentry does, where bpf_probe_read_kernel() takes some 90 instructions.
 */
extern void *bpf_rdonly_cast(void *p, __u32 type) __ksym __weak;

#define TYPED(p) ((typeof(p))bpf_rdonly_cast(p, bpf_core_type_id_kernel(typeof(*(p)))))

static __always_inline u64 mm_of(struct vm_area_struct *vma)
{
	return can_cast ? (u64)TYPED(vma)->vm_mm : (u64)BPF_CORE_READ(vma, vm_mm);
}

static __always_inline int begin_change(void *ctx, enum pfnw_change fn, u64 mm, u64 start, u64 end)
{
	if (!may_be_watched(mm) || !watch_of(mm))
		return 0;
	finish_change(ctx, fn);
	return enter_change(ctx, fn, mm, start, end);
}

SEC("?kprobe/unmap_page_range")
int BPF_KPROBE(zap_in_calm, void *tlb, struct vm_area_struct *vma, unsigned long addr,
	       unsigned long end)
{
	return begin_change(ctx, PFNW_CHANGE_ZAP, mm_of(vma), addr, end);
}

SEC("?kprobe/__zap_vma_range")
int BPF_KPROBE(zap_vma_in_calm, void *tlb, struct vm_area_struct *vma, unsigned long addr,
	       unsigned long end)
{
	return begin_change(ctx, PFNW_CHANGE_ZAP, mm_of(vma), addr, end);
}

SEC("?kprobe/__unmap_hugepage_range")
int BPF_KPROBE(zap_hugetlb_in_calm, void *tlb, struct vm_area_struct *vma, unsigned long addr,
	       unsigned long end)
{
	return begin_change(ctx, PFNW_CHANGE_ZAP_HUGETLB, mm_of(vma), addr, end);
}

SEC("?kprobe/move_page_tables")
int BPF_KPROBE(move_in_calm, u64 first, u64 second)
{
	struct task_struct *t = bpf_get_current_task_btf();
	u64 start = 0, end = 0;

	move_range(first, second, PT_REGS_PARM5(ctx), &start, &end);
	return begin_change(ctx, PFNW_CHANGE_MOVE, (u64)t->mm, start, end);
}

SEC("?kprobe/change_protection")
int BPF_KPROBE(prot_in_calm, void *tlb, struct vm_area_struct *vma, unsigned long start,
	       unsigned long end)
{
	return begin_change(ctx, PFNW_CHANGE_PROT, mm_of(vma), start, end);
}

/* As around(), which reads the VMA directly. */
static __always_inline int begin_around(void *ctx, enum pfnw_change fn, struct vm_area_struct *vma,
					u64 addr)
{
	u64 flags = can_cast ? TYPED(vma)->vm_flags : BPF_CORE_READ(vma, vm_flags);
	u64 n = flags & VM_HUGETLB ? 1ULL << 30 : FOLIO_BYTES;

	addr &= ~(n - 1);
	return begin_change(ctx, fn, mm_of(vma), addr, addr + 2 * n);
}

SEC("?kprobe/try_to_unmap_one")
int BPF_KPROBE(unmap_one_in_calm, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	return begin_around(ctx, PFNW_CHANGE_UNMAP_ONE, vma, addr);
}

SEC("?kprobe/try_to_migrate_one")
int BPF_KPROBE(migrate_one_in_calm, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	return begin_around(ctx, PFNW_CHANGE_MIGRATE_ONE, vma, addr);
}

SEC("?kprobe/page_mkclean_one")
int BPF_KPROBE(mkclean_in_calm, void *folio, struct vm_area_struct *vma, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return begin_change(ctx, PFNW_CHANGE_MKCLEAN, mm_of(vma), addr, addr + 2 * FOLIO_BYTES);
}

/* Copy on write of @bytes around the address of a fault. */
static __always_inline int begin_fault(void *ctx, enum pfnw_change fn, struct vm_fault *vmf,
				       u64 bytes)
{
	u64 va, mm;

	if (can_cast) {
		vmf = TYPED(vmf);
		va = vmf->address;
		mm = (u64)vmf->vma->vm_mm;
	} else {
		va = BPF_CORE_READ(vmf, address);
		mm = (u64)BPF_CORE_READ(vmf, vma, vm_mm);
	}
	va &= ~(bytes - 1);
	return begin_change(ctx, fn, mm, va, va + bytes);
}

SEC("?kprobe/do_wp_page")
int BPF_KPROBE(cow_in_calm, struct vm_fault *vmf)
{
	return begin_fault(ctx, PFNW_CHANGE_COW, vmf, PAGE_BYTES);
}

SEC("?kprobe/do_huge_pmd_wp_page")
int BPF_KPROBE(cow_huge_in_calm, struct vm_fault *vmf)
{
	return begin_fault(ctx, PFNW_CHANGE_COW_HUGE, vmf, FOLIO_BYTES);
}

SEC("?kprobe/hugetlb_fault")
int BPF_KPROBE(hugetlb_fault_in_calm, void *mm, struct vm_area_struct *vma, unsigned long addr)
{
	addr &= ~(HUGETLB_BYTES - 1);
	return begin_change(ctx, PFNW_CHANGE_HUGETLB_FAULT, (u64)mm, addr, addr + HUGETLB_BYTES);
}

SEC("?kprobe/collapse_huge_page")
int BPF_KPROBE(collapse_in_calm, void *mm, unsigned long addr)
{
	addr &= ~(FOLIO_BYTES - 1);
	return begin_change(ctx, PFNW_CHANGE_COLLAPSE, (u64)mm, addr, addr + FOLIO_BYTES);
}

SEC("?kprobe/__split_huge_pmd")
int BPF_KPROBE(split_in_calm, struct vm_area_struct *vma, void *pmd, unsigned long addr)
{
	u64 mm = mm_of(vma);

	addr &= ~(FOLIO_BYTES - 1);
	begin_change(ctx, PFNW_CHANGE_SPLIT, mm, addr, addr + FOLIO_BYTES);
	return split_begun(mm, (u64)pmd, addr);
}

SEC("?kprobe/exit_mmap")
int BPF_KPROBE(mm_gone_calm, struct mm_struct *mm)
{
	return ____mm_gone((void *)ctx, mm);
}

SEC("?kprobe/__mmu_notifier_invalidate_range_start")
int BPF_KPROBE(notified_in_calm, struct mmu_notifier_range *r)
{
	u64 mm = can_cast ? (u64)TYPED(r)->mm : (u64)BPF_CORE_READ(r, mm);

	if (all_hooked() || !may_be_watched(mm))
		return 0;
	return notified_begins(ctx, mm, (u64)r);
}

SEC("?fexit/__mmu_notifier_invalidate_range_end")
int BPF_PROG(notified_out_twin, struct mmu_notifier_range *r)
{
	u32 fn = n_changing ? notified_as((u64)r) : PFNW_CHANGES;

	return fn == PFNW_CHANGES ? 0 : end_change(ctx, fn);
}

SEC("?kprobe/__mmu_notifier_release")
int BPF_KPROBE(mm_released_calm, struct mm_struct *mm)
{
	return ____mm_gone((void *)ctx, mm);
}

#define END_TWIN(prog, func, what)                          \
	SEC("?fexit/" #func)                                \
	int BPF_PROG(prog##_twin)                           \
	{                                                   \
		return end_change(ctx, PFNW_CHANGE_##what); \
	}

END_TWIN(zap_out, unmap_page_range, ZAP)
END_TWIN(zap_vma_out, __zap_vma_range, ZAP)
END_TWIN(zap_hugetlb_out, __unmap_hugepage_range, ZAP_HUGETLB)
END_TWIN(move_out, move_page_tables, MOVE)
END_TWIN(prot_out, change_protection, PROT)
END_TWIN(unmap_one_out, try_to_unmap_one, UNMAP_ONE)
END_TWIN(migrate_one_out, try_to_migrate_one, MIGRATE_ONE)
END_TWIN(mkclean_out, page_mkclean_one, MKCLEAN)
END_TWIN(cow_out, do_wp_page, COW)
END_TWIN(cow_huge_out, do_huge_pmd_wp_page, COW_HUGE)
END_TWIN(hugetlb_fault_out, hugetlb_fault, HUGETLB_FAULT)
END_TWIN(collapse_out, collapse_huge_page, COLLAPSE)
END_TWIN(split_out, __split_huge_pmd, SPLIT)

/* ---- the end of a thread ---- */

SEC("?tp_btf/sched_process_exit")
int BPF_PROG(thread_exited_calm, struct task_struct *t)
{
	if (nothing_left(t->pid))
		return 0;
	settle();
	return ____thread_exited(ctx, t);
}

/* What is left when that was skipped: a thread that is preempted in it keeps others out. */
SEC("?tp_btf/sched_process_exit")
int BPF_PROG(thread_exited_double, struct task_struct *t)
{
	if (nothing_left(t->pid))
		return 0;
	settle();
	return ____thread_exited(ctx, t);
}
