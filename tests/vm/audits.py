# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""pfnwatch audit and ls: what was mapped before anybody watched, to the last page."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import clients
import kit
import layouts
from kit import DMACLIENT, PFNWATCH, STORM, case, equal, holds

QEMU_MIB = 4096


# --- audits and their records --------------------------------------------------------------------

class Audited:
    """An audit --json that has ended: its rounds, and what it found."""

    def __init__(self, done):
        self.done, self.code = done, done.code
        self.records = kit.json_lines("audit --json", done.out)
        equal("records without a version", [r for r in self.records if r.get("v") != 1], [])
        self.rounds = kit.of_type(self.records, "audit")
        self.findings = [r for r in self.records if r["type"] != "audit"]
        holds("rounds", self.rounds, self.records)
        equal("the last record", self.records[-1]["type"], "audit")
        for number, each in enumerate(self.rounds, 1):
            pages = each["pages"]
            equal("number of the round", each["round"], number)
            equal("the sum of all verdicts", sum(n for k, n in pages.items() if k != "seen"),
                  pages["seen"])
        equal("where findings were made", {f["at"] for f in self.findings} - {"audit"}, set())
        self.last = self.rounds[-1]
        self.pages = self.last["pages"]

    def proven(self, pages):
        equal("findings", self.findings, [])
        equal("pages", self.pages, dict(seen=pages, match=pages, mismatch=0, stale=0, raced=0,
                                        unverified=0, lost=0))
        equal("conclusion", self.last["conclusion"], "proven")
        equal("rules", set(self.last["rules"].values()), {0})
        equal("exit codes", (self.code, self.last["exit_code"]), (0, 0))


def audit(*options):
    done = kit.run([PFNWATCH, "audit", "--json", *options])
    holds("standard error", not done.err or done.code, done.err)
    return Audited(done)


def held(*options):
    """A client with everything mapped, and changed, that nobody has watched so far."""
    client = kit.Background([DMACLIENT, *options, "--audit-hold"], stdin=subprocess.PIPE)
    try:
        # its account is complete up to here
        kit.wait_until("the client is ready", lambda: client.process.poll() is not None or any(
            b'"type":"ready"' in line for _, line in list(client.lines)))
        equal("exit code of a client that should wait", client.process.poll(), None)
    except kit.Failure:
        client.__exit__()
        raise
    return client


def told(program):
    """What a client that still runs has told of itself."""
    return kit.json_lines("the account", b"".join(t for _, t in list(program.lines)).decode())


def ended(program):
    program.process.terminate()
    done = program.end()
    equal("exit code of the client", done.code, 0)
    return kit.total(done.account)


# --- ls ------------------------------------------------------------------------------------------

def listing(pid, maps, pages):
    """ls in both forms; @maps of the account, or None."""
    done = kit.must([PFNWATCH, "ls", "--json", "--ranges", "--pid", pid])
    records = kit.json_lines("ls --json", done.out)
    equal("records without a version", [r for r in records if r.get("v") != 1], [])
    equal("the last record", records[-1]["type"], "ls")
    (box,), domains = kit.of_type(records, "container"), kit.of_type(records, "domain")
    ranges, last = kit.of_type(records, "range"), records[-1]
    equal("other records", len(records), 2 + len(domains) + len(ranges))
    equal("pages", (box["pages"], last["pages"], sum(r["pages"] for r in ranges)), (pages,) * 3)
    equal("ranges", (box["ranges"], last["ranges"]), (len(ranges),) * 2)
    equal("holders", [h["pid"] for h in box["holders"]], [pid])
    equal("owners", {r["owner"]["pid"] for r in ranges}, {pid})
    equal("domains", (box["domains"], last["domains"]), (len(domains), len(domains)))
    for domain in domains:
        equal("pages that a domain translates", domain["pages"], pages)
        equal("pages by page size", sum(domain["leaf_pages"].values()), pages)
        lengths = domain["run_lengths"]
        equal("runs by length", sum(b["runs"] for b in lengths), domain["runs"])
        holds("largest run", lengths[-1]["from"] <= domain["largest_run"] <= lengths[-1]["to"],
              domain)
    equal("translated pages", (last["translated_pages"],
                               sum(r["translated_pages"] for r in ranges)),
          (pages * len(domains),) * 2)
    equal("runs", (last["runs"], sum(r["runs"] for r in ranges)),
          (sum(d["runs"] for d in domains),) * 2)
    if maps is not None:
        kit.same_set("ranges", [(kit.number(r["iova"]), kit.number(r["va"]), r["pages"])
                                for r in ranges],
                     [(kit.number(m["iova"]), kit.number(m["va"]), m["pages"]) for m in maps])
    text = kit.must([PFNWATCH, "ls", "--pid", pid]).out
    summary = text.splitlines()[-1]
    found = re.fullmatch(r"1 container, (\d+) domains?, (\d+) ranges?, (\d+) pages? \(.*\); "
                         r"translated: (\d+) pages? in (\d+) runs?", summary)
    holds("the last line of ls", found, summary)
    equal("numbers in the text", [int(n) for n in found.groups()],
          [len(domains), len(ranges), pages, last["translated_pages"], last["runs"]])
    holds("lines of ls without --ranges", len(text.splitlines()) < 30, len(text.splitlines()))
    equal("ranges shown without --ranges", len(re.findall(r"^    iova 0x", text, re.M)),
          min(8, len(ranges)))
    if len(ranges) > 8:
        holds("how many more", f"and {len(ranges) - 8} more; --ranges" in text, text)
    return domains


