// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "witness.h"
#include "account.h"
#include "bounce.h"
#include "page.h"
#include "tag.h"
#include "vfio.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>

/* Where the device writes to, well away from the tag that it reads. */
#define WRITE_AT 2048

/* One page on its way through the device's buffer. */
struct probe {
	uint8_t *va;
	uint64_t iova;
	/* What was on the page when the CPU last knew. */
	struct tag known;
};

/* What an agreeing device reads. */
enum expectation {
	SAME_AS_CPU,
	NOT_THE_PAGE, /* any more: it was unmapped */
	STILL_THE_PAGE, /* although the CPU sees another one, or none */
};

static void disagreement(const char *check, const struct probe *probe, const struct tag *expected,
			 const struct tag *got)
{
	char whose[40] = "null";
	int word = 0;

	/* The first word that differs says more than an equal one. */
	while (word < TAG_WORDS - 1 && expected->word[word] == got->word[word])
		word++;
	if (tag_valid(got))
		snprintf(whose, sizeof(whose), "\"0x%" PRIx64 "\"", got->word[1]);
	account_line("{\"type\":\"dma\",\"check\":\"%s\",\"iova\":\"0x%" PRIx64
		     "\",\"va\":\"0x%" PRIxPTR "\",\"agree\":false,\"expected\":\"0x%" PRIx64
		     "\",\"got\":\"0x%" PRIx64 "\",\"got_va\":%s}",
		     check, probe->iova, (uintptr_t)probe->va, expected->word[word],
		     got->word[word], whose);
}

static void count(struct witness *witness, const char *check, const struct probe *probe,
		  const struct tag *expected, const struct tag *got)
{
	witness->pages++;
	if (tag_equal(expected, got)) {
		witness->agree++;
		return;
	}
	witness->disagree++;
	disagreement(check, probe, expected, got);
}

static void count_gone(struct witness *witness, const struct probe *probe, const struct tag *page,
		       const struct tag *got)
{
	static const struct tag nothing;

	/* Whatever a failed transfer leaves behind, it is not the page. */
	count(witness, "gone", probe, &nothing, tag_equal(page, got) ? got : &nothing);
}

static void failed(struct witness *witness, const struct probe *probe, int err)
{
	witness->pages++;
	witness->failed++;
	account_error(-err, "DMA of iova 0x%" PRIx64, probe->iova);
}

/* The device reads up to EDU_BLOCKS pages, then shows them all at once. */
static void read_batch(struct witness *witness, const struct probe *probes, unsigned int n,
		       enum expectation expectation)
{
	volatile uint8_t *page = witness->bounce.buffer.va;
	int errs[EDU_BLOCKS] = {}, err;

	/* What stays like this was never written by the device. */
	for (unsigned int i = 0; i < n * EDU_BLOCK; i++)
		page[i] = 0xa5;
	for (unsigned int i = 0; i < n; i++)
		errs[i] = edu_fetch(&witness->edu, probes[i].iova, TAG_BYTES, i);
	err = edu_store(&witness->edu, witness->bounce.iova, n * EDU_BLOCK, 0);
	for (unsigned int i = 0; i < n; i++) {
		struct tag seen, got;

		if (err || errs[i]) {
			failed(witness, &probes[i], err ? err : errs[i]);
			continue;
		}
		tag_load(&got, page + i * EDU_BLOCK);
		switch (expectation) {
		case SAME_AS_CPU:
			tag_load(&seen, probes[i].va);
			count(witness, "read", &probes[i], &seen, &got);
			break;
		case NOT_THE_PAGE:
			count_gone(witness, &probes[i], &probes[i].known, &got);
			break;
		case STILL_THE_PAGE:
			count(witness, "stale", &probes[i], &probes[i].known, &got);
			break;
		}
	}
}

static void clear(volatile uint8_t *at)
{
	static const struct tag zero;

	tag_store(at, &zero);
}

