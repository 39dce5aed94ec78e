/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The collector: takes records from the session, has them judged, keeps the
 * account, and hands what is to be shown to the sinks.
 */
#ifndef PFNW_COLLECT_H
#define PFNW_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "judge.h"
#include "live.h"
#include "session.h"
#include "sink.h"

struct collect_options {
	bool show_runs, show_maps, show_claims;
	uint32_t only; /* bit per enum verdict; 0: all */
};

/* Contiguous pages of equal verdict, shown when they end or grow old. */
struct open_run {
	bool used;
	struct show_run run;
	uint64_t first_ns;
	bool diff;
	struct show_diff first; /* evidence of the first page */
};

#define OPEN_RUNS 64

struct collector {
	struct session *session;
	struct collect_options opt;
	struct sink **sink;
	int n_sinks;
	uint64_t by_verdict[VERDICTS]; /* pages of diff records, at mappings */
	uint64_t by_cause[CAUSES];
	uint64_t claim_verdict[VERDICTS];
	uint64_t rule[PFNW_RULES]; /* broken, pages; by bit of enum pfnw_rule */
	uint64_t breaches; /* broken outside of a mapping's comparison, pages */
	uint64_t claim_violations;
	uint64_t diffs; /* diff records of mappings that arrived */
	uint64_t claim_diffs;
	uint64_t pin_doubts; /* of claims that no mapping follows */
	struct live *live; /* NULL: no ledger is kept */
	uint64_t breaches_again; /* of pages that were a mismatch when they were mapped */
	uint64_t overlaps; /* pages mapped where something was mapped */
	uint64_t stale_counted; /* stale pages that breached */
	uint64_t records;
	uint64_t disagreements; /* programs and judge decode differently */
	struct open_run open[OPEN_RUNS];
};

void collector_init(struct collector *c, struct session *s, const struct collect_options *o,
		    struct sink **sinks, int n);

/* session_record_fn */
int collector_record(void *ctx, void *record, size_t bytes);

/* For struct live_ops. */
void collector_found(void *ctx, const struct audit_finding *f);
void collector_overlap(void *ctx, const struct pfnw_ev_ledger *e, uint64_t iova, uint64_t pages);

/* Show what has waited long enough; @now_ns CLOCK_MONOTONIC, ~0: everything. */
void collector_flush(struct collector *c, uint64_t now_ns);

/* The account so far. Fills @s but for what only the verb knows. */
void collector_summary(struct collector *c, struct summary *s);

#endif
