"""Photographs -> faces: detection, rejection and crops, mapped over any concurrent.futures executor."""

import contextlib
import multiprocessing
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from charreg.detection import (
    DetectedFace,
    Points,
    Square,
    box_of,
    crop_square,
    detect_faces,
    overlap_of,
    points_in_square,
    smallest_side,
    square_of,
)
from charreg.errors import CharregError
from charreg.faces import LANDMARK_COLUMNS, FaceWriter, Pixels
from charreg.images import REASONS, Picture, RejectedImage, read_picture
from charreg.params import Detection, HrFaces, LrFaces, LrSource, Source
from charreg.sources import Box, Photo, PhotoList

RECALL_SIDES = (12.0, 24.0)  # px, longer side of the annotated faces that count
EXCLUDE_REACH = 1.0  # px a listed corner may be off, so that a list outlives a new version of a library


@dataclass
class Found:
    """What one photograph gave: faces (image, index row, LR face or None) and what did not become one."""

    photo: str
    faces: list[tuple[Pixels, dict[str, Any], Pixels | None]] = field(default_factory=list)
    rejections: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    fault: str = ""  # why the photograph was left out: a key of images.REASONS
    excluded: frozenset[int] = frozenset()  # lines of the exclude list that were used
    true_faces: int = 0  # annotated, in RECALL_SIDES
    true_found: int = 0  # of these, matched by a kept face
    kept_true: int = 0  # kept faces that match any annotated face


# --- low resolution --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exclusion:
    """A face to leave out: line of the list, photo and the corner of its box, px."""

    line: int
    photo: str
    left: float
    top: float


