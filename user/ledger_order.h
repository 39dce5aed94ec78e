/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Puts records of changes back into the order in which they happened. They come out
 * of a ring buffer, perhaps in another order, perhaps not all. Each names its
 * container, the container's generation and a sequence number that counts 1, 2, 3, ...
 * within them. Pure: no I/O, no clock of its own, no global state.
 *
 * A container whose identity is used again has a greater generation, and counts
 * from 1. Records of an older generation are dropped.
 */
#ifndef PFNW_LEDGER_ORDER_H
#define PFNW_LEDGER_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger_order;

struct ledger_order_config {
	/* How much is kept per container while a record before it is missing; 0: nothing. */
	uint64_t max_records, max_bytes;
	uint64_t max_age_ns; /* a record that is missing for longer is lost */
	uint64_t max_memory; /* bytes, for all containers together; 0: no limit */

	void *ctx; /* for the callbacks */
	/* The next record of a container. @record is valid during the call. */
	void (*apply)(void *ctx, uint64_t container, uint64_t generation, uint64_t seq,
		      const void *record, size_t bytes);
	/*
	 * A record is lost: the container is out of order until ledger_order_resync().
	 * Called once. The records that come meanwhile are kept, the newest ones. (Of a
	 * container for which there is no memory at all: with every record.)
	 */
	void (*lost)(void *ctx, uint64_t container, uint64_t generation);
	/*
	 * A record with a greater generation came, and follows: the old container is
	 * gone, and what it had mapped with it. May be NULL.
	 */
	void (*renewed)(void *ctx, uint64_t container, uint64_t old_generation,
			uint64_t generation);
};

enum ledger_order_result {
	LEDGER_ORDER_APPLIED, /* and perhaps others that waited for it */
	LEDGER_ORDER_KEPT,
	LEDGER_ORDER_DROPPED, /* seen before, before a resync, or of an older generation */
	LEDGER_ORDER_LOST, /* lost() was called for its container */
};

struct ledger_order_stats {
	uint64_t containers;
	uint64_t out_of_order; /* containers that wait for a resync */
	uint64_t kept_records, kept_bytes; /* now, in all */
	uint64_t applied, dropped, losses; /* so far; dropped: of any cause */
	uint64_t memory; /* bytes in use, free lists included */
};

/* NULL: no memory. */
struct ledger_order *ledger_order_new(const struct ledger_order_config *c);
void ledger_order_free(struct ledger_order *o); /* NULL is fine */

/*
 * The callbacks may call ledger_order_resync() and ledger_order_forget(), nothing else.
 *
 * ledger_order_push(): a record came, at @now_ns. A container that is not known
 * starts with sequence number 1. No memory for a record or container is a loss.
 * -EINVAL: @seq is 0.
 */
int ledger_order_push(struct ledger_order *o, const void *record, size_t bytes, uint64_t container,
		      uint64_t generation, uint64_t seq, uint64_t now_ns);

/* Time goes by: finds what is missing for too long. UINT64_MAX: what is missing is lost. */
void ledger_order_tick(struct ledger_order *o, uint64_t now_ns);

/*
 * The caller knows the state of the container as of @seq (0: none yet): goes on with
 * @seq + 1, at once if it is kept. Records up to @seq are dropped silently.
 * -ESTALE: records behind @seq were applied or dropped already, or the generation is
 *          older than the one known: look again. Nothing changed.
 * -ENOMEM: nothing changed.
 */
int ledger_order_resync(struct ledger_order *o, uint64_t container, uint64_t generation,
			uint64_t seq);

/* The container is gone; nothing is known of it from now on. */
void ledger_order_forget(struct ledger_order *o, uint64_t container);

/* The number of the record that has its turn; 1 for a container that is not known. */
uint64_t ledger_order_next(const struct ledger_order *o, uint64_t container);

bool ledger_order_out_of_order(const struct ledger_order *o, uint64_t container);
void ledger_order_stats(const struct ledger_order *o, struct ledger_order_stats *s);

#endif
