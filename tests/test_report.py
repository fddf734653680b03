"""The report: what it prints, what it leaves out, and what it concludes."""

import copy
import csv
import io
import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import FaceWriter, open_faces
from charreg.core.params import METHODS, FinetuneJointOptions, check_params
from charreg.metrics.evaluate import over_seeds
from charreg.report import costs, figures, markdown, tables
from charreg.report.figures import Folders, chosen_faces, draw_faces
from charreg.report.markdown import ReportInputs, write_report
from charreg.report.markup import Column, Table, marks, to_csv, to_markdown
from charreg.report.plots import draw_curves, read_series
from charreg.report.published import PEERS, ROWS, in_order, row_of
from charreg.report.results import Measure, Results, read_json, read_results
from charreg.report.settings import departures
from charreg.report.verdicts import Claim, extreme, paragraph, tally, verdict
from conftest import ROOT, smooth_images

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
FACES = 9
FIDS = ("paper_fid_web", "paper_fid_cctv")
JOBS = ("centreface", "matcher", "sr_module", "inverse_cr", "characteristic", *PEERS, "wo_cr", "wo_ul", "cr")
CURVES = {
    "curves.tsv": ["l_sr", "l_d", "l_cr"],
    "health.tsv": ["psnr_train", "d_real", "d_accuracy", "centre_distance", "l_cr"],
}
DRAWN = ("characteristic", "cr", "vdsr")  # the jobs with curves
STEPS = range(20, 420, 20)


GENUINE = {"photos": 4, "side_histogram": {"12-16": 7, "20-24": 2}, "converted": {"cmyk": 1}}  # as lr_faces notes it


def write_faces(folder: Path, size: int, seed: int, lr_size: int | None = None, **notes: Any) -> None:
    folder.mkdir(parents=True)
    lr = smooth_images(FACES, seed, size=lr_size) if lr_size else [None] * FACES
    with FaceWriter(folder, size, lr_size) as writer:
        for at, (face, small) in enumerate(zip(smooth_images(FACES, seed, size=size), lr, strict=True)):
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
    """Scores as stage evaluate writes them."""
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
    systems = {}
    for method, count in {"cr": 2_685_863, "lrgan": 4_008_392, "cyclegan": 21_204_872}.items():
        ms = COMPLEXITY[method][-1]
        paper, run = {"parameters": count, "ms_single": ms}, {"parameters": count // 4, "ms_single": ms / 4}
        systems[method] = {"run": run, "paper": paper}
    return {"device": "cpu", "repeats": 10, **MADE_WITH, "systems": systems}


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
        write(root / "reports/scores" / f"{method}.json", method_metrics(method))
        for test_set in (*ROLES, "hr_test"):
            write_faces(root / "data/sr" / method / test_set, 64, next(seeds))
        if method in REGULATED:
            for role in ROLES:
                write_faces(root / "data/sr" / method / f"{role}_regulated", 16, next(seeds))
    biased = {"warnings": {"lr_fd_imagenet": "n_fake 334, features 1280: biased upwards"}}
    genuine = {
        role: {"n_real": 720, "n_fake": 334 + at, **distances(LOW_RESOLUTION["genuine"][at], "lr_"), **biased}
        for at, role in enumerate(ROLES)
    }
    floor = {"n_real": 360, "n_fake": 360, **spread("lr_fd_imagenet", 101.8, 9), **spread("lr_kd_imagenet", 0.5, 0.1)}
    write(root / "reports/scores/genuine.json", {**genuine, "artificial": floor})
    for role in ("train", "web", "cctv"):
        numbers = {"n_photos": 18, "n_faces": 334, "mean_side": 18.883, "recall": 0.6185, "precision": 1.0}
        counts = {"n_identities": 4, "n_true": 540, "rejected": {"score": 14, "truncated": 1}, "converted": {"cmyk": 1}}
        write(root / f"reports/scores/detection_{role}.json", {**numbers, **counts})
    points = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "eye_distance")
    eyes = {f"{kind}_{point}": 5.4 for kind in ("artificial", "genuine") for point in points}
    write(root / "reports/scores/geometry.json", {**eyes, "n_artificial": 720, "n_genuine": 836, "worst_shift": 0.31})
    gate = {**spread("rank1", 91.2, 2.0), "rank1_std": 1.1, "auc": 0.9812, "n_identities": 6, "n_probes": 54}
    write(root / "reports/scores/matcher.json", gate)
    write(root / "reports/complexity.json", complexity())
    noise = np.random.default_rng(0)
    for job in JOBS:
        timing = {"job": job, "seconds": 3600 * HOURS.get(job, 1), "iterations": ITERATIONS.get(job, 600)}
        folder = root / "reports/training" / job
        write(folder / "timings.json", {**timing, "seed": 0, "peak_memory_mib": 812, "batch": 8, **MADE_WITH})
        for file, names in CURVES.items() if job in DRAWN else ():
            rows = [[str(step), *(f"{np.exp(noise.normal(-step / 600, 0.3)):.6g}" for _ in names)] for step in STEPS]
            (folder / file).write_text("".join("\t".join(row) + "\n" for row in [["step", *names], *rows]))


def inputs_of(root: Path) -> ReportInputs:
    data, reports = root / "data", root / "reports"
    faces = Folders(sr=data / "sr", hr=data / "hr_faces", lr=data / "lr_faces", train=data / "train_faces")
    numbers = {
        "scores": reports / "scores",
        "complexity": reports / "complexity.json",
        "training": reports / "training",
    }
    return ReportInputs(**numbers, paper=ROOT / "profiles/paper.yaml", faces=faces)


PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PRINTED = {method: LABELS.get(method, row_of(method).label) for method in PARAMS["methods"]}  # rows of Tables 1 to 3


def params_with(**changes: Any) -> Any:
    return check_params({**PARAMS, **changes}, Path("params.yaml"))


def peers_with(**changes: dict[str, Any]) -> dict[str, Any]:
    return {**PARAMS["peers"], **{name: {**PARAMS["peers"].get(name, {}), **new} for name, new in changes.items()}}