/* The device writes to a page; the CPU must see it, or nothing at all. */
static void write_page(struct witness *witness, const struct probe *probe,
		       const struct buffer *buffer)
{
	/* What the process may not write to, its device must not either. */
	bool may_write = buffer->writable && (buffer->flags & VFIO_DMA_MAP_FLAG_WRITE);
	uint8_t *at = probe->va + WRITE_AT;
	struct tag sent, before, after;
	int err;

	if (buffer->writable)
		clear(at);
	tag_load(&before, at);
	tag_make(&sent, (uintptr_t)probe->va, witness->generation + 1);
	tag_store(witness->bounce.buffer.va, &sent);
	err = edu_fetch(&witness->edu, witness->bounce.iova, TAG_BYTES, 0);
	if (!err)
		err = edu_store(&witness->edu, probe->iova + WRITE_AT, TAG_BYTES, 0);
	if (err) {
		failed(witness, probe, err);
		return;
	}
	tag_load(&after, at);
	count(witness, "write", probe, may_write ? &sent : &before, &after);
}

static void make_probe(struct probe *probe, const struct mapping *mapping, size_t page)
{
	probe->va = mapping->buffer.va + page * PG_SIZE;
	probe->iova = mapping->iova + page * PG_SIZE;
	tag_make(&probe->known, (uintptr_t)probe->va, mapping->generation);
}

static void verify_reads(struct witness *witness, const struct mapping *mapping, size_t pages,
			 enum expectation expectation)
{
	size_t stride = witness->env->opt->dma_stride;
	struct probe probes[EDU_BLOCKS];
	unsigned int n = 0;

	for (size_t i = 0; i < pages; i += stride) {
		make_probe(&probes[n], mapping, i);
		if (++n < EDU_BLOCKS)
			continue;
		read_batch(witness, probes, n, expectation);
		n = 0;
	}
	if (n)
		read_batch(witness, probes, n, expectation);
}

static void verify_writes(struct witness *witness, const struct mapping *mapping, size_t pages)
{
	for (size_t i = 0; i < pages; i += witness->env->opt->dma_stride) {
		struct probe probe = {
			.va = mapping->buffer.va + i * PG_SIZE,
			.iova = mapping->iova + i * PG_SIZE,
		};

		write_page(witness, &probe, &mapping->buffer);
	}
}

/* Pages of a mapping that --dma-max still lets us look at. */
static size_t allowance(struct witness *witness, const struct mapping *mapping)
{
	size_t stride = witness->env->opt->dma_stride;
	size_t pages = mapping->buffer.bytes >> PG_SHIFT;
	size_t probes = (pages + stride - 1) / stride;

	if (probes <= witness->left) {
		witness->left -= probes;
		return pages;
	}
	pages = witness->left * stride;
	witness->left = 0;
	return pages;
}

static bool fillable(const struct buffer *buffer)
{
	return buffer->writable && !buffer->foreign && !buffer->copies;
}

static void fill(struct witness *witness, struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;

	mapping->generation = witness->generation;
	for (size_t at = 0; at < buffer->bytes; at += PG_SIZE) {
		struct tag tag;

		tag_make(&tag, (uintptr_t)buffer->va + at, witness->generation);
		tag_store(buffer->va + at, &tag);
	}
}

void witness_mark(struct witness *witness, struct mapping *mappings, size_t count)
{
	witness->generation += 2;
	/* All first: a page that stands for another then shows the other's tag. */
	for (size_t i = 0; i < count; i++)
		if (mappings[i].mapped && fillable(&mappings[i].buffer))
			fill(witness, &mappings[i]);
}

void witness_verify(struct witness *witness, struct mapping *mappings, size_t count)
{
	const struct options *opt = witness->env->opt;

	witness_mark(witness, mappings, count);
	for (size_t i = 0; i < count; i++) {
		const struct mapping *mapping = &mappings[i];
		size_t pages;

		if (!mapping->mapped)
			continue;
		pages = allowance(witness, mapping);
		if (opt->dma_read && (mapping->buffer.flags & VFIO_DMA_MAP_FLAG_READ))
			verify_reads(witness, mapping, pages, SAME_AS_CPU);
		if (opt->dma_write && !mapping->buffer.foreign)
			verify_writes(witness, mapping, pages);
	}
}

