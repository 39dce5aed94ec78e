// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "live.h"
#include "change_kind.h"
#include "ksyms.h"
#include "ledger_order.h"
#include "live_table.h"
#include "pfnwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "pfnwatch.skel.h"

#define PAGE_BYTES 4096ULL
#define SETTLE_NS 30000000ULL /* a change is looked at so long after it: others join it */
#define EXIT_NS 300000000ULL /* an owner that exits closes its files in that time */
#define REBUILD_NS 50000000ULL
#define MOVE_NS 1000000000ULL /* a zap that is so much later does not belong to a move */
#define COMPARE_TRIES 5
#define BUSY_TRIES 20 /* then a ledger is read while others map */
#define MAX_DIRTY 4096 /* ranges that wait; more: the older ones are looked at early */
#define EARLY_NS 10000000ULL /* by then what was mapped before the change is in the ledger */
#define JOIN 64 /* a change may join one of the last so many */

/* A range of VAs whose page tables changed. */
struct dirty {
	uint64_t mm, start, end;
	uint64_t due_ns, since_ns, last_ns; /* last_ns: of the last change that joined */
	uint8_t fn;
	bool late; /* counted in live_counts.late */
	uint32_t n_stack;
	__u64 stack[PFNW_STACK];
};

struct rebuild {
	uint64_t container, generation, due_ns;
	int tries;
};

