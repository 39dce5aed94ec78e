// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "owners.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define VFIO_MAJOR 10 /* MISC_MAJOR */
#define VFIO_MINOR 196 /* include/linux/miscdevice.h */

/* By device number, not by path: the process may live in another mount namespace. */
static bool is_container(int dir, const char *name)
{
	struct stat st;

	return !fstatat(dir, name, &st, 0) && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(VFIO_MAJOR, VFIO_MINOR);
}

/* false: enough was heard. */
static bool process(pid_t pid, bool (*fn)(void *ctx, const struct owner *o), void *ctx)
{
	struct owner o = { .pid = pid };
	struct dirent *f;
	char path[64];
	bool more = true;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	while (fds && more && (f = readdir(fds))) {
		if (!isdigit((unsigned char)f->d_name[0]) || !is_container(dirfd(fds), f->d_name))
			continue;
		o.fd = atoi(f->d_name);
		more = fn(ctx, &o);
	}
	if (fds)
		closedir(fds);
	return more;
}

int owners_each(pid_t pid, bool (*fn)(void *ctx, const struct owner *o), void *ctx)
{
	struct dirent *d;
	DIR *proc;

	if (pid) {
		process(pid, fn, ctx);
		return 0;
	}
	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while ((d = readdir(proc)))
		if (isdigit((unsigned char)d->d_name[0]) && !process(atoi(d->d_name), fn, ctx))
			break;
	closedir(proc);
	return 0;
}

int owner_dup(const struct owner *o)
{
	int pidfd, fd, err;

	if (o->pid == getpid()) {
		fd = dup(o->fd);
		return fd < 0 ? -errno : fd;
	}
	pidfd = syscall(SYS_pidfd_open, o->pid, 0);
	if (pidfd < 0)
		return -errno;
	fd = syscall(SYS_pidfd_getfd, pidfd, o->fd, 0);
	err = errno;
	close(pidfd);
	return fd < 0 ? -err : fd;
}
