/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What all JSON output has in common: see docs/json.md. */
#ifndef PFNW_JSON_PUT_H
#define PFNW_JSON_PUT_H

#include "sink.h"

#include <inttypes.h>

#include <json-c/json.h>

#define JSON_VERSION 1

static inline void num(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static inline void hex(struct json_object *o, const char *key, uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "0x%" PRIx64, v);
	json_object_object_add(o, key, json_object_new_string(buf));
}

static inline void str(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, json_object_new_string(v));
}

static inline void flag(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

static inline void sub(struct json_object *o, const char *key, struct json_object *v)
{
	json_object_object_add(o, key, v);
}

static inline struct json_object *record(const char *type)
{
	struct json_object *o = json_object_new_object();

	str(o, "type", type);
	num(o, "v", JSON_VERSION);
	return o;
}

/* One line; @o is freed. */
static inline void emit(struct sink *s, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (fprintf(s->out, "%s\n", text) < 0 || fflush(s->out))
		s->failed = true;
	json_object_put(o);
}

#endif
