// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "preempt.h"
#include "ksyms.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool kernel_preempts(const struct ksyms *k)
{
	char line[128] = "";
	FILE *f;

	if (!ksyms_has(k, NULL, "preempt_schedule") ||
	    access("/sys/bus/event_source/devices/kprobe", F_OK))
		return false;
	/* "none (voluntary) full lazy"; not there: built so, for good */
	f = fopen("/sys/kernel/debug/sched/preempt", "re");
	if (!f)
		return true;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	return !strstr(line, "(none)") && !strstr(line, "(voluntary)");
}
