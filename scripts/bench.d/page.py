# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""docs/cost.md, from what scripts/bench has measured."""

import pathlib

import data
import plots
import tables

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = TOP / "docs/bench"
PAGE = TOP / "docs/cost.md"
BEGIN, END = "<!-- figures: scripts/bench -->", "<!-- end of figures -->"


def write_page(boots, path):
    """The page by itself, beside its results."""
    if not boots:
        path.unlink(missing_ok=True)
        return
    have = plots.draw(boots, path.parent / "plots")
    path.write_text("# What it costs\n\n" + tables.everything(boots, "plots") + "\n",
                    encoding="utf-8")
    if not have:
        print("bench: no gnuplot, no plots: scripts/deps --bench installs it")


def write_docs():
    """The committed figures into docs/cost.md."""
    boots = data.load(FOLDER)
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = tables.everything(boots, "bench")
    plots.draw(boots, FOLDER)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
