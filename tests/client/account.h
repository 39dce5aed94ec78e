/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The account: JSON lines that say exactly what was done. */
#ifndef CLIENT_ACCOUNT_H
#define CLIENT_ACCOUNT_H

/* path NULL: standard output. Returns 0 or a negative errno. */
int account_open(const char *path);

/* One whole JSON record, without its newline. Safe from any thread. */
void account_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * An error record, and the same for a human on stderr. `err` is a positive
 * errno, or 0 when there is none. The text must not need JSON escapes.
 */
void account_error(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Something this machine does not have; `what` says what was asked for. */
void account_unavailable(const char *what, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* How many error and unavailable records there were so far. */
unsigned long account_errors(void);
unsigned long account_unavailables(void);

#endif