/* Why the device cannot show it; NULL: it can. */
static const char *no_witness(const struct witness *witness, const struct mapping *mapping)
{
	const struct buffer *buffer = &mapping->buffer;

	if (mapping->stale.no_dma)
		return mapping->stale.no_dma;
	if (buffer->foreign)
		return "registers of a device bear no tags";
	if (!(buffer->flags & VFIO_DMA_MAP_FLAG_READ))
		return "the device may not read there";
	if (!witness->env->opt->touch && !fillable(buffer) && !buffer->copies)
		return "nobody has put tags there";
	return NULL;
}

static void verify_stale_range(struct witness *witness, const struct mapping *mapping, size_t first,
			       size_t end)
{
	bool shuffled = mapping->stale.which == STALE_PFNMAP_SHUFFLE;
	unsigned long pages = witness->pages, agree = witness->agree;
	const char *why = no_witness(witness, mapping);
	struct probe probes[EDU_BLOCKS];
	unsigned int n = 0;

	for (size_t i = first; i < end && !why && witness->left;
	     i += witness->env->opt->dma_stride) {
		struct probe *probe = &probes[n];

		make_probe(probe, mapping, i);
		/* The frame of each page has become its neighbour's, with that one's content. */
		if (shuffled && !i)
			continue;
		if (shuffled)
			tag_make(&probe->known, (uintptr_t)probe->va - PG_SIZE,
				 mapping->generation);
		witness->left--;
		if (++n < EDU_BLOCKS)
			continue;
		read_batch(witness, probes, n, STILL_THE_PAGE);
		n = 0;
	}
	if (n)
		read_batch(witness, probes, n, STILL_THE_PAGE);
	account_line("{\"type\":\"dma-stale\",\"stale\":\"%s\",\"iova\":\"0x%" PRIx64
		     "\",\"pages\":%zu,\"asked\":%lu,\"old_frame\":%lu%s%s%s}",
		     stale_name(mapping->stale.which), mapping->iova + first * PG_SIZE, end - first,
		     witness->pages - pages, witness->agree - agree, why ? ",\"why\":\"" : "",
		     why ?: "", why ? "\"" : "");
}

void witness_verify_stale(struct witness *witness, struct mapping *mappings, size_t count)
{
	for (size_t m = 0; m < count; m++) {
		const struct mapping *mapping = &mappings[m];
		size_t pages = mapping->buffer.bytes >> PG_SHIFT, end;
		const uint8_t *now = mapping->stale.now;

		for (size_t i = 0; mapping->stale.chosen && i < pages; i = end) {
			end = i + 1;
			while (end < pages && now[end] == now[i])
				end++;
			if (now[i] != NOW_SAME)
				verify_stale_range(witness, mapping, i, end);
		}
	}
}

void witness_verify_gone(struct witness *witness, struct mapping *mappings, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct mapping *mapping = &mappings[i];

		/* Only what was mapped, and bears a tag that nothing else has. */
		if (mapping->mapped || mapping->map_err || mapping->buffer.foreign)
			continue;
		verify_reads(witness, mapping, allowance(witness, mapping), NOT_THE_PAGE);
	}
}

int witness_open(struct witness *witness, struct layout_env *env, struct vfio *vfio,
		 const struct iova_space *space, int device)
{
	int err;

	*witness = (struct witness){
		.env = env,
		.left = env->opt->dma_max,
	};
	err = edu_open(&witness->edu, device);
	if (err) {
		account_error(-err, "%s is no edu device that we can drive", env->opt->bdf);
		return err;
	}
	return bounce_open(witness, vfio, space);
}

void witness_tell_total(const struct witness *witness)
{
	account_line(
		"{\"type\":\"dma-total\",\"pages\":%lu,\"agree\":%lu,\"disagree\":%lu,\"failed\":%lu}",
		witness->pages, witness->agree, witness->disagree, witness->failed);
}

void witness_close(struct witness *witness, struct vfio *vfio)
{
	if (witness->env->opt->unmap != UNMAP_NONE && witness->bounce.mapped) {
		mapping_unmap(vfio, &witness->bounce);
		mapping_tell_unmap(witness->env, &witness->bounce);
	}
	edu_close(&witness->edu);
	/* A page that stays mapped for DMA stays ours. */
	if (!witness->bounce.mapped)
		buffer_destroy(&witness->bounce.buffer);
}
