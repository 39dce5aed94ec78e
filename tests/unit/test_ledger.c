// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/ledger*.c, case by case. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "ledger.h"
#include "ledger_priv.h"

#define PAGE 4096ULL
#define LAST_PAGE 0xfffffffffffff000ULL

static const struct ledger_dma dma_1 = {
	.domain = 0xd1,
	.container = 0xc1,
	.va = 0x7f0000000000,
	.mm = 0x111,
	.since_ns = 1000,
	.prot = 3,
	.tgid = 77,
	.group = 5,
	.comm = "qemu",
};

static int setup(void **state)
{
	*state = ledger_new(1, 0);
	return !*state;
}

static int teardown(void **state)
{
	ledger_free(*state);
	return 0;
}

/* What the runs of a domain are, as "page+pages=pfn ..." in hexadecimal. */
static const char *runs(const struct ledger *l, uint64_t domain, uint64_t iova, uint64_t pages)
{
	static char text[512];
	struct ledger_cursor c;
	struct ledger_run r;
	int n = 0;

	text[0] = 0;
	ledger_seek(&c, domain, iova, pages);
	while (ledger_next(l, &c, &r))
		n += snprintf(text + n, sizeof(text) - n, "%s%llx+%llx=%llx", n ? " " : "",
			      (unsigned long long)r.iova >> 12, (unsigned long long)r.pages,
			      (unsigned long long)r.pfn);
	assert_false(ledger_next(l, &c, &r));
	return text;
}

#define assert_runs(l, domain, want) assert_string_equal(runs(l, domain, 0, LEDGER_ALL), want)

static void map(struct ledger *l, uint64_t page, uint64_t pfn, uint64_t pages, int64_t there)
{
	assert_int_equal(ledger_map(l, &dma_1, page * PAGE, pfn, pages), there);
}

static void unmap(struct ledger *l, uint64_t page, uint64_t pages, int64_t there)
{
	assert_int_equal(ledger_unmap(l, 0xd1, page * PAGE, pages), there);
}

static void runs_join(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma other = dma_1;

	map(l, 0x10, 0x100, 2, 0);
	map(l, 0x14, 0x104, 4, 0);
	assert_runs(l, 0xd1, "10+2=100 14+4=104");
	map(l, 0x12, 0x102, 2, 0); /* both sides */
	assert_runs(l, 0xd1, "10+8=100");
	map(l, 0x18, 0x108, 1, 0); /* what is before */
	map(l, 0xf, 0xff, 1, 0); /* what is behind */
	assert_runs(l, 0xd1, "f+a=ff");
	map(l, 0x19, 0x10a, 1, 0); /* frames do not go on */
	map(l, 0xe, 0xfd, 1, 0);
	map(l, 0xc, 0xfc, 1, 0); /* a hole between */
	map(l, 0x1b, 0x10b, 1, 0);
	assert_runs(l, 0xd1, "c+1=fc e+1=fd f+a=ff 19+1=10a 1b+1=10b");
	other.prot = 1; /* another dma */
	assert_int_equal(ledger_map(l, &other, 0x1c * PAGE, 0x10c, 1), 0);
	assert_runs(l, 0xd1, "c+1=fc e+1=fd f+a=ff 19+1=10a 1b+1=10b 1c+1=10c");
	other = dma_1;
	other.domain = 0xd2; /* another domain */
	assert_int_equal(ledger_map(l, &other, 0x1c * PAGE, 0x10c, 1), 0);
	assert_runs(l, 0xd2, "1c+1=10c");
	map(l, 0, 0, 0, 0);
}

static void each_part_of_a_dma_tells_it_apart(void **state)
{
	struct ledger *l = *state;
	struct ledger_totals t;
	struct ledger_dma d[8];

	for (int i = 0; i < 8; i++) {
		d[i] = dma_1;
		d[i].iova = 8 * PAGE;
	}
	d[1].container++;
	d[2].iova--;
	d[3].va += PAGE;
	d[4].mm++;
	d[5].prot++;
	d[6].tgid++;
	d[7].domain++;
	for (int i = 0; i < 8; i++)
		assert_int_equal(ledger_map(l, &d[i], (8 + i) * PAGE, 8 + i, 1), 0);
	ledger_totals(l, &t);
	assert_int_equal(t.dmas, 8);
	assert_int_equal(t.runs, 8);
	assert_true(ledger_domain_totals(l, 0xd1, &t));
	assert_int_equal(t.dmas, 7);
	/* these do not */
	d[0].since_ns++;
	d[0].group++;
	d[0].comm[0] = 'x';
	d[0].bytes = 1;
	assert_int_equal(ledger_map(l, &d[0], 20 * PAGE, 8, 1), 0);
	ledger_domain_totals(l, 0xd1, &t);
	assert_int_equal(t.dmas, 7);
}

