"""
What QEMU itself does wrong, told from the guest's log.

A kernel that patches its code (static keys, trampolines) puts a breakpoint there first and takes it
away when all bytes are new. With a thread for each processor, QEMU 7.2 may translate the
breakpoint in one thread while another takes it away, and keeps that translation: the processor
meets, again and again, a breakpoint that is not there. A kernel from 6.3 on dies of an int3 that
nobody set. An older one steps back to run what is there now: forever. Nothing that runs in the
guest can cause it, or avoid it; processors that run in turns can.
"""

import re

DIED = re.compile(r"\bint3: 0000 \[#1\]")
LOCKUP = re.compile(r"soft lockup - CPU#(?P<cpu>\d+) stuck for \d+s! \[(?P<task>.*)\]")
REGISTERS = re.compile(r"(RIP: 0010:.*?R13: [^\n]*)", re.S)
STAMP = re.compile(r"^\[ *\d+\.\d+\] ", re.M)
# at RIP: what such places hold, no-operations of five and two bytes, a call, jumps; but no short jump
# back, which is how the kernel waits for something in a loop
PATCHED = re.compile(r"Code: .*<(0f> 1f 44 00 00|66> 90|e8>|e9>|eb> [0-7])")


def _lockups(text):
    """{(cpu, task): what each report says of the registers}"""
    found = {}
    text = STAMP.sub("", text)
    reports = list(LOCKUP.finditer(text))
    for report, after in zip(reports, [*reports[1:], None]):
        registers = REGISTERS.search(text, report.end(), after.start() if after else len(text))
        found.setdefault((report["cpu"], report["task"]), []).append(
            registers[1] if registers else "")
    return found


def stuck(text):
    """Who has been reported twice and does not come on; or None."""
    for (cpu, task), reports in _lockups(text).items():
        if len(reports) > 1:
            return f"processor {cpu} in {task}"
    return None


def fault(text):
    """How the guest ended by QEMU's fault; or None."""
    if DIED.search(text):
        return "a processor met a breakpoint that was gone, and the kernel died"
    for (cpu, _), reports in _lockups(text).items():
        # half a minute apart, and in no register any difference
        if len(reports) > 1 and reports[0] == reports[1] and PATCHED.search(reports[0]):
            return f"processor {cpu} meets a breakpoint that is gone, again and again"
    return None
