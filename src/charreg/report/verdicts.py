"""Which of the paper's findings a run confirms, computed from intervals and never from the point values.

Disjoint 95% intervals confirm or contradict; overlapping ones cannot tell. What the paper did not compare is judged
in the same way and told apart.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from charreg.report.results import Measure

K = TypeVar("K")
Better = Literal["lower", "higher"]
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
    findings = _grouped((claim for claim in claims if claim.paper), lambda claim: (claim.text, claim.than)).values()
    kinds = {frozenset({"confirmed"}): "confirmed", frozenset({"contradicted"}): "contradicted"}
    return Counter(kinds.get(frozenset(map(verdict, same)), "open") for same in findings)


def _grouped(claims: Iterable[Claim], key: Callable[[Claim], K]) -> dict[K, list[Claim]]:
    """The claims with the same key together, in the order of the first of each."""
    groups: dict[K, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(key(claim), []).append(claim)
    return groups


@dataclass(frozen=True)
class Place:
    """Where methods are compared and by what."""

    find: Callable[[str], Measure]  # the value of a method
    where: str = ""  # the test set
    by: str = ""  # the measure
    paper: bool = True  # whether the paper compares there


@dataclass(frozen=True)
class Comparison:
    """The methods of one table, compared in some places.

    labels: of all methods that may be compared, by method; published: the paper's values, which say what it compared.
    A text has `{}` for what it is about.
    """

    labels: Mapping[str, str]
    published: Mapping[str, float]
    places: Sequence[Place]

    def claims(self, text: str, better: Better, ours: Iterable[str], theirs: Iterable[str]) -> list[Claim]:
        """All of ours have better values than all of theirs, in every place; nothing where one side is not there."""
        ours, theirs = ([method for method in side if method in self.labels] for side in (ours, theirs))
        if not ours or not theirs:
            return []
        ours_listed, than = (listed([self.labels[method] for method in side]) for side in (ours, theirs))
        paper = any(method in self.published for method in theirs)
        low, high = (ours, theirs) if better == "lower" else (theirs, ours)
        claims = []
        for place in self.places:
            small = extreme([place.find(method) for method in low], largest=True)
            large = extreme([place.find(method) for method in high], largest=False)
            claims.append(
                Claim(text.format(ours_listed), place.where, place.by, small, large, than, paper and place.paper)
            )
        return claims

    def each(self, text: str, better: Better, one: str, others: Iterable[str]) -> list[Claim]:
        """One method has better values than every other, each of them a claim of its own."""
        return [claim for other in others if other != one for claim in self.claims(text, better, [one], [other])]

    def as_published(self, texts: Mapping[Better, str], one: str, others: Iterable[str]) -> list[Claim]:
        """`each`, with the others on the sides where the paper has them."""
        if one not in self.published:
            return []
        value, known = self.published[one], [other for other in others if other in self.published]
        sides: dict[Better, list[str]] = {
            "lower": [other for other in known if value < self.published[other]],
            "higher": [other for other in known if value > self.published[other]],
        }
        return [claim for side, text in texts.items() for claim in self.each(text, side, one, sides[side])]


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
    kinds = _grouped(claims, verdict)
    parts = []
    for kind, words in WORDS.items():
        texts = _grouped(kinds.get(kind, []), lambda claim: claim.text)
        if texts:
            parts.append(f"*{words}:* {'; '.join(text + _others(same) for text, same in texts.items())}.")
    return " ".join(parts)


def listed(words: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _others(claims: Sequence[Claim]) -> str:
    """What one text is compared with and where: ` than a and b (web by kd), than c (cctv by kd)`."""
    places: dict[str, list[str]] = {}
    for than, same in _grouped(claims, lambda claim: claim.than).items():
        places.setdefault(_places(same), []).append(than)
    return ",".join(
        (f" than {listed(others)}" if any(others) else "") + (f" ({where})" if where else "")
        for where, others in places.items()
    )


def _places(claims: Sequence[Claim]) -> str:
    """Test sets and measures, test sets with the same measures together."""
    sets: dict[str, list[str]] = {}
    for where, same in _grouped(claims, lambda claim: claim.where).items():
        sets.setdefault(listed([claim.by for claim in same]), []).append(where)
    return "; ".join((listed(wheres) + (f" by {names}" if names else "")).strip() for names, wheres in sets.items())
