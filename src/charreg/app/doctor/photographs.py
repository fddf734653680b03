"""The raw data of every role: there, well-formed, how much, and how long its faces take to find."""

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from charreg.app.doctor.finding import Finding, Level, duration
from charreg.core.errors import CharregError
from charreg.core.params import HrSource, LrSource, Params
from charreg.core.runtime import runtime
from charreg.photos.composed import make_composed_photos
from charreg.photos.crowds import make_packaged_photos
from charreg.photos.extraction import crop_of, extract_hr_faces, extract_lr_faces, read_exclusions
from charreg.photos.records import Found
from charreg.photos.sources import Photo, PhotoList, find_photos

MEASURED = 5  # photographs of a role, evenly spaced
PORTRAITS_PER_PERSON = 10  # of the packaged ones
COMPOSED_OF = 24  # portraits that a composed photograph is tried with
ASSUMED_FACES = 5.0  # of a photograph, where nothing is annotated and nothing measured: WIDER FACE gives 4.8


@dataclass(frozen=True)
class CheckedRole:
    """What is known of a role's photographs before they are extracted."""

    key: str  # as in params.yaml: lr_roles.web
    count: int
    faces_per_photo: float
    photos: list[Photo]  # may be fewer than `count` while they are yet to be made
    seconds: float | None = None  # of one photograph on one worker

    @property
    def faces(self) -> int:
        """Crops the role will have, about."""
        return round(self.count * self.faces_per_photo)


def check_roles(params: Params, timing: bool) -> tuple[dict[str, CheckedRole], list[Finding]]:
    """Every role whose data is there, by its key, and what was found."""
    roles: dict[str, CheckedRole] = {}
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as samples:
        for key, source in sources_of(params).items():
            try:
                role = _role(key, source, params, Path(samples) if timing else None)
                role, tried = _measure(role, source, params) if timing else (role, [])
            except CharregError as error:
                findings.append(Finding("FAULT", key, str(error)))
                continue
            roles[key] = role
            text = f"{source.source} {source.path}: {role.count:,} photographs"
            faults = [found for found in tried if found.fault]
            if faults:
                text += f", {len(faults)} of {len(tried)} tried are {faults[0].fault} ({faults[0].photo})"
            findings.append(Finding(_level(len(faults), len(tried)), key, text))
    findings += _portraits(params)
    return roles, [*findings, *_people(roles, params), *_shared_paths(params), *_exclude_lists(params)]


def _level(faults: int, tried: int) -> Level:
    return "ok" if not faults else "FAULT" if faults == tried else "warning"


def sources_of(params: Params) -> dict[str, HrSource | LrSource]:
    """Every role's source by its key."""
    hr: dict[str, HrSource | LrSource] = {f"hr_roles.{role}": source for role, source in params.hr_roles.items()}
    return hr | {f"lr_roles.{role}": source for role, source in params.lr_roles.items()}


def _role(key: str, source: HrSource | LrSource, params: Params, samples: Path | None) -> CheckedRole:
    """Raises CharregError when the data is not there or not laid out as its source wants."""
    path, made = Path(source.path), None
    if source.source == "packaged" and not path.exists():
        made = _count_to_be_made(key, path, params)
        if samples is None:
            return CheckedRole(key, made, _assumed_faces(key, [], params), [])
        path = _sample_of(path, samples, params)
    photos = _find(source, path).photos
    if not photos:
        raise CharregError(f"{path}: no photograph, wanted at least one of source {source.source}")
    return CheckedRole(key, made or len(photos), _assumed_faces(key, photos, params), photos)


def _find(source: HrSource | LrSource, path: Path) -> PhotoList:
    stride = source.stride if isinstance(source, LrSource) else 1
    return find_photos(source.source, path, source.split, stride)


def _count_to_be_made(key: str, path: Path, params: Params) -> int:
    """Photographs that a stage will put at a path that ends in portraits/<role>, photos/<role> or composed/<role>."""
    options, kind, role = params.packaged_photos, path.parent.name, path.name
    made = {
        "photos": {str(name): count for name, count in options.photos.items()},
        "portraits": {str(name): count * PORTRAITS_PER_PERSON for name, count in options.people.items()},
        "composed": {str(name): source.photos for name, source in params.composed_photos.items()},
    }
    if role not in made.get(kind, {}):
        stage = "composed_photos" if kind == "composed" else "packaged_photos"
        raise CharregError(f"{path}: no such folder, and stage {stage} makes none of this name; see {key}.path")
    return made[kind][role]


