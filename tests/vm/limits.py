# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Under load, at the end of its buffers, beside another one, and killed."""

import os
import pathlib
import re
import signal
import sys

import kit
from kit import DMACLIENT, PFNWATCH, case, equal, holds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/budget.d"))
import figures      # noqa: E402

RSS_MIB = 64
RECORDED_CLANG = 14     # others are those of scripts/budget


@case("ring-smallest")
def ring_smallest():
    """A ring buffer that cannot hold what is shown: incomplete, and the loss is exact."""
    pages = 65537
    checked = kit.check([DMACLIENT, "--layout", "scattered", "--pages", pages, "--brief"],
                        "--maps", "--ring-size", 4096)
    equal("pages in the account", kit.total(checked.account)["pages"], pages)
    equal("exit code", checked.code, 3)
    equal("conclusion", checked.conclusion["conclusion"], "incomplete")
    equal("pages seen", checked.pages["seen"], pages)
    holds("lost pages", checked.pages["lost"] > 0, checked.pages)
    equal("wrong pages", (checked.pages["mismatch"], checked.pages["stale"]), (0, 0))
    holds("lost records", checked.conclusion["lost"]["records"] > 0, checked.conclusion["lost"])
    kit.equal_counts(checked.conclusion)
    # what is not lost has arrived
    maps = [m for m in kit.of_type(checked.records, "map") if not m["internal"]]
    equal("pages in records", sum(m["match"] for m in maps), checked.pages["match"])
    holds("the loss on standard error", f"{checked.pages['lost']} lost" in checked.err,
          checked.err)
    kit.note(f"{checked.pages['match']} match + {checked.pages['lost']} lost = {pages}")


@case("ring-smallest-quiet")
def ring_smallest_quiet():
    """Matches are decided in the kernel: without --maps the smallest ring is large enough."""
    checked = kit.check([DMACLIENT, "--layout", "scattered", "--pages", 65537, "--brief"],
                        "--ring-size", 4096)
    kit.proven(checked.conclusion, checked.code, 65537, unmapped=65537, behind=True)


@case("contexts-smallest")
def contexts_smallest():
    """More threads in calls than contexts: never a wrong count, never silently."""
    checked = kit.check([DMACLIENT, "--layout", "anon", "--pages", 257, "--maps", 31,
                         "--threads", 5], "--contexts", 1)
    equal("pages in the account", kit.total(checked.account)["pages"], 31 * 257)
    equal("pages seen", checked.pages["seen"], 31 * 257)
    equal("wrong pages", (checked.pages["mismatch"], checked.pages["stale"]), (0, 0))
    full = checked.conclusion["lost"]["contexts_full"]
    complete = checked.pages["match"] == 31 * 257
    equal("exit code", checked.code, 0 if complete and not full else 3)
    kit.note(f"{checked.pages['match']} match, {checked.pages['unverified']} unverified, "
             f"{full} times no context")


@case("one-gib-scattered")
def one_gib_scattered():
    """262,144 runs with default buffers: proven, nothing lost, little memory."""
    pages = 262144
    status = kit.fresh("status")
    # the shell's parent is pfnwatch; when the client ends everything was mapped and unmapped
    script = (f"{DMACLIENT} --layout scattered --pages {pages} --brief; code=$?; "
              f"cat /proc/$PPID/status >{status}; exit $code")
    checked = kit.check(["sh", "-c", script])
    equal("pages in the account", kit.total(checked.account)["pages"], pages)
    kit.proven(checked.conclusion, checked.code, pages, unmapped=pages)
    holds("calls: no two pages in one", checked.conclusion["maps"]["calls"] > 0.99 * pages,
          checked.conclusion["maps"])
    text = pathlib.Path(status).read_text()
    equal("the process that was asked", re.search(r"^Name:\s+(\w+)", text)[1], "pfnwatch")
    peak = int(re.search(r"^VmHWM:\s+(\d+) kB", text, re.M)[1]) / 1024
    holds(f"peak resident memory in MiB, at most {RSS_MIB}", peak <= RSS_MIB, peak)
    kit.note(f"{checked.conclusion['maps']['calls']} runs, peak resident {peak:.1f} MiB")


