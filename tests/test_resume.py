"""Trainings that are interrupted, refused or broken, as real processes."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from charreg.core.params import JOINT_VARIANTS, Peers
from charreg.training.checkpoint import _digest
from conftest import draw_hr_faces
from training_fixtures import JOBS, PEER_STAGES, ROOT, SHORT, VARIANT_STAGES, Run, Workshop, section_of

pytest_plugins = ["training_fixtures"]

KILL, TERM, INT = int(signal.SIGKILL), int(signal.SIGTERM), int(signal.SIGINT)


def interrupted(workshop: Workshop, stage: str, name: str, **options: Any) -> Run:
    """The same command until it ends well: killed after 7 steps, stopped after 8, killed after 11."""
    killed = workshop.run(stage, name, ("signal", KILL, 7), **options)
    assert (killed.code, killed.files()) == (-KILL, {})
    stopped = workshop.run(stage, name, ("signal", TERM, 8), **options)
    assert stopped.code == 128 + TERM
    assert "goes on from step 5 of 12" in stopped.text
    assert "stopped at step 8" in stopped.text
    killed = workshop.run(stage, name, ("signal", KILL, 11), **options)
    assert "goes on from step 8 of 12" in killed.text
    ended = workshop.run(stage, name, **options)
    assert "goes on from step 10 of 12" in ended.text
    assert ended.code == 0, ended.text
    return ended


@pytest.mark.parametrize("stage", JOBS)
def test_an_interrupted_training_ends_bit_identical(bn_workshop: Workshop, stage: str) -> None:
    whole = bn_workshop.run(stage, f"{stage}-whole")
    assert whole.code == 0, whole.text
    files = whole.files()
    sheets = {f"curves/sheet-{step:07d}.png" for step in (5, 10, 12)}
    assert set(files) > {"model/model.json", "curves/curves.tsv", "curves/health.tsv", *sheets}
    steps = [line.split("\t")[0] for line in files["curves/curves.tsv"].decode().splitlines()]
    assert steps == ["step", "5", "10", "12"]
    assert interrupted(bn_workshop, stage, f"{stage}-parts").files() == files


# A loss that only the last phase of a system has.
LATE = {"srgan": "l_adv", "sicnn": "l_si", "csri": "l_id_native", "lrgan": "lh_pixel"}
# What a state must hold beside the super-resolver, by the beginning of its names.
ALSO_KEPT = {
    "srgan": "optimiser.d/",
    "fsrnet": "optimiser.fsrnet/",
    "sicnn": "optimiser.cnn_r/",
    "cyclegan": "network.history_",
    "csri": "network.native_head/",
    "lrgan": "network.high_to_low/",
}


def last_state(workshop: Workshop, name: str) -> Path:
    return workshop.states(name)[-1].with_suffix(".safetensors")


def test_every_compared_system_is_interrupted() -> None:
    assert tuple(f"train_peer@{name}" for name in Peers.model_fields) == PEER_STAGES
    assert tuple(f"finetune_joint@{name}" for name in JOINT_VARIANTS if name != "cr") == VARIANT_STAGES


@pytest.mark.parametrize("stage", [*PEER_STAGES, *VARIANT_STAGES])
def test_a_killed_training_of_a_compared_system_ends_bit_identical(bn_workshop: Workshop, stage: str) -> None:
    """Where it has phases, the last begins after step 3: it goes on from step 2, before it, and from 4, amid it."""
    _, _, system = stage.partition("@")
    whole_name, parts, forgetful = f"{stage}-whole", f"{stage}-parts", f"{stage}-forgetful"
    bn_workshop.set_params({f"{section_of(stage)}.{key}": value for key, value in SHORT.items()})
    try:
        whole = bn_workshop.run(stage, whole_name)
        assert whole.code == 0, whole.text
        for step in (3, 5) if system in LATE else (5,):
            killed = bn_workshop.run(stage, parts, ("signal", KILL, step))
            assert (killed.code, killed.files()) == (-KILL, {})
        assert ("goes on from step 2 of 6" in killed.text) == (system in LATE)
        if system in ALSO_KEPT:
            shutil.copytree(killed.out, bn_workshop.folder / "runs" / forgetful)
            wrong = bn_workshop.run(stage, forgetful, ("forget", ALSO_KEPT[system]))
            assert wrong.code == 0, wrong.text
            assert wrong.files() != whole.files()  # the comparison would notice
        if system == "cyclegan":  # its images are exchanged by now, no longer gathered
            assert int(load_file(last_state(bn_workshop, parts))["network.history_y/filled"]) == 6
        ended = bn_workshop.run(stage, parts)
    finally:
        bn_workshop.set_params({})
    assert "goes on from step 4 of 6" in ended.text
    assert ended.code == 0, ended.text
    assert ended.files() == whole.files()
    assert last_state(bn_workshop, parts).read_bytes() == last_state(bn_workshop, whole_name).read_bytes()
    if system in LATE:
        rows = [line.split("\t") for line in whole.files()["curves/curves.tsv"].decode().splitlines()]
        late = [float(row[rows[0].index(LATE[system])]) for row in rows[1:]]
        assert len(late) == 2
        assert all(late), "the last phase has to train up to step 4 and after it"


def test_two_threads_too_and_without_batch_norm(workshop: Workshop) -> None:
    whole = workshop.run("finetune_joint", "whole", threads=2)
    assert whole.code == 0, whole.text
    assert workshop.run("finetune_joint", "fresh", threads=2).files() == whole.files()
    assert workshop.run("finetune_joint", "parts", ("signal", KILL, 8), threads=2).code == -KILL
    assert workshop.run("finetune_joint", "parts", threads=2).files() == whole.files()


def test_two_fresh_runs_are_equal_and_another_seed_is_not(workshop: Workshop) -> None:
    first, second = (workshop.run("pretrain_inverse_cr", name).files() for name in ("first", "second"))
    assert first == second
    workshop.set_params({"seeds": [1]})
    other = workshop.run("pretrain_inverse_cr", "other").files()
    name = "model/inverse_regulariser.safetensors"
    assert other[name] != first[name]


def test_a_finished_training_exports_the_same_bytes_without_a_step(workshop: Workshop) -> None:
    first = workshop.run("pretrain_sr", "run")
    files = first.files()
    for folder in ("model", "curves"):
        shutil.rmtree(first.out / folder)
    again = workshop.run("pretrain_sr", "run", ("no_steps",))
    assert again.code == 0, again.text
    assert again.files() == files
    assert [path.stem for path in workshop.states("run")] == ["state-000000010", "state-000000012"]
    pictures = [np.asarray(Image.open(path)) for path in sorted((first.out / "curves").glob("*.png"))]
    assert len({picture.tobytes() for picture in pictures}) == 3  # the sheets show progress


@pytest.mark.parametrize(("number", "status"), [(TERM, 143), (INT, 130)])
def test_a_signal_from_outside_stops_within_two_seconds(workshop: Workshop, number: int, status: int) -> None:
    whole = workshop.run("pretrain_sr", "whole")
    run = workshop.start("pretrain_sr", "stopped", ("slow", 0.3))
    while not workshop.states("stopped"):
        time.sleep(0.02)
    os.kill(run.pid, number)
    clock = time.monotonic()
    assert run.wait().code == status
    assert time.monotonic() - clock < 2
    assert run.errors == []
    assert "the same command continues" in run.text
    assert run.files() == {}
    assert workshop.run("pretrain_sr", "stopped").files() == whole.files()


def test_a_second_run_is_refused_by_name_and_a_killed_one_blocks_nobody(workshop: Workshop) -> None:
    holder = workshop.start("pretrain_sr", "run", ("slow", 0.5))
    while not workshop.states("run"):
        time.sleep(0.02)
    second = workshop.run("pretrain_sr", "run")
    assert second.code == 1
    assert second.errors == [f"charreg: pretrain_sr: already runs as process {holder.pid}; wait for it or stop it"]
    os.kill(holder.pid, signal.SIGKILL)
    assert holder.wait().code == -signal.SIGKILL
    third = workshop.run("pretrain_sr", "run")
    assert third.code == 0, third.text


def test_a_full_disk_stops_the_training_and_keeps_the_earlier_state(workshop: Workshop) -> None:
    workshop.set_params({"pretrain_sr.sheet_every": 12})
    whole = workshop.run("pretrain_sr", "whole")
    workshop.run("pretrain_sr", "run", ("signal", KILL, 7))
    before = {path: path.read_bytes() for path in workshop.states("run")[0].parent.glob("state-*")}
    size = workshop.states("run")[0].with_suffix(".safetensors").stat().st_size
    full = workshop.run("pretrain_sr", "run", ("file_size", size - 1000))
    assert full.code == 1
    assert len(full.errors) == 1
    assert "state-000000010.safetensors: File too large; the training stops" in full.errors[0]
    assert full.files() == {}
    assert {path: path.read_bytes() for path in workshop.states("run")[0].parent.glob("state-*")} == before
    assert workshop.run("pretrain_sr", "run").files() == whole.files()


def test_an_export_that_does_not_fit_loses_no_training(workshop: Workshop) -> None:
    whole = workshop.run("pretrain_sr", "run")
    files = whole.files()
    full = workshop.run("pretrain_sr", "run", ("file_size", 8000), ("no_steps",))
    assert full.code == 1
    assert len(full.errors) == 1
    assert "File too large; the training is kept" in full.errors[0]
    assert full.files() == files  # the earlier export is whole
    assert not list(whole.out.glob(".*partial*"))


def test_what_changed_is_named_and_the_old_state_is_not_used(workshop: Workshop) -> None:
    def starts_anew(because: str, *plans: tuple[Any, ...], **options: Any) -> None:
        run = workshop.run("pretrain_sr", "run", ("signal", TERM, 1), *plans, **options)
        said = [line for line in run.text.splitlines() if "starts anew" in line]
        assert said == [f"pretrain_sr: starts anew, the earlier resume state is not used: {because}"], run.text
        assert "goes on" not in run.text

    workshop.run("pretrain_sr", "run", ("signal", TERM, 7))
    workshop.set_params({"pretrain_sr.lr": 1e-3})
    starts_anew("params changed (pretrain_sr.lr)")
    starts_anew("torch changed", ("torch", "9.9.9"))
    workshop.set_params({"pretrain_sr.lr": 1e-3, "pretrain_sr.batch": 2, "super_resolver.blocks": [1, 1, 1]})
    starts_anew("params changed (pretrain_sr.batch, super_resolver.blocks), torch changed")

    workshop.set_params({})
    assert "starts anew" not in workshop.run("pretrain_sr", "kept", ("signal", TERM, 1)).text  # nothing earlier

    copy = workshop.folder / "copy" / "charreg"
    shutil.copytree(ROOT / "src" / "charreg", copy)
    losses = copy / "losses.py"
    losses.write_text(losses.read_text() + "\n# another version\n")
    run = workshop.run("pretrain_sr", "kept", ("signal", TERM, 1), path=(str(copy.parent),))
    assert "starts anew, the earlier resume state is not used: code changed\n" in run.text

    workshop.run("pretrain_sr", "data", ("signal", TERM, 1))
    shutil.rmtree(workshop.folder / "hr")
    with np.errstate(over="ignore"):
        draw_hr_faces(workshop.folder / "hr", first=9)
    run = workshop.run("pretrain_sr", "data", ("signal", TERM, 1))
    assert "starts anew, the earlier resume state is not used: data changed (hr)\n" in run.text


def test_a_change_that_is_taken_back_finds_its_state_again(workshop: Workshop) -> None:
    workshop.run("pretrain_sr", "run", ("signal", TERM, 7))
    workshop.set_params({"pretrain_sr.lr": 1e-3})
    workshop.run("pretrain_sr", "run", ("signal", TERM, 1))
    workshop.set_params({})
    assert "goes on from step 7" in workshop.run("pretrain_sr", "run").text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_state_falls_back_and_still_ends_bit_identical(workshop: Workshop) -> None:
    whole = workshop.run("pretrain_sr", "whole")
    workshop.run("pretrain_sr", "run", ("signal", TERM, 11))  # states of 10 and 11
    flip(workshop.states("run")[-1].with_suffix(".safetensors"))
    once = workshop.run("pretrain_sr", "run", ("signal", TERM, 11))
    assert "state-000000011.json: damaged (sha256" in once.text
    assert "goes on from step 10 of 12" in once.text
    for note in workshop.states("run"):
        flip(note)
    both = workshop.run("pretrain_sr", "run")
    assert "no whole resume state left, starts from step 0" in both.text
    assert both.files() == whole.files()


@pytest.mark.parametrize("stage", JOBS)
def test_a_loss_that_is_not_finite_stops_the_stage(bn_workshop: Workshop, stage: str) -> None:
    loss = {"train_centreface": "l_recognition", "pretrain_sr": "l_d_sr", "pretrain_inverse_cr": "content"}.get(
        stage, "l_cr"
    )
    run = bn_workshop.run(stage, f"{stage}-nan", ("loss", 5, loss))
    assert run.code == 1
    assert len(run.errors) == 1
    assert f"loss {loss} is not finite at step 5; nothing is exported" in run.errors[0]
    assert sorted(path.name for path in run.out.iterdir() if not path.name.startswith("log")) == [".dvc"]
    assert [path.stem for path in bn_workshop.states(f"{stage}-nan")] == ["state-000000005"]  # of before


def test_weights_broken_by_the_last_update_are_not_exported(workshop: Workshop) -> None:
    run = workshop.run("pretrain_sr", "run", ("weights", 12))
    assert run.code == 1
    assert len(run.errors) == 1
    assert "weights of super_resolver are not finite after step 12; nothing is exported" in run.errors[0]
    assert run.files() == {}
    assert [path.stem for path in workshop.states("run")][-1] == "state-000000010"


def test_an_order_changed_step_would_be_noticed(workshop: Workshop) -> None:
    """The comparison can fail: one flipped bit of a state changes the delivered bytes."""
    whole = workshop.run("pretrain_sr", "whole")
    workshop.run("pretrain_sr", "run", ("signal", TERM, 8))
    note = workshop.states("run")[-1]
    content = bytearray(note.with_suffix(".safetensors").read_bytes())
    content[-2] ^= 1
    state = json.loads(note.read_text())
    assert hashlib.sha256(content).hexdigest() != state["sha256"]
    state["sha256"] = _digest(bytes(content), state["note"])
    note.with_suffix(".safetensors").write_bytes(content)
    note.write_text(json.dumps(state))
    assert workshop.run("pretrain_sr", "run").files() != whole.files()
