// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "kfunc.h"

#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>

bool kfunc_can_cast(int func, int vma)
{
	const struct bpf_insn cast[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = vma },
		{ .code = BPF_JMP | BPF_CALL, .src_reg = BPF_PSEUDO_KFUNC_CALL, .imm = func },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd;

	if (!func || !vma)
		return false;
	fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "pfnw_trial", "GPL", cast,
			   sizeof(cast) / sizeof(cast[0]), NULL);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}
