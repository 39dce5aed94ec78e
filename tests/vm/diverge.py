# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""An IOMMU driver that lies: exactly the pages it lied about are named, by the right rule.

tests/modules/pfndiverge keeps a record of every lie: that is the ground truth. The client's account
must agree with it on what was asked for, and the device on what is really there. A lie is told in
every third call, so that next to each wrong page there are right ones.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import signal

import audits
import kit
import mutants
from kit import DMACLIENT, KERNEL, PAGE, PFNWATCH, case, equal, holds

IOMMU = os.environ.get("LAB_IOMMU", "")

MANY = ["--layout", "scattered,ro,thp", "--maps", 3, "--pages", 211, "--iova", "0x20000000",
        "--unmap", "lifo"]
FEW = ["--layout", "scattered,ro", "--pages", 19, "--iova", "0x10000000"]


@dataclasses.dataclass
class Checked:
    """Clients under a module that lied, and what was told of them."""
    records: list               # without the conclusion
    accounts: list
    lies: list
    result: kit.Checked = None  # of a check of these clients alone

    @property
    def lied(self):
        return kit.each_page(self.lies)

    @property
    def seen(self):
        return sum(kit.total(account)["pages"] for account in self.accounts)

    @property
    def breaches(self):
        return kit.of_type(self.records, "breach")

    def types(self):
        return {r["type"] for r in self.records}


def truth(lies, accounts):
    """What the module says it was asked for is what the clients' pages are."""
    pages = {p.iova: p for account in accounts for p in mutants.pages_of_account(account)}
    for lie in lies:
        for i, iova in enumerate(kit.each_page([lie])):
            holds(f"a page of the client at 0x{iova:x}", iova in pages, lie)
            equal(f"frame of the client at 0x{iova:x}", kit.number(lie["asked"]) // PAGE + i,
                  pages[iova].pfn)


def large_and_small(lies):
    sizes = sorted(lie["pages"] for lie in lies)
    holds("lies about large pages and small ones", sizes[0] == 1 and sizes[-1] >= 512, sizes)


def commands(clients):
    """A shell's line that runs them one after the other, and where their accounts are."""
    accounts = [kit.fresh("account") for _ in clients]
    return "; ".join(" ".join(map(str, [DMACLIENT, *client, "--list-pages", "--account", path]))
                     for client, path in zip(clients, accounts)), accounts


def lying(what, *clients, mode=None, **parameters):
    """One check over all the clients, whose IOVAs differ."""
    script, accounts = commands(clients)
    with kit.Liar(what, **parameters) as liar:
        result = kit.check(["sh", "-c", script], "--ring-size", "32M", mode=mode)
        lies = liar.lies()
    accounts = [kit.json_lines("the account", pathlib.Path(a).read_text()) for a in accounts]
    truth(lies, accounts)
    return Checked(result.records[:-1], accounts, lies, result)


# --- many lies, one trace: loading takes longer than to tell one -------------------------------

@dataclasses.dataclass(frozen=True)
class Lie:
    """What the module is told to do to which clients, and what that adds to the conclusion."""
    what: str
    clients: tuple
    parameters: dict
    adds: object        # of a Checked: the broken rules, each with its pages
    stays: object = lambda checked: 0   # pages that the driver does not say it unmapped

    def told(self, tracing):
        """What @tracing says of it: until it has named as many pages as were lied about."""
        seen, (script, accounts) = len(tracing.lines), commands(self.clients)

        def records():
            return [json.loads(line) for _, line in list(tracing.lines)[seen:]]
        with kit.Liar(self.what, **self.parameters) as liar:
            kit.run(["sh", "-c", script], patience=600)
            lies = liar.lies()
        try:
            kit.wait_until("what is told of the lies", lambda: len(kit.each_page(records())) >=
                           len(kit.each_page(lies)))
        except kit.Failure:
            kit.note("not told in time")    # what is missing, the judge will say
        accounts = [kit.json_lines("the account", pathlib.Path(a).read_text()) for a in accounts]
        truth(lies, accounts)
        return Checked(records(), accounts, lies)


LIES = {"steps": {}, "whole": {}}


