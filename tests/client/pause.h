/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Waiting, with everything as it is, for somebody who looks at it from outside. */
#ifndef CLIENT_PAUSE_H
#define CLIENT_PAUSE_H

#include <signal.h>

/*
 * Tells a ready record, then waits for a line of standard input, its end, or a
 * signal that sets `stopped`.
 */
void pause_here(const char *name, const volatile sig_atomic_t *stopped);

#endif