Report = Callable[..., str]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with the report that the stage writes of it, pictures and all; not to be changed."""
    root = tmp_path_factory.mktemp("run")
    build_run(root)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")
    inputs = inputs_of(root)
    folders = {**vars(inputs), **vars(inputs.faces), "out": root / "reports", "params": root / "params.yaml"}
    del folders["faces"]
    words = [word for name, path in folders.items() for word in (f"--{name}", str(path))]
    runpy.run_path(str(ROOT / "stages/report.py"))["main"](words)
    return root


@pytest.fixture(scope="module")
def text(finished_run: Path) -> str:
    """The report of the made-up run."""
    return (finished_run / "reports/report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(finished_run: Path) -> Results:
    """The numbers of the made-up run."""
    inputs = inputs_of(finished_run)
    words = (PARAMS["methods"], JOBS, "efficientnet_lite0")
    return read_results(inputs.scores, inputs.training, inputs.complexity, *words)


@pytest.fixture
def root(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of what the made-up run measured; its faces are the originals, not to be changed."""
    ignored = shutil.ignore_patterns("report.md", "tables", "pictures", "plots")
    shutil.copytree(finished_run / "reports", tmp_path / "run/reports", ignore=ignored)
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
    for name in ("draw_faces", "draw_curves"):
        monkeypatch.setattr(markdown, name, lambda *_: {})
    return illustrated


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pictures of a report would show, by file name, noted instead of drawn: blocks of faces, or jobs."""
    found: dict[str, Any] = {}

    def curves(out: Path, training: Path, jobs: list[str], name: str, caption: str) -> dict[str, str]:
        found.update({name: jobs} if jobs else {})
        return {name: caption} if jobs else {}

    monkeypatch.setattr(figures, "_save", lambda path, blocks: found.update({path.name: list(blocks)}))
    monkeypatch.setattr(markdown, "draw_curves", curves)
    return found


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write(path, content)


def section(text: str, heading: str) -> str:
    """From a heading to the next one of any level."""
    return re.split(r"\n#+ ", text.split(f"## {heading}", 1)[1], maxsplit=1)[0]


def judged(text: str, heading: str) -> dict[str, str]:
    """The sentences against the paper under a heading: verdict -> what it says."""
    found = section(text, heading).split("**Against the paper.** ", 1)[1].split("\n", 1)[0]
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


# --- the whole of it -------------------------------------------------------------------------------------


def test_whole_report_by_its_stage(finished_run: Path, text: str) -> None:
    data = text.splitlines()
    data = data[data.index("> **Data**, one line per role:") :]
    assert data[1] == (
        "> - **HR train:** packaged portraits (ORL), genuine photographs; 9 faces, 4 identities, from 3 portraits"
        " (paper: CelebA)"
    )
    assert [line.split("**")[1] for line in data[1:6]] == ["HR train:", "HR test:", "LR train:", "LR web:", "LR cctv:"]
    assert all("SIMULATED camera" in line for line in data[3:6])
    assert "They are not FID" in data[7]
    assert data[9].startswith("> **Seeds:** 0 for data and measurements, 0 for the trainings.")
    assert re.findall(r"### (Table \d)\.", text) == [f"Table {number}" for number in range(1, 8)]
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b|\bS\d[acd]?\b", text)
    pictures = re.findall(r"\]\(pictures/(.+?)\)", text)
    assert sorted(pictures) == sorted(path.name for path in (finished_run / "reports/pictures").iterdir())
    assert [name.split("_")[0] for name in pictures] == [
        *("figure4", "figure3", "figure4", "methods", "figure5", "figure6", "training.png", "training")
    ]
    alternatives = re.findall(r"!\[(.*?)\]", text)
    assert all(words and words.count("(") == words.count(")") for words in alternatives)
    for name in pictures:
        assert (finished_run / "reports/pictures" / name).stat().st_size < 700_000, name
        with Image.open(finished_run / "reports/pictures" / name) as image:
            assert image.format == "PNG"


def test_it_opens_with_the_run_in_short(text: str, results: Results) -> None:
    """One table of the systems, one picture, one sentence that counts the verdicts below."""
    assert text.split("\n## ")[1].startswith("In short\n")
    short = section(text, "In short")
    rows = printed_rows(text, "In short")
    assert list(rows) == ["", *(label for method, label in PRINTED.items() if not row_of(method).variant)]
    assert rows[""][::2] == ["web<br>kd_imagenet ×1000 ↓", "web<br>rank-1 % ↑", "PSNR dB ↑"]
    assert rows[""][1::2] == ["cctv<br>kd_imagenet ×1000 ↓", "cctv<br>rank-1 % ↑"]
    assert rows["CR"] == [
        *("**23.1**<br>[23.0, 23.2]", "**25.6**<br>[25.5, 25.7]", "**30.5**<br>[30.4, 30.6]"),
        *("**30.5**<br>[30.4, 30.6]", "25.50<br>[25.46, 25.54]"),
    ]
    assert (
        "web: simulated camera; cctv: simulated camera. kd_imagenet: kernel distance of 334 (web) and 335 (cctv)"
        " super-resolved faces from 720 real high-resolution ones. Rank-1: 329 (web) and 329 (cctv) probes of 5 (web)"
        " and 5 (cctv) people. PSNR: 60 artificial low-resolution faces."
    ) in short
    assert re.findall(r"\]\((.+?)\)", short) == ["pictures/figure4_cctv.png"]
    counts = tally(claim for table in TABLES.values() for claim in table(results).claims)
    assert (counts["contradicted"], counts["open"]) == (0, 2)
    assert f"judge, this run **confirms {counts['confirmed']}**, **contradicts 0** and **cannot tell for 2**" in short


def test_only_declared_methods_appear_and_the_same_again(
    illustrated: Report, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although scores, faces, timings and curves of all the others lie around."""
    drawn = []
    monkeypatch.setattr(markdown, "draw_curves", lambda *words: drawn.append(words[2]) or {})
    text = illustrated(methods=["bicubic", "cr"], joint_variants=["cr"])
    for name in ("In short", "Table 1.", "Table 2.", "Table 3."):
        assert [row.partition(" (")[0] for row in printed_rows(text, name)] == ["", "Bicubic", "CR"]
    assert list(printed_rows(text, "Table 5."))[1:] == ["Genuine LR", "Regulated LR, stage 2", "Artificial LR (floor)"]
    assert re.findall(r"### (Table \d)\.", text) == [f"Table {number}" for number in (1, 2, 3, 5)]
    assert list(printed_rows(text, "Complexity of")) == ["", "CR"]
    jobs = ["centreface", "matcher", "sr_module", "inverse_cr", "characteristic", "cr"]
    assert list(printed_rows(text, "Training"))[1:] == [f"`{job}`" for job in jobs]
    assert drawn == [jobs, []]
    names = sorted(path.stem for path in (root / "reports/pictures").iterdir())
    assert names == ["figure3_genuine", "figure4_cctv", "figure4_web", "figure5_triplets", "methods_hr_test"]
    others = "|".join([*PEERS, "wo_", "W/O", "CR, stage 1"])
    for content in [text, *(path.read_text(encoding="utf-8") for path in (root / "reports/tables").iterdir())]:
        assert not re.search(others, content, re.IGNORECASE)
        assert len([line for line in content.splitlines() if line]) > 1
    before = {path: path.read_bytes() for path in (root / "reports").rglob("*.*") if path.is_file()}
    assert illustrated(methods=["bicubic", "cr"], joint_variants=["cr"]) == text
    assert {path: path.read_bytes() for path in (root / "reports").rglob("*.*") if path.is_file()} == before