@kit.once
def traced(mode):
    """Of each lie what was told; pages of who was not lied to; the conclusion of them all."""
    with kit.trace("--json", "--ring-size", "32M", "--only", "mismatch,stale,raced,unverified",
                   mode=mode) as tracing:
        first = kit.attached()
        told = {name: lie.told(tracing) for name, lie in LIES[mode].items()}
        return told, first, *kit.interrupt(tracing)


def told_of(name, mode="steps"):
    return traced(mode)[0][name]


def concluded(mode):
    """Every page, every broken rule, once."""
    told, first, records, last, code = traced(mode)
    lies = LIES[mode]
    rules = sum((collections.Counter(lies[name].adds(c)) for name, c in told.items()),
                collections.Counter())
    mismatch = sum(r["pages"] for c in told.values() for r in kit.of_type(c.records, "mismatch"))
    seen = first + sum(c.seen for c in told.values())
    equal("records outside of all lies", len(records) - 1,
          sum(len(c.records) for c in told.values()))
    equal("pages", last["pages"], dict(seen=seen, match=seen - mismatch, mismatch=mismatch,
                                       stale=0, raced=0, unverified=0, lost=0))
    equal("broken rules", {r: n for r, n in last["rules"].items() if n}, dict(rules))
    equal("breaches", last["iommu"]["breaches"], sum(len(c.breaches) for c in told.values()))
    equal("conclusion", (last["conclusion"], code), ("broken", 1))
    equal("lost", last["lost"], dict(records=0, programs_skipped=0, contexts_full=0))
    equal("unmapped pages", last["unmaps"]["pages"],
          seen - sum(lies[name].stays(c) for name, c in told.items()))
    if mode == "steps":
        equal("pages installed as asked", last["iommu"]["pages_installed"], seen - mismatch)
    kit.equal_counts(last)
    kit.note(f"{mismatch} of {seen} pages wrong, {len(told)} kinds of lies")


def broken_by(checked, **rules):
    """The exit code, and the pages that break each rule; names with _ for -."""
    last = checked.result.conclusion
    equal("broken rules", {r: n for r, n in last["rules"].items() if n},
          {name.replace("_", "-"): n for name, n in rules.items()})
    equal("conclusion", last["conclusion"], "broken")
    equal("exit code", checked.result.code, 1)
    equal("breaches", last["iommu"]["breaches"], len(checked.breaches))
    equal("lost", last["lost"], dict(records=0, programs_skipped=0, contexts_full=0))


def device_disagrees(account, pages):
    """The client's device noticed on exactly these."""
    witness = kit.of_type(account, "dma-total")
    equal("totals of the device", len(witness), 1)
    equal("transfers that failed", witness[0]["failed"], 0)
    kit.same_set("pages on which the device disagrees",
                 [kit.number(r["iova"]) for r in kit.of_type(account, "dma") if not r["agree"]],
                 pages)


