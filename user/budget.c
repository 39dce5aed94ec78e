// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define LOG_STATS 4
#define LOG_BYTES 65536 /* global functions that are checked, and loops, add lines */
#define LEFT_OUT 32 /* programs: nobody needs to see more of them at once */

struct budgets {
	struct bpf_object *obj;
	size_t n;
	char (*log)[LOG_BYTES];
};

/* Of the whole process: a session that did not load is gone before anybody can ask it. */
static struct {
	char program[64], why[160];
} left_out[LEFT_OUT];
static size_t n_left_out;
static char last_words[sizeof(left_out[0].why)];

static const char *why_left_out(const char *program)
{
	for (size_t i = 0; i < n_left_out; i++)
		if (!strcmp(left_out[i].program, program))
			return left_out[i].why;
	return NULL;
}

bool budgets_leave_out(const char *error)
{
	const char *name = strstr(error, "prog '"), *end;

	name = name ? name + strlen("prog '") : "";
	end = strchr(name, '\'');
	if (!end || n_left_out == LEFT_OUT)
		return false;
	snprintf(left_out[n_left_out].program, sizeof(left_out[0].program), "%.*s",
		 (int)(end - name), name);
	/* left out, it cannot be the one that was rejected */
	if (why_left_out(left_out[n_left_out].program))
		return false;
	strcpy(left_out[n_left_out].why, last_words);
	n_left_out++;
	return true;
}

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
		if (why_left_out(bpf_program__name(p)))
			bpf_program__set_autoload(p, false);
	}
	return b;
}

/* What became of the program in the kernel. */
static void read_info(struct budget *b, int fd)
{
	struct bpf_prog_info sizes = {}, info = {};
	struct bpf_func_info *func = NULL;
	struct bpf_insn *insn = NULL;
	__u32 len = sizeof(sizes), start[BUDGET_FRAMES];

	if (bpf_obj_get_info_by_fd(fd, &sizes, &len))
		return;
	b->xlated = sizes.xlated_prog_len;
	b->jited = sizes.jited_prog_len;
	/* not compiled, calls look different */
	if (!b->jited || sizes.nr_func_info > BUDGET_FRAMES ||
	    sizes.func_info_rec_size != sizeof(*func))
		return;
	insn = calloc(1, sizes.xlated_prog_len);
	func = calloc(sizes.nr_func_info, sizeof(*func));
	info.xlated_prog_insns = (uintptr_t)insn;
	info.xlated_prog_len = sizes.xlated_prog_len;
	info.func_info = (uintptr_t)func;
	info.nr_func_info = sizes.nr_func_info;
	info.func_info_rec_size = sizeof(*func);
	len = sizeof(info);
	/* no instructions: it is not for us to see them */
	if (insn && func && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.xlated_prog_insns) {
		for (size_t i = 0; i < info.nr_func_info; i++)
			start[i] = func[i].insn_off;
		budget_chain(b, insn, info.xlated_prog_len / sizeof(*insn), start,
			     info.nr_func_info);
	}
	free(insn);
	free(func);
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

		one.rejected = why_left_out(one.program);
		if (one.rejected) {
			fn(ctx, &one);
		} else if (bpf_program__autoload(p) && budget_parse(&one, log)) {
			read_info(&one, bpf_program__fd(p));
			fn(ctx, &one);
		}
	}
}

void budgets_free(struct budgets *b)
{
	if (!b)
		return;
	/* programs are loaded in this order, and the first that is rejected is the last */
	for (size_t i = 0; i < b->n; i++)
		if (b->log[i][0])
			budget_last_words(b->log[i], last_words, sizeof(last_words));
	free(b->log);
	free(b);
}
