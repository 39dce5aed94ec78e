// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* pfnwatch probe: what this kernel lets us see. */
#include "budget.h"
#include "calib.h"
#include "caps.h"
#include "hooks.h"
#include "opts.h"
#include "pfnwatch.h"
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/libbpf.h>
#include <json-c/json.h>

static const char doc[] =
	"Say for every hook how this kernel lets it be attached, or why not and "
	"what that leaves uncovered."
	"\vExamples:\n"
	"  pfnwatch probe\n"
	"  pfnwatch probe --json\n"
	"  pfnwatch probe --budget     loads all programs: what the verifier spends on each\n"
	"\nExit codes: 0 everything needed is there, 2 usage, 4 this kernel cannot.";

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "one JSON record per hook, then a conclusion", 0 },
	{ "budget", 'b', NULL, 0,
	  "load and attach the programs too, and say for each how many instructions "
	  "the verifier processed and how much stack it uses",
	  0 },
	{ 0 },
};

struct args {
	bool json, budget;
	int error;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case 'j':
		a->json = true;
		return 0;
	case 'b':
		a->budget = true;
		return 0;
	case ARGP_KEY_ERROR:
		if (!a->error)
			a->error = usage_error(state);
		return 0;
	case ARGP_KEY_ARG:
		a->error = fail(EXIT_USAGE, "probe: unexpected argument %s", arg);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static int quiet(enum libbpf_print_level level, const char *format, va_list ap)
{
	(void)level;
	(void)format;
	(void)ap;
	return 0;
}

/* Without BTF or symbols there is nothing to say of a single hook. */
static bool any_usable(const struct hooks *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->hook[i].usable)
			return true;
	return false;
}

static void text(const struct hooks *h, const struct pfnw_calib *c, const struct cpu_format *f)
{
	for (size_t i = 0; i < h->n; i++) {
		const struct hook *k = &h->hook[i];

		if (k->chosen)
			printf("%-17s %-30s %-16s %s\n", k->slot, k->func, rung_name(k->rung),
			       k->covers);
		else if (hooks_slot(h, k->slot))
			printf("%-17s %-30s %-16s %s\n", k->slot, k->func, "(not needed)",
			       k->usable ? "a better rung is used" : k->why);
		else
			printf("%-17s %-30s %-16s %s; %s\n", k->slot, k->func, "MISSING", k->why,
			       k->uncovered);
	}
	if (f->levels)
		printf("cpu page tables   %u levels, encryption mask 0x%" PRIx64 "%s\n", f->levels,
		       (uint64_t)c->sme_me_mask,
		       c->have & 2 ? "" :
				     "; vmemmap_base unknown: claims beyond the first page of "
				     "a batch are not compared");
}

