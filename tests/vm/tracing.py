# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""pfnwatch trace and probe: what they show, of whom, and when."""

import json
import os
import pathlib
import re
import signal
import time

import kit
from kit import DMACLIENT, PFNWATCH, case, equal, holds

HEADER = {"type", "v", "ts_ns", "process", "group", "device", "domain"}
WALK = {"status", "levels", "leaf_level", "entries", "pfn", "writable"}
MEMBERS = {
    "map": {"iova", "pa", "bytes", "pages", "prot", "ret", "internal", "va", "match", "differ",
            "unverified", "cpu_walk", "at_claim", "pagemap_pfn", "first_page"},
    "claim": {"va", "ret", "asked", "latency_ns", "prot", "pfnmap", "vma", "pfn", "pages",
              "match", "differ", "cpu_walk", "at_claim", "pagemap_pfn", "first_page"},
    "unmap": {"iova", "bytes", "unmapped_bytes"},
}


def members(record):
    want = HEADER | MEMBERS[record["type"]]
    equal("members missing", want - set(record), set(), record)
    if record["type"] == "unmap":
        return
    walk = record["cpu_walk"]
    equal("members missing in the walk", WALK - set(walk), set(), record)
    # the raw entry of every level, from the top down to the leaf
    levels = [entry["level"] for entry in walk["entries"]]
    equal("levels of the walk", levels, list(range(walk["levels"], walk["leaf_level"] - 1, -1)))


def shown_pages(tracing, kind):
    """Pages of the records that have arrived so far."""
    records = [json.loads(line) for _, line in list(tracing.lines)
               if b'"type":"' + kind + b'"' in line]
    return sum(r["pages"] for r in records if not r.get("internal"))


