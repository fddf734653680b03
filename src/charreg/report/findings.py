"""Which of the paper's findings a run confirms, computed from intervals and never from the point values.

Disjoint 95% intervals confirm or contradict; overlapping ones cannot tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charreg.report.results import Measure

Verdict = Literal["confirmed", "contradicted", "overlap", "unmeasured"]
WORDS: dict[Verdict, str] = {
    "confirmed": "Confirmed",
    "contradicted": "Contradicted",
    "overlap": "Cannot tell, the intervals overlap",
    "unmeasured": "Cannot tell, not measured or without an interval",
}


@dataclass(frozen=True)
class Claim:
    """A finding of the paper as an inequality: here `small` lies below `large`."""

    text: str
    where: str  # the test set
    by: str  # the measure
    small: Measure
    large: Measure


def verdict(claim: Claim) -> Verdict:
    """Judge one claim."""
    small, large = claim.small.interval, claim.large.interval
    if small is None or large is None or claim.small.value is None or claim.large.value is None:
        return "unmeasured"
    if small[1] < large[0]:
        return "confirmed"
    if large[1] < small[0]:
        return "contradicted"
    return "overlap"


def paragraph(claims: Sequence[Claim]) -> str:
    """One paragraph: the claims gathered under their verdicts, each with the places where it holds."""
    if not claims:
        return "**Against the paper.** Nothing to judge: the methods this finding compares are not declared."
    gathered: dict[Verdict, dict[str, list[Claim]]] = {}
    for claim in claims:
        gathered.setdefault(verdict(claim), {}).setdefault(claim.text, []).append(claim)
    parts = []
    for kind, words in WORDS.items():
        if kind in gathered:
            found = "; ".join(f"{text} ({_places(same)})" for text, same in gathered[kind].items())
            parts.append(f"*{words}:* {found}.")
    return "**Against the paper.** " + " ".join(parts)


def _places(claims: Sequence[Claim]) -> str:
    """Test sets and measures, test sets with the same measures together."""
    measures: dict[str, list[str]] = {}
    for claim in claims:
        measures.setdefault(claim.where, []).append(claim.by)
    sets: dict[str, list[str]] = {}
    for where, names in measures.items():
        sets.setdefault(" and ".join(names), []).append(where)
    return "; ".join(f"{' and '.join(wheres)} by {names}" for names, wheres in sets.items())
