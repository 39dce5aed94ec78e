// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "pfnwatch.h"

#include <stdarg.h>

static char message[512];

int fail(enum exit_code code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	fprintf(stderr, "pfnwatch: %s\n", message);
	return code;
}

const char *last_error(void)
{
	return message;
}
