/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
#ifndef PFNW_PREEMPT_H
#define PFNW_PREEMPT_H

#include <stdbool.h>

struct ksyms;

/*
 * May a thread lose the CPU in the middle of a program? Then the kernel skips that
 * program for others: bpf/calm.bpf.c. False where it never does, and where there are no
 * kprobes, which help against it.
 */
bool kernel_preempts(const struct ksyms *k);

#endif
