# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
# make            build/pfnwatch
# make unit       native unit tests
# make test       unit tests, then everything in the lab
# make demo       installs what is missing, builds, boots the lab, shows the main job
# make bench      what pfnwatch costs, on every kernel, against other tools (about an hour)
# make bench-check   is anything dearer than what is committed?
# make install    DESTDIR= PREFIX=
BUILD := build
PREFIX ?= /usr/local
CLANG ?= clang
LLVM_STRIP ?= llvm-strip
BPFTOOL ?= $(firstword $(shell command -v bpftool 2>/dev/null) /usr/sbin/bpftool)
PKG_CONFIG ?= pkg-config

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
MAKEFLAGS += --no-print-directory
endif

CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wno-missing-field-initializers -Wshadow -Wstrict-prototypes -Wmissing-prototypes
CPPFLAGS += -D_GNU_SOURCE -Ibpf -Iuser -I$(BUILD)
# The same sources give the same programs, wherever they are built.
ANYWHERE := -ffile-prefix-map=$(CURDIR)=.
USER_CFLAGS := -std=gnu11 $(WARN) $(CFLAGS) $(ANYWHERE)
# libbpf is linked statically: one binary, built once, for every kernel and host.
LIBS := -l:libbpf.a -lelf -lz -ljson-c -lcap -lm
BPF_CFLAGS := $(ANYWHERE) -g -O2 -Wall -Werror -target bpf -D__TARGET_ARCH_x86 -mcpu=v3 -I. -Ibpf

USER_SRC := $(wildcard user/*.c)
USER_OBJ := $(USER_SRC:%.c=$(BUILD)/%.o)
SKEL := $(BUILD)/pfnwatch.skel.h $(BUILD)/calib.skel.h
BPF_SRC := $(wildcard bpf/*)

.DELETE_ON_ERROR:
.PHONY: all unit test vmtest demo bench bench-check install clean client deps
all: $(BUILD)/pfnwatch

$(BUILD)/pfnwatch: $(USER_OBJ)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/user/%.o: user/%.c $(SKEL) | $(BUILD)/user
	$(say) CC $@
	$(Q)$(CC) $(CPPFLAGS) $(USER_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.bpf.o: bpf/%.bpf.c $(BPF_SRC) vmlinux.h | $(BUILD)
	$(say) BPF $@
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $@ $<
	$(Q)$(LLVM_STRIP) -g $@
	$(Q)$(CLANG) -dumpversion >$(BUILD)/clang-version

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(BUILD) $(BUILD)/user $(BUILD)/tests:
	$(Q)mkdir -p $@

.PRECIOUS: $(BUILD)/%.skel.h $(BUILD)/%.bpf.o
-include $(USER_OBJ:.o=.d)
-include tests/client/client.mk
-include tests/floor/floor.mk
-include tests/tests.mk

install: all
	install -D -m 755 $(BUILD)/pfnwatch $(DESTDIR)$(PREFIX)/sbin/pfnwatch

clean:
	$(Q)rm -rf $(BUILD)

bench:
	$(Q)scripts/deps --bench
	$(Q)$(MAKE) all client
	$(Q)scripts/bench

bench-check:
	$(Q)scripts/deps
	$(Q)$(MAKE) all client
	$(Q)scripts/bench --check

demo:
	$(Q)scripts/demo
