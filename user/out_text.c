// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* For a person: one line per thing, hex is 0x, colours only on a terminal. */
#include "ls.h"
#include "sink.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define VM_PFNMAP 0x400ULL

#define RED "\033[31;1m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define OFF "\033[0m"

static const char *paint(const struct sink *s, const char *c)
{
	return s->color ? c : "";
}

static const char *verdict_color(enum verdict v)
{
	switch (v) {
	case V_MATCH:
		return GREEN;
	case V_MISMATCH:
	case V_STALE:
		return RED;
	default:
		return YELLOW;
	}
}

static void put(struct sink *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct sink *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (vfprintf(s->out, format, ap) < 0)
		s->failed = true;
	va_end(ap);
}

static void done(struct sink *s)
{
	if (fflush(s->out))
		s->failed = true;
}

static void who(struct sink *s, const struct pfnw_hdr *h)
{
	char comm[PFNW_COMM + 1], dev[32];

	put(s, " %s[%u]", comm_text(h, comm), h->tgid);
	if (h->group >= 0)
		put(s, " group %d %s", h->group, group_device(h->group, dev, sizeof(dev)));
}

static void stamp(struct sink *s, const struct pfnw_hdr *h)
{
	put(s, "%" PRIu64 ".%06" PRIu64 " ", (uint64_t)h->ts_ns / 1000000000,
	    (uint64_t)h->ts_ns / 1000 % 1000000);
}

static void text_run(struct sink *s, const struct show_run *r)
{
	if (s->quiet)
		return;
	stamp(s, &r->hdr);
	put(s,
	    "%s%-10s%s iova 0x%" PRIx64 " va 0x%" PRIx64 " %" PRIu64 " pages (%" PRIu64 " KiB) %s",
	    paint(s, verdict_color(r->verdict)), verdict_name(r->verdict), paint(s, OFF), r->iova,
	    r->va, r->n_pages, r->n_pages * 4, prot_text(r->prot));
	who(s, &r->hdr);
	put(s, "\n");
	done(s);
}

static void text_walk(struct sink *s, const char *what, const struct pfnw_walk *w)
{
	put(s, "    %-11s", what);
	if (w->status == PFNW_WALK_UNREAD) {
		put(s, "none\n");
		return;
	}
	for (int l = w->top; l >= 1 && l >= w->leaf; l--)
		put(s, " L%d 0x%016" PRIx64, l, (uint64_t)w->entry[l - 1]);
	put(s, "%s\n",
	    w->status == PFNW_WALK_LEAF ? "" :
	    w->status == PFNW_WALK_NONE ? " (not present)" :
					  " (unreadable)");
}

static void frame(struct sink *s, const char *what, const struct frame *f)
{
	if (f->valid)
		put(s, " %s pfn 0x%" PRIx64 " %s", what, (uint64_t)f->pfn,
		    f->writable ? "rw" : "ro");
	else
		put(s, " %s none", what);
}

static void text_iowalk(struct sink *s, const struct pfnw_iowalk *w, const struct io_frame *f)
{
	if (w->status == PFNW_WALK_UNREAD)
		return;
	put(s, "    %-11s %s", "iommu walk", io_kind_name(w->kind));
	for (int l = w->top; l >= 1 && l >= w->leaf && w->kind != PFNW_IOMMU_VIRTIO; l--)
		put(s, " L%d 0x%016" PRIx64, l, (uint64_t)w->entry[l - 1]);
	if (f->valid)
		put(s, ": pfn 0x%" PRIx64 " %s, leaf of %" PRIu64 " KiB\n", (uint64_t)f->pfn,
		    prot_text(f->rights), (uint64_t)f->bytes / 1024);
	else
		put(s, "%s\n",
		    w->status == PFNW_WALK_FAULT ? " (unreadable)" : " (translates nothing)");
}

static void text_stack(struct sink *s, const __u64 *stack, uint32_t n)
{
	if (n)
		put(s, "    %-11s", "stack");
	for (uint32_t i = 0; i < n && i < PFNW_STACK; i++) {
		uint64_t off;
		const char *name = stack_symbol(s, stack[i], &off);

		if (name)
			put(s, " %s", name);
	}
	if (n)
		put(s, "\n");
}

