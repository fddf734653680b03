"""The curves of all trainings as DVC draws them (`dvc plots show`): one small table a plot, one scale a table.

A table has the columns step, series, value; `.dvc/plots/curves.json` draws one line a series.
"""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from charreg.core.files import write_bytes

SMALL = 0.1  # losses that stay below lie flat on the axis of those above
Point = tuple[str, str, str]  # step, series, value


def write_plots(training: Path, jobs: Sequence[str], out: Path) -> None:
    """Write `<job>_<plot>.tsv` into an existing folder for every job that was trained here.

    training: the folder with `<job>/curves.tsv` and `<job>/health.tsv`.
    """
    for job in jobs:
        plots: dict[str, list[Point]] = {}
        for table in ("curves.tsv", "health.tsv"):
            for name, points in read_series(training / job / table).items():
                plots.setdefault(plot_of(name, points), []).extend(points)
        for plot, points in plots.items():
            lines = ["\t".join(cells) for cells in (("step", "series", "value"), *points)]
            write_bytes(out / f"{job}_{plot}.tsv", ("\n".join(lines) + "\n").encode())


def read_series(path: Path) -> dict[str, list[Point]]:
    """The columns of a table of curves by name, without empty cells; none where there is no such file."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    return {name: [(row["step"], name, row[name]) for row in rows if row[name]] for name in names}


def plot_of(name: str, points: Sequence[Point]) -> str:
    """The plot a series belongs to: series of one unit and of one size share an axis."""
    for plot, mark in (("psnr", "psnr"), ("accuracy", "accuracy"), ("distance", "distance")):
        if mark in name:
            return plot
    if name.endswith(("_real", "_fake")):
        return "logits"
    sizes = [abs(float(value)) for _, _, value in points if float(value)]
    return "losses_small" if sizes and statistics.median(sizes) < SMALL else "losses"
