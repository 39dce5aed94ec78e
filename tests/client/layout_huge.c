// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* hugetlb memory; the pool grows when it is too small. */
#include "account.h"
#include "layout.h"
#include "page.h"
#include "sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/mman.h>
#include <stdio.h>
#include <sys/mman.h>

static void pool_path(char *path, size_t size, size_t huge, const char *file)
{
	snprintf(path, size, "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", huge / 1024, file);
}

/* 0 when `count` huge pages are free, or could be made free. */
static int grow_pool(const char *name, size_t huge, uint64_t count)
{
	char path[PATH_MAX], text[32];
	uint64_t free_pages = 0, all = 0;
	int err;

	pool_path(path, sizeof(path), huge, "free_hugepages");
	err = sysfs_read_u64(path, &free_pages);
	if (err) {
		account_unavailable(name, "this kernel has no such huge pages");
		return -ENODEV;
	}
	if (free_pages >= count)
		return 0;
	pool_path(path, sizeof(path), huge, "nr_hugepages");
	err = sysfs_read_u64(path, &all);
	if (!err) {
		snprintf(text, sizeof(text), "%" PRIu64, all + count - free_pages);
		err = sysfs_write(path, text);
	}
	if (err) {
		account_unavailable(name, "cannot set nr_hugepages: errno %d", -err);
		return -ENODEV;
	}
	/* The kernel takes as many as it finds, and does not complain. */
	pool_path(path, sizeof(path), huge, "free_hugepages");
	err = sysfs_read_u64(path, &free_pages);
	if (err || free_pages < count) {
		account_unavailable(name,
				    "%" PRIu64 " of %" PRIu64
				    " huge pages: not enough memory in one piece",
				    free_pages, count);
		return -ENODEV;
	}
	return 0;
}

static int create_huge(struct layout_env *env, struct buffer *buffer, size_t huge, int size_flag)
{
	size_t bytes = round_up_to(env->opt->pages * PG_SIZE, huge);
	size_t length = round_up_to(env->opt->offset + bytes, huge);
	int err = grow_pool(buffer->layout->name, huge, length / huge);

	if (err)
		return err;
	err = layout_mmap(env, buffer, huge, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | size_flag,
			  -1);
	if (err) {
		account_error(-err, "mmap for %s", buffer->layout->name);
		return err;
	}
	if (env->opt->touch)
		layout_touch(buffer);
	return 0;
}

static int create_huge2m(struct layout_env *env, struct buffer *buffer)
{
	return create_huge(env, buffer, SZ_2M, MAP_HUGE_2MB);
}

static int create_huge1g(struct layout_env *env, struct buffer *buffer)
{
	return create_huge(env, buffer, SZ_1G, MAP_HUGE_1GB);
}

const struct layout layout_huge2m = { .name = "huge2m", .create = create_huge2m };
const struct layout layout_huge1g = { .name = "huge1g", .create = create_huge1g };
