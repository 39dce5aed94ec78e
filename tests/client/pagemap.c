// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "pagemap.h"
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PM_PRESENT (1ull << 63)
#define PM_PFN_MASK ((1ull << 55) - 1)

int pagemap_read(const void *va, size_t pages, uint64_t *pfns)
{
	off_t offset = (off_t)((uintptr_t)va >> PG_SHIFT) * sizeof(*pfns);
	size_t want = pages * sizeof(*pfns), have = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (have < want) {
		ssize_t n = pread(fd, (char *)pfns + have, want - have, offset + (off_t)have);

		if (n <= 0) {
			int err = n ? -errno : -ENODATA;

			close(fd);
			return err;
		}
		have += (size_t)n;
	}
	close(fd);

	for (size_t i = 0; i < pages; i++) {
		uint64_t pfn = pfns[i] & PM_PFN_MASK;

		/* Without CAP_SYS_ADMIN every PFN reads as 0. */
		pfns[i] = (pfns[i] & PM_PRESENT) && pfn ? pfn : PFN_UNKNOWN;
	}
	return 0;
}

long pfn_runs(const uint64_t *pfns, size_t pages)
{
	long runs = 0;

	for (size_t i = 0; i < pages; i++) {
		if (pfns[i] == PFN_UNKNOWN)
			return -1;
		if (!i || pfns[i] != pfns[i - 1] + 1)
			runs++;
	}
	return runs;
}