struct live {
	struct session *session;
	struct live_ops ops;
	struct ledger *ledger;
	struct ledger *stale; /* pages that were told */
	struct ledger *wrong; /* pages that were a mismatch when they were mapped */
	struct ledger_order *order;
	struct audit audit;
	struct dirty *dirty;
	size_t n_dirty, room_dirty;
	struct rebuild *rebuild;
	size_t n_rebuild;
	bool settling; /* a record may repeat what was read from the kernel */
	struct dirty moved[16]; /* the last mremap()s that were looked at */
	unsigned int n_moved;
	const struct dirty *cause; /* of the look under way; NULL: none is known */
	uint64_t mapped_ns; /* since when what is looked at is mapped; 0: unknown */
	struct live_counts count;
	struct audit_counts told;
	bool again; /* the look under way must be repeated */
	uint64_t lost_records, lost_changes; /* as of the last look */
	uint64_t unmapped; /* records of unmaps since no change record was known to be lost */
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* ---- the ledger ---- */

static void ask_rebuild(struct live *l, uint64_t container, uint64_t generation, uint64_t due)
{
	struct rebuild *r;

	for (size_t i = 0; i < l->n_rebuild; i++)
		if (l->rebuild[i].container == container) {
			l->rebuild[i].generation = generation;
			return;
		}
	r = realloc(l->rebuild, (l->n_rebuild + 1) * sizeof(*r));
	if (!r) {
		l->count.unread++;
		return;
	}
	l->rebuild = r;
	r += l->n_rebuild++;
	memset(r, 0, sizeof(*r));
	r->container = container;
	r->generation = generation;
	r->due_ns = due;
}

static bool being_rebuilt(const struct live *l, uint64_t container)
{
	for (size_t i = 0; i < l->n_rebuild; i++)
		if (l->rebuild[i].container == container)
			return true;
	return false;
}

/* Something is mapped there already: say where. */
static void map_over(struct live *l, const struct pfnw_ev_ledger *e, const struct ledger_dma *d,
		     const struct ledger_piece *piece, uint32_t n)
{
	uint64_t iova = e->iova;

	for (uint32_t i = 0; i < n; i++) {
		int64_t over = ledger_map(l->ledger, d, iova, piece[i].pfn, piece[i].pages);

		if (over > 0)
			l->ops.overlap(l->ops.ctx, e, iova, over);
		if (over < 0)
			ask_rebuild(l, e->container, e->generation, clock_ns() + REBUILD_NS);
		iova += piece[i].pages * PAGE_BYTES;
	}
}

static void map_runs(struct live *l, const struct pfnw_ev_ledger *e)
{
	struct ledger_dma d = { .domain = e->h.domain,
				.container = e->container,
				.iova = e->dma_iova,
				.va = e->dma_va,
				.mm = e->h.mm,
				.since_ns = e->h.ts_ns,
				.prot = e->prot,
				.tgid = e->h.tgid,
				.group = e->h.group };
	struct ledger_piece piece[PFNW_LEDGER_RUNS];
	uint32_t n = e->n < PFNW_LEDGER_RUNS ? e->n : PFNW_LEDGER_RUNS;
	/*
	 * While it is read from the kernel, a record may repeat what was read. A whole call's
	 * comes when its lock is gone, and repeats what another thread read or attached.
	 */
	bool may_repeat = l->settling || l->session->whole;
	uint64_t pages = 0;

	memcpy(d.comm, e->h.comm, sizeof(d.comm));
	for (uint32_t i = 0; i < n; i++) {
		piece[i].pfn = e->run[i] & PFNW_RUN_PFN;
		piece[i].pages = (e->run[i] >> PFNW_RUN_PAGES_SHIFT) + 1;
		pages += piece[i].pages;
	}
	if (may_repeat || !ledger_any(l->ledger, e->h.domain, e->iova, pages)) {
		if (ledger_map_pieces(l->ledger, &d, e->iova, piece, n) < 0)
			ask_rebuild(l, e->container, e->generation, clock_ns() + REBUILD_NS);
	} else {
		map_over(l, e, &d, piece, n);
	}
	ledger_unmap(l->stale, e->h.domain, e->iova, pages);
}

/* A record of runs that is being made of a table. */
struct table_part {
	struct live *live;
	struct pfnw_ev_ledger record;
};

static void run_of_table(void *ctx, uint64_t iova, uint64_t pfn, uint64_t pages)
{
	struct table_part *t = ctx;
	struct pfnw_ev_ledger *e = &t->record;

	if (e->n == PFNW_LEDGER_RUNS) {
		map_runs(t->live, e);
		e->n = 0;
	}
	if (!e->n)
		e->iova = iova;
	e->run[e->n++] = pfn | (pages - 1) << PFNW_RUN_PAGES_SHIFT;
}

/* Raw entries of a table. */
static void map_table(struct live *l, const struct pfnw_ev_ledger *e, size_t bytes)
{
	struct table_part t = { .live = l, .record = *e };
	const __u64 *raw = (const __u64 *)((const char *)e + offsetof(struct pfnw_ev_ledger, run));
	size_t n = (bytes - offsetof(struct pfnw_ev_ledger, run)) / sizeof(*raw);

	if (e->kind >= PFNW_IOMMU_KINDS || n > PFNW_TABLE_ENTRIES || e->n > n) {
		l->count.unread++;
		return;
	}
	t.record.op = PFNW_LEDGER_MAP;
	t.record.n = 0;
	t.record.n_pages = 0;
	live_table_runs(&l->session->io_fmt[e->kind], e->iova, raw, e->n, run_of_table, &t);
	if (t.record.n)
		map_runs(l, &t.record);
}

static bool exits(const struct live *l, uint64_t mm)
{
	for (size_t i = 0; i < l->n_dirty; i++)
		if (l->dirty[i].mm == mm && l->dirty[i].fn == PFNW_CHANGE_EXIT)
			return true;
	return false;
}

/*
 * @run is about to be unmapped. What took pages away from it before, and waits to be looked
 * at, is found nowhere any more: whether a device reached the old frames nobody can say.
 */
static void note_late(struct live *l, const struct ledger_run *run, uint64_t when_ns)
{
	uint64_t va = run->va, end = va + run->pages * PAGE_BYTES;

	/* all of it goes, and the container with it; or nobody knows since when it is mapped */
	if (exits(l, run->dma->mm) || !run->dma->since_ns)
		return;
	for (size_t i = 0; i < l->n_dirty; i++) {
		struct dirty *d = &l->dirty[i];
		bool takes = d->fn == PFNW_CHANGE_ZAP || d->fn == PFNW_CHANGE_ZAP_HUGETLB ||
			     d->fn == PFNW_CHANGE_MOVE;
		uint64_t lo = d->start > va ? d->start : va, hi = d->end < end ? d->end : end;

		/* which changes there were nobody knows */
		if (!d->mm && d->since_ns && !d->late) {
			d->late = true;
			l->count.late++;
		}
		if (!takes || d->late || d->mm != run->dma->mm || lo >= hi ||
		    d->since_ns > when_ns || d->since_ns < run->dma->since_ns ||
		    ledger_any(l->stale, run->dma->domain, run->iova + (lo - va),
			       (hi - lo) / PAGE_BYTES))
			continue;
		d->late = true;
		l->count.late++;
	}
}

static void unmap_runs(struct live *l, const struct pfnw_ev_ledger *e)
{
	struct ledger_cursor k;
	struct ledger_run run;

	l->unmapped += ledger_any(l->ledger, e->h.domain, e->iova, e->n_pages);
	ledger_seek(&k, e->h.domain, e->iova, e->n_pages);
	while (l->n_dirty && ledger_next(l->ledger, &k, &run))
		note_late(l, &run, e->h.ts_ns);
	ledger_unmap(l->ledger, e->h.domain, e->iova, e->n_pages);
	ledger_unmap(l->stale, e->h.domain, e->iova, e->n_pages);
	ledger_unmap(l->wrong, e->h.domain, e->iova, e->n_pages);
}

static void keep_domains(struct live *l, const struct pfnw_ev_ledger *e)
{
	struct ledger_domain_cursor c = { 0 };
	uint64_t *gone = NULL;
	size_t n = 0;

	while (ledger_next_domain(l->ledger, &c)) {
		struct ledger_cursor k;
		struct ledger_run run;
		bool there = false;
		uint64_t *p;

		ledger_seek(&k, c.domain, 0, LEDGER_ALL);
		if (!ledger_next(l->ledger, &k, &run) || run.dma->container != e->container)
			continue;
		for (uint32_t i = 0; i < e->n && i < PFNW_LEDGER_RUNS; i++)
			there |= e->run[i] == c.domain;
		if (there)
			continue;
		p = realloc(gone, (n + 1) * sizeof(*p));
		if (!p)
			break;
		gone = p;
		gone[n++] = c.domain;
	}
	for (size_t i = 0; i < n; i++) {
		ledger_drop_domain(l->ledger, gone[i]);
		ledger_drop_domain(l->stale, gone[i]);
		ledger_drop_domain(l->wrong, gone[i]);
	}
	free(gone);
}

static void drop_container(struct live *l, uint64_t container)
{
	struct ledger_domain_cursor c = { 0 };

	/* what is in there came without its container */
	while (ledger_next_domain(l->ledger, &c)) {
		struct ledger_cursor k;
		struct ledger_run run;

		ledger_seek(&k, c.domain, 0, LEDGER_ALL);
		if (ledger_next(l->ledger, &k, &run) && run.dma->container == container)
			ledger_drop_domain(l->wrong, c.domain);
	}
	ledger_drop_container(l->ledger, container);
	ledger_drop_container(l->stale, container);
}

static void apply(void *ctx, uint64_t container, uint64_t generation, uint64_t seq,
		  const void *record, size_t bytes)
{
	const struct pfnw_ev_ledger *e = record;
	struct live *l = ctx;

	(void)generation;
	(void)seq;
	switch (e->op) {
	case PFNW_LEDGER_MAP:
		map_runs(l, e);
		break;
	case PFNW_LEDGER_TABLE:
		map_table(l, e, bytes);
		break;
	case PFNW_LEDGER_UNMAP:
		unmap_runs(l, e);
		break;
	case PFNW_LEDGER_DOMAINS:
		keep_domains(l, e);
		break;
	case PFNW_LEDGER_GONE:
		l->unmapped++;
		drop_container(l, container);
		ledger_order_forget(l->order, container);
		break;
	}
}

static void lost(void *ctx, uint64_t container, uint64_t generation)
{
	struct live *l = ctx;

	l->count.losses++;
	ask_rebuild(l, container, generation, clock_ns());
}

static void renewed(void *ctx, uint64_t container, uint64_t old_generation, uint64_t generation)
{
	struct live *l = ctx;

	(void)old_generation;
	(void)generation;
	drop_container(l, container);
}

void live_ledger(struct live *l, const struct pfnw_ev_ledger *e, size_t bytes)
{
	/* number 0: the container could not be told from others */
	if (!e->seq) {
		l->count.losses++;
		ask_rebuild(l, e->container, e->generation, clock_ns());
		return;
	}
	l->settling = being_rebuilt(l, e->container);
	ledger_order_push(l->order, e, bytes, e->container, e->generation, e->seq, clock_ns());
	l->settling = false;
}

static bool state_of(struct live *l, uint64_t container, struct pfnw_container *s)
{
	return session_container(l->session, container, s);
}

void live_lost_records(struct live *l, uint64_t lost_so_far)
{
	int fd = bpf_map__fd(l->session->skel->maps.containers);
	uint64_t container, *prev = NULL, key;
	struct pfnw_container s;

	if (lost_so_far == l->lost_records)
		return;
	l->lost_records = lost_so_far;
	while (!bpf_map_get_next_key(fd, prev, &container)) {
		key = container;
		prev = &key;
		if (!state_of(l, container, &s) || being_rebuilt(l, container) ||
		    s.seq < ledger_order_next(l->order, container))
			continue;
		l->count.losses++;
		ask_rebuild(l, container, s.generation, clock_ns());
	}
}

/* The container as it is known by its identity only. 0, or -1: it is gone. */
static int look_up(struct live *l, uint64_t container, struct audit_container *k,
		   struct pfnw_container *s)
{
	memset(k, 0, sizeof(*k));
	if (!state_of(l, container, s))
		return -1;
	k->container = container;
	k->generation = s->generation;
	k->fd = -1;
	return audit_read_domains(l->session, k);
}

enum since { SINCE_QUIET, SINCE_BUSY, SINCE_GONE };

/*
 * Was anything mapped or unmapped in @k since look_up() found @before? That happens under
 * the container's lock, and gets a number there. (Calls that began and ended could be
 * counted, too, but an end may go unseen.)
 */
static enum since since_then(struct live *l, const struct audit_container *k,
			     const struct pfnw_container *before)
{
	struct pfnw_container after;
	struct audit_container now;

	if (look_up(l, k->container, &now, &after) || after.generation != before->generation)
		return SINCE_GONE;
	/* (its number may have been read before it was seen to be held no more) */
	if (l->session->whole && after.begun != after.ended)
		return SINCE_BUSY; /* what a call has mapped is told when it is over */
	if (k->held || now.held || after.seq != before->seq || !state_of(l, k->container, &after) ||
	    after.seq != before->seq)
		return SINCE_BUSY;
	return SINCE_QUIET;
}

/* Read the ledger of a container anew. false: not now, or not for good. */
static bool rebuild_one(struct live *l, struct rebuild *r)
{
	struct pfnw_container before;
	struct audit_container k;
	enum since since;

	if (look_up(l, r->container, &k, &before)) {
		/* gone, or without a domain: then it has nothing mapped */
		drop_container(l, r->container);
		if (!state_of(l, r->container, &before))
			ledger_order_forget(l->order, r->container);
		return true;
	}
	ledger_drop_container(l->ledger, r->container);
	if (audit_read_ledger(l->session, &k, l->ledger, NULL))
		return false;
	since = since_then(l, &k, &before);
	if (since == SINCE_GONE)
		return false;
	if (since == SINCE_BUSY && r->tries++ < BUSY_TRIES)
		return false;
	/*
	 * Records up to before.seq are in what was read. What came since is applied to it;
	 * some of that was read, too: applying it twice changes nothing. But where somebody is
	 * busy all the time, a record that has its number already may tell of what comes after
	 * it, too (an unmap of several vfio_dmas is one): that is for the time being.
	 */
	l->settling = since == SINCE_BUSY;
	if (ledger_order_resync(l->order, r->container, before.generation, before.seq) == -ESTALE) {
		l->settling = false;
		return false;
	}
	l->settling = false;
	l->count.rebuilds++;
	return since == SINCE_QUIET;
}

/* The longer somebody is busy, the longer it takes until the next try. */
static unsigned int later(const struct rebuild *r)
{
	int more = r->tries - BUSY_TRIES;

	return more < 0 ? 0 : more > 6 ? 6 : more;
}

static void rebuild_due(struct live *l, uint64_t now)
{
	for (size_t i = 0; i < l->n_rebuild;) {
		struct rebuild *r = &l->rebuild[i];

		if (r->due_ns > now) {
			i++;
		} else if (rebuild_one(l, r)) {
			l->rebuild[i] = l->rebuild[--l->n_rebuild];
		} else {
			r->due_ns = now + (REBUILD_NS << later(r));
			i++;
		}
	}
}

/* ---- what goes stale ---- */

static bool same_stack(const struct dirty *d, const struct pfnw_ev_change *e)
{
	return d->n_stack == e->n_stack &&
	       !memcmp(d->stack, e->stack, e->n_stack * sizeof(*d->stack));
}

/* No room for another range that waits: everything waits. */
static void all_is_dirty(struct live *l)
{
	struct dirty *d = &l->dirty[l->n_dirty - 1];

	d->start = 0;
	d->end = ~0ULL;
	d->mm = 0;
}

static bool look_at_dirty(struct live *l, const struct dirty *x);

/*
 * Most of them, where so many wait, are of what was unmapped before: that is soon done.
 * @told_ns: up to then all records are known.
 */
static void look_early(struct live *l, uint64_t told_ns)
{
	for (size_t i = 0; i < l->n_dirty;) {
		struct dirty x = l->dirty[i];

		if (x.last_ns + EARLY_NS > told_ns || x.fn == PFNW_CHANGE_EXIT ||
		    !look_at_dirty(l, &x)) {
			i++;
			continue;
		}
		if (x.fn == PFNW_CHANGE_MOVE)
			l->moved[l->n_moved++ % 16] = x;
		l->dirty[i] = l->dirty[--l->n_dirty];
	}
}

static const char *function_at(void *ctx, uint64_t addr)
{
	uint64_t offset;

	return ksyms_at(ctx, addr, &offset);
}

static uint8_t kind_of(const struct live *l, const struct pfnw_ev_change *e)
{
	if (e->fn != PFNW_CHANGE_NOTIFIED && e->fn != PFNW_CHANGE_NOTIFIED_WITHIN)
		return e->fn;
	return change_kind(e->stack, e->n_stack, function_at, l->session->hooks.ksyms);
}

void live_change(struct live *l, const struct pfnw_ev_change *e)
{
	struct dirty *d;
	uint64_t now = clock_ns();
	uint8_t fn = kind_of(l, e);

	l->count.changes++;
	for (size_t i = l->n_dirty; i-- > 0 && i + JOIN >= l->n_dirty;) {
		d = &l->dirty[i];
		if (d->mm != e->h.mm || d->fn != fn || d->start > e->end || e->start > d->end ||
		    !same_stack(d, e))
			continue;
		/* the same once more, or next to it: one look for both */
		if (e->start < d->start)
			d->start = e->start;
		if (e->end > d->end)
			d->end = e->end;
		if (!d->since_ns)
			d->since_ns = e->h.ts_ns;
		if (e->h.ts_ns > d->last_ns)
			d->last_ns = e->h.ts_ns;
		return;
	}
	if (l->n_dirty >= MAX_DIRTY)
		look_early(l, e->h.ts_ns);
	if (l->n_dirty >= MAX_DIRTY) {
		all_is_dirty(l);
		return;
	}
	if (l->n_dirty == l->room_dirty) {
		size_t room = l->room_dirty ? 2 * l->room_dirty : 64;

		d = realloc(l->dirty, room * sizeof(*d));
		if (!d) {
			if (l->n_dirty)
				all_is_dirty(l);
			else
				l->count.late++;
			return;
		}
		l->dirty = d;
		l->room_dirty = room;
	}
	d = &l->dirty[l->n_dirty++];
	d->mm = e->h.mm;
	d->start = e->start;
	d->end = e->end;
	d->fn = fn;
	d->late = false;
	d->since_ns = d->last_ns = e->h.ts_ns;
	d->due_ns = now + (fn == PFNW_CHANGE_EXIT ? EXIT_NS : SETTLE_NS);
	d->n_stack = e->n_stack;
	memcpy(d->stack, e->stack, sizeof(d->stack));
}

void live_look_again(struct live *l)
{
	struct pfnw_ev_change all = { .start = 0, .end = ~0ULL };

	live_change(l, &all);
}

void live_lost_changes(struct live *l, uint64_t lost_so_far)
{
	struct pfnw_ev_change all = { .h.ts_ns = clock_ns(), .start = 0, .end = ~0ULL };

	if (lost_so_far != l->lost_changes) {
		live_change(l, &all);
		/* what was lost may have been under that */
		l->count.late += !!l->unmapped;
	}
	l->lost_changes = lost_so_far;
	l->unmapped = 0;
}

/* Then all that is mapped in it was seen when it was mapped, also where the ledger was read anew. */
static bool began_empty(struct live *l, uint64_t container)
{
	struct pfnw_container s;

	return state_of(l, container, &s) && s.was_empty;
}

static void tell(struct live *l, const struct audit_finding *f)
{
	struct audit_counts *c = &l->told;
	struct ledger_run run;
	uint64_t iova = f->dma->iova + f->odd.off_pages * PAGE_BYTES;

	if (f->j.verdict == V_STALE) {
		c->told_stale += f->odd.n_pages;
		if (!(l->audit.break_on & 1u << stale_severity(f->j.how)))
			c->tolerated += f->odd.n_pages;
	} else if (f->j.verdict == V_MISMATCH) {
		c->told_mismatch += f->odd.n_pages;
		for (int i = 0; i < PFNW_RULES; i++)
			if (f->j.rules & 1u << i)
				c->rule[i] += f->odd.n_pages;
	}
	/* (not in the ledger any more: it was unmapped since, and was seen when mapped) */
	if ((f->j.verdict == V_STALE || f->j.verdict == V_MISMATCH) &&
	    ledger_find(l->ledger, f->domain->domain, iova, &run) && !run.dma->since_ns &&
	    !began_empty(l, f->container->container))
		c->told_before += f->odd.n_pages;
	if (f->j.how) {
		c->stale_by[f->j.how] += f->odd.n_pages;
		c->severity[stale_severity(f->j.how)] += f->odd.n_pages;
	}
	l->ops.found(l->ops.ctx, f);
}

/*
 * The change to name, of all that wait to be looked at: the first that took the page
 * away. A fault only brings another frame where something did that, and mremap() zaps
 * what it has moved away before.
 */
static const struct dirty *who_did_it(const struct live *l, uint64_t mm, uint64_t va)
{
	/* what was before it was mapped is only named when nothing else can be */
	bool early = l->cause && l->cause->since_ns < l->mapped_ns;
	const struct dirty *best = early ? NULL : l->cause;

	for (size_t i = 0; i < l->n_dirty + 16; i++) {
		const struct dirty *d = i < 16 ? &l->moved[i] : &l->dirty[i - 16];
		bool takes = d->fn && d->fn < PFNW_CHANGE_PROT, better;

		if (d->mm != mm || !d->fn || d->start > va || va >= d->end)
			continue;
		/* long ago, or before it was mapped, is another story */
		if ((l->cause && d->since_ns + MOVE_NS < l->cause->since_ns) ||
		    d->since_ns < l->mapped_ns)
			continue;
		if (!best || !best->fn)
			better = true;
		else if (takes != (best->fn < PFNW_CHANGE_PROT))
			better = takes;
		else
			better = d->since_ns < best->since_ns;
		if (better)
			best = d;
	}
	return best ? best : l->cause;
}

static uint8_t change_of(void *ctx, uint64_t mm, uint64_t va)
{
	const struct dirty *d = who_did_it(ctx, mm, va);

	return d ? d->fn : 0;
}

void live_wrong(struct live *l, uint64_t domain, uint64_t iova)
{
	struct ledger_dma d = { .domain = domain };

	ledger_map(l->wrong, &d, iova, iova / PAGE_BYTES, 1);
}

bool live_is_wrong(const struct live *l, uint64_t domain, uint64_t iova)
{
	struct ledger_run run;

	return ledger_find(l->wrong, domain, iova, &run);
}

/* Is @iova in @told, in the case @how (NULL: in any)? *@n: of how many pages that is true. */
static bool was_told(const struct ledger *told, uint64_t domain, uint64_t iova, const uint32_t *how,
		     uint64_t *n)
{
	struct ledger_cursor c;
	struct ledger_run run;

	ledger_seek(&c, domain, iova, *n);
	if (!ledger_next(told, &c, &run))
		return false;
	if (run.iova > iova) {
		*n = (run.iova - iova) / PAGE_BYTES;
		return false;
	}
	*n = run.pages;
	/* stale is stale, by whatever name; only what was narrowed may become it */
	return !how || run.dma->prot == *how || run.dma->prot != STALE_NARROWED;
}

/* A page that was told already, here or when it was mapped, is not told again. */
static void on_found(void *ctx, const struct audit_finding *f)
{
	struct audit_finding g = *f;
	struct live *l = ctx;
	uint64_t at = f->odd.off_pages, end = at + f->odd.n_pages;
	struct ledger_dma d = { .domain = f->domain->domain,
				.container = f->container->container,
				.iova = f->dma->iova,
				.prot = f->j.how };

	if (f->j.verdict == V_RACED) {
		l->again = true; /* not in peace: later */
		return;
	}
	/* it exits right now: its files may follow, and that it exited is looked at later */
	if (f->j.how == STALE_OWNER_GONE && l->cause && l->cause->fn &&
	    l->cause->fn != PFNW_CHANGE_EXIT)
		return;
	if (l->cause) {
		const struct dirty *x =
			who_did_it(l, f->dma->mm, f->dma->va + f->odd.off_pages * PAGE_BYTES);

		g.change_ns = x->since_ns;
		g.stack = x->stack;
		g.n_stack = x->n_stack;
	}
	while (at < end) {
		uint64_t iova = f->dma->iova + at * PAGE_BYTES, n = end - at;

		if (was_told(l->wrong, d.domain, iova, NULL, &n) ||
		    was_told(l->stale, d.domain, iova, &d.prot, &n)) {
			at += n;
			continue;
		}
		ledger_map(l->stale, &d, iova, iova / PAGE_BYTES, n);
		g.odd.off_pages = at;
		g.odd.n_pages = n;
		tell(l, &g);
		at += n;
	}
}

/* Compare what of @d's VAs is mapped. false: look again later. */
static bool look_at(struct live *l, const struct ledger_dma *led, uint64_t start, uint64_t end)
{
	struct pfnw_container s;
	struct audit_container k;
	struct pfnw_dma *d;
	uint64_t lo, hi;
	bool more, done = true;
	size_t n;

	if (look_up(l, led->container, &k, &s))
		return true; /* gone, and its mappings with it */
	d = calloc(PFNW_LIST_DMAS, sizeof(*d));
	if (!d || audit_list_dmas(l->session, &k, led->iova, d, &n, &more) || !n ||
	    d->iova != led->iova || d->va != led->va || !d->mapped)
		goto out; /* unmapped meanwhile */
	if (d->leaving) {
		done = false; /* it is about to close its files */
		goto out;
	}
	lo = start > d->va ? start - d->va : 0;
	hi = end - d->va < d->bytes ? end - d->va : d->bytes;
	if (end <= d->va || lo >= hi)
		goto out;
	l->count.looks++;
	l->mapped_ns = led->since_ns;
	audit_range(&l->audit, &k, d, lo / PAGE_BYTES,
		    (hi + PAGE_BYTES - 1) / PAGE_BYTES - lo / PAGE_BYTES);
out:
	free(d);
	return done;
}

/* false: keep it for later. */
static bool look_at_dirty(struct live *l, const struct dirty *x)
{
	const struct ledger_dma *d = NULL;
	struct ledger_dma at;
	bool done = true;

	l->cause = x;
	l->again = false;
	/* (a copy: the look may not keep the entry alive) */
	while ((d = x->mm ? ledger_next_va(l->ledger, x->mm, x->start, x->end - x->start,
					   d ? &at : NULL) :
			    ledger_next_dma(l->ledger, d ? &at : NULL))) {
		at = *d;
		if (!look_at(l, &at, x->start, x->end))
			done = false;
	}
	l->cause = NULL;
	return done && !l->again;
}

void live_tick(struct live *l, bool all)
{
	uint64_t now = clock_ns();

	ledger_order_tick(l->order, now);
	rebuild_due(l, all ? ~0ULL : now);
	for (size_t i = 0; i < l->n_dirty;) {
		struct dirty x = l->dirty[i];

		if (x.due_ns > now && !all) {
			i++;
			continue;
		}
		/* looked at a copy: what comes meanwhile makes a new entry */
		l->dirty[i] = l->dirty[--l->n_dirty];
		/* the zap that follows a move may be found first to have left something */
		if (x.fn == PFNW_CHANGE_MOVE)
			l->moved[l->n_moved++ % 16] = x;
		if (look_at_dirty(l, &x) && (all || x.last_ns + EARLY_NS <= now))
			continue;
		/* not done, or what the last to join has changed may not be in the ledger yet */
		x.due_ns = now + SETTLE_NS;
		if (all || l->n_dirty >= l->room_dirty) {
			l->count.pending++;
			continue;
		}
		l->dirty[l->n_dirty++] = x;
		i++;
	}
}

/* ---- begin and end ---- */

bool live_settled(const struct live *l)
{
	struct ledger_order_stats s;

	ledger_order_stats(l->order, &s);
	return !l->n_rebuild && !s.out_of_order && !s.kept_records;
}

struct live *live_new(struct session *s, const struct live_ops *ops, uint32_t break_on)
{
	struct live *l = calloc(1, sizeof(*l));
	struct ledger_order_config c = { .max_records = 65536,
					 .max_bytes = 32 << 20,
					 .max_age_ns = 200000000ULL,
					 .max_memory = 64 << 20,
					 .ctx = l,
					 .apply = apply,
					 .lost = lost,
					 .renewed = renewed };
	uint64_t seed[2] = { 0 };

