// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/ledger_order.c: records in any order, twice, or not at all. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "ledger_order.h"

#define CONTAINERS 4
#define AGE 1000

/* What a record holds, and as many bytes more as its number says. */
struct record {
	uint64_t container, seq;
	unsigned char more[64];
};

/* The callbacks, and what they saw of each container. */
struct seen {
	struct ledger_order *o;
	uint64_t applied[CONTAINERS + 1]; /* last sequence number */
	uint64_t generation[CONTAINERS + 1];
	int lost[CONTAINERS + 1], renewed;
	uint64_t resync_to; /* lost() calls ledger_order_resync() with this */
	uint64_t forget_at; /* apply() calls ledger_order_forget() at this sequence number */
};

static size_t length(uint64_t seq)
{
	return offsetof(struct record, more) + seq % 64;
}

static struct record record(uint64_t container, uint64_t seq)
{
	struct record r = { .container = container, .seq = seq };

	memset(r.more, seq, sizeof(r.more));
	return r;
}

static void apply(void *ctx, uint64_t container, uint64_t generation, uint64_t seq, const void *rec,
		  size_t bytes)
{
	struct record want = record(container, seq);
	struct seen *s = ctx;

	assert_int_equal(bytes, length(seq));
	assert_memory_equal(rec, &want, bytes);
	if (seq != s->applied[container] + 1)
		fail_test("container %llu: %llu comes after %llu", (unsigned long long)container,
			  (unsigned long long)seq, (unsigned long long)s->applied[container]);
	s->applied[container] = seq;
	s->generation[container] = generation;
	if (seq == s->forget_at) {
		ledger_order_forget(s->o, container);
		s->applied[container] = 0;
	}
}

static void lost(void *ctx, uint64_t container, uint64_t generation)
{
	struct seen *s = ctx;

	s->lost[container]++;
	s->generation[container] = generation;
	assert_true(ledger_order_out_of_order(s->o, container));
	if (s->resync_to) {
		s->applied[container] = s->resync_to;
		assert_int_equal(ledger_order_resync(s->o, container, generation, s->resync_to), 0);
	}
}

static void renewed(void *ctx, uint64_t container, uint64_t old_generation, uint64_t generation)
{
	struct seen *s = ctx;

	assert_int_equal(s->generation[container], old_generation);
	assert_true(generation > old_generation);
	s->generation[container] = generation;
	s->applied[container] = 0;
	s->renewed++;
}

static const struct ledger_order_config roomy = {
	.max_records = 100,
	.max_bytes = 100000,
	.max_age_ns = AGE,
	.apply = apply,
	.lost = lost,
	.renewed = renewed,
};

static void begin(struct seen *s, struct ledger_order_config c)
{
	memset(s, 0, sizeof(*s));
	c.ctx = s;
	s->o = ledger_order_new(&c);
	assert_non_null(s->o);
}

/* Pushes a record that is overwritten as soon as it was. */
static int push_at(struct seen *s, uint64_t container, uint64_t generation, uint64_t seq,
		   uint64_t now)
{
	static struct record r;

	r = record(container, seq);
	int result = ledger_order_push(s->o, &r, length(seq), container, generation, seq, now);

	memset(&r, 0xee, sizeof(r));
	return result;
}

static int push(struct seen *s, uint64_t seq)
{
	return push_at(s, 1, 1, seq, 0);
}

static struct ledger_order_stats stats(const struct seen *s)
{
	struct ledger_order_stats st;

	ledger_order_stats(s->o, &st);
	return st;
}

static void in_order(void **state)
{
	struct seen s;

	(void)state;
	begin(&s, roomy);
	for (uint64_t seq = 1; seq <= 1000; seq++)
		for (uint64_t c = 0; c < CONTAINERS; c++)
			assert_int_equal(push_at(&s, c, 7 + c, seq, seq * AGE),
					 LEDGER_ORDER_APPLIED);
	assert_int_equal(s.generation[2], 9);
	assert_int_equal(push(&s, 0), -EINVAL);
	assert_int_equal(stats(&s).applied, 1000 * CONTAINERS);
	assert_int_equal(stats(&s).containers, CONTAINERS);
	assert_int_equal(stats(&s).kept_records + stats(&s).dropped + stats(&s).losses, 0);
	ledger_order_free(s.o);
	ledger_order_free(NULL);
}