def test_a_run_without_cr_says_nothing_of_its_complexity(report: Report) -> None:
    assert list(printed_rows(report(methods=["bicubic", "lrgan"]), "Complexity of")) == ["", "LRGAN"]
    text = report(methods=["bicubic", "vdsr"])
    assert "### Complexity" not in text
    assert "Nothing to judge" in section(text, "Table 1.")


def test_missing_metrics_of_a_declared_method_name_it(report: Report, root: Path) -> None:
    (root / "reports/scores/cr_stage1.json").unlink()
    with pytest.raises(CharregError, match=r"cr_stage1\.json: not found.*method cr_stage1"):
        report()
    path = root / "reports/scores/cr.json"
    path.write_text('{"web": {"fd_imagenet": NaN}}', encoding="utf-8")
    with pytest.raises(CharregError, match=r"cr\.json: found NaN"):
        read_json(path, "stage evaluate")


def test_absent_metric_is_a_dash_with_its_reason(report: Report, root: Path) -> None:
    def drop(content: Any) -> None:
        for name in ("kd_imagenet", "kd_imagenet_lo", "kd_imagenet_hi"):
            del content["web"][name]
        content["web"]["absent"]["kd_imagenet"] = "found 1 faces, wanted at least 2"

    edit(root / "reports/scores/cr.json", drop)
    text = report()
    assert printed_rows(text, "Table 1.")["CR"][1] == "—<sup>1</sup>"
    assert "<sup>1</sup> found 1 faces, wanted at least 2" in section(text, "Table 1.")
    unmeasured = judged(text, "Table 1.")["Cannot tell, not measured or without an interval"]
    assert re.search(r"CR is nearer to real faces than [^;]*\(web by kd_imagenet\)", unmeasured)
    assert "what saw genuine faces (CycleGAN, LRGAN and CR)" in unmeasured  # of a group, nothing without every member
    assert csv_rows(root, "table1_distance")["CR"]["web_kd_imagenet"] == ""
    assert "everybody is among the first 5" in section(text, "Table 2.")


# --- the paper's numbers ---------------------------------------------------------------------------------


def test_every_table_has_its_rows_and_the_papers_numbers(report: Report, root: Path) -> None:
    """The published numbers in the rows they belong to, blank where the paper has none."""
    assert {row.method for row in ROWS} == {*METHODS, *PEERS}
    assert set(PEERS) == set(PARAMS["peers"])
    report(methods=[*PARAMS["methods"], "wo_sr_ri_joint"])

    def printed(name: str, *columns: str) -> dict[str, tuple[float | None, ...]]:
        rows = csv_rows(root, name)
        return {label: tuple(float(row[key]) if row[key] else None for key in columns) for label, row in rows.items()}

    labels = {method: LABELS.get(method, row_of(method).label) for method in in_order(MEASURED)}
    nothing = (None, None)
    paper = {labels[method]: SYSTEMS.get(method, (*VARIANTS.get(method, nothing), None, *nothing)) for method in labels}
    cr = SYSTEMS["cr"][:2]
    assert printed("table1_distance", *FIDS) == {label: found[:2] for label, found in paper.items()}
    rank1 = {label: found[2:3] for label, found in paper.items()} | {"Bicubic": (RAW_LR_RANK1,)}
    assert printed("table2_recognition", "paper_rank1") == rank1
    fidelity = {label: found[3:] for label, found in paper.items()}
    assert printed("table3_fidelity", "paper_psnr", "paper_ssim") == fidelity
    assert printed("table4_regularisation", *FIDS) == {"Without (W/O CR)": VARIANTS["wo_cr"], "With (CR)": cr}
    assert printed("table5_lr_space", *FIDS) == {
        "Genuine LR": LOW_RESOLUTION["genuine"],
        "Regulated LR, stage 1": LOW_RESOLUTION["cr_stage1"],
        "Regulated LR, stage 2": nothing,
        "Artificial LR (floor)": nothing,
    }
    assert printed("table6_stage2", *FIDS) == {
        "Without stage 2 (W/O SR-RI)": VARIANTS["cr_stage1"],
        "Stage 2 on eq. 1 and 6 alone (W/O SR-RI, other reading)": VARIANTS["wo_sr_ri_joint"],
        "With stage 2 (CR)": cr,
    }
    assert printed("table7_unsupervised", *FIDS) == {"Without (W/O UL)": VARIANTS["wo_ul"], "With (CR)": cr}
    systems = printed("complexity_systems", "paper_parameters", "paper_training_hours", "paper_ms")
    assert systems == {row_of(method).label: COMPLEXITY[method] for method in ("cyclegan", "lrgan", "cr")}


def test_every_column_of_the_paper_says_not_comparable(text: str) -> None:
    """But parameters, which are counted and not measured."""
    cells = [cell.strip() for line in text.splitlines() for cell in line.split("|")]
    cells = [cell for cell in cells if re.match("paper\\b.*reported", cell)]
    assert len(cells) == 2 + 1 + 2 + 4 * 2 + 3
    counted = [cell for cell in cells if "(reported, not comparable)" not in cell]
    assert counted == ["paper parameters (reported)"]


