# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""What the verifier spends on each program: the committed figures, and what is too much."""

import json
import pathlib

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = TOP / "docs/budget.jsonl"

# the verifier's own limits
LIMIT_PROCESSED = 1_000_000
LIMIT_STACK = 512
# nobody may come closer to them
MOST_PROCESSED = 500_000
MOST_STACK = 480
# against the committed figures: growth that is told
MORE_PROCESSED = 1.10
MORE_PROCESSED_LEAST = 1000
MORE_STACK = 64
LARGE_FRAME = 400

FIELDS = {"instructions": "instructions", "processed": "processed", "stack": "stack_bytes",
          "chain": "stack_bytes_chain", "xlated": "xlated_bytes", "jited": "jited_bytes"}


def of_records(records):
    """
    Figures by program, from the records of probe --budget --json: of calls looked at step by
    step and of whole calls, the larger.
    """
    found = {}
    for r in records:
        if r["type"] != "program":
            continue
        one = ({"rejected": r["rejected"]} if "rejected" in r else
               {ours: r[theirs] for ours, theirs in FIELDS.items()})
        found = largest(found, {r["program"]: one})
    return found


def largest(one, other):
    """Of two loads of the same object, each program's larger figures; a rejection is largest."""
    out = dict(one)
    for name, new in other.items():
        old = out.get(name, new)
        rejected = old if "rejected" in old else new
        out[name] = rejected if "rejected" in rejected else {
            k: max(old[k], new[k]) for k in new}
    return out


def load(path=DATA):
    """Committed figures by (kernel, version of clang): the record of the load, programs."""
    found = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        r = json.loads(line)
        how, programs = found.setdefault((r.pop("kernel"), r.pop("clang")), ({}, {}))
        name = r.pop("program", None)
        if name is None:
            how.update(r)
        else:
            programs[name] = r
    return found


def save(figures, path=DATA):
    """One line each, in an order that does not depend on how they were measured."""
    lines = []
    for (kernel, clang), (how, programs) in sorted(figures.items(), key=lambda i: order(i[0])):
        key = {"kernel": kernel, "clang": clang}
        for record in (how, *({"program": n, **programs[n]} for n in sorted(programs))):
            lines.append(json.dumps({**key, **record}, separators=(",", ":")) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def order(key):
    kernel, clang = key
    return [int(n) for n in kernel.split(".")], clang


def too_close(name, new):
    """What no program may be, whatever was committed."""
    if "rejected" in new:
        return [f"{name}: rejected: {new['rejected']}"]
    found = []
    if new["processed"] > MOST_PROCESSED:
        found.append(f"{name}: {new['processed']} instructions processed, more than "
                     f"{MOST_PROCESSED}; the verifier gives up at {LIMIT_PROCESSED}")
    if not new["chain"]:
        found.append(f"{name}: probe --budget could not tell its stack")
    if new["stack"] > MOST_STACK:
        found.append(f"{name}: a frame of {new['stack']} bytes of stack, more than {MOST_STACK}; "
                     f"{LIMIT_STACK} is the end")
    return found


def chain_too_deep(name, new):
    if new["chain"] <= MOST_STACK:
        return []
    return [f"{name}: a chain of calls with {new['chain']} bytes of stack, more than "
            f"{MOST_STACK}; {LIMIT_STACK} is the end"]


def grown(name, new, old):
    """What is worse than committed. A chain that is too deep already may only not get deeper."""
    found = []
    if "rejected" in old:
        return chain_too_deep(name, new)
    if new["chain"] > old["chain"]:
        found += chain_too_deep(name, new)
    more = new["processed"] - old["processed"]
    if new["processed"] > old["processed"] * MORE_PROCESSED and more > MORE_PROCESSED_LEAST:
        found.append(f"{name}: {new['processed']} instructions processed, {more} more than "
                     f"committed ({old['processed']})")
    if new["stack"] > max(LARGE_FRAME, old["stack"]):
        found.append(f"{name}: a frame of {new['stack']} bytes of stack, more than {LARGE_FRAME} "
                     f"and than committed ({old['stack']})")
    for what, field in (("frame", "stack"), ("chain of calls", "chain")):
        if new[field] > old[field] + MORE_STACK:
            found.append(f"{name}: a {what} with {new[field]} bytes of stack, committed "
                         f"{old[field]}")
    return found


def offences(measured, committed=None):
    """
    One line for each thing that must not be. @committed: the programs of that kernel and
    compiler; None: only what holds whatever was committed.
    """
    found = []
    for name, new in sorted(measured.items()):
        found += too_close(name, new)
        if "rejected" in new:
            continue
        if committed is None:
            found += chain_too_deep(name, new)
        elif name not in committed:
            found += chain_too_deep(name, new)
            found.append(f"{name}: no figures committed: run scripts/budget --write")
        else:
            found += grown(name, new, committed[name])
    return found
