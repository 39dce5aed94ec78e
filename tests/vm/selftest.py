# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What the other cases rely on, seen from the host: the lab notices what goes wrong, and the
programs can be installed. tests/run runs these before anything else boots."""

import functools
import os
import pathlib
import shutil
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
    found = {"build/install": functools.partial(install, build)}
    for kernel in (*kernels, newest):
        found[f"{kernel}/lab/output-and-exit-code"] = functools.partial(through, kernel)
    for function in (complaint, panic, hang, useless_mutant):
        name = function.__name__.replace("_", "-")
        found[f"{kernels[-1]}/lab/{name}"] = functools.partial(function, kernels[-1])
    for function in (bench_check, bench_slowed):
        name = function.__name__.replace("_", "-")
        found[f"{kernels[-1]}/{name}"] = functools.partial(function, kernels[-1], build)
    return found
