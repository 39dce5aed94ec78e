# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Bugs put back into the kernel: exactly the wrong pages are named, and none of the right ones.

Which pages a mutant makes wrong is what its own comments say (tests/mutants/*.sed), computed here
from the client's account: VA, IOVA, and the frame by pagemap, by the module or by the device's
resources. The device is the last witness: it must disagree on exactly those pages.
"""

import dataclasses
import errno
import functools
import os
import pathlib

import kit
from kit import DMACLIENT, KERNEL, PAGE, PFNWATCH, case, equal, holds

# pages with another owner than the process's page tables: PFNMAP
PFNMAP = ("pfnmap", "bar")
SCATTERED_PAGES = 1009


@dataclasses.dataclass
class Page:
    """A page of a mapping as the client accounts for it."""
    layout: str
    flags: str
    index: int      # in its mapping
    pages: int      # of its mapping
    va: int
    iova: int
    pfn: int


@dataclasses.dataclass
class Mutant:
    name: str
    wrong: object               # of a Page
    rules: tuple                # that are broken where it is wrong
    large: list                 # options of a client with many pages
    small: list                 # options of a client whose pages the device reads, too
    mapped: object = None       # what PFN a wrong page is mapped to, where that is certain


def pinned(page):
    return page.layout not in PFNMAP


def batch_other(page):
    """Pages 1 and 2 of a batch of 512 change places, if there are so many."""
    in_batch = page.index % 512
    return pinned(page) and in_batch in (1, 2) and \
        min(512, page.pages - (page.index - in_batch)) >= 3


def pre57(page):
    """((va - vm_start) >> 12) + vm_pgoff; mappings here begin where their VMA does."""
    if page.layout == "pfnmap":
        return page.pfn != pre57_pfn(page)
    # since 6.10 vfio-pci no longer keeps the BAR's PFN in vm_pgoff
    return page.layout == "bar" and KERNEL != "6.1"


def pre57_pfn(page):
    if page.layout == "bar":
        return (2 << 28) + page.index       # BAR 2 is at 2 << 40 in the device's file
    return kit.pfnscatter_base() + page.index


ALL = ["--layout", "anon,scattered,thp,shmem,ro,pfnmap,bar", "--pages", SCATTERED_PAGES,
       "--unmap", "lifo"]
FEW = ["--layout", "anon,pfnmap", "--pages", 31, "--dma-verify"]
READ_ONLY = ["--layout", "pfnmap", "--prot", "r", "--flags", "rw"]

MUTANTS = {mutant.name: mutant for mutant in (
    Mutant("off-by-one", lambda p: pinned(p) and (p.va >> 12) % 7 == 3, ("pfn",), ALL, FEW,
           lambda p: p.pfn + 1),
    Mutant("batch-other", batch_other, ("pfn",), ALL, FEW),
    Mutant("truncated",
           lambda p: pinned(p) and p.index % 512 and p.pfn > 0xffff and p.pfn & 0xffff,
           ("pfn",), ALL, FEW, lambda p: p.pfn & 0xffff),
    Mutant("map-shifted", lambda p: (p.iova >> 12) % 7 == 3, ("pfn",), ALL, FEW,
           lambda p: p.pfn + 1),
    Mutant("pa-zero", lambda p: (p.iova >> 12) % 11 == 5, ("pfn", "pa-zero"), ALL, FEW,
           lambda p: 0),
    Mutant("wrong-prot", lambda p: p.flags == "r", ("prot",), ALL,
           ["--layout", "ro,anon", "--pages", 31, "--dma-check", "both"], lambda p: p.pfn),
    Mutant("no-write-check", lambda p: p.layout == "pfnmap", ("prot",),
           [*READ_ONLY, "--pages", SCATTERED_PAGES],
           [*READ_ONLY, "--pages", 31, "--dma-check", "both"], lambda p: p.pfn),
    Mutant("pre57-formula", pre57, ("pfn",), ALL,
           ["--layout", "pfnmap,anon,bar", "--pages", 31, "--dma-verify"], pre57_pfn),
)}


def client(options):
    bar = ["--bar-bdf", kit.ivshmem()[0], "--bar-index", 2]
    return [str(o) for o in [DMACLIENT, *options, *bar, "--list-pages"]]


def pages_of_account(account):
    """All pages of a client, but for the one that brings its device's data back."""
    pages = []
    for record in account:
        if record["type"] == "map":
            mapping, start = record, kit.number(record["iova"])
        elif record["type"] == "page" and mapping["layout"] != "bounce":
            iova = kit.number(record["iova"])
            pages.append(Page(mapping["layout"], mapping["flags"], (iova - start) // PAGE,
                              mapping["pages"], kit.number(record["va"]), iova,
                              kit.number(record["pfn"])))
    return pages


@kit.once
def checked(name):
    """One check over both clients: loading the programs is what takes time."""
    mutant = MUTANTS[name]
    kit.load_pfnscatter(SCATTERED_PAGES, "reverse")
    accounts = [kit.fresh("account"), kit.fresh("account")]
    commands = [client(options) + ["--account", account]
                for options, account in zip((mutant.large, mutant.small), accounts)]
    script = "; ".join(" ".join(command) for command in commands)
    # room for the evidence of ten thousand wrong pages in a row
    result = kit.check(["sh", "-c", script], "--ring-size", "32M")
    accounts = [kit.json_lines("the account", pathlib.Path(a).read_text()) for a in accounts]
    for account in accounts:
        kit.total(account)
    return result, accounts


def named(result, account):
    pid = kit.total(account)["pid"]
    return [r for r in kit.of_type(result.records, "mismatch", "stale", "raced", "unverified")
            if r["process"]["pid"] == pid and r["at"] == "map"]


MEMBERS = {"claim", "cpu_walk", "pagemap_pfn", "vma", "linear_pfn", "stack", "process", "device",
           "map", "dma"}


def evidence(record):
    """Everything needed to believe a mismatch."""
    equal("members missing", MEMBERS - record.keys(), set(), record)
    holds("raw entries of the walk", record["cpu_walk"]["entries"], record)
    holds("kernel stack of the mapping",
          any("vfio" in line for line in record["stack"]), record["stack"])
    # the container of some clients has the group of the BAR's owner, too
    holds("device", record["device"] in (os.environ["LAB_EDU_BDF"], kit.other_device()), record)


def names_exactly_the_wrong(mutant):
    result, accounts = checked(mutant.name)
    kit.current.commands.append(result.done)
    equal("exit code", result.code, 1)
    equal("conclusion", result.conclusion["conclusion"], "broken")
    all_wrong = 0
    for account in accounts:
        pages = {p.iova: p for p in pages_of_account(account)}
        wrong = {iova for iova, page in pages.items() if mutant.wrong(page)}
        records = named(result, account)
        equal("verdicts", {r["type"] for r in records}, {"mismatch"})
        kit.same_set("pages named", kit.each_page(records), wrong)
        equal("pages in records", len(kit.each_page(records)), len(wrong))
        for record in records:
            evidence(record)
            page = pages[kit.number(record["iova"])]
            equal("rules", record["rules"], list(mutant.rules), record)
            equal("va", kit.number(record["va"]), page.va)
            equal("frame by the page table", kit.number(record["table_pfn"]), page.pfn)
            if mutant.mapped:
                equal("frame that it is mapped to", kit.number(record["pfn"]),
                      mutant.mapped(page), page)
        all_wrong += len(wrong)
    seen = sum(kit.total(a)["pages"] for a in accounts)
    equal("pages", result.pages, dict(seen=seen, match=seen - all_wrong, mismatch=all_wrong,
                                      stale=0, raced=0, unverified=0, lost=0))
    rules = dict.fromkeys(result.conclusion["rules"], 0)
    rules.update(dict.fromkeys(mutant.rules, all_wrong))
    equal("broken rules", result.conclusion["rules"], rules)
    kit.equal_counts(result.conclusion)
    kit.note(f"{all_wrong} wrong of {seen} pages, all of them named")


def device_disagrees(mutant):
    result, (_, account) = checked(mutant.name)
    kit.current.commands.append(result.done)
    wrong = {p.iova for p in pages_of_account(account) if mutant.wrong(p)}
    witness = kit.of_type(account, "dma-total")
    equal("totals of the device", len(witness), 1)
    equal("transfers that failed", witness[0]["failed"], 0)
    saw = [kit.number(r["iova"]) for r in kit.of_type(account, "dma") if not r["agree"]]
    holds("pages that are wrong", wrong, wrong)
    kit.same_set("pages on which the device disagrees", saw, wrong)
    kit.same_set("pages named where the device disagrees", kit.each_page(named(result, account)),
                 saw)
    kit.note(f"the device disagrees on {len(set(saw))} pages: those")


for _mutant in MUTANTS.values():
    case(f"{_mutant.name}-named")(functools.partial(names_exactly_the_wrong, _mutant))
    case(f"{_mutant.name}-device")(functools.partial(device_disagrees, _mutant))


@case("skip-unmap")
def skip_unmap():
    """Pages that stay in the IOMMU after their vfio_dma went."""
    kit.load_pfnscatter(SCATTERED_PAGES, "reverse")
    result = kit.check(client(["--layout", "scattered,pfnmap", "--pages", 41, "--dma-gone"]))
    kit.total(result.account)
    pages = pages_of_account(result.account)
    stay = {p.iova for p in pages if (p.iova >> 12) % 7 == 3}
    saw = {kit.number(r["iova"]) for r in kit.of_type(result.account, "dma") if not r["agree"]}
    kit.same_set("pages that the device still reads", saw, stay)
    seen = kit.total(result.account)["pages"]
    equal("pages", (result.pages["seen"], result.pages["match"]), (seen, seen))
    equal("unmapped pages", result.conclusion["unmaps"]["pages"], seen - len(stay))
    kit.equal_counts(result.conclusion)
    leaks = kit.of_type(result.records, "breach")
    equal("records", {r["type"] for r in result.records[:-1]}, {"breach"})
    equal("rules", {r["rule"] for r in leaks}, {"leak"})
    kit.same_set("pages named", kit.each_page(leaks), stay)
    equal("pages in records", len(kit.each_page(leaks)), len(stay))
    frames = {p.iova: p.pfn for p in pages}
    equal("frames that stay", {kit.number(r["iova"]): kit.number(r["iommu_walk"]["pfn"])
                               for r in leaks}, {iova: frames[iova] for iova in stay})
    equal("broken rules", {r: n for r, n in result.conclusion["rules"].items() if n},
          {"leak": len(stay)})
    equal("exit code", result.code, 1)
    kit.note(f"{len(stay)} of {seen} pages stay readable, all of them named")


@case("overlap")
def overlap():
    """What stayed is mapped over: AMD's driver before 6.19 does not mind."""
    result = kit.check(client(["--layout", "scattered", "--pages", 41, "--repeat", 2]))
    pages = {p.iova for p in pages_of_account(result.account)}
    stay = {iova for iova in pages if (iova >> 12) % 7 == 3}
    named = {rule: kit.each_page([r for r in kit.of_type(result.records, "breach")
                                  if r["rule"] == rule]) for rule in ("leak", "overlap")}
    kit.same_set("pages mapped over", named["overlap"], stay)
    equal("pages that stayed, in both cycles", sorted(named["leak"]), sorted([*stay, *stay]))
    equal("broken rules", {r: n for r, n in result.conclusion["rules"].items() if n},
          {"leak": 2 * len(stay), "overlap": len(stay)})
    equal("pages that match", result.pages["match"], kit.total(result.account)["pages"])
    equal("exit code", result.code, 1)


@case("map-fails")
def map_fails():
    """
    A mapping that fails half-way, for what skip-unmap left is in its way. The tracepoint of newer
    kernels tells of the first half; it is taken back, and the counts stay exact.
    """
    before = {}
    for layout in ("contig", "scattered"):      # of one call, mostly, and of one call for each page
        result = kit.check([DMACLIENT, "--layout", layout, "--pages", 31, "--iova", "0x10000000",
                            "--repeat", 2])
        equal("errors of the client", [r["errno"] for r in kit.of_type(result.account, "error")],
              [errno.EADDRINUSE])
        equal("lost pages", result.pages["lost"], 0)
        equal("calls that failed", result.conclusion["maps"]["failed"], 1)
        kit.equal_counts(result.conclusion)
        before[layout] = result.pages["seen"] - 31
    equal("scattered pages mapped in calls before the one that fails", before["scattered"], 1)
    kit.note(f"contiguous: {before['contig']} pages mapped in calls before the one that fails")


@case("only-mismatch")
def only_mismatch():
    """--only shows the wrong pages and nothing of the right ones; the counts stay whole."""
    wanted = {"mismatch": {"mismatch"}, "match": {"run"}, "match,mismatch": {"run", "mismatch"},
              "stale,raced,unverified": set()}
    traces = {only: kit.trace("--json", "--only", only) for only in wanted}
    try:
        done = kit.must(client(["--layout", "anon", "--pages", 331]))
        pages = pages_of_account(done.account)
        wrong = {p.iova for p in pages if MUTANTS["map-shifted"].wrong(p)}
        shown = {"mismatch": wrong, "run": {p.iova for p in pages} - wrong}
        for only, types in wanted.items():
            records, last, code = kit.interrupt(traces[only])
            equal("exit code", code, 1)
            equal("pages", (last["pages"]["seen"], last["pages"]["mismatch"]), (331, len(wrong)))
            equal(f"types with --only {only}", {r["type"] for r in records[:-1]}, types)
            kit.same_set(f"pages with --only {only}", kit.each_page(records[:-1]),
                         set().union(*(shown[t] for t in types)))
        text = kit.run(["sh", "-c", f"{PFNWATCH} check -- {' '.join(client(['--pages', 13]))}"])
        holds("mismatch lines of check for a person", "page table says pfn 0x" in text.err,
              text.err)
    finally:
        for program in traces.values():
            program.__exit__()
