"""A resume state is whole or absent, whatever happens while it is written or afterwards."""

import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from charreg.core import files
from charreg.core.errors import CharregError
from charreg.core.scratch import KEPT_FOLDERS
from charreg.training.checkpoint import Scratch, _digest, optimiser_tensors, restore_optimiser
from training_fixtures import ForkServer, points_of_writing, toy_state

pytest_plugins = ["training_fixtures"]


def scratch_of(root: Path, **fingerprint: Any) -> Scratch:
    return Scratch("toy", fingerprint or {"params": 1}, root)


def step_of(scratch: Scratch) -> int | None:
    """The step of the newest whole state, after a look at what is in it."""
    state = scratch.newest()
    if state is None:
        return None
    tensors, note = state
    expected, said = toy_state(note["step"])
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())
    assert note == {"step": note["step"], **said}
    return int(note["step"])


def saved(root: Path, *steps: int) -> Scratch:
    scratch = scratch_of(root)
    with scratch.hold():
        for step in steps:
            scratch.save(step, *toy_state(step))
    return scratch


def fail_at(point: int, error: OSError) -> Callable[[], None]:
    """Raise at one of the points of writing; returns what undoes it."""
    count = 0

    def reached() -> None:
        nonlocal count
        count += 1
        if count == point:
            raise error

    return points_of_writing(reached)


def count_points(root: Path) -> int:
    """How many points the third save has (writing tensors and note, forgetting the first state)."""
    scratch, count = saved(root, 1, 2), 0

    def reached() -> None:
        nonlocal count
        count += 1

    undo = points_of_writing(reached)
    try:
        scratch.save(3, *toy_state(3))
    finally:
        undo()
    return count


def test_two_states_are_kept(tmp_path: Path) -> None:
    scratch = saved(tmp_path, 1, 2, 3, 4)
    assert sorted(path.name for path in scratch.folder.glob("state-*")) == [
        f"state-00000000{step}.{kind}" for step in (3, 4) for kind in ("json", "safetensors")
    ]
    assert step_of(scratch) == 4


def test_a_failure_at_any_point_of_writing_leaves_a_whole_state(tmp_path: Path) -> None:
    points = count_points(tmp_path / "count")
    assert points >= 20
    for point in range(1, points + 1):
        scratch = saved(tmp_path / str(point), 1, 2)
        undo = fail_at(point, OSError(errno.ENOSPC, "No space left on device"))
        try:
            with pytest.raises(CharregError, match=r"No space left on device; the training stops, its earlier state"):
                scratch.save(3, *toy_state(3))
        finally:
            undo()
        assert step_of(scratch) in (2, 3)
        assert not list(scratch.folder.glob(".*"))
        assert step_of(saved(tmp_path / str(point), 4)) == 4


def test_a_death_at_any_point_of_writing_leaves_a_whole_state(tmp_path: Path, server: ForkServer) -> None:
    points = count_points(tmp_path / "count")
    partial = 0
    before = 2 * points + 20  # at most: two saves and the fingerprint
    died = 0
    for point in range(1, before, 2):
        root = tmp_path / str(point)
        root.mkdir()
        call = ["training_fixtures", "save_toy_states", str(root), 1, 4]
        run = server.start(root, root / "log", ["crash", point], call=call).wait()
        scratch = scratch_of(root)
        assert run.code in (0, 77), run.text
        if run.code == 0:
            assert step_of(scratch) == 3
            break
        died += 1
        assert step_of(scratch) in (None, 1, 2, 3)
        first = scratch.folder / "state-000000001.json"
        assert step_of(scratch) is not None or not first.exists()
        partial += len(list(scratch.folder.glob(".*.partial-*")))
        assert step_of(saved(root, 4)) == 4  # the next holder sweeps and goes on
        assert not list(scratch.folder.glob(".*"))
    assert died >= 20
    assert partial >= 5  # deaths that left half-written files behind


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    scratch = saved(tmp_path, 1, 2)

    def refuse(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "w" in mode:
            raise OSError(number, os.strerror(number), str(path))
        return open(path, mode, *args, **options)

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(CharregError) as error:
        scratch.save(3, *toy_state(3))
    assert os.strerror(number) in str(error.value)
    assert "state-000000003.safetensors" in str(error.value)
    assert "\n" not in str(error.value)
    assert step_of(scratch) == 2
    with pytest.raises(CharregError, match=os.strerror(number)), scratch.hold():
        pytest.fail("a folder that cannot be written was held")


def test_a_scratch_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy").write_text("in the way")
    with pytest.raises(CharregError, match="wanted a folder for resume states"), scratch_of(tmp_path).hold():
        pytest.fail("held")


def damage_by_truncation(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_every_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_by_truncation, damage_by_emptying, damage_by_every_bit])
@pytest.mark.parametrize("kind", [".json", ".safetensors"])
def test_a_damaged_state_falls_back_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = saved(tmp_path, 1, 2)
    damage(scratch.folder / f"state-000000002{kind}")
    assert step_of(scratch) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "state-000000002.json: damaged (" in said
    assert "falling back to the state before" in said
    damage(scratch.folder / f"state-000000001{kind}")
    assert step_of(scratch) is None
    assert capsys.readouterr().err.splitlines()[-1] == "toy: no whole resume state left, starts from step 0"


