// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * JSON lines, described in docs/json.md; "v" changes when a member changes its
 * meaning or goes. Addresses and PFNs are strings "0x...", for JSON numbers are
 * doubles to most readers.
 */
#include "json_put.h"
#include "ls.h"
#include "pfnwatch.h"
#include "watch.h"

#include <string.h>

static void put_hdr(struct json_object *o, const struct pfnw_hdr *h)
{
	struct json_object *p = json_object_new_object();
	char comm[PFNW_COMM + 1], dev[32];

	num(o, "ts_ns", h->ts_ns);
	num(p, "pid", h->tgid);
	num(p, "tid", h->tid);
	str(p, "comm", comm_text(h, comm));
	sub(o, "process", p);
	if (h->group >= 0) {
		num(o, "group", h->group);
		str(o, "device", group_device(h->group, dev, sizeof(dev)));
	} else {
		sub(o, "group", NULL);
		sub(o, "device", NULL);
	}
	hex(o, "domain", h->domain);
}

static struct json_object *walk_json(const struct pfnw_walk *w, const struct frame *f)
{
	static const char *const status[] = { "none", "leaf", "not-present", "unreadable" };
	struct json_object *o, *entries;

	if (w->status == PFNW_WALK_UNREAD)
		return NULL;
	o = json_object_new_object();
	str(o, "status", status[w->status & 3]);
	num(o, "levels", w->top);
	num(o, "leaf_level", w->leaf);
	entries = json_object_new_array();
	for (int l = w->top; l >= 1 && l >= w->leaf; l--) {
		struct json_object *e = json_object_new_object();

		num(e, "level", l);
		hex(e, "entry", w->entry[l - 1]);
		json_object_array_add(entries, e);
	}
	sub(o, "entries", entries);
	if (f->valid) {
		hex(o, "pfn", f->pfn);
		flag(o, "writable", f->writable);
	} else {
		sub(o, "pfn", NULL);
	}
	return o;
}

static struct json_object *iowalk_json(const struct pfnw_iowalk *w, const struct io_frame *f)
{
	static const char *const status[] = { "none", "leaf", "not-present", "unreadable" };
	struct json_object *o, *entries;

	if (w->status == PFNW_WALK_UNREAD)
		return NULL;
	o = json_object_new_object();
	str(o, "format", io_kind_name(w->kind));
	str(o, "status", status[w->status & 3]);
	if (w->kind == PFNW_IOMMU_VIRTIO && w->status == PFNW_WALK_LEAF) {
		hex(o, "first_iova", w->entry[0]);
		hex(o, "last_iova", w->entry[1]);
		hex(o, "pa", w->entry[2]);
		hex(o, "flags", w->entry[3]);
	} else if (w->kind != PFNW_IOMMU_VIRTIO) {
		num(o, "levels", w->top);
		num(o, "leaf_level", w->leaf);
		entries = json_object_new_array();
		for (int l = w->top; l >= 1 && l >= w->leaf; l--) {
			struct json_object *e = json_object_new_object();

			num(e, "level", l);
			hex(e, "entry", w->entry[l - 1]);
			json_object_array_add(entries, e);
		}
		sub(o, "entries", entries);
	}
	if (f->valid) {
		hex(o, "pfn", f->pfn);
		str(o, "rights", prot_text(f->rights));
		num(o, "leaf_bytes", f->bytes);
	} else {
		sub(o, "pfn", NULL);
	}
	return o;
}

static struct json_object *leaf_json(const struct pfnw_leaf *l, const struct frame *f)
{
	struct json_object *o;

	if (!l->level)
		return NULL;
	o = json_object_new_object();
	num(o, "level", l->level);
	hex(o, "entry", l->entry);
	flag(o, "locked", l->locked);
	if (f->valid)
		hex(o, "pfn", f->pfn);
	else
		sub(o, "pfn", NULL);
	return o;
}

static struct json_object *vma_json(const struct pfnw_vma *v)
{
	struct json_object *o;

