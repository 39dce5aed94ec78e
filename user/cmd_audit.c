// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* pfnwatch audit: prove what was mapped before we came. */
#include "audit.h"
#include "opts.h"
#include "pfnwatch.h"
#include "watch.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char doc[] =
	"Compare what the IOMMU translates with the owner's page tables, for everything that is "
	"mapped for a device now; also what was mapped long ago."
	"\vExamples:\n"
	"  pfnwatch audit                         every VFIO container of this host\n"
	"  pfnwatch audit --pid 4711              those that one process has open\n"
	"  pfnwatch audit --device 0000:00:04.0   those with this device\n"
	"  pfnwatch audit --watch 10 --json       again every 10 seconds, as JSON lines\n"
	"\nNobody is stopped and nothing is changed. Exit codes: 0 proven (also on a host without\n"
	"a container), 1 broken, 2 usage (also when --pid, --group or --device have none),\n"
	"3 incomplete, 4 this kernel cannot. With --watch: of the worst round.";

enum { OPT_ALL = 'a', OPT_WATCH = 'w', OPT_ROUNDS = 256, OPT_BREAK, OPT_READY };

static const struct argp_option options[] = {
	{ "all", OPT_ALL, NULL, 0, "every container of this host (the default)", 1 },
	{ "pid", 'p', "PID", 0, "those that this process has open", 1 },
	{ "group", 'g', "N", 0, "those with this IOMMU group", 1 },
	{ "device", 'd', "BDF", 0, "those with the group of this PCI device", 1 },
	{ "json", 'j', NULL, 0, "JSON lines on standard output (docs/json.md)", 2 },
	{ "quiet", 'q', NULL, 0, "only the conclusion", 2 },
	{ "watch", OPT_WATCH, "SECONDS", 0, "again and again, so long after each other", 3 },
	{ "rounds", OPT_ROUNDS, "N", 0, "with --watch: end after so many", 3 },
	{ "break-on", OPT_BREAK, "LIST", 0,
	  "which stale pages make it broken: bug,error,known, or none (default: bug,error)", 3 },
	{ "ready-file", OPT_READY, "FILE", 0, "create FILE when the first round is over", 3 },
	{ 0 },
};

struct args {
	pid_t pid;
	int group;
	const char *device, *ready_file;
	bool json, quiet, all;
	double watch_s;
	long rounds;
	uint32_t break_on;
	int error;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;
	char *end;

