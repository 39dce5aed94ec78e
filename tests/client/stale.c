// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "stale.h"
#include "account.h"
#include "page.h"
#include "pagemap.h"
#include "stale_acts.h"
#include "vfio.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const now_names[] = {
	[NOW_SAME] = "same",	     [NOW_NOTHING] = "nothing", [NOW_OTHER] = "other",
	[NOW_UNMAPPED] = "unmapped", [NOW_EXITED] = "exited",
};

int stale_find(const char *name)
{
	for (int i = 0; i < STALE_CASES; i++)
		if (!strcmp(stale_acts[i].name, name))
			return i;
	return -1;
}

const char *stale_name(enum stale_case which)
{
	return stale_acts[which].name;
}

static size_t pages_of(const struct mapping *mapping)
{
	return mapping->buffer.bytes >> PG_SHIFT;
}

/* A device's own change leaves none of its mappings to another case. */
static bool choose(const struct options *opt, const struct mapping *mapping, size_t *turn,
		   enum stale_case *which)
{
	for (int i = 0; i < opt->nstale; i++) {
		const struct act *act = &stale_acts[opt->stale[i]];

		if (!act->device_wide || !act->device_wide(mapping))
			continue;
		*which = opt->stale[i];
		return true;
	}
	for (int i = 0; i < opt->nstale; i++) {
		enum stale_case next = opt->stale[(*turn + i) % opt->nstale];

		if (stale_acts[next].device_wide || stale_acts[next].refuses(mapping))
			continue;
		*turn = (*turn + i + 1) % opt->nstale;
		*which = next;
		return true;
	}
	return false;
}

/* All the room there has to be, before the first hole may invite somebody. */
static int prepare(struct run *run, struct mapping *mapping)
{
	struct stale *stale = &mapping->stale;
	size_t pages = pages_of(mapping), within = (uintptr_t)mapping->buffer.va & (SZ_1G - 1);

	stale->was = calloc(pages, sizeof(*stale->was));
	stale->frames = calloc(pages, sizeof(*stale->frames));
	stale->now = calloc(pages, sizeof(*stale->now));
	if (!stale->was || !stale->frames || !stale->now)
		return -ENOMEM;
	if (stale->which == STALE_MREMAP) {
		/* Large pages can be moved as such only to where they fit. */
		stale->moved_to = layout_reserve(within + mapping->buffer.bytes, SZ_1G);
		if (!stale->moved_to)
			return -ENOMEM;
		stale->moved_to += within;
	}
	return buffer_pfns(run->env, &mapping->buffer, stale->was);
}

void stale_prepare(struct run *run)
{
	const struct options *opt = run->env->opt;
	bool used[STALE_CASES] = {};
	size_t turn = 0;

	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];
		struct stale *stale = &mapping->stale;
		int err;

		if (!mapping->mapped || !choose(opt, mapping, &turn, &stale->which))
			continue;
		err = prepare(run, mapping);
		if (err) {
			account_error(-err, "preparing %s of mapping %zu", stale_name(stale->which),
				      i);
			continue;
		}
		stale->chosen = true;
		used[stale->which] = true;
	}
	for (int i = 0; i < opt->nstale; i++)
		if (!used[opt->stale[i]])
			account_error(
				0, "no mapping is left that %s suits: %s",
				stale_name(opt->stale[i]),
				run->count ? stale_acts[opt->stale[i]].refuses(&run->mappings[0]) ?:
					     "more --maps are needed" :
					     "there is none");
}

/* In pieces that one call can do; the first error is the last. */
static void act(struct run *run, struct mapping *mapping)
{
	const struct options *opt = run->env->opt;
	const struct act *how = &stale_acts[mapping->stale.which];
	size_t pages = pages_of(mapping), first = opt->stale_first, count, step;
	int err = 0;

	if (how->device_wide) {
		err = how->make(run, mapping, 0, pages);
	} else if (first < pages) {
		count = opt->stale_pages < pages - first ? opt->stale_pages : pages - first;
		step = opt->stale_stride;
		if (step == 1)
			err = how->make(run, mapping, first, count);
		for (size_t i = 0; step > 1 && i < count && !err; i += step)
			err = how->make(run, mapping, first + i, 1);
	}
	if (err)
		account_error(-err, "%s of %s", how->name, mapping->buffer.layout->name);
}

