// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Page-table entries as Linux writes them; nothing here comes from cpu_walk.h. */
#include "unit.h"

const struct cpu_format four_levels = { .addr_mask = 0x000ffffffffff000, .levels = 4 };
const struct cpu_format five_levels = { .addr_mask = 0x000ffffffffff000, .levels = 5 };
const struct cpu_format sme_47 = { .addr_mask = 0x000f7ffffffff000, .levels = 4 };
const struct cpu_format sme_51 = { .addr_mask = 0x0007fffffffff000, .levels = 5 };

uint64_t linux_leaf(int level, uint64_t pfn, uint64_t prot, uint64_t physical_mask)
{
	uint64_t page_mask = ~((1ULL << (12 + 9 * (level - 1))) - 1);
	uint64_t phys = pfn << 12;

	/* protnone_mask() of pgtable-invert.h */
	if (prot && !(prot & L_PRESENT))
		phys ^= ~0ULL;
	return (phys & page_mask & physical_mask) | prot;
}

uint64_t linux_table(uint64_t pfn)
{
	return pfn << 12 | L_TABLE;
}

uint64_t linux_swap(unsigned int type, uint64_t offset, uint64_t bits)
{
	return (~offset << 14 >> 5) | (uint64_t)type << 59 | bits;
}

uint64_t rnd(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
