# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""The modules with cases; each registers its own in kit.CASES."""

import importlib

MODULES = ("layouts", "clients", "tracing", "badinput", "limits", "mutants")


def load():
    for name in MODULES:
        importlib.import_module(name)
