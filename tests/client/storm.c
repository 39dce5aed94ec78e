// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* storm: DMA mapping and memory changes at the same time. See --help. */
#include "storm.h"
#include "account.h"
#include "pause.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* How long the end of the storm may take before it counts as a hang. */
#define GRACE 60
#define MOMENT_NS 50000000

struct worker {
	pthread_t thread;
	struct storm *storm;
	unsigned int number;
};

static void *mapper_main(void *arg)
{
	struct worker *worker = arg;

	if (worker->storm->opt.calm)
		calm_map_loop(worker->storm, worker->number);
	else
		storm_map_loop(worker->storm, worker->number);
	return NULL;
}

static void *disturber_main(void *arg)
{
	struct worker *worker = arg;
	struct rng rng;

	rng_seed(&rng, worker->storm->opt.seed * 2000 + worker->number);
	while (!worker->storm->stop) {
		if (worker->storm->opt.calm)
			calm_disturb(worker->storm, &rng);
		else
			storm_disturb(worker->storm, &rng);
	}
	return NULL;
}

static void on_alarm(int signal)
{
	static const char text[] = "storm: does not come to an end\n";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(4);
	_exit(3);
}

static volatile sig_atomic_t stopped;

static void on_term(int signal)
{
	(void)signal;
	stopped = 1;
}

/* Of a calm storm: what it left mapped, until somebody has looked at it. */
static void hold(struct storm *storm)
{
	alarm(0);
	calm_tell(storm);
	stopped = 0;
	if (storm->opt.audit_hold)
		pause_here("calm", &stopped);
	alarm(GRACE);
	calm_end(storm);
}

static int make_memory(struct storm *storm)
{
	size_t bytes = storm->opt.areas * storm->opt.area_pages * PG_SIZE;
	uint8_t *hole = mmap(NULL, bytes + SZ_2M, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hole == MAP_FAILED)
		return -errno;
	storm->memory = (uint8_t *)round_up_to((uintptr_t)hole, SZ_2M);
	storm->memfd = memfd_create("storm", MFD_CLOEXEC);
	if (storm->memfd < 0 || ftruncate(storm->memfd, (off_t)bytes))
		return -errno;
	return storm->opt.calm ? calm_prepare(storm) : 0;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(struct storm *storm)
{
	unsigned int mappers = storm->opt.mappers, started = 0;
	unsigned int all = mappers + storm->opt.disturbers;
	struct worker *workers = calloc(all, sizeof(*workers));
	const struct timespec moment = { .tv_nsec = MOMENT_NS };
	double end = now() + storm->opt.seconds;
	int err = workers ? 0 : ENOMEM;

	while (!err && started < all) {
		struct worker *worker = &workers[started];
		bool maps = started < mappers;

		worker->storm = storm;
		worker->number = maps ? started : started - mappers;
		err = pthread_create(&worker->thread, NULL, maps ? mapper_main : disturber_main,
				     worker);
		if (!err)
			started++;
	}
	if (err)
		account_error(err, "start the threads");
	/* (any thread may get the signal) */
	while (!err && !stopped && now() < end)
		nanosleep(&moment, NULL);
	storm->stop = true;
	for (unsigned int i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	return err;
}

static void tell(const struct storm *storm)
{
	const struct storm_counts *c = &storm->counts;
	char changes[512], errnos[512] = "";
	size_t used = 0;

	storm_disturbances(changes, sizeof(changes));
	for (int i = 1; i < STORM_ERRNOS && used < sizeof(errnos); i++)
		if (c->by_errno[i])
			used += snprintf(errnos + used, sizeof(errnos) - used, ",\"%s\":%" PRIu64,
					 strerrorname_np(i), c->by_errno[i]);
	/* Both lists begin with a comma that belongs to nothing. */
	account_line("{\"type\":\"changes\"%s,\"faults\":%" PRIu64 "}", changes, c->faults);
	account_line("{\"type\":\"map-errors\",\"by_errno\":{%s}}", *errnos ? errnos + 1 : "");
	if (storm->opt.calm)
		account_line("{\"type\":\"calm\",\"checked_pages\":%" PRIu64
			     ",\"moved_pages\":%" PRIu64 "}",
			     c->checked, c->moved);
	account_line("{\"type\":\"total\",\"maps_ok\":%" PRIu64 ",\"maps_failed\":%" PRIu64
		     ",\"unmaps\":%" PRIu64 ",\"pages_mapped\":%" PRIu64
		     ",\"pages_unmapped\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"pid\":%d}",
		     c->maps_ok, c->maps_failed, c->unmaps, c->pages_mapped, c->pages_unmapped,
		     c->wrong, getpid());
}

int main(int argc, char **argv)
{
	static struct storm storm;
	const struct rlimit no_limit = { RLIM_INFINITY, RLIM_INFINITY };
	const struct sigaction action = { .sa_handler = on_alarm };
	const struct sigaction term = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	int err;

	storm_parse(&storm.opt, argc, argv);
	err = account_open(storm.opt.account);
	if (err) {
		fprintf(stderr, "storm: %s: %s\n", storm.opt.account, strerror(-err));
		return 1;
	}
	setrlimit(RLIMIT_MEMLOCK, &no_limit);
	for (unsigned int i = 0; i < storm.opt.ngroups; i++)
		if (vfio_open(&storm.vfios[i], storm.opt.groups[i]))
			return 1;
	err = make_memory(&storm);
	if (err) {
		account_error(-err, "memory for the storm");
		return 1;
	}
	storm_catch_faults();
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGTERM, &term, NULL);
	alarm((unsigned int)storm.opt.seconds + GRACE);

	err = run(&storm);
	if (storm.opt.calm)
		hold(&storm);
	tell(&storm);
	for (unsigned int i = 0; i < storm.opt.ngroups; i++)
		vfio_close(&storm.vfios[i]);
	/* No map at all is no test at all. */
	if (!err && !storm.counts.maps_ok)
		account_error(0, "not one mapping succeeded");
	return account_errors() ? 1 : 0;
}
