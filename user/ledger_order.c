// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
#include "ledger_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ledger_tree.h"

/* Nodes in a chunk: 12 and 4 KiB. */
#define KEPT_SHIFT 8
#define STREAM_SHIFT 6

/* A record that came too early. */
struct kept {
	struct ltree_link link;
	uint64_t seq;
	uint64_t came_ns, oldest_ns; /* its own, least of its subtree */
	void *record;
	size_t bytes;
};

struct stream {
	struct ltree_link link;
	uint64_t container, generation;
	uint64_t next; /* sequence number to be applied next */
	uint64_t dropped; /* greatest one that came and was dropped before its turn */
	uint64_t records, bytes; /* kept */
	uint32_t root; /* of what is kept */
	bool lost;
};

struct ledger_order {
	struct ledger_order_config config;
	struct ltree_budget budget;
	struct ltree kept, streams;
	uint32_t root;
	struct ledger_order_stats stats;
};

static void kept_update(const struct ltree *t, void *node)
{
	struct kept *k = node;
	uint32_t child[] = { k->link.left, k->link.right };

	k->oldest_ns = k->came_ns;
	for (int i = 0; i < 2; i++) {
		const struct kept *c = child[i] ? ltree_node(t, child[i]) : NULL;

		if (c && c->oldest_ns < k->oldest_ns)
			k->oldest_ns = c->oldest_ns;
	}
}

static bool kept_before(const void *node, const void *seq)
{
	return ((const struct kept *)node)->seq < *(const uint64_t *)seq;
}

static bool stream_before(const void *node, const void *container)
{
	return ((const struct stream *)node)->container < *(const uint64_t *)container;
}

static bool stream_not_after(const void *node, const void *container)
{
	return ((const struct stream *)node)->container <= *(const uint64_t *)container;
}

struct ledger_order *ledger_order_new(const struct ledger_order_config *c)
{
	struct ltree_budget b = { .max_bytes = c->max_memory };
	struct ledger_order *o = ltree_take(&b, sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct ledger_order){ .config = *c, .budget = b };
	o->kept = (struct ltree){ .node_bytes = sizeof(struct kept), .shift = KEPT_SHIFT };
	o->streams = (struct ltree){ .node_bytes = sizeof(struct stream), .shift = STREAM_SHIFT };
	o->kept.budget = o->streams.budget = &o->budget;
	o->kept.update = kept_update;
	return o;
}

static struct kept *kept_at(const struct ledger_order *o, uint32_t n)
{
	return ltree_node(&o->kept, n);
}

static struct stream *stream_at(const struct ledger_order *o, uint32_t n)
{
	return ltree_node(&o->streams, n);
}

static struct stream *stream_find(const struct ledger_order *o, uint64_t container)
{
	uint32_t n = ltree_seek(&o->streams, o->root, stream_before, &container);

	return n && stream_at(o, n)->container == container ? stream_at(o, n) : NULL;
}

/* NULL: no memory. */
static struct stream *stream_get(struct ledger_order *o, uint64_t container, uint64_t generation)
{
	struct stream *s = stream_find(o, container);
	uint32_t n;

	if (s || !ltree_reserve(&o->streams, 1))
		return s;
	n = ltree_alloc(&o->streams);
	s = stream_at(o, n);
	s->container = container;
	s->generation = generation;
	s->next = 1;
	o->root = ltree_insert(&o->streams, o->root, stream_before, &container, n);
	return s;
}

/* First record kept from @seq on; 0: none. */
static uint32_t kept_from(const struct ledger_order *o, const struct stream *s, uint64_t seq)
{
	return ltree_seek(&o->kept, s->root, kept_before, &seq);
}

/* Takes a record out of the stream. The caller has to give it back. */
static struct kept take(struct ledger_order *o, struct stream *s, uint32_t n)
{
	struct kept k = *kept_at(o, n);

	s->root = ltree_remove(&o->kept, s->root, kept_before, &k.seq, n);
	ltree_release(&o->kept, n);
	s->records--;
	s->bytes -= k.bytes;
	return k;
}

static void give_back(struct ledger_order *o, struct kept *k)
{
	ltree_give(&o->budget, k->record, k->bytes);
}

