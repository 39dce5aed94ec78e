// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "sink.h"
#include "ksyms.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *rules_text(uint32_t rules, char *buf, size_t n)
{
	static const char *const name[PFNW_RULES] = {
		"pfn",		 "prot",	"pa-zero", "not-reserved",
		"iommu-differs", "short-unmap", "leak",	   "overlap",
	};
	size_t used = 0;

	buf[0] = 0;
	for (int i = 0; i < PFNW_RULES; i++)
		if (rules & 1u << i && used < n)
			used += snprintf(buf + used, n - used, "%s%s", used ? "," : "", name[i]);
	return buf;
}

const char *prot_text(uint32_t prot)
{
	static const char *const name[] = { "-", "r", "w", "rw" };

	return name[prot & 3];
}

const char *comm_text(const struct pfnw_hdr *h, char buf[PFNW_COMM + 1])
{
	int i;

	for (i = 0; i < PFNW_COMM && h->comm[i]; i++)
		buf[i] = h->comm[i] >= 0x20 && h->comm[i] < 0x7f ? h->comm[i] : '?';
	buf[i] = 0;
	return buf;
}

const char *group_device(int group, char *buf, size_t n)
{
	char path[96];
	struct dirent *e;
	DIR *d;

	buf[0] = 0;
	if (group < 0)
		return buf;
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && (!buf[0] || strcmp(e->d_name, buf) < 0))
			snprintf(buf, n, "%.31s", e->d_name);
	if (d)
		closedir(d);
	return buf;
}

int device_group(const char *bdf)
{
	char path[128], to[256];
	const char *p;
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.40s/iommu_group", bdf);
	len = readlink(path, to, sizeof(to) - 1);
	if (len < 0)
		return -1;
	to[len] = 0;
	p = strrchr(to, '/');
	return p ? atoi(p + 1) : -1;
}

const char *stack_symbol(struct sink *s, uint64_t addr, uint64_t *offset)
{
	if (!s->ksyms)
		s->ksyms = ksyms_load(true);
	return s->ksyms ? ksyms_at(s->ksyms, addr, offset) : NULL;
}
