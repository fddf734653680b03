"""What a run does that the paper does not: every value that differs from the paper's, and options it does not have."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charreg.core.params import Params
from charreg.core.profiles import read_profile
from charreg.report.markup import Column, Table
from charreg.report.published import in_order

BOOKKEEPING = "lr_distance_faces"  # changes no model
OF_EVERY_JOB: dict[str, tuple[str, Any]] = {  # options beyond the paper: what they are, and their value when off
    "ema": ("generator averages", 0.0),
    "clip_norm": ("gradient clipping", 0.0),
    "lr_decay": ("rate decay", "none"),
}
OF_CR: dict[str, tuple[str, Any]] = {  # a peer's switches of these names belong to its method
    **OF_EVERY_JOB,
    "spectral_norm": ("on discriminators", False),
    "d_lr_factor": ("discriminator rate factor", 1.0),
    "d_jitter": ("discriminator jitter", False),
    "pseudo_noise": ("noise on pseudo-genuine faces", 0.0),
    "adv_warmup": ("adversarial warm-up", 0.0),
    "adv_ramp": ("adversarial ramp", 0.0),
    "content_weight": ("content term of the inverse", 0.0),
    "keep_sr_adv": ("image GAN kept in the joint training", 0.0),
    "sr_on_pseudo": ("SR on pseudo-genuine faces", False),
}


def departures(params: Params, paper: Path) -> Table:
    """The keys that this run sets otherwise than profiles/paper.yaml or switches on beyond the paper, and both values;
    a line for each declared peer."""
    profile = read_profile(paper)
    peers: Mapping[str, Mapping[str, Any]] = profile.pop("peers", {})
    rows = {}
    for key, found in _different(profile, params, OF_CR).items():
        words, _ = OF_CR.get(key.rpartition(".")[2], ("", None))
        rows[f"`{key}`{words and ': ' + words}"] = found
    for name in in_order(params.methods):
        if changed := _different(peers.get(name, {}), params.peers.get(name), OF_EVERY_JOB):
            run, wanted = (", ".join(f"{key} {found[at]}" for key, found in changed.items()) for at in (0, 1))
            rows[f"`peers.{name}`"] = (run, wanted)
    return Table(
        "settings",
        "Where this run departs from the paper's setting",
        "Key",
        {label: label for label in rows},
        [
            Column("run", "this run", lambda label: rows[label][0]),
            Column("paper", "paper", lambda label: rows[label][1]),
        ],
        "Keys with words are options that the paper does not have; its own values are those of `profiles/paper.yaml`.",
    )


def _different(
    profile: Mapping[str, Any], params: Any, beyond: Mapping[str, tuple[str, Any]]
) -> dict[str, tuple[str, str]]:
    """The values of `params` and of the paper where they differ, by key; beyond: options that the paper has off."""
    found = {}
    for key, wanted in _flat(profile):
        *_, name = parts = key.split(".")
        value = params
        for part in parts:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        _, wanted = beyond.get(name, ("", wanted))
        if name != BOOKKEEPING and _plain(value) != _plain(wanted):
            found[key] = (_plain(value), _plain(wanted))
    return found


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