def test_no_flipped_bit_of_a_note_goes_unnoticed(tmp_path: Path) -> None:
    """A curve is delivered as a result: a flipped digit in it must not pass as a whole state."""
    scratch = saved(tmp_path, 1)
    note = scratch.folder / "state-000000001.json"
    content = note.read_bytes()
    for position in range(len(content)):
        for bit in (1, 2, 4, 8):
            damaged = bytearray(content)
            damaged[position] ^= bit
            note.write_bytes(damaged)
            assert step_of(scratch) in (None, 1)  # 1: only white space changed; step_of compares the content


@pytest.mark.parametrize("step", [12, 15, 20])
def test_a_damaged_state_takes_no_place_of_a_whole_one(tmp_path: Path, step: int) -> None:
    scratch = saved(tmp_path, 10, 15)
    damage_by_emptying(scratch.folder / "state-000000015.safetensors")
    assert step_of(scratch) == 10
    scratch.save(step, *toy_state(step))
    assert [path.stem for path in scratch._notes()] == [f"state-{step:09d}", "state-000000010"]
    assert step_of(scratch) == step


def test_a_missing_partner_is_damage(tmp_path: Path) -> None:
    scratch = saved(tmp_path, 1, 2)
    (scratch.folder / "state-000000002.safetensors").unlink()
    assert step_of(scratch) == 1
    (scratch.folder / "state-000000001.json").unlink()
    assert step_of(scratch) is None
    scratch.save(3, *toy_state(3))
    assert {path.stem for path in scratch.folder.glob("state-*")} == {"state-000000003"}  # no orphan stays


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dump", [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save])
def test_a_pickle_as_resume_state_is_not_executed(
    tmp_path: Path, dump: Callable[[Any, Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    scratch, mark = saved(tmp_path, 1, 2), tmp_path / "executed"
    payload = scratch.folder / "state-000000002.safetensors"
    dump(Bomb(mark), payload)
    note = {"step": 2}
    state = {"sha256": _digest(payload.read_bytes(), note), "note": note}  # a forger knows how to hash
    payload.with_suffix(".json").write_text(json.dumps(state))
    assert step_of(scratch) == 1
    assert not mark.exists()
    assert "state-000000002.json: damaged (" in capsys.readouterr().err
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()  # the payload works where somebody unpickles it


def test_few_trainings_are_kept_but_never_a_running_one_dropped(tmp_path: Path) -> None:
    running = scratch_of(tmp_path, params=0)
    with running.hold():
        for number in range(1, KEPT_FOLDERS + 3):
            os.utime(running.folder / "fingerprint.json", (1, 1))
            with scratch_of(tmp_path, params=number).hold():
                pass
        assert (running.folder / "fingerprint.json").exists()
    assert len(list((tmp_path / "toy").iterdir())) <= KEPT_FOLDERS + 1


def test_the_fingerprint_names_the_folder(tmp_path: Path) -> None:
    names = {scratch_of(tmp_path, params=value).folder.name for value in (1, 1.5, "1", [1], (1,))}
    assert len(names) == 4  # a tuple is a list once it was JSON
    assert Scratch("finetune_joint@cr", {}, tmp_path).folder.parent.name == "finetune_joint-cr"


@pytest.mark.parametrize("kind", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)])
def test_an_optimiser_survives_as_tensors(kind: Callable[..., torch.optim.Optimizer]) -> None:
    def networks() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        linear = torch.nn.Linear(3, 2)
        return linear, kind(linear.parameters(), lr=0.1)

    def descend(linear: torch.nn.Linear, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        linear(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()

    linear, optimiser = networks()
    descend(linear, optimiser)
    kept = {name: value.clone() for name, value in optimiser_tensors("optimiser.a", optimiser).items()}
    weights = {name: value.clone() for name, value in linear.state_dict().items()}
    descend(linear, optimiser)

    again, other = networks()
    again.load_state_dict(weights)
    other.param_groups[0]["lr"] = 0.1
    restore_optimiser("optimiser.a", other, {**kept, "optimiser.ab/0/step": torch.tensor(99.0)})
    descend(again, other)
    assert torch.equal(again.weight, linear.weight)

    forgetful, _ = networks()
    forgetful.load_state_dict(weights)
    descend(forgetful, kind(forgetful.parameters(), lr=0.1))
    assert not torch.equal(forgetful.weight, linear.weight)  # the state matters


def test_a_digest_covers_tensors_and_note() -> None:
    assert _digest(b"tensors", {"a": 1, "b": 2}) == _digest(b"tensors", {"b": 2, "a": 1})
    assert len({_digest(b"tensors", {"a": 1}), _digest(b"tensors", {"a": 2}), _digest(b"Tensors", {"a": 1})}) == 3
    assert _digest(b"", {}) == hashlib.sha256(b"{}").hexdigest()