def _sample_of(path: Path, samples: Path, params: Params) -> Path:
    """A folder with one photograph as the stage will make them, below `samples`, made once."""
    kind, role = path.parent.name, path.name
    if kind == "composed":
        source = params.composed_photos[role]  # type: ignore[index]
        raw = _find(source, Path(source.path))
        few = replace(raw, photos=raw.photos[:: max(1, len(raw.photos) // COMPOSED_OF)])
        one = source.model_copy(update={"photos": 1})
        out = samples / kind / role
        out.mkdir(parents=True)
        make_composed_photos(out, role, one, few, params.packaged_photos, params.seed)  # type: ignore[arg-type]
        return out
    packaged = samples / "packaged"
    if not packaged.exists():
        packaged.mkdir()
        one_each = {"photos": dict.fromkeys(params.packaged_photos.photos, 1)}
        make_packaged_photos(packaged, params.packaged_photos.model_copy(update=one_each), params.seed)
    return packaged / kind / role


def _portraits(params: Params) -> Iterator[Finding]:
    """The portraits of composed photographs, and that it is known whose they are."""
    for role, source in params.composed_photos.items():
        key = f"composed_photos.{role}"
        try:
            photos = _find(source, Path(source.path)).photos
        except CharregError as error:
            yield Finding("FAULT", key, str(error))
            continue
        nameless = [photo.name for photo in photos if not photo.identity]
        people = len({photo.identity for photo in photos})
        text = f"{source.source} {source.path}: {len(photos):,} portraits of {people:,} people"
        if nameless:
            text = f"{source.path}: {nameless[0]} has no identity, wanted one for every composed face"
        yield Finding("FAULT" if nameless or not photos else "ok", key, text)


def _assumed_faces(key: str, photos: list[Photo], params: Params) -> float:
    """Crops a photograph gives: copies of a portrait; annotated faces of the size wanted, where they are known."""
    if key.startswith("hr_roles"):
        return params.hr_faces.copies if key == "hr_roles.train" else 1
    if params.lr_roles[key.removeprefix("lr_roles.")].boxes == "ready":  # type: ignore[index]
        return 1
    low, high = params.lr_faces.face
    sides = [max(box.width, box.height) for photo in photos for box in photo.boxes]
    return sum(low <= side <= high for side in sides) / len(photos) if sides else ASSUMED_FACES


def _measure(role: CheckedRole, source: HrSource | LrSource, params: Params) -> tuple[CheckedRole, list[Found]]:
    """Extract some photographs of a role as its stage does."""
    step = max(1, len(role.photos) // MEASURED)
    found, times = [], []
    for photo in role.photos[::step][:MEASURED]:
        start = time.perf_counter()
        found.append(_extract(photo, role.key, source, params))
        times.append(time.perf_counter() - start)
    if len(times) > 1:
        times = times[1:]  # the first loads the detector
    faces = role.faces_per_photo
    if isinstance(source, LrSource) and source.boxes == "detector":
        faces = statistics.fmean(len(each.faces) for each in found)
    return replace(role, seconds=statistics.fmean(times), faces_per_photo=faces), found


def _extract(photo: Photo, key: str, source: HrSource | LrSource, params: Params) -> Found:
    if isinstance(source, LrSource):
        return extract_lr_faces(photo, source.source, params.detection, params.lr_faces, (), source.boxes)
    options = params.hr_faces.model_copy(update={"crop": crop_of(source, params.hr_faces)})
    copies = options.copies if key == "hr_roles.train" else 1
    return extract_hr_faces(photo, source.source, params.detection, options, copies, params.seed)


def _people(roles: Mapping[str, CheckedRole], params: Params) -> Iterator[Finding]:
    """The recogniser has to tell people apart: two at least beside those held out to test it."""
    role = roles.get("hr_roles.train")
    if role is None or not role.photos:
        return
    portraits = Counter(
        name for photo in role.photos for name in {photo.identity, *(box.identity for box in photo.boxes)} if name
    )
    people = [name for name, count in portraits.items() if count >= params.min_portraits]
    wanted = params.train_centreface.holdout_ids + 2
    text = f"{len(people):,} people, at least {wanted} wanted (train_centreface.holdout_ids and two to tell apart)"
    if params.min_portraits > 1:
        text = text.replace("people", f"people with {params.min_portraits} portraits", 1)
    yield Finding("FAULT" if len(people) < wanted else "ok", "people of hr_roles.train", text)


def _shared_paths(params: Params) -> Iterator[Finding]:
    """Roles that would look at the same photographs."""
    seen: dict[tuple[str, str], str] = {}
    for key, source in sources_of(params).items():
        place = (source.path, source.split)
        if place in seen:
            yield Finding(
                "warning", key, f"the same photographs as {seen[place]} ({source.path}); training and tests overlap"
            )
        seen.setdefault(place, key)


def _exclude_lists(params: Params) -> Iterator[Finding]:
    for role, source in params.lr_roles.items():
        try:
            read_exclusions(Path(source.exclude))
        except CharregError as error:
            yield Finding("FAULT", f"lr_roles.{role}.exclude", str(error))


def extraction_time(roles: Mapping[str, CheckedRole]) -> Iterator[Finding]:
    """The time of every extraction on its workers, as measured here."""
    for key, role in roles.items():
        if role.seconds is None:
            continue
        executor = runtime().executor
        workers = workers_of(executor)
        words = f"{role.count:,} photographs x {role.seconds:.3g} s"
        if executor.startswith("dask"):
            yield Finding("ok", f"time of {key}", f"{duration(role.count * role.seconds)} of one dask worker ({words})")
            continue
        used = min(workers, os.cpu_count() or 1)
        yield Finding(
            "ok", f"time of {key}", f"{duration(role.count * role.seconds / used)} ({words} / {used} processes)"
        )


def workers_of(executor: str) -> int:
    """Processes of this machine an executor has."""
    return int(executor.partition(":")[2]) if executor.startswith("processes") else 1
