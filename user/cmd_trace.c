// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* pfnwatch trace: live, one line per verdict run. */
#include "pfnwatch.h"
#include "watch.h"

#include <signal.h>
#include <stdlib.h>

static const char doc[] =
	"Watch VFIO mappings live: one line per run of pages with the same verdict, the "
	"conclusion at the end, after --duration or Ctrl-C."
	"\vExamples:\n"
	"  pfnwatch trace                         everything on this host\n"
	"  pfnwatch trace --pid 4711 --maps       every mapping of one process\n"
	"  pfnwatch trace --only mismatch --json  JSON lines, only what is wrong\n"
	"\nExit codes: 0 proven, 1 broken, 2 usage, 3 incomplete, 4 this kernel cannot.\n"
	"A trace that saw no mapping ends with 0 when it lost nothing.";

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "JSON lines on standard output (docs/json.md)", 2 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = o;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case ARGP_KEY_ERROR:
		if (!o->error)
			o->error = usage_error(state);
		return 0;
	case ARGP_KEY_ARG:
		o->error = fail(EXIT_USAGE,
				"trace: unexpected argument %s; to run a command use "
				"pfnwatch check -- COMMAND",
				arg);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static int ms_until(uint64_t end_ns)
{
	uint64_t now = now_ns();

	if (now >= end_ns)
		return 0;
	return end_ns - now < 1000000000ULL ? (end_ns - now) / 1000000 + 1 : 1000;
}

int cmd_trace(int argc, char **argv)
{
	static const struct argp_child children[] = { { &watch_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = { options, parse, NULL, doc, children, NULL, NULL };
	static struct watch w;
	struct summary sum = { 0 };
	struct options o;
	uint64_t end;
	int ret;

	options_init(&o);
	argv[0] = "pfnwatch trace";
	ret = parse_args(&argp, argc, argv, 0, &o, &o.error);
	if (ret)
		return ret < 0 ? EXIT_PROVEN : ret;
	catch_signals();
	ret = watch_add_sink(&w, o.json ? &json_ops : &text_ops, NULL, stdout);
	if (!ret)
		ret = options_check(&o);
	if (!ret)
		ret = watch_open(&w, &o, true, o.n_pids > 0);
	if (ret) {
		watch_error(&w, ret);
		watch_close(&w);
		return ret;
	}
	if (!o.json && isatty(STDERR_FILENO))
		fprintf(stderr, "pfnwatch: watching; Ctrl-C ends\n");
	end = o.duration_s ? w.start_ns + (uint64_t)(o.duration_s * 1e9) : ~0ULL;
	while (!stop_requests && now_ns() < end && !ret && !w.sink[0].failed)
		ret = watch_step(&w, ms_until(end));
	watch_finish(&w, &sum);
	if (!ret)
		ret = sum.conclusion == C_BROKEN     ? EXIT_BROKEN :
		      sum.conclusion == C_INCOMPLETE ? EXIT_INCOMPLETE :
						       EXIT_PROVEN;
	ret = watch_conclude(&w, &sum, ret);
	watch_close(&w);
	return ret;
}