# --- everything right ----------------------------------------------------------------------------

def rounds_of(watching):
    """Complete rounds of an audit --watch so far: lists of records, the last one the round's."""
    found, now = [], []
    lines = [line for _, line in list(watching.lines)]
    for record in kit.json_lines("audit --json", b"".join(lines).decode()):
        now.append(record)
        if record["type"] == "audit":
            found.append(now)
            now = []
    return found


def ends_of_rounds(watching):
    return [line for _, line in list(watching.lines) if b'"type":"audit"' in line]


def whole_round(watching, number):
    kit.wait_until(f"round {number} of the audit", lambda: len(ends_of_rounds(watching)) > number)
    return rounds_of(watching)[number]


def next_round(watching):
    """One that begins from now on: another may be under way."""
    return whole_round(watching, len(ends_of_rounds(watching)) + 1)


@kit.once
def audited():
    """Loading takes longer than a look at a layout: one audit of them all, one after the other."""
    ready, found = kit.fresh("ready"), {}
    with kit.start_ready([PFNWATCH, "audit", "--json", "--watch", 0.2, "--ready-file", ready],
                         ready) as watching:
        for layout in layouts.LAYOUTS:
            with held("--layout", layout.name, "--pages", layout.pages, "--maps", layout.maps,
                      *layouts.options(layout)) as client:
                found[layout.name] = next_round(watching), told(client), ended(client)
        watching.process.send_signal(signal.SIGINT)
        return found, Audited(watching.end())


def one_layout(layout):
    found, done = audited()
    kit.current.commands.append(done.done)
    (*findings, last), account, total = found[layout.name]
    equal("findings", findings, [])
    equal("pages", last["pages"], dict(seen=layout.all_pages, match=layout.all_pages, mismatch=0,
                                       stale=0, raced=0, unverified=0, lost=0))
    equal("conclusion", (last["conclusion"], last["exit_code"]), ("proven", 0))
    equal("rules", set(last["rules"].values()), {0})
    equal("mappings", (len(kit.of_type(account, "map")), last["dmas"]), (layout.maps,) * 2)
    equal("pages of the account", total["pages"], layout.all_pages)
    kit.note(f"{layout.all_pages} pages")


for _layout in layouts.LAYOUTS:
    case(f"audit-layout-{_layout.name}")(functools.partial(one_layout, _layout))


@case("audit-layouts-conclusion")
def layouts_conclusion():
    """While clients came and went nobody was accused either."""
    found, done = audited()
    accuses_nobody(done)
    kit.note(f"{len(done.rounds)} rounds, {len(found)} layouts")


@case("ls-layouts")
def ls_layouts():
    """Text and JSON have the totals, and each range, of the client's account."""
    kit.load_pfnscatter(1024, "random")
    with held("--layout", "anon,scattered,thp,huge2m,shmem,ro,pfnmap", "--pages", 509,
              "--maps", 2) as client:
        maps = kit.of_type(told(client), "map")
        pages = sum(m["pages"] for m in maps)
        domain, = listing(client.pid, maps, pages)
        equal("pages of the account", ended(client)["pages"], pages)
    holds("scattered pages and those of pfnmap are runs of their own",
          domain["runs"] > 4 * 509 * 0.99, domain)
    kit.note(f"{pages} pages in {domain['runs']} runs, {domain['format']}, "
             f"{domain['leaf_pages']}")


