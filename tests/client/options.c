// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "options.h"
#include "layout.h"
#include "page.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"Usage: dmaclient [OPTION]...\n"
	"\n"
	"Map memory for device DMA through VFIO type1 and print an exact account of\n"
	"it, as JSON lines.\n"
	"\n"
	"The device (edu, 1234:11e8, bound to vfio-pci):\n"
	"  --group N            IOMMU group          (default: $LAB_EDU_GROUP)\n"
	"  --bdf BDF            PCI address          (default: $LAB_EDU_BDF)\n"
	"\n"
	"What to map:\n"
	"  --layout LIST        comma separated, may be repeated (default: anon)\n"
	"      anon             small pages, touched in order\n"
	"      contig           small PTEs over frames in a line\n"
	"      scattered        as many PFN runs as pages\n"
	"      thp              transparent huge pages\n"
	"      huge2m, huge1g   hugetlb; the pool grows as needed\n"
	"      shmem            memfd\n"
	"      file             a file, MAP_SHARED\n"
	"      file-private     a file, MAP_PRIVATE, written to (copied) first\n"
	"      file-cow         a file, MAP_PRIVATE, only read; device may only read\n"
	"      zero             the huge zero page: read only, by the device, too\n"
	"      ro               anonymous, PROT_READ, device may only read\n"
	"      bar              a PCI BAR (p2p)\n"
	"      bar-huge         the same on a 2 MiB boundary, where huge leaves fit\n"
	"      pfnmap           /dev/pfnscatter\n"
	"  --pages N            4 KiB pages of each mapping           (default: 256)\n"
	"                       huge layouts round up; BARs and pfnmap stop at their end\n"
	"  --maps N             VFIO_IOMMU_MAP_DMA calls per layout    (default: 1)\n"
	"  --offset BYTES       start that far into the buffer         (default: 0)\n"
	"  --file PATH          for file and file-private (default: a new one in /tmp)\n"
	"  --no-touch           leave it to the kernel to fault pages in\n"
	"  --prot r|rw          protection of the VMA while it is mapped\n"
	"  --flags r|w|rw       what the device may do\n"
	"  --flags-in-turn      with --repeat: what can be written to is mapped rw, then r,\n"
	"                       then rw, and so on, in the same place\n"
	"  --pgoff base|zero    vm_pgoff of the pfnmap VMA: the module's first PFN, as\n"
	"                       drivers with a line of frames have it, or 0 (default: base)\n"
	"  --bar-bdf BDF        whose BAR (default: the edu device's own)\n"
	"  --bar-index I        which BAR (default: 0)\n"
	"\n"
	"How:\n"
	"  --threads N          spread the mappings over N threads     (default: 1)\n"
	"  --in-turn            one call at a time, and thread N only on processor N\n"
	"  --repeat N           cycles of map and unmap                (default: 1)\n"
	"  --shuffle            in each cycle the mappings lie in another order, and are\n"
	"                       made in another: the same IOVA, mostly for other memory\n"
	"  --again N            all of it N times, each in a container of its own, by the\n"
	"                       same thread                            (default: 1)\n"
	"  --unmap ORDER        none, fifo, lifo, random, or all: one call for the whole\n"
	"                       range                                  (default: fifo)\n"
	"  --iova BASE          lowest IOVA                     (default: 0x10000000)\n"
	"  --seed S             for random orders                      (default: 1)\n"
	"  --fork               map in a child process\n"
	"  --leader-ends        at the end the first thread is over before the others, and\n"
	"                       the last one closes the container\n"
	"  --linger SECONDS     with --fork: the parent keeps the container that long\n"
	"                       after the child is gone\n"
	"  --ballast PAGES      that much more memory, not for DMA: an exit takes its time,\n"
	"                       and it goes last\n"
	"  --rest SECONDS       sleep before the mapping or unmapping calls of each layout:\n"
	"                       what was put off is done then, and not on their account\n"
	"  --hold SECONDS       sleep with everything mapped; SIGTERM ends it early\n"
	"  --ready-file PATH    created when everything is mapped and changed\n"
	"  --pause WHERE        tell a ready record and wait there for a line, or the end,\n"
	"                       of standard input, or for SIGTERM: mapped (nothing has\n"
	"                       changed yet), changed, unmapped (the container is still\n"
	"                       there); a list, or repeated\n"
	"  --audit-hold         --pause changed\n"
	"\n"
	"What changes under the mappings once they are there (a stale record tells each\n"
	"range in which the IOMMU then translates to a frame that the VA does not name):\n"
	"  --stale LIST         comma separated, may be repeated; mappings get the cases\n"
	"                       that suit them in turns\n"
	"      dontneed         MADV_DONTNEED\n"
	"      munmap           the memory is unmapped\n"
	"      mremap           the memory is moved elsewhere\n"
	"      punch            a hole in the file: shmem, file (on tmpfs)\n"
	"      cow              a write after a read-only pin: file-cow, anon --flags r\n"
	"      split            of zero: PROT_READ of the chosen pages, and all others of\n"
	"                       their 2 MiB change from the huge zero page to the small one\n"
	"      protect          PROT_READ: only rights differ, the frames stay\n"
	"      pfnmap-drop      the module takes its pages away (all pfnmap mappings)\n"
	"      pfnmap-shuffle   and gives them other frames (all pfnmap mappings)\n"
	"      bar-decode-off   the owner of the BAR does not decode it any more (all bar\n"
	"                       mappings)\n"
	"      owner-exit       a child maps and exits; this process holds the container\n"
	"  --stale-first N      only from this page of a mapping on    (default: 0)\n"
	"  --stale-pages N      only so many of them                   (default: all)\n"
	"  --stale-stride K     only every K-th page                   (default: 1)\n"
	"  --retouch            touch the pages again; where nothing is mapped any more,\n"
	"                       map other memory. bar-decode-off: decode again first\n"
	"\n"
	"What to tell:\n"
	"  --account FILE       the account goes there, not to stdout\n"
	"  --brief              only totals, errors and disagreements\n"
	"  --list-pages         one record for each page, with its PFN\n"
	"\n"
	"The device as a witness (IOVAs below 4 GiB; 0.1 s for each page):\n"
	"  --dma-verify         have the device read each page, compare with the CPU\n"
	"  --dma-check WHAT     read, write or both. write: the device writes and the CPU\n"
	"                       looks; where device or process may only read, nothing\n"
	"                       must change\n"
	"                       (default: read)\n"
	"  --dma-gone           and once more when all is unmapped: the device must not\n"
	"                       read the pages any more\n"
	"  --dma-stale          have the device read through what --stale made stale: it\n"
	"                       must see what the pages held before\n"
	"  --dma-stride K       only every K-th page of a mapping      (default: 1)\n"
	"  --dma-max N          at most N pages in all                 (default: no limit)\n"
	"\n"
	"Exit status: 0 fine, 1 error, 2 usage, 6 the device disagreed, 77 this machine\n"
	"lacks something that was asked for.\n"
	"\n"
	"Examples:\n"
	"  dmaclient --layout scattered --pages 1009\n"
	"  dmaclient --layout anon,thp,shmem --maps 5 --threads 2 --unmap random\n"
	"  dmaclient --layout anon --pages 31 --dma-verify\n"
	"  dmaclient --layout bar --bar-bdf 0000:00:05.0 --bar-index 2 --dma-verify\n"
	"  dmaclient --layout anon --maps 3 --stale munmap,mremap,dontneed --dma-stale\n"
	"  dmaclient --layout pfnmap --pages 101 --stale pfnmap-shuffle --audit-hold\n"
	"  dmaclient --layout anon --hold 30 --ready-file /tmp/mapped\n";

