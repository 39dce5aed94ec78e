# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Bad input: one line that says what to do, the documented exit code, nothing left attached."""

import functools
import json
import os
import pathlib

import kit
from kit import DMACLIENT, PFNWATCH, case, equal, holds

USAGE, INCOMPLETE, KERNEL, COMMAND = 2, 3, 4, 5


def a_dead_process():
    program = kit.Background(["true"])
    program.end()
    return program.pid


# name: (arguments, what the line must contain)
USAGE_ERRORS = {
    "unknown-verb": (["frobnicate"], ["frobnicate", "--help"]),
    "unknown-option-first": (["--frobnicate"], ["--frobnicate", "--help"]),
    "unknown-option-trace": (["trace", "--frobnicate"], ["--frobnicate", "--help"]),
    "unknown-option-check": (["check", "--frobnicate", "--", "true"], ["--frobnicate", "--help"]),
    "unknown-option-probe": (["probe", "--frobnicate"], ["--frobnicate", "--help"]),
    "missing-value": (["trace", "--pid"], ["--pid"]),
    "pid-no-number": (["trace", "--pid", "1x"], ["--pid 1x"]),
    "pid-zero": (["trace", "--pid", "0"], ["--pid 0"]),
    "pid-gone": (["trace", "--pid", a_dead_process], ["--pid", "no such process"]),
    "pid-and-command": (["check", "--pid", "1", "--", "true"], ["--pid"]),
    "comm-empty": (["trace", "--comm", ""], ["--comm"]),
    "comm-long": (["trace", "--comm", "sixteen-letters!"], ["--comm", "15"]),
    "group-no-number": (["trace", "--group", "one"], ["--group one"]),
    "group-absent": (["trace", "--group", "99999"], ["99999", "iommu_groups"]),
    "device-rubbish": (["trace", "--device", "edu"], ["--device edu", "lspci"]),
    "device-absent": (["trace", "--device", "0000:fe:1d.7"], ["0000:fe:1d.7", "lspci"]),
    "device-climbs": (["trace", "--device", "../../../pci/devices/0000:00:10.0"], ["--device"]),
    "device-and-group": (["trace", "--device", os.environ.get("LAB_EDU_BDF"), "--group", "0"],
                         ["group"]),
    "only-unknown": (["trace", "--only", "match,wrong"], ["wrong", "mismatch"]),
    "only-nothing": (["trace", "--only", ","], ["--only"]),
    "duration-zero": (["trace", "--duration", "0"], ["--duration 0"]),
    "duration-negative": (["trace", "--duration=-1"], ["--duration -1"]),
    "duration-text": (["trace", "--duration", "1s"], ["--duration 1s"]),
    "duration-endless": (["trace", "--duration", "inf"], ["--duration inf"]),
    "ring-size-small": (["trace", "--ring-size", "2048"], ["2048", "4096"]),
    "ring-size-odd": (["trace", "--ring-size", "5000"], ["5000", "power of two"]),
    "ring-size-huge": (["trace", "--ring-size", "99999999999999999999"], ["power of two"]),
    "ring-size-wraps": (["trace", "--ring-size", "17179869188G"], ["power of two"]),
    "contexts-zero": (["trace", "--contexts", "0"], ["--contexts 0"]),
    "argument-trace": (["trace", "qemu"], ["qemu", "check --"]),
    "argument-probe": (["probe", "now"], ["now"]),
    "no-command": (["check"], ["COMMAND"]),
    "no-command-dashes": (["check", "--"], ["COMMAND"]),
    "json-unwritable": (["check", "--json", "/nonexistent/x", "--", "true"],
                        ["/nonexistent/x", "No such file"]),
    "json-folder": (["check", "--json", "/tmp", "--", "true"], ["/tmp", "Is a directory"]),
    "ready-file-unwritable": (["check", "--ready-file", "/nonexistent/x", "--", "true"],
                              ["/nonexistent/x", "No such file"]),
    "command-not-found": (["check", "--", "no-such-command"], ["no-such-command", "PATH"]),
    "command-not-executable": (["check", "--", "/etc/passwd"], ["/etc/passwd", "executable"]),
}


def usage_error(arguments, parts):
    done = kit.run([PFNWATCH, *(a() if callable(a) else a for a in arguments)], patience=60)
    kit.one_line(done, USAGE, *parts)
    equal("standard output", done.out, "")
    kit.nothing_left()


for _name, (_arguments, _parts) in USAGE_ERRORS.items():
    case(f"bad-{_name}")(functools.partial(usage_error, _arguments, _parts))


@case("bad-nothing")
def no_arguments():
    done = kit.run([PFNWATCH])
    equal("exit code", done.code, USAGE)
    equal("standard output", done.out, "")
    holds("usage on standard error", done.err.startswith("Usage: pfnwatch"), done.err)


def error_record(done, code):
    """In JSON, too, the last word says why."""
    records = kit.json_lines("pfnwatch --json", done.out)
    equal("types", [r["type"] for r in records], ["error"])
    equal("exit code in JSON", records[0]["exit_code"], code)
    equal("message in JSON", f"pfnwatch: {records[0]['message']}", done.err.strip())


