/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* A deterministic random source: the same seed gives the same run everywhere. */
#ifndef CLIENT_RNG_H
#define CLIENT_RNG_H

#include <stdint.h>

struct rng {
	uint64_t state;
};

static inline void rng_seed(struct rng *rng, uint64_t seed)
{
	/* Zero is the one state that xorshift never leaves. */
	rng->state = seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
	if (!rng->state)
		rng->state = 1;
}

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t x = rng->state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	rng->state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* A number in [0, limit); the bias is of no consequence for test orders. */
static inline uint64_t rng_below(struct rng *rng, uint64_t limit)
{
	return limit ? (rng_next(rng) >> 11) % limit : 0;
}

#endif
