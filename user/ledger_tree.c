// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ledger_tree.h"

#include <stdlib.h>
#include <string.h>

/* So many entries does chunks[] grow by: it is small beside what it points to. */
#define ROOM 64

void *ltree_take(struct ltree_budget *b, size_t bytes)
{
	void *p;

	if (b->max_bytes && (b->bytes > b->max_bytes || bytes > b->max_bytes - b->bytes))
		return NULL;
	p = malloc(bytes ? bytes : 1);
	if (p)
		b->bytes += bytes;
	return p;
}

void ltree_give(struct ltree_budget *b, void *p, size_t bytes)
{
	if (!p)
		return;
	free(p);
	b->bytes -= bytes;
}

static size_t chunk_bytes(const struct ltree *t)
{
	return (size_t)t->node_bytes << t->shift;
}

void ltree_destroy(struct ltree *t)
{
	while (t->n_chunks)
		ltree_give(t->budget, t->chunks[--t->n_chunks], chunk_bytes(t));
	ltree_give(t->budget, t->chunks, t->room * sizeof(*t->chunks));
	t->chunks = NULL;
	t->room = t->used = t->live = t->free = 0;
}

static bool more_room(struct ltree *t)
{
	char **chunks = ltree_take(t->budget, (t->room + ROOM) * sizeof(*chunks));

	if (!chunks)
		return false;
	if (t->room)
		memcpy(chunks, t->chunks, t->room * sizeof(*chunks));
	ltree_give(t->budget, t->chunks, t->room * sizeof(*chunks));
	t->chunks = chunks;
	t->room += ROOM;
	return true;
}

static bool more_nodes(struct ltree *t)
{
	uint64_t nodes = (uint64_t)t->n_chunks << t->shift;
	char *chunk;

	/* numbers begin with 1 and have 32 bits */
	if (nodes + (1ULL << t->shift) > UINT32_MAX)
		return false;
	if (t->n_chunks == t->room && !more_room(t))
		return false;
	chunk = ltree_take(t->budget, chunk_bytes(t));
	if (!chunk)
		return false;
	t->chunks[t->n_chunks++] = chunk;
	return true;
}

bool ltree_reserve(struct ltree *t, uint32_t n)
{
	while (((uint64_t)t->n_chunks << t->shift) - t->live < n)
		if (!more_nodes(t))
			return false;
	return true;
}

uint32_t ltree_alloc(struct ltree *t)
{
	uint32_t n = t->free;

	if (n)
		t->free = ((struct ltree_link *)ltree_node(t, n))->left;
	else
		n = ++t->used;
	t->live++;
	memset(ltree_node(t, n), 0, t->node_bytes);
	return n;
}

void ltree_release(struct ltree *t, uint32_t n)
{
	if (--t->live) {
		((struct ltree_link *)ltree_node(t, n))->left = t->free;
		t->free = n;
		return;
	}
	/* All are free: back to one chunk, in which whatever was reserved has room. */
	t->used = t->free = 0;
	while (t->n_chunks > 1)
		ltree_give(t->budget, t->chunks[--t->n_chunks], chunk_bytes(t));
}

static struct ltree_link *visit(const struct ltree *t, uint32_t n)
{
	t->budget->visits++;
	return ltree_node(t, n);
}

/* The finalizer of splitmix64. */
static uint64_t priority(const struct ltree *t, uint32_t n)
{
	uint64_t z = t->seed + n * 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void update(const struct ltree *t, void *node)
{
	if (t->update)
		t->update(t, node);
}

void ltree_split(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		 uint32_t *a, uint32_t *b)
{
	struct ltree_link *l;

	if (!root) {
		*a = *b = 0;
		return;
	}
	l = visit(t, root);
	if (before(l, key)) {
		ltree_split(t, l->right, before, key, &l->right, b);
		*a = root;
	} else {
		ltree_split(t, l->left, before, key, a, &l->left);
		*b = root;
	}
	update(t, l);
}

uint32_t ltree_join(const struct ltree *t, uint32_t a, uint32_t b)
{
	struct ltree_link *l;

	if (!a || !b)
		return a ? a : b;
	if (priority(t, a) > priority(t, b)) {
		l = visit(t, a);
		l->right = ltree_join(t, l->right, b);
		update(t, l);
		return a;
	}
	l = visit(t, b);
	l->left = ltree_join(t, a, l->left);
	update(t, l);
	return b;
}

uint32_t ltree_build(const struct ltree *t, uint32_t *node, uint32_t n)
{
	uint64_t prio[LTREE_BUILD];
	uint32_t top = 0; /* node[0 .. top) is the way down the right side */

	for (uint32_t i = 0; i < n; i++) {
		uint64_t p = priority(t, node[i]);
		struct ltree_link *l = visit(t, node[i]);

		l->left = 0;
		while (top && prio[top - 1] < p)
			l->left = node[--top];
		if (top)
			((struct ltree_link *)ltree_node(t, node[top - 1]))->right = node[i];
		node[top] = node[i];
		prio[top++] = p;
	}
	return top ? node[0] : 0;
}

uint32_t ltree_seek(const struct ltree *t, uint32_t root, ltree_before before, const void *key)
{
	uint32_t found = 0;

	while (root) {
		const struct ltree_link *l = visit(t, root);

		if (before(l, key)) {
			root = l->right;
		} else {
			found = root;
			root = l->left;
		}
	}
	return found;
}

uint32_t ltree_last(const struct ltree *t, uint32_t root)
{
	uint32_t last = 0;

	while (root) {
		last = root;
		root = visit(t, root)->right;
	}
	return last;
}

uint32_t ltree_insert(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		      uint32_t n)
{
	uint32_t a, b;

	update(t, ltree_node(t, n));
	ltree_split(t, root, before, key, &a, &b);
	return ltree_join(t, ltree_join(t, a, n), b);
}

uint32_t ltree_remove(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		      uint32_t n)
{
	struct ltree_link *l = visit(t, root);

	if (root == n) {
		root = ltree_join(t, l->left, l->right);
		l->left = l->right = 0;
		return root;
	}
	if (before(l, key))
		l->right = ltree_remove(t, l->right, before, key, n);
	else
		l->left = ltree_remove(t, l->left, before, key, n);
	update(t, l);
	return root;
}

void ltree_refresh(const struct ltree *t, uint32_t root, ltree_before before, const void *key,
		   uint32_t n)
{
	struct ltree_link *l = visit(t, root);

	if (root != n)
		ltree_refresh(t, before(l, key) ? l->right : l->left, before, key, n);
	update(t, l);
}
