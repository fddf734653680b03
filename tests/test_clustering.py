"""k-means of CSRI's pseudo identities: what it finds, that a seed decides it, and its corner cases."""

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from charreg.core.errors import CharregError
from charreg.peers import csri
from charreg.peers.csri import Points, first_centres, k_means, nearest, without_small


def heaps(count: int = 6, each: int = 30, spread: float = 0.05, seed: int = 0) -> tuple[Points, Points]:
    """Points [count * each, 8] in well separated heaps, shuffled, and the heap of each."""
    random = np.random.default_rng(seed)
    middles = 2 * np.eye(8)[:count] + np.arange(count)[:, None]
    owner = random.permutation(np.repeat(np.arange(count), each))
    return (middles[owner] + spread * random.standard_normal((count * each, 8))).astype(np.float32), owner


def inertia(points: Points, labels: Points) -> float:
    """The sum of squared distances of points to the means of their clusters."""
    clusters = [points[labels == label].astype(np.float64) for label in np.unique(labels)]
    return float(sum(np.square(cluster - cluster.mean(axis=0)).sum() for cluster in clusters))


@pytest.mark.parametrize("seed", range(5))
def test_separate_heaps_are_found(seed: int) -> None:
    points, owner = heaps(seed=seed)
    labels = k_means(points, 6, seed)
    assert labels.dtype == np.int64
    assert len(set(zip(labels.tolist(), owner.tolist(), strict=True))) == 6  # one label a heap, one heap a label


def test_no_worse_than_scipy() -> None:
    """Points without any structure: within 3% of SciPy's k-means from the same number of starts."""
    points = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    ours = [inertia(points, k_means(points, 10, start)) for start in range(5)]
    theirs = [inertia(points, kmeans2(points, 10, minit="++", iter=50, rng=start)[1]) for start in range(5)]
    assert np.mean(ours) < 1.03 * np.mean(theirs)
    assert np.mean(ours) < 0.9 * inertia(points, np.arange(400) % 10)


def test_rounds_lower_the_inertia_and_end_where_nothing_moves() -> None:
    points = np.random.default_rng(1).standard_normal((300, 4)).astype(np.float32)
    falling = [inertia(points, k_means(points, 8, 0, rounds=rounds)) for rounds in (0, 1, 3, 50)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]
    labels = k_means(points, 8, 0)
    means = np.stack([points[labels == label].mean(axis=0) for label in range(8)])
    assert np.array_equal(nearest(points, means), labels)


def test_the_seed_decides() -> None:
    points = np.random.default_rng(2).standard_normal((200, 4))
    assert np.array_equal(k_means(points, 9, 0, "a"), k_means(points, 9, 0, "a"))
    assert not np.array_equal(k_means(points, 9, 0, "a"), k_means(points, 9, 1, "a"))
    assert not np.array_equal(k_means(points, 9, 0, "a"), k_means(points, 9, 0, "b"))


def test_first_centres_are_far_apart() -> None:
    """One heap holds nearly all points; k-means++ still starts in every heap."""
    points, owner = heaps(count=5, each=20, spread=0.01)
    crowd = np.repeat(points[owner == 0], 50, axis=0)
    centres = first_centres(np.concatenate([crowd, points]), 5, 0)
    assert len(set(owner[nearest(centres, points)].tolist())) == 5


def test_tables_of_distances_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = heaps()
    whole = k_means(points, 6, 3)
    monkeypatch.setattr(csri, "CELLS", 40)  # six rows at a time
    assert np.array_equal(k_means(points, 6, 3), whole)


def test_equal_points_and_as_many_clusters_as_points() -> None:
    assert k_means(np.ones((5, 3)), 2, 0).tolist() == [0] * 5
    assert sorted(k_means(np.arange(12.0).reshape(4, 3), 4, 0).tolist()) == [0, 1, 2, 3]
    for k in (0, 6):
        with pytest.raises(CharregError, match=f"k = {k}, wanted 1 to 5"):
            k_means(np.ones((5, 3)), k, 0)


def test_small_clusters_are_left_out() -> None:
    labels = np.array([0, 2, 2, 0, 3, 2, 0])
    assert without_small(labels, 3).tolist() == [0, 2, 2, 0, -1, 2, 0]
    assert without_small(labels, 1).tolist() == labels.tolist()
    assert without_small(labels, 4).tolist() == [-1] * 7
