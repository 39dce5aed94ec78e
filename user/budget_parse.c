// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The pure part of budget.h. */
#include "budget.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bpf.h>

#define LOOP_BYTES 24 /* three registers */

static void add_frame(struct budget *b, unsigned long bytes)
{
	if (b->n_frames < BUDGET_FRAMES)
		b->frame[b->n_frames] = bytes;
	b->n_frames++; /* too many: no chain, budget_chain() */
	b->stack_sum += bytes;
	if (bytes > b->stack)
		b->stack = bytes;
}

/* "stack depth 80+40", or a line "subprog N (NAME) ... stack 80" for each function. */
static void parse_frames(struct budget *b, const char *log)
{
	const char *p = strstr(log, "stack depth ");
	char *end;

	if (!p)
		return;
	p += strlen("stack depth ");
	if (strncmp(p, "max ", 4)) {
		for (;; p = end + 1) {
			unsigned long bytes = strtoul(p, &end, 10);

			if (end == p)
				return;
			add_frame(b, bytes);
			if (*end != '+')
				return;
		}
	}
	while ((p = strchr(p, '\n')) && !strncmp(++p, "subprog ", 8)) {
		const char *stack = strstr(p, " stack "), *eol = strchr(p, '\n');

		if (!stack || (eol && stack > eol))
			return;
		add_frame(b, strtoul(stack + strlen(" stack "), NULL, 10));
	}
}

bool budget_parse(struct budget *b, const char *log)
{
	const char *at = strstr(log, "\nprocessed "), *time = strstr(log, "verification time ");

	b->processed = b->stack = b->stack_sum = b->stack_chain = b->verify_us = b->states = 0;
	b->n_frames = 0;
	at = at ? at + 1 : log;
	if (sscanf(at, "processed %u insns", &b->processed) != 1)
		return false;
	at = strstr(at, "total_states ");
	if (at)
		sscanf(at, "total_states %u", &b->states);
	if (time)
		sscanf(time, "verification time %u", &b->verify_us);
	parse_frames(b, log);
	return true;
}

/*
 * The function that @insn calls or hands to a helper as a callback, -1: none. Of these the
 * kernel has put the number into imm.
 */
static int callee(const struct bpf_insn *insn)
{
	if (insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_CALL)
		return insn->imm;
	if (insn->code == (BPF_LD | BPF_IMM | BPF_DW) && insn->src_reg == BPF_PSEUDO_FUNC)
		return insn[1].imm;
	return -1;
}

/*
 * bpf_loop() that the kernel has put in place (inline_bpf_loop()) begins with a comparison
 * that no compiler writes: r1 with BPF_MAX_LOOPS, and -E2BIG.
 */
static bool is_loop(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_JLE | BPF_K) && insn->dst_reg == BPF_REG_1 &&
	       insn->off == 2 && insn->imm == 1 << 23 &&
	       insn[1].code == (BPF_ALU | BPF_MOV | BPF_K) && insn[1].imm == -E2BIG;
}

/* What the kernel counts of a frame: it adds what its loops need only after it has counted. */
static uint32_t counted(uint32_t frame, bool loops)
{
	if (loops)
		frame -= frame < LOOP_BYTES ? frame : LOOP_BYTES;
	return frame ? (frame + 31) & ~31U : 32;
}

void budget_chain(struct budget *b, const struct bpf_insn *insn, size_t n, const uint32_t *start,
		  size_t n_start)
{
	uint32_t depth[BUDGET_FRAMES] = { 0 };
	bool deeper = true;

	b->stack_chain = 0;
	if (n_start != b->n_frames || n_start > BUDGET_FRAMES)
		return;
	/* There is no recursion: after as many rounds as functions nothing can get deeper. */
	for (size_t round = 0; deeper && round <= n_start; round++) {
		deeper = false;
		for (size_t f = 0; f < n_start; f++) {
			size_t end = f + 1 < n_start ? start[f + 1] : n;
			uint32_t own, below = 0;
			bool loops = false;

			if (start[f] > end || end > n)
				return;
			/* the last one is an exit or a jump */
			for (size_t i = start[f]; i + 1 < end; i++) {
				int to = callee(&insn[i]);

				if (to < -1 || to >= (int)n_start)
					return;
				if (to >= 0 && depth[to] > below)
					below = depth[to];
				loops |= is_loop(&insn[i]);
			}
			own = counted(b->frame[f], loops);
			deeper |= own + below > depth[f];
			depth[f] = own + below;
		}
	}
	if (n_start && !deeper)
		b->stack_chain = depth[0];
}

void budget_last_words(const char *log, char *to, size_t bytes)
{
	const char *end = strstr(log, "\nverification time "), *begin;

	if (!end)
		end = strstr(log, "\nprocessed ");
	if (!end)
		end = log + strlen(log);
	for (begin = end; begin > log && begin[-1] != '\n'; begin--)
		;
	snprintf(to, bytes, "%.*s", (int)(end - begin), begin);
}