/* Drops what is kept up to @seq, and remembers the last of it. */
static void drop_up_to(struct ledger_order *o, struct stream *s, uint64_t seq)
{
	uint32_t n;

	while ((n = kept_from(o, s, 0)) && kept_at(o, n)->seq <= seq) {
		struct kept k = take(o, s, n);

		if (k.seq > s->dropped)
			s->dropped = k.seq;
		give_back(o, &k);
		o->stats.dropped++;
	}
}

static bool keep(struct ledger_order *o, struct stream *s, const void *record, size_t bytes,
		 uint64_t seq, uint64_t now_ns)
{
	struct kept *k;
	uint32_t n;
	void *copy;

	if (!ltree_reserve(&o->kept, 1))
		return false;
	copy = ltree_take(&o->budget, bytes);
	if (!copy)
		return false;
	if (bytes)
		memcpy(copy, record, bytes);
	n = ltree_alloc(&o->kept);
	k = kept_at(o, n);
	k->seq = seq;
	k->came_ns = now_ns;
	k->record = copy;
	k->bytes = bytes;
	s->root = ltree_insert(&o->kept, s->root, kept_before, &seq, n);
	s->records++;
	s->bytes += bytes;
	return true;
}

static bool has_room(const struct ledger_order *o, const struct stream *s, size_t bytes)
{
	return s->records < o->config.max_records && bytes <= o->config.max_bytes &&
	       s->bytes <= o->config.max_bytes - bytes;
}

static void lose(struct ledger_order *o, struct stream *s)
{
	drop_up_to(o, s, UINT64_MAX);
	s->lost = true;
	o->stats.losses++;
	o->config.lost(o->config.ctx, s->container, s->generation);
}

static bool too_old(const struct ledger_order *o, const struct stream *s, uint64_t now_ns)
{
	uint64_t oldest;

	if (s->lost || !s->root)
		return false;
	oldest = kept_at(o, s->root)->oldest_ns;
	return now_ns == UINT64_MAX || (now_ns > oldest && now_ns - oldest > o->config.max_age_ns);
}

static void apply(struct ledger_order *o, struct stream *s, const void *record, size_t bytes)
{
	uint64_t seq = s->next++;

	o->stats.applied++;
	o->config.apply(o->config.ctx, s->container, s->generation, seq, record, bytes);
}

/* Applies what is kept and whose turn it is. The callback may do anything to the stream. */
static void go_on(struct ledger_order *o, uint64_t container)
{
	struct stream *s;
	uint32_t n;

	while ((s = stream_find(o, container)) && (n = kept_from(o, s, 0)) &&
	       kept_at(o, n)->seq == s->next) {
		struct kept k = take(o, s, n);

		apply(o, s, k.record, k.bytes);
		give_back(o, &k);
	}
}

/* A record of a container that waits for a resync: the newest ones are kept. */
static int push_lost(struct ledger_order *o, struct stream *s, const void *record, size_t bytes,
		     uint64_t seq, uint64_t now_ns)
{
	uint32_t n;

	while (!has_room(o, s, bytes) && (n = kept_from(o, s, 0)) && kept_at(o, n)->seq < seq)
		drop_up_to(o, s, kept_at(o, n)->seq);
	if (has_room(o, s, bytes) && keep(o, s, record, bytes, seq, now_ns))
		return LEDGER_ORDER_KEPT;
	if (seq > s->dropped)
		s->dropped = seq;
	o->stats.dropped++;
	return LEDGER_ORDER_DROPPED;
}

/* A record that has its turn, or has to wait for it. */
static int push_next(struct ledger_order *o, struct stream *s, const void *record, size_t bytes,
		     uint64_t seq, uint64_t now_ns)
{
	uint64_t container = s->container;
	int result = LEDGER_ORDER_KEPT;

	if (seq == s->next) {
		result = LEDGER_ORDER_APPLIED;
		apply(o, s, record, bytes);
		go_on(o, container);
		s = stream_find(o, container);
	} else if (!has_room(o, s, bytes) || !keep(o, s, record, bytes, seq, now_ns)) {
		if (seq > s->dropped)
			s->dropped = seq;
		o->stats.dropped++;
		lose(o, s);
		return LEDGER_ORDER_LOST;
	}
	if (s && too_old(o, s, now_ns)) {
		lose(o, s);
		return LEDGER_ORDER_LOST;
	}
	return result;
}