static void any_order(void **state)
{
	uint64_t seed = 99;
	struct seen s;

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct {
			uint64_t container, seq;
		} list[CONTAINERS * 60 * 2], swap;
		uint64_t n = 0, want = 0, near = 1 + rnd(&seed) % N_OF(list);

		begin(&s, roomy);
		for (uint64_t seq = 1; seq <= 60; seq++)
			for (uint64_t c = 0; c < CONTAINERS; c++)
				for (int twice = rnd(&seed) % 4 == 0; twice >= 0; twice--) {
					list[n].container = c;
					list[n++].seq = seq;
				}
		for (uint64_t i = 0; i < n; i++) {
			uint64_t k = i + rnd(&seed) % near;

			k = k < n ? k : n - 1;
			swap = list[i];
			list[i] = list[k];
			list[k] = swap;
		}
		for (uint64_t i = 0; i < n; i++)
			want += push_at(&s, list[i].container, 1, list[i].seq, 0) ==
				LEDGER_ORDER_DROPPED;
		for (uint64_t c = 0; c < CONTAINERS; c++)
			assert_int_equal(s.applied[c], 60);
		assert_int_equal(stats(&s).applied, 60 * CONTAINERS);
		assert_int_equal(stats(&s).dropped, n - 60 * CONTAINERS);
		assert_int_equal(want, n - 60 * CONTAINERS);
		assert_int_equal(stats(&s).losses, 0);
		assert_int_equal(stats(&s).kept_records + stats(&s).kept_bytes, 0);
		ledger_order_free(s.o);
	}
}

static void seen_before(void **state)
{
	struct seen s;

	(void)state;
	begin(&s, roomy);
	assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);
	assert_int_equal(push(&s, 1), LEDGER_ORDER_DROPPED);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_DROPPED);
	assert_int_equal(push(&s, 5), LEDGER_ORDER_KEPT);
	assert_int_equal(stats(&s).kept_records, 2);
	assert_int_equal(stats(&s).kept_bytes, length(3) + length(5));
	assert_int_equal(push(&s, 2), LEDGER_ORDER_APPLIED);
	assert_int_equal(s.applied[1], 3);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_DROPPED);
	assert_int_equal(stats(&s).kept_records, 1);
	assert_int_equal(stats(&s).kept_bytes, length(5));
	assert_int_equal(stats(&s).dropped, 3);
	ledger_order_free(s.o);
}

static void too_many_are_missing(void **state)
{
	struct ledger_order_config c = roomy;
	struct seen s;

	(void)state;
	c.max_records = 3;
	begin(&s, c);
	assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);
	for (uint64_t seq = 3; seq <= 5; seq++)
		assert_int_equal(push(&s, seq), LEDGER_ORDER_KEPT);
	/* of another container there may be as many */
	for (uint64_t seq = 3; seq <= 5; seq++)
		assert_int_equal(push_at(&s, 2, 1, seq, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 6), LEDGER_ORDER_LOST);
	assert_int_equal(s.lost[1], 1);
	assert_int_equal(s.lost[2], 0);
	assert_true(ledger_order_out_of_order(s.o, 1));
	assert_false(ledger_order_out_of_order(s.o, 2));
	assert_false(ledger_order_out_of_order(s.o, 3));
	assert_int_equal(stats(&s).out_of_order, 1);
	assert_int_equal(stats(&s).losses, 1);
	assert_int_equal(stats(&s).dropped, 4);
	assert_int_equal(stats(&s).kept_records, 3);
	/* what was missing comes now: too late */
	assert_int_equal(push(&s, 2), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 7), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 8), LEDGER_ORDER_KEPT);
	/* the newest are kept */
	assert_int_equal(push(&s, 9), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_DROPPED);
	assert_int_equal(stats(&s).kept_records, 3 + 3);
	assert_int_equal(s.applied[1], 1);
	assert_int_equal(s.lost[1], 1);
	/* 6 was dropped: a state before it is of no use */
	assert_int_equal(ledger_order_resync(s.o, 1, 1, 5), -ESTALE);
	assert_true(ledger_order_out_of_order(s.o, 1));
	s.applied[1] = 7;
	assert_int_equal(ledger_order_resync(s.o, 1, 1, 7), 0);
	assert_int_equal(s.applied[1], 9);
	assert_false(ledger_order_out_of_order(s.o, 1));
	assert_int_equal(push(&s, 7), LEDGER_ORDER_DROPPED);
	assert_int_equal(push(&s, 10), LEDGER_ORDER_APPLIED);
	/* and again */
	for (uint64_t seq = 12; seq <= 15; seq++)
		push(&s, seq);
	assert_int_equal(s.lost[1], 2);
	/* more come than there is room for: the state must be newer than what was dropped */
	for (uint64_t seq = 16; seq <= 20; seq++)
		assert_int_equal(push(&s, seq), LEDGER_ORDER_KEPT);
	assert_int_equal(ledger_order_resync(s.o, 1, 1, 16), -ESTALE);
	s.applied[1] = 17;
	assert_int_equal(ledger_order_resync(s.o, 1, 1, 17), 0);
	assert_int_equal(s.applied[1], 20);
	ledger_order_free(s.o);
}

