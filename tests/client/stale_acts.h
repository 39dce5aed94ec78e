/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The changes themselves, and what each must do to every page. */
#ifndef CLIENT_STALE_ACTS_H
#define CLIENT_STALE_ACTS_H

#include "stale.h"

struct act {
	const char *name;
	/* 0: this case can be made of this mapping; else why not. */
	const char *(*refuses)(const struct mapping *mapping);
	/* Pages [first, first + count): sets `now` as it must be. 0 or a negative errno. */
	int (*make)(struct run *run, struct mapping *mapping, size_t first, size_t count);
	/* Concerns all mappings of which this holds, always. */
	bool (*device_wide)(const struct mapping *mapping);
	/* What becomes of a page shows only afterwards. */
	bool open_ended;
};

extern const struct act stale_acts[STALE_CASES];

#endif
