/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef CLIENT_BOUNCE_H
#define CLIENT_BOUNCE_H

#include "witness.h"

/* Maps the witness's bounce page, clear of `others`, and tries it out. */
int bounce_open(struct witness *witness, struct vfio *vfio, const struct iova_space *others);

#endif
