// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "mapping.h"
#include "account.h"
#include "page.h"
#include "pagemap.h"
#include "vfio.h"

#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

void mapping_map(struct vfio *vfio, struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;

	uint64_t t = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);

	mapping->map_err = vfio_map(vfio, buffer->va, mapping->iova, buffer->bytes, buffer->flags);
	mapping->map_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	mapping->map_ns = now_ns(CLOCK_MONOTONIC) - t;
	mapping->mapped = !mapping->map_err;
	mapping->pid = getpid();
	mapping->map_tid = gettid();
}

void mapping_unmap(struct vfio *vfio, struct mapping *mapping)
{
	uint64_t t = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);

	if (!mapping->mapped)
		return;
	mapping->unmap_err =
		vfio_unmap(vfio, mapping->iova, mapping->buffer.bytes, &mapping->unmapped_bytes);
	mapping->unmap_cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	mapping->unmap_ns = now_ns(CLOCK_MONOTONIC) - t;
	mapping->unmap_tid = gettid();
	mapping->mapped = mapping->unmap_err != 0;
}

static const char *flags_name(uint32_t flags)
{
	bool r = flags & VFIO_DMA_MAP_FLAG_READ;
	bool w = flags & VFIO_DMA_MAP_FLAG_WRITE;

	return r && w ? "rw" : w ? "w" : "r";
}

static void tell_pages(const struct mapping *mapping, const uint64_t *pfns)
{
	const struct buffer *buffer = &mapping->buffer;

	for (size_t i = 0; i < buffer->bytes >> PG_SHIFT; i++) {
		char pfn[32] = "null";

		if (pfns && pfns[i] != PFN_UNKNOWN)
			snprintf(pfn, sizeof(pfn), "\"0x%" PRIx64 "\"", pfns[i]);
		account_line("{\"type\":\"page\",\"va\":\"0x%" PRIxPTR "\",\"iova\":\"0x%" PRIx64
			     "\",\"pfn\":%s}",
			     (uintptr_t)buffer->va + i * PG_SIZE, mapping->iova + i * PG_SIZE, pfn);
	}
}

void mapping_tell_map(struct layout_env *env, const struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;
	const struct layout *layout = buffer->layout;
	size_t pages = buffer->bytes >> PG_SHIFT;
	char runs_text[24] = "null";
	uint64_t *pfns;
	long runs = -1;

	if (mapping->map_err) {
		account_error(-mapping->map_err,
			      "VFIO_IOMMU_MAP_DMA layout %s va 0x%" PRIxPTR " iova 0x%" PRIx64
			      " bytes %zu flags %s",
			      layout->name, (uintptr_t)buffer->va, mapping->iova, buffer->bytes,
			      flags_name(buffer->flags));
		return;
	}
	if (env->opt->brief)
		return;
	/* Only now: pinning may have moved pages to other frames. */
	pfns = calloc(pages, sizeof(*pfns));
	if (pfns && !buffer_pfns(env, buffer, pfns)) {
		runs = pfn_runs(pfns, pages);
	} else {
		free(pfns);
		pfns = NULL;
	}
	if (runs >= 0)
		snprintf(runs_text, sizeof(runs_text), "%ld", runs);
	account_line(
		"{\"type\":\"map\",\"layout\":\"%s\",\"va\":\"0x%" PRIxPTR
		"\",\"iova\":\"0x%" PRIx64
		"\",\"bytes\":%zu,\"pages\":%zu,\"flags\":\"%s\",\"runs\":%s,\"pfns_by\":\"%s\",\"map_ns\":%" PRIu64
		",\"map_cpu_ns\":%" PRIu64 ",\"pid\":%d,\"tid\":%d}",
		layout->name, (uintptr_t)buffer->va, mapping->iova, buffer->bytes, pages,
		flags_name(buffer->flags), runs_text,
		layout->pfn_source ? layout->pfn_source : "pagemap", mapping->map_ns,
		mapping->map_cpu_ns, getpid(), mapping->map_tid);
	if (env->opt->list_pages)
		tell_pages(mapping, pfns);
	free(pfns);
}

void mapping_tell_unmap(struct layout_env *env, const struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;

	if (mapping->unmap_err) {
		account_error(-mapping->unmap_err,
			      "VFIO_IOMMU_UNMAP_DMA iova 0x%" PRIx64 " bytes %zu", mapping->iova,
			      buffer->bytes);
		return;
	}
	if (mapping->unmapped_bytes != buffer->bytes)
		account_error(0, "unmapped %" PRIu64 " of %zu bytes at iova 0x%" PRIx64,
			      mapping->unmapped_bytes, buffer->bytes, mapping->iova);
	if (env->opt->brief)
		return;
	account_line("{\"type\":\"unmap\",\"layout\":\"%s\",\"va\":\"0x%" PRIxPTR
		     "\",\"iova\":\"0x%" PRIx64 "\",\"bytes\":%" PRIu64 ",\"pages\":%" PRIu64
		     ",\"unmap_ns\":%" PRIu64 ",\"unmap_cpu_ns\":%" PRIu64
		     ",\"pid\":%d,\"tid\":%d}",
		     buffer->layout->name, (uintptr_t)buffer->va, mapping->iova,
		     mapping->unmapped_bytes, mapping->unmapped_bytes >> PG_SHIFT,
		     mapping->unmap_ns, mapping->unmap_cpu_ns, getpid(), mapping->unmap_tid);
}
