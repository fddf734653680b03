"""The paper's figures made of faces, as small lossless PNG files.

Every figure shows the same faces: a list drawn once per set from the seed.
"""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    if images is None or (which and which[-1] >= len(images)):
        found = "no artificial faces" if images is None else f"{len(images)} faces"
        raise CharregError(f"{folder}: found {found}, wanted face {max(which, default=0)}; repeat dvc repro")
    return [np.asarray(images[face]) for face in which]


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _font(size: int) -> Font:
    return ImageFont.load_default(max(SMALLEST_FONT, size))


def _wrapped(text: str, font: Font, width: float) -> str:
    """A label in as many lines as it needs to be at most `width` px wide; single words are not broken."""
    lines = [""]
    for word in re.findall(r"[^\s-]+-?", text):
        joint = "" if not lines[-1] or lines[-1].endswith("-") else " "
        if lines[-1] and font.getlength(lines[-1] + joint + word) > width:
            lines.append(word)
        else:
            lines[-1] += joint + word
    return "\n".join(lines)


def strip_picture(blocks: Sequence[Block], factor: int = 2) -> Image.Image:
    """Rows of faces with their labels at the left, in titled blocks; faces are enlarged by whole pixels."""
    side, gap = SIDE * factor, GAP * factor
    font, title_font = _font(7 * factor), _font(8 * factor)
    labels = {label: _wrapped(label, font, 1.2 * side) for _, strips in blocks for label, _ in strips}
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
            draw.text((0, top + title_height // 2), title, INK, title_font, anchor="lm")
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
    which = {role: chosen_faces(len(open_faces(folders.lr / role)), faces, seed, role) for role in ROLES}
    lr: dict[str, Strip] = {role: ("LR", read_faces(folders.lr / role, which[role])) for role in ROLES}
    sr = {
        role: {
            method: (label, read_faces(folders.sr / method / role, which[role])) for method, label in methods.items()
        }
        for role in ROLES
    }
    titles = {role: f"{role} ({'simulated camera' if simulated[role] else 'genuine'})" for role in ROLES}
    papers = {role: f"{titles[role][:-1]}; paper: {paper})" for role, paper in ROLES.items()}

    pictures: dict[str, tuple[str, list[Block]]] = {
        "figure3_genuine.png": (
            f"Figure 3. Random low-resolution faces: {'; '.join(papers.values())}",
            [("", [(role, lr[role][1]) for role in ROLES])],
        )
    }
    for role in ROLES:
        pictures[f"figure4_{role}.png"] = (
            f"Figure 4. The same low-resolution faces (LR) through every method: {papers[role]}",
            [("", [lr[role], *sr[role].values()])],
        )
    if "cr" in methods:
        regulated = {role: read_faces(folders.sr / "cr" / f"{role}_regulated", which[role]) for role in ROLES}
        pictures["figure5_triplets.png"] = (
            "Figure 5. Low-resolution, regulated and super-resolved faces of CR",
            [
                (titles[role], [lr[role], ("regulated", regulated[role]), ("super-resolved", sr[role]["cr"][1])])
                for role in ROLES
            ],
        )
    if {"wo_ul", "cr"} <= set(methods):
        pictures["figure6_unsupervised.png"] = (
            "Figure 6. The same faces without and with the unsupervised SR loss (eq. 7) in the training",
            [
                (titles[role], [lr[role], ("without", sr[role]["wo_ul"][1]), ("with", sr[role]["cr"][1])])
                for role in ROLES
            ],
        )
    test = folders.hr / "test"
    chosen = chosen_faces(len(open_faces(test)), faces, seed, "hr_test")
    strips = [("LR", read_faces(test, chosen, lr=True))]
    strips += [(label, read_faces(folders.sr / method / "hr_test", chosen)) for method, label in methods.items()]
    pictures["methods_hr_test.png"] = (
        "Artificial low-resolution faces through every method, and the true faces (HR)",
        [("", [*strips, ("HR", read_faces(test, chosen))])],
    )
    for name, (_, blocks) in pictures.items():
        _save(out / name, blocks)
    return {name: caption for name, (caption, _) in pictures.items()}