@case("ls-ledger")
def ls_ledger():
    """What is mapped stays mapped to the end: the ledger kept by records is the kernel's tables."""
    kit.load_pfnscatter(1024, "random")
    tracing = kit.trace("--json", "--only", "mismatch", mode="whole")
    try:
        with held("--layout", "anon,contig,scattered,thp,huge2m,shmem,file,ro,pfnmap", "--pages",
                  509, "--maps", 3, "--threads", 3) as client:
            pages = sum(m["pages"] for m in kit.of_type(told(client), "map"))
            _, last, code = kit.interrupt(tracing)
            equal("pages of the account", ended(client)["pages"], pages)
    finally:
        tracing.__exit__()
    ledger = last["ledger"]
    equal("pages in the ledger, and compared with the kernel",
          (ledger["pages"], ledger["compared_pages"]), (pages, pages))
    equal("pages in which they differ", ledger["differ_pages"], 0)
    equal("exit code", code, 0)
    kit.note(f"{pages} pages in {ledger['runs']} runs, read anew {ledger['read_anew']} times")


@case("audit-qemu")
def audit_qemu():
    """A guest that runs already; its pages by QEMU's own trace events. One of its DIMMs is memory
    that a driver takes back: exactly that is found then."""
    dimm = 1024
    kit.load_pfnscatter(dimm, "random")
    log = kit.fresh("qemu.log")
    argv = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-display", "none", "-nodefaults",
            "-monitor", "stdio", "-m", f"{QEMU_MIB},slots=1,maxmem={2 * QEMU_MIB}M", "-object",
            f"memory-backend-file,id=m0,mem-path=/dev/pfnscatter,size={dimm * 4}K,share=on",
            "-device", "pc-dimm,memdev=m0", "-S", "-device", f"vfio-pci,host={os.environ['LAB_EDU_BDF']}", "-trace", "vfio_listener*", "-D", log]
    with kit.Background(argv, stdin=subprocess.PIPE) as qemu:
        qemu.process.stdin.write(b"info status\n")
        qemu.process.stdin.flush()
        kit.wait_until("the guest is there", lambda: qemu.process.poll() is not None or any(
            b"VM status" in line for _, line in list(qemu.lines)))
        text = pathlib.Path(log).read_text()
        pages = clients.listener_pages(text, "vfio_listener_region_add_ram")
        pages -= clients.listener_pages(text, "vfio_listener_region_del")
        holds("pages that QEMU has mapped, by its trace", pages >= QEMU_MIB * 256, pages)
        done = audit("--device", os.environ["LAB_EDU_BDF"])
        cow = sum(f["pages"] for f in done.findings)
        equal("pages", done.pages, dict(seen=pages, match=pages - cow, mismatch=0, stale=cow,
                                        raced=0, unverified=0, lost=0))
        # The BIOS is mapped for reading, and loaded afterwards. Before 6.2 such a pin takes what
        # is there and leaves it to the next write to copy it: the device reads the old page.
        equal("findings", {(f["type"], f.get("case"), f["dma"]["prot"]) for f in done.findings},
              {("stale", "cow", "r")} if kit.KERNEL == "6.1" else set())
        equal("conclusion", (done.last["conclusion"], done.code), ("proven", 0))
        listing(qemu.pid, None, pages)
        pathlib.Path("/sys/class/misc/pfnscatter/drop").write_text("1\n")
        dropped = audit("--device", os.environ["LAB_EDU_BDF"])
        equal("conclusion when the driver took its pages back",
              (dropped.last["conclusion"], dropped.code), ("broken", 1))
        zapped = [f for f in dropped.findings if f.get("case") == "pfnmap-zapped"]
        ranges = re.findall(r"region_add_ram region_add \[ram\] 0x([0-9a-f]+) - 0x([0-9a-f]+)", text)
        equal("what is stale: the DIMM, by QEMU's own trace",
              [(int(f["iova"], 16), f["pages"]) for f in zapped],
              [(int(start, 16), dimm) for start, end in ranges
               if int(end, 16) - int(start, 16) + 1 == dimm * kit.PAGE])
        equal("what else", {f.get("case") for f in dropped.findings} - {"pfnmap-zapped", "cow"},
              set())
        qemu.process.stdin.write(b"quit\n")
        qemu.process.stdin.flush()
        equal("exit code of QEMU", qemu.end().code, 0)
    kit.note(f"{pages} pages, {cow} of them copied since, in {done.last['duration_ns'] / 1e9:.2f} s")


