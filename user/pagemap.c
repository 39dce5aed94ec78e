// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "pagemap.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PM_PRESENT (1ULL << 63)
#define PM_PFN ((1ULL << 55) - 1)

enum pagemap_answer pagemap_ask(pid_t pid, uint64_t va, uint64_t *pfn)
{
	char path[64];
	uint64_t e;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PAGEMAP_NONE;
	n = pread(fd, &e, sizeof(e), (va >> 12) * sizeof(e));
	close(fd);
	if (n != sizeof(e))
		return PAGEMAP_NONE;
	if (!(e & PM_PRESENT) || !(e & PM_PFN))
		return PAGEMAP_ABSENT;
	*pfn = e & PM_PFN;
	return PAGEMAP_PFN;
}
