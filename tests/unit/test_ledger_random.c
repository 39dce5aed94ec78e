// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/ledger*.c against an array of pages, over random operations with a fixed seed. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "ledger.h"
#include "ledger_priv.h"

#define PAGE 4096ULL
#define OPERATIONS 200000
#define DOMAINS 4
#define CONTAINERS 3
#define PAGES 192 /* of each domain */
#define DMAS 6 /* of each domain; the containers take turns */

struct page {
	bool mapped;
	int dma;
	uint64_t pfn;
};

struct model {
	struct page page[DOMAINS][PAGES];
	struct ledger_dma dma[DOMAINS][DMAS]; /* bytes and since_ns: as they must be */
	int used[DOMAINS][DMAS]; /* pages */
	struct ledger_totals totals[DOMAINS];
};

/* Where the pages of a domain lie: at both ends of the address space, and between. */
static const uint64_t base[DOMAINS] = { 0, END_PAGE - PAGES, (1ULL << 32) - PAGES / 2, 1ULL << 44 };

static void model_init(struct model *m)
{
	memset(m, 0, sizeof(*m));
	for (int d = 0; d < DOMAINS; d++)
		for (int i = 0; i < DMAS; i++) {
			m->dma[d][i].domain = 100 + d;
			m->dma[d][i].container = 10 + (d ? (d + i) % CONTAINERS : 0);
			m->dma[d][i].iova = (base[d] + (i > 3 ? PAGES / 2 : 0)) * PAGE;
			m->dma[d][i].va = (i & 1 ? 0x1000 : 0x30) * PAGE;
			m->dma[d][i].mm = i & 2 ? 0x222 : 0x111;
			m->dma[d][i].prot = i & 1 ? 3 : 1;
			m->dma[d][i].tgid = i;
		}
}

static void model_count(struct model *m, int d)
{
	struct ledger_totals *t = &m->totals[d];
	uint64_t length = 0;

	memset(t, 0, sizeof(*t));
	memset(m->used[d], 0, sizeof(m->used[d]));
	for (int i = 0; i < PAGES; i++) {
		const struct page *p = &m->page[d][i], *next = p + 1;

		if (!p->mapped)
			continue;
		t->pages++;
		length++;
		if (!m->used[d][p->dma]++)
			t->dmas++;
		if (i + 1 < PAGES && next->mapped && next->dma == p->dma && next->pfn == p->pfn + 1)
			continue;
		t->runs++;
		t->lengths[63 - __builtin_clzll(length)]++;
		length = 0;
	}
}

static int64_t model_map(struct model *m, int d, int dma, int first, uint64_t pfn, int pages,
			 uint64_t now)
{
	struct ledger_dma *at = &m->dma[d][dma];
	uint64_t need = (base[d] + first + pages) * PAGE - at->iova;
	int64_t there = 0;

	if (!m->used[d][dma]) {
		at->since_ns = now;
		at->bytes = 0;
	}
	if (at->bytes < need)
		at->bytes = need;
	for (int i = first; i < first + pages; i++) {
		there += m->page[d][i].mapped;
		m->page[d][i] = (struct page){ true, dma, pfn + (i - first) };
	}
	model_count(m, d);
	return there;
}

/* @container 0: of any. */
static int64_t model_unmap(struct model *m, int d, int first, int pages, uint64_t container)
{
	int64_t there = 0;

	for (int i = first; i < first + pages; i++) {
		struct page *p = &m->page[d][i];

		if (container && m->dma[d][p->dma].container != container)
			continue;
		there += p->mapped;
		p->mapped = false;
	}
	model_count(m, d);
	return there;
}

static void check_dma(const struct ledger_dma *is, const struct ledger_dma *want)
{
	if (memcmp(is, want, sizeof(*is)))
		fail_test("dma of va 0x%llx: bytes 0x%llx since %llu, not 0x%llx since %llu",
			  (unsigned long long)is->va, (unsigned long long)is->bytes,
			  (unsigned long long)is->since_ns, (unsigned long long)want->bytes,
			  (unsigned long long)want->since_ns);
}