@case("trace-maps-claims")
def trace_maps_claims():
    """Every mapping and every claim, each with its walk; all witnesses name the same frame."""
    kit.load_pfnscatter(1024, "random")
    pages, ready = 2 * (4 * 331 + 512), kit.fresh("ready")
    client = [DMACLIENT, "--layout", "anon,scattered,thp,ro,pfnmap", "--pages", 331, "--maps", 2,
              "--list-pages", "--ready-file", ready, "--hold", 600]
    with kit.trace("--json", "--maps", "--claims") as tracing:
        with kit.start_ready(client, ready) as program:
            # pagemap is asked when a record is shown: the client must still be there
            kit.wait_until("all mappings are shown", lambda: shown_pages(tracing, b"map") >= pages)
            program.process.terminate()
            client = program.end()
        records, last, code = kit.interrupt(tracing)
    total = kit.total(client.account)
    equal("pages in the account", total["pages"], pages)
    kit.proven(last, code, total["pages"], unmapped=total["pages"])

    shown = [r for r in kit.of_type(records, "map", "claim", "unmap")
             if not r.get("internal")]
    for record in shown:
        members(record)
        equal("process", record["process"]["pid"], total["pid"])
        equal("name of the process", record["process"]["comm"], "dmaclient")
        equal("group", str(record["group"]), os.environ["LAB_EDU_GROUP"])
        equal("device", record["device"], os.environ["LAB_EDU_BDF"])
    maps = kit.of_type(shown, "map")
    equal("failed maps", [m for m in maps if m["ret"]], [])
    equal("pages in map records", sum(m["pages"] for m in maps), total["pages"])
    equal("matches in map records", sum(m["match"] for m in maps), total["pages"])
    equal("map records", len(maps), last["maps"]["calls"])
    claims = kit.of_type(shown, "claim")
    equal("claim records", len(claims), last["claims"]["calls"])
    equal("pages in claim records", sum(c["pages"] for c in claims), last["claims"]["pages"])
    unmaps = kit.of_type(shown, "unmap")
    equal("unmapped pages in unmap records",
          sum(u["unmapped_bytes"] for u in unmaps) // kit.PAGE, total["pages"])

    # The client asked pagemap, or the module, by itself: the same frame for every page?
    account = {kit.number(p["iova"]): kit.number(p["pfn"])
               for p in kit.of_type(client.account, "page")}
    mapped = {kit.number(m["iova"]) + i * kit.PAGE: kit.number(m["pa"]) // kit.PAGE + i
              for m in maps for i in range(m["pages"])}
    same = {iova for iova, pfn in mapped.items() if account.get(iova) == pfn}
    kit.same_set("pages with the frame of the client's account", same, account)
    for m in maps:
        equal("the walk's frame", kit.number(m["cpu_walk"]["pfn"]), kit.number(m["pa"]) >> 12)
    for c in claims:
        equal("the claim's frame by the walk", c["cpu_walk"]["pfn"], c["pfn"])
        if c["pfnmap"]:
            equal("reserved", c["reserved"], "yes")
            holds("VMA flags of PFNMAP", kit.number(c["vma"]["flags"]) & 0x400, c["vma"])
    for record in maps + claims:
        pfnmap = record.get("pfnmap")
        if pfnmap is False:
            equal("pagemap's frame", record["pagemap_pfn"], record["pfn"])
    kit.note(f"{len(maps)} maps, {len(claims)} claims")


@case("trace-text")
def trace_text():
    """For a person: one line per run of pages with the same verdict, no colours in a file."""
    with kit.trace() as tracing:
        client = kit.must([DMACLIENT, "--layout", "scattered,ro", "--pages", 331, "--maps", 3])
        tracing.process.send_signal(signal.SIGTERM)
        done = tracing.end()
    equal("exit code", done.code, 0)
    equal("standard error", done.err, "")
    equal("escape characters", done.out.count("\033"), 0)
    maps = kit.of_type(client.account, "map")
    lines = [line for line in done.out.splitlines() if re.match(r"\d+\.\d+ ", line)]
    runs = []
    for line in lines:
        found = re.fullmatch(r"\d+\.\d{6} match      iova (0x\w+) va (0x\w+) (\d+) pages "
                             r"\((\d+) KiB\) (rw|r) dmaclient\[(\d+)\] group (\d+) (\S+)", line)
        holds("a line of a verdict run", found, line)
        runs.append(dict(iova=found[1], pages=int(found[3])))
        equal("KiB", int(found[4]), 4 * int(found[3]))
    equal("pages in lines", sum(r["pages"] for r in runs), 6 * 331)
    equal("ranges in lines", kit.pages_of(runs), kit.pages_of(maps))
    first = [line for line in done.out.splitlines() if line not in lines][0]
    equal("conclusion", first, "proven: 0 mismatches of 1986 pages, 0 unverified, 0 lost")


def delays(tracing, records):
    """How long each line took from the call that it speaks of, in ms."""
    arrival = [ns for ns, _ in tracing.lines]
    return [(ns - r["ts_ns"]) / 1e6 for ns, r in zip(arrival, records) if "ts_ns" in r]


def latency(bound_ms):
    pages = 0
    with kit.trace("--json") as tracing:
        for count in (1, 61, 509):
            kit.must([DMACLIENT, "--layout", "anon,scattered", "--pages", count, "--brief"])
            pages += 2 * count
            # the end of the trace must not be what brings the last line
            kit.wait_until("all pages are shown", lambda: shown_pages(tracing, b"run") == pages)
        records, _, _ = kit.interrupt(tracing)
    took = delays(tracing, records)
    holds(f"slowest line in ms, at most {bound_ms}", max(took) <= bound_ms, max(took))
    kit.note(f"{len(took)} lines, the slowest after {max(took):.0f} ms")


@case("trace-latency-host")
def trace_latency():
    """How fast the emulation is depends on the host: a bound that only a hang exceeds."""
    latency(5000)


@case("trace-latency-exact")
def trace_latency_exact():
    """Where time is instructions, 2 ns each, it does not depend on anything: the promise."""
    latency(100)


NS_PER_INSN = 2         # --icount
IDLE_INSNS = 150000     # a second; 20 ms and not 250 between two looks are twice that
IDLE_WAKES = 10


@case("trace-idle-exact")
def trace_idle_exact():
    """While nobody uses VFIO the loader sleeps; whoever does wakes it (see the latency)."""
    with kit.trace("--json") as tracing:
        spent, waits = [], []
        for _ in range(2):
            time.sleep(2)       # what the start has put off is done in the first
            stat = pathlib.Path(f"/proc/{tracing.pid}/schedstat").read_text().split()
            spent.append(int(stat[0]))
            waits.append(int(stat[2]))
        insns, wakes = (spent[1] - spent[0]) / NS_PER_INSN / 2, (waits[1] - waits[0]) / 2
        holds(f"instructions a second, at most {IDLE_INSNS}", insns <= IDLE_INSNS, insns)
        holds(f"times on the processor a second, at most {IDLE_WAKES}", wakes <= IDLE_WAKES, wakes)
        client = kit.must([DMACLIENT, "--layout", "anon", "--pages", 61])
        _, last, code = kit.interrupt(tracing)
    equal("exit code", code, 0)
    equal("pages", last["pages"]["match"], kit.total(client.account)["pages"])
    kit.note(f"{insns:,.0f} instructions and {wakes:.0f} times on the processor a second")


@case("trace-filters")
def trace_filters():
    """Two clients with a group each; each filter shows one of them, to the last page."""
    bdf, group = kit.ivshmem()
    edu_bdf, edu_group = os.environ["LAB_EDU_BDF"], int(os.environ["LAB_EDU_GROUP"])
    holds("two groups", group != edu_group, (group, edu_group))
    other = kit.fresh("otherclient")
    os.symlink(DMACLIENT, other)
    name = os.path.basename(other)[:15]
    first = kit.waiting([DMACLIENT, "--layout", "anon", "--pages", 211, "--maps", 3])
    second = kit.waiting([other, "--layout", "anon", "--pages", 307, "--maps", 3,
                          "--group", group])
    filters = {
        ("--pid", first.pid): 3 * 211, ("--pid", first.pid, "--pid", second.pid): 3 * (211 + 307),
        ("--comm", "dmaclient"): 3 * 211, ("--comm", name): 3 * 307,
        ("--group", group): 3 * 307, ("--device", edu_bdf): 3 * 211,
        ("--device", bdf, "--comm", "dmaclient"): 0,
        ("--only", "match"): 3 * (211 + 307), ("--only", "mismatch,stale"): 3 * (211 + 307),
    }
    traces = {}
    try:
        # all of them at once: that they do not disturb each other is part of it
        for options in filters:
            traces[options] = kit.trace("--json", *options)
        for client in (first, second):
            kit.release(client)
        clients = [client.end() for client in (first, second)]
        equal("exit codes of the clients", [c.code for c in clients], [0, 0])
        for options, pages in filters.items():
            records, last, code = kit.interrupt(traces[options])
            what = " ".join(str(o) for o in options)
            equal(f"{what}: exit code", code, 0)
            equal(f"{what}: pages", (last["pages"]["seen"], last["pages"]["match"]),
                  (pages, pages))
            runs = kit.of_type(records, "run")
            shown = 0 if "mismatch,stale" in options else pages
            equal(f"{what}: pages shown", sum(r["pages"] for r in runs), shown)
    finally:
        for program in (first, second, *traces.values()):
            program.__exit__()
    kit.note(f"{len(filters)} traces at once")


@case("trace-quiet-duration")
def trace_quiet_duration():
    ready = kit.fresh("ready")
    done = kit.run([PFNWATCH, "trace", "--json", "--quiet", "--duration", "0.5",
                    "--ready-file", ready])
    equal("exit code: nothing seen, nothing lost", done.code, 0)
    records = kit.json_lines("trace --json", done.out)
    last = kit.conclusion(records, 0)
    equal("records", len(records), 1)
    equal("conclusion", last["conclusion"], "proven")
    holds("duration", last["duration_ns"] >= 0.5e9, last["duration_ns"])
    equal("process id in the ready file", pathlib.Path(ready).read_text().strip().isdigit(), True)
    kit.nothing_left()


@case("probe")
def probe():
    done = kit.must([PFNWATCH, "probe", "--json"])
    records = kit.json_lines("probe --json", done.out)
    *hooks, last = records
    equal("last record", last["type"], "probe")
    equal("usable", (last["usable"], last["exit_code"]), (True, 0))
    equal("kernel", last["kernel"], os.uname().release)
    equal("other records", [h for h in hooks if h["type"] != "hook"], [])
    slots = {h["hook"]: False for h in hooks}
    for hook in hooks:
        slots[hook["hook"]] |= hook["chosen"]
        if not hook["usable"]:
            holds("a hook that is not usable says why", hook["why"], hook)
    equal("slots without a hook", [s for s, chosen in slots.items() if not chosen], [])
    holds("required slots", any(h["required"] for h in hooks), hooks)
    la57 = "la57" in pathlib.Path("/proc/cpuinfo").read_text()
    equal("levels of the page tables", last["page_table_levels"], 5 if la57 else 4)
    text = kit.must([PFNWATCH, "probe"]).out
    for slot in slots:
        holds(f"{slot} in the text", re.search(rf"^{slot} ", text, re.M), text)
    equal("MISSING in the text", text.count("MISSING"), 0)
    kit.note(f"{len(slots)} hooks, {last['page_table_levels']} levels")


@case("help")
def usage():
    for verb in ([], ["probe"], ["trace"], ["check"], ["audit"], ["ls"]):
        done = kit.must([PFNWATCH, *verb, "--help"])
        what = " ".join(["pfnwatch", *verb, "--help"])
        equal(f"{what}: standard error", done.err, "")
        for part in ("Usage: ", "Examples:\n", "Exit codes: "):
            holds(f"{what}: {part!r}", part in done.out, done.out)
    done = kit.must([PFNWATCH, "--version"])
    holds("version", re.fullmatch(r"pfnwatch \d+\.\d+\.\d+\n", done.out), done.out)


@case("no-colours")
def no_colours():
    """Colours on a terminal; none with NO_COLOR, however the conclusion is shown."""
    for env, colours in (({}, True), ({"NO_COLOR": "1"}, False)):
        main, terminal = os.openpty()
        done = kit.run([PFNWATCH, "check", "--allow-empty", "--", "true"], stderr=terminal,
                       env=dict(env, TERM="xterm"))
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(main, 65536):
                shown += chunk
        except OSError:     # the other end is closed and everything is read
            pass
        os.close(main)
        equal("exit code", done.code, 0)
        holds(f"the conclusion on a terminal, {env}", b"proven" in shown, shown)
        equal(f"escape characters on a terminal, {env}", b"\033" in shown, colours)


@case("json-versions")
def json_versions():
    """What trace prints on standard output is JSON and nothing else."""
    with kit.trace("--json") as tracing:
        kit.must([DMACLIENT, "--layout", "anon", "--pages", 17])
        records, _, code = kit.interrupt(tracing)
    equal("exit code", code, 0)
    equal("types", [r["type"] for r in records], ["run", "conclusion"])
    equal("versions", {r["v"] for r in records}, {1})
    equal("hexadecimal numbers are strings", json.dumps(records[0]["iova"])[:3], '"0x')
