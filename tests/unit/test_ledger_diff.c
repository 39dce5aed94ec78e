// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/ledger_diff.c: every difference is found, and nothing else. */
#include "unit.h"

#include <string.h>

#include "ledger.h"

#define PAGE 4096ULL
#define TOP (1ULL << 52)
#define ALL (LEDGER_CMP_RW | LEDGER_CMP_PROT | LEDGER_CMP_VA)

/* What the callback heard; it wants no more than @most. */
struct heard {
	int n, most;
	struct ledger_difference d[16];
};

static bool hear(void *ctx, const struct ledger_difference *d)
{
	struct heard *h = ctx;

	assert_in_range(h->n, 0, N_OF(h->d) - 1);
	h->d[h->n++] = *d;
	return h->n != h->most;
}

static struct ledger_dma dma_of(uint64_t domain)
{
	struct ledger_dma d = { .domain = domain, .va = 0x10000000, .mm = 1, .prot = 3 };

	return d;
}

static void map(struct ledger *l, const struct ledger_dma *d, uint64_t page, uint64_t pfn,
		uint64_t pages)
{
	assert_true(ledger_map(l, d, page * PAGE, pfn, pages) >= 0);
}

struct pair {
	struct ledger *a, *b;
};

/* The same pages in both; in b each is a run of its own, for its dma has another owner. */
static int setup(void **state)
{
	static const uint64_t first[] = { 0, 64, TOP - 64 };
	static struct pair p;

	p = (struct pair){ ledger_new(1, 0), ledger_new(2, 0) };
	*state = &p;
	for (int i = 0; i < 3; i++)
		for (uint64_t domain = 1; domain <= 3; domain++) {
			struct ledger_dma d = dma_of(domain);

			map(p.a, &d, first[i], 1000 * (i + 1), 32);
			for (uint64_t page = 0; page < 32; page++) {
				d.tgid = page;
				map(p.b, &d, first[i] + page, 1000 * (i + 1) + page, 1);
			}
		}
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	ledger_free(p->a);
	ledger_free(p->b);
	return 0;
}

static void cuts_do_not_matter(void **state)
{
	struct pair *p = *state;
	struct ledger *empty = ledger_new(1, 0);
	struct heard h = { 0 };
	struct ledger_totals t;

	ledger_totals(p->b, &t);
	assert_int_equal(t.runs, 3 * 3 * 32);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, hear, &h), 0);
	assert_int_equal(h.n, 0);
	assert_true(ledger_equal(p->a, p->b, ALL));
	assert_true(ledger_equal(p->b, p->a, ALL));
	assert_true(ledger_equal(p->a, p->a, ALL));
	assert_true(ledger_equal(empty, empty, ALL));
	assert_false(ledger_equal(p->a, empty, 0));
	assert_false(ledger_equal(empty, p->a, 0));
	assert_int_equal(ledger_diff(p->a, empty, 0, NULL, NULL), 3 * 3 * 32);
	ledger_free(empty);
}

/* One page of b has another frame, wherever it is. */
static void a_planted_page_is_found(void **state)
{
	static const uint64_t planted[] = { 0, 13, 31, 64, 95, TOP - 64, TOP - 33 };
	struct pair *p = *state;

	for (size_t i = 0; i < N_OF(planted); i++)
		for (uint64_t domain = 1; domain <= 3; domain++) {
			struct ledger_dma d = dma_of(domain);
			struct heard h = { 0 };
			struct ledger_run was;

			assert_true(ledger_find(p->b, domain, planted[i] * PAGE, &was));
			map(p->b, &d, planted[i], 0xbad, 1);
			assert_int_equal(ledger_diff(p->a, p->b, 0, hear, &h), 1);
			assert_false(ledger_equal(p->a, p->b, 0));
			assert_int_equal(h.n, 1);
			assert_int_equal(h.d[0].domain, domain);
			assert_int_equal(h.d[0].iova, planted[i] * PAGE);
			assert_int_equal(h.d[0].pages, 1);
			assert_true(h.d[0].in_a && h.d[0].in_b);
			assert_int_equal(h.d[0].a.pfn, was.pfn);
			assert_int_equal(h.d[0].a.iova, planted[i] * PAGE);
			assert_int_equal(h.d[0].a.pages, 1);
			assert_int_equal(h.d[0].a.va, d.va + planted[i] * PAGE);
			assert_int_equal(h.d[0].b.pfn, 0xbad);
			assert_int_equal(h.d[0].b.pages, 1);
			/* only there */
			assert_int_equal(ledger_diff_range(p->a, p->b, domain, planted[i] * PAGE, 1,
							   0, NULL, NULL),
					 1);
			assert_int_equal(ledger_diff_range(p->a, p->b, domain, 0, planted[i], 0,
							   NULL, NULL),
					 0);
			assert_int_equal(ledger_diff_range(p->a, p->b, 4 - domain, 0, LEDGER_ALL, 0,
							   NULL, NULL),
					 domain == 2);
			map(p->b, &d, planted[i], was.pfn, 1);
			assert_true(ledger_equal(p->a, p->b, ALL));
		}
}

