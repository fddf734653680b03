"""k-means (Lloyd 1982) started by k-means++ (Arthur and Vassilvitskii 2007).

Own lines because SciPy's k-means++ compares every point with every earlier centre for each new one, which is quadratic
in k: far too slow for the thousands of clusters of a full-size face set.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from charreg.core.errors import CharregError
from charreg.core.seeding import random_numbers

Points = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

CELLS = 2**24  # of a table of distances, points by centres: 64 MiB


def k_means(points: npt.NDArray[Any], k: int, *words: object, rounds: int = 50) -> Labels:
    """The cluster 0..k-1 of each point of [N, E], int64 [N]; a function of the points and the words (seed, ...).

    At most `rounds` rounds. A cluster that loses all its points stays where it was and may end empty.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if not 1 <= k <= len(points):
        raise CharregError(f"k-means: found k = {k}, wanted 1 to {len(points)}, the number of points")
    centres = first_centres(points, k, *words)
    labels = nearest(points, centres)
    for _ in range(rounds):
        order = np.argsort(labels, kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        centres[present] = np.add.reduceat(points[order], starts, axis=0) / counts[:, None]
        previous, labels = labels, nearest(points, centres)
        if np.array_equal(previous, labels):
            break
    return labels


def first_centres(points: Points, k: int, *words: object) -> Points:
    """k-means++: every next centre is a point, drawn in proportion to its squared distance to the nearest so far."""
    random = random_numbers(*words, "k-means++")
    lengths = np.square(points).sum(axis=1)
    centres = np.empty((k, points.shape[1]), np.float32)
    distances = np.ones(len(points))
    for number in range(k):
        reached = np.cumsum(distances)
        drawn = np.searchsorted(reached, random.random() * reached[-1], side="right")
        centre = centres[number] = points[min(int(drawn), len(points) - 1)]  # the last, when all distances are zero
        new = np.maximum(lengths - 2 * points @ centre + centre @ centre, 0).astype(np.float64)
        distances = np.minimum(distances, new) if number else new
    return centres


def nearest(points: Points, centres: Points) -> Labels:
    """The nearest centre of every point; of equally near ones the first. Points go a few at a time: k may be large."""
    lengths = np.square(centres).sum(axis=1)
    rows = max(1, CELLS // len(centres))
    return np.concatenate(
        [
            np.argmin(lengths - 2 * points[start : start + rows] @ centres.T, axis=1)
            for start in range(0, len(points), rows)
        ]
    )


def without_small(labels: Labels, smallest: int) -> Labels:
    """The labels with -1 in the place of clusters of fewer than `smallest` points."""
    return np.where(np.bincount(labels)[labels] < smallest, -1, labels)
