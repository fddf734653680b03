"""Do artificial and genuine LR faces lie alike in their frames?

If not, a discriminator tells them apart by face size and place, and phi_cr learns to zoom instead of to clean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from charreg.core.errors import CharregError
from charreg.core.faces import SMALL_EYES, FaceSet, Pixels
from charreg.photos.contact import enlarge

EYES = ("left_eye", "right_eye")
ENLARGED = 16  # times, for the figure
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EyeLine:
    """Mean eye positions [2, 2] (left, right; x, y), their distance and the faces counted; px of an LR face."""

    eyes: Points
    distance: float
    count: int


UNKNOWN = EyeLine(np.full((2, 2), np.nan), float("nan"), 0)


@dataclass(frozen=True)
class Agreement:
    """Artificial against genuine faces, px of an LR face; UNKNOWN for ready crops whose landmarks nobody gave."""

    artificial: EyeLine
    genuine: EyeLine

    @property
    def shifts(self) -> Points:
        """How far each mean eye lies from its counterpart, [2]."""
        shifts: Points = np.linalg.norm(self.genuine.eyes - self.artificial.eyes, axis=1)
        return shifts

    @property
    def worst(self) -> float:
        """The largest of the two eye shifts and the difference of the mean eye distances."""
        return float(max(*self.shifts, abs(self.genuine.distance - self.artificial.distance)))

    @property
    def unknown(self) -> str:
        """Why they cannot be compared; empty where they can."""
        kinds = {"artificial": self.artificial, "genuine": self.genuine}
        blind = [kind for kind, line in kinds.items() if line is UNKNOWN]
        return f"ready crops without landmarks ({' and '.join(blind)}): compare the mean faces by eye" if blind else ""


def measure_eyes(faces: FaceSet, size: int) -> EyeLine:
    """Mean eyes of a set, scaled to `size` px; UNKNOWN for ready crops without landmarks.

    Raises CharregError when no face that was detected has landmarks.
    """
    columns = [f"{eye}_{axis}" for eye in EYES for axis in "xy"]
    eyes = faces.index[columns].to_numpy(np.float64)
    small = faces.index[list(SMALL_EYES)].to_numpy(np.float64)  # where a face was seen small, as genuine ones are
    eyes = np.where(np.isfinite(small), small, eyes)
    points = eyes[np.isfinite(eyes).all(axis=1)].reshape(-1, 2, 2) * (size / faces.images.shape[1])
    rule = faces.meta.get("rule", {})
    if not len(points) and len(faces) and "ready" in (rule.get("boxes"), rule.get("crop")):
        return UNKNOWN
    if not len(points):
        raise CharregError(
            f"{faces.folder}: found {len(faces)} faces and no landmarks, wanted some; look at its contact sheet"
        )
    distance = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    return EyeLine(points.mean(axis=0), float(distance.mean()), len(points))


def compare_geometry(hr: FaceSet, genuine: FaceSet) -> Agreement:
    """Eyes of the artificial LR faces of an HR set against those of a genuine set. Raises CharregError."""
    if hr.lr is None:
        raise CharregError(f"{hr.folder}: no lr.npy, wanted an HR set with its artificial faces; run hr_faces")
    size = genuine.images.shape[1]
    return Agreement(measure_eyes(hr, size), measure_eyes(genuine, size))


def geometry_metrics(agreement: Agreement) -> dict[str, Any]:
    """Flat numbers for the metrics file; px of an LR face. What is unknown is absent, its reason under `absent`."""
    a, g = agreement.artificial, agreement.genuine
    metrics: dict[str, Any] = {}
    for name, line in (("artificial", a), ("genuine", g)):
        if line is UNKNOWN:
            metrics[f"n_{name}"] = 0
            continue
        for eye, (x, y) in zip(EYES, line.eyes.tolist(), strict=True):
            metrics |= {f"{name}_{eye}_x": round(x, 3), f"{name}_{eye}_y": round(y, 3)}
        metrics |= {f"{name}_eye_distance": round(line.distance, 3), f"n_{name}": line.count}
    if agreement.unknown:
        return metrics | {"absent": {"worst_shift": agreement.unknown}}
    left, right = agreement.shifts.tolist()
    return metrics | {
        "left_eye_shift": round(left, 3),
        "right_eye_shift": round(right, 3),
        "eye_distance_difference": round(g.distance - a.distance, 3),
        "worst_shift": round(agreement.worst, 3),
    }


def check_agreement(agreement: Agreement, max_shift: float) -> None:
    """Raises CharregError when the two sets differ by more than `max_shift` px; what is unknown passes."""
    if not agreement.unknown and agreement.worst > max_shift:
        left, right = agreement.shifts.tolist()
        raise CharregError(
            f"geometry: eyes of artificial and genuine faces lie {left:.2f} and {right:.2f} px apart, eye distances "
            f"are {agreement.artificial.distance:.2f} and {agreement.genuine.distance:.2f} px, wanted at most "
            f"{max_shift:g} px of difference; look at both contact sheets and mend detection or crop"
        )


def mean_image(images: Pixels) -> Pixels:
    """The mean of uint8 [N, H, W, 3], rounded; read in parts so that memory stays constant."""
    total = np.zeros(images.shape[1:], np.int64)
    for begin in range(0, len(images), 4096):
        total += images[begin : begin + 4096].sum(axis=0, dtype=np.int64)
    return np.rint(total / max(1, len(images))).astype(np.uint8)


def draw_geometry(hr: FaceSet, genuine: FaceSet, agreement: Agreement) -> Pixels:
    """Mean artificial face (left), mean genuine face (right); mean eyes yellow (artificial) and cyan (genuine)."""
    artificial = hr.images if hr.lr is None else hr.lr
    means = [enlarge(mean_image(images), ENLARGED) for images in (artificial, genuine.images)]
    sheet = Image.fromarray(np.concatenate(means, axis=1))
    pen = ImageDraw.Draw(sheet)
    for column in range(2):
        lines = ((agreement.artificial, "yellow"), (agreement.genuine, "cyan"))
        for line, colour in lines if not agreement.unknown else ():
            for x, y in (line.eyes * ENLARGED).tolist():
                x += column * means[0].shape[1]
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=colour, width=2)
    return np.asarray(sheet)
