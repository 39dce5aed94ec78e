// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "session.h"
#include "budget.h"
#include "calib.h"
#include "caps.h"
#include "handlers.h"
#include "pagemap.h"
#include "pfnwatch.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "pfnwatch.skel.h"

static struct session *printing; /* libbpf's print callback has no argument */

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list ap)
{
	if (getenv("PFNWATCH_DEBUG"))
		return vfprintf(stderr, format, ap);
	if (level == LIBBPF_WARN && printing && !printing->verifier[0]) {
		char *p;

		vsnprintf(printing->verifier, sizeof(printing->verifier), format, ap);
		p = strchr(printing->verifier, '\n');
		if (p)
			*p = 0;
	}
	return 0;
}

/* The stand-in or companion of a hook's program, if the kernel calls for it and there is one. */
static struct bpf_program *other(struct session *s, const struct hook *h, int i, const char *what)
{
	char name[64];

	if (!s->hooks.preempts)
		return NULL;
	snprintf(name, sizeof(name), "%s_%s", h->progs[i], what);
	return bpf_object__find_program_by_name(s->skel->obj, name);
}

/* A hook's programs, [0] for entry: each with its companion or NULL. */
static int programs(struct session *s, const struct hook *h, struct bpf_program *p[2][2])
{
	int i;

	for (i = 0; i < 2 && h->progs[i]; i++) {
		p[i][0] = other(s, h, i, "calm");
		p[i][1] = other(s, h, i, p[i][0] ? "double" : "twin");
		if (!p[i][0])
			p[i][0] = bpf_object__find_program_by_name(s->skel->obj, h->progs[i]);
	}
	return i;
}

static bool pick_rung(struct session *s, const struct hook *h)
{
	struct bpf_program *p[2][2];
	int n = programs(s, h, p);

	for (int i = 0; i < n; i++) {
		if (!p[i][0]) {
			fail(EXIT_KERNEL, "no program %s", h->progs[i]);
			return false;
		}
		bpf_program__set_autoload(p[i][0], true);
		if (p[i][1])
			bpf_program__set_autoload(p[i][1], true);
	}
	return true;
}

static int configure(struct session *s, const struct session_options *o)
{
	struct pfnwatch_bpf *k = s->skel;
	uint32_t slots = o->contexts ? o->contexts : CONTEXTS_DEFAULT;

	s->whole = o->whole && o->want_iommu && hooks_slot(&s->hooks, "dma-unmapped");
	k->rodata->whole = s->whole;
	memcpy((void *)&k->rodata->fmt, &s->fmt, sizeof(s->fmt));
	k->rodata->page_offset = s->calib.page_offset_base;
	k->rodata->vmemmap = s->calib.have & 2 ? s->calib.vmemmap_base : 0;
	k->rodata->page_struct_bytes = s->calib.page_struct_bytes;
	k->rodata->pg_reserved_bit = s->calib.pg_reserved;
	k->rodata->huge_zero_pfn_at = s->calib.huge_zero_pfn;
	k->rodata->claim_has_batch = s->hooks.claim_has_batch;
	/* those of MMU notifiers are only of use where others need not be attached from the start */
	k->rodata->changes_seen = s->hooks.changes_seen & (o->lazy ? ~0U : PFNW_SIGHT_HOOKS);
	k->rodata->preempts = s->hooks.preempts;
	k->rodata->can_cast = s->hooks.can_cast;
	memcpy((void *)&k->rodata->driver_fn, &s->calib.driver_fn, sizeof(s->calib.driver_fn));
	memcpy((void *)&k->rodata->format_vtd_ss, &s->io_fmt[PFNW_IOMMU_VTD_SS],
	       sizeof(struct iommu_format));
	memcpy((void *)&k->rodata->format_x86, &s->io_fmt[PFNW_IOMMU_X86],
	       sizeof(struct iommu_format));
	memcpy((void *)&k->rodata->format_amd_v1, &s->io_fmt[PFNW_IOMMU_AMD_V1],
	       sizeof(struct iommu_format));
	k->rodata->want_iommu = o->want_iommu;
	k->rodata->want_ledger = o->want_ledger;
	k->rodata->audit_only = o->audit_only;
	k->rodata->unmaps_seen = hooks_slot(&s->hooks, "dma-unmapped") &&
				 (o->want_iommu || o->audit_only);
	k->rodata->lies = o->lies;
	k->rodata->want_runs = o->want_runs;
	k->rodata->want_maps = o->want_maps;
	k->rodata->want_claims = o->want_claims;
	k->rodata->scope_pids = o->n_pids > 0;
	k->rodata->scope_children = o->children;
	k->rodata->scope_group = o->group;
	if (o->comm) {
		k->rodata->scope_comm = true;
		strncpy((char *)k->rodata->comm_filter, o->comm, PFNW_COMM - 1);
	}
	k->rodata->wakeup_bytes = o->ring_bytes / 4;
	bpf_map__set_max_entries(k->maps.events, o->ring_bytes);
	bpf_map__set_max_entries(k->maps.contexts, slots);
	bpf_map__set_max_entries(k->maps.boths, s->whole ? slots : 1);

	for (size_t i = 0; i < s->hooks.n; i++) {
		struct hook *h = &s->hooks.hook[i];

		h->left_out = (s->whole && hooks_is_step(h)) ||
			      (!o->lazy && hooks_sight(h) == PFNW_SIGHT_NOTIFIER);
		if (!h->chosen || h->left_out || (!strcmp(h->slot, "fork") && !o->children))
			continue;
		if (o->audit_only && !hooks_marks_busy(h))
			continue;
		if (!o->want_iommu && !o->audit_only && hooks_needs_iommu(h))
			continue;
		if (!pick_rung(s, h))
			return EXIT_KERNEL;
	}
	bpf_program__set_autoload(k->progs.rewalk, true);
	bpf_program__set_autoload(k->progs.selfwalk, true);
	bpf_program__set_autoload(k->progs.watch_owners, true);
	if (o->want_audit) {
		bpf_program__set_autoload(k->progs.find_container, true);
		bpf_program__set_autoload(k->progs.read_container, true);
		bpf_program__set_autoload(k->progs.know_container, true);
		bpf_program__set_autoload(k->progs.list_dmas, true);
		bpf_program__set_autoload(k->progs.list_domains, true);
		bpf_program__set_autoload(k->progs.compare, true);
		bpf_program__set_autoload(k->progs.dump_runs, true);
		bpf_program__set_autoload(k->progs.frame_facts, true);
		bpf_program__set_autoload(k->progs.list_vmas, true);
	}
	return EXIT_PROVEN;
}