@case("audit-many")
def audit_many():
    """10,000 mappings of a page each."""
    with held("--layout", "anon", "--pages", 1, "--maps", 10000, "--brief") as client:
        done = audit("--pid", client.pid)
        done.proven(10000)
        equal("vfio_dmas", done.last["dmas"], 10000)
        listing(client.pid, None, 10000)
        equal("pages of the account", ended(client)["pages"], 10000)


@case("audit-rounds")
def audit_rounds():
    """--watch: as many rounds as asked for; Ctrl-C ends with a conclusion."""
    with held("--layout", "anon,thp", "--pages", 1024) as client:
        done = audit("--watch", 0.1, "--rounds", 3)
        done.proven(2048)
        equal("rounds", len(done.rounds), 3)
        equal("pages of the rounds", [r["pages"]["match"] for r in done.rounds], [2048] * 3)
        ready = kit.fresh("ready")
        with kit.start_ready([PFNWATCH, "audit", "--watch", 60, "--json", "--ready-file", ready],
                             ready) as watching:
            watching.process.send_signal(signal.SIGINT)
            interrupted = Audited(watching.end(10))
        equal("exit code after Ctrl-C", interrupted.code, 0)
        equal("conclusion", interrupted.last["conclusion"], "proven")
        equal("pages", interrupted.pages["match"], 2048)
        ended(client)
    kit.nothing_left()


# --- nothing there, and wrong use ----------------------------------------------------------------

@case("audit-empty")
def audit_empty():
    for verb in ("audit", "ls"):
        done = kit.must([PFNWATCH, verb])
        holds(f"{verb} of an empty host", "no VFIO container on this host" in done.out, done.out)
        equal("standard error", done.err, "")
        last, = kit.json_lines(verb, kit.must([PFNWATCH, verb, "--json"]).out)
        equal("containers", (last["type"], last["containers"], last["exit_code"]), (verb, 0, 0))
    kit.nothing_left()


@case("audit-input")
def audit_input():
    group = os.environ["LAB_EDU_GROUP"]
    for verb in ("audit", "ls"):
        kit.one_line(kit.run([PFNWATCH, verb, "--pid", os.getpid()]), 2, "no VFIO container",
                     "pfnwatch ls")
        kit.one_line(kit.run([PFNWATCH, verb, "--pid", 4194303]), 2, "no such process")
        kit.one_line(kit.run([PFNWATCH, verb, "--group", group]), 2, "no VFIO container",
                     f"group {group}", "pfnwatch ls")
        kit.one_line(kit.run([PFNWATCH, verb, "--group", 9999]), 2, "no such IOMMU group")
        kit.one_line(kit.run([PFNWATCH, verb, "--device", "0000:00:1f.9"]), 2, "lspci")
        kit.one_line(kit.run([PFNWATCH, verb, "--pid", "x"]), 2, "process id")
        kit.one_line(kit.run([PFNWATCH, verb, "more"]), 2, "unexpected argument", "--help")
        failed = kit.run([PFNWATCH, verb, "--json", "--pid", os.getpid()])
        kit.one_line(failed, 2)
        record, = kit.json_lines(verb, failed.out)
        equal("the error as a record", (record["type"], record["exit_code"]), ("error", 2))
        for options in ([], ["--json"]):
            with open("/dev/full", "wb") as full:
                kit.one_line(kit.run([PFNWATCH, verb, *options], stdout=full), 3, "writing")
    kit.one_line(kit.run([PFNWATCH, "audit", "--all", "--pid", 1]), 2, "--all")
    kit.one_line(kit.run([PFNWATCH, "audit", "--rounds", 3]), 2, "--watch")
    kit.one_line(kit.run([PFNWATCH, "audit", "--watch", 0]), 2, "--watch")
    kit.one_line(kit.run([PFNWATCH, "audit", "--break-on", "all"]), 2, "bug, error, known")
    kit.nothing_left()


# --- things that move ----------------------------------------------------------------------------

