# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What goes stale under a device: each case for real, seen live and by an audit."""

import collections
import functools
import json
import os
import subprocess
import time

import kit
from kit import DMACLIENT, PAGE, PFNWATCH, STORM, case, equal, holds, same_set

ALL = "bug,error,known"

# name: options of dmaclient, how pfnwatch must name it
CASES = {
    "dontneed": (["--layout", "anon", "--stale", "dontneed"], "dropped"),
    "dontneed-part": (["--layout", "anon", "--stale", "dontneed", "--stale-first", "13",
                       "--stale-pages", "31"], "dropped"),
    "dontneed-retouch": (["--layout", "anon", "--stale", "dontneed", "--retouch"], "replaced"),
    "thp-dontneed": (["--layout", "thp", "--stale", "dontneed"], "dropped"),
    "munmap": (["--layout", "anon", "--stale", "munmap"], "unmapped"),
    "mremap": (["--layout", "anon", "--stale", "mremap"], "moved"),
    "punch": (["--layout", "shmem", "--stale", "punch"], "punched"),
    "punch-file-retouch": (["--layout", "file", "--stale", "punch", "--retouch"], "punched"),
    "cow": (["--layout", "file-cow", "--flags", "r", "--stale", "cow"], "cow"),
    "zero-split": (["--layout", "zero", "--stale", "split", "--stale-first", "300",
                    "--stale-pages", "1"], "cow"),
    "protect": (["--layout", "anon", "--stale", "protect"], None),
    "pfnmap-drop": (["--layout", "pfnmap", "--stale", "pfnmap-drop"], "pfnmap-zapped"),
    "pfnmap-shuffle": (["--layout", "pfnmap", "--stale", "pfnmap-shuffle", "--retouch"],
                       "pfnmap-changed"),
    "bar-decode-off": (["--layout", "bar", "--stale", "bar-decode-off"], "pfnmap-zapped"),
    "owner-exit": (["--layout", "anon", "--stale", "owner-exit"], "owner-gone"),
}
# What an audit that did not see the change cannot tell apart.
BY_AUDIT = {"moved": "unmapped"}
NO_DMA = ("bar-decode-off", "zero-split")     # (a device that reads zeros tells nothing)
SEVERITY = {"dropped": "error", "replaced": "error", "unmapped": "error", "moved": "error",
            "punched": "error", "cow": "known", "pfnmap-zapped": "bug", "pfnmap-changed": "bug",
            "owner-gone": "known"}


def pages_of(record, pages=None):
    first = int(record["iova"], 16)
    return range(first, first + (record["pages"] if pages is None else pages) * PAGE, PAGE)


def truth_of(account):
    """IOVAs that the client itself made stale; protect leaves the frames where they are."""
    return [p for r in account if r["type"] == "stale" and r["stale"] != "protect"
            for p in pages_of(r)]


def narrowed_of(account):
    return [p for r in account if r["type"] == "stale" and r["stale"] == "protect"
            for p in pages_of(r, r["rights_pages"])]


def judge(records, account, how):
    """Exactly the pages that went stale, each once, by the right name."""
    stale = [r for r in records if r["type"] == "stale"]
    told = [p for r in stale for p in pages_of(r)]
    same_set("stale pages", told, truth_of(account))
    equal("pages told twice", len(told) - len(set(told)), 0)
    same_set("names", {r["case"] for r in stale}, {how} if truth_of(account) else set())
    for r in stale:
        equal("severity", r["severity"], SEVERITY[r["case"]])
    same_set("narrowed pages", [p for r in records if r["type"] == "narrowed"
                                for p in pages_of(r)], narrowed_of(account))
    equal("anything else accused", [r for r in records if r["type"] in ("mismatch", "breach")], [])


def all_told(records, account):
    """Of as many pages as the client has changed, or, where nothing can be told, for a second."""
    told = sum(r["pages"] for r in records if r["type"] in ("stale", "narrowed"))
    want = len(truth_of(account)) + len(narrowed_of(account))
    if told >= want:
        time.sleep(0 if want else 1)
    return told >= want


def prepared(name):
    argv, how = CASES[name]
    if "pfnmap" in argv:
        kit.load_pfnscatter(1024, "reverse")
    return [*argv, "--pages", "101"], how


DMA = ["--dma-stale", "--dma-stride", "11"]     # (the engine is slow)


def gone_stale(tracing, name, *options):
    """A client of this case under a trace: what the trace told meanwhile, and the client."""
    argv, _ = prepared(name)
    seen, ready = len(tracing.lines), kit.fresh("ready")

    def records():
        return [json.loads(line) for _, line in list(tracing.lines)[seen:]]

    def enough():
        return os.path.exists(ready) and all_told(
            records(), [json.loads(line) for _, line in list(client.lines)])
    with kit.Background([DMACLIENT, *argv, *options, "--ready-file", ready,
                         "--hold", "600"]) as client:
        try:
            kit.wait_until(f"what is told of {name}", enough)
        except kit.Failure:
            kit.note("not told in time")    # what is missing, the judge will say
        client.process.terminate()
        return records(), client.end()