static void what_one_does_not_have(void **state)
{
	struct pair *p = *state;
	struct ledger_dma d = dma_of(2);
	struct heard h = { 0 }, back = { 0 };

	assert_int_equal(ledger_unmap(p->b, 2, 70 * PAGE, 20), 20);
	map(p->b, &d, 40, 7, 3);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, hear, &h), 23);
	assert_int_equal(h.n, 2);
	assert_true(h.d[0].in_b && !h.d[0].in_a);
	assert_int_equal(h.d[0].iova, 40 * PAGE);
	assert_int_equal(h.d[0].pages, 3);
	assert_int_equal(h.d[0].b.pfn, 7);
	assert_null(h.d[0].a.dma);
	assert_true(h.d[1].in_a && !h.d[1].in_b);
	assert_int_equal(h.d[1].iova, 70 * PAGE);
	assert_int_equal(h.d[1].pages, 20);
	assert_int_equal(h.d[1].a.pfn, 2006);
	assert_null(h.d[1].b.dma);
	/* and the other way round */
	assert_int_equal(ledger_diff(p->b, p->a, ALL, hear, &back), 23);
	assert_true(back.d[0].in_a && !back.d[0].in_b);
	/* a whole domain, first, between and last */
	ledger_drop_domain(p->a, 1);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, NULL, NULL), 23 + 96);
	ledger_drop_domain(p->b, 3);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, NULL, NULL), 23 + 2 * 96);
	ledger_drop_domain(p->a, 2);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, NULL, NULL), 76 + 3 + 2 * 96);
	assert_int_equal(ledger_diff(p->b, p->a, ALL, NULL, NULL), 76 + 3 + 2 * 96);
}

static void it_ends_when_asked(void **state)
{
	struct pair *p = *state;
	struct heard h = { .most = 3 };

	for (uint64_t domain = 1; domain <= 3; domain++)
		for (uint64_t page = 0; page < 4; page += 2)
			assert_int_equal(ledger_unmap(p->b, domain, page * PAGE, 1), 1);
	assert_int_equal(ledger_diff(p->a, p->b, ALL, hear, &h), 3);
	assert_int_equal(h.n, 3);
	assert_int_equal(h.d[2].domain, 2);
}

static void only_what_is_to_be_compared(void **state)
{
	static const struct {
		uint32_t prot;
		uint64_t va, mm;
		unsigned int differs; /* by which comparisons */
	} cases[] = {
		{ 3, 0, 0, 0 },
		{ 2, 0, 0, LEDGER_CMP_RW | LEDGER_CMP_PROT },
		{ 1, 0, 0, LEDGER_CMP_RW | LEDGER_CMP_PROT },
		{ 7, 0, 0, LEDGER_CMP_PROT },
		{ 3, PAGE, 0, LEDGER_CMP_VA },
		{ 3, 0, 1, LEDGER_CMP_VA },
	};
	struct pair *p = *state;

	for (size_t i = 0; i < N_OF(cases); i++)
		for (unsigned int compare = 0; compare <= ALL; compare++) {
			struct ledger_dma d = dma_of(2);

			d.prot = cases[i].prot;
			d.va += cases[i].va;
			d.mm += cases[i].mm;
			map(p->b, &d, 5, 1005, 10);
			assert_int_equal(ledger_diff(p->a, p->b, compare, NULL, NULL),
					 compare & cases[i].differs ? 10 : 0);
		}
}

/* Two ledgers of 64 pages at random, against two arrays. */
static void same_as_pages(void **state)
{
	struct ledger *l[2] = { ledger_new(1, 0), ledger_new(2, 0) };
	uint64_t pfn[2][64] = { 0 }, s = 2020;

	(void)state;
	for (int op = 0; op < 20000; op++) {
		int i = rnd(&s) & 1, first = rnd(&s) % 64, pages = rnd(&s) % 16, want = 0;
		bool unmap = rnd(&s) & 1;
		struct ledger_dma d = dma_of(9);

		d.tgid = rnd(&s) % 3;
		if (pages > 64 - first)
			pages = 64 - first;
		for (int k = first; k < first + pages; k++)
			pfn[i][k] = unmap ? 0 : k + 1;
		if (unmap)
			assert_true(ledger_unmap(l[i], 9, first * PAGE, pages) >= 0);
		else
			map(l[i], &d, first, first + 1, pages);
		for (int k = 0; k < 64; k++)
			want += pfn[0][k] != pfn[1][k];
		assert_int_equal(ledger_diff(l[0], l[1], 0, NULL, NULL), want);
	}
	ledger_free(l[0]);
	ledger_free(l[1]);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int test_ledger_diff(void)
{
	const struct CMUnitTest tests[] = {
		test(cuts_do_not_matter),	   test(a_planted_page_is_found),
		test(what_one_does_not_have),	   test(it_ends_when_asked),
		test(only_what_is_to_be_compared), cmocka_unit_test(same_as_pages),
	};

	return cmocka_run_group_tests_name("ledger, differences", tests, NULL, NULL);
}
