/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Functions of the kernel that programs may call, where there are such. */
#ifndef PFNW_KFUNC_H
#define PFNW_KFUNC_H

#include <stdbool.h>

/*
 * May a kprobe's program call bpf_rdonly_cast() (since a35b9af4ec2c, 6.2)? Found by a trial.
 * @func, @vma: numbers of that function and of struct vm_area_struct in vmlinux's BTF, 0: none.
 */
bool kfunc_can_cast(int func, int vma);

#endif
