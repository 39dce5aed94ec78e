// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* The ledger of this moment, for a person and as JSON. */
#include "ls.h"
#include "json_put.h"
#include "sink.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Ranges that a terminal gets without --ranges. */
#define FIRST_RANGES 8

static const char *const leaf_name[LS_LEAVES] = { "4 KiB", "2 MiB", "1 GiB", "other" };
static const char *const leaf_key[LS_LEAVES] = { "4k", "2m", "1g", "other" };

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

static int no_dots(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Calls @fn for each device of an IOMMU group, in the order of their names. */
static void devices(int group, void (*fn)(void *ctx, const char *name), void *ctx)
{
	struct dirent **e = NULL;
	char path[96];
	int n;

	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	n = scandir(path, &e, no_dots, alphasort);
	for (int i = 0; i < n; i++) {
		fn(ctx, e[i]->d_name);
		free(e[i]);
	}
	free(e);
}

/* "12 KiB", "2.5 GiB" of pages */
static const char *size_text(uint64_t pages, char *buf, size_t n)
{
	static const char *const unit[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = pages * 4.0;
	int i = 0;

	while (v >= 1024 && i < 4) {
		v /= 1024;
		i++;
	}
	snprintf(buf, n, v == (uint64_t)v ? "%.0f %s" : "%.1f %s", v, unit[i]);
	return buf;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* Of the owner; what a process calls itself must not reach a terminal raw. */
static const char *owner_comm(const struct pfnw_dma *d, char buf[PFNW_COMM + 1])
{
	struct pfnw_hdr h = { 0 };

	memcpy(h.comm, d->comm, sizeof(h.comm));
	return comm_text(&h, buf);
}

static void put_device(void *ctx, const char *name)
{
	put(ctx, " %s", name);
}

static void put_lengths(struct sink *s, const struct ledger_totals *t)
{
	for (int i = 0; i < LEDGER_LENGTHS; i++) {
		uint64_t from = 1ULL << i, to = 2 * from - 1;

		if (!t->lengths[i])
			continue;
		if (from == to)
			put(s, "    runs of     1 page: %" PRIu64 "\n", t->lengths[i]);
		else
			put(s, "    runs of     %" PRIu64 " to %" PRIu64 " pages: %" PRIu64 "\n",
			    from, to, t->lengths[i]);
	}
}

static void text_domain(struct sink *s, const struct ls_container *c, const struct ls_domain *d)
{
	const char *sep = "    page sizes  ";
	char size[32];

	put(s, "  domain 0x%" PRIx64 " %s", (uint64_t)d->domain->domain,
	    io_kind_name(d->domain->kind));
	if (d->domain->levels)
		put(s, " %u levels", d->domain->levels);
	put(s, "\n");
	for (uint32_t i = 0; i < c->k->n_groups; i++) {
		if (c->k->group[i].domain != d->domain->domain)
			continue;
		put(s, "    group %-5d", c->k->group[i].group);
		devices(c->k->group[i].group, put_device, s);
		put(s, "\n");
	}
	if (d->error) {
		put(s, "    its table could not be read: %s\n", strerror(-d->error));
		return;
	}
	put(s, "    translates  %" PRIu64 " page%s (%s) of %" PRIu64 " range%s\n", d->t.pages,
	    plural(d->t.pages), size_text(d->t.pages, size, sizeof(size)), d->t.dmas,
	    plural(d->t.dmas));
	if (!d->t.runs)
		return;
	for (int i = 0; i < LS_LEAVES; i++) {
		if (!d->leaf_pages[i])
			continue;
		put(s, "%s%s: %" PRIu64 " page%s (%.1f %%)", sep, leaf_name[i], d->leaf_pages[i],
		    plural(d->leaf_pages[i]), 100.0 * d->leaf_pages[i] / d->t.pages);
		sep = ", ";
	}
	put(s,
	    "\n    runs        %" PRIu64 ", of %.1f pages on average, %" PRIu64 " in the largest\n",
	    d->t.runs, (double)d->t.pages / d->t.runs, d->largest);
	if (c->show_ranges)
		put_lengths(s, &d->t);
}

static void text_range(struct sink *s, const struct ls_range *r)
{
	char comm[PFNW_COMM + 1], size[32];
	uint64_t pages = r->dma.bytes >> PFNW_PAGE_SHIFT;

	put(s,
	    "    iova 0x%" PRIx64 " va 0x%" PRIx64 " %" PRIu64 " page%s (%s) %s %s[%u], %" PRIu64
	    " run%s%s\n",
	    (uint64_t)r->dma.iova, (uint64_t)r->dma.va, pages, plural(pages),
	    size_text(pages, size, sizeof(size)), prot_text(r->dma.prot), owner_comm(&r->dma, comm),
	    r->dma.tgid, r->runs, plural(r->runs), r->dma.mapped ? "" : ", in no IOMMU");
}

void ls_text(struct sink *s, const struct ls_container *c)
{
	size_t shown = c->show_ranges ? c->n_ranges : FIRST_RANGES;
	const struct audit_container *k = c->k;
	char size[32];

	put(s, "container 0x%" PRIx64, (uint64_t)k->container);
	for (size_t i = 0; i < k->n_holders && i < MAX_HOLDERS; i++)
		put(s, " %s[%d]", k->holder[i].comm, k->holder[i].pid);
	if (k->n_holders > MAX_HOLDERS)
		put(s, " and %zu more", k->n_holders - MAX_HOLDERS);
	put(s, "\n");
	for (uint32_t i = 0; i < k->n_domains; i++)
		text_domain(s, c, &c->domain[i]);
	put(s, "  %zu range%s, %" PRIu64 " page%s (%s)\n", c->n_ranges, plural(c->n_ranges),
	    c->pages, plural(c->pages), size_text(c->pages, size, sizeof(size)));
	for (size_t i = 0; i < c->n_ranges && i < shown; i++)
		text_range(s, &c->range[i]);
	if (c->n_ranges > shown)
		put(s, "    and %zu more; --ranges shows them all\n", c->n_ranges - shown);
	if (c->gone)
		put(s, "  it went while it was looked at: this is not all that it had\n");
	done(s);
}

void ls_text_end(struct sink *s, const struct ls_summary *l)
{
	char size[32];

	if (!l->containers && !l->interrupted)
		put(s, "no VFIO container on this host\n");
	if (l->containers)
		put(s,
		    "%" PRIu64 " container%s, %" PRIu64 " domain%s, %" PRIu64 " range%s, %" PRIu64
		    " page%s (%s); translated: %" PRIu64 " page%s in %" PRIu64 " run%s\n",
		    l->containers, plural(l->containers), l->domains, plural(l->domains), l->ranges,
		    plural(l->ranges), l->pages, plural(l->pages),
		    size_text(l->pages, size, sizeof(size)), l->translated, plural(l->translated),
		    l->runs, plural(l->runs));
	if (l->unreadable)
		put(s, "incomplete: tables of %" PRIu64 " domain%s could not be read\n",
		    l->unreadable, plural(l->unreadable));
	if (l->interrupted)
		put(s, "interrupted: this is not all\n");
	done(s);
}

static void add_device(void *ctx, const char *name)
{
	json_object_array_add(ctx, json_object_new_string(name));
}

static struct json_object *groups_json(const struct audit_container *k, uint64_t domain)
{
	struct json_object *a = json_object_new_array();

	for (uint32_t i = 0; i < k->n_groups; i++) {
		struct json_object *g, *d;

		if (k->group[i].domain != domain)
			continue;
		g = json_object_new_object();
		d = json_object_new_array();
		num(g, "group", k->group[i].group);
		devices(k->group[i].group, add_device, d);
		sub(g, "devices", d);
		json_object_array_add(a, g);
	}
	return a;
}

static void json_domain(struct sink *s, const struct ls_container *c, const struct ls_domain *d)
{
	struct json_object *o = record("domain"), *q;

	hex(o, "container", c->k->container);
	hex(o, "domain", d->domain->domain);
	str(o, "format", io_kind_name(d->domain->kind));
	num(o, "levels", d->domain->levels);
	sub(o, "groups", groups_json(c->k, d->domain->domain));
	if (d->error) {
		str(o, "unreadable", strerror(-d->error));
		emit(s, o);
		return;
	}
	num(o, "ranges", d->t.dmas);
	num(o, "pages", d->t.pages);
	q = json_object_new_object();
	for (int i = 0; i < LS_LEAVES; i++)
		num(q, leaf_key[i], d->leaf_pages[i]);
	sub(o, "leaf_pages", q);
	num(o, "runs", d->t.runs);
	num(o, "largest_run", d->largest);
	q = json_object_new_array();
	for (int i = 0; i < LEDGER_LENGTHS; i++) {
		struct json_object *b;

		if (!d->t.lengths[i])
			continue;
		b = json_object_new_object();
		num(b, "from", 1ULL << i);
		num(b, "to", (2ULL << i) - 1);
		num(b, "runs", d->t.lengths[i]);
		json_object_array_add(q, b);
	}
	sub(o, "run_lengths", q);
	emit(s, o);
}

static void json_range(struct sink *s, const struct ls_container *c, const struct ls_range *r)
{
	struct json_object *o = record("range"), *p = json_object_new_object();
	char comm[PFNW_COMM + 1];

	hex(o, "container", c->k->container);
	hex(o, "iova", r->dma.iova);
	hex(o, "va", r->dma.va);
	num(o, "bytes", r->dma.bytes);
	num(o, "pages", r->dma.bytes >> PFNW_PAGE_SHIFT);
	str(o, "prot", prot_text(r->dma.prot));
	num(p, "pid", r->dma.tgid);
	str(p, "comm", owner_comm(&r->dma, comm));
	sub(o, "owner", p);
	flag(o, "in_iommu", r->dma.mapped);
	num(o, "translated_pages", r->pages);
	num(o, "runs", r->runs);
	num(o, "largest_run", r->largest);
	emit(s, o);
}

void ls_json(struct sink *s, const struct ls_container *c)
{
	struct json_object *o = record("container"), *a = json_object_new_array();
	const struct audit_container *k = c->k;

	hex(o, "container", k->container);
	for (size_t i = 0; i < k->n_holders && i < MAX_HOLDERS; i++) {
		struct json_object *h = json_object_new_object();

		num(h, "pid", k->holder[i].pid);
		str(h, "comm", k->holder[i].comm);
		json_object_array_add(a, h);
	}
	sub(o, "holders", a);
	num(o, "n_holders", k->n_holders);
	num(o, "domains", k->n_domains);
	num(o, "ranges", c->n_ranges);
	num(o, "pages", c->pages);
	flag(o, "gone", c->gone);
	emit(s, o);
	for (uint32_t i = 0; i < k->n_domains; i++)
		json_domain(s, c, &c->domain[i]);
	for (size_t i = 0; i < c->n_ranges && c->show_ranges; i++)
		json_range(s, c, &c->range[i]);
}

void ls_json_end(struct sink *s, const struct ls_summary *l)
{
	struct json_object *o = record("ls");

	num(o, "containers", l->containers);
	num(o, "containers_gone", l->gone);
	num(o, "domains", l->domains);
	num(o, "domains_unreadable", l->unreadable);
	num(o, "ranges", l->ranges);
	num(o, "pages", l->pages);
	num(o, "translated_pages", l->translated);
	num(o, "runs", l->runs);
	flag(o, "interrupted", l->interrupted);
	num(o, "duration_ns", l->duration_ns);
	num(o, "exit_code", l->exit_code);
	emit(s, o);
}