int session_run(struct bpf_program *p)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);

	return bpf_prog_test_run_opts(bpf_program__fd(p), &run);
}

int session_rewalk(struct session *s, struct pfnw_rewalk *r)
{
	int err;

	s->skel->bss->rewalk_arg = *r;
	err = session_run(s->skel->progs.rewalk);
	if (!err)
		*r = s->skel->bss->rewalk_arg;
	return err;
}

/*
 * Does the walker tell the truth on this kernel? Walk pages of our own and
 * compare with /proc/self/pagemap before anybody relies on it.
 */
static int self_test(struct session *s)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pfnw_rewalk *r = &s->skel->bss->rewalk_arg;
	uint64_t pfn = 0, told;
	int err, ret = EXIT_PROVEN;

	if (page == MAP_FAILED)
		return fail(EXIT_USAGE, "no memory");
	/* locked, so that nothing moves in between */
	mlock(page, 8192);
	page[0] = page[4096] = 1;
	for (int i = 0; i < 2 && ret == EXIT_PROVEN; i++) {
		uint64_t va = (uint64_t)(uintptr_t)page + i * 4096;
		enum pagemap_answer a;

		r->va = va;
		err = session_run(s->skel->progs.selfwalk);
		a = pagemap_ask(getpid(), va, &pfn);
		told = r->walk.status == PFNW_WALK_LEAF && r->walk.leaf >= 1 && r->walk.leaf <= 3 ?
			       cpu_leaf_pfn(&s->fmt, r->walk.leaf, r->walk.entry[r->walk.leaf - 1],
					    va) :
			       0;
		if (err)
			ret = fail(EXIT_KERNEL, "this kernel cannot: the walker does not run (%s)",
				   strerror(-err));
		else if (a != PAGEMAP_PFN)
			ret = fail(EXIT_KERNEL, "this kernel cannot: /proc/self/pagemap shows no "
						"frame numbers (CAP_SYS_ADMIN in the initial user "
						"namespace is needed)");
		else if (told != pfn)
			ret = fail(EXIT_KERNEL,
				   "this kernel cannot: a walk of our own page gives PFN "
				   "0x%llx, pagemap says 0x%llx: page-table format unknown",
				   (unsigned long long)told, (unsigned long long)pfn);
	}
	munmap(page, 8192);
	return ret;
}

