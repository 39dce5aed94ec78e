// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Frames without struct-page references, out of order: /dev/pfnscatter. */
#include "../modules/pfnscatter/pfnscatter.h"
#include "account.h"
#include "layout.h"
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int create_pfnmap(struct layout_env *env, struct buffer *buffer)
{
	size_t offset = env->opt->offset, all;
	struct pfnscatter_info info;
	off_t pgoff;
	int err;

	buffer->fd = open("/dev/pfnscatter", O_RDWR | O_CLOEXEC);
	if (buffer->fd < 0) {
		account_unavailable("pfnmap", "/dev/pfnscatter: errno %d; is the module loaded?",
				    errno);
		return -ENODEV;
	}
	if (ioctl(buffer->fd, PFNSCATTER_INFO, &info)) {
		err = -errno;
		account_error(-err, "PFNSCATTER_INFO");
		return err;
	}
	all = info.npages * PG_SIZE;
	if (offset >= all) {
		account_error(EINVAL, "pfnmap: offset 0x%zx is past the end", offset);
		return -EINVAL;
	}
	buffer->bytes = env->opt->pages * PG_SIZE;
	if (buffer->bytes > all - offset)
		buffer->bytes = all - offset;
	buffer->length = offset + buffer->bytes;
	/* Drivers with a line of frames keep its first PFN in vm_pgoff. */
	pgoff = env->opt->pgoff_zero ? 0 : (off_t)(info.base_pfn << PG_SHIFT);
	/*
	 * A PFNMAP VMA that is made read-only later loses its writable PTEs
	 * just as one that was never writable.
	 */
	buffer->base =
		mmap(NULL, buffer->length, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, pgoff);
	if (buffer->base == MAP_FAILED) {
		err = -errno;
		buffer->base = NULL;
		account_error(-err, "mmap /dev/pfnscatter");
		return err;
	}
	buffer->va = (uint8_t *)buffer->base + offset;
	buffer->first_page = offset >> PG_SHIFT;
	if (env->opt->touch)
		layout_touch(buffer);
	return 0;
}

/* pagemap reads PFNMAP VMAs as holes: ask the module. */
static int module_pfns(struct layout_env *env, const struct buffer *buffer, uint64_t *pfns)
{
	(void)env;
	for (size_t i = 0; i < buffer->bytes >> PG_SHIFT; i++) {
		struct pfnscatter_pfn query = {
			.index = buffer->first_page + i,
		};

		if (ioctl(buffer->fd, PFNSCATTER_GET_PFN, &query))
			return -errno;
		pfns[i] = query.pfn;
	}
	return 0;
}

const struct layout layout_pfnmap = {
	.name = "pfnmap",
	.create = create_pfnmap,
	.pfns = module_pfns,
	.pfn_source = "module",
};