static void __attribute__((noreturn, format(printf, 1, 2))) usage(const char *fmt, ...)
{
	va_list args;

	fputs("dmaclient: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\nTry 'dmaclient --help'.\n", stderr);
	exit(EXIT_USAGE);
}

static uint64_t number(const char *name, const char *text, uint64_t least)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (*text < '0' || *text > '9' || *end)
		usage("--%s wants a number, not '%s'", name, text);
	if (value < least)
		usage("--%s must be at least %llu", name, (unsigned long long)least);
	return value;
}

static double seconds(const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0))
		usage("--%s wants seconds, not '%s'", name, text);
	return value;
}

struct choice {
	const char *name;
	int value;
};

static int choose(const char *name, const char *text, const struct choice *choices)
{
	for (; choices->name; choices++)
		if (!strcmp(choices->name, text))
			return choices->value;
	usage("--%s does not know '%s'", name, text);
}

static const struct choice unmap_choices[] = { { "none", UNMAP_NONE }, { "fifo", UNMAP_FIFO },
					       { "lifo", UNMAP_LIFO }, { "random", UNMAP_RANDOM },
					       { "all", UNMAP_ALL },   {} };

static const struct choice pause_choices[] = { { "mapped", PAUSE_MAPPED },
					       { "changed", PAUSE_CHANGED },
					       { "unmapped", PAUSE_UNMAPPED },
					       {} };