def test_inception_dialect_may_stand_beside_fid(report: Report, root: Path) -> None:
    for path in (root / "reports/scores").glob("*.json"):
        content = path.read_text(encoding="utf-8")
        path.write_text(content.replace("fd_imagenet", "fid").replace("kd_imagenet", "kid"), encoding="utf-8")
    text = report(evaluate={**PARAMS["evaluate"], "features": "inception"})
    assert "not comparable" not in section(text, "Table 1.")
    assert "**230.9**" in section(text, "Table 1.")
    assert "the FID of the literature" in text


# --- the rows, marks and files of the tables -------------------------------------------------------------


def test_every_metric_has_its_interval_and_its_counts(text: str) -> None:
    assert PARAMS["methods"] == list(PRINTED)
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
        assert "**" in section(text, f"Table {number}.").partition("**Against")[0]  # something is the best
    rows = printed_rows(text, "Table 5.")
    assert any("101.8" in cell for cell in rows["Artificial LR (floor)"])
    assert not any("**" in cell for cell in rows["Artificial LR (floor)"])  # a reference does not compete


def little_table(*measures: Measure, better: Any = "lower") -> Table:
    rows = {f"row {at}": measure for at, measure in enumerate(measures)}
    return Table("little", "Little", "Method", {key: key for key in rows}, [Column("x", "x", rows.get, 1, better)])


def test_best_is_bold_and_ties_are_marked() -> None:
    table = little_table(Measure(5, 4, 6), Measure(3, 2, 4.5), Measure(9, 8, 10))
    assert marks(table, 0) == ["tie", "best", ""]
    lines = to_markdown(table).splitlines()
    assert "| row 0 | 5.0 ≈<br>[4.0, 6.0] |" in lines
    assert "| row 1 | **3.0**<br>[2.0, 4.5] |" in lines
    higher = little_table(Measure(5), Measure(5.01), Measure(3), Measure(None, reason="why"), better="higher")
    assert marks(higher, 0) == ["best", "best", "", ""]  # printed alike: equally good


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


def test_every_table_has_files_with_the_same_values(finished_run: Path, text: str) -> None:
    folder = finished_run / "reports/tables"
    assert len(re.findall("^### ", text, re.MULTILINE)) + 1 == len(list(folder.glob("*.md")))  # and the one in short
    for path in folder.glob("*.md"):
        assert path.read_text(encoding="utf-8").strip() in text
        assert path.with_suffix(".csv").is_file()
    csv_and_markdown_agree(folder)


def test_csv_columns() -> None:
    text = to_csv(little_table(Measure(5, 4, 6), Measure(None, reason="why")))
    assert text == "method,x,x_lo,x_hi\nrow 0,5.0,4.0,6.0\nrow 1,,,\n"
    text = to_csv(little_table(Measure(5, 4, 6, spread=0.5), Measure(7, spread=0.25)))
    assert text == "method,x,x_seeds,x_lo,x_hi\nrow 0,5.0,0.5,4.0,6.0\nrow 1,7.0,0.2,,\n"


def test_warnings_stand_under_their_table(text: str) -> None:
    wanted = "Beware: `web_lr_fd_imagenet` and `cctv_lr_fd_imagenet`: n_fake 334, features 1280: biased upwards."
    assert wanted in section(text, "Table 5.")
    assert "Beware" not in section(text, "Table 2.")
    assert "With fewer than 5,000 faces (here as few as 334) the Fréchet distance is biased upwards" in text


def test_floor_of_table_5_is_explained_with_the_ratio(results: Results, text: str) -> None:
    table = section(text, "Table 5.")
    assert "(360 against 360)" in table
    assert "other people and small N, not to the camera" in table
    found = re.findall(r"(web|cctv) ([\d.]+) by lr_(kd|fd)_imagenet", table.partition("Genuine / floor:")[2])
    assert [" ".join(one) for one in found] == ["web 81.4 kd", "web 4.0 fd", "cctv 172.5 kd", "cctv 8.5 fd"]
    sunk = copy.deepcopy(results)
    sunk.scores["floor"]["web"]["lr_kd_imagenet"] = -0.02
    del sunk.scores["floor"]["web"]["lr_fd_imagenet"]
    for name in ("lr_kd_imagenet", "lr_fd_imagenet"):
        assert f"web unknown by {name} (not measured, or no floor" in tables.lr_space_table(sunk).caption


# --- verdicts --------------------------------------------------------------------------------------------

BELOW, ABOVE, NEAR = Measure(1, 0, 2), Measure(5, 4, 6), Measure(1, 0, 4.5)


def test_findings_are_confirmed_or_contradicted_only_when_all_of_their_claims_are() -> None:
    pairs = {"confirmed": (BELOW, ABOVE), "contradicted": (ABOVE, BELOW), "overlap": (NEAR, ABOVE)}
    pairs["unmeasured"] = (Measure(1), ABOVE)
    for kind, pair in pairs.items():
        assert verdict(Claim("a", "web", "fd", *pair)) == kind
    assert verdict(Claim("a", "web", "fd", Measure(None, reason="no faces"), ABOVE)) == "unmeasured"

    def claims(than: str, *kinds: str, paper: bool = True) -> list[Claim]:
        return [Claim("x is nearer", f"set {at}", "kd", *pairs[kind], than, paper) for at, kind in enumerate(kinds)]

    several = [
        *(claims("a", "confirmed", "confirmed") + claims("b", "contradicted")),
        *(claims("c", "confirmed", "contradicted") + claims("d", "confirmed", "overlap") + claims("e", "unmeasured")),
    ]
    assert tally([*several, *claims("f", "confirmed", paper=False)]) == {"confirmed": 1, "contradicted": 1, "open": 3}


TABLES: dict[str, Callable[[Any], Any]] = {
    "Table 1.": tables.distance_table,
    "Table 2.": tables.recognition_table,
    "Table 3.": tables.fidelity_table,
    "Table 5.": tables.lr_space_table,
    **{
        f"Table {number}.": lambda results, at=at: tables.ablation_tables(results, params_with().finetune_joint)[at]
        for at, number in enumerate("467")
    },
    "Complexity of": costs.systems_table,
}