def accuses_nobody(done, severities=("bug", "error", "known")):
    """In no round."""
    equal("mismatches", [f for f in done.findings if f["type"] == "mismatch"], [])
    equal("stale pages", [f for f in done.findings if f["type"] == "stale" and
                          f["severity"] in severities], [])
    for each in done.rounds:
        equal("mismatches in the count", each["pages"]["mismatch"], 0)
        equal("rules", set(each["rules"].values()), {0})
    holds("exit code: 0 or 3", done.code in (0, 3), done.code)


@case("audit-killed-owner")
def audit_killed_owner():
    """
    Owners that are killed in the middle of an audit. For a while such a one has no memory any more,
    and its files are still open: nobody else holds the container, so nothing is stale. They are
    killed while a round looks twice at what another owner has made stale: then it comes to them.
    """
    bdf, group = kit.ivshmem()
    ready = kit.fresh("ready")
    argv = [PFNWATCH, "audit", "--json", "--watch", 0.001, "--ready-file", ready]
    leaving = kills = 0
    with held("--layout", "anon", "--pages", 8, "--maps", 12, "--stale", "dontneed") as other, \
            kit.start_ready(argv, ready) as watching:
        while kills < 3 or (not leaving and kills < 40):
            with held("--layout", "anon,thp,scattered", "--pages", 1024, "--brief", "--ballast",
                      1 << 18, "--bdf", bdf, "--group", group) as client:
                before = len(ends_of_rounds(watching))
                kit.wait_until("some rounds", lambda: len(ends_of_rounds(watching)) > before + 2)
                before = len(ends_of_rounds(watching))
                time.sleep(0.05)    # (the next one has found them both, and looks at the other)
                client.process.kill()
                client.end()
                # (in the round that goes on, too)
                kit.wait_until("a round", lambda: len(ends_of_rounds(watching)) > before)
                leaving += sum(json.loads(line)["pages"]["raced"] > 0
                               for line in ends_of_rounds(watching)[before:])
                kills += 1
        watching.process.send_signal(signal.SIGINT)
        done = Audited(watching.end())
    accused = [f for f in done.findings if f["type"] != "raced"]
    equal("who is accused", {f["process"]["pid"] for f in accused}, {other.pid})
    equal("of what", {(f["type"], f["case"]) for f in accused}, {("stale", "dropped")})
    equal("mismatches", sum(r["pages"]["mismatch"] for r in done.rounds), 0)
    equal("exit code", done.code, 1)
    holds("owners that were leaving", leaving, done.rounds[-1])
    kit.note(f"{kills} killed, {leaving} of them seen leaving; {len(done.rounds)} rounds, "
             f"{sum(r['containers_gone'] for r in done.rounds)} containers and "
             f"{sum(r['dmas_changed'] for r in done.rounds)} vfio_dmas went while they were "
             "looked at")


STORM_ROUNDS = 10


def storm_beside(*options):
    """Rounds of an audit while a storm goes on. (It is there first: loading takes its time.)"""
    ready = kit.fresh("ready")

    def rounds():
        return [line for line in ends_of_rounds(watching) if json.loads(line)["pages"]["seen"]]
    with kit.start_ready([PFNWATCH, "audit", "--json", "--watch", 1, "--ready-file", ready],
                         ready) as watching:
        with kit.Background([STORM, "--seconds", 600, *options]) as storm:
            kit.wait_until("rounds in which pages were seen",
                           lambda: len(rounds()) >= STORM_ROUNDS, 300)
            storm.process.terminate()
            equal("exit code of the storm", storm.end().code, 0)
        watching.process.send_signal(signal.SIGINT)
        return Audited(watching.end())


@case("audit-storm")
def audit_storm():
    """Mapping and unmapping all the time; what is mapped is left alone: nothing is stale."""
    done = storm_beside("--calm")
    accuses_nobody(done)
    holds("pages that were looked at", sum(r["pages"]["match"] for r in done.rounds), done.rounds)
    kit.note(f"{[r['pages']['match'] for r in done.rounds]} pages match, "
             f"{[r['pages']['raced'] for r in done.rounds]} raced")


