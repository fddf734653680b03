"""Raw data for the tests of the data side: damaged files, tiny crowds, folders in any order."""

import importlib.util
import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from charreg.core.faces import FaceSet, FaceWriter, Pixels, open_faces
from charreg.core.params import CameraOptions
from charreg.core.resampling import resize_image
from charreg.photos.crowds import find_portraits
from charreg.photos.sources import Photo
from conftest import ROOT, toy_content

PORTRAIT = find_portraits()["s1"][0]
CLEAN = CameraOptions(light=(1, 1), cast=0, defocus=(0, 0), motion=(0, 0), noise=(0, 0), jpeg=(95, 95))


def portrait() -> Pixels:
    """A real face, uint8 [112, 92, 3]."""
    with Image.open(PORTRAIT) as image:
        return np.asarray(image.convert("RGB"))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def enormous_png(side: int = 20000) -> bytes:
    """A valid black-and-white PNG of side x side in some 50 kB."""
    packer = zlib.compressobj(1)
    rows = bytes(1 + side // 8) * 100
    data = b"".join(packer.compress(rows) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wrong_checksum(png: bytes) -> bytes:
    """The PNG with one bit of its first IDAT checksum turned; its pixels still unpack."""
    begin = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[begin - 4 : begin])
    end = begin + 4 + length
    return png[:end] + bytes([png[end] ^ 1]) + png[end + 1 :]


def damaged_files() -> dict[str, tuple[bytes, str]]:
    """File name -> its bytes and the reason it is refused for."""
    face = Image.fromarray(portrait())
    jpeg, png = encoded(face, "JPEG", quality=95), encoded(face, "PNG")
    frames = [face.convert("P"), face.rotate(90).convert("P")]
    return {
        "animated.gif": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "animated"),
        "checksum.png": (wrong_checksum(png), "damaged"),
        "empty.jpg": (b"", "empty"),
        "enormous.png": (enormous_png(), "too_large"),
        "header.png": (png[:20] + b"\xff" + png[21:], "damaged"),
        "one.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        "float.tif": (encoded(Image.new("F", (92, 112), 0.5), "TIFF"), "pixel_format"),
        "text.jpg": (b"This is no picture.\n" * 40, "not_an_image"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
    }


def odd_files() -> dict[str, tuple[bytes, str]]:
    """File name -> the bytes of a portrait stored in an odd way, and the note it is counted under."""
    face = Image.fromarray(portrait())
    deep = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    palette = face.quantize(64)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    alpha = face.convert("RGBA")
    return {
        "alpha.png": (encoded(alpha, "PNG"), "alpha"),
        "cmyk.jpg": (encoded(face.convert("CMYK"), "JPEG", quality=95), "cmyk"),
        "deep.png": (encoded(deep, "PNG"), "16_bit"),
        "exif.jpg": (encoded(face.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95), "exif_rotated"),
        "grey.pgm": (PORTRAIT.read_bytes(), "grey"),
        "palette.png": (encoded(palette, "PNG", transparency=255), "palette"),
    }


def write_files(folder: Path, files: dict[str, tuple[bytes, str]], backwards: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, reverse=backwards):
        (folder / name).write_bytes(files[name][0])
    return folder


def photo_of(path: Path, name: str = "") -> Photo:
    return Photo(name or path.name, path)


def set_with_eyes(
    folder: Path, size: int, eyes: tuple[float, float, float, float] | None, count: int = 5, first: int = 0
) -> FaceSet:
    """A FaceSet of the people `first` ... whose eyes (left x, y, right x, y; px of 16) vary by up to 1 px."""
    folder.mkdir(parents=True)
    names = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
    with FaceWriter(folder, size, 16 if size != 16 else None) as writer:
        for i in range(count):
            wobble = (i - (count - 1) / 2) / count
            row = {} if eyes is None else {k: (v + wobble) * size / 16 for k, v in zip(names, eyes, strict=True)}
            image = np.random.default_rng(first + i).integers(0, 256, (size, size, 3), np.uint8)
            row |= {"photo": f"{first + i}.png", "identity": f"{first + i}"}
            writer.add(image, row, resize_image(image, 16) if size != 16 else None)
    return open_faces(folder)


@cache
def load_stage(name: str) -> Any:
    """A script of stages/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "stages" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stages:
    """Runs both face stages on a raw folder, with toy params and changes to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exclude = folder / "exclude.txt"
        self.exclude.write_text("# nobody\n")

    def params(self, changes: dict[str, Any], source: str) -> str:
        role = {"source": source, "path": "", "exclude": str(self.exclude), "simulated": False}
        roles = {f"lr_roles.{name}": role for name in ("train", "web", "cctv")}
        roles |= {f"hr_roles.{name}": {"source": source, "path": ""} for name in ("train", "test")}
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(toy_content({**roles, **changes})))
        return str(path)

    def arguments(self, kind: str, raw: Path, name: str, role: str) -> list[str]:
        """What the stage `lr_faces` or `hr_faces` is called with, --params apart."""
        words = ["--role", role, "--raw", raw, "--out", self.folder / name]
        if kind == "lr":
            words += ["--exclude", self.exclude, "--metrics", self.metrics(name), "--scores", self.scores(name)]
        return [str(word) for word in words]

    def lr(self, raw: Path, name: str, source: str = "folder", role: str = "web", **changes: Any) -> FaceSet:
        return self.run("lr", self.arguments("lr", raw, name, role), self.folder / name, source, changes)

    def hr(self, raw: Path, name: str, source: str = "folder", role: str = "train", **changes: Any) -> FaceSet:
        return self.run("hr", self.arguments("hr", raw, name, role), self.folder / name, source, changes)

    def run(self, kind: str, arguments: list[str], out: Path, source: str, changes: dict[str, Any]) -> FaceSet:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_ROOT", str(self.folder))
            load_stage(f"{kind}_faces").main([*arguments, "--params", self.params(changes, source)])
        return open_faces(out)

    def metrics(self, name: str) -> Path:
        return self.folder / "metrics" / f"{name}.json"

    def scores(self, name: str) -> Path:
        return self.folder / "scores" / f"{name}.json"
