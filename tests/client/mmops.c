// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Changes its own page tables again and again, and never comes near VFIO: what does a
 * process pay that is not concerned? Prints one JSON line per operation with the
 * nanoseconds of one (under the lab's --icount two make an instruction). With DMACLIENT_KVM=1
 * in the environment it is a guest of KVM that has no device: kvm.h.
 */
#include "account.h"
#include "kvm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static char *page(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

/* One zap: unmap_page_range() once, or what became of it. */
static void op_dontneed(char *p)
{
	p[0] = 1;
	madvise(p, PAGE, MADV_DONTNEED);
}

/* change_protection() twice. */
static void op_mprotect(char *p)
{
	mprotect(p, PAGE, PROT_READ);
	mprotect(p, PAGE, PROT_READ | PROT_WRITE);
}

/* do_wp_page() once (the zero page is copied), one zap. */
static void op_cow(char *p)
{
	volatile char *v = p;

	(void)v[0];
	v[0] = 1;
	madvise(p, PAGE, MADV_DONTNEED);
}

#define AREA_PAGES 64

/* Page faults, and no hooked function. The area goes in one zap. */
static void op_fault(char *p)
{
	char *area = mmap(NULL, AREA_PAGES * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)p;
	if (area == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	madvise(area, AREA_PAGES * PAGE, MADV_NOHUGEPAGE);
	for (int i = 0; i < AREA_PAGES; i++)
		area[i * PAGE] = 1;
	munmap(area, AREA_PAGES * PAGE);
}

/* One zap, of nothing. */
static void op_mmap(char *p)
{
	(void)p;
	munmap(page(), PAGE);
}

/* A child that ends at once: a zap for each of its VMAs, copies on write on both sides. */
static void op_fork(char *p)
{
	pid_t child = fork();

	if (!child) {
		p[0]++;
		_exit(0);
	}
	if (child < 0 || waitpid(child, NULL, 0) < 0) {
		perror("fork");
		exit(1);
	}
}

/* move_page_tables() twice. */
static void op_mremap(char *p)
{
	char *q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + (1 << 20));

	if (q == MAP_FAILED || mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) != p) {
		perror("mremap");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	static const struct op {
		const char *name;
		void (*run)(char *p);
		int hooks; /* calls of hooked functions in one; 0: many, not counted */
		int less; /* rounds are fewer by that factor */
	} ops[] = {
		{ "dontneed", op_dontneed, 1, 1 }, { "mprotect", op_mprotect, 2, 1 },
		{ "cow", op_cow, 2, 1 },	   { "mremap", op_mremap, 2, 1 },
		{ "fault", op_fault, 1, 16 },	   { "mmap", op_mmap, 1, 1 },
		{ "fork", op_fork, 0, 4 },
	};
	size_t n_ops = sizeof(ops) / sizeof(ops[0]), from = 0, to = n_ops;
	int n = argc > 1 ? atoi(argv[1]) : 20000;

	if (argc == 3) {
		while (from < n_ops && strcmp(ops[from].name, argv[2]))
			from++;
		to = from + 1;
	}
	if (n < 1 || argc > 3 || from == n_ops) {
		fprintf(stderr, "Usage: mmops [ROUNDS [OPERATION]]\n"
				"Operations: dontneed mprotect cow mremap fault mmap fork "
				"(default: all)\n");
		return 2;
	}
	if (account_open(NULL) || kvm_if_wanted())
		return 1;
	for (size_t i = from; i < to; i++) {
		int rounds = n / ops[i].less > 0 ? n / ops[i].less : 1;
		char *p = page();
		double t;

		ops[i].run(p); /* the tables are there from now on */
		t = now_ns();
		for (int k = 0; k < rounds; k++)
			ops[i].run(p);
		t = now_ns() - t;
		printf("{\"type\":\"op\",\"op\":\"%s\",\"rounds\":%d,\"hooked_calls\":%d,"
		       "\"ns\":%.1f}\n",
		       ops[i].name, rounds, ops[i].hooks, t / rounds);
	}
	return 0;
}
