// SPDX-License-Identifier: GPL-2.0
/*
 * An IOMMU driver that does not do what it was asked for. The IOMMU core and
 * VFIO notice nothing: only the IOMMU's page table is different. Five lies:
 *
 *   pa     a map installs frames of this module (parameter pfn)
 *   size   a map installs less than it reports: a hole
 *   prot   a map installs read-only for read-write, and the other way round
 *   leave  an unmap leaves the last page, and reports all of it as unmapped
 *   take   an unmap takes the page after its range, too, and does not report it
 *
 * A lie of a map is about the last page of the call (parameter pages), where a
 * page is what the driver uses a single entry for: 4 KiB, 2 MiB, and AMD's any
 * power of two. A page that is left has 4 KiB, one that is taken what the
 * driver takes. Pages that were left, or taken and given back, are rw.
 *
 * Lies have consequences: VFIO asks the IOMMU which frames to unpin, and warns
 * when there are none. So the module sets right what the kernel is about to
 * look at (iommu_iova_to_phys) or to unmap, and removes what was left before
 * something else is mapped there. With heal=0 it does not; then
 *   pa     VFIO does not unpin the frames it pinned (those of this module are
 *          reserved, nothing happens to them): they are lost until reboot
 *   size   WARN_ON(!phys) in vfio_unmap_unpin(); the pins are lost
 *   take   the same, where the page taken was mapped by VFIO
 *   leave  WARN_ON(1) in __domain_mapping() of Intel's driver before 6.19, or a
 *          failing map later, when something else is mapped there
 * prot has none.
 */
#include "driver.h"
#include "hook.h"
#include "lies.h"

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/string.h>

#if __has_include(<linux/generic_pt/iommu.h>)
#include <linux/generic_pt/iommu.h>
#define HAVE_PT 1
#endif

/* Frames that a device may do to as it likes; also the largest page that can lie. */
#define BLOCK_BYTES SZ_2M
#define BLOCK_PAGES (BLOCK_BYTES >> PAGE_SHIFT)
#define MAGIC 0x6772657669646e66ull /* "fndiverg" */

static struct page *block;
static enum what what;

static unsigned long lo = 0x10000000;
module_param(lo, ulong, 0644);
MODULE_PARM_DESC(lo, "First IOVA of the window (0x10000000)");

static unsigned long hi = 0xbfffffff;
module_param(hi, ulong, 0644);
MODULE_PARM_DESC(hi,
		 "Last IOVA of the window (0xbfffffff); calls not wholly inside are left alone");

static unsigned long nth = 1;
module_param(nth, ulong, 0644);
MODULE_PARM_DESC(nth, "Lie in every n-th call in the window (1)");

static unsigned long pages = 1;
module_param(pages, ulong, 0644);
MODULE_PARM_DESC(pages, "How many pages at the end of a call (1); 0: all of it");

static bool heal = true;
module_param(heal, bool, 0644);
MODULE_PARM_DESC(heal, "Set right what the kernel would stumble over (1)");

static unsigned long calls;
module_param(calls, ulong, 0644);
MODULE_PARM_DESC(calls, "How many calls in the window were counted; writing what clears it");

static unsigned long hits;
module_param(hits, ulong, 0644);
MODULE_PARM_DESC(hits, "How many lies were told");

static unsigned long pfn;
static int get_pfn(char *text, const struct kernel_param *param)
{
	return sprintf(text, "0x%lx\n", pfn);
}

static const struct kernel_param_ops pfn_ops = { .get = get_pfn };
module_param_cb(pfn, &pfn_ops, NULL, 0444);
MODULE_PARM_DESC(pfn, "First of the 512 frames that pa installs");

static int set_what(const char *text, const struct kernel_param *param)
{
	int found = __sysfs_match_string(what_names, WHATS, text);

	if (found < 0)
		return found;
	mutex_lock(&lies_lock);
	WRITE_ONCE(what, found);
	calls = 0;
	mutex_unlock(&lies_lock);
	return 0;
}

static int get_what(char *text, const struct kernel_param *param)
{
	return sprintf(text, "%s\n", what_names[what]);
}

static const struct kernel_param_ops what_ops = { .set = set_what, .get = get_what };
module_param_cb(what, &what_ops, NULL, 0644);
MODULE_PARM_DESC(what, "off, pa, size, prot, leave or take (off)");

bool hook_wanted(const struct iommu_domain *domain)
{
	/* Of the DMA API's domains, which may not sleep, nothing at all. */
	return domain && domain->type == IOMMU_DOMAIN_UNMANAGED &&
	       (READ_ONCE(what) != WHAT_OFF || READ_ONCE(lies_live));
}

