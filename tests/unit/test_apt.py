#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""scripts/lab.d/apt.py: which version of a package it takes. Output as cmocka's: tests/run."""

import pathlib
import sys
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lab.d"))

import apt              # noqa: E402
import like_cmocka      # noqa: E402


class Archive(apt.Machine):
    """An archive with these versions, the newest first, as apt-cache madison tells them."""

    def __init__(self, *versions):
        self.text = "".join(f"kbuild | {v} | http://mirror suite/main amd64 Packages\n"
                            for v in versions)

    def run(self, tool, *arguments, **how):
        assert (tool, *arguments) == ("apt-cache", "madison", "kbuild")
        return types.SimpleNamespace(stdout=self.text, stderr="", returncode=0)


class AtLeast(unittest.TestCase):
    def test_its_own(self):
        self.assertEqual(Archive("6.1.192-3", "6.1.192-2").at_least("kbuild", "6.1.192-2"),
                         "6.1.192-2")

    def test_update_in_parts(self):
        """The tools are newer already: the next ones, and none that are older."""
        self.assertEqual(Archive("6.1.200-1", "6.1.192-10", "6.1.176-1")
                         .at_least("kbuild", "6.1.192-2"), "6.1.192-10")

    def test_only_older(self):
        """What is asked for, so that the download says that it is missing."""
        self.assertEqual(Archive("6.1.176-1").at_least("kbuild", "6.1.192-2"), "6.1.192-2")

    def test_none(self):
        self.assertEqual(Archive().at_least("kbuild", "6.1.192-2"), "6.1.192-2")


if __name__ == "__main__":
    sys.exit(like_cmocka.main(sys.modules[__name__]))
