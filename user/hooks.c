// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "hooks.h"
#include "events.h"
#include "kbtf.h"
#include "kfunc.h"
#include "ksyms.h"
#include "pfnwatch.h"
#include "preempt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#define TYPE1 "vfio_iommu_type1"

/* clang-format off */
static const struct hook table[] = {
	/* claims */
	{ "container-call", "vfio_iommu_type1_ioctl", TYPE1, RUNG_FTRACE, { "container_call_in", "container_call_out" }, true,
	  "which task is inside VFIO_IOMMU_MAP_DMA or UNMAP_DMA",
	  "nothing can be attributed to a container" },
	{ "container-open", "vfio_iommu_type1_open", TYPE1, RUNG_FTRACE, { "container_open", NULL }, false,
	  "page-table changes are watched before the first mapping",
	  "a difference in the first call of a process may stay raced" },
	{ "container-attach", "vfio_iommu_type1_attach_group", TYPE1, RUNG_FTRACE, { "attach_group_in", "attach_group_out" }, false,
	  "mappings replayed into the domain of a second group",
	  "replayed mappings are counted, but not verified" },
	{ "container-detach", "vfio_iommu_type1_detach_group", TYPE1, RUNG_FTRACE, { "detach_group_in", "detach_group_out" }, false,
	  "the unmapping of everything when the last group leaves",
	  "the ledger is rebuilt when a process with mappings exits" },
	{ "container-release", "vfio_iommu_type1_release", TYPE1, RUNG_FTRACE, { "container_released", NULL }, false,
	  "the end of a container",
	  "a container at the address of an older one may be taken for it" },
	{ "container-pin", "vfio_iommu_type1_pin_pages", TYPE1, RUNG_FTRACE, { "pin_pages_in", "pin_pages_out" }, false,
	  "claims for mdev and emulated devices",
	  "claims for mdev devices are not seen" },
	{ "claim", "vaddr_get_pfns", TYPE1, RUNG_FTRACE, { "claim_in", "claim_out" }, true,
	  "the PFN computed for each VA",
	  "claims are not seen" },
	{ "gup-locked", "pin_user_pages_remote", NULL, RUNG_FTRACE, { "pin_out", NULL }, false,
	  "page tables read under mmap_lock, pages pinned",
	  "pages are compared after mmap_lock was dropped: more of them may end raced" },
	{ "gup-locked", "pin_user_pages_remote", NULL, RUNG_KPROBE, { "pin_out_kret", NULL }, false,
	  "page tables read under mmap_lock, pages pinned",
	  "pages are compared after mmap_lock was dropped: more of them may end raced" },
	{ "pfnmap-locked", "follow_pfnmap_start", NULL, RUNG_FTRACE, { "follow_pfnmap_out", NULL }, false,
	  "PFNMAP leaf read under its page-table lock",
	  "PFNMAP claims are compared after the lock was dropped" },
	{ "pfnmap-locked", "follow_pte", NULL, RUNG_FTRACE, { "follow_pte_out", NULL }, false,
	  "PFNMAP leaf read under its page-table lock",
	  "PFNMAP claims are compared after the lock was dropped" },
	/* mappings */
	{ "map", "iommu_map", NULL, RUNG_FTRACE, { "map_out", NULL }, true,
	  "every range that the IOMMU is asked to install",
	  "mappings are not seen" },
	{ "map-count", "map", NULL, RUNG_TRACEPOINT, { "tp_map", NULL }, false,
	  "iommu:map, the second count of mapped pages",
	  "a mapping that the first hook missed would not be noticed" },
	{ "unmap", "__iommu_unmap", NULL, RUNG_FTRACE, { "unmap_core_out", NULL }, false,
	  "every range that the IOMMU is asked to remove",
	  "unmaps are not shown; attaching a group ends incomplete" },
	{ "unmap", "iommu_unmap", NULL, RUNG_FTRACE, { "unmap_out", "unmap_fast_out" }, false,
	  "every range that the IOMMU is asked to remove",
	  "unmaps are not shown; attaching a group ends incomplete", .second = "iommu_unmap_fast" },
	{ "unmap-count", "unmap", NULL, RUNG_TRACEPOINT, { "tp_unmap", NULL }, false,
	  "iommu:unmap, the second count of unmapped pages",
	  "unmaps are counted once only" },
	{ "dma-unmapped", "vfio_unmap_unpin", TYPE1, RUNG_FTRACE, { "dma_unmapping", "dma_unmapped" }, false,
	  "the IOMMU translates nothing of what was unmapped, and all that lies beside it",
	  "the rule leak is not checked" },
	{ "phys", "iommu_iova_to_phys", NULL, RUNG_FTRACE, { "phys_out", NULL }, false,
	  "the kernel's own reading of the IOMMU's table",
	  "the rule pa-zero is not checked where VFIO unmaps" },
	/* page-table changes */
	{ "zap", "unmap_page_range", NULL, RUNG_FTRACE, { "zap_in", "zap_out" }, false,
	  "munmap, MADV_DONTNEED, truncation, exit",
	  "a difference cannot be told from a race: it stays raced" },
	{ "zap", "__zap_vma_range", NULL, RUNG_FTRACE, { "zap_vma_in", "zap_vma_out" }, false,
	  "munmap, MADV_DONTNEED, truncation, exit",
	  "a difference cannot be told from a race: it stays raced" },
	{ "zap-hugetlb", "__unmap_hugepage_range", NULL, RUNG_FTRACE, { "zap_hugetlb_in", "zap_hugetlb_out" }, false,
	  "the same, of hugetlb",
	  "a difference cannot be told from a race: it stays raced" },
	{ "move", "move_page_tables", NULL, RUNG_FTRACE, { "move_in", "move_out" }, false,
	  "mremap",
	  "a difference cannot be told from a race: it stays raced" },
	{ "protect", "change_protection", NULL, RUNG_FTRACE, { "prot_in", "prot_out" }, false,
	  "mprotect, userfaultfd, NUMA hinting",
	  "a difference cannot be told from a race: it stays raced" },
	{ "unmap-one", "try_to_unmap_one", NULL, RUNG_FTRACE, { "unmap_one_in", "unmap_one_out" }, false,
	  "reclaim",
	  "a difference cannot be told from a race: it stays raced" },
	{ "migrate-one", "try_to_migrate_one", NULL, RUNG_FTRACE, { "migrate_one_in", "migrate_one_out" }, false,
	  "migration",
	  "a difference cannot be told from a race: it stays raced" },
	{ "mkclean", "page_mkclean_one", NULL, RUNG_FTRACE, { "mkclean_in", "mkclean_out" }, false,
	  "writeback of file pages",
	  "a difference cannot be told from a race: it stays raced" },
	{ "cow", "do_wp_page", NULL, RUNG_FTRACE, { "cow_in", "cow_out" }, false,
	  "COW",
	  "a difference cannot be told from a race: it stays raced" },
	{ "cow-huge", "do_huge_pmd_wp_page", NULL, RUNG_FTRACE, { "cow_huge_in", "cow_huge_out" }, false,
	  "COW of THP",
	  "a difference cannot be told from a race: it stays raced" },
	{ "hugetlb-fault", "hugetlb_fault", NULL, RUNG_FTRACE, { "hugetlb_fault_in", "hugetlb_fault_out" }, false,
	  "COW of hugetlb",
	  "a difference cannot be told from a race: it stays raced" },
	{ "collapse", "collapse_huge_page", NULL, RUNG_FTRACE, { "collapse_in", "collapse_out" }, false,
	  "THP collapse",
	  "a difference cannot be told from a race: it stays raced" },
	{ "split", "__split_huge_pmd", NULL, RUNG_FTRACE, { "split_in", "split_out" }, false,
	  "the huge zero page becomes 512 small ones",
	  "a difference cannot be told from a race: it stays raced" },
	{ "notifier-start", "__mmu_notifier_invalidate_range_start", NULL, RUNG_FTRACE, { "notified_in", "notified_refused" }, false,
	  "all of these, of a process that has an MMU notifier, as KVM gives it",
	  "who has nothing to do with a device pays for guests that have" },
	{ "notifier-end", "__mmu_notifier_invalidate_range_end", NULL, RUNG_FTRACE, { "notified_out", NULL }, false,
	  "their end",
	  "who has nothing to do with a device pays for guests that have" },
	{ "notifier-exit", "__mmu_notifier_release", NULL, RUNG_FTRACE, { "mm_released", NULL }, false,
	  "the end of such an mm",
	  "who has nothing to do with a device pays for guests that have" },
	{ "mm-exit", "exit_mmap", NULL, RUNG_FTRACE, { "mm_gone", NULL }, false,
	  "the end of a watched mm",
	  "a reused mm may look as if it had changed" },
	/* scope */
	{ "fork", "sched_process_fork", NULL, RUNG_TRACEPOINT, { "process_forked", NULL }, true,
	  "children of a watched process",
	  "children of the command are not watched" },
	{ "exit", "sched_process_exit", NULL, RUNG_TRACEPOINT, { "thread_exited", NULL }, true,
	  "frees the context of a thread",
	  "contexts of dead threads pile up" },
};
/* clang-format on */

