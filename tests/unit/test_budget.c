// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/budget_parse.c: what the verifier says of a program. */
#include "unit.h"

#include "budget.h"

#include <errno.h>
#include <string.h>

#include <linux/bpf.h>

#define EXIT ((struct bpf_insn){ .code = BPF_JMP | BPF_EXIT })
#define CALL(n) \
	((struct bpf_insn){ .code = BPF_JMP | BPF_CALL, .src_reg = BPF_PSEUDO_CALL, .imm = n })
#define HELPER ((struct bpf_insn){ .code = BPF_JMP | BPF_CALL, .imm = 4 })
#define FUNC ((struct bpf_insn){ .code = BPF_LD | BPF_IMM | BPF_DW, .src_reg = BPF_PSEUDO_FUNC })
#define FUNC_2(n) ((struct bpf_insn){ .imm = n })
#define LOOP                \
	((struct bpf_insn){ \
		.code = BPF_JMP | BPF_JLE | BPF_K, .dst_reg = 1, .off = 2, .imm = 1 << 23 })
#define LOOP_2 ((struct bpf_insn){ .code = BPF_ALU | BPF_MOV | BPF_K, .imm = -E2BIG })

static void logs(void **state)
{
	/* 6.1 and 6.12; 7.3 */
	static const char old[] = "verification time 313 usec\n"
				  "stack depth 80+40+264+0\n"
				  "processed 17480 insns (limit 1000000) max_states_per_insn 13 "
				  "total_states 993 peak_states 713 mark_read 40\n";
	static const char new[] = "Validating f() func#1...\n"
				  "verification time 313 usec\n"
				  "stack depth max 272\n"
				  "subprog 0 (main) main insns_self 4 insns_total 9 stack 80\n"
				  "subprog 1 (f) global insns_self 5 insns_total 5 stack 40\n"
				  "subprog 2 (stack ) static insns_self 0 insns_total 0 stack 264\n"
				  "subprog 3 (g) static insns_self 0 insns_total 0 stack 0\n"
				  "processed 17480 insns (limit 1000000) max_states_per_insn 13 "
				  "total_states 993 peak_states 713 mark_read 0\n";
	static const char *const log[] = { old, new };
	struct budget b;

	(void)state;
	for (size_t i = 0; i < N_OF(log); i++) {
		memset(&b, 0xff, sizeof(b));
		assert_true(budget_parse(&b, log[i]));
		assert_int_equal(b.processed, 17480);
		assert_int_equal(b.states, 993);
		assert_int_equal(b.verify_us, 313);
		assert_int_equal(b.n_frames, 4);
		assert_int_equal(b.frame[0], 80);
		assert_int_equal(b.frame[2], 264);
		assert_int_equal(b.stack, 264);
		assert_int_equal(b.stack_sum, 384);
	}
	assert_true(budget_parse(&b, "processed 2 insns (limit 1000000)\n"));
	assert_int_equal(b.processed, 2);
	assert_int_equal(b.n_frames, 0);
	assert_false(budget_parse(&b, ""));
	assert_false(budget_parse(&b, "stack depth 8\n"));
}

static void words(void **state)
{
	char to[64];

	(void)state;
	budget_last_words("1: r0 = 1\nR1 unbounded\nverification time 1 usec\nprocessed 1 insns\n",
			  to, sizeof(to));
	assert_string_equal(to, "R1 unbounded");
	budget_last_words("R1 unbounded\nprocessed 1 insns\n", to, sizeof(to));
	assert_string_equal(to, "R1 unbounded");
	budget_last_words("", to, sizeof(to));
	assert_string_equal(to, "");
	budget_last_words("R1 unbounded\nprocessed 1 insns\n", to, 3);
	assert_string_equal(to, "R1");
}

static uint32_t chain(const struct bpf_insn *insn, size_t n, const uint32_t *start, size_t n_start,
		      const char *frames)
{
	struct budget b = { .stack_chain = 1 };
	char log[256];

	snprintf(log, sizeof(log), "stack depth %s\nprocessed 1 insns\n", frames);
	assert_true(budget_parse(&b, log));
	budget_chain(&b, insn, n, start, n_start);
	return b.stack_chain;
}

static void chains(void **state)
{
	/* 0 calls 1 and 2; 2 calls 1, and 3 as a callback; nobody calls 4 */
	struct bpf_insn insn[] = { CALL(1), CALL(2),   HELPER, EXIT, EXIT, CALL(1),
				   FUNC,    FUNC_2(3), EXIT,   EXIT, EXIT };
	static const uint32_t start[] = { 0, 4, 5, 9, 10 };

	(void)state;
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "8+0+33+65+400"), 32 + 64 + 96);
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "32+320+0+64+400"), 32 + 32 + 320);
	/* frames of other functions than these, or calls that lead nowhere: unknown */
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "8+0+33+65"), 0);
	insn[1].imm = 5;
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "8+0+33+65+400"), 0);
	insn[1].imm = -ENOENT;
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "8+0+33+65+400"), 0);
	/* in a circle */
	insn[1].imm = 0;
	assert_int_equal(chain(insn, N_OF(insn), start, 5, "8+0+33+65+400"), 0);
	assert_int_equal(chain(insn, 1, start, 1, "0"), 32);
	assert_int_equal(chain(insn, 0, start, 0, ""), 0);
}

/* The kernel's loop saves registers below what the program has. */
static void loops(void **state)
{
	static const uint32_t start[] = { 0, 4 };
	struct bpf_insn insn[] = { LOOP, LOOP_2, CALL(1), EXIT, EXIT };

	(void)state;
	assert_int_equal(chain(insn, N_OF(insn), start, 2, "88+16"), 64 + 32);
	insn[1].imm = 0;
	assert_int_equal(chain(insn, N_OF(insn), start, 2, "88+16"), 96 + 32);
}

int test_budget(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logs),
		cmocka_unit_test(words),
		cmocka_unit_test(chains),
		cmocka_unit_test(loops),
	};

	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