/* What is there now, by another source than what should be there. */
static int look(struct run *run, struct mapping *mapping)
{
	struct stale *stale = &mapping->stale;
	const struct buffer *buffer = &mapping->buffer;
	size_t pages = pages_of(mapping);

	if (!buffer->layout->pfns)
		return pagemap_read(buffer->va, pages, stale->frames);
	/* Page tables of devices cannot be read; who fills them can be asked. */
	for (size_t i = 0; i < pages; i++)
		stale->frames[i] = PFN_UNKNOWN;
	if (!buffer_pfns(run->env, buffer, stale->frames))
		for (size_t i = 0; i < pages; i++)
			if (stale->now[i] == NOW_NOTHING || stale->now[i] == NOW_UNMAPPED)
				stale->frames[i] = PFN_UNKNOWN;
	for (size_t i = 0; i < pages; i++)
		/* Other memory lies there now, which pagemap does show. */
		if (stale->now[i] == NOW_OTHER &&
		    (stale->which == STALE_MUNMAP || stale->which == STALE_MREMAP))
			pagemap_read(buffer->va + i * PG_SIZE, 1, &stale->frames[i]);
	return 0;
}

static void compare(struct run *run, struct mapping *mapping)
{
	struct stale *stale = &mapping->stale;
	bool open_ended = stale_acts[stale->which].open_ended;
	size_t wrong = 0, at = 0;
	int err = look(run, mapping);

	if (err) {
		account_error(-err, "frames of %s", mapping->buffer.layout->name);
		return;
	}
	for (size_t i = 0; i < pages_of(mapping); i++) {
		uint64_t was = stale->was[i], frame = stale->frames[i];
		enum now now = frame == was ? NOW_SAME :
			       frame == PFN_UNKNOWN && stale->now[i] == NOW_UNMAPPED ?
					      NOW_UNMAPPED :
			       frame == PFN_UNKNOWN ? NOW_NOTHING :
						      NOW_OTHER;

		if (was == PFN_UNKNOWN || (!open_ended && now != stale->now[i])) {
			at = i;
			wrong++;
		}
		stale->now[i] = now;
	}
	/* Ground truth that is not true would be worse than none. */
	if (wrong)
		account_error(0, "%s: %zu pages of %s are not as they must be, such as %zu: %s",
			      stale_name(stale->which), wrong, mapping->buffer.layout->name, at,
			      now_names[stale->now[at]]);
}

static void tell_range(const struct mapping *mapping, size_t first, size_t count, enum now now)
{
	const struct stale *stale = &mapping->stale;
	char more[64] = "";

	if (stale->moved_to)
		snprintf(more, sizeof(more), ",\"moved_to\":\"0x%" PRIxPTR "\"",
			 (uintptr_t)stale->moved_to + first * PG_SIZE);
	account_line("{\"type\":\"stale\",\"stale\":\"%s\",\"layout\":\"%s\",\"va\":\"0x%" PRIxPTR
		     "\",\"iova\":\"0x%" PRIx64 "\",\"pages\":%zu,\"now\":\"%s\"%s,\"pid\":%d}",
		     stale_name(stale->which), mapping->buffer.layout->name,
		     (uintptr_t)mapping->buffer.va + first * PG_SIZE,
		     mapping->iova + first * PG_SIZE, count, now_names[now], more, mapping->pid);
}

static void tell_pages(const struct mapping *mapping)
{
	const struct stale *stale = &mapping->stale;

	for (size_t i = 0; i < pages_of(mapping); i++) {
		char frame[32] = "null";

		if (stale->now[i] == NOW_SAME)
			continue;
		if (stale->frames[i] != PFN_UNKNOWN)
			snprintf(frame, sizeof(frame), "\"0x%" PRIx64 "\"", stale->frames[i]);
		account_line("{\"type\":\"stale-page\",\"va\":\"0x%" PRIxPTR
			     "\",\"iova\":\"0x%" PRIx64 "\",\"was\":\"0x%" PRIx64
			     "\",\"frame\":%s}",
			     (uintptr_t)mapping->buffer.va + i * PG_SIZE,
			     mapping->iova + i * PG_SIZE, stale->was[i], frame);
	}
}

