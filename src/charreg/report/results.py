"""What the stages measured, read from their JSON files and never from a glob: only declared methods count."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from charreg.core.errors import CharregError
from charreg.report.published import PAIRS, SYNTHETIC_BRANCH, Row, row_of

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
        "fd_imagenet", "kd_imagenet", "EfficientNet-Lite0 trained on ImageNet, 1,280 features", False
    ),
    "inception": Dialect("fid", "kid", "Inception of 2015-12-05, 2,048 features", True),
}


@dataclass(frozen=True)
class Results:
    """All the numbers of a report: per method, then per test set."""

    methods: tuple[str, ...]
    metrics: dict[str, Numbers]
    genuine: Numbers
    detection: dict[str, Numbers]  # by role: train, web, cctv
    geometry: Numbers
    matcher: Numbers
    complexity: Numbers
    timings: dict[str, Numbers]  # by job; a job without a file is absent
    dialect: Dialect

    def measure(self, method: str, test_set: str, name: str) -> Measure:
        """A metric of a method on a test set; `method` may be `genuine`."""
        numbers = self.genuine if method == "genuine" else self.metrics[method]
        return measure(numbers.get(test_set, {}), name, numbers.get("absent", {}), f"{method}.json, {test_set}")

    def row(self, method: str) -> Row:
        """The row of a declared method, under the label of its metrics file if that holds one."""
        row = row_of(method)
        label = str(self.metrics[method].get("label") or row.label)
        return replace(row, label=label, learned=PAIRS if label.endswith(SYNTHETIC_BRANCH) else row.learned)

    @property
    def rows(self) -> list[Row]:
        """The rows of all declared methods, in the order of every table."""
        return [self.row(method) for method in self.methods]

    @property
    def seeds(self) -> int:
        """How many trainings a number is the mean of."""
        return max((int(numbers.get("seeds", 1)) for numbers in self.metrics.values()), default=1)

    @property
    def trained_once(self) -> list[str]:
        """The labels of methods with one training where others have several."""
        return [
            row.label
            for row in self.rows
            if row.method in self.timings and int(self.metrics[row.method].get("seeds", 1)) < self.seeds
        ]

    def over_jobs(self, jobs: Sequence[str], name: str) -> Measure:
        """The sum of `name` over the timings of some jobs; over several training seeds the mean of the sums."""
        columns = []
        for job in jobs:
            first = self.timings.get(job)
            if first is None:
                return Measure(None, reason=f"timings of {job}: the training has not run here")
            found = [measure(one, name, {}, f"the timings of {job}") for one in (first, *other_seeds(first))]
            absent = [one for one in found if one.value is None]
            if absent:
                return absent[0]
            columns.append([one.value or 0.0 for one in found])
        seeds = min(len(column) for column in columns)  # the recogniser is trained once
        sums = [sum(values) for values in zip(*(column[:seeds] for column in columns), strict=True)]
        return Measure(statistics.fmean(sums), spread=statistics.stdev(sums) if len(set(sums)) > 1 else None)

    def system(self, method: str, width: str, name: str) -> Measure:
        """`parameters`, `ms_single` or `ms_batch` of a system; width: `run` or `paper`."""
        found = self.complexity.get("systems", {}).get(method, {}).get(width, {})
        return measure(found, name, {}, f"complexity.json, systems, {method}, {width}")


def other_seeds(timing: Numbers) -> list[Numbers]:
    """The timings of the further seeds of a job."""
    return list(timing.get("other_seeds", {}).values())


def measure(numbers: Mapping[str, Any], name: str, absent: Mapping[str, Any], where: str) -> Measure:
    """`name` of a JSON mapping with `<name>_lo`, `<name>_hi` and its warning, or why it is absent."""
    value = numbers.get(name)
    if value is None:
        reason = {**absent, **numbers.get("absent", {})}.get(name) or f"not in {where}"
        return Measure(None, reason=str(reason))
    return Measure(
        float(value),
        _number(numbers.get(f"{name}_lo")),
        _number(numbers.get(f"{name}_hi")),
        warning=str(numbers.get("warnings", {}).get(name, "")),
        spread=_number(numbers.get(f"{name}_seeds")),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def read_json(path: Path, maker: str) -> Numbers:
    """A JSON file with plain finite numbers; CharregError names the file and the stage that writes it."""

    def refuse(constant: str) -> NoReturn:
        raise CharregError(f"{path}: found {constant}, wanted a number or no entry; repeat {maker}")

    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except FileNotFoundError:
        raise CharregError(f"{path}: not found, wanted what {maker} writes; run dvc repro") from None
    except ValueError as error:
        raise CharregError(f"{path}: not JSON ({error}); repeat {maker}") from None
    if not isinstance(content, dict):
        raise CharregError(f"{path}: found {type(content).__name__}, wanted a mapping; repeat {maker}")
    return content


def read_timings(curves: Path) -> Numbers:
    """The timings of a training, those of its further seeds under `other_seeds`; empty where it was not run here."""
    places = [curves, *sorted(curves.glob("seed-*"))]
    first, *others = (read_json(place / "timings.json", "the training") if place.is_dir() else {} for place in places)
    return first | {"other_seeds": {str(other["seed"]): other for other in others}} if others else first


def read_results(
    *,
    scores: Path,
    training: Path,
    complexity: Path,
    methods: Sequence[str],
    jobs: Sequence[str],
    features: str,
) -> Results:
    """Read the numbers of the declared methods and jobs.

    Raises CharregError naming the method when its metrics are missing; a missing timing file is no fault.
    """
    return Results(
        methods=tuple(methods),
        metrics={
            method: read_json(scores / f"{method}.json", f"stage evaluate of method {method}") for method in methods
        },
        genuine=read_json(scores / "genuine.json", "stage benchmark"),
        detection={
            role: read_json(scores / f"detection_{role}.json", f"stage lr_faces@{role}")
            for role in ("train", "web", "cctv")
        },
        geometry=read_json(scores / "geometry.json", "stage train_faces"),
        matcher=read_json(scores / "matcher.json", "stage train_centreface@matcher"),
        complexity=read_json(complexity, "stage complexity"),
        timings={job: found for job in jobs if (found := read_timings(training / job))},
        dialect=DIALECTS[features],
    )
