// SPDX-License-Identifier: GPL-2.0
#include "hook.h"

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>

static atomic_t inside = ATOMIC_INIT(0);

static void notrace redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	struct hook *hook = container_of(ops, struct hook, ops);
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (!regs || within_module(parent_ip, THIS_MODULE))
		return;
	if (hook_wanted((const struct iommu_domain *)regs->di))
		regs->ip = (unsigned long)hook->replacement;
}

int hook_install(struct hook *hook)
{
	int err;

	hook->ops.func = redirect;
	hook->ops.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY |
			  FTRACE_OPS_FL_RECURSION;
	err = ftrace_set_filter(&hook->ops, (unsigned char *)hook->symbol, strlen(hook->symbol), 1);
	if (err)
		return -ENOENT;
	err = register_ftrace_function(&hook->ops);
	if (err)
		ftrace_set_filter(&hook->ops, NULL, 0, 1);
	else
		hook->on = true;
	return err;
}

void hooks_remove(struct hook *hooks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!hooks[i].on)
			continue;
		unregister_ftrace_function(&hooks[i].ops);
		ftrace_free_filter(&hooks[i].ops);
		hooks[i].on = false;
	}
	/* Whoever was redirected has entered, and whoever has entered must be out. */
	synchronize_rcu_tasks();
	while (atomic_read(&inside))
		msleep(10);
	synchronize_rcu_tasks();
}

void hook_enter(void)
{
	atomic_inc(&inside);
}

void hook_leave(void)
{
	atomic_dec(&inside);
}