static void text_breach(struct sink *s, const struct show_breach *x)
{
	const struct pfnw_ev_breach *b = x->b;
	char rules[64];

	if (s->quiet)
		return;
	stamp(s, &b->h);
	put(s, "%s%-10s%s iova 0x%" PRIx64 " %" PRIu64 " page%s", paint(s, RED),
	    rules_text(b->rule, rules, sizeof(rules)), paint(s, OFF), (uint64_t)b->iova,
	    (uint64_t)b->pages, b->pages == 1 ? "" : "s");
	switch (b->rule) {
	case PFNW_RULE_SHORT_UNMAP:
		put(s, ": %" PRIu64 " KiB asked, %" PRIu64 " KiB unmapped",
		    (uint64_t)b->bytes / 1024, (uint64_t)b->done / 1024);
		break;
	case PFNW_RULE_LEAK:
		put(s, ": unmapped, and the IOMMU still translates");
		break;
	case PFNW_RULE_PA_ZERO:
		put(s, ": iommu_iova_to_phys() says 0x%" PRIx64 ", the table translates",
		    (uint64_t)b->done);
		break;
	case PFNW_RULE_IOMMU:
		if (b->done == PFNW_NOT_ASKED)
			put(s, ": VFIO has it mapped, the IOMMU does not");
		else
			put(s, ": iommu_iova_to_phys() says 0x%" PRIx64, (uint64_t)b->done);
		break;
	}
	who(s, &b->h);
	put(s, "\n");
	text_iowalk(s, &b->io, &x->io);
	text_stack(s, b->stack, b->n_stack);
	done(s);
}

static void text_diff(struct sink *s, const struct show_diff *x)
{
	const struct pfnw_ev_diff *d = &x->d;
	const struct judgement *j = &x->j;
	char rules[128];

	if (s->quiet)
		return;
	stamp(s, &d->h);
	put(s, "%s%-10s%s", paint(s, verdict_color(j->verdict)), verdict_name(j->verdict),
	    paint(s, OFF));
	if (d->at == PFNW_AT_MAP)
		put(s, " iova 0x%" PRIx64, (uint64_t)d->iova);
	else
		put(s, " claim");
	put(s, " va 0x%" PRIx64 " %" PRIu64 " page%s: %s pfn 0x%" PRIx64 ",", (uint64_t)d->va,
	    x->n_pages, x->n_pages == 1 ? "" : "s", d->at == PFNW_AT_MAP ? "mapped" : "claimed",
	    (uint64_t)d->pfn);
	frame(s, "page table says", j->walk.valid ? &j->walk : &j->snap);
	if (j->rules)
		put(s, " [%s]", rules_text(j->rules, rules, sizeof(rules)));
	if (j->cause)
		put(s, " (%s)", cause_name(j->cause));
	who(s, &d->h);
	put(s, "\n");
	if (j->verdict != V_MISMATCH) {
		done(s);
		return;
	}
	text_walk(s, "cpu walk", &d->walk);
	if (d->snap.level)
		put(s, "    %-11s L%d 0x%016" PRIx64 "%s\n", "at claim", d->snap.level,
		    (uint64_t)d->snap.entry, d->snap.locked ? " (under the lock)" : "");
	if (x->e.asked_pagemap)
		put(s, "    %-11s pfn 0x%" PRIx64 "\n", "pagemap", (uint64_t)x->e.pagemap_pfn);
	else
		put(s, "    %-11s silent (%s)\n", "pagemap",
		    d->vma.valid && d->vma.flags & VM_PFNMAP ? "PFNMAP" : "the process is gone");
	if (d->vma.valid)
		put(s,
		    "    %-11s 0x%" PRIx64 "-0x%" PRIx64 " flags 0x%" PRIx64 " pgoff 0x%" PRIx64
		    "; before 5.7: pfn 0x%" PRIx64 "\n",
		    "vma", (uint64_t)d->vma.start, (uint64_t)d->vma.end, (uint64_t)d->vma.flags,
		    (uint64_t)d->vma.pgoff, (uint64_t)judge_linear_pfn(&d->vma, d->va));
	text_iowalk(s, &d->io, &x->j.io);
	text_stack(s, d->stack, d->n_stack);
	done(s);
}