static void too_many_bytes(void **state)
{
	struct ledger_order_config c = roomy;
	struct seen s;

	(void)state;
	c.max_bytes = length(3) + length(4);
	begin(&s, c);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_KEPT);
	assert_int_equal(push(&s, 4), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 2, 1, 3, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 2, 1, 5, 0), LEDGER_ORDER_LOST);
	assert_int_equal(push_at(&s, 2, 1, 3, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 2, 1, 5, 0), LEDGER_ORDER_KEPT); /* instead of 3 */
	assert_int_equal(push_at(&s, 2, 1, 63, 0), LEDGER_ORDER_DROPPED); /* alone too big */
	assert_int_equal(stats(&s).kept_records, 2);
	s.applied[2] = 63;
	assert_int_equal(ledger_order_resync(s.o, 2, 1, 62), -ESTALE);
	assert_int_equal(ledger_order_resync(s.o, 2, 1, 63), 0);
	ledger_order_free(s.o);

	c.max_bytes = 100000;
	c.max_records = 0;
	begin(&s, c);
	assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);
	assert_int_equal(push(&s, 3), LEDGER_ORDER_LOST);
	assert_int_equal(push(&s, 4), LEDGER_ORDER_DROPPED);
	ledger_order_free(s.o);
}

static void missing_for_too_long(void **state)
{
	struct seen s;

	(void)state;
	begin(&s, roomy);
	assert_int_equal(push_at(&s, 1, 1, 2, 500), LEDGER_ORDER_KEPT);
	ledger_order_tick(s.o, 100); /* a clock that goes back proves nothing */
	ledger_order_tick(s.o, 500 + AGE);
	assert_int_equal(s.lost[1], 0);
	assert_int_equal(push_at(&s, 1, 1, 1, 500 + AGE), LEDGER_ORDER_APPLIED);
	assert_int_equal(s.applied[1], 2);
	ledger_order_tick(s.o, 5000);
	assert_int_equal(s.lost[1], 0);

	/* two holes: each is as old as the oldest record behind it */
	assert_int_equal(push_at(&s, 1, 1, 7, 5000), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 1, 1, 4, 5500), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 1, 1, 3, 5600), LEDGER_ORDER_APPLIED);
	ledger_order_tick(s.o, 5000 + AGE);
	assert_int_equal(s.lost[1], 0);
	ledger_order_tick(s.o, 5001 + AGE);
	assert_int_equal(s.lost[1], 1);
	assert_int_equal(stats(&s).kept_records, 0);
	ledger_order_tick(s.o, UINT64_MAX - 1);
	assert_int_equal(s.lost[1], 1);

	/* a push finds it too, whether it is kept or applied */
	assert_int_equal(push_at(&s, 2, 1, 2, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 2, 1, 4, 1 + AGE), LEDGER_ORDER_LOST);
	assert_int_equal(push_at(&s, 3, 1, 3, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 3, 1, 1, 1 + AGE), LEDGER_ORDER_LOST);
	assert_int_equal(s.applied[3], 1);
	assert_int_equal(s.lost[2] + s.lost[3], 2);

	/* the end: what is missing now will never come */
	assert_int_equal(push_at(&s, 0, 1, 2, UINT64_MAX - 1), LEDGER_ORDER_KEPT);
	ledger_order_tick(s.o, UINT64_MAX);
	assert_int_equal(s.lost[0], 1);
	ledger_order_free(s.o);
}

