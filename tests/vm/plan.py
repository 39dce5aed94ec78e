# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""Which machines are booted, and which cases run on each."""

import dataclasses

import kit
import suites

KERNELS = ("6.1", "6.12")
IOMMUS = ("intel", "amd")

# Not in Debian 12's own suites: where it cannot be had its cases are skipped, the reason told.
NEWEST = "7.3"
ALL_KERNELS = (*KERNELS, NEWEST)
NEWEST_MUTANTS = ("no-write-check", "pre57-formula")
# Each start takes the verifier long there: variations that both older kernels show are not repeated.
NEWEST_WITHOUT = ("stale-tolerated", "stale-unheard", "diverge-off", "diverge-audit-size",
                  "diverge-audit-prot", "diverge-whole-off")

# a second device with a group of its own, whose BAR 2 is memory
IVSHMEM = ("-object memory-backend-ram,id=iv,share=on,size=4M "
           "-device ivshmem-plain,memdev=iv,addr=0x14")


@dataclasses.dataclass(frozen=True)
class Boot:
    name: str
    kernel: str
    iommu: str
    cases: tuple
    smp: int = 2
    la57: bool = True
    icount: bool = False
    vfio: bool = True
    mem: str = "4G"
    append: str = ""
    guest: bool = False     # clients make a virtual machine first: their mm has an MMU notifier
    mutant: str = ""
    mode: str = "steps"     # of check and trace, where a case does not choose
    # Its processors run at the same time, not in turns of 100 ms: what one thread has numbered
    # and another awaits would seem lost then, when the machine is busy.
    at_once: bool = False
    alone: bool = False     # the same, and no boot beside it
    allow: tuple = ()       # complaints of the kernel that the cases provoke
    timeout: int = 1200

    def is_short(self):
        """Whether it takes a few starts of pfnwatch, and nothing that goes on for long."""
        return len(self.cases) < 5 and not any("storm" in case for case in self.cases)

    def lab(self):
        """Options of scripts/lab run."""
        argv = ["--kernel", self.kernel, "--iommu", self.iommu, "--smp", str(self.smp),
                "--mem", self.mem, "--timeout", str(self.timeout), "--qemu", IVSHMEM]
        argv += ["--append", self.append] if self.append else []
        argv += [f"--allow-splat={regex}" for regex in self.allow]
        argv += [] if self.la57 else ["--no-la57"]
        argv += ["--icount"] if self.icount else []
        argv += [] if self.vfio else ["--no-vfio"]
        argv += [] if self.at_once or self.alone or self.smp == 1 else ["--in-turn"]
        return argv


def cases(*prefixes):
    """Registered cases whose names begin so, in the order of registration."""
    found = tuple(n for n in kit.CASES if n.startswith(prefixes))
    missing = [p for p in prefixes if not any(n.startswith(p) for n in found)]
    assert not missing, missing
    return found


# type1 asks for a page that is not translated any more; Intel's driver finds its entry taken
LIED_TO = dict(timeout=1200, allow=(r"RIP: .*vfio_unmap_unpin\+",
                                    r"RIP: .*(__domain_mapping|intel_iommu_map_pages)(\.cold)?\+"))

HUGE = dict(mem="6G", append="hugepagesz=1G hugepages=2")


