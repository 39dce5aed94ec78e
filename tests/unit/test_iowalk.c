// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * bpf/iommu_walk.h and judge_iowalk(): tables are built here as Linux' drivers write
 * them, beside a model that only knows who leads where; both must say the same.
 */
#include "unit.h"

#include "judge.h"

#include <string.h>

#define READ 1
#define WRITE 2
#define RW 3

/* drivers/iommu/intel/iommu.h; arch/x86; drivers/iommu/amd/amd_iommu_types.h */
#define DMA_PTE_READ (1ULL << 0)
#define DMA_PTE_WRITE (1ULL << 1)
#define DMA_PTE_LARGE_PAGE (1ULL << 7)
#define DMA_PTE_SNP (1ULL << 11)
#define AMD_PR (1ULL << 0)
#define AMD_LEVEL(x) ((uint64_t)(x) << 9)
#define AMD_FC (1ULL << 60)
#define AMD_IR (1ULL << 61)
#define AMD_IW (1ULL << 62)
#define AMD_ADDR 0x000ffffffffff000ULL

/* PAGE_SIZE_PTE() */
static uint64_t amd_encode(uint64_t pa, uint64_t bytes)
{
	return ((pa | (bytes - 1)) & ~(bytes >> 1)) & AMD_ADDR;
}

static uint64_t leaf_entry(int kind, uint64_t pa, uint64_t bytes, uint64_t span, int rights,
			   uint64_t sme)
{
	uint64_t e = pa | sme;

	switch (kind) {
	case PFNW_IOMMU_VTD_SS:
		e = pa | DMA_PTE_SNP | (bytes > 4096 ? DMA_PTE_LARGE_PAGE : 0);
		return e | (rights & READ ? DMA_PTE_READ : 0) |
		       (rights & WRITE ? DMA_PTE_WRITE : 0);
	case PFNW_IOMMU_X86:
		/* reading cannot be withheld */
		return e | L_PRESENT | L_USER | L_ACCESSED | (bytes > 4096 ? L_PSE : 0) |
		       (rights & WRITE ? L_RW | L_DIRTY : 0);
	default:
		if (bytes != span)
			e = amd_encode(pa, bytes) | AMD_LEVEL(7) | sme;
		return e | AMD_PR | AMD_FC | (rights & READ ? AMD_IR : 0) |
		       (rights & WRITE ? AMD_IW : 0);
	}
}

static uint64_t table_entry(int kind, uint64_t pa, int level, int rights, uint64_t sme)
{
	switch (kind) {
	case PFNW_IOMMU_VTD_SS:
		return pa | (rights & READ ? DMA_PTE_READ : 0) |
		       (rights & WRITE ? DMA_PTE_WRITE : 0);
	case PFNW_IOMMU_X86:
		return pa | sme | L_PRESENT | L_USER | L_ACCESSED | (rights & WRITE ? L_RW : 0);
	default:
		return pa | sme | AMD_PR | AMD_LEVEL(level - 1) | (rights & READ ? AMD_IR : 0) |
		       (rights & WRITE ? AMD_IW : 0);
	}
}

/* The model: who leads where, without any bits. */
#define TABLES 600
struct cell {
	int child; /* a table; 0: none */
	uint64_t iova, pa, bytes; /* of a leaf; bytes 0: none */
	int rights;
};
static struct cell model[TABLES][512];
static uint64_t raw[TABLES][512];
static int used;

/* What was mapped, to look there again. */
static struct cell leaf[4000];
static size_t n_leaves;
static uint64_t state_;

struct shape {
	const char *name;
	int kind, levels;
	uint64_t sme; /* the encryption bit, or 0 */
	uint64_t addr_mask;
};

static uint64_t pa_of_table(int n)
{
	return (0x123400ULL + n * 3) << 12;
}

static uint64_t span_of(int level)
{
	uint64_t span = 4096;

	while (--level)
		span *= 512;
	return span;
}

