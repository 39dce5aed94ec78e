// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The storm in which nothing is ever stale. Each mapper has plots of memory; of
 * each, a range that changes from time to time is mapped for DMA. All else of a
 * plot is free for changes of any kind, and the range, too, as long as it is
 * not mapped. Whether the frames stayed where they were is looked at each time
 * before they are unmapped, or the silence of a verifier would prove nothing.
 */
#include "account.h"
#include "iova.h"
#include "pagemap.h"
#include "storm.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLOTS 4 /* of each mapper */
#define HALF_PAGES (SZ_2M >> PG_SHIFT)
#define PLOT_PAGES (2 * HALF_PAGES)
#define PLOT_BYTES (PLOT_PAGES * PG_SIZE)

struct plot {
	/* Whoever changes memory; not held while VFIO maps and unmaps. */
	pthread_mutex_t lock;
	uint8_t *va;
	off_t offset;
	/* The range that is, or soon will be, mapped for DMA; count 0: none. */
	size_t first, count;
	size_t last_first, last_count; /* the range before */
	/* The rest is the mapper's own affair. */
	bool mapped;
	uint64_t iova;
	uint32_t flags;
	uint64_t *frames, *now;
};

static size_t all_plots(const struct storm *storm)
{
	return (size_t)storm->opt.mappers * PLOTS;
}

static void wrong(struct storm *storm, int err, const char *what, uint64_t iova)
{
	storm_count(&storm->counts.wrong, 1);
	account_error(err, "%s at iova 0x%" PRIx64, what, iova);
}