static const char *const change_slots[] = {
	"zap", "zap-hugetlb", "move",	       "protect",  "unmap-one", "migrate-one", "mkclean",
	"cow", "cow-huge",    "hugetlb-fault", "collapse", "split",	NULL,
};

/*
 * collapse_huge_page() takes all entries away, tells the end of that, and only then finds a page
 * that is pinned and puts them back.
 */
static const char *const notifier_slots[] = { "notifier-start", "notifier-end", "notifier-exit",
					      "collapse", NULL };

static bool one_of(const char *slot, const char *const *slots)
{
	for (int i = 0; slots[i]; i++)
		if (!strcmp(slot, slots[i]))
			return true;
	return false;
}

const char *rung_name(enum rung r)
{
	switch (r) {
	case RUNG_FTRACE:
		return "fentry/fexit";
	case RUNG_KPROBE:
		return "kprobe/kretprobe";
	case RUNG_TRACEPOINT:
		return "tracepoint";
	}
	return "?";
}

/*
 * The trial: load an empty program for this very function. The verifier then
 * looks for the address and counts the arguments.
 */
static int trial_load(const struct hook *h, int type_id, int btf_fd, int n_args, char *log,
		      size_t log_size)
{
	const struct bpf_insn empty[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, o, .attach_btf_id = type_id, .log_buf = log,
		    .log_size = log_size, .log_level = 1);
	int fd, err = 0;

	o.expected_attach_type = h->rung == RUNG_TRACEPOINT ? BPF_TRACE_RAW_TP : BPF_TRACE_FEXIT;
	if (btf_fd > 0)
		o.attach_btf_obj_fd = btf_fd;
	log[0] = 0;
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "pfnw_trial", "GPL", empty, 2, &o);
	if (fd < 0)
		return -errno;
	/*
	 * The number of argument registers that a trampoline can save is only checked
	 * when it is built: attach for a moment where more than six are needed.
	 */
	if (n_args > 6) {
		int link = bpf_raw_tracepoint_open(NULL, fd);

		err = link < 0 ? -errno : 0;
		if (link >= 0)
			close(link);
		else
			snprintf(log, log_size, "%d arguments: no trampoline takes so many",
				 n_args);
	}
	close(fd);
	return err;
}

