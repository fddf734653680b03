"""Artificial and genuine faces have to lie alike in their frames."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from charreg.core.errors import CharregError
from charreg.photos.geometry import check_agreement, compare_geometry, draw_geometry, geometry_metrics, mean_image
from conftest import toy_content
from data_fixtures import load_stage, set_with_eyes

EYES = (5.0, 6.0, 11.0, 6.0)


def test_shifts_are_measured_at_16_px(tmp_path: Path) -> None:
    hr = set_with_eyes(tmp_path / "hr", 64, EYES)
    lr = set_with_eyes(tmp_path / "lr", 16, (5.3, 6.4, 11.3, 6.4))
    metrics = geometry_metrics(compare_geometry(hr, lr))
    assert metrics["left_eye_shift"] == pytest.approx(0.5, abs=1e-3)
    assert metrics["right_eye_shift"] == pytest.approx(0.5, abs=1e-3)
    assert metrics["artificial_eye_distance"] == pytest.approx(6.0, abs=1e-3)
    assert metrics["eye_distance_difference"] == pytest.approx(0.0, abs=1e-3)
    assert (metrics["n_artificial"], metrics["n_genuine"]) == (5, 5)


@pytest.mark.parametrize(
    ("eyes", "passes"),
    [((5.9, 6, 11.9, 6), True), ((6.1, 6, 12.1, 6), False), ((5, 7.1, 11, 7.1), False), ((4.4, 6, 11.6, 6), False)],
)
def test_more_than_one_px_of_shift_or_zoom_is_refused(tmp_path: Path, eyes: Any, passes: bool) -> None:
    agreement = compare_geometry(set_with_eyes(tmp_path / "hr", 64, EYES), set_with_eyes(tmp_path / "lr", 16, eyes))
    if passes:
        check_agreement(agreement, 1.0)
    else:
        with pytest.raises(CharregError, match=r"px apart.*wanted at most 1 px"):
            check_agreement(agreement, 1.0)


def test_sets_without_landmarks_are_refused(tmp_path: Path) -> None:
    hr = set_with_eyes(tmp_path / "hr", 64, EYES)
    for name, lr in (
        ("blind", set_with_eyes(tmp_path / "blind", 16, None)),
        ("empty", set_with_eyes(tmp_path / "empty", 16, EYES, count=0)),
    ):
        with pytest.raises(CharregError, match=f"{name}: found . faces and no landmarks"):
            compare_geometry(hr, lr)
    with pytest.raises(CharregError, match=r"no lr\.npy, wanted an HR set"):
        compare_geometry(set_with_eyes(tmp_path / "lr", 16, EYES), hr)


@pytest.mark.parametrize("rule", [{"boxes": "ready"}, {"crop": "ready"}])
def test_ready_crops_without_landmarks_pass_as_unknown(tmp_path: Path, rule: dict[str, str]) -> None:
    hr = set_with_eyes(tmp_path / "hr", 64, EYES)
    blind = set_with_eyes(tmp_path / "blind", 16, None)
    found = compare_geometry(hr, replace(blind, meta={**blind.meta, "rule": rule}))
    check_agreement(found, 1.0)
    metrics = geometry_metrics(found)
    assert metrics["n_genuine"] == 0
    assert metrics["absent"] == {
        "worst_shift": "ready crops without landmarks (genuine): compare the mean faces by eye"
    }
    assert not any("genuine_" in name for name in metrics)
    assert draw_geometry(hr, blind, found).shape == (256, 512, 3)


def test_mean_image_is_exact_and_does_not_overflow() -> None:
    images = np.full((5000, 2, 2, 3), 255, np.uint8)
    images[:2500] = 100
    assert (mean_image(images) == 178).all()  # 177.5, half to even


@pytest.mark.parametrize(("eyes", "agree"), [((5.2, 6, 11.2, 6), True), ((8, 6, 14, 6), False)])
def test_the_stage_keeps_faces_that_agree_and_draws_the_figure_in_any_case(
    tmp_path: Path, eyes: tuple[float, ...], agree: bool
) -> None:
    for name in ("train", "test"):
        set_with_eyes(tmp_path / "hr" / name, 64, EYES)
    for name in ("train", "web", "cctv"):
        set_with_eyes(tmp_path / "lr" / name, 16, eyes)
    content = toy_content({"deduplicate.near_duplicates": "keep"})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["--hr", "hr", "--lr", "lr", "--out", "out", "--scores", "scores.json", "--geometry", "geometry.json"]
    words += ["--figure", "geometry.png", "--params", "params.yaml"]
    call = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    if agree:
        load_stage("train_faces").main(call)
        found = json.loads((tmp_path / "geometry.json").read_text())
        assert found["left_eye_shift"] == pytest.approx(0.2, abs=1e-3)
    else:
        with pytest.raises(CharregError, match="wanted at most 1 px"):
            load_stage("train_faces").main(call)
    assert (tmp_path / "geometry.json").exists() == (tmp_path / "out").exists() == agree
    with Image.open(tmp_path / "geometry.png") as image:
        assert image.size == (512, 256)