	if (!v->valid)
		return NULL;
	o = json_object_new_object();
	hex(o, "start", v->start);
	hex(o, "end", v->end);
	hex(o, "flags", v->flags);
	hex(o, "pgoff", v->pgoff);
	return o;
}

static struct json_object *rules_json(uint32_t rules)
{
	struct json_object *a = json_object_new_array();
	char buf[32];

	for (int i = 0; i < PFNW_RULES; i++)
		if (rules & 1u << i)
			json_object_array_add(
				a, json_object_new_string(rules_text(1u << i, buf, sizeof(buf))));
	return a;
}

static void put_pagemap(struct json_object *o, bool asked, uint64_t pfn)
{
	if (asked)
		hex(o, "pagemap_pfn", pfn);
	else
		sub(o, "pagemap_pfn", NULL);
}

static void json_run(struct sink *s, const struct show_run *r)
{
	struct json_object *o = record("run");

	put_hdr(o, &r->hdr);
	str(o, "verdict", verdict_name(r->verdict));
	hex(o, "iova", r->iova);
	hex(o, "va", r->va);
	num(o, "pages", r->n_pages);
	num(o, "maps", r->n_maps);
	str(o, "prot", prot_text(r->prot));
	emit(s, o);
}

static struct json_object *causes_json(const uint64_t *by);

static struct json_object *stack_json(struct sink *s, const __u64 *stack, uint32_t n)
{
	struct json_object *a = json_object_new_array();

	for (uint32_t i = 0; i < n && i < PFNW_STACK; i++) {
		uint64_t off = 0;
		const char *name = stack_symbol(s, stack[i], &off);
		char buf[160];

		if (!name)
			continue;
		snprintf(buf, sizeof(buf), "%.120s+0x%" PRIx64, name, off);
		json_object_array_add(a, json_object_new_string(buf));
	}
	return a;
}

static void put_evidence(struct sink *s, struct json_object *o, const struct show_diff *x)
{
	const struct pfnw_ev_diff *d = &x->d;
	struct json_object *claim = json_object_new_object();

	hex(claim, "va", d->claim_va);
	hex(claim, "pfn", d->claim_pfn);
	flag(claim, "pfnmap", d->pfnmap);
	sub(o, "claim", claim);
	sub(o, "cpu_walk", walk_json(&d->walk, &x->j.walk));
	sub(o, "at_claim", leaf_json(&d->snap, &x->j.snap));
	if (d->at == PFNW_AT_MAP)
		sub(o, "iommu_walk", iowalk_json(&d->io, &x->j.io));
	sub(o, "walked_again", x->e.walked_again ? walk_json(&x->e.again, &x->j.again) : NULL);
	put_pagemap(o, x->e.asked_pagemap, x->e.pagemap_pfn);
	sub(o, "vma", vma_json(&d->vma));
	if (d->vma.valid)
		hex(o, "linear_pfn", judge_linear_pfn(&d->vma, d->va));
	else
		sub(o, "linear_pfn", NULL);
	if (d->at == PFNW_AT_MAP) {
		struct json_object *m = json_object_new_object(), *dma = json_object_new_object();

		hex(m, "iova", d->map_iova);
		hex(m, "pa", d->map_pa);
		num(m, "bytes", d->map_bytes);
		sub(o, "map", m);
		hex(dma, "iova", d->dma_iova);
		hex(dma, "va", d->dma_va);
		str(dma, "prot", prot_text(d->dma_prot));
		sub(o, "dma", dma);
	}
	sub(o, "stack", stack_json(s, d->stack, d->n_stack));
}

