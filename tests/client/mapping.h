/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* One VFIO_IOMMU_MAP_DMA call: what was asked, what came of it. */
#ifndef CLIENT_MAPPING_H
#define CLIENT_MAPPING_H

#include "layout.h"
#include "stale_case.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
	struct buffer buffer;
	uint64_t iova;
	bool mapped;
	/* Negative errno of the last call, or 0. */
	int map_err;
	int unmap_err;
	pid_t pid; /* that mapped it */
	pid_t map_tid;
	uint64_t map_ns, unmap_ns; /* of the ioctl, CLOCK_MONOTONIC */
	uint64_t map_cpu_ns, unmap_cpu_ns; /* the same, only while this thread ran */
	pid_t unmap_tid;
	uint64_t unmapped_bytes;
	/* Of the tags on its pages. */
	uint64_t generation;
	struct stale stale;
};

struct vfio;

/* Make the calls, note their outcome; they account for nothing. */
void mapping_map(struct vfio *vfio, struct mapping *mapping);
void mapping_unmap(struct vfio *vfio, struct mapping *mapping);

/* Write the records; these account for errors, too. */
void mapping_tell_map(struct layout_env *env, const struct mapping *mapping);
void mapping_tell_unmap(struct layout_env *env, const struct mapping *mapping);

#endif
