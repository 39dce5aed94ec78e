# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""The tables of docs/cost.md, and what the goals are."""

import data

# what may be added to the map path, in percent; with the ledger 1.8 times as much
GOALS = {"contig": 2.5, "scattered": 8.0, "thp": 2.5}
WITH_LEDGER = 1.8
GOAL_OTHERS = 0.3

UNUSED, USED = "pfnwatch trace, nobody uses VFIO", "pfnwatch trace, VFIO is used"
BY_GUEST, A_GUEST = "pfnwatch trace, a guest uses VFIO", "pfnwatch trace, itself a guest"
OTHERS = {"nothing, again": "nothing",      # how much of a difference is chance
          UNUSED: "nothing",
          BY_GUEST: "nothing, a guest uses VFIO",
          A_GUEST: "nothing, itself a guest",
          USED: "nothing, VFIO is used",
          "pfnwatch audit --watch 1, VFIO is used": "nothing, VFIO is used"}
OTHERS_GOALS = {"nobody uses VFIO": UNUSED, "guests of KVM use it": BY_GUEST,
                "the same, and it is a guest itself": A_GUEST, "a process without KVM does": USED}
BASELINES = {UNUSED: ("nothing", "nothing, again"),
             BY_GUEST: ("nothing, a guest uses VFIO", "nothing, a guest uses VFIO, again"),
             A_GUEST: ("nothing, itself a guest",), USED: ("nothing, VFIO is used",)}
A_FIFTH = 0.2
FLOOR = ": [the floor](limit.md#where-ours-stands)"

FULL, BARE = "pfnwatch trace", "pfnwatch trace --no-ledger"
CHECK, FRESH = "pfnwatch check, a new process", "nothing, a new process"
BPFTRACE = "bpftrace, a new process"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


def more(added, base):
    return "—" if added is None else f"{added:+.1f} ({100 * added / base:+.1f} %)"


def large(n):
    return "—" if n is None else f"{n / 1e9:.2f} G" if n >= 1e9 else f"{n / 1e6:.1f} M"


def in_order(names):
    """Kernels, each once, the oldest first."""
    return sorted(set(names), key=lambda k: [int(n) for n in k.split(".")])


def kernels(boots, part):
    return in_order(k for k, p in boots if p == part)


def goals(boots):
    rows = []
    for kernel in in_order(k for k, p in boots if p in ("goals", "layouts")):
        boot = boots.get((kernel, "layouts")) or boots[kernel, "goals"]
        for layout, goal in GOALS.items():
            base = boot.pick("nothing", "map", layout=layout)
            for tool, most in ((BARE, goal), (FULL, goal * WITH_LEDGER)):
                add, _ = data.added(boot, tool, "map", layout=layout)
                met = add is not None and 100 * add <= most * base
                rows.append([kernel, layout, f"{base:.1f}", f"`{tool}`", more(add, base),
                             f"{most:.1f} %", "yes" if met else "**no**"])
    return table(["Linux", "layout", "nobody", "watched by", "adds", "goal", "met"], rows)


def goals_of_others(boots):
    """Of all operations the one that suffers most. What measuring again gives is no cost."""
    rows = []
    for kernel in kernels(boots, "others"):
        boot = boots[kernel, "others"]
        for what, tool in OTHERS_GOALS.items():
            worst = None
            for (op,) in boot.keys("op"):
                base = [b for b in (boot.pick(t, "insns", op=op) for t in BASELINES[tool])
                        if b is not None]
                with_it = boot.pick(tool, "insns", op=op)
                if base and with_it is not None:
                    added = with_it - max(base)
                    worst = max(worst or (-100, ""), (100 * added / max(base), op, added))
            if worst:
                share, op, added = worst
                rows.append([kernel, what, op, f"{added:+,.0f} ({share:+.2f} %)",
                             f"{GOAL_OTHERS} %", "yes" if share <= GOAL_OTHERS else
                             f"**no**{FLOOR if tool in (A_GUEST, USED) else ''}"])
    return table(["Linux", "a process without DMA", "its dearest operation", "adds", "goal", "met"],
                 rows)


def every_layout(boots, kernel, what):
    boot = boots[kernel, "layouts"]
    tools = [t for t in boot.tool_names() if t != "nothing" and "a new process" not in t]
    rows = []
    for (layout,) in boot.keys("layout"):
        base = boot.pick("nothing", what, layout=layout)
        row = [layout, f"{base:.1f}"]
        for tool in tools:
            add, _ = data.added(boot, tool, what, layout=layout)
            row.append("—" if add is None else f"{add:+.1f}")
        rows.append(row)
    short = [t.replace("pfnwatch ", "").replace("--no-iommu-walk --no-ledger", "--no-…")
             for t in tools]
    return table(["layout", "nobody", *short], rows)


