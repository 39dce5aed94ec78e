/* SPDX-License-Identifier: GPL-2.0 */
/* Every lie that was told: which of them are still in the page table, and all for the record. */
#ifndef PFNDIVERGE_LIES_H
#define PFNDIVERGE_LIES_H

#include "driver.h"

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>

enum what { WHAT_OFF, WHAT_PA, WHAT_SIZE, WHAT_PROT, WHAT_LEAVE, WHAT_TAKE, WHATS };

extern const char *const what_names[WHATS];

enum fate {
	LIVE,
	HEALED, /* by us, because the kernel was about to stumble over it */
	UNMAPPED,
	DOMAIN_GONE,
};

struct lie {
	struct list_head all;
	struct rb_node node; /* while it is live */
	unsigned long number;
	enum what what;
	/* What the core believes to be there; for LEAVE: was there. */
	struct span asked;
	/* What is: 0 for nothing; read back from the driver. */
	phys_addr_t installed;
	int installed_prot;
	enum fate fate;
};

/* Held from before a lie is told until it is recorded, and while any is looked at. */
extern struct mutex lies_lock;
extern unsigned long lies_live; /* read without the lock where a guess is enough */

/* There must be room for the record before anything is done. NULL: no lie, then. */
struct lie *lie_prepare(enum what what, const struct span *asked);
void lie_tell(struct lie *lie);
void lie_drop(struct lie *lie); /* it came to nothing */

/* The first live lie about this range, or NULL. */
struct lie *lie_find(const struct iommu_domain *domain, unsigned long iova, size_t bytes);
struct lie *lie_any(void);
void lie_end(struct lie *lie, enum fate fate);

int lies_init(void (*heal_all)(void));
void lies_exit(void);

#endif
