/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * One life of the programs: calibrate, configure, load, attach, poll, detach.
 * Everything hangs on file descriptors of this process: when it dies, however,
 * the kernel takes all of it down.
 */
#ifndef PFNW_SESSION_H
#define PFNW_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cpu_walk.h"
#include "hooks.h"
#include "audit_abi.h"
#include "judge.h"

struct pfnwatch_bpf;
struct ring_buffer;

struct session_options {
	bool want_runs, want_maps, want_claims;
	bool want_iommu; /* walk the IOMMU's tables too */
	bool want_ledger; /* records that keep the ledger */
	bool want_audit; /* the programs of audit.h */
	bool lazy; /* see page-table changes only once somebody uses VFIO */
	bool whole; /* look at calls when they are over, if this kernel lets us */
	bool audit_only; /* nothing is watched but when containers map and unmap */
	const pid_t *pids; /* processes in scope; n_pids 0: all */
	size_t n_pids;
	bool children; /* and what they fork from now on */
	const char *comm; /* NULL: any */
	int group; /* PFNW_NO_GROUP: any */
	uint32_t ring_bytes; /* power of two, at least a page */
	bool want_budget; /* what the verifier spends: session.budgets */
	uint32_t lies; /* PFNW_LIE_ bits, for tests: miss some calls on purpose */
	uint32_t contexts; /* threads that can be inside container calls */
};

#define RING_BYTES_DEFAULT (4U << 20)
#define RING_BYTES_MIN 4096U
#define CONTEXTS_DEFAULT 256U

struct session {
	struct hooks hooks;
	struct pfnw_calib calib;
	struct cpu_format fmt;
	struct iommu_format io_fmt[PFNW_IOMMU_KINDS]; /* by enum pfnw_iommu_kind */
	struct pfnwatch_bpf *skel;
	struct ring_buffer *ring;
	struct budgets *budgets; /* NULL unless asked for */
	int n_cpus;
	bool whole; /* calls are looked at when they are over; else each step of them */
	unsigned int changes_attached; /* enum pfnw_sight bits */
	unsigned int attaching; /* the one that session_watch_some() is at */
	struct bpf_program *next_change; /* the last one that it attached */
	uint64_t missed_changes, missed_asked_ns;
	uint64_t lost_seen; /* as of the last session_lost_more() */
	char verifier[256]; /* first complaint of libbpf, for error lines */
};

typedef int (*session_record_fn)(void *ctx, void *record, size_t bytes);

/* Returns EXIT_PROVEN, or an exit code after an error line. */
int session_open(struct session *s, const struct session_options *o, session_record_fn fn,
		 void *ctx);

/* Somebody uses VFIO now, and what sees the changes of its page tables is not attached yet. */
bool session_needs_changes(const struct session *s);

/*
 * Attach it step by step, of some 10 ms each; @done at the end. EXIT_PROVEN, or after an
 * error line.
 */
int session_watch_some(struct session *s, bool *done);

/* Nobody has used VFIO since session_open(). Who does, wakes session_poll(). */
bool session_unused(const struct session *s);

/* Hand all records that wait to the callback. Returns the number, or -errno. */
int session_consume(struct session *s);

/* Wait up to @ms for records, then hand them over. */
int session_poll(struct session *s, int ms);

/*
 * What is known of the container (address of its struct vfio_iommu) as of now; false: nothing.
 * May be asked while programs run.
 */
bool session_container(struct session *s, uint64_t container, struct pfnw_container *k);

/* Was any record lost for want of room since it was last asked? Costs nothing. */
bool session_lost_more(struct session *s);

/*
 * One of the cold counters, summed over all CPUs. Not to be asked again and again while
 * programs run, on a kernel that preempts: bpf/state.bpf.c says why.
 */
uint64_t session_stat(struct session *s, enum pfnw_stat what);

/* Sum of the counters over all CPUs; @v has PFNW_S_MAX entries. */
void session_stats(struct session *s, uint64_t *v);

/*
 * Invocations that the kernel skipped, because the program was already running
 * on that CPU, of the programs that say where a container call begins and ends.
 * Skips at iommu_map() are not in it: interrupts that map for other devices cause
 * them all the time, and a page missed there shows in the counts of the call.
 */
uint64_t session_missed(struct session *s);

/*
 * The same of the programs that see page-table changes: was any skipped by now?
 * Asked anew only if the last answer is older than @since_ns (CLOCK_MONOTONIC).
 */
bool session_missed_changes(struct session *s, uint64_t since_ns);

/* Verdict runs that are still open in a task context go to the callback. */
void session_open_runs(struct session *s, session_record_fn fn, void *ctx);

/* Run a program of SEC("syscall"); 0, or -errno. Its arguments are in the skeleton. */
struct bpf_program;
int session_run(struct bpf_program *p);

/* Walk again; 0, or -errno. */
int session_rewalk(struct session *s, struct pfnw_rewalk *r);

/* No more events; the maps stay readable. */
void session_detach(struct session *s);
void session_close(struct session *s);

/* Put a process into scope after the session was opened. */
int session_add_pid(struct session *s, pid_t pid);

#endif