def test_a_run_with_the_papers_numbers_confirms_every_finding(text: str) -> None:
    """So the findings are those of its tables, not of its prose, which errs three times."""
    found = {heading: judged(text, heading) for heading in TABLES}
    unsure = found["Complexity of"].pop("Cannot tell, the intervals overlap")  # 72 and 81 h, 6.6 and 7.5 ms: 10%
    assert unsure == (
        "LRGAN trains faster than CycleGAN; LRGAN infers faster than CR (this run's widths and the paper's widths)"
    )
    assert all(list(verdicts) == ["Confirmed"] for verdicts in found.values())
    fidelity, cost = found["Table 3."]["Confirmed"], found["Complexity of"]["Confirmed"]
    others = "SRGAN (face-feature content loss), FSRNet, {}CycleGAN, CSRI (pseudo identities)"
    assert f"VDSR has a higher PSNR than {others.format('SICNN, ')}, LRGAN and CR;" in fidelity
    assert f"CR has a higher PSNR than {others.format('')} and LRGAN;" in fidelity
    assert "CR has a lower PSNR than SICNN;" in fidelity  # the prose: only VDSR is above CR
    assert "CR trains faster than LRGAN and CycleGAN" in cost
    assert not re.search("CR infers faster than [^;]*LRGAN", cost)  # the prose: CR is the most efficient
    beyond = section(text, "Table 1.").split("**Beyond the paper.** ")[1]
    everywhere = "(web and cctv by kd_imagenet and fd_imagenet)"
    assert f"CR is nearer to real faces than Bicubic and SR alone {everywhere}" in beyond


NEAR_REAL = "what saw genuine faces (CycleGAN, LRGAN and CR) is nearer to real faces"
LOW_PSNR = "what learned without pairs (CycleGAN and LRGAN) has a lower PSNR"
SRGAN, CSRI = LABELS["srgan"], LABELS["csri"]
TO_ARTIFICIAL = "is nearer to artificial LR"
NEARER = "brings the faces nearer to real ones"
CLAIMS = [  # table, finding, what it compares with, what lies below what if it holds, by which numbers
    ("Table 1.", "CR is nearer to real faces", "VDSR", "cr vdsr web fd_imagenet"),
    ("Table 1.", "CR is nearer to real faces", "LRGAN", "cr lrgan cctv kd_imagenet"),
    ("Table 1.", NEAR_REAL, f"VDSR, {SRGAN}, FSRNet and SICNN", "lrgan fsrnet web kd_imagenet"),
    ("Table 1.", "LRGAN is nearer to real faces", "CycleGAN", "lrgan cyclegan cctv fd_imagenet"),
    ("Table 2.", "CR is recognised better", CSRI, "csri cr web rank1"),
    ("Table 2.", "CR is recognised better", "Bicubic", "bicubic cr web rank1"),
    ("Table 2.", "Bicubic is recognised worse", "VDSR", "bicubic vdsr web rank1"),
    ("Table 2.", "Bicubic is recognised better", "LRGAN", "lrgan bicubic web rank1"),
    ("Table 3.", "VDSR has a higher PSNR", "CR", "cr vdsr hr_test psnr_rgb"),
    ("Table 3.", "CR has a lower PSNR", "SICNN", "cr sicnn hr_test psnr_rgb"),
    ("Table 3.", LOW_PSNR, f"VDSR, {SRGAN}, FSRNet, SICNN, {CSRI} and CR", "lrgan csri hr_test psnr_rgb"),
    ("Table 3.", "CR has a higher SSIM", "SICNN", "sicnn cr hr_test ssim_rgb"),
    ("Table 3.", "joint training costs no fidelity: CR has a higher SSIM", "SR alone", "sr_module cr hr_test ssim_rgb"),
    ("Table 4.", f"regularisation {NEARER}", "", "cr wo_cr web kd_imagenet"),
    ("Table 5.", f"Regulated LR, stage 1 {TO_ARTIFICIAL}", "Genuine LR", "cr_stage1 genuine cctv lr_fd_imagenet"),
    ("Table 5.", f"Regulated LR, stage 2 {TO_ARTIFICIAL}", "Genuine LR", "cr genuine web lr_kd_imagenet"),
    ("Table 6.", f"stage 2 {NEARER}", "", "cr cr_stage1 web fd_imagenet"),
    ("Table 7.", f"the unsupervised loss {NEARER}", "", "cr wo_ul cctv kd_imagenet"),
]


@pytest.mark.parametrize(("heading", "finding", "than", "numbers"), CLAIMS)
def test_findings_turn_with_the_intervals(
    results: Results, heading: str, finding: str, than: str, numbers: str
) -> None:
    """Exchanged numbers contradict what was confirmed; an interval over everything leaves it open."""
    below, above, test_set, name = numbers.split()
    keys = (name, f"{name}_lo", f"{name}_hi")

    def found(low: list[float], high: list[float]) -> set[str]:
        changed = copy.deepcopy(results)
        changed.scores[below][test_set].update(zip(keys, low, strict=True))
        changed.scores[above][test_set].update(zip(keys, high, strict=True))
        places = [("", ""), (test_set, name.replace("rank1", "rank-1"))]
        return {
            verdict(claim)
            for claim in TABLES[heading](changed).claims
            if (claim.text, claim.than) == (finding, than) and (claim.where, claim.by) in places
        }

    low, high = ([results.scores[method][test_set][key] for key in keys] for method in (below, above))
    assert found(low, high) == {"confirmed"}
    assert found(high, low) == {"contradicted"}
    assert found(low, [high[0], -1e6, 1e6]) == {"overlap"}


def test_ablations_name_what_cr_alone_gains_by(results: Results) -> None:
    off: FinetuneJointOptions = params_with().finetune_joint.model_copy(update={"sr_on_pseudo": False})
    for switch, value, numbers in (("sr_on_pseudo", True, "46"), ("keep_sr_adv", 7e-4, "6"), ("keep_sr_adv", 0.0, "")):
        made = tables.ablation_tables(results, off.model_copy(update={switch: value}))
        assert [table.title[6] for table in made if "Beyond the paper" in table.caption] == list(numbers)
        assert all(f"`{switch}`" in table.caption for table in made if table.title[6] in numbers)


