"""Which of the paper's findings a run confirms, computed from intervals and never from the point values.

Disjoint 95% intervals confirm or contradict; overlapping ones cannot tell. What the paper did not compare is judged
in the same way and told apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
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
    """A comparison of the paper as an inequality: here `small` lies below `large`."""

    text: str
    where: str  # the test set
    by: str  # the measure
    small: Measure
    large: Measure
    than: str = ""  # what the text compares with; claims that differ in this alone are gathered
    paper: bool = True  # whether the paper has the comparison


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


def tally(claims: Iterable[Claim]) -> Counter[str]:
    """How many of the paper's findings are `confirmed`, `contradicted` or `open`.

    A finding is one thing compared with one other, on every test set and by every measure there is; it is confirmed
    (contradicted) when all of its claims are.
    """
    findings: dict[tuple[str, str], set[Verdict]] = {}
    for claim in claims:
        if claim.paper:
            findings.setdefault((claim.text, claim.than), set()).add(verdict(claim))
    kinds = {frozenset({"confirmed"}): "confirmed", frozenset({"contradicted"}): "contradicted"}
    return Counter(kinds.get(frozenset(found), "open") for found in findings.values())


def extreme(measures: Sequence[Measure], largest: bool) -> Measure:
    """A group as one measure: its largest (or smallest) value and bounds, so that it speaks for every member.

    The largest of one group lies below the smallest of another just when every pair does.
    """
    of = max if largest else min
    if any(one.value is None or one.interval is None for one in measures):
        return Measure(None, reason="not measured for the whole group")
    return Measure(*(of(getattr(one, name) for one in measures) for name in ("value", "lo", "hi")))


def paragraph(claims: Sequence[Claim]) -> str:
    """One paragraph: the paper's findings, then what it did not compare."""
    known, own = ([claim for claim in claims if claim.paper == paper] for paper in (True, False))
    nothing = "Nothing to judge: the methods to compare are not in this run."
    parts = [f"**Against the paper.** {_judged(known) or nothing}"]
    if own:
        parts.append(f"**Beyond the paper.** {_judged(own)}")
    return " ".join(parts)


def _judged(claims: Sequence[Claim]) -> str:
    """The claims gathered under their verdicts, each with the places where it holds."""
    gathered: dict[Verdict, dict[str, list[Claim]]] = {}
    for claim in claims:
        gathered.setdefault(verdict(claim), {}).setdefault(claim.text, []).append(claim)
    parts = []
    for kind, words in WORDS.items():
        if kind in gathered:
            found = "; ".join(f"{text}{_others(same)}" for text, same in gathered[kind].items())
            parts.append(f"*{words}:* {found}.")
    return " ".join(parts)


def listed(words: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _others(claims: Sequence[Claim]) -> str:
    """What one text is compared with and where: ` than a and b (web by kd), than c (cctv by kd)`."""
    compared: dict[str, list[Claim]] = {}
    for claim in claims:
        compared.setdefault(claim.than, []).append(claim)
    places: dict[str, list[str]] = {}
    for than, same in compared.items():
        places.setdefault(_places(same), []).append(than)
    return ",".join(
        (f" than {listed(others)}" if any(others) else "") + (f" ({where})" if where else "")
        for where, others in places.items()
    )


def _places(claims: Sequence[Claim]) -> str:
    """Test sets and measures, test sets with the same measures together."""
    measures: dict[str, list[str]] = {}
    for claim in claims:
        measures.setdefault(claim.where, []).append(claim.by)
    sets: dict[str, list[str]] = {}
    for where, names in measures.items():
        sets.setdefault(listed(names), []).append(where)
    return "; ".join((listed(wheres) + (f" by {names}" if names else "")).strip() for names, wheres in sets.items())
