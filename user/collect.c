// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "collect.h"
#include "pagemap.h"
#include "pfnwatch.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_BYTES 4096ULL
#define VM_PFNMAP 0x400ULL
#define HOLD_NS 40000000ULL /* a run may grow for so long before it is shown */

static bool wanted(const struct collector *c, enum verdict v)
{
	return !c->opt.only || c->opt.only & 1u << v;
}

void collector_init(struct collector *c, struct session *s, const struct collect_options *o,
		    struct sink **sinks, int n)
{
	memset(c, 0, sizeof(*c));
	c->session = s;
	c->opt = *o;
	c->sink = sinks;
	c->n_sinks = n;
}

static void show_open(struct collector *c, struct open_run *o)
{
	for (int i = 0; i < c->n_sinks; i++) {
		if (o->diff)
			c->sink[i]->ops->diff(c->sink[i], &o->first);
		else
			c->sink[i]->ops->run(c->sink[i], &o->run);
	}
	o->used = false;
}

void collector_flush(struct collector *c, uint64_t now)
{
	/* oldest first, so that lines come in the order of what they speak of */
	for (;;) {
		struct open_run *old = NULL;

		for (int i = 0; i < OPEN_RUNS; i++)
			if (c->open[i].used && (!old || c->open[i].first_ns < old->first_ns))
				old = &c->open[i];
		if (!old || (now != ~0ULL && now - old->first_ns < HOLD_NS))
			return;
		show_open(c, old);
	}
}

static struct open_run *slot_of(struct collector *c, uint32_t tid)
{
	struct open_run *unused = NULL;

	for (int i = 0; i < OPEN_RUNS; i++) {
		if (c->open[i].used && c->open[i].run.hdr.tid == tid)
			return &c->open[i];
		if (!c->open[i].used && !unused)
			unused = &c->open[i];
	}
	if (!unused) {
		unused = &c->open[0];
		show_open(c, unused);
	}
	return unused;
}

/* Contiguous pages of equal verdict are one line. */
static void add_run(struct collector *c, const struct show_run *r)
{
	struct open_run *o;

	if (!c->opt.show_runs || !wanted(c, r->verdict))
		return;
	o = slot_of(c, r->hdr.tid);
	if (o->used && !o->diff && o->run.verdict == r->verdict && o->run.cause == r->cause &&
	    o->run.prot == r->prot && o->run.hdr.domain == r->hdr.domain &&
	    o->run.iova + o->run.n_pages * PAGE_BYTES == r->iova &&
	    o->run.va + o->run.n_pages * PAGE_BYTES == r->va) {
		o->run.n_pages += r->n_pages;
		o->run.n_maps += r->n_maps;
		return;
	}
	if (o->used)
		show_open(c, o);
	o->used = true;
	o->diff = false;
	o->run = *r;
	o->first_ns = r->hdr.ts_ns;
}

/*
 * May @d be told in one breath with the difference before it? A mismatch only
 * where both sides advance together, the same error page after page: otherwise
 * each page shows its own evidence. Of the rest the verdict is all that counts.
 */
static bool goes_on(const struct open_run *o, const struct show_diff *d)
{
	const struct show_diff *f = &o->first;
	uint64_t off = f->n_pages * PAGE_BYTES;

	if (!o->used || !o->diff || f->j.verdict != d->j.verdict || f->j.cause != d->j.cause ||
	    f->j.rules != d->j.rules || f->d.at != d->d.at || f->d.h.domain != d->d.h.domain ||
	    f->d.prot != d->d.prot || f->d.va + off != d->d.va ||
	    (d->d.at == PFNW_AT_MAP && f->d.iova + off != d->d.iova))
		return false;
	if (d->j.verdict != V_MISMATCH)
		return true;
	return f->d.pfn + f->n_pages == d->d.pfn && f->j.walk.valid == d->j.walk.valid &&
	       (!d->j.walk.valid || f->j.walk.pfn + f->n_pages == d->j.walk.pfn);
}

