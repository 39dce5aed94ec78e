# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What the cases share: running programs, reading their JSON, exact comparison."""

import ctypes
import functools
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import threading
import time

BUILD = pathlib.Path(os.environ.get("PFNW_BUILD", "build")).resolve()
PFNWATCH = str(BUILD / "pfnwatch")
DMACLIENT = str(BUILD / "tests/dmaclient")
STORM = str(BUILD / "tests/storm")
MMOPS = str(BUILD / "tests/mmops")
TMP = pathlib.Path("/tmp/pfnwatch-tests")
KERNEL = os.environ.get("LAB_KERNEL", "")
PAGE = 4096
# How check and trace look where a case does not care: at whole calls, or at every step of them.
MODE = os.environ.get("PFNW_MODE", "steps")

# Emulation is slow and the host may be busy: nothing healthy takes this long.
PATIENCE = 120


class Failure(Exception):
    """A case did not turn out as it should."""


class Case:
    """What a failing case tells beside its message: commands that ran, figures."""

    def __init__(self):
        self.commands = []
        self.notes = []


current = Case()
CASES = {}


def case(name):
    """Registers a function as the case of this name."""
    def register(function):
        assert name not in CASES, name
        CASES[name] = function
        return function
    return register


def once(function):
    """What several cases look at is done once; when it fails, it fails for all of them."""
    results = {}

    @functools.wraps(function)
    def call(*key):
        if key not in results:
            try:
                results[key] = function(*key), None
            except Failure as failure:
                results[key] = None, str(failure)
        value, why = results[key]
        if why:
            raise Failure(why)
        return value
    return call


def note(text):
    """A figure worth showing beside the case's name."""
    current.notes.append(text)


# --- comparison ------------------------------------------------------------------------------

def equal(what, got, want, of=None):
    """@of: what it is a part of; only told where they differ, for that text takes long to make."""
    if got != want:
        raise Failure(f"{what}: expected {_short(want)}, got {_short(got)}{_of(of)}")


def holds(what, true, got):
    if not true:
        raise Failure(f"{what}: got {_short(got)}")


def _of(whole):
    return "" if whole is None else f", in {whole!r}"


def same_set(what, got, want):
    """Exactly these: says which are missing and which are too many."""
    got, want = set(got), set(want)
    if got != want:
        raise Failure(f"{what}: expected {len(want)}, got {len(got)}; "
                      f"missing {_some(want - got)}, too many {_some(got - want)}")


def _some(items):
    shown = [hex(i) if isinstance(i, int) else str(i) for i in sorted(items)[:5]]
    return f"{len(items)} ({', '.join(shown)}{', ...' if len(items) > 5 else ''})"


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]}"


def wait_until(what, true, patience=PATIENCE):
    """Polls a condition; returns its first true value."""
    end = time.monotonic() + patience
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {patience} s")
        time.sleep(0.01)


# --- programs --------------------------------------------------------------------------------

class Done:
    """A program that has ended."""

    def __init__(self, argv, code, out, err):
        self.argv, self.code, self.out, self.err = argv, code, out, err
        current.commands.append(self)

    @property
    def account(self):
        """The JSON lines that dmaclient or storm printed."""
        return json_lines("the account", self.out)

    def told(self):
        text = f"$ {shlex.join(self.argv)}\n  exit code {self.code}"
        for line in self.err.splitlines()[-12:]:
            text += f"\n  {line}"
        return text


def run(argv, patience=PATIENCE, env=None, **popen):
    """Runs a program to its end, whatever its exit code."""
    popen.setdefault("stdin", subprocess.DEVNULL)
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    argv = [str(a) for a in argv]
    process = subprocess.Popen(argv, env=dict(os.environ, **(env or {})), **popen)
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        Done(argv, process.returncode, _text(out), _text(err))
        raise Failure(f"{shlex.join(argv)}: did not end within {patience} s") from None
    return Done(argv, process.returncode, _text(out), _text(err))


def must(argv, **how):
    """Runs a program that has to succeed."""
    done = run(argv, **how)
    equal(f"exit code of {os.path.basename(done.argv[0])}", done.code, 0)
    return done


def _text(data):
    return (data or b"").decode(errors="replace")