static void text_map(struct sink *s, const struct show_map *x)
{
	const struct pfnw_ev_map *m = x->m;

	if (s->quiet)
		return;
	stamp(s, &m->h);
	put(s,
	    "map        iova 0x%" PRIx64 " pa 0x%" PRIx64 " %" PRIu64 " KiB %s domain 0x%" PRIx64,
	    (uint64_t)m->iova, (uint64_t)m->pa, (uint64_t)m->bytes / 1024, prot_text(m->prot),
	    (uint64_t)m->h.domain);
	if (m->ret) {
		put(s, " failed: %d", m->ret);
	} else if (m->internal) {
		put(s, " (the kernel's own test mapping)");
	} else {
		put(s, " va 0x%" PRIx64 ",", (uint64_t)m->va);
		frame(s, "walk", &x->j.walk);
		frame(s, "at claim", &x->j.snap);
		if (x->asked_pagemap && x->pagemap_pfn)
			put(s, " pagemap pfn 0x%" PRIx64, x->pagemap_pfn);
		else if (x->asked_pagemap)
			put(s, " pagemap none");
		put(s, "; %" PRIu64 " match %" PRIu64 " differ %" PRIu64 " unverified",
		    (uint64_t)m->match_pages, (uint64_t)m->diff_pages,
		    (uint64_t)m->unverified_pages);
	}
	who(s, &m->h);
	put(s, "\n");
	done(s);
}

static void text_claim(struct sink *s, const struct show_claim *x)
{
	const struct pfnw_ev_claim *c = x->c;

	if (s->quiet)
		return;
	stamp(s, &c->h);
	put(s, "claim      va 0x%" PRIx64, (uint64_t)c->va);
	if (c->ret > 0)
		put(s, " pfn 0x%" PRIx64 " %" PRId64 " of %" PRIu64 " pages", (uint64_t)c->pfn,
		    (int64_t)c->ret, (uint64_t)c->asked_pages);
	else
		put(s, " failed: %" PRId64, (int64_t)c->ret);
	put(s, " %s%s %" PRIu64 " us", prot_text(c->prot), c->pfnmap ? " pfnmap" : "",
	    (uint64_t)c->latency_ns / 1000);
	if (c->vma.valid)
		put(s, " vma 0x%" PRIx64 "-0x%" PRIx64 " flags 0x%" PRIx64 " pgoff 0x%" PRIx64,
		    (uint64_t)c->vma.start, (uint64_t)c->vma.end, (uint64_t)c->vma.flags,
		    (uint64_t)c->vma.pgoff);
	if (c->ret > 0) {
		put(s, ",");
		frame(s, "walk", &x->j.walk);
		frame(s, c->snap.locked ? "under the lock" : "at claim", &x->j.snap);
		if (c->vma.valid && c->pfnmap)
			put(s, " before 5.7: pfn 0x%" PRIx64,
			    (uint64_t)judge_linear_pfn(&c->vma, c->va));
	}
	who(s, &c->h);
	put(s, "\n");
	done(s);
}

static void text_unmap(struct sink *s, const struct pfnw_ev_unmap *u)
{
	if (s->quiet)
		return;
	stamp(s, &u->h);
	put(s, "unmap      iova 0x%" PRIx64 " %" PRIu64 " KiB, unmapped %" PRIu64 " KiB",
	    (uint64_t)u->iova, (uint64_t)u->bytes / 1024, (uint64_t)u->unmapped / 1024);
	who(s, &u->h);
	put(s, "\n");
	done(s);
}

static void causes(struct sink *s, const uint64_t *by);
static void rules(struct sink *s, const uint64_t *rule);

