/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Small sysfs reads and writes, and PCI devices as sysfs shows them. */
#ifndef CLIENT_SYSFS_H
#define CLIENT_SYSFS_H

#include <stdint.h>

int sysfs_read_u64(const char *path, uint64_t *value);
int sysfs_write(const char *path, const char *text);

/* The IOMMU group of a PCI device, or a negative errno. */
int pci_group(const char *bdf);

/* Gives the device to vfio-pci unless vfio-pci has it already. */
int pci_bind_vfio(const char *bdf);

/* Physical address of a BAR. */
int pci_bar_address(const char *bdf, unsigned int index, uint64_t *address);

#endif