/* Maps if nothing is in the way. */
static void map(const struct shape *s, uint64_t iova, uint64_t pa, uint64_t bytes, int rights)
{
	int t = 0, level = s->levels, n;
	uint64_t span, at;

	/* a leaf lies in the highest level whose entries are not larger than it */
	while (span = span_of(level), at = iova / span % 512, span > bytes) {
		struct cell *c = &model[t][at];
		int give = rnd(&state_) % 8	     ? RW :
			   s->kind == PFNW_IOMMU_X86 ? READ :
						       1 + rnd(&state_) % 2;

		if (c->bytes || (!c->child && used == TABLES))
			return;
		if (!c->child) {
			c->child = used++;
			c->rights = give;
			raw[t][at] =
				table_entry(s->kind, pa_of_table(c->child), level, give, s->sme);
		}
		t = c->child;
		level--;
	}
	n = bytes / span;
	for (int i = 0; i < n; i++)
		if (model[t][at + i].bytes || model[t][at + i].child)
			return;
	for (int i = 0; i < n; i++) {
		model[t][at + i] = (struct cell){ 0, iova, pa, bytes, rights };
		raw[t][at + i] = leaf_entry(s->kind, pa, bytes, span, rights, s->sme);
	}
	leaf[n_leaves++] = model[t][at];
}

static uint64_t pick(uint64_t n)
{
	return rnd(&state_) % n;
}

static void build(const struct shape *s)
{
	memset(model, 0, sizeof(model));
	memset(raw, 0, sizeof(raw));
	used = 1;
	n_leaves = 0;
	for (int i = 0; i < 4000; i++) {
		int bits = 12 + 9 * (pick(3)), rights = 1 + pick(3);
		uint64_t bytes, iova, pa;

		/* each size that AMD can encode, large ones first, for they want room */
		if (s->kind == PFNW_IOMMU_AMD_V1)
			bits = i < 23 ? 34 - i : 12 + (int)pick(23);
		if (s->kind == PFNW_IOMMU_X86)
			rights |= READ;
		bytes = 1ULL << bits;
		/* crowded in a few places, so that small and large are neighbours */
		iova = pick(4) * (span_of(s->levels) * 37);
		iova += pick(2) ? pick(1ULL << 24) : pick(1ULL << 36);
		if (s->levels < 6)
			iova %= span_of(s->levels) * 512;
		pa = rnd(&state_) & s->addr_mask & ((1ULL << 46) - 1);
		map(s, iova & ~(bytes - 1), pa & ~(bytes - 1), bytes, rights);
	}
}

/* By the model. */
static struct io_frame look_up(const struct shape *s, uint64_t iova)
{
	struct io_frame f = { .rights = RW }, none = { 0 };
	int t = 0;

	for (int level = s->levels; level; level--) {
		const struct cell *c = &model[t][iova / span_of(level) % 512];

		if (c->bytes) {
			f.valid = true;
			f.pfn = (c->pa + (iova - c->iova)) / 4096;
			f.bytes = c->bytes;
			f.rights &= c->rights;
			if (s->kind == PFNW_IOMMU_X86)
				f.rights &= WRITE; /* all that it can withhold */
			return f;
		}
		if (!c->child)
			return none;
		f.rights &= c->rights;
		t = c->child;
	}
	return none;
}

/* By the functions that the programs use. */
static struct pfnw_iowalk walk(const struct shape *s, const struct iommu_format *f, uint64_t iova)
{
	struct pfnw_iowalk w = { .iova = iova, .top = s->levels, .kind = s->kind };
	uint64_t table = pa_of_table(0);