/* --- setting right ------------------------------------------------------------------------- */

static void heal_one(struct lie *lie)
{
	struct span *asked = &lie->asked;

	/* A large page may have been taken as a whole, or lie in smaller ones. */
	if (lie->installed)
		driver_unmap_now(asked->domain, asked->iova, asked->bytes);
	if (lie->what != WHAT_LEAVE && driver_map_now(asked))
		pr_warn("iova 0x%lx could not be set right\n", asked->iova);
	lie_end(lie, HEALED);
}

/* Before it is mapped or unmapped. */
static void heal_range(struct iommu_domain *domain, unsigned long iova, size_t bytes)
{
	struct lie *lie;

	while (heal && (lie = lie_find(domain, iova, bytes))) {
		/* Nobody stumbles over rights. */
		if (lie->what == WHAT_PROT)
			lie_end(lie, UNMAPPED);
		else
			heal_one(lie);
	}
}

/* Before the kernel asks; a page that was left has an answer. */
static void heal_answer(struct iommu_domain *domain, unsigned long iova)
{
	struct lie *lie = lie_find(domain, iova, 1);

	if (heal && lie && lie->what != WHAT_PROT && lie->what != WHAT_LEAVE)
		heal_one(lie);
}

static void heal_all(void)
{
	struct lie *lie;

	while ((lie = lie_any()))
		heal_one(lie);
}

/* --- the lies ------------------------------------------------------------------------------ */

static bool my_turn(bool of_this_kind, unsigned long iova, size_t bytes)
{
	if (!of_this_kind || !bytes || iova < lo || iova + bytes - 1 > hi)
		return false;
	return ++calls % max(nth, 1ul) == 0;
}

/* Bytes at the end of a map that the lie is about. */
static size_t tail_of_map(const struct span *span)
{
	size_t page = span->pgsize;

	if (!pages)
		return span->bytes;
	/* The largest that ends there, as the driver will see it. */
	for (size_t size = BLOCK_BYTES; !page; size /= 2)
		if (size == PAGE_SIZE ||
		    (size <= span->bytes && (span->domain->pgsize_bitmap & size) &&
		     IS_ALIGNED((span->iova + span->bytes) | (span->pa + span->bytes), size)))
			page = size;
	return min(span->bytes, pages * page);
}

static int lie_about(const struct span *asked, gfp_t gfp, size_t *mapped)
{
	struct span said = *asked;
	struct lie *lie = lie_prepare(what, asked);
	int err = 0;

	if (!lie)
		return driver_map(asked, gfp, mapped);
	switch (what) {
	case WHAT_PA:
		said.pa = page_to_phys(block);
		break;
	case WHAT_PROT:
		said.prot ^= IOMMU_WRITE;
		said.prot |= IOMMU_READ;
		lie->installed_prot = said.prot;
		break;
	default:
		break;
	}
	if (what == WHAT_SIZE)
		*mapped += asked->bytes;
	else
		err = driver_map(&said, gfp, mapped);
	if (err) {
		lie_drop(lie);
		return err;
	}
	lie_tell(lie);
	hits++;
	return 0;
}

static int map(const struct span *span, gfp_t gfp, size_t *mapped)
{
	bool maps = what == WHAT_PA || what == WHAT_SIZE || what == WHAT_PROT;
	struct span part = *span;
	size_t tail;
	int err = 0;

	/* Our frames are not enough for larger pages. */
	if (what == WHAT_PA && part.pgsize > BLOCK_BYTES)
		part.pgsize = BLOCK_BYTES;
	/* What an unmap left. */
	heal_range(span->domain, span->iova, span->bytes);
	if (!my_turn(maps, span->iova, span->bytes))
		return driver_map(span, gfp, mapped);

	tail = tail_of_map(&part);
	part.bytes = span->bytes - tail;
	if (part.bytes)
		err = driver_map(&part, gfp, mapped);
	while (!err && tail) {
		part.iova += part.bytes;
		part.pa += part.bytes;
		part.bytes = what == WHAT_PA ? min_t(size_t, tail, BLOCK_BYTES) : tail;
		tail -= part.bytes;
		err = lie_about(&part, gfp, mapped);
	}
	return err;
}

static void take_after(struct iommu_domain *domain, unsigned long iova,
		       struct iommu_iotlb_gather *gather)
{
	struct span taken = {
		.domain = domain,
		.iova = iova,
		.bytes = PAGE_SIZE,
		.prot = IOMMU_READ | IOMMU_WRITE, /* nobody tells us what it was */
	};
	struct lie *lie;

