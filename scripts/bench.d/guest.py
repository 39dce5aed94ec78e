# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Run inside the guest by scripts/bench: one JSON line for each figure.

Guest time is instructions executed (--icount, 2 ns each), so a difference of times is a count.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

NS_PER_INSN = 2
TRIES = 5               # of each figure: a timer's tick is in some of them
MANY_TRIES = 9          # of what is short, or falls to several threads or processes
SETTLE = "0.4"          # seconds before a call, for what the kernel has put off
PHASE = 0.13            # seconds: so much later each round begins, for what loaders do by the clock
TMP = pathlib.Path("/tmp/bench")
BUILD = os.environ["BENCH_BUILD"]
PFNWATCH = f"{BUILD}/pfnwatch"
DMACLIENT = f"{BUILD}/tests/dmaclient"
MMOPS = f"{BUILD}/tests/mmops"

PAGES = 32768           # of 4 KiB: 128 MiB; a leaf of 1 GiB has more, a BAR less
LAYOUTS = ("contig", "scattered", "thp", "huge2m", "huge1g", "anon", "shmem", "file",
           "file-private", "ro", "bar", "pfnmap")
PIECES = "file-cow"     # the layout that gets the small pieces
IN_LINE = ("anon", "shmem", "file", "ro")   # small pages: frames in few runs, or made anew
FEW_RUNS = 4            # in blocks of 4 MiB that do not follow each other it would be 32: up to 4 %
GOALS = ("contig", "scattered", "thp")      # layouts that goals are set for


def tell(**record):
    print(json.dumps(record), flush=True)


def insns(ns):
    return ns / NS_PER_INSN


# --- tools that watch --------------------------------------------------------------------------

BPFTRACE = """
BEGIN { printf("ready\\n"); }
kprobe:vaddr_get_pfns { @va[tid] = arg1; @pfn[tid] = arg4; }
kretprobe:vaddr_get_pfns /@va[tid]/ {
    printf("claim va %lx pages %ld pfn %lx\\n", @va[tid], retval, *(uint64 *)@pfn[tid]);
    delete(@va[tid]); delete(@pfn[tid]);
}
tracepoint:iommu:map { printf("map iova %lx pa %lx bytes %lx\\n", args->iova, args->paddr,
                              args->size); }
"""