@case("audit-rights-in-turn")
def audit_rights_in_turn():
    """The same range again and again, now with one right, now with two: another mapping each time."""
    ready = kit.fresh("ready")
    argv = [PFNWATCH, "audit", "--json", "--watch", 0.0001, "--ready-file", ready]
    with kit.start_ready(argv, ready) as watching:
        with kit.Background([DMACLIENT, "--layout", "anon", "--pages", 16, "--brief",
                             "--repeat", 100000000, "--flags-in-turn"]) as client:
            kit.wait_until("many rounds", lambda: len(watching.lines) > 1000, 600)
            client.process.send_signal(signal.SIGTERM)
            client.end()
        watching.process.send_signal(signal.SIGINT)
        done = Audited(watching.end())
    accuses_nobody(done)
    holds("pages that were looked at", sum(r["pages"]["match"] for r in done.rounds) > 1000,
          done.rounds[-1])
    kit.note(f"{len(done.rounds)} rounds, {sum(r['pages']['match'] for r in done.rounds)} pages "
             f"match, {sum(r['dmas_changed'] for r in done.rounds)} vfio_dmas went meanwhile")


@case("audit-while-mapping")
def audit_while_mapping():
    """A mapping that is not yet whole is neither proven nor somebody's emulated device."""
    ready = kit.fresh("ready")
    argv = [PFNWATCH, "audit", "--json", "--watch", 0.01, "--ready-file", ready]
    with kit.start_ready(argv, ready) as watching:
        done = kit.run([DMACLIENT, "--layout", "scattered", "--pages", 65536, "--brief",
                        "--repeat", 8], patience=600)
        watching.process.send_signal(signal.SIGINT)
        audited = Audited(watching.end())
    equal("exit code of the client", done.code, 0)
    accuses_nobody(audited)
    holds("rounds that saw it", any(r["pages"]["seen"] for r in audited.rounds), audited.rounds)
    equal("pages taken for emulated", sum(r["emulated_pages"] for r in audited.rounds), 0)
    kit.note(f"{len(audited.rounds)} rounds, {sum(r['pages']['match'] for r in audited.rounds)} "
             f"pages match, {sum(r['pages']['raced'] for r in audited.rounds)} raced")


@case("audit-storm-wild")
def audit_storm_wild():
    """What is mapped changes too, so there are stale pages; but the IOMMU is never blamed."""
    done = storm_beside()
    equal("mismatches", [f for f in done.findings if f["type"] == "mismatch"], [])
    # nobody exits here, and there are no frames of a driver
    impossible = {"owner-gone", "pfnmap-zapped", "pfnmap-changed"}
    equal("cases that cannot be", {f.get("case") for f in done.findings} & impossible, set())
    stale = any(r["pages"]["stale"] > r["tolerated"] for r in done.rounds)
    holds("exit code", done.code == 1 if stale else done.code in (0, 3), done.code)
    holds("pages that were looked at", sum(r["pages"]["seen"] for r in done.rounds), done.rounds)
    kit.note(f"{[r['pages']['match'] for r in done.rounds]} pages match, "
             f"{[r['pages']['stale'] for r in done.rounds]} stale, "
             f"{[r['pages']['raced'] for r in done.rounds]} raced")


# --- what went stale -----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Stale:
    layout: str
    how: str                # dmaclient --stale
    case: str               # that the audit names
    severity: str
    options: tuple = ()

    @property
    def name(self):
        return "-".join((self.layout, self.how, *(o.strip("-") for o in self.options
                                                  if o == "--retouch")))


STRIDE = ("--stale-stride", 3)
STALE = (
    Stale("anon", "dontneed", "dropped", "error", STRIDE),
    Stale("anon", "dontneed", "replaced", "error", ("--retouch", *STRIDE)),
    Stale("anon", "munmap", "unmapped", "error", STRIDE),
    Stale("anon", "mremap", "unmapped", "error"),   # where it went is seen only while it goes
    Stale("shmem", "punch", "punched", "error", STRIDE),
    Stale("pfnmap", "pfnmap-drop", "pfnmap-zapped", "bug"),
    Stale("pfnmap", "pfnmap-shuffle", "pfnmap-changed", "bug", ("--retouch",)),
)


