# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
# The VFIO test client and the storm. Included by the top Makefile; alone:
#   make -f tests/client/client.mk BUILD=build client

BUILD ?= build
CC ?= cc
# The top Makefile is quiet unless V=1; alone this one says everything.
say ?= @:

CLIENT_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
CLIENT_OBJ := $(BUILD)/tests/client
CLIENT_CFLAGS := -std=gnu11 -O2 -g -D_GNU_SOURCE -pthread -Wall -Wextra -Werror \
	-Wno-missing-field-initializers -Wshadow -Wstrict-prototypes -Wmissing-prototypes

# Each program has its own main file; the rest is shared.
CLIENT_PROGRAMS := dmaclient storm mmops
CLIENT_MAINS := dmaclient.c mmops.c $(notdir $(wildcard $(CLIENT_DIR)storm*.c))
CLIENT_SHARED := $(filter-out $(CLIENT_MAINS),$(notdir $(wildcard $(CLIENT_DIR)*.c)))
CLIENT_STORM := $(filter storm%.c,$(CLIENT_MAINS))

.PHONY: client
client: $(CLIENT_PROGRAMS:%=$(BUILD)/tests/%)

$(BUILD)/tests/dmaclient: $(addprefix $(CLIENT_OBJ)/,dmaclient.o $(CLIENT_SHARED:.c=.o))
	$(say) LINK $@
	$(Q)$(CC) $(CLIENT_CFLAGS) $(LDFLAGS) -o $@ $^

$(BUILD)/tests/mmops: $(addprefix $(CLIENT_OBJ)/,mmops.o account.o kvm.o)
	$(say) LINK $@
	$(Q)$(CC) $(CLIENT_CFLAGS) $(LDFLAGS) -o $@ $^

$(BUILD)/tests/storm: $(addprefix $(CLIENT_OBJ)/,$(CLIENT_STORM:.c=.o) \
		account.o iova.o kvm.o pagemap.o pause.o vfio.o)
	$(say) LINK $@
	$(Q)$(CC) $(CLIENT_CFLAGS) $(LDFLAGS) -o $@ $^

$(CLIENT_OBJ)/%.o: $(CLIENT_DIR)%.c
	$(say) CC $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(CLIENT_CFLAGS) -MMD -MP -c -o $@ $<

-include $(wildcard $(CLIENT_OBJ)/*.d)