def test_costs_are_judged_too(report: Report, root: Path) -> None:
    """Counts exactly, times to a tenth of themselves; a training that was not run here is a dash."""

    def change(content: Any) -> None:
        systems = content["systems"]
        systems["cr"]["run"]["parameters"] = 2 * systems["lrgan"]["run"]["parameters"]
        systems["cr"]["run"]["ms_single"] = 1.05 * systems["lrgan"]["run"]["ms_single"]

    edit(root / "reports/complexity.json", change)
    shutil.rmtree(root / "reports/training/cyclegan")
    text = report()
    found = judged(text, "Complexity of")
    assert re.search(r"CR has fewer parameters than LRGAN \(this run's widths\)", found["Contradicted"])
    assert re.search(r"CR has fewer parameters than [^;]*LRGAN \(the paper's widths\)", found["Confirmed"])
    assert "LRGAN infers faster than CR (this run's widths" in found["Cannot tell, the intervals overlap"]
    assert "CR trains faster than CycleGAN" in found["Cannot tell, not measured or without an interval"]
    assert "CR trains faster than LRGAN" in found["Confirmed"]
    assert "timings of cyclegan: the training has not run here" in section(text, "Training")
    assert printed_rows(text, "Complexity of")["CycleGAN"][3].startswith("—")


def test_a_group_speaks_for_every_member() -> None:
    group = [Measure(1, 0, 2), Measure(3, 2.5, 3.5)]
    assert extreme(group, largest=True) == Measure(3, 2.5, 3.5)
    assert extreme(group, largest=False) == Measure(1, 0, 2)
    assert extreme([*group, Measure(2)], largest=True).value is None


def test_paragraph_gathers_places() -> None:
    assert "Nothing to judge" in paragraph([])
    claims = [Claim("x is nearer", role, by, BELOW, ABOVE) for role in ("web", "cctv") for by in ("kd", "fd")]
    assert paragraph(claims).endswith("*Confirmed:* x is nearer (web and cctv by kd and fd).")
    claims[3] = Claim("x is nearer", "cctv", "fd", ABOVE, BELOW)
    wanted = "x is nearer (web by kd and fd; cctv by kd). *Contradicted:* x is nearer (cctv by fd)."
    assert paragraph(claims).endswith(wanted)
    assert paragraph([Claim("x is nearer", "", "PSNR", BELOW, ABOVE)]).endswith("x is nearer (by PSNR).")
    several = [Claim("x is nearer", "web", "kd", BELOW, ABOVE, than) for than in ("y", "z")]
    assert paragraph(several).endswith("x is nearer than y and z (web by kd).")


# --- several seeds, budgets, methods of one's own, settings ----------------------------------------------


def test_several_seeds_print_mean_and_spread(report: Report, root: Path, text: str) -> None:
    assert "±" not in text.split("## Results")[1]
    assert "0 for the trainings. Of several, numbers are mean ± standard deviation, intervals span" in text
    assert "of one, no interval covers what another seed would change.\n" in text
    for method in PARAMS["methods"]:
        if method not in ("bicubic", "vdsr"):  # which nobody trains, and which is trained once
            found = json.loads((root / f"reports/scores/{method}.json").read_text())
            sets = {name: found[name] for name in (*ROLES, "hr_test")}
            keys = [
                f"{key}{end}"
                for key in ("fd_imagenet", "lr_fd_imagenet", "rank1", "psnr_rgb")
                for end in ("", "_lo", "_hi")
            ]
            others = {at: {**one, **{key: one[key] + 3 for key in keys if key in one}} for at, one in sets.items()}
            write(root / f"reports/scores/{method}.json", {**found, **over_seeds([sets, sets, others])})
    timing = json.loads((root / "reports/training/cr/timings.json").read_text())
    for seed in (1, 2):
        other = {**timing, "seed": seed, "seconds": timing["seconds"] + 60 * seed}
        write(root / f"reports/training/cr/seed-{seed}/timings.json", other)
    text = report(seeds=[0, 1, 2], peer_seeds=[0])
    assert "0 for data and measurements, 0, 1, 2 for the trainings (of the other systems 0)." in text
    assert "another seed would change. Trained once: VDSR.\n" in text
    distance = printed_rows(text, "Table 1.")
    assert distance["CR"][2] == "**231.9** ± 1.7<br>[230.0, 234.8]"
    assert "±" not in "".join(distance["Bicubic"])
    assert distance["CR"][3] == "334"
    assert printed_rows(text, "Table 2.")["CR"][1].startswith("**31.53** ± 1.73<br>")
    assert printed_rows(text, "Table 3.")["CR"][1].startswith("26.50 ± 1.73 ≈<br>")
    for number in range(1, 8):
        assert any(" ± " in cell for row in printed_rows(text, f"Table {number}.").values() for cell in row), number
    assert "| `cr` | 240 | 3,840 | 21,660.0 ± 60.0 | 812 | 8 |" in section(text, "Training")
    row = csv_rows(root, "table1_distance")["CR"]
    assert [row[f"web_fd_imagenet{end}"] for end in ("", "_seeds", "_lo", "_hi")] == ["231.9", "1.7", "230.0", "234.8"]
    csv_and_markdown_agree(root / "reports/tables")


