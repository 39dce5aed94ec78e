// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/collect.c: the account of a run. What is lost anywhere must show at the end. */
#include "unit.h"

#include "collect.h"
#include "fakes.h"

#include <string.h>

#define VA 0x7f1234567000ULL
#define IOVA 0x10000000ULL
#define X 0x12345ULL
#define Y 0x54321ULL

static struct session session;
static struct collector collector;

static int setup(void **state)
{
	struct collect_options o = { 0 };

	(void)state;
	memset(&fakes, 0, sizeof(fakes));
	memset(&session, 0, sizeof(session));
	session.fmt = four_levels;
	collector_init(&collector, &session, &o, NULL, 0);
	return 0;
}

/* A page at a mapping: the kernel mapped X, the tables say @entry. */
static struct pfnw_ev_diff diff_of(uint64_t entry)
{
	struct pfnw_ev_diff d = { .h = { .type = PFNW_EV_DIFF, .abi = PFNW_ABI, .tgid = 1 },
				  .iova = IOVA,
				  .va = VA,
				  .pfn = X,
				  .prot = 3,
				  .dma_prot = 3,
				  .at = PFNW_AT_MAP };

	d.walk = walk_to(VA, entry);
	fakes.again_entry = entry;
	return d;
}

static void arrive(struct pfnw_ev_diff *d)
{
	collector_record(&collector, d, sizeof(*d));
}

static struct summary sum_up(void)
{
	struct summary s = { 0 };
	const struct pages *p = &s.pages;

	collector_summary(&collector, &s);
	/* the promise of every output: seen is the sum of the rest */
	assert_int_equal(p->seen,
			 p->match + p->mismatch + p->stale + p->raced + p->unverified + p->lost);
	return s;
}

static const uint64_t there = L_PRESENT | L_RW | L_USER | L_ACCESSED | L_NX;

static void all_match(void **state)
{
	struct summary s;

	(void)state;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 1009;
	s = sum_up();
	assert_int_equal(s.conclusion, C_PROVEN);
	assert_int_equal(s.pages.match, 1009);
	assert_false(s.empty);
}

static void nothing_at_all(void **state)
{
	struct summary s = sum_up();

	(void)state;
	assert_int_equal(s.conclusion, C_PROVEN);
	assert_true(s.empty);
}

static void a_page_that_differs(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));
	struct summary s;

	(void)state;
	fakes.counter[PFNW_S_SEEN] = 10;
	fakes.counter[PFNW_S_MATCH] = 9;
	fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.conclusion, C_BROKEN);
	assert_int_equal(s.pages.mismatch, 1);
	assert_int_equal(s.rule[0], 1);
}

static void the_judge_finds_it_right(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, X, there, PHYS_52));
	struct summary s;

	(void)state;
	fakes.counter[PFNW_S_SEEN] = 10;
	fakes.counter[PFNW_S_MATCH] = 9;
	fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.conclusion, C_PROVEN);
	assert_int_equal(s.pages.match, 10);
}

static void a_raced_page(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));
	struct summary s;

	(void)state;
	d.moved = PFNW_MOVED;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.conclusion, C_INCOMPLETE);
	assert_int_equal(s.pages.raced, 1);
	assert_int_equal(s.raced_by[CAUSE_CHANGED], 1);
}

/* A history with a hole in it accuses nobody. */
static void a_hole_in_the_history(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));
	struct summary s;

	(void)state;
	fakes.missed_changes = true;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.pages.mismatch, 0);
	assert_int_equal(s.pages.raced, 1);
}

static void the_mm_is_gone(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));

	(void)state;
	d.moved = PFNW_MOVED;
	fakes.mm_gone = true;
	fakes.again_entry = linux_leaf(1, X, there, PHYS_52); /* of somebody else by now */
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	assert_int_equal(sum_up().pages.raced, 1);
}

static void pagemap_doubts_us(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));
	struct summary s;

	(void)state;
	fakes.pagemap = PAGEMAP_PFN;
	fakes.pagemap_pfn = X;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.pages.unverified, 1);
	assert_int_equal(s.unverified_by[CAUSE_WITNESSES], 1);
	assert_int_equal(s.conclusion, C_INCOMPLETE);
}

/* Whatever the programs could not tell us is lost or unverified, never forgotten. */
static void what_is_lost_shows(void **state)
{
	static const struct {
		enum pfnw_stat counter;
		uint64_t seen, lost, unverified;
	} row[] = {
		{ PFNW_S_LOST_DIFF, 10, 3, 0 },
		{ PFNW_S_SENT_DIFF, 10, 3, 0 }, /* sent, and never came */
		{ PFNW_S_UNV_CONTEXT, 10, 0, 3 },
		{ PFNW_S_UNV_DMA, 10, 0, 3 },
		{ PFNW_S_UNV_FAULT, 10, 0, 3 },
		{ PFNW_S_LOST_COUNT, 7, 3, 0 }, /* only the second count knows of these */
		{ PFNW_S_MAX, 10, 3, 0 }, /* nobody knows where they are */
	};

	for (size_t i = 0; i < N_OF(row); i++) {
		struct summary s;

		setup(state);
		fakes.counter[PFNW_S_SEEN] = row[i].seen;
		fakes.counter[PFNW_S_MATCH] = 7;
		if (row[i].counter < PFNW_S_MAX)
			fakes.counter[row[i].counter] = 3;
		s = sum_up();
		assert_int_equal(s.pages.seen, 10);
		assert_int_equal(s.pages.match, 7);
		assert_int_equal(s.pages.lost, row[i].lost);
		assert_int_equal(s.pages.unverified, row[i].unverified);
		assert_int_equal(s.conclusion, C_INCOMPLETE);
	}
	/* matched, but the record that was asked for is lost */
	setup(state);
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 10;
	fakes.counter[PFNW_S_LOST_MATCH] = 3;
	assert_int_equal(sum_up().pages.match, 7);
	assert_int_equal(sum_up().pages.lost, 3);
	assert_int_equal(sum_up().conclusion, C_INCOMPLETE);
}