static void runs_split(void **state)
{
	struct ledger *l = *state;

	map(l, 0x10, 0x100, 0x10, 0);
	unmap(l, 0x14, 2, 2); /* inside */
	assert_runs(l, 0xd1, "10+4=100 16+a=106");
	unmap(l, 0x10, 1, 1); /* the beginning */
	unmap(l, 0x1f, 1, 1); /* the end */
	assert_runs(l, 0xd1, "11+3=101 16+9=106");
	unmap(l, 0x13, 4, 2); /* an end, a hole, a beginning */
	assert_runs(l, 0xd1, "11+2=101 17+8=107");
	unmap(l, 0x13, 4, 0);
	unmap(l, 0, 0x11, 0);
	unmap(l, 0x1f, LEDGER_ALL, 0);
	unmap(l, 0x12, 0, 0);
	assert_runs(l, 0xd1, "11+2=101 17+8=107");
	unmap(l, 0, LEDGER_ALL, 10);
	assert_runs(l, 0xd1, "");
	assert_int_equal(ledger_unmap(l, 0xd9, 0, LEDGER_ALL), 0);
}

static void a_mapping_replaces_what_was_there(void **state)
{
	struct ledger *l = *state;

	map(l, 0x10, 0x100, 0x10, 0);
	map(l, 0x14, 0x200, 2, 2);
	assert_runs(l, 0xd1, "10+4=100 14+2=200 16+a=106");
	map(l, 0x14, 0x104, 2, 2); /* back again: one run */
	assert_runs(l, 0xd1, "10+10=100");
	map(l, 0x12, 0x102, 4, 4); /* the same once more */
	assert_runs(l, 0xd1, "10+10=100");
	map(l, 0xe, 0x300, 4, 2);
	map(l, 0x1e, 0x400, 4, 2);
	assert_runs(l, 0xd1, "e+4=300 12+c=102 1e+4=400");
	map(l, 0, 0x1000, 0x100, 0x14);
	assert_runs(l, 0xd1, "0+100=1000");
}

/* The same dma, all of it: it has been mapped since the first time. */
static void a_dma_outlives_its_replacement(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma later = dma_1;
	struct ledger_run r;

	later.since_ns = 9;
	later.group = 9;
	map(l, 1, 1, 4, 0);
	assert_int_equal(ledger_map(l, &later, PAGE, 9, 4), 4);
	assert_true(ledger_find(l, 0xd1, PAGE, &r));
	assert_int_equal(r.dma->since_ns, 1000);
	assert_int_equal(r.dma->group, 5);
	unmap(l, 1, 4, 4);
	assert_int_equal(ledger_map(l, &later, PAGE, 9, 4), 0);
	assert_true(ledger_find(l, 0xd1, PAGE, &r));
	assert_int_equal(r.dma->since_ns, 9);
}

static void a_run_is_found_with_all_that_is_known(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma d = dma_1;
	struct ledger_run r;

	d.iova = 0x40000;
	assert_int_equal(ledger_map(l, &d, 0x42000, 0x77, 3), 0);
	assert_true(ledger_find(l, 0xd1, 0x44fff, &r));
	assert_int_equal(r.iova, 0x42000);
	assert_int_equal(r.va, 0x7f0000002000);
	assert_int_equal(r.pfn, 0x77);
	assert_int_equal(r.pages, 3);
	assert_int_equal(r.dma->mm, 0x111);
	assert_int_equal(r.dma->container, 0xc1);
	assert_int_equal(r.dma->bytes, 0x5000); /* up to its last run */
	assert_int_equal(r.dma->prot, 3);
	assert_int_equal(r.dma->tgid, 77);
	assert_int_equal(r.dma->group, 5);
	assert_string_equal(r.dma->comm, "qemu");
	assert_true(ledger_find(l, 0xd1, 0x42000, &r));
	assert_false(ledger_find(l, 0xd1, 0x41fff, &r));
	assert_false(ledger_find(l, 0xd1, 0x45000, &r));
	assert_false(ledger_find(l, 0xd0, 0x42000, &r));
	assert_false(ledger_find(l, 0xd2, 0x42000, &r));

	d.bytes = 0x9000;
	assert_int_equal(ledger_map(l, &d, 0x47000, 0x7, 1), 0);
	assert_int_equal(r.dma->bytes, 0x9000);
	d.bytes = 0x1000;
	assert_int_equal(ledger_map(l, &d, 0x48000, 0x7, 1), 0);
	assert_int_equal(r.dma->bytes, 0x9000);
}

