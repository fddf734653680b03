"""The report: what it prints, what it leaves out, and what it concludes."""

import csv
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import FaceWriter, Pixels, open_faces
from charreg.core.files import sha256_of_file
from charreg.core.params import METHODS, check_params
from charreg.metrics.evaluate import over_seeds
from charreg.report import costs, figures, markdown, tables
from charreg.report.figures import Folders, chosen_faces, draw_curves, draw_faces, read_series
from charreg.report.markdown import Inputs, write_report
from charreg.report.markup import Column, Table, marks, to_csv, to_markdown
from charreg.report.published import COSTS, LR_SPACE, PEERS, ROWS, in_order, row_of
from charreg.report.results import Measure, read_json, read_results
from charreg.report.settings import departures, stabilisers
from charreg.report.verdicts import Claim, extreme, paragraph, verdict
from conftest import ROOT

# What the paper prints, copied from its Tables 1 to 7 and its paragraph on complexity.
SYSTEMS = {  # FID on LR-PIPA and LR-DukeMTMC, rank-1 on LR-PIPA, PSNR and SSIM on Helen
    "vdsr": (94.49, 229.56, 25.45, 26.31, 0.7918),
    "srgan": (103.85, 232.38, 27.00, 25.10, 0.7873),
    "fsrnet": (117.19, 218.30, 26.50, 25.10, 0.7234),
    "sicnn": (129.23, 223.08, 28.85, 26.10, 0.7986),
    "cyclegan": (33.62, 42.41, 25.12, 18.85, 0.6061),
    "csri": (104.68, 240.99, 29.59, 25.40, 0.7388),
    "lrgan": (29.80, 31.20, 21.99, 21.88, 0.6869),
    "cr": (23.09, 25.56, 30.53, 25.50, 0.8184),
}
RAW_LR_RANK1 = 24.83
VARIANTS = {  # Tables 4, 6 and 7; the two readings of W/O SR-RI share its numbers
    "wo_cr": (133.30, 190.73),
    "cr_stage1": (111.01, 113.70),
    "wo_sr_ri_joint": (111.01, 113.70),
    "wo_ul": (25.30, 26.11),
}
LOW_RESOLUTION = {"genuine": (40.72, 86.23), "cr_stage1": (19.49, 24.32)}  # Table 5
COMPLEXITY = {"cr": (2.7e6, 46, 7.5), "lrgan": (4.0e6, 72, 6.6), "cyclegan": (21e6, 81, 150)}

# A made-up run that measures the paper's own numbers: Fréchet distances ten times its FID, and what it is silent on.
ROLES = ("web", "cctv")
MEASURED = {
    **SYSTEMS,
    "bicubic": (140.0, 250.0, RAW_LR_RANK1, 24.0, 0.70),
    "sr_module": SYSTEMS["srgan"],
    **{name: (*fids, 29.9, 25.2, 0.79) for name, fids in VARIANTS.items()},
}
REGULATED = {"cr_stage1": (19.49, 24.32), "cr": (15.0, 20.0), "wo_ul": (16.0, 21.0), "wo_sr_ri_joint": (17.0, 22.0)}
LABELS = {"srgan": "SRGAN (face-feature content loss)", "csri": "CSRI (pseudo identities)"}  # trained with a fallback
PRINTED = {  # every row of Tables 1 to 3 in the default run
    "bicubic": "Bicubic",
    "vdsr": "VDSR",
    "srgan": LABELS["srgan"],
    "fsrnet": "FSRNet",
    "sicnn": "SICNN",
    "cyclegan": "CycleGAN",
    "csri": LABELS["csri"],
    "lrgan": "LRGAN",
    "sr_module": "SR alone (S1a)",
    "cr_stage1": "CR, stage 1",
    "wo_cr": "W/O CR",
    "wo_ul": "W/O UL",
    "cr": "CR",
}

FACES = 9
PSNR = ["psnr_train", "psnr_bicubic"]
CURVES = {  # of every job: the columns of curves.tsv and of health.tsv
    "centreface": (["l_recognition", "accuracy"], ["accuracy_unmirrored", "feature_length", "centre_distance"]),
    "matcher": (["l_recognition", "accuracy"], ["accuracy_unmirrored", "feature_length", "centre_distance"]),
    "sr_module": (["l_sr", "l_d_sr", "l_adv"], PSNR),
    "inverse_cr": (["l_d_inv", "l_inv", "content"], ["psnr_P_A", "d_inv_real", "d_inv_fake", "d_inv_accuracy"]),
    "characteristic": (
        ["l_d", "l_cr", "reconstruction", "identity"],
        ["psnr_R_G", "psnr_P_A", "psnr_regulated_P_A", "d_real", "d_fake", "d_accuracy"],
    ),
    "cr": (
        ["joint", "l_sr", "l_cr", "l_cr_sr", "l_cr_gan", "l_d", "l_df"],
        ["psnr_train", "psnr_R_G", "mse_DS_S_R", "d_real", "d_fake", "d_accuracy", "df_accuracy"],
    ),
    "wo_cr": (["joint", "l_sr", "l_cr_sr", "l_cr_gan", "l_df"], ["psnr_train", "mse_DS_S_R", "df_accuracy"]),
    "wo_ul": (
        ["joint", "l_sr", "l_cr", "l_cr_sr", "l_cr_gan", "l_d", "l_df"],
        ["psnr_train", "psnr_R_G", "d_accuracy", "df_accuracy"],
    ),
    "wo_sr_ri_joint": (["joint", "l_sr", "l_cr", "l_d"], ["psnr_train", "psnr_R_G", "d_accuracy"]),
    "vdsr": (["l_sr"], PSNR),
    "srgan": (["l_sr", "l_d", "l_content", "l_adv"], [*PSNR, "d_real", "d_fake", "d_accuracy"]),
    "fsrnet": (["l_coarse", "l_fine", "l_prior"], [*PSNR, "psnr_coarse"]),
    "sicnn": (["l_sr", "l_si", "l_r_hr", "l_r_sr"], [*PSNR, "accuracy_hr", "accuracy_sr", "l_si"]),
    "cyclegan": (
        ["l_gan", "l_cycle", "l_identity", "l_d_x", "l_d_y"],
        [*PSNR, "cycle_x", "cycle_y", "d_x_real", "d_x_fake", "d_x_accuracy", "d_y_accuracy", "colour_shift"],
    ),
    "csri": (["l_sr", "l_id_syn", "l_id_native"], [*PSNR, "accuracy_syn", "accuracy_native"]),
    "lrgan": (
        ["l_d_lr", "hl_pixel", "hl_gan", "l_d_hr", "lh_pixel", "lh_gan"],
        [*PSNR, "psnr_hl", "d_lr_real", "d_lr_fake", "d_lr_accuracy", "d_hr_accuracy"],
    ),
}


