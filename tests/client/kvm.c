// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "kvm.h"
#include "account.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

int kvm_if_wanted(void)
{
	const char *want = getenv("DMACLIENT_KVM");
	int kvm, err;

	if (!want || *want != '1')
		return 0;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || ioctl(kvm, KVM_CREATE_VM, 0) < 0) {
		err = errno;
		account_error(err, "%s /dev/kvm (modprobe kvm_amd)",
			      kvm < 0 ? "open" : "KVM_CREATE_VM of");
		return -err;
	}
	return 0;
}
