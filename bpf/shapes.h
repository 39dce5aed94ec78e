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
 * Position of the `struct vm_area_struct *` among the arguments of the functions
 * that change page tables. change_protection() got the mmu_gather in front in
 * 4a18419f71cd ("mm/mprotect: use mmu_gather"); struct pagetable_move_control
 * took over move_page_tables() in 6.16. The loader looks at the prototypes.
 */

#endif
