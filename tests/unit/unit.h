/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What the unit tests share: cmocka, and entries as Linux writes them. */
#ifndef PFNW_UNIT_H
#define PFNW_UNIT_H

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* the program has a function of that name */
#undef fail_msg

#include <stdbool.h>
#include <stdio.h>

#include "cpu_walk.h"

#define fail_test(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Bits of an x86-64 entry, by the names and numbers of
 * arch/x86/include/asm/pgtable_types.h. On purpose not those of cpu_walk.h: a
 * wrong number there must not be right here too.
 */
#define L_PRESENT (1ULL << 0)
#define L_RW (1ULL << 1)
#define L_USER (1ULL << 2)
#define L_PWT (1ULL << 3)
#define L_PCD (1ULL << 4)
#define L_ACCESSED (1ULL << 5)
#define L_DIRTY (1ULL << 6)
#define L_PSE (1ULL << 7) /* at level 1 the same bit is PAT */
#define L_PAT (1ULL << 7)
#define L_GLOBAL (1ULL << 8)
#define L_PROTNONE (1ULL << 8)
#define L_SPECIAL (1ULL << 9)
#define L_UFFD_WP (1ULL << 10)
#define L_SOFT_DIRTY (1ULL << 11)
#define L_PAT_LARGE (1ULL << 12)
#define L_SOFTW4 (1ULL << 58)
#define L_PKEYS (15ULL << 59)
#define L_NX (1ULL << 63)

#define L_TABLE (L_PRESENT | L_RW | L_USER | L_ACCESSED | L_DIRTY) /* _PAGE_TABLE */
#define L_SHARED (L_PRESENT | L_RW | L_USER | L_ACCESSED | L_NX)
#define L_READONLY (L_PRESENT | L_USER | L_ACCESSED | L_NX)
#define L_NONE (L_PROTNONE | L_ACCESSED) /* PAGE_NONE */

/* pfn_pte(), pfn_pmd(), pfn_pud() of arch/x86/include/asm/pgtable.h. */
uint64_t linux_leaf(int level, uint64_t pfn, uint64_t prot, uint64_t physical_mask);
/* The entry that leads to the table at PFN @pfn. */
uint64_t linux_table(uint64_t pfn);
/* __swp_entry() of arch/x86/include/asm/pgtable_64.h, with the bits beside it. */
uint64_t linux_swap(unsigned int type, uint64_t offset, uint64_t bits);

/* splitmix64: every test has its own seed, so a failure comes again. */
uint64_t rnd(uint64_t *state);

/* 4 and 5 levels, without encryption; the mask of an AMD host with SME (bit 47 or 51). */
extern const struct cpu_format four_levels, five_levels, sme_47, sme_51;

#define PHYS_52 ((1ULL << 52) - 1)

int test_walk(void);
int test_walk_random(void);
int test_judge(void);
int test_stale(void);
int test_iowalk(void);
int test_abi(void);
int test_opts(void);
int test_text(void);
int test_collect(void);
int test_budget(void);
int test_kbtf(void);
int test_ledger(void);
int test_ledger_random(void);
int test_ledger_size(void);
int test_ledger_diff(void);
int test_ledger_order(void);
int test_live_table(void);
int test_change_kind(void);

#endif
