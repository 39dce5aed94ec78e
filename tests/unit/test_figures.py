#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""scripts/budget.d/figures.py: what is worse than committed. Output as cmocka's: tests/run."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/budget.d"))

import figures          # noqa: E402
import like_cmocka      # noqa: E402


def program(**how):
    return {"instructions": 100, "processed": 10000, "stack": 100, "chain": 200, "xlated": 800,
            "jited": 500, **how}


def worse(new, old):
    return figures.offences({"p": new}, {"p": old})


class Offences(unittest.TestCase):
    def one(self, found, *parts):
        self.assertEqual(len(found), 1, found)
        for part in ("p: ", *parts):
            self.assertIn(part, found[0])

    def test_the_same_is_none(self):
        self.assertEqual(worse(program(), program()), [])
        self.assertEqual(worse(program(processed=1, stack=0, chain=32), program()), [])

    def test_processed(self):
        self.assertEqual(worse(program(processed=11000), program()), [])
        self.one(worse(program(processed=11001), program()), "11001", "10000")
        # a tenth of little is little
        self.assertEqual(worse(program(processed=1100), program(processed=100)), [])
        self.one(worse(program(processed=1101), program(processed=100)), "1101")
        # a thousand of a lot is little
        self.assertEqual(worse(program(processed=109999), program(processed=100000)), [])

    def test_processed_at_most(self):
        high = program(processed=500001)
        self.one(worse(high, high), "500001")
        self.one(figures.offences({"p": high}), "500001")
        self.assertEqual(worse(program(processed=500000), program(processed=500000)), [])

    def test_frame(self):
        self.assertEqual(worse(program(stack=164), program()), [])
        self.one(worse(program(stack=165), program()), "frame", "165")
        self.assertEqual(worse(program(stack=400), program(stack=399)), [])
        self.one(worse(program(stack=401), program(stack=399)), "401")
        self.assertEqual(worse(program(stack=401), program(stack=401)), [])
        self.one(worse(program(stack=481), program(stack=481)), "481")
        self.one(figures.offences({"p": program(stack=481)}), "481")

    def test_chain(self):
        self.assertEqual(worse(program(chain=264), program()), [])
        self.one(worse(program(chain=265), program()), "chain", "265")
        self.assertEqual(worse(program(chain=480), program(chain=470)), [])
        self.one(worse(program(chain=481), program(chain=480)), "481")
        # too deep already: not deeper
        self.assertEqual(worse(program(chain=512), program(chain=512)), [])
        self.one(worse(program(chain=512), program(chain=511)), "512")
        self.one(figures.offences({"p": program(chain=512)}), "512")
        self.one(worse(program(chain=0), program()), "could not tell")

    def test_new_and_gone(self):
        self.one(figures.offences({"p": program()}, {}), "scripts/budget --write")
        self.assertEqual(figures.offences({}, {"p": program()}), [])
        self.assertEqual(figures.offences({"p": program()}), [])

    def test_rejected(self):
        no = {"rejected": "R1 unbounded"}
        for found in (worse(no, program()), worse(no, no), figures.offences({"p": no}),
                      figures.offences({"p": no}, {})):
            self.one(found, "rejected", "R1 unbounded")
        self.assertEqual(worse(program(), no), [])
        self.one(worse(program(chain=500), no), "500")

    def test_each_is_named(self):
        new = {n: program(processed=99999) for n in "ba"}
        self.assertEqual([line[:3] for line in figures.offences(new, {
            n: program() for n in "ab"})], ["a: ", "b: "])


class Data(unittest.TestCase):
    RECORD = {"type": "program", "program": "p", "instructions": 1, "processed": 2, "states": 9,
              "stack_bytes": 3, "stack_bytes_chain": 4, "xlated_bytes": 5, "jited_bytes": 6}
    FIGURES = {"instructions": 1, "processed": 2, "stack": 3, "chain": 4, "xlated": 5, "jited": 6}

    def test_records(self):
        got = figures.of_records([{"type": "hook"}, self.RECORD, {
            "type": "program", "program": "q", "instructions": 7, "rejected": "no"}])
        self.assertEqual(got, {"p": self.FIGURES, "q": {"rejected": "no"}})

    def test_records_of_both_ways(self):
        """Step by step and whole calls: the larger, whichever comes first."""
        less = {**self.RECORD, "calls": "steps", "processed": 1, "stack_bytes": 9}
        for records in ((self.RECORD, less), (less, self.RECORD)):
            self.assertEqual(figures.of_records(records), {"p": {**self.FIGURES, "stack": 9}})

    def test_largest(self):
        no = {"rejected": "no"}
        got = figures.largest(
            {"p": program(processed=1, chain=9), "q": no, "r": program(), "s": program()},
            {"p": program(processed=2, chain=8), "q": program(), "r": no, "t": program()})
        self.assertEqual(got, {"p": program(processed=2, chain=9), "q": no, "r": no,
                               "s": program(), "t": program()})

    def test_save_and_load(self):
        data = {("6.12", 14): ({"release": "a"}, {"q": program(), "p": {"rejected": "no"}}),
                ("6.1", 19): ({"release": "b"}, {"p": program(stack=0)})}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "budget.jsonl")
            self.assertEqual(figures.load(path), {})
            figures.save(data, path)
            self.assertEqual(figures.load(path), data)
            first = path.read_bytes()
            figures.save(dict(reversed(data.items())), path)
            self.assertEqual(path.read_bytes(), first)
            self.assertTrue(first.startswith(b'{"kernel":"6.1",'), first)

    def test_what_is_committed(self):
        for how, programs in figures.load().values():
            self.assertTrue(how["release"] and programs)
            # rejections are told by scripts/budget, every time
            ok = {n: p for n, p in programs.items() if "rejected" not in p}
            self.assertEqual(figures.offences(ok, programs), [])


if __name__ == "__main__":
    sys.exit(like_cmocka.main(sys.modules["__main__"]))
