// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "account.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static FILE *account;
static pthread_mutex_t account_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long errors;
static unsigned long unavailables;

int account_open(const char *path)
{
	account = path ? fopen(path, "we") : stdout;
	if (!account)
		return -errno;
	/* A run that dies half-way must still have told what it did. */
	setvbuf(account, NULL, _IOLBF, 0);
	return 0;
}

static void put_line(const char *line)
{
	pthread_mutex_lock(&account_lock);
	fprintf(account ? account : stdout, "%s\n", line);
	pthread_mutex_unlock(&account_lock);
}

void account_line(const char *fmt, ...)
{
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	put_line(line);
}

void account_error(int err, const char *fmt, ...)
{
	char text[512];
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);

	__atomic_add_fetch(&errors, 1, __ATOMIC_RELAXED);
	snprintf(line, sizeof(line),
		 "{\"type\":\"error\",\"errno\":%d,\"error\":\"%s\",\"what\":\"%s\"}", err,
		 err ? strerrorname_np(err) : "", text);
	put_line(line);
	fprintf(stderr, "error: %s%s%s\n", text, err ? ": " : "", err ? strerror(err) : "");
}

void account_unavailable(const char *what, const char *fmt, ...)
{
	char text[512];
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);

	__atomic_add_fetch(&unavailables, 1, __ATOMIC_RELAXED);
	snprintf(line, sizeof(line), "{\"type\":\"unavailable\",\"what\":\"%s\",\"reason\":\"%s\"}",
		 what, text);
	put_line(line);
	fprintf(stderr, "unavailable: %s: %s\n", what, text);
}

unsigned long account_errors(void)
{
	return __atomic_load_n(&errors, __ATOMIC_RELAXED);
}

unsigned long account_unavailables(void)
{
	return __atomic_load_n(&unavailables, __ATOMIC_RELAXED);
}
