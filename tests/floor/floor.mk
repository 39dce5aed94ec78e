# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
# The cheapest programs there are, for scripts/limit. Included by the top Makefile.
FLOOR_DIR := $(dir $(lastword $(MAKEFILE_LIST)))

$(BUILD)/floor.bpf.o: $(FLOOR_DIR)floor.bpf.c vmlinux.h | $(BUILD)
	$(say) BPF $@
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $@ $<
	$(Q)$(LLVM_STRIP) -g $@

$(BUILD)/tests/floor: $(FLOOR_DIR)floor.c $(BUILD)/floor.skel.h | $(BUILD)/tests
	$(say) LINK $@
	$(Q)$(CC) $(CPPFLAGS) $(USER_CFLAGS) -o $@ $< $(LIBS)
