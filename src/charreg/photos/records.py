"""What one photograph gave, as workers send it and journals keep it, and the sums over all of them."""

import json
import struct
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from charreg.core.faces import Pixels

LENGTH = struct.Struct("<I")


@dataclass
class Found:
    """What one photograph gave: faces (image, index row, LR face or None) and what did not become one."""

    photo: str
    faces: list[tuple[Pixels, dict[str, Any], Pixels | None]] = field(default_factory=list)
    rejections: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    fault: str = ""  # why the photograph was left out: a key of images.REASONS
    excluded: frozenset[int] = frozenset()  # lines of the exclude list that were used
    true_faces: int = 0  # annotated, of the sizes that count for recall
    true_found: int = 0  # of these, matched by a kept face
    kept_true: int = 0  # kept faces that match any annotated face


def pack(found: Found) -> bytes:
    """A photograph's result as bytes: length of the text, JSON (numbers exactly as they are), then the pixels."""
    text = {each.name: getattr(found, each.name) for each in fields(found) if each.name != "faces"}
    text["excluded"] = sorted(found.excluded)
    text["faces"] = [(row, image.shape, None if lr is None else lr.shape) for image, row, lr in found.faces]
    content = json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()
    arrays = [array for image, _, lr in found.faces for array in (image, lr) if array is not None]
    return b"".join([LENGTH.pack(len(content)), content, *(array.tobytes() for array in arrays)])


def unpack(content: bytes) -> Found:
    """What `pack` was given."""
    (length,) = LENGTH.unpack_from(content)
    place = LENGTH.size + length
    text = json.loads(content[LENGTH.size : place])
    pixels = np.frombuffer(content, np.uint8, offset=place)

    def take(shape: list[int] | None) -> Pixels | None:
        nonlocal pixels
        if shape is None:
            return None
        count = int(np.prod(shape))
        taken, pixels = pixels[:count].reshape(shape), pixels[count:]
        return taken

    text["faces"] = [(take(shape), row, take(lr_shape)) for row, shape, lr_shape in text["faces"]]
    text |= {"rejections": Counter(text["rejections"]), "notes": tuple(text["notes"])}
    return Found(**{**text, "excluded": frozenset(text["excluded"])})


@dataclass
class Tally:
    """Sums over all photographs."""

    count: int = 0
    left_out: int = 0
    sides: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    identities: set[str] = field(default_factory=set)
    excluded: int = 0  # lines of the exclude list that were used
    true_faces: int = 0
    true_found: int = 0
    kept_true: int = 0

    def add(self, found: Found) -> None:
        """Count one photograph and its faces."""
        self.left_out += bool(found.fault)
        self.notes.update(found.notes)
        self.excluded += len(found.excluded)
        self.true_faces += found.true_faces
        self.true_found += found.true_found
        self.kept_true += found.kept_true
        for _, row, _ in found.faces:
            self.add_face(max(row["box_width"], row["box_height"]), row["identity"])

    def add_face(self, side: float, identity: str) -> None:
        """Count one face by the longer side of its box, px of the photograph."""
        self.count += 1
        self.sides += side
        self.bins[int(side // 4) * 4] += 1
        if identity:
            self.identities.add(identity)

    @property
    def mean_side(self) -> float | None:
        """Mean longer side of the kept boxes, px of the photographs."""
        return round(self.sides / self.count, 3) if self.count else None

    def histogram(self) -> dict[str, int]:
        """Faces by longer side, px, in bins of four."""
        return {f"{begin}-{begin + 4}": self.bins[begin] for begin in sorted(self.bins)}