def walked(record, lie):
    """The raw entries, and what they say, are what the module installed."""
    walk = record["iommu_walk"]
    holds("a walk of the IOMMU's table", walk, record)
    if not kit.number(lie["installed"]):
        equal("walk", (walk["status"], walk["pfn"]), ("not-present", None))
        return
    off = kit.number(record["iova"]) - kit.number(lie["iova"])
    equal("walk", (walk["status"], kit.number(walk["pfn"])),
          ("leaf", (kit.number(lie["installed"]) + off) // PAGE))


# --- what a map installs -----------------------------------------------------------------------

WITNESS = {"pa": ["--dma-verify"], "size": ["--dma-verify"], "prot": ["--dma-check", "both"]}


def installed(what):
    checked = told_of(what)
    lied, records = checked.lied, kit.of_type(checked.records, "mismatch")
    large_and_small(checked.lies)
    equal("records", checked.types(), {"mismatch"})
    kit.same_set("pages named", kit.each_page(records), lied)
    equal("pages in records", len(kit.each_page(records)), len(lied))
    about = {iova: lie for lie in checked.lies for iova in kit.each_page([lie])}
    for record in records:
        mutants.evidence(record)
        lie = about[kit.number(record["iova"])]
        equal("rules", record["rules"], ["iommu-differs"])
        equal("frame by the page table", record["table_pfn"], record["pfn"])
        equal("rights asked for", record["prot"], lie["asked_prot"])
        walked(record, lie)
        if what != "size":
            equal("rights installed", record["iommu_walk"]["rights"], lie["installed_prot"])
    device_disagrees(checked.accounts[1], [i for i in lied if i < 0x20000000])
    if what == "prot":
        equal("lies that give less, and more", {lie["installed_prot"] for lie in checked.lies},
              {"r", "rw"})
    kit.note(f"{len(lied)} of {checked.seen} pages, all of them named")


for _what in WITNESS:
    LIES["steps"][_what] = Lie(_what, (MANY, FEW + WITNESS[_what]), dict(nth=3),
                               lambda c: {"iommu-differs": len(c.lied)})
    case(f"diverge-{_what}")(functools.partial(installed, _what))


@case("diverge-off")
def honest():
    """The module between core and driver, and no lie."""
    checked = lying("off", MANY, FEW + ["--dma-check", "both", "--dma-gone"])
    equal("lies", checked.lies, [])
    kit.proven(checked.result.conclusion, checked.result.code, checked.seen, checked.seen)
    equal("pages installed as asked", checked.result.conclusion["iommu"]["pages_installed"],
          checked.seen)
    device_disagrees(checked.accounts[1], [])


# --- what an unmap takes -----------------------------------------------------------------------

LEAVE = Lie("leave", (MANY, FEW + ["--dma-gone"]), dict(nth=3), lambda c: {"leak": len(c.lied)})
LIES["steps"]["leave"] = LEAVE


def left(checked):
    """Entries that stay: the pages are somebody else's by then."""
    lied = checked.lied
    equal("records", checked.types(), {"breach"})
    equal("rules", {r["rule"] for r in checked.breaches}, {"leak"})
    kit.same_set("pages named", kit.each_page(checked.breaches), lied)
    equal("pages in records", len(kit.each_page(checked.breaches)), len(lied))
    for record in checked.breaches:
        walked(record, next(lie for lie in checked.lies if lie["iova"] == record["iova"]))
    device_disagrees(checked.accounts[1], [i for i in lied if i < 0x20000000])
    kit.note(f"{len(lied)} of {checked.seen} pages stay, all of them named")


@case("diverge-leave")
def leave():
    left(told_of("leave"))


TWO = ["--layout", "scattered", "--maps", 2, "--pages", 19, "--iova", "0x10000000"]


def takes(start, *options, **parameters):
    """The page at @start goes with the one before it."""
    return Lie("take", (TWO + list(options),), dict(lo=start - PAGE, hi=start + PAGE - 1,
                                                    **parameters),
               lambda c: {"iommu-differs": len(c.breaches)})


def one_page(checked, iova):
    kit.same_set("pages lied about", checked.lied, [iova])
    equal("records", [r["type"] for r in checked.records], ["breach"])
    record = checked.breaches[0]
    equal("breach", (record["rule"], kit.number(record["iova"]), record["pages"]),
          ("iommu-differs", iova, 1))
    walked(record, checked.lies[0])
    return record


NEXT = 0x10000000 + 19 * PAGE       # the first page of the second vfio_dma
LIES["steps"]["take"] = takes(NEXT)


@case("diverge-take")
def take():
    """The last page of one vfio_dma, and the first of the next goes with it."""
    record = one_page(told_of("take"), NEXT)
    equal("the vfio_dma that it is missing from", kit.number(record["dma"]["iova"]), NEXT)


INSIDE = 0x10000000 + 7 * PAGE
LIES["steps"]["take-inside"] = dataclasses.replace(takes(INSIDE, heal=0), stays=lambda c: 1)


@case("diverge-take-inside")
def take_inside():
    """
    The next page of the same vfio_dma: VFIO asks for it, is told 0, warns, and never unpins it.
    """
    record = one_page(told_of("take-inside"), INSIDE)
    equal("what iommu_iova_to_phys() said", record.get("iova_to_phys"), "0x0")


@case("diverge-conclusion")
def conclusion():
    """All that was told of all of these, and no more, is in the counts."""
    concluded("steps")


@case("diverge-leave-again")
def leave_again():
    """
    A read-only page was left writable, and is mapped once more. Intel's driver before 6.19 warns
    and keeps the old entry; AMD's overwrites it; from 6.19 on, and with virtio, the map fails.
    """
    page = 0x10000000 + 2 * PAGE
    checked = lying("leave", ["--layout", "ro", "--maps", 5, "--pages", 1, "--iova", "0x10000000",
                              "--repeat", 2], lo=page, hi=page + PAGE - 1, heal=0)
    errors = kit.of_type(checked.accounts[0], "error")
    leaks = [r for r in checked.breaches if r["rule"] == "leak"]
    kit.same_set("pages lied about", checked.lied, [page])
    kit.same_set("leaks", kit.each_page(leaks), [page])
    equal("leaks in all", len(kit.each_page(leaks)), len(checked.lied))
    kept = kit.of_type(checked.records, "mismatch")
    if KERNEL in ("6.1", "6.12") and IOMMU != "virtio":
        equal("errors of the client", errors, [])
        equal("lies", len(checked.lies), 2)
    else:
        equal("errors of the client", len(errors), 1)
        equal("calls that failed", checked.result.conclusion["maps"]["failed"], 1)
    if KERNEL in ("6.1", "6.12") and IOMMU == "intel":
        equal("pages of the entry that is kept", kit.each_page(kept), [page])
        equal("rights asked for and there", (kept[0]["prot"], kept[0]["iommu_walk"]["rights"]),
              ("r", "rw"))
        broken_by(checked, leak=len(checked.lied), iommu_differs=1)
    else:
        equal("mismatches", kept, [])
        broken_by(checked, leak=len(checked.lied))


# --- what is mapped already --------------------------------------------------------------------

def audited(what):
    """Mapped before pfnwatch came; then set right while both are there."""
    ready, first = kit.fresh("ready"), kit.fresh("ready")
    with kit.Liar(what, nth=3) as liar:
        client = kit.start_ready([DMACLIENT, *map(str, MANY), "--list-pages", "--hold", 600,
                                  "--ready-file", ready], ready)
        lies, own = liar.lies(), liar.get("pfn")
        with client, kit.start_ready([PFNWATCH, "audit", "--json", "--watch", 0.5, "--pid",
                                      client.pid, "--ready-file", first], first) as watching:
            wrong = audits.whole_round(watching, 0)
            liar.LIES.write_text("heal")
            right = audits.next_round(watching)
            watching.process.send_signal(signal.SIGINT)
            equal("exit code of the audit: that of its worst round", watching.end().code, 1)
            client.process.terminate()
            done = client.end()
    truth(lies, [done.account])
    found_by_audit(what, wrong, lies, own, kit.total(done.account)["pages"])
    equal("records when all is right again", [r["type"] for r in right], ["audit"])
    equal("conclusion when all is right again", right[0]["conclusion"], "proven")
    equal("pages when all is right again", right[0]["pages"]["match"],
          kit.total(done.account)["pages"])


def found_by_audit(what, records, lies, own, pages):
    lied, last = kit.each_page(lies), records[-1]
    found = records[:-1]
    large_and_small(lies)
    kit.same_set("pages named", kit.each_page(found), lied)
    equal("pages in records", len(kit.each_page(found)), len(lied))
    equal("conclusion", (last["conclusion"], last["exit_code"]), ("broken", 1))
    # An audit cannot know which of two frames is the old one: another frame is stale.
    verdict = "stale" if what == "pa" else "mismatch"
    equal("verdicts", {r["type"] for r in found}, {verdict})
    want = dict(seen=pages, match=pages - len(lied), mismatch=0, stale=0, raced=0, unverified=0,
                lost=0)
    want[verdict] = len(lied)
    equal("pages", last["pages"], want)
    for record in found:
        io = record["iommu"]
        if what == "pa":
            holds("frame of the module", own <= kit.number(io["pfn"]) < own + 512, record)
            continue
        equal("rules", record["rules"], ["iommu-differs"])
        if what == "size":
            equal("frame in the IOMMU", io["pfn"], None)
        else:
            holds("rights in the IOMMU", io["rights"] != record["dma"]["prot"], record)
    kit.note(f"{len(lied)} of {pages} pages, all of them named")


for _what in WITNESS:
    case(f"diverge-audit-{_what}")(functools.partial(audited, _what))
