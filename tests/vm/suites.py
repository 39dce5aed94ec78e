# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""The modules with cases; each registers its own in kit.CASES."""

import importlib
import pathlib

MODULES = ("layouts", "clients", "tracing", "badinput", "limits", "mutants", "audits", "diverge",
           "stale", "notified", "whole")
MUTANTS = pathlib.Path(__file__).resolve().parent.parent / "mutants"


def load():
    for name in MODULES:
        importlib.import_module(name)


def mutants():
    """Every mutant there is: one that has no cases is an error of the plan."""
    return sorted(path.stem for path in MUTANTS.glob("*.sed"))
