"""Where a run departs from the paper: every key that differs from profiles/paper.yaml."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charreg.core.params import Params
from charreg.core.profiles import read_profile
from charreg.report.markup import Column, Table
from charreg.report.published import in_order

BOOKKEEPING = ("lr_distance_faces",)  # change no model
ADVERSARIAL = ("pretrain_inverse_cr", "pretrain_cr", "finetune_joint")
OF_EVERY_JOB = ("ema", "clip_norm", "lr_decay")  # a peer's other switches belong to its method


def stabilisers(params: Params) -> list[str]:
    """Options beyond the paper that are on, a phrase each."""
    jobs = {name: getattr(params, name) for name in ("pretrain_sr", *ADVERSARIAL)}
    peers = {name: params.peers[name] for name in _declared_peers(params)}
    found = []
    if params.discriminator.spectral_norm:
        found.append("spectral norm on image discriminators")
    if params.feature_discriminator.spectral_norm:
        found.append("spectral norm on the feature discriminator")
    switches = (
        ("ema", 0.0, "generator averages (EMA)"),
        ("clip_norm", 0.0, "gradient clipping at norm"),
        ("d_lr_factor", 1.0, "discriminator rate factor"),
        ("pseudo_noise", 0.0, "noise on pseudo-genuine faces"),
        ("d_jitter", False, "discriminator jitter"),
        ("lr_decay", "none", "rate decay"),
        ("adv_warmup", 0.0, "adversarial warm-up"),
        ("adv_ramp", 0.0, "adversarial ramp"),
        ("content_weight", 0.0, "content term of the inverse"),
        ("keep_sr_adv", 0.0, "image GAN kept in the joint training"),
        ("sr_on_pseudo", False, "SR on pseudo-genuine faces"),
    )
    for key, off, words in switches:
        asked = {**jobs, **peers} if key in OF_EVERY_JOB else jobs
        values = {name: getattr(job, key) for name, job in asked.items() if hasattr(job, key)}
        on = {name: value for name, value in values.items() if value != off}
        if on:
            settings = ", ".join(_plain(value) for value in dict.fromkeys(on.values()) if value is not True)
            where = "" if len(on) == len(asked) else f" ({', '.join(on)})"
            found.append(f"{words}{' ' + settings if settings else ''}{where}")
    return found


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
