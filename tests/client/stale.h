/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The world changes under a mapping. The IOMMU is not told, and keeps
 * translating to the frames it was given: what the suite calls stale. Here is
 * told exactly which pages are.
 */
#ifndef CLIENT_STALE_H
#define CLIENT_STALE_H

#include "run.h"

/* Deals the cases out to the mappings, and notes their frames as they are now. */
void stale_prepare(struct run *run);
/* Makes the changes, compares with what was noted, and tells. */
void stale_make(struct run *run);
/* The process that mapped all this has exited; told by another one. */
void stale_tell_exit(struct run *run);
void stale_tell_total(const struct run *run);
/* What would keep the device from another run. */
void stale_undo(struct run *run);

#endif