class Background:
    """A program that runs beside the case; each line of its output with its time of arrival."""

    def __init__(self, argv, **popen):
        self.argv = [str(a) for a in argv]
        self.lines = []     # (CLOCK_MONOTONIC in ns, text)
        self._err = []
        self.process = subprocess.Popen(self.argv, stdin=popen.pop("stdin", subprocess.DEVNULL),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        self._readers = [threading.Thread(target=self._read_out, daemon=True),
                         threading.Thread(target=self._read_err, daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read_out(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic_ns(), line))

    def _read_err(self):
        for line in self.process.stderr:
            self._err.append(line)

    @property
    def pid(self):
        return self.process.pid

    def end(self, patience=PATIENCE):
        """Waits for its end."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self._done()
            raise Failure(f"{shlex.join(self.argv)}: did not end within {patience} s") from None
        return self._done()

    def _done(self):
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        return Done(self.argv, self.process.returncode,
                    _text(b"".join(line for _, line in self.lines)), _text(b"".join(self._err)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self._done()


def waiting(argv):
    """A program that has its process id already, but starts only when released."""
    return Background(["sh", "-c", 'read go && exec "$@" </dev/null', "sh", *argv],
                      stdin=subprocess.PIPE)


def release(program):
    program.process.stdin.write(b"go\n")
    program.process.stdin.close()


_serial = 0


def fresh(name):
    """A path that nothing is at."""
    global _serial
    TMP.mkdir(exist_ok=True)
    _serial += 1
    return str(TMP / f"{_serial}-{name}")


def start_ready(argv, ready):
    """Starts a program that creates the file @ready; returns when it has."""
    program = Background(argv)
    try:
        wait_until(f"{shlex.join(program.argv)}: {ready}",
                   lambda: os.path.exists(ready) or program.process.poll() is not None)
    except Failure:
        program.__exit__()
        raise
    if not os.path.exists(ready):
        done = program.end()
        raise Failure(f"{shlex.join(done.argv)} ended with {done.code} before it was ready")
    return program


# --- JSON ------------------------------------------------------------------------------------

def json_lines(what, text):
    records = []
    for line in text.splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            raise Failure(f"{what}: not JSON: {_short(line)}") from None
    return records


def of_type(records, *types):
    return [r for r in records if r["type"] in types]


def total(account):
    """The totals of a client's account; its own errors are the test's errors."""
    equal("errors of the client", of_type(account, "error", "unavailable"), [])
    totals = of_type(account, "total")
    equal("totals in the account", len(totals), 1)
    return totals[0]


def number(text):
    return int(text, 16)


class Pages:
    """A set of pages of a device's address space, kept as ranges."""

    def __init__(self, ranges=()):
        merged = []
        for start, pages in sorted(ranges):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], start + pages * PAGE)
            else:
                merged.append([start, start + pages * PAGE])
        self.ranges = [(a, b) for a, b in merged]

    def __eq__(self, other):
        return self.ranges == other.ranges

    def __repr__(self):
        return " ".join(f"0x{a:x}-0x{b:x}" for a, b in self.ranges)


def pages_of(records):
    """The pages that map, run or mismatch records speak of, each IOVA once."""
    return Pages((number(r["iova"]), r["pages"]) for r in records)


def each_page(records):
    """The IOVA of each single page of such records, in order."""
    return [number(r["iova"]) + i * PAGE for r in records for i in range(r["pages"])]


# --- pfnwatch --------------------------------------------------------------------------------

class Checked:
    """A pfnwatch check that has ended, with its JSON records."""

    def __init__(self, done, path):
        self.done, self.code, self.err = done, done.code, done.err
        self.records = json_lines("pfnwatch --json", pathlib.Path(path).read_text())
        self.conclusion = conclusion(self.records, done.code)
        self.pages = self.conclusion["pages"]

    @property
    def account(self):
        return self.done.account


def steps(mode=None):
    """The option that brings check and trace into the mode of this boot, or into @mode."""
    return {"steps": ["--steps"], "whole": []}[mode or MODE]


def check_argv(command, *options, mode=None):
    path = fresh("check.json")
    return path, [PFNWATCH, "check", *steps(mode), "--json", path, *options, "--", *command]


def check(command, *options, mode=None, patience=PATIENCE, **how):
    path, argv = check_argv(command, *options, mode=mode)
    checked = Checked(run(argv, patience=patience, **how), path)
    stepwise = {"--maps", "--claims", "miss-map", "miss-count", "--no-iommu-walk"}
    wanted = "steps" if stepwise & set(options) else mode or MODE
    equal("mode", checked.conclusion["mode"], wanted)
    return checked