static void text_finding(struct sink *s, const struct audit_finding *f)
{
	const struct pfnw_dma *d = f->dma;
	uint64_t off = f->odd.off_pages * 4096, n = f->odd.n_pages;
	struct pfnw_hdr h = { .tgid = d->tgid, .group = f->domain->group };
	char name[128];

	if (s->quiet)
		return;
	memcpy(h.comm, d->comm, sizeof(h.comm));
	put(s, "%s%-10s%s iova 0x%" PRIx64 " va 0x%" PRIx64 " %" PRIu64 " page%s",
	    paint(s, f->j.how == STALE_NARROWED ? YELLOW : verdict_color(f->j.verdict)),
	    f->j.how == STALE_NARROWED ? "narrowed" : verdict_name(f->j.verdict), paint(s, OFF),
	    (uint64_t)d->iova + off, (uint64_t)d->va + off, n, n == 1 ? "" : "s");
	if (f->j.how)
		put(s, ", %s (%s)", stale_name(f->j.how), severity_name(stale_severity(f->j.how)));
	if (f->j.rules)
		put(s, " [%s]", rules_text(f->j.rules, name, sizeof(name)));
	if (f->j.cause)
		put(s, " (%s)", cause_name(f->j.cause));
	if (f->odd.differs & PFNW_D_IO_NONE)
		put(s, ": the iommu translates nothing");
	else
		put(s, ": iommu pfn 0x%" PRIx64 " %s", (uint64_t)f->odd.io_pa >> PFNW_PAGE_SHIFT,
		    prot_text(f->odd.io_rights));
	if (f->odd.differs & (PFNW_D_CPU_NONE | PFNW_D_CPU_AWAY))
		put(s, ", va names nothing");
	else if (f->odd.differs & PFNW_D_FRAME)
		put(s, ", va pfn 0x%" PRIx64,
		    (uint64_t)cpu_leaf_pfn(s->fmt, f->odd.cpu_level, f->odd.cpu_entry,
					   d->va + off));
	who(s, &h);
	put(s, "\n");
	put(s, "    entries     cpu L%d 0x%016" PRIx64 ", iommu %s L%d 0x%016" PRIx64 "\n",
	    f->odd.cpu_level, (uint64_t)f->odd.cpu_entry, io_kind_name(f->domain->kind),
	    f->odd.io_level, (uint64_t)f->odd.io_entry);
	if (f->e.vma_asked && f->e.vma.vma.valid)
		put(s,
		    "    vma         0x%" PRIx64 "-0x%" PRIx64 " flags 0x%" PRIx64
		    " pgoff 0x%" PRIx64 "\n",
		    (uint64_t)f->e.vma.vma.start, (uint64_t)f->e.vma.vma.end,
		    (uint64_t)f->e.vma.vma.flags, (uint64_t)f->e.vma.vma.pgoff);
	else if (f->e.vma_asked)
		put(s, "    vma         none\n");
	text_stack(s, f->stack, f->n_stack);
	done(s);
}

static void cases(struct sink *s, const struct audit_counts *c)
{
	const char *sep = "  stale    ";

	for (int i = 1; i < STALE_CASES; i++) {
		if (!c->stale_by[i])
			continue;
		put(s, "%s%s %" PRIu64 " (%s)", sep, stale_name(i), c->stale_by[i],
		    severity_name(stale_severity(i)));
		sep = ", ";
	}
	if (sep[0] == ',' && c->tolerated)
		put(s, "; %" PRIu64 " tolerated", c->tolerated);
	if (sep[0] == ',')
		put(s, "\n");
}

