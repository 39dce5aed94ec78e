# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What the other cases rely on, seen from the host: the lab notices what goes wrong, and the
programs can be installed. tests/run runs these before anything else boots."""

import functools
import os
import pathlib
import subprocess
import tempfile


class Wrong(Exception):
    pass


def lab(*arguments):
    for _ in range(3):
        done = subprocess.run(["scripts/lab", *arguments], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if "int3: 0000" not in done.stderr:     # the emulator's own fault: see tests/run
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


def cases(kernels, newest, build):
    """Name and function of each; what does not depend on the kernel is shown on one."""
    found = {"build/install": functools.partial(install, build)}
    for kernel in (*kernels, newest):
        found[f"{kernel}/lab/output-and-exit-code"] = functools.partial(through, kernel)
    for function in (complaint, panic, hang, useless_mutant):
        name = function.__name__.replace("_", "-")
        found[f"{kernels[-1]}/lab/{name}"] = functools.partial(function, kernels[-1])
    return found
