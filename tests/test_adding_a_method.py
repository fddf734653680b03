"""docs/adding-a-method.md, executed: its job file and its entry, trained, super-resolved and reported by its name."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charreg.core.params import Params
from conftest import ROOT, draw_genuine_faces, draw_hr_faces, fresh_first_stage, merged, toy_content

PAGE = (ROOT / "docs/adding-a-method.md").read_text(encoding="utf-8")
Run = Callable[..., subprocess.CompletedProcess[str]]


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project to which the page's job file and entry were added; toy budgets, drawn faces."""
    from charreg.core.models import save_model

    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "src/charreg/jobs/train_espcn.py").write_text(example("job"), encoding="utf-8")
    entry = yaml.safe_load(example("entry"))
    entry["peers"]["espcn"] |= {"iterations": 30, "batch": 8}
    content = merged(toy_content(), entry)
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    draw_hr_faces(folder / "hr")
    draw_hr_faces(folder / "test", people=3, first=30, role="test")
    draw_genuine_faces(folder / "lr")
    recogniser = fresh_first_stage(Params.model_validate(toy_content())).centreface
    (folder / "centreface").mkdir()
    save_model(folder / "centreface", recogniser.networks, recogniser.blueprints, recogniser.info)
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "DVC_ROOT": str(project), "OMP_NUM_THREADS": "1"}

    def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"stages/{script}.py", *words]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def trained(run: Run, project: Path) -> Path:
    outputs = ("--out", "models/espcn", "--curves", "curves/espcn", "--timings", "timings/espcn.json")
    result = run("train_peer", "--peer", "espcn", "--hr", "hr", "--lr", "lr", "--centreface", "centreface", *outputs)
    assert result.returncode == 0, result.stderr
    return project / "models/espcn"


def test_its_training_learns(trained: Path, project: Path) -> None:
    note: dict[str, Any] = json.loads((trained / "model.json").read_text())
    assert note["job"] == "espcn"
    assert note["label"] == "ESPCN (ours)"
    assert note["networks"]["super_resolver"]["arguments"] == {"width": 32}
    lines = (project / "curves/espcn/curves.tsv").read_text().splitlines()
    losses = [float(line.split("\t")[1]) for line in lines[1:]]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]


def test_its_faces_are_made_and_carry_its_label(trained: Path, run: Run, project: Path) -> None:
    sets = ("--web", "lr", "--cctv", "lr", "--hr-test", "test")
    result = run("super_resolve", "--model", "models/espcn", *sets, "--out", "sr/espcn")
    assert result.returncode == 0, result.stderr
    meta = json.loads((project / "sr/espcn/web/meta.json").read_text())
    assert meta["label"] == "ESPCN (ours)"
    assert meta["count"] == 16


def test_the_pipeline_repeats_over_the_entries() -> None:
    """What makes `dvc.yaml` need no change."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages["train_peer"]["foreach"] == "${trained_peers}"
    assert stages["super_resolve"]["foreach"] == stages["evaluate"]["foreach"] == "${methods}"


def test_a_name_without_a_job_file_is_refused_in_one_line(run: Run, project: Path) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["peers"]["nobody"] = content["peers"]["espcn"]
    (project / "other.yaml").write_text(yaml.safe_dump(content))
    words = ("--peer", "nobody", "--hr", "hr", "--lr", "lr", "--centreface", "centreface", "--out", "x")
    result = run("train_peer", "--params", "other.yaml", *words, "--curves", "y", "--timings", "z.json")
    assert result.returncode != 0
    assert result.stderr.strip() == (
        "charreg: peers.nobody: no file src/charreg/jobs/train_nobody.py, wanted the job of this peer"
    )