	for (int level = s->levels; level; level--) {
		uint64_t e;

		assert_int_equal((table - pa_of_table(0)) % (3 << 12), 0);
		assert_in_range((table - pa_of_table(0)) / (3 << 12), 0, used - 1);
		e = raw[(table - pa_of_table(0)) / (3 << 12)][iommu_index(iova, level)];
		w.entry[level - 1] = e;
		w.leaf = level;
		switch (iommu_entry(f, level, e)) {
		case IOMMU_ENTRY_TABLE:
			table = iommu_next(f, e);
			continue;
		case IOMMU_ENTRY_LEAF:
			w.status = PFNW_WALK_LEAF;
			return w;
		case IOMMU_ENTRY_NONE:
			w.status = PFNW_WALK_NONE;
			return w;
		default:
			fail_test("%s: entry 0x%llx at level %d means nothing", s->name,
				  (unsigned long long)e, level);
		}
	}
	fail_test("%s: tables below level 1", s->name);
	return w;
}

static const struct shape shapes[] = {
	{ "vt-d, 3 levels", PFNW_IOMMU_VTD_SS, 3, 0, AMD_ADDR },
	{ "vt-d, 4 levels", PFNW_IOMMU_VTD_SS, 4, 0, AMD_ADDR },
	{ "vt-d, 5 levels", PFNW_IOMMU_VTD_SS, 5, 0, AMD_ADDR },
	{ "x86, 4 levels", PFNW_IOMMU_X86, 4, 0, AMD_ADDR },
	{ "x86, 5 levels, encrypted", PFNW_IOMMU_X86, 5, 1ULL << 51, AMD_ADDR & ~(1ULL << 51) },
	{ "amd-v1, 3 levels", PFNW_IOMMU_AMD_V1, 3, 0, AMD_ADDR },
	{ "amd-v1, 4 levels, encrypted", PFNW_IOMMU_AMD_V1, 4, 1ULL << 47,
	  AMD_ADDR & ~(1ULL << 47) },
	{ "amd-v1, 6 levels", PFNW_IOMMU_AMD_V1, 6, 0, AMD_ADDR },
};

static void tables_against_a_model(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	uint64_t sizes = 0;

	(void)state;
	state_ = 20261;
	for (size_t i = 0; i < N_OF(shapes); i++) {
		const struct shape *s = &shapes[i];
		uint64_t leaves = 0;

		io_formats_init(f, s->addr_mask);
		build(s);
		for (int j = 0; j < 60000; j++) {
			/* near something that is there, mostly */
			const struct cell *c = &leaf[rnd(&state_) % n_leaves];
			uint64_t at = rnd(&state_), iova = c->iova + at % (2 * c->bytes);
			struct io_frame want, got;
			struct pfnw_iowalk w;

			if (!pick(8))
				iova = at;
			iova &= ~4095ULL;
			if (s->levels < 6)
				iova %= span_of(s->levels) * 512;
			want = look_up(s, iova);
			w = walk(s, &f[s->kind], iova);
			got = judge_iowalk(f, &w);
			if (got.valid != want.valid || got.pfn != want.pfn ||
			    got.rights != want.rights || got.bytes != want.bytes)
				fail_test("%s: iova 0x%llx: pfn 0x%llx rights %u bytes 0x%llx, not "
					  "0x%llx %u 0x%llx",
					  s->name, (unsigned long long)iova,
					  (unsigned long long)got.pfn, got.rights,
					  (unsigned long long)got.bytes,
					  (unsigned long long)want.pfn, want.rights,
					  (unsigned long long)want.bytes);
			leaves += want.valid;
			sizes |= want.bytes;
		}
		/* it did look at something */
		assert_in_range(leaves, 10000, 60000);
	}
	/* each size from 4 KiB to 16 GiB */
	assert_int_equal(sizes >> 12, 0x7fffff);
}