static void a_state_to_begin_with(void **state)
{
	struct seen s;

	(void)state;
	begin(&s, roomy);
	s.applied[1] = 10;
	assert_int_equal(ledger_order_resync(s.o, 1, 3, 10), 0);
	assert_int_equal(push_at(&s, 1, 3, 10, 0), LEDGER_ORDER_DROPPED);
	assert_int_equal(push_at(&s, 1, 3, 11, 0), LEDGER_ORDER_APPLIED);
	assert_int_equal(ledger_order_resync(s.o, 1, 3, 11), 0);
	assert_int_equal(ledger_order_resync(s.o, 1, 3, 10), -ESTALE);
	assert_int_equal(ledger_order_resync(s.o, 1, 2, 11), -ESTALE);
	assert_int_equal(push_at(&s, 1, 3, 14, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 1, 3, 15, 0), LEDGER_ORDER_KEPT);
	s.applied[1] = 13;
	assert_int_equal(ledger_order_resync(s.o, 1, 3, 13), 0);
	assert_int_equal(s.applied[1], 15);
	assert_int_equal(push_at(&s, 1, 3, 18, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(ledger_order_resync(s.o, 1, 3, 18), 0);
	assert_int_equal(stats(&s).kept_records, 0);
	/* another generation: as if nothing had been */
	assert_int_equal(push_at(&s, 1, 3, 20, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(ledger_order_resync(s.o, 1, 4, 0), 0);
	assert_int_equal(stats(&s).kept_records, 0);
	s.applied[1] = 0;
	assert_int_equal(push_at(&s, 1, 3, 19, 0), LEDGER_ORDER_DROPPED);
	assert_int_equal(push_at(&s, 1, 4, 1, 0), LEDGER_ORDER_APPLIED);
	assert_int_equal(s.renewed, 0);
	assert_int_equal(stats(&s).losses, 0);
	ledger_order_free(s.o);
}

static void a_newer_generation(void **state)
{
	struct ledger_order_config c = roomy;
	struct seen s;

	(void)state;
	c.max_records = 2;
	begin(&s, c);
	assert_int_equal(push_at(&s, 1, 5, 1, 0), LEDGER_ORDER_APPLIED);
	assert_int_equal(push_at(&s, 1, 5, 3, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(push_at(&s, 1, 6, 2, 0), LEDGER_ORDER_KEPT);
	assert_int_equal(s.renewed, 1);
	assert_int_equal(stats(&s).kept_records, 1);
	assert_int_equal(push_at(&s, 1, 5, 2, 0), LEDGER_ORDER_DROPPED);
	assert_int_equal(push_at(&s, 1, 6, 1, 0), LEDGER_ORDER_APPLIED);
	assert_int_equal(s.applied[1], 2);
	assert_int_equal(s.generation[1], 6);
	/* one that was out of order is not any more, and its losses are forgotten */
	for (uint64_t seq = 4; seq <= 6; seq++)
		push_at(&s, 1, 6, seq, 0);
	assert_int_equal(s.lost[1], 1);
	assert_int_equal(push_at(&s, 1, 9, 1, 0), LEDGER_ORDER_APPLIED);
	assert_int_equal(s.renewed, 2);
	assert_false(ledger_order_out_of_order(s.o, 1));
	s.applied[1] = 2;
	assert_int_equal(ledger_order_resync(s.o, 1, 9, 2), 0);
	assert_int_equal(push_at(&s, 1, 9, 3, 0), LEDGER_ORDER_APPLIED);
	ledger_order_free(s.o);

	c.renewed = NULL;
	begin(&s, c);
	assert_int_equal(push_at(&s, 1, 5, 1, 0), LEDGER_ORDER_APPLIED);
	s.applied[1] = 0;
	assert_int_equal(push_at(&s, 1, 6, 1, 0), LEDGER_ORDER_APPLIED);
	ledger_order_free(s.o);
}

static void forgotten(void **state)
{
	struct seen s;

	(void)state;
	begin(&s, roomy);
	ledger_order_forget(s.o, 1);
	push(&s, 1);
	push(&s, 3);
	push_at(&s, 2, 1, 2, 0);
	ledger_order_forget(s.o, 1);
	assert_int_equal(stats(&s).containers, 1);
	assert_int_equal(stats(&s).kept_records, 1);
	s.applied[1] = 0;
	assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);

	/* by the callback, while records wait */
	push(&s, 3);
	push(&s, 4);
	push(&s, 5);
	s.forget_at = 4;
	assert_int_equal(push(&s, 2), LEDGER_ORDER_APPLIED);
	assert_int_equal(stats(&s).containers, 1);
	assert_int_equal(stats(&s).kept_records, 1);
	s.forget_at = 1;
	assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);
	assert_int_equal(stats(&s).containers, 1);
	ledger_order_free(s.o);
}

/* Containers that come and go take no memory. */
static void a_day(void **state)
{
	uint64_t memory = 0;
	struct seen s;

	(void)state;
	begin(&s, roomy);
	for (int i = 0; i < 20000; i++) {
		uint64_t c = i % CONTAINERS;

		s.applied[c] = 0;
		assert_int_equal(push_at(&s, c, 1, 2, 0), LEDGER_ORDER_KEPT);
		assert_int_equal(push_at(&s, c, 1, 1, 0), LEDGER_ORDER_APPLIED);
		assert_int_equal(push_at(&s, c, 1, 4, 0), LEDGER_ORDER_KEPT);
		ledger_order_forget(s.o, (c + 1) % CONTAINERS);
		if (i == 100)
			memory = stats(&s).memory;
	}
	assert_int_equal(stats(&s).memory, memory);
	ledger_order_free(s.o);
}

static void a_loss_is_mended_at_once(void **state)
{
	struct ledger_order_config c = roomy;
	struct seen s;

	(void)state;
	c.max_records = 1;
	begin(&s, c);
	push(&s, 1);
	push(&s, 3);
	s.resync_to = 4;
	assert_int_equal(push(&s, 4), LEDGER_ORDER_LOST);
	assert_false(ledger_order_out_of_order(s.o, 1));
	assert_int_equal(push(&s, 5), LEDGER_ORDER_APPLIED);
	assert_int_equal(push_at(&s, 1, 1, 7, 0), LEDGER_ORDER_KEPT);
	s.resync_to = 7;
	ledger_order_tick(s.o, AGE + 1);
	assert_int_equal(s.lost[1], 2);
	assert_int_equal(push(&s, 8), LEDGER_ORDER_APPLIED);
	ledger_order_free(s.o);
}

static void memory_runs_out(void **state)
{
	struct ledger_order_config c = roomy;
	struct ledger_order_stats st;
	uint64_t seq, first = 0;
	struct seen s;

	(void)state;
	c.max_memory = 50;
	assert_null(ledger_order_new(&c));

	/* no room for a container */
	c.max_memory = 1000;
	begin(&s, c);
	assert_int_equal(ledger_order_resync(s.o, 1, 1, 0), -ENOMEM);
	st = stats(&s);
	assert_in_range(st.memory, 100, 1000);
	assert_int_equal(st.containers, 0);
	ledger_order_free(s.o);

	/* none for records; some for few, each time a little more */
	c.max_records = c.max_bytes = 100000;
	for (c.max_memory = 8000; c.max_memory < 60000; c.max_memory += 1000) {
		begin(&s, c);
		assert_int_equal(push(&s, 1), LEDGER_ORDER_APPLIED);
		for (seq = 3; push(&s, seq) == LEDGER_ORDER_KEPT; seq++)
			;
		assert_true(ledger_order_out_of_order(s.o, 1));
		assert_true(seq >= first);
		assert_true(stats(&s).memory <= c.max_memory);
		first = first ? first : seq;
		s.applied[1] = seq;
		assert_int_equal(ledger_order_resync(s.o, 1, 1, seq), 0);
		assert_int_equal(push(&s, seq + 1), LEDGER_ORDER_APPLIED);
		ledger_order_free(s.o);
	}
	assert_true(seq > first + 200);
}

struct counts {
	uint64_t applied, losses, renewed;
};

static void count_applied(void *ctx, uint64_t container, uint64_t generation, uint64_t seq,
			  const void *rec, size_t bytes)
{
	struct record want = record(container, seq);

	(void)generation;
	assert_int_equal(bytes, length(seq));
	assert_memory_equal(rec, &want, bytes);
	((struct counts *)ctx)->applied++;
}

static void count_lost(void *ctx, uint64_t container, uint64_t generation)
{
	(void)container;
	(void)generation;
	((struct counts *)ctx)->losses++;
}

static void count_renewed(void *ctx, uint64_t container, uint64_t old_generation,
			  uint64_t generation)
{
	(void)container;
	assert_true(generation > old_generation);
	((struct counts *)ctx)->renewed++;
}

/* A container of which nothing can be known is lost, and that is said every time. */
static void no_memory_for_a_container(void **state)
{
	struct ledger_order_config c = roomy;
	struct ledger_order_stats st;
	struct counts is = { 0 };

	(void)state;
	c.max_memory = 1000;
	c.ctx = &is;
	c.apply = count_applied;
	c.lost = count_lost;
	struct ledger_order *o = ledger_order_new(&c);

	assert_int_equal(ledger_order_push(o, "x", 1, 1, 1, 1, 0), LEDGER_ORDER_LOST);
	assert_int_equal(ledger_order_push(o, "x", 1, 1, 1, 2, 0), LEDGER_ORDER_LOST);
	ledger_order_stats(o, &st);
	assert_int_equal(is.losses, 2);
	assert_int_equal(st.losses, 2);
	assert_int_equal(is.applied, 0);
	ledger_order_free(o);
}

#define SEQS 100000
#define MAX_RECORDS 3
#define MAX_BYTES 260

/* ledger_order.c again, with arrays: slow and plain. */
struct model {
	bool known, lost, kept[SEQS];
	uint64_t came[SEQS];
	uint64_t generation, next, highest, dropped, applied, losses, renewed;
};

static void model_clear(struct model *m, uint64_t up_to, bool is_drop)
{
	for (uint64_t i = m->next; i <= m->highest; i++)
		if (m->kept[i] && i <= up_to) {
			m->kept[i] = false;
			if (is_drop && i > m->dropped)
				m->dropped = i;
		}
}

static bool model_has_room(const struct model *m, uint64_t seq)
{
	uint64_t records = 1, bytes = length(seq);

	for (uint64_t i = m->next; i <= m->highest; i++)
		if (m->kept[i]) {
			records++;
			bytes += length(i);
		}
	return records <= MAX_RECORDS && bytes <= MAX_BYTES;
}

static void model_lose(struct model *m)
{
	model_clear(m, UINT64_MAX, true);
	m->lost = true;
	m->losses++;
}

static bool model_is_old(const struct model *m, uint64_t now)
{
	if (m->known && !m->lost)
		for (uint64_t i = m->next; i <= m->highest; i++)
			if (m->kept[i] && now - m->came[i] > AGE)
				return true;
	return false;
}

static void model_go_on(struct model *m)
{
	while (m->kept[m->next]) {
		m->kept[m->next++] = false;
		m->applied++;
	}
}

static void model_renew(struct model *m, uint64_t generation)
{
	model_clear(m, UINT64_MAX, false);
	m->highest = 0;
	m->known = true;
	m->lost = false;
	m->generation = generation;
	m->next = 1;
	m->dropped = 0;
}

static int model_push(struct model *m, uint64_t generation, uint64_t seq, uint64_t now)
{
	int result = LEDGER_ORDER_KEPT;

	if (m->known && generation > m->generation)
		m->renewed++;
	if (!m->known || generation > m->generation)
		model_renew(m, generation);
	if (generation < m->generation || seq < m->next || m->kept[seq])
		return LEDGER_ORDER_DROPPED;
	if (!m->lost && seq == m->next) {
		m->kept[seq] = true;
		model_go_on(m);
		result = LEDGER_ORDER_APPLIED;
	} else if (!m->lost && !model_has_room(m, seq)) {
		m->dropped = seq > m->dropped ? seq : m->dropped;
		model_lose(m);
		return LEDGER_ORDER_LOST;
	} else {
		m->kept[seq] = true;
		m->came[seq] = now;
		m->highest = seq > m->highest ? seq : m->highest;
		/* without this one: there must be room for it */
		for (uint64_t i = m->next; i <= seq && m->lost; i++) {
			m->kept[seq] = false;
			if (model_has_room(m, seq)) {
				m->kept[seq] = true;
				break;
			}
			if (i == seq || m->kept[i])
				m->dropped = i > m->dropped ? i : m->dropped;
			m->kept[i] = false;
			if (i == seq)
				return LEDGER_ORDER_DROPPED;
		}
	}
	if (model_is_old(m, now)) {
		model_lose(m);
		return LEDGER_ORDER_LOST;
	}
	return result;
}

static int model_resync(struct model *m, uint64_t generation, uint64_t seq)
{
	if (m->known && generation < m->generation)
		return -ESTALE;
	if (!m->known || generation > m->generation)
		model_renew(m, generation);
	if (seq + 1 < m->next || seq < m->dropped)
		return -ESTALE;
	model_clear(m, seq, true);
	m->next = seq + 1;
	m->lost = false;
	model_go_on(m);
	return 0;
}

static void same_as_arrays(void **state)
{
	static struct model m[CONTAINERS];
	struct counts is = { 0 };
	struct ledger_order_config c = {
		.max_records = MAX_RECORDS,
		.max_bytes = MAX_BYTES,
		.max_age_ns = AGE,
		.ctx = &is,
		.apply = count_applied,
		.lost = count_lost,
		.renewed = count_renewed,
	};
	struct ledger_order *o = ledger_order_new(&c);
	uint64_t s = 1234, now = 0, results[4] = { 0 }, stale = 0;

	(void)state;
	for (int op = 0; op < 100000; op++) {
		uint64_t container = rnd(&s) % CONTAINERS, r = rnd(&s) % 256;
		struct model *at = &m[container];
		uint64_t generation = at->known ? at->generation : 1;
		uint64_t next = at->known ? at->next : 1, seq = next + rnd(&s) % 9;
		struct counts want = { 0 };

		now += rnd(&s) % 40;
		seq = seq > 2 ? seq - 2 : 1;
		if (rnd(&s) % 4 == 0)
			seq = next;
		if (r == 0) {
			ledger_order_forget(o, container);
			model_clear(at, UINT64_MAX, false);
			at->known = at->lost = false;
		} else if (r < 4) {
			ledger_order_tick(o, now);
			for (int i = 0; i < CONTAINERS; i++)
				if (model_is_old(&m[i], now))
					model_lose(&m[i]);
		} else if (r < 40) {
			int want_ret;

			generation = generation + (r == 4) - (r == 5);
			want_ret = model_resync(at, generation, seq);
			stale += want_ret == -ESTALE;
			assert_int_equal(ledger_order_resync(o, container, generation, seq),
					 want_ret);
		} else {
			struct record rec = record(container, seq);
			int want_ret;

			generation = generation + (r == 40) - (r == 41);
			want_ret = model_push(at, generation, seq, now);
			results[want_ret]++;
			assert_int_equal(ledger_order_push(o, &rec, length(seq), container,
							   generation, seq, now),
					 want_ret);
		}
		for (int i = 0; i < CONTAINERS; i++) {
			want.applied += m[i].applied;
			want.losses += m[i].losses;
			want.renewed += m[i].renewed;
			assert_int_equal(ledger_order_out_of_order(o, i), m[i].lost);
		}
		assert_memory_equal(&is, &want, sizeof(is));
	}
	for (int i = 0; i < 4; i++)
		assert_true(results[i] > 500);
	assert_true(stale > 500);
	ledger_order_free(o);
}

int test_ledger_order(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_order),
		cmocka_unit_test(any_order),
		cmocka_unit_test(seen_before),
		cmocka_unit_test(too_many_are_missing),
		cmocka_unit_test(too_many_bytes),
		cmocka_unit_test(missing_for_too_long),
		cmocka_unit_test(a_state_to_begin_with),
		cmocka_unit_test(a_newer_generation),
		cmocka_unit_test(forgotten),
		cmocka_unit_test(a_day),
		cmocka_unit_test(a_loss_is_mended_at_once),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(no_memory_for_a_container),
		cmocka_unit_test(same_as_arrays),
	};

	return cmocka_run_group_tests_name("ledger, order of records", tests, NULL, NULL);
}
