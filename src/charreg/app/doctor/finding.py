"""What a check found, and how sizes and times are told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from charreg.core.errors import CharregError

Level = Literal["ok", "unknown", "warning", "FAULT"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: `FAULT` if a run would fail, `warning` if it would go on but should be looked at,
    `unknown` where another fault, or data that is yet to be made, leaves no verdict."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:7}  {self.subject}: {' '.join(self.text.split())}"


def checked(subject: str, check: Callable[[], str]) -> Finding:
    """`ok` with what a check says, `FAULT` with the CharregError it raises."""
    try:
        return Finding("ok", subject, check())
    except CharregError as error:
        return Finding("FAULT", subject, str(error))


def at_least(text: str, missing: Sequence[str]) -> str:
    """A need of which no more than a part is known: `missing` has to be there before the rest can be."""
    return f"at least {text}; unknown until there is {', '.join(missing)}" if missing else text


def room(subject: str, needed: float, there: float, text: str, missing: Sequence[str]) -> Finding:
    """Whether bytes suffice: a fault above what is there, a warning above four fifths of it."""
    level: Level = "unknown" if missing else "warning" if needed > 0.8 * there else "ok"
    words = at_least(f"{size(needed)} needed, {size(there)} there ({text})", missing)
    return Finding("FAULT" if needed > there else level, subject, words)


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
