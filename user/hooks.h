/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The hook registry: which kernel function each program hangs on, by which rung,
 * and what is left uncovered where it cannot. Everything is probed (BTF, symbol,
 * trial load); no version is ever looked at.
 */
#ifndef PFNW_HOOKS_H
#define PFNW_HOOKS_H

#include <stdbool.h>
#include <stddef.h>

struct ksyms;
struct pfnwatch_bpf;

enum rung { RUNG_FTRACE, /* fentry/fexit */ RUNG_KPROBE, RUNG_TRACEPOINT };

const char *rung_name(enum rung r);

struct hook {
	const char *slot; /* the job; the first usable hook of a slot gets it */
	const char *func; /* kernel function or tracepoint */
	const char *module; /* NULL: vmlinux; builtin is tried too */
	enum rung rung;
	/*
	 * Programs of the skeleton. Where the kernel preempts, the first may have a stand-in
	 * NAME_calm with a NAME_double, and both a NAME_twin: bpf/calm.bpf.c.
	 */
	const char *progs[2];
	bool required; /* without the slot nothing can be proven */
	const char *covers;
	const char *uncovered; /* what its absence means */
	const char *second; /* function of the second program, NULL: the same */
	/* results of hooks_probe() */
	bool usable, chosen;
	int btf_id[2]; /* of func and second, 0: none */
	bool in_module; /* these are numbers in the BTF of module */
	bool left_out; /* chosen, and not needed by what is asked for */
	char why[160]; /* why not usable */
};

struct hooks {
	struct hook *hook;
	size_t n;
	bool claim_has_batch; /* vaddr_get_pfns() takes a struct vfio_batch * */
	bool preempts; /* kernel_preempts() */
	bool can_cast; /* kfunc_can_cast(), where it is of use */
	unsigned int changes_seen; /* enum pfnw_sight bits: no hook of it is missing */
	struct ksyms *ksyms;
	int type1_btf_fd; /* the module's BTF, 0: there is none */
	unsigned int page_struct_bytes; /* 0: unknown */
	unsigned int pg_reserved; /* bit number, ~0: unknown */
};

/*
 * Probe all hooks of this kernel. Returns EXIT_PROVEN, or EXIT_KERNEL after an
 * error line when BTF or symbols are missing altogether or a required slot is empty
 * and @must.
 */
int hooks_probe(struct hooks *h, bool must);
void hooks_free(struct hooks *h);

/* Would a skipped invocation mean that pages may not have been seen at all? */
bool hooks_marks_calls(const struct hook *h);

/* Is this one of the hooks that tell when a container maps or unmaps, or goes? */
bool hooks_marks_busy(const struct hook *h);

/* Is this one of the hooks on the steps inside a call, which whole calls do without? */
bool hooks_is_step(const struct hook *h);

/* Is this one of the hooks that only read the IOMMU's tables? */
bool hooks_needs_iommu(const struct hook *h);

/* Is this one of the hooks that see page-table changes? */
bool hooks_watches_changes(const struct hook *h);

/* Of which kind (enum pfnw_sight bits), the end of an address space with it; 0: of none. */
unsigned int hooks_sight(const struct hook *h);

/*
 * Where programs for a usable hook's function (or tracepoint) attach: its number in BTF, and
 * the descriptor of its BTF object, 0 for vmlinux. 0: there is no such hook.
 */
int hooks_btf_id(const struct hooks *hs, const char *func, bool tracepoint, int *btf_fd);

/* The slot's chosen hook, or NULL. */
const struct hook *hooks_slot(const struct hooks *h, const char *slot);

#endif
