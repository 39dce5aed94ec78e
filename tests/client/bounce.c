// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The bounce page: where the device puts what it has read, so that the CPU can
 * look. It is tried out before anything relies on it.
 *
 * Kernels with a bug put back must leave this page alone, or there is no
 * witness: it is a mapping of a single page whose VA and IOVA page numbers are
 * multiples of 77, and the mutants bite others only.
 */
#include "account.h"
#include "page.h"
#include "tag.h"
#include "bounce.h"

#include <errno.h>
#include <linux/vfio.h>
#include <sys/mman.h>

#define LONELY 77

/* Out of the way of the mappings under test, wherever --iova puts those. */
#define IOVA_LOW 0x01000000
#define IOVA_HIGH 0xc0000000

static const struct layout layout_bounce = { .name = "bounce" };

/* Shared: a child looks at it, too. */
static int make_page(struct buffer *buffer)
{
	size_t length = (LONELY + 1) * PG_SIZE;
	uint8_t *va = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t skip;

	if (va == MAP_FAILED)
		return -errno;
	skip = (LONELY - ((uintptr_t)va >> PG_SHIFT) % LONELY) % LONELY;
	*buffer = (struct buffer){
		.layout = &layout_bounce,
		.base = va,
		.length = length,
		.va = va + skip * PG_SIZE,
		.bytes = PG_SIZE,
		.align = PG_SIZE,
		.writable = true,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.fd = -1,
	};
	madvise(va, length, MADV_NOHUGEPAGE);
	*(volatile uint8_t *)buffer->va = 1;
	return 0;
}

static int map_page(struct mapping *bounce, struct vfio *vfio, const struct iova_space *others)
{
	struct iova_space space = *others;
	int err;

	space.next = others->next > 2 * IOVA_LOW ? IOVA_LOW : IOVA_HIGH;
	/* Take pages until the number fits. */
	do {
		err = iova_take(&space, bounce->buffer.va, PG_SIZE, PG_SIZE, &bounce->iova);
		if (err)
			return err;
	} while ((bounce->iova >> PG_SHIFT) % LONELY);
	mapping_map(vfio, bounce);
	return bounce->map_err;
}

/* There and back again: two tags through the device, to another place. */
static int try_page(struct witness *witness)
{
	struct mapping *bounce = &witness->bounce;
	uint8_t *page = bounce->buffer.va;
	struct tag sent, got;
	int err;

	for (uint64_t i = 0; i < 2; i++) {
		tag_make(&sent, (uintptr_t)page, i + 1);
		tag_store(page, &sent);
		err = edu_fetch(&witness->edu, bounce->iova, TAG_BYTES, 0);
		if (!err)
			err = edu_store(&witness->edu, bounce->iova + EDU_BLOCK, TAG_BYTES, 0);
		if (err)
			return err;
		tag_load(&got, page + EDU_BLOCK);
		if (!tag_equal(&sent, &got))
			return -EIO;
	}
	return 0;
}

int bounce_open(struct witness *witness, struct vfio *vfio, const struct iova_space *others)
{
	struct mapping *bounce = &witness->bounce;
	int err = make_page(&bounce->buffer);

	if (!err)
		err = map_page(bounce, vfio, others);
	if (!err) {
		mapping_tell_map(witness->env, bounce);
		err = try_page(witness);
	}
	if (err)
		account_error(-err, "the bounce page at iova 0x%llx does not work",
			      (unsigned long long)bounce->iova);
	return err;
}