def drawn_faces(count: int, size: int, seed: int) -> Pixels:
    """Ovals with two eyes on a plain ground: uint8 [count, size, size, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    faces = []
    for _ in range(count):
        skin, ground = random.uniform(90, 220, 3), random.uniform(20, 120, 3)
        oval = ((x - 0.5) / 0.36) ** 2 + ((y - 0.5) / 0.46) ** 2 < 1
        eyes = sum(np.hypot(x - side, y - 0.42) < 0.06 for side in (0.34, 0.66)) > 0
        faces.append(np.where(eyes[..., None], 25, np.where(oval[..., None], skin, ground)))
    return np.stack(faces).astype(np.uint8)


GENUINE = {"photos": 4, "side_histogram": {"12-16": 7, "20-24": 2}, "converted": {"cmyk": 1}}  # as lr_faces notes it


def write_faces(folder: Path, size: int, seed: int, lr_size: int | None = None, **notes: Any) -> None:
    folder.mkdir(parents=True)
    lr = drawn_faces(FACES, lr_size, seed) if lr_size else [None] * FACES
    with FaceWriter(folder, size, lr_size) as writer:
        for at, (face, small) in enumerate(zip(drawn_faces(FACES, size, seed), lr, strict=True)):
            writer.add(face, {"source": "packaged", "photo": f"{at // 3}.jpg", "identity": f"s{at % 4}"}, small)
        if notes:
            writer.reject("truncated")
            writer.reject("score", 14)
            writer.notes |= notes


def spread(name: str, value: float, half: float) -> dict[str, float]:
    return {name: value, f"{name}_lo": value - half, f"{name}_hi": value + half}


def distances(fid: float, prefix: str = "") -> dict[str, float]:
    """Both distances that a published FID becomes here."""
    fd, kd = (f"{prefix}{name}_imagenet" for name in ("fd", "kd"))
    return {**spread(fd, 10 * fid, fid / 25), **spread(kd, fid, fid / 250), f"{kd}_std": 0.2}


def method_metrics(method: str) -> dict[str, Any]:
    """Metrics as stage evaluate writes them."""
    *fids, rank1, psnr, ssim = MEASURED[method]
    found: dict[str, Any] = {"label": LABELS[method]} if method in LABELS else {}
    for at, role in enumerate(ROLES):
        found[role] = {
            "n_real": 720,
            "n_fake": 334 + at,
            **distances(fids[at]),
            **(distances(REGULATED[method][at], "lr_") if method in REGULATED else {}),
            "n_identities": 5,
            "n_probes": 329,
            **spread("rank1", rank1, 0.1),
            "rank1_std": 2.2,
            "absent": {f"rank{k}": f"5 identities in the gallery: everybody is among the first {k}" for k in (5, 20)},
        }
    found["hr_test"] = {
        "n_images": 60,
        **spread("psnr_rgb", psnr, 0.04),
        **spread("ssim_rgb", ssim, 0.005),
        **spread("psnr_y", psnr + 1.4, 0.04),
    }
    return found


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


MADE_WITH = {
    "machine": {"cpu": "Made-up CPU at 2 GHz", "cores": 2, "threads": 1},
    "versions": {"python": "3.12.1", "torch": "2.14.0"},
}
HOURS = {"sr_module": 10, "inverse_cr": 10, "characteristic": 20, "cr": 6, "lrgan": 72, "cyclegan": 81}  # else 1
ITERATIONS = {"inverse_cr": 2000, "characteristic": 3000, "cr": 240, "wo_cr": 240, "wo_ul": 240}  # else 600


def complexity() -> dict[str, Any]:
    """complexity.json: the published numbers, and a quarter of them at the run's widths."""
    parameters = {
        "deployed_genuine": 1_812_382,
        "deployed_artificial": 1_586_519,
        "stage_2_system": 2_685_863,
        "plus_inverse_discriminator": 3_095_144,
        "plus_image_discriminator": 3_504_425,
    }
    times = {"genuine_single": 7.5, "artificial_single": 6.2, "genuine_batch": 88.7, "artificial_batch": 81.3}
    counts = {"cr": 2_685_863, "lrgan": 4_008_392, "cyclegan": 21_204_872}
    paper = {
        method: {"parameters": counts[method], "ms_single": ms, "ms_batch": 12 * ms}
        for method, (*_, ms) in COMPLEXITY.items()
    }
    smaller = {
        method: {name: value // 4 if name == "parameters" else value / 4 for name, value in found.items()}
        for method, found in paper.items()
    }
    return {
        "device": "cpu",
        "batch": 16,
        "repeats": 10,
        **MADE_WITH,
        "run": {
            "width": 32,
            "parameters": {name: count // 4 for name, count in parameters.items()},
            "milliseconds": {name: value / 4 for name, value in times.items()},
        },
        "paper": {"width": 64, "parameters": parameters, "milliseconds": times},
        "systems": {method: {"run": smaller[method], "paper": paper[method]} for method in paper},
    }


def build_run(root: Path) -> None:
    """A whole made-up run under `root`: everything the stages before the report write, of every method there is."""
    seeds = iter(range(100))
    for role in ("train", "test"):
        write_faces(root / "data/hr_faces" / role, 64, next(seeds), 16)
    for role in ("train", "web", "cctv"):
        write_faces(root / "data/lr_faces" / role, 16, next(seeds), **GENUINE)
    for kind in ("hr", "lr"):
        shutil.copytree(root / f"data/{kind}_faces/train", root / "data/train_faces" / kind)
    for method in MEASURED:
        write(root / "reports/metrics" / f"{method}.json", method_metrics(method))
        for test_set in (*ROLES, "hr_test"):
            write_faces(root / "data/sr" / method / test_set, 64, next(seeds))
        if method in REGULATED:
            for role in ROLES:
                write_faces(root / "data/sr" / method / f"{role}_regulated", 16, next(seeds))
    genuine = {
        role: {
            "n_real": 720,
            "n_fake": 334 + at,
            **distances(LOW_RESOLUTION["genuine"][at], "lr_"),
            "warnings": {"lr_fd_imagenet": "n_fake 334, features 1280: biased upwards"},
        }
        for at, role in enumerate(ROLES)
    }
    floor = {"n_real": 360, "n_fake": 360, **spread("lr_fd_imagenet", 101.8, 9), **spread("lr_kd_imagenet", 0.5, 0.1)}
    write(root / "reports/metrics/genuine.json", {**genuine, "artificial": floor})
    for role in ("train", "web", "cctv"):
        numbers = {"n_photos": 18, "n_faces": 334, "mean_side": 18.883, "recall": 0.6185, "precision": 1.0}
        counts = {"n_identities": 4, "n_true": 540, "rejected": {"score": 14, "truncated": 1}, "converted": {"cmyk": 1}}
        write(root / f"reports/metrics/detection_{role}.json", {**numbers, **counts})
    eyes = {
        f"{kind}_{name}": value
        for kind in ("artificial", "genuine")
        for name, value in (
            ("left_eye_x", 5.4),
            ("left_eye_y", 6.3),
            ("right_eye_x", 10.6),
            ("right_eye_y", 6.3),
            ("eye_distance", 5.2),
        )
    }
    write(root / "reports/metrics/geometry.json", {**eyes, "n_artificial": 720, "n_genuine": 836, "worst_shift": 0.31})
    gate = {**spread("rank1", 91.2, 2.0), "rank1_std": 1.1, "auc": 0.9812, "n_identities": 6, "n_probes": 54}
    write(root / "reports/metrics/matcher.json", gate)
    write(root / "reports/complexity.json", complexity())
    noise = np.random.default_rng(0)
    for job, columns in CURVES.items():
        timing = {"job": job, "seconds": 3600 * HOURS.get(job, 1), "iterations": ITERATIONS.get(job, 600)}
        write(root / f"reports/timings/{job}.json", {**timing, "peak_memory_mib": 812, "batch": 8, **MADE_WITH})
        for file, names in zip(("curves.tsv", "health.tsv"), columns, strict=True):
            lines = ["\t".join(["step", *names])]
            for step in range(20, 2420, 20):
                values = [np.exp(noise.normal(-step / (600 + 90 * at), 0.3)) for at, _ in enumerate(names)]
                lines.append("\t".join([str(step), *(f"{value:.6g}" for value in values)]))
            path = root / "reports/training" / job / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def inputs_of(root: Path) -> Inputs:
    return Inputs(
        metrics=root / "reports/metrics",
        timings=root / "reports/timings",
        complexity=root / "reports/complexity.json",
        training=root / "reports/training",
        paper=ROOT / "profiles/paper.yaml",
        faces=Folders(
            sr=root / "data/sr", hr=root / "data/hr_faces", lr=root / "data/lr_faces", train=root / "data/train_faces"
        ),
    )


PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def params_with(**changes: Any) -> Any:
    return check_params({**PARAMS, **changes}, Path("params.yaml"))


Report = Callable[..., str]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    build_run(folder)
    return folder


@pytest.fixture
def root(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the made-up run; its faces are the originals, not to be changed."""
    shutil.copytree(finished_run / "reports", tmp_path / "run/reports")
    (tmp_path / "run/data").symlink_to(finished_run / "data")
    return tmp_path / "run"


@pytest.fixture
def illustrated(root: Path) -> Report:
    """Write the report of the made-up run; returns report.md."""

    def make(**changes: Any) -> str:
        write_report(inputs_of(root), params_with(**changes), root / "reports")
        return (root / "reports/report.md").read_text(encoding="utf-8")

    return make


@pytest.fixture
def report(illustrated: Report, monkeypatch: pytest.MonkeyPatch) -> Report:
    """The same without pictures, which take most of the time."""
    for name in ("draw_diagrams", "draw_faces", "draw_curves"):
        monkeypatch.setattr(markdown, name, lambda *_: {})
    return illustrated


Blocks = list[tuple[str, list[figures.Strip]]]  # what a picture shows: titled blocks of labelled faces


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pictures of a report would show, by file name, noted instead of drawn: blocks of faces, or jobs."""
    found: dict[str, Any] = {}
    blocks: Blocks = []

    def note(new: Blocks) -> Image.Image:
        blocks.extend(new)
        return Image.new("RGB", (1, 1))

    def save(path: Path, draw: Callable[[int, int], Image.Image], faces: int) -> None:
        blocks.clear()
        draw(1, faces)
        found[path.name] = list(blocks)

    def curves(out: Path, training: Path, jobs: list[str], name: str, caption: str) -> dict[str, str]:
        found.update({name: jobs} if jobs else {})
        return {name: caption} if jobs else {}

    monkeypatch.setattr(figures, "strip_picture", lambda new, *_: note(list(new)))
    monkeypatch.setattr(figures, "column_picture", lambda title, strips, *_: note([(title, strips)]))
    monkeypatch.setattr(figures, "_save", save)
    monkeypatch.setattr(markdown, "draw_curves", curves)
    monkeypatch.setattr(markdown, "draw_diagrams", lambda *_: {})
    return found


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write(path, content)


def section(text: str, heading: str) -> str:
    """From a heading to the next one of any level."""
    return re.split(r"\n#+ ", text.split(f"### {heading}", 1)[1], maxsplit=1)[0]


def judged(text: str, heading: str, head: str = "Against the paper") -> dict[str, str]:
    """The sentences against (or beyond) the paper under a heading: verdict -> what it says."""
    found = section(text, heading).split(f"**{head}.** ", 1)[1].split("\n", 1)[0]
    found = found.split(" **Beyond the paper.** ", 1)[0]
    return dict(re.findall(r"\*([^*]+):\* (.+?)\.(?= \*|$)", found))


def printed_rows(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of a table in markdown: label -> cells; the heads under an empty label."""
    lines = [line for line in section(text, heading).splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {"": rows[0][1:], **{label: cells for label, *cells in rows[1:]}}


def csv_rows(root: Path, name: str) -> dict[str, dict[str, str]]:
    """The rows of a table's CSV file: label -> column -> text."""
    rows = list(csv.DictReader(io.StringIO((root / f"reports/tables/{name}.csv").read_text(encoding="utf-8"))))
    return {next(iter(row.values())): row for row in rows}


def digests(folder: Path) -> dict[Path, str]:
    return {path: sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


# --- the whole of it -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_whole_report_by_its_stage(root: Path) -> None:
    """The whole comparison with all its pictures; the stage may touch no parameter that it does not declare."""
    folders = {
        **{name: root / "reports" / name for name in ("metrics", "timings", "training")},
        "complexity": root / "reports/complexity.json",
        "paper": ROOT / "profiles/paper.yaml",
        "sr": root / "data/sr",
        "hr": root / "data/hr_faces",
        "lr": root / "data/lr_faces",
        "train": root / "data/train_faces",
        "out": root / "reports",
        "params": root / "params.yaml",
    }
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    words = [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    runpy.run_path(str(ROOT / "stages/report.py"))["main"](words)
    text = (root / "reports/report.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[2].startswith("> **Data**")
    assert lines[3] == (
        "> - **HR train:** packaged portraits (ORL), genuine photographs; 9 faces, 4 identities, from 3 portraits"
        " (paper: CelebA)"
    )
    assert [line.split("**")[1] for line in lines[3:8]] == ["HR train:", "HR test:", "LR train:", "LR web:", "LR cctv:"]
    assert all("SIMULATED camera" in line for line in lines[5:8])
    first = "\n".join(lines[:12])
    assert "They are not FID" in first
    assert "**Seed:** 0" in first
    assert re.findall(r"### (Table \d)\.", text) == [f"Table {number}" for number in range(1, 8)]
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text)
    pictures = re.findall(r"\]\(pictures/(.+?)\)", text)
    assert sorted(pictures) == sorted(path.name for path in (root / "reports/pictures").iterdir())
    assert [name.split("_")[0] for name in pictures if name.startswith("figure")] == [
        *("figure1", "figure2", "figure3", "figure4", "figure4", "figure5", "figure6")
    ]
    assert len(set(pictures)) == len(pictures) == 12
    alternatives = re.findall(r"!\[(.*?)\]", text)
    assert all(words and words.count("(") == words.count(")") for words in alternatives)
    for name in pictures:
        picture = root / "reports/pictures" / name
        assert picture.stat().st_size < 700_000, name
        if picture.suffix == ".svg":
            assert "<svg" in picture.read_text(encoding="utf-8")
        else:
            with Image.open(picture) as image:
                assert image.format == "PNG"


def test_only_declared_methods_appear_and_the_same_again(
    illustrated: Report, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although metrics, faces, timings and curves of all the others lie around."""
    for name in ("draw_diagrams", "draw_curves"):
        monkeypatch.setattr(markdown, name, lambda *_: {})
    text = illustrated(methods=["bicubic", "cr"], joint_variants=["cr"])
    for name in ("Table 1.", "Table 2.", "Table 3."):
        assert [row.partition(" (")[0] for row in printed_rows(text, name)] == ["", "Bicubic", "CR"]
    assert list(printed_rows(text, "Table 5.")) == [
        *("", "Genuine LR", "Regulated LR, stage 2", "Artificial LR (floor)")
    ]
    assert re.findall(r"### (Table \d)\.", text) == [f"Table {number}" for number in (1, 2, 3, 5)]
    assert list(printed_rows(text, "Complexity")) == ["", "CR"]
    assert list(printed_rows(text, "Training"))[1:] == [
        *(f"`{job}`" for job in ("centreface", "matcher", "sr_module", "inverse_cr", "characteristic", "cr"))
    ]
    names = [path.name for path in (root / "reports/pictures").iterdir()]
    assert sorted(names) == [
        *("figure3_genuine.png", "figure5_triplets.png"),
        *("methods_cctv.png", "methods_hr_test.png", "methods_web.png"),
    ]
    files = [text, *(path.read_text(encoding="utf-8") for path in (root / "reports/tables").iterdir())]
    others = "|".join(["vdsr", "srgan", "fsrnet", "sicnn", "cyclegan", "csri", "lrgan", "wo_", "W/O", "CR, stage 1"])
    for content in files:
        assert not re.search(others, content, re.IGNORECASE)
        assert len([line for line in content.splitlines() if line]) > 1
    before = digests(root / "reports")
    assert illustrated(methods=["bicubic", "cr"], joint_variants=["cr"]) == text
    assert digests(root / "reports") == before


def test_pictures_and_curves_show_declared_methods_only(illustrated: Report, shown: dict[str, Any], root: Path) -> None:
    illustrated(methods=["bicubic", "cr"], joint_variants=["cr"])
    labels = {
        label for name, blocks in shown.items() if name != "training.png" for _, new in blocks for label, _ in new
    }
    assert labels == {"", "LR", "HR", "web", "cctv", "Bicubic", "CR"}
    assert shown["training.png"] == ["centreface", "matcher", "sr_module", "inverse_cr", "characteristic", "cr"]
    assert "training_peers.png" not in shown
    shown.clear()
    illustrated()
    assert shown["training.png"][5:] == ["wo_cr", "wo_ul", "cr"]
    assert shown["training_peers.png"] == list(PEERS)


def test_a_run_without_cr_says_nothing_of_its_complexity(report: Report) -> None:
    text = report(methods=["bicubic", "lrgan"])
    assert list(printed_rows(text, "Complexity")) == ["", "LRGAN"]
    assert "### Parameters of CR" not in text
    assert not any(label.startswith("CR") for label in printed_rows(text, "Inference"))
    assert "### Inference" not in report(methods=["bicubic", "vdsr"])
    assert "Nothing to judge" in section(report(methods=["bicubic", "vdsr"]), "Table 1.")


def test_missing_metrics_of_a_declared_method_name_it(report: Report, root: Path) -> None:
    (root / "reports/metrics/cr_stage1.json").unlink()
    with pytest.raises(CharregError, match=r"cr_stage1\.json: not found.*method cr_stage1"):
        report()


def test_nan_in_metrics_is_refused(root: Path) -> None:
    path = root / "reports/metrics/cr.json"
    path.write_text('{"web": {"fd_imagenet": NaN}}', encoding="utf-8")
    with pytest.raises(CharregError, match=r"cr\.json: found NaN"):
        read_json(path, "stage evaluate")


def test_absent_metric_is_a_dash_with_its_reason(report: Report, root: Path) -> None:
    def drop(content: Any) -> None:
        for name in ("kd_imagenet", "kd_imagenet_lo", "kd_imagenet_hi"):
            del content["web"][name]
        content["web"]["absent"]["kd_imagenet"] = "found 1 faces, wanted at least 2"

    edit(root / "reports/metrics/cr.json", drop)
    text = report()
    assert printed_rows(text, "Table 1.")["CR"][1] == "—<sup>1</sup>"
    assert "<sup>1</sup> found 1 faces, wanted at least 2" in section(text, "Table 1.")
    unmeasured = judged(text, "Table 1.")["Cannot tell, not measured or without an interval"]
    assert re.search(r"CR is nearer to real faces than [^;]*\(web by kd_imagenet\)", unmeasured)
    assert "CycleGAN, LRGAN and CR, which saw genuine faces" in unmeasured  # of a group, nothing without every member
    assert csv_rows(root, "table1_distance")["CR"]["web_kd_imagenet"] == ""
    assert "everybody is among the first 5" in section(text, "Table 2.")


# --- the paper's numbers ---------------------------------------------------------------------------------


def test_published_numbers_are_those_of_the_paper() -> None:
    rows = {row.method: row for row in ROWS}
    assert {
        method: (row.fid_web, row.fid_cctv, row.rank1, row.psnr, row.ssim)
        for method, row in rows.items()
        if not row.variant
    } == {
        **SYSTEMS,
        "bicubic": (None, None, RAW_LR_RANK1, None, None),
        "sr_module": (None,) * 5,
    }
    assert {method: (row.fid_web, row.fid_cctv) for method, row in rows.items() if row.variant} == VARIANTS
    assert all((row.rank1, row.psnr, row.ssim) == (None,) * 3 for row in ROWS if row.variant)
    assert LR_SPACE == LOW_RESOLUTION
    costs_of = {method: (cost.parameters, cost.training_hours, cost.milliseconds) for method, cost in COSTS.items()}
    assert costs_of == COMPLEXITY


def texts(*values: float | None, digits: int = 2) -> list[str]:
    return ["" if value is None else f"{value:.{digits}f}" for value in values]


def test_every_table_has_the_papers_column(report: Report, root: Path) -> None:
    """With the published numbers in the rows they belong to, blank where the paper has none."""
    report(methods=[*PARAMS["methods"], "wo_sr_ri_joint"])
    of = {method: row_of(method).label for method in MEASURED} | LABELS
    fids = {label: SYSTEMS[method][:2] for method, label in of.items() if method in SYSTEMS}
    fids |= {of[method]: pair for method, pair in VARIANTS.items()}
    wanted = {
        "table1_distance": fids,
        "table4_regularisation": {"Without (W/O CR)": VARIANTS["wo_cr"], "With (CR)": SYSTEMS["cr"][:2]},
        "table5_lr_space": {
            "Genuine LR": LOW_RESOLUTION["genuine"],
            "Regulated LR, stage 1": LOW_RESOLUTION["cr_stage1"],
        },
        "table6_stage2": {
            "Without stage 2 (W/O SR-RI)": VARIANTS["cr_stage1"],
            "Stage 2 on eq. 1 and 6 alone (W/O SR-RI, other reading)": VARIANTS["wo_sr_ri_joint"],
            "With stage 2 (CR)": SYSTEMS["cr"][:2],
        },
        "table7_unsupervised": {"Without (W/O UL)": VARIANTS["wo_ul"], "With (CR)": SYSTEMS["cr"][:2]},
    }
    for name, pairs in wanted.items():
        for label, row in csv_rows(root, name).items():
            found = [row["paper_fid_web"], row["paper_fid_cctv"]]
            assert found == texts(*pairs.get(label, (None, None))), f"{name}, {label}"
    rows2, rows3 = csv_rows(root, "table2_recognition"), csv_rows(root, "table3_fidelity")
    for method, label in of.items():
        rank1, psnr, ssim = SYSTEMS[method][2:] if method in SYSTEMS else (None, None, None)
        if method == "bicubic":
            rank1, of_table2 = RAW_LR_RANK1, "Bicubic (raw LR)"
        else:
            of_table2 = label
        assert [rows2[of_table2]["paper_rank1"]] == texts(rank1), label
        assert [rows3[label]["paper_psnr"]] == texts(psnr), label
        assert [rows3[label]["paper_ssim"]] == texts(ssim, digits=4), label
    systems = csv_rows(root, "complexity_systems")
    assert list(systems) == ["CycleGAN", "LRGAN", "CR"]
    for method, (parameters, hours, ms) in COMPLEXITY.items():
        row = systems[row_of(method).label]
        found = [float(row[key]) for key in ("paper_parameters", "paper_training_hours", "paper_ms")]
        assert found == [parameters, hours, ms]


def test_every_column_of_the_paper_says_not_comparable(report: Report) -> None:
    """But parameters, which are counted and not measured."""
    cells = [cell.strip() for line in report().splitlines() for cell in line.split("|")]
    cells = [cell for cell in cells if re.match("paper\\b.*reported", cell)]
    assert len(cells) == 2 + 1 + 2 + 4 * 2 + 3 + 1 + 1
    counted = [cell for cell in cells if "(reported, not comparable)" not in cell]
    assert counted == ["paper parameters (reported)", "paper (reported)"]


def test_inception_dialect_may_stand_beside_fid(report: Report, root: Path) -> None:
    for path in (root / "reports/metrics").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("fd_imagenet", "fid").replace("kd_imagenet", "kid"), encoding="utf-8")
    text = report(evaluate={**PARAMS["evaluate"], "features": "inception"})
    assert "not comparable" not in section(text, "Table 1.")
    assert "**230.9**" in section(text, "Table 1.")
    assert "the FID of the literature" in text


# --- the rows, marks and files of the tables -------------------------------------------------------------


def test_tables_1_to_3_have_a_row_for_every_declared_method(report: Report, root: Path) -> None:
    report()
    assert PARAMS["methods"] == list(PRINTED)
    for name in ("table1_distance", "table3_fidelity"):
        assert list(csv_rows(root, name)) == list(PRINTED.values())
    assert list(csv_rows(root, "table2_recognition")) == ["Bicubic (raw LR)", *list(PRINTED.values())[1:]]


def test_tables_4_to_7_have_the_rows_of_the_ablations(report: Report, root: Path) -> None:
    report()
    rows = {
        "table4_regularisation": ["Without (W/O CR)", "With (CR)"],
        "table5_lr_space": [*("Genuine LR", "Regulated LR, stage 1", "Regulated LR, stage 2", "Artificial LR (floor)")],
        "table6_stage2": ["Without stage 2 (W/O SR-RI)", "With stage 2 (CR)"],
        "table7_unsupervised": ["Without (W/O UL)", "With (CR)"],
    }
    for name, labels in rows.items():
        assert list(csv_rows(root, name)) == labels


def test_every_metric_has_its_interval_and_its_counts(report: Report) -> None:
    text = report()
    for number in range(1, 8):
        heads, *rows = printed_rows(text, f"Table {number}.").values()
        wanted = ["identities", "probes"] if number == 2 else ["N"] if number == 3 else ["N", "N real|N artificial"]
        for name in wanted:
            counts = [at for at, head in enumerate(heads) if re.fullmatch(name, head.split("<br>")[-1])]
            assert counts, f"Table {number}: {name}"
            assert all(int(row[at]) > 0 for row in rows for at in counts)
        for at, head in enumerate(heads):
            if head.endswith(("↑", "↓")):
                for row in rows:
                    assert re.search(r"\d(\*\*)?( ≈)?<br>\[.+, .+\]$|^—<sup>\d+</sup>$", row[at]), f"{head}: {row[at]}"


def little_table(*measures: Measure, better: Any = "lower") -> Table:
    rows = tuple((f"row {at}", (measure,)) for at, measure in enumerate(measures))
    return Table("little", "Little", (Column("x", "x", 1, better),), rows)


def test_best_is_bold_and_ties_are_marked() -> None:
    table = little_table(Measure(5, 4, 6), Measure(3, 2, 4.5), Measure(9, 8, 10))
    assert marks(table, 0) == ["tie", "best", ""]
    lines = to_markdown(table).splitlines()
    assert "| row 0 | 5.0 ≈<br>[4.0, 6.0] |" in lines
    assert "| row 1 | **3.0**<br>[2.0, 4.5] |" in lines
    higher = little_table(Measure(5), Measure(5.01), Measure(3), Measure(None, reason="why"), better="higher")
    assert marks(higher, 0) == ["best", "best", "", ""]  # printed alike: equally good


def test_best_and_ties_in_the_report(report: Report, root: Path) -> None:
    def widen(content: Any) -> None:
        content["web"]["fd_imagenet_lo"] = 230.0
        content["hr_test"]["psnr_rgb_hi"] = 30.0

    edit(root / "reports/metrics/lrgan.json", widen)
    text = report()
    distance, fidelity = printed_rows(text, "Table 1."), printed_rows(text, "Table 3.")
    assert distance["CR"][2].startswith("**230.9**<br>")
    assert distance["LRGAN"][2].startswith("298.0 ≈<br>[230.0,")
    assert fidelity["VDSR"][1].startswith("**26.31**<br>")
    assert "≈" in fidelity["LRGAN"][1]
    marked = [label for label, row in distance.items() if "**" in row[2] or "≈" in row[2]]
    assert marked == ["LRGAN", "CR"]
    for number in range(1, 8):
        assert "**" in section(text, f"Table {number}.").partition("**Against")[0]


def test_reference_rows_do_not_compete(report: Report) -> None:
    floor = printed_rows(report(), "Table 5.")["Artificial LR (floor)"]
    assert any("101.8" in cell for cell in floor)
    assert not any("**" in cell for cell in floor)
    assert printed_rows(report(), "Table 5.")["Regulated LR, stage 2"][1].startswith("**150.0**")


def test_every_table_has_files_of_its_own(report: Report, root: Path) -> None:
    text = report()
    folder = root / "reports/tables"
    assert len(re.findall("^### ", text, re.MULTILINE)) == len(list(folder.glob("*.md")))
    for path in folder.glob("*.md"):
        assert path.read_text(encoding="utf-8").strip() in text
        assert path.with_suffix(".csv").is_file()
    assert {path.stem for path in folder.iterdir()} >= {
        *("table1_distance", "table2_recognition", "table3_fidelity", "table4_regularisation", "table5_lr_space"),
        *("table6_stage2", "table7_unsupervised", "complexity_systems", "complexity_parameters"),
        *("complexity_inference", "complexity_training"),
    }


def csv_and_markdown_agree(folder: Path) -> None:
    for path in sorted(folder.glob("*.csv")):
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))[1:]
        lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        printed = [line for line in lines if line.startswith("| ")][1:]
        assert len(rows) == len(printed)
        for row, line in zip(rows, printed, strict=True):
            body = re.sub(r"<sup>\d+</sup>", "", line.split("|", 2)[2]).replace(",", "")
            numbers = re.findall(r"-?\d+(?:\.\d+)?", body)
            kept = re.findall(r"-?\d+(?:\.\d+)?", " ".join(row[1:]).replace(",", ""))
            assert numbers == kept, path.name


def test_csv_and_markdown_hold_the_same_values(report: Report, root: Path) -> None:
    report()
    csv_and_markdown_agree(root / "reports/tables")


def test_csv_columns() -> None:
    text = to_csv(little_table(Measure(5, 4, 6), Measure(None, reason="why")))
    assert text == "method,x,x_lo,x_hi\nrow 0,5.0,4.0,6.0\nrow 1,,,\n"
    text = to_csv(little_table(Measure(5, 4, 6, spread=0.5), Measure(7, spread=0.25)))
    assert text == "method,x,x_seeds,x_lo,x_hi\nrow 0,5.0,0.5,4.0,6.0\nrow 1,7.0,0.2,,\n"


def test_warnings_stand_under_their_table(report: Report, root: Path) -> None:
    def warn(content: Any) -> None:
        content["web"]["warnings"] = {"fd_imagenet": "n_fake 334, features 1280: too few"}

    for method in PARAMS["methods"]:
        edit(root / f"reports/metrics/{method}.json", warn)
    text = report()
    assert "Beware: `web_fd_imagenet`: n_fake 334, features 1280: too few." in section(text, "Table 1.")
    wanted = "Beware: `web_lr_fd_imagenet` and `cctv_lr_fd_imagenet`: n_fake 334, features 1280: biased upwards."
    assert wanted in section(text, "Table 5.")
    assert "Beware" not in section(text, "Table 2.")


def test_floor_of_table_5_is_explained_with_the_ratio(report: Report, root: Path) -> None:
    table = section(report(), "Table 5.")
    assert "(360 against 360)" in table
    assert "other people and small N, not the camera" in table
    assert "Genuine / floor: web 81.4, cctv 172.5 by lr_kd_imagenet; web 4.0, cctv 8.5 by lr_fd_imagenet." in table

    def sink(content: Any) -> None:
        content["artificial"]["lr_kd_imagenet"] = -0.02
        del content["artificial"]["lr_fd_imagenet"]

    edit(root / "reports/metrics/genuine.json", sink)
    wanted = "none by lr_kd_imagenet, whose floor is not above 0; none by lr_fd_imagenet, whose floor is not measured."
    assert wanted in section(report(), "Table 5.")


# --- verdicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("small", "large", "found"),
    [
        (Measure(1, 0, 2), Measure(5, 4, 6), "confirmed"),
        (Measure(5, 4, 6), Measure(1, 0, 2), "contradicted"),
        (Measure(1, 0, 4.5), Measure(5, 4, 6), "overlap"),
        (Measure(1), Measure(5, 4, 6), "unmeasured"),
        (Measure(None, reason="no faces"), Measure(5, 4, 6), "unmeasured"),
    ],
)
def test_verdicts(small: Measure, large: Measure, found: str) -> None:
    assert verdict(Claim("a", "web", "fd", small, large)) == found


def test_a_run_with_the_papers_numbers_confirms_every_finding(report: Report) -> None:
    """So the findings are those of its tables, not of its prose, which errs three times."""
    text = report()
    found = {heading: judged(text, heading) for heading in [f"Table {number}." for number in range(1, 8)]}
    found["Complexity"] = judged(text, "Complexity")
    unsure = found["Complexity"].pop("Cannot tell, the intervals overlap")  # 72 and 81 h, 6.6 and 7.5 ms, to a tenth
    assert unsure == (
        "LRGAN trains faster than CycleGAN; LRGAN infers faster than CR (this run's widths and the paper's widths)"
    )
    assert all(list(verdicts) == ["Confirmed"] for verdicts in found.values())
    fidelity, cost = found["Table 3."]["Confirmed"], found["Complexity"]["Confirmed"]
    others = "SRGAN (face-feature content loss), FSRNet, {}CycleGAN, CSRI (pseudo identities)"
    assert f"VDSR has a higher PSNR than {others.format('SICNN, ')}, LRGAN and CR;" in fidelity
    assert f"CR has a higher PSNR than {others.format('')} and LRGAN;" in fidelity
    assert "CR has a lower PSNR than SICNN;" in fidelity  # the prose: only VDSR is above CR
    assert "CR trains faster than LRGAN and CycleGAN" in cost
    assert not re.search("CR infers faster than [^;]*LRGAN", cost)  # the prose: CR is the most efficient
    assert "each of VDSR, SRGAN (face-feature content loss), FSRNet and SICNN," in found["Table 1."]["Confirmed"]


CLAIMS = [  # table, finding, what lies below what if it holds, by which numbers
    ("Table 1.", r"CR is nearer to real faces than [^;]*VDSR", "cr", "vdsr", "web", "fd_imagenet"),
    ("Table 1.", r"CR is nearer to real faces than [^;]*LRGAN", "cr", "lrgan", "cctv", "kd_imagenet"),
    (
        "Table 1.",
        r"CycleGAN, LRGAN and CR, which saw genuine faces, are all nearer to real faces than each of VDSR, SRGAN"
        r" \(face-feature content loss\), FSRNet and SICNN, which saw artificial ones only",
        *("lrgan", "fsrnet", "web", "kd_imagenet"),
    ),
    ("Table 1.", r"LRGAN is nearer to real faces than CycleGAN", "lrgan", "cyclegan", "cctv", "fd_imagenet"),
    ("Table 2.", r"CR is recognised better than [^;]*CSRI", "csri", "cr", "web", "rank1"),
    ("Table 2.", r"CR is recognised better than [^;]*raw LR", "bicubic", "cr", "web", "rank1"),
    ("Table 2.", r"raw LR is recognised worse than [^;]*VDSR", "bicubic", "vdsr", "web", "rank1"),
    ("Table 2.", r"raw LR is recognised better than LRGAN", "lrgan", "bicubic", "web", "rank1"),
    ("Table 3.", r"VDSR has a higher PSNR than [^;]*CR", "cr", "vdsr", "hr_test", "psnr_rgb"),
    ("Table 3.", r"CR has a lower PSNR than SICNN", "cr", "sicnn", "hr_test", "psnr_rgb"),
    ("Table 3.", r"CycleGAN and LRGAN have a lower PSNR than each of", "lrgan", "csri", "hr_test", "psnr_rgb"),
    ("Table 3.", r"CR has a higher SSIM than [^;]*SICNN", "sicnn", "cr", "hr_test", "ssim_rgb"),
    ("Table 3.", r"costs no fidelity: CR lies higher than SR alone", "sr_module", "cr", "hr_test", "ssim_rgb"),
    ("Table 4.", r"regularisation brings the faces nearer to real ones", "cr", "wo_cr", "web", "kd_imagenet"),
    (
        "Table 5.",
        r"regulated LR, stage 1 is nearer to artificial LR than genuine LR",
        *("cr_stage1", "genuine", "cctv", "lr_fd_imagenet"),
    ),
    ("Table 5.", r"regulated LR, stage 2 is nearer to", "cr", "genuine", "web", "lr_kd_imagenet"),
    ("Table 6.", r"stage 2 brings the faces nearer to real ones", "cr", "cr_stage1", "web", "fd_imagenet"),
    ("Table 7.", r"the unsupervised loss brings the faces nearer to", "cr", "wo_ul", "cctv", "kd_imagenet"),
]


TABLES: dict[str, Callable[[Any], Any]] = {
    "Table 1.": tables.distance_table,
    "Table 2.": tables.recognition_table,
    "Table 3.": tables.fidelity_table,
    "Table 5.": tables.lr_space_table,
    **{f"Table {number}.": lambda results, number=number: tables.ablation_table(results, number) for number in "467"},
}


@pytest.mark.parametrize(
    ("heading", "finding", "below", "above", "test_set", "name"),
    CLAIMS,
    ids=[f"{table} {below} below {above} by {name}" for table, _, below, above, _, name in CLAIMS],
)
def test_findings_turn_with_the_intervals(
    root: Path, heading: str, finding: str, below: str, above: str, test_set: str, name: str
) -> None:
    """Exchanged numbers contradict what was confirmed; an interval over everything leaves it open."""
    places = [root / f"reports/metrics/{method}.json" for method in (below, above)]
    keys = (name, f"{name}_lo", f"{name}_hi")
    numbers = [[json.loads(place.read_text())[test_set][key] for key in keys] for place in places]

    def put(at: int, values: list[float]) -> None:
        edit(places[at], lambda content: content[test_set].update(zip(keys, values, strict=True)))

    def found() -> list[str]:
        results = read_results(
            metrics=root / "reports/metrics",
            timings=root / "reports/timings",
            complexity=root / "reports/complexity.json",
            methods=PARAMS["methods"],
            jobs=[],
            features=PARAMS["evaluate"]["features"],
        )
        head = "Beyond the paper" if "sr_module" in (below, above) else "Against the paper"
        sentences = judged(to_markdown(TABLES[heading](results)), heading, head)
        place = {"psnr_rgb": "", "ssim_rgb": "", "rank1": "web.*rank-1"}.get(name, rf"{test_set}[^;]*{name}")
        return [words for words, said in sentences.items() if re.search(rf"{finding}[^;]*{place}", said)]

    assert found() == ["Confirmed"]
    put(0, numbers[1])
    put(1, numbers[0])
    assert "Contradicted" in found()
    put(0, numbers[0])
    put(1, [numbers[1][0], -1e6, 1e6])
    assert "Cannot tell, the intervals overlap" in found()
    assert "Contradicted" not in found()


@pytest.mark.parametrize(
    ("switches", "tables"),
    [
        ({"sr_on_pseudo": True, "keep_sr_adv": 0.0}, {"`sr_on_pseudo`": "46", "`keep_sr_adv`": ""}),
        ({"sr_on_pseudo": False, "keep_sr_adv": 7e-4}, {"`sr_on_pseudo`": "", "`keep_sr_adv`": "6"}),
        ({"keep_sr_adv": 7e-4, "sr_adv_on_regulated": True}, {"`keep_sr_adv`": "6", "`sr_adv_on_regulated`": "6"}),
        ({"keep_sr_adv": 0.0, "sr_adv_on_regulated": True}, {"`keep_sr_adv`": "", "`sr_adv_on_regulated`": ""}),
    ],
)
def test_ablations_name_what_cr_alone_gains_by(
    report: Report, switches: dict[str, Any], tables: dict[str, str]
) -> None:
    text = report(finetune_joint={**PARAMS["finetune_joint"], **switches})
    for switch, numbers in tables.items():
        assert {number for number in "467" if switch in section(text, f"Table {number}.")} == set(numbers)


def test_photographs_composed_of_other_portraits_are_not_called_orl(report: Report) -> None:
    composed = {"cctv": {"source": "folder", "path": "data/raw/mine", "split": "all", "crop": "ready", "photos": 4}}
    role = {**PARAMS["lr_roles"]["cctv"], "path": "data/composed/cctv"}
    lines = report(composed_photos=composed, lr_roles={**PARAMS["lr_roles"], "cctv": role}).splitlines()
    (line,) = (line for line in lines if "**LR cctv:**" in line)
    assert "photographs composed of portraits of folder `data/raw/mine`, SIMULATED camera" in line
    (line,) = (line for line in lines if "**LR web:**" in line)
    assert "(ORL)" in line


def test_costs_are_judged_too(report: Report, root: Path) -> None:
    """Counts exactly, times to a tenth of themselves."""

    def change(content: Any) -> None:
        systems = content["systems"]
        systems["cr"]["run"]["parameters"] = 2 * systems["lrgan"]["run"]["parameters"]
        systems["cr"]["run"]["ms_single"] = 1.05 * systems["lrgan"]["run"]["ms_single"]

    edit(root / "reports/complexity.json", change)
    (root / "reports/timings/cyclegan.json").unlink()
    found = judged(report(), "Complexity")
    assert re.search(r"CR has fewer parameters than LRGAN \(this run's widths\)", found["Contradicted"])
    assert re.search(r"CR has fewer parameters than [^;]*LRGAN \(the paper's widths\)", found["Confirmed"])
    assert "LRGAN infers faster than CR (this run's widths" in found["Cannot tell, the intervals overlap"]
    assert "CR trains faster than CycleGAN" in found["Cannot tell, not measured or without an interval"]
    assert "CR trains faster than LRGAN" in found["Confirmed"]


def test_a_group_speaks_for_every_member() -> None:
    group = [Measure(1, 0, 2), Measure(3, 2.5, 3.5)]
    assert extreme(group, largest=True) == Measure(3, 2.5, 3.5)
    assert extreme(group, largest=False) == Measure(1, 0, 2)
    assert extreme([*group, Measure(2)], largest=True).value is None


def test_paragraph_gathers_places() -> None:
    assert "Nothing to judge" in paragraph([])
    below, above = Measure(1, 0, 2), Measure(5, 4, 6)
    claims = [Claim("x is nearer", role, by, below, above) for role in ("web", "cctv") for by in ("kd", "fd")]
    assert paragraph(claims).endswith("*Confirmed:* x is nearer (web and cctv by kd and fd).")
    claims[3] = Claim("x is nearer", "cctv", "fd", above, below)
    wanted = "x is nearer (web by kd and fd; cctv by kd). *Contradicted:* x is nearer (cctv by fd)."
    assert paragraph(claims).endswith(wanted)
    assert paragraph([Claim("x is nearer", "", "PSNR", below, above)]).endswith("x is nearer (by PSNR).")
    several = [Claim("x is nearer", "web", "kd", below, above, than) for than in ("y", "z")]
    assert paragraph(several).endswith("x is nearer than y and z (web by kd).")


# --- several seeds, budgets, methods of one's own, settings ----------------------------------------------


def test_several_seeds_print_mean_and_spread(report: Report, root: Path) -> None:
    assert "±" not in report()
    assert "training seeds" not in report()
    assert section(report(), "Table 1.").count("One training seed: what another would change is in no interval.") == 1
    for method in PARAMS["methods"]:
        if method != "bicubic":  # which nobody trains
            found = json.loads((root / f"reports/metrics/{method}.json").read_text())
            sets = {name: found[name] for name in (*ROLES, "hr_test")}
            others = json.loads(json.dumps(sets))
            for numbers in others.values():
                for name in ("fd_imagenet", "lr_fd_imagenet", "rank1", "psnr_rgb"):
                    for end in ("", "_lo", "_hi"):
                        if name in numbers:
                            numbers[name + end] += 3
            write(root / f"reports/metrics/{method}.json", {**found, **over_seeds([sets, sets, others])})
    timing = json.loads((root / "reports/timings/cr.json").read_text())
    others = {str(seed): {**timing, "seconds": timing["seconds"] + 60 * seed} for seed in (1, 2)}
    write(root / "reports/timings/cr.json", {**timing, "other_seeds": others})
    text = report(seeds=[0, 1, 2])
    assert "of the trainings 0, 1, 2 (3 runs: tables print mean ± standard deviation)" in text
    distance = printed_rows(text, "Table 1.")
    assert distance["CR"][2] == "**231.9** ± 1.7<br>[230.0, 234.8]"
    assert "±" not in "".join(distance["Bicubic"])
    assert distance["CR"][3] == "334"
    assert printed_rows(text, "Table 2.")["CR"][1].startswith("**31.53** ± 1.73<br>")
    assert printed_rows(text, "Table 3.")["CR"][1].startswith("26.50 ± 1.73 ≈<br>")
    for number in range(1, 8):
        caption = "mean ± standard deviation over 3 training seeds, and an interval that spans those of all seeds"
        assert caption in section(text, f"Table {number}."), number
        assert any(" ± " in cell for row in printed_rows(text, f"Table {number}.").values() for cell in row), number
    assert "| `cr` | 240 | 3,840 | 21,660.0 ± 60.0 | 812 | 8 |" in section(text, "Training")
    assert "a time is the mean over the training seeds" in section(text, "Training")
    row = csv_rows(root, "table1_distance")["CR"]
    assert [row[f"web_fd_imagenet{end}"] for end in ("", "_seeds", "_lo", "_hi")] == ["231.9", "1.7", "230.0", "234.8"]
    csv_and_markdown_agree(root / "reports/tables")


def test_a_system_trained_once_beside_others_is_named(report: Report, root: Path) -> None:
    for method in ("cr", "wo_ul"):
        found = json.loads((root / f"reports/metrics/{method}.json").read_text())
        sets = {name: found[name] for name in (*ROLES, "hr_test")}
        write(root / f"reports/metrics/{method}.json", {**found, **over_seeds([sets, sets])})
    caption = section(report(seeds=[0, 1], peer_seeds=[0]), "Table 1.")
    once = re.search(r"that spans those of all seeds; ([^:]+): one training\.", caption)
    assert once
    assert "VDSR" in once[1]
    assert not {"CR", "Bicubic"} & set(re.split(r", | and ", once[1]))
    assert "(2 runs: tables print mean ± standard deviation; of the other systems 0)" in report(
        seeds=[0, 1], peer_seeds=[0]
    )


def peers_with(**changes: dict[str, Any]) -> dict[str, Any]:
    return {**PARAMS["peers"], **{name: {**PARAMS["peers"].get(name, {}), **new} for name, new in changes.items()}}


SCHEDULE = {key: value for key, value in PARAMS["pretrain_sr"].items() if not key.startswith(("adv", "d_", "betas"))}


def test_budgets_are_compared_with_the_rule(report: Report, root: Path) -> None:
    jobs = {"pretrain_sr": 600, "pretrain_cr": 3000, "finetune_joint": 240}
    changes: dict[str, Any] = {job: {**PARAMS[job], "iterations": count} for job, count in jobs.items()}
    batch = PARAMS["pretrain_sr"]["batch"]
    budgets = {
        name: {"iterations": 600 if row_of(name).learned == "artificial pairs" else 3840, "batch": batch}
        for name in PEERS
    }
    assert printed_rows(report(), "Training")["`cr`"][:2] == ["240", "3,840"]
    assert printed_rows(report(), "Training")["`matcher`"][1] == printed_rows(report(), "Training")["`centreface`"][1]
    text = section(report(**changes, peers=peers_with(**budgets)), "Training")
    assert "stage 1's super-resolver (600) for a system that learned from artificial pairs only" in text
    assert "all of CR (3,840: super-resolver, regulariser and joint training) for one that saw genuine faces" in text
    everybody = "VDSR, SRGAN (face-feature content loss), FSRNet, SICNN, CycleGAN, CSRI (pseudo identities) and LRGAN"
    stabilisers = " The stabilisers of CycleGAN and LRGAN are those of their own publications, without the jitter"
    assert f"Equal by it: {everybody}.{stabilisers}" in text
    budgets["lrgan"] |= {"batch": 4}
    text = section(report(**changes, peers=peers_with(**budgets)), "Training")
    assert f"An iteration sees {batch} faces as in stage 1's super-resolver, but of LRGAN 4." in text

    write(root / "reports/metrics/espcn.json", method_metrics("vdsr"))
    budgets |= {"vdsr": {"iterations": 700}, "lrgan": {"iterations": 600}, "espcn": {**SCHEDULE, "iterations": 500}}
    changes |= {"methods": ["vdsr", "srgan", "lrgan", "espcn"], "epoch_scale": 0.5}
    text = section(report(**changes, peers=peers_with(**budgets)), "Training")
    assert "All of them are then scaled by 0.5." in text
    assert "Equal by it: SRGAN (face-feature content loss)." in text
    assert "**Not equal:** VDSR (700, wanted 600) and LRGAN (600, wanted 3,840)." in text
    assert "Not judged, as the report does not know what they learned from: espcn (500)." in text
    assert "No system it applies to is declared" in section(report(methods=["bicubic"]), "Training")


def test_the_default_budgets_are_equal(report: Report) -> None:
    assert "**Not equal:**" not in section(report(), "Training")


def test_csri_without_its_native_branch_has_learned_from_pairs(report: Report, root: Path) -> None:
    edit(root / "reports/metrics/csri.json", lambda content: content.update(label="CSRI (synthetic branch)"))
    text = report()
    assert "- **CSRI (synthetic branch)** (`csri`): " in text
    assert "learned from artificial pairs" in text.split("- **CSRI (synthetic branch)**")[1].split("\n")[0]
    budget = PARAMS["pretrain_sr"]["iterations"]
    wrong = f"**Not equal:** CSRI (synthetic branch) ({PARAMS['peers']['csri']['iterations']:,}, wanted {budget:,})."
    assert wrong in section(text, "Training")


def test_a_method_of_ones_own_has_its_rows(report: Report, root: Path) -> None:
    """But the paper says nothing of it, so nothing is held against the paper."""
    write(root / "reports/metrics/espcn.json", method_metrics("vdsr"))
    methods = [*PARAMS["methods"], "espcn"]
    text = report(peers=peers_with(espcn=SCHEDULE), methods=methods)
    for number in (1, 2, 3):
        row = printed_rows(text, f"Table {number}.")["espcn"]
        assert all(row[1:5]), row
        assert row[-1] == ""
        assert not any("espcn" in said for said in judged(text, f"Table {number}.").values())
    assert "- **espcn** (`espcn`): a method of your own\n" in text
    assert "| `espcn` |" in section(text, "Training")
    edit(root / "reports/metrics/espcn.json", lambda content: content.update(label="ESPCN (ours)"))
    assert "ESPCN (ours)" in printed_rows(report(peers=peers_with(espcn=SCHEDULE), methods=methods), "Table 1.")
    assert in_order(["mine", "cr", "vdsr", "bicubic"]) == ["bicubic", "vdsr", "cr", "mine"]


def test_settings_name_stabilisers_and_departures() -> None:
    on = params_with(pretrain_cr={**PARAMS["pretrain_cr"], "r1_gamma": 1.0})
    assert any(phrase.startswith("R1 penalty 1 (pretrain_cr)") for phrase in stabilisers(on))
    paper = ROOT / "profiles/paper.yaml"
    table = departures(params_with(), paper)
    assert ("`super_resolver.width`", ("16", "64")) in table.rows
    assert not any("log_every" in " ".join([label, *map(str, cells)]) for label, cells in table.rows)
    peers = {label: cells for label, cells in table.rows if "peers." in label}
    assert list(peers) == [f"`peers.{name}`" for name in PEERS]
    profile = yaml.safe_load(paper.read_text(encoding="utf-8"))["peers"]
    one = departures(params_with(peers=peers_with(**{**profile, "vdsr": {**profile["vdsr"], "width": 8}})), paper)
    assert [row for row in one.rows if "peers." in row[0]] == [("`peers.vdsr`", ("width 8", "width 64"))]
    few = departures(params_with(methods=["bicubic", "lrgan", "cr"]), paper)
    assert [label for label, _ in few.rows if "peers" in label] == ["`peers.lrgan`"]


def test_a_setting_that_is_the_papers_leaves_no_empty_table(report: Report, root: Path) -> None:
    profile = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text(encoding="utf-8"))
    peers = peers_with(**profile.pop("peers"))
    changes = {name: {**PARAMS[name], **new} if isinstance(new, dict) else new for name, new in profile.items()}
    text = report(**changes, peers=peers)
    assert "departs" not in text
    assert not (root / "reports/tables/settings.csv").exists()


# --- data, times and the geometry ------------------------------------------------------------------------


def test_sizes_and_rejections_are_printed(report: Report, root: Path) -> None:
    text = report()
    sizes = section(text, "Size of the genuine faces")
    assert "| Role | 12-16 px | 20-24 px |" in sizes
    assert "| web | 7 | 2 |" in sizes
    rejections = section(text, "Rejected and converted")
    assert "| LR cctv | 4 | 9 | `score` 14, `truncated` 1 | `cmyk` 1 |" in rejections
    assert "| HR test | 3 | 9 | none | none |" in rejections
    assert "| web | 18 | 334 | 540 | 0.619 | 1.000 | 18.9 |" in section(text, "Detection of the small faces")


def test_genuine_photographs_are_called_so(report: Report) -> None:
    roles = {
        role: {"source": "folder", "path": f"raw/{role}", "exclude": "none.txt", "simulated": role == "train"}
        for role in ("train", "web", "cctv")
    }
    train, web = report(lr_roles=roles).splitlines()[5:7]
    assert "**LR train:** folder `raw/train`, SIMULATED camera; 9 faces" in train
    assert "**LR web:** folder `raw/web`, genuine photographs; 9 faces, 4 identities, from 3 photographs" in web


def test_complexity_is_printed_in_every_counting(report: Report) -> None:
    text = report()
    counted = printed_rows(text, "Parameters")
    assert len(counted) == 1 + len(costs.COUNTINGS)
    assert list(counted.values())[3] == ["671,465", "2,685,863", "2,700,000"]
    systems = printed_rows(text, "Complexity")
    assert systems["LRGAN"][:3] == ["1,002,098", "4,008,392", "4,000,000"]
    assert systems["CR"][3:5] == ["**46.000**", "46"]
    inference = printed_rows(text, "Inference")
    assert inference["CycleGAN, the paper's widths"] == ["150.00", "1,800.0", "112.50", "150.0"]
    assert inference["CR, genuine input, the paper's widths"][-1] == "7.5"


def test_missing_timings_are_a_dash(report: Report, root: Path) -> None:
    (root / "reports/timings/inverse_cr.json").unlink()
    text = report()
    assert "timings of inverse_cr: the training has not run here" in section(text, "Training")
    assert printed_rows(text, "Complexity")["CR"][3].startswith("—")


def test_times_name_their_machine(report: Report) -> None:
    text = report()
    wanted = "Machine: Made-up CPU at 2 GHz, 2 cores, 1 thread, python 3.12.1, torch 2.14.0."
    assert wanted in section(text, "Inference")
    assert section(text, "Training").count(wanted) == 1  # the same for every job


def test_geometry_figure_is_linked_where_it_lies(report: Report, root: Path) -> None:
    assert "geometry.png" not in report()
    (root / "reports/figures").mkdir()
    Image.new("RGB", (4, 4)).save(root / "reports/figures/geometry.png")
    links = re.findall(r"\]\((.+?)\)", report())
    assert links == ["figures/geometry.png"]
    assert (root / "reports" / links[0]).is_file()


# --- figures ---------------------------------------------------------------------------------------------


def test_same_faces_are_drawn_by_the_seed() -> None:
    assert chosen_faces(100, 8, 0, "web") == chosen_faces(100, 8, 0, "web")
    assert chosen_faces(100, 8, 0, "web") != chosen_faces(100, 8, 1, "web")
    assert chosen_faces(3, 8, 0, "web") == [0, 1, 2]


def test_figures_show_the_same_faces_through_their_methods(
    illustrated: Report, shown: dict[str, Any], root: Path
) -> None:
    illustrated(report={**PARAMS["report"], "faces": 5})

    def faces(folder: str, role: str) -> list[Pixels]:
        images = open_faces(root / "data" / folder).images
        return [np.asarray(images[at]) for at in chosen_faces(FACES, 5, 0, role)]

    def same(found: list[Pixels], wanted: list[Pixels]) -> bool:
        return len(found) == len(wanted) and all((one == other).all() for one, other in zip(found, wanted, strict=True))

    columns = ("vdsr", "srgan", "fsrnet", "sicnn", "cyclegan", "lrgan", "cr")
    [(_, genuine)] = shown["figure3_genuine.png"]
    assert [label for label, _ in genuine] == list(ROLES)
    for at, role in enumerate(ROLES):
        lr = faces(f"lr_faces/{role}", role)
        assert same(genuine[at][1], lr)

        [(_, strips)] = shown[f"figure4_{role}.png"]
        assert [label for label, _ in strips] == ["LR", *(PRINTED[method] for method in columns)]
        assert same(strips[0][1], lr)
        for method, (_, found) in zip(columns, strips[1:], strict=True):
            assert same(found, faces(f"sr/{method}/{role}", role))

        [(_, strips)] = shown[f"methods_{role}.png"]
        assert [label for label, _ in strips] == ["LR", *PRINTED.values()]
        for method, (_, found) in zip(PRINTED, strips[1:], strict=True):
            assert same(found, faces(f"sr/{method}/{role}", role))

        halves = shown["figure5_triplets.png"][2 * at : 2 * at + 2]  # left and right of the two triplets in a row
        triplets = [[strip[1] for strip in strips] for _, strips in halves]
        wanted = list(zip(lr, faces(f"sr/cr/{role}_regulated", role), faces(f"sr/cr/{role}", role), strict=True))
        for found, expected in ((triplets[0], wanted[::2]), (triplets[1], wanted[1::2])):
            assert len(found) == len(expected)
            assert all(same(one, list(other)) for one, other in zip(found, expected, strict=True))

        _, pairs = shown["figure6_unsupervised.png"][at]
        assert [label for label, _ in pairs] == ["LR", "without", "with"]
        for (_, found), folder in zip(pairs, ("lr_faces", "sr/wo_ul", "sr/cr"), strict=True):
            assert same(found, faces(f"{folder}/{role}", role))
    [(_, strips)] = shown["methods_hr_test.png"]
    assert [label for label, _ in strips] == ["LR", *PRINTED.values(), "HR"]
    assert same(strips[-1][1], faces("hr_faces/test", "hr_test"))


def test_figures_need_their_methods(illustrated: Report, shown: dict[str, Any]) -> None:
    illustrated(methods=["bicubic", "csri", "sr_module"])
    assert set(shown) == {
        *("figure3_genuine.png", "methods_web.png", "methods_cctv.png", "methods_hr_test.png"),
        *("training.png", "training_peers.png"),
    }
    assert all(len(faces) == 8 for blocks in list(shown.values())[:4] for _, strips in blocks for _, faces in strips)
    with pytest.raises(CharregError, match=r"report\.faces: found 9, wanted less than or equal to 8"):
        params_with(report={**PARAMS["report"], "faces": 9})


def test_low_resolution_faces_are_enlarged_by_whole_pixels(root: Path, tmp_path: Path) -> None:
    simulated = dict.fromkeys(ROLES, True)
    captions = draw_faces(tmp_path, inputs_of(root).faces, {"vdsr": "VDSR"}, 2, 0, simulated)
    assert "figure5_triplets.png" not in captions
    chosen = chosen_faces(FACES, 2, 0, "web")
    face = np.asarray(open_faces(root / "data/lr_faces/web").images[chosen[-1]])
    factor = 2
    side = 64 * factor
    enlarged = face.repeat(4 * factor, axis=0).repeat(4 * factor, axis=1)
    with Image.open(tmp_path / "figure3_genuine.png") as image:
        assert (np.asarray(image)[:side, -side:] == enlarged).all()
    with Image.open(tmp_path / "figure4_web.png") as image:
        assert (np.asarray(image)[-side:, :side] == enlarged).all()


def test_large_pictures_lose_their_enlargement_then_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(factor: int, faces: int) -> Image.Image:
        random = np.random.default_rng(0)
        return Image.fromarray(random.integers(0, 256, (50 * factor, 50 * faces, 3), dtype=np.uint8))

    for largest, size in ((150_000, (200, 100)), (50_000, (200, 50)), (20_000, (100, 50)), (100, (50, 50))):
        monkeypatch.setattr(figures, "LARGEST", largest)
        figures._save(tmp_path / "noise.png", noise, 4)
        with Image.open(tmp_path / "noise.png") as image:
            assert image.size == size
        assert (tmp_path / "noise.png").stat().st_size <= largest or image.size == (50, 50)


def test_curves_come_out_the_same_and_need_a_job_that_has_some(root: Path, tmp_path: Path) -> None:
    training = inputs_of(root).training
    for name in ("one.png", "two.png"):
        assert draw_curves(tmp_path, training, ["vdsr", "espcn"], name, "Losses") == {name: "Losses"}
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert draw_curves(tmp_path, training, ["espcn"], "none.png", "Losses") == {}


def test_damaged_face_set_is_named(illustrated: Report, shown: dict[str, Any], root: Path, finished_run: Path) -> None:
    (root / "data").unlink()
    shutil.copytree(finished_run / "data", root / "data")
    path = root / "data/sr/cr/web/images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CharregError, match=r"sr/cr/web/images\.npy: sha256"):
        illustrated()


def test_series_of_a_broken_table(tmp_path: Path) -> None:
    path = tmp_path / "curves.tsv"
    path.write_text("step\tl_sr\n20\t0.5\n40\t\n60\tmany\n", encoding="utf-8")
    with pytest.raises(CharregError, match="found 'many' under l_sr"):
        read_series(path)
    path.write_text("step\tl_sr\n20\t0.5\n40\t\n", encoding="utf-8")
    assert read_series(path) == {"l_sr": ([20.0], [0.5])}
    assert read_series(tmp_path / "none.tsv") == {}


def test_plots_of_dvc_yaml_name_existing_columns() -> None:
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for path, columns in (entry for plot in plots for content in plot.values() for entry in content["y"].items()):
        job, file = Path(path).parts[-2:]
        assert set(columns) <= set(CURVES[job][file == "health.tsv"]), path


def test_every_method_has_a_row() -> None:
    known = {row.method for row in ROWS}
    assert known == {*METHODS, *PEERS}
    assert row_of("espcn").label == "espcn"
    assert set(PEERS) == set(PARAMS["peers"])


def test_report_does_without_torch() -> None:
    code = "import sys, runpy; runpy.run_path('stages/report.py'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_empty_sets_leave_empty_figures(tmp_path: Path) -> None:
    """A genuine set without faces is valid; its figures show none."""
    methods = {"bicubic": "Bicubic", "vdsr": "VDSR", "wo_ul": "W/O UL", "cr": "CR"}
    sets = [(f"sr/{method}/{name}", 64, None) for method in methods for name in (*ROLES, "hr_test")]
    sets += [(f"sr/cr/{role}_regulated", 16, None) for role in ROLES]
    for folder, size, lr_size in (("lr/web", 16, None), ("lr/cctv", 16, None), ("hr/test", 64, 16), *sets):
        (tmp_path / folder).mkdir(parents=True)
        with FaceWriter(tmp_path / folder, size, lr_size):
            pass
    folders = Folders(sr=tmp_path / "sr", hr=tmp_path / "hr", lr=tmp_path / "lr", train=tmp_path / "train")
    captions = draw_faces(tmp_path / "out", folders, methods, 8, 0, dict.fromkeys(ROLES, False))
    assert {"figure4_web.png", "figure5_triplets.png", "figure6_unsupervised.png"} <= set(captions)
    assert all((tmp_path / "out" / name).is_file() for name in captions)
