/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What the walker must know of this kernel, asked of the kernel itself. */
#ifndef PFNW_CALIB_H
#define PFNW_CALIB_H

#include "cpu_walk.h"

struct hooks;

/* @h: after hooks_probe(). Returns EXIT_PROVEN, or EXIT_KERNEL/EXIT_USAGE after an error line. */
int calib_run(const struct hooks *h, struct pfnw_calib *c, struct cpu_format *fmt);

#endif
