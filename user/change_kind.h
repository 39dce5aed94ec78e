/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What an MMU notifier was told of. */
#ifndef PFNW_CHANGE_KIND_H
#define PFNW_CHANGE_KIND_H

#include <stddef.h>
#include <stdint.h>

#include <linux/types.h>

/* The function that @addr lies in, or NULL. */
typedef const char *(*function_fn)(void *ctx, uint64_t addr);

/*
 * enum pfnw_change of a change with this kernel stack, @n addresses, the innermost first. One
 * that is not recognised is PFNW_CHANGE_ZAP, after which pages may be gone.
 */
uint8_t change_kind(const __u64 *stack, size_t n, function_fn function, void *ctx);

#endif
