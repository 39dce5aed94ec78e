// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "pfnwatch.h"

#include <string.h>

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} verbs[] = {
	{ "probe", cmd_probe, "what this kernel lets us see, hook by hook" },
	{ "trace", cmd_trace, "watch VFIO mappings live, one line per verdict run" },
	{ "check", cmd_check, "run a command; prove everything that it maps" },
	{ "audit", cmd_audit, "prove what is mapped already, on both sides of the IOMMU" },
	{ "ls", cmd_ls, "what is mapped: containers, domains, devices, ranges" },
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: pfnwatch VERB [OPTION...]\n"
		   "Proves that every address handed to a device is the address the page tables "
		   "say.\n\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(f, "  %-8s %s\n", verbs[i].name, verbs[i].what);
	fprintf(f, "\nExamples:\n"
		   "  pfnwatch probe\n"
		   "  pfnwatch trace --maps\n"
		   "  pfnwatch check -- qemu-system-x86_64 -device vfio-pci,host=00:04.0 ...\n"
		   "  pfnwatch audit --pid 4711\n\n"
		   "pfnwatch VERB --help says more. Exit codes: 0 proven, 1 broken, 2 usage,\n"
		   "3 incomplete, 4 this kernel cannot, 5 the command under check failed.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_PROVEN;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("pfnwatch " PFNWATCH_VERSION "\n");
		return EXIT_PROVEN;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1);
	return fail(EXIT_USAGE, "unknown verb %s; pfnwatch --help lists them", argv[1]);
}
