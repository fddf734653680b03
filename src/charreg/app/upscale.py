"""`charreg upscale`: photographs, face crops, folders, archives and videos, super-resolved from and into files."""

import csv
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from charreg.app.pasting import enlarge_photograph
from charreg.app.upscaler import (
    MARGIN,
    MAX_PIXELS,
    Face,
    Resolved,
    SmallFaces,
    Upscaler,
    check_options,
    crop_of_face,
    find_small_faces,
    paste_all,
)
from charreg.core.errors import CharregError
from charreg.core.faces import LR_SIZE, Pixels
from charreg.core.files import output_folder, write_bytes
from charreg.photos.contact import draw_sheet, enlarge
from charreg.photos.executors import map_unordered
from charreg.photos.images import REASONS, VIDEOS, RejectedImage
from charreg.photos.sources import Photo, read_photo
from charreg.photos.sources.archives import SUFFIXES as ARCHIVES
from charreg.photos.sources.folder import find_photos

Format = Literal["png", "jpg", "webp", "tiff"]
PICTURES = {"png": {"compress_level": 1}, "jpg": {"quality": 95}, "webp": {"quality": 95}, "tiff": {}}
SUFFIX_OF = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
COLUMNS = ("photo", "left", "top", "width", "height", "side", "score", "file")
BATCH_FACES, BATCH_PHOTOS = 64, 16  # whatever is reached first goes through the networks
FEW = 4  # photographs for which starting workers costs more than it saves
SHEET_FACES, SHEET_COLUMNS = 300, 4
WORDS = REASONS | {
    "video": "a video of a format that is not read",
    "no_small_face": "no single face, and none in it that is small enough",
    "not_framed": "not square within a tenth; leave out --crops for whole photographs",
    "face_too_small": "smaller than asked for",
    "face_too_large": "larger than asked for: it would lose more than it gains",
    "score": "the detector is not sure",
    "exists": "made before; --overwrite makes it again",
    "not_written": "the file system refused it",
}


@dataclass(frozen=True)
class UpscaleOptions:
    """What `charreg upscale` is asked for; faces: shortest and longest side, px; jobs: processes looking for faces."""

    faces: tuple[float, float] = (8, 32)
    scale: int = 4
    crops: bool = False  # every picture is the square of one face
    faces_only: bool = False
    keep_model_colours: bool = False
    format: Format | None = None  # None: of OUT's suffix, else PNG
    overwrite: bool = False
    jobs: int = 1


@dataclass
class Summary:
    """What became of the pictures, and the faces in them, by reason."""

    done: int = 0
    faces: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # pictures
    left_alone: Counter[str] = field(default_factory=Counter)  # faces

    def __str__(self) -> str:
        parts = [f"{self.done:,} picture{'s' * (self.done != 1)}, {self.faces:,} face{'s' * (self.faces != 1)}"]
        for title, counts in (("left out", self.left_out), ("faces left alone", self.left_alone)):
            if counts:
                parts.append(
                    f"{title}: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
                )
        return "; ".join(parts)


@dataclass(frozen=True)
class Looked:
    """A picture that was looked at: its faces, or why it is left out."""

    photo: Photo
    small: SmallFaces | None
    fault: str = ""


def upscale(source: Path, out: Path, upscaler: Upscaler, options: UpscaleOptions) -> Summary:
    """Super-resolve a picture, a video, a folder or an archive into `out`; what exists is skipped.

    `out` is a folder, or of one picture or video a file. faces.csv and a contact sheet come beside it. A picture that
    cannot be used costs one line on stderr and is counted. Raises CharregError where nothing could be begun.
    """
    check_options(options.faces, options.scale)
    photos, targets = plan(source, out, options)
    summary = Summary()
    todo = []
    for photo in photos:
        if (targets[photo.name].exists() or targets[photo.name].is_symlink()) and not options.overwrite:
            summary.left_out["exists"] += 1
        else:
            todo.append(photo)
    clips = [photo for photo in todo if is_clip(photo)]
    pictures = [photo for photo in todo if not is_clip(photo)]
    beside = out if out_is_folder(source, out) else out.with_suffix("")
    with Log(beside, out_is_folder(source, out), {photo.name for photo in todo}) as log:
        writer = Writer(upscaler, options, targets, log, summary)
        look = partial(look_at, options=options, workers=options.jobs if len(pictures) < FEW else 1)
        executor = f"processes:{options.jobs}" if len(pictures) >= FEW and options.jobs > 1 else "serial"
        with tqdm(total=len(todo), unit="picture", desc="upscale", mininterval=1.0, disable=not todo) as bar:
            for looked in map_unordered(look, pictures, executor):
                writer.take(looked)
                bar.set_postfix(faces=summary.faces, refresh=False)
                bar.update()
            writer.flush()
            for photo in clips:
                writer.take_clip(photo)
                bar.update()
        log.draw_sheet()
    return summary


# --- what goes where -------------------------------------------------------------------------------------


def is_clip(photo: Photo) -> bool:
    return photo.place is None and photo.path.suffix.lower() in VIDEOS


