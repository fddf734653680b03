"""Artificial and genuine faces have to lie alike in their frames."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import digest_of_faces, open_faces
from charreg.photos.geometry import check_agreement, compare_geometry, draw_geometry, geometry_metrics, mean_image
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


@pytest.fixture
def run(tmp_path: Path, toy_file: Path) -> Callable[[], None]:
    """The stage train_faces on five portraits and five genuine faces, of which the last three are web's, too."""
    set_with_eyes(tmp_path / "hr/train", 64, EYES)
    set_with_eyes(tmp_path / "hr/test", 64, EYES, first=30)
    for role, first in (("train", 50), ("web", 52), ("cctv", 60)):
        set_with_eyes(tmp_path / "lr" / role, 16, (5.2, 6, 11.2, 6), first=first)
    files = {"out": "out", "scores": "scores.json", "geometry": "geometry.json", "figure": "geometry.png"}
    words = {"hr": "hr", "lr": "lr", **files}
    arguments = [word for name, path in words.items() for word in (f"--{name}", str(tmp_path / path))]
    return lambda: load_stage("train_faces").main([*arguments, "--params", str(toy_file)])


def test_the_stage_takes_test_faces_out_of_both_sets_and_leaves_the_rest(
    tmp_path: Path, run: Callable[[], None]
) -> None:
    """HR faces are compared as the 16x16 faces made of them, with those of all three test sets."""
    run()
    hr, kept = open_faces(tmp_path / "hr/train"), open_faces(tmp_path / "out/hr")
    assert (digest_of_faces(kept), kept.meta) == (digest_of_faces(hr), hr.meta)
    assert open_faces(tmp_path / "out/lr").identities == ["50", "51"]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["hr"] == {"n_faces": 5, "n_test_faces": 15, "near_duplicates": 0}
    assert scores["lr"] == {"n_faces": 2, "n_test_faces": 15, "near_duplicates": 3}
    assert json.loads((tmp_path / "geometry.json").read_text())["n_genuine"] == 2


def test_the_stage_draws_the_figure_and_gives_no_faces_when_the_sets_disagree(
    tmp_path: Path, run: Callable[[], None]
) -> None:
    shutil.rmtree(tmp_path / "lr/train")
    set_with_eyes(tmp_path / "lr/train", 16, (8, 6, 14, 6), first=50)
    with pytest.raises(CharregError, match="wanted at most 1 px"):
        run()
    assert not {path.name for path in tmp_path.iterdir()} & {"out", "scores.json", "geometry.json"}
    with Image.open(tmp_path / "geometry.png") as image:
        assert image.size == (512, 256)
