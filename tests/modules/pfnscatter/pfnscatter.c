// SPDX-License-Identifier: GPL-2.0
/*
 * Scattered VM_PFNMAP memory, the way SGX has it: reserved frames that are
 * faulted in one by one, in an order that has nothing to do with the VA, and
 * that the driver may take away or exchange at any time.
 *
 * vm_pgoff is the user's own affair. Passing the block's first PFN there makes
 * the VMA look like one of a driver that keeps its base PFN in vm_pgoff.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "pfnscatter.h"

static unsigned long npages = 1024;
module_param(npages, ulong, 0444);
MODULE_PARM_DESC(npages, "Pages of the device (1024); more than one block holds are not in a line");

static char *order = "reverse";
module_param(order, charp, 0444);
MODULE_PARM_DESC(order, "Which frame backs which page: reverse, random or linear");

static unsigned long long seed = 1;
module_param(seed, ullong, 0444);
MODULE_PARM_DESC(seed, "Seed of the random order (1)");

/* frames[i] is the i-th allocated frame, perm[page] says which one it has. */
static struct page **frames;
static unsigned long *perm;
static bool in_a_line;
static unsigned long long generation;

/*
 * Faults read `perm` and insert the PTE under it; a shuffle writes. A fault
 * may sleep here: it holds nothing but the mmap lock, and the writer takes no
 * mmap lock.
 */
static DECLARE_RWSEM(perm_lock);

/* All mappings hang off one inode; that is where they are zapped. */
static struct address_space *device_mapping;
static DEFINE_MUTEX(open_lock);

static struct dentry *debug_dir;

static unsigned long page_pfn(unsigned long index)
{
	return page_to_pfn(frames[perm[index]]);
}

static vm_fault_t pfnscatter_fault(struct vm_fault *vmf)
{
	/* vm_start moves when a VMA is split or cut; vm_pgoff moves with it. */
	unsigned long first = (unsigned long)vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - first;
	vm_fault_t ret;

	if (index >= npages)
		return VM_FAULT_SIGBUS;
	down_read(&perm_lock);
	ret = vmf_insert_pfn(vmf->vma, vmf->address, page_pfn(index));
	up_read(&perm_lock);
	return ret;
}

static const struct vm_operations_struct pfnscatter_vm_ops = {
	.fault = pfnscatter_fault,
};

static int pfnscatter_mmap(struct file *file, struct vm_area_struct *vma)
{
	const unsigned long flags = VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP;

	/* Copy-on-write of raw frames does not exist. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma_pages(vma) > npages)
		return -EINVAL;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
	vma->vm_private_data = (void *)vma->vm_pgoff;
	vma->vm_ops = &pfnscatter_vm_ops;
	return 0;
}

static void zap_all(void)
{
	if (device_mapping)
		unmap_mapping_range(device_mapping, 0, 0, 1);
}

static void drop(void)
{
	down_write(&perm_lock);
	zap_all();
	up_write(&perm_lock);
}

static void move_content(unsigned long to, unsigned long from)
{
	copy_page(page_address(frames[to]), page_address(frames[from]));
}

/*
 * Each page gets the frame of the next one, and takes its content along: no
 * page keeps its own frame, and none changes as far as the CPU can see.
 */
static int shuffle(void)
{
	void *spill = (void *)__get_free_page(GFP_KERNEL);
	unsigned long first, i;

	if (!spill)
		return -ENOMEM;

	down_write(&perm_lock);
	zap_all();
	copy_page(spill, page_address(frames[perm[npages - 1]]));
	for (i = npages - 1; i > 0; i--)
		move_content(perm[i], perm[i - 1]);
	copy_page(page_address(frames[perm[0]]), spill);

	first = perm[0];
	memmove(perm, perm + 1, (npages - 1) * sizeof(*perm));
	perm[npages - 1] = first;
	generation++;
	up_write(&perm_lock);

	free_page((unsigned long)spill);
	return 0;
}

static long pfnscatter_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct pfnscatter_info info;
	struct pfnscatter_pfn query;

	switch (cmd) {
	case PFNSCATTER_INFO:
		down_read(&perm_lock);
		info.npages = npages;
		info.base_pfn = in_a_line ? page_to_pfn(frames[0]) : 0;
		info.generation = generation;
		up_read(&perm_lock);
		return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
	case PFNSCATTER_GET_PFN:
		if (copy_from_user(&query, user, sizeof(query)))
			return -EFAULT;
		if (query.index >= npages)
			return -EINVAL;
		down_read(&perm_lock);
		query.pfn = page_pfn(query.index);
		up_read(&perm_lock);
		return copy_to_user(user, &query, sizeof(query)) ? -EFAULT : 0;
	case PFNSCATTER_DROP:
		drop();
		return 0;
	case PFNSCATTER_SHUFFLE:
		return shuffle();
	default:
		return -ENOTTY;
	}
}

