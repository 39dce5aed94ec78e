// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "kbtf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

int kbtf_vmlinux(struct kbtf *k)
{
	long err;

	k->fd = 0;
	k->btf = btf__load_vmlinux_btf();
	err = libbpf_get_error(k->btf);
	if (err)
		k->btf = NULL;
	return err;
}

int kbtf_module(struct kbtf *k, const struct kbtf *vmlinux, const char *name)
{
	__u32 id = 0;

	k->btf = NULL;
	k->fd = 0;
	while (!bpf_btf_get_next_id(id, &id)) {
		struct bpf_btf_info info = {};
		__u32 len = sizeof(info);
		char buf[64] = "";
		int fd = bpf_btf_get_fd_by_id(id);

		if (fd < 0)
			continue;
		info.name = (__u64)(uintptr_t)buf;
		info.name_len = sizeof(buf);
		if (!bpf_obj_get_info_by_fd(fd, &info, &len) && info.kernel_btf &&
		    !strcmp(buf, name)) {
			k->btf = btf__load_from_kernel_by_id_split(id, vmlinux->btf);
			if (!libbpf_get_error(k->btf) && k->btf) {
				k->fd = fd;
				return 0;
			}
			k->btf = NULL;
		}
		close(fd);
	}
	return -ENOENT;
}

void kbtf_close(struct kbtf *k)
{
	btf__free(k->btf);
	if (k->fd > 0)
		close(k->fd);
	k->btf = NULL;
	k->fd = 0;
}

enum { SLOTS = 256 };

/* Names by their sums; chains go on in @next. */
struct by_name {
	int first[SLOTS]; /* index + 1, 0: none */
	int *next;
};

static unsigned int slot(const char *name)
{
	unsigned int sum = 0;

	while (*name)
		sum = sum * 31 + (unsigned char)*name++;
	return (sum ^ sum >> 8 ^ sum >> 16) % SLOTS;
}

void kbtf_find(const struct kbtf *k, struct kbtf_name *names, size_t n)
{
	const struct btf *base = btf__base_btf(k->btf);
	__u32 end = btf__type_cnt(k->btf), kinds = 0;
	struct by_name by = { .next = calloc(n, sizeof(*by.next)) };

	if (!by.next)
		abort();
	for (size_t i = 0; i < n; i++) {
		int *first = &by.first[slot(names[i].name)];

		by.next[i] = *first;
		*first = i + 1;
		kinds |= 1U << names[i].kind;
		names[i].id = 0;
	}
	for (__u32 id = base ? btf__type_cnt(base) : 1; id < end; id++) {
		const struct btf_type *t = btf__type_by_id(k->btf, id);
		const char *name;

		if (!(kinds >> btf_kind(t) & 1) || !t->name_off)
			continue;
		name = btf__name_by_offset(k->btf, t->name_off);
		for (int i = by.first[slot(name)]; i; i = by.next[i - 1]) {
			struct kbtf_name *w = &names[i - 1];

			if (!w->id && w->kind == btf_kind(t) && !strcmp(w->name, name))
				w->id = id;
		}
	}
	free(by.next);
}
