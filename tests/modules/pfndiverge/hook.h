/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of the kernel that are replaced for some of their callers. */
#ifndef PFNDIVERGE_HOOK_H
#define PFNDIVERGE_HOOK_H

#include <linux/ftrace.h>
#include <linux/types.h>

struct iommu_domain;

struct hook {
	const char *symbol;
	/* Same signature; the first argument is, or begins with, the domain. */
	void *replacement;
	struct ftrace_ops ops;
	bool on;
};

/* Calls from this module always reach the function itself. -ENOENT: no such function. */
int hook_install(struct hook *hook);
/* No replacement runs any more when this returns. */
void hooks_remove(struct hook *hooks, size_t n);

/* Around the whole body of each replacement. */
void hook_enter(void);
void hook_leave(void);

/* Must be quick, and may not sleep: shall this domain's calls be replaced? */
bool hook_wanted(const struct iommu_domain *domain);

#endif