static void add_diff(struct collector *c, const struct show_diff *d)
{
	struct open_run *o;

	if (!wanted(c, d->j.verdict))
		return;
	o = slot_of(c, d->d.h.tid);
	if (goes_on(o, d)) {
		o->first.n_pages++;
		return;
	}
	if (o->used)
		show_open(c, o);
	o->used = true;
	o->diff = true;
	o->run.hdr = d->d.h;
	o->first = *d;
	o->first_ns = d->d.h.ts_ns;
}

static void second_look(struct collector *c, const struct pfnw_ev_diff *d, struct evidence *e)
{
	struct pfnw_rewalk r = { .mm = d->h.mm, .va = d->va };
	uint64_t pfn = 0;

	r.change_seq = d->change_seq;
	r.change_fin = d->change_fin;
	if (!session_rewalk(c->session, &r) && !r.gone) {
		e->walked_again = true;
		e->again = r.walk;
	}
	if (d->vma.valid && d->vma.flags & VM_PFNMAP)
		return; /* pagemap does not speak of these */
	switch (pagemap_ask(d->h.tgid, d->va, &pfn)) {
	case PAGEMAP_PFN:
		e->asked_pagemap = true;
		e->pagemap_pfn = pfn;
		break;
	case PAGEMAP_ABSENT:
		e->asked_pagemap = true;
		break;
	case PAGEMAP_NONE:
		break;
	}
}

static void on_diff(struct collector *c, const struct pfnw_ev_diff *d)
{
	struct show_diff s = { .d = *d, .n_pages = 1 };
	struct evidence *e = &s.e;

	e->va = d->va;
	e->pfn = d->pfn;
	e->prot = d->prot;
	e->dma_prot = d->dma_prot;
	e->kernel_rules = d->rules;
	e->moved = d->moved;
	e->exact = (d->pfnmap && d->snap.locked) || d->snap.claimed;
	e->snap = d->snap;
	e->walk = d->walk;
	if (d->at == PFNW_AT_MAP)
		e->io = d->io;
	second_look(c, d, e);
	s.j = judge_page(&c->session->fmt, c->session->io_fmt, e);
	/* The history of changes has a hole: it accuses nobody. */
	if (s.j.verdict == V_MISMATCH && e->moved == PFNW_STOOD &&
	    session_missed_changes(c->session, d->h.ts_ns)) {
		e->moved = PFNW_UNKNOWN;
		s.j = judge_page(&c->session->fmt, c->session->io_fmt, e);
	}
	/* The programs' comparison in bulk and the raw entries must agree. */
	if (d->at == PFNW_AT_MAP && d->rules & PFNW_RULE_IOMMU && !(s.j.rules & PFNW_RULE_IOMMU) &&
	    d->io.status != PFNW_WALK_FAULT)
		c->disagreements++;
	if (d->at == PFNW_AT_MAP) {
		c->diffs++;
		c->by_verdict[s.j.verdict]++;
		if (s.j.verdict == V_MISMATCH && c->live)
			live_wrong(c->live, d->h.domain, d->iova);
		if (s.j.verdict == V_UNVERIFIED || s.j.verdict == V_RACED)
			c->by_cause[s.j.cause]++;
	} else {
		c->claim_diffs++;
		c->claim_verdict[s.j.verdict]++;
		if (d->at == PFNW_AT_PIN && (s.j.verdict == V_RACED || s.j.verdict == V_UNVERIFIED))
			c->pin_doubts++;
	}
	/* a page counts once: at its mapping, but for what only a claim can show */
	if (s.j.verdict == V_MISMATCH)
		for (int i = 0; i < PFNW_RULES; i++)
			if (s.j.rules & 1u << i &&
			    (d->at == PFNW_AT_MAP || 1u << i == PFNW_RULE_NOT_RESERVED))
				c->rule[i]++;
	if (s.j.verdict != V_MATCH) {
		add_diff(c, &s);
		return;
	}
	if (d->at == PFNW_AT_MAP) {
		struct show_run r = { .hdr = d->h,
				      .verdict = V_MATCH,
				      .iova = d->iova,
				      .va = d->va,
				      .n_pages = 1,
				      .n_maps = 1,
				      .prot = d->prot };

		add_run(c, &r);
	}
}

