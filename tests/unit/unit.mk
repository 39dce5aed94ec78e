# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
# Native unit tests. Included by the top Makefile.
#   make unit           build and run them, also with gcc's sanitizers where it has them
#   make unit-mutants   put mistakes into copies of the sources: every one must turn a test red
#   make format-check   is everything as clang-format would have it?
#   make format         make it so
UNIT_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
UNIT_OBJ := $(BUILD)/tests/unit-obj
UNIT_SRC := $(filter-out %.bpf.c,$(wildcard $(UNIT_DIR)*.c))
# of user/, what runs without a kernel
UNIT_USER := change_kind.c judge.c stale.c collect.c opts.c sink_util.c fail.c ksyms.c ledger_tree.c ledger.c ledger_dma.c ledger_diff.c ledger_order.c live_table.c budget_parse.c kbtf.c
UNIT_ALL := $(UNIT_SRC) $(addprefix user/,$(UNIT_USER))
UNIT_OBJS := $(UNIT_SRC:$(UNIT_DIR)%.c=$(UNIT_OBJ)/%.o) $(UNIT_USER:%.c=$(UNIT_OBJ)/user-%.o)
UNIT_LIBS := -lcmocka -l:libbpf.a -lelf -lz -lm
UNIT_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

.PHONY: unit unit-mutants format-check format
unit: $(BUILD)/tests/unit $(BUILD)/tests/unit-san $(UNIT_OBJ)/abi.bpf.ok
	$(Q)$(UNIT_DIR)run $(BUILD)/tests/unit
	$(Q)[ ! -s $(BUILD)/tests/unit-san ] || $(UNIT_DIR)run $(BUILD)/tests/unit-san
	$(Q)$(UNIT_DIR)run $(UNIT_DIR)test_figures.py $(BUILD)/tests/unit-figures.log
	$(Q)$(UNIT_DIR)run $(UNIT_DIR)test_bench.py $(BUILD)/tests/unit-bench.log
	$(Q)$(UNIT_DIR)run $(UNIT_DIR)test_apt.py $(BUILD)/tests/unit-apt.log

$(BUILD)/tests/unit: $(UNIT_OBJS)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(UNIT_LIBS)

$(UNIT_OBJ)/%.o: $(UNIT_DIR)%.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(USER_CFLAGS) -MMD -MP -c -o $@ $<

$(UNIT_OBJ)/user-%.o: user/%.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(USER_CFLAGS) -MMD -MP -c -o $@ $<

# An empty file where this compiler has no sanitizers.
$(BUILD)/tests/unit-san: $(UNIT_OBJS) $(UNIT_ALL)
	$(say) CC $@
	$(Q)if echo 'int main(void) { return 0; }' | \
		$(CC) $(UNIT_SAN) -x c -o $@ - 2>/dev/null && $@ 2>/dev/null; then \
		$(CC) $(CPPFLAGS) $(USER_CFLAGS) $(UNIT_SAN) $(LDFLAGS) -o $@ $(UNIT_ALL) $(UNIT_LIBS); \
	else \
		echo "unit: this compiler has no sanitizers: tested without" >&2; : >$@; \
	fi

# The layout of records, as the compiler of bpf/ sees it.
$(UNIT_OBJ)/abi.bpf.ok: $(UNIT_DIR)abi.bpf.c $(UNIT_DIR)abi.h bpf/events.h vmlinux.h
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -fsyntax-only $<
	$(Q)touch $@

unit-mutants:
	$(Q)CC="$(CC)" $(UNIT_DIR)mutants $(MUTANTS)

CLANG_FORMAT ?= clang-format
FORMATTED := $(wildcard bpf/*.[ch] user/*.[ch] tests/*/*.[ch] tests/modules/*/*.[ch])
format-check:
	$(say) FORMAT
	$(Q)bad=; for f in $(FORMATTED); do \
		$(CLANG_FORMAT) --dry-run -Werror $$f 2>/dev/null || bad="$$bad $$f"; \
	done; \
	[ -z "$$bad" ] || { echo "not formatted (make format):$$bad" >&2; exit 1; }

format:
	$(Q)$(CLANG_FORMAT) -i $(FORMATTED)

-include $(UNIT_OBJS:.o=.d)
