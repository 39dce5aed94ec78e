// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "audit.h"
#include "pfnwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "pfnwatch.skel.h"

#define PAGE_BYTES 4096ULL
/* One run of the program: 1 GiB of 4 KiB pages is a few milliseconds. */
#define CHUNK_PAGES (1ULL << 18)
/* A difference is believed when it is there in two looks that far apart. */
#define LOOK_AGAIN_NS 10000000L
#define LOOKS_WHILE_BUSY 40
#define WAIT_NS 3000000L

static bool stopped(const struct audit *a)
{
	return a->stop && a->stop(a->ctx);
}

static void pause_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

/* Compare part of @d in @dom. enum pfnw_audit_status, with the result in compare_arg. */
static int compare(struct audit *a, const struct audit_container *k, const struct pfnw_domain *dom,
		   const struct pfnw_dma *d, uint64_t off, uint64_t n)
{
	struct pfnw_compare *c = &a->session->skel->bss->compare_arg;

	c->container = k->container;
	c->generation = k->generation;
	c->fd = k->fd;
	c->domain = dom->domain;
	c->dma = d->dma;
	c->iova = d->iova;
	c->va = d->va;
	c->bytes = d->bytes;
	c->mm = d->mm;
	c->prot = d->prot;
	c->off_pages = off;
	c->n_pages = n;
	if (session_run(a->session->skel->progs.compare))
		return PFNW_AUDIT_UNKNOWN;
	return c->status;
}

/* The VMA of @va in the owner's address space. false: could not be asked. */
static bool find_vma(struct audit *a, const struct pfnw_dma *d, uint64_t va,
		     struct pfnw_vma_file *v)
{
	struct pfnw_list_vmas *arg = &a->session->skel->bss->vmas_arg;
	union bpf_iter_link_info info = {};
	LIBBPF_OPTS(bpf_iter_attach_opts, opts);
	struct bpf_link *link;
	bool asked = false;
	ssize_t len;
	int fd;

	memset(v, 0, sizeof(*v));
	arg->tgid = d->tgid;
	arg->lo = va;
	arg->hi = va + PAGE_BYTES;
	arg->n_all = 0;
	info.task.tid = d->tgid;
	opts.link_info = &info;
	opts.link_info_len = sizeof(info);
	link = bpf_program__attach_iter(a->session->skel->progs.list_vmas, &opts);
	if (libbpf_get_error(link)) /* f0d74c4da1f0 (6.1): one task only */
		link = bpf_program__attach_iter(a->session->skel->progs.list_vmas, NULL);
	if (libbpf_get_error(link))
		return false;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd >= 0) {
		struct pfnw_vma_file got;

		do {
			len = read(fd, &got, sizeof(got));
			if (len == sizeof(got))
				*v = got;
		} while (len > 0 || (len < 0 && errno == EAGAIN));
		/* a process that exits has no VMA at all: that says nothing of this one */
		asked = !len && arg->n_all;
		close(fd);
	}
	bpf_link__destroy(link);
	return asked;
}

static void frame_facts(struct audit *a, uint64_t pfn, struct pfnw_frame *f)
{
	struct pfnw_frame *arg = &a->session->skel->bss->frame_arg;

	memset(f, 0, sizeof(*f));
	arg->pfn = pfn;
	if (!session_run(a->session->skel->progs.frame_facts))
		*f = *arg;
}