/* Processes that have a container open already are watched from now on. */
static int watch_owners(struct session *s)
{
	struct bpf_link *link;
	struct dirent *d;
	DIR *proc = opendir("/proc");
	int n = 0, map = bpf_map__fd(s->skel->maps.owners), fd;
	char path[64], to[64], buf[64];

	if (!proc)
		return 0;
	while ((d = readdir(proc))) {
		struct dirent *f;
		uint32_t pid, one = 1;
		DIR *fds;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/fd", d->d_name);
		fds = opendir(path);
		if (!fds)
			continue;
		pid = strtoul(d->d_name, NULL, 10);
		while ((f = readdir(fds))) {
			ssize_t len = readlinkat(dirfd(fds), f->d_name, to, sizeof(to) - 1);

			if (len <= 0)
				continue;
			to[len] = 0;
			if (strcmp(to, "/dev/vfio/vfio"))
				continue;
			bpf_map_update_elem(map, &pid, &one, BPF_ANY);
			n++;
			break;
		}
		closedir(fds);
	}
	closedir(proc);
	if (!n)
		return 0;
	link = bpf_program__attach_iter(s->skel->progs.watch_owners, NULL);
	if (libbpf_get_error(link))
		return n;
	fd = bpf_iter_create(bpf_link__fd(link));
	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	if (fd >= 0)
		close(fd);
	bpf_link__destroy(link);
	/* changes that were under way unseen come to their end */
	usleep(100 * 1000);
	return n;
}

int session_add_pid(struct session *s, pid_t pid)
{
	uint32_t key = pid, one = 1;

	return bpf_map_update_elem(bpf_map__fd(s->skel->maps.scope), &key, &one, BPF_ANY);
}

/* @name, or its stand-in, double or twin? */
static bool is_program_of(const struct bpf_program *p, const char *name)
{
	const char *n = bpf_program__name(p);
	size_t len = strlen(name);

	return !strncmp(n, name, len) && (!n[len] || !strcmp(n + len, "_calm") ||
					  !strcmp(n + len, "_double") || !strcmp(n + len, "_twin"));
}

/* Which changes it sees (enum pfnw_sight bits), if that is what it is for. */
static unsigned int sight_of(const struct session *s, const struct bpf_program *p)
{
	for (size_t i = 0; i < s->hooks.n; i++) {
		const struct hook *h = &s->hooks.hook[i];

		for (int j = 0; hooks_sight(h) && j < 2 && h->progs[j]; j++)
			if (is_program_of(p, h->progs[j]))
				return hooks_sight(h);
	}
	return 0;
}

static bool is_attached(const struct bpf_program *p)
{
	const char *sec = bpf_program__section_name(p);

	return bpf_program__autoload(p) && !strstr(sec, "syscall") && !strstr(sec, "iter/");
}

static int attach_one(struct session *s, struct bpf_program *p)
{
	struct bpf_link *link = bpf_program__attach(p);

	if (libbpf_get_error(link))
		return fail(EXIT_KERNEL, "this kernel cannot: attaching %s to %s: %s",
			    bpf_program__name(p), bpf_program__section_name(p), strerror(errno));
	/* the skeleton's slot, so that destroy() detaches it */
	for (int i = 0; i < s->skel->skeleton->prog_cnt; i++)
		if (*s->skel->skeleton->progs[i].prog == p)
			*s->skel->skeleton->progs[i].link = link;
	return EXIT_PROVEN;
}

/* All but those that see page-table changes. */
static int attach(struct session *s)
{
	struct bpf_program *p;
	int ret = EXIT_PROVEN;

	bpf_object__for_each_program(p, s->skel->obj)
		if (!ret && is_attached(p) && !sight_of(s, p))
			ret = attach_one(s, p);
	return ret;
}

/* The sight that is missing: one at a time, and where all are told of, of nobody twice. */
static unsigned int needed(const struct session *s)
{
	unsigned int ever = __atomic_load_n(&s->skel->bss->watched_ever, __ATOMIC_RELAXED);

	if (s->changes_attached & PFNW_SIGHT_HOOKS)
		return 0;
	return ever & PFNW_SIGHT_HOOKS ? PFNW_SIGHT_HOOKS : ever & ~s->changes_attached;
}

int session_watch_some(struct session *s, bool *done)
{
	if (!s->attaching)
		s->attaching = needed(s);
	*done = !s->attaching;
	if (*done)
		return EXIT_PROVEN;
	do {
		s->next_change = bpf_object__next_program(s->skel->obj, s->next_change);
	} while (s->next_change &&
		 (!is_attached(s->next_change) || !(sight_of(s, s->next_change) & s->attaching) ||
		  sight_of(s, s->next_change) & s->changes_attached));
	if (s->next_change)
		return attach_one(s, s->next_change);
	/* what was under way unseen comes to its end */
	usleep(20 * 1000);
	__atomic_fetch_or(&s->skel->bss->changes_on, s->attaching, __ATOMIC_RELEASE);
	s->changes_attached |= s->attaching;
	s->attaching = 0;
	*done = true;
	malloc_trim(0);
	return EXIT_PROVEN;
}