	taken.pa = driver_phys(domain, iova);
	if (!taken.pa || iova < lo || iova > hi || lie_find(domain, iova, PAGE_SIZE))
		return;
	lie = lie_prepare(WHAT_TAKE, &taken);
	if (!lie)
		return;
	/* The driver takes whole large pages, and says so. */
	lie->asked.bytes = driver_unmap(domain, iova, PAGE_SIZE, gather);
	if (!lie->asked.bytes) {
		lie_drop(lie);
		return;
	}
	lie_tell(lie);
	hits++;
}

/* Bytes at the end of a range that are in a line, as many as may stay. */
static size_t tail_of_unmap(struct iommu_domain *domain, unsigned long iova, size_t bytes,
			    phys_addr_t last)
{
	size_t most = pages ? min(pages * PAGE_SIZE, bytes) : bytes;
	size_t tail = PAGE_SIZE;

	while (tail < most && driver_phys(domain, iova + bytes - tail - PAGE_SIZE) == last - tail)
		tail += PAGE_SIZE;
	return tail;
}

/*
 * All of it is unmapped, and the end of it mapped again. Only the driver knows
 * how much it takes: AMD's is asked for 4 KiB, and takes the whole large page.
 */
static size_t leave_some(struct iommu_domain *domain, unsigned long iova, size_t bytes,
			 struct iommu_iotlb_gather *gather)
{
	phys_addr_t last = driver_phys(domain, iova + bytes - PAGE_SIZE);
	struct span left = {
		.domain = domain,
		.prot = IOMMU_READ | IOMMU_WRITE, /* nobody tells us what it was */
	};
	struct lie *lie = NULL;
	size_t done;

	if (last) {
		left.bytes = tail_of_unmap(domain, iova, bytes, last);
		lie = lie_prepare(WHAT_LEAVE, &left);
	}
	done = driver_unmap(domain, iova, bytes, gather);
	if (!lie)
		return done;
	/* A large page goes on in a line. */
	if (done > bytes)
		left.bytes = pages ? min(pages * PAGE_SIZE, done - bytes + left.bytes) :
				     done - bytes + left.bytes;
	left.iova = iova + done - left.bytes;
	left.pa = last + PAGE_SIZE + (done - bytes) - left.bytes;
	if (done < bytes || driver_map_now(&left)) {
		lie_drop(lie);
		return done;
	}
	lie->asked = left;
	lie_tell(lie);
	hits++;
	return done;
}

static size_t unmap(struct iommu_domain *domain, unsigned long iova, size_t bytes,
		    struct iommu_iotlb_gather *gather)
{
	struct lie *lie;
	size_t done;

	heal_range(domain, iova, bytes);
	/* heal=0: these are over, however it ends. */
	while ((lie = lie_find(domain, iova, bytes)))
		lie_end(lie, UNMAPPED);

	if (!my_turn(what == WHAT_LEAVE || what == WHAT_TAKE, iova, bytes))
		return driver_unmap(domain, iova, bytes, gather);
	if (what == WHAT_LEAVE)
		return leave_some(domain, iova, bytes, gather);
	done = driver_unmap(domain, iova, bytes, gather);
	if (done >= bytes)
		take_after(domain, iova + done, gather);
	return done;
}

/* --- in place of the driver's functions ---------------------------------------------------- */

static int replaced_map(const struct span *span, gfp_t gfp, size_t *mapped)
{
	size_t now = 0;
	int err;

	hook_enter();
	mutex_lock(&lies_lock);
	err = map(span, gfp, &now);
	mutex_unlock(&lies_lock);
	*mapped += now;
	hook_leave();
	return err;
}

static size_t replaced_unmap(struct iommu_domain *domain, unsigned long iova, size_t bytes,
			     struct iommu_iotlb_gather *gather)
{
	size_t done;

	hook_enter();
	mutex_lock(&lies_lock);
	done = unmap(domain, iova, bytes, gather);
	mutex_unlock(&lies_lock);
	hook_leave();
	return done;
}

static int map_pages(struct iommu_domain *domain, unsigned long iova, phys_addr_t pa, size_t pgsize,
		     size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	const struct span span = {
		.domain = domain,
		.iova = iova,
		.pa = pa,
		.bytes = pgsize * pgcount,
		.pgsize = pgsize,
		.prot = prot,
	};

	return replaced_map(&span, gfp, mapped);
}

static size_t unmap_pages(struct iommu_domain *domain, unsigned long iova, size_t pgsize,
			  size_t pgcount, struct iommu_iotlb_gather *gather)
{
	return replaced_unmap(domain, iova, pgsize * pgcount, gather);
}