static void single_entries(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	const struct iommu_format *vtd = f + PFNW_IOMMU_VTD_SS, *amd = f + PFNW_IOMMU_AMD_V1;

	(void)state;
	io_formats_init(f, ~0ULL);
	/* VT-d: write alone is present too; PS above level 1 only */
	assert_int_equal(iommu_entry(vtd, 1, 0x5000 | DMA_PTE_WRITE), IOMMU_ENTRY_LEAF);
	assert_int_equal(iommu_entry(vtd, 1, 0x5000), IOMMU_ENTRY_NONE);
	assert_int_equal(iommu_entry(vtd, 2, 0x5000 | DMA_PTE_READ), IOMMU_ENTRY_TABLE);
	/* AMD: nothing without PR; a level too low or too high means nothing */
	assert_int_equal(iommu_entry(amd, 1, AMD_IR | AMD_IW | 0x5000), IOMMU_ENTRY_NONE);
	for (int level = 1; level <= 6; level++)
		for (int next = 0; next < 8; next++) {
			int want = next == 0 || next == 7	  ? IOMMU_ENTRY_LEAF :
				   level > 1 && next == level - 1 ? IOMMU_ENTRY_TABLE :
								    IOMMU_ENTRY_BAD;

			assert_int_equal(iommu_entry(amd, level, AMD_PR | AMD_LEVEL(next)), want);
		}
	/* reach */
	assert_true(iommu_in_reach((1ULL << 39) - 1, 3));
	assert_false(iommu_in_reach(1ULL << 39, 3));
	assert_true(iommu_in_reach((1ULL << 57) - 1, 5));
	assert_false(iommu_in_reach(1ULL << 57, 5));
	assert_true(iommu_in_reach(~0ULL, 6));
}

/* iommu_decode() is iommu_leaf_pa() and iommu_entry() of level 1, whatever the entry. */
static void decoded_without_a_branch(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	uint64_t encoded = 0, no_leaf = 0;

	(void)state;
	state_ = 20263;
	for (size_t i = 0; i < N_OF(shapes); i++) {
		const struct iommu_format *one = &f[shapes[i].kind];

		io_formats_init(f, shapes[i].addr_mask);
		for (int j = 0; j < 100000; j++) {
			uint64_t e = rnd(&state_) | one->present, pa;
			__u64 bad = 0;
			uint64_t iova = rnd(&state_) & ~4095ULL;
			int what;

			/* runs of ones from bit 12 on, as large leaves have them */
			if (pick(2))
				e |= (2ULL << (12 + pick(24))) - 4096;
			what = iommu_entry(one, 1, e);
			pa = iommu_decode(one->addr_mask, iommu_next_mask(one), e, iova, &bad);
			assert_int_equal(!!bad, what != IOMMU_ENTRY_LEAF);
			assert_in_range(bad, 0, 4095);
			no_leaf += !!bad;
			if (bad)
				continue;
			assert_int_equal(pa, iommu_leaf_pa(one, 1, e, iova));
			encoded += iommu_leaf_mask(one, 1, e) > 4095;
		}
	}
	assert_in_range(encoded, 10000, 100000);
	assert_in_range(no_leaf, 100000, 300000);
}

/* The chain of entries must hold together, or the walk names no frame. */
static void broken_walks(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	const struct pfnw_iowalk whole = { .iova = 0x10203000,
					   .entry = { 0x777000 | 3, 0x3000 | 3, 0x2000 | 3,
						      0x1000 | 3 },
					   .top = 4,
					   .leaf = 1,
					   .status = PFNW_WALK_LEAF,
					   .kind = PFNW_IOMMU_VTD_SS };
	struct pfnw_iowalk w = whole;

	(void)state;
	io_formats_init(f, ~0ULL);
	assert_true(judge_iowalk(f, &w).valid);
	assert_int_equal(judge_iowalk(f, &w).pfn, 0x777);
	w.leaf = 2; /* says that it ended above */
	assert_false(judge_iowalk(f, &w).valid);
	w = whole;
	w.entry[2] = 0; /* a hole in the middle */
	assert_false(judge_iowalk(f, &w).valid);
	w = whole;
	w.entry[1] |= DMA_PTE_LARGE_PAGE; /* a leaf above the one claimed */
	assert_false(judge_iowalk(f, &w).valid);
	w = whole;
	w.top = 3; /* 2^39 are in reach of it */
	assert_true(judge_iowalk(f, &w).valid);
	w.iova = 1ULL << 39 | 0x203000;
	assert_false(judge_iowalk(f, &w).valid);
	w = whole;
	w.top = 0;
	assert_false(judge_iowalk(f, &w).valid);
	for (int level = 4; level <= 6; level++)
		w.entry[level - 1] = 0x4000 | 3;
	w.top = 6;
	assert_true(judge_iowalk(f, &w).valid);
	w.top = 7; /* more than there are */
	assert_false(judge_iowalk(f, &w).valid);
	w = whole;
	w.kind = PFNW_IOMMU_UNKNOWN;
	assert_false(judge_iowalk(f, &w).valid);
	w.kind = PFNW_IOMMU_KINDS;
	assert_false(judge_iowalk(f, &w).valid);
}