static void json_diff(struct sink *s, const struct show_diff *x)
{
	static const char *const moved[] = { "no", "yes", "unknown" };
	const struct pfnw_ev_diff *d = &x->d;
	struct json_object *o = record(verdict_name(x->j.verdict));

	put_hdr(o, &d->h);
	str(o, "at", d->at == PFNW_AT_MAP ? "map" : "claim");
	if (d->at == PFNW_AT_MAP)
		hex(o, "iova", d->iova);
	hex(o, "va", d->va);
	num(o, "pages", x->n_pages);
	hex(o, "pfn", d->pfn);
	if (x->j.walk.valid || x->j.snap.valid)
		hex(o, "table_pfn", x->j.walk.valid ? x->j.walk.pfn : x->j.snap.pfn);
	else
		sub(o, "table_pfn", NULL);
	str(o, "prot", prot_text(d->prot));
	sub(o, "rules", rules_json(x->j.rules));
	if (x->j.cause)
		str(o, "cause", cause_name(x->j.cause));
	str(o, "tables_moved", moved[d->moved < 3 ? d->moved : 2]);
	put_evidence(s, o, x);
	emit(s, o);
}

static void json_map(struct sink *s, const struct show_map *x)
{
	const struct pfnw_ev_map *m = x->m;
	struct json_object *o = record("map");

	put_hdr(o, &m->h);
	hex(o, "iova", m->iova);
	hex(o, "pa", m->pa);
	num(o, "bytes", m->bytes);
	num(o, "pages", m->bytes >> PFNW_PAGE_SHIFT);
	str(o, "prot", prot_text(m->prot));
	sub(o, "ret", json_object_new_int(m->ret));
	flag(o, "internal", m->internal);
	if (!m->ret && !m->internal) {
		hex(o, "va", m->va);
		num(o, "match", m->match_pages);
		num(o, "differ", m->diff_pages);
		num(o, "unverified", m->unverified_pages);
		sub(o, "cpu_walk", walk_json(&m->walk, &x->j.walk));
		sub(o, "at_claim", leaf_json(&m->snap, &x->j.snap));
		put_pagemap(o, x->asked_pagemap, x->pagemap_pfn);
		str(o, "first_page", verdict_name(x->j.verdict));
	}
	emit(s, o);
}

static void json_claim(struct sink *s, const struct show_claim *x)
{
	const struct pfnw_ev_claim *c = x->c;
	struct json_object *o = record("claim");

	put_hdr(o, &c->h);
	hex(o, "va", c->va);
	sub(o, "ret", json_object_new_int64(c->ret));
	num(o, "asked", c->asked_pages);
	num(o, "latency_ns", c->latency_ns);
	str(o, "prot", prot_text(c->prot));
	flag(o, "pfnmap", c->pfnmap);
	sub(o, "vma", vma_json(&c->vma));
	if (c->ret > 0) {
		hex(o, "pfn", c->pfn);
		num(o, "pages", c->ret);
		num(o, "match", c->match_pages);
		num(o, "differ", c->diff_pages);
		if (c->pfnmap)
			str(o, "reserved",
			    c->reserved == 1 ? "yes" :
			    c->reserved	     ? "unknown" :
					       "no");
		if (c->pfnmap && c->vma.valid)
			hex(o, "linear_pfn", judge_linear_pfn(&c->vma, c->va));
		sub(o, "cpu_walk", walk_json(&c->walk, &x->j.walk));
		sub(o, "at_claim", leaf_json(&c->snap, &x->j.snap));
		put_pagemap(o, x->asked_pagemap, x->pagemap_pfn);
		str(o, "first_page", verdict_name(x->j.verdict));
	}
	emit(s, o);
}

static void json_unmap(struct sink *s, const struct pfnw_ev_unmap *u)
{
	struct json_object *o = record("unmap");

	put_hdr(o, &u->h);
	hex(o, "iova", u->iova);
	num(o, "bytes", u->bytes);
	num(o, "unmapped_bytes", u->unmapped);
	emit(s, o);
}