static void text_audited(struct sink *s, const struct audit_summary *a)
{
	static const char *const color[] = { GREEN, RED, YELLOW };
	const struct audit_counts *c = &a->count;
	const struct pages *p = &c->pages;

	put(s,
	    "%s%s%s: %" PRIu64 " mismatches, %" PRIu64 " stale of %" PRIu64 " pages, %" PRIu64
	    " unverified, %" PRIu64 " lost\n",
	    paint(s, color[a->conclusion]), conclusion_name(a->conclusion), paint(s, OFF),
	    (uint64_t)p->mismatch, (uint64_t)p->stale, (uint64_t)p->seen, (uint64_t)p->unverified,
	    (uint64_t)p->lost);
	put(s,
	    "  pages    seen %" PRIu64 ": match %" PRIu64 ", mismatch %" PRIu64 ", stale %" PRIu64
	    ", raced %" PRIu64,
	    (uint64_t)p->seen, (uint64_t)p->match, (uint64_t)p->mismatch, (uint64_t)p->stale,
	    (uint64_t)p->raced);
	causes(s, c->raced_by);
	put(s, ", unverified %" PRIu64, (uint64_t)p->unverified);
	causes(s, c->unverified_by);
	put(s, "\n");
	cases(s, c);
	rules(s, c->rule);
	put(s,
	    "  audited  %" PRIu64 " containers, %" PRIu64 " domains, %" PRIu64
	    " vfio_dmas, in %" PRIu64 ".%03" PRIu64 " s\n",
	    c->containers, c->domains, c->dmas, a->duration_ns / 1000000000,
	    a->duration_ns / 1000000 % 1000);
	if (c->in_file)
		put(s,
		    "  note     %" PRIu64 " pages are not mapped just now, their file has them\n",
		    c->in_file);
	if (c->gone || c->dmas_changed)
		put(s,
		    "  note     %" PRIu64 " containers and %" PRIu64
		    " vfio_dmas went while they were looked at\n",
		    c->gone, c->dmas_changed);
	if (c->emulated_pages)
		put(s, "  note     %" PRIu64 " pages are in no IOMMU (emulated devices)\n",
		    c->emulated_pages);
	if (!a->containers)
		put(s, "  note     no VFIO container on this host\n");
	if (a->interrupted)
		put(s, "  note     interrupted: not everything was looked at\n");
	done(s);
}

static void text_error(struct sink *s, const char *message, int exit_code)
{
	/* fail() has said it on stderr */
	(void)s;
	(void)message;
	(void)exit_code;
}

static void causes(struct sink *s, const uint64_t *by)
{
	const char *sep = " (";

	for (int i = 0; i < CAUSES; i++) {
		if (!by[i])
			continue;
		put(s, "%s%s %" PRIu64, sep, cause_name(i), by[i]);
		sep = ", ";
	}
	if (sep[0] == ',')
		put(s, ")");
}

static void rules(struct sink *s, const uint64_t *rule)
{
	const char *sep = "  rules    ";
	char name[32];

	for (int i = 0; i < PFNW_RULES; i++) {
		if (!rule[i])
			continue;
		put(s, "%s%s %" PRIu64, sep, rules_text(1u << i, name, sizeof(name)), rule[i]);
		sep = ", ";
	}
	if (sep[0] == ',')
		put(s, "\n");
}

static void text_steps(struct sink *s, const struct summary *x)
{
	put(s,
	    "  claims   %" PRIu64 " calls, %" PRIu64 " pages: match %" PRIu64 " (%" PRIu64
	    " under the lock), mismatch %" PRIu64 ", raced %" PRIu64 ", unverified %" PRIu64
	    ", lost %" PRIu64 "; %" PRIu64 " calls failed\n",
	    x->claims, x->claim_pages, x->claim_match, x->claim_locked, x->claim_mismatch,
	    x->claim_raced, x->claim_unverified, x->claim_lost, x->claims_failed);
	if (x->linear)
		put(s,
		    "  linear   of %" PRIu64
		    " PFNMAP claims the pre-5.7 formula would be wrong for %" PRIu64 "\n",
		    x->linear, x->linear_wrong);
	put(s,
	    "  maps     %" PRIu64 " calls (iommu:map counts %" PRIu64 ", %" PRIu64
	    " pages), %" PRIu64 " failed, %" PRIu64 " of the kernel's own\n",
	    x->maps, x->tp_maps, x->tp_pages, x->maps_failed, x->maps_internal);
	put(s,
	    "  unmaps   %" PRIu64 " calls, %" PRIu64 " pages (iommu:unmap counts %" PRIu64
	    ", %" PRIu64 " pages)\n",
	    x->unmaps, x->unmap_pages, x->tp_unmaps, x->tp_unmap_pages);
}

