"""The report: what it prints, what it leaves out, and what it concludes."""

import csv
import io
import json
import re
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

from charreg.errors import CharregError
from charreg.faces import FaceWriter, Pixels, open_faces
from charreg.files import sha256_of_file
from charreg.params import METHODS, check_params
from charreg.report import figures
from charreg.report.figures import Folders, chosen_faces, draw_faces, read_series
from charreg.report.findings import Claim, paragraph, verdict
from charreg.report.markdown import Inputs, write_report
from charreg.report.published import row_of
from charreg.report.results import Measure, read_json
from charreg.report.settings import departures, stabilisers
from charreg.report.tables import Column, Table, marks, to_csv, to_markdown

ROOT = Path(__file__).parents[1]
FACES = 9
CURVES = {  # of every job: the columns of curves.tsv and of health.tsv
    "centreface": (["l_recognition", "accuracy"], ["accuracy_unmirrored", "feature_length", "centre_distance"]),
    "sr_module": (["l_sr", "l_d_sr", "l_adv"], ["psnr_train", "psnr_bicubic"]),
    "inverse_cr": (["l_d_inv", "l_inv", "content"], ["psnr_P_A", "d_inv_real", "d_inv_fake", "d_inv_accuracy"]),
    "characteristic": (
        ["l_d", "l_cr", "reconstruction", "identity"],
        ["psnr_R_G", "psnr_P_A", "psnr_regulated_P_A", "d_real", "d_fake", "d_accuracy"],
    ),
    "cr": (
        ["joint", "l_sr", "l_cr", "l_cr_sr", "l_cr_gan", "l_d", "l_df"],
        ["psnr_train", "psnr_R_G", "mse_DS_S_R", "d_real", "d_fake", "d_accuracy", "df_accuracy"],
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


def method_metrics(at: int, fd: float) -> dict[str, Any]:
    """Metrics as stage evaluate writes them; `at` tells the methods apart."""
    found: dict[str, Any] = {
        role: {
            "n_real": 720,
            "n_fake": 334,
            **spread("fd_imagenet", fd + extra, 25),
            **spread("kd_imagenet", fd / 100, 0.4),
            "kd_imagenet_std": 0.2,
            "n_identities": 5,
            "n_probes": 329,
            **spread("rank1", 40.0 + at, 3.1),
            "rank1_std": 2.2,
            "absent": {f"rank{k}": f"5 identities in the gallery: everybody is among the first {k}" for k in (5, 20)},
        }
        for role, extra in (("web", 0), ("cctv", 80))
    }
    found["hr_test"] = {
        "n_images": 60,
        **spread("psnr_rgb", 22.5 + at, 0.4),
        **spread("ssim_rgb", 0.70 + 0.02 * at, 0.01),
        **spread("psnr_y", 23.9 + at, 0.4),
    }
    return found


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def build_run(root: Path) -> None:
    """A whole made-up run under `root`: everything the stages before the report write."""
    seeds = iter(range(100))
    for role in ("train", "test"):
        write_faces(root / "data/hr_faces" / role, 64, next(seeds), 16)
    for role in ("train", "web", "cctv"):
        write_faces(root / "data/lr_faces" / role, 16, next(seeds), **GENUINE)
    for method in METHODS:
        for test_set in ("web", "cctv", "hr_test"):
            write_faces(root / "data/sr" / method / test_set, 64, next(seeds))
        if method in ("cr_stage1", "cr"):
            for role in ("web", "cctv"):
                write_faces(root / "data/sr" / method / f"{role}_regulated", 16, next(seeds))
    for at, (method, fd) in enumerate(zip(METHODS, (1120.0, 790.0, 600.0, 552.0), strict=True)):
        found = method_metrics(at, fd)
        if method in ("cr_stage1", "cr"):
            for role in ("web", "cctv"):
                found[role] |= spread("lr_fd_imagenet", 335 + at, 30) | spread("lr_kd_imagenet", 4.1, 0.5)
        write(root / "reports/metrics" / f"{method}.json", found)
    genuine = {
        role: {
            "n_real": 720,
            "n_fake": 334,
            **spread("lr_fd_imagenet", 455, 30),
            **spread("lr_kd_imagenet", 8.1, 0.5),
            "warnings": {"lr_fd_imagenet": "n_fake 334, features 1280: biased upwards"},
        }
        for role in ("web", "cctv")
    }
    floor = {"n_real": 360, "n_fake": 360, **spread("lr_fd_imagenet", 150, 9), **spread("lr_kd_imagenet", 0.02, 0.1)}
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
    write(root / "reports/metrics/centreface.json", gate)
    parameters = dict.fromkeys(
        ("deployed_genuine", "deployed_artificial", "stage_2_system", "plus_inverse_discriminator"), 461_278
    ) | {"plus_image_discriminator": 968_361}
    times = {"genuine_single": 6.8, "artificial_single": 6.2, "genuine_batch": 88.7, "artificial_batch": 81.3}
    both = {"parameters": parameters, "milliseconds": times}
    made_with = {
        "machine": {"cpu": "Made-up CPU at 2 GHz", "cores": 2, "threads": 1},
        "versions": {"python": "3.12.1", "torch": "2.14.0"},
    }
    complexity = {"device": "cpu", "batch": 16, "repeats": 10, **made_with}
    write(
        root / "reports/complexity.json", {**complexity, "run": {"width": 32, **both}, "paper": {"width": 64, **both}}
    )
    for job, columns in CURVES.items():
        timing = {"job": job, "seconds": 123.4, "iterations": 1200, "peak_memory_mib": 812}
        write(root / f"reports/timings/{job}.json", {**timing, **made_with})
        for file, names in zip(("curves.tsv", "health.tsv"), columns, strict=True):
            lines = ["\t".join(["step", *names])]
            for step in range(20, 1220, 20):
                values = [0.1 + np.exp(-step / (300 + 90 * at)) for at, _ in enumerate(names)]
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
        faces=Folders(sr=root / "data/sr", hr=root / "data/hr_faces", lr=root / "data/lr_faces"),
    )


def params_with(**changes: Any) -> Any:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return check_params({**content, "methods": list(METHODS), "joint_variants": ["cr"], **changes}, Path("params.yaml"))


Report = Callable[..., str]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    build_run(folder)
    return folder


@pytest.fixture
def root(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


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
    monkeypatch.setattr("charreg.report.markdown.draw_faces", lambda *_: {})
    monkeypatch.setattr("charreg.report.markdown.draw_curves", lambda *_: {})
    return illustrated


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write(path, content)


def section(text: str, heading: str) -> str:
    """From a heading to the next one of any level."""
    return re.split(r"\n#+ ", text.split(f"### {heading}", 1)[1], maxsplit=1)[0]


def digests(folder: Path) -> dict[Path, str]:
    return {path: sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


def test_whole_report_twice(illustrated: Report, root: Path) -> None:
    text = illustrated()
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
    for heading in ("Table 1.", "Table 2.", "Table 3.", "Table 5.", "Table 6.", "Parameters", "Inference", "Training"):
        assert f"### {heading}" in text
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text)
    for name in re.findall(r"\]\(pictures/(.+?)\)", text):
        picture = root / "reports/pictures" / name
        with Image.open(picture) as image:
            assert image.format == "PNG"
        assert picture.stat().st_size < 300_000
    assert len(re.findall(r"\]\(pictures/", text)) == len(list((root / "reports/pictures").iterdir())) == 6
    assert "W/O SR-RI" in text
    assert "| 111.01 | 113.70 |" in section(text, "Table 6.")
    assert "2,700,000" in section(text, "Parameters")
    before = digests(root / "reports")
    illustrated()
    assert digests(root / "reports") == before


def test_only_declared_methods_appear(report: Report, root: Path) -> None:
    write(root / "reports/metrics/vdsr.json", method_metrics(9, 1.0))
    text = report(methods=["bicubic", "sr_module"])
    assert "vdsr" not in text.lower()
    table = section(text, "Table 1.")
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:] == [
        "Bicubic",
        "SR alone",
    ]
    assert "### Table 6." not in text
    assert "Nothing to judge" in table


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
    table = section(text, "Table 1.")
    row = next(line for line in table.splitlines() if line.startswith("| CR |"))
    assert row.split("|")[2].strip() == "—<sup>1</sup>"
    assert "<sup>1</sup> found 1 faces, wanted at least 2" in table
    assert "not measured or without an interval" in table
    rows = list(csv.DictReader(io.StringIO((root / "reports/tables/table1_distance.csv").read_text())))
    assert next(row for row in rows if row["method"] == "CR")["web_kd_imagenet"] == ""
    assert "everybody is among the first 5" in section(text, "Table 2.")


def test_missing_timings_are_a_dash(report: Report, root: Path) -> None:
    (root / "reports/timings/inverse_cr.json").unlink()
    assert "timings of inverse_cr: the training has not run here" in section(report(), "Training")


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
    assert marks(higher, 0) == ["best", "best", "", "", ""][:4]  # printed alike: equally good


def test_reference_rows_do_not_compete(report: Report) -> None:
    table = section(report(), "Table 5.")
    floor = next(line for line in table.splitlines() if line.startswith("| Artificial"))
    assert "150.0" in floor
    assert "**" not in floor
    assert "**335" in table or "**337" in table


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


def test_sentences_flip_with_the_intervals(report: Report, root: Path) -> None:
    claim = "CR is nearer to real faces than SR alone"
    before = section(report(), "Table 1.")
    assert re.search(rf"\*Confirmed:\*[^*]*{claim}", before)
    assert "Contradicted" not in before

    def worsen(content: Any) -> None:
        for role in ("web", "cctv"):
            content[role] |= spread("fd_imagenet", 3000, 25) | spread("kd_imagenet", 30, 0.4)

    edit(root / "reports/metrics/cr.json", worsen)
    after = section(report(), "Table 1.")
    assert re.search(rf"\*Contradicted:\*[^*]*{claim}", after)
    assert "Confirmed" not in after

    def blur(content: Any) -> None:
        for role in ("web", "cctv"):
            content[role] |= spread("fd_imagenet", 3000, 2990) | spread("kd_imagenet", 30, 30)

    edit(root / "reports/metrics/cr.json", blur)
    assert "Confirmed" not in section(report(), "Table 1.")
    assert re.search(rf"\*Cannot tell, the intervals overlap:\*[^*]*{claim}", section(report(), "Table 1."))


def test_recognition_claims_point_upwards(report: Report, root: Path) -> None:
    def better(content: Any) -> None:
        content["web"] |= spread("rank1", 90.0, 2)

    edit(root / "reports/metrics/cr.json", better)
    table = section(report(), "Table 2.")
    assert re.search(r"\*Confirmed:\*[^*]*CR is recognised better than raw LR \(web by rank-1\)", table)
    assert "| Bicubic (raw LR) |" in table
    assert "24.83" in table


def test_sizes_and_rejections_are_printed(report: Report, root: Path) -> None:
    text = report()
    sizes = section(text, "Size of the genuine faces")
    assert "| Role | 12-16 px | 20-24 px |" in sizes
    assert "| web | 7 | 2 |" in sizes
    rejections = section(text, "Rejected and converted")
    assert "| LR cctv | 4 | 9 | `score` 14, `truncated` 1 | `cmyk` 1 |" in rejections
    assert "| HR test | 3 | 9 | none | none |" in rejections
    assert "| web | 18 | 334 | 540 | 0.619 | 1.000 | 18.9 |" in section(text, "Detection of the small faces")


def test_warnings_stand_under_their_table(report: Report, root: Path) -> None:
    def warn(content: Any) -> None:
        content["web"]["warnings"] = {"fd_imagenet": "n_fake 334, features 1280: too few"}

    for method in METHODS:
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
    assert "Genuine / floor: web 405.0, cctv 405.0 by lr_kd_imagenet; web 3.0, cctv 3.0 by lr_fd_imagenet." in table

    def sink(content: Any) -> None:
        content["artificial"]["lr_kd_imagenet"] = -0.02
        del content["artificial"]["lr_fd_imagenet"]

    edit(root / "reports/metrics/genuine.json", sink)
    wanted = "none by lr_kd_imagenet, whose floor is not above 0; none by lr_fd_imagenet, whose floor is not measured."
    assert wanted in section(report(), "Table 5.")


def test_every_column_of_the_paper_says_not_comparable(report: Report) -> None:
    """On the embedded feature network; PSNR and SSIM are of other faces on any."""
    heads = [line for line in report().splitlines() if line.startswith("| ") and "paper " in line]
    cells = [
        cell for line in heads for cell in line.split("|") if cell.strip().startswith(("paper FID", "paper rank-1"))
    ]
    cells += [
        cell for line in heads for cell in line.split("|") if cell.strip().startswith(("paper PSNR", "paper SSIM"))
    ]
    assert len(cells) == 9
    assert all("(reported, not comparable)" in cell for cell in cells)


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


def test_large_pictures_are_written_without_enlargement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(factor: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50 * factor, 50, 3), dtype=np.uint8))

    for largest, height in ((50_000, 100), (10_000, 50)):
        monkeypatch.setattr(figures, "LARGEST", largest)
        figures._save(tmp_path / "noise.png", noise)
        with Image.open(tmp_path / "noise.png") as image:
            assert image.height == height


