// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "pause.h"
#include "account.h"

#include <poll.h>
#include <unistd.h>

/* A signal between the test and the poll waits no longer than this. */
#define POLL_MS 100

void pause_here(const char *name, const volatile sig_atomic_t *stopped)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte = 0;

	account_line("{\"type\":\"ready\",\"at\":\"%s\",\"pid\":%d}", name, getpid());
	while (!*stopped && byte != '\n')
		if (poll(&in, 1, POLL_MS) > 0 && read(STDIN_FILENO, &byte, 1) <= 0)
			return;
}