static void first_line(char *s)
{
	char *p = strchr(s, '\n');

	if (p)
		*p = 0;
}

/* What is looked for in BTF: of each hook two names, and then these. */
enum { PAGE, PAGEFLAGS, CAST, VMA, OTHERS };

struct wanted {
	struct kbtf_name *name; /* [2 * hook + 1]: of its second program */
	size_t n;
	char (*text)[64]; /* of tracepoints */
};

static struct kbtf_name *other_name(const struct wanted *w, int what)
{
	return &w->name[w->n - OTHERS + what];
}

static void wanted_of(struct wanted *w, const struct hooks *hs)
{
	static const struct kbtf_name others[OTHERS] = {
		[PAGE] = { "page", BTF_KIND_STRUCT },
		[PAGEFLAGS] = { "pageflags", BTF_KIND_ENUM },
		[CAST] = { "bpf_rdonly_cast", BTF_KIND_FUNC },
		[VMA] = { "vm_area_struct", BTF_KIND_STRUCT },
	};

	w->n = 2 * hs->n + OTHERS;
	w->name = calloc(w->n, sizeof(*w->name));
	w->text = calloc(hs->n, sizeof(*w->text));
	if (!w->name || !w->text)
		abort();
	for (size_t i = 0; i < hs->n; i++) {
		const struct hook *h = &hs->hook[i];
		struct kbtf_name *name = &w->name[2 * i];

		if (h->rung == RUNG_TRACEPOINT) {
			snprintf(w->text[i], sizeof(w->text[i]), "btf_trace_%s", h->func);
			name[0] = (struct kbtf_name){ w->text[i], BTF_KIND_TYPEDEF };
		} else {
			name[0] = (struct kbtf_name){ h->func, BTF_KIND_FUNC };
		}
		name[1] = h->second ? (struct kbtf_name){ h->second, BTF_KIND_FUNC } : name[0];
	}
	memcpy(other_name(w, 0), others, sizeof(others));
}

static void wanted_free(struct wanted *w)
{
	free(w->name);
	free(w->text);
}

