// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCI_DEVICES "/sys/bus/pci/devices"

int sysfs_read_u64(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	int ok;

	if (!file)
		return -errno;
	ok = fscanf(file, "%" SCNu64, value);
	fclose(file);
	return ok == 1 ? 0 : -EINVAL;
}

int sysfs_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The last part of what a link in the device's directory points to. */
static int link_name(const char *bdf, const char *link, char *name, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", bdf, link);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	slash = strrchr(target, '/');
	snprintf(name, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
	return 0;
}

int pci_group(const char *bdf)
{
	char name[64];
	int err = link_name(bdf, "iommu_group", name, sizeof(name));

	return err ? err : atoi(name);
}

int pci_bind_vfio(const char *bdf)
{
	char path[PATH_MAX], driver[64];
	int err;

	err = link_name(bdf, "driver", driver, sizeof(driver));
	if (!err && !strcmp(driver, "vfio-pci"))
		return 0;
	if (!err) {
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", bdf);
		err = sysfs_write(path, bdf);
		if (err)
			return err;
	} else if (err != -ENOENT) {
		return err;
	}
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", bdf);
	err = sysfs_write(path, "vfio-pci");
	if (err)
		return err;
	err = sysfs_write("/sys/bus/pci/drivers_probe", bdf);
	if (err)
		return err;
	/* A probe that no driver takes does not fail: ask who has it now. */
	err = link_name(bdf, "driver", driver, sizeof(driver));
	if (err)
		return err;
	return strcmp(driver, "vfio-pci") ? -EBUSY : 0;
}

int pci_bar_address(const char *bdf, unsigned int index, uint64_t *address)
{
	char path[PATH_MAX], line[128];
	FILE *file;
	int err = -ENOENT;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/resource", bdf);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	for (unsigned int i = 0; fgets(line, sizeof(line), file); i++) {
		if (i != index)
			continue;
		*address = strtoull(line, NULL, 0);
		err = *address ? 0 : -ENOENT;
		break;
	}
	fclose(file);
	return err;
}