static void the_last_page_of_the_address_space(void **state)
{
	struct ledger *l = *state;
	struct ledger_run r;

	assert_int_equal(ledger_map(l, &dma_1, LAST_PAGE, 5, 1), 0);
	assert_true(ledger_find(l, 0xd1, UINT64_MAX, &r));
	assert_int_equal(r.iova, LAST_PAGE);
	assert_int_equal(r.dma->bytes, UINT64_MAX); /* 2^64 has no room */
	assert_int_equal(ledger_map(l, &dma_1, LAST_PAGE - 3 * PAGE, 2, 3), 0);
	assert_runs(l, 0xd1, "ffffffffffffc+4=2");
	assert_int_equal(ledger_unmap(l, 0xd1, LAST_PAGE - PAGE, 1), 1);
	assert_runs(l, 0xd1, "ffffffffffffc+2=2 fffffffffffff+1=5");
	assert_string_equal(runs(l, 0xd1, LAST_PAGE, 1), "fffffffffffff+1=5");
	assert_string_equal(runs(l, 0xd1, LAST_PAGE, 77), "fffffffffffff+1=5");
	assert_int_equal(ledger_unmap(l, 0xd1, LAST_PAGE, 2), -EINVAL);
	assert_int_equal(ledger_unmap(l, 0xd1, LAST_PAGE, 1), 1);
	assert_int_equal(ledger_unmap(l, 0xd1, LAST_PAGE - 3 * PAGE, LEDGER_ALL), 2);
	assert_runs(l, 0xd1, "");
}

/* More pages than any field of 32 bits holds, up to all there are. */
static void very_long_runs(void **state)
{
	static const uint64_t len[] = {
		1ULL << 32, (1ULL << 32) + 1, (1ULL << 44) - 1, (1ULL << 44) + 3, 1ULL << 52,
	};
	struct ledger *l = *state;
	struct ledger_totals t;
	struct ledger_run r;

	for (size_t i = 0; i < N_OF(len); i++) {
		assert_int_equal(ledger_map(l, &dma_1, 0, 0, len[i]), 0);
		assert_true(ledger_find(l, 0xd1, (len[i] - 1) * PAGE, &r));
		assert_int_equal(r.pages, len[i]);
		ledger_totals(l, &t);
		assert_int_equal(t.pages, len[i]);
		assert_int_equal(t.lengths[63 - __builtin_clzll(len[i])], 1);
		assert_int_equal(ledger_unmap(l, 0xd1, 7 * PAGE, 1), 1);
		assert_true(ledger_find(l, 0xd1, 8 * PAGE, &r));
		assert_int_equal(r.pages, len[i] - 8);
		assert_int_equal(r.pfn, 8);
		assert_int_equal(ledger_drop_domain(l, 0xd1), len[i] - 1);
	}
	assert_int_equal(ledger_map(l, &dma_1, 0, (1ULL << 52) - 1, 1), 0);
	assert_runs(l, 0xd1, "0+1=fffffffffffff");
}

static void what_cannot_be(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma d = dma_1;

	assert_int_equal(ledger_map(l, &d, 0x1001, 1, 1), -EINVAL);
	assert_int_equal(ledger_map(l, &d, LAST_PAGE, 1, 2), -EINVAL);
	assert_int_equal(ledger_map(l, &d, PAGE, 0, 1ULL << 52), -EINVAL);
	assert_int_equal(ledger_map(l, &d, 0, 0, LEDGER_ALL), -EINVAL);
	assert_int_equal(ledger_map(l, &d, 0, 1ULL << 52, 1), -EINVAL);
	assert_int_equal(ledger_map(l, &d, 0, UINT64_MAX, 1), -EINVAL);
	assert_int_equal(ledger_map(l, &d, 0, 1, (1ULL << 52) - 1), 0);
	assert_int_equal(ledger_drop_domain(l, 0xd1), (1ULL << 52) - 1);
	assert_int_equal(ledger_unmap(l, 0xd1, 0x1001, 1), -EINVAL);
	assert_int_equal(ledger_unmap(l, 0xd1, 0x1001, LEDGER_ALL), -EINVAL);
	d.iova = 0x2000;
	assert_int_equal(ledger_map(l, &d, 0x1000, 1, 1), -EINVAL);
	assert_runs(l, 0xd1, "");
	assert_null(ledger_next_dma(l, NULL));
}