def blind(*lies):
    """Programs that miss every iommu_map() whose IOVA page number is 3 modulo 7."""
    pages = 1009
    options = [word for lie in lies for word in ("--lie", lie)]
    checked = kit.check([DMACLIENT, "--layout", "scattered", "--pages", pages,
                         "--iova", "0x10000000"], *options)
    missed = sum((0x10000000 // 4096 + i) % 7 == 3 for i in range(pages))
    equal("exit code", checked.code, 3)
    equal("pages seen", checked.pages["seen"], pages)
    equal("lost pages", checked.pages["lost"], missed)
    equal("matching pages", checked.pages["match"], pages - missed)
    kit.note(f"{missed} of {pages} pages missed on purpose, {missed} reported lost")


@case("blind-hook")
def blind_hook():
    """A mapping that the first hook misses is told by the second count."""
    blind("miss-map")


@case("blind-hook-and-count")
def blind_hook_and_count():
    """A mapping that both miss is told by the third: the size of VFIO's own vfio_dma."""
    blind("miss-map", "miss-count")


@case("two-at-once")
def two_at_once():
    """A trace of everything and two checks, each of its own client: all count right."""
    _, group = kit.ivshmem()
    # each client waits until both are watched
    gate = kit.fresh("gate")
    script = f'until [ -e {gate} ]; do sleep 0.05; done; exec "$@"'
    ready = [kit.fresh("ready"), kit.fresh("ready")]
    first = ["sh", "-c", script, "sh", DMACLIENT, "--layout", "anon,scattered", "--pages", "1009",
             "--maps", "5"]
    second = ["sh", "-c", script, "sh", DMACLIENT, "--layout", "shmem,ro", "--pages", "1013",
              "--maps", "3", "--group", str(group)]
    programs = [kit.trace("--json")]
    try:
        paths = []
        for command, file in zip((first, second), ready):
            path, argv = kit.check_argv(command, "--ready-file", file)
            paths.append(path)
            programs.append(kit.Background(argv))
        for file in ready:
            kit.wait_until("both checks are attached", lambda file=file: os.path.exists(file))
        pathlib.Path(gate).touch()
        checks = [kit.Checked(p.end(), path) for p, path in zip(programs[1:], paths)]
        _, last, code = kit.interrupt(programs[0])
    finally:
        for program in programs:
            program.__exit__()
    want = [2 * 5 * 1009, 2 * 3 * 1013]
    for checked, pages in zip(checks, want):
        equal("pages in the account", kit.total(checked.account)["pages"], pages)
        kit.proven(checked.conclusion, checked.code, pages, unmapped=pages)
    kit.proven(last, code, sum(want), unmapped=sum(want))
    kit.note(f"{want[0]} and {want[1]} pages, {sum(want)} in the trace of both")


def killed(start, moment):
    """Kills a pfnwatch by SIGKILL at a moment; nothing of it stays in the kernel."""
    program = start()
    try:
        kit.wait_until("the moment", lambda: moment(program))
        holds("alive when it is killed", program.process.poll() is None, program.argv)
        program.process.kill()
        done = program.end()
        equal("exit code", done.code, -9)
        kit.nothing_left()
    finally:
        program.__exit__()


@case("killed-while-loading")
def killed_while_loading():
    for programs in (1, 12):    # the first one; in the middle
        def moment(_, programs=programs):
            kinds = [kind for kind, _ in kit.left() - kit.untouched]
            return kinds.count("program") >= programs
        killed(lambda: kit.Background([PFNWATCH, "trace"]), moment)


@case("killed-while-attaching")
def killed_while_attaching():
    killed(lambda: kit.Background([PFNWATCH, "trace"]),
           lambda _: any(kind == "link" for kind, _ in kit.left() - kit.untouched))


@case("killed-while-mapping")
def killed_while_mapping():
    """The client goes on as if nothing had been."""
    go = kit.waiting([DMACLIENT, "--layout", "scattered", "--pages", 4099, "--repeat", 5,
                      "--maps", 3])

    def start():
        tracing = kit.trace("--json", "--maps", "--claims")
        kit.release(go)
        return tracing
    with go:
        killed(start, lambda tracing: len(tracing.lines) > 1000)
        client = go.end()
        equal("exit code of the client", client.code, 0)
        equal("pages of the client", kit.total(client.account)["pages"], 5 * 3 * 4099)


@case("killed-while-checking")
def killed_while_checking():
    """COMMAND is an orphan then, with everything mapped, and can still end well."""
    ready, account = kit.fresh("ready"), kit.fresh("account")
    killed(lambda: kit.Background(
        # the orphan would keep its output open
        ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", PFNWATCH, "check", "--", DMACLIENT,
         "--account", account, "--pages", 509, "--ready-file", ready, "--hold", 600]),
        lambda _: os.path.exists(ready))

    def records():
        return kit.json_lines("the account", pathlib.Path(account).read_text())
    os.kill(kit.of_type(records(), "map")[0]["pid"], signal.SIGTERM)
    kit.wait_until("the end of COMMAND", lambda: kit.of_type(records(), "total"))
    equal("unmapped pages", kit.total(records())["unmapped_pages"], 509)


@case("interrupted-check")
def interrupted_check():
    """Ctrl-C ends COMMAND, and the conclusion is still drawn."""
    ready = kit.fresh("ready")
    path, argv = kit.check_argv([DMACLIENT, "--pages", "127", "--ready-file", ready,
                                 "--hold", "600"])
    with kit.start_ready(argv, ready) as program:
        program.process.terminate()
        checked = kit.Checked(program.end(), path)
    kit.proven(checked.conclusion, checked.code, 127, unmapped=127)
    kit.nothing_left()


@case("budget")
def budget():
    """No program costs the verifier much more than is committed, or comes near its limits."""
    done = kit.run([PFNWATCH, "probe", "--budget", "--json"], patience=300)
    programs = figures.of_records(kit.json_lines("probe --budget", done.out))
    holds("programs", programs, done.err)
    version = kit.BUILD / "clang-version"
    holds("a note of which clang built the programs (make -B)", version.exists(), str(version))
    clang = int(version.read_text().split(".")[0])
    committed = None
    if clang == RECORDED_CLANG:
        committed = figures.load().get((kit.KERNEL, clang), ({}, {}))[1]
    wrong = figures.offences(programs, committed)
    if wrong:
        raise kit.Failure("\n".join(wrong))
    equal("exit code", done.code, 0)
    top = max(programs, key=lambda name: programs[name]["processed"])
    deepest = max(programs, key=lambda name: programs[name]["chain"])
    kit.note(f"{len(programs)} programs, {top} processed {programs[top]['processed']}, "
             f"{deepest} stack {programs[deepest]['chain']}, clang {clang}"
             f"{'' if committed else ': only the absolute limits'}")
