/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Treaps: search trees that are also heaps, by a priority hashed from the node's
 * number, and therefore O(log n) deep. The nodes of one kind live in chunks that
 * never move and are named by 32-bit numbers, 0 is none; one set of nodes may make
 * up many trees, each known by its root. Only for ledger*.c.
 */
#ifndef PFNW_LEDGER_TREE_H
#define PFNW_LEDGER_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Shared by all that belongs to one user. */
struct ltree_budget {
	uint64_t bytes, max_bytes; /* of memory; max 0: no limit */
	uint64_t visits;
};

/* malloc() and free() of @bytes, counted; NULL: no memory or above max_bytes. */
void *ltree_take(struct ltree_budget *b, size_t bytes);
void ltree_give(struct ltree_budget *b, void *p, size_t bytes);

/* First member of every node. */
struct ltree_link {
	uint32_t left, right;
};

struct ltree {
	struct ltree_budget *budget;
	uint64_t seed;
	uint32_t node_bytes, shift; /* a chunk has 2^shift nodes */
	/* What a node knows of its subtree, from its children; NULL: nothing. */
	void (*update)(const struct ltree *t, void *node);

	char **chunks;
	uint32_t n_chunks, room; /* entries of chunks[] in use, allocated */
	uint32_t used, live; /* nodes ever used, nodes in use */
	uint32_t free; /* list of those between, through link.left */
};

/* Whether the node lies before the key. */
typedef bool (*ltree_before)(const void *node, const void *key);

static inline void *ltree_node(const struct ltree *t, uint32_t n)
{
	n--;
	return t->chunks[n >> t->shift] + (size_t)(n & ((1U << t->shift) - 1)) * t->node_bytes;
}

void ltree_destroy(struct ltree *t);

/* The next @n calls of ltree_alloc() will not fail; false: no memory. */
bool ltree_reserve(struct ltree *t, uint32_t n);
uint32_t ltree_alloc(struct ltree *t); /* zeroed; only what was reserved */
void ltree_release(struct ltree *t, uint32_t n);

/* @a gets what lies before @key, @b the rest. */
void ltree_split(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		 uint32_t *a, uint32_t *b);
/* All of @a must lie before all of @b. Returns the root. */
uint32_t ltree_join(const struct ltree *t, uint32_t a, uint32_t b);

/*
 * A tree of @n nodes, at most LTREE_BUILD, that are in order; O(n). Only where there is
 * no update(). @node is written over. Returns the root.
 */
#define LTREE_BUILD 256
uint32_t ltree_build(const struct ltree *t, uint32_t *node, uint32_t n);

/* First node that does not lie before @key; the last node. 0: none. */
uint32_t ltree_seek(const struct ltree *t, uint32_t root, ltree_before before, const void *key);
uint32_t ltree_last(const struct ltree *t, uint32_t root);

/* @key: that of node @n, which no other node of the tree has. Return the root. */
uint32_t ltree_insert(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		      uint32_t n);
uint32_t ltree_remove(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		      uint32_t n);
/* Calls update() from node @n, which changed, up to the root. */
void ltree_refresh(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		   uint32_t n);

#endif
