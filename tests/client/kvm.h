/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* A virtual machine, for what it does to its address space. */
#ifndef CLIENT_KVM_H
#define CLIENT_KVM_H

/*
 * With DMACLIENT_KVM=1 in the environment: makes a virtual machine that never runs. From then on
 * the kernel tells its MMU notifier whatever changes in the page tables of this process, as of one
 * that gives a device to a guest. Returns 0, or a negative errno, and accounts for it.
 */
int kvm_if_wanted(void);

#endif
