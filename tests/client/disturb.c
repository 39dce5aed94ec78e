// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Page tables that change under a mapping. The IOMMU is not told, and keeps
 * translating to the old frames: what the suite calls stale.
 */
#include "../modules/pfnscatter/pfnscatter.h"
#include "account.h"
#include "page.h"
#include "run.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static const char *const names[] = {
	[DISTURB_DROP] = "drop",
	[DISTURB_SHUFFLE] = "shuffle",
	[DISTURB_DONTNEED] = "dontneed",
	[DISTURB_MUNMAP] = "munmap",
};

/* One call reaches all mappings of the module. */
static size_t ask_module(struct run *run, unsigned long request)
{
	size_t pages = 0;

	for (size_t i = 0; i < run->count; i++) {
		const struct buffer *buffer = &run->mappings[i].buffer;

		if (buffer->layout != &layout_pfnmap)
			continue;
		if (!pages && ioctl(buffer->fd, request)) {
			account_error(errno, "asking pfnscatter");
			return 0;
		}
		pages += buffer->bytes >> PG_SHIFT;
	}
	return pages;
}

static size_t change_pages(struct run *run, bool gone)
{
	size_t stride = run->env->opt->disturb_stride, pages = 0;

	for (size_t i = 0; i < run->count; i++) {
		const struct buffer *buffer = &run->mappings[i].buffer;

		/* Raw frames are not anybody's to discard: EINVAL. */
		if (!gone && buffer->layout->pfns)
			continue;
		for (size_t at = 0; at < buffer->bytes; at += stride * PG_SIZE) {
			volatile uint8_t *page = buffer->va + at;
			int err;

			if (gone)
				err = munmap((void *)page, PG_SIZE);
			else
				err = madvise((void *)page, PG_SIZE, MADV_DONTNEED);
			if (err) {
				account_error(errno, "%s of %s", gone ? "munmap" : "MADV_DONTNEED",
					      buffer->layout->name);
				return pages;
			}
			/* Fault the next frame in. */
			if (!gone && buffer->writable && !buffer->foreign)
				*page = 1;
			pages++;
		}
	}
	return pages;
}

void run_disturb(struct run *run)
{
	enum disturbance how = run->env->opt->disturb;
	size_t pages = 0;

	switch (how) {
	case DISTURB_NONE:
		return;
	case DISTURB_DROP:
		pages = ask_module(run, PFNSCATTER_DROP);
		break;
	case DISTURB_SHUFFLE:
		pages = ask_module(run, PFNSCATTER_SHUFFLE);
		break;
	case DISTURB_DONTNEED:
	case DISTURB_MUNMAP:
		pages = change_pages(run, how == DISTURB_MUNMAP);
		break;
	}
	account_line("{\"type\":\"disturb\",\"how\":\"%s\",\"stride\":%zu,\"pages\":%zu}",
		     names[how], run->env->opt->disturb_stride, pages);
}