@kit.once
def traced():
    """Loading takes longer than a client's life: one trace of them all."""
    with kit.trace("--json", "--break-on", ALL) as tracing:
        kit.attached()
        clients = {name: gone_stale(tracing, name, *([] if name in NO_DMA else DMA))
                   for name in CASES}
        return clients, *kit.interrupt(tracing)


def judge_client(name, records, account):
    _, how = CASES[name]
    judge(records, account, how)
    holds("a stack of the change", all(r.get("stack") for r in records
                                       if r["type"] == "stale" and how != "owner-gone"),
          [r for r in records if r["type"] == "stale"][:1])
    if name not in NO_DMA and truth_of(account):
        seen = [r for r in account if r["type"] == "dma-stale"]
        holds("the device still reaches the old frames", seen and all(
            r.get("wrong", 0) == 0 for r in seen), seen)
    kit.note(f"{len(truth_of(account))} pages {how or 'narrowed or none'}")


def live(name):
    records, done = traced()[0][name]
    kit.current.commands.append(done)
    equal("exit code of the client", done.code, 0)
    judge_client(name, records, done.account)


for _name in CASES:
    case(f"stale-{_name}")(functools.partial(live, _name))


@case("stale-conclusion")
def all_of_them():
    """All that was told, and no more, is in the counts."""
    clients, records, last, code = traced()
    by = collections.Counter()
    for name, (_, done) in clients.items():
        by[CASES[name][1]] += len(truth_of(done.account))
        by["narrowed"] += len(narrowed_of(done.account))
    stale = sum(by.values()) - by["narrowed"]
    equal("exit code", (code, last["conclusion"]), (1, "broken"))
    equal("pages, by case", {k: n for k, n in last["stale_by"].items() if n}, dict(+by))
    equal("stale pages", last["pages"]["stale"], stale)
    equal("records outside of all clients",
          len(kit.of_type(records, "stale", "narrowed", "mismatch", "breach")),
          sum(len(kit.of_type(told, "stale", "narrowed")) for told, _ in clients.values()))
    equal("lost", last["lost"], dict(records=0, programs_skipped=0, contexts_full=0))
    kit.note(f"{stale} pages of {len(clients)} clients")


@case("stale-within-a-second")
def within_a_second():
    """From the change to the line: less than a second."""
    records, _ = traced()[0]["dontneed"]
    late = max(r["ts_ns"] - r["change_ns"] for r in records if r["type"] == "stale") / 1e9
    holds("seconds from the change to its line", late < 1, late)
    kit.note(f"{late * 1000:.0f} ms")


@case("stale-only-narrowed")
def only_narrowed():
    """Rights that were taken away are told under check, too, and prove nothing wrong."""
    done = kit.check_held([DMACLIENT, *prepared("protect")[0], *DMA], "--break-on", ALL, told=all_told)
    judge_client("protect", done.records, done.account)
    equal("exit code", (done.code, done.conclusion["conclusion"]), (0, "proven"))


@case("stale-tolerated")
def tolerated():
    """What the user says does not matter is told, and breaks nothing."""
    argv, how = prepared("dontneed")
    for names, code in (("bug,known", 0), ("error", 1)):
        done = kit.check_held([DMACLIENT, *argv], "--break-on", names, told=all_told)
        judge(done.records, done.account, how)
        equal(f"exit code with --break-on {names}", done.code, code)
        equal("tolerated", done.conclusion["tolerated"], 0 if code else 101)


@case("stale-unmapped-at-once")
def unmapped_at_once():
    """Memory goes, and so does its mapping, before anybody could look: nothing is proven."""
    done = kit.check([DMACLIENT, "--layout", "anon", "--pages", "101", "--stale", "dontneed"])
    late, stale = done.conclusion["ledger"]["late"], done.pages["stale"]
    holds("stale, or told that nobody could look", bool(late) != bool(stale), (late, stale))
    equal("exit code", done.code, 1 if stale else 3)
    kit.note("looked at in time" if stale else f"{late} changes too late to look at")


@case("stale-slow-end")
def slow_end():
    """
    An owner that ends is no owner that is gone: its memory goes first, its files after that,
    which takes long where others want the processor. The first thread is over even before that.
    """
    pages, times = 65536, 3
    ready = kit.fresh("ready")
    # (nobody waits for who keeps the processors busy: they end by themselves)
    script = f"""
        for i in $(seq {times}); do
            {DMACLIENT} --layout anon --pages {pages} --unmap none --brief --leader-ends --hold 0.2 \\
                --ready-file {ready}.$i &
            while ! [ -e {ready}.$i ] && kill -0 $!; do sleep 0.05; done
            renice -n 19 -p $! >/dev/null
            for c in $(seq $(nproc)); do timeout 6 sh -c 'while :; do :; done' & done
            wait
        done"""
    done = kit.check(["sh", "-c", script], "--break-on", ALL, patience=600)
    kit.proven(done.conclusion, done.code, times * pages)


