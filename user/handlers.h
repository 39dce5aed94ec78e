/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What libbpf (1.1) is told of the programs of fentry, fexit and raw tracepoints: where they
 * attach is known of hooks_probe(), and need not be looked for anew for each of them.
 */
#ifndef PFNW_HANDLERS_H
#define PFNW_HANDLERS_H

struct hooks;

/*
 * Of all objects that are opened from now on, until it is said anew; @hooks must last as long.
 * 0, or -errno.
 */
int handlers_use(const struct hooks *hooks);

#endif
