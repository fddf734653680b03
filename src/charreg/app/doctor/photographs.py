"""The raw data of every role: there, well-formed, how much, and how long its faces take to find."""

import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from charreg.app.doctor.finding import Finding, Level, duration
from charreg.core.errors import CharregError
from charreg.core.params import HrSource, LrSource, Params
from charreg.core.runtime import runtime
from charreg.photos.extraction import crop_of, extract_hr_faces, extract_lr_faces, read_exclusions
from charreg.photos.records import Found
from charreg.photos.sources import Photo, find_photos

MEASURED = 5  # photographs of a role, evenly spaced
PORTRAITS_PER_PERSON = 10  # of the packaged ones
ASSUMED_FACES = 5.0  # of a photograph, where nothing is measured: WIDER FACE gives 4.8


@dataclass(frozen=True)
class CheckedRole:
    """A role's photographs before they are extracted: what was found, and how many crops they give, about."""

    findings: list[Finding]
    faces: int | None = None
    there: bool = False  # and not yet to be made


def check_roles(params: Params, timing: bool) -> dict[str, CheckedRole]:
    """Every role, and the portraits of composed photographs, by its key in params.yaml.

    timing: extract some photographs as the stage will.
    """
    roles: dict[str, CheckedRole] = {}
    seen: dict[tuple[str, str], str] = {}
    for key, source in sources_of(params).items():
        try:
            roles[key] = check_role(key, source, params, timing)
        except CharregError as error:
            roles[key] = CheckedRole([Finding("FAULT", key, str(error))])
        other = seen.setdefault((source.path, source.split), key)
        if other != key:
            text = f"the same photographs as {other} ({source.path}); training and tests overlap"
            roles[key].findings.append(Finding("warning", key, text))
    return roles


def sources_of(params: Params) -> dict[str, HrSource | LrSource]:
    """Every source by its key: lr_roles.web, composed_photos.cctv."""
    found: dict[str, HrSource | LrSource] = {f"hr_roles.{role}": source for role, source in params.hr_roles.items()}
    found |= {f"lr_roles.{role}": source for role, source in params.lr_roles.items()}
    return found | {f"composed_photos.{role}": source for role, source in params.composed_photos.items()}


def check_role(key: str, source: HrSource | LrSource, params: Params, timing: bool) -> CheckedRole:
    """Raises CharregError when the data is not there or not laid out as its source wants."""
    path, each = Path(source.path), faces_of_a_photo(key, source, params)
    if isinstance(source, LrSource):
        read_exclusions(Path(source.exclude))
    if source.source == "packaged" and not path.exists():
        count = count_to_be_made(key, path, params)
        return CheckedRole([Finding("ok", key, f"{path}: {count:,} photographs, yet to be made")], round(count * each))
    stride = source.stride if isinstance(source, LrSource) else 1
    photos = find_photos(source.source, path, source.split, stride).photos
    if not photos:
        raise CharregError(f"{path}: no photograph, wanted at least one of source {source.source}")
    nameless = [photo.name for photo in photos if not photo.identity]
    if key.startswith("composed_photos") and nameless:
        raise CharregError(f"{path}: {nameless[0]} has no identity, wanted one for every composed face")
    text = f"{source.source} {path}: {len(photos):,} photographs"
    level: Level = "ok"
    if timing:
        found, seconds = extract_some(key, photos, source, params)
        faults = [one for one in found if one.fault]
        level = "ok" if not faults else "FAULT" if len(faults) == len(found) else "warning"
        text += f", {time_of(len(photos), seconds)}"
        if faults:
            text += f", {len(faults)} of {len(found)} tried are {faults[0].fault} ({faults[0].photo})"
        if isinstance(source, LrSource):
            each = statistics.fmean(len(one.faces) for one in found)
    findings = [Finding(level, key, text)]
    if key == "hr_roles.train":
        findings.append(check_people(photos, params))
    return CheckedRole(findings, round(len(photos) * each), True)


def count_to_be_made(key: str, path: Path, params: Params) -> int:
    """Photographs that a stage will put at a path that ends in portraits/<role>, photos/<role> or composed/<role>."""
    options, kind = params.packaged_photos, path.parent.name
    made = {
        "photos": {str(name): count for name, count in options.photos.items()},
        "portraits": {str(name): count * PORTRAITS_PER_PERSON for name, count in options.people.items()},
        "composed": {str(name): source.photos for name, source in params.composed_photos.items()},
    }
    if path.name not in made.get(kind, {}):
        stage = "composed_photos" if kind == "composed" else "packaged_photos"
        raise CharregError(f"{path}: no such folder, and stage {stage} makes none of this name; see {key}.path")
    return made[kind][path.name]


def faces_of_a_photo(key: str, source: HrSource | LrSource, params: Params) -> float:
    """Crops a photograph gives, as far as the parameters tell."""
    if isinstance(source, LrSource):
        return 1 if source.boxes == "ready" else ASSUMED_FACES
    return {"hr_roles.train": params.hr_faces.copies, "hr_roles.test": 1}.get(key, 0)


def extract_some(
    key: str, photos: list[Photo], source: HrSource | LrSource, params: Params
) -> tuple[list[Found], float]:
    """What some photographs of a role give, extracted as its stage does, and the seconds of one."""
    found, times = [], []
    for photo in photos[:: max(1, len(photos) // MEASURED)][:MEASURED]:
        start = time.perf_counter()
        if isinstance(source, LrSource):
            one = extract_lr_faces(photo, source.source, params.detection, params.lr_faces, (), source.boxes)
        else:
            options = params.hr_faces.model_copy(update={"crop": crop_of(source, params.hr_faces)})
            copies = options.copies if key == "hr_roles.train" else 1
            one = extract_hr_faces(photo, source.source, params.detection, options, copies, params.seed)
        times.append(time.perf_counter() - start)
        found.append(one)
    return found, statistics.fmean(times[1:] or times)  # the first loads the detector


def time_of(count: int, seconds: float) -> str:
    """The time of an extraction on the processes of this machine; of how many a dask cluster has, nothing is known."""
    used = min(workers_of(runtime().executor), os.cpu_count() or 1)
    return f"{duration(count * seconds / used)} ({seconds:.3g} s each / {used} processes)"


def workers_of(executor: str) -> int:
    """Processes of this machine an executor has."""
    return int(executor.partition(":")[2]) if executor.startswith("processes") else 1


def check_people(photos: list[Photo], params: Params) -> Finding:
    """The recogniser has to tell people apart: two at least beside those held out to test it."""
    portraits = Counter(
        name for photo in photos for name in {photo.identity, *(box.identity for box in photo.boxes)} if name
    )
    people = sum(count >= params.min_portraits for count in portraits.values())
    wanted = params.train_centreface.holdout_ids + 2
    level: Level = "FAULT" if people < wanted else "ok"
    text = f"{people:,} with {params.min_portraits} portraits or more, at least {wanted} wanted "
    return Finding(level, "people of hr_roles.train", text + "(train_centreface.holdout_ids and two to tell apart)")
