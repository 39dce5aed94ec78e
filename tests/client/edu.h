/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The DMA engine of QEMU's edu device (docs/specs/edu of QEMU). */
#ifndef CLIENT_EDU_H
#define CLIENT_EDU_H

#include <stddef.h>
#include <stdint.h>

/*
 * The device's own buffer has 4096 bytes, but QEMU 7.2 dies of a transfer that
 * ends with its last byte: leave that block out.
 */
#define EDU_BLOCK 64
#define EDU_BLOCKS (4096 / EDU_BLOCK - 1)

struct edu {
	int device;
	volatile uint8_t *registers;
};

/* All return 0 or a negative errno. -ETIMEDOUT: the engine does not finish. */
int edu_open(struct edu *edu, int device);
void edu_close(struct edu *edu);

/* Copy into the device's buffer, at a block of it, from an IOVA ... */
int edu_fetch(struct edu *edu, uint64_t iova, size_t bytes, unsigned int block);
/* ... and from there to an IOVA. */
int edu_store(struct edu *edu, uint64_t iova, size_t bytes, unsigned int block);

#endif
