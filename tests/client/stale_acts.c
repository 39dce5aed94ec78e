// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "stale_acts.h"
#include "../modules/pfnscatter/pfnscatter.h"
#include "account.h"
#include "page.h"
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Beside the tag that the page bears. */
#define SCRIBBLE_AT 1024

static bool retouch(const struct run *run)
{
	return run->env->opt->retouch;
}

static uint8_t *page_at(const struct mapping *mapping, size_t page)
{
	return mapping->buffer.va + page * PG_SIZE;
}

static void set_now(struct mapping *mapping, size_t first, size_t count, enum now now)
{
	memset(mapping->stale.now + first, now, count);
}

static void touch(const struct mapping *mapping, size_t first, size_t count, bool write)
{
	for (size_t i = first; i < first + count; i++) {
		volatile uint64_t *word = (void *)(page_at(mapping, i) + SCRIBBLE_AT);

		if (write)
			*word = 1;
		else
			(void)*word;
	}
}

static const char *any(const struct mapping *mapping)
{
	(void)mapping;
	return NULL;
}

/* --- memory of the process ------------------------------------------------------------------ */

static const char *only_frames_of_ours(const struct mapping *mapping)
{
	return mapping->buffer.layout->pfns ? "frames of a device cannot be discarded" : NULL;
}

static bool shared(const struct mapping *mapping)
{
	return mapping->buffer.layout == &layout_shmem || mapping->buffer.layout == &layout_file;
}

static int dontneed(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	if (madvise(page_at(mapping, first), count * PG_SIZE, MADV_DONTNEED))
		return -errno;
	set_now(mapping, first, count, NOW_NOTHING);
	if (!retouch(run))
		return 0;
	touch(mapping, first, count, mapping->buffer.writable);
	/* The file still has the page. */
	set_now(mapping, first, count, shared(mapping) ? NOW_SAME : NOW_OTHER);
	return 0;
}

