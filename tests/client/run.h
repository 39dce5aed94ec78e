/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The mappings of one run, and what happens to all of them. */
#ifndef CLIENT_RUN_H
#define CLIENT_RUN_H

#include "iova.h"
#include "mapping.h"

struct run {
	struct layout_env *env;
	struct vfio *vfio;
	void (*rest)(double seconds); /* before the calls for a layout */
	struct iova_space space;
	struct mapping *mappings;
	size_t count;

	/* Over all cycles; a page that is mapped twice counts twice. */
	uint64_t maps;
	uint64_t pages;
	uint64_t unmaps;
	uint64_t unmapped_pages;
	uint64_t map_cpu_ns, unmap_cpu_ns; /* in these calls, by their threads */

	/* A device was told to change, which concerns all mappings of it. */
	bool device_changed;
	uint64_t stale_ranges;
	uint64_t stale_pages;
};

/*
 * Room for the mappings, which a child shares; then their buffers, in whichever
 * process. 0 or a negative errno.
 */
int run_reserve(struct run *run);
int run_prepare(struct run *run);
/* What a child has mapped. */
void run_adopt(struct run *run);
/* Threads take the mappings in turns. */
void run_map(struct run *run);
/* What is mapped next may be read only, if it was rw, and the other way round. */
void run_turn_flags(struct run *run);
void run_unmap(struct run *run);
void run_tell_total(const struct run *run, unsigned int cycles);
void run_finish(struct run *run);

#endif
