# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What the other cases rely on, seen from the host: the lab notices what goes wrong, and the
programs can be installed. tests/run runs these before anything else boots."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lab.d"))

import emulator     # noqa: E402

RB_HALT_SYSTEM = 0xcdef0123     # <linux/reboot.h>


class Wrong(Exception):
    pass


def lab(*arguments):
    for _ in range(3):
        done = subprocess.run(["scripts/lab", *arguments], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if "lab: QEMU's own fault" not in done.stderr:
            break
    return done.returncode, done.stdout, done.stderr


def expect(got, code, said, out=None):
    if got[0] != code or said not in got[2] or out not in (None, got[1]):
        raise Wrong(f"expected exit code {code}, {said!r} on standard error"
                    f"{'' if out is None else f', {out!r} on standard output'}; got {got}")


def through(kernel):
    """Output, errors and the exit code come through as they are; CI and NO_COLOR go in."""
    script = 'echo out; echo err >&2; [ -n "$LAB_EDU_BDF" ] || exit 9; uname -r; exit 42'
    got = lab("run", "--kernel", kernel, "--", "sh", "-c", script)
    release = got[1].split("\n")[-2:][0]
    expect(got, 42, "err\n", f"out\n{release}\n")
    if not release.startswith(f"{kernel}."):
        raise Wrong(f"kernel {kernel} is {release}")


def complaint(kernel):
    """A guest whose kernel complains has failed, whatever its command says."""
    script = "echo 'WARNING: CPU: 0 PID: 1 at mm/nowhere.c:1' >/dev/kmsg"
    expect(lab("run", "--kernel", kernel, "--", "sh", "-c", script), 125, "mm/nowhere.c:1")


def panic(kernel):
    script = "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"
    expect(lab("run", "--kernel", kernel, "--", "sh", "-c", script), 125, "panic")


def hang(kernel):
    expect(lab("run", "--kernel", kernel, "--timeout", "20", "--", "sleep", "1000"), 124, "20 s")


LOCKUP = """\
watchdog: BUG: soft lockup - CPU#1 stuck for {seconds}s! [storm:384]
CPU: 1 PID: 384 Comm: storm Tainted: G OEL 6.1.0-56-amd64 #1 Debian 6.1.192-2
RIP: 0010:vfio_unmap_unpin+0x0/0x370 [vfio_iommu_type1]
Code: cc cc cc cc 66 66 2e 0f 1f 84 00 00 00 00 00 90 {code} 41 57 b9 06 00 00 00
RSP: 0018:ff428121c03dbd50 EFLAGS: 00000246
RAX: 0000000000000000 RBX: ff1150c559941900 RCX: {rcx}
R13: ff1150c5599415a0 R14: 000000001280b000 R15: ff1150c559941900
Call Trace:
RIP: 0033:0x7f7d2435fd6b
R13: {user}
"""
NOP = "<0f> 1f 44 00 00"


def lockup(seconds, code=NOP, rcx="ff1150c559941c61", user=0):
    text = LOCKUP.format(seconds=seconds, code=code, rcx=rcx, user=user)
    return "".join(f"[  4{seconds}.969{n:03}] {line}\n"
                   for n, line in enumerate(text.splitlines()))


def stuck(kernel):
    """A processor that does not come on: the guest is given up long before its time is over."""
    script = "\n".join(f"echo '<0>{line}' >/dev/kmsg" for text in (
        lockup(26), lockup(52, rcx="0")) for line in emulator.STAMP.sub("", text).splitlines())
    got = lab("run", "--kernel", kernel, "--timeout", "300", "--", "sh", "-c",
              f"{script}\nsleep 1000")
    expect(got, 125, "does not come on: processor 1 in storm:384")
    if "QEMU's own fault" in got[2]:
        raise Wrong(f"a loop of the kernel's is taken for QEMU's: {got}")


def emulator_faults():
    """A processor that QEMU keeps at a breakpoint is told from one that the kernel keeps busy."""
    again = dict(dies="int3: 0000 [#1] PREEMPT SMP NOPTI\n", nop=lockup(26) + lockup(52, user=1),
                 call=2 * lockup(26, "<e8> 1b f1 9e 00"), short=2 * lockup(26, "<66> 90"))
    other = dict(once=lockup(26), loop=lockup(26) + lockup(52, rcx="0"),
                 unpatched=2 * lockup(26, "<f3> 90"), two_bytes=2 * lockup(26, "<66> 0f"), waits=2 * lockup(26, "<eb> fe"),
                 nothing="", bug="BUG: soft lockup - CPU#1 stuck for 26s! [storm:384]\n" * 2)
    got = {name: emulator.fault(text) is not None for name, text in (again | other).items()}
    if got != dict.fromkeys(again, True) | dict.fromkeys(other, False):
        raise Wrong(f"taken for QEMU's fault: {got}")


def still(kernel):
    """A guest whose processors are halted is given up, if that is asked for; one that waits is not."""
    halt = f"import ctypes\nctypes.CDLL(None).reboot(ctypes.c_int({RB_HALT_SYSTEM}))"
    expect(lab("run", "--kernel", kernel, "--still", "10", "--timeout", "300", "--", "python3",
               "-c", halt), 125, "it stands still")
    expect(lab("run", "--kernel", kernel, "--still", "10", "--timeout", "300", "--", "sleep",
               "25"), 0, "", "")


def useless_mutant(kernel):
    """A mutant that changes nothing would be caught by every test."""
    head = "# module: vfio_iommu_type1\n# source: drivers/vfio/vfio_iommu_type1.c\n"
    for change, said in (("s/no such text/at all/\n", "nothing"), ("1i#error no\n", "error")):
        with tempfile.NamedTemporaryFile("w", suffix=".sed") as file:
            file.write(head + change)
            file.flush()
            expect(lab("mutant", "--kernel", kernel, file.name), 125, said, "")


def install(build):
    """make install puts one program where it was told to."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["make", "install", f"BUILD={build}", f"DESTDIR={folder}", "PREFIX=/usr"],
                       stdout=subprocess.DEVNULL, check=True)
        files = [str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("*")
                 if p.is_file()]
        if files != ["usr/sbin/pfnwatch"]:
            raise Wrong(f"expected usr/sbin/pfnwatch, got {files}")
        program = os.path.join(folder, files[0])
        done = subprocess.run([program, "--version"], text=True, stdout=subprocess.PIPE,
                              check=True)
        if not done.stdout.startswith("pfnwatch "):
            raise Wrong(f"--version says {done.stdout!r}")


def bench(build, kernel):
    return subprocess.run(["scripts/bench", "--check", "--kernel", kernel, "--build", str(build)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def bench_check(kernel, build):
    """No page costs more than what is committed."""
    done = bench(build, kernel)
    if done.returncode or "ok: Linux" not in done.stdout:
        raise Wrong(f"exit code {done.returncode}: {done.stdout}")


def bench_slowed(kernel, build):
    """A program that copies each page table twice is caught."""
    with tempfile.TemporaryDirectory(dir=build) as folder:
        for name in ("bpf", "user"):
            shutil.copytree(name, f"{folder}/{name}")
        for name in ("Makefile", "vmlinux.h"):
            shutil.copy(name, folder)
        source = pathlib.Path(folder, "bpf/both.bpf.h")
        line = "\tif (bpf_probe_read_kernel(b->cpu_l1, bytes, "
        text = source.read_text()
        if text.count(line) != 1:
            raise Wrong(f"{source.name} has not one line '{line.strip()}'")
        source.write_text(text.replace(line, line.replace("\tif (", (
            "\tbpf_probe_read_kernel(b->cpu_l1, bytes, (void *)table);\n\tif ("))))
        subprocess.run(["make", "-s", "-C", folder, "all"], stdout=subprocess.DEVNULL, check=True,
                       env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")})
        slow = pathlib.Path(folder, "build")
        (slow / "tests").mkdir(exist_ok=True)
        for name in ("dmaclient", "mmops"):
            shutil.copy(f"{build}/tests/{name}", slow / "tests")
        done = bench(slow, kernel)
    if done.returncode != 1 or f"worse: Linux {kernel}, contig" not in done.stdout:
        raise Wrong(f"expected exit code 1 and a worse 'contig', got {done.returncode}: "
                    f"{done.stdout}")


def cases(kernels, newest, build):
    """Name and function of each; what does not depend on the kernel is shown on one."""
    found = {"build/install": functools.partial(install, build),
             "build/emulator-faults": emulator_faults}
    for kernel in (*kernels, newest):
        found[f"{kernel}/lab/output-and-exit-code"] = functools.partial(through, kernel)
    for function in (complaint, panic, hang, stuck, still, useless_mutant):
        name = function.__name__.replace("_", "-")
        found[f"{kernels[-1]}/lab/{name}"] = functools.partial(function, kernels[-1])
    for function in (bench_check, bench_slowed):
        name = function.__name__.replace("_", "-")
        found[f"{kernels[-1]}/{name}"] = functools.partial(function, kernels[-1], build)
    return found
