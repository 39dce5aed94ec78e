/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The symbols of this kernel: /proc/kallsyms, read once. */
#ifndef PFNW_KSYMS_H
#define PFNW_KSYMS_H

#include <stdbool.h>
#include <stdint.h>

struct ksyms;

/*
 * @bpf: also the images that the kernel made for BPF programs and trampolines, for
 * reading stacks. NULL with errno when /proc/kallsyms cannot be read.
 */
struct ksyms *ksyms_load(bool bpf);
void ksyms_free(struct ksyms *k);

/* Is there a function of exactly this name, in @module (NULL: anywhere)? */
bool ksyms_has(const struct ksyms *k, const char *module, const char *name);

/* Where the function @name is, or one of the data that calibration reads; 0: unknown. */
uint64_t ksyms_address(const struct ksyms *k, const char *name);

/* The first "name.suffix" that a compiler made of @name, or NULL. */
const char *ksyms_clone(const struct ksyms *k, const char *name);

/* All addresses read as zero: kptr_restrict hides them. */
bool ksyms_hidden(const struct ksyms *k);

/*
 * Name and offset in bytes of the function that holds @addr; NULL if unknown, or if
 * it is an image of BPF itself.
 */
const char *ksyms_at(const struct ksyms *k, uint64_t addr, uint64_t *offset);

#endif
