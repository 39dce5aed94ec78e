// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Which containers there are, and who holds them. */
#include "audit.h"
#include "owners.h"
#include "pfnwatch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pfnwatch.skel.h"

struct search {
	struct session *session;
	struct audit_container *list;
	size_t n;
	int group;
	int error; /* -errno */
};

static void add_holder(struct audit_container *k, pid_t pid)
{
	struct audit_holder *h = &k->holder[k->n_holders];
	char path[64];
	FILE *f;

	for (size_t i = 0; i < k->n_holders && i < MAX_HOLDERS; i++)
		if (k->holder[i].pid == pid)
			return;
	if (k->n_holders++ >= MAX_HOLDERS)
		return;
	h->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(h->comm, sizeof(h->comm), f))
		h->comm[strcspn(h->comm, "\n")] = 0;
	for (char *p = h->comm; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	fclose(f);
}

int audit_read_domains(struct session *s, struct audit_container *k)
{
	struct pfnw_list_domains *a = &s->skel->bss->domains_arg;

	a->container = k->container;
	a->generation = k->generation;
	a->fd = k->fd;
	if (session_run(s->skel->progs.list_domains) || a->status != PFNW_AUDIT_OK)
		return -1;
	k->n_domains = a->n_domains;
	k->n_groups = a->n_groups;
	k->held = a->held;
	memcpy(k->domain, a->domain, sizeof(k->domain));
	memcpy(k->group, a->group, sizeof(k->group));
	return 0;
}

static bool has_group(const struct audit_container *k, int group)
{
	for (uint32_t i = 0; i < k->n_groups; i++)
		if (k->group[i].group == group)
			return true;
	return group == PFNW_NO_GROUP;
}

static bool one_owner(void *ctx, const struct owner *o)
{
	struct search *x = ctx;
	struct pfnw_find *a = &x->session->skel->bss->find_arg;
	struct audit_container *k;
	int fd = owner_dup(o);

	if (o->pid == getpid()) {
		if (fd >= 0)
			close(fd);
		return true; /* our own copies of others' */
	}
	if (fd < 0) {
		/* gone is fine; not permitted is not */
		if (fd == -EPERM || fd == -EACCES || fd == -EMFILE)
			x->error = fd;
		return true;
	}
	a->fd = fd;
	a->container = 0;
	if (session_run(x->session->skel->progs.find_container) || !a->container) {
		close(fd);
		return true; /* nothing attached yet, or not type1 */
	}
	for (size_t i = 0; i < x->n; i++) {
		if (x->list[i].container != a->container)
			continue;
		add_holder(&x->list[i], o->pid);
		close(fd);
		return true;
	}
	k = realloc(x->list, (x->n + 1) * sizeof(*k));
	if (!k) {
		x->error = -ENOMEM;
		close(fd);
		return false;
	}
	x->list = k;
	k += x->n;
	memset(k, 0, sizeof(*k));
	k->container = a->container;
	k->fd = fd;
	/* from now on its calls are counted, so that we know when it stands still */
	if (!session_run(x->session->skel->progs.know_container))
		k->generation = a->generation;
	add_holder(k, o->pid);
	if (audit_read_domains(x->session, k) || !has_group(k, x->group))
		close(fd);
	else
		x->n++;
	return true;
}

int audit_find(struct session *s, pid_t pid, int group, struct audit_container **list, size_t *n)
{
	struct search x = { .session = s, .group = group };
	int err = owners_each(pid, one_owner, &x);

	*list = x.list;
	*n = x.n;
	if (!err)
		err = x.error;
	if (!err)
		return EXIT_PROVEN;
	audit_release(x.list, x.n);
	*list = NULL;
	*n = 0;
	if (err == -EPERM || err == -EACCES)
		return fail(EXIT_USAGE,
			    "a process does not let us at its file descriptors (%s): "
			    "run as root, with CAP_SYS_PTRACE",
			    strerror(-err));
	return fail(EXIT_USAGE, "looking for VFIO containers: %s", strerror(-err));
}

void audit_release(struct audit_container *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].fd >= 0)
			close(list[i].fd);
	free(list);
}

int audit_list_dmas(struct session *s, const struct audit_container *k, uint64_t from,
		    struct pfnw_dma *dma, size_t *n, bool *more)
{
	struct pfnw_list_dmas *a = &s->skel->bss->dmas_arg;

	a->container = k->container;
	a->generation = k->generation;
	a->fd = k->fd;
	a->from = from;
	*n = 0;
	*more = false;
	if (session_run(s->skel->progs.list_dmas) || a->status != PFNW_AUDIT_OK)
		return -1;
	*n = a->n;
	*more = a->more;
	memcpy(dma, a->dma, a->n * sizeof(*dma));
	return 0;
}

uint64_t audit_pages(struct session *s, const struct audit_container *k)
{
	struct pfnw_dma *dma = calloc(PFNW_LIST_DMAS, sizeof(*dma));
	uint64_t from = 0, pages = 0;
	bool more = true;
	size_t n;

	while (dma && more && !audit_list_dmas(s, k, from, dma, &n, &more) && n) {
		for (size_t i = 0; i < n; i++)
			if (dma[i].mapped)
				pages += dma[i].bytes >> PFNW_PAGE_SHIFT;
		from = dma[n - 1].iova + dma[n - 1].bytes;
	}
	free(dma);
	return pages * k->n_domains;
}