bool session_unused(const struct session *s)
{
	return !s->changes_attached && !s->skel->bss->watched_ever;
}

bool session_needs_changes(const struct session *s)
{
	return s->attaching || needed(s);
}

static int watch_changes(struct session *s)
{
	int ret = EXIT_PROVEN;
	bool done;

	while (!ret && session_needs_changes(s))
		ret = session_watch_some(s, &done);
	return ret;
}

int session_open(struct session *s, const struct session_options *o, session_record_fn fn,
		 void *ctx)
{
	int ret, err;

	memset(s, 0, sizeof(*s));
	printing = s;
	libbpf_set_print(keep_complaint);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	ret = caps_check();
	if (!ret)
		ret = lockdown_check();
	if (!ret)
		ret = hooks_probe(&s->hooks, true);
	if (!ret)
		ret = calib_run(&s->hooks, &s->calib, &s->fmt);
	if (!ret)
		io_formats_init(s->io_fmt, s->fmt.addr_mask);
	if (ret)
		goto out;
	s->n_cpus = libbpf_num_possible_cpus();
	s->verifier[0] = 0;
	err = handlers_use(&s->hooks);
	if (err) {
		ret = fail(EXIT_KERNEL, "libbpf takes no handlers: %s", strerror(-err));
		goto out;
	}
	s->skel = pfnwatch_bpf__open();
	if (!s->skel) {
		ret = fail(EXIT_KERNEL, "opening the BPF object: %s", strerror(errno));
		goto out;
	}
	ret = configure(s, o);
	if (ret)
		goto out;
	if (o->want_budget) {
		s->budgets = budgets_ask(s->skel->obj);
		if (!s->budgets) {
			ret = fail(EXIT_USAGE, "no memory");
			goto out;
		}
	}
	err = pfnwatch_bpf__load(s->skel);
	if (err) {
		ret = fail(EXIT_KERNEL,
			   "this kernel cannot: the programs do not load: %s (%s); "
			   "PFNWATCH_DEBUG=1 shows the verifier's log",
			   strerror(-err), s->verifier);
		goto out;
	}
	ret = self_test(s);
	if (ret)
		goto out;
	s->ring = ring_buffer__new(bpf_map__fd(s->skel->maps.events), fn, ctx, NULL);
	if (!s->ring) {
		ret = fail(EXIT_KERNEL, "ring buffer of %u bytes: %s", o->ring_bytes,
			   strerror(errno));
		goto out;
	}
	for (size_t i = 0; i < o->n_pids; i++)
		session_add_pid(s, o->pids[i]);
	ret = attach(s);
	/* (of whom the programs could not be told is watched by all) */
	if (!ret && !o->audit_only) {
		bool owners = watch_owners(s);

		if (!o->lazy || (owners && !s->skel->bss->watched_ever))
			s->skel->bss->watched_ever = PFNW_SIGHT_HOOKS;
		ret = watch_changes(s);
	}
	if (!ret)
		ret = caps_drop();
	/* types and instructions were read: megabytes that nothing needs from here on */
	malloc_trim(0);
out:
	printing = NULL;
	if (ret)
		session_close(s);
	return ret;
}

int session_consume(struct session *s)
{
	return ring_buffer__consume(s->ring);
}

int session_poll(struct session *s, int ms)
{
	int n = ring_buffer__poll(s->ring, ms);

	if (n < 0 && n != -EINTR)
		return n;
	return session_consume(s);
}

/* How a struct context (bpf/core.bpf.h) begins. */
struct context_head {
	struct pfnw_ev_run run;
	uint64_t n[PFNW_S_HOT];
};

static void for_each_context(struct session *s, void (*fn)(const struct context_head *, void *),
			     void *arg)
{
	int fd = bpf_map__fd(s->skel->maps.contexts);
	struct context_head *value = malloc(bpf_map__value_size(s->skel->maps.contexts));
	uint32_t key, *prev = NULL, next;

	while (value && !bpf_map_get_next_key(fd, prev, &next)) {
		key = next;
		prev = &key;
		if (!bpf_map_lookup_elem(fd, &key, value))
			fn(value, arg);
	}
	free(value);
}

