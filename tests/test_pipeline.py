"""Real dvc commands on the graph, in a copy of the project with the smoke profile and a few of the methods.

One method of every kind is enough here; the default run trains them all.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charreg.core.profiles import apply_profile, read_profile
from conftest import ROOT
from test_adding_a_method import example

pytestmark = pytest.mark.dvc

PEERS = ["vdsr"]
VARIANTS = ["cr", "wo_ul"]
METHODS = ["bicubic", *PEERS, "sr_module", "cr_stage1", *reversed(VARIANTS)]
STAGES = ("finetune_joint", "super_resolve", "evaluate")
JOINT = {f"{stage}@{variant}" for stage in STAGES for variant in VARIANTS} | {"report"}


class Project:
    """A copy of the project in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        binaries = Path(sys.executable).parent
        self.env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env["OMP_NUM_THREADS"] = "1"  # toy networks, and another worker's tests beside them
        self.env["PYTHONPATH"] = str(folder / "src")  # the copy's own, not the installed one
        self.env.pop("DVC_ROOT", None)

    def run(self, *command: str, fails: bool = False) -> str:
        result = subprocess.run(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert (result.returncode != 0) == fails, result.stdout[-4000:]
        return result.stdout

    def stages_run(self, *command: str) -> set[str]:
        """The stages that a dvc command executed (not those it skipped or took from the run cache)."""
        return set(re.findall(r"Running stage '([^']+)'", self.run(*command)))

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)

    def restore(self) -> None:
        """Back to the last commit, its data included."""
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout")

    def start(self) -> None:
        """Make it a repository, run the whole graph, commit."""
        self.run("git", "init", "-q")
        self.run("git", "config", "user.name", "t")
        self.run("git", "config", "user.email", "t@t")
        self.run("dvc", "repro")
        self.commit("baseline")

    def metrics(self) -> dict[str, Any]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return {
            path.stem: json.loads(path.read_text(), parse_constant=refuse)
            for path in (self.folder / "reports/metrics").glob("*.json")
        }


