/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The device as the last witness: what it reads through an IOVA against what
 * the CPU reads through the VA.
 */
#ifndef CLIENT_WITNESS_H
#define CLIENT_WITNESS_H

#include "edu.h"
#include "iova.h"
#include "mapping.h"

struct witness {
	struct layout_env *env;
	struct edu edu;
	/* One page that the device is known to reach, for what it has read. */
	struct mapping bounce;
	/* Tags differ from one verification to the next. */
	uint64_t generation;
	size_t left;
	unsigned long pages;
	unsigned long agree;
	unsigned long disagree;
	unsigned long failed;
};

/* Opens the engine, maps the bounce page and tries it out. */
int witness_open(struct witness *witness, struct layout_env *env, struct vfio *vfio,
		 const struct iova_space *space, int device);
/* Verifies mappings that exist now; keeps count over several calls. */
void witness_verify(struct witness *witness, struct mapping *mappings, size_t count);
/* New tags on all pages that are ours to write to. */
void witness_mark(struct witness *witness, struct mapping *mappings, size_t count);
/*
 * What the IOMMU still translates to: the device must read what was on the page
 * before the change, whatever the CPU sees there now.
 */
void witness_verify_stale(struct witness *witness, struct mapping *mappings, size_t count);
/* After unmapping: the device must not read the pages any more. */
void witness_verify_gone(struct witness *witness, struct mapping *mappings, size_t count);
void witness_tell_total(const struct witness *witness);
void witness_close(struct witness *witness, struct vfio *vfio);

#endif