/* Of vmlinux, of a hook in the module also there. */
static void take_numbers(struct hooks *hs, const struct wanted *w, bool module)
{
	for (size_t i = 0; i < hs->n; i++) {
		struct hook *h = &hs->hook[i];

		if (h->btf_id[0] || (module && !h->module))
			continue;
		h->in_module = module;
		for (int j = 0; j < 2; j++)
			h->btf_id[j] = w->name[2 * i + j].id;
	}
}

static void probe_hook(struct hook *h, struct hooks *hs, const struct kbtf *vmlinux,
		       const struct kbtf *type1)
{
	const struct kbtf *k = h->in_module ? type1 : vmlinux;
	int id = h->btf_id[0], err, n_args = 0;
	const struct btf_type *t;
	const char *clone;
	char log[4096];

	if (h->rung == RUNG_KPROBE) {
		if (ksyms_has(hs->ksyms, NULL, h->func))
			h->usable = true;
		else
			snprintf(h->why, sizeof(h->why), "no symbol %s", h->func);
		return;
	}
	if (!id && h->module && !type1->btf) {
		snprintf(h->why, sizeof(h->why),
			 "module %s is not loaded, or has no BTF (modprobe %s)", h->module,
			 h->module);
		return;
	}
	if (!id || !h->btf_id[1]) {
		snprintf(h->why, sizeof(h->why), "no function %s in BTF", id ? h->second : h->func);
		return;
	}
	if (h->rung == RUNG_FTRACE && !ksyms_has(hs->ksyms, NULL, h->func)) {
		clone = ksyms_clone(hs->ksyms, h->func);
		snprintf(h->why, sizeof(h->why),
			 clone ? "only the compiler's clone %s" : "no symbol %s",
			 clone ? clone : h->func);
		return;
	}
	if (h->rung == RUNG_FTRACE) {
		t = btf__type_by_id(k->btf, id);
		n_args = btf_vlen(btf__type_by_id(k->btf, t->type));
	}
	err = trial_load(h, id, k->fd, n_args, log, sizeof(log));
	if (err) {
		first_line(log);
		snprintf(h->why, sizeof(h->why), "refused: %.120s", log[0] ? log : strerror(-err));
		return;
	}
	h->usable = true;
	if (!strcmp(h->slot, "claim")) {
		t = btf__type_by_id(k->btf, btf__type_by_id(k->btf, id)->type);
		if (btf_vlen(t) == 6) {
			int arg = btf__resolve_type(k->btf, btf_params(t)[5].type);

			t = arg > 0 ? btf__type_by_id(k->btf, arg) : NULL;
			t = t && btf_is_ptr(t) ? btf__type_by_id(k->btf, t->type) : NULL;
			hs->claim_has_batch =
				t && btf_is_struct(t) &&
				!strcmp(btf__name_by_offset(k->btf, t->name_off), "vfio_batch");
		} else {
			h->usable = false;
			snprintf(h->why, sizeof(h->why), "%s has %d arguments, 6 are known",
				 h->func, btf_vlen(t));
		}
	}
}

bool hooks_marks_calls(const struct hook *h)
{
	return !strncmp(h->slot, "container-", 10) || !strcmp(h->slot, "claim") ||
	       !strcmp(h->slot, "fork");
}

bool hooks_marks_busy(const struct hook *h)
{
	static const char *const slots[] = { "container-call",	 "container-attach",
					     "container-detach", "container-release",
					     "dma-unmapped",	 NULL };

	return one_of(h->slot, slots);
}

bool hooks_is_step(const struct hook *h)
{
	static const char *const slots[] = { "claim",	    "gup-locked", "pfnmap-locked",
					     "map",	    "map-count",  "unmap",
					     "unmap-count", "phys",	  NULL };

	return one_of(h->slot, slots);
}

bool hooks_needs_iommu(const struct hook *h)
{
	return !strcmp(h->slot, "dma-unmapped") || !strcmp(h->slot, "phys");
}

bool hooks_watches_changes(const struct hook *h)
{
	return hooks_sight(h) && strcmp(h->slot, "mm-exit") && strcmp(h->slot, "notifier-exit");
}

unsigned int hooks_sight(const struct hook *h)
{
	unsigned int sights = one_of(h->slot, notifier_slots) ? PFNW_SIGHT_NOTIFIER : 0;

	if (one_of(h->slot, change_slots) || !strcmp(h->slot, "mm-exit"))
		sights |= PFNW_SIGHT_HOOKS;
	return sights;
}

static bool all_chosen(const struct hooks *h, const char *const *slots)
{
	for (int i = 0; slots[i]; i++)
		if (!hooks_slot(h, slots[i]))
			return false;
	return true;
}

