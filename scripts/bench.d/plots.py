# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""The plots of docs/cost.md, drawn by gnuplot."""

import shutil
import subprocess

import data
from tables import BARE, CHECK, FRESH, FULL, GOALS, kernels

STYLE = """set terminal svg size 760,400 font "sans,12" background "white"
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set key outside right top
"""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def gnuplot(path, script):
    subprocess.run(["gnuplot"], input=f"{STYLE}set output '{path}'\n{script}", text=True,
                   check=True)


def plot_added(boots, folder):
    """Bars: kernels and layouts side by side, a bar for each tool, logarithmic."""
    shown = ("bpftrace", "perf", CHECK, FULL, BARE)
    rows = []
    for kernel in kernels(boots, "layouts"):
        for layout in GOALS:
            adds = [data.added(boots[kernel, "layouts"], t, "map",
                               FRESH if t == CHECK else "nothing", layout=layout)[0]
                    for t in shown]
            rows.append([f'"{layout}\\n{kernel}"', *("NaN" if a is None else f"{max(a, 0.1):.4g}"
                                                     for a in adds)])
    block = "\n".join(" ".join(row) for row in rows)
    bars = ", ".join(f"$d using {i + 2}:xtic(1) title '{t}' lc rgb '{COLOURS[i]}'"
                     for i, t in enumerate(shown))
    gnuplot(folder / "added.svg", f"""$d << E
{block}
E
set style data histograms
set style histogram clustered gap 1
set style fill solid
set logscale y
set ylabel "instructions added to a page's map"
plot {bars}
""")


def plot_lines(path, xlabel, ylabel, series):
    """@series: title -> [(x, y)]."""
    series = {t: points for t, points in series.items() if len(points) > 1}
    blocks, parts = [], []
    for i, (title, points) in enumerate(series.items()):
        blocks.append(f"$d{i} << E\n" + "\n".join(f"{x} {y:.4g}" for x, y in points) + "\nE\n")
        parts.append(f"$d{i} with linespoints pt 7 ps 0.5 lw 2 lc rgb '{COLOURS[i % 6]}' "
                     f"title '{title}'")
    if parts:
        gnuplot(path, "".join(blocks) + f"""set logscale x
set xlabel "{xlabel}"
set ylabel "{ylabel}"
set yrange [0:]
plot {', '.join(parts)}
""")


def growth(boots, small, big, field, **only):
    points = {}
    for part in (small, big):
        for kernel in kernels(boots, part):
            boot = boots[kernel, part]
            for key in boot.keys(field, *only):
                want = dict(zip((field, *only), key))
                if any(want[k] != v for k, v in only.items()):
                    continue
                add, _ = data.added(boot, FULL, "map", **want)
                if add is not None:
                    points.setdefault(kernel, {}).setdefault(want[field], max(add, 0))
    return {k: sorted(p.items()) for k, p in points.items()}


def draw(boots, folder):
    """Whether there was something to draw with."""
    if not shutil.which("gnuplot"):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    if kernels(boots, "layouts"):
        plot_added(boots, folder)
    series = {}
    for layout in GOALS:
        for kernel, points in growth(boots, "sizes", "large", "mib", layout=layout).items():
            series[f"{layout}, {kernel}"] = points
    plot_lines(folder / "sizes.svg", "MiB in one call", "instructions added to a page's map",
               series)
    plot_lines(folder / "counts.svg", "mappings of one page", "instructions added to a map",
               growth(boots, "counts", "million", "maps"))
    return True
