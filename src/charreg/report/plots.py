"""The curves of all trainings, by plot: series of one unit and of one size share an axis.

As small tables for DVC (`dvc plots show`): the columns step, series, value; `.dvc/plots/curves.json` draws a line a
series. And as a picture, for the report.
"""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.files import write_bytes

Series = dict[str, tuple[list[float], list[float]]]  # by name: steps and values

SMALL = 0.1  # losses that stay below lie flat on the axis of those above
TITLES = {
    "losses": "losses (logarithmic)",
    "losses_small": "small losses (logarithmic)",
    "psnr": "PSNR, dB",
    "accuracy": "accuracy, share",
    "distance": "distances (logarithmic)",
    "logits": "discriminator outputs",
}


def write_plots(training: Path, jobs: Sequence[str], out: Path) -> None:
    """Write `<job>_<plot>.tsv` into an existing folder for every job that was trained here.

    training: the folder with `<job>/curves.tsv` and `<job>/health.tsv`.
    """
    for job in jobs:
        for plot, series in read_plots(training / job).items():
            rows = [
                f"{step:g}\t{name}\t{value:.6g}\n"
                for name, points in series.items()
                for step, value in zip(*points, strict=True)
            ]
            write_bytes(out / f"{job}_{plot}.tsv", "".join(["step\tseries\tvalue\n", *rows]).encode())


def read_plots(curves: Path) -> dict[str, Series]:
    """The losses (`curves.tsv`) and health signals (`health.tsv`) of one training, by plot."""
    losses, health = (read_series(curves / name) for name in ("curves.tsv", "health.tsv"))
    signals = {f"{name} (signal)" if name in losses else name: points for name, points in health.items()}
    plots: dict[str, Series] = {}
    for name, points in {**losses, **signals}.items():
        plots.setdefault(plot_of(name, points[1]), {})[name] = points
    return plots


def read_series(path: Path) -> Series:
    """The columns of a TSV file against its `step`; empty when there is no file, empty cells are skipped."""
    series: Series = {}
    if not path.is_file():
        return series
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            for name, text in row.items():
                if name == "step" or not text:
                    continue
                try:
                    step, value = float(row["step"]), float(text)
                except (ValueError, KeyError):
                    raise CharregError(f"{path}: found {text!r} under {name}, wanted numbers and a step") from None
                if math.isfinite(value):
                    steps, values = series.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return series


def plot_of(name: str, values: Sequence[float]) -> str:
    """The plot a series belongs to, one of TITLES."""
    for plot in ("psnr", "accuracy", "distance"):
        if plot in name:
            return plot
    if name.endswith(("_real", "_fake")):
        return "logits"
    sizes = [abs(value) for value in values if value]
    return "losses_small" if sizes and statistics.median(sizes) < SMALL else "losses"


def draw_curves(out: Path, training: Path, jobs: Sequence[str], name: str, caption: str) -> dict[str, str]:
    """One picture of all curves, a row of plots per job; returns its file name -> caption, nothing without curves."""
    found = {job: plots for job in jobs if (plots := read_plots(training / job))}
    if not found:
        return {}
    columns = [plot for plot in TITLES if any(plot in plots for plots in found.values())]
    with mpl.rc_context({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(2.6 * len(columns), 1.75 * len(found)), layout="constrained")
        grid = figure.subplots(len(found), len(columns), squeeze=False)
        for axes_row, (job, plots) in zip(grid, found.items(), strict=True):
            for axes, plot in zip(axes_row, columns, strict=True):
                _draw_plot(axes, plots.get(plot, {}), plot)
            axes_row[0].set_ylabel(job, fontweight="bold", fontsize=8)
        for axes, plot in zip(grid[0], columns, strict=True):
            axes.set_title(TITLES[plot], fontsize=8)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    # Line art has few colours, and a palette makes it a third of the size; median cut would turn thin lines grey.
    picture = Image.open(drawn).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE)
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    write_bytes(out / name, small.getvalue())
    return {name: caption}


def _draw_plot(axes: Axes, series: Series, plot: str) -> None:
    if not series:
        axes.set_axis_off()
        return
    logarithmic = "logarithmic" in TITLES[plot] and all(min(values) >= 0 for _, values in series.values())
    for name, points in series.items():
        shown = [point for point in zip(*points, strict=True) if point[1] > 0 or not logarithmic]
        steps, values = [step for step, _ in shown], [value for _, value in shown]
        axes.plot(steps, values, linewidth=0.9, label=name, marker="." if len(shown) < 3 else None)
    if logarithmic:
        axes.set_yscale("log")
    axes.legend(fontsize=5.5, framealpha=0.8, edgecolor="none", ncols=1 if len(series) < 5 else 2, handlelength=1.2)
    axes.tick_params(width=0.5, length=2)
