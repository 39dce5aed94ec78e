// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "opts.h"
#include "judge.h"
#include "pfnwatch.h"
#include "session.h"
#include "sink.h"
#include "stale.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OPT_PID = 'p',
	OPT_COMM = 'c',
	OPT_GROUP = 'g',
	OPT_DEVICE = 'd',
	OPT_QUIET = 'q',
	OPT_ONLY = 256,
	OPT_CLAIMS,
	OPT_MAPS,
	OPT_DURATION,
	OPT_READY,
	OPT_RING,
	OPT_CONTEXTS,
	OPT_NO_IOMMU,
	OPT_STEPS,
	OPT_NO_LEDGER,
	OPT_BREAK,
	OPT_LIE,
};

static const struct argp_option watch_options[] = {
	{ NULL, 0, NULL, 0, "Which processes and devices:", 1 },
	{ "pid", OPT_PID, "PID", 0, "only this process; may be repeated", 1 },
	{ "comm", OPT_COMM, "NAME", 0, "only tasks of this name (15 characters at most)", 1 },
	{ "group", OPT_GROUP, "N", 0, "only containers with this IOMMU group", 1 },
	{ "device", OPT_DEVICE, "BDF", 0, "the group of this PCI device, such as 0000:00:04.0", 1 },
	{ NULL, 0, NULL, 0, "What to show:", 2 },
	{ "maps", OPT_MAPS, NULL, 0, "every iommu_map() and unmap, with the walk beside it", 2 },
	{ "claims", OPT_CLAIMS, NULL, 0, "every vaddr_get_pfns(), with the walk beside it", 2 },
	{ "only", OPT_ONLY, "LIST", 0, "only these verdicts: match,mismatch,stale,raced,unverified",
	  2 },
	{ "quiet", OPT_QUIET, NULL, 0, "only the conclusion", 2 },
	{ "steps", OPT_STEPS, NULL, 0,
	  "look at every claim and every iommu_map() under the kernel's locks, not at what came of "
	  "them when the call is over; costs more (so do --maps and --claims, which need it)",
	  2 },
	{ NULL, 0, NULL, 0, "Limits:", 3 },
	{ "duration", OPT_DURATION, "SECONDS", 0, "stop after so long", 3 },
	{ "ready-file", OPT_READY, "FILE", 0, "create FILE when everything is attached", 3 },
	{ "ring-size", OPT_RING, "BYTES", 0, "ring buffer, a power of two from 4096 (default 4M)",
	  3 },
	{ "contexts", OPT_CONTEXTS, "N", 0,
	  "threads that can be inside container calls (default 256)", 3 },
	{ "no-iommu-walk", OPT_NO_IOMMU, NULL, 0,
	  "do not read the IOMMU's own tables: proven is then only what was asked", 3 },
	{ "no-ledger", OPT_NO_LEDGER, NULL, 0,
	  "do not keep what is mapped: proven is then only the moment of mapping", 3 },
	{ "break-on", OPT_BREAK, "LIST", 0,
	  "which stale pages make it broken: bug,error,known, or none (default: bug,error)", 3 },
	/*
	 * A verifier is tested by lies: miss every seventh page's iommu_map() on purpose, or
	 * have no room for what tells of page-table changes.
	 */
	{ "lie", OPT_LIE, "WHAT", OPTION_HIDDEN, "miss-map, miss-count or miss-change", 3 },
	{ 0 },
};

uint64_t parse_bytes(const char *s)
{
	char *end;
	int shift = 0;
	uint64_t v;

	if (!isdigit((unsigned char)*s))
		return 0;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno)
		return 0;
	switch (toupper((unsigned char)*end)) {
	case 'G':
		shift += 10;
		/* fall through */
	case 'M':
		shift += 10;
		/* fall through */
	case 'K':
		shift += 10;
		end++;
		break;
	}
	return *end || v > UINT64_MAX >> shift ? 0 : v << shift;
}

long parse_whole(const char *s, long min, long max)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	return errno || end == s || *end || v < min || v > max ? -1 : v;
}

int parse_severities(const char *list, uint32_t *bits)
{
	char copy[128], *save, *w;
	int v;

	*bits = 0;
	snprintf(copy, sizeof(copy), "%s", list);
	if (!strcmp(copy, "none"))
		return EXIT_PROVEN;
	for (w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		for (v = 0; v < SEVERITIES && strcmp(w, severity_name(v)); v++)
			;
		if (v == SEVERITIES)
			return fail(EXIT_USAGE,
				    "--break-on %s: no such severity; they are bug, error, known, "
				    "or none",
				    w);
		*bits |= 1u << v;
	}
	if (!*bits)
		return fail(EXIT_USAGE, "--break-on: bug, error, known, or none are wanted");
	return EXIT_PROVEN;
}

static int parse_only(struct options *o, const char *list)
{
	char copy[128], *save, *w;
	int v;

	snprintf(copy, sizeof(copy), "%s", list);
	for (w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		for (v = 0; v < VERDICTS && strcmp(w, verdict_name(v)); v++)
			;
		if (v == VERDICTS)
			return fail(EXIT_USAGE,
				    "--only %s: no such verdict; they are match, mismatch, "
				    "stale, raced, unverified",
				    w);
		o->only |= 1u << v;
	}
	if (!o->only)
		return fail(EXIT_USAGE,
			    "--only %s: names no verdict; they are match, mismatch, stale, "
			    "raced, unverified",
			    list);
	return 0;
}

int usage_error(const struct argp_state *state)
{
	const char *word =
		state->next > 0 && state->next <= state->argc ? state->argv[state->next - 1] : "";

	return fail(EXIT_USAGE, "%s: unknown option, or its value is missing; %s --help lists them",
		    word, state->argv[0]);
}