/* Rights that the page table does not give any more, but the IOMMU does. */
static size_t rights_lost(const struct run *run, const struct mapping *mapping)
{
	const struct options *opt = run->env->opt;
	size_t pages = pages_of(mapping), first = opt->stale_first, count;

	if (mapping->stale.which != STALE_PROTECT || first >= pages)
		return 0;
	count = opt->stale_pages < pages - first ? opt->stale_pages : pages - first;
	return (count + opt->stale_stride - 1) / opt->stale_stride;
}

static const char *why_none(const struct mapping *mapping)
{
	switch (mapping->stale.which) {
	case STALE_PROTECT:
		return "the frames are the same, only rights differ";
	case STALE_COW:
	case STALE_SPLIT:
		return "the pin took a copy of its own before";
	case STALE_BAR_DECODE_OFF:
	case STALE_PFNMAP_DROP:
		return "touched again, the same frames are back";
	default:
		return "the frames are the same";
	}
}

static void tell(struct run *run, const struct mapping *mapping)
{
	const struct stale *stale = &mapping->stale;
	size_t pages = pages_of(mapping), ranges = 0, end, lost = rights_lost(run, mapping);

	for (size_t i = 0; i < pages; i = end) {
		end = i + 1;
		if (stale->now[i] == NOW_SAME)
			continue;
		while (end < pages && stale->now[end] == stale->now[i])
			end++;
		tell_range(mapping, i, end - i, stale->now[i]);
		run->stale_pages += end - i;
		ranges++;
	}
	if (!ranges) {
		char rights[96] = "";

		if (lost)
			snprintf(rights, sizeof(rights),
				 ",\"rights_pages\":%zu,\"rights\":\"r\",\"device_rights\":\"rw\"",
				 lost);
		account_line(
			"{\"type\":\"stale\",\"stale\":\"%s\",\"layout\":\"%s\",\"va\":\"0x%" PRIxPTR
			"\",\"iova\":\"0x%" PRIx64
			"\",\"pages\":0,\"now\":\"same\",\"why\":\"%s\"%s,\"pid\":%d}",
			stale_name(stale->which), mapping->buffer.layout->name,
			(uintptr_t)mapping->buffer.va, mapping->iova, why_none(mapping), rights,
			mapping->pid);
	}
	run->stale_ranges += ranges;
	if (run->env->opt->list_pages)
		tell_pages(mapping);
}

void stale_make(struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		if (run->mappings[i].stale.chosen)
			act(run, &run->mappings[i]);
	/* Only when all is done: a change may concern other mappings, too. */
	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];

		if (!mapping->stale.chosen)
			continue;
		compare(run, mapping);
		tell(run, mapping);
	}
}

void stale_tell_exit(struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];
		size_t pages = pages_of(mapping);

		if (!mapping->mapped)
			continue;
		mapping->stale.which = STALE_OWNER_EXIT;
		mapping->stale.now = malloc(pages);
		if (!mapping->stale.now) {
			account_error(ENOMEM, "room for the truth");
			return;
		}
		memset(mapping->stale.now, NOW_EXITED, pages);
		mapping->stale.chosen = true;
		tell_range(mapping, 0, pages, NOW_EXITED);
		run->stale_ranges++;
		run->stale_pages += pages;
	}
}

void stale_tell_total(const struct run *run)
{
	account_line("{\"type\":\"stale-total\",\"ranges\":%" PRIu64 ",\"pages\":%" PRIu64 "}",
		     run->stale_ranges, run->stale_pages);
}

void stale_undo(struct run *run)
{
	const struct options *opt = run->env->opt;

	for (int i = 0; i < opt->nstale; i++)
		if (opt->stale[i] == STALE_BAR_DECODE_OFF && run->device_changed)
			vfio_set_decode(run->env->bar.device, true);
}