static const struct choice prot_choices[] = { { "r", ACCESS_READ }, { "rw", ACCESS_BOTH }, {} };

static const struct choice flag_choices[] = { { "r", ACCESS_READ },
					      { "w", ACCESS_WRITE },
					      { "rw", ACCESS_BOTH },
					      {} };

static const struct choice check_choices[] = { { "read", ACCESS_READ },
					       { "write", ACCESS_WRITE },
					       { "both", ACCESS_BOTH },
					       {} };

static const struct choice pgoff_choices[] = { { "base", 0 }, { "zero", 1 }, {} };

static void add_layouts(struct options *opt, char *list)
{
	char *save = NULL;

	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		const struct layout *layout = layout_find(name);

		if (!layout)
			usage("there is no layout '%s'", name);
		if (opt->nlayouts == MAX_LAYOUTS)
			usage("too many layouts");
		opt->layouts[opt->nlayouts++] = layout;
	}
}

static void add_stale(struct options *opt, char *list)
{
	char *save = NULL;

	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		int found = stale_find(name);

		if (found < 0)
			usage("--stale does not know '%s'", name);
		for (int i = 0; i < opt->nstale; i++)
			if (opt->stale[i] == (enum stale_case)found)
				usage("--stale %s twice", name);
		opt->stale[opt->nstale++] = found;
	}
}

static void add_pauses(struct options *opt, char *list)
{
	char *save = NULL;

	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save))
		opt->pauses |= (unsigned int)choose("pause", name, pause_choices);
}

enum {
	O_HELP = 256,
	O_GROUP,
	O_BDF,
	O_LAYOUT,
	O_PAGES,
	O_MAPS,
	O_OFFSET,
	O_FILE,
	O_NO_TOUCH,
	O_PROT,
	O_FLAGS,
	O_FLAGS_IN_TURN,
	O_SHUFFLE,
	O_AGAIN,
	O_PGOFF,
	O_BAR_BDF,
	O_BAR_INDEX,
	O_THREADS,
	O_REPEAT,
	O_UNMAP,
	O_IOVA,
	O_SEED,
	O_FORK,
	O_LINGER,
	O_BALLAST,
	O_REST,
	O_HOLD,
	O_LEADER_ENDS,
	O_IN_TURN,
	O_READY_FILE,
	O_PAUSE,
	O_AUDIT_HOLD,
	O_STALE,
	O_STALE_FIRST,
	O_STALE_PAGES,
	O_STALE_STRIDE,
	O_RETOUCH,
	O_ACCOUNT,
	O_BRIEF,
	O_LIST_PAGES,
	O_DMA_VERIFY,
	O_DMA_CHECK,
	O_DMA_GONE,
	O_DMA_STALE,
	O_DMA_STRIDE,
	O_DMA_MAX,
};