def check_held(command, *options, told=lambda records, account: True):
    """
    A dmaclient that keeps what it has mapped until @told says that the records show enough of
    what its account says; on a busy machine that takes a while. What never comes, the judge of
    the records misses.
    """
    ready = fresh("held")
    path, argv = check_argv([*command, "--ready-file", ready, "--hold", 600], *options)

    def enough():
        if program.process.poll() is not None:
            return True
        if not os.path.exists(ready):
            return False
        whole = pathlib.Path(path).read_text().rpartition("\n")[0]
        return told(json_lines("the records so far", whole), json_lines(
            "the account so far", b"".join(line for _, line in list(program.lines)).decode()))
    with Background(argv) as program:
        try:
            wait_until("the client's mapping, and what is told of it", enough)
        except Failure:
            note("not told in time")
        # it hands that on to its command
        program.process.terminate()
        return Checked(program.end(), path)


def conclusion(records, code):
    """The last record, after what must be true of any."""
    holds("records", records, records)
    last = records[-1]
    equal("last record", last["type"], "conclusion")
    equal("conclusions", len(of_type(records, "conclusion")), 1)
    equal("exit code in the conclusion", last["exit_code"], code)
    pages = last["pages"]
    equal("the sum of all verdicts", sum(n for k, n in pages.items() if k != "seen"),
          pages["seen"])
    equal("records without a version", [r for r in records if "v" not in r], [])
    equal("hooks not attached", [h for h in last["hooks"] if not h["attached"]], [])
    return last


def equal_counts(last):
    """The kernel's tracepoints count the same calls and pages."""
    maps, unmaps = last["maps"], last["unmaps"]
    if last["mode"] == "whole":
        equal("second counts", {c[k] for c in (maps, unmaps) for k in c if k.startswith("second")},
              {None})
        return
    equal("second count of pages", maps["second_count_pages"], last["pages"]["seen"])
    equal("second count of map calls", maps["second_count_calls"], maps["calls"])
    equal("second count of unmap calls", unmaps["second_count_calls"], unmaps["calls"])
    equal("second count of unmapped pages", unmaps["second_count_pages"], unmaps["pages"])


def proven(last, code, pages, unmapped=None, known=0, behind=False):
    """Everything right, everything seen: @pages of them, to the last one.
    @known: pages that went stale as this kernel is known to let them.
    @behind: the ledger may have been read anew, there was no room for its records."""
    want = dict(seen=pages, match=pages - known, mismatch=0, stale=known, raced=0, unverified=0, lost=0)
    equal("pages", last["pages"], want)
    equal("conclusion", last["conclusion"], "proven")
    equal("exit code", code, 0)
    equal("lost", last["lost"], dict(records=0, programs_skipped=0, contexts_full=0))
    equal("broken rules", {k: n for k, n in last["rules"].items() if n}, {})
    if last.get("ledger") and not behind:
        equal("times that the ledger was behind", last["ledger"]["losses"], 0)
    claims = last["claims"]
    equal("claimed pages not proven",
          {k: claims[k] for k in ("mismatch", "raced", "unverified", "lost")},
          dict(mismatch=0, raced=0, unverified=0, lost=0))
    equal("claimed pages that match", claims["match"], claims["pages"])
    equal_counts(last)
    if unmapped is not None:
        equal("unmapped pages", last["unmaps"]["pages"], unmapped)


def trace(*options, mode=None):
    """pfnwatch trace in the background, attached."""
    ready = fresh("ready")
    return start_ready([PFNWATCH, "trace", *steps(mode), "--ready-file", ready, *options], ready)


SETTLED = 1.5   # seconds without another link: what is put off is attached one by one


def attached():
    """
    What sees page-table changes is attached once somebody uses VFIO: a client does, until no
    more of it comes. Returns how many pages that client mapped.
    """
    ready = fresh("ready")
    with start_ready([DMACLIENT, "--brief", "--ready-file", ready, "--hold", 600],
                     ready) as client:
        links, since = set(), time.monotonic()
        while time.monotonic() - since < SETTLED:
            now = _ids(_NEXT_ID["link"])
            if now != links:
                links, since = now, time.monotonic()
            time.sleep(0.1)
        client.process.terminate()
        done = client.end()
    equal("exit code of the first client", done.code, 0)
    return total(done.account)["pages"]


def interrupt(tracing, number=signal.SIGINT):
    """Ends a trace --json as Ctrl-C does; its records and its exit code."""
    tracing.process.send_signal(number)
    done = tracing.end()
    equal("standard error of trace --json", done.err, "")
    records = json_lines("trace --json", done.out)
    return records, conclusion(records, done.code), done.code


# --- what is left in the kernel ----------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_BPF = 321
_NEXT_ID = {"program": 11, "map": 12, "link": 31}


