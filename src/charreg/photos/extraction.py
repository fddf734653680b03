"""Photographs -> faces: detection, rejection and crops."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.faces import HR_SIZE, LANDMARK_COLUMNS, LR_SIZE, SMALL_EYES, FaceWriter, Pixels
from charreg.core.params import DetectionOptions, HrFacesOptions, HrSource, LrFacesOptions, LrSource
from charreg.photos.detection import (
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
from charreg.photos.framing import (
    aligned_square,
    face_of_box,
    face_of_landmarks,
    face_of_square,
    known_points,
    nearest_face,
    whole_square,
)
from charreg.photos.gathering import PhotoScratch, gather
from charreg.photos.images import Picture, RejectedImage
from charreg.photos.records import Found
from charreg.photos.sources import Box, Photo, PhotoList, read_photo

RECALL_SIDES = (12.0, 24.0)  # px, longer side of the annotated faces that count
EXCLUDE_REACH = 1.0  # px a listed corner may be off, so that a list outlives a new version of a library


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
        lines = path.read_text(encoding="utf-8-sig").splitlines()
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
    photo: Photo, source: str, detection: DetectionOptions, params: LrFacesOptions, exclusions: tuple[Exclusion, ...],
    boxes: str = "detector",
) -> Found:  # fmt: skip
    """The genuine LR faces of one photograph.

    boxes: `detector`, `annotation` (those of the source) or `ready` (the picture is the square of one face).
    """
    found = Found(photo.name)
    picture = _read(photo, detection, found)
    if picture is None:
        return found
    ready = boxes == "ready"
    native = photo.native_side / max(picture.pixels.shape) if ready and photo.native_side else 1.0  # px a picture's px
    kept = []
    for face in _candidates(picture.pixels, photo, detection, boxes, found):
        excluded = _excluded(face, exclusions)
        side = face.longer_side * native
        if face.score < params.min_score:
            found.rejections["score"] += 1
        elif not params.face[0] <= side <= params.face[1]:
            found.rejections["face_too_small" if side < params.face[0] else "face_too_large"] += 1
        elif excluded:
            found.rejections["excluded"] += 1
            found.excluded |= {exclusion.line for exclusion in excluded}
        else:
            kept.append(face)
    matches = match_boxes(kept, photo.boxes, params.match_iou)
    for face, match in zip(kept, matches, strict=True):
        square = square_of(face, detection.margin)
        crop = crop_square(picture.pixels, square, LR_SIZE)
        landmarks = points_in_square(face.landmarks, square, LR_SIZE)
        box = photo.boxes[match] if match is not None else None
        identity = box.identity if box else photo.identity if ready else ""
        album = box.album if box else photo.album
        row = _row(photo, source, face, square.side * native, landmarks, identity, album)
        found.faces.append((crop, row, None))
    counted = {
        i
        for i, box in enumerate(photo.boxes)
        if not box.hard and RECALL_SIDES[0] <= max(box.width, box.height) <= RECALL_SIDES[1]
    }
    found.true_faces = len(counted)
    found.true_found = len(counted.intersection(match for match in matches if match is not None))
    found.kept_true = sum(match is not None for match in matches)
    return found


def _candidates(
    pixels: Pixels, photo: Photo, detection: DetectionOptions, boxes: str, found: Found
) -> list[DetectedFace]:  # fmt: skip
    """The faces of a photograph as `boxes` says; counts a picture that gives none."""
    if boxes == "ready":
        square = whole_square(pixels)
        if square is None:
            found.rejections["not_framed"] += 1
            return []
        return [face_of_square(square, detection.margin, known_points(photo))]
    if boxes == "annotation":
        faces = [face_of_box(box) for box in photo.boxes if not box.hard]
        found.rejections.update({"hard": hard} if (hard := len(photo.boxes) - len(faces)) else {})
    else:
        faces = detect_faces(pixels, detection)
    if not faces:
        found.rejections["no_face"] += 1
    return faces


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
    writer: FaceWriter, role: str, raw: PhotoList, source: LrSource, detection: DetectionOptions,
    params: LrFacesOptions, exclusions: list[Exclusion], scratch: PhotoScratch,
) -> dict[str, Any]:  # fmt: skip
    """Fill a FaceSet with the genuine faces of a role; returns the detection metrics. `scratch` has to be held."""
    if source.boxes == "annotation" and not raw.annotated:
        raise CharregError(
            f"lr_roles.{role}.boxes: found annotation, but source {source.source} (split {source.split}) does not box "
            "every face of its photographs; wanted detector"
        )
    lists: dict[str, list[Exclusion]] = {}
    for exclusion in exclusions:
        lists.setdefault(exclusion.photo, []).append(exclusion)

    def task_of(photo: Photo) -> Callable[[], Found]:
        listed = tuple(lists.get(photo.name, ()))
        return partial(extract_lr_faces, photo, source.source, detection, params, listed, source.boxes)

    tally = gather(writer, task_of, scratch, f"lr_faces {role}")
    stale = len(exclusions) - tally.excluded
    if stale:
        tqdm.write(f"{source.exclude}: {stale} of {len(exclusions)} lines match no face", file=sys.stderr)
    writer.notes |= {
        "role": role,
        "domain": "genuine",
        "source": source.source,
        "simulated": source.simulated,
        "rule": {
            "boxes": source.boxes,
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
    if raw.annotated and source.boxes == "detector":
        metrics["n_true"] = tally.true_faces
        if tally.true_faces:
            metrics["recall"] = round(tally.true_found / tally.true_faces, 4)
        if tally.count:
            metrics["precision"] = round(tally.kept_true / tally.count, 4)
    return metrics


# --- high resolution -------------------------------------------------------------------------------------


def extract_hr_faces(
    photo: Photo, source: str, detection: DetectionOptions, params: HrFacesOptions, copies: int, seed: int
) -> Found:
    """The face of one portrait: crops of 64x64 with their artificial 16x16 faces."""
    found = Found(photo.name)
    enlarged = detection.model_copy(update={"scales": [params.detection_scale]})
    picture = _read(photo, enlarged, found)
    if picture is None:
        return found
    framed = _frame_portrait(picture.pixels, photo, enlarged, detection, params, found)
    if framed is None:
        return found
    face, upright, points, small = framed
    native = photo.native_side / upright.side if params.crop == "ready" and photo.native_side else 1.0
    box = _box_of_portrait(face, photo.boxes)
    for copy in range(copies):
        square = upright
        if copy:
            square = jittered(square, params, np.random.default_rng([seed, copy, *photo.name.encode()]))
        crop = crop_square(picture.pixels, square, HR_SIZE)
        lr = np.asarray(Image.fromarray(crop).resize((LR_SIZE, LR_SIZE), Image.Resampling.BICUBIC))
        landmarks = points_in_square(points, square, HR_SIZE)
        identity, album = (box.identity, box.album) if box else (photo.identity, photo.album)
        row = _row(photo, source, face, square.side * native, landmarks, identity, album)
        if small is not None:
            row |= zip(SMALL_EYES, points_in_square(small[:2], square, HR_SIZE).ravel().tolist(), strict=True)
        found.faces.append((crop, row, lr))
    return found


def _frame_portrait(
    pixels: Pixels,
    photo: Photo,
    enlarged: DetectionOptions,
    detection: DetectionOptions,
    params: HrFacesOptions,
    found: Found,
) -> tuple[DetectedFace, Square, Points, Points | None] | None:
    """The face of a portrait, its upright square, its landmarks and those of it seen small, by `hr_faces.crop`.

    A portrait that has none is counted.

    Landmarks that the source has are kept, say which of several faces is meant and frame a face that nobody detects;
    else they are those of the face as large as it is, while the square is of the face seen small.
    """
    points = known_points(photo)
    if params.crop != "mtcnn":
        square = whole_square(pixels) if params.crop == "ready" else aligned_square(pixels, params.fixed_side)
        if square is None:
            found.rejections["not_framed"] += 1
            return None
        face = face_of_square(square, detection.margin, points)
        return face, square, face.landmarks, None
    detected = [face for face in detect_faces(pixels, enlarged) if face.score >= params.min_score]
    if points is None:
        chosen = max(detected, key=lambda each: each.longer_side, default=None)
    else:
        wanted = face_of_landmarks(points, detection.margin)
        chosen = nearest_face(detected, wanted)
        if chosen is None:
            found.notes += ("framed_by_landmarks",)
            return wanted, square_of(wanted, detection.margin), points, None
    if chosen is None:
        found.rejections["no_face"] += 1
        return None
    small = _as_if_small(pixels, chosen, detection, params)
    found.notes += () if small else ("not_seen_small",)
    square = square_of(small or chosen, detection.margin)
    if points is not None:
        return chosen, square, points, None
    return chosen, square, chosen.landmarks, small.landmarks if small else None


def _as_if_small(
    pixels: Pixels, face: DetectedFace, detection: DetectionOptions, params: HrFacesOptions
) -> DetectedFace | None:
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


def jittered(square: Square, params: HrFacesOptions, rng: np.random.Generator) -> Square:
    """The square rolled, scaled and shifted at random, uniformly within `params.jitter`."""
    jitter = params.jitter
    roll, scale, x, y = rng.uniform(-1, 1, 4)
    side = square.side * (1 + jitter.scale * scale)
    shift = jitter.shift * side
    return Square(square.x + shift * x, square.y + shift * y, side, jitter.roll * roll)


def _box_of_portrait(face: DetectedFace, boxes: tuple[Box, ...]) -> Box | None:
    overlaps = [overlap_of(box_of(face), box.corners) for box in boxes]
    return boxes[int(np.argmax(overlaps))] if overlaps and max(overlaps) > 0 else None


def make_hr_faces(
    writer: FaceWriter, role: str, source: HrSource, detection: DetectionOptions, params: HrFacesOptions, seed: int,
    scratch: PhotoScratch,
) -> None:  # fmt: skip
    """Fill a FaceSet with the HR faces of a role and their artificial LR faces; jittered copies for `train` only.

    `scratch` has the photographs of the role and has to be held.
    """
    copies = params.copies if role == "train" else 1
    params = params.model_copy(update={"crop": crop_of(source, params)})

    def task_of(photo: Photo) -> Callable[[], Found]:
        return partial(extract_hr_faces, photo, source.source, detection, params, copies, seed)

    tally = gather(writer, task_of, scratch, f"hr_faces {role}")
    writer.notes |= {
        "role": role,
        "domain": "artificial",
        "source": source.source,
        "simulated": source.simulated,
        "rule": {
            "margin": detection.margin,
            "min_score": params.min_score,
            "crop": params.crop,
            "fixed_side": params.fixed_side if params.crop == "fixed" else None,
            "resize": "bicubic",
            "copies": copies,
            "jitter": params.jitter.model_dump() if copies > 1 else None,
        },
        "photos": len(scratch.photos),
        "mean_side": tally.mean_side,
        "converted": dict(sorted(tally.notes.items())),
    }


def crop_of(source: HrSource, params: HrFacesOptions) -> str:
    """How the portraits of a role are cropped: its own `crop`, else that of hr_faces where its source allows it."""
    crop = source.crop or params.crop
    return "mtcnn" if crop == "fixed" and source.source != "celeba" else crop


# --- shared ----------------------------------------------------------------------------------------------


def _read(photo: Photo, detection: DetectionOptions, found: Found) -> Picture | None:
    try:
        picture = read_photo(photo, detection.max_pixels, smallest_side(detection))
    except RejectedImage as error:
        found.fault = error.reason
        found.rejections[error.reason] += 1
        return None
    found.notes = picture.notes
    return picture


def _row(
    photo: Photo, source: str, face: DetectedFace, native_side: float, landmarks: Points, identity: str, album: str
) -> dict[str, Any]:
    return {
        "source": source,
        "photo": photo.name,
        "box_left": face.left,
        "box_top": face.top,
        "box_width": face.width,
        "box_height": face.height,
        "native_side": native_side,
        "score": face.score,
        "scale": face.scale,
        "identity": identity,
        "album": album,
        **dict(zip(LANDMARK_COLUMNS, landmarks.ravel().tolist(), strict=True)),
    }
