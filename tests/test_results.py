"""What the committed reports/ of the default run must show: a change that loses it fails here."""

import csv
import json
from typing import Any

import pytest

from charreg.core.params import read_all_params
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


TABLES = {1: "distance", 2: "recognition", 3: "fidelity"}  # of all methods; those below, of variants


@pytest.mark.parametrize("number", TABLES)
def test_tables_1_to_3_have_every_method(number: int) -> None:
    methods = read_all_params(ROOT / "params.yaml").methods
    assert len(methods) >= 13
    with open(ROOT / f"reports/tables/table{number}_{TABLES[number]}.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(methods)


@pytest.mark.parametrize("number", range(1, 8))
def test_every_table_is_followed_by_what_it_says_of_the_paper(number: int) -> None:
    text = (ROOT / "reports/report.md").read_text(encoding="utf-8")
    section = text.split(f"### Table {number}.")[1].split("\n### ")[0]
    assert "**Against the paper.**" in section


@pytest.mark.parametrize("method", ["vdsr", "srgan", "sr_module"])
def test_vdsr_and_residual_networks_beat_bicubic_on_unseen_people(method: str) -> None:
    assert metrics(method)["hr_test"]["psnr_rgb"] > metrics("bicubic")["hr_test"]["psnr_rgb"]


def test_the_super_resolver_beats_bicubic_by_a_decibel_on_unseen_people() -> None:
    gain = metrics("sr_module")["hr_test"]["psnr_rgb"] - metrics("bicubic")["hr_test"]["psnr_rgb"]
    assert gain >= 1.0


@pytest.mark.parametrize("method", ["cr_stage1", "cr"])
@pytest.mark.parametrize("name", SETS)
def test_table_5_regulated_faces_are_nearer_to_artificial_ones(name: str, method: str) -> None:
    assert metrics(method)[name]["lr_fd_imagenet_hi"] < metrics("genuine")[name]["lr_fd_imagenet_lo"]


@pytest.mark.parametrize(("name", "other"), [("web", "bicubic"), ("cctv", "bicubic"), ("cctv", "sr_module")])
def test_table_1_cr_is_nearer_to_real_faces(name: str, other: str) -> None:
    """Not on `web` against the super-resolver alone: so few steps leave that open."""
    assert metrics("cr")[name]["fd_imagenet"] < metrics(other)[name]["fd_imagenet"]


@pytest.mark.parametrize("network", ["centreface", "matcher"])
def test_the_recognisers_know_people_they_never_saw(network: str) -> None:
    assert metrics(network)["rank1"] >= 85


def test_table_2_cr_is_recognised_better_than_raw_faces() -> None:
    """The paper's Table 2 has LR-PIPA alone, here `web`.

    With five people a set, whose intervals are as wide as the difference, and trainings that differ between machines,
    only the point values are held to it. By a recogniser trained without noise four of five runs failed it.
    """
    assert metrics("cr")["web"]["rank1"] > metrics("bicubic")["web"]["rank1"]


def test_beyond_table_2_the_faces_of_the_dark_camera_are_not_recognised_worse() -> None:
    assert metrics("cr")["cctv"]["rank1_hi"] > metrics("bicubic")["cctv"]["rank1_lo"]


def test_cr_keeps_the_fidelity_of_its_super_resolver() -> None:
    assert metrics("cr")["hr_test"]["psnr_rgb"] > metrics("sr_module")["hr_test"]["psnr_rgb"] - 0.5
