// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * What the ledger costs: bytes, and visits of nodes. Counted, not timed.
 */
#include "unit.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "ledger.h"
#include "ledger_priv.h"

#define PAGE 4096ULL
#if defined(__has_feature)
#define SANITIZED __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

/* The real thing: a million runs, as many dmas as VFIO allows in one container, 24 hours. */
#if SANITIZED
#define LOG2_RUNS 16
#define CYCLES 100000
#else
#define LOG2_RUNS 20
#define CYCLES 1000000
#endif
#define RUNS (1U << LOG2_RUNS)
#define DMAS (RUNS / 16 - 1)

/* What malloc says that is in use; that of the sanitizers does not say. */
static uint64_t malloc_bytes(void)
{
#if SANITIZED
	return 0;
#else
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
#endif
}

static struct ledger_dma dma_nr(uint64_t i)
{
	struct ledger_dma d = {
		.domain = 1,
		.container = 1,
		.va = 0x7f0000000000 + i * 0x100000,
		.bytes = 0x100000,
		.mm = 1,
		.prot = 3,
	};

	return d;
}

/* The most, and the sum, of what single operations visit. */
struct cost {
	uint64_t max, sum, n;
};

static void add(struct cost *c, const struct ledger *l, uint64_t *visits)
{
	uint64_t n = ledger_visits(l) - *visits;

	*visits += n;
	c->sum += n;
	c->n++;
	if (n > c->max)
		c->max = n;
}

static double mean(const struct cost *c)
{
	return (double)c->sum / c->n;
}

/*
 * A treap's nodes lie 1.39 log2(n) deep on average, and none more than twice as
 * deep as that. @walks: how many ways down the operation takes.
 */
static void check_cost(const char *what, const struct cost *c, int log2n, int walks)
{
	double log2_bound = 1.39 * log2n + 2;

	if (mean(c) > walks * log2_bound || c->max > walks * 2 * log2_bound)
		fail_test("%s of 2^%d: %.1f visits, at most %llu; %d walks", what, log2n, mean(c),
			  (unsigned long long)c->max, walks);
}

/* All kinds of look-ups in a ledger of 2^@log2n single pages, every other one mapped. */
static void look_up(const struct ledger *l, int log2n, uint64_t *s)
{
	struct cost find = { 0 }, next = { 0 }, next_va = { 0 };
	uint64_t n = 1ULL << log2n, visits = ledger_visits(l);

	for (int i = 0; i < 1000; i++) {
		uint64_t page = rnd(s) % (2 * n), pages = rnd(s) % 16;
		const struct ledger_dma *at = NULL;
		struct ledger_cursor c;
		struct ledger_run r;

		assert_int_equal(ledger_find(l, 1, page * PAGE, &r), !(page & 1));
		add(&find, l, &visits);
		ledger_seek(&c, 1, page * PAGE, 64);
		for (int k = 0; k < 32; k++) {
			assert_true(page + 64 > 2 * n || ledger_next(l, &c, &r));
			add(&next, l, &visits);
		}
		/* some of these VAs are mapped, some are not */
		page = rnd(s) % (2 * DMAS);
		do {
			at = ledger_next_va(l, 1, dma_nr(page).va, 1 + pages * 0x100000, at);
			add(&next_va, l, &visits);
		} while (at);
	}
	check_cost("find", &find, log2n, 1);
	check_cost("next", &next, log2n, 1);
	check_cost("next_va", &next_va, LOG2_RUNS - 4, 2);
}

/* Each run alone, in an order that jumps; the frames do not go on. */
static void map_one(struct ledger *l, uint64_t i, bool jump)
{
	uint64_t nr = jump ? i * 0x9e3779b1 % RUNS : i;
	struct ledger_dma d = dma_nr(i % DMAS);

	assert_int_equal(ledger_map(l, &d, 2 * nr * PAGE, i, 1), 0);
}

static void a_million_runs(void **state)
{
	uint64_t in_use = malloc_bytes(), s = 64, visits, there;
	struct ledger *l = ledger_new(11, 0);
	struct cost unmap = { 0 };
	struct ledger_totals t;

	(void)state;
	visits = ledger_visits(l);
	for (int log2n = 10; log2n <= LOG2_RUNS; log2n++) {
		struct cost map = { 0 };
		uint64_t from = log2n == 10 ? 0 : 1 << (log2n - 1);

		for (uint64_t i = from; i < 1U << log2n; i++) {
			map_one(l, i, true);
			add(&map, l, &visits);
		}
		check_cost("map", &map, log2n, 6);
	}
	look_up(l, LOG2_RUNS, &s);
	ledger_totals(l, &t);
	assert_int_equal(t.runs, RUNS);
	assert_int_equal(t.dmas, DMAS);
	assert_int_equal(t.lengths[0], RUNS);
	if (malloc_bytes())
		assert_in_range(malloc_bytes() - in_use, ledger_bytes(l),
				ledger_bytes(l) + ledger_bytes(l) / 50);
	/* 64 MiB for 1,000,000, and here are 48,576 more */
	assert_true(ledger_bytes(l) <= 64 << 20);
	assert_in_range(ledger_bytes(l) / RUNS, 32, 44);

	visits = ledger_visits(l);
	for (uint64_t i = 0; i < RUNS / 128; i++) {
		assert_int_equal(ledger_unmap(l, 1, 2 * (rnd(&s) % RUNS) * PAGE, 1) & ~1, 0);
		add(&unmap, l, &visits);
	}
	check_cost("unmap", &unmap, LOG2_RUNS, 4);
	/* of a range: one visit for each run that goes, besides */
	ledger_totals(l, &t);
	assert_int_equal(t.dmas, DMAS);
	visits = ledger_visits(l);
	there = ledger_unmap(l, 1, RUNS / 4 * PAGE, 1000);
	visits = ledger_visits(l) - visits;
	assert_in_range(there, 450, 500);
	assert_in_range(visits, there, there + 4 * 2 * 1.39 * LOG2_RUNS);
	assert_int_equal(ledger_unmap(l, 1, 0, LEDGER_ALL), t.pages - there);
	ledger_free(l);
	if (in_use)
		assert_in_range(malloc_bytes(), 0, in_use + 100000);
}

