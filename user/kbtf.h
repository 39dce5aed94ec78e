/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The kernel's own type information: that of vmlinux, and that of a module on top of it. */
#ifndef PFNW_KBTF_H
#define PFNW_KBTF_H

#include <stddef.h>
#include <stdint.h>

struct btf;

/* One BTF object of the kernel; fd 0 means vmlinux to the bpf() call. */
struct kbtf {
	struct btf *btf; /* NULL: there is none */
	int fd;
};

/* A type that is looked for. */
struct kbtf_name {
	const char *name;
	uint32_t kind; /* BTF_KIND_ */
	int id; /* of the first such type, 0: there is none */
};

/* 0, or -errno: the kernel was built without. */
int kbtf_vmlinux(struct kbtf *k);

/* Of a module that is loaded; 0, or -ENOENT: it is not, or has none. */
int kbtf_module(struct kbtf *k, const struct kbtf *vmlinux, const char *name);

void kbtf_close(struct kbtf *k);

/*
 * The numbers of all names at once, of types that are in @k and not in what it is on top of.
 * (Of some 100,000 types, most of them with names: libbpf's search for one of them compares
 * each, and a search for each hook and for each program was a third of the start.)
 */
void kbtf_find(const struct kbtf *k, struct kbtf_name *names, size_t n);

#endif
