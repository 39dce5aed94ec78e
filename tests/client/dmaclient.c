// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* dmaclient: maps memory for DMA and accounts for it. See --help. */
#include "account.h"
#include "options.h"
#include "page.h"
#include "pause.h"
#include "run.h"
#include "stale.h"
#include "sysfs.h"
#include "vfio.h"
#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct client {
	struct options opt;
	struct vfio vfio;
	struct layout_env env;
	struct run run;
	struct witness witness;
	int edu_device;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static void nap(double seconds)
{
	struct timespec left = {
		.tv_sec = (time_t)seconds,
		.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9),
	};

	/* A SIGTERM ends the nap early; everything is still unmapped. */
	while (!stopped && nanosleep(&left, &left) && errno == EINTR)
		;
}

/*
 * mlock() has the kernel put the pages on their lists that it keeps aside for a while: what
 * GUP costs depends on where they are.
 */
static void rest(double seconds)
{
	static char page[4096];

	if (seconds <= 0)
		return;
	nap(seconds);
	if (!mlock(page, sizeof(page)))
		munlock(page, sizeof(page));
}

static void pause_at(const struct client *client, enum pause where, const char *name)
{
	if (client->opt.pauses & where)
		pause_here(name, &stopped);
}

static void raise_memlock(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	/* Without the right to: VFIO says so when it is not enough. */
	setrlimit(RLIMIT_MEMLOCK, &all);
}

static int mark_ready(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0) {
		account_error(errno, "create %s", path);
		return -1;
	}
	close(fd);
	return 0;
}

static int open_bar_owner(struct client *client)
{
	struct bar_source *bar = &client->env.bar;
	const char *bdf = client->opt.bar_bdf;
	int group, err;

	err = pci_bind_vfio(bdf);
	if (err) {
		account_error(-err, "give %s to vfio-pci", bdf);
		return err;
	}
	group = pci_group(bdf);
	if (group < 0) {
		account_error(-group, "find the group of %s", bdf);
		return group;
	}
	err = vfio_add_group(&client->vfio, group);
	if (err)
		return err;
	bar->bdf = bdf;
	bar->is_memory = true;
	bar->device = vfio_open_device(&client->vfio, group, bdf);
	if (bar->device < 0)
		return bar->device;
	/* Its memory only answers when the device is told to decode. */
	return vfio_enable_bus_master(bar->device);
}

static int open_devices(struct client *client)
{
	struct options *opt = &client->opt;
	bool bar = false;
	int err = vfio_open(&client->vfio, opt->group);

	if (err)
		return err;
	for (int i = 0; i < opt->nlayouts; i++)
		bar = bar || layout_needs_bar(opt->layouts[i]);

	client->edu_device = -1;
	if (options_need_edu(opt) || (bar && !opt->bar_bdf)) {
		client->edu_device = vfio_open_device(&client->vfio, opt->group, opt->bdf);
		if (client->edu_device < 0)
			return client->edu_device;
	}
	client->env.bar = (struct bar_source){
		.bdf = opt->bdf,
		.device = client->edu_device,
		.index = opt->bar_index,
	};
	/* Before anything is mapped, so that it is mapped for both at once. */
	if (bar && opt->bar_bdf)
		return open_bar_owner(client);
	return bar ? vfio_enable_bus_master(client->edu_device) : 0;
}

/* From where everything has changed that changes. */
static int finish_cycle(struct client *client)
{
	const struct options *opt = &client->opt;
	struct run *run = &client->run;

	if (opt->nstale)
		stale_tell_total(run);
	if (opt->dma_stale)
		witness_verify_stale(&client->witness, run->mappings, run->count);
	if (opt->ready_file && mark_ready(opt->ready_file))
		return -1;
	pause_at(client, PAUSE_CHANGED, "changed");
	nap(opt->hold);
	run_unmap(run);
	stale_undo(run);
	if (opt->dma_gone)
		witness_verify_gone(&client->witness, run->mappings, run->count);
	pause_at(client, PAUSE_UNMAPPED, "unmapped");
	return 0;
}

static void run_cycles(struct client *client)
{
	const struct options *opt = &client->opt;
	struct run *run = &client->run;
	/* Every cycle uses the same IOVAs. */
	uint64_t start = run->space.next;

	for (unsigned int cycle = 0; cycle < opt->repeat && !stopped; cycle++) {
		run->space.next = start;
		run_map(run);
		if (opt->dma_verify)
			witness_verify(&client->witness, run->mappings, run->count);
		else if (opt->dma_stale)
			witness_mark(&client->witness, run->mappings, run->count);
		if (opt->nstale)
			stale_prepare(run);
		pause_at(client, PAUSE_MAPPED, "mapped");
		if (opt->nstale)
			stale_make(run);
		if (finish_cycle(client))
			return;
		if (opt->flags_in_turn)
			run_turn_flags(run);
	}
}

static int exit_code(const struct client *client)
{
	if (account_errors())
		return EXIT_ERROR;
	if (client->witness.disagree)
		return EXIT_DISAGREE;
	return account_unavailables() ? EXIT_UNAVAILABLE : 0;
}

