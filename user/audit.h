/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Mappings that are there already: finds VFIO containers, reads their vfio_dmas and
 * compares CPU tables with IOMMU tables. Takes no lock and stops nobody. What differs
 * is looked at again until it is sure, and then judged (stale.h).
 */
#ifndef PFNW_AUDIT_USER_H
#define PFNW_AUDIT_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "session.h"
#include "stale.h"

#define MAX_HOLDERS 8

/* A process that has the container open. */
struct audit_holder {
	pid_t pid;
	char comm[PFNW_COMM + 1];
};

struct audit_container {
	uint64_t container, generation; /* identities */
	int fd; /* holds it; -1: the hooks tell when it goes */
	size_t n_holders; /* may be more than are named */
	struct audit_holder holder[MAX_HOLDERS];
	bool held; /* its lock, when the domains were read: something may be mapped right now */
	uint32_t n_domains, n_groups;
	struct pfnw_domain domain[PFNW_LIST_DOMAINS];
	struct pfnw_group group[PFNW_LIST_GROUPS];
};

/* A range that is not simply equal. */
struct audit_finding {
	const struct audit_container *container;
	const struct pfnw_domain *domain;
	const struct pfnw_dma *dma;
	struct pfnw_odd odd; /* the range, in pages of the vfio_dma */
	struct stale_evidence e;
	struct stale_judgement j;
	uint64_t change_ns; /* when the change began, and its stack; 0: not known */
	uint32_t n_stack;
	const __u64 *stack;
};

struct audit_counts {
	struct pages pages; /* one for each domain that a page is mapped in */
	uint64_t stale_by[STALE_CASES];
	uint64_t severity[SEVERITIES]; /* pages */
	uint64_t unverified_by[CAUSES], raced_by[CAUSES];
	uint64_t rule[PFNW_RULES];
	uint64_t in_file; /* matches of which the file is the witness */
	uint64_t containers, gone, dmas, dmas_changed, domains, emulated_pages;
	/* by live.c: pages, each once; _before: mapped before we came */
	uint64_t told_stale, told_mismatch, told_before;
	uint64_t tolerated; /* stale pages that the user said do not matter */
};

struct audit {
	struct session *session;
	uint32_t break_on; /* bit per enum severity */
	struct audit_counts count;
	void *ctx;
	void (*found)(void *ctx, const struct audit_finding *f);
	/* pages done of all, now and then; may be NULL */
	void (*progress)(void *ctx, uint64_t done, uint64_t all);
	bool (*stop)(void *ctx); /* asked now and then: end early? may be NULL */
	uint64_t done, all; /* pages, for progress */
	/* enum pfnw_change that changed this page; 0: not known; may be NULL */
	uint8_t (*change_of)(void *ctx, uint64_t mm, uint64_t va);
};

/*
 * The containers that @pid (0: anybody) has open, each once; those with @group only,
 * unless PFNW_NO_GROUP. *@list is malloc()ed, with *@n entries, and audit_release()
 * closes and frees it. EXIT_PROVEN, or an exit code after an error line.
 */
int audit_find(struct session *s, pid_t pid, int group, struct audit_container **list, size_t *n);
void audit_release(struct audit_container *list, size_t n);

/* All of one container. false: it is gone. */
bool audit_container(struct audit *a, const struct audit_container *k);

/* [@va, +@bytes) of one vfio_dma of it, in all its domains. false: the container is gone. */
bool audit_range(struct audit *a, const struct audit_container *k, const struct pfnw_dma *d,
		 uint64_t off_pages, uint64_t n_pages);

/* The vfio_dmas of a container from @from on, up to PFNW_LIST_DMAS; 0, or -1: it is gone. */
int audit_list_dmas(struct session *s, const struct audit_container *k, uint64_t from,
		    struct pfnw_dma *dma, size_t *n, bool *more);

/* Pages of all vfio_dmas that are in an IOMMU, times the domains. */
uint64_t audit_pages(struct session *s, const struct audit_container *k);

struct ledger;

/*
 * Adds to @l what the IOMMU translates for the vfio_dmas of @k: runs with the rights that
 * are installed. @leaf_pages (may be NULL): pages under leaves of 4 KiB, 2 MiB, 1 GiB and
 * other sizes, added up. 0; 1: the container is gone; -errno.
 */
int audit_read_ledger(struct session *s, const struct audit_container *k, struct ledger *l,
		      uint64_t leaf_pages[4]);

/* Reads the domains and groups of @k anew; 0, or -1: it is gone. */
int audit_read_domains(struct session *s, struct audit_container *k);

enum conclusion audit_conclude(const struct audit_counts *c);

#endif
