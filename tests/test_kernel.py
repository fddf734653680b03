"""The kernel distance: by hand, against torch-fidelity, and unbiased where biased forms are not."""

from typing import Any

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.metrics import kernel as module
from charreg.metrics.bootstrap import multiplicities
from charreg.metrics.kernel import bootstrap_kernel, kernel, kernel_distance, squared_mmd

Array = np.ndarray[Any, Any]


def draw(n: int, dims: int, seed: int, shift: float = 0.0) -> Array:
    return (np.random.default_rng(seed).normal(size=(n, dims)) + shift).astype(np.float32)


def by_hand(x: Array, y: Array) -> float:
    """The definition, pair by pair."""

    def k(a: Array, b: Array) -> float:
        return float((np.float64(a) @ np.float64(b) / len(a) + 1) ** 3)

    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    return float(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy))


def test_two_points_by_hand() -> None:
    """Kernel 8 within (1/1)^3... one feature: x = (1, 1), y = (0, 0): (1 + 1)^3 + 1 - 2 * 1 = 7."""
    x, y = np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)
    assert kernel_distance(x, y, 3, 1000, 0) == (pytest.approx(7000), 0)


def test_whole_sets_give_the_definition() -> None:
    x, y = draw(9, 4, 0), draw(7, 4, 1, 0.5)
    assert squared_mmd(kernel(x, x), kernel(x, y), kernel(y, y)) == pytest.approx(by_hand(x, y), rel=1e-12)


def test_agrees_with_torch_fidelity() -> None:
    import torch
    from torch_fidelity import metric_kid

    x, y = draw(60, 32, 2), draw(60, 32, 3, 0.1)
    found, spread = kernel_distance(x, y, 5, 60, 0)  # subsets of everything: nothing random is left
    theirs = metric_kid.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=5, kid_subset_size=60, rng_seed=1, verbose=False,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1,
    )  # fmt: skip
    assert found == pytest.approx(1000 * theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert spread == pytest.approx(0, abs=1e-9)


def test_is_unbiased_where_the_form_with_the_diagonal_is_not() -> None:
    estimates, biased = [], []
    for seed in range(200):
        x, y = draw(12, 6, 2 * seed + 1000), draw(12, 6, 2 * seed + 1001)
        k_xx, k_xy, k_yy = kernel(x, x), kernel(x, y), kernel(y, y)
        estimates.append(squared_mmd(k_xx, k_xy, k_yy))
        biased.append(k_xx.mean() + k_yy.mean() - 2 * k_xy.mean())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates)) < 3 * error
    assert min(estimates) < 0  # which is why it is not cut at zero
    assert np.mean(biased) > 10 * error


def test_subsets_are_seeded_and_do_not_depend_on_the_size_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(40, 8, 4), draw(30, 8, 5, 0.2)
    first = kernel_distance(x, y, 10, 12, 7)
    assert first[1] > 0
    assert kernel_distance(x, y, 10, 12, 7) == first
    assert kernel_distance(x, y, 10, 12, 8) != first
    monkeypatch.setattr(module, "AT_ONCE", 0)  # the way of large sets
    assert kernel_distance(x, y, 10, 12, 7) == pytest.approx(first, rel=1e-9)


def test_bootstrap_leaves_out_pairs_of_an_image_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(10, 4, 6), draw(8, 4, 7, 0.5)
    k_xy, k_yy = kernel(x, y), kernel(y, y)
    found = bootstrap_kernel(x, y, 5, 0)
    for value, counts in zip(found, multiplicities(8, 5, 0), strict=True):
        drawn = np.repeat(np.arange(8), counts.astype(int))
        pairs = [k_yy[i, j] for i in drawn for j in drawn if i != j]
        assert value == pytest.approx(1000 * (np.mean(pairs) - 2 * k_xy[:, drawn].mean()), rel=1e-9)
    monkeypatch.setattr(module, "BLOCK", 3)
    np.testing.assert_allclose(bootstrap_kernel(x, y, 5, 0), found, rtol=1e-12)


def test_bootstrap_with_repeated_pairs_would_be_biased() -> None:
    x, y = draw(30, 20, 8), draw(30, 20, 9)
    k_xx, k_xy, k_yy = kernel(x, x), kernel(x, y), kernel(y, y)
    within = (k_xx.sum() - np.trace(k_xx)) / (30 * 29)
    point = 1000 * squared_mmd(k_xx, k_xy, k_yy)
    right = bootstrap_kernel(x, y, 200, 0) + 1000 * within
    wrong = []
    for counts in multiplicities(30, 200, 0):
        drawn = np.repeat(np.arange(30), counts.astype(int))
        wrong.append(1000 * squared_mmd(k_xx, k_xy[:, drawn], k_yy[np.ix_(drawn, drawn)]))
    assert abs(right.mean() - point) < 0.2 * right.std()
    assert np.mean(wrong) - point > right.std()


def test_one_image_is_refused() -> None:
    with pytest.raises(CharregError, match="found 1 image, wanted at least 2"):
        kernel_distance(draw(5, 2, 0), draw(1, 2, 1), 3, 10, 0)


def test_bootstrap_of_many_features_is_linear_and_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same resamples: nearly the same values but for a constant, also when a sample stands for all features."""
    real, generated = draw(80, 6, 2), draw(300, 6, 3, 0.4)
    exact = bootstrap_kernel(real, generated, 200, 0)
    monkeypatch.setattr(module, "LARGE", 10)
    monkeypatch.setattr(module, "BLOCK", 64)
    for sample in (5000, 150):
        monkeypatch.setattr(module, "SAMPLE", sample)
        linear = bootstrap_kernel(real, generated, 200, 0)
        assert linear.std() == pytest.approx(exact.std(), rel=0.1)
        assert np.corrcoef(linear, exact)[0, 1] > 0.97