def test_paragraph_gathers_places() -> None:
    assert "Nothing to judge" in paragraph([])
    below, above = Measure(1, 0, 2), Measure(5, 4, 6)
    claims = [Claim("x is nearer", role, by, below, above) for role in ("web", "cctv") for by in ("kd", "fd")]
    assert paragraph(claims).endswith("*Confirmed:* x is nearer (web and cctv by kd and fd).")
    claims[3] = Claim("x is nearer", "cctv", "fd", above, below)
    wanted = "x is nearer (web by kd and fd; cctv by kd). *Contradicted:* x is nearer (cctv by fd)."
    assert paragraph(claims).endswith(wanted)


def test_csv_and_markdown_hold_the_same_values(report: Report, root: Path) -> None:
    report()
    for path in sorted((root / "reports/tables").glob("*.csv")):
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))[1:]
        lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        printed = [line for line in lines if line.startswith("| ")][1:]
        assert len(rows) == len(printed)
        for row, line in zip(rows, printed, strict=True):
            body = re.sub(r"<sup>\d+</sup>", "", line.split("|", 2)[2]).replace(",", "")
            numbers = re.findall(r"-?\d+(?:\.\d+)?", body)
            kept = re.findall(r"-?\d+(?:\.\d+)?", " ".join(row[1:]).replace(",", ""))
            assert numbers == kept, path.name