/* The runs that cover pages first to end - 1, which are cut there, are those of the model. */
static void check_pages(const struct ledger *l, const struct model *m, int d, int first, int end)
{
	struct ledger_cursor c;
	struct ledger_run r = { 0 };
	int i = first;

	ledger_seek(&c, 100 + d, (base[d] + first) * PAGE, end - first);
	while (ledger_next(l, &c, &r)) {
		int start = (r.iova >> 12) - base[d];

		if (!r.pages || start < i || start + r.pages > (uint64_t)end)
			fail_test("run of %llu pages at %d, after %d", (unsigned long long)r.pages,
				  start, i);
		for (; i < start; i++)
			if (m->page[d][i].mapped)
				fail_test("domain %d page %d is missing", d, i);
		check_dma(r.dma, &m->dma[d][m->page[d][i].dma]);
		if (r.va != r.dma->va + (r.iova - r.dma->iova))
			fail_test("domain %d page %d: VA", d, i);
		for (; i < start + (int)r.pages; i++) {
			const struct page *p = &m->page[d][i];

			if (!p->mapped || p->pfn != r.pfn + (i - start) ||
			    p->dma != (int)r.dma->tgid)
				fail_test("domain %d page %d is wrong", d, i);
		}
	}
	for (; i < end; i++)
		if (m->page[d][i].mapped)
			fail_test("domain %d page %d is missing", d, i);
}

/* All of a domain, and of the totals. The number of runs says that each is as long as can be. */
static void check_domain(const struct ledger *l, const struct model *m, int d)
{
	struct ledger_totals t;

	check_pages(l, m, d, 0, PAGES);
	if (ledger_domain_totals(l, 100 + d, &t) != !!m->totals[d].runs)
		fail_test("domain %d is there or not", d);
	assert_memory_equal(&t, &m->totals[d], sizeof(t));
}

static void check_totals(const struct ledger *l, const struct model *m)
{
	struct ledger_totals t, want = { 0 };
	struct ledger_domain_cursor c = { 0 };

	for (int d = 0; d < DOMAINS; d++) {
		const struct ledger_totals *of = &m->totals[d];

		want.runs += of->runs;
		want.pages += of->pages;
		want.dmas += of->dmas;
		for (int i = 0; i < LEDGER_LENGTHS; i++)
			want.lengths[i] += of->lengths[i];
		if (of->runs && (!ledger_next_domain(l, &c) || c.domain != 100ULL + d))
			fail_test("domain %d is not in its place", d);
	}
	assert_false(ledger_next_domain(l, &c));
	ledger_totals(l, &t);
	assert_memory_equal(&t, &want, sizeof(t));
	assert_int_equal(l->runs.live, t.runs);
	assert_int_equal(l->dmas.live, t.dmas);
}

/* Every dma is listed once, and a range of VAs finds those that overlap it. */
static void check_dmas(const struct ledger *l, const struct model *m, uint64_t *s)
{
	uint64_t pages = rnd(s) & 1 ? 0x200 : 0x1100, va = rnd(s) % (pages * PAGE);
	uint64_t bytes = rnd(s) % (0x40 * PAGE), mm = rnd(s) & 1 ? 0x111 : 0x222;
	const struct ledger_dma *at, *last = NULL;
	uint64_t n = 0, found = 0, want_n = 0, want_found = 0;

	for (int d = 0; d < DOMAINS; d++)
		for (int i = 0; i < DMAS; i++) {
			const struct ledger_dma *w = &m->dma[d][i];

			want_n += !!m->used[d][i];
			want_found += m->used[d][i] && w->mm == mm && w->va < va + bytes &&
				      va < w->va + w->bytes && bytes;
		}
	for (at = ledger_next_dma(l, NULL); at; at = ledger_next_dma(l, at)) {
		check_dma(at, &m->dma[at->domain - 100][at->tgid]);
		assert_true(!last || last->mm < at->mm ||
			    (last->mm == at->mm && last->va <= at->va));
		last = at;
		n++;
	}
	assert_int_equal(n, want_n);
	last = NULL;
	for (at = ledger_next_va(l, mm, va, bytes, NULL); at;
	     at = ledger_next_va(l, mm, va, bytes, at)) {
		assert_true(at->mm == mm && at->va < va + bytes && va < at->va + at->bytes);
		assert_ptr_not_equal(at, last);
		last = at;
		found++;
	}
	assert_int_equal(found, want_found);
}

static bool is_inside_a_run(const struct model *m, int d, int first, int end)
{
	for (int i = first - 1; i < end; i++) {
		const struct page *p = &m->page[d][i];

		if (i < 0 || i + 1 >= PAGES || !p[0].mapped || !p[1].mapped ||
		    p[0].dma != p[1].dma || p[0].pfn + 1 != p[1].pfn)
			return false;
	}
	return true;
}

static int64_t mapped_in(const struct model *m, int d, int first, int pages)
{
	int64_t n = 0;

	for (int i = first; i < first + pages; i++)
		n += m->page[d][i].mapped;
	return n;
}