	switch (key) {
	case OPT_ALL:
		a->all = true;
		break;
	case 'p':
		a->pid = parse_whole(arg, 1, 4194304);
		if (a->pid < 0)
			a->error = fail(EXIT_USAGE, "--pid %s: a process id is wanted", arg);
		break;
	case 'g':
		a->group = parse_whole(arg, 0, 1 << 24);
		if (a->group < 0)
			a->error = fail(EXIT_USAGE,
					"--group %s: a group number is wanted, see "
					"/sys/kernel/iommu_groups",
					arg);
		break;
	case 'd':
		a->device = arg;
		break;
	case 'j':
		a->json = true;
		break;
	case 'q':
		a->quiet = true;
		break;
	case OPT_WATCH:
		a->watch_s = strtod(arg, &end);
		if (end == arg || *end || !(a->watch_s > 0) || a->watch_s > 1e6)
			a->error = fail(EXIT_USAGE, "--watch %s: seconds are wanted, more than 0",
					arg);
		break;
	case OPT_ROUNDS:
		a->rounds = parse_whole(arg, 1, 1L << 40);
		if (a->rounds < 0)
			a->error = fail(EXIT_USAGE, "--rounds %s: a number from 1 is wanted", arg);
		break;
	case OPT_BREAK:
		a->error = parse_severities(arg, &a->break_on);
		break;
	case OPT_READY:
		a->ready_file = arg;
		break;
	case ARGP_KEY_ERROR:
		if (!a->error)
			a->error = usage_error(state);
		return 0;
	case ARGP_KEY_ARG:
		a->error = fail(EXIT_USAGE, "audit: unexpected argument %s; audit --help", arg);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return a->error ? EINVAL : 0;
}

struct run {
	struct watch w;
	struct audit audit;
	uint64_t drawn_ns; /* when the progress bar was last drawn; 0: not drawn */
	uint64_t round_ns; /* when the round began */
	bool bar;
};

static void on_found(void *ctx, const struct audit_finding *f)
{
	struct run *r = ctx;

	for (int i = 0; i < r->w.n_sinks; i++)
		r->w.sink[i].ops->finding(&r->w.sink[i], f);
}

/* On a terminal, for what takes longer than two seconds. */
static void on_progress(void *ctx, uint64_t done, uint64_t all)
{
	struct run *r = ctx;
	uint64_t now = now_ns();
	int filled;

	if (!r->bar || now - r->round_ns < 2000000000ULL || now - r->drawn_ns < 100000000ULL)
		return;
	r->drawn_ns = now;
	filled = all ? (int)(done * 30 / all) : 30;
	if (filled > 30)
		filled = 30;
	fprintf(stderr, "\r[%.*s%.*s] %3d %%  %llu of %llu MiB", filled,
		"##############################", 30 - filled, "                              ",
		filled * 100 / 30, (unsigned long long)done / 256, (unsigned long long)all / 256);
}

static void clear_bar(struct run *r)
{
	if (r->drawn_ns)
		fprintf(stderr, "\r\033[K");
	r->drawn_ns = 0;
}

static bool on_stop(void *ctx)
{
	(void)ctx;
	return stop_requests > 0;
}

/* One look at everything. EXIT_PROVEN, or an exit code after an error line. */
static int one_round(struct run *r, const struct args *a, struct audit_summary *sum)
{
	struct audit_container *list;
	size_t n;
	int ret;

	memset(&r->audit.count, 0, sizeof(r->audit.count));
	r->audit.done = r->audit.all = 0;
	r->round_ns = now_ns();
	ret = audit_find(&r->w.session, a->pid, a->group, &list, &n);
	if (ret)
		return ret;
	for (size_t i = 0; i < n; i++)
		r->audit.all += audit_pages(&r->w.session, &list[i]);
	for (size_t i = 0; i < n && !stop_requests; i++)
		audit_container(&r->audit, &list[i]);
	audit_release(list, n);
	clear_bar(r);
	sum->count = r->audit.count;
	sum->containers = n;
	sum->duration_ns = now_ns() - r->round_ns;
	sum->interrupted = stop_requests > 0;
	sum->conclusion = audit_conclude(&sum->count);
	if (sum->interrupted && sum->conclusion == C_PROVEN)
		sum->conclusion = C_INCOMPLETE;
	sum->exit_code = sum->conclusion == C_BROKEN	 ? EXIT_BROKEN :
			 sum->conclusion == C_INCOMPLETE ? EXIT_INCOMPLETE :
							   EXIT_PROVEN;
	if (n || (!a->pid && a->group == PFNW_NO_GROUP))
		return EXIT_PROVEN;
	if (a->pid)
		return fail(EXIT_USAGE,
			    "--pid %d has no VFIO container with mappings open; "
			    "pfnwatch ls shows who has",
			    a->pid);
	return fail(EXIT_USAGE, "no VFIO container has group %d; pfnwatch ls shows which do",
		    a->group);
}

static int worse(int x, int y)
{
	static const int rank[] = {
		[EXIT_PROVEN] = 0, [EXIT_BROKEN] = 3, [EXIT_USAGE] = 2, [EXIT_INCOMPLETE] = 1
	};

	return rank[x] >= rank[y] ? x : y;
}

static void wait_for(double s)
{
	uint64_t end = now_ns() + (uint64_t)(s * 1e9);
	struct timespec t = { .tv_nsec = 20000000 };

	while (!stop_requests && now_ns() < end)
		nanosleep(&t, NULL);
}

static int run_audit(struct run *r, const struct args *a)
{
	struct audit_summary sum = { 0 };
	int ret = EXIT_PROVEN, worst = EXIT_PROVEN;

	r->audit.session = &r->w.session;
	r->audit.break_on = a->break_on;
	r->audit.ctx = r;
	r->audit.found = on_found;
	r->audit.progress = on_progress;
	r->audit.stop = on_stop;
	r->bar = isatty(STDERR_FILENO);
	do {
		sum.round++;
		sum.last = !a->watch_s || (a->rounds && sum.round >= (uint64_t)a->rounds);
		ret = one_round(r, a, &sum);
		/* who was named may come and go while we watch */
		if (ret && (sum.round == 1 || ret != EXIT_USAGE))
			return watch_error(&r->w, ret);
		worst = worse(worst, sum.exit_code);
		for (int i = 0; i < r->w.n_sinks; i++)
			r->w.sink[i].ops->audited(&r->w.sink[i], &sum);
		if (sum.round == 1 && a->ready_file && watch_ready_file(a->ready_file))
			return watch_error(&r->w, EXIT_USAGE);
		if (!sum.last && !r->w.sink[0].failed)
			wait_for(a->watch_s);
	} while (!sum.last && !stop_requests && !r->w.sink[0].failed);
	return watch_written(&r->w, worst);
}

int cmd_audit(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct session_options so = { .want_audit = true,
				      .audit_only = true,
				      .group = PFNW_NO_GROUP,
				      .ring_bytes = RING_BYTES_MIN,
				      .contexts = 1 };
	struct args a = { .group = PFNW_NO_GROUP, .break_on = BREAK_ON_DEFAULT };
	static struct run r;
	int ret;

	argv[0] = "pfnwatch audit";
	ret = parse_args(&argp, argc, argv, 0, &a, &a.error);
	if (ret)
		return ret < 0 ? EXIT_PROVEN : ret;
	if (a.all && (a.pid || a.group != PFNW_NO_GROUP || a.device))
		return fail(EXIT_USAGE, "--all does not go with --pid, --group or --device");
	if (a.rounds && !a.watch_s)
		return fail(EXIT_USAGE, "--rounds goes with --watch SECONDS");
	catch_signals();
	ret = watch_add_sink(&r.w, a.json ? &json_ops : &text_ops, NULL, stdout);
	if (!ret)
		ret = check_pid(a.pid);
	if (!ret)
		ret = check_group(&a.group, a.device);
	if (!ret)
		ret = watch_session(&r.w, &so, a.quiet);
	ret = ret ? watch_error(&r.w, ret) : run_audit(&r, &a);
	watch_close(&r.w);
	return ret;
}
