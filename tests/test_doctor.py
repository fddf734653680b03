"""`charreg doctor`: what it says of a sound project, and that every injected fault is a FAULT in one line."""

import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from charreg.app.cli import app
from charreg.app.doctor import examine, machine, read_settings, trainings
from charreg.app.doctor.finding import Finding, duration, size
from charreg.app.doctor.machine import processes_of
from charreg.app.doctor.photographs import check_roles
from charreg.app.doctor.trainings import Models, makes, measure
from charreg.core.errors import run
from charreg.core.models import Model
from charreg.core.params import Params
from charreg.training.checkpoint import Scratch
from charreg.training.loop import Training
from conftest import toy_content
from data_fixtures import damaged_files, encoded, portrait

Disk = namedtuple("Disk", "total used free")  # what shutil.disk_usage gives
SMALL = {"width": 4, "blocks": 1, "d_width": 4, "batch": 4}  # of SRGAN
Check = Callable[..., dict[str, Finding]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Findings by subject, in a project with folders of photographs and toy params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    content = toy_content(
        {"methods": ["bicubic", "vdsr", "srgan", "cr"], "joint_variants": ["cr"], "trained_peers": ["vdsr", "srgan"]}
    )
    content["peers"] = {name: content["peers"][name] for name in ("vdsr", "srgan")}
    content["peers"]["vdsr"] |= {"width": 4, "depth": 3, "iterations": 500, "batch": 8}
    content["peers"]["srgan"] |= SMALL
    for key in ("hr_roles", "lr_roles"):
        for role, source in content[key].items():
            source |= {"source": "folder", "path": f"raw/{key}/{role}"}
            for person in ("ann", "bob"):
                folder = tmp_path / source["path"] / person
                folder.mkdir(parents=True)
                (folder / "1.png").write_bytes(encoded(Image.fromarray(portrait()), "PNG"))
            if key == "lr_roles":
                (tmp_path / f"{role}.txt").write_text("", encoding="utf-8")
                source["exclude"] = f"{role}.txt"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/long.yaml").write_text("epoch_scale: 1000\n", encoding="utf-8")

    def check(*settings: str, profile: Path | None = None, timing: bool = False) -> dict[str, Finding]:
        found = list(examine(Path("params.yaml"), profile, settings, timing))
        assert all("\n" not in str(finding) for finding in found)
        return {finding.subject: finding for finding in found}

    return check


def faults(found: dict[str, Finding]) -> set[str]:
    return {subject for subject, finding in found.items() if finding.level == "FAULT"}


def test_a_sound_project_has_no_fault(check: Check) -> None:
    found = check()
    assert faults(found) == set()
    assert found["hr_roles.train"].text == "folder raw/hr_roles/train: 2 photographs"
    assert found["train_peer@vdsr"].text == "500 steps of batch 8"
    assert {"pretrain_sr", "finetune_joint@cr", "train_peer@srgan", "disk", "device", "feature network"} <= found.keys()
    assert "time of all trainings" not in found


def test_with_timing_every_training_and_role_has_a_time(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "PATIENCE", 0.0)  # the least number of steps
    found = check(timing=True)
    assert faults(found) == set()
    assert found["pretrain_sr"].text.endswith(" s)")
    assert "6 steps of batch 4 x" in found["pretrain_sr"].text
    assert found["lr_roles.web"].text.startswith("folder raw/lr_roles/web: 2 photographs, ")
    assert " s each / 1 processes)" in found["lr_roles.web"].text
    assert "of training in one process on this machine" in found["time of all trainings"].text
    assert found["memory"].level in ("ok", "warning")


def test_measured_steps_reach_every_phase_and_change_no_weight(
    make_params: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "PATIENCE", 1e9)
    small = {f"peers.srgan.{key}": value for key, value in {**SMALL, "iterations": 50}.items()}
    params = make_params({**small, "trained_peers": ["srgan"]})
    made = makes(params, tmp_path, torch.device("cpu"))
    models = Models()
    first = Training(made["train_centreface@centreface"](models))
    models["train_centreface@centreface"] = Model(first.exported(), first.job.blueprints, {}, "")
    job = made["train_peer@srgan"](models)
    before = {name: value.clone() for name, value in job.networks["super_resolver"].named_parameters()}
    steps, original = [], job.step

    def step(number: int) -> Any:
        steps.append(number)
        return original(number)

    job.step = step  # type: ignore[method-assign]
    assert trainings.seconds_of_a_step(Training(job)) > 0
    late = sum(number >= 40 for number in steps[trainings.WARM_UP :])
    assert len(steps) == trainings.WARM_UP + trainings.STEPS
    assert late == pytest.approx(0.2 * trainings.STEPS, abs=1)  # gan_share of the run
    for name, value in job.networks["super_resolver"].named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)