def one_stale(row):
    """Exactly the pages that the client says, each with its case and severity."""
    pages, maps = 331, 3
    if row.layout == "pfnmap":
        kit.load_pfnscatter(1024, "random")
    with held("--layout", row.layout, "--pages", pages, "--maps", maps, "--stale", row.how,
              *row.options) as client:
        truth = kit.each_page(kit.of_type(told(client), "stale"))
        holds("stale pages in the account", truth, told(client))
        all_pages = sum(m["pages"] for m in kit.of_type(told(client), "map"))
        others = ",".join(sorted({"bug", "error", "known"} - {row.severity}))
        ways = [([], 1, "broken"), (["--break-on", "none"], 0, "proven")]
        if row.case in ("unmapped", "pfnmap-zapped"):
            ways += [(["--break-on", row.severity], 1, "broken"),
                     (["--break-on", others], 0, "proven")]
        for options, code, conclusion in ways:
            done = audit("--pid", client.pid, *options)
            stale = kit.of_type(done.findings, "stale")
            kit.same_set("stale pages", kit.each_page(stale), truth)
            equal("pages told twice", len(kit.each_page(stale)), len(truth))
            equal("other findings", len(done.findings), len(stale))
            equal("cases", {(f["case"], f["severity"]) for f in stale},
                  {(row.case, row.severity)})
            equal("pages", done.pages, dict(seen=all_pages, match=all_pages - len(truth),
                                            mismatch=0, stale=len(truth), raced=0, unverified=0,
                                            lost=0))
            equal("by case", done.last["stale_by"], {row.case: len(truth)})
            equal("tolerated", done.last["tolerated"], 0 if code else len(truth))
            equal("conclusion", (done.last["conclusion"], done.code), (conclusion, code))
        if row.case == "unmapped":
            text = kit.run([PFNWATCH, "audit", "--pid", client.pid])
            holds("the case in the text", f"{row.case} {len(truth)} ({row.severity})" in text.out,
                  text.out)
        ended(client)
    kit.note(f"{len(truth)} of {all_pages} pages {row.case}")


for _row in STALE:
    case(f"audit-stale-{_row.name}")(functools.partial(one_stale, _row))


@case("audit-narrowed")
def audit_narrowed():
    """The right to write taken away: known, said, and no reason to break."""
    with held("--layout", "anon", "--pages", 331, "--stale", "protect") as client:
        done = audit("--pid", client.pid)
        equal("findings", {(f["type"], f["case"]) for f in done.findings},
              {("narrowed", "narrowed")})
        equal("narrowed pages", sum(f["pages"] for f in done.findings), 331)
        equal("conclusion", (done.last["conclusion"], done.code), ("proven", 0))
        equal("matching pages", done.pages["match"], 331)
        ended(client)


# --- cost ----------------------------------------------------------------------------------------

NS_PER_INSN = 2         # --icount
ENTRY = 8               # bytes in pagemap


def pagemap_ns(pid, maps):
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        best = None
        for _ in range(3):
            start = time.monotonic_ns()
            for m in maps:
                at, end = (kit.number(m["va"]) // kit.PAGE * ENTRY + i * ENTRY
                           for i in (0, m["pages"]))
                while at < end:
                    at += os.preadv(file.fileno(), [memoryview(buffer)[:end - at]], at)
            took = time.monotonic_ns() - start
            best = min(took, best or took)
    return best


def cost(layout):
    """Instructions per page: what 256 MiB more cost, so that all that is constant is out."""
    ns = {}
    for pages in (65536, 131072):
        with held("--layout", layout, "--pages", pages) as client:
            done = audit("--pid", client.pid, "--watch", 0.01, "--rounds", 40)
            done.proven(pages)
            ns[pages] = (min(r["duration_ns"] for r in done.rounds),
                         pagemap_ns(client.pid, kit.of_type(told(client), "map")))
            ended(client)
    few, many = ns[65536], ns[131072]
    return [(b - a) / 65536 / NS_PER_INSN for a, b in zip(few, many)]


@case("audit-cost")
def audit_cost():
    """Both sides for less than what reading pagemap costs; huge pages for next to nothing."""
    audited, pagemap = cost("scattered")
    huge, huge_pagemap = cost("huge2m")
    kit.note(f"instructions per page, 4 KiB scattered: audit {audited:.1f}, pagemap "
             f"{pagemap:.1f}; 2 MiB: audit {huge:.3f}, pagemap {huge_pagemap:.1f}")
    holds("audit of 4 KiB pages, at most what pagemap costs", 0 < audited <= pagemap,
          (audited, pagemap))
    holds("audit of 2 MiB pages, at most 1 % of that", huge <= pagemap / 100, (huge, pagemap))