def test_budgets_are_compared_with_the_rule(report: Report, root: Path, text: str) -> None:
    assert printed_rows(text, "Training")["`cr`"][:2] == ["240", "3,840"]
    assert printed_rows(text, "Training")["`matcher`"][1] == ""
    assert "**Not equal:** none." in section(text, "Training")  # by default

    jobs = {"pretrain_sr": 600, "pretrain_cr": 3000, "finetune_joint": 240}
    changes: dict[str, Any] = {job: {**PARAMS[job], "iterations": count} for job, count in jobs.items()}
    budgets = {name: {"iterations": 600 if row_of(name).learned == "artificial pairs" else 3840} for name in PEERS}
    text = section(report(**changes, peers=peers_with(**budgets)), "Training")
    assert "as the super-resolver's pretraining (600)" in text
    assert "as all of CR (3,840: super-resolver, regulariser and joint training), all of them scaled by 1;" in text
    everybody = "VDSR, SRGAN (face-feature content loss), FSRNet, SICNN, CycleGAN, CSRI (pseudo identities) and LRGAN"
    assert f"Equal by this rule: {everybody}." in text

    edit(root / "reports/scores/csri.json", lambda content: content.update(label="CSRI (synthetic branch)"))
    wrong = f"**Not equal:** CSRI (synthetic branch) ({PARAMS['peers']['csri']['iterations']:,}, wanted"
    text = report()  # without its native branch it has learned from pairs
    assert wrong in section(text, "Training")
    assert "learned from artificial pairs" in text.split("- **CSRI (synthetic branch)** (`csri`): ")[1].split("\n")[0]

    budgets |= {"vdsr": {"iterations": 700}, "lrgan": {"iterations": 600}}
    changes |= {"methods": ["vdsr", "srgan", "lrgan"], "epoch_scale": 0.5}
    text = section(report(**changes, peers=peers_with(**budgets)), "Training")
    assert "all of them scaled by 0.5;" in text
    assert "Equal by this rule: SRGAN (face-feature content loss)." in text
    assert "**Not equal:** VDSR (700, wanted 600) and LRGAN (600, wanted 3,840)." in text


def test_a_method_of_ones_own_has_its_rows(report: Report, root: Path) -> None:
    """But the paper says nothing of it, so nothing is held against the paper."""
    write(root / "reports/scores/espcn.json", {**method_metrics("vdsr"), "label": "ESPCN (ours)"})
    methods = [*PARAMS["methods"], "espcn"]
    text = report(peers=peers_with(espcn={"iterations": 500}), methods=methods)
    for number in (1, 2, 3):
        row = printed_rows(text, f"Table {number}.")["ESPCN (ours)"]
        assert all(row[1:5]), row
        assert row[-1] == ""
        assert not any("ESPCN" in said for said in judged(text, f"Table {number}.").values())
    assert "- **ESPCN (ours)** (`espcn`): a method of your own; learned from ?\n" in text
    assert "| `espcn` |" in section(text, "Training")
    assert row_of("espcn").label == "espcn"
    assert in_order(["mine", "cr", "vdsr", "bicubic"]) == ["bicubic", "vdsr", "cr", "mine"]


def test_settings_name_what_is_beyond_the_paper_and_what_differs_from_it() -> None:
    paper = ROOT / "profiles/paper.yaml"

    def settings(**changes: Any) -> dict[str, tuple[Any, ...]]:
        table = departures(params_with(**changes), paper)
        return {label: tuple(cells[at] for cells in table.cells) for at, label in enumerate(table.rows)}

    rows = settings(pretrain_cr={**PARAMS["pretrain_cr"], "d_lr_factor": 3.0})
    assert rows["`super_resolver.width`"] == ("16", "64")
    assert rows["`pretrain_cr.d_lr_factor`: discriminator rate factor"] == ("3", "1")
    assert [label for label in rows if "peers." in label] == [f"`peers.{name}`" for name in PEERS]
    few = settings(methods=["bicubic", "lrgan", "cr"])
    assert [label for label in few if "peers." in label] == ["`peers.lrgan`"]

    profile = yaml.safe_load(paper.read_text(encoding="utf-8"))
    peers = peers_with(**profile.pop("peers"))
    changes = {name: {**PARAMS[name], **new} if isinstance(new, dict) else new for name, new in profile.items()}
    rest = settings(**changes, peers=peers)
    assert rest["`finetune_joint.ema`: generator averages"] == ("0.999", "0")
    assert rest.pop("`peers.vdsr`") == ("ema 0.999", "ema 0")
    assert rest.pop("`peers.sicnn`") == ("ema 0.999, clip_norm 10", "ema 0, clip_norm 0")
    assert all(": " in label or label.startswith("`peers.") for label in rest)  # its own values are no departures


# --- data, times and the geometry ------------------------------------------------------------------------


def test_sizes_and_rejections_are_printed(text: str) -> None:
    sizes = section(text, "Size of the genuine faces")
    assert "| Role | 12-16 px | 20-24 px |" in sizes
    assert "| web | 7 | 2 |" in sizes
    rejections = section(text, "Rejected and converted")
    assert "| LR cctv | 4 | 9 | `score` 14, `truncated` 1 | `cmyk` 1 |" in rejections
    assert "| HR test | 3 | 9 | none | none |" in rejections
    assert "| web | 18 | 334 | 540 | 0.619 | 1.000 | 18.9 |" in section(text, "Detection of the small faces")


def test_the_source_of_every_role_is_named_and_a_simulation_called_one(report: Report) -> None:
    roles: dict[str, Any] = {"cctv": {**PARAMS["lr_roles"]["cctv"], "path": "data/composed/cctv"}}
    for role in ("train", "web"):
        roles[role] = {"source": "folder", "path": f"raw/{role}", "exclude": "none.txt", "simulated": role == "train"}
    composed = {"cctv": {"source": "folder", "path": "data/raw/mine", "split": "all", "crop": "ready", "photos": 4}}
    text = report(lr_roles=roles, composed_photos=composed)
    assert "**LR train:** folder `raw/train`, SIMULATED camera; 9 faces" in text
    assert "**LR web:** folder `raw/web`, genuine photographs; 9 faces, 4 identities, from 3 photographs" in text
    (line,) = (line for line in text.splitlines() if "**LR cctv:**" in line)
    assert "photographs composed of portraits of folder `data/raw/mine`, SIMULATED camera" in line
    assert "(ORL)" not in line
    assert "web: genuine photographs; cctv: simulated camera." in section(text, "In short")


def test_complexity_is_printed_and_names_its_machine(text: str) -> None:
    systems = printed_rows(text, "Complexity of")
    assert systems["LRGAN"][:3] == ["1,002,098", "4,008,392", "4,000,000"]
    assert systems["CR"][:3] == ["**671,465**", "**2,685,863**", "2,700,000"]
    assert systems["CR"][3:] == ["**46.000**", "46", "1.88", "7.50", "7.5"]
    wanted = "Machine: cpu Made-up CPU at 2 GHz, cores 2, threads 1, python 3.12.1, torch 2.14.0."
    assert wanted in section(text, "Complexity of")
    assert section(text, "Training").count(wanted) == 1  # the same for every job