def out_is_folder(source: Path, out: Path) -> bool:
    """Whether OUT is a folder: always, but for one picture or video and a name that ends like one."""
    whole = source.is_dir() or source.name.lower().endswith(ARCHIVES)
    return whole or out.is_dir() or out.suffix.lower() not in (*SUFFIX_OF, ".mp4")


def plan(source: Path, out: Path, options: UpscaleOptions) -> tuple[list[Photo], dict[str, Path]]:
    """The pictures of a source in order, and the output of each by its name. Raises CharregError."""
    if not source.exists():
        raise CharregError(f"{source}: no such file or folder, wanted a photograph, a video, a folder or an archive")
    inside = source.resolve() if source.is_dir() else None
    if inside and (out.resolve() == inside or inside in out.resolve().parents):
        raise CharregError(f"{out}: lies in {source}, wanted a place outside it, or its results would be sources")
    is_file = source.is_file() and not source.name.lower().endswith(ARCHIVES)
    photos = [Photo(source.name, source)] if is_file else find_photos(source, "all").photos
    suffix = f".{options.format or 'png'}"
    if not out_is_folder(source, out):
        if options.faces_only:
            raise CharregError(f"{out}: found a file, wanted a folder for the faces")
        if out.resolve() == source.resolve():
            raise CharregError(f"{out}: is the source itself, wanted another name")
        found, clip = SUFFIX_OF.get(out.suffix.lower()), is_clip(photos[0])  # found: None for .mp4
        if (found is None) != clip or (found and options.format not in (None, found)):
            wanted = ".mp4" if clip else suffix if options.format else "that of a picture"
            raise CharregError(f"{out}: found suffix {out.suffix}, wanted {wanted}")
        return photos, {photos[0].name: out}
    endings = {photo.name: ".mp4" if is_clip(photo) else "" if options.faces_only else suffix for photo in photos}
    return photos, {name: out / target for name, target in _distinct(endings).items()}


def _distinct(endings: dict[str, str]) -> dict[str, PurePosixPath]:
    """Every name with its new ending; those that would collide, by whatever case, keep their suffixes inside."""
    whole: set[str] = set()
    while True:
        targets = {
            name: path.with_name(path.name + ending) if name in whole else path.with_suffix(ending)
            for name, ending in endings.items()
            for path in [PurePosixPath(name)]
        }
        often = Counter(str(target).casefold() for target in targets.values())
        colliding = {name for name, target in targets.items() if often[str(target).casefold()] > 1}
        if colliding <= whole:
            return targets
        whole |= colliding


# --- looking ---------------------------------------------------------------------------------------------


def look_at(photo: Photo, options: UpscaleOptions, workers: int) -> Looked:
    """Find the faces of a picture; a top-level function, so that it can be sent to another process."""
    try:
        pixels = read_photo(photo, MAX_PIXELS).pixels
        if options.crops:
            return Looked(photo, SmallFaces([], crop_of_face(pixels)[None], Counter()))
        small = find_small_faces(pixels, options.faces, workers=workers)
    except RejectedImage as fault:
        return Looked(photo, None, fault.reason)
    except MemoryError:
        return Looked(photo, None, "too_large")
    return Looked(photo, small, "" if small.faces else "no_small_face")