static void account(struct audit *a, const struct audit_finding *f)
{
	struct audit_counts *c = &a->count;
	uint64_t n = f->odd.n_pages;

	c->pages.seen += n;
	switch (f->j.verdict) {
	case V_MATCH:
		c->pages.match += n;
		if (f->j.cause == CAUSE_FILE)
			c->in_file += n;
		if (f->j.how) {
			c->stale_by[f->j.how] += n;
			c->severity[stale_severity(f->j.how)] += n;
		}
		break;
	case V_MISMATCH:
		c->pages.mismatch += n;
		for (int i = 0; i < PFNW_RULES; i++)
			if (f->j.rules & 1u << i)
				c->rule[i] += n;
		break;
	case V_STALE:
		c->pages.stale += n;
		c->stale_by[f->j.how] += n;
		c->severity[stale_severity(f->j.how)] += n;
		if (!(a->break_on & 1u << stale_severity(f->j.how)))
			c->tolerated += n;
		break;
	case V_RACED:
		c->pages.raced += n;
		c->raced_by[f->j.cause] += n;
		break;
	case V_UNVERIFIED:
		c->pages.unverified += n;
		c->unverified_by[f->j.cause] += n;
		break;
	}
	if (f->j.verdict != V_MATCH || f->j.how)
		a->found(a->ctx, f);
}

static bool same_case(const struct stale_judgement *x, const struct stale_judgement *y)
{
	return x->verdict == y->verdict && x->cause == y->cause && x->how == y->how &&
	       x->rules == y->rules;
}

static void judge_one(struct audit *a, struct audit_finding *f, uint64_t off)
{
	bool vma_asked = f->e.vma_asked;
	struct pfnw_vma_file vma = f->e.vma;

	memset(&f->e, 0, sizeof(f->e));
	f->e.differs = f->odd.differs;
	f->e.va = f->dma->va + off * PAGE_BYTES;
	f->e.dma_prot = f->dma->prot;
	f->e.mm_gone = !f->dma->mm_users;
	f->e.leaving = f->dma->leaving;
	f->e.change = a->change_of ? a->change_of(a->ctx, f->dma->mm, f->e.va) : 0;
	f->e.vma = vma;
	f->e.vma_asked = vma_asked;
	if (!f->e.mm_gone && !(f->odd.differs & (PFNW_D_IO_NONE | PFNW_D_IO_FAULT))) {
		/* mostly still the one of the page before */
		if (!vma_asked || !vma.vma.valid || f->e.va < vma.vma.start ||
		    f->e.va >= vma.vma.end)
			f->e.vma_asked = find_vma(a, f->dma, f->e.va, &f->e.vma);
	}
}

/*
 * A range that differs for sure. The frames of a range may have different fates: each is
 * looked up, and neighbours with the same fate are told in one breath.
 */
static void judge_range(struct audit *a, const struct audit_container *k,
			const struct pfnw_domain *dom, const struct pfnw_dma *d,
			const struct pfnw_odd *o)
{
	struct audit_finding f = { .container = k, .domain = dom, .dma = d, .odd = *o }, open = f;
	struct pfnw_compare *c = &a->session->skel->bss->compare_arg;
	bool have = false;

	for (uint64_t i = 0; i < o->n_pages;) {
		uint64_t n = 1;

		/* the raw entries of this page; the rest of one hole needs none of its own */
		f.odd = *o;
		f.odd.off_pages = o->off_pages + i;
		if (i && o->n_pages > 1 &&
		    compare(a, k, dom, d, f.odd.off_pages, 1) == PFNW_AUDIT_OK && c->n_odd == 1 &&
		    c->odd[0].differs == o->differs)
			f.odd = c->odd[0];
		if (o->differs & PFNW_D_IO_NONE || !d->mm_users)
			n = o->n_pages - i;
		f.odd.n_pages = n;
		judge_one(a, &f, f.odd.off_pages);
		if (!(o->differs & PFNW_D_IO_NONE))
			frame_facts(a, f.odd.io_pa >> PFNW_PAGE_SHIFT, &f.e.frame);
		f.j = judge_stale(&f.e);
		if (have && same_case(&open.j, &f.j)) {
			open.odd.n_pages += n;
		} else {
			if (have)
				account(a, &open);
			open = f;
			have = true;
		}
		i += n;
	}
	if (have)
		account(a, &open);
}

