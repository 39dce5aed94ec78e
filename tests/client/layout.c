// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "layout.h"
#include "account.h"
#include "page.h"
#include "pagemap.h"
#include "tag.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct layout *const layouts[] = {
	&layout_anon,	&layout_contig, &layout_scattered, &layout_thp,		 &layout_huge2m,
	&layout_huge1g, &layout_shmem,	&layout_file,	   &layout_file_private, &layout_file_cow,
	&layout_ro,	&layout_bar,	&layout_pfnmap,	   &layout_bar_huge,	 &layout_zero,
};

const struct layout *layout_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++)
		if (!strcmp(layouts[i]->name, name))
			return layouts[i];
	return NULL;
}

bool layout_needs_bar(const struct layout *layout)
{
	return layout->needs_bar;
}

void *layout_reserve(size_t length, size_t align)
{
	uintptr_t at, start;
	void *hole = mmap(NULL, length + align, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hole == MAP_FAILED)
		return NULL;
	at = (uintptr_t)hole;
	start = round_up_to(at, align);
	if (start > at)
		munmap(hole, start - at);
	if (start < at + align)
		munmap((void *)(start + length), at + align - start);
	return (void *)start;
}

int layout_mmap(struct layout_env *env, struct buffer *buffer, size_t unit, int flags, int fd)
{
	size_t bytes = round_up_to(env->opt->pages * PG_SIZE, unit);
	size_t length = round_up_to(env->opt->offset + bytes, unit);
	/* Always on a 2 MiB boundary, so that --offset means the same for all. */
	size_t align = unit > SZ_2M ? unit : SZ_2M;
	void *base = layout_reserve(length, align);
	int err;

	if (!base)
		return -ENOMEM;
	if (mmap(base, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
		err = -errno;
		munmap(base, length);
		return err;
	}
	buffer->base = base;
	buffer->length = length;
	buffer->va = (uint8_t *)base + env->opt->offset;
	buffer->bytes = bytes;
	buffer->align = bytes >= SZ_2M ? align : PG_SIZE;
	return 0;
}

void layout_touch(struct buffer *buffer)
{
	for (size_t at = 0; at < buffer->bytes; at += PG_SIZE) {
		struct tag tag;

		tag_make(&tag, (uintptr_t)buffer->va + at, 0);
		tag_store(buffer->va + at, &tag);
	}
}

static uint32_t access_flags(enum access access)
{
	switch (access) {
	case ACCESS_READ:
		return VFIO_DMA_MAP_FLAG_READ;
	case ACCESS_WRITE:
		return VFIO_DMA_MAP_FLAG_WRITE;
	default:
		return VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	}
}

int buffer_create(struct layout_env *env, const struct layout *layout, struct buffer *buffer)
{
	enum access prot = env->opt->prot;
	int err;

	*buffer = (struct buffer){
		.layout = layout,
		.align = PG_SIZE,
		.writable = true,
		.flags = access_flags(ACCESS_BOTH),
		.fd = -1,
	};
	err = layout->create(env, buffer);
	if (err) {
		buffer_destroy(buffer);
		return err;
	}
	if (prot == ACCESS_LAYOUT && !buffer->writable)
		prot = ACCESS_READ;
	/* Only now: the pages had to be written to first. */
	if (prot == ACCESS_READ) {
		buffer->writable = false;
		if (mprotect(buffer->base, buffer->length, PROT_READ)) {
			err = -errno;
			account_error(-err, "mprotect %s", layout->name);
			buffer_destroy(buffer);
			return err;
		}
	}
	if (env->opt->flags != ACCESS_LAYOUT)
		buffer->flags = access_flags(env->opt->flags);
	return 0;
}

int buffer_pfns(struct layout_env *env, const struct buffer *buffer, uint64_t *pfns)
{
	if (buffer->layout->pfns)
		return buffer->layout->pfns(env, buffer, pfns);
	return pagemap_read(buffer->va, buffer->bytes >> PG_SHIFT, pfns);
}

void buffer_destroy(struct buffer *buffer)
{
	if (buffer->base)
		munmap(buffer->base, buffer->length);
	if (buffer->fd >= 0)
		close(buffer->fd);
	buffer->base = NULL;
	buffer->fd = -1;
}
