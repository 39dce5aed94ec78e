// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Memory in which no two neighbours are neighbours physically. */
#include "account.h"
#include "layout.h"
#include "page.h"
#include "pagemap.h"
#include "tag.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ROUNDS 64

static void touch_page(struct buffer *buffer, size_t page)
{
	struct tag tag;

	tag_make(&tag, (uintptr_t)buffer->va + page * PG_SIZE, 0);
	tag_store(buffer->va + page * PG_SIZE, &tag);
}

/* The allocator hands out lines of frames: ask for them out of order. */
static int touch_shuffled(struct layout_env *env, struct buffer *buffer)
{
	size_t pages = buffer->bytes >> PG_SHIFT;
	size_t *order = calloc(pages, sizeof(*order));

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < pages; i++) {
		size_t j = rng_below(&env->rng, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (size_t i = 0; i < pages; i++)
		touch_page(buffer, order[i]);
	free(order);
	return 0;
}

/*
 * Gives another frame to every page that follows its neighbour. A spare page
 * takes the frame that was set free, or the allocator would hand it out again.
 * Returns how many were in the wrong place, or a negative errno.
 */
static long part_neighbours(struct buffer *buffer, uint64_t *pfns, uint8_t *spare, size_t spares,
			    size_t *used)
{
	size_t pages = buffer->bytes >> PG_SHIFT;
	long wrong = 0;
	int err = pagemap_read(buffer->va, pages, pfns);

	if (err)
		return err;
	for (size_t i = 1; i < pages; i++) {
		if (pfns[i] != pfns[i - 1] + 1 && pfns[i] + 1 != pfns[i - 1])
			continue;
		wrong++;
		if (*used == spares)
			return -ENOMEM;
		madvise(buffer->va + i * PG_SIZE, PG_SIZE, MADV_DONTNEED);
		*(volatile uint8_t *)(spare + (*used)++ * PG_SIZE) = 1;
		touch_page(buffer, i);
		/* Its new frame is not known yet: neighbours wait a round. */
		i++;
	}
	return wrong;
}

static int scatter(struct buffer *buffer)
{
	size_t pages = buffer->bytes >> PG_SHIFT;
	size_t spares = pages * 2 + ROUNDS, used = 0;
	uint64_t *pfns = calloc(pages, sizeof(*pfns));
	uint8_t *spare = mmap(NULL, spares * PG_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long wrong = -ENOMEM;

	if (!pfns || spare == MAP_FAILED)
		goto out;
	madvise(spare, spares * PG_SIZE, MADV_NOHUGEPAGE);
	for (int round = 0; round < ROUNDS; round++) {
		wrong = part_neighbours(buffer, pfns, spare, spares, &used);
		if (wrong <= 0)
			break;
	}
out:
	if (spare != MAP_FAILED)
		munmap(spare, spares * PG_SIZE);
	free(pfns);
	if (wrong > 0) {
		account_error(0, "scattered: %ld neighbours could not be parted", wrong);
		return -EAGAIN;
	}
	if (wrong)
		account_error((int)-wrong, "scattered");
	return (int)wrong;
}

static int create_scattered(struct layout_env *env, struct buffer *buffer)
{
	int err = layout_mmap(env, buffer, PG_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (err) {
		account_error(-err, "mmap for scattered");
		return err;
	}
	madvise(buffer->base, buffer->length, MADV_NOHUGEPAGE);
	err = touch_shuffled(env, buffer);
	return err ? err : scatter(buffer);
}

const struct layout layout_scattered = {
	.name = "scattered",
	.create = create_scattered,
};
