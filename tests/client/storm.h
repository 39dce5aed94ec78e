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
#include <sys/types.h>

#define STORM_ERRNOS 134
#define STORM_GROUPS VFIO_MAX_GROUPS

struct storm_options {
	int groups[STORM_GROUPS]; /* a container for each */
	unsigned int ngroups;
	double seconds;
	unsigned int mappers;
	unsigned int disturbers;
	size_t areas;
	size_t area_pages;
	uint64_t seed;
	const char *account;
	bool calm;
	bool audit_hold;
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
	uint64_t checked; /* pages of --calm, and those that were not where they were */
	uint64_t moved;
};

struct storm {
	struct storm_options opt;
	struct vfio vfios[STORM_GROUPS];
	struct plot *plots; /* of --calm */
	uint8_t *memory; /* areas * area_pages pages, all of them fair game */
	int memfd;
	volatile bool stop;
	struct storm_counts counts;
};

/* The container of a mapper. */
static inline struct vfio *storm_vfio(struct storm *storm, unsigned int number)
{
	return &storm->vfios[number % storm->opt.ngroups];
}

static inline void storm_count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

static inline uint8_t *storm_area(const struct storm *storm, size_t area)
{
	return storm->memory + area * storm->opt.area_pages * PG_SIZE;
}

void storm_parse(struct storm_options *opt, int argc, char **argv);

struct part {
	uint8_t *va;
	size_t bytes;
	/* Where this part lies in the memfd, should it be mapped there. */
	off_t offset;
};

/* What one change may concern: nothing else is touched. */
struct place {
	struct part part;
	struct part to; /* of a move */
	struct part whole; /* of 2 MiB, for large pages; 0 bytes: there is none */
	/* A part of the memfd is only ever mapped where it belongs. */
	bool tidy;
};

/* One change of some kind. Never fails: holes are welcome. */
void storm_change(struct storm *storm, struct rng *rng, const struct place *place);
/* From now on only this change is made, and others chosen so. False: there is none. */
bool storm_only(const char *name);
/* The same of any part of the memory. */
void storm_disturb(struct storm *storm, struct rng *rng);
/* Returns how many pages could not be written to. */
size_t storm_write(struct storm *storm, const struct part *part);
/* How often each kind of change was made: ,"name":count... for the account. */
void storm_disturbances(char *text, size_t size);
/* Writes to memory that may not be there die quietly. Once per process. */
void storm_catch_faults(void);

/* One mapper's work until the storm stops. */
void storm_map_loop(struct storm *storm, unsigned int number);

/*
 * --calm: nothing changes that is mapped for DMA at that moment, so nothing is
 * ever stale. What is mapped when the storm stops stays so.
 */
int calm_prepare(struct storm *storm);
void calm_map_loop(struct storm *storm, unsigned int number);
void calm_disturb(struct storm *storm, struct rng *rng);
/* Looks whether all frames are where they were, tells what is mapped; unmaps. */
void calm_tell(struct storm *storm);
void calm_end(struct storm *storm);

#endif