static int begin_work(struct client *client)
{
	const struct options *opt = &client->opt;
	struct run *run = &client->run;
	bool device = options_need_edu(opt);

	run->env = &client->env;
	run->vfio = &client->vfio;
	run->rest = rest;
	run->space = (struct iova_space){
		.vfio = &client->vfio,
		.next = opt->iova,
		/* The edu device has 32 address lines. */
		.limit = device ? UINT32_MAX : UINT64_MAX,
	};
	if (device && witness_open(&client->witness, &client->env, &client->vfio, &run->space,
				   client->edu_device))
		return -1;
	if (device) {
		run->maps++;
		run->pages++;
	}
	return run_reserve(run);
}

static void end_work(struct client *client)
{
	struct run *run = &client->run;

	if (options_need_edu(&client->opt)) {
		witness_tell_total(&client->witness);
		witness_close(&client->witness, &client->vfio);
		if (!client->witness.bounce.mapped) {
			run->unmaps++;
			run->unmapped_pages++;
		}
	}
	run_tell_total(run, client->opt.repeat);
}

/* Everything that touches memory: in the child, if there is one. */
static int work(struct client *client)
{
	if (begin_work(client))
		return EXIT_ERROR;
	if (!run_prepare(&client->run))
		run_cycles(client);
	end_work(client);
	run_finish(&client->run);
	return exit_code(client);
}

/* A child maps and is gone; all that it mapped stays in the container. */
static int work_after_exit(struct client *client)
{
	struct run *run = &client->run;
	int status = 0;
	pid_t child;

	if (begin_work(client))
		return EXIT_ERROR;
	child = fork();
	if (child < 0) {
		account_error(errno, "fork");
		return EXIT_ERROR;
	}
	if (!child) {
		if (!run_prepare(run))
			run_map(run);
		pause_at(client, PAUSE_MAPPED, "mapped");
		_exit(exit_code(client));
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		account_error(0, "the child that maps ended with status 0x%x", status);
	run_adopt(run);
	stale_tell_exit(run);
	finish_cycle(client);
	end_work(client);
	/* The buffers went with the child. */
	return exit_code(client);
}

static int work_in_child(struct client *client)
{
	pid_t child = fork();
	int status;

	if (child < 0) {
		account_error(errno, "fork");
		return EXIT_ERROR;
	}
	if (!child)
		_exit(work(client));
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_ERROR;
	/* The container lives on without the memory that it maps. */
	nap(client->opt.linger);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	account_error(0, "the child died of signal %d", WTERMSIG(status));
	return EXIT_ERROR;
}

static void *end_process(void *code)
{
	const struct timespec leader_is_over = { .tv_nsec = 100000000 };

	nanosleep(&leader_is_over, NULL);
	_exit(*(int *)code);
}

/* The process ends with the thread that stays: the kernel closes its files then. */
static void leave_to_another(int *code)
{
	static int stays;
	pthread_t thread;
	int err;

	stays = *code;
	err = pthread_create(&thread, NULL, end_process, &stays);
	if (!err)
		syscall(SYS_exit, 0);
	account_error(err, "a thread that ends the process");
	*code = EXIT_ERROR;
}

/* It lies above what is mapped for DMA later: an exit comes to it last. */
static int take_ballast(size_t pages)
{
	void *ballast;

	if (!pages)
		return 0;
	ballast = mmap(NULL, pages * PG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (ballast == MAP_FAILED) {
		account_error(errno, "mmap of %zu pages of ballast", pages);
		return -1;
	}
	madvise(ballast, pages * PG_SIZE, MADV_NOHUGEPAGE);
	memset(ballast, 1, pages * PG_SIZE);
	return 0;
}

static int open_and_work(struct client *client)
{
	if (open_devices(client))
		return EXIT_ERROR;
	if (options_have_stale(&client->opt, STALE_OWNER_EXIT))
		return work_after_exit(client);
	return client->opt.fork ? work_in_child(client) : work(client);
}

int main(int argc, char **argv)
{
	static struct client client;
	const struct sigaction on_term = { .sa_handler = stop };
	int err, code;

	options_parse(&client.opt, argc, argv);
	err = account_open(client.opt.account);
	if (err) {
		fprintf(stderr, "dmaclient: %s: %s\n", client.opt.account, strerror(-err));
		return EXIT_ERROR;
	}
	sigaction(SIGTERM, &on_term, NULL);
	raise_memlock();
	client.env.opt = &client.opt;
	rng_seed(&client.env.rng, client.opt.seed);

	code = take_ballast(client.opt.ballast) ? EXIT_ERROR : open_and_work(&client);
	for (unsigned int n = 1; n < client.opt.again && !code && !stopped; n++) {
		vfio_close(&client.vfio);
		memset(&client.run, 0, sizeof(client.run));
		code = open_and_work(&client);
	}
	if (client.opt.leader_ends)
		leave_to_another(&code);
	if (client.vfio.container > 0)
		vfio_close(&client.vfio);
	return code;
}
