/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What all programs share: settings, maps, counters, the task context.
 *
 * A task context is the state of one task inside one call of a VFIO container
 * (VFIO_IOMMU_MAP_DMA, attach_group, pin_pages). It is keyed by thread, for the
 * container's mutex is held across these calls and may sleep: the task may
 * change CPU between the claim and the mapping. A context, once made, stays for
 * the life of the thread, so that a container call costs no initialisation.
 */
#ifndef PFNW_CORE_BPF_H
#define PFNW_CORE_BPF_H

#include "cpu_walk.h"
#include "iommu_walk.h"

#define PAGE_BYTES 4096ULL
#define BATCH_PAGES 512 /* VFIO_BATCH_MAX_CAPACITY: one page of pointers */
#define SNAP_SEGS 3
#define CHUNK 16 /* pages per callback: the call costs less than one page then */

/*
 * The last chunk of @n entries has fewer. It goes through all CHUNK steps as well, and
 * stays at the last entry: what accumulates there does not mind to see it again. So there
 * is no branch per entry, for the processor or for the verifier. 1: there is a next one.
 */
static __always_inline u64 more_after(u64 i, u64 n)
{
	return (i + 1 - n) >> 63;
}
#define CHANGES 32
#define GRANULES 4096
#define EFAULT_NEG (-14)

#define IOMMU_READ 1
#define IOMMU_WRITE 2

/* ---- settings, constant once loaded ---- */
const volatile struct cpu_format fmt = {};
const volatile __u64 page_offset; /* kernel VA of physical address 0 */
const volatile __u64 vmemmap; /* struct page of PFN 0; 0: unknown */
const volatile __u32 page_struct_bytes = 64;
const volatile __u32 pg_reserved_bit = 0xffffffff;
const volatile __u64 huge_zero_pfn_at; /* kernel VA; 0: unknown */
const volatile bool want_runs; /* one record per verdict run */
const volatile bool want_maps; /* one record per iommu_map() */
const volatile bool want_claims; /* one record per vaddr_get_pfns() */
const volatile bool scope_pids; /* only processes in the map scope */
const volatile bool scope_children; /* and what they fork */
const volatile bool scope_comm; /* only comm_filter */
const volatile char comm_filter[PFNW_COMM];
const volatile __s32 scope_group = PFNW_NO_GROUP; /* only this IOMMU group */
const volatile __u64 run_flush_jiffies = 5; /* a run is shown at the latest then */
const volatile __u32 lies; /* PFNW_LIE_ bits */
const volatile bool want_iommu = true; /* walk the IOMMU's tables */
const volatile bool audit_only; /* only when containers map and unmap */
const volatile bool unmaps_seen; /* the hooks on vfio_unmap_unpin() are attached */
const volatile bool want_ledger; /* tell the loader what is mapped where */
const volatile bool whole; /* calls are looked at when they are over: see whole.bpf.c */
const volatile bool preempts; /* the kernel, and so skips programs: see calm.bpf.c */
const volatile __u32 changes_seen; /* enum pfnw_sight bits: no hook of it is missing */
const volatile bool can_cast; /* bpf_rdonly_cast() is there: see calm.bpf.c */
const volatile __u32 wakeup_bytes = 0; /* wake the loader when so much waits */

/*
 * Always 0, but the verifier cannot know. What a bpf_loop() callback changes must
 * start from an unknown value: before ab5cfac139ab (6.7) the callback is simulated
 * once, from the caller's stack, and a branch that the first round cannot take is
 * removed as dead; since then a counter that starts from a constant is another
 * state in every round, and the loop is walked to its end.
 */
__u64 opaque_zero;

/* enum pfnw_sight bits */
__u32 changes_on; /* the loader has attached the programs that see such changes */
__u32 watched_ever; /* a mm began to be watched that needs them: the loader attaches them */

/* The threads that have called, a bit per hash of their number: they may have left something. */
#define CALLERS 32768
static u64 caller[CALLERS / 64];

