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
	"  --group N          IOMMU group               (default: $LAB_EDU_GROUP)\n"
	"  --seconds S        how long                  (default: 60)\n"
	"  --mappers N        threads that map          (default: 2)\n"
	"  --disturbers N     threads that change       (default: 2)\n"
	"  --areas N          pieces of memory          (default: 8)\n"
	"  --area-pages N     4 KiB pages of each       (default: 512)\n"
	"  --seed S           for the order of things   (default: 1)\n"
	"  --account FILE     the account goes there, not to stdout\n"
	"\n"
	"Exit status: 0 fine, 1 error, 2 usage, 3 it did not come to an end.\n"
	"\n"
	"Example:\n"
	"  storm --seconds 20 --mappers 4\n";

enum {
	O_HELP = 256,
	O_GROUP,
	O_SECONDS,
	O_MAPPERS,
	O_DISTURBERS,
	O_AREAS,
	O_AREA_PAGES,
	O_SEED,
	O_ACCOUNT,
};

static const struct option long_options[] = {
	{ "help", no_argument, NULL, O_HELP },
	{ "group", required_argument, NULL, O_GROUP },
	{ "seconds", required_argument, NULL, O_SECONDS },
	{ "mappers", required_argument, NULL, O_MAPPERS },
	{ "disturbers", required_argument, NULL, O_DISTURBERS },
	{ "areas", required_argument, NULL, O_AREAS },
	{ "area-pages", required_argument, NULL, O_AREA_PAGES },
	{ "seed", required_argument, NULL, O_SEED },
	{ "account", required_argument, NULL, O_ACCOUNT },
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
		.group = group && *group ? atoi(group) : -1,
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
			opt->group = (int)number(0, 1 << 20);
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
		case O_SEED:
			opt->seed = (uint64_t)number(0, 1e15);
			break;
		case O_ACCOUNT:
			opt->account = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind < argc) {
		fprintf(stderr, "storm: unexpected argument '%s'\n", argv[optind]);
		usage();
	}
	if (opt->group < 0) {
		fputs("storm: no --group, and LAB_EDU_GROUP is not set\n", stderr);
		usage();
	}
}
