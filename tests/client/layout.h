/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Memory of many shapes, for one mapping each. */
#ifndef CLIENT_LAYOUT_H
#define CLIENT_LAYOUT_H

#include "options.h"
#include "rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;

/* Where the bar layout gets its memory from. */
struct bar_source {
	const char *bdf;
	int device;
	unsigned int index;
	/* Plain memory behind it, so that we may write our tags to it. */
	bool is_memory;
};

struct layout_env {
	const struct options *opt;
	struct rng rng;
	struct bar_source bar;
};

struct layout {
	const char *name;
	/* Fills the buffer. Accounts for its own failure, returns -errno. */
	int (*create)(struct layout_env *env, struct buffer *buffer);
	/* PFNs by another source than pagemap; NULL: pagemap. */
	int (*pfns)(struct layout_env *env, const struct buffer *buffer, uint64_t *pfns);
	const char *pfn_source;
	bool needs_bar;
};

/* What one MAP_DMA covers, and the mmap around it. */
struct buffer {
	const struct layout *layout;
	void *base;
	size_t length;
	uint8_t *va;
	size_t bytes;
	/* The IOVA must agree with the VA modulo this. */
	size_t align;
	/* The CPU may write to it as long as it is mapped. */
	bool writable;
	/* Not ours to write to at all: a device's registers. */
	bool foreign;
	/* Writable, but a write changes the page: ours to read only. */
	bool copies;
	/* VFIO_DMA_MAP_FLAG_* */
	uint32_t flags;
	/* What stands behind the VMA, or -1. */
	int fd;
	/* First page of a module's or a device's memory. */
	size_t first_page;
};

const struct layout *layout_find(const char *name);
bool layout_needs_bar(const struct layout *layout);

/* Both return 0 or a negative errno. -ENODEV: this machine lacks it. */
int buffer_create(struct layout_env *env, const struct layout *layout, struct buffer *buffer);
int buffer_pfns(struct layout_env *env, const struct buffer *buffer, uint64_t *pfns);
void buffer_destroy(struct buffer *buffer);

/* For the layouts themselves. */

/* A hole in the address space: `length` bytes, aligned. NULL if none. */
void *layout_reserve(size_t length, size_t align);
/*
 * mmaps length bytes over a reservation and sets base, length, va, bytes
 * according to --pages and --offset, both rounded to `unit`.
 */
int layout_mmap(struct layout_env *env, struct buffer *buffer, size_t unit, int flags, int fd);
/* Tags each page of the mapped part, in order. */
void layout_touch(struct buffer *buffer);

extern const struct layout layout_anon;
extern const struct layout layout_contig;
extern const struct layout layout_thp;
extern const struct layout layout_ro;
extern const struct layout layout_scattered;
extern const struct layout layout_huge2m;
extern const struct layout layout_huge1g;
extern const struct layout layout_shmem;
extern const struct layout layout_file;
extern const struct layout layout_file_private;
extern const struct layout layout_file_cow;
extern const struct layout layout_zero;
extern const struct layout layout_bar;
extern const struct layout layout_bar_huge;
extern const struct layout layout_pfnmap;

#endif