def _ids(command):
    """Every id, asked of the kernel itself: bpftool would show its own objects too."""
    attr = (ctypes.c_uint32 * 32)()
    found = set()
    while _libc.syscall(_SYS_BPF, command, ctypes.byref(attr), ctypes.sizeof(attr)) == 0:
        found.add(attr[1])
        attr[0] = attr[1]
    return found


def left():
    """All that pfnwatch could have left: BPF objects, patched functions, probes."""
    state = {(kind, i) for kind, command in _NEXT_ID.items() for i in _ids(command)}
    for name in ("enabled_functions", "kprobe_events", "uprobe_events"):
        path = pathlib.Path("/sys/kernel/tracing", name)
        if path.exists():       # under lockdown it does not
            # "iommu_map (1) R tramp: ...": counts are state, addresses are not
            state |= {(name, line.split(" tramp")[0]) for line in path.read_text().splitlines()}
    return frozenset(state)


untouched = frozenset()     # left() before any case ran


def nothing_left():
    """The kernel frees objects after a grace period: that may take a moment."""
    try:
        wait_until("what was attached is gone", lambda: left() == untouched, 30)
    except Failure:
        now = left()
        raise Failure(f"left in the kernel: {_short(sorted(now - untouched))}; "
                      f"gone: {_short(sorted(untouched - now))}") from None


def one_line(done, code, *parts):
    """An error as it should be: its code, one line that says what and how to mend it."""
    equal("exit code", done.code, code)
    lines = done.err.splitlines()
    equal("lines on standard error", len(lines), 1)
    holds("error line begins with 'pfnwatch: '", lines[0].startswith("pfnwatch: "), lines[0])
    for part in parts:
        holds(f"error line contains {part!r}", part in lines[0], lines[0])


# --- devices and modules -----------------------------------------------------------------------

@functools.cache
def pci_device(vendor_device):
    """The first PCI device with these ids, such as 1af4:1110."""
    for folder in sorted(pathlib.Path("/sys/bus/pci/devices").iterdir()):
        ids = [(folder / n).read_text().strip()[2:] for n in ("vendor", "device")]
        if ":".join(ids) == vendor_device:
            return folder.name
    raise Failure(f"no PCI device {vendor_device}")


@functools.cache
def other_device():
    """Where the second device is."""
    return ivshmem()[0]


def ivshmem():
    """A second device, in a group of its own; BAR 2 is plain memory."""
    bdf = pci_device("1af4:1110")
    folder = pathlib.Path("/sys/bus/pci/devices", bdf)
    driver = folder / "driver"
    if not driver.exists() or driver.resolve().name != "vfio-pci":
        (folder / "driver_override").write_text("vfio-pci\n")
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(bdf)
    return bdf, int((folder / "iommu_group").resolve().name)


def load_pfnscatter(pages, order):
    """The module with the scattered VM_PFNMAP device, loaded afresh."""
    if os.path.exists("/dev/pfnscatter"):
        must(["rmmod", "pfnscatter"])
    must(["insmod", os.environ["PFNW_PFNSCATTER"], f"npages={pages}", f"order={order}"])
    wait_until("/dev/pfnscatter", lambda: os.path.exists("/dev/pfnscatter"))
    pfnscatter_base.cache_clear()


@functools.cache
def pfnscatter_base():
    """The first frame of its memory."""
    return int(pathlib.Path("/sys/class/misc/pfnscatter/base_pfn").read_text(), 0)


class Liar:
    """The IOMMU driver that does not do what it was asked for (tests/modules/pfndiverge)."""

    PARAMETERS = pathlib.Path("/sys/module/pfndiverge/parameters")
    LIES = pathlib.Path("/sys/kernel/debug/pfndiverge/lies")

    def __init__(self, what, **parameters):
        self.what, self.parameters = what, parameters

    def __enter__(self):
        must(["insmod", os.environ["PFNW_PFNDIVERGE"],
              *(f"{k}={v}" for k, v in self.parameters.items())])
        self.tell(self.what)
        return self

    def __exit__(self, *_):
        must(["rmmod", "pfndiverge"])

    def tell(self, what):
        """From now on; "off" is the truth."""
        (self.PARAMETERS / "what").write_text(what)

    def get(self, parameter):
        return int((self.PARAMETERS / parameter).read_text(), 0)

    def lies(self):
        """Every lie so far, and nothing but those."""
        lies = [json.loads(line) for line in self.LIES.read_text().splitlines()]
        equal("lies on record", len(lies), self.get("hits"))
        return lies
