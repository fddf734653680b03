"""What would go wrong, and how long it would take, before hours are spent on a run."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from charreg.app.doctor.finding import Finding, Level, at_least, checked, duration
from charreg.app.doctor.machine import check_device, check_disk, check_launch, check_memory, processes_of
from charreg.app.doctor.photographs import check_roles, workers_of
from charreg.app.doctor.trainings import Measured, check_trainings
from charreg.core.errors import CharregError
from charreg.core.params import EvaluateOptions, Params, check_params, parse_yaml, read_all_params
from charreg.core.profiles import apply_profile, read_profile
from charreg.core.runtime import runtime
from charreg.metrics.features import load_feature_network

LONG = 7 * 24 * 3600.0  # s of training that deserve a second thought


def examine(file: Path, profile: Path | None, settings: Sequence[str], timing: bool) -> Iterator[Finding]:
    """Check a run before it starts, finding after finding.

    file: params.yaml; profile: a file of profiles/; settings: `key=value` with dotted keys; timing: measure
    trainings and extraction, which takes from seconds to a few minutes.
    """
    try:
        params = read_settings(file, profile, settings)
    except CharregError as error:
        yield Finding("FAULT", "parameters", str(error))
        return
    yield Finding("ok", "parameters", f"{file}{f' with {profile}' if profile else ''}")
    device, finding = check_device()
    yield finding
    yield check_launch(device)
    yield checked("feature network", lambda: feature_network(params.evaluate, device))

    roles = check_roles(params, timing)
    for role in roles.values():
        yield from role.findings

    here, nodes = processes_of(runtime().launch)
    trainings: list[Measured] = []
    faulty = []
    with tempfile.TemporaryDirectory() as folder:
        for finding, measured in check_trainings(params, Path(folder), device, here * nodes, timing):
            yield finding
            if measured:
                trainings.append(measured)
            else:
                faulty.append(finding.subject)

    faces = {key: role.faces for key, role in roles.items() if role.faces is not None}
    yield check_disk(params, faces, trainings, [*(key for key in roles if key not in faces), *faulty])
    if timing:
        yield total_time(trainings, faulty)
        absent = [key for key, role in roles.items() if not role.there]
        yield check_memory(max(here, workers_of(runtime().executor)), [*absent, *faulty])


def feature_network(options: EvaluateOptions, device: torch.device) -> str:
    """What measures the distances; it is there, with the right SHA-256. Raises CharregError."""
    network = load_feature_network(options, device)
    return f"{network.name}, weights {network.weights_sha256[:12]}"


def total_time(trainings: Sequence[Measured], faulty: Sequence[str]) -> Finding:
    """Trainings one after the other, as `dvc repro` runs them; evaluation and reports are not in it."""
    seconds = sum(each.seconds for each in trainings)
    level: Level = "unknown" if faulty else "warning" if seconds > LONG else "ok"
    text = f"{duration(seconds)} of training in one process on this machine"
    return Finding(level, "time of all trainings", at_least(text, faulty))


def read_settings(file: Path, profile: Path | None, settings: Sequence[str]) -> Params:
    """params.yaml with a profile and then `key=value` settings applied. Raises CharregError."""
    read_all_params(file)
    content = parse_yaml(file)
    if profile is not None:
        content = apply_profile(content, read_profile(profile))
    for setting in settings:
        content = apply_profile(content, _nested(setting))
    return check_params(content, file)


def _nested(setting: str) -> dict[str, Any]:
    """`a.b=1` as {a: {b: 1}}."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise CharregError(f"--set {setting}: wanted key=value, as in lambda_cr=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise CharregError(f"--set {setting}: {text!r} is not a plain value") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)