/* Something else where the memory was. */
static int fill(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	set_now(mapping, first, count, NOW_UNMAPPED);
	if (!retouch(run))
		return 0;
	if (mmap(page_at(mapping, first), count * PG_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	touch(mapping, first, count, true);
	set_now(mapping, first, count, NOW_OTHER);
	return 0;
}

static int unmap(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	if (munmap(page_at(mapping, first), count * PG_SIZE))
		return -errno;
	return fill(run, mapping, first, count);
}

/* 6.1 warns in untrack_pfn() when the mapping of a BAR is moved. */
static const char *no_bar(const struct mapping *mapping)
{
	return mapping->buffer.layout->needs_bar ? "the kernel itself would warn" : NULL;
}

static int move(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	uint8_t *to = mapping->stale.moved_to + first * PG_SIZE;

	if (mremap(page_at(mapping, first), count * PG_SIZE, count * PG_SIZE,
		   MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		return -errno;
	return fill(run, mapping, first, count);
}

static const char *only_shared(const struct mapping *mapping)
{
	return shared(mapping) ? NULL : "only shmem and file have a hole to punch";
}

static int punch(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	const struct buffer *buffer = &mapping->buffer;
	off_t at = page_at(mapping, first) - (uint8_t *)buffer->base;

	if (fallocate(buffer->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
		      (off_t)(count * PG_SIZE)))
		return -errno;
	set_now(mapping, first, count, NOW_NOTHING);
	if (!retouch(run))
		return 0;
	touch(mapping, first, count, buffer->writable);
	set_now(mapping, first, count, NOW_OTHER);
	return 0;
}

static const char *only_copied(const struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;

	if ((buffer->layout == &layout_file_cow || buffer->layout == &layout_anon) &&
	    buffer->writable && !(buffer->flags & VFIO_DMA_MAP_FLAG_WRITE))
		return NULL;
	return "only file-cow, and anon with --flags r, can be copied after all";
}

/*
 * Until 6.1 a read-only pin takes the page that all share; later ones take a
 * copy first.
 */
static int copy(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	(void)run;
	touch(mapping, first, count, true);
	set_now(mapping, first, count, NOW_OTHER);
	return 0;
}

static const char *only_zero(const struct mapping *mapping)
{
	return mapping->buffer.layout == &layout_zero ? NULL : "only zero";
}

static const char *only_writable(const struct mapping *mapping)
{
	if (!mapping->buffer.writable || !(mapping->buffer.flags & VFIO_DMA_MAP_FLAG_WRITE))
		return "there is no right to take away";
	return NULL;
}

static int protect(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	(void)run;
	return mprotect(page_at(mapping, first), count * PG_SIZE, PROT_READ) ? -errno : 0;
}

/* --- memory of a device: all mappings at once ----------------------------------------------- */

static int touch_device(struct run *run, struct mapping *mapping, size_t first, size_t count,
			enum now then)
{
	set_now(mapping, first, count, NOW_NOTHING);
	if (!retouch(run))
		return 0;
	touch(mapping, first, count, false);
	set_now(mapping, first, count, then);
	return 0;
}

/* Once, however many mappings there are. */
static int ask_module(struct run *run, struct mapping *mapping, unsigned long request)
{
	if (run->device_changed)
		return 0;
	if (ioctl(mapping->buffer.fd, request))
		return -errno;
	run->device_changed = true;
	return 0;
}

static bool is_pfnmap(const struct mapping *mapping)
{
	return mapping->buffer.layout == &layout_pfnmap;
}

static const char *only_pfnmap(const struct mapping *mapping)
{
	return is_pfnmap(mapping) ? NULL : "only pfnmap";
}

static int drop(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	int err = ask_module(run, mapping, PFNSCATTER_DROP);

	/* Touched, it is the same frame again. */
	return err ? err : touch_device(run, mapping, first, count, NOW_SAME);
}

static int shuffle(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	int err = ask_module(run, mapping, PFNSCATTER_SHUFFLE);

	return err ? err : touch_device(run, mapping, first, count, NOW_OTHER);
}

static bool is_bar(const struct mapping *mapping)
{
	return mapping->buffer.layout->needs_bar;
}

static const char *only_bar(const struct mapping *mapping)
{
	return is_bar(mapping) ? NULL : "only bar and bar-huge";
}

/* vfio-pci zaps the VMAs of a BAR that does not decode any more. */
static int decode_off(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	int device = run->env->bar.device, err = 0;

	if (!run->device_changed)
		err = vfio_set_decode(device, false);
	if (!err && !run->device_changed && retouch(run))
		err = vfio_set_decode(device, true);
	if (err)
		return err;
	run->device_changed = true;
	mapping->stale.no_dma = "the BAR does not decode, there is nothing to reach";
	return touch_device(run, mapping, first, count, NOW_SAME);
}

static int no_act(struct run *run, struct mapping *mapping, size_t first, size_t count)
{
	(void)run;
	(void)mapping;
	(void)first;
	(void)count;
	return 0;
}

const struct act stale_acts[STALE_CASES] = {
	[STALE_DONTNEED] = { "dontneed", only_frames_of_ours, dontneed },
	[STALE_MUNMAP] = { "munmap", any, unmap },
	[STALE_MREMAP] = { "mremap", no_bar, move },
	[STALE_PUNCH] = { "punch", only_shared, punch },
	[STALE_COW] = { "cow", only_copied, copy, .open_ended = true },
	[STALE_SPLIT] = { "split", only_zero, protect, .open_ended = true },
	[STALE_PROTECT] = { "protect", only_writable, protect },
	[STALE_PFNMAP_DROP] = { "pfnmap-drop", only_pfnmap, drop, is_pfnmap },
	[STALE_PFNMAP_SHUFFLE] = { "pfnmap-shuffle", only_pfnmap, shuffle, is_pfnmap },
	[STALE_BAR_DECODE_OFF] = { "bar-decode-off", only_bar, decode_off, is_bar },
	[STALE_OWNER_EXIT] = { "owner-exit", any, no_act },
};