def test_sizes_are_those_of_the_files(make_params: Callable[..., Params], tmp_path: Path) -> None:
    training = Training(makes(make_params(), tmp_path, torch.device("cpu"))["pretrain_sr"](Models()))
    training.advance()
    scratch = Scratch("pretrain_sr", {}, tmp_path)
    scratch.folder.mkdir(parents=True)
    scratch.save(1, training.tensors(), training.note())
    written = next(scratch.folder.glob("*.safetensors")).stat().st_size
    found = measure("pretrain_sr", training, 1, timing=False)
    assert found.state_bytes == pytest.approx(written, rel=0.2)


# --- faults ----------------------------------------------------------------------------------------------


def test_an_unknown_profile_and_a_wrong_key_stop_at_the_parameters(check: Check) -> None:
    found = check(profile=Path("profiles/longg.yaml"))
    assert found.keys() == {"parameters"}
    assert found["parameters"].text == "profiles/longg.yaml: no such profile, found long"
    assert "lamda_cr: unknown key" in check("lamda_cr=1")["parameters"].text
    assert "lambda_cr: found 'abc'" in check("lambda_cr=abc")["parameters"].text
    assert "wanted key=value" in check("lambda_cr")["parameters"].text


def test_settings_follow_the_profile(check: Check) -> None:
    found = check("pretrain_sr.iterations=7", "seeds=[0, 1]", profile=Path("profiles/long.yaml"))
    assert found["pretrain_sr"].text == "7,000 steps of batch 4 x 2 seeds"
    assert found["train_peer@vdsr"].text.endswith(" x 2 seeds")
    assert (
        " seeds"
        not in check("seeds=[0, 1]", "peer_seeds=[0]", profile=Path("profiles/long.yaml"))["train_peer@vdsr"].text
    )


def test_missing_data_is_named(check: Check, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "raw/lr_roles/web")
    (tmp_path / "cctv.txt").unlink()
    found = check()
    assert faults(found) == {"lr_roles.web", "lr_roles.cctv"}
    assert "raw/lr_roles/web: no such folder" in found["lr_roles.web"].text
    assert "cctv.txt" in found["lr_roles.cctv"].text
    assert found["disk"].level == "unknown"
    assert "unknown until there is lr_roles.cctv, lr_roles.web" in found["disk"].text


def test_packaged_photographs_that_are_yet_to_be_made_are_counted(check: Check) -> None:
    found = check("lr_roles.web={source: packaged, path: data/packaged/photos/web, exclude: web.txt}")
    assert found["lr_roles.web"].text == "data/packaged/photos/web: 2 photographs, yet to be made"
    found = check("lr_roles.web={source: packaged, path: data/packaged/photos/wep, exclude: web.txt}")
    assert "packaged_photos makes none of this name" in found["lr_roles.web"].text


def test_composed_photographs_that_are_yet_to_be_made_are_counted_and_their_portraits_checked(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "PATIENCE", 0.0)
    composed = (
        "lr_roles.cctv={source: packaged, path: data/composed/cctv, exclude: cctv.txt}",
        "composed_photos.cctv={source: folder, path: raw/portraits, crop: ready, photos: 48}",
    )
    for person in ("cat", "dan"):
        folder = tmp_path / "raw/portraits" / person
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(encoded(Image.fromarray(portrait()).resize((96, 96)), "PNG"))
    found = check(*composed)
    assert faults(found) == set()
    assert found["lr_roles.cctv"].text == "data/composed/cctv: 48 photographs, yet to be made"
    assert found["composed_photos.cctv"].text == "folder raw/portraits: 2 photographs"
    timed = check(*composed, timing=True)
    assert faults(timed) == set()
    assert "48 photographs, yet to be made" in timed["lr_roles.cctv"].text
    assert not (tmp_path / "data").exists()

    (tmp_path / "raw/portraits/ann.png").write_bytes((tmp_path / "raw/portraits/cat/1.png").read_bytes())
    found = check(*composed)
    assert faults(found) == {"composed_photos.cctv"}
    assert "ann.png has no identity" in found["composed_photos.cctv"].text
    shutil.rmtree(tmp_path / "raw/portraits")
    found = check(*composed)
    assert "raw/portraits: no such folder" in found["composed_photos.cctv"].text
    found = check("lr_roles.cctv={source: packaged, path: data/composed/cctw, exclude: cctv.txt}")
    assert "stage composed_photos makes none of this name" in found["lr_roles.cctv"].text