static void json(const struct hooks *h, const struct pfnw_calib *c, const struct cpu_format *f,
		 int ret)
{
	struct json_object *o;
	struct utsname u;

	for (size_t i = 0; i < h->n && any_usable(h); i++) {
		const struct hook *k = &h->hook[i];

		o = json_object_new_object();
		json_object_object_add(o, "type", json_object_new_string("hook"));
		json_object_object_add(o, "v", json_object_new_int(1));
		json_object_object_add(o, "hook", json_object_new_string(k->slot));
		json_object_object_add(o, "function", json_object_new_string(k->func));
		json_object_object_add(o, "rung", json_object_new_string(rung_name(k->rung)));
		json_object_object_add(o, "usable", json_object_new_boolean(k->usable));
		json_object_object_add(o, "chosen", json_object_new_boolean(k->chosen));
		json_object_object_add(o, "required", json_object_new_boolean(k->required));
		json_object_object_add(o, "covers", json_object_new_string(k->covers));
		if (!k->usable)
			json_object_object_add(o, "why", json_object_new_string(k->why));
		if (!hooks_slot(h, k->slot))
			json_object_object_add(o, "uncovered",
					       json_object_new_string(k->uncovered));
		puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	}
	uname(&u);
	o = json_object_new_object();
	json_object_object_add(o, "type", json_object_new_string("probe"));
	json_object_object_add(o, "v", json_object_new_int(1));
	json_object_object_add(o, "kernel", json_object_new_string(u.release));
	json_object_object_add(o, "usable", json_object_new_boolean(ret == EXIT_PROVEN));
	json_object_object_add(o, "page_table_levels", json_object_new_int(f->levels));
	json_object_object_add(o, "claims_beyond_first_page", json_object_new_boolean(c->have & 2));
	json_object_object_add(o, "preempts", json_object_new_boolean(h->preempts));
	if (ret)
		json_object_object_add(o, "message", json_object_new_string(last_error()));
	json_object_object_add(o, "exit_code", json_object_new_int(ret));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

/* @calls: "steps" or "whole", how calls are looked at in this load. */
static void budget_text(void *calls, const struct budget *b)
{
	if (b->rejected)
		printf("program %-9s %-24s %6u instructions, REJECTED: %s\n", (char *)calls,
		       b->program, b->insns, b->rejected);
	else
		printf("program %-9s %-24s %6u instructions, %7u processed, %6u states, "
		       "stack %3u bytes (deepest chain %u, all frames %u)\n",
		       (char *)calls, b->program, b->insns, b->processed, b->states, b->stack,
		       b->stack_chain, b->stack_sum);
}

static void budget_json(void *calls, const struct budget *b)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "type", json_object_new_string("program"));
	json_object_object_add(o, "v", json_object_new_int(1));
	json_object_object_add(o, "program", json_object_new_string(b->program));
	json_object_object_add(o, "calls", json_object_new_string(calls));
	json_object_object_add(o, "instructions", json_object_new_int64(b->insns));
	if (b->rejected) {
		json_object_object_add(o, "rejected", json_object_new_string(b->rejected));
	} else {
		json_object_object_add(o, "processed", json_object_new_int64(b->processed));
		json_object_object_add(o, "states", json_object_new_int64(b->states));
		json_object_object_add(o, "stack_bytes", json_object_new_int64(b->stack));
		json_object_object_add(o, "stack_bytes_chain",
				       json_object_new_int64(b->stack_chain));
		json_object_object_add(o, "stack_bytes_all", json_object_new_int64(b->stack_sum));
		json_object_object_add(o, "xlated_bytes", json_object_new_int64(b->xlated));
		json_object_object_add(o, "jited_bytes", json_object_new_int64(b->jited));
		json_object_object_add(o, "verify_us", json_object_new_int64(b->verify_us));
	}
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static int no_record(void *ctx, void *record, size_t bytes)
{
	(void)ctx;
	(void)record;
	(void)bytes;
	return 0;
}

/*
 * One load with everything that trace can show and select, and with an audit: step by step,
 * or whole calls. What the verifier rejects is left out and told, so that there are figures
 * for the rest.
 */
static int budget_of(bool whole, bool as_json)
{
	struct session s;
	pid_t self = getpid();
	struct session_options o = { .want_runs = true,
				     .want_maps = !whole,
				     .want_claims = !whole,
				     .want_iommu = true,
				     .want_ledger = true,
				     .want_audit = true,
				     .lazy = true,
				     .want_budget = true,
				     .children = true,
				     .pids = &self,
				     .n_pids = 1,
				     .comm = "pfnwatch",
				     .group = 0,
				     .whole = whole,
				     .ring_bytes = RING_BYTES_MIN };
	int rejected = EXIT_PROVEN, ret;

	while ((ret = session_open(&s, &o, no_record, NULL)) == EXIT_KERNEL &&
	       budgets_leave_out(last_error()))
		rejected = ret;
	if (ret)
		return ret;
	if (!whole || s.whole) /* (a kernel without the hook for it goes step by step) */
		budgets_read(s.budgets, as_json ? budget_json : budget_text,
			     whole ? "whole" : "steps");
	session_close(&s);
	return rejected;
}

/* In each way of looking at calls a program may be another: what is dead in it is not walked. */
static int budget(bool as_json)
{
	int steps = budget_of(false, as_json), whole;

	if (steps && steps != EXIT_KERNEL)
		return steps;
	whole = budget_of(true, as_json);
	return steps ? steps : whole;
}

int cmd_probe(int argc, char **argv)
{
	static const struct argp argp = { options, parse, NULL, doc, NULL, NULL, NULL };
	struct cpu_format fmt = { 0 };
	struct pfnw_calib calib = { 0 };
	struct args a = { 0 };
	struct hooks hooks = { 0 };
	int ret;

	argv[0] = "pfnwatch probe";
	ret = parse_args(&argp, argc, argv, 0, &a, &a.error);
	if (ret)
		return ret < 0 ? EXIT_PROVEN : ret;
	libbpf_set_print(quiet);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	ret = caps_check();
	if (!ret)
		ret = lockdown_check();
	if (!ret)
		ret = hooks_probe(&hooks, true);
	if (!ret)
		ret = calib_run(&hooks, &calib, &fmt);
	if (!ret && a.budget)
		ret = budget(a.json);
	if (a.json)
		json(&hooks, &calib, &fmt, ret);
	else if (any_usable(&hooks))
		text(&hooks, &calib, &fmt);
	hooks_free(&hooks);
	return ret;
}