static __always_inline u64 *caller_word(u32 tid)
{
	return &caller[(tid & (CALLERS - 1)) / 64];
}

static __always_inline bool may_have_called(u32 tid)
{
	return *caller_word(tid) & 1ULL << (tid & 63);
}

static __always_inline void note_caller(u32 tid)
{
	if (!may_have_called(tid))
		__sync_fetch_and_or(caller_word(tid), 1ULL << (tid & 63));
}

struct seg {
	u64 va; /* bytes; of the first page */
	u64 entry; /* the leaf, level > 1; at level 1 the PTEs are in pte[] */
	u32 pages;
	u32 level; /* 0: nothing could be read for these pages */
};

/* What the page tables said of the last claim's range. */
struct snap {
	u64 va;
	u32 pages;
	u8 locked; /* read under mmap_lock or the PTL */
	u8 pfnmap;
	u8 nsegs;
	u8 contig; /* the whole range is one run of present frames at level 1 */
	u32 writable; /* of huge leaves and of a contig range: all are */
	u32 claimed; /* pages[] of the claim was compared with it: all are equal */
	struct seg seg[SNAP_SEGS];
	u64 pte[2 * BATCH_PAGES]; /* [i]: PTE of va + i pages, at level 1 */
};

/* Contiguous frames that end where the last claim's range begins. */
struct tail {
	u64 va, pfn;
	u64 pages;
	u32 writable, locked;
};

/* The table of one IOMMU domain, and the last place that was looked at in it. */
struct iotable {
	u64 domain; /* whose; 0: nobody's yet */
	u64 top; /* kernel VA; virtio: of the pointer to the root node */
	u32 levels;
	u32 leaf_rights; /* of the levels above leaf_table */
	struct iommu_format f; /* f.kind 0: no table that we can read */
	u64 leaf_base; /* first IOVA that leaf_table spans; ~0: none */
	u64 leaf_table; /* kernel VA of a table of level 1 */
	u64 entry;
	u32 rights;
	u32 none_level; /* where io_find() found nothing */
	u64 node_start, node_last, node_pa; /* virtio */
	u32 node_flags;
	u32 pad;
};

/*
 * A tracepoint inside a function says that its exit is to come; the exit, that it has
 * been there. (Where the kernel preempts, by itself or by its twin.)
 */
enum told { TOLD_NOTHING, TOLD, TOLD_DONE, TOLD_TWIN };

enum call_kind { CALL_NONE, CALL_MAP, CALL_UNMAP, CALL_ATTACH, CALL_PIN, CALL_DETACH };

/* The mapping under way, and how far its pages are compared. */
struct mapping {
	u64 iova, va, pfn, pages;
	u64 at; /* pages done */
	u64 match, diff, fault;
	u32 prot;
	u32 rules; /* enum pfnw_rule bits that hold for the whole call */
	u64 installed; /* first pages that the IOMMU's table gives as asked */
};

/* A point in the history of page-table changes of one mm. */
struct moment {
	u64 seq, fin;
};

/* To know later whether somebody else unmapped what this call mapped. */
struct calm_mark {
	u64 calls; /* begun, of the container, this one among them */
	u64 unmaps; /* begun, of the container */
	u64 domains; /* calls that may have changed the container's domains */
};

#define KNOWN_DOMAINS 16

/* The first bytes of a struct vfio_dma: node, iova, vaddr, size, prot, iommu_mapped. */
struct dma_head {
	u64 word[8];
};

struct context {
	/* verdict run not yet shown; first, the loader reads it when it ends */
	struct pfnw_ev_run run;
	u64 n[PFNW_S_HOT]; /* second, the loader reads it too */
	u64 run_jiffies;

