// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "edu.h"
#include "page.h"
#include "vfio.h"

#include <errno.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <time.h>

#define REG_ID 0x00
#define REG_DMA_SOURCE 0x80
#define REG_DMA_TARGET 0x88
#define REG_DMA_COUNT 0x90
#define REG_DMA_COMMAND 0x98

#define EDU_ID 0xed
#define COMMAND_RUN 0x1
#define COMMAND_TO_MEMORY 0x2

#define BUFFER_AT 0x40000

/* The engine takes 100 ms of the machine's time, which may run slowly. */
#define POLL_NS 2000000
#define POLLS 15000

static void write_register(struct edu *edu, size_t at, uint64_t value)
{
	*(volatile uint64_t *)(edu->registers + at) = value;
}

static int run(struct edu *edu, uint64_t source, uint64_t target, size_t bytes, uint64_t command)
{
	const struct timespec nap = { .tv_nsec = POLL_NS };

	write_register(edu, REG_DMA_SOURCE, source);
	write_register(edu, REG_DMA_TARGET, target);
	write_register(edu, REG_DMA_COUNT, bytes);
	write_register(edu, REG_DMA_COMMAND, command | COMMAND_RUN);
	for (int i = 0; i < POLLS; i++) {
		uint64_t busy = *(volatile uint64_t *)(edu->registers + REG_DMA_COMMAND);

		if (!(busy & COMMAND_RUN))
			return 0;
		nanosleep(&nap, NULL);
	}
	return -ETIMEDOUT;
}

int edu_open(struct edu *edu, int device)
{
	struct vfio_region bar;
	void *map;
	int err;

	edu->registers = NULL;
	edu->device = device;
	err = vfio_enable_bus_master(device);
	if (!err)
		err = vfio_region(device, VFIO_PCI_BAR0_REGION_INDEX, &bar);
	if (err)
		return err;
	map = mmap(NULL, PG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)bar.offset);
	if (map == MAP_FAILED)
		return -errno;
	edu->registers = map;
	if ((*(volatile uint32_t *)(edu->registers + REG_ID) & 0xff) != EDU_ID) {
		edu_close(edu);
		return -ENODEV;
	}
	return 0;
}

void edu_close(struct edu *edu)
{
	if (edu->registers)
		munmap((void *)edu->registers, PG_SIZE);
	edu->registers = NULL;
}

int edu_fetch(struct edu *edu, uint64_t iova, size_t bytes, unsigned int block)
{
	return run(edu, iova, BUFFER_AT + block * EDU_BLOCK, bytes, 0);
}

int edu_store(struct edu *edu, uint64_t iova, size_t bytes, unsigned int block)
{
	return run(edu, BUFFER_AT + block * EDU_BLOCK, iova, bytes, COMMAND_TO_MEMORY);
}
