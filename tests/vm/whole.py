# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Whole calls: nothing is seen of a call's steps, and all of what came of them.

The same lies as for every step, told by the kernel's own code (tests/mutants) and by its IOMMU
driver (tests/modules/pfndiverge). What differs is how a wrong page is named: what was asked of the
IOMMU is not known any more, so a frame in its table that the page table does not have breaks the
rule pfn, whoever it was that erred.
"""

import collections
import dataclasses
import functools
import pathlib
import re

import diverge
import kit
import mutants
from kit import DMACLIENT, PAGE, case, equal, holds

# --- bugs of type1 -----------------------------------------------------------------------------


def names_exactly_the_wrong(mutant):
    kit.load_pfnscatter(mutants.SCATTERED_PAGES, "reverse")
    accounts = [kit.fresh("account"), kit.fresh("account")]
    commands = [mutants.client(options) + ["--account", account]
                for options, account in zip((mutant.large, mutant.small), accounts)]
    script = "; ".join(" ".join(command) for command in commands)
    result = kit.check(["sh", "-c", script], "--ring-size", "32M", mode="whole")
    seen = all_wrong = 0
    for path in accounts:
        account = kit.json_lines("the account", pathlib.Path(path).read_text())
        seen += kit.total(account)["pages"]
        pages = {p.iova: p for p in mutants.pages_of_account(account)}
        wrong = {iova for iova, page in pages.items() if mutant.wrong(page)}
        records = mutants.named(result, account)
        equal("verdicts", {r["type"] for r in records}, {"mismatch"})
        kit.same_set("pages named", kit.each_page(records), wrong)
        equal("pages in records", len(kit.each_page(records)), len(wrong))
        for record in records:
            page = pages[kit.number(record["iova"])]
            equal("rules", record["rules"], list(mutant.rules), record)
            equal("va", kit.number(record["va"]), page.va)
            equal("frame by the page table", kit.number(record["table_pfn"]), page.pfn)
            holds("kernel stack", any("vfio" in line for line in record["stack"]), record["stack"])
            if mutant.mapped:
                equal("frame that it is mapped to", kit.number(record["pfn"]),
                      mutant.mapped(page), page)
        all_wrong += len(wrong)
    equal("exit code", result.code, 1)
    equal("pages", result.pages, dict(seen=seen, match=seen - all_wrong, mismatch=all_wrong,
                                      stale=0, raced=0, unverified=0, lost=0))
    rules = dict.fromkeys(result.conclusion["rules"], 0)
    rules.update(dict.fromkeys(mutant.rules, all_wrong))
    equal("broken rules", result.conclusion["rules"], rules)
    kit.note(f"{all_wrong} wrong of {seen} pages, all of them named")


for _mutant in mutants.MUTANTS.values():
    case(f"{_mutant.name}-whole")(functools.partial(names_exactly_the_wrong, _mutant))


# --- an IOMMU driver that lies -----------------------------------------------------------------

def rule_of(what, lie):
    # an owner who asked for "r" and got "rw" has more than was asked for
    return dict(pa="pfn", size="iommu-differs").get(what) or (
        "prot" if lie["asked_prot"] == "r" else "iommu-differs")


def rules_of(what, checked):
    rules = collections.Counter()
    for lie in checked.lies:
        rules[rule_of(what, lie)] += lie["pages"]
    return rules


LIES = diverge.LIES["whole"]


def installed(what):
    checked = diverge.told_of(what, "whole")
    records = kit.of_type(checked.records, "mismatch")
    diverge.large_and_small(checked.lies)
    equal("records", checked.types(), {"mismatch"})
    kit.same_set("pages named", kit.each_page(records), checked.lied)
    equal("pages in records", len(kit.each_page(records)), len(checked.lied))
    about = {iova: lie for lie in checked.lies for iova in kit.each_page([lie])}
    for record in records:
        iova = kit.number(record["iova"])
        lie = about[iova]
        equal("rules", record["rules"], [rule_of(what, lie)])
        equal("frame by the page table", kit.number(record["table_pfn"]),
              (kit.number(lie["asked"]) + iova - kit.number(lie["iova"])) // PAGE)
        diverge.walked(record, lie)
    diverge.device_disagrees(checked.accounts[1], [i for i in checked.lied if i < 0x20000000])
    kit.note(f"{len(checked.lied)} of {checked.seen} pages, all of them named")


for _what in diverge.WITNESS:
    LIES[_what] = dataclasses.replace(diverge.LIES["steps"][_what],
                                      adds=functools.partial(rules_of, _what))
    case(f"diverge-whole-{_what}")(functools.partial(installed, _what))


LIES["leave"] = dataclasses.replace(diverge.LEAVE, stays=lambda c: len(c.lied))


@case("diverge-whole-leave")
def leave():
    """Those that are gone are the unmapped pages."""
    diverge.left(diverge.told_of("leave", "whole"))


LIES["take"] = diverge.takes(diverge.NEXT)


@case("diverge-whole-take")
def take():
    """The last page of one vfio_dma, and the first of the next goes with it."""
    record = diverge.one_page(diverge.told_of("take", "whole"), diverge.NEXT)
    equal("the vfio_dma that it is missing from", kit.number(record["dma"]["iova"]), diverge.NEXT)


LIES["take-again"] = diverge.takes(diverge.NEXT, "--repeat", 2)


@case("diverge-whole-take-again")
def take_again():
    """Twice: what goes was itself unmapped by the last call of its thread, and is mapped again."""
    checked = diverge.told_of("take-again", "whole")
    equal("lies", [(kit.number(r["iova"]), r["pages"]) for r in checked.lies],
          [(diverge.NEXT, 1)] * 2)
    equal("records", [(r["rule"], kit.number(r["iova"]), r["pages"]) for r in checked.records],
          [("iommu-differs", diverge.NEXT, 1)] * 2)


@case("diverge-whole-conclusion")
def conclusion():
    diverge.concluded("whole")


@case("diverge-whole-off")
def honest():
    checked = diverge.lying("off", diverge.MANY, diverge.FEW + ["--dma-check", "both"],
                            mode="whole")
    kit.proven(checked.result.conclusion, checked.result.code, checked.seen, checked.seen)


# --- others map and unmap while we look ---------------------------------------------------------

@case("layouts-tree-turned")
def tree_turned():
    """
    Four threads map and unmap small pieces all the time. A vfio_dma is looked for without the
    container's lock, and may be hidden while another thread turns the tree: it is found.
    """
    result = kit.check([DMACLIENT, "--layout", "anon", "--pages", 3, "--maps", 61, "--threads", 4,
                        "--unmap", "random", "--brief", "--repeat", 60],
                       # four threads and who waits for them, sixty times: each gives its room back
                       "--contexts", 12, mode="whole")
    maps = 61 * 60
    kit.proven(result.conclusion, result.code, 3 * maps, unmapped=3 * maps)
    equal("mappings looked at", result.conclusion["maps"]["calls"], maps)


@case("tree-hidden")
def hidden():
    """
    Four threads call, and as long as others do a mapping is not found in virtio-iommu's tree,
    however often it is looked for: nobody is accused, and nobody is acquitted.
    """
    maps = 61 * 20
    result = kit.check([DMACLIENT, "--layout", "scattered", "--pages", 3, "--maps", 61,
                        "--threads", 4, "--brief", "--repeat", 20], "--lie", "hide-mapping",
                       mode="whole")
    pages = result.conclusion["pages"]
    equal("conclusion", (result.conclusion["conclusion"], result.code), ("incomplete", 3))
    equal("pages", (pages["seen"], pages["mismatch"], pages["unverified"]), (3 * maps, 0, 0))
    holds("pages that were not found", pages["raced"] > 0, pages)
    equal("the others", pages["match"] + pages["raced"], 3 * maps)
    kit.note(f"{pages['raced']} of {3 * maps} pages not found")


@case("beside-last-unmapped")
def same_place():
    """
    The vfio_dma of a call is looked for beside the last one of its thread. Here that one is
    gone: unmapped, and its IOVA is mapped again to other memory.
    """
    maps = 5 * 300
    result = kit.check([DMACLIENT, "--layout", "anon", "--pages", 3, "--maps", 5, "--unmap",
                        "random", "--shuffle", "--brief", "--repeat", 300], mode="whole")
    kit.proven(result.conclusion, result.code, 3 * maps, unmapped=3 * maps)
    equal("mappings looked at", result.conclusion["maps"]["calls"], maps)


@case("beside-last-container")
def next_container():
    """The same with its container, which the last close() has emptied, and not an unmap."""
    maps = 5 * 60
    result = kit.check([DMACLIENT, "--layout", "anon", "--pages", 3, "--maps", 5, "--unmap",
                        "none", "--shuffle", "--brief", "--again", 60], mode="whole")
    kit.proven(result.conclusion, result.code, 3 * maps, unmapped=0)
    equal("mappings looked at", result.conclusion["maps"]["calls"], maps)


# --- more than there is room for ---------------------------------------------------------------

def ledger_behind(pages, *options, mode):
    """Held while the ledger is compared with the kernel's tables."""
    ready = kit.fresh("ready")
    path, argv = kit.check_argv([DMACLIENT, "--layout", "scattered", "--pages", pages, "--brief",
                                 "--unmap", "none", "--hold", 3, "--ready-file", ready],
                                *options, mode=mode)
    checked = kit.Checked(kit.run(argv, patience=600), path)
    kit.proven(checked.conclusion, checked.code, pages, behind=True)
    ledger = checked.conclusion["ledger"]
    holds("times that it was behind, and read anew",
          ledger["losses"] > 0 and ledger["read_anew"] > 0, ledger)
    equal("pages in which ledger and kernel differ", ledger["differ_pages"], 0)
    kit.note(f"behind {ledger['losses']} times, read anew {ledger['read_anew']} times")


for _mode in ("whole", "steps"):
    case(f"ring-ledger-{_mode}")(functools.partial(
        ledger_behind, 65537, "--ring-size", "16K", mode=_mode))


@case("one-gib-whole")
def one_gib():
    """262,144 runs with default buffers: proven, nothing lost, little memory."""
    pages = 262144
    status = kit.fresh("status")
    script = (f"{DMACLIENT} --layout scattered --pages {pages} --brief; code=$?; "
              f"cat /proc/$PPID/status >{status}; exit $code")
    checked = kit.check(["sh", "-c", script], mode="whole")
    kit.proven(checked.conclusion, checked.code, pages, unmapped=pages)
    peak = int(re.search(r"^VmHWM:\s+(\d+) kB", pathlib.Path(status).read_text(), re.M)[1]) / 1024
    holds("peak resident memory in MiB, at most 64", peak <= 64, peak)
    kit.note(f"peak resident {peak:.1f} MiB")