/* What the judge makes of the first page of a claim or a mapping that is shown. */
static struct judgement judge_shown(struct collector *c, const struct pfnw_hdr *h, uint64_t va,
				    uint64_t pfn, uint32_t prot, const struct pfnw_leaf *snap,
				    const struct pfnw_walk *walk, bool *asked, uint64_t *pm)
{
	struct evidence e = { .va = va & ~(PAGE_BYTES - 1),
			      .pfn = pfn,
			      .prot = prot,
			      .dma_prot = prot,
			      .moved = PFNW_UNKNOWN,
			      .snap = *snap,
			      .walk = *walk };
	struct judgement j;

	*pm = 0;
	switch (pagemap_ask(h->tgid, e.va, pm)) {
	case PAGEMAP_PFN:
	case PAGEMAP_ABSENT:
		*asked = true;
		break;
	case PAGEMAP_NONE:
		*asked = false;
	}
	j = judge_page(&c->session->fmt, NULL, &e);
	if (j.verdict != V_MATCH) {
		struct pfnw_rewalk r = { .mm = h->mm, .va = e.va };

		if (!session_rewalk(c->session, &r) && !r.gone) {
			e.walked_again = true;
			e.again = r.walk;
			j = judge_page(&c->session->fmt, NULL, &e);
		}
	}
	return j;
}

static void on_map(struct collector *c, const struct pfnw_ev_map *m)
{
	struct show_map s = { .m = m, .j = { .verdict = V_UNVERIFIED, .cause = CAUSE_DMA } };

	if (!m->ret && !m->internal && m->va) {
		s.j = judge_shown(c, &m->h, m->va, m->pa >> PFNW_PAGE_SHIFT, m->prot, &m->snap,
				  &m->walk, &s.asked_pagemap, &s.pagemap_pfn);
		/* The programs called all of it equal and the raw entries say no. */
		if (s.j.verdict != V_MATCH && m->match_pages == m->bytes / PAGE_BYTES &&
		    m->snap.level)
			c->disagreements++;
	}
	if (c->opt.show_maps)
		for (int i = 0; i < c->n_sinks; i++)
			c->sink[i]->ops->map(c->sink[i], &s);
	if (!m->ret && !m->internal && m->match_pages == m->bytes / PAGE_BYTES) {
		struct show_run r = { .hdr = m->h,
				      .verdict = V_MATCH,
				      .iova = m->iova,
				      .va = m->va,
				      .n_pages = m->match_pages,
				      .n_maps = 1,
				      .prot = m->prot };

		add_run(c, &r);
	}
}

static void on_claim(struct collector *c, const struct pfnw_ev_claim *k)
{
	struct show_claim s = { .c = k };

	if (k->ret > 0)
		s.j = judge_shown(c, &k->h, k->va, k->pfn, k->prot, &k->snap, &k->walk,
				  &s.asked_pagemap, &s.pagemap_pfn);
	if (c->opt.show_claims)
		for (int i = 0; i < c->n_sinks; i++)
			c->sink[i]->ops->claim(c->sink[i], &s);
}