const struct hook *hooks_slot(const struct hooks *h, const char *slot)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->hook[i].chosen && !strcmp(h->hook[i].slot, slot))
			return &h->hook[i];
	return NULL;
}

static int explain_empty_slot(const struct hooks *h)
{
	for (size_t i = 0; i < h->n; i++) {
		const struct hook *k = &h->hook[i];

		if (!k->required || hooks_slot(h, k->slot))
			continue;
		return fail(EXIT_KERNEL, "this kernel cannot: hook %s (%s): %s; without it %s",
			    k->slot, k->func, k->why, k->uncovered);
	}
	return EXIT_PROVEN;
}

/* What of struct page the programs need, beyond what CO-RE tells them. */
static void probe_page(struct hooks *h, const struct btf *btf, int page, int flags)
{
	const struct btf_type *t;

	h->page_struct_bytes = page > 0 ? btf__type_by_id(btf, page)->size : 0;
	h->pg_reserved = ~0U;
	t = flags > 0 ? btf__type_by_id(btf, flags) : NULL;
	for (int i = 0; t && i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_enum(t)[i].name_off), "PG_reserved"))
			h->pg_reserved = btf_enum(t)[i].val;
}

int hooks_probe(struct hooks *h, bool must)
{
	struct kbtf vmlinux = {}, type1 = {};
	struct wanted w;
	int ret = EXIT_PROVEN;

	memset(h, 0, sizeof(*h));
	h->n = sizeof(table) / sizeof(table[0]);
	h->hook = calloc(h->n, sizeof(*h->hook));
	memcpy(h->hook, table, sizeof(table));
	h->ksyms = ksyms_load(false);
	if (!h->ksyms)
		return fail(EXIT_KERNEL,
			    "this kernel cannot: /proc/kallsyms: %s "
			    "(CONFIG_KALLSYMS is needed)",
			    strerror(errno));
	if (ksyms_hidden(h->ksyms))
		return fail(EXIT_KERNEL, "this kernel hides its symbols: "
					 "run as root and set sysctl kernel.kptr_restrict=1");
	if (kbtf_vmlinux(&vmlinux))
		return fail(EXIT_KERNEL, "this kernel cannot: no BTF in /sys/kernel/btf/vmlinux "
					 "(a kernel with CONFIG_DEBUG_INFO_BTF=y is needed)");
	wanted_of(&w, h);
	kbtf_find(&vmlinux, w.name, w.n);
	take_numbers(h, &w, false);
	h->preempts = kernel_preempts(h->ksyms);
	h->can_cast = h->preempts &&
		      kfunc_can_cast(other_name(&w, CAST)->id, other_name(&w, VMA)->id);
	probe_page(h, vmlinux.btf, other_name(&w, PAGE)->id, other_name(&w, PAGEFLAGS)->id);
	if (!kbtf_module(&type1, &vmlinux, TYPE1)) {
		kbtf_find(&type1, w.name, w.n);
		take_numbers(h, &w, true);
	}
	wanted_free(&w);
	for (size_t i = 0; i < h->n; i++) {
		struct hook *k = &h->hook[i];

		probe_hook(k, h, &vmlinux, &type1);
		if (k->usable && !hooks_slot(h, k->slot))
			k->chosen = true;
	}
	h->changes_seen = (all_chosen(h, change_slots) ? PFNW_SIGHT_HOOKS : 0) |
			  (all_chosen(h, notifier_slots) ? PFNW_SIGHT_NOTIFIER : 0);
	if (must)
		ret = explain_empty_slot(h);
	/* programs are loaded for what is in it */
	h->type1_btf_fd = type1.fd;
	type1.fd = 0;
	kbtf_close(&type1);
	kbtf_close(&vmlinux);
	return ret;
}

int hooks_btf_id(const struct hooks *hs, const char *func, bool tracepoint, int *btf_fd)
{
	for (size_t i = 0; i < hs->n; i++) {
		const struct hook *h = &hs->hook[i];
		bool second = h->second && !strcmp(h->second, func);

		if (h->rung != (tracepoint ? RUNG_TRACEPOINT : RUNG_FTRACE) || !h->usable ||
		    (!second && strcmp(h->func, func)))
			continue;
		*btf_fd = h->in_module ? hs->type1_btf_fd : 0;
		return h->btf_id[second];
	}
	return 0;
}

void hooks_free(struct hooks *h)
{
	free(h->hook);
	ksyms_free(h->ksyms);
	if (h->type1_btf_fd > 0)
		close(h->type1_btf_fd);
	memset(h, 0, sizeof(*h));
}
