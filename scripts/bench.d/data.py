# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What scripts/bench has measured: one file for each boot, JSON lines; never two boots in one."""

import json
import os
import pathlib
import statistics

PARTIAL = ".partial"    # of a file whose boot has not ended


def typical(figure):
    """
    Of several rounds the least is told. But a recorder whose reader sleeps through a call has not
    done in it what it does: of those the middle one.
    """
    if not figure["tool"].startswith("bpftrace"):
        return figure
    return {**figure, **{field: statistics.median(figure[field + "s_each"])
                         for field in ("map", "unmap") if figure.get(field + "s_each")}}


class Boot:
    """The records of one boot: who was measured where, figures, tools."""

    def __init__(self, records):
        self.head = records[0]
        self.figures = [typical(r) for r in records if r["type"] == "figure"]
        self.tools = {}
        for r in records:
            if r["type"] == "tool":
                self.tools.setdefault(r["tool"], r)

    def pick(self, tool, field, **key):
        """The least of a tool's figures of that key (nothing is measured twice); None: none."""
        found = [f[field] for f in self.figures
                 if f["tool"] == tool and field in f and all(f.get(k) == v for k, v in key.items())]
        return min(found) if found else None

    def tool_names(self):
        names = []
        for f in self.figures:
            if f["tool"] not in names:
                names.append(f["tool"])
        return names

    def keys(self, *fields):
        """The distinct values of these fields, in order of appearance."""
        found = []
        for f in self.figures:
            key = tuple(f.get(k) for k in fields)
            if None not in key and key not in found:
                found.append(key)
        return found


def path_of(folder, kernel, part):
    return pathlib.Path(folder) / f"{kernel}-{part}.jsonl"


def load(folder):
    """All boots that have ended, by (kernel, part)."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.jsonl")):
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if records and records[0]["type"] == "boot":
            found[records[0]["kernel"], records[0]["part"]] = Boot(records)
    return found


class Writer:
    """A file that gets its name when the boot has ended well."""

    def __init__(self, folder, head):
        self.path = path_of(folder, head["kernel"], head["part"])
        self.partial = self.path.with_name(self.path.name + PARTIAL)
        self.file = open(self.partial, "w", encoding="utf-8")
        self.write(dict(type="boot", **head))

    def write(self, record):
        self.file.write(json.dumps(rounded(record)) + "\n")
        self.file.flush()

    def done(self):
        self.file.close()
        os.replace(self.partial, self.path)


def rounded(record):
    """Six digits are more than there is to know."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in record.items()}


# --- two measurements of the same --------------------------------------------------------------

FIELDS = ("map", "unmap", "insns")


def identity(figure):
    return tuple(sorted((k, v) for k, v in figure.items()
                        if k in ("tool", "layout", "mib", "maps", "cpus", "op")))


def apart(one, other):
    """Each figure that two boots have both: (key, field, one, other), the furthest apart first."""
    rows = []
    for key in {identity(f): None for f in one.figures}:
        fields = dict(key)
        tool = fields.pop("tool")
        for field in FIELDS:
            a, b = one.pick(tool, field, **fields), other.pick(tool, field, **fields)
            if a is not None and b is not None:
                rows.append((key, field, a, b))
    return sorted(rows, key=lambda r: -abs(r[3] - r[2]) / r[2] if r[2] else 0)


# --- is it worse than committed? ---------------------------------------------------------------

OF_BASE, OF_ADDED, LEAST = 0.003, 0.02, 0.5     # what two boots of the same differ in at most


def added(boot, tool, field, nothing="nothing", **key):
    """What a tool adds, and to what."""
    base, with_it = boot.pick(nothing, field, **key), boot.pick(tool, field, **key)
    return (None, None) if None in (base, with_it) else (with_it - base, base)


def regressions(committed, measured):
    """(text, whether it is worse) for each figure of the parts that both have."""
    rows = []
    for kernel, part in sorted(set(committed) & set(measured)):
        old, new = committed[kernel, part], measured[kernel, part]
        for tool in old.tool_names():
            for (layout,) in old.keys("layout"):
                was, base = added(old, tool, "map", layout=layout)
                now, _ = added(new, tool, "map", layout=layout)
                if tool == "nothing" or was is None:
                    continue
                where = f"Linux {kernel}, {layout}, {tool}"
                if now is None:
                    rows.append((f"{where}: not measured any more", True))
                    continue
                room = OF_BASE * base + OF_ADDED * abs(was) + LEAST
                rows.append((f"{where}: adds {now:.1f} instructions per page, committed "
                             f"{was:.1f} (+{room:.1f} allowed)", now > was + room))
    return rows
