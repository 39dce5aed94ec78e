// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "unit.h"

#include "fakes.h"

#include <string.h>

struct fakes fakes;

struct pfnw_walk walk_to(uint64_t va, uint64_t entry)
{
	struct pfnw_walk w = { .va = va, .top = 4, .leaf = 1 };

	w.entry[0] = entry;
	for (int level = 2; level <= 4; level++)
		w.entry[level - 1] = linux_table(0x900 + level);
	w.status = cpu_present(1, entry) ? PFNW_WALK_LEAF : PFNW_WALK_NONE;
	return w;
}

int session_rewalk(struct session *s, struct pfnw_rewalk *r)
{
	(void)s;
	r->gone = fakes.mm_gone;
	r->walk = walk_to(r->va, fakes.again_entry);
	return 0;
}

void session_stats(struct session *s, uint64_t *v)
{
	(void)s;
	memcpy(v, fakes.counter, sizeof(fakes.counter));
}

uint64_t session_missed(struct session *s)
{
	(void)s;
	return fakes.missed;
}

bool session_missed_changes(struct session *s, uint64_t since_ns)
{
	(void)s;
	(void)since_ns;
	return fakes.missed_changes;
}

enum pagemap_answer pagemap_ask(pid_t pid, uint64_t va, uint64_t *pfn)
{
	(void)pid;
	(void)va;
	*pfn = fakes.pagemap_pfn;
	return fakes.pagemap;
}

/* No ledger is kept. */
void live_ledger(struct live *l, const struct pfnw_ev_ledger *e, size_t bytes)
{
	(void)l;
	(void)e;
	(void)bytes;
}

void live_change(struct live *l, const struct pfnw_ev_change *e)
{
	(void)l;
	(void)e;
}

void live_wrong(struct live *l, uint64_t domain, uint64_t iova)
{
	(void)l;
	(void)domain;
	(void)iova;
}

bool live_is_wrong(const struct live *l, uint64_t domain, uint64_t iova)
{
	(void)l;
	(void)domain;
	(void)iova;
	return false;
}

void live_counts(const struct live *l, struct live_counts *c)
{
	(void)l;
	memset(c, 0, sizeof(*c));
}
