/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* VFIO type1 through a container and its groups. */
#ifndef CLIENT_VFIO_H
#define CLIENT_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFIO_MAX_GROUPS 8
#define VFIO_MAX_RANGES 32

struct iova_range {
	uint64_t first;
	uint64_t last;
};

struct vfio {
	int container;
	int ngroups;
	struct {
		int number;
		int fd;
	} groups[VFIO_MAX_GROUPS];
	/* The IOVAs that this container accepts, ascending. */
	int nranges;
	struct iova_range ranges[VFIO_MAX_RANGES];
};

/* All return 0 (or a descriptor) or a negative errno, and account for it. */
int vfio_open(struct vfio *vfio, int group);
int vfio_add_group(struct vfio *vfio, int group);
int vfio_open_device(struct vfio *vfio, int group, const char *bdf);
void vfio_close(struct vfio *vfio);

/* Quiet: the caller knows what a failure means. */
int vfio_map(struct vfio *vfio, const void *va, uint64_t iova, uint64_t bytes, uint32_t flags);
int vfio_unmap(struct vfio *vfio, uint64_t iova, uint64_t bytes, uint64_t *unmapped);

struct vfio_region {
	uint64_t offset;
	uint64_t size;
	bool can_mmap;
};

int vfio_region(int device, unsigned int index, struct vfio_region *region);

/* Without this a PCI device's DMA goes nowhere. */
int vfio_enable_bus_master(int device);
/* Whether its BARs answer; while they do not, nobody has them mapped. */
int vfio_set_decode(int device, bool on);

#endif