static void on_breach(struct collector *c, const struct pfnw_ev_breach *b)
{
	struct show_breach s = { .b = b, .io = judge_iowalk(c->session->io_fmt, &b->io) };

	/* what was wrong as it was mapped is found again beside an unmap, or by the kernel's asking */
	if (b->rule & (PFNW_RULE_IOMMU | PFNW_RULE_PA_ZERO) && c->live &&
	    live_is_wrong(c->live, b->h.domain, b->iova)) {
		c->breaches_again++;
		return;
	}
	c->breaches++;
	for (int i = 0; i < PFNW_RULES; i++)
		if (b->rule & 1u << i)
			c->rule[i] += b->pages;
	for (int i = 0; i < c->n_sinks; i++)
		c->sink[i]->ops->breach(c->sink[i], &s);
}

int collector_record(void *ctx, void *record, size_t bytes)
{
	static const size_t size[] = {
		[PFNW_EV_RUN] = sizeof(struct pfnw_ev_run),
		[PFNW_EV_DIFF] = sizeof(struct pfnw_ev_diff),
		[PFNW_EV_CLAIM] = sizeof(struct pfnw_ev_claim),
		[PFNW_EV_MAP] = sizeof(struct pfnw_ev_map),
		[PFNW_EV_UNMAP] = sizeof(struct pfnw_ev_unmap),
		[PFNW_EV_BREACH] = sizeof(struct pfnw_ev_breach),
		[PFNW_EV_LEDGER] = offsetof(struct pfnw_ev_ledger, run),
		[PFNW_EV_CHANGE] = sizeof(struct pfnw_ev_change),
		[PFNW_EV_USED] = sizeof(struct pfnw_hdr),
	};
	struct collector *c = ctx;
	const struct pfnw_hdr *h = record;

	c->records++;
	if (bytes < sizeof(*h) || h->abi != PFNW_ABI || h->type < PFNW_EV_RUN ||
	    h->type > PFNW_EV_LAST || bytes < size[h->type]) {
		c->disagreements++;
		return 0;
	}
	switch (h->type) {
	case PFNW_EV_RUN: {
		const struct pfnw_ev_run *e = record;
		struct show_run r = { .hdr = e->h,
				      .verdict = V_MATCH,
				      .iova = e->iova,
				      .va = e->va,
				      .n_pages = e->n_pages,
				      .n_maps = e->n_maps,
				      .prot = e->prot };

		add_run(c, &r);
		break;
	}
	case PFNW_EV_DIFF:
		on_diff(c, record);
		break;
	case PFNW_EV_CLAIM:
		on_claim(c, record);
		break;
	case PFNW_EV_MAP:
		on_map(c, record);
		break;
	case PFNW_EV_UNMAP:
		if (c->opt.show_maps)
			for (int i = 0; i < c->n_sinks; i++)
				c->sink[i]->ops->unmap(c->sink[i], record);
		break;
	case PFNW_EV_BREACH:
		on_breach(c, record);
		break;
	case PFNW_EV_LEDGER:
		if (c->live)
			live_ledger(c->live, record, bytes);
		break;
	case PFNW_EV_CHANGE:
		if (c->live)
			live_change(c->live, record);
		break;
	case PFNW_EV_USED:
		break; /* it has woken us */
	}
	return 0;
}

void collector_found(void *ctx, const struct audit_finding *f)
{
	struct collector *c = ctx;

	if (!wanted(c, f->j.verdict))
		return;
	for (int i = 0; i < c->n_sinks; i++)
		c->sink[i]->ops->finding(c->sink[i], f);
}

void collector_overlap(void *ctx, const struct pfnw_ev_ledger *e, uint64_t iova, uint64_t pages)
{
	struct pfnw_ev_breach b = { .h = e->h,
				    .rule = PFNW_RULE_OVERLAP,
				    .iova = iova,
				    .bytes = pages * PAGE_BYTES,
				    .pages = pages,
				    .dma_iova = e->dma_iova,
				    .dma_va = e->dma_va };
	struct collector *c = ctx;

	c->overlaps += pages;
	on_breach(c, &b);
}