/* A task that is inside a call still has its counts to itself. */
static void add_hot(const struct context_head *c, void *arg)
{
	uint64_t *v = arg;

	for (int i = 0; i < PFNW_S_HOT; i++)
		v[i] += c->n[i];
}

void session_stats(struct session *s, uint64_t *v)
{
	uint64_t per_cpu[s->n_cpus][PFNW_S_MAX];
	uint32_t zero = 0;

	memset(v, 0, PFNW_S_MAX * sizeof(*v));
	if (bpf_map_lookup_elem(bpf_map__fd(s->skel->maps.stats), &zero, per_cpu))
		return;
	for (int c = 0; c < s->n_cpus; c++)
		for (int i = 0; i < PFNW_S_MAX; i++)
			v[i] += per_cpu[c][i];
	for_each_context(s, add_hot, v);
}

bool session_container(struct session *s, uint64_t container, struct pfnw_container *k)
{
	struct pfnw_container_now *a = &s->skel->bss->container_arg;

	a->container = container;
	a->known = 0;
	if (session_run(s->skel->progs.read_container) || !a->known)
		return false;
	*k = a->now;
	return true;
}

bool session_lost_more(struct session *s)
{
	uint64_t n = __atomic_load_n(&s->skel->bss->lost_records, __ATOMIC_ACQUIRE);
	bool more = n != s->lost_seen;

	s->lost_seen = n;
	return more;
}

uint64_t session_stat(struct session *s, enum pfnw_stat what)
{
	uint64_t per_cpu[s->n_cpus][PFNW_S_MAX], n = 0;
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(s->skel->maps.stats), &zero, per_cpu))
		return 0;
	for (int c = 0; c < s->n_cpus; c++)
		n += per_cpu[c][what];
	return n;
}

static uint64_t skipped(struct bpf_program *p)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (!p || !bpf_program__autoload(p) ||
	    bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len))
		return 0;
	return info.recursion_misses;
}

/* Runs of a hook's programs that the kernel skipped; what a double saw is in it. */
static uint64_t missed(struct session *s, const struct hook *h)
{
	struct bpf_program *p[2][2];
	int n = programs(s, h, p);
	uint64_t sum = 0;

	for (int i = 0; i < n; i++) {
		uint64_t first = skipped(p[i][0]), twin = skipped(p[i][1]);
		bool calm = other(s, h, 0, "calm");

		/* what an entry has begun is settled later, and counted then */
		if (i && calm)
			break;
		sum += !calm && p[i][1] && twin < first ? twin : first;
	}
	return sum;
}

uint64_t session_missed(struct session *s)
{
	uint64_t n = 0, made_up = session_stat(s, PFNW_S_MADE_UP);

	for (size_t i = 0; i < s->hooks.n; i++)
		if (s->hooks.hook[i].chosen && hooks_marks_calls(&s->hooks.hook[i]))
			n += missed(s, &s->hooks.hook[i]);
	n -= made_up < n ? made_up : n;
	return n + session_stat(s, PFNW_S_SETTLED);
}

bool session_missed_changes(struct session *s, uint64_t since_ns)
{
	struct timespec t;

	if (s->missed_changes || s->missed_asked_ns > since_ns)
		return s->missed_changes;
	clock_gettime(CLOCK_MONOTONIC, &t);
	for (size_t i = 0; i < s->hooks.n; i++)
		if (s->hooks.hook[i].chosen && hooks_watches_changes(&s->hooks.hook[i]))
			s->missed_changes += missed(s, &s->hooks.hook[i]);
	s->missed_asked_ns = t.tv_sec * 1000000000ULL + t.tv_nsec;
	return s->missed_changes;
}

struct run_call {
	session_record_fn fn;
	void *ctx;
};

static void hand_run(const struct context_head *c, void *arg)
{
	struct run_call *r = arg;
	struct pfnw_ev_run run = c->run;

	if (run.n_pages)
		r->fn(r->ctx, &run, sizeof(run));
}

void session_open_runs(struct session *s, session_record_fn fn, void *ctx)
{
	struct run_call r = { fn, ctx };

	for_each_context(s, hand_run, &r);
}

void session_detach(struct session *s)
{
	if (!s->skel)
		return;
	pfnwatch_bpf__detach(s->skel);
	/* Programs that had begun are over after a grace period: the counters stand. */
	if (syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(100 * 1000);
}

void session_close(struct session *s)
{
	if (s->ring)
		ring_buffer__free(s->ring);
	if (s->skel)
		pfnwatch_bpf__destroy(s->skel);
	budgets_free(s->budgets);
	hooks_free(&s->hooks);
	s->budgets = NULL;
	s->ring = NULL;
	s->skel = NULL;
}