/* Ascending, as a guest's memory is mapped: the trees must not degenerate. */
static void in_order(void **state)
{
	struct ledger *l = ledger_new(12, 0);
	uint64_t s = 65, visits = 0;
	struct cost map = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 1 << 14; i++) {
		map_one(l, i, false);
		add(&map, l, &visits);
	}
	check_cost("map in order", &map, 14, 6);
	look_up(l, 14, &s);
	ledger_free(l);
}

/* As records bring them: many pieces at once, here of two places in turns. */
static void in_pieces(void **state)
{
	struct ledger *l = ledger_new(14, 0);
	struct ledger_piece piece[LEDGER_PIECES];
	uint64_t s = 66, visits, n = 1 << 14;
	struct cost find = { 0 };

	(void)state;
	for (uint64_t i = 0; i < n / LEDGER_PIECES; i++) {
		uint64_t first = (i & 1 ? n / 2 : 0) + i / 2 * LEDGER_PIECES;
		struct ledger_dma d = dma_nr(i & 1);

		for (uint64_t k = 0; k < LEDGER_PIECES; k++)
			piece[k] = (struct ledger_piece){ .pfn = 2 * (first + k), .pages = 1 };
		assert_int_equal(ledger_map_pieces(l, &d, first * PAGE, piece, LEDGER_PIECES), 0);
	}
	visits = ledger_visits(l);
	for (int i = 0; i < 20000; i++) {
		uint64_t page = rnd(&s) % n;
		struct ledger_run r;

		assert_true(ledger_find(l, 1, page * PAGE, &r));
		assert_int_equal(r.pfn, 2 * page);
		add(&find, l, &visits);
	}
	check_cost("find of what came in pieces", &find, 14, 1);
	ledger_free(l);
}

/* Who knows the seed can make a tree degenerate; so another seed makes another tree. */
static void the_seed_matters(void **state)
{
	uint64_t visits[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct ledger *l = ledger_new(i, 0);

		struct ledger_dma d = dma_nr(0);

		for (int k = 0; k < 1000; k++)
			assert_int_equal(ledger_map(l, &d, 2 * k * PAGE, k, 1), 0);
		visits[i] = ledger_visits(l);
		ledger_free(l);
	}
	assert_int_not_equal(visits[0], visits[1]);
}

/* 24 hours in small: maps and unmaps, and the memory stays what it was. */
static void a_day(void **state)
{
	struct ledger *l = ledger_new(13, 0);
	uint64_t s = 24, bytes = 0, in_use = 0;
	struct ledger_totals t;

	(void)state;
	for (int i = 0; i < CYCLES; i++) {
		uint64_t page = rnd(&s) % 4096, pages = 1 + rnd(&s) % 4;
		struct ledger_dma d = dma_nr(rnd(&s) % 512);

		d.domain = i & 15;
		assert_true(ledger_map(l, &d, page * PAGE, rnd(&s) >> 13, pages) >= 0);
		page = rnd(&s) % 4096;
		pages = 1 + rnd(&s) % 8;
		assert_true(ledger_unmap(l, d.domain, page * PAGE, pages) >= 0);
		if (i % 65536 == 65535)
			ledger_drop_domain(l, d.domain);
		if (i == CYCLES / 2) {
			bytes = ledger_bytes(l);
			in_use = malloc_bytes();
		}
	}
	ledger_totals(l, &t);
	assert_in_range(t.runs, 8000, 65536);
	assert_int_equal(t.runs, l->runs.live);
	assert_int_equal(t.dmas, l->dmas.live);
	/* there may be a few more now than then: one chunk of each kind */
	assert_in_range(ledger_bytes(l), bytes, bytes + (512 << 10));
	assert_in_range(malloc_bytes(), in_use, in_use + (520 << 10));
	ledger_free(l);
}

int test_ledger_size(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million_runs), cmocka_unit_test(in_order),
		cmocka_unit_test(in_pieces),	  cmocka_unit_test(the_seed_matters),
		cmocka_unit_test(a_day),
	};

	return cmocka_run_group_tests_name("ledger, memory and visits", tests, NULL, NULL);
}