int parse_args(const struct argp *argp, int argc, char **argv, unsigned int flags, void *input,
	       int *error)
{
	for (int i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--"); i++) {
		if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h"))
			continue;
		argp_help(argp, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK, argv[0]);
		return -1;
	}
	if (!argp_parse(argp, argc, argv, flags | ARGP_NO_ERRS | ARGP_NO_HELP, NULL, input))
		return EXIT_PROVEN;
	return *error ? *error : fail(EXIT_USAGE, "bad arguments; %s --help", argv[0]);
}

static error_t parse_watch(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	uint64_t bytes;
	char *end;
	long v;

	switch (key) {
	case OPT_PID:
		v = parse_whole(arg, 1, 4194304);
		if (v < 0)
			o->error = fail(EXIT_USAGE, "--pid %s: a process id is wanted", arg);
		else if (o->n_pids == MAX_PIDS)
			o->error = fail(EXIT_USAGE, "--pid: at most %d processes", MAX_PIDS);
		else
			o->pid[o->n_pids++] = v;
		break;
	case OPT_COMM:
		if (!*arg || strlen(arg) > 15)
			o->error = fail(EXIT_USAGE,
					"--comm %s: 1 to 15 characters, as in /proc/PID/comm", arg);
		o->comm = arg;
		break;
	case OPT_GROUP:
		o->group = parse_whole(arg, 0, 1 << 24);
		if (o->group < 0)
			o->error = fail(EXIT_USAGE,
					"--group %s: a group number is wanted, see "
					"/sys/kernel/iommu_groups",
					arg);
		break;
	case OPT_DEVICE:
		o->device = arg;
		break;
	case OPT_ONLY:
		o->error = parse_only(o, arg);
		break;
	case OPT_CLAIMS:
		o->claims = true;
		break;
	case OPT_MAPS:
		o->maps = true;
		break;
	case OPT_QUIET:
		o->quiet = true;
		break;
	case OPT_DURATION:
		o->duration_s = strtod(arg, &end);
		if (end == arg || *end || !(o->duration_s > 0) || !isfinite(o->duration_s))
			o->error = fail(EXIT_USAGE,
					"--duration %s: seconds are wanted, more than 0", arg);
		break;
	case OPT_READY:
		o->ready_file = arg;
		break;
	case OPT_RING:
		bytes = parse_bytes(arg);
		if (bytes < RING_BYTES_MIN || bytes > 1U << 30 || (bytes & (bytes - 1)))
			o->error = fail(EXIT_USAGE,
					"--ring-size %s: a power of two from 4096 to 1G is "
					"wanted, such as 64K or 4M",
					arg);
		o->ring_bytes = bytes;
		break;
	case OPT_NO_LEDGER:
		o->no_ledger = true;
		break;
	case OPT_BREAK:
		o->error = parse_severities(arg, &o->break_on);
		break;
	case OPT_STEPS:
		o->steps = true;
		break;
	case OPT_NO_IOMMU:
		o->no_iommu = true;
		break;
	case OPT_LIE:
		if (!strcmp(arg, "miss-map"))
			o->lies |= PFNW_LIE_MISS_MAP;
		else if (!strcmp(arg, "miss-count"))
			o->lies |= PFNW_LIE_MISS_COUNT;
		else if (!strcmp(arg, "miss-change"))
			o->lies |= PFNW_LIE_MISS_CHANGE;
		else if (!strcmp(arg, "hide-mapping"))
			o->lies |= PFNW_LIE_HIDE_MAPPING;
		else
			o->error = fail(EXIT_USAGE,
					"--lie %s: miss-map, miss-count, miss-change or "
					"hide-mapping",
					arg);
		break;
	case OPT_CONTEXTS:
		v = parse_whole(arg, 1, 65536);
		if (v < 0)
			o->error = fail(EXIT_USAGE, "--contexts %s: 1 to 65536", arg);
		o->contexts = v;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return o->error ? EINVAL : 0;
}

const struct argp watch_argp = { watch_options, parse_watch, NULL, NULL, NULL, NULL, NULL };

void options_init(struct options *o)
{
	memset(o, 0, sizeof(*o));
	o->group = PFNW_NO_GROUP;
	o->break_on = BREAK_ON_DEFAULT;
	o->ring_bytes = RING_BYTES_DEFAULT;
	o->contexts = CONTEXTS_DEFAULT;
}

int check_pid(pid_t pid)
{
	if (pid && kill(pid, 0) && errno == ESRCH)
		return fail(EXIT_USAGE, "--pid %d: no such process", pid);
	return EXIT_PROVEN;
}

int check_group(int *group, const char *device)
{
	char path[64];
	int g;

	if (device) {
		g = device_group(device);
		if (g < 0)
			return fail(EXIT_USAGE,
				    "--device %s: no such PCI device in an IOMMU group; "
				    "lspci -D lists them",
				    device);
		if (*group != PFNW_NO_GROUP && *group != g)
			return fail(EXIT_USAGE, "--device %s is in group %d, not %d", device, g,
				    *group);
		*group = g;
	}
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d", *group);
	if (*group != PFNW_NO_GROUP && access(path, F_OK))
		return fail(EXIT_USAGE,
			    "--group %d: no such IOMMU group in /sys/kernel/iommu_groups", *group);
	return EXIT_PROVEN;
}

int options_check(struct options *o)
{
	int ret = EXIT_PROVEN;

	for (size_t i = 0; i < o->n_pids && !ret; i++)
		ret = check_pid(o->pid[i]);
	return ret ? ret : check_group(&o->group, o->device);
}
