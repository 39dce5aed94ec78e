/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What every room of the loader shares: exit codes and one-line errors. */
#ifndef PFNWATCH_H
#define PFNWATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PFNWATCH_VERSION "0.1.0"

/* Exit codes of every verb; documented in README.md and docs/verdicts.md. */
enum exit_code {
	EXIT_PROVEN = 0, /* proven, or the verb did what it was asked */
	EXIT_BROKEN = 1, /* at least one mismatch, stale page or rule violation */
	EXIT_USAGE = 2, /* arguments, privileges or files of the caller */
	EXIT_INCOMPLETE = 3, /* nothing wrong seen, but not everything was seen */
	EXIT_KERNEL = 4, /* this kernel cannot: says which hook or feature */
	EXIT_COMMAND = 5, /* the command under check failed by itself */
};

/* "pfnwatch: ..." on stderr, one line. Returns @code, to be returned on. */
int fail(enum exit_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last error that fail() printed, for the JSON stream; "" if none. */
const char *last_error(void);

/* A verb: argv[0] is its name. Returns an exit code. */
int cmd_probe(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_ls(int argc, char **argv);

#endif
