"""Finds what the kernel complained about in its log."""

import re

from common import HERE, LabError

SPLATS = (
    ("panic", r"Kernel panic - not syncing"),
    ("oops", r"\bOops\b|general protection fault[,:]|unable to handle (kernel|page fault)"
             r"|kernel NULL pointer dereference|double fault:|stack-protector:|invalid opcode: "),
    ("soft lockup", r"soft lockup|hard LOCKUP"),
    ("RCU stall", r"INFO: rcu|rcu: INFO:|RCU Stall|detected stalls? on CPUs"),
    ("hung task", r"hung task|blocked for more than \d+ seconds"),
    ("lockdep", r"possible (circular|recursive) locking|inconsistent lock state"
                r"|suspicious RCU usage|bad unlock balance|held lock freed"),
    ("sanitizer", r"\bKASAN\b.*in |\bKCSAN\b|UBSAN: |\bKFENCE: "),
    ("page state", r"Bad (page|rss-counter) state|refcount_t: |list_(add|del) corruption"),
    ("DMA", r"DMA-API: "),
    ("BUG", r"\bBUG: |kernel BUG at"),
    ("warning", r"\bWARNING: |\[ cut here \]"),
    ("trace", r"\bCall Trace:"),
)
SPLATS = tuple((kind, re.compile(pattern)) for kind, pattern in SPLATS)
OPENS = re.compile(r"\[ cut here \]")
END = re.compile(r"---\[ end (trace|Kernel panic)")
SHOWN = 60      # lines of one complaint, when nothing says where it ends


def _allowed():
    """The patterns of splats.allow: one per line, a regular expression, two blanks, # reason."""
    patterns = []
    for number, line in enumerate((HERE / "splats.allow").read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, mark, reason = line.partition("  # ")
        if not mark or not reason.strip():
            raise LabError(f"splats.allow line {number} gives no reason: write 'REGEX  # reason'")
        try:
            patterns.append(re.compile(pattern.strip()))
        except re.error as error:
            raise LabError(f"splats.allow line {number}: {error}") from None
    return patterns


def _classify(line):
    for kind, pattern in SPLATS:
        if pattern.search(line):
            return kind
    return None


def _blocks(lines):
    """Cut a log into complaints: lists of lines that begin with one that is a splat."""
    block = []
    for line in lines:
        if block and (OPENS.search(line) or len(block) == SHOWN):
            yield block
            block = []
        if block or _classify(line):
            block.append(line)
        if block and END.search(line):
            yield block
            block = []
    if block:
        yield block


def find(text, expected=()):
    """(kinds, lines): what was found, and the lines to show. expected: more patterns to allow."""
    allowed = [*_allowed(), *map(re.compile, expected)]
    kinds, shown = [], []
    for block in _blocks(text.splitlines()):
        if any(pattern.search(line) for pattern in allowed for line in block):
            continue
        kinds += [kind for kind in map(_classify, block) if kind and kind not in kinds]
        shown += block
    if len(kinds) > 1 and "trace" in kinds:
        kinds.remove("trace")
    return list(dict.fromkeys(kinds)), shown[:2 * SHOWN]
