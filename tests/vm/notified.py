# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""
Processes with an MMU notifier, as those that give a device to a guest of KVM have one: their
page-table changes are seen by what the kernel tells it, and nobody else pays for that. All clients
of such a boot make a virtual machine before they open VFIO (tests/client/kvm.c).
"""

import os
import pathlib

import kit
import stale
from kit import DMACLIENT, MMOPS, STORM, case, equal, holds

STALE = ("dontneed", "dontneed-part", "dontneed-retouch", "thp-dontneed", "munmap", "mremap",
         "punch", "punch-file-retouch", "cow", "zero-split", "protect", "pfnmap-drop",
         "pfnmap-shuffle", "bar-decode-off")


ON_FUNCTIONS = ("zap", "zap-hugetlb", "move", "protect", "unmap-one", "migrate-one", "mkclean",
                "cow", "cow-huge", "hugetlb-fault", "split", "mm-exit")
HOOKED = pathlib.Path("/sys/kernel/tracing/enabled_functions")


def told_by(last, *who):
    equal("who told of page-table changes", last["table_changes_by"], list(who))


def attached(*options):
    """A trace, and what sees the changes of processes with a notifier is there."""
    tracing = kit.trace("--json", *options)
    kit.attached()
    return tracing


def gone_stale(tracing, name):
    """Exactly the pages that went stale, by the right name: the stack tells what change it was."""
    records, done = stale.gone_stale(tracing, name)
    stale.judge(records, done.account, stale.CASES[name][1])
    return len(stale.truth_of(done.account))


@case("notified-stale")
def live():
    tracing = attached("--break-on", stale.ALL)
    pages = {name: gone_stale(tracing, name) for name in STALE}
    # (a child that maps has no virtual machine: then the hooks begin to be attached)
    pages["owner-exit"] = gone_stale(tracing, "owner-exit")
    _, last, code = kit.interrupt(tracing)
    equal("exit code", code, 1)
    equal("stale pages", last["pages"]["stale"], sum(pages.values()))
    holds("told by notifiers", "notifiers" in last["table_changes_by"], last["table_changes_by"])
    kit.note(", ".join(f"{name} {n}" for name, n in pages.items()))


def storm(seconds, *options):
    tracing = attached("--no-ledger", "--only", "mismatch")
    done = kit.run([STORM, "--seconds", seconds, *options], patience=seconds + kit.PATIENCE)
    equal("exit code of the storm", done.code, 0)
    records, last, code = kit.interrupt(tracing)
    told_by(last, "notifiers")
    equal("accused", [r for r in records if r["type"] in ("mismatch", "breach")][:3], [])
    pages, total = last["pages"], kit.total(done.account)
    equal("mismatch", pages["mismatch"], 0)
    equal("lost", pages["lost"], 0)
    equal("rules", set(last["rules"].values()), {0})
    holds("pages seen: all that were mapped", pages["seen"] >= total["pages_mapped"] > 0,
          (pages, total))
    holds("changes", last["table_changes"] > 1000, last["table_changes"])
    equal("exit code", code, 3 if pages["raced"] or pages["unverified"] else 0)
    kit.note(f"{seconds} s: {last['table_changes']} page-table changes; {pages['seen']} pages: "
             f"{pages['match']} match, {pages['raced']} raced, "
             f"{pages['unverified']} unverified, 0 mismatch")


@case("notified-storm")
def everything():
    """As clients.storm: never a false alarm."""
    storm(int(os.environ.get("PFNW_STORM_SECONDS", "60")) // 2)


@case("notified-storm-zero")
def zero():
    """As clients.storm_zero: what changes beside a range is told to the notifier, too."""
    storm(15, "--areas", 1, "--mappers", 1, "--disturbers", 1, "--only", "zero")


@case("notified-and-not")
def both():
    """One that has none comes after one that has: from then on all functions are hooked."""
    tracing = attached()
    _, group = kit.ivshmem()
    with kit.Background([DMACLIENT, "--group", group, "--pages", "101", "--hold", "600"]) as guest:
        os.environ["DMACLIENT_KVM"] = "0"
        try:
            first = kit.run([DMACLIENT, "--pages", "67", "--hold", "3"])
            second = kit.run([DMACLIENT, "--pages", "67", "--stale", "dontneed", "--hold", "3"])
        finally:
            os.environ["DMACLIENT_KVM"] = "1"
        guest.process.terminate()
        guest.end()
    equal("exit codes of the clients", (first.code, second.code), (0, 0))
    records, last, code = kit.interrupt(tracing)
    told_by(last, "hooks", "notifiers")
    stale.judge(records, second.account, "dropped")
    equal("exit code", code, 1)


@case("notified-others")
def others():
    """A process without DMA makes page-table changes, and not a single program runs for it."""
    tracing = attached()
    with kit.Background([DMACLIENT, "--pages", "101", "--hold", "600"]) as guest:
        kit.must([MMOPS, "10"])
        hooked = {line.split()[0] for line in HOOKED.read_text().splitlines()}
        guest.process.terminate()
        guest.end()
    _, last, code = kit.interrupt(tracing)
    told_by(last, "notifiers")
    equal("exit code", code, 0)
    notifiers = {h["function"] for h in last["hooks"] if h["hook"].startswith("notifier-")}
    equal("hooked functions of the notifiers", notifiers - hooked, set())
    functions = {h["function"] for h in last["hooks"] if h["hook"] in ON_FUNCTIONS}
    equal("how many there are", len(functions), len(ON_FUNCTIONS))
    equal("hooked functions that everybody calls", functions & hooked, set())
