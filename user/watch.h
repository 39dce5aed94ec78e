/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What trace and check have in common: sinks, session, loop, conclusion. */
#ifndef PFNW_WATCH_H
#define PFNW_WATCH_H

#include <signal.h>

#include "collect.h"
#include "opts.h"

#define MAX_SINKS 2

struct watch {
	struct session session;
	struct collector collector;
	struct sink sink[MAX_SINKS], *sinks[MAX_SINKS];
	int n_sinks;
	uint64_t start_ns;
	bool open;
};

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Asked to stop by SIGINT or SIGTERM: how many times. */
extern volatile sig_atomic_t stop_requests;
void catch_signals(void);

/* A sink on @path ("-" or NULL: standard output). EXIT_PROVEN or after an error line. */
int watch_add_sink(struct watch *w, const struct sink_ops *ops, const char *path, FILE *dflt);

/* Load and attach for @pids. EXIT_PROVEN or after an error line. */
int watch_open(struct watch *w, const struct options *o, bool trace, bool children);

/* Only the session, for sinks that are there. EXIT_PROVEN or after an error line. */
int watch_session(struct watch *w, const struct session_options *so, bool quiet);

/* Create @path, with our process id in it. EXIT_PROVEN or after an error line. */
int watch_ready_file(const char *path);

/* @exit_code, or EXIT_INCOMPLETE when a sink could not be written to. */
int watch_written(struct watch *w, int exit_code);

/* Handle what comes within @ms, or less. 0, or an exit code after an error line. */
int watch_step(struct watch *w, int ms);

/* Stop, take the last records, conclude. @s is filled, but not shown. */
void watch_finish(struct watch *w, struct summary *s);

/* Show the conclusion everywhere and close the sinks; returns the exit code. */
int watch_conclude(struct watch *w, struct summary *s, int exit_code);

/* An error that ends the verb: into JSON too, so that the stream says why. */
int watch_error(struct watch *w, int exit_code);

void watch_close(struct watch *w);

#endif