static void doubt(struct summary *s, uint64_t n, const char *what)
{
	size_t used = strlen(s->doubt);

	if (!n)
		return;
	s->doubts += n;
	snprintf(s->doubt + used, sizeof(s->doubt) - used, "%s%" PRIu64 " %s", used ? ", " : "", n,
		 what);
}

/* What was found when page tables changed under what is mapped. */
static void add_live(struct collector *c, struct summary *s)
{
	struct pages *p = &s->pages;
	struct audit_counts *a = &s->live.audit;
	uint64_t was;

	live_counts(c->live, &s->live);
	p->stale += a->told_stale;
	p->mismatch += a->told_mismatch;
	/* each was a match when it was mapped, or was not seen then */
	p->seen += a->told_before;
	was = a->told_stale + a->told_mismatch - a->told_before;
	if (was <= p->match) {
		p->match -= was;
	} else {
		/* mapped again since the look: the page went stale more than once */
		p->seen += was - p->match;
		p->match = 0;
	}
}

void collector_summary(struct collector *c, struct summary *s)
{
	uint64_t k[PFNW_S_MAX], accounted, unv;
	struct pages counted;
	struct pages *p = &s->pages;

	session_stats(c->session, k);
	p->match = k[PFNW_S_MATCH] - k[PFNW_S_LOST_MATCH] + c->by_verdict[V_MATCH];
	p->mismatch = c->by_verdict[V_MISMATCH];
	p->stale = c->by_verdict[V_STALE];
	p->raced = c->by_verdict[V_RACED] + k[PFNW_S_DISTURBED];
	unv = k[PFNW_S_UNV_CONTEXT] + k[PFNW_S_UNV_DMA] + k[PFNW_S_UNV_FAULT];
	p->unverified = unv + c->by_verdict[V_UNVERIFIED];
	p->lost = k[PFNW_S_LOST_MATCH] + k[PFNW_S_LOST_DIFF];
	/* sent, and never seen here: lost, whatever the reason */
	if (k[PFNW_S_SENT_DIFF] > c->diffs)
		p->lost += k[PFNW_S_SENT_DIFF] - c->diffs;
	/* pages of a finished call that only the second count knows of */
	p->lost += k[PFNW_S_LOST_COUNT];
	p->seen = k[PFNW_S_SEEN] + k[PFNW_S_LOST_COUNT];
	accounted = p->match + p->mismatch + p->stale + p->raced + p->unverified + p->lost;
	if (accounted < p->seen)
		p->lost += p->seen - accounted;

	memset(s->unverified_by, 0, sizeof(s->unverified_by));
	memset(s->raced_by, 0, sizeof(s->raced_by));
	s->raced_by[CAUSE_CHANGED] = c->by_cause[CAUSE_CHANGED];
	s->raced_by[CAUSE_UNKNOWN_CHANGES] = c->by_cause[CAUSE_UNKNOWN_CHANGES];
	s->raced_by[CAUSE_BUSY] = k[PFNW_S_DISTURBED];
	s->unverified_by[CAUSE_NOT_PRESENT] = c->by_cause[CAUSE_NOT_PRESENT];
	s->unverified_by[CAUSE_WITNESSES] = c->by_cause[CAUSE_WITNESSES];
	s->unverified_by[CAUSE_FAULT] = c->by_cause[CAUSE_FAULT] + k[PFNW_S_UNV_FAULT];
	s->unverified_by[CAUSE_CONTEXT] = k[PFNW_S_UNV_CONTEXT];
	s->unverified_by[CAUSE_DMA] = k[PFNW_S_UNV_DMA];
	memcpy(s->rule, c->rule, sizeof(s->rule));

	s->whole = c->session->whole;
	s->maps = k[PFNW_S_MAPS];
	s->maps_failed = k[PFNW_S_MAPS_FAILED];
	s->maps_internal = k[PFNW_S_MAPS_INTERNAL];
	s->maps_other = k[PFNW_S_MAPS_OTHER];
	/* both counts without the kernel's own test mappings */
	s->tp_maps = k[PFNW_S_TP_MAPS] - k[PFNW_S_MAPS_INTERNAL];
	s->tp_pages = k[PFNW_S_TP_PAGES] - k[PFNW_S_INTERNAL_PAGES];
	s->unmaps = k[PFNW_S_UNMAPS];
	s->unmap_pages = k[PFNW_S_UNMAP_PAGES];
	s->tp_unmaps = k[PFNW_S_TP_UNMAPS];
	s->tp_unmap_pages = k[PFNW_S_TP_UNMAP_PAGES];
	s->claims = k[PFNW_S_CLAIMS];
	s->claims_failed = k[PFNW_S_CLAIMS_FAILED];
	s->claim_pages = k[PFNW_S_CLAIM_PAGES];
	s->claim_match = k[PFNW_S_CLAIM_MATCH] + c->claim_verdict[V_MATCH];
	s->claim_mismatch = c->claim_verdict[V_MISMATCH];
	s->claim_raced = c->claim_verdict[V_RACED];
	s->claim_unverified = k[PFNW_S_CLAIM_UNV] + c->claim_verdict[V_UNVERIFIED];
	s->claim_lost = k[PFNW_S_CLAIM_LOST_DIFF];
	if (k[PFNW_S_CLAIM_SENT_DIFF] > c->claim_diffs)
		s->claim_lost += k[PFNW_S_CLAIM_SENT_DIFF] - c->claim_diffs;
	s->claim_locked = k[PFNW_S_CLAIM_LOCKED];
	s->linear = k[PFNW_S_LINEAR];
	s->linear_wrong = k[PFNW_S_LINEAR_WRONG];
	s->breaches = k[PFNW_S_BREACHES] - c->breaches_again + c->overlaps;
	s->has_live = c->live;
	if (c->live)
		add_live(c, s);
	s->installed = k[PFNW_S_IO_PAGES];
	s->io_unknown = k[PFNW_S_IO_UNKNOWN];
	s->teardown_pages = k[PFNW_S_TEARDOWN_PAGES];
	s->phys_witness = k[PFNW_S_PHYS_WITNESS];
	s->dmas_checked = k[PFNW_S_DMA_CHECKED];
	s->lost_records = k[PFNW_S_LOST_RECORDS];
	s->missed_programs = session_missed(c->session);
	s->contexts_full = k[PFNW_S_CONTEXTS_FULL];
	s->changes = k[PFNW_S_CHANGES];
	s->changes_by = c->session->changes_attached;
	s->hooks = &c->session->hooks;
	s->empty = !p->seen;

	s->doubts = 0;
	s->doubt[0] = 0;
	doubt(s, s->lost_records, "records lost");
	doubt(s, s->claim_lost, "claimed pages lost");
	doubt(s, k[PFNW_S_SPILL_FULL], "container calls without a context");
	doubt(s, k[PFNW_S_PIN_UNV] + c->pin_doubts, "pages pinned for an mdev unverified or raced");
	doubt(s, k[PFNW_S_SCOPE_FULL], "processes or containers perhaps left out of scope");
	doubt(s, s->missed_programs, "program runs skipped by the kernel");
	doubt(s, s->io_unknown, "pages whose IOMMU table cannot be read");
	doubt(s, c->disagreements, "records the judge could not confirm");
	if (c->live) {
		doubt(s, s->live.unread, "containers whose ledger could not be read");
		doubt(s, s->live.drift_pages, "pages in which ledger and kernel differ");
		doubt(s, s->live.pending, "changes that could not be looked at");
		doubt(s, s->live.late,
		      "changes under what was unmapped before they could be "
		      "looked at");
	}
	counted = *p;
	counted.stale -= s->live.audit.tolerated;
	counted.match += s->live.audit.tolerated;
	s->conclusion = judge_run(&counted, s->claim_mismatch + s->breaches, s->doubts);
}
