// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "vfio.h"
#include "account.h"
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Kernels without the range capability: leave out the x86 MSI window. */
static const struct iova_range assumed_ranges[] = {
	{ 0x0, 0xfedfffff },
	{ 0xfef00000, (1ull << 39) - 1 },
};

static void take_ranges(struct vfio *vfio, const void *info, uint32_t at, uint32_t size)
{
	while (at && at + sizeof(struct vfio_info_cap_header) <= size) {
		const struct vfio_info_cap_header *head;
		const struct vfio_iommu_type1_info_cap_iova_range *cap;

		head = (const void *)((const char *)info + at);
		if (head->id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			at = head->next;
			continue;
		}
		cap = (const void *)head;
		for (uint32_t i = 0; i < cap->nr_iovas; i++) {
			struct iova_range *r;

			if (vfio->nranges == VFIO_MAX_RANGES)
				return;
			r = &vfio->ranges[vfio->nranges++];
			r->first = cap->iova_ranges[i].start;
			r->last = cap->iova_ranges[i].end;
		}
		return;
	}
}

static int query_ranges(struct vfio *vfio)
{
	struct vfio_iommu_type1_info *info;
	uint32_t size = sizeof(*info);
	int err = 0;

	vfio->nranges = 0;
	info = calloc(1, size);
	if (!info)
		return -ENOMEM;
	info->argsz = size;
	if (ioctl(vfio->container, VFIO_IOMMU_GET_INFO, info) < 0) {
		err = -errno;
		goto out;
	}
	/* The first call says how much room the capabilities need. */
	if (info->argsz > size) {
		struct vfio_iommu_type1_info *bigger;

		size = info->argsz;
		bigger = realloc(info, size);
		if (!bigger) {
			err = -ENOMEM;
			goto out;
		}
		info = bigger;
		info->argsz = size;
		if (ioctl(vfio->container, VFIO_IOMMU_GET_INFO, info) < 0) {
			err = -errno;
			goto out;
		}
		if (info->flags & VFIO_IOMMU_INFO_CAPS)
			take_ranges(vfio, info, info->cap_offset, size);
	}
	if (!vfio->nranges) {
		vfio->ranges[0] = assumed_ranges[0];
		vfio->ranges[1] = assumed_ranges[1];
		vfio->nranges = 2;
	}
out:
	free(info);
	return err;
}

/* Returns the descriptor of a group that may be attached. */
static int open_group(int group)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[32];
	int fd, err;

	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		err = errno;
		account_error(err, "open %s", path);
		return -err;
	}
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0) {
		err = errno;
		account_error(err, "status of group %d", group);
		close(fd);
		return -err;
	}
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		account_error(EPERM,
			      "group %d is not viable: some of its devices have other drivers",
			      group);
		close(fd);
		return -EPERM;
	}
	return fd;
}

int vfio_add_group(struct vfio *vfio, int group)
{
	int fd, err;

	for (int i = 0; i < vfio->ngroups; i++)
		if (vfio->groups[i].number == group)
			return 0;
	if (vfio->ngroups == VFIO_MAX_GROUPS)
		return -ENOSPC;
	fd = open_group(group);
	if (fd < 0)
		return fd;
	if (ioctl(fd, VFIO_GROUP_SET_CONTAINER, &vfio->container) < 0) {
		err = errno;
		account_error(err, "attach group %d to the container", group);
		close(fd);
		return -err;
	}
	vfio->groups[vfio->ngroups].number = group;
	vfio->groups[vfio->ngroups++].fd = fd;

	/* A second group may narrow what the container accepts. */
	return vfio->ngroups > 1 ? query_ranges(vfio) : 0;
}

int vfio_open(struct vfio *vfio, int group)
{
	int err;

	*vfio = (struct vfio){ .container = -1 };
	err = kvm_if_wanted();
	if (err)
		return err;
	vfio->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (vfio->container < 0) {
		err = errno;
		account_error(err, "open /dev/vfio/vfio");
		return -err;
	}
	err = vfio_add_group(vfio, group);
	if (err)
		return err;
	if (ioctl(vfio->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0) {
		err = errno;
		account_error(err, "choose VFIO_TYPE1v2_IOMMU");
		return -err;
	}
	err = query_ranges(vfio);
	if (err)
		account_error(-err, "VFIO_IOMMU_GET_INFO");
	return err;
}

void vfio_close(struct vfio *vfio)
{
	for (int i = 0; i < vfio->ngroups; i++)
		close(vfio->groups[i].fd);
	if (vfio->container >= 0)
		close(vfio->container);
}

int vfio_open_device(struct vfio *vfio, int group, const char *bdf)
{
	for (int i = 0; i < vfio->ngroups; i++) {
		int fd;

		if (vfio->groups[i].number != group)
			continue;
		fd = ioctl(vfio->groups[i].fd, VFIO_GROUP_GET_DEVICE_FD, bdf);
		if (fd < 0) {
			fd = -errno;
			account_error(-fd, "open device %s of group %d", bdf, group);
		}
		return fd;
	}
	account_error(ENOENT, "group %d is not in the container", group);
	return -ENOENT;
}

int vfio_map(struct vfio *vfio, const void *va, uint64_t iova, uint64_t bytes, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)va,
		.iova = iova,
		.size = bytes,
	};

	return ioctl(vfio->container, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

int vfio_unmap(struct vfio *vfio, uint64_t iova, uint64_t bytes, uint64_t *unmapped)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = bytes,
	};

	if (ioctl(vfio->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return -errno;
	/* The kernel answers with what it really took away. */
	*unmapped = unmap.size;
	return 0;
}

int vfio_region(int device, unsigned int index, struct vfio_region *region)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = index,
	};

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return -errno;
	region->offset = info.offset;
	region->size = info.size;
	region->can_mmap = info.flags & VFIO_REGION_INFO_FLAG_MMAP;
	return 0;
}

static int change_command(int device, uint16_t set, uint16_t clear)
{
	struct vfio_region config;
	uint16_t command;
	off_t at;
	int err = vfio_region(device, VFIO_PCI_CONFIG_REGION_INDEX, &config);

	if (err)
		return err;
	at = (off_t)config.offset + PCI_COMMAND;
	if (pread(device, &command, sizeof(command), at) != sizeof(command))
		return -EIO;
	command = (uint16_t)((command | set) & ~clear);
	if (pwrite(device, &command, sizeof(command), at) != sizeof(command))
		return -EIO;
	return 0;
}

int vfio_enable_bus_master(int device)
{
	return change_command(device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
}

int vfio_set_decode(int device, bool on)
{
	return change_command(device, on ? PCI_COMMAND_MEMORY : 0, on ? 0 : PCI_COMMAND_MEMORY);
}
