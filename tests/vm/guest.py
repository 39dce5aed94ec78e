#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Runs cases inside the lab; one JSON line for each on standard output. Started by tests/run."""

import json
import os
import pathlib
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import kit          # noqa: E402
import suites       # noqa: E402


def tell(**result):
    print(json.dumps(result), flush=True)


def run(name):
    kit.current = kit.Case()
    start = time.monotonic()
    why = ""
    try:
        kit.CASES[name]()
    except kit.Failure as failure:
        why = str(failure)
    except Exception:   # a broken case must not take the others along
        why = traceback.format_exc()
    result = dict(case=name, ok=not why, seconds=round(time.monotonic() - start, 1),
                  notes=kit.current.notes)
    if why:
        result.update(why=why, commands=[done.told() for done in kit.current.commands[-4:]])
    tell(**result)


def main(names):
    suites.load()
    # So that a case that must be root, or that counts what is left, begins with nothing.
    os.chdir("/")
    for name in names:
        run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
