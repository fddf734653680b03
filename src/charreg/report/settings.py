"""Where a run departs from the paper: every key that differs from profiles/paper.yaml."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charreg.core.params import Params
from charreg.core.profiles import read_profile
from charreg.report.markup import Column, Table
from charreg.report.published import in_order

BOOKKEEPING = ("lr_distance_faces",)  # change no model


def departures(params: Params, paper: Path) -> Table:
    """The keys of profiles/paper.yaml that this run sets otherwise; a line for each declared peer."""
    profile = read_profile(paper)
    peers: Mapping[str, Mapping[str, Any]] = profile.pop("peers", {})
    rows = [
        (f"`{key}`", (_plain(value), _plain(wanted)))
        for key, value, wanted in _different(_flat(profile), params)
        if not key.endswith(BOOKKEEPING)
    ]
    for name in _declared_peers(params):
        changed = list(_different(_flat(peers.get(name, {})), params.peers[name]))
        changed = [one for one in changed if not one[0].endswith(BOOKKEEPING)]
        if changed:
            run, wanted = (", ".join(f"{one[0]} {_plain(one[at])}" for one in changed) for at in (1, 2))
            rows.append((f"`peers.{name}`", (run, wanted)))
    return Table(
        "settings",
        "Where this run departs from the paper's setting",
        (Column("run", "this run"), Column("paper", "paper (profiles/paper.yaml)")),
        tuple(rows),
        first="Key",
    )


def _declared_peers(params: Params) -> list[str]:
    """The peers among the methods of the run, in the order of the tables."""
    return [method for method in in_order(params.methods) if method in params.peers]


def _different(wanted: Iterable[tuple[str, Any]], params: object) -> Iterator[tuple[str, Any, Any]]:
    """The keys whose value differs from the wanted one, both values with them."""
    for key, other in wanted:
        value: Any = params
        for part in key.split("."):
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        if _plain(value) != _plain(other):
            yield key, value, other


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(part) for part in value) + "]"
    if isinstance(value, bool):
        return "on" if value else "off"
    try:
        return f"{float(value):,.0f}" if float(value) >= 1000 else f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value)
