#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Runs cases inside the lab; one JSON line for each on standard output. Started by tests/run."""

import fcntl
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
        commands = list(dict.fromkeys(kit.current.commands))    # each once
        result.update(why=why, commands=[done.told() for done in commands[-4:]])
    tell(**result)


KVM_CREATE_VM = 0xae01


def keep_virtual_machine():
    """
    The first one that comes, and the last that goes, make KVM patch the scheduler. With two
    emulated processors that goes wrong now and then (machine_failed() in tests/run): once will do.
    """
    fcntl.ioctl(os.open("/dev/kvm", os.O_RDWR), KVM_CREATE_VM, 0)


def main(names):
    suites.load()
    os.chdir("/")       # where a program that runs as nobody can be, too
    if os.environ.get("DMACLIENT_KVM") == "1":
        kit.must(["modprobe", "kvm_amd"])       # what TCG has, on whatever IOMMU
        keep_virtual_machine()
    kit.untouched = kit.left()
    tell(began=True)
    for name in names:
        run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