def tools(boots, kernel):
    rows = []
    for name, t in boots[kernel, "layouts"].tools.items():
        if name in ("nothing", FRESH):
            continue
        if "error" in t:
            rows.append([f"`{name}`", f"could not be measured: {t['error'][:90]}", *[""] * 5])
            continue
        lost = t.get("lost", t.get("lost_chunks"))
        work = t.get("loader_per_page")
        rows.append([f"`{name}`", large(t.get("attach_insns")), f"{t['peak_kib'] / 1024:.1f} MiB",
                     "—" if work is None else f"{work:.0f}",
                     f"{t['seen']:,} pages" if "seen" in t else f"{t['events']:,} events",
                     f"{lost:,}", t.get("conclusion", "—")])
    return table(["tool", "to load and attach", "peak memory", "its own, per page", "saw", "lost",
                  "concluded"], rows)


def against_bpftrace(boots):
    rows = []
    for kernel in kernels(boots, "layouts"):
        boot = boots[kernel, "layouts"]
        for layout in GOALS:
            row, adds = [kernel, layout], []
            for tool in (BPFTRACE, CHECK):
                add, base = data.added(boot, tool, "map", FRESH, layout=layout)
                lost = boot.tools.get(tool, {}).get("lost")
                if None in (add, lost):
                    break
                adds.append(add)
                row += [more(add, base), f"{lost:,}"]
            else:
                share = adds[1] / adds[0] if adds[0] > 0 else None
                rows.append([*row, "—" if share is None else f"{share:.2f}",
                             "—" if share is None else "yes" if share <= A_FIFTH else
                             f"**no**{FLOOR}"])
    return table(["Linux", "layout", "bpftrace adds", "lost, of all three", "`check` adds", "lost",
                  "ours of bpftrace's", f"at most {A_FIFTH}"], rows)


def sizes(boots):
    rows = []
    for kernel in kernels(boots, "sizes"):
        for part in ("sizes", "large"):
            boot = boots.get((kernel, part))
            for layout, mib in boot.keys("layout", "mib") if boot else ():
                add, base = data.added(boot, FULL, "map", layout=layout, mib=mib)
                unmap, unmap_base = data.added(boot, FULL, "unmap", layout=layout, mib=mib)
                if add is None:
                    continue
                kib = max((f.get("loader_kib", 0) for f in boot.figures
                           if f["tool"] == FULL and f.get("layout") == layout and
                           f.get("mib") == mib), default=0)
                rows.append([kernel, layout, f"{mib:,} MiB", f"{base:.1f}", more(add, base),
                             f"{unmap_base:.1f}", more(unmap, unmap_base),
                             f"{kib / 1024:.1f} MiB" if kib else "—"])
    return table(["Linux", "layout", "in one call", "map", f"`{FULL}` adds", "unmap", "adds",
                  "loader's memory"], rows)


def counts(boots):
    rows = []
    for kernel in kernels(boots, "counts"):
        for part in ("counts", "million"):
            boot = boots.get((kernel, part))
            for (maps,) in boot.keys("maps") if boot else ():
                if part == "million" and maps < 1000000:
                    continue
                add, base = data.added(boot, FULL, "map", maps=maps)
                unmap, unmap_base = data.added(boot, FULL, "unmap", maps=maps)
                if add is not None:
                    rows.append([kernel, f"{maps:,}", f"{base:.0f}", more(add, base),
                                 f"{unmap_base:.0f}", more(unmap, unmap_base)])
    return table(["Linux", "mappings of one page", "a map", f"`{FULL}` adds", "an unmap", "adds"],
                 rows)


LONG_CALLS = """\
A call of 1 GiB takes a second, and the loader reads what it is told meanwhile: with one processor
that is in the figure. From 4 GiB on it is the calling thread's time alone."""

MORE_PROCESSORS = """\
Linux 6.1 does not come up with a second processor where instructions are counted: it waits for it
in a loop that never pauses, and QEMU 7.2 gives every turn to the one that waits.

In turn: each thread has a processor of its own and waits until the one before it has mapped. That
is what a page costs there, and what repeats. At once: a thread that waits for the container's lock
spins, and its turns are long where one emulated processor runs after the other; that is in both
columns, more or less of it by chance."""