@case("bad-error-in-json")
def error_in_json():
    for arguments in (["trace", "--json", "--group", "99999"],
                      ["check", "--json", "-", "--group", "99999", "--", "true"],
                      ["check", "--json", "-", "--", "no-such-command"]):
        done = kit.run([PFNWATCH, *arguments])
        kit.one_line(done, USAGE)
        error_record(done, USAGE)


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@case("bad-not-root")
def not_root():
    for verb in (["probe"], ["trace"], ["check", "--", "true"]):
        kit.one_line(kit.run([*NOBODY, PFNWATCH, *verb]), USAGE, "root", "sudo")
    done = kit.run([*NOBODY, PFNWATCH, "trace", "--json"])
    kit.one_line(done, USAGE, "root")
    error_record(done, USAGE)
    kit.nothing_left()


def kernel_cannot(*parts):
    """All verbs say the same on a kernel that lacks something, and leave it alone."""
    for verb in (["trace"], ["check", "--", "true"], ["probe"]):
        kit.one_line(kit.run([PFNWATCH, *verb]), KERNEL, "this kernel cannot", *parts)
    done = kit.run([PFNWATCH, "trace", "--json"])
    kit.one_line(done, KERNEL)
    error_record(done, KERNEL)
    done = kit.run([PFNWATCH, "probe", "--json"])
    last = kit.json_lines("probe --json", done.out)[-1]
    equal("probe's last record", (last["type"], last["usable"], last["exit_code"]),
          ("probe", False, KERNEL))
    kit.nothing_left()


@case("bad-no-btf")
def no_btf():
    # an empty folder on top: to programs the kernel has no type information
    kit.must(["mount", "-t", "tmpfs", "none", "/sys/kernel/btf"])
    try:
        kernel_cannot("BTF", "CONFIG_DEBUG_INFO_BTF")
    finally:
        kit.must(["umount", "/sys/kernel/btf"])


@case("bad-lockdown")
def lockdown():
    holds("lockdown", "[confidentiality]" in
          pathlib.Path("/sys/kernel/security/lockdown").read_text(), "")
    kernel_cannot("lockdown", "integrity")


@case("bad-no-vfio")
def no_vfio():
    holds("VFIO is not loaded", not os.path.exists("/dev/vfio"), "/dev/vfio")
    kernel_cannot("vfio_iommu_type1", "modprobe")


@case("bad-command-fails")
def command_fails():
    """COMMAND's own failure counts when nothing worse was found: 5, and all is still proven."""
    checked = kit.check(["sh", "-c", f"{DMACLIENT} --layout anon --pages 251; exit 7"])
    equal("exit code", checked.code, COMMAND)
    equal("status of COMMAND", checked.conclusion["command_status"], 7)
    equal("conclusion", checked.conclusion["conclusion"], "proven")
    equal("pages", (checked.pages["seen"], checked.pages["match"]), (251, 251))
    holds("a line that says so", "pfnwatch: sh ended with 7\n" in checked.err, checked.err)
    checked = kit.check(["sh", "-c", "kill -SEGV $$"])
    equal("exit code", checked.code, COMMAND)
    equal("status of COMMAND", checked.conclusion["command_status"], 128 + 11)


@case("bad-empty")
def empty():
    """A check that saw no mapping proves nothing, unless that is allowed."""
    checked = kit.check(["true"])
    equal("exit code", checked.code, INCOMPLETE)
    equal("conclusion", checked.conclusion["conclusion"], "incomplete")
    holds("the reason", "no mapping was seen" in checked.err, checked.err)
    checked = kit.check(["true"], "--allow-empty")
    equal("exit code with --allow-empty", checked.code, 0)
    equal("conclusion with --allow-empty", checked.conclusion["conclusion"], "proven")


@case("bad-full-output")
def full_output():
    """Results that could not be written must not look like a success."""
    client = [DMACLIENT, "--layout", "scattered", "--pages", 251]
    done = kit.run([PFNWATCH, "check", "--maps", "--json", "/dev/full", "--", *client])
    equal("exit code of check", done.code, INCOMPLETE)
    lines = [line for line in done.err.splitlines() if line.startswith("pfnwatch: ")]
    equal("error lines", len(lines), 1)
    holds("the reason", "No space left on device" in lines[0], lines)
    for options in ([], ["--json"]):
        with open("/dev/full", "wb") as full:
            done = kit.run([PFNWATCH, "trace", *options, "--duration", "0.2"], stdout=full)
        kit.one_line(done, INCOMPLETE, "No space left on device")
    # a reader that is gone is the same
    script = f"{PFNWATCH} trace --duration 0.2 | true; echo ${{PIPESTATUS[0]}}"
    done = kit.run(["bash", "-c", script])
    equal("exit code with a closed pipe", done.out.strip(), str(INCOMPLETE))
    holds("the reason", "Broken pipe" in done.err, done.err)
    kit.nothing_left()


@case("bad-standard-output-is-the-commands")
def standard_output():
    """check leaves COMMAND's output alone, and with --json - its last line is the conclusion."""
    done = kit.run([PFNWATCH, "check", "--json", "-", "--", DMACLIENT, "--layout", "anon",
                    "--pages", "13", "--brief"])
    equal("exit code", done.code, 0)
    last = json.loads(done.out.splitlines()[-1])
    equal("last line", (last["type"], last["conclusion"]), ("conclusion", "proven"))