static void text_conclusion(struct sink *s, const struct summary *x)
{
	static const char *const color[] = { GREEN, RED, YELLOW };
	const struct pages *p = &x->pages;

	put(s,
	    "%s%s%s: %" PRIu64 " mismatches of %" PRIu64 " pages, %" PRIu64 " unverified, %" PRIu64
	    " lost",
	    paint(s, color[x->conclusion]), conclusion_name(x->conclusion), paint(s, OFF),
	    (uint64_t)p->mismatch, (uint64_t)p->seen, (uint64_t)p->unverified, (uint64_t)p->lost);
	if (p->stale)
		put(s, "; %" PRIu64 " went stale", (uint64_t)p->stale);
	put(s, "\n");
	put(s,
	    "  pages    seen %" PRIu64 ": match %" PRIu64 ", mismatch %" PRIu64 ", stale %" PRIu64
	    ", raced %" PRIu64,
	    (uint64_t)p->seen, (uint64_t)p->match, (uint64_t)p->mismatch, (uint64_t)p->stale,
	    (uint64_t)p->raced);
	causes(s, x->raced_by);
	put(s, ", unverified %" PRIu64, (uint64_t)p->unverified);
	causes(s, x->unverified_by);
	put(s, ", lost %" PRIu64 "\n", (uint64_t)p->lost);
	rules(s, x->rule);
	if (x->whole)
		put(s,
		    "  calls    looked at when they were over: %" PRIu64
		    " mappings (a vfio_dma in a domain), %" PRIu64 " unmaps of %" PRIu64 " pages\n",
		    x->maps, x->unmaps, x->unmap_pages);
	else
		text_steps(s, x);
	put(s,
	    "  iommu    %" PRIu64 " pages installed as asked, %" PRIu64 " not readable; %" PRIu64
	    " vfio_dmas looked for after their unmap, %" PRIu64 " iova_to_phys() compared\n",
	    x->installed, x->io_unknown, x->dmas_checked, x->phys_witness);
	if (x->has_live) {
		cases(s, &x->live.audit);
		put(s,
		    "  ledger   %" PRIu64 " runs, %" PRIu64 " pages, %" PRIu64
		    " vfio_dmas, %" PRIu64 " KiB; %" PRIu64
		    " pages compared with the kernel: %" PRIu64 " differ; read anew %" PRIu64
		    " times\n",
		    x->live.runs, x->live.pages, x->live.dmas, x->live.bytes / 1024,
		    x->live.compared_pages, x->live.drift_pages, x->live.rebuilds);
		put(s,
		    "  changes  %" PRIu64 " where something may be mapped, %" PRIu64
		    " ranges looked at again%s\n",
		    x->live.changes, x->live.looks,
		    x->changes_by == PFNW_SIGHT_NOTIFIER ? "; told by MMU notifiers" : "");
	}
	put(s, "  records  %" PRIu64 " lost\n", x->lost_records);
	if (x->doubts)
		put(s, "  doubts   %s\n", x->doubt);
	for (size_t i = 0; x->hooks && i < x->hooks->n; i++) {
		const struct hook *h = &x->hooks->hook[i];

		/* a slot that stayed empty; alternatives of a filled one are silent */
		if (!h->usable && !hooks_slot(x->hooks, h->slot))
			put(s, "  missing  hook %s (%s): %s; %s\n", h->slot, h->func, h->why,
			    h->uncovered);
	}
	if (x->empty)
		put(s, "  note     no mapping was seen\n");
	done(s);
}

const struct sink_ops text_ops = {
	.run = text_run,
	.diff = text_diff,
	.map = text_map,
	.claim = text_claim,
	.unmap = text_unmap,
	.breach = text_breach,
	.finding = text_finding,
	.audited = text_audited,
	.listed = ls_text,
	.list_end = ls_text_end,
	.error = text_error,
	.conclusion = text_conclusion,
};
