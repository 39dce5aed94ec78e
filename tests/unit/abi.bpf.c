/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The other side's compiler looks at the same layout; never linked or loaded. */
#include "vmlinux.h"
#include "abi.h"