	u32 kind; /* enum call_kind, CALL_NONE between calls */
	u32 in_claim; /* the leg of vaddr_get_pfns() that has spoken */
	u64 iommu; /* struct vfio_iommu * */
	u64 mm;
	u64 pgd;
	/*
	 * The changes of the mm when the last claim began, and when the oldest claim
	 * began of which something may still wait to be mapped.
	 */
	struct moment since, oldest;
	u32 watched; /* 1: changes of mm were watched before the call */
	u32 has_probe; /* attach: .probe is a mapping not yet known to be real */

	/* the claim under way, or the last one */
	u64 claim_va, claim_pages_ptr, claim_pfn_ptr, claim_t0;
	u64 claim_asked, claim_pfn;
	u64 claim_end; /* VA behind the last claim that had pages; 0: none in this call */
	u64 mapped_end; /* VA behind the last mapping */
	u32 claim_prot;
	u32 claim_diff; /* pages of it that differ */
	u64 claim_unv; /* and that could not be compared */
	u64 claim_first_diff; /* 1: its first page does */

	/* the vfio_dma of the last mapping */
	u64 dma_iova, dma_va, dma_bytes;
	u32 dma_prot, dma_valid;
	u32 dma_mapped, pad4; /* 1: VFIO has it in the IOMMU */
	struct dma_head dma_head; /* of a vfio_dma that was looked at: read_dma() */
	u64 gone_dma; /* struct vfio_dma * that is being unmapped */
	/* what this thread unmapped last, .gone_bytes 0: nothing; of which container, when */
	u64 gone_iova, gone_bytes, gone_generation, gone_calls;
	/* struct vfio_dma * that this thread mapped last, 0: none; of which container, when */
	u64 last_dma, last_generation, last_unmaps;

	struct mapping map;
	struct mapping probe;
	u64 probe_domain;
	u64 want_iova, want_pages; /* VFIO_IOMMU_MAP_DMA: of the range asked for */
	struct calm_mark mark; /* what was unmapped when the call began */
	u64 known_domain[KNOWN_DOMAINS]; /* attach: that were there when the call began */
	u32 want_map; /* 1: the call is to map, want_iova is set */
	u32 told, told_unmap; /* enum told, of iommu:map and iommu:unmap */
	u32 pad5;
	u64 told_pages; /* by iommu:map */
	u64 odd_iova; /* of the first page that should not be translated */
	u64 foreign_pages; /* mapped for another device in the middle of this call */

	/* group of the last domain */
	u64 domain;
	s32 group;
	s32 found_group; /* what find_group() found last: of which domain, when */
	u64 found_domain, found_generation, found_calls;
	u64 asked_domain; /* find_group()'s argument */

	struct pfnw_ev_ledger led; /* what is not yet told to the loader; .n_pages 0: nothing */
	struct iotable io; /* of .domain, or of the last one */
	struct tail tail;
	struct snap snap;
	u64 buf[BATCH_PAGES];

	/* evidence, gathered once per call that shows a difference */
	struct pfnw_vma vma;
	u64 stack[PFNW_STACK];
	u32 n_stack;
	u32 pad2;
};

struct change {
	u64 start, end; /* bytes, end exclusive */
	u64 seq; /* 0: never used */
	u64 fin; /* 0: still under way */
	u64 tid;
};

/* The recent page-table changes of one mm. */
struct watch {
	u64 seq; /* changes begun */
	u64 fin; /* changes ended */
	u64 notified; /* 1: an MMU notifier hears of each change, since before it was watched */
	u64 granule[GRANULES / 64]; /* bit per hash of va >> 21: has been mapped for DMA */
	struct change change[CHANGES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32);
	__type(value, struct context);
} contexts SEC(".maps");

/* Threads inside a container call that got no context. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u32);
} spill SEC(".maps");

/* The container that a thread is in a call of; where the kernel preempts, in an unmap of. */
#define IN_UNMAP 0x80000000U /* with the thread's number: the key of an unmap */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u64);
} in_call SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct context);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct watch);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct watch);
} blank_watch SEC(".maps");

