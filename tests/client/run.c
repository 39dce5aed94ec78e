// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "run.h"
#include "account.h"
#include "page.h"
#include "vfio.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct worker {
	pthread_t thread;
	unsigned int number;
	pthread_mutex_t *turn; /* NULL: nobody waits */
	struct run *run;
	/* Indices of its own mappings, in the order of the work. */
	size_t *list;
	size_t count;
	void (*work)(struct vfio *vfio, struct mapping *mapping);
};

static size_t most_mappings(const struct run *run)
{
	return (size_t)run->env->opt->nlayouts * run->env->opt->maps;
}

int run_reserve(struct run *run)
{
	size_t bytes = most_mappings(run) * sizeof(*run->mappings);
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED) {
		account_error(errno, "room for the mappings");
		return -ENOMEM;
	}
	run->mappings = room;
	return 0;
}

void run_adopt(struct run *run)
{
	size_t most = most_mappings(run);

	run->count = 0;
	while (run->count < most && run->mappings[run->count].mapped) {
		run->maps++;
		run->pages += run->mappings[run->count++].buffer.bytes >> PG_SHIFT;
	}
}

int run_prepare(struct run *run)
{
	const struct options *opt = run->env->opt;

	for (int l = 0; l < opt->nlayouts; l++) {
		for (size_t m = 0; m < opt->maps; m++) {
			struct mapping *mapping = &run->mappings[run->count];
			int err = buffer_create(run->env, opt->layouts[l], &mapping->buffer);

			/* What this machine lacks does not stop the others. */
			if (err == -ENODEV)
				break;
			if (err)
				return err;
			run->count++;
		}
	}
	return 0;
}

static void stay_on(unsigned int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		account_error(errno, "processor %u", processor);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct run *run = worker->run;
	const struct layout *last = NULL;

	if (worker->turn)
		stay_on(worker->number);
	for (size_t i = 0; i < worker->count; i++) {
		struct mapping *mapping = &run->mappings[worker->list[i]];

		if (worker->turn)
			pthread_mutex_lock(worker->turn);
		if (mapping->buffer.layout != last)
			run->rest(run->env->opt->rest);
		last = mapping->buffer.layout;
		worker->work(run->vfio, mapping);
		if (worker->turn)
			pthread_mutex_unlock(worker->turn);
	}
	return NULL;
}

static void sort_out(struct run *run, struct worker *worker, enum unmap_order order)
{
	size_t n = worker->count;

	for (size_t i = 0; i < n; i++) {
		size_t j = i;

		if (order == UNMAP_LIFO && i >= n / 2)
			break;
		if (order == UNMAP_LIFO)
			j = n - 1 - i;
		else if (order == UNMAP_RANDOM)
			j = rng_below(&run->env->rng, i + 1);

		size_t swap = worker->list[i];

		worker->list[i] = worker->list[j];
		worker->list[j] = swap;
	}
}

static void spread(struct run *run, enum unmap_order order,
		   void (*work)(struct vfio *, struct mapping *))
{
	unsigned int threads = run->env->opt->threads;
	struct worker *workers = calloc(threads, sizeof(*workers));
	size_t *lists = calloc(run->count + 1, sizeof(*lists)), *next = lists;
	pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

	if (!workers || !lists) {
		account_error(ENOMEM, "room for the threads");
		goto out;
	}
	for (unsigned int t = 0; t < threads; t++) {
		struct worker *worker = &workers[t];

		worker->number = t;
		worker->turn = run->env->opt->in_turn ? &turn : NULL;
		worker->run = run;
		worker->work = work;
		worker->list = next;
		for (size_t i = t; i < run->count; i += threads)
			worker->list[worker->count++] = i;
		next += worker->count;
		sort_out(run, worker, order);
	}
	for (unsigned int t = 1; t < threads; t++) {
		int err = pthread_create(&workers[t].thread, NULL, worker_main, &workers[t]);

		if (err) {
			/* Then this thread does that one's work. */
			workers[t].thread = 0;
			worker_main(&workers[t]);
		}
	}
	worker_main(&workers[0]);
	for (unsigned int t = 1; t < threads; t++)
		if (workers[t].thread)
			pthread_join(workers[t].thread, NULL);
out:
	free(lists);
	free(workers);
}

/* IOVAs are given out in the order of the mappings. */
static void shuffle(struct run *run)
{
	for (size_t i = 1; i < run->count; i++) {
		size_t j = rng_below(&run->env->rng, i + 1);
		struct mapping swap = run->mappings[i];

		run->mappings[i] = run->mappings[j];
		run->mappings[j] = swap;
	}
}

