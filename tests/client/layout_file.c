// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * File-backed memory. Since 6.4 long-term pins for writing are refused on
 * shared mappings of files that a file system writes back; shmem is allowed,
 * and so are the copies of a private mapping.
 */
#include "account.h"
#include "layout.h"
#include "page.h"
#include "tag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int map_file(struct layout_env *env, struct buffer *buffer, int flags)
{
	size_t length = env->opt->offset + env->opt->pages * PG_SIZE;
	int err;

	if (ftruncate(buffer->fd, (off_t)length)) {
		err = -errno;
		account_error(-err, "ftruncate for %s", buffer->layout->name);
		return err;
	}
	err = layout_mmap(env, buffer, PG_SIZE, flags, buffer->fd);
	if (err) {
		account_error(-err, "mmap for %s", buffer->layout->name);
		return err;
	}
	if (env->opt->touch && buffer->layout != &layout_file_cow)
		layout_touch(buffer);
	return 0;
}

static int open_file(struct layout_env *env, struct buffer *buffer)
{
	char path[] = "/tmp/dmaclient.XXXXXX";
	int err;

	if (env->opt->file) {
		buffer->fd = open(env->opt->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	} else {
		buffer->fd = mkostemp(path, O_CLOEXEC);
		if (buffer->fd >= 0)
			unlink(path);
	}
	if (buffer->fd >= 0)
		return 0;
	err = -errno;
	account_error(-err, "open %s", env->opt->file ? env->opt->file : path);
	return err;
}

static int create_file(struct layout_env *env, struct buffer *buffer)
{
	int err = open_file(env, buffer);

	return err ? err : map_file(env, buffer, MAP_SHARED);
}

static int create_file_private(struct layout_env *env, struct buffer *buffer)
{
	int err = open_file(env, buffer);

	return err ? err : map_file(env, buffer, MAP_PRIVATE);
}

/* Pages of the file itself, read-only for the device: nobody has written yet. */
static int create_file_cow(struct layout_env *env, struct buffer *buffer)
{
	int err = open_file(env, buffer);

	if (err)
		return err;
	err = map_file(env, buffer, MAP_PRIVATE);
	if (err)
		return err;
	for (size_t at = 0; at < buffer->bytes; at += PG_SIZE) {
		off_t in_file = (off_t)(buffer->va + at - (uint8_t *)buffer->base);
		struct tag tag;

		tag_make(&tag, (uintptr_t)buffer->va + at, 0);
		if (pwrite(buffer->fd, &tag, sizeof(tag), in_file) != sizeof(tag)) {
			account_error(errno, "write the file of file-cow");
			return -EIO;
		}
		if (env->opt->touch)
			(void)*(volatile uint8_t *)(buffer->va + at);
	}
	/* Who writes has another page from then on. */
	buffer->copies = true;
	buffer->flags = VFIO_DMA_MAP_FLAG_READ;
	return 0;
}

static int create_shmem(struct layout_env *env, struct buffer *buffer)
{
	int err;

	buffer->fd = memfd_create("dmaclient", MFD_CLOEXEC);
	if (buffer->fd < 0) {
		err = -errno;
		account_error(-err, "memfd_create");
		return err;
	}
	return map_file(env, buffer, MAP_SHARED);
}

const struct layout layout_file = { .name = "file", .create = create_file };
const struct layout layout_file_private = {
	.name = "file-private",
	.create = create_file_private,
};
const struct layout layout_file_cow = { .name = "file-cow", .create = create_file_cow };
const struct layout layout_shmem = { .name = "shmem", .create = create_shmem };
