// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Every way in which user space can change its page tables. */
#include "storm.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* since 6.1 */
#endif

static __thread sigjmp_buf fault_exit;
static __thread volatile sig_atomic_t fault_expected;

static void on_fault(int signal)
{
	if (fault_expected)
		siglongjmp(fault_exit, 1);
	_exit(128 + signal);
}

void storm_catch_faults(void)
{
	const struct sigaction action = {
		.sa_handler = on_fault,
		.sa_flags = SA_NODEFER,
	};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

size_t storm_write(struct storm *storm, const struct part *part)
{
	/* Kept across the jump. */
	volatile size_t at = 0, faults = 0;

	for (; at < part->bytes; at += PG_SIZE) {
		if (sigsetjmp(fault_exit, 0)) {
			fault_expected = 0;
			faults++;
			continue;
		}
		fault_expected = 1;
		*(volatile uint64_t *)(part->va + at) += 1;
		fault_expected = 0;
	}
	storm_count(&storm->counts.faults, faults);
	return faults;
}

static struct part some_part(struct storm *storm, struct rng *rng)
{
	size_t pages = storm->opt.area_pages;
	size_t area = rng_below(rng, storm->opt.areas);
	size_t first = rng_below(rng, pages);
	size_t most = pages - first < 64 ? pages - first : 64;
	size_t count = 1 + rng_below(rng, most);
	struct part part = {
		.va = storm_area(storm, area) + first * PG_SIZE,
		.bytes = count * PG_SIZE,
		.offset = (off_t)((area * pages + first) * PG_SIZE),
	};

	return part;
}

static struct part whole_area(struct storm *storm, struct rng *rng)
{
	struct part part = {
		.va = storm_area(storm, rng_below(rng, storm->opt.areas)),
		.bytes = storm->opt.area_pages * PG_SIZE,
	};

	return part;
}

static void map_anon(const struct part *part, int prot)
{
	mmap(part->va, part->bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
	     -1, 0);
}

static void do_write(struct storm *storm, struct rng *rng, const struct place *place)
{
	(void)rng;
	storm_write(storm, &place->part);
}

static void do_remap(struct storm *storm, struct rng *rng, const struct place *place)
{
	(void)rng;
	map_anon(&place->part, PROT_READ | PROT_WRITE);
	storm_write(storm, &place->part);
}

/*
 * A hole, soon filled again. PROT_NONE stands in for a while, so that no other
 * mmap of this process can land there.
 */
static void do_munmap(struct storm *storm, struct rng *rng, const struct place *place)
{
	(void)storm;
	munmap(place->part.va, place->part.bytes);
	map_anon(&place->part, PROT_NONE);
	usleep(rng_below(rng, 200));
	map_anon(&place->part, PROT_READ | PROT_WRITE);
}

static void do_mremap(struct storm *storm, struct rng *rng, const struct place *place)
{
	struct part from = place->part, to = place->to;

	if (to.bytes < from.bytes)
		from.bytes = to.bytes;
	if (place->tidy)
		do_remap(storm, rng, place);
	/* Overlaps and holes make it fail: as good an outcome as any. */
	mremap(from.va, from.bytes, from.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to.va);
	map_anon(&from, PROT_READ | PROT_WRITE);
}

static void do_mprotect(struct storm *storm, struct rng *rng, const struct place *place)
{
	static const int prots[] = {
		PROT_READ,
		PROT_NONE,
		PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE,
	};

	(void)storm;
	mprotect(place->part.va, place->part.bytes, prots[rng_below(rng, ARRAY_LEN(prots))]);
}

static void do_dontneed(struct storm *storm, struct rng *rng, const struct place *place)
{
	(void)storm;
	(void)rng;
	madvise(place->part.va, place->part.bytes, MADV_DONTNEED);
}

static void do_collapse(struct storm *storm, struct rng *rng, const struct place *place)
{
	const struct part *part = &place->whole;

	(void)rng;
	if (!part->bytes)
		return;
	map_anon(part, PROT_READ | PROT_WRITE);
	storm_write(storm, part);
	madvise(part->va, part->bytes, MADV_HUGEPAGE);
	madvise(part->va, part->bytes, MADV_COLLAPSE);
}

/*
 * The huge zero page, which a read-only pin before 6.2 takes as it is; and then a change of
 * a single page, which splits it: all others go from the huge one to the small one.
 */
static void do_zero(struct storm *storm, struct rng *rng, const struct place *place)
{
	const struct part *whole = &place->whole;
	uint8_t *page = whole->va + rng_below(rng, whole->bytes / PG_SIZE) * PG_SIZE;

	(void)storm;
	if (!whole->bytes)
		return;
	map_anon(whole, PROT_READ | PROT_WRITE);
	madvise(whole->va, whole->bytes, MADV_HUGEPAGE);
	usleep(rng_below(rng, 2000));
	mprotect(page, PG_SIZE, PROT_READ);
	usleep(rng_below(rng, 200));
	mprotect(page, PG_SIZE, PROT_READ | PROT_WRITE);
}

static void do_shared(struct storm *storm, struct rng *rng, const struct place *place)
{
	const struct part *part = &place->part;

	(void)rng;
	mmap(part->va, part->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, storm->memfd,
	     part->offset);
	storm_write(storm, part);
}

static void do_punch(struct storm *storm, struct rng *rng, const struct place *place)
{
	(void)rng;
	fallocate(storm->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, place->part.offset,
		  (off_t)place->part.bytes);
}

/* The child's writes copy pages, or, where they were pinned, find copies. */
static void do_fork(struct storm *storm, struct rng *rng, const struct place *place)
{
	pid_t child = fork();

	(void)rng;
	if (!child) {
		storm_write(storm, &place->part);
		_exit(0);
	}
	if (child < 0)
		return;
	storm_write(storm, &place->part);
	waitpid(child, NULL, 0);
}

static struct {
	const char *name;
	void (*make)(struct storm *storm, struct rng *rng, const struct place *place);
	unsigned int weight;
	uint64_t count;
} changes[] = {
	{ "write", do_write, 8, 0 },	   { "remap", do_remap, 4, 0 },
	{ "munmap", do_munmap, 4, 0 },	   { "mremap", do_mremap, 4, 0 },
	{ "mprotect", do_mprotect, 6, 0 }, { "dontneed", do_dontneed, 6, 0 },
	{ "collapse", do_collapse, 1, 0 }, { "shared", do_shared, 2, 0 },
	{ "punch", do_punch, 2, 0 },	   { "fork", do_fork, 1, 0 },
	{ "zero", do_zero, 1, 0 },
};

bool storm_only(const char *name)
{
	static bool chosen[ARRAY_LEN(changes)];
	bool found = false;

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		if (!strcmp(changes[i].name, name))
			chosen[i] = found = true;
		changes[i].weight = chosen[i];
	}
	return found;
}

void storm_change(struct storm *storm, struct rng *rng, const struct place *place)
{
	unsigned int all = 0, pick;

	for (size_t i = 0; i < ARRAY_LEN(changes); i++)
		all += changes[i].weight;
	pick = rng_below(rng, all);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		if (pick < changes[i].weight) {
			changes[i].make(storm, rng, place);
			storm_count(&changes[i].count, 1);
			return;
		}
		pick -= changes[i].weight;
	}
}

void storm_disturb(struct storm *storm, struct rng *rng)
{
	const struct place place = {
		.part = some_part(storm, rng),
		.to = some_part(storm, rng),
		.whole = whole_area(storm, rng),
	};

	storm_change(storm, rng, &place);
}

void storm_disturbances(char *text, size_t size)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < ARRAY_LEN(changes) && used < size; i++)
		used += snprintf(text + used, size - used, ",\"%s\":%llu", changes[i].name,
				 (unsigned long long)changes[i].count);
}
