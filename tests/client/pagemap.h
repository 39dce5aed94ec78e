/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The frames behind our own addresses, as /proc/self/pagemap tells them. */
#ifndef CLIENT_PAGEMAP_H
#define CLIENT_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

/* What pagemap cannot tell: not present, or a VM_PFNMAP hole. */
#define PFN_UNKNOWN UINT64_MAX

/* Fills pfns[0..pages). Returns 0 or a negative errno. */
int pagemap_read(const void *va, size_t pages, uint64_t *pfns);

/* Runs of consecutive PFNs, or -1 if any PFN is unknown. */
long pfn_runs(const uint64_t *pfns, size_t pages);

#endif
