// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* A device's own memory: what a p2p transfer goes to. */
#include "account.h"
#include "layout.h"
#include "page.h"
#include "sysfs.h"
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

/* With the VMA on a 2 MiB boundary the kernel maps it by huge leaves, if it knows how (6.12). */
static int create_aligned(struct layout_env *env, struct buffer *buffer, size_t align)
{
	const struct bar_source *bar = &env->bar;
	size_t want = env->opt->pages * PG_SIZE;
	struct vfio_region region = {};
	int fixed = 0;
	int err = vfio_region(bar->device, bar->index, &region);

	if (err || !region.can_mmap || region.size <= env->opt->offset) {
		account_unavailable("bar", "BAR %u of %s cannot be mapped from offset 0x%zx",
				    bar->index, bar->bdf, env->opt->offset);
		return -ENODEV;
	}
	if (want > region.size - env->opt->offset)
		want = region.size - env->opt->offset;
	buffer->length = want;
	if (align > PG_SIZE) {
		buffer->base = layout_reserve(want, align);
		if (!buffer->base)
			return -ENOMEM;
		fixed = MAP_FIXED;
	}
	buffer->base = mmap(buffer->base, want, PROT_READ | PROT_WRITE, MAP_SHARED | fixed,
			    bar->device, (off_t)(region.offset + env->opt->offset));
	if (buffer->base == MAP_FAILED) {
		err = -errno;
		buffer->base = NULL;
		account_error(-err, "mmap BAR %u of %s", bar->index, bar->bdf);
		return err;
	}
	buffer->va = buffer->base;
	buffer->bytes = want;
	buffer->first_page = env->opt->offset >> PG_SHIFT;
	buffer->foreign = !bar->is_memory;
	if (env->opt->touch && !buffer->foreign)
		layout_touch(buffer);
	return 0;
}

static int create_bar(struct layout_env *env, struct buffer *buffer)
{
	return create_aligned(env, buffer, PG_SIZE);
}

static int create_bar_huge(struct layout_env *env, struct buffer *buffer)
{
	return create_aligned(env, buffer, SZ_2M);
}

static int bar_pfns(struct layout_env *env, const struct buffer *buffer, uint64_t *pfns)
{
	uint64_t address;
	int err = pci_bar_address(env->bar.bdf, env->bar.index, &address);

	if (err)
		return err;
	for (size_t i = 0; i < buffer->bytes >> PG_SHIFT; i++)
		pfns[i] = (address >> PG_SHIFT) + buffer->first_page + i;
	return 0;
}

const struct layout layout_bar = {
	.name = "bar",
	.create = create_bar,
	.pfns = bar_pfns,
	.pfn_source = "resource",
	.needs_bar = true,
};

const struct layout layout_bar_huge = {
	.name = "bar-huge",
	.create = create_bar_huge,
	.pfns = bar_pfns,
	.pfn_source = "resource",
	.needs_bar = true,
};
