// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Runs a command while the programs that are named hang on change_protection(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "floor.skel.h"

static int usage(void)
{
	fprintf(stderr, "Usage: floor [PROGRAM]... -- COMMAND [ARG]...\n"
			"Exit codes: the command's, 2 usage, 4 this kernel cannot.\n");
	return 2;
}

static int run(char **argv)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		perror("floor");
		return 1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	struct floor_bpf *skel = floor_bpf__open();
	struct bpf_program *p;
	int i, ret = 4;

	if (!skel) {
		perror("floor: opening the BPF object");
		return 4;
	}
	for (i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		p = bpf_object__find_program_by_name(skel->obj, argv[i]);
		if (!p) {
			fprintf(stderr, "floor: no program %s\n", argv[i]);
			goto out;
		}
		bpf_program__set_autoload(p, true);
	}
	if (i + 1 >= argc) {
		ret = usage();
		goto out;
	}
	if (floor_bpf__load(skel) || floor_bpf__attach(skel)) {
		perror("floor: loading or attaching");
		goto out;
	}
	ret = run(argv + i + 1);
out:
	floor_bpf__destroy(skel);
	return ret;
}
