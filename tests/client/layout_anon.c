// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Anonymous memory: small pages, pages in a line, huge pages, read-only. */
#include "account.h"
#include "layout.h"
#include "page.h"

#include <errno.h>
#include <linux/vfio.h>
#include <sys/mman.h>

static int anon_mmap(struct layout_env *env, struct buffer *buffer, size_t unit, int advice)
{
	int err = layout_mmap(env, buffer, unit, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (err) {
		account_error(-err, "mmap for %s", buffer->layout->name);
		return err;
	}
	/* A kernel without huge pages has nothing to be told: no error. */
	if (madvise(buffer->base, buffer->length, advice) && errno != EINVAL) {
		err = -errno;
		account_error(-err, "madvise for %s", buffer->layout->name);
	}
	return err;
}

static int create_anon(struct layout_env *env, struct buffer *buffer)
{
	int err = anon_mmap(env, buffer, PG_SIZE, MADV_NOHUGEPAGE);

	if (!err && env->opt->touch)
		layout_touch(buffer);
	return err;
}

static int create_ro(struct layout_env *env, struct buffer *buffer)
{
	int err = create_anon(env, buffer);

	buffer->writable = false;
	buffer->flags = VFIO_DMA_MAP_FLAG_READ;
	return err;
}

static int create_thp(struct layout_env *env, struct buffer *buffer)
{
	int err = anon_mmap(env, buffer, SZ_2M, MADV_HUGEPAGE);

	if (!err && env->opt->touch)
		layout_touch(buffer);
	return err;
}

/*
 * Huge pages whose mapping was split: PTEs over frames in a line. Changing the
 * protection of one page splits the mapping, and nothing joins it again.
 */
static int create_contig(struct layout_env *env, struct buffer *buffer)
{
	int err = anon_mmap(env, buffer, PG_SIZE, MADV_HUGEPAGE);

	if (err)
		return err;
	layout_touch(buffer);
	for (size_t at = 0; at < buffer->length; at += SZ_2M) {
		uint8_t *page = (uint8_t *)buffer->base + at;

		if (mprotect(page, PG_SIZE, PROT_READ) ||
		    mprotect(page, PG_SIZE, PROT_READ | PROT_WRITE)) {
			err = -errno;
			account_error(-err, "mprotect for contig");
			return err;
		}
	}
	madvise(buffer->base, buffer->length, MADV_NOHUGEPAGE);
	return 0;
}

/* The huge zero page: read, and never written to. */
static int create_zero(struct layout_env *env, struct buffer *buffer)
{
	int err = anon_mmap(env, buffer, SZ_2M, MADV_HUGEPAGE);

	for (size_t at = 0; !err && env->opt->touch && at < buffer->length; at += SZ_2M)
		(void)*((volatile uint8_t *)buffer->base + at);
	buffer->copies = true;
	buffer->flags = VFIO_DMA_MAP_FLAG_READ;
	return err;
}

const struct layout layout_zero = { .name = "zero", .create = create_zero };
const struct layout layout_anon = { .name = "anon", .create = create_anon };
const struct layout layout_ro = { .name = "ro", .create = create_ro };
const struct layout layout_thp = { .name = "thp", .create = create_thp };
const struct layout layout_contig = { .name = "contig", .create = create_contig };