struct under_way {
	u64 mm;
	u64 seq;
	u64 start, end;
	u64 range; /* struct mmu_notifier_range *, on the thread's stack */
	u32 over; /* 1: a twin has told its end already (calm.bpf.c) */
	u32 same_frames; /* 1: what is mapped for a device is what it was */
};

/* Changes under way, by thread and function. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct under_way);
} changing SEC(".maps");

/* Processes in scope, by tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u32);
} scope SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

/* By address of struct vfio_iommu. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct pfnw_container);
} containers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pfnw_container);
} blank_container SEC(".maps");

struct stats {
	u64 v[PFNW_S_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stats);
} stats SEC(".maps");

/* Atomic, though per CPU: a program may be preempted by another task's. */
static __always_inline void count(enum pfnw_stat s, u64 n)
{
	u32 zero = 0;
	struct stats *st = bpf_map_lookup_elem(&stats, &zero);

	if (st && (u32)s < PFNW_S_MAX)
		__sync_fetch_and_add(&st->v[s], n);
}

__u64 lost_records; /* of the next, all kinds: the loader sees it without a system call */

/* @n records found no room, or what they were to tell cannot be told. */
static __always_inline void count_lost(enum pfnw_stat s, u64 n)
{
	count(s, n);
	__sync_fetch_and_add(&lost_records, n);
}

/* The same for the hot counters of a task inside a container call. */
static __always_inline void tally(struct context *c, enum pfnw_stat s, u64 n)
{
	c->n[s] += n;
}

static __always_inline u32 this_tid(void)
{
	return (u32)bpf_get_current_pid_tgid();
}

/*
 * The context of this thread, if it is inside a container call. An interrupt may
 * map DMA for another device on top of it: that is nobody's call.
 */
static __always_inline struct context *inside(void)
{
	u32 tid = this_tid();
	struct context *c = bpf_map_lookup_elem(&contexts, &tid);

	return c && c->kind != CALL_NONE && !in_interrupt() ? c : NULL;
}

static __always_inline u64 read_u64(u64 kaddr, bool *ok)
{
	u64 v = 0;

	if (bpf_probe_read_kernel(&v, sizeof(v), (void *)kaddr))
		*ok = false;
	return v;
}

/* Room for a record; NULL is counted here, once, for all callers. */
static __always_inline void *reserve(u64 bytes)
{
	void *p = bpf_ringbuf_reserve(&events, bytes, 0);

	if (!p)
		count(PFNW_S_LOST_RECORDS, 1);
	return p;
}

/*
 * Waking the loader costs thousands of instructions; it polls by itself every
 * few milliseconds and is only woken when the ring buffer fills.
 */
static __always_inline void submit(void *p)
{
	u64 flags = BPF_RB_NO_WAKEUP;

	if (bpf_ringbuf_query(&events, 0 /* BPF_RB_AVAIL_DATA */) > wakeup_bytes)
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(p, flags);
}

/*
 * What the loader can find out by itself leaves the last quarter of the ring buffer to
 * what it cannot.
 */
static __always_inline bool no_room_to_spare(void)
{
	return wakeup_bytes && bpf_ringbuf_query(&events, 0) > 3ULL * wakeup_bytes;
}

/* A difference: the sooner the judge can ask the other witnesses, the better. */
static __always_inline void submit_now(void *p)
{
	bpf_ringbuf_submit(p, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void fill_hdr(struct pfnw_hdr *h, u16 type, struct context *c)
{
	u64 id = bpf_get_current_pid_tgid();

	h->type = type;
	h->abi = PFNW_ABI;
	h->tgid = id >> 32;
	h->tid = (u32)id;
	h->group = c->group;
	h->ts_ns = bpf_ktime_get_ns();
	h->mm = c->mm;
	h->domain = c->domain;
	bpf_get_current_comm(h->comm, sizeof(h->comm));
}

#endif
