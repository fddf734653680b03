"""What a check found, and how sizes and times are told."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "FAULT"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: `FAULT` if a run would fail, `warning` if it would go on but should be looked at."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:7}  {self.subject}: {' '.join(self.text.split())}"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, length in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < length:
            return f"{seconds:.1f} {unit}" if seconds < 10 else f"{seconds:.0f} {unit}"
        seconds /= length if unit != "h" else 24
    return f"{seconds:,.0f} days"


def room(subject: str, needed: float, there: float, text: str) -> Finding:
    """Whether bytes suffice: a fault above what is there, a warning above four fifths of it."""
    level: Level = "FAULT" if needed > there else "warning" if needed > 0.8 * there else "ok"
    return Finding(level, subject, f"{size(needed)} needed, {size(there)} there ({text})")
