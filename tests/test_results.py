"""What the committed reports/ of the default run must show: a change that loses it fails here."""

import json
from typing import Any

import pytest

from conftest import ROOT

SETS = ("web", "cctv")


def metrics(name: str) -> Any:
    return json.loads((ROOT / "reports/metrics" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("camera", "recall"), [("web", 0.80), ("cctv", 0.60)])
def test_the_detector_finds_the_tiny_faces_and_little_else(camera: str, recall: float) -> None:
    found = metrics(f"detection_{camera}")
    assert found["recall"] >= recall
    assert found["precision"] >= 0.95


@pytest.mark.parametrize("name", SETS)
def test_the_cameras_are_bad_enough_to_matter(name: str) -> None:
    genuine = metrics("genuine")
    assert genuine[name]["lr_fd_imagenet"] >= 3 * genuine["artificial"]["lr_fd_imagenet"]


def test_the_super_resolver_beats_bicubic_by_a_decibel_on_unseen_people() -> None:
    gain = metrics("sr_module")["hr_test"]["psnr_rgb"] - metrics("bicubic")["hr_test"]["psnr_rgb"]
    assert gain >= 1.0


@pytest.mark.parametrize("method", ["cr_stage1", "cr"])
@pytest.mark.parametrize("name", SETS)
def test_table_5_regulated_faces_are_nearer_to_artificial_ones(name: str, method: str) -> None:
    assert metrics(method)[name]["lr_fd_imagenet_hi"] < metrics("genuine")[name]["lr_fd_imagenet_lo"]


@pytest.mark.parametrize("other", ["bicubic", "sr_module"])
@pytest.mark.parametrize("name", SETS)
def test_table_1_cr_is_below_bicubic_and_the_super_resolver_alone(name: str, other: str) -> None:
    assert metrics("cr")[name]["fd_imagenet"] < metrics(other)[name]["fd_imagenet"]


def test_the_recogniser_knows_people_it_never_saw() -> None:
    assert metrics("centreface")["rank1"] >= 85


def test_table_2_cr_is_recognised_better_than_raw_faces() -> None:
    """The paper's Table 2 has LR-PIPA alone, here `web`.

    With five people a set, whose intervals are as wide as the difference, and trainings that differ between machines,
    only the point values are held to it. By a recogniser trained without noise four of five runs failed it (README).
    """
    assert metrics("cr")["web"]["rank1"] > metrics("bicubic")["web"]["rank1"]


def test_beyond_table_2_the_faces_of_the_dark_camera_are_not_recognised_worse() -> None:
    assert metrics("cr")["cctv"]["rank1_hi"] > metrics("bicubic")["cctv"]["rank1_lo"]


def test_cr_keeps_the_fidelity_of_its_super_resolver() -> None:
    assert metrics("cr")["hr_test"]["psnr_rgb"] > metrics("sr_module")["hr_test"]["psnr_rgb"] - 0.5