/* Every page matched, and still not everything was seen. */
static void doubts(void **state)
{
	static const enum pfnw_stat counter[] = {
		PFNW_S_LOST_RECORDS, PFNW_S_CLAIM_LOST_DIFF, PFNW_S_CLAIM_SENT_DIFF,
		PFNW_S_SPILL_FULL,   PFNW_S_PIN_UNV,	     PFNW_S_SCOPE_FULL,
	};
	struct pfnw_hdr junk = { .type = 99, .abi = PFNW_ABI };
	struct pfnw_ev_unmap old = { .h = { .type = PFNW_EV_UNMAP, .abi = PFNW_ABI + 1 } };
	struct pfnw_hdr used = { .type = PFNW_EV_USED, .abi = PFNW_ABI };
	struct summary s;

	for (size_t i = 0; i < N_OF(counter); i++) {
		setup(state);
		fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 9;
		fakes.counter[counter[i]] = 2;
		s = sum_up();
		assert_int_equal(s.conclusion, C_INCOMPLETE);
		assert_int_equal(s.doubts, 2);
		assert_int_equal(strncmp(s.doubt, "2 ", 2), 0);
	}
	setup(state);
	fakes.missed = 5;
	assert_int_equal(sum_up().conclusion, C_INCOMPLETE);

	/* records that are none */
	setup(state);
	collector_record(&collector, &junk, sizeof(junk));
	junk.type = PFNW_EV_DIFF; /* and too short */
	collector_record(&collector, &junk, sizeof(junk));
	collector_record(&collector, &junk, 3);
	collector_record(&collector, &old, sizeof(old));
	collector_record(&collector, &used, sizeof(used) - 1);
	s = sum_up();
	assert_int_equal(s.conclusion, C_INCOMPLETE);
	assert_int_equal(s.doubts, 5);

	/* one that only wakes */
	setup(state);
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 4;
	collector_record(&collector, &used, sizeof(used));
	s = sum_up();
	assert_int_equal(s.conclusion, C_PROVEN);
	assert_int_equal(s.doubts, 0);
}

/* A claim that differs is a violation, though it is no page of the account. */
static void a_wrong_claim(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));
	struct summary s;

	(void)state;
	d.at = PFNW_AT_CLAIM;
	d.iova = 0;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 4;
	fakes.counter[PFNW_S_CLAIM_SENT_DIFF] = 1;
	arrive(&d);
	s = sum_up();
	assert_int_equal(s.claim_mismatch, 1);
	assert_int_equal(s.pages.mismatch, 0);
	assert_int_equal(s.conclusion, C_BROKEN);
}

/* A raced claim is settled by its mapping; an mdev's has none. */
static void raced_claims(void **state)
{
	struct pfnw_ev_diff d = diff_of(linux_leaf(1, Y, there, PHYS_52));

	d.at = PFNW_AT_CLAIM;
	d.moved = PFNW_MOVED;
	fakes.counter[PFNW_S_SEEN] = fakes.counter[PFNW_S_MATCH] = 4;
	fakes.counter[PFNW_S_CLAIM_SENT_DIFF] = 1;
	arrive(&d);
	assert_int_equal(sum_up().conclusion, C_PROVEN);
	setup(state);
	fakes.counter[PFNW_S_CLAIM_SENT_DIFF] = 1;
	fakes.again_entry = linux_leaf(1, Y, there, PHYS_52);
	d.at = PFNW_AT_PIN;
	arrive(&d);
	assert_int_equal(sum_up().conclusion, C_INCOMPLETE);
}

int test_collect(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(all_match, setup),
		cmocka_unit_test_setup(nothing_at_all, setup),
		cmocka_unit_test_setup(a_page_that_differs, setup),
		cmocka_unit_test_setup(the_judge_finds_it_right, setup),
		cmocka_unit_test_setup(a_raced_page, setup),
		cmocka_unit_test_setup(a_hole_in_the_history, setup),
		cmocka_unit_test_setup(the_mm_is_gone, setup),
		cmocka_unit_test_setup(pagemap_doubts_us, setup),
		cmocka_unit_test_setup(what_is_lost_shows, setup),
		cmocka_unit_test_setup(doubts, setup),
		cmocka_unit_test_setup(a_wrong_claim, setup),
		cmocka_unit_test_setup(raced_claims, setup),
	};

	return cmocka_run_group_tests_name("collect.c", tests, NULL, NULL);
}