static void renew(struct ledger_order *o, struct stream *s, uint64_t generation)
{
	drop_up_to(o, s, UINT64_MAX);
	s->generation = generation;
	s->next = 1;
	s->dropped = 0;
	s->lost = false;
}

int ledger_order_push(struct ledger_order *o, const void *record, size_t bytes, uint64_t container,
		      uint64_t generation, uint64_t seq, uint64_t now_ns)
{
	struct stream *s;
	uint32_t n;

	if (!seq)
		return -EINVAL;
	s = stream_get(o, container, generation);
	if (s && generation > s->generation) {
		uint64_t old = s->generation;

		renew(o, s, generation);
		if (o->config.renewed)
			o->config.renewed(o->config.ctx, container, old, generation);
		s = stream_get(o, container, generation);
	}
	if (!s) {
		o->stats.dropped++;
		o->stats.losses++;
		o->config.lost(o->config.ctx, container, generation);
		return LEDGER_ORDER_LOST;
	}
	n = kept_from(o, s, seq);
	if (generation < s->generation || seq < s->next || (n && kept_at(o, n)->seq == seq)) {
		o->stats.dropped++;
		return LEDGER_ORDER_DROPPED;
	}
	return s->lost ? push_lost(o, s, record, bytes, seq, now_ns) :
			 push_next(o, s, record, bytes, seq, now_ns);
}

void ledger_order_tick(struct ledger_order *o, uint64_t now_ns)
{
	ltree_before before = stream_before;
	uint64_t container = 0;
	uint32_t n;

	while ((n = ltree_seek(&o->streams, o->root, before, &container))) {
		struct stream *s = stream_at(o, n);

		container = s->container;
		before = stream_not_after;
		if (too_old(o, s, now_ns))
			lose(o, s);
	}
}

int ledger_order_resync(struct ledger_order *o, uint64_t container, uint64_t generation,
			uint64_t seq)
{
	struct stream *s = stream_get(o, container, generation);

	if (!s)
		return -ENOMEM;
	if (generation < s->generation)
		return -ESTALE;
	if (generation > s->generation)
		renew(o, s, generation);
	if (seq < s->next - 1 || seq < s->dropped)
		return -ESTALE;
	drop_up_to(o, s, seq);
	s->next = seq + 1;
	s->lost = false;
	go_on(o, container);
	return 0;
}

static void stream_release(struct ledger_order *o, struct stream *s)
{
	uint32_t n = ltree_seek(&o->streams, o->root, stream_before, &s->container);

	drop_up_to(o, s, UINT64_MAX);
	o->root = ltree_remove(&o->streams, o->root, stream_before, &s->container, n);
	ltree_release(&o->streams, n);
}

void ledger_order_forget(struct ledger_order *o, uint64_t container)
{
	struct stream *s = stream_find(o, container);

	if (s)
		stream_release(o, s);
}

void ledger_order_free(struct ledger_order *o)
{
	if (!o)
		return;
	while (o->root)
		stream_release(o, stream_at(o, o->root));
	ltree_destroy(&o->kept);
	ltree_destroy(&o->streams);
	free(o);
}

uint64_t ledger_order_next(const struct ledger_order *o, uint64_t container)
{
	const struct stream *s = stream_find(o, container);

	return s ? s->next : 1;
}

bool ledger_order_out_of_order(const struct ledger_order *o, uint64_t container)
{
	const struct stream *s = stream_find(o, container);

	return s && s->lost;
}

void ledger_order_stats(const struct ledger_order *o, struct ledger_order_stats *stats)
{
	ltree_before before = stream_before;
	uint64_t container = 0;
	uint32_t n;

	*stats = o->stats;
	stats->memory = o->budget.bytes;
	while ((n = ltree_seek(&o->streams, o->root, before, &container))) {
		const struct stream *s = stream_at(o, n);

		container = s->container;
		before = stream_not_after;
		stats->containers++;
		stats->out_of_order += s->lost;
		stats->kept_records += s->records;
		stats->kept_bytes += s->bytes;
	}
}
