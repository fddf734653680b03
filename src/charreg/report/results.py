"""What the stages measured, read from their JSON files and never from a glob: only declared methods count."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from charreg.core.errors import CharregError
from charreg.report.published import PAIRS, ROLES, SYNTHETIC_BRANCH, Row, row_of

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A number with its 95% interval and what to beware of, or the reason why there is none."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    reason: str = ""
    warning: str = ""
    spread: float | None = None  # standard deviation over the seeds of the trainings, where there are several

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.lo is None or self.hi is None else (self.lo, self.hi)


@dataclass(frozen=True)
class Dialect:
    """The names and digits of the distances of one feature network."""

    fd: str  # as in the JSON files
    kd: str
    features: str
    comparable: bool  # with published FID


DIALECTS = {
    "efficientnet_lite0": Dialect(
        "fd_imagenet", "kd_imagenet", "EfficientNet-Lite0 of ImageNet, 1,280 features", False
    ),
    "inception": Dialect("fid", "kid", "Inception of 2015-12-05, 2,048 features: the FID of the literature", True),
}


@dataclass(frozen=True)
class Results:
    """All the numbers of a report."""

    methods: tuple[str, ...]
    scores: dict[str, Numbers]  # by method, or by what else was measured: FILES, and `floor` (see `read_results`)
    complexity: Numbers
    timings: dict[str, list[Numbers]]  # by job, one a seed; a job without a file is absent
    dialect: Dialect

    def measure(self, of: str, test_set: str, name: str) -> Measure:
        """A number out of `scores`; without a test set, one that stands for itself."""
        numbers = self.scores[of]
        found = numbers.get(test_set, {}) if test_set else numbers
        return _measure(found, name, f"the scores of {test_set or of}", numbers.get("absent", {}))

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of all declared methods, in the order of every table, under the labels of their scores if those
        hold one."""
        rows = []
        for row in map(row_of, self.methods):
            label = str(self.scores[row.method].get("label") or row.label)
            learned = PAIRS if label.endswith(SYNTHETIC_BRANCH) else row.learned
            rows.append(replace(row, label=label, learned=learned))
        return rows

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the rows by method."""
        return {row.method: row.label for row in self.rows}

    def over_jobs(self, jobs: Sequence[str], name: str, unit: float = 1.0) -> Measure:
        """The sum of `name` over the timings of some jobs; over several training seeds the mean of the sums."""
        if absent := [job for job in jobs if job not in self.timings]:
            return Measure(None, reason=f"timings of {absent[0]}: the training has not run here")
        found = [[_measure(seed, name, f"the timings of {job}") for seed in self.timings[job]] for job in jobs]
        seeds: list[tuple[Measure, ...]] = list(zip(*found, strict=False))  # the recogniser is trained once
        if unknown := [one for seed in seeds for one in seed if one.value is None]:
            return unknown[0]
        sums = [sum(one.value or 0.0 for one in seed) / unit for seed in seeds]
        return Measure(statistics.fmean(sums), spread=statistics.stdev(sums) if len(set(sums)) > 1 else None)

    def system(self, method: str, width: str, name: str) -> Measure:
        """`parameters` or `ms_single` of a system; width: `run` or `paper`."""
        found = self.complexity.get("systems", {}).get(method, {}).get(width, {})
        return _measure(found, name, f"complexity.json, systems, {method}, {width}")


def _measure(numbers: Numbers, name: str, where: str, absent: Mapping[str, str] | None = None) -> Measure:
    """`name` of a JSON mapping with `<name>_lo`, `<name>_hi` and its warning, or why it is absent."""
    value, lo, hi, spread = (numbers.get(key) for key in (name, f"{name}_lo", f"{name}_hi", f"{name}_seeds"))
    reasons, warnings = {**(absent or {}), **numbers.get("absent", {})}, numbers.get("warnings", {})
    if value is None:
        return Measure(None, reason=reasons.get(name, f"not in {where}"))
    return Measure(value, lo, hi, warning=warnings.get(name, ""), spread=spread)


def read_json(path: Path, maker: str) -> Numbers:
    """A JSON file with plain finite numbers; CharregError names the file and the stage that writes it."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"found {constant}")

    try:
        return dict(json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse))
    except FileNotFoundError:
        raise CharregError(f"{path}: not found, wanted what {maker} writes; run dvc repro") from None
    except ValueError as error:
        raise CharregError(f"{path}: {error}, wanted JSON with plain numbers; repeat {maker}") from None


def _read_timings(curves: Path) -> list[Numbers]:
    """The timings of a training and of its further seeds; none where it was not run here."""
    places = [place for place in (curves, *sorted(curves.glob("seed-*"))) if place.is_dir()]
    return [read_json(place / "timings.json", "the training") for place in places]


FILES = {  # scores that are no method's: the stage that writes them
    "genuine": "stage benchmark",
    **{f"detection_{role}": f"stage lr_faces@{role}" for role in ("train", *ROLES)},
    "geometry": "stage train_faces",
    "matcher": "stage train_centreface@matcher",
}


def read_results(
    scores: Path, training: Path, complexity: Path, methods: Sequence[str], jobs: Sequence[str], features: str
) -> Results:
    """Read the numbers of the declared methods and jobs; a missing timing file is no fault.

    Raises CharregError naming the method when its metrics are missing. The distance between the two halves of the
    artificial faces becomes the scores of `floor`, on every genuine test set.
    """
    makers = FILES | {method: f"stage evaluate of method {method}" for method in methods}
    found = {name: read_json(scores / f"{name}.json", maker) for name, maker in makers.items()}
    return Results(
        methods=tuple(methods),
        scores=found | {"floor": dict.fromkeys(ROLES, found["genuine"].get("artificial", {}))},
        complexity=read_json(complexity, "stage complexity"),
        timings={job: seeds for job in jobs if (seeds := _read_timings(training / job))},
        dialect=DIALECTS[features],
    )