@case("stale-unheard")
def unheard():
    """
    No room for a single record of a change. Then everything is looked at; and what is unmapped
    before that proves nothing, whether something changed under it or not.
    """
    argv = [DMACLIENT, "--layout", "anon", "--pages", "101", "--stale", "dontneed"]
    lie = ("--lie", "miss-change")
    done = kit.check(argv, *lie)
    late, stale = done.conclusion["ledger"]["late"], done.pages["stale"]
    holds("stale, or told that nobody could look", late or stale, (late, stale))
    equal("exit code", done.code, 1 if stale else 3)
    done = kit.check_held(argv, *lie, "--break-on", ALL, told=all_told)
    judge(done.records, done.account, "dropped")
    equal("exit code", done.code, 1)


@case("stale-storm-calm")
def calm():
    """Everything changes but what is mapped at that moment: nobody may be accused."""
    tracing = kit.trace("--json", "--only", "mismatch,stale,raced,unverified")
    audits = subprocess.Popen([PFNWATCH, "audit", "--watch", "1", "--json"],
                              stdout=subprocess.PIPE, text=True)
    storm = subprocess.Popen([STORM, "--calm", "--audit-hold", "--seconds",
                               os.environ.get("PFNW_STORM_SECONDS", "30")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    account = []
    for line in storm.stdout:
        account.append(json.loads(line))
        if account[-1]["type"] == "ready":
            break
    time.sleep(1.5)
    # it is mapped and stands still: the ledger is compared with the kernel's tables
    records, last, code = kit.interrupt(tracing)
    kit.current.notes.append(json.dumps(last)[:2500])
    audits.send_signal(2)
    out = audits.communicate(timeout=kit.PATIENCE)[0]
    rounds = [json.loads(x) for x in out.splitlines()]
    storm.stdin.close()
    account += [json.loads(x) for x in storm.stdout]
    equal("exit code of the storm", storm.wait(kit.PATIENCE), 0)
    for kind in ("mismatch", "stale", "breach"):
        equal(f"{kind} by trace", [r for r in records if r["type"] == kind][:3], [])
        equal(f"{kind} by audit", [r for r in rounds if r["type"] == kind][:3], [])
    holds("trace: proven, or pages raced", code in (0, 3), code)
    ledger = last["ledger"]
    equal("pages in which ledger and kernel differ", ledger["differ_pages"], 0)
    mapped = sum(r["pages"] for r in account if r["type"] == "map")
    equal("pages in the ledger: what the storm left mapped", ledger["pages"], mapped)
    equal("pages compared with the kernel", ledger["compared_pages"], mapped)
    done = [r for r in rounds if r["type"] == "audit"]
    holds("rounds of audit", len(done) > 3, len(done))
    equal("audit: broken rounds", [r for r in done if r["conclusion"] == "broken"], [])
    kit.current.notes.clear()
    kit.note(f"{last['pages']['seen']} pages mapped, {last['table_changes']} changes, "
             f"{ledger['looks']} looks, {len(done)} audits, {mapped} pages in the ledger")


SETTLED_KIB = 64


def cycles(mode):
    """
    Days in small: memory settles, nothing drifts. What the loader holds grows to what it was behind
    at worst, and stays: so what is asked for is 24,000 maps in a row without growth, a leak of three
    bytes a map would show.
    """
    tracing = kit.trace("--json", "--only", "mismatch,stale", "--ring-size", "16M", mode=mode)
    pid = tracing.process.pid

    def resident():
        status = open(f"/proc/{pid}/status", encoding="ascii").read()
        return int(status.split("VmRSS:")[1].split()[0])

    argv = [DMACLIENT, "--layout", "anon", "--pages", "1", "--maps", "8", "--brief", "--repeat"]
    kib = []
    while len(kib) < 6 or (kib[-1] - kib[-4] > SETTLED_KIB and len(kib) < 20):
        equal("exit code", kit.run([*argv, "1000"], patience=600).code, 0)
        kib.append(resident())
    records, last, code = kit.interrupt(tracing)
    equal("exit code of trace", code, 0)
    equal("maps", last["maps"]["calls"], len(kib) * 8000)
    equal("pages left in the ledger", last["ledger"]["pages"], 0)
    equal("times that the ledger was behind", last["ledger"]["losses"], 0)
    holds("resident memory settles, KiB", kib[-1] - kib[-4] <= SETTLED_KIB, kib)
    equal("accused", [r for r in records if r["type"] in ("mismatch", "stale", "breach")], [])
    kit.note(f"{len(kib) * 8000} cycles, resident {kib[0]} KiB, at the end {kib[-1]} KiB")


for _mode in ("whole", "steps"):
    case(f"ledger-cycles-{_mode}")(functools.partial(cycles, _mode))