def test_csv_columns() -> None:
    text = to_csv(little_table(Measure(5, 4, 6), Measure(None, reason="why")))
    assert text == "method,x,x_lo,x_hi\nrow 0,5.0,4.0,6.0\nrow 1,,,\n"


def test_inception_dialect_may_stand_beside_fid(report: Report, root: Path) -> None:
    for path in (root / "reports/metrics").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("fd_imagenet", "fid").replace("kd_imagenet", "kid"), encoding="utf-8")
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    text = report(evaluate={**content["evaluate"], "features": "inception"})
    assert "not comparable" not in section(text, "Table 1.")
    assert "**552.0**" in section(text, "Table 1.")
    assert "the FID of the literature" in text


def test_genuine_photographs_are_called_so(report: Report) -> None:
    roles = {
        role: {"source": "folder", "path": f"raw/{role}", "exclude": "none.txt", "simulated": role == "train"}
        for role in ("train", "web", "cctv")
    }
    train, web = report(lr_roles=roles).splitlines()[5:7]
    assert "**LR train:** folder `raw/train`, SIMULATED camera; 9 faces" in train
    assert "**LR web:** folder `raw/web`, genuine photographs; 9 faces, 4 identities, from 3 photographs" in web


def test_same_faces_in_every_figure() -> None:
    assert chosen_faces(100, 8, 0, "web") == chosen_faces(100, 8, 0, "web")
    assert chosen_faces(100, 8, 0, "web") != chosen_faces(100, 8, 1, "web")
    assert chosen_faces(3, 8, 0, "web") == [0, 1, 2]