/* Still not in peace after many looks. */
static void give_up(struct audit *a, const struct audit_container *k, const struct pfnw_domain *dom,
		    const struct pfnw_dma *d, const struct pfnw_odd *o)
{
	struct audit_finding f = { .container = k, .domain = dom, .dma = d, .odd = *o };

	f.j.verdict = V_RACED;
	f.j.cause = CAUSE_BUSY;
	account(a, &f);
}

/* @n pages of which the IOMMU's table cannot be read. */
static void unreadable(struct audit *a, uint64_t n)
{
	a->count.pages.seen += n;
	a->count.pages.unverified += n;
	a->count.unverified_by[CAUSE_FAULT] += n;
}

/* @n pages for which there was no memory. */
static void lose(struct audit *a, uint64_t n)
{
	a->count.pages.seen += n;
	a->count.pages.lost += n;
}

/*
 * Look at the range @o again until it is equal, or was different in two looks some
 * time apart. Returns the status of the last look.
 */
static int settle(struct audit *a, const struct audit_container *k, const struct pfnw_domain *dom,
		  const struct pfnw_dma *d, const struct pfnw_odd *o)
{
	struct pfnw_compare *c = &a->session->skel->bss->compare_arg;
	uint64_t at = o->off_pages, end = o->off_pages + o->n_pages;
	int busy = 0, status = PFNW_AUDIT_OK;
	struct pfnw_odd *odd;

	odd = malloc(sizeof(c->odd));
	if (!odd)
		lose(a, o->n_pages);
	while (odd && at < end && !stopped(a)) {
		uint64_t done;
		uint32_t n;

		status = compare(a, k, dom, d, at, end - at);
		if (status == PFNW_AUDIT_BUSY && c->n_odd && busy < LOOKS_WHILE_BUSY) {
			busy++;
			pause_ns(busy > 8 ? WAIT_NS : 200000L);
			continue;
		}
		if (status == PFNW_AUDIT_UNKNOWN)
			unreadable(a, end - at);
		if (status != PFNW_AUDIT_OK && status != PFNW_AUDIT_BUSY)
			break;
		a->count.pages.seen += c->equal_pages;
		a->count.pages.match += c->equal_pages;
		done = c->done_pages;
		n = c->n_odd;
		memcpy(odd, c->odd, n * sizeof(*odd));
		for (uint32_t i = 0; i < n; i++) {
			if (status == PFNW_AUDIT_BUSY)
				give_up(a, k, dom, d, &odd[i]);
			else
				judge_range(a, k, dom, d, &odd[i]);
		}
		at += done;
	}
	free(odd);
	return status;
}

struct doubtful {
	struct pfnw_odd *odd;
	size_t n, room;
};

static bool keep(struct doubtful *x, const struct pfnw_odd *o)
{
	if (x->n && x->odd[x->n - 1].off_pages + x->odd[x->n - 1].n_pages == o->off_pages) {
		x->odd[x->n - 1].n_pages += o->n_pages;
		return true;
	}
	if (x->n == x->room) {
		size_t room = x->room ? 2 * x->room : 64;
		struct pfnw_odd *p = realloc(x->odd, room * sizeof(*p));

		if (!p)
			return false;
		x->odd = p;
		x->room = room;
	}
	x->odd[x->n++] = *o;
	return true;
}

static void progress(struct audit *a, uint64_t pages)
{
	a->done += pages;
	if (a->progress)
		a->progress(a->ctx, a->done, a->all);
}

