// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Properties of bpf/cpu_walk.h, over random entries with a fixed seed. */
#include "unit.h"

#define ROUNDS 200000

static const struct cpu_format *const formats[] = { &four_levels, &five_levels, &sme_47, &sme_51 };

/* Bits that are free in an entry at @level, present or not. */
static uint64_t free_bits(int level)
{
	uint64_t bits = 0xfff | 0xfffULL << 52;

	return level > 1 ? bits | L_PAT_LARGE : bits;
}

/* A leaf built from (PFN, level, flags) gives back the PFN, for every page of it. */
static void leaf_gives_its_pfn_back(void **state)
{
	uint64_t s = 20200422;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		const struct cpu_format *f = formats[rnd(&s) % N_OF(formats)];
		int level = 1 + rnd(&s) % 3;
		uint64_t in = (1ULL << 9 * (level - 1)) - 1;
		uint64_t pfn = rnd(&s) >> rnd(&s) % 40 & f->addr_mask >> 12 & ~in;
		uint64_t prot = rnd(&s) & free_bits(level) & ~L_PAT_LARGE;
		uint64_t va = rnd(&s), want, e;

		if (level > 1)
			prot |= L_PSE;
		switch (rnd(&s) % 3) {
		case 0:
			prot |= L_PRESENT;
			break;
		case 1:
			prot = (prot & ~L_PRESENT) | L_PROTNONE;
			break;
		default: /* a split under way: level 2 only */
			prot = level == 2 ? prot & ~(L_PRESENT | L_PROTNONE) : prot | L_PRESENT;
		}
		/* the encryption bit is a flag: outside the mask, either way */
		if (rnd(&s) & 1)
			prot |= 0x000ffffffffff000 & ~f->addr_mask;
		e = linux_leaf(level, pfn, prot, f->addr_mask);
		if (level > 1 && rnd(&s) & 1)
			e |= L_PAT_LARGE;
		want = pfn | (va >> 12 & in);
		if (!cpu_present(level, e) || !cpu_is_leaf(level, e) ||
		    cpu_leaf_pfn(f, level, e, va) != want)
			fail_test(
				"level %d entry 0x%llx va 0x%llx mask 0x%llx: PFN 0x%llx, not 0x%llx",
				level, (unsigned long long)e, (unsigned long long)va,
				(unsigned long long)f->addr_mask,
				(unsigned long long)cpu_leaf_pfn(f, level, e, va),
				(unsigned long long)want);
		assert_int_equal(!!cpu_writable(e), !!(prot & L_RW));
	}
}

/* Flags never change the PFN, and the PFN never changes what an entry is. */
static void address_and_flags_are_apart(void **state)
{
	uint64_t s = 57;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		const struct cpu_format *f = formats[rnd(&s) % N_OF(formats)];
		int level = 1 + rnd(&s) % 3;
		uint64_t e = rnd(&s), va = rnd(&s);
		uint64_t flags = rnd(&s) & free_bits(level) & ~(L_PRESENT | L_PSE | L_PROTNONE);
		uint64_t other = e ^ (rnd(&s) & f->addr_mask & ~L_PAT_LARGE);

		/* an entry with nothing but an address does not occur */
		if (!(e & 0xfff) || !((e ^ flags) & 0xfff))
			continue;
		assert_int_equal(cpu_leaf_pfn(f, level, e ^ flags, va),
				 cpu_leaf_pfn(f, level, e, va));
		assert_int_equal(cpu_present(level, other), cpu_present(level, e));
		assert_int_equal(cpu_is_leaf(level, other), cpu_is_leaf(level, e));
	}
}

/* Swap entries never translate, whatever they carry. */
static void swap_never_translates(void **state)
{
	uint64_t s = 8;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t e = linux_swap(rnd(&s) % 32, rnd(&s) >> 14, rnd(&s) & 0xe);

		for (int level = 1; level <= 3; level++)
			assert_false(cpu_present(level, e));
	}
}

/* Indexes put together again are the address; the rest of a leaf ends at its end. */
static void addresses_add_up(void **state)
{
	uint64_t s = 48;

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t va = rnd(&s) & ((1ULL << 57) - 1), sum = va & 0xfff;
		int level = 1 + rnd(&s) % 3;

		for (int k = 1; k <= 5; k++)
			sum |= (uint64_t)cpu_index(va, k) << (12 + 9 * (k - 1));
		assert_int_equal(sum, va);
		sum = (va & ~0xfffULL) + (cpu_leaf_rest(va, level) << 12);
		assert_int_equal(sum % (cpu_leaf_pages(level) << 12), 0);
		assert_in_range(cpu_leaf_rest(va, level), 1, cpu_leaf_pages(level));
	}
}

int test_walk_random(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaf_gives_its_pfn_back),
		cmocka_unit_test(address_and_flags_are_apart),
		cmocka_unit_test(swap_never_translates),
		cmocka_unit_test(addresses_add_up),
	};

	return cmocka_run_group_tests_name("cpu_walk.h, random entries", tests, NULL, NULL);
}
