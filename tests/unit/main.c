// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "unit.h"

int main(void)
{
	int failed = 0;

	failed += test_walk();
	failed += test_walk_random();
	failed += test_judge();
	failed += test_stale();
	failed += test_iowalk();
	failed += test_abi();
	failed += test_opts();
	failed += test_text();
	failed += test_collect();
	failed += test_budget();
	failed += test_kbtf();
	failed += test_ledger();
	failed += test_ledger_random();
	failed += test_ledger_size();
	failed += test_ledger_diff();
	failed += test_ledger_order();
	failed += test_live_table();
	failed += test_change_kind();
	printf("unit: %s, %d failed\n", failed ? "FAILED" : "passed", failed);
	return failed != 0;
}