static void a_range_is_cut_out(void **state)
{
	struct ledger *l = *state;
	struct ledger_cursor c;
	struct ledger_run r;

	map(l, 0x10, 0x100, 4, 0);
	map(l, 0x18, 0x200, 4, 0);
	assert_string_equal(runs(l, 0xd1, 0x12 * PAGE, 7), "12+2=102 18+1=200");
	assert_string_equal(runs(l, 0xd1, 0x12345, 1), "12+1=102");
	assert_string_equal(runs(l, 0xd1, 0x14 * PAGE, 4), "");
	assert_string_equal(runs(l, 0xd1, 0x1a * PAGE, LEDGER_ALL), "1a+2=202");
	assert_string_equal(runs(l, 0xd1, 0x10 * PAGE, 0), "");

	/* what changes behind it is seen, what changes before it is not */
	ledger_seek(&c, 0xd1, 0x11 * PAGE, LEDGER_ALL);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.va, dma_1.va + 0x11 * PAGE);
	unmap(l, 0x10, 4, 4);
	map(l, 0x13, 0x300, 8, 3);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.iova, 0x14 * PAGE);
	assert_int_equal(r.pages, 7);
	unmap(l, 0, LEDGER_ALL, 9);
	assert_false(ledger_next(l, &c, &r));
}

static void domains_and_containers(void **state)
{
	struct ledger *l = *state;
	struct ledger_domain_cursor c = { 0 };
	static const uint64_t id[] = { 7, 0, UINT64_MAX, 3 };
	struct ledger_dma d = dma_1;
	struct ledger_totals t;

	for (int i = 0; i < 4; i++) {
		d.domain = id[i];
		d.container = i & 1;
		assert_int_equal(ledger_map(l, &d, 0, i, i + 1), 0);
	}
	assert_true(ledger_next_domain(l, &c) && c.domain == 0);
	assert_true(ledger_next_domain(l, &c) && c.domain == 3);
	assert_true(ledger_next_domain(l, &c) && c.domain == 7);
	assert_true(ledger_next_domain(l, &c) && c.domain == UINT64_MAX);
	assert_false(ledger_next_domain(l, &c));

	assert_true(ledger_domain_totals(l, 3, &t));
	assert_int_equal(t.pages, 4);
	assert_int_equal(t.runs, 1);
	assert_int_equal(t.dmas, 1);
	assert_int_equal(t.lengths[2], 1);
	ledger_totals(l, &t);
	assert_int_equal(t.pages, 10);
	assert_int_equal(t.runs, 4);
	assert_int_equal(t.dmas, 4);
	assert_int_equal(t.lengths[0], 1);
	assert_int_equal(t.lengths[1], 2);
	assert_int_equal(t.lengths[2], 1);

	assert_int_equal(ledger_drop_container(l, 1), 2 + 4);
	assert_false(ledger_domain_totals(l, 3, &t));
	assert_int_equal(t.pages, 0);
	assert_int_equal(ledger_drop_container(l, 1), 0);
	assert_int_equal(ledger_drop_domain(l, 3), 0);
	assert_int_equal(ledger_drop_domain(l, 7), 1);

	/* a domain with runs of two containers; the one that made it is not the one that goes */
	d.domain = 7;
	for (int i = 0; i < 10; i++) {
		d.container = i & 1;
		assert_int_equal(ledger_map(l, &d, i * PAGE, 1, 1), 0);
	}
	assert_int_equal(ledger_drop_container(l, 1), 5);
	assert_string_equal(runs(l, 7, 0, LEDGER_ALL), "0+1=1 2+1=1 4+1=1 6+1=1 8+1=1");
	assert_int_equal(ledger_drop_container(l, 0), 5 + 3);
	ledger_totals(l, &t);
	assert_int_equal(t.runs + t.pages + t.dmas, 0);
	c = (struct ledger_domain_cursor){ 0 };
	assert_false(ledger_next_domain(l, &c));
}

