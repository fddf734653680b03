"""Miniature copies of the public data sets, true to their layouts and formats, with drawn or packaged faces."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from charreg.core.faces import Pixels
from charreg.photos.crowds import find_portraits
from charreg.photos.framing import MEAN_FACE
from conftest import draw_face
from data_fixtures import encoded

WIDER_TRAIN = """0--Parade/0_Parade_marchingband_1_849.jpg
2
10 12 20 24 2 0 0 0 0 0
60 12 18 21 0 0 0 0 1 1
0--Parade/0_Parade_Parade_0_452.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/1_Handshaking_Handshaking_1_100.jpg
4
5 6 20 22 0 0 0 1 0 0
40 6 20 22 0 0 0 0 2 0
70 30 16 20 0 0 0 0 0 0
80 30 0 0 0 0 0 0 0 0
"""
WIDER_VAL = "0--Parade/0_Parade_marchingband_1_20.jpg\n1\n30 20 17 22 0 0 0 0 0 0\n"
WIDER_TEST = "0--Parade/0_Parade_marchingband_1_1.jpg\n"
PIPA = """1000 11 10 8 40 44 7 1
1000 11 70 8 40 44 9 1
2000 12 10 8 40 44 7 2
1000 13 10 8 40 44 3 3
3000 14 -4 8 40 44 5 0
"""
CELEBA_POINTS = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)


def jpeg(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels), "JPEG", quality=92)


def save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(pixels))


def packaged_face(person: int, number: int, size: tuple[int, int]) -> Pixels:
    """A real portrait that the detector finds, uint8 [height, width, 3]; size: width, height."""
    with Image.open(find_portraits()[f"s{person}"][number]) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))


def row_of_faces(people: tuple[int, ...], size: tuple[int, int] = (60, 73), gap: int = 10) -> Pixels:
    """Packaged portraits side by side on grey, uint8; each takes `size` px, the first begins at `gap`."""
    width, height = size
    scene = np.full((height + 2 * gap, len(people) * (width + gap) + gap, 3), 110, np.uint8)
    for place, person in enumerate(people):
        left = gap + place * (width + gap)
        scene[gap : gap + height, left : left + width] = packaged_face(person, 0, size)
    return scene


# --- archives --------------------------------------------------------------------------------------------


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], **odd: Any) -> Path:
    """An uncompressed tar; `odd` are attributes of one more member, its TarInfo's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if odd:
            info = tarfile.TarInfo()
            for key, value in odd.items():
                setattr(info, key, value)
            archive.addfile(info)
    return path


# --- data sets -------------------------------------------------------------------------------------------


