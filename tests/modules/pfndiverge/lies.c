// SPDX-License-Identifier: GPL-2.0
#include "lies.h"

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

/* A record that does not fit would make the ground truth a lie, too. */
#define MOST 65536

const char *const what_names[WHATS] = { "off", "pa", "size", "prot", "leave", "take" };
static const char *const fate_names[] = { "live", "healed", "unmapped", "domain-gone" };

DEFINE_MUTEX(lies_lock);
unsigned long lies_live;
static unsigned long count, number;
static LIST_HEAD(all);
static struct rb_root live = RB_ROOT;
static struct dentry *debug_dir;
static void (*heal_all)(void);

static bool before(const struct lie *a, const struct lie *b)
{
	if (a->asked.domain != b->asked.domain)
		return a->asked.domain < b->asked.domain;
	return a->asked.iova < b->asked.iova;
}

static bool less(struct rb_node *a, const struct rb_node *b)
{
	return before(rb_entry(a, struct lie, node), rb_entry(b, struct lie, node));
}

struct lie *lie_prepare(enum what what, const struct span *asked)
{
	struct lie *lie;

	if (count >= MOST) {
		pr_warn_once("%u lies told, no more: write to the file of lies to forget them\n",
			     MOST);
		return NULL;
	}
	lie = kzalloc(sizeof(*lie), GFP_KERNEL);
	if (!lie)
		return NULL;
	lie->what = what;
	lie->asked = *asked;
	lie->installed_prot = asked->prot;
	return lie;
}

void lie_tell(struct lie *lie)
{
	lie->number = ++number;
	lie->installed = driver_phys(lie->asked.domain, lie->asked.iova);
	list_add_tail(&lie->all, &all);
	count++;
	rb_add(&lie->node, &live, less);
	WRITE_ONCE(lies_live, lies_live + 1);
}

void lie_drop(struct lie *lie)
{
	kfree(lie);
}

struct lie *lie_find(const struct iommu_domain *domain, unsigned long iova, size_t bytes)
{
	struct rb_node *node = live.rb_node;
	struct lie *found = NULL;

	/* Lies of one domain do not overlap. */
	while (node) {
		struct lie *lie = rb_entry(node, struct lie, node);

		if (lie->asked.domain < domain ||
		    (lie->asked.domain == domain && lie->asked.iova + lie->asked.bytes <= iova)) {
			node = node->rb_right;
		} else {
			found = lie;
			node = node->rb_left;
		}
	}
	if (!found || found->asked.domain != domain || found->asked.iova > iova + bytes - 1)
		return NULL;
	return found;
}

struct lie *lie_any(void)
{
	struct rb_node *node = rb_first(&live);

	return node ? rb_entry(node, struct lie, node) : NULL;
}

void lie_end(struct lie *lie, enum fate fate)
{
	rb_erase(&lie->node, &live);
	WRITE_ONCE(lies_live, lies_live - 1);
	lie->fate = fate;
}

static const char *rights(int prot)
{
	switch (prot & (IOMMU_READ | IOMMU_WRITE)) {
	case IOMMU_READ | IOMMU_WRITE:
		return "\"rw\"";
	case IOMMU_READ:
		return "\"r\"";
	case IOMMU_WRITE:
		return "\"w\"";
	default:
		return "null"; /* an unmap is not told */
	}
}

/* debugfs: pfndiverge/lies, a JSON line for each. */
static int lies_show(struct seq_file *seq, void *unused)
{
	struct lie *lie;

	mutex_lock(&lies_lock);
	list_for_each_entry(lie, &all, all)
		seq_printf(seq,
			   "{\"n\":%lu,\"what\":\"%s\",\"iova\":\"0x%lx\",\"pages\":%zu,"
			   "\"asked\":\"0x%llx\",\"installed\":\"0x%llx\",\"asked_prot\":%s,"
			   "\"installed_prot\":%s,\"fate\":\"%s\"}\n",
			   lie->number, what_names[lie->what], lie->asked.iova,
			   lie->asked.bytes >> PAGE_SHIFT, (u64)lie->asked.pa, (u64)lie->installed,
			   rights(lie->asked.prot), rights(lie->installed_prot),
			   fate_names[lie->fate]);
	mutex_unlock(&lies_lock);
	return 0;
}

static void forget(void)
{
	struct lie *lie, *next;

	list_for_each_entry_safe(lie, next, &all, all)
	{
		if (lie->fate == LIVE)
			continue;
		list_del(&lie->all);
		count--;
		kfree(lie);
	}
}

static int lies_open(struct inode *inode, struct file *file)
{
	return single_open(file, lies_show, NULL);
}

/* "forget": drop the records of what is over; "heal": set everything right first. */
static ssize_t lies_write(struct file *file, const char __user *from, size_t bytes, loff_t *at)
{
	char word[16] = "";

	if (copy_from_user(word, from, min(bytes, sizeof(word) - 1)))
		return -EFAULT;
	strim(word);
	if (strcmp(word, "forget") && strcmp(word, "heal"))
		return -EINVAL;
	mutex_lock(&lies_lock);
	if (!strcmp(word, "heal"))
		heal_all();
	else
		forget();
	mutex_unlock(&lies_lock);
	return bytes;
}

static const struct file_operations lies_fops = {
	.owner = THIS_MODULE,
	.open = lies_open,
	.read = seq_read,
	.write = lies_write,
	.llseek = seq_lseek,
	.release = single_release,
};

int lies_init(void (*heal)(void))
{
	heal_all = heal;
	debug_dir = debugfs_create_dir("pfndiverge", NULL);
	debugfs_create_file("lies", 0600, debug_dir, NULL, &lies_fops);
	return 0;
}

void lies_exit(void)
{
	struct lie *lie, *next;

	debugfs_remove_recursive(debug_dir);
	list_for_each_entry_safe(lie, next, &all, all) kfree(lie);
}