/* Cut a run into pieces; some go on where the one before ends. Returns how many. */
static int cut(uint64_t *s, struct ledger_piece *piece, uint64_t pfn, int pages)
{
	int n = 0;

	for (int at = 0; at < pages && n < LEDGER_PIECES; n++) {
		int most = n == LEDGER_PIECES - 1 ? pages : 1 + (int)(rnd(s) % 3);

		piece[n].pages = most < pages - at ? most : pages - at;
		piece[n].pfn = pfn + at + (rnd(s) % 2 ? 0 : rnd(s) % 4096 * 7);
		at += piece[n].pages;
	}
	return n;
}

static void same_as_pages(void **state)
{
	static struct model m;
	struct ledger *l = ledger_new(3, 0);
	uint64_t s = 517, failed_maps = 0, failed_unmaps = 0;

	(void)state;
	model_init(&m);
	/* chunks so small that they are full all the time */
	l->runs.shift = 1;
	l->dmas.shift = l->domains.shift = 0;
	for (int op = 0; op < OPERATIONS; op++) {
		int d = rnd(&s) % DOMAINS, first = rnd(&s) % PAGES, dma = rnd(&s) % DMAS;
		int most = rnd(&s) & 1 ? 4 : PAGES, pages = 1 + rnd(&s) % most;
		bool no_memory = rnd(&s) % 4 == 0;
		struct ledger_piece piece[LEDGER_PIECES];
		int64_t got, want;
		uint64_t pfn;
		int n;

		if (pages > PAGES - first)
			pages = PAGES - first;
		l->budget.max_bytes = no_memory ? l->budget.bytes : 0;
		switch (rnd(&s) % 512) {
		case 3 ... 6: /* all goes, and so do the chunks: memory can run out again */
			got = want = 0;
			for (int i = 0; i < DOMAINS; i++) {
				got += ledger_drop_domain(l, 100 + i);
				want += model_unmap(&m, i, 0, PAGES, 0);
			}
			break;
		case 0:
			got = ledger_drop_domain(l, 100 + d);
			want = model_unmap(&m, d, 0, PAGES, 0);
			break;
		case 1 ... 2: {
			uint64_t container = 10 + rnd(&s) % CONTAINERS;

			want = 0;
			got = ledger_drop_container(l, container);
			for (int i = 0; i < DOMAINS; i++) {
				want += model_unmap(&m, i, 0, PAGES, container);
				check_domain(l, &m, i);
			}
			break;
		}
		case 7 ... 240:
			got = ledger_unmap(l, 100 + d, (base[d] + first) * PAGE, pages);
			if (got == -ENOMEM) {
				assert_true(no_memory);
				assert_true(is_inside_a_run(&m, d, first, first + pages));
				failed_unmaps++;
				want = got;
				break;
			}
			want = model_unmap(&m, d, first, pages, 0);
			break;
		default: {
			struct ledger_dma with = m.dma[d][dma];

			if (dma > 3 && first < PAGES / 2)
				first += PAGES / 2;
			if (pages > PAGES - first)
				pages = PAGES - first;
			/* frames that often go on where the neighbour ends */
			pfn = first + (rnd(&s) % 8 ? 0x1000 : rnd(&s) >> 13);
			with.bytes = 0;
			with.since_ns = op;
			n = rnd(&s) % 16 ? 1 : cut(&s, piece, pfn, pages);
			piece[0] = n == 1 ? (struct ledger_piece){ pfn, pages } : piece[0];
			want = mapped_in(&m, d, first, pages);
			if (ledger_any(l, 100 + d, (base[d] + first) * PAGE, pages) != !!want)
				fail_test("operation %d: ledger_any()", op);
			got = n == 1 ? ledger_map(l, &with, (base[d] + first) * PAGE, pfn, pages) :
				       ledger_map_pieces(l, &with, (base[d] + first) * PAGE, piece,
							 n);
			if (got == -ENOMEM) {
				assert_true(no_memory);
				failed_maps++;
				want = got;
				break;
			}
			for (int i = 0, at = first; i < n; at += piece[i++].pages)
				model_map(&m, d, dma, at, piece[i].pfn, piece[i].pages, op);
		}
		}
		if (got != want)
			fail_test("operation %d: %lld, not %lld", op, (long long)got,
				  (long long)want);
		check_domain(l, &m, d);
		check_totals(l, &m);
		if (op % 16 == 0)
			check_dmas(l, &m, &s);
		check_pages(l, &m, d, first, first + pages);
	}
	assert_true(failed_maps > 1000);
	assert_true(failed_unmaps > 20);
	for (int d = 0; d < DOMAINS; d++)
		ledger_drop_domain(l, 100 + d);
	assert_int_equal(l->runs.live + l->dmas.live + l->domains.live, 0);
	ledger_free(l);
}

int test_ledger_random(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_as_pages),
	};

	return cmocka_run_group_tests_name("ledger, random operations", tests, NULL, NULL);
}