def celeba_images(real: bool) -> dict[str, bytes]:
    """Four portraits of 178x218 by name, two each of people 2880 and 11."""
    images = {}
    for i in range(4):
        drawn = np.pad(draw_face(i // 2, i, 178), ((20, 20), (0, 0), (0, 0)), mode="edge")
        images[f"{i + 1:06}.jpg"] = jpeg(packaged_face(i // 2 + 1, i, (178, 218)) if real else drawn)
    return images


def write_celeba(root: Path, packed: bool = False, in_folders: bool = False, real: bool = False) -> Path:
    """CelebA as its page hands it out: loose or in its zip, in one folder or in Img, Anno and Eval."""
    img, anno, parts = (root / (name if in_folders else "") for name in ("Img", "Anno", "Eval"))
    for folder in (img, anno, parts):
        folder.mkdir(parents=True, exist_ok=True)
    images = celeba_images(real)
    if packed:
        write_zip(img / "img_align_celeba.zip", {f"img_align_celeba/{name}": images[name] for name in images})
    else:
        (img / "img_align_celeba").mkdir()
        for name in reversed(images):
            (img / "img_align_celeba" / name).write_bytes(images[name])
    columns = " ".join(
        f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    )
    lines = [f"{name}  " + "  ".join(str(value + i) for value in CELEBA_POINTS) for i, name in enumerate(images)]
    (anno / "list_landmarks_align_celeba.txt").write_text("\n".join([str(len(images)), columns, *lines]) + "\n")
    people = zip(images, (2880, 2880, 11, 11), strict=True)
    (anno / "identity_CelebA.txt").write_text("".join(f"{name} {person}\n" for name, person in people))
    split = zip(images, (0, 0, 1, 2), strict=True)
    (parts / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in split))
    return root


def write_wider(root: Path) -> Path:
    lists = root / "wider_face_split"
    lists.mkdir(parents=True)
    (lists / "wider_face_train_bbx_gt.txt").write_text(WIDER_TRAIN)
    (lists / "wider_face_val_bbx_gt.txt").write_text(WIDER_VAL)
    (lists / "wider_face_test_filelist.txt").write_text(WIDER_TEST)
    for part, text in (("train", WIDER_TRAIN), ("val", WIDER_VAL), ("test", WIDER_TEST)):
        for i, name in enumerate(line for line in text.splitlines()[::-1] if line.endswith(".jpg")):
            scene = np.full((64, 100, 3), 120, np.uint8)
            scene[12:36, 8:32] = draw_face(i, 0, 24)
            save(root / f"WIDER_{part}" / "images" / name, scene)
    return root


def write_pipa(root: Path, in_annotations: bool = False) -> Path:
    index = root / "annotations/index.txt" if in_annotations else root / "index.txt"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(PIPA)
    for line in PIPA.splitlines()[::-1]:
        album, photo, *_, subset = line.split()
        folder = ("leftover", "train", "val", "test")[int(subset)]
        save(root / folder / f"{album}_{photo}.jpg", row_of_faces((1, 2), (50, 61)))
    return root


def helen_points(left: float, top: float, side: float) -> np.ndarray:
    """194 landmarks of a face whose square is given, in the published order of parts."""
    eyes, nose, mouth = (MEAN_FACE[part] * side + [left, top] for part in (slice(0, 2), slice(2, 3), slice(3, 5)))
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.cos(circle), np.sin(circle)], axis=1) * 0.05 * side
    lips = mouth[0] + np.linspace(0, 1, 28)[:, None] * (mouth[1] - mouth[0])
    jaw = np.tile(nose, (41, 1))
    brows = np.tile(eyes[:1], (40, 1))
    parts = [jaw, np.tile(nose, (17, 1)), lips, lips, eyes[1] + ring, eyes[0] + ring, brows]
    return np.concatenate(parts)


def write_helen(root: Path, squares: Mapping[str, tuple[float, float, float]], images: Mapping[str, Pixels]) -> Path:
    """Helen with an annotated square (left, top, side) for each of the portraits."""
    annotation = root / "annotation"
    annotation.mkdir(parents=True)
    for number, (name, square) in enumerate(squares.items(), 1):
        lines = [f"{x:.6f} , {y:.6f}" for x, y in helen_points(*square).tolist()]
        (annotation / f"{number}.txt").write_text("\n".join([name, *lines]) + "\n")
    for number, (name, pixels) in enumerate(images.items()):
        save(root / f"helen_{number % 2 + 1}" / f"{name}.jpg", pixels)
    return root


def write_video(
    path: Path, frames: int = 12, size: tuple[int, int] = (64, 48), key_every: int = 5, pictures: Sequence[Pixels] = ()
) -> Path:
    """A video whose frame i is evenly grey, 20 i, or of the pictures; a key frame every so many."""
    import av

    if not pictures:
        pictures = [np.full((size[1], size[0], 3), 20 * i, np.uint8) for i in range(frames)]
    size = pictures[0].shape[1], pictures[0].shape[0]

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 20_000_000
        stream.codec_context.gop_size = key_every
        stream.codec_context.max_b_frames = 2
        for pixels in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_surveillance(root: Path) -> Path:
    """Two cameras: frames 1 to 12 of one, named without leading zeros, and a video of the other."""
    for i in range(12, 0, -1):
        save(root / "gate" / "monday" / f"frame{i}.jpg", np.full((48, 64, 3), 10 * i, np.uint8))
    write_video(root / "yard" / "morning.mp4")
    return root
