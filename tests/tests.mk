# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
# The tests. Included by the top Makefile.
#   make unit     native unit tests (tests/unit)
#   make vmtest   the cases in the lab (tests/vm): VMTEST='--kernel 6.12 --only ...' selects
#   make test     both; ends with "N passed, N failed"
-include tests/unit/unit.mk

.PHONY: test vmtest
test:
	$(Q)tests/run --build $(BUILD) $(VMTEST)

vmtest:
	$(Q)tests/run --no-unit --build $(BUILD) $(VMTEST)
