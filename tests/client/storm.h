/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The storm: some threads change memory in every way there is, while others
 * map and unmap it for DMA. Nothing may go wrong but a MAP_DMA that meets a
 * page that is just not there.
 */
#ifndef CLIENT_STORM_H
#define CLIENT_STORM_H

#include "page.h"
#include "rng.h"
#include "vfio.h"

#include <stdbool.h>
#include <stdint.h>

#define STORM_ERRNOS 134

struct storm_options {
	int group;
	double seconds;
	unsigned int mappers;
	unsigned int disturbers;
	size_t areas;
	size_t area_pages;
	uint64_t seed;
	const char *account;
};

/* Counted with atomic additions, by all threads. */
struct storm_counts {
	uint64_t maps_ok;
	uint64_t maps_failed;
	uint64_t unmaps;
	uint64_t pages_mapped;
	uint64_t pages_unmapped;
	uint64_t faults; /* writes that met a hole or a read-only page */
	uint64_t by_errno[STORM_ERRNOS];
	uint64_t wrong; /* what a healthy kernel does not do */
};

struct storm {
	struct storm_options opt;
	struct vfio vfio;
	uint8_t *memory; /* areas * area_pages pages, all of them fair game */
	int memfd;
	volatile bool stop;
	struct storm_counts counts;
};

static inline void storm_count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

static inline uint8_t *storm_area(const struct storm *storm, size_t area)
{
	return storm->memory + area * storm->opt.area_pages * PG_SIZE;
}

void storm_parse(struct storm_options *opt, int argc, char **argv);

/* One change of some part of the memory. Never fails: holes are welcome. */
void storm_disturb(struct storm *storm, struct rng *rng);
/* How often each kind of change was made: ,"name":count... for the account. */
void storm_disturbances(char *text, size_t size);
/* Writes to memory that may not be there die quietly. Once per process. */
void storm_catch_faults(void);

/* One mapper's work until the storm stops. */
void storm_map_loop(struct storm *storm, unsigned int number);

#endif