def cpus(boots):
    rows = []
    for kernel in kernels(boots, "cpus"):
        boot = boots[kernel, "cpus"]
        for layout, n in boot.keys("layout", "cpus"):
            add, base = data.added(boot, FULL, "map", layout=layout, cpus=n)
            both, nobody = data.added(boot, FULL, "together", layout=layout, cpus=n)
            if add is not None and both is not None:
                rows.append([kernel, layout, str(n), f"{base:.1f}", more(add, base),
                             f"{nobody:.0f}", f"{both + nobody:.0f}"])
    return table(["Linux", "layout", "processors and threads", "in turn, nobody",
                  f"`{FULL}` adds", "at once, nobody", f"`{FULL}`"], rows)


def others(boots):
    rows = []
    for kernel in kernels(boots, "others"):
        boot = boots[kernel, "others"]
        for (op,) in boot.keys("op"):
            base = boot.pick("nothing", "insns", op=op)
            row = [kernel, op, f"{base:,.0f}"]
            for tool, without in OTHERS.items():
                with_it, before = boot.pick(tool, "insns", op=op), boot.pick(without, "insns",
                                                                            op=op)
                row.append("—" if None in (with_it, before) else
                           f"{with_it - before:+.0f} ({100 * (with_it - before) / before:+.2f} %)")
            rows.append(row)
    return table(["Linux", "operation", "nobody watches", "again", "`trace`, nobody uses VFIO",
                  "`trace`, guests of KVM use it", "the same, itself a guest without a device",
                  "`trace`, others use it", "`audit --watch 1`"], rows)


def audit(boots):
    rows = []
    for kernel in kernels(boots, "audit"):
        boot = boots[kernel, "audit"]
        for (layout,) in boot.keys("layout"):
            ours, theirs = (boot.pick(t, "insns", layout=layout)
                            for t in ("pfnwatch audit", "pagemap"))
            rows.append([kernel, layout, f"{ours:.2f}", f"{theirs:.1f}"])
    return table(["Linux", "layout", "audit of both sides", "reading pagemap"], rows)


def measured(boots):
    rows = []
    for kernel in in_order(k for k, _ in boots):
        here = {p: b.head for (k, p), b in boots.items() if k == kernel}
        one = next(iter(here.values()))
        rows.append([kernel, one["release"], ", ".join(sorted(here)), one["clang"],
                     " ".join(sorted({h["commit"] for h in here.values()}))])
    return table(["Linux", "release", "parts, a boot each", "clang", "commit"], rows)


def everything(boots, pictures):
    """The page's text; @pictures: the folder of the plots, as the page names it."""
    def picture(name, text):
        return [f"![{text}]({pictures}/{name}.svg)", ""]

    lines = ["### The goals", "", *goals(boots)]
    if kernels(boots, "others"):
        lines += ["What measuring the same again gives is no cost: of two baselines the dearer one "
                  "counts.", "", *goals_of_others(boots)]
    if kernels(boots, "layouts"):
        lines += picture("added", "Instructions added to a page's map, by layout and tool")
        lines += ["### Against recording alone", "",
                  "Of contiguous pages a recorder hears once in 512, while each must be read to be "
                  "compared.", "", *against_bpftrace(boots)]
    for kernel in kernels(boots, "layouts"):
        lines += [f"### Every layout, Linux {kernel}", "", "Added to the map of a page:", "",
                  *every_layout(boots, kernel, "map"), "Added to its unmap:", "",
                  *every_layout(boots, kernel, "unmap"), "The tools:", "", *tools(boots, kernel)]
    if kernels(boots, "sizes"):
        lines += ["### From 16 MiB to 16 GiB", "", LONG_CALLS, "", *sizes(boots)]
        lines += picture("sizes", "Instructions added to a page's map, by size of the mapping")
    if kernels(boots, "counts"):
        lines += ["### From one mapping to a million", "", *counts(boots)]
        lines += picture("counts", "Instructions added to a map, by number of mappings")
    if kernels(boots, "cpus"):
        lines += ["### More processors", "", MORE_PROCESSORS, "", *cpus(boots)]
    if kernels(boots, "others"):
        lines += ["### A process that has nothing to do with it", "", *others(boots)]
    if kernels(boots, "audit"):
        lines += ["### An audit", "", *audit(boots)]
    return "\n".join([*lines, "### What was measured", "", *measured(boots)]).rstrip()


def short(boots):
    """A line for each layout that has a goal, for a terminal."""
    lines = []
    for kernel in kernels(boots, "goals"):
        boot = boots[kernel, "goals"]
        for layout in GOALS:
            base = boot.pick("nothing", "map", layout=layout)
            add, _ = data.added(boot, FULL, "map", layout=layout)
            lines.append(f"    {layout:10s} {base:8.1f}   with {FULL}: {more(add, base)}")
    return lines
