#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""scripts/bench.d/data.py: what is dearer than committed, how far two results are apart, and that
no two boots are mixed. Output as cmocka's: tests/run."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/bench.d"))

import data             # noqa: E402
import like_cmocka      # noqa: E402
import tables           # noqa: E402

HEAD = dict(kernel="6.1", part="goals", object="0123", release="6.1.0-1", commit="c", clang="14")
TOOL = "pfnwatch trace"


def boot(nothing, with_it, tool=TOOL, layout="contig", **head):
    return data.Boot([dict(type="boot", **{**HEAD, **head}),
                      *(dict(type="figure", tool="nothing", layout=layout, map=n, unmap=n)
                        for n in nothing),
                      *(dict(type="figure", tool=tool, layout=layout, map=n, unmap=n)
                        for n in with_it)])


def worse(committed, measured):
    rows = data.regressions({("6.1", "goals"): committed}, {("6.1", "goals"): measured})
    return [text for text, is_worse in rows if is_worse], len(rows)


class Regressions(unittest.TestCase):
    def test_the_same_is_none(self):
        self.assertEqual(worse(boot([600], [615]), boot([600], [615])), ([], 1))

    def test_cheaper_is_none(self):
        self.assertEqual(worse(boot([600], [615]), boot([600], [601])), ([], 1))

    def test_room_is_small(self):
        # 0.3 % of 600, 2 % of 15, and a half: 2.6
        self.assertEqual(worse(boot([600], [615]), boot([600], [617.5]))[0], [])
        found, n = worse(boot([600], [615]), boot([600], [617.7]))
        self.assertEqual(n, 1)
        self.assertIn("Linux 6.1, contig, pfnwatch trace: adds 17.7", found[0])
        self.assertIn("committed 15.0", found[0])

    def test_what_is_added_counts_not_the_sum(self):
        # another kernel of the same name may be dearer by itself
        self.assertEqual(worse(boot([600], [615]), boot([700], [715]))[0], [])
        self.assertEqual(len(worse(boot([600], [615]), boot([500], [615]))[0]), 1)

    def test_the_least_of_each_counts(self):
        self.assertEqual(worse(boot([600, 604], [615, 640]), boot([606, 600], [700, 615])),
                         ([], 1))

    def test_gone_is_worse(self):
        found, _ = worse(boot([600], [615]), boot([600], []))
        self.assertIn("not measured any more", found[0])

    def test_other_kernels_are_not_compared(self):
        self.assertEqual(data.regressions({("6.1", "goals"): boot([600], [615])},
                                          {("6.12", "goals"): boot([600], [900])}), [])


class Apart(unittest.TestCase):
    def test_furthest_first(self):
        one, other = boot([600], [600]), boot([600], [606])
        rows = data.apart(one, other)
        self.assertEqual([(r[2], r[3]) for r in rows][:2], [(600, 606), (600, 606)])
        self.assertEqual(len(rows), 4)      # map and unmap, of both

    def test_only_what_both_have(self):
        self.assertEqual(data.apart(boot([600], [], layout="thp"), boot([600], [])), [])


class Typical(unittest.TestCase):
    def of(self, tool):
        return data.Boot([dict(type="boot", **HEAD), dict(
            type="figure", tool=tool, layout="contig", map=600, maps_each=[660, 600, 661],
            unmap=300, unmaps_each=[300, 301, 302])]).pick(tool, "map", layout="contig")

    def test_a_reader_that_slept_is_not(self):
        self.assertEqual(self.of("bpftrace, a new process"), 660)

    def test_of_others_the_least(self):
        self.assertEqual(self.of("pfnwatch trace"), 600)


class Others(unittest.TestCase):
    """The operation that suffers most, against the dearer of two baselines."""

    def rows(self, again, unused, used):
        ops = {"nothing": 1000, "nothing, again": again, tables.UNUSED: unused,
               "nothing, VFIO is used": 1000, tables.USED: used}
        boot = data.Boot([dict(type="boot", **HEAD), *(
            dict(type="figure", tool=tool, op=op, insns=insns) for tool, n in ops.items()
            for op, insns in (("fork", 100 * n), ("mmap", 1000)))])
        return tables.goals_of_others({("6.1", "others"): boot})

    def test_chance_is_no_cost(self):
        text = "\n".join(self.rows(1004, 1005, 1050))
        self.assertIn("| 6.1 | nobody uses VFIO | fork | +100 (+0.10 %) | 0.3 % | yes |", text)
        self.assertIn("+5,000 (+5.00 %) | 0.3 % | **no**: [the floor]", text)

    def test_more_than_chance_is(self):
        self.assertIn("+500 (+0.50 %) | 0.3 % | **no** |", "\n".join(self.rows(1000, 1005, 1000)))


class Files(unittest.TestCase):
    def test_no_name_before_the_end(self):
        with tempfile.TemporaryDirectory() as folder:
            writer = data.Writer(folder, HEAD)
            writer.write(dict(type="figure", tool="nothing", layout="thp", map=93.123456789))
            self.assertEqual(data.load(folder), {})
            writer.done()
            found = data.load(folder)
            self.assertEqual(list(found), [("6.1", "goals")])
            self.assertEqual(found["6.1", "goals"].figures[0]["map"], 93.1235)
            self.assertEqual([p.name for p in pathlib.Path(folder).iterdir()],
                             ["6.1-goals.jsonl"])

    def test_interrupted_keeps_what_was_there(self):
        with tempfile.TemporaryDirectory() as folder:
            whole = data.Writer(folder, HEAD)
            whole.write(dict(type="figure", tool="nothing", layout="thp", map=1.0))
            whole.done()
            again = data.Writer(folder, HEAD)
            again.write(dict(type="figure", tool="nothing", layout="thp", map=2.0))
            again.file.close()
            self.assertEqual(data.load(folder)["6.1", "goals"].figures[0]["map"], 1.0)
            text = pathlib.Path(folder, "6.1-goals.jsonl.partial").read_text()
            self.assertEqual(json.loads(text.splitlines()[1])["map"], 2.0)


if __name__ == "__main__":
    sys.exit(like_cmocka.main(sys.modules[__name__]))
