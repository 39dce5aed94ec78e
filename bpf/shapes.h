/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * One accessor for every kernel structure or signature that changed shape, with
 * the commit that changed it. Dispatch is by BTF, never by version: what the
 * loader finds becomes a constant here, and the verifier drops the other leg.
 */
#ifndef PFNW_SHAPES_H
#define PFNW_SHAPES_H

/*
 * vaddr_get_pfns(): the sixth argument is `struct page **pages` until 0fd06844de5d
 * ("vfio/type1: Use vfio_batch for vaddr_get_pfns()", 6.15) and `struct vfio_batch *`
 * after. The loader looks at the prototype.
 */
const volatile bool claim_has_batch = false;

static __always_inline u64 claim_pages(u64 arg6)
{
	if (claim_has_batch)
		return (u64)BPF_CORE_READ((struct vfio_batch *)arg6, pages);
	return arg6;
}

/*
 * Are we in an interrupt on top of the task that `current` names? x86 kept its
 * preempt_count in a variable of its own until 64701838bf05 ("x86/percpu: Move
 * preempt_count next to current_task", 6.2), then in struct pcpu_hot, and has it in
 * a variable again since 6.15. On a kernel with neither the answer is no.
 */
struct pcpu_hot {
	int preempt_count;
} __attribute__((preserve_access_index));

extern const int __preempt_count __ksym __weak;
extern const struct pcpu_hot pcpu_hot __ksym __weak;

#define IN_INTERRUPT 0x00ff0100 /* NMI, hard IRQ, serving a softirq: preempt.h */

static __always_inline bool in_interrupt(void)
{
	if (&__preempt_count)
		return *(int *)bpf_this_cpu_ptr(&__preempt_count) & IN_INTERRUPT;
	if (&pcpu_hot)
		return ((struct pcpu_hot *)bpf_this_cpu_ptr(&pcpu_hot))->preempt_count &
		       IN_INTERRUPT;
	return false;
}

#endif
