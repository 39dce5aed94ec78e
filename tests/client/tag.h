/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The bytes that name a page. Each page carries its own VA and a generation
 * behind a checksum, so that a device that reads the wrong page tells which
 * page it read instead.
 */
#ifndef CLIENT_TAG_H
#define CLIENT_TAG_H

#include <stdbool.h>
#include <stdint.h>

#define TAG_WORDS 8
#define TAG_BYTES (TAG_WORDS * sizeof(uint64_t))

struct tag {
	uint64_t word[TAG_WORDS];
};

static inline uint64_t tag_mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

static inline void tag_make(struct tag *tag, uint64_t va, uint64_t generation)
{
	tag->word[1] = va;
	tag->word[2] = generation;
	for (int i = 3; i < TAG_WORDS; i++)
		tag->word[i] = tag_mix(va + generation * 0x10001 + i);
	tag->word[0] = tag_mix(va ^ tag_mix(generation)) | 1;
}

/* True when these bytes are a tag of some page of ours. */
static inline bool tag_valid(const struct tag *tag)
{
	return tag->word[0] == (tag_mix(tag->word[1] ^ tag_mix(tag->word[2])) | 1);
}

/* Device memory wants one access per aligned word: no memcpy here. */
static inline void tag_store(volatile void *page, const struct tag *tag)
{
	volatile uint64_t *to = page;

	for (int i = 0; i < TAG_WORDS; i++)
		to[i] = tag->word[i];
}

static inline void tag_load(struct tag *tag, const volatile void *page)
{
	const volatile uint64_t *from = page;

	for (int i = 0; i < TAG_WORDS; i++)
		tag->word[i] = from[i];
}

static inline bool tag_equal(const struct tag *a, const struct tag *b)
{
	for (int i = 0; i < TAG_WORDS; i++)
		if (a->word[i] != b->word[i])
			return false;
	return true;
}

#endif
