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

from charreg.core.params import parse_yaml
from charreg.core.profiles import apply_profile, read_profile
from conftest import ROOT
from test_adding_a_method import example

pytestmark = pytest.mark.dvc

METHODS = ["bicubic", "vdsr", "cr_stage1", "cr"]
LISTS = {"methods": METHODS, "joint_variants": ["cr"], "trained_peers": ["vdsr"]}
OF_CR = {"check_params", "finetune_joint@cr", "evaluate@cr", "report"}  # what lambda_cr reruns


class Project:
    """A copy of the project in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        binaries = Path(sys.executable).parent
        self.env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env |= {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}  # toy networks, and another worker's tests beside them
        for variable in ("DVC_ROOT", "PYTHONPATH"):  # stages find the copy's code by themselves
            self.env.pop(variable, None)

    def run(self, *command: str, fails: bool = False, **variables: str) -> str:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (result.returncode != 0) == fails, result.stdout[-4000:]
        return result.stdout

    def stages_run(self, *command: str, **variables: str) -> set[str]:
        """The stages that a dvc command executed (not those it skipped or took from the run cache)."""
        return set(re.findall(r"Running stage '([^']+)'", self.run(*command, **variables)))

    def charreg(self, *words: str, fails: bool = False) -> str:
        """The command of the code under test, whatever is installed."""
        return self.run(sys.executable, "-m", "charreg.app.cli", *words, fails=fails, PYTHONPATH=str(ROOT / "src"))

    def restore(self) -> None:
        """Back to the last commit, its data included."""
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout")

    def metrics(self, folder: str = "metrics") -> dict[str, Any]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return {
            path.stem: json.loads(path.read_text(), parse_constant=refuse)
            for path in (self.folder / "reports" / folder).glob("*.json")
        }

    def bytes_of(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / name).glob("*")) if path.is_file()}


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
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("reports/", "results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The whole graph run once, committed."""
    from dvc.utils.serialize import dump_yaml

    folder = copy_project(tmp_path_factory.mktemp("project"))
    small = apply_profile(parse_yaml(folder / "params.yaml"), read_profile(folder / "profiles/smoke.yaml"))
    dump_yaml(folder / "params.yaml", small | LISTS)
    project = Project(folder)
    project.run("git", "init", "-q")
    project.run("git", "config", "user.name", "t")
    project.run("git", "config", "user.email", "t@t")
    project.run("dvc", "repro")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "baseline")
    yield project
    shutil.rmtree(folder)


# --- the whole graph -------------------------------------------------------------------------------------


def test_a_clean_copy_ends_with_every_metric_and_a_report(project: Project) -> None:
    found, scores = project.metrics(), project.metrics("scores")
    assert set(found) == {*METHODS, "detection_train", "detection_web", "detection_cctv"}
    for method in METHODS:
        assert found[method]["web"]["fd"] == scores[method]["web"]["fd_imagenet"] > 0
        assert found[method]["hr_test"]["psnr"] == scores[method]["hr_test"]["psnr_rgb"] > 0
        assert 6 <= sum(map(len, found[method].values())) <= 8
    report = (project.folder / "reports/report.md").read_text()
    assert "SIMULATED camera" in report
    assert "nan" not in report.lower().split()


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.stages_run("dvc", "repro") == set()
    assert "up to date" in project.run("dvc", "status")


def test_where_and_how_a_run_computes_reruns_nothing(project: Project) -> None:
    variables = {"CHARREG_DEVICE": "cpu", "CHARREG_EXECUTOR": "serial", "CHARREG_LOG_EVERY": "1"}
    assert project.stages_run("dvc", "repro", **variables) == set()


def test_everything_comes_back_from_the_run_cache(project: Project) -> None:
    before = project.metrics()
    for name in ("data/packaged", "data/hr_faces", "data/lr_faces", "data/sr", "models", "reports"):
        shutil.rmtree(project.folder / name)
    (project.folder / "dvc.lock").unlink()
    assert project.stages_run("dvc", "repro") <= {"report"}  # its page and tables lie in Git, not in the cache
    assert project.metrics() == before
    assert project.run("git", "status", "--short") == ""


def test_the_lock_is_known_to_be_of_this_code_without_any_data(project: Project, tmp_path: Path) -> None:
    """As in a fresh clone."""
    project.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert clone.charreg("check-lock") == "dvc.lock: of this very code\n"
    losses, params = clone.folder / "src/charreg/cr/losses.py", clone.folder / "params.yaml"
    losses.write_text(losses.read_text() + "\n# changed\n")
    params.write_text(params.read_text().replace("lambda_gan: 0.2", "lambda_gan: 0.3"))
    found = clone.charreg("check-lock", fails=True)
    assert "pretrain_sr: src/charreg/cr/losses.py modified\n" in found
    assert "pretrain_cr: params.yaml lambda_gan modified\n" in found
    assert "train_peer@vdsr" not in found