def test_figures_of_no_run_are_linked_where_they_lie(report: Report, root: Path, text: str) -> None:
    assert "geometry.png" not in text
    (root / "reports/figures").mkdir()
    Image.new("RGB", (4, 4)).save(root / "reports/figures/geometry.png")
    links = re.findall(r"\]\((.+?)\)", report())
    assert links == ["../docs/figures/designs.svg", "../docs/figures/overview.svg", "figures/geometry.png"]
    for link in links[:2]:
        content = (ROOT / "reports" / link).read_text(encoding="utf-8")
        assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(r"<!ENTITY|<script|<image|@import|href=", content)  # refers to nothing outside
    assert [number for number in ("1–2", "3–4", *"56789") if f"eq. {number}" not in content] == []


# --- figures ---------------------------------------------------------------------------------------------


def test_same_faces_are_drawn_by_the_seed() -> None:
    assert chosen_faces(100, 8, 0, "web") == chosen_faces(100, 8, 0, "web")
    assert chosen_faces(100, 8, 0, "web") != chosen_faces(100, 8, 1, "web")
    assert chosen_faces(3, 8, 0, "web") == [0, 1, 2]
    with pytest.raises(CharregError, match=r"report\.faces: found 9, wanted less than or equal to 8"):
        params_with(report={**PARAMS["report"], "faces": 9})


def test_figures_show_the_same_faces(illustrated: Report, shown: dict[str, Any], root: Path) -> None:
    illustrated(report={**PARAMS["report"], "faces": 5})
    assert shown["training.png"][5:] == ["wo_cr", "wo_ul", "cr"]
    assert shown["training_peers.png"] == list(PEERS)

    def same(strips: list[figures.Strip], wanted: dict[str, str], role: str) -> None:
        """The strips have these labels, and show the chosen faces of these folders."""
        assert [label for label, _ in strips] == list(wanted)
        chosen = chosen_faces(FACES, 5, 0, role)
        for (_, found), folder in zip(strips, wanted.values(), strict=True):
            np.testing.assert_array_equal(found, open_faces(root / "data" / folder).images[chosen])

    [(_, strips)] = shown["figure3_genuine.png"]
    for at, role in enumerate(ROLES):
        same(strips[at : at + 1], {role: f"lr_faces/{role}"}, role)
        lr = {"LR": f"lr_faces/{role}"}
        [(_, every)] = shown[f"figure4_{role}.png"]
        same(every, {**lr, **{label: f"sr/{method}/{role}" for method, label in PRINTED.items()}}, role)
        triplet = {"regulated": f"sr/cr/{role}_regulated", "CR": f"sr/cr/{role}"}
        same(shown["figure5_triplets.png"][at][1], lr | triplet, role)
        pair = {"W/O UL": f"sr/wo_ul/{role}", "CR": f"sr/cr/{role}"}
        same(shown["figure6_unsupervised.png"][at][1], lr | pair, role)
    [(_, strips)] = shown["methods_hr_test.png"]
    assert strips[0][0] == "LR"
    methods = {label: f"sr/{method}/hr_test" for method, label in PRINTED.items()}
    same(strips[1:], {**methods, "HR": "hr_faces/test"}, "hr_test")


def test_low_resolution_faces_are_enlarged_by_whole_pixels(finished_run: Path, tmp_path: Path) -> None:
    captions = draw_faces(tmp_path, inputs_of(finished_run).faces, {"vdsr": "VDSR"}, 2, 0, dict.fromkeys(ROLES, True))
    assert "figure5_triplets.png" not in captions
    face = np.asarray(open_faces(finished_run / "data/lr_faces/web").images[chosen_faces(FACES, 2, 0, "web")[-1]])
    enlarged = face.repeat(8, axis=0).repeat(8, axis=1)  # twice 64 px
    for name in ("figure3_genuine.png", "figure4_web.png"):
        with Image.open(tmp_path / name) as image:
            assert (np.asarray(image)[:128, -128:] == enlarged).all()


def test_large_pictures_lose_their_enlargement_then_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    for largest, size in ((250_000, (524, 128)), (60_000, (262, 64)), (40_000, (196, 64)), (100, (64, 64))):
        monkeypatch.setattr(figures, "LARGEST", largest)
        figures._save(tmp_path / "noise.png", [("", [("", list(noise))])])
        with Image.open(tmp_path / "noise.png") as image:
            assert image.size == size
        assert (tmp_path / "noise.png").stat().st_size <= largest or image.size == (64, 64)


def test_curves_come_out_the_same_and_need_a_job_that_has_some(finished_run: Path, tmp_path: Path) -> None:
    training = inputs_of(finished_run).training
    for name in ("one.png", "two.png"):
        assert draw_curves(tmp_path, training, ["vdsr", "espcn"], name, "Losses") == {name: "Losses"}
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert draw_curves(tmp_path, training, ["espcn"], "none.png", "Losses") == {}


def test_plots_of_dvc_hold_every_curve_once(finished_run: Path) -> None:
    """One table a plot, of series that share a unit; a signal with the name of a loss is told apart."""
    plots = finished_run / "reports/plots"
    names = [f"{job}_{plot}.tsv" for job in DRAWN for plot in ("accuracy", "distance", "logits", "losses", "psnr")]
    assert [path.name for path in sorted(plots.iterdir())] == names
    rows = list(csv.DictReader(io.StringIO((plots / "cr_losses.tsv").read_text(encoding="utf-8")), delimiter="\t"))
    series = [*CURVES["curves.tsv"], "l_cr (signal)"]
    assert [(row["step"], row["series"]) for row in rows] == [(str(step), name) for name in series for step in STEPS]


def test_series_of_a_broken_table(tmp_path: Path) -> None:
    path = tmp_path / "curves.tsv"
    path.write_text("step\tl_sr\n20\t0.5\n40\t\n60\tmany\n", encoding="utf-8")
    with pytest.raises(CharregError, match="found 'many' under l_sr"):
        read_series(path)
    path.write_text("step\tl_sr\n20\t0.5\n40\t\n", encoding="utf-8")
    assert read_series(path) == {"l_sr": ([20.0], [0.5])}
    assert read_series(tmp_path / "none.tsv") == {}


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
