"""The paper's figures made of faces, as small lossless PNG files.

Every figure shows the same faces: a list drawn once per set from the seed.
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from charreg.core.errors import CharregError
from charreg.core.faces import Pixels, open_faces
from charreg.core.files import write_bytes
from charreg.report.published import ROLES

SIDE = 64  # px of a face in a picture
GAP = 2
GROUP_GAP = 14
LARGEST = 700_000  # bytes of a picture; larger ones are written without enlargement, then with fewer faces
SMALLEST_FONT = 11  # px
LABEL = 20  # letters of a line
WHITE, INK = (255, 255, 255), (40, 40, 40)

Strip = tuple[str, list[Pixels]]  # a label and its faces, uint8 [s, s, 3]
Block = tuple[str, Sequence[Strip]]  # a title and its strips


def chosen_faces(count: int, wanted: int, seed: int, name: str) -> list[int]:
    """The faces of a set that every figure shows: `wanted` of `count`, drawn from the seed and the set's name."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return sorted(int(face) for face in generator.choice(count, min(wanted, count), replace=False))


def read_faces(folder: Path, which: Sequence[int], lr: bool = False) -> list[Pixels]:
    """Some faces of a FaceSet; `lr` takes the artificial 16x16 faces of an HR set."""
    faces = open_faces(folder)
    images = faces.lr if lr else faces.images
    if images is None or max(which, default=-1) >= len(images):
        raise CharregError(f"{folder}: found other faces than those that were to be super-resolved; repeat dvc repro")
    return [np.asarray(images[face]) for face in which]


def strip_picture(blocks: Sequence[Block], factor: int = 2) -> Image.Image:
    """Rows of faces with their labels at the left, in titled blocks; faces are enlarged by whole pixels."""
    side, gap = SIDE * factor, GAP * factor
    font = ImageFont.load_default(max(SMALLEST_FONT, 7 * factor))
    labels = {label: fill(label, LABEL, break_long_words=False) for _, strips in blocks for label, _ in strips}
    lines = [line for label in labels.values() for line in label.split("\n")]
    margin = int(max(font.getlength(line) for line in lines)) + 5 * factor if any(lines) else 0
    columns = max((len(faces) for _, strips in blocks for _, faces in strips), default=0)
    title_height = 13 * factor
    height = sum(len(strips) * (side + gap) + (title_height if title else 0) for title, strips in blocks)
    height += GROUP_GAP * factor * (len(blocks) - 1)
    picture = Image.new("RGB", (max(1, margin + columns * (side + gap) - gap), max(1, height - gap)), WHITE)
    draw = ImageDraw.Draw(picture)
    top = 0
    for title, strips in blocks:
        if title:
            draw.text((0, top + title_height // 2), title, INK, font, anchor="lm")
            top += title_height
        for label, faces in strips:
            middle = (margin - 4 * factor, top + side // 2)
            draw.multiline_text(middle, labels[label], INK, font, anchor="rm", align="right")
            for at, face in enumerate(faces):
                tile = Image.fromarray(face).resize((side, side), Image.Resampling.NEAREST)
                picture.paste(tile, (margin + at * (side + gap), top))
            top += side + gap
        top += GROUP_GAP * factor
    return picture


def _save(path: Path, blocks: Sequence[Block]) -> None:
    """Write the picture of the blocks: at twice the size, or at once when that is too large, or with fewer faces."""
    faces = max((len(strip[1]) for _, strips in blocks for strip in strips), default=0)
    for factor, count in ((2, faces), *((1, some) for some in range(faces, 0, -1))):
        shown = [(title, [(label, strip[:count]) for label, strip in strips]) for title, strips in blocks]
        out = io.BytesIO()
        strip_picture(shown, factor).save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST:
            break
    write_bytes(path, out.getvalue())


@dataclass(frozen=True)
class Folders:
    """Where the face sets of a report lie."""

    sr: Path
    hr: Path
    lr: Path
    train: Path  # `hr` and `lr` of the training roles, without near-duplicates of the tests


def draw_faces(
    out: Path,
    folders: Folders,
    methods: Mapping[str, str],
    faces: int,
    seed: int,
    simulated: Mapping[str, bool],
) -> dict[str, str]:
    """Draw every figure made of faces into `out`; returns what was drawn: file name -> caption.

    methods: the declared ones with their labels, in the order of the report; faces: how many per set.
    """
    sets = {**{role: folders.lr / role for role in ROLES}, "hr_test": folders.hr / "test"}
    which = {name: chosen_faces(len(open_faces(folder)), faces, seed, name) for name, folder in sets.items()}
    lr = {name: ("LR", read_faces(folder, which[name], lr=name == "hr_test")) for name, folder in sets.items()}
    sr = {
        name: {
            method: (label, read_faces(folders.sr / method / name, which[name])) for method, label in methods.items()
        }
        for name in sets
    }
    titles = {role: f"{role} ({'simulated camera' if simulated[role] else 'genuine'})" for role in ROLES}
    papers = {role: f"{titles[role][:-1]}; paper: {paper})" for role, paper in ROLES.items()}
    true = ("HR", read_faces(sets["hr_test"], which["hr_test"]))
    pictures: dict[str, tuple[str, list[Block]]] = {
        "figure3_genuine.png": (
            f"Figure 3. Random low-resolution faces: {'; '.join(papers.values())}",
            [("", [(role, lr[role][1]) for role in ROLES])],
        ),
        **{
            f"figure4_{role}.png": (
                f"Figure 4. The same low-resolution faces (LR) through every method: {paper}",
                [("", [lr[role], *sr[role].values()])],
            )
            for role, paper in papers.items()
        },
        "methods_hr_test.png": (
            "Artificial low-resolution faces through every method, and the true faces (HR)",
            [("", [lr["hr_test"], *sr["hr_test"].values(), true])],
        ),
    }
    if "cr" in methods:
        regulated = {role: read_faces(folders.sr / "cr" / f"{role}_regulated", which[role]) for role in ROLES}
        pictures["figure5_triplets.png"] = (
            "Figure 5. Low-resolution, regulated and super-resolved faces of CR",
            [(titles[role], [lr[role], ("regulated", regulated[role]), sr[role]["cr"]]) for role in ROLES],
        )
    if {"wo_ul", "cr"} <= set(methods):
        pictures["figure6_unsupervised.png"] = (
            "Figure 6. The same faces without and with the unsupervised SR loss (eq. 7) in the training",
            [(titles[role], [lr[role], sr[role]["wo_ul"], sr[role]["cr"]]) for role in ROLES],
        )
    for name, (_, blocks) in pictures.items():
        _save(out / name, blocks)
    return {name: caption for name, (caption, _) in pictures.items()}