def test_kill_9_during_a_training_then_repro_gives_the_same_bytes(project: Project) -> None:
    before = project.bytes_of("models/characteristic")
    shutil.rmtree(project.folder / ".dvc/tmp/charreg")
    arguments = ["dvc", "repro", "--single-item", "--force", "--no-run-cache", "pretrain_cr"]
    victim = subprocess.Popen(
        arguments, cwd=project.folder, env=project.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    states = project.folder / ".dvc/tmp/charreg/pretrain_cr"
    deadline = time.monotonic() + 60
    while not (locks := list(states.glob("*/state-*.json"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert locks, "no state was written"
    holder = int((locks[0].parent / "owner").read_text())
    with contextlib.suppress(ProcessLookupError):  # the run is short and may be over
        os.kill(holder, signal.SIGKILL)
    victim.wait()
    project.run("dvc", "repro", "--no-run-cache", "pretrain_cr")
    assert project.bytes_of("models/characteristic") == before
    project.restore()


# --- questions -------------------------------------------------------------------------------------------


def test_lambda_cr_changes_one_line_reruns_what_follows_and_says_so_in_a_screenful(project: Project) -> None:
    assert project.stages_run("dvc", "exp", "run", "-S", "lambda_cr=0.5") == OF_CR
    assert len(project.run("git", "diff", "--stat", "params.yaml").splitlines()) == 2
    assert project.run("git", "diff", "--numstat", "params.yaml").split()[:2] == ["1", "1"]
    diff = project.run("dvc", "metrics", "diff")
    assert "reports/metrics/cr.json" in diff
    assert len(diff.splitlines()) <= 20
    table = project.run("dvc", "exp", "show", "--only-changed", "--no-pager")
    assert max(map(len, table.splitlines())) <= 160
    table = project.run("make", "experiments")  # without what else changed
    assert max(map(len, table.splitlines())) <= 160
    assert all(name in table for name in ("lambda_cr", "cr.json:web.fd", "cr.json:cctv.fd"))
    project.restore()


def test_the_metrics_are_a_table_that_fits_a_window(project: Project) -> None:
    lines = project.run("dvc", "metrics", "show").splitlines()
    assert max(map(len, lines)) < 160
    assert len(lines) == 1 + len(METHODS) + 3


def test_a_shorter_method_list_leaves_old_rows_out(project: Project) -> None:
    stray = project.folder / "reports/metrics/stranger.json"
    shutil.copy(project.folder / "reports/metrics/cr.json", stray)
    project.run("dvc", "exp", "run", "-S", "methods=[bicubic,cr]")
    rows = (project.folder / "reports/tables/table1_distance.csv").read_text().strip().splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == ["Bicubic", "CR"]
    shown = project.run("dvc", "metrics", "show")
    assert not [name for name in ("cr_stage1", "vdsr", "stranger") if name in shown]
    assert "VDSR" not in (project.folder / "reports/report.md").read_text()
    stray.unlink()
    project.restore()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("lambda_cr=abc", "lambda_cr: found 'abc', wanted a valid number"),
        ("pretrain_sr.iterations=0", "pretrain_sr.iterations: found 0, wanted greater than or equal to 1"),
        ("methods=[bicubic,nope]", "methods: found 'nope', wanted different names out of bicubic"),
        ("peers.vdsr.depth=2", "peers.vdsr.depth: found 2, wanted greater than or equal to 3"),
    ],
)
def test_a_refused_value_costs_no_model_and_says_the_way_back(project: Project, flag: str, message: str) -> None:
    output = project.run("dvc", "exp", "run", "-S", flag, fails=True)
    (line,) = [line for line in output.splitlines() if line.startswith("charreg:")]
    assert message in line
    assert line.endswith("git checkout params.yaml")
    assert "Traceback" not in output
    assert (project.folder / "models/sr_module/model.json").is_file()
    assert (project.folder / "models/cr/model.json").is_file()
    project.restore()


def test_a_misspelt_key_is_refused_by_dvc(project: Project) -> None:
    assert "lamda_cr" in project.run("dvc", "exp", "run", "-S", "lamda_cr=1", fails=True)
    project.restore()


# --- copies of the repository ----------------------------------------------------------------------------


def test_a_queued_change_of_code_runs_that_code_and_fools_nobody(project: Project) -> None:
    """The copy DVC runs a queued experiment in is not the installed charreg."""
    file, result = project.folder / "src/charreg/complexity.py", project.folder / "reports/complexity.json"
    original = file.read_text()
    changed = original.replace('"repeats": repeats,', '"repeats": repeats, "only_in_the_queue": 1,')
    assert changed != original
    file.write_text(changed)
    project.run("dvc", "exp", "run", "--queue", "--name", "changed")
    file.write_text(original)
    project.run("dvc", "queue", "start", "--jobs", "1")
    deadline = time.monotonic() + 180
    while "Success" not in (status := project.run("dvc", "queue", "status")) and time.monotonic() < deadline:
        assert "Failed" not in status, status
        time.sleep(0.5)
    (reference,) = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/changed").split()
    assert "only_in_the_queue" in project.run("git", "show", f"{reference}:src/charreg/complexity.py")
    assert project.run("git", "status", "--short") == ""  # the workspace was left alone
    assert project.stages_run("dvc", "repro") == set()
    assert "only_in_the_queue" not in json.loads(result.read_text())
    file.write_text(changed)
    assert project.stages_run("dvc", "repro", "complexity") == set()  # from the run cache, which knows what ran
    assert "only_in_the_queue" in json.loads(result.read_text())
    project.restore()


def test_the_experiment_in_a_temporary_copy_keeps_its_states_in_the_project(project: Project) -> None:
    assert project.stages_run("dvc", "exp", "run", "--temp", "-S", "lambda_cr_gan=0.5") == OF_CR
    assert project.run("git", "status", "--short") == ""
    states = list((project.folder / ".dvc/tmp/charreg/finetune_joint-cr").glob("*/fingerprint.json"))
    assert any(json.loads(path.read_text())["params"]["lambda_cr_gan"] == 0.5 for path in states)


# --- damage, and a method of one's own -------------------------------------------------------------------


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-100] + b"?" * 100])
def test_a_damaged_cache_object_is_named_and_healed(project: Project, damage: Callable[[bytes], bytes]) -> None:
    """As a disk damages it: DVC, which believes its cache, gives it back and finds everything up to date."""
    target = project.folder / "data/hr_faces/test/images.npy"
    content = target.read_bytes()
    digest = hashlib.md5(content).hexdigest()
    cached = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    copies = [target, project.folder / "data/benchmark/hr_test/images.npy"]
    cached.chmod(0o644)
    cached.write_bytes(damage(content))
    cached.chmod(0o444)
    for copy in copies:
        copy.unlink()
    project.run("dvc", "checkout")
    assert target.read_bytes() == damage(content)
    output = project.run(
        *("python", "stages/train_faces.py", "--hr", "data/hr_faces", "--lr", "data/lr_faces"),
        *("--out", "out", "--scores", "a.json", "--geometry", "b.json", "--figure", "c.png"),
        fails=True,
    )
    assert "data/hr_faces/test/images.npy" in output
    assert "Traceback" not in output
    assert f"{digest[:2]}/{digest[2:]}: its md5 is not its name, removed" in project.charreg("mend-cache")
    assert project.stages_run("dvc", "repro") <= {"hr_faces@test", "benchmark"}
    assert [copy.read_bytes() for copy in copies] == [content, content]
    assert cached.read_bytes() == content
    assert "up to date" in project.run("dvc", "status")
    assert "nothing to do" in project.charreg("mend-cache")