	if (!l)
		return NULL;
	if (getrandom(seed, sizeof(seed), 0) < 0)
		seed[0] = clock_ns();
	l->session = s;
	l->ops = *ops;
	l->ledger = ledger_new(seed[0], 0);
	l->stale = ledger_new(seed[1], 0);
	l->wrong = ledger_new(seed[1], 0);
	l->order = ledger_order_new(&c);
	l->audit.session = s;
	l->audit.break_on = break_on;
	l->audit.ctx = l;
	l->audit.found = on_found;
	l->audit.change_of = change_of;
	if (!l->ledger || !l->stale || !l->wrong || !l->order) {
		live_free(l);
		return NULL;
	}
	return l;
}

void live_free(struct live *l)
{
	if (!l)
		return;
	ledger_free(l->ledger);
	ledger_free(l->stale);
	ledger_free(l->wrong);
	ledger_order_free(l->order);
	free(l->dirty);
	free(l->rebuild);
	free(l);
}

int live_begin(struct live *l, int group)
{
	struct audit_container *list;
	size_t n;
	int ret = audit_find(l->session, 0, group, &list, &n);

	if (ret)
		return ret;
	for (size_t i = 0; i < n; i++)
		ask_rebuild(l, list[i].container, list[i].generation, 0);
	/* while they are held, they cannot be others */
	rebuild_due(l, ~0ULL);
	audit_release(list, n);
	return EXIT_PROVEN;
}

static bool on_drift(void *ctx, const struct ledger_difference *d)
{
	if (getenv("PFNWATCH_DEBUG"))
		fprintf(stderr, "drift: iova 0x%llx %llu pages, ledger %d kernel %d\n",
			(unsigned long long)d->iova, (unsigned long long)d->pages, d->in_a,
			d->in_b);
	(void)ctx;
	return true;
}

/* One container, as it is in the kernel, into @kernel. What moves is taken out of both. */
static void compare_one(struct live *l, struct ledger *kernel, uint64_t container)
{
	struct pfnw_container before;
	struct audit_container k;

	if (look_up(l, container, &k, &before)) {
		ledger_drop_container(l->ledger, container);
		return;
	}
	for (int tries = 0; tries < COMPARE_TRIES; tries++) {
		if (!audit_read_ledger(l->session, &k, kernel, NULL) &&
		    since_then(l, &k, &before) == SINCE_QUIET &&
		    !ledger_order_out_of_order(l->order, container))
			return;
		ledger_drop_container(kernel, container);
		usleep(10 * 1000);
		session_consume(l->session);
		live_tick(l, true);
		if (look_up(l, container, &k, &before))
			break;
	}
	ledger_drop_container(l->ledger, container);
	if (state_of(l, container, &before))
		l->count.unread++;
}

/* Is only a part of what happens looked at? Then containers may be unknown to the ledger. */
static bool scoped(const struct session *s)
{
	return s->skel->rodata->scope_pids || s->skel->rodata->scope_comm ||
	       s->skel->rodata->scope_group != PFNW_NO_GROUP;
}

/* The next container to compare; 0: none. */
static uint64_t next_container(struct live *l, struct ledger_domain_cursor *c, uint64_t *key)
{
	struct ledger_cursor at;
	struct ledger_run run;

	if (!scoped(l->session)) {
		int fd = bpf_map__fd(l->session->skel->maps.containers);

		return bpf_map_get_next_key(fd, *key ? key : NULL, key) ? 0 : *key;
	}
	while (ledger_next_domain(l->ledger, c)) {
		ledger_seek(&at, c->domain, 0, LEDGER_ALL);
		if (ledger_next(l->ledger, &at, &run))
			return run.dma->container;
	}
	return 0;
}

void live_compare(struct live *l)
{
	struct ledger_domain_cursor c = { 0 };
	struct ledger *kernel = ledger_new(clock_ns(), 0);
	uint64_t *list = NULL, *p, container, key = 0;
	struct ledger_totals t;
	size_t n = 0;

	if (!kernel)
		return;
	/* (the list first: comparing changes what is gone through) */
	while ((container = next_container(l, &c, &key))) {
		bool known = false;

		for (size_t i = 0; i < n; i++)
			known |= list[i] == container;
		if (known)
			continue;
		p = realloc(list, (n + 1) * sizeof(*p));
		if (!p) {
			l->count.unread++;
			break;
		}
		list = p;
		list[n++] = container;
	}
	for (size_t i = 0; i < n; i++)
		compare_one(l, kernel, list[i]);
	ledger_totals(kernel, &t);
	l->count.compared_pages += t.pages;
	l->count.drift_pages += ledger_diff(l->ledger, kernel, LEDGER_CMP_RW, on_drift, NULL);
	ledger_free(kernel);
	free(list);
}

void live_counts(const struct live *l, struct live_counts *c)
{
	struct ledger_totals t;

	*c = l->count;
	c->audit = l->told;
	c->audit.dmas_changed = l->audit.count.dmas_changed;
	ledger_totals(l->ledger, &t);
	c->runs = t.runs;
	c->pages = t.pages;
	c->dmas = t.dmas;
	c->bytes = ledger_bytes(l->ledger);
	c->pending += l->n_dirty;
}