static void json_breach(struct sink *s, const struct show_breach *x)
{
	const struct pfnw_ev_breach *b = x->b;
	struct json_object *o = record("breach");
	char buf[32];

	put_hdr(o, &b->h);
	str(o, "rule", rules_text(b->rule, buf, sizeof(buf)));
	hex(o, "iova", b->iova);
	num(o, "pages", b->pages);
	num(o, "bytes", b->bytes);
	if (b->rule == PFNW_RULE_SHORT_UNMAP)
		num(o, "unmapped_bytes", b->done);
	else if (b->rule & (PFNW_RULE_IOMMU | PFNW_RULE_PA_ZERO) && b->done != PFNW_NOT_ASKED)
		hex(o, "iova_to_phys", b->done);
	sub(o, "iommu_walk", iowalk_json(&b->io, &x->io));
	if (b->dma_bytes) {
		struct json_object *dma = json_object_new_object();

		hex(dma, "iova", b->dma_iova);
		hex(dma, "va", b->dma_va);
		num(dma, "bytes", b->dma_bytes);
		sub(o, "dma", dma);
	}
	sub(o, "stack", stack_json(s, b->stack, b->n_stack));
	emit(s, o);
}

static void json_finding(struct sink *s, const struct audit_finding *f)
{
	const struct pfnw_dma *d = f->dma;
	uint64_t off = f->odd.off_pages * 4096;
	bool narrowed = f->j.verdict == V_MATCH;
	struct pfnw_hdr h = { .tgid = d->tgid, .tid = d->tgid, .group = f->domain->group };
	struct json_object *o = record(narrowed ? "narrowed" : verdict_name(f->j.verdict)), *q;

	h.domain = f->domain->domain;
	h.ts_ns = now_ns();
	memcpy(h.comm, d->comm, sizeof(h.comm));
	put_hdr(o, &h);
	str(o, "at", "audit");
	hex(o, "container", f->container->container);
	hex(o, "iova", d->iova + off);
	hex(o, "va", d->va + off);
	num(o, "pages", f->odd.n_pages);
	if (f->j.how) {
		str(o, "case", stale_name(f->j.how));
		str(o, "severity", severity_name(stale_severity(f->j.how)));
	}
	sub(o, "rules", rules_json(f->j.rules));
	if (f->j.cause)
		str(o, "cause", cause_name(f->j.cause));
	q = json_object_new_object();
	str(q, "format", io_kind_name(f->domain->kind));
	num(q, "level", f->odd.io_level);
	hex(q, "entry", f->odd.io_entry);
	if (f->odd.differs & (PFNW_D_IO_NONE | PFNW_D_IO_FAULT)) {
		sub(q, "pfn", NULL);
	} else {
		hex(q, "pfn", f->odd.io_pa >> PFNW_PAGE_SHIFT);
		str(q, "rights", prot_text(f->odd.io_rights));
	}
	sub(o, "iommu", q);
	q = json_object_new_object();
	num(q, "level", f->odd.cpu_level);
	hex(q, "entry", f->odd.cpu_entry);
	if (f->odd.differs & (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY | PFNW_D_CPU_FAULT))
		sub(q, "pfn", NULL);
	else
		hex(q, "pfn",
		    cpu_leaf_pfn(s->fmt, f->odd.cpu_level, f->odd.cpu_entry, d->va + off));
	sub(o, "cpu", q);
	sub(o, "vma", f->e.vma_asked ? vma_json(&f->e.vma.vma) : NULL);
	q = json_object_new_object();
	hex(q, "iova", d->iova);
	hex(q, "va", d->va);
	num(q, "bytes", d->bytes);
	str(q, "prot", prot_text(d->prot));
	sub(o, "dma", q);
	if (f->change_ns)
		num(o, "change_ns", f->change_ns);
	if (f->n_stack)
		sub(o, "stack", stack_json(s, f->stack, f->n_stack));
	emit(s, o);
}

static struct json_object *pages_json(const struct pages *x)
{
	struct json_object *p = json_object_new_object();

