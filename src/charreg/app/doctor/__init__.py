"""What would go wrong, and how long it would take, before hours are spent on a run."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from charreg.app.doctor.environment import check_device, check_launch, check_versions, check_weights, processes_of
from charreg.app.doctor.finding import Finding, duration
from charreg.app.doctor.photographs import CheckedRole, check_roles, extraction_time
from charreg.app.doctor.resources import check_disk, check_memory, peak_memory
from charreg.app.doctor.trainings import Measured, measure, plans
from charreg.core.errors import CharregError
from charreg.core.params import Params, check_params, parse_yaml, read_all_params
from charreg.core.profiles import apply_profile, read_profile
from charreg.core.runtime import runtime

LONG = 7 * 24 * 3600.0  # s of training that deserve a second thought


def examine(
    file: Path, profile: Path | None, settings: Sequence[str], constraints: Path, timing: bool
) -> Iterator[Finding]:
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
    yield check_versions(constraints)
    yield from check_weights(params)

    roles, findings = check_roles(params, timing)
    yield from findings
    yield from extraction_time(roles)
    extraction = peak_memory() if timing else None

    here, nodes = processes_of(runtime().launch)
    trainings: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        for plan in plans(params, Path(folder), device):
            try:
                trainings.append(measure(plan, timing))
            except CharregError as error:
                yield Finding("FAULT", plan.name, str(error))
                continue
            yield describe(trainings[-1], here * nodes)
    if timing:
        yield total_time(trainings, roles)
    yield from check_disk(params, roles, trainings)
    yield from check_memory(extraction, peak_memory() if timing else None, here)


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


def describe(training: Measured, processes: int) -> Finding:
    """A training that starts: its length, and its time where it was measured."""
    if training.batch % processes:
        text = f"batch {training.batch}, wanted a multiple of the {processes} processes of CHARREG_LAUNCH"
        return Finding("FAULT", training.name, text)
    times = f" x {training.runs} seeds" if training.runs > 1 else ""
    text = f"{training.iterations:,} steps of batch {training.batch}{times}"
    if training.seconds is None:
        return Finding("ok", training.name, text)
    return Finding("ok", training.name, f"{duration(seconds_of(training))} ({text} x {training.seconds:.3g} s)")


def seconds_of(training: Measured) -> float:
    """All runs of a training, by this machine's one process."""
    return training.runs * training.iterations * (training.seconds or 0.0)


def total_time(trainings: Sequence[Measured], roles: dict[str, CheckedRole]) -> Finding:
    """Trainings one after the other, as `dvc repro` runs them; evaluation and reports are not in it."""
    seconds = sum(map(seconds_of, trainings))
    photos = sum(role.count for role in roles.values())
    text = f"{duration(seconds)} of training in one process on this machine, after {photos:,} photographs"
    return Finding("warning" if seconds > LONG else "ok", "time of all trainings", text)
