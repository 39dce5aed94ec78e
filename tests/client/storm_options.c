// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "storm.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
	"Usage: storm [OPTION]...\n"
	"\n"
	"Change memory in every way there is while mapping it for device DMA.\n"
	"\n"
	"  --group N          IOMMU group; repeated: a container for each, mappers take\n"
	"                     turns                     (default: $LAB_EDU_GROUP)\n"
	"  --seconds S        how long, at most: SIGTERM ends it (default: 60)\n"
	"  --mappers N        threads that map          (default: 2)\n"
	"  --disturbers N     threads that change       (default: 2)\n"
	"  --areas N          pieces of memory          (default: 8)\n"
	"  --area-pages N     4 KiB pages of each       (default: 512)\n"
	"  --only CHANGE      no other change: a name from the changes record; repeated\n"
	"  --seed S           for the order of things   (default: 1)\n"
	"  --calm             change only what is not mapped for DMA at that moment, and\n"
	"                     what lies beside it: no translation is ever stale. Each\n"
	"                     page is checked against pagemap before it is unmapped.\n"
	"                     A map record tells what is mapped when the storm stops.\n"
	"                     Its memory is its own: --areas and --area-pages are not used\n"
	"  --audit-hold       with --calm: then tell a ready record and keep it mapped\n"
	"                     until a line, or the end, of standard input, or SIGTERM\n"
	"  --account FILE     the account goes there, not to stdout\n"
	"\n"
	"Exit status: 0 fine, 1 error, 2 usage, 3 it did not come to an end.\n"
	"\n"
	"Examples:\n"
	"  storm --seconds 20 --mappers 4\n"
	"  storm --seconds 20 --mappers 4 --calm --audit-hold\n";

enum {
	O_HELP = 256,
	O_GROUP,
	O_SECONDS,
	O_MAPPERS,
	O_DISTURBERS,
	O_AREAS,
	O_AREA_PAGES,
	O_ONLY,
	O_SEED,
	O_ACCOUNT,
	O_CALM,
	O_AUDIT_HOLD,
};

static const struct option long_options[] = {
	{ "help", no_argument, NULL, O_HELP },
	{ "group", required_argument, NULL, O_GROUP },
	{ "seconds", required_argument, NULL, O_SECONDS },
	{ "mappers", required_argument, NULL, O_MAPPERS },
	{ "disturbers", required_argument, NULL, O_DISTURBERS },
	{ "areas", required_argument, NULL, O_AREAS },
	{ "area-pages", required_argument, NULL, O_AREA_PAGES },
	{ "only", required_argument, NULL, O_ONLY },
	{ "seed", required_argument, NULL, O_SEED },
	{ "account", required_argument, NULL, O_ACCOUNT },
	{ "calm", no_argument, NULL, O_CALM },
	{ "audit-hold", no_argument, NULL, O_AUDIT_HOLD },
	{}
};

static void __attribute__((noreturn)) usage(void)
{
	fputs("Try 'storm --help'.\n", stderr);
	exit(2);
}

static double number(double least, double most)
{
	char *end;
	double value = strtod(optarg, &end);

	if (end == optarg || *end || !(value >= least && value <= most)) {
		fprintf(stderr, "storm: '%s' is not a number from %g to %g\n", optarg, least, most);
		usage();
	}
	return value;
}

void storm_parse(struct storm_options *opt, int argc, char **argv)
{
	const char *group = getenv("LAB_EDU_GROUP");
	int c;

	*opt = (struct storm_options){
		.seconds = 60,
		.mappers = 2,
		.disturbers = 2,
		.areas = 8,
		.area_pages = 512,
		.seed = 1,
	};
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case O_HELP:
			fputs(help, stdout);
			exit(0);
		case O_GROUP:
			if (opt->ngroups == STORM_GROUPS) {
				fputs("storm: too many groups\n", stderr);
				usage();
			}
			opt->groups[opt->ngroups++] = (int)number(0, 1 << 20);
			break;
		case O_SECONDS:
			opt->seconds = number(0, 1 << 20);
			break;
		case O_MAPPERS:
			opt->mappers = (unsigned int)number(1, 64);
			break;
		case O_DISTURBERS:
			opt->disturbers = (unsigned int)number(0, 64);
			break;
		case O_AREAS:
			opt->areas = (size_t)number(1, 1024);
			break;
		case O_AREA_PAGES:
			/* No more than an IOVA slot holds. */
			opt->area_pages = (size_t)number(1, 2048);
			break;
		case O_ONLY:
			if (!storm_only(optarg)) {
				fprintf(stderr, "storm: no change is called '%s'\n", optarg);
				usage();
			}
			break;
		case O_SEED:
			opt->seed = (uint64_t)number(0, 1e15);
			break;
		case O_ACCOUNT:
			opt->account = optarg;
			break;
		case O_CALM:
			opt->calm = true;
			break;
		case O_AUDIT_HOLD:
			opt->audit_hold = true;
			break;
		default:
			usage();
		}
	}
	if (optind < argc) {
		fprintf(stderr, "storm: unexpected argument '%s'\n", argv[optind]);
		usage();
	}
	if (!opt->ngroups && group && *group)
		opt->groups[opt->ngroups++] = atoi(group);
	if (!opt->ngroups) {
		fputs("storm: no --group, and LAB_EDU_GROUP is not set\n", stderr);
		usage();
	}
	if (opt->audit_hold && !opt->calm) {
		fputs("storm: --audit-hold needs --calm\n", stderr);
		usage();
	}
}
