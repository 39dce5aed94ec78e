// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ksyms.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sym {
	uint64_t addr;
	uint32_t name; /* offset in text */
	uint32_t module; /* offset in text, 0: vmlinux */
};

struct ksyms {
	struct sym *sym; /* by address */
	size_t n;
	char *text; /* text[0] is "" */
	size_t used;
	bool hidden;
};

static int by_addr(const void *a, const void *b)
{
	const struct sym *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static uint32_t keep(struct ksyms *k, size_t *room, const char *s)
{
	size_t n = strlen(s) + 1;
	uint32_t at = k->used;

	if (k->used + n > *room) {
		*room = (*room + n) * 2;
		k->text = realloc(k->text, *room);
		if (!k->text)
			abort();
	}
	memcpy(k->text + at, s, n);
	k->used += n;
	return at;
}

struct ksyms *ksyms_load(bool bpf)
{
	FILE *f = fopen("/proc/kallsyms", "re");
	size_t room = 1 << 20, syms = 1 << 15;
	char line[1024], name[512], module[128];
	struct ksyms *k;

	if (!f)
		return NULL;
	k = calloc(1, sizeof(*k));
	k->text = malloc(room);
	k->sym = malloc(syms * sizeof(*k->sym));
	k->text[0] = 0;
	k->used = 1;
	k->hidden = true;
	while (fgets(line, sizeof(line), f)) {
		unsigned long long addr;
		char type;
		int got = sscanf(line, "%llx %c %511s [%127[^]]", &addr, &type, name, module);

		if (got < 3)
			continue;
		if (addr)
			k->hidden = false;
		/* functions only: data symbols are libbpf's business */
		if (tolower(type) != 't' && tolower(type) != 'w')
			continue;
		if (got == 4 && !strcmp(module, "bpf") && !bpf)
			continue;
		if (k->n == syms) {
			syms *= 2;
			k->sym = realloc(k->sym, syms * sizeof(*k->sym));
			if (!k->sym)
				abort();
		}
		k->sym[k->n].addr = addr;
		k->sym[k->n].name = keep(k, &room, name);
		k->sym[k->n].module = got == 4 ? keep(k, &room, module) : 0;
		k->n++;
	}
	fclose(f);
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