def test_the_worked_example_of_adding_a_method_runs_nothing_else(project: Project) -> None:
    """docs/adding-a-method.md from its file to its row in the report and its curves."""
    own_file = project.folder / "src/charreg/peers/espcn.py"
    own_file.write_text(example("job"), encoding="utf-8")
    params = project.folder / "params.yaml"
    content = parse_yaml(params)
    content["peers"] |= yaml.safe_load(example("entry"))["peers"]
    content |= {"methods": [*METHODS, "espcn"], "trained_peers": ["vdsr", "espcn"]}
    params.write_text(yaml.safe_dump(content, sort_keys=False))
    expected = {"check_params", "train_peer@espcn", "evaluate@espcn", "complexity", "report"}
    assert project.stages_run("dvc", "repro") == expected
    assert "ESPCN (ours)" in (project.folder / "reports/report.md").read_text()
    assert "reports/metrics/espcn.json" in project.run("dvc", "metrics", "show")
    page = drawn(project)
    assert "espcn_losses" in page
    assert "cr_psnr" in page
    assert "figure4_cctv" in page
    own_file.unlink()
    project.restore()


def drawn(project: Project) -> str:
    """The page of `dvc plots show`."""
    assert "index.html" in project.run("dvc", "plots", "show")
    return (project.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
