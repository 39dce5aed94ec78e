/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The options that trace and check share. */
#ifndef PFNW_OPTS_H
#define PFNW_OPTS_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_PIDS 64

struct options {
	bool maps, claims, quiet;
	pid_t pid[MAX_PIDS];
	size_t n_pids;
	const char *comm;
	int group;
	const char *device;
	uint32_t only; /* bit per enum verdict */
	bool json;
	const char *json_file; /* NULL or "-": standard output */
	double duration_s; /* 0: until the end */
	const char *ready_file;
	uint32_t ring_bytes, contexts;
	bool allow_empty;
	bool no_ledger; /* keep no ledger: nothing is found stale */
	uint32_t break_on; /* bit per enum severity */
	bool steps; /* look at each step of a call, not at what came of it */
	bool no_iommu; /* leave the IOMMU's own tables alone */
	uint32_t lies; /* PFNW_LIE_ bits */
	int error; /* an exit code, after its error line was printed */
};

extern const struct argp watch_argp; /* a child: filters, output, limits */

/*
 * argp_parse() with our own errors: one line each, that names the fix. Returns
 * EXIT_PROVEN, an exit code after an error line, or -1 after --help was shown.
 */
int parse_args(const struct argp *argp, int argc, char **argv, unsigned int flags, void *input,
	       int *error);

/* For ARGP_KEY_ERROR: says what was wrong with the word that stopped the parser. */
int usage_error(const struct argp_state *state);

void options_init(struct options *o);

/* After parsing: does what was named exist? EXIT_PROVEN, or after an error line. */
int options_check(struct options *o);

/* The same of one process (0: none) and one group; a device names its group. */
int check_pid(pid_t pid);
int check_group(int *group, const char *device);

/* A whole number from @min to @max; -1 when it is none. */
long parse_whole(const char *s, long min, long max);

/* "bug,error" to bits per enum severity; EXIT_PROVEN, or after an error line. */
int parse_severities(const char *list, uint32_t *bits);

/* "4096", "64K", "4M" in bytes; 0 when it is no such thing. */
uint64_t parse_bytes(const char *s);

#endif