def cpu_ns(pid):
    """What all threads of a process have executed so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def peak_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)[1])


class Unlucky(Exception):
    """What this boot has to offer is not what is to be measured: another may have it."""


class Broken(Exception):
    """A tool that did not do what it was started for."""


class Tool:
    """Nobody watches."""
    name = "nothing"
    pid = None

    def __init__(self):
        self.facts = {}

    def watch(self, work):
        work(self)

    def wait_for(self, what, ready, process, patience=600):
        end = time.monotonic() + patience
        while not ready():
            if process.poll() is not None:
                raise Broken(f"{self.name}: ended with {process.returncode} before {what}: "
                             f"{self.said()}")
            if time.monotonic() > end:
                process.kill()
                raise Broken(f"{self.name}: {what} did not come within {patience} s")
            time.sleep(0.05)

    def said(self):
        path = TMP / "err"
        return path.read_text(errors="replace")[-500:].strip() if path.exists() else ""

    def stop(self, process):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Broken(f"{self.name}: did not end") from None


class Background(Tool):
    """A program that is started, says when it is attached, and is interrupted at the end."""

    def watch(self, work):
        with open(TMP / "out", "wb") as out, open(TMP / "err", "wb") as err:
            with subprocess.Popen(self.command(), stdout=out, stderr=err) as process:
                self.until_ready(process)
                self.pid = process.pid
                self.facts["attach_insns"] = insns(cpu_ns(self.pid))
                try:
                    work(self)
                    self.facts["peak_kib"] = peak_kib(self.pid)
                    code = self.stop(process)
                except BaseException:
                    process.kill()
                    raise
        self.conclude(code)


class Bpftrace(Background):
    name = "bpftrace"

    def command(self):
        return ["bpftrace", "-e", BPFTRACE]

    def until_ready(self, process):
        self.wait_for("its BEGIN", lambda: b"ready" in (TMP / "out").read_bytes(), process)

    def conclude(self, code):
        text = (TMP / "out").read_text(errors="replace")
        told = text + (TMP / "err").read_text(errors="replace")
        if code:
            raise Broken(f"bpftrace ended with {code}: {self.said()}")
        self.facts["events"] = len(re.findall(r"^(?:map|claim) ", text, re.M))
        self.facts["maps_told"] = len(re.findall(r"^map ", text, re.M))
        self.facts["lost"] = sum(int(n) for n in re.findall(r"Lost (\d+) events", told))


class Perf(Background):
    name = "perf"
    data = TMP / "perf.data"

    def command(self):
        for fifo in ("control", "ack"):
            (TMP / fifo).unlink(missing_ok=True)
            os.mkfifo(TMP / fifo)
        return ["perf", "record", "-a", "-e", "iommu:map", "-e", "iommu:unmap", "-o",
                str(self.data), "-D", "-1", "--control", f"fifo:{TMP}/control,{TMP}/ack"]

    def until_ready(self, process):
        control = os.open(TMP / "control", os.O_RDWR)
        ack = os.open(TMP / "ack", os.O_RDWR | os.O_NONBLOCK)
        os.write(control, b"enable\n")
        heard = bytearray()

        def acknowledged():
            with contextlib.suppress(BlockingIOError):
                heard.extend(os.read(ack, 64))
            return b"ack" in heard
        self.wait_for("its acknowledgement", acknowledged, process)
        os.close(control)
        os.close(ack)

    def conclude(self, code):
        done = subprocess.run(["perf", "report", "--stats", "-i", str(self.data)],
                              capture_output=True, text=True)
        if done.returncode or code not in (0, -signal.SIGINT, 130):
            raise Broken(f"perf ended with {code}, perf report with {done.returncode}: "
                         f"{done.stderr[-300:]}")
        by_event = re.findall(r"^(\S+) stats:\s*\n(?:\s+.*\n)*?\s+SAMPLE events:\s+(\d+)",
                              done.stdout, re.M)
        self.facts["maps_told"] = sum(int(n) for event, n in by_event if event == "iommu:map")
        total = re.search(r"SAMPLE events:\s+(\d+)", done.stdout)
        self.facts["events"] = int(total[1]) if total else 0
        lost = re.search(r"LOST events:\s+(\d+)", done.stdout)
        self.facts["lost_chunks"] = int(lost[1]) if lost else 0
        self.data.unlink()


class Pfnwatch(Background):
    """trace; check is the same with a command."""

    def __init__(self, *options):
        super().__init__()
        self.options = options
        self.name = " ".join(("pfnwatch trace", *options))

    def command(self):
        (TMP / "ready").unlink(missing_ok=True)
        return [PFNWATCH, "trace", "-q", "--json", "--ready-file", str(TMP / "ready"),
                *self.options]

    def until_ready(self, process):
        self.wait_for("its ready file", (TMP / "ready").exists, process)

    def conclude(self, code):
        self.proven(code, (TMP / "out").read_text())

    def proven(self, code, text):
        last = json.loads(text.splitlines()[-1])
        if code or last.get("conclusion") != "proven":
            raise Broken(f"{self.name}: exit code {code}, {json.dumps(last)[:2000]}")
        self.facts.update(conclusion=last["conclusion"], seen=last["pages"]["seen"],
                          lost=last["pages"]["lost"] + last["lost"]["records"],
                          mode=last["mode"])


class Check(Pfnwatch):
    """COMMAND is ourselves, doing the work."""

    def __init__(self, part, *options):
        super().__init__(*options)
        self.part = part
        self.name = " ".join(("pfnwatch check", *options))

    def watch(self, work):
        facts = TMP / "facts"
        argv = [PFNWATCH, "check", "-q", "--json", str(TMP / "out"), *self.options, "--",
                sys.executable, os.path.abspath(__file__), "--work", self.part,
                "--as", self.name, "--facts", str(facts)]
        done = subprocess.run(argv, stdout=sys.stdout, stderr=subprocess.PIPE, text=True)
        if not facts.exists():
            raise Broken(f"{self.name}: exit code {done.returncode}: {done.stderr[-500:]}")
        self.facts = json.loads(facts.read_text())
        facts.unlink()
        self.proven(done.returncode, (TMP / "out").read_text())


# --- the work ----------------------------------------------------------------------------------

def account_of(argv, patience=3000):
    """What a dmaclient has told; it must have ended well."""
    path = TMP / f"account-{os.getpid()}"
    done = subprocess.run([DMACLIENT, *map(str, argv), "--account", str(path)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          timeout=patience)
    if done.returncode:
        raise Broken(f"dmaclient {' '.join(map(str, argv))}: exit code {done.returncode}: "
                     f"{done.stderr[-500:]}")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return records


def each(records, kind):
    """Instructions per page of each such call."""
    return [round(insns(r[f"{kind}_ns"]) / r["pages"], 2) for r in records if r["type"] == kind]


SOAK = 4000             # objects
ADD_KEY, SESSION_KEYRING = 248, -3
_key_names = itertools.count()


def soak():
    """
    An unmap allocates and frees 64 bytes for each page. How many of those come from slabs that
    are in use already, and take the slow path, is a matter of what ran before: so take what is
    free there, as payload of keys.
    """
    pathlib.Path("/proc/sys/kernel/keys/root_maxkeys").write_text("1000000")
    libc = ctypes.CDLL(None, use_errno=True)
    for _, name in zip(range(SOAK), _key_names):
        if libc.syscall(ADD_KEY, b"user", b"bench-%d" % name, bytes(40), 40, SESSION_KEYRING) < 0:
            raise Broken(f"add_key: {os.strerror(ctypes.get_errno())}")


def figure_of(records, key, **more):
    """
    All that the one processor did from a call's begin to its end, the tool's process included: the
    least of some equal rounds, for a timer ticks in some. (A thread's own time is no figure that
    repeats: interrupts and what runs behind them take a share that differs.)
    """
    maps, unmaps = each(records, "map"), each(records, "unmap")
    tell(type="figure", **more, **key, pages=next(r["pages"] for r in records), map=min(maps),
         unmap=min(unmaps), maps_each=maps, unmaps_each=unmaps,
         runs=max(r["runs"] or 0 for r in records if r["type"] == "map"))


def map_and_unmap(tool, key, argv, tries=TRIES):
    """One layout, some times: what a page costs."""
    soak()
    before = cpu_ns(tool.pid) if tool.pid else 0
    records = account_of([*argv, "--rest", SETTLE, "--repeat", tries])
    calls = [r for r in records if r["type"] in ("map", "unmap")]
    pages = sum(r["pages"] for r in calls if r["type"] == "map")
    figure_of(calls, key, tool=tool.name,
              loader=insns(cpu_ns(tool.pid) - before) / pages if tool.pid else 0)


class Client:
    """
    A dmaclient that maps and unmaps the same memory, some layouts one after the other, each time
    it is told to: the frames are the same whoever watches. What is free in small pieces goes to a
    layout that no figure is of, or "anon" had more runs of frames in one boot than in another;
    and when others have many all the same, the memory of all is taken again.
    """

    def __init__(self, layouts):
        names = list(layouts)
        if "anon" in names[1:]:
            names.insert(names.index("anon"), PIECES)
        if not os.path.exists("/dev/pfnscatter") and "pfnmap" in names[1:]:
            names.remove("pfnmap")
        argv = [DMACLIENT, "--layout", ",".join(names), "--pages", str(PAGES), "--rest", SETTLE,
                "--repeat", "1000", "--pause", "unmapped"]
        for _ in range(TRIES):
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            text=True)
            if all(r["runs"] <= FEW_RUNS for r in self.round()
                   if r["type"] == "map" and r["layout"] in IN_LINE):
                return
            self.end()
            tidy()
        raise Unlucky(f"{TRIES} times a layout had more than {FEW_RUNS} runs of frames")

    def round(self):
        """What it tells of one round."""
        records = []
        for line in self.process.stdout:
            r = json.loads(line)
            if r["type"] == "ready":
                return records
            if r["type"] == "error":
                raise Broken(f"dmaclient: {line}")
            records.append(r)
        raise Broken(f"dmaclient ended with {self.process.wait()}")

    def again(self, n):
        time.sleep(n * PHASE)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.round()

    def end(self):
        self.process.kill()
        self.process.wait()

    def measure(self, tool):
        """(pfnwatch attaches some of its programs in the first round.)"""
        soak()
        self.again(0)
        before = cpu_ns(tool.pid) if tool.pid else 0
        records = [r for n in range(MANY_TRIES) for r in self.again(n)]
        pages = sum(r["pages"] for r in records if r["type"] == "map")
        tool.facts["pages"] = pages
        if tool.pid:
            tool.facts["loader_per_page"] = insns(cpu_ns(tool.pid) - before) / pages
        for layout in LAYOUTS:
            calls = [r for r in records if r.get("layout") == layout]
            if calls:
                figure_of(calls, {"layout": layout}, tool=tool.name)


def goals(tool):
    """By a client of its own each."""
    for layout in GOALS:
        map_and_unmap(tool, {"layout": layout}, ["--layout", layout, "--pages", PAGES])


MIB = 256       # pages


def sizes(tool):
    """Does a page cost more when there are many of them in one call?"""
    for layout in GOALS:
        for mib in (16, 128, 1024):
            map_and_unmap(tool, {"layout": layout, "mib": mib},
                          ["--layout", layout, "--pages", mib * MIB],
                          MANY_TRIES if mib < 1024 else TRIES)


def large(tool):
    """The same of what wants a large machine; no second try, and no list of frames."""
    for layout, mib in (("scattered", 4096), ("scattered", 16384), ("thp", 16384)):
        before = cpu_ns(tool.pid) if tool.pid else 0
        records = account_of(["--layout", layout, "--pages", mib * MIB, "--rest", SETTLE,
                              "--brief"])
        total = records[-1]
        tell(type="figure", tool=tool.name, layout=layout, mib=mib, pages=total["pages"],
             map=insns(total["map_cpu_ns"]) / total["pages"],
             unmap=insns(total["unmap_cpu_ns"]) / total["pages"],
             loader=insns(cpu_ns(tool.pid) - before) / total["pages"] if tool.pid else 0,
             loader_kib=peak_kib(tool.pid) if tool.pid else 0)


def thread_insns(records, kind, calls):
    """By the calling thread, for each of @calls of a round: of the round that took the least."""
    ns = [r[f"{kind}_cpu_ns"] for r in records if r["type"] == kind] or \
        [records[-1][f"{kind}_cpu_ns"] / calls] * calls
    return insns(min(sum(ns[i:i + calls]) for i in range(0, len(ns), calls))) / calls


def counts(tool, most=100000):
    """Does a mapping cost more when there are many of them? One page each."""
    pathlib.Path("/proc/sys/vm/max_map_count").write_text("8000000")
    pathlib.Path("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit").write_text("2000000")
    for maps in (1, 1000, 100000, 1000000):
        if maps > most:
            break
        before = cpu_ns(tool.pid) if tool.pid else 0
        tries, brief = (1, ["--brief"]) if maps > 1000 else (MANY_TRIES, [])
        records = account_of(["--layout", "anon", "--pages", 1, "--maps", maps, "--rest", SETTLE,
                              "--repeat", tries, *brief])
        tell(type="figure", tool=tool.name, maps=maps, map=thread_insns(records, "map", maps),
             unmap=thread_insns(records, "unmap", maps),
             loader=insns(cpu_ns(tool.pid) - before) / (maps * tries) if tool.pid else 0)


def million(tool):
    counts(tool, 1000000)


def cpus(tool):
    """Threads that map, each on a processor of its own: one after the other, and together."""
    n = os.cpu_count()
    for layout in ("contig", "scattered"):
        argv = ["--layout", layout, "--pages", 8192, "--maps", n, "--threads", n, "--rest", SETTLE]
        calls = each(account_of([*argv, "--in-turn", "--repeat", MANY_TRIES]), "map")
        spent = [insns(total["map_cpu_ns"]) / total["pages"] for total in
                 (account_of([*argv, "--brief"])[-1] for _ in range(TRIES))]
        tell(type="figure", tool=tool.name, layout=layout, cpus=n, together=min(spent),
             map=sum(min(calls[i::n]) for i in range(n)) / n)


GUEST = dict(os.environ, DMACLIENT_KVM="1")     # makes a virtual machine first


def others(tool, what="", rounds=2000, env=None):
    """A process that has nothing to do with any of it."""
    best = {}
    for _ in range(MANY_TRIES):
        done = subprocess.run([MMOPS, str(rounds)], capture_output=True, text=True, check=True,
                              env=env)
        for r in map(json.loads, done.stdout.splitlines()):
            op = best.setdefault(r["op"], dict(r))
            op["ns"] = min(op["ns"], r["ns"])
    for op, r in best.items():
        tell(type="figure", tool=what or tool.name, op=op, hooked_calls=r["hooked_calls"],
             insns=insns(r["ns"]))


@contextlib.contextmanager
def held(*argv, env=None):
    """Somebody who has memory mapped for a device, and keeps it."""
    ready = TMP / "held"
    ready.unlink(missing_ok=True)
    with open(TMP / "held.account", "wb") as out:
        with subprocess.Popen([DMACLIENT, *map(str, argv), "--hold", "100000", "--ready-file",
                               str(ready)], stdout=out, env=env) as process:
            try:
                Tool().wait_for("the client's mapping", ready.exists, process)
                yield process.pid, [json.loads(line) for line in
                                    (TMP / "held.account").read_text().splitlines()]
            finally:
                process.terminate()


# --- parts: what one boot measures -------------------------------------------------------------

def report(part, tool, work):
    """Work under a tool; one that breaks is told, and the others go on."""
    try:
        tool.watch(work)
    except Broken as broken:
        tell(type="tool", part=part, tool=tool.name, error=str(broken))
    else:
        tell(type="tool", part=part, tool=tool.name, **tool.facts)


def watched_by(part, work, tools):
    """The same work without anybody watching, first and last, and under each tool."""
    for tool in (Tool(), *tools, Tool()):
        report(part, tool, work)


WAYS = ((), ("--no-ledger",), ("--steps",), ("--steps", "--no-iommu-walk", "--no-ledger"))


def part_layouts():
    client = Client(LAYOUTS)
    watched_by("layouts", client.measure, [Bpftrace(), Perf(), *(Pfnwatch(*w) for w in WAYS)])
    client.end()
    for tool in (Tool(), Bpftrace(), *(Check("goals", *w) for w in WAYS[:2])):
        tool.name += ", a new process"
        report("layouts", tool, goals)


def part_goals():
    client = Client(GOALS)
    watched_by("goals", client.measure, [Pfnwatch(*w) for w in WAYS[:2]])
    client.end()


def part_sizes():
    watched_by("sizes", sizes, [Pfnwatch()])


def part_large():
    watched_by("large", large, [Pfnwatch()])


def part_counts():
    watched_by("counts", counts, [Pfnwatch()])


def part_million():
    watched_by("million", million, [Pfnwatch()])


def part_cpus():
    watched_by("cpus", cpus, [Pfnwatch()])


def part_others():
    others(Tool())
    Pfnwatch().watch(lambda t: others(t, "pfnwatch trace, nobody uses VFIO"))
    others(Tool(), "nothing, again")
    with held("--layout", "anon", "--pages", 512):
        others(Tool(), "nothing, VFIO is used")
        Pfnwatch().watch(lambda t: others(t, "pfnwatch trace, VFIO is used"))
        with subprocess.Popen([PFNWATCH, "audit", "--watch", "1", "--rounds", "100000", "--json"],
                              stdout=subprocess.DEVNULL) as audit:
            time.sleep(20)
            others(Tool(), "pfnwatch audit --watch 1, VFIO is used")
            audit.kill()
    subprocess.run(["modprobe", "kvm_amd"], check=True)     # what TCG has, on whatever IOMMU
    with held("--layout", "anon", "--pages", 512, env=GUEST):
        others(Tool(), "nothing, a guest uses VFIO")
        others(Tool(), "nothing, a guest uses VFIO, again")
        others(Tool(), "nothing, itself a guest", env=GUEST)

        def watched(tool):
            others(tool, "pfnwatch trace, a guest uses VFIO")
            others(tool, "pfnwatch trace, itself a guest", env=GUEST)
        Pfnwatch().watch(watched)


ENTRY = 8       # bytes in pagemap


def pagemap_ns(pid, maps):
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        best = None
        for _ in range(TRIES):
            start = time.monotonic_ns()
            for m in maps:
                at = int(m["va"], 16) // 4096 * ENTRY
                end = at + m["pages"] * ENTRY
                while at < end:
                    at += os.preadv(file.fileno(), [memoryview(buffer)[:end - at]], at)
            took = time.monotonic_ns() - start
            best = min(took, best or took)
    return best


def part_audit():
    """What the second 256 MiB cost: all that is constant is out."""
    for layout in ("scattered", "contig", "thp", "huge2m"):
        ns = {}
        for pages in (65536, 131072):
            with held("--layout", layout, "--pages", pages) as (pid, account):
                done = subprocess.run([PFNWATCH, "audit", "--json", "--pid", str(pid), "--watch",
                                       "0.01", "--rounds", "40"], capture_output=True, text=True)
                rounds = [json.loads(line) for line in done.stdout.splitlines()]
                if done.returncode or any(r["conclusion"] != "proven" for r in rounds):
                    raise Broken(f"audit: exit code {done.returncode}: {done.stdout[-500:]}")
                ns[pages] = (min(r["duration_ns"] for r in rounds),
                             pagemap_ns(pid, [r for r in account if r["type"] == "map"]))
        audit, pagemap = (insns(b - a) / 65536 for a, b in zip(ns[65536], ns[131072]))
        tell(type="figure", tool="pfnwatch audit", layout=layout, insns=audit)
        tell(type="figure", tool="pagemap", layout=layout, insns=pagemap)


def tidy():
    """How much of the memory lies in a line after booting is a matter of luck."""
    for file, text in (("drop_caches", "3"), ("compact_memory", "1")):
        pathlib.Path("/proc/sys/vm", file).write_text(text)


PARTS = {name[5:]: function for name, function in list(globals().items())
         if name.startswith("part_")}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--part", choices=PARTS)
    p.add_argument("--work")
    p.add_argument("--as", dest="name")
    p.add_argument("--facts")
    a = p.parse_args()
    TMP.mkdir(exist_ok=True)
    if a.work:      # we are the command of a pfnwatch check
        tool = Tool()
        tool.name, tool.pid = a.name, os.getppid()
        facts = dict(attach_insns=insns(cpu_ns(tool.pid)))
        globals()[a.work](tool)
        facts["peak_kib"] = peak_kib(tool.pid)
        pathlib.Path(a.facts).write_text(json.dumps(facts))
        return
    tidy()
    try:
        PARTS[a.part]()
    except Unlucky as why:
        print(f"bench: {why}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    except Broken as broken:
        sys.exit(f"bench: {broken}")


if __name__ == "__main__":
    main()