def boots():
    """Every boot of the whole test; a case runs once in each boot that names it."""
    suites.load()
    plan = []

    def boot(name, kernel, iommu, *prefixes, **how):
        found = cases(*prefixes)
        if kernel == NEWEST:
            found = tuple(c for c in found if c not in NEWEST_WITHOUT)
        plan.append(Boot(name, kernel, iommu, found, **how))

    kernel_says_no = cases("bad-lockdown", "bad-no-vfio")
    bad = tuple(c for c in cases("bad-") if c not in kernel_says_no)
    for kernel in KERNELS:
        for iommu in IOMMUS:
            here = f"{kernel}/{iommu}"
            # each mode on each kernel and on each IOMMU
            mode = "whole" if (kernel == KERNELS[0]) == (iommu == IOMMUS[0]) else "steps"
            # an audit's walks are the same code whoever asks: the one IOMMU here, the other there
            audits = ("audit-layout", "ls-") if mode == "steps" else ("ls-ledger",)
            # what a trace prints does not depend on the IOMMU, nor where the programs search
            once = (("trace-maps-claims", "trace-text") if mode == "steps" else ("beside-",))
            boot(here, kernel, iommu, "layout", "bar-huge", "qemu-guest", "probe", *once, *audits,
                 mode=mode, at_once=True, **HUGE)
        # What does not depend on the IOMMU: on one of them, not the same on both kernels.
        one, other = IOMMUS if kernel == KERNELS[0] else reversed(IOMMUS)
        mode, other_mode = ("whole", "steps") if kernel == KERNELS[0] else ("steps", "whole")
        words = (*bad, "help", "no-colours", "json-versions", "trace-filters")
        if kernel == KERNELS[0]:    # what words are understood does not depend on the kernel
            boot(f"{kernel}/{one}/input", kernel, one, *words, "trace-quiet-duration",
                 "audit-empty", "audit-input", "audit-rounds", mode=mode)
        boot(f"{kernel}/{other}/limits", kernel, other, "trace-latency-host", "ring-",
             "contexts-", "blind-", "two-at-once", "killed-", "interrupted-", "one-gib-",
             "budget", mem="5G", at_once=True)
        boot(f"{kernel}/{one}/storm", kernel, one, "storm", mode=mode, at_once=True)
        boot(f"{kernel}/{other}/storm", kernel, other, "storm", mode=other_mode,
             at_once=True)
        boot(f"{kernel}/{other}/stale", kernel, other, "stale-", "ledger-cycles", mode=mode,
             at_once=True)
        boot(f"{kernel}/{other}/audit", kernel, other, "audit-qemu", "audit-many", "audit-stale",
             "audit-narrowed", "audit-killed", "audit-rights", "audit-while", "audit-storm",
             mem="6G", at_once=True)
        boot(f"{kernel}/{other}/guest", kernel, other, "notified-stale", "notified-storm",
             *(("notified-and-not", "notified-others") if kernel != KERNELS[0] else ()),
             mode=mode, guest=True, at_once=True)
        boot(f"{kernel}/{one}/diverge", kernel, one, "diverge-", **LIED_TO)
        boot(f"{kernel}/{one}/smp1-4-levels", kernel, one, "layout", "probe", smp=1, la57=False,
             mode=other_mode, **HUGE)
        boot(f"{kernel}/{one}/icount", kernel, one, "trace-latency-exact", "trace-idle-exact",
             icount=True, smp=1, mode=mode)
        boot(f"{kernel}/{one}/audit-cost", kernel, one, "audit-cost", icount=True, smp=1, mem="5G",
             timeout=1500)
        boot(f"{kernel}/{one}/lockdown", kernel, one, "bad-lockdown",
             append="lockdown=confidentiality")
        boot(f"{kernel}/{one}/no-vfio", kernel, one, "bad-no-vfio", vfio=False)
        # (one thing after the other: a second processor would only cost)
        for name in suites.mutants():
            extra = ("only-mismatch",) if name == "map-shifted" else ()
            if name == "skip-unmap" and one == "amd":
                extra = ("overlap",)
            boot(f"{kernel}/{one}/{name}", kernel, one, f"{name}", *extra, smp=1, mutant=name)
    # What is new: other functions in mm and iommu, and an IOMMU without tables in memory.
    some = ("layout", "bar-huge", "probe", "ls-ledger")
    boot("6.12/virtio", "6.12", "virtio", *some, mode="whole", at_once=True, **HUGE)
    boot(f"{NEWEST}/amd/diverge", NEWEST, "amd", "diverge-", **LIED_TO)
    boot(f"{NEWEST}/intel/stale", NEWEST, "intel", "stale-", "budget", "interrupted-",
         mode="whole", at_once=True)
    boot(f"{NEWEST}/amd/guest", NEWEST, "amd", "notified-", mode="whole", guest=True,
         at_once=True)
    boot(f"{NEWEST}/intel", NEWEST, "intel", *some, "beside-", "qemu-guest", mode="whole",
         at_once=True, **HUGE)
    boot(f"{NEWEST}/amd", NEWEST, "amd", *some, at_once=True, **HUGE)
    boot(f"{NEWEST}/virtio/smp1-4-levels", NEWEST, "virtio", *some, "qemu-guest",
         "trace-maps-claims", "trace-text", smp=1, la57=False, **HUGE)
    # Looked at without a lock: what goes wrong needs two processors that really do run at once.
    boot(f"{NEWEST}/virtio/storm", NEWEST, "virtio", "storm", "tree-hidden", mode="whole",
         alone=True)
    for name in NEWEST_MUTANTS:
        boot(f"{NEWEST}/intel/{name}", NEWEST, "intel", name, smp=1, mutant=name)
    boot(f"{NEWEST}/intel/map-fails", NEWEST, "intel", "map-fails", mutant="skip-unmap")
    names = [b.name for b in plan]
    assert len(set(names)) == len(names), names
    return plan