static void virtio_intervals(void **state)
{
	struct iommu_format f[PFNW_IOMMU_KINDS];
	struct pfnw_iowalk w = { .entry = { 0x40000, 0x4ffff, 0x9000000, READ },
				 .status = PFNW_WALK_LEAF,
				 .kind = PFNW_IOMMU_VIRTIO };
	struct io_frame got;

	(void)state;
	io_formats_init(f, ~0ULL);
	for (uint64_t iova = 0x3f000; iova <= 0x50000; iova += 0x1000) {
		w.iova = iova;
		got = judge_iowalk(f, &w);
		assert_int_equal(got.valid, iova >= 0x40000 && iova < 0x50000);
		if (!got.valid)
			continue;
		assert_int_equal(got.pfn, 0x9000 + ((iova - 0x40000) >> 12));
		assert_int_equal(got.rights, READ);
		assert_int_equal(got.bytes, 0x10000);
	}
	w.iova = 0x40000;
	w.entry[3] = RW | 4; /* MMIO is no right */
	assert_int_equal(judge_iowalk(f, &w).rights, RW);
	w.status = PFNW_WALK_NONE;
	assert_false(judge_iowalk(f, &w).valid);
	/* to the end of the address space */
	w = (struct pfnw_iowalk){ .iova = ~0xfffULL,
				  .entry = { ~0xffffULL, ~0ULL, 0x9000000, RW },
				  .status = PFNW_WALK_LEAF,
				  .kind = PFNW_IOMMU_VIRTIO };
	assert_int_equal(judge_iowalk(f, &w).pfn, 0x900f);
}

static void formats(void **state)
{
	static const char *const name[] = { "unknown", "vt-d", "x86", "amd-v1", "virtio-iommu" };
	struct iommu_format f[PFNW_IOMMU_KINDS];

	(void)state;
	assert_int_equal(N_OF(name), PFNW_IOMMU_KINDS);
	io_formats_init(f, ~(1ULL << 47));
	for (int i = 0; i < PFNW_IOMMU_KINDS; i++) {
		assert_string_equal(io_kind_name(i), name[i]);
		assert_int_equal(f[i].addr_mask >> 47 & 1, 0);
		assert_int_equal(f[i].kind, i);
	}
	assert_string_equal(io_kind_name(PFNW_IOMMU_KINDS), "?");
	/* what each can withhold */
	assert_int_equal(f[PFNW_IOMMU_VTD_SS].rights, RW);
	assert_int_equal(f[PFNW_IOMMU_X86].rights, WRITE);
	assert_int_equal(f[PFNW_IOMMU_AMD_V1].rights, RW);
	assert_int_equal(f[PFNW_IOMMU_VIRTIO].rights, RW);
}

int test_iowalk(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_against_a_model),   cmocka_unit_test(single_entries),
		cmocka_unit_test(decoded_without_a_branch), cmocka_unit_test(broken_walks),
		cmocka_unit_test(virtio_intervals),	    cmocka_unit_test(formats),
	};

	return cmocka_run_group_tests_name("iommu_walk.h", tests, NULL, NULL);
}