# --- writing ---------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """Takes pictures that were looked at, sends their faces through the networks in batches and writes the results."""

    upscaler: Upscaler
    options: UpscaleOptions
    targets: dict[str, Path]
    log: "Log"
    summary: Summary
    waiting: list[tuple[Photo, SmallFaces]] = field(default_factory=list)

    def take(self, looked: Looked) -> None:
        if looked.small is not None:
            self.summary.left_alone.update(looked.small.left_alone)
        if looked.fault or looked.small is None:
            self.leave_out(looked.photo, looked.fault)
            return
        self.waiting.append((looked.photo, looked.small))
        if len(self.waiting) >= BATCH_PHOTOS or sum(len(small.crops) for _, small in self.waiting) >= BATCH_FACES:
            self.flush()

    def take_clip(self, photo: Photo) -> None:
        from charreg.app.clips import upscale_clip

        target = self.targets[photo.name]
        self._guarded(photo, lambda: upscale_clip(photo.path, target, self.upscaler, self.options))

    def flush(self) -> None:
        """Resolve and write what waits."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        resolved = self.upscaler.faces(np.concatenate([small.crops for _, small in waiting]))
        begin = 0
        for photo, small in waiting:
            mine = slice(begin, begin := begin + len(small.crops))
            part = Resolved(resolved.genuine[mine], resolved.regulated[mine], resolved.resolved[mine])
            self._guarded(photo, partial(self._write, photo, small, part))

    def leave_out(self, photo: Photo, reason: str, detail: str = "") -> None:
        self.summary.left_out[reason] += 1
        tqdm.write(f"{photo.name}: {reason} ({detail or WORDS[reason]}), left out", file=sys.stderr)

    def _guarded(self, photo: Photo, write: Callable[[], int]) -> None:
        """Write a result; what is refused costs one line, and the rest goes on."""
        try:
            self.summary.faces += write()
            self.summary.done += 1
        except RejectedImage as fault:
            self.leave_out(photo, fault.reason)
        except CharregError as error:  # a video without PyAV
            self.leave_out(photo, "video", str(error))
        except (OSError, ValueError, MemoryError) as error:  # ValueError: more pixels than a format can hold
            self.leave_out(photo, "not_written", getattr(error, "strerror", None) or str(error) or "not enough memory")

    def _write(self, photo: Photo, small: SmallFaces, resolved: Resolved) -> int:
        target, options = self.targets[photo.name], self.options
        target.parent.mkdir(parents=True, exist_ok=True)
        if options.crops:
            side = float(read_photo(photo, MAX_PIXELS).pixels.shape[0]) / (1 + MARGIN)
            face = Face((0, 0, side, side), 1.0, resolved.genuine[0], resolved.regulated[0], resolved.resolved[0])
            self.log.add(photo.name, [face], [target])
            save_picture(Image.fromarray(face.resolved), target, options.format)
            return 1
        pixels = read_photo(photo, MAX_PIXELS).pixels
        if options.faces_only:
            result = paste_all(pixels, Image.fromarray(pixels), small, resolved, 1, True)
            files = [target / f"face_{i:03}.{options.format or 'png'}" for i in range(len(result.faces))]
            self.log.add(photo.name, result.faces, files)
            with output_folder(target) as folder:
                for face, file in zip(result.faces, files, strict=True):
                    save_picture(Image.fromarray(face.resolved), folder / file.name, options.format)
                    three = Image.fromarray(triplet(face))
                    save_picture(three, folder / f"{file.stem}_triplet{file.suffix}", options.format)
            return len(result.faces)
        enlarged = enlarge_photograph(pixels, options.scale)
        result = paste_all(pixels, enlarged, small, resolved, options.scale, options.keep_model_colours)
        self.log.add(photo.name, result.faces, [target] * len(result.faces))
        save_picture(result.image, target, options.format)
        return len(result.faces)


def triplet(face: Face) -> Pixels:
    """Genuine, regulated and resolved face side by side, uint8 [64, 192, 3]."""
    factor = len(face.resolved) // LR_SIZE
    return np.concatenate([enlarge(face.genuine, factor), enlarge(face.regulated, factor), face.resolved], axis=1)


def save_picture(image: Image.Image, path: Path, kind: Format | None = None) -> None:
    """Write a picture, whole or absent, in the format its suffix names."""
    name = kind or SUFFIX_OF[path.suffix.lower()]
    partial_path = path.with_name(f".{path.name[-60:]}.partial-{os.getpid()}")
    try:
        image.save(partial_path, {"jpg": "JPEG"}.get(name, name.upper()), **PICTURES[name])
        os.replace(partial_path, path)
    except BaseException:
        partial_path.unlink(missing_ok=True)
        raise


class Log:
    """faces.csv and the contact sheet beside the results. A row is there before the result it tells of.

    remade: names whose rows of an earlier run are forgotten; the others stay.
    """

    def __init__(self, place: Path, is_folder: bool, remade: set[str]) -> None:
        self.table = place / "faces.csv" if is_folder else place.with_name(f"{place.name}.faces.csv")
        self.sheet = place / "contact_sheet.png" if is_folder else place.with_name(f"{place.name}.faces.png")
        self.cells: list[Pixels] = []
        self.table.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in self._rows() if row["photo"] not in remade]
        lines = [",".join(COLUMNS), *(_line([row[column] for column in COLUMNS]) for row in kept)]
        write_bytes(self.table, "".join(f"{line}\n" for line in lines).encode())

    def __enter__(self) -> "Log":
        self._file = open(self.table, "a", newline="", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _rows(self) -> Iterator[dict[str, str]]:
        if self.table.exists():
            with open(self.table, newline="", encoding="utf-8") as file:
                yield from (
                    row for row in csv.DictReader(file) if set(row) == set(COLUMNS) and None not in row.values()
                )

    def add(self, photo: str, faces: list[Face], files: list[Path]) -> None:
        """Note the faces of a picture and the files they will be in."""
        for face, file in zip(faces, files, strict=True):
            numbers = (*(f"{value:.2f}" for value in face.box), f"{face.side:.2f}", f"{face.score:.4f}")
            name = file.relative_to(self.table.parent).as_posix()
            self._file.write(_line([photo, *numbers, name]) + "\n")
            if len(self.cells) < SHEET_FACES:
                self.cells.append(triplet(face))
        self._file.flush()

    def draw_sheet(self) -> None:
        """Draw the faces of this run; the sheet of an earlier one stays beside it under a number."""
        if not self.cells:
            return
        number = 1
        while (path := self.sheet.with_stem(f"{self.sheet.stem}{f'-{number}' if number > 1 else ''}")).exists():
            number += 1
        save_picture(Image.fromarray(draw_sheet(self.cells, SHEET_COLUMNS, list(range(len(self.cells))))), path)


def _line(cells: list[str]) -> str:
    from io import StringIO

    text = StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
