/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * VFIO's tree of what is mapped in a container: vfio_iommu.dma_list, by IOVA. Nothing is
 * locked: another thread that maps or unmaps turns the tree, and a part of it may be hidden
 * for some instructions. So what is found is there, but what is not found may be.
 */
#ifndef PFNW_DMA_TREE_BPF_H
#define PFNW_DMA_TREE_BPF_H

#include "core.bpf.h"

/* As deep as a tree of 16 million can be. */
#define DMA_LEVELS 48

/* What is asked for most lies in a vfio_dma's first bytes: one reading. Returns 0: it failed. */
static __always_inline int read_dma(struct dma_head *h, u64 d)
{
	return !bpf_probe_read_kernel(h, sizeof(*h), (void *)d);
}

/* A field of the vfio_dma @d that @h is of; where it lies behind that, of the vfio_dma itself. */
#define DMA_FIELD(h, d, field)                                                                     \
	(bpf_core_field_offset(struct vfio_dma, field) +                                           \
				 bpf_core_field_size(struct vfio_dma, field) <=                    \
			 sizeof(*(h)) ?                                                            \
		 *(typeof(((struct vfio_dma *)0)->field) *)((void *)(h) +                          \
							    bpf_core_field_offset(struct vfio_dma, \
										  field)) :        \
		 BPF_CORE_READ((struct vfio_dma *)(d), field))

/*
 * The vfio_dma of @container whose IOVA is nearest to @iova, not above it or, @up, not below.
 * (What is found lies in a number that the verifier knows nothing about: one state a level.)
 */
static __always_inline u64 dma_nearest(u64 container, u64 iova, bool up, struct dma_head *h)
{
	struct vfio_iommu *c = (void *)container;
	u64 n, d, at, best = opaque_zero;

	n = (u64)BPF_CORE_READ(c, dma_list.rb_node);
	for (int i = 0; i < DMA_LEVELS && n; i++) {
		d = n - bpf_core_field_offset(struct vfio_dma, node);
		if (!read_dma(h, d))
			break;
		at = DMA_FIELD(h, d, iova);
		if (at == iova)
			return d;
		if (at > iova) {
			n = (u64)DMA_FIELD(h, d, node.rb_left);
			if (up)
				best = d;
		} else {
			n = (u64)DMA_FIELD(h, d, node.rb_right);
			if (!up)
				best = d;
		}
	}
	return best && read_dma(h, best) ? best : 0;
}

/* The one with the lowest IOVA that is not below @iova, read into @h; 0: none. */
__noinline u64 dma_from(u64 container, u64 iova, struct dma_head *h)
{
	return h ? dma_nearest(container, iova, true, h) : 0;
}

/* The one with the greatest IOVA that is not above @iova, read into @h; 0: none. */
__noinline u64 dma_below(u64 container, u64 iova, struct dma_head *h)
{
	return h ? dma_nearest(container, iova, false, h) : 0;
}

#endif
