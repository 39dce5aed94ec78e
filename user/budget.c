// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#define LOG_STATS 4
#define LOG_BYTES 65536 /* global functions that are checked, and loops, add lines */

struct budgets {
	struct bpf_object *obj;
	size_t n;
	char (*log)[LOG_BYTES];
};

struct budgets *budgets_ask(struct bpf_object *obj)
{
	struct budgets *b = calloc(1, sizeof(*b));
	struct bpf_program *p;
	size_t i = 0;

	if (!b)
		return NULL;
	b->obj = obj;
	bpf_object__for_each_program(p, obj)
		b->n++;
	b->log = calloc(b->n, sizeof(*b->log));
	if (!b->log) {
		free(b);
		return NULL;
	}
	bpf_object__for_each_program(p, obj) {
		bpf_program__set_log_level(p, LOG_STATS);
		bpf_program__set_log_buf(p, b->log[i++], LOG_BYTES);
	}
	return b;
}

bool budget_parse(struct budget *b, const char *log)
{
	const char *at = strstr(log, "processed "), *stack = strstr(log, "stack depth ");
	const char *time = strstr(log, "verification time ");
	char *end;

	b->stack = b->stack_sum = b->verify_us = b->states = 0;
	if (!at || sscanf(at, "processed %u insns", &b->processed) != 1)
		return false;
	at = strstr(at, "total_states ");
	if (at)
		sscanf(at, "total_states %u", &b->states);
	if (time)
		sscanf(time, "verification time %u", &b->verify_us);
	if (!stack)
		return true;
	stack += strlen("stack depth ");
	do {
		unsigned long bytes = strtoul(stack, &end, 10);

		if (end == stack)
			break;
		b->stack_sum += bytes;
		if (bytes > b->stack)
			b->stack = bytes;
		stack = end + 1;
	} while (*end == '+');
	return true;
}

void budgets_read(const struct budgets *b, void (*fn)(void *ctx, const struct budget *one),
		  void *ctx)
{
	struct bpf_program *p;
	size_t i = 0;

	bpf_object__for_each_program(p, b->obj) {
		struct budget one = { .program = bpf_program__name(p),
				      .insns = bpf_program__insn_cnt(p) };
		const char *log = b->log[i++];

		if (bpf_program__autoload(p) && budget_parse(&one, log))
			fn(ctx, &one);
	}
}

void budgets_free(struct budgets *b)
{
	if (!b)
		return;
	free(b->log);
	free(b);
}
