// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "handlers.h"
#include "hooks.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/*
 * Libbpf's registry is the process's, and so is this. What is registered stays: when the last
 * handler goes, libbpf before 1.3 (f11708030716 in its own tree) keeps the list that it has freed.
 */
static struct {
	bool registered;
	const struct hooks *hooks;
} here;

static int prepare_load(struct bpf_program *p, struct bpf_prog_load_opts *o, long cookie)
{
	const char *at = strchr(bpf_program__section_name(p), '/');
	bool tracepoint = o->expected_attach_type == BPF_TRACE_RAW_TP;
	int fd, id = at ? hooks_btf_id(here.hooks, at + 1, tracepoint, &fd) : 0;

	(void)cookie;
	if (!id)
		return -ESRCH;
	o->attach_btf_id = id;
	if (fd > 0)
		o->attach_btf_obj_fd = fd;
	return 0;
}

static int attach(const struct bpf_program *p, long cookie, struct bpf_link **link)
{
	(void)cookie;
	*link = bpf_program__attach_trace(p);
	return libbpf_get_error(*link);
}

int handlers_use(const struct hooks *hooks)
{
	static const struct {
		const char *sec;
		enum bpf_attach_type type;
	} secs[] = { { "fentry+", BPF_TRACE_FENTRY },
		     { "fexit+", BPF_TRACE_FEXIT },
		     { "tp_btf+", BPF_TRACE_RAW_TP } };
	LIBBPF_OPTS(libbpf_prog_handler_opts, o, .prog_prepare_load_fn = prepare_load,
		    .prog_attach_fn = attach);

	here.hooks = hooks;
	for (size_t i = 0; i < sizeof(secs) / sizeof(secs[0]) && !here.registered; i++) {
		int id = libbpf_register_prog_handler(secs[i].sec, BPF_PROG_TYPE_TRACING,
						      secs[i].type, &o);

		if (id < 0)
			return id;
	}
	here.registered = true;
	return 0;
}