def read_exclusions(path: Path) -> list[Exclusion]:
    """Faces to leave out, `photo left top` a line; # begins a comment. Raises CharregError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CharregError(f"{path}: {error}; wanted a list of `photo left top`, it may be empty") from None
    exclusions = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            photo, left, top = text.rsplit(maxsplit=2)
            exclusions.append(Exclusion(number, photo, float(left), float(top)))
        except ValueError:
            raise CharregError(f"{path}:{number}: found {text!r}, wanted `photo left top`") from None
    return exclusions


def extract_lr_faces(
    photo: Photo, source: str, detection: Detection, params: LrFaces, exclusions: tuple[Exclusion, ...]
) -> Found:
    """The genuine LR faces of one photograph (methods 8.4)."""
    found = Found(photo.name)
    picture = _read(photo, detection, found)
    if picture is None:
        return found
    detected = detect_faces(picture.pixels, detection)
    if not detected:
        found.rejections["no_face"] += 1
    kept = []
    for face in detected:
        excluded = _excluded(face, exclusions)
        if face.score < params.min_score:
            found.rejections["score"] += 1
        elif not params.face[0] <= face.longer_side <= params.face[1]:
            found.rejections["face_too_small" if face.longer_side < params.face[0] else "face_too_large"] += 1
        elif excluded:
            found.rejections["excluded"] += 1
            found.excluded |= {exclusion.line for exclusion in excluded}
        else:
            kept.append(face)
    matches = match_boxes(kept, photo.boxes, params.match_iou)
    for face, match in zip(kept, matches, strict=True):
        square = square_of(face, detection.margin)
        crop = crop_square(picture.pixels, square, params.size)
        landmarks = points_in_square(face.landmarks, square, params.size)
        box = photo.boxes[match] if match is not None else None
        row = _row(photo, source, face, square, landmarks, box.identity if box else "", box.album if box else "")
        found.faces.append((crop, row, None))
    counted = {
        i for i, box in enumerate(photo.boxes) if RECALL_SIDES[0] <= max(box.width, box.height) <= RECALL_SIDES[1]
    }
    found.true_faces = len(counted)
    found.true_found = len(counted.intersection(match for match in matches if match is not None))
    found.kept_true = sum(match is not None for match in matches)
    return found


def _excluded(face: DetectedFace, exclusions: Iterable[Exclusion]) -> list[Exclusion]:
    return [
        exclusion
        for exclusion in exclusions
        if abs(exclusion.left - face.left) <= EXCLUDE_REACH and abs(exclusion.top - face.top) <= EXCLUDE_REACH
    ]


def match_boxes(faces: list[DetectedFace], boxes: tuple[Box, ...], iou: float) -> list[int | None]:
    """For every face the index of the annotated box it overlaps most, by at least `iou`; no box is given twice."""
    pairs = [
        (overlap_of(box_of(face), box.corners), i, k) for i, face in enumerate(faces) for k, box in enumerate(boxes)
    ]
    matches: list[int | None] = [None] * len(faces)
    taken: set[int] = set()
    for overlap, i, k in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if overlap >= iou and overlap > 0 and matches[i] is None and k not in taken:
            matches[i] = k
            taken.add(k)
    return matches


def make_lr_faces(
    writer: FaceWriter, role: str, raw: PhotoList, source: LrSource, detection: Detection, params: LrFaces,
    exclusions: list[Exclusion],
) -> dict[str, Any]:  # fmt: skip
    """Fill a FaceSet with the genuine faces of a role; returns the detection metrics."""
    lists: dict[str, list[Exclusion]] = {}
    for exclusion in exclusions:
        lists.setdefault(exclusion.photo, []).append(exclusion)
    tasks = [
        partial(extract_lr_faces, photo, source.source, detection, params, tuple(lists.get(photo.name, ())))
        for photo in raw.photos
    ]
    tally = _write(writer, tasks, params.executor, f"lr_faces {role}")
    stale = len(exclusions) - len(tally.excluded)
    if stale:
        tqdm.write(f"{source.exclude}: {stale} of {len(exclusions)} lines match no face", file=sys.stderr)
    writer.notes |= {
        "role": role,
        "domain": "genuine",
        "source": source.source,
        "simulated": source.simulated,
        "rule": {
            "margin": detection.margin,
            "face": list(params.face),
            "min_score": params.min_score,
            "resize": "bicubic",
        },
        "photos": len(raw.photos),
        "mean_side": tally.mean_side,
        "side_histogram": tally.histogram(),
        "converted": dict(sorted(tally.notes.items())),
        "stale_exclusions": stale,
    }
    metrics: dict[str, Any] = {
        "n_photos": len(raw.photos),
        "n_faces": tally.count,
        "n_identities": len(tally.identities),
        "rejected": dict(sorted(writer.rejections.items())),
        "converted": dict(sorted(tally.notes.items())),
    }
    if tally.count:
        metrics["mean_side"] = tally.mean_side
    if raw.annotated:
        metrics["n_true"] = tally.true_faces
        if tally.true_faces:
            metrics["recall"] = round(tally.true_found / tally.true_faces, 4)
        if tally.count:
            metrics["precision"] = round(tally.kept_true / tally.count, 4)
    return metrics


# --- high resolution -------------------------------------------------------------------------------------


def extract_hr_faces(photo: Photo, source: str, detection: Detection, params: HrFaces, copies: int, seed: int) -> Found:
    """The face of one portrait: crops of 64x64 with their artificial 16x16 faces (methods 8.5)."""
    found = Found(photo.name)
    enlarged = detection.model_copy(update={"scales": [params.detection_scale]})
    picture = _read(photo, enlarged, found)
    if picture is None:
        return found
    detected = [face for face in detect_faces(picture.pixels, enlarged) if face.score >= params.min_score]
    face = max(detected, key=lambda each: each.longer_side, default=None)
    small: DetectedFace | None = None
    if face is None:
        found.rejections["no_face"] += 1
        if params.fallback == "skip":
            return found
        face = _whole_picture(picture.pixels, detection.margin)
    else:
        found.notes += () if (small := _as_if_small(picture.pixels, face, detection, params)) else ("not_seen_small",)
    box = _box_of_portrait(face, photo.boxes)
    upright = square_of(small or face, detection.margin)
    for copy in range(copies):
        square = upright
        if copy:
            square = jittered(square, params, np.random.default_rng([seed, copy, *photo.name.encode()]))
        crop = crop_square(picture.pixels, square, params.size)
        lr = np.asarray(Image.fromarray(crop).resize((params.lr_size, params.lr_size), Image.Resampling.BICUBIC))
        landmarks = points_in_square(face.landmarks, square, params.size)
        identity = box.identity if box else photo.identity
        row = _row(photo, source, face, square, landmarks, identity, box.album if box else "")
        found.faces.append((crop, row, lr))
    return found


def _as_if_small(pixels: Pixels, face: DetectedFace, detection: Detection, params: HrFaces) -> DetectedFace | None:
    """The face as the detector finds it when it is as small as a genuine one; None when it does not.

    MTCNN draws its box 4 to 6 percent tighter and 2 percent further left around tiny faces than around large ones:
    the artificial faces have to be framed with the same bias, or discriminators learn it.
    """
    around = square_of(face, 1.0)
    size = round(2 * params.match_side)
    view = crop_square(pixels, around, size)
    factor = around.side / size
    left, top = around.x - around.side / 2, around.y - around.side / 2
    centre = size / 2
    for small in detect_faces(view, detection):
        inside = small.left < centre < small.left + small.width and small.top < centre < small.top + small.height
        if inside and 0.7 < small.longer_side / params.match_side < 1.4:
            return DetectedFace(
                left + small.left * factor, top + small.top * factor, small.width * factor, small.height * factor,
                small.score, small.scale, np.array([left, top]) + small.landmarks * factor,
            )  # fmt: skip
    return None


def jittered(square: Square, params: HrFaces, rng: np.random.Generator) -> Square:
    """The square rolled, scaled and shifted at random, uniformly within `params.jitter`."""
    jitter = params.jitter
    roll, scale, x, y = rng.uniform(-1, 1, 4)
    side = square.side * (1 + jitter.scale * scale)
    shift = jitter.shift * side
    return Square(square.x + shift * x, square.y + shift * y, side, jitter.roll * roll)


def _whole_picture(pixels: Pixels, margin: float) -> DetectedFace:
    """`hr_faces.fallback: centre`: as if a face were found so that its square is the largest centred one."""
    height, width = pixels.shape[:2]
    side = min(height, width) / (1 + margin)
    unknown = np.full((5, 2), np.nan)
    return DetectedFace((width - side) / 2, (height - side) / 2, side, side, 0.0, 1.0, unknown)


def _box_of_portrait(face: DetectedFace, boxes: tuple[Box, ...]) -> Box | None:
    overlaps = [overlap_of(box_of(face), box.corners) for box in boxes]
    return boxes[int(np.argmax(overlaps))] if overlaps and max(overlaps) > 0 else None


def make_hr_faces(
    writer: FaceWriter, role: str, raw: PhotoList, source: Source, detection: Detection, params: HrFaces, seed: int
) -> None:
    """Fill a FaceSet with the HR faces of a role and their artificial LR faces; jittered copies for `train` only."""
    copies = params.copies if role == "train" else 1
    tasks = [partial(extract_hr_faces, photo, source.source, detection, params, copies, seed) for photo in raw.photos]
    tally = _write(writer, tasks, params.executor, f"hr_faces {role}")
    writer.notes |= {
        "role": role,
        "domain": "artificial",
        "source": source.source,
        "simulated": source.simulated,
        "rule": {
            "margin": detection.margin,
            "min_score": params.min_score,
            "resize": "bicubic",
            "copies": copies,
            "jitter": params.jitter.model_dump() if copies > 1 else None,
            "fallback": params.fallback,
        },
        "photos": len(raw.photos),
        "mean_side": tally.mean_side,
        "converted": dict(sorted(tally.notes.items())),
    }


# --- shared ----------------------------------------------------------------------------------------------


def _read(photo: Photo, detection: Detection, found: Found) -> Picture | None:
    try:
        picture = read_picture(photo.path, detection.max_pixels, smallest_side(detection))
    except RejectedImage as error:
        found.fault = error.reason
        found.rejections[error.reason] += 1
        return None
    found.notes = picture.notes
    return picture


def _row(
    photo: Photo, source: str, face: DetectedFace, square: Square, landmarks: Points, identity: str, album: str
) -> dict[str, Any]:
    return {
        "source": source,
        "photo": photo.name,
        "box_left": face.left,
        "box_top": face.top,
        "box_width": face.width,
        "box_height": face.height,
        "native_side": square.side,
        "score": face.score,
        "scale": face.scale,
        "identity": identity,
        "album": album,
        **dict(zip(LANDMARK_COLUMNS, landmarks.ravel().tolist(), strict=True)),
    }


@dataclass
class Tally:
    """Sums over all photographs."""

    count: int = 0
    sides: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    identities: set[str] = field(default_factory=set)
    excluded: set[tuple[str, int]] = field(default_factory=set)
    true_faces: int = 0
    true_found: int = 0
    kept_true: int = 0

    @property
    def mean_side(self) -> float | None:
        """Mean longer side of the kept boxes, px of the photographs."""
        return round(self.sides / self.count, 3) if self.count else None

    def histogram(self) -> dict[str, int]:
        """Faces by longer side, px, in bins of four."""
        return {f"{begin}-{begin + 4}": self.bins[begin] for begin in sorted(self.bins)}


def _write(writer: FaceWriter, tasks: Sequence[Callable[[], Found]], executor: str, title: str) -> Tally:
    tally = Tally()
    left_out = 0
    results = map_in_order(tasks, executor)
    for found in tqdm(results, total=len(tasks), desc=title, unit="photo", mininterval=1.0):
        if found.fault:
            left_out += 1
            reason = f"{found.fault} ({REASONS[found.fault]})"
            tqdm.write(f"{found.photo}: {reason}, left out ({left_out} of {len(tasks)})", file=sys.stderr)
        for reason, count in sorted(found.rejections.items()):
            writer.reject(reason, count)
        tally.notes.update(found.notes)
        tally.excluded |= {(found.photo, line) for line in found.excluded}
        tally.true_faces += found.true_faces
        tally.true_found += found.true_found
        tally.kept_true += found.kept_true
        for image, row, lr in found.faces:
            writer.add(image, row, lr)
            side = max(row["box_width"], row["box_height"])
            tally.count += 1
            tally.sides += side
            tally.bins[int(side // 4) * 4] += 1
            if row["identity"]:
                tally.identities.add(row["identity"])
    return tally


def call(task: Callable[[], Found]) -> Found:
    """Run one task; a top-level function, so that it can be sent to another process."""
    return task()


def map_in_order(tasks: Iterable[Callable[[], Found]], executor: str) -> Iterator[Found]:
    """Results in the order of the tasks; only so many are under way that memory stays constant.

    executor: `serial`, `processes:N` or `dask:tcp://host:port`. Raises CharregError.
    """
    if executor == "serial":
        yield from map(call, tasks)
        return
    with _open_executor(executor) as (pool, window):
        waiting: deque[Future[Found]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(call, task))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenExecutor:
            raise CharregError(
                f"executor {executor}: a worker died, most likely for want of memory; use fewer processes"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _open_executor(executor: str) -> Iterator[tuple[Executor, int]]:
    """An executor and how many photographs may be under way."""
    kind, _, place = executor.partition(":")
    if kind == "processes":
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(place), mp_context=context) as pool:
            yield pool, 4 * int(place)
        return
    try:
        from distributed import Client
    except ImportError:
        raise CharregError("executor dask: dask.distributed is not installed; pip install 'charreg[cluster]'") from None
    try:
        client: Any = Client(place, timeout="20s")  # type: ignore[no-untyped-call,unused-ignore]
    except (OSError, ValueError) as error:
        raise CharregError(f"executor {executor}: {error}; wanted the address of a running scheduler") from None
    with client:
        yield client.get_executor(), max(8, 4 * sum(client.nthreads().values()))
