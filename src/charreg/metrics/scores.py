"""What was measured on one test set, in the form of the metrics files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIGITS, DECIMALS = 6, 9  # significant digits, and places: hide the rounding of another number of threads


@dataclass
class Scores:
    """Numbers by name, the reasons of those that could not be computed, and warnings on those that could."""

    numbers: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, interval: tuple[float, float] | None = None) -> None:
        """Note a number and its 95% interval; one that is not finite is noted as absent."""
        if not math.isfinite(value):
            self.absent[name] = f"found {value}, wanted a finite number"
            return
        self.numbers[name] = value
        if interval is not None and all(map(math.isfinite, interval)):
            self.numbers |= {f"{name}_lo": interval[0], f"{name}_hi": interval[1]}

    def update(self, other: "Scores") -> None:
        self.numbers |= other.numbers
        self.absent |= other.absent
        self.warnings |= other.warnings

    def as_json(self) -> dict[str, Any]:
        """Counts (`n_...`) as integers, other numbers rounded; `absent` and `warnings` only where there are any."""
        texts: Mapping[str, Any] = {"absent": self.absent, "warnings": self.warnings}
        return {name: _plain(name, value) for name, value in self.numbers.items()} | {
            name: dict(entries) for name, entries in texts.items() if entries
        }


def _plain(name: str, value: float) -> float | int:
    return int(value) if name.startswith("n_") else round(float(f"{value:.{DIGITS}g}"), DECIMALS) + 0.0  # no -0.0
