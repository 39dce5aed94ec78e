// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* pfnwatch check -- COMMAND: an exit code for CI. */
#include "pfnwatch.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char doc[] =
	"Run COMMAND, watch it and all its children, and conclude: is every address that it had "
	"mapped for DMA the one that the page tables say?"
	"\vExamples:\n"
	"  pfnwatch check -- qemu-system-x86_64 -S -device vfio-pci,host=00:04.0 ...\n"
	"  pfnwatch check --json result.jsonl -- ./vfio-selftest\n"
	"\nThe conclusion goes to standard error; standard output is COMMAND's own.\n"
	"Exit codes: 0 proven, 1 broken, 2 usage, 3 incomplete (also when no mapping was seen, "
	"unless --allow-empty), 4 this kernel cannot, 5 COMMAND failed by itself.";

static const struct argp_option options[] = {
	{ "json", 'j', "FILE", 0, "results as JSON lines into FILE, - for standard output", 2 },
	{ "allow-empty", 'e', NULL, 0, "0, not 3, when COMMAND mapped nothing", 3 },
	{ 0 },
};

struct args {
	struct options o;
	char **command;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->o;
		return 0;
	case 'j':
		a->o.json = true;
		a->o.json_file = arg;
		return 0;
	case 'e':
		a->o.allow_empty = true;
		return 0;
	case ARGP_KEY_ERROR:
		if (!a->o.error)
			a->o.error = usage_error(state);
		return 0;
	case ARGP_KEY_ARG:
		/* the first word of COMMAND: the rest is its own */
		a->command = &state->argv[state->next - 1];
		state->next = state->argc;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/*
 * The child waits on @go until it is in scope and everything is attached; a
 * failed exec comes back through @err, which closes itself when exec succeeds.
 */
struct child {
	pid_t pid;
	int go, err;
	bool ended_by_us;
};

static int start_child(struct child *c, char **command)
{
	int go[2], err[2], e;

	if (pipe2(go, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return fail(EXIT_USAGE, "pipe: %s", strerror(errno));
	/* orphans of COMMAND come to us: all its children are waited for */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	c->pid = fork();
	if (c->pid < 0)
		return fail(EXIT_USAGE, "fork: %s", strerror(errno));
	if (!c->pid) {
		char byte;

		close(go[1]);
		signal(SIGPIPE, SIG_DFL);
		if (read(go[0], &byte, 1) != 1)
			_exit(127);
		execvp(command[0], command);
		e = errno;
		if (write(err[1], &e, sizeof(e)) < 0)
			_exit(126);
		_exit(127);
	}
	close(go[0]);
	close(err[1]);
	c->go = go[1];
	c->err = err[0];
	return EXIT_PROVEN;
}

/* 0: it runs; otherwise EXIT_USAGE after an error line. */
static int release_child(struct child *c, const char *name)
{
	ssize_t n;
	int e = 0;

	if (write(c->go, "g", 1) != 1)
		return fail(EXIT_USAGE, "starting %s: %s", name, strerror(errno));
	close(c->go);
	do
		n = read(c->err, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	close(c->err);
	if (n == sizeof(e)) {
		waitpid(c->pid, NULL, 0);
		return fail(EXIT_USAGE, "cannot run %s: %s; is it in PATH and executable?", name,
			    strerror(e));
	}
	return EXIT_PROVEN;
}

static void drop_child(struct child *c)
{
	close(c->go); /* it reads end of file and leaves */
	close(c->err);
	waitpid(c->pid, NULL, 0);
}

static int exit_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Watch until COMMAND and all that it left behind are gone. *@left: something
 * still runs, because the user does not want to wait any longer.
 */
static int wait_all(struct watch *w, struct child *c, const struct options *o, int *status,
		    bool *left)
{
	uint64_t end = o->duration_s ? w->start_ns + (uint64_t)(o->duration_s * 1e9) : ~0ULL;
	int ret = 0, told = 0, st;
	bool over = false;

	*left = false;
	while (!ret) {
		pid_t p = waitpid(-1, &st, WNOHANG);

		if (p > 0 && p == c->pid) {
			*status = exit_of(st);
			/* what we asked it to do is no failure of its own */
			if (c->ended_by_us && *status == 128 + SIGTERM)
				*status = 0;
			c->pid = 0; /* the number may be somebody else's from now on */
		}
		if (p > 0)
			continue;
		if (p < 0 && errno == ECHILD)
			break;
		if (stop_requests > told || (!over && now_ns() > end)) {
			/* first the command may end by itself, then it is left alone */
			if (stop_requests > 1) {
				*left = true;
				break;
			}
			over = true;
			told = stop_requests;
			c->ended_by_us = c->pid > 0;
			if (c->pid)
				kill(c->pid, SIGTERM);
		}
		ret = watch_step(w, 20);
	}
	return ret;
}

static int exit_code(const struct summary *s, const struct options *o)
{
	if (s->conclusion == C_BROKEN)
		return EXIT_BROKEN;
	if (s->conclusion == C_INCOMPLETE)
		return EXIT_INCOMPLETE;
	if (s->command_status)
		return EXIT_COMMAND;
	if (s->empty && !o->allow_empty)
		return EXIT_INCOMPLETE;
	return EXIT_PROVEN;
}

static int run(struct watch *w, struct args *a)
{
	struct summary sum = { 0 };
	struct child c = { 0 };
	bool left;
	int ret = start_child(&c, a->command);

	if (ret)
		return watch_error(w, ret);
	a->o.pid[0] = c.pid;
	a->o.n_pids = 1;
	ret = watch_open(w, &a->o, false, true);
	if (ret) {
		drop_child(&c);
		return watch_error(w, ret);
	}
	ret = release_child(&c, a->command[0]);
	if (ret)
		return watch_error(w, ret);
	sum.has_command = true;
	ret = wait_all(w, &c, &a->o, &sum.command_status, &left);
	watch_finish(w, &sum);
	if (left) {
		sum.doubts++;
		snprintf(sum.doubt, sizeof(sum.doubt), "COMMAND was still running");
		if (sum.conclusion == C_PROVEN)
			sum.conclusion = C_INCOMPLETE;
	}
	if (sum.command_status)
		fail(EXIT_COMMAND, "%s ended with %d", a->command[0], sum.command_status);
	ret = ret ? ret : exit_code(&sum, &a->o);
	/* nothing mapped, nothing proven */
	if (sum.empty && !a->o.allow_empty && sum.conclusion == C_PROVEN)
		sum.conclusion = C_INCOMPLETE;
	return watch_conclude(w, &sum, ret);
}

int cmd_check(int argc, char **argv)
{
	static const struct argp_child children[] = { { &watch_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = { options, parse, "-- COMMAND [ARG...]", doc, children,
					  NULL,	   NULL };
	static struct watch w;
	struct args a = { 0 };
	int ret;

	options_init(&a.o);
	argv[0] = "pfnwatch check";
	ret = parse_args(&argp, argc, argv, ARGP_IN_ORDER, &a, &a.o.error);
	if (ret)
		return ret < 0 ? EXIT_PROVEN : ret;
	if (a.o.n_pids || a.o.comm)
		return fail(EXIT_USAGE, "check: --pid and --comm do not go with a command");
	catch_signals();
	ret = a.o.json ? watch_add_sink(&w, &json_ops, a.o.json_file, stdout) : EXIT_PROVEN;
	if (!ret)
		ret = watch_add_sink(&w, &text_ops, NULL, stderr);
	if (!ret && !a.command)
		ret = watch_error(&w, fail(EXIT_USAGE, "check: no COMMAND; "
						       "pfnwatch check -- COMMAND [ARG...]"));
	if (!ret) {
		ret = options_check(&a.o);
		if (ret)
			watch_error(&w, ret);
	}
	if (!ret)
		ret = run(&w, &a);
	watch_close(&w);
	return ret;
}
