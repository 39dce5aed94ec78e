// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* user/kbtf.c: many names found in one pass are those that libbpf finds one by one. */
#include "unit.h"

#include "kbtf.h"

#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>

enum { FUNCS = 3000 };

/* A name of every length, and so many that some share a slot. */
static const char *name_of(int i, char text[64])
{
	sprintf(text, "f%0*d", 1 + i % 40, i);
	return text;
}

static struct btf *some(struct btf *base, int from, int to)
{
	struct btf *btf = base ? btf__new_empty_split(base) : btf__new_empty();
	int proto = base ? 1 : btf__add_func_proto(btf, 0);
	char text[64];

	assert_true(proto > 0);
	for (int i = from; i < to; i++)
		assert_true(btf__add_func(btf, name_of(i, text), BTF_FUNC_STATIC, proto) > 0);
	return btf;
}

static void all_names(void **state)
{
	struct kbtf k = { .btf = some(NULL, 0, FUNCS) };
	struct kbtf_name *names = calloc(FUNCS + 1, sizeof(*names));
	char(*text)[64] = calloc(FUNCS + 1, sizeof(*text));

	(void)state;
	for (int i = 0; i <= FUNCS; i++)
		names[i] = (struct kbtf_name){ name_of(i, text[i]), BTF_KIND_FUNC, .id = 7 };
	kbtf_find(&k, names, FUNCS + 1);
	for (int i = 0; i < FUNCS; i++)
		assert_int_equal(names[i].id,
				 btf__find_by_name_kind(k.btf, names[i].name, BTF_KIND_FUNC));
	assert_int_equal(names[FUNCS].id, 0);
	free(text);
	free(names);
	btf__free(k.btf);
}

/* The same name is a function, a structure and, twice, a typedef; one is asked for twice. */
static void kinds(void **state)
{
	struct kbtf k = { .btf = some(NULL, 0, 1) };
	int page = btf__add_struct(k.btf, "page", 64);
	int first = btf__add_typedef(k.btf, "page", page), func;
	struct kbtf_name names[] = { { "page", BTF_KIND_STRUCT },  { "page", BTF_KIND_FUNC },
				     { "page", BTF_KIND_TYPEDEF }, { "page", BTF_KIND_ENUM },
				     { "page", BTF_KIND_FUNC },	   { "pag", BTF_KIND_STRUCT },
				     { "", BTF_KIND_STRUCT } };

	(void)state;
	assert_true(btf__add_typedef(k.btf, "page", page) > first);
	func = btf__add_func(k.btf, "page", BTF_FUNC_GLOBAL, 1);
	assert_true(btf__add_struct(k.btf, NULL, 8) > 0);
	kbtf_find(&k, names, N_OF(names));
	assert_int_equal(names[0].id, page);
	assert_int_equal(names[1].id, func);
	assert_int_equal(names[2].id, first);
	assert_int_equal(names[3].id, 0);
	assert_int_equal(names[4].id, func);
	assert_int_equal(names[5].id, 0);
	assert_int_equal(names[6].id, 0);
	btf__free(k.btf);
}

/* Of a module: its own functions, not those of what it is on top of. */
static void module(void **state)
{
	struct btf *base = some(NULL, 0, 10);
	struct kbtf k = { .btf = some(base, 8, 20) };
	char in_base[64], in_both[64], in_module[64];
	struct kbtf_name names[] = { { name_of(3, in_base), BTF_KIND_FUNC },
				     { name_of(9, in_both), BTF_KIND_FUNC },
				     { name_of(19, in_module), BTF_KIND_FUNC } };

	(void)state;
	kbtf_find(&k, names, N_OF(names));
	assert_int_equal(names[0].id, 0);
	assert_int_equal(names[1].id, btf__type_cnt(base) + 1);
	assert_int_equal(names[2].id, btf__find_by_name_kind(k.btf, names[2].name, BTF_KIND_FUNC));
	btf__free(k.btf);
	btf__free(base);
}

int test_kbtf(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_names),
		cmocka_unit_test(kinds),
		cmocka_unit_test(module),
	};

	return cmocka_run_group_tests_name("kbtf", tests, NULL, NULL);
}
