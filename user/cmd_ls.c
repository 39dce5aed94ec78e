// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* pfnwatch ls: what is mapped for devices at this moment. */
#include "ls.h"
#include "opts.h"
#include "pfnwatch.h"
#include "watch.h"

#include <errno.h>
#include <string.h>

static const char doc[] =
	"List what is mapped for devices now: containers and who holds them, domains and their "
	"devices, ranges, page sizes, and how fragmented the frames are."
	"\vExamples:\n"
	"  pfnwatch ls                         every VFIO container of this host\n"
	"  pfnwatch ls --pid 4711 --ranges     all ranges of those that one process has open\n"
	"  pfnwatch ls --device 0000:00:04.0   those with this device\n"
	"  pfnwatch ls --json --ranges         everything, as JSON lines\n"
	"\nNobody is stopped and nothing is changed; whether what is listed is right is said by\n"
	"pfnwatch audit. Exit codes: 0 listed (also on a host without a container), 2 usage\n"
	"(also when --pid, --group or --device have none), 3 incomplete: a table could not be\n"
	"read, 4 this kernel cannot.";

static const struct argp_option options[] = {
	{ "pid", 'p', "PID", 0, "those that this process has open", 1 },
	{ "group", 'g', "N", 0, "those with this IOMMU group", 1 },
	{ "device", 'd', "BDF", 0, "those with the group of this PCI device", 1 },
	{ "json", 'j', NULL, 0, "JSON lines on standard output (docs/json.md)", 2 },
	{ "ranges", 'r', NULL, 0, "all ranges, and run lengths; else only the first ranges", 2 },
	{ 0 },
};

struct args {
	pid_t pid;
	int group;
	const char *device;
	bool json, ranges;
	int error;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
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
	case 'r':
		a->ranges = true;
		break;
	case ARGP_KEY_ERROR:
		if (!a->error)
			a->error = usage_error(state);
		return 0;
	case ARGP_KEY_ARG:
		a->error = fail(EXIT_USAGE, "ls: unexpected argument %s; ls --help", arg);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return a->error ? EINVAL : 0;
}

static int nothing(const struct args *a)
{
	if (a->pid)
		return fail(EXIT_USAGE,
			    "--pid %d has no VFIO container with mappings open; "
			    "pfnwatch ls without --pid shows who has",
			    a->pid);
	return fail(EXIT_USAGE,
		    "no VFIO container has group %d; pfnwatch ls without --group and --device "
		    "shows which do",
		    a->group);
}

static int run_ls(struct watch *w, const struct args *a)
{
	struct audit_container *list;
	static struct ls_container c;
	struct ls_summary sum = { 0 };
	struct sink *s = &w->sink[0];
	uint64_t start = now_ns();
	int ret, err = 0;
	size_t n;

	ret = audit_find(&w->session, a->pid, a->group, &list, &n);
	if (ret)
		return watch_error(w, ret);
	if (!n && (a->pid || a->group != PFNW_NO_GROUP)) {
		audit_release(list, n);
		return watch_error(w, nothing(a));
	}
	for (size_t i = 0; i < n && !err && !stop_requests && !s->failed; i++) {
		err = ls_read(&w->session, &list[i], &c, &sum);
		c.show_ranges = a->ranges;
		if (!err)
			s->ops->listed(s, &c);
		ls_free(&c);
	}
	audit_release(list, n);
	if (err)
		return watch_error(w, fail(EXIT_INCOMPLETE, "listing ranges: %s", strerror(-err)));
	sum.interrupted = stop_requests > 0;
	sum.duration_ns = now_ns() - start;
	sum.exit_code = sum.unreadable || sum.interrupted ? EXIT_INCOMPLETE : EXIT_PROVEN;
	s->ops->list_end(s, &sum);
	return watch_written(w, sum.exit_code);
}

int cmd_ls(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct session_options so = { .want_audit = true,
				      .audit_only = true,
				      .group = PFNW_NO_GROUP,
				      .ring_bytes = RING_BYTES_MIN,
				      .contexts = 1 };
	struct args a = { .group = PFNW_NO_GROUP };
	static struct watch w;
	int ret;

	argv[0] = "pfnwatch ls";
	ret = parse_args(&argp, argc, argv, 0, &a, &a.error);
	if (ret)
		return ret < 0 ? EXIT_PROVEN : ret;
	catch_signals();
	ret = watch_add_sink(&w, a.json ? &json_ops : &text_ops, NULL, stdout);
	if (!ret)
		ret = check_pid(a.pid);
	if (!ret)
		ret = check_group(&a.group, a.device);
	if (!ret)
		ret = watch_session(&w, &so, false);
	ret = ret ? watch_error(&w, ret) : run_ls(&w, &a);
	watch_close(&w);
	return ret;
}