static int pfnscatter_open(struct inode *inode, struct file *file)
{
	int err = 0;

	mutex_lock(&open_lock);
	/* A second device node would have mappings that a zap cannot see. */
	if (!device_mapping)
		device_mapping = file->f_mapping;
	else if (device_mapping != file->f_mapping)
		err = -EBUSY;
	mutex_unlock(&open_lock);
	return err;
}

static const struct file_operations pfnscatter_fops = {
	.owner = THIS_MODULE,
	.open = pfnscatter_open,
	.mmap = pfnscatter_mmap,
	.unlocked_ioctl = pfnscatter_ioctl,
};

/* For scripts: write anything to drop or shuffle. */
static ssize_t drop_store(struct device *dev, struct device_attribute *attr, const char *buf,
			  size_t count)
{
	drop();
	return count;
}
static DEVICE_ATTR_WO(drop);

static ssize_t shuffle_store(struct device *dev, struct device_attribute *attr, const char *buf,
			     size_t count)
{
	int err = shuffle();

	return err ? err : count;
}
static DEVICE_ATTR_WO(shuffle);

static ssize_t base_pfn_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "0x%lx\n", in_a_line ? page_to_pfn(frames[0]) : 0);
}
static DEVICE_ATTR_RO(base_pfn);

static struct attribute *pfnscatter_attrs[] = { &dev_attr_drop.attr, &dev_attr_shuffle.attr,
						&dev_attr_base_pfn.attr, NULL };
ATTRIBUTE_GROUPS(pfnscatter);

static struct miscdevice pfnscatter_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pfnscatter",
	.fops = &pfnscatter_fops,
	.groups = pfnscatter_groups,
	.mode = 0600,
};

/* debugfs: pfnscatter/pfns, one PFN per line, in the order of the pages. */
static int pfns_show(struct seq_file *seq, void *unused)
{
	unsigned long i;

	down_read(&perm_lock);
	for (i = 0; i < npages; i++)
		seq_printf(seq, "0x%lx\n", page_pfn(i));
	up_read(&perm_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pfns);

static int make_order(void)
{
	u64 state = seed * 0x9e3779b97f4a7c15ull + 1;
	unsigned long i;

	for (i = 0; i < npages; i++)
		perm[i] = i;
	if (!strcmp(order, "linear"))
		return 0;
	if (!strcmp(order, "reverse")) {
		for (i = 0; i < npages; i++)
			perm[i] = npages - 1 - i;
		return 0;
	}
	if (strcmp(order, "random"))
		return -EINVAL;
	for (i = npages - 1; i > 0; i--) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		swap(perm[i], perm[(state >> 33) % (i + 1)]);
	}
	return 0;
}

static void free_frames(void)
{
	unsigned long i;

	for (i = 0; frames && i < npages && frames[i]; i++) {
		ClearPageReserved(frames[i]);
		__free_page(frames[i]);
	}
	kvfree(frames);
	kvfree(perm);
}

static int get_frames(void)
{
	/* A block of this size is split into pages that are freed one by one. */
	void *block =
		alloc_pages_exact(npages << PAGE_SHIFT, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	unsigned long i;

	in_a_line = block;
	for (i = 0; i < npages; i++) {
		frames[i] = block ? virt_to_page(block + (i << PAGE_SHIFT)) :
				    alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!frames[i])
			return -ENOMEM;
		/* VFIO takes only frames that are reserved, or no memory. */
		SetPageReserved(frames[i]);
	}
	for (i = 0; i < npages; i++) {
		u64 *words = page_address(frames[perm[i]]);

		words[0] = PFNSCATTER_MAGIC;
		words[1] = i;
	}
	return 0;
}

static int __init pfnscatter_init(void)
{
	int err = -ENOMEM;

	if (!npages)
		return -EINVAL;
	frames = kvcalloc(npages, sizeof(*frames), GFP_KERNEL);
	perm = kvcalloc(npages, sizeof(*perm), GFP_KERNEL);
	if (!frames || !perm)
		goto fail;
	err = make_order();
	if (err)
		goto fail;
	err = get_frames();
	if (err)
		goto fail;
	err = misc_register(&pfnscatter_device);
	if (err)
		goto fail;
	debug_dir = debugfs_create_dir("pfnscatter", NULL);
	debugfs_create_file("pfns", 0400, debug_dir, NULL, &pfns_fops);
	return 0;

fail:
	free_frames();
	return err;
}

static void __exit pfnscatter_exit(void)
{
	debugfs_remove_recursive(debug_dir);
	misc_deregister(&pfnscatter_device);
	free_frames();
}

module_init(pfnscatter_init);
module_exit(pfnscatter_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Scattered VM_PFNMAP memory for tests");
