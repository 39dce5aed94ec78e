/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the verifier spends on each program: the statistics that it writes with log
 * level 4 (BPF_LOG_STATS, kernel/bpf/verifier.c: print_verification_stats()).
 */
#ifndef PFNW_BUDGET_H
#define PFNW_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_insn;
struct bpf_object;

#define BUDGET_FRAMES 256 /* functions of a program: BPF_MAX_SUBPROGS */

struct budget {
	const char *program;
	const char *rejected; /* why; NULL: it was loaded */
	uint32_t insns; /* BPF instructions of the program with its static functions */
	uint32_t processed; /* instructions that the verifier walked, of at most 1,000,000 */
	uint32_t states; /* that it kept in total */
	uint32_t stack; /* bytes of the deepest frame, of at most 512 */
	uint32_t stack_sum; /* bytes of all frames of the program's functions */
	uint32_t stack_chain; /* of the deepest chain of calls, of at most 512; 0: unknown */
	uint32_t xlated, jited; /* bytes after dead code is gone, and of machine code */
	uint32_t verify_us; /* wall time: it decides nothing */
	uint32_t n_frames;
	uint16_t frame[BUDGET_FRAMES]; /* bytes, by function */
};

struct budgets;

/* Before the load of @obj: ask for the statistics. NULL with errno when out of memory. */
struct budgets *budgets_ask(struct bpf_object *obj);

/*
 * After it: call @fn for each program that was loaded or left out, in the order of the
 * object.
 */
void budgets_read(const struct budgets *b, void (*fn)(void *ctx, const struct budget *one),
		  void *ctx);
void budgets_free(struct budgets *b);

/*
 * A load failed with @error, an error line; its budgets are freed. When it names the
 * program that was rejected, leave it out of all loads to come. Else false.
 */
bool budgets_leave_out(const char *error);

/* The statistics in a verifier's @log; false when there are none. Fills what comes from them. */
bool budget_parse(struct budget *b, const char *log);

/*
 * The deepest chain of calls in @insn, as the kernel shows a compiled program, whose
 * functions begin at @start: fills @b->stack_chain. Each frame counts as Linux 6.1 counts
 * it, in steps of 32 bytes; newer kernels count in steps of 16, or each frame alone. Calls
 * that are dead code on this kernel are gone.
 */
void budget_chain(struct budget *b, const struct bpf_insn *insn, size_t n, const uint32_t *start,
		  size_t n_start);

/* What the verifier says last before the statistics in @log. */
void budget_last_words(const char *log, char *to, size_t bytes);

#endif
