// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "caps.h"
#include "pfnwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

static const cap_value_t keep[] = { CAP_BPF,	CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH,
				    CAP_SYSLOG, CAP_KILL };
#define N_KEEP ((int)(sizeof(keep) / sizeof(keep[0])))

int caps_check(void)
{
	cap_flag_value_t admin = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (caps) {
		cap_get_flag(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE, &admin);
		cap_free(caps);
	}
	if (admin == CAP_SET)
		return EXIT_PROVEN;
	return fail(EXIT_USAGE, "needs root (CAP_SYS_ADMIN, CAP_BPF and CAP_PERFMON): try sudo");
}

/* Of the capabilities we have, those of keep[]. */
static int narrow(cap_t from, cap_t to)
{
	for (int i = 0; i < N_KEEP; i++) {
		cap_flag_value_t v;

		if (cap_get_flag(from, keep[i], CAP_PERMITTED, &v))
			return -1;
		if (v == CAP_SET && (cap_set_flag(to, CAP_PERMITTED, 1, &keep[i], CAP_SET) ||
				     cap_set_flag(to, CAP_EFFECTIVE, 1, &keep[i], CAP_SET)))
			return -1;
	}
	return cap_set_proc(to);
}

int caps_drop(void)
{
	cap_t from = cap_get_proc(), to = cap_init();
	int err = !from || !to || narrow(from, to) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

	cap_free(from);
	cap_free(to);
	if (err)
		return fail(EXIT_USAGE, "dropping capabilities: %s", strerror(errno));
	return EXIT_PROVEN;
}

int lockdown_check(void)
{
	char buf[128] = "";
	int fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return EXIT_PROVEN; /* no lockdown, or securityfs is not mounted */
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n > 0 && strstr(buf, "[confidentiality]"))
		return fail(EXIT_KERNEL,
			    "this kernel cannot: lockdown is at confidentiality, BPF may "
			    "not read kernel memory: boot with lockdown=integrity or none");
	return EXIT_PROVEN;
}