int calm_prepare(struct storm *storm)
{
	size_t bytes = all_plots(storm) * PLOT_BYTES;
	uint8_t *memory = mmap(NULL, bytes + SZ_2M, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	storm->plots = calloc(all_plots(storm), sizeof(*storm->plots));
	if (memory == MAP_FAILED || !storm->plots || ftruncate(storm->memfd, (off_t)bytes))
		return -ENOMEM;
	memory = (uint8_t *)round_up_to((uintptr_t)memory, SZ_2M);
	for (unsigned int number = 0; number < storm->opt.mappers; number++) {
		struct iova_space space = {
			.vfio = storm_vfio(storm, number),
			.next = 0x10000000 + number * 2 * PLOTS * PLOT_BYTES,
			.limit = UINT64_MAX,
		};

		for (size_t i = 0; i < PLOTS; i++) {
			size_t at = number * PLOTS + i;
			struct plot *plot = &storm->plots[at];

			pthread_mutex_init(&plot->lock, NULL);
			plot->va = memory + at * PLOT_BYTES;
			plot->offset = (off_t)(at * PLOT_BYTES);
			plot->frames = calloc(PLOT_PAGES, sizeof(*plot->frames));
			plot->now = calloc(PLOT_PAGES, sizeof(*plot->now));
			if (!plot->frames || !plot->now ||
			    iova_take(&space, NULL, PLOT_BYTES, SZ_2M, &plot->iova))
				return -ENOSPC;
		}
	}
	return 0;
}

static struct part part_of(const struct plot *plot, size_t first, size_t count)
{
	const struct part part = {
		.va = plot->va + first * PG_SIZE,
		.bytes = count * PG_SIZE,
		.offset = plot->offset + (off_t)(first * PG_SIZE),
	};

	return part;
}

static struct part some_of(struct rng *rng, const struct plot *plot, size_t first, size_t end)
{
	size_t at = first + rng_below(rng, end - first), most = end - at < 64 ? end - at : 64;

	return part_of(plot, at, 1 + rng_below(rng, most));
}

/* Pages [first, end) of a plot, and no other. */
static void change_within(struct storm *storm, struct rng *rng, const struct plot *plot,
			  size_t first, size_t end)
{
	struct place place = {
		.part = some_of(rng, plot, first, end),
		.to = some_of(rng, plot, first, end),
		.tidy = true,
	};
	size_t half = (first + HALF_PAGES - 1) / HALF_PAGES * HALF_PAGES;

	if (half + HALF_PAGES <= end)
		place.whole = part_of(plot, half, HALF_PAGES);
	storm_change(storm, rng, &place);
}

void calm_disturb(struct storm *storm, struct rng *rng)
{
	struct plot *plot = &storm->plots[rng_below(rng, all_plots(storm))];
	size_t end;

	if (pthread_mutex_trylock(&plot->lock))
		return;
	end = plot->first + plot->count;
	/* Below the range, or above it: right up to it, in any case. */
	if (!plot->count)
		change_within(storm, rng, plot, 0, PLOT_PAGES);
	else if (plot->first && (end == PLOT_PAGES || rng_below(rng, 2)))
		change_within(storm, rng, plot, 0, plot->first);
	else if (end < PLOT_PAGES)
		change_within(storm, rng, plot, end, PLOT_PAGES);
	pthread_mutex_unlock(&plot->lock);
}

/* A range, changed in some ways, but whole in the end. */
static bool choose_range(struct storm *storm, struct rng *rng, struct plot *plot)
{
	size_t first = rng_below(rng, PLOT_PAGES), most = PLOT_PAGES - first;
	size_t count = 1 + rng_below(rng, rng_below(rng, 4) ? (most < 64 ? most : 64) : most);
	unsigned int changes = (unsigned int)rng_below(rng, 4);
	struct part part;

	/* The same again, maybe with other rights: only its frames tell it from the last. */
	if (plot->last_count && rng_below(rng, 2)) {
		first = plot->last_first;
		count = plot->last_count;
	} else if (!rng_below(rng, 8)) {
		/* Now and then what large pages fit into. */
		first = rng_below(rng, 2) * HALF_PAGES;
		count = HALF_PAGES;
	}
	part = part_of(plot, first, count);
	pthread_mutex_lock(&plot->lock);
	plot->first = plot->last_first = first;
	plot->count = plot->last_count = count;
	for (unsigned int i = 0; i < changes; i++)
		change_within(storm, rng, plot, first, first + count);
	mprotect(part.va, part.bytes, PROT_READ | PROT_WRITE);
	/* Nothing but pages of its own: a shared zero page would be copied later. */
	count = storm_write(storm, &part);
	pthread_mutex_unlock(&plot->lock);
	if (count)
		wrong(storm, 0, "memory that is not there", plot->iova);
	return !count;
}

/* Every single page is where it was when it was mapped. */
static void check(struct storm *storm, struct plot *plot)
{
	size_t moved = 0;

	if (pagemap_read(plot->va + plot->first * PG_SIZE, plot->count, plot->now)) {
		wrong(storm, EIO, "pagemap", plot->iova);
		return;
	}
	for (size_t i = 0; i < plot->count; i++)
		moved += plot->now[i] != plot->frames[i] || plot->now[i] == PFN_UNKNOWN;
	storm_count(&storm->counts.checked, plot->count);
	storm_count(&storm->counts.moved, moved);
	if (moved)
		wrong(storm, 0, "pages that were left alone have moved", plot->iova);
}

static void map(struct storm *storm, struct vfio *vfio, struct rng *rng, struct plot *plot)
{
	int err;

	if (!choose_range(storm, rng, plot))
		return;
	plot->flags = VFIO_DMA_MAP_FLAG_READ | (rng_below(rng, 3) ? VFIO_DMA_MAP_FLAG_WRITE : 0);
	err = vfio_map(vfio, plot->va + plot->first * PG_SIZE, plot->iova, plot->count * PG_SIZE,
		       plot->flags);
	if (err) {
		storm_count(&storm->counts.maps_failed, 1);
		wrong(storm, -err, "VFIO_IOMMU_MAP_DMA", plot->iova);
		return;
	}
	plot->mapped = true;
	storm_count(&storm->counts.maps_ok, 1);
	storm_count(&storm->counts.pages_mapped, plot->count);
	if (pagemap_read(plot->va + plot->first * PG_SIZE, plot->count, plot->frames))
		wrong(storm, EIO, "pagemap", plot->iova);
}

static void unmap(struct storm *storm, struct vfio *vfio, struct plot *plot)
{
	uint64_t unmapped = 0;
	int err;

	check(storm, plot);
	err = vfio_unmap(vfio, plot->iova, plot->count * PG_SIZE, &unmapped);
	plot->mapped = false;
	storm_count(&storm->counts.unmaps, 1);
	storm_count(&storm->counts.pages_unmapped, unmapped >> PG_SHIFT);
	if (err || unmapped != plot->count * PG_SIZE)
		wrong(storm, -err, "VFIO_IOMMU_UNMAP_DMA", plot->iova);
	pthread_mutex_lock(&plot->lock);
	plot->count = 0;
	pthread_mutex_unlock(&plot->lock);
}

void calm_map_loop(struct storm *storm, unsigned int number)
{
	struct plot *plots = &storm->plots[number * PLOTS];
	struct vfio *vfio = storm_vfio(storm, number);
	struct rng rng;

	rng_seed(&rng, storm->opt.seed * 1000 + number);
	while (!storm->stop) {
		struct plot *plot = &plots[rng_below(&rng, PLOTS)];

		if (plot->mapped)
			unmap(storm, vfio, plot);
		else
			map(storm, vfio, &rng, plot);
	}
}

void calm_tell(struct storm *storm)
{
	for (size_t i = 0; i < all_plots(storm); i++) {
		struct plot *plot = &storm->plots[i];

		if (!plot->mapped)
			continue;
		check(storm, plot);
		account_line("{\"type\":\"map\",\"va\":\"0x%" PRIxPTR "\",\"iova\":\"0x%" PRIx64
			     "\",\"pages\":%zu,\"flags\":\"%s\",\"group\":%d,\"pid\":%d}",
			     (uintptr_t)plot->va + plot->first * PG_SIZE, plot->iova, plot->count,
			     plot->flags & VFIO_DMA_MAP_FLAG_WRITE ? "rw" : "r",
			     storm->opt.groups[i / PLOTS % storm->opt.ngroups], getpid());
	}
}

void calm_end(struct storm *storm)
{
	for (size_t i = 0; i < all_plots(storm); i++)
		if (storm->plots[i].mapped)
			unmap(storm, storm_vfio(storm, (unsigned int)(i / PLOTS)),
			      &storm->plots[i]);
}
