/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Where results go. A sink knows nothing of hooks or of BPF. */
#ifndef PFNW_SINK_H
#define PFNW_SINK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "audit.h"
#include "hooks.h"
#include "judge.h"
#include "live.h"

struct ksyms;
struct ls_container;
struct ls_summary;

struct show_run {
	const struct pfnw_hdr *h; /* valid during the call only */
	struct pfnw_hdr hdr;
	enum verdict verdict;
	enum cause cause;
	uint64_t iova, va, n_pages, n_maps;
	uint32_t prot;
};

struct show_diff {
	struct pfnw_ev_diff d;
	struct evidence e;
	struct judgement j;
	uint64_t n_pages; /* contiguous pages that got the same verdict */
};

struct show_map {
	const struct pfnw_ev_map *m;
	struct judgement j; /* of the first page */
	bool asked_pagemap;
	uint64_t pagemap_pfn;
};

struct show_claim {
	const struct pfnw_ev_claim *c;
	struct judgement j;
	bool asked_pagemap;
	uint64_t pagemap_pfn;
};

struct show_breach {
	const struct pfnw_ev_breach *b;
	struct io_frame io; /* of the first page that is wrong */
};

struct summary {
	enum conclusion conclusion;
	struct pages pages;
	uint64_t unverified_by[CAUSES];
	uint64_t raced_by[CAUSES];
	uint64_t rule[PFNW_RULES];
	bool whole; /* calls were looked at when they were over: there is no second count */
	uint64_t maps, maps_failed, maps_internal, maps_other;
	uint64_t tp_maps, tp_pages;
	uint64_t unmaps, unmap_pages, tp_unmaps, tp_unmap_pages;
	uint64_t claims, claims_failed, claim_pages, claim_match, claim_mismatch, claim_raced,
		claim_unverified, claim_lost, claim_locked;
	uint64_t linear, linear_wrong;
	bool has_live;
	struct live_counts live; /* the ledger, and what went stale */
	uint64_t breaches; /* rules broken outside of one mapping's comparison */
	uint64_t installed; /* pages that the IOMMU's own table gives as asked */
	uint64_t io_unknown; /* pages of which it could not be read */
	uint64_t teardown_pages, phys_witness, dmas_checked;
	uint64_t lost_records, missed_programs, contexts_full, changes;
	unsigned int changes_by; /* enum pfnw_sight bits: which programs were attached to see them */
	uint64_t doubts; /* what else was not seen; explained in doubt[] */
	char doubt[256];
	uint64_t duration_ns;
	bool empty; /* no mapping at all */
	const struct hooks *hooks;
	/* check only */
	bool has_command;
	int command_status; /* exit code, or 128 + signal */
	int exit_code;
};

/* One round of audit. */
struct audit_summary {
	enum conclusion conclusion;
	struct audit_counts count;
	uint64_t containers; /* found */
	uint64_t round; /* from 1 */
	bool last, interrupted;
	uint64_t duration_ns;
	int exit_code;
};

struct sink {
	const struct sink_ops *ops;
	FILE *out;
	bool color;
	bool quiet; /* only the conclusion */
	bool failed; /* a write failed: what is there is not the whole */
	const struct cpu_format *fmt;
	const struct iommu_format *io_fmt;
	struct ksyms *ksyms; /* read when the first stack is shown */
};

struct sink_ops {
	void (*run)(struct sink *s, const struct show_run *r);
	void (*diff)(struct sink *s, const struct show_diff *d);
	void (*map)(struct sink *s, const struct show_map *m);
	void (*claim)(struct sink *s, const struct show_claim *c);
	void (*unmap)(struct sink *s, const struct pfnw_ev_unmap *u);
	void (*breach)(struct sink *s, const struct show_breach *b);
	void (*finding)(struct sink *s, const struct audit_finding *f);
	void (*audited)(struct sink *s, const struct audit_summary *a);
	void (*listed)(struct sink *s, const struct ls_container *c);
	void (*list_end)(struct sink *s, const struct ls_summary *l);
	void (*error)(struct sink *s, const char *message, int exit_code);
	void (*conclusion)(struct sink *s, const struct summary *sum);
};

/*
 * The function that @addr of a stack lies in, with its offset in bytes; NULL for what
 * BPF itself put there and for what is not known.
 */
const char *stack_symbol(struct sink *s, uint64_t addr, uint64_t *offset);

extern const struct sink_ops text_ops, json_ops;

/* Text of enum pfnw_rule bits: "pfn,prot". */
const char *rules_text(uint32_t rules, char *buf, size_t n);
/* "rw", "r", "w" of IOMMU_READ/IOMMU_WRITE. */
const char *prot_text(uint32_t prot);
/* The task's name: what a process calls itself must not reach terminal or JSON raw. */
const char *comm_text(const struct pfnw_hdr *h, char buf[PFNW_COMM + 1]);
/* First device of an IOMMU group, "" if unknown; from sysfs. */
const char *group_device(int group, char *buf, size_t n);
/* Group of a device such as 0000:00:04.0; -1 if none. */
int device_group(const char *bdf);

#endif