	num(p, "seen", x->seen);
	num(p, "match", x->match);
	num(p, "mismatch", x->mismatch);
	num(p, "stale", x->stale);
	num(p, "raced", x->raced);
	num(p, "unverified", x->unverified);
	num(p, "lost", x->lost);
	return p;
}

static struct json_object *rule_counts_json(const uint64_t *rule)
{
	struct json_object *q = json_object_new_object();
	char name[32];

	for (int i = 0; i < PFNW_RULES; i++)
		num(q, rules_text(1u << i, name, sizeof(name)), rule[i]);
	return q;
}

static struct json_object *stale_json(const struct audit_counts *c)
{
	struct json_object *q = json_object_new_object();

	for (int i = 1; i < STALE_CASES; i++)
		if (c->stale_by[i])
			num(q, stale_name(i), c->stale_by[i]);
	return q;
}

static void json_audited(struct sink *s, const struct audit_summary *a)
{
	const struct audit_counts *c = &a->count;
	struct json_object *o = record("audit"), *q = json_object_new_object();

	num(o, "round", a->round);
	str(o, "conclusion", conclusion_name(a->conclusion));
	sub(o, "pages", pages_json(&c->pages));
	sub(o, "raced_by", causes_json(c->raced_by));
	sub(o, "unverified_by", causes_json(c->unverified_by));
	sub(o, "stale_by", stale_json(c));
	for (int i = 0; i < SEVERITIES; i++)
		num(q, severity_name(i), c->severity[i]);
	sub(o, "severity", q);
	num(o, "tolerated", c->tolerated);
	sub(o, "rules", rule_counts_json(c->rule));
	num(o, "in_file", c->in_file);
	num(o, "containers", c->containers);
	num(o, "containers_gone", c->gone);
	num(o, "domains", c->domains);
	num(o, "dmas", c->dmas);
	num(o, "dmas_changed", c->dmas_changed);
	num(o, "emulated_pages", c->emulated_pages);
	flag(o, "interrupted", a->interrupted);
	num(o, "duration_ns", a->duration_ns);
	num(o, "exit_code", a->exit_code);
	emit(s, o);
}

static void json_error(struct sink *s, const char *message, int exit_code)
{
	struct json_object *o = record("error");

	str(o, "message", message);
	num(o, "exit_code", exit_code);
	emit(s, o);
}

static struct json_object *causes_json(const uint64_t *by)
{
	struct json_object *o = json_object_new_object();

	for (int i = 0; i < CAUSES; i++)
		if (by[i])
			num(o, cause_name(i), by[i]);
	return o;
}

static struct json_object *hooks_json(const struct hooks *h)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < h->n; i++) {
		const struct hook *k = &h->hook[i];
		struct json_object *o;

		if ((!k->chosen && hooks_slot(h, k->slot)) || k->left_out)
			continue;
		o = json_object_new_object();
		str(o, "hook", k->slot);
		str(o, "function", k->func);
		flag(o, "attached", k->chosen);
		if (k->chosen) {
			str(o, "rung", rung_name(k->rung));
		} else {
			str(o, "why", k->why);
			str(o, "uncovered", k->uncovered);
		}
		json_object_array_add(a, o);
	}
	return a;
}

/* Of the tracepoint. Whole calls have none: VFIO itself says how much it has mapped. */
static void second_count(struct json_object *o, const struct summary *x, uint64_t calls,
			 uint64_t pages)
{
	if (x->whole) {
		json_object_object_add(o, "second_count_calls", NULL);
		json_object_object_add(o, "second_count_pages", NULL);
		return;
	}
	num(o, "second_count_calls", calls);
	num(o, "second_count_pages", pages);
}

static struct json_object *sights_json(unsigned int sights)
{
	struct json_object *a = json_object_new_array();

	if (sights & PFNW_SIGHT_HOOKS)
		json_object_array_add(a, json_object_new_string("hooks"));
	if (sights & PFNW_SIGHT_NOTIFIER)
		json_object_array_add(a, json_object_new_string("notifiers"));
	return a;
}

