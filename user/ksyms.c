// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ksyms.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sym {
	uint64_t addr;
	uint32_t name; /* offset in text */
	uint32_t module; /* offset in text, 0: vmlinux */
};

static int by_addr(const void *a, const void *b)
{
	const struct sym *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Data that calibration reads; of all others only functions are kept. */
static const char *const data[] = { "page_offset_base", "vmemmap_base", "sme_me_mask",
				    "pgdir_shift", "huge_zero_pfn" };

#define N_DATA (sizeof(data) / sizeof(data[0]))

struct ksyms {
	struct sym *sym; /* by address */
	size_t n, room;
	char *text; /* text[0] is "" */
	size_t used, text_room;
	uint64_t data[N_DATA];
	bool hidden;
};

static uint32_t keep(struct ksyms *k, const char *s, size_t n)
{
	uint32_t at = k->used;

	if (k->used + n + 1 > k->text_room) {
		k->text_room = (k->text_room + n) * 2;
		k->text = realloc(k->text, k->text_room);
		if (!k->text)
			abort();
	}
	memcpy(k->text + at, s, n);
	k->text[at + n] = 0;
	k->used += n + 1;
	return at;
}

static void keep_data(struct ksyms *k, uint64_t addr, const char *name, size_t n)
{
	for (size_t i = 0; i < N_DATA; i++)
		if (strlen(data[i]) == n && !memcmp(data[i], name, n))
			k->data[i] = addr;
}

/* "ADDRESS TYPE NAME" and, of a module, "\t[MODULE]". @line ends with a NUL. */
static void add_line(struct ksyms *k, const char *line, bool bpf)
{
	const char *name, *module = NULL;
	size_t n, n_module = 0;
	char *end, type;
	uint64_t addr = strtoull(line, &end, 16);

	if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ')
		return;
	type = tolower(end[1]);
	name = end + 3;
	n = strcspn(name, "\t ");
	if (name[n] && name[n + 1] == '[') {
		module = name + n + 2;
		n_module = strcspn(module, "]");
	}
	if (addr)
		k->hidden = false;
	if (type != 't' && type != 'w') {
		if (!module)
			keep_data(k, addr, name, n);
		return;
	}
	if (!bpf && n_module == 3 && !memcmp(module, "bpf", 3))
		return;
	if (k->n == k->room) {
		k->room *= 2;
		k->sym = realloc(k->sym, k->room * sizeof(*k->sym));
		if (!k->sym)
			abort();
	}
	k->sym[k->n].addr = addr;
	k->sym[k->n].name = keep(k, name, n);
	k->sym[k->n].module = module ? keep(k, module, n_module) : 0;
	k->n++;
}

/* (With stdio and its small buffer this took a third of the start.) */
static int read_lines(struct ksyms *k, int fd, bool bpf)
{
	enum { ROOM = 1 << 16 };
	char *text = malloc(ROOM + 1), *line, *nl;
	size_t have = 0;
	ssize_t got;

	if (!text)
		abort();
	while ((got = read(fd, text + have, ROOM - have)) > 0) {
		have += got;
		text[have] = 0;
		for (line = text; (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = 0;
			add_line(k, line, bpf);
		}
		have -= line - text;
		memmove(text, line, have);
	}
	free(text);
	return got;
}

struct ksyms *ksyms_load(bool bpf)
{
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC), err;
	struct ksyms *k;

	if (fd < 0)
		return NULL;
	k = calloc(1, sizeof(*k));
	if (!k)
		abort();
	k->room = 1 << 15;
	k->text_room = 1 << 20;
	k->text = malloc(k->text_room);
	k->sym = malloc(k->room * sizeof(*k->sym));
	if (!k->text || !k->sym)
		abort();
	k->text[0] = 0;
	k->used = 1;
	k->hidden = true;
	err = read_lines(k, fd, bpf) ? errno : 0;
	close(fd);
	if (err) {
		ksyms_free(k);
		errno = err;
		return NULL;
	}
	qsort(k->sym, k->n, sizeof(*k->sym), by_addr);
	return k;
}

void ksyms_free(struct ksyms *k)
{
	if (!k)
		return;
	free(k->sym);
	free(k->text);
	free(k);
}

bool ksyms_has(const struct ksyms *k, const char *module, const char *name)
{
	for (size_t i = 0; i < k->n; i++)
		if (!strcmp(k->text + k->sym[i].name, name) &&
		    (!module || !strcmp(k->text + k->sym[i].module, module)))
			return true;
	return false;
}

uint64_t ksyms_address(const struct ksyms *k, const char *name)
{
	for (size_t i = 0; i < N_DATA; i++)
		if (!strcmp(data[i], name))
			return k->data[i];
	for (size_t i = 0; i < k->n; i++)
		if (!strcmp(k->text + k->sym[i].name, name))
			return k->sym[i].addr;
	return 0;
}

const char *ksyms_clone(const struct ksyms *k, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < k->n; i++) {
		const char *s = k->text + k->sym[i].name;

		if (!strncmp(s, name, n) && s[n] == '.')
			return s;
	}
	return NULL;
}

bool ksyms_hidden(const struct ksyms *k)
{
	return k->hidden;
}

const char *ksyms_at(const struct ksyms *k, uint64_t addr, uint64_t *offset)
{
	size_t lo = 0, hi = k->n;

	if (k->hidden)
		return NULL;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (k->sym[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* 1 MiB: farther away it is no function we know */
	if (!lo || addr - k->sym[lo - 1].addr > 1 << 20)
		return NULL;
	if (!strcmp(k->text + k->sym[lo - 1].module, "bpf"))
		return NULL;
	*offset = addr - k->sym[lo - 1].addr;
	return k->text + k->sym[lo - 1].name;
}