static void vas_lead_to_dmas(void **state)
{
	struct ledger *l = *state;
	const struct ledger_dma *a, *b;
	struct ledger_dma d = dma_1;
	struct ledger_cursor c;
	struct ledger_run r;

	d.iova = 0x10000;
	d.va = 0x5000;
	d.bytes = 0x4000;
	assert_int_equal(ledger_map(l, &d, 0x12000, 1, 1), 0);
	d.domain = 0xd2;
	assert_int_equal(ledger_map(l, &d, 0x12000, 1, 1), 0);
	d.mm = 0x110;
	assert_int_equal(ledger_map(l, &d, 0x12000, 1, 1), 1);
	d.mm = 0x111;
	assert_int_equal(ledger_map(l, &d, 0x10000, 1, 4), 1);

	a = ledger_next_va(l, 0x111, 0x8fff, 1, NULL);
	assert_non_null(a);
	assert_int_equal(a->domain, 0xd1);
	b = ledger_next_va(l, 0x111, 0x8fff, 1, a);
	assert_non_null(b);
	assert_int_equal(b->domain, 0xd2);
	assert_null(ledger_next_va(l, 0x111, 0x8fff, 1, b));
	assert_ptr_equal(ledger_next_va(l, 0x111, 0x4fff, 2, NULL), a);
	assert_ptr_equal(ledger_next_va(l, 0x111, 0, UINT64_MAX, NULL), a);
	assert_ptr_equal(ledger_next_va(l, 0x111, 1, UINT64_MAX, NULL), a);
	assert_null(ledger_next_va(l, 0x111, 0x4fff, 1, NULL));
	assert_null(ledger_next_va(l, 0x111, 0x9000, 0x1000, NULL));
	assert_null(ledger_next_va(l, 0x111, 0x6000, 0, NULL));
	assert_null(ledger_next_va(l, 0x112, 0x6000, 1, NULL));
	assert_null(ledger_next_va(l, 0x110, 0x6000, 1, NULL)); /* replaced */

	/* all of them, also behind a copy of one that is gone */
	assert_ptr_equal(ledger_next_dma(l, NULL), a);
	d = *a;
	assert_ptr_equal(ledger_next_dma(l, a), b);
	assert_null(ledger_next_dma(l, b));
	unmap(l, 0, LEDGER_ALL, 1);
	assert_ptr_equal(ledger_next_dma(l, &d), b);
	assert_ptr_equal(ledger_next_va(l, 0x111, 0x6000, 1, &d), b);

	/* its runs in that range of VAs, not those of another dma at the same IOVAs */
	d.domain = 0xd2;
	d.tgid++;
	assert_int_equal(ledger_map(l, &d, 0x12000, 0x50, 1), 1);
	ledger_seek_va(&c, b, 0x6123, 0x2000);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.iova, 0x11000);
	assert_int_equal(r.va, 0x6000);
	assert_int_equal(r.pages, 1);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.iova, 0x13000);
	assert_int_equal(r.pages, 1);
	assert_false(ledger_next(l, &c, &r));
	ledger_seek_va(&c, b, 0x8000, UINT64_MAX);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.iova, 0x13000);
	assert_false(ledger_next(l, &c, &r));
	ledger_seek_va(&c, b, 0, 0x5001);
	assert_true(ledger_next(l, &c, &r));
	assert_int_equal(r.iova, 0x10000);
	assert_int_equal(r.pages, 1);
	assert_false(ledger_next(l, &c, &r));
	ledger_seek_va(&c, b, 0, 0x5000);
	assert_false(ledger_next(l, &c, &r));
	ledger_seek_va(&c, b, 0x9000, 1);
	assert_false(ledger_next(l, &c, &r));
	ledger_seek_va(&c, b, 0x5000, 0);
	assert_false(ledger_next(l, &c, &r));
}

