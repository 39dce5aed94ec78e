/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What we may do: capabilities, lockdown; least privilege. */
#ifndef PFNW_CAPS_H
#define PFNW_CAPS_H

/* May we load and attach at all? EXIT_PROVEN, or EXIT_USAGE after an error line. */
int caps_check(void);

/* Does lockdown let BPF read kernel memory? EXIT_PROVEN, or EXIT_KERNEL after an error line. */
int lockdown_check(void);

/*
 * Give up for good what is not needed once everything is attached. What stays:
 * CAP_BPF (maps and the second walk), CAP_SYS_ADMIN, CAP_SYS_PTRACE and
 * CAP_DAC_READ_SEARCH (frame numbers in /proc/PID/pagemap), CAP_SYSLOG (names in
 * stacks), CAP_KILL (to end COMMAND).
 */
int caps_drop(void);

#endif
