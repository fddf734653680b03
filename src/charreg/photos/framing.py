"""Faces that are known without a detector: annotated boxes, landmarks, aligned portraits, ready crops."""

import math

import numpy as np

from charreg.core.faces import Pixels
from charreg.photos.detection import DetectedFace, Points, Square, overlap_of
from charreg.photos.sources import Box, Photo
from charreg.photos.sources.celeba import SIZE

CELEBA_CENTRE = (89.0, 121.0)  # px of the aligned portrait, as in the CelebA tool of progressive GANs
# Mean places of `faces.LANDMARKS` in the square of 1.2 times MTCNN's box around upright faces, shares of its side.
MEAN_FACE = np.array([[0.359, 0.404], [0.641, 0.404], [0.5, 0.569], [0.376, 0.713], [0.624, 0.713]])
MEAN_MARGIN = 0.2
MAX_STRETCH = 1.15  # longer to shorter side of a ready crop; one cut at a photograph's border is not quite square


def unknown_points() -> Points:
    return np.full((5, 2), np.nan)


def known_points(photo: Photo) -> Points | None:
    """The landmarks [5, 2] the source has, px of the photograph."""
    return np.array(photo.landmarks, np.float64).reshape(5, 2) if photo.landmarks else None


def face_of_square(square: Square, margin: float, points: Points | None) -> DetectedFace:
    """The face whose square it is; nobody scored it."""
    side = square.side / (1 + margin)
    points = unknown_points() if points is None else points
    return DetectedFace(square.x - side / 2, square.y - side / 2, side, side, math.nan, 1.0, points)


def face_of_box(box: Box) -> DetectedFace:
    """An annotated face."""
    return DetectedFace(box.left, box.top, box.width, box.height, math.nan, 1.0, unknown_points())


def face_of_landmarks(points: Points, margin: float) -> DetectedFace:
    """The face as MTCNN would frame it on average: MEAN_FACE scaled and shifted onto the landmarks, not rolled."""
    mean, wanted = MEAN_FACE - MEAN_FACE.mean(axis=0), points - points.mean(axis=0)
    side = math.sqrt((wanted**2).sum() / (mean**2).sum())
    x, y = points.mean(axis=0) + side * (0.5 - MEAN_FACE.mean(axis=0))
    return face_of_square(Square(x, y, side * (1 + margin) / (1 + MEAN_MARGIN)), margin, points)


def nearest_face(faces: list[DetectedFace], wanted: DetectedFace) -> DetectedFace | None:
    """Of the faces the one that overlaps the wanted one most; None where none does."""
    box = (wanted.left, wanted.top, wanted.width, wanted.height)
    overlaps = [overlap_of((face.left, face.top, face.width, face.height), box) for face in faces]
    return faces[int(np.argmax(overlaps))] if overlaps and max(overlaps) > 0 else None


def whole_square(pixels: Pixels) -> Square | None:
    """The square a ready crop shows, as large as its longer side; None where it is no crop of a face."""
    height, width = pixels.shape[:2]
    side = max(width, height)
    return Square(width / 2, height / 2, side) if side <= MAX_STRETCH * min(width, height) else None


def aligned_square(pixels: Pixels, side: float) -> Square | None:
    """The square of that side every aligned portrait of CelebA has its face in; None for other pictures."""
    return Square(*CELEBA_CENTRE, side) if pixels.shape[1::-1] == SIZE else None
