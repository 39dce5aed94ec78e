# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Real clients: QEMU, whose memory listener maps a whole guest; and the storm."""

import os
import pathlib
import re

import kit
from kit import STORM, case, equal, holds

GUEST_MIB = 2048


def listener_pages(log, event):
    """Pages in events such as: vfio_listener_region_add_ram region_add [ram] 0x0 - 0xbffff [..]"""
    ranges = re.findall(rf"^{event} .*?0x([0-9a-f]+) - 0x([0-9a-f]+)", log, re.M)
    return sum((int(end, 16) - int(start, 16) + 1) // kit.PAGE for start, end in ranges)


@case("qemu-guest")
def qemu_guest():
    log = kit.fresh("qemu.log")
    script = ('echo quit | exec qemu-system-x86_64 -machine q35,accel=tcg -display none '
              f'-nodefaults -monitor stdio -m {GUEST_MIB} -S -device vfio-pci,host="$LAB_EDU_BDF" '
              f'-trace "vfio_listener*" -D {log}')
    checked = kit.check(["sh", "-c", script])
    text = pathlib.Path(log).read_text()
    pages = listener_pages(text, "vfio_listener_region_add_ram")
    holds("pages that QEMU mapped, by its trace: the guest's memory at least",
          pages >= GUEST_MIB * 256, pages)
    # Before 6.2 a read-only pin does not unshare: QEMU maps its BIOS for reading, then writes it.
    known = checked.conclusion["stale_by"].get("cow", 0)
    holds("stale, of all cases only cow, and no more than a BIOS has", known in (0, 64), known)
    kit.proven(checked.conclusion, checked.code, pages, known=known)
    removed = listener_pages(text, "vfio_listener_region_del")
    holds("unmapped pages: what QEMU removed, and the rest at its end",
          checked.conclusion["unmaps"]["pages"] in (removed, pages),
          checked.conclusion["unmaps"])
    kit.note(f"{pages} pages seen, as by QEMU's own trace events")


@case("storm-zero")
def storm_zero():
    """The huge zero page is split by a change beside what is mapped: all of it changes."""
    checked = kit.check([STORM, "--seconds", 15, "--areas", 1, "--mappers", 1, "--disturbers", 1,
                         "--only", "zero"], "--no-ledger", "--ring-size", "64M")
    pages = checked.pages
    equal("mismatch", pages["mismatch"], 0)
    equal("rules", set(checked.conclusion["rules"].values()), {0})
    equal("lost", pages["lost"], 0)
    honest = pages["raced"] or pages["unverified"]
    equal("exit code", checked.code, 3 if honest else 0)
    splits = kit.of_type(checked.account, "changes")[0]["zero"]
    holds("changes", splits > 100, splits)
    kit.note(f"{splits} splits, {pages['seen']} pages, {pages['raced']} raced")


@case("storm")
def storm():
    """Threads that change memory while others map and unmap it: never a false alarm. (Much of
    it does go stale then: stale-storm-calm is the storm in which nothing may.)"""
    seconds = int(os.environ.get("PFNW_STORM_SECONDS", "60"))
    checked = kit.check([STORM, "--seconds", seconds], "--no-ledger",
                        patience=seconds + kit.PATIENCE)
    totals = kit.of_type(checked.account, "total")
    equal("totals of the storm", len(totals), 1)
    total, pages, last = totals[0], checked.pages, checked.conclusion
    equal("what a healthy kernel does not do", total["wrong"], 0)
    equal("command", last["command_status"], 0)
    equal("mismatch", pages["mismatch"], 0)
    equal("stale", pages["stale"], 0)
    equal("lost", pages["lost"], 0)
    equal("mismatch of claims", last["claims"]["mismatch"], 0)
    equal("rules", set(last["rules"].values()), {0})
    # A mapping that fails half-way was installed up to there: seen, but not in the account.
    holds("pages seen: all that were mapped, and what failed half-way",
          pages["seen"] >= total["pages_mapped"] > 0, (pages, total))
    if not total["maps_failed"]:
        equal("pages seen", pages["seen"], total["pages_mapped"])
    kit.equal_counts(last)
    equal("unmapped pages", last["unmaps"]["pages"], pages["seen"])
    honest = pages["raced"] or pages["unverified"]
    equal("exit code", checked.code, 3 if honest else 0)
    equal("raced pages by cause", sum(last["raced_by"].values()), pages["raced"])
    kit.note(f"{seconds} s: {total['maps_ok']} mappings, {total['maps_failed']} refused, "
             f"{last['table_changes']} page-table changes; {pages['seen']} pages: "
             f"{pages['match']} match, {pages['raced']} raced, "
             f"{pages['unverified']} unverified, 0 mismatch")
