/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The cheapest programs that can hang on a kernel function: what any watcher pays
 * before it has done anything, and what its tools cost. scripts/limit measures them.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ring SEC(".maps");

const volatile __u64 zero;
__u64 slot[8], page[512], other[512], found;

/* Called, and nothing else. */
SEC("?fentry/change_protection")
int empty_in(void *ctx)
{
	return 0;
}

SEC("?fexit/change_protection")
int empty_out(void *ctx)
{
	return 0;
}

SEC("?fexit/change_protection")
int again_out(void *ctx)
{
	return 0;
}

SEC("?kprobe/change_protection")
int empty_kprobe(void *ctx)
{
	return 0;
}

SEC("?kprobe.multi/change_protection")
int empty_multi(void *ctx)
{
	return 0;
}

SEC("?kretprobe.multi/change_protection")
int empty_multi_out(void *ctx)
{
	return 0;
}

/* Is this somebody we know? Of eight, by comparing; of 1024, by a hash. */
SEC("?fentry/change_protection")
int eight_in(void *ctx)
{
	u64 me = (u64)bpf_get_current_task_btf()->mm;

#pragma unroll
	for (int i = 0; i < 8; i++)
		if (slot[i] == me)
			found++;
	return 0;
}

SEC("?fentry/change_protection")
int hash_in(void *ctx)
{
	u64 me = (u64)bpf_get_current_task_btf()->mm;

	if (bpf_map_lookup_elem(&table, &me))
		found++;
	return 0;
}

/* A page of a page table, copied; and compared with what it should be. */
SEC("?fentry/change_protection")
int copy_in(void *ctx)
{
	bpf_probe_read_kernel(page, sizeof(page), (void *)bpf_get_current_task());
	return 0;
}

SEC("?fentry/change_protection")
int compare_in(void *ctx)
{
	u64 diff = zero, want = zero;

	bpf_probe_read_kernel(page, sizeof(page), (void *)bpf_get_current_task());
#pragma unroll
	for (int i = 0; i < 512; i++) {
		diff |= (page[i] - i * 4096) ^ want;
		barrier_var(diff);
	}
	found = diff;
	return 0;
}

/* Two of them, copied, and compared with each other. */
SEC("?fentry/change_protection")
int pair_in(void *ctx)
{
	u64 diff = zero;

	bpf_probe_read_kernel(page, sizeof(page), (void *)bpf_get_current_task());
	bpf_probe_read_kernel(other, sizeof(other), (void *)bpf_get_current_task());
#pragma unroll
	for (int i = 0; i < 512; i++) {
		diff |= page[i] ^ other[i];
		barrier_var(diff);
	}
	found = diff;
	return 0;
}

/* One entry. */
SEC("?fentry/change_protection")
int entry_in(void *ctx)
{
	u64 e;

	if (!bpf_probe_read_kernel(&e, sizeof(e), (void *)bpf_get_current_task()))
		found = e;
	return 0;
}

/* A record of 64 bytes, that wakes nobody. */
SEC("?fentry/change_protection")
int record_in(void *ctx)
{
	u64 *r = bpf_ringbuf_reserve(&ring, 64, 0);

	if (!r)
		return 0;
#pragma unroll
	for (int i = 0; i < 8; i++)
		r[i] = i;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

/* A whole table, told. */
SEC("?fentry/change_protection")
int table_in(void *ctx)
{
	bpf_ringbuf_output(&ring, page, sizeof(page), BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
