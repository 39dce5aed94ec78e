/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the loader asks of a map again and again while other programs run. It runs a program
 * instead of bpf(BPF_MAP_LOOKUP_ELEM): while that copies a value the kernel runs no kprobe
 * on this CPU (bpf_disable_instrumentation()). A kernel that preempts gives the CPU away in
 * there now and then, for a whole slice, and many calls of others would be missed.
 */

struct pfnw_container_now container_arg;

SEC("?syscall")
int read_container(void *ctx)
{
	struct pfnw_container_now *a = &container_arg;
	struct pfnw_container *k;
	u64 container = a->container;

	k = bpf_map_lookup_elem(&containers, &container);
	a->known = !!k;
	if (k)
		bpf_probe_read_kernel(&a->now, sizeof(a->now), k);
	return 0;
}