static void json_conclusion(struct sink *s, const struct summary *x)
{
	struct json_object *o = record("conclusion"), *q;

	str(o, "conclusion", conclusion_name(x->conclusion));
	str(o, "mode", x->whole ? "whole" : "steps");
	sub(o, "pages", pages_json(&x->pages));
	sub(o, "raced_by", causes_json(x->raced_by));
	sub(o, "unverified_by", causes_json(x->unverified_by));
	sub(o, "rules", rule_counts_json(x->rule));
	q = json_object_new_object();
	num(q, "calls", x->claims);
	num(q, "failed", x->claims_failed);
	num(q, "pages", x->claim_pages);
	num(q, "match", x->claim_match);
	num(q, "mismatch", x->claim_mismatch);
	num(q, "raced", x->claim_raced);
	num(q, "unverified", x->claim_unverified);
	num(q, "lost", x->claim_lost);
	num(q, "locked", x->claim_locked);
	sub(o, "claims", q);
	q = json_object_new_object();
	num(q, "pfnmap_claims", x->linear);
	num(q, "would_be_wrong", x->linear_wrong);
	sub(o, "linear", q);
	q = json_object_new_object();
	num(q, "calls", x->maps);
	num(q, "failed", x->maps_failed);
	num(q, "internal", x->maps_internal);
	num(q, "other", x->maps_other);
	second_count(q, x, x->tp_maps, x->tp_pages);
	sub(o, "maps", q);
	q = json_object_new_object();
	num(q, "calls", x->unmaps);
	num(q, "pages", x->unmap_pages);
	second_count(q, x, x->tp_unmaps, x->tp_unmap_pages);
	sub(o, "unmaps", q);
	q = json_object_new_object();
	num(q, "pages_installed", x->installed);
	num(q, "pages_unreadable", x->io_unknown);
	num(q, "dmas_looked_for", x->dmas_checked);
	num(q, "iova_to_phys_compared", x->phys_witness);
	num(q, "teardown_pages", x->teardown_pages);
	num(q, "breaches", x->breaches);
	sub(o, "iommu", q);
	q = json_object_new_object();
	if (x->has_live) {
		num(q, "runs", x->live.runs);
		num(q, "pages", x->live.pages);
		num(q, "dmas", x->live.dmas);
		num(q, "bytes", x->live.bytes);
		num(q, "compared_pages", x->live.compared_pages);
		num(q, "differ_pages", x->live.drift_pages);
		num(q, "losses", x->live.losses);
		num(q, "read_anew", x->live.rebuilds);
		num(q, "changes", x->live.changes);
		num(q, "looks", x->live.looks);
		num(q, "late", x->live.late);
		sub(o, "ledger", q);
		sub(o, "stale_by", stale_json(&x->live.audit));
		num(o, "tolerated", x->live.audit.tolerated);
		q = json_object_new_object();
	}
	num(q, "records", x->lost_records);
	num(q, "programs_skipped", x->missed_programs);
	num(q, "contexts_full", x->contexts_full);
	sub(o, "lost", q);
	num(o, "table_changes", x->changes);
	sub(o, "table_changes_by", sights_json(x->changes_by));
	if (x->doubts)
		str(o, "doubt", x->doubt);
	num(o, "duration_ns", x->duration_ns);
	if (x->hooks)
		sub(o, "hooks", hooks_json(x->hooks));
	if (x->has_command)
		num(o, "command_status", x->command_status);
	num(o, "exit_code", x->exit_code);
	emit(s, o);
}

const struct sink_ops json_ops = {
	.run = json_run,
	.diff = json_diff,
	.map = json_map,
	.claim = json_claim,
	.unmap = json_unmap,
	.breach = json_breach,
	.finding = json_finding,
	.audited = json_audited,
	.listed = ls_json,
	.list_end = ls_json_end,
	.error = json_error,
	.conclusion = json_conclusion,
};
