"""docs/adding-a-method.md, executed: its file and its entry, trained, super-resolved and reported by its name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from charreg.core.models import save_model
from charreg.core.params import parse_yaml
from conftest import ROOT, draw_genuine_faces, draw_hr_faces, fresh_first_stage, merged, params_of, toy_content
from training_fixtures import ForkServer, Run

pytest_plugins = ["training_fixtures"]

PAGE = (ROOT / "docs/adding-a-method.md").read_text(encoding="utf-8")
FOLDERS = ("--faces", ".", "--models", "models", "--curves", "curves")


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project to which the page's file and entry were added; toy budgets, drawn faces."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "src/charreg/peers/espcn.py").write_text(example("job"), encoding="utf-8")
    (folder / "entry.yaml").write_text(example("entry"), encoding="utf-8")
    entry = parse_yaml(folder / "entry.yaml")
    assert entry["peers"]["espcn"]["lr"] == 0.001
    entry["peers"]["espcn"] |= {"iterations": 30}
    write_params(folder / "params.yaml", merged(toy_content(), entry))
    draw_hr_faces(folder / "hr")
    draw_genuine_faces(folder / "lr")
    recogniser = fresh_first_stage(params_of()).centreface
    (folder / "models/centreface").mkdir(parents=True)
    save_model(folder / "models/centreface", recogniser.networks, recogniser.blueprints, recogniser.info)
    return folder


def write_params(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def run(server: ForkServer, project: Path, script: str, *words: str) -> Run:
    env, argv = {"DVC_ROOT": str(project)}, [str(project / "stages" / script), *words]
    return server.start(project, project / "log", env=env, root=project, argv=argv).wait()


@pytest.fixture(scope="module")
def trained(server: ForkServer, project: Path) -> Path:
    result = run(server, project, "train_peer.py", "--peer", "espcn", *FOLDERS)
    assert result.code == 0, result.text
    return project / "models/espcn"


def test_its_training_learns(trained: Path, project: Path) -> None:
    note: dict[str, Any] = json.loads((trained / "model.json").read_text())
    assert note["job"] == "espcn"
    assert note["label"] == "ESPCN (ours)"
    network = note["networks"]["super_resolver"]
    assert (network["network"], network["arguments"]) == ("peers.espcn.Espcn", {"width": 32})
    lines = (project / "curves/espcn/curves.tsv").read_text().splitlines()
    losses = [float(line.split("\t")[1]) for line in lines[1:]]
    assert len(losses) == 30
    assert losses[-1] < losses[0]


RESOLVE = """
import sys
from pathlib import Path

import torch

from charreg.core.faces import open_faces
from charreg.core.methods import load_method, resolve_faces

CPU = torch.device("cpu")
Path("sr").mkdir()
resolve_faces(load_method(Path("models/espcn"), CPU), open_faces(Path("lr")), Path("sr"), "web", CPU)
"""


def test_its_faces_are_made_and_carry_its_label(trained: Path, server: ForkServer, project: Path) -> None:
    """As stages/evaluate.py makes them."""
    (project / "stages/resolve.py").write_text(RESOLVE)
    result = run(server, project, "resolve.py")
    assert result.code == 0, result.text
    meta = json.loads((project / "sr/web/meta.json").read_text())
    assert (meta["label"], meta["count"]) == ("ESPCN (ours)", 16)


def test_the_pipeline_repeats_over_the_entries() -> None:
    """What makes `dvc.yaml` need no change."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages["train_peer"]["foreach"] == "${trained_peers}"
    assert stages["evaluate"]["foreach"] == "${methods}"
    assert "src/charreg/peers/${item}.py" in stages["train_peer"]["do"]["deps"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nobody", {}, "peers.nobody: no file src/charreg/peers/nobody.py, wanted the job of this peer"),
        ("espcn", {"width": 0}, "peers.espcn.width: found 0, wanted greater than or equal to 1"),
        ("espcn", {"depth": 3}, "peers.espcn.depth: unknown key, check its spelling"),
    ],
)
def test_what_no_file_knows_is_refused_in_one_line(
    server: ForkServer, project: Path, name: str, options: dict[str, int], message: str
) -> None:
    content = parse_yaml(project / "params.yaml")
    content["peers"][name] = content["peers"]["espcn"] | options
    write_params(project / "other.yaml", content)
    result = run(server, project, "train_peer.py", "--params", "other.yaml", "--peer", name, *FOLDERS)
    assert result.code == 1
    assert result.errors == [f"charreg: {message}"]
    assert result.text.count("\n") == 1
