// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "watch.h"
#include "ksyms.h"
#include "pfnwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 20
#define UNUSED_MS 250 /* where there is nothing to look at */

volatile sig_atomic_t stop_requests;

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void on_signal(int sig)
{
	(void)sig;
	stop_requests++;
}

void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, said as one */
}

static bool use_color(FILE *f)
{
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(f)) && !(no && *no);
}

int watch_add_sink(struct watch *w, const struct sink_ops *ops, const char *path, FILE *dflt)
{
	struct sink *s = &w->sink[w->n_sinks];

	s->ops = ops;
	s->out = dflt;
	if (path && strcmp(path, "-")) {
		s->out = fopen(path, "we");
		if (!s->out)
			return fail(EXIT_USAGE, "cannot write %s: %s", path, strerror(errno));
	}
	s->color = use_color(s->out);
	w->sinks[w->n_sinks++] = s;
	return EXIT_PROVEN;
}

int watch_ready_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return fail(EXIT_USAGE, "cannot write %s: %s", path, strerror(errno));
	dprintf(fd, "%d\n", getpid());
	close(fd);
	return EXIT_PROVEN;
}

int watch_open(struct watch *w, const struct options *o, bool trace, bool children)
{
	struct session_options so = {
		.want_runs = trace && !o->maps && !o->quiet &&
			     (!o->only || o->only & 1u << V_MATCH),
		.want_maps = o->maps,
		.want_claims = o->claims,
		.lazy = trace,
		.want_iommu = !o->no_iommu,
		.whole = !o->steps && !o->maps && !o->claims && !o->no_iommu &&
			 !(o->lies & (PFNW_LIE_MISS_MAP | PFNW_LIE_MISS_COUNT)),
		.want_ledger = !o->no_iommu && !o->no_ledger,
		.want_audit = !o->no_iommu && !o->no_ledger,
		.pids = o->pid,
		.n_pids = o->n_pids,
		.children = children,
		.comm = o->comm,
		.group = o->group,
		.ring_bytes = o->ring_bytes,
		.contexts = o->contexts,
		.lies = o->lies,
	};
	struct collect_options co = {
		.show_runs = trace && !o->quiet,
		.show_maps = o->maps,
		.show_claims = o->claims,
		.only = o->only,
	};
	int ret;

	collector_init(&w->collector, &w->session, &co, w->sinks, w->n_sinks);
	ret = watch_session(w, &so, o->quiet);
	if (ret)
		return ret;
	if (so.want_ledger) {
		struct live_ops ops = { .ctx = &w->collector,
					.found = collector_found,
					.overlap = collector_overlap };

		w->collector.live = live_new(&w->session, &ops, o->break_on);
		if (!w->collector.live)
			return fail(EXIT_USAGE, "no memory for the ledger");
		ret = trace && !o->n_pids && !o->comm ? live_begin(w->collector.live, o->group) :
							EXIT_PROVEN;
		if (ret)
			return ret;
	}
	return o->ready_file ? watch_ready_file(o->ready_file) : EXIT_PROVEN;
}

int watch_session(struct watch *w, const struct session_options *so, bool quiet)
{
	int ret = session_open(&w->session, so, collector_record, &w->collector);

	if (ret)
		return ret;
	w->open = true;
	for (int i = 0; i < w->n_sinks; i++) {
		w->sink[i].fmt = &w->session.fmt;
		w->sink[i].io_fmt = w->session.io_fmt;
		w->sink[i].quiet = quiet;
	}
	w->start_ns = now_ns();
	return EXIT_PROVEN;
}

static bool sinks_failed(const struct watch *w)
{
	for (int i = 0; i < w->n_sinks; i++)
		if (w->sink[i].failed)
			return true;
	return false;
}

/* What found no room: asked when the records that did are taken. */
static void note_lost(struct watch *w)
{
	if (!session_lost_more(&w->session))
		return;
	live_lost_changes(w->collector.live, session_stat(&w->session, PFNW_S_LOST_CHANGE));
	live_lost_records(w->collector.live, session_stat(&w->session, PFNW_S_LOST_LEDGER));
}

int watch_step(struct watch *w, int ms)
{
	int n, most = session_unused(&w->session) ? UNUSED_MS : POLL_MS;

	/* there is something to do that lines should not wait for */
	if (session_needs_changes(&w->session))
		ms = 0;
	n = session_poll(&w->session, ms < most ? ms : most);

	if (n < 0 && n != -EINTR)
		return fail(EXIT_INCOMPLETE, "reading the ring buffer: %s", strerror(-n));
	collector_flush(&w->collector, now_ns());
	if (session_needs_changes(&w->session)) {
		bool done;
		int ret = session_watch_some(&w->session, &done);

		if (ret)
			return ret;
		/* what changed before is found by looking at everything once */
		if (done && w->collector.live)
			live_look_again(w->collector.live);
	}
	if (w->collector.live) {
		note_lost(w);
		live_tick(w->collector.live, false);
	}
	return 0;
}

void watch_finish(struct watch *w, struct summary *s)
{
	/* What is still inside a call when we leave is shown as far as it got. */
	session_consume(&w->session);
	if (w->collector.live) {
		note_lost(w);
		/* what waits is looked at, while the hooks still tell who moves */
		live_tick(w->collector.live, true);
		session_consume(&w->session);
		live_tick(w->collector.live, true);
		/* what is out of order is read anew, as long as somebody does not map all the time */
		for (int i = 0; i < 20 && !live_settled(w->collector.live); i++) {
			usleep(20 * 1000);
			session_consume(&w->session);
			live_tick(w->collector.live, true);
		}
		note_lost(w);
		live_tick(w->collector.live, true);
		live_compare(w->collector.live);
	}
	session_detach(&w->session);
	while (session_consume(&w->session) > 0)
		;
	session_open_runs(&w->session, collector_record, &w->collector);
	collector_flush(&w->collector, ~0ULL);
	collector_summary(&w->collector, s);
	s->duration_ns = now_ns() - w->start_ns;
}

int watch_conclude(struct watch *w, struct summary *s, int exit_code)
{
	s->exit_code = exit_code;
	/* A sink that broke before must not look like a whole one. */
	if (sinks_failed(w) && exit_code != EXIT_BROKEN)
		s->exit_code = EXIT_INCOMPLETE;
	for (int i = 0; i < w->n_sinks; i++)
		w->sink[i].ops->conclusion(&w->sink[i], s);
	return watch_written(w, s->exit_code);
}

int watch_written(struct watch *w, int exit_code)
{
	for (int i = 0; i < w->n_sinks; i++)
		if (fflush(w->sink[i].out) || ferror(w->sink[i].out))
			w->sink[i].failed = true;
	if (!sinks_failed(w))
		return exit_code;
	fail(EXIT_INCOMPLETE, "writing the results failed (%s): what was written is not the whole",
	     strerror(errno ? errno : EIO));
	return exit_code == EXIT_BROKEN ? EXIT_BROKEN : EXIT_INCOMPLETE;
}

int watch_error(struct watch *w, int exit_code)
{
	for (int i = 0; i < w->n_sinks; i++)
		w->sink[i].ops->error(&w->sink[i], last_error(), exit_code);
	return exit_code;
}

void watch_close(struct watch *w)
{
	live_free(w->collector.live);
	w->collector.live = NULL;
	if (w->open)
		session_close(&w->session);
	for (int i = 0; i < w->n_sinks; i++) {
		ksyms_free(w->sink[i].ksyms);
		if (w->sink[i].out != stdout && w->sink[i].out != stderr)
			fclose(w->sink[i].out);
	}
}