def copy_project(folder: Path) -> Path:
    """The files of the project as they are now, without results."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The whole graph run once, committed."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    content = yaml.safe_load((folder / "params.yaml").read_text())
    small = apply_profile(content, read_profile(folder / "profiles/smoke.yaml"))
    small |= {"methods": METHODS, "joint_variants": VARIANTS, "trained_peers": PEERS}
    (folder / "params.yaml").write_text(yaml.safe_dump(small, sort_keys=False))
    project = Project(folder)
    project.start()
    yield project
    shutil.rmtree(folder)


def test_a_clean_copy_ends_with_every_metric_and_a_report(project: Project) -> None:
    found = project.metrics()
    assert set(METHODS) <= set(found)
    for method in METHODS:
        assert found[method]["web"]["fd_imagenet"] > 0
        assert found[method]["hr_test"]["psnr_rgb"] > 0
    report = (project.folder / "reports/report.md").read_text()
    assert "SIMULATED camera" in report[:1500]
    assert "nan" not in report.lower().split()


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.stages_run("dvc", "repro") == set()
    assert "up to date" in project.run("dvc", "status")


def test_everything_comes_back_from_the_run_cache(project: Project) -> None:
    before = project.metrics()
    for name in ("data/packaged", "data/hr_faces", "data/lr_faces", "data/sr", "models", "reports"):
        shutil.rmtree(project.folder / name)
    (project.folder / "dvc.lock").unlink()
    assert project.stages_run("dvc", "repro") <= {"report"}  # its page and tables lie in Git, not in the cache
    assert project.metrics() == before
    assert project.run("git", "status", "--short") == ""


def test_kill_9_during_a_training_then_repro_gives_the_same_metrics(project: Project) -> None:
    before = project.metrics()
    shutil.rmtree(project.folder / ".dvc/tmp/charreg")
    arguments = ["dvc", "repro", "--single-item", "--force", "--no-run-cache", "pretrain_cr"]
    victim = subprocess.Popen(
        arguments, cwd=project.folder, env=project.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    states = project.folder / ".dvc/tmp/charreg/pretrain_cr"
    deadline = time.monotonic() + 60
    while not (locks := list(states.glob("*/state-*.json"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert locks, "no state was written"
    holder = int((locks[0].parent / "lock").read_text())
    with contextlib.suppress(ProcessLookupError):  # the run is short and may be over
        os.kill(holder, signal.SIGKILL)
    victim.wait()
    project.run("dvc", "repro", "--no-run-cache")
    assert project.metrics() == before
    project.restore()


def test_lambda_cr_reruns_the_joint_stage_and_what_follows_and_nothing_else(project: Project) -> None:
    assert project.stages_run("dvc", "exp", "run", "-S", "lambda_cr=0.5") == JOINT
    assert "reports/metrics/cr.json" in project.run("dvc", "metrics", "diff")
    project.restore()


def test_an_experiment_in_a_temporary_copy_leaves_the_workspace_alone(project: Project) -> None:
    assert project.stages_run("dvc", "exp", "run", "--temp", "-S", "lambda_cr_gan=0.5") == JOINT
    assert project.run("git", "status", "--short") == ""
    states = list((project.folder / ".dvc/tmp/charreg/finetune_joint-cr").glob("*/fingerprint.json"))
    assert any(json.loads(path.read_text())["params"]["lambda_cr_gan"] == 0.5 for path in states)


@pytest.mark.parametrize("flag", ["lambda_cr=abc", "lamda_cr=1"])
def test_a_wrong_value_and_a_misspelt_key_are_refused_by_name(project: Project, flag: str) -> None:
    output = project.run("dvc", "exp", "run", "-S", flag, fails=True)
    key = flag.partition("=")[0]
    lines = [line for line in output.splitlines() if line.startswith("charreg:" if key == "lambda_cr" else "ERROR:")]
    assert any(key in line for line in lines), output
    assert len([line for line in lines if line.startswith("charreg:")]) <= 1
    assert "Traceback" not in output
    project.restore()


def test_a_shorter_method_list_leaves_old_rows_out(project: Project) -> None:
    stray = project.folder / "reports/metrics/stranger.json"
    shutil.copy(project.folder / "reports/metrics/cr.json", stray)
    assert (project.folder / "reports/metrics/vdsr.json").is_file()
    project.run("dvc", "exp", "run", "-S", "methods=[bicubic,cr]")
    rows = (project.folder / "reports/tables/table1_distance.csv").read_text().strip().splitlines()
    assert len(rows) == 3
    assert [row.partition(",")[0] for row in rows[1:]] == ["Bicubic", "CR"]
    shown = project.run("dvc", "metrics", "show")
    for left_out in ("cr_stage1", "vdsr", "stranger"):
        assert left_out not in shown
    text = (project.folder / "reports/report.md").read_text()
    assert "VDSR" not in text
    stray.unlink()
    project.restore()


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-100] + b"?" * 100])
def test_a_damaged_cache_object_is_named_and_healed(project: Project, damage: Callable[[bytes], bytes]) -> None:
    """As a disk damages it: DVC, which believes its cache, gives it back and finds everything up to date."""
    target = project.folder / "data/hr_faces/test/images.npy"
    content = target.read_bytes()
    digest = hashlib.md5(content).hexdigest()
    cached = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.chmod(0o644)
    cached.write_bytes(damage(content))
    cached.chmod(0o444)
    target.unlink()
    project.run("dvc", "checkout")
    assert target.read_bytes() == damage(content)
    output = project.run(
        *("python", "stages/super_resolve.py", "--model", "models/bicubic", "--out", "data/sr/bicubic"),
        *("--web", "data/lr_faces/web", "--cctv", "data/lr_faces/cctv", "--hr-test", "data/hr_faces/test"),
        fails=True,
    )
    assert "data/hr_faces/test/images.npy" in output
    assert "Traceback" not in output
    assert f"{digest[:2]}/{digest[2:]}: its md5 is not its name, removed" in project.run("charreg", "mend-cache")
    assert project.stages_run("dvc", "repro") == {"hr_faces@test"}
    assert target.read_bytes() == cached.read_bytes() == content
    assert "up to date" in project.run("dvc", "status")
    assert "nothing to do" in project.run("charreg", "mend-cache")


def test_the_worked_example_of_adding_a_method_runs_nothing_else(project: Project) -> None:
    """docs/adding-a-method.md from its job file to its row in the report."""
    (project.folder / "src/charreg/jobs/train_espcn.py").write_text(example("job"), encoding="utf-8")
    params = project.folder / "params.yaml"
    content = yaml.safe_load(params.read_text())
    content["peers"] |= yaml.safe_load(example("entry"))["peers"]
    content |= {"methods": [*METHODS, "espcn"], "trained_peers": [*PEERS, "espcn"]}
    params.write_text(yaml.safe_dump(content, sort_keys=False))
    own = {f"{stage}@espcn" for stage in ("train_peer", "super_resolve", "evaluate")}
    assert project.stages_run("dvc", "repro") == own | {"complexity", "report"}
    assert "ESPCN (ours)" in (project.folder / "reports/report.md").read_text()
    assert "reports/metrics/espcn.json" in project.run("dvc", "metrics", "show")
    (project.folder / "src/charreg/jobs/train_espcn.py").unlink()
    project.restore()


def test_dvc_plots_show_draws_the_curves(project: Project) -> None:
    page = project.run("dvc", "plots", "show")
    assert "index.html" in page
