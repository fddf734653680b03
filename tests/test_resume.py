"""Trainings that are interrupted, refused or broken, as real processes of the stages."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from charreg.training.checkpoint import _digest
from conftest import draw_hr_faces
from training_fixtures import NO_BATCH_NORM, ROOT, ForkServer, Run, Workshop, wait_for

pytestmark = pytest.mark.slow

pytest_plugins = ["training_fixtures"]

KILL, TERM, INT = int(signal.SIGKILL), int(signal.SIGTERM), int(signal.SIGINT)


@pytest.fixture(scope="module")
def module_workshop(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"), server, NO_BATCH_NORM)


@pytest.fixture
def shared(module_workshop: Workshop) -> Iterator[Workshop]:
    """One workshop for all; a test names its runs after itself, and its parameters end with it."""
    yield module_workshop
    module_workshop.set_params({})


@pytest.fixture(scope="module")
def whole(module_workshop: Workshop) -> dict[str, bytes]:
    """What an uninterrupted pretrain_sr delivers."""
    run = module_workshop.run("pretrain_sr", "whole")
    assert run.code == 0, run.text
    return run.files()


def said_step(run: Run) -> str:
    """The step a run says it goes on from."""
    return run.text.partition("goes on from step ")[2].partition(" ")[0]


@pytest.mark.parametrize(("stage", "threads"), [("finetune_joint", 1), ("pretrain_sr", 2), ("train_peer@lrgan", 1)])
def test_an_interrupted_training_ends_bit_identical(bn_workshop: Workshop, stage: str, threads: int) -> None:
    """The same command until it ends well: killed after 4 and 7 steps, stopped after 8, killed after 11."""
    uninterrupted = bn_workshop.run(stage, f"{stage}-whole", threads=threads)
    assert uninterrupted.code == 0, uninterrupted.text
    files = uninterrupted.files()
    sheets = {f"curves/sheet-{step:07d}.png" for step in (5, 10, 12)}
    assert set(files) > {"model/model.json", "curves/curves.tsv", "curves/health.tsv", *sheets}
    steps = [line.split("\t")[0] for line in files["curves/curves.tsv"].decode().splitlines()]
    assert steps == ["step", "5", "10", "12"]

    for number, step, code, begins in ((KILL, 7, -KILL, ""), (TERM, 8, 143, "5"), (KILL, 11, -KILL, "8")):
        run = bn_workshop.run(stage, f"{stage}-parts", ("signal", number, step), threads=threads)
        assert (run.code, run.files(), said_step(run)) == (code, {}, begins)
        assert ("stopped at step 8" in run.text) == (number == TERM)
    ended = bn_workshop.run(stage, f"{stage}-parts", threads=threads)
    assert (ended.code, said_step(ended)) == (0, "10"), ended.text
    assert ended.files() == files


def test_a_finished_training_exports_the_same_bytes_without_a_step(shared: Workshop, whole: dict[str, bytes]) -> None:
    first = shared.run("pretrain_sr", "again")
    assert first.files() == whole  # of another process
    for folder in (first.model, first.curves):
        shutil.rmtree(folder)
    again = shared.run("pretrain_sr", "again", ("no_steps",))
    assert again.code == 0, again.text
    assert again.files() == whole
    assert [path.stem for path in shared.states("again")] == ["state-000000010", "state-000000012"]
    pictures = [np.asarray(Image.open(path)) for path in sorted(first.curves.glob("*.png"))]
    assert len({picture.tobytes() for picture in pictures}) == 3  # the sheets show progress

    full = shared.run("pretrain_sr", "again", ("file_size", 8000), ("no_steps",))
    assert (full.code, len(full.errors)) == (1, 1)
    assert "File too large; the training is kept" in full.errors[0]
    assert full.files() == whole  # the earlier export is whole
    assert not list(full.out.glob("*/.*partial*"))


@pytest.mark.parametrize(("number", "status"), [(TERM, 143), (INT, 130)])
def test_a_signal_from_outside_stops_within_two_seconds(
    shared: Workshop, whole: dict[str, bytes], number: int, status: int
) -> None:
    name = f"stopped-{number}"
    run = shared.start("pretrain_sr", name, ("slow", 0.3))
    wait_for(lambda: shared.states(name))
    os.kill(run.pid, number)
    clock = time.monotonic()
    assert run.wait().code == status
    assert time.monotonic() - clock < 2
    assert run.errors == []
    assert "the same command continues" in run.text
    assert run.files() == {}
    assert shared.run("pretrain_sr", name).files() == whole


def test_a_second_run_is_refused_by_name_and_a_killed_one_blocks_nobody(shared: Workshop) -> None:
    holder = shared.start("pretrain_sr", "held", ("slow", 0.5))
    wait_for(lambda: shared.states("held"))
    second = shared.run("pretrain_sr", "held")
    assert second.code == 1
    assert second.errors == [f"charreg: pretrain_sr: already runs as process {holder.pid}; wait for it or stop it"]
    os.kill(holder.pid, signal.SIGKILL)
    assert holder.wait().code == -signal.SIGKILL
    third = shared.run("pretrain_sr", "held")
    assert third.code == 0, third.text


def test_a_full_disk_stops_the_training_and_keeps_the_earlier_state(shared: Workshop, whole: dict[str, bytes]) -> None:
    rare_sheets = {"CHARREG_SHEET_EVERY": "12"}  # or one would not fit either
    shared.run("pretrain_sr", "full", ("signal", KILL, 7), env=rare_sheets)
    before = {path: path.read_bytes() for path in shared.states("full")[0].parent.glob("state-*")}
    size = shared.states("full")[0].with_suffix(".safetensors").stat().st_size
    full = shared.run("pretrain_sr", "full", ("file_size", size - 1000), env=rare_sheets)
    assert (full.code, len(full.errors)) == (1, 1)
    assert "state-000000010.safetensors: File too large; the training stops" in full.errors[0]
    assert full.files() == {}
    assert {path: path.read_bytes() for path in shared.states("full")[0].parent.glob("state-*")} == before
    ended = shared.run("pretrain_sr", "full", env=rare_sheets).files()
    assert ended == {name: content for name, content in whole.items() if name in ended}
    assert set(whole) - set(ended) == {f"curves/sheet-{step:07d}.png" for step in (5, 10)}


def test_what_changed_is_named_and_the_old_state_is_not_used(workshop: Workshop) -> None:
    def starts_anew(because: str, *plans: tuple[Any, ...], **options: Any) -> None:
        run = workshop.run("pretrain_sr", "run", ("signal", TERM, 1), *plans, **options)
        said = [line for line in run.text.splitlines() if "starts anew" in line]
        assert said == [f"pretrain_sr: starts anew, the earlier resume state is not used: {because}"], run.text
        assert said_step(run) == ""

    workshop.run("pretrain_sr", "run", ("signal", TERM, 7))
    workshop.set_params({"pretrain_sr.lr": 1e-3})
    starts_anew("params changed (pretrain_sr.lr)")
    workshop.set_params({})  # what is taken back finds its state again
    assert said_step(workshop.run("pretrain_sr", "run", ("signal", TERM, 8))) == "7"
    workshop.set_params({"pretrain_sr.batch": 2, "super_resolver.blocks": [1, 1, 1]})
    starts_anew("params changed (pretrain_sr.batch, super_resolver.blocks), torch changed", ("torch", "9.9.9"))

    workshop.set_params({})
    assert "starts anew" not in workshop.run("pretrain_sr", "kept", ("signal", TERM, 1)).text  # nothing earlier
    copy = workshop.folder / "copy"
    for folder in ("src", "stages"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    with open(copy / "src/charreg/cr/losses.py", "a", encoding="utf-8") as losses:
        losses.write("\n# another version\n")
    run = workshop.run("pretrain_sr", "kept", ("signal", TERM, 1), root=copy)
    assert "starts anew, the earlier resume state is not used: code changed\n" in run.text

    shutil.rmtree(workshop.folder / "hr")
    with np.errstate(over="ignore"):
        draw_hr_faces(workshop.folder / "hr", first=9)
    run = workshop.run("pretrain_sr", "kept", ("signal", TERM, 1), root=copy)
    assert "starts anew, the earlier resume state is not used: data changed (hr)\n" in run.text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_state_falls_back_and_still_ends_bit_identical(
    shared: Workshop, whole: dict[str, bytes]
) -> None:
    shared.run("pretrain_sr", "damaged", ("signal", TERM, 11))  # states of 10 and 11
    flip(shared.states("damaged")[-1].with_suffix(".safetensors"))
    once = shared.run("pretrain_sr", "damaged", ("signal", TERM, 11))
    assert "state-000000011.json: damaged (sha256" in once.text
    assert said_step(once) == "10"
    for note in shared.states("damaged"):
        flip(note)
    both = shared.run("pretrain_sr", "damaged")
    assert "no whole resume state left, starts from step 0" in both.text
    assert both.files() == whole


def test_a_bit_changed_with_its_digest_would_be_noticed(shared: Workshop, whole: dict[str, bytes]) -> None:
    """The comparison can fail: one flipped bit of a state changes the delivered bytes."""
    shared.run("pretrain_sr", "forged", ("signal", TERM, 8))
    note = shared.states("forged")[-1]
    content = bytearray(note.with_suffix(".safetensors").read_bytes())
    content[-2] ^= 1
    state = json.loads(note.read_text())
    assert hashlib.sha256(content).hexdigest() != state["sha256"]
    state["sha256"] = _digest(bytes(content), state["note"])
    note.with_suffix(".safetensors").write_bytes(content)
    note.write_text(json.dumps(state))
    assert shared.run("pretrain_sr", "forged").files() != whole


@pytest.mark.parametrize(
    ("plan", "message", "last"),
    [
        (("loss", 5, "l_d_sr"), "loss l_d_sr is not finite at step 5; nothing is exported", 5),
        (("weights", 12), "weights of super_resolver are not finite after step 12; nothing is exported", 10),
    ],
    ids=["loss", "weights"],
)
def test_what_is_not_finite_stops_the_stage_in_one_line(
    shared: Workshop, plan: tuple[Any, ...], message: str, last: int
) -> None:
    run = shared.run("pretrain_sr", f"broken-{plan[0]}", plan)
    assert (run.code, len(run.errors)) == (1, 1)
    assert message in run.errors[0]
    assert not run.files()
    assert shared.states(f"broken-{plan[0]}")[-1].stem == f"state-{last:09d}"  # of before