static const struct option long_options[] = {
	{ "help", no_argument, NULL, O_HELP },
	{ "group", required_argument, NULL, O_GROUP },
	{ "bdf", required_argument, NULL, O_BDF },
	{ "layout", required_argument, NULL, O_LAYOUT },
	{ "pages", required_argument, NULL, O_PAGES },
	{ "maps", required_argument, NULL, O_MAPS },
	{ "offset", required_argument, NULL, O_OFFSET },
	{ "file", required_argument, NULL, O_FILE },
	{ "no-touch", no_argument, NULL, O_NO_TOUCH },
	{ "prot", required_argument, NULL, O_PROT },
	{ "flags", required_argument, NULL, O_FLAGS },
	{ "flags-in-turn", no_argument, NULL, O_FLAGS_IN_TURN },
	{ "shuffle", no_argument, NULL, O_SHUFFLE },
	{ "again", required_argument, NULL, O_AGAIN },
	{ "pgoff", required_argument, NULL, O_PGOFF },
	{ "bar-bdf", required_argument, NULL, O_BAR_BDF },
	{ "bar-index", required_argument, NULL, O_BAR_INDEX },
	{ "threads", required_argument, NULL, O_THREADS },
	{ "repeat", required_argument, NULL, O_REPEAT },
	{ "unmap", required_argument, NULL, O_UNMAP },
	{ "iova", required_argument, NULL, O_IOVA },
	{ "seed", required_argument, NULL, O_SEED },
	{ "fork", no_argument, NULL, O_FORK },
	{ "in-turn", no_argument, NULL, O_IN_TURN },
	{ "leader-ends", no_argument, NULL, O_LEADER_ENDS },
	{ "linger", required_argument, NULL, O_LINGER },
	{ "ballast", required_argument, NULL, O_BALLAST },
	{ "rest", required_argument, NULL, O_REST },
	{ "hold", required_argument, NULL, O_HOLD },
	{ "ready-file", required_argument, NULL, O_READY_FILE },
	{ "pause", required_argument, NULL, O_PAUSE },
	{ "audit-hold", no_argument, NULL, O_AUDIT_HOLD },
	{ "stale", required_argument, NULL, O_STALE },
	{ "stale-first", required_argument, NULL, O_STALE_FIRST },
	{ "stale-pages", required_argument, NULL, O_STALE_PAGES },
	{ "stale-stride", required_argument, NULL, O_STALE_STRIDE },
	{ "retouch", no_argument, NULL, O_RETOUCH },
	{ "account", required_argument, NULL, O_ACCOUNT },
	{ "brief", no_argument, NULL, O_BRIEF },
	{ "list-pages", no_argument, NULL, O_LIST_PAGES },
	{ "dma-verify", no_argument, NULL, O_DMA_VERIFY },
	{ "dma-check", required_argument, NULL, O_DMA_CHECK },
	{ "dma-gone", no_argument, NULL, O_DMA_GONE },
	{ "dma-stale", no_argument, NULL, O_DMA_STALE },
	{ "dma-stride", required_argument, NULL, O_DMA_STRIDE },
	{ "dma-max", required_argument, NULL, O_DMA_MAX },
	{}
};

static void take_option(struct options *opt, int c, const char *name)
{
	int check;

	switch (c) {
	case O_HELP:
		fputs(help, stdout);
		exit(0);
	case O_GROUP:
		opt->group = (int)number(name, optarg, 0);
		break;
	case O_BDF:
		opt->bdf = optarg;
		break;
	case O_LAYOUT:
		add_layouts(opt, optarg);
		break;
	case O_PAGES:
		opt->pages = number(name, optarg, 1);
		break;
	case O_MAPS:
		opt->maps = number(name, optarg, 1);
		break;
	case O_OFFSET:
		opt->offset = number(name, optarg, 0);
		if (opt->offset % PG_SIZE)
			usage("--offset must be a multiple of 4096");
		break;
	case O_FILE:
		opt->file = optarg;
		break;
	case O_NO_TOUCH:
		opt->touch = false;
		break;
	case O_PROT:
		opt->prot = choose(name, optarg, prot_choices);
		break;
	case O_FLAGS:
		opt->flags = choose(name, optarg, flag_choices);
		break;
	case O_FLAGS_IN_TURN:
		opt->flags_in_turn = true;
		break;
	case O_SHUFFLE:
		opt->shuffle = true;
		break;
	case O_AGAIN:
		opt->again = number(name, optarg, 1);
		break;
	case O_PGOFF:
		opt->pgoff_zero = choose(name, optarg, pgoff_choices);
		break;
	case O_BAR_BDF:
		opt->bar_bdf = optarg;
		break;
	case O_BAR_INDEX:
		opt->bar_index = number(name, optarg, 0);
		if (opt->bar_index > 5)
			usage("a device has BARs 0 to 5");
		break;
	case O_THREADS:
		opt->threads = number(name, optarg, 1);
		break;
	case O_REPEAT:
		opt->repeat = number(name, optarg, 1);
		break;
	case O_UNMAP:
		opt->unmap = choose(name, optarg, unmap_choices);
		break;
	case O_IOVA:
		opt->iova = number(name, optarg, 0);
		if (opt->iova % PG_SIZE)
			usage("--iova must be a multiple of 4096");
		break;
	case O_SEED:
		opt->seed = number(name, optarg, 0);
		break;
	case O_FORK:
		opt->fork = true;
		break;
	case O_LINGER:
		opt->linger = seconds(name, optarg);
		break;
	case O_IN_TURN:
		opt->in_turn = true;
		break;
	case O_LEADER_ENDS:
		opt->leader_ends = true;
		break;
	case O_BALLAST:
		opt->ballast = number(name, optarg, 1);
		break;
	case O_REST:
		opt->rest = seconds(name, optarg);
		break;
	case O_HOLD:
		opt->hold = seconds(name, optarg);
		break;
	case O_READY_FILE:
		opt->ready_file = optarg;
		break;
	case O_PAUSE:
		add_pauses(opt, optarg);
		break;
	case O_AUDIT_HOLD:
		opt->pauses |= PAUSE_CHANGED;
		break;
	case O_STALE:
		add_stale(opt, optarg);
		break;
	case O_STALE_FIRST:
		opt->stale_first = number(name, optarg, 0);
		break;
	case O_STALE_PAGES:
		opt->stale_pages = number(name, optarg, 1);
		break;
	case O_STALE_STRIDE:
		opt->stale_stride = number(name, optarg, 1);
		break;
	case O_RETOUCH:
		opt->retouch = true;
		break;
	case O_ACCOUNT:
		opt->account = optarg;
		break;
	case O_BRIEF:
		opt->brief = true;
		break;
	case O_LIST_PAGES:
		opt->list_pages = true;
		break;
	case O_DMA_VERIFY:
		opt->dma_verify = true;
		break;
	case O_DMA_CHECK:
		check = choose(name, optarg, check_choices);
		opt->dma_verify = true;
		opt->dma_read = check != ACCESS_WRITE;
		opt->dma_write = check != ACCESS_READ;
		break;
	case O_DMA_GONE:
		opt->dma_verify = true;
		opt->dma_gone = true;
		break;
	case O_DMA_STALE:
		opt->dma_stale = true;
		break;
	case O_DMA_STRIDE:
		opt->dma_stride = number(name, optarg, 1);
		break;
	case O_DMA_MAX:
		opt->dma_max = number(name, optarg, 1);
		break;
	default:
		/* getopt has already said what is wrong. */
		fputs("Try 'dmaclient --help'.\n", stderr);
		exit(EXIT_USAGE);
	}
}

