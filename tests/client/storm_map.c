// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The mappers: part of an area, for a while, at an IOVA of their own. */
#include "account.h"
#include "iova.h"
#include "storm.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <unistd.h>

#define SLOTS 16
#define SLOT_BYTES (4 * SZ_2M)

struct slot {
	uint64_t iova;
	uint64_t bytes;
};

/* What a race with the other threads may bring about. */
static bool excusable(int err)
{
	switch (err) {
	case EFAULT:
	case EINVAL:
	case EEXIST:
	case ENOMEM:
	case EAGAIN:
	case EBUSY:
		return true;
	default:
		return false;
	}
}

static void wrong(struct storm *storm, int err, const char *what, uint64_t iova)
{
	storm_count(&storm->counts.wrong, 1);
	account_error(err, "%s at iova 0x%" PRIx64, what, iova);
}

static void map_slot(struct storm *storm, struct vfio *vfio, struct rng *rng, struct slot *slot)
{
	size_t pages = storm->opt.area_pages;
	size_t first = rng_below(rng, pages);
	size_t count = 1 + rng_below(rng, pages - first);
	const uint8_t *va = storm_area(storm, rng_below(rng, storm->opt.areas)) + first * PG_SIZE;
	uint32_t flags = VFIO_DMA_MAP_FLAG_READ;
	int err;

	/* Small ones more often: a large one rarely finds all of its pages. */
	if (rng_below(rng, 4))
		count = count > 16 ? 1 + count % 16 : count;
	if (rng_below(rng, 4))
		flags |= VFIO_DMA_MAP_FLAG_WRITE;
	err = -vfio_map(vfio, va, slot->iova, count * PG_SIZE, flags);
	if (!err) {
		slot->bytes = count * PG_SIZE;
		storm_count(&storm->counts.maps_ok, 1);
		storm_count(&storm->counts.pages_mapped, count);
		return;
	}
	storm_count(&storm->counts.maps_failed, 1);
	if (err < STORM_ERRNOS)
		storm_count(&storm->counts.by_errno[err], 1);
	if (!excusable(err))
		wrong(storm, err, "VFIO_IOMMU_MAP_DMA", slot->iova);
}

static void unmap_slot(struct storm *storm, struct vfio *vfio, struct slot *slot)
{
	uint64_t unmapped = 0;
	int err = -vfio_unmap(vfio, slot->iova, slot->bytes, &unmapped);

	storm_count(&storm->counts.unmaps, 1);
	storm_count(&storm->counts.pages_unmapped, unmapped >> PG_SHIFT);
	if (err)
		wrong(storm, err, "VFIO_IOMMU_UNMAP_DMA", slot->iova);
	else if (unmapped != slot->bytes)
		wrong(storm, 0, "VFIO_IOMMU_UNMAP_DMA took away another size", slot->iova);
	slot->bytes = 0;
}

void storm_map_loop(struct storm *storm, unsigned int number)
{
	struct vfio *vfio = storm_vfio(storm, number);
	struct iova_space space = {
		.vfio = vfio,
		.next = 0x10000000 + number * 2 * SLOTS * SLOT_BYTES,
		.limit = UINT64_MAX,
	};
	struct slot slots[SLOTS] = {};
	struct rng rng;

	rng_seed(&rng, storm->opt.seed * 1000 + number);
	for (size_t i = 0; i < SLOTS; i++) {
		if (iova_take(&space, NULL, SLOT_BYTES, SZ_2M, &slots[i].iova)) {
			wrong(storm, ENOSPC, "no IOVA", space.next);
			return;
		}
	}
	while (!storm->stop) {
		struct slot *slot = &slots[rng_below(&rng, SLOTS)];

		if (slot->bytes)
			unmap_slot(storm, vfio, slot);
		else
			map_slot(storm, vfio, &rng, slot);
	}
	for (size_t i = 0; i < SLOTS; i++)
		if (slots[i].bytes)
			unmap_slot(storm, vfio, &slots[i]);
}