/* enum pfnw_audit_status of the last look. */
static int audit_in_domain(struct audit *a, const struct audit_container *k,
			   const struct pfnw_domain *dom, const struct pfnw_dma *d, uint64_t off,
			   uint64_t end)
{
	struct pfnw_compare *c = &a->session->skel->bss->compare_arg;
	struct doubtful x = { 0 };
	int status = PFNW_AUDIT_OK;

	while (off < end && !stopped(a)) {
		uint64_t n = end - off < CHUNK_PAGES ? end - off : CHUNK_PAGES;

		status = compare(a, k, dom, d, off, n);
		if (status == PFNW_AUDIT_UNKNOWN) {
			unreadable(a, end - off);
			break;
		}
		if (status != PFNW_AUDIT_OK && status != PFNW_AUDIT_BUSY)
			break;
		if (!c->done_pages)
			break;
		/* equal is equal, whatever else goes on */
		a->count.pages.seen += c->equal_pages;
		a->count.pages.match += c->equal_pages;
		for (uint32_t i = 0; i < c->n_odd; i++)
			if (!keep(&x, &c->odd[i]))
				lose(a, c->odd[i].n_pages);
		off += c->done_pages;
		progress(a, c->done_pages);
	}
	if (x.n)
		pause_ns(LOOK_AGAIN_NS);
	for (size_t i = 0; i < x.n && !stopped(a); i++) {
		status = settle(a, k, dom, d, &x.odd[i]);
		if (status == PFNW_AUDIT_GONE || status == PFNW_AUDIT_CHANGED)
			break;
	}
	free(x.odd);
	return status;
}

bool audit_range(struct audit *a, const struct audit_container *k, const struct pfnw_dma *d,
		 uint64_t off, uint64_t n)
{
	for (uint32_t i = 0; i < k->n_domains && !stopped(a); i++) {
		switch (audit_in_domain(a, k, &k->domain[i], d, off, off + n)) {
		case PFNW_AUDIT_GONE:
			return false;
		case PFNW_AUDIT_CHANGED:
			a->count.dmas_changed++;
			return true;
		}
	}
	return true;
}

/* In the container's domains sooner or later, or no more; only without any it is emulated. */
static bool in_motion(const struct audit_container *k, const struct pfnw_dma *d)
{
	return !d->mapped && k->n_domains;
}

/* A vfio_dma that did not come to rest: some of it may be in the IOMMU. */
static void never_at_rest(struct audit *a, const struct audit_container *k,
			  const struct pfnw_dma *d)
{
	/* what is mapped right now is not in its size yet */
	struct pfnw_odd o = { .n_pages = (d->bytes >> PFNW_PAGE_SHIFT) + 1 };

	for (uint32_t i = 0; i < k->n_domains; i++)
		give_up(a, k, &k->domain[i], d, &o);
}

bool audit_container(struct audit *a, const struct audit_container *k)
{
	struct pfnw_dma *dma = calloc(PFNW_LIST_DMAS, sizeof(*dma));
	bool more = true, there = dma, wait;
	uint64_t from = 0;
	int waited = 0;
	size_t n;

	a->count.containers++;
	a->count.domains += k->n_domains;
	while (there && more && !stopped(a)) {
		there = !audit_list_dmas(a->session, k, from, dma, &n, &more);
		wait = false;
		for (size_t i = 0; there && i < n && !stopped(a); i++) {
			uint64_t pages = dma[i].bytes >> PFNW_PAGE_SHIFT;

			wait = in_motion(k, &dma[i]) && waited++ < LOOKS_WHILE_BUSY;
			if (wait) {
				from = dma[i].iova;
				break;
			}
			waited = 0;
			a->count.dmas++;
			if (dma[i].mapped)
				there = audit_range(a, k, &dma[i], 0, pages);
			else if (k->n_domains)
				never_at_rest(a, k, &dma[i]);
			else
				a->count.emulated_pages += pages;
		}
		if (wait) {
			pause_ns(WAIT_NS);
			more = true;
			continue;
		}
		if (!n)
			break;
		from = dma[n - 1].iova + dma[n - 1].bytes;
		if (!from)
			break;
	}
	if (!there)
		a->count.gone++;
	free(dma);
	return there;
}

enum conclusion audit_conclude(const struct audit_counts *c)
{
	struct pages p = c->pages;

	/* what the user tolerates breaks nothing, but is still said */
	p.stale -= c->tolerated;
	p.match += c->tolerated;
	return judge_run(&p, 0, 0);
}