bool options_need_edu(const struct options *opt)
{
	return opt->dma_verify || opt->dma_stale;
}

bool options_have_stale(const struct options *opt, enum stale_case which)
{
	for (int i = 0; i < opt->nstale; i++)
		if (opt->stale[i] == which)
			return true;
	return false;
}

static void check_stale(const struct options *opt)
{
	if (opt->dma_stale && !opt->nstale)
		usage("--dma-stale needs --stale");
	if (opt->nstale && opt->repeat > 1)
		usage("what --stale has changed cannot be mapped again: no --repeat");
	if (options_have_stale(opt, STALE_PFNMAP_DROP) &&
	    options_have_stale(opt, STALE_PFNMAP_SHUFFLE))
		usage("pfnmap-drop and pfnmap-shuffle concern the same mappings");
	if (!options_have_stale(opt, STALE_OWNER_EXIT))
		return;
	if (opt->nstale > 1)
		usage("after owner-exit nothing else can change");
	if (opt->fork)
		usage("--stale owner-exit forks by itself");
	if (opt->dma_verify)
		usage("--stale owner-exit goes with --dma-stale only");
}

void options_parse(struct options *opt, int argc, char **argv)
{
	const char *group = getenv("LAB_EDU_GROUP");
	int c, index = 0;

	*opt = (struct options){
		.group = group && *group ? atoi(group) : -1,
		.bdf = getenv("LAB_EDU_BDF"),
		.pages = 256,
		.maps = 1,
		.touch = true,
		.threads = 1,
		.repeat = 1,
		.again = 1,
		.unmap = UNMAP_FIFO,
		.iova = 0x10000000,
		.seed = 1,
		.stale_pages = SIZE_MAX,
		.stale_stride = 1,
		.dma_read = true,
		.dma_stride = 1,
		.dma_max = SIZE_MAX,
	};
	while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1)
		take_option(opt, c, c >= O_HELP ? long_options[index].name : "");
	if (optind < argc)
		usage("unexpected argument '%s'", argv[optind]);
	if (!opt->nlayouts)
		opt->layouts[opt->nlayouts++] = layout_find("anon");
	if (opt->group < 0)
		usage("no --group, and LAB_EDU_GROUP is not set");
	if (!opt->bdf && (options_need_edu(opt) || !opt->bar_bdf))
		for (int i = 0; i < opt->nlayouts; i++)
			if (options_need_edu(opt) || layout_needs_bar(opt->layouts[i]))
				usage("no --bdf, and LAB_EDU_BDF is not set");
	if (opt->unmap == UNMAP_NONE && opt->repeat > 1)
		usage("--repeat needs an --unmap order");
	check_stale(opt);
	if (opt->linger > 0 && !opt->fork)
		usage("--linger needs --fork");
	if (opt->again > 1 && (opt->fork || opt->nstale))
		usage("--again does not go with --fork or --stale");
}
