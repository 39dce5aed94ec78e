/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the verifier spends on each program: the statistics that it writes with log
 * level 4 (BPF_LOG_STATS, kernel/bpf/verifier.c: print_verification_stats()).
 */
#ifndef PFNW_BUDGET_H
#define PFNW_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct bpf_object;

struct budget {
	const char *program;
	uint32_t insns; /* BPF instructions of the program with its static functions */
	uint32_t processed; /* instructions that the verifier walked, of at most 1,000,000 */
	uint32_t states; /* that it kept in total */
	uint32_t stack; /* bytes of the deepest frame, of at most 512 */
	uint32_t stack_sum; /* bytes of all frames of the program's functions */
	uint32_t verify_us; /* wall time: it decides nothing */
};

struct budgets;

/* Before the load of @obj: ask for the statistics. NULL with errno when out of memory. */
struct budgets *budgets_ask(struct bpf_object *obj);

/* After it: call @fn for each program that was loaded, in the order of the object. */
void budgets_read(const struct budgets *b, void (*fn)(void *ctx, const struct budget *one),
		  void *ctx);
void budgets_free(struct budgets *b);

/* The statistics in a verifier's @log; false when there are none. Fills all but @b->program and insns. */
bool budget_parse(struct budget *b, const char *log);

#endif