def test_unreadable_photographs_are_a_warning_and_nothing_else_a_fault(check: Check, tmp_path: Path) -> None:
    folder = tmp_path / "raw/lr_roles/web"
    (folder / "ann/2.jpg").write_bytes(damaged_files()["truncated.jpg"][0])
    levels = {}
    for state in ("one", "all"):
        if state == "all":
            for path in folder.rglob("*.png"):
                path.write_bytes(b"")
        found = check_roles(read_settings(Path("params.yaml"), None, []), timing=True)
        levels[state] = found["lr_roles.web"].findings[0]
    assert levels["one"].level == "warning"
    assert "1 of 3 tried are truncated (ann/2.jpg)" in levels["one"].text
    assert levels["all"].level == "FAULT"


def test_too_few_people_to_hold_some_out_are_a_fault(check: Check) -> None:
    found = check("train_centreface.holdout_ids=5")
    assert faults(found) == {"people of hr_roles.train"}
    assert found["people of hr_roles.train"].text.startswith("2 with 1 portraits or more, at least 7 wanted")


def test_roles_that_share_photographs_are_a_warning(check: Check) -> None:
    found = check("lr_roles.web.path=raw/lr_roles/train")["lr_roles.web"]
    assert found.level == "warning"
    assert "the same photographs as lr_roles.train" in found.text


def test_weights_are_checked(check: Check, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    found = check("evaluate.features=inception", "evaluate.weights=w.pth")
    assert faults(found) == {"feature network"}
    assert "differs from 6726825d0af5" in found["feature network"].text
    assert "charreg fetch-weights inception" in check("evaluate.features=inception")["feature network"].text
    found = check("peers.srgan.vgg=none.pth", f"peers.srgan.vgg_sha256={'f' * 64}")
    assert faults(found) == {"train_peer@srgan"}
    assert "none.pth" in found["train_peer@srgan"].text
    assert "charreg fetch-weights vgg19" in found["train_peer@srgan"].text


def test_too_little_disk_is_a_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**12, 10**12, 2**20))
    found = check()
    assert faults(found) == {"disk"}
    assert "1 MiB there" in found["disk"].text


def test_too_little_memory_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.available_memory() > 2**20
    assert machine.check_memory(1, []).level in ("ok", "warning")
    assert machine.check_memory(1, ["lr_roles.web"]).level == "unknown"
    monkeypatch.setattr(machine, "available_memory", lambda: 2**20)
    assert machine.check_memory(8, []).level == "FAULT"


def test_processes_a_batch_cannot_be_shared_by_are_a_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARREG_LAUNCH", "torchrun --nproc-per-node 3")
    found = check()
    assert "pretrain_sr" in faults(found)
    assert found["pretrain_sr"].text == "batch 4, wanted a multiple of the 3 processes of CHARREG_LAUNCH"
    assert found["launch"].text == "torchrun --nproc-per-node 3: 3 processes on each of 1 nodes"


def test_a_device_that_is_not_there_is_a_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    monkeypatch.setenv("CHARREG_DEVICE", "cuda")
    assert "no CUDA device" in check()["device"].text


def test_a_peer_without_a_job_file_is_a_fault(check: Check, tmp_path: Path) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content["peers"]["nobody"] = {"iterations": 6}
    content["trained_peers"] += ["nobody"]
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = check()
    assert faults(found) == {"train_peer@nobody"}
    assert "no file src/charreg/peers/nobody.py" in found["train_peer@nobody"].text


# --- the command and its words ---------------------------------------------------------------------------


def test_the_command_prints_a_line_a_check_and_its_status_tells(
    check: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(*words: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["charreg", "doctor", *words])
        with pytest.raises(SystemExit) as stop:
            run(app)
        return int(stop.value.code or 0), capsys.readouterr().out.splitlines()

    code, lines = status("long", "--no-timing", "--set", "seeds=[3]")
    assert code == 0
    assert lines[0] == "ok       parameters: params.yaml with profiles/long.yaml"
    assert all(line.startswith(("ok  ", "warning")) for line in lines)
    assert status("longer", "--no-timing") == (
        1,
        ["FAULT    parameters: profiles/longer.yaml: no such profile, found long"],
    )


@pytest.mark.parametrize(
    ("launch", "wanted"),
    [
        ("python", (1, 1)),
        ("torchrun --nproc-per-node 8", (8, 1)),
        ("torchrun --nproc_per_node=4 --nnodes=2 --rdzv-backend c10d", (4, 2)),
    ],
)
def test_processes_of_a_launch(launch: str, wanted: tuple[int, int]) -> None:
    assert processes_of(launch) == wanted


def test_sizes_and_times_in_words() -> None:
    assert [size(n) for n in (7, 2**20, 3 * 2**40)] == ["7 B", "1 MiB", "3,072.0 GiB"]
    assert [duration(s) for s in (0.5, 90, 3600 * 5, 86400 * 30)] == ["0.5 s", "1.5 min", "5.0 h", "30 days"]