void run_map(struct run *run)
{
	bool shuffled = run->env->opt->shuffle;
	size_t fit = 0;

	if (shuffled)
		shuffle(run);
	/* IOVAs first, in order, whichever thread comes to use them. */
	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];
		struct buffer *buffer = &mapping->buffer;

		mapping->map_err = iova_take(&run->space, buffer->va, buffer->bytes, buffer->align,
					     &mapping->iova);
		if (mapping->map_err) {
			account_error(-mapping->map_err, "no IOVA for mapping %zu", i);
			break;
		}
		fit++;
	}
	run->count = fit;
	spread(run, shuffled ? UNMAP_RANDOM : UNMAP_FIFO, mapping_map);
	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];

		mapping_tell_map(run->env, mapping);
		if (!mapping->mapped)
			continue;
		run->maps++;
		run->pages += mapping->buffer.bytes >> PG_SHIFT;
		run->map_cpu_ns += mapping->map_cpu_ns;
	}
}

void run_turn_flags(struct run *run)
{
	for (size_t i = 0; i < run->count; i++) {
		struct buffer *buffer = &run->mappings[i].buffer;

		if (buffer->writable && !buffer->copies && !run->mappings[i].mapped)
			buffer->flags ^= VFIO_DMA_MAP_FLAG_WRITE;
	}
}

/* From the first mapping to the last, and nothing else is in between. */
static void unmap_range(struct run *run)
{
	const struct mapping *first = NULL, *last = NULL;
	uint64_t bytes, unmapped = 0, expected = 0;
	int err;

	for (size_t i = 0; i < run->count; i++) {
		if (!run->mappings[i].mapped)
			continue;
		last = &run->mappings[i];
		if (!first)
			first = last;
		expected += last->buffer.bytes;
	}
	if (!first)
		return;
	bytes = last->iova + last->buffer.bytes - first->iova;
	err = vfio_unmap(run->vfio, first->iova, bytes, &unmapped);
	if (err) {
		account_error(-err, "VFIO_IOMMU_UNMAP_DMA iova 0x%" PRIx64 " bytes %" PRIu64,
			      first->iova, bytes);
		return;
	}
	if (unmapped != expected)
		account_error(0, "unmapped %" PRIu64 " of %" PRIu64 " bytes", unmapped, expected);
	account_line("{\"type\":\"unmap\",\"layout\":\"all\",\"iova\":\"0x%" PRIx64
		     "\",\"range\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"pages\":%" PRIu64
		     ",\"pid\":%d,\"tid\":%d}",
		     first->iova, bytes, unmapped, unmapped >> PG_SHIFT, getpid(), gettid());
	for (size_t i = 0; i < run->count; i++)
		run->mappings[i].mapped = false;
	run->unmaps++;
	run->unmapped_pages += unmapped >> PG_SHIFT;
}

void run_unmap(struct run *run)
{
	enum unmap_order order = run->env->opt->unmap;

	if (order == UNMAP_NONE)
		return;
	if (order == UNMAP_ALL) {
		run->rest(run->env->opt->rest);
		unmap_range(run);
		return;
	}
	for (size_t i = 0; i < run->count; i++) {
		run->mappings[i].unmap_tid = 0;
		run->mappings[i].unmapped_bytes = 0;
		run->mappings[i].unmap_err = 0;
	}
	spread(run, order, mapping_unmap);
	for (size_t i = 0; i < run->count; i++) {
		struct mapping *mapping = &run->mappings[i];

		if (!mapping->unmap_tid)
			continue;
		mapping_tell_unmap(run->env, mapping);
		if (mapping->mapped)
			continue;
		run->unmaps++;
		run->unmapped_pages += mapping->unmapped_bytes >> PG_SHIFT;
		run->unmap_cpu_ns += mapping->unmap_cpu_ns;
	}
}

void run_tell_total(const struct run *run, unsigned int cycles)
{
	account_line("{\"type\":\"total\",\"cycles\":%u,\"maps\":%" PRIu64 ",\"pages\":%" PRIu64
		     ",\"unmaps\":%" PRIu64 ",\"unmapped_pages\":%" PRIu64
		     ",\"map_cpu_ns\":%" PRIu64 ",\"unmap_cpu_ns\":%" PRIu64
		     ",\"errors\":%lu,\"unavailable\":%lu,\"pid\":%d}",
		     cycles, run->maps, run->pages, run->unmaps, run->unmapped_pages,
		     run->map_cpu_ns, run->unmap_cpu_ns, account_errors(), account_unavailables(),
		     getpid());
}

void run_finish(struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		/* A page that stays mapped for DMA stays ours until the end. */
		if (!run->mappings[i].mapped)
			buffer_destroy(&run->mappings[i].buffer);
	munmap(run->mappings, most_mappings(run) * sizeof(*run->mappings));
}
