/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What the command line asks for. */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "stale_case.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct layout;

#define MAX_LAYOUTS 32

enum exit_code {
	EXIT_ERROR = 1,
	EXIT_USAGE = 2,
	EXIT_DISAGREE = 6,
	EXIT_UNAVAILABLE = 77,
};

enum unmap_order {
	UNMAP_NONE,
	UNMAP_FIFO,
	UNMAP_LIFO,
	UNMAP_RANDOM,
	UNMAP_ALL,
};

/* Where a run waits until it is told to go on; a set. */
enum pause {
	PAUSE_MAPPED = 1,
	PAUSE_CHANGED = 2,
	PAUSE_UNMAPPED = 4,
};

enum access {
	ACCESS_LAYOUT, /* whatever the layout says */
	ACCESS_READ,
	ACCESS_WRITE,
	ACCESS_BOTH,
};

struct options {
	/* The device. */
	int group;
	const char *bdf;
	const char *bar_bdf;
	unsigned int bar_index;

	/* What to map. */
	const struct layout *layouts[MAX_LAYOUTS];
	int nlayouts;
	size_t pages;
	size_t maps;
	size_t offset;
	const char *file;
	bool touch;
	enum access prot;
	enum access flags;
	bool flags_in_turn;
	bool shuffle;
	bool pgoff_zero;

	/* How, and for how long. */
	unsigned int threads;
	unsigned int repeat;
	unsigned int again;
	enum unmap_order unmap;
	uint64_t iova;
	uint64_t seed;
	double hold;
	double linger;
	bool leader_ends;
	bool in_turn;
	double rest; /* before the calls for each layout, to map and to unmap */
	const char *ready_file;
	size_t ballast; /* pages that are not mapped for DMA */
	bool fork;
	unsigned int pauses;

	/* What changes while it is mapped, and where in each mapping. */
	enum stale_case stale[STALE_CASES];
	int nstale;
	size_t stale_first;
	size_t stale_pages;
	size_t stale_stride;
	bool retouch;

	/* What to tell. */
	const char *account;
	bool brief;
	bool list_pages;

	/* The device's own view. */
	bool dma_verify;
	bool dma_read;
	bool dma_write;
	bool dma_gone;
	bool dma_stale;
	size_t dma_stride;
	size_t dma_max;
};

/* Exits by itself on --help and on a usage error. */
void options_parse(struct options *opt, int argc, char **argv);

bool options_need_edu(const struct options *opt);
bool options_have_stale(const struct options *opt, enum stale_case which);

#endif