#ifdef HAVE_PT
static int map_range(struct pt_iommu *pt, dma_addr_t iova, phys_addr_t pa, dma_addr_t bytes,
		     unsigned int prot, gfp_t gfp, size_t *mapped)
{
	const struct span span = {
		.domain = &pt->domain,
		.iova = iova,
		.pa = pa,
		.bytes = bytes,
		.prot = prot,
	};

	return replaced_map(&span, gfp, mapped);
}

static size_t unmap_range(struct pt_iommu *pt, dma_addr_t iova, dma_addr_t bytes,
			  struct iommu_iotlb_gather *gather)
{
	return replaced_unmap(&pt->domain, iova, bytes, gather);
}
#endif

static phys_addr_t iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	phys_addr_t pa;

	hook_enter();
	mutex_lock(&lies_lock);
	heal_answer(domain, iova);
	pa = driver_phys(domain, iova);
	mutex_unlock(&lies_lock);
	hook_leave();
	return pa;
}

/* Another domain may get the same address. */
static void domain_free(struct iommu_domain *domain)
{
	struct lie *lie;

	hook_enter();
	mutex_lock(&lies_lock);
	while ((lie = lie_find(domain, 0, SIZE_MAX)))
		lie_end(lie, DOMAIN_GONE);
	mutex_unlock(&lies_lock);
	iommu_domain_free(domain);
	hook_leave();
}

static struct hook hooks[] = {
	{ "iommu_domain_free", domain_free },
	{ "intel_iommu_map_pages", map_pages },
	{ "intel_iommu_unmap_pages", unmap_pages },
	{ "intel_iommu_iova_to_phys", iova_to_phys },
	{ "amd_iommu_map_pages", map_pages },
	{ "amd_iommu_unmap_pages", unmap_pages },
	{ "amd_iommu_iova_to_phys", iova_to_phys },
	{ "viommu_map_pages", map_pages },
	{ "viommu_unmap_pages", unmap_pages },
	{ "viommu_iova_to_phys", iova_to_phys },
#ifdef HAVE_PT
	{ "vtdss_map_range", map_range },
	{ "vtdss_unmap_range", unmap_range },
	{ "pt_iommu_vtdss_iova_to_phys", iova_to_phys },
	{ "amdv1_map_range", map_range },
	{ "amdv1_unmap_range", unmap_range },
	{ "pt_iommu_amdv1_iova_to_phys", iova_to_phys },
	{ "x86_64_map_range", map_range },
	{ "x86_64_unmap_range", unmap_range },
	{ "pt_iommu_x86_64_iova_to_phys", iova_to_phys },
#endif
};

static int get_block(void)
{
	block = alloc_pages(GFP_KERNEL, get_order(BLOCK_BYTES));
	if (!block)
		return -ENOMEM;
	split_page(block, get_order(BLOCK_BYTES));
	for (unsigned long i = 0; i < BLOCK_PAGES; i++) {
		u64 *words = page_address(block + i);

		for (unsigned long w = 0; w < PAGE_SIZE / sizeof(*words); w += 2) {
			words[w] = MAGIC;
			words[w + 1] = i;
		}
		/* VFIO leaves reserved frames alone when it unpins. */
		SetPageReserved(block + i);
	}
	pfn = page_to_pfn(block);
	return 0;
}

static void put_block(void)
{
	for (unsigned long i = 0; i < BLOCK_PAGES; i++) {
		ClearPageReserved(block + i);
		__free_page(block + i);
	}
}

static int __init pfndiverge_init(void)
{
	size_t n = 0;
	int err = get_block();

	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		err = hook_install(&hooks[i]);
		if (err == -ENOENT)
			continue;
		if (err)
			goto fail;
		n++;
	}
	/* The first one has every kernel; of a driver come three. */
	err = -ENODEV;
	if (!hooks[0].on || n < 4)
		goto fail;
	lies_init(heal_all);
	return 0;

fail:
	hooks_remove(hooks, ARRAY_SIZE(hooks));
	put_block();
	return err;
}

static void __exit pfndiverge_exit(void)
{
	bool reached;

	mutex_lock(&lies_lock);
	what = WHAT_OFF;
	if (heal)
		heal_all();
	reached = lie_any();
	mutex_unlock(&lies_lock);
	hooks_remove(hooks, ARRAY_SIZE(hooks));
	lies_exit();
	if (reached)
		pr_warn("devices may still reach frames from 0x%lx on: they are not freed\n", pfn);
	else
		put_block();
}

module_init(pfndiverge_init);
module_exit(pfndiverge_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("An IOMMU driver that lies, for tests");