def test_low_resolution_faces_are_enlarged_by_whole_pixels(root: Path, tmp_path: Path) -> None:
    simulated = dict.fromkeys(("web", "cctv"), True)
    captions = draw_faces(tmp_path, inputs_of(root).faces, ["bicubic"], 2, 0, simulated)
    assert "figure5_triplets.png" not in captions
    with Image.open(tmp_path / "figure3_genuine.png") as image:
        picture = np.asarray(image)
    chosen = chosen_faces(FACES, 2, 0, "web")
    face = np.asarray(open_faces(root / "data/lr_faces/web").images[chosen[-1]])
    factor = 2
    tile = picture[: 64 * factor, -64 * factor :]
    assert (tile == face.repeat(4 * factor, axis=0).repeat(4 * factor, axis=1)).all()


def test_damaged_face_set_is_named(illustrated: Report, root: Path) -> None:
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


def test_settings_name_stabilisers_and_departures() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    on = params_with(pretrain_cr={**content["pretrain_cr"], "r1_gamma": 1.0})
    assert any(phrase.startswith("R1 penalty 1 (pretrain_cr)") for phrase in stabilisers(on))
    table = departures(params_with(), ROOT / "profiles/paper.yaml")
    assert ("`super_resolver.width`", ("32", "64")) in table.rows
    assert not any("log_every" in label for label, _ in table.rows)


def test_plots_of_dvc_yaml_name_existing_columns() -> None:
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for path, columns in (entry for plot in plots for content in plot.values() for entry in content["y"].items()):
        job, file = Path(path).parts[-2:]
        assert set(columns) <= set(CURVES[job][file == "health.tsv"]), path


def test_every_method_has_a_row() -> None:
    for method in METHODS:
        assert row_of(method).label
    with pytest.raises(CharregError, match="edsr: no row in the report"):
        row_of("edsr")


def test_report_does_without_torch() -> None:
    code = "import sys, runpy; runpy.run_path('stages/report.py'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_empty_sets_leave_empty_figures(tmp_path: Path) -> None:
    """A genuine set without faces is valid; its figures show none."""
    for folder, size, lr_size in (
        ("lr/web", 16, None),
        ("lr/cctv", 16, None),
        ("sr/bicubic/web", 64, None),
        ("sr/bicubic/cctv", 64, None),
        ("sr/bicubic/hr_test", 64, None),
        ("hr/test", 64, 16),
    ):
        (tmp_path / folder).mkdir(parents=True)
        with FaceWriter(tmp_path / folder, size, lr_size):
            pass
    folders = Folders(sr=tmp_path / "sr", hr=tmp_path / "hr", lr=tmp_path / "lr")
    captions = draw_faces(tmp_path / "out", folders, ["bicubic"], 8, 0, {"web": False, "cctv": False})
    assert all((tmp_path / "out" / name).is_file() for name in captions)