/* An owner may claim a length that cannot be, or VAs that do not end. */
static void absurd_dmas(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma d = dma_1;
	const struct ledger_dma *there;
	struct ledger_cursor c;
	struct ledger_run r;

	d.iova = LAST_PAGE - PAGE;
	d.va = LAST_PAGE;
	d.bytes = UINT64_MAX;
	assert_int_equal(ledger_map(l, &d, LAST_PAGE, 1, 1), 0);
	there = ledger_next_va(l, d.mm, UINT64_MAX, 1, NULL);
	assert_non_null(there);
	assert_int_equal(there->bytes, 2 * PAGE);
	ledger_seek_va(&c, there, LAST_PAGE, 1);
	assert_false(ledger_next(l, &c, &r));
	assert_true(ledger_find(l, 0xd1, LAST_PAGE, &r));
	assert_int_equal(r.va, 0);
	assert_null(ledger_next_va(l, d.mm, 0, LAST_PAGE, NULL));
}

static void memory_runs_out(void **state)
{
	struct ledger *l = *state;
	uint64_t visits = ledger_visits(l);
	struct ledger_dma d = dma_1;

	assert_null(ledger_new(1, 100));
	assert_true(ledger_bytes(l) >= sizeof(struct ledger));
	/* the very first, for each kind of node */
	l->budget.max_bytes = ledger_bytes(l);
	assert_int_equal(ledger_map(l, &d, 0, 1, 1), -ENOMEM);
	while (ledger_map(l, &d, 0, 1, 1) == -ENOMEM) {
		assert_runs(l, 0xd1, "");
		assert_null(ledger_next_dma(l, NULL));
		l->budget.max_bytes += 1024;
	}
	assert_runs(l, 0xd1, "0+1=1");
	assert_true(ledger_bytes(l) <= l->budget.max_bytes);
	assert_true(ledger_visits(l) > visits);

	/* until it is full */
	visits = 1;
	while (ledger_map(l, &d, 2 * visits * PAGE, 0x100 * visits, 1) == 0)
		visits++;
	assert_in_range(visits, 8000, 8192);
	assert_int_equal(ledger_map(l, &d, 2 * visits * PAGE, 1, 1), -ENOMEM);
	/* whole runs can be unmapped, and there is room again */
	assert_int_equal(ledger_unmap(l, 0xd1, 0, 3), 2);
	assert_int_equal(ledger_map(l, &d, 2 * visits * PAGE, 1, 1), 0);
	assert_int_equal(ledger_drop_domain(l, 0xd1), visits - 1);
}

/* Where there is no room for another dma, those that are there may still be mapped. */
static void room_for_a_known_dma(void **state)
{
	struct ledger *l = *state;
	struct ledger_dma d = dma_1;

	l->dmas.shift = 0;
	map(l, 0, 1, 1, 0);
	l->budget.max_bytes = ledger_bytes(l);
	d.prot = 1;
	assert_int_equal(ledger_map(l, &d, 8 * PAGE, 1, 1), -ENOMEM);
	map(l, 8, 1, 1, 0);
	assert_runs(l, 0xd1, "0+1=1 8+1=1");
}

/* What was needed for a moment is given back when nothing is mapped any more. */
static void memory_is_given_back(void **state)
{
	struct ledger *l = *state;
	uint64_t bytes;

	l->runs.shift = 4; /* many chunks */
	map(l, 0, 1, 1, 0);
	bytes = ledger_bytes(l);
	for (uint64_t i = 0; i < 20000; i++)
		map(l, 2 * i, 1, 1, !i);
	assert_true(ledger_bytes(l) > bytes + 500000);
	unmap(l, 0, LEDGER_ALL, 20000);
	/* but for the list of chunks */
	assert_in_range(ledger_bytes(l), bytes, bytes + 8 * (20000 / 16 + 64));
	bytes = ledger_bytes(l);
	map(l, 1, 1, 1, 0);
	assert_runs(l, 0xd1, "1+1=1");
	assert_int_equal(ledger_bytes(l), bytes);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int test_ledger(void)
{
	const struct CMUnitTest tests[] = {
		test(runs_join),
		test(each_part_of_a_dma_tells_it_apart),
		test(runs_split),
		test(a_mapping_replaces_what_was_there),
		test(a_dma_outlives_its_replacement),
		test(a_run_is_found_with_all_that_is_known),
		test(the_last_page_of_the_address_space),
		test(very_long_runs),
		test(what_cannot_be),
		test(a_range_is_cut_out),
		test(domains_and_containers),
		test(vas_lead_to_dmas),
		test(absurd_dmas),
		test(memory_runs_out),
		test(room_for_a_known_dma),
		test(memory_is_given_back),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
