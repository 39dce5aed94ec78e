/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Page and alignment arithmetic. The suite's unit is the 4 KiB page. */
#ifndef CLIENT_PAGE_H
#define CLIENT_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define PG_SHIFT 12
#define PG_SIZE (1ul << PG_SHIFT)
#define SZ_2M (1ul << 21)
#define SZ_1G (1ul << 30)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline uint64_t round_up_to(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

#endif
