/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The user-space witness: /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
 * It is silent on VM_PFNMAP VMAs: they read as holes.
 */
#ifndef PFNW_PAGEMAP_H
#define PFNW_PAGEMAP_H

#include <stdint.h>
#include <sys/types.h>

enum pagemap_answer {
	PAGEMAP_NONE = 0, /* not asked, or the process is gone */
	PAGEMAP_ABSENT, /* no frame there, or a PFNMAP VMA */
	PAGEMAP_PFN, /* *pfn is set */
};

enum pagemap_answer pagemap_ask(pid_t pid, uint64_t va, uint64_t *pfn);

#endif
