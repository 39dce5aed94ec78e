/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Who on this host holds a VFIO container: found by the file descriptors in /proc. */
#ifndef PFNW_OWNERS_H
#define PFNW_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A file descriptor of a process that is open on the VFIO container device. */
struct owner {
	pid_t pid; /* thread group */
	int fd; /* in that process */
};

/*
 * Calls @fn for each; it returns false to hear no more. @pid 0: all processes.
 * Returns 0, or -errno when /proc cannot be read; a process that goes meanwhile is no
 * error.
 */
int owners_each(pid_t pid, bool (*fn)(void *ctx, const struct owner *o), void *ctx);

/* A copy of that descriptor in this process, close-on-exec; -errno. (5.6: pidfd_getfd.) */
int owner_dup(const struct owner *o);

#endif
